/* out_dir.h - the folder of a run: whose it is, and that a start which fails leaves nothing in it.
 *
 * OUT is made and locked first, looked at second, and written to last, when every check has passed. A run
 * that ends without having made a step takes back what it wrote. What a killed one left before its first step
 * is no run either: the next start begins over it.
 */
#ifndef QS_TRAIN_OUT_DIR_H
#define QS_TRAIN_OUT_DIR_H

#include <stdbool.h>

#include "src/train/out_lock.h"

typedef struct qs_out_dir {
    char *path; /* from the root; owned */
    char *made; /* the topmost folder that did not exist before; NULL */
    qs_out_lock lock;
    bool fresh; /* a new run begins in it */
    bool begun; /* qs_out_dir_begin was called: what it holds may be ours */
} qs_out_dir;

/* Makes OUT where it is missing and locks it. `resume`: NULL for a new run, "latest", or a checkpoint. A new
 * run, or one that goes on from a checkpoint elsewhere, needs a folder without a run, an adapter or a model
 * in it (QS_EINVAL). Close it also after a failure. */
int qs_out_dir_open(const char *path, const char *resume, qs_out_dir *out, qs_err *e);

/* Before the first thing is written: removes what cut-off processes left. */
void qs_out_dir_begin(qs_out_dir *o);

/* undo: no step was made; what a fresh run wrote is removed, and the folders it made where nothing else is in
 * them. */
void qs_out_dir_close(qs_out_dir *o, bool undo);

#endif
