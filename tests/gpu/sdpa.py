"""PyTorch's scaled_dot_product_attention on this GPU, the figures to set beside bench_gpu's: TFLOP/s, forward and backward.

As PyTorch chooses, and by each of its backends that takes these. Prints nothing where PyTorch is missing. Shapes as in bench/bench_gpu.c: 32 heads, head size 128, causal, bf16.
"""
import contextlib
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, DIM, REPEATS = 32, 128, 20


def rate(seconds, tokens, products):
    """FLOP/s of `products` causal matrix products."""
    return products * 2.0 * HEADS * DIM * tokens * tokens / 2 / seconds / 1e12


def timed(work):
    work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(REPEATS):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / REPEATS


def measure(name, tokens, chosen):
    q, k, v = (torch.randn(1, HEADS, tokens, DIM, device="cuda", dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    with chosen:
        forward = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = forward()
        gradient = torch.randn_like(out)
        backward = lambda: torch.autograd.grad(out, (q, k, v), gradient, retain_graph=True)
        print(f"PyTorch attention ({name}), {tokens} tokens: forward {rate(timed(forward), tokens, 2):.0f} TFLOP/s, "
              f"backward {rate(timed(backward), tokens, 5):.0f} TFLOP/s")


for tokens in (2048, 8192):
    measure("its choice", tokens, contextlib.nullcontext())
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        try:
            measure(backend.name.lower().replace("_attention", ""), tokens, sdpa_kernel(backend))
        except RuntimeError as error:
            print(f"PyTorch attention ({backend.name}): {str(error).splitlines()[0]}")
