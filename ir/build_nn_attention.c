/* SPDX-License-Identifier: Apache-2.0 */
/* build_nn_attention: softmax(Q K' / sqrt(d)) V for several heads.
 *
 * Heads are an axis in place, never moved in memory: the products name (batch, head) as their
 * batch axes wherever they stand, and the transposes around them are views.
 */
#include "ir/build_nn.h"

#include <math.h>

/* (B, T, D) to (B, T, heads, D / heads) */
static Ref split_heads(Builder *b, Ref x, int64_t heads)
{
    const Shape s = build_type(b, x).shape;
    return build_reshape(b, x, shape_of(4, s.dim[0], s.dim[1], heads, s.dim[2] / heads));
}

/* Scores (B, H, T, S) of keys after the query become so low that their weight is 0; the key of the
 * query's own time is always there, so no row is without a weight. */
static Ref hide_future(Builder *b, Ref score)
{
    const Type index = { DT_I32, build_type(b, score).shape };
    const Ref future = build_op2(b, OP_lt, build_iota(b, index, 2), build_iota(b, index, 3));
    return build_select(b, future, build_const(b, -1e30, build_type(b, score)), score);
}

Ref build_attention(Builder *b, Ref q, Ref k, Ref v, const Attention *a)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "attention");
    const Shape s = build_type(b, q).shape;
    const double scale = 1 / sqrt((double)(s.dim[2] / a->heads));
    static const int batch_head[] = { 0, 2 }, first_two[] = { 0, 1 };
    const Ref qh = split_heads(b, build_scale(b, q, scale), a->heads);
    const Ref kh = split_heads(b, k, a->heads), vh = split_heads(b, v, a->heads);

    /* (B, T, H, d) x (B, S, H, d) over d */
    Ref score =
        build_contract_batch(b, qh, kh, 1, (int[]){ 3 }, (int[]){ 3 }, 2, batch_head, batch_head);
    if (a->causal)
        score = hide_future(b, score);
    Ref p = build_softmax(b, score, 3);
    if (a->drop)
        p = a->drop(a->drop_arg, p);
    /* (B, H, T, S) x (B, S, H, d) over S: (B, H, T, d) */
    const Ref y =
        build_contract_batch(b, p, vh, 1, (int[]){ 3 }, (int[]){ 1 }, 2, first_two, batch_head);
    const Ref side = build_transpose(b, y, (int[]){ 0, 2, 1, 3 });
    return build_close(b, before, build_reshape(b, side, s));
}
