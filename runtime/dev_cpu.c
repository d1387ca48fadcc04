/* SPDX-License-Identifier: Apache-2.0 */
/* dev_cpu: the steps of a program as one parallel region of the team.
 *
 * Every thread walks the same list of steps, calls each kernel with its own tid, and meets the
 * others where a step has a barrier; a serial step is thread 0's alone, and the others are already
 * at the next one.  A program of serial steps only never wakes the workers. */
#include "runtime/device.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ir/base/bug.h"
#include "ir/base/os.h"
#include "ir/base/size.h"

#if defined(GTC_SANITIZE)
#include <sanitizer/asan_interface.h>
#endif

typedef struct CpuDevice {
    GtcDevice base;
    Team *team;
    Cache *cache;
    Jit *jit;
} CpuDevice;

/* ------------------------------------------------------------ what the machine is */

static int core_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

Target device_cpu_target(int threads)
{
    Target t = { .lanes = 4, .vector_regs = 16, .refuse = kernel_refuse_c };
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) {
        t.lanes = 16;
        t.vector_regs = 32;
    } else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        t.lanes = 8;
    }
#elif defined(__aarch64__)
    t.vector_regs = 32;
#endif
    t.threads = threads > 0 ? threads : core_count();
    const long l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
    t.l1_bytes = l1 > 0 ? l1 : 32 << 10;
    t.l2_bytes = l2 > 0 ? l2 : 1 << 20;
    return t;
}

static const char *isa_name(int lanes)
{
#if defined(__x86_64__)
    return lanes == 16 ? "AVX-512" : lanes == 8 ? "AVX2" : "SSE2";
#elif defined(__aarch64__)
    (void)lanes;
    return "NEON";
#else
    (void)lanes;
    return "plain vectors";
#endif
}

/* ------------------------------------------------------------ open and close */

static void cpu_close(GtcDevice *d)
{
    CpuDevice *cpu = (CpuDevice *)d;
    team_destroy(cpu->team);
    jit_close(cpu->jit);
    cache_close(cpu->cache);
    free(cpu);
}

static Status open_parts(Ctx *cx, CpuDevice *cpu)
{
    TRY(team_create(cx, cpu->base.target.threads, &cpu->team));
    TRY(cache_open(cx, &cpu->cache));
    return jit_open(cx, cpu->cache, &cpu->jit);
}

static Status cpu_open(Ctx *cx, const DeviceCall *call, GtcDevice **out)
{
    CpuDevice *cpu = calloc(1, sizeof *cpu);
    if (!cpu)
        return FAIL(cx, MEMORY, "no memory for the device");
    cpu->base = (GtcDevice){ .ops = &device_cpu, .room = -1, .os = cx->os };
    cpu->base.target = device_cpu_target(call->threads);
    const Status s = open_parts(cx, cpu);
    if (s != ST_OK) {
        cpu_close(&cpu->base);
        return s;
    }
    const Target *t = &cpu->base.target;
    snprintf(cpu->base.describe, sizeof cpu->base.describe, "cpu: %d thread%s, %s (%d lanes), %s",
             t->threads, t->threads == 1 ? "" : "s", isa_name(t->lanes), t->lanes,
             jit_compiler(cpu->jit));
    *out = &cpu->base;
    return ST_OK;
}

/* ------------------------------------------------------------ memory and code */

enum { LARGE_PAGE = 2 << 20 };

/* A page is the unit of placement: the first bytes up to one hold the pointer to give back.  Zeroed
 * memory that nobody has touched costs nothing, so compiling for a large batch is as quick as for
 * a small one; large pages save the time that small ones would cost when it is touched. */
static void *cpu_alloc(GtcDevice *d, MemoryKind kind, int64_t bytes)
{
    int64_t all;
    (void)kind; /* there is one */
    if (bytes < 0 || !size_add_ok(bytes, 2 * 4096, &all))
        return NULL;
    char *p = d->os->alloc((size_t)all);
    if (!p)
        return NULL;
    char *page = p + 4096 - (uintptr_t)p % 4096;
    memcpy(page - sizeof p, &p, sizeof p);
    if (bytes >= LARGE_PAGE) {
        char *large = page + LARGE_PAGE - (uintptr_t)page % LARGE_PAGE;
        if (large < page + bytes) /* only a wish: what it says does not matter */
            madvise(large, (size_t)(page + bytes - large), MADV_HUGEPAGE);
    }
#if defined(GTC_SANITIZE)
    ASAN_POISON_MEMORY_REGION(page + bytes, (size_t)(p + all - (page + bytes)));
#endif
    return page;
}

static void cpu_release(GtcDevice *d, MemoryKind kind, void *page)
{
    char *p;
    (void)kind;
    if (!page)
        return;
    memcpy(&p, (char *)page - sizeof p, sizeof p);
    d->os->release(p);
}

static Status cpu_build(Ctx *cx, GtcDevice *d, Arena *arena, const Graph *g, Ref r, Kernel *out)
{
    return kernel_build_c(cx, arena, &d->target, g, r, out);
}

static Status cpu_load(Ctx *cx, GtcDevice *d, const LoadCall *call, Code *code, void **module)
{
    JitModule *m = NULL;
    const Status s = jit_load(cx, ((CpuDevice *)d)->jit, d->target.lanes, call->k, call->n,
                              call->no_cache, code, &m);
    *module = m;
    return s;
}

static void cpu_unload(GtcDevice *d, void *module)
{
    jit_unload(d->os, module);
}

/* ------------------------------------------------------------ running */

typedef struct Run {
    Ctx *cx;
    const Schedule *s;
    double *ms;
    Status status; /* thread 0's */
} Run;

static void step_copy(const Step *s, const gtc_team *me)
{
    const int64_t share =
        BUG(64) ? s->copy_bytes / me->nt : size_round_up(size_ceil_div(s->copy_bytes, me->nt), 64);
    const int64_t lo = share * me->tid, rest = s->copy_bytes - lo;
    if (rest > 0)
        memcpy((char *)s->arg[1] + lo, (const char *)s->arg[0] + lo,
               (size_t)(rest < share ? rest : share));
}

static void step_run(Run *run, const Step *s, const gtc_team *me)
{
    if (s->serial) {
        const gtc_team alone = { 0, 1, NULL, team_no_barrier };
        if (me->tid)
            return;
        if (s->fn)
            s->fn(s->arg, &alone);
        else if (run->status == ST_OK)
            run->status = device_interpret(run->cx, s, s->arg);
    } else if (s->fn) {
        s->fn(s->arg, me);
    } else {
        step_copy(s, me);
    }
}

#if defined(GTC_SANITIZE)
/* Thread 0 wakes an epoch's buffers before the barrier into it and buries the last one's after. */
static void guards_wake(const Schedule *s, int epoch)
{
    for (int i = 0; i < s->nguard; i++)
        if (s->guard[i].buf->first == epoch)
            ASAN_UNPOISON_MEMORY_REGION(s->guard[i].at, (size_t)s->guard[i].buf->bytes);
}

static void guards_bury(const Schedule *s, int before)
{
    for (int i = 0; i < s->nguard; i++)
        if (s->guard[i].buf->last < before)
            ASAN_POISON_MEMORY_REGION(s->guard[i].at, (size_t)s->guard[i].buf->bytes);
}
#else
static void guards_wake(const Schedule *s, int epoch)
{
    (void)s, (void)epoch;
}
static void guards_bury(const Schedule *s, int before)
{
    (void)s, (void)before;
}
#endif

static void region(void *arg, const gtc_team *me)
{
    Run *run = arg;
    const Schedule *s = run->s;
    for (int i = 0; i < s->nstep; i++) {
        const Step *step = &s->step[i];
        const bool opens = i > 0 && step->epoch != step[-1].epoch;
        if (me->tid == 0 && opens)
            guards_wake(s, step->epoch);
        if (step->barrier)
            me->barrier(me->bar);
        if (me->tid == 0 && opens)
            guards_bury(s, step->epoch);
        step_run(run, step, me);
    }
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* As region, with a barrier on both sides of each step, so that a time is one step's own. */
static void region_timed(void *arg, const gtc_team *me)
{
    Run *run = arg;
    const Schedule *s = run->s;
    for (int i = 0; i < s->nstep; i++) {
        const Step *step = &s->step[i];
        if (me->tid == 0)
            guards_wake(s, step->epoch);
        me->barrier(me->bar);
        const double start = now_ms();
        step_run(run, step, me);
        me->barrier(me->bar);
        if (me->tid == 0 && step->kernel >= 0)
            run->ms[step->kernel] += now_ms() - start;
    }
}

static Status cpu_run(Ctx *cx, GtcDevice *d, const Schedule *s, int slot, double *ms)
{
    (void)slot; /* there is one */
    Run run = { .cx = cx, .s = s, .ms = ms };
    bool shared = false;
    for (int i = 0; i < s->nstep; i++)
        shared |= !s->step[i].serial;
    guards_wake(s, 0); /* there is no barrier in front of the first epoch */
    if (s->nstep)
        team_run(((CpuDevice *)d)->team, shared, ms ? region_timed : region, &run);
    guards_bury(s, INT32_MAX);
    return run.status;
}

const DeviceOps device_cpu = {
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .build = cpu_build,
    .load = cpu_load,
    .unload = cpu_unload,
    .run = cpu_run,
};
