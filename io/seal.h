/* seal.h - a checksum that a small text file, or a row of one, carries as its last words.
 *
 * A file that decides something (how a run goes on, which rows count) says itself whether it is whole: the
 * last member of a JSON object, or a comment at the end of a YAML file, holds the XXH3-64 of every byte
 * before it. Editors and parsers that know nothing of it read the file as before.
 */
#ifndef QS_IO_SEAL_H
#define QS_IO_SEAL_H

#include <stddef.h>

/* The words around the sixteen digits. */
typedef struct qs_seal {
    const char *open, *close;
} qs_seal;

extern const qs_seal qs_seal_json;    /* of an indented object; in the place of its final "\n}" */
extern const qs_seal qs_seal_row;     /* of an object on one line; in the place of its final "}" */
extern const qs_seal qs_seal_comment; /* a line of its own, after a newline */

enum { QS_SEAL_BYTES = 64 }; /* the longest seal, with its NUL */

typedef enum qs_seal_state { QS_SEAL_ABSENT, QS_SEAL_BROKEN, QS_SEAL_HOLDS } qs_seal_state;

/* The seal of text[0, bytes) into out[QS_SEAL_BYTES]; returns its length. */
size_t qs_seal_make(const qs_seal *seal, const char *text, size_t bytes, char *out);

/* Whether text[0, bytes) ends in a seal, and one that fits what stands before it. */
qs_seal_state qs_seal_check(const qs_seal *seal, const char *text, size_t bytes);

#endif
