"""Packed documents must cost what they cost alone: packing.json holds the loss of the same documents both ways.

Documents are concatenated into rows; attention is block-diagonal (a document sees itself only), positions start
again at 0 in each document, and a document's first token is never a target. The models are those of two training
cases with their initial adapters; mistral adds the sliding window inside each block.
"""
import torch
import torch.nn.functional as nnf

from golden_cases import CASES
from golden_io import write_json
from golden_model import load_trainable
from golden_train import loss_sum, make_data, shifted_targets

DOCUMENTS = 12
ROW_TOKENS = 64


def pack(rows):
    """Fill rows of ROW_TOKENS in file order; a document that does not fit starts the next row."""
    packed = [[]]
    for r in rows:
        if packed[-1] and sum(len(d["input_ids"]) for d in packed[-1]) + len(r["input_ids"]) > ROW_TOKENS:
            packed.append([])
        packed[-1].append(r)
    return packed


def packed_loss_sum(model, documents, window):
    """Loss sum of one packed row, with the mask and the positions spelled out."""
    ids = torch.tensor([sum((d["input_ids"] for d in documents), [])])
    position = torch.tensor([sum((list(range(len(d["input_ids"]))) for d in documents), [])])
    owner = torch.tensor(sum(([i] * len(d["input_ids"]) for i, d in enumerate(documents)), []))
    targets = torch.tensor(sum((d["labels"][1:] + [-100] for d in documents), []))
    at = torch.arange(len(owner))
    seen = (owner[:, None] == owner[None, :]) & (at[None, :] <= at[:, None])
    if window:
        seen &= at[None, :] > at[:, None] - window
    mask = torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None]
    logits = model(input_ids=ids, position_ids=position, attention_mask=mask, use_cache=False).logits[0]
    return float(nnf.cross_entropy(logits.double(), targets, ignore_index=-100, reduction="sum"))


def make(out):
    result = {}
    for case in (c for c in CASES if c.name in ("llama", "mistral")):
        rows = make_data(case)[:DOCUMENTS]
        model = load_trainable(case, out / case.name, "fp32")
        packed = pack(rows)
        with torch.no_grad():
            alone = [loss_sum(model, [r], "fp32")[1] for r in rows]
            together = sum(packed_loss_sum(model, d, case.config.get("sliding_window")) for d in packed)
        tokens = shifted_targets(rows)
        result[case.name] = {
            "documents": DOCUMENTS, "target_tokens": tokens, "loss": sum(alone) / tokens,
            "document_loss_sums": alone, "row_tokens": ROW_TOKENS, "packed_loss": together / tokens,
            "packed_rows": [[len(d["input_ids"]) for d in row] for row in packed]}
        assert abs(together / sum(alone) - 1) < 1e-6
    write_json(out / "packing.json", result)
