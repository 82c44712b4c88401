"""The same fine-tune with transformers + peft + bitsandbytes, for docs/performance.md: seconds per step, tokens/s, peak memory, losses.

    qlora-stream synth --shape llama-3.2-1b --out M --weights        (16-bit weights of the shape, 2.5 GB)
    python bench/compare_transformers.py data DATA.jsonl [LENGTH [ROWS]]    (random tokens: 4 rows of 1,024)
    python bench/compare_transformers.py train M DATA.jsonl [ROWS]   (rows per step: 1)
    qlora-stream train --model M --data DATA.jsonl ...               (the command is in docs/performance.md)

On the GPU where torch sees one, else on the CPU. Needs torch, transformers, peft and bitsandbytes of tests/golden/requirements.txt. NF4 with double quantisation, r = 16 on all
linears, gradient checkpointing, bf16, AdamW; the last of three steps counts. Peak memory is the resident set's on a CPU, and on a GPU what the driver says is in use.
"""

import json
import random
import resource
import sys
import time


def write_data(path, length=1024, vocab=128000, rows=4, seed=1):
    rng = random.Random(seed)
    with open(path, "w") as f:
        for _ in range(rows):
            ids = [rng.randrange(vocab) for _ in range(length)]
            f.write(json.dumps({"input_ids": ids, "labels": ids}) + "\n")


def train(model_dir, data, rows_per_step=1, steps=3):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    quant = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(model_dir, quantization_config=quant, dtype=torch.bfloat16, device_map={"": device})
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    model.config.use_cache = False
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    rows = [json.loads(line)["input_ids"] for line in open(data)]
    for step in range(steps):
        ids = torch.tensor([rows[(step * rows_per_step + i) % len(rows)] for i in range(rows_per_step)], device=device)
        start = time.time()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)
        optimizer.step()
        optimizer.zero_grad()
        value = loss.item()  # waits for the device
        seconds = time.time() - start
        print(f"step {step + 1}: {seconds:.2f} s, {ids.numel() / seconds:.1f} tokens/s, loss {value:.4f}, peak {peak_bytes(device) / (1 << 30):.2f} GiB", flush=True)


def peak_bytes(device):
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    import torch

    free, total = torch.cuda.mem_get_info()  # the caching allocator gives nothing back, so what is in use is a peak
    return total - free


if __name__ == "__main__":
    if len(sys.argv) in (3, 4, 5) and sys.argv[1] == "data":
        write_data(sys.argv[2], *map(int, sys.argv[3:]))
    elif len(sys.argv) in (4, 5) and sys.argv[1] == "train":
        train(sys.argv[2], sys.argv[3], *map(int, sys.argv[4:]))
    else:
        sys.exit(__doc__)
