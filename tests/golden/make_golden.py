#!/usr/bin/env python3
"""Regenerate the golden vectors in this directory from transformers, peft and bitsandbytes.

    pip install -r requirements.txt
    python make_golden.py [part ...]        parts: see PARTS (default: all), or a training case by its name

Nothing is downloaded: models are built from configurations with seeds. One thread and eager mode, so that
two runs on the same machine give the same bytes; on another machine the last bits of the matrix products
may differ, which is far inside the tolerances the tests use.
"""
import os
import pathlib
import sys

os.environ.update(TORCHDYNAMO_DISABLE="1", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1",
                  CUDA_VISIBLE_DEVICES="")
import torch

import golden_cases
import golden_optim
import golden_packing
import golden_quant
import golden_tables
import golden_train

HERE = pathlib.Path(__file__).resolve().parent
PARTS = {"quant": golden_quant.make, "cases": golden_train.make, "packing": golden_packing.make,
         "optimizer": golden_optim.make, "tables": golden_tables.make}


def main(names):
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    cases = {case.name for case in golden_cases.CASES}
    for name in names or PARTS:
        if name in PARTS:
            PARTS[name](HERE)
        elif name in cases:
            golden_train.make(HERE, [name])
        else:
            sys.exit(f"unknown part '{name}', expected one of: {', '.join([*PARTS, *cases])}")
    total = sum(f.stat().st_size for f in HERE.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    print(f"{HERE.name}: {total} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
