/* profile_memory.c - which bytes of the plan hold something at each visit.
 *
 * Pools are mapped whole before the first step, so this is not what is allocated but what would be lost: of
 * the streamer's memory what it noted, of the checkpoints those between their first visit and their last, of
 * scratch memory all of it during the visits that use it. Everything else holds its contents for the whole
 * run.
 */
#include <string.h>

#include "src/base/memory.h"
#include "src/report/profile.h"
#include "src/step/visit.h"

/* Levels alive, all micro-batches together, during visit v; alive [micro_batches] is kept up to date. */
static int64_t follow_checkpoints(const qs_sweep_config *c, const qs_schedule *s, int32_t v, int32_t *alive)
{
    const qs_visit *visit = &s->visits[v];
    int32_t after = qs_visit_levels_of(c, visit).out + 1;
    int64_t during = 0;
    if (visit->kind == QS_VISIT_EMBED)
        memset(alive, 0,
               (size_t)s->micro_batches *
                   sizeof *alive); /* a new sweep: what the last one left is taken over */
    for (int32_t mb = visit->first; mb < visit->first + visit->count; mb++)
        if (visit->kind == QS_VISIT_UPDATE || after > alive[mb]) alive[mb] = after;
    for (int32_t mb = 0; mb < s->micro_batches; mb++) during += alive[mb];
    for (int32_t mb = visit->first; mb < visit->first + visit->count; mb++)
        if (visit->kind == QS_VISIT_BACKWARD) alive[mb] = after; /* the gradient above is used up */
    return during;
}

void qs_profile_memory(const qs_profile *p, int step, uint64_t *bytes)
{
    const qs_plan *plan = &p->engine->plan;
    const qs_schedule *s = p->schedule;
    int32_t *alive = qs_calloc((size_t)s->micro_batches, sizeof *alive);
    int64_t levels = (int64_t)(p->engine->layout.layers + 1) *
                     qs_schedule_group(s->micro_batches, p->engine->sweep_config.sweeps);
    for (int32_t v = 0; v < s->count; v++) {
        const qs_usage *u = &p->steps[step].recorder.usage[v];
        int64_t checkpoints = follow_checkpoints(&p->engine->sweep_config, s, v, alive);
        for (int i = 0; i < plan->item_count; i++) {
            const qs_plan_item *item = &plan->items[i];
            uint64_t *out = &bytes[(size_t)v * (size_t)plan->item_count + (size_t)i];
            switch (item->item) {
            case QS_ITEM_RING:
                *out = u->ring;
                break;
            case QS_ITEM_DEVICE_SLOTS:
                *out = u->slots;
                break;
            case QS_ITEM_RESIDENT:
                *out = u->homes_device;
                break;
            case QS_ITEM_RESIDENT_RAM:
                *out = u->homes_host;
                break;
            default:
                *out = qs_visit_holds(&s->visits[v], item->item, p->steps[step].visits[v].make_ns > 0)
                           ? item->bytes
                           : 0;
            }
            if (item->item == QS_ITEM_CHECKPOINTS && !p->engine->sweep_config.checkpoints_on_disk)
                *out = (uint64_t)((double)item->bytes * (double)checkpoints / (double)levels);
        }
    }
    qs_free(alive);
}
