/* node.h - a parsed template: statements and expressions as a tree. */
#ifndef QS_DATA_JINJA_NODE_H
#define QS_DATA_JINJA_NODE_H

#include "src/data/jinja/lexer.h"
#include "src/data/jinja/value.h"

typedef enum qs_jnode_kind {
    /* Expressions. `a`, `b`, `c` are the operands in order. */
    QS_JN_CONST,
    QS_JN_NAME,
    QS_JN_LIST,
    QS_JN_TUPLE,
    QS_JN_DICT,   /* items: key, value, key, value, ... */
    QS_JN_ATTR,   /* a.name */
    QS_JN_ITEM,   /* a[b] */
    QS_JN_SLICE,  /* the b of an ITEM: a:b:c, each may be NULL */
    QS_JN_CALL,   /* a(items, keywords) */
    QS_JN_SPREAD, /* *a among the items of a call */
    QS_JN_FILTER, /* a | name(items, keywords); a NULL in filter blocks */
    QS_JN_TEST,   /* a is name(items, keywords) */
    QS_JN_NOT,
    QS_JN_NEG,
    QS_JN_POS,
    QS_JN_BINARY,  /* a op b: + - * / % 'f' (//) 'p' (**) */
    QS_JN_CONCAT,  /* items joined by ~ */
    QS_JN_COMPARE, /* a, then items[i] compared by ops[i]: = ! < > l (<=) g (>=) i (in) n (not in) */
    QS_JN_AND,
    QS_JN_OR,
    QS_JN_COND, /* b if a else c (c may be NULL) */
    /* Statements. `items` is the body. */
    QS_JN_TEXT,
    QS_JN_OUTPUT, /* {{ a }} */
    QS_JN_BODY,
    QS_JN_IF,           /* a; items; b: the rest (IF or BODY) or NULL */
    QS_JN_FOR,          /* a: target, b: what is gone through, c: condition, d: else body */
    QS_JN_SET,          /* a: target, b: value */
    QS_JN_SET_BLOCK,    /* a: target, b: filters or NULL */
    QS_JN_MACRO,        /* name, params */
    QS_JN_CALL_BLOCK,   /* a: the call, params of caller */
    QS_JN_FILTER_BLOCK, /* b: filters */
    QS_JN_WITH,         /* params with their values */
    QS_JN_GENERATION,
    QS_JN_BREAK,
    QS_JN_CONTINUE
} qs_jnode_kind;

typedef struct qs_jnode qs_jnode;

/* Names with a value each: keyword arguments, or parameters with their defaults (NULL: none). */
typedef struct qs_jnamed {
    const char *name; /* interned: equal names are one pointer */
    qs_jnode *value;
} qs_jnamed;

struct qs_jnode {
    uint8_t kind;
    char op;        /* BINARY */
    bool recursive; /* FOR */
    int line;
    const char *name; /* interned; FOR: "loop" */
    const char *ops;  /* COMPARE; MACRO: "caller" */
    qs_jvalue value;  /* CONST, TEXT */
    qs_jnode *a, *b, *c, *d;
    qs_jnode **items;
    size_t count;
    qs_jnamed *named; /* CALL, FILTER, TEST: keywords; MACRO, CALL_BLOCK, WITH: params */
    size_t named_count;
};

/* The names of a template, each once. */
typedef struct qs_jnames {
    const char **names;
    size_t count, capacity;
} qs_jnames;

/* The one pointer for a name; NULL when memory ends. */
const char *qs_jintern(qs_jarena *a, qs_jnames *n, const char *name, size_t bytes);

typedef struct qs_jparser {
    qs_jarena *a;
    const qs_jtoken *at;
    qs_jnames *names;
    int depth, loops;
    bool generation; /* {% generation %} was seen */
    qs_err *e;
} qs_jparser;

/* A whole template: a BODY. */
int qs_jparse(qs_jparser *p, qs_jnode **out);

/* For the statements (parser.c), from expression.c. */
int qs_jparse_tuple(qs_jparser *p, bool conditional,
                    qs_jnode **out); /* one expression, or several with commas */
int qs_jparse_expression(qs_jparser *p, qs_jnode **out);
int qs_jparse_primary(qs_jparser *p, qs_jnode **out);
int qs_jparse_postfix_and_filters(qs_jparser *p, qs_jnode **node);
int qs_jparse_filters(qs_jparser *p, bool first_without_bar, qs_jnode **node);
int qs_jnode_new(qs_jparser *p, qs_jnode_kind kind, qs_jnode **out);
int qs_jnode_add(qs_jparser *p, qs_jnode *to, qs_jnode *item);
int qs_jnode_name(qs_jparser *p, qs_jnode *to, const char *name, qs_jnode *value); /* into named */
bool qs_jis(const qs_jparser *p, qs_jtoken_kind kind, const char *text);
bool qs_jtake(qs_jparser *p, qs_jtoken_kind kind, const char *text); /* goes on when it is that */
int qs_jexpect(qs_jparser *p, qs_jtoken_kind kind, const char *text);
int qs_jdeeper(qs_jparser *p); /* counts a level of nesting; p->depth-- when it ends */

#endif
