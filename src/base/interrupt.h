/* interrupt.h - the wish to stop, as main's signal handler notes it and loops ask for it between steps. */
#ifndef QS_BASE_INTERRUPT_H
#define QS_BASE_INTERRUPT_H

#include <stdbool.h>

/* Async-signal-safe. Returns how often it has been requested, this time included. */
int qs_interrupt_request(void);
bool qs_interrupt_requested(void);

#endif
