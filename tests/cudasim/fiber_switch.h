/* fiber_switch.h - changes from one stack to another. On x86-64 by hand, because swapcontext makes two system
 * calls and a kernel changes stacks millions of times; elsewhere by swapcontext. */
#ifndef QS_TESTS_CUDASIM_FIBER_SWITCH_H
#define QS_TESTS_CUDASIM_FIBER_SWITCH_H

#include <stddef.h>

#if defined(__x86_64__) && !defined(CUDASIM_UCONTEXT)

struct cudasim_context {
    void *stack_pointer;
};

/* Saves what a call must preserve (System V ABI: rbx, rbp, r12-r15) on the old stack and takes it from the
 * new one. */
__asm__(".text\n"
        ".type cudasim_swap_stacks, @function\n"
        "cudasim_swap_stacks:\n"
        "    pushq %rbp\n    pushq %rbx\n    pushq %r12\n    pushq %r13\n    pushq %r14\n    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq (%rsi), %rsp\n"
        "    popq %r15\n    popq %r14\n    popq %r13\n    popq %r12\n    popq %rbx\n    popq %rbp\n"
        "    ret\n"
        ".size cudasim_swap_stacks, .-cudasim_swap_stacks\n");
extern "C" void cudasim_swap_stacks(cudasim_context *save, const cudasim_context *load);

static inline void cudasim_switch(cudasim_context *save, const cudasim_context *load)
{
    cudasim_swap_stacks(save, load);
}

static inline void cudasim_context_make(cudasim_context *c, char *stack, size_t bytes, void (*start)(void))
{
    void **top = (void **)(stack + bytes) - 1; /* a function starts with rsp = 8 mod 16 */
    *--top = (void *)start;
    for (int i = 0; i < 6; i++) *--top = NULL;
    c->stack_pointer = top;
}

#else
#include <ucontext.h>

struct cudasim_context {
    ucontext_t u;
};

static inline void cudasim_switch(cudasim_context *save, const cudasim_context *load)
{
    swapcontext(&save->u, &load->u);
}

static inline void cudasim_context_make(cudasim_context *c, char *stack, size_t bytes, void (*start)(void))
{
    getcontext(&c->u);
    c->u.uc_stack.ss_sp = stack;
    c->u.uc_stack.ss_size = bytes;
    c->u.uc_link = NULL;
    makecontext(&c->u, start, 0);
}
#endif
#endif
