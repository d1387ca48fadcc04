/* SPDX-License-Identifier: Apache-2.0 */
/* build_nn_norm: normalisation of each row by itself, so that training and use are the same and a
 * row that does not count cannot disturb another.
 *
 * Statistics in two passes (mean, then mean of squared differences): the difference of two large
 * sums would lose the variance.
 */
#include "ir/build_nn.h"

static double extent_of(Shape s, unsigned axes)
{
    double n = 1;
    for (int i = 0; i < s.rank; i++)
        n *= axes >> i & 1 ? (double)s.dim[i] : 1;
    return n;
}

/* A sum of x over axes, divided by how many elements it is of. */
static Ref over_extent(Builder *b, Ref sum, Ref x, unsigned axes)
{
    const double n = extent_of(build_type(b, x).shape, axes);
    return build_scale(b, sum, n > 0 ? 1 / n : 0);
}

Ref build_squared_deviations(Builder *b, Ref x, Ref mean, Ref valid, unsigned axes)
{
    const Ref still = build_op1(b, OP_stop_gradient, mean);
    const Ref d = build_op2(b, OP_sub, x, build_like(b, still, x, axes));
    const Ref counted = build_mask_rows(b, d, valid);
    return build_reduce(b, OP_sum, build_op2(b, OP_mul, counted, counted), axes);
}

/* x * rsqrt(squares / n + eps), n elements along the axes */
static Ref by_root_mean_square(Builder *b, Ref x, Ref squares, unsigned axes, double eps)
{
    const Ref mean = over_extent(b, squares, x, axes);
    const Ref scale = build_op1(b, OP_rsqrt, build_shift(b, mean, eps));
    return build_op2(b, OP_mul, x, build_like(b, scale, x, axes));
}

static Ref standardise(Builder *b, Ref x, unsigned axes, double eps)
{
    const Ref mean = over_extent(b, build_reduce(b, OP_sum, x, axes), x, axes);
    const Ref centred = build_op2(b, OP_sub, x, build_like(b, mean, x, axes));
    const Ref squares = build_squared_deviations(b, x, mean, REF_NONE, axes);
    return by_root_mean_square(b, centred, squares, axes, eps);
}

/* x * weight + bias, both along the last axes of x. */
static Ref affine(Builder *b, Ref x, Ref weight, Ref bias)
{
    for (int i = 0; i < 2 && b->status == ST_OK; i++) {
        const Ref p = i == 0 ? weight : bias;
        if (p == REF_NONE)
            continue;
        const int lead = build_type(b, x).shape.rank - build_type(b, p).shape.rank;
        x = build_op2(b, i == 0 ? OP_mul : OP_add, x, build_like(b, p, x, (1u << lead) - 1));
    }
    return x;
}

static unsigned trailing(Shape s, int n)
{
    return ((1u << n) - 1) << (s.rank - n);
}

Ref build_layer_norm(Builder *b, Ref x, int naxis, Ref weight, Ref bias, double eps)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "layer_norm");
    const Ref y = standardise(b, x, trailing(build_type(b, x).shape, naxis), eps);
    return build_close(b, before, affine(b, y, weight, bias));
}

Ref build_rms_norm(Builder *b, Ref x, int naxis, Ref weight, double eps)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "rms_norm");
    const unsigned axes = trailing(build_type(b, x).shape, naxis);
    const Ref squares = build_reduce(b, OP_sum, build_op2(b, OP_mul, x, x), axes);
    const Ref y = by_root_mean_square(b, x, squares, axes, eps);
    return build_close(b, before, affine(b, y, weight, REF_NONE));
}

Ref build_group_norm(Builder *b, Ref x, int64_t groups, Ref weight, Ref bias, double eps)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "group_norm");
    const Shape s = build_type(b, x).shape;
    const int c = s.rank - 1;
    const unsigned spatial = ((1u << c) - 1) & ~1u;
    Ref y;
    if (groups == s.dim[c]) {
        y = standardise(b, x, spatial, eps);
    } else {
        Shape split = s;
        split.dim[split.rank++] = s.dim[c] / groups;
        split.dim[c] = groups;
        y = standardise(b, build_reshape(b, x, split), spatial | 1u << (c + 1), eps);
        y = build_reshape(b, y, s);
    }
    return build_close(b, before, affine(b, y, weight, bias));
}
