#include "src/data/bpe.h"

#include <stdio.h>
#include <string.h>

#include "src/base/dtype.h"
#include "src/base/memory.h"

/* A stretch of the word; length 0 once it has been joined to its left neighbour. */
typedef struct symbol {
    uint32_t start, length; /* bytes of the word */
    int32_t id;             /* -1: no token (by score only) */
    int32_t previous, next; /* symbol numbers, -1: none */
} symbol;

/* A pair that may be joined; `length` tells whether the pair is still what it was. */
typedef struct candidate {
    uint32_t rank; /* lower is better */
    int32_t left, right;
    uint32_t length;
    int32_t result;
} candidate;

struct qs_bpe_scratch {
    symbol *symbols;
    size_t count, capacity;
    candidate *heap;
    size_t heap_count, heap_capacity;
};

static uint32_t pair_slot(const qs_bpe *b, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    return (uint32_t)(h >> 32) & b->mask;
}

void qs_bpe_reserve_merges(qs_bpe *b, uint32_t count)
{
    uint32_t size = 16;
    while (size < count + count / 2) size *= 2;
    b->merges = qs_malloc((size_t)size * sizeof *b->merges);
    for (uint32_t i = 0; i < size; i++) b->merges[i].left = -1;
    b->mask = size - 1;
}

bool qs_bpe_add_merge(qs_bpe *b, int32_t left, int32_t right, int32_t result)
{
    QS_ASSERT(b->merge_count < b->mask);
    uint32_t slot = pair_slot(b, left, right);
    for (; b->merges[slot].left >= 0; slot = (slot + 1) & b->mask)
        if (b->merges[slot].left == left && b->merges[slot].right == right) return false;
    b->merges[slot] = (qs_merge){left, right, b->merge_count++, result};
    return true;
}

#define SPACE_MARK "\xe2\x96\x81"

/* The first place after `from` where a space mark follows something else; `bytes` when there is none. */
static size_t next_word(const char *text, size_t bytes, size_t from)
{
    for (size_t at = from + 1; at < bytes; at++) {
        const char *mark = memmem(text + at, bytes - at, SPACE_MARK, 3);
        if (!mark) return bytes;
        at = (size_t)(mark - text);
        if (at - from < 3 || memcmp(mark - 3, SPACE_MARK, 3) != 0) return at;
    }
    return bytes;
}

/* Whether joining words one by one gives the same: then no token may hold a space mark after something else.
 * A document is then many short words, which stay in the cache of the processor, instead of one long one. */
static bool can_cut_at_spaces(const qs_bpe *b)
{
    if (b->byte_level || b->ignore_merges || qs_vocab_find(&b->vocab, SPACE_MARK, 3) < 0) return false;
    for (int32_t id = 0; id < b->vocab.count; id++) {
        size_t bytes;
        const char *text = qs_vocab_text(&b->vocab, id, &bytes);
        if (text && !b->vocab.hidden[id] && next_word(text, bytes, 0) < bytes) return false;
    }
    return true;
}

void qs_bpe_finish(qs_bpe *b)
{
    b->cut_at_spaces = can_cut_at_spaces(b);
    for (int i = 0; i < 256; i++)
        b->byte_id[i] = b->byte_level ? qs_vocab_find(&b->vocab, &(char){(char)i}, 1) : -1;
    /* <0xNN> is looked for by id: SentencePiece hides its byte tokens from lookup by string. */
    for (int32_t id = 0; b->byte_fallback && id < b->vocab.count; id++) {
        size_t bytes;
        unsigned value;
        char text[8] = {0}, again[8];
        const char *s = qs_vocab_text(&b->vocab, id, &bytes);
        if (!s || bytes != 6 || memcmp(s, "<0x", 3) != 0) continue;
        memcpy(text, s, 6);
        if (sscanf(text, "<0x%2X>", &value) != 1 || value > 255) continue;
        snprintf(again, sizeof again, "<0x%02X>", value);
        if (strcmp(text, again) == 0 && b->byte_id[value] < 0) b->byte_id[value] = id;
    }
    b->scratch = qs_calloc(1, sizeof *b->scratch);
}

void qs_bpe_free(qs_bpe *b)
{
    qs_vocab_free(&b->vocab);
    qs_free(b->merges);
    qs_free(b->scores);
    if (b->scratch) {
        qs_free(b->scratch->symbols);
        qs_free(b->scratch->heap);
        qs_free(b->scratch);
    }
    *b = (qs_bpe){.unk = -1};
}

static bool better(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void push(struct qs_bpe_scratch *s, candidate c)
{
    if (s->heap_count == s->heap_capacity) {
        s->heap_capacity = 2 * s->heap_capacity + 64;
        s->heap = qs_realloc(s->heap, s->heap_capacity * sizeof *s->heap);
    }
    size_t i = s->heap_count++;
    for (; i && better(&c, &s->heap[(i - 1) / 2]); i = (i - 1) / 2) s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = c;
}

static candidate pop(struct qs_bpe_scratch *s)
{
    candidate top = s->heap[0], last = s->heap[--s->heap_count];
    size_t i = 0, n = s->heap_count;
    for (size_t child = 1; child < n; child = 2 * i + 1) {
        if (child + 1 < n && better(&s->heap[child + 1], &s->heap[child])) child++;
        if (!better(&s->heap[child], &last)) break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* Rank of a score: higher scores get lower ranks, equal scores equal ranks. Flips a float's bits into
 * unsigned order. */
static uint32_t rank_of_score(float score)
{
    uint32_t u = qs_f32_bits(score + 0.0f); /* -0 becomes 0 */
    uint32_t ascending = u & 0x80000000u ? ~u : u | 0x80000000u;
    return ~ascending;
}

/* Queues the pair (left, its next) if it may be joined. */
static void consider(qs_bpe *b, const char *word, int32_t left)
{
    struct qs_bpe_scratch *s = b->scratch;
    if (left < 0 || s->symbols[left].next < 0) return;
    const symbol *l = &s->symbols[left], *r = &s->symbols[l->next];
    uint32_t length = l->length + r->length;
    if (b->scores) {
        int32_t id = qs_vocab_find(&b->vocab, word + l->start, length);
        if (id >= 0) push(s, (candidate){rank_of_score(b->scores[id]), left, l->next, length, id});
        return;
    }
    if (l->id < 0 || r->id < 0 || !b->merges) return;
    for (uint32_t slot = pair_slot(b, l->id, r->id); b->merges[slot].left >= 0; slot = (slot + 1) & b->mask) {
        const qs_merge *m = &b->merges[slot];
        if (m->left != l->id || m->right != r->id) continue;
        push(s, (candidate){m->rank, left, l->next, length, m->result});
        return;
    }
}

static void add_symbol(struct qs_bpe_scratch *s, size_t start, size_t length, int32_t id)
{
    if (s->count == s->capacity) {
        s->capacity = 2 * s->capacity + 64;
        s->symbols = qs_realloc(s->symbols, s->capacity * sizeof *s->symbols);
    }
    int32_t i = (int32_t)s->count++;
    s->symbols[i] = (symbol){(uint32_t)start, (uint32_t)length, id, i - 1, -1};
    if (i) s->symbols[i - 1].next = i;
}

static bool has_all_bytes(const qs_bpe *b, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (b->byte_id[(unsigned char)text[i]] < 0) return false;
    return true;
}

/* A character without a token: bytes, an unknown token, or (by score) left as it is, for it may yet be
 * joined. */
static int add_unknown(qs_bpe *b, const char *word, size_t start, size_t length, qs_err *e)
{
    struct qs_bpe_scratch *s = b->scratch;
    if (b->scores) {
        add_symbol(s, start, length, -1);
        return 0;
    }
    if (b->byte_fallback && has_all_bytes(b, word + start, length)) {
        for (size_t i = 0; i < length; i++)
            add_symbol(s, start + i, 1, b->byte_id[(unsigned char)word[start + i]]);
        return 0;
    }
    if (b->unk < 0)
        QS_FAIL(
            e, QS_EFORMAT,
            "the text has \"%.*s\" (byte 0x%02x), for which the tokenizer has no token and no unknown token",
            b->byte_level ? 0 : (int)length, word + start, (unsigned)(unsigned char)word[start]);
    symbol *last = s->count ? &s->symbols[s->count - 1] : NULL;
    if (b->fuse_unk && last && last->id == b->unk)
        last->length += (uint32_t)length;
    else
        add_symbol(s, start, length, b->unk);
    return 0;
}

static int split_symbols(qs_bpe *b, const char *word, size_t bytes, qs_err *e)
{
    b->scratch->count = b->scratch->heap_count = 0;
    for (size_t i = 0, n; i < bytes; i += n) {
        n = 1;
        int32_t id;
        if (b->byte_level) {
            id = b->byte_id[(unsigned char)word[i]];
        } else {
            unsigned char c = (unsigned char)word[i];
            n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
            if (n > bytes - i) n = bytes - i;
            id = qs_vocab_find(&b->vocab, word + i, n);
        }
        if (id >= 0)
            add_symbol(b->scratch, i, n, id);
        else
            QS_TRY(add_unknown(b, word, i, n, e));
    }
    return 0;
}

/* By score, characters that were never joined are resolved at the end, as SentencePiece does. */
static int emit(const qs_bpe *b, const char *word, const symbol *s, qs_ids *out, bool *after_unk, qs_err *e)
{
    bool unknown = s->id < 0;
    if (!unknown) {
        qs_ids_push(out, s->id);
    } else if (b->byte_fallback && has_all_bytes(b, word + s->start, s->length)) {
        for (uint32_t i = 0; i < s->length; i++)
            qs_ids_push(out, b->byte_id[(unsigned char)word[s->start + i]]);
        unknown = false;
    } else if (b->unk < 0) {
        QS_FAIL(e, QS_EFORMAT,
                "the text has \"%.*s\", for which the tokenizer has no token and no unknown token",
                (int)s->length, word + s->start);
    } else if (!*after_unk) {
        qs_ids_push(out, b->unk);
    }
    *after_unk = unknown;
    return 0;
}

static int encode_word(qs_bpe *b, const char *word, size_t bytes, qs_ids *out, qs_err *e)
{
    QS_TRY(split_symbols(b, word, bytes, e));
    struct qs_bpe_scratch *s = b->scratch;
    for (size_t i = 0; i + 1 < s->count; i++) consider(b, word, (int32_t)i);
    while (s->heap_count) {
        candidate c = pop(s);
        symbol *l = &s->symbols[c.left], *r = &s->symbols[c.right];
        if (!l->length || !r->length || l->length + r->length != c.length) continue;
        l->length = c.length;
        l->id = c.result;
        l->next = r->next;
        r->length = 0;
        if (l->next >= 0) s->symbols[l->next].previous = c.left;
        consider(b, word, l->previous);
        consider(b, word, c.left);
    }
    bool after_unk = false;
    for (int32_t i = s->count ? 0 : -1; i >= 0; i = s->symbols[i].next)
        QS_TRY(emit(b, word, &s->symbols[i], out, &after_unk, e));
    return 0;
}

int qs_bpe_encode(qs_bpe *b, const char *word, size_t bytes, qs_ids *out, qs_err *e)
{
    QS_ASSERT(bytes < INT32_MAX);
    int32_t id = b->ignore_merges ? qs_vocab_find(&b->vocab, word, bytes) : -1;
    if (id >= 0) {
        qs_ids_push(out, id);
        return 0;
    }
    for (size_t at = 0, end; at < bytes; at = end) {
        end = b->cut_at_spaces ? at + next_word(word + at, bytes - at, 0) : bytes;
        QS_TRY(encode_word(b, word + at, end - at, out, e));
    }
    return 0;
}
