#include "offload/simulate.h"

#include <math.h>
#include <string.h>

#include "offload/residency.h"
#include "src/base/memory.h"

enum { STEPS = 3, WRITES_BEHIND = 2, SOURCE_AHEAD_BYTES = 32 << 20 };

/* One transfer of the disk. */
typedef struct disk_op {
    double bytes, left, rate; /* left: not submitted yet; bytes per second, 0: at once */
    double reach;             /* bytes that move unattended; 0: no limit */
    double end;               /* when the last byte arrives, once all are submitted */
    bool active, submitted;
    struct disk_op *next;
} disk_op;

typedef struct disk {
    disk_op *head, *tail; /* with bytes left to submit */
    double free, busy;    /* end of what was submitted; seconds of work so far */
} disk;

/* What is under way at a host slot, and when it ends; likewise of a device slot. */
typedef struct host_clock {
    double copied; /* when the last copy out of it has ended */
    disk_op op;
} host_clock;

typedef struct device_clock {
    double ready, freed;
} device_clock;

typedef struct sim {
    const qs_sim_input *in;
    const qs_schedule *list;
    qs_residency where; /* decides; the functions of `mover` below give every move its time */
    double now;         /* the host's clock */
    double compute_free, link_in_free, link_out_free;
    disk disk;
    host_clock *host; /* parallel to where.host */
    device_clock *device;
    bool *cached;     /* [blobs] */
    double *arrived;  /* [blobs] when its bytes last came from the disk or the maker */
    int32_t begun;    /* the blob that the maker's buffers hold some of, or -1 */
    double quantised; /* seconds of its work that are done */
    disk_op source, read_ahead,
        writes[WRITES_BEHIND]; /* the maker's read; bytes of `work` that live on the disk */
    qs_sim_step *step;
    qs_sim_visit *visit; /* the visit in progress */
} sim;

const char *qs_sim_resource_name(qs_sim_resource r)
{
    static const char *const names[QS_SIM_RESOURCES] = {"compute", "disk", "link in", "link out", "host"};
    return names[r];
}

static double seconds_of(double bytes, double rate) { return rate > 0 ? bytes / rate : 0; }
static double later(double a, double b) { return a > b ? a : b; }

/* ---- the disk ---------------------------------------------------------------------------------------- */

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
    if (o == &s->source && !(reach > 0 && reach < SOURCE_AHEAD_BYTES))
        reach = SOURCE_AHEAD_BYTES; /* the maker's buffers */
    *o = (disk_op){.bytes = (double)bytes,
                   .left = (double)bytes,
                   .rate = write ? s->in->rates.disk_write : s->in->rates.disk_read,
                   .reach = reach,
                   .active = bytes > 0};
    if (!bytes) return;
    *(write ? &s->step->disk_write_bytes : &s->step->disk_read_bytes) += bytes;
    if (s->disk.head)
        s->disk.tail->next = o;
    else
        s->disk.head = o;
    s->disk.tail = o;
    attend(s, s->now, s->now);
}

static bool op_done(const sim *s, const disk_op *o)
{
    return !o->active || (o->submitted && o->end <= s->now);
}

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

static void wait_for_op(sim *s, disk_op *o)
{
    double waited = finish_op(s, o);
    if (!s->in->host_computes) return; /* there the device's own clock tells who waited */
    s->visit->disk_wait += waited;
}

static void hash(sim *s, int32_t b)
{
    double seconds = seconds_of((double)s->in->blob_bytes[b], s->in->rates.verify);
    spend_attending(s, seconds);
    s->visit->verify += seconds;
    s->step->busy[QS_SIM_HOST] += seconds;
}

/* ---- the mover: between the disk and host slots ------------------------------------------------------ */

static bool sim_cached(void *model, int32_t b) { return ((const sim *)model)->cached[b]; }

static void sim_fill(void *model, int32_t host, bool read)
{
    sim *s = model;
    if (read) start_op(s, &s->host[host].op, s->in->blob_bytes[qs_residency_blob(&s->where, host)], false);
}

static bool sim_transferred(void *model, int32_t host)
{
    sim *s = model;
    return op_done(s, &s->host[host].op);
}

static void sim_wait_transferred(void *model, int32_t host)
{
    sim *s = model;
    wait_for_op(s, &s->host[host].op);
}

static int sim_receive(void *model, int32_t host, bool *good, qs_err *e)
{
    sim *s = model;
    int32_t b = qs_residency_blob(&s->where, host);
    wait_for_op(s, &s->host[host].op);
    s->arrived[b] = s->host[host].op.end;
    hash(s, b);
    *good = true;
    return 0;
}

static void sim_commit(void *model, int32_t host)
{
    sim *s = model;
    disk_op *o = &s->host[host].op;
    if (!op_done(s, o)) wait_for_op(s, o);
    o->active = false;
    hash(s, qs_residency_blob(&s->where, host));
    s->cached[qs_residency_blob(&s->where, host)] = true;
}

/* ---- the mover: quantise on load --------------------------------------------------------------------- */

/* What has arrived of an operation. */
static double bytes_arrived(const sim *s, const disk_op *o)
{
    double outstanding = ((o->submitted ? o->end : s->disk.free) - s->now) * o->rate,
           bytes = o->bytes - o->left;
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

static double make_seconds(const sim *s, int32_t b)
{
    return s->in->make_seconds ? s->in->make_seconds[b] : 0;
}

static void sim_expect(void *model, int32_t b)
{
    sim *s = model;
    s->begun = b;
    s->quantised = 0;
    finish_op(s, &s->source);
    if (b >= 0) start_op(s, &s->source, s->in->source_bytes ? s->in->source_bytes[b] : 0, false);
}

static qs_made sim_make_some(void *model, int32_t host)
{
    sim *s = model;
    double part = op_done(s, &s->source) ? 1 : bytes_arrived(s, &s->source) / s->source.bytes;
    quantise(s, make_seconds(s, qs_residency_blob(&s->where, host)) * part - s->quantised);
    return part >= 1 ? QS_MADE_ALL : QS_MADE_SOME;
}

/* The rest, while the disk brings it. */
static int sim_make(void *model, int32_t host, bool *writing, qs_err *e)
{
    sim *s = model;
    int32_t b = qs_residency_blob(&s->where, host);
    if (s->begun != b) sim_expect(s, b);
    quantise(s, make_seconds(s, b) - s->quantised);
    s->visit->make += finish_op(s, &s->source);
    s->begun = -1;
    s->arrived[b] = s->now;
    *writing = true;
    start_op(s, &s->host[host].op, s->in->blob_bytes[b], true);
    return 0;
}

/* ---- the mover: between host and device slots -------------------------------------------------------- */

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

static bool sim_copying(void *model, int32_t host)
{
    const sim *s = model;
    return s->host[host].copied > s->now;
}

static void sim_wait_copied(void *model, int32_t host)
{
    sim *s = model;
    s->now = s->host[host].copied;
}

static void sim_copy(void *model, int32_t host, int32_t to)
{
    sim *s = model;
    device_clock *d = &s->device[to];
    d->ready = s->host[host].copied =
        use_link(s, true, s->in->blob_bytes[qs_residency_blob(&s->where, host)], later(s->now, d->freed));
}

/* ---- the walk ---------------------------------------------------------------------------------------- */

/* Bytes of the visit's own that live on the disk: read a visit ahead, written behind. */
static void start_reads_of(sim *s, int32_t v)
{
    if (v < s->list->count && s->in->work[v].disk_read_bytes)
        start_op(s, &s->read_ahead, s->in->work[v].disk_read_bytes, false);
}

static void write_behind(sim *s, int32_t v)
{
    disk_op *o = &s->writes[v % WRITES_BEHIND];
    if (!s->in->work[v].disk_write_bytes) return;
    wait_for_op(s, o);
    start_op(s, o, s->in->work[v].disk_write_bytes, true);
}

/* The host looks at the disk between two operations: the blob that is expected is made on, and the next one
 * begun. */
static void look(sim *s)
{
    attend(s, s->now, s->now);
    qs_residency_make_on(&s->where);
}

/* The host computes, or launches. */
static void spend(sim *s, double seconds, const qs_sim_work *w)
{
    for (int32_t i = 0; i < w->polls; i++) {
        if (i == w->polls - 1) wait_for_op(s, &s->read_ahead);
        double each = seconds / w->polls / (w->looks > 0 ? w->looks : 1), end = s->now + seconds / w->polls;
        for (int32_t k = 1; k < w->looks && (s->disk.head || s->where.expected >= 0); k++) {
            double before = s->now += each;
            look(s);
            end += s->now - before; /* quantising */
        }
        s->now = end;
        attend(s, s->now, s->now);
        qs_residency_pump(&s->where);
    }
}

static void run_on_host(sim *s, const qs_sim_work *w)
{
    s->step->busy[QS_SIM_COMPUTE] += w->seconds;
    spend(s, w->seconds, w);
}

/* The optimizer: the host waits for the device first, nothing is streamed meanwhile, and packs come and go in
 * the order of the kernels. */
static void run_update(sim *s, const qs_sim_work *w)
{
    wait_for_op(s, &s->read_ahead);
    s->step->busy[QS_SIM_COMPUTE] += w->seconds;
    if (!s->in->host_computes) {
        s->visit->start = s->compute_free;
        s->now = later(s->now, later(s->compute_free, later(s->link_in_free, s->link_out_free)));
        s->now = use_link(s, true, w->link_in_bytes, s->now);
        s->now = use_link(s, false, w->link_out_bytes, s->now);
        s->visit->link_wait = s->now - s->compute_free;
    }
    s->now += w->seconds;
    s->compute_free = s->visit->end = s->now;
}

/* The device starts when it is free, the weights are there and the host has come so far; checkpoints come and
 * go meanwhile, all but the last micro-batch's. */
static void run_discrete(sim *s, const qs_sim_work *w, int32_t b)
{
    double free = s->compute_free, asked = s->now;
    device_clock *d = b >= 0 ? &s->device[qs_residency_slot(&s->where, b)] : NULL;
    double weights = d ? d->ready : 0;
    double start = later(later(free, weights), asked), idle = start - free;
    double from_disk = d ? later(0, s->arrived[b] - free) : 0;
    double last = w->seconds / w->polls, end = start + w->seconds;
    if (w->link_in_bytes) end = later(end, use_link(s, true, w->link_in_bytes, start - last) + last);
    if (w->link_out_bytes)
        end = later(end, use_link(s, false, w->link_out_bytes, start + last) -
                             seconds_of((double)w->link_out_bytes / w->polls, s->in->rates.link_out));
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
    if (d) d->freed = end;
}

static void run_visit(sim *s, int32_t v)
{
    const qs_sim_work *w = &s->in->work[v];
    int32_t b = s->list->visits[v].blob;
    double begin = s->now;
    qs_err none;
    attend(s, s->now, s->now);
    QS_ASSERT(!qs_residency_acquire(&s->where, v, &none));
    if (s->list->visits[v].kind == QS_VISIT_UPDATE)
        run_update(s, w);
    else if (s->in->host_computes)
        run_on_host(s, w);
    else
        run_discrete(s, w, b);
    write_behind(s, v);
    start_reads_of(s, v + 1);
    qs_residency_release(&s->where, v);
    if (s->in->host_computes) {
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
    int32_t reads = s->where.reads, hits = s->where.hits;
    memset(visits, 0, (size_t)s->list->count * sizeof *visits);
    qs_residency_begin(&s->where, s->list);
    start_reads_of(s, 0);
    for (int32_t v = 0; v < s->list->count; v++) {
        s->visit = &visits[v];
        run_visit(s, v);
    }
    if (!s->in->host_computes)
        s->now = s->compute_free =
            later(s->now, later(s->compute_free, later(s->link_in_free, s->link_out_free)));
    bool made = s->where.writes > 0;
    qs_residency_settle(&s->where);
    if (made)
        visits[s->list->count - 1].end = s->now; /* the cache is settled after the sweep that fills it */
    s->step->reads = s->where.reads - reads;
    s->step->hits = s->where.hits - hits;
    s->step->busy[QS_SIM_DISK] = s->disk.busy - disk_busy;
    s->step->seconds = s->now - begin;
    for (int32_t v = 0; v < s->list->count; v++) {
        visits[v].start -= begin;
        visits[v].end -= begin;
    }
}

static qs_sim_resource busiest(const qs_sim_step *t, bool host_computes)
{
    double busy[QS_SIM_RESOURCES];
    memcpy(busy, t->busy, sizeof busy);
    if (host_computes) { /* one processor does both */
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
    size_t n = (size_t)in->plan->blobs, host = n + (size_t)in->plan->ring_slots,
           device = n + (size_t)in->plan->device_slots;
    char *memory = qs_calloc(1, host * sizeof(host_clock) + device * sizeof(device_clock) +
                                    n * (sizeof(double) + sizeof(bool)));
    sim s = {.in = in, .list = in->schedule, .begun = -1};
    s.host = (host_clock *)(void *)memory;
    s.device = (device_clock *)(void *)(s.host + host);
    s.arrived = (double *)(void *)(s.device + device);
    s.cached = (bool *)(void *)(s.arrived + n);
    for (size_t b = 0; b < n; b++) s.cached[b] = in->cached;
    qs_mover mover = {.context = &s,
                      .cached = sim_cached,
                      .fill = sim_fill,
                      .transferred = sim_transferred,
                      .wait_transferred = sim_wait_transferred,
                      .receive = sim_receive,
                      .expect = sim_expect,
                      .make_some = sim_make_some,
                      .make = sim_make,
                      .commit = sim_commit,
                      .copying = sim_copying,
                      .wait_copied = sim_wait_copied,
                      .copy = sim_copy};
    qs_residency_open(in->plan, in->shared_memory, &mover, &s.where);
    *out = (qs_sim_result){.count = in->schedule->count};
    out->visits = qs_calloc((size_t)out->count, sizeof *out->visits);
    qs_sim_step step[STEPS] = {0};
    for (int i = 0; i < STEPS; i++) {
        s.step = &step[i];
        run_step(&s, out->visits);
    }
    qs_residency_close(&s.where);
    qs_free(memory);
    out->first = step[0];
    out->steady = step[STEPS - 1];
    memcpy(out->pool_bytes, in->plan->pool_bytes, sizeof out->pool_bytes);
    out->critical = busiest(&out->steady, in->host_computes);
}

void qs_sim_free(qs_sim_result *r)
{
    qs_free(r->visits);
    *r = (qs_sim_result){0};
}

/* ---- bounds ------------------------------------------------------------------------------------------ */

typedef struct totals {
    double compute, host, link_in, link_out, disk_read,
        disk_write;                    /* seconds, and bytes for the others; weights not counted */
    double weights_disk, weights_link; /* bytes of all visits whose blob has no home on that side */
    int32_t disk_visits, rounds;
} totals;

static totals add_up(const qs_sim_input *in)
{
    totals t = {0};
    for (int32_t v = 0; v < in->schedule->count; v++) {
        const qs_sim_work *w = &in->work[v];
        int32_t b = in->schedule->visits[v].blob;
        t.compute += w->seconds;
        t.host += in->host_computes ? 0 : w->host_seconds;
        t.link_in += in->shared_memory ? 0 : (double)w->link_in_bytes;
        t.link_out += in->shared_memory ? 0 : (double)w->link_out_bytes;
        t.disk_read += (double)w->disk_read_bytes;
        t.disk_write += (double)w->disk_write_bytes;
        t.disk_visits += (w->disk_read_bytes > 0) + (w->disk_write_bytes > 0);
        t.rounds += in->schedule->visits[v].kind == QS_VISIT_EMBED;
        if (b < 0) continue;
        if (in->plan->home[b] == QS_HOME_DISK) {
            t.weights_disk += (double)in->blob_bytes[b];
            t.disk_visits++;
        }
        if (!in->shared_memory && in->plan->home[b] != QS_HOME_DEVICE)
            t.weights_link += (double)in->blob_bytes[b];
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
    double host = t.host + seconds_of(read, r->verify),
           bound = in->host_computes ? t.compute + host : later(t.compute, host);
    bound =
        later(bound, seconds_of(read + t.disk_read, r->disk_read) + seconds_of(t.disk_write, r->disk_write));
    return later(bound,
                 later(seconds_of(copied + t.link_in, r->link_in), seconds_of(t.link_out, r->link_out)));
}

double qs_sim_serial(const qs_sim_input *in)
{
    totals t = add_up(in);
    const qs_sim_rates *r = &in->rates;
    /* The step before may leave as much begun as there are places and slots. */
    double begun = (double)(in->plan->ring_slots + in->plan->device_slots) * (double)in->plan->slot_bytes,
           weights = t.weights_disk + begun;
    return t.compute + t.host + t.disk_visits * r->disk_latency +
           seconds_of(weights + t.disk_read, r->disk_read) + seconds_of(t.disk_write, r->disk_write) +
           seconds_of(weights, r->verify) + seconds_of(t.weights_link + begun + t.link_in, r->link_in) +
           seconds_of(t.link_out, r->link_out);
}
