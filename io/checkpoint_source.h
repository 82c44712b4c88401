/* checkpoint_source.h - the tensors of a base model, by name, wherever their bytes come from.
 *
 * A Hugging Face directory: model.safetensors, or else model.safetensors.index.json and its shards (where
 * both are there the single file counts, as in transformers, with a warning). Opening reads and checks every
 * header and no data. Tensors of a shard that the index does not list are not seen.
 *
 * A directory without safetensors may hold a recipe (io/synthetic.h): its tensors are generated as they are
 * read, behind the same calls.
 */
#ifndef QS_IO_CHECKPOINT_SOURCE_H
#define QS_IO_CHECKPOINT_SOURCE_H

#include "io/aio.h"
#include "src/base/dtype.h"

typedef struct qs_source qs_source;

enum { QS_TENSOR_MAX_DIMS = 8 };

typedef struct qs_source_tensor {
    const char *name;
    qs_dtype type; /* QS_F32, QS_BF16, QS_F16 or QS_U8; tensors of other types are kept but not `readable` */
    bool readable;
    const char *type_name; /* as the file spells it, for messages: "BF16", "F8_E4M3", ... */
    int dims;
    int64_t shape[QS_TENSOR_MAX_DIMS];
    uint64_t bytes;
    int file;        /* shard */
    uint64_t offset; /* of the first byte in the shard */
} qs_source_tensor;

/* Opens model directory `dir`. A recipe counts only where there are no safetensors. Errors: QS_EMISSING,
 * QS_EFORMAT (names the shard and what is wrong with it), QS_EIO. */
int qs_source_open(const char *dir, qs_source **out, qs_err *e);

/* A source from the text of a recipe (io/synthetic.h) that lies in no directory; `name` stands for its path.
 * QS_EFORMAT. */
int qs_source_open_recipe(const char *name, const char *text, size_t bytes, qs_source **out, qs_err *e);
void qs_source_close(qs_source *s);

/* By exact name, or NULL. Aliases recorded in a file's __metadata__ (names that were dropped because another
 * tensor shares their storage) are followed, and names without the prefixes of wrappers (io/tensor_name.h).
 * Tensors in name order by index. Valid until close. */
const qs_source_tensor *qs_source_find(const qs_source *s, const char *name);
int qs_source_count(const qs_source *s);
const qs_source_tensor *qs_source_at(const qs_source *s, int i);

/* Number of files (shards, in name order), and the path of one; valid until close. */
int qs_source_files(const qs_source *s);
const char *qs_source_path(const qs_source *s, int file);

/* Where io/checkpoint_identity.h keeps which model this is: 33 bytes, empty until it was found out. A recipe
 * is known at opening. */
char *qs_source_fingerprint_room(qs_source *s);
/* What was found: hex, 32 digits, over names, shapes and sampled bytes, or over the recipe. Copied, touched
 * or cut into other shards it is the same model. */
const char *qs_source_fingerprint(const qs_source *s);
/* A hash of the names, sizes and modification times of its files: where it differs, looking at all bytes
 * again may be worth it. 0 of a recipe. */
uint64_t qs_source_dates(const qs_source *s);

/* A read of part of a tensor into the caller's buffer. */
typedef struct qs_source_read {
    const qs_source_tensor *tensor;
    uint64_t offset, bytes; /* within the tensor; whole elements */
    void *buffer;           /* qs_source_buffer_bytes(bytes) long, 4096-aligned */
    void *data; /* out: where in buffer the bytes lie; element-aligned only if the file is, so access through
                   memcpy or byte-wise loads */
    qs_aio_op op;
} qs_source_read;

/* Room that a read of `bytes` needs: direct reads fetch the aligned superset. */
static inline uint64_t qs_source_buffer_bytes(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096 + 4096; }

/* Queues the read on `a`; `finish` blocks until the bytes are there (generated ones are made there) and sets
 * data. r must live until then. When the file's data is not aligned to its element size, finish moves the
 * bytes to buffer's start so that data is always element-aligned. */
void qs_source_read_start(qs_source *s, qs_aio *a, qs_source_read *r);
/* Whether finish would not wait for the disk. */
bool qs_source_read_done(qs_source *s, qs_aio *a, qs_source_read *r);
int qs_source_read_finish(qs_source *s, qs_aio *a, qs_source_read *r, qs_err *e);

#endif
