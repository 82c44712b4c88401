#include "src/data/prepare.h"

#include <string.h>

#include "io/file.h"
#include "src/base/json.h"
#include "src/base/memory.h"
#include "src/data/sample_text.h"

/* max_position_embeddings of config.json, where scaled rotary positions reach further that; 0 when it is not
 * told. */
static int64_t positions_of_model(const char *dir)
{
    char *path = qs_path_join(dir, "config.json"), *text = NULL;
    size_t bytes;
    qs_err ignored;
    json_t *config = NULL;
    if (!qs_file_read(path, 1 << 20, &text, &bytes, &ignored)) config = json_loadb(text, bytes, 0, NULL);
    json_t *inner = json_object_get(config, "text_config"), *o = json_is_object(inner) ? inner : config,
           *scaling = json_object_get(o, "rope_scaling");
    int64_t positions = json_integer_value(json_object_get(o, "max_position_embeddings"));
    double factor = json_number_value(json_object_get(scaling, "factor")),
           original = json_number_value(json_object_get(scaling, "original_max_position_embeddings"));
    if (!original) original = (double)positions;
    if (positions && factor > 1 && factor * original > (double)positions && factor * original < 1e12)
        positions = (int64_t)(factor * original);
    json_decref(config);
    qs_free(text);
    qs_free(path);
    return positions > 0 ? positions : 0;
}

static bool is_auto(const char *name) { return !name || !*name || strcmp(name, "auto") == 0; }

static int choose_template(qs_preparer *p, qs_err *e)
{
    const char *name = p->o->chat_template;
    if (p->kind == QS_ROW_TEXT || p->kind == QS_ROW_TOKENS) return 0;
    if (is_auto(name) && p->kind == QS_ROW_ALPACA) return qs_chat_template_by_name("alpaca", &p->chat, e);
    if (is_auto(name) && p->kind != QS_ROW_MESSAGES) return 0;
    const qs_chat_choice choice = {p->o->model_dir, name, p->o->chat_template_kwargs, p->o->template_date};
    return qs_chat_template_open(&choice, &p->chat, e);
}

int qs_preparer_open(qs_preparer *p, const qs_data_options *o, qs_err *e)
{
    *p = (qs_preparer){.o = o, .file = o->data[0], .stop = -1};
    int rc = o->model_dir ? qs_tokenizer_open(o->model_dir, &p->tokenizer, e) : 0;
    if (rc == -QS_EMISSING) rc = 0; /* rows of input_ids do without */
    if (!rc && o->model_dir) p->audit.positions = positions_of_model(o->model_dir);
    return rc;
}

/* The token that ends an answer of this kind of row, and its text. */
static void find_stop(qs_preparer *p)
{
    qs_free(p->stop_text);
    p->stop_text = NULL;
    p->stop = p->chat        ? qs_chat_stop_id(p->chat, p->tokenizer)
              : p->tokenizer ? qs_tokenizer_info(p->tokenizer)->eos
                             : -1;
    if (p->stop >= 0) p->stop_text = qs_tokenizer_decode(p->tokenizer, &p->stop, 1, QS_DECODE_CONTINUE, NULL);
    if (p->stop_text && !*p->stop_text) {
        qs_free(p->stop_text);
        p->stop_text = NULL;
    }
}

int qs_preparer_take_kind(qs_preparer *p, qs_row_kind kind, qs_err *e)
{
    p->kind = kind;
    qs_chat_template_close(p->chat);
    p->chat = NULL;
    p->fatal = true; /* whatever fails here fails for every row */
    if (!p->tokenizer && kind != QS_ROW_TOKENS) {
        if (p->o->model_dir)
            return qs_tokenizer_open(p->o->model_dir, &p->tokenizer, e); /* says what is missing */
        QS_FAIL(e, QS_EMISSING, "%s: has text, and there is no model directory to take a tokenizer from",
                p->file);
    }
    QS_TRY(choose_template(p, e));
    if (p->tokenizer && kind != QS_ROW_TOKENS && qs_tokenizer_info(p->tokenizer)->eos < 0)
        QS_FAIL(e, QS_EMISSING,
                "%s: the tokenizer names no end-of-sequence token, so nothing could learn to stop; expected "
                "eos_token in "
                "tokenizer_config.json or eos_token_id in generation_config.json",
                p->o->model_dir);
    p->fatal = false;
    p->audit.stop_known = p->tokenizer && qs_tokenizer_info(p->tokenizer)->eos >= 0;
    find_stop(p);
    return 0;
}

void qs_preparer_free(qs_preparer *p)
{
    qs_chat_template_close(p->chat);
    qs_tokenizer_close(p->tokenizer);
    qs_audit_free(&p->audit);
    qs_rendering_free(&p->rendering);
    qs_labelled_free(&p->row);
    qs_labelled_free(&p->piece);
    qs_plain_messages_free(&p->plain);
    qs_free(p->user);
    qs_free(p->stop_text);
    *p = (qs_preparer){0};
}

char *qs_preparer_describe(const qs_preparer *p)
{
    static const char *const kinds[] = {"instruction rows", "conversations", "prompts and completions",
                                        "plain text", "rows of input_ids"};
    return p->chat ? qs_printf("%s, template %s", kinds[p->kind], qs_chat_template_name(p->chat))
                   : qs_strdup(kinds[p->kind]);
}

/* ---- writing a row out ------------------------------------------------------------------------------- */

static int render_by_jinja(qs_preparer *p, const qs_conversation *c, qs_err *e)
{
    return qs_chat_jinja_render(qs_chat_template_jinja(p->chat), p->tokenizer, c, false,
                                p->o->train_on_inputs, &p->rendering, e);
}

static int render_messages(qs_preparer *p, const qs_message *m, size_t count, qs_err *e)
{
    if (qs_chat_template_jinja(p->chat)) {
        json_t *messages = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(messages, json_pack("{s:s, s:s%}", "role", qs_role_name(m[i].role),
                                                      "content", m[i].text, m[i].bytes));
        int rc = render_by_jinja(p, &(qs_conversation){.messages = messages}, e);
        json_decref(messages);
        return rc;
    }
    return qs_chat_render(p->chat, p->tokenizer, m, count, false, p->o->train_on_inputs, &p->rendering, e);
}

static bool is_thought(const char *key)
{
    return !strcmp(key, "reasoning_content") || !strcmp(key, "reasoning") || !strcmp(key, "thinking");
}

/* A thought goes under the name that the template reads. */
static bool rename_thought(const qs_chat_template *c, json_t *message, const char *key, json_t *thought)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (int i = 0; i < 3 && is_thought(key); i++)
        if (qs_chat_reads(c, names[i])) return json_object_set(message, names[i], thought) == 0;
    return false;
}

/* Every key of a message is read by the template, or named: an error where it carries something to be learnt.
 */
static int check_keys(qs_preparer *p, json_t *message, size_t i, qs_err *e)
{
    const char *key, *name = qs_chat_template_name(p->chat);
    json_t *v;
    void *next;
    json_object_foreach_safe(message, next, key, v)
    {
        if (qs_chat_reads(p->chat, key) || qs_column_is_empty(v) || rename_thought(p->chat, message, key, v))
            continue;
        if (is_thought(key) || strcmp(key, "tool_calls") == 0)
            QS_FAIL(e, QS_EFORMAT,
                    "message %zu has %s%s, which the template %s does not write; write it as text in "
                    "\"content\", or choose another "
                    "template",
                    i + 1, key, is_thought(key) ? "" : " (or a function_call)", name);
        if (p->unused) qs_unused_note(p->unused, "a message's ", key);
    }
    return 0;
}

static int check_conversation(qs_preparer *p, const qs_conversation *c, qs_err *e)
{
    const struct {
        const char *key;
        const json_t *value;
    } parts[] = {{"tools", c->tools}, {"documents", c->documents}};
    const char *key;
    json_t *v;
    size_t i;
    for (int k = 0; k < 2; k++)
        if (parts[k].value && !qs_chat_reads(p->chat, parts[k].key))
            QS_FAIL(e, QS_EFORMAT,
                    "has the column \"%s\", which the template %s does not write; --ignore_columns %s passes "
                    "it over",
                    parts[k].key, qs_chat_template_name(p->chat), parts[k].key);
    json_object_foreach(c->variables, key, v) if (!qs_chat_reads(p->chat, key)) QS_FAIL(
        e, QS_EFORMAT, "sets \"%s\" in the column chat_template_kwargs, which the template %s does not read",
        key, qs_chat_template_name(p->chat));
    json_array_foreach(c->messages, i, v) QS_TRY(check_keys(p, v, i, e));
    return 0;
}

static int render_conversation(qs_preparer *p, const qs_conversation *c, qs_err *e)
{
    QS_TRY(check_conversation(p, c, e));
    if (qs_chat_template_jinja(p->chat)) return render_by_jinja(p, c, e);
    QS_TRY(qs_plain_messages_fill(&p->plain, c, e));
    return render_messages(p, p->plain.messages, p->plain.count, e);
}

/* A conversation of one exchange. */
static int render_exchange(qs_preparer *p, const qs_row *row, qs_err *e)
{
    qs_message m[3], *at = m;
    if (row->system.bytes) *at++ = (qs_message){QS_ROLE_SYSTEM, row->system.data, row->system.bytes, false};
    *at = (qs_message){QS_ROLE_USER, row->instruction.data, row->instruction.bytes, false};
    if (row->input.bytes) {
        size_t n = row->instruction.bytes;
        p->user = qs_realloc(p->user, n + 1 + row->input.bytes + 1);
        memcpy(p->user, row->instruction.data, n);
        p->user[n] = '\n';
        memcpy(p->user + n + 1, row->input.data, row->input.bytes + 1);
        at->text = p->user;
        at->bytes = n + 1 + row->input.bytes;
    }
    *++at = (qs_message){QS_ROLE_ASSISTANT, row->output.data, row->output.bytes, false};
    return render_messages(p, m, (size_t)(at - m) + 1, e);
}

/* An instruction row: by Alpaca's own texts, or as a conversation. */
static int render_instruction(qs_preparer *p, const qs_row *row, qs_err *e)
{
    if (!qs_chat_is_alpaca(p->chat) || row->system.bytes) return render_exchange(p, row, e);
    qs_alpaca_row r = {.instruction = row->instruction.data,
                       .instruction_bytes = row->instruction.bytes,
                       .input = row->input.data,
                       .input_bytes = row->input.bytes,
                       .output = row->output.data,
                       .output_bytes = row->output.bytes};
    return qs_alpaca_render(p->chat, p->tokenizer, &r, p->o->train_on_inputs, &p->rendering, e);
}

/* BOS, prompt, completion, EOS: the row as it is. Special tokens in it are tokens, for it is written for the
 * model. */
static void render_plain(qs_preparer *p, const qs_row *row)
{
    const qs_token_info *info = qs_tokenizer_info(p->tokenizer);
    bool text = row->kind == QS_ROW_TEXT;
    if (info->add_bos && info->bos >= 0) qs_rendering_id(&p->rendering, info->bos, false);
    qs_rendering_text(&p->rendering, row->instruction.data, row->instruction.bytes, QS_TEXT_BEGIN, true,
                      p->o->train_on_inputs);
    qs_rendering_text(&p->rendering, row->output.data, row->output.bytes, text ? QS_TEXT_BEGIN : QS_TEXT_CUT,
                      true, true);
}

/* ---- answers ----------------------------------------------------------------------------------------- */

static bool is_blank(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (!strchr(" \t\r\n", text[i]) || !text[i]) return false;
    return true;
}

/* The length of an answer without end tokens typed behind it: the real one comes there, once. */
static size_t without_end(const qs_preparer *p, const char *text, size_t bytes)
{
    const char *const ends[] = {p->stop_text, qs_tokenizer_eos_text(p->tokenizer)};
    size_t kept = bytes, trimmed = bytes;
    while (trimmed && strchr(" \t\r\n", text[trimmed - 1]) && text[trimmed - 1]) trimmed--;
    for (int i = 0; i < 2; i++) {
        size_t n = ends[i] ? strlen(ends[i]) : 0;
        if (!n || n > trimmed || memcmp(text + trimmed - n, ends[i], n) != 0) continue;
        kept = trimmed = trimmed - n;
        i = -1; /* there may be another in front */
    }
    return kept;
}

/* Takes typed end tokens off the answers of a conversation, and counts those that say nothing. */
static void look_at_answers(qs_preparer *p, const qs_conversation *c)
{
    size_t i;
    json_t *m;
    bool typed = false, empty = false;
    json_array_foreach(c->messages, i, m)
    {
        const char *role = json_string_value(json_object_get(m, "role"));
        json_t *content = json_object_get(m, "content");
        if (!role || strcmp(role, "assistant") != 0) continue;
        if (json_is_string(content)) {
            size_t n = json_string_length(content), kept = without_end(p, json_string_value(content), n);
            typed |= kept < n;
            if (kept < n) json_object_set_new(m, "content", json_stringn(json_string_value(content), kept));
        }
        char *joined;
        size_t bytes;
        const char *text = qs_content_text(json_object_get(m, "content"), &joined, &bytes);
        empty |= is_blank(text, bytes) && !json_array_size(json_object_get(m, "tool_calls")) &&
                 !(c->untrained && c->untrained[i]);
        qs_free(joined);
    }
    p->audit.typed_ends += typed;
    p->audit.empty_answers += empty;
}

static void look_at_answer(qs_preparer *p, qs_row *row)
{
    size_t n = p->chat ? without_end(p, row->output.data, row->output.bytes)
                       : row->output.bytes; /* as it is, it may hold the token */
    p->audit.typed_ends += n < row->output.bytes;
    row->output.bytes = n;
    p->audit.empty_answers += is_blank(row->output.data, n);
}

static int render(qs_preparer *p, const qs_row *given, qs_err *e)
{
    qs_row changed = *given, *row = &changed;
    if (row->conversation)
        look_at_answers(p, row->conversation);
    else if (row->kind != QS_ROW_TEXT)
        look_at_answer(p, row);
    if (row->conversation) return render_conversation(p, row->conversation, e);
    if (row->kind == QS_ROW_ALPACA) return render_instruction(p, row, e);
    if (p->chat) return render_exchange(p, row, e);
    if (row->system.bytes)
        QS_FAIL(e, QS_EFORMAT,
                "has a \"system\" column beside prompt and completion, which are written as they are; choose "
                "a template with "
                "--chat_template, or write messages");
    render_plain(p, row);
    return 0;
}

/* The template's own words of a rendering: marks in them that are no token of this tokenizer are learnt as
 * letters. */
static void look_for_lost_marks(qs_preparer *p, const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes; at++) {
        size_t end = qs_mark_end(text, at, bytes);
        bool mark = end > at + 4 && text[at] == '<' && text[at + 1] == '|' && text[end - 2] == '|';
        char name[80];
        if (!mark || end - at >= sizeof name || qs_is_added_mark(p->tokenizer, text, at, end)) continue;
        memcpy(name, text + at, end - at);
        name[end - at] = 0;
        qs_unused_note(&p->audit.lost_marks, "", name);
    }
}

/* What is odd in the texts of a row that has been written out. */
static void count_texts(qs_preparer *p)
{
    const qs_rendering *r = &p->rendering;
    bool typed = false;
    for (size_t i = 0; i < r->count; i++) {
        const qs_segment *s = &r->segments[i];
        const char *text = r->text + s->offset;
        if (s->id >= 0) continue;
        if (s->special && p->chat) look_for_lost_marks(p, text, s->bytes);
        for (size_t at = 0; !s->special && at < s->bytes; at++)
            typed |= qs_is_added_mark(p->tokenizer, text, at, qs_mark_end(text, at, s->bytes));
        for (const char *at = text; (at = memmem(at, s->bytes - (size_t)(at - text), "\xef\xbf\xbd", 3));
             at += 3)
            p->audit.replaced++;
    }
    p->audit.typed_marks += typed;
}

static void count_tokens(qs_preparer *p)
{
    const qs_token_info *info = p->tokenizer ? qs_tokenizer_info(p->tokenizer) : NULL;
    if (!info || info->unk < 0 || info->unk == info->eos || info->unk == info->bos || info->unk == info->pad)
        return;
    for (size_t i = 0; i < p->row.ids.count; i++) p->audit.unknown += p->row.ids.data[i] == info->unk;
}

static int tokenise(qs_preparer *p, const qs_row *row, qs_err *e)
{
    qs_labelled *out = &p->row;
    qs_labelled_clear(out);
    if (row->kind == QS_ROW_TOKENS) {
        for (size_t i = 0; i < row->id_count; i++)
            qs_labelled_push(out, row->ids[i],
                             p->o->train_on_inputs || !row->labels || row->labels[i] != -100);
    } else {
        qs_rendering_clear(&p->rendering);
        QS_TRY(render(p, row, e));
        count_texts(p);
        QS_TRY(qs_rendering_encode(&p->rendering, p->tokenizer, out, e));
        int32_t eos = qs_tokenizer_info(p->tokenizer)->eos;
        if (!p->chat && (!out->ids.count || out->ids.data[out->ids.count - 1] != eos))
            qs_labelled_push(out, eos, true);
    }
    count_tokens(p);
    if (out->ids.count) out->trained[0] = 0; /* nothing comes before it to predict it from */
    int32_t bos = p->tokenizer ? qs_tokenizer_info(p->tokenizer)->bos : -1;
    if (bos >= 0 && out->ids.count > 1 && out->ids.data[0] == bos && out->ids.data[1] == bos)
        QS_FAIL(e, QS_EFORMAT,
                "begins with two BOS tokens (\"%s\"); the tokenizer puts one there by itself: take it out of "
                "the data",
                qs_tokenizer_bos_text(p->tokenizer));
    return 0;
}

/* ---- handing samples on ------------------------------------------------------------------------------ */

static int keep(qs_preparer *p, const int32_t *ids, const uint8_t *trained, size_t count, const qs_row *row,
                qs_sample_sink sink, void *user, bool *kept, qs_err *e)
{
    qs_audit *a = &p->audit;
    int64_t targets = 0;
    for (size_t i = 0; i < count; i++) targets += trained[i];
    *kept = targets > 0;
    if (!targets) {
        a->untrained++;
        return 0;
    }
    if (!a->samples)
        for (size_t i = 0; i < count && i < QS_AUDIT_SHOWN_TOKENS; i++)
            qs_labelled_push(&a->shown, ids[i], trained[i]);
    a->samples++;
    a->tokens += (int64_t)count;
    a->targets += targets;
    a->beyond += a->positions && (int64_t)count > a->positions;
    if ((int64_t)count > a->longest) a->longest = (int64_t)count;
    return sink(user, ids, trained, count, row, e);
}

/* Whether a row teaches to stop: its last token does, or the last but what a template writes behind a control
 * token. */
static void count_end(qs_preparer *p, size_t count)
{
    if (!p->audit.stop_known) return;
    bool jinja = p->chat && qs_chat_template_jinja(p->chat);
    while (jinja && count > 1 && !p->row.trained[count - 1]) count--;
    int32_t id = p->row.ids.data[count - 1];
    p->audit.ends++;
    p->audit.ends_trained +=
        p->row.trained[count - 1] && (id == qs_tokenizer_info(p->tokenizer)->eos || id == p->stop);
}

/* Cuts a row into samples. Each later one begins with the row's BOS, or where there is none with the token
 * before it, as context alone: so every trained token is trained exactly once. */
static int split(qs_preparer *p, const qs_row *row, qs_sample_sink sink, void *user, qs_err *e)
{
    const qs_labelled *all = &p->row;
    size_t max = (size_t)p->o->max_seq_length, n = all->ids.count;
    int32_t bos = p->tokenizer ? qs_tokenizer_info(p->tokenizer)->bos : -1;
    bool with_bos = bos >= 0 && all->ids.data[0] == bos, kept = false;
    for (size_t at = 0; at < n;) {
        qs_labelled_clear(&p->piece);
        if (at) qs_labelled_push(&p->piece, with_bos ? bos : all->ids.data[at - 1], false);
        while (at < n && p->piece.ids.count < max) {
            qs_labelled_push(&p->piece, all->ids.data[at], all->trained[at]);
            at++;
        }
        QS_TRY(keep(p, p->piece.ids.data, p->piece.trained, p->piece.ids.count, row, sink, user, &kept, e));
        p->audit.pieces += kept;
    }
    if (kept) count_end(p, n);
    return 0;
}

static int hand_on(qs_preparer *p, const qs_row *row, qs_sample_sink sink, void *user, qs_err *e)
{
    qs_audit *a = &p->audit;
    a->rows += !row->continued;
    QS_TRY(tokenise(p, row, e));
    size_t n = p->row.ids.count, max = (size_t)p->o->max_seq_length;
    bool kept, long_row = n > max;
    a->overlong += long_row;
    if (n < 2 || (row->kind == QS_ROW_TEXT && !row->output.bytes)) {
        a->empty++;
        return 0;
    }
    p->fatal = long_row && p->o->overlong == QS_OVERLONG_ERROR;
    if (p->fatal)
        QS_FAIL(e, QS_EFORMAT,
                "has %zu tokens, more than max_seq_length %zu; raise max_seq_length, or choose overlong: "
                "truncate, drop or split",
                n, max);
    if (long_row && p->o->overlong == QS_OVERLONG_SPLIT) return split(p, row, sink, user, e);
    if (long_row && p->o->overlong == QS_OVERLONG_DROP) {
        a->dropped++;
        return 0;
    }
    if (long_row) {
        a->truncated++;
        n = max;
    }
    QS_TRY(keep(p, p->row.ids.data, p->row.trained, n, row, sink, user, &kept, e));
    if (kept) count_end(p, n);
    return 0;
}

int qs_prepare_row(qs_preparer *p, const qs_row *row, qs_sample_sink sink, void *user, qs_err *e)
{
    int rc = hand_on(p, row, sink, user, e);
    if (rc == -QS_EFORMAT || rc == -QS_EINVAL)
        return qs_err_prefix(e, "%s: row %lld (line %lld)", p->file, (long long)row->number,
                             (long long)row->line);
    return rc;
}
