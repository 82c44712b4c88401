/* byte_source.h - a file's bytes as UTF-8 text, whatever it is packed in, in constant memory.
 *
 * gzip, xz (and .lzma), zstd and bzip2 are told by their first bytes, never by the name, and unpacked while
 * they are read: several streams after one another are one text. UTF-16 is turned into UTF-8, a byte order
 * mark is left out. Bytes that are not UTF-8 pass through: what they mean is known where they stand.
 *
 * Bounded: 256 KiB of buffers, and at most QS_UNPACK_MAX_BYTES for a packer's dictionary (more is refused by
 * name). A damaged or cut-off file is an error that says so, where it happens.
 */
#ifndef QS_DATA_BYTE_SOURCE_H
#define QS_DATA_BYTE_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"

enum { QS_UNPACK_MAX_BYTES = 256 << 20 };

typedef struct qs_byte_source qs_byte_source;

/* Opens a regular file and unpacks its beginning. `path` is copied. Errors: QS_EMISSING, QS_EIO; QS_EFORMAT
 * for a damaged one. */
int qs_byte_source_open(const char *path, qs_byte_source **out, qs_err *e);
void qs_byte_source_close(qs_byte_source *s);

/* The next stretch of text: *data[0, *bytes), valid until the next call; *bytes 0 at the end. QS_EIO,
 * QS_EFORMAT. */
int qs_byte_source_next(qs_byte_source *s, const char **data, size_t *bytes, qs_err *e);

/* "gzip", "xz", "zstd", "bzip2", "UTF-16", or "": how the file is packed; known after the first stretch. */
const char *qs_byte_source_packing(const qs_byte_source *s);

/* Bytes of the file as it lies on disk: read so far, and all. */
void qs_byte_source_progress(const qs_byte_source *s, uint64_t *done, uint64_t *of);

#endif
