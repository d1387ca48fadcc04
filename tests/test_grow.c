/* SPDX-License-Identifier: Apache-2.0 */
/* The graphs that the fuzzer grows: valid, the same for the same seed, and of every op of the
 * table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ir/text.h"
#include "tests/graph_grow.h"

enum { GRAPHS = 400 };
static const GrowOptions by_seed;

static void every_op_is_grown(void **state)
{
    (void)state;
    int total[OP_COUNT] = { 0 }, in_graphs[OP_COUNT] = { 0 }, missing = 0;
    for (uint64_t seed = 1; seed <= GRAPHS; seed++) {
        Ctx cx;
        Arena *arena = arena_new();
        int count[OP_COUNT];
        ctx_init(&cx);
        graph_grow_count(graph_grow(&cx, arena, seed, &by_seed), count);
        for (Op op = 1; op < OP_COUNT; op++) {
            total[op] += count[op];
            in_graphs[op] += count[op] > 0;
        }
        arena_free(arena);
    }
    for (Op op = 1; op < OP_COUNT; op++) {
        if (op == OP_fusion) /* what passes make: a graph that holds one does not compile */
            continue;
        print_message("%-12s %6d in %3d graphs\n", op_info[op].name, total[op], in_graphs[op]);
        if (in_graphs[op] < GRAPHS / 50) {
            print_error("%s: in %d of %d graphs; tests/grow_op.c needs a rule for it, or a larger "
                        "weight\n",
                        op_info[op].name, in_graphs[op], GRAPHS);
            missing++;
        }
    }
    assert_int_equal(missing, 0);
}

static void graphs_are_valid_and_print(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= GRAPHS; seed++) {
        Ctx cx;
        Arena *arena = arena_new();
        Strbuf text = { 0 };
        Graph *back;
        ctx_init(&cx);
        const Graph *g = graph_grow(&cx, arena, seed, &by_seed);
        if (graph_verify(&cx, g) != ST_OK)
            fail_msg("seed %d: %s", (int)seed, cx.msg);
        graph_print(g, &text);
        if (graph_parse(&cx, arena, "grown", strbuf_str(&text), &back) != ST_OK)
            fail_msg("seed %d: %s", (int)seed, cx.msg);
        assert_true(graph_eq(g, back));
        assert_true(graph_eq(g, graph_grow(&cx, arena, seed, &by_seed)));
        strbuf_free(&text);
        arena_free(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_is_grown),
        cmocka_unit_test(graphs_are_valid_and_print),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
