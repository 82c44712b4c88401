/* generate.c - `qlora-stream generate`: text from a model, with or without an adapter, on the training engine
 * itself.
 *
 * Every token is one forward sweep over everything so far: no key-value cache, so this is for looking at what
 * a fine-tune has done and for models of any size inside the same budgets, not for serving. Text is shown as
 * it comes. Greedy unless --temperature is given; sampling is a function of the seed and the position.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/interrupt.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/commands/commands.h"
#include "src/commands/sampling.h"
#include "src/commands/text_stream.h"
#include "src/data/conversation.h"
#include "src/train/engine.h"

typedef struct generate_options {
    qs_strings prompt, instruction, stop;
    char *adapter, *system, *prompts;
    int64_t max_new_tokens, top_k;
    double temperature, top_p, min_p, repetition_penalty;
    uint8_t source[16];
} generate_options;

#define ROW(field, kind, ...)                                                               \
    {                                                                                       \
        .name = #field, .type = QS_OPT_##kind, .offset = offsetof(generate_options, field), \
        .group = "Generation", __VA_ARGS__                                                  \
    }
static const qs_option rows[] = {
    ROW(prompt, TEXTS,
        .help = "text to go on from; may be given several times. Without any prompt, standard input is one"),
    ROW(prompts, PATH, .help = "file of prompts, one a line"),
    ROW(instruction, TEXTS,
        .help = "the same, put to the model as a question in its chat template (--chat_template)"),
    ROW(system, STRING, .help = "system message before each --instruction"),
    ROW(adapter, PATH, .aliases = "lora",
        .help = "PEFT adapter directory: OUT of a run, or one of its checkpoints"),
    ROW(max_new_tokens, INT, .fallback = "64", .min = 1, .max = 1 << 20,
        .help = "tokens to add at most; ends earlier at the end-of-text token"),
    ROW(temperature, FLOAT, .fallback = "0", .min = 0, .max = 100,
        .help = "0: always the likeliest token; 1: as the model's probabilities say"),
    ROW(top_k, INT, .fallback = "0", .min = 0, .max = 1 << 24,
        .help = "sample from so many of the likeliest tokens; 0: from all"),
    ROW(top_p, FLOAT, .fallback = "1", .min = 0, .max = 1,
        .help = "sample from the fewest of the likeliest tokens that are together so likely"),
    ROW(min_p, FLOAT, .fallback = "0", .min = 0, .max = 1,
        .help = "sample from tokens at least this times as likely as the likeliest"),
    ROW(repetition_penalty, FLOAT, .fallback = "1", .min = 0.01, .max = 100,
        .help = "above 1: tokens that are in the text already become less likely"),
    ROW(stop, TEXTS, .help = "the text ends before this string; may be given several times"),
};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(generate_options, source)};

static void help(FILE *f)
{
    generate_options g = {0};
    qs_option_set set = {&table, &g};
    fprintf(f, "usage: qlora-stream generate --model DIR [--adapter DIR] --prompt TEXT | --instruction TEXT "
               "[options]\n\n"
               "Writes text on standard output as it comes. Memory, device and quantisation options are "
               "those of train.\n\n");
    qs_option_defaults(&set, 1);
    qs_option_print_help(f, &set, 1);
    qs_option_clear(&set, 1);
}

/* ---- prompts ----------------------------------------------------------------------------------------- */

static int encode_prompt(qs_tokenizer *t, const char *text, qs_ids *out, qs_err *e)
{
    const qs_token_info *info = qs_tokenizer_info(t);
    if (info->add_bos && info->bos >= 0) qs_ids_push(out, info->bos);
    return qs_tokenizer_encode(t, text, strlen(text), 0, out, e);
}

static int encode_instruction(const qs_options *o, qs_tokenizer *t, const char *system, const char *text,
                              qs_ids *out, qs_err *e)
{
    const qs_chat_template *chat;
    const qs_chat_choice choice = {o->model, o->chat_template, o->chat_template_kwargs, o->template_date};
    int rc = qs_chat_template_open(&choice, &chat, e);
    if (rc == -QS_EMISSING && (!o->chat_template || !strcmp(o->chat_template, "auto")))
        rc = qs_chat_template_by_name("alpaca", &chat, e);
    if (rc) return rc;
    qs_rendering r = {0};
    qs_labelled l = {0};
    if (qs_chat_template_jinja(chat)) {
        json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", text);
        if (system)
            json_array_insert_new(messages, 0, json_pack("{s:s, s:s}", "role", "system", "content", system));
        rc = qs_chat_jinja_render(qs_chat_template_jinja(chat), t, &(qs_conversation){.messages = messages},
                                  true, false, &r, e);
        json_decref(messages);
    } else {
        const qs_message m[] = {{QS_ROLE_SYSTEM, system, system ? strlen(system) : 0, false},
                                {QS_ROLE_USER, text, strlen(text), false}};
        rc = qs_chat_render(chat, t, system ? m : m + 1, system ? 2 : 1, true, false, &r, e);
    }
    if (!rc) rc = qs_rendering_encode(&r, t, &l, e);
    for (size_t i = 0; !rc && i < l.ids.count; i++) qs_ids_push(out, l.ids.data[i]);
    qs_chat_template_close(chat);
    qs_labelled_free(&l);
    qs_rendering_free(&r);
    return rc;
}

/* ---- tokens ------------------------------------------------------------------------------------------ */

static bool ends(const qs_architecture *a, const qs_token_info *t, int32_t id)
{
    for (int32_t i = 0; i < a->eos_count; i++)
        if (a->eos[i] == id) return true;
    return id == t->eos;
}

static void fill_batch(qs_micro_batch *b, const qs_ids *ids)
{
    b->tokens = (int64_t)ids->count;
    b->documents = 1;
    b->targets = 0;
    for (size_t i = 0; i < ids->count; i++) {
        b->ids[i] = ids->data[i];
        b->target[i] = -1;
        b->positions[i] = (int32_t)i;
        b->document_start[i] = 0;
    }
    b->offsets[0] = 0;
    b->offsets[1] = (int32_t)ids->count;
}

/* Without stop strings, white space before the first word is left out. */
static bool show(qs_text_stream *stream, const qs_tokenizer *t, const qs_ids *ids, size_t prompt, bool last)
{
    size_t bytes, lead = 0;
    char *text = qs_tokenizer_decode(t, ids->data + prompt, ids->count - prompt, true, &bytes);
    while (!stream->stops && (text[lead] == ' ' || text[lead] == '\n')) lead++;
    bool stopped = qs_text_stream_show(stream, text + lead, bytes - lead, last);
    qs_free(text);
    return stopped;
}

static int go_on(qs_engine *g, const qs_tokenizer *t, const generate_options *w, qs_ids *ids, float *logits,
                 qs_err *e)
{
    size_t prompt = ids->count;
    bool stopped = false;
    qs_text_stream stream = {
        .out = stdout, .stop = (const char *const *)w->stop.items, .stops = w->stop.count};
    const qs_sampling sampling = {.temperature = w->temperature,
                                  .top_k = w->top_k,
                                  .top_p = w->top_p,
                                  .min_p = w->min_p,
                                  .repetition_penalty = w->repetition_penalty,
                                  .seed = (uint64_t)g->options->seed};
    while (ids->count - prompt < (size_t)w->max_new_tokens && !stopped && !qs_interrupt_requested()) {
        fill_batch(qs_sweep_batch(g->sweep, 0), ids);
        QS_TRY(qs_sweep_logits(g->sweep, (int32_t)ids->count - 1, 1, logits, e));
        int32_t id =
            qs_sampling_next(&sampling, logits, g->architecture.vocab, ids->data, ids->count, ids->count);
        if (ends(&g->architecture, qs_tokenizer_info(t), id)) break;
        qs_ids_push(ids, id);
        stopped = show(&stream, t, ids, prompt, false);
    }
    if (!stopped) show(&stream, t, ids, prompt, true);
    printf("\n");
    fflush(stdout);
    return 0;
}

/* ---- the command ------------------------------------------------------------------------------------- */

/* Options of training that have no meaning here get values that make the smallest plan. */
static void settle(qs_options *o, const generate_options *w)
{
    o->per_device_train_batch_size = 1;
    o->gradient_accumulation_steps = 1;
    qs_strings_clear(&o->data);
    qs_strings_clear(&o->eval_data);
    o->lora_dropout = 0;
    if (!w->adapter) {
        o->lora_r = 1;
        return;
    }
    qs_free(o->init_adapter);
    o->init_adapter = qs_strdup(w->adapter); /* brings its rank, alpha and targets along */
}

static int generate(qs_options *o, const generate_options *w, qs_tokenizer *t, qs_err *e)
{
    int count = w->prompt.count + w->instruction.count, rc = 0;
    qs_ids *ids = qs_calloc((size_t)count, sizeof *ids);
    size_t longest = 0;
    for (int i = 0; i < count && !rc; i++) {
        if (i < w->prompt.count)
            rc = encode_prompt(t, w->prompt.items[i], &ids[i], e);
        else
            rc = encode_instruction(o, t, w->system, w->instruction.items[i - w->prompt.count], &ids[i], e);
        if (!rc && !ids[i].count)
            rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__,
                            "a prompt without tokens has nothing to go on from");
        if (ids[i].count > longest) longest = ids[i].count;
    }
    qs_engine g = {0};
    o->max_seq_length = (int64_t)longest + w->max_new_tokens;
    if (!rc) rc = qs_engine_prepare(o, NULL, NULL, &g, e);
    if (!rc) rc = qs_engine_start(&g, e);
    qs_interrupt_defer();
    float *logits = rc ? NULL : qs_malloc((size_t)g.architecture.vocab * sizeof *logits);
    for (int i = 0; i < count && !rc && !qs_interrupt_requested(); i++)
        rc = go_on(&g, t, w, &ids[i], logits, e);
    qs_free(logits);
    qs_engine_close(&g);
    for (int i = 0; i < count; i++) qs_ids_free(&ids[i]);
    qs_free(ids);
    return rc;
}

enum { MOST_BYTES = 64 << 20 };

/* The lines of --prompts; without any prompt, all of standard input. */
static int read_prompts(generate_options *w, qs_err *e)
{
    char *text = NULL;
    size_t bytes = 0;
    if (w->prompts) {
        QS_TRY(qs_file_read(w->prompts, MOST_BYTES, &text, &bytes, e));
        for (size_t at = 0, n; at < bytes; at += n + 1) {
            n = strcspn(text + at, "\n");
            if (n) qs_strings_add(&w->prompt, text + at, n);
        }
    } else if (!w->prompt.count && !w->instruction.count && !isatty(STDIN_FILENO)) {
        text = qs_malloc(MOST_BYTES);
        bytes = fread(text, 1, MOST_BYTES, stdin);
        while (bytes && text[bytes - 1] == '\n') bytes--;
        if (bytes) qs_strings_add(&w->prompt, text, bytes);
    }
    qs_free(text);
    if (w->prompt.count || w->instruction.count) return 0;
    QS_FAIL(e, QS_EUSAGE,
            "nothing to go on from: give --prompt TEXT, --instruction TEXT, --prompts FILE, or a text on "
            "standard input");
}

static int run(int argc, char **argv, qs_err *e)
{
    qs_options o = {0};
    generate_options w = {0};
    qs_option_set more = {&table, &w};
    qs_tokenizer *tokenizer = NULL;
    int rc = qs_options_parse(&o, argc, argv, &more, 1, e);
    if (!rc) rc = qs_options_check_plan(&o, e);
    if (!rc) rc = qs_options_find_model(&o, e);
    if (!rc) rc = read_prompts(&w, e);
    if (!rc) settle(&o, &w);
    if (!rc) rc = qs_tokenizer_open(o.model, &tokenizer, e);
    if (!rc) rc = generate(&o, &w, tokenizer, e);
    qs_tokenizer_close(tokenizer);
    qs_option_clear(&more, 1);
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_generate = {"generate", "write text with a model and an adapter", help, run};
