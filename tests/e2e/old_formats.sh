#!/bin/sh
# What an earlier version left behind (tests/golden/format_1): options are read, caches and checkpoints are refused with a
# sentence that says what to do, and nothing of it is changed. Runs the program itself, from the project's root.
program=${QS_PROGRAM:-./qlora-stream}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export OMP_WAIT_POLICY=passive XDG_CACHE_HOME="$dir/home"
checks=0; failures=0
old=tests/golden/format_1

# expect STATUS WORD...: the status of the last command, and words it must have printed
expect() {
    got=$?
    want=$1; shift
    checks=$((checks + 1)); bad=""
    [ "$got" -eq "$want" ] || bad="status $got instead of $want"
    for word in "$@"; do grep -qF -e "$word" "$dir/said" || bad="$bad; not said: \"$word\""; done
    [ -z "$bad" ] && return
    failures=$((failures + 1))
    echo "FAIL: $name: $bad"; sed 's/^/      /' "$dir/said" | head -n 5
}

# unchanged KEPT COPY: every file of the copy is still what is kept
unchanged() {
    for file in "$old/$1"/*; do cmp "$file" "$dir/$2/${file##*/}" || exit 1; done >"$dir/said" 2>&1
    expect 0
}

train() {
    "$program" train --model tests/golden/llama/model --data tests/golden/llama/data.jsonl --max_seq_length 64 --max_steps 2 --threads 1 \
        --warmup_ratio 0 --vram 64M --ram 64M --quiet "$@" >"$dir/said" 2>&1
}

cp -r $old/cache $old/checkpoint-2 "$dir"
mkdir -p "$dir/home/qlora-stream/tokens"
cp -r $old/cache "$dir/home/qlora-stream/9b65d0fb5d48fb6b"
cp $old/*.tokens "$dir/home/qlora-stream/tokens"

name="a layer cache given by name"
train --lora_r 4 --out "$dir/out" --cache "$dir/cache"; expect 1 "$dir/cache" "layout 1" "delete the directory or choose another one"
unchanged cache cache
name="caches in the user's folder are made anew beside the old ones"
train --lora_r 4 --out "$dir/out"; expect 0
name="cache list"
"$program" cache list >"$dir/said" 2>&1; expect 0 "of another version of this program"
name="cache verify"
"$program" cache verify >"$dir/said" 2>&1; expect 1 9b65d0fb5d48fb6b "cache prune"

name="options with the names of before"
"$program" train --config $old/options.yaml --out "$dir/out2" --cache "$dir/new" --quiet >"$dir/said" 2>&1; expect 0
grep -E "mlp_chunk_tokens: 16|head_chunk_tokens: 16" "$dir/out2/options.yaml" >"$dir/said"; expect 0 mlp_chunk head_chunk

name="resuming a checkpoint"
mkdir "$dir/out3" && cp -r $old/checkpoint-2 "$dir/out3"
sed 's/^lora_r: .*/lora_r: 1/; s/^target_modules: .*/target_modules: [q_proj]/' $old/options.yaml >"$dir/out3/options.yaml"
train --out "$dir/out3" --resume; expect 1 "of an earlier version"
train --config "$dir/out3/options.yaml" --out "$dir/out3" --resume
expect 1 "format 1 is of an earlier version" "--init_adapter" "nothing was changed"
unchanged checkpoint-2 out3/checkpoint-2
name="starting from its adapter"
train --init_adapter "$dir/checkpoint-2" --out "$dir/out4"; expect 0

echo "old_formats: $checks checks, $failures failures"
[ "$failures" -eq 0 ]
