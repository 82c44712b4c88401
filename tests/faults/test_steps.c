/* Many steps of a run cost no more than few: resident memory, open files and the time of a step stay flat.
 * Slopes are measured, not just ends.
 *
 *     test_steps [--short]       10,000 steps of each kind, or some hundred; QS_HARNESS=short is the same
 */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/memory.h"
#include "tests/faults/harness.h"

enum { SAMPLES = 1 << 16, MOST_STEPS = 20000 };

typedef struct sample {
    double at, resident, files;
} sample;

typedef struct watch {
    sample s[SAMPLES];
    int count;
} watch;

static watch seen;
static double seconds[MOST_STEPS + 1];

static void look(void *user, int pid)
{
    watch *w = user;
    char path[64];
    long pages = 0, size;
    int files = 0;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%ld %ld", &size, &pages) != 2) pages = 0;
    if (f) fclose(f);
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = opendir(path);
    while (d && readdir(d)) files++;
    if (d) closedir(d);
    if (pages > 0 && files > 2 && w->count < SAMPLES) {
        w->s[w->count] = (sample){w->count, (double)pages * (double)sysconf(_SC_PAGESIZE), files - 2};
        w->count++;
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *v, int n)
{
    double *copy = malloc((size_t)n * sizeof *copy), m;
    memcpy(copy, v, (size_t)n * sizeof *copy);
    qsort(copy, (size_t)n, sizeof *copy, ascending);
    m = copy[n / 2];
    free(copy);
    return m;
}

/* How much a value changes from a sixth of the run to its end: the median slope between points half of that
 * apart (Theil and Sen), which a few odd ones do not move. */
static double rise(const double *v, int n)
{
    int from = n / 6, half = (n - from) / 2;
    double *slopes = malloc((size_t)half * sizeof *slopes), r;
    for (int i = 0; i < half; i++) slopes[i] = (v[from + half + i] - v[from + i]) / half;
    r = median(slopes, half) * (n - from);
    free(slopes);
    return r;
}

static int read_seconds(const char *dir)
{
    char *path = qs_printf("%s/o/metrics.jsonl", dir), line[4096];
    FILE *f = fopen(path, "r");
    int n = 0;
    while (f && fgets(line, sizeof line, f) && n < MOST_STEPS) {
        json_t *row = json_loads(line, 0, NULL), *value = json_object_get(row, "step_seconds");
        if (value) seconds[n++] = json_number_value(value);
        json_decref(row);
    }
    if (f) fclose(f);
    qs_free(path);
    return n;
}

/* Whether it stays flat; prints the figures. Of a busy machine the times say nothing, so they count only
 * where `timed`. */
static bool run(const harness_kind *k, int steps, bool timed, const char *const *env)
{
    char text[HARNESS_TEXT], *dir = harness_folder("steps"), *limit = qs_printf("--max_steps=%d", steps),
                             *save = qs_printf("--save_steps=%d", steps / 8);
    const char *more[] = {limit, save, "--eval_steps=1000000", NULL};
    seen.count = 0;
    int status = harness_observe(k, dir, more, env, look, &seen, text), n = read_seconds(dir),
        count = seen.count;
    harness_remove(dir);
    free(dir);
    qs_free(limit);
    qs_free(save);
    if (status || n != steps || count < 24) {
        printf("steps: %s: the run ends with %d after %d of %d steps, looked at %d times: %s\n", k->name,
               status, n, steps, count, text);
        return false;
    }
    static double resident[SAMPLES], files[SAMPLES];
    for (int i = 0; i < count; i++) {
        resident[i] = seen.s[i].resident;
        files[i] = seen.s[i].files;
    }
    double early = median(seconds + n / 6, n / 6), late = median(seconds + n - n / 6, n / 6),
           growth = rise(resident, count), more_files = rise(files, count);
    bool flat = growth < 512 << 10 && more_files < 0.5 && (!timed || late < 1.5 * early);
    printf("steps: %s: %d steps: resident memory %+.0f KiB of %.1f MiB, open files %+.1f of %.0f, a step "
           "%.3f ms early and %.3f ms late: %s\n",
           k->name, steps, growth / 1024, median(resident, count) / 1048576, more_files, median(files, count),
           1e3 * early, 1e3 * late, flat ? "flat" : "NOT flat");
    fflush(stdout);
    return flat;
}

int main(int argc, char **argv)
{
    bool short_form = harness_is_short(argc, argv);
    int failed = 0;
    const char *leak[] = {"QS_FAULT_LEAK=1", NULL};
    harness_open(argv[0]);
    failed += !run(&harness_kinds[0], short_form ? 600 : 10000, !short_form, NULL);
    failed += !run(&harness_kinds[1], short_form ? 150 : 10000, !short_form, NULL);
    printf("steps: a run that leaks on purpose:\n");
    failed += run(&harness_kinds[0], 600, false, leak);
    harness_close();
    printf("%d%%: Checks: 3, Failures: %d\n", failed ? 0 : 100, failed);
    return failed != 0;
}
