/* SPDX-License-Identifier: Apache-2.0 */
/* Edges order what conflicts, nothing is ordered that need not be, and no edge follows from the
 * others: by hand, and against all paths on random lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "ir/base/rng.h"
#include "runtime/edge.h"

enum { MAX = 40 };

static bool conflict(const TouchList *s, int i, int j)
{
    for (int a = s->first[i]; a < s->first[i + 1]; a++)
        for (int b = s->first[j]; b < s->first[j + 1]; b++) {
            const Touch *x = &s->touch[a], *y = &s->touch[b];
            for (uint64_t k = x->at; k < x->at + (uint64_t)x->bytes; k++)
                if ((x->writes || y->writes) && k >= y->at && k < y->at + (uint64_t)y->bytes)
                    return true;
        }
    return false;
}

/* before[i][j]: j is ordered before i, by the edges but for `without`. */
static void paths(const EdgeList *e, int n, int without, bool before[MAX][MAX])
{
    memset(before, 0, sizeof(bool[MAX][MAX]));
    for (int i = 0; i < n; i++)
        for (int k = e->first[i]; k < e->first[i + 1]; k++) {
            const int j = e->from[k];
            assert_in_range(j, 0, i - 1);
            if (k == without)
                continue;
            before[i][j] = true;
            for (int m = 0; m < j; m++)
                before[i][m] |= before[j][m];
        }
}

static void check(const TouchList *s, const EdgeList *e)
{
    static bool all[MAX][MAX], less[MAX][MAX];
    paths(e, s->n, -1, all);
    for (int i = 0; i < s->n; i++)
        for (int j = 0; j < i; j++)
            if (conflict(s, i, j))
                assert_true(all[i][j]);
    for (int i = 0; i < s->n; i++)
        for (int k = e->first[i]; k < e->first[i + 1]; k++) {
            assert_true(conflict(s, i, e->from[k]));
            paths(e, s->n, k, less);
            assert_false(less[i][e->from[k]]);
        }
}

static void a_chain_a_branch_and_reuse(void **state)
{
    (void)state;
    /* 0 writes a; 1 reads a, writes b; 2 reads a, writes c; 3 reads b and c, writes d;
     * 4 writes another value where a was: after its readers, though it reads nothing; 5 is alone */
    static const Touch touch[] = {
        { 100, 10, true }, { 100, 10, false }, { 200, 10, true },  { 105, 1, false },
        { 300, 10, true }, { 200, 10, false }, { 300, 10, false }, { 400, 10, true },
        { 90, 11, true },  { 110, 10, true },  { 100, 0, false },
    };
    static const int32_t first[] = { 0, 1, 3, 5, 8, 9, 11 };
    static const int32_t want_first[] = { 0, 0, 1, 2, 4, 5, 5 }, want[] = { 0, 0, 2, 1, 1 };
    const TouchList s = { touch, first, 6 };
    Arena *a = arena_new();
    const EdgeList e = edge_find(a, &s);
    /* 4 overlaps byte 100 of a: 1 reads it, 2 reads byte 105 only */
    assert_memory_equal(e.first, want_first, sizeof want_first);
    assert_memory_equal(e.from, want, sizeof want);
    check(&s, &e);
    arena_free(a);
}

static void random_lists(void **state)
{
    (void)state;
    int edges = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        Rng rng;
        Touch touch[4 * MAX];
        int32_t first[MAX + 1] = { 0 };
        rng_init(&rng, seed, 0);
        const int n = (int)rng_below(&rng, MAX + 1);
        for (int i = 0; i < n; i++) {
            first[i + 1] = first[i] + (int32_t)rng_below(&rng, 5);
            for (int k = first[i]; k < first[i + 1]; k++)
                touch[k] = (Touch){ rng_below(&rng, 200), (int64_t)rng_below(&rng, 12),
                                    rng_below(&rng, 3) == 0 };
        }
        const TouchList s = { touch, first, n };
        Arena *a = arena_new();
        const EdgeList e = edge_find(a, &s);
        check(&s, &e);
        edges += e.first[n];
        arena_free(a);
    }
    assert_true(edges > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_a_branch_and_reuse),
        cmocka_unit_test(random_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
