#include "src/data/jinja/value.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

/* ---- text -------------------------------------------------------------------------------------------- */

size_t qs_jcharacter_bytes(const char *text, size_t bytes)
{
    unsigned char c = (unsigned char)text[0];
    size_t n = c < 0xc0 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    return n < bytes ? n : bytes;
}

int32_t qs_jcodepoint(const char *text, size_t bytes)
{
    utf8proc_int32_t code;
    if (!bytes) return -1;
    if ((unsigned char)text[0] < 0x80) return text[0];
    return utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, &code) > 0 ? code
                                                                                                : 0xfffd;
}

size_t qs_jcharacters(const char *text, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; n++) i += qs_jcharacter_bytes(text + i, bytes - i);
    return n;
}

size_t qs_jcharacter_at(const char *text, size_t bytes, size_t n)
{
    size_t i = 0;
    while (n-- && i < bytes) i += qs_jcharacter_bytes(text + i, bytes - i);
    return i;
}

bool qs_jis_space(int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

bool qs_jput(qs_jarena *a, qs_jbuilder *b, const char *text, size_t bytes, int32_t mark)
{
    if (!bytes) return true;
    if (bytes > QS_JTEXT_MAX - b->bytes) return false;
    if (b->bytes + bytes > b->capacity) {
        size_t want = 2 * (b->bytes + bytes) + 32;
        char *more = qs_jarena_grow(a, b->text, b->capacity, want);
        if (!more) return false;
        b->text = more;
        b->capacity = want;
    }
    memcpy(b->text + b->bytes, text, bytes);
    b->bytes += bytes;
    if (b->span_count && b->spans[b->span_count - 1].mark == mark) {
        b->spans[b->span_count - 1].end = (uint32_t)b->bytes;
        return true;
    }
    if (b->span_count == b->span_capacity) {
        size_t want = 2 * b->span_capacity + 4;
        qs_jspan *more = qs_jarena_grow(a, b->spans, b->span_capacity * sizeof *more, want * sizeof *more);
        if (!more) return false;
        b->spans = more;
        b->span_capacity = want;
    }
    b->spans[b->span_count++] = (qs_jspan){(uint32_t)b->bytes, mark};
    return true;
}

bool qs_jput_part(qs_jarena *a, qs_jbuilder *b, qs_jvalue v, size_t from, size_t to)
{
    const qs_jstring *s = v.string;
    if (!s->spans) return qs_jput(a, b, s->text + from, to - from, v.mark);
    for (size_t i = 0; i < s->span_count && from < to; i++) {
        size_t end = s->spans[i].end < to ? s->spans[i].end : to;
        if (end <= from) continue;
        if (!qs_jput(a, b, s->text + from, end - from, s->spans[i].mark)) return false;
        from = end;
    }
    return true;
}

bool qs_jstring_of(qs_jarena *a, const char *text, size_t bytes, int32_t mark, qs_jvalue *out)
{
    if (bytes > QS_JTEXT_MAX) return false;
    qs_jstring *s = qs_jarena_get(a, sizeof *s);
    if (!s) return false;
    *s = (qs_jstring){.text = text, .bytes = (uint32_t)bytes};
    *out = QS_JV(QS_JSTRING, .mark = mark, .string = s);
    return true;
}

bool qs_jstring_built(qs_jarena *a, const qs_jbuilder *b, qs_jvalue *out)
{
    if (!qs_jstring_of(a, b->bytes ? b->text : "", b->bytes, b->span_count ? b->spans[0].mark : 0, out))
        return false;
    if (b->span_count > 1) {
        qs_jstring *s = (qs_jstring *)(uintptr_t)out->string;
        s->spans = b->spans;
        s->span_count = (uint32_t)b->span_count;
    }
    return true;
}

bool qs_jstring_part(qs_jarena *a, qs_jvalue v, size_t from, size_t to, qs_jvalue *out)
{
    const qs_jstring *s = v.string;
    if (from == 0 && to == s->bytes) {
        *out = v;
        out->html = false;
        return true;
    }
    if (!s->spans) return qs_jstring_of(a, s->text + from, to - from, v.mark, out);
    qs_jbuilder b = {0};
    return qs_jput_part(a, &b, v, from, to) && qs_jstring_built(a, &b, out);
}

bool qs_jequals_text(qs_jvalue v, const char *text)
{
    size_t n = strlen(text);
    return v.kind == QS_JSTRING && v.string->bytes == n && memcmp(v.string->text, text, n) == 0;
}

/* ---- containers -------------------------------------------------------------------------------------- */

uint32_t qs_jweight(qs_jvalue v)
{
    return 1 + (qs_jis_sequence(v) ? v.list->weight : v.kind == QS_JDICT ? v.dict->weight : 0);
}

/* Takes a value's size into account that is put into a container. */
static bool weigh(qs_jvalue v, uint32_t *weight, uint32_t *depth)
{
    uint32_t inner = qs_jis_sequence(v) ? v.list->depth : v.kind == QS_JDICT ? v.dict->depth : 0;
    *weight += qs_jweight(v);
    if (inner + 1 > *depth) *depth = inner + 1;
    return *weight <= QS_JWEIGHT_MAX && *depth <= QS_JDEPTH_MAX;
}

bool qs_jlist_new(qs_jarena *a, qs_jkind kind, size_t capacity, qs_jvalue *out)
{
    qs_jlist *l = qs_jarena_get(a, sizeof *l);
    if (!l) return false;
    *l = (qs_jlist){.capacity = capacity};
    if (capacity && !(l->items = qs_jarena_get(a, capacity * sizeof *l->items))) return false;
    *out = QS_JV(kind, .list = l);
    return true;
}

bool qs_jlist_add(qs_jarena *a, qs_jlist *l, qs_jvalue v)
{
    if (!weigh(v, &l->weight, &l->depth)) return false;
    if (l->count == l->capacity) {
        size_t want = 2 * l->capacity + 4;
        qs_jvalue *more = qs_jarena_grow(a, l->items, l->capacity * sizeof *more, want * sizeof *more);
        if (!more) return false;
        l->items = more;
        l->capacity = want;
    }
    l->items[l->count++] = v;
    return true;
}

bool qs_jdict_new(qs_jarena *a, qs_jkind kind, qs_jvalue *out)
{
    qs_jdict *d = qs_jarena_get(a, sizeof *d);
    if (!d) return false;
    *d = (qs_jdict){0};
    *out = QS_JV(kind, .dict = d);
    return true;
}

qs_jvalue *qs_jdict_find(const qs_jdict *d, qs_jvalue key)
{
    if (key.kind == QS_JSTRING) return qs_jdict_find_text(d, key.string->text, key.string->bytes);
    for (size_t i = 0; i < d->count; i++)
        if (qs_jequal(d->entries[i].key, key)) return &d->entries[i].value;
    return NULL;
}

qs_jvalue *qs_jdict_find_text(const qs_jdict *d, const char *key, size_t bytes)
{
    for (size_t i = 0; i < d->count; i++) {
        const qs_jvalue *k = &d->entries[i].key;
        if (k->kind == QS_JSTRING && k->string->bytes == bytes && memcmp(k->string->text, key, bytes) == 0)
            return &d->entries[i].value;
    }
    return NULL;
}

bool qs_jdict_set(qs_jarena *a, qs_jdict *d, qs_jvalue key, qs_jvalue value)
{
    qs_jvalue *old = qs_jdict_find(d, key);
    if (old) d->weight -= qs_jweight(*old);
    if (!weigh(value, &d->weight, &d->depth)) return false;
    if (old) {
        *old = value;
        return true;
    }
    if (d->count == d->capacity) {
        size_t want = 2 * d->capacity + 4;
        qs_jentry *more = qs_jarena_grow(a, d->entries, d->capacity * sizeof *more, want * sizeof *more);
        if (!more) return false;
        d->entries = more;
        d->capacity = want;
    }
    d->entries[d->count++] = (qs_jentry){key, value};
    return true;
}

bool qs_jvalue_of_json(qs_jarena *a, const json_t *json, int32_t mark, qs_jvalue *out)
{
    const char *key;
    json_t *v;
    size_t i;
    qs_jvalue k, item;
    switch (json ? json_typeof(json) : JSON_NULL) {
    case JSON_NULL:
        *out = QS_JV(QS_JNONE, .mark = mark);
        return true;
    case JSON_TRUE:
        *out = QS_JV(QS_JBOOL, .mark = mark, .boolean = true);
        return true;
    case JSON_FALSE:
        *out = QS_JV(QS_JBOOL, .mark = mark);
        return true;
    case JSON_INTEGER:
        *out = QS_JV(QS_JINT, .mark = mark, .integer = json_integer_value(json));
        return true;
    case JSON_REAL:
        *out = QS_JV(QS_JFLOAT, .mark = mark, .real = json_real_value(json));
        return true;
    case JSON_STRING:
        return qs_jstring_of(a, json_string_value(json), json_string_length(json), mark, out);
    case JSON_ARRAY:
        if (!qs_jlist_new(a, QS_JLIST, json_array_size(json), out)) return false;
        json_array_foreach((json_t *)(uintptr_t)json, i,
                           v) if (!qs_jvalue_of_json(a, v, mark, &item) ||
                                  !qs_jlist_add(a, out->list, item)) return false;
        break;
    default:
        if (!qs_jdict_new(a, QS_JDICT, out)) return false;
        json_object_foreach((json_t *)(uintptr_t)json, key,
                            v) if (!qs_jstring_of(a, key, strlen(key), mark, &k) ||
                                   !qs_jvalue_of_json(a, v, mark, &item) ||
                                   !qs_jdict_set(a, out->dict, k, item)) return false;
    }
    out->mark = mark;
    return true;
}

/* ---- Python's rules ---------------------------------------------------------------------------------- */

bool qs_jis_number(qs_jvalue v) { return v.kind == QS_JBOOL || v.kind == QS_JINT || v.kind == QS_JFLOAT; }
bool qs_jis_sequence(qs_jvalue v) { return v.kind >= QS_JLIST && v.kind <= QS_JGENERATOR; }

double qs_jnumber(qs_jvalue v)
{
    return v.kind == QS_JFLOAT ? v.real : v.kind == QS_JBOOL ? v.boolean : (double)v.integer;
}

bool qs_jtrue(qs_jvalue v)
{
    switch (v.kind) {
    case QS_JUNDEFINED:
    case QS_JNONE:
        return false;
    case QS_JBOOL:
        return v.boolean;
    case QS_JINT:
        return v.integer != 0;
    case QS_JFLOAT:
        return v.real != 0;
    case QS_JSTRING:
        return v.string->bytes > 0;
    case QS_JLIST:
    case QS_JTUPLE:
    case QS_JVIEW:
        return v.list->count > 0;
    case QS_JDICT:
        return v.dict->count > 0;
    default:
        return true;
    }
}

static int64_t integer_of(qs_jvalue v) { return v.kind == QS_JBOOL ? v.boolean : v.integer; }

bool qs_jequal(qs_jvalue a, qs_jvalue b)
{
    if (qs_jis_number(a) && qs_jis_number(b))
        return a.kind == QS_JFLOAT || b.kind == QS_JFLOAT ? qs_jnumber(a) == qs_jnumber(b)
                                                          : integer_of(a) == integer_of(b);
    if (a.kind != b.kind) return false;
    switch (a.kind) {
    case QS_JUNDEFINED:
    case QS_JNONE:
        return true;
    case QS_JSTRING:
        return a.string->bytes == b.string->bytes &&
               memcmp(a.string->text, b.string->text, a.string->bytes) == 0;
    case QS_JLIST:
    case QS_JTUPLE:
        if (a.list->count != b.list->count) return false;
        for (size_t i = 0; i < a.list->count; i++)
            if (!qs_jequal(a.list->items[i], b.list->items[i])) return false;
        return true;
    case QS_JDICT:
        if (a.dict->count != b.dict->count) return false;
        for (size_t i = 0; i < a.dict->count; i++) {
            const qs_jvalue *other = qs_jdict_find(b.dict, a.dict->entries[i].key);
            if (!other || !qs_jequal(a.dict->entries[i].value, *other)) return false;
        }
        return true;
    case QS_JFUNCTION:
        return a.name == b.name;
    default:
        return a.list == b.list; /* the same thing */
    }
}

bool qs_jorder(qs_jvalue a, qs_jvalue b, int *out)
{
    if (qs_jis_number(a) && qs_jis_number(b)) {
        if (a.kind == QS_JFLOAT || b.kind == QS_JFLOAT)
            *out = (qs_jnumber(a) > qs_jnumber(b)) - (qs_jnumber(a) < qs_jnumber(b));
        else
            *out = (integer_of(a) > integer_of(b)) - (integer_of(a) < integer_of(b));
        return true;
    }
    if (a.kind != b.kind) return false;
    if (a.kind == QS_JSTRING) {
        size_t n = a.string->bytes < b.string->bytes ? a.string->bytes : b.string->bytes;
        int c = memcmp(a.string->text, b.string->text, n); /* the order of UTF-8 is that of code points */
        *out =
            c ? (c > 0) - (c < 0) : (a.string->bytes > b.string->bytes) - (a.string->bytes < b.string->bytes);
        return true;
    }
    if (a.kind != QS_JLIST && a.kind != QS_JTUPLE) return false;
    for (size_t i = 0; i < a.list->count && i < b.list->count; i++)
        if (!qs_jequal(a.list->items[i], b.list->items[i]))
            return qs_jorder(a.list->items[i], b.list->items[i], out);
    *out = (a.list->count > b.list->count) - (a.list->count < b.list->count);
    return true;
}

const char *qs_jkind_name(qs_jvalue v)
{
    static const char *const names[] = {
        "Undefined", "NoneType",  "bool", "int",       "float",       "str",    "list",     "tuple",
        "dict view", "generator", "dict", "Namespace", "LoopContext", "method", "function", "Macro"};
    return names[v.kind];
}
