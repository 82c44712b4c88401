/* fibers.cpp - executes a kernel: each thread of a block is a fiber with its own stack.
 *
 * A fiber runs until it must wait: at a block barrier, or in a warp collective until the last lane of the
 * mask has come (the last lane then acts for all). The order in which waiting-free threads are taken, and
 * that of the blocks, is a fresh permutation for every block: code that forgets a barrier gives different
 * results under different seeds.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "tests/cudasim/internal.h"
#include "tests/cudasim/fiber_switch.h"

enum state { READY, AT_BARRIER, IN_WARP, DONE };

struct fiber : cudasim_thread {
    enum state state;
    bool started;
    cudasim_context context;
    char *stack;
    unsigned warp;
    const char *doing; /* name of the collective it waits in */
};

struct warp_slot { /* the collective that lanes of a warp are gathering for */
    unsigned mask, arrived;
    const char *what;
    void *arguments[32];
    unsigned lanes[32]; /* indices into fibers */
};

static const size_t stack_bytes = 128 << 10;

cudasim_thread *cudasim_current;
dim3 cudasim_block_index, cudasim_block_dim, cudasim_grid_dim;

static std::vector<fiber> fibers;
static std::vector<warp_slot> warps;
static std::vector<char *>
    free_stacks; /* a thread takes the last one when it starts and gives it back when it returns */
static std::vector<unsigned> order;
static std::vector<unsigned char> shared_memory;
enum { SHARED_ALIGN = 1024 };
static cudasim_context scheduler;
static const std::function<void()> *kernel_body;
static const char *kernel_name;

static fiber *self(void) { return static_cast<fiber *>(cudasim_current); }

static void leave(void)
{
    fiber *f = self();
    cudasim_switch(&f->context, &scheduler);
    cudasim_current = f;
}

static void fiber_main(void)
{
    (*kernel_body)();
    self()->state = DONE;
    leave();
}

/* Stacks begin at different lines of a page: those of a block would otherwise fight for the same sets of the
 * cache. */
static char *make_stack(void)
{
    static size_t made;
    void *p =
        mmap(NULL, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) cudasim_die("no memory for the stack of a thread");
    mprotect(p, 4096, PROT_NONE); /* the end it grows to */
    return (char *)p - made++ % 64 * 64;
}

static void enter(fiber *f)
{
    if (!f->started) {
        f->started = true;
        if (free_stacks.empty()) free_stacks.push_back(make_stack());
        f->stack = free_stacks.back();
        free_stacks.pop_back();
        cudasim_context_make(&f->context, f->stack, stack_bytes, fiber_main);
    }
    cudasim_current = f;
    cudasim_switch(&scheduler, &f->context);
    cudasim_current = NULL;
    if (f->state == DONE) free_stacks.push_back(f->stack);
}

const char *cudasim_where(void)
{
    static char text[256];
    if (!cudasim_current) return "";
    snprintf(text, sizeof text, "kernel %s, block (%u %u %u), thread (%u %u %u): ", kernel_name, blockIdx.x,
             blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    return text;
}

unsigned char *cudasim_dynamic_shared(void)
{
    return (unsigned char *)(((uintptr_t)shared_memory.data() + SHARED_ALIGN - 1) &
                             ~(uintptr_t)(SHARED_ALIGN - 1));
}

void cudasim_barrier(void)
{
    self()->state = AT_BARRIER;
    leave();
}

static void no_act(void **, unsigned) {}
void __syncwarp(unsigned mask)
{
    int nothing;
    cudasim_warp_collective(mask, "__syncwarp", no_act, &nothing);
}

void cudasim_exchange_act(void **lanes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        cudasim_exchange *x = (cudasim_exchange *)lanes[i];
        if (!x) continue;
        unsigned from = (unsigned)x->source;
        if (from >= 32 || !lanes[from])
            cudasim_die("lane %u reads lane %d, which takes no part in the shuffle", i, x->source);
        x->result = ((cudasim_exchange *)lanes[from])->value;
    }
}

void cudasim_warp_collective(unsigned mask, const char *what, cudasim_warp_act *act, void *argument)
{
    fiber *f = self();
    warp_slot *w = &warps[f->warp];
    if (!(mask >> f->lane & 1))
        cudasim_die("%s: the calling lane %u is not in the mask %#x", what, f->lane, mask);
    if (!w->arrived) {
        w->mask = mask;
        w->what = what;
        memset(w->arguments, 0, sizeof w->arguments);
    } else if (w->mask != mask || (w->what != what && strcmp(w->what, what))) {
        cudasim_die("%s with mask %#x while lanes of the warp wait in %s with mask %#x", what, mask, w->what,
                    w->mask);
    }
    w->arrived |= 1u << f->lane;
    w->arguments[f->lane] = argument;
    w->lanes[f->lane] = (unsigned)(f - fibers.data());
    if (w->arrived != mask) {
        f->state = IN_WARP;
        f->doing = what;
        leave();
        return;
    }
    act(w->arguments, 32);
    w->arrived = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        if (mask >> lane & 1) fibers[w->lanes[lane]].state = READY;
}

static void stuck(unsigned done, unsigned at_barrier)
{
    for (fiber &f : fibers) {
        if (f.state != IN_WARP) continue;
        cudasim_current = &f;
        cudasim_die("waits for ever in %s (mask %#x, arrived %#x)", f.doing, warps[f.warp].mask,
                    warps[f.warp].arrived);
    }
    for (fiber &f : fibers)
        if (f.state == AT_BARRIER) cudasim_current = &f;
    cudasim_die("%u threads wait at __syncthreads after %u have returned", at_barrier, done);
}

static const unsigned char red = 0xa5;
enum { RED_BYTES = 256 };

static void check_shared(size_t shared_bytes)
{
    for (size_t i = 0; i < RED_BYTES; i++)
        if (cudasim_dynamic_shared()[shared_bytes + i] != red)
            cudasim_die("kernel %s wrote past its %zu bytes of shared memory", kernel_name, shared_bytes);
}

static void run_block(size_t shared_bytes)
{
    unsigned count = (unsigned)fibers.size();
    memset(cudasim_dynamic_shared(), 0xff, shared_bytes);
    memset(cudasim_dynamic_shared() + shared_bytes, red, RED_BYTES);
    for (fiber &f : fibers) f.state = READY, f.started = false;
    for (warp_slot &w : warps) w.arrived = 0;
    for (unsigned i = count; i > 1; i--) std::swap(order[i - 1], order[cudasim_below(i)]);
    for (;;) {
        unsigned done = 0, at_barrier = 0, ran = 0;
        for (unsigned i : order) {
            if (fibers[i].state == READY) enter(&fibers[i]), ran++;
            done += fibers[i].state == DONE;
            at_barrier += fibers[i].state == AT_BARRIER;
        }
        if (done == count) break;
        if (at_barrier == count) {
            for (fiber &f : fibers) f.state = READY;
        } else if (!ran) {
            stuck(done, at_barrier);
        }
    }
    check_shared(shared_bytes);
    cudasim_cp_async_reset();
    cudasim_wgmma_reset();
}

static void make_threads(dim3 block)
{
    unsigned count = block.x * block.y * block.z;
    fibers.resize(count);
    warps.resize((count + 31) / 32);
    order.resize(count);
    for (unsigned i = 0; i < count; i++) {
        fiber &f = fibers[i];
        f.index = dim3(i % block.x, i / block.x % block.y, i / (block.x * block.y));
        f.lane = i % 32;
        f.warp = i / 32;
        order[i] = i;
    }
}

void cudasim_run_kernel(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                        const std::function<void()> &body)
{
    make_threads(block);
    shared_memory.resize(shared_bytes + SHARED_ALIGN + RED_BYTES);
    kernel_name = name;
    kernel_body = &body;
    cudasim_block_dim = block;
    cudasim_grid_dim = grid;
    std::vector<unsigned> blocks(grid.x * grid.y * grid.z);
    for (unsigned i = 0; i < blocks.size(); i++) blocks[i] = i;
    for (unsigned i = (unsigned)blocks.size(); i > 1; i--) std::swap(blocks[i - 1], blocks[cudasim_below(i)]);
    for (unsigned b : blocks) {
        cudasim_block_index = dim3(b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y));
        run_block(shared_bytes);
    }
    cudasim_counts.kernels++;
}
