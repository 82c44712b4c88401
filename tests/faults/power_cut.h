/* power_cut.h - what a disk may hold after the power fails, from the record of a run's changes (preload.c).
 *
 * At a cut, what was synced is there. Of the rest each write is there, is not, or is there in part; of the
 * changes of a directory that came after its last sync the first few are there. That is stricter than what
 * journalling file systems do.
 */
#ifndef QS_TESTS_FAULTS_POWER_CUT_H
#define QS_TESTS_FAULTS_POWER_CUT_H

#include <stdbool.h>
#include <stdint.h>

typedef struct power_record power_record;

/* Reads the record of a run whose folder is `dir`. Aborts on one that makes no sense. */
power_record *power_record_open(const char *path, const char *dir);
void power_record_close(power_record *r);
int power_record_ops(const power_record *r);

/* Fills the empty folder `to` with a state after the first `cut` operations. `deaf`: as if no sync had been
 * made. */
void power_cut(const power_record *r, int cut, uint32_t seed, bool deaf, const char *to);

/* The newest checkpoint whose publication was synced by then and that was not removed again, or -1. */
int power_promised(const power_record *r, int cut);

#endif
