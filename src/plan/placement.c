#include "src/plan/placement.h"

#include "src/model/embedding.h"
#include "src/step/quantise_on_load.h"

enum { MAX_ITEMS = 24 };

qs_pager_spec qs_placement_packs(const qs_job *j, qs_item item, bool on_disk)
{
    return qs_pager_spec_of(j->sweep.device, item, j->sweep.lora->layers,
                            (uint64_t)j->sweep.lora->pack_floats * sizeof(float), on_disk, QS_PAGER_FRAMES);
}

/* The fixed needs of a job under one placement, and what else a plan is made from. */
typedef struct needs {
    qs_plan_item items[MAX_ITEMS], table;
    qs_plan_input input;
} needs;

static void state_needs(const qs_job *j, const qs_placement *p, needs *out)
{
    qs_plan_item *items = out->items;
    qs_sweep_config sweep = j->sweep;
    qs_update_config update = j->update;
    qs_pager_spec masters = qs_placement_packs(j, QS_ITEM_MASTERS, p->adapters_on_disk);
    qs_pager_spec gradients = qs_placement_packs(j, QS_ITEM_GRADIENTS, p->adapters_on_disk);
    int n = 0;
    qs_placement_configure(p, &sweep);
    update.on_disk = p->adapters_on_disk;
    items[n++] = qs_pager_spec_item(&masters);
    items[n++] = qs_pager_spec_item(&gradients);
    n += qs_update_items(&update, items + n, MAX_ITEMS - n);
    n += qs_sweep_items(&sweep, items + n, MAX_ITEMS - n);
    items[n++] = (qs_plan_item){QS_ITEM_QUANTISE_ON_LOAD, QS_POOL_HOST,
                                qs_tier_round(qs_quantise_on_load_bytes(j->sweep.layout))};
    items[n++] =
        (qs_plan_item){QS_ITEM_EMBEDDING_READS, QS_POOL_HOST,
                       qs_tier_round(qs_embedding_bytes(j->sweep.a, j->source, sweep.sizes.max_tokens))};
    out->table = (qs_plan_item){QS_ITEM_EMBEDDING_TABLE, QS_POOL_HOST,
                                qs_tier_round(qs_embedding_table_bytes(j->sweep.a, j->source))};
    out->input = (qs_plan_input){.vram_bytes = j->vram_bytes,
                                 .ram_bytes = j->ram_bytes,
                                 .device_overhead_bytes = j->sweep.device->info.overhead_bytes,
                                 .shared_memory = j->sweep.device->info.shared_memory,
                                 .items = items,
                                 .item_count = n,
                                 .blobs = qs_layout_blobs(j->sweep.layout),
                                 .blob_bytes = j->blob_bytes,
                                 .wish = &out->table,
                                 .ring_slots = p->ring_slots,
                                 .most_homes = (int)j->options->resident_layers};
}

int qs_placement_plan(const qs_job *j, const qs_placement *p, qs_plan *out, qs_err *e)
{
    needs n;
    state_needs(j, p, &n);
    return qs_plan_make(&n.input, out, e);
}

void qs_placement_configure(const qs_placement *p, qs_sweep_config *c)
{
    c->sizes.mlp_rows = p->mlp_rows;
    c->sizes.head_rows = p->head_rows;
    c->dense_by_group = p->dense_by_group;
    c->keep_logits = p->keep_logits;
    c->saved_layers = p->saved_layers;
    c->saved_in_ram = p->saved_in_ram;
    c->sweeps = p->sweeps;
    c->checkpoints_on_disk = p->checkpoints_on_disk;
}

qs_placed_job qs_placement_apply(const qs_job *j, const qs_placement *p, const qs_plan *plan)
{
    qs_placed_job out = {.sweep = j->sweep,
                         .update = j->update,
                         .plan = plan,
                         .blob_bytes = j->blob_bytes,
                         .tokens = j->tokens,
                         .document_tokens = j->document_tokens,
                         .recipe = j->recipe};
    qs_placement_configure(p, &out.sweep);
    out.update.on_disk = p->adapters_on_disk;
    return out;
}

void qs_placement_budgets(const qs_job *j, const qs_placement *p, uint64_t *vram_bytes, uint64_t *ram_bytes)
{
    needs n;
    state_needs(j, p, &n);
    qs_plan_minimum(&n.input, vram_bytes, ram_bytes);
    n.input.vram_bytes = *vram_bytes; /* what RAM must hold beside the smallest device */
    qs_plan_minimum(&n.input, vram_bytes, ram_bytes);
}
