/* rendering.h - a sample as written out for the model: segments of text and single tokens, each trained or
 * not.
 *
 * Markers (a template's own words, in which special tokens are tokens) and content (what people wrote, in
 * which they are plain text) stand next to each other and are still tokenised as one text where an inference
 * program would do so.
 *
 * Where tokens are cut. Everything up to the point where the model takes over is tokenised as one text, and
 * what the model says as another: the ids a trained model meets when it is asked are those it has learnt
 * from. So a segment that the model begins is marked QS_TEXT_CUT; the ids do not depend on what is trained. A
 * rendering marked `whole` is tokenised as one text, as transformers does with what a chat template gives; a
 * token that reaches into a trained segment is trained.
 */
#ifndef QS_DATA_RENDERING_H
#define QS_DATA_RENDERING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"
#include "src/data/tokenizer.h"

typedef enum qs_text_join {
    QS_TEXT_JOIN, /* tokenised together with the text before it */
    QS_TEXT_CUT,  /* on its own, as going on after what is before it */
    QS_TEXT_BEGIN /* on its own, as the beginning of an input: a BOS before it does not count */
} qs_text_join;

typedef struct qs_segment {
    size_t offset, bytes; /* of the rendering's text; unused when id >= 0 */
    int32_t id;           /* this token, or -1: text */
    qs_text_join join;
    bool special; /* special tokens in the text are tokens */
    bool trained;
} qs_segment;

typedef struct qs_rendering {
    char *text;
    size_t bytes, text_capacity;
    qs_segment *segments;
    size_t count, segment_capacity;
    bool whole;
} qs_rendering; /* {0} is an empty one; reused from sample to sample */

void qs_rendering_clear(qs_rendering *r);
void qs_rendering_free(qs_rendering *r);
/* Append a text (copied; empty ones leave no segment) or a token. */
void qs_rendering_text(qs_rendering *r, const char *text, size_t bytes, qs_text_join join, bool special,
                       bool trained);
void qs_rendering_id(qs_rendering *r, int32_t id, bool trained);

/* Token ids with their loss mask. */
typedef struct qs_labelled {
    qs_ids ids;
    uint8_t *trained; /* [ids.count] 0 or 1 */
    size_t trained_capacity;
} qs_labelled; /* {0} is an empty one */

void qs_labelled_clear(qs_labelled *l);
void qs_labelled_free(qs_labelled *l);
void qs_labelled_push(qs_labelled *l, int32_t id, bool trained);

/* Appends the tokens of a rendering. */
int qs_rendering_encode(const qs_rendering *r, qs_tokenizer *t, qs_labelled *out, qs_err *e);

#endif
