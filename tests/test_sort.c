/* SPDX-License-Identifier: Apache-2.0 */
/* sort and top_k: against qsort, with ties, NaN and infinities, in the evaluator and compiled; and
 * the gradient, which goes where the elements came from. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ir/build_nn.h"
#include "tests/program_check.h"

typedef struct Item {
    double value;
    int at;
} Item;

/* NaN above all; equal ones by place. */
static int ascending(const void *p, const void *q)
{
    const Item *a = p, *b = q;
    if (isnan(a->value) || isnan(b->value)) {
        if (!isnan(a->value) || !isnan(b->value))
            return isnan(a->value) ? 1 : -1;
    } else if (a->value != b->value) {
        return a->value < b->value ? -1 : 1;
    }
    return a->at - b->at;
}

static int descending(const void *p, const void *q)
{
    const Item *a = p, *b = q;
    const bool tie = a->value == b->value || (isnan(a->value) && isnan(b->value));
    return tie ? a->at - b->at : ascending(q, p);
}

static double awkward(int i)
{
    static const double of[] = { 1, -2, 0, 1, NAN, INFINITY, -INFINITY, 0.5, -2, NAN, 3, 1 };
    return of[i * 7 % 12];
}

static void check(DType dt, int64_t rows, int64_t n, int64_t k, bool down)
{
    Ctx cx;
    ctx_init(&cx);
    Arena *arena = arena_new();
    Graph *g = graph_new(arena);
    Builder b = build_start(&cx, g);
    const Ref x = build_input(&b, INPUT_batch, "x", dt, shape_of(2, n, rows));
    Ref at = REF_NONE;
    const Ref y = down && k < n ? build_top_k(&b, x, 0, k, &at) : build_sort(&b, x, 0, down, &at);
    assert_int_equal(b.status, ST_OK);
    assert_int_equal(graph_output(&cx, g, y, REF_NONE, "y"), ST_OK);
    assert_int_equal(graph_output(&cx, g, at, REF_NONE, "at"), ST_OK);
    Tensor in = tensor_new(arena, build_type(&b, x)), out[2];
    for (int i = 0; i < rows * n; i++)
        in.at[i] = dt == DT_F32 ? awkward(i) : (double)(i * 5 % 7 - 3);
    assert_int_equal(eval_graph(&cx, g, EVAL_F64, arena, &in, out), ST_OK);
    Item *item = arena_array(arena, Item, n + 1);
    for (int64_t r = 0; r < rows; r++) {
        for (int i = 0; i < n; i++)
            item[i] = (Item){ in.at[i * rows + r], i };
        qsort(item, (size_t)n, sizeof *item, down ? descending : ascending);
        for (int64_t i = 0; i < k; i++) {
            const double got = out[0].at[i * rows + r];
            assert_int_equal((int)out[1].at[i * rows + r], item[i].at);
            assert_true(got == item[i].value || (isnan(got) && isnan(item[i].value)));
        }
    }
    arena_free(arena);
}

static void test_orders(void **state)
{
    (void)state;
    static const int64_t extent[] = { 0, 1, 2, 3, 12, 17, 33 };
    for (size_t i = 0; i < sizeof extent / sizeof *extent; i++)
        for (int down = 0; down < 2; down++) {
            check(DT_F32, 5, extent[i], extent[i], down);
            check(DT_I32, 3, extent[i], extent[i], down);
            check(DT_F32, 4, extent[i], extent[i] / 2, true);
        }
}

/* Three steps of descent on the sum of squares of the k greatest of each row, as compiled. */
static void test_compiled(void **state)
{
    (void)state;
    static const int64_t of[][3] = { { 4, 9, 3 }, { 1, 33, 33 }, { 7, 1, 1 }, { 3, 65, 2 } };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        for (int mode = 0; mode < 2; mode++) {
            Ctx cx;
            ctx_init(&cx);
            Arena *arena = arena_new();
            Graph *g = graph_new(arena);
            Builder b = build_start(&cx, g);
            const Ref w =
                build_input(&b, INPUT_param, "w", DT_F32, shape_of(2, of[i][0], of[i][1]));
            Ref at;
            const Ref top = build_top_k(&b, w, 1, of[i][2], &at);
            const Ref loss = build_reduce(&b, OP_sum, build_op2(&b, OP_mul, top, top), 3);
            const Ref grad = build_get(&b, build_grad(&b, loss, &w, 1), 0);
            assert_int_equal(b.status, ST_OK);
            const Ref next = build_op2(&b, OP_sub, w, build_scale(&b, grad, 0.1));
            assert_int_equal(graph_output(&cx, g, loss, REF_NONE, "loss"), ST_OK);
            assert_int_equal(graph_output(&cx, g, at, REF_NONE, "at"), ST_OK);
            assert_int_equal(graph_output(&cx, g, next, w, "w"), ST_OK);
            Reference *r = reference_new(&cx, g, &(ReferenceOptions){ .steps = 3, .seed = 5 });
            const ProgramVerdict v = program_check(
                &cx, r, &(ProgramCheck){ .mode = mode ? GTC_DEFAULT : GTC_EAGER, .threads = 2 });
            if (v.wrong)
                fail_msg("%s", v.text);
            assert_true(v.compared > 0);
            reference_free(r);
            arena_free(arena);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_orders),
                                        cmocka_unit_test(test_compiled) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
