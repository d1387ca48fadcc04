/* SPDX-License-Identifier: Apache-2.0 */
/* The formulas are those of the papers as torch.optim has them, one element at a time. */
#include "tests/book_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ir/autodiff.h"

typedef struct Element { /* of a parameter, in one step */
    double p, g, lr, decay;
    double a, b; /* its states, before and after */
    int64_t t;   /* steps done before this one */
} Element;
typedef void BookFn(const OptimizerConfig *o, Element *e);

/* Without decay nothing is added, not 0 times the parameter, which may be infinite. */
static double decay_of(const Element *e)
{
    return e->decay != 0 ? e->decay * e->p : 0;
}

static void book_sgd(const OptimizerConfig *o, Element *e)
{
    double d = e->g + decay_of(e);
    if (o->momentum > 0) {
        e->a = o->momentum * e->a + d;
        d = o->nesterov ? d + o->momentum * e->a : e->a;
    }
    e->p -= e->lr * d;
}

static void moments(const OptimizerConfig *o, Element *e, double g)
{
    const double t = (double)e->t + 1;
    e->a = o->beta1 * e->a + (1 - o->beta1) * g;
    e->b = o->beta2 * e->b + (1 - o->beta2) * g * g;
    const double mean = e->a / (1 - pow(o->beta1, t)), square = e->b / (1 - pow(o->beta2, t));
    e->p -= e->lr * mean / (sqrt(square) + o->eps);
}

static void book_adam(const OptimizerConfig *o, Element *e)
{
    moments(o, e, e->g + decay_of(e));
}

static void book_adamw(const OptimizerConfig *o, Element *e)
{
    e->p -= e->lr * decay_of(e);
    moments(o, e, e->g);
}

static void book_rmsprop(const OptimizerConfig *o, Element *e)
{
    const double g = e->g + decay_of(e);
    e->a = o->alpha * e->a + (1 - o->alpha) * g * g;
    double d = g / (sqrt(e->a) + o->eps);
    if (o->momentum > 0)
        d = e->b = o->momentum * e->b + d;
    e->p -= e->lr * d;
}

static void book_adagrad(const OptimizerConfig *o, Element *e)
{
    const double g = e->g + decay_of(e);
    e->a += g * g;
    e->p -= e->lr / (1 + (double)e->t * o->lr_decay) * g / (sqrt(e->a) + o->eps);
}

static void book_lion(const OptimizerConfig *o, Element *e)
{
    const double mix = o->beta1 * e->a + (1 - o->beta1) * e->g;
    e->p -= e->lr * decay_of(e);
    e->p -= e->lr * (mix > 0 ? 1 : mix < 0 ? -1 : 0);
    e->a = o->beta2 * e->a + (1 - o->beta2) * e->g;
}

static const struct Book {
    const char *type;
    BookFn *fn;
    const char *state[2];
} book[] = {
    { "sgd", book_sgd, { "momentum_buffer" } },
    { "adam", book_adam, { "exp_avg", "exp_avg_sq" } },
    { "adamw", book_adamw, { "exp_avg", "exp_avg_sq" } },
    { "rmsprop", book_rmsprop, { "square_avg", "momentum_buffer" } },
    { "adagrad", book_adagrad, { "sum" } },
    { "lion", book_lion, { "exp_avg" } },
};

typedef struct Check {
    Ctx *cx;
    const Model *m;
    const struct Book *book;
    Arena *arena;
    const Graph *g, *expanded; /* that has the gradients as outputs behind g's own */
    const Ref *param;
    uint32_t nparam;
    Tensor *before, *after, *out; /* of a step, by input and by output */
    int step;
    BookVerdict *v;
} Check;

static void fine(const Check *c, const char *what, Status status)
{
    if (status != ST_OK)
        fail_msg("book, %s: %s", what, c->cx->msg);
}

/* The last grad node is the optimizer's. */
static void expose_gradients(Check *c)
{
    Graph *more = graph_new(c->arena), *expanded = graph_new(c->arena);
    Ref grad = c->g->nnode - 1;
    while (grad && c->g->node[grad].op != OP_grad)
        grad--;
    if (!grad)
        fail_msg("book: a step without a gradient");
    fine(c, "copy", graph_copy(c->cx, c->g, more));
    c->param = c->g->node[grad].arg + 1;
    c->nparam = c->g->node[grad].nargs - 1;
    for (uint32_t k = 0; k < c->nparam; k++) {
        const Node get = { .op = OP_get, .nargs = 1, .arg = &grad, .attr.get.index = k };
        Ref r;
        fine(c, "get", graph_add(c->cx, more, &get, &r));
        fine(c, "output", graph_output(c->cx, more, r, REF_NONE, NULL));
    }
    fine(c, "autodiff", autodiff_expand(c->cx, more, expanded));
    c->expanded = expanded;
}

static uint32_t input_at(const Check *c, Ref input)
{
    uint32_t i = 0;
    while (c->g->input[i] != input)
        i++;
    return i;
}

/* The index of the input of that name; the number of inputs when there is none. */
static uint32_t find(const Check *c, const char *name)
{
    const Ref r = graph_find_input(c->g, name);
    return r == REF_NONE ? c->g->ninput : input_at(c, r);
}

static double scalar(const Check *c, const char *name)
{
    const uint32_t i = find(c, name);
    if (i == c->g->ninput)
        fail_msg("book: a step without %s", name);
    return c->before[i].at[0];
}

static void run_step(Check *c)
{
    const Graph *g = c->g;
    c->out = arena_array(c->arena, Tensor, c->expanded->nout);
    c->after = arena_copy(c->arena, c->before, g->ninput * sizeof *c->before);
    fine(c, "eval", eval_graph(c->cx, c->expanded, EVAL_F64, c->arena, c->before, c->out));
    for (uint32_t o = 0; o < g->nout; o++)
        if (g->out[o].replaces != REF_NONE)
            c->after[input_at(c, g->out[o].replaces)] = c->out[o];
}

/* As min and max in graphs: NaN if either is. */
static double least(double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : fmin(a, b);
}

/* What all gradients are multiplied by. */
static double clip_factor(const Check *c)
{
    const double most = c->m->train.clip_norm;
    double square = 0;
    for (uint32_t k = 0; k < c->nparam; k++) {
        const Tensor *g = &c->out[c->g->nout + k];
        for (int64_t i = 0; i < shape_count(&g->type.shape); i++)
            square += g->at[i] * g->at[i];
    }
    return most > 0 ? least(1, most / (sqrt(square) + 1e-6)) : 1;
}

static void compare(Check *c, const char *name, int64_t at, double want, double have)
{
    BookVerdict *v = c->v;
    v->compared++;
    const bool right = isnan(want) ? isnan(have)
                       : isinf(want)
                           ? want == have
                           : fabs(want - have) <= 1e-8 * (fabs(want) + fabs(have)) + 1e-12;
    if (right || v->wrong)
        return;
    v->wrong = true;
    snprintf(v->text, sizeof v->text, "%s, step %d, %s[%lld]: the book says %.12g, the graph %.12g",
             c->book->type, c->step, name, (long long)at, want, have);
}

static void check_parameter(Check *c, uint32_t k, double factor)
{
    const OptimizerConfig *o = c->m->optimizer;
    const char *name = c->g->node[c->param[k]].name;
    const uint32_t p = input_at(c, c->param[k]);
    const Tensor *g = &c->out[c->g->nout + k];
    const double most = c->m->train.clip_value;
    const bool decays = o->decayed == DECAY_ALL || g->type.shape.rank > 1;
    uint32_t state[2] = { c->g->ninput, c->g->ninput };
    for (int s = 0; s < 2 && c->book->state[s]; s++)
        state[s] = find(c, arena_printf(c->arena, "opt.%s.%s", name, c->book->state[s]));
    for (int64_t i = 0; i < shape_count(&g->type.shape); i++) {
        Element e = { .p = c->before[p].at[i],
                      .g = g->at[i] * factor,
                      .lr = scalar(c, "lr"),
                      .t = (int64_t)scalar(c, "step"),
                      .decay = decays ? o->weight_decay : 0 };
        if (most > 0)
            e.g = -least(-least(e.g, most), most);
        e.a = state[0] < c->g->ninput ? c->before[state[0]].at[i] : 0;
        e.b = state[1] < c->g->ninput ? c->before[state[1]].at[i] : 0;
        c->book->fn(o, &e);
        compare(c, name, i, e.p, c->after[p].at[i]);
        if (state[0] < c->g->ninput)
            compare(c, c->book->state[0], i, e.a, c->after[state[0]].at[i]);
        if (state[1] < c->g->ninput)
            compare(c, c->book->state[1], i, e.b, c->after[state[1]].at[i]);
    }
}

BookVerdict book_check(Ctx *cx, const Graph *g, const Model *m, const Tensor *in, int steps)
{
    BookVerdict v = { 0 };
    Check c = { .cx = cx, .m = m, .g = g, .arena = arena_new(), .v = &v };
    for (size_t i = 0; i < sizeof book / sizeof *book; i++)
        if (strcmp(book[i].type, m->optimizer->type_name) == 0)
            c.book = &book[i];
    if (!c.book)
        fail_msg("book: knows no optimizer %s", m->optimizer->type_name);
    expose_gradients(&c);
    c.before = arena_copy(c.arena, in, g->ninput * sizeof *in);
    for (c.step = 0; c.step < steps; c.step++) {
        run_step(&c);
        const double factor = clip_factor(&c);
        for (uint32_t k = 0; k < c.nparam; k++)
            check_parameter(&c, k, factor);
        c.before = c.after;
    }
    arena_free(c.arena);
    return v;
}
