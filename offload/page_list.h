/* page_list.h - what will be used when: the uses of records of one kind, in the order of a schedule. Made
 * before the run; pagers, activation stores and the prediction follow it.
 *
 * A list is cyclic: after its last use comes its first. A use is counted from the list's beginning on,
 * through the rounds.
 */
#ifndef QS_OFFLOAD_PAGE_LIST_H
#define QS_OFFLOAD_PAGE_LIST_H

#include <stdint.h>

typedef enum qs_page_use {
    QS_PAGE_READ,
    QS_PAGE_CHANGE, /* read and written */
    QS_PAGE_NEW     /* overwritten as a whole: the old content is not wanted */
} qs_page_use;

/* Uses in the order of their ticks. Made with add and finish; zeroed before. */
typedef struct qs_page_list {
    struct qs_page_entry {
        int64_t tick;
        int32_t record;
        qs_page_use use;
    } * entries;
    int32_t count, capacity, records;
    int64_t ticks;         /* of a round */
    int32_t *next, *first; /* [count] index of the record's next use, count and more in the next round;
                              [records] -1: none */
} qs_page_list;

void qs_page_list_add(qs_page_list *l, int64_t tick, int32_t record, qs_page_use use); /* ticks never fall */
void qs_page_list_finish(qs_page_list *l, int32_t records, int64_t ticks);
void qs_page_list_free(qs_page_list *l);

static inline const struct qs_page_entry *qs_page_list_entry(const qs_page_list *l, int64_t use)
{
    return &l->entries[use % l->count];
}
static inline int64_t qs_page_list_tick(const qs_page_list *l, int64_t use)
{
    return use / l->count * l->ticks + qs_page_list_entry(l, use)->tick;
}

/* *next is a record's first use that is still to come, at first l->first[record]; -1: none. This moves it on
 * to the present tick and returns it; INT64_MAX: never. */
int64_t qs_page_list_next_use(const qs_page_list *l, int64_t now, int64_t *next);
/* The record was used at this tick. */
void qs_page_list_used(const qs_page_list *l, int64_t now, int64_t *next);

#endif
