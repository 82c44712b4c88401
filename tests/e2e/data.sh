#!/bin/sh
# Looking at data and at other trainers' configurations: the commands data and import-config, from the project's root.
program=${QS_PROGRAM:-./qlora-stream}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
checks=0; failures=0
run() { "$program" "$@" >"$dir/stdout" 2>"$dir/stderr"; status=$?; }
# says FILE WORD...: status 0, and words that stdout or stderr must hold
says() {
    file=$dir/$1; shift
    checks=$((checks + 1))
    bad=""
    [ "$status" -eq "${want:-0}" ] || bad="status $status instead of ${want:-0}"
    for word in "$@"; do grep -qF -e "$word" "$file" || bad="$bad; lacks \"$word\""; done
    [ -z "$bad" ] || { failures=$((failures + 1)); echo "FAIL: $name: $bad"; head -n 5 "$dir/stdout" "$dir/stderr" | sed 's/^/      /'; }
}
model=tests/golden/llama/model

printf '{"input_ids":[1,2,3],"labels":[-100,2,3],"id":7}\n{"input_ids":[4,5]}\n' >"$dir/ids.jsonl"
name="audit of rows of ids"; run data "$dir/ids.jsonl" --model $model --cache "$dir/cache" --show 2 --export "$dir/out.jsonl"
says stdout "2 rows, 2 samples, 5 tokens" "columns not used: id" "row 2: 2 tokens, 1 trained"
name="what was exported"; cp "$dir/out.jsonl" "$dir/stdout"; says stdout '{"input_ids":[1,2,3],"labels":[-100,2,3]}' '{"input_ids":[4,5],"labels":[-100,5]}'
name="exported tokens are data"; run data "$dir/out.jsonl" --model $model --cache "$dir/cache"; says stdout "2 rows, 2 samples, 5 tokens, 3 trained"
name="counts as JSON"; run data "$dir/ids.jsonl" --model $model --cache "$dir/cache" --json; says stdout '"samples":2' '"columns_not_used":["id"]'
name="JSON is all there is"; checks=$((checks + 1)); [ "$(wc -l <"$dir/stdout")" -eq 1 ] || { failures=$((failures + 1)); echo "FAIL: $name"; }

printf 'question,answer,n\na,b,1\nc,d\n' >"$dir/t.csv"; gzip "$dir/t.csv"
name="without a model"; run data "$dir/t.csv.gz"; says stdout "instruction rows" "2 rows, 1 of them bad" "has 2 fields" "columns not used: n"
name="samples without a model"; want=2; run data "$dir/t.csv.gz" --show 1; says stderr "need --model"
name="no data"; run data; says stderr "expected a data file"
want=1; name="nothing there"; run data org/name; says stderr "huggingface-cli download"
want=0

printf 'base_model: %s\nadapter: qlora\nload_in_4bit: true\ndatasets:\n  - path: %s\nsequence_len: 16\nmicro_batch_size: 1\nstrict: false\n' $model "$dir/ids.jsonl" >"$dir/a.yaml"
name="a configuration of axolotl as ours"; run import-config "$dir/a.yaml"; says stdout 'max_seq_length: "16"' 'quant_type: "nf4"'
cp "$dir/stdout" "$dir/ours.yaml"
name="its report"; says stderr "sequence_len: 16 -> max_seq_length: 16" "strict: every key is checked"
name="a run by it"; run data --config "$dir/a.yaml" --cache "$dir/cache"; says stdout "2 rows, 2 samples"
name="a run by ours"; run data --config "$dir/ours.yaml" --cache "$dir/cache"; says stdout "2 rows, 2 samples"
printf 'relora: true\nlora_modules_to_save: [lm_head]\n' >>"$dir/a.yaml"
want=2 name="keys that are not supported"; run data --config "$dir/a.yaml"; says stderr "relora: true - " "2 keys" "relora, lora_modules_to_save"
name="no foreign configuration"; run import-config "$dir/ours.yaml"; says stderr "none of the configurations"

echo "$(((checks - failures) * 100 / checks))%: $checks checks, $failures failed"
[ $failures -eq 0 ]
