/* SPDX-License-Identifier: Apache-2.0 */
/* simt_sync: what threads of a kernel ask of each other, on the part of the lane that runs.
 *
 * Each function notes that the lane waits, lets others run, and when the last one has come does
 * what all wait for.  It is strict where a device is not: lanes of one warp that wait at different
 * lines, or in a shuffle and at a barrier, are a mistake even if a device would get by. */
#include <stdlib.h>

#include "runtime/simt_machine.h"

static SimtMachine *machine(SimtTable *rt)
{
    return (SimtMachine *)(void *)rt; /* its first member */
}

/* The running lane stops being one that can run. */
static void sleep_lane(SimtMachine *m, uint32_t bit)
{
    SimtWarp *w = &m->here->warp[m->warp];
    w->runnable &= ~bit;
    if (!w->runnable)
        m->here->ready &= ~(1u << m->warp);
}

static uint32_t lane_bit(const SimtMachine *m)
{
    return 1u << m->lane->id.tid % SIMT_WARP;
}

/* ------------------------------------------------------------ barriers */

static void block_wake(SimtMachine *m, SimtBlock *b)
{
    b->nbar = 0;
    b->bar = BAR_NONE;
    for (int i = 0; i < m->warps; i++) {
        b->warp[i].barred = 0;
        simt_wake(b, i, b->warp[i].alive);
    }
}

/* The lane arrives; whether it is its block's last. */
static bool arrive(SimtMachine *m, SimtBar bar, int line)
{
    SimtBlock *b = m->here;
    SimtWarp *w = &b->warp[m->warp];
    const uint32_t bit = lane_bit(m);
    m->pc = NULL;
    m->line = m->lane->line = line;
    if (w->posted)
        simt_stop(m, line, "a barrier, while the warp's lane %d waits in the shuffle at line %d",
                  __builtin_ctz(w->posted), w->line);
    if (b->live != m->threads)
        simt_stop(m, line, "a barrier, when %d of the block's threads have left the kernel",
                  m->threads - b->live);
    if (b->nbar && (b->bar_line != line || b->bar != bar))
        simt_stop(m, line, "a barrier, while %d threads wait at another one, at line %d", b->nbar,
                  b->bar_line);
    b->bar = bar;
    b->bar_line = line;
    b->nbar++;
    w->barred |= bit;
    sleep_lane(m, bit);
    return b->nbar == b->live;
}

static void bar(SimtTable *rt, int line)
{
    SimtMachine *m = machine(rt);
    if (!arrive(m, BAR_BLOCK, line)) {
        simt_wait(m);
        return;
    }
    simt_shadow_barrier(m, m->here);
    block_wake(m, m->here);
    simt_turn(m);
}

static void grid_bar(SimtTable *rt, uint32_t *counter, int line)
{
    SimtMachine *m = machine(rt);
    m->pc = NULL;
    m->line = line;
    if (!m->cooperative)
        simt_stop(m, line, "the grid's barrier in a launch that is not cooperative");
    if (!simt_inside(m, counter, sizeof *counter))
        simt_stop(m, line, "the grid's counter is no device memory");
    if (m->grid_waiting && m->grid_counter != counter)
        simt_stop(m, line, "blocks wait at different counters of the grid");
    if (*counter % (uint32_t)m->nblocks)
        simt_stop(m, line, "the grid's counter is %u, no multiple of %d blocks", *counter,
                  m->nblocks);
    if (m->begun > m->live)
        simt_stop(m, line, "the grid's barrier, when %d blocks have ended", m->begun - m->live);
    m->grid_counter = counter;
    if (!arrive(m, BAR_GRID, line) || ++m->grid_waiting < m->nblocks) {
        simt_wait(m);
        return;
    }
    *counter += (uint32_t)m->nblocks;
    m->grid_waiting = 0;
    simt_shadow_grid(m);
    for (int i = 0; i < m->nslot; i++)
        block_wake(m, &m->block[i]);
    simt_turn(m);
}

/* ------------------------------------------------------------ shuffles */

/* The lane gives a value and waits for the others of its warp; what all have given stays until the
 * lane comes to the next shuffle, because that one uses the other meeting. */
static uint64_t *meet(SimtTable *rt, uint64_t v, int line)
{
    SimtMachine *m = machine(rt);
    SimtWarp *w = &m->here->warp[m->warp];
    const int lane = m->lane->id.tid % SIMT_WARP;
    const uint32_t bit = 1u << lane;
    uint64_t *value = w->meeting[w->turn].value;
    m->pc = NULL;
    m->line = m->lane->line = line;
    if (w->alive != UINT32_MAX)
        simt_stop(m, line, "a shuffle, when lane %d of the warp is not there",
                  __builtin_ctz(~w->alive));
    if (w->barred)
        simt_stop(m, line, "a shuffle, while the warp's lane %d waits at the barrier at line %d",
                  __builtin_ctz(w->barred), m->here->bar_line);
    if (w->posted && w->line != line)
        simt_stop(m, line, "a shuffle, while the warp's lane %d waits in another one, at line %d",
                  __builtin_ctz(w->posted), w->line);
    w->line = line;
    w->posted |= bit;
    value[lane] = v;
    if (w->posted != w->alive) {
        sleep_lane(m, bit);
        simt_wait(m);
        return value;
    }
    w->posted = 0;
    w->turn ^= 1;
    w->meeting[w->turn].value[SIMT_WARP + 1] = 0;
    simt_wake(m->here, m->warp, w->alive);
    if (m->opt.order == SIMT_SEEDED)
        simt_turn(m);
    return value;
}

static uint32_t shfl_xor(SimtTable *rt, uint32_t v, int mask, int line)
{
    SimtMachine *m = machine(rt);
    const int lane = m->lane->id.tid % SIMT_WARP;
    if (mask < 0 || mask >= SIMT_WARP)
        simt_stop(m, line, "a shuffle with mask %d", mask);
    return (uint32_t)meet(rt, v, line)[lane ^ mask];
}

/* ------------------------------------------------------------ counters */

static SimtCounter *counter_of(SimtMachine *m, uint32_t *at, int n, int line)
{
    for (int i = 0; i < m->ncounter; i++)
        if (m->counter[i].at == at)
            return &m->counter[i];
    if (m->ncounter == m->counter_cap) {
        const int cap = m->counter_cap ? 2 * m->counter_cap : 16;
        SimtCounter *more = realloc(m->counter, (size_t)cap * sizeof *more);
        if (!more)
            simt_stop(m, line, "no memory for %d counters", cap);
        m->counter = more;
        m->counter_cap = cap;
    }
    m->counter[m->ncounter] = (SimtCounter){ .at = at, .n = n, .line = line, .last_bid = -1 };
    return &m->counter[m->ncounter++];
}

static int last_of(SimtTable *rt, uint32_t *at, int n, int line)
{
    SimtMachine *m = machine(rt);
    m->pc = NULL;
    m->line = line;
    if (!simt_inside(m, at, sizeof *at))
        simt_stop(m, line, "the counter is no device memory");
    SimtCounter *c = counter_of(m, at, n, line);
    if (n < 1 || n != c->n)
        simt_stop(m, line, "gtc_last_of %d, after one of %d", n, c->n);
    if (c->last_bid == m->here->bid && c->last_epoch == m->here->clock.epoch)
        simt_stop(m, line, "gtc_last_of by a second thread of the block");
    if (*at >= (uint32_t)n)
        simt_stop(m, line, "the counter is %u of %d: it was not 0 before the launch", *at, n);
    c->last_bid = m->here->bid;
    c->last_epoch = m->here->clock.epoch;
    simt_shadow_arrive(m, c);
    const bool last = *at == (uint32_t)n - 1;
    *at = last ? 0 : *at + 1;
    if (last)
        simt_shadow_last(m, c);
    m->kernel->meets = true;
    simt_widen(m);
    simt_turn(m);
    return last;
}

void simt_sync_end(SimtMachine *m)
{
    for (int i = 0; i < m->ncounter; i++) {
        const SimtCounter *c = &m->counter[i];
        if (!m->failed && *c->at != 0)
            simt_stop(m, c->line, "gtc_last_of %d: the counter is left at %u after the launch",
                      c->n, *c->at);
        free(c->arrived);
    }
    m->ncounter = 0;
}

/* ------------------------------------------------------------ memory */

static void misaligned(SimtTable *rt, const void *p, int bytes, int line)
{
    SimtMachine *m = machine(rt);
    m->fault = SIMT_FAULT_ALIGNMENT;
    simt_stop(m, line, "an access of %d bytes at %p, no multiple of them", bytes, p);
}

static void touch(SimtTable *rt, const void *p, int bytes, int kind, const void *pc)
{
    SimtMachine *m = machine(rt);
    const int align = bytes < 8 ? bytes : 8;
    m->pc = pc;
    if (!(kind & 2) && (uintptr_t)p & (uintptr_t)(align - 1)) {
        m->fault = SIMT_FAULT_ALIGNMENT;
        simt_stop(m, 0, "an access of %d bytes at %p, no multiple of %d", bytes, p, align);
    }
    if (m->opt.shadow)
        simt_shadow_access(m, p, (size_t)bytes, kind & 1);
}

void simt_sync_fill(SimtTable *rt)
{
    *rt = (SimtTable){ .bar = bar,
                       .shfl_xor = shfl_xor,
                       .meet = meet,
                       .last_of = last_of,
                       .grid_bar = grid_bar,
                       .misaligned = misaligned,
                       .access = touch };
}
