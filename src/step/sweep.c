#include "src/step/sweep_parts.h"

#include <math.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/step/visit_compute.h"

/* ---- visits ------------------------------------------------------------------------------------------ */

static qs_block_batch block_batch(const qs_sweep *s, int32_t mb)
{
    const qs_sweep_batch_arrays *b = &s->batches[mb];
    return (qs_block_batch){.rows = b->rows,
                            .positions = b->positions,
                            .document_start = b->document_start,
                            .cos = b->cos,
                            .sin = b->sin};
}

static int32_t *flag(const qs_sweep *s, bool backward, int32_t level, int32_t mb)
{
    return s->flags + ((backward ? s->c.layout->layers + 1 : 0) + level) * s->c.sizes.micro_batches + mb;
}

/* The pagers of checkpoints and saved activations go on to this micro-batch of the visit. Returns its slot.
 */
static int32_t next_micro_batch(qs_sweep *s, int32_t mb)
{
    int32_t slot = qs_sweep_slot(s, mb);
    qs_pager_at(s->checkpoints, qs_visit_tick(&s->rules, s->visit, slot));
    if (s->saved_records && s->current == &s->train_schedule)
        qs_pager_at(s->saved_records, qs_visit_tick(&s->rules, s->visit, slot));
    return slot;
}

static int visit_embed(qs_sweep *s, const qs_visit *v, qs_err *e)
{
    int32_t level = qs_visit_levels_of(&s->c, v).out;
    size_t row = (size_t)s->c.a->hidden * qs_dtype_bytes(s->c.type);
    for (int32_t mb = v->first; mb < v->first + v->count; mb++) {
        const qs_micro_batch *b = &s->host_batches[mb];
        size_t rows = (size_t)s->batches[mb].rows;
        int32_t slot = next_micro_batch(s, mb);
        qs_activation_store_set_bytes(s->activations, slot, rows * row);
        char *x = qs_activation_store_host(s->activations, level, slot);
        QS_TRY(qs_embedding_gather(s->parts.embedding, b->ids, (int32_t)b->tokens, x, s->c.type, e));
        memset(x + (size_t)b->tokens * row, 0, (rows - (size_t)b->tokens) * row);
        qs_activation_store_host_written(s->activations, level, slot);
    }
    return 0;
}

/* x: what the layer reads; y: forward what it makes, backward the gradient of that, which becomes x's. */
static void visit_layer(qs_sweep *s, const qs_visit *v, const qs_layer_weights *w, bool evaluate)
{
    qs_visit_work work = qs_visit_work_of(&s->rules, v);
    qs_visit_levels level = qs_visit_levels_of(&s->c, v);
    bool forward = v->kind == QS_VISIT_FORWARD;
    if (evaluate) work.saved = false;
    for (int32_t mb = v->first; mb < v->first + v->count; mb++) {
        int32_t slot = next_micro_batch(s, mb);
        void *in = qs_activation_store_get(s->activations, level.in, slot),
             *out = (forward ? qs_activation_store_new : qs_activation_store_get)(s->activations, level.out,
                                                                                  slot);
        if (mb + 1 < v->first + v->count) qs_activation_store_expect(s->activations, level.ahead, slot + 1);
        qs_block_lora l = qs_sweep_lora(s, v->index, mb, evaluate);
        qs_block_batch batch = block_batch(s, mb);
        qs_block_call call = {.w = w, .l = &l, .batch = &batch, .x = forward ? in : out};
        call.y = forward ? out : in;
        call.dx = call.x;
        call.kept = work.saved ? qs_sweep_saved(s, v, mb) : NULL;
        qs_visit_compute_layer(&s->c, &work, s->block, &call, flag(s, !forward, level.out, mb));
        if (work.saved) qs_sweep_saved_done(s, v, mb);
        qs_activation_store_put(s->activations, level.in, slot, false);
        qs_activation_store_put(s->activations, level.out, slot, forward || work.input_gradient);
        qs_stream_poll(s->parts.stream);
    }
}

static void visit_head(qs_sweep *s, const qs_visit *v, qs_mat tile)
{
    qs_visit_work work = qs_visit_work_of(&s->rules, v);
    int32_t level = qs_visit_levels_of(&s->c, v).in;
    bool gradient = v->kind == QS_VISIT_HEAD_GRADIENT;
    for (int32_t mb = v->first; mb < v->first + v->count; mb++) {
        const qs_sweep_batch_arrays *b = &s->batches[mb];
        int32_t slot = next_micro_batch(s, mb);
        qs_visit_head_call call = {.head = s->head,
                                   .slot = slot,
                                   .rows = b->rows,
                                   .tile = tile,
                                   .vocab_start = v->index * s->c.layout->tile_rows,
                                   .norm = qs_sweep_final_norm(s),
                                   .target = b->target,
                                   .scale = s->scale,
                                   .loss = s->loss + (size_t)mb * (size_t)s->max_rows};
        if (level >= 0) call.x = qs_activation_store_get(s->activations, level, slot);
        if (gradient && level >= 0) call.flag = flag(s, true, level, mb);
        qs_visit_compute_head(&s->c, &work, &call);
        if (level >= 0) qs_activation_store_put(s->activations, level, slot, gradient);
        if (s->logits_out)
            qs_head_logits(s->head, slot, s->logits_first, s->logits_rows, tile, call.vocab_start,
                           s->logits_out);
        qs_stream_poll(s->parts.stream);
    }
}

/* last: the micro-batches of this visit are the last ones of the step. */
static int run_visit(qs_sweep *s, const qs_visit *v, const void *blob, bool evaluate, bool last, qs_err *e)
{
    qs_layer_weights w;
    bool backward = v->kind == QS_VISIT_BACKWARD;
    switch (v->kind) {
    case QS_VISIT_EMBED:
        return visit_embed(s, v, e);
    case QS_VISIT_FORWARD:
    case QS_VISIT_BACKWARD:
        w = qs_sweep_weights(s, v->index, blob);
        qs_sweep_adapters_in(s, v, backward);
        visit_layer(s, v, &w, evaluate);
        qs_sweep_adapters_out(s, v, backward, last);
        return 0;
    case QS_VISIT_HEAD_LOSS:
    case QS_VISIT_HEAD_GRADIENT:
        visit_head(s, v, qs_sweep_tile(s, v->index, blob));
        return 0;
    case QS_VISIT_UPDATE:
        return 0; /* the trainer's: src/step/update.h */
    }
    return 0;
}

/* The host stood still for the disk, so far. */
static uint64_t disk_wait(const qs_sweep *s)
{
    return qs_stream_stats_read(s->parts.stream).disk_wait_ns +
           qs_pager_stats_read(s->parts.masters).wait_ns + qs_pager_stats_read(s->parts.gradients).wait_ns +
           qs_pager_stats_read(s->checkpoints).wait_ns;
}

/* Failures that could not be told when they happened. */
static int check_all(const qs_sweep *s, qs_err *e)
{
    QS_TRY(s->c.device->api->check(s->c.device, e));
    QS_TRY(qs_pager_check(s->parts.masters, e));
    QS_TRY(qs_pager_check(s->parts.gradients, e));
    return qs_pager_check(s->checkpoints, e);
}

static void sync_queues(const qs_sweep *s)
{
    for (int q = 0; q < QS_QUEUE_COUNT; q++) s->c.device->api->queue_sync(s->c.device, (qs_queue)q);
}

/* Between two operations of a device that computes on this host. */
static void see_to_disk(void *stream) { qs_stream_poll(stream); }

/* Schedules are for full steps; in a shorter one (the end of an epoch) visits serve the micro-batches there
 * are, or none. */
static int visit_all(qs_sweep *s, const qs_schedule *list, int32_t micro_batches, bool evaluate, qs_err *e)
{
    s->current = list;
    memset(s->times, 0, (size_t)list->count * sizeof *s->times);
    qs_stream_begin(s->parts.stream, list);
    qs_pager_begin(s->parts.masters, evaluate ? &s->masters_evaluate : &s->masters_train);
    if (!evaluate) qs_pager_begin(s->parts.gradients, &s->gradients_train);
    qs_pager_begin(s->checkpoints, evaluate ? &s->checkpoints_evaluate : &s->checkpoints_train);
    if (s->saved_records && !evaluate) qs_pager_begin(s->saved_records, &s->saved_train);
    for (int32_t v = 0; v < list->count; v++) {
        qs_visit_time *t = &s->times[v];
        qs_visit visit = list->visits[v];
        const void *blob;
        if (visit.first + visit.count > micro_batches) visit.count = micro_batches - visit.first;
        if (visit.count <= 0) continue;
        s->visit = v;
        qs_pager_at(s->parts.masters, v);
        if (!evaluate) qs_pager_at(s->parts.gradients, v);
        qs_stream_stats before = qs_stream_stats_read(s->parts.stream);
        uint64_t waited = disk_wait(s);
        t->start_ns = qs_now_ns();
        QS_TRY(qs_stream_acquire(s->parts.stream, v, &blob, e));
        int rc = run_visit(s, &visit, blob, evaluate, visit.first + visit.count == micro_batches, e);
        qs_stream_release(s->parts.stream, v);
        QS_TRY(rc);
        QS_TRY(check_all(s, e));
        qs_stream_stats after = qs_stream_stats_read(s->parts.stream);
        t->end_ns = qs_now_ns();
        t->disk_wait_ns = disk_wait(s) - waited;
        t->link_wait_ns = after.link_wait_ns - before.link_wait_ns;
        t->make_ns = after.make_ns - before.make_ns;
        t->disk_read_bytes = after.disk_read_bytes - before.disk_read_bytes;
        if (s->c.visited && !s->c.visited(s->c.visited_context, v + 1, list->count) && v + 1 < list->count) {
            sync_queues(s);
            QS_FAIL(e, QS_EINTERRUPT, "stopped between two visits");
        }
    }
    sync_queues(s);
    return check_all(s, e);
}

static int walk(qs_sweep *s, const qs_schedule *list, int32_t micro_batches, bool evaluate, qs_err *e)
{
    qs_device *d = s->c.device;
    if (d->info.host_computes) {
        d->on_op_end = see_to_disk;
        d->on_op_end_context = s->parts.stream;
    }
    int rc = visit_all(s, list, micro_batches, evaluate, e);
    d->on_op_end = NULL;
    return rc;
}

/* ---- steps ------------------------------------------------------------------------------------------- */

/* Losses and flags to the host; the loss is summed row by row in double. */
static void collect(qs_sweep *s, int32_t micro_batches, qs_sweep_result *out)
{
    qs_device *d = s->c.device;
    *out = (qs_sweep_result){.gradient_squares = s->host_squares, .bad_micro_batch = -1, .bad_document = -1};
    if (!d->info.shared_memory) {
        d->api->copy_out(d, QS_QUEUE_COMPUTE, s->host_loss, s->loss,
                         (size_t)micro_batches * (size_t)s->max_rows * sizeof(float));
        d->api->copy_out(d, QS_QUEUE_COMPUTE, s->host_flags, s->flags, s->flag_count * sizeof(int32_t));
        d->api->copy_out(d, QS_QUEUE_COMPUTE, s->host_squares, s->squares,
                         (size_t)s->c.layout->layers * sizeof(double));
        d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    }
    for (int32_t mb = 0; mb < micro_batches; mb++) {
        const qs_micro_batch *b = &s->host_batches[mb];
        for (int64_t i = 0; i < b->tokens; i++)
            out->loss_sum += s->host_loss[(size_t)mb * (size_t)s->max_rows + (size_t)i];
        out->targets += b->targets;
        out->tokens += b->tokens;
    }
}

/* The document of mb that has the first non-finite loss, or -1. */
static int32_t bad_document(const qs_sweep *s, int32_t mb)
{
    const qs_micro_batch *b = &s->host_batches[mb];
    for (int64_t i = 0; i < b->tokens; i++) {
        if (isfinite(s->host_loss[(size_t)mb * (size_t)s->max_rows + (size_t)i])) continue;
        int32_t document = 0;
        while (document + 1 < b->documents && b->offsets[document + 1] <= i) document++;
        return document;
    }
    return b->documents == 1 ? 0 : -1;
}

static int check_outputs(const qs_sweep *s, int32_t micro_batches, qs_sweep_result *out, qs_err *e)
{
    int32_t layers = s->c.layout->layers, k = s->c.sizes.micro_batches;
    for (int32_t level = 1; level <= layers; level++)
        for (int32_t mb = 0; mb < micro_batches; mb++)
            if (s->host_flags[level * k + mb]) {
                out->bad_micro_batch = mb;
                out->bad_document = bad_document(s, mb);
                QS_FAIL(e, QS_ENUMERIC, "the output of layer %d is not finite in micro-batch %d", level - 1,
                        mb);
            }
    for (int32_t mb = 0; mb < micro_batches; mb++) {
        const float *loss = s->host_loss + (size_t)mb * (size_t)s->max_rows;
        for (int64_t i = 0; i < s->host_batches[mb].tokens; i++)
            if (!isfinite(loss[i])) {
                out->bad_micro_batch = mb;
                out->bad_document = bad_document(s, mb);
                QS_FAIL(e, QS_ENUMERIC, "the loss is not finite in micro-batch %d", mb);
            }
    }
    return 0;
}

static int check_gradients(const qs_sweep *s, int32_t micro_batches, qs_sweep_result *out, qs_err *e)
{
    int32_t layers = s->c.layout->layers, k = s->c.sizes.micro_batches;
    for (int32_t level = layers; level >= 0; level--)
        for (int32_t mb = 0; mb < micro_batches; mb++)
            if (s->host_flags[(layers + 1 + level) * k + mb]) {
                out->bad_micro_batch = mb;
                out->bad_document = s->host_batches[mb].documents == 1 ? 0 : -1;
                QS_FAIL(e, QS_ENUMERIC, "the gradient below layer %d is not finite in micro-batch %d", level,
                        mb);
            }
    return 0;
}

int qs_sweep_train(qs_sweep *s, int32_t micro_batches, int64_t step, double loss_scale, qs_sweep_result *out,
                   qs_err *e)
{
    QS_ASSERT(micro_batches > 0 && micro_batches <= s->c.sizes.micro_batches);
    out->bad_micro_batch = out->bad_document = -1;
    s->step = step;
    qs_sweep_upload(s, micro_batches);
    int64_t targets = 0;
    for (int32_t mb = 0; mb < micro_batches; mb++) targets += s->host_batches[mb].targets;
    QS_ASSERT(targets > 0);
    s->scale = (float)(loss_scale / (double)targets);
    QS_TRY(walk(s, &s->train_schedule, micro_batches, false, e));
    collect(s, micro_batches, out);
    QS_TRY(check_outputs(s, micro_batches, out, e));
    if (loss_scale == 1) return check_gradients(s, micro_batches, out, e);
    qs_err overflow = {0};
    out->overflow = check_gradients(s, micro_batches, out, &overflow) != 0;
    for (int32_t layer = 0; layer < s->c.layout->layers; layer++)
        out->overflow |= !isfinite(out->gradient_squares[layer]);
    return 0;
}

int qs_sweep_evaluate(qs_sweep *s, int32_t micro_batches, qs_sweep_result *out, qs_err *e)
{
    QS_ASSERT(micro_batches > 0 && micro_batches <= s->c.sizes.micro_batches);
    qs_sweep_upload(s, micro_batches);
    QS_TRY(walk(s, &s->evaluate_schedule, micro_batches, true, e));
    collect(s, micro_batches, out);
    return check_outputs(s, micro_batches, out, e);
}

const float *qs_sweep_losses(const qs_sweep *s, int32_t mb)
{
    return s->host_loss + (size_t)mb * (size_t)s->max_rows;
}

int qs_sweep_logits(qs_sweep *s, int32_t first, int32_t rows, float *out, qs_err *e)
{
    qs_sweep_upload(s, 1);
    s->logits_first = first;
    s->logits_rows = rows;
    s->logits_out = out;
    int rc = walk(s, &s->evaluate_schedule, 1, true, e);
    s->logits_out = NULL;
    return rc;
}

qs_micro_batch *qs_sweep_batch(qs_sweep *s, int32_t mb) { return &s->host_batches[mb]; }
const qs_schedule *qs_sweep_schedule(const qs_sweep *s) { return s->current; }
const qs_visit_time *qs_sweep_times(const qs_sweep *s) { return s->times; }
uint64_t qs_sweep_link_bytes(const qs_sweep *s)
{
    return qs_activation_store_link_bytes(s->activations) +
           (s->saved_store ? qs_activation_store_link_bytes(s->saved_store) : 0) +
           qs_stream_stats_read(s->parts.stream).link_bytes;
}
