/* SPDX-License-Identifier: Apache-2.0 */
/* simt_fiber: switching stacks.
 *
 * A switch is a call, so only what a call preserves is saved: on x86-64 six registers and the stack
 * pointer, on aarch64 x19 to x30 and the low halves of v8 to v15.  The floating-point control words
 * are the same in all fibers.  Elsewhere ucontext does it, with two system calls a switch.
 *
 * Stacks are a multiple of a page apart; their tops are staggered by 448 bytes, or the first lines
 * of all of them would fall into the same cache sets.
 *
 * AddressSanitizer keeps track of the stack that it is on, so it is told of every switch. */
#include "runtime/simt_fiber.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "ir/base/os.h"

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif

#ifdef FIBER_ASAN
void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *bytes);
void __asan_unpoison_memory_region(const volatile void *p, size_t bytes);
#endif

#if !defined(__x86_64__) && !defined(__aarch64__)
#define FIBER_UCONTEXT 1
#include <ucontext.h>
#endif

/* PAGE: of any machine. */
enum { PAGE = 64 << 10, SPACING = PAGE + SIMT_STACK, STAGGER = 448, SPREAD = 4096 };

struct SimtFiber {
    void *sp;
    char *stack; /* NULL: the host's */
    const void *bottom;
    size_t bytes;
    void *fake; /* the sanitizer's */
    SimtFiber *from;
    void (*entry)(void *arg);
    void *arg;
#ifdef FIBER_UCONTEXT
    ucontext_t context;
#endif
};

struct SimtPool {
    char *stacks;
    size_t bytes;
    int n, nfree;
    int made; /* stacks that have been used once */
    SimtFiber host, *fiber;
    int *free; /* free[0 .. nfree) of those made, the last one goes out first */
};

#if defined(__x86_64__)
void simt_fiber_swap(void **save, void *load);
__asm__(".text\n"
        ".globl simt_fiber_swap\n"
        ".hidden simt_fiber_swap\n"
        ".type simt_fiber_swap, @function\n"
        "simt_fiber_swap:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size simt_fiber_swap, . - simt_fiber_swap\n");
/* The frame that a first swap pops: six registers and where to begin, with sp a multiple of 16. */
enum { FRAME_WORDS = 9, FRAME_ENTRY = 6 };
#elif defined(__aarch64__)
void simt_fiber_swap(void **save, void *load);
__asm__(".text\n"
        ".globl simt_fiber_swap\n"
        ".hidden simt_fiber_swap\n"
        ".type simt_fiber_swap, %function\n"
        "simt_fiber_swap:\n"
        "    stp x29, x30, [sp, #-160]!\n"
        "    stp x19, x20, [sp, #16]\n"
        "    stp x21, x22, [sp, #32]\n"
        "    stp x23, x24, [sp, #48]\n"
        "    stp x25, x26, [sp, #64]\n"
        "    stp x27, x28, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x2, sp\n"
        "    str x2, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #16]\n"
        "    ldp x21, x22, [sp, #32]\n"
        "    ldp x23, x24, [sp, #48]\n"
        "    ldp x25, x26, [sp, #64]\n"
        "    ldp x27, x28, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    ldp x29, x30, [sp], #160\n"
        "    ret\n"
        ".size simt_fiber_swap, . - simt_fiber_swap\n");
enum { FRAME_WORDS = 20, FRAME_ENTRY = 1 };
#endif

static void fiber_begin(SimtFiber *f)
{
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(NULL, &f->from->bottom, &f->from->bytes);
#endif
    f->entry(f->arg);
}

#if defined(FIBER_UCONTEXT)
static void simt_fiber_first(unsigned high, unsigned low)
{
    fiber_begin((SimtFiber *)((uintptr_t)high << 16 << 16 | low));
}
#else
/* What the first swap returns to: calls fiber_begin(f), both from registers of the frame. */
void simt_fiber_first(void);
#if defined(__x86_64__)
__asm__(".text\n"
        ".globl simt_fiber_first\n"
        ".hidden simt_fiber_first\n"
        ".type simt_fiber_first, @function\n"
        "simt_fiber_first:\n"
        "    movq %r12, %rdi\n"
        "    callq *%r13\n"
        "    ud2\n"
        ".size simt_fiber_first, . - simt_fiber_first\n");
#else
__asm__(".text\n"
        ".globl simt_fiber_first\n"
        ".hidden simt_fiber_first\n"
        ".type simt_fiber_first, %function\n"
        "simt_fiber_first:\n"
        "    mov x0, x19\n"
        "    blr x20\n"
        "    brk #1\n"
        ".size simt_fiber_first, . - simt_fiber_first\n");
#endif
#endif

Status simt_pool_create(Ctx *cx, int fibers, SimtPool **out)
{
    SimtPool *p = *out = calloc(1, sizeof *p);
    if (p) {
        p->n = fibers;
        p->bytes = (size_t)fibers * SPACING;
        p->fiber = calloc((size_t)fibers, sizeof *p->fiber);
        p->free = calloc((size_t)fibers, sizeof *p->free);
        p->stacks =
            mmap(NULL, p->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p->stacks == MAP_FAILED)
            p->stacks = NULL;
    }
    if (p && p->fiber && p->free && p->stacks)
        return ST_OK;
    simt_pool_destroy(p);
    *out = NULL;
    return FAIL(cx, MEMORY, "simt: no addresses for %d stacks", fibers);
}

void simt_pool_destroy(SimtPool *p)
{
    if (!p)
        return;
    if (p->stacks) {
#ifdef FIBER_ASAN
        __asan_unpoison_memory_region(p->stacks, p->bytes);
#endif
        munmap(p->stacks, p->bytes);
    }
    free(p->fiber);
    free(p->free);
    free(p);
}

void simt_pool_reset(SimtPool *p)
{
    p->nfree = p->made;
    for (int i = 0; i < p->made; i++)
        p->free[i] = p->made - 1 - i;
}

const char *simt_pool_stacks(const SimtPool *p, size_t *bytes)
{
    *bytes = p->bytes;
    return p->stacks;
}

SimtFiber *simt_fiber_host(SimtPool *p)
{
    return &p->host;
}

/* The next switch to f begins it. */
static void fiber_prepare(SimtFiber *f)
{
#ifdef FIBER_ASAN
    __asan_unpoison_memory_region(f->stack, SIMT_STACK);
#endif
#ifdef FIBER_UCONTEXT
    const uintptr_t self = (uintptr_t)f;
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = f->bytes;
    makecontext(&f->context, (void (*)(void))simt_fiber_first, 2, (unsigned)(self >> 16 >> 16),
                (unsigned)self);
#else
    void **frame = (void **)(void *)(f->stack + f->bytes) - FRAME_WORDS;
    void (*const first)(void) = simt_fiber_first;
    void (*const begin)(SimtFiber *) = fiber_begin;
    for (int w = 0; w < FRAME_WORDS; w++)
        frame[w] = NULL;
    __builtin_memcpy(&frame[FRAME_ENTRY], &first, sizeof first);
#if defined(__x86_64__) /* r15 r14 r13 r12 rbx rbp */
    __builtin_memcpy(&frame[2], &begin, sizeof begin);
    frame[3] = f;
#else                   /* x29 x30 x19 x20 */
    frame[2] = f;
    __builtin_memcpy(&frame[3], &begin, sizeof begin);
#endif
    f->sp = frame;
#endif
}

SimtFiber *simt_fiber_take(SimtPool *p, void (*entry)(void *arg), void *arg)
{
    const int i = p->nfree ? p->free[--p->nfree] : p->made;
    SimtFiber *f = &p->fiber[i];
    gtc_assert(i < p->n, "all %d fibers are taken", p->n);
    if (i == p->made) {
        f->stack = p->stacks + (size_t)i * SPACING + PAGE;
        if (mprotect(f->stack, SIMT_STACK, PROT_READ | PROT_WRITE))
            return NULL;
        p->made++;
    }
    f->entry = entry;
    f->arg = arg;
    f->bottom = f->stack;
    f->bytes = (size_t)(SIMT_STACK - i * STAGGER % SPREAD);
    fiber_prepare(f);
    return f;
}

void simt_fiber_leave(SimtPool *p, SimtFiber *f)
{
    p->free[p->nfree++] = (int)(f - p->fiber);
}

void simt_fiber_switch(SimtFiber *from, SimtFiber *to)
{
    to->from = from;
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(&from->fake, to->bottom, to->bytes);
#endif
#ifdef FIBER_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    simt_fiber_swap(&from->sp, to->sp);
#endif
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(from->fake, &from->from->bottom, &from->from->bytes);
#endif
}
