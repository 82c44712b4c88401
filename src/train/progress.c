#include "src/train/progress.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>

#include "src/base/duration.h"
#include "src/base/clock.h"
#include "src/base/terminal.h"

enum { LINE_MAX_BYTES = 512, REDRAW_NS = 200000000 };

void qs_progress_start(qs_progress *p, bool no_color)
{
    if (p->logging_steps < 1) p->logging_steps = 1;
    p->terminal = qs_terminal(p->file);
    p->color = qs_terminal_color(p->file, no_color);
    p->last.step = p->first_step;
}

/* ---- pieces of the line ------------------------------------------------------------------------------ */

typedef struct line {
    char text[LINE_MAX_BYTES];
    int used, columns; /* bytes, and cells on the screen (escape codes take none) */
    bool color;
} line;

static void add(line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->text + l->used, sizeof l->text - (size_t)l->used, format, args);
    va_end(args);
    if (n >= LINE_MAX_BYTES - l->used) n = LINE_MAX_BYTES - l->used - 1;
    l->used += n;
    l->columns += n;
}

static void style(line *l, const char *code)
{
    if (!l->color) return;
    int before = l->columns;
    add(l, "\033[%sm", code);
    l->columns = before;
}

static void add_label(line *l, const char *text)
{
    style(l, "2"); /* dim, so that the numbers stand out */
    add(l, "%s", text);
    style(l, "0");
}

/* 1234567 as 1,234,567. */
static void add_grouped(line *l, double v)
{
    char digits[32];
    int n = snprintf(digits, sizeof digits, "%.0f", v);
    for (int i = 0; i < n; i++) add(l, "%s%c", i && (n - i) % 3 == 0 ? "," : "", digits[i]);
}

/* "9.1/10.0G", in MiB below one GiB. */
static void add_budget(line *l, const char *label, uint64_t used, uint64_t budget)
{
    bool small = budget < UINT64_C(1) << 30;
    double unit = small ? 0x1p20 : 0x1p30;
    add_label(l, label);
    if (used > budget) style(l, "31");
    add(l, small ? "%.0f/%.0fM" : "%.1f/%.1fG", (double)used / unit, (double)budget / unit);
    if (used > budget) style(l, "0");
}

static double share(double part, double whole) { return whole > 0 ? fmin(1, part / whole) * 100 : 0; }

/* Everything known after a step. Ordered by what a person looks for first: a narrow terminal shows the left
 * part. */
static void describe(const qs_progress *p, line *l)
{
    const qs_step_metrics *m = &p->last;
    add_label(l, "  loss ");
    style(l, "1");
    add(l, "%.4f", m->loss);
    style(l, "0");
    add_label(l, "  lr ");
    add(l, "%.2e  ", m->learning_rate);
    add_grouped(l, m->tokens_per_second);
    add_label(l, " tok/s  ETA ");
    add(l, "%s", qs_format_duration(p->step_seconds * (double)(p->total_steps - m->step), (char[16]){0}));
    add_label(l, "  disk ");
    add(l, "%.0f%%", share(m->wait_disk_seconds, m->step_seconds));
    add_label(l, " link ");
    add(l, "%.0f%%", share(m->wait_link_seconds, m->step_seconds));
    add_label(l, " compute ");
    add(l, "%.0f%%", share(m->compute_seconds, m->step_seconds));
    add_budget(l, "  vram ", m->device_peak_bytes, p->vram_bytes);
    add_budget(l, " ram ", m->host_peak_bytes, p->ram_bytes);
}

/* "step  12/625": as wide for every step of the run, so that the numbers behind it stay in place. */
static void add_step(const qs_progress *p, line *l, int64_t step)
{
    char total[24];
    int width = snprintf(total, sizeof total, "%" PRId64, p->total_steps);
    add_label(l, "step ");
    add(l, "%*" PRId64 "/%s", width, step, total);
}

/* ---- drawing ----------------------------------------------------------------------------------------- */

/* Cuts what would wrap: a wrapped line cannot be rewritten. */
static void cut(line *l, int columns)
{
    int seen = 0, i = 0;
    while (i < l->used && seen < columns) {
        if (l->text[i] == '\033') {
            while (l->text[i] != 'm') i++;
            i++;
        } else {
            i++, seen++;
        }
    }
    if (i >= l->used) return;
    l->used = i;
    style(l, "0");
}

static void rewrite(qs_progress *p, line *l)
{
    cut(l, qs_terminal_columns(p->file) - 1);
    fprintf(p->file, "\r%.*s\033[K", l->used, l->text);
    fflush(p->file);
    p->line_open = true;
    p->drawn_ns = qs_now_ns();
}

static void print_line(qs_progress *p, const line *l)
{
    if (p->line_open) fprintf(p->file, "\r\033[K");
    fprintf(p->file, "%.*s\n", l->used, l->text);
    fflush(p->file);
    p->line_open = false;
}

void qs_progress_step(qs_progress *p, const qs_step_metrics *m)
{
    /* Smoothed over about five steps. The first step of a process is left behind at once: it may fill the
     * cache. */
    bool settled = m->step > p->first_step + 2;
    p->step_seconds = settled ? 0.8 * p->step_seconds + 0.2 * m->step_seconds : m->step_seconds;
    p->last = *m;
    if (p->quiet) return;
    line l = {.color = p->color};
    add_step(p, &l, m->step);
    describe(p, &l);
    bool due = m->step % p->logging_steps == 0 || m->step == p->total_steps || m->step == p->first_step + 1;
    if (due)
        print_line(p, &l);
    else if (p->terminal)
        rewrite(p, &l);
}

void qs_progress_visit(qs_progress *p, int64_t step, int done, int total)
{
    enum { BAR = 20 };
    if (p->quiet || !p->terminal || qs_now_ns() - p->drawn_ns < REDRAW_NS) return;
    line l = {.color = p->color};
    add_step(p, &l, step);
    int filled = total > 0 ? BAR * done / total : 0;
    add(&l, "  ");
    style(&l, "32");
    for (int i = 0; i < filled; i++) add(&l, "=");
    style(&l, "0");
    for (int i = filled; i < BAR; i++) add(&l, "-");
    add(&l, " %3d%%", total > 0 ? 100 * done / total : 0);
    if (p->last.step > p->first_step) { /* of the step before */
        describe(p, &l);
    } else if (p->step_seconds > 0) {
        add_label(&l, "  predicted ETA ");
        add(&l, "%s",
            qs_format_duration(p->step_seconds * (double)(p->total_steps - step + 1), (char[16]){0}));
    }
    rewrite(p, &l);
}

void qs_progress_eval(qs_progress *p, const qs_eval_metrics *m)
{
    if (p->quiet) return;
    line l = {.color = p->color};
    add_step(p, &l, m->step);
    add_label(&l, "  validation loss ");
    style(&l, "1");
    add(&l, "%.4f", m->eval_loss);
    style(&l, "0");
    add_label(&l, "  perplexity ");
    add(&l, "%.2f  ", exp(m->eval_loss));
    add_grouped(&l, (double)m->eval_tokens);
    add_label(&l, " tokens in ");
    add(&l, "%s", qs_format_duration(m->eval_seconds, (char[16]){0}));
    print_line(p, &l);
}

void qs_progress_break(qs_progress *p)
{
    if (!p->line_open) return;
    fputc('\n', p->file);
    fflush(p->file);
    p->line_open = false;
}
