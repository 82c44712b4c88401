/* architecture.c - config.json into a qs_architecture: finds the family, whose file does the rest; names and
 * sizes. */
#include "src/model/architecture.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "src/model/families/family.h"
#include "src/model/parts/part.h"
#include "src/model/text_config.h"

enum { CONFIG_MAX_BYTES = 16 << 20 };

/* "one of the supported families: llama (1, 2, 3.x), ..." */
static char *list_families(void)
{
    char *list = qs_strdup("one of the supported families:");
    for (int i = 0; qs_families[i]; i++)
        for (const qs_family *f = qs_families[i]; f->model_type; f++) {
            char *longer = qs_printf("%s%s %s", list, i || f != qs_families[0] ? "," : "", f->label);
            qs_free(list);
            list = longer;
        }
    return list;
}

static const qs_family *family_called(const char *type)
{
    for (int i = 0; qs_families[i]; i++)
        for (const qs_family *f = qs_families[i]; f->model_type; f++)
            if (!strcmp(type, f->model_type)) return f;
    return NULL;
}

static int find_family(qs_json j, const qs_family **out, qs_err *e)
{
    const char *type = NULL;
    QS_TRY(qs_json_string(j, "model_type", &type, e));
    const qs_family *f = type ? family_called(type) : NULL;
    if (!f) {
        char *known = list_families();
        int rc = qs_json_unexpected(j, "model_type", type ? QS_EUNSUP : QS_EFORMAT, known, e);
        qs_free(known);
        return rc;
    }
    const json_t *classes = qs_json_get(j, "architectures");
    if (classes) {
        const json_t *first = json_array_get(classes, 0);
        if (!json_is_array(classes) || (json_array_size(classes) && !json_is_string(first)))
            return qs_json_unexpected(j, "architectures", QS_EFORMAT, "a list of class names", e);
        /* The first Llama conversions were called LLaMAForCausalLM. */
        if (first && strcasecmp(json_string_value(first), f->class_name) != 0) {
            char expected[96];
            snprintf(expected, sizeof expected, "%s: only causal language models are supported",
                     f->class_name);
            return qs_json_unexpected(j, "architectures", QS_EUNSUP, expected, e);
        }
    }
    *out = f;
    return 0;
}

static int read_config(qs_json j, qs_architecture *a, qs_err *e)
{
    const qs_family *f = NULL;
    QS_TRY(find_family(j, &f, e));
    snprintf(a->family, sizeof a->family, "%s", f->model_type);
    snprintf(a->class_name, sizeof a->class_name, "%s", f->class_name);
    return f->read(j, a, e);
}

int qs_architecture_parse(const char *name, const char *text, size_t bytes, qs_architecture *out, qs_err *e)
{
    memset(out, 0, sizeof *out);
    json_t *root = NULL;
    int rc = qs_json_parse(text, bytes, name, &root, e);
    if (!rc) root = qs_text_config(root, name);
    if (!rc) rc = read_config((qs_json){root, name, ""}, out, e);
    json_decref(root);
    return rc;
}

int qs_architecture_read(const char *dir, qs_architecture *out, qs_err *e)
{
    memset(out, 0, sizeof *out);
    char *path = qs_path_join(dir, "config.json"), *text = NULL;
    size_t bytes;
    int rc = qs_file_read(path, CONFIG_MAX_BYTES, &text, &bytes, e);
    if (!rc) rc = qs_architecture_parse(path, text, bytes, out, e);
    qs_free(text);
    qs_free(path);
    return rc;
}

int64_t qs_architecture_parameters(const qs_architecture *a)
{
    int64_t embedding = (int64_t)a->vocab * a->hidden, n = (a->tied ? 1 : 2) * embedding + qs_norm_floats(a);
    for (int32_t l = 0; l < a->layers; l++) n += qs_layer_parameters(qs_architecture_layer(a, l));
    return n;
}

int32_t qs_architecture_ffn(const qs_architecture *a)
{
    int32_t most = 0;
    for (int k = 0; k < a->kinds; k++)
        for (int p = 0; p < a->kind[k].parts; p++) {
            int64_t n = a->kind[k].part[p].table->widest(&a->kind[k], p, 0);
            if (a->kind[k].part[p].table != &qs_part_attention && n > most) most = (int32_t)n;
        }
    return most;
}

/* ---- names ------------------------------------------------------------------------------------------- */

void qs_architecture_tensor_name(const qs_architecture *a, int32_t layer, const qs_tensor *t, char name[128])
{
    snprintf(name, 128, "%s.%d.%s", a->names.blocks, layer, t->name);
}

void qs_architecture_final_norm_name(const qs_architecture *a, bool bias, char name[128])
{
    snprintf(name, 128, "%s.%s", a->names.final_norm, bias ? "bias" : "weight");
}

/* The head as a module of its own. */
static void own_head(const qs_architecture *a, const qs_source *source, char name[128])
{
    snprintf(name, 128, "%s.weight", a->names.head);
    if (!a->names.other_head || qs_source_find(source, name)) return;
    char other[128];
    snprintf(other, sizeof other, "%s.weight", a->names.other_head);
    if (qs_source_find(source, other)) snprintf(name, 128, "%s", other);
}

void qs_architecture_embedding_name(const qs_architecture *a, const qs_source *source, char name[128])
{
    snprintf(name, 128, "%s.weight", a->names.embedding);
    if (a->tied && !qs_source_find(source, name)) own_head(a, source, name);
}

void qs_architecture_head_name(const qs_architecture *a, const qs_source *source, char name[128])
{
    if (a->tied)
        qs_architecture_embedding_name(a, source, name);
    else
        own_head(a, source, name);
}

const char *qs_module_last(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}
