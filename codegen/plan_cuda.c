/* SPDX-License-Identifier: Apache-2.0 */
/* The planner for GPUs, on top of the phases of plan_phase.c.
 *
 * A barrier between phases is another launch.  A phase of one nest is *flat*: the tiles of the nest
 * are shared out over all threads of all blocks, and the fastest axis lies along neighbouring
 * threads, so that what they load and store is contiguous.  Any other phase gives each block of
 * threads a block of its team axis; its nests run one after the other, each shared out over the
 * threads in its own way, and what one hands to the next lies in the block's shared memory (in the
 * launch's workspace where that is too small).  A scan is such a phase: one launch, with the loop
 * over the steps inside, its batch rows spread over the blocks.
 *
 * Attention comes in phases whose numbers of blocks and tiles are told already (plan_strips.c).
 *
 * A reduction is done by one thread a point, tile by tile, when neighbouring threads then read
 * neighbouring elements; by a warp or a whole block, along the reduced axes, when those are what
 * lies together in memory or there are too few points to keep threads busy, unless columns are so
 * long that one thread a point pays, in parts.  A contraction alone in
 * its phase goes in blocks (plan_blocked.c).  Where all points together leave most of the GPU idle,
 * the reduced points are cut into parts, and what is to be done with their sums waits for them all.
 *
 * Who waits is decided at one place, "who finishes".  A launch costs about as much as a few trips
 * to memory, one behind the other.  So where that is enough the last block that comes finishes, in
 * fixed order, and there is no second launch: with the parts of one tile of a contraction the last
 * of the blocks that made them, with a small phase behind a barrier the last of all.  Where more is
 * left, as where the many parts of a large tile meet, a launch of all multiprocessors is faster. */
#include "codegen/planner.h"

#include <string.h>

#include "ir/base/size.h"

enum { BLOCK_THREADS = 256, WARP = 32 };

typedef struct Cuda {
    Planner pl;
    CudaPlan how;
    int64_t *span;
} Cuda;

/* ---- one nest ---------------------------------------------------------------------------- */

typedef struct Strides { /* reads that move to the next element along a variable */
    Stages *s;
    Var v;
    int next, odd;
} Strides;

static void count_stride(void *arg, const Expr *e)
{
    Strides *c = arg;
    const int stride = map_stride(c->s, e->ix, e->nix, c->v, 1);
    c->next += stride == 1;
    c->odd += stride == 2;
}

Var nest_fast_axis(Stages *s, const Nest *n)
{
    const Stage *st = &s->stage[n->root[0]];
    for (int i = n->naxis - 1; i >= 0; i--)
        if (map_stride(s, st->store[0].ix, s->buf[st->store[0].buf].rank, n->axis[i], 1) == 1)
            return n->axis[i];
    return n->naxis ? n->axis[n->naxis - 1] : 0;
}

typedef struct Source { /* axes along which what comes from afar moves to the next element */
    Stages *s;
    const Nest *n;
    int next[MAX_AXES];
} Source;

static void note_source(void *arg, const Expr *e)
{
    Source *c = arg;
    for (int i = 0; i < c->n->naxis && c->s->buf[e->buf].home == HOME_ARG; i++)
        c->next[i] += map_stride(c->s, e->ix, e->nix, c->n->axis[i], 1) == 1;
}

/* The same for a map into shared memory of what lies in global memory, where loads count. */
static Var copy_axis(Stages *s, const Nest *n)
{
    Source c = { .s = s, .n = n };
    int best = -1;
    for (int i = 0; i < n->nroot; i++) {
        if (s->buf[s->stage[n->root[i]].store[0].buf].home != HOME_PRIVATE || n->nred)
            return nest_fast_axis(s, n);
        expr_reads(s, s->stage[n->root[i]].e, note_source, &c);
    }
    for (int i = 0; i < n->naxis; i++)
        best = c.next[i] > (best < 0 ? 0 : c.next[best]) ? i : best;
    return best < 0 ? nest_fast_axis(s, n) : n->axis[best];
}

/* The fast axis last, the others as they stood. */
static void order_axes(Nest *n, Var fast)
{
    int k = 0;
    for (int i = 0; i < n->naxis; i++)
        if (n->axis[i] != fast)
            n->axis[k++] = n->axis[i];
    if (fast)
        n->axis[k] = fast;
}

static int64_t nest_points(const Nest *n, const int64_t *span)
{
    int64_t points = 1;
    for (int i = 0; i < n->naxis; i++)
        points = size_mul(points, span[n->axis[i]]);
    return points;
}

static int64_t reduced_points(const Stages *s, const Nest *n)
{
    int64_t most = 0;
    for (int i = 0; i < n->nred; i++) {
        int64_t k = 1;
        for (int j = 0; j < s->stage[n->red[i]].nred; j++)
            k = size_mul(k, ix_var_count(s->pool, s->stage[n->red[i]].red[j]));
        most = k > most ? k : most;
    }
    return most;
}

static void stride_along(Stages *s, const Nest *n, Var v, Strides *c)
{
    *c = (Strides){ .s = s, .v = v };
    for (int i = 0; i < n->nred && v; i++)
        expr_reads(s, s->stage[n->red[i]].e, count_stride, c);
}

static bool may_part(const Stages *s, const Nest *n);

/* Is it better cut in parts, with neighbouring threads on neighbouring points?  Threads along the
 * reduced axes of columns load a sector of 32 bytes for each element, which where there are many
 * costs more than another launch for the parts' sums. */
static bool sums_long_columns(const Planner *pl, const Nest *n, int64_t fast, int64_t points,
                              int64_t room)
{
    enum { SECTOR = 8, MANY = 1 << 20 };
    return pl->alone && room > BLOCK_THREADS && fast >= SECTOR && may_part(pl->s, n) &&
           size_mul(points, reduced_points(pl->s, n)) >= MANY;
}

/* Threads that share a point's reductions. */
static int reduction_lanes(const Planner *pl, const Nest *n, Var fast, int64_t points, int64_t room)
{
    enum { LONG_ROW = 1024 };
    Stages *s = pl->s;
    const int64_t k = reduced_points(s, n);
    const Stage *st = &s->stage[n->red[0]];
    Strides along_red, along_out;
    stride_along(s, n, st->red[st->nred - 1], &along_red);
    stride_along(s, n, fast, &along_out);
    const bool rows = along_red.next > along_out.next || along_red.odd < along_out.odd;
    if (k < WARP || (points >= room && !rows) || points >= 8 * room)
        return 0;
    if (n->when == WHEN_STEP && points * 4 >= room)
        return 0; /* its operands are turned round once, before the steps */
    if (!rows && fast && sums_long_columns(pl, n, ix_var_count(s->pool, fast), points, room))
        return 0;
    return k >= LONG_ROW && points * 8 <= room ? BLOCK_THREADS : WARP;
}

/* Tiles divide the extents: no rest, no guard. */
static void widen(Nest *n, int axis, const int64_t *span, int64_t *tiles, int64_t room)
{
    for (int w = 4; w > 1; w /= 2)
        if (span[n->axis[axis]] % w == 0 && *tiles / w >= room) {
            n->tile[axis] = w;
            *tiles /= w;
            return;
        }
}

/* room: threads that the nest is shared out over. */
static void schedule(Planner *pl, Nest *n, const int64_t *span, int64_t room)
{
    Stages *s = pl->s;
    for (int i = 0; i < n->naxis; i++)
        n->tile[i] = 1;
    n->nv = 1;
    n->vec = 0;
    n->kaxis = 0;
    n->row = false;
    if (s->stage[n->root[0]].adds || n->naxis == 0) {
        if (n->nred && !s->stage[n->root[0]].adds && !pl->plain)
            n->lanes = reduction_lanes(pl, n, 0, 1, room);
        return;
    }
    const Var fast = n->strip ? copy_axis(s, n) : nest_fast_axis(s, n);
    int64_t tiles = nest_points(n, span);
    order_axes(n, fast);
    if (pl->plain || tiles == 0)
        return;
    if (n->nred)
        n->lanes = reduction_lanes(pl, n, fast, tiles, room);
    if (n->lanes)
        return;
    widen(n, n->naxis - 1, span, &tiles, room);
    int64_t longest = 1;
    int other = -1;
    for (int i = 0; i + 1 < n->naxis && n->nred; i++)
        if (span[n->axis[i]] > longest) {
            longest = span[n->axis[i]];
            other = i;
        }
    if (other >= 0)
        widen(n, other, span, &tiles, room);
}

/* ---- phases ------------------------------------------------------------------------------ */

static bool scan_phase(const Phase *ph)
{
    return ph->nest[0].when != WHEN_PLAIN;
}

/* Times that a nest is run in all: by how many blocks, in how many steps. */
static double nest_runs(const Planner *pl, const Phase *ph, const Nest *n)
{
    const IxPool *p = pl->s->pool;
    double runs = n->when == WHEN_STEP && pl->s->trip ? (double)pl->s->trip : 1;
    for (int i = 0; i < ph->ngrid; i++)
        runs *= (double)ix_var_count(p, ph->grid[i]);
    return n->walk ? runs * (double)ix_var_count(p, ph->walk) : runs;
}

static int64_t private_bytes(const Planner *pl, const Phase *ph, int64_t block)
{
    int64_t bytes = 0;
    for (uint32_t b = 0; b < pl->s->nbuf; b++) {
        const GBuf *buf = &pl->s->buf[b];
        if (buf->home != HOME_PRIVATE || !phase_stores(pl, ph, (uint16_t)b))
            continue;
        int64_t n = dtype_bytes(buf->dt);
        for (int d = 0; d < buf->rank; d++)
            n = size_mul(n, d == buf->team_dim ? block : buf->shape[d]);
        bytes = size_add(bytes, size_round_up(n, 64));
    }
    return bytes;
}

/* Threads that the nest with the fewest tiles keeps busy for one point of the team axis. */
static int64_t threads_per_point(const Planner *pl, const Phase *ph)
{
    int64_t least = BLOCK_THREADS;
    for (int i = 0; i < ph->nnest; i++) {
        int64_t n = ph->nest[i].nred ? WARP : 1;
        for (int j = 0; j < ph->nest[i].naxis; j++)
            if (ph->nest[i].axis[j] != ph->team)
                n = size_mul(n, ix_var_count(pl->s->pool, ph->nest[i].axis[j]));
        least = n < least ? n : least;
    }
    return least < 1 ? 1 : least;
}

/* Points of the team axis that a block takes: a divisor of them all. */
static int64_t choose_block(const Planner *pl, const Phase *ph)
{
    enum { SCAN_ROWS = 4 };
    const int64_t n = ix_var_count(pl->s->pool, ph->team);
    int64_t want =
        scan_phase(ph) ? SCAN_ROWS : size_ceil_div(BLOCK_THREADS, threads_per_point(pl, ph));
    const int64_t share = size_ceil_div(n, pl->team);
    want = want > share ? share : want;
    while (want > 1 && (n % want || private_bytes(pl, ph, want) > pl->t->smem_bytes))
        want--;
    return want < 1 ? 1 : want;
}

static void to_workspace(Planner *pl, const Phase *ph)
{
    for (uint32_t b = 0; b < pl->s->nbuf; b++)
        if (pl->s->buf[b].home == HOME_PRIVATE && phase_stores(pl, ph, (uint16_t)b))
            pl->s->buf[b].home = HOME_SHARED;
}

static void fold_to_block(Planner *pl, Phase *ph)
{
    if (ph->team)
        ph->block = choose_block(pl, ph);
    if (ph->flat || private_bytes(pl, ph, ph->block) > pl->t->smem_bytes) {
        gtc_assert(!ph->ngrid, "strips of more than a block's shared memory");
        to_workspace(pl, ph);
        return;
    }
    for (uint32_t b = 0; b < pl->s->nbuf; b++) {
        GBuf *buf = &pl->s->buf[b];
        if (buf->home == HOME_PRIVATE && buf->team_dim >= 0 && phase_stores(pl, ph, (uint16_t)b))
            buf->shape[buf->team_dim] = ph->block;
    }
}

static void schedule_phase(Planner *pl, Phase *ph, int64_t *span)
{
    const int64_t room = ph->flat ? pl->team * BLOCK_THREADS * 2 : BLOCK_THREADS;
    for (int i = 0; i < ph->nnest; i++) {
        Nest *n = &ph->nest[i];
        for (int j = 0; j < n->naxis; j++)
            span[n->axis[j]] = n->axis[j] == ph->team && !ph->flat
                                   ? ph->block
                                   : ix_var_count(pl->s->pool, n->axis[j]);
        schedule(pl, n, span, room);
        pl->p->points += (double)nest_work(pl->s, n) * nest_runs(pl, ph, n);
    }
}

/* What the steps of a scan read across neighbouring threads is turned round once, before them. */
static void copy_operands(Planner *pl, Phase *ph, Phase *fill)
{
    Target one = *pl->t;
    one.lanes = 1;
    for (int i = 0; i < ph->nnest && !pl->plain; i++) {
        Nest *n = &ph->nest[i];
        if (n->when != WHEN_STEP || !n->nred || n->lanes || !n->naxis || n->held)
            continue;
        n->vec = n->axis[n->naxis - 1];
        n->nv = (int)ix_var_count(pl->s->pool, n->vec);
        plan_copies(pl->s, &one, n, false, fill);
        n->vec = 0;
        n->nv = 1;
    }
}

/* Maps of a scan go with the last nest that holds, if their points are its. */
static void hold_operands(Cuda *c, Phase *ph)
{
    const Held *last = NULL;
    int split = 0;
    for (int i = 0; i < ph->nnest && c->how == CUDA_BLOCKED && !ph->flat; i++) {
        Held *h = plan_held(c->pl.s, ph, &ph->nest[i], c->span, BLOCK_THREADS);
        if (h) {
            h->split = ++split;
            ph->nest[i].held = h;
            last = h;
        }
    }
    for (int i = 0; i < ph->nnest && last; i++)
        if (!ph->nest[i].held)
            ph->nest[i].held = plan_held_map(c->pl.s, ph, &ph->nest[i], c->span, last);
}

/* ---- parts ------------------------------------------------------------------------------- */

/* One batch of sums over the same axes, whose points, with those axes, fit a buffer's rank. */
static bool may_part(const Stages *s, const Nest *n)
{
    const Stage *first = &s->stage[n->red[0]];
    for (int i = 0; i < n->nred; i++) {
        const Stage *st = &s->stage[n->red[i]];
        if (st->acc != n->red[i] || st->nred != first->nred ||
            stages_expr(s, st->e)->reg != REG_F32 ||
            memcmp(st->red, first->red, sizeof(Var) * st->nred) != 0)
            return false;
    }
    return n->naxis + 1 <= MAX_RANK;
}

static int64_t wanted_parts(const Cuda *c, const Nest *n)
{
    enum { LEAST_PART = 64 };
    Stages *s = c->pl.s;
    const int64_t k = n->nred ? reduced_points(s, n) : 0;
    if (k == 0 || c->how != CUDA_BLOCKED || !may_part(s, n))
        return 1;
    if (n->blocked)
        return plan_blocked_parts(s, c->pl.t, n, n->blocked);
    const int64_t lanes = n->lanes ? n->lanes : 1;
    const int64_t busy = size_mul(nest_points(n, c->span), lanes),
                  room = c->pl.team * BLOCK_THREADS;
    if (busy == 0 || busy * 4 > room)
        return 1;
    const int64_t want = room / busy, most = k / (LEAST_PART * lanes);
    return most < 2 ? 1 : want < most ? want : most;
}

typedef struct PartSwap {
    const StageId *old, *sum;
    int n;
    Stages *s;
} PartSwap;

static ExprId swap_value(void *arg, ExprId id)
{
    const PartSwap *w = arg;
    Expr e = *stages_expr(w->s, id);
    for (int i = 0; i < w->n && e.kind == EX_VALUE; i++)
        if (e.stage == w->old[i]) {
            e.stage = w->sum[i];
            return expr_add(w->s, &e);
        }
    return id;
}

/* Sum i of *n becomes a root of *head, which stores its parts, and a sum over these in *n. */
static StageId part_sum(Cuda *c, Nest *n, int i, Nest *head, const int64_t *shape, const Ix *ix)
{
    Stages *s = c->pl.s;
    const StageId old = n->red[i];
    const uint16_t buf =
        stages_temp(s, arena_printf(s->arena, "parts%u", s->nbuf), DT_F32, n->naxis + 1, shape);
    s->buf[buf].home = HOME_SHARED;
    const Stage st = s->stage[old];
    Stage root = { .axis = st.axis, .naxis = st.naxis, .e = expr_value(s, old), .nstore = 1 };
    root.store = arena_array(s->arena, Store, 1);
    root.store[0].buf = buf;
    memcpy(root.store[0].ix, ix, sizeof *ix * (size_t)(n->naxis + 1));
    head->root[i] = stages_add(s, &root);
    Stage sum = { .axis = st.axis, .naxis = st.naxis, .nred = 1, .rop = st.rop };
    sum.red = arena_copy(s->arena, &head->part, sizeof head->part);
    sum.e = expr_read(s, buf, ix);
    const StageId id = stages_add(s, &sum);
    s->stage[id].acc = id;
    return id;
}

/* Cuts the reduced points of *n into parts; gives the nest that makes them. */
static Nest cut_parts(Cuda *c, Nest *n, int64_t parts)
{
    Stages *s = c->pl.s;
    Nest head = *n;
    int64_t shape[MAX_RANK];
    Ix ix[MAX_RANK];
    StageId sum[MAX_NEST_REDS];
    const int64_t unit = n->blocked ? n->blocked->bk : n->lanes ? n->lanes : 1;
    head.chunk = size_round_up(size_ceil_div(reduced_points(s, n), parts), unit);
    parts = size_ceil_div(reduced_points(s, n), head.chunk);
    head.part = ix_var_new(s->pool, "part", parts);
    shape[0] = parts;
    ix[0] = ix_var(s->pool, head.part);
    for (int i = 0; i < n->naxis; i++) {
        shape[i + 1] = ix_var_count(s->pool, n->axis[i]);
        ix[i + 1] = ix_var(s->pool, n->axis[i]);
    }
    head.nroot = n->nred;
    for (int i = 0; i < n->nred; i++)
        sum[i] = part_sum(c, n, i, &head, shape, ix);
    PartSwap swap = { head.red, sum, n->nred, s };
    for (int i = 0; i < n->nroot; i++) {
        const ExprId e = expr_map(s, s->stage[n->root[i]].e, swap_value, &swap);
        s->stage[n->root[i]].e = e;
    }
    memcpy(n->red, sum, sizeof *sum * (size_t)n->nred);
    n->blocked = NULL;
    n->lanes = 0;
    return head;
}

/* ---- who finishes ------------------------------------------------------------------------ */

enum {
    LAST_TRIPS = 8, /* to memory, one behind the other: about the time of a launch */
    TRIP_LOADS = 16 /* of a thread's, that are under way together */
};

/* head: a contraction in blocks, in parts.  Does the last block of each tile add them up? */
static bool tile_finishes(const Cuda *c, const Nest *head)
{
    const Blocked *b = head->blocked;
    const int64_t loads = (int64_t)head->nred * (b ? b->tm * b->tn : 0);
    return b && size_mul(ix_var_count(c->pl.s->pool, head->part), loads) <=
                    (int64_t)LAST_TRIPS * TRIP_LOADS;
}

/* Trips to memory of phase ph's nest if one block alone does it. */
static int64_t trips_alone(Cuda *c, const Phase *ph)
{
    Nest n = ph->nest[0];
    schedule(&c->pl, &n, c->span, BLOCK_THREADS);
    const int64_t lanes = n.lanes ? n.lanes : 1;
    const int64_t k = size_ceil_div(reduced_points(c->pl.s, &n), lanes);
    return size_mul(size_ceil_div(size_mul(nest_points(&n, c->span), lanes), BLOCK_THREADS),
                    k > 1 ? k : 1);
}

/* Is it done by one block anyway, or fast enough by one? */
static bool block_finishes(Cuda *c, const Phase *ph)
{
    const Nest *n = &ph->nest[0];
    if (ph->each || scan_phase(ph) || n->blocked || n->part ||
        (!ph->flat && (ph->team || ph->ngrid)))
        return false;
    return !ph->flat ||
           size_mul(nest_points(n, c->span), n->lanes ? n->lanes : 1) <= BLOCK_THREADS ||
           trips_alone(c, ph) <= LAST_TRIPS;
}

/* The phases between two barriers go to the last block of those before them if all may. */
static void launches_finish(Cuda *c)
{
    Plan *p = c->pl.p;
    for (int i = 0, end; i < p->nphase; i = end) {
        bool all = true;
        for (end = i; end < p->nphase && (end == i || !p->phase[end].barrier); end++)
            all &= block_finishes(c, &p->phase[end]);
        if (!p->phase[i].barrier || !all || c->how != CUDA_BLOCKED)
            continue;
        p->phase[i].last = true;
        for (int j = i; j < end; j++) {
            Phase *ph = &p->phase[j];
            if (!ph->flat)
                continue;
            ph->flat = false;
            ph->team = 0;
            schedule(&c->pl, &ph->nest[0], c->span, BLOCK_THREADS);
        }
    }
}

/* ---- launches ---------------------------------------------------------------------------- */

static void add_flat(Cuda *c, const Nest *n)
{
    Phase *ph = phase_add(&c->pl);
    phase_take(c->pl.arena, ph, n);
    ph->flat = true;
}

/* A phase of one nest: in blocks, in parts, or as it is. */
static void plan_flat(Cuda *c, Phase *ph)
{
    Stages *s = c->pl.s;
    Nest *n = &ph->nest[0];
    if (c->how == CUDA_BLOCKED)
        n->blocked = plan_blocked(s, c->pl.t, n);
    if (n->blocked)
        n->lanes = 0;
    const int64_t parts = wanted_parts(c, n);
    if (parts > 1) {
        const Nest head = cut_parts(c, n, parts);
        add_flat(c, &head);
        if (tile_finishes(c, &head)) {
            phase_take(c->pl.arena, &c->pl.p->phase[c->pl.p->nphase - 1], n);
            return;
        }
        schedule(&c->pl, n, c->span, c->pl.team * BLOCK_THREADS * 2);
    }
    add_flat(c, n);
}

/* Would each of a few blocks be long at work while most multiprocessors have none? */
static bool starves(const Planner *pl, const Phase *ph)
{
    enum { LONG = 1 << 19 }; /* operations, which take a block longer than a launch does */
    if (!pl->alone || !ph->team || ph->each || scan_phase(ph))
        return false;
    const int64_t blocks = ix_var_count(pl->s->pool, ph->team);
    double work = 0;
    for (int i = 0; i < ph->nnest; i++)
        work += (double)nest_work(pl->s, &ph->nest[i]);
    return 4 * blocks <= pl->team && work >= (double)LONG * (double)blocks;
}

/* Each nest a launch of its own, for which it may be cut in parts. */
static void plan_apart(Cuda *c, const Phase *ph)
{
    for (int i = 0; i < ph->nnest; i++) {
        Phase one = { .team = ph->team, .flat = true };
        phase_take(c->pl.arena, &one, &ph->nest[i]);
        fold_to_block(&c->pl, &one);
        schedule_phase(&c->pl, &one, c->span);
        plan_flat(c, &one);
    }
}

static void plan_launches(Cuda *c)
{
    Planner *pl = &c->pl;
    const int nphase = pl->p->nphase;
    Phase *old = pl->p->phase;
    pl->p->phase = NULL;
    pl->p->nphase = pl->p->phase_cap = 0;
    for (int i = 0; i < nphase; i++) {
        Phase ph = old[i], fill = { 0 };
        ph.flat = ph.nnest == 1 && !scan_phase(&ph) && !ph.ngrid;
        if (!ph.flat && starves(pl, &ph)) {
            plan_apart(c, &ph);
            continue;
        }
        fold_to_block(pl, &ph);
        schedule_phase(pl, &ph, c->span);
        hold_operands(c, &ph);
        copy_operands(pl, &ph, &fill);
        for (int j = 0; j < fill.nnest; j++) {
            Phase copy = { .flat = true };
            phase_take(pl->arena, &copy, &fill.nest[j]);
            schedule_phase(pl, &copy, c->span);
            add_flat(c, &copy.nest[0]);
        }
        if (ph.flat)
            plan_flat(c, &ph);
        else
            *phase_add(pl) = ph;
    }
}

/* Phases that wait for none stand first, then those that wait for these, and so on: then few
 * barriers do. */
static void gather_launches(Cuda *c)
{
    enum { READS = 1, STORES = 2 };
    Planner *pl = &c->pl;
    Plan *p = pl->p;
    const size_t nbuf = pl->s->nbuf;
    uint8_t *does = arena_array(pl->arena, uint8_t, (size_t)p->nphase * nbuf);
    int *level = arena_array(pl->arena, int, p->nphase), most = 0, n = 0;
    for (int i = 0; i < p->nphase; i++) {
        const Phase *ph = &p->phase[i];
        if (ph->each)
            return; /* what a thread does for itself stays where it is */
        uint8_t *mine = &does[(size_t)i * nbuf];
        for (size_t b = 0; b < nbuf; b++)
            mine[b] = (uint8_t)((phase_reads(pl, ph, (uint16_t)b) ? READS : 0) |
                                (phase_stores(pl, ph, (uint16_t)b) ? STORES : 0));
        for (int j = 0; j < i; j++)
            for (size_t b = 0; b < nbuf && level[i] <= level[j]; b++)
                if (mine[b] && does[(size_t)j * nbuf + b] &&
                    ((mine[b] | does[(size_t)j * nbuf + b]) & STORES))
                    level[i] = level[j] + 1;
        most = level[i] > most ? level[i] : most;
    }
    Phase *sorted = arena_array(pl->arena, Phase, p->nphase);
    for (int k = 0; k <= most; k++)
        for (int i = 0; i < p->nphase; i++)
            if (level[i] == k)
                sorted[n++] = p->phase[i];
    p->phase = sorted;
    p->phase_cap = p->nphase;
}

static int64_t buf_bytes(const GBuf *buf)
{
    int64_t n = dtype_bytes(buf->dt);
    for (int d = 0; d < buf->rank; d++)
        n = size_mul(n, buf->shape[d]);
    return size_round_up(n, 64);
}

static bool phase_holds(const Planner *pl, const Phase *ph, uint16_t buf)
{
    bool holds = phase_stores(pl, ph, buf);
    for (int i = 0; i < ph->nnest; i++) {
        const Nest *n = &ph->nest[i];
        for (int j = 0; n->blocked && j < n->nred; j++)
            holds |= n->blocked->lbuf[j] == buf || n->blocked->rbuf[j] == buf;
    }
    return holds;
}

/* Shared memory starts anew with each launch; the workspace serves them all. */
static void assign_offsets(Planner *pl)
{
    Stages *s = pl->s;
    Plan *p = pl->p;
    int64_t at = 0;
    p->offset = arena_array(pl->arena, int64_t, s->nbuf);
    for (uint32_t b = 0; b < s->nbuf; b++)
        if (s->buf[b].home == HOME_SHARED) {
            p->offset[b] = p->shared_bytes;
            p->shared_bytes = size_add(p->shared_bytes, buf_bytes(&s->buf[b]));
        }
    for (int i = 0; i < p->nphase; i++) {
        at = p->phase[i].barrier ? 0 : at;
        for (uint32_t b = 0; b < s->nbuf; b++)
            if (s->buf[b].home == HOME_PRIVATE && phase_holds(pl, &p->phase[i], (uint16_t)b)) {
                p->offset[b] = at;
                at = size_add(at, buf_bytes(&s->buf[b]));
            }
        p->private_bytes = at > p->private_bytes ? at : p->private_bytes;
    }
}

Status plan_cuda(Ctx *cx, Arena *arena, const Target *t, const Graph *body, CudaPlan how,
                 Plan **out)
{
    Cuda c = { .pl = { .cx = cx,
                       .arena = arena,
                       .t = t,
                       .plain = how == CUDA_PLAIN,
                       .alone = how == CUDA_BLOCKED ? plan_blocked_may : NULL,
                       .team = t->threads },
               .how = how,
               .span = arena_array(arena, int64_t, UINT16_MAX) };
    Planner *pl = &c.pl;
    TRY(plan_phases(pl, body));
    pl->p->planner = how == CUDA_PLAIN ? "plain" : "cuda";
    pl->p->threads = BLOCK_THREADS;
    plan_launches(&c);
    if (how == CUDA_BLOCKED)
        gather_launches(&c);
    plan_barriers(pl);
    launches_finish(&c);
    assign_offsets(pl);
    if (pl->p->private_bytes > t->smem_bytes)
        return FAIL(cx, INTERNAL, "plan: %lld bytes of shared memory, a block has %lld",
                    (long long)pl->p->private_bytes, (long long)t->smem_bytes);
    *out = pl->p;
    return ST_OK;
}
