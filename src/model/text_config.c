#include "src/model/text_config.h"

#include <stdbool.h>
#include <string.h>

#include "src/base/log.h"

/* A model that is already a language model has no use for the object, whatever it is for. */
static bool is_language_model(const json_t *root)
{
    const char *class = json_string_value(json_array_get(json_object_get(root, "architectures"), 0));
    size_t n = class ? strlen(class) : 0;
    return n >= 8 && !strcmp(class + n - 8, "CausalLM");
}

json_t *qs_text_config(json_t *root, const char *name)
{
    static const char *const places[] = {"text_config", "llm_config", "language_config"};
    static const char *const shared[] = {"quantization_config", "quantization", "bos_token_id",
                                         "eos_token_id", "pad_token_id"};
    json_t *text = NULL;
    size_t k = 0;
    for (; k < sizeof places / sizeof *places && !text; k++) text = json_object_get(root, places[k]);
    if (!json_is_string(json_object_get(text, "model_type")) || is_language_model(root)) return root;
    qs_info("%s: the language model that %s describes is taken; the parts for pictures or sound are left out",
            name, places[k - 1]);
    text = json_deep_copy(text);
    for (size_t i = 0; i < sizeof shared / sizeof *shared; i++)
        if (!json_object_get(text, shared[i]))
            json_object_set(text, shared[i], json_object_get(root, shared[i]));
    json_t *tied = json_object_get(root, "tie_word_embeddings");
    if (tied) json_object_set(text, "tie_word_embeddings", tied); /* the head is the whole model's */
    json_object_del(text, "architectures");
    json_decref(root);
    return text;
}
