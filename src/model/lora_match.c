#include "src/model/lora_match.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "src/base/memory.h"

enum { PATH_MAX_BYTES = 128 };

/* A list of names, or one regular expression, or everything. */
typedef struct matcher {
    const char *option;
    qs_lora_names names;
    bool all;
    pcre2_code *regex; /* or NULL: names */
} matcher;

/* One entry of rank_pattern or alpha_pattern. */
typedef struct pattern {
    const char *text; /* as written */
    pcre2_code *regex;
    double value;
} pattern;

typedef struct pattern_list {
    const char *option;
    pattern *item;
    int count;
} pattern_list;

struct qs_lora_match {
    const qs_lora_config *c;
    const qs_architecture *a;
    matcher targets, exclude;
    bool *layer; /* [layers] layers_to_transform takes it */
    pattern_list rank, alpha;
    pcre2_match_data *data;
};

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

/* ---- reading the options ------------------------------------------------------------------------------ */

static int compile(const char *option, const char *text, pcre2_code **out, qs_err *e)
{
    int code;
    size_t at;
    *out = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_ENDANCHORED, &code,
                         &at, NULL);
    if (*out) return 0;
    char why[128];
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    QS_FAIL(e, QS_EINVAL, "%s: \"%s\" is not a regular expression: %s at character %zu", option, text, why,
            at);
}

/* Decides how names are meant. */
static int read_names(const char *option, qs_lora_names names, matcher *m, qs_err *e)
{
    *m = (matcher){.option = option, .names = names};
    if (names.count == 1 && strcasecmp(names.item[0], "all-linear") == 0) {
        m->all = true;
        return 0;
    }
    for (int i = 0; i < names.count; i++) {
        if (qs_lora_is_name(names.item[i])) continue;
        if (names.count == 1) return compile(option, names.item[i], &m->regex, e);
        QS_FAIL(e, QS_EINVAL,
                "%s: \"%s\" is not a module name; a regular expression or all-linear must stand alone",
                option, names.item[i]);
    }
    return 0;
}

/* "3" or "8-15" */
static int read_layers(qs_lora_match *m, qs_err *e)
{
    qs_lora_names names = m->c->layers;
    m->layer = qs_calloc((size_t)m->a->layers, sizeof *m->layer);
    for (int32_t l = 0; l < m->a->layers; l++) m->layer[l] = names.count == 0;
    for (int i = 0; i < names.count; i++) {
        char *end;
        long first = strtol(names.item[i], &end, 10), last = first;
        bool good = end > names.item[i] && first >= 0;
        if (good && *end == '-') last = strtol(end + 1, &end, 10);
        if (!good || *end || last < first || last >= m->a->layers)
            QS_FAIL(e, QS_EINVAL,
                    "layers_to_transform: \"%s\" is no layer or range of layers; there are 0 to %d",
                    names.item[i], m->a->layers - 1);
        for (long l = first; l <= last; l++) m->layer[l] = true;
    }
    if (names.count && m->targets.regex)
        QS_FAIL(
            e, QS_EINVAL,
            "layers_to_transform and target_modules as a regular expression do not go together; write the "
            "layers into the expression");
    return 0;
}

/* "q_proj=8" or "layers.0.self_attn.k_proj=4", as PEFT matches the keys: a regex on the end of the path. */
static int read_patterns(const char *option, qs_lora_names names, pattern_list *out, qs_err *e)
{
    *out = (pattern_list){.option = option, .item = qs_calloc((size_t)names.count + 1, sizeof *out->item)};
    for (int i = 0; i < names.count; i++) {
        pattern *p = &out->item[i];
        const char *text = names.item[i], *equals = strrchr(text, '=');
        char *end = NULL;
        p->text = text;
        p->value = equals ? strtod(equals + 1, &end) : 0;
        if (!equals || equals == text || end == equals + 1 || *end || !(p->value > 0 && p->value <= 1e9))
            QS_FAIL(e, QS_EINVAL, "%s: \"%s\" is not MODULE=NUMBER, such as q_proj=8", option, text);
        char *regex = qs_printf("(.*\\.)?(%.*s)", (int)(equals - text), text);
        int rc = compile(option, regex, &p->regex, e);
        qs_free(regex);
        out->count++;
        QS_TRY(rc);
    }
    return 0;
}

static int check_ranks(const pattern_list *l, qs_err *e)
{
    for (int i = 0; i < l->count; i++)
        if (l->item[i].value != floor(l->item[i].value) || l->item[i].value > QS_LORA_R_MAX)
            QS_FAIL(e, QS_EINVAL, "rank_pattern: \"%s\": a rank is a whole number from 1 to %d",
                    l->item[i].text, QS_LORA_R_MAX);
    return 0;
}

/* ---- matching ----------------------------------------------------------------------------------------- */

static int regex_matches(qs_lora_match *m, const char *option, pcre2_code *regex, const char *path, bool *out,
                         qs_err *e)
{
    int rc = pcre2_match(regex, (PCRE2_SPTR)path, PCRE2_ZERO_TERMINATED, 0, 0, m->data, NULL);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        QS_FAIL(e, QS_EINVAL, "%s: a regular expression is too costly to match", option);
    *out = rc >= 0;
    return 0;
}

static int takes(qs_lora_match *m, const matcher *names, const char *path, bool *out, qs_err *e)
{
    if (names->regex) return regex_matches(m, names->option, names->regex, path, out, e);
    *out = names->all;
    for (int i = 0; i < names->names.count && !*out; i++) *out = name_matches(names->names.item[i], path);
    return 0;
}

/* The first pattern that matches, or NULL. */
static int find_pattern(qs_lora_match *m, const pattern_list *l, const char *path, const pattern **out,
                        qs_err *e)
{
    bool taken = false;
    *out = NULL;
    for (int i = 0; i < l->count && !taken; i++) {
        QS_TRY(regex_matches(m, l->option, l->item[i].regex, path, &taken, e));
        if (taken) *out = &l->item[i];
    }
    return 0;
}

static int is_target(qs_lora_match *m, int32_t layer, const char *path, bool *out, qs_err *e)
{
    bool excluded = false;
    *out = false;
    if (!m->layer[layer]) return 0;
    QS_TRY(takes(m, &m->exclude, path, &excluded, e));
    return excluded ? 0 : takes(m, &m->targets, path, out, e);
}

int qs_lora_match_slot(qs_lora_match *m, int32_t layer, int i, qs_lora_slot *slot, qs_err *e)
{
    char path[PATH_MAX_BYTES];
    const pattern *rank, *alpha;
    slot->active = false;
    if (!module_path(m->a, path, layer, i)) return 0;
    QS_TRY(is_target(m, layer, path, &slot->active, e));
    if (!slot->active) return 0;
    QS_TRY(find_pattern(m, &m->rank, path, &rank, e));
    QS_TRY(find_pattern(m, &m->alpha, path, &alpha, e));
    slot->r = rank ? (int32_t)rank->value : m->c->r;
    slot->alpha = alpha ? alpha->value : m->c->alpha;
    slot->scaling = (float)(slot->alpha / (m->c->rslora ? sqrt(slot->r) : slot->r));
    return 0;
}

/* ---- checks ------------------------------------------------------------------------------------------- */

static int refuse_embeddings(qs_lora_match *m, qs_err *e)
{
    const qs_model_names *n = &m->a->names;
    const char *const outside[] = {n->head, n->embedding, n->other_head ? n->other_head : n->head};
    for (size_t i = 0; i < sizeof outside / sizeof *outside && !m->targets.all; i++) {
        bool taken;
        QS_TRY(takes(m, &m->targets, outside[i], &taken, e));
        if (taken)
            QS_FAIL(
                e, QS_EUNSUP,
                "target_modules takes %s; adapters on the head and the embeddings are not supported, only "
                "on the linear layers of the blocks",
                outside[i]);
    }
    return 0;
}

/* "q_proj, k_proj and v_proj" of the first layer, and a path for example. */
static void list_modules(const qs_architecture *a, char list[160], char example[PATH_MAX_BYTES])
{
    int used = 0, n = qs_architecture_layer(a, 0)->tensors, last = n - 1;
    while (last > 0 && !module_path(a, example, 0, last)) last--;
    for (int i = 0; i < n && used < 140; i++) {
        if (!module_path(a, example, 0, i)) continue;
        const char *between = !used ? "" : i == last ? " and " : ", ";
        used += snprintf(list + used, 160 - (size_t)used, "%s%s", between, qs_module_last(example));
    }
    for (int i = n - 1; i >= 0; i--) module_path(a, example, 0, i);
}

static int nothing_matches(const qs_lora_match *m, const char *option, const char *text, qs_err *e)
{
    char list[160], example[PATH_MAX_BYTES];
    list_modules(m->a, list, example);
    QS_FAIL(e, QS_EINVAL, "%s: \"%s\" matches nothing; there are %s in %s.0 to %d (as %s)", option, text,
            list, m->a->names.blocks, m->a->layers - 1, example);
}

/* Every name must match something, or a misspelt one would silently train less or more than was asked. */
static int check_names(qs_lora_match *m, const matcher *names, qs_err *e)
{
    for (int n = 0; n < (names->all ? 0 : names->regex ? 1 : names->names.count); n++) {
        matcher one = *names;
        one.names = (qs_lora_names){names->names.item + n, 1};
        bool any = false;
        for (int32_t l = 0; l < m->a->layers && !any; l++) {
            for (int i = 0; i < qs_architecture_layer(m->a, l)->tensors && !any; i++) {
                char path[PATH_MAX_BYTES];
                if (module_path(m->a, path, l, i)) QS_TRY(takes(m, &one, path, &any, e));
            }
        }
        if (!any) return nothing_matches(m, names->option, names->names.item[n], e);
    }
    return 0;
}

static int check_patterns(qs_lora_match *m, const pattern_list *list, qs_err *e)
{
    for (int n = 0; n < list->count; n++) {
        bool any = false;
        for (int32_t l = 0; l < m->a->layers && !any; l++) {
            for (int i = 0; i < qs_architecture_layer(m->a, l)->tensors && !any; i++) {
                char path[PATH_MAX_BYTES];
                const pattern *found = NULL;
                bool target = false;
                if (!module_path(m->a, path, l, i)) continue;
                QS_TRY(is_target(m, l, path, &target, e));
                if (target) QS_TRY(find_pattern(m, list, path, &found, e));
                any = found == &list->item[n];
            }
        }
        if (!any)
            QS_FAIL(
                e, QS_EINVAL,
                "%s: \"%s\" changes nothing: it matches no linear that has an adapter, or another pattern "
                "before it takes them all",
                list->option, list->item[n].text);
    }
    return 0;
}

static int open_match(qs_lora_match *m, qs_err *e)
{
    const qs_lora_config *c = m->c;
    if (c->targets.count < 1)
        QS_FAIL(e, QS_EINVAL, "target_modules is empty; expected names such as q_proj, or all-linear");
    QS_TRY(read_names("target_modules", c->targets, &m->targets, e));
    QS_TRY(read_names("exclude_modules", c->exclude, &m->exclude, e));
    QS_TRY(read_layers(m, e));
    QS_TRY(read_patterns("rank_pattern", c->rank_pattern, &m->rank, e));
    QS_TRY(read_patterns("alpha_pattern", c->alpha_pattern, &m->alpha, e));
    QS_TRY(check_ranks(&m->rank, e));
    QS_TRY(refuse_embeddings(m, e));
    QS_TRY(check_names(m, &m->targets, e));
    QS_TRY(check_names(m, &m->exclude, e));
    QS_TRY(check_patterns(m, &m->rank, e));
    return check_patterns(m, &m->alpha, e);
}

int qs_lora_match_open(const qs_lora_config *c, const qs_architecture *a, qs_lora_match **out, qs_err *e)
{
    qs_lora_match *m = qs_calloc(1, sizeof *m);
    m->c = c;
    m->a = a;
    m->data = pcre2_match_data_create(1, NULL);
    int rc = open_match(m, e);
    if (rc)
        qs_lora_match_close(m);
    else
        *out = m;
    return rc;
}

static void free_patterns(pattern_list *l)
{
    for (int i = 0; i < l->count; i++) pcre2_code_free(l->item[i].regex);
    qs_free(l->item);
}

void qs_lora_match_close(qs_lora_match *m)
{
    pcre2_code_free(m->targets.regex);
    pcre2_code_free(m->exclude.regex);
    free_patterns(&m->rank);
    free_patterns(&m->alpha);
    pcre2_match_data_free(m->data);
    qs_free(m->layer);
    qs_free(m);
}
