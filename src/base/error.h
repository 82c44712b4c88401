/* error.h - how every function of the library reports failure.
 *
 * A function that can fail returns 0, or -QS_E<kind>. What a person should read goes into the caller's
 * qs_err: one sentence that names the file, what was expected, what was found and what to do. Library code
 * never prints and never exits; src/main.c does both.
 *
 *     int qs_thing_open(const char *path, qs_thing **out, qs_err *e)
 *     {
 *         QS_TRY(qs_other(path, e));                                   // forward a failure as it is
 *         if (size < 8) QS_FAIL(e, QS_EFORMAT, "%s: ...", path);       // or state a new one
 *         return 0;
 *     }
 */
#ifndef QS_BASE_ERROR_H
#define QS_BASE_ERROR_H

#include <stdarg.h>

enum {
    QS_ENOMEM = 1, /* the operating system or the device refused memory */
    QS_EBUDGET,    /* the job does not fit --vram or --ram */
    QS_EIO,        /* a read, write, open or sync failed */
    QS_EFORMAT,    /* a file's content is not what its format says */
    QS_ECUDA,      /* the CUDA runtime reported an error */
    QS_EUNSUP,     /* valid input that this program does not support */
    QS_EINVAL,     /* an option or argument out of range */
    QS_EUSAGE,     /* the command line is wrong: exit status 2 */
    QS_ENUMERIC,   /* a non-finite loss, gradient or weight */
    QS_EINTERRUPT, /* the user asked to stop */
    QS_EMISSING    /* a file, tensor or key is not there */
};

#define QS_ERR_TEXT 768

typedef struct qs_err {
    int code; /* one of QS_E*, 0 when nothing failed */
    int line; /* where it was raised, for traces */
    const char *file;
    char text[QS_ERR_TEXT]; /* one sentence, no newline at the end */
} qs_err;

/* Fills *e (may be NULL) and returns -code. Text longer than QS_ERR_TEXT is cut with "...". */
int qs_err_set(qs_err *e, int code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* Puts "prefix: " in front of e's text, for callers that know which step failed. Returns -e->code. */
int qs_err_prefix(qs_err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A bug in this program: prints the condition and aborts. On in every build. */
_Noreturn void qs_assert_failed(const char *condition, const char *file, int line);

#define QS_FAIL(e, code, ...) return qs_err_set((e), (code), __FILE__, __LINE__, __VA_ARGS__)
#define QS_TRY(call)                       \
    do {                                   \
        int qs_try_rc_ = (call);           \
        if (qs_try_rc_) return qs_try_rc_; \
    } while (0)
#define QS_ASSERT(condition)                                                \
    do {                                                                    \
        if (!(condition)) qs_assert_failed(#condition, __FILE__, __LINE__); \
    } while (0)

#endif
