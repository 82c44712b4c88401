/* value.h - what a template computes with: Python's values, as far as chat templates use them.
 *
 * Values never change once made (only a namespace does), so they are shared freely. Every byte of text knows
 * where it comes from, its mark: 0 for the template's own words, 1 + i for message i of the conversation,
 * QS_JMARK_OTHER for tools, documents and the rest of the data. By it what people wrote never becomes a
 * control token, and what is trained is checked against whose words it is.
 *
 * Functions that need memory return NULL, or false, when the arena's limit is reached.
 */
#ifndef QS_DATA_JINJA_VALUE_H
#define QS_DATA_JINJA_VALUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/data/jinja/arena.h"

enum { QS_JMARK_OTHER = INT32_MAX, QS_JMARK_NAME = INT32_MAX - 1 };

typedef enum qs_jkind {
    QS_JUNDEFINED, /* a name or key that is not there */
    QS_JNONE,
    QS_JBOOL,
    QS_JINT,
    QS_JFLOAT,
    QS_JSTRING,
    QS_JLIST,
    QS_JTUPLE,
    QS_JVIEW,      /* items(), keys() or values() of a dict */
    QS_JGENERATOR, /* read once, from front to back: what select, map, ... give */
    QS_JDICT,
    QS_JNAMESPACE,
    QS_JLOOP,
    QS_JMETHOD,   /* of a value: "a".split */
    QS_JFUNCTION, /* range, namespace, ... */
    QS_JMACRO
} qs_jkind;

typedef struct qs_jspan {
    uint32_t end; /* byte offset; it begins where the one before ends */
    int32_t mark;
} qs_jspan;

typedef struct qs_jstring {
    const char *text; /* UTF-8, not terminated */
    uint32_t bytes, span_count;
    const qs_jspan *spans; /* NULL: all of it has the value's mark */
} qs_jstring;

typedef struct qs_jvalue qs_jvalue;
typedef struct qs_jlist qs_jlist;
typedef struct qs_jdict qs_jdict;
struct qs_jmethod;
struct qs_jmacro;
struct qs_jloop;

struct qs_jvalue {
    uint8_t kind;
    bool html; /* a string from `safe` or `escape`: joining it to others would escape those */
    int32_t
        mark; /* of strings without spans, numbers, and what is written around the elements of a container */
    union {
        bool boolean;
        int64_t integer;
        double real;
        const qs_jstring *string;
        qs_jlist *list;   /* LIST, TUPLE, VIEW, GENERATOR */
        qs_jdict *dict;   /* DICT, NAMESPACE */
        const char *name; /* UNDEFINED: what was looked for, or NULL; FUNCTION: its name */
        struct qs_jmethod *method;
        struct qs_jmacro *macro;
        struct qs_jloop *loop;
    };
};

struct qs_jlist {
    qs_jvalue *items;
    size_t count, capacity, taken; /* taken: by readers of a generator */
    uint32_t weight, depth; /* values in it, and how deep they lie: bounded, so that walks over them are */
};

typedef struct qs_jentry {
    qs_jvalue key, value;
} qs_jentry;

struct qs_jdict {
    qs_jentry *entries; /* in the order of insertion */
    size_t count, capacity;
    uint32_t weight, depth;
};

enum { QS_JWEIGHT_MAX = 4 << 20, QS_JDEPTH_MAX = 200 };

#define QS_JV(kind_, ...) ((qs_jvalue){.kind = (kind_), __VA_ARGS__})
#define QS_JV_NONE QS_JV(QS_JNONE)
#define QS_JV_BOOL(b) QS_JV(QS_JBOOL, .boolean = (b))
#define QS_JV_INT(i) QS_JV(QS_JINT, .integer = (i))

/* Text being put together, with its marks. {0} is an empty one. */
typedef struct qs_jbuilder {
    char *text;
    size_t bytes, capacity;
    qs_jspan *spans;
    size_t span_count, span_capacity;
} qs_jbuilder;

enum { QS_JTEXT_MAX = 256 << 20 };

bool qs_jput(qs_jarena *a, qs_jbuilder *b, const char *text, size_t bytes, int32_t mark);
/* Bytes [from, to) of a string value. */
bool qs_jput_part(qs_jarena *a, qs_jbuilder *b, qs_jvalue string, size_t from, size_t to);
/* str(value), as Python prints it; and repr(value). */
bool qs_jput_str(qs_jarena *a, qs_jbuilder *b, qs_jvalue v);
bool qs_jput_repr(qs_jarena *a, qs_jbuilder *b, qs_jvalue v);

/* Strings. Their text belongs to the arena, or outlives it (qs_jstring_of). */
bool qs_jstring_of(qs_jarena *a, const char *text, size_t bytes, int32_t mark, qs_jvalue *out);
bool qs_jstring_built(qs_jarena *a, const qs_jbuilder *b, qs_jvalue *out);
bool qs_jstring_part(qs_jarena *a, qs_jvalue string, size_t from, size_t to, qs_jvalue *out);
bool qs_jequals_text(qs_jvalue v, const char *text);
/* Characters (code points) of a text, and the byte at which the n-th begins. */
size_t qs_jcharacters(const char *text, size_t bytes);
size_t qs_jcharacter_at(const char *text, size_t bytes, size_t n);
/* Bytes of the character that begins at text[0]. */
size_t qs_jcharacter_bytes(const char *text, size_t bytes);
int32_t qs_jcodepoint(const char *text, size_t bytes);
bool qs_jis_space(int32_t codepoint);

bool qs_jlist_new(qs_jarena *a, qs_jkind kind, size_t capacity, qs_jvalue *out);
bool qs_jlist_add(qs_jarena *a, qs_jlist *l, qs_jvalue v);
bool qs_jdict_new(qs_jarena *a, qs_jkind kind, qs_jvalue *out);
qs_jvalue *qs_jdict_find(const qs_jdict *d, qs_jvalue key);
qs_jvalue *qs_jdict_find_text(const qs_jdict *d, const char *key, size_t bytes);
bool qs_jdict_set(qs_jarena *a, qs_jdict *d, qs_jvalue key, qs_jvalue value);

/* A JSON value, its strings borrowed; every part of it has this mark. */
bool qs_jvalue_of_json(qs_jarena *a, const json_t *json, int32_t mark, qs_jvalue *out);

bool qs_jtrue(qs_jvalue v);
bool qs_jis_number(qs_jvalue v);   /* bool too */
bool qs_jis_sequence(qs_jvalue v); /* LIST, TUPLE, VIEW, GENERATOR */
double qs_jnumber(qs_jvalue v);
bool qs_jequal(qs_jvalue a, qs_jvalue b);
/* a < b, a == b, a > b as -1, 0, 1. False when Python would not order them. */
bool qs_jorder(qs_jvalue a, qs_jvalue b, int *out);
/* Values in a value, itself included. */
uint32_t qs_jweight(qs_jvalue v);
/* "str", "int", ...: Python's name of the kind. */
const char *qs_jkind_name(qs_jvalue v);
/* A float as Python writes it (repr), NUL-terminated; `text` holds at least 40 bytes. */
size_t qs_jfloat_text(double real, char *text);

#endif
