/* SPDX-License-Identifier: Apache-2.0 */
/* Sorting, out of comparisons and scatter_add.
 *
 * The rank of an element is how many others stand before it: a sum of comparisons, every element
 * with every other.  Ranks are a permutation, since equal elements keep their order, and
 * scatter_add by a permutation puts each element in its place.  All of it runs in parallel over
 * elements and rows, and the gradient of taking elements is that of gather.
 *
 * The work is the square of the axis, which for the axes that models sort (scores, channels, time
 * steps) is less than a sorting network costs in passes. */
#include "ir/build_nn.h"

/* x with its `axis` last; the same call brings it back. */
static Ref swap_last(Builder *b, Ref x, int axis)
{
    const int rank = build_type(b, x).shape.rank;
    int perm[MAX_RANK];
    for (int i = 0; i < rank; i++)
        perm[i] = i == axis ? rank - 1 : i == rank - 1 ? axis : i;
    return build_transpose(b, x, perm);
}

static Ref both(Builder *b, Ref x, Ref y)
{
    return build_op2(b, OP_and, x, y);
}

/* less: an element of p stands before that of q, whatever their places; tie: neither does.  A NaN
 * is above every number, and NaNs are equal. */
static void compare(Builder *b, Ref p, Ref q, Ref *less, Ref *tie)
{
    *less = build_op2(b, OP_lt, p, q);
    *tie = build_op2(b, OP_eq, p, q);
    if (b->status != ST_OK || !dtype_is_float(build_type(b, p).dt))
        return;
    const Ref p_number = build_op2(b, OP_eq, p, p), q_number = build_op2(b, OP_eq, q, q);
    const Ref q_nan = build_op1(b, OP_not, q_number);
    *less = build_op2(b, OP_or, *less, both(b, p_number, q_nan));
    *tie = build_op2(b, OP_or, *tie, both(b, build_op1(b, OP_not, p_number), q_nan));
}

/* Of each element along the last axis: how many stand before it. */
static Ref rank_last(Builder *b, Ref x, bool descending)
{
    Shape pairs = build_type(b, x).shape;
    const int rank = pairs.rank;
    if (rank == MAX_RANK && b->status == ST_OK)
        b->status = FAIL(b->cx, SHAPE, "sort: wants less than %d axes", MAX_RANK);
    if (b->status != ST_OK)
        return REF_NONE;
    pairs.dim[pairs.rank++] = pairs.dim[rank - 1];
    const Ref one = build_broadcast(b, x, pairs, 1u << rank);
    const Ref other = build_broadcast(b, x, pairs, 1u << (rank - 1));
    Ref less, tie;
    compare(b, descending ? one : other, descending ? other : one, &less, &tie);
    const Type place = { DT_I32, pairs };
    const Ref earlier =
        build_op2(b, OP_lt, build_iota(b, place, rank), build_iota(b, place, rank - 1));
    const Ref before = build_op2(b, OP_or, less, both(b, tie, earlier));
    return build_reduce(b, OP_sum, build_cast(b, before, DT_I32), 1u << rank);
}

/* The first k positions of the order along the last axis. */
static Ref order_last(Builder *b, Ref x, bool descending, int64_t k)
{
    const Ref rank = rank_last(b, x, descending);
    const Type t = build_type(b, rank);
    const int axis = t.shape.rank - 1;
    if (b->status != ST_OK)
        return REF_NONE;
    const Ref order = build_scatter_add(b, build_iota(b, t, axis), rank, axis, t.shape.dim[axis]);
    return k == t.shape.dim[axis] ? order : build_slice(b, order, axis, 0, k);
}

static Ref sorted(Builder *b, Ref x, int axis, bool descending, int64_t k, Ref *position)
{
    const Shape s = build_type(b, x).shape;
    if (b->status == ST_OK && (axis < 0 || axis >= s.rank))
        b->status = FAIL(b->cx, SHAPE, "sort: axis %d is none of %s", axis, shape_str(&s));
    else if (b->status == ST_OK && (k < 0 || k > s.dim[axis]))
        b->status = FAIL(b->cx, SHAPE, "top_k: %lld of the %lld along axis %d of %s", (long long)k,
                         (long long)s.dim[axis], axis, shape_str(&s));
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "sort");
    const Ref line = swap_last(b, x, axis), order = order_last(b, line, descending, k);
    if (position)
        *position = swap_last(b, order, axis);
    const Ref values = swap_last(b, build_gather(b, line, order, s.rank - 1), axis);
    return build_close(b, before, values);
}

Ref build_sort(Builder *b, Ref x, int axis, bool descending, Ref *position)
{
    const Shape s = build_type(b, x).shape;
    return sorted(b, x, axis, descending, axis >= 0 && axis < s.rank ? s.dim[axis] : 0, position);
}

Ref build_top_k(Builder *b, Ref x, int axis, int64_t k, Ref *position)
{
    return sorted(b, x, axis, true, k, position);
}

Ref build_argmax(Builder *b, Op op, Ref x, int axis)
{
    const Shape s = build_type(b, x).shape;
    if (b->status == ST_OK && (axis < 0 || axis >= s.rank || s.dim[axis] == 0))
        b->status = FAIL(b->cx, SHAPE, "%s: axis %d of %s has no elements",
                         op == OP_amax ? "argmax" : "argmin", axis, shape_str(&s));
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "argmax");
    const Type t = { DT_I32, s };
    const unsigned one = 1u << axis;
    const Ref top = build_like(b, build_reduce(b, op, x, one), x, one);
    const Ref last = build_const(b, (double)s.dim[axis] - 1, t);
    const Ref at = build_select(b, build_op2(b, OP_eq, x, top), build_iota(b, t, axis), last);
    return build_close(b, before, build_reduce(b, OP_amin, at, one));
}
