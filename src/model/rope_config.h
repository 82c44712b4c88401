/* rope_config.h - the rotary part of config.json, in its three spellings (see rope_config.c). */
#ifndef QS_MODEL_ROPE_CONFIG_H
#define QS_MODEL_ROPE_CONFIG_H

#include "src/base/json.h"
#include "src/model/architecture.h"

/* Fills the rope_ fields of `a` from the document; head_dim and max_positions must be set. QS_EFORMAT or QS_EUNSUP. */
int qs_rope_config_read(qs_json config, qs_architecture *a, qs_err *e);

#endif
