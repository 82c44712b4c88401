/* Tests: value is NAME. */
#include <string.h>

#include "src/data/jinja/run.h"
#include "src/data/jinja/text.h"

typedef enum question {
    DEFINED,
    UNDEFINED,
    NONE,
    BOOLEAN,
    TRUE,
    FALSE,
    INTEGER,
    FLOAT,
    NUMBER,
    STRING,
    MAPPING,
    ITERABLE,
    SEQUENCE,
    CALLABLE,
    SAME,
    EQUAL,
    UNEQUAL,
    LESS,
    MORE,
    AT_MOST,
    AT_LEAST,
    IN,
    ODD,
    EVEN,
    DIVISIBLE,
    LOWER,
    UPPER,
    ESCAPED
} question;

static const struct {
    const char *name;
    question q;
} names[] = {{"defined", DEFINED},
             {"undefined", UNDEFINED},
             {"none", NONE},
             {"boolean", BOOLEAN},
             {"true", TRUE},
             {"false", FALSE},
             {"integer", INTEGER},
             {"float", FLOAT},
             {"number", NUMBER},
             {"string", STRING},
             {"mapping", MAPPING},
             {"iterable", ITERABLE},
             {"sequence", SEQUENCE},
             {"callable", CALLABLE},
             {"sameas", SAME},
             {"equalto", EQUAL},
             {"eq", EQUAL},
             {"==", EQUAL},
             {"ne", UNEQUAL},
             {"!=", UNEQUAL},
             {"lessthan", LESS},
             {"lt", LESS},
             {"<", LESS},
             {"greaterthan", MORE},
             {"gt", MORE},
             {">", MORE},
             {"le", AT_MOST},
             {"<=", AT_MOST},
             {"ge", AT_LEAST},
             {">=", AT_LEAST},
             {"in", IN},
             {"odd", ODD},
             {"even", EVEN},
             {"divisibleby", DIVISIBLE},
             {"lower", LOWER},
             {"upper", UPPER},
             {"escaped", ESCAPED}};

static int compare(qs_jrun *r, question q, qs_jvalue v, qs_jvalue other, int line, bool *out)
{
    static const char ops[] = {[EQUAL - EQUAL] = '=', [UNEQUAL - EQUAL] = '!', [LESS - EQUAL] = '<',
                               [MORE - EQUAL] = '>',  [AT_MOST - EQUAL] = 'l', [AT_LEAST - EQUAL] = 'g',
                               [IN - EQUAL] = 'i'};
    if (q != SAME) return qs_jcompare(r, ops[q - EQUAL], v, other, line, out);
    *out = v.kind == other.kind && (v.kind <= QS_JFLOAT ? qs_jequal(v, other) : v.list == other.list);
    return 0;
}

static int of_number(qs_jrun *r, question q, qs_jvalue v, qs_jvalue by, int line, bool *out)
{
    int64_t divisor = q == DIVISIBLE ? (by.kind == QS_JINT ? by.integer : 0) : 2;
    if ((v.kind != QS_JINT && v.kind != QS_JBOOL) || !divisor)
        QS_JFAIL(r->e, line, "a test takes integers, found %s", qs_jkind_name(v));
    int64_t n = v.kind == QS_JINT ? v.integer : v.boolean;
    *out = divisor == -1 || n % divisor == 0;
    if (q == ODD) *out = !*out;
    return 0;
}

static bool holds(question q, qs_jvalue v)
{
    switch (q) {
    case DEFINED:
        return v.kind != QS_JUNDEFINED;
    case UNDEFINED:
        return v.kind == QS_JUNDEFINED;
    case NONE:
        return v.kind == QS_JNONE;
    case BOOLEAN:
        return v.kind == QS_JBOOL;
    case TRUE:
        return v.kind == QS_JBOOL && v.boolean;
    case FALSE:
        return v.kind == QS_JBOOL && !v.boolean;
    case INTEGER:
        return v.kind == QS_JINT;
    case FLOAT:
        return v.kind == QS_JFLOAT;
    case NUMBER:
        return qs_jis_number(v);
    case STRING:
        return v.kind == QS_JSTRING;
    case MAPPING:
        return v.kind == QS_JDICT;
    case ITERABLE:
        return v.kind == QS_JUNDEFINED || v.kind == QS_JSTRING || v.kind == QS_JDICT || v.kind == QS_JLOOP ||
               qs_jis_sequence(v);
    case SEQUENCE:
        return v.kind == QS_JUNDEFINED || v.kind == QS_JSTRING || v.kind == QS_JDICT || v.kind == QS_JLIST ||
               v.kind == QS_JTUPLE;
    case CALLABLE:
        return v.kind == QS_JMETHOD || v.kind == QS_JFUNCTION || v.kind == QS_JMACRO || v.kind == QS_JLOOP ||
               v.kind == QS_JUNDEFINED;
    default:
        return v.kind == QS_JSTRING && v.html;
    }
}

int qs_jtest(qs_jrun *r, const char *name, qs_jvalue v, const qs_jargs *args, bool *out)
{
    size_t i = 0, count = sizeof names / sizeof *names;
    while (i < count && strcmp(names[i].name, name) != 0) i++;
    if (i == count) QS_JFAIL(r->e, args->line, "the test \"%.40s\" is not supported", name);
    question q = names[i].q;
    bool takes_one = (q >= SAME && q <= IN) || q == DIVISIBLE;
    if (args->named || args->count != (takes_one ? 1 : 0))
        QS_JFAIL(r->e, args->line, "the test %s takes %d arguments, found %zu", name, takes_one, args->count);
    QS_TRY(qs_jstep(r, args->line, 1));
    if (q >= SAME && q <= IN) return compare(r, q, v, args->items[0], args->line, out);
    if (q >= ODD && q <= DIVISIBLE)
        return of_number(r, q, v, takes_one ? args->items[0] : QS_JV_NONE, args->line, out);
    if (q == LOWER || q == UPPER) {
        qs_jbuilder b = {0};
        qs_jvalue s;
        QS_JMEMORY(r, args->line, qs_jput_str(r->a, &b, v) && qs_jstring_built(r->a, &b, &s));
        *out = qs_jis_all(s.string, q == LOWER ? "islower" : "isupper");
        return 0;
    }
    *out = holds(q, v);
    return 0;
}
