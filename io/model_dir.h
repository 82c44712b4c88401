/* model_dir.h - from what a person gives as --model to the directory that holds the model.
 *
 * People give the name on the hub, a web address, the hub's cache folder, a single file, or the directory of
 * an adapter. Where the model itself is behind it on this machine it is taken, and said; otherwise the error
 * names what it is and the command that helps.
 */
#ifndef QS_IO_MODEL_DIR_H
#define QS_IO_MODEL_DIR_H

#include "src/base/error.h"

/* The directory with config.json for `given`, freed with qs_free. `hub` is where the hub's own programs keep
 * what they download. QS_EMISSING, or QS_EUNSUP for models in formats that are not read. */
int qs_model_dir(const char *given, const char *hub, char **out, qs_err *e);

#endif
