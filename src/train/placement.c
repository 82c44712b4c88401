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
    out->table = (qs_plan_item){"embedding table", QS_POOL_HOST, qs_tier_round(qs_embedding_table_bytes(&g->architecture, g->source))};
    out->input = (qs_plan_input){.vram_bytes = o->vram, .ram_bytes = o->ram, .device_overhead_bytes = g->device->info.overhead_bytes,
                                 .unified = g->device->info.unified, .items = items, .item_count = n, .blobs = qs_layout_blobs(&g->layout),
                                 .blob_bytes = g->blob_bytes, .wish = &out->table, .ring_slots = (int)o->stream_slots,
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
    c->kept_layers = p->kept_layers;
    c->sweeps = p->sweeps;
    c->checkpoints_on_disk = p->checkpoints_on_disk;
}

/* ---- choosing ------------------------------------------------------------------------------------------------------------------- */

/* Tiles are halved from sizes that products run well at; below SENSIBLE_ROWS only when moving things to disk does not help. */
enum { MLP_ROWS = 1024, HEAD_ROWS = 512, SENSIBLE_ROWS = 64, LEAST_ROWS = 32 };

/* What is left of RAM's work to the disk, from nothing to everything, and then in how many sweeps; options that were given stand. False: there is no resort `i`. */
static bool resort(const qs_engine *g, int i, qs_placement *p)
{
    static const struct { bool adapters, checkpoints; } moved[] = {{false, false}, {true, false}, {false, true}, {true, true}};
    enum { MOVED = sizeof moved / sizeof *moved };
    const qs_options *o = g->options;
    int32_t most = g->sweep_config.sizes.micro_batches, m = i < MOVED ? i : MOVED - 1, doubled = i - m;
    if (doubled && (o->sweeps_per_step || (int64_t)1 << (doubled - 1) >= most)) return false;
    p->adapters_on_disk = o->adapters_on == QS_KEPT_DISK || (o->adapters_on == QS_KEPT_AUTO && moved[m].adapters);
    p->checkpoints_on_disk = o->checkpoints_on == QS_KEPT_DISK || (o->checkpoints_on == QS_KEPT_AUTO && moved[m].checkpoints);
    int64_t sweeps = o->sweeps_per_step ? o->sweeps_per_step : (int64_t)1 << doubled;
    p->sweeps = sweeps < most ? (int32_t)sweeps : most;
    return true;
}

/* Tile rows as the options or the checkpoint say, or 0. */
static qs_placement given_tiles(const qs_engine *g, const qs_numeric_identity *keep)
{
    return (qs_placement){.mlp_rows = keep ? keep->mlp_rows : (int32_t)g->options->mlp_tile_rows,
                          .head_rows = keep ? keep->head_rows : (int32_t)g->options->head_tile_rows};
}

/* Those, and where they are free `mlp` and `head`; never more than there are rows. */
static void set_tiles(const qs_engine *g, const qs_placement *given, int32_t mlp, int32_t head, qs_placement *p)
{
    int32_t rows = qs_sweep_rows(g->sweep_config.sizes.max_tokens, g->sweep_config.sizes.max_tokens);
    p->mlp_rows = given->mlp_rows ? given->mlp_rows : mlp;
    p->head_rows = given->head_rows ? given->head_rows : head;
    if (p->mlp_rows > rows) p->mlp_rows = rows;
    if (p->head_rows > rows) p->head_rows = rows;
}

/* Takes the placement when it fits and nothing has to stream for it. */
static bool try_resident(qs_engine *g, const qs_placement *p)
{
    qs_err no = {0};
    qs_plan plan;
    if (qs_placement_plan(g, p, &plan, &no)) return false;
    if (plan.streamed_bytes) {
        qs_plan_free(&plan);
        return false;
    }
    qs_plan_free(&g->plan);
    g->plan = plan;
    return true;
}

/* Memory that no weights need goes to what would be computed twice: layers' intermediates first, which save twice the arithmetic per byte that logits (fp32) save. */
static int try_plan(qs_engine *g, qs_placement *p, qs_err *e)
{
    int32_t most = (int32_t)g->options->keep_layers, trained = g->layout.layers;
    for (int32_t l = 0; l < g->layout.layers && !g->lora.layer_mask[l]; l++) trained--; /* layers below the first adapter have no backward pass */
    QS_TRY(qs_placement_plan(g, p, &g->plan, e));
    if (g->plan.streamed_bytes) return 0;
    if (most < 0 || most > trained) most = trained;
    for (int32_t least = 0; least < most;) { /* the most that fit, by halves */
        qs_placement more = *p;
        more.kept_layers = (least + most + 1) / 2;
        if (try_resident(g, &more)) least = (*p = more).kept_layers;
        else most = more.kept_layers - 1;
    }
    qs_placement more = *p;
    more.keep_logits = true;
    if (try_resident(g, &more)) *p = more;
    return 0;
}

/* The largest tiles of at least `least` rows with which the plan fits. */
static int try_tiles(qs_engine *g, const qs_placement *given, int32_t least, qs_placement *p, qs_err *e)
{
    for (int32_t mlp = MLP_ROWS, head = HEAD_ROWS;;) {
        qs_err no = {0};
        set_tiles(g, given, mlp, head, p);
        int rc = try_plan(g, p, &no);
        bool last = (given->mlp_rows || mlp <= least) && (given->head_rows || head <= least);
        if (rc != -QS_EBUDGET || last) {
            if (rc) *e = no;
            return rc;
        }
        if (mlp > least) mlp /= 2;
        if (head > least) head /= 2;
    }
}

int qs_placement_choose(qs_engine *g, const qs_numeric_identity *keep, qs_err *e)
{
    int rc = -QS_EBUDGET;
    qs_placement given = given_tiles(g, keep), p = {0};
    sizes_of_data(g);
    for (int32_t least = SENSIBLE_ROWS; rc == -QS_EBUDGET && least >= LEAST_ROWS; least /= 2)
        for (int i = 0; rc == -QS_EBUDGET && resort(g, i, &p); i++) rc = try_tiles(g, &given, least, &p, e);
    if (rc) return rc;
    qs_placement_configure(&p, &g->sweep_config);
    g->adapters_on_disk = g->update_config.on_disk = p.adapters_on_disk;
    return 0;
}

void qs_placement_minimum(const qs_engine *g, uint64_t *vram_bytes, uint64_t *ram_bytes)
{
    needs n;
    qs_placement given = given_tiles(g, NULL), p = {0};
    for (int i = 0; resort(g, i, &p); i++) {} /* the last one */
    set_tiles(g, &given, LEAST_ROWS, LEAST_ROWS, &p);
    state_needs(g, &p, &n);
    qs_plan_minimum(&n.input, vram_bytes, ram_bytes);
    n.input.vram_bytes = *vram_bytes; /* what RAM must hold beside the smallest device */
    qs_plan_minimum(&n.input, vram_bytes, ram_bytes);
}

uint64_t qs_placement_written_bytes(const qs_engine *g)
{
    const qs_sweep_config *c = &g->sweep_config;
    qs_page_place packs = qs_placement_packs(g, "adapter masters", g->adapters_on_disk);
    uint64_t bytes = qs_sweep_written_bytes(c), layers = 0;
    if (packs.frames == packs.records) return bytes;
    for (int32_t l = 0; l < g->lora.layers; l++) layers += g->lora.layer_mask[l];
    return bytes + layers * ((1 + (uint64_t)c->sweeps) * packs.bytes + qs_tier_round(qs_update_state_bytes(&g->update_config)));
}
