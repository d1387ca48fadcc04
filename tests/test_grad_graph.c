/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients of graphs against forward mode and central differences, in f64: scans of every kind,
 * what is made and what is not, and the gradient of a gradient. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ir/autodiff.h"
#include "ir/text.h"
#include "tests/gradient_check.h"

enum { MAX_VALUES = 24 };

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s: %s", #call, cx->msg);                                                    \
    } while (0)

/* Graphs from text: all outputs are weighed. */
static Graph *check_text(Ctx *cx, Arena *arena, const char *text, uint64_t seed)
{
    Graph *g;
    OK(graph_parse(cx, arena, "test", text, &g));
    Ref value[MAX_VALUES];
    for (uint32_t i = 0; i < g->nout; i++)
        value[i] = g->out[i].value;
    return gradient_check_all(cx, g, value, (int)g->nout, false, seed);
}

#define LSTM                                                                                       \
    "graph (%h0: f64[2,3], %c0: f64[2,3], %x: f64[4,2,5], %wx: f64[5,12], %wh: f64[3,12], "        \
    "%b: f64[12]) {\n"                                                                             \
    "  %s = scan %h0, %c0, %x, %wx, %wh, %b carry=2 step=1 trip=4 (%h: f64[2,3], %c: f64[2,3], "   \
    "%xt: f64[2,5], %vx: f64[5,12], %vh: f64[3,12], %vb: f64[12]) {\n"                             \
    "    %p = matmul %xt, %vx over=[[1],[0]] : f64[2,12]\n"                                        \
    "    %q = matmul %h, %vh over=[[1],[0]] : f64[2,12]\n"                                         \
    "    %bb = broadcast %vb axes=[0] : f64[2,12]\n"                                               \
    "    %pq = add %p, %q : f64[2,12]\n"                                                           \
    "    %z = add %pq, %bb : f64[2,12]\n"                                                          \
    "    %zi = slice %z lo=[0,0] : f64[2,3]\n"                                                     \
    "    %zf = slice %z lo=[0,3] : f64[2,3]\n"                                                     \
    "    %zg = slice %z lo=[0,6] : f64[2,3]\n"                                                     \
    "    %zo = slice %z lo=[0,9] : f64[2,3]\n"                                                     \
    "    %i = sigmoid %zi : f64[2,3]\n"                                                            \
    "    %f = sigmoid %zf : f64[2,3]\n"                                                            \
    "    %g = tanh %zg : f64[2,3]\n"                                                               \
    "    %o = sigmoid %zo : f64[2,3]\n"                                                            \
    "    %fc = mul %f, %c : f64[2,3]\n"                                                            \
    "    %ig = mul %i, %g : f64[2,3]\n"                                                            \
    "    %cn = add %fc, %ig : f64[2,3]\n"                                                          \
    "    %tc = tanh %cn : f64[2,3]\n"                                                              \
    "    %hn = mul %o, %tc : f64[2,3]\n"                                                           \
    "    return %hn, %cn, %hn\n"                                                                   \
    "  }\n"

static const Node *only_scan(const Graph *g, bool bwd_of_first)
{
    const Node *found = NULL;
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == OP_scan && (found == NULL || bwd_of_first))
            found = &g->node[r];
    return found;
}

static int count_ops(const Graph *g, Op op)
{
    int n = 0;
    for (Ref r = 1; r < g->nnode; r++)
        n += g->node[r].op == op;
    return n;
}

static void test_lstm(void **state)
{
    (void)state;
    Ctx ctx, *cx = &ctx;
    ctx_init(cx);
    Arena *arena = arena_new();
    Graph *g = check_text(cx, arena,
                          LSTM "  %last = get %s index=0 : f64[2,3]\n"
                               "  %clast = get %s index=1 : f64[2,3]\n"
                               "  %ys = get %s index=2 : f64[4,2,3]\n"
                               "  return %last, %clast, %ys\n}\n",
                          1);
    assert_int_equal(count_ops(g, OP_scan), 2); /* forward, with more results, and backward */
    const Node *forward = only_scan(g, false), *backward = only_scan(g, true);
    /* saved: i f g o tanh(c), h and c of the step before; ys was there */
    assert_int_equal(forward->attr.scan.body->nout, 3 + 7);
    /* inside: one product, dh; the weights' left the loop, and dx too */
    assert_int_equal(count_ops(backward->attr.scan.body, OP_matmul), 1);
    assert_int_equal(count_ops(backward->attr.scan.body, OP_concat), 1);
    assert_int_equal(count_ops(backward->attr.scan.body, OP_pad), 0);
    assert_int_equal(backward->attr.scan.ncarry, 2);
    assert_int_equal(backward->attr.scan.body->nout, 3); /* dh, dc, dz */
    assert_int_equal(count_ops(g, OP_matmul), 3);        /* dWx dWh dx */
    assert_int_equal(count_ops(g, OP_transpose), 0);
    arena_free(arena);
}

/* Data is not differentiated by, so its gradient is not made; what is made stands in r.bwd. */
static void test_only_what_is_wanted(void **state)
{
    (void)state;
    static const char text[] = "graph (%x: f64[4,5], param %w: f64[5,3], param %b: f64[3]) {\n"
                               "  %p = matmul %x, %w over=[[1],[0]] : f64[4,3]  @dense.7\n"
                               "  %bb = broadcast %b axes=[0] : f64[4,3]  @dense.7\n"
                               "  %z = add %p, %bb : f64[4,3]  @dense.7\n"
                               "  %y = tanh %z : f64[4,3]  @dense.7\n"
                               "  %loss = sum %y axes=[0,1] : f64[]\n"
                               "  %g = grad %loss, %w, %b\n"
                               "  %dw = get %g index=0 : f64[5,3]\n"
                               "  %db = get %g index=1 : f64[3]\n"
                               "  return %dw, %db\n}\n";
    Ctx ctx, *cx = &ctx;
    ctx_init(cx);
    Arena *arena = arena_new();
    Graph *g, *expanded = graph_new(arena);
    OK(graph_parse(cx, arena, "test", text, &g));
    OK(autodiff_expand(cx, g, expanded));
    OK(graph_verify(cx, expanded));
    assert_int_equal(count_ops(expanded, OP_matmul), 2); /* forward, and dw */
    for (uint32_t i = 0; i < expanded->nout; i++) {
        const Region r = expanded->region[expanded->node[expanded->out[i].value].region];
        assert_string_equal(r.kind, "dense");
        assert_int_equal(r.layer, 7);
        assert_true(r.bwd);
    }
    arena_free(arena);
}

static void test_lstm_last(void **state)
{
    (void)state;
    Ctx ctx, *cx = &ctx;
    ctx_init(cx);
    Arena *arena = arena_new();
    check_text(cx, arena, LSTM "  %last = get %s index=0 : f64[2,3]\n  return %last\n}\n", 2);
    check_text(cx, arena, LSTM "  %ys = get %s index=2 : f64[4,2,3]\n  return %ys\n}\n", 3);
    arena_free(arena);
}

/* torch's GRU: n = tanh(x part + r * (h part + b_hn)). */
static const char gru[] =
    "graph (%h0: f64[2,3], %x: f64[3,2,4], %wx: f64[9,4], %wh: f64[9,3], %bx: f64[9], %bh: f64[9]) "
    "{\n"
    "  %s = scan %h0, %x, %wx, %wh, %bx, %bh carry=1 step=1 trip=3 reverse=1 (%h: f64[2,3], "
    "%xt: f64[2,4], %vx: f64[9,4], %vh: f64[9,3], %cx: f64[9], %ch: f64[9]) {\n"
    "    %p = matmul %xt, %vx over=[[1],[1]] : f64[2,9]\n"
    "    %q = matmul %h, %vh over=[[1],[1]] : f64[2,9]\n"
    "    %bxb = broadcast %cx axes=[0] : f64[2,9]\n"
    "    %bhb = broadcast %ch axes=[0] : f64[2,9]\n"
    "    %zx = add %p, %bxb : f64[2,9]\n"
    "    %zh = add %q, %bhb : f64[2,9]\n"
    "    %rx = slice %zx lo=[0,0] : f64[2,3]\n"
    "    %ux = slice %zx lo=[0,3] : f64[2,3]\n"
    "    %nx = slice %zx lo=[0,6] : f64[2,3]\n"
    "    %rh = slice %zh lo=[0,0] : f64[2,3]\n"
    "    %uh = slice %zh lo=[0,3] : f64[2,3]\n"
    "    %nh = slice %zh lo=[0,6] : f64[2,3]\n"
    "    %ra = add %rx, %rh : f64[2,3]\n"
    "    %r = sigmoid %ra : f64[2,3]\n"
    "    %ua = add %ux, %uh : f64[2,3]\n"
    "    %u = sigmoid %ua : f64[2,3]\n"
    "    %rn = mul %r, %nh : f64[2,3]\n"
    "    %na = add %nx, %rn : f64[2,3]\n"
    "    %n = tanh %na : f64[2,3]\n"
    "    %d = sub %h, %n : f64[2,3]\n"
    "    %ud = mul %u, %d : f64[2,3]\n"
    "    %hn = add %n, %ud : f64[2,3]\n"
    "    return %hn, %hn\n"
    "  }\n"
    "  %last = get %s index=0 : f64[2,3]\n"
    "  %ys = get %s index=1 : f64[3,2,3]\n"
    "  return %last, %ys\n}\n";

static void test_gru_reverse(void **state)
{
    (void)state;
    Ctx ctx, *cx = &ctx;
    ctx_init(cx);
    Arena *arena = arena_new();
    Graph *g = check_text(cx, arena, gru, 4);
    const Node *forward = only_scan(g, false), *backward = only_scan(g, true);
    assert_int_equal(forward->attr.scan.body->nout, 2 + 5); /* r u n, h's part of n, h */
    assert_false(backward->attr.scan.reverse);
    assert_int_equal(count_ops(backward->attr.scan.body, OP_matmul), 1);
    arena_free(arena);
}

/* A minimal gated unit: one gate, and a candidate that reads f * h in its product. */
static const char mgu[] =
    "graph (%h0: f64[2,3], %x: f64[3,2,4], %wf: f64[4,3], %uf: f64[3,3], %wn: f64[4,3], "
    "%un: f64[3,3], %b: f64[3], %scale: f64[2,3]) {\n"
    "  %s = scan %h0, %x, %wf, %uf, %wn, %un, %b, %scale carry=1 step=1 trip=3 (%h: f64[2,3], "
    "%xt: f64[2,4], %vwf: f64[4,3], %vuf: f64[3,3], %vwn: f64[4,3], %vun: f64[3,3], %vb: f64[3], "
    "%vs: f64[2,3]) {\n"
    "    %a = matmul %xt, %vwf over=[[1],[0]] : f64[2,3]\n"
    "    %b = matmul %h, %vuf over=[[1],[0]] : f64[2,3]\n"
    "    %ab = add %a, %b : f64[2,3]\n"
    "    %bb = broadcast %vb axes=[0] : f64[2,3]\n"
    "    %abb = sub %ab, %bb : f64[2,3]\n"
    "    %f = sigmoid %abb : f64[2,3]\n"
    "    %fh = mul %f, %h : f64[2,3]\n"
    "    %c = matmul %xt, %vwn over=[[1],[0]] : f64[2,3]\n"
    "    %d = matmul %fh, %vun over=[[1],[0]] : f64[2,3]\n"
    "    %cd = add %c, %d : f64[2,3]\n"
    "    %es = exp %vs : f64[2,3]\n"
    "    %sc = mul %cd, %es : f64[2,3]\n"
    "    %n = tanh %sc : f64[2,3]\n"
    "    %dn = sub %n, %h : f64[2,3]\n"
    "    %fd = mul %f, %dn : f64[2,3]\n"
    "    %hn = add %h, %fd : f64[2,3]\n"
    "    return %hn, %n\n"
    "  }\n"
    "  %last = get %s index=0 : f64[2,3]\n"
    "  %ns = get %s index=1 : f64[3,2,3]\n"
    "  return %last, %ns\n}\n";

/* Invariants elementwise, as an output, as a carry; carries that stay, integers, an unused one. */
static const char odd_uses[] =
    "graph (%h0: f64[3], %k0: f64[3], %n0: i32[], %x: f64[4,3], %m: bool[4,3], %w: f64[3], "
    "%v: f64[3], %unused: f64[2]) {\n"
    "  %s = scan %h0, %k0, %n0, %x, %m, %w, %v, %unused carry=3 step=2 trip=4 (%h: f64[3], "
    "%k: f64[3], %n: i32[], %xt: f64[3], %mt: bool[3], %w: f64[3], %v: f64[3], %u: f64[2]) {\n"
    "    %one = const 0x1p+0 : i32[]\n"
    "    %nn = add %n, %one : i32[]\n"
    "    %nf = cast %nn : f64[]\n"
    "    %nb = broadcast %nf axes=[0] : f64[3]\n"
    "    %a = mul %h, %w : f64[3]\n"
    "    %b = mul %a, %xt : f64[3]\n"
    "    %c = select %mt, %b, %v : f64[3]\n"
    "    %d = max %c, %k : f64[3]\n"
    "    %e = mul %d, %nb : f64[3]\n"
    "    %ww = mul %w, %w : f64[3]\n"
    "    return %e, %k, %nn, %w, %ww, %k, %xt\n"
    "  }\n"
    "  %y0 = get %s index=0 : f64[3]\n"
    "  %y1 = get %s index=1 : f64[3]\n"
    "  %y3 = get %s index=3 : f64[4,3]\n"
    "  %y4 = get %s index=4 : f64[4,3]\n"
    "  %y5 = get %s index=5 : f64[4,3]\n"
    "  %y6 = get %s index=6 : f64[4,3]\n"
    "  return %y0, %y1, %y3, %y4, %y5, %y6\n}\n";

/* A scan in a scan, both with weights in products. */
static const char nested[] =
    "graph (%h0: f64[2,3], %x: f64[3,2,2,4], %w: f64[4,3], %u: f64[3,3]) {\n"
    "  %s = scan %h0, %x, %w, %u carry=1 step=1 trip=3 (%h: f64[2,3], %xt: f64[2,2,4], "
    "%w: f64[4,3], %u: f64[3,3]) {\n"
    "    %z = const 0x0p+0 : f64[2,3]\n"
    "    %t = scan %z, %xt, %w, %h carry=1 step=1 trip=2 (%g: f64[2,3], %xi: f64[2,4], "
    "%w: f64[4,3], %hh: f64[2,3]) {\n"
    "      %p = matmul %xi, %w over=[[1],[0]] : f64[2,3]\n"
    "      %q = add %p, %hh : f64[2,3]\n"
    "      %r = tanh %q : f64[2,3]\n"
    "      %gn = add %g, %r : f64[2,3]\n"
    "      return %gn, %r\n"
    "    }\n"
    "    %sum = get %t index=0 : f64[2,3]\n"
    "    %rs = get %t index=1 : f64[2,2,3]\n"
    "    %hu = matmul %sum, %u over=[[1],[0]] : f64[2,3]\n"
    "    %hn = sigmoid %hu : f64[2,3]\n"
    "    %e = sum %rs axes=[0] : f64[2,3]\n"
    "    return %hn, %e\n"
    "  }\n"
    "  %last = get %s index=0 : f64[2,3]\n"
    "  %es = get %s index=1 : f64[3,2,3]\n"
    "  return %last, %es\n}\n";

/* Products with fixed factors on the left, batches, a product of what is turned. */
static const char products[] =
    "graph (%h0: f64[2,3], %x: f64[3,2,4], %w: f64[3,4], %m: f64[2,3,3], %a: f64[2,2]) {\n"
    "  %s = scan %h0, %x, %w, %m, %a carry=1 step=1 trip=3 (%h: f64[2,3], %xt: f64[2,4], "
    "%w: f64[3,4], %m: f64[2,3,3], %a: f64[2,2]) {\n"
    "    %p = matmul %w, %xt over=[[1],[1]] : f64[3,2]\n"
    "    %pt = transpose %p perm=[1,0] : f64[2,3]\n"
    "    %q = matmul %h, %m over=[[1],[2]] batch=[[0],[0]] : f64[2,3]\n"
    "    %ah = matmul %a, %h over=[[0],[0]] : f64[2,3]\n"
    "    %aa = matmul %a, %ah over=[[1],[0]] : f64[2,3]\n"
    "    %s0 = add %pt, %q : f64[2,3]\n"
    "    %s1 = add %s0, %aa : f64[2,3]\n"
    "    %hn = tanh %s1 : f64[2,3]\n"
    "    return %hn\n"
    "  }\n"
    "  %last = get %s index=0 : f64[2,3]\n"
    "  return %last\n}\n";

static void test_scans(void **state)
{
    (void)state;
    static const char *const text[] = { mgu, odd_uses, nested, products };
    Ctx ctx, *cx = &ctx;
    ctx_init(cx);
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        Arena *arena = arena_new();
        check_text(cx, arena, text[i], 10 + i);
        arena_free(arena);
    }
}

/* The gradient of a gradient, by differences of the first. */
static void test_second_order(void **state)
{
    (void)state;
    static const char text[] =
        "graph (%h0: f64[2], %x: f64[3,2], %w: f64[2]) {\n"
        "  %s = scan %h0, %x, %w carry=1 step=1 trip=3 (%h: f64[2], %xt: f64[2], %w: f64[2]) {\n"
        "    %a = mul %h, %w : f64[2]\n"
        "    %b = add %a, %xt : f64[2]\n"
        "    %c = tanh %b : f64[2]\n"
        "    return %c\n"
        "  }\n"
        "  %last = get %s index=0 : f64[2]\n"
        "  %sq = mul %last, %last : f64[2]\n"
        "  %loss = sum %sq axes=[0] : f64[]\n"
        "  %g = grad %loss, %w, %x\n"
        "  %dw = get %g index=0 : f64[2]\n"
        "  %dx = get %g index=1 : f64[3,2]\n"
        "  return %dw, %dx\n}\n";
    Ctx ctx, *cx = &ctx;
    ctx_init(cx);
    Arena *arena = arena_new();
    Graph *g, *first = graph_new(arena);
    OK(graph_parse(cx, arena, "test", text, &g));
    OK(autodiff_expand(cx, g, first));
    Ref value[] = { first->out[0].value, first->out[1].value };
    gradient_check_all(cx, first, value, 2, false, 30);
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lstm),
        cmocka_unit_test(test_only_what_is_wanted),
        cmocka_unit_test(test_lstm_last),
        cmocka_unit_test(test_gru_reverse),
        cmocka_unit_test(test_scans),
        cmocka_unit_test(test_second_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
