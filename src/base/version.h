/* version.h - the program's version; CHANGELOG.md says what changed in each. */
#ifndef QS_BASE_VERSION_H
#define QS_BASE_VERSION_H

#define QS_VERSION "0.9.0"

#endif
