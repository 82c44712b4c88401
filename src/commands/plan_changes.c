#include "src/commands/plan_changes.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/log.h"
#include "src/base/memory.h"

/* A change that gains less is not worth a sentence. */
#define WORTH 1.05
enum { NEAREST = 2 };

/* One more try: the command line with `words` behind it. */
static double rate_with(int argc, char **argv, const char *const *words, int count)
{
    char **all = qs_calloc((size_t)(argc + count + 1), sizeof *all);
    memcpy(all, argv, (size_t)argc * sizeof *all);
    for (int i = 0; i < count; i++) all[argc + i] = (char *)(uintptr_t)words[i];
    qs_planned p;
    qs_err e = {0};
    double rate = 0;
    if (!qs_planned_make(argc + count, all, false, &p, &e) && p.engine.prediction.known)
        rate = p.engine.prediction.tokens / p.engine.prediction.step_seconds;
    qs_planned_free(&p);
    qs_free(all);
    return rate;
}

static void add(qs_plan_change *list, int *count, const char *what, double rate)
{
    if (rate <= 0 || *count == QS_CHANGES_MAX) return;
    int at = (*count)++;
    for (; at > 0 && list[at - 1].tokens_per_second < rate; at--) list[at] = list[at - 1];
    snprintf(list[at].what, sizeof list[at].what, "%s", what);
    list[at].tokens_per_second = rate;
}

typedef struct trial {
    int argc;
    char **argv;
    qs_plan_changes *out;
} trial;

static void try_words(const trial *t, const char *const *words, int count)
{
    char what[96] = "";
    double rate = rate_with(t->argc, t->argv, words, count);
    for (int i = 0; i < count; i++)
        snprintf(what + strlen(what), sizeof what - strlen(what), "%s%s", i ? " " : "", words[i]);
    if (rate >= t->out->tokens_per_second * WORTH) add(t->out->change, &t->out->changes, what, rate);
}

static void try_one(const trial *t, const char *option) { try_words(t, &option, 1); }

static void try_bytes(const trial *t, const char *option, uint64_t bytes)
{
    char text[64];
    bool whole = bytes % (1 << 30) == 0;
    snprintf(text, sizeof text, "--%s=%llu%c", option, (unsigned long long)(bytes >> (whole ? 30 : 20)),
             whole ? 'G' : 'M');
    try_one(t, text);
}

/* Memory that is there, or that could be bought. */
static void try_memory(const trial *t, const qs_planned *plan)
{
    const qs_job *j = &plan->engine.job;
    const uint64_t for_the_system = UINT64_C(4) << 30;
    const qs_device_info *device = &plan->engine.device->info;
    if (plan->p.hardware) {
        if (plan->card.vram > j->vram_bytes) try_bytes(t, "vram", plan->card.vram);
        try_bytes(t, "ram", 2 * plan->p.host_ram - for_the_system);
        return;
    }
    uint64_t total = qs_host_total_bytes();
    if (!device->host_memory && device->total_bytes > j->vram_bytes)
        try_bytes(t, "vram", device->total_bytes);
    uint64_t others = device->host_memory ? j->vram_bytes : 0;
    if (total > for_the_system + others && total - for_the_system - others > j->ram_bytes)
        try_bytes(t, "ram", total - for_the_system - others);
}

/* A longer step, and the same step in other micro-batches. */
static void try_tokens(const trial *t, const qs_planned *plan)
{
    char sequences[64];
    int64_t steps = plan->o.gradient_accumulation_steps, rows = plan->o.per_device_train_batch_size;
    snprintf(sequences, sizeof sequences, "--gradient_accumulation_steps=%lld", (long long)steps * 4);
    try_one(t, sequences);
    if (!rows) return;
    snprintf(sequences, sizeof sequences, "--gradient_accumulation_steps=%lld", (long long)(steps * rows));
    const char *words[] = {"--per_device_train_batch_size=0", sequences};
    try_words(t, words, 2);
}

static void try_cards(const trial *t, const qs_planned *plan)
{
    for (int i = 0; qs_hardware_name(i); i++) {
        char text[64];
        snprintf(text, sizeof text, "--hardware=%s", qs_hardware_name(i));
        const char *words[] = {text, "--vram=auto"};
        if (plan->p.hardware && !strcmp(qs_hardware_name(i), plan->p.hardware)) continue;
        add(t->out->card, &t->out->cards, qs_hardware_name(i), rate_with(t->argc, t->argv, words, 2));
    }
}

void qs_plan_try_changes(int argc, char **argv, const qs_planned *plan, qs_plan_changes *out)
{
    const qs_prediction *p = &plan->engine.prediction;
    trial t = {argc, argv, out};
    if (!p->known) return;
    out->tokens_per_second = p->tokens / p->step_seconds;
    qs_log_set_level(QS_LOG_ERROR); /* what there is to warn of was said for the plan itself */
    try_memory(&t, plan);
    if (plan->p.hardware && plan->p.nvme < 12.5) try_one(&t, "--nvme=12.5");
    try_tokens(&t, plan);
    if (plan->p.hardware || plan->engine.device->info.host_computes) try_cards(&t, plan);
    qs_log_set_level(plan->o.quiet ? QS_LOG_WARN : QS_LOG_INFO);
}

/* The cards next to this plan's speed, the slower ones first. */
static void print_cards(const qs_plan_changes *c, FILE *f)
{
    int faster = 0;
    while (faster < c->cards && c->card[faster].tokens_per_second > c->tokens_per_second) faster++;
    int from = faster > NEAREST ? faster - NEAREST : 0,
        to = faster + NEAREST < c->cards ? faster + NEAREST : c->cards;
    if (from == to) return;
    fprintf(f, "  nearest cards:");
    for (int i = to - 1; i >= from; i--)
        fprintf(f, "%s %s %.4g tokens/s", i == to - 1 ? "" : ",", c->card[i].what,
                c->card[i].tokens_per_second);
    fprintf(f, "\n");
}

void qs_plan_changes_print(const qs_plan_changes *c, FILE *f)
{
    if (!c->tokens_per_second) return;
    if (c->changes)
        fprintf(f, "  what would help most: %s, %.4g tokens/s (%.2fx)\n", c->change[0].what,
                c->change[0].tokens_per_second, c->change[0].tokens_per_second / c->tokens_per_second);
    else
        fprintf(f, "  no more memory, faster drive or larger step gains a twentieth\n");
    print_cards(c, f);
}

static json_t *list(const qs_plan_change *c, int count)
{
    json_t *a = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(
            a, json_pack("{s:s, s:f}", "what", c[i].what, "tokens_per_second", c[i].tokens_per_second));
    return a;
}

void qs_plan_changes_json(const qs_plan_changes *c, json_t *plan)
{
    json_object_set_new(plan, "changes", list(c->change, c->changes));
    json_object_set_new(plan, "cards", list(c->card, c->cards));
}
