/* choose_table.c - which tables of operations this build has, which of them the processor runs, and which one
 * is taken. */
#include <stdio.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* A table and what the processor must have. */
typedef struct choice {
    const qs_cpu_table *table;
    bool (*runs)(void);
} choice;

#if defined(__x86_64__)
#include <cpuid.h>

extern const qs_cpu_table qs_cpu_table_v2, qs_cpu_table_v3, qs_cpu_table_v4, qs_cpu_table_v4_bf16;

/* Bits of cpuid that __builtin_cpu_supports has no word for in every compiler. */
static bool has_bit(unsigned leaf, int reg, int bit)
{
    unsigned r[4] = {0};
    return __get_cpuid_count(leaf, 0, &r[0], &r[1], &r[2], &r[3]) && r[reg] >> bit & 1;
}
enum { EBX = 1, ECX = 2 };

static bool runs_v2(void)
{
    return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.2") &&
           __builtin_cpu_supports("popcnt");
}
/* The compiler's x86-64-v3 and v4 hold more than the names say: lzcnt, movbe, f16c. */
static bool runs_v3(void)
{
    return runs_v2() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && has_bit(1, ECX, 29) &&
           has_bit(1, ECX, 22) && has_bit(0x80000001u, ECX, 5);
}
static bool runs_v4(void)
{
    return runs_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
}
static bool runs_v4_bf16(void)
{
    return runs_v4() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi");
}

static const choice choices[] = {{&qs_cpu_table_v2, runs_v2},
                                 {&qs_cpu_table_v3, runs_v3},
                                 {&qs_cpu_table_v4, runs_v4},
                                 {&qs_cpu_table_v4_bf16, runs_v4_bf16}};
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

extern const qs_cpu_table qs_cpu_table_neon, qs_cpu_table_neon_bf16;

static bool always(void) { return true; }
/* The compiler's armv8.2-a holds atomics and the rounding multiplies of 8.1 too. */
static bool runs_neon_bf16(void)
{
    unsigned long base = HWCAP_ATOMICS | HWCAP_ASIMDRDM | HWCAP_CRC32;
    return (getauxval(AT_HWCAP) & base) == base && getauxval(AT_HWCAP2) & HWCAP2_BF16;
}
static const choice choices[] = {{&qs_cpu_table_neon, always}, {&qs_cpu_table_neon_bf16, runs_neon_bf16}};
#else
#error "the CPU kernels are written for x86-64 and aarch64"
#endif

enum { CHOICES = sizeof choices / sizeof *choices };

const qs_cpu_table *qs_cpu_table_at(int k) { return k < CHOICES ? choices[k].table : NULL; }

bool qs_cpu_table_runs(const qs_cpu_table *table)
{
    for (int k = 0; k < CHOICES; k++)
        if (choices[k].table == table) return choices[k].runs();
    return false;
}

/* "v2, v3": the tables there are, or those that run here. */
static void list(bool here, char *text, size_t capacity)
{
    size_t n = 0;
    text[0] = 0;
    for (int k = 0; k < CHOICES && n < capacity; k++)
        if (!here || choices[k].runs())
            n += (size_t)snprintf(text + n, capacity - n, "%s%s", n ? ", " : "", choices[k].table->isa);
}

/* Bits of a table do not depend on the processor: it fuses multiply-adds, and has no kernels of its own for
 * bf16. */
static bool portable(const qs_cpu_table *t)
{
    char text[96];
    return !strncmp(t->kernels, "fma", 3) && !t->bf16_kernels(text);
}

int qs_cpu_table_choose(const char *isa, bool portable_bits, const qs_cpu_table **out, qs_err *e)
{
    char text[128];
    *out = NULL;
    if (!strcmp(isa, "auto")) {
        for (int k = 0; k < CHOICES; k++)
            if (choices[k].runs() && (!portable_bits || portable(choices[k].table))) *out = choices[k].table;
        list(false, text, sizeof text);
        if (!*out && portable_bits)
            QS_FAIL(e, QS_EUNSUP,
                    "portable_bits: this processor has no fused multiply-add, so its bits are not those of "
                    "others; leave the option out");
        if (!*out)
            QS_FAIL(e, QS_EUNSUP,
                    "this processor is too old: it runs none of the instruction sets of this program (%s)",
                    text);
        return 0;
    }
    for (int k = 0; k < CHOICES; k++)
        if (!strcmp(isa, choices[k].table->isa)) *out = choices[k].table;
    list(false, text, sizeof text);
    if (!*out) QS_FAIL(e, QS_EINVAL, "cpu_isa %s: expected auto or one of %s", isa, text);
    list(true, text, sizeof text);
    if (!qs_cpu_table_runs(*out))
        QS_FAIL(e, QS_EUNSUP, "cpu_isa %s: this processor has no such instructions; it runs %s", isa, text);
    if (portable_bits && !portable(*out))
        QS_FAIL(e, QS_EINVAL,
                "cpu_isa %s: its bits are not those of every processor, which portable_bits asks for; leave "
                "one of the two out",
                isa);
    return 0;
}
