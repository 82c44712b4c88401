#include "io/checkpoint_source.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "io/checkpoint_identity.h"
#include "io/file.h"
#include "io/file_kind.h"
#include "io/safetensors.h"
#include "io/synthetic.h"
#include "io/tensor_name.h"
#include "src/base/log.h"
#include "src/base/memory.h"

/* A weight_map line is some 100 bytes; the largest models have some 100,000 tensors. */
#define INDEX_MAX_BYTES ((size_t)256 << 20)
#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

typedef struct shard {
    char *name;
    qs_aio_file file;
    qs_safetensors header;
} shard;

typedef struct alias {
    char *name;
    const qs_source_tensor *tensor;
} alias;

struct qs_source {
    char *dir;
    shard *shards;
    int shard_count;
    const qs_source_tensor **tensors; /* [count] by name */
    int count;
    alias *aliases; /* [alias_count] by name */
    int alias_count;
    char fingerprint[QS_IDENTITY_DIGITS + 1]; /* empty until it was identified */
    bool generated;                           /* the tensors are the recipe's; no shards */
    qs_synthetic recipe;
};

static int open_shard(qs_source *s, const char *name, qs_err *e)
{
    shard *sh = &s->shards[s->shard_count];
    sh->name = qs_strdup(name);
    s->shard_count++;
    char *path = qs_path_join(s->dir, name);
    int rc = qs_safetensors_open(path, &sh->header, e);
    if (!rc) rc = qs_aio_file_open(&sh->file, path, QS_FILE_READ, e);
    qs_free(path);
    for (int i = 0; i < sh->header.count; i++) sh->header.tensors[i].file = s->shard_count - 1;
    return rc;
}

static int by_string(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A shard lies beside its index: anything that could lead elsewhere is refused. */
static bool is_plain_name(const char *name)
{
    return *name && !strchr(name, '/') && !strchr(name, '\\') && strcmp(name, ".") && strcmp(name, "..");
}

/* Opens the shards that the index names, each once, in name order. */
static int open_indexed(qs_source *s, const char *index_path, json_t *map, qs_err *e)
{
    size_t n = json_object_size(map), count = 0;
    if (!n) QS_FAIL(e, QS_EFORMAT, "%s: has no weight_map, or an empty one", index_path);
    const char **names = qs_calloc(n, sizeof *names), *key;
    json_t *value;
    int rc = 0;
    json_object_foreach(map, key, value)
    {
        const char *name = json_string_value(value);
        if (!name || !is_plain_name(name)) {
            rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                            "%s: places tensor %s in %s, which is not the name of a file beside it",
                            index_path, key, name ? name : "something that is not text");
            break;
        }
        names[count++] = name;
    }
    if (!rc) {
        qsort(names, count, sizeof *names, by_string);
        s->shards = qs_calloc(count, sizeof *s->shards);
        for (size_t i = 0; i < count && !rc; i++)
            if (!i || strcmp(names[i], names[i - 1])) {
                rc = open_shard(s, names[i], e);
                if (rc == -QS_EMISSING)
                    rc = qs_err_set(e, QS_EMISSING, __FILE__, __LINE__,
                                    "%s/%s: is missing, but %s names it; download the model again", s->dir,
                                    names[i], INDEX_NAME);
            }
    }
    qs_free(names);
    return rc;
}

static int by_name(const void *a, const void *b)
{
    const qs_source_tensor *x = *(const qs_source_tensor *const *)a, *y = *(const qs_source_tensor *const *)b;
    return strcmp(x->name, y->name);
}

/* All tensors of all shards, sorted; a name must not come twice. */
static int collect(qs_source *s, qs_err *e)
{
    size_t total = 0;
    for (int k = 0; k < s->shard_count; k++) total += (size_t)s->shards[k].header.count;
    s->tensors = qs_calloc(total, sizeof *s->tensors);
    for (int k = 0; k < s->shard_count; k++)
        for (int i = 0; i < s->shards[k].header.count; i++)
            s->tensors[s->count++] = &s->shards[k].header.tensors[i];
    qsort(s->tensors, total, sizeof *s->tensors, by_name);
    for (int i = 1; i < s->count; i++)
        if (!by_name(&s->tensors[i - 1], &s->tensors[i]))
            QS_FAIL(e, QS_EFORMAT, "%s: tensor %s is both in %s and in %s", s->dir, s->tensors[i]->name,
                    s->shards[s->tensors[i - 1]->file].name, s->shards[s->tensors[i]->file].name);
    return 0;
}

static const qs_source_tensor *find_exact(const qs_source *s, const char *name)
{
    const qs_source_tensor key = {.name = name}, *at = &key;
    const qs_source_tensor **found = bsearch(&at, s->tensors, (size_t)s->count, sizeof *s->tensors, by_name);
    return found ? *found : NULL;
}

/* The index has the last word: each of its tensors must be where it says, and what it does not list does not
 * exist. */
static int apply_index(qs_source *s, const char *index_path, json_t *map, qs_err *e)
{
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value)
    {
        const qs_source_tensor *t = find_exact(s, key);
        if (!t || strcmp(s->shards[t->file].name, json_string_value(value)))
            QS_FAIL(e, QS_EFORMAT, "%s: places tensor %s in %s, where it is not; download the model again",
                    index_path, key, json_string_value(value));
    }
    int kept = 0;
    for (int i = 0; i < s->count; i++)
        if (json_object_get(map, s->tensors[i]->name)) s->tensors[kept++] = s->tensors[i];
    s->count = kept;
    return 0;
}

static int alias_by_name(const void *a, const void *b)
{
    return strcmp(((const alias *)a)->name, ((const alias *)b)->name);
}

static void add_alias(qs_source *s, const char *name, const qs_source_tensor *tensor)
{
    if (!find_exact(s, name)) s->aliases[s->alias_count++] = (alias){qs_strdup(name), tensor};
}

/* Other names by which tensors may be asked for: those that were dropped because another tensor shares their
 * storage (metadata entries whose value is a tensor), and those that are left without the prefixes that
 * wrappers put before them. */
static void collect_aliases(qs_source *s)
{
    size_t most = (size_t)s->count;
    char plain[QS_TENSOR_NAME_BYTES];
    for (int k = 0; k < s->shard_count; k++) most += (size_t)s->shards[k].header.metadata_count;
    s->aliases = qs_calloc(most, sizeof *s->aliases);
    for (int k = 0; k < s->shard_count; k++)
        for (int i = 0; i < s->shards[k].header.metadata_count; i++) {
            char *const *pair = &s->shards[k].header.metadata[2 * i];
            const qs_source_tensor *t = find_exact(s, pair[1]);
            if (t) add_alias(s, pair[0], t);
        }
    for (int i = 0; i < s->count; i++)
        if (qs_tensor_plain_name(s->tensors[i]->name, plain)) add_alias(s, plain, s->tensors[i]);
    qsort(s->aliases, (size_t)s->alias_count, sizeof *s->aliases, alias_by_name);
}

/* {"weight_map": {tensor: shard}} of the index, or an error. *root owns it. */
static int load_index(const char *path, json_t **root, json_t **map, qs_err *e)
{
    char *text;
    size_t bytes;
    QS_TRY(qs_file_read(path, INDEX_MAX_BYTES, &text, &bytes, e));
    json_error_t why;
    *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
    qs_free(text);
    if (!*root) {
        const char *trouble = qs_file_kind_trouble_at(path);
        if (trouble) QS_FAIL(e, QS_EFORMAT, "%s: is %s", path, trouble);
        QS_FAIL(e, QS_EFORMAT, "%s: is not valid JSON: %s at line %d", path, why.text, why.line);
    }
    *map = json_object_get(*root, "weight_map");
    return 0;
}

static void take_recipe(qs_source *s)
{
    s->tensors = qs_calloc((size_t)s->recipe.count, sizeof *s->tensors);
    for (; s->count < s->recipe.count; s->count++) s->tensors[s->count] = &s->recipe.tensors[s->count];
    qsort(s->tensors, (size_t)s->count, sizeof *s->tensors, by_name);
    memcpy(s->fingerprint, s->recipe.fingerprint, sizeof s->fingerprint);
}

/* A directory without safetensors but with a recipe. */
static int open_recipe(qs_source *s, const char *path, qs_err *e)
{
    s->generated = true;
    QS_TRY(qs_synthetic_open(path, &s->recipe, e));
    take_recipe(s);
    return 0;
}

static int open_model(qs_source *s, qs_err *e)
{
    char *index_path = qs_path_join(s->dir, INDEX_NAME), *single_path = qs_path_join(s->dir, SINGLE_NAME),
         *recipe_path = qs_path_join(s->dir, QS_SYNTHETIC_NAME);
    json_t *root = NULL, *map = NULL;
    int rc;
    if (!qs_file_exists(s->dir)) {
        rc = qs_err_set(e, QS_EMISSING, __FILE__, __LINE__, "%s: there is no such model directory", s->dir);
    } else if (qs_file_exists(single_path)) {
        if (qs_file_exists(index_path))
            qs_warn("%s: there is also a %s beside it; the single file is read, as transformers does, and "
                    "the shards of the index are not",
                    single_path, INDEX_NAME);
        s->shards = qs_calloc(1, sizeof *s->shards);
        rc = open_shard(s, SINGLE_NAME, e);
    } else if (qs_file_exists(index_path)) {
        rc = load_index(index_path, &root, &map, e);
        if (!rc) rc = open_indexed(s, index_path, map, e);
    } else if (qs_file_exists(recipe_path)) {
        rc = open_recipe(s, recipe_path, e);
    } else {
        rc = qs_err_set(e, QS_EMISSING, __FILE__, __LINE__,
                        "%s: has neither %s nor %s; checkpoints in other forms (pytorch_model.bin, *.pth, "
                        "*.gguf) must be converted to "
                        "safetensors first",
                        s->dir, SINGLE_NAME, INDEX_NAME);
    }
    if (!rc && !s->generated) rc = collect(s, e);
    if (!rc && map) rc = apply_index(s, index_path, map, e);
    if (!rc) collect_aliases(s);
    json_decref(root);
    qs_free(index_path);
    qs_free(single_path);
    qs_free(recipe_path);
    return rc;
}

int qs_source_open(const char *dir, qs_source **out, qs_err *e)
{
    qs_source *s = qs_calloc(1, sizeof *s);
    s->dir = qs_strdup(dir);
    int rc = open_model(s, e);
    if (rc) {
        qs_source_close(s);
        s = NULL;
    }
    *out = s;
    return rc;
}

int qs_source_open_recipe(const char *name, const char *text, size_t bytes, qs_source **out, qs_err *e)
{
    qs_source *s = qs_calloc(1, sizeof *s);
    s->dir = qs_strdup(name);
    s->generated = true;
    int rc = qs_synthetic_parse(name, text, bytes, &s->recipe, e);
    if (rc) {
        qs_source_close(s);
        s = NULL;
    } else {
        take_recipe(s);
        collect_aliases(s);
    }
    *out = s;
    return rc;
}

void qs_source_close(qs_source *s)
{
    if (!s) return;
    for (int k = 0; k < s->shard_count; k++) {
        qs_aio_file_close(&s->shards[k].file);
        qs_safetensors_free(&s->shards[k].header);
        qs_free(s->shards[k].name);
    }
    qs_synthetic_free(&s->recipe);
    qs_free(s->shards);
    qs_free(s->tensors);
    for (int i = 0; i < s->alias_count; i++) qs_free(s->aliases[i].name);
    qs_free(s->aliases);
    qs_free(s->dir);
    qs_free(s);
}

const qs_source_tensor *qs_source_find(const qs_source *s, const char *name)
{
    const qs_source_tensor *t = find_exact(s, name);
    if (t) return t;
    const alias key = {.name = (char *)(uintptr_t)name},
                *a = bsearch(&key, s->aliases, (size_t)s->alias_count, sizeof *s->aliases, alias_by_name);
    return a ? a->tensor : NULL;
}

int qs_source_count(const qs_source *s) { return s->count; }

const qs_source_tensor *qs_source_at(const qs_source *s, int i)
{
    QS_ASSERT(i >= 0 && i < s->count);
    return s->tensors[i];
}

int qs_source_files(const qs_source *s) { return s->generated ? 1 : s->shard_count; }

const char *qs_source_path(const qs_source *s, int file)
{
    QS_ASSERT(file >= 0 && file < qs_source_files(s));
    if (s->generated) return s->recipe.path;
    return s->shards[file].file.path;
}

char *qs_source_fingerprint_room(qs_source *s) { return s->fingerprint; }

const char *qs_source_fingerprint(const qs_source *s)
{
    QS_ASSERT(*s->fingerprint);
    return s->fingerprint;
}

uint64_t qs_source_dates(const qs_source *s)
{
    uint64_t hash = 0;
    for (int k = 0; k < s->shard_count; k++) {
        const shard *sh = &s->shards[k];
        struct stat st;
        char *text = fstat(sh->file.fd, &st)
                         ? NULL
                         : qs_printf("%s %lld %lld.%09ld", sh->name, (long long)st.st_size,
                                     (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        if (text) hash = XXH3_64bits_withSeed(text, strlen(text), hash);
        qs_free(text);
    }
    return hash;
}

void qs_source_read_start(qs_source *s, qs_aio *a, qs_source_read *r)
{
    const qs_source_tensor *t = r->tensor;
    QS_ASSERT(r->offset <= t->bytes && r->bytes <= t->bytes - r->offset);
    r->data = NULL;
    if (s->generated) return;
    const qs_aio_file *file = &s->shards[t->file].file;
    uint64_t begin = t->offset + r->offset, aligned = begin / file->align * file->align,
             end = qs_round_up(begin + r->bytes, file->align);
    /* The last unit of a file is short, so the superset may reach past the end. */
    r->op = (qs_aio_op){.file = file,
                        .buffer = r->buffer,
                        .offset = aligned,
                        .bytes = r->bytes ? end - aligned : 0,
                        .allow_eof = true};
    qs_aio_start(a, &r->op);
}

bool qs_source_read_done(qs_source *s, qs_aio *a, qs_source_read *r)
{
    return s->generated || qs_aio_done(a, &r->op);
}

int qs_source_read_finish(qs_source *s, qs_aio *a, qs_source_read *r, qs_err *e)
{
    const qs_source_tensor *t = r->tensor;
    if (s->generated) { /* only now, so that the bytes are still in the processor's cache when they are used
                         */
        qs_synthetic_generate(&s->recipe, t, r->offset, r->bytes, r->buffer);
        r->data = r->buffer;
        return 0;
    }
    QS_TRY(qs_aio_finish(a, &r->op, e));
    uint64_t skip = r->bytes ? t->offset + r->offset - r->op.offset : 0;
    if (r->op.done_bytes < skip + r->bytes)
        QS_FAIL(e, QS_EIO, "%s: has become shorter since it was opened, in the middle of tensor %s",
                r->op.file->path, t->name);
    r->data = (char *)r->buffer + skip;
    if (skip % qs_dtype_bytes(t->type)) r->data = memmove(r->buffer, r->data, r->bytes);
    return 0;
}
