#include "offload/simulate.h"

#include <math.h>
#include <string.h>

#include "src/base/memory.h"

enum { STEPS = 3, WRITES_BEHIND = 2, SOURCE_AHEAD_BYTES = 32 << 20 };

/* One transfer of the disk. */
typedef struct disk_op {
    double bytes, left, rate; /* left: not submitted yet; bytes per second, 0: at once */
    double reach;         /* bytes that move unattended; 0: no limit */
    double end;           /* when the last byte arrives, once all are submitted */
    bool active, submitted;
    struct disk_op *next;
} disk_op;

typedef struct disk {
    disk_op *head, *tail; /* with bytes left to submit */
    double free, busy;    /* end of what was submitted; seconds of work so far */
} disk;

/* Names and states as in stream.c. */
typedef enum place_state { PLACE_EMPTY, PLACE_READING, PLACE_TO_MAKE, PLACE_READY } place_state;

typedef struct place {
    int32_t blob;
    place_state state;
    bool is_home, writing, pinned;
    double copied;        /* when the last copy out of it has ended */
    disk_op op;
} place;

typedef struct slot {
    int32_t blob;
    bool is_home, pinned;
    double ready, freed;
} slot;

typedef struct blob_state {
    int32_t place, slot, home_place, home_slot;
    int32_t next;         /* visits from the step's first to the next visit of this blob: at least `at` */
    bool loaded, cached;
    double arrived;       /* when its bytes last came from the disk or the maker */
} blob_state;

typedef struct sim {
    const qs_sim_input *in;
    const qs_schedule *list;
    double now;           /* the host's clock */
    double compute_free, link_in_free, link_out_free;
    disk disk;
    int32_t at, blobs, place_count, slot_count;
    place *places;
    slot *slots;
    blob_state *blob;
    int32_t expected;     /* by the maker, or -1 */
    double quantised;     /* seconds of its work that are done */
    int32_t writing, absent, nowhere, unmade; /* places that are being written; blobs that are not where kernels read them, are in no place or slot, were not made yet */
    disk_op source, read_ahead, writes[WRITES_BEHIND]; /* the maker's read; bytes of `work` that live on the disk */
    qs_sim_step *step;
    qs_sim_visit *visit;  /* the visit in progress */
} sim;

const char *qs_sim_resource_name(qs_sim_resource r)
{
    static const char *const names[QS_SIM_RESOURCES] = {"compute", "disk", "link in", "link out", "host"};
    return names[r];
}

static double seconds_of(double bytes, double rate) { return rate > 0 ? bytes / rate : 0; }
static double later(double a, double b) { return a > b ? a : b; }

/* ---- the disk --------------------------------------------------------------------------------------------------------- */

/* The host looks at the disk from `from` until `until`: submits what room there is for. */
static void attend(sim *s, double from, double until)
{
    disk *d = &s->disk;
    while (d->head) {
        disk_op *o = d->head;
        double begin = later(d->free, from), take = o->left;
        if (o->reach > 0 && o->rate > 0) {
            double room = (until - begin) * o->rate + o->reach;
            if (room < take) take = room;
            if (take <= 0) return;
        }
        if (begin > d->free && o->left == o->bytes) begin += s->in->rates.disk_latency;
        d->free = begin + seconds_of(take, o->rate);
        d->busy += seconds_of(take, o->rate);
        o->left -= take;
        if (o->left > 0) return;
        o->submitted = true;
        o->end = d->free;
        d->head = o->next;
    }
}

static void start_op(sim *s, disk_op *o, uint64_t bytes, bool write)
{
    QS_ASSERT(!o->active);
    double reach = (double)s->in->rates.unattended_bytes;
    if (o == &s->source && !(reach > 0 && reach < SOURCE_AHEAD_BYTES)) reach = SOURCE_AHEAD_BYTES; /* the maker's buffers */
    *o = (disk_op){.bytes = (double)bytes, .left = (double)bytes, .rate = write ? s->in->rates.disk_write : s->in->rates.disk_read, .reach = reach, .active = bytes > 0};
    if (!bytes) return;
    *(write ? &s->step->disk_write_bytes : &s->step->disk_read_bytes) += bytes;
    if (s->disk.head) s->disk.tail->next = o;
    else s->disk.head = o;
    s->disk.tail = o;
    attend(s, s->now, s->now);
}

static bool op_done(const sim *s, const disk_op *o) { return !o->active || (o->submitted && o->end <= s->now); }

/* The host's clock moves on while it looks after the disk. */
static void spend_attending(sim *s, double seconds)
{
    attend(s, s->now, s->now + seconds);
    s->now += seconds;
}

/* The host waits for o; returns how long. */
static double finish_op(sim *s, disk_op *o)
{
    double start = s->now;
    if (!o->active) return 0;
    while (!o->submitted) {
        /* Nothing before o can be behind it: all of that is submitted as soon as there is room. */
        double step = later(s->disk.free, s->now);
        attend(s, s->now, step + seconds_of(o->reach, o->rate));
    }
    s->now = later(s->now, o->end);
    attend(s, start, s->now);
    o->active = false;
    return s->now - start;
}

static void wait_for_disk(sim *s, disk_op *o)
{
    double waited = finish_op(s, o);
    if (!s->in->unified) return; /* there the device's own clock tells who waited */
    s->visit->disk_wait += waited;
}

static void hash(sim *s, int32_t b)
{
    double seconds = seconds_of((double)s->in->blob_bytes[b], s->in->rates.verify);
    spend_attending(s, seconds);
    s->visit->verify += seconds;
    s->step->busy[QS_SIM_HOST] += seconds;
}

/* ---- places ----------------------------------------------------------------------------------------------------------- */

static int32_t distance(const sim *s, int32_t b)
{
    int32_t d = s->blob[b].next - s->at;
    return d < s->list->count ? d : s->list->count;
}

static bool being_copied(const sim *s, const place *p) { return !s->in->unified && p->copied > s->now; }
static bool spare(const sim *s, const place *p) { return !s->in->unified && s->blob[p->blob].slot >= 0; }

static int32_t place_distance(const sim *s, const place *p)
{
    return spare(s, p) && s->blob[p->blob].home_slot >= 0 ? s->list->count : distance(s, p->blob);
}

static void settle(sim *s, place *p, bool wait)
{
    if (!p->writing || (!wait && !op_done(s, &p->op))) return;
    if (wait) wait_for_disk(s, &p->op);
    p->op.active = false;
    hash(s, p->blob);
    s->blob[p->blob].cached = true;
    p->writing = false;
    s->writing--;
}

/* Ring places follow the homes. */
static int32_t grab_place(sim *s, int32_t need)
{
    int32_t best = -1, best_distance = -1;
    for (int32_t i = s->place_count - s->in->plan->ring_slots; i < s->place_count; i++) {
        place *p = &s->places[i];
        if (p->pinned || p->state == PLACE_READING || p->writing) continue;
        if (p->blob < 0) return i;
        int32_t d = place_distance(s, p);
        if (d <= best_distance || (d <= need && !spare(s, p)) || being_copied(s, p)) continue;
        best = i;
        best_distance = d;
    }
    return best;
}

static int32_t wait_for_place(sim *s)
{
    int32_t best = -1, best_distance = -1;
    for (int32_t i = s->place_count - s->in->plan->ring_slots; i < s->place_count; i++) {
        const place *p = &s->places[i];
        if (p->pinned) continue;
        int32_t d = place_distance(s, p);
        if (d <= best_distance) continue;
        best = i;
        best_distance = d;
    }
    QS_ASSERT(best >= 0);
    place *p = &s->places[best];
    if (p->state == PLACE_READING) wait_for_disk(s, &p->op);
    settle(s, p, true);
    if (being_copied(s, p)) s->now = p->copied;
    return best;
}

static void expect(sim *s, int32_t b)
{
    if (s->expected == b) return;
    s->expected = b;
    s->quantised = 0;
    finish_op(s, &s->source);
    if (b >= 0) start_op(s, &s->source, s->in->source_bytes ? s->in->source_bytes[b] : 0, false);
}

static bool is_nowhere(const sim *s, int32_t b) { return s->blob[b].place < 0 && s->blob[b].slot < 0; }

static void set_place(sim *s, int32_t b, int32_t i)
{
    s->nowhere -= is_nowhere(s, b);
    s->blob[b].place = i;
    s->nowhere += is_nowhere(s, b);
}

static void set_slot(sim *s, int32_t b, int32_t i)
{
    s->nowhere -= is_nowhere(s, b);
    s->blob[b].slot = i;
    s->nowhere += is_nowhere(s, b);
}

static bool begin_fill(sim *s, int32_t b, int32_t need, bool must)
{
    int32_t i = s->blob[b].home_place >= 0 ? s->blob[b].home_place : grab_place(s, need);
    if (i < 0 && must) i = wait_for_place(s);
    if (i < 0) return false;
    place *p = &s->places[i];
    if (p->state == PLACE_TO_MAKE && p->blob == s->expected) expect(s, -1);
    if (p->blob >= 0) set_place(s, p->blob, -1);
    if (s->in->unified) s->absent -= p->blob < 0;
    p->blob = b;
    set_place(s, b, i);
    s->blob[b].loaded = true;
    p->state = PLACE_TO_MAKE;
    if (!s->blob[b].cached) return true;
    p->state = PLACE_READING;
    start_op(s, &p->op, s->in->blob_bytes[b], false);
    s->step->reads++;
    return true;
}

/* ---- quantise on load ------------------------------------------------------------------------------------------------------ */

/* What has arrived of an operation. */
static double arrived(const sim *s, const disk_op *o)
{
    double outstanding = ((o->submitted ? o->end : s->disk.free) - s->now) * o->rate, bytes = o->bytes - o->left;
    if (outstanding > 0) bytes -= outstanding;
    return bytes > 0 ? bytes : 0;
}

static void quantise(sim *s, double seconds)
{
    if (seconds <= 0) return;
    spend_attending(s, seconds);
    s->quantised += seconds;
    s->visit->make += seconds;
    s->step->busy[QS_SIM_HOST] += seconds;
}

static double make_seconds(const sim *s, int32_t b) { return s->in->make_seconds ? s->in->make_seconds[b] : 0; }

/* The rest, while the disk brings it. */
static void make(sim *s, place *p)
{
    int32_t b = p->blob;
    expect(s, b);
    quantise(s, make_seconds(s, b) - s->quantised);
    s->visit->make += finish_op(s, &s->source);
    s->expected = -1;
    s->blob[b].arrived = s->now;
    s->unmade--;
    p->state = PLACE_READY;
    start_op(s, &p->op, s->in->blob_bytes[b], true);
    p->writing = true;
    s->writing++;
}

static void make_ahead(sim *s, int32_t b)
{
    expect(s, b);
    if (s->blob[b].place < 0) return;
    double part = op_done(s, &s->source) ? 1 : arrived(s, &s->source) / s->source.bytes;
    quantise(s, make_seconds(s, b) * part - s->quantised);
    if (part >= 1) make(s, &s->places[s->blob[b].place]);
}

static void complete(sim *s, place *p)
{
    int32_t b = p->blob;
    if (p->state == PLACE_READING) {
        wait_for_disk(s, &p->op);
        s->blob[b].arrived = p->op.end;
        hash(s, b);
        p->state = PLACE_READY;
    }
    if (p->state == PLACE_TO_MAKE) make(s, p);
}

/* ---- slots ------------------------------------------------------------------------------------------------------------ */

static int32_t grab_slot(const sim *s, int32_t need)
{
    int32_t best = -1, best_distance = need;
    for (int32_t i = s->slot_count - s->in->plan->device_slots; i < s->slot_count; i++) {
        const slot *d = &s->slots[i];
        if (d->pinned) continue;
        if (d->blob < 0) return i;
        int32_t far = distance(s, d->blob);
        if (far < best_distance || (far == best_distance && best >= 0)) continue;
        best = i;
        best_distance = far;
    }
    return best;
}

/* Takes the link for some bytes, no sooner than `from`. */
static double use_link(sim *s, bool in, uint64_t bytes, double from)
{
    double *free = in ? &s->link_in_free : &s->link_out_free;
    double seconds = seconds_of((double)bytes, in ? s->in->rates.link_in : s->in->rates.link_out);
    *free = later(*free, from) + seconds;
    s->step->busy[in ? QS_SIM_LINK_IN : QS_SIM_LINK_OUT] += seconds;
    *(in ? &s->step->link_in_bytes : &s->step->link_out_bytes) += bytes;
    return *free;
}

static bool begin_copy(sim *s, place *p, int32_t need)
{
    int32_t b = p->blob, i = s->blob[b].home_slot >= 0 ? s->blob[b].home_slot : grab_slot(s, need);
    if (i < 0) return false;
    slot *d = &s->slots[i];
    if (d->blob >= 0) set_slot(s, d->blob, -1);
    s->absent -= d->blob < 0;
    d->ready = p->copied = use_link(s, true, s->in->blob_bytes[b], later(s->now, d->freed));
    d->blob = b;
    set_slot(s, b, i);
    return true;
}

/* ---- the walk --------------------------------------------------------------------------------------------------------- */

static bool advance(sim *s, place *p, int32_t need)
{
    if (p->state == PLACE_READING) {
        if (!op_done(s, &p->op)) return false;
        complete(s, p);
    }
    return p->state == PLACE_READY && begin_copy(s, p, need);
}

static bool to_make(const sim *s, int32_t b)
{
    return s->blob[b].place >= 0 ? s->places[s->blob[b].place].state == PLACE_TO_MAKE : !s->blob[b].cached;
}

static void pump(sim *s)
{
    const qs_schedule *list = s->list;
    int32_t reach = 2 * (list->layers + list->tiles) + 2;
    bool unified = s->in->unified, places_left = true, slots_left = !unified, expecting = false;
    attend(s, s->now, s->now);
    for (int32_t i = 0; s->writing && i < s->place_count; i++) settle(s, &s->places[i], false);
    if (!s->absent && !s->unmade) return;
    for (int32_t i = 0; i < reach && i < list->count && (places_left || slots_left); i++) {
        if (!slots_left && !s->nowhere && (expecting || !s->unmade)) return; /* nothing further on could be begun */
        int32_t v = s->at + i < list->count ? s->at + i : s->at + i - list->count, b = list->visits[v].blob;
        if (b < 0 || (!unified && s->blob[b].slot >= 0)) continue;
        if (s->blob[b].place < 0) places_left = places_left && begin_fill(s, b, i, false);
        if (!expecting && to_make(s, b)) {
            expecting = true;
            make_ahead(s, b);
        }
        slots_left = slots_left && s->blob[b].place >= 0 && advance(s, &s->places[s->blob[b].place], i);
    }
}

static void bring(sim *s, int32_t b)
{
    if (!s->in->unified && s->blob[b].slot >= 0) return;
    if (s->blob[b].place < 0) QS_ASSERT(begin_fill(s, b, 0, true));
    place *p = &s->places[s->blob[b].place];
    complete(s, p);
    if (!s->in->unified) QS_ASSERT(begin_copy(s, p, 0));
}

static void set_pin(sim *s, int32_t b, bool pinned)
{
    if (b < 0) return;
    if (s->in->unified) s->places[s->blob[b].place].pinned = pinned;
    else s->slots[s->blob[b].slot].pinned = pinned;
}

/* Bytes of the visit's own that live on the disk: read a visit ahead, written behind. */
static void start_reads_of(sim *s, int32_t v)
{
    if (v < s->list->count && s->in->work[v].disk_read_bytes) start_op(s, &s->read_ahead, s->in->work[v].disk_read_bytes, false);
}

static void write_behind(sim *s, int32_t v)
{
    disk_op *o = &s->writes[v % WRITES_BEHIND];
    if (!s->in->work[v].disk_write_bytes) return;
    wait_for_disk(s, o);
    start_op(s, o, s->in->work[v].disk_write_bytes, true);
}

/* The host looks at the disk between two operations: the blob that is expected is made on, and the next one begun. */
static void look(sim *s)
{
    attend(s, s->now, s->now);
    if (s->expected < 0 || s->blob[s->expected].place < 0) return;
    make_ahead(s, s->expected);
    if (s->expected < 0) pump(s);
}

/* The host computes, or launches. */
static void spend(sim *s, double seconds, const qs_sim_work *w)
{
    for (int32_t i = 0; i < w->polls; i++) {
        if (i == w->polls - 1) wait_for_disk(s, &s->read_ahead);
        double each = seconds / w->polls / (w->looks > 0 ? w->looks : 1), end = s->now + seconds / w->polls;
        for (int32_t k = 1; k < w->looks && (s->disk.head || s->expected >= 0); k++) {
            double before = s->now += each;
            look(s);
            end += s->now - before; /* quantising */
        }
        s->now = end;
        pump(s);
    }
}

static void run_unified(sim *s, const qs_sim_work *w)
{
    s->step->busy[QS_SIM_COMPUTE] += w->seconds;
    spend(s, w->seconds, w);
}

/* The optimizer: the host waits for the device first, nothing is streamed meanwhile, and packs come and go in the order of the kernels. */
static void run_update(sim *s, const qs_sim_work *w)
{
    wait_for_disk(s, &s->read_ahead);
    s->step->busy[QS_SIM_COMPUTE] += w->seconds;
    if (!s->in->unified) {
        s->visit->start = s->compute_free;
        s->now = later(s->now, later(s->compute_free, later(s->link_in_free, s->link_out_free)));
        s->now = use_link(s, true, w->link_in_bytes, s->now);
        s->now = use_link(s, false, w->link_out_bytes, s->now);
        s->visit->link_wait = s->now - s->compute_free;
    }
    s->now += w->seconds;
    s->compute_free = s->visit->end = s->now;
}

/* The device starts when it is free, the weights are there and the host has come so far; checkpoints come and go meanwhile, all but the last micro-batch's. */
static void run_discrete(sim *s, const qs_sim_work *w, int32_t b)
{
    double free = s->compute_free, asked = s->now, weights = b >= 0 ? s->slots[s->blob[b].slot].ready : 0;
    double start = later(later(free, weights), asked), idle = start - free;
    double from_disk = b >= 0 ? later(0, s->blob[b].arrived - free) : 0;
    double last = w->seconds / w->polls, end = start + w->seconds;
    if (w->link_in_bytes) end = later(end, use_link(s, true, w->link_in_bytes, start - last) + last);
    if (w->link_out_bytes) end = later(end, use_link(s, false, w->link_out_bytes, start + last) - seconds_of((double)w->link_out_bytes / w->polls, s->in->rates.link_out));
    spend(s, w->host_seconds, w);
    if (s->read_ahead.end > free && w->disk_read_bytes) {
        end = later(end, s->read_ahead.end + last);
        from_disk = later(from_disk, s->read_ahead.end - start);
    }
    double stretched = end - start - w->seconds;
    if (from_disk > idle + stretched) from_disk = idle + stretched;
    s->step->busy[QS_SIM_COMPUTE] += w->seconds;
    s->step->busy[QS_SIM_HOST] += w->host_seconds;
    s->visit->disk_wait = from_disk;
    s->visit->link_wait = idle + stretched - from_disk;
    s->visit->start = free;
    s->visit->end = s->compute_free = end;
    if (b >= 0) s->slots[s->blob[b].slot].freed = end;
}

static void run_visit(sim *s, int32_t v)
{
    const qs_sim_work *w = &s->in->work[v];
    int32_t b = s->list->visits[v].blob;
    double begin = s->now;
    s->at = v;
    pump(s);
    if (b >= 0) bring(s, b);
    set_pin(s, b, true);
    if (b >= 0) {
        s->step->hits += !s->blob[b].loaded;
        s->blob[b].loaded = false;
    }
    pump(s);
    if (s->list->visits[v].kind == QS_VISIT_UPDATE) run_update(s, w);
    else if (s->in->unified) run_unified(s, w);
    else run_discrete(s, w, b);
    write_behind(s, v);
    start_reads_of(s, v + 1);
    set_pin(s, b, false);
    if (b >= 0) s->blob[b].next = v + s->list->next_use[v];
    if (s->in->unified) {
        s->visit->start = begin;
        s->visit->end = s->now;
    }
    s->step->disk_wait += s->visit->disk_wait;
    s->step->link_wait += s->visit->link_wait;
    s->step->verify += s->visit->verify;
    s->step->make += s->visit->make;
}

static void run_step(sim *s, qs_sim_visit *visits)
{
    double begin = s->now, disk_busy = s->disk.busy;
    memset(visits, 0, (size_t)s->list->count * sizeof *visits);
    start_reads_of(s, 0);
    for (int32_t v = 0; v < s->list->count; v++) {
        s->visit = &visits[v];
        run_visit(s, v);
    }
    if (!s->in->unified) s->now = s->compute_free = later(s->now, later(s->compute_free, later(s->link_in_free, s->link_out_free)));
    bool made = false;
    for (int32_t i = 0; i < s->place_count; i++) {
        made |= s->places[i].writing;
        settle(s, &s->places[i], true);
    }
    if (made) visits[s->list->count - 1].end = s->now; /* the cache is settled after the sweep that fills it */
    for (int32_t b = 0; b < s->blobs; b++) s->blob[b].next -= s->list->count;
    s->step->busy[QS_SIM_DISK] = s->disk.busy - disk_busy;
    s->step->seconds = s->now - begin;
    for (int32_t v = 0; v < s->list->count; v++) {
        visits[v].start -= begin;
        visits[v].end -= begin;
    }
}

static void place_homes(sim *s)
{
    const qs_plan *plan = s->in->plan;
    for (int32_t b = 0; b < s->blobs; b++) {
        s->blob[b] = (blob_state){.place = -1, .slot = -1, .home_place = -1, .home_slot = -1, .next = 2 * s->list->count, .cached = s->in->cached};
        if (plan->home[b] == QS_HOME_DISK) continue;
        if (plan->home[b] == QS_HOME_DEVICE && !s->in->unified) {
            s->blob[b].home_slot = s->slot_count;
            s->slots[s->slot_count++] = (slot){.blob = -1, .is_home = true};
        } else {
            s->blob[b].home_place = s->place_count;
            s->places[s->place_count++] = (place){.blob = -1, .is_home = true};
        }
    }
    for (int i = 0; i < plan->ring_slots; i++) s->places[s->place_count++] = (place){.blob = -1};
    for (int i = 0; i < plan->device_slots; i++) s->slots[s->slot_count++] = (slot){.blob = -1};
    for (int32_t v = s->list->count - 1; v >= 0; v--)
        if (s->list->visits[v].blob >= 0) s->blob[s->list->visits[v].blob].next = v;
}

static qs_sim_resource busiest(const qs_sim_step *t, bool unified)
{
    double busy[QS_SIM_RESOURCES];
    memcpy(busy, t->busy, sizeof busy);
    if (unified) { /* one processor does both */
        busy[QS_SIM_COMPUTE] += busy[QS_SIM_HOST];
        busy[QS_SIM_HOST] = 0;
    }
    qs_sim_resource most = QS_SIM_COMPUTE;
    for (int r = 0; r < QS_SIM_RESOURCES; r++)
        if (busy[r] > busy[most]) most = (qs_sim_resource)r;
    return most;
}

void qs_simulate(const qs_sim_input *in, qs_sim_result *out)
{
    const qs_plan *plan = in->plan;
    size_t n = (size_t)plan->blobs, places = n + (size_t)plan->ring_slots, slots = n + (size_t)plan->device_slots;
    char *memory = qs_calloc(1, places * sizeof(place) + slots * sizeof(slot) + n * sizeof(blob_state));
    sim s = {.in = in, .list = in->schedule, .blobs = plan->blobs, .expected = -1, .absent = plan->blobs, .nowhere = plan->blobs, .unmade = in->cached ? 0 : plan->blobs};
    s.places = (place *)(void *)memory;
    s.slots = (slot *)(void *)(memory + places * sizeof(place));
    s.blob = (blob_state *)(void *)(memory + places * sizeof(place) + slots * sizeof(slot));
    place_homes(&s);
    *out = (qs_sim_result){.count = in->schedule->count};
    out->visits = qs_calloc((size_t)out->count, sizeof *out->visits);
    qs_sim_step step[STEPS] = {0};
    for (int i = 0; i < STEPS; i++) {
        s.step = &step[i];
        run_step(&s, out->visits);
    }
    qs_free(memory);
    out->first = step[0];
    out->steady = step[STEPS - 1];
    memcpy(out->pool_bytes, plan->pool_bytes, sizeof out->pool_bytes);
    out->critical = busiest(&out->steady, in->unified);
}

void qs_sim_free(qs_sim_result *r)
{
    qs_free(r->visits);
    *r = (qs_sim_result){0};
}

/* ---- bounds ----------------------------------------------------------------------------------------------------------- */

typedef struct totals {
    double compute, host, link_in, link_out, disk_read, disk_write; /* seconds, and bytes for the others; weights not counted */
    double weights_disk, weights_link;                              /* bytes of all visits whose blob has no home on that side */
    int32_t disk_visits, rounds;
} totals;

static totals add_up(const qs_sim_input *in)
{
    totals t = {0};
    for (int32_t v = 0; v < in->schedule->count; v++) {
        const qs_sim_work *w = &in->work[v];
        int32_t b = in->schedule->visits[v].blob;
        t.compute += w->seconds;
        t.host += in->unified ? 0 : w->host_seconds;
        t.link_in += in->unified ? 0 : (double)w->link_in_bytes;
        t.link_out += in->unified ? 0 : (double)w->link_out_bytes;
        t.disk_read += (double)w->disk_read_bytes;
        t.disk_write += (double)w->disk_write_bytes;
        t.disk_visits += (w->disk_read_bytes > 0) + (w->disk_write_bytes > 0);
        t.rounds += in->schedule->visits[v].kind == QS_VISIT_EMBED;
        if (b < 0) continue;
        if (in->plan->home[b] == QS_HOME_DISK) {
            t.weights_disk += (double)in->blob_bytes[b];
            t.disk_visits++;
        }
        if (!in->unified && in->plan->home[b] != QS_HOME_DEVICE) t.weights_link += (double)in->blob_bytes[b];
    }
    return t;
}

double qs_sim_bound(const qs_sim_input *in)
{
    totals t = add_up(in);
    const qs_sim_rates *r = &in->rates;
    /* What lies in a place at a turn need not be loaded after it, and a round has two turns. */
    double slots = in->plan->device_slots, kept = 2.0 * t.rounds * (double)in->plan->slot_bytes;
    double read = later(0, t.weights_disk - kept * (in->plan->ring_slots + slots));
    double copied = later(0, t.weights_link - kept * slots);
    double host = t.host + seconds_of(read, r->verify), bound = in->unified ? t.compute + host : later(t.compute, host);
    bound = later(bound, seconds_of(read + t.disk_read, r->disk_read) + seconds_of(t.disk_write, r->disk_write));
    return later(bound, later(seconds_of(copied + t.link_in, r->link_in), seconds_of(t.link_out, r->link_out)));
}

double qs_sim_serial(const qs_sim_input *in)
{
    totals t = add_up(in);
    const qs_sim_rates *r = &in->rates;
    /* The step before may leave as much begun as there are places and slots. */
    double begun = (double)(in->plan->ring_slots + in->plan->device_slots) * (double)in->plan->slot_bytes, weights = t.weights_disk + begun;
    return t.compute + t.host + t.disk_visits * r->disk_latency + seconds_of(weights + t.disk_read, r->disk_read) +
           seconds_of(t.disk_write, r->disk_write) + seconds_of(weights, r->verify) + seconds_of(t.weights_link + begun + t.link_in, r->link_in) +
           seconds_of(t.link_out, r->link_out);
}
