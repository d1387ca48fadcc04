/* SPDX-License-Identifier: Apache-2.0 */
/* Every op of the table, on every dtype that it accepts, compiled, at boundary shapes, against the
 * evaluator: the cases of op_cases.c.  No element is skipped.  GTC_CASES: only those whose name has
 * that in it, as "cast" or "of f16". */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/cc.h"
#include "tests/op_cases.h"

enum { BATCH = 60, MOST_WORKERS = 4 };

typedef struct Worker {
    const OpCases *s;
    int first, step; /* batches first, first + step .. */
    KernelTally tally;
} Worker;

static void *work(void *p)
{
    Worker *w = p;
    const int lanes = cc_lanes();
    for (int i = w->first * BATCH; i < w->s->n; i += w->step * BATCH)
        kernel_batch_run(w->s->c + i, w->s->n - i < BATCH ? w->s->n - i : BATCH, lanes, &w->tally);
    return NULL;
}

static void check_table(const OpCases *s)
{
    int pairs = 0;
    for (Op op = 1; op < OP_COUNT; op++) {
        const uint8_t cls = op_info[op].cls;
        int dtypes = 0;
        for (int d = 0; d < DT_COUNT; d++)
            dtypes += s->seen[op][d];
        pairs += dtypes;
        /* a fusion holds each case, and has no fusion in it */
        if (dtypes == 0 && cls != CLASS_GRADIENT && op != OP_fusion)
            fail_msg("no case of op %s", op_info[op].name);
    }
    print_message("%d pairs of op and dtype\n", pairs);
}

/* Only cases whose name has that in it. */
static void keep_named(OpCases *s, const char *part)
{
    int n = 0;
    for (int i = 0; i < s->n; i++)
        if (!part || strstr(s->c[i].name, part))
            s->c[n++] = s->c[i];
    s->n = n;
}

static void every_op_dtype_and_shape(void **state)
{
    (void)state;
    OpCases *s = op_cases_new();
    check_table(s);
    keep_named(s, getenv("GTC_CASES"));

    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int n = cores < 1 ? 1 : cores < MOST_WORKERS ? (int)cores : MOST_WORKERS;
    Worker w[MOST_WORKERS];
    pthread_t thread[MOST_WORKERS];
    KernelTally all = { 0 };
    for (int i = 0; i < n; i++) {
        w[i] = (Worker){ .s = s, .first = i, .step = n };
        assert_int_equal(pthread_create(&thread[i], NULL, work, &w[i]), 0);
    }
    for (int i = 0; i < n; i++) {
        pthread_join(thread[i], NULL);
        all.kernels += w[i].tally.kernels;
        all.plain += w[i].tally.plain;
        all.wrong += w[i].tally.wrong;
        all.elements += w[i].tally.elements;
        if (w[i].tally.wrong)
            print_error("%s\n", w[i].tally.first);
    }
    print_message("%d kernels, %d of the last resort; %lld elements compared, none skipped\n",
                  all.kernels, all.plain, (long long)all.elements);
    assert_int_equal(all.kernels, s->n);
    op_cases_free(s);
    assert_int_equal(all.wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_op_dtype_and_shape) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
