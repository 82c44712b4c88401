#!/bin/sh
# One run through most of the parts, for the tools that watch a whole program (sanitizers, valgrind): first touch, streaming through a little memory, states and
# activations on disk, a validation, checkpoints and their pruning, stopping and going on. Both engines, and the run that was stopped, must end in the same bits.
#     tests/e2e/whole_run.sh [valgrind]       QS_PROGRAM: the program. Run from the root of the project.
program=${QS_PROGRAM:-./qlora-stream}
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
checks=0 failed=0 with= wanted=0

if [ "$1" = valgrind ]; then
    command -v valgrind >/dev/null || { echo "skip: there is no valgrind"; exit 77; }
    # It knows AVX2 and nothing newer. What oneDNN and OpenMP keep until the end is not ours.
    with="valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite --suppressions=tests/e2e/valgrind.supp"
    export QS_CPU_ISA=v3 DNNL_MAX_CPU_ISA=AVX2 OMP_NUM_THREADS=1
fi

run() {
    name=$1
    shift
    checks=$((checks + 1))
    $with "$program" "$@" >"$dir/log" 2>&1
    status=$?
    [ $status = $wanted ] && return
    failed=$((failed + 1))
    echo "FAILED: $name (status $status)"
    tail -n 40 "$dir/log" | sed 's/^/    /'
}

$program synth --shape tiny --layers 4 --weights --out "$dir/model" >/dev/null || exit 2
head -n 6 tests/golden/llama/data.jsonl >"$dir/validation.jsonl"
train() {
    out=$1
    shift
    run "training $out" train --model "$dir/model" --data tests/golden/llama/data.jsonl --eval_data "$dir/validation.jsonl" --max_seq_length 48 \
        --gradient_accumulation_steps 2 --threads 1 --lora_r 2 --lora_dropout 0.1 --optim adamw_8bit --max_steps 3 --save_steps 1 --save_total_limit 1 \
        --eval_steps 2 --vram 8M --resident_layers 1 --ram 40M --adapters_on disk --checkpoints_on disk --out "$dir/$out" --cache "$dir/c0" --cache "$dir/c1" --quiet "$@"
}
train pread --io_engine pread
if [ -n "$with" ]; then # one run takes minutes there
    echo "$(((checks - failed) * 100 / checks))%: Checks: $checks, Failures: $failed, under valgrind"
    exit $failed
fi
train uring
wanted=130
train stopped --stop_at_step 2
wanted=0
train stopped --resume
for other in pread stopped; do
    checks=$((checks + 1))
    cmp "$dir/uring/adapter_model.safetensors" "$dir/$other/adapter_model.safetensors" || failed=$((failed + 1))
done
run 'inspecting' inspect "$dir/uring"

echo "$(((checks - failed) * 100 / checks))%: Checks: $checks, Failures: $failed"
[ $failed = 0 ]
