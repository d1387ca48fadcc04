/* SPDX-License-Identifier: Apache-2.0 */
/* Small combinations that passes and planners look for, and that ops drawn one by one hardly ever
 * make: each gives a value of type t, or REF_NONE. */
#include "tests/grow.h"

#include <string.h>

typedef Ref Pattern(Grow *w, Type t, int n);

/* A random order of n axes. */
static void random_order(Grow *w, int n, int *order)
{
    for (int i = 0; i < n; i++) {
        const int at = grow_below(w, i + 1);
        order[i] = order[at];
        order[at] = i;
    }
}

/* A product whose axes are put in another order, those of one factor among themselves too. */
static Ref turned_product(Grow *w, Type t, int n)
{
    const int rank = t.shape.rank;
    if (t.dt != DT_F32 || rank < 2 || rank > 5)
        return REF_NONE;
    int perm[MAX_RANK];
    random_order(w, rank, perm);
    Node product = { .op = OP_matmul,
                     .attr.contract = { .nover = 1, .over_a = { (uint8_t)(rank - 1) } } };
    Type a = { DT_F32, { .rank = (int8_t)rank } }, b = { DT_F32, { .rank = 2 } };
    for (int i = 0; i < rank; i++) {
        if (perm[i] == rank - 1)
            b.shape.dim[1] = t.shape.dim[i];
        else
            a.shape.dim[perm[i]] = t.shape.dim[i];
    }
    a.shape.dim[rank - 1] = b.shape.dim[0] = 1 + grow_below(w, 9);
    if (!grow_fits(w, &a.shape))
        return REF_NONE;
    const Ref arg[2] = { grow_value(w, a, n), grow_value(w, b, 0) };
    return build_transpose(&w->b, grow_node(w, product, arg, 2), perm);
}

/* The gradient of a convolution by its data: a product of values [B.., X.., C] and taps
 * [C, K.., R..], added up where windows overlap. */
static Ref folded_product(Grow *w, Type t, int n)
{
    const int rank = t.shape.rank, nw = rank > 1 && grow_chance(w, 30) ? 2 : 1;
    if (t.dt != DT_F32 || rank < 1 || rank > 5)
        return REF_NONE;
    const int first = grow_below(w, rank - nw + 1), end = first + nw;
    Node fold = { .op = OP_fold, .attr.window.n = (uint8_t)nw };
    Type data = { DT_F32, t.shape }, taps = { DT_F32, { .rank = 1 } };
    data.shape.rank = (int8_t)(end + 1);
    for (int i = 0; i < nw; i++) {
        const int64_t d = t.shape.dim[first + i], kernel = 2 + grow_below(w, 2);
        const int64_t dilation = grow_chance(w, 30) ? 2 : 1, stride = 1 + grow_below(w, 2);
        if (d <= (kernel - 1) * dilation)
            return REF_NONE;
        fold.attr.window.axis[i] = (uint8_t)(first + i);
        fold.attr.window.kernel[i] = taps.shape.dim[taps.shape.rank++] = kernel;
        fold.attr.window.stride[i] = stride;
        fold.attr.window.dilation[i] = dilation;
        fold.attr.window.extent[i] = d;
        data.shape.dim[first + i] = (d - (kernel - 1) * dilation - 1) / stride + 1;
    }
    for (int i = end; i < rank; i++)
        taps.shape.dim[taps.shape.rank++] = t.shape.dim[i];
    memset(&data.shape.dim[end], 0, sizeof *data.shape.dim * (size_t)(MAX_RANK - end));
    Shape spread = data.shape;
    for (spread.rank = (int8_t)end; spread.rank < rank + nw; spread.rank++)
        spread.dim[spread.rank] = taps.shape.dim[spread.rank - end + 1];
    data.shape.dim[end] = taps.shape.dim[0] = 1 + grow_below(w, 5);
    if (!grow_fits(w, &spread) || !grow_fits(w, &data.shape) || !grow_fits(w, &taps.shape))
        return REF_NONE;
    const Node product = { .op = OP_matmul,
                           .attr.contract = { .nover = 1, .over_a = { (uint8_t)end } } };
    const Ref arg[2] = { grow_value(w, data, n), grow_value(w, taps, 0) };
    const Ref y = grow_node(w, product, arg, 2);
    return grow_tame(w, grow_node(w, fold, &y, 1));
}

/* A part of a padded value, within it or across its ends. */
static Ref part_of_padded(Grow *w, Type t, int n)
{
    const int axis = t.shape.rank ? grow_below(w, t.shape.rank) : 0;
    const int64_t wanted = t.shape.rank ? t.shape.dim[axis] : 0;
    if (wanted == 0)
        return REF_NONE;
    const int64_t lo = grow_below(w, 4), hi = grow_below(w, 4);
    const int64_t cut = grow_below(w, 4), rest = grow_below(w, 4);
    Type inner = t;
    inner.shape.dim[axis] = cut + wanted + rest - lo - hi;
    if (inner.shape.dim[axis] < 1 || !grow_fits(w, &inner.shape))
        return REF_NONE;
    const double value = t.dt == DT_BOOL ? 1 : 2;
    const Ref padded = build_pad(&w->b, grow_value(w, inner, n), axis, lo, hi, value);
    return build_slice(&w->b, padded, axis, cut, wanted);
}

/* A sum over axes of which some are repetitions. */
static Ref sum_of_repeated(Grow *w, Type t, int n)
{
    const int own = t.shape.rank, all = own + 2;
    if (t.dt == DT_BOOL || t.dt == DT_U8 || all + 1 > MAX_RANK)
        return REF_NONE;
    Type x = t;
    const bool more = grow_chance(w, 50); /* an axis that is summed and no repetition */
    if (more)
        x.shape.dim[x.shape.rank++] = 1 + grow_below(w, 5);
    Shape wide = x.shape;
    wide.dim[wide.rank++] = 2 + grow_below(w, 3);
    wide.dim[wide.rank++] = 2 + grow_below(w, 2);
    if (!grow_fits(w, &wide))
        return REF_NONE;
    const unsigned repeated = 3u << x.shape.rank;
    const Ref y = build_broadcast(&w->b, grow_value(w, x, n), wide, repeated);
    return build_reduce(&w->b, OP_sum, y, repeated | (more ? 1u << own : 0));
}

/* A value and itself from the other end: two reads, at different points. */
static Ref with_reversed(Grow *w, Type t, int n)
{
    if (t.shape.rank == 0)
        return REF_NONE;
    const Ref x = grow_value(w, t, n), y = build_reverse(&w->b, x, grow_below(w, t.shape.rank));
    return build_op2(&w->b, t.dt == DT_BOOL ? OP_or : grow_chance(w, 50) ? OP_max : OP_sub, x, y);
}

/* A fraction cut off. */
static Ref whole_part(Grow *w, Type t, int n)
{
    if (t.dt != DT_I32)
        return REF_NONE;
    const Ref x = grow_tame(w, grow_value(w, (Type){ DT_F32, t.shape }, n));
    return build_cast(&w->b, build_scale(&w->b, x, 3.7), DT_I32);
}

/* A number that bytes wrapped around to. */
static Ref wrapped_bytes(Grow *w, Type t, int n)
{
    static const Op op[] = { OP_add, OP_sub, OP_mul };
    const Type byte = { DT_U8, t.shape };
    if (t.dt != DT_F32 && t.dt != DT_I32)
        return REF_NONE;
    const Ref x = grow_value(w, byte, n), y = build_op1(&w->b, OP_neg, grow_value(w, byte, 0));
    const Ref z = build_cast(&w->b, build_op2(&w->b, op[grow_below(w, 3)], x, y), t.dt);
    return t.dt == DT_F32 ? build_scale(&w->b, z, 0x1p-6) : z;
}

Ref grow_pattern(Grow *w, Type t, int n)
{
    static Pattern *const pattern[] = { turned_product,  folded_product, part_of_padded,
                                        sum_of_repeated, with_reversed,  whole_part,
                                        wrapped_bytes };
    for (int tries = 0; tries < 4; tries++) {
        const Ref r = pattern[grow_below(w, sizeof pattern / sizeof *pattern)](w, t, n);
        if (r != REF_NONE)
            return r;
    }
    return REF_NONE;
}
