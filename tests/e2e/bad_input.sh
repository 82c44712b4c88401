#!/bin/sh
# Bad input: every case must end with one sentence that names the file or option, the right exit status (1; 2 for wrong
# usage), and everything that was there before unharmed. Runs the program itself, from the project's root.
program=${QS_PROGRAM:-./qlora-stream}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export OMP_WAIT_POLICY=passive
checks=0; failures=0

base=tests/golden/llama
fresh_model() { rm -rf "$dir/model"; cp -rp $base/model "$dir/model"; } # with the times: a cache knows them
train() {
    rm -rf "$dir/out"
    "$program" train --model "$dir/model" --data $base/data.jsonl --out "$dir/out" --cache "${cache:-$dir/cache}" --vram 64M --ram 128M \
        --max_steps 1 --max_seq_length 64 --no-packing --quiet "$@" >"$dir/stdout" 2>"$dir/stderr"
}

# expect STATUS WORD...: the status of the last command, and words its message must hold
expect() {
    got=$?
    want=$1; shift
    checks=$((checks + 1))
    bad=""
    [ "$got" -eq "$want" ] || bad="status $got instead of $want"
    for word in "$@"; do grep -qF -e "$word" "$dir/stderr" || bad="$bad; the message lacks \"$word\""; done
    [ "$want" -eq 0 ] || [ "$(grep -vc '^warning' "$dir/stderr")" -eq 1 ] || bad="$bad; not one line"
    if [ -n "$bad" ]; then
        failures=$((failures + 1))
        echo "FAIL: $name: $bad"; sed 's/^/      /' "$dir/stderr" | head -n 5
    fi
}

fresh_model
name="good input";                       train; expect 0

# ---- usage -----------------------------------------------------------------------------------------------------------
name="unknown option";                   train --learning_rat 1e-4; expect 2 learning_rat learning_rate
name="value out of range";               train --lora_r 0; expect 2 lora_r
name="not a number";                     train --learning_rate fast; expect 2 learning_rate fast
name="unknown preset";                   train --preset nobody; expect 2 nobody axolotl
name="no data"
"$program" train --model "$dir/model" --out "$dir/o2" 2>"$dir/stderr"; expect 2 --data
name="unknown command"; "$program" trian 2>"$dir/stderr"
got=$?; checks=$((checks + 1)); [ $got -eq 2 ] || { failures=$((failures + 1)); echo "FAIL: $name: status $got"; }
printf 'lora_r: [1\n' >"$dir/broken.yaml"
name="broken YAML";                      train --config "$dir/broken.yaml"; expect 2 broken.yaml
printf 'lora_r: 8\nnonsense: 1\n' >"$dir/unknown.yaml"
name="unknown key in YAML";              train --config "$dir/unknown.yaml"; expect 2 unknown.yaml:2 nonsense
name="missing config file";              train --config "$dir/absent.yaml"; expect 1 absent.yaml

# ---- the model ---------------------------------------------------------------------------------------------------------
name="no model";                         train --model "$dir/nowhere"; expect 1 nowhere
fresh_model; : >"$dir/model/config.json"
name="empty config.json";                train; expect 1 config.json
fresh_model; sed 's/"llama"/"gptj"/; s/LlamaForCausalLM/GPTJForCausalLM/' $base/model/config.json >"$dir/model/config.json"
name="unsupported architecture";         train; expect 1 config.json gptj
fresh_model; sed 's/"hidden_size": [0-9]*/"hidden_size": 60/' $base/model/config.json >"$dir/model/config.json"
name="wrong shapes";                     train; expect 1 model
fresh_model; sed 's/"num_hidden_layers": [0-9]*/"num_hidden_layers": 99/' $base/model/config.json >"$dir/model/config.json"
name="missing tensors";                  train; expect 1 model.layers
fresh_model; rm "$dir/model/model-00002-of-00002.safetensors"
name="missing shard";                    train; expect 1 model-00002-of-00002.safetensors
for size in 0 7 8 100 1000 20000; do
    fresh_model; truncate -s $size "$dir/model/model-00001-of-00002.safetensors"
    name="shard cut to $size bytes";     train; expect 1 model-00001-of-00002.safetensors
done
fresh_model; printf '\377\377\377\377\377\377\377\177' | dd of="$dir/model/model-00001-of-00002.safetensors" conv=notrunc 2>/dev/null
name="header length beyond the file";    train; expect 1 model-00001-of-00002.safetensors
fresh_model

# ---- the data ------------------------------------------------------------------------------------------------------------
name="no data file";                     train --data "$dir/absent.jsonl"; expect 1 absent.jsonl
printf '{"input_ids": [1, 2, 3' >"$dir/cut.jsonl"
data() { rm -rf "$dir/out"; "$program" train --model "$dir/model" --data "$1" --out "$dir/out" --cache "$dir/cache" --vram 64M --ram 128M --max_steps 1 \
    --max_seq_length 64 --quiet >"$dir/stdout" 2>"$dir/stderr"; }
name="data cut in the middle of a row";  data "$dir/cut.jsonl"; expect 1 cut.jsonl
: >"$dir/empty.jsonl"
name="empty data";                       data "$dir/empty.jsonl"; expect 1 empty.jsonl
printf '{"a": 1}\n' >"$dir/columns.jsonl"
name="unknown columns";                  data "$dir/columns.jsonl"; expect 1 columns.jsonl
printf '{"input_ids": [1, 2, 999999]}\n' >"$dir/vocab.jsonl"
name="token outside the vocabulary";     data "$dir/vocab.jsonl"; expect 1 vocab.jsonl 999999
printf '{"input_ids": [1, 2, 3], "labels": [-100, -100, -100]}\n' >"$dir/masked.jsonl"
name="nothing to train on";              data "$dir/masked.jsonl"; expect 1 masked.jsonl
printf '{"text": "hello"}\n' >"$dir/text.jsonl"
name="text without a tokenizer";         data "$dir/text.jsonl"; expect 1 tokenizer

# ---- memory, disk, directories ---------------------------------------------------------------------------------------------
name="--vram too small";                 train --vram 1M; expect 1 --vram
name="--ram too small";                  train --ram 1M; expect 1 --ram
touch "$dir/file"
name="OUT is a file";                    train --out "$dir/file/run"; expect 1 "$dir/file"
name="unwritable cache";                 cache=/proc/nowhere; train; got=$?; cache=; (exit $got); expect 1 /proc/nowhere
name="a run that is there is kept"
train; expect 0
before=$(cat "$dir/out/adapter_model.safetensors" "$dir/out/metrics.jsonl" | cksum)
"$program" train --model "$dir/model" --data $base/data.jsonl --out "$dir/out" --cache "$dir/cache" --vram 64M --ram 128M --max_steps 1 --quiet \
    >"$dir/stdout" 2>"$dir/stderr"
expect 1 "$dir/out" --resume
[ "$before" = "$(cat "$dir/out/adapter_model.safetensors" "$dir/out/metrics.jsonl" | cksum)" ] || { failures=$((failures + 1)); echo "FAIL: $name: it was changed"; }
name="a cache of another model is refused and kept"
before=$(find "$dir/cache" -maxdepth 1 -type f -exec cksum {} + | sort | cksum)
rm -rf "$dir/out"
"$program" train --model tests/golden/qwen2/model --data tests/golden/qwen2/data.jsonl --out "$dir/out" --cache "$dir/cache" --vram 64M --ram 128M \
    --max_steps 1 --max_seq_length 64 --quiet >"$dir/stdout" 2>"$dir/stderr"
expect 1 "$dir/cache"
[ "$before" = "$(find "$dir/cache" -maxdepth 1 -type f -exec cksum {} + | sort | cksum)" ] || { failures=$((failures + 1)); echo "FAIL: $name: it was changed"; }
name="a cache of another quantisation is refused"; train --quant_type fp4; expect 1 "$dir/cache"
name="resume of nothing"; train --resume; expect 1 "$dir/out"
name="a damaged checkpoint is passed over"
train --save_steps 1 --max_steps 2; expect 0
printf x >>"$dir/out/checkpoint-2/optimizer.bin"
"$program" train --model "$dir/model" --data $base/data.jsonl --out "$dir/out" --cache "$dir/cache" --vram 64M --ram 128M --max_steps 2 --save_steps 1 \
    --max_seq_length 64 --no-packing --quiet --resume >"$dir/stdout" 2>"$dir/stderr"
expect 0 checkpoint-2

# A full disk: only where a small one can be mounted.
mkdir "$dir/small"
if mount -t tmpfs -o size=64k tmpfs "$dir/small" 2>/dev/null; then
    name="no room for the cache"; cache=$dir/small/cache; train; got=$?; cache=; (exit $got); expect 1 "$dir/small/cache"
    umount "$dir/small"
    mount -t tmpfs -o size=256k tmpfs "$dir/small"
    name="no room for a checkpoint"
    "$program" train --model "$dir/model" --data $base/data.jsonl --out "$dir/small/out" --cache "$dir/cache" --vram 64M --ram 128M --max_steps 1 \
        --max_seq_length 64 --lora_r 64 --no-packing --quiet >"$dir/stdout" 2>"$dir/stderr"
    expect 1 "$dir/small/out"
    umount "$dir/small"
else
    echo "skip: a full disk (no permission to mount a small one)"
fi

echo "100%: Checks: $checks, Failures: $failures" | sed "s/^100/$(((checks - failures) * 100 / checks))/"
[ $failures -eq 0 ]
