#include "src/data/vocab.h"

#include <string.h>
#include <xxhash.h>

#include "src/base/error.h"
#include "src/base/memory.h"

bool qs_vocab_add(qs_vocab *v, int32_t id, const char *text, size_t bytes, bool hidden)
{
    QS_ASSERT(id >= 0 && id < QS_VOCAB_MAX_ID);
    if (id >= v->capacity) {
        int32_t capacity = v->capacity ? v->capacity : 1024;
        while (capacity <= id) capacity *= 2;
        v->start = qs_realloc(v->start, (size_t)capacity * sizeof *v->start);
        v->length = qs_realloc(v->length, (size_t)capacity * sizeof *v->length);
        v->hidden = qs_realloc(v->hidden, (size_t)capacity * sizeof *v->hidden);
        for (int32_t i = v->capacity; i < capacity; i++) v->length[i] = -1;
        v->capacity = capacity;
    }
    if (v->length[id] >= 0) return false;
    if (v->pool_bytes + bytes > v->pool_capacity) {
        v->pool_capacity = 2 * v->pool_capacity + bytes + 4096;
        v->pool = qs_realloc(v->pool, v->pool_capacity);
    }
    if (bytes) memcpy(v->pool + v->pool_bytes, text, bytes);
    v->start[id] = (uint32_t)v->pool_bytes;
    v->length[id] = (int32_t)bytes;
    v->hidden[id] = hidden;
    v->pool_bytes += bytes;
    if (id >= v->count) v->count = id + 1;
    if (!hidden && (int32_t)bytes > v->longest) v->longest = (int32_t)bytes;
    return true;
}

static uint32_t slot_of(const qs_vocab *v, const char *text, size_t bytes)
{
    return (uint32_t)XXH3_64bits(text, bytes) & v->mask;
}

static bool equal(const qs_vocab *v, int32_t id, const char *text, size_t bytes)
{
    return (size_t)v->length[id] == bytes && memcmp(v->pool + v->start[id], text, bytes) == 0;
}

void qs_vocab_index(qs_vocab *v)
{
    if (v->capacity > v->count) {
        size_t n = (size_t)v->count + 1;
        v->pool = qs_realloc(v->pool, v->pool_bytes + 1);
        v->start = qs_realloc(v->start, n * sizeof *v->start);
        v->length = qs_realloc(v->length, n * sizeof *v->length);
        v->hidden = qs_realloc(v->hidden, n * sizeof *v->hidden);
        v->capacity = v->count;
        v->pool_capacity = v->pool_bytes;
    }
    uint32_t size = 16;
    while (size < 2 * (uint32_t)v->count) size *= 2;
    qs_free(v->slots);
    v->slots = qs_malloc(size * sizeof *v->slots);
    memset(v->slots, 0xff, size * sizeof *v->slots);
    v->mask = size - 1;
    for (int32_t id = 0; id < v->count; id++) {
        if (v->length[id] < 0 || v->hidden[id]) continue;
        const char *text = v->pool + v->start[id];
        size_t bytes = (size_t)v->length[id];
        uint32_t slot = slot_of(v, text, bytes);
        while (v->slots[slot] >= 0 && !equal(v, v->slots[slot], text, bytes)) slot = (slot + 1) & v->mask;
        if (v->slots[slot] < 0) v->slots[slot] = id;
    }
}

void qs_vocab_free(qs_vocab *v)
{
    qs_free(v->pool);
    qs_free(v->start);
    qs_free(v->length);
    qs_free(v->hidden);
    qs_free(v->slots);
    *v = (qs_vocab){0};
}

int32_t qs_vocab_find(const qs_vocab *v, const char *text, size_t bytes)
{
    if (!v->slots || bytes > (size_t)v->longest) return -1;
    uint32_t slot = slot_of(v, text, bytes);
    while (v->slots[slot] >= 0) {
        if (equal(v, v->slots[slot], text, bytes)) return v->slots[slot];
        slot = (slot + 1) & v->mask;
    }
    return -1;
}

const char *qs_vocab_text(const qs_vocab *v, int32_t id, size_t *bytes)
{
    *bytes = 0;
    if (id < 0 || id >= v->count || v->length[id] < 0) return NULL;
    *bytes = (size_t)v->length[id];
    return v->pool + v->start[id];
}
