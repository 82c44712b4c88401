/* bench_hidden.c - is streaming hidden? A step with a quarter of the layers resident against its two bounds,
 * over tokens per step.
 *
 *     make bench-hidden DIR=path [TOKENS="64 512"]      or      build/release/bench/bench_hidden DIR
 * [tokens...]
 *
 * The claim: step <= 1.05 x max(compute alone, disk alone) + one layer. For every number of tokens the
 * program's own `bench` runs twice, on Llama 3.2 1B's shape with equal sizes: streamed        a quarter of
 * the blobs (layers and head tiles) resident, spread evenly as the planner does, the default ring compute
 * alone   all but one resident, and that one stays in the ring: nothing is read after the first step, but the
 * plan is not given the memory for logits either, so that both compute the same disk alone is the bytes of
 * the streamed step at the rate that the streamer has without compute, measured in the same run; one layer,
 * the longest visit of the streamed step. Both runs take the fastest of their steps after the first; of one
 * step from 4,096 tokens on, where a cold start is less than 1 %. DIR needs 2 GB, and keeps the cache and
 * each run's profile. All tokens: about half an hour on two cores. The figure is DIR/hidden.svg.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/file.h"
#include "src/base/memory.h"

enum { MOST = 32, LAYERS = 16 };
static const char *dir;
static qs_err e;

static void fail(const char *what, const char *path)
{
    fprintf(stderr, "bench_hidden: %s %s\n", path, what);
    exit(1);
}

/* Runs the program's bench and returns its profile. */
static json_t *measure(const char *name, int tokens, int resident)
{
    int length = tokens < 512 ? tokens : 512, steps = tokens >= 4096 ? 1 : 3;
    char *out = qs_printf("%s/%s-%d", dir, name, tokens), *path = qs_path_join(out, "profile.json");
    char *command = qs_printf("./qlora-stream bench --quiet --shape llama-3.2-1b --cache '%s/cache' --out "
                              "'%s' --steps %d --resident_layers %d --max_seq_length %d "
                              "--gradient_accumulation_steps %d --per_device_train_batch_size 1 --vram 3G "
                              "--ram 3G --keep_in_ram 0 >/dev/null",
                              dir, out, steps, resident, length, tokens / length);
    if (system(command)) fail("failed", command);
    json_error_t why;
    json_t *profile = json_load_file(path, 0, &why);
    if (!profile) fail(why.text, path);
    qs_free(command);
    qs_free(path);
    qs_free(out);
    return profile;
}

static double number(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }

/* The fastest step after the first one, if there are several. */
static const json_t *best_step(const json_t *profile)
{
    const json_t *steps = json_object_get(profile, "steps"),
                 *best = json_array_get(steps, json_array_size(steps) - 1);
    for (size_t i = 1; i < json_array_size(steps); i++)
        if (number(json_array_get(steps, i), "step_seconds") < number(best, "step_seconds"))
            best = json_array_get(steps, i);
    return best;
}

/* Seconds of the longest visit of a layer. */
static double longest_visit(const json_t *step)
{
    const json_t *visits = json_object_get(step, "visits");
    double longest = 0;
    for (size_t i = 0; i < json_array_size(visits); i++) {
        const json_t *v = json_array_get(visits, i);
        bool layer = number(v, "blob") >= 0 && number(v, "blob") < LAYERS;
        if (layer && number(v, "duration_ns") * 1e-9 > longest) longest = number(v, "duration_ns") * 1e-9;
    }
    return longest;
}

/* A line of the figure, as rows that `plot` reads. */
static void write_line(const char *name, const int *tokens, const double *seconds, int count)
{
    char *folder = qs_path_join(dir, name), *path = qs_path_join(folder, "metrics.jsonl");
    if (qs_dir_create(folder, &e)) fail(e.text, folder);
    FILE *f = fopen(path, "w");
    if (!f) fail("cannot be written", path);
    for (int i = 0; i < count; i++)
        fprintf(f, "{\"step\":%d,\"step_seconds\":%.6g}\n", tokens[i], seconds[i]);
    fclose(f);
    qs_free(folder);
    qs_free(path);
}

static void draw(void)
{
    char *command = qs_printf("./qlora-stream plot '%s/streamed/metrics.jsonl' '%s/compute "
                              "alone/metrics.jsonl' '%s/disk alone/metrics.jsonl' --field step_seconds --log "
                              "--title 'Llama 3.2 1B, a quarter of the layers resident: a step and its "
                              "bounds' --x_label 'tokens per step' --y_label seconds "
                              "--out '%s/hidden.svg'",
                              dir, dir, dir, dir);
    if (system(command)) fail("failed", command);
    qs_free(command);
    printf("%s/hidden.svg\n", dir);
}

int main(int argc, char **argv)
{
    static const int all[] = {64, 128, 256, 512, 1024, 2048, 4096, 8192};
    int tokens[MOST], count = 0, blobs = 0, missed = 0;
    double streamed[MOST], compute[MOST], disk[MOST];
    if (argc < 2 || argc - 2 > MOST) {
        fprintf(stderr, "usage: bench_hidden DIR [tokens...]\n");
        return 2;
    }
    dir = argv[1];
    for (int i = 2; i < argc; i++) tokens[count++] = atoi(argv[i]);
    for (size_t i = 0; !count && i < sizeof all / sizeof *all; i++) tokens[i] = all[i];
    if (!count) count = sizeof all / sizeof *all;
    for (int i = 0; i < count; i++)
        if (tokens[i] < 2 || (tokens[i] > 512 && tokens[i] % 512))
            fail("is no number of tokens: at most 512, or a multiple of it", argv[i + 2]);
    if (qs_dir_create(dir, &e)) fail(e.text, dir);
    setvbuf(stdout, NULL, _IOLBF, 0);

    json_t *first = measure("first", 16, 0); /* makes the cache, and knows how many blobs there are */
    const json_t *visits = json_object_get(best_step(first), "visits");
    for (size_t v = 0; v < json_array_size(visits); v++)
        if (number(json_array_get(visits, v), "blob") >= blobs)
            blobs = (int)number(json_array_get(visits, v), "blob") + 1;
    json_decref(first);

    printf("Llama 3.2 1B's shape, %d of %d blobs resident; seconds\n%8s %10s %10s %10s %10s %10s %10s %7s\n",
           blobs / 4, blobs, "tokens", "streamed", "compute", "disk", "one layer", "bound", "waits", "ratio");
    for (int i = 0; i < count; i++) {
        json_t *part = measure("part", tokens[i], blobs / 4), *whole = measure("whole", tokens[i], blobs - 1);
        const json_t *step = best_step(part);
        streamed[i] = number(step, "step_seconds");
        disk[i] = number(step, "disk_alone_seconds");
        compute[i] = number(best_step(whole), "step_seconds");
        double layer = longest_visit(step),
               bound = 1.05 * (compute[i] > disk[i] ? compute[i] : disk[i]) + layer;
        missed += streamed[i] > bound;
        printf("%8d %10.3f %10.3f %10.3f %10.3f %10.3f %10.3f %7.3f\n", tokens[i], streamed[i], compute[i],
               disk[i], layer, bound, number(step, "wait_disk_seconds"), streamed[i] / bound);
        json_decref(part);
        json_decref(whole);
    }
    printf(missed ? "%d of %d steps took longer than their bound\n"
                  : "every step is within its bound (ratio: step / bound)\n",
           missed, count);
    write_line("streamed", tokens, streamed, count);
    write_line("compute alone", tokens, compute, count);
    write_line("disk alone", tokens, disk, count);
    draw();
    return missed != 0;
}
