/* golden.h - reading the small safetensors files of tests/golden whole. */
#ifndef QS_TESTS_GOLDEN_H
#define QS_TESTS_GOLDEN_H

#include "io/safetensors.h"

typedef struct golden {
    qs_safetensors header;
    char *bytes; /* the file */
} golden;

/* Opens a file of tests/golden; a file that cannot be read fails the test. Free with golden_close. */
void golden_open(golden *g, const char *name);
void golden_close(golden *g);

/* A tensor by its name, made as printf does, and its number of elements (n may be NULL). One that is not
 * there fails the test; golden_has asks first. The data is aligned to its element size as far as the file is.
 */
const void *golden_data(const golden *g, int64_t *n, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool golden_has(const golden *g, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
