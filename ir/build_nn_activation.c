/* SPDX-License-Identifier: Apache-2.0 */
/* build_nn_activation: functions of one tensor.
 *
 * Those with a kink pick their side by select, so that the gradient at the kink is that of one
 * side, as PyTorch has it, and exponentials take min(x, 0) or -|x|, so that the side that is not
 * picked stays finite: 0 * inf would be the gradient otherwise.
 */
#include "ir/build_nn.h"

#include <math.h>

static Ref zeros_like(Builder *b, Ref x)
{
    return build_const(b, 0, build_type(b, x));
}

static Ref gelu(Builder *b, Ref x)
{
    const Ref e = build_op1(b, OP_erf, build_scale(b, x, M_SQRT1_2));
    return build_op2(b, OP_mul, build_scale(b, x, 0.5), build_shift(b, e, 1));
}

static Ref gelu_tanh(Builder *b, Ref x)
{
    const Ref cube = build_op2(b, OP_mul, x, build_op2(b, OP_mul, x, x));
    const Ref in = build_op2(b, OP_add, x, build_scale(b, cube, 0.044715));
    const Ref t = build_op1(b, OP_tanh, build_scale(b, in, sqrt(2 / M_PI)));
    return build_op2(b, OP_mul, build_scale(b, x, 0.5), build_shift(b, t, 1));
}

/* x - floor(max x) along axis: exp of it cannot overflow. */
static Ref below_max(Builder *b, Ref x, int axis)
{
    const Ref top = build_op1(b, OP_floor, build_reduce(b, OP_amax, x, 1u << axis));
    return build_op2(b, OP_sub, x, build_like(b, top, x, 1u << axis));
}

Ref build_softmax(Builder *b, Ref x, int axis)
{
    const uint32_t before = build_open(b, "softmax");
    const Ref e = build_op1(b, OP_exp, below_max(b, x, axis));
    const Ref sum = build_reduce(b, OP_sum, e, 1u << axis);
    return build_close(b, before, build_op2(b, OP_div, e, build_like(b, sum, e, 1u << axis)));
}

Ref build_log_softmax(Builder *b, Ref x, int axis)
{
    const uint32_t before = build_open(b, "log_softmax");
    const Ref z = below_max(b, x, axis);
    const Ref sum = build_reduce(b, OP_sum, build_op1(b, OP_exp, z), 1u << axis);
    const Ref lse = build_op1(b, OP_log, sum);
    return build_close(b, before, build_op2(b, OP_sub, z, build_like(b, lse, z, 1u << axis)));
}

/* max(x, 0) + log1p(exp(-|x|)), whose slope at 0 is 1/2. */
static Ref softplus(Builder *b, Ref x)
{
    const Ref below = build_op2(b, OP_lt, x, zeros_like(b, x));
    const Ref minus_abs = build_select(b, below, x, build_op1(b, OP_neg, x));
    return build_op2(b, OP_add, build_select(b, below, zeros_like(b, x), x),
                     build_op1(b, OP_log1p, build_op1(b, OP_exp, minus_abs)));
}

static Ref elu(Builder *b, Ref x, double alpha) /* at 0 the slope is that below */
{
    const Ref zero = zeros_like(b, x), above = build_op2(b, OP_lt, zero, x);
    const Ref down = build_op1(b, OP_expm1, build_select(b, above, zero, x));
    return build_select(b, above, x, build_scale(b, down, alpha));
}

static Ref relu6(Builder *b, Ref x)
{
    const Ref six = build_const(b, 6, build_type(b, x));
    return build_op2(b, OP_min, build_op2(b, OP_max, x, zeros_like(b, x)), six);
}

static Ref hard_sigmoid(Builder *b, Ref x)
{
    return build_scale(b, relu6(b, build_shift(b, x, 3)), 1.0 / 6);
}

static Ref activation(Builder *b, Activation a, Ref x, double slope)
{
    switch (a) {
    case ACT_NONE:
        return x;
    case ACT_RELU:
        return build_op2(b, OP_max, x, zeros_like(b, x));
    case ACT_LEAKY_RELU:
        return build_select(b, build_op2(b, OP_lt, zeros_like(b, x), x), x,
                            build_scale(b, x, slope)); /* at 0 the slope is that below */
    case ACT_GELU:
        return gelu(b, x);
    case ACT_GELU_TANH:
        return gelu_tanh(b, x);
    case ACT_SILU:
        return build_op2(b, OP_mul, x, build_op1(b, OP_sigmoid, x));
    case ACT_TANH:
        return build_op1(b, OP_tanh, x);
    case ACT_SIGMOID:
        return build_op1(b, OP_sigmoid, x);
    case ACT_ELU:
        return elu(b, x, slope);
    case ACT_SOFTPLUS:
        return softplus(b, x);
    case ACT_MISH:
        return build_op2(b, OP_mul, x, build_op1(b, OP_tanh, softplus(b, x)));
    case ACT_HARD_SIGMOID:
        return hard_sigmoid(b, x);
    case ACT_HARD_SWISH:
        return build_op2(b, OP_mul, x, hard_sigmoid(b, x));
    case ACT_HARD_TANH:
        return build_op2(b, OP_min,
                         build_op2(b, OP_max, x, build_const(b, -1, build_type(b, x))),
                         build_const(b, 1, build_type(b, x)));
    case ACT_RELU6:
        return relu6(b, x);
    case ACT_SOFTMAX:
        return build_softmax(b, x, build_type(b, x).shape.rank - 1);
    }
    gtc_assert(false, "no activation %d", (int)a);
    return REF_NONE;
}

Ref build_activation(Builder *b, Activation a, Ref x, double slope)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "activation");
    return build_close(b, before, activation(b, a, x, slope));
}

Ref build_prelu(Builder *b, Ref x, Ref weight)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "prelu");
    const Shape s = build_type(b, x).shape;
    const bool shared = build_type(b, weight).shape.dim[0] == 1;
    const Ref slope = shared ? build_reshape(b, weight, shape_of(0))
                             : build_like(b, weight, x, (1u << (s.rank - 1)) - 1);
    const Ref above = build_op2(b, OP_lt, zeros_like(b, x), x);
    return build_close(b, before, build_select(b, above, x, build_op2(b, OP_mul, x, slope)));
}
