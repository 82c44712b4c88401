#include "src/model/block.h"

#include <stdlib.h>

#include "kernels/meta_device.h"
#include "src/base/memory.h"

/* What backward needs of a layer's forward. */
typedef struct layer_saved {
    qs_part_saved part[QS_PARTS_MAX];
    void *branch[QS_PARTS_MAX]; /* what goes into the norm after a part; rows as saved of the part */
    void *middle;               /* [rows, hidden] the stream after the first part */
} layer_saved;

/* The work buffers as one kind of layer uses them. */
typedef struct layer_memory {
    qs_part_sizes sizes;
    layer_saved own;
    qs_part_scratch scratch[QS_PARTS_MAX];
} layer_memory;

struct qs_block {
    qs_block_config c;
    layer_memory kind[QS_LAYER_KINDS_MAX];
    /* Rows as in a micro-batch. */
    void *in;       /* [rows, hidden] a part's normed input */
    void *d_in;     /* its gradient */
    void *d_branch; /* [rows, hidden] gradient of a part's output before the norm after it */
    void *d_stream; /* [rows, hidden] with a parallel residual: gradient of x so far, while dy is still needed
                     */
    void *dh;       /* gradient of LoRA's inner activations */
    void *dropped;  /* [rows, widest input] with dropout */
    size_t workspace_bytes, saved_bytes;
};

/* One call's arguments, carried through the parts. */
typedef struct call {
    qs_block *b;
    const qs_layer *layer;
    const qs_layer_weights *w;
    const qs_block_lora *l;
    const qs_block_batch *batch;
    const layer_memory *m;
    layer_saved saved;
    bool kept;
} call;

/* ---- memory ------------------------------------------------------------------------------------------ */

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

static qs_part_sizes sizes_of(const qs_block *b, int kind, bool kept)
{
    const qs_block_config *c = &b->c;
    qs_part_sizes s = {.type = c->type,
                       .rows = c->max_rows,
                       .chunk = c->mlp_rows,
                       .saved_rows = kept ? c->max_rows : c->mlp_rows,
                       .dropout = c->lora->config.dropout > 0};
    for (int32_t i = 0; i < c->lora->shapes; i++) {
        const qs_lora_layer *adapters = &c->lora->shape[i];
        for (int g = 0; g < QS_GROUPS_MAX && adapters->layer == &c->a->kind[kind]; g++)
            if (adapters->group_rows[g] > s.h_cols[g]) s.h_cols[g] = adapters->group_rows[g];
    }
    return s;
}

/* Rows of part p's output that are alive at once. */
static size_t branch_rows(const qs_layer *l, int p, const qs_part_sizes *s)
{
    return (size_t)(l->part[p].table->chunked ? s->saved_rows : s->rows);
}

static void carve_saved(const qs_block *b, const qs_layer *l, int p, const qs_part_sizes *s, qs_arena *a,
                        layer_saved *out)
{
    size_t row = (size_t)b->c.a->hidden * qs_dtype_bytes(s->type);
    l->part[p].table->saved(l, p, s, a, &out->part[p]);
    out->branch[p] = qs_arena_take(a, l->part[p].norm_after ? branch_rows(l, p, s) * row : 0, QS_ARENA_ALIGN);
}

/* The stream between the parts; with a parallel residual the backward pass does not read it. */
static void carve_middle(const qs_block *b, const qs_part_sizes *s, qs_arena *a, layer_saved *out)
{
    out->middle =
        qs_arena_take(a, (size_t)s->rows * (size_t)b->c.a->hidden * qs_dtype_bytes(s->type), QS_ARENA_ALIGN);
}

static layer_saved kept_of(const qs_block *b, int kind, qs_arena *a)
{
    const qs_layer *l = &b->c.a->kind[kind];
    qs_part_sizes s = sizes_of(b, kind, true);
    layer_saved out = {.middle = b->kind[kind].own.middle};
    for (int p = 0; p < l->parts; p++) carve_saved(b, l, p, &s, a, &out);
    if (!l->parallel) carve_middle(b, &s, a, &out);
    return out;
}

/* The first part's saved activations live while the second is at work; everything of the second, and the
 * first's scratch, takes turns. */
static void carve_kind(qs_block *b, int kind, qs_arena *a)
{
    const qs_layer *l = &b->c.a->kind[kind];
    layer_memory *m = &b->kind[kind];
    m->sizes = sizes_of(b, kind, false);
    carve_middle(b, &m->sizes, a, &m->own);
    carve_saved(b, l, 0, &m->sizes, a, &m->own);
    size_t shared = a->used, end = shared;
    for (int p = 0; p < l->parts; p++) {
        a->used = shared;
        if (p) carve_saved(b, l, p, &m->sizes, a, &m->own);
        l->part[p].table->scratch(l, p, &m->sizes, a, &m->scratch[p]);
        end = most(end, a->used);
    }
    a->used = end;
}

static void carve(qs_block *b, qs_arena *a)
{
    const qs_architecture *m = b->c.a;
    size_t e = qs_dtype_bytes(b->c.type), rows = (size_t)b->c.max_rows, hidden = (size_t)m->hidden;
    size_t widest_h = 0, widest_in = 0, start, end;
    bool after = false, parallel = false;
    for (int k = 0; k < m->kinds; k++) {
        qs_part_sizes s = sizes_of(b, k, false);
        for (int g = 0; g < QS_GROUPS_MAX; g++) widest_h = most(widest_h, (size_t)s.h_cols[g]);
        for (int p = 0; p < m->kind[k].parts; p++) {
            widest_in = most(widest_in, (size_t)m->kind[k].part[p].table->widest(&m->kind[k], p, m->hidden));
            after |= m->kind[k].part[p].norm_after != NULL;
        }
        parallel |= m->kind[k].parallel;
    }
    b->in = qs_arena_take(a, rows * hidden * e, QS_ARENA_ALIGN);
    b->d_in = qs_arena_take(a, rows * hidden * e, QS_ARENA_ALIGN);
    b->d_branch = qs_arena_take(a, after ? rows * hidden * e : 0, QS_ARENA_ALIGN);
    b->d_stream = qs_arena_take(a, parallel ? rows * hidden * e : 0, QS_ARENA_ALIGN);
    b->dh = qs_arena_take(a, rows * widest_h * e, QS_ARENA_ALIGN);
    b->dropped = qs_arena_take(a, b->c.lora->config.dropout > 0 ? rows * widest_in * e : 0, QS_ARENA_ALIGN);
    start = end = a->used;
    for (int k = 0; k < m->kinds; k++) {
        a->used = start;
        carve_kind(b, k, a);
        end = most(end, a->used);
    }
    a->used = end;
}

/* Runs every kind of layer, with each shape of adapters that it has, on a device without memory, which looks
 * up what each product would take. */
static size_t workspace(const qs_block *like)
{
    qs_block_config c = like->c;
    size_t need = 0;
    qs_device *meta = qs_meta_device(&c.device->info);
    void *nowhere = qs_meta_memory();
    const float *tables[QS_ROTARIES_MAX] = {nowhere, nowhere};
    qs_arena memory = {.base = nowhere, .capacity = SIZE_MAX / 2};
    qs_block b = {.c = c};
    b.c.device = meta;
    carve(&b, &memory);
    qs_meta_device_ask(meta, c.device, &need);
    qs_block_batch batch = {c.max_rows, nowhere, nowhere, tables, tables};
    bool *seen = qs_calloc((size_t)c.lora->shapes, sizeof *seen);
    for (int32_t layer = 0; layer < c.a->layers; layer++) {
        if (seen[c.lora->shape_of[layer]]) continue;
        seen[c.lora->shape_of[layer]] = true;
        qs_dense dense = {.memory = nowhere};
        qs_layer_weights w = qs_weights_of(c.layout, layer, c.type, nowhere, &dense);
        for (int dropout = 0; dropout <= (c.lora->config.dropout > 0); dropout++) {
            qs_block_lora l = {.lora = qs_lora_of_layer(c.lora, layer),
                               .values = nowhere,
                               .gradients = nowhere,
                               .dropout = dropout ? c.lora->config.dropout : 0};
            qs_block_call at = {.w = &w, .l = &l, .batch = &batch, .x = nowhere, .dx = nowhere};
            at.y = (char *)nowhere + 64;
            qs_block_forward(&b, &at);
            qs_block_backward(&b, &at);
        }
    }
    qs_free(seen);
    qs_device_close(meta);
    return need;
}

void qs_block_create(const qs_block_config *config, qs_arena *memory, qs_block **out)
{
    qs_block *b = qs_calloc(1, sizeof *b);
    b->c = *config;
    carve(b, memory);
    b->workspace_bytes = workspace(b);
    for (int k = 0; k < config->a->kinds; k++) {
        qs_arena counting = {0};
        kept_of(b, k, &counting);
        b->saved_bytes = most(b->saved_bytes, qs_round_up(counting.used, 4096));
    }
    *out = b;
}

void qs_block_free(qs_block *b) { qs_free(b); }

size_t qs_block_workspace_bytes(const qs_block *b) { return b->workspace_bytes; }
size_t qs_block_saved_bytes(const qs_block *b) { return b->saved_bytes; }

/* ---- calls ------------------------------------------------------------------------------------------- */

static call begin(qs_block *b, const qs_block_call *at)
{
    int kind = (int)(at->w->layer - b->c.a->kind);
    QS_ASSERT(at->batch->rows <= b->c.max_rows && at->x != at->y);
    call c = {.b = b,
              .layer = at->w->layer,
              .w = at->w,
              .l = at->l,
              .batch = at->batch,
              .m = &b->kind[kind],
              .saved = b->kind[kind].own,
              .kept = at->kept};
    qs_arena memory = {.base = at->kept, .capacity = b->saved_bytes};
    if (at->kept) c.saved = kept_of(b, kind, &memory);
    return c;
}

static qs_part_call part_call(const call *c, int p, int64_t first)
{
    const qs_block *b = c->b;
    return (qs_part_call){.device = b->c.device,
                          .a = b->c.a,
                          .layer = c->layer,
                          .part = p,
                          .sizes = &c->m->sizes,
                          .w = c->w,
                          .l = c->l,
                          .batch = c->batch,
                          .saved = c->saved.part[p],
                          .scratch = c->m->scratch[p],
                          .kept = c->kept,
                          .formed = c->kept,
                          .dh = b->dh,
                          .dropped = b->dropped,
                          .first = first};
}

static qs_mat mat(const call *c, void *data)
{
    return qs_mat_of(data, c->b->c.type, c->batch->rows, c->b->c.a->hidden);
}
static qs_mat rows_of(qs_mat m, int64_t first, int64_t rows)
{
    return qs_mat_part(m, first, rows, 0, m.cols);
}

/* Rows that the part takes at a time, from `first` on. */
static int64_t chunk(const call *c, int p, int64_t first)
{
    int64_t left = c->batch->rows - first,
            at_most = c->layer->part[p].table->chunked ? c->m->sizes.chunk : left;
    return left < at_most ? left : at_most;
}

/* The stream that the part reads. */
static qs_mat read_by(const call *c, int p, void *x)
{
    return mat(c, p && !c->layer->parallel ? c->saved.middle : x);
}

/* The part's input: normed into the block's own buffer, or the stream itself. */
static qs_mat input(const call *c, int p, void *x)
{
    qs_mat from = read_by(c, p, x);
    if (!c->layer->part[p].norm_before) return from;
    qs_mat to = mat(c, c->b->in);
    qs_norm_forward(c->b->c.device, c->b->c.a, qs_weights_norm(c->w, c->layer->part[p].before), from, to);
    return to;
}

/* Where the part's rows from `first` on go before the norm after it: like what is saved of the part. */
static qs_mat branch(const call *c, int p, int64_t first, int64_t rows)
{
    qs_mat all = mat(c, c->saved.branch[p]);
    return rows_of(all, c->layer->part[p].table->chunked && !c->kept ? 0 : first, rows);
}

/* to = from + part(in). */
static void run_part(const call *c, int p, qs_mat in, qs_mat from, qs_mat to)
{
    const qs_layer_part *part = &c->layer->part[p];
    qs_device *d = c->b->c.device;
    for (int64_t first = 0, n; first < c->batch->rows; first += n) {
        n = chunk(c, p, first);
        qs_part_call at = part_call(c, p, first);
        qs_mat out = rows_of(to, first, n);
        qs_mat raw = part->norm_after ? branch(c, p, first, n) : out;
        part->table->forward(&at, rows_of(in, first, n), raw);
        if (part->norm_after) qs_norm_forward(d, c->b->c.a, qs_weights_norm(c->w, part->after), raw, out);
        qs_op_add(d, out, rows_of(from, first, n), out);
    }
}

void qs_block_forward(qs_block *b, const qs_block_call *at)
{
    call c = begin(b, at);
    void *stream = at->x;
    for (int p = 0; p < c.layer->parts; p++) {
        void *to = p == c.layer->parts - 1 ? at->y : c.saved.middle;
        run_part(&c, p, input(&c, p, at->x), mat(&c, stream), mat(&c, to));
        stream = to;
    }
}

/* ---- backward ---------------------------------------------------------------------------------------- */

/* Rows [first, first + n) of part p back: d_in from dy. */
static void part_backward(const call *c, int p, qs_mat in, qs_mat dy, qs_mat d_in, int64_t first)
{
    const qs_layer_part *part = &c->layer->part[p];
    qs_part_call at = part_call(c, p, first);
    at.formed |= p == 0; /* by the forward pass just now */
    if (part->norm_after) {
        qs_mat raw = branch(c, p, first, dy.rows), d_raw = rows_of(mat(c, c->b->d_branch), first, dy.rows);
        if (!at.formed) part->table->forward(&at, in, raw);
        at.formed = true;
        qs_norm_backward(c->b->c.device, c->b->c.a, qs_weights_norm(c->w, part->after), raw, dy, (qs_mat){0},
                         d_raw);
        dy = d_raw;
    }
    part->table->backward(&at, in, dy, d_in);
}

/* dx = dy + what came through the part; dx may be dy. */
static void join(const call *c, int p, qs_mat stream, qs_mat d_in, qs_mat dy, qs_mat dx)
{
    const qs_layer_part *part = &c->layer->part[p];
    if (part->norm_before)
        qs_norm_backward(c->b->c.device, c->b->c.a, qs_weights_norm(c->w, part->before), stream, d_in, dy,
                         dx);
    else
        qs_op_add(c->b->c.device, dx, dy, d_in);
}

void qs_block_backward(qs_block *b, const qs_block_call *at)
{
    call c = begin(b, at);
    void *x = at->x;
    QS_ASSERT(c.layer->parts == 2);
    qs_mat grad = mat(&c, at->y), d_in = mat(&c, b->d_in),
           d_stream = c.layer->parallel ? mat(&c, b->d_stream) : grad;
    if (!at->kept) run_part(&c, 0, input(&c, 0, x), mat(&c, x), mat(&c, c.saved.middle));

    qs_mat in = input(&c, 1, x), stream = read_by(&c, 1, x);
    for (int64_t first = 0, n; first < grad.rows; first += n) {
        n = chunk(&c, 1, first);
        qs_mat dy = rows_of(grad, first, n), d = rows_of(d_in, first, n);
        part_backward(&c, 1, rows_of(in, first, n), dy, d, first);
        join(&c, 1, rows_of(stream, first, n), d, dy, rows_of(d_stream, first, n));
    }

    in = input(&c, 0, x);
    if (!at->dx) d_in.data = NULL;
    part_backward(&c, 0, in, grad, d_in, 0);
    if (at->dx) join(&c, 0, mat(&c, x), d_in, d_stream, mat(&c, at->dx));
}
