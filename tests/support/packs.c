#include "tests/support/packs.h"

#include <check.h>
#include <string.h>

#include "src/base/memory.h"

static qs_device *device;

qs_pager *test_packs_in(const qs_lora *l, float *x)
{
    qs_err e = {0};
    qs_pager *p;
    if (!device) ck_assert_int_eq(qs_device_cpu.open(0, 0, &device, &e), 0);
    qs_pager_config c = {.device = device,
                         .records = l->layers,
                         .bytes = (uint64_t)l->pack_floats * sizeof *x,
                         .memory = x,
                         .frames = l->layers};
    ck_assert_msg(!qs_pager_open(&c, &p, &e), "%s", e.text);
    for (int32_t layer = 0; layer < l->layers; layer++) {
        ck_assert_ptr_eq(qs_pager_acquire(p, layer, QS_PAGE_NEW), x + layer * l->pack_floats);
        qs_pager_release(p, layer, true, QS_QUEUE_COUNT);
    }
    return p;
}

int test_packs_done(qs_pager *p, int rc)
{
    qs_pager_close(p);
    qs_device_close(device);
    device = NULL;
    return rc;
}

float *test_packs_read(const qs_lora *l, qs_pager *p)
{
    float *x = qs_calloc((size_t)test_pack_floats(l), sizeof *x);
    for (int32_t layer = 0; layer < l->layers; layer++) {
        const float *pack = qs_pager_acquire(p, layer, QS_PAGE_READ);
        memcpy(x + layer * l->pack_floats, pack, (size_t)l->pack_floats * sizeof *x);
        qs_pager_release(p, layer, false, QS_QUEUE_COUNT);
    }
    return x;
}

void test_packs_set(const qs_lora *l, qs_pager *p, float value)
{
    for (int32_t layer = 0; layer < l->layers; layer++) {
        float *pack = qs_pager_acquire(p, layer, QS_PAGE_NEW);
        for (int64_t i = 0; i < l->pack_floats; i++) pack[i] = value;
        qs_pager_release(p, layer, true, QS_QUEUE_COUNT);
    }
}
