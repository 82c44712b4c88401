#include "src/step/fetches.h"

#include <string.h>

#include "offload/device_buffers.h"
#include "src/base/memory.h"

/* A store of records with a model clock: what it would hold and fetch. */
typedef struct store {
    const qs_visit_rules *r;
    qs_page_list uses;
    qs_device_buffers buffers;
    int64_t now, *next; /* tick; [records] */
    int32_t *fetched;   /* of the visit in progress */
} store;

static int32_t record_of(const store *s, int32_t level, int32_t slot) { return level * s->r->group + slot; }

static int64_t next_use(void *context, int32_t record)
{
    store *s = context;
    return qs_page_list_next_use(&s->uses, s->now, &s->next[record]);
}

static void used(store *s, int32_t record) { qs_page_list_used(&s->uses, s->now, &s->next[record]); }

static int32_t fetch(store *s, int32_t record)
{
    int32_t i = qs_device_buffers_take(&s->buffers, record, next_use, s);
    used(s, record);
    ++*s->fetched;
    return i;
}

static void get(store *s, int32_t record, bool fresh)
{
    int32_t i = qs_device_buffers_find(&s->buffers, record);
    if (i < 0) i = fresh ? qs_device_buffers_take(&s->buffers, record, next_use, s) : fetch(s, record);
    s->buffers.pins[i]++;
}

static void expect(store *s, int32_t record)
{
    if (qs_device_buffers_find(&s->buffers, record) < 0 && qs_device_buffers_spare(&s->buffers))
        fetch(s, record);
}

static void put(store *s, int32_t record, bool changed)
{
    s->buffers.pins[qs_device_buffers_find(&s->buffers, record)]--;
    if (changed) used(s, record);
}

static void checkpoints(store *s, const qs_visit *v, int32_t slot)
{
    qs_visit_levels l = qs_visit_levels_of(s->r->c, v);
    qs_visit_work work = qs_visit_work_of(s->r, v);
    bool forward = v->kind == QS_VISIT_FORWARD, layer = forward || v->kind == QS_VISIT_BACKWARD;
    if (v->kind == QS_VISIT_EMBED) { /* made on the host */
        int32_t old = qs_device_buffers_find(&s->buffers, record_of(s, l.out, slot));
        used(s, record_of(s, l.out, slot));
        if (old >= 0) s->buffers.record[old] = -1;
    } else if (layer) {
        int32_t in = record_of(s, l.in, slot), out = record_of(s, l.out, slot);
        get(s, in, false);
        get(s, out, forward);
        if (slot + 1 < v->count) expect(s, record_of(s, l.ahead, slot + 1));
        put(s, in, false);
        put(s, out, forward || work.input_gradient);
    } else if (l.in >= 0) {
        get(s, record_of(s, l.in, slot), false);
        put(s, record_of(s, l.in, slot), v->kind == QS_VISIT_HEAD_GRADIENT);
    }
}

static void saved(store *s, const qs_visit *v, int32_t slot)
{
    int32_t level = qs_visit_saved_in_ram(s->r, v);
    bool forward = v->kind == QS_VISIT_FORWARD;
    if (qs_sweep_saved_level(s->r->c, v->index) < 0 || (!forward && v->kind != QS_VISIT_BACKWARD)) return;
    qs_visit_slot ahead = qs_visit_saved_ahead(s->r, v, slot);
    if (level >= 0) get(s, record_of(s, level, slot), forward);
    if (ahead.level >= 0) expect(s, record_of(s, ahead.level, ahead.slot));
    if (level >= 0) put(s, record_of(s, level, slot), forward);
}

static void step(store *s, const qs_schedule *list, qs_record_kind kind, int32_t *fetched)
{
    for (int32_t r = 0; r < s->uses.records; r++) s->next[r] = s->uses.first[r];
    memset(fetched, 0, (size_t)list->count * sizeof *fetched);
    for (int32_t v = 0; v < list->count; v++) {
        s->fetched = &fetched[v];
        if (list->visits[v].kind == QS_VISIT_UPDATE) continue;
        for (int32_t slot = 0; slot < list->visits[v].count; slot++) {
            s->now = qs_visit_tick(s->r, v, slot);
            (kind == QS_RECORD_CHECKPOINT ? checkpoints : saved)(s, &list->visits[v], slot);
        }
    }
}

static int32_t *count(const qs_visit_rules *r, const qs_schedule *list, qs_record_kind kind, int32_t records)
{
    store s = {.r = r, .next = qs_calloc((size_t)records + 1, sizeof *s.next)};
    int32_t *fetched = qs_calloc((size_t)list->count, sizeof *fetched);
    qs_device_buffers_clear(&s.buffers, QS_ACTIVATION_BUFFERS);
    qs_visit_list(r, list, kind, records, &s.uses);
    for (int round = 0; round < 2; round++) step(&s, list, kind, fetched); /* the second is like all later */
    qs_page_list_free(&s.uses);
    qs_free(s.next);
    return fetched;
}

void qs_fetches_count(const qs_visit_rules *r, const qs_schedule *s, qs_fetches *out)
{
    const qs_sweep_config *c = r->c;
    *out = (qs_fetches){0};
    if (c->device->info.shared_memory) return;
    out->of[QS_RECORD_CHECKPOINT] = count(r, s, QS_RECORD_CHECKPOINT, (c->layout->layers + 1) * r->group);
    if (c->saved_in_ram) out->of[QS_RECORD_SAVED] = count(r, s, QS_RECORD_SAVED, c->saved_in_ram * r->group);
}

void qs_fetches_free(qs_fetches *f)
{
    for (int k = 0; k < QS_RECORDS; k++) qs_free(f->of[k]);
    *f = (qs_fetches){0};
}
