#include "kernels/op_replay.h"

#include "src/base/arena.h"

/* Operands are taken from an arena: one that counts gives the size, and then nothing is run. */
typedef struct stage {
    qs_device *device;
    qs_arena memory;
    bool run;
} stage;

enum { ALIGN = 4096 };

static void *array(stage *s, qs_dtype type, int64_t n)
{
    return qs_arena_take(&s->memory, (size_t)n * qs_dtype_bytes(type), ALIGN);
}

static qs_mat mat(stage *s, qs_dtype type, int64_t rows, int64_t cols, int64_t stride)
{
    if (stride < cols) stride = cols;
    return (qs_mat){array(s, type, rows * stride), type, rows, cols, stride};
}

static void *zeros(stage *s, size_t bytes)
{
    void *p = qs_arena_take(&s->memory, bytes, ALIGN);
    if (s->run) s->device->api->fill(s->device, QS_QUEUE_COMPUTE, p, 0, bytes);
    return p;
}

static void give_workspace(stage *s, size_t bytes)
{
    void *p = qs_arena_take(&s->memory, bytes, ALIGN);
    if (s->run) qs_device_set_workspace(s->device, p, bytes);
}

static void replay_gemm(stage *s, const qs_op_call *c, int64_t n)
{
    bool ta = c->flags & QS_OP_TRANSPOSE_A, tb = c->flags & QS_OP_TRANSPOSE_B;
    int64_t k = ta ? n : c->dim[1], cols = c->dim[0];
    qs_gemm g = {.transpose_a = ta,
                 .transpose_b = tb,
                 .alpha = 1,
                 .beta = c->flags & QS_OP_ACCUMULATE ? 1 : 0,
                 .bias_type = QS_F32};
    g.a = mat(s, c->type, n, c->dim[1], c->dim[2]);
    g.b = mat(s, c->type, tb ? cols : k, tb ? k : cols, c->dim[3]);
    g.c = mat(s, c->out_type, ta ? c->dim[1] : n, cols, c->dim[4]);
    if (c->flags & QS_OP_BIAS) g.bias = array(s, QS_F32, cols);
    give_workspace(s, qs_op_gemm_workspace_bytes(s->device, &g));
    if (s->run) qs_op_gemm(s->device, &g);
}

static void replay_dequantise4(stage *s, const qs_op_call *c, int64_t n)
{
    qs_qtensor q = {.type = (qs_quant_type)c->variant, .n = n, .codes = array(s, QS_U8, (n + 1) / 2)};
    if (c->flags & QS_OP_NESTED) {
        q.absmax8 = array(s, QS_U8, qs_quant_blocks(n));
        q.nested = array(s, QS_F32, qs_nested_blocks(n));
        q.offset = array(s, QS_F32, 1);
    } else {
        q.absmax = array(s, QS_F32, qs_quant_blocks(n));
    }
    void *out = array(s, c->type, n);
    if (s->run) qs_op_dequantise4(s->device, &q, out, c->type);
}

static void replay_quantise4(stage *s, const qs_op_call *c, int64_t n)
{
    void *w = array(s, c->type, n);
    uint8_t *codes = array(s, QS_U8, (n + 1) / 2);
    float *absmax = array(s, QS_F32, qs_quant_blocks(n));
    if (s->run) qs_op_quantise4(s->device, (qs_quant_type)c->variant, w, c->type, n, codes, absmax);
}

static void replay_quantise_absmax(stage *s, const qs_op_call *c, int64_t n)
{
    float *absmax = array(s, QS_F32, n), *nested = array(s, QS_F32, n / QS_NESTED_BLOCK + 1),
          *offset = array(s, QS_F32, 1);
    uint8_t *codes = array(s, QS_U8, n);
    if (s->run) qs_op_quantise_absmax(s->device, absmax, n, codes, nested, offset);
}

static void replay_rmsnorm(stage *s, const qs_op_call *c, int64_t n)
{
    int64_t cols = c->dim[0];
    qs_rmsnorm norm = {.x = mat(s, c->type, n, cols, c->dim[1]),
                       .weight = array(s, QS_F32, cols),
                       .weight_type = QS_F32,
                       .eps = 1e-5f,
                       .round_last = c->variant};
    norm.y = mat(s, c->type, n, cols, c->dim[2]);
    if (s->run) qs_op_rmsnorm(s->device, &norm);
}

static void replay_rmsnorm_backward(stage *s, const qs_op_call *c, int64_t n)
{
    int64_t cols = c->dim[0];
    qs_rmsnorm norm = {.x = mat(s, c->type, n, cols, c->dim[1]),
                       .weight = array(s, QS_F32, cols),
                       .weight_type = QS_F32,
                       .eps = 1e-5f};
    qs_mat dy = mat(s, c->type, n, cols, c->dim[2]), add = {0};
    norm.y = norm.x;
    if (c->flags & QS_OP_ACCUMULATE) add = mat(s, c->type, n, cols, cols);
    if (s->run) qs_op_rmsnorm_backward(s->device, &norm, dy, add, norm.x);
}

static void replay_softcap(stage *s, const qs_op_call *c, int64_t n)
{
    qs_mat x = mat(s, c->type, n, c->dim[0], c->dim[1]);
    if (s->run) qs_op_softcap(s->device, 30, x);
}

static void replay_add(stage *s, const qs_op_call *c, int64_t n)
{
    qs_mat x = mat(s, c->type, n, c->dim[0], c->dim[1]), y = mat(s, c->type, n, c->dim[0], 0);
    if (s->run) qs_op_add(s->device, x, y, x);
}

static void replay_gated(stage *s, const qs_op_call *c, int64_t n)
{
    qs_mat x = mat(s, c->type, n, c->dim[0], c->dim[1]), y = mat(s, c->type, n, c->dim[0] / 2, 0);
    if (s->run) qs_op_gated(s->device, (qs_activation)c->variant, x, y);
}

/* Not in place: repeated calls would end in denormal numbers. */
static void replay_gated_backward(stage *s, const qs_op_call *c, int64_t n)
{
    qs_mat x = mat(s, c->type, n, c->dim[0], c->dim[1]), dy = mat(s, c->type, n, c->dim[0] / 2, 0),
           dx = mat(s, c->type, n, c->dim[0], 0);
    if (s->run) qs_op_gated_backward(s->device, (qs_activation)c->variant, x, dy, dx);
}

static void replay_dropout(stage *s, const qs_op_call *c, int64_t n)
{
    qs_mat x = mat(s, c->type, n, c->dim[0], c->dim[1]), y = mat(s, c->type, n, c->dim[0], c->dim[2]);
    qs_dropout drop = {.p = c->variant ? 0.1f : 0, .seed = 1};
    if (s->run) qs_op_dropout(s->device, &drop, x, y, c->flags & QS_OP_ACCUMULATE);
}

static void replay_flag_nonfinite(stage *s, const qs_op_call *c, int64_t n)
{
    qs_mat x = mat(s, c->type, n, c->dim[0], c->dim[1]);
    int32_t *flag = zeros(s, sizeof *flag);
    if (s->run) qs_op_flag_nonfinite(s->device, x, flag);
}

static qs_layernorm layernorm_of(stage *s, const qs_op_call *c, int64_t n)
{
    int64_t cols = c->dim[0];
    qs_layernorm norm = {.x = mat(s, c->type, n, cols, c->dim[1]), .weight_type = QS_F32, .eps = 1e-5f};
    norm.weight = array(s, QS_F32, cols);
    norm.bias = array(s, QS_F32, cols);
    return norm;
}
static void replay_layernorm(stage *s, const qs_op_call *c, int64_t n)
{
    qs_layernorm norm = layernorm_of(s, c, n);
    norm.y = mat(s, c->type, n, c->dim[0], c->dim[2]);
    if (s->run) qs_op_layernorm(s->device, &norm);
}
static void replay_layernorm_backward(stage *s, const qs_op_call *c, int64_t n)
{
    qs_layernorm norm = layernorm_of(s, c, n);
    qs_mat dy = mat(s, c->type, n, c->dim[0], c->dim[2]), add = {0};
    norm.y = norm.x;
    if (c->flags & QS_OP_ACCUMULATE) add = mat(s, c->type, n, c->dim[0], c->dim[0]);
    if (s->run) qs_op_layernorm_backward(s->device, &norm, dy, add, norm.x);
}

static void replay_activation(stage *s, const qs_op_call *c, int64_t n)
{
    qs_mat x = mat(s, c->type, n, c->dim[0], c->dim[1]), y = mat(s, c->type, n, c->dim[0], 0);
    if (s->run) qs_op_activation(s->device, (qs_activation)c->variant, x, y);
}
static void replay_activation_backward(stage *s, const qs_op_call *c, int64_t n)
{
    qs_mat x = mat(s, c->type, n, c->dim[0], c->dim[1]), dy = mat(s, c->type, n, c->dim[0], 0),
           dx = mat(s, c->type, n, c->dim[0], 0);
    if (s->run) qs_op_activation_backward(s->device, (qs_activation)c->variant, x, dy, dx);
}

static void replay_regroup(stage *s, const qs_op_call *c, int64_t n)
{
    int64_t cols = c->dim[0] * c->dim[1] * c->dim[2];
    qs_mat x = mat(s, c->type, n, cols, 0), y = mat(s, c->type, n, cols, 0);
    if (s->run) qs_op_regroup(s->device, x, (int32_t)c->dim[0], (int32_t)c->dim[1], c->dim[2], y);
}

static void replay_rope(stage *s, const qs_op_call *c, int64_t n)
{
    qs_rope r = {.heads = (int32_t)c->dim[0], .head_dim = (int32_t)c->dim[1], .rotary_dim = c->variant};
    r.x = mat(s, c->type, n, c->dim[0] * c->dim[1], c->dim[2]);
    r.cos = array(s, QS_F32, c->dim[1]);
    r.sin = array(s, QS_F32, c->dim[1]);
    r.positions = zeros(s, (size_t)n * sizeof(int32_t));
    if (s->run) qs_op_rope(s->device, &r);
}

static qs_norm_rope norm_rope_of(stage *s, const qs_op_call *c, int64_t n)
{
    int64_t cols = (c->dim[0] + c->dim[1]) * c->dim[2];
    qs_norm_rope r = {.heads = (int32_t)c->dim[0],
                      .kv_heads = (int32_t)c->dim[1],
                      .head_dim = (int32_t)c->dim[2],
                      .whole = c->flags & QS_OP_WHOLE,
                      .round_last = c->flags & QS_OP_ROUND_LAST,
                      .eps = 1e-5f,
                      .rotary_dim = c->variant};
    r.x = mat(s, c->type, n, cols, c->dim[3]);
    r.y = mat(s, c->type, n, cols, 0);
    r.q_weight = r.k_weight = array(s, QS_F32, cols);
    r.q_cos = r.k_cos = array(s, QS_F32, c->dim[2]);
    r.q_sin = r.k_sin = array(s, QS_F32, c->dim[2]);
    r.positions = zeros(s, (size_t)n * sizeof(int32_t));
    return r;
}
static void replay_norm_rope(stage *s, const qs_op_call *c, int64_t n)
{
    qs_norm_rope r = norm_rope_of(s, c, n);
    if (s->run) qs_op_norm_rope(s->device, &r);
}
static void replay_norm_rope_backward(stage *s, const qs_op_call *c, int64_t n)
{
    qs_norm_rope r = norm_rope_of(s, c, n);
    if (s->run) qs_op_norm_rope_backward(s->device, &r, r.y);
}

/* q, k and v are parts of one matrix, as the block has them. */
static qs_attention attention_of(stage *s, const qs_op_call *c, int64_t n)
{
    int64_t q = c->dim[0] * c->dim[2], kv = c->dim[1] * c->dim[2];
    qs_attention a = {.heads = (int32_t)c->dim[0],
                      .kv_heads = (int32_t)c->dim[1],
                      .head_dim = (int32_t)c->dim[2],
                      .scale = 0.1f,
                      .window = c->variant,
                      .softcap = c->flags & QS_OP_SOFTCAPPED ? 50 : 0};
    qs_mat all = mat(s, c->type, n, q + 2 * kv, c->dim[3]);
    a.q = qs_mat_part(all, 0, n, 0, q);
    a.k = qs_mat_part(all, 0, n, q, kv);
    a.v = qs_mat_part(all, 0, n, q + kv, kv);
    a.o = mat(s, c->type, n, q, 0);
    a.lse = array(s, QS_F32, c->dim[0] * n);
    a.document = zeros(s, (size_t)n * sizeof(int32_t));
    give_workspace(s, qs_op_attention_workspace_bytes(s->device, &a));
    return a;
}
static void replay_attention(stage *s, const qs_op_call *c, int64_t n)
{
    qs_attention a = attention_of(s, c, n);
    if (s->run) qs_op_attention(s->device, &a);
}
static void replay_attention_backward(stage *s, const qs_op_call *c, int64_t n)
{
    int64_t q = c->dim[0] * c->dim[2], kv = c->dim[1] * c->dim[2];
    qs_attention a = attention_of(s, c, n);
    qs_mat d_o = mat(s, c->type, n, q, 0), all = mat(s, c->type, n, q + 2 * kv, c->dim[3]);
    qs_mat dq = qs_mat_part(all, 0, n, 0, q), dk = qs_mat_part(all, 0, n, q, kv),
           dv = qs_mat_part(all, 0, n, q + kv, kv);
    if (s->run) qs_op_attention_backward(s->device, &a, d_o, dq, dk, dv);
}

static void replay_attention_block(stage *s, const qs_op_call *c, int64_t n)
{
    qs_attention_block a = {.heads = (int32_t)c->dim[0],
                            .kv_heads = (int32_t)c->dim[1],
                            .head_dim = (int32_t)c->dim[2],
                            .scale = 0.1f,
                            .window = c->variant,
                            .softcap = c->flags & QS_OP_SOFTCAPPED ? 50 : 0,
                            .first = true,
                            .query_at = c->dim[4]};
    a.q = mat(s, c->type, n, c->dim[0] * c->dim[2], c->dim[3]);
    a.k = mat(s, c->type, c->dim[4], c->dim[1] * c->dim[2], 0);
    a.v = mat(s, c->type, c->dim[4], c->dim[1] * c->dim[2], 0);
    a.o = mat(s, c->type, n, c->dim[0] * c->dim[2], 0);
    a.state = array(s, QS_F32, qs_attention_state_floats(n, a.heads, a.head_dim));
    if (s->run) qs_op_attention_block(s->device, &a);
}

static qs_ce_state ce_state_of(stage *s, int64_t n)
{
    return (qs_ce_state){array(s, QS_F32, n), array(s, QS_F32, n), array(s, QS_F32, n),
                         zeros(s, (size_t)n * sizeof(int32_t)), 0};
}
static void replay_ce_loss(stage *s, const qs_op_call *c, int64_t n)
{
    qs_ce_state state = ce_state_of(s, n);
    float *loss = array(s, QS_F32, n);
    if (s->run) qs_op_ce_loss(s->device, n, &state, loss);
}
static void replay_ce_forward(stage *s, const qs_op_call *c, int64_t n)
{
    qs_ce_state state = ce_state_of(s, n);
    qs_mat logits = mat(s, QS_F32, n, c->dim[0], c->dim[1]);
    if (s->run) qs_op_ce_forward(s->device, logits, 0, &state);
}
static void replay_ce_backward(stage *s, const qs_op_call *c, int64_t n)
{
    qs_ce_state state = ce_state_of(s, n);
    qs_mat logits = mat(s, QS_F32, n, c->dim[0], c->dim[1]), d = logits;
    if (c->out_type != QS_F32) d = mat(s, c->out_type, n, c->dim[0], c->dim[2]);
    if (s->run) qs_op_ce_backward(s->device, logits, 0, &state, 1e-3f, d);
}

static void replay_convert(stage *s, const qs_op_call *c, int64_t n)
{
    void *x = array(s, c->type, n), *y = array(s, c->out_type, n);
    if (s->run) qs_op_convert(s->device, y, c->out_type, x, c->type, n);
}
static void replay_sum_squares(stage *s, const qs_op_call *c, int64_t n)
{
    float *x = array(s, QS_F32, n);
    double *sum = zeros(s, sizeof *sum);
    if (s->run) qs_op_sum_squares(s->device, x, n, sum);
}

static const qs_adamw an_update = {
    .learning_rate = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .step = 1, .gradient_scale = 1};

static void replay_adamw(stage *s, const qs_op_call *c, int64_t n)
{
    float *p = array(s, QS_F32, n), *g = array(s, QS_F32, n), *m = array(s, QS_F32, n),
          *v = array(s, QS_F32, n);
    if (s->run) qs_op_adamw(s->device, (qs_adamw_rule)c->variant, &an_update, p, g, m, v, n);
}
static void replay_adamw8(stage *s, const qs_op_call *c, int64_t n)
{
    float *p = array(s, QS_F32, n), *g = array(s, QS_F32, n);
    uint8_t *m = array(s, QS_U8, n), *v = array(s, QS_U8, n);
    float *ma = array(s, QS_F32, qs_nested_blocks(n * QS_QUANT_BLOCK)),
          *va = array(s, QS_F32, qs_nested_blocks(n * QS_QUANT_BLOCK));
    if (s->run) qs_op_adamw8(s->device, &an_update, p, g, m, v, ma, va, n);
}

static void replay_fill(stage *s, const qs_op_call *c, int64_t n)
{
    void *x = array(s, c->type, n);
    if (s->run) s->device->api->fill(s->device, QS_QUEUE_COMPUTE, x, 0, (size_t)n);
}

static void play(stage *s, const qs_op_call *c, int64_t n)
{
#define PLAYER(KIND, name) [QS_OP_##KIND] = replay_##name,
    static void (*const players[QS_OP_KINDS])(stage *, const qs_op_call *,
                                              int64_t) = {QS_OP_LIST(PLAYER)[QS_OP_FILL] = replay_fill};
    players[c->kind](s, c, n);
}

size_t qs_op_replay_bytes(qs_device *d, const qs_op_call *call, int64_t n)
{
    stage s = {.device = d};
    play(&s, call, n);
    return s.memory.used;
}

void qs_op_replay(qs_device *d, const qs_op_call *call, int64_t n, void *memory, size_t bytes)
{
    stage s = {.device = d, .memory = {.base = memory, .capacity = bytes}, .run = true};
    play(&s, call, n);
}
