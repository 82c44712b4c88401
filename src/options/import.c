/* import.c - recognises another trainer's configuration, walks its keys by the trainer's tables, and reports.
 */
#include "src/options/import.h"

#include <string.h>
#include <strings.h>

#include "src/base/memory.h"
#include "src/data/page.h"
#include "src/options/import_rules.h"
#include "src/options/option_internal.h"
#include "src/options/options.h"

/* One option that the file sets. */
typedef struct setting {
    char *option, *value;
    bool by_default; /* of the trainer */
    bool list;
} setting;

struct qs_import_state {
    const qs_import_trainer *trainer;
    const char *name;
    qs_yaml_flat file;
    setting *settings;
    int count;
    qs_options scratch; /* takes every value, so that one that does not fit is found here */
    qs_page taken, fine, refused, names;
    int refused_count;
    bool has_ours; /* keys that only we have: the file was changed for us */
};

static const qs_import_trainer *const trainers[] = {&qs_import_axolotl, &qs_import_llamafactory,
                                                    &qs_import_trl, &qs_import_torchtune, &qs_import_unsloth};

/* ---- for the tables ---------------------------------------------------------------------------------- */

const qs_yaml_flat *qs_import_file(const qs_import_state *s) { return &s->file; }

const char *qs_import_value(const qs_import_state *s, const char *path)
{
    const qs_yaml_entry *entry = qs_yaml_find(&s->file, path);
    return entry ? entry->value : "";
}

bool qs_import_has_ours(const qs_import_state *s) { return s->has_ours; }

bool qs_import_is_true(const char *value) { return qs_import_among(value, "true|yes|on|1"); }

bool qs_import_among(const char *value, const char *values)
{
    size_t n = strlen(value);
    for (const char *v = values; v && *v;) {
        size_t m = strcspn(v, "|");
        if (m == n && strncasecmp(v, value, n) == 0) return true;
        v += m + (v[m] == '|');
    }
    return false;
}

static setting *find_setting(const qs_import_state *s, const char *option)
{
    for (int i = 0; i < s->count; i++)
        if (strcmp(s->settings[i].option, option) == 0) return &s->settings[i];
    return NULL;
}

const char *qs_import_got(const qs_import_state *s, const char *option)
{
    const setting *found = find_setting(s, option);
    return found ? found->value : NULL;
}

static void put_setting(qs_import_state *s, const char *option, const char *value, bool list, bool by_default)
{
    setting *at = find_setting(s, option);
    if (!at) {
        s->settings = qs_realloc(s->settings, (size_t)(s->count + 1) * sizeof *s->settings);
        at = &s->settings[s->count++];
        *at = (setting){.option = qs_strdup(option)};
    }
    char *joined = list && at->value ? qs_printf("%s\n%s", at->value, value) : qs_strdup(value);
    qs_free(at->value);
    *at = (setting){at->option, joined, by_default, list};
}

void qs_import_not(qs_import_state *s, const char *path, const char *value, const char *note)
{
    qs_page_say(&s->refused, "    %.80s: %.80s - %.300s\n", path, *value ? value : "(empty)", note);
    qs_page_say(&s->names, "%s%.80s", s->refused_count++ ? ", " : "", path);
}

void qs_import_fine(qs_import_state *s, const char *path, const char *note)
{
    qs_page_say(&s->fine, "    %.80s: %.200s\n", path, note);
}

/* Whether the option takes the value; if not, why is in e. */
static bool fits(qs_import_state *s, const char *option, const char *value, qs_err *e)
{
    qs_option_set set = {&qs_training_options, &s->scratch};
    return !qs_option_assign(&set, 1, option, value, QS_FROM_CONFIG, option, e);
}

void qs_import_set(qs_import_state *s, const qs_yaml_entry *entry, const char *option, const char *value)
{
    qs_err e = {0};
    if (!fits(s, option, value, &e)) {
        qs_import_not(s, entry ? entry->path : option, entry ? entry->value : value, e.text);
        return;
    }
    put_setting(s, option, value, false, false);
    if (entry)
        qs_page_say(&s->taken, "    %.80s: %.120s -> %s: %.120s\n", entry->path, entry->value, option, value);
    else
        qs_page_say(&s->taken, "    %s: %.120s\n", option, value);
}

void qs_import_add_path(qs_import_state *s, const qs_yaml_entry *entry, const char *option, const char *path)
{
    put_setting(s, option, path, true, false);
    qs_page_say(&s->taken, "    %.80s: %.120s -> %s\n", entry->path, path, option);
}

/* ---- one key ----------------------------------------------------------------------------------------- */

/* The path with every place of a list as []. */
static void key_of(const char *path, char *key, size_t bytes)
{
    size_t n = 0;
    for (const char *p = path; *p && n + 1 < bytes; p++) {
        key[n++] = *p;
        if (*p == '[')
            while (p[1] && p[1] != ']') p++;
    }
    key[n] = 0;
}

static bool matches(const char *keys, const char *key)
{
    size_t n = strlen(key);
    for (const char *k = keys; *k;) {
        size_t m = strcspn(k, " ");
        if (m == n && strncmp(k, key, n) == 0) return true;
        if (m > 2 && strncmp(k + m - 2, ".*", 2) == 0 && strncmp(k, key, m - 2) == 0 &&
            (key[m - 2] == '.' || key[m - 2] == '[' || !key[m - 2]))
            return true;
        k += m;
        k += strspn(k, " ");
    }
    return false;
}

static const qs_import_rule *rule_of(const qs_import_trainer *t, const char *key)
{
    for (const qs_import_rule *const *table = t->tables; *table; table++)
        for (const qs_import_rule *r = *table; r->keys; r++)
            if (matches(r->keys, key)) return r;
    return NULL;
}

/* Ours for theirs, by "theirs=ours|..."; theirs where it is not in the list. Freed with qs_free. */
static char *translated(const char *values, const char *theirs)
{
    size_t n = strlen(theirs);
    for (const char *v = values; v && *v;) {
        size_t m = strcspn(v, "|"), equals = strcspn(v, "=");
        if (equals == n && equals < m && strncasecmp(v, theirs, n) == 0)
            return qs_strndup(v + equals + 1, m - equals - 1);
        v += m + (v[m] == '|');
    }
    return qs_strdup(theirs);
}

/* A key that only we have, as in a file of theirs with a budget put into it. */
static void take_own(qs_import_state *s, const qs_yaml_entry *entry)
{
    qs_option_set set = {&qs_training_options, &s->scratch};
    if (!qs_option_find(&set, 1, entry->path, NULL))
        return qs_import_not(s, entry->path, entry->value, "this key is not known here; remove it");
    s->has_ours = true;
    qs_import_set(s, entry, entry->path, entry->value);
}

static void take_entry(qs_import_state *s, const qs_yaml_entry *entry)
{
    char key[256];
    key_of(entry->path, key, sizeof key);
    if (entry->null) return; /* unset */
    const qs_import_rule *r = rule_of(s->trainer, key);
    if (!r) {
        take_own(s, entry);
        return;
    }
    char *value = r->action == IMPORT_TAKE ? translated(r->values, entry->value) : NULL;
    switch (r->action) {
    case IMPORT_TAKE:
        if (*value)
            qs_import_set(s, entry, r->to, value);
        else
            qs_import_fine(s, entry->path, "as here");
        break;
    case IMPORT_FINE:
        qs_import_fine(s, entry->path, r->note);
        break;
    case IMPORT_ONLY:
        if (qs_import_among(entry->value, r->values) ||
            (!*entry->value && qs_import_among("none", r->values)))
            qs_import_fine(s, entry->path, "as here");
        else
            qs_import_not(s, entry->path, entry->value, r->note);
        break;
    case IMPORT_NOT:
        qs_import_not(s, entry->path, entry->value, r->note);
        break;
    case IMPORT_CALL:
        r->call(s, entry, key);
    }
    qs_free(value);
}

/* ---- the file ---------------------------------------------------------------------------------------- */

static bool has_key(const qs_yaml_flat *f, const char *key, size_t n)
{
    for (int i = 0; i < f->count; i++) {
        const char *p = f->entries[i].path;
        if (strncmp(p, key, n) == 0 && (!p[n] || p[n] == '.' || p[n] == '[')) return true;
    }
    return false;
}

/* Whether every key is one of ours, so that nothing has to be translated. */
static bool is_ours(const qs_yaml_flat *f)
{
    qs_options o = {0};
    qs_option_set set = {&qs_training_options, &o};
    for (int i = 0; i < f->count; i++) {
        char top[128];
        size_t n = strcspn(f->entries[i].path, ".[");
        snprintf(top, sizeof top, "%.*s", (int)(n < 127 ? n : 127), f->entries[i].path);
        bool entry_of_data = f->entries[i].path[n] == '[' &&
                             (strstr(f->entries[i].path, "].path") || strstr(f->entries[i].path, "].type"));
        if (f->entries[i].path[n] && !entry_of_data) return false;
        if (!qs_option_find(&set, 1, top, NULL) && !qs_option_find_switch(&set, 1, top)) return false;
    }
    return true;
}

static const qs_import_trainer *recognise(const qs_yaml_flat *f)
{
    const qs_import_trainer *best = NULL;
    int most = 0;
    if (is_ours(f)) return NULL;
    for (size_t i = 0; i < sizeof trainers / sizeof *trainers; i++) {
        int count = 0;
        for (const char *k = trainers[i]->signs; *k;) {
            size_t n = strcspn(k, " ");
            count += has_key(f, k, n);
            k += n;
            k += strspn(k, " ");
        }
        if (count > most) {
            most = count;
            best = trainers[i];
        }
    }
    return most >= 2 ? best : NULL;
}

/* Two sizes of the same numbers at once. */
static void check_contradictions(qs_import_state *s)
{
    if (qs_import_is_true(qs_import_value(s, "bf16")) && qs_import_is_true(qs_import_value(s, "fp16"))) {
        qs_import_not(s, "bf16", "true", "contradicts fp16: true; keep one of them");
        qs_import_not(s, "fp16", "true", "contradicts bf16: true; keep one of them");
    }
}

static void add_defaults(qs_import_state *s)
{
    for (const qs_import_default *d = s->trainer->defaults; d->to; d++)
        if (!find_setting(s, d->to)) put_setting(s, d->to, d->value, false, true);
}

static void write_yaml(const qs_import_state *s, qs_page *p)
{
    qs_page_say(p, "# From %.300s, a configuration of %s.\n", s->name, s->trainer->name);
    for (int i = 0; i < s->count; i++) {
        const setting *o = &s->settings[i];
        qs_page_say(p, "%s:", o->option);
        for (const char *v = o->value; v;) {
            size_t n = strcspn(v, "\n");
            qs_page_say(p, o->list ? "\n  - \"" : " \"");
            for (size_t k = 0; k < n; k++) {
                if (v[k] == '"' || v[k] == '\\') qs_page_put(p, "\\", 1);
                qs_page_put(p, v + k, 1);
            }
            qs_page_put(p, "\"", 1);
            v = o->list && v[n] ? v + n + 1 : NULL;
        }
        qs_page_say(p, o->by_default ? "  # %s's default\n" : "\n", s->trainer->name);
    }
}

static void write_report(const qs_import_state *s, qs_page *p)
{
    int defaults = 0;
    qs_page_say(p, "%.300s: a configuration of %s\n", s->name, s->trainer->name);
    if (s->taken.bytes) qs_page_say(p, "  taken:\n");
    if (s->taken.bytes) qs_page_put(p, s->taken.text, s->taken.bytes);
    for (int i = 0; i < s->count; i++) {
        if (!s->settings[i].by_default) continue;
        if (!defaults++) qs_page_say(p, "  unset, and so as %s has it:\n   ", s->trainer->name);
        qs_page_say(p, " %s: %.60s%s", s->settings[i].option, s->settings[i].value, ";");
    }
    if (defaults) qs_page_say(p, "\n");
    if (s->fine.bytes) qs_page_say(p, "  already so here, or without effect on the result:\n");
    if (s->fine.bytes) qs_page_put(p, s->fine.text, s->fine.bytes);
    if (s->refused.bytes) qs_page_say(p, "  not supported:\n");
    if (s->refused.bytes) qs_page_put(p, s->refused.text, s->refused.bytes);
}

static void free_state(qs_import_state *s)
{
    for (int i = 0; i < s->count; i++) {
        qs_free(s->settings[i].option);
        qs_free(s->settings[i].value);
    }
    qs_free(s->settings);
    qs_free(s->taken.text);
    qs_free(s->fine.text);
    qs_yaml_flat_free(&s->file);
    qs_option_clear(&(qs_option_set){&qs_training_options, &s->scratch}, 1);
}

int qs_import_config(const char *name, const char *text, size_t bytes, qs_import *out, qs_err *e)
{
    qs_import_state s = {.name = name};
    *out = (qs_import){0};
    int rc = qs_yaml_flatten(name, text, bytes, &s.file, e);
    if (!rc) s.trainer = recognise(&s.file);
    if (s.trainer) {
        qs_page yaml = {0}, report = {0};
        qs_option_defaults(&(qs_option_set){&qs_training_options, &s.scratch}, 1);
        for (int i = 0; i < s.file.count; i++) take_entry(&s, &s.file.entries[i]);
        check_contradictions(&s);
        if (s.trainer->finish) s.trainer->finish(&s);
        add_defaults(&s);
        write_yaml(&s, &yaml);
        write_report(&s, &report);
        *out = (qs_import){s.trainer->name, yaml.text, report.text, s.refused_count, s.names.text};
    }
    qs_free(s.refused.text);
    free_state(&s);
    return rc;
}

void qs_import_free(qs_import *i)
{
    qs_free(i->yaml);
    qs_free(i->report);
    qs_free(i->refused_keys);
    *i = (qs_import){0};
}

int qs_import_check(const qs_import *i, const char *name, qs_err *e)
{
    if (!i->refused) return 0;
    QS_FAIL(e, QS_EUSAGE,
            "%.200s: %d keys of this configuration of %s are not supported (the list above says what to do): "
            "%.400s",
            name, i->refused, i->trainer, i->refused_keys);
}
