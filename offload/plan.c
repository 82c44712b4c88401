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
    if (bytes < 1024) snprintf(text, 16, "%d B", (int)bytes);
    else if (bytes < (1u << 20)) snprintf(text, 16, "%.1f KiB", (double)bytes / 1024);
    else if (bytes < (1u << 30)) snprintf(text, 16, "%.1f MiB", (double)bytes / (1 << 20));
    else snprintf(text, 16, "%.2f GiB", (double)bytes / (1 << 30));
    return text;
}

static void add_item(qs_plan *p, const char *tag, qs_pool pool, uint64_t bytes)
{
    if (!bytes) return;
    QS_ASSERT(p->item_count < QS_PLAN_MAX_ITEMS);
    p->items[p->item_count++] = (qs_plan_item){tag, pool, bytes};
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

/* What is free for homes once a ring of `slots` is there; false when even the ring does not fit. */
typedef struct room {
    uint64_t device, host;
} room;

static bool room_left(const qs_plan_input *in, const qs_plan *p, int slots, uint64_t slot_bytes, room *out)
{
    uint64_t device = p->pool_bytes[QS_POOL_DEVICE] + in->device_overhead_bytes;
    uint64_t host = ram_bytes(p) + (uint64_t)slots * slot_bytes;
    if (!in->unified) device += (uint64_t)slots * slot_bytes;
    if (device > in->vram_bytes || host > in->ram_bytes) return false;
    *out = (room){in->vram_bytes - device, in->ram_bytes - host};
    return true;
}

/* Gives c evenly spread blobs a home: as many of them as fit, evenly spread again, on the device, the others on the host. */
static bool place(const qs_plan_input *in, int c, room r, uint8_t *home)
{
    memset(home, QS_HOME_DISK, (size_t)in->blobs);
    uint64_t total = 0;
    for (int i = 0; i < c; i++) total += in->blob_bytes[spread(i, in->blobs, c)];
    if (total > r.device + r.host) return false;
    for (int on_device = c; on_device >= 0; on_device--) {
        uint64_t device = 0;
        for (int i = 0; i < on_device; i++) device += in->blob_bytes[spread(spread(i, c, on_device), in->blobs, c)];
        if (device > r.device) continue;
        if (total - device > r.host) return false;
        for (int i = 0; i < c; i++) home[spread(i, in->blobs, c)] = QS_HOME_HOST;
        for (int i = 0; i < on_device; i++) home[spread(spread(i, c, on_device), in->blobs, c)] = QS_HOME_DEVICE;
        return true;
    }
    return false;
}

void qs_plan_minimum(const qs_plan_input *in, uint64_t *vram_bytes, uint64_t *ram_bytes)
{
    uint64_t ring = QS_PLAN_MIN_SLOTS * largest_blob(in), device = in->device_overhead_bytes, host = ring;
    for (int i = 0; i < in->item_count; i++) *(in->items[i].pool == QS_POOL_DEVICE ? &device : &host) += in->items[i].bytes;
    *vram_bytes = device + (in->unified ? 0 : ring);
    *ram_bytes = host;
}

/* "A 1.2 GiB, B 300.0 MiB, ..." of a pool's largest items. */
static void describe(const qs_plan_input *in, bool device, uint64_t ring, char *text, size_t capacity)
{
    char size[16];
    int n = snprintf(text, capacity, "streaming ring %s", qs_format_bytes(ring, size));
    if (!ring) n = 0;
    for (int i = 0; i < in->item_count && n < (int)capacity - 64; i++) {
        const qs_plan_item *item = &in->items[i];
        if ((item->pool == QS_POOL_DEVICE) != device || item->bytes < (1u << 20)) continue;
        n += snprintf(text + n, capacity - (size_t)n, "%s%s %s", n ? ", " : "", item->tag, qs_format_bytes(item->bytes, size));
    }
}

static int refuse(const qs_plan_input *in, qs_err *e)
{
    uint64_t vram, ram;
    char need[16], have[16], parts[384];
    qs_plan_minimum(in, &vram, &ram);
    bool device = vram > in->vram_bytes;
    describe(in, device, (!device || !in->unified) ? QS_PLAN_MIN_SLOTS * largest_blob(in) : 0, parts, sizeof parts);
    QS_FAIL(e, QS_EBUDGET,
            "--%s %s is too small: this job needs at least %s there (%s); give --%s %lluM or more, or lower max_seq_length, "
            "per_device_train_batch_size%s",
            device ? "vram" : "ram", qs_format_bytes(device ? in->vram_bytes : in->ram_bytes, have),
            qs_format_bytes(device ? vram : ram, need), parts, device ? "vram" : "ram",
            (unsigned long long)(((device ? vram : ram) + (1u << 20) - 1) >> 20), device ? "" : " or gradient_accumulation_steps");
}

/* Finds the most homes that fit beside a ring of `slots`. Returns false when the ring itself does not fit. */
static bool place_most(const qs_plan_input *in, const qs_plan *p, int slots, uint64_t slot_bytes, uint8_t *home, int *homes)
{
    room r;
    if (!room_left(in, p, slots, slot_bytes, &r)) return false;
    int low = 0, high = in->most_homes >= 0 && in->most_homes < in->blobs ? in->most_homes : in->blobs;
    if (slots && high == in->blobs) high--; /* a ring is for a plan in which something streams */
    while (high > low && !place(in, high, r, home)) high--;
    *homes = high;
    return place(in, high, r, home);
}

int qs_plan_make(const qs_plan_input *in, qs_plan *out, qs_err *e)
{
    qs_plan *p = out;
    *p = (qs_plan){.vram_bytes = in->vram_bytes, .ram_bytes = in->ram_bytes, .blobs = in->blobs};
    uint64_t biggest = largest_blob(in), vram, ram;
    qs_plan_minimum(in, &vram, &ram);
    for (int i = 0; i < in->item_count; i++) add_item(p, in->items[i].tag, in->items[i].pool, in->items[i].bytes);
    p->home = qs_calloc((size_t)in->blobs, 1);
    if (in->wish && in->wish->bytes + ram <= in->ram_bytes) {
        add_item(p, in->wish->tag, in->wish->pool, in->wish->bytes);
        p->wish_granted = true;
    }
    int homes = 0, slots = 0;
    bool all = false;
    if (in->unified && in->most_homes < 0) { /* everything resident needs no ring */
        room r;
        all = room_left(in, p, 0, 0, &r) && place(in, in->blobs, r, p->home);
        homes = in->blobs;
    }
    if (!all) {
        slots = in->ring_slots ? in->ring_slots : QS_PLAN_RING_SLOTS;
        bool fits = false;
        for (; slots >= QS_PLAN_MIN_SLOTS && !fits; slots -= !fits)
            if ((fits = place_most(in, p, slots, biggest, p->home, &homes))) break;
        if (!fits) {
            qs_plan_free(p);
            return refuse(in, e);
        }
    }
    uint64_t resident[3] = {0};
    for (int b = 0; b < in->blobs; b++) {
        resident[p->home[b]] += in->blob_bytes[b];
        p->homes_device += p->home[b] == QS_HOME_DEVICE;
        p->homes_host += p->home[b] == QS_HOME_HOST;
    }
    p->streamed_bytes = resident[QS_HOME_DISK];
    p->ring_slots = slots;
    p->slot_bytes = slots ? biggest : 0;
    p->device_slots = in->unified ? 0 : slots;
    add_item(p, "streaming ring", QS_POOL_PINNED, (uint64_t)slots * p->slot_bytes);
    add_item(p, "device slots", QS_POOL_DEVICE, (uint64_t)p->device_slots * p->slot_bytes);
    add_item(p, "resident weights", QS_POOL_DEVICE, resident[QS_HOME_DEVICE]);
    add_item(p, "resident weights (RAM)", in->unified ? QS_POOL_HOST : QS_POOL_PINNED, resident[QS_HOME_HOST]);
    p->vram_used = p->pool_bytes[QS_POOL_DEVICE] + in->device_overhead_bytes;
    p->ram_used = ram_bytes(p);
    QS_ASSERT(p->vram_used <= in->vram_bytes && p->ram_used <= in->ram_bytes);
    return 0;
}

void qs_plan_free(qs_plan *p)
{
    qs_free(p->home);
    *p = (qs_plan){0};
}
