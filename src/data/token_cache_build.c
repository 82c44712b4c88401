/* Makes a token cache file in one pass over the data, in constant memory: tokens go straight to the file, the
 * index to a second file that is appended at the end. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/hash.h"
#include "src/base/memory.h"
#include "src/data/dataset.h"
#include "src/data/prepare.h"
#include "src/data/token_cache_file.h"

enum { BUFFER_BYTES = 256 << 10 };

/* A file written through a buffer, hashed on the way. */
typedef struct stream {
    qs_file_writer file;
    char *buffer;
    size_t used;
    uint64_t written;
    XXH3_state_t *hash; /* NULL: not hashed */
} stream;

typedef struct builder {
    const qs_data_options *o;
    stream tokens, index;
    qs_token_cache_header h;
    uint32_t file;
    qs_file_audit *audit; /* of that file */
} builder;

static int flush(stream *s, qs_err *e)
{
    if (s->hash) XXH3_64bits_update(s->hash, s->buffer, s->used);
    QS_TRY(qs_file_append(&s->file, s->buffer, s->used, e));
    s->written += s->used;
    s->used = 0;
    return 0;
}

static int put(stream *s, const void *data, size_t bytes, qs_err *e)
{
    while (bytes) {
        size_t room = BUFFER_BYTES - s->used, n = bytes < room ? bytes : room;
        memcpy(s->buffer + s->used, data, n);
        s->used += n;
        data = (const char *)data + n;
        bytes -= n;
        if (s->used == BUFFER_BYTES) QS_TRY(flush(s, e));
    }
    return 0;
}

static int begin(stream *s, const char *path, bool hashed, qs_err *e)
{
    QS_TRY(qs_file_begin(path, &s->file, e));
    s->buffer = qs_malloc(BUFFER_BYTES);
    if (!hashed) return 0;
    s->hash = qs_hash_create();
    XXH3_64bits_reset(s->hash);
    return 0;
}

static void end(stream *s)
{
    if (s->buffer) qs_file_abort(&s->file); /* nothing to abort after a commit */
    qs_free(s->buffer);
    XXH3_freeState(s->hash);
}

/* How often a row comes in an epoch: its weight, and for what is behind the point a draw that the row's
 * number decides. */
static int64_t copies_of(double weight, int64_t row)
{
    double whole = floor(weight);
    return (int64_t)whole + ((double)(XXH3_64bits(&row, sizeof row) >> 11) * 0x1p-53 < weight - whole);
}

static int add_sample(void *user, const int32_t *ids, const uint8_t *trained, size_t count, const qs_row *row,
                      qs_err *e)
{
    builder *b = user;
    int64_t copies = copies_of(b->audit->weight, row->number);
    b->audit->samples++;
    b->audit->tokens += (int64_t)count;
    if (!copies) return 0;
    qs_sample s = {
        .first = b->h.token_count, .tokens = (int32_t)count, .row = (uint32_t)row->number, .file = b->file};
    for (size_t i = 0; i < count; i++) {
        if (ids[i] > b->h.max_id) {
            b->h.max_id = ids[i];
            b->h.max_id_row = s.row;
            b->h.max_id_file = s.file;
        }
        uint32_t token = (uint32_t)ids[i] | (trained[i] ? QS_TOKEN_TRAINED : 0);
        s.targets += trained[i];
        QS_TRY(put(&b->tokens, &token, sizeof token, e));
    }
    b->h.token_count += count;
    if (count > b->h.longest) b->h.longest = count;
    b->audit->epoch_samples += copies;
    b->audit->epoch_tokens += copies * (int64_t)count;
    for (; copies; copies--) {
        b->h.target_count += (uint64_t)s.targets;
        b->h.sample_count++;
        QS_TRY(put(&b->index, &s, sizeof s, e));
    }
    return 0;
}

static uint64_t bytes_of(const char *path)
{
    struct stat st;
    return stat(path, &st) ? 0 : (uint64_t)st.st_size;
}

typedef struct reporter {
    int (*call)(void *, uint64_t, uint64_t);
    void *user;
    uint64_t before, total; /* bytes of the files already read, and of all */
} reporter;

static int report(const reporter *r, const qs_dataset *d, qs_err *e)
{
    uint64_t done, of;
    qs_dataset_progress(d, &done, &of);
    if (r->call && r->call(r->user, r->before + done, r->total))
        QS_FAIL(e, QS_EINTERRUPT, "stopped while tokenising");
    return 0;
}

/* After so many bad rows the data are refused without looking for more. */
enum { BAD_ROWS_MAX = 1000 };

/* Remembers a row that cannot be used. */
static void note_bad_row(qs_audit *a, const qs_err *why)
{
    if (a->bad < QS_BAD_ROWS_SHOWN) a->bad_rows[a->bad].text = qs_strdup(why->text);
    a->bad++;
}

static bool is_bad_row(int rc) { return rc == -QS_EFORMAT || rc == -QS_EINVAL; }

static int take_row(builder *b, qs_preparer *p, const qs_row *row, const char *path, qs_err *e)
{
    if (row->number > UINT32_MAX) QS_FAIL(e, QS_EUNSUP, "%s: has more than 2^32 rows", path);
    if (!b->audit->how) {
        QS_TRY(qs_preparer_take_kind(p, row->kind, e));
        b->audit->how = qs_preparer_describe(p);
    }
    b->audit->rows += !row->continued;
    return qs_prepare_row(p, row, add_sample, b, e);
}

static int add_rows(builder *b, qs_preparer *p, qs_dataset *d, const char *path, const reporter *r, qs_err *e)
{
    qs_row row;
    for (int64_t n = 1;; n++) {
        int got = qs_dataset_next(d, &row, e);
        if (!got) return report(r, d, e);
        bool goes_on = got > 0 || qs_dataset_goes_on(d);
        int rc = got > 0 ? take_row(b, p, &row, path, e) : got;
        if (rc && (!is_bad_row(rc) || p->fatal)) return rc;
        if (rc) {
            p->audit.rows += got < 0;
            note_bad_row(&p->audit, e);
        }
        if (rc && (!goes_on || (!b->o->drop_bad_rows && p->audit.bad >= BAD_ROWS_MAX)))
            return goes_on ? 0 : rc;
        if (n % 256 == 0) QS_TRY(report(r, d, e));
    }
}

static int add_file(builder *b, qs_preparer *p, const char *path, const reporter *r, qs_err *e)
{
    qs_dataset *d;
    const qs_column_choice choice = {.ignore = b->o->ignore_columns, .text = b->o->text_column};
    QS_TRY(qs_dataset_open(path, &choice, &d, e));
    p->file = path;
    p->unused = qs_dataset_unused(d);
    int rc = add_rows(b, p, d, path, r, e);
    for (int i = 0; i < p->unused->count; i++) qs_unused_note(&p->audit.unused, "", p->unused->names[i]);
    p->unused = NULL;
    qs_dataset_close(d);
    return rc;
}

/* One bad row is told by itself; of several the first ones, with their number. */
static int refuse_bad_rows(const qs_audit *a, qs_err *e)
{
    static const char way[] = "--bad_rows drop leaves such rows out";
    if (a->bad == 1) QS_FAIL(e, QS_EFORMAT, "%s; %s", a->bad_rows[0].text, way);
    for (int i = 0; i < QS_BAD_ROWS_SHOWN && a->bad_rows[i].text; i++)
        qs_log(QS_LOG_ERROR, "%s", a->bad_rows[i].text);
    bool more = a->bad >= BAD_ROWS_MAX;
    QS_FAIL(e, QS_EFORMAT, "%s%lld of %lld rows cannot be used, the first %d of them above (%s); %s",
            more ? "at least " : "", (long long)a->bad, (long long)a->rows,
            a->bad < QS_BAD_ROWS_SHOWN ? (int)a->bad : QS_BAD_ROWS_SHOWN, a->bad_rows[0].text, way);
}

static int check_something_is_left(const builder *b, const qs_audit *a, qs_err *e)
{
    if (a->bad && !b->o->drop_bad_rows) return refuse_bad_rows(a, e);
    if (!a->rows) QS_FAIL(e, QS_EFORMAT, "%s: holds no rows", b->o->data[0]);
    if (!a->samples && a->untrained)
        QS_FAIL(e, QS_EFORMAT,
                "%s: not one of its %lld samples has a token to train on (all labels are -100, no "
                "assistant's message, or only prompts fit in "
                "max_seq_length %lld); check the columns, the roles and max_seq_length",
                b->o->data[0], (long long)a->untrained, (long long)b->o->max_seq_length);
    if (!a->samples)
        QS_FAIL(e, QS_EFORMAT,
                "%s: no sample is left of its %lld rows (%lld empty, %lld bad, %lld dropped as longer than "
                "max_seq_length %lld)%s%s",
                b->o->data[0], (long long)a->rows, (long long)a->empty, (long long)a->bad,
                (long long)a->dropped, (long long)b->o->max_seq_length, a->bad ? "; the first bad row: " : "",
                a->bad ? a->bad_rows[0].text : "");
    if (!b->h.sample_count)
        QS_FAIL(e, QS_EFORMAT, "%s: its weight leaves no sample to train on", b->o->data[0]);
    return 0;
}

static int add_files(builder *b, qs_preparer *p, reporter *r, qs_err *e)
{
    qs_audit *a = &p->audit;
    a->files = qs_calloc((size_t)b->o->data_count, sizeof *a->files);
    a->file_count = b->o->data_count;
    for (int i = 0; i < b->o->data_count; i++) r->total += bytes_of(b->o->data[i]);
    for (int i = 0; i < b->o->data_count; i++) {
        b->file = (uint32_t)i;
        b->audit = &a->files[i];
        *b->audit = (qs_file_audit){.path = b->o->data[i], .weight = b->o->weights[i]};
        int rc = add_file(b, p, b->o->data[i], r, e);
        if (rc && a->bad > 1 && is_bad_row(rc))
            return refuse_bad_rows(a, e); /* also what was found before the file was lost */
        if (rc) return rc;
        r->before += bytes_of(b->o->data[i]);
    }
    return check_something_is_left(b, a, e);
}

/* Appends what another stream has written, through its buffer. */
static int append_file(stream *s, const stream *other, qs_err *e)
{
    const char *path = other->file.temporary;
    FILE *f = fopen(path, "rbe");
    uint64_t total = 0;
    int rc = 0;
    size_t n;
    while (f && !rc && (n = fread(other->buffer, 1, BUFFER_BYTES, f)) > 0) {
        rc = put(s, other->buffer, n, e);
        total += n;
    }
    if (f) fclose(f);
    if (rc) return rc;
    if (total != other->written) QS_FAIL(e, QS_EIO, "%s: cannot be read back", path);
    return 0;
}

/* Appends the index, which was written to its own file, and the audit. */
static int finish(builder *b, const char *audit, const char *json, qs_err *e)
{
    static const char zeros[8];
    qs_token_cache_header *h = &b->h;
    stream *s = &b->tokens;
    QS_TRY(put(s, zeros, (8 - h->token_count * sizeof(uint32_t) % 8) % 8, e));
    h->samples_at = s->written + s->used;
    QS_TRY(flush(&b->index, e));
    QS_TRY(append_file(s, &b->index, e));
    h->audit_at = s->written + s->used;
    QS_TRY(put(s, audit, strlen(audit) + 1, e));
    QS_TRY(put(s, json, strlen(json) + 1, e));
    QS_TRY(flush(s, e));
    h->file_bytes = s->written;
    h->content_hash = XXH3_64bits_digest(s->hash);
    h->header_hash = qs_token_cache_header_hash(h);
    if (pwrite(s->file.fd, h, sizeof *h, 0) != (ssize_t)sizeof *h)
        QS_FAIL(e, QS_EIO, "%s: its header cannot be written", s->file.temporary);
    return qs_file_commit(&s->file, e);
}

int qs_token_cache_build(const qs_data_options *o, const char *path, const uint64_t key[2],
                         int (*progress)(void *, uint64_t done, uint64_t of), void *user, qs_err *e)
{
    builder b = {.o = o,
                 .h = {.magic = QS_TOKEN_CACHE_MAGIC,
                       .version = QS_TOKEN_CACHE_VERSION,
                       .header_bytes = sizeof b.h,
                       .key = {key[0], key[1]},
                       .max_id = -1}};
    qs_preparer p = {0};
    reporter r = {.call = progress, .user = user};
    char *index_path = qs_printf("%s.index", path);
    char *first_page = qs_calloc(1, QS_TOKEN_CACHE_TOKENS_AT);
    int rc = begin(&b.tokens, path, true, e);
    if (!rc) rc = begin(&b.index, index_path, false, e);
    /* The header's place is kept free; its bytes are not part of the content's hash. */
    if (!rc) rc = qs_file_append(&b.tokens.file, first_page, QS_TOKEN_CACHE_TOKENS_AT, e);
    b.tokens.written = QS_TOKEN_CACHE_TOKENS_AT;
    if (!rc) rc = qs_preparer_open(&p, o, e);
    if (!rc) rc = add_files(&b, &p, &r, e);
    if (!rc) {
        char *audit = qs_audit_text(&p.audit, o, p.tokenizer), *json = qs_audit_json(&p.audit, o);
        rc = finish(&b, audit, json, e);
        qs_free(audit);
        qs_free(json);
    }
    end(&b.tokens);
    end(&b.index);
    qs_preparer_free(&p);
    qs_free(index_path);
    qs_free(first_page);
    return rc;
}
