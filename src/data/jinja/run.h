/* run.h - a template being rendered: the parts of the interpreter among themselves.
 *
 * Everything that computes takes the run and fails with a sentence that names the template's line. A run
 * counts its steps: each expression, each turn of a loop, each value compared or written is one, and there is
 * a limit.
 */
#ifndef QS_DATA_JINJA_RUN_H
#define QS_DATA_JINJA_RUN_H

#include <time.h>

#include "src/data/jinja/node.h"

typedef struct qs_jbinding {
    const char *name;
    qs_jvalue value;
} qs_jbinding;

typedef struct qs_jscope {
    struct qs_jscope *parent;
    qs_jbinding *names;
    size_t count, capacity;
} qs_jscope;

typedef enum qs_jleave { QS_JSTAY, QS_JBREAK, QS_JCONTINUE } qs_jleave;

typedef struct qs_jrun {
    qs_jarena *a;
    qs_jscope *scope;
    qs_jbuilder *out;
    int captures;    /* out is not the template's own output but a macro's, a block's, ... */
    qs_jleave leave; /* the loop is being left */
    uint64_t steps, most_steps;
    int depth;
    struct tm date;        /* of strftime_now */
    qs_jspan *generations; /* pairs: where a {% generation %} begins (mark 0) and ends (mark 1) */
    size_t generation_count, generation_capacity;
    bool generation_captured; /* one stood in a macro or block, where its place in the output is not known */
    qs_err *e;
} qs_jrun;

/* A function of a template: {% macro %}, or the body of {% call %} as caller(). */
struct qs_jmacro {
    const qs_jnode *node;
    qs_jscope *scope; /* where it was defined */
};

struct qs_jmethod {
    qs_jvalue self;
    const char *name;
};

struct qs_jloop {
    const qs_jnode *node;
    const qs_jlist *items;
    size_t at;
    int depth;
    qs_jscope *scope;  /* around the loop, for recursion */
    qs_jvalue changed; /* of loop.changed(...): what it saw last */
    bool changed_known;
};

/* Arguments of a call. */
typedef struct qs_jargs {
    qs_jvalue *items;
    size_t count;
    const char **names;
    qs_jvalue *values; /* of the names */
    size_t named;
    int line;
} qs_jargs;

enum { QS_JARGS_MAX = 16 };

/* One step, or many. */
int qs_jstep(qs_jrun *r, int line, uint64_t count);
int qs_jdeep(qs_jrun *r, int line); /* a level of recursion; r->depth-- when it ends */

/* Statements. */
int qs_jexecute(qs_jrun *r, const qs_jnode *body);
/* A body whose output becomes a value. */
int qs_jcapture(qs_jrun *r, const qs_jnode *body, qs_jvalue *out);
int qs_jloop_call(qs_jrun *r, struct qs_jloop *loop, qs_jvalue over, qs_jvalue *out);
int qs_jscope_set(qs_jrun *r, qs_jscope *s, const char *name, qs_jvalue v, int line);
int qs_jscope_push(qs_jrun *r, qs_jscope *parent, qs_jscope **before, int line);

/* Expressions. */
int qs_jevaluate(qs_jrun *r, const qs_jnode *n, qs_jvalue *out);
int qs_jattribute(qs_jrun *r, qs_jvalue of, const char *name, size_t bytes, int line, qs_jvalue *out);
int qs_jitem(qs_jrun *r, qs_jvalue of, qs_jvalue key, int line, qs_jvalue *out);
int qs_jcontains(qs_jrun *r, qs_jvalue in, qs_jvalue what, int line, bool *out);
int qs_jcompare(qs_jrun *r, char op, qs_jvalue a, qs_jvalue b, int line, bool *out);
/* a op b of an operator's node; its operands are for messages. */
int qs_jbinary(qs_jrun *r, const qs_jnode *n, qs_jvalue a, qs_jvalue b, qs_jvalue *out);
/* The same of two integers; larger than 64 bits: refused. */
int qs_jintegers(qs_jrun *r, char op, int64_t a, int64_t b, int line, qs_jvalue *out);
/* The texts of values one after the other. */
int qs_jjoined(qs_jrun *r, const qs_jvalue *parts, size_t count, int line, qs_jvalue *out);
/* The refusal of a value that is not there. */
int qs_jundefined_used(qs_jrun *r, qs_jvalue v, int line);
/* The elements of anything that can be gone through; a generator is used up. */
int qs_jelements(qs_jrun *r, qs_jvalue v, int line, qs_jlist **out);
/* What an operand is, for messages: message['content']. */
const char *qs_jdescribe(const qs_jnode *n, char *text, size_t bytes);

/* Calls. */
int qs_jcall(qs_jrun *r, qs_jvalue f, const qs_jargs *args, qs_jvalue *out);
int qs_jarguments(qs_jrun *r, const qs_jnode *n, qs_jargs *args);
int qs_jmethod_call(qs_jrun *r, qs_jvalue self, const char *name, const qs_jargs *args, qs_jvalue *out);
bool qs_jis_method(qs_jvalue self, const char *name, size_t bytes);
int qs_jfilter(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out);
int qs_jtest(qs_jrun *r, const char *name, qs_jvalue v, const qs_jargs *args, bool *out);
/* Filters on sequences; found is false for other names. */
int qs_jlist_filter(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out,
                    bool *found);
/* Puts arguments where their parameters are: names is a list ended by NULL, values[i] stays as it is (the
 * default) where none was given. */
int qs_jbind(qs_jrun *r, const char *what, const qs_jargs *args, const char *const *names, int required,
             qs_jvalue *values);
int qs_jtojson(qs_jrun *r, qs_jvalue v, const qs_jargs *args, qs_jvalue *out);
int qs_jstrftime(qs_jrun *r, qs_jvalue format, int line, qs_jvalue *out);
/* A text with & < > ' " escaped, unless it is so already. */
int qs_jescape(qs_jrun *r, qs_jvalue text, int line, qs_jvalue *out);
/* "..." % values. */
int qs_jpercent(qs_jrun *r, qs_jvalue format, qs_jvalue values, int line, qs_jvalue *out);

#define QS_JMEMORY(r, line, ok)                   \
    do {                                          \
        if (!(ok)) QS_JFAIL_MEMORY((r)->e, line); \
    } while (0)

#endif
