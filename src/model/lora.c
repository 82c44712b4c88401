/* lora.c - which linears have an adapter, where its numbers lie in a pack, and their first values. */
#include "src/model/lora.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "src/base/memory.h"
#include "src/base/random.h"

enum { PATH_MAX_BYTES = 128, R_MAX = 1 << 16, PACK_ALIGN = 64 };

/* Streams of the generator that draws A; the top bits spell "LO", so that no counter of another purpose runs
 * into them. */
static const uint64_t INIT_STREAM = (uint64_t)0x4c4f << 48;

/* "model.layers.3.self_attn.q_proj"; false where tensor i is no linear. */
static bool module_path(const qs_architecture *a, char *out, int32_t layer, int i)
{
    char module[QS_TENSOR_NAME];
    const qs_tensor *t = &qs_architecture_layer(a, layer)->tensor[i];
    if (t->role != QS_TENSOR_LINEAR) return false;
    snprintf(out, PATH_MAX_BYTES, "%s.%d.%s", a->names.blocks, layer, qs_tensor_module(t, module));
    return true;
}

bool qs_lora_is_name(const char *s)
{
    if (!*s) return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '_' && *s != '.') return false;
    return true;
}

/* PEFT's rule for a list: the whole path, or what follows a dot. */
static bool name_matches(const char *name, const char *path)
{
    size_t n = strlen(name), p = strlen(path);
    return n <= p && strcmp(path + p - n, name) == 0 && (n == p || path[p - n - 1] == '.');
}

typedef struct qs_matcher {
    const qs_lora_config *config;
    bool all;
    pcre2_code *regex; /* or NULL: names */
    pcre2_match_data *match;
} qs_matcher;

static int compile(const char *pattern, qs_matcher *m, qs_err *e)
{
    int code;
    size_t at;
    m->regex = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_ENDANCHORED,
                             &code, &at, NULL);
    if (!m->regex) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        QS_FAIL(e, QS_EINVAL, "target_modules: \"%s\" is not a regular expression: %s at character %zu",
                pattern, why, at);
    }
    m->match = pcre2_match_data_create(1, NULL);
    return 0;
}

/* Decides how the targets are meant. */
static int matcher_open(const qs_lora_config *config, qs_matcher *m, qs_err *e)
{
    *m = (qs_matcher){.config = config};
    if (config->target_count < 1)
        QS_FAIL(e, QS_EINVAL, "target_modules is empty; expected names such as q_proj, or all-linear");
    if (config->target_count == 1 && strcasecmp(config->targets[0], "all-linear") == 0) {
        m->all = true;
        return 0;
    }
    for (int i = 0; i < config->target_count; i++) {
        if (qs_lora_is_name(config->targets[i])) continue;
        if (config->target_count == 1) return compile(config->targets[i], m, e);
        QS_FAIL(e, QS_EINVAL,
                "target_modules: \"%s\" is not a module name; a regular expression or all-linear must stand "
                "alone",
                config->targets[i]);
    }
    return 0;
}

static void matcher_close(qs_matcher *m)
{
    pcre2_match_data_free(m->match);
    pcre2_code_free(m->regex);
}

/* Whether target `i` (any of them when -1) takes the module at `path`. */
static int takes(const qs_matcher *m, int i, const char *path, bool *out, qs_err *e)
{
    if (m->regex) {
        int rc = pcre2_match(m->regex, (PCRE2_SPTR)path, PCRE2_ZERO_TERMINATED, 0, 0, m->match, NULL);
        if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
            QS_FAIL(e, QS_EINVAL, "target_modules: \"%s\" is too costly to match", m->config->targets[0]);
        *out = rc >= 0;
        return 0;
    }
    *out = m->all;
    for (int t = i < 0 ? 0 : i; t < (i < 0 ? m->config->target_count : i + 1) && !*out; t++)
        *out = name_matches(m->config->targets[t], path);
    return 0;
}

static int refuse_embeddings(const qs_matcher *m, const qs_model_names *n, qs_err *e)
{
    const char *const outside[] = {n->head, n->embedding, n->other_head ? n->other_head : n->head};
    for (size_t i = 0; i < sizeof outside / sizeof *outside && !m->all; i++) {
        bool taken;
        QS_TRY(takes(m, -1, outside[i], &taken, e));
        if (taken)
            QS_FAIL(e, QS_EUNSUP,
                    "target_modules takes %s; adapters on the head and the embeddings are not supported, "
                    "only on the "
                    "linear layers of the blocks",
                    outside[i]);
    }
    return 0;
}

/* "q_proj, k_proj and v_proj" of the first layer, and a path for example. */
static void list_modules(const qs_architecture *a, char list[160], char example[PATH_MAX_BYTES])
{
    int used = 0, n = qs_architecture_layer(a, 0)->tensors, last = n - 1;
    while (last > 0 && !module_path(a, example, 0, last)) last--;
    for (int i = 0; i < n; i++) {
        if (!module_path(a, example, 0, i)) continue;
        used += snprintf(list + used, 160 - (size_t)used, "%s%s",
                         !used       ? ""
                         : i == last ? " and "
                                     : ", ",
                         qs_module_last(example));
    }
    for (int i = n - 1; i >= 0; i--) module_path(a, example, 0, i);
}

/* Every name must match something, or a misspelt one would silently train less than was asked. */
static int check_each_matches(const qs_matcher *m, const qs_architecture *a, qs_err *e)
{
    for (int t = 0; t < (m->regex || m->all ? 1 : m->config->target_count); t++) {
        bool any = false;
        for (int32_t l = 0; l < a->layers && !any; l++) {
            for (int i = 0; i < qs_architecture_layer(a, l)->tensors && !any; i++) {
                char path[PATH_MAX_BYTES];
                if (module_path(a, path, l, i)) QS_TRY(takes(m, t, path, &any, e));
            }
        }
        if (any) continue;
        char list[160], example[PATH_MAX_BYTES];
        list_modules(a, list, example);
        QS_FAIL(e, QS_EINVAL, "target_modules: \"%s\" matches nothing; there are %s in %s.0 to %d (as %s)",
                m->config->targets[t], list, a->names.blocks, a->layers - 1, example);
    }
    return 0;
}

/* Fills slot[].active of every kind of layer, and layer_mask. */
static int match_layers(const qs_matcher *m, qs_lora *out, qs_err *e)
{
    int32_t first[QS_LAYER_KINDS_MAX];
    for (int k = 0; k < QS_LAYER_KINDS_MAX; k++) first[k] = -1;
    for (int32_t l = 0; l < out->layers; l++) {
        int kind = out->a->kind_of[l];
        qs_lora_slot *slot = out->kind[kind].slot;
        bool taken[QS_TENSORS_MAX] = {false}, any = false;
        char path[PATH_MAX_BYTES];
        int n = out->a->kind[kind].tensors;
        for (int i = 0; i < n; i++) {
            if (module_path(out->a, path, l, i)) QS_TRY(takes(m, -1, path, &taken[i], e));
            any |= taken[i];
        }
        out->layer_mask[l] = any;
        for (int i = 0; any && i < n; i++) {
            if (first[kind] < 0)
                slot[i].active = taken[i];
            else if (slot[i].active != taken[i] && module_path(out->a, path, l, i))
                QS_FAIL(e, QS_EUNSUP,
                        "target_modules takes %s in layer %d but not in layer %d; layers with different sets "
                        "are not supported",
                        qs_module_last(path), taken[i] ? l : first[kind], taken[i] ? first[kind] : l);
        }
        if (any && first[kind] < 0) first[kind] = l;
    }
    return 0;
}

static void lay_out(const qs_layer *layer, int32_t r, qs_lora_layer *out)
{
    int64_t at = 0;
    out->layer = layer;
    for (int i = 0; i < layer->tensors; i++) {
        out->slot[i].out = layer->tensor[i].out;
        out->slot[i].in = layer->tensor[i].in;
    }
    for (int g = 0; g < QS_GROUPS_MAX; g++) {
        const qs_layer_group *group = &layer->group[g];
        for (int i = group->first; i < group->first + group->count; i++) {
            qs_lora_slot *s = &out->slot[i];
            if (!s->active) continue;
            s->row_in_group = out->group_targets[g]++ * r;
            s->a_at = at;
            at += (int64_t)r * s->in;
        }
        for (int i = group->first; i < group->first + group->count; i++) {
            qs_lora_slot *s = &out->slot[i];
            if (!s->active) continue;
            s->b_at = at;
            at += (int64_t)s->out * r;
        }
    }
    out->floats = (at + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

static int check_numbers(const qs_lora_config *c, qs_err *e)
{
    if (c->r < 1 || c->r > R_MAX) QS_FAIL(e, QS_EINVAL, "lora_r is %d; expected 1 to %d", c->r, R_MAX);
    if (!(c->alpha > 0 && c->alpha <= 1e9))
        QS_FAIL(e, QS_EINVAL, "lora_alpha is %g; expected more than 0", c->alpha);
    if (!(c->dropout >= 0 && c->dropout < 1))
        QS_FAIL(e, QS_EINVAL, "lora_dropout is %g; expected at least 0 and less than 1", (double)c->dropout);
    return 0;
}

int qs_lora_create(const qs_lora_config *config, const qs_architecture *a, qs_lora *out, qs_err *e)
{
    *out = (qs_lora){.a = a,
                     .layers = a->layers,
                     .r = config->r,
                     .alpha = config->alpha,
                     .dropout = config->dropout,
                     .rslora = config->rslora};
    QS_TRY(check_numbers(config, e));
    out->scaling = (float)(config->alpha / (config->rslora ? sqrt(config->r) : config->r));
    out->layer_mask = qs_calloc((size_t)a->layers, 1);

    qs_matcher m;
    int rc = matcher_open(config, &m, e);
    if (!rc) rc = refuse_embeddings(&m, &a->names, e);
    if (!rc) rc = check_each_matches(&m, a, e);
    if (!rc) rc = match_layers(&m, out, e);
    matcher_close(&m);
    if (rc) {
        qs_lora_free(out);
        return rc;
    }
    for (int k = 0; k < a->kinds; k++) {
        lay_out(&a->kind[k], out->r, &out->kind[k]);
        if (out->kind[k].floats > out->pack_floats) out->pack_floats = out->kind[k].floats;
    }
    out->target_names = qs_calloc((size_t)config->target_count, sizeof *out->target_names);
    for (int i = 0; i < config->target_count; i++) out->target_names[i] = qs_strdup(config->targets[i]);
    out->target_count = config->target_count;
    return 0;
}

void qs_lora_free(qs_lora *l)
{
    if (!l) return;
    for (int i = 0; i < l->target_count; i++) qs_free(l->target_names[i]);
    qs_free(l->target_names);
    qs_free(l->layer_mask);
    *l = (qs_lora){0};
}

int64_t qs_lora_parameters(const qs_lora *l)
{
    int64_t n = 0;
    for (int32_t layer = 0; layer < l->layers; layer++) {
        const qs_lora_layer *k = qs_lora_of_layer(l, layer);
        for (int i = 0; i < k->layer->tensors && l->layer_mask[layer]; i++)
            if (k->slot[i].active) n += (int64_t)l->r * ((int64_t)k->slot[i].in + k->slot[i].out);
    }
    return n;
}

static void init_pack(const qs_lora *l, uint64_t seed, int32_t layer, float *pack)
{
    const qs_lora_layer *k = qs_lora_of_layer(l, layer);
    memset(pack, 0, (size_t)l->pack_floats * sizeof *pack);
    for (int t = 0; t < k->layer->tensors && l->layer_mask[layer]; t++) {
        const qs_lora_slot *s = &k->slot[t];
        if (!s->active) continue;
        uint64_t stream = INIT_STREAM | (uint64_t)layer << 3 | (uint64_t)k->layer->tensor[t].key;
        float *A = pack + s->a_at, bound = (float)(1 / sqrt(s->in));
        for (int64_t i = 0; i < (int64_t)l->r * s->in; i++)
            A[i] = (2 * qs_uniform_f32(qs_random_u32(seed, stream, (uint64_t)i)) - 1) * bound;
    }
}

void qs_lora_init(const qs_lora *l, uint64_t seed, qs_pager *masters)
{
    qs_pager_begin(masters, NULL);
    for (int32_t layer = 0; layer < l->layers; layer++) {
        qs_pager_at(masters, layer);
        init_pack(l, seed, layer, qs_pager_acquire(masters, layer, QS_PAGE_NEW));
        qs_pager_release(masters, layer, true, QS_QUEUE_COUNT);
    }
}
