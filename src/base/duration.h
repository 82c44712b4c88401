/* duration.h - seconds as people say them. */
#ifndef QS_BASE_DURATION_H
#define QS_BASE_DURATION_H

/* 42s, 12m05s, 2h05m, 3d04h; "-" where there is nothing to say (not finite, negative, over 30 years). Returns
 * text. */
const char *qs_format_duration(double seconds, char text[16]);

#endif
