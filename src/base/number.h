/* number.h - doubles: as text that reads back to the same bits, and the middle one of many. */
#ifndef QS_BASE_NUMBER_H
#define QS_BASE_NUMBER_H

enum { QS_NUMBER_TEXT = 32 };

/* Writes the shortest decimal that strtod reads back to v: "0.1", "1e-05", "3". Not for NaN or infinity.
 * Returns out. */
const char *qs_number_text(double v, char out[QS_NUMBER_TEXT]);

/* The middle one of n > 0 (of two, the greater); sorts them. */
double qs_median(double *v, int n);

#endif
