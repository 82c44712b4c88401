/* lora_match.h - which linears get an adapter, of which rank and scale, by PEFT's rules for names.
 *
 * target_modules, exclude_modules, layers_to_transform, rank_pattern and alpha_pattern of PEFT's LoraConfig
 * (peft.tuners.tuners_utils.check_target_module_exists, peft.utils.get_pattern_key).
 */
#ifndef QS_MODEL_LORA_MATCH_H
#define QS_MODEL_LORA_MATCH_H

#include "src/model/lora.h"

typedef struct qs_lora_match qs_lora_match;

/* Reads the config's names and checks that each of them matches something of `a`, and that none takes the
 * head or the embedding; QS_EINVAL or QS_EUNSUP otherwise. Both are borrowed. Freed with qs_lora_match_close.
 */
int qs_lora_match_open(const qs_lora_config *c, const qs_architecture *a, qs_lora_match **out, qs_err *e);
void qs_lora_match_close(qs_lora_match *m);

/* What is chosen for tensor i of a layer: fills active, r, alpha and scaling of the slot. */
int qs_lora_match_slot(qs_lora_match *m, int32_t layer, int i, qs_lora_slot *slot, qs_err *e);

#endif
