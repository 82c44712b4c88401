/* option.h - the option engine: one table of rows drives YAML keys, --flags, --help, the reference page and
 * validation.
 *
 * A row says name, type, where the value lives in a plain struct, range, default, other spellings and help. A
 * command hands over one or more (table, struct) pairs; `train` uses the training table of options.h alone,
 * another command may add a table of its own behind it. Values come from four places, later ones winning:
 *
 *     default  <  preset  <  --config file  <  command line
 *
 * `-` and `_` are the same in names. Accepted on the command line: `--key value`, `--key=value`, `--flag`,
 * `--no-flag`. A wrong key, type or range is QS_EUSAGE, and the sentence says where it was found (a flag, or
 * file:line), what was expected, and for an unknown key which name is nearest.
 */
#ifndef QS_OPTIONS_OPTION_H
#define QS_OPTIONS_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "src/base/error.h"

/* A list of strings; items and each item are owned (qs_malloc). */
typedef struct qs_strings {
    char **items;
    int count;
} qs_strings;

/* Appends a copy of text[0, n). */
void qs_strings_add(qs_strings *list, const char *text, size_t n);
void qs_strings_clear(qs_strings *list);

#define QS_OPTION_MANY \
    1e15 /* a max of this means no upper end: more than is ever counted, exact in a double */

typedef enum qs_option_type {
    QS_OPT_STRING,   /* char *, owned; NULL when unset */
    QS_OPT_PATH,     /* the same; shown as PATH in --help */
    QS_OPT_FLAGPATH, /* char *: `--key` alone gives "latest", `--key=PATH` or `--key PATH` the path; false
                        gives NULL */
    QS_OPT_LIST,  /* qs_strings: repeated, comma separated, or a YAML list; commas in brackets do not separate
                   */
    QS_OPT_PATHS, /* the same, of paths; in YAML also a list of mappings with `path` */
    QS_OPT_TEXTS, /* qs_strings: repeated, each taken whole, commas and all */
    QS_OPT_INT,   /* int64_t */
    QS_OPT_FLOAT, /* double */
    QS_OPT_BYTES, /* uint64_t: 10G or 10GiB = 10 * 2^30, 10GB = 10^10; K, M, G, T; `auto` = 0 */
    QS_OPT_BOOL,  /* bool */
    QS_OPT_ENUM   /* an enum: one of `names` */
} qs_option_type;

/* Whether an option may differ when a run is resumed. */
typedef enum qs_option_resume {
    QS_RESUME_FREE, /* placement, reports: anything goes, the bits stay the same */
    QS_RESUME_WARN, /* may change, with a warning: where inputs lie (checkpoints know their content), how long
                       to train */
    QS_RESUME_SAME  /* decides the bits of the run: must be as before */
} qs_option_resume;

/* One spelling of an enum value. The first row of a value is the canonical one; a NULL name ends the list. */
typedef struct qs_option_name {
    const char *name;
    int value;
} qs_option_name;

typedef struct qs_option {
    const char *name; /* the field's name, with underscores */
    qs_option_type type;
    size_t offset;               /* of the value in the struct */
    const char *fallback;        /* the default, as it would be written; NULL: unset */
    double min, max;             /* of INT, FLOAT and BYTES, both included */
    const char *aliases;         /* other spellings, separated by spaces; NULL: none */
    const qs_option_name *names; /* of ENUM; of INT, words for some values, or NULL */
    const char *group;           /* heading in --help; rows of a group are adjacent */
    qs_option_resume resume;
    const char *help; /* what it does, units, what 0 or auto means; no full stop */
    bool pairs;       /* of LIST: items are NAME=VALUE, and a file may hold them as a mapping */
    const char *null; /* what null says in a file: the value that means none of it; NULL: null leaves the
                         option as it is */
} qs_option;

/* A yes/no spelling of another option, as other tools have them: `bf16: true` is `compute_dtype: bf16`. */
typedef struct qs_option_switch {
    const char *name;
    const char *option;
    const char *on, *off; /* what true and false assign; NULL: nothing. "a|b": keep a value that is one of
                             these, else a */
} qs_option_switch;

typedef enum qs_option_source {
    QS_FROM_DEFAULT,
    QS_FROM_PRESET,
    QS_FROM_CONFIG,
    QS_FROM_COMMAND_LINE
} qs_option_source;

typedef struct qs_option_table {
    const qs_option *rows;
    int count;
    const qs_option_switch *switches; /* may be NULL */
    int switch_count;
    size_t sources_offset; /* of `uint8_t source[count]` (qs_option_source) in the struct */
} qs_option_table;

/* A table and the struct it fills. The struct starts zeroed. */
typedef struct qs_option_set {
    const qs_option_table *table;
    void *values;
} qs_option_set;

/* Gives every option its default. */
void qs_option_defaults(const qs_option_set *sets, int count);

/* Frees strings and lists and zeroes the values; safe on a zeroed struct. */
void qs_option_clear(const qs_option_set *sets, int count);

/* Assigns `text` to the option or switch called `key`. `where` opens the error sentence ("--lr",
 * "run.yaml:3"). A LIST is replaced by the items of `text`. Returns 0 or -QS_EUSAGE. */
int qs_option_assign(const qs_option_set *sets, int count, const char *key, const char *text,
                     qs_option_source source, const char *where, qs_err *e);

/* Reads a YAML document (bytes of `text`, called `name` in errors): a mapping of scalars, lists, and for a
 * list option lists of mappings with a `path` (and a `type` that is known: a data file's format shows in its
 * columns). QS_EUSAGE with name:line for what it cannot take. */
int qs_option_read_yaml(const qs_option_set *sets, int count, const char *name, const char *text,
                        size_t bytes, qs_option_source source, qs_err *e);

/* Reads argv[0, argc). Words that are no flags go to `words` (in order; NULL: they are errors, but more paths
 * may follow the first one of a list of paths). `--` ends the flags. */
int qs_option_read_args(const qs_option_set *sets, int count, int argc, char **argv, qs_strings *words,
                        qs_err *e);

/* The row called `key` (name or alias, - and _ alike) and its set; NULL when there is none. */
const qs_option *qs_option_find(const qs_option_set *sets, int count, const char *key,
                                const qs_option_set **set);

/* The value as it would be written in YAML, malloc'd (qs_free). */
char *qs_option_text(const qs_option *row, const void *values);

/* Where the value of `row` came from. */
qs_option_source qs_option_where(const qs_option_set *set, const qs_option *row);

/* All options with their values as a YAML mapping, grouped, malloc'd. Reading it back gives the same values.
 */
char *qs_option_to_yaml(const qs_option_set *sets, int count);

/* The grouped list for --help, at most 100 columns wide; and the same as a Markdown page body. */
void qs_option_print_help(FILE *f, const qs_option_set *sets, int count);
void qs_option_print_markdown(FILE *f, const qs_option_set *sets, int count);

#endif
