/* visit.h - what each kind of visit touches: which records it uses, in which way, and which bytes move for
 * it.
 *
 *     EMBED       checkpoint 0 new
 *     F i         checkpoint i read, i + 1 new                        masters i read
 *     HEAD loss   checkpoint L read                   (first tile)
 *     HEAD grad.  checkpoint L changed: its gradient  (first tile)
 *     B i         gradient i + 1 read, checkpoint i changed into      masters i read, gradients i new
 * (changed by later sweeps) its gradient UPDATE      -                                                   of
 * each layer masters changed, gradients read, states changed
 *
 * F and B also write and read what a layer saves for its backward visit where that is in RAM.
 * The executor, the pagers' lists, the prediction and the profiler ask here; none keeps its own idea.
 */
#ifndef QS_STEP_VISIT_H
#define QS_STEP_VISIT_H

#include "src/step/sweep.h"
#include "src/step/update.h"

/* Kinds of records. A checkpoint is of one level and micro-batch, saved activations of one layer and
 * micro-batch, the others of one layer. */
typedef enum qs_record_kind {
    QS_RECORD_CHECKPOINT,
    QS_RECORD_SAVED,
    QS_RECORD_MASTERS,
    QS_RECORD_GRADIENTS,
    QS_RECORD_STATES,
    QS_RECORDS
} qs_record_kind;

typedef struct qs_visit_use {
    qs_record_kind record;
    int32_t index; /* level, position among the layers that save, or layer */
    qs_page_use use;
    bool near; /* the visit before had it: it need not come from the disk, nor from RAM while device buffers
                  hold it */
    bool passing; /* the next visit uses it up: it need not reach the disk */
} qs_visit_use;

enum { QS_VISIT_USES = 5 };

/* A step as its visits' rules need it. */
typedef struct qs_visit_rules {
    const qs_sweep_config *c; /* borrowed */
    int32_t lowest;           /* layer with adapters */
    int32_t group;            /* micro-batches of a sweep at most */
} qs_visit_rules;
qs_visit_rules qs_visit_rules_of(const qs_sweep_config *c);

/* The level of checkpoints that a visit reads and the one that it leaves, for each of its micro-batches; -1:
 * none. A backward visit leaves the gradient in place of the level. */
typedef struct qs_visit_levels {
    int32_t in, out;
    int32_t ahead; /* the one of the two whose next micro-batch is fetched meanwhile; -1: neither */
} qs_visit_levels;
qs_visit_levels qs_visit_levels_of(const qs_sweep_config *c, const qs_visit *v);

/* What a visit computes. Visits of which this is the same take the same operations. */
typedef struct qs_visit_work {
    qs_visit_kind kind;
    int32_t layer_kind;         /* F, B: which of the architecture's kinds of layers; otherwise -1 */
    const qs_lora_layer *lora;  /* F, B: the layer's adapters; NULL: none */
    bool saved;                 /* F, B: forward keeps what backward needs */
    bool input_gradient;        /* B: the gradient of the layer's input is wanted */
    bool first_tile, last_tile; /* HEAD: rows of the head that begin, or end, its work on a micro-batch */
} qs_visit_work;
qs_visit_work qs_visit_work_of(const qs_visit_rules *r, const qs_visit *v);
bool qs_visit_work_same(const qs_visit_work *a, const qs_visit_work *b);

/* How a backward visit uses its layer's gradients. */
static inline qs_page_use qs_visit_gradient_use(const qs_visit *v)
{
    return v->first ? QS_PAGE_CHANGE : QS_PAGE_NEW;
}

/* Level of the saved activations in RAM that F and B leave or read; -1: none. */
int32_t qs_visit_saved_in_ram(const qs_visit_rules *r, const qs_visit *v);
/* Saved activations that B fetches meanwhile: of its next micro-batch, or of the first one of the visit after
 * it. */
typedef struct qs_visit_slot {
    int32_t level, slot; /* level -1: none */
} qs_visit_slot;
qs_visit_slot qs_visit_saved_ahead(const qs_visit_rules *r, const qs_visit *v, int32_t slot);

/* The uses of a visit, one for all of its micro-batches; returns their number. For UPDATE those of layer
 * `layer`. */
int qs_visit_uses(const qs_visit_rules *r, const qs_visit *v, int32_t layer, qs_visit_use out[QS_VISIT_USES]);

/* ---- when: ticks of the pagers' lists (offload/pager.h) ---------------------------------------------- */

/* Packs: a visit is a tick, and after the visits each layer of the update. */
static inline int64_t qs_visit_update_tick(const qs_schedule *s, int32_t layer) { return s->count + layer; }
/* Checkpoints and saved activations: a tick is one micro-batch in one visit; `slot` counts within the sweep.
 */
static inline int64_t qs_visit_tick(const qs_visit_rules *r, int32_t visit, int32_t slot)
{
    return (int64_t)visit * r->group + slot;
}

/* The uses of records of one kind over a schedule, for their pager; `records` of them. Free with
 * qs_page_list_free. */
void qs_visit_list(const qs_visit_rules *r, const qs_schedule *s, qs_record_kind record, int32_t records,
                   qs_page_list *out);

/* Whether an item of the plan holds something during the visit. making: weights are quantised meanwhile. What
 * the streamer moves is in its recorder, and how many checkpoints there are follows from the levels. */
bool qs_visit_holds(const qs_visit *v, qs_item item, bool making);

/* ---- how much ---------------------------------------------------------------------------------------- */

typedef struct qs_record_bytes {
    uint64_t link[QS_RECORDS]; /* of one record, over a discrete device's link */
    uint64_t disk[QS_RECORDS]; /* of one record in the scratch file; 0: it is in memory */
} qs_record_bytes;
/* For micro-batches of `rows` padded tokens; saved_bytes: qs_sweep_saved_bytes. */
qs_record_bytes qs_record_bytes_of(const qs_sweep_config *c, const qs_update_config *u, int32_t rows,
                                   uint64_t saved_bytes);

typedef struct qs_visit_traffic {
    uint64_t link_in, link_out, disk_read, disk_write;
} qs_visit_traffic;
/* Bytes that a visit moves besides its weights; link_in without what it fetches (fetches.h). */
qs_visit_traffic qs_visit_traffic_of(const qs_visit_rules *r, const qs_record_bytes *bytes,
                                     const qs_visit *v);

/* Bytes that a step writes to disk, at most. */
uint64_t qs_visit_written_bytes(const qs_sweep_config *c, const qs_update_config *u);

#endif
