#include "src/plan/costs.h"

#include "src/base/memory.h"
#include "src/step/visit_compute.h"

/* What the visits work on: addresses that nobody looks at. */
typedef struct pad {
    qs_sweep_config c; /* on the meta device */
    qs_update_config update;
    void *memory;
    int32_t rows, document_tokens;
    qs_block *block;
    qs_head *head;
    qs_costs *out;
} pad;

static void note_to(pad *p, qs_op_list *list) { qs_meta_device_note(p->c.device, list, p->document_tokens); }

static double layer_bytes(const pad *p, int32_t layer)
{
    const qs_layout *l = p->c.layout;
    bool in_place = qs_weights_in_place(l, p->c.type);
    return (double)qs_layout_blob_bytes(l, layer) +
           (in_place ? 0
                     : (double)qs_layout_layer(l, layer)->dense_elements * (double)qs_dtype_bytes(p->c.type));
}

static void note_layer(pad *p, qs_visit_cost *cost, int32_t layer)
{
    const qs_lora *lora = p->c.lora;
    const float *tables[QS_ROTARIES_MAX] = {p->memory, p->memory};
    qs_dense dense = {.memory = p->memory, .by_group = p->c.dense_by_group, .blob = -1};
    qs_layer_weights w = qs_weights_of(p->c.layout, layer, p->c.type, p->memory, &dense);
    qs_block_lora adapters = {0};
    if (cost->work.lora)
        adapters = (qs_block_lora){.lora = cost->work.lora,
                                   .values = p->memory,
                                   .gradients = p->memory,
                                   .dropout = lora->config.dropout};
    qs_block_batch batch = {p->rows, p->memory, p->memory, tables, tables};
    qs_block_call call = {.w = &w, .l = &adapters, .batch = &batch, .x = p->memory, .kept = p->memory};
    call.y = (char *)p->memory + 4096;
    call.dx = p->memory;
    note_to(p, &cost->decode);
    qs_weights_decode(p->c.device, &w);
    note_to(p, &cost->once);
    if (cost->work.lora) {
        qs_visit_convert_adapters(p->c.device, lora, p->c.type, p->memory, p->memory);
        if (cost->work.kind == QS_VISIT_BACKWARD) qs_visit_clear_gradients(p->c.device, lora, p->memory);
    }
    note_to(p, &cost->each);
    qs_visit_compute_layer(&p->c, &cost->work, p->block, &call, p->memory);
    if (layer_bytes(p, layer) > p->out->layer_bytes) p->out->layer_bytes = layer_bytes(p, layer);
}

static void note_head(pad *p, qs_visit_cost *cost, int32_t tile)
{
    const qs_layout *l = p->c.layout;
    bool bias = p->c.a->norm == QS_NORM_LAYER;
    qs_visit_head_call call = {
        .head = p->head,
        .rows = p->rows,
        .tile = qs_mat_of(p->memory, p->c.type, qs_layout_tile_rows(l, tile), p->c.a->hidden),
        .norm = {p->memory, bias ? p->memory : NULL},
        .x = p->memory,
        .target = p->memory,
        .scale = 1,
        .loss = p->memory,
        .flag = p->memory};
    note_to(p, &cost->decode);
    if (l->head_type != p->c.type)
        qs_op_convert(p->c.device, p->memory, p->c.type, p->memory, l->head_type,
                      call.tile.rows * call.tile.cols);
    note_to(p, &cost->each);
    qs_visit_compute_head(&p->c, &cost->work, &call);
}

/* Layers whose adapters are alike are updated alike. */
static void note_update(pad *p, qs_visit_cost *cost)
{
    const qs_lora *l = p->c.lora;
    for (int32_t layer = 0; layer < l->layers; layer++) {
        int64_t alike = 0;
        bool seen = false;
        for (int32_t other = 0; other < l->layers; other++) {
            bool same = l->layer_mask[other] && qs_lora_of_layer(l, other) == qs_lora_of_layer(l, layer);
            alike += same;
            seen |= same && other < layer;
        }
        if (!l->layer_mask[layer] || seen) continue;
        qs_op_list one = {0};
        note_to(p, &one);
        qs_op_sum_squares(p->c.device, p->memory, l->pack_floats, p->memory);
        qs_update_note(&p->update, layer, p->memory);
        for (int i = 0; i < one.count; i++)
            qs_op_list_add(&cost->once, &one.calls[i], one.calls[i].times * alike);
        qs_op_list_free(&one);
    }
}

static void note_visit(pad *p, const qs_visit *v, const qs_visit_work *work)
{
    qs_costs *out = p->out;
    if (qs_costs_find(out, work) >= 0) return;
    if (out->count == out->capacity) {
        out->capacity = out->capacity ? 2 * out->capacity : 16;
        out->visits = qs_realloc(out->visits, (size_t)out->capacity * sizeof *out->visits);
    }
    qs_visit_cost *cost = &out->visits[out->count++];
    *cost = (qs_visit_cost){.work = *work};
    switch (v->kind) {
    case QS_VISIT_EMBED:
        break; /* the host's work: predict.c */
    case QS_VISIT_FORWARD:
    case QS_VISIT_BACKWARD:
        note_layer(p, cost, v->index);
        break;
    case QS_VISIT_HEAD_LOSS:
    case QS_VISIT_HEAD_GRADIENT:
        note_head(p, cost, v->index);
        break;
    case QS_VISIT_UPDATE:
        note_update(p, cost);
        break;
    }
}

void qs_costs_note(const qs_sweep_config *c, const qs_update_config *u, int32_t rows, int32_t document_tokens,
                   qs_costs *out)
{
    *out = (qs_costs){0};
    const qs_layout *l = c->layout;
    pad p = {.c = *c,
             .update = *u,
             .memory = qs_meta_memory(),
             .rows = rows,
             .document_tokens = document_tokens,
             .out = out};
    p.c.device = p.update.device = qs_meta_device(&c->device->info);
    qs_arena memory = {.base = p.memory, .capacity = SIZE_MAX / 2};
    qs_block_config block = {p.c.device, c->a, c->lora, l, c->type, rows, c->sizes.mlp_rows};
    qs_head_config head = {p.c.device,         c->a,         c->type,       1, rows,
                           c->sizes.head_rows, l->tile_rows, c->keep_logits};
    qs_block_create(&block, &memory, &p.block);
    qs_head_create(&head, &memory, &p.head);
    qs_visit_rules rules = qs_visit_rules_of(c);
    qs_schedule s;
    qs_schedule_train(l->layers, l->tiles, 1, rules.lowest, 1, &s);
    for (int32_t v = 0; v < s.count; v++) {
        qs_visit_work work = qs_visit_work_of(&rules, &s.visits[v]);
        note_visit(&p, &s.visits[v], &work);
    }
    qs_schedule_free(&s);
    qs_block_free(p.block);
    qs_head_free(p.head);
    qs_device_close(p.c.device);
}

int qs_costs_find(const qs_costs *c, const qs_visit_work *work)
{
    for (int i = 0; i < c->count; i++)
        if (qs_visit_work_same(&c->visits[i].work, work)) return i;
    return -1;
}

const qs_op_list *qs_costs_list(const qs_costs *c, int i)
{
    if (i / 3 >= c->count) return NULL;
    const qs_visit_cost *cost = &c->visits[i / 3];
    return i % 3 == 0 ? &cost->decode : i % 3 == 1 ? &cost->once : &cost->each;
}

void qs_costs_free(qs_costs *c)
{
    for (int i = 0; i < c->count; i++) {
        qs_op_list_free(&c->visits[i].decode);
        qs_op_list_free(&c->visits[i].once);
        qs_op_list_free(&c->visits[i].each);
    }
    qs_free(c->visits);
    *c = (qs_costs){0};
}
