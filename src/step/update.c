#include "src/step/update.h"

#include <math.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/step/visit.h"

enum { LEAST_8BIT = 4096, STATE_BLOCK = 256 };

/* One tensor of a pack (A or B of a linear). Offsets of its states are bytes in the pack's state stretch. */
typedef struct tensor {
    int64_t at, n;
    bool small_states; /* 8-bit */
    bool b;            /* LoRA+ has a rate of its own for B */
    uint64_t m_at, v_at, m_absmax_at, v_absmax_at;
} tensor;

struct qs_update {
    qs_update_config c;
    struct pack {
        tensor tensors[2 * QS_TENSORS_MAX];
        int count;
    } * pack;                  /* of each shape of adapters */
    uint64_t pack_state_bytes; /* of the largest */
    qs_pager_spec spec;        /* of the states: one record per layer */
    qs_pager *states;
    bool managed; /* in managed memory */
    float *p, *g; /* discrete: one pack on the device */
    char *state;  /* discrete without managed memory: its states */
};

static bool is_8bit(qs_optim o) { return o == QS_OPTIM_ADAMW_8BIT || o == QS_OPTIM_PAGED_ADAMW_8BIT; }
static bool is_paged(qs_optim o) { return o == QS_OPTIM_PAGED_ADAMW_32BIT || o == QS_OPTIM_PAGED_ADAMW_8BIT; }

static uint64_t take(uint64_t *used, uint64_t bytes)
{
    uint64_t at = *used;
    *used += qs_round_up(bytes, 64);
    return at;
}

static void add_tensor(const qs_update *u, struct pack *pack, int64_t at, int64_t n, uint64_t *used)
{
    tensor *t = &pack->tensors[pack->count++];
    *t = (tensor){.at = at, .n = n, .small_states = is_8bit(u->c.optim) && n >= LEAST_8BIT};
    uint64_t bytes = (uint64_t)n * (t->small_states ? 1 : sizeof(float)),
             blocks = (uint64_t)(n + STATE_BLOCK - 1) / STATE_BLOCK;
    t->m_at = take(used, bytes);
    t->v_at = take(used, bytes);
    if (!t->small_states) return;
    t->m_absmax_at = take(used, blocks * sizeof(float));
    t->v_absmax_at = take(used, blocks * sizeof(float));
}

static qs_update *create(const qs_update_config *c)
{
    qs_update *u = qs_calloc(1, sizeof *u);
    u->c = *c;
    u->managed = is_paged(c->optim) && c->device->info.managed && !c->on_disk;
    u->pack = qs_calloc((size_t)c->lora->shapes, sizeof *u->pack);
    for (int32_t k = 0; k < c->lora->shapes; k++) {
        const qs_lora_layer *shape = &c->lora->shape[k];
        uint64_t used = 0;
        for (int i = 0; i < shape->layer->tensors; i++) {
            const qs_lora_slot *s = &shape->slot[i];
            if (!s->active) continue;
            add_tensor(u, &u->pack[k], s->a_at, (int64_t)s->r * s->in, &used);
            add_tensor(u, &u->pack[k], s->b_at, (int64_t)s->out * s->r, &used);
            u->pack[k].tensors[u->pack[k].count - 1].b = true;
        }
        if (used > u->pack_state_bytes) u->pack_state_bytes = used;
    }
    u->spec = qs_pager_spec_of(c->device, QS_ITEM_STATES, c->lora->layers, u->pack_state_bytes, c->on_disk,
                               QS_PAGER_FRAMES);
    if (u->managed) u->spec.pool = QS_POOL_MANAGED;
    return u;
}

static void carve_device(qs_update *u, qs_arena *a)
{
    bool shared = u->c.device->info.shared_memory;
    size_t pack = (size_t)u->c.lora->pack_floats * sizeof(float);
    u->p = qs_arena_take(a, shared ? 0 : pack, QS_ARENA_ALIGN);
    u->g = qs_arena_take(a, shared ? 0 : pack, QS_ARENA_ALIGN);
    u->state = qs_arena_take(a, shared || u->managed ? 0 : u->pack_state_bytes, QS_ARENA_ALIGN);
}

int qs_update_items(const qs_update_config *c, qs_plan_item *items, int capacity)
{
    qs_update *u = create(c);
    qs_arena device = {0};
    carve_device(u, &device);
    QS_ASSERT(capacity >= 2);
    items[0] = qs_pager_spec_item(&u->spec);
    items[1] = (qs_plan_item){QS_ITEM_OPTIMIZER_SCRATCH, QS_POOL_DEVICE, qs_tier_round(device.used)};
    qs_update_close(u);
    return device.used ? 2 : 1;
}

uint64_t qs_update_state_bytes(const qs_update_config *c)
{
    qs_update *u = create(c);
    uint64_t bytes = u->pack_state_bytes;
    qs_update_close(u);
    return bytes;
}

int qs_update_open(const qs_update_config *c, qs_tier *tier, qs_aio *aio, const char *dir, qs_update **out,
                   qs_err *e)
{
    qs_update *u = create(c);
    qs_arena device = qs_tier_arena(tier, QS_ITEM_OPTIMIZER_SCRATCH, QS_POOL_DEVICE);
    carve_device(u, &device);
    int rc = qs_pager_spec_open(&u->spec, tier, aio, dir, &u->states, e);
    if (rc)
        qs_update_close(u);
    else
        *out = u;
    return rc;
}

void qs_update_close(qs_update *u)
{
    if (!u) return;
    qs_pager_close(u->states);
    qs_free(u->pack);
    qs_free(u);
}

qs_pager *qs_update_states(qs_update *u, uint64_t *bytes)
{
    *bytes = u->pack_state_bytes;
    return u->states;
}

/* Sums of squares added up in layer order. */
static int global_norm(const qs_lora *l, const double *squares, double *norm, qs_err *e)
{
    double sum = 0;
    for (int32_t layer = 0; layer < l->layers; layer++) {
        if (!l->layer_mask[layer]) continue;
        if (!isfinite(squares[layer]))
            QS_FAIL(e, QS_ENUMERIC, "the adapter gradients of layer %d are not finite", layer);
        sum += squares[layer];
    }
    *norm = sqrt(sum);
    return 0;
}

static void update_pack(const qs_update *u, int32_t layer, const qs_adamw *h, float *p, const float *g,
                        char *state)
{
    qs_adamw_rule rule = u->c.optim == QS_OPTIM_ADAMW_TORCH ? QS_ADAMW_TORCH : QS_ADAMW_BNB;
    const struct pack *pack = &u->pack[u->c.lora->shape_of[layer]];
    qs_adamw of_b = *h;
    if (u->c.loraplus_lr_ratio > 0) of_b.learning_rate *= u->c.loraplus_lr_ratio;
    for (int i = 0; i < pack->count; i++) {
        const tensor *t = &pack->tensors[i];
        const qs_adamw *rates = t->b ? &of_b : h;
        void *m = state + t->m_at, *v = state + t->v_at;
        if (t->small_states)
            qs_op_adamw8(u->c.device, rates, p + t->at, g + t->at, m, v,
                         (float *)(void *)(state + t->m_absmax_at), (float *)(void *)(state + t->v_absmax_at),
                         t->n);
        else
            qs_op_adamw(u->c.device, rule, rates, p + t->at, g + t->at, m, v, t->n);
    }
}

void qs_update_note(const qs_update_config *c, int32_t layer, void *memory)
{
    qs_update *u = create(c);
    update_pack(u, layer, &(qs_adamw){.step = 1}, memory, memory, memory);
    qs_update_close(u);
}

/* A pack's update on a discrete device: over, updated, back. */
static void update_over_link(qs_update *u, int32_t layer, const qs_adamw *h, float *p, const float *g,
                             char *state)
{
    qs_device *d = u->c.device;
    size_t pack = (size_t)u->c.lora->pack_floats * sizeof(float);
    d->api->copy_in(d, QS_QUEUE_COMPUTE, u->p, p, pack);
    d->api->copy_in(d, QS_QUEUE_COMPUTE, u->g, g, pack);
    char *here = u->managed ? state : u->state;
    if (u->managed)
        d->api->managed_prefetch(d, QS_QUEUE_COMPUTE, state, u->pack_state_bytes, true);
    else
        d->api->copy_in(d, QS_QUEUE_COMPUTE, here, state, u->pack_state_bytes);
    update_pack(u, layer, h, u->p, u->g, here);
    d->api->copy_out(d, QS_QUEUE_COMPUTE, p, u->p, pack);
    if (u->managed)
        d->api->managed_prefetch(d, QS_QUEUE_COMPUTE, state, u->pack_state_bytes, false);
    else
        d->api->copy_out(d, QS_QUEUE_COMPUTE, state, here, u->pack_state_bytes);
}

static int check_all(const qs_update *u, const qs_pager *masters, const qs_pager *gradients, qs_err *e)
{
    QS_TRY(u->c.device->api->check(u->c.device, e));
    QS_TRY(qs_pager_check(masters, e));
    QS_TRY(qs_pager_check(gradients, e));
    return qs_pager_check(u->states, e);
}

int qs_update_run(qs_update *u, const qs_update_step *t, qs_pager *masters, qs_pager *gradients,
                  double *grad_norm, qs_err *e)
{
    qs_device *d = u->c.device;
    const qs_lora *l = u->c.lora;
    QS_TRY(global_norm(l, t->squares, grad_norm, e));
    *grad_norm /= t->loss_scale;
    qs_adamw h = {.learning_rate = t->learning_rate,
                  .beta1 = u->c.beta1,
                  .beta2 = u->c.beta2,
                  .eps = u->c.eps,
                  .weight_decay = u->c.weight_decay,
                  .step = t->step,
                  .gradient_scale = (float)(1 / t->loss_scale)};
    if (u->c.max_grad_norm > 0 && u->c.max_grad_norm / (*grad_norm + 1e-6) < 1)
        h.gradient_scale = (float)(u->c.max_grad_norm / (*grad_norm + 1e-6) / t->loss_scale);
    qs_pager_begin(u->states, NULL);
    for (int32_t layer = 0; layer < l->layers; layer++) {
        if (!l->layer_mask[layer]) continue;
        qs_pager_at(masters, qs_visit_update_tick(t->schedule, layer)); /* after the visits, layer by layer */
        qs_pager_at(gradients, qs_visit_update_tick(t->schedule, layer));
        qs_pager_at(u->states, layer);
        float *p = qs_pager_acquire(masters, layer, QS_PAGE_CHANGE);
        const float *g = qs_pager_acquire(gradients, layer, QS_PAGE_READ);
        char *state = qs_pager_acquire(u->states, layer, QS_PAGE_CHANGE);
        if (d->info.shared_memory)
            update_pack(u, layer, &h, p, g, state);
        else
            update_over_link(u, layer, &h, p, g, state);
        qs_pager_release(masters, layer, true, QS_QUEUE_COMPUTE);
        qs_pager_release(gradients, layer, false, QS_QUEUE_COMPUTE);
        qs_pager_release(u->states, layer, true, QS_QUEUE_COMPUTE);
        QS_TRY(check_all(u, masters, gradients, e));
    }
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    return check_all(u, masters, gradients, e);
}
