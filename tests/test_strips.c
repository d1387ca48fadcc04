/* SPDX-License-Identifier: Apache-2.0 */
/* Attention whose scores stay in a block's shared memory: each kernel of layers of many shapes is
 * planned as it should be, agrees with the evaluator on the host's CUDA machine under every
 * schedule, without a hazard, and NVRTC takes it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/eval.h"
#include "passes/pass.h"
#include "tests/cuda_kernels.h"
#include "tests/nvrtc_gate.h"
#include "tests/simt_body.h"
#include "tests/simt_case.h"
#include "tests/zoo_case.h"

enum { MOST_KERNELS = 8, KIB = 1024 };
#if defined(GTC_SANITIZE)
enum { SCHEDULES = 1 }; /* kernels are compiled without sanitizers; what runs them is the same */
#else
enum { SCHEDULES = 3 };
#endif

#define MODEL(t, c, z, layer)                                                                      \
    "{ \"data\": { \"random\": { \"x\": [" #t ", " #c "], \"z\": [" z "], \"y\": [2],"             \
    " \"rows\": 64 } },\n"                                                                         \
    "  \"layers\": [\n"                                                                            \
    "  { \"name\": \"a\", \"type\": \"multi_head_attention\", " layer " },\n"                      \
    "  { \"name\": \"f\", \"type\": \"flatten\" },\n"                                              \
    "  { \"name\": \"y\", \"type\": \"dense\", \"units\": 2 } ],\n"                                \
    "  \"loss\": { \"type\": \"mse\", \"prediction\": \"y\" },\n"                                  \
    "  \"optimizer\": { \"type\": \"sgd\", \"learning_rate\": 1e-3 } }\n"
#define SHAPE1(a)                                                                                  \
    {                                                                                              \
        .rank = 1, .dim = { a }                                                                    \
    }
#define SHAPE2(a, b)                                                                               \
    {                                                                                              \
        .rank = 2, .dim = { a, b }                                                                 \
    }
#define SELF(t, c, layer)                                                                          \
    .text = MODEL(t, c, #t, "\"input\": \"x\", " layer), .x = SHAPE2(t, c), .z = SHAPE1(t),        \
    .targets = 2
#define CROSS(t, s, c, layer)                                                                      \
    .text = MODEL(t, c, #s ", " #c, "\"input\": [\"x\", \"z\"], " layer), .x = SHAPE2(t, c),       \
    .z = SHAPE2(s, c), .targets = 2

typedef struct StripCase {
    ZooCase model;
    int smem;        /* bytes of shared memory of a block */
    int launches[2]; /* forward, backward */
    int loops[2];    /* over tiles */
} StripCase;

static const StripCase cases[] = {
    { { "whole", SELF(18, 16, "\"heads\": 2, \"causal\": true") }, 48 * KIB, { 1, 1 }, { 0, 0 } },
    { { "causal", SELF(80, 32, "\"heads\": 2, \"causal\": true") }, 8 * KIB, { 1, 2 }, { 1, 3 } },
    { { "masked", SELF(64, 10, "\"heads\": 2, \"mask\": \"z\"") }, 8 * KIB, { 1, 2 }, { 1, 3 } },
    { { "dropout", SELF(48, 12, "\"heads\": 3, \"dropout\": 0.3, \"causal\": true") },
      6 * KIB,
      { 1, 2 },
      { 1, 3 } },
    { { "one head", SELF(96, 16, "\"heads\": 1, \"rotary\": true") }, 9 * KIB, { 1, 2 }, { 1, 3 } },
    { { "cross", CROSS(24, 130, 16, "\"heads\": 2") }, 10 * KIB, { 1, 2 }, { 1, 2 } },
    { { "long queries", CROSS(126, 24, 16, "\"heads\": 2") }, 8 * KIB, { 1, 2 }, { 0, 1 } },
    { { "two primes", CROSS(37, 101, 15, "\"heads\": 3, \"dropout\": 0.5") },
      8 * KIB,
      { 1, 2 },
      { 1, 2 } },
    { { "a prime", SELF(67, 16, "\"heads\": 2") }, 10 * KIB, { 1, 2 }, { 1, 3 } },
};
enum { CASES = sizeof cases / sizeof *cases };

static Target target_of(const StripCase *c)
{
    Target t = middling_gpu();
    t.threads = 16;
    t.smem_bytes = c->smem;
    return t;
}

/* The training step of the case, fused. */
static const Graph *fuse(const StripCase *c, Zoo *z)
{
    const Target t = target_of(c);
    const PassOptions opt = { .level = LEVEL_default };
    const Graph *fused = NULL;
    zoo_open(z, &c->model, NULL);
    if (pass_run(&z->cx, z->arena, &t, &opt, zoo_graph(z, &c->model, BUILD_TRAIN), &fused) != ST_OK)
        fail_msg("passes: %s", z->cx.msg);
    return fused;
}

/* Scores of about 1; what is one number a row, as what divides is, is positive. */
static void give_numbers(SimtBody *b, int64_t queries)
{
    for (uint32_t i = 0; i < b->graph->ninput; i++) {
        Tensor *t = &b->in[i];
        const int64_t n = shape_count(&t->type.shape);
        for (int64_t e = 0; e < n; e++)
            if (t->type.dt == DT_BOOL)
                t->at[e] = e % 3 != 0;
            else if (!dtype_is_float(t->type.dt))
                t->at[e] = 5;
            else if (t->type.shape.rank == 3 && t->type.shape.dim[2] == queries)
                t->at[e] = (double)(float)(1 + .37 * (double)(e * 5 % 7));
            else
                t->at[e] = (double)(float)(1.1 * sin((double)(e * e % 1009)));
    }
}

static bool is_attention(const Graph *g, Ref r)
{
    return g->node[r].op == OP_fusion &&
           strncmp(g->node[r].attr.fusion.kind, "attention_", 10) == 0;
}

static void layer_agrees(void **state)
{
    const StripCase *c = *state;
    const Target t = target_of(c);
    Zoo z;
    int found[2] = { 0 };
    const Graph *g = fuse(c, &z);
    for (Ref r = 1; r < g->nnode; r++) {
        if (!is_attention(g, r))
            continue;
        const bool bwd = strncmp(g->node[r].attr.fusion.kind, "attention_bwd", 13) == 0;
        SimtBody b = { .text = NULL };
        simt_body_open(&b, &t, g, r);
        found[bwd]++;
        if (b.k->nlaunch != c->launches[bwd] || simt_body_loops(&b) != c->loops[bwd])
            fail_msg("%s: %d launches, %d loops\n%s", b.k->name, b.k->nlaunch, simt_body_loops(&b),
                     b.k->plan);
        give_numbers(&b, c->model.x.dim[0]);
        assert_int_equal(simt_body_check(&b, SCHEDULES, b.k->name), 0);
        simt_body_close(&b);
    }
    assert_int_equal(found[0], 1);
    assert_int_equal(found[1], 1);
    zoo_close(&z);
}

static void nvrtc_takes_them(void **state)
{
    NvrtcGate gate;
    (void)state;
    nvrtc_gate_open(&gate);
    for (int i = 0; i < CASES; i++) {
        const Target target = target_of(&cases[i]);
        Zoo z;
        const Graph *g = fuse(&cases[i], &z);
        for (Ref r = 1; r < g->nnode; r++) {
            if (!is_attention(g, r))
                continue;
            SimtBody b = { .text = NULL };
            simt_body_open(&b, &target, g, r);
            nvrtc_gate_take(&gate, b.k->name, b.k);
            simt_body_close(&b);
        }
        zoo_close(&z);
    }
    assert_int_equal(gate.kernels, 2 * CASES);
    nvrtc_gate_close(&gate);
}

/* ---- where there is no number ---------------------------------------------------------------- */

static const char additive[] =
    "graph (%q: f32[9,80,8], %k: f32[9,80,8], %v: f32[9,80,8], %m: f32[80,80]) {\n"
    "  %1 = transpose %k perm=[0,2,1] : f32[9,8,80]\n"
    "  %2 = matmul %q, %1 over=[[2],[1]] batch=[[0],[0]] : f32[9,80,80]\n"
    "  %3 = broadcast %m axes=[0] : f32[9,80,80]\n"
    "  %4 = add %2, %3 : f32[9,80,80]\n"
    "  %5 = amax %4 axes=[2] : f32[9,80]\n"
    "  %6 = broadcast %5 axes=[2] : f32[9,80,80]\n"
    "  %7 = sub %4, %6 : f32[9,80,80]\n"
    "  %8 = exp %7 : f32[9,80,80]\n"
    "  %9 = sum %8 axes=[2] : f32[9,80]\n"
    "  %10 = broadcast %9 axes=[2] : f32[9,80,80]\n"
    "  %11 = div %8, %10 : f32[9,80,80]\n"
    "  %12 = matmul %11, %v over=[[2],[1]] batch=[[0],[0]] : f32[9,80,8]\n"
    "  return %5, %9, %12\n}\n";

static bool is_like(double got, double want)
{
    if (isnan(want) || isinf(want))
        return isnan(want) ? isnan(got) : got == want;
    return fabs(got - want) <= 1e-5 * (1 + fabs(want));
}

/* A mask may be added, of -inf: all of a tile, or of a row; or a score is too great. */
static void infinite_scores(void **state)
{
    static const StripCase small = { .smem = 8 * KIB };
    const Target t = target_of(&small);
    SimtBody b = { .text = NULL };
    Tensor want[3];
    size_t n;
    (void)state;
    simt_body_parse(&b, &t, "additive", additive);
    assert_int_equal(b.k->nlaunch, 1);
    assert_int_equal(simt_body_loops(&b), 1);
    give_numbers(&b, 0);
    for (int64_t row = 0; row < 80; row++)
        for (int64_t col = 0; col < 80; col++)
            b.in[3].at[80 * row + col] =
                row == 5 || (row < 40 ? col < row : col > row) ? -INFINITY : 0;
    b.in[3].at[80 * 7 + 50] = INFINITY;
    assert_int_equal(eval_graph(&b.cx, b.graph, EVAL_F64, b.arena, b.in, want), ST_OK);
    char *code = simt_case_compile(b.k->name, b.k->source, true, &n);
    assert_non_null(code);
    char *out = arena_alloc(b.arena, simt_body_bytes(&b));
    if (simt_body_run(&b, code, n, &(SimtOptions){ .shadow = true }, 1, out) != ST_OK)
        fail_msg("%s", b.cx.msg);
    int nans = 0;
    for (int i = 0; i < 3; i++) {
        Tensor got = tensor_new(b.arena, want[i].type);
        tensor_read(&got, out);
        out += type_bytes(&got.type);
        for (int64_t e = 0; e < shape_count(&got.type.shape); e++) {
            if (!is_like(got.at[e], want[i].at[e]))
                fail_msg("output %d, element %lld: %g for %g", i, (long long)e, got.at[e],
                         want[i].at[e]);
            nans += isnan(got.at[e]);
        }
    }
    assert_true(nans >= 9 * 2 * 9); /* two rows: a sum and 8 channels each */
    free(code);
    simt_body_close(&b);
}

int main(void)
{
    struct CMUnitTest tests[CASES + 2];
    for (int i = 0; i < CASES; i++)
        tests[i] = (struct CMUnitTest){ .name = cases[i].model.path,
                                        .test_func = layer_agrees,
                                        .initial_state = (void *)(uintptr_t)&cases[i] };
    tests[CASES] = (struct CMUnitTest)cmocka_unit_test(infinite_scores);
    tests[CASES + 1] = (struct CMUnitTest)cmocka_unit_test(nvrtc_takes_them);
    return _cmocka_run_group_tests("strips", tests, CASES + 2, NULL, NULL);
}
