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

enum { SINGLES = 4 }; /* elements tried where a direction as a whole says nothing */
static const double WIDTH = 1e-4;

typedef struct Slopes {
    Ctx *cx;
    const Graph *g;
    const Tensor *in;
    Rng rng;
    SlopeVerdict *v;

    Ref grad; /* the node looked at, and what is made for it */
    const Ref *wrt;
    uint32_t nwrt;
    Arena *arena;
    Graph *loss;      /* g's inputs and one for each wrt, which is added to it; the loss */
    Tensor *at;       /* their values: g's, and zeros */
    Tensor *gradient; /* by wrt */
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
 * values differentiated by, or NULL. */
static Ref *copy_before(const Slopes *s, Builder *b, const Ref *by)
{
    const Graph *g = s->g;
    Ref *map = arena_array(s->arena, Ref, g->nnode);
    for (uint32_t i = 0; i < g->ninput; i++)
        map[g->input[i]] = i + 1;
    for (Ref r = 1; r < s->grad && b->status == ST_OK; r++) {
        Node n = g->node[r];
        Ref *arg = arena_array(s->arena, Ref, n.nargs);
        for (uint32_t k = 0; k < n.nargs; k++)
            arg[k] = map[n.arg[k]];
        n.arg = arg;
        n.region = 0;
        if (n.op != OP_input)
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
    Ref *by = arena_array(s->arena, Ref, s->nwrt);
    s->at = arena_array(s->arena, Tensor, s->g->ninput + s->nwrt);
    memcpy(s->at, s->in, s->g->ninput * sizeof *s->in);
    for (uint32_t k = 0; k < s->nwrt; k++) {
        const Type t = s->g->node[s->wrt[k]].type;
        by[k] = build_input(&b, INPUT_batch, arena_printf(s->arena, "by.%u", k), t.dt, t.shape);
        s->at[s->g->ninput + k] = tensor_new(s->arena, t);
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

/* False when the differences do not agree on a slope. */
static bool compare(Slopes *s, uint32_t k, const double *u)
{
    const Tensor *g = &s->gradient[k];
    double slope[2], bend[2], have = 0, size = 0, largest = 0;
    const double here = loss_at(s, k, u, 0);
    for (int w = 0; w < 2; w++) {
        const double h = w ? WIDTH / 2 : WIDTH;
        const double up = loss_at(s, k, u, h), down = loss_at(s, k, u, -h);
        slope[w] = (up - down) / (2 * h);
        bend[w] = fabs(up - 2 * here + down) / h; /* halves with h, but at a kink */
        largest = fmax(largest, fmax(fabs(up), fabs(down)));
    }
    for (int64_t i = 0; i < shape_count(&g->type.shape); i++) {
        have += g->at[i] * u[i];
        size += fabs(g->at[i] * u[i]);
    }
    const double want = (4 * slope[1] - slope[0]) / 3, noise = 1e-9 * (1 + largest);
    const double scale = fmax(fabs(want), fabs(slope[1])) + noise;
    if (!isfinite(want) || fabs(slope[0] - slope[1]) > 1e-4 * scale + noise ||
        (bend[1] > 0.8 * bend[0] && bend[1] > 1e-4 * scale + noise))
        return false;
    s->v->compared++;
    if (fabs(want - have) <= 1e-4 * scale + 1e-9 * size + 10 * noise)
        return true;
    if (!s->v->wrong)
        snprintf(s->v->text, sizeof s->v->text,
                 "grad %%%u by %%%u %s: differences say %.10g, the gradient %.10g", s->grad,
                 s->wrt[k], type_str(&g->type), want, have);
    s->v->wrong = true;
    return true;
}

static void compare_wrt(Slopes *s, uint32_t k)
{
    const int64_t n = shape_count(&s->gradient[k].type.shape);
    double *u = arena_array(s->arena, double, n + 1);
    bool said = n == 0;
    for (int64_t i = 0; i < n; i++)
        u[i] = (rng_below(&s->rng, 2) ? 1 : -1) * (0.5 + rng_unit(&s->rng));
    said = said || compare(s, k, u);
    for (int i = 0; i < SINGLES && n > 0 && !said; i++) {
        memset(u, 0, (size_t)n * sizeof *u);
        u[rng_below(&s->rng, (uint64_t)n)] = 1;
        said = compare(s, k, u);
    }
    s->v->undecided += !said;
}

SlopeVerdict slope_check(Ctx *cx, const Graph *g, const Tensor *in, uint64_t seed)
{
    SlopeVerdict v = { 0 };
    Slopes s = { .cx = cx, .g = g, .in = in, .v = &v };
    rng_init(&s.rng, seed, 7);
    for (Ref r = 1; r < g->nnode; r++) {
        if (g->node[r].op != OP_grad)
            continue;
        s.arena = arena_new();
        s.grad = r;
        s.wrt = g->node[r].arg + 1;
        s.nwrt = g->node[r].nargs - 1;
        find_gradient(&s);
        make_loss(&s);
        for (uint32_t k = 0; k < s.nwrt; k++)
            compare_wrt(&s, k);
        arena_free(s.arena);
    }
    return v;
}
