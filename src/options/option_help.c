/* option_help.c - the table for people: --help at the terminal and docs/options.md. */
#include <string.h>

#include "src/base/memory.h"
#include "src/options/option.h"
#include "src/options/option_internal.h"

enum { HELP_COLUMNS = 100, HELP_INDENT = 34 };

/* What the value of a row looks like: "N", "SIZE", "PATH", ... */
static void value_word(const qs_option *row, char *out, size_t capacity)
{
    static const char *const words[] = {
        [QS_OPT_STRING] = " TEXT", [QS_OPT_PATH] = " PATH",   [QS_OPT_FLAGPATH] = " [PATH]",
        [QS_OPT_LIST] = " LIST",   [QS_OPT_PATHS] = " PATHS", [QS_OPT_TEXTS] = " TEXT",
        [QS_OPT_INT] = " N",       [QS_OPT_FLOAT] = " X",     [QS_OPT_BYTES] = " SIZE",
        [QS_OPT_BOOL] = "",        [QS_OPT_ENUM] = " NAME"};
    snprintf(out, capacity, "%s", words[row->type]);
}

/* Prints text in the column from `indent` on, broken at spaces; the cursor stands at `column`. Ends the line.
 */
static void print_wrapped(FILE *f, const char *text, int column, int indent)
{
    if (column >= indent) {
        fputc('\n', f);
        column = 0;
    }
    while (*text) {
        int room = HELP_COLUMNS - indent, n = (int)strlen(text);
        if (n > room)
            for (n = room; n > 0 && text[n] != ' ';) n--;
        if (!n) n = (int)strcspn(text, " "); /* a word longer than the line stands alone */
        fprintf(f, "%*s%.*s\n", indent - column, "", n, text);
        text += n;
        text += strspn(text, " ");
        column = 0;
    }
}

/* "help [default: x] [one of: ...] [also: a, b]" */
static char *sentence(const qs_option *row)
{
    char expected[400] = "", *also = qs_strdup(""), *old;
    if (row->type == QS_OPT_ENUM) {
        char words[380];
        qs_option_expectation(row, words, sizeof words);
        snprintf(expected, sizeof expected, ": %s", words);
    }
    for (const char *a = row->aliases; a && *a;) {
        int n = (int)strcspn(a, " ");
        old = also;
        also = qs_printf("%s%s%.*s", old, *old ? ", " : "", n, a);
        qs_free(old);
        a += n;
        a += strspn(a, " ");
    }
    char *text = qs_printf("%s%s%s%s%s%s%s%s", row->help, expected, row->fallback ? " [" : "",
                           row->fallback ? row->fallback : "", row->fallback ? "]" : "",
                           *also ? " (also " : "", also, *also ? ")" : "");
    qs_free(also);
    return text;
}

void qs_option_print_help(FILE *f, const qs_option_set *sets, int count)
{
    for (int s = 0; s < count; s++) {
        const qs_option_table *t = sets[s].table;
        for (int r = 0; r < t->count; r++) {
            const qs_option *row = &t->rows[r];
            char word[16], flag[96];
            if (!r || strcmp(row->group, row[-1].group)) fprintf(f, "\n%s\n", row->group);
            value_word(row, word, sizeof word);
            bool on = row->type == QS_OPT_BOOL && row->fallback && !strcmp(row->fallback, "true");
            int n = snprintf(flag, sizeof flag, "  --%s%s%s", on ? "[no-]" : "", row->name, word);
            char *text = sentence(row);
            fputs(flag, f);
            print_wrapped(f, text, n, HELP_INDENT);
            qs_free(text);
        }
        for (int w = 0; w < t->switch_count; w++) {
            const qs_option_switch *sw = &t->switches[w];
            if (!w) fprintf(f, "\nSpellings of other tools\n");
            char flag[96], text[256];
            int n = snprintf(flag, sizeof flag, "  --%s", sw->name);
            if (sw->on && sw->off)
                snprintf(text, sizeof text, "%s: %.*s (false: %s)", sw->option, (int)strcspn(sw->on, "|"),
                         sw->on, sw->off);
            else
                snprintf(text, sizeof text, "%s: %.*s", sw->option, (int)strcspn(sw->on, "|"), sw->on);
            fputs(flag, f);
            print_wrapped(f, text, n, HELP_INDENT);
        }
    }
}

/* Text for a table cell: a bar would end it. */
static void print_cell(FILE *f, const char *text)
{
    for (; *text; text++) fprintf(f, *text == '|' ? "\\|" : "%c", *text);
}

void qs_option_print_markdown(FILE *f, const qs_option_set *sets, int count)
{
    for (int s = 0; s < count; s++) {
        const qs_option_table *t = sets[s].table;
        for (int r = 0; r < t->count; r++) {
            const qs_option *row = &t->rows[r];
            if (!r || strcmp(row->group, row[-1].group))
                fprintf(f,
                        "%s## %s\n\n| option | default | accepts | meaning | also written "
                        "|\n|---|---|---|---|---|\n",
                        r ? "\n" : "", row->group);
            char expected[400];
            qs_option_expectation(row, expected, sizeof expected);
            fprintf(f, "| `%s` | %s%s%s | ", row->name, row->fallback ? "`" : "",
                    row->fallback ? row->fallback : "", row->fallback ? "`" : "");
            print_cell(f, expected);
            fprintf(f, " | ");
            print_cell(f, row->help);
            fprintf(f, " | ");
            for (const char *a = row->aliases; a && *a;) {
                int n = (int)strcspn(a, " ");
                fprintf(f, "%s`%.*s`", a == row->aliases ? "" : ", ", n, a);
                a += n;
                a += strspn(a, " ");
            }
            fprintf(f, " |\n");
        }
        if (t->switch_count)
            fprintf(f, "\n## Spellings of other tools\n\n| switch | true | false |\n|---|---|---|\n");
        for (int w = 0; w < t->switch_count; w++) {
            const qs_option_switch *sw = &t->switches[w];
            fprintf(f, "| `%s` | ", sw->name);
            if (sw->on) fprintf(f, "`%s: %.*s`", sw->option, (int)strcspn(sw->on, "|"), sw->on);
            fprintf(f, " | ");
            if (sw->off) fprintf(f, "`%s: %s`", sw->option, sw->off);
            fprintf(f, " |\n");
        }
    }
}
