/* quantise_on_load.h - makes a blob from the 16/32-bit checkpoint: read, quantise, lay out.
 *
 * The source tensors of a blob are read in chunks through a few buffers, so that the disk works while a chunk
 * is quantised and, after qs_quantise_on_load_expect, while the layer before computes;
 * qs_quantise_on_load_advance quantises what has come between two of its operations and reads on.
 * Quantisation is host work on the CPU backend whatever the training device: its result goes to the cache on
 * the host side anyway.
 */
#ifndef QS_STEP_QUANTISE_ON_LOAD_H
#define QS_STEP_QUANTISE_ON_LOAD_H

#include "offload/blob_builder.h"
#include "src/base/arena.h"
#include "src/model/layout.h"

typedef struct qs_quantise_on_load qs_quantise_on_load;

enum { QS_TOUCH_CHUNK_BYTES = 8 << 20, QS_TOUCH_CHUNKS = 4 };

/* Host bytes that qs_quantise_on_load_open carves from its arena (4096-aligned base). */
uint64_t qs_quantise_on_load_bytes(const qs_layout *l);

/* No blob is made in more pieces. */
int qs_quantise_on_load_pieces(const qs_layout *l);

/* `cpu` is the CPU backend. Everything is borrowed and must outlive the maker. */
void qs_quantise_on_load_open(const qs_architecture *a, const qs_layout *l, qs_source *source, qs_aio *aio,
                              qs_device *cpu, qs_arena *memory, qs_quantise_on_load **out);
void qs_quantise_on_load_close(qs_quantise_on_load *t);

/* qs_blob_builder's functions (offload/blob_builder.h); context is the qs_quantise_on_load. */
void qs_quantise_on_load_expect(void *context, int blob);
qs_made qs_quantise_on_load_advance(void *context, int blob, void *place);
int qs_quantise_on_load_make(void *context, int blob, void *place, qs_err *e);
uint64_t qs_quantise_on_load_source_hash(void *context);

/* The same checksum without making the blob: reads what it would be made from. */
int qs_quantise_on_load_hash(qs_quantise_on_load *t, int blob, uint64_t *out, qs_err *e);

/* Bytes read from the checkpoint so far. */
uint64_t qs_quantise_on_load_read_bytes(const qs_quantise_on_load *t);

#endif
