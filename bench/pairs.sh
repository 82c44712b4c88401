#!/bin/sh
# pairs.sh OLD NEW [OPTION...]: two programs on the same job in turn, ten times; medians and spreads of their seconds per step.
#
#   git worktree add /tmp/old COMMIT && make -C /tmp/old
#   bench/pairs.sh /tmp/old/qlora-stream ./qlora-stream [--cpu_isa v3 ...]
#
# The job: two layers of Llama 3.2 1B, 256 tokens, everything in memory. PAIRS=N other than ten; OLD_OPTIONS and NEW_OPTIONS for
# one of them only. The fastest of each run's last four steps counts, so that a start-up or a neighbour does not.
set -eu
old=$1 new=$2
shift 2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$new" synth --shape llama-3.2-1b --layers 2 --out "$dir/model" >/dev/null
awk 'BEGIN { srand(1); for (r = 0; r < 8; r++) { s = ""
    for (i = 0; i < 256; i++) s = s (i ? "," : "") int(rand() * 128000)
    printf "{\"input_ids\":[%s],\"labels\":[%s]}\n", s, s } }' >"$dir/data.jsonl"

# seconds PROGRAM NAME OPTION...: of its fastest step behind the second
seconds() {
    program=$1 name=$2
    shift 2
    rm -rf "$dir/out"
    "$program" train --model "$dir/model" --data "$dir/data.jsonl" --max_seq_length 256 --max_steps 6 --warmup_steps 0 \
        --per_device_train_batch_size 1 --gradient_accumulation_steps 1 --vram 4G --ram 4G --cache "$dir/cache-$name" \
        --out "$dir/out" --quiet "$@" >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
    sed -n 's/.*"step_seconds": *\([0-9.e-]*\).*/\1/p' "$dir/out/metrics.jsonl" | tail -n 4 | sort -g | head -n 1
}

for pair in $(seq 0 "${PAIRS:-10}"); do # the first one fills the caches
    a=$(seconds "$old" old ${OLD_OPTIONS:-} "$@")
    b=$(seconds "$new" new ${NEW_OPTIONS:-} "$@")
    [ "$pair" = 0 ] || echo "$a $b"
done | tee "$dir/pairs" | awk '{ printf "pair %2d: old %.3f s, new %.3f s, ratio %.3f\n", NR, $1, $2, $2 / $1 }'

# spread NAME COLUMN: least, median and most
spread() {
    awk -v c="$2" '{ print (c == 3 ? $2 / $1 : $c) }' "$dir/pairs" | sort -g |
        awk -v n="$1" '{ v[NR] = $1 } END { printf "%-18s %.3f (%.3f to %.3f)\n", n,
            NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2, v[1], v[NR] }'
}
spread "old, s per step" 1
spread "new, s per step" 2
spread "new / old" 3
