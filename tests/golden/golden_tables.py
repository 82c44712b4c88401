"""Tables that transformers computes from a few numbers: learning-rate schedules and RoPE frequencies."""
import torch
from transformers import LlamaConfig, get_scheduler
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from golden_io import write_json

LEARNING_RATE = 2e-4
SCHEDULES = {"linear": {}, "cosine": {}, "constant": {}, "constant_with_warmup": {},
             "cosine_with_restarts": {"num_cycles": 2}, "polynomial": {"power": 2.0}, "inverse_sqrt": {},
             "cosine_with_min_lr": {"min_lr_rate": 0.1}}


def schedule_rows(name, special, total, warmup):
    """Learning rate used by each optimizer step, first to last."""
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([p], lr=LEARNING_RATE)
    schedule = get_scheduler(name, optimizer, warmup, total, scheduler_specific_kwargs=special or None)
    rates = []
    for _ in range(total):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def schedules(out):
    rows = []
    for name, special in SCHEDULES.items():
        for warmup in (0, 3):
            for kwargs in ([{}, special] if special and name != "cosine_with_min_lr" else [special]):
                rows.append({"lr_scheduler_type": name, "warmup_steps": warmup, "max_steps": 20,
                             "lr_scheduler_kwargs": kwargs, "learning_rate": schedule_rows(name, kwargs, 20, warmup)})
    write_json(out / "lr_schedules.json", {"learning_rate": LEARNING_RATE, "schedules": rows})


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
ROPE = (
    ("default_1e4", 128, 1e4, 4096, {}),
    ("default_1e6_head24", 24, 1e6, 32768, {}),
    ("linear", 64, 1e4, 4096, {"rope_type": "linear", "factor": 4.0}),
    ("dynamic", 64, 1e4, 4096, {"rope_type": "dynamic", "factor": 2.0}),
    ("llama3_1", 128, 5e5, 131072, LLAMA3),
    ("llama3_2", 64, 5e5, 131072, LLAMA3 | {"factor": 32.0}),
    ("yarn", 128, 1e6, 131072, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}),
    ("yarn_betas", 64, 1e4, 65536, {"rope_type": "yarn", "factor": 16.0, "beta_fast": 16.0, "beta_slow": 2.0,
                                    "original_max_position_embeddings": 4096}),
    ("yarn_attention_factor", 64, 1e4, 65536, {"rope_type": "yarn", "factor": 16.0, "attention_factor": 0.75,
                                               "original_max_position_embeddings": 4096}),
    ("yarn_mscale", 64, 1e4, 163840, {"rope_type": "yarn", "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 0.7,
                                      "original_max_position_embeddings": 4096}),
)


def rope(out):
    """inv_freq (fp32 values printed in full) and the factor on cos and sin, within the trained length."""
    rows = []
    for name, head_dim, theta, max_position, scaling in ROPE:
        config = LlamaConfig(head_dim=head_dim, hidden_size=head_dim * 4, num_attention_heads=4,
                             max_position_embeddings=max_position,
                             rope_parameters={"rope_theta": theta, "rope_type": "default"} | scaling)
        rotary = LlamaRotaryEmbedding(config)
        position = torch.tensor([[0, 1, 2, 7, 100, 1000, 4095]])
        cos, sin = rotary(torch.zeros(1, 1), position)
        half = head_dim // 2
        rows.append({"name": name, "head_dim": head_dim, "rope_theta": theta,
                     "max_position_embeddings": max_position, "rope_scaling": scaling or None,
                     "inv_freq": rotary.inv_freq.tolist(), "attention_factor": float(rotary.attention_scaling),
                     "positions": position[0].tolist(), "cos": cos[0, :, :half].tolist(),
                     "sin": sin[0, :, :half].tolist()})
    write_json(out / "rope.json", rows)


def make(out):
    schedules(out)
    rope(out)
