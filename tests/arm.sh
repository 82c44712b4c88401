#!/bin/sh
# The aarch64 program under qemu-user on another machine: operation cases, golden training, and one run that must end in the very bits of this
# machine's own program.      tests/arm.sh BUILD_FOLDER PROGRAM_OF_THIS_MACHINE
set -e
build=$1 native=$2
# One thread: a second one under emulation waits longer at barriers than it works.
export QEMU_LD_PREFIX=${QEMU_LD_PREFIX:-/} OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive CK_FORK=no
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

train() { # NAME OPTION PROGRAM...
    name=$1 more=$2
    shift 2
    "$@" train --model tests/golden/llama/model --data tests/golden/llama/data.jsonl --max_steps 5 --max_seq_length 64 --no-packing --lora_r 4 \
        --gradient_accumulation_steps 2 --learning_rate 0.003 --compute_dtype fp32 --vram 64M --ram 96M --threads 2 --quiet --report_to none \
        $more --cache "$out/$name.cache" --out "$out/$name"
}

echo "== one run on both processors"
train arm --portable_bits qemu-aarch64 "$build/qlora-stream"
train here --portable_bits "$native"
cmp "$out/arm/adapter_model.safetensors" "$out/here/adapter_model.safetensors"
echo "the adapters are the same, bit for bit"
for test in ops golden; do
    echo "== test_$test"
    begin=$(date +%s)
    qemu-aarch64 "$build/tests/test_$test"
    echo "test_$test: $(($(date +%s) - begin)) s"
done
