/* SPDX-License-Identifier: Apache-2.0 */
/* The cuDNN that is installed takes our descriptors of recurrent layers and their data, which needs
 * no GPU; where the weights lie does, for its handle. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/lib_cudnn_rnn.c"

static Lib lib;

static CallRnn layer(RnnCell cell, bool two, bool rows_first)
{
    const int64_t gates = cell == RNN_LSTM ? 4 : cell == RNN_GRU ? 3 : 1;
    const int64_t steps = 5, rows = 3, in = 4, hidden = 7;
    CallRnn r = { .cell = cell,
                  .sequence = true,
                  .rows_first = rows_first,
                  .steps = steps,
                  .rows = rows,
                  .in = in,
                  .hidden = hidden,
                  .x = { 0, 3, 0, { steps, rows, in }, { rows * in, in, 1 } },
                  .w_ih = { 1, 2, 0, { gates * hidden, in }, { in, 1 } },
                  .w_hh = { 2, 2, 0, { gates * hidden, hidden }, { hidden, 1 } },
                  .bias = { { 3, 1, 0, { gates * hidden }, { 1 } },
                            { two ? 4 : -1, 1, 0, { hidden }, { 1 } } } };
    return r;
}

static Status described(Ctx *cx, const CallRnn *r)
{
    Plan *p = calloc(1, sizeof *p);
    assert_non_null(p);
    ctx_init(cx);
    plan_lay(p, r, 5);
    Status status = descriptors_make(cx, &lib, p);
    const int64_t dim[] = { 1, 1, 7, 4 }, stride[] = { 1, 1, 9, 1 };
    if (status == ST_OK)
        status = tensor_set(cx, &lib, p->from, dim, stride);
    plan_free(&lib, p);
    return status;
}

static void descriptors_are_taken(void **state)
{
    Ctx cx;
    (void)state;
    for (int cell = RNN_TANH; cell <= RNN_GRU; cell++)
        for (int two = cell == RNN_GRU; two < 2; two++)
            for (int rows_first = 0; rows_first < 2; rows_first++) {
                const CallRnn r = layer((RnnCell)cell, two, rows_first);
                if (described(&cx, &r) != ST_OK)
                    fail_msg("%s", cx.msg);
            }
}

/* It looks at what it is given. */
static void a_lie_is_found(void **state)
{
    Ctx cx;
    CallRnn r = layer(RNN_LSTM, false, false);
    (void)state;
    r.in = -1;
    assert_int_equal(described(&cx, &r), ST_ENV);
    r = layer(RNN_LSTM, false, false);
    r.steps = 0;
    assert_int_equal(described(&cx, &r), ST_ENV);
}

/* A descriptor that it gives back is read as it was set. */
static void a_tensor_is_read_back(void **state)
{
    static const int dim[] = { 1, 7, 4 }, stride[] = { 28, 4, 1 };
    cudnnTensorDescriptor_t d = NULL;
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    assert_int_equal(tensor_make(&cx, &lib, &d), ST_OK);
    assert_int_equal(lib.dnn.cudnnSetTensorNdDescriptor(d, CUDNN_DATA_FLOAT, 3, dim, stride), 0);
    assert_int_equal(as_documented(&cx, &lib, d, 7, 4), ST_OK);
    assert_int_equal(as_documented(&cx, &lib, d, 4, 7), ST_ENV);
    lib.dnn.cudnnDestroyTensorDescriptor(d);
}

int main(void)
{
    Ctx cx;
    ctx_init(&cx);
    if (cudnn_dl_open(&cx, &lib.dnn) != ST_OK) {
        fprintf(stderr, "SKIP: %s\n", cx.msg);
        return 77;
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(descriptors_are_taken),
                                        cmocka_unit_test(a_lie_is_found),
                                        cmocka_unit_test(a_tensor_is_read_back) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
