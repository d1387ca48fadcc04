/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients of the elementwise ops.  g: the cotangent of y = op(x0, x1, ..). */
#include "ir/base/bug.h"
#include "ir/vjp.h"

static Ref arg(const Vjp *v, Ref y, int i)
{
    return v->b.g->node[y].arg[i];
}

static Ref mul(Vjp *v, Ref a, Ref b)
{
    return build_op2(&v->b, OP_mul, a, b);
}

static Ref neg(Vjp *v, Ref a)
{
    return build_op1(&v->b, OP_neg, a);
}

static Ref zeros_like(Vjp *v, Ref x)
{
    const Type t = build_type(&v->b, x);
    return vjp_zeros(v, &t);
}

/* x where cond, 0 elsewhere; and the other way round. */
static Ref keep(Vjp *v, Ref cond, Ref x)
{
    return build_select(&v->b, cond, x, zeros_like(v, x));
}

static Ref drop(Vjp *v, Ref cond, Ref x)
{
    return build_select(&v->b, cond, zeros_like(v, x), x);
}

void vjp_add(Vjp *v, Ref y, Ref g)
{
    vjp_give(v, arg(v, y, 0), g);
    vjp_give(v, arg(v, y, 1), g);
}

void vjp_sub(Vjp *v, Ref y, Ref g)
{
    const Ref b = arg(v, y, 1);
    vjp_give(v, arg(v, y, 0), g);
    if (vjp_wants(v, b))
        vjp_give(v, b, neg(v, g));
}

void vjp_mul(Vjp *v, Ref y, Ref g)
{
    const Ref a = arg(v, y, 0), b = arg(v, y, 1);
    if (vjp_wants(v, a))
        vjp_give(v, a, mul(v, g, b));
    if (vjp_wants(v, b) && !(BUG(1) && a == b))
        vjp_give(v, b, mul(v, g, a));
}

void vjp_div(Vjp *v, Ref y, Ref g)
{
    const Ref a = arg(v, y, 0), b = arg(v, y, 1);
    const Ref da = build_op2(&v->b, OP_div, g, b);
    vjp_give(v, a, da);
    if (vjp_wants(v, b))
        vjp_give(v, b, BUG(2) ? mul(v, da, y) : neg(v, mul(v, da, y)));
}

/* At a tie the second argument gets it all, so that relu = max(x, 0) has gradient 0 at 0. */
static void give_choice(Vjp *v, Ref first, Ref a, Ref b, Ref g)
{
    if (vjp_wants(v, a))
        vjp_give(v, a, keep(v, first, g));
    if (vjp_wants(v, b))
        vjp_give(v, b, BUG(4) ? keep(v, first, g) : drop(v, first, g));
}

void vjp_max(Vjp *v, Ref y, Ref g)
{
    const Ref a = arg(v, y, 0), b = arg(v, y, 1);
    give_choice(v, build_op2(&v->b, OP_lt, b, a), a, b, g);
}

void vjp_min(Vjp *v, Ref y, Ref g)
{
    const Ref a = arg(v, y, 0), b = arg(v, y, 1);
    give_choice(v, build_op2(&v->b, OP_lt, a, b), a, b, g);
}

void vjp_neg(Vjp *v, Ref y, Ref g)
{
    vjp_give(v, arg(v, y, 0), neg(v, g));
}

void vjp_abs(Vjp *v, Ref y, Ref g)
{
    const Ref x = arg(v, y, 0), zero = zeros_like(v, x);
    const Ref below = build_select(&v->b, build_op2(&v->b, OP_lt, x, zero), neg(v, g), zero);
    vjp_give(v, x, build_select(&v->b, build_op2(&v->b, OP_lt, zero, x), g, below));
}

/* Flat everywhere it has a slope. */
void vjp_zero(Vjp *v, Ref y, Ref g)
{
    (void)v, (void)y, (void)g;
}

void vjp_sqrt(Vjp *v, Ref y, Ref g)
{
    vjp_give(v, arg(v, y, 0), build_op2(&v->b, OP_div, build_scale(&v->b, g, 0.5), y));
}

void vjp_rsqrt(Vjp *v, Ref y, Ref g)
{
    const Ref cube = mul(v, mul(v, y, y), y);
    vjp_give(v, arg(v, y, 0), mul(v, build_scale(&v->b, g, -0.5), cube));
}

void vjp_exp(Vjp *v, Ref y, Ref g)
{
    vjp_give(v, arg(v, y, 0), mul(v, g, y));
}

void vjp_expm1(Vjp *v, Ref y, Ref g)
{
    vjp_give(v, arg(v, y, 0), mul(v, g, build_shift(&v->b, y, 1)));
}

void vjp_log(Vjp *v, Ref y, Ref g)
{
    const Ref x = arg(v, y, 0);
    vjp_give(v, x, build_op2(&v->b, OP_div, g, x));
}

void vjp_log1p(Vjp *v, Ref y, Ref g)
{
    const Ref x = arg(v, y, 0);
    vjp_give(v, x, build_op2(&v->b, OP_div, g, build_shift(&v->b, x, 1)));
}

void vjp_tanh(Vjp *v, Ref y, Ref g)
{
    const Ref slope = build_shift(&v->b, neg(v, BUG(3) ? y : mul(v, y, y)), 1);
    vjp_give(v, arg(v, y, 0), mul(v, g, slope));
}

void vjp_sigmoid(Vjp *v, Ref y, Ref g)
{
    const Ref slope = mul(v, y, build_shift(&v->b, neg(v, y), 1));
    vjp_give(v, arg(v, y, 0), mul(v, g, slope));
}

void vjp_erf(Vjp *v, Ref y, Ref g)
{
    const Ref x = arg(v, y, 0);
    const Ref bell = build_op1(&v->b, OP_exp, neg(v, mul(v, x, x)));
    vjp_give(v, x, mul(v, g, build_scale(&v->b, bell, 0x1.20dd750429b6dp0))); /* 2/sqrt(pi) */
}

void vjp_sin(Vjp *v, Ref y, Ref g)
{
    const Ref x = arg(v, y, 0);
    vjp_give(v, x, mul(v, g, build_op1(&v->b, OP_cos, x)));
}

void vjp_cos(Vjp *v, Ref y, Ref g)
{
    const Ref x = arg(v, y, 0);
    vjp_give(v, x, neg(v, mul(v, g, build_op1(&v->b, OP_sin, x))));
}

void vjp_select(Vjp *v, Ref y, Ref g)
{
    give_choice(v, arg(v, y, 0), arg(v, y, 1), arg(v, y, 2), g);
}

void vjp_cast(Vjp *v, Ref y, Ref g)
{
    const Ref x = arg(v, y, 0);
    if (vjp_wants(v, x))
        vjp_give(v, x, build_cast(&v->b, g, build_type(&v->b, x).dt));
}
