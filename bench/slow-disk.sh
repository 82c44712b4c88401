#!/bin/sh
# Runs a command with the disk slowed down by the kernel, so that a disk-bound machine can be measured on one that is not. Needs root and the blkio (cgroup 1) or io (cgroup 2)
# controller.
#     bench/slow-disk.sh BYTES_PER_SECOND DIR COMMAND...        of the disk that DIR is on, reading and writing alike
set -eu
[ $# -ge 3 ] || { echo "usage: bench/slow-disk.sh BYTES_PER_SECOND DIR COMMAND..."; exit 2; }
rate=$1 dir=$2
shift 2
name=$(basename "$(df --output=source "$dir" | tail -n 1)")
[ -e "/sys/class/block/$name" ] || { echo "slow-disk: $dir is not on a disk of this machine"; exit 1; }
whole=$(cd "/sys/class/block/$name" && [ -e partition ] && basename "$(dirname "$(pwd -P)")" || echo "$name")
disk=$(cat "/sys/class/block/$whole/dev")

if [ -d /sys/fs/cgroup/blkio ]; then
    group=/sys/fs/cgroup/blkio/qlora-stream-$$
    mkdir "$group"
    echo "$disk $rate" >"$group/blkio.throttle.read_bps_device"
    echo "$disk $rate" >"$group/blkio.throttle.write_bps_device"
elif grep -qw io /sys/fs/cgroup/cgroup.controllers 2>/dev/null; then
    group=/sys/fs/cgroup/qlora-stream-$$
    echo +io >/sys/fs/cgroup/cgroup.subtree_control
    mkdir "$group"
    echo "$disk rbps=$rate wbps=$rate" >"$group/io.max"
else
    echo "slow-disk: the kernel offers no controller for disks; mount cgroup 1's blkio or cgroup 2"
    exit 1
fi
trap 'rmdir "$group"' EXIT
status=0
sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$group" "$@" || status=$?
exit $status
