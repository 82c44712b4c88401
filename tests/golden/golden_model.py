"""Tiny models with seeded weights: write them as checkpoints, quantise them, put adapters on them.

Two departures from a stock QLoRA run, both so that the reference follows one written rule:
- weights are quantised from the checkpoint's own values (widened exactly to fp32) whatever dtype the
  computation uses, and decoded straight to the compute dtype with one rounding;
- with double quantisation the second level uses the exact nearest code (golden_quant.nearest_nested).
"""
import json

import bitsandbytes as bnb
import bitsandbytes.functional as F
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from golden_io import DTYPES, generator, write_json, write_tensors
from golden_quant import BLOCK, checked_decode, quantize_nested, use_nearest_codes

COMPUTE = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _weight_std(name, tensor):
    """Spread that keeps activations near 1 and logits a few units wide, so losses and gradients are not flat."""
    if name.endswith("bias"):
        return 0.2
    if "embed_tokens" in name or "embed_in" in name:
        return 0.3
    return tensor.shape[1] ** -0.5


def _file_name(case, name):
    """GPT-NeoX checkpoints call the head embed_out, newer transformers lm_head like every other model's."""
    return name.replace("lm_head", "embed_out") if case.config["model_type"] == "gpt_neox" else name


def write_checkpoint(case, path):
    """config.json and `case.shards` safetensors files of seeded weights in the case's dtype."""
    write_json(path / "config.json", case.config)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), dtype=torch.float32)
    tensors = {}
    g = generator(case.seed)
    for name, tensor in sorted(model.named_parameters()):
        if name.endswith("norm.weight"):  # Gemma's are added to 1
            middle = 0.0 if case.config["model_type"].startswith("gemma") else 1.0
            value = middle + 0.2 * torch.randn(tensor.shape, generator=g)
        else:
            value = _weight_std(name, tensor) * torch.randn(tensor.shape, generator=g)
        tensors[_file_name(case, name)] = value.to(DTYPES[case.dtype])
    if case.shards == 1:
        write_tensors(path / "model.safetensors", tensors)
        return
    names, weight_map = sorted(tensors), {}
    for i in range(case.shards):
        file = f"model-{i + 1:05}-of-{case.shards:05}.safetensors"
        part = names[len(names) * i // case.shards:len(names) * (i + 1) // case.shards]
        write_tensors(path / file, {n: tensors[n] for n in part})
        weight_map |= {n: file for n in part}
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(path / "model.safetensors.index.json",
               {"metadata": {"total_size": total}, "weight_map": weight_map})


def _quantize_linear(linear, kind, nested, dtype):
    """A Linear4bit with this layer's weight. Returns (module, codes changed to the nearest, codes in all)."""
    q = bnb.nn.Linear4bit(linear.in_features, linear.out_features, bias=linear.bias is not None,
                          quant_type=kind, compress_statistics=nested, compute_dtype=dtype)
    changed = 0
    weight = linear.weight.detach().float()
    if nested:
        packed, state = quantize_nested(weight, kind)
        changed = use_nearest_codes(state)
    else:
        packed, state = F.quantize_4bit(weight, blocksize=BLOCK, quant_type=kind)
    state.dtype = dtype
    checked_decode(packed, state)
    q.weight = bnb.nn.Params4bit(packed, requires_grad=False, quant_state=state, quant_type=kind,
                                 blocksize=BLOCK, compress_statistics=nested, bnb_quantized=True, module=q)
    q.quant_state = state
    if linear.bias is not None:
        q.bias = linear.bias
    return q, changed, state.absmax.numel() if nested else 0


def load_base(case, path, compute, quantised=True, attention="eager"):
    """The checkpoint at `path`, its blocks' linear layers quantised as the case says, ready to compute."""
    dtype = COMPUTE[compute]
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation=attention)
    model.nested_changed = model.nested_codes = 0
    kind = case.options["quant_type"]
    if quantised and kind != "none":
        for name, module in list(model.named_modules()):
            if isinstance(module, torch.nn.Linear) and name != "lm_head":
                parent, _, leaf = name.rpartition(".")
                q, changed, codes = _quantize_linear(module, kind, case.options["double_quant"], dtype)
                setattr(model.get_submodule(parent), leaf, q)
                model.nested_changed += changed
                model.nested_codes += codes
        model.is_loaded_in_4bit = True
    for p in model.parameters():  # parameters only: inv_freq is a buffer and stays fp32
        p.requires_grad_(False)
        if p.is_floating_point():
            p.data = p.data.to(dtype)
    return model.train()  # train mode: in eval mode bitsandbytes repacks weights for a bf16 kernel


def write_adapter(case, base, path):
    """A PEFT adapter with seeded non-zero A and B of the case's spread, saved by PEFT itself."""
    o = case.options
    model = get_peft_model(base, LoraConfig(
        **{k: o[k] for k in ("layers_to_transform", "exclude_modules") if k in o},
        **{k: {m: float(v) if "." in v else int(v) for m, v in (item.split("=") for item in o[k])}
           for k in ("rank_pattern", "alpha_pattern") if k in o},
        r=o["lora_r"], lora_alpha=o["lora_alpha"], lora_dropout=o["lora_dropout"], bias="none",
        use_rslora=o["use_rslora"], target_modules=o["target_modules"], task_type="CAUSAL_LM"))
    g = generator(case.seed + 1000)
    for name, p in sorted(model.named_parameters()):
        if "lora_A" in name:
            p.data = (2 * torch.rand(p.shape, generator=g) - 1) * p.shape[1] ** -0.5
        elif "lora_B" in name:
            p.data = case.init_b_std * torch.randn(p.shape, generator=g)
    save_adapter(model, path)


def save_adapter(model, path):
    model.save_pretrained(path)
    (path / "README.md").unlink(missing_ok=True)
    (path / "adapter_model.safetensors").chmod(0o644)
    config = json.loads((path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = ""
    config["target_modules"] = (sorted(config["target_modules"])
                                if isinstance(config["target_modules"], list) else config["target_modules"])
    (path / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load_trainable(case, path, compute, attention="eager"):
    """The quantised base with the initial adapter on it, adapters fp32 and trainable."""
    base = load_base(case, path / "model", compute, attention=attention)
    model = PeftModel.from_pretrained(base, path / "init_adapter", is_trainable=True)
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    return model.train()


def adapter_tensors(model):
    """{PEFT file key: parameter}, the trainable ones."""
    return {n.replace(".default.", "."): p for n, p in model.named_parameters() if p.requires_grad}
