#include "src/data/token_rows.h"

#include "src/base/memory.h"
#include "src/data/columns.h"

void qs_token_row_free(qs_token_row *t)
{
    qs_free(t->ids);
    qs_free(t->labels);
    qs_free(t->documents);
    *t = (qs_token_row){0};
}

/* A column that must be a list of `count` entries (any, when count is 0); NULL when it is absent. A text
 * holds the list as JSON. */
static int list_of(json_t *row, const char *name, size_t count, json_t **out, qs_err *e)
{
    json_t *v = json_object_get(row, name);
    *out = NULL;
    if (!v) return 0;
    if (json_is_string(v)) { /* as in a table */
        json_t *parsed = json_loads(json_string_value(v), 0, NULL);
        if (!parsed)
            QS_FAIL(e, QS_EFORMAT, "\"%s\" must be a list of integers, found text that is none", name);
        json_object_set_new(row, name, parsed);
        v = parsed;
    }
    if (!json_is_array(v))
        QS_FAIL(e, QS_EFORMAT, "\"%s\" must be a list of integers, found %s", name, qs_json_type_name(v));
    if (count && json_array_size(v) != count)
        QS_FAIL(e, QS_EFORMAT, "\"%s\" must have as many entries as \"input_ids\" (%zu), found %zu", name,
                count, json_array_size(v));
    *out = v;
    return 0;
}

static int read_labels(qs_token_row *t, const json_t *labels, qs_err *e)
{
    for (size_t i = 0; i < t->count; i++) {
        const json_t *v = json_array_get(labels, i);
        json_int_t label = json_is_integer(v) ? json_integer_value(v) : -1;
        if (label != -100 && label != t->ids[i])
            QS_FAIL(e, QS_EFORMAT, "labels[%zu] must be -100 or equal to input_ids[%zu] (%d), found %lld", i,
                    i, t->ids[i], (long long)label);
        t->labels[i] = (int32_t)label;
    }
    t->masked = true;
    return 0;
}

/* Where a mask is 0 nothing is trained. */
static int apply_mask(qs_token_row *t, json_t *row, const char *name, qs_err *e)
{
    json_t *mask;
    QS_TRY(list_of(row, name, t->count, &mask, e));
    for (size_t i = 0; mask && i < t->count; i++) {
        int value = qs_mask_value(json_array_get(mask, i));
        if (value < 0) QS_FAIL(e, QS_EFORMAT, "%s[%zu] must be 0 or 1", name, i);
        if (!value) t->labels[i] = -100;
    }
    t->masked |= mask != NULL;
    return 0;
}

static int find_documents(qs_token_row *t, const json_t *positions, qs_err *e)
{
    json_int_t expected = 0;
    for (size_t i = 0; positions && i < t->count; i++) {
        const json_t *v = json_array_get(positions, i);
        json_int_t at = json_is_integer(v) ? json_integer_value(v) : -1;
        if (at == 0 && i)
            t->documents[t->document_count++] = (int32_t)i;
        else if (at != expected)
            QS_FAIL(e, QS_EFORMAT,
                    "position_ids[%zu] is %lld; expected %lld (they count up from 0), or 0 where a document "
                    "begins",
                    i, (long long)at, (long long)expected);
        expected = at + 1;
    }
    t->documents[t->document_count] = (int32_t)t->count;
    return 0;
}

/* Leaves out what the attention mask pads at both ends. Positions are looked at where the mask is 1 alone. */
static int strip_padding(qs_token_row *t, const json_t *mask, json_t **positions, qs_err *e)
{
    size_t from = 0, to = t->count;
    for (size_t i = 0; mask && i < t->count; i++)
        if (qs_mask_value(json_array_get(mask, i)) < 0)
            QS_FAIL(e, QS_EFORMAT, "attention_mask[%zu] must be 0 or 1", i);
    while (mask && from < to && !qs_mask_value(json_array_get(mask, from))) from++;
    while (mask && to > from && !qs_mask_value(json_array_get(mask, to - 1))) to--;
    for (size_t i = from; mask && i < to; i++)
        if (!qs_mask_value(json_array_get(mask, i)))
            QS_FAIL(e, QS_EFORMAT,
                    "attention_mask[%zu] is 0 between ones; only padding at the ends can be left out", i);
    for (size_t i = from; i < to; i++) {
        t->ids[i - from] = t->ids[i];
        t->labels[i - from] = t->labels[i];
    }
    t->count = to - from;
    if (!*positions) return 0;
    json_t *kept = json_array();
    for (size_t i = from; i < to; i++) json_array_append(kept, json_array_get(*positions, i));
    *positions = kept;
    return 0;
}

static int reserve(qs_token_row *t, size_t n, qs_err *e)
{
    if (n > INT32_MAX) QS_FAIL(e, QS_EFORMAT, "\"input_ids\" has %zu entries; expected fewer than 2^31", n);
    if (n <= t->capacity && t->ids) return 0;
    t->capacity = n;
    t->ids = qs_realloc(t->ids, (n + 1) * sizeof *t->ids);
    t->labels = qs_realloc(t->labels, (n + 1) * sizeof *t->labels);
    t->documents = qs_realloc(t->documents, (n + 2) * sizeof *t->documents);
    return 0;
}

int qs_token_row_read(qs_token_row *t, json_t *row, qs_err *e)
{
    json_t *ids, *labels, *attention, *positions, *v;
    size_t i;
    QS_TRY(list_of(row, "input_ids", 0, &ids, e));
    QS_TRY(reserve(t, json_array_size(ids), e));
    t->count = json_array_size(ids);
    t->masked = false;
    json_array_foreach(ids, i, v)
    {
        json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id > INT32_MAX)
            QS_FAIL(e, QS_EFORMAT, "input_ids[%zu] must be a token id, 0 or more", i);
        t->labels[i] = t->ids[i] = (int32_t)id;
    }
    QS_TRY(list_of(row, "labels", t->count, &labels, e));
    if (labels) QS_TRY(read_labels(t, labels, e));
    QS_TRY(apply_mask(t, row, "completion_mask", e));
    QS_TRY(apply_mask(t, row, "assistant_masks", e));
    QS_TRY(list_of(row, "attention_mask", t->count, &attention, e));
    QS_TRY(list_of(row, "position_ids", t->count, &positions, e));
    json_t *kept = positions;
    QS_TRY(strip_padding(t, attention, &kept, e));
    t->documents[0] = 0;
    t->document_count = 1;
    int rc = find_documents(t, kept, e);
    if (kept != positions) json_decref(kept);
    return rc;
}
