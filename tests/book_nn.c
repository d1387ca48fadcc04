/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/book_nn.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "ir/base/rng.h"
#include "ir/build_nn.h"

enum { MOST = 8 };

typedef struct Nn {
    Builder b;
    Rng rng;
    Tensor in[MOST];
    int nin;
    double *want[MOST]; /* by output */
    int nout;
} Nn;

static int64_t below(Nn *n, int64_t most)
{
    return (int64_t)rng_below(&n->rng, (uint64_t)most);
}
static int64_t extent(Nn *n)
{
    static const int64_t at[] = { 1, 2, 3, 4, 5, 7 };
    return at[below(n, 6)];
}

/* An input of random values. */
static const double *given(Nn *n, Shape s, Ref *r)
{
    const Type t = { DT_F32, s };
    Tensor *x = &n->in[n->nin];
    *x = tensor_new(n->b.g->arena, t);
    for (int64_t i = 0; i < shape_count(&s); i++)
        x->at[i] = rng_normal(&n->rng);
    *r = build_input(&n->b, INPUT_batch, arena_printf(n->b.g->arena, "x%d", n->nin++), t.dt, s);
    return x->at;
}

/* Where the loops put what output r must be. */
static double *wanted(Nn *n, Ref r)
{
    const Type t = build_type(&n->b, r);
    build_output(&n->b, r, NULL);
    return n->want[n->nout++] = arena_array(n->b.g->arena, double, shape_count(&t.shape) + 1);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* ------------------------------------------------------------ recurrent */

typedef struct Cell {
    int64_t t, b, i, h;
    const double *x, *w_ih, *w_hh, *bias, *bias_hn;
} Cell;

/* Row g * h + k of the two products, without biases. */
static double row_of(const Cell *c, const double *w, int64_t width, const double *v, int64_t gate,
                     int64_t k)
{
    double sum = 0;
    for (int64_t j = 0; j < width; j++)
        sum += w[(gate * c->h + k) * width + j] * v[j];
    return sum;
}

static void lstm_step(const Cell *c, const double *x, const double *h, double *s, double *next)
{
    for (int64_t k = 0; k < c->h; k++) {
        double z[4];
        for (int g = 0; g < 4; g++)
            z[g] = row_of(c, c->w_ih, c->i, x, g, k) + row_of(c, c->w_hh, c->h, h, g, k) +
                   c->bias[g * c->h + k];
        s[k] = sigmoid(z[1]) * s[k] + sigmoid(z[0]) * tanh(z[2]);
        next[k] = sigmoid(z[3]) * tanh(s[k]);
    }
}

static void gru_step(const Cell *c, const double *x, const double *h, double *s, double *next)
{
    (void)s;
    for (int64_t k = 0; k < c->h; k++) {
        double zx[3], zh[3];
        for (int g = 0; g < 3; g++) {
            zx[g] = row_of(c, c->w_ih, c->i, x, g, k) + c->bias[g * c->h + k];
            zh[g] = row_of(c, c->w_hh, c->h, h, g, k);
        }
        const double r = sigmoid(zx[0] + zh[0]), u = sigmoid(zx[1] + zh[1]);
        const double n = tanh(zx[2] + r * (zh[2] + c->bias_hn[k]));
        next[k] = (1 - u) * n + u * h[k];
    }
}

static void nn_recurrent(Nn *n, bool gru)
{
    Cell c = { extent(n), extent(n), extent(n), extent(n), NULL, NULL, NULL, NULL, NULL };
    Recurrent r = { .reverse = below(n, 2) };
    const bool last = below(n, 2);
    const int64_t gates = gru ? 3 : 4;
    Ref x;
    c.x = given(n, shape_of(3, c.t, c.b, c.i), &x);
    c.w_ih = given(n, shape_of(2, gates * c.h, c.i), &r.w_ih);
    c.w_hh = given(n, shape_of(2, gates * c.h, c.h), &r.w_hh);
    c.bias = given(n, shape_of(1, gates * c.h), &r.bias);
    c.bias_hn = given(n, shape_of(1, c.h), &r.bias_hn);
    double *y = wanted(n, (gru ? build_gru : build_lstm)(&n->b, x, &r, last));
    double *h = arena_array(n->b.g->arena, double, 3 * c.h), *s = h + c.h, *next = s + c.h;
    for (int64_t b = 0; b < c.b; b++) {
        for (int64_t k = 0; k < 2 * c.h; k++)
            h[k] = 0;
        for (int64_t at = 0; at < c.t; at++) {
            const int64_t t = r.reverse ? c.t - 1 - at : at;
            (gru ? gru_step : lstm_step)(&c, c.x + (t * c.b + b) * c.i, h, s, next);
            for (int64_t k = 0; k < c.h; k++)
                h[k] = y[((last ? 0 : t) * c.b + b) * c.h + k] = next[k];
        }
    }
}

static void nn_lstm(Nn *n)
{
    nn_recurrent(n, false);
}
static void nn_gru(Nn *n)
{
    nn_recurrent(n, true);
}

/* ------------------------------------------------------------ convolution, two axes */

static void nn_conv(Nn *n)
{
    ConvShape s = { .n = 2, .groups = 1 + below(n, 3) };
    const int64_t b = extent(n), cg = 1 + below(n, 3), og = 1 + below(n, 3);
    const int64_t c = cg * s.groups, o = og * s.groups;
    int64_t k[2], x[2], y[2];
    for (int i = 0; i < 2; i++) {
        k[i] = 1 + below(n, 3);
        s.stride[i] = 1 + below(n, 2);
        s.dilation[i] = 1 + below(n, 2);
        s.lo[i] = below(n, 3);
        s.hi[i] = below(n, 3);
        x[i] = (k[i] - 1) * s.dilation[i] + 1 + below(n, 5);
        y[i] = (x[i] + s.lo[i] + s.hi[i] - (k[i] - 1) * s.dilation[i] - 1) / s.stride[i] + 1;
    }
    Ref rx, rw, rb;
    const double *in = given(n, shape_of(4, b, x[0], x[1], c), &rx);
    const double *w = given(n, shape_of(4, o, cg, k[0], k[1]), &rw);
    const double *bias = given(n, shape_of(1, o), &rb);
    double *out = wanted(n, build_conv(&n->b, rx, rw, rb, &s));
    for (int64_t at = 0; at < b * y[0] * y[1] * o; at++) {
        const int64_t q = at % o, j1 = at / o % y[1], j0 = at / o / y[1] % y[0];
        const int64_t row = at / o / y[1] / y[0];
        double sum = bias[q];
        for (int64_t tap = 0; tap < cg * k[0] * k[1]; tap++) {
            const int64_t k1 = tap % k[1], k0 = tap / k[1] % k[0], ci = tap / k[1] / k[0];
            const int64_t i0 = j0 * s.stride[0] + k0 * s.dilation[0] - s.lo[0];
            const int64_t i1 = j1 * s.stride[1] + k1 * s.dilation[1] - s.lo[1];
            const int64_t channel = q / og * cg + ci;
            if (i0 >= 0 && i0 < x[0] && i1 >= 0 && i1 < x[1])
                sum += w[((q * cg + ci) * k[0] + k0) * k[1] + k1] *
                       in[((row * x[0] + i0) * x[1] + i1) * c + channel];
        }
        out[at] = sum;
    }
}

/* ------------------------------------------------------------ norms */

static void nn_layer_norm(Nn *n)
{
    const int64_t rows = extent(n), c = 1 + extent(n);
    Ref rx, rw, rb;
    const double *x = given(n, shape_of(2, rows, c), &rx), *w = given(n, shape_of(1, c), &rw);
    const double *bias = given(n, shape_of(1, c), &rb);
    double *y = wanted(n, build_layer_norm(&n->b, rx, 1, rw, rb, 1e-3));
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0, var = 0;
        for (int64_t k = 0; k < c; k++)
            mean += x[r * c + k] / (double)c;
        for (int64_t k = 0; k < c; k++)
            var += (x[r * c + k] - mean) * (x[r * c + k] - mean) / (double)c;
        for (int64_t k = 0; k < c; k++)
            y[r * c + k] = (x[r * c + k] - mean) / sqrt(var + 1e-3) * w[k] + bias[k];
    }
}

/* Of the first `valid` rows of a batch; the running variance is the unbiased one. */
static void nn_batch_norm(Nn *n)
{
    const int64_t rows = 1 + extent(n), t = extent(n), c = extent(n), valid = 1 + below(n, rows);
    BatchNorm bn = { .eps = 1e-3, .momentum = 0.25 };
    Ref rx, mean, var;
    const double *x = given(n, shape_of(3, rows, t, c), &rx);
    const double *w = given(n, shape_of(1, c), &bn.weight);
    const double *bias = given(n, shape_of(1, c), &bn.bias);
    const double *m0 = given(n, shape_of(1, c), &bn.running_mean);
    const double *v0 = given(n, shape_of(1, c), &bn.running_var);
    const Type row = { DT_I32, shape_of(1, rows) };
    bn.valid = build_op2(&n->b, OP_lt, build_iota(&n->b, row, 0),
                         build_scalar(&n->b, DT_I32, (double)valid));
    bn.count = build_scalar(&n->b, DT_F32, (double)valid);
    const Ref ry = build_batch_norm_train(&n->b, rx, &bn, &mean, &var);
    double *y = wanted(n, ry), *m1 = wanted(n, mean), *v1 = wanted(n, var);
    const double count = (double)(valid * t);
    for (int64_t k = 0; k < c; k++) {
        double m = 0, v = 0;
        for (int64_t i = 0; i < valid * t; i++)
            m += x[i * c + k] / count;
        for (int64_t i = 0; i < valid * t; i++)
            v += (x[i * c + k] - m) * (x[i * c + k] - m) / count;
        for (int64_t i = 0; i < rows * t; i++)
            y[i * c + k] = (x[i * c + k] - m) / sqrt(v + 1e-3) * w[k] + bias[k];
        m1[k] = 0.75 * m0[k] + 0.25 * m;
        v1[k] = 0.75 * v0[k] + 0.25 * v * count / fmax(count - 1, 1);
    }
}

/* ------------------------------------------------------------ softmax, a loss */

static void nn_softmax(Nn *n)
{
    const int64_t rows = extent(n), c = extent(n);
    const bool log_of = below(n, 2);
    Ref rx;
    const double *x = given(n, shape_of(2, rows, c), &rx);
    double *y = wanted(n, (log_of ? build_log_softmax : build_softmax)(&n->b, rx, 1));
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t k = 0; k < c; k++)
            sum += exp(x[r * c + k]);
        for (int64_t k = 0; k < c; k++)
            y[r * c + k] = log_of ? x[r * c + k] - log(sum) : exp(x[r * c + k]) / sum;
    }
}

static void nn_huber(Nn *n)
{
    const int64_t rows = extent(n), c = extent(n);
    Ref rp, rt;
    const double *p = given(n, shape_of(2, rows, c), &rp), *t = given(n, shape_of(2, rows, c), &rt);
    double *y = wanted(n, build_huber(&n->b, rp, rt, 0.5));
    for (int64_t i = 0; i < rows * c; i++) {
        const double e = fabs(p[i] - t[i]);
        y[i] = e < 0.5 ? e * e / 2 : 0.5 * (e - 0.25);
    }
}

static const struct {
    const char *name;
    void (*make)(Nn *n);
} composite[] = {
    { "lstm", nn_lstm },
    { "gru", nn_gru },
    { "conv", nn_conv },
    { "layer_norm", nn_layer_norm },
    { "batch_norm", nn_batch_norm },
    { "softmax", nn_softmax },
    { "huber", nn_huber },
};

static void compare(const char *name, int output, const Tensor *got, const double *want,
                    BookVerdict *v)
{
    for (int64_t i = 0; i < shape_count(&got->type.shape); i++) {
        v->compared++;
        if (fabs(got->at[i] - want[i]) <= 1e-9 * (1 + fabs(want[i])) || v->wrong)
            continue;
        v->wrong = true;
        snprintf(v->text, sizeof v->text,
                 "%s, output %d %s[%lld]: the book says %.12g, the graph %.12g", name, output,
                 type_str(&got->type), (long long)i, want[i], got->at[i]);
    }
}

BookVerdict book_nn(Ctx *cx, uint64_t seed)
{
    BookVerdict v = { 0 };
    Arena *arena = arena_new();
    Nn n = { .b = build_start(cx, graph_new(arena)) };
    Tensor out[MOST];
    rng_init(&n.rng, seed, 11);
    const uint64_t which = rng_below(&n.rng, sizeof composite / sizeof *composite);
    composite[which].make(&n);
    if (n.b.status != ST_OK || eval_graph(cx, n.b.g, EVAL_F64, arena, n.in, out) != ST_OK)
        fail_msg("%s: %s", composite[which].name, cx->msg);
    for (int i = 0; i < n.nout; i++)
        compare(composite[which].name, i, &out[i], n.want[i], &v);
    arena_free(arena);
    return v;
}
