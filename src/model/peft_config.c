/* peft_config.c - adapter_config.json of PEFT's LoraConfig, both ways.
 *
 * Reading refuses every feature that would make the adapter's numbers mean something else than W + scaling *
 * B A. Writing keeps to the fields of PEFT 0.9 (2024): older versions stop at a field they do not know, and
 * newer ones fill in the rest.
 */
#include "src/model/peft_config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "io/file.h"
#include "src/base/json.h"
#include "src/base/memory.h"

enum { CONFIG_MAX_BYTES = 16 << 20 };

/* Features that are off when absent, null, false or empty. */
static int refuse_features(qs_json j, qs_err *e)
{
    static const char *const off[] = {
        "modules_to_save",   "use_dora",          "lora_bias",
        "use_qalora",        "use_bdlora",        "trainable_token_indices",
        "target_parameters", "layer_replication", "alora_invocation_tokens",
        "arrow_config",      "kasa_config",       "monteclora_config",
        "velora_config",     "megatron_config",
    };
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        const json_t *v = qs_json_get(j, off[i]);
        bool empty = !v || json_is_false(v) || (json_is_array(v) && !json_array_size(v)) ||
                     (json_is_object(v) && !json_object_size(v)) ||
                     (json_is_string(v) && !json_string_length(v));
        if (!empty)
            return qs_json_unexpected(j, off[i], QS_EUNSUP, "none: adapters that use it are not supported",
                                      e);
    }
    const char *type = NULL, *bias = "none", *init = "gaussian";
    QS_TRY(qs_json_string(j, "peft_type", &type, e));
    if (!type || strcmp(type, "LORA") != 0)
        return qs_json_unexpected(j, "peft_type", type ? QS_EUNSUP : QS_EFORMAT,
                                  "\"LORA\": other adapters are not supported", e);
    QS_TRY(qs_json_string(j, "bias", &bias, e));
    if (strcmp(bias, "none") != 0)
        return qs_json_unexpected(j, "bias", QS_EUNSUP, "\"none\": trained biases are not supported", e);

    /* True and false are ordinary first values; pissa, olora, loftq and the like also changed the base
     * weights. */
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    bool known = json_is_boolean(qs_json_get(j, "init_lora_weights"));
    if (!known) QS_TRY(qs_json_string(j, "init_lora_weights", &init, e));
    for (size_t i = 0; i < sizeof harmless / sizeof *harmless; i++) known |= strcmp(init, harmless[i]) == 0;
    if (!known)
        return qs_json_unexpected(j, "init_lora_weights", QS_EUNSUP,
                                  "true, false, gaussian, eva or orthogonal: others change the base model",
                                  e);
    return 0;
}

static void add_name(qs_lora_names *list, char *owned)
{
    char **item = (char **)(uintptr_t)list->item;
    item = qs_realloc(item, (size_t)(list->count + 1) * sizeof *item);
    item[list->count++] = owned;
    list->item = (const char *const *)item;
}

/* A string or a list of strings; left empty where there is none. */
static int read_names(qs_json j, const char *key, qs_lora_names *out, qs_err *e)
{
    const json_t *v = qs_json_get(j, key);
    size_t n = json_is_array(v) ? json_array_size(v) : v != NULL;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_string(item))
            return qs_json_unexpected(j, key, QS_EFORMAT, "a string or a list of strings", e);
        add_name(out, qs_strdup(json_string_value(item)));
    }
    return 0;
}

static int read_targets(qs_json j, qs_lora_config *out, qs_err *e)
{
    QS_TRY(read_names(j, "target_modules", &out->targets, e));
    if (out->targets.count) return 0;
    if (qs_json_get(j, "target_modules"))
        return qs_json_unexpected(j, "target_modules", QS_EFORMAT, "at least one name", e);
    add_name(&out->targets, qs_strdup("q_proj")); /* PEFT's own choice for these families */
    add_name(&out->targets, qs_strdup("v_proj"));
    return 0;
}

/* A number or a list of them. Which modules count as layers (layers_pattern) follows from the model. */
static int read_layers(qs_json j, qs_lora_names *out, qs_err *e)
{
    static const char key[] = "layers_to_transform";
    const json_t *v = qs_json_get(j, key);
    size_t n = json_is_array(v) ? json_array_size(v) : v != NULL;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(v) ? json_array_get(v, i) : v;
        if (!json_is_integer(item))
            return qs_json_unexpected(j, key, QS_EFORMAT, "a layer's number or a list of them", e);
        add_name(out, qs_printf("%lld", (long long)json_integer_value(item)));
    }
    return 0;
}

/* {"q_proj": 8} as q_proj=8. */
static int read_pattern(qs_json j, const char *key, qs_lora_names *out, qs_err *e)
{
    json_t *v = json_object_get(j.object, key), *number;
    const char *module;
    if (!v || json_is_null(v)) return 0;
    if (!json_is_object(v)) return qs_json_unexpected(j, key, QS_EFORMAT, "an object of numbers", e);
    json_object_foreach(v, module, number)
    {
        if (!json_is_number(number)) return qs_json_unexpected(j, key, QS_EFORMAT, "an object of numbers", e);
        add_name(out, qs_printf("%s=%.17g", module, json_number_value(number)));
    }
    return 0;
}

static int read_config(qs_json j, qs_peft_config *out, qs_err *e)
{
    QS_TRY(refuse_features(j, e));
    double dropout = 0;
    out->lora.r = 8; /* PEFT's defaults */
    out->lora.alpha = 8;
    QS_TRY(qs_json_int32(j, "r", 1, QS_LORA_R_MAX, &out->lora.r, e));
    QS_TRY(qs_json_number(j, "lora_alpha", 1e-9, 1e9, &out->lora.alpha, e));
    QS_TRY(qs_json_number(j, "lora_dropout", 0, 0.9999, &dropout, e));
    QS_TRY(qs_json_bool(j, "use_rslora", &out->lora.rslora, e));
    out->lora.dropout = (float)dropout;
    const char *base = NULL;
    QS_TRY(qs_json_string(j, "base_model_name_or_path", &base, e));
    if (base && *base) out->base_model = qs_strdup(base);
    QS_TRY(read_names(j, "exclude_modules", &out->lora.exclude, e));
    QS_TRY(read_layers(j, &out->lora.layers, e));
    QS_TRY(read_pattern(j, "rank_pattern", &out->lora.rank_pattern, e));
    QS_TRY(read_pattern(j, "alpha_pattern", &out->lora.alpha_pattern, e));
    return read_targets(j, &out->lora, e);
}

int qs_peft_read_config(const char *dir, qs_peft_config *out, qs_err *e)
{
    *out = (qs_peft_config){0};
    char *path = qs_path_join(dir, "adapter_config.json"), *text = NULL;
    size_t bytes;
    json_t *root = NULL;
    int rc = qs_file_read(path, CONFIG_MAX_BYTES, &text, &bytes, e);
    if (!rc) rc = qs_json_parse(text, bytes, path, &root, e);
    if (!rc) rc = read_config((qs_json){root, path, ""}, out, e);
    if (rc) qs_peft_config_free(out);
    json_decref(root);
    qs_free(text);
    qs_free(path);
    return rc;
}

void qs_peft_config_free(qs_peft_config *c)
{
    qs_lora_config_free(&c->lora);
    qs_free(c->base_model);
    *c = (qs_peft_config){0};
}

/* The shortest decimal that reads back as the same float: 0.05, not 0.0500000007. */
static double shortest(float f)
{
    char text[32];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)f);
        if (strtof(text, NULL) == f) break;
    }
    return strtod(text, NULL);
}

/* Whole numbers as integers, as PEFT declares lora_alpha. */
static json_t *number(double x)
{
    return x == floor(x) && fabs(x) < 1e9 ? json_integer((json_int_t)x) : json_real(x);
}

/* A pattern is one string, names are a list. */
static json_t *name_list(qs_lora_names names)
{
    if (names.count == 1 && !qs_lora_is_name(names.item[0])) return json_string(names.item[0]);
    json_t *list = json_array();
    for (int i = 0; i < names.count; i++) json_array_append_new(list, json_string(names.item[i]));
    return list;
}

/* all-linear is spelled out, as PEFT does when it saves. */
static json_t *targets(const qs_lora *l)
{
    if (l->config.targets.count == 1 && strcasecmp(l->config.targets.item[0], "all-linear") == 0) {
        json_t *list = json_array();
        const qs_layer *layer = qs_architecture_layer(l->a, 0);
        for (int i = 0; i < layer->tensors; i++) {
            char module[QS_TENSOR_NAME];
            if (layer->tensor[i].role != QS_TENSOR_LINEAR) continue;
            json_array_append_new(list,
                                  json_string(qs_module_last(qs_tensor_module(&layer->tensor[i], module))));
        }
        return list;
    }
    return name_list(l->config.targets);
}

/* The layers that were chosen by number; null: all. */
static json_t *layers(const qs_lora *l)
{
    if (!l->config.layers.count) return json_null();
    json_t *list = json_array();
    for (int32_t i = 0; i < l->layers; i++)
        if (l->layer_mask[i]) json_array_append_new(list, json_integer(i));
    return list;
}

static json_t *pattern(qs_lora_names names)
{
    json_t *object = json_object();
    for (int i = 0; i < names.count; i++) {
        const char *equals = strrchr(names.item[i], '=');
        json_object_setn_new(object, names.item[i], (size_t)(equals - names.item[i]),
                             number(strtod(equals + 1, NULL)));
    }
    return object;
}

int qs_peft_write_config(const char *dir, const qs_lora *l, const char *base_model, qs_err *e)
{
    /* A path that is not UTF-8, which JSON cannot hold, becomes null like one that is not known. */
    const qs_lora_config *c = &l->config;
    json_t *base = base_model ? json_string(base_model) : NULL;
    json_t *root = json_pack(
        "{s:o, s:n, s:o, s:s, s:o, s:b, s:b, s:b, s:n, s:o, s:o, s:o, s:n, s:s, s:i, s:o, s:n, s:o, "
        "s:s, s:b, s:b}",
        "alpha_pattern", pattern(c->alpha_pattern), "auto_mapping", "base_model_name_or_path",
        base ? base : json_null(), "bias", "none", "exclude_modules",
        c->exclude.count ? name_list(c->exclude) : json_null(), "fan_in_fan_out", 0, "inference_mode", 1,
        "init_lora_weights", 1, "layers_pattern", "layers_to_transform", layers(l), "lora_alpha",
        number(c->alpha), "lora_dropout", json_real(shortest(c->dropout)), "modules_to_save", "peft_type",
        "LORA", "r", c->r, "rank_pattern", pattern(c->rank_pattern), "revision", "target_modules", targets(l),
        "task_type", "CAUSAL_LM", "use_dora", 0, "use_rslora", c->rslora);
    if (!c->exclude.count) json_object_del(root, "exclude_modules"); /* PEFT knows it since 0.14 only */
    QS_ASSERT(root);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(15)),
         *path = qs_path_join(dir, "adapter_config.json");
    QS_ASSERT(text);
    int rc = qs_file_replace(path, text, strlen(text), e);
    qs_free(path);
    free(text); /* lint: allow free, jansson allocated it */
    json_decref(root);
    return rc;
}
