/* mma.cpp - the tensor core and asynchronous copy instructions behind kernels/cuda/mma.cuh, lane by lane.
 *
 * Fragment layouts (PTX ISA, "Matrix fragments for mma.m16n8k16" and "ldmatrix"), lane = 4 * group + member:
 *   A 16x16  a0: row group,     k 2*member..+1    a1: row group + 8    a2: row group, k + 8    a3: row group
 * + 8, k + 8 B 16x8   b0: k 2*member..+1, column group     b1: k + 8 C 16x8   c0, c1: row group, columns
 * 2*member..+1                   c2, c3: row group + 8 ldmatrix.x4: lane l gives the address of row l % 8 of
 * matrix l / 8; register i holds, of matrix i, row group, columns 2*member..+1 (transposed: rows
 * 2*member..+1, column group).
 */
#include <deque>
#include <unordered_map>
#include <vector>

#include "tests/cudasim/internal.h"

struct mma_argument {
    float *c;
    const uint32_t *a, *b;
    float (*widen)(uint16_t);
};

static void mma_act(void **lanes, unsigned)
{
    float a[16][16], b[16][8];
    mma_argument **m = (mma_argument **)lanes;
    float (*widen)(uint16_t) = m[0]->widen;
    for (int lane = 0; lane < 32; lane++) {
        int group = lane / 4, member = lane % 4;
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < 4; i++)
                a[group + 8 * (i & 1)][2 * member + half + 8 * (i >> 1)] =
                    widen((uint16_t)(m[lane]->a[i] >> 16 * half));
            for (int i = 0; i < 2; i++)
                b[2 * member + half + 8 * i][group] = widen((uint16_t)(m[lane]->b[i] >> 16 * half));
        }
    }
    for (int row = 0; row < 16; row++) {
        float sums[8] = {0};
        for (int k = 0; k < 16; k++)
            for (int column = 0; column < 8; column++) sums[column] += a[row][k] * b[k][column];
        for (int column = 0; column < 8; column++)
            m[row % 8 * 4 + column / 2]->c[row / 8 * 2 + column % 2] += sums[column];
    }
}

void cudasim_mma_16816(float c[4], const uint32_t a[4], const uint32_t b[2], float (*widen)(uint16_t))
{
    if (cudasim_options.code_arch < 80)
        cudasim_die("mma.m16n8k16: code for sm_%d has none", cudasim_options.code_arch);
    mma_argument argument = {c, a, b, widen};
    cudasim_warp_collective(0xffffffffu, "mma.m16n8k16", mma_act, &argument);
}

struct ldmatrix_argument {
    uint32_t *r;
    const void *row;
    bool transpose;
};

static void ldmatrix_act(void **lanes, unsigned)
{
    ldmatrix_argument **m = (ldmatrix_argument **)lanes;
    for (int matrix = 0; matrix < 4; matrix++) {
        uint16_t cell[8][8];
        unsigned groups = 0; /* of four banks, that were read */
        for (int row = 0; row < 8; row++) {
            const void *p = m[8 * matrix + row]->row;
            if ((uintptr_t)p % 16) cudasim_die("ldmatrix: row address %p is not a multiple of 16", p);
            if (groups >> (uintptr_t)p / 16 % 8 & 1)
                cudasim_die("ldmatrix: row %d of matrix %d is in banks of a row before it, which a card "
                            "reads one after the other",
                            row, matrix);
            groups |= 1u << (uintptr_t)p / 16 % 8;
            memcpy(cell[row], p, 16);
        }
        for (int lane = 0; lane < 32; lane++) {
            int group = lane / 4, member = lane % 4;
            uint16_t low = m[lane]->transpose ? cell[2 * member][group] : cell[group][2 * member];
            uint16_t high = m[lane]->transpose ? cell[2 * member + 1][group] : cell[group][2 * member + 1];
            m[lane]->r[matrix] = (uint32_t)low | (uint32_t)high << 16;
        }
    }
}

void cudasim_ldmatrix_x4(uint32_t r[4], const void *row, bool transpose)
{
    ldmatrix_argument argument = {r, row, transpose};
    cudasim_warp_collective(0xffffffffu, transpose ? "ldmatrix.trans" : "ldmatrix", ldmatrix_act, &argument);
}

/* Copies wait in their thread until a wait asks for their group, so that a missing wait reads poison. */
struct pending_copy {
    void *shared;
    const void *global;
    size_t bytes;
    bool valid;
};
struct copy_queue {
    std::deque<std::deque<pending_copy>> groups;
    std::deque<pending_copy> open;
    std::vector<pending_copy> landed; /* that wgmma does not see yet */
};
static std::unordered_map<cudasim_thread *, copy_queue> copies;

void cudasim_cp_async(void *shared, const void *global, size_t bytes, bool valid)
{
    if ((uintptr_t)shared % bytes || (valid && (uintptr_t)global % bytes))
        cudasim_die("cp.async: %p or %p is not a multiple of %zu", shared, global, bytes);
    copies[cudasim_current].open.push_back({shared, global, bytes, valid});
}
void cudasim_cp_async_commit(void)
{
    copy_queue &q = copies[cudasim_current];
    q.groups.push_back(std::move(q.open));
    q.open.clear();
}
void cudasim_cp_async_wait(int groups_left)
{
    copy_queue &q = copies[cudasim_current];
    while (q.groups.size() > (size_t)groups_left) {
        for (pending_copy &c : q.groups.front()) {
            if (c.valid)
                memcpy(c.shared, c.global, c.bytes);
            else
                memset(c.shared, 0, c.bytes);
            q.landed.push_back(c);
        }
        q.groups.pop_front();
    }
}
void cudasim_proxy_fence(void)
{
    copy_queue &q = copies[cudasim_current];
    for (const pending_copy &c : q.landed) cudasim_wgmma_see(c.shared, c.bytes);
    q.landed.clear();
}
void cudasim_cp_async_reset(void) { copies.clear(); }
