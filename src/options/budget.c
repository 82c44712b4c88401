/* budget.c - automatic --vram and --ram: shares of what is free at the start. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/options/options.h"

/* The number behind `key` in a file of "key number" lines, or of the number alone when key is NULL. 0 when it is not there. */
static uint64_t read_number(const char *path, const char *key)
{
    char line[256];
    uint64_t value = 0;
    FILE *f = fopen(path, "r");
    while (f && !value && fgets(line, sizeof line, f))
        if (!key || !strncmp(line, key, strlen(key))) value = strtoull(line + (key ? strlen(key) : 0), NULL, 10);
    if (f) fclose(f);
    return value;
}

uint64_t qs_host_available_bytes(void)
{
    uint64_t available = read_number("/proc/meminfo", "MemAvailable:") * 1024;
    /* A container sees the host's meminfo; its own limit is in the control group. "max" reads as 0: no limit. */
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max", NULL);
    if (limit) {
        uint64_t used = read_number("/sys/fs/cgroup/memory.current", NULL);
        uint64_t cached = read_number("/sys/fs/cgroup/memory.stat", "inactive_file ");
        uint64_t left = limit + cached > used ? limit + cached - used : 0;
        if (left < available) available = left;
    }
    return available;
}

qs_budgets qs_options_budgets(const qs_options *o, bool of_host_memory, uint64_t device_free_bytes, uint64_t host_available_bytes)
{
    const uint64_t unit = UINT64_C(64) << 20;
    qs_budgets b = {o->vram, o->ram};
    if (!b.vram_bytes) b.vram_bytes = (of_host_memory ? host_available_bytes / 4 : device_free_bytes / 10 * 9) / unit * unit;
    if (!b.ram_bytes) b.ram_bytes = (of_host_memory ? host_available_bytes / 4 : host_available_bytes / 2) / unit * unit;
    if (!b.vram_bytes) b.vram_bytes = unit;
    if (!b.ram_bytes) b.ram_bytes = unit;
    return b;
}
