#include "offload/page_list.h"

#include "src/base/error.h"
#include "src/base/memory.h"

void qs_page_list_add(qs_page_list *l, int64_t tick, int32_t r, qs_page_use use)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity ? 2 * l->capacity : 64;
        l->entries = qs_realloc(l->entries, (size_t)l->capacity * sizeof *l->entries);
    }
    QS_ASSERT(!l->count || l->entries[l->count - 1].tick <= tick);
    l->entries[l->count++] = (struct qs_page_entry){tick, r, use};
}

void qs_page_list_finish(qs_page_list *l, int32_t records, int64_t ticks)
{
    l->ticks = ticks;
    l->records = records;
    l->next = qs_calloc((size_t)l->count + 1, sizeof *l->next);
    l->first = qs_malloc((size_t)records * sizeof *l->first);
    for (int32_t r = 0; r < records; r++) l->first[r] = -1;
    for (int round = 1; round >= 0;
         round--) /* the second round first: the last uses then know what follows the end */
        for (int32_t i = l->count - 1; i >= 0; i--) {
            int32_t *seen = &l->first[l->entries[i].record];
            if (!round) l->next[i] = *seen;
            *seen = round * l->count + i;
        }
}

void qs_page_list_free(qs_page_list *l)
{
    qs_free(l->entries);
    qs_free(l->next);
    qs_free(l->first);
    *l = (qs_page_list){0};
}

static int64_t after(const qs_page_list *l, int64_t use)
{
    return use / l->count * l->count + l->next[use % l->count];
}

int64_t qs_page_list_next_use(const qs_page_list *l, int64_t now, int64_t *next)
{
    if (*next < 0) return INT64_MAX;
    while (qs_page_list_tick(l, *next) < now) *next = after(l, *next);
    return *next;
}

void qs_page_list_used(const qs_page_list *l, int64_t now, int64_t *next)
{
    while (*next >= 0 && qs_page_list_tick(l, *next) <= now) *next = after(l, *next);
}
