/* budget.c - automatic --vram and --ram: shares of what is free at the start. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/options/options.h"

/* The number behind `key` in a file of "key number" lines, or of the number alone when key is NULL. 0 when it
 * is not there. */
static uint64_t read_number(const char *path, const char *key)
{
    char line[256];
    uint64_t value = 0;
    FILE *f = fopen(path, "r");
    while (f && !value && fgets(line, sizeof line, f))
        if (!key || !strncmp(line, key, strlen(key)))
            value = strtoull(line + (key ? strlen(key) : 0), NULL, 10);
    if (f) fclose(f);
    return value;
}

/* What a control group's files are called; the page cache that can be dropped does not count as used. */
typedef struct group_files {
    const char *root, *limit, *used, *cached;
} group_files;
static const group_files version_2 = {"sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "};
static const group_files version_1 = {"sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                      "memory.usage_in_bytes", "total_inactive_file "};

static uint64_t read_in(const char *dir, const char *name, const char *key)
{
    char path[8400];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return read_number(path, key);
}

/* Lowers *limit and *left to those of the group and of all above it. "max" reads as 0: no limit. */
static void apply_groups(const char *root, const group_files *f, const char *group, uint64_t *limit,
                         uint64_t *left)
{
    char dir[8300];
    size_t top = (size_t)snprintf(dir, sizeof dir, "%s/%s", root, f->root);
    snprintf(dir + top, sizeof dir - top, "%s", strcmp(group, "/") ? group : "");
    for (;;) {
        uint64_t most = read_in(dir, f->limit, NULL), used = read_in(dir, f->used, NULL),
                 cached = read_in(dir, "memory.stat", f->cached);
        if (most && most < *limit) *limit = most;
        uint64_t now = most + cached > used ? most + cached - used : 0;
        if (most && now < *left) *left = now;
        if (strlen(dir) <= top) return;
        *strrchr(dir, '/') = 0;
    }
}

void qs_host_memory(const char *root, uint64_t *limit, uint64_t *left)
{
    *limit = read_in(root, "proc/meminfo", "MemTotal:") * 1024;
    *left = read_in(root, "proc/meminfo", "MemAvailable:") * 1024;
    char line[4096];
    snprintf(line, sizeof line, "%s/proc/self/cgroup", root);
    FILE *f = fopen(line, "re");
    while (f && fgets(line, sizeof line, f)) { /* "0::/path" is version 2, "4:memory:/path" version 1 */
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        if (!controllers[1])
            apply_groups(root, &version_2, path, limit, left);
        else if (strstr(controllers + 1, "memory"))
            apply_groups(root, &version_1, path, limit, left);
    }
    if (f) fclose(f);
}

uint64_t qs_host_available_bytes(void)
{
    uint64_t limit, left;
    qs_host_memory("", &limit, &left);
    return left;
}

uint64_t qs_host_total_bytes(void)
{
    uint64_t limit, left;
    qs_host_memory("", &limit, &left);
    return limit;
}

qs_budgets qs_options_budgets(const qs_options *o, bool of_host_memory, uint64_t device_free_bytes,
                              uint64_t host_available_bytes)
{
    const uint64_t unit = UINT64_C(64) << 20;
    qs_budgets b = {o->vram, o->ram};
    if (!b.vram_bytes)
        b.vram_bytes = (of_host_memory ? host_available_bytes / 4 : device_free_bytes / 10 * 9) / unit * unit;
    if (!b.ram_bytes)
        b.ram_bytes = (of_host_memory ? host_available_bytes / 4 : host_available_bytes / 2) / unit * unit;
    if (!b.vram_bytes) b.vram_bytes = unit;
    if (!b.ram_bytes) b.ram_bytes = unit;
    return b;
}
