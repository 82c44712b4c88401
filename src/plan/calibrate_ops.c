/* calibrate_ops.c - measuring: every operation that a job has and the file lacks. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "io/file.h"
#include "kernels/op_replay.h"
#include "src/base/clock.h"
#include "src/base/interrupt.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/plan/calibrate_parts.h"

/* Each operation is measured in rounds that lie apart: a machine that is busy with something else for a while
 * does not make some of them dear. */
enum { ROUNDS = 2, LEAST_CALLS = 2, MOST_CALLS = 30 };
enum { SMALL_BYTES = 4 << 20, MOST_ROUND_BYTES = 512 << 20, PATTERN_BYTES = 1 << 20, ALIGN = 4096 };
#define ENOUGH_SECONDS 0.015 /* of repeated calls in a round */
#define LONG_SECONDS 0.35    /* a single call that takes longer is measured with fewer rows */

typedef struct bench {
    qs_calibration *k;
    char *memory;
    uint8_t *pattern; /* [PATTERN_BYTES] what the memory is filled with */
    size_t bytes, at;
    size_t written; /* up to here it does not hold what fill put there */
    bool again;     /* not the first round */
} bench;

static double clock_now(const qs_calibration *k)
{
    if (!k->c.processor_time) return qs_seconds(qs_now_ns());
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return ((double)t.tv_sec + (double)t.tv_nsec * 1e-9) / k->c.device->info.threads;
}

/* Numbers between 2^-14 and 2^-1 in every type, different from one another. */
static uint8_t *make_pattern(void)
{
    uint8_t *pattern = qs_malloc(PATTERN_BYTES);
    uint32_t x = 1;
    for (size_t i = 0; i < PATTERN_BYTES; i++) {
        x = x * 1664525u + 1013904223u;
        pattern[i] = (uint8_t)(i % 2 ? 0x38 + (x >> 30) : x >> 24);
    }
    return pattern;
}

static void fill(bench *b, size_t bytes)
{
    qs_device *d = b->k->c.device;
    for (size_t at = 0; at < bytes; at += PATTERN_BYTES)
        d->api->copy_in(d, QS_QUEUE_COMPUTE, b->memory + at, b->pattern,
                        bytes - at < PATTERN_BYTES ? bytes - at : PATTERN_BYTES);
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    b->written = 0;
}

static size_t replay_bytes(const bench *b, const qs_op_call *call, int64_t n)
{
    return qs_round_up(qs_op_replay_bytes(b->k->c.device, call, n), ALIGN);
}

/* In a step the operands of a large operation come round again only after a layer's other weights, and so
 * come from memory as far as those fill the caches: every call takes the next stretch of the block. What a
 * small one works on was just written, and is found where it was. */
static double once(bench *b, const qs_op_call *call, int64_t n)
{
    qs_device *d = b->k->c.device;
    size_t bytes = replay_bytes(b, call, n);
    bool stay = bytes <= SMALL_BYTES;
    if (stay || b->at + bytes > b->bytes) b->at = 0;
    QS_ASSERT(b->at + bytes <= b->bytes);
    double start = clock_now(b->k);
    qs_op_replay(d, call, n, b->memory + b->at, bytes);
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    double seconds = clock_now(b->k) - start;
    if (b->at + bytes > b->written) b->written = b->at + bytes;
    if (!stay) b->at += bytes;
    return seconds;
}

/* The fastest of a few calls: on a machine that is busy with something else, what it would do otherwise. */
static double fastest(bench *b, const qs_op_call *call, int64_t n)
{
    fill(b, b->written); /* results of other operations may be numbers that processors are slow with */
    double best = once(b, call, n), total = 0;
    for (int i = 0; i < MOST_CALLS && (i < LEAST_CALLS || total < ENOUGH_SECONDS) && total < LONG_SECONDS;
         i++) {
        double t = once(b, call, n);
        best = t < best ? t : best;
        total += t;
    }
    return best > 0 ? best : 1e-9;
}

static void add_point(const bench *b, const char *text, int64_t n, double seconds)
{
    qs_curve *c = qs_calibration_curve(b->k, text, true);
    int at = 0;
    while (at < c->count && c->n[at] < (double)n) at++;
    if (at < c->count && c->n[at] == (double)n) {
        if (!b->again || seconds < c->seconds[at]) c->seconds[at] = seconds;
        return;
    }
    if (c->count == QS_CURVE_POINTS) { /* the new one is what is asked for now */
        at -= at > 1;
        memmove(&c->n[1], &c->n[2], (QS_CURVE_POINTS - 2) * sizeof *c->n);
        memmove(&c->seconds[1], &c->seconds[2], (QS_CURVE_POINTS - 2) * sizeof *c->seconds);
        c->count--;
    }
    memmove(&c->n[at + 1], &c->n[at], (size_t)(c->count - at) * sizeof *c->n);
    memmove(&c->seconds[at + 1], &c->seconds[at], (size_t)(c->count - at) * sizeof *c->seconds);
    c->n[at] = (double)n;
    c->seconds[at] = seconds;
    c->count++;
}

/* A matrix product's and attention's rate depends on its rows: a quarter of them first, then all, or as many
 * as take no longer than a call may. */
static void measure_call(bench *b, const qs_op_call *call)
{
    char text[160];
    qs_calibration_text(call, text);
    bool attention = qs_call_is_attention(call);
    int64_t n = qs_call_length(call), few = n > 64 && qs_call_has_curve(call) ? (n / 4 + 15) / 16 * 16 : n;
    if (few < n) {
        double seconds = fastest(b, call, few),
               growth = (double)n / (double)few * (attention ? (double)n / (double)few : 1);
        add_point(b, text, few, seconds);
        if (seconds * growth > LONG_SECONDS) { /* reached with fewer rows */
            double most = LONG_SECONDS / seconds * (double)few;
            n = most < 1.5 * (double)few ? few : most < (double)n ? (int64_t)most / 16 * 16 : n;
            if (n <= few) n = few / 2 / 16 * 16;
            if (n < 16) return;
        }
    }
    double seconds = fastest(b, call, n);
    add_point(b, text, n, seconds);
}

/* One round, or the largest operation. A plan has room for both. */
static size_t block_bytes(bench *b, const qs_costs *costs)
{
    size_t most = 0,
           round = costs->layer_bytes < MOST_ROUND_BYTES ? (size_t)costs->layer_bytes : MOST_ROUND_BYTES;
    const qs_op_list *list;
    for (int p = 0; (list = qs_costs_list(costs, p)); p++)
        for (int i = 0; i < list->count; i++) {
            const qs_op_call *c = &list->calls[i];
            size_t bytes = replay_bytes(b, c, qs_call_length(c));
            if (bytes > most) most = bytes;
        }
    return most && round > most ? round / ALIGN * ALIGN : most;
}

/* What is not known yet, each call once. */
static qs_op_list lacking_calls(const qs_calibration *k, const qs_costs *costs)
{
    const qs_op_list *list;
    qs_op_list out = {0};
    for (int p = 0; (list = qs_costs_list(costs, p)); p++)
        for (int i = 0; i < list->count; i++)
            if (!qs_calibration_has(k, &list->calls[i])) qs_op_list_add(&out, &list->calls[i], 1);
    return out;
}

static int measure_ops(qs_calibration *k, const qs_costs *costs, qs_err *e)
{
    qs_device *d = k->c.device;
    bench b = {.k = k};
    b.bytes = block_bytes(&b, costs);
    if (!b.bytes) return 0;
    void *workspace = d->workspace;
    size_t workspace_bytes = d->workspace_bytes;
    void *memory;
    QS_TRY(d->api->alloc(d, b.bytes, &memory, e));
    b.memory = memory;
    b.pattern = make_pattern();
    fill(&b, b.bytes);
    qs_op_list lacking = lacking_calls(k, costs);
    for (int round = 0; round < ROUNDS; round++) {
        b.again = round;
        for (int i = 0; i < lacking.count && !qs_interrupt_requested(); i++)
            measure_call(&b, &lacking.calls[i]);
    }
    qs_op_list_free(&lacking);
    qs_device_set_workspace(d, workspace, workspace_bytes);
    d->api->free(d, b.memory);
    qs_free(b.pattern);
    QS_TRY(qs_interrupt_check("while measuring this machine", e));
    return d->api->check(d, e);
}

int qs_calibration_measure(qs_calibration *k, const qs_costs *costs, qs_err *e)
{
    if (qs_calibration_knows(k, costs)) return 0;
    uint64_t start = qs_now_ns();
    if (!k->c.quiet)
        qs_info("measuring this machine for the prediction (kept in %s; --recalibrate measures again)",
                k->path);
    QS_TRY(qs_dir_create(k->c.dir, e));
    if (!(k->disk_read > 0) || !(k->verify > 0)) QS_TRY(qs_calibrate_disk(k, e));
    if (!k->c.device->info.shared_memory && !(k->link_in > 0)) QS_TRY(qs_calibrate_link(k, e));
    if (k->c.source && !(k->quantise_on_load > 0)) QS_TRY(qs_calibrate_quantise_on_load(k, e));
    QS_TRY(measure_ops(k, costs, e));
    qs_debug("measured in %.1f s: disk %.2f GB/s, checksum %.1f GB/s, quantise on load %.2f GB/s",
             qs_seconds(qs_now_ns() - start), k->disk_read * 1e-9, k->verify * 1e-9,
             k->quantise_on_load * 1e-9);
    return qs_calibration_write(k, e);
}
