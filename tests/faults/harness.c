#include "tests/faults/harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "src/base/random.h"

extern char **environ;

static const char *const small[] = {"--model=tests/golden/llama/model",
                                    "--gradient_accumulation_steps=1",
                                    "--lora_r=4",
                                    "--vram=64M",
                                    "--ram=64M",
                                    NULL};
static const char *const streamed[] = {"--model=@/tiny",
                                       "--gradient_accumulation_steps=2",
                                       "--lora_r=2",
                                       "--vram=8M",
                                       "--resident_layers=1",
                                       "--ram=40M",
                                       "--io_engine=pread",
                                       "--adapters_on=disk",
                                       "--checkpoints_on=disk",
                                       "--optim=adamw_8bit",
                                       "--lora_dropout=0.1",
                                       "--packing",
                                       "--eval_data=@/validation.jsonl",
                                       "--eval_steps=2",
                                       NULL};
const harness_kind harness_kinds[2] = {{"small", small, 1}, {"streamed", streamed, 2}};
enum { KINDS = 2, MOST_WORDS = 48, PATIENCE_MS = 120000 };

static char *program, *library, *root;
static int reference_ms[KINDS], reference_changes[KINDS];
static char *reference[KINDS];

static char *text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
static char *text_of(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) abort();
    va_end(args);
    return text;
}

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "harness: %s\n", what);
    exit(2);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool harness_is_short(int argc, char **argv)
{
    const char *form = getenv("QS_HARNESS");
    return (argc > 1 && !strcmp(argv[1], "--short")) || (form && !strcmp(form, "short"));
}

uint32_t harness_random(uint32_t stream, uint32_t i, uint32_t n) { return qs_random_u32(99, stream, i) % n; }

/* ---- running ----------------------------------------------------------------------------------------- */

/* The command line of a run in `dir`; each word is malloc'd. */
static void make_words(const harness_kind *k, const char *dir, bool resume, const char *const *more,
                       char *words[MOST_WORDS])
{
    int n = 0;
    words[n++] = strdup(program);
    words[n++] = strdup("train");
    for (const char *const *o = k->options; *o; o++) {
        const char *at = strchr(*o, '@');
        words[n++] = at ? text_of("%.*s%s%s", (int)(at - *o), *o, root, at + 1) : strdup(*o);
    }
    static const char *const common[] = {"--data=tests/golden/llama/data.jsonl",
                                         "--max_seq_length=64",
                                         "--threads=1",
                                         "--max_steps=4",
                                         "--save_steps=1",
                                         "--save_total_limit=2",
                                         "--learning_rate=1e-3",
                                         "--warmup_steps=0",
                                         "--quiet"};
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) words[n++] = strdup(common[i]);
    words[n++] = text_of("--out=%s/o", dir);
    for (int i = 0; i < k->caches; i++) words[n++] = text_of("--cache=%s/c%d", dir, i);
    if (resume) words[n++] = strdup("--resume");
    for (; more && *more; more++) words[n++] = strdup(*more);
    words[n] = NULL;
}

static pid_t start(const harness_kind *k, const char *dir, bool resume, const char *const *more,
                   const char *const *env, int out)
{
    char *words[MOST_WORDS];
    make_words(k, dir, resume, more, words);
    pid_t child = fork();
    if (child < 0) give_up("cannot fork");
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(out, STDOUT_FILENO);
        dup2(out, STDERR_FILENO);
        setenv("HOME", root, 1);
        setenv("XDG_CACHE_HOME", root, 1);
        for (; env && *env; env++) putenv((char *)(uintptr_t)*env);
        if (env) setenv("LD_PRELOAD", library, 1);
        execv(program, words);
        _exit(127);
    }
    for (int i = 0; words[i]; i++) free(words[i]);
    return child;
}

/* The status of a child, which is killed after a while. */
static int wait_for(pid_t child, int64_t ms)
{
    int status;
    for (int64_t until = now_ms() + ms; waitpid(child, &status, WNOHANG) == 0; usleep(2000)) {
        if (now_ms() < until) continue;
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        return HARNESS_HANGS;
    }
    return WIFSIGNALED(status) ? HARNESS_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

static int open_log(const char *dir)
{
    char *log = text_of("%s/log", dir);
    int fd = open(log, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    free(log);
    return fd;
}

/* The end of what was printed; closes the log. */
static void take_text(int fd, char text[HARNESS_TEXT])
{
    off_t size = lseek(fd, 0, SEEK_END), from = size > HARNESS_TEXT - 1 ? size - (HARNESS_TEXT - 1) : 0;
    ssize_t n = pread(fd, text, HARNESS_TEXT - 1, from);
    text[n < 0 ? 0 : n] = 0;
    close(fd);
}

int harness_run(const harness_kind *k, const char *dir, bool resume, const char *const *env,
                char text[HARNESS_TEXT])
{
    int fd = open_log(dir), status = wait_for(start(k, dir, resume, NULL, env, fd), PATIENCE_MS);
    take_text(fd, text);
    return status;
}

int harness_observe(const harness_kind *k, const char *dir, const char *const *more, const char *const *env,
                    void (*look)(void *user, int pid), void *user, char text[HARNESS_TEXT])
{
    int fd = open_log(dir), status;
    pid_t child = start(k, dir, false, more, env, fd);
    while (waitpid(child, &status, WNOHANG) == 0) {
        look(user, (int)child);
        usleep(5000);
    }
    take_text(fd, text);
    return WIFSIGNALED(status) ? HARNESS_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

int harness_kill_after(const harness_kind *k, const char *dir, int64_t microseconds)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    pid_t child = start(k, dir, false, NULL, NULL, fd);
    close(fd);
    nanosleep(&(struct timespec){microseconds / 1000000, microseconds % 1000000 * 1000}, NULL);
    kill(child, SIGKILL);
    return wait_for(child, PATIENCE_MS);
}

/* ---- results ----------------------------------------------------------------------------------------- */

/* Whether OUT has an entry that begins so. */
static bool has_entry(const char *dir, const char *prefix)
{
    char *out = text_of("%s/o", dir);
    DIR *d = opendir(out);
    free(out);
    bool found = false;
    for (struct dirent *x; d && (x = readdir(d));)
        found = found || (x->d_name[0] != '.' && !strncmp(x->d_name, prefix, strlen(prefix)));
    if (d) closedir(d);
    return found;
}

const char *harness_finish(const harness_kind *k, const char *dir)
{
    static char text[HARNESS_TEXT], why[2 * HARNESS_TEXT + 64], resumed[HARNESS_TEXT];
    int status = 0;
    bool tried = has_entry(dir, "");
    if (tried && !(status = harness_run(k, dir, true, NULL, resumed))) return NULL;
    if (tried && has_entry(dir, "checkpoint-")) {
        snprintf(why, sizeof why, "--resume ends with %d: %s", status, resumed);
        return why;
    }
    status = harness_run(k, dir, false, NULL, text);
    if (!status) return NULL;
    snprintf(why, sizeof why, "neither --resume nor the same command goes on: %d: %s%s", status,
             tried ? resumed : "", text);
    return why;
}

static char *read_whole(const char *dir, const char *name, size_t *bytes)
{
    char *path = text_of("%s/o/%s", dir, name), *text = NULL;
    qs_err e = {0};
    if (qs_file_read(path, 1 << 28, &text, bytes, &e)) text = NULL;
    free(path);
    return text;
}

static bool same_file(const char *a, const char *b, const char *name)
{
    size_t n = 0, m = 0;
    char *x = read_whole(a, name, &n), *y = read_whole(b, name, &m);
    bool same = x && y && n == m && !memcmp(x, y, n);
    qs_free(x);
    qs_free(y);
    return same;
}

/* The parts of a metrics file that do not depend on the clock, as text to compare. malloc'd. */
static char *essence(const char *dir)
{
    static const char *const keys[] = {"step", "loss", "learning_rate", "grad_norm", "eval_loss"};
    size_t bytes, used = 0;
    char *text = read_whole(dir, "metrics.jsonl", &bytes), *out = calloc(1, 1 << 16), *rest = text;
    for (char *line; text && (line = strsep(&rest, "\n"));) {
        json_t *row = *line ? json_loads(line, 0, NULL) : NULL;
        if (*line && !row) used += (size_t)snprintf(out + used, (1 << 16) - used, "[a row that is no JSON]");
        for (size_t i = 0; row && i < sizeof keys / sizeof *keys; i++)
            if (json_object_get(row, keys[i]))
                used += (size_t)snprintf(out + used, (1 << 16) - used, "%s %.17g ", keys[i],
                                         json_number_value(json_object_get(row, keys[i])));
        json_decref(row);
        used += (size_t)snprintf(out + used, (1 << 16) - used, "\n");
    }
    qs_free(text);
    return out;
}

const char *harness_compare(const harness_kind *k, const char *dir)
{
    static const char *const names[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "checkpoint-4/adapter_model.safetensors",
                                        "checkpoint-4/optimizer.bin"};
    static char why[9000];
    const char *want = reference[k - harness_kinds];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!same_file(want, dir, names[i])) {
            snprintf(why, sizeof why, "%s differs or is missing", names[i]);
            return why;
        }
    char *a = essence(want), *b = essence(dir);
    bool same = !strcmp(a, b);
    if (!same) snprintf(why, sizeof why, "metrics.jsonl differs: wanted\n%sfound\n%s", a, b);
    free(a);
    free(b);
    return same ? NULL : why;
}

/* ---- opening ----------------------------------------------------------------------------------------- */

char *harness_folder(const char *name)
{
    char *dir = text_of("%s/%s", root, name);
    harness_remove(dir);
    if (mkdir(dir, 0777)) give_up("cannot make a folder");
    return dir;
}

void harness_remove(const char *dir)
{
    qs_err e = {0};
    qs_dir_remove(dir, &e);
}

static void copy_lines(const char *from, const char *to, int lines)
{
    FILE *a = fopen(from, "r"), *b = fopen(to, "w");
    char line[1 << 16];
    while (a && b && lines-- > 0 && fgets(line, sizeof line, a)) fputs(line, b);
    if (!a || !b || fclose(b)) give_up("cannot write the validation data");
    fclose(a);
}

static void make_model(void)
{
    char *out = text_of("--out=%s/tiny", root);
    const char *words[] = {program, "synth", "--shape=tiny", "--layers=6", "--weights", out, NULL};
    pid_t child;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (posix_spawn(&child, program, &actions, NULL, (char **)(uintptr_t)words, environ) ||
        wait_for(child, PATIENCE_MS))
        give_up("cannot make the model");
    posix_spawn_file_actions_destroy(&actions);
    free(out);
    char *validation = text_of("%s/validation.jsonl", root);
    copy_lines("tests/golden/qwen3/data.jsonl", validation, 6);
    free(validation);
}

void harness_open(const char *argv0)
{
    const char *base = getenv("TMPDIR"), *slash = strrchr(argv0, '/');
    int n = slash ? (int)(slash - argv0) : 1;
    char *own = text_of("%.*s/../qlora-stream", n, slash ? argv0 : "."),
         *lib = text_of("%.*s/preload.so", n, slash ? argv0 : ".");
    program = realpath(own, NULL);
    library = realpath(lib, NULL);
    if (!program || !library) give_up("the program or preload.so is not there");
    root = text_of("%s/qs-faults-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(root)) give_up("cannot make a working folder");
    make_model();
    for (int i = 0; i < KINDS; i++) {
        char text[HARNESS_TEXT], *count = text_of("QS_FAULT_COUNT=%s/count", root);
        const char *env[] = {count, NULL};
        reference[i] = harness_folder(harness_kinds[i].name);
        int64_t begin = now_ms();
        if (harness_run(&harness_kinds[i], reference[i], false, env, text)) give_up(text);
        reference_ms[i] = (int)(now_ms() - begin);
        FILE *f = fopen(count + strlen("QS_FAULT_COUNT="), "r");
        if (!f || fscanf(f, "%d", &reference_changes[i]) != 1) give_up("the library was not loaded");
        fclose(f);
        free(count);
    }
    free(own);
    free(lib);
}

void harness_close(void)
{
    harness_remove(root);
    for (int i = 0; i < KINDS; i++) free(reference[i]);
    free(program);
    free(library);
    free(root);
}

int harness_reference_ms(const harness_kind *k) { return reference_ms[k - harness_kinds]; }
int harness_reference_changes(const harness_kind *k) { return reference_changes[k - harness_kinds]; }
const char *harness_reference(const harness_kind *k) { return reference[k - harness_kinds]; }

/* ---- many -------------------------------------------------------------------------------------------- */

int harness_trials(const char *what, int count, const char *(*trial)(int i))
{
    enum { MOST_JOBS = 64 };
    const char *jobs_text = getenv("QS_JOBS");
    int jobs = jobs_text ? (int)strtol(jobs_text, NULL, 10) : 1, failed = 0;
    pid_t child[MOST_JOBS];
    if (jobs < 1 || jobs > MOST_JOBS) jobs = 1;
    for (int j = 0; j < jobs; j++) {
        fflush(stdout);
        if ((child[j] = fork())) continue;
        int mine = 0;
        for (int i = j; i < count; i += jobs) {
            const char *why = trial(i);
            if (!why) continue;
            mine++;
            printf("  %s %d: %.1500s\n", what, i, why);
            fflush(stdout);
        }
        _exit(mine > 250 ? 250 : mine);
    }
    for (int j = 0; j < jobs; j++) {
        int status;
        failed += waitpid(child[j], &status, 0) == child[j] && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    }
    return failed;
}
