#!/bin/sh
# tests/gpu/run.sh [PART...] - on a machine with a GPU: checks and measures, and prints a short table last. Runs from a checkout (make test-gpu, make bench-gpu
# build first) or from an unpacked bundle (make gpu-bundle). Exit status 0 when nothing failed, 77 without a GPU.
#   test        operations against references, golden training, streamed = resident, memory within --vram
#   bench       the speed figures
#   sanitize    the operations under compute-sanitizer's tools
# All three when none is named. A part takes QS_PART_SECONDS at most (default 570), all of them QS_SECONDS (1740); what fails or has no time left
# does not keep the rest from running. Logs stay in build/gpu-logs.
[ $# -gt 0 ] || set -- test bench sanitize
cd "$(dirname "$0")/../.." || exit 1
build=${QS_BUILD:-$(cat tests/gpu/build-folder 2>/dev/null || echo build/release)}
logs=build/gpu-logs; mkdir -p "$logs" || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
table=$work/table; : >"$table"; failed=0
end=$(($(date +%s) + ${QS_SECONDS:-1740}))

# ---- what must be there ----------------------------------------------------------------------------------------------------------

# Python and the driver's tools have libraries of their own: only our programs see the bundle's.
libraries=$LD_LIBRARY_PATH
[ -d lib ] && libraries=$PWD/lib${libraries:+:$libraries}
if ! ldconfig -p 2>/dev/null | grep -q 'libcublas\.so\.1[23]'; then
    blas=$(ls -d /usr/local/cuda*/lib64/libcublas.so.1[23] 2>/dev/null | tail -n 1)
    [ -n "$blas" ] || blas=$(find /usr /opt -name 'libcublas.so.1[23]' 2>/dev/null | sort | tail -n 1)
    [ -z "$blas" ] || libraries=${libraries:+$libraries:}$(dirname "$blas")
fi
PATH=$PATH:/usr/local/cuda/bin

if ! LD_LIBRARY_PATH=$libraries ./qlora-stream options >"$logs/start" 2>&1; then
    echo "the programs do not start on this machine:"; cat "$logs/start"
    exit 1
fi
if ! nvidia-smi -L 2>/dev/null && ! ls /dev/nvidia[0-9]* 2>/dev/null; then
    echo "skip: no GPU on this machine (neither nvidia-smi nor /dev/nvidia0)"
    exit 77
fi
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null

# ---- running ----------------------------------------------------------------------------------------------------------------------

begin_part() { # the time that this part may end
    part_end=$(($(date +%s) + ${QS_PART_SECONDS:-570}))
    [ "$part_end" -lt "$end" ] || part_end=$end
}

# limited COMMAND...: within the part's time, or a share of it: `shares` more commands want as much
shares=1
limited() {
    left=$(((part_end - $(date +%s)) / shares))
    [ "$left" -gt 0 ] || { echo "no time was left"; return 124; }
    LD_LIBRARY_PATH=$libraries timeout -k 10 "$left" "$@"
}

# check NAME COMMAND...: one line of the table, the end of the log where it failed
checks=0
check() {
    checks=$((checks + 1)); name=$1; log=$logs/$checks; start=$(date +%s); shift
    "$@" >"$log" 2>&1
    status=$?
    case $status in
    0) line="ok    $name" ;;
    124 | 137) line="FAIL  $name: out of time" ;;
    *) line="FAIL  $name: exit status $status" ;;
    esac
    line="$line ($(($(date +%s) - start)) s)"
    echo "$line" | tee -a "$table"
    [ $status -eq 0 ] || { failed=1; echo "---- the end of $log"; tail -n 30 "$log"; echo "----"; }
    return $status
}

# ---- what is checked ----------------------------------------------------------------------------------------------------------------

# train NAME WORDS...: a run of the golden job with dropout and accumulation into $work/NAME
train() {
    out=$1; shift
    limited ./qlora-stream train --model tests/golden/llama/model --data tests/golden/llama/data.jsonl --device cuda --vram 2G --ram 256M --lora_r 4 \
        --lora_dropout 0.1 --per_device_train_batch_size 2 --gradient_accumulation_steps 3 --max_seq_length 64 --max_steps 8 --seed 7 \
        --mlp_tile_rows 48 --head_tile_rows 32 --report_to none --quiet --cache "$work/cache" --out "$work/$out" "$@"
}
same_bits() { # the streamed run leaves the resident run's adapter
    train "resident-$1" --optim "$1" && train "streamed-$1" --optim "$1" --resident_layers 0 --stream_slots 2 &&
        cmp "$work/resident-$1/adapter_model.safetensors" "$work/streamed-$1/adapter_model.safetensors"
}
budget() { # no step may hold more than the flag, as the driver counts it
    train budget --vram 1G || return
    awk -v limit=$((1 << 30)) '{ if (match($0, /"device_peak_bytes": *[0-9]+/)) { split(substr($0, RSTART, RLENGTH), p, ":"); seen = 1
        if (p[2] + 0 > limit) { print p[2] " bytes are more than " limit; exit 1 } } } END { if (!seen) { print "no device_peak_bytes was reported"; exit 1 } }' \
        "$work/budget/metrics.jsonl"
}

speed() {
    limited "$build/bench/bench_gpu" >"$work/bench"
    status=$?
    cat "$work/bench"
    [ $status -eq 0 ] || return $status
    ! grep '^skip:' "$work/bench" >/dev/null
}

test_part() {
    shares=2 # what hangs leaves half of the time to the rest
    check "operation cases against references and CPU" limited "$build/tests/gpu/test_gpu_ops"
    check "streamed = resident, 32-bit states" same_bits adamw_torch
    check "streamed = resident, paged 8-bit states" same_bits paged_adamw_8bit
    check "peak within --vram by the driver's count" budget
    shares=1
    check "golden training" limited env QS_TEST_DEVICE=cuda CK_FORK=no "$build/tests/test_golden"
}

bench_part() {
    check "speed" speed
    sed 's/^/      /' "$work/bench" >>"$table"
    timeout 120 python3 tests/gpu/sdpa.py 2>/dev/null | sed 's/^/      /' >>"$table"
}

sanitize_part() {
    if ! command -v compute-sanitizer >/dev/null; then
        echo "skip  compute-sanitizer: it is not installed" | tee -a "$table"
        return
    fi
    for tool in memcheck racecheck initcheck; do
        case $tool in memcheck) shares=3 ;; racecheck) shares=2 ;; initcheck) shares=1 ;; esac
        check "compute-sanitizer $tool" limited compute-sanitizer --tool $tool --error-exitcode 9 "$build/tests/gpu/test_gpu_ops"
    done
    shares=1
}

for part in "$@"; do
    case $part in
    test | bench | sanitize) begin_part; "${part}_part" ;;
    *) echo "usage: tests/gpu/run.sh [test] [bench] [sanitize]"; exit 2 ;;
    esac
done
echo
cat "$table"
exit $failed
