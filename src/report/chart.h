/* chart.h - a line chart as one self-contained SVG file, readable in light and dark.
 *
 * Colours follow the viewer's colour scheme (prefers-color-scheme), so the same file suits a README in
 * either. No scripts, no external fonts.
 */
#ifndef QS_REPORT_CHART_H
#define QS_REPORT_CHART_H

#include <stdbool.h>
#include <stdio.h>

enum { QS_CHART_COLORS = 6 };

typedef struct qs_chart_series {
    const char *label;   /* in the legend; NULL: not listed */
    const double *x, *y; /* [count], x increasing; a y that is not finite leaves a gap */
    int count;
    int color;  /* 0 .. QS_CHART_COLORS - 1, taken modulo */
    bool faint; /* a thin, pale line: raw values behind a smoothed one */
    bool dots;  /* marks every point: few values, far apart */
} qs_chart_series;

typedef struct qs_chart {
    const char *title, *x_label, *y_label;
    const qs_chart_series *series;
    int count;
    bool log; /* both axes logarithmic, with x marked at powers of two; values that are not positive leave a
                 gap */
} qs_chart;

/* Writes the chart. Long series are thinned to what the width can show (each column's lowest and highest
 * value stay). */
void qs_chart_write_svg(FILE *f, const qs_chart *c);

/* Ticks at multiples of 1, 2 or 5 times a power of ten: sets *first and *step for at most `most` of them in
 * [low, high]. */
void qs_chart_ticks(double low, double high, int most, double *first, double *step);

#endif
