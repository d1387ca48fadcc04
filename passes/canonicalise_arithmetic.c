/* SPDX-License-Identifier: Apache-2.0 */
/* canonicalise: rules of elementwise ops and of reductions.
 *
 * An elementwise rule drops a neutral element or takes a sign or a division into the op beside it;
 * a division by a power of two is exactly a product.  A reduction of nothing, of repeats, or of a
 * reduction that nobody else reads needs fewer steps, and one of all elements does not ask where
 * they stand.
 */
#include <math.h>
#include <stdlib.h>

#include "ir/base/bug.h"
#include "passes/canonicalise.h"

/* ---- elementwise -------------------------------------------------------------------------- */

static Ref add_zero(Canon *c, const Node *n) /* x + 0, 0 + x */
{
    return canon_is_const(c, n->arg[1], 0)   ? n->arg[0]
           : canon_is_const(c, n->arg[0], 0) ? n->arg[1]
                                             : REF_NONE;
}

static Ref add_neg(Canon *c, const Node *n) /* x + -y, -x + y */
{
    if (canon_arg(c, n, 1)->op == OP_neg)
        return canon_make2(c, OP_sub, n->arg[0], canon_arg(c, n, 1)->arg[0]);
    if (canon_arg(c, n, 0)->op == OP_neg)
        return canon_make2(c, BUG(24) ? OP_add : OP_sub, n->arg[1], canon_arg(c, n, 0)->arg[0]);
    return REF_NONE;
}

static Ref sub_zero(Canon *c, const Node *n) /* x - 0, 0 - x */
{
    if (canon_is_const(c, n->arg[1], 0))
        return n->arg[0];
    return canon_is_const(c, n->arg[0], 0) ? canon_make1(c, OP_neg, n->arg[1]) : REF_NONE;
}

static Ref sub_neg(Canon *c, const Node *n) /* x - -y */
{
    if (canon_arg(c, n, 1)->op != OP_neg)
        return REF_NONE;
    return canon_make2(c, OP_add, n->arg[0], canon_arg(c, n, 1)->arg[0]);
}

static Ref mul_one(Canon *c, const Node *n) /* x * 1, 1 * x */
{
    return canon_is_const(c, n->arg[1], 1)   ? n->arg[0]
           : canon_is_const(c, n->arg[0], 1) ? n->arg[1]
                                             : REF_NONE;
}

static Ref mul_minus_one(Canon *c, const Node *n)
{
    if (canon_is_const(c, n->arg[1], -1))
        return canon_make1(c, OP_neg, n->arg[0]);
    return canon_is_const(c, n->arg[0], -1) ? canon_make1(c, OP_neg, n->arg[1]) : REF_NONE;
}

static Ref div_power_of_two(Canon *c, const Node *n) /* x / 1, and x / 2^k is exactly x * 2^-k */
{
    const Node *y = canon_arg(c, n, 1);
    int exponent;
    if (y->op != OP_const || !dtype_is_float(y->type.dt) ||
        fabs(frexp(y->attr.fill.value, &exponent)) != 0.5 || abs(exponent) > 64)
        return canon_is_const(c, n->arg[1], 1) ? n->arg[0] : REF_NONE;
    return canon_make2(c, OP_mul, n->arg[0], canon_const(c, 1 / y->attr.fill.value, &y->type));
}

static Ref twice(Canon *c, const Node *n) /* - -x, not not b */
{
    return canon_arg(c, n, 0)->op == n->op ? canon_arg(c, n, 0)->arg[0] : REF_NONE;
}

static Ref select_equal(Canon *c, const Node *n)
{
    (void)c;
    return n->arg[1] == n->arg[2] ? n->arg[1] : REF_NONE;
}

static Ref select_not(Canon *c, const Node *n)
{
    if (canon_arg(c, n, 0)->op != OP_not)
        return REF_NONE;
    const Ref arg[3] = { canon_arg(c, n, 0)->arg[0], n->arg[2], n->arg[1] };
    return canon_make(c, OP_select, 3, arg, (Attr){ 0 }, (Type){ 0 });
}

/* ---- reductions --------------------------------------------------------------------------- */

static Ref reduce_nothing(Canon *c, const Node *n) /* no axes, or axes of extent 1 */
{
    const Shape *from = &canon_arg(c, n, 0)->type.shape;
    for (int i = 0; i < from->rank; i++)
        if ((n->attr.axes.mask >> i & 1) && from->dim[i] != 1)
            return REF_NONE;
    return canon_reshape(c, n->arg[0], &n->type.shape);
}

static Ref reduce_reduce(Canon *c, const Node *n) /* the same reduction over more axes at once */
{
    const Node *x = canon_arg(c, n, 0);
    if (x->op != n->op || !canon_is_once(c, n->arg[0]))
        return REF_NONE;
    unsigned mask = x->attr.axes.mask;
    int mid = 0;
    for (int i = 0; i < canon_arg(c, x, 0)->type.shape.rank; i++)
        if (!(x->attr.axes.mask >> i & 1) && (n->attr.axes.mask >> (BUG(29) ? i : mid++) & 1))
            mask |= 1u << i;
    return canon_make(c, n->op, 1, x->arg, (Attr){ .axes.mask = (uint8_t)mask }, (Type){ 0 });
}

static Ref sum_of_none(Canon *c, const Node *n)
{
    const Shape *from = &canon_arg(c, n, 0)->type.shape;
    return shape_count(from) == 0 && shape_count(&n->type.shape) > 0 ? canon_const(c, 0, &n->type)
                                                                     : REF_NONE;
}

static Ref sum_broadcast(Canon *c, const Node *n) /* over repeated axes: times their extent */
{
    const Node *x = canon_arg(c, n, 0);
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
    const Ref y = canon_broadcast(c, x->arg[0], &n->type.shape, left);
    return canon_make2(c, OP_mul, y, canon_const(c, times, &n->type));
}

static Ref sum_moved(Canon *c, const Node *n) /* all squares, wherever they stand */
{
    const Node *x = canon_arg(c, n, 0);
    if (x->op != OP_mul || x->arg[0] != x->arg[1] || !canon_is_once(c, n->arg[0]) ||
        n->type.shape.rank > 0)
        return REF_NONE;
    const Node *view = canon_arg(c, x, 0);
    if (view->op != OP_transpose && view->op != OP_reshape)
        return REF_NONE;
    const Ref from = view->arg[0];
    const int rank = canon_node(c, from)->type.shape.rank;
    if (rank == 0)
        return REF_NONE;
    const Ref square = canon_make2(c, OP_mul, from, from);
    return canon_make(c, OP_sum, 1, &square, (Attr){ .axes.mask = (uint8_t)((1u << rank) - 1) },
                      (Type){ 0 });
}

const CanonRule canon_arithmetic[] = {
    { OP_add, add_zero },         { OP_add, add_neg },         { OP_sub, sub_zero },
    { OP_sub, sub_neg },          { OP_mul, mul_one },         { OP_mul, mul_minus_one },
    { OP_div, div_power_of_two }, { OP_neg, twice },           { OP_not, twice },
    { OP_select, select_equal },  { OP_select, select_not },   { OP_sum, sum_of_none },
    { OP_sum, reduce_nothing },   { OP_sum, reduce_reduce },   { OP_sum, sum_broadcast },
    { OP_sum, sum_moved },        { OP_amax, reduce_nothing }, { OP_amax, reduce_reduce },
    { OP_amin, reduce_nothing },  { OP_amin, reduce_reduce },  { 0 },
};
