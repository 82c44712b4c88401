#include "src/train/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/tfevents.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/number.h"

enum { ROW_MAX_BYTES = 2048, ROW_MAX_SCALARS = 16 };

struct qs_metrics {
    int fd;
    char *path;
    int64_t end_bytes;   /* of the last whole row */
    qs_tfevents *events; /* NULL: no TensorBoard */
};

/* ---- one row under construction, on the stack: a training step allocates nothing ---------------------------------------- */

typedef struct row {
    int64_t step;
    char text[ROW_MAX_BYTES];
    int used;
    qs_tfevents_scalar scalars[ROW_MAX_SCALARS];
    int scalar_count;
} row;

/* `tag` is the number's name in TensorBoard, where names with a common part before the slash stand together; NULL: not shown. */
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

/* Ends the row and appends it. What a full disk left of it is taken back, so the file always ends with a whole row. */
static int append(qs_metrics *m, row *r, qs_err *e)
{
    QS_ASSERT(r->used + 3 < ROW_MAX_BYTES);
    r->text[r->used++] = '}';
    r->text[r->used++] = '\n';
    for (int done = 0; done < r->used;) {
        ssize_t n = write(m->fd, r->text + done, (size_t)(r->used - done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            int why = errno;
            if (done && ftruncate(m->fd, m->end_bytes)) qs_warn("%s: its last row is torn", m->path);
            QS_FAIL(e, QS_EIO, "%s: cannot write: %s", m->path, strerror(why));
        }
        done += (int)n;
    }
    m->end_bytes += r->used;
    return m->events ? qs_tfevents_write(m->events, now_seconds(), r->step, r->scalars, r->scalar_count, e) : 0;
}

int qs_metrics_step(qs_metrics *m, const qs_step_metrics *s, qs_err *e)
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
    return append(m, &r, e);
}

int qs_metrics_eval(qs_metrics *m, const qs_eval_metrics *v, qs_err *e)
{
    row r = row_of(v->step);
    put_number(&r, "eval_loss", v->eval_loss, "eval/loss");
    put_number(&r, "eval_perplexity", exp(v->eval_loss), "eval/perplexity");
    put_count(&r, "eval_tokens", (uint64_t)v->eval_tokens, NULL);
    put_number(&r, "eval_seconds", v->eval_seconds, NULL);
    return append(m, &r, e);
}

/* ---- opening and resuming --------------------------------------------------------------------------------------------------- */

/* Where the rows up to last_step end, and the last step among them. A last line without its newline is torn and not counted;
 * any other line that is not a row means that the file is not ours. */
static int find_end(FILE *f, const char *path, int64_t last_step, int64_t *end, int64_t *found_step, qs_err *e)
{
    char line[ROW_MAX_BYTES];
    int64_t at = 0;
    *end = *found_step = 0;
    for (int64_t number = 1; fgets(line, sizeof line, f); number++) {
        size_t n = strlen(line);
        bool whole = n && line[n - 1] == '\n';
        json_error_t error;
        json_t *object = whole ? json_loadb(line, n, 0, &error) : NULL, *step = json_object_get(object, "step");
        bool is_row = json_is_integer(step);
        int64_t value = json_integer_value(step);
        json_decref(object);
        if (!whole && feof(f)) return 0;
        if (!is_row) QS_FAIL(e, QS_EFORMAT, "%s:%" PRId64 ": expected a metrics row with a \"step\"; move the file away to go on", path, number);
        at += (int64_t)n;
        if (last_step > 0 && value <= last_step) { /* a run that begins anew validates at step 0 again */
            *end = at;
            *found_step = value;
        }
    }
    return 0;
}

static int cut_after(qs_metrics *m, int64_t last_step, qs_err *e)
{
    FILE *f = fopen(m->path, "r");
    int64_t found_step;
    if (!f) QS_FAIL(e, QS_EIO, "%s: cannot read: %s", m->path, strerror(errno));
    int rc = find_end(f, m->path, last_step, &m->end_bytes, &found_step, e);
    fclose(f);
    if (rc) return rc;
    if (found_step < last_step) qs_warn("%s: rows after step %" PRId64 " are missing; the run goes on from step %" PRId64, m->path, found_step, last_step);
    if (ftruncate(m->fd, m->end_bytes)) QS_FAIL(e, QS_EIO, "%s: cannot shorten: %s", m->path, strerror(errno));
    return 0;
}

int qs_metrics_open(const char *out_dir, int64_t last_step, bool tensorboard, qs_metrics **out, qs_err *e)
{
    qs_metrics *m = qs_calloc(1, sizeof *m);
    m->path = qs_path_join(out_dir, "metrics.jsonl");
    m->fd = open(m->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    int rc = 0;
    if (m->fd < 0) rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot open for writing: %s", m->path, strerror(errno));
    if (!rc) rc = cut_after(m, last_step, e);
    if (!rc && tensorboard) rc = qs_tfevents_open(out_dir, last_step, now_seconds(), &m->events, e);
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
    qs_tfevents_close(m->events);
    if (m->fd >= 0) close(m->fd);
    qs_free(m->path);
    qs_free(m);
}

int qs_metrics_sync(qs_metrics *m, qs_err *e)
{
    if (fdatasync(m->fd)) QS_FAIL(e, QS_EIO, "%s: cannot sync: %s", m->path, strerror(errno));
    return m->events ? qs_tfevents_sync(m->events, e) : 0;
}
