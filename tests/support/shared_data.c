#include "tests/support/shared_data.h"

#include <stdio.h>
#include <stdlib.h>

#include "io/file.h"
#include "src/base/memory.h"

char *test_shared(const char *name)
{
    const char *root = getenv("QS_SHARED_DATA");
    char *path = qs_path_join(root ? root : "../shared/data", name);
    if (qs_file_exists(path)) return path;
    printf("skip: %s is not there (QS_SHARED_DATA names the folder of test inputs)\n", path);
    qs_free(path);
    return NULL;
}
