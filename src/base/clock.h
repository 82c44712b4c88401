/* clock.h - monotonic time, for reports only: no result may depend on it. */
#ifndef QS_BASE_CLOCK_H
#define QS_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t qs_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline double qs_seconds(uint64_t ns) { return (double)ns * 1e-9; }

#endif
