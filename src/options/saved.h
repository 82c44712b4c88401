/* saved.h - the options of a run, kept beside it (OUT/options.yaml) and in each of its checkpoints, for
 * whoever goes on with it.
 *
 * The file ends in its own checksum, and every path in it is absolute, so that a run goes on from any folder.
 * One that was damaged or edited is passed over: the checkpoints have the options too.
 */
#ifndef QS_OPTIONS_SAVED_H
#define QS_OPTIONS_SAVED_H

#include "src/options/options.h"

#define QS_SAVED_OPTIONS "options.yaml"
#define QS_CHECKPOINT "checkpoint-" /* and a step: the folder of a checkpoint in OUT */

/* The effective options as such a file; freed with qs_free. */
char *qs_saved_options_text(const qs_options *o);
int qs_saved_options_write(const qs_options *o, const char *path, qs_err *e);

/* The file to read when a run in `out` goes on from `resume` ("latest", or a checkpoint's folder):
 * OUT/options.yaml, or when that is damaged the options of the newest checkpoint that has whole ones; of a
 * checkpoint elsewhere its own. *path (freed with qs_free) stays NULL when there is none; QS_EMISSING when
 * there is no such run. */
int qs_saved_options_find(const char *out, const char *resume, char **path, qs_err *e);

/* Compares the options with those a run was started with: what decides the bits must be equal (QS_EUSAGE
 * names each that is not, with both values); a changed length is a warning. */
int qs_saved_options_check(const qs_options *o, const char *path, qs_err *e);

/* A number for what decides the bits: equal for runs whose options must be equal. */
uint64_t qs_saved_options_key(const qs_options *o);

/* path from the root of the file system, without "." in it; freed with qs_free. */
char *qs_absolute_path(const char *path);

#endif
