"""bitsandbytes' CUDA optimizer rules written out in fp32 torch, and vectors of every optimizer.

bitsandbytes runs on the CPU too, but there its AdamW decays weights before the step and its 8-bit state is
encoded through a lookup table. The CUDA kernels are what people train with, so their rules are restated here
(csrc/kernels.cu: kOptimizer32bit2State, kOptimizerStatic8bit2StateBlockwise) with plain IEEE fp32 operations
in place of fast-math ones, one rounding per operation, no fused multiply-add.
"""
import math

import bitsandbytes as bnb
import bitsandbytes.functional as F
import torch
from peft.optimizers import create_loraplus_optimizer

from golden_io import generator, write_json, write_tensors

STATE_BLOCK = 256
MIN_8BIT_ELEMENTS = 4096


def _f32(x):
    return torch.tensor(x, dtype=torch.float32)


def nearest_code(x, code):
    """Search over fp32 midpoints of neighbouring entries; an exact tie goes to the even index."""
    bounds = (code[:-1] + code[1:]) * 0.5
    low = torch.bucketize(x, bounds)               # tie -> lower index
    high = torch.bucketize(x, bounds, right=True)  # tie -> upper index
    return torch.where(low % 2 == 0, low, high)


def encode_state(values, code, signed):
    """(codes u8, absmax) of one flat fp32 tensor in blocks of 256, with the sign repair of the m state."""
    codes, tops = [], []
    for block in values.split(STATE_BLOCK):
        top = block.abs().max()
        c = nearest_code(block / top, code) if top > 0 else torch.zeros(block.shape, dtype=torch.int64)
        if signed:
            wrong = torch.signbit(code[c]) != torch.signbit(block)
            c = torch.where(wrong, torch.where(block > 0, c + 1, c - 1) % 256, c)
        codes.append(c.to(torch.uint8))
        tops.append(top)
    return torch.cat(codes), torch.stack(tops)


def decode_state(codes, absmax, code):
    return code[codes.long()] * absmax.repeat_interleave(STATE_BLOCK)[:codes.numel()]


class CudaRulesAdamW(torch.optim.Optimizer):
    """AdamW of bitsandbytes as its CUDA kernels compute it; `bits` 8 applies to tensors of >= 4096 elements."""

    def __init__(self, params, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, bits=32):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.bits = bits
        self.signed_map = F.create_dynamic_map(signed=True)
        self.unsigned_map = F.create_dynamic_map(signed=False)

    def uses_8bit(self, p):
        return self.bits == 8 and p.numel() >= MIN_8BIT_ELEMENTS

    def _load(self, p):
        s = self.state[p]
        if not s:
            s["step"] = 0
            s["state1"] = s["state2"] = torch.zeros(p.numel())
            if self.uses_8bit(p):
                blocks = -(-p.numel() // STATE_BLOCK)
                s["state1"] = s["state2"] = torch.zeros(p.numel(), dtype=torch.uint8)
                s["absmax1"] = s["absmax2"] = torch.zeros(blocks)
        if self.uses_8bit(p):
            return (decode_state(s["state1"], s["absmax1"], self.signed_map),
                    decode_state(s["state2"], s["absmax2"], self.unsigned_map))
        return s["state1"], s["state2"]

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, (b1, b2) = group["lr"], group["betas"]
            for p in group["params"]:
                m, v = self._load(p)
                s = self.state[p]
                s["step"] += 1
                g = p.grad.flatten()
                m = m * _f32(b1) + _f32(1 - b1) * g
                if self.uses_8bit(p):
                    v = v * _f32(b2) + (_f32(1 - b2) * g) * g
                else:
                    v = v * _f32(b2) + _f32(1 - b2) * (g * g)
                c1, c2 = 1 - b1 ** s["step"], math.sqrt(1 - b2 ** s["step"])
                new = p.flatten() + _f32(-lr * c2 / c1) * (m / (v.sqrt() + _f32(group["eps"] * c2)))
                if group["weight_decay"] > 0:
                    new = new * _f32(1 - lr * group["weight_decay"])
                p.copy_(new.reshape(p.shape))
                if self.uses_8bit(p):
                    s["state1"], s["absmax1"] = encode_state(m, self.signed_map, True)
                    s["state2"], s["absmax2"] = encode_state(v, self.unsigned_map, False)
                else:
                    s["state1"], s["state2"] = m, v


def make_loraplus(options, model):
    """PEFT's LoRA+ optimizer around plain AdamW."""
    o = options
    return create_loraplus_optimizer(model, torch.optim.AdamW, lr=o["learning_rate"],
                                     loraplus_lr_ratio=o["loraplus_lr_ratio"], loraplus_weight_decay=o["weight_decay"],
                                     betas=(o["adam_beta1"], o["adam_beta2"]), eps=o["adam_epsilon"],
                                     foreach=False, fused=False)


def make_optimizer(options, rules, params):
    """The optimizer named by `optim`. rules: "cuda" or "cpu" picks whose 8-bit arithmetic, "" is the default."""
    o = options
    kw = {"lr": o["learning_rate"], "betas": (o["adam_beta1"], o["adam_beta2"]), "eps": o["adam_epsilon"],
          "weight_decay": o["weight_decay"]}
    name = o["optim"]
    if name == "adamw_torch":
        return torch.optim.AdamW(params, foreach=False, fused=False, **kw)
    bits = 8 if name.endswith("8bit") else 32
    if rules == "cuda":
        return CudaRulesAdamW(params, bits=bits, **kw)
    return (bnb.optim.AdamW8bit if bits == 8 else bnb.optim.PagedAdamW32bit)(params, **kw)


STEPS = 5
HYPER = {"learning_rate": 1e-3, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8,
         "weight_decay": 0.01}


def _start(n):
    """Parameters, and gradients whose size spans five decades; a few are exactly zero."""
    p = torch.randn(n, generator=generator(500 + n)) * 0.1
    spread = torch.logspace(-5, 0, n)[torch.randperm(n, generator=generator(501 + n))]
    g = torch.randn(STEPS, n, generator=generator(502 + n)) * spread * 0.01
    g[:, ::97] = 0
    return p, g


def _run(optimizer, p, grads):
    """Parameters after each step, stacked [STEPS, n]."""
    after = []
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
        after.append(p.detach().clone())
    return torch.stack(after)


def make(out):
    """optimizer.safetensors: parameters after 5 steps of each optimizer, and the state it ends with."""
    tensors, index = {}, []
    runs = (("adamw_torch", "", 300), ("adamw_32bit", "cpu", 300), ("adamw_32bit", "cuda", 300),
            ("adamw_8bit", "cpu", 4096 + 37), ("adamw_8bit", "cuda", 4096 + 37), ("adamw_8bit", "cuda", 300))
    for optim, rules, n in runs:
        start, grads = _start(n)
        p = torch.nn.Parameter(start.clone())
        optimizer = make_optimizer(HYPER | {"optim": optim}, rules, [p])
        key = "_".join(filter(None, (optim, rules, str(n))))
        tensors |= {f"start_{n}": start, f"grad_{n}": grads, f"{key}.param": _run(optimizer, p, grads)}
        for name, value in optimizer.state[p].items():
            if torch.is_tensor(value) and value.numel() > 1 and not name.startswith("qmap"):
                tensors[f"{key}.{name}"] = value
        index.append({"key": key, "optim": optim, "rules": rules or "torch", "n": n})
    zero = torch.zeros(300)
    edge = torch.cat([torch.tensor([-0.0, 1e-9, -1e-9, 1.0, -1.0, 0.5]), torch.randn(506, generator=generator(9))])
    for name, values in (("zero", zero), ("edge", edge)):
        for kind, signed in (("signed", True), ("unsigned", False)):
            x = values if signed else values.abs()
            code = F.create_dynamic_map(signed=signed)
            codes, absmax = encode_state(x, code, signed)
            tensors |= {f"state_{name}_{kind}.x": x, f"state_{name}_{kind}.codes": codes,
                        f"state_{name}_{kind}.absmax": absmax}
    write_tensors(out / "optimizer.safetensors", tensors)
    write_json(out / "optimizer.json", {"options": HYPER, "steps": STEPS, "runs": index})
