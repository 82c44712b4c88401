#include "src/data/sample_text.h"

#include <string.h>

#include "src/base/memory.h"

enum { SHOWN_END_BYTES = 500, SHOWN_IDS = 32, MARK_BYTES = 64 };

const qs_sample_style qs_sample_plain = {
    .margin = "    | ", .begin = "\u00ab", .end = "\u00bb", .special = "", .plain = "", .run_bytes = 1200};

size_t qs_mark_end(const char *text, size_t at, size_t bytes)
{
    char close = text[at] == '<' ? '>' : text[at] == '[' ? ']' : 0;
    if (!close) return at;
    for (size_t i = at + 1; i < bytes && i < at + MARK_BYTES; i++) {
        if (text[i] == close) return i > at + 1 ? i + 1 : at;
        if (text[i] == text[at] || text[i] == '\n') return at;
    }
    return at;
}

bool qs_is_added_mark(const qs_tokenizer *t, const char *text, size_t from, size_t to)
{
    char mark[MARK_BYTES + 1];
    if (to <= from || to - from > MARK_BYTES) return false;
    memcpy(mark, text + from, to - from);
    mark[to - from] = 0;
    int32_t id = qs_tokenizer_find(t, mark);
    return id >= 0 && qs_tokenizer_is_added(t, id);
}

/* Text of the sample: lines get a margin, control characters (which could steer a terminal) become dots. */
static void put_shown(qs_page *p, const qs_sample_style *style, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n')
            qs_page_say(p, "\n%s", style->margin);
        else if (c < 0x20 || c == 0x7f)
            qs_page_put(p, c == '\t' ? "\t" : ".", 1);
        else
            qs_page_put(p, text + i, 1);
    }
}

/* A place at or before `at` that does not cut a character. */
static size_t whole(const char *text, size_t at)
{
    while (at && ((unsigned char)text[at] & 0xc0) == 0x80) at--;
    return at;
}

static void put_ids(qs_page *p, const int32_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i == SHOWN_IDS && count - i > SHOWN_IDS) {
            qs_page_say(p, " [... %zu tokens ...]", count - SHOWN_IDS - i);
            i = count - SHOWN_IDS;
        }
        qs_page_say(p, "%s%d", i ? " " : "", ids[i]);
    }
}

/* Places of a run's special tokens in its text. */
typedef struct places {
    size_t *from, *to;
    size_t count;
} places;

/* Decoders work from left to right, so what the tokens before one give is where its text begins. */
static places find_specials(const qs_tokenizer *t, const int32_t *ids, size_t count, unsigned flags)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++) n += qs_tokenizer_is_added(t, ids[i]);
    places s = {qs_malloc((n + 1) * sizeof(size_t)), qs_malloc((n + 1) * sizeof(size_t)), 0};
    for (size_t i = 0; i < count; i++) {
        if (!qs_tokenizer_is_added(t, ids[i])) continue;
        qs_free(qs_tokenizer_decode(t, ids, i, flags, &s.from[s.count]));
        qs_free(qs_tokenizer_decode(t, ids, i + 1, flags, &s.to[s.count]));
        s.count++;
    }
    return s;
}

/* A stretch of text in which marks that are no tokens get a backslash, and those that are their colour. */
static bool put_marked(qs_page *p, const qs_sample_style *style, const qs_tokenizer *t, const places *s,
                       const char *text, size_t from, size_t to)
{
    bool typed = false;
    size_t next = 0;
    while (next < s->count && s->from[next] < from) next++;
    for (size_t at = from, done = from;; at++) {
        bool real = next < s->count && at == s->from[next];
        size_t end = real ? s->to[next] : at < to ? qs_mark_end(text, at, to) : at;
        bool mark = real || (end > at && qs_is_added_mark(t, text, at, end));
        if (!mark && at < to) continue;
        put_shown(p, style, text + done, at - done);
        if (at >= to) return typed;
        if (end > to) end = to;
        if (!real)
            qs_page_put(p, "\\", 1);
        else
            qs_page_say(p, "%s", style->special);
        put_shown(p, style, text + at, end - at);
        if (real) qs_page_say(p, "%s", style->plain);
        typed |= !real;
        next += real;
        done = end;
        if (end > at)
            at = end - 1;
        else if (real)
            at--;
    }
}

static bool put_run(qs_page *p, const qs_sample_style *style, const qs_tokenizer *t, const int32_t *ids,
                    size_t count, bool first)
{
    size_t bytes;
    unsigned flags = first ? 0 : QS_DECODE_CONTINUE;
    char *text = qs_tokenizer_decode(t, ids, count, flags, &bytes);
    places s = find_specials(t, ids, count, flags);
    bool typed;
    if (style->run_bytes && bytes > style->run_bytes) {
        size_t head = whole(text, SHOWN_END_BYTES), tail = whole(text, bytes - SHOWN_END_BYTES);
        typed = put_marked(p, style, t, &s, text, 0, head);
        qs_page_say(p, " [... %zu bytes ...] ", tail - head);
        typed |= put_marked(p, style, t, &s, text, tail, bytes);
    } else {
        typed = put_marked(p, style, t, &s, text, 0, bytes);
    }
    qs_free(s.from);
    qs_free(s.to);
    qs_free(text);
    return typed;
}

bool qs_sample_text(qs_page *p, const qs_sample_style *style, const qs_tokenizer *t, const int32_t *ids,
                    const uint8_t *trained, size_t count)
{
    bool typed = false;
    qs_page_say(p, "%s", style->margin);
    for (size_t from = 0, to; from < count; from = to) {
        for (to = from + 1; to < count && trained[to] == trained[from];) to++;
        if (trained[from]) qs_page_say(p, "%s", style->begin);
        if (t)
            typed |= put_run(p, style, t, ids + from, to - from, !from);
        else
            put_ids(p, ids + from, to - from);
        qs_page_say(p, "%s", trained[from] ? style->end : t ? "" : " ");
    }
    return typed;
}
