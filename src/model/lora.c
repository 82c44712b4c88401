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

enum { PATH_MAX_BYTES = 64, R_MAX = 1 << 16, PACK_ALIGN = 64 };

/* Streams of the generator that draws A; the top bits spell "LO", so that no counter of another purpose runs into them. */
static const uint64_t INIT_STREAM = (uint64_t)0x4c4f << 48;

/* "model.layers.3.self_attn.q_proj" */
static void module_path(char *out, int32_t layer, qs_linear linear)
{
    snprintf(out, PATH_MAX_BYTES, "model.layers.%d.%s", layer, qs_linear_name(linear));
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
    m->regex = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_ENDANCHORED, &code, &at, NULL);
    if (!m->regex) {
        char why[128];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        QS_FAIL(e, QS_EINVAL, "target_modules: \"%s\" is not a regular expression: %s at character %zu", pattern, why, at);
    }
    m->match = pcre2_match_data_create(1, NULL);
    return 0;
}

/* Decides how the targets are meant. */
static int matcher_open(const qs_lora_config *config, qs_matcher *m, qs_err *e)
{
    *m = (qs_matcher){.config = config};
    if (config->target_count < 1) QS_FAIL(e, QS_EINVAL, "target_modules is empty; expected names such as q_proj, or all-linear");
    if (config->target_count == 1 && strcasecmp(config->targets[0], "all-linear") == 0) {
        m->all = true;
        return 0;
    }
    for (int i = 0; i < config->target_count; i++) {
        if (qs_lora_is_name(config->targets[i])) continue;
        if (config->target_count == 1) return compile(config->targets[i], m, e);
        QS_FAIL(e, QS_EINVAL, "target_modules: \"%s\" is not a module name; a regular expression or all-linear must stand alone",
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

static int refuse_embeddings(const qs_matcher *m, qs_err *e)
{
    static const char *const outside[] = {"lm_head", "model.embed_tokens"};
    for (size_t i = 0; i < sizeof outside / sizeof *outside && !m->all; i++) {
        bool taken;
        QS_TRY(takes(m, -1, outside[i], &taken, e));
        if (taken)
            QS_FAIL(e, QS_EUNSUP, "target_modules takes %s; adapters on the head and the embeddings are not supported, only on the "
                                  "linear layers of the blocks", outside[i]);
    }
    return 0;
}

/* Every name must match something, or a misspelt one would silently train less than was asked. */
static int check_each_matches(const qs_matcher *m, int32_t layers, qs_err *e)
{
    for (int t = 0; t < (m->regex || m->all ? 1 : m->config->target_count); t++) {
        bool any = false;
        for (int32_t l = 0; l < layers && !any; l++) {
            for (int k = 0; k < QS_LINEAR_COUNT && !any; k++) {
                char path[PATH_MAX_BYTES];
                module_path(path, l, k);
                QS_TRY(takes(m, t, path, &any, e));
            }
        }
        if (!any)
            QS_FAIL(e, QS_EINVAL, "target_modules: \"%s\" matches nothing; there are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and "
                                  "down_proj in model.layers.0 to %d (as model.layers.0.self_attn.q_proj, model.layers.0.mlp.up_proj)",
                    m->config->targets[t], layers - 1);
    }
    return 0;
}

/* Fills slot[].active and layer_mask. */
static int match_layers(const qs_matcher *m, qs_lora *out, qs_err *e)
{
    int32_t first = -1;
    for (int32_t l = 0; l < out->layers; l++) {
        bool taken[QS_LINEAR_COUNT], any = false;
        for (int k = 0; k < QS_LINEAR_COUNT; k++) {
            char path[PATH_MAX_BYTES];
            module_path(path, l, k);
            QS_TRY(takes(m, -1, path, &taken[k], e));
            any |= taken[k];
        }
        out->layer_mask[l] = any;
        for (int k = 0; any && k < QS_LINEAR_COUNT; k++) {
            if (first < 0) out->slot[k].active = taken[k];
            else if (out->slot[k].active != taken[k])
                QS_FAIL(e, QS_EUNSUP, "target_modules takes %s in layer %d but not in layer %d; layers with different sets are not supported",
                        qs_linear_name(k), taken[k] ? l : first, taken[k] ? first : l);
        }
        if (any && first < 0) first = l;
    }
    return 0;
}

static void lay_out(const qs_architecture *a, qs_lora *out)
{
    int64_t at = 0;
    for (int k = 0; k < QS_LINEAR_COUNT; k++) { /* sizes of inactive ones too: they take columns of their group's output */
        out->slot[k].out = qs_linear_out(a, k);
        out->slot[k].in = qs_linear_in(a, k);
    }
    for (int g = 0; g < QS_GROUP_COUNT; g++) {
        for (int k = 0; k < QS_LINEAR_COUNT; k++) {
            qs_lora_slot *s = &out->slot[k];
            if (!s->active || (int)qs_linear_group(k) != g) continue;
            s->row_in_group = out->group_targets[g]++ * out->r;
            s->a_at = at;
            at += (int64_t)out->r * s->in;
        }
        for (int k = 0; k < QS_LINEAR_COUNT; k++) {
            qs_lora_slot *s = &out->slot[k];
            if (!s->active || (int)qs_linear_group(k) != g) continue;
            s->b_at = at;
            at += (int64_t)s->out * out->r;
        }
    }
    out->pack_floats = (at + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

static int check_numbers(const qs_lora_config *c, qs_err *e)
{
    if (c->r < 1 || c->r > R_MAX) QS_FAIL(e, QS_EINVAL, "lora_r is %d; expected 1 to %d", c->r, R_MAX);
    if (!(c->alpha > 0 && c->alpha <= 1e9)) QS_FAIL(e, QS_EINVAL, "lora_alpha is %g; expected more than 0", c->alpha);
    if (!(c->dropout >= 0 && c->dropout < 1)) QS_FAIL(e, QS_EINVAL, "lora_dropout is %g; expected at least 0 and less than 1", (double)c->dropout);
    return 0;
}

int qs_lora_create(const qs_lora_config *config, const qs_architecture *a, qs_lora *out, qs_err *e)
{
    *out = (qs_lora){.layers = a->layers, .r = config->r, .alpha = config->alpha, .dropout = config->dropout, .rslora = config->rslora};
    QS_TRY(check_numbers(config, e));
    out->scaling = (float)(config->alpha / (config->rslora ? sqrt(config->r) : config->r));
    out->layer_mask = qs_calloc((size_t)a->layers, 1);

    qs_matcher m;
    int rc = matcher_open(config, &m, e);
    if (!rc) rc = refuse_embeddings(&m, e);
    if (!rc) rc = check_each_matches(&m, a->layers, e);
    if (!rc) rc = match_layers(&m, out, e);
    matcher_close(&m);
    if (rc) {
        qs_lora_free(out);
        return rc;
    }
    lay_out(a, out);
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
    int64_t layer = 0, layers = 0;
    for (int k = 0; k < QS_LINEAR_COUNT; k++)
        if (l->slot[k].active) layer += (int64_t)l->r * ((int64_t)l->slot[k].in + l->slot[k].out);
    for (int32_t i = 0; i < l->layers; i++) layers += l->layer_mask[i];
    return layer * layers;
}

static void init_pack(const qs_lora *l, uint64_t seed, int32_t layer, float *pack)
{
    memset(pack, 0, (size_t)l->pack_floats * sizeof *pack);
    for (int k = 0; k < QS_LINEAR_COUNT && l->layer_mask[layer]; k++) {
        const qs_lora_slot *s = &l->slot[k];
        if (!s->active) continue;
        uint64_t stream = INIT_STREAM | (uint64_t)layer << 3 | (uint64_t)k;
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
