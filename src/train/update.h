/* update.h - the UPDATE visit: global norm, clipping, AdamW over all adapter packs.
 *
 * States live on the host (`paged_*` on a card: in unified memory, brought over just before a pack's update and sent back after). On a unified device packs are
 * updated where they lie. 8-bit states are blockwise per tensor, and tensors with fewer than 4,096 elements keep 32-bit ones, as in bitsandbytes.
 */
#ifndef QS_TRAIN_UPDATE_H
#define QS_TRAIN_UPDATE_H

#include "offload/tier.h"
#include "src/model/lora.h"
#include "src/options/options.h"

typedef struct qs_update qs_update;

typedef struct qs_update_config {
    qs_device *device;
    const qs_lora *lora;
    qs_optim optim;
    double beta1, beta2, eps, weight_decay;
    double max_grad_norm;  /* 0: gradients are not clipped */
} qs_update_config;

/* The memory it needs, as items of a plan; returns their number. */
int qs_update_items(const qs_update_config *c, qs_plan_item *items, int capacity);

/* Takes its items from the tier; states begin at zero. */
void qs_update_open(const qs_update_config *c, qs_tier *tier, qs_update **out);
void qs_update_close(qs_update *u);

/* Update number `step` (1 for the first): masters and states from gradients. *grad_norm is the norm before clipping. Blocks. A non-finite norm is QS_ENUMERIC, names the layer and changes
 * nothing. */
int qs_update_run(qs_update *u, int64_t step, double learning_rate, float *masters, const float *gradients, double *grad_norm, qs_err *e);

/* The states as one stretch of bytes in host memory, for checkpoints: the same for every device. */
void *qs_update_states(qs_update *u, uint64_t *bytes);

#endif
