/* terminal.h - whether a stream is a terminal that understands cursor movement, and whether to use colour on
 * it. */
#ifndef QS_BASE_TERMINAL_H
#define QS_BASE_TERMINAL_H

#include <stdbool.h>
#include <stdio.h>

/* A terminal, and not one that calls itself dumb. */
bool qs_terminal(FILE *f);

/* The same, without --no-color and without NO_COLOR in the environment (no-color.org: any value but the empty
 * one). */
bool qs_terminal_color(FILE *f, bool no_color);

/* Width in cells; 80 when unknown. */
int qs_terminal_columns(FILE *f);

#endif
