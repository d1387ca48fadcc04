/* SPDX-License-Identifier: Apache-2.0 */
/* team: one parallel region at a time over a fixed set of threads.
 *
 * A training step is one region.  Inside it the threads meet at barriers, a few dozen a step and
 * microseconds apart, so a waiter first spins for about 50 us; between steps the caller reads
 * data for milliseconds, so after that it sleeps in a futex and costs nothing.  Both waits are one
 * function over one kind of word, a counter that only grows:
 *
 *     go      the caller adds 1 to start a region; workers wait for it to differ from the last one
 *     phase   the last thread to reach a barrier adds 1; the others wait for that
 *
 * A thread counts itself into `sleepers` before the kernel compares the word, and the waker changes
 * the word before it looks at `sleepers` (both sequentially consistent), so that no wake-up is
 * lost and a wake-up that nobody waits for costs no system call.
 *
 * The split of work is the kernels' own (tid, nt), hence static: the same bits on every run. */
#include "runtime/team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SPIN_NS = 50 * 1000, SPINS_A_LOOK = 32 };

typedef struct Gate { /* a word to wait on, alone in its cache lines */
    _Alignas(128) _Atomic uint32_t word;
    _Atomic uint32_t sleepers;
} Gate;

typedef struct Barrier {
    Gate phase;
    _Alignas(128) _Atomic int arrived;
    int nt;
    bool spin; /* not when there are more threads than cores */
} Barrier;

typedef struct Worker {
    pthread_t thread;
    struct Team *team;
    int tid;
} Worker;

struct Team {
    Barrier bar;
    Gate go;
    TeamFn *fn; /* NULL: leave */
    void *arg;
    int nt, started; /* workers whose thread exists */
    Worker *worker;
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Returns when the gate's word is no longer `old`. */
static void gate_wait(Gate *g, uint32_t old, bool spin)
{
    const int64_t until = spin ? now_ns() + SPIN_NS : 0;
    do {
        for (int i = 0; i < SPINS_A_LOOK; i++) {
            if (atomic_load_explicit(&g->word, memory_order_acquire) != old)
                return;
            cpu_relax();
        }
    } while (spin && now_ns() < until);

    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->word) == old)
        syscall(SYS_futex, &g->word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&g->sleepers, 1);
}

static void gate_open(Gate *g)
{
    atomic_fetch_add(&g->word, 1);
    if (atomic_load(&g->sleepers))
        syscall(SYS_futex, &g->word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void barrier_wait(void *bar)
{
    Barrier *b = bar;
    const uint32_t phase = atomic_load_explicit(&b->phase.word, memory_order_relaxed);

    if (atomic_fetch_add_explicit(&b->arrived, 1, memory_order_acq_rel) == b->nt - 1) {
        atomic_store_explicit(&b->arrived, 0, memory_order_relaxed);
        gate_open(&b->phase);
    } else {
        gate_wait(&b->phase, phase, b->spin);
    }
}

void team_no_barrier(void *bar)
{
    (void)bar;
}

/* Flush results and operands that are denormal to zero: they cost 100 cycles each and a trained
 * weight that decays gets there.  Returns the mode to restore. */
static uint64_t denormals_off(void)
{
#if defined(__x86_64__)
    const uint32_t old = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(old | 0x8040);
    return old;
#elif defined(__aarch64__)
    uint64_t old;
    __asm__ volatile("mrs %0, fpcr" : "=r"(old));
    __asm__ volatile("msr fpcr, %0" : : "r"(old | (1u << 24)));
    return old;
#else
    return 0;
#endif
}

static void denormals_restore(uint64_t old)
{
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr((uint32_t)old);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(old));
#else
    (void)old;
#endif
}

static void *worker_main(void *arg)
{
    Worker *w = arg;
    Team *t = w->team;
    const gtc_team me = { w->tid, t->nt, &t->bar, barrier_wait };

    denormals_off();
    for (uint32_t seen = 0;; seen++) {
        gate_wait(&t->go, seen, t->bar.spin);
        if (!t->fn)
            return NULL;
        t->fn(t->arg, &me);
        barrier_wait(&t->bar);
    }
}

static int core_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

static Status start_workers(Ctx *cx, Team *t)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the program's own thread */
    int bad = 0;
    while (!bad && t->started < t->nt - 1) {
        Worker *w = &t->worker[t->started];
        *w = (Worker){ .team = t, .tid = t->started + 1 };
        bad = pthread_create(&w->thread, NULL, worker_main, w);
        t->started += !bad;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (bad)
        return FAIL(cx, ENV, "cannot start thread %d of %d: %s", t->started + 1, t->nt,
                    strerror(bad));
    return ST_OK;
}

Status team_create(Ctx *cx, int nt, Team **out)
{
    *out = NULL;
    gtc_assert(nt >= 1, "a team of %d", nt);
    Team *t = aligned_alloc(128, sizeof *t);
    Worker *worker = calloc((size_t)nt, sizeof *worker);
    if (!t || !worker) {
        free(t);
        free(worker);
        return FAIL(cx, MEMORY, "no memory for a team of %d threads", nt);
    }
    memset(t, 0, sizeof *t);
    t->nt = t->bar.nt = nt;
    t->worker = worker;
    t->bar.spin = nt <= core_count();
    const Status s = start_workers(cx, t);
    if (s != ST_OK) {
        team_destroy(t);
        return s;
    }
    *out = t;
    return ST_OK;
}

void team_destroy(Team *t)
{
    if (!t)
        return;
    t->fn = NULL;
    gate_open(&t->go);
    for (int i = 0; i < t->started; i++)
        pthread_join(t->worker[i].thread, NULL);
    free(t->worker);
    free(t);
}

int team_size(const Team *t)
{
    return t->nt;
}

void team_run(Team *t, bool all, TeamFn *fn, void *arg)
{
    const uint64_t mode = denormals_off();
    if (t->nt == 1 || !all) {
        fn(arg, &(gtc_team){ 0, 1, NULL, team_no_barrier });
    } else {
        t->fn = fn;
        t->arg = arg;
        gate_open(&t->go);
        fn(arg, &(gtc_team){ 0, t->nt, &t->bar, barrier_wait });
        barrier_wait(&t->bar);
    }
    denormals_restore(mode);
}
