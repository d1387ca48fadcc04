/* SPDX-License-Identifier: Apache-2.0 */
/* optimizer: gradients, clipping, and each parameter's next value, all in the step's own graph.
 *
 * The scalars that an update needs (bias corrections, the clip factor applied) are computed in the
 * region of each parameter again: a few operations that never leave a register, against a launch
 * of their own.  Bias corrections are -expm1(t log beta), which keeps its digits when beta^t is
 * near 1.
 *
 * Formulas are those of torch.optim; states start at zero.
 */
#include "ir/base/bug.h"
#include "models/layer.h"

#include <math.h>
#include <string.h>

typedef struct Update { /* of one parameter */
    LayerCx *lx;
    Builder *b;
    const OptimizerConfig *o;
    ModelInput param; /* a copy: the list may move */
    Ref p, g, lr;
    double decay; /* weight_decay, as far as it is for this one */
    bool decay_fits;
    Ref next;
} Update;
typedef void OptimizerFn(Update *u);

static Ref state_from(Update *u, const char *what, double start)
{
    const char *name = arena_printf(u->lx->arena, LAYER_OPT "%s.%s", u->param.name, what);
    return layer_input(u->lx, INPUT_state, name, DT_F32, u->param.type.shape, INIT_FILL, start);
}

static Ref state(Update *u, const char *what)
{
    return state_from(u, what, 0);
}

/* a x + b y */
static Ref mix(Update *u, double a, Ref x, double c, Ref y)
{
    return build_op2(u->b, OP_add, build_scale(u->b, x, a), build_scale(u->b, y, c));
}

static Ref decayed(Update *u)
{
    return u->decay > 0 ? build_op2(u->b, OP_add, u->g, build_scale(u->b, u->p, u->decay)) : u->g;
}

/* p - lr * d */
static void descend(Update *u, Ref p, Ref d)
{
    u->next = build_op2(u->b, OP_sub, p, build_op2(u->b, OP_mul, d, u->lr));
}

/* The parameter itself made smaller: decoupled decay. */
static Ref shrunk(Update *u)
{
    if (u->decay > 0)
        descend(u, u->p, build_scale(u->b, u->p, u->decay));
    return u->decay > 0 ? u->next : u->p;
}

static void optimizer_sgd(Update *u)
{
    const double momentum = u->o->momentum;
    const Ref g = decayed(u);
    if (momentum == 0) {
        descend(u, u->p, g);
        return;
    }
    const Ref old = state(u, "momentum_buffer"), m = mix(u, momentum, old, 1, g);
    layer_replace(u->lx, old, m);
    descend(u, u->p, u->o->nesterov ? mix(u, 1, g, momentum, m) : m);
}

/* 1 - beta^t, t counting from 1 */
static Ref bias_correction(Update *u, double beta)
{
    Builder *b = u->b;
    const Ref t = build_shift(b, build_cast(b, u->lx->step, DT_F32), !BUG(17));
    if (beta == 0)
        return build_scalar(b, DT_F32, 1);
    return build_op1(b, OP_neg, build_op1(b, OP_expm1, build_scale(b, t, log(beta))));
}

/* Adam (Kingma and Ba 2015); AdamW (Loshchilov and Hutter 2019) shrinks the parameter itself. */
static void optimizer_adam(Update *u)
{
    Builder *b = u->b;
    const OptimizerConfig *o = u->o;
    const bool decoupled = strcmp(o->type_name, "adamw") == 0;
    const Ref g = decoupled ? u->g : decayed(u);
    const Ref p = decoupled ? shrunk(u) : u->p;
    const Ref m0 = state(u, "exp_avg"), v0 = state(u, "exp_avg_sq");
    const Ref m = mix(u, o->beta1, m0, 1 - o->beta1, g);
    const Ref v = mix(u, o->beta2, v0, 1 - o->beta2, build_op2(b, OP_mul, g, g));
    layer_replace(u->lx, m0, m);
    layer_replace(u->lx, v0, v);
    const Ref size = build_op2(b, OP_div, u->lr, bias_correction(u, o->beta1));
    const Ref root = build_op1(b, OP_sqrt, bias_correction(u, o->beta2));
    const Ref denom = build_shift(b, build_op2(b, OP_div, build_op1(b, OP_sqrt, v), root), o->eps);
    const Ref step = build_op2(b, OP_mul, build_op2(b, OP_div, m, denom), size);
    u->next = build_op2(b, OP_sub, p, step);
}

static void optimizer_rmsprop(Update *u)
{
    Builder *b = u->b;
    const OptimizerConfig *o = u->o;
    const Ref g = decayed(u), v0 = state(u, "square_avg");
    const Ref v = mix(u, o->alpha, v0, 1 - o->alpha, build_op2(b, OP_mul, g, g));
    layer_replace(u->lx, v0, v);
    Ref d = build_op2(b, OP_div, g, build_shift(b, build_op1(b, OP_sqrt, v), o->eps));
    if (o->momentum > 0) {
        const Ref old = state(u, "momentum_buffer");
        d = mix(u, o->momentum, old, 1, d);
        layer_replace(u->lx, old, d);
    }
    descend(u, u->p, d);
}

/* Duchi et al. 2011. */
static void optimizer_adagrad(Update *u)
{
    Builder *b = u->b;
    const OptimizerConfig *o = u->o;
    const Ref g = decayed(u), sum0 = state_from(u, "sum", o->start);
    const Ref sum = build_op2(b, OP_add, sum0, build_op2(b, OP_mul, g, g));
    layer_replace(u->lx, sum0, sum);
    if (o->lr_decay > 0) {
        const Ref t = build_cast(b, u->lx->step, DT_F32);
        u->lr = build_op2(b, OP_div, u->lr, build_shift(b, build_scale(b, t, o->lr_decay), 1));
    }
    descend(u, u->p, build_op2(b, OP_div, g, build_shift(b, build_op1(b, OP_sqrt, sum), o->eps)));
}

static Ref sign(Builder *b, Ref x)
{
    const Type t = build_type(b, x);
    const Ref zero = build_const(b, 0, t), one = build_const(b, 1, t);
    const Ref up = build_select(b, build_op2(b, OP_lt, zero, x), one, zero);
    return build_select(b, build_op2(b, OP_lt, x, zero), build_const(b, -1, t), up);
}

/* Chen et al. 2023. */
static void optimizer_lion(Update *u)
{
    const OptimizerConfig *o = u->o;
    const Ref p = shrunk(u), old = state(u, "exp_avg");
    const Ref d = sign(u->b, mix(u, o->beta1, old, 1 - o->beta1, u->g));
    layer_replace(u->lx, old, mix(u, o->beta2, old, 1 - o->beta2, u->g));
    descend(u, p, d);
}

/* The running mean of the parameter; the first step's result begins it. */
static void follow(Update *u)
{
    Builder *b = u->b;
    const double decay = u->lx->m->train.ema;
    if (decay == 0)
        return;
    const char *name = arena_printf(u->lx->arena, LAYER_EMA "%s", u->param.name);
    const Ref old = layer_input(u->lx, INPUT_state, name, DT_F32, u->param.type.shape,
                                u->param.init, u->param.value);
    const Ref first = build_op2(b, OP_eq, u->lx->step, build_scalar(b, DT_I32, 0));
    const Ref share = build_select(b, first, build_scalar(b, DT_F32, 1),
                                   build_scalar(b, DT_F32, 1 - decay));
    const Ref way = build_op2(b, OP_mul, build_op2(b, OP_sub, u->next, old), share);
    layer_replace(u->lx, old, build_op2(b, OP_add, old, way));
}

const TypeInfo optimizer_types[] = {
#define OPTIMIZER(type, fn, help) { #type, help, false },
#include "models/optimizers.def"
};
const int optimizer_ntypes = sizeof optimizer_types / sizeof optimizer_types[0];

static OptimizerFn *const optimizer_fn[] = {
#define OPTIMIZER(type, fn, help) fn,
#include "models/optimizers.def"
};

/* sqrt of the sum of squares of all gradients. */
static Ref global_norm(Builder *b, const Ref *g, int n)
{
    Ref sum = REF_NONE;
    for (int i = 0; i < n && b->status == ST_OK; i++) {
        const int rank = build_type(b, g[i]).shape.rank;
        const Ref square = build_op2(b, OP_mul, g[i], g[i]);
        const Ref one = build_reduce(b, OP_sum, square, (1u << rank) - 1);
        sum = i == 0 ? one : build_op2(b, OP_add, sum, one);
    }
    return build_op1(b, OP_sqrt, sum);
}

static Ref clipped(LayerCx *lx, Ref g, Ref factor)
{
    Builder *b = lx->b;
    const double most = lx->m->train.clip_value;
    if (factor != REF_NONE)
        g = build_op2(b, OP_mul, g, factor);
    if (most > 0) {
        const Type t = build_type(b, g);
        g = build_op2(b, OP_max, build_op2(b, OP_min, g, build_const(b, most, t)),
                      build_const(b, -most, t));
    }
    return g;
}

/* What the layer says of its own parameters. */
static void of_layer(Update *u, const Layer *l)
{
    if (l->lr_scale != 1)
        u->lr = build_scale(u->b, u->lr, l->lr_scale);
    if (l->decay >= 0 && u->decay_fits)
        u->decay = l->decay;
}

Status optimizer_build(LayerCx *lx, Ref loss)
{
    Builder *b = lx->b;
    int n = 0;
    Ref *wrt = arena_array(lx->arena, Ref, lx->ninput),
        *g = arena_array(lx->arena, Ref, lx->ninput);
    int *which = arena_array(lx->arena, int, lx->ninput);
    for (unsigned i = 0; i < lx->ninput; i++) {
        if (lx->input[i].kind == INPUT_param) {
            which[n] = (int)i;
            wrt[n++] = lx->input[i].ref;
        }
    }
    if (n == 0)
        return FAIL(lx->cx, VALUE, "model \"%s\": no layer has parameters to train", lx->m->name);
    const Ref grad = build_grad(b, loss, wrt, n);
    for (int i = 0; i < n; i++)
        g[i] = build_get(b, grad, i);

    const uint32_t before = build_region(b, "clip", -1);
    const Ref norm = global_norm(b, g, n);
    Ref factor = REF_NONE;
    if (lx->m->train.clip_norm > 0) {
        const Ref most = build_scalar(b, DT_F32, lx->m->train.clip_norm);
        const Ref ratio = build_op2(b, OP_div, most, build_shift(b, norm, 1e-6));
        factor = build_op2(b, OP_min, ratio, build_scalar(b, DT_F32, 1));
    }
    build_output(b, norm, "grad_norm");
    const Ref lr = layer_input(lx, INPUT_batch, "lr", DT_F32, shape_of(0), INIT_FILL, 0);
    for (int i = 0; i < n && b->status == ST_OK; i++) {
        build_region(b, "optimizer", lx->input[which[i]].layer);
        Update u = { .lx = lx,
                     .b = b,
                     .o = lx->m->optimizer,
                     .param = lx->input[which[i]],
                     .p = wrt[i],
                     .lr = lr };
        u.decay_fits = u.o->decayed == DECAY_ALL || u.param.type.shape.rank > 1;
        if (u.decay_fits)
            u.decay = u.o->weight_decay;
        if (u.param.layer >= 0)
            of_layer(&u, lx->m->layer[u.param.layer]);
        u.g = clipped(lx, g[i], factor);
        optimizer_fn[u.o->type](&u);
        layer_replace(lx, u.p, u.next);
        follow(&u);
    }
    build_region(b, "step", -1);
    layer_replace(lx, lx->step, build_op2(b, OP_add, lx->step, build_scalar(b, DT_I32, 1)));
    b->region = before;
    return b->status;
}
