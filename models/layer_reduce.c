/* SPDX-License-Identifier: Apache-2.0 */
/* layer_reduce: the layers reduce and einsum. */
#include "models/layer_build.h"

#include <string.h>

/* The axes of x that the key names, as a mask; all but the batch when it names none. */
static Status axes_of(LayerCx *lx, const Layer *l, Shape s, unsigned *axes)
{
    *axes = l->over.n ? 0 : ((1u << s.rank) - 1) & ~1u;
    for (int i = 0; i < l->over.n; i++) {
        const int64_t axis = l->over.at[i] < 0 ? s.rank + l->over.at[i] : l->over.at[i] + 1;
        if (axis < 1 || axis >= s.rank)
            return layer_fail(lx, l, "there is no axis %d in %s", (int)l->over.at[i],
                              layer_shape_str(s));
        if (*axes >> axis & 1)
            return layer_fail(lx, l, "axis %d stands twice", (int)l->over.at[i]);
        *axes |= 1u << axis;
    }
    return ST_OK;
}

/* Of one axis, or of all of a row as one. */
static Status pick(LayerCx *lx, const Layer *l, Ref x, unsigned axes, Ref *out)
{
    const Shape s = layer_shape(lx, x);
    int axis = 1;
    if ((axes & (axes - 1)) == 0) {
        while (axis < s.rank && !(axes >> axis & 1))
            axis++;
    } else if (axes != (((1u << s.rank) - 1) & ~1u)) {
        return layer_fail(lx, l, "wants one axis or all, got %d of %s", l->over.n,
                          layer_shape_str(s));
    } else {
        int64_t n = 1;
        for (int i = 1; i < s.rank; i++)
            n *= s.dim[i];
        x = build_reshape(lx->b, x, shape_of(2, s.dim[0], n));
    }
    *out = build_argmax(lx->b, l->reduction == REDUCE_ARGMAX ? OP_amax : OP_amin, x, axis);
    return ST_OK;
}

static Ref mean(LayerCx *lx, Ref x, unsigned axes)
{
    const Type t = build_type(lx->b, x);
    double n = 1;
    for (int i = 0; i < t.shape.rank; i++)
        n *= axes >> i & 1 ? (double)t.shape.dim[i] : 1;
    if (!dtype_is_float(t.dt))
        x = build_cast(lx->b, x, DT_F32);
    return build_scale(lx->b, build_reduce(lx->b, OP_sum, x, axes), 1 / n);
}

/* amin has no gradient. */
static Ref least(LayerCx *lx, Ref x, unsigned axes)
{
    const Ref most = build_reduce(lx->b, OP_amax, build_op1(lx->b, OP_neg, x), axes);
    return build_op1(lx->b, OP_neg, most);
}

Status layer_reduce(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const Shape s = layer_shape(lx, in[0]);
    unsigned axes;
    TRY(axes_of(lx, l, s, &axes));
    switch (l->reduction) {
    case REDUCE_SUM:
        *out = build_reduce(lx->b, OP_sum, in[0], axes);
        break;
    case REDUCE_MEAN:
        *out = mean(lx, in[0], axes);
        break;
    case REDUCE_MAX:
        *out = build_reduce(lx->b, OP_amax, in[0], axes);
        break;
    case REDUCE_MIN:
        *out = least(lx, in[0], axes);
        break;
    default:
        TRY(pick(lx, l, in[0], axes, out));
    }
    if (!l->keep)
        return ST_OK;
    Shape kept = s;
    for (int i = 1; i < s.rank; i++)
        kept.dim[i] = axes >> i & 1 ? 1 : s.dim[i];
    *out = build_reshape(lx->b, *out, kept);
    return ST_OK;
}

/* The first letter of what stands between from and to. */
static char first_letter(const char *from, const char *to)
{
    while (from < to && *from == ' ')
        from++;
    return from < to ? *from : '\0';
}

/* Rows must not mix: one letter comes first everywhere. */
static Status check_batch(LayerCx *lx, const Layer *l)
{
    const char *s = l->equation, *arrow = strstr(s, "->");
    if (!arrow)
        return layer_fail(lx, l, "\"%s\" has no \"->\"", s);
    const char batch = first_letter(s, arrow);
    bool fits = batch && first_letter(arrow + 2, s + strlen(s)) == batch;
    for (const char *c = s; c < arrow && fits; c++)
        fits = *c != ',' || first_letter(c + 1, arrow) == batch;
    if (!fits)
        return layer_fail(
            lx, l, "\"%s\": every operand and the result begin with the letter of the batch", s);
    return ST_OK;
}

Status layer_einsum(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    TRY(check_batch(lx, l));
    *out = build_einsum(lx->b, l->equation, in, nin);
    if (lx->b->status == ST_OK)
        return ST_OK;
    const char *why = arena_strdup(lx->arena, lx->cx->msg);
    return layer_fail(lx, l, "%s", why);
}
