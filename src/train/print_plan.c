/* print_plan.c - a plan as a table for people. */
#include <stdio.h>

#include "src/train/engine.h"
#include "src/train/trainer.h"

static void pool_line(FILE *f, const char *flag, uint64_t used, uint64_t budget)
{
    char a[16], b[16];
    fprintf(f, "  %-34s %12s of %s\n", flag, qs_format_bytes(used, a), qs_format_bytes(budget, b));
}

static void items(FILE *f, const qs_plan *p, bool device)
{
    char size[16];
    for (int i = 0; i < p->item_count; i++)
        if ((p->items[i].pool == QS_POOL_DEVICE) == device)
            fprintf(f, "    %-32s %12s   %s\n", p->items[i].tag, qs_format_bytes(p->items[i].bytes, size), qs_pool_name(p->items[i].pool));
}

void qs_train_print_plan(const qs_engine *g, FILE *f)
{
    const qs_plan *p = &g->plan;
    const qs_sweep_sizes *s = &g->sweep_config.sizes;
    char size[16];
    fprintf(f, "plan: %s on %s, compute %s\n", g->architecture.class_name, g->device->info.name, qs_dtype_name(g->sweep_config.type));
    pool_line(f, "--vram", p->vram_used, p->vram_bytes);
    if (g->device->info.overhead_bytes)
        fprintf(f, "    %-32s %12s   device\n", "context and libraries", qs_format_bytes(g->device->info.overhead_bytes, size));
    items(f, p, true);
    pool_line(f, "--ram", p->ram_used, p->ram_bytes);
    items(f, p, false);
    fprintf(f, "  weights: %d of %d blobs resident (%d device, %d host)", p->homes_device + p->homes_host, p->blobs, p->homes_device, p->homes_host);
    if (p->streamed_bytes)
        fprintf(f, ", %s streamed through %d slots of %s\n", qs_format_bytes(p->streamed_bytes, size), p->ring_slots,
                qs_format_bytes(p->slot_bytes, (char[16]){0}));
    else fprintf(f, "\n");
    fprintf(f, "  step: %d micro-batches of at most %d tokens; numeric identity: MLP tile %d rows, head chunk %d rows, %d threads\n",
            s->micro_batches, s->max_tokens, s->mlp_rows, s->head_rows, g->device->info.threads);
}
