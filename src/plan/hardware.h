/* hardware.h - cards that are not here, by name: data sheets from configs/hardware/, built into the program.
 * A plan can be made for them, and a prediction. */
#ifndef QS_PLAN_HARDWARE_H
#define QS_PLAN_HARDWARE_H

#include "src/options/option.h"
#include "src/plan/rates.h"

typedef struct qs_hardware {
    char *card;
    double tflops;               /* dense bf16 with fp32 accumulation, nominal */
    double memory_gbs, link_gbs; /* 10^9 bytes per second; the link as achieved, one direction */
    uint64_t vram, overhead;     /* bytes; overhead: what context and libraries take */
    int64_t multiprocessors;
    double watts;                                                       /* of the board */
    double product_efficiency, attention_efficiency, memory_efficiency; /* of nominal, assumed */
    uint8_t source[16];
    qs_sheet sheet;
} qs_hardware;

/* What belongs to the machine and not to the card. */
typedef struct qs_hardware_host {
    double nvme_gbs; /* achieved by sequential reads */
} qs_hardware_host;

/* QS_EUSAGE lists the names there are. Free with qs_hardware_free. */
int qs_hardware_find(const char *name, qs_hardware *out, qs_err *e);
void qs_hardware_free(qs_hardware *h);

/* Names by index; NULL past the last one. */
const char *qs_hardware_name(int index);

/* The card as a meta device. Close with qs_device_close. */
qs_device *qs_hardware_device(const qs_hardware *h);

/* Its rates; they borrow *h. */
qs_rates qs_hardware_rates(qs_hardware *h, const qs_hardware_host *host);

#endif
