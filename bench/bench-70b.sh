#!/bin/sh
# A model of Llama 3 70B's shape takes three optimizer steps inside 8 GiB: the first fills the whole cache (37 GB on disk), the others stream it.
# Then the same first step with other budgets: its loss must have the same bits. About an hour on two cores.
#     [STEPS=3] bench/bench-70b.sh DIR        DIR needs 40 GB free; the cache stays there, so that a second run is shorter
set -eu
dir=${1:?"usage: bench/bench-70b.sh DIR"}
common="--shape llama-3-70b --max_seq_length 512 --per_device_train_batch_size 1 --gradient_accumulation_steps 1 --lora_r 16
        --mlp_chunk_tokens 512 --head_chunk_tokens 512"
limit=$((8 * 1073741824 + 64 * 1048576))

number() { grep -o "\"$2\":[^,}]*" "$1" | head -n 1 | cut -d: -f2; }

./qlora-stream bench $common --vram 4G --ram 4G --steps "${STEPS:-3}" --out "$dir/small" --cache "$dir/cache"
./qlora-stream bench $common --vram 6G --ram 12G --steps 1 --out "$dir/large" --cache "$dir/cache"
./qlora-stream bench --compare "$dir/small/profile.json" "$dir/large/profile.json"

peak=$(number "$dir/small/profile.json" peak_rss_bytes)
small=$(number "$dir/small/profile.json" loss) large=$(number "$dir/large/profile.json" loss)
echo "peak memory of the process: $peak bytes of $limit"
echo "loss of the first step: $small with 4G + 4G, $large with 6G + 12G"
[ "$peak" -le "$limit" ] || { echo "bench-70b: the process took more than 8 GiB + 64 MiB"; exit 1; }
[ "$small" = "$large" ] || { echo "bench-70b: the budgets changed the loss"; exit 1; }
