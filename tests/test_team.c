/* SPDX-License-Identifier: Apache-2.0 */
/* The team: every thread once a region, barriers that hold, memory that is seen, modes restored. */
#include "runtime/team.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <cmocka.h>

enum { MAX_T = 5, ROUNDS = 400 };

typedef struct Work {
    int seen[MAX_T];  /* calls of each thread */
    int value[MAX_T]; /* plain memory, published by barriers only */
    _Atomic int wrong;
} Work;

/* Each round every thread writes its slot, then checks all slots; a barrier that lets one thread
 * through too early makes a sum wrong. */
static void exchange(void *arg, const gtc_team *me)
{
    Work *w = arg;
    w->seen[me->tid]++;
    for (int round = 0; round < ROUNDS; round++) {
        w->value[me->tid] = round * (me->tid + 1);
        me->barrier(me->bar);
        int sum = 0;
        for (int i = 0; i < me->nt; i++)
            sum += w->value[i];
        if (sum != round * me->nt * (me->nt + 1) / 2)
            w->wrong++;
        me->barrier(me->bar);
    }
}

static void team_meets_at_barriers(void **state)
{
    (void)state;
    Ctx cx;
    ctx_init(&cx);
    for (int nt = 1; nt <= MAX_T; nt++) {
        Work w = { 0 };
        Team *t = NULL;
        assert_int_equal(team_create(&cx, nt, &t), ST_OK);
        assert_int_equal(team_size(t), nt);
        for (int run = 0; run < 5; run++)
            team_run(t, true, exchange, &w);
        team_destroy(t);
        assert_int_equal(w.wrong, 0);
        for (int i = 0; i < MAX_T; i++)
            assert_int_equal(w.seen[i], i < nt ? 5 : 0);
    }
    team_destroy(NULL);
}

static void count(void *arg, const gtc_team *me)
{
    atomic_fetch_add((_Atomic int *)arg + me->tid, 1);
}

/* Long enough apart that the workers sleep, then many in a row so that they spin. */
static void team_wakes_from_sleep(void **state)
{
    (void)state;
    Ctx cx;
    ctx_init(&cx);
    Team *t = NULL;
    _Atomic int n[2] = { 0 };
    assert_int_equal(team_create(&cx, 2, &t), ST_OK);
    for (int i = 0; i < 20; i++) {
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        team_run(t, true, count, n);
        team_run(t, true, count, n);
        team_run(t, false, count, n);
    }
    team_destroy(t);
    assert_int_equal(n[0], 60);
    assert_int_equal(n[1], 40);
}

static void halve(void *arg, const gtc_team *me)
{
    volatile float *x = arg;
    x[me->tid] = x[me->tid] * 0.5f;
}

static void team_flushes_denormals(void **state)
{
    (void)state;
    Ctx cx;
    ctx_init(&cx);
    const float tiny = 0x1p-126f;
    for (int nt = 1; nt <= 2; nt++) {
        Team *t = NULL;
        volatile float x[2] = { tiny, tiny };
        assert_int_equal(team_create(&cx, nt, &t), ST_OK);
        team_run(t, true, halve, (void *)(uintptr_t)x);
        team_destroy(t);
#if defined(__x86_64__) || defined(__aarch64__)
        for (int i = 0; i < nt; i++)
            assert_true(x[i] == 0);
#endif
        volatile float y = tiny;
        y = y * 0.5f;
        assert_true(y != 0); /* the caller's mode is its own again */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(team_meets_at_barriers),
        cmocka_unit_test(team_wakes_from_sleep),
        cmocka_unit_test(team_flushes_denormals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
