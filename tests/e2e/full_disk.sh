#!/bin/sh
# A disk that fills under a run: what is not written is said, the last whole checkpoint is named, and with room again the run goes on to the same bits.
#     tests/e2e/full_disk.sh       QS_PROGRAM: the program. Run from the root of the project; wants mount namespaces.
program=${QS_PROGRAM:-./qlora-stream}
if [ -z "$QS_OWN_MOUNTS" ]; then
    unshare -rm mount -t tmpfs tmpfs /mnt 2>/dev/null || { echo "skip: no file system can be mounted here"; exit 77; }
    QS_OWN_MOUNTS=1 exec unshare -rm "$0"
fi
dir=$(mktemp -d) || exit 2
trap 'umount "$dir/disk"; rm -rf "$dir"' EXIT
checks=0 failed=0
mkdir "$dir/disk" && mount -t tmpfs -o size=4m tmpfs "$dir/disk" || exit 2

check() {
    name=$1
    shift
    checks=$((checks + 1))
    "$@" >/dev/null && return
    failed=$((failed + 1))
    echo "FAILED: $name"
    tail -n 20 "$dir/log" | sed 's/^/    /'
}
train() { # STATUS OUT [option...]
    wanted=$1 out=$2
    shift 2
    "$program" train --model tests/golden/llama/model --data tests/golden/llama/data.jsonl --max_seq_length 64 --gradient_accumulation_steps 1 \
        --threads 1 --lora_r 4 --vram 64M --ram 64M --max_steps 8 --save_steps 2 --report_to none --cache "$dir/cache" --out "$out" "$@" >"$dir/log" 2>&1
    status=$?
    check "training $out $* ends with $status instead of $wanted" [ $status = "$wanted" ]
}

train 0 "$dir/straight"
train 130 "$dir/disk/o" --stop_at_step 2
dd if=/dev/zero of="$dir/disk/other" bs=4k 2>/dev/null # until there is no room
train 1 "$dir/disk/o" --resume
check 'a start without room says so' grep -q 'No space left on device' "$dir/log"
truncate -s -24K "$dir/disk/other" # room to start and for rows, none for a checkpoint
train 1 "$dir/disk/o" --resume
check 'the full disk is named' grep -q 'No space left on device' "$dir/log"
check 'a save in passing without room is said' grep -q 'step 4 is not saved.*checkpoint-2 is whole' "$dir/log"
check 'the error at the end has the way on' grep -q '^qlora-stream train.*No space left.*checkpoint-2 is whole: go on from it with: .*--resume' "$dir/log"
check 'training went on after a save without room' grep -q 'step  *8/8' "$dir/log"
check 'checkpoint-2 is there' [ -f "$dir/disk/o/checkpoint-2/trainer_state.json" ]
rm "$dir/disk/other"
train 0 "$dir/disk/o" --resume
check 'the adapter is that of a run in one go' cmp "$dir/straight/adapter_model.safetensors" "$dir/disk/o/adapter_model.safetensors"
check 'no row of the metrics is lost' [ "$(grep -c '"loss"' "$dir/disk/o/metrics.jsonl")" = 8 ]

echo "$(((checks - failed) * 100 / checks))%: Checks: $checks, Failures: $failed"
[ $failed = 0 ]
