#include "src/model/head.h"

#include "src/base/memory.h"

struct qs_head {
    qs_head_config c;
    char *n; /* [micro_batches][max_rows, hidden] compute type: normed hidden states, later their gradient */
    float *dn;      /* [micro_batches][max_rows, hidden] */
    float *logits;  /* [head_rows, tile_rows] of one chunk; with keep_logits [micro_batches][tiles][max_rows,
                       tile_rows] */
    void *d_logits; /* [head_rows, tile_rows] in the compute type; NULL when that is fp32: then it is formed
                       in place */
    float *max, *sum, *target_logit; /* [micro_batches * max_rows] */
    size_t workspace_bytes;
};

static void carve(qs_head *h, qs_arena *a)
{
    const qs_head_config *c = &h->c;
    size_t e = qs_dtype_bytes(c->type), rows = (size_t)c->micro_batches * (size_t)c->max_rows,
           hidden = (size_t)c->a->hidden;
    size_t tile = (size_t)c->head_rows * (size_t)c->tile_rows,
           tiles = (size_t)(c->a->vocab + c->tile_rows - 1) / (size_t)c->tile_rows;
    size_t kept = rows * tiles * (size_t)c->tile_rows;
    h->n = qs_arena_take(a, rows * hidden * e, QS_ARENA_ALIGN);
    h->dn = qs_arena_take(a, rows * hidden * sizeof(float), QS_ARENA_ALIGN);
    h->logits = qs_arena_take(a, (c->keep_logits ? kept : tile) * sizeof(float), QS_ARENA_ALIGN);
    h->d_logits = qs_arena_take(a, c->type == QS_F32 ? 0 : tile * e, QS_ARENA_ALIGN);
    h->max = qs_arena_take(a, rows * sizeof(float), QS_ARENA_ALIGN);
    h->sum = qs_arena_take(a, rows * sizeof(float), QS_ARENA_ALIGN);
    h->target_logit = qs_arena_take(a, rows * sizeof(float), QS_ARENA_ALIGN);
}

static size_t workspace(const qs_head *h)
{
    const qs_head_config *c = &h->c;
    qs_mat n = qs_mat_of(NULL, c->type, c->head_rows, c->a->hidden),
           w = qs_mat_of(NULL, c->type, c->tile_rows, c->a->hidden);
    qs_mat logits = qs_mat_of(NULL, QS_F32, c->head_rows, c->tile_rows),
           d = qs_mat_of(NULL, c->type, c->head_rows, c->tile_rows);
    qs_mat dn = qs_mat_of(NULL, QS_F32, c->head_rows, c->a->hidden);
    qs_gemm forward = {.a = n, .b = w, .c = logits, .transpose_b = true, .alpha = 1},
            back = {.a = d, .b = w, .c = dn, .alpha = 1, .beta = 1};
    size_t one = qs_op_gemm_workspace_bytes(c->device, &forward),
           other = qs_op_gemm_workspace_bytes(c->device, &back);
    return one > other ? one : other;
}

void qs_head_create(const qs_head_config *c, qs_arena *memory, qs_head **out)
{
    qs_head *h = qs_calloc(1, sizeof *h);
    h->c = *c;
    carve(h, memory);
    h->workspace_bytes = workspace(h);
    *out = h;
}

void qs_head_free(qs_head *h) { qs_free(h); }
size_t qs_head_workspace_bytes(const qs_head *h) { return h->workspace_bytes; }

static size_t first_row(const qs_head *h, int32_t mb) { return (size_t)mb * (size_t)h->c.max_rows; }

static qs_mat normed(const qs_head *h, int32_t mb, int64_t row, int64_t rows)
{
    size_t at = (first_row(h, mb) + (size_t)row) * (size_t)h->c.a->hidden * qs_dtype_bytes(h->c.type);
    return qs_mat_of(h->n + at, h->c.type, rows, h->c.a->hidden);
}

static qs_mat gradient(const qs_head *h, int32_t mb, int64_t row, int64_t rows)
{
    return qs_mat_of(h->dn + (first_row(h, mb) + (size_t)row) * (size_t)h->c.a->hidden, QS_F32, rows,
                     h->c.a->hidden);
}

static qs_ce_state state(const qs_head *h, int32_t mb, int64_t row, const int32_t *targets)
{
    size_t at = first_row(h, mb) + (size_t)row;
    return (qs_ce_state){h->max + at, h->sum + at, h->target_logit + at, targets + row,
                         h->c.a->logit_softcap};
}

void qs_head_norm(qs_head *h, int32_t mb, int32_t rows, void *x, qs_norm w)
{
    qs_norm_forward(h->c.device, h->c.a, w, qs_mat_of(x, h->c.type, rows, h->c.a->hidden),
                    normed(h, mb, 0, rows));
}

/* Where the logits of rows [row, row + rows) against tile w go. */
static qs_mat logits_at(qs_head *h, int32_t mb, int64_t row, int64_t rows, qs_mat w, int32_t vocab_start)
{
    size_t at = 0;
    if (h->c.keep_logits) {
        size_t tiles = (size_t)(h->c.a->vocab + h->c.tile_rows - 1) / (size_t)h->c.tile_rows,
               tile = (size_t)(vocab_start / h->c.tile_rows);
        at = ((size_t)mb * tiles + tile) * (size_t)h->c.max_rows * (size_t)h->c.tile_rows +
             (size_t)(row * w.rows);
    }
    return qs_mat_of(h->logits + at, QS_F32, rows, w.rows);
}

static qs_mat logits_of(qs_head *h, int32_t mb, int64_t row, int64_t rows, qs_mat w, int32_t vocab_start)
{
    qs_mat logits = logits_at(h, mb, row, rows, w, vocab_start);
    qs_op_gemm(
        h->c.device,
        &(qs_gemm){.a = normed(h, mb, row, rows), .b = w, .c = logits, .transpose_b = true, .alpha = 1});
    if (h->c.a->logit_softcap > 0) qs_op_softcap(h->c.device, h->c.a->logit_softcap, logits);
    return logits;
}

void qs_head_loss_tile(qs_head *h, const qs_head_call *c)
{
    int32_t rows = c->rows;
    for (int64_t row = 0; row < rows; row += h->c.head_rows) {
        int64_t n = rows - row < h->c.head_rows ? rows - row : h->c.head_rows;
        qs_ce_state s = state(h, c->mb, row, c->targets);
        qs_mat logits = logits_of(h, c->mb, row, n, c->tile, c->vocab_start);
        qs_op_ce_forward(h->c.device, logits, c->vocab_start, &s);
    }
}

void qs_head_loss(qs_head *h, int32_t mb, int32_t rows, const int32_t *targets, float *loss)
{
    qs_ce_state s = state(h, mb, 0, targets);
    qs_op_ce_loss(h->c.device, rows, &s, loss);
}

void qs_head_gradient_tile(qs_head *h, const qs_head_call *c, float scale, bool starts)
{
    int32_t mb = c->mb, rows = c->rows;
    qs_mat w = c->tile;
    for (int64_t row = 0; row < rows; row += h->c.head_rows) {
        int64_t n = rows - row < h->c.head_rows ? rows - row : h->c.head_rows;
        qs_ce_state s = state(h, mb, row, c->targets);
        qs_mat logits = (h->c.keep_logits ? logits_at : logits_of)(h, mb, row, n, w, c->vocab_start);
        qs_mat d = qs_mat_of(h->d_logits ? h->d_logits : logits.data, h->c.type, n, w.rows);
        qs_op_ce_backward(h->c.device, logits, c->vocab_start, &s, scale, d);
        qs_op_gemm(
            h->c.device,
            &(qs_gemm){.a = d, .b = w, .c = gradient(h, mb, row, n), .alpha = 1, .beta = starts ? 0 : 1});
    }
}

void qs_head_gradient(qs_head *h, int32_t mb, int32_t rows, void *x, qs_norm w)
{
    qs_mat dn = normed(h, mb, 0, rows); /* the normed states are done with */
    qs_op_convert(h->c.device, dn.data, h->c.type, gradient(h, mb, 0, rows).data, QS_F32,
                  (int64_t)rows * h->c.a->hidden);
    qs_mat in = qs_mat_of(x, h->c.type, rows, h->c.a->hidden);
    qs_norm_backward(h->c.device, h->c.a, w, in, dn, (qs_mat){0}, in);
}

void qs_head_logits(qs_head *h, int32_t mb, int32_t first, int32_t count, qs_mat w, int32_t vocab_start,
                    float *out)
{
    qs_device *d = h->c.device;
    size_t vocab = (size_t)h->c.a->vocab;
    for (int64_t row = 0; row < count; row += h->c.head_rows) {
        int64_t n = count - row < h->c.head_rows ? count - row : h->c.head_rows;
        qs_mat logits = logits_of(h, mb, first + row, n, w, vocab_start);
        for (int64_t i = 0; i < n; i++)
            d->api->copy_out(d, QS_QUEUE_COMPUTE, out + (size_t)(row + i) * vocab + (size_t)vocab_start,
                             (float *)logits.data + i * logits.stride, (size_t)w.rows * sizeof(float));
        d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    }
}
