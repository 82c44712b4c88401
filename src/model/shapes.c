#include "src/model/shapes.h"

#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/model/families/family.h"

/* The shape at this index over all families. */
static bool shape_at(int index, qs_shape *out)
{
    for (int i = 0; qs_families[i]; i++)
        for (const qs_family *f = qs_families[i]; f->model_type; f++)
            for (const qs_family_shape *s = f->shapes; s && s->name; s++)
                if (!index--) {
                    *out = (qs_shape){f, s};
                    return true;
                }
    return false;
}

const char *qs_shape_name(int index)
{
    qs_shape s;
    return index >= 0 && shape_at(index, &s) ? s.is->name : NULL;
}

int qs_shape_find(const char *name, qs_shape *out, qs_err *e)
{
    char known[1024] = "";
    for (int i = 0; shape_at(i, out); i++) {
        if (!strcmp(name, out->is->name)) return 0;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", out->is->name);
    }
    QS_FAIL(e, QS_EUSAGE, "no shape is called %.60s; choose from %s", name, known);
}

char *qs_shape_config(const qs_shape *s, int32_t layers)
{
    return qs_printf("{\n"
                     "  \"architectures\": [\"%s\"],\n"
                     "  \"model_type\": \"%s\",\n"
                     "  \"num_hidden_layers\": %d,\n"
                     "  %s,\n"
                     "  \"torch_dtype\": \"bfloat16\"\n"
                     "}\n",
                     s->family->class_name, s->family->model_type, layers ? layers : s->is->layers,
                     s->is->keys);
}

static void add(qs_synthetic_entry *list, int *count, const char *name, int64_t rows, int64_t columns)
{
    qs_synthetic_entry *t = &list[(*count)++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->shape[0] = rows;
    t->shape[1] = columns;
}

int qs_shape_tensors(const qs_architecture *a, qs_synthetic_entry **out)
{
    qs_synthetic_entry *list = qs_calloc((size_t)a->layers * QS_TENSORS_MAX + 4, sizeof *list);
    int count = 0;
    char name[128];
    snprintf(name, sizeof name, "%s.weight", a->names.embedding);
    add(list, &count, name, a->vocab, a->hidden);
    for (int32_t layer = 0; layer < a->layers; layer++) {
        const qs_layer *l = qs_architecture_layer(a, layer);
        for (int i = 0; i < l->tensors; i++) {
            qs_architecture_tensor_name(a, layer, &l->tensor[i], name);
            add(list, &count, name, l->tensor[i].out, l->tensor[i].in);
        }
    }
    for (int bias = 0; bias <= (a->norm == QS_NORM_LAYER); bias++) {
        qs_architecture_final_norm_name(a, bias, name);
        add(list, &count, name, a->hidden, 0);
    }
    snprintf(name, sizeof name, "%s.weight", a->names.head);
    if (!a->tied) add(list, &count, name, a->vocab, a->hidden);
    *out = list;
    return count;
}

int qs_shape_open(const char *name, int32_t layers, qs_architecture *a, qs_source **source, qs_err *e)
{
    const double std = 0.02;
    qs_shape s;
    qs_synthetic_entry *tensors;
    size_t bytes;
    *source = NULL;
    QS_TRY(qs_shape_find(name, &s, e));
    char *config = qs_shape_config(&s, layers);
    int rc = qs_architecture_parse(name, config, strlen(config), a, e);
    qs_free(config);
    QS_TRY(rc);
    int count = qs_shape_tensors(a, &tensors);
    char *recipe = qs_synthetic_text(name, 0, std, tensors, count, &bytes);
    rc = qs_source_open_recipe(QS_SYNTHETIC_NAME, recipe, bytes, source, e);
    qs_free(recipe);
    qs_free(tensors);
    return rc;
}
