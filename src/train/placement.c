#include "src/train/placement.h"

#include "src/step/visit.h"

static int32_t longest_document(const qs_engine *g)
{
    int64_t most = g->train_tokens ? g->train_tokens->longest : g->options->max_seq_length;
    if (g->eval_tokens && g->eval_tokens->longest > most) most = g->eval_tokens->longest;
    return (int32_t)most;
}

void qs_placement_sizes_of_data(qs_engine *g)
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

qs_pager_spec qs_placement_packs(const qs_engine *g, qs_item item, bool on_disk)
{
    return qs_pager_spec_of(g->device, item, g->lora.layers, (uint64_t)g->lora.pack_floats * sizeof(float), on_disk, QS_PAGER_FRAMES);
}

/* The fixed needs of a job under one placement, and what else a plan is made from. */
typedef struct needs {
    qs_plan_item items[MAX_ITEMS], table;
    qs_plan_input input;
} needs;

static void state_needs(const qs_engine *g, const qs_placement *p, needs *out)
{
    const qs_options *o = g->options;
    qs_plan_item *items = out->items;
    qs_sweep_config sweep = g->sweep_config;
    qs_update_config update = g->update_config;
    qs_pager_spec masters = qs_placement_packs(g, QS_ITEM_MASTERS, p->adapters_on_disk);
    qs_pager_spec gradients = qs_placement_packs(g, QS_ITEM_GRADIENTS, p->adapters_on_disk);
    int n = 0;
    qs_placement_configure(p, &sweep);
    update.on_disk = p->adapters_on_disk;
    items[n++] = qs_pager_spec_item(&masters);
    items[n++] = qs_pager_spec_item(&gradients);
    n += qs_update_items(&update, items + n, MAX_ITEMS - n);
    n += qs_sweep_items(&sweep, items + n, MAX_ITEMS - n);
    items[n++] = (qs_plan_item){QS_ITEM_QUANTISE_ON_LOAD, QS_POOL_HOST, qs_tier_round(qs_quantise_on_load_bytes(&g->layout))};
    items[n++] = (qs_plan_item){QS_ITEM_EMBEDDING_READS, QS_POOL_HOST,
                                qs_tier_round(qs_embedding_bytes(&g->architecture, g->source, sweep.sizes.max_tokens))};
    out->table = (qs_plan_item){QS_ITEM_EMBEDDING_TABLE, QS_POOL_HOST, qs_tier_round(qs_embedding_table_bytes(&g->architecture, g->source))};
    out->input = (qs_plan_input){.vram_bytes = o->vram, .ram_bytes = o->ram, .device_overhead_bytes = g->device->info.overhead_bytes,
                                 .shared_memory = g->device->info.shared_memory, .items = items, .item_count = n, .blobs = qs_layout_blobs(&g->layout),
                                 .blob_bytes = g->blob_bytes, .wish = &out->table, .ring_slots = p->ring_slots,
                                 .most_homes = (int)o->resident_layers};
}

int qs_placement_plan(const qs_engine *g, const qs_placement *p, qs_plan *out, qs_err *e)
{
    needs n;
    state_needs(g, p, &n);
    return qs_plan_make(&n.input, out, e);
}

void qs_placement_configure(const qs_placement *p, qs_sweep_config *c)
{
    c->sizes.mlp_rows = p->mlp_rows;
    c->sizes.head_rows = p->head_rows;
    c->keep_logits = p->keep_logits;
    c->saved_layers = p->saved_layers;
    c->saved_in_ram = p->saved_in_ram;
    c->sweeps = p->sweeps;
    c->checkpoints_on_disk = p->checkpoints_on_disk;
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

void qs_placement_job(const qs_engine *g, const qs_placement *p, const qs_plan *plan, qs_job *out)
{
    *out = (qs_job){.sweep = g->sweep_config, .update = g->update_config, .plan = plan, .blob_bytes = g->blob_bytes,
                    .recipe = !g->hardware && qs_source_is_recipe(g->source)};
    qs_placement_configure(p, &out->sweep);
    out->update.on_disk = p->adapters_on_disk;
    typical_batch(g, &out->tokens, &out->document_tokens);
}

void qs_placement_budgets(const qs_engine *g, const qs_placement *p, uint64_t *vram_bytes, uint64_t *ram_bytes)
{
    needs n;
    state_needs(g, p, &n);
    qs_plan_minimum(&n.input, vram_bytes, ram_bytes);
    n.input.vram_bytes = *vram_bytes; /* what RAM must hold beside the smallest device */
    qs_plan_minimum(&n.input, vram_bytes, ram_bytes);
}

uint64_t qs_placement_written_bytes(const qs_engine *g) { return qs_visit_written_bytes(&g->sweep_config, &g->update_config); }
