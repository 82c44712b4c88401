"""Train every case for 20 steps and write down what happened.

The loop is the plain one: micro-batches are consecutive samples of the data file, padded on the right; the
loss of a step is the sum of the token losses of all its micro-batches divided by the number of target tokens
in the step *after* the shift (a label at position 0 is never a target), which transformers' Trainer counts
differently.
"""
import copy

import torch
import torch.nn.functional as nnf
from safetensors.torch import load_file
from transformers import get_scheduler

from golden_cases import CASES
from golden_io import generator, write_json, write_jsonl, write_tensors
from golden_model import adapter_tensors, load_base, load_trainable, save_adapter, write_adapter, write_checkpoint
from golden_optim import make_loraplus, make_optimizer


def make_data(case):
    """Samples whose next token mostly follows one of two affine rules, so that there is something to learn."""
    o = case.options
    count = o["max_steps"] * o["per_device_train_batch_size"] * o["gradient_accumulation_steps"]
    vocab = case.config["vocab_size"]
    g = generator(case.seed + 2000)

    def draw(low, high):
        return int(torch.randint(low, high, (1,), generator=g))

    rows = []
    for i in range(count):
        n = draw(case.lengths[0], case.lengths[1] + 1)
        mul, add = ((3, 1), (1, 2))[draw(0, 4) == 0]
        ids = [1, draw(4, vocab)]
        while len(ids) < n:
            ids.append(draw(4, vocab) if draw(0, 20) == 0 else (ids[-1] * mul + add) % (vocab - 4) + 4)
        if i % 3 == 0:
            ids[-1] = 2
        prompt = draw(1, n - 1)
        if i % 5 == 3:
            prompt = 0                  # every token labelled, the first one can never be a target
        labels = [-100] * prompt + ids[prompt:]
        if i % 5 == 4 and n > 8:
            labels[n // 2] = -100       # a hole, as between two turns
        rows.append({"input_ids": ids, "labels": labels})
    rows[1] = {"input_ids": rows[1]["input_ids"][:2], "labels": rows[1]["input_ids"][:2]}
    return rows


def collate(rows):
    """(ids, attention mask, labels), padded on the right to the longest row."""
    width = max(len(r["input_ids"]) for r in rows)

    def pad(values, fill):
        return torch.tensor([v + [fill] * (width - len(v)) for v in values])

    return (pad([r["input_ids"] for r in rows], 0), pad([[1] * len(r["input_ids"]) for r in rows], 0),
            pad([r["labels"] for r in rows], -100))


def shifted_targets(rows):
    return sum(label != -100 for r in rows for label in r["labels"][1:])


def loss_sum(model, rows, compute):
    """(sum of token losses as the model computes it, the same in fp64 from the same logits)."""
    ids, mask, labels = collate(rows)
    with torch.autocast("cpu", torch.bfloat16, enabled=compute == "bf16"):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    logits, targets = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    loss = nnf.cross_entropy(logits.float(), targets, ignore_index=-100, reduction="sum")
    exact = nnf.cross_entropy(logits.detach().double(), targets, ignore_index=-100, reduction="sum")
    return loss, float(exact)


def train(case, path, rows, compute, rules="", other_sums=False):
    """Run the case. Returns (per-step rows, trained model, gradients of the first step before clipping).

    other_sums runs the same mathematics with sums cut differently (samples one by one, another attention
    kernel): how far it ends from the plain run is the rounding noise of the reference itself.
    """
    o = case.options
    other = "eager" if case.config.get("attn_logit_softcapping") else "sdpa"  # which has no soft caps
    model = load_trainable(case, path, compute, other if other_sums else "eager")
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_loraplus(o, model) if "loraplus_lr_ratio" in o else make_optimizer(o, rules, params)
    schedule = get_scheduler(o["lr_scheduler_type"], optimizer, o["warmup_steps"], o["max_steps"])
    micro = 1 if other_sums else o["per_device_train_batch_size"]
    per_step = o["per_device_train_batch_size"] * o["gradient_accumulation_steps"]
    history, first = [], None
    for step in range(o["max_steps"]):
        batch = rows[step * per_step:(step + 1) * per_step]
        tokens = shifted_targets(batch)
        total = 0.0
        for i in range(0, per_step, micro):
            loss, exact = loss_sum(model, batch[i:i + micro], compute)
            (loss / tokens).backward()
            total += exact
        if first is None:
            first = {n: p.grad.clone() for n, p in adapter_tensors(model).items()}
        limit = o["max_grad_norm"] if o["max_grad_norm"] > 0 else float("inf")
        norm = torch.nn.utils.clip_grad_norm_(params, limit)
        history.append({"step": step + 1, "loss": total / tokens, "learning_rate": schedule.get_last_lr()[0],
                        "grad_norm": float(norm), "tokens": tokens})
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return history, model, first


def spread(a, b):
    """Largest relative difference of the losses of two runs."""
    return max(abs(x["loss"] - y["loss"]) / x["loss"] for x, y in zip(a, b, strict=True))


def write_logits(case, path, rows):
    """logits.safetensors: fp32 logits of the plain model, of the quantised one and of it with the adapter."""
    ids = torch.tensor([(rows[i]["input_ids"] * 24)[:24] for i in (0, 2)])
    with torch.no_grad():
        tensors = {"input_ids": ids.to(torch.int32),
                   "logits": load_base(case, path / "model", "fp32", quantised=False)(ids).logits}
        if case.options["quant_type"] != "none":
            tensors["logits_quantised"] = load_base(case, path / "model", "fp32")(ids).logits
        tensors["logits_adapter"] = load_trainable(case, path, "fp32")(ids).logits
    write_tensors(path / "logits.safetensors", tensors)


def make_case(case, out):
    path = out / case.name
    rows = make_data(case)
    write_jsonl(path / "data.jsonl", rows)
    write_checkpoint(case, path / "model")
    base = load_base(case, path / "model", "fp32")
    note = {"nested_codes": base.nested_codes, "nested_codes_not_bitsandbytes": base.nested_changed}
    write_adapter(case, base, path / "init_adapter")
    write_logits(case, path, rows)
    expected, noise = {}, {}
    for rules in case.rules:
        suffix = f"_{rules}" if len(case.rules) > 1 and rules != case.rules[0] else ""
        history, model, first = train(case, path, rows, "fp32", rules)
        expected["fp32" + suffix] = history
        final = {n: p.detach().clone() for n, p in adapter_tensors(model).items()}
        write_tensors(path / f"final_adapter{suffix}.safetensors", final)
        if not suffix:
            write_tensors(path / "first_gradients.safetensors", first)
            expected["bf16"] = train(case, path, rows, "bf16", rules)[0]
        again, model, _ = train(case, path, rows, "fp32", rules, other_sums=True)
        noise["fp32" + suffix] = {
            "loss_relative": spread(history, again),
            "adapter_absolute": max(float((p.detach() - final[n]).abs().max())
                                    for n, p in adapter_tensors(model).items()),
            "adapter_largest": max(float(t.abs().max()) for t in final.values())}
    options = copy.deepcopy(case.options)
    write_json(path / "train.json", {"options": options, "expected": expected, "notes": note,
                                     "noise_other_sums": noise})
    print(case.name, "loss", history[0]["loss"], "->", history[-1]["loss"],
          "bf16", spread(expected["fp32"], expected["bf16"]), noise, note)


def make(out, names=()):
    for case in CASES:
        if not names or case.name in names:
            make_case(case, out)
