/* update.h - the UPDATE visit: global norm, clipping, AdamW over all adapter packs.
 *
 * The norm comes from sums of squares that the sweep formed while the gradients passed, so every pack passes
 * once: masters, gradients and states are read, updated and written back. States are a pager of their own, on
 * the host or on disk (`paged_*` on a card: in managed memory, brought over just before a pack's update and
 * sent back after). Where memory is shared packs are updated where they lie. 8-bit states are blockwise per
 * tensor, and tensors with fewer than 4,096 elements keep 32-bit ones, as in bitsandbytes.
 */
#ifndef QS_STEP_UPDATE_H
#define QS_STEP_UPDATE_H

#include "offload/pager.h"
#include "offload/schedule.h"
#include "src/model/lora.h"
#include "src/options/options.h"

typedef struct qs_update qs_update;

typedef struct qs_update_config {
    qs_device *device;
    const qs_lora *lora;
    qs_optim optim;
    double beta1, beta2, eps, weight_decay;
    double
        loraplus_lr_ratio; /* the rate of B matrices over that of A (LoRA+, Hayou et al. 2024); 0: the same */
    double max_grad_norm;  /* 0: gradients are not clipped */
    bool on_disk;          /* the states */
} qs_update_config;

/* The memory it needs, as items of a plan; returns their number. */
int qs_update_items(const qs_update_config *c, qs_plan_item *items, int capacity);

/* Bytes of the states of one layer. */
uint64_t qs_update_state_bytes(const qs_update_config *c);

/* Takes its items from the tier; states begin at zero. aio, dir: see offload/pager.h. */
int qs_update_open(const qs_update_config *c, qs_tier *tier, qs_aio *aio, const char *dir, qs_update **out,
                   qs_err *e);
void qs_update_close(qs_update *u);

typedef struct qs_update_step {
    int64_t step; /* 1 for the first */
    double learning_rate;
    double loss_scale;           /* the gradients are those of the loss times this */
    const double *squares;       /* [layers] sums of squares of each pack's gradients */
    const qs_schedule *schedule; /* of the sweep before it: the pagers' lists go on where its visits end */
} qs_update_step;

/* Masters and states from gradients. *grad_norm is the loss's own, before clipping. Blocks. A non-finite norm
 * is QS_ENUMERIC, names the layer and changes nothing. */
int qs_update_run(qs_update *u, const qs_update_step *t, qs_pager *masters, qs_pager *gradients,
                  double *grad_norm, qs_err *e);

/* Queues the update of a layer's pack on c->device, with `memory` for all of its arrays: for a meta device,
 * which notes what it takes. */
void qs_update_note(const qs_update_config *c, int32_t layer, void *memory);

/* The states, a record of *bytes bytes (the pager's may be longer) per layer, for checkpoints: the same for
 * every device. */
qs_pager *qs_update_states(qs_update *u, uint64_t *bytes);

#endif
