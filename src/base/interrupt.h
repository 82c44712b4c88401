/* interrupt.h - what signals ask for, noted for loops that look between visits, batches and rows.
 *
 *     SIGINT SIGTERM     stop; a second one ends the process at once
 *     SIGHUP SIGXCPU     stop (a hangup is often followed by others, a spent limit by one each second: they
 * never end the process at once) SIGUSR1            save now and go on SIGPIPE SIGXFSZ    ignored: the write
 * fails, and whoever wrote knows what to do
 *
 * A signal that is ignored when the program starts (nohup, a script's background job) stays ignored. Before a
 * loop says that it looks, a signal to stop ends the process: a command that only reads has nothing to save.
 */
#ifndef QS_BASE_INTERRUPT_H
#define QS_BASE_INTERRUPT_H

#include <stdbool.h>

#include "src/base/error.h"

/* Installs the handlers; for main. */
void qs_interrupt_install(void);

/* From here on somebody looks, so the first signal to stop is only noted. */
void qs_interrupt_defer(void);

/* Async-signal-safe. Returns how often it has been requested, this time included. */
int qs_interrupt_request(void);
bool qs_interrupt_requested(void);

/* QS_EINTERRUPT with "stopped WHERE" when a stop is requested. */
int qs_interrupt_check(const char *where, qs_err *e);

/* Whether saving was asked for since the last call. */
bool qs_interrupt_take_save(void);

#endif
