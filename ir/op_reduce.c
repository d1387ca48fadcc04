/* SPDX-License-Identifier: Apache-2.0 */
/* sum, amax, amin over a set of axes, which are removed.  Accumulates in f64. */
#include <math.h>

#include "ir/eval_op.h"
#include "ir/vjp.h"

/* What a maximum of nothing is. */
static double lowest(DType dt)
{
    switch (dt) {
    case DT_I32:
        return -0x1p31;
    case DT_I64:
        return -0x1p63;
    case DT_U8:
    case DT_BOOL:
        return 0;
    default:
        return -INFINITY;
    }
}

static double highest(DType dt)
{
    switch (dt) {
    case DT_I32:
        return 0x1p31 - 1;
    case DT_I64:
        return 0x1p63 - 0x1p10; /* the nearest double below */
    case DT_U8:
        return 255;
    case DT_BOOL:
        return 1;
    default:
        return INFINITY;
    }
}

static inline double combine(Op op, double acc, double x)
{
    if (op == OP_sum)
        return acc + x;
    const bool better = op == OP_amax ? x > acc : x < acc;
    return better || isnan(x) ? x : acc;
}

static inline void reduce_row(Op op, const Nest *w, double *out, const double *in)
{
    if (w->step[0] == 0) {
        double acc = *out;
        for (int64_t i = 0; i < w->n; i++)
            acc = combine(op, acc, in[i * w->step[1]]);
        *out = acc;
        return;
    }
    for (int64_t i = 0; i < w->n; i++)
        out[i * w->step[0]] = combine(op, out[i * w->step[0]], in[i * w->step[1]]);
}

static Status reduce(const Eval *e, const Node *n, const Value *arg, Value *out, double start)
{
    TRY(value_new(e, &n->type, out));
    value_fill(out, start);
    int64_t to[MAX_RANK] = { 0 }; /* out's strides along arg's axes */
    for (int i = 0, o = 0; i < arg->type.shape.rank; i++)
        if (!(n->attr.axes.mask >> i & 1))
            to[i] = out->stride[o++];
    Nest w;
    const int64_t *const stride[] = { to, arg->stride };
    for (nest_start(&w, &arg->type.shape, 2, stride); w.more; nest_next(&w)) {
        double *const o = out->at + w.off[0];
        const double *const x = arg->at + w.off[1];
        if (n->op == OP_sum)
            reduce_row(OP_sum, &w, o, x);
        else if (n->op == OP_amax)
            reduce_row(OP_amax, &w, o, x);
        else
            reduce_row(OP_amin, &w, o, x);
    }
    return ST_OK;
}

Status eval_sum(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    return reduce(e, n, arg, out, 0);
}

Status eval_amax(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    return reduce(e, n, arg, out, lowest(n->type.dt));
}

Status eval_amin(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    return reduce(e, n, arg, out, highest(n->type.dt));
}

/* Gradients. */

void vjp_sum(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    const Shape s = build_type(&v->b, n.arg[0]).shape;
    vjp_give(v, n.arg[0], build_broadcast(&v->b, ct, s, n.attr.axes.mask));
}

/* To the first of the largest elements, in the order of the reduced axes: the one whose index among
 * them is the smallest. */
void vjp_amax(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    Builder *b = &v->b;
    const Ref x = n.arg[0];
    const Type whole = build_type(b, x), index_type = { DT_I32, whole.shape };
    const unsigned axes = n.attr.axes.mask;
    if (shape_count(&whole.shape) == 0)
        return;

    Ref index = REF_NONE;
    int64_t count = 1;
    for (int i = whole.shape.rank - 1; i >= 0; i--) {
        if (!(axes >> i & 1))
            continue;
        Ref along = build_iota(b, index_type, i);
        if (count > 1)
            along = build_op2(b, OP_mul, along, build_const(b, (double)count, index_type));
        index = index == REF_NONE ? along : build_op2(b, OP_add, along, index);
        count *= whole.shape.dim[i];
    }
    if (index == REF_NONE) { /* nothing is reduced */
        vjp_give(v, x, ct);
        return;
    }
    const Ref largest = build_op2(b, OP_eq, x, build_broadcast(b, y, whole.shape, axes));
    const Ref beyond = build_const(b, (double)count, index_type);
    const Ref first = build_reduce(b, OP_amin, build_select(b, largest, index, beyond), axes);
    const Ref is_first = build_op2(b, OP_eq, index, build_broadcast(b, first, whole.shape, axes));
    const Ref all = build_broadcast(b, ct, whole.shape, axes);
    vjp_give(v, x, build_select(b, is_first, all, vjp_zeros(v, &whole)));
}
