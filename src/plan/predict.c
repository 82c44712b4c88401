#include "src/plan/predict.h"

#include "src/base/memory.h"
#include "src/step/fetches.h"

/* A list of operations at a machine's rates. */
typedef struct price_tag {
    double seconds;
    int64_t calls;
} price_tag;

/* A job while its visits are priced. */
typedef struct pricing {
    const qs_placed_job *job;
    const qs_rates *rates;
    qs_costs costs;
    struct visit_price {
        price_tag decode, once, each;
    } * price; /* [costs.count] */
    qs_visit_rules rules;
    qs_record_bytes bytes;
    qs_fetches fetches;
    int32_t dense_blob; /* whose weights the dense scratch holds */
} pricing;

static price_tag tag_of(const qs_rates *rates, const qs_op_list *l)
{
    return (price_tag){qs_rates_total(rates, l), qs_rates_calls(l)};
}

static void add(const pricing *p, qs_sim_work *w, price_tag tag, int32_t times)
{
    w->seconds += tag.seconds * times;
    w->host_seconds += p->rates->launch_seconds * (double)(tag.calls * times);
    w->looks += (int32_t)(tag.calls * times / w->polls);
}

/* Dequantises unless that was done by the visit before. */
static void price_visit(pricing *p, const qs_visit *v, qs_sim_work *w)
{
    qs_visit_work work = qs_visit_work_of(&p->rules, v);
    const struct visit_price *price = &p->price[qs_costs_find(&p->costs, &work)];
    if (price->decode.calls) {
        if (p->dense_blob != v->blob) add(p, w, price->decode, 1);
        p->dense_blob = v->blob;
    }
    add(p, w, price->once, 1);
    add(p, w, price->each, v->count);
}

/* The host gathers and converts the embeddings. */
static void price_embedding(const pricing *p, const qs_visit *v, qs_sim_work *w)
{
    w->seconds = (double)v->count * p->job->tokens * p->job->sweep.a->hidden * 2.0 /
                 (p->rates->quantise_on_load > 0 ? p->rates->quantise_on_load : 1e9);
    w->host_seconds = w->seconds;
}

/* What the visit moves besides weights. Nothing crosses a link where memory is shared. */
static void add_traffic(const pricing *p, const qs_schedule *list, int32_t visit, qs_sim_work *w)
{
    qs_visit_traffic t = qs_visit_traffic_of(&p->rules, &p->bytes, &list->visits[visit]);
    for (int k = 0; k < QS_RECORDS; k++)
        if (p->fetches.of[k]) t.link_in += (uint64_t)p->fetches.of[k][visit] * p->bytes.link[k];
    bool shared = p->job->sweep.device->info.shared_memory;
    w->link_in_bytes = shared ? 0 : t.link_in;
    w->link_out_bytes = shared ? 0 : t.link_out;
    w->disk_read_bytes = t.disk_read;
    w->disk_write_bytes = t.disk_write;
}

static void price(pricing *p, const qs_schedule *list, qs_sim_work *work)
{
    const qs_sweep_config *c = &p->job->sweep;
    for (int pass = 0; pass < 2;
         pass++) /* the second knows whose weights the step before left in the scratch */
        for (int32_t v = 0; v < list->count; v++) {
            const qs_visit *visit = &list->visits[v];
            qs_sim_work *w = &work[v];
            *w = (qs_sim_work){.polls = visit->kind == QS_VISIT_EMBED ? 1 : visit->count};
            if (visit->kind == QS_VISIT_EMBED)
                price_embedding(p, visit, w);
            else
                price_visit(p, visit, w);
            add_traffic(p, list, v, w);
            if (c->device->info.host_computes)
                w->host_seconds = 0;
            else
                w->looks = 0;
        }
}

/* What a blob is made from, and how long making it takes. */
static void price_quantise_on_load(const pricing *p, uint64_t *source, double *seconds)
{
    const qs_layout *l = p->job->sweep.layout;
    for (int b = 0; b < qs_layout_blobs(l); b++) {
        uint64_t bytes = b < l->layers ? qs_layout_layer(l, b)->dense_elements * qs_dtype_bytes(l->base_type)
                                       : l->tile_bytes;
        source[b] = p->job->recipe ? 0 : bytes;
        bool copied = b >= l->layers && !p->job->recipe; /* a tile of the head is only moved */
        seconds[b] =
            copied || p->rates->quantise_on_load <= 0 ? 0 : (double)bytes / p->rates->quantise_on_load;
    }
}

static double most(double a, double b) { return a > b ? a : b; }

static void conclude(const qs_placed_job *job, const qs_sim_input *in, qs_prediction *out)
{
    const qs_sim_step *s = &out->sim.steady;
    out->known = true;
    out->step_seconds = s->seconds;
    out->first_step_seconds = out->sim.first.seconds;
    out->tokens = (double)job->tokens * job->sweep.sizes.micro_batches;
    out->bound_seconds = qs_sim_bound(in);
    out->disk_write_bytes = s->disk_write_bytes;
    double stream = most(s->busy[QS_SIM_DISK], s->busy[QS_SIM_LINK_IN]), compute = s->busy[QS_SIM_COMPUTE];
    if (s->disk_read_bytes || s->link_in_bytes)
        out->hide_tokens = compute > 0 ? stream / compute * out->tokens : 0;
}

void qs_predict(const qs_placed_job *job, const qs_rates *rates, qs_prediction *out)
{
    const qs_sweep_config *c = &job->sweep;
    const qs_layout *l = c->layout;
    pricing p = {.job = job, .rates = rates, .rules = qs_visit_rules_of(c), .dense_blob = -1};
    int32_t rows = qs_sweep_rows(c->sizes.max_tokens, job->tokens); /* padded tokens of a micro-batch */
    *out = (qs_prediction){0};
    p.bytes = qs_record_bytes_of(c, &job->update, rows, c->saved_in_ram ? qs_sweep_saved_bytes(c) : 0);
    qs_costs_note(c, &job->update, rows, job->document_tokens, &p.costs);
    p.price = qs_calloc((size_t)p.costs.count, sizeof *p.price);
    for (int i = 0; i < p.costs.count; i++) {
        const qs_visit_cost *cost = &p.costs.visits[i];
        p.price[i] = (struct visit_price){tag_of(rates, &cost->decode), tag_of(rates, &cost->once),
                                          tag_of(rates, &cost->each)};
    }

    qs_schedule_train(l->layers, l->tiles, c->sizes.micro_batches, p.rules.lowest, c->sweeps, &out->schedule);
    qs_fetches_count(&p.rules, &out->schedule, &p.fetches);
    size_t blobs = (size_t)qs_layout_blobs(l);
    qs_sim_work *work = qs_calloc((size_t)out->schedule.count, sizeof *work);
    uint64_t *source = qs_calloc(blobs, sizeof *source);
    double *make = qs_calloc(blobs, sizeof *make);
    price(&p, &out->schedule, work);
    price_quantise_on_load(&p, source, make);
    qs_sim_input in = {.schedule = &out->schedule,
                       .plan = job->plan,
                       .blob_bytes = job->blob_bytes,
                       .shared_memory = c->device->info.shared_memory,
                       .host_computes = c->device->info.host_computes,
                       .rates = rates->io,
                       .work = work,
                       .source_bytes = source,
                       .make_seconds = make};
    qs_simulate(&in, &out->sim);
    conclude(job, &in, out);
    qs_costs_free(&p.costs);
    qs_fetches_free(&p.fetches);
    qs_free(p.price);
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
