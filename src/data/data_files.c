#include "src/data/data_files.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"

enum { MAX_DEPTH = 4, MAX_FILES = 100000 };

static void add(qs_data_files *f, const char *path, double weight)
{
    f->paths = qs_realloc(f->paths, (size_t)(f->count + 1) * sizeof *f->paths);
    f->weights = qs_realloc(f->weights, (size_t)(f->count + 1) * sizeof *f->weights);
    f->paths[f->count] = qs_strdup(path);
    f->weights[f->count++] = weight;
}

static void drop(qs_data_files *f, int i)
{
    qs_free(f->paths[i]);
    memmove(f->paths + i, f->paths + i + 1, (size_t)(f->count - i - 1) * sizeof *f->paths);
    memmove(f->weights + i, f->weights + i + 1, (size_t)(f->count - i - 1) * sizeof *f->weights);
    f->count--;
}

void qs_data_files_free(qs_data_files *f)
{
    for (int i = 0; i < f->count; i++) qs_free(f->paths[i]);
    qs_free(f->paths);
    qs_free(f->weights);
    *f = (qs_data_files){0};
}

static bool exists(const char *path, bool *directory)
{
    struct stat st;
    if (stat(path, &st)) return false;
    *directory = S_ISDIR(st.st_mode);
    return true;
}

/* ---- directories ------------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *tail)
{
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcasecmp(s + n - m, tail) == 0;
}

/* Files of data by their names. Formats that are not read are among them, so that they are named rather than
 * passed over. */
static bool is_data_name(const char *name)
{
    static const char *const formats[] = {".jsonl", ".json", ".ndjson",  ".csv",
                                          ".tsv",   ".txt",  ".parquet", ".arrow"},
                             *const packers[] = {"", ".gz", ".xz", ".zst", ".zstd", ".bz2"},
                             *const others[] = {"dataset_info.json", "dataset_infos.json", "state.json",
                                                "dataset_dict.json", "readme.txt",         "license.txt",
                                                "config.json",       "requirements.txt"};
    if (*name == '.') return false;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcasecmp(name, others[i]) == 0) return false;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        for (size_t k = 0; k < sizeof packers / sizeof *packers; k++) {
            char tail[24];
            snprintf(tail, sizeof tail, "%s%s", formats[i], packers[k]);
            if (ends_with(name, tail)) return true;
        }
    return false;
}

static int walk(const char *dir, int depth, double weight, qs_data_files *out, qs_err *e)
{
    struct dirent **list;
    int n = scandir(dir, &list, NULL, alphasort), rc = 0;
    if (n < 0) QS_FAIL(e, QS_EIO, "data directory %s: cannot be read: %s", dir, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *path = qs_path_join(dir, list[i]->d_name);
        bool directory;
        if (!rc && *list[i]->d_name != '.' && exists(path, &directory)) {
            if (directory && depth < MAX_DEPTH)
                rc = walk(path, depth + 1, weight, out, e);
            else if (!directory && is_data_name(list[i]->d_name))
                add(out, path, weight);
            if (!rc && out->count > MAX_FILES)
                rc = qs_err_set(e, QS_EINVAL, __FILE__, __LINE__,
                                "data directory %s: holds more than %d files", dir, MAX_FILES);
        }
        qs_free(path);
        free(list[i]); /* lint: allow free, scandir allocated it */
    }
    free(list); /* lint: allow free, scandir allocated it */
    return rc;
}

typedef enum part { PART_TRAIN, PART_VALID, PART_TEST, PART_NONE } part;

static part part_of(const char *path)
{
    static const struct {
        const char *begins;
        part part;
    } parts[] = {{"train", PART_TRAIN}, {"valid", PART_VALID}, {"dev", PART_VALID},  {"eval", PART_VALID},
                 {"val.", PART_VALID},  {"val-", PART_VALID},  {"val_", PART_VALID}, {"test", PART_TEST}};
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strncasecmp(name, parts[i].begins, strlen(parts[i].begins)) == 0) return parts[i].part;
    return PART_NONE;
}

/* Of the files from `first` on, keeps the part that is asked for, if the names tell parts at all. */
static void choose_part(const char *dir, bool validation, int first, qs_data_files *f)
{
    bool has[4] = {false};
    for (int i = first; i < f->count; i++) has[part_of(f->paths[i])] = true;
    if (validation ? !has[PART_VALID] : !has[PART_TRAIN]) return;
    int before = f->count;
    for (int i = f->count - 1; i >= first; i--) {
        part p = part_of(f->paths[i]);
        if (validation ? p != PART_VALID : p == PART_VALID || p == PART_TEST) drop(f, i);
    }
    if (f->count < before)
        qs_info("%s: %d files are taken for %s, %d others by their names not", dir, f->count - first,
                validation ? "validation" : "training", before - f->count);
}

static int take_directory(const char *dir, bool validation, double weight, qs_data_files *out, qs_err *e)
{
    int first = out->count;
    QS_TRY(walk(dir, 1, weight, out, e));
    if (out->count == first)
        QS_FAIL(e, QS_EMISSING,
                "data directory %s: holds no data files; expected .jsonl, .json, .csv, .tsv or .txt, also "
                "packed (.gz, .xz, .zst, .bz2)",
                dir);
    choose_part(dir, validation, first, out);
    return 0;
}

/* ---- words ------------------------------------------------------------------------------------------- */

static int nothing_there(const char *word, qs_err *e)
{
    const char *slash = strchr(word, '/'), *dot = strrchr(word, '.');
    if (strstr(word, "://"))
        QS_FAIL(e, QS_EMISSING,
                "data %s: is an address, and only local files are read; download it first, for instance: "
                "curl -L -O %s",
                word, word);
    bool one_slash = slash && slash != word && slash[1] && !strchr(slash + 1, '/');
    if (one_slash && *word != '.' && *word != '~' && !(dot && dot > slash && strlen(dot) <= 6))
        QS_FAIL(e, QS_EMISSING,
                "cannot open data file %s: there is no such file or directory here; if it is a data set on "
                "the Hugging Face hub, download it "
                "first: huggingface-cli download --repo-type dataset %s --local-dir DIR, then --data DIR",
                word, word);
    QS_FAIL(e, QS_EMISSING, "cannot open data file %s: No such file or directory", word);
}

static int take_pattern(const char *pattern, bool validation, double weight, qs_data_files *out, qs_err *e)
{
    glob_t g;
    int rc = glob(pattern, 0, NULL, &g), before = out->count;
    if (rc == GLOB_NOMATCH) QS_FAIL(e, QS_EMISSING, "data %s: no file matches this pattern", pattern);
    if (rc) QS_FAIL(e, QS_EIO, "data %s: the pattern cannot be followed: %s", pattern, strerror(errno));
    for (size_t i = 0; !rc && i < g.gl_pathc; i++) {
        bool directory;
        if (!exists(g.gl_pathv[i], &directory)) continue;
        if (directory)
            rc = take_directory(g.gl_pathv[i], validation, weight, out, e);
        else
            add(out, g.gl_pathv[i], weight);
    }
    globfree(&g);
    if (!rc && out->count == before)
        QS_FAIL(e, QS_EMISSING, "data %s: no file matches this pattern", pattern);
    return rc;
}

static int take_path(const char *path, bool validation, double weight, qs_data_files *out, qs_err *e)
{
    bool directory;
    if (exists(path, &directory)) {
        if (directory) return take_directory(path, validation, weight, out, e);
        add(out, path, weight);
        return 0;
    }
    if (strpbrk(path, "*?[")) return take_pattern(path, validation, weight, out, e);
    return nothing_there(path, e);
}

static int take_word(const char *word, bool validation, qs_data_files *out, qs_err *e)
{
    bool directory;
    const char *colon = strrchr(word, ':');
    char *end = NULL;
    double weight = colon ? strtod(colon + 1, &end) : 0;
    if (exists(word, &directory) || !colon || end == colon + 1 || *end)
        return take_path(word, validation, 1, out, e);
    if (!(weight > 0) || !isfinite(weight) || weight > 1000)
        QS_FAIL(e, QS_EINVAL, "data %s: a weight must be above 0 and at most 1000", word);
    char *path = qs_strndup(word, (size_t)(colon - word));
    int rc = take_path(path, validation, weight, out, e);
    qs_free(path);
    return rc;
}

int qs_data_files_find(const char *const *words, int count, bool validation, qs_data_files *out, qs_err *e)
{
    *out = (qs_data_files){0};
    for (int i = 0; i < count; i++) QS_TRY(take_word(words[i], validation, out, e));
    for (int i = 0; i < out->count; i++)
        for (int k = 0; k < i && out->count < 1000; k++)
            if (strcmp(out->paths[i], out->paths[k]) == 0)
                QS_FAIL(e, QS_EINVAL,
                        "data file %s: is given twice; a weight says how often its rows come: %s:2",
                        out->paths[i], out->paths[i]);
    return 0;
}
