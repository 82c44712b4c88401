"""Files of the golden vectors: safetensors and JSON, written so that two runs give the same bytes.

Only the standard safetensors layout is used (no metadata beyond {"format": "pt"}), so a C reader that
knows shapes and dtypes from the header needs nothing else. JSON is indented and key-sorted; floats are
printed by repr, i.e. with every digit a double needs.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def write_tensors(path, tensors):
    """Write {name: tensor} to `path`. Tensors are made contiguous and unshared first."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in sorted(tensors.items())},
              str(path), metadata={"format": "pt"})
    path.chmod(0o644)


def write_json(path, value):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_jsonl(path, rows):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def generator(seed):
    """A fresh CPU generator: every set has its own seed, so adding one does not change the others."""
    g = torch.Generator()
    g.manual_seed(seed)
    return g
