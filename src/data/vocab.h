/* vocab.h - token strings by id, and ids by string.
 *
 * One pool of bytes, one table of where each id's string lies, one open-addressing hash table of ids: about
 * 20 bytes a token on top of its text. Strings may hold any byte. Fill with qs_vocab_add, then
 * qs_vocab_index, then look up.
 */
#ifndef QS_DATA_VOCAB_H
#define QS_DATA_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QS_VOCAB_MAX_ID = 1 << 21 }; /* no vocabulary comes near; a larger id in a file is damage */

typedef struct qs_vocab {
    char *pool;
    size_t pool_bytes, pool_capacity;
    uint32_t *start; /* [capacity] of each id's string in the pool */
    int32_t *length; /* [capacity] -1: no such token */
    bool *hidden;    /* [capacity] known by id, not found by its string */
    int32_t count;   /* largest id + 1 */
    int32_t capacity;
    int32_t longest; /* bytes of the longest string that can be found */
    int32_t *slots;  /* [mask + 1] ids, -1: empty */
    uint32_t mask;
} qs_vocab; /* {0} is an empty one */

/* id < QS_VOCAB_MAX_ID. Returns false, changing nothing, when the id has a string already. A hidden token is
 * only known by its id. */
bool qs_vocab_add(qs_vocab *v, int32_t id, const char *text, size_t bytes, bool hidden);
/* Gives back spare memory and makes strings findable. Of equal strings the lowest id is found. */
void qs_vocab_index(qs_vocab *v);
void qs_vocab_free(qs_vocab *v);

/* The id of these bytes, or -1. */
int32_t qs_vocab_find(const qs_vocab *v, const char *text, size_t bytes);

/* The string of an id, NULL where there is none. Not NUL-terminated. */
const char *qs_vocab_text(const qs_vocab *v, int32_t id, size_t *bytes);

#endif
