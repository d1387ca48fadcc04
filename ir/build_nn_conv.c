/* SPDX-License-Identifier: Apache-2.0 */
/* build_nn_conv: convolutions as products with a window.
 *
 * A group is a batch axis of the product.  Where every channel is a group of its own the product
 * has no sum over channels left, and elementwise products summed over the window say the same
 * with the channels as the innermost axis.  A transposed convolution is a convolution of x, with
 * zeros between its steps, by the weights in reverse.
 */
#include "ir/build_nn.h"

#include "ir/base/bug.h"

static Shape shape_at(const Builder *b, Ref x)
{
    return build_type(b, x).shape;
}

/* v (B, X.., K.., C) and w (C, 1, K..): (B, X.., C) */
static Ref depthwise(Builder *b, Ref v, Ref w, int n)
{
    const Shape ws = shape_at(b, w);
    Shape flat = { .rank = (int8_t)(n + 1), .dim = { ws.dim[0] } };
    int last[MAX_RANK];
    for (int i = 0; i < n; i++) {
        flat.dim[1 + i] = ws.dim[2 + i];
        last[i] = 1 + i;
    }
    last[n] = 0;
    const Ref taps = build_transpose(b, build_reshape(b, w, flat), last);
    const Ref terms = build_op2(b, OP_mul, v, build_like(b, taps, v, (1u << (n + 1)) - 1));
    return build_reduce(b, OP_sum, terms, ((1u << n) - 1) << (n + 1));
}

/* v (B, X.., K.., C) and w (O, C/G, K..): (B, X.., O).  Three window axes are taken as one, or the
 * groups would be axis 9. */
static Ref grouped(Builder *b, Ref v, Ref w, int n, int64_t groups)
{
    const Shape ws = shape_at(b, w), vs = shape_at(b, v);
    const int k = n < 3 ? n : 1, c = 1 + n + k; /* window axes; where the groups of v are */
    const int64_t per_group = vs.dim[2 * n + 1] / groups;
    Shape split_v = { .rank = (int8_t)(c + 2) }, split_w = { .rank = (int8_t)(k + 3) };
    Shape out = { .rank = (int8_t)(n + 2) };
    int over_v[4], over_w[4], perm[MAX_RANK] = { 0 };
    over_v[k] = c + 1;
    over_w[k] = 2;
    split_w.dim[0] = split_v.dim[c] = groups;
    split_w.dim[1] = ws.dim[0] / groups;
    split_w.dim[2] = split_v.dim[c + 1] = per_group;
    for (int i = 0; i < k; i++) {
        split_v.dim[1 + n + i] = split_w.dim[3 + i] = 1;
        over_v[i] = 1 + n + i;
        over_w[i] = 3 + i;
    }
    for (int i = 0; i < n; i++) {
        split_v.dim[1 + n + i % k] *= ws.dim[2 + i];
        split_w.dim[3 + i % k] *= ws.dim[2 + i];
    }
    for (int i = 0; i <= n; i++) {
        split_v.dim[i] = out.dim[i] = vs.dim[i];
        perm[i] = 1 + i;
    }
    out.dim[n + 1] = ws.dim[0];
    perm[n + 2] = n + 2;
    /* (G, B, X.., O/G) */
    const Ref y =
        build_contract_batch(b, build_reshape(b, v, split_v), build_reshape(b, w, split_w), k + 1,
                             over_v, over_w, 1, (int[]){ c }, (int[]){ 0 });
    return build_reshape(b, build_transpose(b, y, perm), out);
}

static Ref product(Builder *b, Ref v, Ref w, int n)
{
    int over_v[4], over_w[4];
    for (int i = 0; i < n; i++) {
        over_v[i] = 1 + n + i; /* window axes follow the spatial ones */
        over_w[i] = 2 + i;
    }
    over_v[n] = 1 + 2 * n; /* channels */
    over_w[n] = 1;
    return build_contract(b, v, w, n + 1, over_v, over_w);
}

Ref build_conv(Builder *b, Ref x, Ref w, Ref bias, const ConvShape *s)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "conv");
    const Shape ws = shape_at(b, w);
    const int64_t groups = s->groups ? s->groups : 1;
    int axis[3];
    int64_t kernel[3];
    for (int i = 0; i < s->n; i++) {
        axis[i] = 1 + i;
        kernel[i] = ws.dim[2 + i];
        if (s->lo[i] || s->hi[i])
            x = build_pad(b, x, 1 + i, s->lo[i], s->hi[BUG(67) ? 0 : i], 0);
    }
    const Ref v = build_window(b, x, s->n, axis, kernel, s->stride, s->dilation);
    Ref y;
    if (groups == 1)
        y = product(b, v, w, s->n);
    else if (ws.dim[1] == 1 && ws.dim[0] == groups)
        y = depthwise(b, v, w, s->n);
    else
        y = grouped(b, v, w, s->n, groups);
    return build_close(b, before, build_add_bias(b, y, bias));
}

/* (C, O/G, K..) to (O, C/G, K..), taps in reverse. */
static Ref turned(Builder *b, Ref w, int n, int64_t groups)
{
    const Shape ws = shape_at(b, w);
    Shape split = { .rank = (int8_t)(n + 3), .dim = { groups, ws.dim[0] / groups, ws.dim[1] } };
    Shape out = { .rank = (int8_t)(n + 2), .dim = { ws.dim[1] * groups, ws.dim[0] / groups } };
    int perm[MAX_RANK] = { 0, 2, 1 };
    for (int i = 0; i < n; i++) {
        split.dim[3 + i] = out.dim[2 + i] = ws.dim[2 + i];
        perm[3 + i] = 3 + i;
        w = build_reverse(b, w, 2 + i);
    }
    return build_reshape(b, build_transpose(b, build_reshape(b, w, split), perm), out);
}

Ref build_conv_transpose(Builder *b, Ref x, Ref w, Ref bias, const ConvShape *s)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "conv_transpose");
    ConvShape c = { .n = s->n, .groups = s->groups };
    for (int i = 0; i < s->n; i++) {
        x = build_spread(b, x, 1 + i, s->lo[i], s->hi[i], s->stride[i]);
        c.stride[i] = 1;
        c.dilation[i] = s->dilation[i];
    }
    const Ref y = build_conv(b, x, turned(b, w, s->n, s->groups ? s->groups : 1), bias, &c);
    return build_close(b, before, y);
}
