#!/bin/sh
# tests/gpu/run.sh [PART...] - on a machine with a GPU: checks and measures, and prints a short table last. Runs from a checkout (make test-gpu, make bench-gpu
# build first) or from an unpacked bundle (make gpu-bundle). Exit status 0 when nothing failed, 77 without a GPU.
#   test        operations against references, golden training, streamed = resident, memory within --vram
#   bench       the speed of operations
#   steps       whole steps: an 8B shape on the card, a 70B shape with --vram 10G and 60G (40 GB of disk; QS_WORK: where, default TMPDIR)
#   peers       the 8B shape beside transformers + peft + bitsandbytes, where Python has them (25 GB of disk)
#   sanitize    the operations under compute-sanitizer's tools
# test, bench, steps and sanitize when none is named. A part takes QS_PART_SECONDS at most (default 570), all of them QS_SECONDS (1740); what fails or has no time left
# does not keep the rest from running. Logs stay in build/gpu-logs.
[ $# -gt 0 ] || set -- test bench steps sanitize
cd "$(dirname "$0")/../.." || exit 1
build=${QS_BUILD:-$(cat tests/gpu/build-folder 2>/dev/null || echo build/release)}
logs=build/gpu-logs; mkdir -p "$logs" || exit 1
work=$(mktemp -d "${QS_WORK:-${TMPDIR:-/tmp}}/qs-gpu-XXXXXX") || exit 1
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
        --mlp_chunk_tokens 48 --head_chunk_tokens 32 --report_to none --quiet --cache "$work/cache" --out "$work/$out" "$@"
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

# ---- whole steps --------------------------------------------------------------------------------------------------------------------

last() { grep -o "\"$2\": *[^,}]*" "$1" | tail -n 1 | cut -d: -f2; } # the last number of that name
first() { grep -o "\"$2\": *[^,}]*" "$1" | head -n 1 | cut -d: -f2; }
say() { echo "      $*" >>"$table"; }
ram() { awk '/^MemAvailable/ { printf "%dM", $2 / 1024 * 0.8 }' /proc/meminfo; }

# shape NAME SHAPE WORDS...: a profile of four steps of 8,192 tokens in $work/NAME
shape() {
    out=$1; shape=$2; shift 2
    limited ./qlora-stream bench --quiet --shape "$shape" --device cuda --ram "$(ram)" --max_seq_length 2048 --lora_r 16 --steps 4 --cache "$work/cache-$shape" \
        --out "$work/$out" "$@"
}
step_line() { # step_line NAME PROFILE: seconds, tokens/s, share of the best product on 6 FLOP per parameter and token, peak
    say "$1: $(awk -v s="$(last "$2" step_seconds)" -v t="$(last "$2" tokens)" -v f="$(last "$2" gflops_6n)" -v best="$(first "$2" product_gflops)" \
        -v peak="$(first "$2" device_peak_bytes)" 'BEGIN { printf "%.3f s, %.0f tokens/s, %.0f of %.0f TFLOP/s (%.0f %%), peak %.2f GiB", s, t / s, f / 1e3, best / 1e3,
        100 * f / best, peak / 2 ^ 30 }')"
}
within() { # within PROFILE BYTES
    awk -v peak="$(first "$1" device_peak_bytes)" -v most="$2" 'BEGIN { exit !(peak + 0 > 0 && peak + 0 <= most) }'
}
resident_8b() { shape 8b llama-3-8b --vram auto --per_device_train_batch_size 2 --gradient_accumulation_steps 2; }
# pair NAME WORDS...: the 70B shape with a tight and with a wide budget; what the step computes must be the same bits, each peak within its budget
tight=10; wide=60
pair() {
    kind=$1; shift
    shape "$kind-tight" llama-3-70b --vram ${tight}G --per_device_train_batch_size 1 --gradient_accumulation_steps 4 "$@" &&
        shape "$kind-wide" llama-3-70b --vram ${wide}G --per_device_train_batch_size 1 --gradient_accumulation_steps 4 "$@" &&
        within "$work/$kind-tight/profile.json" $((tight << 30)) && within "$work/$kind-wide/profile.json" $((wide << 30)) &&
        [ "$(first "$work/$kind-tight/profile.json" loss)" = "$(first "$work/$kind-wide/profile.json" loss)" ]
}
pair_lines() { # pair_lines NAME
    [ -f "$work/$1-wide/profile.json" ] || return
    for budget in tight wide; do step_line "70B, $budget" "$work/$1-$budget/profile.json"; done
    say "70B, ${tight}G at $(awk -v a="$(last "$work/$1-tight/profile.json" step_seconds)" -v b="$(last "$work/$1-wide/profile.json" step_seconds)" \
        'BEGIN { printf "%.2f", b / a }') of the speed of ${wide}G"
}
steps_part() {
    check "8B shape, everything on the card" resident_8b && step_line "8B" "$work/8b/profile.json"
    check "70B shape, ${tight}G and ${wide}G, the same arithmetic: same loss, peaks within" pair same --keep_layers 0 --checkpoints_on ram
    pair_lines same
    check "70B shape, ${tight}G and ${wide}G, what is left keeps activations" pair kept
    pair_lines kept
    rm -rf "$work"/cache-*
}

peers_ours() {
    limited ./qlora-stream train --quiet --model "$work/model-8b" --data "$work/random.jsonl" --device cuda --vram auto --ram "$(ram)" --max_seq_length 2048 --no-packing \
        --per_device_train_batch_size 4 --gradient_accumulation_steps 1 --lora_r 16 --max_steps 4 --save_steps 0 --val_set_size 0 --cache "$work/cache" --out "$work/ours"
}
peers_part() {
    if ! python3 -c 'import torch, transformers, peft, bitsandbytes' 2>/dev/null; then
        echo "skip  peers: Python lacks one of torch, transformers, peft, bitsandbytes" | tee -a "$table"
        return
    fi
    shares=3
    check "weights of the 8B shape" limited ./qlora-stream synth --shape llama-3-8b --out "$work/model-8b" --weights || return
    python3 bench/compare_transformers.py data "$work/random.jsonl" 2048 16
    shares=2
    check "qlora-stream, 8B, 8,192 tokens per step" peers_ours &&
        say "qlora-stream: $(last "$work/ours/metrics.jsonl" step_seconds) s, peak $(last "$work/ours/metrics.jsonl" device_peak_bytes) bytes, first loss $(first "$work/ours/metrics.jsonl" loss)"
    rm -rf "$work/cache"
    shares=1
    left=$((part_end - $(date +%s)))
    check "transformers + peft + bitsandbytes, the same" timeout -k 10 "$left" python3 bench/compare_transformers.py train "$work/model-8b" "$work/random.jsonl" 4
    grep '^step' "$logs/$checks" | sed 's/^/      /' >>"$table"
}

# ---- parts --------------------------------------------------------------------------------------------------------------------------

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
    test | bench | steps | peers | sanitize) begin_part; "${part}_part" ;;
    *) echo "usage: tests/gpu/run.sh [test] [bench] [steps] [peers] [sanitize]"; exit 2 ;;
    esac
done
echo
cat "$table"
exit $failed
