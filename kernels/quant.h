/* quant.h - the code tables of 4-bit and 8-bit quantisation, shared by every backend.
 *
 * The numbers are those of bitsandbytes, as fp32 bit patterns: checkpoints in the wild were written with
 * exactly these, so they are data, not something to compute anew. Where each comes from stands beside it in
 * quant.c.
 */
#ifndef QS_KERNELS_QUANT_H
#define QS_KERNELS_QUANT_H

#include <stdint.h>

#include "kernels/ops.h"

/* How values of a block, divided by the block's largest magnitude, become 4-bit codes: the rank of x is the
 * number of midpoints below it (a tie goes to the lower rank), its code is order[rank], and the code means
 * value[code]. */
typedef struct qs_code4 {
    float value[16];
    float midpoint[15]; /* fp32 midpoints of the values in ascending order */
    uint8_t order[16];
} qs_code4;

/* The tables of a 4-bit type (NF4 or FP4). */
const qs_code4 *qs_code4_of(qs_quant_type type);

/* Dynamic 8-bit maps (Dettmers et al., "8-bit Optimizers via Block-wise Quantization", 2022), ascending.
 * Signed: absmax values and the first moment; unsigned: the second moment. */
extern const float qs_dynamic_signed[256], qs_dynamic_unsigned[256];

/* above[k]: x belongs above code k iff x > above[k]. The fp32 midpoint of map[k] and map[k+1], or the float
 * before it where k + 1 is even: so the code of x is the count of above[] below x, and an exact tie goes to
 * the even code. */
extern const float qs_dynamic_signed_above[255], qs_dynamic_unsigned_above[255];

#endif
