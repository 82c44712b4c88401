/* sweep_lists.c - the schedule as the pagers need it: when which pack and which checkpoint is used. */
#include "src/step/sweep_parts.h"

void qs_sweep_list_packs(qs_sweep *s)
{
    const qs_schedule *t = &s->train_schedule, *ev = &s->evaluate_schedule;
    int32_t layers = s->c.layout->layers;
    for (int32_t v = 0; v < t->count; v++) {
        const qs_visit *x = &t->visits[v];
        if ((x->kind != QS_VISIT_FORWARD && x->kind != QS_VISIT_BACKWARD) || !s->c.lora->layer_mask[x->index]) continue;
        qs_page_list_add(&s->masters_train, v, x->index, QS_PAGE_READ);
        if (x->kind == QS_VISIT_BACKWARD) qs_page_list_add(&s->gradients_train, v, x->index, x->first ? QS_PAGE_CHANGE : QS_PAGE_NEW);
    }
    for (int32_t layer = 0; layer < layers; layer++) {
        if (!s->c.lora->layer_mask[layer]) continue;
        qs_page_list_add(&s->masters_train, t->count + layer, layer, QS_PAGE_CHANGE);
        qs_page_list_add(&s->gradients_train, t->count + layer, layer, QS_PAGE_READ);
    }
    for (int32_t v = 0; v < ev->count; v++)
        if (ev->visits[v].kind == QS_VISIT_FORWARD && s->c.lora->layer_mask[ev->visits[v].index])
            qs_page_list_add(&s->masters_evaluate, v, ev->visits[v].index, QS_PAGE_READ);
    qs_page_list_finish(&s->masters_train, layers, t->count + layers);
    qs_page_list_finish(&s->gradients_train, layers, t->count + layers);
    qs_page_list_finish(&s->masters_evaluate, layers, ev->count);
}

/* What a visit does with the checkpoints of one micro-batch. */
static void list_visit(const qs_sweep *s, qs_page_list *out, const qs_visit *v, int64_t tick, int32_t slot)
{
    int32_t layers = s->c.layout->layers, k = s->group;
    switch (v->kind) {
    case QS_VISIT_EMBED:
        qs_page_list_add(out, tick, slot, QS_PAGE_NEW);
        return;
    case QS_VISIT_FORWARD:
        qs_page_list_add(out, tick, v->index * k + slot, QS_PAGE_READ);
        qs_page_list_add(out, tick, (v->index + 1) * k + slot, QS_PAGE_NEW);
        return;
    case QS_VISIT_HEAD_LOSS:
        if (v->index == 0) qs_page_list_add(out, tick, layers * k + slot, QS_PAGE_READ);
        return;
    case QS_VISIT_HEAD_GRADIENT:
        if (v->index == 0) qs_page_list_add(out, tick, layers * k + slot, QS_PAGE_CHANGE);
        return;
    case QS_VISIT_BACKWARD:
        qs_page_list_add(out, tick, (v->index + 1) * k + slot, QS_PAGE_READ);
        qs_page_list_add(out, tick, v->index * k + slot, v->index > s->lowest ? QS_PAGE_CHANGE : QS_PAGE_READ);
        return;
    case QS_VISIT_UPDATE:
        return;
    }
}

static void list_schedule(const qs_sweep *s, const qs_schedule *schedule, qs_page_list *out)
{
    for (int32_t v = 0; v < schedule->count; v++)
        for (int32_t i = 0; i < schedule->visits[v].count && i < s->group; i++)
            list_visit(s, out, &schedule->visits[v], (int64_t)v * s->group + i, i);
    qs_page_list_finish(out, (s->c.layout->layers + 1) * s->group, (int64_t)schedule->count * s->group);
}

void qs_sweep_list_checkpoints(qs_sweep *s)
{
    list_schedule(s, &s->train_schedule, &s->checkpoints_train);
    list_schedule(s, &s->evaluate_schedule, &s->checkpoints_evaluate);
}
