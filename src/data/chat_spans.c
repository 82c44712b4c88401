#include "src/data/chat_spans.h"

#include <string.h>

#include "src/base/memory.h"

/* Where the words of a message begin and end in the whole; from == SIZE_MAX: it has none. */
typedef struct place {
    size_t from, to;
} place;

/* Text that was found between messages: behind one with this role, up to an answer; or behind an answer. */
typedef struct known {
    const char *role; /* NULL: behind answers */
    const char *text; /* of the whole */
    size_t bytes, times;
} known;

enum { KNOWN_MAX = 8, TRUSTED = 4 };

typedef struct finder {
    const qs_chat_spans *s;
    const qs_jinja_text *whole;
    place *places; /* [count] */
    qs_jinja_text prompt, upto;
    known known[KNOWN_MAX];
    int known_count;
    qs_err *e;
} finder;

static bool begins(const qs_jinja_text *whole, const qs_jinja_text *part)
{
    return part->bytes <= whole->bytes && memcmp(whole->text, part->text, part->bytes) == 0;
}

static bool stands_at(const qs_jinja_text *whole, size_t at, const char *text, size_t bytes)
{
    return at + bytes <= whole->bytes && memcmp(whole->text + at, text, bytes) == 0;
}

static void find_places(finder *f)
{
    size_t at = 0;
    for (size_t i = 0; i < f->s->count; i++) f->places[i] = (place){SIZE_MAX, 0};
    for (size_t i = 0; i < f->whole->span_count; i++) {
        int32_t m = f->whole->spans[i].mark;
        size_t end = f->whole->spans[i].end;
        if (m > 0 && (size_t)m <= f->s->count) {
            place *p = &f->places[m - 1];
            if (p->from == SIZE_MAX) p->from = at;
            p->to = end;
        }
        at = end;
    }
}

/* The end of the last words in a rendering that are not the template's own (mark 0: of anybody), and whose
 * they are. */
static size_t last_words(const qs_jinja_text *t, int32_t mark, int32_t *whose)
{
    for (size_t i = t->span_count; i-- > 0;) {
        *whose = t->spans[i].mark;
        if (mark ? *whose == mark : *whose != 0 && *whose != QS_JMARK_NAME) return t->spans[i].end;
    }
    *whose = 0;
    return 0;
}

/* ---- what is known already --------------------------------------------------------------------------- */

static known *find_known(finder *f, const char *role)
{
    for (int i = 0; i < f->known_count; i++)
        if (role ? f->known[i].role && strcmp(f->known[i].role, role) == 0 : !f->known[i].role)
            return &f->known[i];
    return NULL;
}

static void learn(finder *f, const char *role, size_t from, size_t to)
{
    known *k = find_known(f, role);
    const char *text = f->whole->text + from;
    if (!k && f->known_count < KNOWN_MAX) {
        k = &f->known[f->known_count++];
        *k = (known){.role = role};
    }
    if (!k) return;
    bool same = k->times && k->bytes == to - from && memcmp(k->text, text, k->bytes) == 0;
    k->times = same ? k->times + 1 : 1;
    k->text = text;
    k->bytes = to - from;
}

/* The texts around an answer, where both are those that were seen around others. */
static bool by_known(finder *f, size_t i, qs_chat_span *out)
{
    const place *before = i ? &f->places[i - 1] : NULL, *own = &f->places[i];
    if (!before || before->from == SIZE_MAX || own->from == SIZE_MAX) return false;
    const known *start = find_known(f, f->s->roles[i - 1]), *end = find_known(f, NULL);
    if (!start || !end || start->times < TRUSTED || end->times < TRUSTED) return false;
    if (!stands_at(f->whole, before->to, start->text, start->bytes) ||
        !stands_at(f->whole, own->to, end->text, end->bytes))
        return false;
    *out = (qs_chat_span){before->to + start->bytes, own->to + end->bytes};
    return out->from <= own->from;
}

/* ---- by rendering ------------------------------------------------------------------------------------ */

static int cannot_tell(finder *f, size_t i, const char *why)
{
    QS_FAIL(f->e, QS_EFORMAT,
            "the chat template does not tell which part of the text is the answer of message %zu (%s); give "
            "a template with "
            "{%% generation %%} blocks, or a built-in layout, with --chat_template",
            i + 1, why);
}

/* The generation prompt itself stands once between the words before the answer and its own. */
static bool by_generation_prompt(finder *f, size_t i, size_t at, size_t *from)
{
    const place *own = &f->places[i];
    if (!begins(&f->prompt, &f->upto) || own->from == SIZE_MAX || own->from < at) return false;
    const char *text = f->prompt.text + f->upto.bytes, *gap = f->whole->text + at;
    size_t n = f->prompt.bytes - f->upto.bytes, bytes = own->from - at;
    const char *found = n ? memmem(gap, bytes, text, n) : NULL;
    if (!found || memmem(found + 1, bytes - (size_t)(found + 1 - gap), text, n)) return false;
    *from = at + (size_t)(found - gap) + n;
    return true;
}

/* The prompt parts from the conversation somewhere behind the last words before the answer: there the model
 * takes over. It must come at least as far as the same prompt without its generation prompt. */
static int start_behind_words(finder *f, size_t i, size_t *from)
{
    const qs_jinja_text *p = &f->prompt;
    int32_t whose;
    size_t words = last_words(p, 0, &whose);
    if (whose < 1 || (size_t)whose > i)
        return cannot_tell(f, i, "the message before it has no words in its prompt");
    size_t at = f->places[whose - 1].to, n = 0, most = p->bytes - words;
    if (f->places[whose - 1].from == SIZE_MAX)
        return cannot_tell(f, i, "the message before it is not in the text");
    while (n < most && at + n < f->whole->bytes && f->whole->text[at + n] == p->text[words + n]) n++;
    *from = at + n;
    if (n == most) return 0;
    QS_TRY(f->s->render(f->s->user, i, false, &f->upto, f->e));
    words = last_words(&f->upto, whose, &whose);
    return f->upto.bytes - words <= n || by_generation_prompt(f, i, at, from)
               ? 0
               : cannot_tell(f, i, "what follows the message before it is written otherwise in its prompt");
}

static int find_start(finder *f, size_t i, size_t *from)
{
    qs_err why = {0};
    bool written = f->s->render(f->s->user, i, true, &f->prompt, &why) == 0;
    *from = written ? f->prompt.bytes : 0;
    if (written && begins(f->whole, &f->prompt)) return 0;
    if (i && written) return start_behind_words(f, i, from);
    if (i || f->places[0].from == SIZE_MAX)
        return cannot_tell(f, i, written ? "it has no words, and no prompt begins the text" : why.text);
    *from = f->places[0]
                .from; /* nothing comes before it: what the model says begins with the answer's own words */
    return 0;
}

/* Without a generation prompt the head of the answer's turn stands behind its prompt: the answer begins with
 * its own words then, or with the blanks before them. */
static size_t behind_head(const finder *f, size_t i, size_t from)
{
    const place *own = &f->places[i];
    if (f->s->prompts || own->from == SIZE_MAX) return from;
    for (size_t at = from; at < own->from; at++)
        if (!strchr(" \t\r\n", f->whole->text[at]) || !f->whole->text[at]) return own->from;
    return from;
}

static int find_end(finder *f, size_t i, size_t from, size_t *to)
{
    *to = f->whole->bytes;
    if (i + 1 == f->s->count) return 0;
    int32_t whose;
    qs_err why = {0};
    bool rendered = f->s->render(f->s->user, i + 1, false, &f->upto, &why) == 0;
    *to = f->upto.bytes;
    if (rendered && begins(f->whole, &f->upto) && *to >= from) return 0;
    const place *own = &f->places[i];
    if (own->from == SIZE_MAX)
        return cannot_tell(f, i, "it has no words, and the conversation up to it does not begin the whole");
    size_t words = rendered ? last_words(&f->upto, 0, &whose) : 0, n = rendered ? f->upto.bytes - words : 0;
    if (rendered && whose != (int32_t)i + 1)
        return cannot_tell(f, i, "words of others follow it where it is the last message");
    *to = own->to + n;
    if (rendered && words && stands_at(f->whole, own->to, f->upto.text + words, n)) return 0;
    n = f->s->control_token(f->s->user, f->whole->text + own->to, f->whole->bytes - own->to);
    *to = own->to + n;
    return n ? 0 : cannot_tell(f, i, "its end is written otherwise where it is the last message");
}

/* Only the answer's own words, and the template's, may be learnt with it. */
static int check(finder *f, size_t i, const qs_chat_span *s)
{
    size_t at = 0;
    const place *own = &f->places[i];
    if (s->from > s->to) return cannot_tell(f, i, "it would end before it begins");
    if (own->from != SIZE_MAX && (own->from < s->from || own->to > s->to))
        return cannot_tell(f, i, "its words stand elsewhere, too");
    for (size_t k = 0; k < f->whole->span_count; at = f->whole->spans[k++].end) {
        const qs_jspan *span = &f->whole->spans[k];
        if (span->end <= s->from || at >= s->to || span->mark == 0 || span->mark == QS_JMARK_NAME ||
            span->mark == (int32_t)i + 1)
            continue;
        return cannot_tell(f, i, "words of others stand in it");
    }
    return 0;
}

static int find_answer(finder *f, size_t i, qs_chat_span *out)
{
    bool last = i + 1 == f->s->count;
    if (last || !by_known(f, i, out)) {
        QS_TRY(find_start(f, i, &out->from));
        out->from = behind_head(f, i, out->from);
        QS_TRY(find_end(f, i, out->from, &out->to));
        const place *before = i ? &f->places[i - 1] : NULL, *own = &f->places[i];
        if (!last && before && before->from != SIZE_MAX && before->to <= out->from && own->from != SIZE_MAX &&
            own->to <= out->to) {
            learn(f, f->s->roles[i - 1], before->to, out->from);
            learn(f, NULL, own->to, out->to);
        }
    }
    return check(f, i, out);
}

int qs_chat_spans_find(const qs_chat_spans *s, const qs_jinja_text *whole, qs_err *e)
{
    finder f = {.s = s, .whole = whole, .places = qs_calloc(s->count + 1, sizeof *f.places), .e = e};
    int rc = 0;
    find_places(&f);
    for (size_t i = 0; i < s->count && !rc; i++)
        if (s->answers[i]) rc = find_answer(&f, i, &s->found[i]);
    qs_jinja_text_free(&f.prompt);
    qs_jinja_text_free(&f.upto);
    qs_free(f.places);
    return rc;
}
