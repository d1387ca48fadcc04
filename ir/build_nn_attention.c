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

/* Which scores (B, H, T, S) count, as bool; REF_NONE for all.  Under `causal` alone the key of the
 * query's own time is always there, so that no row is without a weight. */
static Ref visible(Builder *b, Ref score, const Attention *a)
{
    const Type index = { DT_I32, build_type(b, score).shape };
    Ref seen = REF_NONE;
    if (a->causal)
        seen = build_op2(b, OP_le, build_iota(b, index, 3), build_iota(b, index, 2));
    if (a->mask != REF_NONE) {
        const Ref key = build_like(b, a->mask, score, 1u << 1 | 1u << 2);
        seen = seen == REF_NONE ? key : build_op2(b, OP_and, seen, key);
    }
    return seen;
}

/* The softmax of what is visible: the rest becomes so low that its weight is 0, and where nothing
 * is visible, all weights are made 0. */
static Ref weigh(Builder *b, Ref score, const Attention *a)
{
    const Ref seen = visible(b, score, a);
    if (seen == REF_NONE)
        return build_softmax(b, score, 3);
    const Type t = build_type(b, score);
    const Ref p = build_softmax(b, build_select(b, seen, score, build_const(b, -1e30, t)), 3);
    return a->mask == REF_NONE ? p : build_select(b, seen, p, build_const(b, 0, t));
}

/* t / base^(2i / d) for step t and i = floor(c * pairs): (steps, channels) */
static Ref angles(Builder *b, int64_t steps, int64_t channels, double pairs, double base, double d)
{
    const Type t = { DT_F32, shape_of(2, steps, channels) };
    const Type index = { DT_I32, t.shape };
    const Ref i = build_op1(b, OP_floor,
                            build_scale(b, build_cast(b, build_iota(b, index, 1), DT_F32), pairs));
    const Ref rate = build_op1(b, OP_exp, build_scale(b, i, -2 * log(base) / d));
    return build_op2(b, OP_mul, build_cast(b, build_iota(b, index, 0), DT_F32), rate);
}

Ref build_sine_positions(Builder *b, int64_t steps, int64_t channels)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "positions");
    const Type index = { DT_I32, shape_of(2, steps, channels) };
    const Ref angle = angles(b, steps, channels, 0.5, 10000, (double)channels);
    const Ref c = build_cast(b, build_iota(b, index, 1), DT_F32);
    const Ref half = build_scale(b, c, 0.5);
    const Ref odd = build_op2(b, OP_lt, build_op1(b, OP_floor, half), half);
    return build_close(
        b, before, build_select(b, odd, build_op1(b, OP_cos, angle), build_op1(b, OP_sin, angle)));
}

/* (B, T, H, d): channels i and i + d / 2 of a head turn by the angle t / base^(2i / d)
 * (Su et al. 2021, in the halves of GPT-NeoX). */
static Ref rotate(Builder *b, Ref x, double base)
{
    if (base == 0 || b->status != ST_OK)
        return x;
    const Shape s = build_type(b, x).shape;
    const int64_t half = s.dim[3] / 2;
    const Ref lo = build_slice(b, x, 3, 0, half), hi = build_slice(b, x, 3, half, half);
    const Ref angle = angles(b, s.dim[1], half, 1, base, (double)s.dim[3]);
    const Ref c = build_like(b, build_op1(b, OP_cos, angle), lo, 1u << 0 | 1u << 2);
    const Ref n = build_like(b, build_op1(b, OP_sin, angle), lo, 1u << 0 | 1u << 2);
    const Ref turned[] = {
        build_op2(b, OP_sub, build_op2(b, OP_mul, lo, c), build_op2(b, OP_mul, hi, n)),
        build_op2(b, OP_add, build_op2(b, OP_mul, hi, c), build_op2(b, OP_mul, lo, n))
    };
    return build_concat(b, turned, 2, 3);
}

Ref build_attention(Builder *b, Ref q, Ref k, Ref v, const Attention *a)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "attention");
    const Shape s = build_type(b, q).shape;
    const double scale = 1 / sqrt((double)(s.dim[2] / a->heads));
    static const int batch_head[] = { 0, 2 }, first_two[] = { 0, 1 };
    const Ref qh = rotate(b, split_heads(b, build_scale(b, q, scale), a->heads), a->rotary);
    const Ref kh = rotate(b, split_heads(b, k, a->heads), a->rotary);
    const Ref vh = split_heads(b, v, a->heads);

    /* (B, T, H, d) x (B, S, H, d) over d */
    const Ref score =
        build_contract_batch(b, qh, kh, 1, (int[]){ 3 }, (int[]){ 3 }, 2, batch_head, batch_head);
    Ref p = weigh(b, score, a);
    if (a->drop)
        p = a->drop(a->drop_arg, p);
    /* (B, H, T, S) x (B, S, H, d) over S: (B, H, T, d) */
    const Ref y =
        build_contract_batch(b, p, vh, 1, (int[]){ 3 }, (int[]){ 1 }, 2, first_two, batch_head);
    const Ref side = build_transpose(b, y, (int[]){ 0, 2, 1, 3 });
    return build_close(b, before, build_reshape(b, side, s));
}
