/* gemm_onednn.c - matrix products by oneDNN, through a cache of primitives.
 *
 * A product's shapes, strides, types and flags make its key; the primitive made for a key is kept, so a
 * repeated product creates and allocates nothing. Its scratchpad comes from the device's workspace. fp32
 * stays fp32 (strict mode).
 */
#include <dnnl.h>
#include <stdio.h>

#include "kernels/cpu/cpu.h"
#include "src/base/memory.h"

typedef struct gemm_key {
    int64_t m, n, k, a_stride, b_stride, c_stride;
    int32_t type, c_type, transpose_a, transpose_b, accumulate, bias;
    float alpha;
    int32_t padding; /* keys compare as bytes */
} gemm_key;

typedef struct gemm_entry {
    gemm_key key;
    uint64_t last_use; /* 0: empty */
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c, bias, scratch;
    size_t scratch_bytes;
    bool has_run;
} gemm_entry;

/* More than the products of a run with a few batch shapes; then the least recently used one goes. */
enum { CACHE_ENTRIES = 256 };

struct qs_cpu_gemm_cache {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    uint64_t clock;
    gemm_entry entry[CACHE_ENTRIES];
};

int qs_cpu_gemm_cache_create(qs_cpu_gemm_cache **out, qs_err *e)
{
    qs_cpu_gemm_cache *cache = qs_calloc(1, sizeof *cache);
    if (dnnl_engine_create(&cache->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&cache->stream, cache->engine, dnnl_stream_default_flags) != dnnl_success) {
        qs_cpu_gemm_cache_free(cache);
        QS_FAIL(e, QS_EUNSUP, "oneDNN refuses to run on this processor");
    }
    *out = cache;
    return 0;
}

static void entry_clear(gemm_entry *x)
{
    dnnl_memory_t memories[] = {x->a, x->b, x->c, x->bias, x->scratch};
    for (size_t i = 0; i < sizeof memories / sizeof *memories; i++)
        if (memories[i]) dnnl_memory_destroy(memories[i]);
    if (x->primitive) dnnl_primitive_destroy(x->primitive);
    *x = (gemm_entry){0};
}

void qs_cpu_gemm_cache_free(qs_cpu_gemm_cache *cache)
{
    if (!cache) return;
    for (int i = 0; i < CACHE_ENTRIES; i++) entry_clear(&cache->entry[i]);
    if (cache->stream) dnnl_stream_destroy(cache->stream);
    if (cache->engine) dnnl_engine_destroy(cache->engine);
    qs_free(cache);
}

/* ---- making a primitive ------------------------------------------------------------------------------ */

static dnnl_memory_desc_t describe(int64_t rows, int64_t cols, int64_t row_step, int64_t col_step,
                                   int32_t type)
{
    dnnl_memory_desc_t md;
    dnnl_dims_t dims = {rows, cols}, strides = {row_step, col_step};
    dnnl_status_t rc =
        dnnl_memory_desc_init_by_strides(&md, 2, dims, type == QS_F32 ? dnnl_f32 : dnnl_bf16, strides);
    QS_ASSERT(rc == dnnl_success);
    return md;
}

static dnnl_primitive_attr_t attributes(const gemm_key *key)
{
    dnnl_primitive_attr_t attr;
    QS_ASSERT(dnnl_primitive_attr_create(&attr) == dnnl_success);
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    dnnl_primitive_attr_set_fpmath_mode(attr, dnnl_fpmath_mode_strict);
    if (key->alpha != 1) dnnl_primitive_attr_set_output_scales(attr, 1, 0, &key->alpha);
    if (key->accumulate) {
        dnnl_post_ops_t post;
        QS_ASSERT(dnnl_post_ops_create(&post) == dnnl_success);
        dnnl_post_ops_append_sum(post, 1);
        dnnl_primitive_attr_set_post_ops(attr, post);
        dnnl_post_ops_destroy(post);
    }
    return attr;
}

static dnnl_memory_t view(dnnl_engine_t engine, const dnnl_memory_desc_t *md)
{
    dnnl_memory_t memory = NULL;
    dnnl_memory_create(&memory, md, engine, DNNL_MEMORY_NONE);
    return memory;
}

static dnnl_status_t entry_fill(gemm_entry *x, const gemm_key *key, dnnl_engine_t engine)
{
    dnnl_memory_desc_t a = describe(key->m, key->k, key->transpose_a ? 1 : key->a_stride,
                                    key->transpose_a ? key->a_stride : 1, key->type);
    dnnl_memory_desc_t b = describe(key->k, key->n, key->transpose_b ? 1 : key->b_stride,
                                    key->transpose_b ? key->b_stride : 1, key->type);
    dnnl_memory_desc_t c = describe(key->m, key->n, key->c_stride, 1, key->c_type);
    dnnl_memory_desc_t bias = describe(1, key->n, key->n, 1, QS_F32);
    dnnl_matmul_desc_t product;
    dnnl_status_t rc = dnnl_matmul_desc_init(&product, &a, &b, key->bias ? &bias : NULL, &c);
    if (rc != dnnl_success) return rc;

    dnnl_primitive_attr_t attr = attributes(key);
    dnnl_primitive_desc_t pd;
    rc = dnnl_primitive_desc_create(&pd, &product, attr, engine, NULL);
    dnnl_primitive_attr_destroy(attr);
    if (rc != dnnl_success) return rc;

    const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    x->scratch_bytes = dnnl_memory_desc_get_size(scratch);
    x->a = view(engine, &a);
    x->b = view(engine, &b);
    x->c = view(engine, &c);
    x->bias = view(engine, &bias);
    x->scratch = view(engine, scratch);
    x->key = *key;
    rc = dnnl_primitive_create(&x->primitive, pd);
    dnnl_primitive_desc_destroy(pd);
    return rc;
}

/* What making a primitive, or running one for the first time, may take. Refused in the midst of it, oneDNN
 * crashes. */
#define PRIMITIVE_BYTES ((size_t)16 << 20)

static bool has_room(qs_cpu *d)
{
    if (qs_memory_is_there(PRIMITIVE_BYTES)) return true;
    if (!d->failure.code)
        qs_err_set(&d->failure, QS_ENOMEM, __FILE__, __LINE__,
                   "the system has no %zu MiB left for a kernel of oneDNN; give less --vram or --ram",
                   PRIMITIVE_BYTES >> 20);
    return false;
}

/* The entry of a key, made on first use; NULL (and the device's failure set) when oneDNN cannot make it. */
static gemm_entry *entry_of(qs_cpu *d, const gemm_key *key)
{
    qs_cpu_gemm_cache *cache = d->gemm;
    gemm_entry *oldest = cache->entry;
    for (gemm_entry *x = cache->entry; x < cache->entry + CACHE_ENTRIES; x++) {
        if (x->last_use && !memcmp(&x->key, key, sizeof *key)) {
            x->last_use = ++cache->clock;
            return x;
        }
        if (x->last_use < oldest->last_use) oldest = x;
    }
    entry_clear(oldest);
    if (!has_room(d)) return NULL;
    dnnl_status_t rc = entry_fill(oldest, key, cache->engine);
    if (rc != dnnl_success) {
        entry_clear(oldest);
        if (!d->failure.code)
            qs_err_set(&d->failure, QS_EUNSUP, __FILE__, __LINE__,
                       "oneDNN cannot make a %s matrix product of %lld x %lld x %lld (status %d)",
                       qs_dtype_name((qs_dtype)key->type), (long long)key->m, (long long)key->n,
                       (long long)key->k, (int)rc);
        return NULL;
    }
    oldest->last_use = ++cache->clock;
    return oldest;
}

static gemm_key key_of(const qs_gemm *g)
{
    gemm_key key;
    memset(&key, 0, sizeof key);
    key.m = g->c.rows;
    key.n = g->c.cols;
    key.k = g->transpose_a ? g->a.rows : g->a.cols;
    key.a_stride = g->a.stride;
    key.b_stride = g->b.stride;
    key.c_stride = g->c.stride;
    key.type = (int32_t)g->a.type;
    key.c_type = (int32_t)g->c.type;
    key.transpose_a = g->transpose_a;
    key.transpose_b = g->transpose_b;
    key.accumulate = g->beta != 0;
    key.bias = g->bias != NULL;
    key.alpha = g->alpha;
    return key;
}

/* ---- running one ------------------------------------------------------------------------------------- */

/* The bias enters before alpha does, so it is divided by it; in fp32, whatever its type was. */
static size_t bias_bytes(const qs_gemm *g)
{
    return g->bias ? qs_round_up((size_t)g->c.cols * sizeof(float), 256) : 0;
}

size_t qs_gemm_onednn_bytes(qs_cpu *d, const qs_gemm *g)
{
    gemm_key key = key_of(g);
    const gemm_entry *x = entry_of(d, &key);
    return x ? bias_bytes(g) + x->scratch_bytes : 0;
}

void qs_gemm_onednn(qs_cpu *d, const qs_gemm *g)
{
    gemm_key key = key_of(g);
    gemm_entry *x = entry_of(d, &key);
    if (!x) return;
    QS_ASSERT(!g->bias || g->alpha != 0);
    if (!x->has_run && !has_room(d)) return;
    x->has_run = true;
    char *workspace = d->base.workspace;
    QS_ASSERT(bias_bytes(g) + x->scratch_bytes <= d->base.workspace_bytes);
    float *bias = (float *)workspace;
    if (g->bias)
        for (int64_t j = 0; j < g->c.cols; j++)
            bias[j] = qs_load_f32(g->bias, g->bias_type, (size_t)j) / g->alpha;

    dnnl_memory_set_data_handle(x->a, g->a.data);
    dnnl_memory_set_data_handle(x->b, g->b.data);
    dnnl_memory_set_data_handle(x->c, g->c.data);
    dnnl_memory_set_data_handle(x->bias, bias);
    dnnl_memory_set_data_handle(x->scratch, workspace + bias_bytes(g));
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, x->a},
                              {DNNL_ARG_WEIGHTS, x->b},
                              {DNNL_ARG_DST, x->c},
                              {DNNL_ARG_SCRATCHPAD, x->scratch},
                              {DNNL_ARG_BIAS, x->bias}};
    dnnl_status_t rc = dnnl_primitive_execute(x->primitive, d->gemm->stream, g->bias ? 5 : 4, args);
    if (rc == dnnl_success) rc = dnnl_stream_wait(d->gemm->stream);
    if (rc != dnnl_success && !d->failure.code)
        qs_err_set(&d->failure, QS_EUNSUP, __FILE__, __LINE__,
                   "oneDNN failed in a matrix product (status %d)", (int)rc);
}

void qs_gemm_onednn_name(char text[64])
{
    const dnnl_version_t *v = dnnl_version();
    int isa = (int)dnnl_get_effective_cpu_isa(); /* a set of bits in the library's own numbering */
    snprintf(text, 64, "onednn-%d.%d.%d-%x", v->major, v->minor, v->patch, (unsigned)isa);
}
