#include "src/train/placement.h"

#include <math.h>

static int32_t longest_document(const qs_engine *g)
{
    int64_t most = g->train_tokens ? g->train_tokens->longest : g->options->max_seq_length;
    if (g->eval_tokens && g->eval_tokens->longest > most) most = g->eval_tokens->longest;
    return (int32_t)most;
}

/* What the data says about the sizes: all but the tiles. */
static void sizes_of_data(qs_engine *g)
{
    const qs_options *o = g->options;
    qs_sweep_sizes *s = &g->sweep_config.sizes;
    *s = (qs_sweep_sizes){.max_positions = longest_document(g), .micro_batches = (int32_t)o->gradient_accumulation_steps};
    if (g->batcher) {
        const qs_batch_info *info = qs_batcher_info(g->batcher);
        s->max_tokens = (int32_t)info->max_tokens;
        s->max_documents = (int32_t)info->max_documents;
    } else {
        s->max_tokens = (int32_t)(o->max_seq_length * o->per_device_train_batch_size);
        s->max_documents = s->max_tokens;
    }
}

enum { MAX_ITEMS = 24 };

int qs_placement_plan(const qs_engine *g, const qs_placement *p, qs_plan *out, qs_err *e)
{
    const qs_options *o = g->options;
    qs_plan_item items[MAX_ITEMS];
    qs_sweep_config sweep = g->sweep_config;
    uint64_t adapters = qs_tier_round((uint64_t)qs_lora_floats(&g->lora) * sizeof(float));
    int n = 0;
    qs_placement_configure(p, &sweep);
    items[n++] = (qs_plan_item){"adapter masters", QS_POOL_HOST, adapters};
    items[n++] = (qs_plan_item){"adapter gradients", QS_POOL_HOST, adapters};
    n += qs_update_items(&g->update_config, items + n, MAX_ITEMS - n);
    n += qs_sweep_items(&sweep, items + n, MAX_ITEMS - n);
    items[n++] = (qs_plan_item){"first touch", QS_POOL_HOST, qs_tier_round(qs_first_touch_bytes(&g->layout))};
    items[n++] = (qs_plan_item){"embedding reads", QS_POOL_HOST,
                                qs_tier_round(qs_embedding_bytes(&g->architecture, g->source, sweep.sizes.max_tokens))};
    qs_plan_item table = {"embedding table", QS_POOL_HOST, qs_tier_round(qs_embedding_table_bytes(&g->architecture, g->source))};
    qs_plan_input in = {.vram_bytes = o->vram, .ram_bytes = o->ram, .device_overhead_bytes = g->device->info.overhead_bytes,
                        .unified = g->device->info.unified, .items = items, .item_count = n, .blobs = qs_layout_blobs(&g->layout),
                        .blob_bytes = g->blob_bytes, .wish = &table, .ring_slots = p->ring_slots,
                        .most_homes = (int)o->resident_layers};
    return qs_plan_make(&in, out, e);
}

void qs_placement_configure(const qs_placement *p, qs_sweep_config *c)
{
    c->sizes.mlp_rows = p->mlp_rows;
    c->sizes.head_rows = p->head_rows;
    c->keep_logits = p->keep_logits;
}

/* The data's mean micro-batch, and the mean over tokens of the length of the document they are in. */
static void typical_batch(const qs_engine *g, int32_t *tokens, int32_t *document)
{
    const qs_options *o = g->options;
    *tokens = g->sweep_config.sizes.max_tokens;
    *document = (int32_t)o->max_seq_length;
    if (!g->batcher) return;
    const qs_batch_info *info = qs_batcher_info(g->batcher);
    int64_t batches = (info->train_rows + o->per_device_train_batch_size - 1) / o->per_device_train_batch_size;
    double squares = 0, sum = 0;
    for (int64_t i = 0; i < g->train_tokens->sample_count; i++) {
        double n = g->train_tokens->samples[i].tokens;
        squares += n * n;
        sum += n;
    }
    *tokens = (int32_t)((info->train_tokens + batches - 1) / batches);
    *document = (int32_t)(squares / sum + 0.5);
}

void qs_placement_job(const qs_engine *g, const qs_sweep_config *c, const qs_plan *plan, qs_job *out)
{
    qs_plan_item optimizer[2];
    qs_update_items(&g->update_config, optimizer, 2);
    *out = (qs_job){.sweep = c, .update = &g->update_config, .plan = plan, .blob_bytes = g->blob_bytes, .optimizer_bytes = optimizer[0].bytes,
                    .recipe = !g->hardware && qs_source_is_recipe(g->source)};
    typical_batch(g, &out->tokens, &out->document_tokens);
}

/* ---- the search --------------------------------------------------------------------------------------------------------- */

/* What is tried, simplest first: a later one must be faster by this much. */
#define CLEARLY 0.995
static const int32_t ring_slots[] = {QS_PLAN_RING_SLOTS, QS_PLAN_MIN_SLOTS, 4, 6, 8};
static const struct { int32_t sweeps; bool checkpoints_on_disk, adapters_on_disk; } state_homes[] = {{1, false, false}};
enum { SLOT_CHOICES = sizeof ring_slots / sizeof *ring_slots, STATE_CHOICES = sizeof state_homes / sizeof *state_homes };

static double seconds_of(const qs_engine *g, const qs_placement *p, const qs_plan *plan, const qs_rates *rates)
{
    qs_sweep_config c = g->sweep_config;
    qs_job job;
    qs_prediction prediction;
    qs_placement_configure(p, &c);
    qs_placement_job(g, &c, plan, &job);
    job.homes = (qs_state_homes){p->checkpoints_on_disk, p->adapters_on_disk};
    qs_predict(&job, rates, &prediction);
    double seconds = prediction.step_seconds;
    qs_prediction_free(&prediction);
    return seconds;
}

/* The fastest placement with the tiles of *p that fits: completes *p, makes its plan. The refusal is that without kept logits. */
static int fastest(const qs_engine *g, const qs_rates *rates, qs_placement *p, qs_plan *plan, double *seconds, qs_err *e)
{
    qs_placement best = *p;
    int rc = -QS_EBUDGET, slots = g->options->stream_slots ? 1 : SLOT_CHOICES;
    *seconds = INFINITY;
    for (int h = 0; h < STATE_CHOICES; h++)
        for (int i = 0; i < 2 * slots; i++) {
            qs_placement try = *p;
            qs_plan made;
            try.keep_logits = i % 2;
            try.ring_slots = g->options->stream_slots ? (int32_t)g->options->stream_slots : ring_slots[i / 2];
            try.sweeps = state_homes[h].sweeps;
            try.checkpoints_on_disk = state_homes[h].checkpoints_on_disk;
            try.adapters_on_disk = state_homes[h].adapters_on_disk;
            qs_err unneeded = {0};
            int refused = qs_placement_plan(g, &try, &made, try.keep_logits ? &unneeded : e);
            if (refused == -QS_EBUDGET) continue;
            QS_ASSERT(!refused);
            double t = seconds_of(g, &try, &made, rates);
            bool pointless = i >= 2 && (!made.ring_slots || made.ring_slots != try.ring_slots); /* the same as one before */
            if (rc || (!pointless && t < *seconds * CLEARLY)) {
                if (!rc) qs_plan_free(plan);
                best = try;
                *plan = made;
                *seconds = t;
                rc = 0;
            } else {
                qs_plan_free(&made);
            }
        }
    *p = best;
    return rc;
}

static const qs_rates *nominal(const qs_engine *g) { return g->device->info.unified ? &qs_rates_nominal_cpu : &qs_rates_nominal_card; }

/* Tiles as the options or the checkpoint say; otherwise one of a few sizes, the largest such as products run well at. */
int qs_placement_choose(qs_engine *g, const qs_numeric_identity *keep, qs_err *e)
{
    enum { MLP_ROWS = 1024, HEAD_ROWS = 512, LEAST_ROWS = 32 };
    const qs_options *o = g->options;
    sizes_of_data(g);
    int32_t rows = qs_sweep_rows(g->sweep_config.sizes.max_tokens, g->sweep_config.sizes.max_tokens);
    int32_t mlp = keep ? keep->mlp_rows : (int32_t)o->mlp_tile_rows, head = keep ? keep->head_rows : (int32_t)o->head_tile_rows;
    bool free_mlp = !mlp, free_head = !head;
    if (free_mlp) mlp = rows < MLP_ROWS ? rows : MLP_ROWS;
    if (free_head) head = rows < HEAD_ROWS ? rows : HEAD_ROWS;
    qs_placement best = {.mlp_rows = 0};
    qs_err refused = {0};
    double least = INFINITY;
    for (;;) {
        qs_placement p = {.mlp_rows = mlp < rows ? mlp : rows, .head_rows = head < rows ? head : rows};
        qs_plan plan;
        double seconds;
        int rc = fastest(g, nominal(g), &p, &plan, &seconds, &refused);
        if (!rc && seconds < least * CLEARLY) {
            qs_plan_free(&g->plan);
            best = p;
            g->plan = plan;
            least = seconds;
        } else if (!rc) {
            qs_plan_free(&plan);
        }
        bool smaller = (free_mlp && mlp > LEAST_ROWS) || (free_head && head > LEAST_ROWS);
        if (!smaller) break;
        if (free_mlp && mlp > LEAST_ROWS) mlp = (mlp + 1) / 2;
        if (free_head && head > LEAST_ROWS) head = (head + 1) / 2;
    }
    if (!best.mlp_rows) {
        *e = refused;
        return -QS_EBUDGET;
    }
    qs_placement_configure(&best, &g->sweep_config);
    return 0;
}

void qs_placement_refine(qs_engine *g, const qs_rates *rates)
{
    qs_placement p = {.mlp_rows = g->sweep_config.sizes.mlp_rows, .head_rows = g->sweep_config.sizes.head_rows};
    qs_plan plan;
    double seconds;
    qs_err e = {0};
    if (fastest(g, rates, &p, &plan, &seconds, &e)) return; /* cannot be: one fits */
    qs_plan_free(&g->plan);
    g->plan = plan;
    qs_placement_configure(&p, &g->sweep_config);
}

void qs_placement_choose_micro_batch(qs_engine *g, const qs_numeric_identity *keep)
{
    enum { MOST_TOKENS = 16384, TILE_ROWS = 512 };
    qs_options *o = g->options;
    int64_t sequences = o->gradient_accumulation_steps, best = keep ? keep->micro_batch_rows : 0;
    double least = INFINITY;
    if (o->per_device_train_batch_size) return;
    for (int64_t rows = 1; rows <= sequences && rows * o->max_seq_length <= MOST_TOKENS && !(keep && keep->micro_batch_rows); rows++) {
        if (sequences % rows) continue;
        o->per_device_train_batch_size = rows;
        o->gradient_accumulation_steps = sequences / rows;
        sizes_of_data(g);
        int32_t tile = g->sweep_config.sizes.max_tokens < TILE_ROWS ? g->sweep_config.sizes.max_tokens : TILE_ROWS;
        qs_placement p = {.mlp_rows = tile, .head_rows = tile};
        qs_plan plan;
        double seconds;
        qs_err e = {0};
        if (fastest(g, nominal(g), &p, &plan, &seconds, &e)) continue;
        qs_plan_free(&plan);
        if (seconds >= least * CLEARLY) continue;
        least = seconds;
        best = rows;
    }
    o->per_device_train_batch_size = best ? best : 1;
    o->gradient_accumulation_steps = sequences / o->per_device_train_batch_size;
}
