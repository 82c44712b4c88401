#include "src/data/rendering.h"

#include <string.h>

#include "src/base/memory.h"

void qs_rendering_clear(qs_rendering *r)
{
    r->bytes = 0;
    r->count = 0;
    r->whole = false;
}

void qs_rendering_free(qs_rendering *r)
{
    qs_free(r->text);
    qs_free(r->segments);
    *r = (qs_rendering){0};
}

static void add_segment(qs_rendering *r, qs_segment s)
{
    if (r->count == r->segment_capacity) {
        r->segment_capacity = 2 * r->segment_capacity + 16;
        r->segments = qs_realloc(r->segments, r->segment_capacity * sizeof *r->segments);
    }
    r->segments[r->count++] = s;
}

void qs_rendering_text(qs_rendering *r, const char *text, size_t bytes, qs_text_join join, bool special,
                       bool trained)
{
    if (!bytes) return;
    if (r->bytes + bytes > r->text_capacity) {
        r->text_capacity = 2 * (r->bytes + bytes) + 256;
        r->text = qs_realloc(r->text, r->text_capacity);
    }
    memcpy(r->text + r->bytes, text, bytes);
    add_segment(r, (qs_segment){r->bytes, bytes, -1, join, special, trained});
    r->bytes += bytes;
}

void qs_rendering_id(qs_rendering *r, int32_t id, bool trained)
{
    add_segment(r, (qs_segment){.id = id, .trained = trained});
}

void qs_labelled_clear(qs_labelled *l) { l->ids.count = 0; }

void qs_labelled_free(qs_labelled *l)
{
    qs_ids_free(&l->ids);
    qs_free(l->trained);
    *l = (qs_labelled){0};
}

/* Labels for all ids from `first` on. */
static void label_from(qs_labelled *l, size_t first, bool trained)
{
    if (l->ids.count > l->trained_capacity) {
        l->trained_capacity = l->ids.capacity;
        l->trained = qs_realloc(l->trained, l->trained_capacity);
    }
    if (l->ids.count > first) memset(l->trained + first, trained, l->ids.count - first);
}

void qs_labelled_push(qs_labelled *l, int32_t id, bool trained)
{
    size_t first = l->ids.count;
    qs_ids_push(&l->ids, id);
    label_from(l, first, trained);
}

/* Segments from `at` on that are tokenised together: of one label, without a cut between them. */
static size_t group_of(const qs_rendering *r, size_t at, qs_text_piece *pieces)
{
    size_t n = 0;
    for (size_t i = at; i < r->count; i++) {
        const qs_segment *s = &r->segments[i];
        if (s->id >= 0 || (n && (s->join != QS_TEXT_JOIN || s->trained != r->segments[at].trained))) break;
        pieces[n++] = (qs_text_piece){r->text + s->offset, s->bytes, s->special};
    }
    return n;
}

static int encode_groups(const qs_rendering *r, qs_tokenizer *t, qs_text_piece *pieces, qs_labelled *out,
                         qs_err *e)
{
    for (size_t i = 0; i < r->count;) {
        const qs_segment *s = &r->segments[i];
        if (s->id >= 0) {
            qs_labelled_push(out, s->id, s->trained);
            i++;
            continue;
        }
        size_t n = group_of(r, i, pieces), first = out->ids.count;
        bool begins = !first || s->join == QS_TEXT_BEGIN;
        bool after_special = !begins && qs_tokenizer_is_added(t, out->ids.data[first - 1]);
        unsigned flags = begins ? 0 : after_special ? QS_ENCODE_SEGMENT : QS_ENCODE_CONTINUE;
        QS_TRY(qs_tokenizer_encode_pieces(t, pieces, n, flags, &out->ids, e));
        label_from(out, first, s->trained);
        i += n;
    }
    return 0;
}

/* ---- whole texts ------------------------------------------------------------------------------------- */

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Bytes of a text that begins with a token's own; 0 where it does not. SentencePiece's mark of a space,
 * written in the text, is a space in the token. */
static size_t matching(const char *own, size_t n, const char *text, size_t bytes)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (at < bytes && own[i] == text[at])
            at++;
        else if (own[i] == ' ' && bytes - at >= 3 && memcmp(text + at, "\xe2\x96\x81", 3) == 0)
            at += 3;
        else
            return 0;
    }
    return at;
}

/* The bytes of a text that a token stands for, from *at on: its own, or without the space that the tokenizer
 * invents; an added token may have swallowed blanks around it. False when it stands for something else (a
 * normalizer changed the text, an unknown character). */
static bool token_place(qs_tokenizer *t, int32_t id, const char *text, size_t bytes, size_t *at, size_t *from)
{
    size_t n, found;
    const char *own = qs_tokenizer_token_text(t, id, &n);
    for (*from = *at; *from <= bytes; ++*from) {
        found = matching(own, n, text + *from, bytes - *from);
        if (!found && *from == *at && n && *own == ' ') {
            if (n == 1) return true; /* the invented space alone */
            found = matching(own + 1, n - 1, text + *from, bytes - *from);
        }
        if (found) {
            *at = *from + found;
            return true;
        }
        if (*from == bytes || !is_blank(text[*from])) return false;
    }
    return false;
}

/* Labels ids by where they stand in the text. False when that cannot be told. */
static bool label_by_place(const qs_rendering *r, qs_tokenizer *t, qs_labelled *out, size_t first)
{
    size_t at = 0, from, segment = 0;
    label_from(out, first, false);
    for (size_t i = first; i < out->ids.count; i++) {
        if (!token_place(t, out->ids.data[i], r->text, r->bytes, &at, &from)) return false;
        while (segment < r->count && r->segments[segment].offset + r->segments[segment].bytes <= from)
            segment++;
        for (size_t s = segment; s < r->count && r->segments[s].offset < at; s++)
            out->trained[i] |= r->segments[s].trained;
    }
    while (at < r->bytes && is_blank(r->text[at])) at++;
    return at == r->bytes;
}

/* Blanks behind the control token that ends an answer are not the model's to write: there it has stopped. */
static void untrain_blanks(qs_tokenizer *t, qs_labelled *l, size_t first)
{
    for (size_t end = l->ids.count; end > first; end--) {
        if (!l->trained[end - 1] || (end < l->ids.count && l->trained[end])) continue;
        size_t at = end, n;
        for (; at > first && l->trained[at - 1]; at--) {
            const char *text = qs_tokenizer_token_text(t, l->ids.data[at - 1], &n);
            size_t blank = 0;
            while (blank < n && is_blank(text[blank])) blank++;
            if (blank < n || !n) break;
        }
        if (at == first || !l->trained[at - 1] || !qs_tokenizer_is_added(t, l->ids.data[at - 1])) continue;
        memset(l->trained + at, 0, end - at);
    }
}

static int encode_whole(const qs_rendering *r, qs_tokenizer *t, qs_text_piece *pieces, qs_labelled *out,
                        qs_err *e)
{
    size_t first = out->ids.count;
    bool all = true, none = true;
    for (size_t i = 0; i < r->count; i++) {
        const qs_segment *s = &r->segments[i];
        pieces[i] = (qs_text_piece){r->text + s->offset, s->bytes, s->special};
        all = all && s->trained;
        none = none && !s->trained;
    }
    QS_TRY(qs_tokenizer_encode_pieces(t, pieces, r->count, 0, &out->ids, e));
    if (all || none) {
        label_from(out, first, !none);
        return 0;
    }
    if (!label_by_place(r, t, out, first)) { /* tokens by label then: nearly always the same ones */
        out->ids.count = first;
        QS_TRY(encode_groups(r, t, pieces, out, e));
    }
    untrain_blanks(t, out, first);
    return 0;
}

int qs_rendering_encode(const qs_rendering *r, qs_tokenizer *t, qs_labelled *out, qs_err *e)
{
    qs_text_piece *pieces = qs_malloc((r->count + 1) * sizeof *pieces);
    int rc = r->whole ? encode_whole(r, t, pieces, out, e) : encode_groups(r, t, pieces, out, e);
    qs_free(pieces);
    return rc;
}
