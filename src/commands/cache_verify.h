/* cache_verify.h - compares every byte of a layer cache with its checksums, and the model with what the cache
 * was made from. */
#ifndef QS_COMMANDS_CACHE_VERIFY_H
#define QS_COMMANDS_CACHE_VERIFY_H

#include "io/cache_list.h"

typedef struct qs_cache_findings {
    int checked, damaged;  /* layers whose own bytes were looked at, and did not match */
    int compared, changed; /* layers whose source was looked at, and is not what they were made from */
    char *model;           /* the model directory that was compared, or NULL with `why_not` */
    char why_not[256];
} qs_cache_findings;

/* Layers that do not match are forgotten: the next run makes them again. `model` (may be NULL) in place of
 * the directory that the cache names. Blocks; reads all of both. findings->model is freed with qs_free. */
int qs_cache_verify_layers(const qs_cache_entry *c, const char *model, qs_cache_findings *findings,
                           qs_err *e);

#endif
