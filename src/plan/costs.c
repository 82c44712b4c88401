#include "src/plan/costs.h"

#include "src/base/memory.h"

typedef struct pad {
    const qs_sweep_config *c;
    qs_device *device;
    void *memory; /* on paper */
    int32_t rows, document_tokens;
    qs_costs *out;
} pad;

static void begin(pad *p, qs_part part)
{
    qs_meta_device_note(p->device, &p->out->part[part], p->document_tokens);
}

/* Of the last layer, for all. */
static qs_layer_weights weights(const pad *p)
{
    return qs_weights_of(p->c->layout, p->c->layout->layers - 1, p->c->type, p->memory, p->memory);
}

static void note_weights(pad *p)
{
    const qs_layout *l = p->c->layout;
    begin(p, QS_PART_WEIGHTS);
    bool in_place = qs_weights_in_place(l, p->c->type);
    qs_layer_weights w = weights(p);
    p->out->layer_bytes =
        (double)qs_layout_blob_bytes(l, l->layers - 1) +
        (in_place ? 0 : (double)w.place->dense_elements * (double)qs_dtype_bytes(p->c->type));
    if (!in_place) qs_weights_decode(p->device, &w);
    if (p->c->type != QS_F32)
        qs_op_convert(p->device, p->memory, p->c->type, p->memory, QS_F32, p->c->lora->pack_floats);
    begin(p, QS_PART_GRADIENTS);
    p->device->api->fill(p->device, QS_QUEUE_COMPUTE, p->memory, 0,
                         (size_t)p->c->lora->pack_floats * sizeof(float));
}

static void note_block(pad *p)
{
    const qs_sweep_config *c = p->c;
    qs_arena memory = {.base = p->memory, .capacity = SIZE_MAX / 2};
    qs_block_config config = {p->device, c->a, c->lora, c->layout, c->type, p->rows, c->sizes.mlp_rows};
    qs_block *b;
    qs_block_create(&config, &memory, &b);
    qs_layer_weights w = weights(p);
    qs_block_lora adapters = {.lora = qs_lora_of_layer(c->lora, c->layout->layers - 1),
                              .r = c->lora->r,
                              .values = p->memory,
                              .gradients = p->memory,
                              .dropout = c->lora->dropout},
                  none = {0};
    const float *tables[QS_ROTARIES_MAX] = {p->memory, p->memory};
    qs_block_batch batch = {p->rows, p->memory, p->memory, tables, tables};
    char *x = p->memory, *y = x + 4096;
    qs_mat out = qs_mat_of(y, c->type, p->rows, c->a->hidden);
    for (int plain = 0; plain < 2; plain++) {
        const qs_block_lora *l = plain ? &none : &adapters;
        begin(p, plain ? QS_PART_FORWARD_PLAIN : QS_PART_FORWARD);
        qs_block_forward(b, &w, l, &batch, x, y, NULL);
        qs_op_flag_nonfinite(p->device, out, p->memory);
        for (int saved = 0; saved < 2; saved++) {
            begin(p, (plain ? QS_PART_BACKWARD_PLAIN : QS_PART_BACKWARD) + (saved ? QS_PART_SAVED : 0));
            qs_block_backward(b, &w, l, &batch, x, y, x, true, saved ? p->memory : NULL);
            qs_op_flag_nonfinite(p->device, out, p->memory);
        }
    }
    for (int saved = 0; saved < 2; saved++) {
        begin(p, QS_PART_BACKWARD_LOWEST + (saved ? QS_PART_SAVED : 0));
        qs_block_backward(b, &w, &adapters, &batch, x, y, x, false, saved ? p->memory : NULL);
    }
    qs_block_free(b);
}

static void note_head(pad *p)
{
    const qs_sweep_config *c = p->c;
    const qs_layout *l = c->layout;
    qs_arena memory = {.base = p->memory, .capacity = SIZE_MAX / 2};
    qs_head_config config = {p->device,          c->a,         c->type,       1, p->rows,
                             c->sizes.head_rows, l->tile_rows, c->keep_logits};
    qs_head *h;
    qs_head_create(&config, &memory, &h);
    qs_mat tile = qs_mat_of(p->memory, c->type, l->tile_rows, c->a->hidden),
           last = qs_mat_of(p->memory, c->type, l->last_tile_rows, c->a->hidden);
    if (l->head_type != c->type) {
        begin(p, QS_PART_HEAD_WEIGHTS);
        qs_op_convert(p->device, p->memory, c->type, p->memory, l->head_type, tile.rows * tile.cols);
    }
    begin(p, QS_PART_HEAD_NORM);
    qs_norm norm = {p->memory, c->a->norm == QS_NORM_LAYER ? p->memory : NULL};
    qs_head_norm(h, 0, p->rows, p->memory, norm);
    if (l->tiles > 1) {
        begin(p, QS_PART_LOSS_TILE);
        qs_head_loss_tile(h, 0, p->rows, tile, 0, p->memory);
        begin(p, QS_PART_GRADIENT_TILE);
        qs_head_gradient_tile(h, 0, p->rows, tile, 0, p->memory, 1, false);
    }
    begin(p, QS_PART_LOSS_LAST);
    qs_head_loss_tile(h, 0, p->rows, last, 0, p->memory);
    qs_head_loss(h, 0, p->rows, p->memory, p->memory);
    begin(p, QS_PART_GRADIENT_LAST);
    qs_head_gradient_tile(h, 0, p->rows, last, 0, p->memory, 1, true);
    begin(p, QS_PART_HEAD_GRADIENT);
    qs_head_gradient(h, 0, p->rows, p->memory, norm);
    qs_op_flag_nonfinite(p->device, qs_mat_of(p->memory, c->type, p->rows, c->a->hidden), p->memory);
    qs_head_free(h);
}

static void note_update(pad *p, const qs_update_config *u)
{
    const qs_lora *l = p->c->lora;
    qs_op_list *list = &p->out->part[QS_PART_UPDATE];
    int64_t trained = 0;
    for (int32_t layer = 0; layer < l->layers; layer++) trained += l->layer_mask[layer];
    begin(p, QS_PART_UPDATE);
    qs_op_sum_squares(p->device, p->memory, l->pack_floats, p->memory);
    qs_update_config here = *u;
    here.device = p->device;
    qs_update_note(&here, l->layers - 1, p->memory);
    for (int i = 0; i < list->count; i++) list->calls[i].times *= trained;
}

void qs_costs_note(const qs_sweep_config *c, const qs_update_config *u, int32_t rows, int32_t document_tokens,
                   qs_costs *out)
{
    *out = (qs_costs){0};
    pad p = {.c = c,
             .device = qs_meta_device(&c->device->info),
             .memory = qs_meta_memory(),
             .rows = rows,
             .document_tokens = document_tokens,
             .out = out};
    note_weights(&p);
    note_block(&p);
    note_head(&p);
    note_update(&p, u);
    qs_device_close(p.device);
}

void qs_costs_free(qs_costs *c)
{
    for (int i = 0; i < QS_PARTS; i++) qs_op_list_free(&c->part[i]);
}
