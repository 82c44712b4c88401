#!/usr/bin/env python3
"""Multiple-choice answers of `qlora-stream eval` beside a plain computation with transformers, answer by answer.

    python compare_eval.py PROGRAM MODEL MMLU-FOLDER SHOTS SUBJECT...

The plain computation: one forward pass in fp32 per choice, the sum of the log-probabilities of the continuation's tokens,
text cut into tokens as lm-eval does. Exits with 1 when an answer differs whose two best choices are further apart than
rounding (1e-3); prints how many were compared and how many were that close.
"""
import csv
import json
import pathlib
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def read(path):
    rows = [r for r in csv.reader(open(path, encoding="utf-8", newline="")) if r]
    return rows if rows[0][5] in "ABCD0123" else rows[1:]


def render(row, solved):
    letter = row[5] if row[5] in "ABCD" else "ABCD"[int(row[5])]
    text = f"{row[0]}\n" + "".join(f"{c}. {t}\n" for c, t in zip("ABCD", row[1:5])) + "Answer:"
    return text + (f" {letter}\n\n" if solved else "")


def scores(model, tokenizer, context, continuations, limit):
    out = []
    bos = [tokenizer.bos_token_id] if tokenizer("a").input_ids[0] == tokenizer.bos_token_id else []
    for c in continuations:
        whole = bos + tokenizer(context + c, add_special_tokens=False).input_ids
        n = len(bos) + len(tokenizer(context.rstrip(" "), add_special_tokens=False).input_ids)
        cut = max(0, len(whole) - limit)
        whole, n = whole[cut:], n - cut
        with torch.no_grad():
            logp = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
        out.append(sum(float(logp[i - 1, whole[i]]) for i in range(n, len(whole))))
    return out


def main(program, model_dir, folder, shots, *subjects):
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    folder, bad, close, compared = pathlib.Path(folder), 0, 0, 0
    files = [f"{folder}/test/{s}_test.csv" for s in subjects]
    said = subprocess.run([program, "eval", "--model", model_dir, "--tasks", ",".join(files), "--shots", shots, "--quant_type", "none",
                           "--compute_dtype", "fp32", "--vram", "512M", "--ram", "512M", "--quiet", "--json"],
                          capture_output=True, text=True, check=True).stdout
    ours = json.loads(said)["base"]["tasks"]
    for subject, path in zip(subjects, files):
        head = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        if int(shots):
            head += "".join(render(r, True) for r in read(folder / "dev" / f"{subject}_dev.csv")[:int(shots)])
        for i, row in enumerate(read(path)):
            values = scores(model, tokenizer, head + render(row, False), [f" {c}" for c in "ABCD"],
                            min(4096, model.config.max_position_embeddings))
            best = max(range(4), key=values.__getitem__)
            top = sorted(values)[-2:]
            compared += 1
            if ours[subject]["chosen"][i] != best:
                close += top[1] - top[0] <= 1e-3
                bad += top[1] - top[0] > 1e-3
    print(f"{compared} answers compared, {bad} differ, {close} differ within rounding")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
