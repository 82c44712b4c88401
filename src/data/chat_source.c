#include "src/data/chat_source.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "io/file.h"
#include "src/base/memory.h"

enum { FILE_MAX_BYTES = 64 << 20 };

void qs_chat_day(const char *date, char *day)
{
    time_t now = time(NULL);
    struct tm today;
    if (date && *date) {
        snprintf(day, 16, "%.15s", date);
        return;
    }
    localtime_r(&now, &today);
    strftime(day, 16, "%Y-%m-%d", &today);
}

/* A JSON file of the model; *out stays NULL where it is not there. Numbers are reals: model_max_length is
 * often 10^30. */
static int read_json(const char *dir, const char *name, json_t **out, qs_err *e)
{
    char *path = qs_path_join(dir, name), *text = NULL;
    size_t bytes;
    json_error_t why;
    int rc = 0;
    *out = NULL;
    if (qs_file_exists(path)) rc = qs_file_read(path, FILE_MAX_BYTES, &text, &bytes, e);
    if (!rc && text && !(*out = json_loadb(text, bytes, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why)))
        rc =
            qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "%s:%d: is not JSON: %s", path, why.line, why.text);
    qs_free(text);
    qs_free(path);
    return rc;
}

/* A template file; *text stays NULL where it is not there. */
static int read_template(const char *dir, const char *name, char **text, qs_err *e)
{
    char *path = qs_path_join(dir, name);
    int rc = qs_file_exists(path) ? qs_file_read(path, FILE_MAX_BYTES, text, NULL, e) : 0;
    qs_free(path);
    return rc;
}

/* The template of a list by its name, or NULL. */
static const char *of_list(json_t *list, const char *name)
{
    size_t i;
    json_t *entry;
    if (json_is_object(list)) return json_string_value(json_object_get(list, name));
    json_array_foreach(list, i, entry)
    {
        const char *its = json_string_value(json_object_get(entry, "name"));
        if (its && strcmp(its, name) == 0) return json_string_value(json_object_get(entry, "template"));
    }
    return NULL;
}

static char *names_of(json_t *list)
{
    size_t i;
    json_t *entry;
    char *names = qs_strdup("");
    json_array_foreach(list, i, entry)
    {
        const char *its = json_string_value(json_object_get(entry, "name"));
        char *longer = qs_printf("%s%s%s", names, *names ? ", " : "", its ? its : "(unnamed)");
        qs_free(names);
        names = longer;
    }
    return names;
}

/* chat_template of a file: a text, or a list. wanted NULL: the default, and tool_use for tools. */
static int take_value(json_t *value, const char *wanted, qs_chat_source *out, qs_err *e)
{
    if (json_is_string(value) && !wanted) {
        out->text = qs_strdup(json_string_value(value));
        return 0;
    }
    const char *text = of_list(value, wanted ? wanted : "default"),
               *tools = wanted ? NULL : of_list(value, "tool_use");
    if (text) out->text = qs_strdup(text);
    if (text && tools) out->tools = qs_strdup(tools);
    if (text || !json_is_array(value) || wanted) return 0;
    char *names = names_of(value);
    qs_err_set(e, QS_EINVAL, __FILE__, __LINE__,
               "%s: the model has several chat templates and none is called default; choose one with "
               "--chat_template: %s",
               out->from, names);
    qs_free(names);
    return -QS_EINVAL;
}

static int of_file(const char *dir, const char *file, const char *wanted, qs_chat_source *out, qs_err *e)
{
    json_t *config;
    QS_TRY(read_json(dir, file, &config, e));
    qs_free(out->from);
    out->from = qs_path_join(dir, file);
    int rc = take_value(json_object_get(config, "chat_template"), wanted, out, e);
    json_decref(config);
    return rc;
}

static int of_model(const char *dir, const char *wanted, qs_chat_source *out, qs_err *e)
{
    char *more = wanted ? qs_printf("additional_chat_templates/%s.jinja", wanted) : NULL;
    int rc = read_template(dir, wanted ? more : "chat_template.jinja", &out->text, e);
    out->from = qs_path_join(dir, wanted ? more : "chat_template.jinja");
    qs_free(more);
    if (!rc && out->text && !wanted)
        return read_template(dir, "additional_chat_templates/tool_use.jinja", &out->tools, e);
    if (!rc && !out->text) rc = of_file(dir, "tokenizer_config.json", wanted, out, e);
    if (!rc && !out->text) rc = of_file(dir, "chat_template.json", wanted, out, e);
    return rc;
}

int qs_chat_source_find(const qs_chat_choice *choice, const char *built_in, qs_chat_source *out, qs_err *e)
{
    const char *name = choice->name, *dir = choice->model_dir;
    bool own = !name || !*name || strcmp(name, "auto") == 0;
    *out = (qs_chat_source){0};
    if (!own && (strstr(name, "{{") || strstr(name, "{%"))) {
        *out = (qs_chat_source){.text = qs_strdup(name), .from = qs_strdup("--chat_template")};
        return 0;
    }
    size_t n = own ? 0 : strlen(name);
    if (!own && (strchr(name, '/') || (n > 6 && strcmp(name + n - 6, ".jinja") == 0))) {
        out->from = qs_strdup(name);
        return qs_file_read(name, FILE_MAX_BYTES, &out->text, NULL, e);
    }
    if (dir) QS_TRY(of_model(dir, own ? NULL : name, out, e));
    if (out->text) return 0;
    if (!own)
        QS_FAIL(e, QS_EINVAL,
                "chat_template \"%.60s\" is not known; expected auto, a .jinja file, a name in the model's "
                "own list of templates, or one of: %s",
                name, built_in);
    QS_FAIL(e, QS_EMISSING,
            "%s: the model has no chat template (chat_template.jinja, or chat_template in "
            "tokenizer_config.json); choose one with "
            "--chat_template: a .jinja file, or one of: %s",
            dir ? dir : "no model", built_in);
}

void qs_chat_source_free(qs_chat_source *s)
{
    qs_free(s->text);
    qs_free(s->tools);
    qs_free(s->from);
    *s = (qs_chat_source){0};
}

/* ---- special tokens ---------------------------------------------------------------------------------- */

static bool is_token_name(const char *key)
{
    static const char *const others[] = {"add_bos_token", "add_eos_token"};
    size_t n = strlen(key);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(key, others[i]) == 0) return false;
    return n > 6 && strcmp(key + n - 6, "_token") == 0;
}

/* Adds the tokens that an object names and that are not known yet. */
static void take_tokens(json_t *from, json_t *to, bool any_name)
{
    const char *key;
    json_t *v;
    json_object_foreach(from, key, v)
    {
        json_t *text = json_is_object(v) ? json_object_get(v, "content") : v;
        if ((any_name || is_token_name(key)) && json_is_string(text) && !json_object_get(to, key))
            json_object_set(to, key, text);
    }
}

static void take_default(json_t *to, const char *key, const char *text)
{
    if (!json_object_get(to, key)) json_object_set_new(to, key, json_string(text));
}

int qs_chat_special_tokens(const char *model_dir, json_t **out, qs_err *e)
{
    json_t *config = NULL, *map = NULL, *tokens = *out = json_object();
    if (!model_dir) return 0;
    int rc = read_json(model_dir, "tokenizer_config.json", &config, e);
    if (!rc) rc = read_json(model_dir, "special_tokens_map.json", &map, e);
    take_tokens(config, tokens, false);
    take_tokens(json_object_get(config, "extra_special_tokens"), tokens, true);
    take_tokens(json_object_get(config, "model_specific_special_tokens"), tokens, true);
    take_tokens(map, tokens, false);
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    if (class && (strncmp(class, "Llama", 5) == 0 ||
                  strncmp(class, "CodeLlama", 9) == 0)) { /* what these classes bring along */
        take_default(tokens, "bos_token", "<s>");
        take_default(tokens, "eos_token", "</s>");
        take_default(tokens, "unk_token", "<unk>");
    } else if (class && strncmp(class, "Gemma", 5) == 0) {
        take_default(tokens, "bos_token", "<bos>");
        take_default(tokens, "eos_token", "<eos>");
        take_default(tokens, "unk_token", "<unk>");
    }
    json_decref(config);
    json_decref(map);
    if (rc) {
        json_decref(tokens);
        *out = NULL;
    }
    return rc;
}
