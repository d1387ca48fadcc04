/* SPDX-License-Identifier: Apache-2.0 */
/* Layers against loops written out by hand, gradients against differences, and training steps as
 * compiled against the evaluator; all at odd sizes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <math.h>

#include "tests/layer_case.h"

enum { B = LAYER_BATCH, T = 5, C = 6 };

/* ---- normalisation ---- */

/* n elements, `step` apart: (x - mean) / sqrt(var + eps) */
static void standardise(const double *x, double *y, int n, int step, double eps)
{
    double mean = 0, var = 0;
    for (int i = 0; i < n; i++)
        mean += x[i * step] / n;
    for (int i = 0; i < n; i++)
        var += (x[i * step] - mean) * (x[i * step] - mean) / n;
    for (int i = 0; i < n; i++)
        y[i * step] = (x[i * step] - mean) / sqrt(var + eps);
}

static void layer_norm_loop(const LayerRun *r, double *y)
{
    const double *x = layer_run_in(r, "x"), *w = layer_run_in(r, "l.weight"),
                 *bias = layer_run_in(r, "l.bias");
    for (int i = 0; i < B * T; i++) {
        standardise(x + i * C, y + i * C, C, 1, 1e-5);
        for (int c = 0; c < C; c++)
            y[i * C + c] = y[i * C + c] * w[c] + bias[c];
    }
}

static void layer_norm_two_axes_loop(const LayerRun *r, double *y)
{
    const double *w = layer_run_in(r, "l.weight");
    for (int b = 0; b < B; b++) {
        standardise(layer_run_in(r, "x") + b * T * C, y + b * T * C, T * C, 1, 1e-3);
        for (int c = 0; c < T * C; c++)
            y[b * T * C + c] *= w[c];
    }
}

static void rms_norm_loop(const LayerRun *r, double *y)
{
    const double *x = layer_run_in(r, "x"), *w = layer_run_in(r, "l.weight");
    for (int i = 0; i < B * T; i++) {
        double square = 0;
        for (int c = 0; c < C; c++)
            square += x[i * C + c] * x[i * C + c] / C;
        for (int c = 0; c < C; c++)
            y[i * C + c] = x[i * C + c] / sqrt(square + 1.1920929e-07) * w[c];
    }
}

/* 3 groups of 2 channels */
static void group_norm_loop(const LayerRun *r, double *y)
{
    const double *x = layer_run_in(r, "x"), *w = layer_run_in(r, "l.weight"),
                 *bias = layer_run_in(r, "l.bias");
    for (int b = 0; b < B; b++)
        for (int g = 0; g < 3; g++) {
            double in[T * 2], out[T * 2];
            for (int k = 0; k < T * 2; k++)
                in[k] = x[(b * T + k / 2) * C + g * 2 + k % 2];
            standardise(in, out, T * 2, 1, 1e-5);
            for (int k = 0; k < T * 2; k++) {
                const int c = g * 2 + k % 2;
                y[(b * T + k / 2) * C + c] = out[k] * w[c] + bias[c];
            }
        }
}

static void instance_norm_loop(const LayerRun *r, double *y)
{
    for (int b = 0; b < B; b++)
        for (int c = 0; c < C; c++)
            standardise(layer_run_in(r, "x") + b * T * C + c, y + b * T * C + c, T, C, 1e-5);
}

/* ---- attention ---- */

/* (n, in) by w (out, in) and bias */
static void linear(const double *x, const double *w, const double *bias, int n, int in, int out,
                   double *y)
{
    for (int i = 0; i < n; i++)
        for (int o = 0; o < out; o++) {
            double sum = bias ? bias[o] : 0;
            for (int k = 0; k < in; k++)
                sum += x[i * in + k] * w[o * in + k];
            y[i * out + o] = sum;
        }
}

typedef struct Heads {
    int t, s, heads;
    bool causal;
    const double *mask; /* of one row: which keys count */
    double rotary;
} Heads;

/* x (n, C): each head's channels c and c + d / 2 turn by an angle. */
static void rotate(const Heads *a, double *x, int n)
{
    const int d = C / a->heads;
    for (int t = 0; a->rotary > 0 && t < n; t++)
        for (int h = 0; h < a->heads; h++)
            for (int c = 0; c < d / 2; c++) {
                double *p = x + t * C + h * d + c, *q = p + d / 2;
                const double angle = t / pow(a->rotary, 2.0 * c / d), p0 = *p;
                *p = *p * cos(angle) - *q * sin(angle);
                *q = *q * cos(angle) + p0 * sin(angle);
            }
}

/* One row: q (t, C), k and v (s, C). */
static void attend(const Heads *a, const double *q, const double *k, const double *v, double *y)
{
    const int d = C / a->heads;
    for (int h = 0; h < a->heads; h++)
        for (int i = 0; i < a->t; i++) {
            double e[16], sum = 0;
            const int seen = a->causal && i + 1 < a->s ? i + 1 : a->s;
            for (int j = 0; j < seen; j++) {
                double z = 0;
                for (int c = h * d; c < (h + 1) * d; c++)
                    z += q[i * C + c] * k[j * C + c];
                sum += e[j] = a->mask && !a->mask[j] ? 0 : exp(z / sqrt(d));
            }
            for (int c = h * d; c < (h + 1) * d; c++) {
                y[i * C + c] = 0;
                for (int j = 0; j < seen && sum > 0; j++)
                    y[i * C + c] += e[j] / sum * v[j * C + c];
            }
        }
}

/* One row of a layer whose parameters begin with prefix. */
static void attention_row(const LayerRun *r, const char *prefix, const Heads *a, const double *x,
                          const double *memory, double *y)
{
    static const char *const what[] = { "in_proj_weight", "in_proj_bias", "out_proj.weight",
                                        "out_proj.bias" };
    const double *p[4];
    double q[16 * C], k[16 * C], v[16 * C], mixed[16 * C];
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s%s", prefix, what[i]);
        p[i] = layer_run_in(r, name);
    }
    linear(x, p[0], p[1], a->t, C, C, q);
    linear(memory, p[0] + C * C, p[1] + C, a->s, C, C, k);
    linear(memory, p[0] + 2 * C * C, p[1] + 2 * C, a->s, C, C, v);
    rotate(a, q, a->t);
    rotate(a, k, a->s);
    attend(a, q, k, v, mixed);
    linear(mixed, p[2], p[3], a->t, C, C, y);
}

static void self_attention_loop(const LayerRun *r, double *y)
{
    const Heads a = { T, T, 3, true };
    for (int b = 0; b < B; b++) {
        const double *x = layer_run_in(r, "x") + b * T * C;
        attention_row(r, "l.", &a, x, x, y + b * T * C);
    }
}

static void cross_attention_loop(const LayerRun *r, double *y)
{
    const Heads a = { T, 7, 2, false };
    for (int b = 0; b < B; b++)
        attention_row(r, "l.", &a, layer_run_in(r, "x") + b * T * C,
                      layer_run_in(r, "z") + b * 7 * C, y + b * T * C);
}

/* Causal, masked, of two inputs: there are rows, and steps of a row, that see nothing. */
static void masked_attention_loop(const LayerRun *r, double *y)
{
    for (int b = 0; b < B; b++) {
        const Heads a = { T, 7, 3, true, layer_run_in(r, "mask") + b * 7, 100 };
        attention_row(r, "l.", &a, layer_run_in(r, "x") + b * T * C,
                      layer_run_in(r, "z") + b * 7 * C, y + b * T * C);
    }
}

static void lengths_loop(const LayerRun *r, double *y)
{
    for (int b = 0; b < B; b++) {
        const double *x = layer_run_in(r, "x") + b * T * C, n = layer_run_in(r, "mask")[b];
        const double mask[] = { n > 0, n > 1, n > 2, n > 3, n > 4 };
        const Heads a = { T, T, 2, false, mask, 0 };
        attention_row(r, "l.", &a, x, x, y + b * T * C);
    }
}

static void rotary_loop(const LayerRun *r, double *y)
{
    const Heads a = { T, T, 1, true, NULL, 10000 };
    for (int b = 0; b < B; b++) {
        const double *x = layer_run_in(r, "x") + b * T * C;
        attention_row(r, "l.", &a, x, x, y + b * T * C);
    }
}

static void sines_loop(const LayerRun *r, double *y)
{
    for (int i = 0; i < B * T * C; i++) {
        const int c = i % C, t = i / C % T;
        const double angle = t / pow(10000, (c - c % 2) / (double)C);
        y[i] = layer_run_in(r, "x")[i] + (c % 2 ? cos(angle) : sin(angle));
    }
}

static double gelu(double x)
{
    return x * 0.5 * (1 + erf(x / sqrt(2)));
}

/* One row through linear1, the activation, linear2. */
static void feed_forward(const LayerRun *r, const double *x, int hidden, double (*f)(double),
                         double *y)
{
    double h[T * 4 * C];
    linear(x, layer_run_in(r, "l.linear1.weight"), layer_run_in(r, "l.linear1.bias"), T, C, hidden,
           h);
    for (int i = 0; i < T * hidden; i++)
        h[i] = f(h[i]);
    linear(h, layer_run_in(r, "l.linear2.weight"), layer_run_in(r, "l.linear2.bias"), T, hidden, C,
           y);
}

static void norm_row(const LayerRun *r, const char *weight, const char *bias, const double *x,
                     double *y)
{
    for (int i = 0; i < T; i++) {
        standardise(x + i * C, y + i * C, C, 1, 1e-5);
        for (int c = 0; c < C; c++)
            y[i * C + c] = y[i * C + c] * layer_run_in(r, weight)[c] + layer_run_in(r, bias)[c];
    }
}

static void pre_norm_loop(const LayerRun *r, double *y)
{
    const Heads a = { T, T, 2, false };
    for (int b = 0; b < B; b++) {
        const double *x = layer_run_in(r, "x") + b * T * C;
        double n[T * C], add[T * C], h[T * C];
        norm_row(r, "l.norm1.weight", "l.norm1.bias", x, n);
        attention_row(r, "l.self_attn.", &a, n, n, add);
        for (int i = 0; i < T * C; i++)
            h[i] = x[i] + add[i];
        norm_row(r, "l.norm2.weight", "l.norm2.bias", h, n);
        feed_forward(r, n, 4 * C, gelu, add);
        for (int i = 0; i < T * C; i++)
            y[b * T * C + i] = h[i] + add[i];
    }
}

static double relu(double x)
{
    return x > 0 ? x : 0;
}

static void post_norm_loop(const LayerRun *r, double *y)
{
    const Heads a = { T, T, 3, true };
    for (int b = 0; b < B; b++) {
        const double *x = layer_run_in(r, "x") + b * T * C;
        double h[T * C], add[T * C];
        attention_row(r, "l.self_attn.", &a, x, x, add);
        for (int i = 0; i < T * C; i++)
            add[i] += x[i];
        norm_row(r, "l.norm1.weight", "l.norm1.bias", add, h);
        feed_forward(r, h, 7, relu, add);
        for (int i = 0; i < T * C; i++)
            add[i] += h[i];
        norm_row(r, "l.norm2.weight", "l.norm2.bias", add, y + b * T * C);
    }
}

static void position_loop(const LayerRun *r, double *y)
{
    for (int i = 0; i < B * T * C; i++)
        y[i] = layer_run_in(r, "x")[i] + layer_run_in(r, "l.weight")[i % (T * C)];
}

/* 7 words of 6 numbers, word 2 is 0; word is -1 .. 7. */
static void embed(const LayerRun *r, const char *table, double *y)
{
    for (int i = 0; i < B * T * C; i++) {
        const int word = (int)layer_run_in(r, "words")[i / C];
        const int near = word < 0 ? 0 : word > 6 ? 6 : word;
        y[i] = layer_run_in(r, "x")[i] + (word == 2 ? 0 : layer_run_in(r, table)[near * C + i % C]);
    }
}

static void embedding_loop(const LayerRun *r, double *y)
{
    embed(r, "e.weight", y);
}

static void tied_embedding_loop(const LayerRun *r, double *y)
{
    double h[B * T * C];
    embed(r, "e.weight", h);
    linear(h, layer_run_in(r, "e.weight"), layer_run_in(r, "l.bias"), B * T, C, 7, y);
}

static void tied_dense_loop(const LayerRun *r, double *y)
{
    const double *w = layer_run_in(r, "d.weight");
    double h[B * 4], turned[C * 4];
    linear(layer_run_in(r, "x"), w, layer_run_in(r, "d.bias"), B, C, 4, h);
    for (int i = 0; i < C * 4; i++)
        turned[i] = w[i % 4 * C + i / 4];
    linear(h, turned, NULL, B, 4, C, y);
}

/* ---- activations ---- */

static double softplus(double x)
{
    return log1p(exp(x));
}

static double elu(double x)
{
    return x > 0 ? x : 0.7 * expm1(x);
}

static double mish(double x)
{
    return x * tanh(softplus(x));
}

static double hard_sigmoid(double x)
{
    return fmin(fmax(x / 6 + 0.5, 0), 1);
}

static double hard_swish(double x)
{
    return x * hard_sigmoid(x);
}

static double hard_tanh(double x)
{
    return fmin(fmax(x, -1), 1);
}

static double relu6(double x)
{
    return fmin(fmax(x, 0), 6);
}

static void each(const LayerRun *r, double (*f)(double), double *y)
{
    for (int i = 0; i < B * T * C; i++)
        y[i] = f(layer_run_in(r, "x")[i]);
}

#define EACH(name)                                                                                 \
    static void name##_loop(const LayerRun *r, double *y)                                          \
    {                                                                                              \
        each(r, name, y);                                                                          \
    }
EACH(softplus)
EACH(elu)
EACH(mish)
EACH(hard_sigmoid)
EACH(hard_swish)
EACH(relu6)
EACH(hard_tanh)

static void prelu_loop(const LayerRun *r, double *y)
{
    for (int i = 0; i < B * T * C; i++) {
        const double x = layer_run_in(r, "x")[i];
        y[i] = x > 0 ? x : layer_run_in(r, "l.weight")[i % C] * x;
    }
}

/* ---- recurrence ---- */

static void rnn_direction(const LayerRun *r, const char *suffix, int first, double *y)
{
    static const char *const what[] = { "weight_ih", "weight_hh", "bias_ih", "bias_hh" };
    const double *p[4];
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "l.%s_l0%s", what[i], suffix);
        p[i] = layer_run_in(r, name);
    }
    for (int b = 0; b < B; b++) {
        double h[4] = { 0 }, next[4], add[4];
        for (int s = 0; s < T; s++) {
            const int t = first ? first - s : s;
            linear(layer_run_in(r, "x") + (b * T + t) * C, p[0], p[2], 1, C, 4, next);
            linear(h, p[1], p[3], 1, 4, 4, add);
            for (int k = 0; k < 4; k++)
                y[(b * T + t) * 8 + (first ? 4 : 0) + k] = h[k] = tanh(next[k] + add[k]);
        }
    }
}

static void rnn_loop(const LayerRun *r, double *y)
{
    rnn_direction(r, "", 0, y);
    rnn_direction(r, "_reverse", T - 1, y);
}

/* ---- all ---- */

#define L "{\"name\": \"l\", \"type\": "
#define EMBEDDING                                                                                  \
    "{\"name\": \"e\", \"type\": \"embedding\", \"input\": \"words\", \"vocab\": 7, \"dim\": 6, "  \
    "\"padding\": 2}, {\"name\": \"sum\", \"type\": \"add\", \"input\": [\"x\", \"e\"]"
#define DENSE(units)        L "\"dense\", \"units\": " #units "}"
#define REST(loss, descent) "\"loss\": " loss ", \"optimizer\": " descent
static const LayerCase cases[] = {
    { "layer_norm", L "\"layer_norm\"}", "[5, 6]", "[5, 6]", NULL, layer_norm_loop },
    { "layer_norm of two axes", L "\"layer_norm\", \"axes\": 2, \"bias\": false, \"eps\": 1e-3}",
      "[5, 6]", "[5, 6]", NULL, layer_norm_two_axes_loop },
    { "rms_norm", L "\"rms_norm\"}", "[5, 6]", "[5, 6]", NULL, rms_norm_loop },
    { "group_norm", L "\"group_norm\", \"groups\": 3}", "[5, 6]", "[5, 6]", NULL, group_norm_loop },
    { "instance_norm", L "\"instance_norm\"}", "[5, 6]", "[5, 6]", NULL, instance_norm_loop },
    { "multi_head_attention", L "\"multi_head_attention\", \"heads\": 3, \"causal\": true}",
      "[5, 6]", "[5, 6]", NULL, self_attention_loop },
    { "multi_head_attention of two",
      L "\"multi_head_attention\", \"heads\": 2, \"input\": [\"x\", \"z\"]}", "[5, 6]", "[5, 6]",
      "[7, 6]", cross_attention_loop },
    { "multi_head_attention: two, causal, mask, rotary",
      L "\"multi_head_attention\", \"heads\": 3, \"input\": [\"x\", \"z\"], \"causal\": true, "
        "\"mask\": \"mask\", \"rotary\": true, \"rotary_base\": 100}",
      "[5, 6]", "[5, 6]", "[7, 6]", masked_attention_loop, NULL, 0, "[7]" },
    { "multi_head_attention, lengths",
      L "\"multi_head_attention\", \"heads\": 2, \"mask\": \"mask\"}", "[5, 6]", "[5, 6]", NULL,
      lengths_loop, NULL, 0, "[1]" },
    { "multi_head_attention, rotary",
      L "\"multi_head_attention\", \"heads\": 1, \"causal\": true, \"rotary\": true}", "[5, 6]",
      "[5, 6]", NULL, rotary_loop },
    { "transformer_block, mask", L "\"transformer_block\", \"heads\": 2, \"mask\": \"mask\"}",
      "[5, 6]", "[5, 6]", NULL, NULL, NULL, 0, "[5]" },
    { "embedding", EMBEDDING "}", "[5, 6]", "[5, 6]", NULL, embedding_loop, NULL, 0, NULL, "[5]" },
    { "embedding, tied", EMBEDDING "}, " L "\"dense\", \"units\": 7, \"tied\": \"e\"}", "[5, 6]",
      "[5, 7]", NULL, tied_embedding_loop, NULL, 0, NULL, "[5]" },
    { "dense, tied",
      "{\"name\": \"d\", \"type\": \"dense\", \"units\": 4, \"input\": \"x\"}, " L
      "\"dense\", \"units\": 6, \"tied\": \"d\", \"bias\": false}",
      "[6]", "[6]", NULL, tied_dense_loop },
    { "position_encoding", L "\"position_encoding\"}", "[5, 6]", "[5, 6]", NULL, sines_loop },
    { "transformer_block", L "\"transformer_block\", \"heads\": 2, \"activation\": \"gelu\"}",
      "[5, 6]", "[5, 6]", NULL, pre_norm_loop },
    { "transformer_block after",
      L "\"transformer_block\", \"heads\": 3, \"hidden\": 7, \"norm\": \"post\", \"causal\": true}",
      "[5, 6]", "[5, 6]", NULL, post_norm_loop },
    { "position_embedding", L "\"position_embedding\"}", "[5, 6]", "[5, 6]", NULL, position_loop },
    { "softplus", L "\"softplus\"}", "[5, 6]", "[5, 6]", NULL, softplus_loop },
    { "elu", L "\"elu\", \"alpha\": 0.7}", "[5, 6]", "[5, 6]", NULL, elu_loop },
    { "mish", L "\"mish\"}", "[5, 6]", "[5, 6]", NULL, mish_loop },
    { "hard_sigmoid", L "\"hard_sigmoid\"}", "[5, 6]", "[5, 6]", NULL, hard_sigmoid_loop },
    { "hard_swish", L "\"hard_swish\"}", "[5, 6]", "[5, 6]", NULL, hard_swish_loop },
    { "hard_tanh", L "\"hard_tanh\"}", "[5, 6]", "[5, 6]", NULL, hard_tanh_loop },
    { "relu6", L "\"relu6\"}", "[5, 6]", "[5, 6]", NULL, relu6_loop },
    { "prelu", L "\"prelu\", \"per_channel\": true}", "[5, 6]", "[5, 6]", NULL, prelu_loop },
    { "focal, adagrad", DENSE(3), "[6]", NULL, NULL, NULL,
      REST("{\"type\": \"focal\", \"gamma\": 1.5}",
           "{\"type\": \"adagrad\", \"lr_decay\": 0.1, \"weight_decay\": 0.1, \"decayed\": "
           "\"weights\"}"),
      3 },
    { "cross_entropy with label_smoothing, lion", DENSE(3), "[6]", NULL, NULL, NULL,
      REST("{\"type\": \"cross_entropy\", \"label_smoothing\": 0.1}",
           "{\"type\": \"lion\", \"weight_decay\": 0.1}"),
      3 },
    { "ema, adamw", DENSE(5), "[6]", "[5]", NULL, NULL,
      REST("{\"type\": \"mse\"}", "{\"type\": \"adamw\"}, \"train\": {\"ema\": 0.9}") },
    { "quantile", DENSE(5), "[6]", "[5]", NULL, NULL,
      REST("{\"type\": \"quantile\", \"quantile\": 0.8}", "{\"type\": \"sgd\"}") },
    { "kl", DENSE(5), "[6]", "[5]", NULL, NULL, REST("{\"type\": \"kl\"}", "{\"type\": \"sgd\"}") },
    { "rnn", L "\"rnn\", \"units\": 4, \"bidirectional\": true}", "[5, 6]", "[5, 8]", NULL,
      rnn_loop },
    { "rnn, last", L "\"rnn\", \"units\": 4, \"layers\": 2, \"return\": \"last\"}", "[5, 6]",
      "[4]" },
    { "transformer_block with dropout",
      L "\"transformer_block\", \"heads\": 2, \"dropout\": 0.3, \"activation\": \"silu\"}",
      "[5, 6]", "[5, 6]" },
};

int main(void)
{
    enum { N = sizeof cases / sizeof *cases };
    struct CMUnitTest tests[2 * N];
    layer_cases_tests(cases, N, tests);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
