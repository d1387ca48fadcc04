/* SPDX-License-Identifier: Apache-2.0 */
/* Weights before the first step: by name and seed, as widely spread as they say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <math.h>

#include "tests/model_bench.h"

static void initialisers_depend_on_name_and_seed(void **state)
{
    (void)state;
    ModelBench bench, *b = &bench;
    bench_start_text(b,
                     "{\"data\": {\"random\": {\"x\": [10], \"y\": [2], \"rows\": 8}}, \"layers\": "
                     "[{\"name\": \"y\", \"type\": \"dense\", \"units\": 2}],"
                     "\"loss\": {\"type\": \"mse\"}}",
                     2);
    const Type t = { DT_F32, { .rank = 2, .dim = { 2, 10 } } };
    float x[20], again[20];
    double sum = 0;
    BENCH_OK(b, model_init_tensor(&b->cx, b->m, &b->d, "y.weight", &t, x));
    BENCH_OK(b, model_init_tensor(&b->cx, b->m, &b->d, "y.weight", &t, again));
    assert_memory_equal(x, again, sizeof x);
    for (int i = 0; i < 20; i++) {
        assert_true(fabs(x[i]) <= 1 / sqrt(10));
        sum += fabs(x[i]);
    }
    assert_true(sum > 20 * 0.2 / sqrt(10));
    b->m->train.seed = 2;
    BENCH_OK(b, model_init_tensor(&b->cx, b->m, &b->d, "y.weight", &t, again));
    assert_memory_not_equal(x, again, sizeof x);
    assert_int_equal(model_init_tensor(&b->cx, b->m, &b->d, "y.wait", &t, x), ST_VALUE);
    bench_stop(b);
}

/* Mean square of the weight of a dense layer of 12 by 8, or 8 by 12, and its bound. */
static void look_at_init(const char *init, int units, int in, double *square, double *largest)
{
    char text[512];
    float w[96];
    ModelBench bench, *b = &bench;
    const Type t = { DT_F32, { .rank = 2, .dim = { units, in } } };
    snprintf(text, sizeof text,
             "{\"data\": {\"random\": {\"x\": [%d], \"y\": [%d], \"rows\": 8}}, \"layers\": "
             "[{\"name\": \"l\", \"type\": \"dense\", \"units\": %d, \"init\": %s}],"
             "\"loss\": {\"type\": \"mse\"}}",
             in, units, units, init);
    bench_start_text(b, text, 1);
    BENCH_OK(b, model_init_tensor(&b->cx, b->m, &b->d, "l.weight", &t, w));
    *square = *largest = 0;
    for (int i = 0; i < 96; i++) {
        *square += (double)w[i] * (double)w[i] / 96;
        *largest = fmax(*largest, fabs((double)w[i]));
    }
    bench_stop(b);
}

static void initialisers_have_their_spread(void **state)
{
    (void)state;
    static const struct {
        const char *init;
        double square, bound; /* the mean of the distribution; 0: not bounded */
    } want[] = {
        { "\"xavier_uniform\"", 2.0 / 20, 0.5477225575051661 },
        { "\"xavier_normal\"", 2.0 / 20, 0 },
        { "\"kaiming_uniform\"", 2.0 / 12, 0.7071067811865476 },
        { "\"kaiming_normal\"", 2.0 / 12, 0 },
        { "\"uniform\", \"init_value\": 0.3", 0.03, 0.3 },
        { "\"normal\", \"init_value\": 0.3", 0.09, 0 },
    };
    double square, largest;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        look_at_init(want[i].init, 8, 12, &square, &largest);
        if (!(fabs(square / want[i].square - 1) < 0.4))
            fail_msg("%s: mean square %g, wants about %g", want[i].init, square, want[i].square);
        if (want[i].bound > 0)
            assert_true(largest <= want[i].bound * (1 + 1e-6) && largest > 0.8 * want[i].bound);
    }
    look_at_init("\"constant\", \"init_value\": 0.25", 8, 12, &square, &largest);
    assert_true(fabs(square - 0.0625) < 1e-12 && largest == 0.25);
    look_at_init("\"zeros\"", 8, 12, &square, &largest);
    assert_true(largest == 0);
}

static void orthogonal_weights_are_orthogonal(void **state)
{
    (void)state;
    ModelBench bench, *b = &bench;
    float w[96];
    bench_start_text(
        b,
        "{\"data\": {\"random\": {\"x\": [8], \"y\": [8], \"rows\": 8}}, \"layers\": ["
        "{\"name\": \"tall\", \"type\": \"dense\", \"units\": 12, \"init\": \"orthogonal\"},"
        "{\"name\": \"wide\", \"type\": \"dense\", \"units\": 8, \"init\": \"orthogonal\"}],"
        "\"loss\": {\"type\": \"mse\"}}",
        1);
    for (int wide = 0; wide < 2; wide++) {
        const Type t = { DT_F32, { .rank = 2, .dim = { wide ? 8 : 12, wide ? 12 : 8 } } };
        BENCH_OK(
            b, model_init_tensor(&b->cx, b->m, &b->d, wide ? "wide.weight" : "tall.weight", &t, w));
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < 8; j++) {
                double dot = 0;
                for (int k = 0; k < 12; k++)
                    dot += wide ? (double)w[i * 12 + k] * (double)w[j * 12 + k]
                                : (double)w[k * 8 + i] * (double)w[k * 8 + j];
                assert_true(fabs(dot - (i == j)) < 1e-6);
            }
    }
    bench_stop(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initialisers_depend_on_name_and_seed),
        cmocka_unit_test(initialisers_have_their_spread),
        cmocka_unit_test(orthogonal_weights_are_orthogonal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
