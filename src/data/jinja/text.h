/* text.h - what Python's str does, on texts that keep their marks. All return false when memory ends. */
#ifndef QS_DATA_JINJA_TEXT_H
#define QS_DATA_JINJA_TEXT_H

#include "src/data/jinja/value.h"

typedef enum qs_jcase { QS_JLOWER, QS_JUPPER, QS_JTITLE, QS_JCAPITALIZE, QS_JSWAP } qs_jcase;

/* Without the characters of a set (NULL: whitespace) at its left and right. */
bool qs_jstripped(qs_jarena *a, qs_jvalue s, const qs_jstring *set, bool left, bool right, qs_jvalue *out);
/* A list of parts. separator NULL: runs of whitespace. most < 0: all; from_right: the last ones. */
bool qs_jsplit(qs_jarena *a, qs_jvalue s, const qs_jstring *separator, int64_t most, bool from_right,
               qs_jvalue *out);
bool qs_jlines(qs_jarena *a, qs_jvalue s, bool keep_ends, qs_jvalue *out);
bool qs_jreplaced(qs_jarena *a, qs_jvalue s, qs_jvalue old, qs_jvalue with, int64_t most, qs_jvalue *out);
bool qs_jcased(qs_jarena *a, qs_jvalue s, qs_jcase how, qs_jvalue *out);
/* To a width in characters: 'l' text first, 'r' text last, 'c' in the middle, 'z' last but after its sign. */
bool qs_jpadded(qs_jarena *a, qs_jvalue s, int64_t width, qs_jvalue fill, char how, qs_jvalue *out);
/* isdigit, isalpha, isalnum, isspace, isupper, islower, isnumeric, isdecimal. */
bool qs_jis_all(const qs_jstring *s, const char *name);

#endif
