#!/bin/sh
# Makes the seeds of every fuzz target: FOLDER/NAME/*, from words written here, the golden cases, and what a short run leaves behind.
#     tests/fuzz/seeds.sh PROGRAM FOLDER         (from the root of the project)
# A new target adds lines below: seed NAME FILE <CONTENT.
set -e
program=$1 to=$2
rm -rf "$to"
golden=tests/golden
border='
%%%%
'

# seed TARGET NAME: standard input becomes a seed.
seed() { mkdir -p "$to/$1"; cat >"$to/$1/$2"; }
# all TARGET LINE...: a seed for each line.
all() { target=$1; shift; i=0; for text in "$@"; do i=$((i + 1)); printf '%s' "$text" | seed "$target" "line-$i"; done; }
# tensors JSON BYTES: a safetensors file with this header and so many zero bytes.
tensors() {
    n=$(printf '%s' "$1" | wc -c)
    printf "\\$(printf %o $((n % 256)))\\$(printf %o $((n / 256)))\\0\\0\\0\\0\\0\\0%s" "$1"
    head -c "$2" /dev/zero
}

# ---- weights ---------------------------------------------------------------------------------------------------------------
small='{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[16,22]}}'
tensors "$small" 22 | seed safetensors small
tensors '{}' 0 | seed safetensors none
tensors '{"e":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":{"dtype":"F8_E4M3","shape":[],"data_offsets":[0,1]}}' 1 | seed safetensors odd
head -c 4096 $golden/llama/init_adapter/adapter_model.safetensors | seed safetensors cut
cat $golden/qwen3/init_adapter/adapter_model.safetensors | seed safetensors adapter
{ printf '{"metadata":{"total_size":22},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}%s' "$border"
  tensors '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' 8
  printf '%s' "$border"
  tensors '{"__metadata__":{"b":"c"},"b":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}' 2; } | seed source two
all synthetic '{"format":1,"shape":"tiny","seed":0,"std":0.02,"tensors":{"model.norm.weight":[16],"model.embed_tokens.weight":[32,16]}}'
all stored_state '{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [64, 128], "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.0546875}' \
    '{"quant_type": "fp4", "blocksize": 64, "dtype": "float32", "shape": [64, 128]}'

# ---- models ----------------------------------------------------------------------------------------------------------------
for family in llama llama_yarn mistral qwen2 qwen3 gpt_neox gpt_neox_serial; do
    seed architecture $family <$golden/$family/model/config.json
    seed adapter_config $family <$golden/$family/init_adapter/adapter_config.json
done
all adapter_config '{"peft_type":"LORA","r":8,"lora_alpha":16,"target_modules":"all-linear","bias":"none"}' \
    '{"peft_type":"LORA","r":8,"lora_alpha":16,"rank_pattern":{"a":1},"modules_to_save":["lm_head"],"use_dora":true}'

# ---- tokenizers ------------------------------------------------------------------------------------------------------------
vocab='"!":0,"H":1,"e":2,"l":3,"o":4,"w":5,"r":6,"d":7,"Ġ":8,"a":9,"b":10,"c":11,"He":12,"ll":13,"Hell":14,"Hello":15,"t":16,"h":17,"n":18,"Ġt":19,"Ġth":20,"Ġthe":21'
merges='"H e","l l","He ll","Hell o","Ġ t","Ġt h","Ġth e"'
json() { printf '{"version":"1.0","truncation":null,"padding":null,"added_tokens":[{"id":30,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},{"id":31,"content":"</s>","single_word":true,"lstrip":true,"rstrip":true,"normalized":true,"special":true}],"normalizer":%s,"pre_tokenizer":%s,"post_processor":%s,"decoder":%s,"model":{"type":"BPE","dropout":null,"unk_token":%s,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":true,"byte_fallback":%s,"ignore_merges":false,"vocab":{%s},"merges":[%s]}}' "$@"; }
json null '{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}' null '{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}' null false "$vocab" "$merges" | seed tokenizer byte_level
json '{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"Regex":" +"},"content":" "}]}' '{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\\\p{N}{1,3}|\\\\s+"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}' '{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[30],"tokens":["<s>"]}}}' '{"type":"ByteLevel"}' null false "$vocab" '["H","e"],["l","l"],["He","ll"]' | seed tokenizer sequence
{ json '{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}' null null '{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]}' '"<unk>"' true '"<unk>":0,"<0x0A>":1,"<0xFF>":2,"▁":3,"H":4,"e":5,"▁H":6' '"▁ H"'
  printf '%s{"bos_token":"<s>","eos_token":{"content":"</s>"},"add_bos_token":true,"chat_template":"{{ x }}","added_tokens_decoder":{"32":{"content":"<pad>","special":true}}}' "$border"; } | seed tokenizer spaces
json null '{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":false}' null '{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}' '"<unk>"' false '"<unk>":0,"▁":1,"a":2,"▁a":3' '"▁ a"' | seed tokenizer metaspace

# piece TEXT SCORE TYPE: one of SentencePiece's; the score is the first two bytes of a float in octal.
piece() {
    n=$(printf '%b' "$1" | wc -c)
    printf "\\012\\$(printf %o $((n + 9)))\\012\\$(printf %o "$n")%b\\025\\000\\000$2\\030\\00$3" "$1"
}
sentencepiece() {
    piece '<unk>' '\000\000' 2; piece '<s>' '\000\000' 3; piece '</s>' '\000\000' 3; piece '<0x0A>' '\000\000' 6
    piece '\0342\0226\0201' '\200\277' 1; piece 'a' '\000\300' 1; piece 'b' '\000\300' 1; piece '\0342\0226\0201a' '\000\200' 1; piece 'ab' '\000\200' 4
    printf '\022\006\030\002\050\012\120\001'                   # trainer: BPE
    printf '\032\016\012\010identity\030\001\040\000'                   # normalizer
}
sentencepiece | seed sentencepiece small
{ sentencepiece; printf '%s{"legacy":false,"bos_token":"<s>","eos_token":"</s>"}' "$border"; } | seed sentencepiece config
printf '{%s}%s#version: 0.2\nH e\nl l\nHe ll\nHell o\n%s{"tokenizer_class":"GPT2Tokenizer","bos_token":"<s>"}%s{"eos_token":"</s>"}%s{"<pad>":40}%s{"eos_token_id":[1,2]}' \
    "$vocab" "$border" "$border" "$border" "$border" "$border" | seed vocab_merges gpt2
printf '{%s}%sH e\n' "$vocab" "$border" | seed vocab_merges bare

# ---- data ------------------------------------------------------------------------------------------------------------------
all dataset '{"instruction": "a", "input": "", "output": "b"}
{"instruction": "c", "input": "d", "output": "e"}' '[{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]' \
    '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}]}' \
    '{"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a\u00e9\ud83d\ude00"}]}' '{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}' \
    '{"text": "some text"}' 'plain text
<|endoftext|>
more of it' '{
 "text": "over lines"
}
{"text": "again"}' '{"data": [{"row_idx": 0, "row": {"text": "a"}}, {"text": "b", "x": NaN, "y": 123456789012345678901234567890}]}' \
    '{"input_ids": [0, 1, 2, 3, 0], "attention_mask": [0, 1, 1, 1, 0], "completion_mask": [0, 0, 1, 1, 0], "position_ids": [0, 0, 1, 0, 0]}' \
    '{"prompt": [{"role": "user", "content": "u"}], "completion": [{"role": "assistant", "content": "a"}], "system": "s", "tools": "[{}]"}' \
    '{"conversations": [{"from": "function_call", "value": "{\"name\":\"f\",\"arguments\":{}}"}, {"from": "observation", "value": "o"}]}' \
    '{"messages": [{"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}, "train": 0}]}' \
    '{"instruction": "i", "output": "o", "history": [["a", "b"]], "system": "s"}'
head -n 3 configs/demo/train.jsonl | seed dataset demo
head -n 2 $golden/llama/data.jsonl | seed dataset ids
all table 'xinstruction,output
"a ""b""","c
d"
e,f' 'ytext	id
one	1
two	2' 'zprompt;completion
a;b'
printf 'zinput_ids,labels\r\n"[1,2]","[-100,2]"\r\n' | seed table ids
for kind in 1 2 3 4; do { printf "\\$(printf %o $kind)\\0\\0\\0"; head -c 600 configs/demo/train.jsonl; } | seed packed "whole-$kind"; done
printf '\4\0\11\1changed' | seed packed changed
{ printf '\0\0\0\0'; printf '{"text": "a"}\n' | gzip -n; } | seed packed gzip
printf '\0\0\0\0\377\376a\0=\330\0\336' | seed packed utf16
all json_cursor '{"a": [1, 2.5e3, -7, true, null, {"b": "c\u0041\n"}], "d": {}, "e": []}' '["\ud83d\ude00", "\\\"", 123456789012]'

# ---- options ---------------------------------------------------------------------------------------------------------------
for file in configs/*.yaml; do seed options "$(basename "$file")" <"$file"; done
all import 'base_model: m
adapter: qlora
sequence_len: 512
datasets: [{path: a.jsonl, type: completion, field: body}, {path: json, data_files: [b.jsonl]}]
warmup_steps: 0.1
lora_target_modules: [q_proj]
' 'model_name_or_path: m
stage: sft
finetuning_type: lora
dataset: a, b.jsonl
template: llama3
cutoff_len: 8
' 'model_name_or_path: m
use_peft: true
dataset_mixture: {datasets: [{id: a.jsonl, weight: 0.5}], test_split_size: 1}
' 'model: {_component_: torchtune.models.x.qlora_x, lora_attn_modules: [q_proj, output_proj], apply_lora_to_mlp: true}
checkpointer: {checkpoint_dir: m}
tokenizer: {path: p}
dataset: {_component_: torchtune.datasets.alpaca_dataset, split: "train[:95%]"}
' 'training: {batch_size: 2, max_steps: 0}
lora: {lora_r: 8}
x: &a {y: 1}
z: {<<: *a}
'
all options 'base_model: x
datasets:
  - path: a.jsonl
    type: alpaca
bf16: true
learning_rate: 2e-4
vram: 10G
target_modules: [q_proj, "v_proj"]
a: &b 1
c: *b
' 'seed: !!int "3"
warmup_ratio: .1
---
x: y' '<<: {seed: 1}
data: {path: x}'

# ---- what a run leaves -----------------------------------------------------------------------------------------------------
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
$program train --model $golden/llama/model --data $golden/llama/data.jsonl --max_seq_length 64 --gradient_accumulation_steps 1 --threads 1 --vram 64M --ram 64M \
    --lora_r 4 --max_steps 3 --save_steps 2 --out "$run/o" --cache "$run/c" --quiet >"$run/log" 2>&1 || { echo "seeds: the short run failed:"; cat "$run/log"; exit 1; }
seed trainer_state run <"$run/o/checkpoint-2/trainer_state.json"
seed metrics run <"$run/o/metrics.jsonl"
{ head -n 2 "$run/o/metrics.jsonl"; printf '{"step":2,"eval_loss":1.5,"eval_tokens":10,"eval_seconds":0.1}\n{"step":3,"lo'; } | seed metrics torn
seed cache_manifest run <"$run/c/manifest.json"
all cache_manifest '{"format":1,"model":"model","fingerprint":"0123456789abcdef0123456789abcdef","form":"nf4 test","blobs":3,"blob_bytes":[4096,8192,4096]}'
head -c 192 /dev/zero | seed cache_journal good
{ head -c 40 /dev/zero; printf 'damage'; head -c 60 /dev/zero; } | seed cache_journal torn
for tokens in "$run"/c/*/*.tokens "$run"/c/*.tokens; do
    [ -f "$tokens" ] || continue
    { head -c 144 "$tokens"; tail -c +4097 "$tokens" | head -c 4096; } | seed token_cache run
done
{ head -c 24 /dev/zero; printf '\005\000\000\000\000\000\000\000\001\000\000\000\000\000\000\000'; head -c 300 /dev/zero; } | seed token_cache zeros

# ---- chat templates --------------------------------------------------------------------------------------------------------
all jinja '{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{% endfor %}' \
    '{%- set ns = namespace(i=0, s="") %}{%- for m in messages if m.role != "tool" -%}{% set ns.i = ns.i + loop.index0 %}{{ loop.cycle("a", "b") }}{% if loop.last %}{% break %}{% endif %}{%- endfor %}{{ ns.i }}' \
    '{% macro f(x, y=2) %}{{ x }}{{ caller() if caller }}{% endmacro %}{% call f(*[1, 2]) %}c{% endcall %}{{ f(1, y=[1][0]) | upper | replace("A", "b") }}' \
    '{{ messages[2].tool_calls | tojson(indent=2) }}{{ tools | map(attribute="function.name") | list }}{{ messages | selectattr("role", "equalto", "user") | first }}' \
    '{% set messages = messages[1:] %}{{ messages[0]["content"].split(" ")[-1][::-1] }}{{ "%s-%d" % ("a", 3) }}{{ "{}{x}".format(1, x=2) }}{{ 7 // 2 ** 2 % 5 - -1 }}' \
    '{% if not (1 < 2 <= 3 and "a" in "abc") or messages is not mapping %}{# c #}{% elif x is defined %}{% else %}{% endif %}{{ "\u00e9\x41" ~ none ~ 1.5e3 }}' \
    '{% set x %}a{{ bos_token }}{% endset %}{% filter upper %}b{% endfilter %}{% with y=x %}{{ y }}{% endwith %}{% generation %}g{% endgeneration %}{% raw %}{{{% endraw %}' \
    '{{ raise_exception("no") }}' '{{ strftime_now("%d %b %Y") }}{{ dict(a=1).items() | list }}{{ range(3) | join(",") }}{{ [3, 1] | sort | last }}{{ {"b": 1} | dictsort }}' \
    '{% for x in [1, [2]] recursive %}{{ loop(x) if x is sequence }}{% else %}e{% endfor %}{{ joiner("|")() }}{{ "a<b" | e + "c" | safe }}' \
    '{% for m in messages %}{{ m.content }}{% endfor %}'"$border"'[{"role": "user", "content": ["a", {"b": 1e300}]}, {"content": null}]'
