#include "io/cache_manifest.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "io/file.h"
#include "src/base/memory.h"

enum { VERSION = QS_CACHE_MANIFEST_VERSION, OLD_WHOLE = 1, OLD_STRIPED = 2 };
typedef enum state { GOOD, MISSING, DAMAGED, OLD } state;
#define MANIFEST_MAX_BYTES ((size_t)64 << 20)

static const char *const advice = "delete the directory or choose another one with --cache";

/* The directories' full names. One that does not exist yet has none. */
static json_t *names_json(char *const *dirs, int count)
{
    json_t *names = json_array();
    for (int i = 0; i < count; i++) {
        char full[PATH_MAX];
        json_t *name = json_string(realpath(dirs[i], full) ? full : dirs[i]);
        json_array_append_new(names, name ? name : json_string("?")); /* not UTF-8 */
    }
    return names;
}

/* XXH3-64 in hex over everything else in it. */
static void sum_of(const json_t *manifest, char hex[17])
{
    json_t *copy = json_copy((json_t *)(uintptr_t)manifest);
    json_object_del(copy, "xxh3");
    char *text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
    snprintf(hex, 17, "%016llx", (unsigned long long)XXH3_64bits(text, strlen(text)));
    free(text); /* lint: allow free, jansson allocated it */
    json_decref(copy);
}

/* What the manifest of a part should say, or NULL. */
static json_t *manifest_json(char *const *dirs, int count, int part, const qs_cache_key *key, qs_err *e)
{
    json_t *sizes = json_array();
    for (int i = 0; i < key->blobs; i++)
        json_array_append_new(sizes, json_integer((json_int_t)key->blob_bytes[i]));
    char dates[17], sum[17], full[PATH_MAX];
    snprintf(dates, sizeof dates, "%016llx", (unsigned long long)key->dates);
    json_t *m =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:o}", "version", VERSION, "model", key->model, "fingerprint",
                  key->fingerprint, "format", key->format, "dates", dates, "blob_bytes", sizes);
    if (!m) {
        qs_err_set(e, QS_EINVAL, __FILE__, __LINE__, "%s: the model's name is not UTF-8", dirs[part]);
        return NULL;
    }
    json_t *path = key->path ? json_string(realpath(key->path, full) ? full : key->path) : NULL;
    if (path) json_object_set_new(m, "path", path);
    if (count > 1)
        json_object_set_new(m, "stripe",
                            json_pack("{s:I, s:i, s:o}", "unit", (json_int_t)QS_CACHE_STRIPE_BYTES, "part",
                                      part + 1, "directories", names_json(dirs, count)));
    sum_of(m, sum);
    json_object_set_new(m, "xxh3", json_string(sum));
    return m;
}

/* The value of a text member, or "nothing". */
static const char *text_of(const json_t *manifest, const char *name)
{
    const char *s = json_string_value(json_object_get(manifest, name));
    return s ? s : "nothing";
}

static int parts_of(const json_t *manifest)
{
    size_t n = json_array_size(json_object_get(json_object_get(manifest, "stripe"), "directories"));
    return n ? (int)n : 1;
}

static int part_of(const json_t *manifest)
{
    const json_t *part = json_object_get(json_object_get(manifest, "stripe"), "part");
    return part ? (int)json_integer_value(part) : 1;
}

/* "/a, /b": where the parts were when the cache was made. */
static void list_directories(const json_t *manifest, char *out, size_t capacity)
{
    const json_t *names = json_object_get(json_object_get(manifest, "stripe"), "directories");
    size_t at = 0;
    *out = 0;
    for (size_t i = 0; i < json_array_size(names) && at < capacity; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        at += (size_t)snprintf(out + at, capacity - at, "%s%s", i ? ", " : "", name ? name : "?");
    }
}

/* The number and the order of the directories are part of what a cache is. */
static int compare_stripes(const char *dir, const json_t *there, const json_t *wanted, qs_err *e)
{
    int parts = parts_of(there), part = part_of(there), wanted_parts = parts_of(wanted),
        wanted_part = part_of(wanted);
    char names[400];
    list_directories(there, names, sizeof names);
    if (parts == 1 && wanted_parts > 1)
        QS_FAIL(e, QS_EFORMAT,
                "%s: holds a whole cache where --cache makes it part %d of %d; name it alone, delete it, or "
                "choose other directories "
                "with --cache",
                dir, wanted_part, wanted_parts);
    if (parts != wanted_parts || part != wanted_part)
        QS_FAIL(e, QS_EFORMAT,
                "%s: holds part %d of a cache over %d directories (%s) where --cache makes it part %d of %d; "
                "name them all in that order, "
                "or delete them all",
                dir, part, parts, names, wanted_part, wanted_parts);
    json_int_t unit = json_integer_value(json_object_get(json_object_get(there, "stripe"), "unit"));
    if (parts > 1 && unit != (json_int_t)QS_CACHE_STRIPE_BYTES)
        QS_FAIL(e, QS_EFORMAT,
                "%s: holds part of a cache striped by %lld bytes where this program takes %llu; delete all "
                "its directories",
                dir, (long long)unit, (unsigned long long)QS_CACHE_STRIPE_BYTES);
    return 0;
}

/* Whether the manifest that is there describes what this run needs: GOOD or OLD in *state, or why not. */
static int compare(const char *dir, const json_t *there, const json_t *wanted, state *out, qs_err *e)
{
    json_int_t version = json_integer_value(json_object_get(there, "version"));
    bool old = version == OLD_WHOLE || (version == OLD_STRIPED && json_object_get(there, "stripe"));
    if (!old && version != VERSION)
        QS_FAIL(e, QS_EFORMAT, "%s: holds a cache of version %lld where this program makes version %d; %s",
                dir, (long long)version, VERSION, advice);
    if (!old && !json_equal(json_object_get(there, "fingerprint"), json_object_get(wanted, "fingerprint")))
        QS_FAIL(e, QS_EFORMAT, "%s: holds a cache of other weights (%s, %s) than this run's (%s, %s); %s",
                dir, text_of(there, "model"), text_of(there, "fingerprint"), text_of(wanted, "model"),
                text_of(wanted, "fingerprint"), advice);
    if (!json_equal(json_object_get(there, "format"), json_object_get(wanted, "format")))
        QS_FAIL(e, QS_EFORMAT, "%s: holds a cache in the form \"%s\" where this run needs \"%s\"; %s", dir,
                text_of(there, "format"), text_of(wanted, "format"), advice);
    if (!json_equal(json_object_get(there, "blob_bytes"), json_object_get(wanted, "blob_bytes")))
        QS_FAIL(e, QS_EFORMAT, "%s: holds a cache whose layers have other sizes than this run's; %s", dir,
                advice);
    *out = old ? OLD : GOOD;
    return compare_stripes(dir, there, wanted, e);
}

static bool holds_data(const char *dir)
{
    char *blobs = qs_path_join(dir, "blobs.bin"), *journal = qs_path_join(dir, "journal.bin");
    bool holds = qs_file_exists(blobs) || qs_file_exists(journal);
    qs_free(blobs);
    qs_free(journal);
    return holds;
}

int qs_cache_manifest_read(const char *dir, json_t **out, qs_err *e)
{
    char *path = qs_path_join(dir, QS_CACHE_MANIFEST_NAME), *text = NULL, sum[17];
    size_t bytes;
    int rc = qs_file_read(path, MANIFEST_MAX_BYTES, &text, &bytes, e);
    json_error_t why = {.text = "its checksum is wrong"};
    *out = rc ? NULL : json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    if (*out &&
        (json_object_get(*out, "xxh3") || json_integer_value(json_object_get(*out, "version")) == VERSION)) {
        sum_of(*out, sum);
        if (strcmp(sum, text_of(*out, "xxh3"))) {
            json_decref(*out);
            *out = NULL;
        }
    }
    if (!rc && !*out)
        rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "%s: is damaged (%s)", path, why.text);
    qs_free(text);
    qs_free(path);
    return rc;
}

/* The state of one directory's manifest, or why the cache is another one. */
static int check_one(const char *dir, const json_t *wanted, bool asked, state *out, bool *dated, qs_err *e)
{
    json_t *there;
    int rc = qs_cache_manifest_read(dir, &there, e);
    *out = rc == -QS_EMISSING && !holds_data(dir) ? MISSING : DAMAGED;
    if (rc) return rc == -QS_EIO ? rc : 0;
    rc = compare(dir, there, wanted, out, e);
    *dated |= !rc && *out == GOOD && asked &&
              !json_equal(json_object_get(there, "dates"), json_object_get(wanted, "dates"));
    json_decref(there);
    return rc;
}

int qs_cache_manifests_check(char *const *dirs, int count, const qs_cache_key *key, bool known,
                             qs_cache_manifests *out, qs_err *e)
{
    int missing = -1, filled = -1, damaged = -1;
    *out = (qs_cache_manifests){0};
    for (int i = 0; i < count; i++) {
        state s = DAMAGED;
        json_t *wanted = manifest_json(dirs, count, i, key, e);
        if (!wanted) return -QS_EINVAL;
        int rc = check_one(dirs[i], wanted, key->dates != 0, &s, &out->dated, e);
        json_decref(wanted);
        QS_TRY(rc);
        (*(s == GOOD      ? &out->good
           : s == MISSING ? &out->missing
           : s == DAMAGED ? &out->damaged
                          : &out->old))++;
        if (s == MISSING && missing < 0) missing = i;
        if (s == DAMAGED && damaged < 0) damaged = i;
        if (filled < 0 && holds_data(dirs[i])) filled = i;
    }
    if (missing >= 0 && filled >= 0)
        QS_FAIL(e, QS_EFORMAT,
                "%s: part %d of the cache whose part %d is in %s is missing here; mount its disk or name its "
                "directory with --cache, or "
                "delete the other parts to make it again",
                dirs[missing], missing + 1, filled + 1, dirs[filled]);
    if (damaged >= 0 && !known && !out->good)
        QS_FAIL(e, QS_EFORMAT,
                "%s/%s: is damaged or missing, and nothing beside it says that the files there are a cache "
                "of this model; delete them or choose "
                "another directory with --cache",
                dirs[damaged], QS_CACHE_MANIFEST_NAME);
    return 0;
}

int qs_cache_manifests_write(char *const *dirs, int count, const qs_cache_key *key, bool all, qs_err *e)
{
    int rc = 0;
    for (int i = 0; !rc && i < count; i++) {
        char *path = qs_path_join(dirs[i], QS_CACHE_MANIFEST_NAME);
        json_t *wanted = manifest_json(dirs, count, i, key, e);
        QS_ASSERT(wanted); /* the check made the same */
        state s = DAMAGED;
        bool dated = false;
        qs_err ignored = {0};
        if (all || check_one(dirs[i], wanted, false, &s, &dated, &ignored) || s != GOOD) {
            char *text = json_dumps(wanted, JSON_INDENT(1));
            rc = qs_file_replace(path, text, strlen(text), e);
            free(text); /* lint: allow free, jansson allocated it */
        }
        json_decref(wanted);
        qs_free(path);
    }
    return rc;
}
