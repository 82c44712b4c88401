/* stored_quant.h - linears that the checkpoint already holds in 4 bits, as bitsandbytes writes them.
 *
 * Beside the codes of a weight W lie W.absmax, W.quant_map, W.quant_state.bitsandbytes__nf4 (or __fp4; JSON)
 * and, double quantised, W.nested_absmax and W.nested_quant_map. Codes and scales go into the blob untouched:
 * the blob's own layout is the same. The tables must be the ones compiled in (kernels/quant.h).
 *
 * Format: bitsandbytes, functional.py: QuantState.as_dict, nn/modules.py: Params4bit.
 */
#ifndef QS_MODEL_STORED_QUANT_H
#define QS_MODEL_STORED_QUANT_H

#include "src/model/layout.h"

typedef enum qs_stored_part {
    QS_STORED_CODES,
    QS_STORED_ABSMAX,     /* fp32, or u8 when double quantised */
    QS_STORED_NESTED,     /* fp32; double quantised only */
    QS_STORED_TABLE,      /* fp32 [16] */
    QS_STORED_NESTED_MAP, /* fp32 [256]; double quantised only */
    QS_STORED_STATE,      /* JSON */
    QS_STORED_PARTS
} qs_stored_part;

/* The tensors of one weight; NULL: not there. Borrowed from the source. */
typedef struct qs_stored_linear {
    qs_quant_config quant;
    const qs_source_tensor *part[QS_STORED_PARTS];
} qs_stored_linear;

/* The parts of weight `name`; false where it is not stored in this form. Reads no data. */
bool qs_stored_linear_find(const qs_source *s, const char *name, qs_stored_linear *out);

/* Whether tensor `name` is one of the parts beside a weight that is stored in this form. */
bool qs_stored_is_part(const qs_source *s, const char *name);

/* Whether the parts of weight [rows, cols] are there with their types and sizes. Reads no data. QS_EMISSING,
 * QS_EFORMAT, QS_EUNSUP. */
int qs_stored_linear_check(const qs_source *s, const char *name, const qs_stored_linear *w, int64_t rows,
                           int64_t cols, qs_err *e);

/* How the checkpoint's linears are stored: *stored false, and *out as it was, where all are in 16 or 32 bits.
 * QS_EUNSUP where they are not all alike. The source has passed qs_architecture_check. */
int qs_stored_quant_of(const qs_architecture *a, const qs_source *s, bool *stored, qs_quant_config *out,
                       qs_err *e);

/* What a JSON state says of weight [rows, cols], against what its tensors are; *offset is the mean of the
 * scales (0 unless double quantised). `file` and `name` are for errors. QS_EFORMAT, QS_EUNSUP. */
int qs_stored_state_read(const char *text, size_t bytes, const char *file, const char *name,
                         qs_quant_config quant, int64_t rows, int64_t cols, float *offset, qs_err *e);

/* Whether a table (QS_STORED_TABLE or QS_STORED_NESTED_MAP) holds the values that the kernels have. */
bool qs_stored_table_is_ours(qs_stored_part part, qs_quant_type type, const float *values);

#endif
