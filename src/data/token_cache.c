#include "src/data/token_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/file_lock.h"
#include "src/base/interrupt.h"
#include "src/base/log.h"
#include "src/base/hash.h"
#include "src/base/memory.h"
#include "src/data/data_files.h"
#include "src/data/chat_source.h"
#include "src/data/token_cache_file.h"

/* ---- the key ----------------------------------------------------------------------------------------- */

/* Everything in a model directory that decides ids or templates. */
static const char *const model_files[] = {
    "tokenizer.json",          "tokenizer.model",        "vocab.json", "merges.txt", "tokenizer_config.json",
    "special_tokens_map.json", "generation_config.json", "config.json"};

/* Hashes a file's length and content; an absent one only as such, unless it is required. */
static int hash_file(XXH3_state_t *hash, const char *path, bool required, qs_err *e)
{
    enum { CHUNK = 1 << 20 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t total = 0;
    if (fd < 0 && required)
        QS_FAIL(e, errno == ENOENT ? QS_EMISSING : QS_EIO, "cannot open data file %s: %s", path,
                strerror(errno));
    ssize_t n = 0;
    char *chunk = qs_malloc(CHUNK);
    while (fd >= 0 && ((n = read(fd, chunk, CHUNK)) > 0 || (n < 0 && errno == EINTR))) {
        if (n < 0) continue;
        XXH3_128bits_update(hash, chunk, (size_t)n);
        total += (uint64_t)n + 1;
    }
    int error = errno;
    qs_free(chunk);
    if (fd >= 0) close(fd);
    XXH3_128bits_update(hash, &total, sizeof total);
    if (n < 0) QS_FAIL(e, QS_EIO, "%s: cannot be read: %s", path, strerror(error));
    return 0;
}

/* A data file by itself: its content alone. */
static int hash_data_file(const char *path, uint64_t out[2], qs_err *e)
{
    XXH3_state_t *hash = qs_hash_create();
    XXH3_128bits_reset(hash);
    int rc = hash_file(hash, path, true, e);
    XXH128_hash_t h = XXH3_128bits_digest(hash);
    XXH3_freeState(hash);
    out[0] = h.low64;
    out[1] = h.high64;
    return rc;
}

/* Everything of the options that decides tokens, samples or what the audit says. */
static char *options_text(const qs_data_options *o)
{
    return qs_printf("%d %lld %d %d %d %s %d %s %s", QS_TOKEN_CACHE_VERSION, (long long)o->max_seq_length,
                     (int)o->overlong, o->train_on_inputs, o->drop_bad_rows,
                     o->chat_template ? o->chat_template : "auto", o->data_count,
                     o->ignore_columns ? o->ignore_columns : "", o->text_column ? o->text_column : "");
}

/* The chat template, what it is told, and the day where it asks for it. That there may be none is said when
 * it is needed. */
static void hash_template(const qs_data_options *o, XXH3_state_t *hash)
{
    const qs_chat_choice choice = {o->model_dir, o->chat_template, o->chat_template_kwargs, o->template_date};
    const char *told = o->chat_template_kwargs ? o->chat_template_kwargs : "";
    qs_chat_source s;
    qs_err none;
    XXH3_128bits_update(hash, told, strlen(told) + 1);
    if (!qs_chat_source_find(&choice, "", &s, &none)) {
        const char *const texts[] = {s.text, s.tools};
        bool dated = false;
        for (int i = 0; i < 2; i++) {
            if (texts[i]) XXH3_128bits_update(hash, texts[i], strlen(texts[i]) + 1);
            dated = dated || (texts[i] && strstr(texts[i], "strftime_now"));
        }
        char day[16];
        qs_chat_day(o->template_date, day);
        if (dated) XXH3_128bits_update(hash, day, strlen(day) + 1);
    }
    qs_chat_source_free(&s);
}

static int hash_all(const qs_data_options *o, XXH3_state_t *hash, uint64_t (*file_hashes)[2], qs_err *e)
{
    char *options = options_text(o);
    XXH3_128bits_update(hash, options, strlen(options) + 1);
    qs_free(options);
    hash_template(o, hash);
    for (int i = 0; i < o->data_count; i++) { /* the name decides the format, and stands in the audit */
        const char *name = strrchr(o->data[i], '/');
        name = name ? name + 1 : o->data[i];
        XXH3_128bits_update(hash, name, strlen(name) + 1);
        XXH3_128bits_update(hash, &o->weights[i], sizeof *o->weights);
        QS_TRY(hash_data_file(o->data[i], file_hashes[i], e));
        XXH3_128bits_update(hash, file_hashes[i], sizeof file_hashes[i]);
    }
    for (size_t i = 0; i < sizeof model_files / sizeof *model_files && o->model_dir; i++) {
        char *path = qs_path_join(o->model_dir, model_files[i]);
        int rc = hash_file(hash, path, false, e);
        qs_free(path);
        if (rc) return rc;
    }
    return 0;
}

static int make_key(const qs_data_options *o, uint64_t key[2], uint64_t (*file_hashes)[2], qs_err *e)
{
    XXH3_state_t *hash = qs_hash_create();
    XXH3_128bits_reset(hash);
    int rc = hash_all(o, hash, file_hashes, e);
    XXH128_hash_t h = XXH3_128bits_digest(hash);
    XXH3_freeState(hash);
    key[0] = h.low64;
    key[1] = h.high64;
    return rc;
}

/* ---- reading ----------------------------------------------------------------------------------------- */

/* The hash of a file from QS_TOKEN_CACHE_TOKENS_AT on, read rather than mapped so that it leaves nothing
 * resident. */
static bool content_matches(int fd, const qs_token_cache_header *h)
{
    enum { CHUNK = 1 << 20 };
    char *chunk = qs_malloc(CHUNK);
    XXH3_state_t *hash = qs_hash_create();
    XXH3_64bits_reset(hash);
    uint64_t at = QS_TOKEN_CACHE_TOKENS_AT;
    ssize_t n;
    while (at < h->file_bytes &&
           ((n = pread(fd, chunk, CHUNK, (off_t)at)) > 0 || (n < 0 && errno == EINTR))) {
        if (n < 0) continue;
        XXH3_64bits_update(hash, chunk, (size_t)n);
        at += (uint64_t)n;
    }
    bool same = at == h->file_bytes && XXH3_64bits_digest(hash) == h->content_hash;
    XXH3_freeState(hash);
    qs_free(chunk);
    return same;
}

/* What is wrong with an opened cache file, or NULL. */
static const char *defect(int fd, uint64_t bytes, const uint64_t key[2])
{
    qs_token_cache_header h;
    uint64_t at = QS_TOKEN_CACHE_TOKENS_AT;
    if (pread(fd, &h, sizeof h, 0) != (ssize_t)sizeof h ||
        memcmp(h.magic, QS_TOKEN_CACHE_MAGIC, sizeof h.magic) != 0)
        return "it is not a token cache";
    if (h.version != QS_TOKEN_CACHE_VERSION || h.header_bytes != sizeof h)
        return "it was made by another version";
    if (h.header_hash != qs_token_cache_header_hash(&h)) return "its header is damaged";
    if (memcmp(h.key, key, sizeof h.key) != 0) return "it was made from other data";
    if (h.file_bytes != bytes) return "its size is wrong";
    if (h.samples_at < at || h.samples_at > bytes || h.audit_at < h.samples_at || h.audit_at >= bytes ||
        h.token_count > (h.samples_at - at) / sizeof(uint32_t) ||
        h.sample_count > (h.audit_at - h.samples_at) / sizeof(qs_sample))
        return "its parts do not fit into it";
    return content_matches(fd, &h) ? NULL : "its checksum is wrong";
}

/* Checks and maps the file of `path`. Returns 1; 0 when there is none that fits (a damaged one is mentioned);
 * or an error. */
static int map_cache(qs_token_cache *c, const uint64_t key[2], qs_err *e)
{
    int fd = open(c->path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 && errno == ENOENT) return 0;
    if (fd < 0 || fstat(fd, &st)) {
        if (fd >= 0) close(fd);
        QS_FAIL(e, QS_EIO, "%s: cannot be opened: %s", c->path, strerror(errno));
    }
    const char *why = defect(fd, (uint64_t)st.st_size, key);
    if (!why) c->map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (why) {
        close(fd);
        qs_warn("%s: %s; tokenising again", c->path, why);
        return 0;
    }
    if (c->map == MAP_FAILED) {
        c->map = NULL;
        close(fd);
        QS_FAIL(e, QS_EIO, "%s: cannot be mapped: %s", c->path, strerror(errno));
    }
    flock(fd, LOCK_SH | LOCK_NB); /* in use: not to be pruned */
    futimens(fd, NULL);           /* last used now; where that is not allowed nobody will prune it either */
    c->fd = fd;
    c->map_bytes = (size_t)st.st_size;
    return 1;
}

static int take_header(qs_token_cache *c, const qs_data_options *o, qs_err *e)
{
    const char *base = c->map;
    const qs_token_cache_header *h = c->map;
    c->tokens = (const void *)(base + QS_TOKEN_CACHE_TOKENS_AT);
    c->samples = (const void *)(base + h->samples_at);
    c->audit = base + h->audit_at;
    c->audit_json = c->audit + strlen(c->audit) + 1;
    c->token_count = (int64_t)h->token_count;
    c->sample_count = (int64_t)h->sample_count;
    c->target_count = (int64_t)h->target_count;
    c->longest = (int64_t)h->longest;
    memcpy(c->key, h->key, sizeof c->key);
    if (o->vocab_size > 0 && h->max_id >= o->vocab_size)
        QS_FAIL(e, QS_EFORMAT,
                "%s: row %u has the token id %lld, but the model's vocabulary has %lld rows; expected a "
                "tokenizer that belongs to the model "
                "(tokens added without resizing the embeddings?)",
                c->files[h->max_id_file], h->max_id_row, (long long)h->max_id, (long long)o->vocab_size);
    return 0;
}

/* The lock of whoever makes the file of `path`, once nobody else has it. */
static int wait_for_maker(const char *path, int *lock, qs_err *e)
{
    enum { PATIENCE_US = 50000 };
    char *name = qs_printf("%s.lock", path);
    int held = qs_lock_try(name, true, lock, e);
    if (held > 0) qs_info("waiting for another process that is tokenising the same data (%s)", path);
    while (held > 0 && !qs_interrupt_requested()) {
        usleep(PATIENCE_US);
        held = qs_lock_try(name, true, lock, e);
    }
    qs_free(name);
    return held > 0 ? qs_err_set(e, QS_EINTERRUPT, __FILE__, __LINE__,
                                 "stopped while another process was tokenising")
                    : held;
}

/* Makes the file, unless another process has made it meanwhile, and maps it. */
static int make_cache(const qs_data_options *o, qs_token_cache *c, const uint64_t key[2],
                      int (*progress)(void *, uint64_t, uint64_t), void *user, qs_err *e)
{
    int lock, got;
    QS_TRY(wait_for_maker(c->path, &lock, e));
    got = map_cache(c, key, e);
    if (!got) {
        got = qs_token_cache_build(o, c->path, key, progress, user, e);
        if (!got) got = map_cache(c, key, e);
        if (!got)
            got = qs_err_set(e, QS_EIO, __FILE__, __LINE__,
                             "%s: does not read back as it was written; is the disk failing?", c->path);
    }
    char *name = qs_printf("%s.lock", c->path);
    unlink(name); /* whoever waits for this one looks again */
    qs_free(name);
    qs_lock_release(&lock);
    return got < 0 ? got : 0;
}

/* With the files found and their weights known. */
static int open_files(const qs_data_options *o, qs_token_cache *c,
                      int (*progress)(void *, uint64_t, uint64_t), void *user, qs_err *e)
{
    uint64_t key[2];
    uint64_t(*hashes)[2] = qs_calloc((size_t)o->data_count, sizeof *hashes);
    c->file_hashes = (const uint64_t(*)[2])hashes;
    QS_TRY(make_key(o, key, hashes, e));
    QS_TRY(qs_dir_create(o->cache_dir, e));
    char *name = qs_printf("%016llx%016llx.tokens", (unsigned long long)key[1], (unsigned long long)key[0]);
    c->path = qs_path_join(o->cache_dir, name);
    qs_free(name);
    int got = map_cache(c, key, e);
    if (got < 0) return got;
    if (!got) QS_TRY(make_cache(o, c, key, progress, user, e));
    return take_header(c, o, e);
}

static int open_cache(const qs_data_options *o, qs_token_cache *c,
                      int (*progress)(void *, uint64_t, uint64_t), void *user, qs_err *e)
{
    if (o->data_count < 1) QS_FAIL(e, QS_EINVAL, "there is no data file; expected at least one");
    if (o->max_seq_length < 2 || o->max_seq_length > INT32_MAX)
        QS_FAIL(e, QS_EINVAL, "max_seq_length must be 2 to 2^31 - 1, found %lld",
                (long long)o->max_seq_length);
    qs_data_files found;
    int rc = qs_data_files_find(o->data, o->data_count, o->validation, &found, e);
    c->files = (const char *const *)found.paths;
    c->file_count = found.count;
    qs_data_options all = *o;
    all.data = c->files;
    all.data_count = found.count;
    all.weights = found.weights;
    if (!rc) rc = open_files(&all, c, progress, user, e);
    qs_free(found.weights);
    return rc;
}

int qs_token_cache_open(const qs_data_options *o, FILE *report,
                        int (*progress)(void *, uint64_t done, uint64_t of), void *user, qs_token_cache **out,
                        qs_err *e)
{
    *out = NULL;
    qs_token_cache *c = qs_calloc(1, sizeof *c);
    int rc = open_cache(o, c, progress, user, e);
    if (rc) {
        qs_token_cache_close(c);
        return rc;
    }
    if (report) fputs(c->audit, report);
    *out = c;
    return 0;
}

int qs_token_cache_check(const qs_token_cache *c, qs_err *e)
{
    struct stat st;
    if (!c) return 0;
    if (fstat(c->fd, &st)) QS_FAIL(e, QS_EIO, "%s: cannot be looked at: %s", c->path, strerror(errno));
    if ((uint64_t)st.st_size >= c->map_bytes) return 0;
    QS_FAIL(e, QS_EIO,
            "%s: expected %zu bytes, found %lld: the token cache was cut short while this run read it; "
            "going on makes it again",
            c->path, c->map_bytes, (long long)st.st_size);
}

void qs_token_cache_rest(const qs_token_cache *c)
{
    enum { WORTH_IT = 8 << 20 };
    if (c->map_bytes > WORTH_IT) madvise(c->map, c->map_bytes, MADV_DONTNEED);
}

void qs_token_cache_close(qs_token_cache *c)
{
    if (!c) return;
    if (c->map) {
        munmap(c->map, c->map_bytes);
        close(c->fd);
    }
    for (int i = 0; i < c->file_count; i++) qs_free((char *)(uintptr_t)c->files[i]);
    qs_free((void *)(uintptr_t)c->files);
    qs_free((void *)(uintptr_t)c->file_hashes);
    qs_free(c->path);
    qs_free(c);
}
