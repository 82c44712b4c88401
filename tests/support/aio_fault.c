#include "tests/support/aio_fault.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "io/aio_engine.h"
#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/base/random.h"

typedef struct held {
    qs_aio_request *request;
    uint64_t due_ns;
} held;

typedef struct fault_engine {
    qs_aio_faults faults;
    const qs_aio_engine_table *table;
    void *engine;
    int reads, writes, requests, inside; /* made so far; in the real engine now */
    uint64_t draws;
    const qs_aio_request *flip; /* whose bytes are to be wrong */
    held *held;                 /* [depth] ended, not yet shown */
    int held_count;
} fault_engine;

static void *wrap(const qs_aio_seam *seam, const qs_aio_engine_table *table, void *engine, int depth)
{
    const qs_aio_faults *faults = seam->what;
    fault_engine *f = qs_calloc(1, sizeof *f);
    *f = (fault_engine){.faults = *faults,
                        .table = table,
                        .engine = engine,
                        .held = qs_calloc((size_t)depth, sizeof *f->held)};
    return f;
}

static void fault_close(void *engine)
{
    fault_engine *f = engine;
    f->table->close(f->engine);
    qs_free(f->held);
    qs_free(f);
}

static bool fault_register_block(void *engine, void *base, size_t bytes, qs_err *e)
{
    fault_engine *f = engine;
    return f->table->register_block(f->engine, base, bytes, e);
}

static uint32_t draw(fault_engine *f, uint32_t below)
{
    return qs_random_u32(f->faults.seed, 0, f->draws++) % below;
}

static void hold(fault_engine *f, qs_aio_request *r)
{
    f->held[f->held_count++] = (held){r, qs_now_ns() + f->faults.delay_ns};
}

static bool every(int n, int count) { return n && count % n == 0; }

static void fault_queue(void *engine, qs_aio_request *r)
{
    fault_engine *f = engine;
    const qs_aio_faults *faults = &f->faults;
    int n = r->write ? ++f->writes : ++f->reads, unit = (int)r->file->align;
    f->requests++;
    if (r->write && n == faults->die_at_write) {
        /* What the other processes see after a kill: some of the bytes. */
        if (pwrite(r->file->fd, r->buffer, r->bytes / 2 / (unsigned)unit * (unsigned)unit, (off_t)r->offset) <
            0)
            _exit(1);             /* lint: allow _exit, this is the kill */
        _exit(QS_AIO_FAULT_EXIT); /* lint: allow _exit, this is the kill */
    }
    if (!r->write && n == faults->flip_read_at) f->flip = r;
    int error = 0;
    if (r->write && faults->write_error_at && n >= faults->write_error_at)
        error = faults->write_error ? faults->write_error : ENOSPC;
    else if (!r->write && n == faults->read_error_at)
        error = faults->read_error ? faults->read_error : EIO;
    else if (every(faults->interrupt_every, f->requests))
        error = f->requests / faults->interrupt_every % 2 ? EINTR : EAGAIN;
    if (error) {
        r->result = -error;
        hold(f, r);
        return;
    }
    uint32_t units = r->bytes / (unsigned)unit;
    if (every(faults->short_every, f->requests) && units > 1)
        r->bytes = (1 + draw(f, units - 1)) * (unsigned)unit;
    f->inside++;
    f->table->queue(f->engine, r);
}

static void fault_submit(void *engine)
{
    fault_engine *f = engine;
    f->table->submit(f->engine);
}

/* Moves what has ended in the real engine to the held ones. */
static void collect(fault_engine *f, bool wait)
{
    if (!f->inside) return;
    for (qs_aio_request *r = f->table->reap(f->engine, wait), *next; r; r = next) {
        next = r->next;
        f->inside--;
        if (r == f->flip) {
            r->buffer[draw(f, r->bytes)] ^= (char)(1u << draw(f, 8));
            f->flip = NULL;
        }
        if (f->faults.ragged && r->result > r->file->align) r->result -= draw(f, r->file->align);
        hold(f, r);
    }
}

static qs_aio_request *fault_reap(void *engine, bool wait)
{
    fault_engine *f = engine;
    do {
        collect(f, wait && !f->held_count);
        /* Everything that is under way is let in before one is drawn, so that any order can come out. */
        while (f->faults.reorder && wait && f->inside) collect(f, true);
        if (!f->held_count) continue;
        int pick = f->faults.reorder ? (int)draw(f, (uint32_t)f->held_count) : 0;
        uint64_t now = qs_now_ns(), due = f->held[pick].due_ns;
        if (due > now && !wait) break;
        if (due > now)
            nanosleep(
                &(struct timespec){(time_t)((due - now) / 1000000000u), (long)((due - now) % 1000000000u)},
                NULL);
        qs_aio_request *r = f->held[pick].request;
        f->held_count--;
        for (int i = pick; i < f->held_count; i++) f->held[i] = f->held[i + 1];
        r->next = NULL;
        return r;
    } while (wait);
    return NULL;
}

static const qs_aio_engine_table engine_fault = {.name = "fault",
                                                 .open = NULL, /* made by wrap */
                                                 .close = fault_close,
                                                 .register_block = fault_register_block,
                                                 .queue = fault_queue,
                                                 .submit = fault_submit,
                                                 .reap = fault_reap};

const qs_aio_seam *test_faults(const qs_aio_faults *faults)
{
    static qs_aio_seam seams[8]; /* each serves one opening */
    static unsigned next;
    qs_aio_seam *s = &seams[next++ % 8];
    *s = (qs_aio_seam){&engine_fault, wrap, faults};
    return faults ? s : NULL;
}
