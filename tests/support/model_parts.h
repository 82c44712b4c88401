/* model_parts.h - a model's parts by their usual names, for tests. */
#ifndef QS_TESTS_SUPPORT_MODEL_PARTS_H
#define QS_TESTS_SUPPORT_MODEL_PARTS_H

#include <check.h>
#include <string.h>

#include "src/model/lora.h"

/* From the text of a config.json; single quotes stand for double ones. */
static inline qs_architecture test_architecture(const char *text)
{
    char json[4096];
    qs_architecture a;
    qs_err e = {0};
    snprintf(json, sizeof json, "%s", text);
    for (char *c = json; *c; c++)
        if (*c == '\'') *c = '"';
    ck_assert_msg(!qs_architecture_parse("a test's config", json, strlen(json), &a, &e), "%s", e.text);
    return a;
}

static inline const qs_attention_config *test_attention(const qs_architecture *a, int32_t layer)
{
    return &qs_architecture_layer(a, layer)->part[0].attention;
}

static inline const qs_mlp_config *test_mlp(const qs_architecture *a, int32_t layer)
{
    return &qs_architecture_layer(a, layer)->part[1].mlp;
}

/* The linear of the first layer that is called so: "q_proj"; NULL: there is none. */
static inline const qs_tensor *test_linear(const qs_architecture *a, const char *name)
{
    int i = qs_layer_find(qs_architecture_layer(a, 0), name);
    return i < 0 ? NULL : &qs_architecture_layer(a, 0)->tensor[i];
}

static inline bool test_has_bias(const qs_architecture *a, const char *module)
{
    char name[QS_TENSOR_NAME];
    snprintf(name, sizeof name, "%s.bias", module);
    return qs_layer_find(qs_architecture_layer(a, 0), name) >= 0;
}

/* The adapter of a linear in the first layer that has any. */
static inline const qs_lora_slot *test_slot(const qs_lora *l, const char *name)
{
    int32_t layer = 0;
    while (layer + 1 < l->layers && !l->layer_mask[layer]) layer++;
    const qs_lora_layer *adapters = qs_lora_of_layer(l, layer);
    int i = qs_layer_find(adapters->layer, name);
    ck_assert_int_ge(i, 0);
    return &adapters->slot[i];
}

#endif
