#include "src/step/visit.h"

qs_visit_rules qs_visit_rules_of(const qs_sweep_config *c)
{
    qs_visit_rules r = {.c = c, .group = qs_schedule_group(c->sizes.micro_batches, c->sweeps)};
    while (r.lowest < c->layout->layers && !c->lora->layer_mask[r.lowest]) r.lowest++;
    return r;
}

qs_visit_levels qs_visit_levels_of(const qs_sweep_config *c, const qs_visit *v)
{
    int32_t top = c->layout->layers;
    switch (v->kind) {
    case QS_VISIT_EMBED:
        return (qs_visit_levels){-1, 0, -1};
    case QS_VISIT_FORWARD:
        return (qs_visit_levels){v->index, v->index + 1, v->index};
    case QS_VISIT_HEAD_LOSS:
        return (qs_visit_levels){v->index == 0 ? top : -1, -1, -1};
    case QS_VISIT_HEAD_GRADIENT:
        return v->index == 0 ? (qs_visit_levels){top, top, -1} : (qs_visit_levels){-1, -1, -1};
    case QS_VISIT_BACKWARD:
        return (qs_visit_levels){v->index + 1, v->index, v->index};
    case QS_VISIT_UPDATE:
        break;
    }
    return (qs_visit_levels){-1, -1, -1};
}

qs_visit_work qs_visit_work_of(const qs_visit_rules *r, const qs_visit *v)
{
    const qs_sweep_config *c = r->c;
    qs_visit_work w = {.kind = v->kind, .layer_kind = -1};
    switch (v->kind) {
    case QS_VISIT_FORWARD:
    case QS_VISIT_BACKWARD:
        w.layer_kind = c->a->kind_of[v->index];
        w.lora = c->lora->layer_mask[v->index] ? qs_lora_of_layer(c->lora, v->index) : NULL;
        w.saved = qs_sweep_saved_level(c, v->index) >= 0;
        w.input_gradient = v->kind == QS_VISIT_BACKWARD && v->index > r->lowest;
        break;
    case QS_VISIT_HEAD_LOSS:
    case QS_VISIT_HEAD_GRADIENT:
        w.first_tile = v->index == 0;
        w.last_tile = v->index == c->layout->tiles - 1;
        break;
    case QS_VISIT_EMBED:
    case QS_VISIT_UPDATE:
        break;
    }
    return w;
}

bool qs_visit_work_same(const qs_visit_work *a, const qs_visit_work *b)
{
    return a->kind == b->kind && a->layer_kind == b->layer_kind && a->lora == b->lora &&
           a->saved == b->saved && a->input_gradient == b->input_gradient && a->first_tile == b->first_tile &&
           a->last_tile == b->last_tile;
}

/* ---- uses -------------------------------------------------------------------------------------------- */

static int level_uses(const qs_visit_rules *r, const qs_visit *v, qs_visit_use *out)
{
    qs_visit_levels l = qs_visit_levels_of(r->c, v);
    qs_visit_work w = qs_visit_work_of(r, v);
    bool backward = v->kind == QS_VISIT_BACKWARD, top = l.out == r->c->layout->layers;
    int n = 0;
    if (l.in >= 0 && l.in != l.out)
        out[n++] = (qs_visit_use){QS_RECORD_CHECKPOINT, l.in, QS_PAGE_READ, .near = true};
    if (l.out < 0) return n;
    qs_page_use use = l.in == l.out      ? QS_PAGE_CHANGE
                      : !backward        ? QS_PAGE_NEW
                      : w.input_gradient ? QS_PAGE_CHANGE
                                         : QS_PAGE_READ;
    out[n++] =
        (qs_visit_use){QS_RECORD_CHECKPOINT, l.out, use, .near = l.in == l.out, .passing = backward || top};
    return n;
}

static qs_visit_use use_of(qs_record_kind record, int32_t index, qs_page_use use)
{
    return (qs_visit_use){.record = record, .index = index, .use = use};
}

int32_t qs_visit_saved_in_ram(const qs_visit_rules *r, const qs_visit *v)
{
    int32_t level = qs_sweep_saved_level(r->c, v->index);
    bool layer = v->kind == QS_VISIT_FORWARD || v->kind == QS_VISIT_BACKWARD;
    return layer && level >= 0 && level < r->c->saved_in_ram ? level : -1;
}

qs_visit_slot qs_visit_saved_ahead(const qs_visit_rules *r, const qs_visit *v, int32_t slot)
{
    bool last = slot + 1 == v->count;
    int32_t level = qs_sweep_saved_level(r->c, v->index) - last;
    if (v->kind != QS_VISIT_BACKWARD || level < 0 || level >= r->c->saved_in_ram)
        return (qs_visit_slot){-1, 0};
    return (qs_visit_slot){level, last ? 0 : slot + 1};
}

int qs_visit_uses(const qs_visit_rules *r, const qs_visit *v, int32_t layer, qs_visit_use out[QS_VISIT_USES])
{
    bool forward = v->kind == QS_VISIT_FORWARD, backward = v->kind == QS_VISIT_BACKWARD;
    int n = level_uses(r, v, out);
    if (v->kind == QS_VISIT_UPDATE && r->c->lora->layer_mask[layer]) {
        out[n++] = use_of(QS_RECORD_MASTERS, layer, QS_PAGE_CHANGE);
        out[n++] = use_of(QS_RECORD_GRADIENTS, layer, QS_PAGE_READ);
        out[n++] = use_of(QS_RECORD_STATES, layer, QS_PAGE_CHANGE);
    }
    if (!forward && !backward) return n;
    int32_t saved = qs_visit_saved_in_ram(r, v);
    if (saved >= 0) out[n++] = use_of(QS_RECORD_SAVED, saved, forward ? QS_PAGE_NEW : QS_PAGE_READ);
    if (!r->c->lora->layer_mask[v->index]) return n;
    out[n++] = use_of(QS_RECORD_MASTERS, v->index, QS_PAGE_READ);
    if (backward) out[n++] = use_of(QS_RECORD_GRADIENTS, v->index, qs_visit_gradient_use(v));
    return n;
}

static bool per_micro_batch(qs_record_kind k) { return k == QS_RECORD_CHECKPOINT || k == QS_RECORD_SAVED; }

/* ---- lists ------------------------------------------------------------------------------------------- */

static void list_visit(const qs_visit_rules *r, const qs_visit *v, int64_t tick, int32_t slot,
                       qs_record_kind record, qs_page_list *out)
{
    qs_visit_use uses[QS_VISIT_USES];
    int n = qs_visit_uses(r, v, 0, uses);
    for (int i = 0; i < n; i++) {
        int32_t index = per_micro_batch(record) ? uses[i].index * r->group + slot : uses[i].index;
        if (uses[i].record == record) qs_page_list_add(out, tick, index, uses[i].use);
    }
}

static void list_update(const qs_visit_rules *r, const qs_schedule *s, const qs_visit *v,
                        qs_record_kind record, qs_page_list *out)
{
    for (int32_t layer = 0; layer < r->c->layout->layers; layer++) {
        qs_visit_use uses[QS_VISIT_USES];
        int n = qs_visit_uses(r, v, layer, uses);
        for (int i = 0; i < n; i++)
            if (uses[i].record == record)
                qs_page_list_add(out, qs_visit_update_tick(s, layer), layer, uses[i].use);
    }
}

void qs_visit_list(const qs_visit_rules *r, const qs_schedule *s, qs_record_kind record, int32_t records,
                   qs_page_list *out)
{
    for (int32_t v = 0; v < s->count; v++) {
        const qs_visit *x = &s->visits[v];
        if (x->kind == QS_VISIT_UPDATE)
            list_update(r, s, x, record, out);
        else if (!per_micro_batch(record))
            list_visit(r, x, v, 0, record, out);
        else
            for (int32_t slot = 0; slot < x->count && slot < r->group; slot++)
                list_visit(r, x, qs_visit_tick(r, v, slot), slot, record, out);
    }
    int64_t ticks = per_micro_batch(record) ? qs_visit_tick(r, s->count, 0)
                                            : qs_visit_update_tick(s, r->c->layout->layers);
    qs_page_list_finish(out, records, ticks);
}

bool qs_visit_holds(const qs_visit *v, qs_item item, bool making)
{
    bool layer = v->kind == QS_VISIT_FORWARD || v->kind == QS_VISIT_BACKWARD;
    switch (item) {
    case QS_ITEM_DENSE:
    case QS_ITEM_ADAPTERS:
        return layer;
    case QS_ITEM_SAVED:
    case QS_ITEM_SAVED_BUFFERS:
    case QS_ITEM_SAVED_RAM:
        return v->kind != QS_VISIT_EMBED && v->kind != QS_VISIT_UPDATE;
    case QS_ITEM_ACTIVATIONS:
        return v->blob >= 0;
    case QS_ITEM_QUANTISE_ON_LOAD:
        return making;
    case QS_ITEM_EMBEDDING_READS:
        return v->kind == QS_VISIT_EMBED;
    case QS_ITEM_OPTIMIZER_SCRATCH:
        return v->kind == QS_VISIT_UPDATE;
    default:
        return true;
    }
}

/* ---- bytes ------------------------------------------------------------------------------------------- */

qs_record_bytes qs_record_bytes_of(const qs_sweep_config *c, const qs_update_config *u, int32_t rows,
                                   uint64_t saved_bytes)
{
    uint64_t row = (uint64_t)c->a->hidden * qs_dtype_bytes(c->type);
    uint64_t most = row * (uint64_t)qs_sweep_rows(c->sizes.max_tokens, c->sizes.max_tokens);
    uint64_t pack = (uint64_t)c->lora->pack_floats * sizeof(float), states = qs_update_state_bytes(u);
    qs_record_bytes b = {.link = {[QS_RECORD_CHECKPOINT] = row * (uint64_t)rows,
                                  [QS_RECORD_MASTERS] = pack,
                                  [QS_RECORD_GRADIENTS] = pack,
                                  [QS_RECORD_STATES] = states}};
    b.link[QS_RECORD_SAVED] = saved_bytes;
    if (c->checkpoints_on_disk) b.disk[QS_RECORD_CHECKPOINT] = qs_tier_round(most);
    if (!u->on_disk) return b;
    b.disk[QS_RECORD_MASTERS] = b.disk[QS_RECORD_GRADIENTS] = qs_tier_round(pack);
    b.disk[QS_RECORD_STATES] = qs_tier_round(states);
    return b;
}

static void add_use(const qs_record_bytes *b, const qs_visit_use *u, int32_t count, qs_visit_traffic *t)
{
    bool reads = u->use != QS_PAGE_NEW, writes = u->use != QS_PAGE_READ;
    uint64_t times = per_micro_batch(u->record) ? (uint64_t)count : 1;
    if (reads && !per_micro_batch(u->record)) t->link_in += b->link[u->record];
    if (writes) t->link_out += times * b->link[u->record];
    if (reads && !u->near) t->disk_read += times * b->disk[u->record];
    if (writes && !u->passing) t->disk_write += times * b->disk[u->record];
}

qs_visit_traffic qs_visit_traffic_of(const qs_visit_rules *r, const qs_record_bytes *bytes, const qs_visit *v)
{
    qs_visit_traffic t = {0};
    int32_t layers = v->kind == QS_VISIT_UPDATE ? r->c->layout->layers : 1;
    for (int32_t layer = 0; layer < layers; layer++) {
        qs_visit_use uses[QS_VISIT_USES];
        int n = qs_visit_uses(r, v, layer, uses);
        for (int i = 0; i < n; i++) add_use(bytes, &uses[i], v->count, &t);
    }
    if (v->kind == QS_VISIT_EMBED) t.link_out = 0; /* the host makes it where it lies */
    return t;
}

uint64_t qs_visit_written_bytes(const qs_sweep_config *c, const qs_update_config *u)
{
    qs_visit_rules r = qs_visit_rules_of(c);
    qs_record_bytes bytes = qs_record_bytes_of(c, u, 0, 0);
    qs_schedule s;
    uint64_t sum = 0;
    qs_schedule_train(c->layout->layers, c->layout->tiles, c->sizes.micro_batches, r.lowest, c->sweeps, &s);
    for (int32_t v = 0; v < s.count; v++) sum += qs_visit_traffic_of(&r, &bytes, &s.visits[v]).disk_write;
    qs_schedule_free(&s);
    return sum;
}
