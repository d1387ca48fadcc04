/* SPDX-License-Identifier: Apache-2.0 */
/* Order of epochs, the partial last batch, and going on from a saved position. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "train/loader.h"

enum { ROWS = 53, BATCH = 8 };

static Data *data_new(Ctx *cx, int64_t rows)
{
    static NamedShape in[] = { { "x", { .rank = 1, .dim = { 2 } } } };
    const DataConfig cfg = { .format = DATA_RANDOM,
                             .random_inputs = in,
                             .nrandom = 1,
                             .random_rows = rows,
                             .random_target = { .rank = 1, .dim = { 1 } },
                             .split = { 1, 0, 0 } };
    Data *d = NULL;
    assert_int_equal(data_open(cx, &cfg, NULL, 0, 3, NULL, &d), ST_OK);
    return d;
}

static Loader *loader_new(Ctx *cx, const Data *d, bool shuffle, uint64_t seed)
{
    Loader *l = NULL;
    assert_int_equal(loader_open(cx, d, SPLIT_TRAIN, BATCH, shuffle, seed, &l), ST_OK);
    return l;
}

/* The sample numbers of one epoch, each exactly once. */
static void epoch_read(Ctx *cx, Loader *l, int64_t order[ROWS])
{
    float x[BATCH * 2], y[BATCH];
    void *in[] = { x };
    int rows, n = 0, seen[ROWS] = { 0 };
    for (;;) {
        assert_int_equal(loader_next(cx, l, in, y, &rows), ST_OK);
        if (rows == 0)
            break;
        assert_true(rows == BATCH || n + rows == ROWS);
        for (int i = 0; i < rows; i++) {
            order[n] = loader_index(l)[i];
            seen[order[n++]]++;
        }
        for (int i = rows; i < BATCH; i++) { /* copies of a valid row */
            assert_int_equal(loader_index(l)[i], loader_index(l)[0]);
            assert_memory_equal(&x[2 * i], &x[0], 2 * sizeof x[0]);
            assert_memory_equal(&y[i], &y[0], sizeof y[0]);
        }
    }
    assert_int_equal(n, ROWS);
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(seen[i], 1);
    assert_int_equal(loader_next(cx, l, in, y, &rows), ST_OK); /* stays at the end */
    assert_int_equal(rows, 0);
}

static void epochs(void **state)
{
    Ctx cx;
    int64_t e0[ROWS], e1[ROWS], again[ROWS], other[ROWS], plain[ROWS];
    (void)state;
    ctx_init(&cx);
    Data *d = data_new(&cx, ROWS);
    Loader *l = loader_new(&cx, d, true, 5), *m = loader_new(&cx, d, true, 6),
           *p = loader_new(&cx, d, false, 5);
    assert_int_equal(loader_batches(l), 7);
    epoch_read(&cx, l, e0);
    loader_start(l, 1);
    epoch_read(&cx, l, e1);
    loader_start(l, 0);
    epoch_read(&cx, l, again);
    epoch_read(&cx, m, other);
    epoch_read(&cx, p, plain);
    assert_memory_equal(e0, again, sizeof e0);
    assert_memory_not_equal(e0, e1, sizeof e0);
    assert_memory_not_equal(e0, other, sizeof e0);
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(plain[i], i);
    loader_close(l);
    loader_close(m);
    loader_close(p);
    data_close(d);
}

static void resume(void **state)
{
    Ctx cx;
    float x[BATCH * 2], y[BATCH], x2[BATCH * 2], y2[BATCH];
    void *in[] = { x }, *in2[] = { x2 };
    (void)state;
    ctx_init(&cx);
    Data *d = data_new(&cx, ROWS);
    for (int stop = 0; stop <= 14; stop++) { /* batches before the interruption */
        Loader *l = loader_new(&cx, d, true, 5), *m = loader_new(&cx, d, true, 5);
        int rows, rows2;
        for (int i = 0; i < stop; i++) {
            if (i == 7)
                loader_start(l, 1);
            assert_int_equal(loader_next(&cx, l, in, y, &rows), ST_OK);
        }
        assert_int_equal(loader_seek(&cx, m, loader_pos(l)), ST_OK);
        do {
            assert_int_equal(loader_next(&cx, l, in, y, &rows), ST_OK);
            assert_int_equal(loader_next(&cx, m, in2, y2, &rows2), ST_OK);
            assert_int_equal(rows, rows2);
            if (rows) {
                assert_memory_equal(x, x2, sizeof x);
                assert_memory_equal(y, y2, sizeof y);
            }
        } while (rows);
        loader_close(l);
        loader_close(m);
    }
    Loader *l = loader_new(&cx, d, true, 5);
    assert_int_equal(loader_seek(&cx, l, (LoaderPos){ 0, ROWS + 1 }), ST_VALUE);
    assert_int_equal(loader_seek(&cx, l, (LoaderPos){ -1, 0 }), ST_VALUE);
    loader_close(l);
    assert_int_equal(loader_open(&cx, d, SPLIT_TRAIN, 0, true, 5, &l), ST_VALUE);
    assert_null(l);
    data_close(d);
}

/* Every order of three comes up about as often as any other. */
static void orders_are_even(void **state)
{
    Ctx cx;
    int count[27] = { 0 }, rows, kinds = 0;
    float y[BATCH];
    (void)state;
    ctx_init(&cx);
    Data *d = data_new(&cx, 3);
    Loader *l = loader_new(&cx, d, true, 11);
    for (int e = 0; e < 6000; e++) {
        loader_start(l, e);
        assert_int_equal(loader_next(&cx, l, NULL, y, &rows), ST_OK);
        assert_int_equal(rows, 3);
        const int64_t *at = loader_index(l);
        count[at[0] * 9 + at[1] * 3 + at[2]]++;
    }
    for (int i = 0; i < 27; i++)
        if (count[i]) {
            kinds++;
            assert_in_range(count[i], 880, 1120);
        }
    assert_int_equal(kinds, 6);
    /* an empty split is at its end at once */
    Loader *v = NULL;
    assert_int_equal(loader_open(&cx, d, SPLIT_TEST, BATCH, false, 0, &v), ST_OK);
    assert_int_equal(loader_batches(v), 0);
    assert_int_equal(loader_next(&cx, v, NULL, y, &rows), ST_OK);
    assert_int_equal(rows, 0);
    loader_close(v);
    loader_close(l);
    data_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epochs),
        cmocka_unit_test(resume),
        cmocka_unit_test(orders_are_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
