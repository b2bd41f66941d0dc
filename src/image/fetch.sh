# Part of init.sh: gets the signed ticket, the list of pieces and the rootfs from whichever neighbours answer, and
# believes none of them. Its input: $alive (base URLs, best first), $channel and $wanted_version.

PIECE=4194304        # bytes that one entry of the pieces list covers
PAD=65536            # bytes before a piece in its part file; see fetch_piece
STALL=5              # seconds without a byte after which a neighbour is left
SLOW_WINDOW=15       # seconds in which at least SLOW_BYTES must arrive
SLOW_BYTES=16384
PATIENCE=180         # seconds without a byte from anybody after which we give up

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
