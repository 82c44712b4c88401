#include "src/base/interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

enum { STATUS = 130 };

static atomic_int requests;
static atomic_bool deferred, save;

static void on_stop(int number)
{
    static const char text[] = "\nstopping; once more to end at once, unsaved\n";
    int before = atomic_fetch_add(&requests, 1);
    bool insists = before && (number == SIGINT || number == SIGTERM);
    if (insists || !atomic_load(&deferred)) _exit(STATUS);
    if (!before && write(STDERR_FILENO, text, sizeof text - 1) < 0) return;
}

static void on_save(int number)
{
    (void)number;
    atomic_store(&save, true);
}

static void handle(int number, void (*handler)(int))
{
    struct sigaction now, action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    if (sigaction(number, NULL, &now) || now.sa_handler == SIG_IGN) return;
    sigaction(number, &action, NULL);
}

void qs_interrupt_install(void)
{
    static const int stops[] = {SIGINT, SIGTERM, SIGHUP, SIGXCPU};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) handle(stops[i], on_stop);
    handle(SIGUSR1, on_save);
    handle(SIGPIPE, SIG_IGN);
    handle(SIGXFSZ, SIG_IGN);
}

void qs_interrupt_defer(void) { atomic_store(&deferred, true); }
int qs_interrupt_request(void) { return atomic_fetch_add(&requests, 1) + 1; }
bool qs_interrupt_requested(void) { return atomic_load(&requests) > 0; }

int qs_interrupt_check(const char *where, qs_err *e)
{
    if (qs_interrupt_requested()) QS_FAIL(e, QS_EINTERRUPT, "stopped %s", where);
    return 0;
}

bool qs_interrupt_take_save(void) { return atomic_exchange(&save, false); }
