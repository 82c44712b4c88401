#include "offload/tier.h"

#include <string.h>

#include "src/base/log.h"

int qs_tier_open(qs_device *d, const qs_plan *plan, qs_tier *out, qs_err *e)
{
    *out = (qs_tier){.device = d, .plan = plan};
    uint64_t used[QS_POOL_COUNT] = {0};
    int rc = qs_region_map(&out->pinned, plan->pool_bytes[QS_POOL_PINNED], "the pinned pool (--ram)", e);
    if (!rc) rc = qs_region_map(&out->host, plan->pool_bytes[QS_POOL_HOST], "the host pool (--ram)", e);
    if (!rc && plan->pool_bytes[QS_POOL_DEVICE]) {
        rc = d->api->alloc(d, plan->pool_bytes[QS_POOL_DEVICE], &out->device_base, e);
        out->device_bytes = plan->pool_bytes[QS_POOL_DEVICE];
    }
    if (!rc && plan->pool_bytes[QS_POOL_MANAGED])
        rc = d->api->managed_alloc(d, plan->pool_bytes[QS_POOL_MANAGED], &out->managed_base, e);
    if (rc) {
        qs_tier_close(out);
        return rc;
    }
    qs_region_touch(&out->pinned);
    qs_region_touch(&out->host);
    if (d->info.shared_memory && out->device_base)
        memset(out->device_base, 0, out->device_bytes); /* touched, like the other pools */
    if (out->pinned.bytes) {
        qs_err refused = {0};
        out->registered = !d->api->host_register(d, out->pinned.base, out->pinned.bytes, &refused);
        if (!out->registered) qs_warn("copies to the device will be slower: %s", refused.text);
    }
    char *base[QS_POOL_COUNT] = {out->device_base, out->pinned.base, out->host.base, out->managed_base};
    for (int i = 0; i < plan->item_count; i++) {
        const qs_plan_item *item = &plan->items[i];
        QS_ASSERT(item->bytes % 4096 == 0);
        out->at[i] = base[item->pool] + used[item->pool];
        used[item->pool] += item->bytes;
    }
    for (int p = 0; p < QS_POOL_COUNT; p++) QS_ASSERT(used[p] == plan->pool_bytes[p]);
    return 0;
}

void qs_tier_close(qs_tier *t)
{
    if (t->registered) t->device->api->host_unregister(t->device, t->pinned.base);
    if (t->managed_base) t->device->api->managed_free(t->device, t->managed_base);
    if (t->device_base) t->device->api->free(t->device, t->device_base);
    qs_region_free(&t->pinned);
    qs_region_free(&t->host);
    *t = (qs_tier){0};
}

static int find(const qs_tier *t, qs_item item, qs_pool pool)
{
    for (int i = 0; i < t->plan->item_count; i++)
        if (t->plan->items[i].pool == pool && t->plan->items[i].item == item) return i;
    return -1;
}

void *qs_tier_take(qs_tier *t, qs_item item, qs_pool pool)
{
    int i = find(t, item, pool);
    if (i < 0) return NULL;
    QS_ASSERT(!t->taken[i]);
    t->taken[i] = true;
    return t->at[i];
}

qs_arena qs_tier_arena(qs_tier *t, qs_item item, qs_pool pool)
{
    int i = find(t, item, pool);
    return (qs_arena){qs_tier_take(t, item, pool), i < 0 ? 0 : t->plan->items[i].bytes, 0};
}

void qs_tier_check(const qs_tier *t)
{
    for (int i = 0; i < t->plan->item_count; i++) QS_ASSERT(t->taken[i]);
}
