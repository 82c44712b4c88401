/* bench_gpu.c - the CUDA backend's speed on this machine's GPU, as ratios to what the same card does at best
 * in the same run.
 *
 *     products of an 8B layer and of its head, in the tiles that a step takes, of one large product's rate
 * 4-bit decoding, of the rate of a copy in device memory (fp32 to fp32) attention in TFLOP/s, to set beside
 * tests/gpu/sdpa.py's     (causal: half of the products count; backward: five of them) device memory that
 * kernels took when they were first met, beside what --vram keeps for that
 *
 * Times are the host's around REPEATS queued calls and one wait. Without a GPU it says so and ends well. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/ops.h"
#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/base/random.h"

enum { REPEATS = 20, TOKENS = 8192 };

static qs_device *d;
static qs_err e;

static void must(int rc)
{
    if (!rc) return;
    fprintf(stderr, "bench_gpu: %s\n", e.text);
    exit(1);
}

/* Numbers that look random, for a card that multiplies equal ones is cooler and faster: in bf16 of both
 * signs, 1/32 to 1/2. */
static const uint16_t *numbers(size_t bytes)
{
    static uint16_t *p;
    if (p) return p;
    p = qs_malloc(bytes);
    for (size_t i = 0; i < bytes / 2; i += 8) {
        qs_philox_block words = qs_random_block(1, 0, i / 8);
        for (size_t j = 0; j < 8; j++) {
            uint32_t half = words.v[j / 2] >> 16 * (j % 2);
            p[i + j] = (uint16_t)((half & 0x8000) | (0x7a + (half >> 7 & 3)) << 7 | (half & 0x7f));
        }
    }
    return p;
}

static void *take(size_t bytes)
{
    enum { PIECE = 16 << 20 };
    void *p;
    must(d->api->alloc(d, bytes, &p, &e));
    for (size_t at = 0; at < bytes; at += PIECE)
        d->api->copy_in(d, QS_QUEUE_COMPUTE, (char *)p + at, numbers(PIECE),
                        bytes - at < PIECE ? bytes - at : PIECE);
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    return p;
}

/* Seconds of one call of work(argument). */
static double timed(void (*work)(const void *), const void *argument)
{
    for (int i = 0; i < 3; i++) work(argument);
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    uint64_t start = qs_now_ns();
    for (int i = 0; i < REPEATS; i++) work(argument);
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    must(d->api->check(d, &e));
    return qs_seconds(qs_now_ns() - start) / REPEATS;
}

/* ---- matrix products --------------------------------------------------------------------------------- */

static void multiply(const void *g) { qs_op_gemm(d, g); }

/* FLOP/s of x[m, k] times w[n, k], transposed where it is, into y of some type. */
static double product_rate(int64_t m, int64_t n, int64_t k, bool transposed, qs_dtype to, void *x, void *w,
                           void *y)
{
    qs_gemm g = {.a = qs_mat_of(x, QS_BF16, m, k),
                 .b = transposed ? qs_mat_of(w, QS_BF16, n, k) : qs_mat_of(w, QS_BF16, k, n),
                 .c = qs_mat_of(y, to, m, n),
                 .transpose_b = transposed,
                 .alpha = 1};
    return 2.0 * (double)m * (double)n * (double)k / timed(multiply, &g);
}

typedef struct product {
    int64_t m, n, k;
    qs_dtype to;
} product;

static void bench_group(const char *name, const product *p, int count, double best, void *x, void *w, void *y)
{
    double flop = 0, seconds = 0;
    for (int i = 0; i < count; i++)
        for (int back = 0; back < 2; back++) { /* and the gradient with respect to x */
            double work = 2.0 * TOKENS * (double)p[i].n * (double)p[i].k;
            flop += work;
            seconds += work / (back ? product_rate(p[i].m, p[i].k, p[i].n, false, p[i].to, x, w, y)
                                    : product_rate(p[i].m, p[i].n, p[i].k, true, p[i].to, x, w, y));
        }
    printf("products of %s: %.0f TFLOP/s, %.0f %% of one large product's %.0f\n", name, flop / seconds / 1e12,
           100 * flop / seconds / best, best / 1e12);
}

/* Rows as the planner's tiles have them on a card: TOKENS, TILE in the MLP and the head. */
static void bench_products(void)
{
    enum { TILE = 4096, VOCABULARY_TILE = 2048 };
    static const product layer[] = {{TOKENS, 6144, 4096, QS_BF16},
                                    {TOKENS, 4096, 4096, QS_BF16},
                                    {TILE, 28672, 4096, QS_BF16},
                                    {TILE, 4096, 14336, QS_BF16}};
    static const product head[] = {{TILE, VOCABULARY_TILE, 4096, QS_F32}};
    void *x = take((size_t)TOKENS * 28672 * 2), *w = take((size_t)16384 * 16384 * 2),
         *y = take((size_t)TOKENS * 28672 * 2);
    double best = product_rate(TOKENS, 16384, 16384, true, QS_BF16, x, w, y);
    bench_group("an 8B layer", layer, sizeof layer / sizeof *layer, best, x, w, y);
    bench_group("its head", head, sizeof head / sizeof *head, best, x, w, y);
    d->api->free(d, x);
    d->api->free(d, w);
    d->api->free(d, y);
}

/* ---- 4-bit decoding ---------------------------------------------------------------------------------- */

typedef struct decode_job {
    qs_qtensor q;
    void *out;
} decode_job;
static void decode(const void *j)
{
    qs_op_dequantise4(d, &((const decode_job *)j)->q, ((const decode_job *)j)->out, QS_BF16);
}

typedef struct copy_job {
    void *to, *from;
    int64_t n;
} copy_job;
static void copy(const void *j)
{
    const copy_job *c = j;
    qs_op_convert(d, c->to, QS_F32, c->from, QS_F32, c->n);
}

static void bench_decode(void)
{
    int64_t n = (int64_t)28672 * 8192;
    void *codes = take((size_t)n / 2), *absmax8 = take((size_t)n / 64),
         *nested = take((size_t)n / 64 / 256 * 4), *offset = take(4), *out = take((size_t)n * 2);
    decode_job job = {{.type = QS_QUANT_NF4,
                       .n = n,
                       .codes = codes,
                       .absmax8 = absmax8,
                       .nested = nested,
                       .offset = offset},
                      out};
    double bytes = (double)n * (0.5 + 2 + 1.0 / 64), rate = bytes / timed(decode, &job);
    copy_job c = {out, (char *)out + n, n / 4};
    double copied = (double)n / 4 * 8 / timed(copy, &c);
    printf("4-bit decoding: %.0f GB/s, %.0f %% of a copy's %.0f\n", rate / 1e9, 100 * rate / copied,
           copied / 1e9);
    void *all[] = {codes, absmax8, nested, offset, out};
    for (int i = 0; i < 5; i++) d->api->free(d, all[i]);
}

/* ---- attention --------------------------------------------------------------------------------------- */

typedef struct attention_job {
    qs_attention a;
    qs_mat d_o, dq, dk, dv;
} attention_job;
static void forward(const void *j) { qs_op_attention(d, &((const attention_job *)j)->a); }
static void backward(const void *j)
{
    const attention_job *b = j;
    qs_op_attention_backward(d, &b->a, b->d_o, b->dq, b->dk, b->dv);
}

static void bench_attention(int64_t tokens)
{
    enum { HEADS = 32, DIM = 128 };
    size_t bytes = (size_t)tokens * HEADS * DIM * 2;
    void *part[8];
    qs_mat m[8];
    for (int i = 0; i < 8; i++) m[i] = qs_mat_of(part[i] = take(bytes), QS_BF16, tokens, HEADS * DIM);
    int32_t *document = take((size_t)tokens * 4);
    float *lse = take((size_t)tokens * HEADS * 4);
    d->api->fill(d, QS_QUEUE_COMPUTE, document, 0, (size_t)tokens * 4);
    attention_job job = {{.q = m[0],
                          .k = m[1],
                          .v = m[2],
                          .o = m[3],
                          .lse = lse,
                          .heads = HEADS,
                          .kv_heads = HEADS,
                          .head_dim = DIM,
                          .scale = 0.088388f,
                          .document = document},
                         m[4],
                         m[5],
                         m[6],
                         m[7]};
    size_t scratch_bytes = qs_op_attention_workspace_bytes(d, &job.a);
    void *scratch = take(scratch_bytes);
    qs_device_set_workspace(d, scratch, scratch_bytes);
    double flop = 2.0 * HEADS * DIM * (double)tokens * (double)tokens / 2; /* of one causal product */
    double there = 2 * flop / timed(forward, &job), back = 5 * flop / timed(backward, &job);
    printf("attention, %d tokens: forward %.0f TFLOP/s, backward %.0f TFLOP/s\n", (int)tokens, there / 1e12,
           back / 1e12);
    qs_device_set_workspace(d, NULL, 0);
    for (int i = 0; i < 8; i++) d->api->free(d, part[i]);
    d->api->free(d, document);
    d->api->free(d, lse);
    d->api->free(d, scratch);
}

/* ---- code that is loaded late ------------------------------------------------------------------------ */

/* The driver's count is a peak: one block larger than all before shows what else is held. */
static void bench_late_code(uint64_t at_open)
{
    size_t bytes = (size_t)2 << 30;
    void *p = take(bytes);
    uint64_t used = d->api->used_bytes(d), kept = d->info.overhead_bytes - at_open;
    double late = ((double)used - (double)at_open - (double)bytes) / (1 << 20);
    printf("code loaded after the device was opened: %.0f MiB, %.0f MiB are kept for it%s\n", late,
           (double)kept / (1 << 20), late * (1 << 20) > (double)kept ? ": TOO FEW" : "");
    d->api->free(d, p);
}

int main(void)
{
    if (!qs_device_cuda() || !qs_device_cuda()->count()) {
        qs_device_open("cuda", &d, &e); /* says why not */
        printf("skip: %s\n", e.text);
        return 0;
    }
    must(qs_device_open("cuda", &d, &e));
    uint64_t at_open = d->api->used_bytes(d);
    printf("%s, overhead %.0f MiB\n", d->info.name, (double)d->info.overhead_bytes / (1 << 20));
    bench_products();
    bench_decode();
    bench_attention(2048);
    bench_attention(8192);
    bench_late_code(at_open);
    qs_device_close(d);
    return 0;
}
