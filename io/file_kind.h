/* file_kind.h - what a file that is not what it should be is instead, told from its first bytes.
 *
 * Downloads go wrong in few ways: a web page is saved under the file's name, Git leaves a pointer where the
 * file should be, an archive or another table format is handed over. A reader that cannot make sense of a
 * file asks here before it complains of a byte.
 */
#ifndef QS_IO_FILE_KIND_H
#define QS_IO_FILE_KIND_H

#include <stddef.h>

#include "src/base/error.h"

/* The first bytes looked at are at most these many; fewer are fine. */
enum { QS_FILE_KIND_BYTES = 512 };

/* "a Parquet file; convert it: ...": what the file is and what to do, for a sentence that begins with its
 * name and "is"; NULL when nothing is known about it. head[0, bytes) are its first bytes, after
 * decompression. */
const char *qs_file_kind_trouble(const char *head, size_t bytes);

/* The same for a file on disk; NULL as well when it cannot be read. */
const char *qs_file_kind_trouble_at(const char *path);

#endif
