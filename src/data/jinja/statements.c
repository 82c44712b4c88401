/* Statements: output, branches, loops, assignments, blocks. */
#include <string.h>

#include "src/data/jinja/run.h"

int qs_jscope_set(qs_jrun *r, qs_jscope *s, const char *name, qs_jvalue v, int line)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->names[i].name == name) {
            s->names[i].value = v;
            return 0;
        }
    if (s->count == s->capacity) {
        size_t want = 2 * s->capacity + 4;
        qs_jbinding *more = qs_jarena_grow(r->a, s->names, s->capacity * sizeof *more, want * sizeof *more);
        QS_JMEMORY(r, line, more);
        s->names = more;
        s->capacity = want;
    }
    s->names[s->count++] = (qs_jbinding){name, v};
    return 0;
}

int qs_jscope_push(qs_jrun *r, qs_jscope *parent, qs_jscope **before, int line)
{
    qs_jscope *s = qs_jarena_get(r->a, sizeof *s);
    QS_JMEMORY(r, line, s);
    *s = (qs_jscope){.parent = parent};
    *before = r->scope;
    r->scope = s;
    return 0;
}

static int unpack(qs_jrun *r, const qs_jnode *target, qs_jvalue v)
{
    qs_jlist *list;
    QS_TRY(qs_jelements(r, v, target->line, &list));
    if (list->count != target->count)
        QS_JFAIL(r->e, target->line, "%zu values cannot be given to %zu names", list->count, target->count);
    for (size_t i = 0; i < list->count; i++)
        QS_TRY(qs_jscope_set(r, r->scope, target->items[i]->name, list->items[i], target->line));
    return 0;
}

static int assign(qs_jrun *r, const qs_jnode *target, qs_jvalue v)
{
    if (target->kind == QS_JN_TUPLE) return unpack(r, target, v);
    if (target->kind == QS_JN_NAME) return qs_jscope_set(r, r->scope, target->name, v, target->line);
    qs_jvalue space, key;
    QS_TRY(qs_jevaluate(r, target->a, &space));
    if (space.kind != QS_JNAMESPACE)
        QS_JFAIL(r->e, target->line, "\"%s.%s\" cannot be set: it is %s, and only a namespace's names can be",
                 target->a->name, target->name, qs_jkind_name(space));
    if (target->name[0] == '_')
        QS_JFAIL(r->e, target->line, "a namespace holds no name that begins with _: %s", target->name);
    QS_JMEMORY(r, target->line,
               qs_jstring_of(r->a, target->name, strlen(target->name), 0, &key) &&
                   qs_jdict_set(r->a, space.dict, key, v));
    return 0;
}

/* Runs a statement's items as a scope of their own, for other output than the template's. */
int qs_jcapture(qs_jrun *r, const qs_jnode *n, qs_jvalue *out)
{
    qs_jbuilder b = {0}, *outer = r->out;
    qs_jscope *scope = NULL;
    QS_TRY(qs_jdeep(r, n->line));
    QS_TRY(qs_jscope_push(r, r->scope, &scope, n->line));
    r->out = &b;
    r->captures++;
    QS_TRY(qs_jexecute(r, n));
    r->captures--;
    r->out = outer;
    r->scope = scope;
    r->depth--;
    QS_JMEMORY(r, n->line, qs_jstring_built(r->a, &b, out));
    return 0;
}

/* ---- loops ------------------------------------------------------------------------------------------- */

/* The elements for which the loop's condition holds. */
static int chosen(qs_jrun *r, const qs_jnode *n, qs_jlist **list)
{
    qs_jvalue kept, v;
    qs_jscope *scope = NULL;
    QS_JMEMORY(r, n->line, qs_jlist_new(r->a, QS_JLIST, 0, &kept));
    QS_TRY(qs_jscope_push(r, r->scope, &scope, n->line));
    for (size_t i = 0; i < (*list)->count; i++) {
        QS_TRY(assign(r, n->a, (*list)->items[i]));
        QS_TRY(qs_jevaluate(r, n->c, &v));
        if (qs_jtrue(v)) QS_JMEMORY(r, n->line, qs_jlist_add(r->a, kept.list, (*list)->items[i]));
    }
    r->scope = scope;
    *list = kept.list;
    return 0;
}

static int loop_over(qs_jrun *r, const qs_jnode *n, qs_jvalue over, int depth)
{
    qs_jlist *list;
    qs_jscope *outer = r->scope, *scope;
    QS_TRY(qs_jelements(r, over, n->line, &list));
    if (n->c) QS_TRY(chosen(r, n, &list));
    struct qs_jloop *loop = qs_jarena_get(r->a, sizeof *loop);
    QS_JMEMORY(r, n->line, loop);
    *loop = (struct qs_jloop){.node = n, .items = list, .depth = depth, .scope = outer};
    for (size_t i = 0; i < list->count && r->leave != QS_JBREAK; i++) {
        QS_TRY(qs_jstep(r, n->line, 1));
        QS_TRY(qs_jscope_push(r, outer, &scope, n->line));
        loop->at = i;
        QS_TRY(qs_jscope_set(r, r->scope, n->name, QS_JV(QS_JLOOP, .loop = loop), n->line));
        QS_TRY(assign(r, n->a, list->items[i]));
        QS_TRY(qs_jexecute(r, n));
        r->scope = outer;
        if (r->leave == QS_JCONTINUE) r->leave = QS_JSTAY;
    }
    r->leave = QS_JSTAY;
    if (list->count || !n->d) return 0;
    QS_TRY(qs_jscope_push(r, outer, &scope, n->line));
    QS_TRY(qs_jexecute(r, n->d));
    r->scope = outer;
    return 0;
}

int qs_jloop_call(qs_jrun *r, struct qs_jloop *loop, qs_jvalue over, qs_jvalue *out)
{
    const qs_jnode *n = loop->node;
    if (!n->recursive) QS_JFAIL(r->e, n->line, "loop() is called, but the loop is not \"recursive\"");
    qs_jbuilder b = {0}, *outer = r->out;
    qs_jscope *scope = r->scope;
    QS_TRY(qs_jdeep(r, n->line));
    r->scope = loop->scope;
    r->out = &b;
    r->captures++;
    QS_TRY(loop_over(r, n, over, loop->depth + 1));
    r->captures--;
    r->out = outer;
    r->scope = scope;
    r->depth--;
    QS_JMEMORY(r, n->line, qs_jstring_built(r->a, &b, out));
    return 0;
}

/* ---- the rest ---------------------------------------------------------------------------------------- */

static int output(qs_jrun *r, const qs_jnode *n)
{
    qs_jvalue v;
    QS_TRY(qs_jevaluate(r, n->a, &v));
    size_t before = r->out->bytes;
    QS_JMEMORY(r, n->line, qs_jput_str(r->a, r->out, v));
    return qs_jstep(r, n->line, (r->out->bytes - before) / 64);
}

/* Filters of a block: a chain that ends in NULL, where the block's text comes in. */
static int filtered(qs_jrun *r, const qs_jnode *n, qs_jvalue text, qs_jvalue *out)
{
    qs_jargs args;
    *out = text;
    if (!n) return 0;
    QS_TRY(filtered(r, n->a, text, &text));
    QS_TRY(qs_jarguments(r, n, &args));
    return qs_jfilter(r, n->name, text, &args, out);
}

static int call_block(qs_jrun *r, const qs_jnode *n)
{
    qs_jvalue f, out;
    qs_jargs args, with;
    QS_TRY(qs_jevaluate(r, n->a->a, &f));
    QS_TRY(qs_jarguments(r, n->a, &args));
    struct qs_jmacro *caller = qs_jarena_get(r->a, sizeof *caller);
    with = args;
    with.named++;
    with.names = qs_jarena_get(r->a, with.named * sizeof *with.names);
    with.values = qs_jarena_get(r->a, with.named * sizeof *with.values);
    QS_JMEMORY(r, n->line, caller && with.names && with.values);
    if (args.named) {
        memcpy(with.names, args.names, args.named * sizeof *args.names);
        memcpy(with.values, args.values, args.named * sizeof *args.values);
    }
    *caller = (struct qs_jmacro){n, r->scope};
    with.names[args.named] = "caller";
    with.values[args.named] = QS_JV(QS_JMACRO, .macro = caller);
    if (f.kind != QS_JMACRO)
        QS_JFAIL(r->e, n->line, "{%% call %%} needs a macro, found %s", qs_jkind_name(f));
    QS_TRY(qs_jcall(r, f, &with, &out));
    QS_JMEMORY(r, n->line, qs_jput_str(r->a, r->out, out));
    return 0;
}

static int with_block(qs_jrun *r, const qs_jnode *n)
{
    qs_jscope *outer = r->scope, *inner = qs_jarena_get(r->a, sizeof *inner);
    QS_JMEMORY(r, n->line, inner);
    *inner = (qs_jscope){.parent = outer};
    for (size_t i = 0; i < n->named_count; i++) {
        qs_jvalue v;
        QS_TRY(qs_jevaluate(r, n->named[i].value, &v));
        QS_TRY(qs_jscope_set(r, inner, n->named[i].name, v, n->line));
    }
    r->scope = inner;
    QS_TRY(qs_jexecute(r, n));
    r->scope = outer;
    return 0;
}

static int generation(qs_jrun *r, const qs_jnode *n)
{
    qs_jvalue text;
    qs_jspan *g = r->generations;
    if (r->captures) r->generation_captured = true;
    if (r->generation_count + 2 > r->generation_capacity) {
        size_t want = 2 * r->generation_capacity + 8;
        g = qs_jarena_grow(r->a, g, r->generation_capacity * sizeof *g, want * sizeof *g);
        QS_JMEMORY(r, n->line, g);
        r->generations = g;
        r->generation_capacity = want;
    }
    QS_TRY(qs_jcapture(r, n, &text));
    size_t from = r->out->bytes;
    QS_JMEMORY(r, n->line, qs_jput_str(r->a, r->out, text));
    r->generations[r->generation_count++] = (qs_jspan){(uint32_t)from, 0};
    r->generations[r->generation_count++] = (qs_jspan){(uint32_t)r->out->bytes, 1};
    return 0;
}

static int macro(qs_jrun *r, const qs_jnode *n)
{
    struct qs_jmacro *m = qs_jarena_get(r->a, sizeof *m);
    QS_JMEMORY(r, n->line, m);
    *m = (struct qs_jmacro){n, r->scope};
    return qs_jscope_set(r, r->scope, n->name, QS_JV(QS_JMACRO, .macro = m), n->line);
}

static int execute(qs_jrun *r, const qs_jnode *n)
{
    qs_jvalue v;
    switch (n->kind) {
    case QS_JN_TEXT:
        QS_JMEMORY(r, n->line, qs_jput_str(r->a, r->out, n->value));
        return qs_jstep(r, n->line, n->value.string->bytes / 64);
    case QS_JN_OUTPUT:
        return output(r, n);
    case QS_JN_BODY:
        return qs_jexecute(r, n);
    case QS_JN_IF:
        QS_TRY(qs_jevaluate(r, n->a, &v));
        if (qs_jtrue(v)) return qs_jexecute(r, n);
        return n->b ? execute(r, n->b) : 0;
    case QS_JN_FOR:
        QS_TRY(qs_jevaluate(r, n->b, &v));
        return loop_over(r, n, v, 0);
    case QS_JN_SET:
        QS_TRY(qs_jevaluate(r, n->b, &v));
        return assign(r, n->a, v);
    case QS_JN_SET_BLOCK:
        QS_TRY(qs_jcapture(r, n, &v));
        QS_TRY(filtered(r, n->b, v, &v));
        return assign(r, n->a, v);
    case QS_JN_FILTER_BLOCK:
        QS_TRY(qs_jcapture(r, n, &v));
        QS_TRY(filtered(r, n->b, v, &v));
        QS_JMEMORY(r, n->line, qs_jput_str(r->a, r->out, v));
        return 0;
    case QS_JN_MACRO:
        return macro(r, n);
    case QS_JN_CALL_BLOCK:
        return call_block(r, n);
    case QS_JN_WITH:
        return with_block(r, n);
    case QS_JN_GENERATION:
        return generation(r, n);
    case QS_JN_BREAK:
        r->leave = QS_JBREAK;
        return 0;
    case QS_JN_CONTINUE:
        r->leave = QS_JCONTINUE;
        return 0;
    default:
        QS_JFAIL(r->e, n->line, "a statement was expected");
    }
}

int qs_jexecute(qs_jrun *r, const qs_jnode *body)
{
    QS_TRY(qs_jdeep(r, body->line));
    for (size_t i = 0; i < body->count && r->leave == QS_JSTAY; i++) {
        QS_TRY(qs_jstep(r, body->items[i]->line, 1));
        QS_TRY(execute(r, body->items[i]));
    }
    r->depth--;
    return 0;
}
