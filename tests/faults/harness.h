/* harness.h - whole runs of the program that something happens to, and whether what they leave is what an
 * undisturbed run leaves.
 *
 * A kind is a small training run that goes through certain parts (streaming, states on disk, ...). Its
 * reference is that run, undisturbed. A trial is the same run in a folder of its own, disturbed, then
 * continued as a person would: --resume where there is something to resume, the same command again where
 * there is not. It must end in the reference's adapter, optimizer states and metrics, bit for bit.
 */
#ifndef QS_TESTS_FAULTS_HARNESS_H
#define QS_TESTS_FAULTS_HARNESS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    HARNESS_TEXT = 4096,
    HARNESS_HANGS = 1000 /* status of a run that took too long */,
    HARNESS_SIGNAL = 128
};

typedef struct harness_kind {
    const char *name;
    const char *const *options; /* NULL at the end */
    int caches;                 /* directories the layer cache is striped over */
} harness_kind;

/* "small": everything in memory, io_uring. "streamed": 6 layers through 8 MiB, pread, states and checkpoints
 * on disk, 8-bit optimizer, dropout, packing, two cache directories, validation, a pruned checkpoint. */
extern const harness_kind harness_kinds[2];

/* Finds the program and the preloaded library beside argv[0]; makes the working folder and the references.
 * Exits with a message when it cannot. */
void harness_open(const char *argv0);
void harness_close(void);

/* Whether only a part is wanted: --short, or QS_HARNESS=short in the environment. */
bool harness_is_short(int argc, char **argv);

/* A new, empty folder for a trial, and its removal. */
char *harness_folder(const char *name);
void harness_remove(const char *dir);

/* Runs in `dir`; env: "KEY=VALUE" ... NULL in addition, or NULL. Its output's end goes to text. Returns the
 * exit status, HARNESS_SIGNAL + n, or HARNESS_HANGS. */
int harness_run(const harness_kind *k, const char *dir, bool resume, const char *const *env,
                char text[HARNESS_TEXT]);
/* The same with more options (the later of two counts), looked at every few milliseconds while it runs. */
int harness_observe(const harness_kind *k, const char *dir, const char *const *more, const char *const *env,
                    void (*look)(void *user, int pid), void *user, char text[HARNESS_TEXT]);
/* Starts one and kills it after so many microseconds, unless it has ended. Returns its status. */
int harness_kill_after(const harness_kind *k, const char *dir, int64_t microseconds);

/* Goes on until the run is done. NULL, or what went wrong. */
const char *harness_finish(const harness_kind *k, const char *dir);
/* NULL when the folder holds what the reference holds; else what differs. */
const char *harness_compare(const harness_kind *k, const char *dir);

/* Milliseconds that the reference took, and the changes of file systems it made. */
int harness_reference_ms(const harness_kind *k);
int harness_reference_changes(const harness_kind *k);
const char *harness_reference(const harness_kind *k);

/* Value i of a stream of random numbers, below n. */
uint32_t harness_random(uint32_t stream, uint32_t i, uint32_t n);

/* Runs trial(i) for i in [0, count) in QS_JOBS processes; each returns NULL or what went wrong. Prints the
 * failures, returns their number. */
int harness_trials(const char *what, int count, const char *(*trial)(int i));

#endif
