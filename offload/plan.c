#include "offload/plan.h"

#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"

const char *qs_pool_name(qs_pool p)
{
    static const char *const names[QS_POOL_COUNT] = {"device", "pinned", "host", "managed"};
    return names[p];
}

const char *qs_format_bytes(uint64_t bytes, char text[16])
{
    if (bytes < 1024)
        snprintf(text, 16, "%d B", (int)bytes);
    else if (bytes < (1u << 20))
        snprintf(text, 16, "%.1f KiB", (double)bytes / 1024);
    else if (bytes < (1u << 30))
        snprintf(text, 16, "%.1f MiB", (double)bytes / (1 << 20));
    else
        snprintf(text, 16, "%.2f GiB", (double)bytes / (1 << 30));
    return text;
}

const char *qs_item_name(qs_item i)
{
#define NAME(name, text) [QS_ITEM_##name] = text,
    static const char *const names[QS_ITEMS] = {QS_ITEM_LIST(NAME)};
#undef NAME
    return names[i];
}

static void add_item(qs_plan *p, qs_item item, qs_pool pool, uint64_t bytes)
{
    if (!bytes) return;
    QS_ASSERT(p->item_count < QS_PLAN_MAX_ITEMS);
    p->items[p->item_count++] = (qs_plan_item){item, pool, bytes};
    p->pool_bytes[pool] += bytes;
}

/* What the plan takes of --ram so far. */
static uint64_t ram_bytes(const qs_plan *p)
{
    return p->pool_bytes[QS_POOL_PINNED] + p->pool_bytes[QS_POOL_HOST] + p->pool_bytes[QS_POOL_MANAGED];
}

static uint64_t largest_blob(const qs_plan_input *in)
{
    uint64_t most = 0;
    for (int b = 0; b < in->blobs; b++)
        if (in->blob_bytes[b] > most) most = in->blob_bytes[b];
    return most;
}

/* Chooses c of n positions, evenly spread: position i of them is floor((i + 1/2) n / c). */
static int spread(int i, int n, int c) { return (int)((2 * (int64_t)i + 1) * n / (2 * (int64_t)c)); }

/* What the fixed items of one side take, overhead included. */
static uint64_t fixed_bytes(const qs_plan_input *in, bool device)
{
    uint64_t sum = device ? in->device_overhead_bytes : 0;
    for (int i = 0; i < in->item_count; i++)
        if ((in->items[i].pool == QS_POOL_DEVICE) == device) sum += in->items[i].bytes;
    return sum;
}

static int most_homes(const qs_plan_input *in)
{
    return in->most_homes >= 0 && in->most_homes < in->blobs ? in->most_homes : in->blobs;
}

/* ---- homes ------------------------------------------------------------------------------------------- */

/* Of c evenly spread blobs with a home, `on_device` (evenly spread again) live on the device: what those
 * take. */
static uint64_t device_share(const qs_plan_input *in, int c, int on_device)
{
    uint64_t sum = 0;
    for (int i = 0; i < on_device; i++) sum += in->blob_bytes[spread(spread(i, c, on_device), in->blobs, c)];
    return sum;
}

static uint64_t total_share(const qs_plan_input *in, int c) { return device_share(in, c, c); }

typedef struct room {
    uint64_t device, host;
} room;

/* Gives c evenly spread blobs a home: as many of them as fit on the device, the others on the host. */
static bool place(const qs_plan_input *in, int c, room r, uint8_t *home)
{
    uint64_t total = total_share(in, c);
    if (total > r.device + r.host) return false;
    for (int on_device = c; on_device >= 0; on_device--) {
        uint64_t device = device_share(in, c, on_device);
        if (device > r.device || total - device > r.host) continue;
        memset(home, QS_HOME_DISK, (size_t)in->blobs);
        for (int i = 0; i < c; i++) home[spread(i, in->blobs, c)] = QS_HOME_HOST;
        for (int i = 0; i < on_device; i++)
            home[spread(spread(i, c, on_device), in->blobs, c)] = QS_HOME_DEVICE;
        return true;
    }
    return false;
}

/* The least that all blobs can take on the host when the device has this much for them. */
static uint64_t least_on_host(const qs_plan_input *in, uint64_t device_room)
{
    uint64_t total = total_share(in, in->blobs), least = total;
    for (int on_device = 0; on_device <= in->blobs; on_device++) {
        uint64_t device = device_share(in, in->blobs, on_device);
        if (device <= device_room && total - device < least) least = total - device;
    }
    return least;
}

void qs_plan_minimum(const qs_plan_input *in, uint64_t *vram_bytes, uint64_t *ram_bytes)
{
    uint64_t ring = QS_PLAN_MIN_SLOTS * largest_blob(in), device = fixed_bytes(in, true), on_device = 0,
             on_host = ring;
    bool all = most_homes(in) == in->blobs;
    if (!in->shared_memory) {
        on_device = all && total_share(in, in->blobs) < ring ? total_share(in, in->blobs) : ring;
    } else if (all) { /* a model smaller than the ring needs no ring */
        uint64_t least = least_on_host(in, in->vram_bytes > device ? in->vram_bytes - device : 0);
        if (least < ring) on_host = least;
    }
    *vram_bytes = device + on_device;
    *ram_bytes = fixed_bytes(in, false) + on_host;
}

/* ---- refusal ----------------------------------------------------------------------------------------- */

/* "weights 1.2 GiB, B 300.0 MiB, ..." of a side's largest items. */
static void describe(const qs_plan_input *in, bool device, uint64_t weights, char *text, size_t capacity)
{
    char size[16];
    int n = weights ? snprintf(text, capacity, "weights %s", qs_format_bytes(weights, size))
                    : snprintf(text, capacity, "%s", "");
    for (int i = 0; i < in->item_count && n < (int)capacity - 64; i++) {
        const qs_plan_item *item = &in->items[i];
        if ((item->pool == QS_POOL_DEVICE) != device || item->bytes < (1u << 20)) continue;
        n += snprintf(text + n, capacity - (size_t)n, "%s%s %s", n ? ", " : "", qs_item_name(item->item),
                      qs_format_bytes(item->bytes, size));
    }
    if (!n) snprintf(text, capacity, "many small things");
}

static unsigned long long mebibytes(uint64_t bytes) { return (bytes + (1u << 20) - 1) >> 20; }

static int refuse(const qs_plan_input *in, qs_err *e)
{
    uint64_t vram, ram;
    char need[16], have[16], parts[384], other[48] = "";
    qs_plan_minimum(in, &vram, &ram);
    bool device = vram > in->vram_bytes;
    uint64_t least = device ? vram : ram;
    describe(in, device, least - fixed_bytes(in, device), parts, sizeof parts);
    if (device && ram > in->ram_bytes) snprintf(other, sizeof other, " and --ram %lluM", mebibytes(ram));
    QS_FAIL(e, QS_EBUDGET,
            "--%s %s is too small: this job needs at least %s there (%s); give --%s %lluM%s or more, or "
            "lower max_seq_length, "
            "per_device_train_batch_size%s",
            device ? "vram" : "ram", qs_format_bytes(device ? in->vram_bytes : in->ram_bytes, have),
            qs_format_bytes(least, need), parts, device ? "vram" : "ram", mebibytes(least), other,
            device ? "" : " or gradient_accumulation_steps");
}

/* ---- the plan ---------------------------------------------------------------------------------------- */

/* With a ring of `slots` in host memory and `device_slots` on the device: the most homes, `least` at any
 * rate. */
static bool fit(const qs_plan_input *in, qs_plan *p, int slots, int device_slots, int least)
{
    uint64_t slot_bytes = largest_blob(in);
    uint64_t device =
        p->pool_bytes[QS_POOL_DEVICE] + in->device_overhead_bytes + (uint64_t)device_slots * slot_bytes;
    uint64_t host = ram_bytes(p) + (uint64_t)slots * slot_bytes;
    if (device > in->vram_bytes || host > in->ram_bytes) return false;
    room r = {in->vram_bytes - device, in->ram_bytes - host};
    if (!in->shared_memory && !device_slots) r.host = 0; /* what lives on the host is used through a slot */
    for (int c = most_homes(in); c >= least; c--) {
        if (!place(in, c, r, p->home)) continue;
        p->ring_slots = slots;
        p->device_slots = device_slots;
        p->slot_bytes = slots ? slot_bytes : 0;
        return true;
    }
    return false;
}

static bool choose(const qs_plan_input *in, qs_plan *p)
{
    int slots = in->ring_slots ? in->ring_slots : QS_PLAN_RING_SLOTS;
    QS_ASSERT(slots >= QS_PLAN_MIN_SLOTS);
    /* Everything resident needs no ring, but to load a device that has its own memory. */
    if (most_homes(in) == in->blobs && fit(in, p, in->shared_memory ? 0 : QS_PLAN_MIN_SLOTS, 0, in->blobs))
        return true;
    for (; slots >= QS_PLAN_MIN_SLOTS; slots--)
        if (fit(in, p, slots, in->shared_memory ? 0 : slots, 0)) return true;
    return false;
}

static void start(const qs_plan_input *in, const qs_plan_item *wish, qs_plan *p)
{
    uint8_t *home = p->home;
    *p = (qs_plan){.vram_bytes = in->vram_bytes,
                   .ram_bytes = in->ram_bytes,
                   .blobs = in->blobs,
                   .home = home,
                   .wish_granted = wish};
    for (int i = 0; i < in->item_count; i++)
        add_item(p, in->items[i].item, in->items[i].pool, in->items[i].bytes);
    if (wish) add_item(p, wish->item, wish->pool, wish->bytes);
}

static void finish(const qs_plan_input *in, qs_plan *p)
{
    uint64_t bytes[3] = {0};
    for (int b = 0; b < in->blobs; b++) {
        bytes[p->home[b]] += in->blob_bytes[b];
        p->homes_device += p->home[b] == QS_HOME_DEVICE;
        p->homes_host += p->home[b] == QS_HOME_HOST;
    }
    p->streamed_bytes = bytes[QS_HOME_DISK];
    add_item(p, QS_ITEM_RING, QS_POOL_PINNED, (uint64_t)p->ring_slots * p->slot_bytes);
    add_item(p, QS_ITEM_DEVICE_SLOTS, QS_POOL_DEVICE, (uint64_t)p->device_slots * p->slot_bytes);
    add_item(p, QS_ITEM_RESIDENT, QS_POOL_DEVICE, bytes[QS_HOME_DEVICE]);
    add_item(p, QS_ITEM_RESIDENT_RAM, in->shared_memory ? QS_POOL_HOST : QS_POOL_PINNED, bytes[QS_HOME_HOST]);
    p->vram_used = p->pool_bytes[QS_POOL_DEVICE] + in->device_overhead_bytes;
    p->ram_used = ram_bytes(p);
    QS_ASSERT(p->vram_used <= in->vram_bytes && p->ram_used <= in->ram_bytes);
}

int qs_plan_make(const qs_plan_input *in, qs_plan *out, qs_err *e)
{
    *out = (qs_plan){.home = qs_calloc((size_t)in->blobs, 1)};
    bool fits = false;
    if (in->wish) {
        start(in, in->wish, out);
        fits = choose(in, out);
    }
    if (!fits) {
        start(in, NULL, out);
        fits = choose(in, out);
    }
    if (!fits) {
        qs_plan_free(out);
        return refuse(in, e);
    }
    finish(in, out);
    return 0;
}

void qs_plan_free(qs_plan *p)
{
    qs_free(p->home);
    *p = (qs_plan){0};
}
