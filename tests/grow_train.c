/* SPDX-License-Identifier: Apache-2.0 */
/* grow_train: a training step over what grows: a loss, gradients by all parameters, and one of the
 * optimizers of models/, whose own code builds it. */
#include <stdio.h>

#include "ir/build_nn.h"
#include "models/layer.h"
#include "tests/grow.h"

/* Some term for every row or element, from a prediction and a target. */
static Ref grow_terms(Grow *w, int n)
{
    Builder *b = &w->b;
    const int how = grow_below(w, 10);
    if (how < 2) { /* of classes, or whatever else has a number a row */
        const Type t = { DT_F32, grow_shape(w, 1, 1) };
        return grow_composite(w, t, n);
    }
    const Type t = { DT_F32, grow_shape(w, how < 4 ? 0 : 1, 4) };
    const Ref p = grow_value(w, t, n), y = grow_input(w, INPUT_batch, t);
    if (how < 7) {
        const Ref e = build_op2(b, OP_sub, p, y);
        return build_op2(b, OP_mul, e, e);
    }
    return how == 7   ? build_huber(b, p, y, 0.5)
           : how == 8 ? build_bce(b, p, build_op1(b, OP_sigmoid, y))
                      : build_quantile(b, p, y, 0.7);
}

/* Their mean, or that of the valid rows. */
static Ref mean_of(Grow *w, Ref terms)
{
    Builder *b = &w->b;
    const Shape s = build_type(b, terms).shape;
    const int64_t count = shape_count(&s);
    Ref rows = graph_find_input(b->g, "rows");
    if (rows != REF_NONE && s.rank) {
        const Ref row = build_iota(b, (Type){ DT_I32, shape_of(1, s.dim[0]) }, 0);
        terms = build_mask_rows(b, terms, build_op2(b, OP_lt, row, rows));
    }
    const Ref sum = build_reduce(b, OP_sum, terms, (1u << s.rank) - 1);
    return build_scale(b, sum, 1 / (double)(count ? count : 1));
}

static int find_params(const Graph *g, Ref *out, int most)
{
    int n = 0;
    for (uint32_t i = 0; i < g->ninput && n < most; i++) {
        const Node *in = &g->node[g->input[i]];
        if (in->attr.input.kind == INPUT_param && in->type.dt == DT_F32)
            out[n++] = g->input[i];
    }
    return n;
}

static void random_optimizer(Grow *w, Model *m, OptimizerConfig *o)
{
    const int type = grow_below(w, optimizer_ntypes);
    *o = (OptimizerConfig){ .type = type,
                            .type_name = optimizer_types[type].name,
                            .learning_rate = 0.05,
                            .weight_decay = grow_chance(w, 50) ? 0.01 : 0,
                            .momentum = grow_chance(w, 50) ? 0.9 : 0,
                            .beta1 = grow_chance(w, 80) ? 0.9 : 0,
                            .beta2 = 0.99,
                            .eps = 1e-3,
                            .alpha = 0.9,
                            .lr_decay = grow_chance(w, 50) ? 0.1 : 0,
                            .start = 0,
                            .nesterov = grow_chance(w, 30),
                            .decayed = grow_chance(w, 50) ? DECAY_ALL : DECAY_WEIGHTS };
    m->name = "grown";
    m->optimizer = o;
    m->train.clip_norm = grow_chance(w, 40) ? 0.5 : 0;
    m->train.clip_value = grow_chance(w, 20) ? 0.25 : 0;
}

static void grow_optimizer(Grow *w, Ref loss, const Ref *param, int n)
{
    Builder *b = &w->b;
    Arena *arena = b->g->arena;
    Model *m = arena_array(arena, Model, 1);
    LayerCx lx = { .cx = b->cx, .arena = arena, .b = b, .m = m, .kind = BUILD_TRAIN, .layer = -1 };
    random_optimizer(w, m, arena_array(arena, OptimizerConfig, 1));
    w->model = m;
    for (int i = 0; i < n; i++) {
        const Node *in = &b->g->node[param[i]];
        arena_grow(arena, lx.input, lx.ninput, lx.input_cap);
        lx.input[lx.ninput++] = (ModelInput){
            .name = in->name, .kind = INPUT_param, .type = in->type, .ref = param[i], .layer = -1
        };
    }
    lx.step = build_input(b, INPUT_state, "step", DT_I32, shape_of(0));
    if (b->status == ST_OK)
        b->status = optimizer_build(&lx, loss);
    for (unsigned i = 0; i < lx.nreplace; i++)
        build_replace(b, lx.replace[i].input, lx.replace[i].value);
}

/* Gradients themselves as outputs, here and there of a value that is no input. */
static void grow_gradients(Grow *w, Ref loss, const Ref *param, int n)
{
    Ref wrt[16];
    for (int i = 0; i < n; i++)
        wrt[i] = param[i];
    if (grow_chance(w, 10)) {
        const Ref r = 1 + (Ref)grow_below(w, (int)loss);
        if (dtype_is_float(build_type(&w->b, r).dt))
            wrt[grow_below(w, n)] = r;
    }
    const Ref g = build_grad(&w->b, loss, wrt, n);
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "grad.%d", i);
        build_output(&w->b, build_get(&w->b, g, i), name);
    }
}

void grow_training(Grow *w, int n)
{
    Builder *b = &w->b;
    Ref param[16];
    Ref terms = grow_terms(w, n);
    if (terms == REF_NONE)
        terms = grow_value(w, (Type){ DT_F32, grow_shape(w, 1, 3) }, n);
    const Type t = build_type(b, terms);
    int nparam = find_params(b->g, param, 16);
    if (nparam == 0) {
        terms = build_op2(b, OP_mul, terms, grow_input(w, INPUT_param, t));
        nparam = find_params(b->g, param, 16);
    }
    const Ref loss = mean_of(w, terms);
    build_output(b, loss, "loss");
    if (grow_chance(w, 60))
        grow_optimizer(w, loss, param, nparam);
    else
        grow_gradients(w, loss, param, nparam);
}
