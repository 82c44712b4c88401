/* options.c - a command line becomes a qs_options: sources in their order, then what depends on each other.
 */
#include "src/options/options.h"

#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "io/file.h"
#include "io/model_dir.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/options/import.h"
#include "src/options/presets.h"
#include "src/options/saved.h"

enum { CONFIG_MAX_BYTES = 1 << 20, MAX_SETS = 4 };

static int find_preset(const char *name, const char **text, qs_err *e)
{
    char names[200] = "";
    for (const qs_preset *p = qs_presets; p->name; p++) {
        if (!strcmp(p->name, name)) return *text = p->text, 0;
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", p->name);
    }
    QS_FAIL(e, QS_EUSAGE, "--preset: there is no preset called \"%s\"; there are: %s", name, names);
}

/* A configuration of another trainer becomes one of ours, and what became of its keys is told. */
static int translate(const char *path, char **text, size_t *bytes, qs_err *e)
{
    qs_import import;
    qs_err ignored; /* of what is no configuration at all our own reader tells more */
    int rc = 0;
    if (qs_import_config(path, *text, *bytes, &import, &ignored)) return 0;
    if (import.trainer) {
        for (const char *line = import.report; *line; line += strcspn(line, "\n") + 1)
            qs_info("%.*s", (int)strcspn(line, "\n"), line);
        rc = qs_import_check(&import, path, e);
    }
    if (!rc && import.trainer) {
        qs_free(*text);
        *text = import.yaml;
        *bytes = strlen(*text);
        import.yaml = NULL;
    }
    qs_import_free(&import);
    return rc;
}

/* Applies all four sources. The command line is read first for the files it names, and again last, because it
 * wins. */
static int read_sources(qs_options *o, const qs_option_set *sets, int count, int argc, char **argv,
                        char **config_text, qs_err *e)
{
    size_t config_bytes = 0;
    const char *preset_text = NULL;
    qs_option_defaults(sets, count);
    QS_TRY(qs_option_read_args(sets, count, argc, argv, NULL, e));
    char path[4096] = "", *saved = NULL;
    if (o->config)
        snprintf(path, sizeof path, "%s", o->config);
    else if (o->resume) { /* a resumed run goes on with its own options */
        QS_TRY(qs_saved_options_find(o->out, o->resume, &saved, e));
        snprintf(path, sizeof path, "%s", saved ? saved : "");
        qs_free(saved);
    }
    if (*path) {
        QS_TRY(qs_file_read(path, CONFIG_MAX_BYTES, config_text, &config_bytes, e));
        if (o->config) QS_TRY(translate(path, config_text, &config_bytes, e));
        bool preset_given = o->preset != NULL;
        if (!preset_given) /* the file may name one, which goes underneath it */
            QS_TRY(qs_option_read_yaml(sets, count, path, *config_text, config_bytes, QS_FROM_CONFIG, e));
    }
    if (o->preset) QS_TRY(find_preset(o->preset, &preset_text, e));

    qs_option_clear(sets, count);
    qs_option_defaults(sets, count);
    if (preset_text)
        QS_TRY(
            qs_option_read_yaml(sets, count, "preset", preset_text, strlen(preset_text), QS_FROM_PRESET, e));
    if (*config_text) {
        QS_TRY(qs_option_read_yaml(sets, count, path, *config_text, config_bytes, QS_FROM_CONFIG, e));
        if (o->config)
            QS_FAIL(e, QS_EUSAGE, "%s: a config file cannot name another one (config: %s)", path, o->config);
    }
    return qs_option_read_args(sets, count, argc, argv, NULL, e);
}

/* Of two options that say the same thing, the one set nearer to the command line counts; set in one place,
 * `first` does. Only flags are warned about: a file may hold every option, as options.yaml does. */
static bool second_counts(const qs_options *o, const char *first, const char *second)
{
    qs_option_source a = qs_options_source_of(o, first), b = qs_options_source_of(o, second);
    if (a == b && a == QS_FROM_COMMAND_LINE)
        qs_warn("both --%s and --%s are given; %s counts", first, second, first);
    return b > a;
}

/* Where neither variable is set (cron, a service) the password file says where home is. */
static void default_cache(qs_options *o)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (!home || !*home) {
        /* cppcheck-suppress getpwuidCalled ; one thread, at the start */
        const struct passwd *user = getpwuid(getuid());
        home = user && user->pw_dir && *user->pw_dir ? user->pw_dir : "/nonexistent";
    }
    char *dir =
        cache && *cache ? qs_path_join(cache, "qlora-stream") : qs_path_join(home, ".cache/qlora-stream");
    qs_strings_add(&o->cache, dir, strlen(dir));
    qs_free(dir);
    qs_option_set set = {&qs_training_options, o};
    o->source[qs_option_find(&set, 1, "cache", NULL) - qs_training_options.rows] =
        QS_FROM_DEFAULT; /* also over an empty list */
}

/* A leading ~ of a path is the home directory, as shells expand it on a command line but nobody in a file. */
static void expand_home(char **path)
{
    const char *home = getenv("HOME");
    if (!*path || **path != '~' || ((*path)[1] && (*path)[1] != '/') || !home || !*home) return;
    char *expanded = qs_printf("%s%s", home, *path + 1);
    qs_free(*path);
    *path = expanded;
}

static void expand_homes(qs_options *o)
{
    for (int r = 0; r < qs_training_options.count; r++) {
        const qs_option *row = &qs_training_options.rows[r];
        char *at = (char *)o + row->offset;
        qs_strings *list = (qs_strings *)at;
        if (row->type == QS_OPT_PATH || row->type == QS_OPT_FLAGPATH) expand_home((char **)at);
        for (int i = 0; row->type == QS_OPT_PATHS && i < list->count; i++) expand_home(&list->items[i]);
    }
}

static int settle(qs_options *o, qs_err *e)
{
    expand_homes(o);
    if (qs_options_target_kind(&o->target_modules) == QS_TARGET_ALL_LINEAR) { /* one spelling from here on */
        qs_strings_clear(&o->target_modules);
        qs_strings_add(&o->target_modules, "all-linear", strlen("all-linear"));
    }
    if (o->warmup_steps > 0 && second_counts(o, "warmup_steps", "warmup_ratio")) o->warmup_steps = 0;
    if (o->max_steps > 0 && second_counts(o, "max_steps", "num_train_epochs")) o->max_steps = -1;
    if (!o->cache.count) default_cache(o);
    for (int i = 0; i < o->report_to.count; i++) {
        const char *to = o->report_to.items[i];
        if (strcmp(to, "tensorboard") && strcmp(to, "none") && strcmp(to, "all"))
            QS_FAIL(e, QS_EUSAGE, "report_to expects tensorboard or none, found \"%s\"", to);
    }
    return 0;
}

int qs_options_parse(qs_options *o, int argc, char **argv, const qs_option_set *more, int more_count,
                     qs_err *e)
{
    qs_option_set sets[MAX_SETS] = {{&qs_training_options, o}};
    QS_ASSERT(more_count < MAX_SETS);
    for (int i = 0; i < more_count; i++) sets[1 + i] = more[i];
    char *config_text = NULL;
    int rc = read_sources(o, sets, 1 + more_count, argc, argv, &config_text, e);
    qs_free(config_text);
    return rc ? rc : settle(o, e);
}

void qs_options_defaults(qs_options *o) { qs_option_defaults(&(qs_option_set){&qs_training_options, o}, 1); }

int qs_options_check_plan(const qs_options *o, qs_err *e)
{
    if (!o->model) QS_FAIL(e, QS_EUSAGE, "--model is missing: the directory of the base model");
    return 0;
}

int qs_options_check_train(const qs_options *o, qs_err *e)
{
    QS_TRY(qs_options_check_plan(o, e));
    if (!o->data.count) QS_FAIL(e, QS_EUSAGE, "--data is missing: a .jsonl or .json file to train on");
    if (!o->out) QS_FAIL(e, QS_EUSAGE, "--out is missing: the directory that the run is written to");
    if (o->eval_data.count && o->val_set_size > 0)
        QS_FAIL(e, QS_EUSAGE,
                "eval_data and val_set_size are both given; validate on files of their own or on a part of "
                "the data");
    return 0;
}

char *qs_options_hub_cache(void)
{
    const char *hub = getenv("HF_HUB_CACHE"), *home = getenv("HF_HOME"), *cache = getenv("XDG_CACHE_HOME"),
               *user = getenv("HOME");
    if (hub && *hub) return qs_strdup(hub);
    if (home && *home) return qs_path_join(home, "hub");
    if (cache && *cache) return qs_path_join(cache, "huggingface/hub");
    return qs_path_join(user && *user ? user : ".", ".cache/huggingface/hub");
}

int qs_options_find_model(qs_options *o, qs_err *e)
{
    char *dir, *hub = qs_options_hub_cache();
    int rc = o->model ? qs_model_dir(o->model, hub, &dir, e) : 0;
    qs_free(hub);
    if (rc || !o->model) return rc;
    qs_free(o->model);
    o->model = dir;
    return 0;
}

qs_target_kind qs_options_target_kind(const qs_strings *t)
{
    if (t->count != 1) return QS_TARGET_NAMES;
    const char *s = t->items[0];
    if (!strcasecmp(s, "all-linear") || !strcasecmp(s, "all_linear") || !strcasecmp(s, "all"))
        return QS_TARGET_ALL_LINEAR;
    return strpbrk(s, "\\^$*+?()[]{}|") ? QS_TARGET_REGEX : QS_TARGET_NAMES;
}

void qs_options_data(const qs_options *o, bool validation, const char *cache_dir, qs_data_options *out)
{
    const qs_strings *data = validation ? &o->eval_data : &o->data;
    *out = (qs_data_options){.data = (const char *const *)data->items,
                             .data_count = data->count,
                             .validation = validation,
                             .model_dir = o->model,
                             .cache_dir = cache_dir,
                             .chat_template = o->chat_template,
                             .chat_template_kwargs = o->chat_template_kwargs,
                             .template_date = o->template_date,
                             .ignore_columns = o->ignore_columns,
                             .text_column = o->text_column,
                             .drop_bad_rows = o->bad_rows == QS_BAD_ROWS_DROP,
                             .max_seq_length = o->max_seq_length,
                             .overlong = o->overlong,
                             .train_on_inputs = o->train_on_inputs};
}
