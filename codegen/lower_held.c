/* SPDX-License-Identifier: Apache-2.0 */
/* A nest of a scan's steps whose operands stay in registers, as KIR (plan_held.c says which).
 *
 *     threads  units x lanes: before the steps
 *       registers: what the thread keeps of each factor
 *     loop over the steps
 *       threads  units x lanes, the same ones
 *         its products, its reduced points unrolled
 *         sums meet across the lanes
 *         the roots, at the points that the thread is left with
 *
 * A lane's number has three digits: which rows and which units of the tile it ends with, and which
 * of those that end with the same it is.  Reduced points, counted as one axis, go to the lanes
 * `wide` at a time; those of the last round that are not there are left out. */
#include "codegen/lower.h"

#include "ir/base/size.h"

typedef struct Threads {   /* where we are among the block's threads */
    Ix digit[HELD_DIGITS]; /* unit, row, column, rest */
    Ix lane;
    Open open[HELD_DIGITS];
    int nopen;
} Threads;

typedef struct Walk { /* over the reduced points of a batch that are this thread's */
    Low *l;
    const Batch *b;
    const Threads *t;
    const Stage *st;
    void (*each)(const struct Walk *w, Ix round);
    int wide;
    int64_t full; /* rounds in which all lanes have all their points */
    bool rest;    /* and one in which they do not */
} Walk;

static Threads open_threads(Low *l)
{
    static const char *const NAME[] = { "unit", "row", "col", "lane" };
    const Held *h = l->n->held;
    const int64_t count[] = { h->units, h->rows, h->cols, h->rest };
    Threads t = { .lane = ix_const(l->p, 0) };
    for (int i = 0; i < HELD_DIGITS; i++) {
        t.digit[i] = ix_const(l->p, 0);
        if (count[i] > 1 || (i == HELD_DIGITS - 1 && t.nopen == 0)) {
            const Var v = ix_var_new(l->p, NAME[i], count[i]);
            t.open[t.nopen++] = low_open(l, v, BIND_THREAD, 0);
            t.digit[i] = ix_var(l->p, v);
        }
        if (i > 0)
            t.lane = ix_add(l->p, ix_scale(l->p, t.lane, count[i]), t.digit[i]);
    }
    return t;
}

static void close_threads(Low *l, Threads *t)
{
    while (t->nopen)
        low_close(l, t->open[--t->nopen]);
}

/* The tile as a thread has it: all of it, or what it is left with after the sums met. */
static void set_points(Low *l, const Threads *t, int nrow, int ncol, bool left)
{
    const Nest *n = l->n;
    l->npoint = nrow * ncol;
    l->point = arena_array(l->arena, Point, l->npoint);
    const Var units = n->axis[n->naxis - 1];
    for (int a = 0; a < n->naxis; a++) {
        const bool row = n->axis[a] != units && n->tile[a] > 1;
        l->base[a] = l->span[n->axis[a]].base;
        if (n->axis[a] == units)
            l->base[a] = ix_add(l->p, ix_scale(l->p, t->digit[0], n->tile[a]),
                                ix_scale(l->p, left ? t->digit[2] : ix_const(l->p, 0), ncol));
        else if (row && left)
            l->base[a] = ix_add(l->p, l->base[a], ix_scale(l->p, t->digit[1], nrow));
        for (int q = 0; q < l->npoint; q++) {
            l->point[q].lanes = 1;
            l->point[q].off[a] = n->axis[a] == units ? q % ncol : row ? q / ncol : 0;
        }
    }
    low_at(l, 0);
}

static int tile_rows(const Nest *n)
{
    int rows = 1;
    for (int a = 0; a + 1 < n->naxis; a++)
        rows *= n->tile[a];
    return rows;
}

/* Units behind the last fill up a warp. */
static Open when_unit(Low *l, const Threads *t, bool *guarded)
{
    *guarded = l->n->held->units > l->n->held->full;
    return *guarded ? low_when(l, t->digit[0], l->n->held->full) : (Open){ 0 };
}

static bool depends_on_units(const Low *l, ExprId id)
{
    const Expr *e = stages_expr(l->s, id);
    bool depends = false;
    for (int i = 0; i < e->ndep; i++)
        depends |= e->dep[i] == l->n->axis[l->n->naxis - 1];
    return depends;
}

static int sum_number(const Low *l, const Stage *st)
{
    for (int i = 0; i < l->n->nred; i++)
        if (&l->s->stage[l->n->red[i]] == st)
            return i;
    gtc_assert(0, "a sum that is not its nest's");
    return 0;
}

/* ---- reduced points ------------------------------------------------------------------------ */

/* Puts the reduced axes where point e of the round is; gives the place of the outermost. */
static Ix reduced_at(const Walk *w, Ix round, int e)
{
    Low *l = w->l;
    const Held *h = l->n->held;
    const int64_t lanes = (int64_t)h->rows * h->cols * h->rest;
    const Ix first =
        ix_add(l->p, ix_scale(l->p, round, lanes * w->wide), ix_scale(l->p, w->t->lane, w->wide));
    return l->env[w->st->red[0]] = low_reduced_at(l, w->st, ix_shift(l->p, first, e));
}

static Walk walk_new(Low *l, const Batch *b, const Threads *t,
                     void (*each)(const Walk *w, Ix round))
{
    const Held *h = l->n->held;
    int64_t total = 1;
    for (int i = 0; i < b->st[0]->nred; i++)
        total = size_mul(total, ix_var_count(l->p, b->st[0]->red[i]));
    Walk w = { l, b, t, b->st[0], each, held_wide(h, total), 0, false };
    const int64_t a_round = (int64_t)w.wide * h->rows * h->cols * h->rest;
    w.full = total / a_round;
    w.rest = total % a_round != 0;
    return w;
}

static void walk_rounds(const Walk *w, int unroll)
{
    Low *l = w->l;
    if (w->full) {
        const Var v = ix_var_new(l->p, "q", w->full);
        const Open o = low_open(l, v, BIND_UNROLL, w->full < unroll ? (int)w->full : unroll);
        w->each(w, ix_var(l->p, v));
        low_close(l, o);
    }
    if (w->rest)
        w->each(w, ix_const(l->p, w->full));
}

/* Does point e of the round lie behind the last for some lanes? */
static bool may_miss(const Walk *w, Ix outermost)
{
    return ix_range(w->l->p, outermost).hi >= ix_var_count(w->l->p, w->st->red[0]);
}

/* ---- registers ----------------------------------------------------------------------------- */

/* Register `at` of a buffer whose first indices are the digits. */
static KNode *put_access(Low *l, KOp op, uint16_t buf, const Ix *at, int nat)
{
    const Threads *t = l->threads;
    const BufId id = low_buf(l, buf);
    KNode *n = low_put(l, op);
    n->buf = id;
    n->ix = arena_array(l->arena, Ix, HELD_DIGITS + nat);
    for (int i = 0; i < HELD_DIGITS; i++)
        n->ix[i] = t->digit[i];
    for (int i = 0; i < nat; i++)
        n->ix[HELD_DIGITS + i] = at[i];
    n->lanes = 1;
    return n;
}

/* A register's value is that of an expression where we stand. */
static void know(Low *l, ExprId id, uint16_t buf, const Ix *at, int nat)
{
    const Expr *x = stages_expr(l->s, id);
    Key key;
    low_key(l, id, x->dep, x->ndep, &key);
    if (low_known(l, id, &key))
        return;
    KNode *n = put_access(l, K_LOAD, buf, at, nat);
    n->dst = kir_val(l->k, REG_F32, false);
    low_remember(l, id, &key, n->dst);
}

/* The other way round; 0 where a guard fails: count 0 for none. */
static void fill(Low *l, ExprId id, uint16_t buf, const Ix *at, int nat, Ix far, int64_t count)
{
    bool units = depends_on_units(l, id);
    Val v;
    if (count || (units && l->n->held->units > l->n->held->full)) {
        v = low_accumulator(l, low_const(l, 0, REG_F32));
        Open o = { 0 }, u = { 0 };
        if (units)
            u = when_unit(l, l->threads, &units);
        if (count)
            o = low_when(l, far, count);
        low_set(l, v, low_value(l, id));
        if (count)
            low_close(l, o);
        if (units)
            low_close(l, u);
    } else {
        v = low_value(l, id);
    }
    KNode *n = put_access(l, K_STORE, buf, at, nat);
    n->nargs = 1;
    n->arg[0] = v;
}

/* One factor of sum j of the batch: kept ones differ by unit, moving ones by row. */
typedef struct Factor {
    ExprId id;
    uint16_t buf;    /* 0: in no registers */
    int count, step; /* its points: every step-th of the tile's */
} Factor;

static Factor factor_of(const Walk *w, int j, bool moving)
{
    const Held *h = w->l->n->held;
    const int i = sum_number(w->l, w->b->st[j]);
    if (moving)
        return (Factor){ h->moving[i], h->ahead[i], tile_rows(w->l->n), h->tile };
    return (Factor){ h->kept[i], h->buf[i], h->tile, 1 };
}

static bool seen_before(const Walk *w, int j, bool moving)
{
    for (int i = 0; i < j; i++)
        if (factor_of(w, i, moving).buf == factor_of(w, j, moving).buf)
            return true;
    return false;
}

static void fill_factors(const Walk *w, Ix round, bool moving)
{
    Low *l = w->l;
    for (int j = 0; j < w->b->n; j++) {
        const Factor f = factor_of(w, j, moving);
        for (int q = 0; q < f.count * w->wide && f.buf && !seen_before(w, j, moving); q++) {
            const int p = q / w->wide, e = q % w->wide;
            low_at(l, p * f.step);
            const Ix far = reduced_at(w, round, e);
            const Ix at[] = { ix_const(l->p, p), round, ix_const(l->p, e) };
            fill(l, f.id, f.buf, at, 3, far,
                 may_miss(w, far) ? ix_var_count(l->p, w->st->red[0]) : 0);
        }
    }
}

static void fill_kept(const Walk *w, Ix round)
{
    fill_factors(w, round, false);
}

static void fill_moving(const Walk *w, Ix round)
{
    fill_factors(w, round, true);
}

static void fill_batch(Low *l, Batch *b)
{
    const Walk w = walk_new(l, b, l->threads, fill_kept);
    if (factor_of(&w, 0, false).buf)
        walk_rounds(&w, (int)w.full);
}

/* What comes from outside of the kernel and differs from step to step, for the step we stand at. */
static void ahead_batch(Low *l, Batch *b)
{
    const Walk w = walk_new(l, b, l->threads, fill_moving);
    bool any = false;
    for (int j = 0; j < b->n; j++)
        any |= factor_of(&w, j, true).buf != 0;
    if (any)
        walk_rounds(&w, (int)w.full);
}

static Open when_first(Low *l)
{
    return l->n->held->rest > 1 ? low_when(l, l->threads->digit[3], 1) : (Open){ 0 };
}

static void close_first(Low *l, Open o)
{
    if (l->n->held->rest > 1)
        low_close(l, o);
}

/* Fills or knows the parts of the roots' values that registers hold, at the thread's own points. */
static void each_fixed(Low *l, bool step_only, bool fills)
{
    const Held *h = l->n->held;
    const int ncol = h->tile / h->cols;
    for (int i = 0; i < h->nfixed; i++)
        for (int q = 0; q < (h->fixed_rows[i] ? l->npoint : ncol); q++) {
            const Ix at[] = { ix_const(l->p, q / ncol), ix_const(l->p, q % ncol) };
            if (step_only && !h->fixed_step[i])
                continue;
            low_at(l, q);
            if (fills)
                fill(l, h->fixed[i], h->fixed_buf[i], at, 2, 0, 0);
            else
                know(l, h->fixed[i], h->fixed_buf[i], at, 2);
        }
}

static void set_whole(Low *l)
{
    set_points(l, l->threads, tile_rows(l->n), l->n->held->tile, false);
}

static void set_own(Low *l)
{
    const Held *h = l->n->held;
    set_points(l, l->threads, tile_rows(l->n) / h->rows, h->tile / h->cols, true);
}

/* Of threads with the same points the first alone needs them. */
static void fill_fixed(Low *l, bool step_only)
{
    const Held *h = l->n->held;
    bool any = false;
    for (int i = 0; i < h->nfixed; i++)
        any |= h->fixed_step[i] || !step_only;
    if (!any)
        return;
    set_own(l);
    const Open first = when_first(l);
    each_fixed(l, step_only, true);
    close_first(l, first);
}

void low_held_fill(Low *l, const Nest *n)
{
    bool any = n->held->nfixed > 0;
    for (int i = 0; i < n->nred; i++)
        any |= n->held->buf[i] || n->held->ahead[i];
    if (!any)
        return;
    l->n = n;
    low_put(l, K_NOTE)->text = "into registers";
    const uint32_t known = l->nknown;
    Threads t = open_threads(l);
    l->threads = &t;
    if (l->s->seq)
        l->env[l->s->seq] = ix_const(l->p, 0);
    set_whole(l);
    low_batches(l, fill_batch);
    low_batches(l, ahead_batch);
    fill_fixed(l, false);
    close_threads(l, &t);
    low_forget(l, known);
    l->threads = NULL;
}

static bool reads_ahead(const Nest *n)
{
    bool any = false;
    for (int i = 0; i < n->nred; i++)
        any |= n->held->ahead[i] != 0;
    for (int i = 0; i < n->held->nfixed; i++)
        any |= n->held->fixed_step[i];
    return any;
}

/* The next step's, while there is one. */
static void read_ahead(Low *l)
{
    const Ix step = l->env[l->s->seq], next = ix_shift(l->p, step, 1);
    const Open o = low_when(l, next, l->s->trip);
    l->env[l->s->seq] = next;
    set_whole(l);
    low_batches(l, ahead_batch);
    fill_fixed(l, true);
    l->env[l->s->seq] = step;
    low_close(l, o);
}

/* ---- sums ---------------------------------------------------------------------------------- */

/* What registers hold is known: the products below find it. */
static void know_factors(const Walk *w, Ix round, int e, bool moving)
{
    Low *l = w->l;
    for (int j = 0; j < w->b->n; j++) {
        const Factor f = factor_of(w, j, moving);
        for (int p = 0; p < f.count && f.buf; p++) {
            const Ix at[] = { ix_const(l->p, p), round, ix_const(l->p, e) };
            low_at(l, p * f.step);
            know(l, f.id, f.buf, at, 3);
        }
    }
}

/* All that a round reads, so that neighbours stand together. */
static void read_round(const Walk *w, Ix round)
{
    Low *l = w->l;
    for (int e = 0; e < w->wide; e++) {
        reduced_at(w, round, e);
        know_factors(w, round, e, true);
        know_factors(w, round, e, false);
    }
    for (int j = 0; j < 2 * w->b->n; j++) {
        const Factor f = factor_of(w, j / 2, j % 2 == 0);
        for (int p = 0; p < f.count && !f.buf; p++)
            for (int e = 0; e < w->wide; e++) {
                low_at(l, p * f.step);
                reduced_at(w, round, e);
                low_value(l, f.id);
            }
    }
}

static void sum_round(const Walk *w, Ix round)
{
    Low *l = w->l;
    const uint32_t known = l->nknown;
    const bool miss = may_miss(w, reduced_at(w, round, w->wide - 1));
    if (!miss)
        read_round(w, round);
    for (int e = 0; e < w->wide; e++) {
        Open o = { 0 };
        const Ix far = reduced_at(w, round, e);
        if (miss)
            o = low_when(l, far, ix_var_count(l->p, w->st->red[0]));
        know_factors(w, round, e, true);
        know_factors(w, round, e, false);
        low_accumulate(l, w->b);
        if (miss)
            low_close(l, o);
    }
    low_forget(l, known);
}

static void sum_batch(Low *l, Batch *b)
{
    const bool kept = l->n->held->buf[sum_number(l, b->st[0])] != 0;
    const Walk w = walk_new(l, b, l->threads, sum_round);
    bool guarded = false;
    Open u = { 0 };
    if (!kept) /* then units behind the last have nothing to read */
        u = when_unit(l, l->threads, &guarded);
    walk_rounds(&w, kept ? (int)w.full : 1);
    if (guarded)
        low_close(l, u);
}

static void start_batch(Low *l, Batch *b)
{
    low_start(l, b);
}

/* ---- meetings ------------------------------------------------------------------------------ */

static Val put_meet(Low *l, Val low, Val high, int bit)
{
    KNode *n = low_put(l, K_MEET);
    n->ew = OP_add;
    n->bit = (uint8_t)bit;
    n->nargs = 2;
    n->arg[0] = low;
    n->arg[1] = high;
    return n->dst = kir_val(l->k, REG_F32, false);
}

/* The sums v of nrow x ncol points meet; leaves those of the thread's own points in front. */
static void meet(Low *l, Val *v, int nrow, int ncol)
{
    const Held *h = l->n->held;
    int bit = h->rows * h->cols * h->rest;
    for (int left = h->rows; left > 1; left /= 2) {
        nrow /= 2;
        bit /= 2;
        for (int q = 0; q < nrow * ncol; q++)
            v[q] = put_meet(l, v[q], v[q + nrow * ncol], bit);
    }
    for (int left = h->cols; left > 1; left /= 2) {
        ncol /= 2;
        bit /= 2;
        for (int q = 0; q < nrow * ncol; q++) {
            const Val *low = &v[q / ncol * 2 * ncol + q % ncol];
            v[q] = put_meet(l, low[0], low[ncol], bit);
        }
    }
    for (int left = h->rest; left > 1; left /= 2) {
        bit /= 2;
        for (int q = 0; q < nrow * ncol; q++)
            v[q] = put_meet(l, v[q], v[q], bit);
    }
}

/* All sums of the nest, then the thread's own points and what their sums are there. */
static void meet_all(Low *l, uint32_t known)
{
    const Nest *n = l->n;
    const int nrow = tile_rows(n), ncol = n->held->tile, all = l->npoint;
    Val *sum = arena_array(l->arena, Val, (int64_t)n->nred * all);
    for (int i = 0; i < n->nred; i++) {
        const Stage *st = &l->s->stage[n->red[i]];
        for (int q = 0; q < all && st->acc == n->red[i]; q++) {
            low_at(l, q);
            sum[i * all + q] = low_reduced(l, st);
        }
        if (st->acc == n->red[i])
            meet(l, &sum[i * all], nrow, ncol);
    }
    low_forget(l, known);
    set_own(l);
    for (int i = 0; i < n->nred; i++)
        for (int q = 0; q < l->npoint && l->s->stage[n->red[i]].acc == n->red[i]; q++) {
            low_at(l, q);
            low_known_as(l, &l->s->stage[n->red[i]], sum[i * all + q]);
        }
}

void low_held(Low *l, const Nest *n)
{
    l->n = n;
    low_put(l, K_NOTE)->text = n->nred ? "contract" : "map";
    const uint32_t known = l->nknown;
    Threads t = open_threads(l);
    l->threads = &t;
    set_whole(l);
    low_batches(l, start_batch);
    low_batches(l, sum_batch);
    meet_all(l, known);
    bool guarded;
    const uint32_t outside = l->nknown;
    const Open u = when_unit(l, &t, &guarded);
    const Open first = when_first(l);
    each_fixed(l, false, false);
    low_roots(l, false);
    close_first(l, first);
    if (guarded)
        low_close(l, u);
    low_forget(l, outside);
    if (reads_ahead(n))
        read_ahead(l);
    close_threads(l, &t);
    low_forget(l, known);
    l->threads = NULL;
}
