/* bench_ops.c - what the operations cost on this machine, at the shapes of one Llama-3.2-1B layer and 1,024
 * tokens.
 *
 *     make build/release/bench/bench_ops && build/release/bench/bench_ops [tokens] [cpu] [section[/part of a
 * name]] [--cpu_isa=v3]
 *
 * Everything is compared with what the machine can do, measured in the same run: matrix products with the
 * best of oneDNN's and OpenBLAS's sgemm at the same shape and 0.85 of the multiply-add peak of the table in
 * use (in bf16 with oneDNN's best rate over weights in its own layout), memory-bound operations with a
 * parallel copy, LoRA's products with what a copy lets them do, attention with the peak. Times are the best
 * of several runs. With the word `cpu` they are processor time divided by the number of threads, for machines
 * that are busy with something else: best with OMP_NUM_THREADS=1. Sections: products, lora, quant, attention,
 * elements, training; all of them without the word. "lora/gate" measures what has "gate" in its name.
 */
#include <dlfcn.h>
#include <dnnl.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/base/random.h"

enum {
    HIDDEN = 2048,
    HEADS = 32,
    KV_HEADS = 8,
    HEAD_DIM = 64,
    FFN = 8192,
    RANK = 16,
    QKV = HIDDEN + 2 * KV_HEADS * HEAD_DIM
};

static qs_device *device;
static int64_t tokens = 1024;
static qs_dtype type; /* of the products: bf16 where the table is fast at it, fp32 otherwise */
static bool processor_time;
static char *only;       /* section */
static const char *part; /* of its lines those with this in their name; NULL: all */
static double best_gflops, copy_gbs, fma_gflops;

static bool wanted(const char *name) { return !part || strstr(name, part); }

/* ---- measuring --------------------------------------------------------------------------------------- */

typedef void (*body)(void *);

static double seconds_now(void)
{
    if (!processor_time) return qs_seconds(qs_now_ns());
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return ((double)t.tv_sec + (double)t.tv_nsec * 1e-9) / omp_get_max_threads();
}

static int by_size(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* Seconds of a call, of at least 5 and a third of a second: the fastest; the median of processor times, which
 * err to both sides. */
static double seconds_of(body f, void *x)
{
    enum { MOST = 2000 };
    double t[MOST], total = 0;
    int n = 0;
    f(x);
    for (; n < 5 || (n < MOST && total < 0.33); n++) {
        double start = seconds_now();
        f(x);
        total += t[n] = seconds_now() - start;
    }
    qsort(t, (size_t)n, sizeof *t, by_size);
    return t[processor_time ? n / 2 : 0];
}

static void *block(size_t bytes)
{
    qs_err e = {0};
    void *p;
    if (device->api->alloc(device, bytes, &p, &e)) {
        fprintf(stderr, "bench_ops: %s\n", e.text);
        exit(1);
    }
    return p;
}

static void *filled(qs_dtype t, int64_t n)
{
    char *p = block((size_t)n * qs_dtype_bytes(t));
    for (int64_t i = 0; i < n; i++)
        qs_store_f32(p, t, (size_t)i, qs_uniform_f32(qs_random_u32(1, 2, (uint64_t)i)) - 0.5f);
    return p;
}

static qs_mat matrix(qs_dtype t, int64_t rows, int64_t cols)
{
    return qs_mat_of(filled(t, rows * cols), t, rows, cols);
}

/* ---- what the machine can do ------------------------------------------------------------------------- */

enum { COPY_BYTES = 128 << 20 };

static void copy(void *x)
{
    char **p = x;
    int64_t piece = COPY_BYTES / 64;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < COPY_BYTES; at += piece) memcpy(p[0] + at, p[1] + at, (size_t)piece);
}

typedef struct product {
    dnnl_primitive_t primitive;
    dnnl_stream_t stream;
    dnnl_exec_arg_t args[4];
} product;

static void run_product(void *x)
{
    product *p = x;
    dnnl_primitive_execute(p->primitive, p->stream, 4, p->args);
    dnnl_stream_wait(p->stream);
}

/* oneDNN's rate for [m,k] x [k,n] in bf16 with the weights in the layout it likes best. */
static double prepacked_gflops(int64_t m, int64_t n, int64_t k)
{
    dnnl_engine_t engine;
    product p;
    dnnl_memory_desc_t md[3];
    dnnl_dims_t dims[3] = {{m, k}, {k, n}, {m, n}};
    dnnl_engine_create(&engine, dnnl_cpu, 0);
    dnnl_stream_create(&p.stream, engine, dnnl_stream_default_flags);
    for (int i = 0; i < 3; i++)
        dnnl_memory_desc_init_by_tag(&md[i], 2, dims[i], dnnl_bf16, i == 1 ? dnnl_format_tag_any : dnnl_ab);
    dnnl_matmul_desc_t desc;
    dnnl_matmul_desc_init(&desc, &md[0], &md[1], NULL, &md[2]);
    dnnl_primitive_attr_t attr;
    dnnl_primitive_attr_create(&attr);
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    dnnl_primitive_desc_t pd;
    if (dnnl_primitive_desc_create(&pd, &desc, attr, engine, NULL) != dnnl_success) return 0;
    dnnl_primitive_create(&p.primitive, pd);
    static const dnnl_query_t queries[4] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md,
                                            dnnl_query_scratchpad_md};
    static const int names[4] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};
    void *memory[4];
    for (int i = 0; i < 4; i++) {
        const dnnl_memory_desc_t *at = dnnl_primitive_desc_query_md(pd, queries[i], 0);
        memory[i] = filled(QS_BF16, (int64_t)(dnnl_memory_desc_get_size(at) + 2) / 2);
        p.args[i].arg = names[i];
        dnnl_memory_create(&p.args[i].memory, at, engine, memory[i]);
    }
    double rate = 2.0 * (double)(m * n * k) / seconds_of(run_product, &p) * 1e-9;
    for (int i = 0; i < 4; i++) {
        dnnl_memory_destroy(p.args[i].memory);
        device->api->free(device, memory[i]);
    }
    dnnl_primitive_destroy(p.primitive);
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
    dnnl_stream_destroy(p.stream);
    dnnl_engine_destroy(engine);
    return rate;
}

/* Independent chains of fused multiply-adds on every thread, by the table in use. */
enum { LINKS = 1 << 20 };
static double chain_flops;
static void all_chains(void *unused)
{
    (void)unused;
    double all = 0;
#pragma omp parallel reduction(+ : all)
    {
        double flops;
        ((qs_cpu *)device)->table->fma_chains(LINKS, &flops);
        all += flops;
    }
    chain_flops = all;
}

/* ---- the libraries' products in fp32 at the same shape ----------------------------------------------- */

typedef void (*cblas)(int, int, int, int, int, int, float, const float *, int, const float *, int, float,
                      float *, int);
static cblas openblas; /* NULL where it is not installed */

typedef struct sgemm_call {
    int m, n, k;
    bool transpose_b;
    const float *a, *b;
    float *c;
} sgemm_call;

static void run_dnnl_sgemm(void *x)
{
    sgemm_call *s = x;
    dnnl_sgemm('N', s->transpose_b ? 'T' : 'N', s->m, s->n, s->k, 1, s->a, s->k, s->b,
               s->transpose_b ? s->k : s->n, 0, s->c, s->n);
}
static void run_openblas(void *x)
{
    sgemm_call *s = x;
    openblas(101, 111, s->transpose_b ? 112 : 111, s->m, s->n, s->k, 1, s->a, s->k, s->b,
             s->transpose_b ? s->k : s->n, 0, s->c, s->n);
}

/* The better library's rate for c[m,n] = a[m,k] op(b). */
static double library_gflops(int64_t m, int64_t n, int64_t k, bool transpose_b)
{
    float *a = filled(QS_F32, m * k), *b = filled(QS_F32, k * n), *c = filled(QS_F32, m * n);
    sgemm_call s = {(int)m, (int)n, (int)k, transpose_b, a, b, c};
    double seconds = seconds_of(run_dnnl_sgemm, &s);
    if (openblas) seconds = fmin(seconds, seconds_of(run_openblas, &s));
    device->api->free(device, a);
    device->api->free(device, b);
    device->api->free(device, c);
    return 2.0 * (double)(m * n * k) / seconds * 1e-9;
}

static void measure_machine(void)
{
    char *p[2] = {block(COPY_BYTES), block(COPY_BYTES)};
    memset(p[1], 1, COPY_BYTES);
    copy_gbs = 2.0 * COPY_BYTES / seconds_of(copy, p) * 1e-9;
    device->api->free(device, p[0]);
    device->api->free(device, p[1]);
    double t = seconds_of(all_chains, NULL);
    fma_gflops = chain_flops / t * 1e-9;
    /* The libraries get the instruction set that the table has. */
    int lanes = ((qs_cpu *)device)->table->lanes;
    if (lanes < 16) {
        dnnl_set_max_cpu_isa(lanes == 8 ? dnnl_cpu_isa_avx2 : dnnl_cpu_isa_sse41);
        setenv("OPENBLAS_CORETYPE", lanes == 8 ? "Haswell" : "Nehalem", 1);
    }
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (library) *(void **)&openblas = dlsym(library, "cblas_sgemm");
    type = device->info.bf16 ? QS_BF16 : QS_F32;
    if (type == QS_F32 || (only && strcmp(only, "products"))) best_gflops = NAN;
    static const int64_t shapes[][2] = {{QKV, HIDDEN}, {2 * FFN, HIDDEN}, {HIDDEN, FFN}, {4096, 4096}};
    for (size_t i = 0; !isnan(best_gflops) && i < sizeof shapes / sizeof *shapes; i++)
        best_gflops = fmax(best_gflops, prepacked_gflops(i == 3 ? 4096 : tokens, shapes[i][0], shapes[i][1]));
    printf("%s, %lld tokens\n", device->info.name, (long long)tokens);
    printf("  copy %.1f GB/s (read + write), fp32 multiply-add %.0f GFLOP/s", copy_gbs, fma_gflops);
    if (!isnan(best_gflops)) printf(", oneDNN bf16 at best %.0f GFLOP/s", best_gflops);
    printf("; products in %s; OpenBLAS is %s\n\n", qs_dtype_name(type), openblas ? "here" : "not installed");
}

/* ---- matrix products --------------------------------------------------------------------------------- */

static void run_gemm(void *x) { qs_op_gemm(device, x); }

/* `yardstick`: the rate in GFLOP/s that it is compared with. */
static double gemm(const char *name, qs_gemm g, double yardstick)
{
    if (!wanted(name)) return 0;
    int64_t k = g.transpose_a ? g.a.rows : g.a.cols;
    size_t bytes = qs_op_gemm_workspace_bytes(device, &g);
    void *scratch = block(bytes + 1);
    qs_device_set_workspace(device, scratch, bytes);
    double t = seconds_of(run_gemm, &g), rate = 2.0 * (double)(g.c.rows * g.c.cols * k) / t * 1e-9;
    printf(
        "  %-34s %6lld x %6lld x %6lld %9.2f ms %8.0f GFLOP/s %4.0f %% of the yardstick, scratch %.1f MiB\n",
        name, (long long)g.c.rows, (long long)g.c.cols, (long long)k, t * 1e3, rate, 100 * rate / yardstick,
        (double)bytes / (1 << 20));
    qs_device_set_workspace(device, NULL, 0);
    device->api->free(device, scratch);
    return t;
}

/* The best of the libraries at this shape, and of 0.85 of the multiply-add peak. */
static double product_yardstick(int64_t m, int64_t n, int64_t k, bool transpose_b)
{
    double library = isnan(best_gflops) ? library_gflops(m, n, k, transpose_b) : best_gflops;
    return fmax(library, 0.85 * fma_gflops);
}

static double bytes_of(qs_mat m) { return (double)(m.rows * m.cols) * (double)qs_dtype_bytes(m.type); }

/* A thin product moves every operand once at best: the smaller of copy speed times its intensity, and 0.85 of
 * the peak. */
static double thin(const char *name, qs_gemm g)
{
    int64_t k = g.transpose_a ? g.a.rows : g.a.cols;
    double flops = 2.0 * (double)(g.c.rows * g.c.cols * k),
           bytes = bytes_of(g.a) + bytes_of(g.b) + bytes_of(g.c) * (g.beta != 0 ? 2 : 1);
    return gemm(name, g, fmin(copy_gbs * flops / bytes, 0.85 * fma_gflops));
}

static double linear(const char *name, int64_t out, int64_t in, double *backward)
{
    char text[64];
    if (!wanted(name)) return 0;
    qs_mat x = matrix(type, tokens, in), w = matrix(type, out, in), y = matrix(type, tokens, out);
    double forward = gemm(name, (qs_gemm){.a = x, .b = w, .c = y, .transpose_b = true, .alpha = 1},
                          product_yardstick(tokens, out, in, true));
    snprintf(text, sizeof text, "%s, input gradient", name);
    *backward +=
        gemm(text, (qs_gemm){.a = y, .b = w, .c = x, .alpha = 1}, product_yardstick(tokens, in, out, false));
    device->api->free(device, x.data);
    device->api->free(device, w.data);
    device->api->free(device, y.data);
    return forward;
}

/* The six products of a LoRA pair, with its output a part of a wider matrix as in the fused projections. */
static double lora(const char *name, int64_t out, int64_t wide, int64_t in, double *backward)
{
    char text[64];
    qs_mat x = matrix(type, tokens, in),
           y = qs_mat_part(matrix(type, tokens, wide), 0, tokens, wide - out, out);
    qs_mat a = matrix(type, RANK, in), b = matrix(type, out, RANK), h = matrix(type, tokens, RANK);
    qs_mat ga = matrix(QS_F32, RANK, in), gb = matrix(QS_F32, out, RANK);
#define LORA(what) (snprintf(text, sizeof text, "%s, " what, name), text)
    double forward =
        thin(LORA("h = x A^T"), (qs_gemm){.a = x, .b = a, .c = h, .transpose_b = true, .alpha = 1});
    forward += thin(LORA("y += h B^T"),
                    (qs_gemm){.a = h, .b = b, .c = y, .transpose_b = true, .alpha = 2, .beta = 1});
    *backward += thin(LORA("dh = dy B"), (qs_gemm){.a = y, .b = b, .c = h, .alpha = 2});
    *backward += thin(LORA("dB += dy^T h"),
                      (qs_gemm){.a = y, .b = h, .c = gb, .transpose_a = true, .alpha = 2, .beta = 1});
    *backward += thin(LORA("dA += dh^T x"),
                      (qs_gemm){.a = h, .b = x, .c = ga, .transpose_a = true, .alpha = 1, .beta = 1});
    *backward += thin(LORA("dx += dh A"), (qs_gemm){.a = h, .b = a, .c = x, .alpha = 1, .beta = 1});
    void *all[] = {
        x.data, (char *)y.data - (size_t)(wide - out) * qs_dtype_bytes(type), a.data, b.data, h.data, ga.data,
        gb.data};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) device->api->free(device, all[i]);
    return forward;
}

/* ---- the rest ---------------------------------------------------------------------------------------- */

typedef struct job {
    qs_mat x, y, z;
    qs_qtensor q;
    void *out;
    float *absmax, *state[4];
    uint8_t *codes, *m8, *v8;
    qs_attention attention;
    qs_dropout dropout;
    qs_rope rope;
    qs_rmsnorm norm;
    qs_adamw adamw;
    qs_ce_state ce;
    int32_t *flag;
    int64_t n;
} job;

static double memory_bound(const char *name, body f, job *j, double bytes)
{
    if (!wanted(name)) return 0;
    double t = seconds_of(f, j), rate = bytes / t * 1e-9;
    printf("  %-34s %9.2f ms %8.1f GB/s %4.0f %% of copy\n", name, t * 1e3, rate, 100 * rate / copy_gbs);
    return t;
}

static void run_quantise(void *x)
{
    job *j = x;
    qs_op_quantise4(device, j->q.type, j->out, j->x.type, j->n, j->codes, j->absmax);
}
static void run_quantise_absmax(void *x)
{
    job *j = x;
    qs_op_quantise_absmax(device, j->absmax, qs_quant_blocks(j->n), j->m8, j->state[0], j->state[1]);
}
static void run_dequantise(void *x)
{
    job *j = x;
    qs_op_dequantise4(device, &j->q, j->out, j->x.type);
}

static double four_bit(void)
{
    job j = {.n = (int64_t)HIDDEN * FFN * 2};
    double layer, elements = (double)HIDDEN * (QKV + HIDDEN + 3 * FFN);
    j.out = filled(QS_F32, j.n);
    j.codes = block((size_t)j.n / 2);
    j.absmax = block((size_t)qs_quant_blocks(j.n) * 4);
    j.m8 = block((size_t)qs_quant_blocks(j.n));
    j.state[0] = block((size_t)qs_nested_blocks(j.n) * 4);
    j.state[1] = block(4);
    static const struct {
        qs_quant_type type;
        qs_dtype dtype;
        const char *name;
    } kinds[] = {{QS_QUANT_NF4, QS_F32, "nf4, f32"},
                 {QS_QUANT_NF4, QS_BF16, "nf4, bf16"},
                 {QS_QUANT_FP4, QS_BF16, "fp4, bf16"},
                 {QS_QUANT_NF4, QS_F16, "nf4, f16"}};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char text[64];
        double bytes = (double)j.n * ((double)qs_dtype_bytes(kinds[k].dtype) + 0.5 + 4.0 / 64);
        j.x.type = kinds[k].dtype;
        j.q = (qs_qtensor){.type = kinds[k].type, .n = j.n, .codes = j.codes, .absmax = j.absmax};
        if (k == 0) run_quantise(&j);
        snprintf(text, sizeof text, "dequantise %s",
                 kinds[k].name); /* first: it leaves weights of this type to quantise */
        memory_bound(text, run_dequantise, &j, bytes);
        snprintf(text, sizeof text, "quantise %s", kinds[k].name);
        memory_bound(text, run_quantise, &j, bytes);
    }
    memory_bound("absmax to 8 bits", run_quantise_absmax, &j, (double)qs_quant_blocks(j.n) * 5);
    j.x.type = QS_BF16;
    j.q = (qs_qtensor){.type = QS_QUANT_NF4,
                       .n = j.n,
                       .codes = j.codes,
                       .absmax8 = j.m8,
                       .nested = j.state[0],
                       .offset = j.state[1]};
    layer =
        memory_bound("dequantise nf4, nested, to bf16", run_dequantise, &j, (double)j.n * (2.5 + 1.0 / 64)) *
        elements / (double)j.n;
    void *all[] = {j.out, j.codes, j.absmax, j.m8, j.state[0], j.state[1]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) device->api->free(device, all[i]);
    return layer;
}

static void run_attention(void *x) { qs_op_attention(device, &((job *)x)->attention); }
static void run_attention_backward(void *x)
{
    job *j = x;
    const qs_attention *a = &j->attention;
    qs_op_attention_backward(device, a, a->o, j->x, j->y, j->z);
}

static void attention(const char *name, qs_dtype kind, int32_t heads, int32_t kv_heads, int32_t dim,
                      double *forward, double *backward)
{
    if (!wanted(name)) return;
    job j = {.x = matrix(kind, tokens, heads * dim),
             .y = matrix(kind, tokens, kv_heads * dim),
             .z = matrix(kind, tokens, kv_heads * dim)};
    int32_t *document = block((size_t)tokens * 4);
    memset(document, 0, (size_t)tokens * 4);
    j.attention = (qs_attention){.q = matrix(kind, tokens, heads * dim),
                                 .k = matrix(kind, tokens, kv_heads * dim),
                                 .v = matrix(kind, tokens, kv_heads * dim),
                                 .o = matrix(kind, tokens, heads * dim),
                                 .lse = filled(QS_F32, heads * tokens),
                                 .heads = heads,
                                 .kv_heads = kv_heads,
                                 .head_dim = dim,
                                 .scale = 1 / sqrtf((float)dim),
                                 .document = document};
    size_t bytes = qs_op_attention_workspace_bytes(device, &j.attention);
    void *scratch = block(bytes);
    qs_device_set_workspace(device, scratch, bytes);
    double flops =
        2.0 * heads * dim * (double)tokens * (double)(tokens + 1); /* two products over the visible half */
    *forward = seconds_of(run_attention, &j);
    *backward = seconds_of(run_attention_backward, &j);
    printf("  %-34s forward %8.2f ms %6.0f GFLOP/s %4.0f %%, backward %8.2f ms %6.0f GFLOP/s %4.0f %% of "
           "fp32 multiply-add, scratch %.1f MiB\n",
           name, *forward * 1e3, flops / *forward * 1e-9, 100 * flops / *forward * 1e-9 / fma_gflops,
           *backward * 1e3, 2.5 * flops / *backward * 1e-9, 250 * flops / *backward * 1e-9 / fma_gflops,
           (double)bytes / (1 << 20));
    qs_device_set_workspace(device, NULL, 0);
    void *all[] = {
        j.x.data,           j.y.data,           j.z.data,        j.attention.q.data, j.attention.k.data,
        j.attention.v.data, j.attention.o.data, j.attention.lse, document,           scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) device->api->free(device, all[i]);
}

static void run_norm(void *x) { qs_op_rmsnorm(device, &((job *)x)->norm); }
static void run_norm_backward(void *x)
{
    job *j = x;
    qs_op_rmsnorm_backward(device, &j->norm, j->y, j->z, j->z);
}
static void run_rope(void *x) { qs_op_rope(device, &((job *)x)->rope); }
static void run_add(void *x)
{
    job *j = x;
    qs_op_add(device, j->y, j->x, j->y);
}
static void run_dropout(void *x)
{
    job *j = x;
    qs_op_dropout(device, &j->dropout, j->x, j->y, false);
}
static void run_gated(void *x)
{
    job *j = x;
    qs_op_gated(device, QS_ACT_SILU, j->x, j->y);
}
static void run_gated_backward(void *x)
{
    job *j = x;
    qs_op_gated_backward(device, QS_ACT_SILU, j->x, j->y, j->z);
}
static void run_ce_forward(void *x)
{
    job *j = x;
    qs_op_ce_forward(device, j->x, 0, &j->ce);
}
static void run_ce_backward(void *x)
{
    job *j = x;
    qs_op_ce_backward(device, j->x, 0, &j->ce, 1, j->y);
}
static void run_squares(void *x)
{
    job *j = x;
    qs_op_sum_squares(device, j->state[0], j->n, j->out);
}
static void run_adamw(void *x)
{
    job *j = x;
    qs_op_adamw(device, QS_ADAMW_TORCH, &j->adamw, j->state[0], j->state[1], j->state[2], j->state[3], j->n);
}
static void run_adamw8(void *x)
{
    job *j = x;
    qs_op_adamw8(device, &j->adamw, j->state[0], j->state[1], j->m8, j->v8, j->state[2], j->state[3], j->n);
}

static double element_wise(double *backward)
{
    double size = (double)qs_dtype_bytes(type), row = (double)tokens * HIDDEN * size,
           ffn = (double)tokens * FFN * size;
    job j = {.x = matrix(type, tokens, HIDDEN),
             .y = matrix(type, tokens, HIDDEN),
             .z = matrix(type, tokens, HIDDEN)};
    j.norm = (qs_rmsnorm){
        .x = j.x, .y = j.y, .weight = filled(QS_F32, HIDDEN), .weight_type = QS_F32, .eps = 1e-5f};
    j.dropout = (qs_dropout){.p = 0.1f, .seed = 1, .stream = 2};
    int32_t *positions = block((size_t)tokens * 4);
    for (int64_t i = 0; i < tokens; i++) positions[i] = (int32_t)i;
    int64_t rotated = HIDDEN + KV_HEADS * HEAD_DIM;
    j.rope = (qs_rope){.x = qs_mat_part(matrix(type, tokens, QKV), 0, tokens, 0, rotated),
                       .heads = HEADS + KV_HEADS,
                       .head_dim = HEAD_DIM,
                       .rotary_dim = HEAD_DIM,
                       .cos = filled(QS_F32, tokens * HEAD_DIM / 2),
                       .sin = filled(QS_F32, tokens * HEAD_DIM / 2),
                       .positions = positions};
    double forward = 2 * memory_bound("rmsnorm", run_norm, &j, 2 * row);
    forward += memory_bound("rope, q and k", run_rope, &j, 2 * row * (double)rotated / HIDDEN);
    forward += 2 * memory_bound("add", run_add, &j, 3 * row);
    memory_bound("dropout", run_dropout, &j, 2 * row);
    *backward += 2 * memory_bound("rmsnorm backward, added", run_norm_backward, &j, 4 * row);
    *backward += memory_bound("rope inverse", run_rope, &j, 2 * row * (double)rotated / HIDDEN);
    j.x = matrix(type, tokens, 2 * FFN);
    j.y = matrix(type, tokens, FFN);
    j.z = matrix(type, tokens, 2 * FFN);
    forward += memory_bound("silu gate", run_gated, &j, 3 * ffn);
    *backward += memory_bound("silu gate backward", run_gated_backward, &j, 5 * ffn);
    return forward;
}

static void loss_and_optimizer(void)
{
    int64_t tile = 8192;
    job j = {.x = matrix(QS_F32, tokens, tile), .y = matrix(type, tokens, tile)};
    int32_t *targets = block((size_t)tokens * 4);
    for (int64_t i = 0; i < tokens; i++) targets[i] = (int32_t)i;
    j.ce = (qs_ce_state){.max = filled(QS_F32, tokens),
                         .sum = filled(QS_F32, tokens),
                         .target_logit = filled(QS_F32, tokens),
                         .targets = targets};
    memory_bound("cross entropy, 8,192 words", run_ce_forward, &j, (double)(tokens * tile) * 4);
    memory_bound("cross entropy backward", run_ce_backward, &j,
                 (double)(tokens * tile) * (4 + (double)qs_dtype_bytes(type)));
    j.n = 11272192; /* LoRA on every linear of Llama-3.2-1B, r = 16 */
    for (int k = 0; k < 4; k++) {
        j.state[k] = filled(QS_F32, j.n);
        for (int64_t i = 0; k == 3 && i < j.n; i++) j.state[k][i] *= j.state[k][i];
    }
    j.adamw = (qs_adamw){1e-4, 0.9, 0.999, 1e-8, 0.01, 10, 1};
    j.out = block(8);
    memory_bound("sum of squares, 11.3 M", run_squares, &j, (double)j.n * 4);
    memory_bound("adamw, 11.3 M", run_adamw, &j, (double)j.n * 28);
    j.m8 = block((size_t)j.n);
    j.v8 = block((size_t)j.n);
    memory_bound("adamw 8-bit, 11.3 M", run_adamw8, &j, (double)j.n * 16);
}

/* Prints a section's name if it is wanted. */
static bool begins(const char *section)
{
    if (only && strcmp(only, section)) return false;
    printf("%s\n", section);
    return true;
}

int main(int argc, char **argv)
{
    qs_err e = {0};
    const char *isa = "auto";
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "--cpu_isa=", 10))
            isa = argv[i] + 10;
        else if (!strcmp(argv[i], "cpu"))
            processor_time = true;
        else if (argv[i][0] >= '0' && argv[i][0] <= '9')
            tokens = atoll(argv[i]);
        else
            only = argv[i];
    }
    char *cut = only ? strchr(only, '/') : NULL;
    if (cut) *cut = 0, part = cut + 1;
    if (tokens < 1 || qs_cpu_select(isa, false, &e) || qs_device_open("cpu", &device, &e)) {
        fprintf(stderr, "bench_ops: %s\n", e.code ? e.text : "tokens must be positive");
        return 1;
    }
    measure_machine();
    double products = 0, products_back = 0, adapters = 0, adapters_back = 0, attend = 0, attend_back = 0,
           rest = 0, rest_back = 0, decode = 0;
    if (begins("products")) {
        products += linear("qkv", QKV, HIDDEN, &products_back);
        products += linear("o", HIDDEN, HIDDEN, &products_back);
        products += linear("gate_up", 2 * FFN, HIDDEN, &products_back);
        products += linear("down", HIDDEN, FFN, &products_back);
    }
    if (begins("lora")) {
        adapters += lora("q", HIDDEN, QKV, HIDDEN, &adapters_back);
        for (int k = 0; k < 2; k++)
            adapters += lora(k ? "v" : "k", KV_HEADS * HEAD_DIM, QKV, HIDDEN, &adapters_back);
        adapters += lora("o", HIDDEN, HIDDEN, HIDDEN, &adapters_back);
        for (int k = 0; k < 2; k++) adapters += lora(k ? "up" : "gate", FFN, 2 * FFN, HIDDEN, &adapters_back);
        adapters += lora("down", HIDDEN, HIDDEN, FFN, &adapters_back);
    }
    if (begins("quant")) decode = four_bit();
    if (begins("attention")) {
        double unused[2];
        attention("32 heads of 64, 8 kv heads", type, HEADS, KV_HEADS, HEAD_DIM, &attend, &attend_back);
        attention("16 heads of 128", type, 16, 16, 128, &unused[0], &unused[1]);
        attention("32 heads of 64, 8 kv, other type", type == QS_BF16 ? QS_F32 : QS_BF16, HEADS, KV_HEADS,
                  HEAD_DIM, &unused[0], &unused[1]);
    }
    if (begins("elements")) rest = element_wise(&rest_back);
    if (begins("training")) loss_and_optimizer();
    if (only) return 0;
    printf("\none layer, %lld tokens:   forward  backward (without the recomputed forward pass)\n",
           (long long)tokens);
    printf("  matrix products        %8.2f  %8.2f ms\n", products * 1e3, products_back * 1e3);
    printf("  LoRA                   %8.2f  %8.2f ms\n", adapters * 1e3, adapters_back * 1e3);
    printf("  attention              %8.2f  %8.2f ms\n", attend * 1e3, attend_back * 1e3);
    printf("  element-wise           %8.2f  %8.2f ms\n", rest * 1e3, rest_back * 1e3);
    printf("  dequantise, per visit  %8.2f  %8.2f ms\n", decode * 1e3, decode * 1e3);
    qs_device_close(device);
    return 0;
}
