#include "offload/schedule.h"

#include <stdio.h>

#include "src/base/memory.h"

static void add(qs_schedule *s, qs_visit_kind kind, int32_t blob, int32_t index, int32_t first, int32_t count)
{
    s->visits[s->count++] = (qs_visit){kind, blob, index, first, count};
}

static void forwards(qs_schedule *s, int32_t first, int32_t count)
{
    add(s, QS_VISIT_EMBED, -1, 0, first, count);
    for (int32_t l = 0; l < s->layers; l++) add(s, QS_VISIT_FORWARD, l, l, first, count);
    for (int32_t t = 0; t < s->tiles; t++) add(s, QS_VISIT_HEAD_LOSS, s->layers + t, t, first, count);
}

static void backwards(qs_schedule *s, int32_t lowest, int32_t first, int32_t count)
{
    for (int32_t t = s->tiles - 1; t >= 0; t--)
        add(s, QS_VISIT_HEAD_GRADIENT, s->layers + t, t, first, count);
    for (int32_t l = s->layers - 1; l >= lowest; l--) add(s, QS_VISIT_BACKWARD, l, l, first, count);
}

static void begin(qs_schedule *s, int32_t layers, int32_t tiles, int32_t micro_batches, int32_t rounds)
{
    QS_ASSERT(layers > 0 && tiles > 0 && micro_batches > 0 && rounds > 0 && rounds <= micro_batches);
    int32_t most = rounds * (2 * (layers + tiles) + 1) + 1;
    *s = (qs_schedule){.layers = layers, .tiles = tiles, .micro_batches = micro_batches};
    s->visits = qs_calloc((size_t)most, sizeof *s->visits);
    s->next_use = qs_calloc((size_t)most, sizeof *s->next_use);
}

/* Two rounds from the end: the second knows what follows the end. */
static void finish(qs_schedule *s)
{
    int32_t blobs = s->layers + s->tiles, *seen = qs_malloc((size_t)blobs * sizeof *seen);
    for (int32_t b = 0; b < blobs; b++) seen[b] = -1;
    for (int32_t at = 2 * s->count - 1; at >= 0; at--) {
        int32_t v = at % s->count, b = s->visits[v].blob;
        if (b < 0) continue;
        if (seen[b] >= 0) s->next_use[v] = seen[b] - at;
        seen[b] = at;
    }
    qs_free(seen);
}

void qs_schedule_train(int32_t layers, int32_t tiles, int32_t micro_batches, int32_t lowest_trained,
                       int32_t sweeps, qs_schedule *out)
{
    int32_t group = qs_schedule_group(micro_batches, sweeps);
    begin(out, layers, tiles, micro_batches, sweeps);
    for (int32_t first = 0; first < micro_batches; first += group) {
        int32_t count = micro_batches - first < group ? micro_batches - first : group;
        forwards(out, first, count);
        backwards(out, lowest_trained, first, count);
    }
    add(out, QS_VISIT_UPDATE, -1, 0, 0, micro_batches);
    finish(out);
}

void qs_schedule_evaluate(int32_t layers, int32_t tiles, int32_t micro_batches, int32_t sweeps,
                          qs_schedule *out)
{
    int32_t group = qs_schedule_group(micro_batches, sweeps);
    begin(out, layers, tiles, micro_batches, sweeps);
    for (int32_t first = 0; first < micro_batches; first += group)
        forwards(out, first, micro_batches - first < group ? micro_batches - first : group);
    finish(out);
}

void qs_schedule_free(qs_schedule *s)
{
    qs_free(s->visits);
    qs_free(s->next_use);
    *s = (qs_schedule){0};
}

void qs_visit_name(const qs_visit *v, char text[32])
{
    static const char *const names[] = {"embed",         "forward",  "head loss",
                                        "head gradient", "backward", "update"};
    if (v->blob < 0)
        snprintf(text, 32, "%s", names[v->kind]);
    else
        snprintf(text, 32, "%s %d", names[v->kind], v->index);
}

int32_t qs_schedule_distance(const qs_schedule *s, int32_t from, int32_t blob)
{
    for (int32_t i = 0; i < s->count; i++) {
        int32_t v = from + i < s->count ? from + i : from + i - s->count;
        if (s->visits[v].blob == blob) return i;
    }
    return s->count;
}
