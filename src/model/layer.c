#include "src/model/layer.h"

#include <stdio.h>
#include <string.h>

#include "src/base/error.h"
#include "src/model/parts/part.h"

static qs_tensor *add(qs_layer *l, const char *module, const char *what, qs_tensor_role role)
{
    QS_ASSERT(l->tensors < QS_TENSORS_MAX);
    qs_tensor *t = &l->tensor[l->tensors++];
    *t = (qs_tensor){.role = role, .group = -1};
    snprintf(t->name, sizeof t->name, "%s.%s", module, what);
    return t;
}

int8_t qs_layer_add_vector(qs_layer *l, const char *module, const char *what, int32_t length)
{
    add(l, module, what, QS_TENSOR_VECTOR)->out = length;
    return (int8_t)(l->tensors - 1);
}

int8_t qs_layer_add_linear(qs_layer *l, int group, const char *module, int32_t out, int32_t in, int8_t key)
{
    qs_tensor *t = add(l, module, "weight", QS_TENSOR_LINEAR);
    qs_layer_group *g = &l->group[group];
    int8_t index = (int8_t)(l->tensors - 1);
    t->out = out;
    t->in = g->in = in;
    t->group = (int8_t)group;
    t->key = key;
    t->joins = g->count > 0;
    if (!g->count) *g = (qs_layer_group){.first = index, .bias = -1, .in = in};
    g->count++;
    g->out += out;
    return index;
}

void qs_layer_add_biases(qs_layer *l, int group)
{
    qs_layer_group *g = &l->group[group];
    g->bias = (int8_t)l->tensors;
    for (int i = 0; i < g->count; i++) {
        char module[QS_TENSOR_NAME];
        const qs_tensor *of = &l->tensor[g->first + i];
        int8_t bias = qs_layer_add_vector(l, qs_tensor_module(of, module), "bias", of->out);
        l->tensor[bias].joins = i > 0;
        l->tensor[bias].group = (int8_t)group;
    }
}

static qs_layer_norm add_norm(qs_layer *l, const char *module, qs_norm_kind kind, int32_t length)
{
    qs_layer_norm n = {-1, -1};
    if (!module) return n;
    n.weight = qs_layer_add_vector(l, module, "weight", length);
    if (kind == QS_NORM_LAYER) n.bias = qs_layer_add_vector(l, module, "bias", length);
    return n;
}

void qs_layer_finish(qs_layer *l, qs_norm_kind norm, int32_t hidden)
{
    l->tensors = 0;
    memset(l->group, 0, sizeof l->group);
    for (int p = 0; p < l->parts; p++) {
        qs_layer_part *part = &l->part[p];
        part->before = add_norm(l, part->norm_before, norm, hidden);
        part->table->tensors(l, p, hidden);
        part->after = add_norm(l, part->norm_after, norm, hidden);
    }
}

const char *qs_tensor_module(const qs_tensor *t, char name[QS_TENSOR_NAME])
{
    memcpy(name, t->name, QS_TENSOR_NAME);
    *strrchr(name, '.') = 0;
    return name;
}

int qs_layer_find(const qs_layer *l, const char *name)
{
    for (int i = 0; i < l->tensors; i++) {
        char module[QS_TENSOR_NAME];
        qs_tensor_module(&l->tensor[i], module);
        const char *dot = strrchr(module, '.');
        bool linear = l->tensor[i].role == QS_TENSOR_LINEAR;
        if (!strcmp(l->tensor[i].name, name) || (linear && !strcmp(dot ? dot + 1 : module, name))) return i;
    }
    return -1;
}

int64_t qs_layer_parameters(const qs_layer *l)
{
    int64_t n = 0;
    for (int i = 0; i < l->tensors; i++)
        n += (int64_t)l->tensor[i].out * (l->tensor[i].role == QS_TENSOR_VECTOR ? 1 : l->tensor[i].in);
    return n;
}
