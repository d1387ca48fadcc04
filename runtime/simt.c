/* SPDX-License-Identifier: Apache-2.0 */
/* simt: a host that runs CUDA kernels, one fiber a thread.
 *
 * A thread runs until it waits for others in a barrier or a shuffle; then the next lane of its warp
 * that can run is switched to directly, without a detour over a scheduler.  The last one to arrive
 * finishes the barrier or shuffle for all and runs on.  When its warp is exhausted the next warp of
 * the block has its turn, then the next block.  So one warp runs as far as it can before another
 * one begins, which is the order in which a missing barrier shows; the order among those that can
 * run is forward, reverse or seeded.
 *
 * A thread that ends without ever having waited hands its stack to the next one of its block by a
 * plain call: kernels without barriers need one stack.
 *
 * A block has a slot (shared memory, lanes, warps) while it is under way.  One block at a time is
 * enough for kernels whose blocks know nothing of each other.  A cooperative launch has all its
 * blocks under way, and one that uses gtc_last_of as many as there are slots, from its first
 * arrival on.
 *
 * A mistake of the kernel stops the launch where it stands: its fibers are left as they are, and
 * their stacks are used again.  The kernel's code holds nothing that would have to be given back.
 *
 *   simt_fiber   stacks and the switch        simt_sync    barriers, shuffles, counters
 *   simt_memory  device memory                simt_shadow  races, bounds
 *   simt_code    shared objects, their lines  simt_driver  the CUDA driver's calls on top */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/simt_machine.h"

enum { RESIDENT = 16 };
static const size_t MEMORY = (size_t)4 << 30;

/* What fresh shared memory and its red zones hold: NaN. */
enum { POISON = 0xff };

/* ------------------------------------------------------------ which lane goes on */

static uint32_t random_below(SimtMachine *m, uint32_t n)
{
    m->rng ^= m->rng << 13;
    m->rng ^= m->rng >> 17;
    m->rng ^= m->rng << 5;
    return (uint32_t)((uint64_t)m->rng * n >> 32);
}

static bool coin(SimtMachine *m) /* one in 16 */
{
    return m->opt.order == SIMT_SEEDED && random_below(m, 16) == 0;
}

/* One of the bits of a set that is not empty. */
static int pick_bit(SimtMachine *m, uint32_t set)
{
    if (m->opt.order == SIMT_FORWARD)
        return __builtin_ctz(set);
    if (m->opt.order == SIMT_REVERSE)
        return 31 - __builtin_clz(set);
    const uint32_t k = random_below(m, 32), turned = k ? set >> k | set << (32 - k) : set;
    return (int)((uint32_t)__builtin_ctz(turned) + k) & 31;
}

/* A block with a warp that can run, another than `here` if there is one; NULL: none. */
static SimtBlock *pick_block(SimtMachine *m)
{
    const int n = m->nslot, step = m->opt.order == SIMT_REVERSE ? n - 1 : 1;
    int i = (int)(m->here - m->block);
    if (m->opt.order == SIMT_SEEDED)
        i = (int)random_below(m, (uint32_t)n);
    for (int k = 0; k < n; k++) {
        i = (i + step) % n;
        if (m->block[i].ready)
            return &m->block[i];
    }
    return NULL;
}

/* The lane that goes on, with m->here and m->warp set to where it is; NULL: none can. */
static SimtLane *pick(SimtMachine *m, bool elsewhere)
{
    if (elsewhere || !m->here->warp[m->warp].runnable || coin(m)) {
        SimtBlock *b =
            !elsewhere && m->here->ready && m->opt.order != SIMT_SEEDED ? m->here : pick_block(m);
        if (!b)
            return NULL;
        m->here = b;
        m->warp = pick_bit(m, b->ready);
    }
    return &m->here->lane[m->warp * SIMT_WARP + pick_bit(m, m->here->warp[m->warp].runnable)];
}

static void lane_main(void *arg);

static void go(SimtMachine *m, SimtLane *to)
{
    SimtFiber *from = m->fiber;
    m->lane = to;
    m->rt.lane = &to->id;
    if (!to->fiber)
        to->fiber = simt_fiber_take(m->pool, lane_main, m);
    if (!to->fiber)
        simt_stop(m, 0, "no memory for the thread's stack");
    m->fiber = to->fiber;
    simt_fiber_switch(from, to->fiber);
}

static void deadlock(SimtMachine *m)
{
    char text[400] = "";
    int n = 0, shown = 0, last = -1;
    for (int s = 0; s < m->nslot; s++)
        for (int t = 0; t < m->threads && m->block[s].live; t++) {
            const SimtBlock *b = &m->block[s];
            const SimtWarp *w = &b->warp[t / SIMT_WARP];
            const uint32_t bit = 1u << t % SIMT_WARP;
            if (!(w->alive & bit) || b->lane[t].line == last || shown == 4 || n > 320)
                continue;
            last = b->lane[t].line;
            shown++;
            n += snprintf(text + n, sizeof text - (size_t)n,
                          "; block %d thread %d waits in a %s at "
                          "line %d",
                          b->bid, t, w->posted & bit ? "shuffle" : "barrier", last);
        }
    simt_stop(m, m->lane->line, "no thread can go on%s", text);
}

static void to_host(SimtMachine *m)
{
    SimtFiber *from = m->fiber;
    m->fiber = simt_fiber_host(m->pool);
    simt_fiber_switch(from, m->fiber);
}

void simt_wait(SimtMachine *m)
{
    const uint32_t warp = m->here->warp[m->warp].runnable;
    SimtLane *me = m->lane;
    SimtLane *next = warp && m->opt.order == SIMT_FORWARD /* by far the most frequent case */
                         ? &m->here->lane[m->warp * SIMT_WARP + __builtin_ctz(warp)]
                         : pick(m, false);
    if (!next)
        deadlock(m);
    else if (next != me)
        go(m, next);
}

void simt_turn(SimtMachine *m)
{
    SimtLane *me = m->lane;
    if (m->opt.order != SIMT_SEEDED && m->nslot == 1)
        return;
    SimtLane *next = pick(m, true);
    if (next && next != me)
        go(m, next);
}

void simt_wake(SimtBlock *b, int warp, uint32_t lanes)
{
    b->warp[warp].runnable |= lanes;
    if (lanes)
        b->ready |= 1u << warp;
}

void simt_stop(SimtMachine *m, int line, const char *fmt, ...)
{
    char at[24] = "";
    if (m->failed)
        return;
    if (!line && m->pc && m->kernel)
        line = simt_code_line(m->kernel->code, m->pc, m->rt.line);
    if (!line && !m->pc)
        line = m->line;
    m->failed = true;
    if (line)
        snprintf(at, sizeof at, ":%d", line);
    int n = snprintf(m->msg, sizeof m->msg,
                     "simt: %.200s%s: ", m->kernel ? m->kernel->name : "a copy", at);
    if (m->lane)
        n += snprintf(m->msg + n, sizeof m->msg - (size_t)n,
                      "block %d thread %d: ", m->lane->id.bid, m->lane->id.tid);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(m->msg + n, sizeof m->msg - (size_t)n, fmt, ap);
    va_end(ap);
    m->lane = NULL;
    if (m->fiber != simt_fiber_host(m->pool))
        to_host(m);
}

/* ------------------------------------------------------------ blocks and threads */

static void block_begin(SimtMachine *m, SimtBlock *b)
{
    const int bid = m->at;
    m->at = (int)(((int64_t)m->at + m->stride) % m->nblocks);
    m->begun++;
    m->live++;
    b->bid = bid;
    b->live = m->threads;
    b->bar = BAR_NONE;
    b->nbar = 0;
    b->ready = 0;
    simt_shadow_block(m, b);
    memset(b->smem - SIMT_SMEM_ZONE, POISON, (size_t)m->smem + 2 * SIMT_SMEM_ZONE);
    for (int w = 0; w < m->warps; w++) {
        const int n = m->threads - w * SIMT_WARP;
        const uint32_t all = n >= SIMT_WARP ? UINT32_MAX : (1u << n) - 1;
        b->warp[w].alive = all;
        b->warp[w].runnable = b->warp[w].posted = b->warp[w].barred = 0;
        b->warp[w].meeting[b->warp[w].turn].value[SIMT_WARP + 1] = 0;
        simt_wake(b, w, all);
    }
    for (int t = 0; t < m->threads; t++)
        b->lane[t] = (SimtLane){ .id = { t, bid, m->nblocks, b->smem } };
}

static bool is_poison(const unsigned char *p, size_t n)
{
    return p[0] == POISON && memcmp(p, p + 1, n - 1) == 0;
}

static void block_end(SimtMachine *m, SimtBlock *b)
{
    const unsigned char *zone[] = { b->smem - SIMT_SMEM_ZONE, b->smem + m->smem };
    m->live--;
    for (int z = 0; z < 2; z++)
        for (int i = 0; !is_poison(zone[z], SIMT_SMEM_ZONE) && i < SIMT_SMEM_ZONE; i++)
            if (zone[z][i] != POISON)
                simt_stop(m, 0, "the block wrote shared memory at byte %td, of %d",
                          zone[z] + i - b->smem, m->smem);
    if (m->begun < m->nblocks)
        block_begin(m, b);
}

void simt_widen(SimtMachine *m)
{
    while (m->nslot < m->opt.resident && m->begun < m->nblocks)
        block_begin(m, &m->block[m->nslot++]);
}

/* The running thread has left the kernel. */
static void lane_gone(SimtMachine *m)
{
    SimtBlock *b = m->here;
    SimtWarp *w = &b->warp[m->warp];
    const uint32_t bit = 1u << m->lane->id.tid % SIMT_WARP;
    m->pc = NULL;
    m->line = 0;
    if (b->nbar)
        simt_stop(m, b->bar_line, "the thread has left the kernel while %d wait at this barrier",
                  b->nbar);
    if (w->posted)
        simt_stop(m, w->line,
                  "the thread has left the kernel while its warp waits in this shuffle");
    w->alive &= ~bit;
    w->runnable &= ~bit;
    if (!w->runnable)
        b->ready &= ~(1u << m->warp);
    if (--b->live == 0)
        block_end(m, b);
}

static void lane_main(void *arg)
{
    SimtMachine *m = arg;
    for (;;) {
        m->kernel->entry(m->arg);
        lane_gone(m);
        SimtLane *next = pick(m, false);
        if (next && !next->fiber) { /* on this stack */
            next->fiber = m->fiber;
            m->lane = next;
            m->rt.lane = &next->id;
            continue;
        }
        if (!next && m->live)
            deadlock(m);
        m->lane = NULL;
        simt_fiber_leave(m->pool, m->fiber);
        if (next)
            go(m, next);
        to_host(m);
    }
}

/* ------------------------------------------------------------ launches */

/* The order in which blocks begin: all of them, by a step that has no divisor of their number. */
static void order_blocks(SimtMachine *m)
{
    const int n = m->nblocks;
    m->at = m->opt.order == SIMT_REVERSE ? n - 1 : 0;
    m->stride = m->opt.order == SIMT_REVERSE ? n - 1 : 1;
    if (m->opt.order == SIMT_SEEDED && n > 2) {
        int a = 0, b = 1;
        m->at = (int)random_below(m, (uint32_t)n);
        do {
            m->stride = 1 + (int)random_below(m, (uint32_t)n - 1);
            for (a = n, b = m->stride; b;) {
                const int rest = a % b;
                a = b;
                b = rest;
            }
        } while (a != 1);
    }
}

static Status check(Ctx *cx, const SimtMachine *m, const SimtLaunch *l)
{
    const char *name = l->kernel->name;
    if (l->blocks < 1 || l->blocks > INT32_MAX)
        return FAIL(cx, INTERNAL, "simt: %s: %lld blocks", name, (long long)l->blocks);
    if (l->threads < 1 || l->threads > SIMT_MAX_THREADS)
        return FAIL(cx, INTERNAL, "simt: %s: blocks of %d threads", name, l->threads);
    if (l->smem < 0 || l->smem > SIMT_MAX_SMEM)
        return FAIL(cx, INTERNAL, "simt: %s: %d bytes of shared memory", name, l->smem);
    if (l->cooperative && l->blocks > m->opt.resident)
        return FAIL(cx, INTERNAL, "simt: %s: %lld blocks of a cooperative launch, %d fit", name,
                    (long long)l->blocks, m->opt.resident);
    return ST_OK;
}

Status simt_launch(Ctx *cx, SimtMachine *m, const SimtLaunch *l)
{
    TRY(check(cx, m, l));
    gtc_assert(m->shadow.op || !m->opt.shadow, "%s: a launch before simt_op_begin",
               l->kernel->name);
    m->kernel = l->kernel;
    m->arg = l->arg;
    m->threads = l->threads;
    m->warps = (l->threads + SIMT_WARP - 1) / SIMT_WARP;
    m->smem = l->smem;
    m->nblocks = (int)l->blocks;
    m->cooperative = l->cooperative;
    m->failed = false;
    m->fault = SIMT_FAULT_OTHER;
    m->pc = NULL;
    m->line = 0;
    m->begun = m->live = m->nslot = m->grid_waiting = m->ncounter = 0;
    m->grid_counter = NULL;
    simt_pool_reset(m->pool);
    simt_shadow_launch(m);
    order_blocks(m);
    m->lane = NULL;
    block_begin(m, &m->block[m->nslot++]);
    if (l->cooperative || l->kernel->meets)
        simt_widen(m);
    m->here = m->opt.order == SIMT_REVERSE ? &m->block[m->nslot - 1] : m->block;
    m->warp = pick_bit(m, m->here->ready);
    go(m, pick(m, false));
    m->lane = NULL;
    simt_sync_end(m);
    return m->failed ? FAIL(cx, INTERNAL, "%s", m->msg) : ST_OK;
}

/* ------------------------------------------------------------ the machine */

/* Slots for as many blocks of any size as can be under way; what is not used costs nothing. */
static Status slots_create(Ctx *cx, SimtMachine *m)
{
    const size_t n = (size_t)m->opt.resident;
    const size_t stride = (SIMT_MAX_SMEM / SIMT_SMEM_ZONE + 3) * SIMT_SMEM_ZONE;
    TRY(simt_pool_create(cx, m->opt.resident * SIMT_MAX_THREADS, &m->pool));
    m->stacks = simt_pool_stacks(m->pool, &m->stack_bytes);
    m->fiber = simt_fiber_host(m->pool);
    m->block = calloc(n, sizeof *m->block);
    m->lanes = calloc(n * SIMT_MAX_THREADS, sizeof *m->lanes);
    m->warp_store = calloc(n * SIMT_MAX_THREADS / SIMT_WARP, sizeof *m->warp_store);
    m->smem_bytes = n * stride;
    m->smem_store = aligned_alloc(SIMT_SMEM_ZONE, m->smem_bytes);
    if (!m->block || !m->lanes || !m->warp_store || !m->smem_store)
        return FAIL(cx, MEMORY, "simt: no memory for %zu blocks", n);
    for (size_t i = 0; i < n; i++) {
        m->block[i].lane = m->lanes + i * SIMT_MAX_THREADS;
        m->block[i].warp = m->warp_store + i * (SIMT_MAX_THREADS / SIMT_WARP);
        m->block[i].smem = m->smem_store + i * stride + SIMT_SMEM_ZONE;
    }
    return ST_OK;
}

Status simt_create(Ctx *cx, const SimtOptions *opt, SimtMachine **out)
{
    SimtMachine *m = *out = calloc(1, sizeof *m);
    if (!m)
        return FAIL(cx, MEMORY, "simt: no memory for the machine");
    m->opt = *opt;
    if (m->opt.resident < 1)
        m->opt.resident = RESIDENT;
    if (!m->opt.memory)
        m->opt.memory = MEMORY;
    m->rng = opt->seed * 2654435761u + 88172645u;
    m->rng += !m->rng;
    simt_sync_fill(&m->rt);
    Status s = slots_create(cx, m);
    if (s == ST_OK)
        s = simt_memory_init(cx, &m->memory, m->opt.memory);
    if (s == ST_OK)
        s = simt_shadow_init(cx, m);
    if (s != ST_OK) {
        simt_destroy(m);
        *out = NULL;
        return s;
    }
    return ST_OK;
}

void simt_destroy(SimtMachine *m)
{
    if (!m)
        return;
    for (int i = 0; i < m->opt.resident && m->block; i++)
        free(m->block[i].clock.known);
    free(m->block);
    free(m->lanes);
    free(m->warp_store);
    free(m->smem_store);
    free(m->counter);
    simt_pool_destroy(m->pool);
    simt_shadow_free(m);
    simt_memory_free(&m->memory);
    free(m);
}

SimtFault simt_fault(const SimtMachine *m)
{
    return m->fault;
}
