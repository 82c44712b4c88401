/* profile_trace.c - the trace:
 * https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
 *
 * A lane has slices that follow one another or nest: transfers as their devices served them, visits with the
 * host's waits inside. Every visit sets the counters.
 */
#include <string.h>

#include "src/base/memory.h"
#include "src/report/profile.h"

enum { LANE_DISK = 1, LANE_LINK, LANE_COMPUTE, LANE_UPDATE };

static double us(uint64_t ns) { return (double)ns * 1e-3; }

static void slice(json_t *events, int lane, const char *name, uint64_t origin, uint64_t start_ns,
                  uint64_t end_ns)
{
    if (end_ns > start_ns)
        json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:i, s:f, s:f}", "name", name, "ph", "X",
                                                "pid", 1, "tid", lane, "ts", us(start_ns - origin), "dur",
                                                us(end_ns - start_ns)));
}

static void lane(json_t *events, int number, const char *name)
{
    json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", "thread_name", "ph", "M",
                                            "pid", 1, "tid", number, "args", "name", name));
    json_array_append_new(events,
                          json_pack("{s:s, s:s, s:i, s:i, s:{s:i}}", "name", "thread_sort_index", "ph", "M",
                                    "pid", 1, "tid", number, "args", "sort_index", number));
}

static const char *blob_name(const qs_profile *p, const char *what, int32_t blob, char text[40])
{
    int32_t layers = p->engine->layout.layers;
    snprintf(text, 40, "%s %s %d", what, blob < layers ? "layer" : "head tile",
             blob < layers ? blob : blob - layers);
    return text;
}

static void transfers(json_t *events, const qs_profile *p, const qs_profile_step *s, bool disk,
                      uint64_t *until, uint64_t origin)
{
    qs_activity *lane_of = qs_calloc((size_t)s->recorder.count + 1, sizeof *lane_of);
    int n = qs_profile_lane(s, disk, until, lane_of);
    char name[40];
    for (int i = 0; i < n; i++) {
        const qs_activity *a = &lane_of[i];
        slice(events, disk ? LANE_DISK : LANE_LINK,
              blob_name(p,
                        !disk                         ? "copy"
                        : a->kind == QS_ACTIVITY_READ ? "read"
                                                      : "write",
                        a->blob, name),
              origin, a->start_ns, a->end_ns);
    }
    qs_free(lane_of);
}

/* The step's visits, and inside them what kept the host from computing. */
static void visits(json_t *events, const qs_profile *p, const qs_profile_step *s, uint64_t origin)
{
    static const char *const names[QS_ACTIVITY_KINDS] = {[QS_ACTIVITY_WAIT_DISK] = "wait for disk:",
                                                         [QS_ACTIVITY_WAIT_LINK] = "wait for link:",
                                                         [QS_ACTIVITY_VERIFY] = "checksum",
                                                         [QS_ACTIVITY_MAKE] = "quantise on load"};
    char name[40];
    for (int32_t v = 0; v < p->schedule->count; v++) {
        qs_visit_name(&p->schedule->visits[v], name);
        slice(events, LANE_COMPUTE, name, origin, s->visits[v].start_ns, s->visits[v].end_ns);
    }
    for (int32_t i = 0; i < s->recorder.count; i++) {
        const qs_activity *a = &s->recorder.activities[i];
        if (names[a->kind])
            slice(events, LANE_COMPUTE, blob_name(p, names[a->kind], a->blob, name), origin, a->start_ns,
                  a->end_ns);
    }
}

/* One counter per pool, with a series per item of the plan that is ever in use. */
static void counters(json_t *events, const qs_profile *p, int step, const uint64_t *bytes, uint64_t origin)
{
    const qs_plan *plan = &p->engine->plan;
    for (int32_t v = 0; v < p->schedule->count; v++) {
        uint64_t at = p->steps[step].visits[v].start_ns;
        for (int k = 0; at && k < QS_POOL_COUNT; k++) {
            json_t *series = json_object();
            for (int i = 0; i < plan->item_count; i++)
                if ((int)plan->items[i].pool == k && plan->items[i].bytes)
                    json_object_set_new(
                        series, qs_item_name(plan->items[i].item),
                        json_integer((json_int_t)bytes[(size_t)v * (size_t)plan->item_count + (size_t)i]));
            if (!json_object_size(series))
                json_decref(series);
            else
                json_array_append_new(events,
                                      json_pack("{s:s, s:s, s:i, s:f, s:o}", "name", qs_pool_name((qs_pool)k),
                                                "ph", "C", "pid", 1, "ts", us(at - origin), "args", series));
        }
    }
}

int qs_profile_write_trace(const qs_profile *p, const char *path, qs_err *e)
{
    json_t *events = json_array();
    uint64_t origin = p->steps[0].start_ns, disk_until = origin, link_until = origin;
    uint64_t *bytes =
        qs_calloc((size_t)p->schedule->count * (size_t)p->engine->plan.item_count, sizeof *bytes);
    lane(events, LANE_DISK, "disk");
    lane(events, LANE_LINK, "link");
    lane(events, LANE_COMPUTE, "compute");
    lane(events, LANE_UPDATE, "update");
    for (int i = 0; i < p->count; i++) {
        const qs_profile_step *s = &p->steps[i];
        transfers(events, p, s, true, &disk_until, origin);
        transfers(events, p, s, false, &link_until, origin);
        visits(events, p, s, origin);
        slice(events, LANE_UPDATE, "update", origin, s->swept_ns, s->end_ns);
        qs_profile_memory(p, i, bytes);
        counters(events, p, i, bytes, origin);
    }
    qs_free(bytes);
    return qs_profile_write_root(json_pack("{s:o, s:s}", "traceEvents", events, "displayTimeUnit", "ms"),
                                 path, e);
}
