/* Expressions of a template, by Jinja's precedence: if else, or, and, not, comparisons and in, + -, ~, * / //
 * %, **, unary - +, then .name [item] (call), | filter and is test. */
#include <string.h>

#include "src/data/jinja/node.h"

enum { DEPTH_MAX = 200 };

int qs_jdeeper(qs_jparser *p)
{
    if (++p->depth > DEPTH_MAX) QS_JFAIL(p->e, p->at->line, "is nested deeper than %d", DEPTH_MAX);
    return 0;
}

const char *qs_jintern(qs_jarena *a, qs_jnames *n, const char *name, size_t bytes)
{
    for (size_t i = 0; i < n->count; i++)
        if (strncmp(n->names[i], name, bytes) == 0 && !n->names[i][bytes]) return n->names[i];
    if (n->count == n->capacity) {
        size_t want = 2 * n->capacity + 32;
        const char **more = qs_jarena_grow(a, n->names, n->capacity * sizeof *more, want * sizeof *more);
        if (!more) return NULL;
        n->names = more;
        n->capacity = want;
    }
    char *copy = qs_jarena_get(a, bytes + 1);
    if (!copy) return NULL;
    memcpy(copy, name, bytes);
    copy[bytes] = 0;
    return n->names[n->count++] = copy;
}

int qs_jnode_new(qs_jparser *p, qs_jnode_kind kind, qs_jnode **out)
{
    qs_jnode *n = *out = qs_jarena_get(p->a, sizeof *n);
    if (!n) QS_JFAIL_MEMORY(p->e, p->at->line);
    *n = (qs_jnode){.kind = (uint8_t)kind, .line = p->at->line};
    return 0;
}

/* Room for one more of `count` things: capacities are powers of two, so a full one is seen by its count. */
static void *room(qs_jparser *p, void *items, size_t count, size_t size)
{
    if (count && (count & (count - 1)) != 0) return items;
    return qs_jarena_grow(p->a, items, count * size, (count ? 2 * count : 1) * size);
}

int qs_jnode_add(qs_jparser *p, qs_jnode *to, qs_jnode *item)
{
    qs_jnode **items = room(p, to->items, to->count, sizeof *items);
    if (!items) QS_JFAIL_MEMORY(p->e, p->at->line);
    to->items = items;
    to->items[to->count++] = item;
    return 0;
}

int qs_jnode_name(qs_jparser *p, qs_jnode *to, const char *name, qs_jnode *value)
{
    qs_jnamed *named = room(p, to->named, to->named_count, sizeof *named);
    if (!named) QS_JFAIL_MEMORY(p->e, p->at->line);
    to->named = named;
    to->named[to->named_count++] = (qs_jnamed){name, value};
    return 0;
}

bool qs_jis(const qs_jparser *p, qs_jtoken_kind kind, const char *text)
{
    return p->at->kind == kind && (!text || strcmp(p->at->text, text) == 0);
}

bool qs_jtake(qs_jparser *p, qs_jtoken_kind kind, const char *text)
{
    if (!qs_jis(p, kind, text)) return false;
    p->at++;
    return true;
}

static const char *shown(const qs_jtoken *t)
{
    switch (t->kind) {
    case QS_JTOKEN_END:
        return "the end of the template";
    case QS_JTOKEN_BLOCK_END:
        return "%}";
    case QS_JTOKEN_VARIABLE_END:
        return "}}";
    case QS_JTOKEN_INTEGER:
    case QS_JTOKEN_FLOAT:
        return "a number";
    default:
        return t->text;
    }
}

int qs_jexpect(qs_jparser *p, qs_jtoken_kind kind, const char *text)
{
    if (qs_jtake(p, kind, text)) return 0;
    const char *want = text                          ? text
                       : kind == QS_JTOKEN_NAME      ? "a name"
                       : kind == QS_JTOKEN_BLOCK_END ? "%}"
                                                     : "}}";
    QS_JFAIL(p->e, p->at->line, "expected %s, found %.40s", want, shown(p->at));
}

static bool is_operator(const qs_jparser *p, const char *text) { return qs_jis(p, QS_JTOKEN_OPERATOR, text); }
static bool take_operator(qs_jparser *p, const char *text) { return qs_jtake(p, QS_JTOKEN_OPERATOR, text); }
static bool is_word(const qs_jparser *p, const char *text) { return qs_jis(p, QS_JTOKEN_NAME, text); }

static int take_name(qs_jparser *p, const char **out)
{
    const qs_jtoken *t = p->at;
    QS_TRY(qs_jexpect(p, QS_JTOKEN_NAME, NULL));
    *out = qs_jintern(p->a, p->names, t->text, t->bytes);
    if (!*out) QS_JFAIL_MEMORY(p->e, t->line);
    return 0;
}

/* ---- primaries --------------------------------------------------------------------------------------- */

static int parse_string(qs_jparser *p, qs_jnode *n)
{
    qs_jbuilder b = {0};
    for (; p->at->kind == QS_JTOKEN_STRING; p->at++)
        if (!qs_jput(p->a, &b, p->at->text, p->at->bytes, 0)) QS_JFAIL_MEMORY(p->e, n->line);
    if (!qs_jstring_built(p->a, &b, &n->value)) QS_JFAIL_MEMORY(p->e, n->line);
    return 0;
}

static int parse_name(qs_jparser *p, qs_jnode *n)
{
    static const struct {
        const char *name;
        qs_jvalue value;
    } constants[] = {{"true", {.kind = QS_JBOOL, .boolean = true}},
                     {"True", {.kind = QS_JBOOL, .boolean = true}},
                     {"false", {.kind = QS_JBOOL}},
                     {"False", {.kind = QS_JBOOL}},
                     {"none", {.kind = QS_JNONE}},
                     {"None", {.kind = QS_JNONE}}};
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (is_word(p, constants[i].name)) {
            n->kind = QS_JN_CONST;
            n->value = constants[i].value;
            p->at++;
            return 0;
        }
    n->kind = QS_JN_NAME;
    return take_name(p, &n->name);
}

static int parse_brackets(qs_jparser *p, qs_jnode *n, const char *close)
{
    bool dict = *close == '}';
    n->kind = dict ? QS_JN_DICT : QS_JN_LIST;
    while (!take_operator(p, close)) {
        if (n->count) {
            QS_TRY(qs_jexpect(p, QS_JTOKEN_OPERATOR, ","));
            if (take_operator(p, close)) break;
        }
        qs_jnode *item;
        QS_TRY(qs_jparse_expression(p, &item));
        QS_TRY(qs_jnode_add(p, n, item));
        if (!dict) continue;
        QS_TRY(qs_jexpect(p, QS_JTOKEN_OPERATOR, ":"));
        QS_TRY(qs_jparse_expression(p, &item));
        QS_TRY(qs_jnode_add(p, n, item));
    }
    return 0;
}

int qs_jparse_primary(qs_jparser *p, qs_jnode **out)
{
    qs_jnode *n;
    QS_TRY(qs_jnode_new(p, QS_JN_CONST, out));
    n = *out;
    switch (p->at->kind) {
    case QS_JTOKEN_NAME:
        return parse_name(p, n);
    case QS_JTOKEN_STRING:
        return parse_string(p, n);
    case QS_JTOKEN_INTEGER:
        n->value = QS_JV_INT(p->at++->integer);
        return 0;
    case QS_JTOKEN_FLOAT:
        n->value = QS_JV(QS_JFLOAT, .real = p->at++->real);
        return 0;
    case QS_JTOKEN_OPERATOR:
        if (take_operator(p, "[")) return parse_brackets(p, n, "]");
        if (take_operator(p, "{")) return parse_brackets(p, n, "}");
        if (take_operator(p, "(")) {
            if (take_operator(p, ")")) {
                n->kind = QS_JN_TUPLE;
                return 0;
            }
            QS_TRY(qs_jparse_tuple(p, true, out));
            return qs_jexpect(p, QS_JTOKEN_OPERATOR, ")");
        }
        break;
    default:
        break;
    }
    QS_JFAIL(p->e, p->at->line, "expected an expression, found %.40s", shown(p->at));
}

static bool tuple_ends(const qs_jparser *p)
{
    return p->at->kind == QS_JTOKEN_VARIABLE_END || p->at->kind == QS_JTOKEN_BLOCK_END ||
           p->at->kind == QS_JTOKEN_END || is_operator(p, ")") || is_word(p, "recursive");
}

static int parse_or(qs_jparser *p, qs_jnode **out);

int qs_jparse_tuple(qs_jparser *p, bool conditional, qs_jnode **out)
{
    qs_jnode *first, *tuple;
    QS_TRY(conditional ? qs_jparse_expression(p, &first) : parse_or(p, &first));
    *out = first;
    if (!is_operator(p, ",")) return 0;
    QS_TRY(qs_jnode_new(p, QS_JN_TUPLE, &tuple));
    QS_TRY(qs_jnode_add(p, tuple, first));
    while (take_operator(p, ",") && !tuple_ends(p)) {
        QS_TRY(conditional ? qs_jparse_expression(p, &first) : parse_or(p, &first));
        QS_TRY(qs_jnode_add(p, tuple, first));
    }
    *out = tuple;
    return 0;
}

/* ---- what follows a primary -------------------------------------------------------------------------- */

/* (a, b, name=c) after its opening bracket, into items and named. */
static int parse_arguments(qs_jparser *p, qs_jnode *n)
{
    while (!take_operator(p, ")")) {
        if (n->count + n->named_count) {
            QS_TRY(qs_jexpect(p, QS_JTOKEN_OPERATOR, ","));
            if (take_operator(p, ")")) break;
        }
        if (is_operator(p, "**")) QS_JFAIL(p->e, p->at->line, "**arguments in calls are not supported");
        qs_jnode *value;
        const char *name = NULL;
        if (is_operator(p, "*")) {
            QS_TRY(qs_jnode_new(p, QS_JN_SPREAD, &value));
            p->at++;
            QS_TRY(qs_jparse_expression(p, &value->a));
            QS_TRY(qs_jnode_add(p, n, value));
            continue;
        }
        if (p->at->kind == QS_JTOKEN_NAME && p->at[1].kind == QS_JTOKEN_OPERATOR &&
            strcmp(p->at[1].text, "=") == 0) {
            QS_TRY(take_name(p, &name));
            p->at++;
        } else if (n->named_count) {
            QS_JFAIL(p->e, p->at->line, "an argument without a name follows one with a name");
        }
        QS_TRY(qs_jparse_expression(p, &value));
        QS_TRY(name ? qs_jnode_name(p, n, name, value) : qs_jnode_add(p, n, value));
    }
    return 0;
}

/* An index, or a slice. */
static int parse_subscript(qs_jparser *p, qs_jnode **out)
{
    qs_jnode *parts[3] = {0}, *n;
    int part = 0;
    if (!is_operator(p, ":")) QS_TRY(qs_jparse_expression(p, &parts[0]));
    if (!is_operator(p, ":")) {
        *out = parts[0];
        return 0;
    }
    while (take_operator(p, ":")) {
        if (++part > 2) QS_JFAIL(p->e, p->at->line, "a slice has at most three parts");
        if (!is_operator(p, ":") && !is_operator(p, "]")) QS_TRY(qs_jparse_expression(p, &parts[part]));
    }
    QS_TRY(qs_jnode_new(p, QS_JN_SLICE, out));
    n = *out;
    n->a = parts[0];
    n->b = parts[1];
    n->c = parts[2];
    return 0;
}

static int parse_postfix(qs_jparser *p, qs_jnode **node)
{
    for (;;) {
        qs_jnode *n;
        int line = p->at->line;
        if (take_operator(p, ".")) {
            QS_TRY(qs_jnode_new(p, QS_JN_ATTR, &n));
            if (p->at->kind == QS_JTOKEN_INTEGER) {
                n->kind = QS_JN_ITEM;
                QS_TRY(qs_jparse_primary(p, &n->b));
            } else {
                QS_TRY(take_name(p, &n->name));
            }
        } else if (take_operator(p, "[")) {
            QS_TRY(qs_jnode_new(p, QS_JN_ITEM, &n));
            QS_TRY(parse_subscript(p, &n->b));
            if (is_operator(p, ",")) QS_JFAIL(p->e, p->at->line, "several subscripts are not supported");
            QS_TRY(qs_jexpect(p, QS_JTOKEN_OPERATOR, "]"));
        } else if (take_operator(p, "(")) {
            QS_TRY(qs_jnode_new(p, QS_JN_CALL, &n));
            QS_TRY(parse_arguments(p, n));
        } else {
            return 0;
        }
        n->line = line;
        n->a = *node;
        *node = n;
        QS_TRY(qs_jdeeper(p)); /* a chain is a tree as deep as it is long */
    }
}

int qs_jparse_filters(qs_jparser *p, bool first_without_bar, qs_jnode **node)
{
    while (first_without_bar || take_operator(p, "|")) {
        first_without_bar = false;
        qs_jnode *n;
        QS_TRY(qs_jdeeper(p));
        QS_TRY(qs_jnode_new(p, QS_JN_FILTER, &n));
        QS_TRY(take_name(p, &n->name));
        if (take_operator(p, "(")) QS_TRY(parse_arguments(p, n));
        n->a = *node;
        *node = n;
    }
    return 0;
}

static int parse_test(qs_jparser *p, qs_jnode **node)
{
    qs_jnode *n, *argument;
    bool negated = qs_jtake(p, QS_JTOKEN_NAME, "not");
    QS_TRY(qs_jnode_new(p, QS_JN_TEST, &n));
    n->a = *node;
    *node = n;
    QS_TRY(take_name(p, &n->name));
    if (take_operator(p, "(")) {
        QS_TRY(parse_arguments(p, n));
    } else if ((p->at->kind >= QS_JTOKEN_NAME && p->at->kind <= QS_JTOKEN_FLOAT && !is_word(p, "else") &&
                !is_word(p, "or") && !is_word(p, "and")) ||
               is_operator(p, "[") || is_operator(p, "{")) {
        if (is_word(p, "is")) QS_JFAIL(p->e, p->at->line, "tests cannot be chained with \"is\"");
        QS_TRY(qs_jparse_primary(p, &argument));
        QS_TRY(parse_postfix(p, &argument));
        QS_TRY(qs_jnode_add(p, n, argument));
    }
    if (!negated) return 0;
    QS_TRY(qs_jnode_new(p, QS_JN_NOT, &n));
    n->a = *node;
    *node = n;
    return 0;
}

int qs_jparse_postfix_and_filters(qs_jparser *p, qs_jnode **node)
{
    int depth = p->depth;
    QS_TRY(parse_postfix(p, node));
    for (;;) {
        QS_TRY(qs_jdeeper(p));
        if (is_operator(p, "|"))
            QS_TRY(qs_jparse_filters(p, false, node));
        else if (qs_jtake(p, QS_JTOKEN_NAME, "is"))
            QS_TRY(parse_test(p, node));
        else if (is_operator(p, "("))
            QS_TRY(parse_postfix(p, node));
        else
            break;
    }
    p->depth = depth;
    return 0;
}

/* ---- operators --------------------------------------------------------------------------------------- */

static int parse_unary(qs_jparser *p, bool with_filters, qs_jnode **out)
{
    int depth = p->depth;
    QS_TRY(qs_jdeeper(p));
    bool minus = is_operator(p, "-");
    if (minus || is_operator(p, "+")) {
        QS_TRY(qs_jnode_new(p, minus ? QS_JN_NEG : QS_JN_POS, out));
        p->at++;
        QS_TRY(parse_unary(p, false, &(*out)->a));
    } else {
        QS_TRY(qs_jparse_primary(p, out));
    }
    QS_TRY(with_filters ? qs_jparse_postfix_and_filters(p, out) : parse_postfix(p, out));
    p->depth = depth;
    return 0;
}

static int binary(qs_jparser *p, char op, qs_jnode **left, qs_jnode *right)
{
    qs_jnode *n;
    QS_TRY(qs_jnode_new(p, QS_JN_BINARY, &n));
    n->op = op;
    n->a = *left;
    n->b = right;
    n->line = (*left)->line;
    *left = n;
    return qs_jdeeper(p);
}

static int parse_power(qs_jparser *p, qs_jnode **out)
{
    int depth = p->depth;
    qs_jnode *right;
    QS_TRY(parse_unary(p, true, out));
    while (take_operator(p, "**")) {
        QS_TRY(parse_unary(p, true, &right));
        QS_TRY(binary(p, 'p', out, right));
    }
    p->depth = depth;
    return 0;
}

static int parse_product(qs_jparser *p, qs_jnode **out)
{
    int depth = p->depth;
    qs_jnode *right;
    QS_TRY(parse_power(p, out));
    for (;;) {
        char op = take_operator(p, "*")    ? '*'
                  : take_operator(p, "/")  ? '/'
                  : take_operator(p, "//") ? 'f'
                  : take_operator(p, "%")  ? '%'
                                           : 0;
        if (!op) break;
        QS_TRY(parse_power(p, &right));
        QS_TRY(binary(p, op, out, right));
    }
    p->depth = depth;
    return 0;
}

static int parse_concat(qs_jparser *p, qs_jnode **out)
{
    qs_jnode *n, *item;
    QS_TRY(parse_product(p, out));
    if (!is_operator(p, "~")) return 0;
    QS_TRY(qs_jnode_new(p, QS_JN_CONCAT, &n));
    QS_TRY(qs_jnode_add(p, n, *out));
    while (take_operator(p, "~")) {
        QS_TRY(parse_product(p, &item));
        QS_TRY(qs_jnode_add(p, n, item));
    }
    *out = n;
    return 0;
}

static int parse_sum(qs_jparser *p, qs_jnode **out)
{
    qs_jnode *right;
    int depth = p->depth;
    QS_TRY(parse_concat(p, out));
    for (;;) {
        char op = take_operator(p, "+") ? '+' : take_operator(p, "-") ? '-' : 0;
        if (!op) break;
        QS_TRY(parse_concat(p, &right));
        QS_TRY(binary(p, op, out, right));
    }
    p->depth = depth;
    return 0;
}

static char take_comparison(qs_jparser *p)
{
    static const struct {
        const char *text;
        char op;
    } operators[] = {{"==", '='}, {"!=", '!'}, {"<=", 'l'}, {">=", 'g'}, {"<", '<'}, {">", '>'}};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
        if (take_operator(p, operators[i].text)) return operators[i].op;
    if (qs_jtake(p, QS_JTOKEN_NAME, "in")) return 'i';
    if (is_word(p, "not") && p->at[1].kind == QS_JTOKEN_NAME && strcmp(p->at[1].text, "in") == 0) {
        p->at += 2;
        return 'n';
    }
    return 0;
}

static int parse_comparison(qs_jparser *p, qs_jnode **out)
{
    enum { LONGEST = 16 };
    char op, ops[LONGEST + 1] = {0};
    qs_jnode *n = NULL, *right;
    QS_TRY(parse_sum(p, out));
    while ((op = take_comparison(p)) != 0) {
        if (!n) {
            QS_TRY(qs_jnode_new(p, QS_JN_COMPARE, &n));
            n->a = *out;
        }
        if (n->count == LONGEST) QS_JFAIL(p->e, p->at->line, "more than %d comparisons in a row", LONGEST);
        ops[n->count] = op;
        QS_TRY(parse_sum(p, &right));
        QS_TRY(qs_jnode_add(p, n, right));
    }
    if (!n) return 0;
    n->ops = qs_jintern(p->a, p->names, ops, n->count);
    if (!n->ops) QS_JFAIL_MEMORY(p->e, n->line);
    *out = n;
    return 0;
}

static int parse_not(qs_jparser *p, qs_jnode **out)
{
    if (!is_word(p, "not")) return parse_comparison(p, out);
    QS_TRY(qs_jdeeper(p));
    QS_TRY(qs_jnode_new(p, QS_JN_NOT, out));
    p->at++;
    QS_TRY(parse_not(p, &(*out)->a));
    p->depth--;
    return 0;
}

static int parse_logic(qs_jparser *p, const char *word, qs_jnode_kind kind,
                       int (*operand)(qs_jparser *, qs_jnode **), qs_jnode **out)
{
    int depth = p->depth;
    QS_TRY(operand(p, out));
    while (qs_jtake(p, QS_JTOKEN_NAME, word)) {
        qs_jnode *n;
        QS_TRY(qs_jdeeper(p));
        QS_TRY(qs_jnode_new(p, kind, &n));
        n->a = *out;
        QS_TRY(operand(p, &n->b));
        *out = n;
    }
    p->depth = depth;
    return 0;
}

static int parse_and(qs_jparser *p, qs_jnode **out)
{
    return parse_logic(p, "and", QS_JN_AND, parse_not, out);
}
static int parse_or(qs_jparser *p, qs_jnode **out) { return parse_logic(p, "or", QS_JN_OR, parse_and, out); }

int qs_jparse_expression(qs_jparser *p, qs_jnode **out)
{
    int depth = p->depth;
    QS_TRY(qs_jdeeper(p));
    QS_TRY(parse_or(p, out));
    while (qs_jtake(p, QS_JTOKEN_NAME, "if")) {
        qs_jnode *n;
        QS_TRY(qs_jdeeper(p));
        QS_TRY(qs_jnode_new(p, QS_JN_COND, &n));
        n->b = *out;
        QS_TRY(parse_or(p, &n->a));
        if (qs_jtake(p, QS_JTOKEN_NAME, "else")) QS_TRY(qs_jparse_expression(p, &n->c));
        *out = n;
    }
    p->depth = depth;
    return 0;
}
