#!/bin/busybox sh
# The first program of a machine without a disk: it fetches the fleet's root filesystem from the neighbours that the
# kernel command line names, believes only what the fleet's key has signed, mounts it, and hands over to its /sbin/init.
#
# Kernel command line:
#   bootmesh.neighbours=http://10.0.0.2:8080,http://[fd00::2]:8080   whom to ask, best first (address literals only)
#   bootmesh.channel=production      the channel whose ticket is wanted
#   bootmesh.version=3               optional: refuse any other version, so that kernel and rootfs belong together
#   BOOTIF=01-52-54-00-12-34-56      optional: use this card only, as pxelinux and iPXE name it
#   bootmesh.address=10.0.0.9/24     optional: a fixed address instead of DHCP (an IPv6 one works too)
#   bootmesh.gateway=10.0.0.1        optional: the default route that goes with it
#   bootmesh.shell=1                 optional: a shell on the console instead of a reboot, for trouble
#
# Every step prints one line "bootmesh: <event> key=value … t=<seconds since the kernel started>".
# Exit is not an option here: whatever fails ends in refuse(), which reboots.
set -uf
export PATH=/bin:/sbin:/usr/bin

NET_PATIENCE=90      # seconds to wait for an address
PAUSE=10             # seconds between a refusal and the reboot
MAX_NEIGHBOURS=32
WORK=/run/bootmesh

say() {
  read -r uptime rest < /proc/uptime
  echo "bootmesh: $* t=$uptime"
}

# Hundredths of a second since the kernel started, into $now. (The 1 keeps "08" from being an octal number.)
clock() {
  read -r uptime rest < /proc/uptime
  now=$((${uptime%.*} * 100 + 1${uptime#*.} - 100))
}

refuse() {
  trap - EXIT
  say "refused reason=$1"
  if [ "$(argument bootmesh.shell)" = 1 ]; then
    setsid cttyhack sh
  fi
  sleep "$PAUSE"
  reboot -f
  sleep 60
}

# ---- values from outside: nothing goes further that is not of the expected shape ----

# The value of a word NAME=VALUE of the kernel command line; of several, the last one counts.
argument() {
  found=''
  for word in $cmdline; do
    case $word in "$1="*) found=${word#*=} ;; esac
  done
  printf '%s' "$found"
}
is_number() { case $1 in '' | *[!0-9]* | ????????????????*) return 1 ;; 0) return 0 ;; 0*) return 1 ;; esac; }
is_hash() { [ ${#1} -eq 64 ] && case $1 in *[!0-9a-f]*) return 1 ;; esac; }
is_cid() { [ ${#1} -ge 8 ] && [ ${#1} -le 128 ] && case $1 in *[!0-9a-z]*) return 1 ;; esac; }
is_name() { [ ${#1} -ge 1 ] && [ ${#1} -le 64 ] && case $1 in *[!0-9a-zA-Z._-]* | .*) return 1 ;; esac; }
is_address() { case $1 in '' | *[!0-9a-fA-F.:/]*) return 1 ;; esac; }
is_neighbour() {
  case $1 in
    *[!0-9a-zA-Z.:/\[\]]*) return 1 ;;
    "http://["*"]:"*) address=${1#http://\[} && address=${address%\]:*} && port=${1##*\]:} ;;
    "http://"*":"*) address=${1#http://} && port=${address##*:} && address=${address%:*} ;;
    *) return 1 ;;
  esac
  is_address "$address" && is_number "$port" && case $address$port in *[/]*) return 1 ;; esac
}

# ---- network ----

cards() {
  for card in $(ls /sys/class/net); do
    [ -e "/sys/class/net/$card/device" ] || continue
    is_name "$card" && echo "$card"
  done
}

# The card that BOOTIF names, else all of them.
chosen_cards() {
  wanted=$(argument BOOTIF | tr 'A-F' 'a-f' | tr '-' ':')
  wanted=${wanted#01:}
  for card in $(cards); do
    [ "$(cat "/sys/class/net/$card/address")" = "$wanted" ] && echo "$card" && return
  done
  cards
}

# Addresses that are ready for use; a tentative IPv6 one is not.
addresses() {
  [ -n "$want_four" ] && ip -4 -o addr show scope global | awk '{ print $2 "/" $4 }'
  [ -n "$want_six" ] && ip -6 -o addr show scope global | grep -v tentative | awk '{ print $2 "/" $4 }'
  return 0
}

lease() {
  until udhcpc -i "$1" -f -q -n -t 8 -T 2 -A 2 -s /etc/bootmesh/udhcpc.sh > /dev/null 2>&1; do sleep 1; done
}

network_up() {
  want_four='' want_six='' helpers=''
  for url in $alive; do
    case $url in *"["*) want_six=1 ;; *) want_four=1 ;; esac
  done
  tries=0
  while [ -z "$(cards)" ]; do
    tries=$((tries + 1))
    [ $tries -gt 100 ] && refuse no-network-card
    sleep 0.2
  done
  ip link set lo up
  fixed=$(argument bootmesh.address)
  gateway=$(argument bootmesh.gateway)
  for card in $(chosen_cards); do
    # Duplicate address detection only costs time here: the address came from DHCP, a router, or the operator.
    echo 0 > "/proc/sys/net/ipv6/conf/$card/accept_dad"
    ip link set "$card" up
    if [ -n "$fixed" ]; then
      is_address "$fixed" && ip addr add "$fixed" dev "$card"
      [ -n "$gateway" ] && is_address "$gateway" && ip route add default via "$gateway" dev "$card"
      break
    fi
    # IPv6 addresses come from router advertisements without our doing.
    if [ -n "$want_four" ]; then
      lease "$card" &
      helpers="$helpers $!"
    fi
  done
  clock
  deadline=$((now + NET_PATIENCE * 100))
  while [ -z "$(addresses)" ]; do
    clock
    [ $now -gt $deadline ] && refuse no-address
    sleep 0.1
  done
  say "net up address=$(addresses | tr '\n' ',' | sed 's/,$//')"
}

. /etc/bootmesh/fetch.sh

# ---- the rootfs as the system's root ----

mount_rootfs() {
  device=$(losetup -f) && losetup -r "$device" "$WORK/image/rootfs" || refuse no-loop-device
  mkdir -p "$WORK/lower" "$WORK/upper"
  mount -t squashfs -o ro "$device" "$WORK/lower" 2> /dev/null ||
    mount -t erofs -o ro "$device" "$WORK/lower" || refuse rootfs-not-mountable
  mount -t tmpfs -o mode=0755 bootmesh-upper "$WORK/upper"
  mkdir "$WORK/upper/data" "$WORK/upper/work"
  mount -t overlay -o "lowerdir=$WORK/lower,upperdir=$WORK/upper/data,workdir=$WORK/upper/work" bootmesh-root /newroot ||
    refuse no-overlay
  [ -e /newroot/sbin/init ] || [ -L /newroot/sbin/init ] || refuse rootfs-without-init
  # For the system that follows: what it runs from, and who said so.
  printf 'device %s\nsize %s\nsha256 %s\nchannel %s\nversion %s\n' \
    "$device" "$rootfs_size" "$rootfs_sha256" "$channel" "$version" > "$WORK/booted"
  mkdir -p /newroot/dev /newroot/proc /newroot/sys /newroot/run
}

# ---- the way up ----

/bin/busybox mkdir -p /proc /sys /dev /run /newroot /sbin /usr/bin /usr/sbin
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t tmpfs -o mode=0755 tmpfs /run
/bin/busybox --install -s /bin
exec < /dev/console > /dev/console 2>&1
echo # The firmware may have left the console in the middle of a line.
echo 10 > /proc/sys/kernel/panic
cmdline=$(cat /proc/cmdline)
trap 'refuse init-failed' EXIT
mkdir -p "$WORK/image"
say "init kernel=$(uname -r)"

while read -r module; do insmod "$module" 2> /dev/null; done < /etc/bootmesh/modules

channel=$(argument bootmesh.channel)
is_name "$channel" || refuse no-channel-on-command-line
wanted_version=$(argument bootmesh.version)
[ -z "$wanted_version" ] || is_number "$wanted_version" || refuse bad-version-on-command-line
alive='' lost='' pause=1 last_blame=no-neighbour neighbours=0 piece_start='' rootfs_size=0
for url in $(argument bootmesh.neighbours | tr ',' ' '); do
  url=${url%/}
  if is_neighbour "$url" && [ $neighbours -lt $MAX_NEIGHBOURS ]; then
    alive="$alive $url"
    neighbours=$((neighbours + 1))
  fi
done
[ -n "$alive" ] || refuse no-neighbours-on-command-line

network_up
fed
get_ticket
get_pieces
mount -t tmpfs -o "size=$((rootfs_size + PIECE + 16 * PAD)),mode=0700" bootmesh-image "$WORK/image"
get_rootfs
mount_rootfs
for helper in $helpers; do kill "$helper" 2> /dev/null; done
killall udhcpc 2> /dev/null
for place in dev proc sys run; do mount -o move "/$place" "/newroot/$place"; done
trap - EXIT
# say() needs the moved /proc.
read -r uptime rest < /newroot/proc/uptime
echo "bootmesh: switch root t=$uptime"
exec switch_root -c /dev/console /newroot /sbin/init
