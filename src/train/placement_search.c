/* placement_search.c - the fastest placement that fits, by trying them. */
#include <math.h>

#include "src/train/placement.h"

/* Candidates come simplest first; a later one must be faster by this much. Disks wear, so one that writes more in every step than another must be a tenth faster. */
#define CLEARLY 0.995
#define WEAR 1.1
/* Below this share of waiting nothing can be won by moving things about. */
#define HIDDEN 0.01

static const struct { bool adapters, checkpoints; } moved[] = {{false, false}, {true, false}, {false, true}, {true, true}};
static const int32_t ring_slots[] = {QS_PLAN_RING_SLOTS, QS_PLAN_MIN_SLOTS, 4, 6, 8, 12, 16, 24};
enum { MOVED = sizeof moved / sizeof *moved, SLOTS = sizeof ring_slots / sizeof *ring_slots };
enum { LEAST_ROWS = 32 };
/* The largest tiles that are tried. A processor's products run as well at these as at any size; a card wants hundreds of blocks of 128 x 128, and a tile of the head has but 16 MiB of weights. */
typedef struct tile_rows { int32_t mlp, head; } tile_rows;
static const tile_rows most_on_cpu = {1024, 512}, most_on_card = {4096, 4096};

/* A placement with its plan and the seconds of a step; plan.home NULL: none yet. */
typedef struct found {
    qs_placement p;
    qs_plan plan;
    double seconds, waiting; /* waiting: share of the step */
    uint64_t written;        /* to disk, in a step */
} found;

/* ---- candidates --------------------------------------------------------------------------------------------------------- */

/* Where adapters and checkpoints live, and in how many sweeps a step is made: everything in RAM and one sweep first, more sweeps later. Options that were given stand. False: there is no
 * candidate `i`. */
static bool state_candidate(const qs_engine *g, int i, qs_placement *p)
{
    const qs_options *o = g->options;
    int32_t most = g->sweep_config.sizes.micro_batches, m = i % MOVED;
    int64_t sweeps = o->sweeps_per_step ? o->sweeps_per_step : (int64_t)1 << (i / MOVED);
    if (i / MOVED && (o->sweeps_per_step || sweeps / 2 >= most)) return false;
    p->adapters_on_disk = o->adapters_on == QS_KEPT_DISK || (o->adapters_on == QS_KEPT_AUTO && moved[m].adapters);
    p->checkpoints_on_disk = o->checkpoints_on == QS_KEPT_DISK || (o->checkpoints_on == QS_KEPT_AUTO && moved[m].checkpoints);
    p->sweeps = sweeps < most ? (int32_t)sweeps : most;
    return true;
}

/* Tile rows as the options or the checkpoint say, or 0. */
static qs_placement given_tiles(const qs_engine *g, const qs_numeric_identity *keep)
{
    return (qs_placement){.mlp_rows = keep ? keep->mlp_rows : (int32_t)g->options->mlp_chunk_tokens,
                          .head_rows = keep ? keep->head_rows : (int32_t)g->options->head_chunk_tokens};
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

/* Layers that have a backward pass. */
static int32_t trained_layers(const qs_engine *g)
{
    int32_t trained = g->layout.layers;
    for (int32_t l = 0; l < g->layout.layers && !g->lora.layer_mask[l]; l++) trained--;
    return trained;
}

/* ---- trying one ---------------------------------------------------------------------------------------------------------- */

/* Keeps the better of *best and *f and frees the other's plan. */
static void keep_better(found *best, found *f)
{
    bool more = (double)f->written > (double)best->written * WEAR, less = (double)f->written * WEAR < (double)best->written;
    if (!best->plan.home || f->seconds * (more ? WEAR : less ? 1 / WEAR : 1) < best->seconds * CLEARLY) {
        qs_plan_free(&best->plan);
        *best = *f;
    } else {
        qs_plan_free(&f->plan);
    }
}

/* Makes the plan of *p and predicts it; takes it when it is better than *best. False: it does not fit, and e says why. */
static bool consider(const qs_engine *g, const qs_rates *rates, const qs_placement *p, found *best, qs_err *e)
{
    found f = {.p = *p};
    if (qs_placement_plan(g, p, &f.plan, e)) return false;
    qs_job job;
    qs_prediction prediction;
    qs_placement_job(g, p, &f.plan, &job);
    qs_predict(&job, rates, &prediction);
    f.seconds = prediction.step_seconds;
    f.waiting = (prediction.sim.steady.disk_wait + prediction.sim.steady.link_wait) / prediction.step_seconds;
    f.written = prediction.disk_write_bytes;
    qs_prediction_free(&prediction);
    keep_better(best, &f);
    return true;
}

static bool fits_resident(const qs_engine *g, const qs_placement *p)
{
    qs_err no = {0};
    qs_plan plan;
    if (qs_placement_plan(g, p, &plan, &no)) return false;
    bool resident = !plan.streamed_bytes;
    qs_plan_free(&plan);
    return resident;
}

/* Layers that may keep their intermediates. */
static int32_t most_saved(const qs_engine *g)
{
    int32_t most = trained_layers(g), given = (int32_t)g->options->keep_layers;
    return given >= 0 && given < most ? given : most;
}

/* What may be kept in device memory instead of computed twice: while everything is resident as much as fits, for that costs nothing; else a few sizes, for every byte of it is one that a
 * layer could live in. Layers' intermediates before logits (fp32), which save half the arithmetic per byte. */
static void consider_keeping(const qs_engine *g, const qs_rates *rates, found *best)
{
    qs_placement p = best->p, more;
    qs_err no = {0};
    int32_t most = most_saved(g);
    if (!best->plan.streamed_bytes) {
        for (int32_t least = p.saved_layers; least < most;) { /* the most that fit, by halves */
            more = p;
            more.saved_layers = (least + most + 1) / 2;
            if (fits_resident(g, &more)) least = (p = more).saved_layers;
            else most = more.saved_layers - 1;
        }
        more = p;
        more.keep_logits = true;
        if (fits_resident(g, &more)) p = more;
        consider(g, rates, &p, best, &no);
        return;
    }
    for (int32_t parts = 8; parts; parts /= 2) {
        more = p;
        more.saved_layers += (most - p.saved_layers) / parts;
        if (more.saved_layers > p.saved_layers) consider(g, rates, &more, best, &no);
    }
    more = best->p;
    more.keep_logits = true;
    consider(g, rates, &more, best, &no);
}

/* What is not kept there may be kept in RAM that no weights need, at the price of two transfers. */
static void consider_keeping_in_ram(const qs_engine *g, const qs_rates *rates, const qs_placement *p, found *best)
{
    enum { PARTS = 8 };
    qs_err no = {0};
    int32_t left = most_saved(g) - p->saved_layers, tried = 0;
    for (int32_t part = 1; part <= PARTS && g->options->keep_in_ram < 0; part++) {
        qs_placement more = *p;
        more.saved_in_ram = left * part / PARTS;
        more.saved_layers += more.saved_in_ram;
        if (more.saved_in_ram > tried && !consider(g, rates, &more, best, &no)) return; /* more would not fit either */
        tried = more.saved_in_ram;
    }
}

/* Beside what device memory keeps, and, as its buffers are taken from there, before it keeps anything. */
static void consider_keeping_anywhere(const qs_engine *g, const qs_rates *rates, found *best)
{
    qs_placement none = best->p;
    consider_keeping(g, rates, best);
    qs_placement some = best->p;
    consider_keeping_in_ram(g, rates, &some, best);
    consider_keeping_in_ram(g, rates, &none, best);
    if (best->p.saved_in_ram > none.saved_in_ram) consider_keeping(g, rates, best);
}

/* The fastest placement with the tiles of *p. `thorough`: ring sizes and what is kept are tried too. False: nothing fits, and e is the refusal of the most frugal one. */
static bool fastest(const qs_engine *g, const qs_rates *rates, const qs_placement *tiles, bool thorough, found *best, qs_err *e)
{
    const qs_options *o = g->options;
    qs_placement p = *tiles;
    *best = (found){0};
    if (thorough && o->keep_in_ram > 0) p.saved_layers = p.saved_in_ram = o->keep_in_ram < most_saved(g) ? (int32_t)o->keep_in_ram : most_saved(g);
    for (int i = 0; state_candidate(g, i, &p); i++) {
        int slots = o->stream_slots || !thorough ? 1 : SLOTS;
        found here = {0};
        for (int s = 0; s < slots; s++) {
            p.ring_slots = o->stream_slots ? (int32_t)o->stream_slots : ring_slots[s];
            if (!consider(g, rates, &p, &here, e) || !here.plan.streamed_bytes) break;
        }
        if (!here.plan.home) continue;
        if (thorough) consider_keeping_anywhere(g, rates, &here);
        keep_better(best, &here);
        /* No more sweeps than that; what else may be on disk is tried unless nothing is. */
        if (best->waiting < HIDDEN && (!best->written || i % MOVED == MOVED - 1)) break;
    }
    return best->plan.home;
}

/* ---- choosing ------------------------------------------------------------------------------------------------------------ */

static const qs_rates *nominal(const qs_engine *g) { return g->device->info.host_computes ? &qs_rates_nominal_cpu : &qs_rates_nominal_card; }

static void take(qs_engine *g, const found *f)
{
    qs_plan_free(&g->plan);
    g->plan = f->plan;
    qs_placement_configure(&f->p, &g->sweep_config);
    g->adapters_on_disk = g->update_config.on_disk = f->p.adapters_on_disk;
}

qs_placement qs_placement_chosen(const qs_engine *g)
{
    const qs_sweep_config *c = &g->sweep_config;
    return (qs_placement){.mlp_rows = c->sizes.mlp_rows, .head_rows = c->sizes.head_rows, .keep_logits = c->keep_logits, .saved_layers = c->saved_layers,
                          .saved_in_ram = c->saved_in_ram, .ring_slots = g->plan.ring_slots, .sweeps = c->sweeps, .checkpoints_on_disk = c->checkpoints_on_disk,
                          .adapters_on_disk = g->adapters_on_disk};
}

/* Tiles as the options or the checkpoint say; otherwise the fastest of a few sizes, the largest such as products run well at. */
int qs_placement_choose(qs_engine *g, const qs_numeric_identity *keep, qs_err *e)
{
    qs_placement given = given_tiles(g, keep), p = {0}, tiles = {0};
    double least = INFINITY;
    qs_err refused = {0};
    qs_placement_sizes_of_data(g);
    tile_rows try = g->device->info.host_computes ? most_on_cpu : most_on_card;
    for (; try.mlp >= LEAST_ROWS; try.mlp /= 2, try.head = try.head > LEAST_ROWS ? try.head / 2 : try.head) {
        found f;
        set_tiles(g, &given, try.mlp, try.head, &p);
        bool same = p.mlp_rows == tiles.mlp_rows && p.head_rows == tiles.head_rows;
        if (same || !fastest(g, nominal(g), &p, false, &f, &refused)) continue;
        if (f.seconds < least * CLEARLY) {
            least = f.seconds;
            tiles = p;
        }
        qs_plan_free(&f.plan);
    }
    found best;
    if (!tiles.mlp_rows || !fastest(g, nominal(g), &tiles, true, &best, &refused)) {
        *e = refused;
        return -QS_EBUDGET;
    }
    take(g, &best);
    return 0;
}

void qs_placement_refine(qs_engine *g, const qs_rates *rates)
{
    qs_placement tiles = {.mlp_rows = g->sweep_config.sizes.mlp_rows, .head_rows = g->sweep_config.sizes.head_rows};
    found best;
    qs_err e = {0};
    if (fastest(g, rates, &tiles, true, &best, &e)) take(g, &best); /* one did fit */
}

void qs_placement_minimum(const qs_engine *g, uint64_t *vram_bytes, uint64_t *ram_bytes)
{
    qs_placement given = given_tiles(g, NULL), p = {0};
    for (int i = 0; state_candidate(g, i, &p); i++) {} /* the last one is the most frugal */
    p.ring_slots = QS_PLAN_MIN_SLOTS;
    set_tiles(g, &given, LEAST_ROWS, LEAST_ROWS, &p);
    qs_placement_budgets(g, &p, vram_bytes, ram_bytes);
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
        qs_placement_sizes_of_data(g);
        int32_t tile = g->sweep_config.sizes.max_tokens < TILE_ROWS ? g->sweep_config.sizes.max_tokens : TILE_ROWS;
        qs_placement p = {.mlp_rows = tile, .head_rows = tile};
        found f;
        qs_err e = {0};
        if (!fastest(g, nominal(g), &p, false, &f, &e)) continue;
        qs_plan_free(&f.plan);
        if (f.seconds >= least * CLEARLY) continue;
        least = f.seconds;
        best = rows;
    }
    o->per_device_train_batch_size = best ? best : 1;
    o->gradient_accumulation_steps = sequences / o->per_device_train_batch_size;
}
