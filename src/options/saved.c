#include "src/options/saved.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "io/file.h"
#include "io/numbered.h"
#include "io/seal.h"
#include "src/base/log.h"
#include "src/base/hash.h"
#include "src/base/memory.h"

enum { MAX_BYTES = 1 << 20 };

/* ---- paths ------------------------------------------------------------------------------------------- */

char *qs_absolute_path(const char *path)
{
    char here[4096] = "";
    if (*path != '/' && !getcwd(here, sizeof here)) return qs_strdup(path);
    while (path[0] == '.' && path[1] == '/') path += 2 + strspn(path + 2, "/");
    char *full = *path == '/'         ? qs_strdup(path)
                 : !strcmp(path, ".") ? qs_strdup(here)
                                      : qs_printf("%s/%s", strcmp(here, "/") ? here : "", path);
    for (size_t n = strlen(full); n > 1 && full[n - 1] == '/'; n--) full[n - 1] = 0;
    return full;
}

static void make_absolute(char **path)
{
    char *full = qs_absolute_path(*path);
    qs_free(*path);
    *path = full;
}

/* A copy that owns its values, with every path from the root. Freed with qs_options_free. */
static void copy_of(const qs_options *o, qs_options *out)
{
    qs_option_set from = {&qs_training_options, (void *)(uintptr_t)o}, to = {&qs_training_options, out};
    char *yaml = qs_option_to_yaml(&from, 1);
    qs_err e = {0};
    qs_option_defaults(&to, 1);
    int rc = qs_option_read_yaml(&to, 1, "the options", yaml, strlen(yaml), QS_FROM_CONFIG, &e);
    if (rc) qs_out_of_memory(strlen(yaml)); /* what it wrote it reads, unless its parser gets no memory */
    qs_free(yaml);
    for (int r = 0; r < qs_training_options.count; r++) {
        const qs_option *row = &qs_training_options.rows[r];
        void *value = (char *)out + row->offset;
        if (row->type == QS_OPT_PATH && *(char **)value) make_absolute(value);
        for (int i = 0; row->type == QS_OPT_PATHS && i < ((qs_strings *)value)->count; i++)
            make_absolute(&((qs_strings *)value)->items[i]);
    }
}

/* ---- writing ----------------------------------------------------------------------------------------- */

static void forget(char **text)
{
    qs_free(*text);
    *text = NULL;
}

char *qs_saved_options_text(const qs_options *o)
{
    qs_options shown = {
        0}; /* what only led to the options is left out, so that the file can be used as --config */
    copy_of(o, &shown);
    forget(&shown.config);
    forget(&shown.preset);
    forget(&shown.resume);
    shown.stop_at_step = 0;
    shown.quiet = shown.verbose = shown.recalibrate = false;
    if (qs_options_source_of(o, "cache") == QS_FROM_DEFAULT) qs_strings_clear(&shown.cache);
    char *yaml = qs_option_to_yaml(&(qs_option_set){&qs_training_options, &shown}, 1), seal[QS_SEAL_BYTES];
    char *text = qs_printf("# The options in effect for this run, defaults included.\n\n%s", yaml);
    qs_seal_make(&qs_seal_comment, text, strlen(text), seal);
    char *sealed = qs_printf("%s%s", text, seal);
    qs_free(text);
    qs_free(yaml);
    qs_options_free(&shown);
    return sealed;
}

int qs_saved_options_write(const qs_options *o, const char *path, qs_err *e)
{
    char *text = qs_saved_options_text(o);
    int rc = qs_file_replace(path, text, strlen(text), e);
    qs_free(text);
    return rc;
}

/* ---- finding ----------------------------------------------------------------------------------------- */

/* 0 when the file is there and whole; QS_EMISSING, QS_EFORMAT, QS_EIO. */
static int read_whole(const char *path, char **text, size_t *bytes, qs_err *e)
{
    QS_TRY(qs_file_read(path, MAX_BYTES, text, bytes, e));
    if (qs_seal_check(&qs_seal_comment, *text, *bytes) == QS_SEAL_HOLDS) return 0;
    qs_free(*text);
    *text = NULL;
    QS_FAIL(e, QS_EFORMAT, "%s: is not as this program wrote it: damaged, edited, or of an earlier version",
            path);
}

static int check_whole(const char *path, qs_err *e)
{
    char *text = NULL;
    size_t bytes;
    int rc = read_whole(path, &text, &bytes, e);
    qs_free(text);
    return rc;
}

static int newest_of_checkpoints(const char *out, char **path, qs_err *e)
{
    int64_t *steps;
    int count;
    QS_TRY(qs_numbered_list(out, QS_CHECKPOINT, &steps, &count, e));
    for (int i = count - 1; i >= 0 && !*path; i--) {
        char *dir = qs_numbered_path(out, QS_CHECKPOINT, steps[i]),
             *candidate = qs_path_join(dir, QS_SAVED_OPTIONS);
        if (!check_whole(candidate, NULL)) *path = qs_strdup(candidate);
        qs_free(candidate);
        qs_free(dir);
    }
    qs_free(steps);
    return 0;
}

int qs_saved_options_find(const char *out, const char *resume, char **path, qs_err *e)
{
    *path = NULL;
    bool latest = !strcmp(resume, "latest");
    if (!latest && !qs_file_exists(resume))
        QS_FAIL(e, QS_EMISSING, "%s: there is no such checkpoint to resume (the folder does not exist)",
                resume);
    if (latest && !out) return 0;
    if (latest && !qs_file_exists(out))
        QS_FAIL(e, QS_EMISSING, "%s: there is no such run to resume (the folder does not exist)", out);
    if (!latest && (!out || !qs_path_lies_in(resume, out))) {
        *path = qs_path_join(resume, QS_SAVED_OPTIONS);
        if (!check_whole(*path, NULL)) return 0;
        forget(path); /* whoever reads the checkpoint says what is wrong with it */
        return 0;
    }
    qs_err why = {0};
    *path = qs_path_join(out, QS_SAVED_OPTIONS);
    int rc = check_whole(*path, &why);
    if (!rc) return 0;
    forget(path);
    QS_TRY(newest_of_checkpoints(out, path, e));
    if (*path && rc != -QS_EMISSING)
        qs_warn("%s; it is passed over, and the options are those of %s", why.text, *path);
    else if (!*path && rc == -QS_EMISSING)
        QS_FAIL(e, QS_EMISSING, "%s holds no run to resume (there is no %s); start it without --resume", out,
                QS_SAVED_OPTIONS);
    else if (!*path)
        QS_FAIL(e, QS_EFORMAT,
                "%s, and no checkpoint beside it has whole options; give a --config of your own, or another "
                "--out",
                why.text);
    return 0;
}

/* ---- comparing --------------------------------------------------------------------------------------- */

uint64_t qs_saved_options_key(const qs_options *o)
{
    XXH3_state_t *state = qs_hash_create();
    XXH3_64bits_reset(state);
    for (int r = 0; r < qs_training_options.count; r++) {
        const qs_option *row = &qs_training_options.rows[r];
        if (row->resume != QS_RESUME_SAME) continue;
        char *text = qs_option_text(row, o);
        XXH3_64bits_update(state, row->name, strlen(row->name) + 1);
        XXH3_64bits_update(state, text, strlen(text) + 1);
        qs_free(text);
    }
    uint64_t key = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return key;
}

int qs_saved_options_check(const qs_options *o, const char *path, qs_err *e)
{
    qs_options saved = {0}, given = {0};
    qs_option_set then = {&qs_training_options, &saved}, now = {&qs_training_options, &given};
    char *text = NULL, changed[QS_ERR_TEXT] = "";
    size_t bytes, used = 0;
    qs_option_defaults(&then, 1);
    copy_of(o, &given);
    int rc = read_whole(path, &text, &bytes, e);
    if (!rc) rc = qs_option_read_yaml(&then, 1, path, text, bytes, QS_FROM_CONFIG, e);
    for (int r = 0; !rc && r < qs_training_options.count; r++) {
        const qs_option *row = &qs_training_options.rows[r];
        if (row->resume == QS_RESUME_FREE) continue;
        char *a = qs_option_text(row, then.values), *b = qs_option_text(row, now.values);
        if (strcmp(a, b) && row->resume == QS_RESUME_WARN)
            qs_warn("%s was %s when the run began and is now %s", row->name, a, b);
        else if (strcmp(a, b) && used < sizeof changed)
            used += (size_t)snprintf(changed + used, sizeof changed - used, "%s%s was %s, now %s",
                                     used ? "; " : "", row->name, a, b);
        qs_free(a);
        qs_free(b);
    }
    qs_free(text);
    qs_options_free(&saved);
    qs_options_free(&given);
    if (!rc && used)
        QS_FAIL(e, QS_EUSAGE,
                "%s: a resumed run keeps the options that decide its result; give them as before, or another "
                "--out (%s)",
                path, changed);
    return rc;
}
