/* Calls: arguments, macros, and the functions that every template has. */
#include <string.h>

#include "src/data/jinja/run.h"

enum { MOST_ARGUMENTS = 64 };

static int add_argument(qs_jrun *r, qs_jargs *args, qs_jvalue v)
{
    if (args->count == MOST_ARGUMENTS)
        QS_JFAIL(r->e, args->line, "a call has more than %d arguments", MOST_ARGUMENTS);
    args->items[args->count++] = v;
    return 0;
}

/* *a: the elements of a. */
static int spread(qs_jrun *r, const qs_jnode *n, qs_jargs *args)
{
    qs_jvalue v;
    qs_jlist *list;
    QS_TRY(qs_jevaluate(r, n->a, &v));
    QS_TRY(qs_jelements(r, v, n->line, &list));
    for (size_t i = 0; i < list->count; i++) QS_TRY(add_argument(r, args, list->items[i]));
    return 0;
}

int qs_jarguments(qs_jrun *r, const qs_jnode *n, qs_jargs *args)
{
    *args = (qs_jargs){.named = n->named_count, .line = n->line};
    bool spreads = false;
    for (size_t i = 0; i < n->count; i++) spreads = spreads || n->items[i]->kind == QS_JN_SPREAD;
    if (n->count)
        QS_JMEMORY(r, n->line,
                   args->items = qs_jarena_get(
                       r->a, (spreads || n->count > MOST_ARGUMENTS ? MOST_ARGUMENTS : n->count) *
                                 sizeof *args->items));
    if (n->named_count) {
        args->names = qs_jarena_get(r->a, n->named_count * sizeof *args->names);
        args->values = qs_jarena_get(r->a, n->named_count * sizeof *args->values);
        QS_JMEMORY(r, n->line, args->names && args->values);
    }
    for (size_t i = 0; i < n->count; i++) {
        qs_jvalue v;
        if (n->items[i]->kind == QS_JN_SPREAD) {
            QS_TRY(spread(r, n->items[i], args));
            continue;
        }
        QS_TRY(qs_jevaluate(r, n->items[i], &v));
        QS_TRY(add_argument(r, args, v));
    }
    for (size_t i = 0; i < n->named_count; i++) {
        args->names[i] = n->named[i].name;
        QS_TRY(qs_jevaluate(r, n->named[i].value, &args->values[i]));
    }
    return 0;
}

int qs_jbind(qs_jrun *r, const char *what, const qs_jargs *args, const char *const *names, int required,
             qs_jvalue *values)
{
    size_t count = 0;
    bool given[QS_JARGS_MAX] = {false};
    while (names[count]) count++;
    QS_ASSERT(count <= QS_JARGS_MAX);
    if (args->count > count)
        QS_JFAIL(r->e, args->line, "%s takes at most %zu arguments, found %zu", what, count, args->count);
    for (size_t i = 0; i < args->count; i++) {
        values[i] = args->items[i];
        given[i] = true;
    }
    for (size_t k = 0; k < args->named; k++) {
        size_t i = 0;
        while (i < count && strcmp(names[i], args->names[k]) != 0) i++;
        if (i == count || given[i])
            QS_JFAIL(r->e, args->line, "%s has no argument \"%.40s\" left", what, args->names[k]);
        values[i] = args->values[k];
        given[i] = true;
    }
    for (int i = 0; i < required; i++)
        if (!given[i]) QS_JFAIL(r->e, args->line, "%s needs the argument \"%s\"", what, names[i]);
    return 0;
}

/* ---- macros ------------------------------------------------------------------------------------------ */

/* The value of a named argument, marked as taken. */
static const qs_jvalue *named_argument(const qs_jargs *args, const char *name, size_t *taken)
{
    for (size_t i = 0; i < args->named; i++)
        if (strcmp(args->names[i], name) == 0) {
            ++*taken;
            return &args->values[i];
        }
    return NULL;
}

static int bind_parameters(qs_jrun *r, const qs_jnode *n, const qs_jargs *args)
{
    size_t taken = 0;
    const char *name = n->name ? n->name : "caller";
    if (args->count > n->named_count)
        QS_JFAIL(r->e, args->line, "the macro %s takes %zu arguments, found %zu", name, n->named_count,
                 args->count);
    for (size_t i = 0; i < n->named_count; i++) {
        const qs_jvalue *given = named_argument(args, n->named[i].name, &taken);
        qs_jvalue v = QS_JV(QS_JUNDEFINED, .name = n->named[i].name);
        if (given && i < args->count)
            QS_JFAIL(r->e, args->line, "the macro %s got its argument \"%s\" twice", name, n->named[i].name);
        if (i < args->count)
            v = args->items[i];
        else if (given)
            v = *given;
        else if (n->named[i].value)
            QS_TRY(qs_jevaluate(r, n->named[i].value, &v));
        QS_TRY(qs_jscope_set(r, r->scope, n->named[i].name, v, args->line));
    }
    if (n->kind == QS_JN_MACRO) {
        const qs_jvalue *caller = named_argument(args, "caller", &taken);
        QS_TRY(qs_jscope_set(r, r->scope, n->ops, caller ? *caller : QS_JV(QS_JUNDEFINED, .name = "caller"),
                             args->line));
    }
    if (taken < args->named)
        QS_JFAIL(r->e, args->line, "the macro %s does not know one of the named arguments", name);
    return 0;
}

static int call_macro(qs_jrun *r, const struct qs_jmacro *m, const qs_jargs *args, qs_jvalue *out)
{
    qs_jbuilder b = {0}, *outer = r->out;
    qs_jscope *scope;
    QS_TRY(qs_jdeep(r, args->line));
    QS_TRY(qs_jscope_push(r, m->scope, &scope, args->line));
    QS_TRY(bind_parameters(r, m->node, args));
    r->out = &b;
    r->captures++;
    QS_TRY(qs_jexecute(r, m->node));
    r->captures--;
    r->out = outer;
    r->scope = scope;
    r->depth--;
    QS_JMEMORY(r, args->line, qs_jstring_built(r->a, &b, out));
    return 0;
}

/* ---- functions --------------------------------------------------------------------------------------- */

static int raise_exception(qs_jrun *r, const qs_jargs *args)
{
    static const char *const names[] = {"message", NULL};
    qs_jvalue message;
    qs_jbuilder b = {0};
    QS_TRY(qs_jbind(r, "raise_exception()", args, names, 1, &message));
    QS_JMEMORY(r, args->line, qs_jput_str(r->a, &b, message));
    QS_JFAIL(r->e, args->line, "the template refuses this conversation: %.*s",
             (int)(b.bytes < 300 ? b.bytes : 300), b.bytes ? b.text : "");
}

static int range(qs_jrun *r, const qs_jargs *args, qs_jvalue *out)
{
    enum { LONGEST = 100000 };
    int64_t part[3] = {0, 0, 1};
    if (args->named || args->count < 1 || args->count > 3)
        QS_JFAIL(r->e, args->line, "range() takes one to three numbers");
    for (size_t i = 0; i < args->count; i++) {
        qs_jvalue v = args->items[i];
        if (v.kind != QS_JINT && v.kind != QS_JBOOL)
            QS_JFAIL(r->e, args->line, "range() takes integers, found %s", qs_jkind_name(v));
        part[args->count == 1 ? 1 : i] = v.kind == QS_JINT ? v.integer : v.boolean;
    }
    if (!part[2]) QS_JFAIL(r->e, args->line, "range() has the step 0");
    QS_JMEMORY(r, args->line, qs_jlist_new(r->a, QS_JLIST, 0, out));
    for (int64_t i = part[0]; part[2] > 0 ? i < part[1] : i > part[1];) {
        if (out->list->count == LONGEST)
            QS_JFAIL(r->e, args->line, "range() gives more than %d numbers", LONGEST);
        QS_TRY(qs_jstep(r, args->line, 1));
        QS_JMEMORY(r, args->line, qs_jlist_add(r->a, out->list, QS_JV_INT(i)));
        if (__builtin_add_overflow(i, part[2], &i)) break;
    }
    return 0;
}

/* dict(...) and namespace(...): another dict or pairs, then names. */
static int make_dict(qs_jrun *r, const qs_jargs *args, qs_jkind kind, qs_jvalue *out)
{
    qs_jvalue key;
    QS_JMEMORY(r, args->line, qs_jdict_new(r->a, kind, out));
    if (args->count > 1)
        QS_JFAIL(r->e, args->line, "dict() takes one argument without a name, found %zu", args->count);
    if (args->count && args->items[0].kind == QS_JDICT) {
        const qs_jdict *d = args->items[0].dict;
        for (size_t i = 0; i < d->count; i++)
            QS_JMEMORY(r, args->line, qs_jdict_set(r->a, out->dict, d->entries[i].key, d->entries[i].value));
    } else if (args->count) {
        qs_jlist *pairs, *pair;
        QS_TRY(qs_jelements(r, args->items[0], args->line, &pairs));
        for (size_t i = 0; i < pairs->count; i++) {
            QS_TRY(qs_jelements(r, pairs->items[i], args->line, &pair));
            if (pair->count != 2 || (pair->items[0].kind > QS_JSTRING && pair->items[0].kind != QS_JTUPLE))
                QS_JFAIL(r->e, args->line, "dict() takes pairs of a key and a value");
            QS_JMEMORY(r, args->line, qs_jdict_set(r->a, out->dict, pair->items[0], pair->items[1]));
        }
    }
    for (size_t i = 0; i < args->named; i++) {
        QS_JMEMORY(r, args->line, qs_jstring_of(r->a, args->names[i], strlen(args->names[i]), 0, &key));
        QS_JMEMORY(r, args->line, qs_jdict_set(r->a, out->dict, key, args->values[i]));
    }
    for (size_t i = 0; i < out->dict->count && kind == QS_JNAMESPACE; i++) {
        const qs_jvalue *k = &out->dict->entries[i].key;
        if (k->kind == QS_JSTRING && k->string->bytes && k->string->text[0] == '_')
            QS_JFAIL(r->e, args->line, "a namespace holds no name that begins with _: %.*s",
                     (int)k->string->bytes, k->string->text);
    }
    return 0;
}

/* joiner(): "" the first time it is called, its separator afterwards. A namespace that is called. */
static int make_joiner(qs_jrun *r, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"sep", NULL};
    qs_jvalue separator, key;
    QS_JMEMORY(r, args->line,
               qs_jstring_of(r->a, ", ", 2, 0, &separator) && qs_jstring_of(r->a, "sep", 3, 0, &key));
    QS_TRY(qs_jbind(r, "joiner()", args, names, 0, &separator));
    QS_JMEMORY(r, args->line, qs_jdict_new(r->a, QS_JNAMESPACE, out));
    QS_JMEMORY(r, args->line, qs_jdict_set(r->a, out->dict, key, separator));
    struct qs_jmethod *m = qs_jarena_get(r->a, sizeof *m);
    QS_JMEMORY(r, args->line, m);
    *m = (struct qs_jmethod){*out, "joiner"};
    *out = QS_JV(QS_JMETHOD, .method = m);
    return 0;
}

static int call_joiner(qs_jrun *r, qs_jvalue self, const qs_jargs *args, qs_jvalue *out)
{
    qs_jvalue key;
    QS_JMEMORY(r, args->line, qs_jstring_of(r->a, "used", 4, 0, &key) && qs_jstring_of(r->a, "", 0, 0, out));
    if (qs_jdict_find(self.dict, key)) *out = *qs_jdict_find_text(self.dict, "sep", 3);
    QS_JMEMORY(r, args->line, qs_jdict_set(r->a, self.dict, key, QS_JV_BOOL(true)));
    return 0;
}

static int call_function(qs_jrun *r, const char *name, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"format", NULL};
    qs_jvalue format;
    if (strcmp(name, "raise_exception") == 0) return raise_exception(r, args);
    if (strcmp(name, "range") == 0) return range(r, args, out);
    if (strcmp(name, "namespace") == 0) return make_dict(r, args, QS_JNAMESPACE, out);
    if (strcmp(name, "dict") == 0) return make_dict(r, args, QS_JDICT, out);
    if (strcmp(name, "joiner") == 0) return make_joiner(r, args, out);
    if (strcmp(name, "strftime_now") != 0)
        QS_JFAIL(r->e, args->line, "%s() is not supported in chat templates", name);
    QS_TRY(qs_jbind(r, "strftime_now()", args, names, 1, &format));
    return qs_jstrftime(r, format, args->line, out);
}

int qs_jcall(qs_jrun *r, qs_jvalue f, const qs_jargs *args, qs_jvalue *out)
{
    switch (f.kind) {
    case QS_JFUNCTION:
        return call_function(r, f.name, args, out);
    case QS_JMACRO:
        return call_macro(r, f.macro, args, out);
    case QS_JMETHOD:
        if (f.method->self.kind == QS_JNAMESPACE) return call_joiner(r, f.method->self, args, out);
        return qs_jmethod_call(r, f.method->self, f.method->name, args, out);
    case QS_JLOOP:
        if (args->count != 1 || args->named) QS_JFAIL(r->e, args->line, "loop() takes one argument");
        return qs_jloop_call(r, f.loop, args->items[0], out);
    case QS_JUNDEFINED:
        QS_JFAIL(r->e, args->line, "\"%.80s\" is called, but is not there (it is undefined)",
                 f.name ? f.name : "a value");
    default:
        QS_JFAIL(r->e, args->line, "%s cannot be called", qs_jkind_name(f));
    }
}
