/* loss_scale.h - the dynamic loss scale of fp16 training, as torch.amp.GradScaler has it.
 *
 * The gradient is formed times `scale`, so that small values do not vanish in fp16. A step whose gradients
 * overflowed is skipped and the scale halved; after 2,000 steps without one it is doubled. A skipped step
 * counts as a step of the run, but neither the optimizer nor the learning-rate schedule moves (accelerate's
 * AcceleratedScheduler). The state is a few numbers and goes into every checkpoint.
 */
#ifndef QS_TRAIN_LOSS_SCALE_H
#define QS_TRAIN_LOSS_SCALE_H

#include <stdbool.h>
#include <stdint.h>

enum { QS_LOSS_SCALE_FIRST = 65536, QS_LOSS_SCALE_INTERVAL = 2000 };

typedef struct qs_loss_scale {
    double scale;       /* a power of two; 1 and never changed where `dynamic` is false */
    int64_t good_steps; /* since the scale changed or a step was skipped */
    int64_t skipped;    /* steps in all */
    bool dynamic;
} qs_loss_scale;

/* dynamic: the compute type is fp16. */
qs_loss_scale qs_loss_scale_start(bool dynamic);

/* After a step's backward pass. True: apply the update. False: its gradients overflowed, leave it out. With a
 * scale of 1 no overflow is forgiven: true, and the caller fails on the non-finite value. */
bool qs_loss_scale_step(qs_loss_scale *s, bool finite);

#endif
