/* SPDX-License-Identifier: Apache-2.0 */
/* The evaluator: each kind of op against plain loops, rounding, and what it refuses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ir/base/rng.h"
#include "ir/eval.h"
#include "ir/text.h"

enum { MAX_VALUES = 16 };

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s: %s", #call, cx->msg);                                                    \
    } while (0)

typedef struct Run {
    Ctx ctx;
    Arena *arena;
    Graph *g;
    Tensor in[MAX_VALUES], out[MAX_VALUES];
} Run;

/* Parses; inputs become 0.25 * (1, -2, 3, -4 ..), integers 0 1 2 .., bools 1 0 1 .. */
static void run_open(Run *r, const char *text)
{
    Ctx *cx = &r->ctx;
    ctx_init(cx);
    r->arena = arena_new();
    OK(graph_parse(cx, r->arena, "test", text, &r->g));
    for (uint32_t i = 0; i < r->g->ninput; i++) {
        Tensor *t = &r->in[i];
        *t = tensor_new(r->arena, r->g->node[r->g->input[i]].type);
        for (int64_t k = 0, n = shape_count(&t->type.shape); k < n; k++) {
            const double x = 0.25 * (double)(k + 1) * (k % 2 ? -1 : 1);
            t->at[k] = dtype_is_float(t->type.dt) ? x
                       : t->type.dt == DT_BOOL    ? k % 2 == 0
                                                  : (double)k;
        }
    }
}

static void run_go(Run *r, EvalMode mode)
{
    Ctx *cx = &r->ctx;
    OK(eval_graph(cx, r->g, mode, r->arena, r->in, r->out));
}

static void run_close(Run *r)
{
    arena_free(r->arena);
}

/* Output i of the graph is exactly want[]. */
static void run_expect(const Run *r, int i, const double *want, int n)
{
    assert_int_equal(shape_count(&r->out[i].type.shape), n);
    for (int k = 0; k < n; k++)
        if (r->out[i].at[k] != want[k])
            fail_msg("output %d[%d]: wants %.17g, got %.17g", i, k, want[k], r->out[i].at[k]);
}

#define EXPECT(run, i, ...)                                                                        \
    run_expect(run, i, (const double[]){ __VA_ARGS__ },                                            \
               (int)(sizeof(double[]){ __VA_ARGS__ } / sizeof(double)))

static void test_elementwise(void **state)
{
    (void)state;
    Run r;
    run_open(&r, "graph (%x: f64[4], %y: f64[4], %c: bool[4], %d: bool[4]) {\n"
                 "  %a = max %x, %y : f64[4]\n"
                 "  %b = select %c, %x, %y : f64[4]\n"
                 "  %e = and %c, %d : bool[4]\n"
                 "  %f = or %c, %d : bool[4]\n"
                 "  %g = not %c : bool[4]\n"
                 "  %h = lt %x, %y : bool[4]\n"
                 "  %i = sigmoid %x : f64[4]\n"
                 "  %j = min %x, %y : f64[4]\n"
                 "  return %a, %b, %e, %f, %g, %h, %i, %j\n}\n");
    memcpy(r.in[1].at, (double[]){ 1, -1, NAN, 0.5 }, 4 * sizeof(double));
    memcpy(r.in[3].at, (double[]){ 1, 1, 0, 0 }, 4 * sizeof(double));
    run_go(&r, EVAL_F64);
    assert_true(isnan(r.out[0].at[2]) && isnan(r.out[7].at[2]));
    assert_true(r.out[0].at[0] == 1 && r.out[0].at[1] == -0.5 && r.out[7].at[3] == -1);
    EXPECT(&r, 1, 0.25, -1, 0.75, 0.5);
    EXPECT(&r, 2, 1, 0, 0, 0);
    EXPECT(&r, 3, 1, 1, 1, 0);
    EXPECT(&r, 4, 0, 1, 0, 1);
    EXPECT(&r, 5, 1, 0, 0, 1);
    assert_true(r.out[6].at[0] == 1 / (1 + exp(-0.25)));
    run_close(&r);
}

static void test_views(void **state)
{
    (void)state;
    Run r;
    run_open(&r, "graph (%x: i32[2,3], %e: i32[2,0]) {\n"
                 "  %a = transpose %x perm=[1,0] : i32[3,2]\n"
                 "  %b = reshape %a : i32[6]\n"
                 "  %c = slice %b lo=[5] step=[-2] : i32[3]\n"
                 "  %d = pad %c lo=[1] hi=[2] step=[2] value=0x1.cp+2 : i32[8]\n"
                 "  %f = concat %x, %e, %x axis=1 : i32[2,6]\n"
                 "  %g = broadcast %c axes=[0] : i32[2,3]\n"
                 "  %h = add %g, %x : i32[2,3]\n"
                 "  return %b, %c, %d, %f, %h\n}\n");
    run_go(&r, EVAL_ROUND);
    EXPECT(&r, 0, 0, 3, 1, 4, 2, 5);
    EXPECT(&r, 1, 5, 4, 3);
    EXPECT(&r, 2, 7, 5, 7, 4, 7, 3, 7, 7);
    EXPECT(&r, 3, 0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5);
    EXPECT(&r, 4, 5, 5, 5, 8, 8, 8);
    run_close(&r);
}

static void test_window(void **state)
{
    (void)state;
    Run r;
    run_open(&r,
             "graph (%x: i32[7,2]) {\n"
             "  %a = window %x axes=[0] kernel=[2] stride=[2] dilation=[3] : i32[2,2,2]\n"
             "  %b = fold %a axes=[0] kernel=[2] stride=[2] dilation=[3] extent=[7] : i32[7,2]\n"
             "  %c = window %x axes=[0] kernel=[2] : i32[6,2,2]\n"
             "  %d = fold %c axes=[0] kernel=[2] extent=[7] : i32[7,2]\n"
             "  return %a, %b, %d\n}\n");
    run_go(&r, EVAL_F64);
    EXPECT(&r, 0, 0, 1, 6, 7, 4, 5, 10, 11);
    EXPECT(&r, 1, 0, 1, 0, 0, 4, 5, 6, 7, 0, 0, 10, 11, 0, 0);
    EXPECT(&r, 2, 0, 1, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 12, 13);
    run_close(&r);
}

static void test_reduce(void **state)
{
    (void)state;
    Run r;
    run_open(&r, "graph (%x: f64[2,3,2], %e: f64[0,2], %n: f64[2,2]) {\n"
                 "  %a = sum %x axes=[0,2] : f64[3]\n"
                 "  %b = amax %x axes=[1] : f64[2,2]\n"
                 "  %c = amin %x axes=[0,1,2] : f64[]\n"
                 "  %d = sum %e axes=[0] : f64[2]\n"
                 "  %f = amax %e axes=[0] : f64[2]\n"
                 "  %g = amax %n axes=[1] : f64[2]\n"
                 "  return %a, %b, %c, %d, %f, %g\n}\n");
    r.in[2].at[0] = NAN;
    run_go(&r, EVAL_F64);
    EXPECT(&r, 0, -0.5, -0.5, -0.5);
    EXPECT(&r, 1, 1.25, -0.5, 2.75, -2);
    EXPECT(&r, 2, -3);
    EXPECT(&r, 3, 0, 0);
    EXPECT(&r, 4, -INFINITY, -INFINITY);
    assert_true(isnan(r.out[5].at[0]) && r.out[5].at[1] == 0.75);
    run_close(&r);
}

/* Sizes around the block sizes, against three loops; and a batch with transposed operands. */
static void test_matmul(void **state)
{
    (void)state;
    static const int size[][3] = { { 1, 1, 1 },     { 3, 0, 2 },   { 65, 129, 7 }, { 64, 128, 9 },
                                   { 130, 257, 8 }, { 5, 300, 1 }, { 1, 4, 33 } };
    for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
        const int m = size[s][0], kn = size[s][1], n = size[s][2];
        Run r;
        Arena *text = arena_new();
        run_open(&r, arena_printf(text,
                                  "graph (%%a: f64[%d,%d], %%b: f64[%d,%d]) {\n"
                                  "  %%t = transpose %%b perm=[1,0] : f64[%d,%d]\n"
                                  "  %%y = matmul %%a, %%t over=[[1],[0]] : f64[%d,%d]\n"
                                  "  return %%y\n}\n",
                                  m, kn, n, kn, kn, n, m, n));
        run_go(&r, EVAL_F64);
        for (int i = 0; i < m; i++)
            for (int j = 0; j < n; j++) {
                double want = 0;
                for (int k = 0; k < kn; k++)
                    want += r.in[0].at[i * kn + k] * r.in[1].at[j * kn + k];
                assert_true(r.out[0].at[i * n + j] == want); /* exact: multiples of 1/16 */
            }
        run_close(&r);
        arena_free(text);
    }
    Run r;
    run_open(&r, "graph (%a: f64[3,2,4], %b: f64[5,4,2]) {\n"
                 "  %y = matmul %a, %b over=[[2],[1]] batch=[[1],[2]] : f64[2,3,5]\n"
                 "  return %y\n}\n");
    run_go(&r, EVAL_F64);
    for (int p = 0; p < 2; p++)
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 5; j++) {
                double want = 0;
                for (int k = 0; k < 4; k++)
                    want += r.in[0].at[(i * 2 + p) * 4 + k] * r.in[1].at[(j * 4 + k) * 2 + p];
                assert_true(r.out[0].at[(p * 3 + i) * 5 + j] == want);
            }
    run_close(&r);
}

static void test_rand(void **state)
{
    (void)state;
    Run r;
    run_open(&r,
             "graph (%seed: i32[], %stream: i32[], %step: i32[], %iter: i32[], %row0: i32[]) {\n"
             "  %y = rand %seed, %stream, %step, %iter, %row0 : f32[3,5]\n"
             "  return %y\n}\n");
    for (int i = 0; i < 5; i++)
        r.in[i].at[0] = (double)(i + 3);
    run_go(&r, EVAL_ROUND);
    for (int i = 0; i < 15; i++)
        assert_true(r.out[0].at[i] == (double)rng_rand_op(3, 4, 5, 6, (uint64_t)(7 * 5 + i)));
    run_close(&r);
}

static const char scan_text[] =
    "graph (%%h: i32[], %%k: i32[], %%x: i32[4], %%w: i32[]) {\n"
    "  %%s = scan %%h, %%k, %%x, %%w carry=2 step=1 trip=4 %s(%%h: i32[], %%k: i32[], %%x: i32[], "
    "%%w: i32[]) {\n"
    "    %%two = const 0x1p+1 : i32[]\n"
    "    %%a = mul %%h, %%two : i32[]\n"
    "    %%b = add %%a, %%x : i32[]\n"
    "    %%c = add %%b, %%w : i32[]\n"
    "    return %%k, %%c, %%c, %%x\n"
    "  }\n"
    "  %%l = get %%s index=0 : i32[]\n"
    "  %%m = get %%s index=1 : i32[]\n"
    "  %%y = get %%s index=2 : i32[4]\n"
    "  %%z = get %%s index=3 : i32[4]\n"
    "  return %%l, %%m, %%y, %%z\n}\n";

static void test_scan(void **state)
{
    (void)state;
    for (int reverse = 0; reverse < 2; reverse++) {
        Run r;
        Arena *text = arena_new();
        run_open(&r, arena_printf(text, scan_text, reverse ? "reverse=1 " : ""));
        r.in[0].at[0] = 1, r.in[1].at[0] = 5, r.in[3].at[0] = 100;
        run_go(&r, EVAL_F64);
        double h = 1, k = 5, y[4];
        for (int i = 0; i < 4; i++) { /* the carries change places */
            const int t = reverse ? 3 - i : i;
            y[t] = 2 * h + t + 100;
            h = k;
            k = y[t];
        }
        EXPECT(&r, 0, h);
        EXPECT(&r, 1, k);
        EXPECT(&r, 2, y[0], y[1], y[2], y[3]);
        EXPECT(&r, 3, 0, 1, 2, 3);
        run_close(&r);
        arena_free(text);
    }
}

static void test_fusion(void **state)
{
    (void)state;
    Run r;
    run_open(&r, "graph (%x: f64[3], %y: f64[3]) {\n"
                 "  %f = fusion %x, %y kind=loop (%a: f64[3], %b: f64[3]) {\n"
                 "    %s = add %a, %b : f64[3]\n"
                 "    %t = mul %s, %a : f64[3]\n"
                 "    return %s, %t\n"
                 "  }\n"
                 "  %p = get %f index=0 : f64[3]\n"
                 "  %q = get %f index=1 : f64[3]\n"
                 "  return %q, %p, %x\n}\n");
    run_go(&r, EVAL_F64);
    EXPECT(&r, 0, 0.125, 0.5, 1.125);
    EXPECT(&r, 1, 0.5, -1, 1.5);
    EXPECT(&r, 2, 0.25, -0.5, 0.75);
    run_close(&r);
}

static void test_round_to(void **state)
{
    (void)state;
    assert_true(round_to(DT_F32, 0.1) == (double)0.1f);
    assert_true(round_to(DT_F16, 1 + 0x1p-11) == 1);              /* a tie, to even */
    assert_true(round_to(DT_F16, 1 + 3 * 0x1p-11) == 1 + 0x1p-9); /* a tie, to even */
    assert_true(round_to(DT_F16, 65519) == 65504);
    assert_true(isinf(round_to(DT_F16, 65520)));
    assert_true(round_to(DT_F16, 0x1p-25) == 0);
    assert_true(round_to(DT_F16, -0x1.8p-24) == -0x1p-23);
    assert_true(round_to(DT_BF16, 1 + 0x1p-8) == 1);
    assert_true(round_to(DT_BF16, 1 + 0x1.8p-8) == 1 + 0x1p-7);
    assert_true(round_to(DT_I32, 0x1p31) == -0x1p31);
    assert_true(round_to(DT_I32, -0x1p31 - 1) == 0x1p31 - 1);
    assert_true(round_to(DT_I32, -1.9) == -1);
    assert_true(round_to(DT_U8, 257) == 1 && round_to(DT_U8, -1) == 255);
    assert_true(round_to(DT_BOOL, 0.5) == 1);
    assert_true(isnan(round_to(DT_F16, NAN)) && round_to(DT_I32, NAN) == 0);
}

/* Every 16-bit pattern is read and written as itself, and is what it rounds to. */
static void test_patterns(void **state)
{
    (void)state;
    static const DType dts[] = { DT_F16, DT_BF16 };
    for (int d = 0; d < 2; d++)
        for (uint32_t p = 0; p < 0x10000; p++) {
            double x;
            Tensor t = { .type = { .dt = dts[d] }, .at = &x };
            const uint16_t in = (uint16_t)p;
            uint16_t out = 0;
            tensor_read(&t, &in);
            tensor_write(&t, &out);
            if (isnan(x)) {
                tensor_read(&t, &out);
                assert_true(isnan(x));
                continue;
            }
            assert_int_equal(in, out);
            assert_true(round_to(dts[d], x) == x);
        }
    double two[2] = { 0 };
    Tensor t = { .type = { DT_I64, shape_of(1, (int64_t)2) }, .at = two };
    const int64_t in[2] = { -5, 1ll << 40 };
    int64_t out[2] = { 0 };
    tensor_read(&t, in);
    tensor_write(&t, out);
    assert_memory_equal(in, out, sizeof in);
}

static void test_modes(void **state)
{
    (void)state;
    Run r;
    run_open(&r, "graph (%x: f32[2], %i: i32[1]) {\n"
                 "  %c = const 0x1.999999999999ap-4 : f32[2]\n"
                 "  %a = add %x, %c : f32[2]\n"
                 "  %h = cast %a : f16[2]\n"
                 "  %n = cast %a : i32[2]\n"
                 "  %big = const 0x1.fffffffcp+30 : i32[1]\n"
                 "  %w = add %big, %i : i32[1]\n"
                 "  return %a, %h, %n, %w\n}\n");
    r.in[0].at[0] = 1, r.in[0].at[1] = -2.75;
    r.in[1].at[0] = 1;
    run_go(&r, EVAL_F64);
    EXPECT(&r, 0, 1 + 0.1, -2.75 + 0.1);
    EXPECT(&r, 1, 1 + 0.1, -2.75 + 0.1);
    EXPECT(&r, 2, 1, -2);
    EXPECT(&r, 3, -0x1p31);
    run_go(&r, EVAL_ROUND);
    EXPECT(&r, 0, (double)(1.0f + 0.1f), (double)(-2.75f + 0.1f));
    EXPECT(&r, 1, round_to(DT_F16, 1.1), round_to(DT_F16, -2.65));
    run_close(&r);
}

static void test_refuses(void **state)
{
    (void)state;
    Run r;
    run_open(&r, "graph (%x: f32[2]) {\n"
                 "  %l = sum %x axes=[0] : f32[]\n"
                 "  %g = grad %l, %x\n"
                 "  %d = get %g index=0 : f32[2]\n"
                 "  return %d\n}\n");
    assert_int_equal(eval_graph(&r.ctx, r.g, EVAL_F64, r.arena, r.in, r.out), ST_VALUE);
    assert_non_null(strstr(r.ctx.msg, "grad"));
    r.in[0].type.dt = DT_F64;
    assert_int_equal(eval_graph(&r.ctx, r.g, EVAL_F64, r.arena, r.in, r.out), ST_TYPE);
    assert_string_equal(r.ctx.msg, "input x: wants f32[2], got f64[2]");
    run_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elementwise), cmocka_unit_test(test_views),
        cmocka_unit_test(test_window),      cmocka_unit_test(test_reduce),
        cmocka_unit_test(test_matmul),      cmocka_unit_test(test_rand),
        cmocka_unit_test(test_scan),        cmocka_unit_test(test_fusion),
        cmocka_unit_test(test_round_to),    cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_modes),       cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
