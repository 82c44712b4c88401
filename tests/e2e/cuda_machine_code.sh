#!/bin/sh
# What the compiler made of the warpgroup kernels, read off the machine code: every exponential of a tile comes before the wait for the
# products that it overlaps with, no product is serialised, registers and spills stay under what is written here.
# Needs nvcc and nvdisasm (QS_NVDISASM names another one); skips where they are not. Run from the root of the project.
nvcc=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null)
disassembler=${QS_NVDISASM:-$(command -v nvdisasm || ls /usr/local/cuda/bin/nvdisasm 2>/dev/null)}
[ -n "$nvcc" ] || { echo "skip: there is no nvcc"; exit 77; }
[ -n "$disassembler" ] || { echo "skip: there is no nvdisasm (part of the CUDA Toolkit; QS_NVDISASM names one)"; exit 77; }
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
failed=0 checks=0

# machine_code NAME REGISTERS SPILLED-BYTES: of kernels/cuda/NAME.cu
machine_code() {
    "$nvcc" -std=c++17 -O3 -I. --fmad=false -DQS_CUDA_SM90 -gencode arch=compute_90a,code=sm_90a -cubin -o "$dir/code" -Xptxas -v \
        "kernels/cuda/$1.cu" >"$dir/said" 2>&1 || { cat "$dir/said"; failed=$((failed + 1)); return; }
    "$disassembler" -c "$dir/code" >"$dir/text"
    checks=$((checks + 1))
    grep -i serializ "$dir/said" && { echo "FAILED: $1: products are serialised"; failed=$((failed + 1)); }
    awk -v name="$1" -v registers="$2" -v spilled="$3" '
        /bytes spill stores/ && $5 > spilled { print "FAILED: " name ": spills " $5 " bytes, " spilled " at most"; bad = 1 }
        /Used [0-9]+ registers/ && $5 > registers { print "FAILED: " name ": " $5 " registers, " registers " at most"; bad = 1 }
        END { exit bad }' "$dir/said" || failed=$((failed + 1))
    # In the loop: products, a wait that lets the overlapping ones go on, exponentials, the last wait. None may come behind it.
    awk -v name="$1" '
        function judge() {
            if (kernel == "") return
            if (early < 32 || late) { print "FAILED: " name ": " kernel ": " late " of " early + late " exponentials come after the last wait of the loop"; bad = 1 }
            else print name ": " kernel ": " early " exponentials before the last wait of the loop, 0 after"
        }
        /\.section[ \t]+\.text\./ { judge(); kernel = $0; sub(/.*\.text\./, "", kernel); sub(/,.*/, "", kernel); early = late = products = waits = 0; state = "before" }
        /HGMMA/ { if (waits && state == "before") state = "loop"; if (state == "ended") state = "after" }
        /WARPGROUP\.DEPBAR/ { waits++; if (state == "loop" && ++in_loop == 2) state = "ended"; if (state == "before") in_loop = 0 }
        /MUFU\.EX2/ { if (state == "loop") early++; if (state == "ended") late++ }
        END { judge(); exit bad }' "$dir/text" || failed=$((failed + 1))
}

machine_code attention_forward_sm90 216 0
machine_code attention_dq_sm90 216 0
machine_code attention_dkv_sm90 255 96
echo "100%: Checks: $checks, Failures: $failed"
[ $failed = 0 ]
