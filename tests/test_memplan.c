/* SPDX-License-Identifier: Apache-2.0 */
/* The memory plan: nothing that lives together overlaps, and what does not meet shares. */
#include "runtime/memplan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "ir/base/rng.h"

static void check(const MemBuf *b, int n, int64_t peak)
{
    for (int i = 0; i < n; i++) {
        assert_true(b[i].offset >= 0 && b[i].offset % b[i].align == 0);
        assert_true(b[i].offset + b[i].bytes <= peak);
        for (int j = 0; j < i; j++)
            if (b[i].first <= b[j].last && b[j].first <= b[i].last)
                assert_true(b[i].offset + b[i].bytes <= b[j].offset ||
                            b[j].offset + b[j].bytes <= b[i].offset);
    }
}

/* The most that is alive in any one epoch: no plan can be smaller. */
static int64_t floor_of(const MemBuf *b, int n)
{
    int64_t most = 0;
    for (int e = 0; e < 64; e++) {
        int64_t sum = 0;
        for (int i = 0; i < n; i++)
            sum += b[i].first <= e && e <= b[i].last ? b[i].bytes : 0;
        most = sum > most ? sum : most;
    }
    return most;
}

static void memplan_reuses_what_died(void **state)
{
    (void)state;
    Arena *a = arena_new();
    MemBuf chain[] = { /* x -> y -> z -> w: two at a time */
                       { 256, 64, 0, 1, 0 },
                       { 256, 64, 1, 2, 0 },
                       { 256, 64, 2, 3, 0 },
                       { 256, 64, 3, 4, 0 }
    };
    int64_t peak = memplan_solve(a, chain, 4);
    check(chain, 4, peak);
    assert_int_equal(peak, 512);

    MemBuf one_epoch[] = { { 64, 64, 3, 3, 0 }, { 128, 64, 3, 3, 0 } };
    peak = memplan_solve(a, one_epoch, 2);
    check(one_epoch, 2, peak);
    assert_int_equal(peak, 192);

    MemBuf hole[] = { /* the small one goes into the tightest hole, not to the end */
                      { 640, 64, 0, 0, 0 },
                      { 512, 64, 0, 1, 0 },
                      { 256, 64, 0, 0, 0 },
                      { 128, 64, 0, 1, 0 },
                      { 256, 64, 1, 1, 0 }
    };
    peak = memplan_solve(a, hole, 5);
    check(hole, 5, peak);
    assert_int_equal(peak, 640 + 512 + 256 + 128);

    assert_int_equal(memplan_solve(a, NULL, 0), 0);
    arena_free(a);
}

static void memplan_is_right_on_random_lives(void **state)
{
    (void)state;
    Rng r;
    rng_init(&r, 2026, 1);
    double worst = 1;
    for (int round = 0; round < 300; round++) {
        Arena *a = arena_new();
        MemBuf b[60];
        const int n = 1 + (int)rng_below(&r, 60);
        for (int i = 0; i < n; i++) {
            const int first = (int)rng_below(&r, 60);
            b[i] = (MemBuf){ .bytes = (int64_t)rng_below(&r, 10000),
                             .align = rng_below(&r, 8) ? 64 : 4096,
                             .first = first,
                             .last = first + (int)rng_below(&r, 4) };
        }
        const int64_t peak = memplan_solve(a, b, n), least = floor_of(b, n);
        check(b, n, peak);
        if (least && (double)peak / (double)least > worst)
            worst = (double)peak / (double)least;
        arena_free(a);
    }
    printf("worst peak / floor %.2f (seed 2026)\n", worst);
    assert_true(worst < 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memplan_reuses_what_died),
        cmocka_unit_test(memplan_is_right_on_random_lives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
