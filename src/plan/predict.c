#include "src/plan/predict.h"

#include "src/base/memory.h"

/* A job while its visits are priced. */
typedef struct pricing {
    const qs_job *job;
    const qs_rates *rates;
    double seconds[QS_PARTS];   /* of each part's list */
    int64_t calls[QS_PARTS];
    int32_t rows, lowest;       /* padded tokens of a micro-batch; lowest layer with adapters */
    uint64_t checkpoint, pack;  /* bytes of one checkpoint, of one layer's adapters in fp32 */
    uint64_t kept;              /* of what a layer keeps of one micro-batch, where some do in RAM */
    int32_t dense_blob;         /* whose weights the dense scratch holds */
} pricing;

static void add_part(pricing *p, qs_sim_work *w, qs_part part, int32_t times)
{
    w->seconds += p->seconds[part] * times;
    w->host_seconds += p->rates->launch_seconds * (double)(p->calls[part] * times);
    w->looks += (int32_t)(p->calls[part] * times / w->polls);
}

/* Dequantises unless that was done by the visit before. */
static void add_weights(pricing *p, qs_sim_work *w, int32_t blob, qs_part part)
{
    if (p->dense_blob != blob) add_part(p, w, part, 1);
    p->dense_blob = blob;
}

/* Few micro-batches stay in the device's buffers from one visit to the next (offload/activation_store.h). */
static uint64_t from_last_visit(const pricing *p, int32_t count)
{
    return count > QS_ACTIVATION_BUFFERS - 2 ? (uint64_t)count * p->checkpoint : 0;
}

static void price_layer(pricing *p, const qs_visit *v, qs_sim_work *w)
{
    const qs_job *job = p->job;
    bool adapters = job->sweep.lora->layer_mask[v->index], forward = v->kind == QS_VISIT_FORWARD;
    int32_t level = qs_sweep_saved_level(&job->sweep, v->index);
    bool kept = level >= 0, in_ram = kept && level < job->sweep.saved_in_ram;
    uint64_t all = (uint64_t)v->count * p->checkpoint;
    add_weights(p, w, v->blob, QS_PART_WEIGHTS);
    if (forward) add_part(p, w, adapters ? QS_PART_FORWARD : QS_PART_FORWARD_PLAIN, v->count);
    else add_part(p, w, (v->index == p->lowest ? QS_PART_BACKWARD_LOWEST : adapters ? QS_PART_BACKWARD : QS_PART_BACKWARD_PLAIN) + (kept ? QS_PART_SAVED : 0), v->count);
    if (!forward && adapters) add_part(p, w, QS_PART_GRADIENTS, 1);

    w->link_in_bytes = forward ? (v->index ? from_last_visit(p, v->count) : all) : all + from_last_visit(p, v->count);
    w->link_out_bytes = all;
    if (in_ram) *(forward ? &w->link_out_bytes : &w->link_in_bytes) += (uint64_t)v->count * p->kept;
    if (adapters) w->link_in_bytes += p->pack;
    if (adapters && !forward) w->link_out_bytes += p->pack;
    bool adds = !forward && v->first > 0; /* to the gradients of the sweeps before */
    if (adapters && adds) w->link_in_bytes += p->pack;

    if (job->sweep.checkpoints_on_disk) *(forward ? &w->disk_write_bytes : &w->disk_read_bytes) += all;
    if (job->update.on_disk && adapters) {
        w->disk_read_bytes += (adds ? 2 : 1) * p->pack;
        if (!forward) w->disk_write_bytes += p->pack;
    }
}

static void price_head(pricing *p, const qs_visit *v, qs_sim_work *w)
{
    bool last = v->index == p->job->sweep.layout->tiles - 1, loss = v->kind == QS_VISIT_HEAD_LOSS;
    uint64_t all = (uint64_t)v->count * p->checkpoint;
    if (p->job->sweep.layout->head_type != p->job->sweep.type) add_weights(p, w, v->blob, QS_PART_HEAD_WEIGHTS);
    if (loss) add_part(p, w, last ? QS_PART_LOSS_LAST : QS_PART_LOSS_TILE, v->count);
    else add_part(p, w, last ? QS_PART_GRADIENT_LAST : QS_PART_GRADIENT_TILE, v->count);
    if (v->index) return;
    add_part(p, w, loss ? QS_PART_HEAD_NORM : QS_PART_HEAD_GRADIENT, v->count);
    w->link_in_bytes = loss ? from_last_visit(p, v->count) : all;
    w->link_out_bytes = loss ? 0 : all;
}

static void price_update(pricing *p, qs_sim_work *w)
{
    const qs_job *job = p->job;
    uint64_t layers = (uint64_t)job->sweep.lora->layers, packs = layers * p->pack, states = layers * qs_update_state_bytes(&job->update);
    add_part(p, w, QS_PART_UPDATE, 1);
    w->link_in_bytes = 2 * packs + states;
    w->link_out_bytes = packs + states;
    if (!job->update.on_disk) return;
    w->disk_read_bytes = 2 * packs + states;
    w->disk_write_bytes = packs + states;
}

static void price(pricing *p, const qs_schedule *list, qs_sim_work *work)
{
    const qs_sweep_config *c = &p->job->sweep;
    for (int pass = 0; pass < 2; pass++) /* the second knows whose weights the step before left in the scratch */
        for (int32_t v = 0; v < list->count; v++) {
            const qs_visit *visit = &list->visits[v];
            qs_sim_work *w = &work[v];
            *w = (qs_sim_work){.polls = visit->count};
            switch (visit->kind) {
            case QS_VISIT_EMBED:
                w->polls = 1;
                w->seconds = (double)visit->count * p->job->tokens * c->a->hidden * 2.0 / (p->rates->quantise_on_load > 0 ? p->rates->quantise_on_load : 1e9);
                w->host_seconds = w->seconds;
                break;
            case QS_VISIT_FORWARD:
            case QS_VISIT_BACKWARD: price_layer(p, visit, w); break;
            case QS_VISIT_HEAD_LOSS:
            case QS_VISIT_HEAD_GRADIENT: price_head(p, visit, w); break;
            case QS_VISIT_UPDATE: price_update(p, w); break;
            }
            if (!c->device->info.unified) {
                w->looks = 0;
                continue;
            }
            w->host_seconds = 0;
            w->link_in_bytes = w->link_out_bytes = 0;
        }
}

/* What a blob is made from, and how long making it takes. */
static void price_quantise_on_load(const pricing *p, uint64_t *source, double *seconds)
{
    const qs_layout *l = p->job->sweep.layout;
    for (int b = 0; b < qs_layout_blobs(l); b++) {
        uint64_t bytes = b < l->layers ? qs_layout_layer(l, b)->dense_elements * qs_dtype_bytes(l->base_type) : l->tile_bytes;
        source[b] = p->job->recipe ? 0 : bytes;
        bool copied = b >= l->layers && !p->job->recipe; /* a tile of the head is only moved */
        seconds[b] = copied || p->rates->quantise_on_load <= 0 ? 0 : (double)bytes / p->rates->quantise_on_load;
    }
}

static double most(double a, double b) { return a > b ? a : b; }

static void conclude(const qs_job *job, const qs_sim_input *in, qs_prediction *out)
{
    const qs_sim_step *s = &out->sim.steady;
    out->known = true;
    out->step_seconds = s->seconds;
    out->first_step_seconds = out->sim.first.seconds;
    out->tokens = (double)job->tokens * job->sweep.sizes.micro_batches;
    out->bound_seconds = qs_sim_bound(in);
    out->disk_write_bytes = s->disk_write_bytes;
    double stream = most(s->busy[QS_SIM_DISK], s->busy[QS_SIM_LINK_IN]), compute = s->busy[QS_SIM_COMPUTE];
    if (s->disk_read_bytes || s->link_in_bytes) out->hide_tokens = compute > 0 ? stream / compute * out->tokens : 0;
}

void qs_predict(const qs_job *job, const qs_rates *rates, qs_prediction *out)
{
    const qs_sweep_config *c = &job->sweep;
    const qs_layout *l = c->layout;
    qs_costs costs;
    pricing p = {.job = job, .rates = rates, .rows = qs_sweep_rows(c->sizes.max_tokens, job->tokens), .dense_blob = -1};
    *out = (qs_prediction){0};
    while (p.lowest < l->layers && !c->lora->layer_mask[p.lowest]) p.lowest++;
    p.checkpoint = (uint64_t)p.rows * (uint64_t)c->a->hidden * qs_dtype_bytes(c->type);
    p.pack = (uint64_t)c->lora->pack_floats * sizeof(float);
    if (c->saved_in_ram) p.kept = qs_sweep_saved_bytes(c);
    qs_costs_note(c, &job->update, p.rows, job->document_tokens, &costs);
    for (int i = 0; i < QS_PARTS; i++) {
        p.seconds[i] = qs_rates_total(rates, &costs.part[i]);
        p.calls[i] = qs_rates_calls(&costs.part[i]);
    }
    qs_costs_free(&costs);

    qs_schedule_train(l->layers, l->tiles, c->sizes.micro_batches, p.lowest, c->sweeps, &out->schedule);
    size_t blobs = (size_t)qs_layout_blobs(l);
    qs_sim_work *work = qs_calloc((size_t)out->schedule.count, sizeof *work);
    uint64_t *source = qs_calloc(blobs, sizeof *source);
    double *make = qs_calloc(blobs, sizeof *make);
    price(&p, &out->schedule, work);
    price_quantise_on_load(&p, source, make);
    qs_sim_input in = {.schedule = &out->schedule, .plan = job->plan, .blob_bytes = job->blob_bytes, .unified = c->device->info.unified,
                       .rates = rates->io, .work = work, .source_bytes = source, .make_seconds = make};
    qs_simulate(&in, &out->sim);
    conclude(job, &in, out);
    qs_free(work);
    qs_free(source);
    qs_free(make);
}

void qs_prediction_free(qs_prediction *p)
{
    qs_schedule_free(&p->schedule);
    qs_sim_free(&p->sim);
    *p = (qs_prediction){0};
}
