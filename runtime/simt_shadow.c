/* SPDX-License-Identifier: Apache-2.0 */
/* simt_shadow: races, hazards between kernels, and accesses out of bounds.
 *
 * A kernel compiled with -fsanitize=thread calls a hook before each load and store.  It ends here,
 * where every 4 bytes of device and shared memory have a cell with two stamps: of the last write,
 * and of the last read.  A stamp says which op (launch, copy, fill), block and thread it was, in
 * which epoch of the block (the count of barriers that it has passed), and which of the 4 bytes; so
 * neighbours of one byte or two do not disturb each other.
 *
 * An access races with a stamp unless the stamp is ordered before it:
 *   by another op      the driver says which ops are ordered before this one (streams, events, and
 *                      the edges of a graph);
 *   by this block      it was this thread, or a barrier lies between (the epochs differ);
 *   by another block   the grid has met since (floor[block] is above the epoch), or this block was
 *                      the last at a counter where that block arrived later than the stamp
 *                      (known[block]).
 * A shuffle orders nothing, as on the device.
 *
 * What has never been written must not be read: shared memory since its block began (an empty
 * cell), device memory since it was allocated (a bit for each granule, which outlives the stamps).
 *
 * One read stamp is enough as long as reads are ordered; where they are not, it becomes "many
 * threads of the block" or "many blocks".  What that loses is precision about who it was, and, for
 * reads by unordered ops, all but the last of them.  There are no false alarms. */
#include "runtime/simt_machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    MASK_BITS = 4,
    EPOCH_AT = MASK_BITS,
    EPOCH_BITS = 19,
    THREAD_AT = EPOCH_AT + EPOCH_BITS,
    THREAD_BITS = 11,
    BLOCK_AT = THREAD_AT + THREAD_BITS,
    BLOCK_BITS = 16,
    OP_AT = BLOCK_AT + BLOCK_BITS,
    GRANULE = 4,
    MANY = SIMT_MAX_THREADS, /* threads of the block */
    MANY_BLOCKS,
};
_Static_assert(1 << (64 - OP_AT) == SIMT_MAX_OPS, "an op's number fits a stamp");

/* The stamp of a write before all ops that have numbers. */
static const SimtStamp EARLIER = (1 << MASK_BITS) - 1;

#define FIELD(s, name)  ((uint32_t)((s) >> name##_AT & ((1ull << name##_BITS) - 1)))
#define OP_OF(s)        ((int)((s) >> OP_AT))
#define MASK(s)         ((uint32_t)((s) & ((1u << MASK_BITS) - 1)))
#define SAME(s, t)      (((s) ^ (t)) >> MASK_BITS == 0)
#define BLOCK_MASK      ((1u << BLOCK_BITS) - 1)
#define KNOWN(epoch, t) ((epoch) << THREAD_BITS | (uint32_t)(t))

static SimtStamp stamp(int op, int block, uint32_t thread, uint32_t epoch)
{
    return (SimtStamp)(unsigned)op << OP_AT |
           (SimtStamp)((unsigned)block & BLOCK_MASK) << BLOCK_AT | (SimtStamp)thread << THREAD_AT |
           (SimtStamp)epoch << EPOCH_AT;
}

/* ------------------------------------------------------------ order */

/* Whether this thread of the block knows what a counter taught it. */
static bool has_learnt(const SimtClock *c, int thread)
{
    return c->known && (c->learnt != c->epoch || c->learner == thread || c->knew);
}

static bool is_before(const SimtMachine *m, SimtStamp s, SimtStamp me)
{
    const SimtShadow *sh = &m->shadow;
    if (OP_OF(s) != OP_OF(me))
        return sh->before[OP_OF(s)];
    const uint32_t epoch = FIELD(s, EPOCH), thread = FIELD(s, THREAD), block = FIELD(s, BLOCK);
    if (block == FIELD(me, BLOCK) && thread != MANY_BLOCKS)
        return epoch != FIELD(me, EPOCH) || thread == FIELD(me, THREAD);
    if (!m->lane)
        return true; /* a copy has but one thread */
    const SimtClock *clock = &m->here->clock;
    const bool learnt = has_learnt(clock, m->lane->id.tid);
    if (thread == MANY_BLOCKS)
        return epoch < sh->grid_epoch || learnt;
    if (epoch < sh->floor[block])
        return true;
    if (!learnt)
        return false;
    const uint32_t known = clock->known[block], upto = known >> THREAD_BITS;
    return epoch < upto || (epoch == upto && known != 0 && thread == (known & (2 * MANY - 1)));
}

/* ------------------------------------------------------------ reports */

static void who(const SimtMachine *m, SimtStamp s, SimtStamp me, char *out, size_t cap)
{
    const uint32_t thread = FIELD(s, THREAD);
    if (OP_OF(s) != OP_OF(me))
        snprintf(out, cap, "%s", m->shadow.name[OP_OF(s)].text);
    else if (thread == MANY_BLOCKS)
        snprintf(out, cap, "another block");
    else if (FIELD(s, BLOCK) != FIELD(me, BLOCK))
        snprintf(out, cap, "block %u", FIELD(s, BLOCK));
    else if (thread == MANY)
        snprintf(out, cap, "another thread");
    else
        snprintf(out, cap, "thread %u", thread);
}

static void place(const SimtMachine *m, const void *p, char *out, size_t cap)
{
    if ((size_t)((const unsigned char *)p - m->smem_store) < m->smem_bytes)
        snprintf(out, cap, "shared memory at byte %td", (const unsigned char *)p - m->here->smem);
    else
        simt_memory_where(&m->memory, p, out, cap);
}

static void race(SimtMachine *m, const void *p, SimtStamp s, SimtStamp me, const char *does,
                 const char *did)
{
    char other[80], where[160];
    who(m, s, me, other, sizeof other);
    place(m, p, where, sizeof where);
    const char *lacks = OP_OF(s) != OP_OF(me) ? "nothing orders the two"
                        : FIELD(s, BLOCK) != FIELD(me, BLOCK) || FIELD(s, THREAD) == MANY_BLOCKS
                            ? "the blocks have not met since"
                            : "no barrier lies between";
    simt_stop(m, 0, "%s %s, which %s %s, and %s", does, where, other, did, lacks);
}

/* ------------------------------------------------------------ one cell */

static void set_written(const SimtMachine *m, const SimtCell *c)
{
    const size_t i = (size_t)(c - m->shadow.cell);
    m->shadow.written[i / 64] |= 1ull << i % 64;
}

static bool is_written(const SimtMachine *m, const SimtCell *c)
{
    const size_t i = (size_t)(c - m->shadow.cell);
    return m->shadow.written[i / 64] >> i % 64 & 1;
}

/* A read of an empty cell: of what was written before the stamps were forgotten, or never. */
static void first_read(SimtMachine *m, SimtCell *c, const void *p, bool shared)
{
    char where[160];
    if (!shared && (!m->lane || is_written(m, c))) {
        c->w = EARLIER;
        return;
    }
    place(m, p, where, sizeof where);
    simt_stop(m, 0, "reads %s, which nothing has written", where);
}

static void cell_read(SimtMachine *m, SimtCell *c, const void *p, SimtStamp me)
{
    const SimtStamp w = c->w, r = c->r;
    if (w && MASK(w) & MASK(me) && !is_before(m, w, me))
        race(m, p, w, me, "reads", "wrote");
    if (!r)
        c->r = me;
    else if (SAME(r, me))
        c->r = r | me;
    else if (is_before(m, r, me) || OP_OF(r) != OP_OF(me))
        c->r = me;
    else if (FIELD(r, BLOCK) == FIELD(me, BLOCK) && FIELD(r, THREAD) != MANY_BLOCKS)
        c->r = stamp(OP_OF(me), (int)FIELD(me, BLOCK), MANY, FIELD(me, EPOCH)) | MASK(r | me);
    else
        c->r = (m->shadow.many_blocks & ~(SimtStamp)15) | MASK(r | me);
}

static void cell_write(SimtMachine *m, SimtCell *c, const void *p, bool shared, SimtStamp me)
{
    const SimtStamp w = c->w, r = c->r;
    if (!w && !shared)
        set_written(m, c);
    if (w && SAME(w, me)) {
        c->w = w | me;
    } else {
        if (w && MASK(w) & MASK(me) && !is_before(m, w, me))
            race(m, p, w, me, "writes", "wrote");
        c->w = me;
    }
    if (r && MASK(r) & MASK(me)) {
        if (!is_before(m, r, me))
            race(m, p, r, me, "writes", "read");
        if (!(MASK(r) & ~MASK(me)))
            c->r = 0;
    }
}

/* The cells of p .. p + bytes, the first of which is c. */
static void cells(SimtMachine *m, SimtCell *c, const char *p, size_t bytes, bool write,
                  SimtStamp me, bool shared)
{
    while (bytes && !m->failed) {
        const size_t in = (uintptr_t)p % GRANULE, n = bytes < GRANULE - in ? bytes : GRANULE - in;
        const SimtStamp now = me | ((1u << n) - 1) << in;
        if (shared && c->w && c->w >> BLOCK_AT != me >> BLOCK_AT)
            *c = (SimtCell){ 0 }; /* of the block that had this slot before */
        if (!write && !c->w)
            first_read(m, c, p, shared);
        if (write)
            cell_write(m, c, p, shared, now);
        else
            cell_read(m, c, p, now);
        p += n;
        bytes -= n;
        c++;
    }
}

/* ------------------------------------------------------------ an access */

static SimtStamp stamp_now(const SimtMachine *m)
{
    if (!m->lane)
        return stamp(m->shadow.op, 0, 0, 0);
    return stamp(m->shadow.op, m->here->bid, (uint32_t)m->lane->id.tid, m->here->clock.epoch);
}

/* Whether a stamp of me's op and block is ordered before me. */
static inline bool is_earlier(SimtStamp s, SimtStamp me)
{
    return FIELD(s ^ me, EPOCH) || SAME(s, me);
}

/* What cell_read and cell_write do in the cases that are nearly all there are, of a whole granule
 * and with nothing to complain about; false: they must do it. */
static inline bool quick(const SimtMachine *m, SimtCell *c, bool write, SimtStamp me, bool shared)
{
    const SimtStamp w = c->w, r = c->r;
    if (!write && r == me)
        return true;
    if (!w || ((w ^ me) >> BLOCK_AT ? shared || !((w ^ me) >> OP_AT && m->shadow.before[OP_OF(w)])
                                    : !is_earlier(w, me)))
        return false;
    const bool mine = !((r ^ me) >> BLOCK_AT), passed = mine && is_earlier(r, me);
    if (write) {
        if (r && !passed)
            return false;
        c->w = me;
        c->r = 0;
        return true;
    }
    if (!r || passed) {
        c->r = me;
        return true;
    }
    if (mine)
        return FIELD(r, THREAD) == MANY && !FIELD(r ^ me, EPOCH) && MASK(r) == MASK(me);
    return r == m->shadow.many_blocks;
}

static void watch(SimtMachine *m, SimtCell *c, const char *p, size_t bytes, bool write, bool shared)
{
    const SimtStamp me = stamp_now(m);
    if (bytes == GRANULE && (uintptr_t)p % GRANULE == 0 && quick(m, c, write, me | 15, shared))
        return;
    cells(m, c, p, bytes, write, me, shared);
}

static __attribute__((noinline)) void out_of_bounds(SimtMachine *m, const void *p, size_t bytes,
                                                    bool write)
{
    char where[160];
    m->fault = SIMT_FAULT_BOUNDS;
    simt_stop(m, 0, "%s %zu bytes at %s", write ? "writes" : "reads", bytes,
              simt_memory_where(&m->memory, p, where, sizeof where));
}

static __attribute__((noinline)) void beyond_shared(SimtMachine *m, const void *p, size_t bytes,
                                                    bool write)
{
    simt_stop(m, 0, "%s %zu bytes of shared memory at byte %td, of %d", write ? "writes" : "reads",
              bytes, (const unsigned char *)p - m->here->smem, m->smem);
}

void simt_shadow_access(SimtMachine *m, const void *ptr, size_t bytes, bool write)
{
    const char *p = ptr;
    const size_t shared = (size_t)((const unsigned char *)p - m->smem_store);
    if (shared < m->smem_bytes) {
        const size_t off = (size_t)((const unsigned char *)p - m->here->smem);
        if (off >= (size_t)m->smem || bytes > (size_t)m->smem - off)
            beyond_shared(m, p, bytes, write);
        watch(m, m->shadow.shared + shared / GRANULE, p, bytes, write, true);
        return;
    }
    const size_t global = (size_t)(p - m->memory.base);
    if (global < m->memory.top) {
        if (!simt_inside(m, p, bytes))
            out_of_bounds(m, p, bytes, write);
        else
            watch(m, m->shadow.cell + global / GRANULE, p, bytes, write, false);
        return;
    }
    if ((size_t)(p - m->stacks) < m->stack_bytes)
        return; /* a thread's own */
    if (!write && m->kernel && simt_code_holds(m->kernel->code, p))
        return;
    out_of_bounds(m, p, bytes, write);
}

/* ------------------------------------------------------------ ops, launches, blocks, meetings */

static void *reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

Status simt_shadow_init(Ctx *cx, SimtMachine *m)
{
    SimtShadow *sh = &m->shadow;
    if (!m->opt.shadow)
        return ST_OK;
    sh->bytes = m->memory.bytes / GRANULE * sizeof *sh->cell;
    sh->cell = reserve(sh->bytes);
    sh->shared = reserve(m->smem_bytes / GRANULE * sizeof *sh->shared);
    sh->written = reserve(m->memory.bytes / GRANULE / 8);
    sh->floor = calloc((size_t)BLOCK_MASK + 1, sizeof *sh->floor);
    sh->before = calloc(SIMT_MAX_OPS, 1);
    sh->name = calloc(SIMT_MAX_OPS, sizeof *sh->name);
    if (sh->before)
        sh->before[0] = true; /* EARLIER, before the first op */
    return sh->cell && sh->shared && sh->written && sh->floor && sh->before && sh->name
               ? ST_OK
               : FAIL(cx, MEMORY, "simt: no memory for the shadow");
}

void simt_shadow_free(SimtMachine *m)
{
    SimtShadow *sh = &m->shadow;
    if (sh->cell)
        munmap(sh->cell, sh->bytes);
    if (sh->written)
        munmap(sh->written, m->memory.bytes / GRANULE / 8);
    if (sh->shared)
        munmap(sh->shared, m->smem_bytes / GRANULE * sizeof *sh->shared);
    free(sh->floor);
    free(sh->before);
    free(sh->name);
    *sh = (SimtShadow){ 0 };
}

void simt_shadow_fresh(SimtMachine *m, const void *p, size_t bytes)
{
    const size_t first = (size_t)((const char *)p - m->memory.base) / GRANULE;
    if (!m->opt.shadow)
        return;
    memset(m->shadow.cell + first, 0, bytes / GRANULE * sizeof *m->shadow.cell);
    memset(m->shadow.written + first / 64, 0, bytes / GRANULE / 8); /* whole words */
}
_Static_assert(SIMT_ALIGN % (64 * GRANULE) == 0, "an allocation has words of its own");

void simt_op_reset(SimtMachine *m)
{
    SimtShadow *sh = &m->shadow;
    sh->op = 0;
    if (!m->opt.shadow)
        return;
    madvise(sh->cell, m->memory.top / GRANULE * sizeof *sh->cell, MADV_DONTNEED); /* zeros again */
    madvise(sh->shared, m->smem_bytes / GRANULE * sizeof *sh->shared, MADV_DONTNEED);
}

void simt_op_begin(SimtMachine *m, int op, const char *name, const uint64_t *before)
{
    SimtShadow *sh = &m->shadow;
    gtc_assert(op > 0 && op < SIMT_MAX_OPS, "op %d of %d", op, SIMT_MAX_OPS);
    sh->op = op;
    if (!m->opt.shadow)
        return;
    snprintf(sh->name[op].text, sizeof sh->name[op].text, "%s", name);
    for (int i = 0; i < SIMT_MAX_OPS; i++)
        sh->before[i] = !before || (before[i / 64] >> i % 64 & 1);
    sh->before[0] = true; /* EARLIER */
}

Status simt_op_access(Ctx *cx, SimtMachine *m, const void *p, size_t bytes, bool write)
{
    m->failed = false;
    m->fault = SIMT_FAULT_OTHER;
    m->lane = NULL;
    m->kernel = NULL;
    m->pc = NULL;
    if (!simt_inside(m, p, bytes))
        out_of_bounds(m, p, bytes, write);
    else if (m->opt.shadow)
        simt_shadow_access(m, p, bytes, write);
    return m->failed ? FAIL(cx, INTERNAL, "%s", m->msg) : ST_OK;
}

void simt_shadow_launch(SimtMachine *m)
{
    SimtShadow *sh = &m->shadow;
    if (!m->opt.shadow)
        return;
    if (sh->grid_epoch) /* else none was raised */
        memset(sh->floor, 0, ((size_t)BLOCK_MASK + 1) * sizeof *sh->floor);
    sh->grid_epoch = 0;
    sh->many_blocks = stamp(sh->op, 0, MANY_BLOCKS, 0) | 15;
}

void simt_shadow_block(SimtMachine *m, SimtBlock *b)
{
    (void)m;
    free(b->clock.known);
    b->clock = (SimtClock){ .epoch = 1 };
}

void simt_shadow_barrier(SimtMachine *m, SimtBlock *b)
{
    b->clock.epoch++;
    if (b->clock.epoch >> EPOCH_BITS && m->opt.shadow)
        simt_stop(m, 0, "more than %d barriers in a block: the shadow counts no further",
                  1 << EPOCH_BITS);
}

void simt_shadow_grid(SimtMachine *m)
{
    m->shadow.grid_epoch++;
    m->shadow.many_blocks = stamp(m->shadow.op, 0, MANY_BLOCKS, m->shadow.grid_epoch) | 15;
    for (int i = 0; i < m->nslot; i++) {
        SimtBlock *b = &m->block[i];
        simt_shadow_barrier(m, b);
        if (m->opt.shadow)
            m->shadow.floor[(unsigned)b->bid & BLOCK_MASK] = b->clock.epoch;
    }
}

/* ------------------------------------------------------------ gtc_last_of */

static void join(uint32_t *into, const uint32_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (from[i] > into[i])
            into[i] = from[i];
}

static size_t known_blocks(const SimtMachine *m)
{
    return (size_t)m->nblocks < (size_t)BLOCK_MASK + 1 ? (size_t)m->nblocks
                                                       : (size_t)BLOCK_MASK + 1;
}

void simt_shadow_arrive(SimtMachine *m, SimtCounter *c)
{
    const SimtClock *clock = &m->here->clock;
    const size_t n = known_blocks(m);
    const uint32_t now = KNOWN(clock->epoch, m->lane->id.tid);
    if (!m->opt.shadow)
        return;
    if (!c->arrived)
        c->arrived = calloc(n, sizeof *c->arrived);
    if (!c->arrived)
        simt_stop(m, 0, "the shadow has no memory for the arrivals of %zu blocks", n);
    if (has_learnt(clock, m->lane->id.tid))
        join(c->arrived, clock->known, n);
    join(&c->arrived[(unsigned)m->here->bid & BLOCK_MASK], &now, 1);
}

void simt_shadow_last(SimtMachine *m, SimtCounter *c)
{
    SimtClock *clock = &m->here->clock;
    const size_t n = known_blocks(m);
    if (!m->opt.shadow)
        return;
    clock->knew = clock->known != NULL;
    if (!clock->known)
        clock->known = calloc(n, sizeof *clock->known);
    if (!clock->known)
        simt_stop(m, 0, "the shadow has no memory for the arrivals of %zu blocks", n);
    join(clock->known, c->arrived, n);
    clock->learnt = clock->epoch;
    clock->learner = m->lane->id.tid;
    memset(c->arrived, 0, n * sizeof *c->arrived);
}
