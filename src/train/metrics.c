#include "src/train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/seal.h"
#include "io/tfevents.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/number.h"

enum { ROW_MAX_BYTES = 2048, ROW_MAX_SCALARS = 16 };

enum { WAITING_BYTES = 256 << 10 };

struct qs_metrics {
    int fd;
    char *path;
    int64_t end_bytes;   /* of the last whole row */
    qs_tfevents *events; /* NULL: no TensorBoard */
    char *waiting;       /* [WAITING_BYTES] rows that the file has not taken yet */
    int waiting_bytes;
    int64_t waiting_rows, lost_rows;
};

/* ---- one row under construction, on the stack: a training step allocates nothing --------------------- */

typedef struct row {
    int64_t step;
    char text[ROW_MAX_BYTES];
    int used;
    qs_tfevents_scalar scalars[ROW_MAX_SCALARS];
    int scalar_count;
} row;

/* `tag` is the number's name in TensorBoard, where names with a common part before the slash stand together;
 * NULL: not shown. */
static void add_scalar(row *r, const char *tag, double v)
{
    if (!tag) return;
    QS_ASSERT(r->scalar_count < ROW_MAX_SCALARS);
    r->scalars[r->scalar_count++] = (qs_tfevents_scalar){tag, (float)v};
}

static void put_number(row *r, const char *key, double v, const char *tag)
{
    char number[QS_NUMBER_TEXT];
    add_scalar(r, tag, v);
    r->used += snprintf(r->text + r->used, sizeof r->text - (size_t)r->used, ",\"%s\":%s", key,
                        isfinite(v) ? qs_number_text(v, number) : "null");
}

static void put_count(row *r, const char *key, uint64_t v, const char *tag)
{
    add_scalar(r, tag, (double)v);
    r->used += snprintf(r->text + r->used, sizeof r->text - (size_t)r->used, ",\"%s\":%" PRIu64, key, v);
}

static row row_of(int64_t step)
{
    row r = {.step = step};
    r.used = snprintf(r.text, sizeof r.text, "{\"step\":%" PRId64, step);
    return r;
}

/* The clock on the wall, which TensorBoard can draw over. */
static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The first waiting row into the file. What a full disk left of it is taken back, so the file always ends
 * with a whole row. Returns 0 or an errno. */
static int write_row(qs_metrics *m, int bytes)
{
    for (int done = 0; done < bytes;) {
        ssize_t n = write(m->fd, m->waiting + done, (size_t)(bytes - done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            int why = errno;
            if (done && ftruncate(m->fd, m->end_bytes)) qs_warn("%s: its last row is torn", m->path);
            return why;
        }
        done += (int)n;
    }
    m->end_bytes += bytes;
    return 0;
}

/* Writes what waits, as far as it goes. Returns 0 or an errno. */
static int write_waiting(qs_metrics *m)
{
    while (m->waiting_bytes) {
        int bytes = (int)((char *)memchr(m->waiting, '\n', (size_t)m->waiting_bytes) - m->waiting) + 1;
        int why = write_row(m, bytes);
        if (why) return why;
        m->waiting_bytes -= bytes;
        m->waiting_rows--;
        memmove(m->waiting, m->waiting + bytes, (size_t)m->waiting_bytes);
    }
    return 0;
}

static void write_events(qs_metrics *m, const row *r)
{
    qs_err e = {0};
    if (!m->events || !qs_tfevents_write(m->events, now_seconds(), r->step, r->scalars, r->scalar_count, &e))
        return;
    qs_warn("TensorBoard's file ends here: %s", e.text);
    qs_tfevents_close(m->events);
    m->events = NULL;
}

/* Ends the row and appends it, behind those that wait. */
static void append(qs_metrics *m, row *r)
{
    QS_ASSERT(r->used + QS_SEAL_BYTES < ROW_MAX_BYTES);
    r->used += (int)qs_seal_make(&qs_seal_row, r->text, (size_t)r->used, r->text + r->used);
    bool waited = m->waiting_rows > 0, room = m->waiting_bytes + r->used <= WAITING_BYTES;
    if (room) memcpy(m->waiting + m->waiting_bytes, r->text, (size_t)r->used);
    if (room) m->waiting_bytes += r->used;
    if (room)
        m->waiting_rows++;
    else
        m->lost_rows++;
    int why = write_waiting(m);
    if (why && !waited)
        qs_warn(
            "%s: cannot be written: %s; training goes on, and the rows are written when there is room again",
            m->path, strerror(why));
    if (!why && waited) qs_info("%s: there is room again", m->path);
    write_events(m, r);
}

int64_t qs_metrics_missing(const qs_metrics *m) { return m->waiting_rows + m->lost_rows; }

void qs_metrics_step(qs_metrics *m, const qs_step_metrics *s)
{
    row r = row_of(s->step);
    put_number(&r, "loss", s->loss, "train/loss");
    if (s->loss_scale > 0) put_number(&r, "loss_scale", s->loss_scale, "train/loss_scale");
    put_number(&r, "learning_rate", s->learning_rate, "train/learning_rate");
    put_number(&r, "grad_norm", s->grad_norm, "train/grad_norm");
    put_count(&r, "tokens", (uint64_t)s->tokens, NULL);
    put_number(&r, "tokens_per_second", s->tokens_per_second, "speed/tokens_per_second");
    put_number(&r, "step_seconds", s->step_seconds, "speed/step_seconds");
    put_number(&r, "wait_disk_seconds", s->wait_disk_seconds, "speed/wait_disk_seconds");
    put_number(&r, "wait_link_seconds", s->wait_link_seconds, "speed/wait_link_seconds");
    put_number(&r, "compute_seconds", s->compute_seconds, "speed/compute_seconds");
    put_count(&r, "disk_read_bytes", s->disk_read_bytes, "bytes/disk_read");
    put_count(&r, "disk_write_bytes", s->disk_write_bytes, "bytes/disk_write");
    put_count(&r, "link_bytes", s->link_bytes, "bytes/link");
    put_count(&r, "device_peak_bytes", s->device_peak_bytes, "bytes/device_peak");
    put_count(&r, "host_peak_bytes", s->host_peak_bytes, "bytes/host_peak");
    put_number(&r, "predicted_step_seconds", s->predicted_step_seconds, NULL);
    append(m, &r);
}

double qs_perplexity(double loss) { return exp(loss); }

void qs_metrics_eval(qs_metrics *m, const qs_eval_metrics *v)
{
    row r = row_of(v->step);
    put_number(&r, "eval_loss", v->eval_loss, "eval/loss");
    put_number(&r, "eval_perplexity", qs_perplexity(v->eval_loss), "eval/perplexity");
    put_count(&r, "eval_tokens", (uint64_t)v->eval_tokens, NULL);
    put_number(&r, "eval_seconds", v->eval_seconds, NULL);
    append(m, &r);
}

/* ---- opening and resuming ---------------------------------------------------------------------------- */

/* What a file has, line by line. */
typedef struct scan {
    const qs_metrics_begin *begin;
    bool sealed;        /* a row with a checksum came: from here on all have one */
    int64_t damaged;    /* lines that are no whole rows */
    int64_t line;       /* of the first of them */
    int64_t kept_bytes; /* of the rows that stay, which are the first ones unless lines are damaged */
    int64_t found_step; /* the last among them */
} scan;

/* Whether the line is a row, and whole; its step, and whether it is of a validation. Rows of earlier versions
 * have no checksum. */
static bool read_row(scan *s, const char *line, size_t bytes, int64_t *step, bool *validation)
{
    qs_seal_state seal = qs_seal_check(&qs_seal_row, line, bytes);
    if (seal == QS_SEAL_BROKEN || (seal == QS_SEAL_ABSENT && s->sealed)) return false;
    json_error_t error;
    json_t *object = json_loadb(line, bytes, 0, &error), *number = json_object_get(object, "step");
    bool is_row = json_is_integer(number);
    *step = json_integer_value(number);
    *validation = json_object_get(object, "eval_loss") != NULL;
    json_decref(object);
    s->sealed |= is_row && seal == QS_SEAL_HOLDS;
    return is_row;
}

/* A run that begins anew validates at step 0 again. */
static bool stays(const qs_metrics_begin *b, int64_t step, bool validation)
{
    return b->last_step > 0 && step <= b->last_step &&
           !(validation && b->validate_again && step == b->last_step);
}

/* Reads all lines of f; the rows that stay go to `copy` (NULL: nowhere). A last line without its newline is
 * torn and not counted. */
static int scan_rows(FILE *f, scan *s, qs_file_writer *copy, qs_err *e)
{
    char *line = NULL;
    size_t capacity = 0;
    int rc = 0;
    ssize_t n;
    for (int64_t number = 1; !rc && (n = getline(&line, &capacity, f)) > 0 && line[n - 1] == '\n'; number++) {
        bool validation;
        int64_t step;
        if (!read_row(s, line, (size_t)n, &step, &validation)) {
            if (!s->damaged++) s->line = number;
        } else if (stays(s->begin, step, validation)) {
            s->kept_bytes += n;
            s->found_step = step;
            if (copy) rc = qs_file_append(copy, line, (size_t)n, e);
        }
    }
    free(line); /* lint: allow free, getline allocated it */
    return rc;
}

/* Keeps the file under another name; the rows that stay are copied into a new one. */
static int replace_damaged(const char *path, FILE *f, scan *s, qs_err *e)
{
    char *aside = NULL;
    for (int n = 1; !aside || qs_file_exists(aside); n++) {
        qs_free(aside);
        aside = qs_printf("%.*s.damaged-%d.jsonl", (int)(strlen(path) - strlen(".jsonl")), path, n);
    }
    qs_warn(
        "%s:%" PRId64 ": %" PRId64
        " lines are no whole rows of metrics; the file is kept as %s and the whole rows go on in a new one",
        path, s->line, s->damaged, strrchr(aside, '/') + 1);
    int rc = link(path, aside) && rename(path, aside)
                 ? qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be kept as %s: %s", path, aside,
                              strerror(errno))
                 : 0;
    qs_file_writer copy;
    if (!rc && !(rc = qs_file_begin(path, &copy, e))) {
        *s = (scan){.begin = s->begin};
        rewind(f);
        rc = scan_rows(f, s, &copy, e);
        if (!rc) rc = qs_file_commit(&copy, e);
        if (rc) qs_file_abort(&copy);
    }
    qs_free(aside);
    return rc;
}

/* Leaves the rows that stay; *end is where they end. */
static int keep_rows(const char *path, const qs_metrics_begin *begin, int64_t *end, qs_err *e)
{
    scan s = {.begin = begin};
    FILE *f = fopen(path, "re");
    *end = 0;
    if (!f && errno == ENOENT) return 0;
    if (!f) QS_FAIL(e, QS_EIO, "%s: cannot be read: %s", path, strerror(errno));
    int rc = scan_rows(f, &s, NULL, e);
    if (!rc && s.damaged) rc = replace_damaged(path, f, &s, e);
    fclose(f);
    QS_TRY(rc);
    if (s.found_step < begin->last_step)
        qs_warn("%s: rows after step %" PRId64 " are missing; the run goes on from step %" PRId64, path,
                s.found_step, begin->last_step);
    *end = s.kept_bytes;
    return 0;
}

int qs_metrics_open(const char *out_dir, const qs_metrics_begin *begin, qs_metrics **out, qs_err *e)
{
    qs_metrics *m = qs_calloc(1, sizeof *m);
    m->path = qs_path_join(out_dir, "metrics.jsonl");
    m->waiting = qs_malloc(WAITING_BYTES);
    m->fd = -1;
    int rc = keep_rows(m->path, begin, &m->end_bytes, e);
    if (!rc && (m->fd = open(m->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0)
        rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot open for writing: %s", m->path,
                        strerror(errno));
    if (!rc && ftruncate(m->fd, m->end_bytes))
        rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot shorten: %s", m->path, strerror(errno));
    if (!rc && begin->tensorboard)
        rc = qs_tfevents_open(out_dir, begin->last_step, now_seconds(), &m->events, e);
    if (rc) {
        qs_metrics_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

void qs_metrics_close(qs_metrics *m)
{
    if (!m) return;
    if (m->fd >= 0) write_waiting(m);
    if (qs_metrics_missing(m))
        qs_warn("%s: %" PRId64 " rows could not be written", m->path, qs_metrics_missing(m));
    qs_tfevents_close(m->events);
    if (m->fd >= 0) close(m->fd);
    qs_free(m->waiting);
    qs_free(m->path);
    qs_free(m);
}

void qs_metrics_sync(qs_metrics *m)
{
    qs_err e = {0};
    write_waiting(m);
    if (fdatasync(m->fd)) qs_warn("%s: cannot be synced to disk: %s", m->path, strerror(errno));
    if (m->events && qs_tfevents_sync(m->events, &e)) qs_warn("%s", e.text);
}
