/* safetensors.h - the safetensors container: a checked reader of headers and an atomic writer.
 *
 * Layout: u64 little-endian header length N, N bytes of JSON, then the data. A header is hostile until
 * checked: N <= 100 MB, first byte '{', offsets contiguous from 0, no overlap or hole, each range equal to
 * product(shape) * element size without overflow, file length exactly 8 + N + data, no duplicate names. Data
 * may begin at any address: only writers that pad promise 8-byte alignment.
 *
 * Format: https://github.com/huggingface/safetensors, README.md and safetensors/src/tensor.rs.
 */
#ifndef QS_IO_SAFETENSORS_H
#define QS_IO_SAFETENSORS_H

#include "io/checkpoint_source.h"

typedef struct qs_safetensors {
    qs_source_tensor *tensors; /* [count] in file order; offset is absolute in the file; shard 0 */
    int count;
    char **metadata; /* [2 * metadata_count] key, value, ... */
    int metadata_count;
    uint64_t header_hash; /* XXH3-64 of the N header bytes */
    uint64_t file_bytes;
    char *memory; /* owner of the names */
} qs_safetensors;

/* Reads and checks the header of path. QS_EMISSING, QS_EIO, or QS_EFORMAT saying which tensor is wrong. Free
 * with qs_safetensors_free. */
int qs_safetensors_open(const char *path, qs_safetensors *out, qs_err *e);
void qs_safetensors_free(qs_safetensors *s);

/* One tensor to write. */
typedef struct qs_safetensors_entry {
    const char *name;
    qs_dtype type;
    int dims;
    int64_t shape[QS_TENSOR_MAX_DIMS];
    const void *data;
} qs_safetensors_entry;

/* Writes path atomically (see io/file.h), laid out as the Rust writer does: metadata first (pairs key, value;
 * give at least "format", "pt", which Hugging Face loaders ask for), entries from the widest dtype to the
 * narrowest and by name within, header padded with spaces to a multiple of 8. Two entries of one name are
 * QS_EINVAL. */
int qs_safetensors_write(const char *path, const qs_safetensors_entry *entries, int count,
                         const char *const *metadata, int metadata_count, qs_err *e);

/* The same for data that is not in memory all at once: entries have none, and data_of gives that of entry
 * `index` when it is its turn, valid until the next call. NULL is a failure: *e says which. */
typedef struct qs_safetensors_data {
    void *context;
    const void *(*data_of)(void *context, int index, qs_err *e);
} qs_safetensors_data;
int qs_safetensors_write_from(const char *path, const qs_safetensors_entry *entries, int count,
                              const qs_safetensors_data *data, const char *const *metadata,
                              int metadata_count, qs_err *e);

/* Convenience for small files: reads a whole tensor as fp32 (from F32, BF16 or F16) into out[n]; n must
 * match. */
int qs_safetensors_read_f32(const char *path, const qs_source_tensor *t, float *out, int64_t n, qs_err *e);

#endif
