/* SPDX-License-Identifier: Apache-2.0 */
/* Stages made over for a phase of strips: what they are at a point of a tile, and the nests that
 * make and sum it.
 *
 * An axis of the scores becomes a number that tells the tile and a small axis of places in it. What
 * a block keeps is read at those places, all else where it was; beyond the end of a strip whose
 * tiles do not divide it nothing is read, summed or stored. */
#include "codegen/strips.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"

/* ---- stages made over ---------------------------------------------------------------------- */

/* The place of an axis of this role. */
static Ix place_of(const Side *d, Role r)
{
    IxPool *p = d->w->s->pool;
    return ix_add(p, ix_scale(p, ix_var(p, d->big[r]), d->tile[r]), ix_var(p, d->small[r]));
}

static void for_unit(Side *d, const Unit *u)
{
    Strips *w = d->w;
    IxPool *p = w->s->pool;
    d->u = u;
    for (Var v = 0; v < w->nvar; v++) {
        const Role r = u->role[v];
        d->map[v] = IX_KEEP;
        if (r >= ROLE_BATCH)
            d->map[v] = ix_var(p, d->big[r]);
        else if (d->small[r])
            d->map[v] = place_of(d, r);
    }
    d->nmade = w->s->nexpr;
    d->made = arena_array(w->pl->arena, ExprId, d->nmade);
}

static int unit_of(const Side *d)
{
    return (int)(d->u - d->w->unit);
}

static Var over_var(const Side *d, Var v)
{
    const Role r = d->u->role[v];
    return r != ROLE_NONE && d->small[r] ? d->small[r] : v;
}

/* Where an element of buf is that was at ix: in what the block has of it, if that is kept. */
static uint16_t place(Side *d, uint16_t buf, const Ix *ix, Ix *out)
{
    Strips *w = d->w;
    for (int k = 0; k < w->s->buf[buf].rank; k++) {
        const Role r = d->to[buf] ? w->dim[buf][k] : ROLE_NONE;
        out[k] = r >= ROLE_BATCH    ? ix_const(w->s->pool, 0)
                 : r && d->small[r] ? ix_var(w->s->pool, d->small[r])
                                    : ix_subst(w->s->pool, ix[k], d->map, w->nvar);
    }
    return d->to[buf] ? d->to[buf] : buf;
}

static bool is_ragged(const Side *d, Role r)
{
    return d->small[r] && d->w->count[r] % d->tile[r];
}

/* Adds to guards that index ix, of u's axes, stands in a tile where there is something. */
static int guard_rest(const Side *d, const Ix *ix, int nix, Guard *guard, int nguard)
{
    for (Role r = ROLE_ROW; r <= ROLE_COL; r++)
        for (Var v = 0; v < d->w->nvar && is_ragged(d, r); v++) {
            bool uses = false;
            for (int i = 0; i < nix && d->u->role[v] == r; i++)
                uses |= ix_uses(d->w->s->pool, ix[i], v);
            if (uses)
                guard[nguard++] = (Guard){ place_of(d, r), 0, d->w->count[r] };
        }
    return nguard;
}

static ExprId over(Side *d, ExprId id);

static int over_axes(const Side *d, const Var *axis, int n, Var *out)
{
    int k = 0;
    for (int i = 0; i < n; i++)
        if (d->u->role[axis[i]] < ROLE_BATCH)
            out[k++] = over_var(d, axis[i]);
    return k;
}

static double first_value(Op rop)
{
    return rop == OP_add ? 0 : rop == OP_max ? -INFINITY : INFINITY;
}

/* What reducing stage st sums; beyond the end of the strip, nothing. */
static ExprId over_term(Side *d, const Stage *st)
{
    Stages *s = d->w->s;
    const ExprId e = over(d, st->e);
    for (int i = 0; i < st->nred; i++) {
        const Role r = d->u->role[st->red[i]];
        if (!is_ragged(d, r) || BUG(79))
            continue;
        const Guard there = { place_of(d, r), 0, d->w->count[r] };
        return expr_add(s, &(Expr){ .kind = EX_WHEN,
                                    .reg = REG_F32,
                                    .nargs = 1,
                                    .arg = { e },
                                    .guard = &there,
                                    .nguard = 1,
                                    .value = first_value(st->rop) });
    }
    return e;
}

/* The reducing stage `id` made over; equal ones are one. */
static StageId over_sum(Side *d, StageId id)
{
    Stages *s = d->w->s;
    const Stage old = s->stage[id];
    Stage st = { .nred = old.nred, .rop = old.rop, .e = over_term(d, &old) };
    st.axis = arena_array(s->arena, Var, old.naxis + 1);
    st.naxis = (uint8_t)over_axes(d, old.axis, old.naxis, st.axis);
    st.red = arena_array(s->arena, Var, old.nred + 1);
    for (int i = 0; i < old.nred; i++)
        st.red[i] = over_var(d, old.red[i]);
    for (uint32_t i = d->first; i < s->nstage; i++) {
        const Stage *o = &s->stage[i];
        if (!o->nstore && o->e == st.e && o->rop == st.rop && o->naxis == st.naxis &&
            o->nred == st.nred && memcmp(o->axis, st.axis, sizeof(Var) * st.naxis) == 0 &&
            memcmp(o->red, st.red, sizeof(Var) * st.nred) == 0)
            return (StageId)i;
    }
    return stages_add(s, &st);
}

bool strips_grows(const Side *d, const Unit *u, int j)
{
    const Stage *st = &d->w->s->stage[u->n.red[j]];
    for (int i = 0; i < st->nred && d->walk; i++)
        if (u->role[st->red[i]] == d->walk)
            return true;
    return false;
}

static ExprId op2(Side *d, Op op, ExprId a, ExprId b)
{
    return expr_add(
        d->w->s,
        &(Expr){ .kind = EX_EW, .reg = REG_F32, .op = (uint16_t)op, .nargs = 2, .arg = { a, b } });
}

static ExprId op1(Side *d, Op op, ExprId a)
{
    return expr_add(
        d->w->s,
        &(Expr){ .kind = EX_EW, .reg = REG_F32, .op = (uint16_t)op, .nargs = 1, .arg = { a } });
}

static ExprId number(Side *d, double value)
{
    return expr_add(d->w->s, &(Expr){ .kind = EX_CONST, .reg = REG_F32, .value = value });
}

/* Expression e, which stands in the axes of unit u, made over. */
static ExprId over_in(Side *d, const Unit *u, ExprId e)
{
    const Side reader = *d;
    d->map = arena_array(d->w->pl->arena, Ix, d->w->nvar);
    for_unit(d, u);
    const ExprId r = over(d, e);
    *d = reader;
    return r;
}

static ExprId root_expr(const Side *d, const Unit *u)
{
    return d->w->s->stage[u->n.root[0]].e;
}

/* Sum number j of the unit as far as it has grown. */
static ExprId grown(Side *d, int j)
{
    Ix ix[MAX_RANK];
    Var axis[MAX_AXES];
    const int n = over_axes(d, d->u->n.axis, d->u->n.naxis, axis);
    for (int i = 0; i < n; i++)
        ix[i] = ix_var(d->w->s->pool, axis[i]);
    return expr_read(d->w->s, d->acc[unit_of(d)][j], ix);
}

/* m, made of the greatest score so far. */
static ExprId greatest(Side *d)
{
    const Unit *u = &d->w->unit[d->online.greatest];
    return over_in(d, u, root_expr(d, u));
}

/* The value of a sum that has grown.  One that did while m grew is without its divisor; and where m
 * is infinite, so that a term was not a number, it has not noticed. */
static ExprId over_grown(Side *d, int j)
{
    const int unit = unit_of(d);
    const ExprId sum = grown(d, j);
    if (!strips_in(d->online.sums, unit))
        return sum;
    const ExprId divisor = d->online.divisor[unit];
    if (divisor)
        return op2(d, OP_div, sum, over_in(d, &d->w->unit[d->online.divides[unit]], divisor));
    const ExprId m = greatest(d);
    return op2(d, OP_add, sum, op2(d, OP_sub, m, m));
}

/* The value of a sum: as it has grown, or as it is. */
static ExprId over_value(Side *d, const Expr *e)
{
    for (int j = 0; j < d->u->n.nred; j++)
        if (d->u->n.red[j] == e->stage && strips_grows(d, d->u, j))
            return over_grown(d, j);
    Expr v = *e;
    v.stage = over_sum(d, e->stage);
    return expr_add(d->w->s, &v);
}

/* m, but a number where all scores so far are -inf, so that x - m is -inf there. */
static ExprId at_least_lowest(Side *d, ExprId m)
{
    return BUG(80) ? m : op2(d, OP_max, m, number(d, -(double)FLT_MAX));
}

/* In a loop in which m grows with the sums: m so far, and no divisor that is made of them.
 */
static ExprId over_growing(Side *d, const Expr *e)
{
    if (e->kind == EX_READ && strips_maker(d->w, e) == d->online.greatest)
        return at_least_lowest(d, greatest(d));
    if (e->kind == EX_EW && e->op == OP_div) {
        const int by = strips_maker(d->w, stages_expr(d->w->s, e->arg[1]));
        if (by >= 0 && strips_in(d->online.sums, by))
            return over(d, e->arg[0]);
    }
    return 0;
}

static ExprId over(Side *d, ExprId id)
{
    Stages *s = d->w->s;
    if (id < d->nmade && d->made[id])
        return d->made[id];
    Expr e = *stages_expr(s, id);
    Ix ix[MAX_RANK];
    Guard guard[MAX_GUARDS];
    ExprId r;
    for (int i = 0; i < e.nguard; i++) {
        guard[i] = e.guard[i];
        guard[i].ix = ix_subst(s->pool, guard[i].ix, d->map, d->w->nvar);
    }
    e.guard = guard;
    const int here = d->walk && e.kind == EX_READ ? strips_here(d->w, unit_of(d), &e) : -1;
    if (d->growing && (r = over_growing(d, &e)) != 0) {
        ; /* that is it */
    } else if (here >= 0 && !strips_in(d->made_before, here)) {
        r = over_in(d, &d->w->unit[here], root_expr(d, &d->w->unit[here]));
    } else if (e.kind == EX_VALUE) {
        r = over_value(d, &e);
    } else {
        if (e.kind == EX_READ && !d->to[e.buf])
            e.nguard = (uint8_t)guard_rest(d, e.ix, e.nix, guard, e.nguard);
        if (e.kind == EX_READ)
            e.buf = place(d, e.buf, e.ix, ix);
        for (int i = 0; i < e.nix && e.kind != EX_READ; i++)
            ix[i] = ix_subst(s->pool, e.ix[i], d->map, d->w->nvar);
        e.ix = ix;
        for (int i = 0; i < e.nargs; i++)
            e.arg[i] = over(d, e.arg[i]);
        r = expr_add(s, &e);
    }
    if (id < d->nmade)
        d->made[id] = r;
    return r;
}

/* ---- nests --------------------------------------------------------------------------------- */

static void add_nest(Side *d, StageId root, int walk)
{
    Nest n = plan_unit(d->w->s, root);
    n.walk = walk;
    n.strip = true;
    Nest *last = d->ph->nnest ? &d->ph->nest[d->ph->nnest - 1] : NULL;
    if (!last || last->walk != walk || !plan_merge(d->w->s, last, &n))
        phase_take(d->w->pl->arena, d->ph, &n);
}

/* A root over the axes of unit u, made over. */
static Stage over_root(Side *d, const Unit *u)
{
    Stages *s = d->w->s;
    Stage st = { .node = s->stage[u->n.root[0]].node };
    for_unit(d, u);
    st.axis = arena_array(s->arena, Var, u->n.naxis + 1);
    st.naxis = (uint8_t)over_axes(d, u->n.axis, u->n.naxis, st.axis);
    return st;
}

/* The buffer in which the last nest keeps just this; 0: none. */
static uint16_t kept_already(const Side *d, const Stage *st, int walk)
{
    const Stages *s = d->w->s;
    const Nest *n = d->ph->nnest ? &d->ph->nest[d->ph->nnest - 1] : NULL;
    for (int i = 0; n && n->walk == walk && i < n->nroot; i++) {
        const Stage *o = &s->stage[n->root[i]];
        const GBuf *a = &s->buf[o->store[0].buf], *b = &s->buf[st->store[0].buf];
        if (o->e == st->e && o->nstore == 1 && st->nstore == 1 && a->home == HOME_PRIVATE &&
            b->home == HOME_PRIVATE && a->dt == b->dt && a->rank == b->rank &&
            memcmp(o->store[0].ix, st->store[0].ix, sizeof(Ix) * (size_t)a->rank) == 0)
            return o->store[0].buf;
    }
    return 0;
}

/* In this loop buf is not stored, since `same` has just that; in another it may have been. */
static void forget(Side *d, uint16_t buf, uint16_t same)
{
    Stages *s = d->w->s;
    bool stored = buf == same;
    for (uint32_t i = d->first; i < s->nstage; i++)
        stored |= s->stage[i].nstore && s->stage[i].store[0].buf == buf;
    if (!stored)
        s->buf[buf].home = HOME_NONE;
}

void strips_add_unit(Side *d, const Unit *u, int walk)
{
    Stages *s = d->w->s;
    Stage st = over_root(d, u);
    const Stage old = s->stage[u->n.root[0]];
    st.e = over(d, old.e);
    st.nstore = old.nstore;
    st.store = arena_array(s->arena, Store, old.nstore);
    for (int k = 0; k < old.nstore; k++)
        st.store[k].buf = place(d, old.store[k].buf, old.store[k].ix, st.store[k].ix);
    if (is_ragged(d, d->grid) && !d->to[old.store[0].buf]) {
        const Guard there = { place_of(d, d->grid), 0, d->w->count[d->grid] };
        st.only = arena_copy(s->arena, &there, sizeof there);
    }
    const uint16_t same = kept_already(d, &st, walk);
    if (same) {
        forget(d, st.store[0].buf, same);
        d->to[old.store[0].buf] = same;
        return;
    }
    add_nest(d, stages_add(s, &st), walk);
}

static StageId acc_root(Side *d, Stage st, uint16_t acc, ExprId e)
{
    Stages *s = d->w->s;
    st.e = e;
    st.nstore = 1;
    st.store = arena_array(s->arena, Store, 1);
    st.store[0].buf = acc;
    for (int i = 0; i < st.naxis; i++)
        st.store[0].ix[i] = ix_var(s->pool, st.axis[i]);
    return stages_add(s, &st);
}

void strips_start_sums(Side *d, const Unit *u)
{
    Stages *s = d->w->s;
    const int unit = (int)(u - d->w->unit);
    for (int j = 0; j < u->n.nred; j++) {
        if (!strips_grows(d, u, j))
            continue;
        const Stage st = over_root(d, u);
        const Op rop = s->stage[u->n.red[j]].rop;
        int64_t shape[MAX_RANK];
        for (int i = 0; i < st.naxis; i++)
            shape[i] = ix_var_count(s->pool, st.axis[i]);
        const char *name = arena_printf(s->arena, "sum%u", s->nbuf);
        const uint16_t acc = stages_temp(s, name, DT_F32, st.naxis, shape);
        s->buf[acc].home = HOME_PRIVATE;
        d->acc[unit][j] = acc;
        add_nest(d, acc_root(d, st, acc, number(d, first_value(rop))), 0);
    }
}

void strips_grow_sums(Side *d, const Unit *u, int walk)
{
    Stages *s = d->w->s;
    for (int j = 0; j < u->n.nred; j++) {
        if (!strips_grows(d, u, j))
            continue;
        const Stage st = over_root(d, u);
        const StageId sum = over_sum(d, u->n.red[j]);
        ExprId before = grown(d, j);
        if (d->growing && !BUG(78))
            before = op2(d, OP_mul, before,
                         expr_read(s, d->scale, &(Ix){ ix_var(s->pool, d->small[d->grid]) }));
        const ExprId after = op2(d, (Op)s->stage[sum].rop, before, expr_value(s, sum));
        add_nest(d, acc_root(d, st, d->acc[unit_of(d)][j], after), walk);
    }
}

void strips_grow_greatest(Side *d, int walk)
{
    Stages *s = d->w->s;
    const Unit *u = &d->w->unit[d->online.greatest];
    const Stage st = over_root(d, u);
    const StageId sum = over_sum(d, u->n.red[0]);
    const bool floors = stages_expr(s, root_expr(d, u))->kind == EX_EW;
    const ExprId before = grown(d, 0), after = op2(d, OP_max, before, expr_value(s, sum));
    ExprId m[2] = { before, after };
    for (int i = 0; i < 2; i++)
        m[i] = at_least_lowest(d, floors ? op1(d, OP_floor, m[i]) : m[i]);
    const ExprId factor = op1(d, OP_exp, op2(d, OP_sub, m[0], m[1]));
    add_nest(d, acc_root(d, st, d->scale, factor), walk);
    add_nest(d, acc_root(d, st, d->acc[unit_of(d)][0], after), walk);
}
