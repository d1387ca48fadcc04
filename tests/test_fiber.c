/* SPDX-License-Identifier: Apache-2.0 */
/* The host's CUDA threads on ucontext, which machines without a switch of their own take: all of
 * the runner on top of it does what it does here.  The file stands in for the library's own. */
#define FIBER_UCONTEXT 1
#include <ucontext.h>

#include "runtime/simt_fiber.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/simt_case.h"

/* The three that have barriers, shuffles, and blocks that wait for each other. */
static void kernels_run_on_ucontext(void **state)
{
    static const char *const some[] = { "reduce", "grid", "last" };
    int ran = 0;
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    for (int i = 0; i < simt_case_count; i++)
        for (size_t k = 0; k < sizeof some / sizeof *some; k++) {
            const SimtCase *c = &simt_cases[i];
            if (strcmp(c->name, some[k]) != 0)
                continue;
            char *source = simt_case_source(c->name);
            size_t n = 0;
            char *code = simt_case_compile(c->name, source, true, &n);
            assert_non_null(code);
            for (uint32_t seed = 0; seed < 2; seed++) {
                const SimtOptions opt = { .order = seed ? SIMT_SEEDED : SIMT_FORWARD,
                                          .seed = seed,
                                          .shadow = true };
                if (simt_case_run(&cx, c, code, n, &opt) != ST_OK)
                    fail_msg("%s", cx.msg);
            }
            free(code);
            free(source);
            ran++;
        }
    assert_int_equal(ran, 3);
}

/* What a switch must keep: values of both kinds across many of them, on stacks of their own. */
typedef struct Turn {
    SimtPool *pool;
    SimtFiber *self, *back;
    int64_t whole;
    double half;
} Turn;

static void turn_run(void *arg)
{
    Turn *t = arg;
    int64_t whole = 1;
    double half = 1;
    for (;;) {
        whole = whole * 3 + 1;
        half = half * 0.5 + 1;
        t->whole = whole;
        t->half = half;
        simt_fiber_switch(t->self, t->back);
    }
}

static void a_switch_keeps_values(void **state)
{
    enum { FIBERS = 7, TURNS = 30 };
    Turn turn[FIBERS];
    SimtPool *pool;
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    assert_int_equal(simt_pool_create(&cx, FIBERS, &pool), ST_OK);
    for (int i = 0; i < FIBERS; i++) {
        turn[i] = (Turn){ .pool = pool, .back = simt_fiber_host(pool) };
        turn[i].self = simt_fiber_take(pool, turn_run, &turn[i]);
    }
    int64_t whole = 1;
    double half = 1;
    for (int k = 0; k < TURNS; k++) {
        whole = whole * 3 + 1;
        half = half * 0.5 + 1;
        for (int i = 0; i < FIBERS; i++) {
            simt_fiber_switch(simt_fiber_host(pool), turn[i].self);
            assert_true(turn[i].whole == whole && turn[i].half == half);
        }
    }
    simt_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_switch_keeps_values),
                                        cmocka_unit_test(kernels_run_on_ucontext) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
