#!/usr/bin/env python3
"""Make the demo: a byte-level BPE tokenizer, a tiny Llama trained from scratch, and the instruction data.

    pip install -r requirements.txt
    python make_base.py [base|data ...]      default: both

Text comes from the grammar in demo_stories.py and demo_instructions.py, everything from fixed seeds; nothing is
downloaded. `base` takes about ten minutes on two idle cores. The files it writes are committed, so a demo needs no Python.
"""
import json
import math
import os
import pathlib
import random
import re
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SPECIAL = ("<|pad|>", "<|bos|>", "<|eos|>")
PAD, BOS, EOS = range(3)
VOCAB = 1024
ROW_TOKENS, ROWS, STEPS = 128, 32, 1300
PEAK_LR, WARMUP = 3e-3, 100

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 128,
          "intermediate_size": 352, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
          "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None,
          "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False, "vocab_size": VOCAB,
          "bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD, "torch_dtype": "bfloat16"}

ALPACA = ("Below is an instruction that describes a task, paired with an input that provides further context. "
          "Write a response that appropriately completes the request.\n\n### Instruction:\n\n\n### Input:\n\n\n"
          "### Response:\n")


def documents(seed, count):
    from demo_stories import text
    r = random.Random(seed)
    return [text(r) for _ in range(count)]


def data():
    """train.jsonl and validation.jsonl, Alpaca columns."""
    from demo_instructions import dataset
    known = set(re.findall("[A-Za-z]+", " ".join(documents("words", 2000))))
    for name, rows in zip(("train", "validation"), dataset(random.Random(2), known)):
        (HERE / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{name}.jsonl: {len(rows)} rows")


def make_tokenizer(path):
    """Byte-level BPE over stories and the words of the instruction data, so that no text falls to single bytes."""
    from demo_instructions import tokenizer_rows
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB, special_tokens=[AddedToken(s, special=True) for s in SPECIAL],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    asked = [" ".join(row.values()) for row in tokenizer_rows(random.Random(2))]
    tokenizer.train_from_iterator(documents(1, 4000) + asked * 2 + [ALPACA] * 500, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[BOS]} $A", special_tokens=[(SPECIAL[BOS], BOS)])
    tokenizer.save(str(path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[BOS], "eos_token": SPECIAL[EOS],
              "pad_token": SPECIAL[PAD], "model_max_length": CONFIG["max_position_embeddings"],
              "clean_up_tokenization_spaces": False}
    (path / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return tokenizer


def token_stream(tokenizer, seed, tokens_wanted):
    """BOS text EOS BOS text EOS ... as one int32 tensor of `tokens_wanted` ids."""
    import torch
    parts, have = [], 0
    while have < tokens_wanted:
        encoded = tokenizer.encode_batch(documents(f"{seed}.{len(parts)}", 2000))
        parts.append(torch.tensor([i for e in encoded for i in (*e.ids, EOS)], dtype=torch.int32))
        have += len(parts[-1])
    return torch.cat(parts)[:tokens_wanted]


def learning_rate(step):
    if step < WARMUP:
        return PEAK_LR * (step + 1) / WARMUP
    done = (step - WARMUP) / (STEPS - WARMUP)
    return PEAK_LR * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def train(tokenizer, path):
    """Next-token training on the story stream. Every step sees new text: there are no epochs."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    torch.manual_seed(0)
    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), dtype=torch.float32).train()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    other = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}],
                                  lr=PEAK_LR, betas=(0.9, 0.98), fused=True)
    stream = token_stream(tokenizer, "train", STEPS * ROWS * ROW_TOKENS).view(STEPS, ROWS, ROW_TOKENS)
    held_out = token_stream(tokenizer, "held out", 32 * ROW_TOKENS).view(32, ROW_TOKENS).long()
    print(f"parameters {sum(p.numel() for p in model.parameters())}, training tokens {stream.numel()}")
    began = time.monotonic()
    for step in range(STEPS):
        rows = stream[step].long()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=rows, labels=rows, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 250 == 0 or step == STEPS - 1:
            with torch.no_grad():
                valid = model(input_ids=held_out, labels=held_out, use_cache=False).loss
            print(f"step {step} loss {loss.item():.4f} held out {valid.item():.4f} "
                  f"{time.monotonic() - began:.0f} s", flush=True)
    return model


def base():
    from safetensors.torch import save_file
    import torch
    path = HERE / "base"
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    model = train(make_tokenizer(path), path)
    save_file({n: p.detach().to(torch.bfloat16).contiguous() for n, p in model.named_parameters()},
              str(path / "model.safetensors"), metadata={"format": "pt"})
    (path / "model.safetensors").chmod(0o644)


def main(names):
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", CUDA_VISIBLE_DEVICES="",
                      OMP_WAIT_POLICY="PASSIVE")
    parts = {"data": data, "base": base}
    for name in names or parts:
        if name not in parts:
            sys.exit(f"unknown part '{name}', expected data or base")
        parts[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
