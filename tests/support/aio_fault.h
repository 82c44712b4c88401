/* aio_fault.h - what goes wrong with disks, on demand: for tests.
 *
 *     qs_aio_faults f = {.short_every = 2, .reorder = true, .seed = 7};
 *     qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD, .seam = test_faults(&f)}, &aio, &e);
 *
 * The injector lies around a real engine, so data still moves. Requests are counted from 1 in the order in
 * which aio makes them, reads and writes apart; the rest of a short or interrupted transfer counts as a new
 * request.
 */
#ifndef QS_TESTS_AIO_FAULT_H
#define QS_TESTS_AIO_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* Exit status of a process that die_at_write has ended. */
enum { QS_AIO_FAULT_EXIT = 86 };

typedef struct qs_aio_faults {
    uint64_t seed;   /* of what is random below */
    int short_every; /* every n-th request moves a random part of its bytes (whole units for direct files); 0:
                        none */
    bool ragged; /* direct transfers larger than a unit report less than they moved, so that their counts are
                    not whole units */
    int interrupt_every; /* every n-th request moves nothing: EINTR and EAGAIN in turn; 0: none */
    int read_error_at;   /* the n-th read fails with read_error; 0: none */
    int read_error;      /* errno; 0: EIO */
    int flip_read_at;    /* one bit of what the n-th read brings is wrong; 0: none */
    int write_error_at;  /* the n-th write and all that follow fail with write_error; 0: none */
    int write_error;     /* errno; 0: ENOSPC */
    int die_at_write;    /* half of the n-th write reaches the file, then the process ends; 0: never */
    uint64_t delay_ns;   /* every completion comes this much late */
    bool reorder;        /* completions come in random order */
} qs_aio_faults;

/* The seam of an I/O engine that opens next with these faults; NULL for NULL. They are copied at the opening.
 */
const struct qs_aio_seam *test_faults(const qs_aio_faults *faults);

#endif
