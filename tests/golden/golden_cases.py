"""The training cases: what each model looks like and how it is trained.

Together they cover the Llama family (llama, mistral, qwen2, qwen3) and GPT-NeoX, every quantisation, optimizer and
schedule at least once. Sizes are small but awkward on purpose: rows of 172 weights make 4-bit blocks cross
rows, head_dim differs from hidden/heads where a family allows it, and the mistral window is shorter than the
sequences.
"""
import dataclasses


@dataclasses.dataclass
class Case:
    name: str
    config: dict          # config.json as a checkpoint would carry it
    dtype: str            # of the checkpoint: f32, bf16 or f16
    options: dict         # training options under this project's names
    seed: int
    shards: int = 1
    init_b_std: float = 0.0     # 0: LoRA B starts at zero, as PEFT creates it
    lengths: tuple = (5, 40)    # tokens per sample
    rules: tuple = ("",)        # optimizer rules to run in fp32, see golden_train.make_optimizer


def _config(kind, **fields):
    base = {"architectures": [f"{kind}ForCausalLM"], "model_type": kind.lower(), "hidden_act": "silu",
            "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2,
            "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True}
    return base | fields


def _neox(**fields):
    base = {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": 64,
            "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 4, "layer_norm_eps": 1e-5,
            "max_position_embeddings": 128, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
            "attention_dropout": 0.0, "hidden_dropout": 0.0, "initializer_range": 0.02, "use_cache": True}
    return base | fields


def _gemma(kind, model_type, **fields):
    base = _config(kind, vocab_size=96, head_dim=32, num_hidden_layers=3,
                   max_position_embeddings=128, rms_norm_eps=1e-6, hidden_activation="gelu_pytorch_tanh",
                   bos_token_id=2, eos_token_id=1, pad_token_id=0, attention_bias=False, rope_theta=10000.0)
    del base["hidden_act"]
    return base | {"model_type": model_type} | fields


def _options(**fields):
    base = {"max_steps": 20, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
            "learning_rate": 1e-3, "lr_scheduler_type": "linear", "warmup_steps": 0, "warmup_ratio": 0.0,
            "optim": "adamw_torch", "weight_decay": 0.0, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8,
            "max_grad_norm": 1.0, "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "use_rslora": False,
            "target_modules": "all-linear", "quant_type": "nf4", "double_quant": True,
            "max_seq_length": 64, "shuffle": False, "packing": False}
    return base | fields


CASES = (
    Case("llama", seed=11, dtype="bf16", shards=2, init_b_std=0.05,
         config=_config("Llama", vocab_size=128, max_position_embeddings=256, rope_theta=10000.0,
                        rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                      "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
                        tie_word_embeddings=True, attention_bias=False, mlp_bias=False,
                        pretraining_tp=1, torch_dtype="bfloat16"),
         options=_options(warmup_steps=3, max_grad_norm=0.3, weight_decay=0.01, learning_rate=5e-3)),
    Case("mistral", seed=12, dtype="f16", rules=("cuda", "cpu"),
         config=_config("Mistral", vocab_size=96, head_dim=32, sliding_window=8, max_position_embeddings=128,
                        rope_theta=1000000.0, tie_word_embeddings=False, torch_dtype="float16"),
         options=_options(lora_r=64, lora_alpha=16, use_rslora=True, target_modules=["q_proj", "v_proj"],
                          double_quant=False, optim="adamw_8bit", lr_scheduler_type="cosine",
                          warmup_steps=4, gradient_accumulation_steps=1, learning_rate=3e-4)),
    Case("qwen2", seed=13, dtype="bf16", init_b_std=0.03, rules=("cuda", "cpu"),
         config=_config("Qwen2", vocab_size=120, max_position_embeddings=64, rope_theta=1000000.0,
                        rms_norm_eps=1e-6, rope_scaling={"type": "linear", "factor": 2.0},
                        use_sliding_window=False, sliding_window=16, max_window_layers=2,
                        tie_word_embeddings=True, torch_dtype="bfloat16"),
         options=_options(quant_type="fp4", double_quant=False, optim="paged_adamw_32bit", weight_decay=0.1,
                          lr_scheduler_type="constant_with_warmup", warmup_steps=2, max_grad_norm=0.0,
                          per_device_train_batch_size=3, learning_rate=4e-3, lora_r=4, lora_alpha=4,
                          target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj",
                                          "down_proj"])),
    Case("qwen3", seed=14, dtype="f32",
         config=_config("Qwen3", vocab_size=96, hidden_size=40, intermediate_size=100, head_dim=20,
                        max_position_embeddings=128, rms_norm_eps=1e-6, attention_bias=False,
                        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
                        use_sliding_window=False, sliding_window=None, max_window_layers=2,
                        layer_types=["full_attention", "full_attention"],
                        tie_word_embeddings=False, dtype="float32"),
         options=_options(quant_type="none", double_quant=False, lr_scheduler_type="cosine",
                          target_modules=r".*\.layers\.[01]\..*(q|v|up)_proj", gradient_accumulation_steps=4,
                          per_device_train_batch_size=1, learning_rate=1e-2)),
    Case("llama_yarn", seed=15, dtype="bf16", init_b_std=0.05,
         config=_config("Llama", vocab_size=128, max_position_embeddings=128, rope_theta=10000.0,
                        rope_scaling={"type": "yarn", "factor": 4.0, "beta_fast": 4.0, "beta_slow": 1.0,
                                      "original_max_position_embeddings": 32},
                        tie_word_embeddings=False, attention_bias=True, mlp_bias=False,
                        torch_dtype="bfloat16"),
         options=_options(lora_r=16, lora_alpha=8, learning_rate=5e-3, adam_beta2=0.95, adam_epsilon=1e-6,
                          target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"])),
    Case("gpt_neox", seed=16, dtype="bf16", init_b_std=0.05,
         config=_neox(vocab_size=88, hidden_act="gelu_fast", rotary_pct=0.25, rotary_emb_base=10000,
                      use_parallel_residual=True, torch_dtype="bfloat16"),
         options=_options(lora_r=4, lora_alpha=8, learning_rate=5e-3)),
    Case("gpt_neox_serial", seed=17, dtype="f32",
         config=_neox(vocab_size=48, hidden_size=32, intermediate_size=68, num_attention_heads=2,
                      hidden_act="gelu", attention_bias=False, use_parallel_residual=False,
                      rope_parameters={"rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 0.5},
                      dtype="float32"),
         options=_options(quant_type="none", double_quant=False, lora_r=4, target_modules=["query_key_value"],
                          lr_scheduler_type="cosine", learning_rate=1e-2)),
    Case("olmo2", seed=18, dtype="bf16", init_b_std=0.05,
         config=_config("Olmo2", vocab_size=96, hidden_size=40, intermediate_size=100, num_attention_heads=2,
                        num_key_value_heads=1, max_position_embeddings=128,
                        rope_theta=10000.0, tie_word_embeddings=False, attention_bias=False, torch_dtype="bfloat16"),
         options=_options(lora_r=4, lora_alpha=8, learning_rate=5e-3)),
    Case("olmo3", seed=19, dtype="bf16", init_b_std=0.05,
         config=_config("Olmo3", vocab_size=80, hidden_size=40, intermediate_size=68, num_hidden_layers=4,
                        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128, sliding_window=8,
                        rope_theta=10000.0, rope_scaling={"rope_type": "yarn", "factor": 4.0, "beta_fast": 4.0,
                                                          "beta_slow": 1.0, "attention_factor": 1.1386294361119891,
                                                          "original_max_position_embeddings": 32},
                        tie_word_embeddings=False, attention_bias=False, torch_dtype="bfloat16"),
         options=_options(lora_r=4, lora_alpha=8, learning_rate=5e-3,
                          target_modules=["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"])),
    Case("smollm3", seed=20, dtype="bf16", init_b_std=0.05,
         config=_config("SmolLM3", vocab_size=80, hidden_size=40, intermediate_size=68, num_hidden_layers=4,
                        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128,
                        rope_theta=50000.0, no_rope_layers=[1, 1, 1, 0], no_rope_layer_interval=4, pad_token_id=0,
                        use_sliding_window=False, tie_word_embeddings=True, attention_bias=False,
                        mlp_bias=False, torch_dtype="bfloat16"),
         options=_options(lora_r=4, lora_alpha=8, learning_rate=5e-3)),
    Case("phi3", seed=21, dtype="bf16", init_b_std=0.05,
         config=_config("Phi3", vocab_size=96, hidden_size=40, intermediate_size=100, num_attention_heads=2,
                        num_key_value_heads=1, max_position_embeddings=128,
                        original_max_position_embeddings=24, rope_theta=10000.0, partial_rotary_factor=0.5,
                        rope_scaling={"type": "longrope", "short_factor": [1.0, 1.02, 1.05, 1.1, 1.2],
                                      "long_factor": [1.0, 1.5, 2.5, 4.0, 6.0]},
                        pad_token_id=0, sliding_window=20, tie_word_embeddings=False, torch_dtype="bfloat16"),
         options=_options(lora_r=4, lora_alpha=8, learning_rate=5e-3)),
    Case("ministral3", seed=22, dtype="bf16", init_b_std=0.05,
         config=_config("Ministral3", vocab_size=96, hidden_size=40, intermediate_size=100, head_dim=20,
                        num_attention_heads=3, num_key_value_heads=1,
                        max_position_embeddings=128, pad_token_id=0, sliding_window=None,
                        rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 8.0,
                                         "original_max_position_embeddings": 16, "beta_fast": 4.0, "beta_slow": 1.0,
                                         "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1},
                        tie_word_embeddings=False, torch_dtype="bfloat16"),
         options=_options(lora_r=4, lora_alpha=8, learning_rate=5e-3)),
    # Windows of 8 are shorter than the sequences and of 64 longer; the first of the two full layers is in the middle.
    Case("gemma3", seed=18, dtype="bf16", init_b_std=0.05,
         config=_gemma("Gemma3", "gemma3_text", query_pre_attn_scalar=24, sliding_window=8, sliding_window_pattern=2,
                       rope_theta=1000000.0, rope_local_base_freq=10000.0, tie_word_embeddings=True,
                       rope_scaling={"rope_type": "linear", "factor": 8.0}, torch_dtype="bfloat16"),
         options=_options(lora_r=4, lora_alpha=8, learning_rate=5e-3)),
    Case("gemma2", seed=19, dtype="f32",
         config=_gemma("Gemma2", "gemma2", query_pre_attn_scalar=20, head_dim=20, hidden_size=48, intermediate_size=100,
                       sliding_window=64, attn_logit_softcapping=2.0,
                       final_logit_softcapping=4.0, tie_word_embeddings=False, dtype="float32"),
         options=_options(quant_type="none", double_quant=False, lora_r=4, learning_rate=5e-3,
                          target_modules=["q_proj", "v_proj", "gate_proj", "down_proj"])),
    Case("gemma", seed=20, dtype="f16",
         config=_gemma("Gemma", "gemma", hidden_act="gelu_pytorch_tanh", num_hidden_layers=2, tie_word_embeddings=True,
                       torch_dtype="float16"),
         options=_options(quant_type="nf4", double_quant=False, lora_r=4, target_modules=["q_proj", "o_proj", "up_proj"],
                          lr_scheduler_type="cosine", learning_rate=5e-3)),
    # Ranks and scales by pattern, layers and modules left out, a rate of its own for B.
    Case("lora_patterns", seed=31, dtype="bf16", init_b_std=0.05,
         config=_config("Llama", vocab_size=96, hidden_size=40, intermediate_size=100, num_hidden_layers=4,
                        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=128, rope_theta=10000.0,
                        tie_word_embeddings=True, attention_bias=False, mlp_bias=False, torch_dtype="bfloat16"),
         options=_options(lora_r=4, lora_alpha=4, learning_rate=2e-3, loraplus_lr_ratio=4.0, weight_decay=0.01,
                          target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"],
                          rank_pattern=["q_proj=2", "layers.1.self_attn.k_proj=8", "mlp.up_proj=3"],
                          alpha_pattern=["v_proj=2", "layers.[12].mlp.down_proj=6"], layers_to_transform=[0, 1, 3],
                          exclude_modules=["layers.0.self_attn.o_proj", "layers.3.mlp.down_proj"])),
)
