/* SPDX-License-Identifier: Apache-2.0 */
/* canonicalise: small rewrite rules.
 *
 * Each rule is one function over one node whose arguments are already canonical.  It gives a value
 * that is there already, or builds a smaller one from nodes that go through the rules themselves,
 * so one walk in definition order reaches every rule that a rewrite opens.  A rule keeps the type,
 * keeps the f64 value (up to the order of a sum), and ends because it removes work or moves a view
 * towards the inputs.  What it builds stands in the region of the node it replaces.
 *
 * Three rules are more than tidying:
 *   - A matmul with one column, or one that sums over nothing but an extent of 1, becomes a
 *     broadcast multiply (and a row sum): that runs at memory speed, a one-column GEMM does not.
 *     Not inside a scan, where the contraction shares its loop with the cell's other ones.
 *   - `fold` of a matmul, which is what the data gradient of a convolution is, becomes a matmul
 *     over windows of the dilated and padded cotangent with reversed taps: it stores each result
 *     once instead of adding overlapping windows, and is a contraction like the forward one.
 *   - A slice of a matmul that nobody else reads slices the operands.
 *
 * The file is long because a rule may call for any other: they are one table, read by section.
 *
 * requires: verified      keeps: definition order, names, regions      cost: O(nodes)
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"
#include "ir/infer.h"
#include "passes/rewrite.h"

typedef struct Canon {
    Rewrite rw;
    bool in_scan;
    bool expanded;   /* nothing is left to differentiate */
    uint32_t region; /* of the node being rewritten */
    uint32_t *uses;  /* of values of out: how often nodes of in use what was mapped to them */
    uint32_t uses_cap;
    Status status; /* the first failure sticks, as in Builder */
} Canon;

typedef Ref RuleFn(Canon *c, const Node *n);

static Ref simplify(Canon *c, const Node *n);

/* ---- reading and making nodes ------------------------------------------------------------- */

static const Node *node_at(const Canon *c, Ref r)
{
    return &c->rw.out->node[r];
}

static const Node *arg_of(const Canon *c, const Node *n, int i)
{
    return node_at(c, n->arg[i]);
}

static bool is_const(const Canon *c, Ref r, double value)
{
    const Node *n = node_at(c, r);
    return n->op == OP_const && n->attr.fill.value == value;
}

/* No other node of in reads r: work may move below it. */
static bool is_once(const Canon *c, Ref r)
{
    return r >= c->uses_cap || c->uses[r] <= 1;
}

static void count_uses(Canon *c, Ref r, uint32_t n)
{
    if (r >= c->uses_cap) {
        const uint32_t cap = 2 * r + 64;
        uint32_t *uses = arena_array(c->rw.pcx->scratch, uint32_t, cap);
        if (c->uses_cap)
            memcpy(uses, c->uses, c->uses_cap * sizeof *uses);
        c->uses = uses;
        c->uses_cap = cap;
    }
    c->uses[r] += n;
}

static Ref make(Canon *c, Op op, uint32_t nargs, const Ref *arg, Attr attr, Type type)
{
    for (uint32_t i = 0; i < nargs; i++)
        if (arg[i] == REF_NONE)
            return REF_NONE; /* an earlier step failed, and the status says how */
    const Node n = {
        .op = op, .nargs = nargs, .arg = arg, .attr = attr, .type = type, .region = c->region
    };
    return simplify(c, &n);
}

static Ref make1(Canon *c, Op op, Ref x)
{
    return make(c, op, 1, (Ref[]){ x }, (Attr){ 0 }, (Type){ 0 });
}

static Ref make2(Canon *c, Op op, Ref x, Ref y)
{
    return make(c, op, 2, (Ref[]){ x, y }, (Attr){ 0 }, (Type){ 0 });
}

static Ref make_const(Canon *c, double value, const Type *type)
{
    return make(c, OP_const, 0, NULL, (Attr){ .fill.value = value }, *type);
}

static Ref make_reshape(Canon *c, Ref x, const Shape *shape)
{
    if (x == REF_NONE)
        return x;
    const Type type = { node_at(c, x)->type.dt, *shape };
    return make(c, OP_reshape, 1, (Ref[]){ x }, (Attr){ 0 }, type);
}

static Ref make_transpose(Canon *c, Ref x, const int *perm)
{
    if (x == REF_NONE)
        return x;
    Attr attr = { 0 };
    for (int i = 0; i < node_at(c, x)->type.shape.rank; i++)
        attr.perm.dim[i] = (int8_t)perm[i];
    return make(c, OP_transpose, 1, (Ref[]){ x }, attr, (Type){ 0 });
}

static Ref make_broadcast(Canon *c, Ref x, const Shape *shape, unsigned new_axes)
{
    if (x == REF_NONE)
        return x;
    const Type type = { node_at(c, x)->type.dt, *shape };
    return make(c, OP_broadcast, 1, (Ref[]){ x }, (Attr){ .axes.mask = (uint8_t)new_axes }, type);
}

/* The part of x that starts at lo with unit steps and has the given shape. */
static Ref make_part(Canon *c, Ref x, const int64_t *lo, const Shape *shape)
{
    if (x == REF_NONE)
        return x;
    Attr attr = { 0 };
    for (int i = 0; i < shape->rank; i++) {
        attr.slice.lo[i] = lo[i];
        attr.slice.step[i] = 1;
    }
    const Type type = { node_at(c, x)->type.dt, *shape };
    return make(c, OP_slice, 1, (Ref[]){ x }, attr, type);
}

static void add_axis(Shape *s, int64_t extent)
{
    s->dim[s->rank++] = extent;
}

static bool has_axis(const uint8_t *axis, int n, int i)
{
    for (int k = 0; k < n; k++)
        if (axis[k] == i)
            return true;
    return false;
}

/* ---- elementwise -------------------------------------------------------------------------- */

static Ref add_zero(Canon *c, const Node *n) /* x + 0, 0 + x */
{
    return is_const(c, n->arg[1], 0) ? n->arg[0] : is_const(c, n->arg[0], 0) ? n->arg[1] : REF_NONE;
}

static Ref add_neg(Canon *c, const Node *n) /* x + -y, -x + y */
{
    if (arg_of(c, n, 1)->op == OP_neg)
        return make2(c, OP_sub, n->arg[0], arg_of(c, n, 1)->arg[0]);
    if (arg_of(c, n, 0)->op == OP_neg)
        return make2(c, BUG(24) ? OP_add : OP_sub, n->arg[1], arg_of(c, n, 0)->arg[0]);
    return REF_NONE;
}

static Ref sub_zero(Canon *c, const Node *n) /* x - 0, 0 - x */
{
    if (is_const(c, n->arg[1], 0))
        return n->arg[0];
    return is_const(c, n->arg[0], 0) ? make1(c, OP_neg, n->arg[1]) : REF_NONE;
}

static Ref sub_neg(Canon *c, const Node *n) /* x - -y */
{
    if (arg_of(c, n, 1)->op != OP_neg)
        return REF_NONE;
    return make2(c, OP_add, n->arg[0], arg_of(c, n, 1)->arg[0]);
}

static Ref mul_one(Canon *c, const Node *n) /* x * 1, 1 * x */
{
    return is_const(c, n->arg[1], 1) ? n->arg[0] : is_const(c, n->arg[0], 1) ? n->arg[1] : REF_NONE;
}

static Ref mul_minus_one(Canon *c, const Node *n)
{
    if (is_const(c, n->arg[1], -1))
        return make1(c, OP_neg, n->arg[0]);
    return is_const(c, n->arg[0], -1) ? make1(c, OP_neg, n->arg[1]) : REF_NONE;
}

static Ref div_power_of_two(Canon *c, const Node *n) /* x / 1, and x / 2^k is exactly x * 2^-k */
{
    const Node *y = arg_of(c, n, 1);
    int exponent;
    if (y->op != OP_const || !dtype_is_float(y->type.dt) ||
        fabs(frexp(y->attr.fill.value, &exponent)) != 0.5 || abs(exponent) > 64)
        return is_const(c, n->arg[1], 1) ? n->arg[0] : REF_NONE;
    return make2(c, OP_mul, n->arg[0], make_const(c, 1 / y->attr.fill.value, &y->type));
}

static Ref twice(Canon *c, const Node *n) /* - -x, not not b */
{
    return arg_of(c, n, 0)->op == n->op ? arg_of(c, n, 0)->arg[0] : REF_NONE;
}

static Ref select_equal(Canon *c, const Node *n)
{
    (void)c;
    return n->arg[1] == n->arg[2] ? n->arg[1] : REF_NONE;
}

static Ref select_not(Canon *c, const Node *n)
{
    if (arg_of(c, n, 0)->op != OP_not)
        return REF_NONE;
    const Ref arg[3] = { arg_of(c, n, 0)->arg[0], n->arg[2], n->arg[1] };
    return make(c, OP_select, 3, arg, (Attr){ 0 }, (Type){ 0 });
}

/* ---- views -------------------------------------------------------------------------------- */

static Ref same_type(Canon *c, const Node *n) /* a cast or reshape to what it is */
{
    return type_eq(&n->type, &arg_of(c, n, 0)->type) ? n->arg[0] : REF_NONE;
}

static Ref stop_nothing(Canon *c, const Node *n) /* all gradients are there */
{
    return c->expanded ? n->arg[0] : REF_NONE;
}

static Ref view_of_const(Canon *c, const Node *n)
{
    const Node *x = arg_of(c, n, 0);
    return x->op == OP_const ? make_const(c, x->attr.fill.value, &n->type) : REF_NONE;
}

static Ref reshape_reshape(Canon *c, const Node *n)
{
    const Node *x = arg_of(c, n, 0);
    return x->op == OP_reshape ? make_reshape(c, x->arg[0], &n->type.shape) : REF_NONE;
}

static Ref transpose_transpose(Canon *c, const Node *n)
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != OP_transpose)
        return REF_NONE;
    int perm[MAX_RANK];
    for (int i = 0; i < n->type.shape.rank; i++)
        perm[i] =
            BUG(25) ? n->attr.perm.dim[x->attr.perm.dim[i]] : x->attr.perm.dim[n->attr.perm.dim[i]];
    return make_transpose(c, x->arg[0], perm);
}

static Ref transpose_nothing(Canon *c, const Node *n) /* only axes of extent 1 move */
{
    const Shape *from = &arg_of(c, n, 0)->type.shape;
    int last = -1;
    for (int i = 0; i < from->rank; i++) {
        const int axis = n->attr.perm.dim[i];
        if (from->dim[axis] == 1)
            continue;
        if (axis < last)
            return REF_NONE;
        last = axis;
    }
    return make_reshape(c, n->arg[0], &n->type.shape);
}

static Ref broadcast_nothing(Canon *c, const Node *n) /* only axes of extent 1 are new */
{
    for (int i = 0; i < n->type.shape.rank; i++)
        if ((n->attr.axes.mask >> i & 1) && n->type.shape.dim[i] != 1)
            return REF_NONE;
    return make_reshape(c, n->arg[0], &n->type.shape);
}

static Ref broadcast_broadcast(Canon *c, const Node *n)
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != OP_broadcast)
        return REF_NONE;
    unsigned mask = n->attr.axes.mask;
    int mid = 0;
    for (int i = 0; i < n->type.shape.rank; i++)
        if (!(n->attr.axes.mask >> i & 1) && (x->attr.axes.mask >> (BUG(33) ? i : mid++) & 1))
            mask |= 1u << i;
    return make_broadcast(c, x->arg[0], &n->type.shape, mask);
}

static Ref slice_nothing(Canon *c, const Node *n)
{
    const Type *from = &arg_of(c, n, 0)->type;
    if (!type_eq(&n->type, from))
        return REF_NONE;
    for (int i = 0; i < from->shape.rank; i++)
        if (from->shape.dim[i] > 1 && n->attr.slice.step[i] != 1)
            return REF_NONE;
    return n->arg[0];
}

static Ref slice_slice(Canon *c, const Node *n)
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != OP_slice || shape_count(&n->type.shape) == 0)
        return REF_NONE;
    Attr attr = { 0 };
    for (int i = 0; i < n->type.shape.rank; i++) {
        attr.slice.lo[i] =
            x->attr.slice.lo[i] + n->attr.slice.lo[i] * (BUG(26) ? 1 : x->attr.slice.step[i]);
        attr.slice.step[i] = n->attr.slice.step[i] * x->attr.slice.step[i];
    }
    return make(c, OP_slice, 1, x->arg, attr, n->type);
}

/* True when n takes a contiguous part along every axis: its lo and extent say all. */
static bool is_part(const Node *n)
{
    for (int i = 0; i < n->type.shape.rank; i++)
        if (n->attr.slice.step[i] != 1 || n->type.shape.dim[i] < 1)
            return false;
    return true;
}

static Ref slice_concat(Canon *c, const Node *n) /* a slice that lies in one part */
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != OP_concat || !is_part(n))
        return REF_NONE;
    const int axis = x->attr.axis.axis;
    int64_t lo[MAX_RANK], from = 0;
    memcpy(lo, n->attr.slice.lo, sizeof lo);
    for (uint32_t i = 0; i < x->nargs; i++) {
        const int64_t extent = arg_of(c, x, (int)i)->type.shape.dim[axis];
        if (lo[axis] >= from && lo[axis] + n->type.shape.dim[axis] <= from + extent) {
            lo[axis] -= from;
            return make_part(c, x->arg[i], lo, &n->type.shape);
        }
        from += extent;
    }
    return REF_NONE;
}

/* A slice that trims padding pads less; where it reaches the padded value itself, and that is not
 * spread out, it trims that.  A slice of padding alone stays. */
static Ref slice_pad(Canon *c, const Node *n)
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != OP_pad || !is_part(n))
        return REF_NONE;
    const Shape *inner = &arg_of(c, x, 0)->type.shape;
    Attr attr = x->attr;
    Shape part = *inner;
    int64_t part_lo[MAX_RANK] = { 0 };
    for (int i = 0; i < part.rank; i++) {
        int64_t lo = x->attr.pad.lo[i] - n->attr.slice.lo[i];
        int64_t hi =
            x->attr.pad.hi[i] - (x->type.shape.dim[i] - n->attr.slice.lo[i] - n->type.shape.dim[i]);
        const int64_t cut_lo = lo < 0 ? -lo : 0, cut_hi = hi < 0 ? -hi : 0;
        if ((cut_lo || cut_hi) && (x->attr.pad.step[i] != 1 || cut_lo + cut_hi >= part.dim[i]))
            return REF_NONE;
        if (part.dim[i] == 0)
            return REF_NONE;
        part_lo[i] = BUG(27) ? 0 : cut_lo;
        part.dim[i] -= cut_lo + cut_hi;
        attr.pad.lo[i] = lo + cut_lo;
        attr.pad.hi[i] = hi + cut_hi;
    }
    const Ref inside = make_part(c, x->arg[0], part_lo, &part);
    return make(c, OP_pad, 1, &inside, attr, (Type){ 0 });
}

static Ref slice_transpose(Canon *c, const Node *n)
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != OP_transpose || !is_part(n))
        return REF_NONE;
    Shape part = n->type.shape;
    int64_t lo[MAX_RANK];
    int perm[MAX_RANK];
    for (int i = 0; i < part.rank; i++) {
        perm[i] = x->attr.perm.dim[i];
        part.dim[perm[i]] = n->type.shape.dim[i];
        lo[perm[i]] = n->attr.slice.lo[i];
    }
    return make_transpose(c, make_part(c, x->arg[0], lo, &part), perm);
}

static Ref slice_window(Canon *c, const Node *n) /* fewer windows of less input */
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != OP_window || !is_part(n))
        return REF_NONE;
    const int nw = x->attr.window.n, first = x->attr.window.axis[0];
    Shape part = arg_of(c, x, 0)->type.shape;
    int64_t lo[MAX_RANK];
    for (int i = 0; i < n->type.shape.rank; i++) {
        const int64_t from = n->attr.slice.lo[i], extent = n->type.shape.dim[i];
        if (i >= first + nw && i < first + 2 * nw) {
            if (extent != x->type.shape.dim[i])
                return REF_NONE;
            continue;
        }
        const int to = i < first + nw ? i : i - nw;
        const int w = i - first;
        if (w >= 0 && w < nw) {
            lo[to] = from * x->attr.window.stride[w];
            part.dim[to] = (extent - 1) * x->attr.window.stride[w] +
                           (x->attr.window.kernel[w] - 1) * x->attr.window.dilation[w] + 1;
        } else {
            lo[to] = from;
            part.dim[to] = extent;
        }
    }
    Attr attr = x->attr;
    for (int w = 0; w < nw; w++)
        attr.window.extent[w] = part.dim[first + w];
    const Ref inside = make_part(c, x->arg[0], lo, &part);
    return make(c, OP_window, 1, &inside, attr, (Type){ 0 });
}

static Ref pad_nothing(Canon *c, const Node *n)
{
    const Type *from = &arg_of(c, n, 0)->type;
    return type_eq(&n->type, from) ? n->arg[0] : REF_NONE;
}

static Ref pad_const(Canon *c, const Node *n)
{
    return is_const(c, n->arg[0], n->attr.pad.value) ? view_of_const(c, n) : REF_NONE;
}

static Ref pad_pad(Canon *c, const Node *n)
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != OP_pad || (x->attr.pad.value != n->attr.pad.value && !BUG(28)))
        return REF_NONE;
    Attr attr = n->attr;
    for (int i = 0; i < n->type.shape.rank; i++) {
        if (arg_of(c, x, 0)->type.shape.dim[i] == 0)
            return REF_NONE;
        attr.pad.lo[i] += x->attr.pad.lo[i] * n->attr.pad.step[i];
        attr.pad.hi[i] += x->attr.pad.hi[i] * n->attr.pad.step[i];
        attr.pad.step[i] *= x->attr.pad.step[i];
    }
    return make(c, OP_pad, 1, x->arg, attr, (Type){ 0 });
}

static Ref concat_one(Canon *c, const Node *n) /* of parts, all but one empty */
{
    Ref only = REF_NONE;
    for (uint32_t i = 0; i < n->nargs; i++) {
        if (arg_of(c, n, (int)i)->type.shape.dim[n->attr.axis.axis] == 0)
            continue;
        if (only)
            return REF_NONE;
        only = n->arg[i];
    }
    return only ? only : n->arg[0];
}

static Ref concat_const(Canon *c, const Node *n)
{
    const Node *first = arg_of(c, n, 0);
    for (uint32_t i = 0; i < n->nargs; i++)
        if (first->op != OP_const || !is_const(c, n->arg[i], first->attr.fill.value))
            return REF_NONE;
    return make_const(c, first->attr.fill.value, &n->type);
}

static Ref window_nothing(Canon *c, const Node *n) /* taps of one element, side by side */
{
    for (int i = 0; i < n->attr.window.n; i++)
        if (n->attr.window.kernel[i] != 1 || n->attr.window.stride[i] != 1)
            return REF_NONE;
    return make_reshape(c, n->arg[0], &n->type.shape);
}

/* ---- reductions --------------------------------------------------------------------------- */

static Ref reduce_nothing(Canon *c, const Node *n) /* no axes, or axes of extent 1 */
{
    const Shape *from = &arg_of(c, n, 0)->type.shape;
    for (int i = 0; i < from->rank; i++)
        if ((n->attr.axes.mask >> i & 1) && from->dim[i] != 1)
            return REF_NONE;
    return make_reshape(c, n->arg[0], &n->type.shape);
}

static Ref reduce_reduce(Canon *c, const Node *n) /* the same reduction over more axes at once */
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != n->op || !is_once(c, n->arg[0]))
        return REF_NONE;
    unsigned mask = x->attr.axes.mask;
    int mid = 0;
    for (int i = 0; i < arg_of(c, x, 0)->type.shape.rank; i++)
        if (!(x->attr.axes.mask >> i & 1) && (n->attr.axes.mask >> (BUG(29) ? i : mid++) & 1))
            mask |= 1u << i;
    return make(c, n->op, 1, x->arg, (Attr){ .axes.mask = (uint8_t)mask }, (Type){ 0 });
}

static Ref sum_of_none(Canon *c, const Node *n)
{
    const Shape *from = &arg_of(c, n, 0)->type.shape;
    return shape_count(from) == 0 && shape_count(&n->type.shape) > 0 ? make_const(c, 0, &n->type)
                                                                     : REF_NONE;
}

static Ref sum_broadcast(Canon *c, const Node *n) /* over repeated axes: times their extent */
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != OP_broadcast || (n->attr.axes.mask & ~x->attr.axes.mask) ||
        !dtype_is_float(n->type.dt))
        return REF_NONE;
    double times = 1;
    unsigned left = 0;
    int to = 0;
    for (int i = 0; i < x->type.shape.rank; i++) {
        if (n->attr.axes.mask >> i & 1) {
            times = (BUG(30) ? 1 : times) * (double)x->type.shape.dim[i];
            continue;
        }
        left |= (x->attr.axes.mask >> i & 1u) << to;
        to++;
    }
    const Ref y = make_broadcast(c, x->arg[0], &n->type.shape, left);
    return make2(c, OP_mul, y, make_const(c, times, &n->type));
}

static Ref sum_moved(Canon *c, const Node *n) /* all squares, wherever they stand */
{
    const Node *x = arg_of(c, n, 0);
    if (x->op != OP_mul || x->arg[0] != x->arg[1] || !is_once(c, n->arg[0]) ||
        n->type.shape.rank > 0)
        return REF_NONE;
    const Node *view = arg_of(c, x, 0);
    if (view->op != OP_transpose && view->op != OP_reshape)
        return REF_NONE;
    const Ref from = view->arg[0];
    const int rank = node_at(c, from)->type.shape.rank;
    if (rank == 0)
        return REF_NONE;
    const Ref square = make2(c, OP_mul, from, from);
    return make(c, OP_sum, 1, &square, (Attr){ .axes.mask = (uint8_t)((1u << rank) - 1) },
                (Type){ 0 });
}

/* ---- contractions ------------------------------------------------------------------------- */

typedef struct Side { /* one operand of a matmul */
    Ref value;
    Shape shape;
    uint8_t nfree, over[4], batch[4], free[MAX_RANK];
} Side;

static Side side_of(const Canon *c, const Node *n, int i)
{
    Side s = { .value = n->arg[i], .shape = arg_of(c, n, i)->type.shape };
    memcpy(s.over, i ? n->attr.contract.over_b : n->attr.contract.over_a, sizeof s.over);
    memcpy(s.batch, i ? n->attr.contract.batch_b : n->attr.contract.batch_a, sizeof s.batch);
    for (int k = 0; k < s.shape.rank; k++)
        if (!has_axis(s.over, n->attr.contract.nover, k) &&
            !has_axis(s.batch, n->attr.contract.nbatch, k))
            s.free[s.nfree++] = (uint8_t)k;
    return s;
}

static int64_t extent_over(const Shape *s, const uint8_t *axis, int n)
{
    int64_t count = 1;
    for (int i = 0; i < n; i++)
        count = size_mul(count, s->dim[axis[i]]);
    return count;
}

/* Without its free axes, all of extent 1, repeated along those of the other side. */
static Ref spread(Canon *c, const Node *n, const Side *thin, const Side *wide)
{
    Shape squeezed = { 0 };
    int kept[MAX_RANK], nkept = 0; /* axes of thin, in order, that are not free */
    for (int i = 0; i < thin->shape.rank; i++)
        if (!has_axis(thin->free, thin->nfree, i)) {
            kept[nkept++] = i;
            add_axis(&squeezed, thin->shape.dim[i]);
        }
    int perm[MAX_RANK], at = 0;
    for (int i = 0; i < wide->shape.rank; i++) {
        int partner = -1;
        for (int k = 0; k < n->attr.contract.nover; k++)
            if (wide->over[k] == i)
                partner = thin->over[k];
        for (int k = 0; k < n->attr.contract.nbatch; k++)
            if (wide->batch[k] == i)
                partner = thin->batch[k];
        for (int k = 0; k < nkept && partner >= 0; k++)
            if (kept[k] == partner)
                perm[at++] = k;
    }
    unsigned new_axes = 0;
    for (int i = 0; i < wide->nfree; i++)
        new_axes |= 1u << wide->free[i];
    const Ref x = make_transpose(c, make_reshape(c, thin->value, &squeezed), perm);
    return make_broadcast(c, x, &wide->shape, new_axes);
}

static Ref make_cast(Canon *c, Ref x, DType dt)
{
    return x == REF_NONE
               ? x
               : make(c, OP_cast, 1, &x, (Attr){ 0 }, (Type){ dt, node_at(c, x)->type.shape });
}

/* sum(wide * spread thin), its axes brought to the matmul's order: batch, then free.  A contraction
 * is rounded once, so 16-bit products, which may be stored, are made in f32. */
static Ref multiply_and_sum(Canon *c, const Node *n, const Side *thin, const Side *wide)
{
    const int nover = n->attr.contract.nover, nbatch = n->attr.contract.nbatch;
    const bool low = n->type.dt == DT_F16 || n->type.dt == DT_BF16;
    const DType dt = low ? DT_F32 : n->type.dt;
    Side narrow = *thin;
    narrow.value = make_cast(c, thin->value, dt);
    const Ref product =
        make2(c, OP_mul, make_cast(c, wide->value, dt), spread(c, n, &narrow, wide));
    unsigned over = 0;
    for (int i = 0; i < nover; i++)
        over |= 1u << wide->over[i];
    const Ref sum = make(c, OP_sum, 1, &product, (Attr){ .axes.mask = (uint8_t)over }, (Type){ 0 });
    int place[MAX_RANK], at = 0, perm[MAX_RANK], np = 0;
    for (int i = 0; i < wide->shape.rank; i++)
        place[i] = has_axis(wide->over, nover, i) ? -1 : at++;
    for (int i = 0; i < nbatch; i++)
        perm[np++] = place[wide->batch[i]];
    for (int i = 0; i < wide->nfree; i++)
        perm[np++] = place[wide->free[i]];
    const Ref rounded = make_cast(c, sum, n->type.dt);
    return make_reshape(c, make_transpose(c, rounded, perm), &n->type.shape);
}

static bool sums_inner_axes(const Node *n, const Side *s)
{
    for (int i = 0; i < n->attr.contract.nover; i++)
        if (s->over[i] < s->shape.rank - n->attr.contract.nover)
            return false;
    return true;
}

static Ref matmul_column(Canon *c, const Node *n)
{
    if (c->in_scan || !n->attr.contract.nover)
        return REF_NONE;
    const Side a = side_of(c, n, 0), b = side_of(c, n, 1);
    if (extent_over(&b.shape, b.free, b.nfree) == 1)
        return multiply_and_sum(c, n, &b, &a);
    if (extent_over(&a.shape, a.free, a.nfree) == 1 &&
        (sums_inner_axes(n, &b) || n->attr.contract.nbatch))
        return multiply_and_sum(c, n, &a, &b);
    return REF_NONE;
}

static Ref matmul_outer(Canon *c, const Node *n) /* sums over an extent of 1 */
{
    const Side side[2] = { side_of(c, n, 0), side_of(c, n, 1) };
    const int nover = n->attr.contract.nover, nbatch = n->attr.contract.nbatch;
    if (c->in_scan || extent_over(&side[0].shape, side[0].over, nover) != 1)
        return REF_NONE;
    Ref factor[2];
    for (int k = 0; k < 2; k++) {
        const Side *s = &side[k];
        int perm[MAX_RANK], np = 0;
        for (int i = 0; i < nbatch; i++)
            perm[np++] = s->batch[i];
        for (int i = 0; i < s->nfree; i++)
            perm[np++] = s->free[i];
        for (int i = 0; i < nover; i++)
            perm[np++] = s->over[i];
        Shape shape = { 0 };
        for (int i = 0; i < np - nover; i++)
            add_axis(&shape, s->shape.dim[perm[i]]);
        unsigned new_axes = 0;
        const int first = nbatch + (k == 0 ? side[0].nfree : 0);
        for (int i = 0; i < side[1 - k].nfree; i++)
            new_axes |= 1u << (first + i);
        const Ref x = make_reshape(c, make_transpose(c, s->value, perm), &shape);
        factor[k] = make_broadcast(c, x, &n->type.shape, new_axes);
    }
    return make2(c, OP_mul, factor[0], factor[1]);
}

/* An operand's transpose goes into the axis pairs when its free axes keep their order. */
static Ref matmul_transpose(Canon *c, const Node *n)
{
    for (int k = 0; k < 2; k++) {
        const Node *x = arg_of(c, n, k);
        if (x->op != OP_transpose)
            continue;
        const Side s = side_of(c, n, k);
        bool ordered = true;
        for (int i = 1; i < s.nfree; i++)
            ordered &= x->attr.perm.dim[s.free[i - 1]] < x->attr.perm.dim[s.free[i]];
        if (!ordered && !BUG(31))
            continue;
        Attr attr = n->attr;
        uint8_t *over = k ? attr.contract.over_b : attr.contract.over_a;
        uint8_t *batch = k ? attr.contract.batch_b : attr.contract.batch_a;
        for (int i = 0; i < attr.contract.nover; i++)
            over[i] = (uint8_t)x->attr.perm.dim[over[i]];
        for (int i = 0; i < attr.contract.nbatch; i++)
            batch[i] = (uint8_t)x->attr.perm.dim[batch[i]];
        Ref arg[2] = { n->arg[0], n->arg[1] };
        arg[k] = x->arg[0];
        return make(c, OP_matmul, 2, arg, attr, (Type){ 0 });
    }
    return REF_NONE;
}

static Ref slice_matmul(Canon *c, const Node *n)
{
    const Node *m = arg_of(c, n, 0);
    if (m->op != OP_matmul || !is_part(n) || !is_once(c, n->arg[0]))
        return REF_NONE;
    const Side a = side_of(c, m, 0), b = side_of(c, m, 1);
    const int nbatch = m->attr.contract.nbatch;
    Shape part[2] = { a.shape, b.shape };
    int64_t lo[2][MAX_RANK] = { { 0 }, { 0 } };
    for (int i = 0; i < n->type.shape.rank; i++) {
        const int64_t from = n->attr.slice.lo[i], extent = n->type.shape.dim[i];
        const bool in_a = i < nbatch + a.nfree, in_b = i < nbatch || !in_a;
        const int axis_a = i < nbatch ? a.batch[i] : in_a ? a.free[i - nbatch] : 0;
        const int axis_b = i < nbatch ? b.batch[i] : in_b ? b.free[i - nbatch - a.nfree] : 0;
        if (in_a) {
            lo[0][axis_a] = from;
            part[0].dim[axis_a] = extent;
        }
        if (in_b) {
            lo[1][axis_b] = from;
            part[1].dim[axis_b] = extent;
        }
    }
    const Ref arg[2] = { make_part(c, a.value, lo[0], &part[0]),
                         make_part(c, b.value, lo[1], &part[1]) };
    return make(c, OP_matmul, 2, arg, m->attr, (Type){ 0 });
}

/* ---- fold of a matmul --------------------------------------------------------------------- */

/* fold adds up y[.., x'.., k.., r] into x = x' * stride + k * dilation, where y is a (transposed)
 * matmul of `data`, which has the x' axes, and `taps`, which has the k axes.  With k = K-1-j,
 *
 *     sum over x', k of data[x'] taps[k]  =  sum over j of spread[x + j * dilation] taps[K-1-j]
 *
 * where spread holds data[x'] at (K-1) * dilation + x' * stride and zeros between and around, and
 * is padded to extent X + (K-1) * dilation, so that the windows give all X rows, the last
 * (X - k) % stride of them, which no window of the forward pass saw, as zeros. */
typedef struct Unfold {
    Side data, taps;
    int nwindow;
    uint8_t y_side[MAX_RANK], y_axis[MAX_RANK]; /* of each axis of fold's argument: operand, axis */
} Unfold;

static bool unfold_match(Canon *c, const Node *n, Unfold *u, const Node **matmul)
{
    const Node *y = arg_of(c, n, 0), *m = y->op == OP_transpose ? arg_of(c, y, 0) : y;
    const int nw = n->attr.window.n, first = n->attr.window.axis[0];
    if (m->op != OP_matmul || m->attr.contract.nbatch || m->attr.contract.nover + nw > 4 ||
        shape_count(&y->type.shape) == 0 || y->type.shape.rank > MAX_RANK)
        return false;
    if (!is_once(c, n->arg[0]) || (y != m && !is_once(c, y->arg[0])))
        return false;
    const Side side[2] = { side_of(c, m, 0), side_of(c, m, 1) };
    for (int i = 0; i < y->type.shape.rank; i++) {
        const int at = y == m ? i : y->attr.perm.dim[i];
        u->y_side[i] = at >= side[0].nfree;
        u->y_axis[i] = u->y_side[i] ? side[1].free[at - side[0].nfree] : side[0].free[at];
    }
    const int data = u->y_side[first];
    for (int i = 0; i < nw; i++)
        if (u->y_side[first + i] != data || u->y_side[first + nw + i] == data)
            return false;
    u->data = side[data];
    u->taps = side[1 - data];
    for (int i = 0; i < y->type.shape.rank; i++)
        u->y_side[i] = u->y_side[i] != data; /* now 0: data, 1: taps */
    u->nwindow = nw;
    *matmul = m;
    return u->data.shape.rank + nw <= MAX_RANK;
}

/* data with its free axes in y's order, then the summed ones; spread out, and windowed. */
static Ref unfold_data(Canon *c, const Node *n, const Unfold *u, int rank, int nover)
{
    const int nw = u->nwindow, first = n->attr.window.axis[0];
    int perm[MAX_RANK], np = 0, at = 0;
    for (int i = 0; i < rank; i++)
        if (u->y_side[i] == 0) {
            if (i == first)
                at = np;
            perm[np++] = u->y_axis[i];
        }
    for (int i = 0; i < nover; i++)
        perm[np++] = u->data.over[i];
    const Ref x = make_transpose(c, u->data.value, perm);

    Attr pad = { 0 }, window = { .window = { .n = (uint8_t)nw } };
    for (int i = 0; i < np; i++)
        pad.pad.step[i] = 1;
    for (int i = 0; i < nw; i++) {
        const int64_t k = n->attr.window.kernel[i], s = n->attr.window.stride[i];
        const int64_t d = n->attr.window.dilation[i], extent = n->attr.window.extent[i];
        pad.pad.lo[at + i] = (k - 1) * d;
        pad.pad.hi[at + i] = extent - 1 - (u->data.shape.dim[perm[at + i]] - 1) * s;
        pad.pad.step[at + i] = s;
        window.window.axis[i] = (uint8_t)(at + i);
        window.window.kernel[i] = k;
        window.window.stride[i] = 1;
        window.window.dilation[i] = d;
        window.window.extent[i] = extent + (k - 1) * d;
    }
    const Ref padded = make(c, OP_pad, 1, &x, pad, (Type){ 0 });
    return make(c, OP_window, 1, &padded, window, (Type){ 0 });
}

/* taps as (k.., summed.., the rest), each k axis reversed. */
static Ref unfold_taps(Canon *c, const Node *n, const Unfold *u, int rank, int nover)
{
    const int nw = u->nwindow, first = n->attr.window.axis[0];
    int perm[MAX_RANK], np = 0;
    for (int i = 0; i < nw; i++)
        perm[np++] = u->y_axis[first + nw + i];
    for (int i = 0; i < nover; i++)
        perm[np++] = u->taps.over[i];
    for (int i = 0; i < rank; i++)
        if (u->y_side[i] == 1 && !(i >= first + nw && i < first + 2 * nw))
            perm[np++] = u->y_axis[i];
    const Ref w = make_transpose(c, u->taps.value, perm);
    if (w == REF_NONE)
        return w;
    Attr reverse = { 0 };
    for (int i = 0; i < np; i++) {
        reverse.slice.lo[i] = i < nw && !BUG(32) ? n->attr.window.kernel[i] - 1 : 0;
        reverse.slice.step[i] = i < nw && !BUG(32) ? -1 : 1;
    }
    const Type type = node_at(c, w)->type;
    return make(c, OP_slice, 1, &w, reverse, type);
}

static Ref fold_matmul(Canon *c, const Node *n)
{
    Unfold u = { 0 };
    const Node *m;
    if (!unfold_match(c, n, &u, &m))
        return REF_NONE;
    const int nover = m->attr.contract.nover, nw = u.nwindow, first = n->attr.window.axis[0];
    const int rank = arg_of(c, n, 0)->type.shape.rank;
    const Ref arg[2] = { unfold_data(c, n, &u, rank, nover), unfold_taps(c, n, &u, rank, nover) };

    /* The free axes of data that come before the windows', then the windows' own. */
    int before = 0, ndata = 0;
    for (int i = 0; i < rank; i++) {
        before += u.y_side[i] == 0 && i < first + nw;
        ndata += u.y_side[i] == 0;
    }
    Attr attr = { .contract = { .nover = (uint8_t)(nw + nover) } };
    for (int i = 0; i < nw + nover; i++) {
        attr.contract.over_a[i] = (uint8_t)(i < nw ? before + i : ndata + i);
        attr.contract.over_b[i] = (uint8_t)i;
    }
    const Ref product = make(c, OP_matmul, 2, arg, attr, (Type){ 0 });

    int perm[MAX_RANK], np = 0, next[2] = { 0, ndata };
    for (int i = 0; i < rank; i++)
        if (!(i >= first + nw && i < first + 2 * nw))
            perm[np++] = next[u.y_side[i]]++;
    return make_transpose(c, product, perm);
}

static Ref fold_nothing(Canon *c, const Node *n) /* one tap a window, no gaps */
{
    for (int i = 0; i < n->attr.window.n; i++)
        if (n->attr.window.kernel[i] != 1 || n->attr.window.stride[i] != 1)
            return REF_NONE;
    return make_reshape(c, n->arg[0], &n->type.shape);
}

/* ---- the table and the walk ---------------------------------------------------------------- */

static const struct Rule {
    Op op;
    RuleFn *fn;
} rule[] = {
    { OP_add, add_zero },
    { OP_add, add_neg },
    { OP_sub, sub_zero },
    { OP_sub, sub_neg },
    { OP_mul, mul_one },
    { OP_mul, mul_minus_one },
    { OP_div, div_power_of_two },
    { OP_neg, twice },
    { OP_not, twice },
    { OP_select, select_equal },
    { OP_select, select_not },
    { OP_cast, same_type },
    { OP_stop_gradient, stop_nothing },
    { OP_reshape, same_type },
    { OP_reshape, view_of_const },
    { OP_reshape, reshape_reshape },
    { OP_transpose, view_of_const },
    { OP_transpose, transpose_transpose },
    { OP_transpose, transpose_nothing },
    { OP_broadcast, view_of_const },
    { OP_broadcast, broadcast_nothing },
    { OP_broadcast, broadcast_broadcast },
    { OP_slice, view_of_const },
    { OP_slice, slice_nothing },
    { OP_slice, slice_slice },
    { OP_slice, slice_concat },
    { OP_slice, slice_pad },
    { OP_slice, slice_transpose },
    { OP_slice, slice_window },
    { OP_slice, slice_matmul },
    { OP_pad, pad_nothing },
    { OP_pad, pad_const },
    { OP_pad, pad_pad },
    { OP_concat, concat_one },
    { OP_concat, concat_const },
    { OP_window, view_of_const },
    { OP_window, window_nothing },
    { OP_fold, fold_nothing },
    { OP_fold, fold_matmul },
    { OP_sum, sum_of_none },
    { OP_sum, reduce_nothing },
    { OP_sum, reduce_reduce },
    { OP_sum, sum_broadcast },
    { OP_sum, sum_moved },
    { OP_amax, reduce_nothing },
    { OP_amax, reduce_reduce },
    { OP_amin, reduce_nothing },
    { OP_amin, reduce_reduce },
    { OP_matmul, matmul_transpose },
    { OP_matmul, matmul_outer },
    { OP_matmul, matmul_column },
};

/* The value of n, by rules or as a new node; REF_NONE only with c->status set. */
static Ref simplify(Canon *c, const Node *n)
{
    Node typed = *n;
    if (c->status == ST_OK && n->type.dt == DT_NONE)
        c->status = infer_node(c->rw.pcx->cx, c->rw.out, &typed);
    for (size_t i = 0; i < sizeof rule / sizeof *rule && c->status == ST_OK; i++) {
        if (rule[i].op != n->op)
            continue;
        const Ref r = rule[i].fn(c, &typed);
        if (r != REF_NONE) {
            c->rw.pcx->nchanged++;
            return r;
        }
    }
    Ref r = REF_NONE;
    if (c->status == ST_OK)
        c->status = graph_add(c->rw.pcx->cx, c->rw.out, &typed, &r);
    return r;
}

static Status walk(PassCx *pcx, const Graph *in, Graph *out, bool in_scan, bool expanded,
                   PassFn *inside)
{
    Canon c = { rewrite_start(pcx, in, out, inside), .in_scan = in_scan, .expanded = expanded };
    uint32_t *uses = arena_array(pcx->scratch, uint32_t, in->nnode);
    for (Ref r = 1; r < in->nnode; r++)
        for (uint32_t i = 0; i < in->node[r].nargs; i++)
            uses[in->node[r].arg[i]]++;
    for (uint32_t i = 0; i < in->nout; i++)
        uses[in->out[i].value]++;

    for (Ref r = 1; r < in->nnode; r++) {
        Node n;
        TRY(rewrite_node(&c.rw, r, &n));
        c.region = n.region;
        const Ref value = simplify(&c, &n);
        TRY(c.status);
        c.rw.map[r] = value;
        count_uses(&c, value, uses[r]);
    }
    return rewrite_outputs(&c.rw);
}

static Status walk_body(PassCx *pcx, const Graph *in, Graph *out)
{
    return walk(pcx, in, out, true, true, walk_body);
}

static Status walk_body_early(PassCx *pcx, const Graph *in, Graph *out)
{
    return walk(pcx, in, out, true, false, walk_body_early);
}

Status pass_canonicalise(PassCx *pcx, const Graph *in, Graph *out)
{
    const bool expanded = pass_is_expanded(in);
    return walk(pcx, in, out, false, expanded, expanded ? walk_body : walk_body_early);
}
