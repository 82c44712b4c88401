#include "src/train/loss_scale.h"

qs_loss_scale qs_loss_scale_start(bool dynamic)
{
    return (qs_loss_scale){.scale = dynamic ? QS_LOSS_SCALE_FIRST : 1, .dynamic = dynamic};
}

bool qs_loss_scale_step(qs_loss_scale *s, bool finite)
{
    if (!s->dynamic || (!finite && s->scale <= 1)) return true;
    if (!finite) {
        s->scale /= 2;
        s->good_steps = 0;
        s->skipped++;
        return false;
    }
    if (++s->good_steps < QS_LOSS_SCALE_INTERVAL) return true;
    if (s->scale < 0x1p100) s->scale *= 2; /* as a float times a gradient's own scale it stays finite */
    s->good_steps = 0;
    return true;
}
