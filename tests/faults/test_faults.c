/* Every call into the system goes wrong once: the run takes it in its stride and ends in the same bits, or it
 * ends with one clear sentence, status 1, and can be gone on with.
 *
 *     test_faults [--short]      QS_JOBS: trials at a time      QS_FAULT_ONLY=F:PLACE:K:WHAT: that one, of
 * both kinds, verbosely
 *
 * The calls are those of a survey: a function and the place it is called from. Each place has one call of its
 * own chosen for each way in which the function can fail; then come 200 calls at random. The last part shows
 * that damage would be seen: writes that say they were done and were not. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "tests/faults/harness.h"

/* What can go wrong with a function. */
static const struct {
    const char *function, *ways;
} table[] = {{"open", "EIO EMFILE"},
             {"create", "ENOSPC EIO EMFILE"},
             {"fopen", "EMFILE ENOMEM"},
             {"mkostemp", "ENOSPC EMFILE"},
             {"mkostemps", "ENOSPC EIO"},
             {"read", "EIO EINTR short"},
             {"pread", "EIO EINTR short"},
             {"write", "ENOSPC EIO EINTR short delay"},
             {"pwrite", "ENOSPC EIO EINTR short delay"},
             {"fsync", "EIO ENOSPC delay"},
             {"fdatasync", "EIO ENOSPC"},
             {"ftruncate", "EIO"},
             {"fallocate", "ENOSPC EOPNOTSUPP"},
             {"rename", "EIO ENOSPC"},
             {"unlink", "EIO"},
             {"unlinkat", "EIO"},
             {"rmdir", "EIO"},
             {"mkdir", "ENOSPC"},
             {"opendir", "EMFILE"},
             {"fdopendir", "ENOMEM"},
             {"readdir", "EIO"},
             {"flock", "EINTR ENOLCK"},
             {"statvfs", "EIO"},
             {"malloc", "ENOMEM"},
             {"calloc", "ENOMEM"},
             {"realloc", "ENOMEM"},
             {"mmap", "ENOMEM"},
             {"io_uring_queue_init", "ENOMEM EMFILE"},
             {"io_uring_submit", "EAGAIN EINTR ENOMEM EIO"},
             {"io_uring_submit_and_wait", "EAGAIN EINTR ENOMEM EIO"},
             {"io_uring_submit_and_get_events", "EAGAIN EINTR ENOMEM EIO"},
             {"io_uring_register_buffers_sparse", "ENOMEM"},
             {"io_uring_register_buffers_update_tag", "ENOMEM"}};
static const struct {
    const char *name;
    int number;
} errors[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC}, {"EINTR", EINTR},   {"EAGAIN", EAGAIN},
              {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM}, {"ENOLCK", ENOLCK}, {"EOPNOTSUPP", EOPNOTSUPP}};

#define SPACE_FROM ((uint64_t)48 << 20) /* the program and its libraries take this much at least */
#define SPACE_STEP ((uint64_t)4 << 20)
enum { SPACES = 100 };

typedef struct trial {
    char function[40];
    unsigned place;
    int calls, call;
    char way[16];
} trial;

static const harness_kind *kind;
static trial *trials;
static int trial_count;
static trial writes[256]; /* the places that write */
static int write_count, space_stride = 1;
static char *tally; /* a file to which every process adds a letter per trial */

static void add_trial(const trial *t)
{
    trials = realloc(trials, (size_t)(trial_count + 1) * sizeof *trials);
    trials[trial_count++] = *t;
}

/* Way number `n` of a function, or false. */
static bool way_of(const char *function, int n, char way[16])
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(table[i].function, function)) continue;
        char list[64], *rest = list, *word = NULL;
        snprintf(list, sizeof list, "%s", table[i].ways);
        for (int k = 0; k <= n; k++)
            if (!(word = strsep(&rest, " "))) return false;
        snprintf(way, 16, "%s", word);
        return true;
    }
    return false;
}

/* Lists the trials of a kind: each place in each way, then `at_random` more. */
static void survey(int stride, int at_random)
{
    char *dir = harness_folder("survey"), *path = qs_printf("%s/survey", dir),
         *how = qs_printf("QS_FAULT_SURVEY=%s", path), text[HARNESS_TEXT];
    const char *env[] = {how, NULL};
    if (harness_run(kind, dir, false, env, text)) {
        fprintf(stderr, "the surveyed run fails: %s\n", text);
        exit(1);
    }
    FILE *f = fopen(path, "r");
    trial place = {0}, *places = NULL;
    int count = 0;
    trial_count = 0;
    while (f && fscanf(f, "%39s %x %d", place.function, &place.place, &place.calls) == 3) {
        places = realloc(places, (size_t)(count + 1) * sizeof *places);
        places[count++] = place;
    }
    if (f) fclose(f);
    write_count = 0;
    for (int i = 0; i < count; i++)
        if (!strcmp(places[i].function, "write") && write_count < (int)(sizeof writes / sizeof *writes))
            writes[write_count++] = places[i];
    for (int i = 0, turn = 0; i < count; i++)
        for (int n = 0; way_of(places[i].function, n, places[i].way); n++) {
            places[i].call = 1 + (int)harness_random(3, (uint32_t)turn, (uint32_t)places[i].calls);
            if (turn++ % stride == 0) add_trial(&places[i]);
        }
    for (int i = 0; i < at_random; i++) {
        trial t = places[harness_random(4, (uint32_t)i, (uint32_t)count)];
        t.call = 1 + (int)harness_random(5, (uint32_t)i, (uint32_t)t.calls);
        if (way_of(t.function, (int)harness_random(6, (uint32_t)i, 5), t.way) || way_of(t.function, 0, t.way))
            add_trial(&t);
    }
    printf("faults: %s: %d places\n", kind->name, count);
    free(places);
    harness_remove(dir);
    qs_free(how);
    qs_free(path);
    free(dir);
}

static char *setting(const trial *t)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (!strcmp(errors[i].name, t->way))
            return qs_printf("QS_FAULT=%s:%08x:%d:%d", t->function, t->place, t->call, errors[i].number);
    return qs_printf("QS_FAULT=%s:%08x:%d:%s", t->function, t->place, t->call, t->way);
}

/* The program's one sentence: its own, or that memory is out, from whoever said so. */
static bool is_clear(const char *text)
{
    const char *first = strstr(text, "qlora-stream");
    if (strstr(text, "assertion") || strstr(text, "terminate called")) return false;
    return (first && !strstr(first + 1, "\nqlora-stream ")) || strstr(text, "emory") != NULL;
}

static void count_as(char c)
{
    FILE *f = fopen(tally, "a");
    fputc(c, f);
    fclose(f);
}

static const char *disturb(const harness_kind *k, const char *dir, const char *how)
{
    static char text[HARNESS_TEXT], why[3 * HARNESS_TEXT];
    const char *env[] = {how, NULL}, *trouble;
    int status = harness_run(k, dir, false, env, text);
    if (status && (status != 1 || !is_clear(text))) {
        snprintf(why, sizeof why, "%s: ends with status %d%s: %s", how, status,
                 status == 1 ? " and no clear sentence" : "", text);
        return why;
    }
    count_as(status ? 'e' : 'r');
    trouble = status ? harness_finish(k, dir) : NULL;
    if (!trouble) trouble = harness_compare(k, dir);
    if (!trouble) return NULL;
    snprintf(why, sizeof why, "%s: status %d (%.300s), then %s", how, status, text, trouble);
    return why;
}

static const char *run_trial(int i)
{
    char name[64], *how = setting(&trials[i]);
    snprintf(name, sizeof name, "%s-fault-%d", kind->name, i);
    char *dir = harness_folder(name);
    const char *why = disturb(kind, dir, how);
    if (!why) harness_remove(dir);
    qs_free(how);
    free(dir);
    return why;
}

/* A run with little address space, a little more each time: it starts nearly never or runs nearly to its end.
 */
static const char *run_short_of_space(int i)
{
    char name[64],
        *how = qs_printf("QS_FAULT_SPACE=%llu",
                         (unsigned long long)(SPACE_FROM + (uint64_t)(i * space_stride) * SPACE_STEP));
    snprintf(name, sizeof name, "%s-space-%d", kind->name, i);
    char *dir = harness_folder(name);
    const char *why = disturb(kind, dir, how);
    if (!why) harness_remove(dir);
    qs_free(how);
    free(dir);
    return why;
}

/* How many of the writes that were not done, and said that they were, are seen; in the short form up to the
 * first. */
static int lies_seen(bool short_form)
{
    int seen = 0, lies = 0;
    for (int i = 0; i < write_count && !(short_form && seen); i++, lies++) {
        trial t = writes[i];
        t.call = 1;
        snprintf(t.way, sizeof t.way, "lie");
        char *how = setting(&t), *dir = harness_folder("lie");
        seen += disturb(kind, dir, how) != NULL;
        harness_remove(dir);
        qs_free(how);
        free(dir);
    }
    printf("faults: %s: of %d writes that were only said to be done, %d changed the outcome and were seen\n",
           kind->name, lies, seen);
    fflush(stdout);
    return seen;
}

static int tallied(char c)
{
    FILE *f = fopen(tally, "r");
    int n = 0;
    for (int x; f && (x = fgetc(f)) != EOF;) n += x == c;
    if (f) fclose(f);
    return n;
}

int main(int argc, char **argv)
{
    bool short_form = harness_is_short(argc, argv);
    const char *only = getenv("QS_FAULT_ONLY");
    int wrong = 0, total = 0, seen = 0;
    harness_open(argv[0]);
    tally = qs_printf("%s/tally", harness_reference(&harness_kinds[0]));
    for (int k = 0; k < 2; k++) {
        kind = &harness_kinds[k];
        if (only) {
            char *dir = harness_folder("only"), *how = qs_printf("QS_FAULT=%s", only);
            const char *why = disturb(kind, dir, how);
            printf("%s: %s\n", kind->name, why ? why : "as it should be");
            qs_free(how);
            free(dir);
            continue;
        }
        unlink(tally);
        survey(short_form ? 40 : 1, short_form ? 10 : 200);
        int bad = harness_trials("fault", trial_count, run_trial);
        printf("faults: %s: %d calls made to fail: %d with the same bits at once, %d with one sentence and a "
               "resume that works, %d wrong\n",
               kind->name, trial_count, tallied('r'), tallied('e'), bad);
        fflush(stdout);
        unlink(tally);
        space_stride = short_form ? 10 : 1;
        int spaces = SPACES / space_stride, hungry = harness_trials("space", spaces, run_short_of_space);
        printf("faults: %s: %d runs with little address space: %d ran to the end, %d with one sentence, %d "
               "wrong\n",
               kind->name, spaces, tallied('r'), tallied('e'), hungry);
        fflush(stdout);
        total += trial_count + spaces;
        wrong += bad + hungry;
        seen += lies_seen(short_form);
    }
    if (only) return 0;
    if (!wrong) harness_close();
    printf("%s: Checks: %d, Failures: %d; lies are %s\n", wrong || !seen ? "0%" : "100%", total, wrong,
           seen ? "seen" : "NOT seen");
    return wrong || !seen;
}
