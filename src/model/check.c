/* check.c - does the checkpoint have what config.json says? Only headers are looked at, so it costs nothing
 * to ask first. */
#include <stdio.h>
#include <string.h>

#include "io/checkpoint_identity.h"
#include "io/tensor_name.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/model/stored_quant.h"

enum { SHAPE_BYTES = 96, NAME_BYTES = 128 };

/* "[4096, 11008]" */
static void shape_text(int dims, const int64_t *shape, char *text)
{
    int n = snprintf(text, SHAPE_BYTES, "[");
    for (int i = 0; i < dims && n < SHAPE_BYTES - 24; i++)
        n += snprintf(text + n, 24, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(text + n, (size_t)(SHAPE_BYTES - n), "]");
}

/* Other tools store a quantised weight under other names beside its place. */
static const char *quantised_sibling(const qs_source *s, const char *name)
{
    static const char *const tails[] = {"qweight", "weight_packed", "weight.absmax",    "weight.quant_map",
                                        "SCB",     "weight_scale",  "weight_scale_inv", "scales"};
    size_t stem = strlen(name) - strlen("weight");
    if (strcmp(name + stem, "weight") != 0) return NULL;
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        char sibling[NAME_BYTES + 16];
        snprintf(sibling, sizeof sibling, "%.*s%s", (int)stem, name, tails[i]);
        if (qs_source_find(s, sibling)) return tails[i];
    }
    return NULL;
}

/* `asked` completes the sentence that says why the tensor should be there. */
static int check_missing(const qs_source *s, const char *name, const char *expected, const char *asked,
                         qs_err *e)
{
    const char *found = quantised_sibling(s, name), *first = qs_source_path(s, 0);
    if (found)
        QS_FAIL(
            e, QS_EUNSUP,
            "%s: instead of tensor %s there is its %s: the model is already quantised; give the 16-bit model",
            first, name, found);
    if (qs_source_files(s) > 1)
        QS_FAIL(e, QS_EMISSING,
                "%s and the %d other shards have no tensor %s, %s, which config.json asks for%s", first,
                qs_source_files(s) - 1, name, expected, asked);
    QS_FAIL(e, QS_EMISSING, "%s: has no tensor %s, %s, which config.json asks for%s", first, name, expected,
            asked);
}

/* Types that only quantised weights have: 8-bit floats, and integers that hold several codes. */
static bool quantised_type(const qs_source_tensor *t)
{
    return strchr("FIU", t->type_name[0]) && strcmp(t->type_name, "F64") != 0;
}

/* A matrix [rows, cols], or a vector [rows] when cols is 0. */
static int check_tensor(const qs_source *s, const char *name, int64_t rows, int64_t cols, qs_err *e)
{
    const int64_t shape[2] = {rows, cols};
    int dims = cols ? 2 : 1;
    char expected[SHAPE_BYTES];
    shape_text(dims, shape, expected);
    const qs_source_tensor *t = qs_source_find(s, name);
    if (!t) return check_missing(s, name, expected, "", e);

    const char *path = qs_source_path(s, t->file), *sibling = quantised_sibling(s, name);
    if (t->readable && t->type == QS_U8)
        QS_FAIL(e, QS_EUNSUP,
                "%s: tensor %s is of type U8: the model is already quantised; give the 16-bit model", path,
                name);
    if (!t->readable || (t->type != QS_F32 && t->type != QS_BF16 && t->type != QS_F16))
        QS_FAIL(e, QS_EUNSUP, "%s: tensor %s is of type %s%s%s; expected F32, BF16 or F16%s", path, name,
                t->type_name, sibling ? " with its " : "", sibling ? sibling : "",
                quantised_type(t) ? ": the model is already quantised; give the 16-bit model it was made from"
                                  : "");
    if (t->dims != dims || t->shape[0] != rows || (cols && t->shape[1] != cols)) {
        char found[SHAPE_BYTES];
        shape_text(t->dims, t->shape, found);
        QS_FAIL(e, QS_EFORMAT, "%s: tensor %s is %s; config.json makes it %s", path, name, found, expected);
    }
    return 0;
}

/* Buffers that old checkpoints hold beside the weights. */
static bool is_buffer(const char *name)
{
    return strstr(name, "inv_freq") || strstr(name, "masked_bias") || strstr(name, ".attention.bias") ||
           strstr(name, ".attn.bias");
}

/* Weights that no part of this architecture reads are no error (transformers drops them too), but rarely what
 * was meant: more layers than config.json has, or norms, biases and others in a layer beside the tensors that
 * are read. */
static void warn_of_unused(const qs_architecture *a, const qs_source *s)
{
    const qs_layer *l = qs_architecture_layer(a, 0);
    char name[NAME_BYTES], first[NAME_BYTES], plain[QS_TENSOR_NAME_BYTES];
    qs_architecture_tensor_name(a, a->layers, &l->tensor[0], name);
    const qs_source_tensor *beyond = qs_source_find(s, name);
    if (beyond)
        qs_warn("%s: %s is not used: config.json has num_hidden_layers %d", qs_source_path(s, beyond->file),
                name, a->layers);
    int n = snprintf(first, sizeof first, "%s.0.", a->names.blocks);
    for (int i = 0; i < qs_source_count(s); i++) {
        const qs_source_tensor *t = qs_source_at(s, i);
        const char *known = qs_tensor_plain_name(t->name, plain) ? plain : t->name;
        if (strncmp(known, first, (size_t)n) || qs_layer_find(l, known + n) >= 0 || is_buffer(known) ||
            qs_stored_is_part(s, known))
            continue;
        qs_warn("%s: %s (and its like in other layers) is not used: config.json does not ask for it",
                qs_source_path(s, t->file), known);
    }
}

int qs_architecture_check(const qs_architecture *a, const qs_source *s, qs_err *e)
{
    char name[NAME_BYTES];
    /* With tied weights either name may be the one that was kept. */
    qs_architecture_embedding_name(a, s, name);
    if (!qs_source_find(s, name)) snprintf(name, sizeof name, "%s.weight", a->names.embedding);
    QS_TRY(check_tensor(s, name, a->vocab, a->hidden, e));
    for (int32_t layer = 0; layer < a->layers; layer++) {
        const qs_layer *l = qs_architecture_layer(a, layer);
        for (int i = 0; i < l->tensors; i++) {
            qs_stored_linear w;
            qs_architecture_tensor_name(a, layer, &l->tensor[i], name);
            if (l->tensor[i].role == QS_TENSOR_LINEAR && qs_stored_linear_find(s, name, &w))
                QS_TRY(qs_stored_linear_check(s, name, &w, l->tensor[i].out, l->tensor[i].in, e));
            else
                QS_TRY(check_tensor(s, name, l->tensor[i].out, l->tensor[i].in, e));
        }
    }
    for (int bias = 0; bias <= (a->norm == QS_NORM_LAYER); bias++) {
        qs_architecture_final_norm_name(a, bias, name);
        QS_TRY(check_tensor(s, name, a->hidden, 0, e));
    }
    if (!a->tied) {
        char expected[SHAPE_BYTES];
        qs_architecture_head_name(a, s, name);
        shape_text(2, (const int64_t[]){a->vocab, a->hidden}, expected);
        if (!qs_source_find(s, name))
            return check_missing(s, name, expected,
                                 " by \"tie_word_embeddings\": false; if the head is to share the "
                                 "embedding's weights set it to true there, else "
                                 "download the model again",
                                 e);
        QS_TRY(check_tensor(s, name, a->vocab, a->hidden, e));
    }
    warn_of_unused(a, s);
    return 0;
}

int qs_architecture_untie(qs_architecture *a, qs_source *s, qs_err *e)
{
    char embedding[NAME_BYTES], head[NAME_BYTES];
    qs_architecture own = *a; /* borrows */
    bool equal = false;
    if (!a->tied) return 0;
    own.tied = false;
    qs_architecture_embedding_name(&own, s, embedding);
    qs_architecture_head_name(&own, s, head);
    const qs_source_tensor *x = qs_source_find(s, embedding), *y = qs_source_find(s, head);
    if (!x || !y || x == y) return 0;
    if (x->type == y->type && x->bytes == y->bytes) QS_TRY(qs_identity_equal(s, NULL, x, y, &equal, e));
    if (equal) return 0;
    QS_TRY(check_tensor(s, head, a->vocab, a->hidden, e));
    qs_warn("%s: config.json ties %s to %s, but the checkpoint has both with different values: they are not "
            "tied, as transformers does; set \"tie_word_embeddings\": false there "
            "to silence this",
            qs_source_path(s, y->file), head, embedding);
    a->tied = false;
    return 0;
}
