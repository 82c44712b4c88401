#include "io/model_dir.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "io/file.h"
#include "io/file_kind.h"
#include "src/base/log.h"
#include "src/base/memory.h"

static bool has(const char *dir, const char *name)
{
    char *path = qs_path_join(dir, name);
    bool there = qs_file_exists(path);
    qs_free(path);
    return there;
}

static bool is_dir(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static bool ends_in(const char *s, const char *tail)
{
    size_t n = strlen(s), t = strlen(tail);
    return n >= t && !strcasecmp(s + n - t, tail);
}

/* The first entry of dir that satisfies `fits`, of all that do in `*count`; freed with qs_free. */
static char *find_entry(const char *dir, bool (*fits)(const char *dir, const char *name), int *count)
{
    char *first = NULL;
    DIR *d = opendir(dir);
    *count = 0;
    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (entry->d_name[0] == '.' || !fits(dir, entry->d_name)) continue;
        (*count)++;
        if (first && strcmp(first, entry->d_name) <= 0) continue;
        qs_free(first);
        first = qs_strdup(entry->d_name);
    }
    if (d) closedir(d);
    return first;
}

static bool holds_model(const char *dir, const char *name)
{
    char *sub = qs_path_join(dir, name);
    bool holds = is_dir(sub) && has(sub, "config.json");
    qs_free(sub);
    return holds;
}

static bool is_gguf(const char *dir, const char *name) { return ends_in(name, ".gguf"); }
static bool is_weights(const char *dir, const char *name) { return ends_in(name, ".safetensors"); }
static bool is_checkpoint(const char *dir, const char *name) { return !strncmp(name, "checkpoint-", 11); }

/* ---- the hub's cache --------------------------------------------------------------------------------- */

/* The snapshot that refs/main names, or the only one there is; NULL when it cannot be told. */
static char *snapshot_of(const char *root)
{
    char *snapshots = qs_path_join(root, "snapshots"), *ref = qs_path_join(root, "refs/main"), *text = NULL,
         *found = NULL;
    qs_err ignored;
    int count;
    if (!qs_file_read(ref, 256, &text, NULL, &ignored)) {
        text[strcspn(text, " \t\r\n")] = 0;
        if (*text && !strchr(text, '/') && holds_model(snapshots, text))
            found = qs_path_join(snapshots, text);
    }
    char *only = found ? NULL : find_entry(snapshots, holds_model, &count);
    if (only && count == 1) found = qs_path_join(snapshots, only);
    qs_free(only);
    qs_free(text);
    qs_free(ref);
    qs_free(snapshots);
    return found;
}

/* A model of this name in the hub's cache; NULL when it is not there. */
static char *in_hub_cache(const char *hub, const char *name)
{
    const char *slash = strchr(name, '/');
    char *root = qs_printf("%s/models--%.*s--%s", hub, (int)(slash - name), name, slash + 1),
         *found = snapshot_of(root);
    qs_free(root);
    return found;
}

/* ---- names that are no directory --------------------------------------------------------------------- */

/* ORGANISATION/NAME, as on the hub. */
static bool is_hub_name(const char *s)
{
    int slashes = 0;
    if (!isalnum((unsigned char)*s)) return false;
    for (; *s; s++) {
        slashes += *s == '/';
        if (*s != '/' && !isalnum((unsigned char)*s) && !strchr("-_.", *s)) return false;
        if (*s == '/' && !isalnum((unsigned char)s[1])) return false;
    }
    return slashes == 1;
}

static int no_such_directory(const char *given, const char *hub, char **out, qs_err *e)
{
    if (strstr(given, "://"))
        QS_FAIL(e, QS_EMISSING,
                "%s: is a web address; download the model first, for example with `hf download "
                "ORGANISATION/NAME --local-dir DIR`, and give --model DIR",
                given);
    if (is_hub_name(given)) {
        *out = in_hub_cache(hub, given);
        if (*out) {
            qs_info("%s is taken from the Hugging Face cache on this machine: %s", given, *out);
            return 0;
        }
        QS_FAIL(e, QS_EMISSING,
                "%s: there is no such directory; if it is a model on the Hugging Face hub, download it with "
                "`hf download %s --local-dir DIR` and give --model DIR",
                given, given);
    }
    QS_FAIL(e, QS_EMISSING, "%s: there is no such model directory", given);
}

/* ---- what is there ----------------------------------------------------------------------------------- */

static int refuse_gguf(const char *path, qs_err *e)
{
    QS_FAIL(e, QS_EUNSUP,
            "%s: is a GGUF model, which is not read; give the directory of the 16-bit Hugging Face model it "
            "was made from (config.json and safetensors)",
            path);
}

static int refuse_file(const char *path, qs_err *e)
{
    const char *trouble = qs_file_kind_trouble_at(path), *slash = strrchr(path, '/');
    if (ends_in(path, ".gguf") || (trouble && strstr(trouble, "GGUF"))) return refuse_gguf(path, e);
    if (ends_in(path, ".safetensors") || ends_in(path, ".json") || ends_in(path, ".bin"))
        QS_FAIL(e, QS_EUNSUP,
                "%s: is a file; --model takes the directory that holds config.json, the weights and the "
                "tokenizer: %.*s",
                path, slash ? (int)(slash - path) : 1, slash ? path : ".");
    QS_FAIL(e, QS_EUNSUP,
            "%s: is %s; --model takes the directory that holds config.json, the weights and the tokenizer",
            path, trouble ? trouble : "a file");
}

/* A directory without config.json. */
static int explain_directory(const char *dir, char **out, qs_err *e)
{
    int count, rc;
    if (has(dir, "adapter_config.json"))
        QS_FAIL(e, QS_EUNSUP,
                "%s: is a PEFT adapter, not a model; give the base model it was made for as --model, and "
                "this as --init_adapter to go on training it",
                dir);
    if (has(dir, "snapshots")) {
        *out = snapshot_of(dir);
        if (!*out)
            QS_FAIL(e, QS_EMISSING,
                    "%s: is a folder of the Hugging Face cache without a whole snapshot; give the folder "
                    "under %s/snapshots that has config.json",
                    dir, dir);
        qs_info("%s is a folder of the Hugging Face cache: its snapshot %s is taken", dir, *out);
        return 0;
    }
    if (has(dir, "params.json"))
        QS_FAIL(e, QS_EUNSUP,
                "%s: holds a model in Meta's own format (params.json and *.pth), which is not read; convert "
                "it with transformers' "
                "convert_llama_weights_to_hf.py, or download the Hugging Face form of it",
                dir);
    char *gguf = find_entry(dir, is_gguf, &count), *weights = find_entry(dir, is_weights, &(int){0});
    if (gguf && !weights) {
        char *path = qs_path_join(dir, gguf);
        rc = refuse_gguf(path, e);
        qs_free(path);
    } else {
        char *sub = find_entry(dir, holds_model, &count),
             *checkpoint = find_entry(dir, is_checkpoint, &(int){0});
        if (sub)
            rc = qs_err_set(e, QS_EMISSING, __FILE__, __LINE__,
                            "%s: has no config.json, but %s/%s has one: give that as --model", dir, dir, sub);
        else if (checkpoint)
            rc = qs_err_set(e, QS_EMISSING, __FILE__, __LINE__,
                            "%s: has no config.json; it looks like the output of a training run: give the "
                            "base model as --model, and one of its "
                            "checkpoints as --init_adapter",
                            dir);
        else
            rc = qs_err_set(e, QS_EMISSING, __FILE__, __LINE__,
                            "%s: has no config.json; expected the directory of a Hugging Face model "
                            "(config.json, safetensors, tokenizer)",
                            dir);
        qs_free(sub);
        qs_free(checkpoint);
    }
    qs_free(gguf);
    qs_free(weights);
    return rc;
}

int qs_model_dir(const char *given, const char *hub, char **out, qs_err *e)
{
    *out = NULL;
    if (!qs_file_exists(given)) return no_such_directory(given, hub, out, e);
    if (!is_dir(given)) return refuse_file(given, e);
    if (!has(given, "config.json")) return explain_directory(given, out, e);
    *out = qs_strdup(given);
    return 0;
}
