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
 * A reduction is done by one thread a point, tile by tile, when neighbouring threads then read
 * neighbouring elements; by a warp or a whole block, along the reduced axes, when those are what
 * lies together in memory or there are too few points to keep threads busy. */
#include "codegen/planner.h"

#include <string.h>

#include "ir/base/size.h"

enum { BLOCK_THREADS = 256, WARP = 32 };

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

/* The axis that neighbouring threads should lie along: that of the first store's last dimension. */
static Var fast_axis(Stages *s, const Nest *n)
{
    const Stage *st = &s->stage[n->root[0]];
    for (int i = n->naxis - 1; i >= 0; i--)
        if (map_stride(s, st->store[0].ix, s->buf[st->store[0].buf].rank, n->axis[i], 1) == 1)
            return n->axis[i];
    return n->naxis ? n->axis[n->naxis - 1] : 0;
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

/* Threads that share a point's reductions. */
static int reduction_lanes(Stages *s, const Nest *n, Var fast, int64_t points, int64_t room)
{
    enum { LONG_ROW = 1024 };
    const int64_t k = reduced_points(s, n);
    const Stage *st = &s->stage[n->red[0]];
    Strides along_red, along_out;
    stride_along(s, n, st->red[st->nred - 1], &along_red);
    stride_along(s, n, fast, &along_out);
    const bool rows = along_red.next > along_out.next || along_red.odd < along_out.odd;
    if (k < WARP || (points >= room && !rows) || points >= 8 * room)
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
            n->lanes = reduction_lanes(s, n, 0, 1, room);
        return;
    }
    const Var fast = fast_axis(s, n);
    int64_t tiles = nest_points(n, span);
    order_axes(n, fast);
    if (pl->plain || tiles == 0)
        return;
    if (n->nred)
        n->lanes = reduction_lanes(s, n, fast, tiles, room);
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
        pl->p->points += (double)nest_work(pl->s, n) *
                         (n->when == WHEN_STEP && pl->s->trip ? (double)pl->s->trip : 1);
    }
}

/* What the steps of a scan read across neighbouring threads is turned round once, before them. */
static void copy_operands(Planner *pl, Phase *ph, Phase *fill)
{
    Target one = *pl->t;
    one.lanes = 1;
    for (int i = 0; i < ph->nnest && !pl->plain; i++) {
        Nest *n = &ph->nest[i];
        if (n->when != WHEN_STEP || !n->nred || n->lanes || !n->naxis)
            continue;
        n->vec = n->axis[n->naxis - 1];
        n->nv = (int)ix_var_count(pl->s->pool, n->vec);
        plan_copies(pl->s, &one, n, false, fill);
        n->vec = 0;
        n->nv = 1;
    }
}

static void plan_launches(Planner *pl)
{
    const int nphase = pl->p->nphase;
    Phase *old = pl->p->phase;
    pl->p->phase = NULL;
    pl->p->nphase = pl->p->phase_cap = 0;
    int64_t *span = arena_array(pl->arena, int64_t, UINT16_MAX);
    for (int i = 0; i < nphase; i++) {
        Phase ph = old[i], fill = { 0 };
        ph.flat = ph.nnest == 1 && !scan_phase(&ph);
        fold_to_block(pl, &ph);
        schedule_phase(pl, &ph, span);
        copy_operands(pl, &ph, &fill);
        for (int j = 0; j < fill.nnest; j++) {
            Phase *copy = phase_add(pl);
            phase_take(pl->arena, copy, &fill.nest[j]);
            copy->flat = true;
            schedule_phase(pl, copy, span);
        }
        *phase_add(pl) = ph;
    }
}

/* Shared memory starts anew with each launch; the workspace serves them all. */
static void assign_offsets(Planner *pl)
{
    Stages *s = pl->s;
    Plan *p = pl->p;
    p->offset = arena_array(pl->arena, int64_t, s->nbuf);
    for (uint32_t b = 0; b < s->nbuf; b++) {
        GBuf *buf = &s->buf[b];
        if (buf->home == HOME_ARG)
            continue;
        int64_t n = dtype_bytes(buf->dt);
        for (int d = 0; d < buf->rank; d++)
            n = size_mul(n, buf->shape[d]);
        int64_t *at = buf->home == HOME_PRIVATE ? &p->private_bytes : &p->shared_bytes;
        p->offset[b] = *at;
        *at = size_round_up(*at + n, 64);
    }
}

Status plan_cuda(Ctx *cx, Arena *arena, const Target *t, const Graph *body, bool plain, Plan **out)
{
    Planner pl = { .cx = cx, .arena = arena, .t = t, .plain = plain, .team = t->threads };
    TRY(plan_phases(&pl, body));
    pl.p->planner = plain ? "plain" : "cuda";
    pl.p->threads = BLOCK_THREADS;
    plan_launches(&pl);
    plan_barriers(&pl);
    assign_offsets(&pl);
    if (pl.p->private_bytes > t->smem_bytes)
        return FAIL(cx, INTERNAL, "plan: %lld bytes of shared memory, a block has %lld",
                    (long long)pl.p->private_bytes, (long long)t->smem_bytes);
    *out = pl.p;
    return ST_OK;
}
