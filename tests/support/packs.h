/* packs.h - adapter packs as a plain array, for tests that look into it. */
#ifndef QS_TESTS_PACKS_H
#define QS_TESTS_PACKS_H

#include "src/model/lora.h"

/* A pager whose records lie in x, one pack after another, and hold what x holds. */
qs_pager *test_packs_in(const qs_lora *l, float *x);

/* Close what test_packs_in gave; returns rc. */
int test_packs_done(qs_pager *p, int rc);

/* The floats of all packs, read through the pager; freed with qs_free. */
float *test_packs_read(const qs_lora *l, qs_pager *p);
/* Writes one value to all. */
void test_packs_set(const qs_lora *l, qs_pager *p, float value);

static inline int64_t test_pack_floats(const qs_lora *l) { return l->layers * l->pack_floats; }

#endif
