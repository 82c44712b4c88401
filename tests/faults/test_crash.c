/* Kills and power cuts: whatever happens to a run, going on ends in the same adapter, optimizer states and
 * metrics.
 *
 *     test_crash [--short]       QS_JOBS: trials at a time
 *
 * Prints how many trials there were of each sort. The last part shows that losses would be seen: states that
 * nothing was synced to, and a row of the metrics changed behind the run's back. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "tests/faults/harness.h"
#include "tests/faults/power_cut.h"

static const harness_kind *kind;
static power_record *record;
static int sites; /* of kills at changes: every how many */
static bool deaf;

static char *folder(const char *what, int i)
{
    char name[64];
    snprintf(name, sizeof name, "%s-%s-%d", kind->name, what, i);
    return harness_folder(name);
}

/* Goes on and compares; removes the folder of a trial that went well. */
static const char *settle(char *dir)
{
    const char *why = harness_finish(kind, dir);
    if (!why) why = harness_compare(kind, dir);
    if (!why) harness_remove(dir);
    free(dir);
    return why;
}

static const char *kill_at_change(int i)
{
    char *dir = folder("change", i), how[64], text[HARNESS_TEXT];
    snprintf(how, sizeof how, "QS_FAULT_KILL=%d%s", 1 + i * sites, i % 2 ? "h" : "");
    const char *env[] = {how, NULL};
    int status = harness_run(kind, dir, false, env, text);
    if (status != HARNESS_SIGNAL + SIGKILL && status) return "the run failed before its kill";
    return settle(dir);
}

static const char *kill_at_random(int i)
{
    char *dir = folder("random", i);
    harness_kill_after(
        kind, dir,
        (int64_t)harness_random(1, (uint32_t)i, (uint32_t)(1000 * harness_reference_ms(kind) + 1000)));
    return settle(dir);
}

static const char *power_cut_at(int i)
{
    static char why[256];
    char *dir = folder("cut", i);
    int ops = power_record_ops(record), cut = (int)harness_random(2, (uint32_t)i, (uint32_t)ops + 1),
        step = power_promised(record, cut);
    power_cut(record, cut, 1000u + 10 * (uint32_t)i, deaf, dir);
    if (step >= 0) {
        char *path = qs_printf("%s/o/checkpoint-%d/trainer_state.json", dir, step);
        bool there = qs_file_exists(path);
        qs_free(path);
        snprintf(why, sizeof why, "checkpoint-%d was published and is gone (cut after %d of %d changes)",
                 step, cut, ops);
        if (!there) return why;
    }
    return settle(dir);
}

/* A finished run whose first row is changed must not pass. */
static const char *spoilt(int i)
{
    char *dir = folder("spoilt", i), *path = qs_printf("%s/o/metrics.jsonl", dir), *text = NULL,
         log[HARNESS_TEXT];
    size_t bytes;
    qs_err e = {0};
    if (harness_run(kind, dir, false, NULL, log) || harness_compare(kind, dir) ||
        qs_file_read(path, 1 << 20, &text, &bytes, &e))
        return "the run fails";
    char *digit = strstr(text, "\"loss\":");
    digit[8] = (char)(digit[8] == '1' ? '2' : '1');
    qs_file_replace(path, text, bytes, &e);
    qs_free(text);
    qs_free(path);
    const char *seen = harness_compare(kind, dir);
    harness_remove(dir);
    free(dir);
    return seen ? NULL : "a changed row is not seen";
}

static void make_record(void)
{
    char *dir = folder("record", 0), *path = qs_printf("%s.log", dir),
         *how = qs_printf("QS_FAULT_RECORD=%s", path), text[HARNESS_TEXT];
    const char *env[] = {how, NULL};
    if (harness_run(kind, dir, false, env, text)) {
        fprintf(stderr, "the recorded run fails: %s\n", text);
        exit(1);
    }
    record = power_record_open(path, dir);
    qs_free(how);
    qs_free(path);
    free(dir);
}

int main(int argc, char **argv)
{
    bool short_form = harness_is_short(argc, argv);
    int kills = 0, cuts = 0, lost = 0, unseen = 0;
    harness_open(argv[0]);
    for (int k = 0; k < 2; k++) {
        kind = &harness_kinds[k];
        int changes = harness_reference_changes(kind), at_random = short_form ? 10 : 160,
            at_power = short_form ? 12 : 120;
        sites = short_form ? changes / 20 + 1 : changes / 400 + 1;
        int at_changes = (changes + sites - 1) / sites, before = lost;
        lost += harness_trials("kill at a change", at_changes, kill_at_change);
        lost += harness_trials("kill at random", at_random, kill_at_random);
        make_record();
        deaf = false;
        lost += harness_trials("power cut", at_power, power_cut_at);
        printf("crash: %s: %d kills at one of %d changes, %d at random moments, %d power cuts over %d "
               "operations: %d losses\n",
               kind->name, at_changes, changes, at_random, at_power, power_record_ops(record), lost - before);
        fflush(stdout);
        deaf = true; /* a disk that keeps nothing of a sync loses checkpoints that were said to be there */
        int lies = 0, found = 0;
        for (; lies < 12 && !found; lies++) found = power_cut_at(lies) != NULL;
        printf("crash: %s: syncs that do nothing are %s after %d power cuts\n", kind->name,
               found ? "seen" : "NOT seen", lies);
        unseen += !found;
        kills += at_changes + at_random;
        cuts += at_power;
        power_record_close(record);
    }
    unseen += harness_trials("spoilt", 1, spoilt);
    if (!lost) harness_close();
    printf("%s: Checks: %d kills and %d power cuts, Failures: %d; what was done on purpose is %s\n",
           lost || unseen ? "0%" : "100%", kills, cuts, lost, unseen ? "NOT seen" : "seen");
    return lost || unseen;
}
