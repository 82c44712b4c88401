/* import_config.c - `qlora-stream import-config`: another trainer's configuration as one of ours. */
#include <string.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "src/commands/commands.h"
#include "src/options/import.h"
#include "src/options/option.h"

enum { CONFIG_MAX_BYTES = 1 << 20 };

static void help(FILE *f)
{
    fprintf(f, "usage: qlora-stream import-config FILE >ours.yaml\n\n"
               "Prints a YAML configuration of axolotl, LLaMA-Factory, TRL, torchtune or Unsloth as one of "
               "ours. What became of each key is told on\n"
               "standard error: taken, already so here, or not supported (these are left out). --config FILE "
               "takes such a file at once.\n");
}

static int print(const char *path, qs_err *e)
{
    char *text;
    size_t bytes;
    qs_import import = {0};
    QS_TRY(qs_file_read(path, CONFIG_MAX_BYTES, &text, &bytes, e));
    int rc = qs_import_config(path, text, bytes, &import, e);
    if (!rc && !import.trainer)
        rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__,
                        "%s: is none of the configurations that are known (axolotl, LLaMA-Factory, TRL, "
                        "torchtune, Unsloth)",
                        path);
    if (!rc) fputs(import.report, stderr);
    if (!rc) fputs(import.yaml, stdout);
    if (!rc && import.refused) printf("# Left out, for it is not supported: %s\n", import.refused_keys);
    qs_import_free(&import);
    qs_free(text);
    return rc;
}

static int run(int argc, char **argv, qs_err *e)
{
    if (argc != 1 || *argv[0] == '-')
        QS_FAIL(e, QS_EUSAGE, "expected one configuration file, found %d words", argc);
    return print(argv[0], e);
}

const qs_command qs_command_import_config = {
    "import-config", "print a configuration of another trainer as one of ours", help, run};
