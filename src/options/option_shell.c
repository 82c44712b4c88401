#include "src/options/option_shell.h"

#include <string.h>

#include "src/base/memory.h"

/* ---- what the shells need to know of a row ----------------------------------------------------------- */

static bool takes_file(const qs_option *row)
{
    return row->type == QS_OPT_PATH || row->type == QS_OPT_PATHS || row->type == QS_OPT_FLAGPATH;
}

static bool on_by_default(const qs_option *row)
{
    return row->type == QS_OPT_BOOL && row->fallback && !strcmp(row->fallback, "true");
}

static const char *flag_prefix(const qs_option *row) { return on_by_default(row) ? "no-" : ""; }

/* The words of an enum, the first spelling of each value, between `separator`s. */
static void print_words(FILE *f, const qs_option *row, const char *separator)
{
    for (const qs_option_name *n = row->names; n && n->name; n++) {
        bool again = n > row->names && n[-1].value == n->value;
        if (!again) fprintf(f, "%s%s", n == row->names ? "" : separator, n->name);
    }
}

/* Text with `quote` before each of the characters in `of`. */
static void print_quoted(FILE *f, const char *text, const char *of, const char *quote)
{
    for (; *text; text++) fprintf(f, "%s%c", strchr(of, *text) ? quote : "", *text);
}

/* ---- bash -------------------------------------------------------------------------------------------- */

void qs_shell_print_bash(FILE *f, const qs_shell_program *p)
{
    fprintf(f, "# Completion of qlora-stream for bash; printed by `qlora-stream options --as bash`.\n"
               "_qlora_stream()\n{\n"
               "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
               "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        COMPREPLY=($(compgen -W \"");
    for (int i = 0; i < p->command_count; i++) fprintf(f, "%s ", p->commands[i].name);
    fprintf(f, "help --version --help\" -- \"$word\"))\n        return\n    fi\n    case $before in\n    "
               "help) COMPREPLY=($(compgen -W \"");
    for (int i = 0; i < p->command_count; i++) fprintf(f, "%s%s", i ? " " : "", p->commands[i].name);
    fprintf(f, "\" -- \"$word\")); return ;;\n");
    for (int r = 0; r < p->options->count; r++) {
        const qs_option *row = &p->options->rows[r];
        if (row->type != QS_OPT_ENUM) continue;
        fprintf(f, "    --%s) COMPREPLY=($(compgen -W \"", row->name);
        print_words(f, row, " ");
        fprintf(f, "\" -- \"$word\")); return ;;\n");
    }
    fprintf(f, "    esac\n    case $word in\n    -*) COMPREPLY=($(compgen -W \"--help");
    for (int r = 0; r < p->options->count; r++)
        fprintf(f, " --%s%s", flag_prefix(&p->options->rows[r]), p->options->rows[r].name);
    fprintf(f, "\" -- \"$word\")) ;;\n    *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n    esac\n}\n"
               "complete -o filenames -F _qlora_stream qlora-stream\n");
}

/* ---- zsh --------------------------------------------------------------------------------------------- */

void qs_shell_print_zsh(FILE *f, const qs_shell_program *p)
{
    static const char special[] = "[]:'\\", quote[] = "\\";
    fprintf(f, "#compdef qlora-stream\n# Completion of qlora-stream for zsh; printed by `qlora-stream "
               "options --as zsh`.\n"
               "_qlora_stream()\n{\n    local -a commands\n    commands=(\n");
    for (int i = 0; i < p->command_count; i++) {
        fprintf(f, "        \"%s:", p->commands[i].name);
        print_quoted(f, p->commands[i].summary, "\"$`\\:", "\\");
        fprintf(f, "\"\n");
    }
    fprintf(f, "    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n "
               "   fi\n    _arguments \\\n");
    for (int r = 0; r < p->options->count; r++) {
        const qs_option *row = &p->options->rows[r];
        fprintf(f, "        \"*--%s%s[", flag_prefix(row), row->name);
        for (const char *c = row->help; *c; c++) {
            if (strchr("\"$`", *c))
                fprintf(f, "\\%c", *c);
            else
                print_quoted(f, (char[]){*c, 0}, special, quote);
        }
        fprintf(f, "]");
        if (row->type == QS_OPT_ENUM) {
            fprintf(f, ":%s:(", row->name);
            print_words(f, row, " ");
            fprintf(f, ")");
        } else if (takes_file(row))
            fprintf(f, ":path:_files");
        else if (row->type != QS_OPT_BOOL)
            fprintf(f, ":value:");
        fprintf(f, "\" \\\n");
    }
    fprintf(f, "        \"*:file:_files\"\n}\n_qlora_stream \"$@\"\n");
}

/* ---- fish -------------------------------------------------------------------------------------------- */

void qs_shell_print_fish(FILE *f, const qs_shell_program *p)
{
    fprintf(f, "# Completion of qlora-stream for fish; printed by `qlora-stream options --as fish`.\n");
    for (int i = 0; i < p->command_count; i++) {
        fprintf(f, "complete -c qlora-stream -n __fish_use_subcommand -f -a %s -d '", p->commands[i].name);
        print_quoted(f, p->commands[i].summary, "'\\", "\\");
        fprintf(f, "'\n");
    }
    for (int r = 0; r < p->options->count; r++) {
        const qs_option *row = &p->options->rows[r];
        fprintf(f, "complete -c qlora-stream -l %s%s", flag_prefix(row), row->name);
        if (row->type == QS_OPT_ENUM) {
            fprintf(f, " -x -a '");
            print_words(f, row, " ");
            fprintf(f, "'");
        } else if (takes_file(row))
            fprintf(f, " -r");
        else if (row->type != QS_OPT_BOOL)
            fprintf(f, " -x");
        fprintf(f, " -d '");
        print_quoted(f, row->help, "'\\", "\\");
        fprintf(f, "'\n");
    }
}

/* ---- the manual page --------------------------------------------------------------------------------- */

/* A line of text: a dot or a quote at its start would be a request, a hyphen must stay one that can be
 * copied. */
static void print_troff(FILE *f, const char *text)
{
    if (*text == '.' || *text == '\'') fprintf(f, "\\&");
    for (; *text; text++) {
        if (*text == '-')
            fprintf(f, "\\-");
        else if (*text == '\\')
            fprintf(f, "\\e");
        else
            fputc(*text, f);
    }
}

static void print_man_option(FILE *f, const qs_option *row)
{
    fprintf(f, ".TP\n.B ");
    char *flag = qs_printf("--%s%s", on_by_default(row) ? "[no-]" : "", row->name);
    print_troff(f, flag);
    qs_free(flag);
    fprintf(f, "\n");
    print_troff(f, row->help);
    if (row->type == QS_OPT_ENUM) {
        fprintf(f, ": ");
        print_words(f, row, ", ");
    }
    if (row->fallback) {
        fprintf(f, " (default: ");
        print_troff(f, row->fallback);
        fprintf(f, ")");
    }
    if (row->aliases) {
        fprintf(f, ". Also written: ");
        print_troff(f, row->aliases);
    }
    fprintf(f, "\n");
}

void qs_shell_print_man(FILE *f, const qs_shell_program *p)
{
    fprintf(f,
            ".TH QLORA\\-STREAM 1 \"\" \"qlora\\-stream %s\" \"User Commands\"\n"
            ".SH NAME\nqlora\\-stream \\- fine\\-tune language models larger than the memory\n"
            ".SH SYNOPSIS\n.B qlora\\-stream\n.I COMMAND\n[options]\n"
            ".SH DESCRIPTION\nQLoRA fine\\-tuning with hard budgets of device memory and of RAM. The 4\\-bit "
            "base model stays on disk and in\n"
            "RAM and streams through the device, once forwards and once backwards per optimizer step. The "
            "result has the\n"
            "same bits as if everything had been resident, and as if the run had never been stopped.\n"
            ".SH COMMANDS\n",
            p->version);
    for (int i = 0; i < p->command_count; i++) {
        fprintf(f, ".TP\n.B %s\n", p->commands[i].name);
        print_troff(f, p->commands[i].summary);
        fprintf(f, "\n");
    }
    fprintf(f,
            ".P\n.B qlora\\-stream help\n.I COMMAND\ntells what a command takes beside the options below.\n"
            ".SH OPTIONS\nEach is also a key of a \\fB\\-\\-config\\fR file.\n");
    for (int r = 0; r < p->options->count; r++) {
        const qs_option *row = &p->options->rows[r];
        if (!r || strcmp(row->group, row[-1].group)) fprintf(f, ".SS %s\n", row->group);
        print_man_option(f, row);
    }
    fprintf(f, ".SH EXIT STATUS\n0: done. 1: it failed, and a sentence says why. 2: the command line or a "
               "configuration file is wrong.\n"
               "130: stopped by a signal, with a checkpoint to go on from.\n"
               ".SH FILES\n.TP\n.I ~/.cache/qlora\\-stream\nquantised layers, tokenised data and measured "
               "rates; \\fB\\-\\-cache\\fR chooses another place.\n");
}
