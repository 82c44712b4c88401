#include "src/data/text_steps.h"

#include <string.h>
#include <utf8proc.h>

#include "src/base/memory.h"
#include "src/data/byte_level.h"

void qs_buffer_put(qs_buffer *b, const char *text, size_t bytes)
{
    if (b->bytes + bytes > b->capacity || !b->capacity) {
        b->capacity = 2 * (b->bytes + bytes) + 256;
        b->data = qs_realloc(b->data, b->capacity);
    }
    if (bytes) memcpy(b->data + b->bytes, text, bytes);
    b->bytes += bytes;
}

void qs_buffer_free(qs_buffer *b)
{
    qs_free(b->data);
    *b = (qs_buffer){0};
}

void qs_spans_put(qs_spans *s, size_t start, size_t end)
{
    if (s->count == s->capacity) {
        s->capacity = 2 * s->capacity + 64;
        s->data = qs_realloc(s->data, s->capacity * sizeof *s->data);
    }
    s->data[s->count++] = (qs_span){start, end};
}

void qs_steps_free(qs_steps *s)
{
    for (int i = 0; i < s->count; i++) {
        qs_regex_free(s->step[i].regex);
        qs_free(s->step[i].text);
    }
    qs_buffer_free(&s->spare);
    qs_free(s->spare_spans.data);
    *s = (qs_steps){0};
}

static bool puts_in_front(const qs_step *step)
{
    return step->kind == QS_STEP_PREPEND || step->kind == QS_STEP_PREFIX;
}

void qs_steps_drop_prefix(qs_steps *s)
{
    int kept = 0;
    for (int i = 0; i < s->count; i++) {
        if (puts_in_front(&s->step[i]))
            qs_free(s->step[i].text);
        else
            s->step[kept++] = s->step[i];
    }
    s->count = kept;
}

void qs_steps_prefix_once(qs_steps *s)
{
    for (int i = 0; i < s->count; i++) s->step[i].first_only |= puts_in_front(&s->step[i]);
}

void qs_steps_prefix_not_twice(qs_steps *s)
{
    for (int i = 0; i < s->count; i++) s->step[i].not_twice |= s->step[i].kind == QS_STEP_PREPEND;
}

/* ---- running ----------------------------------------------------------------------------------------- */

/* Expressions that match the empty string are refused when they are read; an empty match (by looking around)
 * is passed over. */
static int replace(const qs_step *step, const qs_buffer *in, qs_buffer *out, qs_err *e)
{
    size_t from = 0, search = 0, start, end;
    while (search < in->bytes) {
        int got = qs_regex_find(step->regex, in->data, in->bytes, search, &start, &end, e);
        if (got < 0) return got;
        if (!got) break;
        search = end;
        if (end > start) {
            qs_buffer_put(out, in->data + from, start - from);
            qs_buffer_put(out, step->text, strlen(step->text));
            from = end;
            continue;
        }
        search++;
        while (search < in->bytes && ((unsigned char)in->data[search] & 0xc0) == 0x80) search++;
    }
    qs_buffer_put(out, in->data + from, in->bytes - from);
    return 0;
}

static int normal_form(const qs_step *step, const qs_buffer *in, qs_buffer *out, qs_err *e)
{
    const utf8proc_uint8_t *text = (const utf8proc_uint8_t *)in->data;
    utf8proc_option_t options = (utf8proc_option_t)step->unicode;
    utf8proc_ssize_t bytes = (utf8proc_ssize_t)in->bytes,
                     n = utf8proc_decompose(text, bytes, NULL, 0, options);
    utf8proc_int32_t *codes = n < 0 ? NULL : qs_malloc(((size_t)n + 1) * sizeof *codes);
    if (n >= 0) n = utf8proc_decompose(text, bytes, codes, n, options);
    if (n >= 0) n = utf8proc_reencode(codes, n, options); /* in place, UTF-8 */
    if (n >= 0) qs_buffer_put(out, (const char *)codes, (size_t)n);
    qs_free(codes);
    if (n < 0) QS_FAIL(e, QS_EFORMAT, "Unicode normalisation failed: %s", utf8proc_errmsg(n));
    return 0;
}

/* Letter by letter, as the tokenizers library does: one letter becomes two, the others one. */
static void lower_case(const qs_buffer *in, qs_buffer *out)
{
    for (size_t at = 0; at < in->bytes;) {
        utf8proc_int32_t code;
        utf8proc_uint8_t text[4];
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)in->data + at,
                                              (utf8proc_ssize_t)(in->bytes - at), &code);
        at += (size_t)n;
        if (code == 0x130)
            qs_buffer_put(out, "i\xcc\x87", 3);
        else
            qs_buffer_put(out, (const char *)text,
                          (size_t)utf8proc_encode_char(utf8proc_tolower(code), text));
    }
}

static void drop_marks(const qs_buffer *in, qs_buffer *out)
{
    for (size_t at = 0; at < in->bytes;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)in->data + at,
                                              (utf8proc_ssize_t)(in->bytes - at), &code);
        utf8proc_category_t c = utf8proc_category(code);
        if (c < UTF8PROC_CATEGORY_MN || c > UTF8PROC_CATEGORY_ME)
            qs_buffer_put(out, in->data + at, (size_t)n);
        at += (size_t)n;
    }
}

static bool has_prefix(const qs_step *step, qs_place place)
{
    return place == QS_PLACE_INPUT || (place == QS_PLACE_SEGMENT && !step->first_only);
}

static bool begun(const qs_step *step, const qs_buffer *text)
{
    size_t n = strlen(step->text);
    return text->bytes && (text->data[0] == ' ' || (text->bytes >= n && !memcmp(text->data, step->text, n)));
}

int qs_normalize(qs_steps *s, const char *text, size_t bytes, qs_place place, qs_buffer *out, qs_err *e)
{
    qs_buffer now = {0}, next = {0};
    qs_buffer_put(&now, text, bytes);
    int rc = 0;
    for (int i = 0; i < s->count && !rc; i++) {
        const qs_step *step = &s->step[i];
        next.bytes = 0;
        qs_buffer_put(&next, "", 0);
        if (step->kind == QS_STEP_PREPEND) {
            if (now.bytes && has_prefix(step, place) && !(step->not_twice && begun(step, &now)))
                qs_buffer_put(&next, step->text, strlen(step->text));
            qs_buffer_put(&next, now.data, now.bytes);
        } else if (step->kind == QS_STEP_REPLACE) {
            rc = replace(step, &now, &next, e);
        } else if (step->kind == QS_STEP_LOWER) {
            lower_case(&now, &next);
        } else if (step->kind == QS_STEP_UNMARK) {
            drop_marks(&now, &next);
        } else {
            rc = normal_form(step, &now, &next, e);
        }
        qs_buffer swap = now;
        now = next;
        next = swap;
    }
    if (!rc) qs_buffer_put(out, now.data, now.bytes);
    qs_buffer_free(&now);
    qs_buffer_free(&next);
    return rc;
}

/* Adds a stretch that matches or not to the pieces of [first, ...), as `cut` says for its kind. */
static void add_piece(qs_cut cut, size_t start, size_t end, bool match, bool *last_match, size_t first,
                      qs_spans *out)
{
    if (start == end) return;
    bool any = out->count > first;
    qs_span *last = any ? &out->data[out->count - 1] : NULL;
    bool join = any && ((cut == QS_CUT_PREVIOUS && match && !*last_match) ||
                        (cut == QS_CUT_CONTIGUOUS && match == *last_match) ||
                        (cut == QS_CUT_NEXT && !match && *last_match));
    if (join)
        last->end = end;
    else if (cut != QS_CUT_REMOVED || !match)
        qs_spans_put(out, start, end);
    *last_match = match;
}

static int split(const qs_step *step, const char *text, qs_span piece, qs_spans *out, qs_err *e)
{
    size_t at = piece.start, search = at, first = out->count, start, end;
    bool last_match = false;
    const char *base = text + piece.start; /* the expression must not look around the piece */
    size_t bytes = piece.end - piece.start;
    while (search < piece.end) {
        int got = qs_regex_find(step->regex, base, bytes, search - piece.start, &start, &end, e);
        if (got < 0) return got;
        if (!got) break;
        start += piece.start;
        end += piece.start;
        if (end == start) {
            search = end + 1;
            while (search < piece.end && ((unsigned char)text[search] & 0xc0) == 0x80) search++;
            continue;
        }
        add_piece(step->cut, at, start, step->invert, &last_match, first, out);
        add_piece(step->cut, start, end, !step->invert, &last_match, first, out);
        at = search = end;
    }
    add_piece(step->cut, at, piece.end, step->invert, &last_match, first, out);
    return 0;
}

static void prefix(const qs_step *step, const qs_buffer *in, const qs_spans *pieces, qs_place place,
                   qs_buffer *out, qs_spans *out_pieces)
{
    size_t n = strlen(step->text);
    for (size_t i = 0; i < pieces->count; i++) {
        qs_span p = pieces->data[i];
        bool has = p.end - p.start >= n && memcmp(in->data + p.start, step->text, n) == 0;
        bool wanted = i ? !step->first_only : has_prefix(step, place);
        size_t start = out->bytes;
        if (wanted && !has) qs_buffer_put(out, step->text, n);
        qs_buffer_put(out, in->data + p.start, p.end - p.start);
        qs_spans_put(out_pieces, start, out->bytes);
    }
}

/* Every byte as its character in ByteLevel's alphabet. */
static void to_alphabet(const qs_buffer *in, const qs_spans *pieces, qs_buffer *out, qs_spans *out_pieces)
{
    for (size_t i = 0; i < pieces->count; i++) {
        size_t start = out->bytes;
        for (size_t at = pieces->data[i].start; at < pieces->data[i].end; at++) {
            utf8proc_uint8_t text[4];
            qs_buffer_put(
                out, (const char *)text,
                (size_t)utf8proc_encode_char(qs_byte_level_code((unsigned char)in->data[at]), text));
        }
        qs_spans_put(out_pieces, start, out->bytes);
    }
}

/* And back: words of bytes again. */
static void from_alphabet(qs_buffer *text, qs_spans *words)
{
    size_t to = 0;
    for (size_t i = 0; i < words->count; i++) {
        size_t bytes, start = to;
        qs_span w = words->data[i];
        qs_bytes_of_byte_level(text->data + w.start, w.end - w.start, text->data + to,
                               &bytes); /* a byte is never longer than its character */
        to += bytes;
        words->data[i] = (qs_span){start, to};
    }
    text->bytes = to;
}

int qs_pretokenize(qs_steps *s, qs_buffer *text, qs_place place, qs_spans *words, qs_err *e)
{
    words->count = 0;
    bool mapped = false;
    if (!text->bytes) return 0;
    qs_spans_put(words, 0, text->bytes);
    for (int i = 0; i < s->count; i++) {
        const qs_step *step = &s->step[i];
        s->spare_spans.count = 0;
        if (step->kind == QS_STEP_SPLIT) {
            for (size_t k = 0; k < words->count; k++)
                QS_TRY(split(step, text->data, words->data[k], &s->spare_spans, e));
        } else {
            s->spare.bytes = 0;
            if (step->kind == QS_STEP_PREFIX) {
                prefix(step, text, words, place, &s->spare, &s->spare_spans);
            } else if (step->kind == QS_STEP_BYTES) {
                to_alphabet(text, words, &s->spare, &s->spare_spans);
                mapped = true;
            } else { /* Metaspace's replacement: before any cut, so there is one piece */
                QS_TRY(replace(step, text, &s->spare, e));
                qs_spans_put(&s->spare_spans, 0, s->spare.bytes);
            }
            qs_buffer swap = *text;
            *text = s->spare;
            s->spare = swap;
        }
        qs_spans swap = *words;
        *words = s->spare_spans;
        s->spare_spans = swap;
    }
    if (mapped) from_alphabet(text, words);
    return 0;
}
