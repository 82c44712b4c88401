/* synth.h - model directories with synthetic weights: as recipes, and as real files. */
#ifndef QS_COMMANDS_SYNTH_H
#define QS_COMMANDS_SYNTH_H

#include "src/model/architecture.h"

/* Writes OUT/config.json and OUT/synthetic.json for a named shape (src/model/shapes.h), and reads the
 * architecture back. layers: 0 for the model's own. */
int qs_synth_write(const char *shape, const char *out, uint64_t seed, int32_t layers, qs_architecture *a,
                   qs_err *e);

/* Writes the recipe's tensors as safetensors shards and their index, which from then on go before the recipe:
 * the same bits. QS_EINVAL above 20 GB; QS_EIO when the disk has no room. Holds one shard (1 GiB, or the
 * largest tensor) in memory. */
int qs_synth_weights(const char *dir, qs_err *e);

#endif
