/* sweep_parts.c - what a visit needs on the device: dequantised weights, adapters, batches. */
#include "src/step/sweep_parts.h"

#include <string.h>

#include "src/base/memory.h"
#include "src/step/visit_compute.h"

/* ---- weights ----------------------------------------------------------------------------------------- */

qs_layer_weights qs_sweep_weights(qs_sweep *s, int32_t index, const void *blob)
{
    qs_layer_weights w = qs_weights_of(s->c.layout, index, s->c.type, blob, &s->dense);
    qs_weights_decode(s->c.device, &w);
    return w;
}

qs_norm qs_sweep_final_norm(const qs_sweep *s)
{
    return (qs_norm){s->norm, s->c.a->norm == QS_NORM_LAYER ? s->norm + s->c.a->hidden : NULL};
}

qs_mat qs_sweep_tile(qs_sweep *s, int32_t index, const void *blob)
{
    const qs_layout *l = s->c.layout;
    qs_mat w = qs_mat_of((void *)blob, l->head_type, qs_layout_tile_rows(l, index), s->c.a->hidden);
    if (l->head_type == s->c.type) return w;
    if (s->dense.blob != l->layers + index) {
        qs_op_convert(s->c.device, s->dense.memory, s->c.type, blob, l->head_type, w.rows * w.cols);
        s->dense.blob = l->layers + index;
    }
    return qs_mat_of(s->dense.memory, s->c.type, w.rows, w.cols);
}

/* ---- adapters ---------------------------------------------------------------------------------------- */

static bool has_adapters(const qs_sweep *s, int32_t layer) { return s->c.lora->layer_mask[layer]; }

void qs_sweep_adapters_in(qs_sweep *s, const qs_visit *v, bool backward)
{
    qs_device *d = s->c.device;
    size_t bytes = (size_t)s->c.lora->pack_floats * sizeof(float);
    if (!has_adapters(s, v->index)) return;
    s->pack = qs_pager_acquire(s->parts.masters, v->index, QS_PAGE_READ);
    const float *values = s->pack;
    if (!d->info.shared_memory) {
        d->api->copy_in(d, QS_QUEUE_COMPUTE, s->adapters_f32, values, bytes);
        values = s->adapters_f32;
    }
    qs_visit_convert_adapters(d, s->c.lora, s->c.type, values, s->adapters);
    if (!backward) return;
    bool first = qs_visit_gradient_use(v) == QS_PAGE_NEW;
    s->pack_gradients = qs_pager_acquire(s->parts.gradients, v->index, qs_visit_gradient_use(v));
    float *gradients = d->info.shared_memory ? s->pack_gradients : s->gradients;
    if (first)
        qs_visit_clear_gradients(d, s->c.lora, gradients);
    else if (!d->info.shared_memory)
        d->api->copy_in(d, QS_QUEUE_COMPUTE, gradients, s->pack_gradients, bytes);
}

void qs_sweep_adapters_out(qs_sweep *s, const qs_visit *v, bool backward, bool last)
{
    qs_device *d = s->c.device;
    int64_t floats = s->c.lora->pack_floats;
    if (!has_adapters(s, v->index)) return;
    qs_pager_release(s->parts.masters, v->index, false, QS_QUEUE_COMPUTE);
    if (!backward) return;
    const float *gradients = d->info.shared_memory ? s->pack_gradients : s->gradients;
    if (last) qs_op_sum_squares(d, gradients, floats, &s->squares[v->index]);
    if (!d->info.shared_memory)
        d->api->copy_out(d, QS_QUEUE_COMPUTE, s->pack_gradients, s->gradients,
                         (size_t)floats * sizeof(float));
    qs_pager_release(s->parts.gradients, v->index, true, QS_QUEUE_COMPUTE);
}

qs_block_lora qs_sweep_lora(const qs_sweep *s, int32_t layer, int32_t mb, bool evaluate)
{
    if (!has_adapters(s, layer)) return (qs_block_lora){0};
    bool shared = s->c.device->info.shared_memory;
    const void *f32 = shared ? s->pack : s->adapters_f32;
    return (qs_block_lora){.lora = qs_lora_of_layer(s->c.lora, layer),
                           .values = s->c.type == QS_F32 ? f32 : s->adapters,
                           .gradients = shared ? s->pack_gradients : s->gradients,
                           .dropout = evaluate ? 0 : s->c.lora->config.dropout,
                           .seed = s->c.seed,
                           /* step, micro-batch, layer, linear: 36 + 12 + 12 + 4 bits */
                           .stream = (uint64_t)s->step << 28 | (uint64_t)mb << 16 | (uint64_t)layer << 4};
}

/* ---- intermediates ----------------------------------------------------------------------------------- */

void *qs_sweep_saved(qs_sweep *s, const qs_visit *v, int32_t mb)
{
    int32_t level = qs_sweep_saved_level(&s->c, v->index), slot = qs_sweep_slot(s, mb);
    int32_t in_ram = qs_visit_saved_in_ram(&s->rules, v);
    qs_visit_slot ahead = qs_visit_saved_ahead(&s->rules, v, slot);
    if (level < 0) return NULL;
    void *saved = in_ram < 0
                      ? s->saved + ((size_t)(level - s->c.saved_in_ram) * (size_t)s->group + (size_t)slot) *
                                       s->saved_bytes
                  : v->kind == QS_VISIT_FORWARD ? qs_activation_store_new(s->saved_store, level, slot)
                                                : qs_activation_store_get(s->saved_store, level, slot);
    if (ahead.level >= 0) qs_activation_store_expect(s->saved_store, ahead.level, ahead.slot);
    return saved;
}

void qs_sweep_saved_done(qs_sweep *s, const qs_visit *v, int32_t mb)
{
    int32_t level = qs_visit_saved_in_ram(&s->rules, v);
    if (level >= 0)
        qs_activation_store_put(s->saved_store, level, qs_sweep_slot(s, mb), v->kind == QS_VISIT_FORWARD);
}

/* ---- batches ----------------------------------------------------------------------------------------- */

/* Tokens of the micro-batch's longest document. */
static int32_t longest_document(const qs_micro_batch *b)
{
    int32_t most = 0;
    for (int64_t i = 0; i < b->tokens; i++)
        if (b->positions[i] >= most) most = b->positions[i] + 1;
    return most;
}

/* Tables for this length alone. */
static void make_tables(const qs_sweep *s, int i, int32_t positions, qs_sweep_batch_arrays *to)
{
    qs_device *d = s->c.device;
    size_t table = (size_t)positions * (size_t)s->c.a->rotary[i].dim / 2;
    qs_rotary_tables(&s->c.a->rotary[i], positions, to->own_host[i], to->own_host[i] + table);
    if (to->own_host[i] != to->own[i])
        d->api->copy_in(d, QS_QUEUE_COMPUTE, to->own[i], to->own_host[i], 2 * table * sizeof(float));
    to->cos[i] = to->own[i];
    to->sin[i] = to->own[i] + table;
}

/* Long texts may turn by other waves; it is the micro-batch's own length that decides. */
static void choose_tables(const qs_sweep *s, const qs_micro_batch *b, qs_sweep_batch_arrays *to)
{
    const qs_architecture *a = s->c.a;
    int32_t longest = longest_document(b);
    for (int i = 0; i < a->rotaries; i++) {
        to->cos[i] = s->cos[i], to->sin[i] = s->sin[i];
        if (qs_rotary_follows_length(&a->rotary[i], longest)) make_tables(s, i, longest, to);
    }
    if (a->long_after && longest > a->long_after) to->cos[0] = s->cos[1], to->sin[0] = s->sin[1];
}

void qs_sweep_upload(qs_sweep *s, int32_t micro_batches)
{
    qs_device *d = s->c.device;
    for (int32_t mb = 0; mb < micro_batches; mb++) {
        qs_micro_batch *b = &s->host_batches[mb];
        qs_sweep_batch_arrays *to = &s->batches[mb];
        int32_t tokens = (int32_t)b->tokens, rows = qs_sweep_rows(s->c.sizes.max_tokens, tokens);
        QS_ASSERT(rows <= s->max_rows);
        choose_tables(s, b, to);
        for (int32_t i = tokens; i < rows; i++) { /* padding: documents of one token without a target */
            b->ids[i] = 0;
            b->target[i] = -1;
            b->positions[i] = 0;
            b->document_start[i] = i;
        }
        to->rows = rows;
        if (d->info.shared_memory) {
            to->target = b->target;
            to->positions = b->positions;
            to->document_start = b->document_start;
        } else {
            size_t bytes = (size_t)rows * sizeof(int32_t);
            d->api->copy_in(d, QS_QUEUE_COMPUTE, to->target, b->target, bytes);
            d->api->copy_in(d, QS_QUEUE_COMPUTE, to->positions, b->positions, bytes);
            d->api->copy_in(d, QS_QUEUE_COMPUTE, to->document_start, b->document_start, bytes);
        }
    }
    d->api->fill(d, QS_QUEUE_COMPUTE, s->flags, 0, s->flag_count * sizeof(int32_t));
}
