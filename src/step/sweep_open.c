/* sweep_open.c - the memory of a sweep: one carving pass sizes it for the plan, the same pass hands it out.
 */
#include <string.h>

#include "src/base/memory.h"
#include "src/step/sweep_parts.h"

enum { LEAST_ROW_MULTIPLE = 16, ROW_SHAPES = 16 };

int32_t qs_sweep_row_multiple(int32_t max_tokens)
{
    int32_t m = (max_tokens + ROW_SHAPES - 1) / ROW_SHAPES;
    return (m + LEAST_ROW_MULTIPLE - 1) / LEAST_ROW_MULTIPLE * LEAST_ROW_MULTIPLE;
}

/* Where the parts of a sweep go. Counting arenas make the plan; arenas of a tier make the sweep. */
typedef struct arenas {
    qs_arena constants, dense, work, saved, saved_buffers, adapters, batches, results, buffers; /* device */
    qs_arena host_batches;                                                                      /* host */
} arenas;

static const struct {
    qs_item item;
    qs_pool pool;
    size_t offset;
} places[] = {
    {QS_ITEM_TABLES, QS_POOL_DEVICE, offsetof(arenas, constants)},
    {QS_ITEM_DENSE, QS_POOL_DEVICE, offsetof(arenas, dense)},
    {QS_ITEM_ACTIVATIONS, QS_POOL_DEVICE, offsetof(arenas, work)},
    {QS_ITEM_SAVED, QS_POOL_DEVICE, offsetof(arenas, saved)},
    {QS_ITEM_SAVED_BUFFERS, QS_POOL_DEVICE, offsetof(arenas, saved_buffers)},
    {QS_ITEM_ADAPTERS, QS_POOL_DEVICE, offsetof(arenas, adapters)},
    {QS_ITEM_BATCHES, QS_POOL_DEVICE, offsetof(arenas, batches)},
    {QS_ITEM_RESULTS, QS_POOL_DEVICE, offsetof(arenas, results)},
    {QS_ITEM_CHECKPOINT_BUFFERS, QS_POOL_DEVICE, offsetof(arenas, buffers)},
    {QS_ITEM_BATCHES_HOST, QS_POOL_HOST, offsetof(arenas, host_batches)},
};
enum { PLACES = sizeof places / sizeof *places };

static qs_arena *arena_at(arenas *a, int i) { return (qs_arena *)((char *)a + places[i].offset); }

static uint64_t checkpoint_bytes(const qs_sweep *s)
{
    return qs_tier_round((uint64_t)s->max_rows * (uint64_t)s->c.a->hidden * qs_dtype_bytes(s->c.type));
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

/* Tables of a micro-batch's own, where its length decides them: on the device, and where the host writes
 * them. */
static void carve_own_tables(const qs_sweep *s, arenas *a, qs_sweep_batch_arrays *b)
{
    int32_t positions = s->c.sizes.max_positions;
    for (int i = 0; i < s->c.a->rotaries; i++) {
        size_t bytes = qs_rotary_follows_length(&s->c.a->rotary[i], positions)
                           ? (size_t)positions * (size_t)s->c.a->rotary[i].dim * sizeof(float)
                           : 0;
        b->own[i] = b->own_host[i] = qs_arena_take(&a->batches, bytes, QS_ARENA_ALIGN);
        if (!s->c.device->info.shared_memory)
            b->own_host[i] = qs_arena_take(&a->host_batches, bytes, QS_ARENA_ALIGN);
    }
}

/* Carves everything; returns the operations' workspace through *workspace (inside `work`). */
static void carve(qs_sweep *s, arenas *a, void **workspace, size_t *workspace_bytes)
{
    const qs_sweep_config *c = &s->c;
    const qs_layout *l = c->layout;
    bool shared = c->device->info.shared_memory;
    size_t k = (size_t)c->sizes.micro_batches, rows = (size_t)s->max_rows, e = qs_dtype_bytes(c->type);

    s->norm = qs_arena_take(&a->constants, (size_t)qs_norm_floats(c->a) * sizeof(float), QS_ARENA_ALIGN);
    for (int i = 0; i < c->a->rotaries; i++) {
        size_t table = (size_t)c->sizes.max_positions * (size_t)c->a->rotary[i].dim / 2 * sizeof(float);
        s->cos[i] = qs_arena_take(&a->constants, table, QS_ARENA_ALIGN);
        s->sin[i] = qs_arena_take(&a->constants, table, QS_ARENA_ALIGN);
    }

    size_t dense = qs_weights_in_place(l, c->type) ? 0
                   : c->dense_by_group             ? l->group_elements
                                                   : l->dense_elements;
    if (l->head_type != c->type) dense = larger(dense, (size_t)l->tile_rows * (size_t)c->a->hidden);
    s->dense.memory = qs_arena_take(&a->dense, dense * e, 4096);

    /* Blocks and head take turns. */
    qs_block_config block = {c->device, c->a, c->lora, l, c->type, s->max_rows, c->sizes.mlp_rows};
    qs_head_config head = {c->device,          c->a,         c->type,       s->group, s->max_rows,
                           c->sizes.head_rows, l->tile_rows, c->keep_logits};
    qs_arena for_head = a->work;
    qs_block_create(&block, &a->work, &s->block);
    qs_head_create(&head, &for_head, &s->head);
    a->work.used = larger(a->work.used, for_head.used);
    s->saved_bytes = qs_block_saved_bytes(s->block);
    s->saved = qs_arena_take(
        &a->saved, (size_t)(c->saved_layers - c->saved_in_ram) * (size_t)s->group * s->saved_bytes, 4096);
    s->saved_buffers = qs_arena_take(
        &a->saved_buffers, shared || !c->saved_in_ram ? 0 : QS_ACTIVATION_BUFFERS * s->saved_bytes, 4096);
    s->saved_spec =
        qs_pager_spec_of(c->device, QS_ITEM_SAVED_RAM, c->saved_in_ram * s->group, s->saved_bytes, false, 0);
    *workspace_bytes = larger(qs_block_workspace_bytes(s->block), qs_head_workspace_bytes(s->head));
    *workspace = qs_arena_take(&a->work, *workspace_bytes, 4096);

    size_t pack = (size_t)c->lora->pack_floats;
    s->adapters = qs_arena_take(&a->adapters, c->type == QS_F32 ? 0 : pack * e, QS_ARENA_ALIGN);
    s->adapters_f32 = qs_arena_take(&a->adapters, shared ? 0 : pack * sizeof(float), QS_ARENA_ALIGN);
    s->gradients = qs_arena_take(&a->adapters, shared ? 0 : pack * sizeof(float), QS_ARENA_ALIGN);

    s->loss = qs_arena_take(&a->results, k * rows * sizeof(float), QS_ARENA_ALIGN);
    s->flag_count = 2 * (size_t)(l->layers + 1) * k;
    s->flags = qs_arena_take(&a->results, s->flag_count * sizeof(int32_t), QS_ARENA_ALIGN);
    s->squares = qs_arena_take(&a->results, (size_t)l->layers * sizeof(double), QS_ARENA_ALIGN);
    s->host_loss = s->loss;
    s->host_squares = s->squares;
    s->host_flags = s->flags;

    qs_batch_info info = {.max_tokens = s->max_rows, .max_documents = c->sizes.max_documents};
    for (size_t mb = 0; mb < k; mb++) {
        qs_micro_batch_carve(&info, &a->host_batches, &s->host_batches[mb]);
        carve_own_tables(s, a, &s->batches[mb]);
        if (shared) continue;
        s->batches[mb].target = qs_arena_take(&a->batches, rows * sizeof(int32_t), QS_ARENA_ALIGN);
        s->batches[mb].positions = qs_arena_take(&a->batches, rows * sizeof(int32_t), QS_ARENA_ALIGN);
        s->batches[mb].document_start = qs_arena_take(&a->batches, rows * sizeof(int32_t), QS_ARENA_ALIGN);
    }
    if (!shared) {
        s->host_loss = qs_arena_take(&a->host_batches, k * rows * sizeof(float), QS_ARENA_ALIGN);
        s->host_flags = qs_arena_take(&a->host_batches, s->flag_count * sizeof(int32_t), QS_ARENA_ALIGN);
        s->host_squares = qs_arena_take(&a->host_batches, (size_t)l->layers * sizeof(double), QS_ARENA_ALIGN);
    }

    s->buffers = qs_arena_take(&a->buffers, shared ? 0 : QS_ACTIVATION_BUFFERS * checkpoint_bytes(s), 4096);
}

/* On disk, a sweep in progress has one level of each micro-batch in memory, and room for what comes and goes.
 */
static qs_pager_spec checkpoints_spec(const qs_sweep *s)
{
    enum { IN_TRANSIT = 4 };
    return qs_pager_spec_of(s->c.device, QS_ITEM_CHECKPOINTS, (s->c.layout->layers + 1) * s->group,
                            checkpoint_bytes(s), s->c.checkpoints_on_disk, s->group + IN_TRANSIT);
}

static qs_sweep *create(const qs_sweep_config *c)
{
    qs_sweep *s = qs_calloc(1, sizeof *s);
    size_t k = (size_t)c->sizes.micro_batches;
    s->c = *c;
    s->max_rows = qs_sweep_rows(c->sizes.max_tokens, c->sizes.max_tokens);
    s->dense = (qs_dense){.by_group = c->dense_by_group, .blob = -1};
    s->rules = qs_visit_rules_of(&s->c);
    s->group = s->rules.group;
    s->checkpoints_spec = checkpoints_spec(s);
    s->batches = qs_calloc(k, sizeof *s->batches);
    s->host_batches = qs_calloc(k, sizeof *s->host_batches);
    return s;
}

/* A sweep without memory, and how much of it each arena would need. */
static qs_sweep *count(const qs_sweep_config *c, arenas *counting)
{
    qs_sweep *s = create(c);
    void *workspace;
    size_t workspace_bytes;
    *counting = (arenas){0};
    carve(s, counting, &workspace, &workspace_bytes);
    return s;
}

int qs_sweep_items(const qs_sweep_config *c, qs_plan_item *items, int capacity)
{
    arenas counting;
    qs_sweep *s = count(c, &counting);
    int n = 0;
    for (int i = 0; i < PLACES; i++) {
        if (!arena_at(&counting, i)->used) continue;
        QS_ASSERT(n < capacity);
        items[n++] =
            (qs_plan_item){places[i].item, places[i].pool, qs_tier_round(arena_at(&counting, i)->used)};
    }
    QS_ASSERT(n < capacity);
    items[n++] = qs_pager_spec_item(&s->checkpoints_spec);
    QS_ASSERT(n < capacity);
    if (c->saved_in_ram) items[n++] = qs_pager_spec_item(&s->saved_spec);
    qs_sweep_close(s);
    return n;
}

uint64_t qs_sweep_saved_bytes(const qs_sweep_config *c)
{
    arenas counting;
    qs_sweep *s = count(c, &counting);
    uint64_t bytes = s->saved_bytes;
    qs_sweep_close(s);
    return bytes;
}

/* Those of all micro-batches that have no tables of their own. */
static void fill_shared_tables(const qs_rotary *r, int32_t positions, float *tables, size_t table)
{
    if (qs_rotary_follows_length(r, positions)) positions = r->max_positions;
    qs_rotary_tables(r, positions, tables, tables + table);
}

static void fill_constants(qs_sweep *s)
{
    qs_device *d = s->c.device;
    for (int i = 0; i < s->c.a->rotaries; i++) {
        size_t table = (size_t)s->c.sizes.max_positions * (size_t)s->c.a->rotary[i].dim / 2;
        float *tables = qs_malloc(2 * table * sizeof(float));
        fill_shared_tables(&s->c.a->rotary[i], s->c.sizes.max_positions, tables, table);
        d->api->copy_in(d, QS_QUEUE_COMPUTE, (float *)s->cos[i], tables, table * sizeof(float));
        d->api->copy_in(d, QS_QUEUE_COMPUTE, (float *)s->sin[i], tables + table, table * sizeof(float));
        d->api->queue_sync(d, QS_QUEUE_COMPUTE);
        qs_free(tables);
    }
    d->api->copy_in(d, QS_QUEUE_COMPUTE, s->norm, s->parts.norm,
                    (size_t)qs_norm_floats(s->c.a) * sizeof(float));
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
}

static int open_saved(qs_sweep *s, qs_err *e)
{
    if (!s->c.saved_in_ram) return 0;
    QS_TRY(qs_pager_spec_open(&s->saved_spec, s->parts.tier, NULL, NULL, &s->saved_records, e));
    qs_activation_store_config store = {.device = s->c.device,
                                        .levels = s->c.saved_in_ram,
                                        .micro_batches = s->group,
                                        .bytes = s->saved_bytes,
                                        .host = s->saved_records,
                                        .device_memory = s->saved_buffers,
                                        .buffers = QS_ACTIVATION_BUFFERS};
    qs_activation_store_open(&store, &s->saved_store);
    return 0;
}

static int open_checkpoints(qs_sweep *s, qs_err *e)
{
    QS_TRY(qs_pager_spec_open(&s->checkpoints_spec, s->parts.tier, s->parts.aio, s->parts.scratch_dir,
                              &s->checkpoints, e));
    qs_activation_store_config store = {.device = s->c.device,
                                        .levels = s->c.layout->layers + 1,
                                        .micro_batches = s->group,
                                        .bytes = checkpoint_bytes(s),
                                        .host = s->checkpoints,
                                        .device_memory = s->buffers,
                                        .buffers = QS_ACTIVATION_BUFFERS};
    qs_activation_store_open(&store, &s->activations);
    return 0;
}

static void make_lists(qs_sweep *s)
{
    const qs_schedule *train = &s->train_schedule, *evaluate = &s->evaluate_schedule;
    int32_t layers = s->c.layout->layers, levels = (layers + 1) * s->group;
    qs_visit_list(&s->rules, train, QS_RECORD_MASTERS, layers, &s->masters_train);
    qs_visit_list(&s->rules, train, QS_RECORD_GRADIENTS, layers, &s->gradients_train);
    qs_visit_list(&s->rules, train, QS_RECORD_CHECKPOINT, levels, &s->checkpoints_train);
    qs_visit_list(&s->rules, train, QS_RECORD_SAVED, s->c.saved_in_ram * s->group, &s->saved_train);
    qs_visit_list(&s->rules, evaluate, QS_RECORD_MASTERS, layers, &s->masters_evaluate);
    qs_visit_list(&s->rules, evaluate, QS_RECORD_CHECKPOINT, levels, &s->checkpoints_evaluate);
}

int qs_sweep_open(const qs_sweep_config *c, const qs_sweep_parts *parts, qs_sweep **out, qs_err *e)
{
    qs_sweep *s = create(c);
    s->parts = *parts;
    arenas real;
    for (int i = 0; i < PLACES; i++)
        *arena_at(&real, i) = qs_tier_arena(parts->tier, places[i].item, places[i].pool);
    void *workspace;
    size_t workspace_bytes;
    carve(s, &real, &workspace, &workspace_bytes);
    for (int i = 0; i < PLACES; i++)
        QS_ASSERT(qs_tier_round(arena_at(&real, i)->used) == arena_at(&real, i)->capacity);
    qs_device_set_workspace(c->device, workspace, workspace_bytes);
    fill_constants(s);
    qs_schedule_train(c->layout->layers, c->layout->tiles, c->sizes.micro_batches, s->rules.lowest, c->sweeps,
                      &s->train_schedule);
    qs_schedule_evaluate(c->layout->layers, c->layout->tiles, c->sizes.micro_batches, c->sweeps,
                         &s->evaluate_schedule);
    make_lists(s);
    s->times = qs_calloc((size_t)s->train_schedule.count, sizeof *s->times);
    int rc = open_checkpoints(s, e);
    if (!rc) rc = open_saved(s, e);
    if (!rc) rc = c->device->api->check(c->device, e);
    if (rc)
        qs_sweep_close(s);
    else
        *out = s;
    return rc;
}

void qs_sweep_close(qs_sweep *s)
{
    if (!s) return;
    qs_activation_store_close(s->activations);
    qs_activation_store_close(s->saved_store);
    qs_pager_close(s->checkpoints);
    qs_pager_close(s->saved_records);
    qs_block_free(s->block);
    qs_head_free(s->head);
    qs_schedule_free(&s->train_schedule);
    qs_schedule_free(&s->evaluate_schedule);
    qs_page_list_free(&s->masters_train);
    qs_page_list_free(&s->masters_evaluate);
    qs_page_list_free(&s->gradients_train);
    qs_page_list_free(&s->checkpoints_train);
    qs_page_list_free(&s->checkpoints_evaluate);
    qs_page_list_free(&s->saved_train);
    qs_free(s->times);
    qs_free(s->batches);
    qs_free(s->host_batches);
    qs_free(s);
}
