/* SPDX-License-Identifier: Apache-2.0 */
/* Properties of the passes over random graphs: each pass, alone and in the pipelines, gives a graph
 * that verifies, survives its text and computes the same values (tests/pass_check.c); after a
 * pipeline only inputs, fusions and gets are left.  And the manager: names, contracts, skips. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/base/rng.h"
#include "ir/build.h"
#include "ir/text.h"
#include "tests/pass_check.h"
#include "tests/random_graph.h"

static uint64_t first_seed(void)
{
    const char *s = getenv("GTC_SEED");
    return s ? strtoull(s, NULL, 0) : 1;
}

/* Every node that computes stands in a fusion's body. */
static void check_closed(const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++) {
        const Op op = g->node[r].op;
        if (op != OP_input && op != OP_fusion && op != OP_get)
            fail_msg("%s is left on top level after the pipeline", op_info[op].name);
    }
    for (uint32_t i = 0; i < g->nout; i++)
        assert_true(g->node[g->out[i].value].op != OP_fusion);
}

/* Every value that nobody uses becomes an output, so that nothing of the graph is dead. */
static void use_all(Ctx *cx, Arena *arena, Graph *g)
{
    bool *used = arena_array(arena, bool, g->nnode);
    for (Ref r = 1; r < g->nnode; r++)
        for (uint32_t i = 0; i < g->node[r].nargs; i++)
            used[g->node[r].arg[i]] = true;
    for (uint32_t i = 0; i < g->nout; i++)
        used[g->out[i].value] = true;
    for (Ref r = 1; r < g->nnode; r++)
        if (!used[r] && g->node[r].op != OP_input && g->node[r].type.dt != DT_NONE)
            assert_int_equal(graph_output(cx, g, r, REF_NONE, NULL), ST_OK);
}

/* A fusion inside a scan, which random graphs have and gtc never makes: isolate refuses it. */
static bool holds_fusion(const Graph *g, bool inside)
{
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if ((n->op == OP_fusion && inside) ||
            (n->op == OP_scan && holds_fusion(n->attr.scan.body, true)))
            return true;
    }
    return false;
}

static void run_random(const PassOptions *opt, const RandomOptions *how, int graphs, bool closed)
{
    const uint64_t seed = first_seed();
    for (int i = 0; i < graphs; i++) {
        Ctx cx;
        ctx_init(&cx);
        Arena *arena = arena_new();
        Graph *in = random_graph(&cx, arena, seed + (uint64_t)i, how);
        if (i % 4)
            use_all(&cx, arena, in);
        const Graph *out;
        const bool refused = holds_fusion(in, false);
        const Status status = check_passes(&cx, arena, opt, in, &out);
        if (status != ST_OK && !(refused && strstr(cx.msg, "isolate: scan: its body holds")))
            fail_msg("seed %llu: %s", (unsigned long long)(seed + (uint64_t)i), cx.msg);
        if (status == ST_OK && closed)
            check_closed(out);
        arena_free(arena);
    }
}

static const RandomOptions plain = {
    .nodes = 40, .max_count = 600, .zeros = true, .bodies = false, .random = true, .tame = true
};
static const RandomOptions scans = {
    .nodes = 30, .max_count = 300, .zeros = true, .bodies = true, .random = true, .tame = true
};

static void test_each_pass(void **state)
{
    (void)state;
    for (int i = 0; i < pass_count; i++) {
        const PassOptions opt = { .passes = pass_info[i].name };
        run_random(&opt, &plain, 25, false);
    }
}

static void test_each_pass_with_bodies(void **state)
{
    (void)state;
    for (int i = 0; i < pass_count; i++) {
        const PassOptions opt = { .passes = pass_info[i].name };
        run_random(&opt, &scans, 15, false);
    }
}

static void test_pipelines(void **state)
{
    (void)state;
    run_random(&(PassOptions){ .level = LEVEL_eager }, &plain, 25, true);
    run_random(&(PassOptions){ .level = LEVEL_default }, &plain, 60, true);
    run_random(&(PassOptions){ .level = LEVEL_eager }, &scans, 15, true);
    run_random(&(PassOptions){ .level = LEVEL_default }, &scans, 30, true);
}

static void test_pipelines_with_gradients(void **state)
{
    (void)state;
    const RandomOptions grads = {
        .nodes = 25, .max_count = 300, .grads = true, .bodies = false, .tame = true
    };
    run_random(&(PassOptions){ .level = LEVEL_eager }, &grads, 20, true);
    run_random(&(PassOptions){ .level = LEVEL_default }, &grads, 40, true);
}

/* y = window(x) . w over two axes, w's axes in any order, and the gradients of sum(y * y * c). */
static Graph *random_convolution(Ctx *cx, Arena *arena, Rng *rng)
{
    static const int order[4][4] = {
        { 0, 1, 2, 3 }, { 3, 2, 0, 1 }, { 2, 0, 1, 3 }, { 3, 0, 1, 2 }
    };
    const int *at = order[rng_below(rng, 4)]; /* where w holds k0, k1, channels in, channels out */
    int64_t kernel[2], stride[2], dilation[2], extent[2], wdim[4];
    for (int i = 0; i < 2; i++) {
        kernel[i] = 1 + (int64_t)rng_below(rng, 3);
        stride[i] = 1 + (int64_t)rng_below(rng, 3);
        dilation[i] = 1 + (int64_t)rng_below(rng, 2);
        extent[i] = (kernel[i] - 1) * dilation[i] + 1 + (int64_t)rng_below(rng, 5);
        wdim[at[i]] = kernel[i];
    }
    wdim[at[2]] = 2;
    wdim[at[3]] = 3;
    const int64_t margin = (int64_t)rng_below(rng, 2);

    Graph *g = graph_new(arena);
    Builder b = build_start(cx, g);
    build_region(&b, "conv2d", 0);
    const Ref x = build_input(&b, INPUT_batch, "x", DT_F32,
                              shape_of(4, INT64_C(2), extent[0], extent[1], INT64_C(2)));
    const Ref w =
        build_input(&b, INPUT_param, "w", DT_F32, shape_of(4, wdim[0], wdim[1], wdim[2], wdim[3]));
    const Ref padded = build_pad(&b, x, 1, margin, margin, 0);
    const Ref v = build_window(&b, padded, 2, (int[]){ 1, 2 }, kernel, stride, dilation);
    const Ref y = build_contract(&b, v, w, 3, (int[]){ 3, 4, 5 }, (int[]){ at[0], at[1], at[2] });
    const Ref loss = build_reduce(&b, OP_sum, build_op1(&b, OP_tanh, y), 0xf);
    const Ref grad = build_grad(&b, loss, (Ref[]){ x, w }, 2);
    build_output(&b, build_get(&b, grad, 0), "dx");
    build_output(&b, build_get(&b, grad, 1), "dw");
    assert_int_equal(b.status, ST_OK);
    return g;
}

/* The data gradient of every convolution becomes a contraction, with the values of the fold. */
static void test_convolution_gradients(void **state)
{
    (void)state;
    Rng rng;
    rng_init(&rng, first_seed(), 3);
    for (int i = 0; i < 60; i++) {
        Ctx cx;
        ctx_init(&cx);
        Arena *arena = arena_new();
        const Graph *in = random_convolution(&cx, arena, &rng), *out;
        const PassOptions opt = { .passes = "differentiate,canonicalise,dce" };
        if (check_passes(&cx, arena, &opt, in, &out) != ST_OK)
            fail_msg("%s", cx.msg);
        for (Ref r = 1; r < out->nnode; r++)
            assert_true(out->node[r].op != OP_fold);
        if (check_passes(&cx, arena, &(PassOptions){ .level = LEVEL_default }, in, &out) != ST_OK)
            fail_msg("%s", cx.msg);
        check_closed(out);
        arena_free(arena);
    }
}

static const char *refuse_all(const Target *t, const Graph *body)
{
    (void)t, (void)body;
    return "a test";
}

static Graph *parse(Ctx *cx, Arena *arena, const char *text)
{
    Graph *g;
    if (graph_parse(cx, arena, "test", text, &g) != ST_OK)
        fail_msg("%s", cx->msg);
    return g;
}

/* A target that takes no group gets single ops. */
static void test_refused_groups_fall_apart(void **state)
{
    (void)state;
    Ctx cx;
    ctx_init(&cx);
    Arena *arena = arena_new();
    const Graph *in = parse(&cx, arena,
                            "graph (%x: f32[8,4]) {\n"
                            "  %a = exp %x : f32[8,4]\n"
                            "  %b = tanh %a : f32[8,4]\n"
                            "  %s = sum %b axes=[1] : f32[8]\n"
                            "  return %s\n}\n");
    const Target target = { .lanes = 8, .refuse = refuse_all };
    const PassOptions opt = { .level = LEVEL_default, .verify = true };
    const Graph *out;
    assert_int_equal(pass_run(&cx, arena, &target, &opt, in, &out), ST_OK);
    uint32_t fusions = 0;
    for (Ref r = 1; r < out->nnode; r++)
        fusions += out->node[r].op == OP_fusion;
    assert_int_equal(fusions, 3);
    check_same_values(&cx, in, out, 1e-12, "refused");
    arena_free(arena);
}

static void test_manager(void **state)
{
    (void)state;
    Ctx cx;
    ctx_init(&cx);
    Arena *arena = arena_new();
    const Graph *in = parse(&cx, arena,
                            "graph (%x: f32[4]) {\n"
                            "  %a = exp %x : f32[4]\n"
                            "  %l = sum %a axes=[0] : f32[]\n"
                            "  %g = grad %l, %x\n"
                            "  %d = get %g index=0 : f32[4]\n"
                            "  return %l, %d\n}\n");
    const Graph *out;
    assert_int_equal(pass_run(&cx, arena, NULL, &(PassOptions){ .passes = "isolate" }, in, &out),
                     ST_USAGE);
    assert_non_null(strstr(cx.msg, "run differentiate first"));
    assert_int_equal(
        pass_run(&cx, arena, NULL, &(PassOptions){ .passes = "dce, fuse-lop" }, in, &out),
        ST_USAGE);
    assert_non_null(strstr(cx.msg, "'fuse-lop'"));
    assert_int_equal(pass_run(&cx, arena, NULL, &(PassOptions){ .skip = "nothing" }, in, &out),
                     ST_USAGE);

    assert_int_equal(pass_run(&cx, arena, NULL, &(PassOptions){ .passes = "" }, in, &out), ST_OK);
    assert_true(graph_eq(in, out));
    assert_ptr_equal(out->arena, arena);

    const PassOptions skip = { .level = LEVEL_default,
                               .skip = "isolate,fuse-loop",
                               .verify = true };
    assert_int_equal(pass_run(&cx, arena, NULL, &skip, in, &out), ST_OK);
    bool left = false;
    for (Ref r = 1; r < out->nnode; r++)
        left |= out->node[r].op == OP_exp;
    assert_true(left || out->nnode > 2);
    assert_non_null(pass_find("fuse-loop", 9));
    assert_ptr_equal(pass_find("fuse_loop", 9), pass_find("fuse-loop", 9));
    assert_null(pass_find("fuse", 4));
    arena_free(arena);
}

/* A deep step: layers of matmul, bias, tanh, with an Adam-like update of each; 3,000 nodes. */
static Graph *deep_step(Ctx *cx, Arena *arena, int layers)
{
    Graph *g = graph_new(arena);
    Builder b = build_start(cx, g);
    char name[32];
    const Shape square = shape_of(2, (int64_t)8, (int64_t)8), row = shape_of(1, (int64_t)8);
    Ref *param = arena_array(arena, Ref, 2 * layers), *slot = arena_array(arena, Ref, 2 * layers);
    Ref x = build_input(&b, INPUT_batch, "x", DT_F32, square);
    for (int i = 0; i < 2 * layers; i++) {
        snprintf(name, sizeof name, "p%d", i);
        param[i] = build_input(&b, INPUT_param, name, DT_F32, i % 2 ? row : square);
        snprintf(name, sizeof name, "m%d", i);
        slot[i] = build_input(&b, INPUT_state, name, DT_F32, i % 2 ? row : square);
    }
    for (int i = 0; i < layers; i++) {
        build_region(&b, "dense", i);
        const Ref z = build_matmul(&b, x, param[2 * i]);
        x = build_op1(&b, OP_tanh,
                      build_op2(&b, OP_add, z, build_like(&b, param[2 * i + 1], z, 1)));
    }
    build_region(&b, "mse", layers);
    const Ref loss = build_reduce(&b, OP_sum, build_op2(&b, OP_mul, x, x), 3);
    build_region(&b, "sgd", layers + 1);
    const Ref grad = build_grad(&b, loss, param, 2 * layers);
    for (int i = 0; i < 2 * layers; i++) {
        const Ref d = build_get(&b, grad, i);
        const Ref m = build_op2(&b, OP_add, build_scale(&b, slot[i], 0.9), d);
        build_replace(&b, slot[i], m);
        build_replace(&b, param[i], build_op2(&b, OP_sub, param[i], build_scale(&b, m, 0.1)));
    }
    build_output(&b, loss, "loss");
    assert_int_equal(b.status, ST_OK);
    return g;
}

typedef struct Total {
    double ms;
    uint32_t largest;
} Total;

static void add_time(void *arg, const PassReport *r)
{
    Total *t = arg;
    t->ms += r->ms;
    t->largest = r->nodes_before > t->largest ? r->nodes_before : t->largest;
    print_message("  %-14s %6.2f ms  %5u -> %5u nodes, %u changes\n", r->name, r->ms,
                  r->nodes_before, r->nodes_after, r->nchanged);
}

/* Loose: under sanitizers and beside other jobs.  It catches a quadratic walk, not a slow one. */
static void test_time(void **state)
{
    (void)state;
    Ctx cx;
    ctx_init(&cx);
    Arena *arena = arena_new();
    const Graph *in = deep_step(&cx, arena, 110), *out;
    Total total = { 0 };
    const PassOptions opt = { .level = LEVEL_default, .report = add_time, .report_arg = &total };
    assert_int_equal(pass_run(&cx, arena, NULL, &opt, in, &out), ST_OK);
    check_closed(out);
    print_message("  %u nodes at most, %.1f ms\n", total.largest, total.ms);
    assert_true(total.ms < 2000);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manager),
        cmocka_unit_test(test_each_pass),
        cmocka_unit_test(test_each_pass_with_bodies),
        cmocka_unit_test(test_pipelines),
        cmocka_unit_test(test_pipelines_with_gradients),
        cmocka_unit_test(test_convolution_gradients),
        cmocka_unit_test(test_refused_groups_fall_apart),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
