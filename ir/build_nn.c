/* SPDX-License-Identifier: Apache-2.0 */
/* build_nn: composites from primitives.
 *
 * None of these is an op: the passes and the planners see products, sums and elementwise nodes, and
 * find by shape and dependence what belongs together.  Three habits matter to them.  The maximum
 * that keeps exp from overflowing is rounded down (floor): any near constant serves, and floor
 * has no gradient, so that no cotangent flows through the maximum.  A recurrent cell makes one
 * product per operand and slices gates from it at constant bounds, so nothing is concatenated,
 * forward or backward.  Rows that do not count are masked by select, so that not even a NaN in
 * them reaches a sum.
 */
#include "ir/build_nn.h"

#include "ir/base/bug.h"

uint32_t build_open(Builder *b, const char *kind)
{
    const uint32_t before = b->region;
    if (before == 0)
        build_region(b, kind, 0);
    return before;
}

Ref build_close(Builder *b, uint32_t before, Ref result)
{
    b->region = before;
    return result;
}

static Shape shape_at(const Builder *b, Ref x)
{
    return build_type(b, x).shape;
}

static Ref zeros_like(Builder *b, Ref x)
{
    return build_const(b, 0, build_type(b, x));
}

/* All axes but the last of a tensor of that rank. */
static unsigned all_but_last(int rank)
{
    return (1u << (rank - 1)) - 1;
}

/* ---- products and windows ---- */

Ref build_add_bias(Builder *b, Ref x, Ref bias)
{
    if (bias == REF_NONE || b->status != ST_OK)
        return x;
    return build_op2(b, OP_add, x, build_like(b, bias, x, all_but_last(shape_at(b, x).rank)));
}

Ref build_linear(Builder *b, Ref x, Ref w, Ref bias)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "linear");
    const Ref y = build_contract(b, x, w, 1, (int[]){ shape_at(b, x).rank - 1 }, (int[]){ 1 });
    return build_close(b, before, build_add_bias(b, y, bias));
}

Ref build_pool(Builder *b, Op op, Ref x, int n, const int64_t *kernel, const int64_t *stride)
{
    const uint32_t before = build_open(b, "pool");
    const int axis[] = { 1, 2, 3 };
    const int64_t dilation[] = { 1, 1, 1 };
    const unsigned over = ((1u << n) - 1) << (1 + n);
    double count = 1;
    for (int i = 0; i < n; i++)
        count *= (double)kernel[i];
    Ref y = build_reduce(b, op, build_window(b, x, n, axis, kernel, stride, dilation), over);
    if (op == OP_sum)
        y = build_scale(b, y, 1 / count);
    return build_close(b, before, y);
}

Ref build_global_pool(Builder *b, Op op, Ref x)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "pool");
    const Shape s = shape_at(b, x);
    double count = 1;
    for (int i = 1; i < s.rank - 1; i++)
        count *= (double)s.dim[i];
    Ref y = build_reduce(b, op, x, all_but_last(s.rank) & ~1u);
    if (op == OP_sum)
        y = build_scale(b, y, 1 / count);
    return build_close(b, before, y);
}

/* ---- normalisation and noise ---- */

Ref build_mask_rows(Builder *b, Ref x, Ref valid)
{
    if (valid == REF_NONE || b->status != ST_OK)
        return x;
    const unsigned rest = ((1u << shape_at(b, x).rank) - 1) & ~1u;
    return build_select(b, rest ? build_like(b, valid, x, rest) : valid, x, zeros_like(b, x));
}

/* (x - mean) * (rsqrt(var + eps) * weight) + bias */
static Ref normalise(Builder *b, Ref centred, Ref var, const BatchNorm *n)
{
    const Ref scale =
        build_op2(b, OP_mul, build_op1(b, OP_rsqrt, build_shift(b, var, n->eps)), n->weight);
    const unsigned rest = all_but_last(shape_at(b, centred).rank);
    return build_add_bias(b, build_op2(b, OP_mul, centred, build_like(b, scale, centred, rest)),
                          n->bias);
}

static Ref moved(Builder *b, Ref old, Ref next, double share)
{
    return build_op2(b, OP_add, build_scale(b, old, 1 - share), build_scale(b, next, share));
}

Ref build_batch_norm_train(Builder *b, Ref x, const BatchNorm *n, Ref *mean, Ref *var)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "batch_norm");
    const Shape s = shape_at(b, x);
    const unsigned rest = all_but_last(s.rank);
    double spatial = 1;
    for (int i = 1; i < s.rank - 1; i++)
        spatial *= (double)s.dim[i];
    const Ref count = build_scale(b, n->count, spatial);
    const Ref count_less =
        build_op2(b, OP_max, build_shift(b, count, -1), build_scalar(b, DT_F32, 1));

    const Ref mu =
        build_op2(b, OP_div, build_reduce(b, OP_sum, build_mask_rows(b, x, n->valid), rest), count);
    const Ref centred = build_op2(b, OP_sub, x, build_like(b, mu, x, rest));
    const Ref squares =
        build_squared_deviations(b, x, mu, BUG(68) ? REF_NONE : n->valid, rest);
    const Ref y = normalise(b, centred, build_op2(b, OP_div, squares, count), n);
    *mean = moved(b, n->running_mean, mu, n->momentum);
    *var = moved(b, n->running_var, build_op2(b, OP_div, squares, count_less), n->momentum);
    return build_close(b, before, y);
}

Ref build_batch_norm_eval(Builder *b, Ref x, const BatchNorm *n)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "batch_norm");
    const unsigned rest = all_but_last(shape_at(b, x).rank);
    const Ref centred = build_op2(b, OP_sub, x, build_like(b, n->running_mean, x, rest));
    return build_close(b, before, normalise(b, centred, n->running_var, n));
}

Ref build_dropout(Builder *b, Ref x, double rate, Ref seed, Ref stream, Ref step, Ref iter,
                  Ref row0)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "dropout");
    const Ref u = build_rand(b, shape_at(b, x), seed, stream, step, iter, row0);
    const Ref drop = build_op2(b, OP_lt, u, build_const(b, rate, build_type(b, u)));
    const Ref kept = build_scale(b, x, 1 / (1 - rate));
    return build_close(b, before, build_select(b, drop, zeros_like(b, x), kept));
}

/* ---- recurrent ---- */

static Ref body_input(Builder *body, const char *name, DType dt, Shape shape)
{
    return build_input(body, INPUT_batch, name, dt, shape);
}

static Ref gate(Builder *b, Op op, Ref z, int k, int64_t width)
{
    const Ref g = build_slice(b, z, 1, k * width, width);
    return op == OP_none ? g : build_op1(b, op, g);
}

/* A step of a cell: its inputs, in the order of the scan's arguments, and the states behind it. */
typedef struct Step {
    Ref h, c, x, w_ih, w_hh, bias, bias_hn;
    int64_t width; /* of a state */
    Ref h1, c1;
} Step;

typedef struct Cell {
    const char *kind;
    int gates;
    bool c, bias_hn; /* what of a Step it has */
    void (*step)(Builder *b, Step *s);
} Cell;

static void rnn_step(Builder *b, Step *s)
{
    const int one[] = { 1 };
    const Ref zx = build_contract(b, s->x, s->w_ih, 1, one, one);
    const Ref zh = build_contract(b, s->h, s->w_hh, 1, one, one);
    s->h1 = build_op1(b, OP_tanh, build_add_bias(b, build_op2(b, OP_add, zx, zh), s->bias));
}

static void lstm_step(Builder *b, Step *s)
{
    const int one[] = { 1 };
    const int64_t h = s->width;
    const Ref zx = build_contract(b, s->x, s->w_ih, 1, one, one);
    const Ref zh = build_contract(b, s->h, s->w_hh, 1, one, one);
    const Ref z = build_add_bias(b, build_op2(b, OP_add, zx, zh), s->bias);
    const Ref i = gate(b, OP_sigmoid, z, BUG(16), h), f = gate(b, OP_sigmoid, z, !BUG(16), h);
    const Ref n = gate(b, OP_tanh, z, 2, h), o = gate(b, OP_sigmoid, z, 3, h);
    s->c1 = build_op2(b, OP_add, build_op2(b, OP_mul, f, s->c), build_op2(b, OP_mul, i, n));
    s->h1 = build_op2(b, OP_mul, o, build_op1(b, OP_tanh, s->c1));
}

static void gru_step(Builder *b, Step *s)
{
    const int one[] = { 1 };
    const int64_t h = s->width;
    const Ref zx = build_add_bias(b, build_contract(b, s->x, s->w_ih, 1, one, one), s->bias);
    const Ref zh = build_contract(b, s->h, s->w_hh, 1, one, one);
    const Ref r =
        build_op1(b, OP_sigmoid,
                  build_op2(b, OP_add, gate(b, OP_none, zx, 0, h), gate(b, OP_none, zh, 0, h)));
    const Ref u =
        build_op1(b, OP_sigmoid,
                  build_op2(b, OP_add, gate(b, OP_none, zx, 1, h), gate(b, OP_none, zh, 1, h)));
    const Ref hn = build_add_bias(b, gate(b, OP_none, zh, 2, h), s->bias_hn);
    const Ref n = build_op1(
        b, OP_tanh, build_op2(b, OP_add, gate(b, OP_none, zx, 2, h), build_op2(b, OP_mul, r, hn)));
    const Ref rest = build_op2(b, OP_sub, build_const(b, 1, build_type(b, u)), u);
    s->h1 = build_op2(b, OP_add, build_op2(b, OP_mul, BUG(66) ? u : rest, n),
                      build_op2(b, OP_mul, BUG(66) ? rest : u, s->h));
}

/* The body of a cell's scan: to (h', c', and h' again where all states are wanted). */
static Graph *cell_body(Builder *outer, const Cell *cell, int64_t rows, int64_t in, int64_t h,
                        bool last)
{
    Graph *g = graph_new(outer->g->arena);
    Builder body = build_start(outer->cx, g), *b = &body;
    Step s = { .width = h };
    s.h = body_input(b, "h", DT_F32, shape_of(2, rows, h));
    if (cell->c)
        s.c = body_input(b, "c", DT_F32, shape_of(2, rows, h));
    s.x = body_input(b, "x", DT_F32, shape_of(2, rows, in));
    s.w_ih = body_input(b, "w_ih", DT_F32, shape_of(2, cell->gates * h, in));
    s.w_hh = body_input(b, "w_hh", DT_F32, shape_of(2, cell->gates * h, h));
    s.bias = body_input(b, "bias", DT_F32, shape_of(1, cell->gates * h));
    if (cell->bias_hn)
        s.bias_hn = body_input(b, "bias_hn", DT_F32, shape_of(1, h));
    cell->step(b, &s);
    build_output(b, s.h1, NULL);
    if (cell->c)
        build_output(b, s.c1, NULL);
    if (!last)
        build_output(b, s.h1, NULL);
    outer->status = outer->status == ST_OK ? body.status : outer->status;
    return g;
}

static Ref build_cell(Builder *b, Ref x, const Recurrent *r, bool last, const Cell *cell)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, cell->kind);
    const Shape s = shape_at(b, x);
    const int64_t h = shape_at(b, r->w_hh).dim[1];
    Graph *body = cell_body(b, cell, s.dim[1], s.dim[2], h, last);
    const Ref zero = build_const(b, 0, (Type){ DT_F32, shape_of(2, s.dim[1], h) });
    const int carries = cell->c ? 2 : 1;
    const Ref arg[] = { zero, zero, x, r->w_ih, r->w_hh, r->bias, r->bias_hn };
    const Ref scan = build_scan(b, body, arg + 2 - carries, carries + 4 + cell->bias_hn, carries, 1,
                                s.dim[0], r->reverse);
    return build_close(b, before, build_get(b, scan, last ? 0 : carries));
}

Ref build_rnn(Builder *b, Ref x, const Recurrent *r, bool last)
{
    static const Cell rnn = { "rnn", 1, false, false, rnn_step };
    return build_cell(b, x, r, last, &rnn);
}

Ref build_lstm(Builder *b, Ref x, const Recurrent *r, bool last)
{
    static const Cell lstm = { "lstm", 4, true, false, lstm_step };
    return build_cell(b, x, r, last, &lstm);
}

Ref build_gru(Builder *b, Ref x, const Recurrent *r, bool last)
{
    static const Cell gru = { "gru", 3, false, true, gru_step };
    return build_cell(b, x, r, last, &gru);
}

Ref build_attention_pool(Builder *b, Ref x, Ref w, Ref bias, bool tanh_score, Ref *weights)
{
    if (b->status != ST_OK)
        return REF_NONE;
    const uint32_t before = build_open(b, "attention_pool");
    const Shape s = shape_at(b, x);
    const Ref score = build_linear(b, tanh_score ? build_op1(b, OP_tanh, x) : x, w, bias);
    const Ref p = build_softmax(b, build_reshape(b, score, shape_of(2, s.dim[0], s.dim[1])), 1);
    if (weights)
        *weights = p;
    const Ref weighted = build_op2(b, OP_mul, build_like(b, p, x, 1u << 2), x);
    return build_close(b, before, build_reduce(b, OP_sum, weighted, 1u << 1));
}
