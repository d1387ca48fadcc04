/* SPDX-License-Identifier: Apache-2.0 */
/* One element of a node as a scalar expression, by demand.
 *
 * An elementwise op asks its arguments at the same point, a view asks its argument at another
 * point, a reduction becomes a stage over the axes of the point and gives its value.  So views
 * cost nothing, and one node asked for at several points (the gates of an LSTM are slices of one
 * product) becomes several stages that the planner puts side by side.
 *
 * This is the one place that knows what each op does to indices. */
#include "codegen/stages_demand.h"

#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"

/* ---- axes -------------------------------------------------------------------------------- */

/* The nth axis of this extent: values of equal shape share their axes, so their stages meet. */
Var demand_axis(Demand *d, int64_t extent, int nth, bool red)
{
    for (uint32_t i = 0; i < d->naxis; i++)
        if (d->axis[i].extent == extent && d->axis[i].nth == nth && d->axis[i].red == red)
            return d->axis[i].v;
    static const char *const names[2] = { "ijklmnpq", "rsuwxyzh" };
    const char name[2] = { names[red][d->naxis % 8], 0 };
    const Var v = ix_var_new(d->s->pool, name, extent);
    if (d->naxis >= d->axis_cap)
        arena_grow(d->s->arena, d->axis, d->naxis, d->axis_cap);
    d->axis[d->naxis++] = (struct AxisKey){ extent, nth, red, v };
    return v;
}

/* Axes for a shape: at[i] is the index of dimension i, axis[] the axes of extent other than 1. */
int demand_axes(Demand *d, const Shape *s, bool red, Ix *at, Var *axis)
{
    int n = 0;
    for (int i = 0; i < s->rank; i++) {
        int nth = 0;
        for (int j = 0; j < i; j++)
            nth += s->dim[j] == s->dim[i];
        if (s->dim[i] == 1) {
            at[i] = ix_const(d->s->pool, 0);
            continue;
        }
        axis[n] = demand_axis(d, s->dim[i], nth, red);
        at[i] = ix_var(d->s->pool, axis[n]);
        n++;
    }
    return n;
}

/* ---- expressions ------------------------------------------------------------------------- */

static ExprId constant(Demand *d, double value, RegType reg)
{
    return expr_add(d->s, &(Expr){ .kind = EX_CONST, .reg = (uint8_t)reg, .value = value });
}

bool demand_is_flat(const Demand *d, int scope, Ref r)
{
    return scope == 0 && d->flat[r];
}

static Ix linear(Demand *d, const Shape *s, const Ix *at, bool flat)
{
    IxPool *p = d->s->pool;
    if (flat)
        return at[0];
    Ix ix = ix_const(p, 0);
    for (int i = 0; i < s->rank; i++)
        ix = ix_add(p, ix_scale(p, ix, s->dim[i]), at[i]);
    return ix;
}

typedef struct GuardSet {
    Guard at[MAX_GUARDS];
    int n;
    bool never;
} GuardSet;

static void guard_add(Demand *d, GuardSet *gs, Ix ix, int64_t lo, int64_t hi)
{
    const IxRange r = ix_range(d->s->pool, ix);
    if (r.lo >= lo && r.hi < hi)
        return;
    gs->never |= r.hi < lo || r.lo >= hi;
    gtc_assert(gs->n < MAX_GUARDS, "more than %d guards on one value", MAX_GUARDS);
    gs->at[gs->n++] = (Guard){ ix, lo, hi };
}

struct Push {
    Demand *d;
    const GuardSet *gs;
    double value;
    bool plain; /* the expression is the read itself */
};

static ExprId push_guard(void *arg, ExprId id)
{
    struct Push *p = arg;
    Expr e = *stages_expr(p->d->s, id);
    if (e.kind != EX_READ)
        return id;
    GuardSet all = { .n = 0 };
    for (int i = 0; i < e.nguard; i++)
        all.at[all.n++] = e.guard[i];
    for (int i = 0; i < p->gs->n; i++) {
        gtc_assert(all.n < MAX_GUARDS, "more than %d guards on one read", MAX_GUARDS);
        all.at[all.n++] = p->gs->at[i];
    }
    e.nguard = (uint8_t)all.n;
    e.guard = all.at;
    if (p->plain)
        e.value = p->value;
    return expr_add(p->d->s, &e);
}

/* e where the guards hold, else value; reads below are not done where they do not. */
static ExprId guarded(Demand *d, ExprId id, const GuardSet *gs, double value)
{
    const Expr *e = stages_expr(d->s, id);
    const RegType reg = e->reg;
    if (gs->never)
        return constant(d, value, reg);
    if (gs->n == 0 || (e->kind == EX_CONST && e->value == value))
        return id;
    const bool plain = e->kind == EX_READ && (e->nguard == 0 || e->value == value);
    struct Push push = { d, gs, value, plain };
    const ExprId safe = expr_map(d->s, id, push_guard, &push);
    if (plain)
        return safe;
    return expr_add(d->s, &(Expr){ .kind = EX_WHEN,
                                   .reg = (uint8_t)reg,
                                   .nargs = 1,
                                   .arg = { safe },
                                   .nguard = (uint8_t)gs->n,
                                   .guard = gs->at,
                                   .value = value });
}

static ExprId elementwise(Demand *d, RegType reg, Op op, int n, const ExprId *arg)
{
    Expr e = { .kind = EX_EW, .reg = (uint8_t)reg, .op = (uint16_t)op, .nargs = (uint8_t)n };
    memcpy(e.arg, arg, sizeof *arg * (size_t)n);
    return expr_add(d->s, &e);
}

/* ---- reductions -------------------------------------------------------------------------- */

static ExprId reduction(Demand *d, Ref r, int scope, Op rop, const Ix *at, int nat, const Var *red,
                        int nred, ExprId e)
{
    const RegType reg = stages_expr(d->s, e)->reg;
    if (nred == 0)
        return e;
    Stage st = { .red = arena_copy(d->s->arena, red, sizeof *red * (size_t)nred),
                 .nred = (uint8_t)nred,
                 .rop = (uint8_t)rop,
                 .e = e,
                 .when = d->when,
                 .node = r,
                 .in_scan = scope == 1 };
    /* the output axes are those of the point, in its order */
    Expr point = { .kind = EX_INDEX, .nix = (uint8_t)nat, .ix = at };
    const Expr *axes = stages_expr(d->s, expr_add(d->s, &point));
    Var order[MAX_RANK * 2];
    int n = 0;
    for (int i = 0; i < nat; i++)
        for (int j = 0; j < axes->ndep; j++) {
            bool seen = !ix_uses(d->s->pool, at[i], axes->dep[j]) || axes->dep[j] == d->s->seq;
            if (stages_is_pick(d->s, axes->dep[j]))
                d->status = FAIL(d->cx, TYPE, "gather: of rows that are not stored");
            for (int k = 0; k < n; k++)
                seen |= order[k] == axes->dep[j];
            if (!seen)
                order[n++] = axes->dep[j];
        }
    st.axis = arena_copy(d->s->arena, order, sizeof *order * (size_t)(n ? n : 1));
    st.naxis = (uint8_t)n;
    const StageId id = stages_add(d->s, &st);
    return expr_add(d->s, &(Expr){ .kind = EX_VALUE, .reg = (uint8_t)reg, .stage = id });
}

/* Reduced axes of a list of extents; at[i] is the index of reduced dimension i. */
static int reduced(Demand *d, const int64_t *extent, int n, Ix *at, Var *red)
{
    Shape s = { .rank = (int8_t)n };
    memcpy(s.dim, extent, sizeof *extent * (size_t)n);
    return demand_axes(d, &s, true, at, red);
}

static Op reduce_op(Op op)
{
    return op == OP_amax ? OP_max : op == OP_amin ? OP_min : OP_add;
}

static ExprId demand_reduce(Demand *d, int scope, Ref r, const Ix *at)
{
    const Node *n = &d->g[scope]->node[r];
    const Shape *in = &d->g[scope]->node[n->arg[0]].type.shape;
    int64_t extent[MAX_RANK];
    int nred = 0, nout = 0;
    for (int i = 0; i < in->rank; i++)
        if (n->attr.axes.mask >> i & 1)
            extent[nred++] = in->dim[i];
    Ix rat[MAX_RANK], ain[MAX_RANK];
    Var red[MAX_RANK];
    if (demand_is_flat(d, scope, n->arg[0])) {
        const bool parts = d->part[r].bound;
        extent[0] = parts ? d->s->buf[d->part[r].buf].shape[0] : shape_count(in);
        const int one = reduced(d, extent, 1, rat, red);
        const ExprId e =
            parts ? expr_read(d->s, d->part[r].buf, rat) : demand_value(d, scope, n->arg[0], rat);
        return reduction(d, r, scope, reduce_op(n->op), at, 0, red, one, e);
    }
    const int nvar = reduced(d, extent, nred, rat, red);
    nred = 0;
    for (int i = 0; i < in->rank; i++)
        ain[i] = n->attr.axes.mask >> i & 1 ? rat[nred++] : at[nout++];
    const ExprId e = demand_value(d, scope, n->arg[0], ain);
    return reduction(d, r, scope, reduce_op(n->op), at, nout, red, nvar, e);
}

ExprId demand_partial(Demand *d, Ref r, const Ix *at, Var red, ExprId e)
{
    const ExprId part = reduction(d, r, 0, reduce_op(d->g[0]->node[r].op), at, 1, &red, 1, e);
    d->s->stage[stages_expr(d->s, part)->stage].node = REF_NONE; /* it is not r yet */
    return part;
}

static ExprId demand_matmul(Demand *d, int scope, Ref r, const Ix *at)
{
    const Graph *g = d->g[scope];
    const Node *n = &g->node[r];
    const Shape *sa = &g->node[n->arg[0]].type.shape, *sb = &g->node[n->arg[1]].type.shape;
    const uint8_t *over[2] = { n->attr.contract.over_a, n->attr.contract.over_b };
    const uint8_t *batch[2] = { n->attr.contract.batch_a, n->attr.contract.batch_b };
    const int nover = n->attr.contract.nover, nbatch = n->attr.contract.nbatch;
    int64_t extent[4];
    for (int i = 0; i < nover; i++)
        extent[i] = sa->dim[over[0][i]];
    Ix rat[MAX_RANK], ix[2][MAX_RANK];
    Var red[MAX_RANK];
    const int nred = reduced(d, extent, nover, rat, red);
    int next = nbatch;
    for (int k = 0; k < 2; k++) {
        const Shape *s = k ? sb : sa;
        bool taken[MAX_RANK] = { 0 };
        for (int i = 0; i < nover; i++) {
            ix[k][over[k][i]] = rat[i];
            taken[over[k][i]] = true;
        }
        for (int i = 0; i < nbatch; i++) {
            ix[k][batch[k][i]] = at[i];
            taken[batch[k][i]] = true;
        }
        for (int i = 0; i < s->rank; i++)
            if (!taken[i])
                ix[k][i] = at[next++];
    }
    const ExprId ab[2] = { demand_value(d, scope, n->arg[0], ix[0]),
                           demand_value(d, scope, n->arg[1], ix[1]) };
    if (d->status != ST_OK)
        return constant(d, 0, REG_F32);
    const ExprId e = elementwise(d, reg_of(n->type.dt), OP_mul, 2, ab);
    return reduction(d, r, scope, OP_add, at, n->type.shape.rank, red, nred, e);
}

/* Where windows do not overlap, an element has one window at most: no sum, but a place and a tap.
 */
static bool apart(const Node *fold, int i)
{
    const int64_t dilation = fold->attr.window.dilation[i];
    return (dilation == 1 || fold->attr.window.kernel[i] == 1) &&
           fold->attr.window.kernel[i] <= fold->attr.window.stride[i];
}

static ExprId demand_fold(Demand *d, int scope, Ref r, const Ix *at)
{
    const Graph *g = d->g[scope];
    IxPool *p = d->s->pool;
    const Node *n = &g->node[r];
    const Shape *in = &g->node[n->arg[0]].type.shape;
    const int nw = n->attr.window.n, first = n->attr.window.axis[0];
    Ix rat[MAX_RANK], ain[MAX_RANK];
    Var red[MAX_RANK];
    int64_t taps[3];
    for (int i = 0; i < nw; i++)
        taps[i] = apart(n, i) ? 1 : n->attr.window.kernel[i];
    const int nred = reduced(d, taps, nw, rat, red);
    GuardSet gs = { .n = 0 };
    for (int i = 0; i < first; i++)
        ain[i] = at[i];
    for (int i = 0; i < nw; i++) {
        const int64_t stride = n->attr.window.stride[i], kernel = n->attr.window.kernel[i];
        Ix *place = &ain[first + i], *tap = &ain[first + nw + i];
        if (apart(n, i)) {
            *place = ix_div(p, at[first + i], stride);
            *tap = ix_mod(p, at[first + i], stride);
            guard_add(d, &gs, *tap, 0, kernel);
        } else {
            *tap = rat[i];
            const Ix q = ix_sub(p, at[first + i],
                                ix_scale(p, *tap, BUG(44) ? 1 : n->attr.window.dilation[i]));
            /* shifted to be >= 0, so that the division is of a natural number */
            const int64_t up = (kernel - 1) * n->attr.window.dilation[i];
            const int64_t shift = (up + stride - 1) / stride * stride;
            const Ix pos = ix_shift(p, q, shift);
            if (stride > 1)
                guard_add(d, &gs, ix_mod(p, pos, stride), 0, 1);
            *place = ix_shift(p, ix_div(p, pos, stride), -(shift / stride));
        }
        guard_add(d, &gs, *place, 0, in->dim[first + i]);
    }
    for (int i = first + nw; i < n->type.shape.rank; i++)
        ain[i + nw] = at[i];
    const ExprId e = guarded(d, demand_value(d, scope, n->arg[0], ain), &gs, 0);
    return reduction(d, r, scope, OP_add, at, n->type.shape.rank, red, nred, e);
}

/* ---- views ------------------------------------------------------------------------------- */

/* Dimensions are matched in chunks of equal size, so that only what really changes is divided. */
static void reshape_index(IxPool *p, const Shape *in, const Shape *out, const Ix *at, Ix *ain)
{
    for (int i = 0; i < in->rank; i++)
        ain[i] = ix_const(p, 0);
    if (shape_count(in) == 0)
        return;
    int i = 0, o = 0;
    while (i < in->rank || o < out->rank) {
        const int i0 = i;
        int64_t ni = i < in->rank ? in->dim[i++] : 1, no = 1;
        Ix lin = ix_const(p, 0);
        if (o < out->rank) {
            no = out->dim[o];
            lin = at[o++];
        }
        while (ni != no) {
            if (ni < no) {
                ni = size_mul(ni, in->dim[i++]);
            } else {
                no = size_mul(no, out->dim[o]);
                lin = ix_add(p, ix_scale(p, lin, out->dim[o]), at[o]);
                o++;
            }
        }
        for (int k = i - 1; k > i0; k--) {
            ain[k] = ix_mod(p, lin, in->dim[k]);
            lin = ix_div(p, lin, in->dim[BUG(43) ? i0 : k]);
        }
        if (i > i0)
            ain[i0] = lin;
    }
}

static ExprId demand_pad(Demand *d, int scope, Ref r, const Ix *at)
{
    IxPool *p = d->s->pool;
    const Node *n = &d->g[scope]->node[r];
    const Shape *in = &d->g[scope]->node[n->arg[0]].type.shape;
    GuardSet gs = { .n = 0 };
    Ix ain[MAX_RANK];
    for (int i = 0; i < in->rank; i++) {
        const int64_t step = n->attr.pad.step[i];
        const int64_t shift = (n->attr.pad.lo[i] + step - 1) / step * step;
        const Ix pos = ix_shift(p, at[i], shift - n->attr.pad.lo[i]); /* >= 0 */
        if (step > 1)
            guard_add(d, &gs, ix_mod(p, pos, step), 0, 1);
        ain[i] = ix_shift(p, ix_div(p, pos, step), -(shift / step));
        guard_add(d, &gs, ain[i], 0, in->dim[i] - BUG(42));
    }
    if (gs.never)
        return constant(d, n->attr.pad.value, reg_of(n->type.dt));
    return guarded(d, demand_value(d, scope, n->arg[0], ain), &gs, n->attr.pad.value);
}

/* Inside one part: that part.  Across parts: a choice by the index. */
static ExprId demand_concat(Demand *d, int scope, Ref r, const Ix *at)
{
    IxPool *p = d->s->pool;
    const Graph *g = d->g[scope];
    const Node *n = &g->node[r];
    const int axis = n->attr.axis.axis;
    const IxRange rng = ix_range(p, at[axis]);
    Ix ain[MAX_RANK];
    memcpy(ain, at, sizeof *at * (size_t)n->type.shape.rank);
    int64_t lo = 0;
    ExprId result = 0;
    for (uint32_t i = 0; i < n->nargs; i++) {
        const int64_t extent = g->node[n->arg[i]].type.shape.dim[axis];
        GuardSet gs = { .n = 0 };
        ain[axis] = ix_shift(p, at[axis], -lo);
        lo += extent;
        if (rng.hi < lo - extent || rng.lo >= lo || extent == 0)
            continue;
        guard_add(d, &gs, ain[axis], 0, extent);
        const ExprId e = guarded(d, demand_value(d, scope, n->arg[i], ain), &gs, 0);
        const RegType reg = stages_expr(d->s, e)->reg;
        if (!result)
            result = e;
        else if (reg == REG_BOOL)
            result = elementwise(d, reg, OP_or, 2, (ExprId[]){ result, e });
        else { /* not a sum: 0 + NaN of a neighbour's part must not spread, and -0 must stay */
            const ExprId here = guarded(d, constant(d, 1, REG_BOOL), &gs, 0);
            result = elementwise(d, reg, OP_select, 3, (ExprId[]){ here, e, result });
        }
    }
    return result ? result : constant(d, 0, reg_of(n->type.dt));
}

static ExprId demand_view(Demand *d, int scope, Ref r, const Ix *at)
{
    IxPool *p = d->s->pool;
    const Node *n = &d->g[scope]->node[r];
    const Shape *in = &d->g[scope]->node[n->arg[0]].type.shape;
    const int rank = n->type.shape.rank;
    Ix ain[MAX_RANK];
    int k = 0;
    switch (n->op) {
    case OP_reshape:
        if (demand_is_flat(d, scope, r)) {
            ain[0] = at[0];
            break;
        }
        reshape_index(p, in, &n->type.shape, at, ain);
        break;
    case OP_transpose:
        for (int i = 0; i < rank; i++)
            ain[n->attr.perm.dim[i]] = at[i];
        break;
    case OP_broadcast:
        for (int i = 0; i < rank && !demand_is_flat(d, scope, r); i++)
            if (!(n->attr.axes.mask >> i & 1))
                ain[k++] = at[i];
        break;
    case OP_slice:
        for (int i = 0; i < rank; i++)
            ain[i] = ix_shift(p, ix_scale(p, at[i], n->attr.slice.step[i]), n->attr.slice.lo[i]);
        break;
    case OP_window: {
        const int nw = n->attr.window.n, first = n->attr.window.axis[0];
        for (int i = 0; i < in->rank; i++) {
            const int w = i - first;
            ain[i] = i < first ? at[i] : at[w < nw ? i : i + nw];
            if (w >= 0 && w < nw)
                ain[i] = ix_add(
                    p, ix_scale(p, at[i], n->attr.window.stride[w]),
                    ix_scale(p, at[first + nw + w],
                             BUG(45) ? n->attr.window.stride[w] : n->attr.window.dilation[w]));
        }
        break;
    }
    default:
        gtc_assert(0, "%s is no view of one argument", op_info[n->op].name);
    }
    return demand_value(d, scope, n->arg[0], ain);
}

/* ---- rows by index ----------------------------------------------------------------------- */

/* The index of gather and scatter_add at one of its points. */
static ExprId index_at(Demand *d, int scope, Ref r, const Ix *lead, int axis, const Ix *own)
{
    const Ref index = d->g[scope]->node[r].arg[1];
    const int rank = d->g[scope]->node[index].type.shape.rank;
    Ix at[MAX_RANK];
    for (int i = 0; i < rank; i++)
        at[i] = i < axis ? lead[i] : own[i - axis];
    return demand_value(d, scope, index, at);
}

static ExprId at_pick(Demand *d, Var pick, ExprId row, ExprId e)
{
    return expr_add(d->s, &(Expr){ .kind = EX_AT,
                                   .reg = stages_expr(d->s, e)->reg,
                                   .nargs = 2,
                                   .arg = { row, e },
                                   .var = pick });
}

/* A row that an expression names; one that is known is a view. */
static ExprId demand_gather(Demand *d, int scope, Ref r, const Ix *at)
{
    IxPool *p = d->s->pool;
    const Graph *g = d->g[scope];
    const Node *n = &g->node[r];
    const Shape *in = &g->node[n->arg[0]].type.shape;
    const int axis = n->attr.axis.axis, nindex = g->node[n->arg[1]].type.shape.rank;
    const int64_t rows = in->dim[axis];
    Ix ain[MAX_RANK];
    for (int i = 0; i < in->rank; i++)
        ain[i] = i < axis ? at[i] : i > axis ? at[nindex + i - axis - 1] : 0;
    if (rows < 2)
        return demand_value(d, scope, n->arg[0], ain);
    const ExprId row = index_at(d, scope, r, at, axis, at + axis);
    const Expr e = *stages_expr(d->s, row);
    const IxRange range = e.kind == EX_INDEX ? ix_range(p, e.ix[0]) : (IxRange){ -1, -1 };
    if (range.lo >= 0 && range.hi < rows) {
        ain[axis] = e.ix[0];
        return demand_value(d, scope, n->arg[0], ain);
    }
    const Var pick = stages_pick(d->s, row, rows);
    ain[axis] = ix_var(p, pick);
    const ExprId value = demand_value(d, scope, n->arg[0], ain);
    return at_pick(d, pick, row, value);
}

void demand_scatter(Demand *d, int scope, Ref r, const Place *place)
{
    IxPool *p = d->s->pool;
    const Graph *g = d->g[scope];
    const Node *n = &g->node[r];
    const Shape *items = &g->node[n->arg[0]].type.shape, *sums = &n->type.shape;
    const int axis = n->attr.scatter.axis, nindex = g->node[n->arg[1]].type.shape.rank;
    const RegType reg = reg_of(n->type.dt);
    Ix at[MAX_RANK], to[MAX_RANK];
    Var var[MAX_RANK];
    int nvar = demand_axes(d, sums, false, to, var);
    demand_root(d, scope, r, var, nvar, constant(d, 0, reg), to, sums, place, 1);

    nvar = demand_axes(d, items, false, at, var);
    for (int i = 0; i < sums->rank; i++)
        to[i] = i < axis ? at[i] : i > axis ? at[i - axis - 1 + nindex] : 0;
    const ExprId row = index_at(d, scope, r, at, axis, at + axis);
    const Var pick = sums->dim[axis] > 1 ? stages_pick(d->s, row, sums->dim[axis]) : 0;
    if (pick)
        to[axis] = ix_var(p, pick);
    const Binding sum = { true, place->has_lead, place->buf, place->lead };
    const ExprId term[2] = { demand_read(d, &sum, to, sums, false),
                             demand_value(d, scope, n->arg[0], at) };
    ExprId e = elementwise(d, reg, OP_add, 2, term);
    if (pick)
        e = at_pick(d, pick, row, e);
    demand_root(d, scope, r, var, nvar, e, to, sums, place, 1);
    Stage *st = &d->s->stage[d->s->nstage - 1];
    st->adds = true;
    st->pick = pick;
}

/* ---- running sums ------------------------------------------------------------------------ */

/* An element of the sums of `step` elements each, from those of step / 2: its own and, as far as
 * there is one, that of the element step / 2 before it.  half: where those are, or 0 for the
 * argument itself. */
static ExprId doubled(Demand *d, int scope, Ref r, int64_t step, uint16_t half, const Ix *at)
{
    const Node *n = &d->g[scope]->node[r];
    const Shape *shape = &n->type.shape;
    const int axis = n->attr.axis.axis;
    const Binding sums = { .bound = true, .buf = half };
    Ix back[MAX_RANK];
    ExprId e[2];
    memcpy(back, at, sizeof *at * (size_t)shape->rank);
    back[axis] = ix_shift(d->s->pool, at[axis], -step / 2);
    const Ix *const point[2] = { back, at };
    for (int i = 0; i < 2; i++)
        e[i] = half ? demand_read(d, &sums, point[i], shape, false)
                    : demand_value(d, scope, n->arg[0], point[i]);
    GuardSet gs = { .n = 0 };
    guard_add(d, &gs, back[axis], 0, shape->dim[axis]);
    e[0] = guarded(d, e[0], &gs, 0);
    return elementwise(d, reg_of(n->type.dt), OP_add, 2, e);
}

/* Rounds of doubling, all but the last stored.  log2(extent) rounds that are each wholly parallel,
 * and whose rounding errors grow with their number, beat one chain of sums. */
static ExprId demand_cumsum(Demand *d, int scope, Ref r, const Ix *at)
{
    const Node *n = &d->g[scope]->node[r];
    const int64_t extent = n->type.shape.dim[n->attr.axis.axis];
    const Type type = { dtype_is_float(n->type.dt) ? DT_F32 : n->type.dt, n->type.shape };
    if (extent < 2)
        return demand_value(d, scope, n->arg[0], at);
    uint16_t sums = 0;
    int64_t step = 2;
    for (; step < extent; step *= 2) {
        Ix own[MAX_RANK];
        Var axis[MAX_RANK];
        const int naxis = demand_axes(d, &type.shape, false, own, axis);
        const ExprId e = doubled(d, scope, r, step, sums, own);
        const char *name = arena_printf(d->s->arena, "%c%u_%lld", "pq"[scope], r, (long long)step);
        const Place place = { .buf = demand_buffer(d, name, &type, 0, false) };
        demand_root(d, scope, r, axis, naxis, e, own, &type.shape, &place, 1);
        sums = place.buf;
    }
    return doubled(d, scope, r, step, sums, at);
}

/* ---- sources ----------------------------------------------------------------------------- */

/* Dimensions of extent 1 are no dimensions of a buffer, so that its last one is what moves. */
static int squeeze(const Shape *s, const Ix *at, Ix *out)
{
    int n = 0;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] != 1)
            out[n++] = at[i];
    return n;
}

ExprId demand_read(Demand *d, const Binding *b, const Ix *at, const Shape *shape, bool flat)
{
    Ix ix[MAX_RANK + 1];
    int n = 0;
    if (b->has_lead)
        ix[n++] = b->lead;
    if (flat)
        ix[n] = at[0];
    else
        squeeze(shape, at, ix + n);
    return expr_read(d->s, b->buf, ix);
}

static ExprId demand_input(Demand *d, int scope, Ref r, const Ix *at)
{
    const Graph *g = d->g[scope];
    const Node *scan = &d->g[0]->node[d->scan];
    uint32_t k = 0;
    while (g->input[k] != r)
        k++;
    const Shape *s = &g->node[r].type.shape;
    if (scope == 0) {
        const Binding in = { .bound = true, .buf = (uint16_t)k };
        return demand_read(d, &in, at, s, d->flat[r]);
    }
    if (k < scan->attr.scan.ncarry) {
        IxPool *p = d->s->pool;
        const Binding b = { true, true, d->carry[k],
                            d->s->seq ? ix_mod(p, ix_var(p, d->s->seq), 2) : ix_const(p, 0) };
        return demand_read(d, &b, at, s, false);
    }
    Ix full[MAX_RANK + 1];
    const bool per_step = k < scan->attr.scan.ncarry + scan->attr.scan.nstep;
    full[0] = d->step;
    if (s->rank)
        memcpy(full + per_step, at, sizeof *at * (size_t)s->rank);
    return demand_value(d, 0, scan->arg[k], full);
}

static ExprId demand_rand(Demand *d, int scope, Ref r, const Ix *at)
{
    const Node *n = &d->g[scope]->node[r];
    Expr e = { .kind = EX_RAND, .reg = REG_F32, .nargs = 5, .nix = 2 };
    for (int i = 0; i < 5; i++)
        e.arg[i] = demand_value(d, scope, n->arg[i], NULL);
    int64_t row = 1;
    for (int i = !BUG(46); i < n->type.shape.rank; i++)
        row *= n->type.shape.dim[i];
    const Ix ix[2] = { linear(d, &n->type.shape, at, demand_is_flat(d, scope, r)),
                       ix_const(d->s->pool, row) };
    e.ix = ix;
    return expr_add(d->s, &e);
}

/* ---- the whole --------------------------------------------------------------------------- */

static ExprId compute(Demand *d, int scope, Ref r, const Ix *at)
{
    const Node *n = &d->g[scope]->node[r];
    const RegType reg = reg_of(n->type.dt);
    ExprId arg[3];
    switch (op_info[n->op].cls) {
    case CLASS_ELEMENTWISE:
        for (uint32_t i = 0; i < n->nargs; i++)
            arg[i] = demand_value(d, scope, n->arg[i], at);
        if (n->op == OP_cast && stages_expr(d->s, arg[0])->reg == reg)
            return arg[0]; /* f16 and bf16 are f32 in registers: rounded when stored */
        return elementwise(d, reg, n->op, (int)n->nargs, arg);
    case CLASS_VIEW:
        if (n->op == OP_pad)
            return demand_pad(d, scope, r, at);
        if (n->op == OP_gather)
            return demand_gather(d, scope, r, at);
        return n->op == OP_concat ? demand_concat(d, scope, r, at) : demand_view(d, scope, r, at);
    case CLASS_REDUCE:
        return n->op == OP_fold     ? demand_fold(d, scope, r, at)
               : n->op == OP_cumsum ? demand_cumsum(d, scope, r, at)
                                    : demand_reduce(d, scope, r, at);
    case CLASS_CONTRACT:
        return demand_matmul(d, scope, r, at);
    default:
        break;
    }
    switch (n->op) {
    case OP_input:
        return demand_input(d, scope, r, at);
    case OP_const:
        return constant(d, n->attr.fill.value, reg);
    case OP_iota:
        return expr_add(d->s, &(Expr){ .kind = EX_INDEX,
                                       .reg = (uint8_t)reg,
                                       .nix = 1,
                                       .ix = &at[n->attr.axis.axis] });
    case OP_rand:
        return demand_rand(d, scope, r, at);
    default:
        d->status = FAIL(d->cx, TYPE, "%s: no kernel can hold it", op_info[n->op].name);
        return constant(d, 0, REG_F32);
    }
}

/* Registers hold u8 as i32: what may leave 0..255 comes back by a cast. */
static bool may_leave_u8(const Graph *g, const Node *n)
{
    const DType from = n->nargs ? g->node[n->arg[0]].type.dt : n->type.dt;
    if (n->type.dt != DT_U8)
        return false;
    switch ((int)n->op) {
    case OP_add:
    case OP_sub:
    case OP_mul:
    case OP_neg:
    case OP_iota:
    case OP_sum:
    case OP_cumsum:
    case OP_fold:
    case OP_scatter_add:
    case OP_matmul:
        return true;
    default:
        return n->op == OP_cast && (from == DT_I32 || from == DT_I64);
    }
}

ExprId demand_compute(Demand *d, int scope, Ref r, const Ix *at)
{
    const ExprId e = compute(d, scope, r, at);
    const bool wraps = may_leave_u8(d->g[scope], &d->g[scope]->node[r]);
    return wraps ? elementwise(d, REG_I32, OP_cast, 1, &e) : e;
}

ExprId demand_value(Demand *d, int scope, Ref r, const Ix *at)
{
    const Node *n = &d->g[scope]->node[r];
    const int rank = demand_is_flat(d, scope, r) ? 1 : n->type.shape.rank;
    if (d->bind[scope][r].bound)
        return demand_read(d, &d->bind[scope][r], at, &n->type.shape, demand_is_flat(d, scope, r));
    Memo key = { .key = { (uint32_t)scope, r } };
    if (rank)
        memcpy(key.key + 2, at, sizeof *at * (size_t)rank);
    for (uint32_t i = d->nmemo; i-- > 0;)
        if (memcmp(d->memo[i].key, key.key, sizeof key.key) == 0)
            return d->memo[i].e;
    key.e = demand_compute(d, scope, r, at);
    Expr *made = &d->s->expr[key.e];
    if (!made->node) {
        made->node = r;
        made->in_scan = scope == 1;
    }
    if (d->nmemo >= d->memo_cap)
        arena_grow(d->s->arena, d->memo, d->nmemo, d->memo_cap);
    d->memo[d->nmemo++] = key;
    return key.e;
}

/* ---- roots ------------------------------------------------------------------------------- */

void demand_root(Demand *d, int scope, Ref r, const Var *axis, int naxis, ExprId e, const Ix *at,
                 const Shape *shape, const Place *place, int nplace)
{
    Stage st = { .axis = arena_copy(d->s->arena, axis, sizeof *axis * (size_t)(naxis ? naxis : 1)),
                 .naxis = (uint8_t)naxis,
                 .e = e,
                 .store = arena_array(d->s->arena, Store, nplace),
                 .nstore = (uint8_t)nplace,
                 .when = d->when,
                 .node = r,
                 .in_scan = scope == 1 };
    for (int i = 0; i < nplace; i++) {
        Ix *ix = st.store[i].ix;
        st.store[i].buf = place[i].buf;
        if (place[i].has_lead)
            *ix++ = place[i].lead;
        if (demand_is_flat(d, scope, r))
            ix[0] = at[0];
        else
            squeeze(shape, at, ix);
    }
    stages_add(d->s, &st);
}

uint16_t demand_buffer(Demand *d, const char *name, const Type *t, int64_t lead, bool flat)
{
    int64_t shape[MAX_RANK + 1];
    int rank = 0;
    if (lead)
        shape[rank++] = lead;
    for (int i = 0; i < t->shape.rank && !flat; i++)
        if (t->shape.dim[i] != 1)
            shape[rank++] = t->shape.dim[i];
    if (flat)
        shape[rank++] = shape_count(&t->shape);
    return stages_temp(d->s, name, t->dt, rank, shape);
}
