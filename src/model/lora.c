/* lora.c - where the adapters' numbers lie in a pack, and their first values. */
#include "src/model/lora.h"

#include <math.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/model/lora_match.h"

enum { PACK_ALIGN = 64 };

/* Streams of the generator that draws A; the top bits spell "LO", so that no counter of another purpose runs
 * into them. */
static const uint64_t INIT_STREAM = (uint64_t)0x4c4f << 48;

/* ---- the config --------------------------------------------------------------------------------------- */

static qs_lora_names copy_names(qs_lora_names n)
{
    char **item = qs_calloc((size_t)n.count + 1, sizeof *item);
    for (int i = 0; i < n.count; i++) item[i] = qs_strdup(n.item[i]);
    return (qs_lora_names){(const char *const *)item, n.count};
}

static void free_names(qs_lora_names n)
{
    char **item = (char **)(uintptr_t)n.item;
    for (int i = 0; i < n.count; i++) qs_free(item[i]);
    qs_free(item);
}

qs_lora_config qs_lora_config_copy(const qs_lora_config *c)
{
    qs_lora_config copy = *c;
    copy.targets = copy_names(c->targets);
    copy.exclude = copy_names(c->exclude);
    copy.layers = copy_names(c->layers);
    copy.rank_pattern = copy_names(c->rank_pattern);
    copy.alpha_pattern = copy_names(c->alpha_pattern);
    return copy;
}

void qs_lora_config_free(qs_lora_config *c)
{
    free_names(c->targets);
    free_names(c->exclude);
    free_names(c->layers);
    free_names(c->rank_pattern);
    free_names(c->alpha_pattern);
    *c = (qs_lora_config){0};
}

static int check_numbers(const qs_lora_config *c, qs_err *e)
{
    if (c->r < 1 || c->r > QS_LORA_R_MAX)
        QS_FAIL(e, QS_EINVAL, "lora_r is %d; expected 1 to %d", c->r, QS_LORA_R_MAX);
    if (!(c->alpha > 0 && c->alpha <= 1e9))
        QS_FAIL(e, QS_EINVAL, "lora_alpha is %g; expected more than 0", c->alpha);
    if (!(c->dropout >= 0 && c->dropout < 1))
        QS_FAIL(e, QS_EINVAL, "lora_dropout is %g; expected at least 0 and less than 1", (double)c->dropout);
    return 0;
}

/* ---- the layout --------------------------------------------------------------------------------------- */

static void lay_out(const qs_layer *layer, qs_lora_layer *out)
{
    int64_t at = 0;
    out->layer = layer;
    for (int g = 0; g < QS_GROUPS_MAX; g++) {
        const qs_layer_group *group = &layer->group[g];
        for (int i = group->first; i < group->first + group->count; i++) {
            qs_lora_slot *s = &out->slot[i];
            if (!s->active) continue;
            s->row_in_group = out->group_rows[g];
            out->group_rows[g] += s->r;
            s->a_at = at;
            at += (int64_t)s->r * s->in;
        }
        for (int i = group->first; i < group->first + group->count; i++) {
            qs_lora_slot *s = &out->slot[i];
            if (!s->active) continue;
            s->b_at = at;
            at += (int64_t)s->out * s->r;
        }
    }
    out->floats = (at + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

static bool same_shape(const qs_lora_layer *x, const qs_lora_layer *y)
{
    bool same = x->layer == y->layer;
    for (int i = 0; i < x->layer->tensors && same; i++)
        same = x->slot[i].active == y->slot[i].active &&
               (!x->slot[i].active || (x->slot[i].r == y->slot[i].r && x->slot[i].alpha == y->slot[i].alpha));
    return same;
}

/* The shape like `s`, which is added where there is none. */
static int32_t shape_index(qs_lora *l, const qs_lora_layer *s)
{
    for (int32_t i = 0; i < l->shapes; i++)
        if (same_shape(&l->shape[i], s)) return i;
    l->shape = qs_realloc(l->shape, (size_t)(l->shapes + 1) * sizeof *l->shape);
    l->shape[l->shapes] = *s;
    if (s->floats > l->pack_floats) l->pack_floats = s->floats;
    return l->shapes++;
}

static int choose_layer(qs_lora *l, qs_lora_match *m, int32_t layer, qs_err *e)
{
    const qs_layer *model = qs_architecture_layer(l->a, layer);
    qs_lora_layer s = {0};
    for (int i = 0; i < model->tensors; i++) {
        s.slot[i].out = model->tensor[i].out;
        s.slot[i].in = model->tensor[i].in;
        QS_TRY(qs_lora_match_slot(m, layer, i, &s.slot[i], e));
        l->layer_mask[layer] |= s.slot[i].active;
    }
    lay_out(model, &s);
    l->shape_of[layer] = shape_index(l, &s);
    return 0;
}

static int choose(qs_lora *l, qs_err *e)
{
    qs_lora_match *m;
    int rc = 0;
    bool any = false;
    QS_TRY(qs_lora_match_open(&l->config, l->a, &m, e));
    for (int32_t layer = 0; layer < l->layers && !rc; layer++) {
        rc = choose_layer(l, m, layer, e);
        any |= l->layer_mask[layer];
    }
    qs_lora_match_close(m);
    if (!rc && !any)
        QS_FAIL(
            e, QS_EINVAL,
            "exclude_modules and layers_to_transform leave nothing of target_modules; there is nothing to "
            "train");
    return rc;
}

int qs_lora_create(const qs_lora_config *config, const qs_architecture *a, qs_lora *out, qs_err *e)
{
    *out = (qs_lora){0};
    QS_TRY(check_numbers(config, e));
    *out = (qs_lora){.a = a,
                     .config = qs_lora_config_copy(config),
                     .layers = a->layers,
                     .shape_of = qs_calloc((size_t)a->layers, sizeof *out->shape_of),
                     .layer_mask = qs_calloc((size_t)a->layers, 1)};
    int rc = choose(out, e);
    if (rc) qs_lora_free(out);
    return rc;
}

void qs_lora_free(qs_lora *l)
{
    if (!l) return;
    qs_lora_config_free(&l->config);
    qs_free(l->shape);
    qs_free(l->shape_of);
    qs_free(l->layer_mask);
    *l = (qs_lora){0};
}

int64_t qs_lora_parameters(const qs_lora *l)
{
    int64_t n = 0;
    for (int32_t layer = 0; layer < l->layers; layer++) {
        const qs_lora_layer *k = qs_lora_of_layer(l, layer);
        for (int i = 0; i < k->layer->tensors && l->layer_mask[layer]; i++)
            if (k->slot[i].active) n += (int64_t)k->slot[i].r * ((int64_t)k->slot[i].in + k->slot[i].out);
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
        for (int64_t i = 0; i < (int64_t)s->r * s->in; i++)
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
