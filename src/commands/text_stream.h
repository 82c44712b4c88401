/* text_stream.h - a text that grows, shown as it comes: never half a character, nor what may turn out to be a
 * stop string.
 */
#ifndef QS_COMMANDS_TEXT_STREAM_H
#define QS_COMMANDS_TEXT_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef struct qs_text_stream {
    FILE *out;
    const char *const *stop; /* [stops] the text ends before the first of them */
    int stops;
    size_t shown;
} qs_text_stream; /* the rest zeroed */

/* The whole text so far, of which the last call's was the beginning but for incomplete characters at its end
 * (U+FFFD); shows what is certain. `last`: nothing will follow. True: a stop string was met, and nothing from
 * there on is shown. */
bool qs_text_stream_show(qs_text_stream *s, const char *text, size_t bytes, bool last);

#endif
