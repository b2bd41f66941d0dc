#!/bin/bash
# The demo's whole operating system: proves on the console what it runs from, then gives a shell.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux PS1='bootmesh-demo# '
# The initramfs hands /proc, /sys, /dev and /run over; mount them where somebody else started us.
mountpoint -q /proc || mount -t proc proc /proc
mountpoint -q /sys || mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mountpoint -q /run || mount -t tmpfs tmpfs /run
exec < /dev/console > /dev/console 2>&1
hostname bootmesh-demo
ip link set lo up

# The device that is mounted as the lower layer of our root, as the kernel tells it.
device=$(awk '$2 == "/run/bootmesh/lower" { print $1 }' /proc/mounts)
rootfs_sha256=$(sha256sum < "$device")
rootfs_sha256=${rootfs_sha256%% *}
echo "bootmesh-demo up rootfs_sha256=$rootfs_sha256 kernel=$(uname -r)"

cd /root
while :; do
  setsid --ctty --wait bash --noprofile --norc -i
done
