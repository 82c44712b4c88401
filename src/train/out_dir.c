#include "src/train/out_dir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/numbered.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/options/saved.h"
#include "src/train/checkpoints.h"

static const char metrics_name[] = "metrics.jsonl", events_prefix[] = "events.out.tfevents.";

static bool has(const char *dir, const char *name)
{
    char *path = qs_path_join(dir, name);
    bool there = qs_file_exists(path);
    qs_free(path);
    return there;
}

/* ---- whose folder it is ------------------------------------------------------------------------------ */

/* Whether metrics.jsonl has the row of a step. */
static bool has_steps(const char *dir)
{
    char *path = qs_path_join(dir, metrics_name), line[4096];
    FILE *f = fopen(path, "re");
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f)) found = strstr(line, "\"loss\":") != NULL;
    if (f) fclose(f);
    qs_free(path);
    return found;
}

static int has_run(const char *dir, bool *yes, qs_err *e)
{
    int64_t *steps;
    int count;
    QS_TRY(qs_numbered_list(dir, QS_CHECKPOINT, &steps, &count, e));
    *yes = has_steps(dir) || (count && steps[count - 1] > 0) ||
           (has(dir, QS_SAVED_OPTIONS) && has(dir, "adapter_model.safetensors"));
    qs_free(steps);
    return 0;
}

/* A model or an adapter that no run of ours left here. */
static int refuse_foreign(const char *dir, qs_err *e)
{
    static const char *const adapter[] = {"adapter_config.json", "adapter_model.safetensors",
                                          "adapter_model.bin"};
    static const char *const model[] = {
        "config.json",       "model.safetensors", "model.safetensors.index.json",
        "pytorch_model.bin", "tokenizer.json",    "tokenizer.model"};
    for (size_t i = 0; i < sizeof adapter / sizeof *adapter; i++)
        if (has(dir, adapter[i]))
            QS_FAIL(e, QS_EINVAL,
                    "%s already holds an adapter (%s), which this run would overwrite; choose another --out",
                    dir, adapter[i]);
    for (size_t i = 0; i < sizeof model / sizeof *model; i++)
        if (has(dir, model[i]))
            QS_FAIL(e, QS_EINVAL,
                    "%s holds a model (%s); a run needs a folder of its own: choose another --out", dir,
                    model[i]);
    return 0;
}

static int look(qs_out_dir *o, const char *resume, qs_err *e)
{
    bool run;
    o->fresh = !resume || (strcmp(resume, "latest") && !qs_path_lies_in(resume, o->path));
    if (!o->fresh) return 0;
    QS_TRY(has_run(o->path, &run, e));
    if (run && resume)
        QS_FAIL(e, QS_EINVAL, "%s already holds a run, and %s is of another one; choose another --out",
                o->path, resume);
    if (run)
        QS_FAIL(e, QS_EINVAL, "%s already holds a run; go on with it by --resume, or choose another --out",
                o->path);
    QS_TRY(refuse_foreign(o->path, e));
    if (has(o->path, QS_SAVED_OPTIONS))
        qs_info("%s: the run that was begun there had not made a step; a new one begins", o->path);
    return 0;
}

/* ---- making it --------------------------------------------------------------------------------------- */

/* The topmost part of path that does not exist yet; NULL when all of it does. */
static char *first_missing(const char *path)
{
    char *missing = NULL, *at = qs_strdup(path);
    while (!qs_file_exists(at)) {
        qs_free(missing);
        missing = at;
        at = qs_path_parent(at);
    }
    qs_free(at);
    return missing;
}

int qs_out_dir_open(const char *path, const char *resume, qs_out_dir *o, qs_err *e)
{
    *o = (qs_out_dir){.path = qs_absolute_path(path), .lock = {.fd = -1}};
    bool latest = resume && !strcmp(resume, "latest");
    if (latest && !qs_file_exists(o->path))
        QS_FAIL(e, QS_EMISSING, "%s: there is no such run to resume (the folder does not exist)", o->path);
    o->made = first_missing(o->path);
    QS_TRY(qs_dir_create(o->path, e));
    QS_TRY(qs_out_lock_take(o->path, &o->lock, e));
    return look(o, resume, e);
}

/* ---- taking back ------------------------------------------------------------------------------------- */

static void remove_file(const char *dir, const char *name)
{
    char *path = qs_path_join(dir, name);
    unlink(path);
    qs_free(path);
}

static void remove_events(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (!strncmp(entry->d_name, events_prefix, sizeof events_prefix - 1))
            unlinkat(dirfd(d), entry->d_name, 0);
    if (d) closedir(d);
}

/* Of a folder that had no run: the state before the first step. */
static void remove_states(const char *dir)
{
    qs_err e = {0};
    int64_t *steps;
    int count, rc = qs_numbered_list(dir, QS_CHECKPOINT, &steps, &count, &e);
    for (int i = 0; i < count && !rc; i++) {
        char *path = qs_numbered_path(dir, QS_CHECKPOINT, steps[i]);
        rc = qs_dir_remove(path, &e);
        qs_free(path);
    }
    qs_free(steps);
    if (rc) qs_warn("%s", e.text);
}

void qs_out_dir_begin(qs_out_dir *o)
{
    o->begun = true;
    qs_checkpoints_tidy(o->path);
    if (o->fresh) remove_states(o->path);
}

static void undo(const qs_out_dir *o)
{
    qs_checkpoints_tidy(o->path);
    remove_states(o->path);
    remove_file(o->path, QS_SAVED_OPTIONS);
    remove_file(o->path, metrics_name);
    if (o->made) remove_events(o->path); /* in a folder that was there they may be somebody else's */
}

/* Upwards from OUT as far as the folders are ours and empty. */
static void remove_made(const qs_out_dir *o)
{
    char *at = qs_strdup(o->path);
    while (!rmdir(at) && strcmp(at, o->made)) {
        char *up = qs_path_parent(at);
        qs_free(at);
        at = up;
    }
    qs_free(at);
}

void qs_out_dir_close(qs_out_dir *o, bool undone)
{
    if (undone && o->begun && o->fresh) undo(o);
    qs_out_lock_release(&o->lock);
    if (undone && o->made) remove_made(o);
    qs_free(o->path);
    qs_free(o->made);
    *o = (qs_out_dir){.lock = {.fd = -1}};
}
