/* synthetic.h - weights that exist nowhere: every element is a function of (seed, tensor name, index), made
 * when it is read.
 *
 * A model directory may hold a recipe, synthetic.json, instead of a checkpoint:
 *
 *     {"format": 1, "shape": "llama-3-70b", "seed": 0, "std": 0.02, "tensors": {"model.norm.weight": [8192],
 * ...}}
 *
 * All tensors are bf16. Elements are bell-shaped (the sum of four uniform bytes, so nothing lies beyond 3.46
 * standard deviations) around 0, or around 1 in tensors called *norm.weight. With it the whole pipeline -
 * quantise, cache, stream, train - runs at true size without a download. Integers and one float product per
 * element: the same bits on every machine.
 */
#ifndef QS_IO_SYNTHETIC_H
#define QS_IO_SYNTHETIC_H

#include "io/checkpoint_source.h"

#define QS_SYNTHETIC_NAME "synthetic.json"

typedef struct qs_synthetic {
    uint64_t seed;
    float std;
    qs_source_tensor *tensors; /* [count] as listed; file 0, offset 0 */
    int count;
    char *path;
    char fingerprint[33]; /* XXH3-128 of the recipe's bytes, hex */
    char *names;          /* owner of the tensors' names */
} qs_synthetic;

/* Reads and checks a recipe. QS_EMISSING, QS_EFORMAT (names the key or the tensor), QS_EIO. Free with
 * qs_synthetic_free, in any case. */
int qs_synthetic_open(const char *path, qs_synthetic *out, qs_err *e);
int qs_synthetic_parse(const char *name, const char *text, size_t bytes, qs_synthetic *out,
                       qs_err *e); /* from text at hand, `name` in place of its path */
void qs_synthetic_free(qs_synthetic *s);

/* A tensor of a recipe that is being written: a vector when shape[1] is 0. */
typedef struct qs_synthetic_entry {
    char name[128];
    int64_t shape[2];
} qs_synthetic_entry;

/* The text of a recipe; freed with qs_free. */
char *qs_synthetic_text(const char *shape_name, uint64_t seed, double std, const qs_synthetic_entry *entries,
                        int count, size_t *bytes);

/* Writes DIR/synthetic.json atomically. */
int qs_synthetic_write(const char *dir, const char *shape_name, uint64_t seed, double std,
                       const qs_synthetic_entry *entries, int count, qs_err *e);

/* Bytes [offset, offset + bytes) of a tensor, whole elements. However a tensor is cut, its bits are the same.
 */
void qs_synthetic_generate(const qs_synthetic *s, const qs_source_tensor *t, uint64_t offset, uint64_t bytes,
                           void *out);

#endif
