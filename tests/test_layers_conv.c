/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of places: convolutions, pools, padding, reductions and what else goes along axes, against
 * loops written out by hand; their gradients; and their kernels. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "tests/layer_case.h"

enum { B = LAYER_BATCH, T = 5, C = 6 };

/* ---- convolution and pooling ---- */

/* Three spatial axes, of extent 1 where a layer has fewer. */
typedef struct Space {
    int x[3], y[3], k[3], stride[3], dilation[3], lo[3];
    int in, out, groups;
} Space;

static int flat(const int *extent, const int *at)
{
    return (at[0] * extent[1] + at[1]) * extent[2] + at[2];
}

static void unflat(const int *extent, int i, int *at)
{
    at[2] = i % extent[2];
    at[1] = i / extent[2] % extent[1];
    at[0] = i / extent[2] / extent[1];
}

static int volume(const int *extent)
{
    return extent[0] * extent[1] * extent[2];
}

/* Where tap k of the window at y stands, without the padding; false outside of x. */
static bool tap_at(const Space *s, const int *y, const int *k, int *x)
{
    for (int i = 0; i < 3; i++) {
        x[i] = y[i] * s->stride[i] + k[i] * s->dilation[i] - s->lo[i];
        if (x[i] < 0 || x[i] >= s->x[i])
            return false;
    }
    return true;
}

/* y += w x by every pair of places; turned: x and y change places, w is (in, out / groups, K..). */
static void conv_loop(const LayerRun *r, const Space *s, bool turned, double *y)
{
    const double *x = layer_run_in(r, "x"), *w = layer_run_in(r, "l.weight"),
                 *bias = layer_run_in(r, "l.bias");
    const int nx = volume(s->x), ny = volume(s->y), nk = volume(s->k);
    const int to = turned ? nx : ny, cin = s->in / s->groups, cout = s->out / s->groups;
    for (int i = 0; i < B * to * s->out; i++)
        y[i] = bias[i % s->out];
    for (int b = 0; b < B; b++)
        for (int i = 0; i < ny * nk * s->in * cout; i++) {
            const int o = i % cout, c = i / cout % s->in, g = c / cin, k = i / cout / s->in % nk;
            int at_y[3], at_k[3], at_x[3];
            unflat(s->y, i / cout / s->in / nk, at_y);
            unflat(s->k, k, at_k);
            if (!tap_at(s, at_y, at_k, at_x))
                continue;
            const int px = flat(s->x, at_x), py = flat(s->y, at_y), oc = g * cout + o;
            if (turned)
                y[(b * nx + px) * s->out + oc] +=
                    w[(c * cout + o) * nk + k] * x[(b * ny + py) * s->in + c];
            else
                y[(b * ny + py) * s->out + oc] +=
                    w[(oc * cin + c % cin) * nk + k] * x[(b * nx + px) * s->in + c];
        }
}

#define ONES                                                                                       \
    {                                                                                              \
        1, 1, 1                                                                                    \
    }

static void grouped_conv1d_loop(const LayerRun *r, double *y)
{
    const Space s = { { 1, 1, 9 }, { 1, 1, 5 }, { 1, 1, 3 },
                      { 1, 1, 2 }, { 1, 1, 2 }, { 0, 0, 2 },
                      6,           4,           2 };
    conv_loop(r, &s, false, y);
}

static void depthwise_conv2d_loop(const LayerRun *r, double *y)
{
    const Space s = { { 1, 5, 7 }, { 1, 5, 7 }, { 1, 3, 3 }, ONES, ONES, { 0, 1, 1 }, 3, 3, 3 };
    conv_loop(r, &s, false, y);
}

static void conv3d_loop(const LayerRun *r, double *y)
{
    const Space s = { { 3, 4, 5 }, { 2, 3, 4 }, { 2, 2, 2 }, ONES, ONES, { 0, 0, 0 }, 2, 3, 1 };
    conv_loop(r, &s, false, y);
}

static void grouped_conv3d_loop(const LayerRun *r, double *y)
{
    const Space s = { { 3, 4, 5 }, { 2, 4, 3 }, { 2, 1, 3 }, ONES, ONES, { 0, 0, 0 }, 4, 6, 2 };
    conv_loop(r, &s, false, y);
}

/* Here x[] and y[] are those of the convolution that is turned round. */
static void conv_transpose1d_loop(const LayerRun *r, double *y)
{
    const Space s = {
        { 1, 1, 10 }, { 1, 1, 5 }, { 1, 1, 3 }, { 1, 1, 2 }, ONES, { 0, 0, 1 }, 6, 4, 2
    };
    conv_loop(r, &s, true, y);
}

static void conv_transpose3d_loop(const LayerRun *r, double *y)
{
    const Space s = {
        { 4, 4, 6 }, { 2, 3, 3 }, { 2, 2, 2 }, { 2, 1, 2 }, ONES, { 0, 0, 0 }, 2, 3, 1
    };
    conv_loop(r, &s, true, y);
}

static void conv_transpose2d_loop(const LayerRun *r, double *y)
{
    const Space s = {
        { 1, 8, 13 }, { 1, 4, 5 }, { 1, 2, 3 }, { 1, 2, 2 }, { 1, 1, 2 }, { 0, 0, 0 }, 2, 3, 1
    };
    conv_loop(r, &s, true, y);
}

static void pool_loop(const LayerRun *r, const Space *s, bool largest, double *y)
{
    const double *x = layer_run_in(r, "x");
    const int nx = volume(s->x), ny = volume(s->y), nk = volume(s->k), c = s->in;
    for (int i = 0; i < B * ny * c; i++) {
        int at_y[3], at_k[3], at_x[3];
        unflat(s->y, i / c % ny, at_y);
        y[i] = largest ? -INFINITY : 0;
        for (int k = 0; k < nk; k++) {
            unflat(s->k, k, at_k);
            assert_true(tap_at(s, at_y, at_k, at_x));
            const double v = x[(i / c / ny * nx + flat(s->x, at_x)) * c + i % c];
            y[i] = largest ? fmax(y[i], v) : y[i] + v / nk;
        }
    }
}

static void max_pool3d_loop(const LayerRun *r, double *y)
{
    const Space s = {
        { 4, 5, 6 }, { 2, 2, 3 }, { 2, 2, 2 }, { 2, 2, 2 }, ONES, { 0, 0, 0 }, 2, 2, 1
    };
    pool_loop(r, &s, true, y);
}

static void avg_pool3d_loop(const LayerRun *r, double *y)
{
    const Space s = { { 3, 4, 5 }, { 2, 2, 4 }, { 2, 3, 2 }, ONES, ONES, { 0, 0, 0 }, 2, 2, 1 };
    pool_loop(r, &s, false, y);
}

static void adaptive_pool_loop(const LayerRun *r, double *y)
{
    const Space s = {
        { 1, 6, 9 }, { 1, 2, 3 }, { 1, 3, 3 }, { 1, 3, 3 }, ONES, { 0, 0, 0 }, 2, 2, 1
    };
    pool_loop(r, &s, false, y);
}

/* (6, 9) in 4 by 2 parts: rows of 2, columns of 5 that share one; or (5) in 3. */
static void uneven_pool_loop(const LayerRun *r, double *y)
{
    static const int row[] = { 0, 2, 1, 3, 3, 5, 4, 6 }, column[] = { 0, 5, 4, 9 };
    const double *x = layer_run_in(r, "x");
    for (int i = 0; i < B * 4 * 2 * 2; i++) {
        const int c = i % 2, q = i / 2 % 2, p = i / 4 % 4, b = i / 16;
        const int h0 = row[2 * p], h1 = row[2 * p + 1], w0 = column[2 * q], w1 = column[2 * q + 1];
        y[i] = 0;
        for (int h = h0; h < h1; h++)
            for (int w = w0; w < w1; w++)
                y[i] += x[((b * 6 + h) * 9 + w) * 2 + c] / ((h1 - h0) * (w1 - w0));
    }
}

static void uneven_max_loop(const LayerRun *r, double *y)
{
    static const int lo[] = { 0, 1, 3 }, hi[] = { 2, 4, 5 };
    for (int i = 0; i < B * 3 * C; i++) {
        const int c = i % C, k = i / C % 3, b = i / C / 3;
        y[i] = -INFINITY;
        for (int t = lo[k]; t < hi[k]; t++)
            y[i] = fmax(y[i], layer_run_in(r, "x")[(b * T + t) * C + c]);
    }
}

static void k_max_loop(const LayerRun *r, double *y)
{
    for (int i = 0; i < B * C; i++) {
        double v[T];
        for (int t = 0; t < T; t++)
            v[t] = layer_run_in(r, "x")[(i / C * T + t) * C + i % C];
        for (int k = 0; k < 2; k++) {
            int best = 0;
            for (int t = 1; t < T; t++)
                best = v[t] > v[best] ? t : best;
            y[(i / C * 2 + k) * C + i % C] = v[best];
            v[best] = -INFINITY;
        }
    }
}

static void cumsum_loop(const LayerRun *r, double *y)
{
    for (int i = 0; i < B * T * C; i++)
        y[i] = layer_run_in(r, "x")[i] + (i / C % T ? y[i - C] : 0);
}

static void clamp_loop(const LayerRun *r, double *y)
{
    for (int i = 0; i < B * T * C; i++)
        y[i] = fmax(fmin(layer_run_in(r, "x")[i], layer_run_in(r, "z")[i]),
                    tanh(layer_run_in(r, "z")[i]));
}

static void upsample_loop(const LayerRun *r, double *y)
{
    for (int i = 0; i < B * 6 * 15 * 2; i++) {
        const int c = i % 2, w = i / 2 % 15 / 3, h = i / 30 % 6 / 2, b = i / 180;
        y[i] = layer_run_in(r, "x")[((b * 3 + h) * 5 + w) * 2 + c];
    }
}

/* (B, T, C) over T: the largest of sign * x, times sign. */
static void extreme(const LayerRun *r, double sign, double *y)
{
    const double *x = layer_run_in(r, "x");
    for (int i = 0; i < B * C; i++) {
        y[i] = -INFINITY;
        for (int t = 0; t < T; t++)
            y[i] = fmax(y[i], sign * x[(i / C * T + t) * C + i % C]);
        y[i] *= sign;
    }
}

static void reduce_max_loop(const LayerRun *r, double *y)
{
    extreme(r, 1, y);
}

static void reduce_min_loop(const LayerRun *r, double *y)
{
    extreme(r, -1, y);
}

static void reduce_mean_loop(const LayerRun *r, double *y)
{
    const double *x = layer_run_in(r, "x");
    memset(y, 0, B * 7 * sizeof *y);
    for (int i = 0; i < B * 5 * 7 * 3; i++)
        y[i / 105 * 7 + i / 3 % 7] += x[i] / 15;
}

/* The rows of the embedding at the place of the largest of each column. */
static void argmax_loop(const LayerRun *r, double *y)
{
    const double *x = layer_run_in(r, "x"), *w = layer_run_in(r, "l.weight");
    for (int i = 0; i < B * C; i++) {
        int at = 0;
        for (int t = 1; t < T; t++)
            if (x[(i / C * T + t) * C + i % C] > x[(i / C * T + at) * C + i % C])
                at = t;
        y[2 * i] = w[2 * at];
        y[2 * i + 1] = w[2 * at + 1];
    }
}

static void einsum_loop(const LayerRun *r, double *y)
{
    const double *x = layer_run_in(r, "x"), *z = layer_run_in(r, "z");
    for (int i = 0; i < B * T * 4; i++) {
        const int b = i / (T * 4), row = i / 4 % T, k = i % 4;
        y[i] = 0;
        for (int c = 0; c < C; c++)
            y[i] += x[(b * T + row) * C + c] * z[(b * 4 + k) * C + c];
    }
}

static void einsum_one_loop(const LayerRun *r, double *y)
{
    const double *x = layer_run_in(r, "x");
    memset(y, 0, B * 21 * sizeof *y);
    for (int i = 0; i < B * 105; i++)
        y[i / 105 * 21 + i % 3 * 7 + i / 3 % 7] += x[i];
}

/* T steps of y from those of x at index[] */
static void pick(const LayerRun *r, const int *index, int n, double *y)
{
    for (int i = 0; i < B * n * C; i++)
        y[i] = layer_run_in(r, "x")[(i / C / n * T + index[i / C % n]) * C + i % C];
}

static void reflect_loop(const LayerRun *r, double *y)
{
    pick(r, (int[]){ 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0 }, 12, y);
}

static void replicate_loop(const LayerRun *r, double *y)
{
    pick(r, (int[]){ 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4 }, 11, y);
}

static void circular_loop(const LayerRun *r, double *y)
{
    for (int i = 0; i < B * 7 * 12 * 2; i++) {
        const int c = i % 2, w = (i / 2 % 12 - 5 + 5) % 5, h = (i / 24 % 7 - 1 + 3) % 3;
        y[i] = layer_run_in(r, "x")[((i / 168 * 3 + h) * 5 + w) * 2 + c];
    }
}

static void transpose_loop(const LayerRun *r, double *y)
{
    for (int i = 0; i < B * T * C; i++)
        y[i] = layer_run_in(r, "x")[(i / T / C * T + i % T) * C + i / T % C];
}

static void subtract_loop(const LayerRun *r, double *y)
{
    for (int i = 0; i < B * T * C; i++)
        y[i] = layer_run_in(r, "x")[i] - 2 * layer_run_in(r, "z")[i];
}

/* ---- all ---- */

#define L "{\"name\": \"l\", \"type\": "
static const LayerCase cases[] = {
    { "conv1d of groups",
      L "\"conv1d\", \"filters\": 4, \"kernel\": 3, \"stride\": 2, \"dilation\": 2, \"groups\": 2}",
      "[9, 6]", "[5, 4]", NULL, grouped_conv1d_loop },
    { "conv2d, depthwise", L "\"conv2d\", \"filters\": 3, \"kernel\": 3, \"groups\": 3}",
      "[5, 7, 3]", "[5, 7, 3]", NULL, depthwise_conv2d_loop },
    { "conv3d", L "\"conv3d\", \"filters\": 3, \"kernel\": 2, \"padding\": \"valid\"}",
      "[3, 4, 5, 2]", "[2, 3, 4, 3]", NULL, conv3d_loop },
    { "conv3d in groups",
      L "\"conv3d\", \"filters\": 6, \"kernel\": [2, 1, 3], \"padding\": \"valid\", \"groups\": 2}",
      "[3, 4, 5, 4]", "[2, 4, 3, 6]", NULL, grouped_conv3d_loop },
    { "conv_transpose1d",
      L "\"conv_transpose1d\", \"filters\": 4, \"kernel\": 3, \"stride\": 2, \"padding\": 1, "
        "\"output_padding\": 1, \"groups\": 2}",
      "[5, 6]", "[10, 4]", NULL, conv_transpose1d_loop },
    { "conv_transpose2d",
      L
      "\"conv_transpose2d\", \"filters\": 3, \"kernel\": [2, 3], \"stride\": 2, \"dilation\": [1, "
      "2]}",
      "[4, 5, 2]", "[8, 13, 3]", NULL, conv_transpose2d_loop },
    { "conv_transpose3d",
      L "\"conv_transpose3d\", \"filters\": 3, \"kernel\": 2, \"stride\": [2, 1, 2]}",
      "[2, 3, 3, 2]", "[4, 4, 6, 3]", NULL, conv_transpose3d_loop },
    { "adaptive_avg_pool2d, uneven", L "\"adaptive_avg_pool2d\", \"output\": [4, 2]}", "[6, 9, 2]",
      "[4, 2, 2]", NULL, uneven_pool_loop },
    { "adaptive_max_pool1d", L "\"adaptive_max_pool1d\", \"output\": 3}", "[5, 6]", "[3, 6]", NULL,
      uneven_max_loop },
    { "k_max_pool1d", L "\"k_max_pool1d\", \"k\": 2}", "[5, 6]", "[2, 6]", NULL, k_max_loop },
    { "cumsum", L "\"cumsum\"}", "[5, 6]", "[5, 6]", NULL, cumsum_loop },
    { "minimum and maximum",
      "{\"name\": \"m\", \"type\": \"minimum\", \"input\": [\"x\", \"z\"]}, {\"name\": \"t\", "
      "\"type\": \"tanh\", \"input\": \"z\"}, " L "\"maximum\", \"input\": [\"m\", \"t\"]}",
      "[5, 6]", "[5, 6]", "[5, 6]", clamp_loop },
    { "max_pool3d", L "\"max_pool3d\"}", "[4, 5, 6, 2]", "[2, 2, 3, 2]", NULL, max_pool3d_loop },
    { "avg_pool3d", L "\"avg_pool3d\", \"kernel\": [2, 3, 2], \"stride\": 1}", "[3, 4, 5, 2]",
      "[2, 2, 4, 2]", NULL, avg_pool3d_loop },
    { "adaptive_avg_pool2d", L "\"adaptive_avg_pool2d\", \"output\": [2, 3]}", "[6, 9, 2]",
      "[2, 3, 2]", NULL, adaptive_pool_loop },
    { "upsample2d", L "\"upsample2d\", \"scale\": [2, 3]}", "[3, 5, 2]", "[6, 15, 2]", NULL,
      upsample_loop },
    { "pad1d, reflect", L "\"pad1d\", \"before\": 3, \"after\": 4, \"mode\": \"reflect\"}",
      "[5, 6]", "[12, 6]", NULL, reflect_loop },
    { "pad1d, replicate", L "\"pad1d\", \"before\": 6, \"mode\": \"replicate\"}", "[5, 6]",
      "[11, 6]", NULL, replicate_loop },
    { "pad2d, circular",
      L "\"pad2d\", \"before\": [1, 5], \"after\": [3, 2], \"mode\": \"circular\"}", "[3, 5, 2]",
      "[7, 12, 2]", NULL, circular_loop },
    { "subtract", L "\"subtract\", \"input\": [\"x\", \"z\", \"z\"]}", "[5, 6]", "[5, 6]", "[5, 6]",
      subtract_loop },
    { "transpose", L "\"transpose\"}", "[5, 6]", "[6, 5]", NULL, transpose_loop },
    { "reduce, max", L "\"reduce\", \"op\": \"max\", \"axes\": 0}", "[5, 6]", "[6]", NULL,
      reduce_max_loop },
    { "reduce, min", L "\"reduce\", \"op\": \"min\", \"axes\": -2}", "[5, 6]", "[6]", NULL,
      reduce_min_loop },
    { "reduce, mean", L "\"reduce\", \"op\": \"mean\", \"axes\": [-1, 0], \"keep\": true}",
      "[5, 7, 3]", "[1, 7, 1]", NULL, reduce_mean_loop },
    { "reduce, argmax",
      "{\"type\": \"reduce\", \"op\": \"argmax\", \"axes\": 0}, " L
      "\"embedding\", \"vocab\": 5, \"dim\": 2}",
      "[5, 6]", "[6, 2]", NULL, argmax_loop },
    { "einsum", L "\"einsum\", \"equation\": \"bij, bkj -> bik\", \"input\": [\"x\", \"z\"]}",
      "[5, 6]", "[5, 4]", "[4, 6]", einsum_loop },
    { "einsum of one", L "\"einsum\", \"equation\": \"bijk -> bkj\"}", "[5, 7, 3]", "[3, 7]", NULL,
      einsum_one_loop },
};

int main(void)
{
    enum { N = sizeof cases / sizeof *cases };
    struct CMUnitTest tests[2 * N];
    layer_cases_tests(cases, N, tests);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
