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

static KNode *put_fixed(Low *l, const Threads *t, KOp op, int i, int col)
{
    const Ix ix[] = { t->digit[0], t->digit[1], t->digit[2], t->digit[3], ix_const(l->p, col) };
    const BufId buf = low_buf(l, l->n->held->fixed_buf[i]);
    KNode *n = low_put(l, op);
    n->buf = buf;
    n->ix = arena_copy(l->arena, ix, sizeof ix);
    n->lanes = 1;
    return n;
}

static KNode *put_access(const Walk *w, KOp op, int sum, int col, Ix round, int e)
{
    Low *l = w->l;
    const Ix ix[] = { w->t->digit[0],      w->t->digit[1], w->t->digit[2],   w->t->digit[3],
                      ix_const(l->p, col), round,          ix_const(l->p, e) };
    const BufId buf = low_buf(l, l->n->held->buf[sum]);
    KNode *n = low_put(l, op);
    n->buf = buf;
    n->ix = arena_copy(l->arena, ix, sizeof ix);
    n->lanes = 1;
    return n;
}

static bool kept_before(const Walk *w, int j)
{
    const Held *h = w->l->n->held;
    for (int i = 0; i < j; i++)
        if (h->buf[sum_number(w->l, w->b->st[i])] == h->buf[sum_number(w->l, w->b->st[j])])
            return true;
    return false;
}

static void fill_round(const Walk *w, Ix round)
{
    Low *l = w->l;
    const Held *h = l->n->held;
    for (int j = 0; j < w->b->n; j++) {
        const int sum = sum_number(l, w->b->st[j]);
        for (int q = 0; q < l->npoint * w->wide && h->buf[sum] && !kept_before(w, j); q++) {
            const int col = q / w->wide, e = q % w->wide;
            low_at(l, col);
            const Ix far = reduced_at(w, round, e);
            const bool miss = may_miss(w, far);
            bool guarded = h->units > h->full;
            Val v;
            if (miss || guarded) {
                v = low_accumulator(l, low_const(l, 0, REG_F32));
                Open o = { 0 };
                const Open u = when_unit(l, w->t, &guarded);
                if (miss)
                    o = low_when(l, far, ix_var_count(l->p, w->st->red[0]));
                low_set(l, v, low_value(l, h->kept[sum]));
                if (miss)
                    low_close(l, o);
                if (guarded)
                    low_close(l, u);
            } else {
                v = low_value(l, h->kept[sum]);
            }
            KNode *n = put_access(w, K_STORE, sum, col, round, e);
            n->nargs = 1;
            n->arg[0] = v;
        }
    }
}

static void fill_batch(Low *l, Batch *b)
{
    if (!l->n->held->buf[sum_number(l, b->st[0])])
        return;
    set_points(l, l->threads, 1, l->n->held->tile, false);
    const Walk w = walk_new(l, b, l->threads, fill_round);
    walk_rounds(&w, (int)w.full);
}

/* At the points that the thread is left with. */
static void fill_fixed(Low *l)
{
    const Held *h = l->n->held;
    set_points(l, l->threads, 1, h->tile / h->cols, true);
    for (int i = 0; i < h->nfixed; i++)
        for (int col = 0; col < l->npoint; col++) {
            bool guarded = h->units > h->full;
            low_at(l, col);
            Val v = guarded ? low_accumulator(l, low_const(l, 0, REG_F32)) : 0;
            const Open u = when_unit(l, l->threads, &guarded);
            if (guarded)
                low_set(l, v, low_value(l, h->fixed[i]));
            else
                v = low_value(l, h->fixed[i]);
            if (guarded)
                low_close(l, u);
            KNode *n = put_fixed(l, l->threads, K_STORE, i, col);
            n->nargs = 1;
            n->arg[0] = v;
        }
}

static void know_fixed(Low *l, const Threads *t)
{
    const Held *h = l->n->held;
    for (int i = 0; i < h->nfixed; i++) {
        const Expr *x = stages_expr(l->s, h->fixed[i]);
        for (int col = 0; col < h->tile / h->cols; col++) {
            Key key;
            low_at(l, col);
            low_key(l, h->fixed[i], x->dep, x->ndep, &key);
            KNode *n = put_fixed(l, t, K_LOAD, i, col);
            n->dst = kir_val(l->k, REG_F32, false);
            low_remember(l, h->fixed[i], &key, n->dst);
        }
    }
}

void low_held_fill(Low *l, const Nest *n)
{
    l->n = n;
    low_put(l, K_NOTE)->text = "into registers";
    const uint32_t known = l->nknown;
    Threads t = open_threads(l);
    l->threads = &t;
    low_batches(l, fill_batch);
    fill_fixed(l);
    close_threads(l, &t);
    low_forget(l, known);
    l->threads = NULL;
}

/* ---- sums ---------------------------------------------------------------------------------- */

/* What the thread keeps is known: the products below find it. */
static void know_kept(const Walk *w, Ix round, int e)
{
    Low *l = w->l;
    for (int j = 0; j < w->b->n; j++) {
        const int sum = sum_number(l, w->b->st[j]);
        const ExprId id = l->n->held->kept[sum];
        const Expr *x = stages_expr(l->s, id);
        for (int col = 0; col < l->n->held->tile && l->n->held->buf[sum]; col++) {
            Key key;
            low_at(l, col);
            low_key(l, id, x->dep, x->ndep, &key);
            if (low_known(l, id, &key))
                continue;
            KNode *n = put_access(w, K_LOAD, sum, col, round, e);
            n->dst = kir_val(l->k, REG_F32, false);
            low_remember(l, id, &key, n->dst);
        }
    }
}

static void read_moving(const Walk *w, Ix round)
{
    Low *l = w->l;
    for (int j = 0; j < w->b->n; j++)
        for (int q = 0; q < l->npoint; q += l->n->held->tile)
            for (int e = 0; e < w->wide; e++) {
                low_at(l, q);
                reduced_at(w, round, e);
                low_value(l, l->n->held->moving[sum_number(l, w->b->st[j])]);
            }
}

static void sum_round(const Walk *w, Ix round)
{
    Low *l = w->l;
    const uint32_t known = l->nknown;
    const bool miss = may_miss(w, reduced_at(w, round, w->wide - 1));
    if (!miss)
        read_moving(w, round);
    for (int e = 0; e < w->wide; e++) {
        Open o = { 0 };
        const Ix far = reduced_at(w, round, e);
        if (miss)
            o = low_when(l, far, ix_var_count(l->p, w->st->red[0]));
        know_kept(w, round, e);
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
static void meet_all(Low *l, const Threads *t, uint32_t known)
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
    set_points(l, t, nrow / n->held->rows, ncol / n->held->cols, true);
    for (int i = 0; i < n->nred; i++)
        for (int q = 0; q < l->npoint && l->s->stage[n->red[i]].acc == n->red[i]; q++) {
            low_at(l, q);
            low_known_as(l, &l->s->stage[n->red[i]], sum[i * all + q]);
        }
}

void low_held(Low *l, const Nest *n)
{
    l->n = n;
    low_put(l, K_NOTE)->text = "contract";
    const uint32_t known = l->nknown;
    Threads t = open_threads(l);
    l->threads = &t;
    set_points(l, &t, tile_rows(n), n->held->tile, false);
    low_batches(l, start_batch);
    low_batches(l, sum_batch);
    meet_all(l, &t, known);
    bool guarded;
    Open first = { 0 };
    const Open u = when_unit(l, &t, &guarded);
    if (n->held->rest > 1)
        first = low_when(l, t.digit[3], 1);
    know_fixed(l, &t);
    low_roots(l, false);
    if (n->held->rest > 1)
        low_close(l, first);
    if (guarded)
        low_close(l, u);
    close_threads(l, &t);
    low_forget(l, known);
    l->threads = NULL;
}
