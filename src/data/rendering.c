#include "src/data/rendering.h"

#include <string.h>

#include "src/base/memory.h"

void qs_rendering_clear(qs_rendering *r)
{
    r->bytes = 0;
    r->count = 0;
}

void qs_rendering_free(qs_rendering *r)
{
    qs_free(r->text);
    qs_free(r->segments);
    *r = (qs_rendering){0};
}

static void add_segment(qs_rendering *r, qs_segment s)
{
    if (r->count == r->segment_capacity) {
        r->segment_capacity = 2 * r->segment_capacity + 16;
        r->segments = qs_realloc(r->segments, r->segment_capacity * sizeof *r->segments);
    }
    r->segments[r->count++] = s;
}

void qs_rendering_text(qs_rendering *r, const char *text, size_t bytes, qs_text_join join, bool special, bool trained)
{
    if (!bytes) return;
    if (r->bytes + bytes > r->text_capacity) {
        r->text_capacity = 2 * (r->bytes + bytes) + 256;
        r->text = qs_realloc(r->text, r->text_capacity);
    }
    memcpy(r->text + r->bytes, text, bytes);
    add_segment(r, (qs_segment){r->bytes, bytes, -1, join, special, trained});
    r->bytes += bytes;
}

void qs_rendering_id(qs_rendering *r, int32_t id, bool trained) { add_segment(r, (qs_segment){.id = id, .trained = trained}); }

void qs_labelled_clear(qs_labelled *l) { l->ids.count = 0; }

void qs_labelled_free(qs_labelled *l)
{
    qs_ids_free(&l->ids);
    qs_free(l->trained);
    *l = (qs_labelled){0};
}

/* Labels for all ids from `first` on. */
static void label_from(qs_labelled *l, size_t first, bool trained)
{
    if (l->ids.count > l->trained_capacity) {
        l->trained_capacity = l->ids.capacity;
        l->trained = qs_realloc(l->trained, l->trained_capacity);
    }
    if (l->ids.count > first) memset(l->trained + first, trained, l->ids.count - first);
}

void qs_labelled_push(qs_labelled *l, int32_t id, bool trained)
{
    size_t first = l->ids.count;
    qs_ids_push(&l->ids, id);
    label_from(l, first, trained);
}

enum { GROUP_MAX = 64 };

/* Segments from `at` on that are tokenised together: of one label, without a cut between them. A very long run of short segments
 * (template loops never make one) is tokenised in parts. */
static size_t group_of(const qs_rendering *r, size_t at, qs_text_piece *pieces)
{
    size_t n = 0;
    for (size_t i = at; i < r->count && n < GROUP_MAX; i++) {
        const qs_segment *s = &r->segments[i];
        if (s->id >= 0 || (n && (s->join != QS_TEXT_JOIN || s->trained != r->segments[at].trained))) break;
        pieces[n++] = (qs_text_piece){r->text + s->offset, s->bytes, s->special};
    }
    return n;
}

int qs_rendering_encode(const qs_rendering *r, qs_tokenizer *t, qs_labelled *out, qs_err *e)
{
    for (size_t i = 0; i < r->count;) {
        const qs_segment *s = &r->segments[i];
        if (s->id >= 0) {
            qs_labelled_push(out, s->id, s->trained);
            i++;
            continue;
        }
        qs_text_piece pieces[GROUP_MAX];
        size_t n = group_of(r, i, pieces), first = out->ids.count;
        bool begins = !first || s->join == QS_TEXT_BEGIN;
        bool after_special = !begins && qs_tokenizer_is_added(t, out->ids.data[first - 1]);
        unsigned flags = begins ? 0 : after_special ? QS_ENCODE_SEGMENT : QS_ENCODE_CONTINUE;
        QS_TRY(qs_tokenizer_encode_pieces(t, pieces, n, flags, &out->ids, e));
        label_from(out, first, s->trained);
        i += n;
    }
    return 0;
}
