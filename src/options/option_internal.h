/* option_internal.h - what the files of the option engine share; nobody else includes it. */
#ifndef QS_OPTIONS_OPTION_INTERNAL_H
#define QS_OPTIONS_OPTION_INTERNAL_H

#include "src/options/option.h"

static inline bool qs_option_is_list(const qs_option *row)
{
    return row->type == QS_OPT_LIST || row->type == QS_OPT_PATHS || row->type == QS_OPT_TEXTS;
}

/* Whether key is the row's name or one of its aliases. */
bool qs_option_is_called(const qs_option *row, const char *key);

const qs_option_switch *qs_option_find_switch(const qs_option_set *sets, int count, const char *key);

/* Fails with the nearest name. */
int qs_option_unknown(const qs_option_set *sets, int count, const char *key, const char *where, qs_err *e);

/* true, yes, on, 1 and their opposites. */
bool qs_option_bool_of(const char *text, bool *out);

/* "a whole number from 1 to 8", "one of nf4, fp4, none", ... */
void qs_option_expectation(const qs_option *row, char *out, size_t capacity);

/* Reads text into one option; append: a list keeps what it has. */
int qs_option_put(const qs_option_set *set, const qs_option *row, const char *text, bool append,
                  qs_option_source source, const char *where, qs_err *e);

/* Adds text, whole, to a list option (NULL adds nothing, so that without append the list is empty after it).
 */
void qs_option_put_item(const qs_option_set *set, const qs_option *row, const char *text, bool append,
                        qs_option_source source);

#endif
