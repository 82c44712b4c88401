/* Statements of a template. */
#include <string.h>

#include "src/data/jinja/node.h"

static int parse_body(qs_jparser *p, const char *const *ends, qs_jnode *to);

static bool is_word(const qs_jparser *p, const char *text) { return qs_jis(p, QS_JTOKEN_NAME, text); }
static bool take_operator(qs_jparser *p, const char *text) { return qs_jtake(p, QS_JTOKEN_OPERATOR, text); }

static int take_name(qs_jparser *p, const char **out)
{
    const qs_jtoken *t = p->at;
    QS_TRY(qs_jexpect(p, QS_JTOKEN_NAME, NULL));
    *out = qs_jintern(p->a, p->names, t->text, t->bytes);
    if (!*out) QS_JFAIL_MEMORY(p->e, t->line);
    return 0;
}

/* A name that the interpreter sets by itself. */
static int own_name(qs_jparser *p, const char *name, const char **out)
{
    *out = qs_jintern(p->a, p->names, name, strlen(name));
    if (!*out) QS_JFAIL_MEMORY(p->e, p->at->line);
    return 0;
}

static int block_end(qs_jparser *p) { return qs_jexpect(p, QS_JTOKEN_BLOCK_END, NULL); }

/* The body of a statement after its tag, its end tag included. */
static int parse_block(qs_jparser *p, const char *end, qs_jnode *to)
{
    const char *const ends[] = {end, NULL};
    QS_TRY(block_end(p));
    QS_TRY(parse_body(p, ends, to));
    p->at++;
    return block_end(p);
}

/* The same in a body that is a function of its own: a loop around it cannot be left from there. */
static int parse_function(qs_jparser *p, const char *end, qs_jnode *to)
{
    int loops = p->loops;
    p->loops = 0;
    QS_TRY(parse_block(p, end, to));
    p->loops = loops;
    return 0;
}

/* name, name.attribute (of a namespace), or a tuple of names. */
static int parse_target(qs_jparser *p, bool attribute, qs_jnode **out)
{
    qs_jnode *n, *tuple = NULL;
    bool bracket = take_operator(p, "(");
    for (;;) {
        QS_TRY(qs_jnode_new(p, QS_JN_NAME, &n));
        QS_TRY(take_name(p, &n->name));
        if (attribute && !tuple && take_operator(p, ".")) {
            qs_jnode *of = n;
            QS_TRY(qs_jnode_new(p, QS_JN_ATTR, &n));
            n->a = of;
            QS_TRY(take_name(p, &n->name));
            *out = n;
            return 0;
        }
        if (tuple) QS_TRY(qs_jnode_add(p, tuple, n));
        if (!take_operator(p, ",")) break;
        if (!tuple) {
            QS_TRY(qs_jnode_new(p, QS_JN_TUPLE, &tuple));
            QS_TRY(qs_jnode_add(p, tuple, n));
        }
        if (p->at->kind != QS_JTOKEN_NAME || is_word(p, "in")) break;
    }
    if (bracket) QS_TRY(qs_jexpect(p, QS_JTOKEN_OPERATOR, ")"));
    *out = tuple ? tuple : n;
    return 0;
}

static int parse_if(qs_jparser *p, qs_jnode *n)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    QS_TRY(qs_jdeeper(p));
    QS_TRY(qs_jparse_tuple(p, false, &n->a));
    QS_TRY(block_end(p));
    QS_TRY(parse_body(p, ends, n));
    if (qs_jtake(p, QS_JTOKEN_NAME, "elif")) {
        QS_TRY(qs_jnode_new(p, QS_JN_IF, &n->b));
        QS_TRY(parse_if(p, n->b));
    } else if (qs_jtake(p, QS_JTOKEN_NAME, "else")) {
        QS_TRY(qs_jnode_new(p, QS_JN_BODY, &n->b));
        QS_TRY(parse_block(p, "endif", n->b));
    } else {
        p->at++;
        QS_TRY(block_end(p));
    }
    p->depth--;
    return 0;
}

static int parse_for(qs_jparser *p, qs_jnode *n)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    QS_TRY(own_name(p, "loop", &n->name));
    QS_TRY(parse_target(p, false, &n->a));
    QS_TRY(qs_jexpect(p, QS_JTOKEN_NAME, "in"));
    QS_TRY(qs_jparse_tuple(p, false, &n->b));
    if (qs_jtake(p, QS_JTOKEN_NAME, "if")) QS_TRY(qs_jparse_expression(p, &n->c));
    n->recursive = qs_jtake(p, QS_JTOKEN_NAME, "recursive");
    QS_TRY(block_end(p));
    p->loops++;
    QS_TRY(parse_body(p, ends, n));
    p->loops--;
    if (qs_jtake(p, QS_JTOKEN_NAME, "else")) {
        QS_TRY(qs_jnode_new(p, QS_JN_BODY, &n->d));
        return parse_block(p, "endfor", n->d);
    }
    p->at++;
    return block_end(p);
}

static int parse_set(qs_jparser *p, qs_jnode *n)
{
    QS_TRY(parse_target(p, true, &n->a));
    if (take_operator(p, "=")) {
        QS_TRY(qs_jparse_tuple(p, true, &n->b));
        return block_end(p);
    }
    n->kind = QS_JN_SET_BLOCK;
    QS_TRY(qs_jparse_filters(p, false, &n->b));
    return parse_function(p, "endset", n);
}

/* (a, b=1) into named. */
static int parse_parameters(qs_jparser *p, qs_jnode *n)
{
    const char *name;
    qs_jnode *value;
    QS_TRY(qs_jexpect(p, QS_JTOKEN_OPERATOR, "("));
    while (!take_operator(p, ")")) {
        if (n->named_count) QS_TRY(qs_jexpect(p, QS_JTOKEN_OPERATOR, ","));
        value = NULL;
        QS_TRY(take_name(p, &name));
        if (take_operator(p, "="))
            QS_TRY(qs_jparse_expression(p, &value));
        else if (n->named_count && n->named[n->named_count - 1].value)
            QS_JFAIL(p->e, p->at->line, "a parameter without a default follows one with a default");
        QS_TRY(qs_jnode_name(p, n, name, value));
    }
    return 0;
}

static int parse_macro(qs_jparser *p, qs_jnode *n)
{
    QS_TRY(take_name(p, &n->name));
    QS_TRY(own_name(p, "caller", &n->ops));
    QS_TRY(parse_parameters(p, n));
    return parse_function(p, "endmacro", n);
}

static int parse_call(qs_jparser *p, qs_jnode *n)
{
    if (qs_jis(p, QS_JTOKEN_OPERATOR, "(")) QS_TRY(parse_parameters(p, n));
    QS_TRY(qs_jparse_expression(p, &n->a));
    if (n->a->kind != QS_JN_CALL) QS_JFAIL(p->e, n->line, "{%% call %%} needs the call of a macro");
    return parse_function(p, "endcall", n);
}

static int parse_with(qs_jparser *p, qs_jnode *n)
{
    const char *name;
    qs_jnode *value;
    while (p->at->kind != QS_JTOKEN_BLOCK_END) {
        if (n->named_count) QS_TRY(qs_jexpect(p, QS_JTOKEN_OPERATOR, ","));
        QS_TRY(take_name(p, &name));
        QS_TRY(qs_jexpect(p, QS_JTOKEN_OPERATOR, "="));
        QS_TRY(qs_jparse_expression(p, &value));
        QS_TRY(qs_jnode_name(p, n, name, value));
    }
    return parse_block(p, "endwith", n);
}

static int parse_filter_block(qs_jparser *p, qs_jnode *n)
{
    QS_TRY(qs_jparse_filters(p, true, &n->b));
    return parse_function(p, "endfilter", n);
}

static int parse_generation(qs_jparser *p, qs_jnode *n)
{
    p->generation = true;
    return parse_function(p, "endgeneration", n);
}

static int parse_leave(qs_jparser *p, qs_jnode *n)
{
    if (!p->loops) QS_JFAIL(p->e, n->line, "break and continue stand in loops only");
    return block_end(p);
}

static int parse_statement(qs_jparser *p, qs_jnode **out)
{
    static const struct {
        const char *word;
        qs_jnode_kind kind;
        int (*parse)(qs_jparser *, qs_jnode *);
    } statements[] = {{"if", QS_JN_IF, parse_if},
                      {"for", QS_JN_FOR, parse_for},
                      {"set", QS_JN_SET, parse_set},
                      {"macro", QS_JN_MACRO, parse_macro},
                      {"call", QS_JN_CALL_BLOCK, parse_call},
                      {"filter", QS_JN_FILTER_BLOCK, parse_filter_block},
                      {"with", QS_JN_WITH, parse_with},
                      {"generation", QS_JN_GENERATION, parse_generation},
                      {"break", QS_JN_BREAK, parse_leave},
                      {"continue", QS_JN_CONTINUE, parse_leave}};
    QS_TRY(qs_jdeeper(p));
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (is_word(p, statements[i].word)) {
            QS_TRY(qs_jnode_new(p, statements[i].kind, out));
            p->at++;
            QS_TRY(statements[i].parse(p, *out));
            p->depth--;
            return 0;
        }
    QS_JFAIL(p->e, p->at->line, "\"%.40s\" is not a statement of chat templates", p->at->text);
}

static bool at_end(const qs_jparser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (is_word(p, *ends)) return true;
    return false;
}

/* Up to a block that begins with one of these words, which is next then; NULL: up to the end of the template.
 */
static int parse_body(qs_jparser *p, const char *const *ends, qs_jnode *to)
{
    int line = p->at->line;
    for (;;) {
        qs_jnode *n;
        if (p->at->kind == QS_JTOKEN_END) {
            if (!ends) return 0;
            QS_JFAIL(p->e, line, "expected {%% %s %%} to what begins here, found the end of the template",
                     *ends);
        }
        if (qs_jtake(p, QS_JTOKEN_BLOCK_BEGIN, NULL)) {
            if (at_end(p, ends)) return 0;
            QS_TRY(parse_statement(p, &n));
        } else if (qs_jtake(p, QS_JTOKEN_VARIABLE_BEGIN, NULL)) {
            QS_TRY(qs_jnode_new(p, QS_JN_OUTPUT, &n));
            QS_TRY(qs_jparse_tuple(p, true, &n->a));
            QS_TRY(qs_jexpect(p, QS_JTOKEN_VARIABLE_END, NULL));
        } else {
            QS_TRY(qs_jnode_new(p, QS_JN_TEXT, &n));
            if (!qs_jstring_of(p->a, p->at->text, p->at->bytes, 0, &n->value)) QS_JFAIL_MEMORY(p->e, n->line);
            p->at++;
        }
        QS_TRY(qs_jnode_add(p, to, n));
    }
}

int qs_jparse(qs_jparser *p, qs_jnode **out)
{
    QS_TRY(qs_jnode_new(p, QS_JN_BODY, out));
    return parse_body(p, NULL, *out);
}
