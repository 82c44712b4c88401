/* SentencePiece's tokenizer.model: a protobuf message (sentencepiece_model.proto), of which the BPE kind is
 * read.
 *
 * ModelProto     1: pieces (repeated)   2: trainer_spec   3: normalizer_spec
 * SentencePiece  1: piece   2: score (fixed32)   3: type
 * TrainerSpec    3: model_type   24: treat_whitespace_as_suffix   35: byte_fallback   40-43: unk, bos, eos,
 * pad id NormalizerSpec 2: precompiled_charsmap   3: add_dummy_prefix   4: remove_extra_whitespaces   5:
 * escape_whitespaces
 */
#include <string.h>

#include "src/base/dtype.h"
#include "src/base/memory.h"
#include "src/data/tokenizer_parts.h"

enum { NORMAL = 1, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };
enum { MODEL_UNIGRAM = 1, MODEL_BPE = 2 };

typedef struct reader {
    const char *path;
    const unsigned char *at, *end;
} reader;

/* One field of a message: a number (varint or fixed32) or a range of bytes. */
typedef struct field {
    uint32_t number, wire;
    uint64_t value;
    reader bytes;
} field;

static int damaged(const reader *r, qs_err *e)
{
    QS_FAIL(e, QS_EFORMAT, "%s: is damaged or not a SentencePiece model (a protobuf field runs past its end)",
            r->path);
}

static int varint(reader *r, uint64_t *out, qs_err *e)
{
    *out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (r->at >= r->end) return damaged(r, e);
        *out |= (uint64_t)(*r->at & 0x7f) << shift;
        if (!(*r->at++ & 0x80)) return 0;
    }
    return damaged(r, e);
}

static int next_field(reader *r, field *f, qs_err *e)
{
    uint64_t tag, bytes = 0;
    QS_TRY(varint(r, &tag, e));
    *f = (field){.number = (uint32_t)(tag >> 3), .wire = tag & 7};
    if (f->wire == 0) return varint(r, &f->value, e);
    if (f->wire == 1)
        bytes = 8;
    else if (f->wire == 5)
        bytes = 4;
    else if (f->wire == 2)
        QS_TRY(varint(r, &bytes, e));
    else
        return damaged(r, e);
    if (bytes > (uint64_t)(r->end - r->at)) return damaged(r, e);
    f->bytes = (reader){r->path, r->at, r->at + bytes};
    if (f->wire == 5)
        f->value = (uint64_t)r->at[0] | (uint64_t)r->at[1] << 8 | (uint64_t)r->at[2] << 16 |
                   (uint64_t)r->at[3] << 24;
    r->at += bytes;
    return 0;
}

typedef struct settings {
    int64_t model_type, unk, bos, eos, pad;
    bool byte_fallback, suffix, charsmap, dummy_prefix, squeeze, escape;
} settings;

static int read_trainer(reader r, settings *s, qs_err *e)
{
    field f;
    while (r.at < r.end) {
        QS_TRY(next_field(&r, &f, e));
        switch (f.number) {
        case 3:
            s->model_type = (int64_t)f.value;
            break;
        case 24:
            s->suffix = f.value != 0;
            break;
        case 35:
            s->byte_fallback = f.value != 0;
            break;
        case 40:
            s->unk = (int32_t)f.value;
            break;
        case 41:
            s->bos = (int32_t)f.value;
            break;
        case 42:
            s->eos = (int32_t)f.value;
            break;
        case 43:
            s->pad = (int32_t)f.value;
            break;
        default:
            break;
        }
    }
    return 0;
}

static int read_normalizer(reader r, settings *s, qs_err *e)
{
    field f;
    while (r.at < r.end) {
        QS_TRY(next_field(&r, &f, e));
        switch (f.number) {
        case 2:
            s->charsmap = f.bytes.end > f.bytes.at;
            break;
        case 3:
            s->dummy_prefix = f.value != 0;
            break;
        case 4:
            s->squeeze = f.value != 0;
            break;
        case 5:
            s->escape = f.value != 0;
            break;
        default:
            break;
        }
    }
    return 0;
}

static int refuse(const char *path, const char *what, qs_err *e)
{
    QS_FAIL(e, QS_EUNSUP,
            "%s: a SentencePiece model with %s is not supported; a tokenizer.json beside it would be read "
            "instead",
            path, what);
}

/* Adds one piece under the next id. Only ordinary pieces are found by their text; the others are known by id.
 */
static int add_piece(qs_tokenizer *t, reader r, float **scores, int32_t *capacity, qs_err *e)
{
    field f;
    reader text = {r.path, (const unsigned char *)"", (const unsigned char *)""};
    float score = 0;
    uint64_t type = NORMAL;
    while (r.at < r.end) {
        QS_TRY(next_field(&r, &f, e));
        if (f.number == 1 && f.wire == 2) text = f.bytes;
        if (f.number == 2 && f.wire == 5) score = qs_f32_of_bits((uint32_t)f.value);
        if (f.number == 3 && f.wire == 0) type = f.value;
    }
    int32_t id = t->bpe.vocab.count;
    size_t bytes = (size_t)(text.end - text.at);
    if (score != score) return damaged(&r, e);
    if (id >= QS_VOCAB_MAX_ID || bytes > 1 << 16) return damaged(&r, e);
    if (type == UNUSED) return refuse(r.path, "unused pieces", e);
    bool hidden = type == CONTROL || type == UNKNOWN || type == BYTE;
    qs_vocab_add(&t->bpe.vocab, id, (const char *)text.at, bytes, hidden);
    if (id >= *capacity) {
        *capacity = 2 * *capacity + 1024;
        *scores = qs_realloc(*scores, (size_t)*capacity * sizeof **scores);
    }
    (*scores)[id] = score;
    if (bytes && (type == CONTROL || type == UNKNOWN || type == USER_DEFINED)) {
        if (t->added.count >= QS_ADDED_TOKENS_MAX) return refuse(r.path, "so many control pieces", e);
        qs_added_tokens_add(&t->added, &(qs_added_token){.id = id,
                                                         .content = (char *)(uintptr_t)text.at,
                                                         .bytes = bytes,
                                                         .special = type != USER_DEFINED,
                                                         .normalized = type == USER_DEFINED});
    }
    return 0;
}

static int check(const char *path, const settings *s, qs_err *e)
{
    if (s->model_type == MODEL_UNIGRAM) return refuse(path, "the unigram model type", e);
    if (s->model_type != MODEL_BPE) return refuse(path, "a model type other than BPE", e);
    if (s->charsmap) return refuse(path, "a precompiled normalisation table", e);
    if (s->suffix) return refuse(path, "treat_whitespace_as_suffix", e);
    if (!s->escape) return refuse(path, "escape_whitespaces off", e);
    return 0;
}

static int32_t known(const qs_tokenizer *t, int64_t id)
{
    return id >= 0 && id < t->bpe.vocab.count ? (int32_t)id : -1;
}

int qs_tokenizer_load_sentencepiece(qs_tokenizer *t, const char *path, const char *text, size_t bytes,
                                    bool legacy, qs_err *e)
{
    settings s = {.model_type = MODEL_UNIGRAM,
                  .unk = 0,
                  .bos = 1,
                  .eos = 2,
                  .pad = -1,
                  .dummy_prefix = true,
                  .squeeze = true,
                  .escape = true};
    reader r = {path, (const unsigned char *)text, (const unsigned char *)text + bytes};
    field f;
    int32_t capacity = 0;
    while (r.at < r.end) {
        QS_TRY(next_field(&r, &f, e));
        if (f.wire != 2) continue;
        if (f.number == 1) QS_TRY(add_piece(t, f.bytes, &t->bpe.scores, &capacity, e));
        if (f.number == 2) QS_TRY(read_trainer(f.bytes, &s, e));
        if (f.number == 3) QS_TRY(read_normalizer(f.bytes, &s, e));
    }
    if (!t->bpe.vocab.count)
        QS_FAIL(e, QS_EFORMAT, "%s: holds no pieces; expected a SentencePiece model", path);
    QS_TRY(check(path, &s, e));
    qs_vocab_index(&t->bpe.vocab);
    t->bpe.scores = qs_realloc(t->bpe.scores, (size_t)t->bpe.vocab.count * sizeof *t->bpe.scores);
    t->bpe.byte_fallback = s.byte_fallback;
    t->bpe.unk = t->info.unk = known(t, s.unk);
    t->info.bos = known(t, s.bos);
    t->info.eos = known(t, s.eos);
    t->info.pad = known(t, s.pad);
    t->info.add_bos = t->info.bos >= 0; /* as LlamaTokenizer does by default */
    t->strip_left = s.dummy_prefix;
    /* Every segment between special tokens gets its own leading space (legacy), or only the first one. */
    if (s.squeeze) { /* remove_extra_whitespaces: none at the ends, one between words */
        QS_TRY(qs_steps_add_regex(&t->normalizer, path, QS_STEP_REPLACE, "\\A +|(?: |" QS_SPACE_MARK ")+\\z",
                                  "", false, 0, e));
        QS_TRY(qs_steps_add_regex(&t->normalizer, path, QS_STEP_REPLACE, " {2,}", " ", false, 0, e));
    }
    if (s.dummy_prefix) qs_steps_add_prepend(&t->normalizer, QS_SPACE_MARK);
    if (!legacy) qs_steps_prefix_once(&t->normalizer);
    return qs_steps_add_regex(&t->normalizer, path, QS_STEP_REPLACE, " ", QS_SPACE_MARK, true, 0, e);
}
