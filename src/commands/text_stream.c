#include "src/commands/text_stream.h"

#include <string.h>

/* Where the first stop string begins; false: there is none. */
static bool find_stop(const qs_text_stream *s, const char *text, size_t bytes, size_t *at)
{
    bool found = false;
    for (int k = 0; k < s->stops; k++) {
        size_t n = strlen(s->stop[k]);
        for (size_t i = 0; n && i + n <= bytes && !(found && i >= *at); i++) {
            if (memcmp(text + i, s->stop[k], n) != 0) continue;
            *at = i;
            found = true;
        }
    }
    return found;
}

/* Bytes at the end that may be the beginning of a stop string. */
static size_t held_back(const qs_text_stream *s, const char *text, size_t bytes)
{
    size_t most = 0;
    for (int k = 0; k < s->stops; k++)
        for (size_t n = strlen(s->stop[k]); n > most; n--)
            if (n <= bytes && memcmp(text + bytes - n, s->stop[k], n) == 0) most = n;
    return most;
}

static size_t whole_characters(const char *text, size_t bytes)
{
    while (bytes >= 3 && memcmp(text + bytes - 3, "\xef\xbf\xbd", 3) == 0) bytes -= 3;
    return bytes;
}

bool qs_text_stream_show(qs_text_stream *s, const char *text, size_t bytes, bool last)
{
    size_t until = bytes;
    bool stopped = find_stop(s, text, bytes, &until);
    if (!stopped && !last) {
        until = whole_characters(text, bytes);
        until -= held_back(s, text, until);
    }
    if (until > s->shown) {
        fwrite(text + s->shown, 1, until - s->shown, s->out);
        fflush(s->out);
        s->shown = until;
    }
    return stopped;
}
