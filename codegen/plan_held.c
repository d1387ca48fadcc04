/* SPDX-License-Identifier: Apache-2.0 */
/* Operands that no step of a scan changes stay in registers, for GPUs.
 *
 * A step's sums are of products, one factor of which (a row of weights) is the same at every step
 * and for every row of the block's share of the team axis, the other (the state before, the input)
 * differs from row to row.  The points of the unit axis, in tiles, and the reduced points are
 * shared out over the block's threads, a warp's neighbours along the reduced ones; then a thread
 * meets the same elements of the first factor at every step, loads them once, before the loop over
 * the steps, and keeps them.  What it reads at a step is its part of the other factor, from shared
 * memory.
 *
 * The sums meet across neighbours.  As long as the tile has points to give, each meeting halves
 * them: a thread keeps half of the rows (then of the units) and hands on its sums of the others, so
 * that the roots are shared out too; then all have the same, and the first of them stores.
 *
 * How many neighbours and how large a tile: those with the least estimated time.  Reads from shared
 * memory and meetings go through one pipe of 32 words a clock, multiply-adds through one of 128; a
 * wide tile reads each word for more sums but has more to meet.  Batches of sums are kept smallest
 * first while registers last; what is left is read at every step, by the same threads, all of it if
 * need be.  No tile is taken whose registers, by a rough count, are more than a thread may have.
 *
 * What comes from outside of the kernel at each step is read one step ahead, into registers, so
 * that nobody waits for memory.  The scan's maps give each thread the points that it ends with in
 * such a nest; then what one hands to the other there needs no sync, and with two slots for what
 * the sums read a step has one. */
#include "codegen/planner.h"

#include <string.h>

#include "ir/base/size.h"

enum {
    WARP = 32,
    MOST_HELD = 136, /* elements that a thread keeps */
    MOST_SUMS = 32,
    MOST_REGISTERS = 255,
    OTHERS = 48 /* addresses, what the roots need */
};

static bool depends(const Expr *e, Var v)
{
    for (int i = 0; i < e->ndep; i++)
        if (e->dep[i] == v)
            return true;
    return false;
}

typedef struct Constancy {
    const Stages *s;
    bool ok;
} Constancy;

static void check_constant(void *arg, const Expr *e)
{
    Constancy *c = arg;
    c->ok &= e->kind != EX_VALUE && e->kind != EX_RAND && e->kind != EX_AT &&
             (e->kind != EX_READ || c->s->buf[e->buf].is_in);
}

/* The same at every step and in every row. */
static bool may_hold(Stages *s, ExprId id, Var rows)
{
    const Expr *e = stages_expr(s, id);
    Constancy c = { s, !(s->seq && depends(e, s->seq)) && !(rows && depends(e, rows)) };
    if (c.ok)
        expr_walk(s, id, check_constant, &c);
    return c.ok;
}

static int64_t reduced(const Stages *s, const Stage *st)
{
    int64_t count = 1;
    for (int i = 0; i < st->nred; i++)
        count = size_mul(count, ix_var_count(s->pool, st->red[i]));
    return count;
}

static bool along_sum(const Stages *s, const Stage *st, const Expr *e)
{
    bool along = reduced(s, st) == 1;
    for (int i = 0; i < st->nred; i++)
        along |= depends(e, st->red[i]);
    return along;
}

/* Finds the two factors of each sum of n. */
static bool divide(Stages *s, const Nest *n, Var rows, Var units, Held *h)
{
    for (int i = 0; i < n->nred; i++) {
        const Stage *st = &s->stage[n->red[i]];
        const Expr *e = stages_expr(s, st->e);
        if (st->rop != OP_add || e->kind != EX_EW || e->op != OP_mul || e->reg != REG_F32)
            return false;
        const bool swap =
            !may_hold(s, e->arg[1], rows) || depends(stages_expr(s, e->arg[0]), units);
        h->moving[i] = e->arg[swap];
        h->kept[i] = e->arg[!swap];
        const Expr *moving = stages_expr(s, h->moving[i]), *kept = stages_expr(s, h->kept[i]);
        if (!may_hold(s, h->kept[i], rows) || depends(moving, units) || !depends(kept, units) ||
            !along_sum(s, st, moving) || !along_sum(s, st, kept))
            return false;
    }
    return true;
}

static bool same_batch(const Stage *a, const Stage *b)
{
    return a->nred == b->nred && memcmp(a->red, b->red, sizeof(Var) * a->nred) == 0;
}

static int held_lanes(const Held *h)
{
    return h->rows * h->cols * h->rest;
}

int held_wide(const Held *h, int64_t reduced_points)
{
    const int64_t lanes = held_lanes(h);
    return reduced_points % 4 == 0 &&
                   (reduced_points % (4 * lanes) == 0 || reduced_points >= 8 * lanes)
               ? 4
               : 1;
}

static int64_t rounds_of(const Held *h, int64_t reduced_points)
{
    return size_ceil_div(reduced_points, (int64_t)held_wide(h, reduced_points) * held_lanes(h));
}

/* ---- the tile ---------------------------------------------------------------------------- */

typedef struct Tile {
    int64_t nrow, nunit; /* rows of a block; points of the unit axis */
    int threads;
} Tile;

/* Meetings of the sums of `points` rows times units, and how the lanes end. */
static int64_t meetings(Held *h, int64_t nrow, int lanes)
{
    int64_t rows = nrow, cols = h->tile, n = 0;
    h->rows = h->cols = h->rest = 1;
    for (int left = lanes; left > 1; left /= 2) {
        if (rows % 2 == 0) {
            rows /= 2;
            h->rows *= 2;
        } else if (cols % 2 == 0) {
            cols /= 2;
            h->cols *= 2;
        } else {
            h->rest *= 2;
        }
        n += rows * cols;
    }
    return n;
}

/* Elements that a thread takes of the first factors of the batch of sum number i. */
static int64_t batch_elements(const Stages *s, const Nest *n, const Held *h, int i)
{
    const Stage *st = &s->stage[n->red[i]];
    const int64_t k = reduced(s, st);
    int64_t factors = 0;
    for (int j = 0; j < n->nred; j++) {
        bool another = same_batch(&s->stage[n->red[j]], st);
        for (int q = 0; q < j && another; q++)
            another = h->kept[q] != h->kept[j] || !same_batch(&s->stage[n->red[q]], st);
        factors += another;
    }
    return factors * h->tile * rounds_of(h, k) * held_wide(h, k);
}

/* The smallest batches are kept, while there is room. */
static void choose_kept(const Stages *s, const Nest *n, const Held *h, bool *kept)
{
    int64_t room = MOST_HELD;
    bool seen[MAX_NEST_REDS] = { false };
    for (;;) {
        int least = -1;
        int64_t size = 0;
        for (int i = 0; i < n->nred; i++) {
            const int64_t mine = batch_elements(s, n, h, i);
            if (!seen[i] && (least < 0 || mine < size)) {
                least = i;
                size = mine;
            }
        }
        if (least < 0)
            return;
        const bool fits = size <= room;
        room -= fits ? size : 0;
        for (int i = 0; i < n->nred; i++)
            if (same_batch(&s->stage[n->red[i]], &s->stage[n->red[least]])) {
                seen[i] = true;
                kept[i] = fits;
            }
    }
}

/* Of a thread, roughly: what it keeps, its sums, and what a round reads. */
static int64_t registers(const Stages *s, const Nest *n, const Held *h, const Tile *t,
                         const bool *kept, int64_t sums)
{
    int64_t held = 0, a_round = 0;
    for (int i = 0; i < n->nred; i++) {
        const int64_t k = reduced(s, &s->stage[n->red[i]]), all = batch_elements(s, n, h, i);
        const int64_t reads = kept[i] ? 0 : all / rounds_of(h, k);
        bool first = true;
        for (int j = 0; j < i; j++)
            first &= !same_batch(&s->stage[n->red[j]], &s->stage[n->red[i]]);
        held += first && kept[i] ? all : 0;
        a_round = reads > a_round ? reads : a_round;
    }
    return held + a_round + (sums * h->tile + 4) * t->nrow + OTHERS;
}

typedef struct Along {
    Stages *s;
    Var v;
    bool next;
} Along;

static void note_along(void *arg, const Expr *e)
{
    Along *a = arg;
    a->next |= map_stride(a->s, e->ix, e->nix, a->v, 1) == 1;
}

/* Of a word of sum i's first factor for a warp: 64 bytes a cycle come from the second cache, and
 * one line of 128 bytes is looked up in a cycle by an access of four words. */
static double cycles_to_read(Stages *s, const Nest *n, const Held *h, int i, int lanes)
{
    const Stage *st = &s->stage[n->red[i]];
    Along along = { s, st->red[st->nred - 1], false };
    expr_reads(s, h->kept[i], note_along, &along);
    const int lines = along.next ? 32 / (lanes < 8 ? lanes : 8) : lanes;
    return lines > 8 ? lines / 4. : 2;
}

/* Cycles of a step; 0: not this tile. */
static double estimate(Stages *s, const Nest *n, Held *h, const Tile *t, int lanes)
{
    enum { CHAIN = 4, MEETING = 25, READ = 250 };
    int64_t sums = 0, words = 0, products = 0, depth = 0;
    double read = 0;
    bool kept[MAX_NEST_REDS];
    for (int i = 0; i < n->nred; i++) {
        const Stage *st = &s->stage[n->red[i]];
        const int64_t k = reduced(s, st), mine = rounds_of(h, k) * held_wide(h, k);
        int j = 0;
        while (!same_batch(&s->stage[n->red[j]], st))
            j++;
        sums += st->acc == n->red[i];
        products += mine;
        if (j == i) {
            words += mine;
            depth += CHAIN * mine;
        }
    }
    const int64_t met = meetings(h, t->nrow, lanes);
    choose_kept(s, n, h, kept);
    if (sums * t->nrow * h->tile > MOST_SUMS || registers(s, n, h, t, kept, sums) > MOST_REGISTERS)
        return 0;
    for (int i = 0; i < n->nred; i++) {
        const int64_t rounds = rounds_of(h, reduced(s, &s->stage[n->red[i]]));
        if (kept[i])
            continue;
        if (lanes == 1)
            return 0; /* panels, which neighbours read together, are better */
        depth += READ * rounds / n->nred;
        read += cycles_to_read(s, n, h, i, lanes) *
                (double)(h->tile * rounds * held_wide(h, reduced(s, &s->stage[n->red[i]])));
    }
    for (int left = lanes; left > 1; left /= 2)
        depth += MEETING;
    const double warps = (double)h->units * lanes / WARP;
    return (double)(words * t->nrow + sums * met + read) * warps +
           (double)(products * t->nrow * h->tile) * (warps < 4 ? 1 : warps / 4) + (double)depth;
}

static bool choose_tile(Stages *s, const Nest *n, const Tile *t, Held *h)
{
    double best = 0;
    for (int tile = 1; tile <= 8; tile *= 2)
        for (int lanes = 1; lanes <= WARP; lanes *= 2) {
            Held c = *h;
            c.tile = tile;
            c.full = t->nunit / tile;
            c.units = (int)size_round_up(c.full, WARP / lanes);
            if (t->nunit % tile || (int64_t)c.units * lanes > t->threads)
                continue;
            meetings(&c, t->nrow, lanes);
            const double time = estimate(s, n, &c, t, lanes);
            if (time <= 0 || (best > 0 && time >= best))
                continue;
            best = time;
            h->tile = c.tile, h->full = c.full, h->units = c.units;
            h->rows = c.rows, h->cols = c.cols, h->rest = c.rest;
        }
    return best > 0;
}

/* ---- registers --------------------------------------------------------------------------- */

static void note_any(void *arg, const Expr *e)
{
    (void)e;
    *(bool *)arg = true;
}

static uint16_t to_registers(Stages *s, const char *name, int rank, const int64_t *shape)
{
    const uint16_t b =
        stages_temp(s, arena_printf(s->arena, "%s%u", name, s->nbuf), DT_F32, rank, shape);
    s->buf[b].home = HOME_REGISTERS;
    s->buf[b].threads = HELD_DIGITS;
    return b;
}

static uint16_t keep(Stages *s, const Held *h, int64_t k)
{
    const int64_t shape[] = { h->units, h->rows,         h->cols,        h->rest,
                              h->tile,  rounds_of(h, k), held_wide(h, k) };
    return to_registers(s, "held", 7, shape);
}

static void keep_factors(Stages *s, const Nest *n, Held *h)
{
    bool kept[MAX_NEST_REDS];
    choose_kept(s, n, h, kept);
    for (int i = 0; i < n->nred; i++) {
        const Stage *st = &s->stage[n->red[i]];
        for (int q = 0; q < i && !h->buf[i]; q++)
            if (h->kept[q] == h->kept[i] && same_batch(st, &s->stage[n->red[q]]))
                h->buf[i] = h->buf[q];
        if (!h->buf[i] && kept[i])
            h->buf[i] = keep(s, h, reduced(s, st));
    }
}

/* From outside of the kernel, and another at each step. */
static bool may_read_ahead(Stages *s, ExprId id)
{
    Constancy c = { s, s->seq && s->trip > 1 && depends(stages_expr(s, id), s->seq) };
    if (c.ok)
        expr_walk(s, id, check_constant, &c);
    return c.ok;
}

/* The largest parts of a root's value that no step changes and that read memory, and reads of what
 * comes from outside. */
static void find_fixed(Stages *s, const Phase *ph, Var units, ExprId id, int64_t nrow, Held *h)
{
    const Expr e = *stages_expr(s, id);
    bool reads = false;
    if (e.kind == EX_CONST || e.kind == EX_VALUE || h->nfixed == MAX_FIXED)
        return;
    expr_reads(s, id, note_any, &reads);
    if (!reads)
        return;
    const bool step = e.kind == EX_READ && may_read_ahead(s, id);
    if ((!step && !may_hold(s, id, ph->team)) || e.reg != REG_F32 || !depends(&e, units)) {
        for (int i = 0; i < e.nargs && e.kind == EX_EW; i++)
            find_fixed(s, ph, units, e.arg[i], nrow, h);
        return;
    }
    for (int i = 0; i < h->nfixed; i++)
        if (h->fixed[i] == id)
            return;
    const bool rows = ph->team && depends(&e, ph->team);
    const int64_t shape[] = {
        h->units, h->rows, h->cols, h->rest, rows ? nrow / h->rows : 1, h->tile / h->cols
    };
    h->fixed_step[h->nfixed] = step;
    h->fixed_rows[h->nfixed] = rows;
    h->fixed_buf[h->nfixed] = to_registers(s, step ? "ahead" : "held", 6, shape);
    h->fixed[h->nfixed++] = id;
}

/* Moving factors from outside, of kept batches (whose rounds are unrolled), as far as there is
 * room. */
static void read_factors_ahead(Stages *s, const Nest *n, const Tile *t, Held *h)
{
    enum { MOST_WITH_AHEAD = 190 };
    bool kept[MAX_NEST_REDS];
    int64_t sums = 0;
    choose_kept(s, n, h, kept);
    for (int i = 0; i < n->nred; i++)
        sums += s->stage[n->red[i]].acc == n->red[i];
    int64_t room = MOST_WITH_AHEAD - registers(s, n, h, t, kept, sums);
    for (int i = 0; i < n->nred; i++) {
        const Stage *st = &s->stage[n->red[i]];
        const int64_t k = reduced(s, st);
        const int64_t shape[] = { h->units, h->rows,         h->cols,        h->rest,
                                  t->nrow,  rounds_of(h, k), held_wide(h, k) };
        for (int q = 0; q < i; q++)
            if (h->moving[q] == h->moving[i] && same_batch(st, &s->stage[n->red[q]]))
                h->ahead[i] = h->ahead[q];
        const int64_t mine = t->nrow * rounds_of(h, k) * held_wide(h, k);
        if (h->ahead[i] || !kept[i] || mine > room || !may_read_ahead(s, h->moving[i]))
            continue;
        room -= mine;
        h->ahead[i] = to_registers(s, "ahead", 7, shape);
    }
}

/* ---- outputs that are read again --------------------------------------------------------- */

typedef struct Mirror {
    Stages *s;
    const Phase *ph;
    int64_t block;
    uint16_t from[MAX_NEST_REDS], to[MAX_NEST_REDS];
    int n;
} Mirror;

/* Dimensions of a map that do not say which step, the team axis among them: their number, or 0. */
static int step_dims(const Mirror *m, const Ix *ix, int rank, int *dim, int *team)
{
    int n = 0;
    *team = -1;
    for (int d = 0; d < rank; d++) {
        Var v;
        if (m->s->seq && ix_uses(m->s->pool, ix[d], m->s->seq))
            continue;
        if (ix_is_var(m->s->pool, ix[d], &v) && v == m->ph->team)
            *team = n;
        dim[n++] = d;
    }
    return *team >= 0 && n < rank && n + 1 < MAX_RANK ? n : 0;
}

/* Is all that the steps store of e's buffer stored at e's step, and in its row? */
static bool stored_alike(const Mirror *m, const Expr *e, const int *dim, int n, int team)
{
    bool any = false;
    for (int i = 0; i < m->ph->nnest; i++)
        for (int j = 0; j < m->ph->nest[i].nroot; j++) {
            const Stage *st = &m->s->stage[m->ph->nest[i].root[j]];
            for (int k = 0; k < st->nstore; k++) {
                int mine[MAX_RANK], its;
                if (st->store[k].buf != e->buf)
                    continue;
                if (m->ph->nest[i].when != WHEN_STEP ||
                    step_dims(m, st->store[k].ix, e->nix, mine, &its) != n || its != team ||
                    memcmp(mine, dim, sizeof *dim * (size_t)n) != 0)
                    return false;
                for (int d = 0, at = 0; d < e->nix; d++) {
                    if (at < n && dim[at] == d)
                        at++;
                    else if (st->store[k].ix[d] != e->ix[d])
                        return false;
                }
                any = true;
            }
        }
    return any;
}

/* Of a copy that a step writes while the one before may still be read. */
static Ix step_slot(const Mirror *m)
{
    return ix_mod(m->s->pool, ix_var(m->s->pool, m->s->seq), 2);
}

static void store_too(Mirror *m, uint16_t from, uint16_t to, const int *dim, int n)
{
    for (int i = 0; i < m->ph->nnest; i++)
        for (int j = 0; j < m->ph->nest[i].nroot; j++) {
            Stage *st = &m->s->stage[m->ph->nest[i].root[j]];
            for (int k = 0, nstore = st->nstore; k < nstore; k++) {
                if (st->store[k].buf != from)
                    continue;
                Store *more = arena_array(m->s->arena, Store, st->nstore + 1);
                memcpy(more, st->store, sizeof *more * st->nstore);
                more[st->nstore].buf = to;
                more[st->nstore].ix[0] = step_slot(m);
                for (int d = 0; d < n; d++)
                    more[st->nstore].ix[d + 1] = st->store[k].ix[dim[d]];
                st->store = more;
                st->nstore++;
            }
        }
}

static ExprId mirrored(void *arg, ExprId id)
{
    Mirror *m = arg;
    const Expr e = *stages_expr(m->s, id);
    int dim[MAX_RANK], team, at = 0;
    if (e.kind != EX_READ || !m->s->buf[e.buf].is_out || e.nguard || !m->s->seq)
        return id;
    const int n = step_dims(m, e.ix, e.nix, dim, &team);
    while (at < m->n && m->from[at] != e.buf)
        at++;
    if (!n || !stored_alike(m, &e, dim, n, team) || at == MAX_NEST_REDS)
        return id;
    if (at == m->n) {
        int64_t shape[MAX_RANK] = { 2 };
        for (int d = 0; d < n; d++)
            shape[d + 1] = d == team ? m->block : m->s->buf[e.buf].shape[dim[d]];
        m->from[at] = e.buf;
        m->to[at] = stages_temp(m->s, arena_printf(m->s->arena, "near%u", m->s->nbuf),
                                m->s->buf[e.buf].dt, n + 1, shape);
        m->s->buf[m->to[at]].home = HOME_PRIVATE;
        m->s->buf[m->to[at]].team_dim = (int8_t)(team + 1);
        m->s->buf[m->to[at]].slots = true;
        store_too(m, e.buf, m->to[at], dim, n);
        m->n++;
    }
    Ix ix[MAX_RANK] = { step_slot(m) };
    for (int d = 0; d < n; d++)
        ix[d + 1] = e.ix[dim[d]];
    return expr_read(m->s, m->to[at], ix);
}

/* What a step stores for the outside and its sums read again lies in shared memory as well. */
static void mirror_outputs(Stages *s, const Phase *ph, const Nest *n)
{
    Mirror m = { .s = s, .ph = ph, .block = ph->block };
    for (int i = 0; i < n->nred; i++) {
        const ExprId e = expr_map(s, s->stage[n->red[i]].e, mirrored, &m);
        s->stage[n->red[i]].e = e;
    }
}

/* ---- the nest ---------------------------------------------------------------------------- */

Held *plan_held(Stages *s, const Phase *ph, Nest *n, const int64_t *span, int threads)
{
    Held h = { .tile = 1 };
    const Var units = nest_fast_axis(s, n);
    Tile t = { .nrow = 1, .threads = threads };
    if (n->when != WHEN_STEP || !n->nred || !units || units == ph->team ||
        s->stage[n->root[0]].adds || !divide(s, n, ph->team, units, &h))
        return NULL;
    for (int i = 0; i < n->naxis; i++) {
        if (n->axis[i] == ph->team)
            t.nrow = span[n->axis[i]];
        else if (n->axis[i] == units)
            t.nunit = span[n->axis[i]];
        else if (span[n->axis[i]] != 1)
            return NULL;
    }
    for (int i = 0; i < n->nred; i++)
        if (reduced(s, &s->stage[n->red[i]]) == 0)
            return NULL;
    if (t.nunit == 0 || t.nrow == 0 || !choose_tile(s, n, &t, &h))
        return NULL;
    nest_share_sums(s, n);
    mirror_outputs(s, ph, n);
    divide(s, n, ph->team, units, &h);
    choose_tile(s, n, &t, &h);
    keep_factors(s, n, &h);
    read_factors_ahead(s, n, &t, &h);
    for (int i = 0; i < n->nroot; i++)
        find_fixed(s, ph, units, s->stage[n->root[i]].e, t.nrow, &h);
    h.nrow = t.nrow;
    for (int i = 0; i < n->naxis; i++)
        n->tile[i] = n->axis[i] == ph->team ? (int)t.nrow : n->axis[i] == units ? h.tile : 1;
    n->lanes = 0;
    return arena_copy(s->arena, &h, sizeof h);
}

Held *plan_held_map(Stages *s, const Phase *ph, Nest *n, const int64_t *span, const Held *like)
{
    const Var units = nest_fast_axis(s, n);
    int64_t nrow = 1, nunit = 0;
    if (n->when == WHEN_PLAIN || n->nred || !units || units == ph->team ||
        s->stage[n->root[0]].adds)
        return NULL;
    for (int i = 0; i < n->naxis; i++) {
        if (n->axis[i] == ph->team)
            nrow = span[n->axis[i]];
        else if (n->axis[i] == units)
            nunit = span[n->axis[i]];
        else if (span[n->axis[i]] != 1)
            return NULL;
    }
    if (nrow != like->nrow || nunit != like->full * like->tile)
        return NULL;
    Held h = { .units = like->units,
               .full = like->full,
               .tile = like->tile,
               .rows = like->rows,
               .cols = like->cols,
               .rest = like->rest,
               .nrow = like->nrow,
               .split = like->split };
    for (int i = 0; i < n->nroot && n->when == WHEN_STEP; i++)
        find_fixed(s, ph, units, s->stage[n->root[i]].e, nrow, &h);
    for (int i = 0; i < n->naxis; i++)
        n->tile[i] = n->axis[i] == ph->team ? (int)nrow : n->axis[i] == units ? h.tile : 1;
    n->lanes = 0;
    return arena_copy(s->arena, &h, sizeof h);
}
