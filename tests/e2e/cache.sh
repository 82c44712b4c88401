#!/bin/sh
# The caches that runs keep: shared by several processes, listed, verified and pruned beside a run. Runs the program itself, from the project's root.
program=${QS_PROGRAM:-./qlora-stream}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export OMP_WAIT_POLICY=passive
checks=0; failures=0

base=tests/golden/llama
cp -r $base/model "$dir/model"
shard=$(basename "$(ls $base/model/*.safetensors | head -n 1)")
train() { # OUT OPTION...
    out=$1; shift
    ${run-} "$program" train --model "$dir/model" --data $base/data.jsonl --out "$dir/$out" --cache "$dir/cache" --vram 64M --ram 128M --max_steps 1 --threads 1 \
        --max_seq_length 64 --no-packing --quiet "$@" >>"$dir/stdout" 2>>"$dir/stderr"
}
cache() { "$program" cache "$@" >"$dir/stdout" 2>"$dir/stderr"; }

# expect STATUS WORD...: the status of the last command, and words that it printed
expect() {
    got=$?
    want=$1; shift
    checks=$((checks + 1))
    bad=""
    [ "$got" -eq "$want" ] || bad="status $got instead of $want"
    for word in "$@"; do cat "$dir/stdout" "$dir/stderr" | grep -qF -e "$word" || bad="$bad; \"$word\" is not said"; done
    if [ -n "$bad" ]; then
        failures=$((failures + 1))
        echo "FAIL: $name: $bad"; cat "$dir/stdout" "$dir/stderr" | sed 's/^/      /' | head -n 8
    fi
}
same() { cmp -s "$dir/$1/adapter_model.safetensors" "$dir/$2/adapter_model.safetensors"; }
flip() { printf '\125' | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null; }

# ---- several processes -------------------------------------------------------------------------------------------------
name="runs that meet a cold cache";      pids=
for i in 1 2 3 4; do train "cold$i" & pids="$pids $!"; done
status=0; for pid in $pids; do wait "$pid" || status=1; done
( exit $status ); expect 0
name="they end in the same bits";        same cold1 cold2 && same cold1 cold3 && same cold1 cold4; expect 0
name="and leave one whole cache";        cache list "$dir/cache"; expect 0 "model, 3 of 3 blobs" "2 caches"
name="a run with validation shares";     pids=
for i in 1 2; do train "split$i" --val_set_size 0.2 --max_steps 3 --eval_steps 1 & pids="$pids $!"; done
status=0; for pid in $pids; do wait "$pid" || status=1; done
( exit $status ); expect 0

# ---- list and verify ---------------------------------------------------------------------------------------------------
name="nothing there";                    cache list "$dir/none"; expect 0 "0 caches"
name="no action";                        cache; expect 2 "list, verify or prune"
name="a list in JSON";                   cache list "$dir/cache" --json; expect 0 '"kind": "layers"' '"present": 3' '"in_use": false'
name="a whole cache";                    cache verify "$dir/cache"; expect 0 "3 checked, 0 damaged" "3 blobs compared" "0 differ"
flip "$dir/cache/blobs.bin" 100
name="a changed byte of a layer";        cache verify "$dir/cache"; expect 1 "1 damaged" "makes 1 blob again"
name="which the next run makes again";   train mended; expect 0; cache verify "$dir/cache"; expect 0 "0 damaged"
name="to the same bits";                 same cold1 mended; expect 0
touch -d @1000 "$dir/model/$shard"
name="a touched model is the same";      cache verify "$dir/cache"; expect 0 "0 differ"; train touched; same cold1 touched; expect 0
name="another model";                    cp -r tests/golden/llama "$dir/other"; flip "$dir/other/model/$shard" 20000
cache verify "$dir/cache" --model "$dir/other/model"; expect 0 "another model now"
: >"$dir/stderr"
name="is refused its layers";            "$program" train --model "$dir/other/model" --data $base/data.jsonl --out "$dir/no" --cache "$dir/cache" --max_steps 1 --vram 64M --ram 128M \
    --max_seq_length 64 --quiet >"$dir/stdout" 2>"$dir/stderr"; expect 1 "other weights"

# ---- damage that heals -------------------------------------------------------------------------------------------------
for damage in "flip $dir/cache/manifest.json 40" "flip $dir/cache/journal.bin 50" "truncate -s 5000 $dir/cache/blobs.bin" "truncate -s 0 $dir/cache/journal.bin" "rm $dir/cache/manifest.json" \
    "rm $dir/cache/blobs.bin"; do
    $damage; rm -rf "$dir/healed"; : >"$dir/stderr"
    name="heals: $damage"; train healed && same cold1 healed; expect 0
    grep -q "cache" "$dir/stderr"; expect 0
    cache verify "$dir/cache"; expect 0 "0 damaged"
done

# ---- prune -----------------------------------------------------------------------------------------------------------------
name="used lately";                      cache prune "$dir/cache"; expect 0 "0 caches"
run=exec train long --max_steps 100000 & long=$! # the program itself, to be stopped
for i in $(seq 100); do grep -q step "$dir/long/metrics.jsonl" 2>/dev/null && break; sleep 0.1; done
name="beside a run";                     cache prune --all "$dir/cache"; expect 0 "in use, stays: $dir/cache" "0 caches"
name="which is listed";                  cache list "$dir/cache"; expect 0 "(in use)"
kill -TERM $long; wait $long
name="and can go on";                    [ -e "$dir/cache/blobs.bin" ] && [ -e "$dir/long/checkpoint-0" ]; expect 0
name="a dry run";                        cache prune --all --dry_run "$dir/cache"; expect 0 "would go" "2 caches"; [ -e "$dir/cache/blobs.bin" ]; expect 0
name="when it has ended";                cache prune --days 0 "$dir/cache"; expect 0 "removed: $dir/cache" "freed"
name="nothing is left";                  [ ! -e "$dir/cache/blobs.bin" ] && [ -z "$(ls "$dir/cache/tokens")" ]; expect 0
mkdir "$dir/mine"; echo '{"name": "an extension"}' >"$dir/mine/manifest.json"; echo x >"$dir/mine/notes"
name="what is no cache stays";           cache prune --all "$dir/mine" "$dir"; expect 0; [ -e "$dir/mine/manifest.json" ] && [ -e "$dir/mine/notes" ]; expect 0

echo "cache: $checks checks, $failures failed"
[ $failures -eq 0 ]
