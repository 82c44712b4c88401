/* peft.c - the tensors of a PEFT adapter directory, adapter_model.safetensors.
 *
 * One A and one B per adapted linear, called base_model.model.<module path>.lora_{A,B}.weight. Loading goes
 * through every tensor of the file: one that is missing, misshapen, not finite or left over means that the
 * adapter is not what its config says, and half an adapter would train without a word.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "io/tensor_name.h"
#include "src/base/memory.h"
#include "src/model/lora.h"
#include "src/model/peft_config.h"

enum { KEY_BYTES = 160, TARGETS_BYTES = 160 };

/* side 0: A [r, in]; 1: B [out, r]. */
static void tensor_key(const qs_lora *l, char *out, int32_t layer, int linear, int side)
{
    char module[QS_TENSOR_NAME];
    qs_tensor_module(&qs_architecture_layer(l->a, layer)->tensor[linear], module);
    snprintf(out, KEY_BYTES, "base_model.model.%s.%d.%s.lora_%c.weight", l->a->names.blocks, layer, module,
             "AB"[side]);
}

static int32_t masked_layers(const qs_lora *l)
{
    int32_t n = 0;
    for (int32_t i = 0; i < l->layers; i++) n += l->layer_mask[i];
    return n;
}

/* The names of a layer's targets, without doubles of other shapes; false: the name is there already.
 */
static bool is_first_so_called(const qs_lora *l, int32_t shape, const char *last)
{
    for (int32_t k = 0; k < shape; k++) {
        int other = qs_layer_find(l->shape[k].layer, last);
        if (other >= 0 && l->shape[k].slot[other].active) return false;
    }
    return true;
}

/* "q_proj,v_proj in 32 of 32 layers" */
static void describe_targets(const qs_lora *l, char *text)
{
    int n = 0;
    for (int32_t k = 0; k < l->shapes; k++)
        for (int i = 0; i < l->shape[k].layer->tensors; i++) {
            char module[QS_TENSOR_NAME];
            if (!l->shape[k].slot[i].active || n >= TARGETS_BYTES) continue;
            const char *last = qs_module_last(qs_tensor_module(&l->shape[k].layer->tensor[i], module));
            if (is_first_so_called(l, k, last))
                n += snprintf(text + n, (size_t)(TARGETS_BYTES - n), "%s%s", n ? "," : "", last);
        }
    if (n < TARGETS_BYTES)
        snprintf(text + n, (size_t)(TARGETS_BYTES - n), " in %d of %d layers", masked_layers(l), l->layers);
}

static bool same_targets(const qs_lora *x, const qs_lora *y)
{
    for (int32_t layer = 0; layer < x->layers; layer++) {
        const qs_lora_layer *a = qs_lora_of_layer(x, layer), *b = qs_lora_of_layer(y, layer);
        for (int i = 0; i < a->layer->tensors; i++)
            if (a->slot[i].active != b->slot[i].active) return false;
    }
    return true;
}

/* The first linear whose rank or alpha differs, or NULL. */
static const char *other_scale(const qs_lora *x, const qs_lora *y, int32_t *layer, char name[QS_TENSOR_NAME])
{
    for (*layer = 0; *layer < x->layers; ++*layer) {
        const qs_lora_layer *a = qs_lora_of_layer(x, *layer), *b = qs_lora_of_layer(y, *layer);
        for (int i = 0; i < a->layer->tensors; i++)
            if (a->slot[i].active && (a->slot[i].r != b->slot[i].r || a->slot[i].alpha != b->slot[i].alpha))
                return qs_tensor_module(&a->layer->tensor[i], name);
    }
    return NULL;
}

/* The adapter in `dir`, described by c, must be of the shape of l. */
static int check_same(const char *dir, const qs_lora_config *c, const qs_lora *l, const qs_architecture *a,
                      qs_err *e)
{
    const qs_lora_config *run = &l->config;
    if (c->r != run->r)
        QS_FAIL(e, QS_EINVAL, "%s: the adapter has r %d, the run lora_r %d; set --lora_r %d", dir, c->r,
                run->r, c->r);
    if (c->alpha != run->alpha)
        QS_FAIL(e, QS_EINVAL, "%s: the adapter has lora_alpha %g, the run %g; set --lora_alpha %g", dir,
                c->alpha, run->alpha, c->alpha);
    if (c->rslora != run->rslora)
        QS_FAIL(e, QS_EINVAL, "%s: the adapter was made %s rank-stabilised scaling; set --%suse_rslora", dir,
                c->rslora ? "with" : "without", c->rslora ? "" : "no-");
    qs_lora saved;
    if (qs_lora_create(c, a, &saved, e)) return qs_err_prefix(e, "%s/adapter_config.json", dir);
    char theirs[TARGETS_BYTES], ours[TARGETS_BYTES];
    describe_targets(&saved, theirs);
    describe_targets(l, ours);
    bool same = same_targets(&saved, l);
    int32_t layer;
    char name[QS_TENSOR_NAME];
    const char *scaled = same ? other_scale(&saved, l, &layer, name) : NULL;
    qs_lora_free(&saved);
    if (scaled)
        QS_FAIL(
            e, QS_EINVAL,
            "%s: the adapter's rank or alpha of %s in layer %d is not the run's; leave --rank_pattern and "
            "--alpha_pattern to the adapter",
            dir, scaled, layer);
    if (!same)
        QS_FAIL(e, QS_EINVAL,
                "%s: the adapter is on %s, the run trains %s; set --target_modules to the adapter's", dir,
                theirs, ours);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const qs_source_tensor *const *)a)->name, (*(const qs_source_tensor *const *)b)->name);
}

/* Reads one matrix of the file into out[rows * cols] and takes it off the list. */
static int load_matrix(const char *path, const qs_source_tensor **sorted, int count, const char *key,
                       int64_t rows, int64_t cols, bool *taken, float *out, qs_err *e)
{
    const qs_source_tensor wanted = {.name = key}, *w = &wanted;
    const qs_source_tensor **at = bsearch(&w, sorted, (size_t)count, sizeof *sorted, by_name);
    if (!at) QS_FAIL(e, QS_EFORMAT, "%s: tensor %s is missing", path, key);
    const qs_source_tensor *t = *at;
    if (t->dims != 2 || t->shape[0] != rows || t->shape[1] != cols) {
        char found[96] = "";
        for (int i = 0, n = 0; i < t->dims && n < 64; i++)
            n += snprintf(found + n, 24, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
        QS_FAIL(e, QS_EFORMAT,
                "%s: tensor %s is [%s]; expected [%lld, %lld]: the adapter is of another model or rank", path,
                key, found, (long long)rows, (long long)cols);
    }
    if (!t->readable || (t->type != QS_F32 && t->type != QS_BF16 && t->type != QS_F16))
        QS_FAIL(e, QS_EFORMAT, "%s: tensor %s is of type %s; expected F32, BF16 or F16", path, key,
                t->type_name);
    QS_TRY(qs_safetensors_read_f32(path, t, out, rows * cols, e));
    for (int64_t i = 0; i < rows * cols; i++)
        if (!isfinite(out[i]))
            QS_FAIL(e, QS_EFORMAT, "%s: tensor %s has the value %g at element %lld", path, key,
                    (double)out[i], (long long)i);
    taken[at - sorted] = true;
    return 0;
}

/* The tensors of one layer. */
static int load_pack(const char *path, const qs_source_tensor **sorted, int count, const qs_lora *l,
                     int32_t layer, bool *taken, float *pack, qs_err *e)
{
    memset(pack, 0, (size_t)l->pack_floats * sizeof *pack);
    const qs_lora_layer *adapters = qs_lora_of_layer(l, layer);
    for (int k = 0; k < adapters->layer->tensors && l->layer_mask[layer]; k++) {
        const qs_lora_slot *t = &adapters->slot[k];
        char key[KEY_BYTES];
        if (!t->active) continue;
        tensor_key(l, key, layer, k, 0);
        QS_TRY(load_matrix(path, sorted, count, key, t->r, t->in, taken, pack + t->a_at, e));
        tensor_key(l, key, layer, k, 1);
        QS_TRY(load_matrix(path, sorted, count, key, t->out, t->r, taken, pack + t->b_at, e));
    }
    return 0;
}

/* A tensor's name as PEFT saves it, of those that other programs write: with the adapter's own name in it
 * ("lora_A.default.weight"), without PEFT's prefix, or with those that wrappers and multimodal models put
 * before a module. Freed with qs_free. */
static char *plain_key(const char *name)
{
    static const char prefix[] = "base_model.model.";
    char plain[QS_TENSOR_NAME_BYTES];
    const char *module = strncmp(name, prefix, sizeof prefix - 1) ? name : name + sizeof prefix - 1;
    if (qs_tensor_plain_name(module, plain)) module = plain;
    const char *side = strstr(module, ".lora_"), *rest = side ? strchr(side + 1, '.') : NULL,
               *tail = rest ? strchr(rest + 1, '.') : NULL;
    if (!tail || strcmp(tail, ".weight")) return qs_printf("%s%s", prefix, module);
    return qs_printf("%s%.*s.weight", prefix, (int)(rest - module), module);
}

static int load_tensors(const char *path, const qs_safetensors *s, const qs_lora *l, qs_pager *masters,
                        qs_err *e)
{
    const qs_source_tensor **sorted = qs_malloc(((size_t)s->count + 1) * sizeof *sorted);
    bool *taken = qs_calloc((size_t)s->count + 1, 1);
    for (int i = 0; i < s->count; i++) sorted[i] = &s->tensors[i];
    qsort(sorted, (size_t)s->count, sizeof *sorted, by_name);

    int rc = 0;
    for (int i = 1; i < s->count && !rc; i++)
        if (!by_name(&sorted[i - 1], &sorted[i]))
            rc = qs_err_set(
                e, QS_EUNSUP, __FILE__, __LINE__,
                "%s: has tensor %s twice: it holds several adapters; save the one that is meant alone", path,
                sorted[i]->name);
    qs_pager_begin(masters, NULL);
    for (int32_t layer = 0; layer < l->layers && !rc; layer++) {
        qs_pager_at(masters, layer);
        rc = load_pack(path, sorted, s->count, l, layer, taken, qs_pager_acquire(masters, layer, QS_PAGE_NEW),
                       e);
        qs_pager_release(masters, layer, true, QS_QUEUE_COUNT);
        if (!rc) rc = qs_pager_check(masters, e);
    }
    for (int i = 0; i < s->count && !rc; i++)
        if (!taken[i])
            rc = qs_err_set(e, QS_EUNSUP, __FILE__, __LINE__,
                            "%s: tensor %.200s belongs to no adapter that adapter_config.json names", path,
                            sorted[i]->name);
    qs_free(taken);
    qs_free(sorted);
    return rc;
}

int qs_peft_load(const char *dir, const qs_lora *l, const qs_architecture *a, qs_pager *masters, qs_err *e)
{
    qs_peft_config c;
    QS_TRY(qs_peft_read_config(dir, &c, e));
    int rc = check_same(dir, &c.lora, l, a, e);
    qs_peft_config_free(&c);
    if (rc) return rc;

    char *path = qs_path_join(dir, "adapter_model.safetensors"),
         *old = qs_path_join(dir, "adapter_model.bin");
    qs_safetensors s = {0};
    if (!qs_file_exists(path) && qs_file_exists(old))
        rc = qs_err_set(e, QS_EUNSUP, __FILE__, __LINE__,
                        "%s: adapters in pickle files are not read; save it as adapter_model.safetensors",
                        old);
    else
        rc = qs_safetensors_open(path, &s, e);
    char **names = qs_calloc((size_t)s.count + 1, sizeof *names);
    for (int i = 0; i < s.count && !rc; i++) s.tensors[i].name = names[i] = plain_key(s.tensors[i].name);
    if (!rc) rc = load_tensors(path, &s, l, masters, e);
    for (int i = 0; i < s.count; i++) qs_free(names[i]);
    qs_free(names);
    qs_safetensors_free(&s);
    qs_free(old);
    qs_free(path);
    return rc;
}

/* Gives the writer one tensor after another: those of a layer come together, so one pack is held at a time.
 */
typedef struct pack_source {
    const qs_lora *l;
    qs_pager *masters;
    struct tensor_place {
        int32_t layer;
        int64_t at;
    } * place;     /* of each entry */
    int32_t held;  /* layer, or -1 */
    int64_t packs; /* held so far */
    const float *pack;
} pack_source;

static void let_go(pack_source *s)
{
    if (s->held >= 0) qs_pager_release(s->masters, s->held, false, QS_QUEUE_COUNT);
    s->held = -1;
}

static const void *data_of(void *context, int index, qs_err *e)
{
    pack_source *s = context;
    if (s->held != s->place[index].layer) {
        let_go(s);
        qs_pager_at(s->masters, s->packs++);
        s->held = s->place[index].layer;
        s->pack = qs_pager_acquire(s->masters, s->held, QS_PAGE_READ);
        if (qs_pager_check(s->masters, e)) return NULL;
    }
    return s->pack + s->place[index].at;
}

/* Layers in the order in which the file has them, that of their names: 0, 1, 10, 11, 2. */
static int by_layer_name(const void *a, const void *b)
{
    char x[16], y[16];
    snprintf(x, sizeof x, "%d.", *(const int32_t *)a);
    snprintf(y, sizeof y, "%d.", *(const int32_t *)b);
    return strcmp(x, y);
}

static void list_packs(const qs_lora *l, qs_page_list *out)
{
    int32_t *layers = qs_calloc((size_t)l->layers, sizeof *layers), n = 0;
    for (int32_t i = 0; i < l->layers; i++)
        if (l->layer_mask[i]) layers[n++] = i;
    qsort(layers, (size_t)n, sizeof *layers, by_layer_name);
    for (int32_t i = 0; i < n; i++) qs_page_list_add(out, i, layers[i], QS_PAGE_READ);
    qs_page_list_finish(out, l->layers, n);
    qs_free(layers);
}

static int write_tensors(const char *path, const qs_lora *l, qs_pager *masters, qs_err *e)
{
    static const char *const metadata[] = {"format", "pt"};
    size_t capacity = (size_t)masked_layers(l) * QS_TENSORS_MAX * 2;
    qs_safetensors_entry *entries = qs_calloc(capacity, sizeof *entries);
    char(*keys)[KEY_BYTES] = qs_malloc(capacity * sizeof *keys);
    pack_source source = {
        .l = l, .masters = masters, .place = qs_calloc(capacity, sizeof *source.place), .held = -1};
    int n = 0;
    for (int32_t layer = 0; layer < l->layers; layer++) {
        const qs_lora_layer *adapters = qs_lora_of_layer(l, layer);
        for (int k = 0; k < adapters->layer->tensors && l->layer_mask[layer]; k++) {
            const qs_lora_slot *t = &adapters->slot[k];
            for (int side = 0; side < 2 && t->active; side++, n++) {
                tensor_key(l, keys[n], layer, k, side);
                entries[n] = (qs_safetensors_entry){.name = keys[n],
                                                    .type = QS_F32,
                                                    .dims = 2,
                                                    .shape = {side ? t->out : t->r, side ? t->r : t->in}};
                source.place[n] = (struct tensor_place){layer, side ? t->b_at : t->a_at};
            }
        }
    }
    qs_page_list list = {0};
    list_packs(l, &list);
    qs_pager_begin(masters, &list);
    int rc =
        qs_safetensors_write_from(path, entries, n, &(qs_safetensors_data){&source, data_of}, metadata, 1, e);
    let_go(&source);
    qs_pager_begin(masters, NULL);
    qs_page_list_free(&list);
    qs_free(source.place);
    qs_free(keys);
    qs_free(entries);
    return rc;
}

int qs_peft_save(const char *dir, const qs_lora *l, const char *base_model, qs_pager *masters, qs_err *e)
{
    QS_TRY(qs_dir_create(dir, e));
    char *path = qs_path_join(dir, "adapter_model.safetensors");
    int rc = write_tensors(path, l, masters, e);
    qs_free(path);
    return rc ? rc : qs_peft_write_config(dir, l, base_model, e);
}
