#include "src/data/jinja/text.h"

#include <string.h>
#include <utf8proc.h>

static bool in_set(const char *text, size_t bytes, const qs_jstring *set)
{
    size_t n = qs_jcharacter_bytes(text, bytes);
    if (!set) return qs_jis_space(qs_jcodepoint(text, bytes));
    for (size_t i = 0; i < set->bytes;) {
        size_t m = qs_jcharacter_bytes(set->text + i, set->bytes - i);
        if (m == n && memcmp(set->text + i, text, n) == 0) return true;
        i += m;
    }
    return false;
}

static size_t character_before(const char *text, size_t at)
{
    do at--;
    while (at && ((unsigned char)text[at] & 0xc0) == 0x80);
    return at;
}

bool qs_jstripped(qs_jarena *a, qs_jvalue v, const qs_jstring *set, bool left, bool right, qs_jvalue *out)
{
    const qs_jstring *s = v.string;
    size_t from = 0, to = s->bytes;
    while (left && from < to && in_set(s->text + from, to - from, set))
        from += qs_jcharacter_bytes(s->text + from, to - from);
    while (right && to > from) {
        size_t at = character_before(s->text, to);
        if (!in_set(s->text + at, to - at, set)) break;
        to = at;
    }
    return qs_jstring_part(a, v, from, to, out);
}

static bool add_part(qs_jarena *a, qs_jvalue s, size_t from, size_t to, qs_jlist *list)
{
    qs_jvalue part;
    return qs_jstring_part(a, s, from, to, &part) && qs_jlist_add(a, list, part);
}

static void turn_round(qs_jlist *l)
{
    for (size_t i = 0; i < l->count / 2; i++) {
        qs_jvalue v = l->items[i];
        l->items[i] = l->items[l->count - 1 - i];
        l->items[l->count - 1 - i] = v;
    }
}

static bool split_words(qs_jarena *a, qs_jvalue v, int64_t most, bool from_right, qs_jlist *list)
{
    const qs_jstring *s = v.string;
    size_t from = 0, to = s->bytes, at;
    while (from < to && most != 0) {
        if (!from_right) {
            while (from < to && in_set(s->text + from, to - from, NULL))
                from += qs_jcharacter_bytes(s->text + from, to - from);
            for (at = from; at < to && !in_set(s->text + at, to - at, NULL);)
                at += qs_jcharacter_bytes(s->text + at, to - at);
            if (at > from && !add_part(a, v, from, at, list)) return false;
            from = at;
        } else {
            while (to > from && in_set(s->text + character_before(s->text, to), to, NULL))
                to = character_before(s->text, to);
            for (at = to; at > from && !in_set(s->text + character_before(s->text, at), at, NULL);)
                at = character_before(s->text, at);
            if (to > at && !add_part(a, v, at, to, list)) return false;
            to = at;
        }
        most--;
    }
    qs_jvalue rest;
    if (!qs_jstring_part(a, v, from, to, &rest) ||
        !qs_jstripped(a, rest, NULL, !from_right, from_right, &rest))
        return false;
    return !rest.string->bytes || qs_jlist_add(a, list, rest);
}

static const char *find_last(const char *text, size_t bytes, const char *what, size_t n)
{
    for (size_t i = bytes >= n ? bytes - n + 1 : 0; i-- > 0;)
        if (memcmp(text + i, what, n) == 0) return text + i;
    return NULL;
}

bool qs_jsplit(qs_jarena *a, qs_jvalue v, const qs_jstring *separator, int64_t most, bool from_right,
               qs_jvalue *out)
{
    const qs_jstring *s = v.string;
    if (!qs_jlist_new(a, QS_JLIST, 0, out)) return false;
    if (!separator) {
        if (!split_words(a, v, most, from_right, out->list)) return false;
    } else {
        size_t from = 0, to = s->bytes, n = separator->bytes;
        for (; most != 0; most--) {
            const char *at = from_right ? find_last(s->text, to, separator->text, n)
                                        : memmem(s->text + from, to - from, separator->text, n);
            if (!at) break;
            size_t i = (size_t)(at - s->text);
            if (!(from_right ? add_part(a, v, i + n, to, out->list) : add_part(a, v, from, i, out->list)))
                return false;
            if (from_right)
                to = i;
            else
                from = i + n;
        }
        if (!add_part(a, v, from, to, out->list)) return false;
    }
    if (from_right) turn_round(out->list);
    return true;
}

static bool is_line_end(int32_t c)
{
    return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

bool qs_jlines(qs_jarena *a, qs_jvalue v, bool keep_ends, qs_jvalue *out)
{
    const qs_jstring *s = v.string;
    if (!qs_jlist_new(a, QS_JLIST, 0, out)) return false;
    size_t from = 0;
    for (size_t i = 0; i < s->bytes;) {
        int32_t c = qs_jcodepoint(s->text + i, s->bytes - i);
        size_t n = qs_jcharacter_bytes(s->text + i, s->bytes - i);
        if (is_line_end(c)) {
            if (c == '\r' && i + 1 < s->bytes && s->text[i + 1] == '\n') n++;
            if (!add_part(a, v, from, keep_ends ? i + n : i, out->list)) return false;
            from = i + n;
        }
        i += n;
    }
    return from == s->bytes || add_part(a, v, from, s->bytes, out->list);
}

bool qs_jreplaced(qs_jarena *a, qs_jvalue v, qs_jvalue old, qs_jvalue with, int64_t most, qs_jvalue *out)
{
    const qs_jstring *s = v.string, *o = old.string;
    qs_jbuilder b = {0};
    size_t from = 0;
    for (; most != 0; most--) {
        size_t step = 0;
        const char *at = s->text + from;
        if (o->bytes)
            at = memmem(s->text + from, s->bytes - from, o->text, o->bytes);
        else if (from < s->bytes)
            step = qs_jcharacter_bytes(s->text + from, s->bytes - from);
        if (!at) break;
        size_t i = (size_t)(at - s->text);
        if (!qs_jput_part(a, &b, v, from, i) || !qs_jput_part(a, &b, with, 0, with.string->bytes))
            return false;
        from = i + o->bytes;
        if (o->bytes) continue;
        if (!step) break;
        if (!qs_jput_part(a, &b, v, from, from + step)) return false;
        from += step;
    }
    return qs_jput_part(a, &b, v, from, s->bytes) && qs_jstring_built(a, &b, out);
}

static bool is_cased(int32_t c) { return utf8proc_toupper(c) != c || utf8proc_tolower(c) != c; }

/* Whole-character mappings; of the characters that become several, the sharp s. */
bool qs_jcased(qs_jarena *a, qs_jvalue v, qs_jcase how, qs_jvalue *out)
{
    const qs_jstring *s = v.string;
    qs_jbuilder b = {0};
    bool inside = false; /* a word */
    for (size_t i = 0, n; i < s->bytes; i += n) {
        n = qs_jcharacter_bytes(s->text + i, s->bytes - i);
        int32_t c = qs_jcodepoint(s->text + i, s->bytes - i), to;
        bool first = how == QS_JTITLE ? !inside : i == 0,
             up = how == QS_JUPPER || ((how == QS_JTITLE || how == QS_JCAPITALIZE) && first);
        if (how == QS_JSWAP) up = utf8proc_tolower(c) == c;
        inside = is_cased(c);
        to = !up                                   ? utf8proc_tolower(c)
             : how == QS_JUPPER || how == QS_JSWAP ? utf8proc_toupper(c)
                                                   : utf8proc_totitle(c);
        char text[8];
        size_t bytes = (size_t)utf8proc_encode_char(to, (utf8proc_uint8_t *)text);
        if (up && c == 0xdf) memcpy(text, how == QS_JUPPER || how == QS_JSWAP ? "SS" : "Ss", bytes = 2);
        size_t before = b.bytes;
        if (to == c && bytes == n) {
            if (!qs_jput_part(a, &b, v, i, i + n)) return false;
            continue;
        }
        if (!qs_jput_part(a, &b, v, i, i + 1)) return false; /* for its mark */
        int32_t mark = b.spans[b.span_count - 1].mark;
        b.bytes = before;
        b.spans[b.span_count - 1].end = (uint32_t)before;
        if (!qs_jput(a, &b, text, bytes, mark)) return false;
    }
    return qs_jstring_built(a, &b, out);
}

bool qs_jpadded(qs_jarena *a, qs_jvalue v, int64_t width, qs_jvalue fill, char how, qs_jvalue *out)
{
    const qs_jstring *s = v.string;
    int64_t room = width - (int64_t)qs_jcharacters(s->text, s->bytes), left = how == 'l' ? 0 : room;
    if (how == 'c') left = room / 2 + (room & width & 1);
    if (room <= 0) {
        *out = v;
        return true;
    }
    size_t sign = how == 'z' && s->bytes && (s->text[0] == '-' || s->text[0] == '+');
    qs_jbuilder b = {0};
    if (!qs_jput_part(a, &b, v, 0, sign)) return false;
    for (int64_t i = 0; i < left; i++)
        if (!qs_jput_str(a, &b, fill)) return false;
    if (!qs_jput_part(a, &b, v, sign, s->bytes)) return false;
    for (int64_t i = left; i < room; i++)
        if (!qs_jput_str(a, &b, fill)) return false;
    return qs_jstring_built(a, &b, out);
}

static bool is_letter(utf8proc_category_t k)
{
    return k == UTF8PROC_CATEGORY_LU || k == UTF8PROC_CATEGORY_LL || k == UTF8PROC_CATEGORY_LT ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_LO;
}

bool qs_jis_all(const qs_jstring *s, const char *name)
{
    bool cased = false;
    for (size_t i = 0; i < s->bytes; i += qs_jcharacter_bytes(s->text + i, s->bytes - i)) {
        int32_t c = qs_jcodepoint(s->text + i, s->bytes - i);
        utf8proc_category_t k = utf8proc_category(c);
        bool digit = k == UTF8PROC_CATEGORY_ND,
             number = digit || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO, holds = true;
        if (strcmp(name, "isupper") == 0 || strcmp(name, "islower") == 0) {
            if (k == UTF8PROC_CATEGORY_LT ||
                k == (name[2] == 'u' ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU))
                return false;
            cased = cased || k == (name[2] == 'u' ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
            continue;
        }
        if (strcmp(name, "isspace") == 0)
            holds = qs_jis_space(c);
        else if (strcmp(name, "isalpha") == 0)
            holds = is_letter(k);
        else if (strcmp(name, "isdecimal") == 0 || strcmp(name, "isdigit") == 0)
            holds = digit;
        else if (strcmp(name, "isnumeric") == 0)
            holds = number;
        else
            holds = is_letter(k) || number; /* isalnum */
        if (!holds) return false;
        cased = true;
    }
    return cased;
}
