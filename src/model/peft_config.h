/* peft_config.h - adapter_config.json, written (peft_config.c); reading it is in lora.h. */
#ifndef QS_MODEL_PEFT_CONFIG_H
#define QS_MODEL_PEFT_CONFIG_H

#include "src/model/lora.h"

/* Replaces DIR/adapter_config.json by the description of `l`. base_model may be NULL. */
int qs_peft_write_config(const char *dir, const qs_lora *l, const char *base_model, qs_err *e);

#endif
