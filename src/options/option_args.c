/* option_args.c - the command line: --key value, --key=value, --flag, --no-flag. */
#include <string.h>

#include "src/base/memory.h"
#include "src/options/option.h"
#include "src/options/option_internal.h"

static bool is_negation(const char *key) { return !strncmp(key, "no-", 3) || !strncmp(key, "no_", 3); }

/* Whether `key` may stand alone, and whether a following word is its value all the same. */
static bool stands_alone(const qs_option *row, const qs_option_switch *sw, const char *next)
{
    bool ignored;
    if (sw || (row && row->type == QS_OPT_BOOL)) return !next || !qs_option_bool_of(next, &ignored);
    if (row && row->type == QS_OPT_FLAGPATH) return !next || !strncmp(next, "--", 2);
    return false;
}

/* One flag. `next` is the following word or NULL; *used_next tells whether it was the value. */
static int read_flag(const qs_option_set *sets, int count, const char *flag, const char *next,
                     bool *used_next, qs_err *e)
{
    const char *equals = strchr(flag, '=');
    char *where = qs_strndup(flag, equals ? (size_t)(equals - flag) : strlen(flag));
    const char *key = where + 2, *text = equals ? equals + 1 : NULL;
    const qs_option_set *set = NULL;
    const qs_option *row = qs_option_find(sets, count, key, &set);
    const qs_option_switch *sw = row ? NULL : qs_option_find_switch(sets, count, key);
    int rc;

    *used_next = false;
    if (!row && !sw && is_negation(key)) {
        row = qs_option_find(sets, count, key + 3, &set);
        sw = row ? NULL : qs_option_find_switch(sets, count, key + 3);
        if (row && row->type != QS_OPT_BOOL && row->type != QS_OPT_FLAGPATH) row = NULL;
        if ((row || sw) && !text) text = "false";
        if (row || sw) key += 3;
    } else if (!text) {
        text = stands_alone(row, sw, next) ? "true" : next;
        *used_next = text == next;
    }
    if (!row && !sw)
        rc = qs_option_unknown(sets, count, key, where, e);
    else if (!text)
        rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__, "%s: expects a value, found the end of the line",
                        where);
    /* Text that opens with -- is the next flag, not a value; a value like that can be given as --key=--text.
     */
    else if (*used_next && !strncmp(text, "--", 2))
        rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__, "%s: expects a value, found %s", where, text);
    else if (row) {
        bool again = qs_option_where(set, row) == QS_FROM_COMMAND_LINE;
        rc = qs_option_put(set, row, text, again, QS_FROM_COMMAND_LINE, where, e);
    } else
        rc = qs_option_assign(sets, count, key, text, QS_FROM_COMMAND_LINE, where, e);
    qs_free(where);
    return rc;
}

/* Whether further words may follow the value of this flag: paths, as in --data a.jsonl b.jsonl. */
static bool takes_more(const qs_option_set *sets, int count, const char *flag)
{
    const qs_option *row = strchr(flag, '=') ? NULL : qs_option_find(sets, count, flag + 2, NULL);
    return row && row->type == QS_OPT_PATHS;
}

int qs_option_read_args(const qs_option_set *sets, int count, int argc, char **argv, qs_strings *words,
                        qs_err *e)
{
    bool flags_ended = false;
    const char *paths =
        NULL; /* the flag whose paths may go on; where words have a meaning of their own none does */
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (!flags_ended && !strcmp(word, "--")) {
            flags_ended = true;
        } else if (!flags_ended && !strncmp(word, "--", 2)) {
            bool used_next;
            QS_TRY(read_flag(sets, count, word, i + 1 < argc ? argv[i + 1] : NULL, &used_next, e));
            i += used_next;
            paths = !words && takes_more(sets, count, word) ? word : NULL;
        } else if (!flags_ended && word[0] == '-' && word[1]) {
            QS_FAIL(e, QS_EUSAGE, "%s: there are no short flags; write --name, and --help lists the names",
                    word);
        } else if (paths) {
            bool used_next;
            QS_TRY(read_flag(sets, count, paths, word, &used_next, e));
        } else {
            if (!words) QS_FAIL(e, QS_EUSAGE, "\"%s\": expected a flag such as --model here", word);
            qs_strings_add(words, word, strlen(word));
        }
    }
    return 0;
}
