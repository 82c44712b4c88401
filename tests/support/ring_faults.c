/* The functions here take the place of liburing's of the same names, in test programs only, and pass on to
 * them. */
#include "tests/support/ring_faults.h"

#include <dlfcn.h>
#include <liburing.h>

static int calls, from, until, with;

void test_ring_fail(int first, int count, int error)
{
    calls = 0;
    from = first;
    until = first + count;
    with = error;
}

static int fails(void) { return ++calls >= from && calls < until; }

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int io_uring_submit(struct io_uring *ring) { return fails() ? -with : NEXT(io_uring_submit)(ring); }

int io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
    return fails() ? -with : NEXT(io_uring_submit_and_wait)(ring, count);
}

int io_uring_submit_and_get_events(struct io_uring *ring)
{
    return fails() ? -with : NEXT(io_uring_submit_and_get_events)(ring);
}
