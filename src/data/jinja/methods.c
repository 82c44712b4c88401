/* Methods of texts, dicts, lists and loops. */
#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "src/data/jinja/run.h"
#include "src/data/jinja/text.h"

static const char *const string_methods[] = {
    "strip",   "lstrip",  "rstrip",  "split",        "rsplit",       "splitlines", "startswith", "endswith",
    "replace", "upper",   "lower",   "title",        "capitalize",   "find",       "rfind",      "index",
    "count",   "join",    "format",  "removeprefix", "removesuffix", "isdigit",    "isalpha",    "isalnum",
    "isspace", "isupper", "islower", "isnumeric",    "isdecimal",    "partition",  "rpartition", "zfill",
    "ljust",   "rjust",   "center",  "swapcase",     "casefold",     NULL};
static const char *const dict_methods[] = {"get", "items", "keys", "values", "copy", NULL};
static const char *const list_methods[] = {"index", "count", "copy", NULL};
static const char *const loop_methods[] = {"cycle", "changed", NULL};

bool qs_jis_method(qs_jvalue self, const char *name, size_t bytes)
{
    const char *const *m = self.kind == QS_JSTRING                           ? string_methods
                           : self.kind == QS_JDICT                           ? dict_methods
                           : self.kind == QS_JLIST || self.kind == QS_JTUPLE ? list_methods
                           : self.kind == QS_JLOOP                           ? loop_methods
                                                                             : NULL;
    for (; m && *m; m++)
        if (strlen(*m) == bytes && memcmp(*m, name, bytes) == 0) return true;
    return false;
}

/* A text argument. */
static int text_of(qs_jrun *r, const char *what, qs_jvalue v, int line)
{
    if (v.kind != QS_JSTRING) QS_JFAIL(r->e, line, "%s() takes a text, found %s", what, qs_jkind_name(v));
    return 0;
}

/* Arguments without names, between these counts. */
static int expect(qs_jrun *r, const char *what, const qs_jargs *args, size_t least, size_t most)
{
    if (args->named)
        QS_JFAIL(r->e, args->line, "%s() takes no argument named \"%.40s\"", what, args->names[0]);
    if (args->count < least || args->count > most)
        QS_JFAIL(r->e, args->line, "%s() takes %zu to %zu arguments, found %zu", what, least, most,
                 args->count);
    return 0;
}

/* ---- texts ------------------------------------------------------------------------------------------- */

static int strip(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(expect(r, name, args, 0, 1));
    qs_jvalue set = args->count ? args->items[0] : QS_JV_NONE;
    if (set.kind != QS_JNONE) QS_TRY(text_of(r, name, set, args->line));
    QS_JMEMORY(r, args->line,
               qs_jstripped(r->a, self, set.kind == QS_JNONE ? NULL : set.string, name[0] != 'r',
                            name[0] != 'l', out));
    return 0;
}

static int split(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"sep", "maxsplit", NULL};
    qs_jvalue v[2] = {QS_JV_NONE, QS_JV_INT(-1)};
    QS_TRY(qs_jbind(r, name, args, names, 0, v));
    if (v[0].kind != QS_JNONE) QS_TRY(text_of(r, name, v[0], args->line));
    if (v[1].kind != QS_JINT)
        QS_JFAIL(r->e, args->line, "%s() takes a number of splits, found %s", name, qs_jkind_name(v[1]));
    if (v[0].kind == QS_JSTRING && !v[0].string->bytes)
        QS_JFAIL(r->e, args->line, "%s() has an empty separator", name);
    QS_TRY(qs_jstep(r, args->line, self.string->bytes / 16));
    QS_JMEMORY(
        r, args->line,
        qs_jsplit(r->a, self, v[0].kind == QS_JNONE ? NULL : v[0].string, v[1].integer, name[0] == 'r', out));
    return 0;
}

/* startswith and endswith, of one text or any of several. */
static int borders(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(expect(r, name, args, 1, 1));
    qs_jvalue one = args->items[0];
    qs_jlist single = {.items = &one, .count = 1}, *list = one.kind == QS_JTUPLE ? one.list : &single;
    const qs_jstring *s = self.string;
    *out = QS_JV_BOOL(false);
    for (size_t i = 0; i < list->count; i++) {
        QS_TRY(text_of(r, name, list->items[i], args->line));
        const qs_jstring *x = list->items[i].string;
        if (x->bytes <= s->bytes &&
            memcmp(s->text + (*name == 's' ? 0 : s->bytes - x->bytes), x->text, x->bytes) == 0)
            *out = QS_JV_BOOL(true);
    }
    return 0;
}

static int replace(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"old", "new", "count", NULL};
    qs_jvalue v[3] = {QS_JV_NONE, QS_JV_NONE, QS_JV_INT(-1)};
    QS_TRY(qs_jbind(r, name, args, names, 2, v));
    QS_TRY(text_of(r, name, v[0], args->line));
    QS_TRY(text_of(r, name, v[1], args->line));
    if (v[2].kind != QS_JINT)
        QS_JFAIL(r->e, args->line, "replace() takes a number, found %s", qs_jkind_name(v[2]));
    QS_TRY(qs_jstep(r, args->line, self.string->bytes / 16));
    QS_JMEMORY(r, args->line, qs_jreplaced(r->a, self, v[0], v[1], v[2].integer, out));
    return 0;
}

/* find, rfind, index, count. */
static int search(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(expect(r, name, args, 1, 1));
    QS_TRY(text_of(r, name, args->items[0], args->line));
    const qs_jstring *s = self.string, *x = args->items[0].string;
    bool last = *name == 'r', counted = *name == 'c';
    int64_t found = -1, count = 0;
    QS_TRY(qs_jstep(r, args->line, s->bytes / 16));
    for (size_t at = 0; at + x->bytes <= s->bytes; at++) {
        if (memcmp(s->text + at, x->text, x->bytes) != 0) continue;
        if (at < s->bytes && ((unsigned char)s->text[at] & 0xc0) == 0x80) continue;
        count++;
        found = (int64_t)at;
        if (!last && !counted) break;
        if (counted && x->bytes) at += x->bytes - 1;
    }
    if (*name == 'i' && found < 0) QS_JFAIL(r->e, args->line, "index() does not find its text");
    *out = QS_JV_INT(counted ? count : found < 0 ? -1 : (int64_t)qs_jcharacters(s->text, (size_t)found));
    return 0;
}

static int join(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    qs_jlist *list;
    qs_jbuilder b = {0};
    QS_TRY(expect(r, name, args, 1, 1));
    QS_TRY(qs_jelements(r, args->items[0], args->line, &list));
    for (size_t i = 0; i < list->count; i++) {
        QS_TRY(qs_jstep(r, args->line, 1));
        if (list->items[i].kind != QS_JSTRING)
            QS_JFAIL(r->e, args->line, "join() takes texts, found %s as element %zu",
                     qs_jkind_name(list->items[i]), i);
        QS_JMEMORY(r, args->line,
                   (!i || qs_jput_str(r->a, &b, self)) && qs_jput_str(r->a, &b, list->items[i]));
    }
    QS_JMEMORY(r, args->line, qs_jstring_built(r->a, &b, out));
    return 0;
}

static int changed_case(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(expect(r, name, args, 0, 0));
    QS_TRY(qs_jstep(r, args->line, self.string->bytes / 16));
    qs_jcase how = strcmp(name, "upper") == 0        ? QS_JUPPER
                   : strcmp(name, "title") == 0      ? QS_JTITLE
                   : strcmp(name, "capitalize") == 0 ? QS_JCAPITALIZE
                   : strcmp(name, "swapcase") == 0   ? QS_JSWAP
                                                     : QS_JLOWER;
    QS_JMEMORY(r, args->line, qs_jcased(r->a, self, how, out));
    return 0;
}

static int remove_border(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(expect(r, name, args, 1, 1));
    QS_TRY(text_of(r, name, args->items[0], args->line));
    const qs_jstring *s = self.string, *x = args->items[0].string;
    bool prefix = strcmp(name, "removeprefix") == 0;
    bool has =
        x->bytes <= s->bytes && memcmp(s->text + (prefix ? 0 : s->bytes - x->bytes), x->text, x->bytes) == 0;
    size_t from = has && prefix ? x->bytes : 0, to = has && !prefix ? s->bytes - x->bytes : s->bytes;
    QS_JMEMORY(r, args->line, qs_jstring_part(r->a, self, from, to, out));
    return 0;
}

/* isdigit, isspace, ... : of every character, and there is one. */
static int is_all(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(expect(r, name, args, 0, 0));
    *out = QS_JV_BOOL(qs_jis_all(self.string, name));
    return 0;
}

static int partition(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(expect(r, name, args, 1, 1));
    QS_TRY(text_of(r, name, args->items[0], args->line));
    qs_jvalue parts, empty, before, after;
    bool last = *name == 'r';
    const qs_jstring *x = args->items[0].string;
    if (!x->bytes) QS_JFAIL(r->e, args->line, "%s() has an empty separator", name);
    QS_JMEMORY(r, args->line,
               qs_jsplit(r->a, self, x, 1, last, &parts) && qs_jstring_of(r->a, "", 0, 0, &empty) &&
                   qs_jlist_new(r->a, QS_JTUPLE, 3, out));
    bool found = parts.list->count == 2;
    before = found || !last ? parts.list->items[0] : empty;
    after = found ? parts.list->items[1] : last ? self : empty;
    QS_JMEMORY(r, args->line,
               qs_jlist_add(r->a, out->list, before) &&
                   qs_jlist_add(r->a, out->list, found ? args->items[0] : empty) &&
                   qs_jlist_add(r->a, out->list, after));
    return 0;
}

/* "{} {name}".format(...), without format specifications. */
static int format(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    const qs_jstring *s = self.string;
    qs_jbuilder b = {0};
    size_t next = 0;
    for (size_t i = 0; i < s->bytes;) {
        char c = s->text[i];
        if ((c == '{' || c == '}') && i + 1 < s->bytes && s->text[i + 1] == c) {
            QS_JMEMORY(r, args->line, qs_jput_part(r->a, &b, self, i, i + 1));
            i += 2;
        } else if (c == '{') {
            const char *from = s->text + i + 1, *end = memchr(from, '}', s->bytes - i - 1);
            if (!end) QS_JFAIL(r->e, args->line, "%s() misses a }", name);
            size_t n = (size_t)(end - from), k = 0, which = 0;
            const qs_jvalue *v = NULL;
            while (k < n && from[k] >= '0' && from[k] <= '9' && k < 4)
                which = 10 * which + (size_t)(from[k++] - '0');
            if (k == n) {
                which = n ? which : next++;
                if (which < args->count) v = &args->items[which];
            } else {
                for (size_t a = 0; a < args->named; a++)
                    if (strlen(args->names[a]) == n && memcmp(args->names[a], from, n) == 0)
                        v = &args->values[a];
            }
            if (!v)
                QS_JFAIL(r->e, args->line, "%s() finds no value for {%.*s}", name, (int)(n < 40 ? n : 40),
                         from);
            QS_JMEMORY(r, args->line, qs_jput_str(r->a, &b, *v));
            i += n + 2;
        } else if (c == '}') {
            QS_JFAIL(r->e, args->line, "%s() finds a } without its {", name);
        } else {
            size_t n = i;
            while (n < s->bytes && s->text[n] != '{' && s->text[n] != '}') n++;
            QS_JMEMORY(r, args->line, qs_jput_part(r->a, &b, self, i, n));
            i = n;
        }
    }
    QS_JMEMORY(r, args->line, qs_jstring_built(r->a, &b, out));
    return 0;
}

static int pad(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    enum { WIDEST = 100000 };
    QS_TRY(expect(r, name, args, 1, *name == 'z' ? 1 : 2));
    qs_jvalue width = args->items[0], fill;
    QS_JMEMORY(r, args->line, qs_jstring_of(r->a, *name == 'z' ? "0" : " ", 1, 0, &fill));
    if (args->count > 1) fill = args->items[1];
    QS_TRY(text_of(r, name, fill, args->line));
    if (width.kind != QS_JINT || width.integer > WIDEST ||
        qs_jcharacters(fill.string->text, fill.string->bytes) != 1)
        QS_JFAIL(r->e, args->line, "%s() takes a width up to %d and one character", name, WIDEST);
    QS_JMEMORY(r, args->line, qs_jpadded(r->a, self, width.integer, fill, *name, out));
    return 0;
}

static int splitlines(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"keepends", NULL};
    qs_jvalue keep = QS_JV_BOOL(false);
    QS_TRY(qs_jbind(r, name, args, names, 0, &keep));
    QS_TRY(qs_jstep(r, args->line, self.string->bytes / 16));
    QS_JMEMORY(r, args->line, qs_jlines(r->a, self, qs_jtrue(keep), out));
    return 0;
}

static int string_method(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    static const struct {
        const char *name;
        int (*call)(qs_jrun *, qs_jvalue, const char *, const qs_jargs *, qs_jvalue *);
    } methods[] = {{"strip", strip},
                   {"lstrip", strip},
                   {"rstrip", strip},
                   {"split", split},
                   {"rsplit", split},
                   {"splitlines", splitlines},
                   {"startswith", borders},
                   {"endswith", borders},
                   {"replace", replace},
                   {"upper", changed_case},
                   {"lower", changed_case},
                   {"title", changed_case},
                   {"capitalize", changed_case},
                   {"swapcase", changed_case},
                   {"casefold", changed_case},
                   {"find", search},
                   {"rfind", search},
                   {"index", search},
                   {"count", search},
                   {"join", join},
                   {"format", format},
                   {"removeprefix", remove_border},
                   {"removesuffix", remove_border},
                   {"partition", partition},
                   {"rpartition", partition},
                   {"zfill", pad},
                   {"ljust", pad},
                   {"rjust", pad},
                   {"center", pad}};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(methods[i].name, name) == 0) return methods[i].call(r, self, name, args, out);
    return is_all(r, self, name, args, out);
}

/* ---- dicts, lists, loops ----------------------------------------------------------------------------- */

static int dict_method(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    if (strcmp(name, "get") == 0) {
        QS_TRY(expect(r, name, args, 1, 2));
        const qs_jvalue *v = qs_jdict_find(self.dict, args->items[0]);
        *out = v ? *v : args->count > 1 ? args->items[1] : QS_JV_NONE;
        return 0;
    }
    QS_TRY(expect(r, name, args, 0, 0));
    if (strcmp(name, "copy") == 0) {
        *out = self;
        return 0;
    }
    QS_TRY(qs_jstep(r, args->line, self.dict->count));
    QS_JMEMORY(r, args->line, qs_jlist_new(r->a, QS_JVIEW, self.dict->count, out));
    out->mark = self.mark;
    for (size_t i = 0; i < self.dict->count; i++) {
        const qs_jentry *entry = &self.dict->entries[i];
        qs_jvalue item = *name == 'k' ? entry->key : entry->value;
        if (*name == 'i')
            QS_JMEMORY(r, args->line,
                       qs_jlist_new(r->a, QS_JTUPLE, 2, &item) && qs_jlist_add(r->a, item.list, entry->key) &&
                           qs_jlist_add(r->a, item.list, entry->value));
        QS_JMEMORY(r, args->line, qs_jlist_add(r->a, out->list, item));
    }
    return 0;
}

static int list_method(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    if (strcmp(name, "copy") == 0) {
        *out = self;
        return expect(r, name, args, 0, 0);
    }
    QS_TRY(expect(r, name, args, 1, 1));
    int64_t count = 0;
    for (size_t i = 0; i < self.list->count; i++) {
        QS_TRY(qs_jstep(r, args->line, qs_jweight(self.list->items[i])));
        if (!qs_jequal(self.list->items[i], args->items[0])) continue;
        if (*name == 'i') {
            *out = QS_JV_INT((int64_t)i);
            return 0;
        }
        count++;
    }
    if (*name == 'i') QS_JFAIL(r->e, args->line, "index() does not find its value in the list");
    *out = QS_JV_INT(count);
    return 0;
}

static int loop_method(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    struct qs_jloop *l = self.loop;
    if (strcmp(name, "cycle") == 0) {
        if (!args->count) QS_JFAIL(r->e, args->line, "loop.cycle() takes at least one value");
        *out = args->items[l->at % args->count];
        return 0;
    }
    qs_jvalue seen;
    QS_JMEMORY(r, args->line, qs_jlist_new(r->a, QS_JTUPLE, args->count, &seen));
    for (size_t i = 0; i < args->count; i++)
        QS_JMEMORY(r, args->line, qs_jlist_add(r->a, seen.list, args->items[i]));
    QS_TRY(qs_jstep(r, args->line, qs_jweight(seen)));
    *out = QS_JV_BOOL(!l->changed_known || !qs_jequal(l->changed, seen));
    l->changed = seen;
    l->changed_known = true;
    return 0;
}

int qs_jmethod_call(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    switch (self.kind) {
    case QS_JSTRING:
        return string_method(r, self, name, args, out);
    case QS_JDICT:
        return dict_method(r, self, name, args, out);
    case QS_JLOOP:
        return loop_method(r, self, name, args, out);
    default:
        return list_method(r, self, name, args, out);
    }
}
