/* letter_tokenizer.h - a tokenizer of one token per ASCII character, and the marks of the common chat
 * templates as control tokens. */
#ifndef QS_TESTS_SUPPORT_LETTER_TOKENIZER_H
#define QS_TESTS_SUPPORT_LETTER_TOKENIZER_H

#include "src/data/rendering.h"

/* Writes it into a folder (BOS <s> 200, EOS </s> 201, marks from 202) and opens it. */
void test_letter_tokenizer(const char *dir, qs_tokenizer **out);
/* The tokens as text, what is trained between { and }; freed with qs_free. */
char *test_marked(qs_tokenizer *t, const qs_labelled *l);

#endif
