#include "offload/residency.h"

#include <string.h>

#include "offload/farthest.h"
#include "src/base/memory.h"

void qs_residency_open(const qs_plan *plan, bool in_place, const qs_mover *mover, qs_residency *out)
{
    qs_residency *r = out;
    size_t n = (size_t)plan->blobs;
    *r = (qs_residency){.mover = mover,
                        .in_place = in_place,
                        .blobs = plan->blobs,
                        .expected = -1,
                        .absent = plan->blobs,
                        .nowhere = plan->blobs};
    r->host = qs_calloc(n + (size_t)plan->ring_slots, sizeof *r->host);
    r->device = qs_calloc(n + (size_t)plan->device_slots, sizeof *r->device);
    r->host_slot_of = qs_malloc(5 * n * sizeof(int32_t));
    r->device_slot_of = r->host_slot_of + n;
    r->host_home = r->device_slot_of + n;
    r->device_home = r->host_home + n;
    r->next = r->device_home + n;
    memset(r->host_slot_of, 0xff, 4 * n * sizeof(int32_t));
    r->loaded = qs_calloc(n, sizeof *r->loaded);
    for (int32_t b = 0; b < plan->blobs; b++) {
        if (plan->home[b] == QS_HOME_DISK) continue;
        if (plan->home[b] == QS_HOME_DEVICE && !in_place)
            r->device_home[b] = r->device_homes++;
        else
            r->host_home[b] = r->host_homes++;
    }
    r->host_slots = r->host_homes + plan->ring_slots;
    r->device_slots = r->device_homes + plan->device_slots;
    for (int32_t i = 0; i < r->host_slots; i++)
        r->host[i] = (qs_host_slot){.blob = -1, .is_home = i < r->host_homes};
    for (int32_t i = 0; i < r->device_slots; i++)
        r->device[i] = (qs_device_slot){.blob = -1, .is_home = i < r->device_homes};
}

void qs_residency_close(qs_residency *r)
{
    qs_free(r->host);
    qs_free(r->device);
    qs_free(r->host_slot_of);
    qs_free(r->loaded);
    *r = (qs_residency){0};
}

/* ---- the list ---------------------------------------------------------------------------------------- */

void qs_residency_begin(qs_residency *r, const qs_schedule *schedule)
{
    r->schedule = schedule;
    r->at = 0;
    r->unmade = 0;
    for (int32_t b = 0; b < r->blobs; b++) {
        r->next[b] = 2 * schedule->count; /* never */
        r->unmade += !r->mover->cached(r->mover->context, b);
    }
    for (int32_t v = schedule->count - 1; v >= 0; v--)
        if (schedule->visits[v].blob >= 0) r->next[schedule->visits[v].blob] = v;
}

/* It is now visit v: those before it are over. */
static void move_to(qs_residency *r, int32_t v)
{
    for (; r->at < v; r->at++) {
        int32_t b = r->schedule->visits[r->at].blob;
        if (b >= 0) r->next[b] = r->at + r->schedule->next_use[r->at];
    }
    r->at = v;
}

/* Visits until the blob is needed; `count` when never. */
static int32_t distance(const qs_residency *r, int32_t blob)
{
    int32_t d = r->next[blob] - r->at;
    return d < r->schedule->count ? d : r->schedule->count;
}

/* ---- where blobs are --------------------------------------------------------------------------------- */

static bool is_nowhere(const qs_residency *r, int32_t b)
{
    return r->host_slot_of[b] < 0 && r->device_slot_of[b] < 0;
}

static void set_host_slot(qs_residency *r, int32_t b, int32_t i)
{
    r->nowhere -= is_nowhere(r, b);
    if (r->in_place) r->absent += (i < 0) - (r->host_slot_of[b] < 0);
    r->host_slot_of[b] = i;
    r->nowhere += is_nowhere(r, b);
}

static void set_device_slot(qs_residency *r, int32_t b, int32_t i)
{
    r->nowhere -= is_nowhere(r, b);
    r->absent += (i < 0) - (r->device_slot_of[b] < 0);
    r->device_slot_of[b] = i;
    r->nowhere += is_nowhere(r, b);
}

/* A host slot whose blob is on the device as well: it is only missed if the device slot is given up before
 * the visit. */
static bool spare(const qs_residency *r, const qs_host_slot *h) { return r->device_slot_of[h->blob] >= 0; }

/* How soon the blob of a ring slot is needed there; never, when it is at home on the device. */
static int32_t needed_there(const qs_residency *r, const qs_host_slot *h)
{
    return spare(r, h) && r->device_home[h->blob] >= 0 ? r->schedule->count : distance(r, h->blob);
}

static bool copying(const qs_residency *r, int32_t i)
{
    return !r->in_place && r->mover->copying(r->mover->context, i);
}

/* ---- who goes ---------------------------------------------------------------------------------------- */

/* A ring slot for a blob that is needed `need` visits from now: an empty one, or of those that are spare or
 * needed later the one needed last. -1 when there is none, or only such as the disk or the device is busy
 * with. */
static int32_t free_host_slot(const qs_residency *r, int32_t need)
{
    qs_farthest go = {-1, -1};
    for (int32_t i = r->host_homes; i < r->host_slots; i++) {
        const qs_host_slot *h = &r->host[i];
        if (h->pins || h->state == QS_SLOT_READING || h->writing) continue;
        if (h->blob < 0) return i;
        int32_t d = needed_there(r, h);
        if (!qs_is_farther(&go, d) || (d <= need && !spare(r, h)) || copying(r, i)) continue;
        go = (qs_farthest){i, d};
    }
    return go.index;
}

static void commit(qs_residency *r, int32_t i)
{
    r->mover->commit(r->mover->context, i);
    r->host[i].writing = false;
    r->writes--;
}

/* The ring slot that is needed last, once the disk and the device are done with it. */
static int32_t wait_for_host_slot(qs_residency *r)
{
    qs_farthest go = {-1, -1};
    for (int32_t i = r->host_homes; i < r->host_slots; i++) {
        const qs_host_slot *h = &r->host[i];
        if (!h->pins && qs_is_farther(&go, needed_there(r, h))) go = (qs_farthest){i, needed_there(r, h)};
    }
    QS_ASSERT(go.index >= 0);
    const qs_host_slot *h = &r->host[go.index];
    if (h->state == QS_SLOT_READING || h->writing) r->mover->wait_transferred(r->mover->context, go.index);
    if (h->writing) commit(r, go.index);
    if (copying(r, go.index)) r->mover->wait_copied(r->mover->context, go.index);
    return go.index;
}

/* A device slot for a blob that is needed `need` visits from now: an empty one, or the one needed last, but
 * not sooner. */
static int32_t free_device_slot(const qs_residency *r, int32_t need)
{
    qs_farthest go = {-1, need - 1};
    for (int32_t i = r->device_homes; i < r->device_slots; i++) {
        const qs_device_slot *d = &r->device[i];
        if (d->pins) continue;
        if (d->blob < 0) return i;
        if (qs_is_farther(&go, distance(r, d->blob))) go = (qs_farthest){i, distance(r, d->blob)};
    }
    return go.index;
}

/* ---- what is begun ----------------------------------------------------------------------------------- */

static void expect(qs_residency *r, int32_t blob)
{
    if (r->expected != blob) r->mover->expect(r->mover->context, blob);
    r->expected = blob;
}

/* Finds a host slot for blob b and begins to fill it. False when none is free; with `must`, waits for one. */
static bool begin_fill(qs_residency *r, int32_t b, int32_t need, bool must)
{
    int32_t i = r->host_home[b] >= 0 ? r->host_home[b] : free_host_slot(r, need);
    if (i < 0 && must) i = wait_for_host_slot(r);
    if (i < 0) return false;
    qs_host_slot *h = &r->host[i];
    if (h->state == QS_SLOT_TO_MAKE && h->blob == r->expected)
        expect(r, -1); /* it may have been begun there */
    if (h->blob >= 0) set_host_slot(r, h->blob, -1);
    h->blob = b;
    set_host_slot(r, b, i);
    r->loaded[b] = true;
    bool read = r->mover->cached(r->mover->context, b);
    h->state = read ? QS_SLOT_READING : QS_SLOT_TO_MAKE;
    r->reads += read;
    r->mover->fill(r->mover->context, i, read);
    return true;
}

/* Has the blob of host slot i made, or what is left of it. */
static int make(qs_residency *r, int32_t i, qs_err *e)
{
    r->expected = -1;
    QS_TRY(r->mover->make(r->mover->context, i, &r->host[i].writing, e));
    r->host[i].state = QS_SLOT_FULL;
    r->unmade -= r->host[i].writing;
    r->writes += r->host[i].writing;
    return 0;
}

/* Blob b is expected, and once it has a host slot made as far as the disk has brought what it is made of. */
static void make_ahead(qs_residency *r, int32_t b)
{
    qs_err told_at_acquire = {0};
    int32_t i = r->host_slot_of[b];
    expect(r, b);
    if (i >= 0 && r->mover->make_some(r->mover->context, i) == QS_MADE_ALL) make(r, i, &told_at_acquire);
}

/* Brings host slot i to QS_SLOT_FULL: receives it, or has it made. After a failure the next call fails again.
 */
static int complete(qs_residency *r, int32_t i, qs_err *e)
{
    qs_host_slot *h = &r->host[i];
    if (h->state == QS_SLOT_READING) {
        bool good;
        QS_TRY(r->mover->receive(r->mover->context, i, &good, e));
        h->state = good ? QS_SLOT_FULL : QS_SLOT_TO_MAKE;
        r->unmade += !good;
    }
    return h->state == QS_SLOT_TO_MAKE ? make(r, i, e) : 0;
}

/* Copies a full host slot to the device. False when no slot there is free. */
static bool begin_copy(qs_residency *r, int32_t i, int32_t need)
{
    int32_t b = r->host[i].blob, to = r->device_home[b] >= 0 ? r->device_home[b] : free_device_slot(r, need);
    if (to < 0) return false;
    qs_device_slot *d = &r->device[to];
    if (d->blob >= 0) set_device_slot(r, d->blob, -1);
    d->blob = b;
    set_device_slot(r, b, to);
    r->mover->copy(r->mover->context, i, to);
    return true;
}

/* Takes a blob on towards the device. False when that must wait: what is needed later waits with it, so that
 * no slot goes to a later blob and is taken back. */
static bool take_on(qs_residency *r, int32_t i, int32_t need)
{
    qs_err told_at_acquire = {0};
    if (r->host[i].state == QS_SLOT_READING &&
        (!r->mover->transferred(r->mover->context, i) || complete(r, i, &told_at_acquire)))
        return false;
    return r->host[i].state == QS_SLOT_FULL && begin_copy(r, i, need);
}

/* Whether blob b will be made; whether it has a slot yet does not matter. */
static bool to_make(const qs_residency *r, int32_t b)
{
    if (r->host_slot_of[b] >= 0) return r->host[r->host_slot_of[b]].state == QS_SLOT_TO_MAKE;
    return !r->mover->cached(r->mover->context, b);
}

void qs_residency_commit_written(qs_residency *r)
{
    for (int32_t i = 0; r->writes && i < r->host_slots; i++)
        if (r->host[i].writing && r->mover->transferred(r->mover->context, i)) commit(r, i);
}

void qs_residency_pump(qs_residency *r)
{
    const qs_schedule *list = r->schedule;
    int32_t reach = 2 * (list->layers + list->tiles) + 2; /* every blob is visited within so many */
    bool host_left = true, device_left = !r->in_place, expecting = false;
    qs_residency_commit_written(r);
    if (!r->absent && !r->unmade) return;
    for (int32_t i = 0; i < reach && i < list->count && (host_left || device_left); i++) {
        if (!device_left && !r->nowhere && (expecting || !r->unmade))
            return; /* nothing further on could be begun */
        int32_t v = r->at + i < list->count ? r->at + i : r->at + i - list->count, b = list->visits[v].blob;
        if (b < 0 || r->device_slot_of[b] >= 0) continue;
        if (r->host_slot_of[b] < 0) host_left = host_left && begin_fill(r, b, i, false);
        if (!expecting && to_make(r, b)) {
            expecting = true;
            make_ahead(r, b);
        }
        device_left = device_left && r->host_slot_of[b] >= 0 && take_on(r, r->host_slot_of[b], i);
    }
}

void qs_residency_make_on(qs_residency *r)
{
    if (r->expected < 0 || r->host_slot_of[r->expected] < 0) return;
    make_ahead(r, r->expected);
    if (r->expected < 0) qs_residency_pump(r);
}

void qs_residency_settle(qs_residency *r)
{
    for (int32_t i = 0; i < r->host_slots; i++)
        if (r->host[i].writing) commit(r, i);
}

/* ---- the walk ---------------------------------------------------------------------------------------- */

static int bring(qs_residency *r, int32_t b, qs_err *e)
{
    if (r->device_slot_of[b] >= 0) return 0;
    if (r->host_slot_of[b] < 0) QS_ASSERT(begin_fill(r, b, 0, true));
    QS_TRY(complete(r, r->host_slot_of[b], e));
    if (!r->in_place) QS_ASSERT(begin_copy(r, r->host_slot_of[b], 0));
    return 0;
}

static void hold(qs_residency *r, int32_t b, int32_t pins)
{
    int32_t i = qs_residency_slot(r, b), *held = r->in_place ? &r->host[i].pins : &r->device[i].pins;
    QS_ASSERT(i >= 0 && *held + pins >= 0);
    *held += pins;
}

int qs_residency_acquire(qs_residency *r, int32_t v, qs_err *e)
{
    int32_t b = r->schedule->visits[v].blob;
    move_to(r, v);
    qs_residency_pump(r);
    if (b < 0) return 0;
    QS_TRY(bring(r, b, e));
    hold(r, b, 1);
    r->hits += !r->loaded[b];
    r->loaded[b] = false;
    qs_residency_pump(r); /* the slot of this visit is settled: look further ahead */
    return 0;
}

void qs_residency_release(qs_residency *r, int32_t v)
{
    if (r->schedule->visits[v].blob >= 0) hold(r, r->schedule->visits[v].blob, -1);
}
