/* names.h - what a family calls its tensors and modules in a checkpoint. */
#ifndef QS_MODEL_NAMES_H
#define QS_MODEL_NAMES_H

#include "src/model/architecture.h"

typedef struct qs_names {
    const char *blocks;                   /* "model.layers": block N is "model.layers.N" */
    const char *embedding, *final_norm, *head; /* modules: their tensors end in .weight (and .bias) */
    const char *other_head;               /* what newer checkpoints may call it; NULL: the same */
    const char *norm[2], *head_norm[2];   /* in a block: before attention and MLP; of q's and k's heads */
    const char *linear[QS_LINEAR_COUNT];  /* in a block; NULL: the family has none */
} qs_names;

/* Static; never NULL. */
const qs_names *qs_names_of(const qs_architecture *a);

/* Last part of a module's path: "q_proj" of "self_attn.q_proj". */
const char *qs_names_last(const char *path);

#endif
