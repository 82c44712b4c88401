#include "src/data/audit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"

/* Growing text. */
typedef struct page {
    char *text;
    size_t bytes, capacity;
} page;

static void put(page *p, const char *text, size_t bytes)
{
    if (p->bytes + bytes + 1 > p->capacity) {
        p->capacity = 2 * (p->bytes + bytes) + 1024;
        p->text = qs_realloc(p->text, p->capacity);
    }
    memcpy(p->text + p->bytes, text, bytes);
    p->bytes += bytes;
    p->text[p->bytes] = 0;
}

static void say(page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(page *p, const char *format, ...)
{
    char line[1024];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    put(p, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}

#define SHOWN_INDENT "    | "
enum { SHOWN_RUN_BYTES = 1200, SHOWN_END_BYTES = 500, SHOWN_IDS = 32 };

/* Text of the sample: lines are indented, control characters (which could steer a terminal) become dots. */
static void put_shown(page *p, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n') say(p, "\n" SHOWN_INDENT);
        else if (c < 0x20 || c == 0x7f) say(p, c == '\t' ? "\t" : ".");
        else put(p, text + i, 1);
    }
}

/* A place at or before `at` that does not cut a character. */
static size_t whole(const char *text, size_t at)
{
    while (at && ((unsigned char)text[at] & 0xc0) == 0x80) at--;
    return at;
}

/* One stretch of equal labels; a long one loses its middle. */
static void put_run(page *p, const qs_tokenizer *t, const qs_labelled *s, size_t from, size_t to)
{
    if (!t) {
        for (size_t i = from; i < to; i++) {
            if (i == from + SHOWN_IDS && to - i > SHOWN_IDS) {
                say(p, " [... %zu tokens ...]", to - SHOWN_IDS - i);
                i = to - SHOWN_IDS;
            }
            say(p, "%s%d", i > from ? " " : "", s->ids.data[i]);
        }
        return;
    }
    size_t bytes;
    char *text = qs_tokenizer_decode(t, s->ids.data + from, to - from, from ? QS_DECODE_CONTINUE : 0, &bytes);
    if (bytes > SHOWN_RUN_BYTES) {
        size_t head = whole(text, SHOWN_END_BYTES), tail = whole(text, bytes - SHOWN_END_BYTES);
        put_shown(p, text, head);
        say(p, " [... %zu bytes ...] ", tail - head);
        put_shown(p, text + tail, bytes - tail);
    } else {
        put_shown(p, text, bytes);
    }
    qs_free(text);
}

static void show_sample(page *p, const qs_audit *a, const qs_tokenizer *t)
{
    const qs_labelled *s = &a->shown;
    say(p, "  the first sample, what is trained between \u00ab and \u00bb:\n" SHOWN_INDENT);
    for (size_t from = 0, to; from < s->ids.count; from = to) {
        for (to = from + 1; to < s->ids.count && s->trained[to] == s->trained[from];) to++;
        if (s->trained[from]) say(p, "\u00ab");
        put_run(p, t, s, from, to);
        say(p, s->trained[from] ? "\u00bb" : t ? "" : " ");
    }
    say(p, "\n");
}

static double share(int64_t part, int64_t of) { return of ? 100.0 * (double)part / (double)of : 0; }

char *qs_audit_text(const qs_audit *a, const qs_data_options *o, const char *how, const qs_tokenizer *t)
{
    page p = {0};
    say(&p, "data: %s", o->data[0]);
    if (o->data_count > 1) say(&p, " and %d more", o->data_count - 1);
    say(&p, " (%s)\n", how);
    say(&p, "  %lld rows, %lld samples, %lld tokens, %lld trained (%.1f %%)\n", (long long)a->rows, (long long)a->samples,
        (long long)a->tokens, (long long)a->targets, share(a->targets, a->tokens));
    say(&p, "  tokens of a sample: mean %.1f, longest %lld\n", a->samples ? (double)a->tokens / (double)a->samples : 0,
        (long long)a->longest);
    say(&p, "  longer than %lld: %lld rows", (long long)o->max_seq_length, (long long)a->overlong);
    if (a->truncated) say(&p, ", truncated (%.1f %% of all rows)", share(a->truncated, a->rows));
    if (a->dropped) say(&p, ", dropped (%.1f %% of all rows)", share(a->dropped, a->rows));
    if (a->pieces) say(&p, ", split into %lld samples", (long long)a->pieces);
    say(&p, "\n");
    if (a->empty) say(&p, "  left out: %lld rows without text\n", (long long)a->empty);
    if (a->untrained) say(&p, "  left out: %lld samples without a trained token\n", (long long)a->untrained);
    if (a->stop_known) say(&p, "  end of answer trained: %lld of %lld\n", (long long)a->ends_trained, (long long)a->ends);
    show_sample(&p, a, t);
    return p.text;
}

void qs_audit_free(qs_audit *a) { qs_labelled_free(&a->shown); }
