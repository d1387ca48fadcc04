/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients along directions.  A direction is a vector for each input; differences and forward
 * mode give one number along it, reverse mode a sum over its elements. */
#include "tests/gradient_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "ir/autodiff.h"
#include "ir/base/rng.h"
#include "ir/build.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "tests/dual.h"

static const double STEP = 1e-5, DUAL = 1e-10, DIFFERENCE = 1e-5;

typedef struct Check {
    Ctx *cx;
    const GradientOptions *opt;
    Rng rng;
    Graph *g, *reverse, *forward;
    uint32_t *wrt; /* the float inputs, as indices of inputs */
    int nwrt;
    Tensor *in, *grad, *v; /* inputs; gradient and direction, by wrt */
    Tensor *all;           /* forward's inputs: in, and tangents */
    double at;
    GradientCount count;
} Check;

static void print_graph(const Graph *g)
{
    Strbuf text = { 0 };
    graph_print(g, &text);
    fputs(strbuf_str(&text), stderr);
    strbuf_free(&text);
}

static void must(const Check *c, Status st, const char *what)
{
    if (st == ST_OK)
        return;
    print_graph(c->g);
    fail_msg("%s: %s (seed %llu)", what, c->cx->msg, (unsigned long long)c->opt->seed);
}

static void fill(Check *c, Tensor *t)
{
    for (int64_t i = 0, n = shape_count(&t->type.shape); i < n; i++) {
        const bool negative = rng_below(&c->rng, 2) == 1;
        const double size = 0.2 + 0.6 * rng_unit(&c->rng);
        if (t->type.dt == DT_BOOL)
            t->at[i] = negative;
        else if (!dtype_is_float(t->type.dt))
            t->at[i] = (double)rng_below(&c->rng, 3);
        else
            t->at[i] = negative && !c->opt->positive ? -size : size;
    }
}

static void clear(Tensor *t)
{
    memset(t->at, 0, (size_t)shape_count(&t->type.shape) * sizeof *t->at);
}

/* Appends the weighted sum of the float values: the loss. */
static Ref weigh(Builder *b, const Ref *value, int n)
{
    Ref loss = build_scalar(b, DT_F64, 0);
    for (int i = 0; i < n; i++) {
        const Type t = build_type(b, value[i]);
        if (!dtype_is_float(t.dt))
            continue;
        const char *name = arena_printf(b->g->arena, "weight%d", i);
        const Ref w = build_input(b, INPUT_batch, name, DT_F64, t.shape);
        const unsigned every = (1u << t.shape.rank) - 1;
        const Ref product = build_op2(b, OP_mul, build_cast(b, value[i], DT_F64), w);
        loss =
            build_op2(b, OP_add, loss, every ? build_reduce(b, OP_sum, product, every) : product);
    }
    return loss;
}

static void differentiate(Check *c, const Ref *value, int nvalue)
{
    Arena *arena = c->g->arena;
    Builder b = build_start(c->cx, c->g);
    Ref *wrt = arena_array(arena, Ref, c->g->ninput + 1);
    c->wrt = arena_array(arena, uint32_t, c->g->ninput + 1);
    for (uint32_t i = 0; i < c->g->ninput; i++)
        if (dtype_is_float(build_type(&b, c->g->input[i]).dt)) {
            wrt[c->nwrt] = c->g->input[i];
            c->wrt[c->nwrt++] = i;
        }
    const Ref loss = weigh(&b, value, nvalue);
    c->g->nout = 0;
    build_output(&b, loss, "loss");
    c->forward = graph_new(arena);
    must(c, b.status, "loss");
    must(c, dual_expand(c->cx, c->g, c->forward), "forward mode");
    must(c, graph_verify(c->cx, c->forward), "forward mode");

    const Ref grad = build_grad(&b, loss, wrt, c->nwrt);
    for (int i = 0; i < c->nwrt; i++)
        build_output(&b, build_get(&b, grad, i), NULL);
    must(c, b.status, "grad");
    must(c, graph_verify(c->cx, c->g), "grad");
    c->reverse = graph_new(arena);
    must(c, autodiff_expand(c->cx, c->g, c->reverse), "reverse mode");
    must(c, graph_verify(c->cx, c->reverse), "reverse mode");
}

static void evaluate(Check *c)
{
    Arena *arena = c->g->arena;
    const uint32_t nin = c->g->ninput;
    c->in = arena_array(arena, Tensor, nin + 1);
    c->all = arena_array(arena, Tensor, 2 * nin + 1);
    c->v = arena_array(arena, Tensor, nin + 1);
    for (uint32_t i = 0; i < nin; i++) {
        c->in[i] = tensor_new(arena, c->g->node[c->g->input[i]].type);
        c->all[i] = c->in[i];
        fill(c, &c->in[i]);
    }
    for (uint32_t i = 0, k = 0, at = nin; i < nin; i++) {
        if (!dtype_is_float(c->in[i].type.dt))
            continue;
        c->all[at] = tensor_new(arena, c->in[i].type); /* of a weight it stays zero */
        clear(&c->all[at]);
        if ((int)k < c->nwrt && c->wrt[k] == i)
            c->v[k++] = c->all[at];
        at++;
    }
    Tensor *out = arena_array(arena, Tensor, (uint32_t)c->nwrt + 1);
    must(c, eval_graph(c->cx, c->reverse, EVAL_F64, arena, c->in, out), "reverse mode");
    c->at = out[0].at[0];
    c->grad = out + 1;
    for (int k = 0; k < c->nwrt; k++)
        assert_true(type_eq(&c->grad[k].type, &c->in[c->wrt[k]].type));
    c->g->nout = 1;
}

static double loss_at(Check *c, Arena *scratch, double step)
{
    Tensor *in = arena_array(scratch, Tensor, c->g->ninput + 1), out;
    for (uint32_t i = 0; i < c->g->ninput; i++)
        in[i] = c->in[i];
    for (int k = 0; k < c->nwrt; k++) {
        Tensor *x = &in[c->wrt[k]];
        *x = tensor_new(scratch, x->type);
        for (int64_t i = 0; i < shape_count(&x->type.shape); i++)
            x->at[i] = c->in[c->wrt[k]].at[i] + step * c->v[k].at[i];
    }
    must(c, eval_graph(c->cx, c->g, EVAL_F64, scratch, in, &out), "loss");
    return out.at[0];
}

static void complain(const Check *c, const char *what, double want, double have, const char *where)
{
    print_graph(c->g);
    print_graph(c->reverse);
    fail_msg("%s: %s %.17g, reverse mode %.17g (seed %llu)", where, what, want, have,
             (unsigned long long)c->opt->seed);
}

/* A loss that oscillates wants smaller steps, one that is large the largest. */
static void check_differences(Check *c, Arena *scratch, double have, double size, const char *where)
{
    double slope = 0;
    bool bends = true;
    for (double h = STEP; h > STEP / 200; h /= 10) {
        const double up = loss_at(c, scratch, h), down = loss_at(c, scratch, -h);
        const double right = (up - c->at) / h, left = (c->at - down) / h;
        const double noise = 1e-14 * (fabs(up) + fabs(down)) / h + 1e-9;
        slope = (up - down) / (2 * h);
        if (fabs(slope - have) <= DIFFERENCE * (size + fabs(slope)) + noise)
            return;
        bends &= fabs(right - left) > 1e-2 * (fabs(right) + fabs(left)) + 4 * noise;
    }
    if (!bends)
        complain(c, "differences say", slope, have, where);
    c->count.kinks++;
}

static void check_direction(Check *c, const char *where)
{
    Arena *scratch = arena_new();
    Tensor dual[2];
    double have = 0, size = 0;
    for (int k = 0; k < c->nwrt; k++)
        for (int64_t i = 0; i < shape_count(&c->v[k].type.shape); i++)
            if (c->v[k].at[i] !=
                0) { /* a gradient that is no number counts where it is asked for */
                have += c->grad[k].at[i] * c->v[k].at[i];
                size += fabs(c->grad[k].at[i] * c->v[k].at[i]);
            }
    must(c, eval_graph(c->cx, c->forward, EVAL_F64, scratch, c->all, dual), "forward mode");
    if (!(fabs(c->at - dual[0].at[0]) <= 1e-12 * (1 + fabs(c->at))))
        complain(c, "forward mode's loss is", dual[0].at[0], c->at, where);
    const double want = dual[1].at[0];
    if (!(fabs(want - have) <= DUAL * fmax(size, fabs(want)) + c->opt->floor * (1 + fabs(c->at))))
        complain(c, "forward mode says", want, have, where);

    check_differences(c, scratch, have, size, where);
    c->count.directions++;
    c->count.flat += size == 0;
    arena_free(scratch);
}

static void aim_random(Check *c, int k)
{
    for (int64_t i = 0; i < shape_count(&c->v[k].type.shape); i++)
        c->v[k].at[i] = 2 * rng_unit(&c->rng) - 1;
}

static void check_element(Check *c, int k, int64_t i)
{
    c->v[k].at[i] = 1;
    check_direction(c, arena_printf(c->g->arena, "d/d(input %u)[%lld]", c->wrt[k], (long long)i));
    c->v[k].at[i] = 0;
}

static void check_input(Check *c, int k)
{
    const int64_t n = shape_count(&c->v[k].type.shape);
    if (c->opt->directions == 0) {
        for (int64_t i = 0; i < n; i++)
            check_element(c, k, i);
        return;
    }
    for (int j = 0; j < c->opt->directions && n > 0; j++) {
        check_element(c, k, (int64_t)rng_below(&c->rng, (uint64_t)n));
        aim_random(c, k);
        check_direction(c, arena_printf(c->g->arena, "d/d(input %u) . v", c->wrt[k]));
        clear(&c->v[k]);
    }
}

Graph *gradient_check(Ctx *cx, Graph *g, const Ref *value, int nvalue, const GradientOptions *opt,
                      GradientCount *count)
{
    Check c = { .cx = cx, .opt = opt, .g = g };
    rng_init(&c.rng, opt->seed, 1);
    differentiate(&c, value, nvalue);
    evaluate(&c);
    const bool finite = isfinite(c.at);
    for (int k = 0; k < c.nwrt && finite; k++)
        check_input(&c, k);
    for (int j = 0; j < opt->directions && finite; j++) {
        for (int k = 0; k < c.nwrt; k++)
            aim_random(&c, k);
        check_direction(&c, "grad . v");
        for (int k = 0; k < c.nwrt; k++)
            clear(&c.v[k]);
    }
    if (count) {
        count->directions += c.count.directions;
        count->flat += c.count.flat;
        count->kinks += c.count.kinks;
        count->infinite += !finite;
    }
    return c.reverse;
}

Graph *gradient_check_all(Ctx *cx, Graph *g, const Ref *value, int nvalue, bool positive,
                          uint64_t seed)
{
    GradientCount count = { 0 };
    const GradientOptions opt = { .seed = seed, .positive = positive };
    Graph *expanded = gradient_check(cx, g, value, nvalue, &opt, &count);
    assert_int_equal(count.kinks + count.infinite, 0);
    return expanded;
}
