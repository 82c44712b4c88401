/* fuzz.h - what the fuzz targets share: files for parsers that want a path, and a bound on what an input may
 * allocate.
 *
 * A target is one file, fuzz_NAME.c, with libFuzzer's entry point:
 *
 *     int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
 *     {
 *         const char *path = fuzz_put("config.json", data, size);   // or hand data to the parser
 *         ...                                                        // free everything: leaks are findings
 *         return 0;
 *     }
 *
 * Its seeds come from a function of tests/fuzz/seeds.sh and from tests/fuzz/corpus/NAME, where inputs that
 * once failed are kept. `make fuzz T=NAME N=1000000` runs libFuzzer on it, `make replay T=NAME` seeds, corpus
 * and some mutations of them without an engine.
 *
 * More than QS_FUZZ_BASE + QS_FUZZ_FACTOR * size live bytes during an input end the process: what a parser
 * allocates is bounded by what it reads. Watched where the address sanitizer is in the program.
 */
#ifndef QS_TESTS_FUZZ_FUZZ_H
#define QS_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#define QS_FUZZ_BASE ((size_t)48 << 20)
#define QS_FUZZ_FACTOR 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A directory of this process, removed at its end. */
const char *fuzz_dir(void);
/* A directory in it, created; valid until the end. */
const char *fuzz_subdir(const char *name);
/* Replaces the file `name` of fuzz_dir() ("sub/name" also) by these bytes. Its path is valid until the 16th
 * call from then. */
const char *fuzz_put(const char *name, const void *data, size_t bytes);
/* Removes one; absent is fine. */
void fuzz_remove(const char *name);

/* An input for several files: parts between lines that hold only %%%%. Fills parts[max] (missing ones are
 * empty), returns how many there are. */
typedef struct fuzz_part {
    const uint8_t *data;
    size_t size;
} fuzz_part;
int fuzz_split(const uint8_t *data, size_t size, fuzz_part *parts, int max);

/* A NUL-terminated copy; free() it. */
char *fuzz_text(const uint8_t *data, size_t size);

/* Begins watching allocations for an input of this size; called by the drivers' entry, tests/fuzz/fuzz.c. */
void fuzz_watch(size_t size);

#endif
