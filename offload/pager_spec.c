/* pager_spec.c - a set of records as an item of the plan, and as a pager on what the plan gave. */
#include "offload/pager.h"

qs_pager_spec qs_pager_spec_of(const qs_device *d, qs_item item, int32_t records, uint64_t bytes,
                               bool on_disk, int32_t frames)
{
    bool paged = on_disk && frames < records;
    return (qs_pager_spec){.item = item,
                           .pool = paged || !d->info.shared_memory ? QS_POOL_PINNED : QS_POOL_HOST,
                           .records = records,
                           .frames = paged ? frames : records,
                           .bytes = paged ? qs_tier_round(bytes) : bytes};
}

qs_plan_item qs_pager_spec_item(const qs_pager_spec *p)
{
    return (qs_plan_item){p->item, p->pool, qs_tier_round((uint64_t)p->frames * p->bytes)};
}

int qs_pager_spec_open(const qs_pager_spec *p, qs_tier *tier, qs_aio *aio, const char *dir, qs_pager **out,
                       qs_err *e)
{
    qs_pager_config c = {.device = tier->device,
                         .records = p->records,
                         .bytes = p->bytes,
                         .memory = qs_tier_take(tier, p->item, p->pool),
                         .frames = p->frames,
                         .aio = aio,
                         .dir = dir,
                         .what = qs_item_name(p->item)};
    return qs_pager_open(&c, out, e);
}
