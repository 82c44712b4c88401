/* placement_search.c - the fastest placement that fits, by trying them. */
#include <math.h>

#include "src/plan/placement.h"

/* Candidates come simplest first; a later one must be faster by this much. Disks wear, so one that writes
 * more in every step than another must be a tenth faster. */
#define CLEARLY 0.995
#define WEAR 1.1
/* Below this share of waiting nothing can be won by moving things about. */
#define HIDDEN 0.01

static const struct {
    bool adapters, checkpoints;
} moved[] = {{false, false}, {true, false}, {false, true}, {true, true}};
static const int32_t ring_slots[] = {QS_PLAN_RING_SLOTS, QS_PLAN_MIN_SLOTS, 4, 6, 8, 12, 16, 24};
enum { MOVED = sizeof moved / sizeof *moved, SLOTS = sizeof ring_slots / sizeof *ring_slots };
enum { LEAST_ROWS = 32 };
/* The largest tiles that are tried. A processor's products run as well at these as at any size; a card wants
 * hundreds of blocks of 128 x 128, and a tile of the head has but 16 MiB of weights. */
typedef struct tile_rows {
    int32_t mlp, head;
} tile_rows;
static const tile_rows most_on_cpu = {1024, 512}, most_on_card = {4096, 4096};

/* A placement with its plan and the seconds of a step; plan.home NULL: none yet. */
typedef struct found {
    qs_placement p;
    qs_plan plan;
    double seconds, waiting; /* waiting: share of the step */
    uint64_t written;        /* to disk, in a step */
} found;

/* ---- candidates -------------------------------------------------------------------------------------- */

/* Where adapters and checkpoints live, and in how many sweeps a step is made: everything in RAM and one sweep
 * first, more sweeps later. Options that were given stand. False: there is no candidate `i`. */
static bool state_candidate(const qs_job *j, int i, qs_placement *p)
{
    const qs_options *o = j->options;
    int32_t most = j->sweep.sizes.micro_batches, m = i % MOVED;
    int64_t sweeps = o->sweeps_per_step ? o->sweeps_per_step : (int64_t)1 << (i / MOVED);
    if (i / MOVED && (o->sweeps_per_step || sweeps / 2 >= most)) return false;
    p->adapters_on_disk =
        o->adapters_on == QS_KEPT_DISK || (o->adapters_on == QS_KEPT_AUTO && moved[m].adapters);
    p->checkpoints_on_disk =
        o->checkpoints_on == QS_KEPT_DISK || (o->checkpoints_on == QS_KEPT_AUTO && moved[m].checkpoints);
    p->sweeps = sweeps < most ? (int32_t)sweeps : most;
    return true;
}

/* Tile rows as the options or the checkpoint say, or 0. */
static qs_placement given_tiles(const qs_job *j)
{
    bool kept = j->keep.mlp_rows > 0;
    return (qs_placement){.mlp_rows = kept ? j->keep.mlp_rows : (int32_t)j->options->mlp_chunk_tokens,
                          .head_rows = kept ? j->keep.head_rows : (int32_t)j->options->head_chunk_tokens};
}

/* Those, and where they are free `mlp` and `head`; never more than there are rows. */
static void set_tiles(const qs_job *j, const qs_placement *given, int32_t mlp, int32_t head, qs_placement *p)
{
    int32_t rows = qs_sweep_rows(j->sweep.sizes.max_tokens, j->sweep.sizes.max_tokens);
    p->mlp_rows = given->mlp_rows ? given->mlp_rows : mlp;
    p->head_rows = given->head_rows ? given->head_rows : head;
    if (p->mlp_rows > rows) p->mlp_rows = rows;
    if (p->head_rows > rows) p->head_rows = rows;
}

/* Layers that have a backward pass. */
static int32_t trained_layers(const qs_job *j)
{
    int32_t trained = j->sweep.layout->layers;
    for (int32_t l = 0; l < j->sweep.layout->layers && !j->sweep.lora->layer_mask[l]; l++) trained--;
    return trained;
}

/* ---- trying one -------------------------------------------------------------------------------------- */

/* Keeps the better of *best and *f and frees the other's plan. */
static void keep_better(found *best, found *f)
{
    bool more = (double)f->written > (double)best->written * WEAR,
         less = (double)f->written * WEAR < (double)best->written;
    if (!best->plan.home || f->seconds * (more ? WEAR : less ? 1 / WEAR : 1) < best->seconds * CLEARLY) {
        qs_plan_free(&best->plan);
        *best = *f;
    } else {
        qs_plan_free(&f->plan);
    }
}

/* Makes the plan of *p and predicts it; takes it when it is better than *best. False: it does not fit, and e
 * says why. */
static bool consider(const qs_job *j, const qs_rates *rates, const qs_placement *p, found *best, qs_err *e)
{
    found f = {.p = *p};
    if (qs_placement_plan(j, p, &f.plan, e)) return false;
    qs_placed_job job = qs_placement_apply(j, p, &f.plan);
    qs_prediction prediction;
    qs_predict(&job, rates, &prediction);
    f.seconds = prediction.step_seconds;
    f.waiting = (prediction.sim.steady.disk_wait + prediction.sim.steady.link_wait) / prediction.step_seconds;
    f.written = prediction.disk_write_bytes;
    qs_prediction_free(&prediction);
    keep_better(best, &f);
    return true;
}

static bool fits_resident(const qs_job *j, const qs_placement *p)
{
    qs_err no = {0};
    qs_plan plan;
    if (qs_placement_plan(j, p, &plan, &no)) return false;
    bool resident = !plan.streamed_bytes;
    qs_plan_free(&plan);
    return resident;
}

/* Layers that may keep their intermediates. */
static int32_t most_saved(const qs_job *j)
{
    int32_t most = trained_layers(j), given = (int32_t)j->options->keep_layers;
    return given >= 0 && given < most ? given : most;
}

/* What may be kept in device memory instead of computed twice: while everything is resident as much as fits,
 * for that costs nothing; else a few sizes, for every byte of it is one that a layer could live in. Layers'
 * intermediates before logits (fp32), which save half the arithmetic per byte. */
static void consider_keeping(const qs_job *j, const qs_rates *rates, found *best)
{
    qs_placement p = best->p, more;
    qs_err no = {0};
    int32_t most = most_saved(j);
    if (!best->plan.streamed_bytes) {
        for (int32_t least = p.saved_layers; least < most;) { /* the most that fit, by halves */
            more = p;
            more.saved_layers = (least + most + 1) / 2;
            if (fits_resident(j, &more))
                least = (p = more).saved_layers;
            else
                most = more.saved_layers - 1;
        }
        more = p;
        more.keep_logits = true;
        if (fits_resident(j, &more)) p = more;
        consider(j, rates, &p, best, &no);
        return;
    }
    for (int32_t parts = 8; parts; parts /= 2) {
        more = p;
        more.saved_layers += (most - p.saved_layers) / parts;
        if (more.saved_layers > p.saved_layers) consider(j, rates, &more, best, &no);
    }
    more = best->p;
    more.keep_logits = true;
    consider(j, rates, &more, best, &no);
}

/* What is not kept there may be kept in RAM that no weights need, at the price of two transfers. */
static void consider_keeping_in_ram(const qs_job *j, const qs_rates *rates, const qs_placement *p,
                                    found *best)
{
    enum { PARTS = 8 };
    qs_err no = {0};
    int32_t left = most_saved(j) - p->saved_layers, tried = 0;
    for (int32_t part = 1; part <= PARTS && j->options->keep_in_ram < 0; part++) {
        qs_placement more = *p;
        more.saved_in_ram = left * part / PARTS;
        more.saved_layers += more.saved_in_ram;
        if (more.saved_in_ram > tried && !consider(j, rates, &more, best, &no))
            return; /* more would not fit either */
        tried = more.saved_in_ram;
    }
}

/* Beside what device memory keeps, and, as its buffers are taken from there, before it keeps anything. */
static void consider_keeping_anywhere(const qs_job *j, const qs_rates *rates, found *best)
{
    qs_placement none = best->p;
    consider_keeping(j, rates, best);
    qs_placement some = best->p;
    consider_keeping_in_ram(j, rates, &some, best);
    consider_keeping_in_ram(j, rates, &none, best);
    if (best->p.saved_in_ram > none.saved_in_ram) consider_keeping(j, rates, best);
}

static bool same_homes(const qs_placement *a, const qs_placement *b)
{
    return a->adapters_on_disk == b->adapters_on_disk && a->checkpoints_on_disk == b->checkpoints_on_disk;
}

/* Of those that decode a layer's weights at once, or with tiles->dense_by_group a group's. */
static bool fastest_of_these(const qs_job *j, const qs_rates *rates, const qs_placement *tiles, bool thorough,
                             found *best, qs_err *e)
{
    const qs_options *o = j->options;
    qs_placement p = *tiles;
    *best = (found){0};
    if (thorough && o->keep_in_ram > 0)
        p.saved_layers = p.saved_in_ram =
            o->keep_in_ram < most_saved(j) ? (int32_t)o->keep_in_ram : most_saved(j);
    /* More sweeps hide more of the stream. Where it is hidden, only as many sweeps as micro-batches leave
     * room to keep what is computed twice. State goes to RAM then, or where it went before. */
    bool alone = false;
    for (int i = 0; state_candidate(j, i, &p); i++) {
        bool first = i < MOVED || !best->plan.home, last_of_these = i % MOVED == MOVED - 1;
        bool new_homes = i % MOVED && !same_homes(&p, &best->p);
        if (!first && (new_homes || (alone && p.sweeps < j->sweep.sizes.micro_batches))) continue;
        int slots = o->stream_slots || !thorough ? 1 : SLOTS;
        found here = {0};
        for (int s = 0; s < slots; s++) {
            p.ring_slots = o->stream_slots ? (int32_t)o->stream_slots : ring_slots[s];
            if (!consider(j, rates, &p, &here, e) || !here.plan.streamed_bytes) break;
        }
        if (!here.plan.home) continue;
        if (thorough) consider_keeping_anywhere(j, rates, &here);
        keep_better(best, &here);
        /* What else may be on disk is tried unless nothing is. */
        if (best->waiting >= HIDDEN || (best->written && !last_of_these)) continue;
        alone = thorough && best->p.saved_layers < most_saved(j);
        if (!alone) break;
    }
    return best->plan.home;
}

/* The fastest placement with the tiles of *p. `thorough`: ring sizes and what is kept are tried too. False:
 * nothing fits, and e is the refusal of the most frugal one. */
static bool fastest(const qs_job *j, const qs_rates *rates, const qs_placement *tiles, bool thorough,
                    found *best, qs_err *e)
{
    qs_placement p = *tiles;
    for (int by_group = 0; by_group < 2;
         by_group++) { /* decoding more often is for where nothing else fits */
        p.dense_by_group = by_group;
        if (fastest_of_these(j, rates, &p, thorough, best, e)) return true;
    }
    return false;
}

/* ---- choosing ---------------------------------------------------------------------------------------- */

static const qs_rates *nominal(const qs_job *j)
{
    return j->sweep.device->info.host_computes ? &qs_rates_nominal_cpu : &qs_rates_nominal_card;
}

/* Hands over what was found; p.ring_slots is what the plan has. */
static void take(found *f, qs_placement *p, qs_plan *plan)
{
    *p = f->p;
    *plan = f->plan;
    p->ring_slots = f->plan.ring_slots;
}

/* Tiles as the options or the checkpoint say; otherwise the fastest of a few sizes, the largest such as
 * products run well at. */
int qs_placement_choose(const qs_job *j, qs_placement *out, qs_plan *plan, qs_err *e)
{
    qs_placement given = given_tiles(j), p = {0}, tiles = {0};
    double least = INFINITY;
    qs_err refused = {0};
    tile_rows try = j->sweep.device->info.host_computes ? most_on_cpu : most_on_card;
    for (; try.mlp >= LEAST_ROWS; try.mlp /= 2, try.head = try.head > LEAST_ROWS ? try.head / 2 : try.head) {
        found f;
        set_tiles(j, &given, try.mlp, try.head, &p);
        bool same = p.mlp_rows == tiles.mlp_rows && p.head_rows == tiles.head_rows;
        if (same || !fastest(j, nominal(j), &p, false, &f, &refused)) continue;
        if (f.seconds < least * CLEARLY) {
            least = f.seconds;
            tiles = p;
        }
        qs_plan_free(&f.plan);
    }
    found best;
    if (!tiles.mlp_rows || !fastest(j, nominal(j), &tiles, true, &best, &refused)) {
        *e = refused;
        return -QS_EBUDGET;
    }
    take(&best, out, plan);
    return 0;
}

void qs_placement_refine(const qs_job *j, const qs_rates *rates, qs_placement *p, qs_plan *plan)
{
    qs_placement tiles = {.mlp_rows = p->mlp_rows, .head_rows = p->head_rows};
    found best;
    qs_err e = {0};
    if (!fastest(j, rates, &tiles, true, &best, &e)) return; /* one did fit */
    qs_plan_free(plan);
    take(&best, p, plan);
}

void qs_placement_minimum(const qs_job *j, uint64_t *vram_bytes, uint64_t *ram_bytes)
{
    qs_placement given = given_tiles(j), p = {0};
    for (int i = 0; state_candidate(j, i, &p); i++) {
    } /* the last one is the most frugal */
    p.ring_slots = QS_PLAN_MIN_SLOTS;
    p.dense_by_group = true;
    set_tiles(j, &given, LEAST_ROWS, LEAST_ROWS, &p);
    qs_placement_budgets(j, &p, vram_bytes, ram_bytes);
}

int64_t qs_placement_micro_batch(const qs_job *j, int64_t sequences)
{
    enum { MOST_TOKENS = 16384, TILE_ROWS = 512 };
    double least = INFINITY;
    int64_t best = 1;
    if (j->keep.micro_batch_rows) return j->keep.micro_batch_rows;
    for (int64_t rows = 1; rows <= sequences && rows * j->options->max_seq_length <= MOST_TOKENS; rows++) {
        if (sequences % rows) continue;
        qs_job with = *j;
        qs_job_set_sizes(&with, rows, sequences / rows);
        int32_t tile = with.sweep.sizes.max_tokens < TILE_ROWS ? with.sweep.sizes.max_tokens : TILE_ROWS;
        qs_placement p = {.mlp_rows = tile, .head_rows = tile};
        found f;
        qs_err e = {0};
        if (!fastest(&with, nominal(j), &p, false, &f, &e)) continue;
        qs_plan_free(&f.plan);
        if (f.seconds >= least * CLEARLY) continue;
        least = f.seconds;
        best = rows;
    }
    return best;
}
