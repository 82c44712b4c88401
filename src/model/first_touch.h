/* first_touch.h - makes a blob from the 16/32-bit checkpoint: read, quantise, lay out.
 *
 * The source tensors of a blob are read in chunks through a few buffers, so that the disk works while a chunk is quantised and, after qs_first_touch_expect, while the
 * layer before computes; qs_first_touch_advance quantises what has come between two of its operations and reads on. Quantisation is host work on the CPU backend whatever the training device: its result goes to the cache on the host side anyway.
 */
#ifndef QS_MODEL_FIRST_TOUCH_H
#define QS_MODEL_FIRST_TOUCH_H

#include "offload/blob_maker.h"
#include "src/base/arena.h"
#include "src/model/layout.h"

typedef struct qs_first_touch qs_first_touch;

enum { QS_TOUCH_CHUNK_BYTES = 8 << 20, QS_TOUCH_CHUNKS = 4 };

/* Host bytes that qs_first_touch_open carves from its arena (4096-aligned base). */
uint64_t qs_first_touch_bytes(const qs_layout *l);

/* No blob is made in more pieces. */
int qs_first_touch_pieces(const qs_layout *l);

/* `cpu` is the CPU backend. Everything is borrowed and must outlive the maker. */
void qs_first_touch_open(const qs_architecture *a, const qs_layout *l, qs_source *source, qs_aio *aio, qs_device *cpu, qs_arena *memory,
                         qs_first_touch **out);
void qs_first_touch_close(qs_first_touch *t);

/* qs_blob_maker's functions (offload/blob_maker.h); context is the qs_first_touch. */
void qs_first_touch_expect(void *context, int blob);
qs_made qs_first_touch_advance(void *context, int blob, void *place);
int qs_first_touch_make(void *context, int blob, void *place, qs_err *e);

/* Bytes read from the checkpoint so far. */
uint64_t qs_first_touch_read_bytes(const qs_first_touch *t);

#endif
