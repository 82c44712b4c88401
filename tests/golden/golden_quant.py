"""Golden vectors of 4-bit quantisation: quant.safetensors, double_quant.safetensors, bnb_linear.safetensors.

Everything here is what bitsandbytes' CPU path answers for quantize_4bit(blocksize=64), except the
tensors named `nearest_*`, which are our own statement of the exact nearest code (see nearest_nested).
"""
import torch
import bitsandbytes as bnb
import bitsandbytes.functional as F
from bitsandbytes.backends.default.ops import _get_4bit_quantize_bounds

from golden_io import DTYPES, generator, write_json, write_tensors

BLOCK = 64
NESTED_BLOCK = 256
TYPES = ("nf4", "fp4")


def normal(n, seed, std=0.02):
    return torch.randn(n, generator=generator(seed)) * std


def zero_blocks():
    """Five blocks and a tail: blocks 0, 2 and the tail are all zero, block 3 is all -0.0."""
    x = normal(5 * BLOCK + 8, 101)
    x[:64] = 0
    x[128:192] = 0
    x[192:256] = -0.0
    x[320:] = 0
    return x


def denormals():
    """A block of denormals only, one mixed with normals, one with the smallest denormal, a denormal tail."""
    x = normal(3 * BLOCK + 5, 102, 1.0)
    x[:64] *= 1e-40
    x[64:96] *= 1e-39
    x[128:192] = 0
    x[130] = 1e-45
    x[192:] *= 1e-41
    return x


def huge():
    """Blocks near the largest fp32 number (the reciprocal is a denormal), one outlier among small values."""
    x = normal(3 * BLOCK + 11, 103, 1.0).clamp(-3, 3)
    x[:64] *= 1.1e38
    x[70] = -3.4e38
    x[128:192] *= 1e30
    x[192:] *= 5e37
    return x


def ties(thresholds):
    """Every decision threshold, its two fp32 neighbours and their negatives, under several block scales.

    Powers of two keep x * (1/absmax) exact, so the threshold itself is met; 3, 0.1 and 0.7 round, which
    tells a reciprocal multiply (full blocks) from a division (the last, partial block).
    """
    probes = []
    for t in thresholds:
        up, down = torch.nextafter(t, torch.tensor(9.0)), torch.nextafter(t, torch.tensor(-9.0))
        probes += [t, up, down, -t, -up, -down]
    probes = torch.stack(probes)
    blocks = []
    for scale in (1.0, 0.5, 2.0**-10, 3.0, 0.1, 0.7, 1.0 / 3.0):
        for part in probes.split(BLOCK - 1):
            block = torch.zeros(BLOCK)
            block[0] = scale
            block[1:1 + len(part)] = part * torch.tensor(scale)
            blocks.append(block)
    tail = torch.cat([torch.tensor([0.7]), probes[:30] * torch.tensor(0.7)])
    return torch.cat(blocks + [tail])


def input_sets():
    """{name: (fp32 tensor, description)}; each is also rounded to bf16 and f16 and quantised from there."""
    sets = {f"n{n}": (normal(n, n), "normal, std 0.02")
            for n in (1, 2, 3, 63, 64, 65, 127, 128, 129, 191, 1023, 4096, 11008 + 17)}
    sets["zero"] = (zero_blocks(), "blocks 0, 2 and the tail zero, block 3 all -0.0")
    sets["denormal"] = (denormals(), "denormal blocks; as f16 mostly zero")
    sets["huge"] = (huge(), "close to the largest fp32; as f16 clamped to +-65504")
    for kind in TYPES:
        bounds = _get_4bit_quantize_bounds(kind, torch.device("cpu"))[0]
        sets[f"tie_{kind}"] = (ties(bounds), f"{kind} thresholds, their neighbours, several scales")
    tiny = torch.tensor([1.0, 0.0, -0.0, 1e-9, -1e-9, 1e-3, -1e-3, -1.0] * 8)
    sets["signed_zero"] = (tiny, "FP4 codes 0 and 8: what rounds to zero from either side")
    return sets


def quant_vectors(out):
    tensors, index = {}, []
    for name, (x32, text) in input_sets().items():
        for dt, dtype in DTYPES.items():
            x = x32.clamp(-65504, 65504).to(dtype) if dt == "f16" else x32.to(dtype)
            if dt == "bf16":  # a value that rounds up to infinity is no weight
                x = torch.where(torch.isinf(x), torch.full_like(x, 3.3e38), x)
            tensors[f"{name}.{dt}.x"] = x
            for kind in TYPES:
                packed, state = F.quantize_4bit(x, blocksize=BLOCK, quant_type=kind)
                key = f"{name}.{dt}.{kind}"
                tensors[f"{key}.packed"] = packed.flatten()
                tensors[f"{key}.absmax"] = state.absmax
                if dt == "f32":
                    for dq, dq_type in DTYPES.items():
                        state.dtype = dq_type
                        tensors[f"{key}.dq_{dq}"] = F.dequantize_4bit(packed, state).flatten()
        index.append({"name": name, "n": x32.numel(), "text": text})
    write_tensors(out / "quant.safetensors", tensors)
    write_json(out / "quant.json", {"blocksize": BLOCK, "sets": index, "types": list(TYPES)})


def nearest_nested(absmax, code):
    """(codes u8, nested_absmax, offset): the exact nearest entry of `code` for every absmax.

    offset is the fp64 mean rounded to fp32; v = absmax - offset and x = v * (1 / max|v|) are fp32 with the
    IEEE reciprocal. An exact tie goes to the even index. A block whose v are all zero gets codes 127 (0.0).
    """
    offset = absmax.double().mean().float()
    v = absmax - offset
    codes, nested = [], []
    for block in v.split(NESTED_BLOCK):
        top = block.abs().max()
        x = block * (1.0 / top) if top > 0 else torch.zeros_like(block)
        distance = (x.double()[:, None] - code.double()[None, :]).abs()
        best = distance.min(dim=1).values
        tied = distance == best[:, None]
        even = tied & (torch.arange(256) % 2 == 0)[None, :]
        pick = torch.where(even.any(1), even.int().argmax(1), tied.int().argmax(1))
        codes.append(pick.to(torch.uint8))
        nested.append(top)
    return torch.cat(codes), torch.stack(nested), offset


def use_nearest_codes(state):
    """Replace a nested QuantState's second level by the nearest codes. Returns how many codes changed."""
    absmax = state.single_level_absmax
    codes, nested, offset = nearest_nested(absmax, state.state2.code)
    changed = int((codes != state.absmax).sum())
    state.absmax, state.state2.absmax, state.offset = codes, nested, offset
    return changed


def quantize_nested(x, kind):
    """quantize_4bit(compress_statistics=True), keeping the first-level absmax beside the state."""
    packed, state = F.quantize_4bit(x, blocksize=BLOCK, quant_type=kind, compress_statistics=True)
    state.single_level_absmax = F.quantize_4bit(x, blocksize=BLOCK, quant_type=kind)[1].absmax
    return packed, state


def midpoint_nested(absmax, code, offset):
    """The same codes by a search over fp32 midpoints and a true division: must agree with nearest_nested."""
    bounds = (code[:-1] + code[1:]) * 0.5
    v = absmax - offset
    x = torch.cat([b / b.abs().max() for b in v.split(NESTED_BLOCK)])
    return torch.bucketize(x, bounds).to(torch.uint8)


def double_quant_sets():
    """{name: weights}: block counts around the nested block of 256, plus spreads of absmax."""
    sets = {f"b{nb}": normal(nb * BLOCK, 200 + nb).to(torch.bfloat16) for nb in (1, 2, 4, 255, 256, 257)}
    wide = normal(600 * BLOCK, 301).reshape(600, BLOCK)
    sets["wide"] = (wide * torch.logspace(-4, 1, 600)[:, None]).flatten().to(torch.bfloat16)
    sets["tail"] = normal(300 * BLOCK + 17, 302).to(torch.bfloat16)
    equal = torch.zeros(8, BLOCK)
    equal[:, 0] = 0.25
    sets["equal"] = equal.flatten().to(torch.bfloat16)
    near = torch.zeros(320, BLOCK)  # absmax - mean over seven decades: here a lookup is not the nearest
    delta = torch.logspace(-7, -1, 160) * (1 + 0.3 * torch.rand(160, generator=generator(303)))
    near[:, 0] = 0.25 + torch.stack([delta, -delta], dim=1).flatten()
    near[:, 1:] = torch.randn(320, 63, generator=generator(304)).clamp(-4, 4) * 0.03
    sets["near_mean"] = near.flatten()
    return sets


def double_quant_vectors(out):
    tensors, index = {}, []
    for name, x in double_quant_sets().items():
        row = {"name": name, "n": x.numel(), "dtype": str(x.dtype).removeprefix("torch.")}
        for kind in TYPES if name in ("b4", "b257") else ("nf4",):
            packed, state = quantize_nested(x, kind)
            key = f"{name}.{kind}"
            tensors[f"{name}.x"] = x
            tensors[f"{key}.packed"] = packed.flatten()
            tensors[f"{key}.absmax_f32"] = state.single_level_absmax
            tensors[f"{key}.absmax"] = state.absmax
            tensors[f"{key}.nested_absmax"] = state.state2.absmax
            tensors[f"{key}.offset"] = state.offset.reshape(1)
            tensors[f"{key}.absmax_dq"] = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
            for dq in {"b4": DTYPES, "b257": ("bf16",), "tail": ("f16",)}.get(name, ()):
                state.dtype = DTYPES[dq]
                tensors[f"{key}.dq_{dq}"] = F.dequantize_4bit(packed, state).flatten()
            row[f"{kind}_codes_not_nearest"] = use_nearest_codes(state)
            if state.state2.absmax.min() > 0:
                again = midpoint_nested(state.single_level_absmax, state.state2.code, state.offset)
                assert torch.equal(again, state.absmax), f"{key}: a code hangs on the last bit, change the seed"
            tensors[f"{key}.nearest_absmax"] = state.absmax
            tensors[f"{key}.nearest_nested_absmax"] = state.state2.absmax
            tensors[f"{key}.nearest_offset"] = state.offset.reshape(1)
        index.append(row)
    tensors["nested_quant_map"] = state.state2.code
    tensors["unsigned_quant_map"] = F.create_dynamic_map(signed=False)
    tensors["nf4_quant_map"] = F.get_4bit_type("nf4", device="cpu")
    tensors["fp4_quant_map"] = F.get_4bit_type("fp4", device="cpu")
    write_tensors(out / "double_quant.safetensors", tensors)
    write_json(out / "double_quant.json",
               {"blocksize": BLOCK, "nested_blocksize": NESTED_BLOCK, "sets": index})


def checked_decode(packed, state):
    """bitsandbytes' decoding of a whole matrix, checked against a table look-up over the flattened elements.

    Its fast CPU path takes one absmax for 64 elements of a row, which is wrong when the row length is a multiple of
    32 but not of 64 and blocks cross rows (version 0.50): no vector may come from such a shape."""
    decoded = F.dequantize_4bit(packed, state)
    n = decoded.numel()
    flat = packed.reshape(-1)
    codes = torch.stack((flat >> 4, flat & 15), 1).reshape(-1)[:n].long()
    absmax = state.absmax
    if state.nested:
        absmax = F.dequantize_blockwise(state.absmax, state.state2) + state.offset
    scale = absmax.float().repeat_interleave(state.blocksize)[:n]
    expected = (state.code[codes] * scale).to(decoded.dtype).reshape(decoded.shape)
    assert torch.equal(decoded, expected), f"bitsandbytes decodes a matrix of {tuple(decoded.shape)} wrongly"
    return decoded


def serialized_linear(out):
    """Linear4bit layers as bitsandbytes writes them into a checkpoint, with their decoded weights."""
    tensors, decoded = {}, {}
    for name, kind, nested, dtype in (("nested_nf4", "nf4", True, torch.bfloat16),
                                      ("plain_nf4", "nf4", False, torch.float16),
                                      ("nested_fp4", "fp4", True, torch.float32)):
        layer = torch.nn.Linear(172, 96, bias=True)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(96, 172, generator=generator(400 + len(name))) * 0.05)
            layer.bias.copy_(torch.randn(96, generator=generator(401 + len(name))))
        layer = layer.to(dtype)
        q = bnb.nn.Linear4bit(172, 96, bias=True, quant_type=kind, compress_statistics=nested)
        q.bias.data = layer.bias.data
        q.weight.data = layer.weight.data
        q.weight = q.weight.to("cpu")  # the move quantises
        assert q.weight.bnb_quantized
        tensors |= {f"{name}.{k}": v for k, v in q.state_dict().items()}
        decoded[f"{name}.decoded"] = checked_decode(q.weight.data, q.weight.quant_state)
    write_tensors(out / "bnb_linear.safetensors", tensors)
    write_tensors(out / "bnb_linear_decoded.safetensors", decoded)


def make(out):
    quant_vectors(out)
    double_quant_vectors(out)
    serialized_linear(out)
