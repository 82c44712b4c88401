/* profile_limits.c - the yardsticks of the roofline: the best rate of the product that training spends its
 * time in (activations times a weight matrix), and of the streamer without compute. Both are measured after
 * the steps, in the same run.
 */
#include "kernels/ops.h"
#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/report/profile.h"

enum { MOST_ROWS = 1024, MOST_FFN = 4096, ROUNDS = 5 };
#define LONGEST_NS ((uint64_t)3000000000)

static int32_t at_most(int32_t v, int32_t limit) { return v < limit ? v : limit; }

static double time_products(qs_device *d, const qs_gemm *g)
{
    double flops = 2.0 * (double)g->c.rows * (double)g->c.cols * (double)g->a.cols, best = 0;
    uint64_t begin = qs_now_ns();
    for (int i = 0; i <= ROUNDS && (i < 2 || qs_now_ns() - begin < LONGEST_NS); i++) {
        uint64_t start = qs_now_ns();
        qs_op_gemm(d, g);
        d->api->queue_sync(d, QS_QUEUE_COMPUTE);
        double rate = flops / qs_seconds(qs_now_ns() - start);
        if (i && rate > best) best = rate; /* the first makes the kernel */
    }
    return best;
}

double qs_profile_product_flops(const qs_engine *e)
{
    qs_device *d = e->device;
    qs_dtype type = e->sweep_config.type;
    int32_t tokens = e->sweep_config.sizes.max_tokens, m = at_most(qs_sweep_rows(tokens, tokens), MOST_ROWS),
            k = e->architecture.hidden, n = at_most(qs_architecture_ffn(&e->architecture), MOST_FFN);
    qs_gemm g = {.a = {.rows = m, .cols = k, .stride = k, .type = type},
                 .b = {.rows = n, .cols = k, .stride = k, .type = type},
                 .c = {.rows = m, .cols = n, .stride = n, .type = type},
                 .transpose_b = true,
                 .alpha = 1};
    size_t one = qs_dtype_bytes(type), a = qs_round_up((size_t)m * (size_t)k * one, 256),
           b = qs_round_up((size_t)n * (size_t)k * one, 256),
           c = qs_round_up((size_t)m * (size_t)n * one, 256), scratch = qs_op_gemm_workspace_bytes(d, &g);
    void *memory, *workspace = d->workspace;
    size_t workspace_bytes = d->workspace_bytes;
    qs_err ignored = {0};
    if (d->api->alloc(d, a + b + c + scratch, &memory, &ignored)) return 0;
    g.a.data = memory;
    g.b.data = (char *)memory + a;
    g.c.data = (char *)memory + a + b;
    d->api->fill(d, QS_QUEUE_COMPUTE, memory, 0x3c,
                 a + b); /* 0.011 in every type: zeros would be faster on some devices */
    qs_device_set_workspace(d, (char *)memory + a + b + c, scratch);
    double rate = time_products(d, &g);
    qs_device_set_workspace(d, workspace, workspace_bytes);
    d->api->free(d, memory);
    return rate;
}

int qs_profile_disk_rate(const qs_engine *g, const qs_schedule *schedule, double *rate, qs_err *e)
{
    *rate = 0;
    qs_stream_begin(g->stream, schedule);
    uint64_t bytes = qs_aio_stats_read(g->aio).read_bytes, start = qs_now_ns();
    for (int32_t v = 0; v < schedule->count - 1 && qs_now_ns() - start < LONGEST_NS;
         v++) { /* the last one would read ahead for another step */
        const void *weights;
        QS_TRY(qs_stream_acquire(g->stream, v, &weights, e));
        qs_stream_release(g->stream, v);
    }
    double seconds = qs_seconds(qs_now_ns() - start);
    *rate = (double)(qs_aio_stats_read(g->aio).read_bytes - bytes) / seconds;
    return 0;
}
