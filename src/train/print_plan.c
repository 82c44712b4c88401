/* print_plan.c - a plan as a table for people. */
#include <stdio.h>

#include "src/step/visit.h"
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
            fprintf(f, "    %-32s %12s   %s\n", qs_item_name(p->items[i].item),
                    qs_format_bytes(p->items[i].bytes, size), qs_pool_name(p->items[i].pool));
}

/* What a step writes, and what that is for a million tokens: disks wear. */
static void print_disk(const qs_engine *g, FILE *f)
{
    const qs_sweep_config *c = &g->sweep_config;
    uint64_t written = qs_visit_written_bytes(&g->sweep_config, &g->update_config);
    char step[16], million[16];
    if (!written) return;
    double tokens = (double)c->sizes.max_tokens * c->sizes.micro_batches;
    fprintf(f, "  on disk: %s%s%s; at most %s written per step, %s per million tokens\n",
            g->placement.adapters_on_disk ? "adapters and optimizer states" : "",
            g->placement.adapters_on_disk && c->checkpoints_on_disk ? ", " : "",
            c->checkpoints_on_disk ? "activation checkpoints" : "", qs_format_bytes(written, step),
            qs_format_bytes((uint64_t)((double)written * 1e6 / tokens), million));
}

static void wait_line(FILE *f, const char *what, double seconds, double step)
{
    fprintf(f, ", %s %.0f%%", what, step > 0 && seconds > 0 ? 100 * seconds / step : 0);
}

static void predicted(FILE *f, const qs_engine *g)
{
    const qs_prediction *p = &g->prediction;
    const qs_sim_step *s = &p->sim.steady;
    char size[16];
    if (!p->known) return;
    fprintf(f,
            "  predicted: %.4g s per step of %.0f tokens, %.4g tokens/s (with an empty layer cache, the "
            "first step: %.4g s)\n",
            p->step_seconds, p->tokens, p->tokens / p->step_seconds, p->first_step_seconds);
    fprintf(f, "    %s binds", qs_sim_resource_name(p->sim.critical));
    wait_line(f, "waiting for the disk", s->disk_wait, p->step_seconds);
    wait_line(f, "for the link", s->link_wait, p->step_seconds);
    fprintf(f, "; reads %s", qs_format_bytes(s->disk_read_bytes, size));
    if (!g->device->info.shared_memory)
        fprintf(f, ", over the link %s", qs_format_bytes(s->link_in_bytes + s->link_out_bytes, size));
    fprintf(f, " per step\n");
    if (p->hide_tokens > 0)
        fprintf(f, "    from about %.0f tokens per step on, compute hides the stream\n", p->hide_tokens);
}

/* Which compute type was taken is no surprise where the reason stands beside it. */
static const char *why_type(const qs_engine *g, qs_dtype type)
{
    if (g->options->compute_dtype != QS_COMPUTE_AUTO) return "";
    if (type == QS_BF16) return " (auto: this device multiplies it fastest)";
    if (type == QS_F16) return " (auto: this card has no bf16 products)";
    return " (auto: these kernels multiply bf16 no faster than fp32)";
}

void qs_train_print_plan(const qs_engine *g, FILE *f)
{
    const qs_plan *p = &g->plan;
    const qs_sweep_sizes *s = &g->sweep_config.sizes;
    char size[16];
    qs_dtype type = g->sweep_config.type;
    fprintf(f, "plan: %s on %s, compute %s%s\n", g->architecture.class_name, g->device->info.name,
            qs_dtype_name(type), why_type(g, type));
    pool_line(f, "--vram", p->vram_used, p->vram_bytes);
    if (g->device->info.overhead_bytes)
        fprintf(f, "    %-32s %12s   device\n", "context and libraries",
                qs_format_bytes(g->device->info.overhead_bytes, size));
    items(f, p, true);
    pool_line(f, "--ram", p->ram_used, p->ram_bytes);
    items(f, p, false);
    fprintf(f, "  weights: %d of %d blobs resident (%d device, %d host)", p->homes_device + p->homes_host,
            p->blobs, p->homes_device, p->homes_host);
    if (p->streamed_bytes)
        fprintf(f, ", %s streamed through %d slots of %s\n", qs_format_bytes(p->streamed_bytes, size),
                p->ring_slots, qs_format_bytes(p->slot_bytes, (char[16]){0}));
    else
        fprintf(f, "\n");
    print_disk(g, f);
    int32_t sweeps = g->sweep_config.sweeps;
    const char *kernels = qs_device_kernels(g->device, type);
    fprintf(f,
            "  step: %d micro-batches of at most %d tokens in %d sweep%s; numeric identity: MLP tile %d "
            "rows, head chunk %d rows, %d threads%s%s\n",
            s->micro_batches, s->max_tokens, sweeps, sweeps == 1 ? "" : "s", s->mlp_rows, s->head_rows,
            g->device->info.threads, *kernels ? ", kernels " : "", kernels);
    uint64_t vram, ram;
    qs_placement_minimum(&g->job, &vram, &ram);
    fprintf(f, "  smallest budgets for this job: --vram %lluM --ram %lluM\n",
            (unsigned long long)((vram + (1 << 20) - 1) >> 20),
            (unsigned long long)((ram + (1 << 20) - 1) >> 20));
    predicted(f, g);
}
