/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of losses and optimizers against their formulas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "tests/model_bench.h"

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double loss_of(const char *type, int classes, const double *p, const double *y, int rows)
{
    char text[512];
    ModelBench bench, *b = &bench;
    snprintf(text, sizeof text,
             "{\"data\": {\"random\": {\"x\": [2], \"y\": [2], \"classes\": %d, \"rows\": 8}}, "
             "\"layers\": [{\"name\": \"y\", \"type\": \"dense\", \"units\": 2}],"
             "\"loss\": {\"type\": %s}}",
             classes, type);
    bench_start_text(b, text, 3);
    bench_build(b, BUILD_EVAL);
    bench_set(b, "y.weight", (double[]){ 1, 0, 0, 1 });
    bench_set(b, "x", p);
    bench_set(b, "y", y);
    bench_set1(b, "rows", rows);
    bench_run(b);
    const double loss = bench_output(b, "loss")->at[0];
    if (classes) { /* the first two rows: right, wrong */
        bench_near(bench_output(b, "correct")->at[0], 1);
        bench_near(bench_output(b, "prediction")->at[0] + bench_output(b, "prediction")->at[1], 1);
    }
    bench_stop(b);
    return loss;
}

static void losses_are_their_formulas(void **state)
{
    (void)state;
    const double p[] = { 2, -1, 0.5, 3, 1e9, 1e9 }, y[] = { 1, 1, 1, 0.5, 0, 0 };
    bench_near(loss_of("\"mse\"", 0, p, y, 2), (1 + 4 + 0.25 + 6.25) / 4);
    bench_near(loss_of("\"mae\"", 0, p, y, 2), (1 + 2 + 0.5 + 2.5) / 4);
    bench_near(loss_of("\"huber\"", 0, p, y, 2), (0.5 + 1.5 + 0.125 + 2) / 4);
    bench_near(loss_of("\"bce\"", 0, p, y, 2),
               (-log(sigmoid(2)) - log(sigmoid(-1)) - log(sigmoid(0.5)) - 0.5 * log(sigmoid(3)) -
                0.5 * log(1 - sigmoid(3))) /
                   4);
    const double label[] = { 0, 0, 1 };
    bench_near(loss_of("\"cross_entropy\"", 2, p, label, 2),
               (-log(exp(2) / (exp(2) + exp(-1))) - log(exp(0.5) / (exp(0.5) + exp(3)))) / 2);
    const double p1 = 1 / (1 + exp(-3)), p2 = 1 / (1 + exp(2.5)); /* of the labels */
    bench_near(loss_of("\"cross_entropy\", \"label_smoothing\": 0.2", 2, p, label, 2),
               -(0.9 * log(p1) + 0.1 * log(1 - p1) + 0.9 * log(p2) + 0.1 * log(1 - p2)) / 2);
    bench_near(loss_of("\"focal\", \"gamma\": 1.5", 2, p, label, 2),
               -(pow(1 - p1, 1.5) * log(p1) + pow(1 - p2, 1.5) * log(p2)) / 2);
    bench_near(loss_of("\"quantile\", \"quantile\": 0.8", 0, p, y, 2),
               (0.2 * 1 + 0.8 * 2 + 0.8 * 0.5 + 0.2 * 2.5) / 4);
    const double share[] = { 0.3, 0.7, 0, 1, 0, 0 };
    bench_near(loss_of("\"kl\"", 0, p, share, 2),
               (0.3 * log(0.3 / p1) + 0.7 * log(0.7 / (1 - p1)) - log(1 - p2)) / 2);
}

/* Two rows of a label are one row of two labels; the tail's rows count for both. */
static void labels_of_each_row(void **state)
{
    (void)state;
    static const char *const loss[] = { "\"cross_entropy\"",
                                        "\"cross_entropy\", \"label_smoothing\": 0.2",
                                        "\"focal\"" };
    for (int k = 0; k < 3; k++) {
        double got[2][2];
        for (int each = 0; each < 2; each++) {
            char text[512];
            ModelBench bench, *b = &bench;
            snprintf(text, sizeof text,
                     "{\"data\": {\"random\": {\"x\": [%s3], \"classes\": 5, \"rows\": 8}}, "
                     "\"layers\": [{\"name\": \"y\", \"type\": \"dense\", \"units\": 5}],"
                     "\"loss\": {\"type\": %s}}",
                     each ? "2," : "", loss[k]);
            bench_start_text(b, text, each ? 3 : 6);
            b->d.target.rank = (int8_t)each;
            b->d.target.dim[0] = 2;
            bench_build(b, BUILD_EVAL);
            bench_fill(b, each ? 2 : 4);
            bench_run(b);
            assert_int_equal(bench_output(b, "prediction")->type.shape.rank, 2 + each);
            got[each][0] = bench_output(b, "loss")->at[0];
            got[each][1] = bench_output(b, "correct")->at[0];
            bench_stop(b);
        }
        bench_near(got[1][0], got[0][0]);
        bench_near(got[1][1], got[0][1]);
    }
}

/* y = w x + 0 with one weight: gradients of mse are 2 (w x - y) x and 2 (w x - y). */
static void follow(const char *optimizer, int steps,
                   void (*formula)(double *p, double g, double *m, double *v, int t))
{
    char text[512];
    ModelBench bench, *b = &bench;
    snprintf(text, sizeof text,
             "{\"data\": {\"random\": {\"x\": [1], \"y\": [1], \"rows\": 8}}, \"layers\": "
             "[{\"name\": \"y\", \"type\": \"dense\", \"units\": 1}],"
             "\"loss\": {\"type\": \"mse\"}, \"optimizer\": %s, \"train\": {\"ema\": 0.75}}",
             optimizer);
    bench_start_text(b, text, 1);
    bench_build(b, BUILD_PREDICT);
    bench_input(b, "ema.y.weight"); /* what is predicted with; there is no other */
    assert_int_equal(b->g->ninput, 3);
    bench_build(b, BUILD_TRAIN);
    bench_set1(b, "rows", 1);
    bench_set1(b, "lr", 0.1);
    bench_set1(b, "x", 0.7);
    bench_set1(b, "y", -0.4);
    bench_set1(b, "y.weight", 0.9);
    bench_set1(b, "y.bias", 0.2);
    for (uint32_t i = 0; i < b->g->ninput; i++) { /* of adagrad */
        const char *name = b->g->node[b->g->input[i]].name;
        if (strncmp(name, "opt.", 4) == 0 && strstr(name, ".sum"))
            b->in[i].at[0] = 0.3;
    }
    double p[2] = { 0.9, 0.2 }, m[2] = { 0 }, v[2] = { 0 }, ema[2] = { 0 };
    for (int t = 1; t <= steps; t++) {
        const double e = p[0] * 0.7 + p[1] + 0.4, g[2] = { 2 * e * 0.7, 2 * e };
        bench_run(b);
        bench_near(bench_output(b, "grad_norm")->at[0], sqrt(g[0] * g[0] + g[1] * g[1]));
        for (int i = 0; i < 2; i++) {
            formula(&p[i], g[i], &m[i], &v[i], t);
            ema[i] = t == 1 ? p[i] : 0.75 * ema[i] + 0.25 * p[i];
        }
        bench_near(bench_output(b, "ema.y.weight")->at[0], ema[0]);
        bench_near(bench_output(b, "ema.y.bias")->at[0], ema[1]);
        bench_near(bench_output(b, "y.weight")->at[0], p[0]);
        bench_near(bench_output(b, "y.bias")->at[0], p[1]);
        for (uint32_t i = 0; i < b->g->nout;
             i++) { /* the next step starts from what this one left */
            if (b->g->out[i].replaces)
                bench_set(b, b->g->node[b->g->out[i].replaces].name, b->out[i].at);
        }
    }
    bench_stop(b);
}

static const double *after_one_step(ModelBench *b, const char *rest)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"data\": {\"random\": {\"x\": [1], \"y\": [1], \"rows\": 8}}, \"layers\": "
             "[{\"name\": \"a\", \"type\": \"dense\", \"units\": 1%s}, {\"name\": \"y\", "
             "\"type\": \"dense\", \"units\": 1%s}], \"loss\": {\"type\": \"mse\"}, "
             "\"optimizer\": {\"type\": \"sgd\"%s}}",
             rest ? ", \"lr_scale\": 0" : "",
             rest ? ", \"lr_scale\": 2, \"weight_decay\": 0.5" : "", rest ? rest : "");
    bench_start_text(b, text, 1);
    bench_build(b, BUILD_TRAIN);
    bench_set1(b, "rows", 1);
    bench_set1(b, "lr", 0.1);
    bench_set1(b, "x", 0.7);
    bench_set1(b, "y", -0.4);
    bench_set1(b, "a.weight", 0.9);
    bench_set1(b, "a.bias", 0.2);
    bench_set1(b, "y.weight", 1.1);
    bench_set1(b, "y.bias", 0.3);
    bench_run(b);
    return bench_output(b, "y.weight")->at;
}

/* The first layer stands still, the second goes twice as far with a decay of its own, which its
 * bias has no part in. */
static void layers_have_their_own_rates(void **state)
{
    (void)state;
    ModelBench bench, *b = &bench;
    const double weight = (1.1 - *after_one_step(b, NULL)) / 0.1;
    const double bias = (0.3 - *bench_output(b, "y.bias")->at) / 0.1;
    bench_stop(b);
    bench_near(*after_one_step(b, ", \"weight_decay\": 0.1, \"decayed\": \"weights\""),
               1.1 - 0.2 * (weight + 0.5 * 1.1));
    bench_near(*bench_output(b, "y.bias")->at, 0.3 - 0.2 * bias);
    bench_near(*bench_output(b, "a.weight")->at, 0.9);
    bench_near(*bench_output(b, "a.bias")->at, 0.2);
    bench_stop(b);
}

static void sgd_formula(double *p, double g, double *m, double *v, int t)
{
    (void)v, (void)t;
    g += 0.02 * *p;
    *m = 0.9 * *m + g;
    *p -= 0.1 * (g + 0.9 * *m);
}

static void adam_formula(double *p, double g, double *m, double *v, int t)
{
    g += 0.02 * *p;
    *m = 0.8 * *m + 0.2 * g;
    *v = 0.99 * *v + 0.01 * g * g;
    *p -= 0.1 * (*m / (1 - pow(0.8, t))) / (sqrt(*v / (1 - pow(0.99, t))) + 1e-8);
}

static void adamw_formula(double *p, double g, double *m, double *v, int t)
{
    *p -= 0.1 * 0.02 * *p;
    *m = 0.9 * *m + 0.1 * g;
    *v = 0.999 * *v + 0.001 * g * g;
    *p -= 0.1 * (*m / (1 - pow(0.9, t))) / (sqrt(*v / (1 - pow(0.999, t))) + 1e-8);
}

static void rmsprop_formula(double *p, double g, double *m, double *v, int t)
{
    (void)t;
    *v = 0.9 * *v + 0.1 * g * g;
    *m = 0.5 * *m + g / (sqrt(*v) + 1e-8);
    *p -= 0.1 * *m;
}

static void adagrad_formula(double *p, double g, double *m, double *v, int t)
{
    (void)m;
    g += 0.02 * *p;
    *v = (t == 1 ? 0.3 : *v) + g * g;
    *p -= 0.1 / (1 + 0.5 * (t - 1)) * g / (sqrt(*v) + 1e-10);
}

static void lion_formula(double *p, double g, double *m, double *v, int t)
{
    (void)v, (void)t;
    const double d = 0.9 * *m + 0.1 * g;
    *p -= 0.1 * 0.02 * *p + 0.1 * (d > 0 ? 1 : d < 0 ? -1 : 0);
    *m = 0.99 * *m + 0.01 * g;
}

/* The weight has two axes, the bias one. */
static void weights_only_formula(double *p, double g, double *m, double *v, int t)
{
    (void)m, (void)v, (void)t;
    static int calls;
    *p -= 0.1 * (g + (calls++ % 2 == 0 ? 0.02 * *p : 0));
}

static void optimizers_are_their_formulas(void **state)
{
    (void)state;
    follow("{\"type\": \"sgd\", \"momentum\": 0.9, \"nesterov\": true, \"weight_decay\": 0.02}", 4,
           sgd_formula);
    follow("{\"type\": \"adam\", \"beta1\": 0.8, \"beta2\": 0.99, \"weight_decay\": 0.02}", 4,
           adam_formula);
    follow("{\"type\": \"adamw\", \"weight_decay\": 0.02}", 4, adamw_formula);
    follow("{\"type\": \"rmsprop\", \"alpha\": 0.9, \"momentum\": 0.5}", 4, rmsprop_formula);
    follow("{\"type\": \"adagrad\", \"lr_decay\": 0.5, \"start\": 0.3, \"weight_decay\": 0.02}", 4,
           adagrad_formula);
    follow("{\"type\": \"lion\", \"weight_decay\": 0.02}", 4, lion_formula);
    follow("{\"type\": \"sgd\", \"weight_decay\": 0.02, \"decayed\": \"weights\"}", 4,
           weights_only_formula);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses_are_their_formulas),
        cmocka_unit_test(labels_of_each_row),
        cmocka_unit_test(optimizers_are_their_formulas),
        cmocka_unit_test(layers_have_their_own_rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
