/* doctor.c - `qlora-stream doctor`: what of this machine a run depends on, and the remedy where something is
 * wrong. Trains nothing. */
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "io/file.h"
#include "kernels/device.h"
#include "src/base/memory.h"
#include "src/base/version.h"
#include "src/commands/commands.h"
#include "src/options/options.h"
#include "src/plan/disk_rates.h"

typedef struct doctor_options {
    bool json;
    uint64_t disk_bytes;
    uint8_t source[2];
} doctor_options;

#define ROW(field, kind, ...)                                                             \
    {                                                                                     \
        .name = #field, .type = QS_OPT_##kind, .offset = offsetof(doctor_options, field), \
        .group = "This command", __VA_ARGS__                                              \
    }
static const qs_option rows[] = {
    ROW(json, BOOL, .fallback = "false", .help = "print the findings as JSON"),
    ROW(disk_bytes, BYTES, .fallback = "256M", .min = 1 << 20, .max = 1e12,
        .help = "size of the file that the disk of the cache is measured with"),
};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(doctor_options, source)};

typedef enum level { FINE, NOTE, WRONG } level;

/* Findings, as they are made: an array of objects, and lines unless JSON is asked for. */
typedef struct report {
    json_t *findings;
    bool json;
} report;

static const double MIB = 1 << 20, GIB = 1 << 30;

/* Takes over text and remedy (qs_free). remedy NULL: nothing is to be done. */
static void found(report *r, level l, const char *what, char *text, char *remedy)
{
    static const char *const words[] = {"ok", "note", "WRONG"};
    json_t *o = json_pack("{s:s, s:s, s:s}", "level", words[l], "what", what, "found", text);
    if (remedy) json_object_set_new(o, "remedy", json_string(remedy));
    json_array_append_new(r->findings, o);
    if (!r->json) {
        printf("%-6s%-12s %s\n", words[l], what, text);
        if (remedy) printf("%18s %s\n", "->", remedy);
        fflush(stdout);
    }
    qs_free(text);
    qs_free(remedy);
}

static void look_at_system(report *r)
{
    struct utsname u = {0};
    double load[1] = {0};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uname(&u);
    found(r, FINE, "program",
          qs_printf("qlora-stream %s, %s", QS_VERSION, qs_device_cuda() ? "with CUDA" : "without CUDA"),
          NULL);
    found(r, FINE, "system", qs_printf("%s %s, %s", u.sysname, u.release, u.machine), NULL);
    if (getloadavg(load, 1) != 1) return;
    bool busy = load[0] > 0.5 * (double)cores;
    found(r, busy ? NOTE : FINE, "load", qs_printf("%.1f on %ld cores", load[0], cores),
          busy ? qs_strdup("something else is running: steps will be slower than predicted, and plan "
                           "measures too slow a machine")
               : NULL);
}

static void look_at_memory(report *r)
{
    double total = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE),
           left = (double)qs_host_available_bytes();
    bool little = left < 2 * GIB;
    found(r, little ? NOTE : FINE, "memory",
          qs_printf("%.1f GiB, of which a run may take %.1f GiB", total / GIB, left / GIB),
          little ? qs_strdup("end what else holds memory, or raise the limit of this container") : NULL);
    struct rlimit lock = {0};
    getrlimit(RLIMIT_MEMLOCK, &lock);
    bool low = lock.rlim_cur != RLIM_INFINITY && (double)lock.rlim_cur < 0.5 * total && geteuid() != 0;
    char *limit = lock.rlim_cur == RLIM_INFINITY ? qs_strdup("no limit")
                                                 : qs_printf("%.0f MiB", (double)lock.rlim_cur / MIB);
    found(r, low ? NOTE : FINE, "lock limit",
          qs_printf("%s of memory may be locked%s", limit, geteuid() ? "" : " (root is not bound by it)"),
          low ? qs_strdup("ulimit -l unlimited, or \"* - memlock unlimited\" in /etc/security/limits.conf: "
                          "disk and card then copy straight to and from the ring")
              : NULL);
    qs_free(limit);
}

static void look_at_devices(report *r)
{
    qs_err e = {0};
    qs_device *d = NULL;
    if (qs_device_open("cpu", &d, &e)) {
        found(r, WRONG, "processor", qs_strdup(e.text), NULL);
    } else {
        found(r, FINE, "processor", qs_strdup(d->info.name), NULL);
        qs_device_close(d);
    }
    d = NULL;
    if (!qs_device_open("cuda", &d, &e)) {
        found(r, FINE, "card",
              qs_printf("%s, %.1f of %.1f GiB free, %s", d->info.name, (double)d->info.available_bytes / GIB,
                        (double)d->info.total_bytes / GIB, d->info.bf16 ? "bf16" : "fp16 only"),
              NULL);
        qs_device_close(d);
    } else {
        bool there = !access("/dev/nvidia0", F_OK) || !access("/dev/dxg", F_OK);
        found(r, there ? WRONG : FINE, "card", qs_strdup(e.text),
              there ? qs_strdup("there is a card, but this program cannot use it: install the NVIDIA driver, "
                                "and build where nvcc is found")
                    : NULL);
    }
}

static void look_at_rings(report *r)
{
    qs_err e = {0};
    qs_aio *a = NULL;
    bool refused = qs_aio_open(&(qs_aio_config){.engine = QS_AIO_URING}, &a, &e) != 0;
    found(r, refused ? NOTE : FINE, "io_uring", qs_strdup(refused ? e.text : "works"),
          refused ? qs_strdup(
                        "pread threads are used instead, at 1 to 5 % less; a container needs a seccomp "
                        "profile that allows "
                        "io_uring_setup, _enter and _register, a kernel sysctl kernel.io_uring_disabled = 0")
                  : NULL);
    qs_aio_close(a);
}

/* The cache's folder: the default one, where training would put it. */
static void look_at_disk(report *r, const char *dir, uint64_t bytes)
{
    qs_err e = {0};
    uint64_t left = 0;
    qs_disk_rates rates = {0};
    if (qs_dir_create(dir, &e)) {
        found(r, WRONG, "cache", qs_strdup(e.text), qs_strdup("--cache chooses another folder"));
        return;
    }
    qs_dir_free_bytes(dir, &left, &e);
    bool full = (double)left < 8 * GIB;
    found(r, full ? NOTE : FINE, "cache", qs_printf("%s, %.1f GiB free", dir, (double)left / GIB),
          full ? qs_strdup("a model takes 0.52 bytes per parameter there: --cache chooses another disk")
               : NULL);
    if (left < 2 * bytes) return;
    if (qs_disk_rates_measure(dir, QS_AIO_AUTO, bytes, &rates, &e)) {
        found(r, WRONG, "disk", qs_strdup(e.text), qs_strdup("--cache chooses another disk"));
        return;
    }
    bool slow = rates.read < 1e9;
    found(r, slow ? NOTE : FINE, "disk",
          qs_printf("reads %.2f, writes %.2f GB/s, %.0f us to the first byte", rates.read / 1e9,
                    rates.write / 1e9, 1e6 * rates.latency),
          slow ? qs_strdup("a model that streams from it waits for it: more tokens per step, more --ram, or "
                           "an NVMe disk")
               : NULL);
    found(r, rates.direct ? FINE : NOTE, "O_DIRECT",
          qs_strdup(rates.direct ? "works" : "the file system refuses it"),
          rates.direct ? NULL
                       : qs_strdup("reads go through the page cache: keep the cache on ext4, xfs or btrfs, "
                                   "not on a network or overlay file system"));
}

static void help(FILE *f)
{
    doctor_options d = {0};
    qs_option_set set = {&table, &d};
    fprintf(f, "usage: qlora-stream doctor [--json] [--disk_bytes SIZE] [CACHE FOLDER]\n\n"
               "Looks at what a run depends on: io_uring, limits, the disk of the cache, memory, processor "
               "and card; every line that is not\n"
               "\"ok\" says what to do. Status 1 when something is wrong.\n");
    qs_option_defaults(&set, 1);
    qs_option_print_help(f, &set, 1);
}

static int examine(const doctor_options *d, const char *dir, qs_err *e)
{
    report r = {json_array(), d->json};
    look_at_system(&r);
    look_at_devices(&r);
    look_at_memory(&r);
    look_at_rings(&r);
    look_at_disk(&r, dir, d->disk_bytes);
    int wrong = 0;
    size_t i;
    json_t *o;
    json_array_foreach(r.findings, i, o) wrong +=
        !strcmp(json_string_value(json_object_get(o, "level")), "WRONG");
    if (d->json) {
        json_dumpf(r.findings, stdout, JSON_INDENT(2));
        printf("\n");
    }
    json_decref(r.findings);
    if (wrong)
        QS_FAIL(e, QS_EUNSUP, "%d thing%s must be mended before a run; the lines marked WRONG say how", wrong,
                wrong == 1 ? "" : "s");
    return 0;
}

static int run(int argc, char **argv, qs_err *e)
{
    doctor_options d = {0};
    qs_options o = {0};
    qs_option_set set = {&table, &d};
    qs_strings words = {0};
    qs_option_defaults(&set, 1);
    int rc = qs_option_read_args(&set, 1, argc, argv, &words, e);
    if (!rc && words.count > 1)
        rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__, "expected one cache folder at most, found %d",
                        words.count);
    if (!rc) rc = qs_options_parse(&o, 0, NULL, NULL, 0, e); /* the default cache folder */
    if (!rc) rc = examine(&d, words.count ? words.items[0] : o.cache.items[0], e);
    qs_options_free(&o);
    qs_option_clear(&set, 1);
    qs_strings_clear(&words);
    return rc;
}

const qs_command qs_command_doctor = {"doctor", "look at this machine, and say what to mend before a run",
                                      help, run};
