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

PIECE=4194304        # bytes that one entry of the pieces list covers
PAD=65536            # bytes before a piece in its part file; see fetch_piece
STALL=5              # seconds without a byte after which a neighbour is left
SLOW_WINDOW=15       # seconds in which at least SLOW_BYTES must arrive
SLOW_BYTES=16384
PATIENCE=180         # seconds without a byte from anybody after which we give up
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

# ---- neighbours: alive ones are asked in turn, lost ones again when nobody else is left, blamed ones never ----

without() {
  rest=''
  for word in $1; do [ "$word" = "$2" ] || rest="$rest $word"; done
  printf '%s' "$rest"
}

# The next neighbour into $neighbour; waits a little when all are lost. Returns only with one, or refuses.
pick() {
  if [ -z "${alive# }" ]; then
    [ -z "${lost# }" ] && refuse "$last_blame"
    clock
    [ $((now - fed_at)) -gt $((PATIENCE * 100)) ] && refuse no-neighbour-answers
    alive=$lost lost=''
    sleep "$pause"
    [ $pause -lt 5 ] && pause=$((pause + 1))
  fi
  neighbour=${alive# }
  neighbour=${neighbour%% *}
}

# The next piece goes to the next neighbour: load is spread, and each learns about a dead one only once.
rotate() { alive="$(without "$alive" "$neighbour") $neighbour"; }

lose() {
  alive=$(without "$alive" "$neighbour")
  lost="$lost $neighbour"
  say "neighbour lost url=$neighbour reason=$1"
}

blame() {
  alive=$(without "$alive" "$neighbour")
  last_blame=$1
  say "neighbour blamed url=$neighbour reason=$1"
}

fed() { clock && fed_at=$now && pause=1; }

# ---- transfers ----

file_size() { stat -c %s "$1" 2> /dev/null || echo 0; }

# Debian's "wget -T" crashes and without it there is no timeout at all, so this watches over a transfer: process $1
# is killed once file $2 has not grown for STALL seconds, or grows too slowly to ever end.
guard() {
  seen=$(file_size "$2") window=$seen still=0 ticks=0 shown=$seen
  while sleep 1; do
    ticks=$((ticks + 1))
    size=$(file_size "$2")
    still=$((still + 1))
    [ "$size" -ne "$seen" ] && still=0
    seen=$size
    [ $still -ge $STALL ] && break
    if [ $((ticks % SLOW_WINDOW)) -eq 0 ]; then
      [ $((size - window)) -lt $SLOW_BYTES ] && break
      window=$size
    fi
    if [ -n "$piece_start" ] && [ $((ticks % 2)) -eq 0 ]; then
      progress $((piece_start + size - PAD)) $(((size - shown) / 2))
      shown=$size
    fi
  done
  kill -9 "$1"
}

progress() { say "rootfs progress bytes=$1 of=$rootfs_size from=$neighbour rate=$2"; }

# download URL FILE MAXBYTES [wget option …]: the size limit is the kernel's, so that nobody can fill our memory.
download() {
  url=$1 file=$2 limit=$3
  shift 3
  (
    ulimit -f $(((limit + 511) / 512))
    exec wget -q -O "$file" "$@" "$url"
  ) > /dev/null 2>&1 &
  job=$!
  guard $job "$file" > /dev/console 2> /dev/null &
  watch=$!
  wait $job 2> /dev/null
  status=$?
  kill $watch 2> /dev/null
  wait $watch 2> /dev/null
  return $status
}

# ---- the ticket: what the fleet's key says this machine may run ----

signed() {
  for key in $(ls /etc/bootmesh/keys); do
    signify-openbsd -V -q -p "/etc/bootmesh/keys/$key" -x "$WORK/ticket.sig" -m "$WORK/ticket" > /dev/null 2>&1 && return
  done
  return 1
}

# A ticket of another channel or version is genuine, and still not what was asked for.
read_ticket() {
  ticket_channel='' version='' rootfs_cid='' rootfs_size='' rootfs_sha256='' pieces_sha256=''
  read -r title format rest < "$WORK/ticket"
  [ "$title $format" = 'bootmesh-ticket 1' ] || return 1
  while read -r key a b c d e rest; do
    case $key in
      channel) ticket_channel=$a ;;
      version) version=$a ;;
      rootfs)
        rootfs_cid=$a rootfs_size=$b rootfs_sha256=$c pieces_sha256=$d
        [ "$e" = "$PIECE" ] || return 1
        ;;
    esac
  done < "$WORK/ticket"
  is_cid "$rootfs_cid" && is_number "$rootfs_size" && [ "$rootfs_size" -gt 0 ] && is_hash "$rootfs_sha256" &&
    is_hash "$pieces_sha256" && is_number "$version" && [ "$ticket_channel" = "$channel" ]
}

get_ticket() {
  while pick; do
    rm -f "$WORK/ticket" "$WORK/ticket.sig"
    if ! download "$neighbour/release/$channel/ticket" "$WORK/ticket" 8192 ||
      ! download "$neighbour/release/$channel/ticket.sig" "$WORK/ticket.sig" 1024; then
      lose no-ticket
    elif ! signed; then
      blame ticket-signature
    elif ! read_ticket; then
      blame ticket-content
    elif [ -n "$wanted_version" ] && [ "$version" != "$wanted_version" ]; then
      blame "ticket-version-$version"
    else
      fed
      say "ticket ok channel=$channel version=$version rootfs=$rootfs_cid size=$rootfs_size from=$neighbour"
      return
    fi
  done
}

get_pieces() {
  count=$(((rootfs_size + PIECE - 1) / PIECE))
  while pick; do
    rm -f "$WORK/pieces"
    if ! download "$neighbour/artifact/$rootfs_cid/pieces" "$WORK/pieces" $((count * 65)); then
      lose no-pieces
    elif [ "$(sha256sum < "$WORK/pieces")" != "$pieces_sha256  -" ]; then
      blame pieces-sha256
    elif [ "$(file_size "$WORK/pieces")" -ne $((count * 65)) ]; then
      refuse pieces-count
    else
      return
    fi
  done
}

# ---- the rootfs ----

# busybox wget takes a 206 answer only when it continues a file that is not empty (-c), and then lets a Range header
# of ours stand. So each piece is collected behind PAD bytes of nothing, which also are dd's block size.
empty_part() {
  rm -f "$WORK/image/part"
  truncate -s $PAD "$WORK/image/part"
  sources=''
}

part_hash() { dd if="$WORK/image/part" bs=$PAD skip=1 2> /dev/null | sha256sum; }

# fetch_piece INDEX LENGTH SHA256: leaves the right bytes in the part file. What a lost neighbour has sent is kept and
# continued by the next, unless such a mixture has been wrong before: then each must send a whole piece, and is judged.
fetch_piece() {
  mixing=yes
  empty_part
  while pick; do
    [ $mixing = no ] && [ "${sources# }" != "$neighbour" ] && empty_part
    have=$(($(file_size "$WORK/image/part") - PAD))
    piece_start=$(($1 * PIECE))
    if [ "$have" -lt "$2" ]; then
      download "$neighbour/artifact/$rootfs_cid" "$WORK/image/part" $((PAD + $2)) \
        -c --header "Range: bytes=$((piece_start + have))-$((piece_start + $2 - 1))"
      got=$(($(file_size "$WORK/image/part") - PAD))
      [ "$got" -gt "$have" ] && fed && sources="$(without "$sources" "$neighbour") $neighbour"
      if [ "$got" -lt "$2" ]; then
        lose "$([ "$status" -ge 128 ] && echo silent || echo closed)"
        continue
      fi
    fi
    [ "$(part_hash)" = "$3  -" ] && return
    if [ "${sources# }" = "$neighbour" ]; then
      blame "piece-$1-sha256"
    else
      mixing=no
    fi
    empty_part
  done
}

get_rootfs() {
  clock
  started=$now shown_at=$now shown_bytes=0 index=0 served_by=''
  say "rootfs start cid=$rootfs_cid bytes=$rootfs_size pieces=$count"
  while read -r hash <&3; do
    is_hash "$hash" || refuse pieces-content
    length=$((rootfs_size - index * PIECE))
    [ $length -gt $PIECE ] && length=$PIECE
    fetch_piece $index $length "$hash"
    dd if="$WORK/image/part" of="$WORK/image/rootfs" bs=$PAD skip=1 seek=$((index * PIECE / PAD)) conv=notrunc 2> /dev/null
    index=$((index + 1))
    for url in $sources; do
      case "$served_by " in *" $url "*) ;; *) served_by="$served_by $url" && say "rootfs from=$url" ;; esac
    done
    clock
    if [ $((now - shown_at)) -ge 200 ]; then
      bytes=$((index * PIECE))
      [ $bytes -gt "$rootfs_size" ] && bytes=$rootfs_size
      progress $bytes $(((bytes - shown_bytes) * 100 / (now - shown_at)))
      shown_at=$now shown_bytes=$bytes
    fi
    rotate
  done 3< "$WORK/pieces"
  rm -f "$WORK/image/part"
  [ "$(sha256sum < "$WORK/image/rootfs")" = "$rootfs_sha256  -" ] || refuse rootfs-sha256
  clock
  say "rootfs ok sha256=$rootfs_sha256 bytes=$rootfs_size from=$(printf '%s' "${served_by# }" | tr ' ' ',') seconds=$(((now - started) / 100))"
}

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
mount -t tmpfs -o "size=$((rootfs_size + PIECE + 1048576)),mode=0700" bootmesh-image "$WORK/image"
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
