/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/slope_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ir/autodiff.h"
#include "ir/base/rng.h"
#include "ir/build.h"

enum {
    SINGLES = 4,
    SUSPECTS = 200
}; /* elements tried where a direction as a whole says nothing,
      or does not agree */
static const double WIDTH = 1e-4;

typedef struct Slopes {
    Ctx *cx;
    const Graph *g;
    const Tensor *in;
    Rng rng;
    SlopeVerdict *v;

    Ref grad; /* the node looked at, and what is made for it */
    const Ref *wrt;
    uint32_t nwrt, nstill;
    Arena *arena;
    Graph *loss;      /* g's inputs, one for each wrt, which is added to it, one for each
                         stop_gradient, whose value does not move; the loss */
    Tensor *at;       /* their values: g's, zeros, and what they are */
    Tensor *gradient; /* by wrt; then the values of stop_gradients */
    char said[400];   /* of the last direction that differs */
} Slopes;

static void fine(const Slopes *s, const char *what, Status status)
{
    if (status != ST_OK)
        fail_msg("slope, %s: %s", what, s->cx->msg);
}

static Tensor *evaluate(const Slopes *s, const Builder *b, Arena *arena, const Tensor *in)
{
    Tensor *out = arena_array(arena, Tensor, b->g->nout);
    fine(s, "eval", eval_graph(s->cx, b->g, EVAL_F64, arena, in, out));
    return out;
}

/* All inputs of g, in their order, then the nodes before the grad node; by: what is added to the
 * values differentiated by, then what stands for each stop_gradient; or NULL. */
static Ref *copy_before(const Slopes *s, Builder *b, const Ref *by)
{
    const Graph *g = s->g;
    Ref *map = arena_array(s->arena, Ref, g->nnode);
    for (uint32_t i = 0; i < g->ninput; i++)
        map[g->input[i]] = i + 1;
    const Ref *still = by ? by + s->nwrt : NULL;
    for (Ref r = 1; r < s->grad && b->status == ST_OK; r++) {
        Node n = g->node[r];
        Ref *arg = arena_array(s->arena, Ref, n.nargs);
        for (uint32_t k = 0; k < n.nargs; k++)
            arg[k] = map[n.arg[k]];
        n.arg = arg;
        n.region = 0;
        if (by && n.op == OP_stop_gradient)
            map[r] = *still++;
        else if (n.op != OP_input)
            b->status = graph_add(s->cx, b->g, &n, &map[r]);
        for (uint32_t k = 0; by && k < s->nwrt; k++)
            if (s->wrt[k] == r)
                map[r] = build_op2(b, OP_add, map[r], by[k]);
    }
    return map;
}

static Builder start(const Slopes *s)
{
    Builder b = build_start(s->cx, graph_new(s->arena));
    for (uint32_t i = 0; i < s->g->ninput; i++) {
        const Node *n = &s->g->node[s->g->input[i]];
        build_input(&b, n->attr.input.kind, n->name, n->type.dt, n->type.shape);
    }
    return b;
}

static void finish(const Slopes *s, Builder *b)
{
    Graph *expanded = graph_new(s->arena);
    fine(s, "build", b->status);
    fine(s, "autodiff", autodiff_expand(s->cx, b->g, expanded));
    b->g = expanded;
}

static void make_loss(Slopes *s)
{
    Builder b = start(s);
    Ref *by = arena_array(s->arena, Ref, s->nwrt + s->nstill);
    s->at = arena_array(s->arena, Tensor, s->g->ninput + s->nwrt + s->nstill);
    memcpy(s->at, s->in, s->g->ninput * sizeof *s->in);
    for (uint32_t k = 0; k < s->nwrt + s->nstill; k++) {
        const Type t = s->gradient[k].type;
        by[k] = build_input(&b, INPUT_batch, arena_printf(s->arena, "by.%u", k), t.dt, t.shape);
        s->at[s->g->ninput + k] = k < s->nwrt ? tensor_new(s->arena, t) : s->gradient[k];
    }
    const Ref *map = copy_before(s, &b, by);
    build_output(&b, map[s->g->node[s->grad].arg[0]], NULL);
    finish(s, &b);
    s->loss = b.g;
}

static void find_gradient(Slopes *s)
{
    Builder b = start(s);
    const Ref *map = copy_before(s, &b, NULL);
    Ref *wrt = arena_array(s->arena, Ref, s->nwrt);
    for (uint32_t k = 0; k < s->nwrt; k++)
        wrt[k] = map[s->wrt[k]];
    const Ref grad = build_grad(&b, map[s->g->node[s->grad].arg[0]], wrt, (int)s->nwrt);
    for (uint32_t k = 0; k < s->nwrt; k++)
        build_output(&b, build_get(&b, grad, (int)k), NULL);
    s->nstill = 0;
    for (Ref r = 1; r < s->grad; r++)
        if (s->g->node[r].op == OP_stop_gradient) {
            build_output(&b, map[r], NULL);
            s->nstill++;
        }
    finish(s, &b);
    s->gradient = evaluate(s, &b, s->arena, s->in);
}

static double loss_at(Slopes *s, uint32_t k, const double *u, double width)
{
    Tensor *by = &s->at[s->g->ninput + k];
    const int64_t n = shape_count(&by->type.shape);
    const Builder b = { .g = s->loss };
    Arena *arena = arena_new();
    for (int64_t i = 0; i < n; i++)
        by->at[i] = width * u[i];
    const double loss = evaluate(s, &b, arena, s->at)[0].at[0];
    for (int64_t i = 0; i < n; i++)
        by->at[i] = 0;
    arena_free(arena);
    return loss;
}

typedef enum Said { NOTHING, AGREES, DIFFERS } Said;

static Said compare_by(Slopes *s, uint32_t k, const double *u, double width)
{
    const Tensor *g = &s->gradient[k];
    double slope[2], bend[2], have = 0, size = 0, largest = 0;
    const double here = loss_at(s, k, u, 0);
    for (int w = 0; w < 2; w++) {
        const double h = w ? width / 2 : width;
        const double up = loss_at(s, k, u, h), down = loss_at(s, k, u, -h);
        slope[w] = (up - down) / (2 * h);
        bend[w] = fabs(up - 2 * here + down) / h; /* halves with h, but at a kink */
        largest = fmax(largest, fmax(fabs(up), fabs(down)));
    }
    for (int64_t i = 0; i < shape_count(&g->type.shape); i++) {
        if (u[i] == 0)
            continue;
        have += g->at[i] * u[i];
        size += fabs(g->at[i] * u[i]);
    }
    const double want = (4 * slope[1] - slope[0]) / 3, noise = 1e-9 * (1 + largest);
    const double scale = fmax(fabs(want), fabs(slope[1])) + noise;
    if (!isfinite(want) || fabs(slope[0] - slope[1]) > 1e-4 * scale + noise ||
        (bend[1] > 0.8 * bend[0] && bend[1] > 1e-4 * scale + noise))
        return NOTHING;
    if (fabs(want - have) <= 1e-4 * scale + 1e-9 * size + 10 * noise)
        return AGREES;
    snprintf(s->said, sizeof s->said,
             "grad %%%u by %%%u %s: differences say %.10g, the gradient %.10g", s->grad, s->wrt[k],
             type_str(&g->type), want, have);
    return DIFFERS;
}

/* Kinks on both sides of a place, some nearer than others, bend nothing and yet move the slope:
 * what a wide difference denies and a narrow one finds is there. */
static Said compare(Slopes *s, uint32_t k, const double *u)
{
    const Said said = compare_by(s, k, u, WIDTH);
    for (double by = 16; said == DIFFERS && by <= 256; by *= 16)
        if (compare_by(s, k, u, WIDTH / by) == AGREES)
            return AGREES;
    return said;
}

/* One element alone; all others stay. */
static Said compare_one(Slopes *s, uint32_t k, double *u, int64_t at)
{
    memset(u, 0, (size_t)shape_count(&s->gradient[k].type.shape) * sizeof *u);
    u[at] = 1;
    return isfinite(s->gradient[k].at[at]) ? compare(s, k, u) : NOTHING;
}

/* Kinks of many elements may cancel out in the sum, so that a direction which differs is held
 * against its elements. */
static Said compare_suspects(Slopes *s, uint32_t k, double *u, int64_t n)
{
    for (int64_t i = 0; i < n && i < SUSPECTS; i++) {
        const int64_t at = n <= SUSPECTS ? i : (int64_t)rng_below(&s->rng, (uint64_t)n);
        if (compare_one(s, k, u, at) == DIFFERS)
            return DIFFERS;
    }
    return NOTHING;
}

static void compare_wrt(Slopes *s, uint32_t k)
{
    const int64_t n = shape_count(&s->gradient[k].type.shape);
    double *u = arena_array(s->arena, double, n + 1);
    for (int64_t i = 0; i < n; i++) { /* NaN is 0 times infinity: an edge, as a kink is one */
        const double to = (rng_below(&s->rng, 2) ? 1 : -1) * (0.5 + rng_unit(&s->rng));
        u[i] = isfinite(s->gradient[k].at[i]) ? to : 0;
    }
    Said said = n ? compare(s, k, u) : AGREES;
    if (said == DIFFERS)
        said = compare_suspects(s, k, u, n);
    else
        for (int i = 0; i < SINGLES && said == NOTHING; i++)
            said = compare_one(s, k, u, (int64_t)rng_below(&s->rng, (uint64_t)n));
    s->v->compared += said != NOTHING;
    s->v->undecided += said == NOTHING;
    if (said == DIFFERS && !s->v->wrong) {
        s->v->wrong = true;
        memcpy(s->v->text, s->said, sizeof s->said);
    }
}

static void check_grad(Slopes *s, Ref grad)
{
    s->arena = arena_new();
    s->grad = grad;
    s->wrt = s->g->node[grad].arg + 1;
    s->nwrt = s->g->node[grad].nargs - 1;
    find_gradient(s);
    make_loss(s);
    for (uint32_t k = 0; k < s->nwrt; k++)
        compare_wrt(s, k);
    arena_free(s->arena);
}

/* g and one grad node more, of a sum of all its float outputs with random weights, by some of its float
 * inputs; NULL when something on the way has no gradient, or needs one that cannot be built. */
static Graph *with_grad_of_outputs(Slopes *s, Arena *arena)
{
    const Graph *g = s->g;
    Graph *more = graph_new(arena), *expanded = graph_new(arena);
    fine(s, "copy", graph_copy(s->cx, g, more));
    Builder b = build_start(s->cx, more);
    Ref loss = build_scalar(&b, DT_F32, 0), *wrt = arena_array(arena, Ref, g->ninput + 1);
    int nwrt = 0;
    bool *second = arena_array(arena, bool, g->nnode); /* order: jumps where the first has a kink */
    for (Ref r = 1; r < g->nnode; r++) {
        second[r] = g->node[r].op == OP_grad;
        for (uint32_t i = 0; i < g->node[r].nargs; i++)
            second[r] |= second[g->node[r].arg[i]];
    }
    for (uint32_t o = 0; o < g->nout; o++) {
        const Type t = build_type(&b, g->out[o].value);
        if (!dtype_is_float(t.dt) || second[g->out[o].value])
            continue;
        const Ref x = build_cast(&b, g->out[o].value, DT_F32);
        const Ref sum = build_reduce(&b, OP_sum, x, (1u << t.shape.rank) - 1);
        loss = build_op2(&b, OP_add, loss, build_scale(&b, sum, 0.5 + rng_unit(&s->rng)));
    }
    for (uint32_t i = 0; i < g->ninput; i++)
        if (dtype_is_float(g->node[g->input[i]].type.dt) && (nwrt == 0 || rng_below(&s->rng, 2)))
            wrt[nwrt++] = g->input[i];
    if (nwrt == 0)
        return NULL;
    const Ref grad = build_grad(&b, loss, wrt, nwrt);
    build_output(&b, build_get(&b, grad, 0), NULL);
    fine(s, "build", b.status);
    const Status status = autodiff_expand(s->cx, b.g, expanded);
    if (status != ST_OK && !strstr(s->cx->msg, "no gradient") &&
        !strstr(s->cx->msg, "its gradient"))
        fine(s, "autodiff", status);
    return status == ST_OK ? b.g : NULL;
}

SlopeVerdict slope_check(Ctx *cx, const Graph *g, const Tensor *in, uint64_t seed)
{
    SlopeVerdict v = { 0 };
    Slopes s = { .cx = cx, .g = g, .in = in, .v = &v };
    Arena *arena = arena_new();
    rng_init(&s.rng, seed, 7);
    if (autodiff_expand(cx, g, graph_new(arena)) != ST_OK) {
        v.refused = true;
        snprintf(v.text, sizeof v.text, "%.300s", cx->msg);
        arena_free(arena);
        return v;
    }
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == OP_grad)
            check_grad(&s, r);
    s.g = with_grad_of_outputs(&s, arena);
    if (s.g)
        for (Ref r = g->nnode; r < s.g->nnode; r++)
            if (s.g->node[r].op == OP_grad)
                check_grad(&s, r);
    arena_free(arena);
    return v;
}
