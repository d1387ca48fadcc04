/* SPDX-License-Identifier: Apache-2.0 */
/* The cell layer: against loops written out by hand, against the gru and lstm layers to the last
 * bit, and what it says about expressions that mean nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "tests/layer_case.h"

enum { B = LAYER_BATCH, T = 5, C = 6, H = 4 };

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* row k of w (., n) times v */
static double dot(const double *w, int k, const double *v, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += w[k * n + i] * v[i];
    return sum;
}

/* ---- cells and their loops ---- */

#define L "{\"name\": \"l\", \"type\": "
#define MGU                                                                                        \
    L "\"cell\", \"units\": 4, \"state\": {\"h\": \"units\"}, \"weights\": {\"w_f\": [4, "         \
      "\"features\"], \"u_f\": [\"units\", \"units\"], \"b_f\": {\"shape\": 4, \"init\": "         \
      "\"constant\", \"init_value\": 1}, \"w_h\": [\"units\", \"features\"], \"u_h\": "            \
      "[\"units\", \"units\"]}, \"update\": {\"f\": \"sigmoid(w_f @ x + u_f @ h + b_f)\", "        \
      "\"n\": \"tanh(w_h @ x + u_h @ (f * h))\", \"h\": \"(1 - f) * h + f * n\"}"

/* The minimal gated unit: one matrix a product. */
static void mgu_loop(const LayerRun *r, double *y)
{
    const double *wf = layer_run_in(r, "l.w_f"), *uf = layer_run_in(r, "l.u_f"),
                 *bf = layer_run_in(r, "l.b_f"), *wh = layer_run_in(r, "l.w_h"),
                 *uh = layer_run_in(r, "l.u_h");
    for (int b = 0; b < B; b++) {
        double h[H] = { 0 }, f[H], fh[H];
        for (int t = 0; t < T; t++) {
            const double *x = layer_run_in(r, "x") + (b * T + t) * C;
            for (int k = 0; k < H; k++) {
                f[k] = sigmoid(dot(wf, k, x, C) + dot(uf, k, h, H) + bf[k]);
                fh[k] = f[k] * h[k];
            }
            for (int k = 0; k < H; k++)
                h[k] += f[k] * (tanh(dot(wh, k, x, C) + dot(uh, k, fh, H)) - h[k]);
            memcpy(y + (b * T + t) * H, h, sizeof h);
        }
    }
}

/* Two states, one of them 1 wide and repeated; weights used without a matrix, a norm, slices,
 * brackets, every operator; backwards; the last output is a line, not a state. */
#define ODD                                                                                        \
    L "\"cell\", \"state\": {\"h\": 3, \"level\": 1}, \"weights\": {\"w\": [3, \"features + "      \
      "3\"], "                                                                                     \
      "\"tau\": {\"shape\": 3, \"init\": \"uniform\", \"init_value\": 0.5}, \"gain\": 1}, "        \
      "\"update\": {\"rate\": \"1 / (1 + exp(-tau))\", \"a\": \"w @ concat(x, h)\", \"size\": "    \
      "\"sqrt(sum(a * a) / 3 + 1e-3)\", \"h\": \"h + rate * (gain * a / size - h)\", \"level\": "  \
      "\"0.5 * level + sum(abs(h)) - max(h[0:1], h[1:2])\", \"y\": \"min(h, level) - -x[1:4]\"}, " \
      "\"output\": \"y\", \"return\": \"last\", \"reverse\": true}"

static void odd_loop(const LayerRun *r, double *y)
{
    const double *w = layer_run_in(r, "l.w"), *tau = layer_run_in(r, "l.tau"),
                 gain = *layer_run_in(r, "l.gain");
    for (int b = 0; b < B; b++) {
        double h[3] = { 0 }, level = 0;
        for (int t = T - 1; t >= 0; t--) {
            const double *x = layer_run_in(r, "x") + (b * T + t) * C;
            double in[C + 3], a[3], square = 0, sum = 0;
            memcpy(in, x, C * sizeof *in);
            memcpy(in + C, h, sizeof h);
            for (int k = 0; k < 3; k++) {
                a[k] = dot(w, k, in, C + 3);
                square += a[k] * a[k];
            }
            for (int k = 0; k < 3; k++) {
                h[k] += sigmoid(tau[k]) * (gain * a[k] / sqrt(square / 3 + 1e-3) - h[k]);
                sum += fabs(h[k]);
            }
            level = 0.5 * level + sum - fmax(h[0], h[1]);
            for (int k = 0; k < 3; k++)
                y[b * 3 + k] = fmin(h[k], level) + x[1 + k];
        }
    }
}

/* What else an expression may be, in one cell without a state that matters. */
#define WORDS                                                                                      \
    L "\"cell\", \"state\": {\"h\": 6}, \"weights\": {\"w\": [6, 6], \"v\": 6}, \"update\": {"     \
      "\"u\": \"(w * 2)[0:6] @ (v * v)\", \"a\": \"relu(x) + 0.5 * leaky_relu(x) - gelu(x) / "     \
      "3\", "                                                                                      \
      "\"c\": \"silu(x) + elu(x) + softplus(x) * mish(x)\", \"d\": \"hard_sigmoid(x) - "           \
      "hard_swish(x) + relu6(x) + softmax(x)\", \"h\": \"tanh(a + c + d * log(2)) + u - 0 * h\"}}"

static void words_loop(const LayerRun *r, double *y)
{
    const double *w = layer_run_in(r, "l.w"), *v = layer_run_in(r, "l.v");
    double vv[C];
    for (int k = 0; k < C; k++)
        vv[k] = v[k] * v[k];
    for (int i = 0; i < B * T; i++) {
        const double *x = layer_run_in(r, "x") + i * C;
        double sum = 0;
        for (int k = 0; k < C; k++)
            sum += exp(x[k]);
        for (int k = 0; k < C; k++) {
            const double z = x[k], up = fmax(z, 0), soft = log1p(exp(z));
            const double hard = fmin(fmax(z / 6 + 0.5, 0), 1);
            const double a =
                up + 0.5 * (z > 0 ? z : 0.01 * z) - z * 0.5 * (1 + erf(z / sqrt(2))) / 3;
            const double c = z * sigmoid(z) + (z > 0 ? z : expm1(z)) + soft * z * tanh(soft);
            const double d = hard - z * hard + fmin(up, 6) + exp(z) / sum;
            y[i * C + k] = tanh(a + c + d * log(2)) + 2 * dot(w, k, vv, C);
        }
    }
}

/* ---- cells that are layers ---- */

#define GRU_CELL                                                                                   \
    L "\"cell\", \"units\": 4, \"state\": {\"h\": \"units\"}, \"weights\": {\"weight_ih_l0\": "    \
      "[\"3 * units\", \"features\"], \"weight_hh_l0\": [\"3 * units\", \"units\"], "              \
      "\"bias_ih_l0\": \"3 * units\", \"bias_hn_l0\": \"units\"}, \"update\": {\"a\": "            \
      "\"weight_ih_l0 @ x + bias_ih_l0\", \"g\": \"weight_hh_l0 @ h\", \"r\": "                    \
      "\"sigmoid(a[0:units] + g[0:units])\", \"z\": \"sigmoid(a[units:2 * units] + "               \
      "g[units:2*units])\", \"n\": \"tanh(a[2 * units:3 * units] + r * (g[2 * units:3 * units] + " \
      "bias_hn_l0))\", \"h\": \"(1 - z) * n + z * h\"}"
#define GRU_LAYER L "\"gru\", \"units\": 4, \"bias\": \"single\""
#define LSTM_CELL                                                                                  \
    L "\"cell\", \"units\": 4, \"state\": {\"h\": \"units\", \"c\": \"units\"}, \"weights\": {"    \
      "\"weight_ih_l0\": [\"4 * units\", \"features\"], \"weight_hh_l0\": [\"4 * units\", "        \
      "\"units\"], \"bias_ih_l0\": \"4 * units\"}, \"update\": {\"a\": \"weight_ih_l0 @ x + "      \
      "weight_hh_l0 @ h + bias_ih_l0\", \"i\": \"sigmoid(a[0:units])\", \"f\": "                   \
      "\"sigmoid(a[units:2 * units])\", \"g\": \"tanh(a[2 * units:3 * units])\", \"o\": "          \
      "\"sigmoid(a[3 * units:4 * units])\", \"c\": \"f * c + i * g\", \"h\": \"o * tanh(c)\"}"
#define LSTM_LAYER L "\"lstm\", \"units\": 4, \"bias\": \"single\""
#define LAST       ", \"return\": \"last\"}"

static const LayerCase cases[] = {
    { "minimal gated unit", MGU "}", "[5, 6]", "[5, 4]", NULL, mgu_loop },
    { "minimal gated unit, last", MGU LAST, "[5, 6]", "[4]" },
    { "two states", ODD, "[5, 6]", "[3]", NULL, odd_loop },
    { "functions", WORDS, "[5, 6]", "[5, 6]", NULL, words_loop },
    { "gru as a cell", GRU_CELL "}", "[5, 6]", "[5, 4]" },
    { "lstm as a cell, last", LSTM_CELL LAST, "[5, 6]", "[4]" },
};

/* The same parameters by the same names: every output of a training step is the same, to the last
 * bit, and takes as many launches. */
static void cells_are_layers(void **state)
{
    (void)state;
    static const LayerCase pair[][2] = {
        { { "gru", GRU_LAYER "}", "[5, 6]", "[5, 4]" },
          { "gru as a cell", GRU_CELL "}", "[5, 6]", "[5, 4]" } },
        { { "gru, last", GRU_LAYER LAST, "[5, 6]", "[4]" },
          { "gru as a cell, last", GRU_CELL LAST, "[5, 6]", "[4]" } },
        { { "lstm", LSTM_LAYER "}", "[5, 6]", "[5, 4]" },
          { "lstm as a cell", LSTM_CELL "}", "[5, 6]", "[5, 4]" } },
    };
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++) {
        layer_cases_are_equal(&pair[i][0], &pair[i][1]);
        assert_int_equal(layer_case_launches(&pair[i][0]), layer_case_launches(&pair[i][1]));
    }
}

/* One matrix a product: as many loops; a weight more has its gradient, norm and update. */
static void one_matrix_a_gate_is_fused(void **state)
{
    (void)state;
    static const LayerCase gru = { "gru", GRU_LAYER "}", "[5, 6]", "[5, 4]" };
    static const LayerCase mgu = { "mgu", MGU "}", "[5, 6]", "[5, 4]" };
    const int want = layer_case_launches(&gru), got = layer_case_launches(&mgu);
    print_message("launches of a step: gru %d, minimal gated unit %d\n", want, got);
    assert_true(got <= want + 4);
}

/* ---- messages ---- */

typedef struct Bad {
    const char *state, *weights, *update, *rest;
    const char *at, *says; /* what the caret stands under; part of the message */
} Bad;

static const Bad bads[] = {
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"tanh(w @ x + )\"", "", ")\"",
      "wants a number, a name or '(', got ')'" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"w @ x + h h\"", "", "h\"}}]",
      "wants an operator or the end, got 'h'" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"(w @ x\"", "", "\"}}]",
      "wants an operator or ')', got the end" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"w @ x ^ 2\"", "", "^",
      "wants an operator or the end, got '^'" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"w @ x[0:6\"", "", "\"}}]", "wants ']'" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"w @ x + 2h\"", "", "h\"}}]",
      "wants an operator after a number" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"w @ x + \\u00e9\"", "", "\\u00e9", "got '\xc3\xa9'" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"w\\t@\\t(x + gata)\"", "", "gata",
      "nothing has the name \"gata\" up to here" },
    { "\"h\": 3", "\"wide\": [3, 6]", "\"h\": \"wida @ x\"", "", "wida", "did you mean \"wide\"?" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"tan(w @ x)\"", "", "tan(",
      "there is no function \"tan\"" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"tanh(w @ x, h)\"", "", "tanh",
      "tanh wants 1 argument, got 2" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"z + w @ x\", \"z\": \"h\"", "", "z +",
      "nothing has the name \"z\" up to here" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"units * h + w @ x\"", "", "units *",
      "a size and no value" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"g\": \"w @ x\", \"h\": \"h\"", "", "{\"g\"",
      "nothing reads \"g\"" },
    { "\"h\": 3", "\"w\": [3, 6], \"b\": 3", "\"h\": \"w @ x\"", "", "{\"h\": \"w",
      "nothing reads \"b\"" },
    { "\"h\": 3, \"c\": 2", "\"w\": [3, 6]", "\"h\": \"w @ x\"", "", "{\"h\": \"w",
      "the state \"c\" has no line" },
    { "\"h\": 3", "\"h\": [3, 6]", "\"h\": \"h @ x\"", "", "\"h\": [", "\"h\" is there already" },
    { "\"h\": 3", "\"tanh\": [3, 6]", "\"h\": \"h\"", "", "\"tanh\"", "is the name of a function" },
    { "\"x\": 3", "\"w\": [3, 6]", "\"x\": \"w @ x\"", "", "\"x\": 3",
      "\"x\" has a meaning already" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"w @ x\"", ", \"output\": \"g\"", "\"g\"}",
      "wants a state or a name of" },
    { "", "\"w\": [3, 6]", "\"h\": \"w @ x\"", "", "{}, \"we",
      "wants an object of state, got none" },
    { "\"h\": [3, 3]", "\"w\": [3, 6]", "\"h\": \"w @ x\"", "", "[3, 3]",
      "wants a size, got [3, 3]" },
    { "\"h\": \"w\"", "\"w\": [3, 6]", "\"h\": \"w @ x\"", "", "w\"}, \"we",
      "nothing has the name \"w\"" },
    { "\"h\": 0", "\"w\": [3, 6]", "\"h\": \"w @ x\"", "", "0}", "wants an integer >= 1, got 0" },
    /* where the layer is built: the width of x is known then */
    { "\"h\": 3", "\"w\": [3, 5]", "\"h\": \"tanh(w @ x)\"", "", "@",
      "@ of a matrix [3, 5] and a vector of 6" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"h * w @ x\"", "", "* w",
      "a product of a vector of 3 and a matrix [3, 6]" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"h + w @ x @ x\"", "", "@ x\"",
      "wants a matrix of weights on its left, got a vector of 3" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"w @ x + x\"", "", "+ x",
      "a sum of a vector of 3 and a vector of 6" },
    { "\"h\": 3", "\"w\": [6, 6]", "\"h\": \"w @ x\"", "", "@ x",
      "the state \"h\" is a vector of 3, not a vector of 6" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"(w @ x)[1:4] + h\"", "", "[1:4]",
      "there is no part [1:4] of a vector of 3" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"w @ x + h[0:3/2]\"", "", "/2",
      "wants a whole number >= 1, got 1.5" },
    { "\"h\": \"features - 6\"", "\"w\": [3, 6]", "\"h\": \"w @ x\"", "", "- 6",
      "wants a whole number >= 1, got 0" },
    { "\"h\": \"units\"", "\"w\": [3, 6]", "\"h\": \"w @ x\"", "", "units",
      "the layer has no \"units\"" },
    { "\"h\": 3", "\"w\": [3, 6]", "\"h\": \"w @ x\", \"y\": \"w * 2\"", ", \"output\": \"y\"",
      "{\"type", "the output \"y\" is a matrix [3, 6]" },
};

static void check_bad(const Bad *bad)
{
    char text[600];
    snprintf(text, sizeof text,
             "{\"data\": {\"random\": {\"x\": [5, 6], \"y\": [5, 3], \"rows\": 8}}, \"layers\": "
             "[{\"type\": \"cell\", \"state\": {%s}, \"weights\": {%s}, \"update\": {%s}%s}], "
             "\"loss\": {\"type\": \"mse\"}}",
             bad->state, bad->weights, bad->update, bad->rest);
    Ctx cx;
    Model *m = NULL;
    Arena *arena = arena_new();
    ctx_init(&cx);
    Status st = model_parse(&cx, "m.json", text, NULL, 0, &m);
    if (st == ST_OK) {
        Graph *g;
        const DataShape d = { .input = m->data.random_inputs,
                              .ninput = m->data.nrandom,
                              .target = m->data.random_target };
        st = model_build(&cx, m, &d, BUILD_PREDICT, 2, arena, &g);
    }
    if (st == ST_OK)
        fail_msg("%s: accepted", text);
    const char *at = strstr(text, bad->at);
    assert_non_null(at);
    if (!strstr(cx.msg, bad->says) || cx.line != 1 || cx.col != (int)(at - text) + 1)
        fail_msg("%s:\nwants column %d and \"%s\", got column %d and %s", text,
                 (int)(at - text) + 1, bad->says, cx.col, cx.msg);
    model_free(m);
    arena_free(arena);
}

static void messages_say_where(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bads / sizeof *bads; i++)
        check_bad(&bads[i]);
}

/* Nesting and length are bounded: no text makes the reader overrun its stack. */
static void expressions_are_bounded(void **state)
{
    (void)state;
    static const char *const unit[] = { "(", "-", "h+", "abs(" };
    for (int i = 0; i < 4; i++) {
        char text[9000], *p = text;
        p += snprintf(
            p, 400,
            "{\"data\": {\"random\": {\"x\": [5, 6], \"y\": [3], \"rows\": 8}}, \"loss\": "
            "{\"type\": \"mse\"}, \"layers\": [{\"type\": \"cell\", \"state\": {\"h\": 3}, "
            "\"update\": {\"h\": \"");
        for (int k = 0; k < 2000; k++)
            p += snprintf(p, 8, "%s", unit[i]);
        snprintf(p, 16, "h\"}}]}");
        Ctx cx;
        Model *m = NULL;
        ctx_init(&cx);
        assert_int_equal(model_parse(&cx, "m.json", text, NULL, 0, &m), ST_PARSE);
        assert_non_null(strstr(cx.msg, "use several lines"));
    }
}

int main(void)
{
    enum { N = sizeof cases / sizeof *cases };
    struct CMUnitTest tests[2 * N + 4] = { cmocka_unit_test(cells_are_layers),
                                           cmocka_unit_test(one_matrix_a_gate_is_fused),
                                           cmocka_unit_test(messages_say_where),
                                           cmocka_unit_test(expressions_are_bounded) };
    layer_cases_tests(cases, N, tests + 4);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
