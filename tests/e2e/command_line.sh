#!/bin/sh
# The program as a person runs it: exit statuses, sentences, what a run leaves behind, stopping and going on. Trains a few
# steps of the demo's model. Run from the root of the project.
dir=$(mktemp -d) || exit 2
trap 'rm -rf "$dir"' EXIT
program=${QS_PROGRAM:-./qlora-stream} base=configs/demo/base data=configs/demo/train.jsonl
checks=0 failed=0 exec=
export XDG_CACHE_HOME="$dir/user-cache"

wrong() {
    failed=$((failed + 1))
    echo "FAILED: $1"
    sed 's/^/    /' "$dir/stdout" "$dir/stderr" | tail -n 15
}

# expect STATUS TEXT COMMAND...: the exit status, and TEXT (when not empty) on stdout or stderr. No output has escape codes.
expect() {
    status=$1 text=$2
    shift 2
    checks=$((checks + 1))
    "$@" >"$dir/stdout" 2>"$dir/stderr"
    found=$?
    [ $found = "$status" ] || { wrong "exit status $found instead of $status: $*"; return; }
    [ -z "$text" ] || cat "$dir/stdout" "$dir/stderr" | grep -qF -e "$text" || wrong "\"$text\" is not said by: $*"
    cat "$dir/stdout" "$dir/stderr" | LC_ALL=C grep -q "$(printf '\033')" && wrong "escape codes in a file: $*"
}

# is TEXT COMMAND...: COMMAND succeeds.
is() {
    text=$1
    shift
    checks=$((checks + 1))
    : >"$dir/stdout"
    "$@" >"$dir/stderr" 2>&1 || wrong "$text: $*"
}

train() {
    out=$1
    shift
    $exec "$program" train --model $base --data $data --out "$dir/$out" --cache "$dir/cache" --vram 128M --ram 128M --max_seq_length 128 \
        --batch_size 2 --grad_accum 2 --max_steps 8 --warmup_steps 2 --lr 1e-3 --save_steps 2 --lora_dropout 0.1 "$@"
}

# ---- usage
expect 2 'usage: qlora-stream COMMAND' $program
expect 0 'usage: qlora-stream COMMAND' $program --help
expect 2 'no command called "trian"; did you mean train?' $program trian
expect 2 'no command called "frobnicate"' $program frobnicate
for command in train plan eval inspect plot doctor options; do
    expect 0 "usage: qlora-stream $command" $program $command --help
    expect 0 "usage: qlora-stream $command" $program help $command
done
expect 0 'qlora-stream 0.' $program --version
expect 0 '"what": "io_uring"' env HOME="$dir" $program doctor --json --disk_bytes 4M "$dir/doctor"
expect 0 'memory may be locked' $program doctor --disk_bytes 4M "$dir/doctor"
expect 1 'must be mended' $program doctor --disk_bytes 4M /proc/none

# ---- generate: prompts from everywhere, and where a text ends
generate() { $program generate --model $base --cache "$dir/cache" --vram 128M --ram 128M --quiet --max_new_tokens 4 "$@"; }
printf 'Rusty lives\nIn the morning\n' >"$dir/prompts"
generate --prompt 'Rusty lives' --prompt 'In the morning' >"$dir/two" 2>&1
generate --prompts "$dir/prompts" >"$dir/file" 2>&1
is 'a file of prompts is the same as each of them' cmp -s "$dir/two" "$dir/file"
generate --prompt 'Rusty lives' >"$dir/one" 2>&1
printf 'Rusty lives\n' | generate >"$dir/piped" 2>&1
is 'a prompt may come from standard input' cmp -s "$dir/one" "$dir/piped"
generate --prompt 'Rusty lives' --temperature 1 --top_k 1 >"$dir/sampled" 2>&1
is 'of one token the likeliest is drawn' cmp -s "$dir/one" "$dir/sampled"
expect 2 'nothing to go on from' generate </dev/null

# ---- eval: a question whose answer the model has learnt is not needed; that both models are measured is
printf 'Two and two?,3,4,5,6,B\nThree and one?,4,3,2,1,A\n' >"$dir/sums_test.csv"
evaluate() { $program eval --model $base --cache "$dir/cache" --vram 128M --ram 128M --quiet "$@"; }
expect 0 'sums' evaluate --tasks "$dir/sums_test.csv"
expect 0 '"questions": 2' evaluate --tasks "$dir/sums_test.csv" --json
expect 0 'perplexity' evaluate --data $data
expect 2 'nothing to measure on' evaluate

# ---- what the shells and man are given: it parses, and completes
$program options --as bash >"$dir/complete.bash"
is 'the completion for bash' bash -n "$dir/complete.bash"
completed=$(bash -c '. "$1"; COMP_WORDS=(qlora-stream train --optim paged_adamw_8) COMP_CWORD=3; _qlora_stream; echo ${COMPREPLY[*]}' - "$dir/complete.bash")
[ "$completed" = paged_adamw_8bit ] || wrong "bash completes --optim paged_adamw_8 to \"$completed\""
for shell in zsh fish; do
    command -v $shell >/dev/null || continue
    $program options --as $shell >"$dir/complete.$shell"
    is "the completion for $shell" $shell -n "$dir/complete.$shell"
done
expect 0 '.TH QLORA' $program options --as man
expect 2 '--data is missing' $program train --model $base --out "$dir/x"
expect 2 'did you mean learning_rate?' train x --learning_rat 1
expect 2 'lora_r expects a whole number from 1 to 4096, found "0"' train x --lora_r 0
printf 'seed: 1\nlora_rank: many\n' >"$dir/bad.yaml"
expect 2 'bad.yaml:2: lora_r expects' train x --config "$dir/bad.yaml"
expect 1 'none.yaml' train x --config "$dir/none.yaml"

# ---- bad input: one sentence, status 1, nothing written
copy() { rm -rf "$dir/model"; cp -r $base "$dir/model"; }
on_copy() { train x --model "$dir/model" "$@"; }
expect 1 "$dir/nowhere" train x --model "$dir/nowhere"
expect 1 "$dir/nowhere.jsonl" train x --data "$dir/nowhere.jsonl"
copy; printf '{"architectures": [' >"$dir/model/config.json"; expect 1 'config.json' on_copy
copy; sed -i 's/LlamaForCausalLM/OtherForCausalLM/' "$dir/model/config.json"; expect 1 'OtherForCausalLM' on_copy
copy; truncate -s -1000 "$dir/model/model.safetensors"; expect 1 'model.safetensors' on_copy
copy; rm "$dir/model/model.safetensors"; expect 1 "$dir/model" on_copy
copy; printf '{"model": {"type": ' >"$dir/model/tokenizer.json"; expect 1 'tokenizer.json' on_copy
{ head -n 2 $data; echo '{"instruction": "a", '; } >"$dir/torn.jsonl"; expect 1 'torn.jsonl' train x --data "$dir/torn.jsonl"
: >"$dir/empty.jsonl"; expect 1 'empty.jsonl' train x --data "$dir/empty.jsonl"
echo >"$dir/file"; expect 1 'file' train file/x
expect 1 'vram' train x --vram 1M
expect 1 '' $program plan --model $base --data $data --cache "$dir/cache" --vram 1M --ram 1M
expect 1 '"fits": false' $program plan --model $base --data $data --cache "$dir/cache" --vram 1M --ram 1M --json
expect 0 'a dry run: no step was made' train x --dry_run
expect 1 'vram' train x --dry_run --vram 1M
is 'a refused run leaves no directory' test ! -e "$dir/x"

# ---- a run, and what it leaves
expect 0 'step 8/8' train straight
for file in options.yaml metrics.jsonl adapter_model.safetensors adapter_config.json checkpoint-8; do
    is "a run writes $file" test -e "$dir/straight/$file"
done
is 'metrics have a row per step' test "$(grep -c '"loss"' "$dir/straight/metrics.jsonl")" = 8
expect 1 '--resume' train straight # there already
is 'the refusal left the run alone' test "$(grep -c '"loss"' "$dir/straight/metrics.jsonl")" = 8
expect 2 'seed was 42, now 1' train straight --resume --seed 1
expect 0 '<svg' $program plot "$dir/straight/metrics.jsonl"
expect 0 '' $program plan --model $base --data $data --cache "$dir/cache" --vram 128M --ram 128M
expect 0 'fits: ' $program plan --model $base --data $data --cache "$dir/cache" --vram 128M --ram 128M
expect 0 '"tokens_per_second"' $program plan --model $base --data $data --cache "$dir/cache" --vram 128M --ram 128M --json
expect 0 'nearest cards' $program plan --shape llama-3-8b --hardware rtx4090
expect 0 '' $program inspect "$dir/straight"

# ---- stopping and going on: the same bits
same_as_straight() {
    is "$1: the adapter has the same bits" cmp "$dir/straight/adapter_model.safetensors" "$dir/$2/adapter_model.safetensors"
    for run in straight "$2"; do grep -o '"step":[0-9]*,"loss":[^,]*' "$dir/$run/metrics.jsonl" >"$dir/$run.losses"; done
    is "$1: the losses are the same" cmp "$dir/straight.losses" "$dir/$2.losses"
}
expect 130 'train --resume --out' train stopped --stop_at_step 3
expect 0 'step 8/8' train stopped --resume --vram 64M --ram 256M
same_as_straight 'stopped after step 3' stopped

# signal_in_run SIGNAL OUT: waits until a run has finished step 3, which lies between two checkpoints, then sends it a signal.
signal_in_run() {
    (exec=exec; train "$2") >"$dir/stdout" 2>"$dir/stderr" & # so that the process is the program
    process=$!
    while kill -0 $process 2>/dev/null && ! grep -q '"step":3,"loss"' "$dir/$2/metrics.jsonl" 2>/dev/null; do sleep 0.01; done
    kill -s "$1" $process 2>/dev/null
    wait $process
    status=$?
    echo "stopped by $1 with status $status after $(grep -c '"loss"' "$dir/$2/metrics.jsonl") of 8 steps"
}
signal_in_run TERM interrupted # a shell without job control has its background jobs ignore INT
is 'an interrupted run ends with 130, or was done' test $status = 130 -o $status = 0
expect 0 '' train interrupted --resume
same_as_straight 'interrupted' interrupted
signal_in_run KILL killed
is 'a killed run is dead, or was done' test $status = 137 -o $status = 0
expect 0 '' train killed --resume
same_as_straight 'killed' killed

echo "100%: Checks: $checks, Failures: $failed"
[ $failed = 0 ]
