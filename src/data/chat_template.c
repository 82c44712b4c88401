#include "src/data/chat_template.h"

#include <string.h>

#include "src/base/memory.h"

/* In the texts below these stand for the tokenizer's own tokens. */
#define EOS "\1"
#define BOS "\2"

/* Where a system message goes. */
typedef enum system_rule {
    SYSTEM_TURN,       /* a turn of its own */
    SYSTEM_FIRST_USER, /* into the first user turn, between system_before and system_after */
    SYSTEM_LAST_USER   /* into the last one */
} system_rule;

struct qs_chat_template {
    const char *name;
    const char *user_before, *user_after;
    const char *assistant_before, *assistant_lead; /* lead: what the model itself writes before its content */
    const char *assistant_trail;                   /* and after it, before the mark that ends the turn */
    const char *stop, *tail; /* that mark (EOS or a special token), and what follows it */
    const char *system_before, *system_after;
    const char *tool_before, *tool_after; /* NULL: no tool messages */
    const char *default_system;           /* NULL: none */
    system_rule system;
    bool strip;           /* contents are trimmed */
    bool alternate;       /* only user, assistant, user, ... after a system message */
    bool bos;             /* begins with BOS whatever the tokenizer does by itself */
    bool bos_each;        /* a BOS before every user turn */
    bool think;           /* Qwen3: an empty think block before the last answer, none kept before it */
    bool alpaca;          /* instruction rows have texts of their own */
    qs_chat_jinja *jinja; /* not a layout: a template of this kind */
};

#define CHATML(role) "<|im_start|>" role "\n", "<|im_end|>\n"
#define HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n", "<|eot_id|>"
#define VICUNA_SYSTEM                                                                                       \
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, " \
    "detailed, and polite "                                                                                 \
    "answers to the user's questions."

#define ALPACA_INPUT                                                                                      \
    "Below is an instruction that describes a task, paired with an input that provides further context. " \
    "Write a response that "                                                                              \
    "appropriately completes the request."
#define ALPACA_NO_INPUT                                                                                 \
    "Below is an instruction that describes a task. Write a response that appropriately completes the " \
    "request."

/* Layouts: the Jinja templates of the models named; llama.cpp src/llama-chat.cpp; formats of Alpaca:
 * stanford_alpaca train.py, qlora.py, axolotl prompters.py, which differ in what follows "### Response:". */
static const qs_chat_template templates[] = {
    {.name = "chatml",
     .user_before = CHATML("user"),
     .assistant_before = "<|im_start|>assistant\n",
     .stop = "<|im_end|>",
     .tail = "\n",
     .system_before = CHATML("system"),
     .tool_before = CHATML("tool")},
    {.name = "qwen2",
     .user_before = CHATML("user"),
     .assistant_before = "<|im_start|>assistant\n",
     .stop = "<|im_end|>",
     .tail = "\n",
     .system_before = CHATML("system"),
     .default_system = "You are a helpful assistant."},
    {.name = "qwen2.5",
     .user_before = CHATML("user"),
     .assistant_before = "<|im_start|>assistant\n",
     .stop = "<|im_end|>",
     .tail = "\n",
     .system_before = CHATML("system"),
     .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    {.name = "qwen3",
     .user_before = CHATML("user"),
     .assistant_before = "<|im_start|>assistant\n",
     .stop = "<|im_end|>",
     .tail = "\n",
     .system_before = CHATML("system"),
     .think = true},
    {.name = "llama2",
     .user_before = "[INST] ",
     " [/INST]",
     .assistant_before = "",
     .assistant_lead = " ",
     .assistant_trail = " ",
     .stop = EOS,
     .tail = "",
     .system_before = "<<SYS>>\n",
     "\n<</SYS>>\n\n",
     .system = SYSTEM_FIRST_USER,
     .strip = true,
     .alternate = true,
     .bos = true,
     .bos_each = true},
    {.name = "llama3",
     .user_before = HEADER("user"),
     .assistant_before = "<|start_header_id|>assistant<|end_header_id|>\n\n",
     .stop = "<|eot_id|>",
     .tail = "",
     .system_before = HEADER("system"),
     .tool_before = HEADER("ipython"),
     .strip = true,
     .bos = true},
    /* The date is the fixed one that the template falls back to: the same data give the same ids on any day.
     */
    {.name = "llama3.1",
     .user_before = HEADER("user"),
     .assistant_before = "<|start_header_id|>assistant<|end_header_id|>\n\n",
     .stop = "<|eot_id|>",
     .tail = "",
     .system_before = "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December "
                      "2023\nToday Date: 26 Jul 2024\n\n",
     "<|eot_id|>",
     .tool_before = HEADER("ipython"),
     .default_system = "",
     .strip = true,
     .bos = true},
    {.name = "mistral-v1",
     .user_before = "[INST] ",
     " [/INST]",
     .assistant_before = "",
     .assistant_lead = " ",
     .stop = EOS,
     .tail = "",
     .system_before = "",
     "\n\n",
     .system = SYSTEM_FIRST_USER,
     .alternate = true,
     .bos = true},
    {.name = "mistral-v3",
     .user_before = "[INST] ",
     "[/INST]",
     .assistant_before = "",
     .assistant_lead = " ",
     .stop = EOS,
     .tail = "",
     .system_before = "",
     "\n\n",
     .system = SYSTEM_LAST_USER,
     .alternate = true,
     .bos = true},
    {.name = "mistral-tekken",
     .user_before = "[INST]",
     "[/INST]",
     .assistant_before = "",
     .stop = EOS,
     .tail = "",
     .system_before = "",
     "\n\n",
     .system = SYSTEM_LAST_USER,
     .alternate = true,
     .bos = true},
    {.name = "mistral-v7",
     .user_before = "[INST] ",
     "[/INST]",
     .assistant_before = "",
     .assistant_lead = " ",
     .stop = EOS,
     .tail = "",
     .system_before = "[SYSTEM_PROMPT] ",
     "[/SYSTEM_PROMPT]",
     .bos = true},
    {.name = "mistral-v7-tekken",
     .user_before = "[INST]",
     "[/INST]",
     .assistant_before = "",
     .stop = EOS,
     .tail = "",
     .system_before = "[SYSTEM_PROMPT]",
     "[/SYSTEM_PROMPT]",
     .bos = true},
    {.name = "zephyr",
     .user_before = "<|user|>\n",
     EOS "\n",
     .assistant_before = "<|assistant|>\n",
     .stop = EOS,
     .tail = "\n",
     .system_before = "<|system|>\n",
     EOS "\n"},
    {.name = "gemma",
     .user_before = "<start_of_turn>user\n",
     "<end_of_turn>\n",
     .assistant_before = "<start_of_turn>model\n",
     .stop = "<end_of_turn>",
     .tail = "\n",
     .system_before = "",
     "\n\n",
     .system = SYSTEM_FIRST_USER,
     .strip = true,
     .alternate = true,
     .bos = true},
    {.name = "phi3",
     .user_before = "<|user|>\n",
     "<|end|>\n",
     .assistant_before = "<|assistant|>\n",
     .stop = "<|end|>",
     .tail = "\n",
     .system_before = "<|system|>\n",
     "<|end|>\n"},
    {.name = "phi4",
     .user_before = "<|im_start|>user<|im_sep|>",
     "<|im_end|>",
     .assistant_before = "<|im_start|>assistant<|im_sep|>",
     .stop = "<|im_end|>",
     .tail = "",
     .system_before = "<|im_start|>system<|im_sep|>",
     "<|im_end|>"},
    {.name = "vicuna",
     .user_before = "USER: ",
     " ",
     .assistant_before = "ASSISTANT:",
     .assistant_lead = " ",
     .stop = EOS,
     .tail = "",
     .system_before = "",
     " ",
     .default_system = VICUNA_SYSTEM},
    {.name = "alpaca",
     .user_before = "### Instruction:\n",
     "\n\n",
     .assistant_before = "### Response:",
     .stop = EOS,
     .tail = "\n\n",
     .system_before = "",
     "\n\n",
     .default_system = ALPACA_NO_INPUT,
     .alpaca = true},
    {.name = "alpaca-qlora",
     .user_before = "### Instruction:\n",
     "\n\n",
     .assistant_before = "### Response: ",
     .stop = EOS,
     .tail = "\n\n",
     .system_before = "",
     "\n\n",
     .default_system = ALPACA_NO_INPUT,
     .alpaca = true},
    {.name = "alpaca-axolotl",
     .user_before = "### Instruction:\n",
     "\n\n",
     .assistant_before = "### Response:\n",
     .stop = EOS,
     .tail = "\n\n",
     .system_before = "",
     "\n\n",
     .default_system = ALPACA_NO_INPUT,
     .alpaca = true},
    {.name = "none",
     .user_before = "",
     "",
     .assistant_before = "",
     .stop = EOS,
     .tail = "",
     .system_before = "",
     ""},
};

enum { TEMPLATES = sizeof templates / sizeof *templates };

const char *qs_role_name(qs_role role)
{
    static const char *const names[] = {"system", "user", "assistant", "tool"};
    return names[role];
}

const char *qs_chat_template_name(const qs_chat_template *t) { return t->name; }
bool qs_chat_is_alpaca(const qs_chat_template *c) { return c->alpaca; }

const char *qs_chat_template_names(void)
{
    return "chatml, qwen2, qwen2.5, qwen3, llama2, llama3, llama3.1, mistral-v1, mistral-v3, mistral-tekken, "
           "mistral-v7, mistral-v7-tekken, "
           "zephyr, gemma, phi3, phi4, vicuna, alpaca, alpaca-qlora, alpaca-axolotl, none";
}

static const qs_chat_template *named(const char *name)
{
    for (int i = 0; i < TEMPLATES; i++)
        if (strcmp(templates[i].name, name) == 0) return &templates[i];
    return NULL;
}

int qs_chat_template_by_name(const char *name, const qs_chat_template **out, qs_err *e)
{
    *out = named(name);
    if (!*out)
        QS_FAIL(e, QS_EINVAL, "chat_template \"%.60s\" is not known; expected auto or one of: %s", name,
                qs_chat_template_names());
    return 0;
}

/* ---- a model's own ----------------------------------------------------------------------------------- */

int qs_chat_template_open(const qs_chat_choice *choice, const qs_chat_template **out, qs_err *e)
{
    *out = choice->name ? named(choice->name) : NULL;
    if (*out) return 0;
    qs_chat_jinja *jinja;
    QS_TRY(qs_chat_jinja_open(choice, qs_chat_template_names(), &jinja, e));
    qs_chat_template *t = qs_calloc(1, sizeof *t);
    *t = (qs_chat_template){.name = qs_chat_jinja_from(jinja), .jinja = jinja};
    *out = t;
    return 0;
}

void qs_chat_template_close(const qs_chat_template *t)
{
    if (!t || !t->jinja) return;
    qs_chat_jinja_close(t->jinja);
    qs_free((void *)(uintptr_t)t);
}

qs_chat_jinja *qs_chat_template_jinja(const qs_chat_template *t) { return t->jinja; }
bool qs_chat_reads(const qs_chat_template *c, const char *key)
{
    return strcmp(key, "role") == 0 || strcmp(key, "content") == 0 ||
           (c->jinja && qs_chat_jinja_reads(c->jinja, key));
}

/* ---- rendering --------------------------------------------------------------------------------------- */

typedef struct writer {
    const qs_chat_template *c;
    const qs_tokenizer *t;
    const qs_token_info *info;
    qs_rendering *r;
    bool train_all;
    qs_text_join join; /* of the next text */
} writer;

static void put_text(writer *w, const char *text, size_t bytes, bool special, bool trained)
{
    if (!bytes) return;
    qs_rendering_text(w->r, text, bytes, w->join, special, trained || w->train_all);
    w->join = QS_TEXT_JOIN;
}

/* A template's own text, in which EOS and BOS stand for tokens. */
static void put_marker(writer *w, const char *text, bool trained)
{
    while (text && *text) {
        size_t n = strcspn(text, EOS BOS);
        put_text(w, text, n, true, trained);
        text += n;
        if (*text)
            qs_rendering_id(w->r, *text++ == *EOS ? w->info->eos : w->info->bos, trained || w->train_all);
    }
}

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static qs_message trimmed(const qs_chat_template *c, qs_message m)
{
    if (!c->strip) return m;
    while (m.bytes && is_blank(m.text[m.bytes - 1])) m.bytes--;
    while (m.bytes && is_blank(*m.text)) m.text++, m.bytes--;
    return m;
}

int32_t qs_chat_stop_id(const qs_chat_template *c, qs_tokenizer *t)
{
    if (c->jinja) return qs_chat_jinja_stop_id(c->jinja, t);
    int32_t id = strcmp(c->stop, EOS) == 0 ? -1 : qs_tokenizer_find(t, c->stop);
    return id >= 0 && qs_tokenizer_is_added(t, id) ? id : qs_tokenizer_info(t)->eos;
}

static bool uses_eos(const qs_chat_template *c, const qs_tokenizer *t)
{
    int32_t id = qs_tokenizer_find(t, c->stop);
    return strcmp(c->stop, EOS) == 0 || id < 0 || !qs_tokenizer_is_added(t, id);
}

/* BOS where the tokenizer puts one by itself or the template asks for it. */
static void put_bos(writer *w)
{
    if (w->info->bos >= 0 && (w->info->add_bos || w->c->bos)) qs_rendering_id(w->r, w->info->bos, false);
}

/* What the model is taught to write: its content, and the end of its turn. last: of the answers; more:
 * messages follow. */
static void put_answer(writer *w, qs_message m, bool last, bool more)
{
    const qs_chat_template *c = w->c;
    bool trained = !m.untrained;
    put_marker(w, c->assistant_before, false);
    const char *thought = c->think ? memmem(m.text, m.bytes, "</think>", 8) : NULL;
    if (c->think && last && !thought) put_marker(w, "<think>\n\n</think>\n\n", false);
    if (thought && !last) {
        size_t skip = (size_t)(thought + 8 - m.text);
        m.text += skip;
        m.bytes -= skip;
        while (m.bytes && *m.text == '\n') m.text++, m.bytes--;
    }
    w->join = QS_TEXT_CUT;
    if (c->assistant_lead) put_text(w, c->assistant_lead, strlen(c->assistant_lead), false, trained);
    put_text(w, m.text, m.bytes, false, trained);
    if (c->assistant_trail) put_text(w, c->assistant_trail, strlen(c->assistant_trail), false, trained);
    put_marker(w, c->stop, trained);
    /* A mark that is not a token of this tokenizer cannot stop a generation: EOS does. */
    if (strcmp(c->stop, EOS) != 0 && uses_eos(c, w->t))
        qs_rendering_id(w->r, w->info->eos, trained || w->train_all);
    if (more) put_marker(w, c->tail, false);
}

static void put_system_into_user(writer *w, const qs_message *system)
{
    if (!system) return;
    qs_message m = trimmed(w->c, *system);
    put_marker(w, w->c->system_before, false);
    put_text(w, m.text, m.bytes, false, false);
    put_marker(w, w->c->system_after, false);
}

static int check_roles(const qs_chat_template *c, const qs_message *m, size_t count, qs_err *e)
{
    bool system_first = count && m[0].role == QS_ROLE_SYSTEM;
    for (size_t i = 0; i < count; i++) {
        if (m[i].role == QS_ROLE_TOOL && !c->tool_before)
            QS_FAIL(e, QS_EFORMAT, "message %zu is from a tool, which the template %s cannot write", i + 1,
                    c->name);
        if (m[i].role == QS_ROLE_SYSTEM && i && (c->alternate || c->system != SYSTEM_TURN))
            QS_FAIL(e, QS_EFORMAT,
                    "message %zu is a system message; the template %s takes one only at the start", i + 1,
                    c->name);
        qs_role want = (i - system_first) % 2 ? QS_ROLE_ASSISTANT : QS_ROLE_USER;
        if (c->alternate && i >= system_first && m[i].role != want)
            QS_FAIL(e, QS_EFORMAT,
                    "message %zu is from the %s; the template %s takes user and assistant in turn", i + 1,
                    qs_role_name(m[i].role), c->name);
    }
    if (c->system != SYSTEM_TURN && system_first && count < 2)
        QS_FAIL(e, QS_EFORMAT,
                "there is only a system message; the template %s writes it into a user's message", c->name);
    return 0;
}

static int check_tokens(const qs_chat_template *c, const qs_tokenizer *t, qs_err *e)
{
    if (uses_eos(c, t) && qs_tokenizer_info(t)->eos < 0)
        QS_FAIL(
            e, QS_EMISSING,
            "the tokenizer has no end-of-sequence token, which the template %s needs; expected eos_token in "
            "tokenizer_config.json or eos_token_id in generation_config.json",
            c->name);
    return 0;
}

int qs_chat_render(const qs_chat_template *c, const qs_tokenizer *t, const qs_message *messages, size_t count,
                   bool prompt_only, bool train_on_inputs, qs_rendering *r, qs_err *e)
{
    QS_TRY(check_tokens(c, t, e));
    QS_TRY(check_roles(c, messages, count, e));
    writer w = {c,
                t,
                qs_tokenizer_info(t),
                r,
                train_on_inputs && !prompt_only,
                c->bos ? QS_TEXT_JOIN : QS_TEXT_BEGIN};
    const qs_message *system = count && messages[0].role == QS_ROLE_SYSTEM ? &messages[0] : NULL;
    qs_message standard = {.role = QS_ROLE_SYSTEM,
                           .text = c->default_system,
                           .bytes = c->default_system ? strlen(c->default_system) : 0};
    if (!system && c->default_system) system = &standard;
    size_t first_user = count, last_user = count, last_answer = count;
    for (size_t i = 0; i < count; i++) {
        if (messages[i].role == QS_ROLE_USER && first_user == count) first_user = i;
        if (messages[i].role == QS_ROLE_USER) last_user = i;
        if (messages[i].role == QS_ROLE_ASSISTANT) last_answer = i;
    }
    put_bos(&w);
    if (system == &standard && c->system == SYSTEM_TURN) put_system_into_user(&w, system);
    for (size_t i = 0; i < count; i++) {
        qs_message m = trimmed(c, messages[i]);
        switch (m.role) {
        case QS_ROLE_ASSISTANT:
            if (prompt_only) m.untrained = true;
            put_answer(&w, m, i == last_answer && !prompt_only, prompt_only || i + 1 < count);
            break;
        case QS_ROLE_SYSTEM:
            if (c->system == SYSTEM_TURN) put_system_into_user(&w, &m);
            break;
        case QS_ROLE_TOOL:
            put_marker(&w, c->tool_before, false);
            put_text(&w, m.text, m.bytes, false, false);
            put_marker(&w, c->tool_after, false);
            break;
        default:
            if (c->bos_each && i != first_user) qs_rendering_id(r, w.info->bos, false);
            put_marker(&w, c->user_before, false);
            if (c->system != SYSTEM_TURN && i == (c->system == SYSTEM_LAST_USER ? last_user : first_user))
                put_system_into_user(&w, system);
            put_text(&w, m.text, m.bytes, false, false);
            put_marker(&w, c->user_after, false);
        }
    }
    if (prompt_only) put_marker(&w, c->assistant_before, false);
    if (prompt_only && c->think) put_marker(&w, "<think>\n\n</think>\n\n", false);
    return 0;
}

int qs_alpaca_render(const qs_chat_template *c, const qs_tokenizer *t, const qs_alpaca_row *row,
                     bool train_on_inputs, qs_rendering *r, qs_err *e)
{
    qs_message answer = {.role = QS_ROLE_ASSISTANT, .text = row->output, .bytes = row->output_bytes};
    QS_ASSERT(c->alpaca);
    QS_TRY(check_tokens(c, t, e));
    writer w = {c, t, qs_tokenizer_info(t), r, train_on_inputs, QS_TEXT_BEGIN};
    put_bos(&w);
    put_marker(&w, row->input_bytes ? ALPACA_INPUT : ALPACA_NO_INPUT, false);
    put_marker(&w, c->system_after, false);
    put_marker(&w, c->user_before, false);
    put_text(&w, row->instruction, row->instruction_bytes, false, false);
    put_marker(&w, row->input_bytes ? "\n\n### Input:\n" : "", false);
    put_text(&w, row->input, row->input_bytes, false, false);
    put_marker(&w, c->user_after, false);
    put_answer(&w, answer, true, false);
    return 0;
}
