#include "kernels/meta_device.h"

#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"

typedef struct meta {
    qs_device base;
    qs_op_list *list;
    int64_t document_tokens;
    qs_device *real; /* asked what each product's workspace is; or NULL */
    size_t *workspace;
} meta;

struct qs_event {
    int unused;
};
static qs_event the_event;

/* ---- lists ------------------------------------------------------------------------------------------- */

void qs_op_list_free(qs_op_list *l)
{
    qs_free(l->calls);
    *l = (qs_op_list){0};
}

static bool same_call(const qs_op_call *a, const qs_op_call *b)
{
    return a->kind == b->kind && a->type == b->type && a->out_type == b->out_type && a->flags == b->flags &&
           a->variant == b->variant && a->n == b->n && !memcmp(a->dim, b->dim, sizeof a->dim);
}

void qs_op_list_add(qs_op_list *l, const qs_op_call *call, int64_t times)
{
    for (int i = 0; i < l->count; i++)
        if (same_call(&l->calls[i], call)) {
            l->calls[i].times += times;
            return;
        }
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 32;
        l->calls = qs_realloc(l->calls, (size_t)l->capacity * sizeof *l->calls);
    }
    l->calls[l->count] = *call;
    l->calls[l->count++].times = times;
}

void qs_op_call_text(const qs_op_call *c, char text[160])
{
    snprintf(text, 160, "%s %s %s %d %d %lld %lld %lld %lld %lld", qs_op_name(c->kind),
             qs_dtype_name(c->type), qs_dtype_name(c->out_type), c->flags, c->variant, (long long)c->dim[0],
             (long long)c->dim[1], (long long)c->dim[2], (long long)c->dim[3], (long long)c->dim[4]);
}

static void note(qs_device *d, qs_op_call c)
{
    meta *p = (meta *)d;
    if (p->list) qs_op_list_add(p->list, &c, 1);
}

/* ---- operations -------------------------------------------------------------------------------------- */

static double size_of(qs_mat m) { return (double)m.rows * (double)m.cols * (double)qs_dtype_bytes(m.type); }

/* The workspace that a real device takes for what is noted. */
static void ask(qs_device *d, const qs_gemm *g, const qs_attention *a)
{
    meta *p = (meta *)d;
    if (!p->real) return;
    size_t n = g ? qs_op_gemm_workspace_bytes(p->real, g) : qs_op_attention_workspace_bytes(p->real, a);
    if (n > *p->workspace) *p->workspace = n;
}

static void meta_gemm(qs_device *d, const qs_gemm *g)
{
    ask(d, g, NULL);
    int64_t m = g->c.rows, n = g->c.cols, k = g->transpose_a ? g->a.rows : g->a.cols;
    int32_t flags = (g->transpose_a ? QS_OP_TRANSPOSE_A : 0) | (g->transpose_b ? QS_OP_TRANSPOSE_B : 0) |
                    (g->beta != 0 ? QS_OP_ACCUMULATE : 0) | (g->bias ? QS_OP_BIAS : 0);
    qs_op_call c = {.kind = QS_OP_GEMM,
                    .type = g->a.type,
                    .out_type = g->c.type,
                    .flags = flags,
                    .n = g->a.rows,
                    .dim = {n, g->transpose_a ? m : k, g->a.stride, g->b.stride, g->c.stride},
                    .flops = 2.0 * (double)m * (double)n * (double)k,
                    .bytes = size_of(g->a) + size_of(g->b) + size_of(g->c) * (g->beta != 0 ? 2 : 1)};
    note(d, c);
}

static size_t meta_gemm_workspace_bytes(qs_device *d, const qs_gemm *g)
{
    return g->bias && g->beta != 0 && g->c.type != QS_F32
               ? (size_t)g->c.rows * (size_t)g->c.cols * sizeof(float)
               : 0;
}

static void meta_dequantise4(qs_device *d, const qs_qtensor *q, void *out, qs_dtype type)
{
    note(d, (qs_op_call){.kind = QS_OP_DEQUANTISE4,
                         .type = type,
                         .out_type = type,
                         .flags = q->absmax ? 0 : QS_OP_NESTED,
                         .variant = (int32_t)q->type,
                         .n = q->n,
                         .flops = 2.0 * (double)q->n,
                         .bytes = (double)q->n * (0.516 + (double)qs_dtype_bytes(type))});
}

/* Element-wise over `mats` matrices like x. */
static void elements(qs_device *d, qs_op_kind kind, qs_mat x, int32_t flags, int32_t variant, double mats,
                     int64_t stride)
{
    note(d, (qs_op_call){.kind = kind,
                         .type = x.type,
                         .out_type = x.type,
                         .flags = flags,
                         .variant = variant,
                         .dim = {x.cols, x.stride, stride},
                         .n = x.rows,
                         .flops = 4.0 * (double)x.rows * (double)x.cols,
                         .bytes = mats * size_of(x)});
}

static void meta_rmsnorm(qs_device *d, const qs_rmsnorm *n)
{
    elements(d, QS_OP_RMSNORM, n->x, 0, n->round_last, 2, n->y.stride);
}
static void meta_rmsnorm_backward(qs_device *d, const qs_rmsnorm *n, qs_mat dy, qs_mat add, qs_mat dx)
{
    elements(d, QS_OP_RMSNORM_BACKWARD, n->x, add.data ? QS_OP_ACCUMULATE : 0, 0, add.data ? 4 : 3,
             dy.stride);
}
static void meta_layernorm(qs_device *d, const qs_layernorm *n)
{
    elements(d, QS_OP_LAYERNORM, n->x, 0, 0, 2, n->y.stride);
}
static void meta_layernorm_backward(qs_device *d, const qs_layernorm *n, qs_mat dy, qs_mat add, qs_mat dx)
{
    elements(d, QS_OP_LAYERNORM_BACKWARD, n->x, add.data ? QS_OP_ACCUMULATE : 0, 0, add.data ? 4 : 3,
             dy.stride);
}
static void meta_activation(qs_device *d, qs_activation act, qs_mat x, qs_mat y)
{
    elements(d, QS_OP_ACTIVATION, x, 0, (int32_t)act, 2, 0);
}
static void meta_activation_backward(qs_device *d, qs_activation act, qs_mat x, qs_mat dy, qs_mat dx)
{
    elements(d, QS_OP_ACTIVATION_BACKWARD, x, 0, (int32_t)act, 3, 0);
}
static void meta_regroup(qs_device *d, qs_mat x, int32_t groups, int32_t parts, int64_t width, qs_mat y)
{
    note(d, (qs_op_call){.kind = QS_OP_REGROUP,
                         .type = x.type,
                         .out_type = x.type,
                         .dim = {groups, parts, width},
                         .n = x.rows,
                         .bytes = 2 * size_of(x)});
}
static void meta_rope(qs_device *d, const qs_rope *r)
{
    note(d, (qs_op_call){.kind = QS_OP_ROPE,
                         .type = r->x.type,
                         .out_type = r->x.type,
                         .variant = r->rotary_dim,
                         .dim = {r->heads, r->head_dim, r->x.stride},
                         .n = r->x.rows,
                         .flops = 3.0 * (double)r->x.rows * (double)r->x.cols,
                         .bytes = 2 * size_of(r->x)});
}
static void note_norm_rope(qs_device *d, qs_op_kind kind, const qs_norm_rope *n, double mats)
{
    int32_t flags = (n->whole ? QS_OP_WHOLE : 0) | (n->round_last ? QS_OP_ROUND_LAST : 0);
    note(d, (qs_op_call){.kind = kind,
                         .type = n->x.type,
                         .out_type = n->x.type,
                         .flags = flags,
                         .variant = n->rotary_dim,
                         .dim = {n->heads, n->kv_heads, n->head_dim, n->x.stride},
                         .n = n->x.rows,
                         .flops = 7.0 * (double)n->x.rows * (double)n->x.cols,
                         .bytes = mats * size_of(n->x)});
}
static void meta_norm_rope(qs_device *d, const qs_norm_rope *n) { note_norm_rope(d, QS_OP_NORM_ROPE, n, 2); }
static void meta_norm_rope_backward(qs_device *d, const qs_norm_rope *n, qs_mat g)
{
    note_norm_rope(d, QS_OP_NORM_ROPE_BACKWARD, n, 3);
}
static void meta_add(qs_device *d, qs_mat dst, qs_mat a, qs_mat b)
{
    elements(d, QS_OP_ADD, dst, 0, 0, 3, 0);
}
static void meta_gated(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat y)
{
    elements(d, QS_OP_GATED, gate_up, 0, (int32_t)act, 1.5, 0);
}
static void meta_gated_backward(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat dy, qs_mat d_gate_up)
{
    elements(d, QS_OP_GATED_BACKWARD, gate_up, 0, (int32_t)act, 2.5, 0);
}
static void meta_dropout(qs_device *d, const qs_dropout *o, qs_mat x, qs_mat y, bool add)
{
    elements(d, QS_OP_DROPOUT, x, add ? QS_OP_ACCUMULATE : 0, o->p > 0, add ? 3 : 2, y.stride);
}
static void meta_flag_nonfinite(qs_device *d, qs_mat x, int32_t *flag)
{
    elements(d, QS_OP_FLAG_NONFINITE, x, 0, 0, 1, 0);
}

/* A vector of n elements, `bytes` of traffic each. */
static void vector(qs_device *d, qs_op_kind kind, qs_dtype type, qs_dtype out, int32_t variant, int64_t n,
                   double bytes)
{
    note(d, (qs_op_call){.kind = kind,
                         .type = type,
                         .out_type = out,
                         .variant = variant,
                         .n = n,
                         .flops = (double)n,
                         .bytes = (double)n * bytes});
}

static void meta_convert(qs_device *d, void *dst, qs_dtype to, const void *src, qs_dtype from, int64_t n)
{
    vector(d, QS_OP_CONVERT, from, to, 0, n, (double)(qs_dtype_bytes(to) + qs_dtype_bytes(from)));
}
static void meta_sum_squares(qs_device *d, const float *g, int64_t n, double *sum)
{
    vector(d, QS_OP_SUM_SQUARES, QS_F32, QS_F32, 0, n, 4);
}
static void meta_adamw(qs_device *d, qs_adamw_rule rule, const qs_adamw *h, float *p, const float *g,
                       float *m, float *v, int64_t n)
{
    vector(d, QS_OP_ADAMW, QS_F32, QS_F32, (int32_t)rule, n, 28);
}
static void meta_adamw8(qs_device *d, const qs_adamw *h, float *p, const float *g, uint8_t *m8, uint8_t *v8,
                        float *ma, float *va, int64_t n)
{
    vector(d, QS_OP_ADAMW8, QS_F32, QS_F32, 0, n, 16);
}
static void meta_quantise4(qs_device *d, qs_quant_type t, const void *w, qs_dtype type, int64_t n,
                           uint8_t *codes, float *absmax)
{
}
static void meta_quantise_absmax(qs_device *d, const float *absmax, int64_t blocks, uint8_t *a8,
                                 float *nested, float *offset)
{
}

static void note_attention(qs_device *d, qs_op_kind kind, const qs_attention *a, double flops_per_pair,
                           double mats)
{
    int64_t document = ((meta *)d)->document_tokens;
    if (!document || document > a->q.rows) document = a->q.rows;
    double width = a->window && a->window < document ? (double)a->window : (double)document / 2;
    note(d, (qs_op_call){.kind = kind,
                         .type = a->q.type,
                         .out_type = a->q.type,
                         .variant = a->window,
                         .dim = {a->heads, a->kv_heads, a->head_dim, a->q.stride, document},
                         .n = a->q.rows,
                         .flags = a->softcap > 0 ? QS_OP_SOFTCAPPED : 0,
                         .flops = flops_per_pair * (double)a->q.rows * width * (double)a->heads *
                                  (double)a->head_dim,
                         .bytes = mats * size_of(a->q)});
}
static void meta_attention(qs_device *d, const qs_attention *a)
{
    ask(d, NULL, a);
    note_attention(d, QS_OP_ATTENTION, a, 4, 3);
}
static void meta_attention_backward(qs_device *d, const qs_attention *a, qs_mat d_o, qs_mat dq, qs_mat dk,
                                    qs_mat dv)
{
    note_attention(d, QS_OP_ATTENTION_BACKWARD, a, 10, 6);
}
static size_t meta_attention_workspace_bytes(qs_device *d, const qs_attention *a)
{
    return (size_t)a->heads * (size_t)a->q.rows * 4;
}

static void meta_attention_block(qs_device *d, const qs_attention_block *a)
{
    note(d, (qs_op_call){.kind = QS_OP_ATTENTION_BLOCK,
                         .type = a->q.type,
                         .out_type = a->q.type,
                         .variant = a->window,
                         .dim = {a->heads, a->kv_heads, a->head_dim, a->q.stride, a->k.rows},
                         .n = a->q.rows,
                         .flags = a->softcap > 0 ? QS_OP_SOFTCAPPED : 0,
                         .flops = 4.0 * (double)a->q.rows * (double)a->k.rows * (double)a->q.cols,
                         .bytes = size_of(a->q) + 2 * size_of(a->k)});
}

static void meta_softcap(qs_device *d, float cap, qs_mat x) { elements(d, QS_OP_SOFTCAP, x, 0, 0, 2, 0); }
static void meta_ce_forward(qs_device *d, qs_mat logits, int64_t start, const qs_ce_state *s)
{
    elements(d, QS_OP_CE_FORWARD, logits, 0, 0, 1, 0);
}
static void meta_ce_loss(qs_device *d, int64_t rows, const qs_ce_state *s, float *loss)
{
    vector(d, QS_OP_CE_LOSS, QS_F32, QS_F32, 0, rows, 20);
}
static void meta_ce_backward(qs_device *d, qs_mat logits, int64_t start, const qs_ce_state *s, float factor,
                             qs_mat out)
{
    note(d, (qs_op_call){.kind = QS_OP_CE_BACKWARD,
                         .type = QS_F32,
                         .out_type = out.type,
                         .dim = {logits.cols, logits.stride, out.stride},
                         .n = logits.rows,
                         .flops = 4.0 * (double)logits.rows * (double)logits.cols,
                         .bytes = size_of(logits) + size_of(out)});
}

#define OPERATION(KIND, name) .name = meta_##name,
#define QUESTION(name) .name = meta_##name,
static const qs_ops meta_ops = {QS_OP_LIST(OPERATION) QS_OP_QUESTION_LIST(QUESTION)};

/* ---- the device -------------------------------------------------------------------------------------- */

static void close_meta(qs_device *d) { qs_free(d); }

static int alloc(qs_device *d, size_t bytes, void **out, qs_err *e)
{
    *out = NULL;
    QS_FAIL(e, QS_EUNSUP,
            "%s is a meta device and has no memory: a plan can be made for it, a run needs a real one",
            d->info.name);
}
static void release(qs_device *d, void *p) {}
static int host_register(qs_device *d, void *p, size_t bytes, qs_err *e) { return 0; }
static void host_unregister(qs_device *d, void *p) {}
static void prefetch(qs_device *d, qs_queue q, void *p, size_t bytes, bool to_device) {}
static void copy_in(qs_device *d, qs_queue q, void *device, const void *host, size_t bytes) {}
static void copy_out(qs_device *d, qs_queue q, void *host, const void *device, size_t bytes) {}
static void fill(qs_device *d, qs_queue q, void *device, int byte, size_t bytes)
{
    vector(d, QS_OP_FILL, QS_U8, QS_U8, 0, (int64_t)bytes, 1);
}
static qs_event *event_create(qs_device *d) { return &the_event; }
static void event_free(qs_device *d, qs_event *event) {}
static void on_queue(qs_device *d, qs_event *event, qs_queue q) {}
static bool event_done(qs_device *d, qs_event *event) { return true; }
static void event_sync(qs_device *d, qs_event *event) {}
static void queue_sync(qs_device *d, qs_queue q) {}
static uint64_t used_bytes(qs_device *d) { return 0; }
static int check(qs_device *d, qs_err *e) { return 0; }
static int count(void) { return 0; }

static int open_by_number(int ordinal, unsigned flags, qs_device **out, qs_err *e)
{
    QS_FAIL(e, QS_EINVAL, "meta devices have no numbers");
}

static const qs_device_api meta_api = {.name = "meta",
                                       .count = count,
                                       .open = open_by_number,
                                       .close = close_meta,
                                       .alloc = alloc,
                                       .free = release,
                                       .host_register = host_register,
                                       .host_unregister = host_unregister,
                                       .managed_alloc = alloc,
                                       .managed_free = release,
                                       .managed_prefetch = prefetch,
                                       .copy_in = copy_in,
                                       .copy_out = copy_out,
                                       .fill = fill,
                                       .event_create = event_create,
                                       .event_free = event_free,
                                       .event_record = on_queue,
                                       .event_wait = on_queue,
                                       .event_done = event_done,
                                       .event_sync = event_sync,
                                       .queue_sync = queue_sync,
                                       .used_bytes = used_bytes,
                                       .check = check};

qs_device *qs_meta_device(const qs_device_info *info)
{
    meta *p = qs_calloc(1, sizeof *p);
    p->base = (qs_device){.api = &meta_api, .ops = &meta_ops, .info = *info};
    return &p->base;
}

void qs_meta_device_ask(qs_device *d, qs_device *real, size_t *most)
{
    meta *p = (meta *)d;
    p->real = real;
    p->workspace = most;
}

void qs_meta_device_note(qs_device *d, qs_op_list *list, int64_t document_tokens)
{
    QS_ASSERT(d->api == &meta_api);
    ((meta *)d)->list = list;
    ((meta *)d)->document_tokens = document_tokens;
}

void *qs_meta_memory(void) { return (void *)((uintptr_t)1 << 20); }
