/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/pass_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ir/base/rng.h"
#include "ir/text.h"

static void show(const char *title, const Graph *g)
{
    Strbuf text = { 0 };
    graph_print(g, &text);
    print_error("%s:\n%s", title, strbuf_str(&text));
    strbuf_free(&text);
}

void check_round_trip(Ctx *cx, const Graph *g)
{
    Strbuf text = { 0 };
    graph_print(g, &text);
    Arena *arena = arena_new();
    Graph *again;
    if (graph_parse(cx, arena, "round trip", strbuf_str(&text), &again) != ST_OK) {
        show("graph", g);
        fail_msg("what was printed does not parse: %d:%d: %s", cx->line, cx->col, cx->msg);
    }
    if (!graph_eq(g, again)) {
        show("graph", g);
        show("parsed", again);
        fail_msg("parse(print(g)) is not g");
    }
    arena_free(arena);
    strbuf_free(&text);
}

bool check_can_eval(const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == OP_grad)
            return false;
    return true;
}

Tensor *check_inputs(Arena *arena, const Graph *g, uint64_t seed)
{
    Rng rng;
    rng_init(&rng, seed, 17);
    Tensor *in = arena_array(arena, Tensor, g->ninput + 1);
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Type type = g->node[g->input[i]].type;
        in[i] = tensor_new(arena, type);
        for (int64_t k = 0; k < shape_count(&type.shape); k++)
            in[i].at[k] = dtype_is_float(type.dt)
                              ? rng_normal(&rng)
                              : (double)rng_below(&rng, type.dt == DT_BOOL ? 2 : 4);
    }
    return in;
}

static bool same_value(double x, double y, double bound)
{
    if (isnan(x) || isnan(y))
        return isnan(x) && isnan(y);
    return x == y || fabs(x - y) <= bound;
}

static void compare(const Tensor *x, const Tensor *y, double rel, uint32_t output, const Graph *a,
                    const Graph *b, const char *what)
{
    const int64_t n = shape_count(&x->type.shape);
    double largest = 0;
    assert_true(type_eq(&x->type, &y->type));
    for (int64_t i = 0; i < n; i++)
        if (isfinite(x->at[i]) && fabs(x->at[i]) > largest)
            largest = fabs(x->at[i]);
    for (int64_t i = 0; i < n; i++)
        if (!same_value(x->at[i], y->at[i], rel * (fabs(x->at[i]) + largest))) {
            show("before", a);
            show("after", b);
            fail_msg("%s: output %u, element %lld: %.17g became %.17g", what, output, (long long)i,
                     x->at[i], y->at[i]);
        }
}

void check_same_values(Ctx *cx, const Graph *a, const Graph *b, double rel, const char *what)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        Arena *arena = arena_new();
        Tensor *in = check_inputs(arena, a, seed);
        Tensor *x = arena_array(arena, Tensor, a->nout + 1);
        Tensor *y = arena_array(arena, Tensor, b->nout + 1);
        if (eval_graph(cx, a, EVAL_F64, arena, in, x) != ST_OK)
            fail_msg("%s: eval before: %s", what, cx->msg);
        if (eval_graph(cx, b, EVAL_F64, arena, in, y) != ST_OK)
            fail_msg("%s: eval after: %s", what, cx->msg);
        assert_int_equal(a->nout, b->nout);
        for (uint32_t i = 0; i < a->nout; i++)
            compare(&x[i], &y[i], rel, i, a, b, what);
        arena_free(arena);
    }
}

typedef struct Watch {
    Ctx *cx;
    const Graph *before;
} Watch;

static void watch_pass(void *arg, const PassReport *r)
{
    Watch *w = arg;
    check_round_trip(w->cx, r->after);
    if (check_can_eval(w->before))
        check_same_values(w->cx, w->before, r->after, 1e-12, r->name);
    w->before = r->after;
}

Status check_passes(Ctx *cx, Arena *arena, const PassOptions *opt, const Graph *in,
                    const Graph **out)
{
    static const Target target = {
        .lanes = 8, .vector_regs = 16, .threads = 2, .l1_bytes = 32 << 10, .l2_bytes = 1 << 20
    };
    Watch watch = { cx, in };
    PassOptions watched = *opt;
    watched.verify = true;
    watched.report = watch_pass;
    watched.report_arg = &watch;
    check_round_trip(cx, in);
    return pass_run(cx, arena, &target, &watched, in, out);
}
