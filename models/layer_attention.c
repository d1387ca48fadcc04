/* SPDX-License-Identifier: Apache-2.0 */
/* layer_attention: attention with heads, the transformer block, and positions.  Parameters have the
 * names, shapes and first values of torch.nn.MultiheadAttention and
 * torch.nn.TransformerEncoderLayer. */
#include "models/layer_build.h"

#include <math.h>

/* Which random tensor of its layer a dropout is. */
enum { DROP_WEIGHTS, DROP_ATTENTION, DROP_HIDDEN, DROP_DENSE };

typedef struct Drop {
    LayerCx *lx;
    const Layer *l;
} Drop;

static Ref drop_weights(void *arg, Ref p)
{
    const Drop *d = arg;
    return layer_drop(d->lx, d->l, p, d->l->rate, DROP_WEIGHTS);
}

static const char *joined(LayerCx *lx, const char *prefix, const char *name)
{
    return arena_printf(lx->arena, "%s%s", prefix, name);
}

static Ref bias_param(LayerCx *lx, const Layer *l, const char *name, int64_t n)
{
    return l->bias ? layer_param(lx, name, shape_of(1, n), INIT_FILL, 0) : REF_NONE;
}

/* Product `part` of n products whose weights lie on top of each other. */
static Ref project(LayerCx *lx, Ref x, Ref w, Ref bias, int64_t width, int part, int n)
{
    const Ref rows = build_slice(lx->b, w, 0, part * width, n * width);
    const Ref b =
        bias != REF_NONE ? build_slice(lx->b, bias, 0, part * width, n * width) : REF_NONE;
    return build_linear(lx->b, x, rows, b);
}

/* The key "mask" as (B, S) bool: an input of S numbers says which keys count, one number how many
 * of them do. */
static Status read_mask(LayerCx *lx, const Layer *l, Ref given, Ref memory, Ref *out)
{
    Builder *b = lx->b;
    *out = REF_NONE;
    if (given == REF_NONE)
        return ST_OK;
    const Shape m = layer_shape(lx, memory), s = layer_shape(lx, given);
    const Shape keys = shape_of(2, m.dim[0], m.dim[1]);
    const int64_t n = shape_count(&s) / (m.dim[0] ? m.dim[0] : 1);
    if (s.rank > 2 || (n != 1 && n != m.dim[1]))
        return layer_fail(lx, l, "\"mask\" wants an input of shape [%d] or [1], got %s",
                          (int)m.dim[1], layer_shape_str(s));
    const Ref v = build_cast(b, given, DT_F32);
    if (n == m.dim[1]) {
        *out = build_op2(b, OP_lt, build_const(b, 0, (Type){ DT_F32, keys }),
                         build_reshape(b, v, keys));
    } else {
        const Ref each = build_broadcast(b, build_reshape(b, v, shape_of(1, m.dim[0])), keys, 2u);
        const Ref index = build_cast(b, build_iota(b, (Type){ DT_I32, keys }, 1), DT_F32);
        *out = build_op2(b, OP_lt, index, each);
    }
    return ST_OK;
}

/* prefix: "" or "self_attn.". */
static Ref attend(LayerCx *lx, const Layer *l, const char *prefix, Ref x, Ref memory, Ref mask)
{
    Builder *b = lx->b;
    const int64_t c = layer_shape(lx, x).dim[2];
    const double xavier = sqrt(6.0 / (4.0 * (double)(c ? c : 1)));
    const Ref w = layer_param(lx, joined(lx, prefix, "in_proj_weight"), shape_of(2, 3 * c, c),
                              INIT_UNIFORM, xavier);
    const Ref bias = bias_param(lx, l, joined(lx, prefix, "in_proj_bias"), 3 * c);
    Drop drop = { lx, l };
    const Attention a = { .heads = l->heads,
                          .causal = l->causal,
                          .mask = mask,
                          .rotary = l->rotary ? l->rotary_base : 0,
                          .drop = drop_weights,
                          .drop_arg = &drop };
    Ref q, kv, k, v;
    if (x == memory) { /* one product for all three */
        const Ref all = build_linear(b, x, w, bias);
        q = build_slice(b, all, 2, 0, c);
        kv = build_slice(b, all, 2, c, 2 * c);
    } else {
        q = project(lx, x, w, bias, c, 0, 1);
        kv = project(lx, memory, w, bias, c, 1, 2);
    }
    k = build_slice(b, kv, 2, 0, c);
    v = build_slice(b, kv, 2, c, c);
    const Ref y = build_attention(b, q, k, v, &a);
    const Ref wo =
        layer_param_uniform(lx, joined(lx, prefix, "out_proj.weight"), shape_of(2, c, c), c);
    return build_linear(b, y, wo, bias_param(lx, l, joined(lx, prefix, "out_proj.bias"), c));
}

static Status check_heads(LayerCx *lx, const Layer *l, Ref x)
{
    TRY(layer_wants_rank(lx, l, x, 3, "(T, C)"));
    const Shape s = layer_shape(lx, x);
    if (s.dim[1] < 1 || s.dim[2] < 1 || s.dim[2] % l->heads)
        return layer_fail(lx, l, "%d heads do not divide the channels of %s", l->heads,
                          layer_shape_str(s));
    if (l->rotary && s.dim[2] / l->heads % 2)
        return layer_fail(lx, l, "rotary wants an even number of channels a head, got %d",
                          (int)(s.dim[2] / l->heads));
    return ST_OK;
}

Status layer_multi_head_attention(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    const Ref memory = in[nin - 1];
    TRY(check_heads(lx, l, in[0]));
    TRY(check_heads(lx, l, memory));
    const Shape s = layer_shape(lx, in[0]), m = layer_shape(lx, memory);
    if (s.dim[2] != m.dim[2])
        return layer_fail(lx, l, "wants inputs of equal channels, got %s and %s",
                          layer_shape_str(s), layer_shape_str(m));
    Ref mask;
    TRY(read_mask(lx, l, l->mask ? in[nin] : REF_NONE, memory, &mask));
    *out = attend(lx, l, "", in[0], memory, mask);
    return ST_OK;
}

static Ref normed(LayerCx *lx, const Layer *l, const char *name, Ref x)
{
    const Shape c = shape_of(1, layer_shape(lx, x).dim[2]);
    const Ref w = layer_param(lx, joined(lx, name, ".weight"), c, INIT_FILL, 1);
    const Ref bias =
        l->bias ? layer_param(lx, joined(lx, name, ".bias"), c, INIT_FILL, 0) : REF_NONE;
    return build_layer_norm(lx->b, x, 1, w, bias, l->eps);
}

static Ref dense(LayerCx *lx, const Layer *l, const char *name, Ref x, int64_t units)
{
    const int64_t n = layer_shape(lx, x).dim[2];
    const Ref w = layer_param_uniform(lx, joined(lx, name, ".weight"), shape_of(2, units, n), n);
    const Ref bias = l->bias
                         ? layer_param_uniform(lx, joined(lx, name, ".bias"), shape_of(1, units), n)
                         : REF_NONE;
    return build_linear(lx->b, x, w, bias);
}

static Ref feed_forward(LayerCx *lx, const Layer *l, Ref x)
{
    const int64_t c = layer_shape(lx, x).dim[2];
    const Ref h = layer_activate(lx, l, dense(lx, l, "linear1", x, l->hidden ? l->hidden : 4 * c));
    const Ref kept = layer_drop(lx, l, h, l->rate, DROP_HIDDEN);
    return layer_drop(lx, l, dense(lx, l, "linear2", kept, c), l->rate, DROP_DENSE);
}

static Ref self_attention(LayerCx *lx, const Layer *l, Ref x, Ref mask)
{
    return layer_drop(lx, l, attend(lx, l, "self_attn.", x, x, mask), l->rate, DROP_ATTENTION);
}

Status layer_transformer_block(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    Builder *b = lx->b;
    Ref x = in[0], mask;
    TRY(check_heads(lx, l, x));
    TRY(read_mask(lx, l, l->mask ? in[nin] : REF_NONE, x, &mask));
    if (l->norm == NORM_PRE) {
        x = build_op2(b, OP_add, x, self_attention(lx, l, normed(lx, l, "norm1", x), mask));
        x = build_op2(b, OP_add, x, feed_forward(lx, l, normed(lx, l, "norm2", x)));
    } else {
        x = normed(lx, l, "norm1", build_op2(b, OP_add, x, self_attention(lx, l, x, mask)));
        x = normed(lx, l, "norm2", build_op2(b, OP_add, x, feed_forward(lx, l, x)));
    }
    *out = x;
    return ST_OK;
}

Status layer_position_encoding(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    TRY(layer_wants_rank(lx, l, in[0], 3, "(T, C)"));
    const Shape s = layer_shape(lx, in[0]);
    const Ref p = build_sine_positions(lx->b, s.dim[1], s.dim[2]);
    *out = build_op2(lx->b, OP_add, in[0], build_like(lx->b, p, in[0], 1u));
    return ST_OK;
}

Status layer_position_embedding(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    TRY(layer_wants_rank(lx, l, in[0], 3, "(T, C)"));
    const Shape s = layer_shape(lx, in[0]);
    const Shape table = shape_of(2, s.dim[1], s.dim[2]);
    const Ref w = l->init == WEIGHT_DEFAULT ? layer_param(lx, "weight", table, INIT_NORMAL, 1)
                                            : layer_param_weight(lx, l, table, s.dim[2]);
    *out = build_op2(lx->b, OP_add, in[0], build_like(lx->b, w, in[0], 1u));
    return ST_OK;
}
