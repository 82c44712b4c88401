#!/usr/bin/env python3
"""Ten training steps on bitsandbytes-4bit directories as transformers writes them, beside peft on the same directory.

    python compare_bnb_4bit.py PROGRAM [CASE...]

For NF4 and FP4, with and without double quantisation: the golden case's 16-bit model is quantised and saved by
transformers, loaded again by transformers + peft and by the program, and trained in fp32 from the same adapter.
Prints the largest relative difference of the losses; exits with 1 when one is above 1e-5.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.update(TORCHDYNAMO_DISABLE="1", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
import torch
import torch.nn.functional as nnf
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

HERE, STEPS, RATE = pathlib.Path(__file__).resolve().parent, 10, 1e-3
FORMS = [("nf4", True), ("nf4", False), ("fp4", True), ("fp4", False)]


def write(source, out, kind, nested):
    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_use_double_quant=nested,
                             bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, device_map="cpu", quantization_config=how)
    model.save_pretrained(out)


def peft_losses(model_dir, adapter, rows):
    base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32, device_map="cpu")
    model = PeftModel.from_pretrained(base, adapter, is_trainable=True).train()  # eval mode repacks weights on some CPUs
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    losses = []
    for row in rows[:STEPS]:
        logits = model(input_ids=torch.tensor([row["input_ids"]]), use_cache=False).logits[0, :-1]
        loss = nnf.cross_entropy(logits.float(), torch.tensor(row["labels"][1:]), ignore_index=-100)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def our_losses(program, model_dir, adapter, data, folder):
    options = {"model": model_dir, "data": data, "init_adapter": adapter, "out": folder / "out", "cache": folder / "cache",
               "max_steps": STEPS, "learning_rate": RATE, "lr_scheduler_type": "constant", "warmup_steps": 0,
               "optim": "adamw_torch", "weight_decay": 0, "adam_beta2": 0.999, "max_grad_norm": 0, "lora_dropout": 0,
               "per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "shuffle": "false", "packing": "false",
               "compute_dtype": "fp32", "vram": "256M", "ram": "256M", "report_to": "none"}
    subprocess.run([program, "train", *(f"--{k}={v}" for k, v in options.items()), "--quiet"], check=True)
    lines = (folder / "out" / "metrics.jsonl").read_text().splitlines()
    return [r["loss"] for r in map(json.loads, lines) if "loss" in r]


def main(program, *cases):
    torch.set_num_threads(1)
    worst = 0.0
    for case in cases or ("llama", "qwen2", "gpt_neox"):
        rows = [json.loads(line) for line in open(HERE / case / "data.jsonl", encoding="utf-8")]
        for kind, nested in FORMS:
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                write(HERE / case / "model", folder / "model", kind, nested)
                theirs = peft_losses(folder / "model", HERE / case / "init_adapter", rows)
                ours = our_losses(program, folder / "model", HERE / case / "init_adapter", HERE / case / "data.jsonl", folder)
            assert len(ours) == len(theirs) == STEPS, (ours, theirs)
            off = max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True))
            print(f"{case} {kind}{' double-quantised' if nested else ''}: losses within {off:.1e}")
            worst = max(worst, off)
    sys.exit(worst > 1e-5)


if __name__ == "__main__":
    main(*sys.argv[1:])
