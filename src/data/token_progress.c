#include "src/data/token_progress.h"

#include <unistd.h>

#include "src/base/clock.h"
#include "src/base/interrupt.h"

int qs_token_progress_show(void *user, uint64_t done, uint64_t of)
{
    qs_token_progress *p = user;
    uint64_t now = qs_now_ns();
    if (!p->begun) p->begun = p->last = now;
    if (qs_interrupt_requested()) return 1;
    bool terminal = p->out && isatty(fileno(p->out)), last = done >= of;
    double since = qs_seconds(now - p->begun), every = terminal ? 0.25 : 10, wait = p->shown ? every : 2;
    if (!p->out || (qs_seconds(now - p->last) < wait && !(last && p->shown)) || (last && !p->shown)) return 0;
    double share = of ? (double)done / (double)of : 1;
    fprintf(p->out, "%stokenising: %3.0f %% of %.1f MB, %.1f MB/s%s", terminal ? "\r" : "", 100 * share,
            (double)of * 1e-6, (double)done * 1e-6 / since, terminal ? "   " : "\n");
    if (last && terminal) fprintf(p->out, "\n");
    fflush(p->out);
    p->shown = !last;
    p->last = now;
    return 0;
}
