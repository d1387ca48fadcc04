/* SPDX-License-Identifier: Apache-2.0 */
/* The gradient of random graphs, scans and all, against forward mode and central differences.
 * GTC_FUZZ_COUNT graphs, from seed GTC_FUZZ_SEED on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ir/build.h"
#include "tests/gradient_check.h"
#include "tests/random_graph.h"

static long from_env(const char *name, long otherwise)
{
    const char *s = getenv(name);
    return s && *s ? strtol(s, NULL, 10) : otherwise;
}

/* Every float that nothing uses, so that no part of the graph goes unasked. */
static int float_ends(const Graph *g, Ref *end)
{
    bool *used = arena_array(g->arena, bool, g->nnode);
    int n = 0;
    for (Ref r = 1; r < g->nnode; r++)
        for (uint32_t i = 0; i < g->node[r].nargs; i++)
            used[g->node[r].arg[i]] = true;
    for (Ref r = 1; r < g->nnode; r++)
        if (!used[r] && dtype_is_float(g->node[r].type.dt))
            end[n++] = r;
    return n;
}

static bool has_float_input(const Graph *g)
{
    for (uint32_t i = 0; i < g->ninput; i++)
        if (dtype_is_float(g->node[g->input[i]].type.dt))
            return true;
    return false;
}

/* False: nothing to differentiate by. */
static bool check_graph(Ctx *cx, uint64_t seed, GradientCount *count)
{
    const RandomOptions opt = {
        .nodes = 6 + (int)(seed % 6) * 4,
        .max_count = 300,
        .zeros = seed % 7 == 0,
        .dtypes = seed % 4 == 0,
        .bodies = seed % 2,
        .smooth = true,
        .random = true,
        .tame = true,
    };
    const GradientOptions how = { .seed = seed, .directions = 2, .floor = 1e-13 };
    Arena *arena = arena_new();
    Graph *g = random_graph(cx, arena, seed, &opt);
    Ref *end = arena_array(arena, Ref, g->nnode);
    const int n = float_ends(g, end);
    const bool any = has_float_input(g);
    if (any)
        gradient_check(cx, g, end, n, &how, count);
    arena_free(arena);
    return any;
}

static void random_graphs(void **state)
{
    (void)state;
    const long n = from_env("GTC_FUZZ_COUNT", 1500), first = from_env("GTC_FUZZ_SEED", 1);
    GradientCount count = { 0 };
    Ctx cx;
    ctx_init(&cx);
    long graphs = 0;
    for (long i = 0; i < n; i++)
        graphs += check_graph(&cx, (uint64_t)(first + i), &count);
    print_message("%ld graphs, %lld directions, %lld of them flat, %lld over a kink\n", graphs,
                  (long long)count.directions, (long long)count.flat, (long long)count.kinks);
    assert_true(count.infinite * 50 <= graphs);
    assert_true(graphs * 4 >= n * 3);
    assert_true(count.flat * 3 <= count.directions);
    assert_true(count.kinks * 20 <= count.directions);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_graphs) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
