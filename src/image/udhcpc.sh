#!/bin/busybox sh
# What udhcpc calls with a lease in its environment (the values are udhcpc's own rendering of addresses).
case $1 in
  bound | renew)
    ip addr replace "$ip/${mask:-24}" dev "$interface"
    for gateway in ${router:-}; do
      ip route replace default via "$gateway" dev "$interface" && break
    done
    ;;
esac
exit 0
