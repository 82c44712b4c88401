/* table.c - one instruction set's table of operations, and the yardstick of its arithmetic. */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"

/* Change the number when sums are cut in another way: runs of before and after then know that their bits
 * differ. */
#if defined(VX) || defined(__aarch64__)
#define KERNELS "fma-1"
#else
#define KERNELS "no-fma-1"
#endif

#define TEXT(isa) #isa
#define NAME(isa) TEXT(isa)

#if defined(__x86_64__)
#define KEEP(x) __asm__ volatile("" : "+v"(x))
#else
#define KEEP(x) __asm__ volatile("" : "+w"(x))
#endif

/* Independent chains: enough to fill two pipelines of five stages. */
static void fma_chains(int64_t links, double *flops)
{
    enum { CHAINS = VW == 4 ? 8 : 10 };
    vf s[CHAINS], factor = vec_all(0.5f), more = vec_all(0.25f), sum = {0};
    for (int c = 0; c < CHAINS; c++) s[c] = vec_all((float)c);
    for (int64_t i = 0; i < links; i++) {
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) {
            vf next = vec_fma(s[c], factor, more);
            KEEP(next); /* or the compiler sees what it comes to */
            s[c] = next;
        }
    }
    for (int c = 0; c < CHAINS; c++) sum += s[c];
    volatile float keep = sum[0];
    (void)keep;
    *flops = 2.0 * CHAINS * VW * (double)links;
}

#define OPERATION(KIND, name) .name = QS_CPU(name),
#define QUESTION(name) .name = QS_CPU(name),
extern const qs_cpu_table QS_CPU(table);
const qs_cpu_table QS_CPU(table) = {
    .ops = {QS_OP_LIST(OPERATION) QS_OP_QUESTION_LIST(QUESTION)},
    .isa = NAME(QS_ISA),
    .kernels = KERNELS,
    .lanes = VW,
    .bf16_kernels = QS_CPU(bf16_kernels),
    .fma_chains = fma_chains,
};
