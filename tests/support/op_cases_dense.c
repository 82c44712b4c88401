/* op_cases_dense.c - 4-bit quantisation, whose answers are exact, and matrix products. */
#include <math.h>
#include <string.h>

#include "kernels/quant.h"
#include "tests/support/op_cases.h"

/* ---- quantise4: size n; value[0] nonzero: blocks of zeros in between --------------------------------- */

/* All in fp32, so the answer is exact. */

enum { W, CODES, ABSMAX };

static qs_quant_type quant_of(const op_run *r) { return (qs_quant_type)r->c->size[1]; }

static void quantise4_setup(op_run *r)
{
    int64_t n = r->c->size[0];
    op_array_normal(r, W, OP_INPUT, r->c->type, 1, n, 0.02);
    for (int64_t i = 0; r->c->value[0] && i < n; i++)
        if (i / QS_QUANT_BLOCK % 2) qs_store_f32(r->array[W].before, r->c->type, (size_t)i, 0);
    op_array_make(r, CODES, OP_OUTPUT, QS_U8, 1, (n + 1) / 2);
    op_array_make(r, ABSMAX, OP_OUTPUT, QS_F32, 1, qs_quant_blocks(n));
}

static void quantise4_launch(op_run *r, qs_device *d)
{
    /* In two pieces where possible: the contract allows it. */
    int64_t n = r->c->size[0], cut = n / 128 * QS_QUANT_BLOCK;
    const char *w = op_device(r, W);
    uint8_t *codes = op_device(r, CODES);
    float *absmax = op_device(r, ABSMAX);
    qs_op_quantise4(d, quant_of(r), w, r->c->type, cut, codes, absmax);
    qs_op_quantise4(d, quant_of(r), w + (size_t)cut * qs_dtype_bytes(r->c->type), r->c->type, n - cut,
                    codes + cut / 2, absmax + cut / QS_QUANT_BLOCK);
}

static uint8_t nearest_code4(const qs_code4 *t, float x)
{
    int rank = 0;
    while (rank < 15 && x > t->midpoint[rank]) rank++;
    return t->order[rank];
}

static void quantise4_reference(op_run *r)
{
    const qs_code4 *t = qs_code4_of(quant_of(r));
    int64_t n = r->c->size[0];
    for (int64_t b = 0; b * QS_QUANT_BLOCK < n; b++) {
        int64_t first = b * QS_QUANT_BLOCK, last = first + QS_QUANT_BLOCK < n ? first + QS_QUANT_BLOCK : n;
        bool full = last - first == QS_QUANT_BLOCK;
        float top = 0;
        for (int64_t i = first; i < last; i++) top = fmaxf(top, fabsf((float)op_at(r, W, 0, i)));
        float clamped = fmaxf(top, 1e-38f);
        *op_want(r, ABSMAX, 0, b) = full ? top : clamped;
        for (int64_t i = first; i < last + (last & 1); i++) {
            float w = i < last ? (float)op_at(r, W, 0, i) : 0, x = full ? w * (1.0f / clamped) : w / clamped;
            double *byte = op_want(r, CODES, 0, i / 2);
            *byte = i % 2 ? *byte + nearest_code4(t, x) : nearest_code4(t, x) * 16;
        }
    }
}

static const op_kind quantise4 = {quantise4_setup, quantise4_launch, quantise4_reference, OP(QUANTISE4)};

/* ---- dequantise4: size n, quant type, nested --------------------------------------------------------- */

enum { D_CODES, D_ABSMAX, D_ABSMAX8, D_NESTED, D_OFFSET, D_OUT };

static void dequantise4_setup(op_run *r)
{
    int64_t n = r->c->size[0], blocks = qs_quant_blocks(n);
    op_array_make(r, D_CODES, OP_INPUT, QS_U8, 1, (n + 1) / 2);
    for (int64_t i = 0; i < (n + 1) / 2; i++)
        ((uint8_t *)r->array[D_CODES].before)[i] = (uint8_t)(op_uniform(9, (uint64_t)i) * 256);
    op_array_normal(r, D_ABSMAX, OP_INPUT, QS_F32, 1, blocks, 0.05);
    op_array_make(r, D_ABSMAX8, OP_INPUT, QS_U8, 1, blocks);
    for (int64_t i = 0; i < blocks; i++)
        ((uint8_t *)r->array[D_ABSMAX8].before)[i] = (uint8_t)(op_uniform(10, (uint64_t)i) * 256);
    op_array_normal(r, D_NESTED, OP_INPUT, QS_F32, 1, qs_nested_blocks(n), 0.01);
    op_array_normal(r, D_OFFSET, OP_INPUT, QS_F32, 1, 1, 0.05);
    op_array_make(r, D_OUT, OP_OUTPUT, r->c->type, 1, n);
}

static void dequantise4_launch(op_run *r, qs_device *d)
{
    qs_qtensor q = {.type = quant_of(r), .n = r->c->size[0], .codes = op_device(r, D_CODES)};
    if (r->c->size[2]) {
        q.absmax8 = op_device(r, D_ABSMAX8);
        q.nested = op_device(r, D_NESTED);
        q.offset = op_device(r, D_OFFSET);
    } else {
        q.absmax = op_device(r, D_ABSMAX);
    }
    qs_op_dequantise4(d, &q, op_device(r, D_OUT), r->c->type);
}

static void dequantise4_reference(op_run *r)
{
    const qs_code4 *t = qs_code4_of(quant_of(r));
    for (int64_t i = 0; i < r->c->size[0]; i++) {
        int64_t b = i / QS_QUANT_BLOCK;
        float absmax = (float)op_at(r, D_ABSMAX, 0, b);
        if (r->c->size[2]) {
            absmax = qs_dynamic_signed[(int)op_at(r, D_ABSMAX8, 0, b)] *
                     (float)op_at(r, D_NESTED, 0, b / QS_NESTED_BLOCK);
            absmax = absmax + (float)op_at(r, D_OFFSET, 0, 0);
        }
        int byte = (int)op_at(r, D_CODES, 0, i / 2);
        uint32_t slot = 0;
        qs_store_f32(&slot, r->c->type, 0, t->value[i % 2 ? byte & 15 : byte >> 4] * absmax);
        *op_want(r, D_OUT, 0, i) = qs_load_f32(&slot, r->c->type, 0);
    }
}

static const op_kind dequantise4 = {dequantise4_setup, dequantise4_launch, dequantise4_reference,
                                    OP(DEQUANTISE4)};

/* ---- quantise_absmax: size blocks; value[0]: all equal ----------------------------------------------- */

enum { A_IN, A_CODES, A_NESTED, A_OFFSET };

static void quantise_absmax_setup(op_run *r)
{
    int64_t n = r->c->size[0];
    op_array_make(r, A_IN, OP_INPUT, QS_F32, 1, n);
    for (int64_t i = 0; i < n; i++)
        ((float *)r->array[A_IN].before)[i] =
            r->c->value[0] ? 0.25f : (float)fabs(0.05 + 0.02 * op_normal(1, (uint64_t)i));
    op_array_make(r, A_CODES, OP_OUTPUT, QS_U8, 1, n);
    op_array_make(r, A_NESTED, OP_OUTPUT, QS_F32, 1, (n + QS_NESTED_BLOCK - 1) / QS_NESTED_BLOCK);
    op_array_make(r, A_OFFSET, OP_OUTPUT, QS_F32, 1, 1);
}

static void quantise_absmax_launch(op_run *r, qs_device *d)
{
    qs_op_quantise_absmax(d, op_device(r, A_IN), r->c->size[0], op_device(r, A_CODES), op_device(r, A_NESTED),
                          op_device(r, A_OFFSET));
}

/* The nearest entry by distance; of two equally near ones the even index. */
static int nearest_signed(double x)
{
    int best = 0;
    for (int k = 1; k < 256; k++) {
        double d = fabs(x - qs_dynamic_signed[k]), b = fabs(x - qs_dynamic_signed[best]);
        if (d < b || (d == b && k % 2 == 0)) best = k;
    }
    return best;
}

static void quantise_absmax_reference(op_run *r)
{
    int64_t n = r->c->size[0];
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += op_at(r, A_IN, 0, i);
    float offset = (float)(sum / (double)n);
    *op_want(r, A_OFFSET, 0, 0) = offset;
    for (int64_t at = 0; at < n; at += QS_NESTED_BLOCK) {
        int64_t last = at + QS_NESTED_BLOCK < n ? at + QS_NESTED_BLOCK : n;
        float top = 0;
        for (int64_t i = at; i < last; i++) top = fmaxf(top, fabsf((float)op_at(r, A_IN, 0, i) - offset));
        *op_want(r, A_NESTED, 0, at / QS_NESTED_BLOCK) = top;
        for (int64_t i = at; i < last; i++)
            *op_want(r, A_CODES, 0, i) =
                top > 0 ? nearest_signed(((float)op_at(r, A_IN, 0, i) - offset) * (1.0f / top)) : 127;
    }
}

static const op_kind quantise_absmax = {quantise_absmax_setup, quantise_absmax_launch,
                                        quantise_absmax_reference, OP(QUANTISE_ABSMAX)};

/* ---- gemm: size m, n, k, transpose_a, transpose_b, bias; value alpha, beta --------------------------- */

enum { G_A, G_B, G_C, G_BIAS };

static qs_gemm gemm_of(const op_run *r)
{
    const int64_t *s = r->c->size;
    return (qs_gemm){.a = op_mat(r, G_A),
                     .b = op_mat(r, G_B),
                     .c = op_mat(r, G_C),
                     .transpose_a = s[3],
                     .transpose_b = s[4],
                     .alpha = (float)r->c->value[0],
                     .beta = (float)r->c->value[1],
                     .bias = s[5] ? op_device(r, G_BIAS) : NULL,
                     .bias_type = r->c->type};
}

static void gemm_setup(op_run *r)
{
    const int64_t *s = r->c->size;
    op_array_normal(r, G_A, OP_INPUT, r->c->type, s[3] ? s[2] : s[0], s[3] ? s[0] : s[2], 1);
    op_array_normal(r, G_B, OP_INPUT, r->c->type, s[4] ? s[1] : s[2], s[4] ? s[2] : s[1],
                    1 / sqrt((double)s[2]));
    if (r->c->value[1])
        op_array_normal(r, G_C, OP_IN_OUT, r->c->type2, s[0], s[1], 1);
    else
        op_array_make(r, G_C, OP_OUTPUT, r->c->type2, s[0], s[1]);
    op_array_normal(r, G_BIAS, OP_INPUT, r->c->type, 1, s[1], 1);
}

static void gemm_launch(op_run *r, qs_device *d)
{
    qs_gemm g = gemm_of(r);
    op_workspace(r, d, qs_op_gemm_workspace_bytes(d, &g));
    qs_op_gemm(d, &g);
}

static void gemm_reference(op_run *r)
{
    const int64_t *s = r->c->size;
    for (int64_t i = 0; i < s[0]; i++)
        for (int64_t j = 0; j < s[1]; j++) {
            double sum = 0;
            for (int64_t p = 0; p < s[2]; p++)
                sum += (s[3] ? op_at(r, G_A, p, i) : op_at(r, G_A, i, p)) *
                       (s[4] ? op_at(r, G_B, j, p) : op_at(r, G_B, p, j));
            sum *= r->c->value[0];
            if (r->c->value[1]) sum += op_at(r, G_C, i, j);
            if (s[5]) sum += op_at(r, G_BIAS, 0, j);
            *op_want(r, G_C, i, j) = sum;
        }
}

static const op_kind gemm = {gemm_setup, gemm_launch, gemm_reference, OP(GEMM)};

/* ---- the list ---------------------------------------------------------------------------------------- */

#define EXACT 0, "the answer is defined to the bit"
#define NF4 QS_QUANT_NF4
#define FP4 QS_QUANT_FP4
#define QUANTISE(name, type, n, quant, zeros)                         \
    {                                                                 \
        name, &quantise4, type, QS_F32, {n, quant}, {zeros}, 0, EXACT \
    }
#define DEQUANTISE(name, type, n, quant, nested)                            \
    {                                                                       \
        name, &dequantise4, type, QS_F32, {n, quant, nested}, {0}, 0, EXACT \
    }
#define ABSMAX8(name, blocks, equal)                                        \
    {                                                                       \
        name, &quantise_absmax, QS_F32, QS_F32, {blocks}, {equal}, 0, EXACT \
    }
/* Sums of 40-300 products of order 1: fp32 rounding errors stay below 1e-5 of the result's size. */
#define SUM_F32 1e-5, "fp32 sums of a few hundred products"
#define SUM_BF16 OP_TOL_BF16, OP_WHY_ONE_ROUNDING
#define SUM_F16 OP_TOL_F16, OP_WHY_ONE_ROUNDING
#define GEMM(name, type, c_type, m, n, k, ta, tb, bias, alpha, beta, padding, tolerance)      \
    {                                                                                         \
        name, &gemm, type, c_type, {m, n, k, ta, tb, bias}, {alpha, beta}, padding, tolerance \
    }

static const op_case cases[] = {
    QUANTISE("quantise nf4 f32", QS_F32, 64 * 1000, NF4, 0),
    QUANTISE("quantise nf4 bf16, ragged", QS_BF16, 64 * 301 + 17, NF4, 0),
    QUANTISE("quantise nf4 f16, odd", QS_F16, 64 * 5 + 1, NF4, 0),
    QUANTISE("quantise nf4 bf16, zero blocks", QS_BF16, 64 * 9 + 63, NF4, 1),
    QUANTISE("quantise nf4, one element", QS_F32, 1, NF4, 0),
    QUANTISE("quantise fp4 f32, ragged", QS_F32, 64 * 77 + 33, FP4, 0),
    QUANTISE("quantise fp4 bf16, zero blocks", QS_BF16, 64 * 12, FP4, 1),
    DEQUANTISE("dequantise nf4 to f32", QS_F32, 64 * 400 + 31, NF4, 0),
    DEQUANTISE("dequantise nf4 to bf16", QS_BF16, 64 * 400, NF4, 0),
    DEQUANTISE("dequantise nf4 to f16, odd", QS_F16, 64 * 3 + 5, NF4, 0),
    DEQUANTISE("dequantise nf4 to bf16, nested", QS_BF16, 64 * 600 + 2, NF4, 1),
    DEQUANTISE("dequantise fp4 to f32, nested", QS_F32, 64 * 300, FP4, 1),
    DEQUANTISE("dequantise fp4 to bf16", QS_BF16, 100, FP4, 0),
    DEQUANTISE("dequantise nf4, one element", QS_BF16, 1, NF4, 1),
    ABSMAX8("absmax to 8 bits", 256 * 5 + 77, 0),
    ABSMAX8("absmax to 8 bits, one block", 1, 0),
    ABSMAX8("absmax to 8 bits, all equal", 300, 1),
    GEMM("gemm f32 x w^T", QS_F32, QS_F32, 37, 53, 129, 0, 1, 0, 1, 0, 0, SUM_F32),
    GEMM("gemm f32 padded, bias, alpha, beta", QS_F32, QS_F32, 40, 70, 96, 0, 0, 1, 0.5, 1, 5, SUM_F32),
    GEMM("gemm f32 a^T b", QS_F32, QS_F32, 16, 80, 300, 1, 0, 0, 2, 1, 3, SUM_F32),
    GEMM("gemm f32 a^T b^T", QS_F32, QS_F32, 17, 33, 65, 1, 1, 1, 1, 0, 0, SUM_F32),
    GEMM("gemm f32 dense, bias, alpha, beta", QS_F32, QS_F32, 70, 90, 80, 0, 1, 1, 0.5, 1, 0, SUM_F32),
    GEMM("gemm bf16 dense, bias, beta", QS_BF16, QS_BF16, 100, 72, 200, 0, 0, 1, 1, 1, 0, SUM_BF16),
    GEMM("gemm bf16 dense to f32, a^T b, alpha", QS_BF16, QS_F32, 64, 96, 256, 1, 0, 1, 0.25, 1, 0, SUM_F32),
    GEMM("gemm bf16, slices of depth, odd", QS_BF16, QS_BF16, 20, 300, 1101, 0, 1, 1, 2, 1, 1, SUM_BF16),
    GEMM("gemm f32, slices of depth, a^T b", QS_F32, QS_F32, 140, 20, 700, 1, 0, 0, 1, 0, 1, SUM_F32),
    GEMM("gemm bf16 x w^T", QS_BF16, QS_BF16, 64, 96, 128, 0, 1, 0, 1, 0, 0, SUM_BF16),
    GEMM("gemm bf16 dy w, accumulating", QS_BF16, QS_BF16, 33, 65, 100, 0, 0, 0, 1, 1, 8, SUM_BF16),
    GEMM("gemm bf16 to f32, a^T b, accumulating", QS_BF16, QS_F32, 16, 96, 256, 1, 0, 0, 0.25, 1, 0, SUM_F32),
    GEMM("gemm bf16 bias, ragged", QS_BF16, QS_BF16, 7, 19, 45, 0, 1, 1, 1, 0, 3, SUM_BF16),
    GEMM("gemm bf16 rank 1", QS_BF16, QS_BF16, 50, 40, 1, 0, 1, 0, 2, 1, 0, SUM_BF16),
    GEMM("gemm bf16 one row", QS_BF16, QS_BF16, 1, 200, 64, 0, 1, 1, 1, 0, 0, SUM_BF16),
    GEMM("gemm f16 x w^T, several tiles", QS_F16, QS_F16, 300, 290, 40, 0, 1, 1, 0.5, 1, 2, SUM_F16),
    GEMM("gemm f16 to f32, a^T b", QS_F16, QS_F32, 18, 24, 300, 1, 0, 0, 1, 0, 0, SUM_F32),
    GEMM("gemm no rows", QS_BF16, QS_BF16, 0, 20, 30, 0, 1, 0, 1, 0, 0, SUM_BF16),
};

const op_case_list op_cases_dense = OP_LIST("dense", cases);
