#include "src/plan/rates.h"

double qs_rates_total(const qs_rates *r, const qs_op_list *l)
{
    double sum = 0;
    for (int i = 0; i < l->count; i++)
        sum += (double)l->calls[i].times * r->seconds(r->context, &l->calls[i]);
    return sum;
}

int64_t qs_rates_calls(const qs_op_list *l)
{
    int64_t sum = 0;
    for (int i = 0; i < l->count; i++) sum += l->calls[i].times;
    return sum;
}

double qs_sheet_seconds(const void *context, const qs_op_call *c)
{
    const qs_sheet *s = context;
    bool attention = c->kind == QS_OP_ATTENTION || c->kind == QS_OP_ATTENTION_BACKWARD,
         product = c->kind == QS_OP_GEMM;
    double arithmetic = attention ? c->flops / s->attention_flops
                        : product ? c->flops / s->product_flops * ((double)c->n + s->half_rows) / (double)c->n
                                  : 0;
    double memory = c->bytes / s->memory_bytes;
    return (arithmetic > memory ? arithmetic : memory) + s->launch;
}

static const qs_sheet cpu = {
    .product_flops = 500e9, .attention_flops = 250e9, .memory_bytes = 20e9, .launch = 1e-5, .half_rows = 16};
static const qs_sheet card = {
    .product_flops = 60e12, .attention_flops = 30e12, .memory_bytes = 600e9, .launch = 5e-6, .half_rows = 64};

const qs_rates qs_rates_nominal_cpu = {
    .seconds = qs_sheet_seconds,
    .context = &cpu,
    .io = {.disk_read = 3e9, .disk_write = 2e9, .disk_latency = 1e-4, .verify = 10e9},
    .quantise_on_load = 4e9};
const qs_rates qs_rates_nominal_card = {.seconds = qs_sheet_seconds,
                                        .context = &card,
                                        .io = {.disk_read = 3e9,
                                               .disk_write = 2e9,
                                               .disk_latency = 1e-4,
                                               .verify = 10e9,
                                               .link_in = 20e9,
                                               .link_out = 20e9},
                                        .quantise_on_load = 4e9,
                                        .launch_seconds = 5e-6};
