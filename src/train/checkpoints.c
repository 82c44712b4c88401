#include "src/train/checkpoints.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io/file.h"
#include "io/numbered.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/train/set_aside.h"

void qs_checkpoints_free(qs_checkpoints *c)
{
    qs_free(c->seen);
    *c = (qs_checkpoints){0};
}

/* ---- left-overs -------------------------------------------------------------------------------------- */

void qs_checkpoints_tidy(const char *out)
{
    int64_t *steps;
    int count;
    qs_err e = {0};
    int rc = qs_numbered_list(out, QS_CHECKPOINT_TEMPORARY, &steps, &count, &e);
    for (int i = 0; i < count && !rc; i++) {
        char *path = qs_numbered_path(out, QS_CHECKPOINT_TEMPORARY, steps[i]);
        rc = qs_dir_remove(path, &e);
        qs_free(path);
    }
    qs_free(steps);
    if (rc) qs_warn("what an earlier process left unfinished stays: %s", e.text);
}

/* ---- standing aside ---------------------------------------------------------------------------------- */

int qs_checkpoints_set_aside(const char *out, int64_t step, qs_err *e)
{
    int64_t *steps;
    int count, rc = 0;
    QS_TRY(qs_numbered_list(out, QS_CHECKPOINT, &steps, &count, e));
    bool some = count && steps[count - 1] > step;
    for (int i = count - 1; i >= 0 && steps[i] > step && !rc; i--) {
        char *path = qs_numbered_path(out, QS_CHECKPOINT, steps[i]);
        rc = qs_set_aside(path, e);
        qs_free(path);
    }
    qs_free(steps);
    return rc || !some ? rc : qs_dir_sync(out, e);
}

/* ---- going ------------------------------------------------------------------------------------------- */

static qs_checkpoint_verdict *verdict_of(qs_checkpoints *c, int64_t step)
{
    for (int i = 0; i < c->count; i++)
        if (c->seen[i].step == step) return &c->seen[i];
    return NULL;
}

static qs_checkpoint_verdict *note(qs_checkpoints *c, int64_t step, bool whole)
{
    qs_checkpoint_verdict *v = verdict_of(c, step);
    if (!v) {
        c->seen = qs_realloc(c->seen, (size_t)(c->count + 1) * sizeof *c->seen);
        v = &c->seen[c->count++];
    }
    *v = (qs_checkpoint_verdict){step, whole};
    return v;
}

static void forget(qs_checkpoints *c, int64_t step)
{
    qs_checkpoint_verdict *v = verdict_of(c, step);
    if (v) *v = c->seen[--c->count];
}

void qs_checkpoints_know(qs_checkpoints *c, int64_t step) { note(c, step, true); }

static bool same_run(const qs_run_state *a, const qs_run_state *b)
{
    return a->options_key == b->options_key && !memcmp(a->data_key, b->data_key, sizeof a->data_key) &&
           !strcmp(a->fingerprint, b->fingerprint);
}

/* Whether the folder holds a checkpoint's files and nothing else. */
static bool only_ours(const char *path)
{
    DIR *d = opendir(path);
    bool ours = d != NULL;
    for (struct dirent *entry; ours && (entry = readdir(d));)
        ours = entry->d_name[0] == '.' ? !entry->d_name[strspn(entry->d_name, ".")]
                                       : qs_run_state_owns(entry->d_name);
    if (d) closedir(d);
    return ours;
}

/* Looks at a checkpoint that an earlier process left. */
static bool is_whole(qs_checkpoints *c, int64_t step, const char *path, const qs_run_state *now)
{
    qs_checkpoint_verdict *known = verdict_of(c, step);
    if (known) return known->whole;
    qs_run_state state;
    qs_err why = {0};
    bool whole = !qs_run_state_read(path, &state, &why);
    if (!whole)
        qs_warn("%s is left where it is: %s", path, why.text);
    else if (!(whole = state.step == step && same_run(&state, now)))
        qs_warn("%s is left where it is: it is of another run", path);
    return note(c, step, whole)->whole;
}

/* Renamed first: what is half removed is no checkpoint any more. */
static int remove_one(const qs_checkpoints *c, int64_t step, const char *path, qs_err *e)
{
    char *temporary = qs_numbered_path(c->out, QS_CHECKPOINT_TEMPORARY, step);
    int rc = qs_dir_remove(temporary, e);
    if (!rc && rename(path, temporary))
        rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be renamed: %s", path, strerror(errno));
    if (!rc) rc = qs_dir_remove(temporary, e);
    qs_free(temporary);
    return rc;
}

void qs_checkpoints_prune(qs_checkpoints *c, const qs_run_state *now)
{
    int64_t *steps;
    int count, newer = 0;
    qs_err e = {0};
    if (!c->keep) return;
    int rc = qs_numbered_list(c->out, QS_CHECKPOINT, &steps, &count, &e);
    for (int i = count - 1; i >= 0 && !rc; i--) {
        char *path = qs_numbered_path(c->out, QS_CHECKPOINT, steps[i]);
        if (steps[i] <= now->step && is_whole(c, steps[i], path, now) && newer++ >= c->keep &&
            steps[i] != c->best) {
            if (only_ours(path))
                rc = remove_one(c, steps[i], path, &e);
            else
                qs_debug("%s stays: it holds other files", path);
            if (!rc) forget(c, steps[i]);
        }
        qs_free(path);
    }
    qs_free(steps);
    if (rc) qs_warn("old checkpoints stay: %s", e.text);
}
