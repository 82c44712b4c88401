/* A driver without an engine: runs a target over its seeds, its corpus and a fixed number of mutations of
 * them.
 *
 *     fuzz_NAME [FILE or FOLDER ...]        without arguments: tests/fuzz/corpus/NAME and $QS_FUZZ_SEEDS/NAME
 *     QS_FUZZ_MUTATIONS                     how many mutations, 1000
 *
 * The same inputs come in the same order every time. Before each the input is left in $QS_FUZZ_LAST when that
 * is set.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

static input *seeds;
static int seed_count;
static uint32_t draws;

static uint32_t below(size_t n) { return n ? (uint32_t)(qs_philox(1, 2, draws++, 0, 0, 0).v[0] % n) : 0; }

static void add_file(const char *path)
{
    char *text;
    size_t bytes;
    qs_err e = {0};
    if (qs_file_read(path, 1 << 24, &text, &bytes, &e)) {
        fprintf(stderr, "%s\n", e.text);
        exit(2);
    }
    seeds = realloc(seeds, (size_t)(seed_count + 1) * sizeof *seeds);
    seeds[seed_count++] = (input){(uint8_t *)text, bytes};
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* A file, or all files of a folder, in the order of their names. */
static void add(const char *path, int must_be_there)
{
    struct stat st;
    if (stat(path, &st)) {
        if (!must_be_there) return;
        perror(path);
        exit(2);
    }
    if (!S_ISDIR(st.st_mode)) {
        add_file(path);
        return;
    }
    struct dirent **list;
    int n = scandir(path, &list, NULL, by_name);
    for (int i = 0; i < n; i++) {
        char *file = qs_path_join(path, list[i]->d_name);
        if (list[i]->d_name[0] != '.') add_file(file);
        qs_free(file);
        free(list[i]);
    }
    free(list);
}

static void run(const uint8_t *data, size_t size)
{
    const char *last = getenv("QS_FUZZ_LAST");
    FILE *f = last ? fopen(last, "wb") : NULL;
    if (f) {
        fwrite(data, 1, size, f);
        fclose(f);
    }
    uint8_t *copy = malloc(size ? size : 1); /* of its own size, so that a sanitizer sees a read beyond it */
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

/* Replaces n bytes at `at` of *in by `text`. */
static void replace(input *in, size_t at, size_t n, const void *text, size_t bytes)
{
    uint8_t *out = malloc(in->size - n + bytes + 1);
    memcpy(out, in->data, at);
    memcpy(out + at, text, bytes);
    memcpy(out + at + bytes, in->data + at + n, in->size - at - n);
    free(in->data);
    *in = (input){out, in->size - n + bytes};
}

/* A number of the text, if there is one near. */
static void replace_number(input *in)
{
    static const char *const values[] = {"0",
                                         "-1",
                                         "1",
                                         "2147483647",
                                         "4294967296",
                                         "9223372036854775807",
                                         "99999999999999999999",
                                         "1e999",
                                         "-0.5",
                                         "null",
                                         "\"\"",
                                         "[]",
                                         "{}",
                                         "NaN"};
    size_t at = below(in->size), n = 0;
    while (at < in->size && (in->data[at] < '0' || in->data[at] > '9')) at++;
    while (at + n < in->size && in->data[at + n] >= '0' && in->data[at + n] <= '9') n++;
    const char *v = values[below(sizeof values / sizeof *values)];
    replace(in, at, n, v, strlen(v));
}

static void mutate(input *in)
{
    static const uint8_t bytes[] = {0,   1,   0x7f, 0x80, 0xff, '"', '{', '}', '[',  ']',
                                    ',', ':', '\\', '\n', ' ',  '%', '<', '>', 0xc3, 0xf4};
    size_t at = below(in->size), n = 1 + below(in->size - at < 64 ? in->size - at : 64);
    if (!in->size) return;
    if (n > in->size - at) n = in->size - at;
    const input *other = &seeds[below((size_t)seed_count)];
    switch (below(8)) {
    case 0:
        in->data[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        in->data[at] = bytes[below(sizeof bytes)];
        break;
    case 2:
        in->size = at;
        break;
    case 3:
        replace(in, at, n, "", 0);
        break;
    case 4:
        replace(in, at, 0, in->data + at, n);
        break;
    case 5:
        replace(in, at, 0, &bytes[below(sizeof bytes)], 1);
        break;
    case 6:
        replace_number(in);
        break;
    default:
        replace(in, at, n, other->data, below(other->size + 1));
        break;
    }
}

int main(int argc, char **argv)
{
    LLVMFuzzerInitialize(&argc, &argv);
    const char *name = strrchr(argv[0], '/'), *root = getenv("QS_FUZZ_SEEDS"),
               *count = getenv("QS_FUZZ_MUTATIONS");
    name = (name ? name + 1 : argv[0]) + strlen("fuzz_");
    for (int i = 1; i < argc; i++) add(argv[i], 1);
    if (argc == 1) {
        char *corpus = qs_path_join("tests/fuzz/corpus", name), *made = qs_path_join(root ? root : ".", name);
        add(corpus, 0);
        add(made, 0);
        qs_free(corpus);
        qs_free(made);
    }
    if (!seed_count) {
        fprintf(stderr, "fuzz_%s: there are no seeds; write a function for it in tests/fuzz/seeds.sh\n",
                name);
        return 2;
    }
    run((const uint8_t *)"", 0);
    for (int i = 0; i < seed_count; i++) run(seeds[i].data, seeds[i].size);
    int mutations = count ? (int)strtol(count, NULL, 10) : 1000;
    for (int i = 0; i < mutations; i++) {
        const input *seed = &seeds[below((size_t)seed_count)];
        input in = {malloc(seed->size + 1), seed->size};
        memcpy(in.data, seed->data, seed->size);
        for (uint32_t k = 1 + below(4); k; k--) mutate(&in);
        run(in.data, in.size);
        free(in.data);
    }
    printf("100%%: %d seeds, %d mutations\n", seed_count, mutations);
    for (int i = 0; i < seed_count; i++) qs_free(seeds[i].data);
    free(seeds);
    return 0;
}
