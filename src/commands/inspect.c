/* inspect.c - `qlora-stream inspect DIR`: what a model or an adapter directory holds.
 *
 * Of a model: the architecture, its parameters by part with their bytes in 16 bits and in 4, what an adapter
 * with the given
 * --lora_r, --target_modules ... would train, and the weights found, checked against config.json; that file
 * alone is enough. Of an adapter: r, alpha, targets and size.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/model_dir.h"
#include "io/safetensors.h"
#include "io/synthetic.h"
#include "offload/plan.h"
#include "src/base/memory.h"
#include "src/commands/commands.h"
#include "src/model/architecture.h"
#include "src/model/lora.h"
#include "src/model/parts/part.h"
#include "src/options/options.h"
#include "src/train/engine.h"

/* 6738415616 as "6,738,415,616". */
static const char *grouped(int64_t n, char text[32])
{
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%lld", (long long)n), at = 0;
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = 0;
    return text;
}

/* ---- the model --------------------------------------------------------------------------------------- */

static const char *rope_text(const qs_rotary *a, char *text, size_t bytes)
{
    static const char *const names[] = {"", "linear", "dynamic", "llama3", "yarn"};
    char theta[32];
    int n = snprintf(text, bytes, "rope theta %s", grouped((int64_t)a->theta, theta));
    if (a->scaling != QS_ROPE_PLAIN)
        snprintf(text + n, bytes - (size_t)n, ", %s scaling by %g", names[a->scaling], a->factor);
    return text;
}

/* "128 in 5 of every 6 layers": which layers have this window. */
static void print_windows(const qs_architecture *a)
{
    for (int k = 0; k < a->kinds; k++) {
        int32_t window = a->kind[k].part[0].attention.window, layers = 0;
        char t[32];
        for (int32_t l = 0; l < a->layers; l++) layers += a->kind_of[l] == k;
        if (!window) continue;
        if (layers == a->layers)
            printf("  sliding window of %s\n", grouped(window, t));
        else
            printf("  sliding window of %s in %d of %d layers\n", grouped(window, t), layers, a->layers);
    }
}

static void print_architecture(const char *dir, const qs_architecture *a)
{
    static const char *const activations[] = {"silu", "gelu (tanh)", "gelu (erf)"};
    char t[3][32], rope[96];
    const qs_layer *l = qs_architecture_layer(a, 0);
    const qs_attention_config *attention = &l->part[0].attention;
    const qs_mlp_config *mlp = &l->part[1].mlp;
    printf("%s: %s\n\n", dir, a->class_name);
    printf("  %s layers, hidden %s, ffn %s, %s\n", grouped(a->layers, t[0]), grouped(a->hidden, t[1]),
           grouped(mlp->ffn, t[2]), activations[mlp->activation]);
    if (l->parallel) printf("  attention and mlp in parallel\n");
    if (a->rotary[0].dim < attention->head_dim) printf("  %d columns of a head rotate\n", a->rotary[0].dim);
    printf("  %d heads of %d, %d key and value heads%s%s%s%s\n", attention->heads, attention->head_dim,
           attention->kv_heads, attention->qk_norm ? ", q and k norm" : "",
           attention->qkv_bias ? ", q k v bias" : "", attention->o_bias ? ", o bias" : "",
           mlp->bias ? ", mlp bias" : "");
    printf("  vocabulary %s, %s, positions %s, %s\n", grouped(a->vocab, t[0]),
           a->tied ? "head tied to the embedding" : "separate head", grouped(a->max_positions, t[1]),
           rope_text(&a->rotary[0], rope, sizeof rope));
    print_windows(a);
}

typedef struct share {
    const char *name;
    int64_t linear[QS_TENSORS_MAX], linears; /* elements of each quantised matrix */
    int64_t other;                           /* elements that stay in 16 bits */
    int64_t times;
} share;

/* Bytes of one such part; nested: the block scales are quantised as well. */
static uint64_t part_bytes(const share *p, qs_quant_type type, bool nested)
{
    uint64_t bytes = 2 * (uint64_t)p->other;
    for (int64_t i = 0; i < p->linears; i++) {
        int64_t n = p->linear[i], blocks = qs_quant_blocks(n);
        if (type == QS_QUANT_NONE)
            bytes += 2 * (uint64_t)n;
        else
            bytes += (uint64_t)(n + 1) / 2 +
                     (uint64_t)(nested ? blocks + 4 * qs_nested_blocks(n) + 4 : 4 * blocks);
    }
    return bytes;
}

static int64_t part_parameters(const share *p)
{
    int64_t n = p->other;
    for (int64_t i = 0; i < p->linears; i++) n += p->linear[i];
    return n;
}

static void print_row(const char *name, int64_t parameters, const uint64_t bytes[3])
{
    char n[32], b[3][16];
    printf("  %-24s %16s %12s %12s %12s\n", name, grouped(parameters, n), qs_format_bytes(bytes[0], b[0]),
           qs_format_bytes(bytes[1], b[1]), qs_format_bytes(bytes[2], b[2]));
}

/* Adds the part, `times` over, to the totals and prints it. */
static void print_part(const share *p, int64_t *total, uint64_t total_bytes[3])
{
    int64_t parameters = part_parameters(p) * p->times;
    uint64_t bytes[3] = {part_bytes(p, QS_QUANT_NONE, false), part_bytes(p, QS_QUANT_NF4, false),
                         part_bytes(p, QS_QUANT_NF4, true)};
    for (int i = 0; i < 3; i++) total_bytes[i] += bytes[i] *= (uint64_t)p->times;
    *total += parameters;
    print_row(p->name, parameters, bytes);
}

/* A layer's tensor, `times` over. */
static void add_tensor(share *p, const qs_tensor *t, int64_t times)
{
    if (t->role != QS_TENSOR_LINEAR)
        p->other += times * t->out;
    else
        p->linear[p->linears++] = (int64_t)t->out * t->in;
}

static void print_parts(const qs_architecture *a)
{
    const qs_layer *l = qs_architecture_layer(a, 0);
    share embedding = {.name = "embedding", .other = (int64_t)a->vocab * a->hidden, .times = 1};
    share attention = {.name = "attention, all layers", .times = a->layers},
          mlp = {.name = "mlp, all layers", .times = a->layers};
    share norms = {.name = "norms", .times = 1, .other = qs_norm_floats(a)},
          head = {.name = "head", .other = embedding.other, .times = 1};
    share layer = {.name = "of which one layer", .times = 1};
    for (int i = 0; i < l->tensors; i++) {
        const qs_tensor *t = &l->tensor[i];
        add_tensor(&layer, t, 1);
        if (t->group < 0)
            add_tensor(&norms, t, a->layers);
        else
            add_tensor(t->group < 2 ? &attention : &mlp, t, 1);
    }
    int64_t total = 0, ignored = 0;
    uint64_t bytes[3] = {0}, ignored_bytes[3] = {0};
    printf("\n  %-24s %16s %12s %12s %12s\n", "part", "parameters", "16-bit", "NF4", "NF4 double");
    print_part(&embedding, &total, bytes);
    print_part(&attention, &total, bytes);
    print_part(&mlp, &total, bytes);
    print_part(&norms, &total, bytes);
    if (!a->tied) print_part(&head, &total, bytes);
    QS_ASSERT(total == qs_architecture_parameters(a));
    print_row("total", total, bytes);
    print_part(&layer, &ignored, ignored_bytes);
}

static void print_targets(const qs_lora *l)
{
    int32_t layers = 0;
    for (int32_t i = 0; i < l->layers; i++) layers += l->layer_mask[i];
    const qs_lora_layer *first = NULL;
    for (int32_t i = 0; i < l->layers && !first; i++)
        if (l->layer_mask[i]) first = qs_lora_of_layer(l, i);
    QS_ASSERT(first);
    for (int i = 0, n = 0; i < first->layer->tensors; i++) {
        char module[QS_TENSOR_NAME];
        if (first->slot[i].active)
            printf("%s%s", n++ ? ", " : "",
                   qs_module_last(qs_tensor_module(&first->layer->tensor[i], module)));
    }
    if (layers < l->layers) printf(" in %d of %d layers", layers, l->layers);
}

static int print_trainable(const qs_options *o, const qs_architecture *a, qs_err *e)
{
    qs_lora_config config = qs_lora_config_of(o);
    qs_lora l;
    QS_TRY(qs_lora_create(&config, a, &l, e));
    int64_t trainable = qs_lora_parameters(&l), all = trainable + qs_architecture_parameters(a);
    char t[2][32], b[16];
    printf("\n  LoRA of rank %d on ", l.config.r);
    print_targets(&l);
    printf(": %s in fp32\n  %s trainable of %s (%.4f%%)\n", qs_format_bytes((uint64_t)trainable * 4, b),
           grouped(trainable, t[0]), grouped(all, t[1]), 100.0 * (double)trainable / (double)all);
    qs_lora_free(&l);
    return 0;
}

/* Which types the tensors have, and their bytes. */
static void print_tensors(const qs_source_tensor *const *tensors, int count)
{
    printf("%d tensors", count);
    uint64_t total = 0;
    for (int i = 0; i < count; i++) {
        bool first = true;
        for (int k = 0; k < i && first; k++)
            first = strcmp(tensors[k]->type_name, tensors[i]->type_name) != 0;
        total += tensors[i]->bytes;
        if (first) printf(", %s", tensors[i]->type_name);
    }
    char b[16];
    printf(", %s\n", qs_format_bytes(total, b));
}

static int print_weights(const char *dir, const qs_architecture *a, qs_err *e)
{
    char *one = qs_path_join(dir, "model.safetensors"),
         *index = qs_path_join(dir, "model.safetensors.index.json"),
         *recipe = qs_path_join(dir, QS_SYNTHETIC_NAME);
    bool there = qs_file_exists(one) || qs_file_exists(index) || qs_file_exists(recipe);
    qs_free(one);
    qs_free(index);
    qs_free(recipe);
    if (!there) {
        printf("\n  weights: none in safetensors here\n");
        return 0;
    }
    qs_source *s;
    QS_TRY(qs_source_open(dir, &s, e));
    int count = qs_source_count(s), files = qs_source_files(s);
    const qs_source_tensor **tensors = qs_malloc(((size_t)count + 1) * sizeof *tensors);
    for (int i = 0; i < count; i++) tensors[i] = qs_source_at(s, i);
    printf("\n  weights: %d %s, ", files, files == 1 ? "file" : "shards");
    print_tensors(tensors, count);
    qs_free(tensors);
    int rc = qs_architecture_check(a, s, e);
    if (!rc) printf("  every tensor that config.json asks for is there, in the right shape\n");
    qs_source_close(s);
    return rc;
}

static int inspect_model(const char *dir, const qs_options *o, qs_err *e)
{
    qs_architecture a;
    QS_TRY(qs_architecture_read(dir, &a, e));
    print_architecture(dir, &a);
    print_parts(&a);
    QS_TRY(print_trainable(o, &a, e));
    return print_weights(dir, &a, e);
}

/* ---- an adapter -------------------------------------------------------------------------------------- */

static void print_names(const char *option, qs_lora_names names)
{
    for (int i = 0; i < names.count; i++) {
        if (!i) printf("\n  %s: ", option);
        printf("%s%s", i ? ", " : "", names.item[i]);
    }
}

static int inspect_adapter(const char *dir, qs_err *e)
{
    qs_peft_config c;
    QS_TRY(qs_peft_read_config(dir, &c, e));
    printf("%s: LoRA adapter in PEFT's format\n\n  r %d, lora_alpha %g, scaling %g%s, dropout %g\n  base "
           "model: %s\n  target_modules: ",
           dir, c.lora.r, c.lora.alpha, c.lora.alpha / (c.lora.rslora ? sqrt(c.lora.r) : c.lora.r),
           c.lora.rslora ? " (rank-stabilised)" : "", (double)c.lora.dropout,
           c.base_model ? c.base_model : "not named");
    for (int i = 0; i < c.lora.targets.count; i++) printf("%s%s", i ? ", " : "", c.lora.targets.item[i]);
    print_names("exclude_modules", c.lora.exclude);
    print_names("layers_to_transform", c.lora.layers);
    print_names("rank_pattern", c.lora.rank_pattern);
    print_names("alpha_pattern", c.lora.alpha_pattern);
    qs_peft_config_free(&c);

    char *path = qs_path_join(dir, "adapter_model.safetensors"), t[32];
    qs_safetensors s;
    int rc = qs_safetensors_open(path, &s, e);
    qs_free(path);
    printf("\n");
    if (rc) return rc;
    int64_t parameters = 0;
    const qs_source_tensor **tensors = qs_malloc(((size_t)s.count + 1) * sizeof *tensors);
    for (int i = 0; i < s.count; i++) {
        int64_t n = 1;
        for (int d = 0; d < s.tensors[i].dims; d++) n *= s.tensors[i].shape[d];
        parameters += n;
        tensors[i] = &s.tensors[i];
    }
    printf("  %s parameters: ", grouped(parameters, t));
    print_tensors(tensors, s.count);
    qs_free(tensors);
    qs_safetensors_free(&s);
    return 0;
}

/* ---- the command ------------------------------------------------------------------------------------- */

static int inspect(const char *dir, const qs_options *o, qs_err *e)
{
    char *config = qs_path_join(dir, "config.json"), *adapter = qs_path_join(dir, "adapter_config.json");
    bool is_adapter = qs_file_exists(adapter) && !qs_file_exists(config);
    qs_free(adapter);
    qs_free(config);
    if (is_adapter) return inspect_adapter(dir, e);
    char *model, *hub = qs_options_hub_cache();
    int rc = qs_model_dir(dir, hub, &model, e);
    qs_free(hub);
    if (!rc) rc = inspect_model(model, o, e);
    qs_free(model);
    return rc;
}

/* The rows about adapters out of the training table: what else a run can be told has no meaning here. */
static qs_option_set adapter_options(qs_options *o, qs_option_table *view)
{
    const qs_option_table *all = &qs_training_options;
    int first = 0, end;
    while (strcmp(all->rows[first].group, "Adapter") != 0) first++;
    for (end = first; end < all->count && strcmp(all->rows[end].group, "Adapter") == 0; end++) {
    }
    *view = (qs_option_table){.rows = all->rows + first,
                              .count = end - first,
                              .sources_offset = all->sources_offset + (size_t)first};
    return (qs_option_set){view, o};
}

static void help(FILE *f)
{
    qs_options o = {0};
    qs_option_table view;
    qs_option_set set = adapter_options(&o, &view);
    fprintf(f, "usage: qlora-stream inspect DIR [adapter options]\n\n"
               "Counts the parameters of a model directory, of which config.json is enough, and of an "
               "adapter on it; or describes an\n"
               "adapter directory.\n");
    qs_option_print_help(f, &set, 1);
}

static int run(int argc, char **argv, qs_err *e)
{
    qs_options o = {0};
    qs_option_table view;
    qs_option_set set = adapter_options(&o, &view);
    qs_strings words = {0};
    qs_option_defaults(&set, 1);
    int rc = qs_option_read_args(&set, 1, argc, argv, &words, e);
    if (!rc && words.count != 1)
        rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__, "expected one model or adapter directory, found %d",
                        words.count);
    if (!rc) rc = inspect(words.items[0], &o, e);
    qs_strings_clear(&words);
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_inspect = {"inspect", "count a model's parameters, or describe an adapter", help,
                                       run};
