#include "io/tensor_name.h"

#include <stdio.h>
#include <string.h>

/* Takes every occurrence of a part of a path out of it. */
static void drop(char *name, const char *part)
{
    size_t n = strlen(part);
    for (char *at = name; (at = strstr(at, part));) {
        if (at == name || at[-1] == '.')
            memmove(at, at + n, strlen(at + n) + 1);
        else
            at++;
    }
}

static bool begins(const char *name, const char *with) { return !strncmp(name, with, strlen(with)); }

static void drop_front(char *name, const char *front)
{
    if (begins(name, front)) memmove(name, name + strlen(front), strlen(name) - strlen(front) + 1);
}

bool qs_tensor_plain_name(const char *name, char plain[QS_TENSOR_NAME_BYTES])
{
    static const char *const wrappers[] = {"_orig_mod.", "_fsdp_wrapped_module.",
                                           "_checkpoint_wrapped_module."};
    static const char *const bare[] = {"layers.", "embed_tokens.",
                                       "norm."}; /* of a model that was saved without its head */
    if (strlen(name) >= QS_TENSOR_NAME_BYTES - sizeof "model.") return false;
    memcpy(plain, name, strlen(name) + 1);
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++) drop(plain, wrappers[i]);
    drop_front(plain, "module.");
    if (begins(plain, "model.language_model.model.") || begins(plain, "model.language_model.lm_head."))
        drop_front(plain, "model.language_model.");
    else if (begins(plain, "model.language_model."))
        drop(plain, "language_model.");
    else
        drop_front(plain, "language_model.");
    for (size_t i = 0; i < sizeof bare / sizeof *bare; i++)
        if (begins(plain, bare[i])) {
            memmove(plain + strlen("model."), plain, strlen(plain) + 1);
            memcpy(plain, "model.", strlen("model."));
            break;
        }
    return strcmp(plain, name) != 0;
}
