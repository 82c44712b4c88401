/* unpack.h - one interface for gzip, xz, zstd and bzip2 streams, over their libraries.
 */
#ifndef QS_DATA_UNPACK_H
#define QS_DATA_UNPACK_H

#include <stdbool.h>
#include <stddef.h>

#include "src/base/error.h"

typedef enum qs_packing_kind {
    QS_PACKED_NOT,
    QS_PACKED_GZIP,
    QS_PACKED_XZ,
    QS_PACKED_ZSTD,
    QS_PACKED_BZIP2
} qs_packing_kind;

/* By the first bytes of a file. */
qs_packing_kind qs_unpack_kind(const unsigned char *head, size_t bytes);
const char *qs_unpack_name(qs_packing_kind kind);

typedef struct qs_unpacker qs_unpacker;

/* QS_ENOMEM. `path` is for messages; borrowed. */
int qs_unpack_open(qs_packing_kind kind, const char *path, qs_unpacker **out, qs_err *e);
void qs_unpack_close(qs_unpacker *u);

/* Unpacks from in[0, *in_bytes) into out[0, *out_bytes); both become what was used and made. last: nothing
 * comes after `in`. *ended: a stream ended and nothing of another has been seen. QS_EFORMAT: damaged, or
 * needing more memory than QS_UNPACK_MAX_BYTES. */
int qs_unpack(qs_unpacker *u, const void *in, size_t *in_bytes, bool last, void *out, size_t *out_bytes,
              bool *ended, qs_err *e);

#endif
