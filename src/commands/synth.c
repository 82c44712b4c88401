/* synth.c - `qlora-stream synth`: a model directory of a known shape with made-up weights, as a recipe or as
 * real safetensors. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "offload/plan.h"
#include "src/base/memory.h"
#include "src/commands/commands.h"
#include "src/commands/synth.h"
#include "src/model/shapes.h"
#include "src/options/option.h"

typedef struct flags {
    char *shape, *out;
    int64_t seed, layers;
    bool weights;
    uint8_t source[8];
} flags;

#define ROW(field, kind, ...)                                                                        \
    {                                                                                                \
        .name = #field, .type = QS_OPT_##kind, .offset = offsetof(flags, field), .group = "Options", \
        __VA_ARGS__                                                                                  \
    }
static const qs_option rows[] = {
    ROW(shape, STRING, .help = "name of the model whose shape is taken"),
    ROW(out, PATH, .help = "model directory to write"),
    ROW(seed, INT, .fallback = "0", .max = 9e18, .help = "of the weights"),
    ROW(layers, INT, .fallback = "0", .max = 16384, .help = "that many layers; 0: the model's own number"),
    ROW(weights, BOOL, .fallback = "false",
        .help = "write the weights as safetensors (at most 20 GB); otherwise a recipe of a few KiB stands "
                "for them"),
};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(flags, source)};

static void help(FILE *f)
{
    flags o = {0};
    qs_option_set set = {&table, &o};
    fprintf(f, "usage: qlora-stream synth --shape NAME --out DIR [--seed N] [--layers N] [--weights]\n\n"
               "Writes a model directory whose tensors are made from (seed, name, index) whenever they are "
               "read, so that runs of any\n"
               "size can be measured without a download. It has no tokenizer: `bench` brings its own tokens, "
               "`train` needs data with\n"
               "input_ids.\n\nShapes:");
    for (int i = 0; qs_shape_name(i); i++) fprintf(f, " %s", qs_shape_name(i));
    fprintf(f, "\n\n");
    qs_option_defaults(&set, 1);
    qs_option_print_help(f, &set, 1);
    qs_option_clear(&set, 1);
}

int qs_synth_write(const char *shape, const char *out, uint64_t seed, int32_t layers, qs_architecture *a,
                   qs_err *e)
{
    const double std = 0.02; /* the initializer_range of these families */
    qs_shape s;
    QS_TRY(qs_shape_find(shape, &s, e));
    QS_TRY(qs_dir_create(out, e));
    char *path = qs_path_join(out, "config.json"), *config = qs_shape_config(&s, layers);
    int rc = qs_file_replace(path, config, strlen(config), e);
    qs_free(config);
    qs_free(path);
    if (!rc) rc = qs_architecture_read(out, a, e);
    QS_TRY(rc);
    qs_synthetic_entry *tensors;
    int count = qs_shape_tensors(a, &tensors);
    rc = qs_synthetic_write(out, shape, seed, std, tensors, count, e);
    qs_free(tensors);
    return rc;
}

/* Nobody's weights are written over; a recipe may be replaced. */
static int refuse_strangers(const char *out, qs_err *e)
{
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json", "config.json",
                                        QS_SYNTHETIC_NAME};
    bool there[4];
    for (int i = 0; i < 4; i++) {
        char *path = qs_path_join(out, names[i]);
        there[i] = qs_file_exists(path);
        qs_free(path);
    }
    if (there[0] || there[1] || (there[2] && !there[3]))
        QS_FAIL(e, QS_EINVAL, "%s already holds a model; choose another --out", out);
    return 0;
}

static int synth(const flags *o, qs_err *e)
{
    qs_architecture a;
    char bytes[16];
    QS_TRY(refuse_strangers(o->out, e));
    QS_TRY(qs_synth_write(o->shape, o->out, (uint64_t)o->seed, (int32_t)o->layers, &a, e));
    int64_t parameters = qs_architecture_parameters(&a);
    if (o->weights) QS_TRY(qs_synth_weights(o->out, e));
    printf("%s: %s, %lld parameters, %s of bf16 weights %s\n", o->out, o->shape, (long long)parameters,
           qs_format_bytes((uint64_t)parameters * 2, bytes),
           o->weights ? "in safetensors" : "made as they are read");
    return 0;
}

static int run(int argc, char **argv, qs_err *e)
{
    flags o = {0};
    qs_option_set set = {&table, &o};
    qs_option_defaults(&set, 1);
    int rc = qs_option_read_args(&set, 1, argc, argv, NULL, e);
    if (!rc && (!o.shape || !o.out))
        rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__, "%s is missing",
                        o.shape ? "--out DIR" : "--shape NAME");
    if (!rc) rc = synth(&o, e);
    qs_option_clear(&set, 1);
    return rc;
}

const qs_command qs_command_synth = {"synth", "write a model of a known shape with made-up weights", help,
                                     run};
