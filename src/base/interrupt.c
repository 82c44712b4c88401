#include "src/base/interrupt.h"

#include <stdatomic.h>

static atomic_int requests;

int qs_interrupt_request(void) { return atomic_fetch_add(&requests, 1) + 1; }
bool qs_interrupt_requested(void) { return atomic_load(&requests) > 0; }
