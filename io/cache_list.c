#include "io/cache_list.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <unistd.h>

#include "io/cache_journal.h"
#include "io/cache_manifest.h"
#include "io/cache_parts.h"
#include "io/file.h"
#include "io/file_lock.h"
#include "src/base/memory.h"

static const char *const files[] = {QS_CACHE_JOURNAL_NAME, "blobs.bin", "fill", QS_CACHE_MANIFEST_NAME,
                                    "lock"};
enum { FILES = sizeof files / sizeof *files };

static void free_entry(qs_cache_entry *c)
{
    for (int i = 0; i < c->part_count; i++) qs_free(c->parts[i]);
    qs_free(c->parts);
    qs_free(c->path);
    qs_free(c->model);
    qs_free(c->model_path);
    qs_free(c->fingerprint);
    qs_free(c->format);
    qs_free(c->blob_bytes);
}

void qs_cache_list_free(qs_cache_list *l)
{
    for (int i = 0; i < l->count; i++) free_entry(&l->entries[i]);
    qs_free(l->entries);
    *l = (qs_cache_list){0};
}

static qs_cache_entry *new_entry(qs_cache_list *l, qs_cache_kind kind, const char *path)
{
    l->entries = qs_realloc(l->entries, (size_t)(l->count + 1) * sizeof *l->entries);
    qs_cache_entry *c = &l->entries[l->count++];
    *c = (qs_cache_entry){
        .kind = kind, .path = qs_strdup(path), .model = qs_strdup(""), .part_count = 1, .part = 1};
    c->parts = qs_calloc(1, sizeof *c->parts);
    c->parts[0] = qs_strdup(path);
    return c;
}

/* Whether another process has `path` locked; nothing is created. */
static bool is_locked(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool locked = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
    if (fd >= 0) close(fd);
    return locked;
}

/* Adds a file's bytes on the disk; its time counts where it is the later one. */
static bool add_file(qs_cache_entry *c, const char *path)
{
    struct stat st;
    if (lstat(path, &st)) return false;
    c->bytes += (uint64_t)st.st_blocks * 512;
    if (st.st_mtime > c->used) c->used = st.st_mtime;
    return true;
}

/* ---- layer caches ------------------------------------------------------------------------------------ */

static char *text_of(const json_t *m, const char *key)
{
    const char *s = json_string_value(json_object_get(m, key));
    return s ? qs_strdup(s) : NULL;
}

static void take_parts(qs_cache_entry *c, const json_t *stripe)
{
    const json_t *names = json_object_get(stripe, "directories");
    int n = (int)json_array_size(names);
    if (n < 2) return;
    qs_free(c->parts[0]);
    c->parts = qs_realloc(c->parts, (size_t)n * sizeof *c->parts);
    c->part_count = n;
    c->part = (int)json_integer_value(json_object_get(stripe, "part"));
    for (int i = 0; i < n; i++) {
        const char *name = json_string_value(json_array_get(names, (size_t)i));
        c->parts[i] = qs_strdup(i == c->part - 1 ? c->path : name ? name : "?");
    }
}

typedef struct tally {
    qs_cache_entry *c;
    bool *has;
} tally;

static void count_blob(void *context, const qs_cache_record *r)
{
    tally *t = context;
    if (r->blob >= (uint64_t)t->c->blobs) return;
    t->c->present += (r->bytes != 0) - t->has[r->blob];
    t->has[r->blob] = r->bytes != 0;
}

static void read_manifest(qs_cache_entry *c, const json_t *m)
{
    const json_t *sizes = json_object_get(m, "blob_bytes");
    char *model = text_of(m, "model");
    if (model) {
        qs_free(c->model);
        c->model = model;
    }
    c->model_path = text_of(m, "path");
    c->fingerprint = text_of(m, "fingerprint");
    c->format = text_of(m, "format");
    c->blobs = (int)json_array_size(sizes);
    c->blob_bytes = qs_calloc((size_t)c->blobs + 1, sizeof *c->blob_bytes);
    for (int i = 0; i < c->blobs; i++)
        c->blob_bytes[i] = (uint64_t)json_integer_value(json_array_get(sizes, (size_t)i));
    take_parts(c, json_object_get(m, "stripe"));
    if (json_integer_value(json_object_get(m, "version")) != QS_CACHE_MANIFEST_VERSION || !c->fingerprint ||
        !c->format)
        c->unusable = "of another version of this program";
}

static void count_blobs(qs_cache_entry *c)
{
    tally t = {c, qs_calloc((size_t)c->blobs + 1, sizeof *t.has)};
    qs_journal j = {.fd = -1};
    qs_err ignored;
    if (!qs_journal_open(&j, c->parts[0], qs_cache_seed(c->fingerprint, c->format, c->part_count), false,
                         &ignored))
        qs_journal_read_on(&j, count_blob, &t, &ignored);
    qs_journal_close(&j);
    qs_free(t.has);
}

/* Adds dir if it is a layer cache. Nothing else of that name is taken for one: there is a journal or there
 * are blobs beside the manifest. */
static int add_layers(qs_cache_list *l, const char *dir, qs_err *e)
{
    bool there[FILES];
    uint64_t found = 0;
    for (int i = 0; i < FILES; i++) {
        char *path = qs_path_join(dir, files[i]);
        there[i] = qs_file_exists(path);
        found += there[i];
        qs_free(path);
    }
    if (!there[1] || found < 2) return 0;
    qs_cache_entry *c = new_entry(l, QS_CACHE_LAYERS, dir);
    for (int i = 0; i < FILES; i++) {
        char *path = qs_path_join(dir, files[i]);
        add_file(c, path);
        if (i == FILES - 1) c->in_use = is_locked(path);
        qs_free(path);
    }
    json_t *m;
    qs_err why = {0};
    if (qs_cache_manifest_read(dir, &m, &why)) {
        c->unusable = "its manifest is damaged or missing";
        return 0;
    }
    read_manifest(c, m);
    json_decref(m);
    if (!c->unusable) count_blobs(c);
    return 0;
}

/* ---- token caches ------------------------------------------------------------------------------------ */

static bool ends_in(const char *s, const char *tail)
{
    size_t n = strlen(s), t = strlen(tail);
    return n > t && !strcmp(s + n - t, tail);
}

static void add_tokens(qs_cache_list *l, const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *entry; d && (entry = readdir(d));) {
        bool tokens = ends_in(entry->d_name, ".tokens"), left = strstr(entry->d_name, ".tokens.") != NULL;
        if (!tokens && !left) continue;
        char *path = qs_path_join(dir, entry->d_name);
        qs_cache_entry *c = new_entry(l, tokens ? QS_CACHE_TOKENS : QS_CACHE_LEFT_OVER, path);
        add_file(c, path);
        c->in_use = is_locked(path);
        qs_free(path);
    }
    if (d) closedir(d);
}

/* ---- folders ----------------------------------------------------------------------------------------- */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const qs_cache_entry *)a)->path, ((const qs_cache_entry *)b)->path);
}

static int add_directory(qs_cache_list *l, const char *dir, qs_err *e)
{
    char *tokens = qs_path_join(dir, "tokens");
    int rc = add_layers(l, dir, e);
    if (!rc) add_tokens(l, tokens);
    qs_free(tokens);
    return rc;
}

int qs_cache_list_add(qs_cache_list *l, const char *root, qs_err *e)
{
    int rc = add_directory(l, root, e);
    DIR *d = opendir(root);
    if (!d && errno != ENOENT) QS_FAIL(e, QS_EIO, "%s: cannot be listed: %s", root, strerror(errno));
    for (struct dirent *entry; d && !rc && (entry = readdir(d));) {
        if (entry->d_name[0] == '.') continue;
        char *sub = qs_path_join(root, entry->d_name);
        struct stat st;
        if (!lstat(sub, &st) && S_ISDIR(st.st_mode)) rc = add_directory(l, sub, e);
        qs_free(sub);
    }
    if (d) closedir(d);
    if (l->count) qsort(l->entries, (size_t)l->count, sizeof *l->entries, by_path);
    return rc;
}

/* ---- removing ---------------------------------------------------------------------------------------- */

static int remove_file(const char *path, qs_err *e)
{
    if (unlink(path) && errno != ENOENT)
        QS_FAIL(e, QS_EIO, "%s: cannot be removed: %s", path, strerror(errno));
    return 0;
}

/* The files of one part, the lock last; its directory too when nothing else is in it. */
static int remove_part(const char *dir, qs_err *e)
{
    int rc = 0;
    for (int i = 0; i < FILES && !rc; i++) {
        char *path = qs_path_join(dir, files[i]);
        rc = remove_file(path, e);
        qs_free(path);
    }
    if (!rc) rmdir(dir);
    return rc;
}

static int remove_layers(const qs_cache_entry *c, qs_err *e)
{
    int *lock = qs_calloc((size_t)c->part_count, sizeof *lock), rc = 0, held = 0;
    for (int i = 0; i < c->part_count; i++) lock[i] = -1;
    for (int i = 0; i < c->part_count && !held && !rc; i++) {
        char *path = qs_path_join(c->parts[i], "lock");
        if (!qs_file_exists(c->parts[i]))
            rc = qs_err_set(
                e, QS_EMISSING, __FILE__, __LINE__,
                "%s: part %d of the cache in %s is not there; mount its disk, or remove the parts by hand",
                c->parts[i], i + 1, c->path);
        else
            held = qs_lock_try(path, true, &lock[i], e);
        qs_free(path);
    }
    if (held < 0) rc = held;
    for (int i = 0; i < c->part_count && !held && !rc; i++) rc = remove_part(c->parts[i], e);
    for (int i = 0; i < c->part_count; i++) qs_lock_release(&lock[i]);
    qs_free(lock);
    return rc ? rc : !held;
}

int qs_cache_remove(const qs_cache_entry *c, qs_err *e)
{
    if (c->kind == QS_CACHE_LAYERS) return remove_layers(c, e);
    int fd, held = qs_lock_try(c->path, true, &fd, e), rc = held ? 0 : remove_file(c->path, e);
    qs_lock_release(&fd);
    return held < 0 ? held : rc ? rc : !held;
}
