/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of layers against loops written out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <math.h>

#include "tests/model_bench.h"

static void start_layer(ModelBench *b, const char *text, int batch)
{
    bench_start_text(b, text, batch);
    bench_build(b, BUILD_PREDICT);
    bench_fill(b, batch);
    for (uint32_t i = 0; i < b->g->ninput; i++) { /* values that f32 does not round */
        for (int64_t k = 0; k < shape_count(&b->in[i].type.shape); k++)
            b->in[i].at[k] = bench_noise(b->g->node[b->g->input[i]].name, k);
    }
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

enum { B = 2, T = 5, I = 3, H = 4 };

/* One direction of an LSTM, as in PyTorch's documentation: x (B, T, I) to h (B, T, H). */
static void lstm_loop(ModelBench *b, const char *suffix, bool reverse, int in, const double *x,
                      double *out)
{
    char name[64];
    const double *p[4];
    static const char *const what[] = { "weight_ih", "weight_hh", "bias_ih", "bias_hh" };
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "r.%s_%s", what[i], suffix);
        p[i] = bench_input(b, name)->at;
    }
    for (int r = 0; r < B; r++) {
        double h[H] = { 0 }, c[H] = { 0 };
        for (int s = 0; s < T; s++) {
            const int t = reverse ? T - 1 - s : s;
            double z[4 * H];
            for (int g = 0; g < 4 * H; g++) {
                z[g] = p[2][g] + p[3][g];
                for (int i = 0; i < in; i++)
                    z[g] += p[0][g * in + i] * x[(r * T + t) * in + i];
                for (int i = 0; i < H; i++)
                    z[g] += p[1][g * H + i] * h[i];
            }
            for (int k = 0; k < H; k++) {
                c[k] = sigmoid(z[H + k]) * c[k] + sigmoid(z[k]) * tanh(z[2 * H + k]);
                h[k] = sigmoid(z[3 * H + k]) * tanh(c[k]);
                out[(r * T + t) * H + k] = h[k];
            }
        }
    }
}

static void lstm_is_the_loop(void **state)
{
    (void)state;
    ModelBench bench, *b = &bench;
    double lo[B * T * H], up[B * T * H];
    start_layer(b,
                ONE_LAYER("[5, 3]", "[5, 4]",
                          "{\"name\": \"r\", \"type\": \"lstm\", \"units\": 4, \"layers\": 2}"),
                B);
    bench_run(b);
    lstm_loop(b, "l0", false, I, bench_input(b, "x")->at, lo);
    lstm_loop(b, "l1", false, H, lo, up);
    for (int i = 0; i < B * T * H; i++)
        bench_near(b->out[0].at[i], up[i]);
    bench_stop(b);

    /* last of both directions: the forward one ends at T-1, the other at 0 */
    start_layer(b,
                ONE_LAYER("[5, 3]", "[8]",
                          "{\"name\": \"r\", \"type\": \"lstm\", \"units\": 4, \"bidirectional\": "
                          "true, \"return\": \"last\"}"),
                B);
    bench_run(b);
    lstm_loop(b, "l0", false, I, bench_input(b, "x")->at, lo);
    lstm_loop(b, "l0_reverse", true, I, bench_input(b, "x")->at, up);
    for (int r = 0; r < B; r++) {
        for (int k = 0; k < H; k++) {
            bench_near(b->out[0].at[r * 2 * H + k], lo[(r * T + T - 1) * H + k]);
            bench_near(b->out[0].at[r * 2 * H + H + k], up[r * T * H + k]);
        }
    }
    bench_stop(b);
}

static void gru_loop(ModelBench *b, double *out)
{
    const double *x = bench_input(b, "x")->at, *wi = bench_input(b, "r.weight_ih_l0")->at,
                 *wh = bench_input(b, "r.weight_hh_l0")->at;
    const double *bi = bench_input(b, "r.bias_ih_l0")->at, *bh = bench_input(b, "r.bias_hh_l0")->at;
    for (int r = 0; r < B; r++) {
        double h[H] = { 0 };
        for (int t = 0; t < T; t++) {
            double gi[3 * H], gh[3 * H];
            for (int g = 0; g < 3 * H; g++) {
                gi[g] = bi[g];
                gh[g] = bh[g];
                for (int i = 0; i < I; i++)
                    gi[g] += wi[g * I + i] * x[(r * T + t) * I + i];
                for (int i = 0; i < H; i++)
                    gh[g] += wh[g * H + i] * h[i];
            }
            for (int k = 0; k < H; k++) {
                const double reset = sigmoid(gi[k] + gh[k]), u = sigmoid(gi[H + k] + gh[H + k]);
                const double n = tanh(gi[2 * H + k] + reset * gh[2 * H + k]);
                h[k] = (1 - u) * n + u * h[k];
                out[(r * T + t) * H + k] = h[k];
            }
        }
    }
}

static void gru_is_the_loop(void **state)
{
    (void)state;
    ModelBench bench, *b = &bench;
    double h[B * T * H];
    start_layer(
        b, ONE_LAYER("[5, 3]", "[5, 4]", "{\"name\": \"r\", \"type\": \"gru\", \"units\": 4}"), B);
    bench_run(b);
    gru_loop(b, h);
    for (int i = 0; i < B * T * H; i++)
        bench_near(b->out[0].at[i], h[i]);
    bench_stop(b);
}

static void conv_is_the_loop(void **state)
{
    (void)state;
    ModelBench bench, *b = &bench;
    /* kernel (3, 2), stride (2, 1), dilation (1, 2), "same": 1 + 1 rows, 1 + 1 columns of zeros */
    start_layer(b,
                ONE_LAYER("[5, 4, 3]", "[24]",
                          "{\"name\": \"c\", \"type\": \"conv2d\", \"filters\": 2, \"kernel\": [3, "
                          "2], \"stride\": [2, 1], \"dilation\": [1, 2]},"
                          "{\"type\": \"flatten\"}"),
                B);
    bench_run(b);
    const double *x = bench_input(b, "x")->at, *w = bench_input(b, "c.weight")->at,
                 *bias = bench_input(b, "c.bias")->at;
    int at = 0;
    for (int r = 0; r < B; r++)
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 4; j++)
                for (int o = 0; o < 2; o++, at++) {
                    double sum = bias[o];
                    for (int c = 0; c < 3; c++)
                        for (int p = 0; p < 3; p++)
                            for (int q = 0; q < 2; q++) {
                                const int ii = 2 * i + p - 1, jj = j + 2 * q - 1;
                                if (ii >= 0 && ii < 5 && jj >= 0 && jj < 4)
                                    sum += w[((o * 3 + c) * 3 + p) * 2 + q] *
                                           x[((r * 5 + ii) * 4 + jj) * 3 + c];
                            }
                    bench_near(b->out[0].at[at], sum);
                }
    bench_stop(b);
}

static void attention_pool_is_the_loop(void **state)
{
    (void)state;
    ModelBench bench, *b = &bench;
    start_layer(b,
                ONE_LAYER("[5, 3]", "[3]",
                          "{\"name\": \"a\", \"type\": \"attention_pool\", \"score\": \"tanh\"}"),
                B);
    bench_run(b);
    const double *x = bench_input(b, "x")->at, *w = bench_input(b, "a.weight")->at,
                 bias = bench_input(b, "a.bias")->at[0];
    for (int r = 0; r < B; r++) {
        double e[T], sum = 0;
        for (int t = 0; t < T; t++) {
            double s = bias;
            for (int c = 0; c < I; c++)
                s += w[c] * tanh(x[(r * T + t) * I + c]);
            sum += e[t] = exp(s);
        }
        for (int c = 0; c < I; c++) {
            double y = 0;
            for (int t = 0; t < T; t++)
                y += e[t] / sum * x[(r * T + t) * I + c];
            bench_near(b->out[0].at[r * I + c], y);
        }
    }
    bench_stop(b);
}

static void batch_norm_keeps_statistics(void **state)
{
    (void)state;
    ModelBench bench, *b = &bench;
    bench_start_text(b,
                     ONE_LAYER("[3, 2]", "[3, 2]",
                               "{\"name\": \"n\", \"type\": \"batch_norm\", \"momentum\": 0.3}"),
                     4);
    bench_build(b, BUILD_TRAIN);
    bench_fill(b, 3);
    bench_set(b, "n.running_mean", (double[]){ 0.5, -2 });
    bench_set(b, "n.running_var", (double[]){ 2, 3 });
    bench_run(b);
    const double *x = bench_input(b, "x")->at, *y = bench_input(b, "y")->at;
    double loss = 0;
    for (int c = 0; c < 2; c++) {
        double mean = 0, var = 0;
        for (int i = 0; i < 9; i++)
            mean += x[i * 2 + c] / 9;
        for (int i = 0; i < 9; i++)
            var += (x[i * 2 + c] - mean) * (x[i * 2 + c] - mean);
        bench_near(bench_output(b, "n.running_mean")->at[c], 0.7 * (c ? -2 : 0.5) + 0.3 * mean);
        bench_near(bench_output(b, "n.running_var")->at[c], 0.7 * (c ? 3 : 2) + 0.3 * var / 8);
        for (int i = 0; i < 9; i++) {
            const double e = (x[i * 2 + c] - mean) / sqrt(var / 9 + 1e-5) - y[i * 2 + c];
            loss += e * e / 18;
        }
    }
    bench_near(bench_output(b, "loss")->at[0], loss);
    bench_build(b, BUILD_EVAL);
    bench_fill(b, 4);
    bench_set(b, "n.running_mean", (double[]){ 0.5, -2 });
    bench_set(b, "n.running_var", (double[]){ 2, 3 });
    bench_run(b);
    bench_near(bench_output(b, "prediction")->at[1],
               (bench_input(b, "x")->at[1] + 2) / sqrt(3 + 1e-5));
    bench_stop(b);
}

static void dropout_keeps_its_share(void **state)
{
    (void)state;
    ModelBench bench, *b = &bench;
    bench_start_text(
        b,
        ONE_LAYER("[2000]", "[1]",
                  "{\"type\": \"dropout\", \"rate\": 0.25}, {\"name\": \"y\", \"type\": "
                  "\"dense\", \"units\": 1}"),
        2);
    bench_build(b, BUILD_TRAIN);
    bench_fill(b, 2);
    Tensor *x = bench_input(b, "x"), *w = bench_input(b, "y.weight");
    for (int64_t k = 0; k < shape_count(&x->type.shape); k++)
        x->at[k] = 1;
    for (int64_t k = 0; k < shape_count(&w->type.shape); k++)
        w->at[k] = 1.0 / 2000;
    bench_set1(b, "y.bias", 0);
    bench_set(b, "y", (double[]){ 0, 0 });
    double loss[2];
    for (int step = 0; step < 2; step++) {
        bench_set1(b, "step", step);
        bench_run(b);
        loss[step] = bench_output(b, "loss")->at[0];
        assert_true(fabs(loss[step] - 1) < 0.1 && loss[step] != 1);
    }
    assert_true(loss[0] != loss[1]);
    bench_stop(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lstm_is_the_loop),
        cmocka_unit_test(gru_is_the_loop),
        cmocka_unit_test(conv_is_the_loop),
        cmocka_unit_test(attention_pool_is_the_loop),
        cmocka_unit_test(batch_norm_keeps_statistics),
        cmocka_unit_test(dropout_keeps_its_share),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
