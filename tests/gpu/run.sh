#!/bin/sh
# tests/gpu/run.sh [test|bench|all] - on a machine with a GPU: checks and measures, and prints a short table last. Runs from a checkout (make test-gpu,
# make bench-gpu build first) or from an unpacked bundle (make gpu-bundle). Exit status 0 when nothing failed, 77 without a GPU.
what=${1:-all}
cd "$(dirname "$0")/../.." || exit 1
build=${QS_BUILD:-$(cat tests/gpu/build-folder 2>/dev/null || echo build/release)}
[ -d lib ] && export LD_LIBRARY_PATH="$PWD/lib:$LD_LIBRARY_PATH"
export LD_LIBRARY_PATH="$LD_LIBRARY_PATH:/usr/local/cuda/lib64"
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
table=$work/table; : >"$table"; failed=0

nvidia-smi -L >/dev/null 2>&1 || { echo "skip: no GPU on this machine"; exit 77; }

# check NAME COMMAND... : one line of the table, the log where it failed
check() {
    name=$1; shift
    if "$@" >"$work/log" 2>&1; then echo "ok    $name" >>"$table"
    elif [ $? -eq 77 ]; then echo "skip  $name" >>"$table"
    else echo "FAIL  $name" >>"$table"; failed=1; echo "== $name"; tail -n 30 "$work/log"; fi
}

# train NAME WORDS... : a run of the golden job with dropout and accumulation into $work/NAME
train() {
    out=$1; shift
    ./qlora-stream train --model tests/golden/llama/model --data tests/golden/llama/data.jsonl --device cuda --vram 2G --ram 256M --lora_r 4 \
        --lora_dropout 0.1 --per_device_train_batch_size 2 --gradient_accumulation_steps 3 --max_seq_length 64 --max_steps 8 --seed 7 \
        --mlp_tile_rows 48 --head_tile_rows 32 --report_to none --quiet --cache "$work/cache" --out "$work/$out" "$@"
}
same_bits() { # the streamed run leaves the resident run's adapter
    train "resident-$1" --optim "$1" && train "streamed-$1" --optim "$1" --resident_layers 0 --stream_slots 2 &&
        cmp "$work/resident-$1/adapter_model.safetensors" "$work/streamed-$1/adapter_model.safetensors"
}
budget() { # no step may hold more than the flag, as the driver counts it
    train budget --vram 1G || return 1
    awk -v limit=$((1 << 30)) '{ if (match($0, /"device_peak_bytes": *[0-9]+/)) { split(substr($0, RSTART, RLENGTH), p, ":"); seen = 1
        if (p[2] + 0 > limit) exit 1 } } END { if (!seen) exit 1 }' "$work/budget/metrics.jsonl"
}
sanitizer() {
    command -v compute-sanitizer >/dev/null || return 77
    compute-sanitizer --tool "$1" --error-exitcode 9 "$build/tests/gpu/test_gpu_ops"
}

if [ "$what" != bench ]; then
    check "operation cases against references and CPU" "$build/tests/gpu/test_gpu_ops"
    check "golden training" env QS_TEST_DEVICE=cuda CK_FORK=no "$build/tests/test_golden"
    check "streamed = resident, 32-bit states" same_bits adamw_torch
    check "streamed = resident, paged 8-bit states" same_bits paged_adamw_8bit
    check "peak within --vram by the driver's count" budget
    for tool in memcheck racecheck initcheck; do check "compute-sanitizer $tool" sanitizer $tool; done
fi
if [ "$what" != test ]; then
    "$build/bench/bench_gpu" >"$work/bench" && sed 's/^/      /' "$work/bench" >>"$table" || { failed=1; echo "FAIL  bench_gpu" >>"$table"; }
    python3 tests/gpu/sdpa.py 2>/dev/null | sed 's/^/      /' >>"$table" || true
fi
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
cat "$table"
exit $failed
