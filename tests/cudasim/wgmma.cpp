/* wgmma.cpp - the warpgroup products behind kernels/cuda/wgmma.cuh, as each warp sees them: sixteen of the 64
 * rows.
 *
 * A product happens when it is waited for, not before, so that operands and accumulators which are touched
 * too early show. It reads shared memory through a view of its own, which holds what cp.async brought only
 * after the fence between the two proxies. A matrix in shared memory is found as the PTX ISA says of its
 * descriptor (start, leading and stride byte offsets in units of 16 bytes; 128-byte swizzle: address
 * bits 4..6 exclusive-or bits 7..9).
 */
#include <deque>
#include <map>
#include <vector>

#include "tests/cudasim/internal.h"

struct product {
    float (*c[32])[4]; /* of each lane */
    uint32_t a[32][4];
    uint64_t a_matrix, b_matrix;
    int columns;
    bool held, add; /* held: the left operand is a */
    float (*widen)(uint16_t);
};
struct product_queue {
    std::deque<std::vector<product>> groups;
    std::vector<product> open;
};
static std::map<unsigned, product_queue> queues; /* by warp */
static std::vector<unsigned char> seen;          /* shared memory as products see it; empty: all poison */

struct product_argument {
    float (*c)[4];
    const uint32_t *a;
    product p;
    unsigned warp;
};

static void issue(void **lanes, unsigned)
{
    product_argument **m = (product_argument **)lanes;
    product p = m[0]->p;
    for (int lane = 0; lane < 32; lane++) {
        const product *q = &m[lane]->p;
        if (q->a_matrix != p.a_matrix || q->b_matrix != p.b_matrix || q->add != p.add)
            cudasim_die("wgmma: lane %d has other matrices than lane 0", lane);
        p.c[lane] = m[lane]->c;
        if (p.held) memcpy(p.a[lane], m[lane]->a, sizeof p.a[lane]);
    }
    queues[m[0]->warp].open.push_back(p);
}

void cudasim_wgmma(float (*c)[4], int columns, const uint32_t *a, uint64_t a_matrix, uint64_t b_matrix,
                   bool add, float (*widen)(uint16_t))
{
    if (cudasim_options.arch != 90 || cudasim_options.code_arch != 90)
        cudasim_die("wgmma: there is no image of sm_90a's code on sm_%d, with code for sm_%d",
                    cudasim_options.arch, cudasim_options.code_arch);
    product_argument argument = {c, a, {}, threadIdx.x / 32};
    argument.p.a_matrix = a_matrix, argument.p.b_matrix = b_matrix, argument.p.columns = columns;
    argument.p.held = a != NULL, argument.p.add = add, argument.p.widen = widen;
    cudasim_warp_collective(0xffffffffu, "wgmma.mma_async", issue, &argument);
}

/* Element (i, k) of a matrix whose rows run along k, or, `across`, whose rows are k. */
static uint16_t element(uint64_t matrix, int i, int k, bool across)
{
    size_t start = (matrix & 0x3fff) << 4, leading = (matrix >> 16 & 0x3fff) << 4,
           stride = (matrix >> 32 & 0x3fff) << 4;
    if (matrix >> 62 != 1)
        cudasim_die("wgmma: descriptor %#llx is not in 128-byte mode", (unsigned long long)matrix);
    size_t at = across ? start + (size_t)(i / 64) * leading + (size_t)(i % 64) * 2 +
                             (size_t)(k / 8) * stride + (size_t)(k % 8) * 128
                       : start + (size_t)(i / 8) * stride + (size_t)(i % 8) * 128 + (size_t)k * 2;
    at ^= (at >> 7 & 7) << 4;
    uint16_t value = 0xffff;
    if (at + 2 <= seen.size()) memcpy(&value, &seen[at], 2);
    return value;
}

static void execute(const product *p, unsigned warp)
{
    float a[16][16];
    static float b[16][256];
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++)
            for (int half = 0; half < 2; half++) {
                int row = lane / 4 + 8 * (i & 1), k = 2 * (lane % 4) + half + 8 * (i >> 1);
                a[row][k] = p->widen(p->held ? (uint16_t)(p->a[lane][i] >> 16 * half)
                                             : element(p->a_matrix, (int)(warp % 4 * 16) + row, k, false));
            }
    for (int k = 0; k < 16; k++)
        for (int n = 0; n < p->columns; n++) b[k][n] = p->widen(element(p->b_matrix, n, k, p->held));
    for (int row = 0; row < 16; row++)
        for (int n = 0; n < p->columns; n++) {
            float *c = &p->c[row % 8 * 4 + n % 8 / 2][n / 8][row / 8 * 2 + n % 2], sum = 0;
            for (int k = 0; k < 16; k++) sum += a[row][k] * b[k][n];
            *c = p->add ? *c + sum : sum;
        }
}

static void commit(void **lanes, unsigned)
{
    product_queue &q = queues[*(unsigned *)lanes[0]];
    q.groups.push_back(std::move(q.open));
    q.open.clear();
}
void cudasim_wgmma_commit(void)
{
    unsigned warp = threadIdx.x / 32;
    cudasim_warp_collective(0xffffffffu, "wgmma.commit_group", commit, &warp);
}

struct wait_argument {
    unsigned warp;
    size_t left;
};
static void wait(void **lanes, unsigned)
{
    const wait_argument *w = (const wait_argument *)lanes[0];
    product_queue &q = queues[w->warp];
    for (; q.groups.size() > w->left; q.groups.pop_front())
        for (const product &p : q.groups.front()) execute(&p, w->warp);
}
void cudasim_wgmma_wait(int groups_left)
{
    wait_argument argument = {threadIdx.x / 32, (size_t)groups_left};
    cudasim_warp_collective(0xffffffffu, "wgmma.wait_group", wait, &argument);
}

void cudasim_wgmma_see(const void *shared, size_t bytes)
{
    size_t at = (size_t)((const unsigned char *)shared - cudasim_dynamic_shared());
    if (at + bytes > seen.size()) seen.resize(at + bytes, 0xff);
    memcpy(&seen[at], shared, bytes);
}

void cudasim_wgmma_reset(void)
{
    for (auto &q : queues)
        if (!q.second.groups.empty() || !q.second.open.empty()) cudasim_die("a wgmma was never waited for");
    queues.clear();
    seen.clear();
}
