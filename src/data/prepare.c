#include "src/data/prepare.h"

#include <string.h>

#include "src/base/memory.h"

static bool is_auto(const char *name) { return !name || !*name || strcmp(name, "auto") == 0; }

static int choose_template(qs_preparer *p, qs_err *e)
{
    const char *name = p->o->chat_template;
    if (p->kind == QS_ROW_TEXT || p->kind == QS_ROW_TOKENS) return 0;
    if (!is_auto(name)) return qs_chat_template_by_name(name, &p->chat, e);
    if (p->kind == QS_ROW_ALPACA) return qs_chat_template_by_name("alpaca", &p->chat, e);
    if (p->kind == QS_ROW_MESSAGES) return qs_chat_template_of_model(p->o->model_dir, &p->chat, e);
    return 0;
}

int qs_preparer_open(qs_preparer *p, const qs_data_options *o, qs_row_kind kind, qs_err *e)
{
    *p = (qs_preparer){.o = o, .kind = kind, .file = o->data[0]};
    int rc = o->model_dir ? qs_tokenizer_open(o->model_dir, &p->tokenizer, e) : 0;
    if (rc == -QS_EMISSING && kind == QS_ROW_TOKENS) rc = 0;
    if (rc) return rc;
    if (!p->tokenizer && kind != QS_ROW_TOKENS)
        QS_FAIL(e, QS_EMISSING, "%s: has text, and there is no model directory to take a tokenizer from", o->data[0]);
    QS_TRY(choose_template(p, e));
    if (p->tokenizer && kind != QS_ROW_TOKENS && qs_tokenizer_info(p->tokenizer)->eos < 0)
        QS_FAIL(e, QS_EMISSING, "%s: the tokenizer names no end-of-sequence token, so nothing could learn to stop; expected eos_token in "
                                "tokenizer_config.json or eos_token_id in generation_config.json", o->model_dir);
    p->audit.stop_known = p->tokenizer && qs_tokenizer_info(p->tokenizer)->eos >= 0;
    return 0;
}

void qs_preparer_free(qs_preparer *p)
{
    qs_tokenizer_close(p->tokenizer);
    qs_audit_free(&p->audit);
    qs_rendering_free(&p->rendering);
    qs_labelled_free(&p->row);
    qs_labelled_free(&p->piece);
    qs_plain_messages_free(&p->plain);
    qs_free(p->user);
    *p = (qs_preparer){0};
}

char *qs_preparer_describe(const qs_preparer *p)
{
    static const char *const kinds[] = {"instruction rows", "conversations", "prompts and completions", "plain text", "rows of input_ids"};
    return p->chat ? qs_printf("%s, template %s", kinds[p->kind], qs_chat_template_name(p->chat)) : qs_strdup(kinds[p->kind]);
}

/* ---- writing a row out ------------------------------------------------------------------------------------------------------ */

static int render_messages(qs_preparer *p, const qs_message *m, size_t count, qs_err *e)
{
    return qs_chat_render(p->chat, p->tokenizer, m, count, false, p->o->train_on_inputs, &p->rendering, e);
}

static bool is_thought(const char *key) { return !strcmp(key, "reasoning_content") || !strcmp(key, "reasoning") || !strcmp(key, "thinking"); }

/* A thought goes under the name that the template reads. */
static bool rename_thought(const qs_chat_template *c, json_t *message, const char *key, json_t *thought)
{
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    for (int i = 0; i < 3 && is_thought(key); i++)
        if (qs_chat_reads(c, names[i])) return json_object_set(message, names[i], thought) == 0;
    return false;
}

/* Every key of a message is read by the template, or named: an error where it carries something to be learnt. */
static int check_keys(qs_preparer *p, json_t *message, size_t i, qs_err *e)
{
    const char *key, *name = qs_chat_template_name(p->chat);
    json_t *v;
    void *next;
    json_object_foreach_safe(message, next, key, v)
    {
        if (qs_chat_reads(p->chat, key) || qs_column_is_empty(v) || rename_thought(p->chat, message, key, v)) continue;
        if (is_thought(key) || strcmp(key, "tool_calls") == 0)
            QS_FAIL(e, QS_EFORMAT, "message %zu has %s%s, which the template %s does not write; write it as text in \"content\", or choose another "
                                   "template", i + 1, key, is_thought(key) ? "" : " (or a function_call)", name);
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
            QS_FAIL(e, QS_EFORMAT, "has the column \"%s\", which the template %s does not write; --ignore_columns %s passes it over", parts[k].key,
                    qs_chat_template_name(p->chat), parts[k].key);
    json_object_foreach(c->variables, key, v)
        if (!qs_chat_reads(p->chat, key))
            QS_FAIL(e, QS_EFORMAT, "sets \"%s\" in the column chat_template_kwargs, which the template %s does not read", key, qs_chat_template_name(p->chat));
    json_array_foreach(c->messages, i, v) QS_TRY(check_keys(p, v, i, e));
    return 0;
}

static int render_conversation(qs_preparer *p, const qs_conversation *c, qs_err *e)
{
    QS_TRY(check_conversation(p, c, e));
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
    return qs_alpaca_render(p->chat, p->tokenizer, row->instruction.data, row->instruction.bytes, row->input.data, row->input.bytes,
                            row->output.data, row->output.bytes, p->o->train_on_inputs, &p->rendering, e);
}

/* BOS, prompt, completion, EOS: the row as it is. Special tokens in it are tokens, for it is written for the model. */
static void render_plain(qs_preparer *p, const qs_row *row)
{
    const qs_token_info *info = qs_tokenizer_info(p->tokenizer);
    bool text = row->kind == QS_ROW_TEXT;
    if (info->add_bos && info->bos >= 0) qs_rendering_id(&p->rendering, info->bos, false);
    qs_rendering_text(&p->rendering, row->instruction.data, row->instruction.bytes, QS_TEXT_BEGIN, true, p->o->train_on_inputs);
    qs_rendering_text(&p->rendering, row->output.data, row->output.bytes, text ? QS_TEXT_BEGIN : QS_TEXT_CUT, true, true);
}

static int render(qs_preparer *p, const qs_row *row, qs_err *e)
{
    if (row->conversation) return render_conversation(p, row->conversation, e);
    if (row->kind == QS_ROW_ALPACA) return render_instruction(p, row, e);
    if (p->chat) return render_exchange(p, row, e);
    if (row->system.bytes)
        QS_FAIL(e, QS_EFORMAT, "has a \"system\" column beside prompt and completion, which are written as they are; choose a template with "
                               "--chat_template, or write messages");
    render_plain(p, row);
    return 0;
}

static int tokenise(qs_preparer *p, const qs_row *row, qs_err *e)
{
    qs_labelled *out = &p->row;
    qs_labelled_clear(out);
    if (row->kind == QS_ROW_TOKENS) {
        for (size_t i = 0; i < row->id_count; i++)
            qs_labelled_push(out, row->ids[i], p->o->train_on_inputs || !row->labels || row->labels[i] != -100);
    } else {
        qs_rendering_clear(&p->rendering);
        QS_TRY(render(p, row, e));
        QS_TRY(qs_rendering_encode(&p->rendering, p->tokenizer, out, e));
        int32_t eos = qs_tokenizer_info(p->tokenizer)->eos;
        if (!p->chat && (!out->ids.count || out->ids.data[out->ids.count - 1] != eos)) qs_labelled_push(out, eos, true);
    }
    if (out->ids.count) out->trained[0] = 0; /* nothing comes before it to predict it from */
    int32_t bos = p->tokenizer ? qs_tokenizer_info(p->tokenizer)->bos : -1;
    if (bos >= 0 && out->ids.count > 1 && out->ids.data[0] == bos && out->ids.data[1] == bos)
        QS_FAIL(e, QS_EFORMAT, "begins with two BOS tokens (\"%s\"); the tokenizer puts one there by itself: take it out of the data",
                qs_tokenizer_bos_text(p->tokenizer));
    return 0;
}

/* ---- handing samples on ----------------------------------------------------------------------------------------------------- */

static int keep(qs_preparer *p, const int32_t *ids, const uint8_t *trained, size_t count, const qs_row *row, qs_sample_sink sink, void *user,
                bool *kept, qs_err *e)
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
        for (size_t i = 0; i < count && i < QS_AUDIT_SHOWN_TOKENS; i++) qs_labelled_push(&a->shown, ids[i], trained[i]);
    a->samples++;
    a->tokens += (int64_t)count;
    a->targets += targets;
    if ((int64_t)count > a->longest) a->longest = (int64_t)count;
    return sink(user, ids, trained, count, row, e);
}

/* Whether a row's last token teaches to stop. */
static void count_end(qs_preparer *p, int32_t id, bool trained)
{
    if (!p->audit.stop_known) return;
    int32_t eos = qs_tokenizer_info(p->tokenizer)->eos, stop = p->chat ? qs_chat_stop_id(p->chat, p->tokenizer) : eos;
    p->audit.ends++;
    p->audit.ends_trained += trained && (id == eos || id == stop);
}

/* Cuts a row into samples. Each later one begins with the row's BOS, or where there is none with the token before it, as context
 * alone: so every trained token is trained exactly once. */
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
    if (kept) count_end(p, all->ids.data[n - 1], all->trained[n - 1]);
    return 0;
}

static int hand_on(qs_preparer *p, const qs_row *row, qs_sample_sink sink, void *user, qs_err *e)
{
    QS_TRY(tokenise(p, row, e));
    qs_audit *a = &p->audit;
    size_t n = p->row.ids.count, max = (size_t)p->o->max_seq_length;
    bool kept, long_row = n > max;
    a->rows++;
    a->overlong += long_row;
    if (n < 2 || (row->kind == QS_ROW_TEXT && !row->output.bytes)) {
        a->empty++;
        return 0;
    }
    if (long_row && p->o->overlong == QS_OVERLONG_ERROR)
        QS_FAIL(e, QS_EFORMAT, "has %zu tokens, more than max_seq_length %zu; raise max_seq_length, or choose overlong: truncate, drop or split",
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
    if (kept) count_end(p, p->row.ids.data[n - 1], p->row.trained[n - 1]);
    return 0;
}

int qs_prepare_row(qs_preparer *p, const qs_row *row, qs_sample_sink sink, void *user, qs_err *e)
{
    int rc = hand_on(p, row, sink, user, e);
    if (rc == -QS_EFORMAT || rc == -QS_EINVAL)
        return qs_err_prefix(e, "%s: row %lld (line %lld)", p->file, (long long)row->number, (long long)row->line);
    return rc;
}
