/* cache.c - qlora-stream cache list | verify | prune: what the program keeps on the disk between runs. */
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "io/cache_list.h"
#include "src/base/memory.h"
#include "src/commands/cache_verify.h"
#include "src/commands/commands.h"
#include "src/options/options.h"

enum { ROWS = 5, DAY_SECONDS = 86400 };

typedef struct cache_options {
    bool json, all, dry_run;
    int64_t days;
    char *model;
    uint8_t source[ROWS];
} cache_options;

static const qs_option rows[ROWS] = {
    {.name = "json",
     .type = QS_OPT_BOOL,
     .offset = offsetof(cache_options, json),
     .fallback = "false",
     .group = "Options",
     .help = "list: print a JSON array"},
    {.name = "model",
     .type = QS_OPT_PATH,
     .offset = offsetof(cache_options, model),
     .group = "Options",
     .help = "verify: compare this model directory, in place of the one that the cache was made from"},
    {.name = "days",
     .type = QS_OPT_INT,
     .offset = offsetof(cache_options, days),
     .fallback = "30",
     .min = 0,
     .max = 100000,
     .group = "Options",
     .help = "prune: what was not used for so many days; what this program cannot use any more goes whatever "
             "its age"},
    {.name = "all",
     .type = QS_OPT_BOOL,
     .offset = offsetof(cache_options, all),
     .fallback = "false",
     .group = "Options",
     .help = "prune: everything that no process uses"},
    {.name = "dry_run",
     .type = QS_OPT_BOOL,
     .offset = offsetof(cache_options, dry_run),
     .fallback = "false",
     .group = "Options",
     .help = "prune: say what would go, and leave it"},
};
static const qs_option_table table = {
    .rows = rows, .count = ROWS, .sources_offset = offsetof(cache_options, source)};

static const char *const kinds[] = {
    [QS_CACHE_LAYERS] = "layers", [QS_CACHE_TOKENS] = "tokens", [QS_CACHE_LEFT_OVER] = "left over"};

static double megabytes(uint64_t bytes) { return (double)bytes * 1e-6; }

/* ---- list -------------------------------------------------------------------------------------------- */

static void date_of(time_t when, char out[32])
{
    struct tm t;
    strftime(out, 32, "%Y-%m-%d %H:%M", localtime_r(&when, &t));
}

static json_t *entry_json(const qs_cache_entry *c)
{
    json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I, s:b}", "kind", kinds[c->kind], "path", c->path, "model",
                          c->model, "bytes", (json_int_t)c->bytes, "last_used", (json_int_t)c->used, "in_use",
                          (int)c->in_use);
    if (o && c->kind == QS_CACHE_LAYERS) {
        json_object_set_new(o, "layers", json_integer(c->blobs));
        json_object_set_new(o, "present", json_integer(c->present));
        if (c->model_path) json_object_set_new(o, "model_path", json_string(c->model_path));
        if (c->format) json_object_set_new(o, "format", json_string(c->format));
    }
    if (o && c->unusable) json_object_set_new(o, "unusable", json_string(c->unusable));
    return o;
}

static void print_entry(const qs_cache_entry *c)
{
    char when[32], what[160];
    date_of(c->used, when);
    if (c->unusable)
        snprintf(what, sizeof what, "unusable: %s", c->unusable);
    else if (c->kind == QS_CACHE_LAYERS)
        snprintf(what, sizeof what, "%s, %d of %d blobs%s", *c->model ? c->model : "?", c->present, c->blobs,
                 c->part_count > 1 ? ", striped" : "");
    else
        snprintf(what, sizeof what, "%s",
                 c->kind == QS_CACHE_TOKENS ? "tokenised data" : "left by a run that was killed");
    printf("%-9s %10.1f MB  %s%s  %s\n            %s\n", kinds[c->kind], megabytes(c->bytes), when,
           c->in_use ? " (in use)" : "", what, c->path);
    if (c->part_count > 1) printf("            part %d of %d\n", c->part, c->part_count);
}

static int list(const qs_cache_list *l, const cache_options *o, qs_err *e)
{
    uint64_t sum = 0;
    if (o->json) {
        json_t *all = json_array();
        for (int i = 0; i < l->count; i++) json_array_append_new(all, entry_json(&l->entries[i]));
        json_dumpf(all, stdout, JSON_INDENT(2));
        printf("\n");
        json_decref(all);
        return 0;
    }
    for (int i = 0; i < l->count; i++) {
        print_entry(&l->entries[i]);
        sum += l->entries[i].bytes;
    }
    printf("%d cache%s, %.1f MB\n", l->count, l->count == 1 ? "" : "s", megabytes(sum));
    return 0;
}

/* ---- verify ------------------------------------------------------------------------------------------ */

static int verify_one(const qs_cache_entry *c, const cache_options *o, int *bad, qs_err *e)
{
    qs_cache_findings f;
    if (c->unusable) {
        printf("%s: unusable: %s; `cache prune` removes it\n", c->path, c->unusable);
        ++*bad;
        return 0;
    }
    if (c->part != 1) return 0; /* looked at with its first part */
    int rc = qs_cache_verify_layers(c, o->model, &f, e);
    if (!rc) {
        printf("%s: %s: %d of %d blobs are there; %d checked, %d damaged\n", c->path, c->model, c->present,
               c->blobs, f.checked, f.damaged);
        if (f.model)
            printf("  %s: %d blobs compared with what they were made from, %d differ\n", f.model, f.compared,
                   f.changed);
        else
            printf("  the model was not compared: %s\n", f.why_not);
        if (f.damaged + f.changed)
            printf("  the next run makes %d blob%s again\n", f.damaged + f.changed,
                   f.damaged + f.changed == 1 ? "" : "s");
        *bad += f.damaged + f.changed > 0;
    }
    qs_free(f.model);
    return rc;
}

static int verify(const qs_cache_list *l, const cache_options *o, qs_err *e)
{
    int bad = 0, seen = 0;
    for (int i = 0; i < l->count; i++)
        if (l->entries[i].kind == QS_CACHE_LAYERS) {
            seen++;
            QS_TRY(verify_one(&l->entries[i], o, &bad, e));
        }
    if (!seen) printf("there is no layer cache\n");
    if (bad) QS_FAIL(e, QS_EFORMAT, "%d of %d layer caches are not as they should be", bad, seen);
    return 0;
}

/* ---- prune ------------------------------------------------------------------------------------------- */

static int prune(const qs_cache_list *l, const cache_options *o, qs_err *e)
{
    uint64_t freed = 0;
    int gone = 0;
    time_t now = time(NULL);
    for (int i = 0; i < l->count; i++) {
        const qs_cache_entry *c = &l->entries[i];
        bool old = now - c->used >= o->days * DAY_SECONDS,
             useless = c->unusable || c->kind == QS_CACHE_LEFT_OVER;
        if (!o->all && !old && !useless) continue;
        if (c->kind == QS_CACHE_LAYERS && c->part != 1) continue; /* goes with its first part */
        if (c->in_use) {
            printf("in use, stays: %s\n", c->path);
            continue;
        }
        int removed = o->dry_run ? 1 : qs_cache_remove(c, e);
        if (removed < 0) return removed;
        printf("%s: %s (%.1f MB%s%s)\n",
               !removed     ? "in use, stays"
               : o->dry_run ? "would go"
                            : "removed",
               c->path, megabytes(c->bytes), *c->model ? ", " : "", c->model);
        gone += removed;
        freed += removed ? c->bytes : 0;
    }
    printf("%d cache%s, %.1f MB %s\n", gone, gone == 1 ? "" : "s", megabytes(freed),
           o->dry_run ? "would be freed" : "freed");
    return 0;
}

/* ---- the command ------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*run)(const qs_cache_list *, const cache_options *, qs_err *);
} actions[] = {{"list", list}, {"verify", verify}, {"prune", prune}};
enum { ACTIONS = sizeof actions / sizeof *actions };

static int act(const qs_strings *words, const cache_options *o, qs_err *e)
{
    qs_options defaults = {0};
    qs_cache_list l = {0};
    int k = 0;
    while (k < ACTIONS && (!words->count || strcmp(words->items[0], actions[k].name))) k++;
    if (k == ACTIONS)
        QS_FAIL(e, QS_EUSAGE, "expected list, verify or prune, found %s",
                words->count ? words->items[0] : "nothing");
    int rc = qs_options_parse(&defaults, 0, NULL, NULL, 0, e); /* for the default folder */
    const qs_strings *roots = &defaults.cache;
    for (int i = 1; i < words->count && !rc; i++) rc = qs_cache_list_add(&l, words->items[i], e);
    for (int i = 0; i < roots->count && words->count == 1 && !rc; i++)
        rc = qs_cache_list_add(&l, roots->items[i], e);
    if (!rc) rc = actions[k].run(&l, o, e);
    qs_cache_list_free(&l);
    qs_options_free(&defaults);
    return rc;
}

static void help(FILE *f)
{
    cache_options o = {0};
    fprintf(f, "usage: qlora-stream cache list|verify|prune [FOLDER...] [options]\n\n"
               "Quantised layers and tokenised data that runs keep: by default those of the user's cache "
               "folder, else of the folders given to --cache.\n"
               "  list    which model, bytes on the disk, last use, and whether a run uses it now\n"
               "  verify  reads every layer and compares it with its checksum, and the model with what the "
               "layers were made from;\n"
               "          what does not match is made again by the next run\n"
               "  prune   removes what was not used for --days, and what this program cannot use; never what "
               "a run uses\n");
    qs_option_print_help(f, &(qs_option_set){&table, &o}, 1);
}

static int run(int argc, char **argv, qs_err *e)
{
    cache_options o = {0};
    qs_strings words = {0};
    qs_option_set set = {&table, &o};
    qs_option_defaults(&set, 1);
    int rc = qs_option_read_args(&set, 1, argc, argv, &words, e);
    if (!rc) rc = act(&words, &o, e);
    qs_strings_clear(&words);
    qs_option_clear(&set, 1);
    return rc;
}

const qs_command qs_command_cache = {
    "cache", "list, verify or remove the layers and data that runs keep on disk", help, run};
