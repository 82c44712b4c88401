/* import_rules.h - what the tables of the other trainers' keys are made of; shared by import.c and import_*.c
 * alone.
 */
#ifndef QS_OPTIONS_IMPORT_RULES_H
#define QS_OPTIONS_IMPORT_RULES_H

#include <stdbool.h>

#include "src/options/yaml_flat.h"

typedef struct qs_import_state qs_import_state;

typedef enum qs_import_action {
    IMPORT_TAKE, /* our option `to`; `values` turns theirs into ours: "theirs=ours|theirs=ours", an empty ours
                    sets nothing */
    IMPORT_FINE, /* any value is fine: `note` says why */
    IMPORT_ONLY, /* these `values` ("false|0") are fine; another is not supported, and `note` says what to do
                  */
    IMPORT_NOT,  /* never supported: `note` says what to do */
    IMPORT_CALL  /* `call` decides */
} qs_import_action;

typedef struct qs_import_rule {
    const char *keys; /* separated by spaces, with [] for a place in a list; "a.*" is everything below a */
    qs_import_action action;
    const char *to, *values, *note;
    void (*call)(qs_import_state *s, const qs_yaml_entry *entry, const char *key);
} qs_import_rule;

/* What the trainer does where a key is unset and we would do something else. */
typedef struct qs_import_default {
    const char *to, *value;
} qs_import_default;

typedef struct qs_import_trainer {
    const char *name;
    const char *signs; /* keys that tell its files, separated by spaces */
    const qs_import_rule *const
        *tables;                       /* NULL-terminated list of tables, each ended by a rule without keys */
    const qs_import_default *defaults; /* ended by one without an option */
    void (*finish)(qs_import_state *s); /* what depends on several keys; may be NULL */
} qs_import_trainer;

extern const qs_import_trainer qs_import_axolotl, qs_import_llamafactory, qs_import_trl, qs_import_torchtune,
    qs_import_unsloth;
extern const qs_import_rule qs_import_hf_rules[]; /* of transformers' TrainingArguments */

/* ---- for the calls ----------------------------------------------------------------------------------- */
const qs_yaml_flat *qs_import_file(const qs_import_state *s);
/* The value of a key, "" when it is absent or null. */
const char *qs_import_value(const qs_import_state *s, const char *path);
/* Whether the file holds keys that only we have: then it was changed for us, and an adapter is meant. */
bool qs_import_has_ours(const qs_import_state *s);
bool qs_import_is_true(const char *value);
/* Whether `value` is one of "a|b|c", whatever the case. */
bool qs_import_among(const char *value, const char *values);
/* An option set from a key (entry NULL: from several); a value that the option does not take makes the key
 * unsupported. */
void qs_import_set(qs_import_state *s, const qs_yaml_entry *entry, const char *option, const char *value);
/* Adds to a list of paths. */
void qs_import_add_path(qs_import_state *s, const qs_yaml_entry *entry, const char *option, const char *path);
void qs_import_fine(qs_import_state *s, const char *path, const char *note);
void qs_import_not(qs_import_state *s, const char *path, const char *value, const char *note);
/* An option's value so far, or NULL. */
const char *qs_import_got(const qs_import_state *s, const char *option);

#endif
