/* disk_rates.h - how fast a folder's disk reads and writes, as a run uses it: large transfers, several in
 * flight, past the page cache. */
#ifndef QS_PLAN_DISK_RATES_H
#define QS_PLAN_DISK_RATES_H

#include "io/aio.h"

typedef struct qs_disk_rates {
    double read, write; /* bytes per second */
    double latency;     /* seconds of one read of 4 KiB */
    double verify;      /* bytes per second of the host's checksum */
    bool direct;        /* the page cache was bypassed */
} qs_disk_rates;

/* Writes a file of `bytes` bytes in dir and reads it back; the file is gone afterwards, however this ends.
 * Blocks for as long as that takes. QS_EIO, QS_ENOMEM, QS_EUNSUP as qs_aio_open. */
int qs_disk_rates_measure(const char *dir, qs_aio_engine engine, uint64_t bytes, qs_disk_rates *out,
                          qs_err *e);

#endif
