/* SPDX-License-Identifier: Apache-2.0 */
/* Gradients against forward mode and central differences, in f64: every op that has one, from the
 * op table; and what they are at kinks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ir/autodiff.h"
#include "ir/build.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "tests/gradient_check.h"

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s: %s", #call, cx->msg);                                                    \
    } while (0)

/* One case of an op: appends inputs and the op, returns it; REF_NONE when there is no such case. */
typedef Ref CaseFn(Builder *b, Op op, int variant);

#define S(...)                                                                                     \
    shape_list((const int64_t[]){ __VA_ARGS__ }, (int)(sizeof(int64_t[]){ __VA_ARGS__ } / 8))

static Shape shape_list(const int64_t *dim, int rank)
{
    Shape s = { .rank = (int8_t)rank };
    memcpy(s.dim, dim, (size_t)rank * sizeof *dim);
    return s;
}

static Ref real(Builder *b, const char *name, Shape s)
{
    return build_input(b, INPUT_param, name, DT_F64, s);
}

static Ref elementwise_case(Builder *b, Op op, int variant)
{
    static const int64_t extent[][3] = { { 1 },    { 0 },       { 2 },      { 5 },
                                         { 3, 1 }, { 2, 0, 3 }, { 3, 2, 5 } };
    static const int rank[] = { 1, 1, 1, 1, 2, 3, 3 };
    if (variant > 7)
        return REF_NONE;
    Shape s = { 0 };
    if (variant < 7) {
        s.rank = (int8_t)rank[variant];
        memcpy(s.dim, extent[variant], sizeof extent[variant]);
    }
    if (op == OP_select)
        return build_select(b, build_input(b, INPUT_batch, "c", DT_BOOL, s), real(b, "x", s),
                            real(b, "y", s));
    if (op == OP_cast) { /* through f32, which is exact in the f64 evaluator */
        const Ref low = build_cast(b, real(b, "x", s), DT_F32);
        return build_cast(b, low, DT_F64);
    }
    const Ref x = real(b, "x", s);
    if (op == OP_stop_gradient) { /* of the mean in a variance: there it leaves the slope as it is */
        const unsigned all = (1u << s.rank) - 1;
        const int64_t n = shape_count(&s);
        const Ref mean = build_scale(b, build_reduce(b, OP_sum, x, all), n ? 1.0 / (double)n : 0);
        const Ref d = build_op2(b, OP_sub, x, build_like(b, build_op1(b, op, mean), x, all));
        return build_reduce(b, OP_sum, build_op2(b, OP_mul, d, d), all);
    }
    return op_info[op].nargs == 1 ? build_op1(b, op, x) : build_op2(b, op, x, real(b, "y", s));
}

static Ref reshape_case(Builder *b, Op op, int variant)
{
    (void)op;
    switch (variant) {
    case 0:
        return build_reshape(b, real(b, "x", S(3, 4)), S(2, 1, 6));
    case 1:
        return build_reshape(b, real(b, "x", S(1)), (Shape){ 0 });
    case 2:
        return build_reshape(b, real(b, "x", S(0, 4)), S(0));
    default:
        return REF_NONE;
    }
}

static Ref transpose_case(Builder *b, Op op, int variant)
{
    (void)op;
    switch (variant) {
    case 0:
        return build_transpose(b, real(b, "x", S(3, 4)), (int[]){ 1, 0 });
    case 1:
        return build_transpose(b, real(b, "x", S(2, 3, 1, 5)), (int[]){ 2, 0, 3, 1 });
    case 2:
        return build_transpose(b, real(b, "x", S(2, 3, 4)), (int[]){ 1, 2, 0 });
    default:
        return REF_NONE;
    }
}

static Ref broadcast_case(Builder *b, Op op, int variant)
{
    (void)op;
    switch (variant) {
    case 0:
        return build_broadcast(b, real(b, "x", S(4)), S(3, 4), 1);
    case 1:
        return build_broadcast(b, real(b, "x", S(4)), S(3, 4, 5), 5);
    case 2:
        return build_broadcast(b, real(b, "x", (Shape){ 0 }), S(2, 3), 3);
    case 3:
        return build_broadcast(b, real(b, "x", S(4)), S(0, 4), 1);
    default:
        return REF_NONE;
    }
}

static Ref slice_node(Builder *b, Ref x, Shape s, const int64_t *lo, const int64_t *step)
{
    Node n = { .op = OP_slice, .nargs = 1, .arg = &x, .type = { DT_F64, s } };
    memcpy(n.attr.slice.lo, lo, (size_t)s.rank * sizeof *lo);
    memcpy(n.attr.slice.step, step, (size_t)s.rank * sizeof *step);
    Ref r = REF_NONE;
    if (b->status == ST_OK)
        b->status = graph_add(b->cx, b->g, &n, &r);
    return r;
}

static Ref slice_case(Builder *b, Op op, int variant)
{
    (void)op;
    const Ref x = variant < 5 ? real(b, "x", S(7, 5)) : REF_NONE;
    switch (variant) {
    case 0:
        return build_slice(b, x, 0, 2, 3);
    case 1:
        return slice_node(b, x, S(3, 2), (int64_t[]){ 1, 0 }, (int64_t[]){ 2, 3 });
    case 2:
        return slice_node(b, x, S(4, 5), (int64_t[]){ 6, 4 }, (int64_t[]){ -2, -1 });
    case 3:
        return build_slice(b, x, 1, 5, 0);
    case 4:
        return build_reverse(b, x, 0);
    case 5: { /* tiles, a gap, an overlap and a corner of one value */
        const Ref z = real(b, "z", S(3, 9));
        const Ref lo = build_slice(b, z, 1, 0, 2), mid = build_slice(b, z, 1, 2, 2);
        const Ref over = build_slice(b, z, 1, 3, 2), end = build_slice(b, z, 1, 7, 2);
        const Ref corner = slice_node(b, z, S(3, 2), (int64_t[]){ 0, 1 }, (int64_t[]){ 1, 5 });
        const Ref row = build_slice(b, z, 0, 1, 1);
        const Ref part =
            build_op2(b, OP_mul, build_op2(b, OP_mul, lo, mid), build_op1(b, OP_exp, over));
        return build_concat(b,
                            (Ref[]){ build_op2(b, OP_mul, part, end), build_op1(b, OP_exp, corner),
                                     build_broadcast(b, build_reshape(b, row, S(9)), S(3, 9), 1) },
                            3, 1);
    }
    default:
        return REF_NONE;
    }
}

static Ref pad_case(Builder *b, Op op, int variant)
{
    (void)op;
    static const int64_t extent[] = { 4, 1, 0 };
    if (variant > 2)
        return REF_NONE;
    const Ref x = real(b, "x", S(extent[variant], 2));
    Node n = { .op = OP_pad, .nargs = 1, .arg = &x };
    n.attr.pad.lo[0] = 2, n.attr.pad.hi[0] = 1, n.attr.pad.step[0] = 3;
    n.attr.pad.lo[1] = 0, n.attr.pad.hi[1] = 2, n.attr.pad.step[1] = 1;
    n.attr.pad.value = 0.5;
    Ref r = REF_NONE;
    if (b->status == ST_OK)
        b->status = graph_add(b->cx, b->g, &n, &r);
    return r;
}

static Ref concat_case(Builder *b, Op op, int variant)
{
    (void)op;
    if (variant > 1)
        return REF_NONE;
    const int axis = variant;
    Shape s[3] = { S(2, 2), S(2, 2), S(2, 2) };
    s[0].dim[axis] = 3, s[1].dim[axis] = 0, s[2].dim[axis] = 1;
    const Ref x = real(b, "x", s[0]);
    return build_concat(b, (Ref[]){ x, real(b, "y", s[1]), real(b, "z", s[2]), x }, 4, axis);
}

static Ref window_case(Builder *b, Op op, int variant)
{
    static const struct {
        int64_t kernel[2], stride[2], dilation[2];
    } of[] = {
        { { 3, 1 }, { 1, 1 }, { 1, 1 } },
        { { 2, 3 }, { 2, 1 }, { 3, 1 } },
        { { 2, 2 }, { 3, 2 }, { 1, 2 } },
    };
    if (variant > 2)
        return REF_NONE;
    const Shape whole = S(2, 7, 5, 3);
    Ref x = op == OP_window ? real(b, "x", whole) : REF_NONE;
    if (op == OP_fold) { /* the shape of windows, from a graph of its own */
        Builder other = build_start(b->cx, graph_new(b->g->arena));
        const Ref w = build_window(&other, real(&other, "x", whole), 2, (int[]){ 1, 2 },
                                   of[variant].kernel, of[variant].stride, of[variant].dilation);
        x = real(b, "x", build_type(&other, w).shape);
        Node n = { .op = OP_fold, .nargs = 1, .arg = &x, .attr = other.g->node[w].attr };
        n.attr.window.extent[0] = 7, n.attr.window.extent[1] = 5;
        Ref r = REF_NONE;
        b->status = graph_add(b->cx, b->g, &n, &r);
        return r;
    }
    return build_window(b, x, 2, (int[]){ 1, 2 }, of[variant].kernel, of[variant].stride,
                        of[variant].dilation);
}

static Ref gather_case(Builder *b, Op op, int variant)
{
    static const struct {
        int axis, nindex;
        int64_t index[3];
    } of[] = { { 0, 2, { 3, 2 } }, { 1, 2, { 4, 3 } }, { 2, 2, { 4, 5 } }, { 0, 1, { 0 } } };
    if (variant > 3)
        return REF_NONE;
    const int axis = of[variant].axis, n = of[variant].nindex;
    const Shape table = S(4, 5, 3);
    Shape index = { .rank = (int8_t)n }, items = index;
    for (int i = 0; i < n; i++)
        items.dim[i] = index.dim[i] = of[variant].index[i];
    for (int i = axis + 1; i < 3; i++)
        items.dim[items.rank++] = table.dim[i];
    /* 3, -1, 0, 2, 7, 1 ..: repeated ones, and some outside */
    const Type t = { DT_I32, index };
    Ref at = build_const(b, 1, t);
    if (n == 2)
        at = build_op2(b, OP_sub, build_op2(b, OP_mul, build_iota(b, t, 1), build_iota(b, t, 0)),
                       at);
    return op == OP_gather ? build_gather(b, real(b, "x", table), at, axis)
                           : build_scatter_add(b, real(b, "x", items), at, axis, table.dim[axis]);
}

static Ref cumsum_case(Builder *b, Op op, int variant)
{
    (void)op;
    static const int axis[] = { 0, 1, 2, 0 };
    if (variant > 3)
        return REF_NONE;
    return build_cumsum(b, real(b, "x", variant == 3 ? S(0, 3) : S(3, 5, 1)), axis[variant]);
}

static Ref reduce_case(Builder *b, Op op, int variant)
{
    switch (variant) {
    case 0:
        return build_reduce(b, op, real(b, "x", S(2, 3, 4)), 2);
    case 1:
        return build_reduce(b, op, real(b, "x", S(2, 3, 4)), 5);
    case 2:
        return build_reduce(b, op, real(b, "x", S(1, 5)), 3);
    case 3:
        return build_reduce(b, op, real(b, "x", S(3, 0)), 1);
    case 4:
        return build_reduce(b, op, real(b, "x", S(3, 2)), 0);
    case 5:
        return op == OP_sum ? build_reduce(b, op, real(b, "x", S(0, 3)), 1) : REF_NONE;
    default:
        return REF_NONE;
    }
}

typedef struct Contract {
    int a_rank, b_rank;
    int64_t a[MAX_RANK], b[MAX_RANK];
    Attr attr;
} Contract;

static const Contract contracts[] = {
    { 2, 2, { 3, 4 }, { 4, 5 }, { .contract = { 1, 0, { 1 }, { 0 } } } },
    { 2, 2, { 3, 4 }, { 5, 4 }, { .contract = { 1, 0, { 1 }, { 1 } } } },
    { 2, 2, { 4, 3 }, { 4, 5 }, { .contract = { 1, 0, { 0 }, { 0 } } } },
    { 2, 2, { 4, 3 }, { 5, 4 }, { .contract = { 1, 0, { 0 }, { 1 } } } },
    { 2, 2, { 3, 0 }, { 0, 5 }, { .contract = { 1, 0, { 1 }, { 0 } } } },
    { 2, 2, { 1, 1 }, { 1, 1 }, { .contract = { 1, 0, { 1 }, { 0 } } } },
    { 3, 3, { 2, 3, 4 }, { 2, 4, 5 }, { .contract = { 1, 1, { 2 }, { 1 }, { 0 }, { 0 } } } },
    { 4,
      4,
      { 3, 2, 5, 2 },
      { 2, 2, 5, 3 },
      { .contract = { 1, 2, { 2 }, { 2 }, { 1, 0 }, { 0, 3 } } } },
    { 3, 3, { 2, 3, 4 }, { 4, 3, 2 }, { .contract = { 2, 0, { 1, 2 }, { 1, 0 } } } },
    { 3, 4, { 2, 3, 4 }, { 3, 5, 4, 2 }, { .contract = { 2, 0, { 2, 1 }, { 2, 0 } } } },
    { 1, 1, { 3 }, { 4 }, { .contract = { 0 } } },
    { 1, 1, { 3 }, { 3 }, { .contract = { 1, 0, { 0 }, { 0 } } } },
};

static Ref matmul_case(Builder *b, Op op, int variant)
{
    const int count = (int)(sizeof contracts / sizeof *contracts);
    if (variant > count)
        return REF_NONE;
    if (variant == count) { /* both operands the same value */
        const Ref x = real(b, "x", S(3, 3));
        return build_matmul(b, x, x);
    }
    const Contract *c = &contracts[variant];
    if (c->attr.contract.nover == 1 &&
        c->a[c->attr.contract.over_a[0]] != c->b[c->attr.contract.over_b[0]])
        fail_msg("contract %d does not fit", variant);
    Shape a = { .rank = (int8_t)c->a_rank }, d = { .rank = (int8_t)c->b_rank };
    memcpy(a.dim, c->a, (size_t)c->a_rank * sizeof *a.dim);
    memcpy(d.dim, c->b, (size_t)c->b_rank * sizeof *d.dim);
    const Ref arg[] = { real(b, "x", a), real(b, "y", d) };
    const Node n = { .op = op, .nargs = 2, .arg = arg, .attr = c->attr };
    Ref r = REF_NONE;
    if (b->status == ST_OK)
        b->status = graph_add(b->cx, b->g, &n, &r);
    return r;
}

/* y = last carry + steps of h' = h * x + w; get takes both. */
static Ref scan_case(Builder *b, Op op, int variant)
{
    (void)op;
    static const int64_t trips[] = { 0, 1, 2, 5 };
    if (variant > 7)
        return REF_NONE;
    const int64_t trip = trips[variant / 2];
    Graph *body = graph_new(b->g->arena);
    Builder in = build_start(b->cx, body);
    const Ref h = build_input(&in, INPUT_batch, "h", DT_F64, S(3));
    const Ref x = build_input(&in, INPUT_batch, "x", DT_F64, S(3));
    const Ref w = build_input(&in, INPUT_batch, "w", DT_F64, S(3));
    const Ref next = build_op2(&in, OP_add, build_op2(&in, OP_mul, h, x), w);
    build_output(&in, next, NULL);
    build_output(&in, build_op1(&in, OP_tanh, next), NULL);
    if (in.status != ST_OK)
        b->status = in.status;
    const Ref arg[] = { real(b, "h0", S(3)), real(b, "xs", S(trip, 3)), real(b, "w", S(3)) };
    const Ref scan = build_scan(b, body, arg, 3, 1, 1, trip, variant % 2);
    const Ref last = build_reshape(b, build_get(b, scan, 0), S(1, 3));
    return build_concat(b, (Ref[]){ last, build_get(b, scan, 1) }, 2, 0);
}

static CaseFn *const structural_case[OP_COUNT] = {
    [OP_reshape] = reshape_case,
    [OP_transpose] = transpose_case,
    [OP_broadcast] = broadcast_case,
    [OP_slice] = slice_case,
    [OP_pad] = pad_case,
    [OP_concat] = concat_case,
    [OP_window] = window_case,
    [OP_fold] = window_case,
    [OP_gather] = gather_case,
    [OP_scatter_add] = gather_case,
    [OP_sum] = reduce_case,
    [OP_amax] = reduce_case,
    [OP_cumsum] = cumsum_case,
    [OP_matmul] = matmul_case,
    [OP_scan] = scan_case,
    [OP_get] = scan_case,
};

static const char *const gradient_name[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad) [OP_##id] = #grad,
#include "ir/ops.def"
};

static void check_op(Ctx *cx, Op op)
{
    CaseFn *make = op_info[op].cls == CLASS_ELEMENTWISE ? elementwise_case : structural_case[op];
    if (make == NULL)
        fail_msg("%s has a gradient (%s) and no test case", op_info[op].name, gradient_name[op]);
    const bool positive = op == OP_sqrt || op == OP_rsqrt || op == OP_log || op == OP_div;
    for (int variant = 0;; variant++) {
        Arena *arena = arena_new();
        Builder b = build_start(cx, graph_new(arena));
        const Ref y = make(&b, op, variant);
        if (b.status != ST_OK)
            fail_msg("%s, case %d: %s", op_info[op].name, variant, cx->msg);
        if (y != REF_NONE)
            gradient_check_all(cx, b.g, &y, 1, positive, (uint64_t)(100 * op + variant));
        arena_free(arena);
        if (y == REF_NONE) {
            assert_true(variant > 0);
            return;
        }
    }
}

static void test_every_op(void **state)
{
    (void)state;
    Ctx ctx, *cx = &ctx;
    ctx_init(cx);
    int checked = 0;
    for (Op op = 1; op < OP_COUNT; op++) {
        if (strcmp(gradient_name[op], "none") == 0)
            continue;
        check_op(cx, op);
        checked++;
    }
    assert_true(checked >= 30);
}

/* d(sum of y * w) / dx at kinks and ties; NULL where x is not an input. */
static void check_kink(const char *op_line, const double *x, int n, const double *want)
{
    Ctx ctx, *cx = &ctx;
    ctx_init(cx);
    Arena *arena = arena_new();
    const char *text = arena_printf(arena,
                                    "graph (%%x: f64[2,%d]) {\n"
                                    "  %%zero = const 0x0p+0 : f64[2,%d]\n"
                                    "%s"
                                    "  %%g = grad %%loss, %%x\n"
                                    "  %%dx = get %%g index=0 : f64[2,%d]\n"
                                    "  return %%dx\n}\n",
                                    n / 2, n / 2, op_line, n / 2);
    Graph *g, *expanded = graph_new(arena);
    OK(graph_parse(cx, arena, "test", text, &g));
    OK(autodiff_expand(cx, g, expanded));
    Tensor in = tensor_new(arena, g->node[g->input[0]].type), out;
    memcpy(in.at, x, (size_t)n * sizeof *x);
    OK(eval_graph(cx, expanded, EVAL_F64, arena, &in, &out));
    for (int i = 0; i < n; i++)
        assert_true(out.at[i] == want[i]);
    arena_free(arena);
}

static void test_kinks(void **state)
{
    (void)state;
    const double x[] = { 3, 1, 3, 0, -2, 0 };
    check_kink("  %m = amax %x axes=[0,1] : f64[]\n  %loss = mul %m, %m : f64[]\n", x, 6,
               (double[]){ 6, 0, 0, 0, 0, 0 });
    check_kink("  %m = amax %x axes=[1] : f64[2]\n  %loss = sum %m axes=[0] : f64[]\n", x, 6,
               (double[]){ 1, 0, 0, 1, 0, 0 });
    check_kink("  %m = amax %x axes=[0] : f64[3]\n  %loss = sum %m axes=[0] : f64[]\n", x, 6,
               (double[]){ 1, 1, 1, 0, 0, 0 });
    check_kink("  %m = max %x, %zero : f64[2,3]\n  %loss = sum %m axes=[0,1] : f64[]\n", x, 6,
               (double[]){ 1, 1, 1, 0, 0, 0 });
    check_kink("  %m = min %zero, %x : f64[2,3]\n  %loss = sum %m axes=[0,1] : f64[]\n", x, 6,
               (double[]){ 0, 0, 0, 1, 1, 1 });
    check_kink("  %m = abs %x : f64[2,3]\n  %loss = sum %m axes=[0,1] : f64[]\n", x, 6,
               (double[]){ 1, 1, 1, 0, -1, 0 });
    check_kink("  %s = stop_gradient %x : f64[2,3]\n  %m = mul %x, %s : f64[2,3]\n"
               "  %loss = sum %m axes=[0,1] : f64[]\n", x, 6, x);
}

static void test_no_gradient(void **state)
{
    (void)state;
    static const char text[] = "graph (%x: f64[3]) {\n"
                               "  %m = amin %x axes=[0] : f64[]\n"
                               "  %g = grad %m, %x\n"
                               "  %dx = get %g index=0 : f64[3]\n"
                               "  return %dx\n}\n";
    Ctx ctx, *cx = &ctx;
    ctx_init(cx);
    Arena *arena = arena_new();
    Graph *g;
    OK(graph_parse(cx, arena, "test", text, &g));
    assert_int_equal(autodiff_expand(cx, g, graph_new(arena)), ST_VALUE);
    assert_non_null(strstr(cx->msg, "amin has no gradient"));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_op),
        cmocka_unit_test(test_kinks),
        cmocka_unit_test(test_no_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
