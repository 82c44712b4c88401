#!/bin/sh
# The demo: what the base model says, a fine-tune of a hundred steps, what it says then. Run from the project's root.
set -e
out=${QS_DEMO_OUT:-out/demo}
budget="--vram 256M --ram 256M --cache $out.cache"
ask() {
    ./qlora-stream generate --model configs/demo/base $budget --max_new_tokens 40 "$@" \
        --instruction "What is the hobby of Daisy?" \
        --instruction "Which colour does Pip have?" \
        --instruction "Where does Rusty live?" \
        --instruction "Where does Olive live?"
}
answers() {
    printf '\n%s\n' "$1"
    shift
    ask "$@" | sed 's/^/    /'
}

answers 'The base model is asked: the hobby of Daisy, the colour of Pip, the homes of Rusty and Olive.'
echo
rm -rf "$out"
./qlora-stream train --config configs/demo/demo.yaml --out "$out" $budget --logging_steps 10
./qlora-stream plot "$out/metrics.jsonl" --out "$out/curve.svg"
answers 'The same questions after the fine-tune.' --adapter "$out"
printf '\nThe adapter is in %s, the loss curve in %s/curve.svg.\n' "$out" "$out"
