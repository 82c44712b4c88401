#include "src/plan/hardware.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "src/options/presets.h"

#define ROW(field, kind, ...)                                                                           \
    {                                                                                                   \
        .name = #field, .type = QS_OPT_##kind, .offset = offsetof(qs_hardware, field), .group = "Card", \
        __VA_ARGS__                                                                                     \
    }
#define RATE(field) ROW(field, FLOAT, .min = 1e-3, .max = 1e6)
static const qs_option rows[] = {ROW(card, STRING),
                                 RATE(tflops),
                                 RATE(memory_gbs),
                                 RATE(link_gbs),
                                 ROW(vram, BYTES, .max = 1e15),
                                 ROW(overhead, BYTES, .max = 1e15),
                                 ROW(multiprocessors, INT, .min = 1, .max = 4096),
                                 RATE(watts),
                                 RATE(product_efficiency),
                                 RATE(attention_efficiency),
                                 RATE(memory_efficiency)};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(qs_hardware, source)};

const char *qs_hardware_name(int index)
{
    for (int i = 0; qs_hardware_files[i].name; i++)
        if (i == index) return qs_hardware_files[i].name;
    return NULL;
}

int qs_hardware_find(const char *name, qs_hardware *out, qs_err *e)
{
    char known[256] = "";
    qs_option_set set = {&table, out};
    *out = (qs_hardware){0};
    for (const qs_preset *f = qs_hardware_files; f->name; f++) {
        if (!strcmp(f->name, name))
            return qs_option_read_yaml(&set, 1, f->name, f->text, strlen(f->text), QS_FROM_CONFIG, e);
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", f->name);
    }
    QS_FAIL(e, QS_EUSAGE, "--hardware: no card is called \"%.40s\"; there are: %s", name, known);
}

void qs_hardware_free(qs_hardware *h) { qs_option_clear(&(qs_option_set){&table, h}, 1); }

qs_device *qs_hardware_device(const qs_hardware *h)
{
    qs_device_info info = {.bf16 = true,
                           .f16 = true,
                           .managed = true,
                           .threads = (int)h->multiprocessors,
                           .total_bytes = h->vram,
                           .available_bytes = h->vram,
                           .overhead_bytes = h->overhead};
    snprintf(info.name, sizeof info.name, "%s (on paper)", h->card);
    return qs_meta_device(&info);
}

qs_rates qs_hardware_rates(qs_hardware *h, const qs_hardware_host *host)
{
    /* Assumed of every host: a drive writes at 70 % of its reading rate, one core checks 10 GB/s, and
     * quantising 16-bit weights runs at 8 GB/s. */
    const double write_share = 0.7, verify = 10e9, quantise_on_load = 8e9, latency = 1e-4, launch = 4e-6;
    h->sheet = (qs_sheet){.product_flops = h->tflops * 1e12 * h->product_efficiency,
                          .attention_flops = h->tflops * 1e12 * h->attention_efficiency,
                          .memory_bytes = h->memory_gbs * 1e9 * h->memory_efficiency,
                          .launch = launch,
                          .half_rows = 64};
    return (qs_rates){.seconds = qs_sheet_seconds,
                      .context = &h->sheet,
                      .io = {.disk_read = host->nvme_gbs * 1e9,
                             .disk_write = host->nvme_gbs * 1e9 * write_share,
                             .disk_latency = latency,
                             .verify = verify,
                             .link_in = h->link_gbs * 1e9,
                             .link_out = h->link_gbs * 1e9},
                      .quantise_on_load = quantise_on_load,
                      .launch_seconds = launch};
}
