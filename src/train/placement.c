#include "src/train/placement.h"

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

qs_page_place qs_placement_packs(const qs_engine *g, const char *tag, bool on_disk)
{
    return qs_page_place_of(g->device, tag, g->lora.layers, (uint64_t)g->lora.pack_floats * sizeof(float), on_disk, QS_PAGER_FRAMES);
}

int qs_placement_plan(const qs_engine *g, const qs_placement *p, qs_plan *out, qs_err *e)
{
    const qs_options *o = g->options;
    qs_plan_item items[MAX_ITEMS];
    qs_sweep_config sweep = g->sweep_config;
    qs_update_config update = g->update_config;
    qs_page_place masters = qs_placement_packs(g, "adapter masters", p->adapters_on_disk);
    qs_page_place gradients = qs_placement_packs(g, "adapter gradients", p->adapters_on_disk);
    int n = 0;
    qs_placement_configure(p, &sweep);
    update.on_disk = p->adapters_on_disk;
    items[n++] = qs_page_place_item(&masters);
    items[n++] = qs_page_place_item(&gradients);
    n += qs_update_items(&update, items + n, MAX_ITEMS - n);
    n += qs_sweep_items(&sweep, items + n, MAX_ITEMS - n);
    items[n++] = (qs_plan_item){"first touch", QS_POOL_HOST, qs_tier_round(qs_first_touch_bytes(&g->layout))};
    items[n++] = (qs_plan_item){"embedding reads", QS_POOL_HOST,
                                qs_tier_round(qs_embedding_bytes(&g->architecture, g->source, sweep.sizes.max_tokens))};
    qs_plan_item table = {"embedding table", QS_POOL_HOST, qs_tier_round(qs_embedding_table_bytes(&g->architecture, g->source))};
    qs_plan_input in = {.vram_bytes = o->vram, .ram_bytes = o->ram, .device_overhead_bytes = g->device->info.overhead_bytes,
                        .unified = g->device->info.unified, .items = items, .item_count = n, .blobs = qs_layout_blobs(&g->layout),
                        .blob_bytes = g->blob_bytes, .wish = &table, .ring_slots = (int)o->stream_slots,
                        .most_homes = (int)o->resident_layers};
    return qs_plan_make(&in, out, e);
}

void qs_placement_configure(const qs_placement *p, qs_sweep_config *c)
{
    c->sizes.mlp_rows = p->mlp_rows;
    c->sizes.head_rows = p->head_rows;
    c->keep_logits = p->keep_logits;
}

/* Logits are kept between the two passes of the head only where no layer has to stream for it. */
static int try_plan(qs_engine *g, qs_placement *p, qs_err *e)
{
    qs_err no = {0};
    p->keep_logits = true;
    if (!qs_placement_plan(g, p, &g->plan, &no)) {
        if (!g->plan.streamed_bytes) return 0;
        qs_plan_free(&g->plan);
    }
    p->keep_logits = false;
    return qs_placement_plan(g, p, &g->plan, e);
}

/* Tiles as the options or the checkpoint say; otherwise a size that products run well at, halved until the plan fits. */
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
    for (;;) {
        qs_placement p = {.mlp_rows = mlp < rows ? mlp : rows, .head_rows = head < rows ? head : rows};
        qs_err no = {0};
        int rc = try_plan(g, &p, &no);
        bool smaller = rc == -QS_EBUDGET && ((free_mlp && mlp > LEAST_ROWS) || (free_head && head > LEAST_ROWS));
        if (!smaller) {
            if (rc) *e = no;
            else qs_placement_configure(&p, &g->sweep_config);
            return rc;
        }
        if (free_mlp && mlp > LEAST_ROWS) mlp = (mlp + 1) / 2;
        if (free_head && head > LEAST_ROWS) head = (head + 1) / 2;
    }
}
