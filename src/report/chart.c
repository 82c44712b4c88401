#include "src/report/chart.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* The picture, in SVG units. */
enum {
    WIDTH = 860,
    LEFT = 64,
    RIGHT = 24,
    TOP = 58,
    LEGEND_ROW = 22,
    BOTTOM = 56,
    PLOT_W = WIDTH - LEFT - RIGHT,
    PLOT_H = 296
};

/* Plain classes, no CSS variables: image viewers that are not browsers do not know those. s0..s5 are strokes,
 * f0..f5 fills. */
static const char style[] =
    "<style>\n"
    "svg{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}"
    ".title{font-size:16px;font-weight:600}.tick{font-size:12px}"
    ".line{fill:none;stroke-width:2;stroke-linejoin:round}.faint{stroke-width:1;opacity:.35}\n"
    ".paper{fill:#ffffff}.title,.text{fill:#1f2328}.tick{fill:#59636e}.grid{stroke:#d9dee3}.axis{stroke:#"
    "59636e}"
    ".s0{stroke:#0969da}.f0{fill:#0969da}.s1{stroke:#cf5f00}.f1{fill:#cf5f00}.s2{stroke:#1a7f37}.f2{fill:#"
    "1a7f37}"
    ".s3{stroke:#8250df}.f3{fill:#8250df}.s4{stroke:#bf3989}.f4{fill:#bf3989}.s5{stroke:#7d6a00}.f5{fill:#"
    "7d6a00}"
    "\n@media(prefers-color-scheme:dark){"
    ".paper{fill:#0d1117}.title,.text{fill:#e6edf3}.tick{fill:#9198a1}.grid{stroke:#2a313a}.axis{stroke:#"
    "9198a1}"
    ".s0{stroke:#58a6ff}.f0{fill:#58a6ff}.s1{stroke:#f0883e}.f1{fill:#f0883e}.s2{stroke:#56d364}.f2{fill:#"
    "56d364}"
    ".s3{stroke:#bc8cff}.f3{fill:#bc8cff}.s4{stroke:#f778ba}.f4{fill:#f778ba}.s5{stroke:#d4b106}.f5{fill:#"
    "d4b106}"
    "}\n</style>\n";

void qs_chart_ticks(double low, double high, int most, double *first, double *step)
{
    double raw = (high - low) / most, power = pow(10, floor(log10(raw)));
    double unit = raw / power;
    *step = power * (unit <= 1 ? 1 : unit <= 2 ? 2 : unit <= 5 ? 5 : 10);
    *first = ceil(low / *step - 1e-9) * *step;
}

typedef struct frame {
    double x0, x1, y0, y1; /* what is shown; their logarithms when log */
    int top;               /* of the plot, below the legend */
    bool log;
} frame;

static double scaled(bool is_log, double v) { return is_log ? log10(v) : v; }
static double at_x(const frame *f, double x)
{
    return LEFT + (scaled(f->log, x) - f->x0) / (f->x1 - f->x0) * PLOT_W;
}
static double at_y(const frame *f, double y)
{
    return f->top + PLOT_H - (scaled(f->log, y) - f->y0) / (f->y1 - f->y0) * PLOT_H;
}
static bool visible(const frame *f, double x, double y)
{
    return isfinite(x) && isfinite(y) && (!f->log || (x > 0 && y > 0));
}

/* The range of all points; of y a little more, so that no line runs along the border. */
static frame frame_of(const qs_chart *c)
{
    frame f = {DBL_MAX, -DBL_MAX, DBL_MAX, -DBL_MAX, 0, c->log};
    for (int s = 0; s < c->count; s++)
        for (int i = 0; i < c->series[s].count; i++) {
            double x = c->series[s].x[i], y = c->series[s].y[i];
            if (!visible(&f, x, y)) continue;
            x = scaled(f.log, x);
            y = scaled(f.log, y);
            f = (frame){fmin(f.x0, x), fmax(f.x1, x), fmin(f.y0, y), fmax(f.y1, y), 0, f.log};
        }
    if (f.x0 > f.x1) f = (frame){0, 1, 0, 1, 0, f.log};
    double room = f.y1 > f.y0 ? 0.05 * (f.y1 - f.y0) : fmax(1e-9, 0.1 * fabs(f.y1));
    f.y0 -= room;
    f.y1 += room;
    if (f.x0 == f.x1) f.x0 -= 1, f.x1 += 1;
    return f;
}

static void put_text(FILE *f, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : NULL;
        if (entity)
            fputs(entity, f);
        else if ((unsigned char)*text >= 0x20)
            fputc(*text, f);
    }
}

static void label(FILE *f, const char *class, double x, double y, const char *anchor, const char *text)
{
    fprintf(f, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", class, x, y, anchor);
    put_text(f, text);
    fputs("</text>\n", f);
}

static void tick_text(double v, double step, char *out, size_t capacity)
{
    if (fabs(v) < step * 1e-6) v = 0; /* not -0, not 1e-17 */
    if (fabs(v) >= 1e6 || (v != 0 && step < 1e-4))
        snprintf(out, capacity, "%g", v);
    else
        snprintf(out, capacity, "%.*f", step < 1 ? (int)ceil(-log10(step) - 1e-9) : 0, v);
}

static void mark_y(FILE *f, const frame *at, double y, const char *text)
{
    fprintf(f, "<path class=\"grid\" d=\"M%d %.1fh%d\"/>\n", LEFT, at_y(at, y), PLOT_W);
    label(f, "tick", LEFT - 8, at_y(at, y) + 4, "end", text);
}

static void mark_x(FILE *f, const frame *at, double x, const char *text)
{
    fprintf(f, "<path class=\"axis\" d=\"M%.1f %dv5\"/>\n", at_x(at, x), at->top + PLOT_H);
    label(f, "tick", at_x(at, x), at->top + PLOT_H + 20, "middle", text);
}

/* 1, 2 and 5 times the powers of ten upwards, powers of two to the right. */
static void mark_log(FILE *f, const frame *at)
{
    char text[40];
    for (int power = (int)floor(at->y0); power <= (int)floor(at->y1); power++)
        for (int k = 0; k < 3; k++) {
            static const int units[] = {1, 2, 5};
            double y = units[k] * pow(10, power);
            if (log10(y) < at->y0 || log10(y) > at->y1) continue;
            snprintf(text, sizeof text, "%g", y);
            mark_y(f, at, y, text);
        }
    for (int power = (int)ceil(at->x0 / log10(2) - 1e-9); power * log10(2) <= at->x1 + 1e-9; power++) {
        snprintf(text, sizeof text, "%g", ldexp(1, power));
        mark_x(f, at, ldexp(1, power), text);
    }
}

static void draw_axes(FILE *f, const qs_chart *c, const frame *at)
{
    double first, step;
    char text[40];
    if (at->log)
        mark_log(f, at);
    else {
        qs_chart_ticks(at->y0, at->y1, 7, &first, &step);
        for (double y = first; y <= at->y1; y += step) {
            tick_text(y, step, text, sizeof text);
            mark_y(f, at, y, text);
        }
        qs_chart_ticks(at->x0, at->x1, 9, &first, &step);
        for (double x = first; x <= at->x1; x += step) {
            tick_text(x, step, text, sizeof text);
            mark_x(f, at, x, text);
        }
    }
    fprintf(f, "<path class=\"axis\" d=\"M%d %dh%d\"/>\n", LEFT, at->top + PLOT_H, PLOT_W);
    label(f, "tick", LEFT + PLOT_W / 2.0, at->top + PLOT_H + BOTTOM - 14, "middle", c->x_label);
    fprintf(f, "<text class=\"tick\" transform=\"translate(18 %d) rotate(-90)\" text-anchor=\"middle\">",
            at->top + PLOT_H / 2);
    put_text(f, c->y_label);
    fputs("</text>\n", f);
}

/* The points of one column of the picture: where the line enters and leaves it, and how far it reaches. */
typedef struct column {
    int number, points;
    double first, last, low, high;
} column;

static void flush_column(FILE *f, const frame *at, const column *c, bool *pen_down)
{
    double x = LEFT + c->number / 2.0, y[4] = {c->first, c->low, c->high, c->last};
    if (c->first > c->last) y[1] = c->high, y[2] = c->low;
    for (int i = 0; c->points && i < 4; i++) {
        if (i && y[i] == y[i - 1]) continue;
        fprintf(f, "%c%.1f %.1f", *pen_down ? 'L' : 'M', x, at_y(at, y[i]));
        *pen_down = true;
    }
}

static void draw_line(FILE *f, const frame *at, const qs_chart_series *s)
{
    bool thin = s->count > 2 * PLOT_W, pen_down = false;
    column c = {0};
    fprintf(f, "<path class=\"line s%d%s\" d=\"", s->color % QS_CHART_COLORS, s->faint ? " faint" : "");
    for (int i = 0; i < s->count; i++) {
        double x = s->x[i], y = s->y[i];
        if (!visible(at, x, y)) {
            flush_column(f, at, &c, &pen_down);
            c.points = 0;
            pen_down = false;
        } else if (!thin) {
            fprintf(f, "%c%.1f %.1f", pen_down ? 'L' : 'M', at_x(at, x), at_y(at, y));
            pen_down = true;
        } else {
            int number = (int)((at_x(at, x) - LEFT) * 2);
            if (c.points && number != c.number) {
                flush_column(f, at, &c, &pen_down);
                c.points = 0;
            }
            if (!c.points) c = (column){number, 0, y, y, y, y};
            c = (column){number, c.points + 1, c.first, y, fmin(c.low, y), fmax(c.high, y)};
        }
    }
    flush_column(f, at, &c, &pen_down);
    fputs("\"/>\n", f);
    for (int i = 0; s->dots && i < s->count; i++)
        if (visible(at, s->x[i], s->y[i]))
            fprintf(f, "<circle class=\"f%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"/>\n",
                    s->color % QS_CHART_COLORS, at_x(at, s->x[i]), at_y(at, s->y[i]));
}

/* Entries one after another, in as many rows as they need; returns the lower end. A width of 7.2 units per
 * letter is enough for the font. With f NULL it only measures. */
static int draw_legend(FILE *f, const qs_chart *c)
{
    double x = LEFT;
    int y = TOP;
    for (int s = 0; s < c->count; s++) {
        const qs_chart_series *l = &c->series[s];
        if (!l->label) continue;
        double width = 25 + 7.2 * (double)strlen(l->label);
        if (x > LEFT && x + width > WIDTH - RIGHT) x = LEFT, y += LEGEND_ROW;
        int color = l->color % QS_CHART_COLORS;
        if (f) fprintf(f, "<path class=\"line s%d\" d=\"M%.1f %dh18\"/>\n", color, x, y);
        if (f && l->dots)
            fprintf(f, "<circle class=\"f%d\" cx=\"%.1f\" cy=\"%d\" r=\"3.5\"/>\n", color, x + 9, y);
        if (f) label(f, "text", x + 25, y + 4, "start", l->label);
        x += width + 20;
    }
    return y + LEGEND_ROW;
}

void qs_chart_write_svg(FILE *f, const qs_chart *c)
{
    frame at = frame_of(c);
    at.top = draw_legend(NULL, c);
    int height = at.top + PLOT_H + BOTTOM;
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
            "role=\"img\">\n<title>",
            WIDTH, height, WIDTH, height);
    put_text(f, c->title);
    fprintf(f, "</title>\n%s<rect class=\"paper\" width=\"%d\" height=\"%d\" rx=\"8\"/>\n", style, WIDTH,
            height);
    label(f, "title", LEFT, 32, "start", c->title);
    draw_axes(f, c, &at);
    for (int pass = 0; pass < 2; pass++) /* pale lines lie behind the others */
        for (int s = 0; s < c->count; s++)
            if (c->series[s].faint == !pass) draw_line(f, &at, &c->series[s]);
    draw_legend(f, c);
    fputs("</svg>\n", f);
}
