/* import.h - configurations of other trainers, read as ours: axolotl, LLaMA-Factory, TRL, torchtune, Unsloth.
 *
 * A file is recognised by its keys. Every key of it is classified, and all are reported at once: taken (as
 * which option), already so here (or of no consequence for the result), not supported (with what to do). What
 * such a file leaves unset has that trainer's default, where it differs from ours.
 */
#ifndef QS_OPTIONS_IMPORT_H
#define QS_OPTIONS_IMPORT_H

#include <stddef.h>

#include "src/base/error.h"

typedef struct qs_import {
    const char *trainer; /* "axolotl", ...; NULL: the file is none of theirs, and the rest is empty */
    char *yaml;          /* our options, as a configuration file */
    char *report;        /* the table */
    int refused;         /* keys that are not supported */
    char *refused_keys;  /* their names, ", " between */
} qs_import;

/* Reads text[0, bytes), called `name` in messages. QS_EUSAGE for what is no YAML. Free in any case. */
int qs_import_config(const char *name, const char *text, size_t bytes, qs_import *out, qs_err *e);
void qs_import_free(qs_import *i);

/* Fails with QS_EUSAGE when keys are not supported, naming them all. */
int qs_import_check(const qs_import *i, const char *name, qs_err *e);

#endif
