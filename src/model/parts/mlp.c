/* mlp.c - the feed-forward part: out = (act(in Wg^T) * (in Wu^T)) Wd^T, or without a gate act(in Wu^T) Wd^T.
 *
 * Taken in chunks of rows, so that no intermediate of width ffn exists for more of them, unless it is kept.
 */
#include "src/model/parts/part.h"

enum { GATE_UP, DOWN }; /* groups */

static const qs_mlp_config *config(const qs_layer *l, int part) { return &l->part[part].mlp; }

static bool gated(const qs_mlp_config *c) { return c->gate || c->joined; }
static int64_t up_cols(const qs_mlp_config *c) { return (gated(c) ? 2 : 1) * (int64_t)c->ffn; }

static void tensors(qs_layer *l, int part, int32_t hidden)
{
    const qs_mlp_config *c = config(l, part);
    if (c->gate) qs_layer_add_linear(l, 2 * part + GATE_UP, c->gate, c->ffn, hidden, 4);
    qs_layer_add_linear(l, 2 * part + GATE_UP, c->up, (c->joined ? 2 : 1) * c->ffn, hidden, 5);
    if (c->bias) qs_layer_add_biases(l, 2 * part + GATE_UP);
    qs_layer_add_linear(l, 2 * part + DOWN, c->down, hidden, c->ffn, 6);
    if (c->bias) qs_layer_add_biases(l, 2 * part + DOWN);
}

static void saved(const qs_layer *l, int part, const qs_part_sizes *p, qs_arena *memory, qs_part_saved *out)
{
    size_t e = qs_dtype_bytes(p->type), rows = (size_t)p->saved_rows;
    out->mlp.gate_up = qs_arena_take(memory, rows * (size_t)up_cols(config(l, part)) * e, QS_ARENA_ALIGN);
    out->mlp.h_gate_up =
        qs_arena_take(memory, rows * (size_t)p->h_cols[2 * part + GATE_UP] * e, QS_ARENA_ALIGN);
}

static void scratch(const qs_layer *l, int part, const qs_part_sizes *p, qs_arena *memory,
                    qs_part_scratch *out)
{
    size_t e = qs_dtype_bytes(p->type), rows = (size_t)p->chunk, ffn = (size_t)config(l, part)->ffn;
    out->mlp.act = qs_arena_take(memory, rows * ffn * e, QS_ARENA_ALIGN);
    out->mlp.d_act = qs_arena_take(memory, rows * ffn * e, QS_ARENA_ALIGN);
    out->mlp.h_down = qs_arena_take(memory, rows * (size_t)p->h_cols[2 * part + DOWN] * e, QS_ARENA_ALIGN);
}

static int64_t widest(const qs_layer *l, int part, int32_t hidden)
{
    return config(l, part)->ffn > hidden ? config(l, part)->ffn : hidden;
}

/* Where a row of the input has its saved activations: they hold a chunk, or every row where they are kept. */
static void *saved_at(const qs_part_call *c, void *data, int64_t cols)
{
    return c->kept ? (char *)data + (size_t)(c->first * cols) * qs_dtype_bytes(c->sizes->type) : data;
}

static qs_mat gate_up_of(const qs_part_call *c, int64_t rows)
{
    int64_t cols = up_cols(config(c->layer, c->part));
    return qs_part_mat(c, saved_at(c, c->saved.mlp.gate_up, cols), rows, cols);
}

static void *h_gate_up_of(const qs_part_call *c)
{
    return saved_at(c, c->saved.mlp.h_gate_up, c->sizes->h_cols[2 * c->part + GATE_UP]);
}

static qs_mat activate(const qs_part_call *c, qs_mat gate_up)
{
    const qs_mlp_config *m = config(c->layer, c->part);
    qs_mat act = qs_part_mat(c, c->scratch.mlp.act, gate_up.rows, m->ffn);
    (gated(m) ? qs_op_gated : qs_op_activation)(c->device, m->activation, gate_up, act);
    return act;
}

/* Of these rows: act, and what is saved. */
static qs_mat to_act(const qs_part_call *c, qs_mat in)
{
    qs_mat gate_up = gate_up_of(c, in.rows);
    qs_part_linear(c, 2 * c->part + GATE_UP, in, h_gate_up_of(c), gate_up);
    return activate(c, gate_up);
}

static void forward(const qs_part_call *c, qs_mat in, qs_mat out)
{
    qs_part_linear(c, 2 * c->part + DOWN, to_act(c, in), c->scratch.mlp.h_down, out);
}

static void backward(const qs_part_call *c, qs_mat in, qs_mat d_out, qs_mat d_in)
{
    const qs_mlp_config *m = config(c->layer, c->part);
    qs_mat gate_up = gate_up_of(c, in.rows), d_act = qs_part_mat(c, c->scratch.mlp.d_act, in.rows, m->ffn);
    qs_mat act = c->formed ? activate(c, gate_up) : to_act(c, in);
    qs_part_linear_inner(c, 2 * c->part + DOWN, act, c->scratch.mlp.h_down);
    qs_part_linear_backward(c, 2 * c->part + DOWN, act, c->scratch.mlp.h_down, d_out, d_act);
    (gated(m) ? qs_op_gated_backward : qs_op_activation_backward)(c->device, m->activation, gate_up, d_act,
                                                                  gate_up);
    qs_part_linear_backward(c, 2 * c->part + GATE_UP, in, h_gate_up_of(c), gate_up, d_in);
}

const qs_part_table qs_part_mlp = {.name = "mlp",
                                   .chunked = true,
                                   .tensors = tensors,
                                   .saved = saved,
                                   .scratch = scratch,
                                   .widest = widest,
                                   .forward = forward,
                                   .backward = backward};
