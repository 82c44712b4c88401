/* text_config.h - the language model's part of a config.json that describes more. */
#ifndef QS_MODEL_TEXT_CONFIG_H
#define QS_MODEL_TEXT_CONFIG_H

#include <jansson.h>

/* Models of text and pictures or sound keep the language model's keys in an object of their own. Gives that
 * object, with what the whole file says for all of it (tied weights, quantisation, special tokens), and says
 * so; or *root as it is. `name` is how the file is called. Takes the reference to root, gives one. */
json_t *qs_text_config(json_t *root, const char *name);

#endif
