/* shared_data.h - real files to test against, where they are at hand: $QS_SHARED_DATA, else ../shared/data.
 */
#ifndef QS_TESTS_SHARED_DATA_H
#define QS_TESTS_SHARED_DATA_H

/* The path of a file or directory there (qs_free), or NULL after printing "skip: ..." when it is absent. */
char *test_shared(const char *name);

#endif
