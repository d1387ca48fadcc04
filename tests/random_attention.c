/* SPDX-License-Identifier: Apache-2.0 */
/* A body grows from products that make scores.  Squares are as large as these; rows and columns
 * are one number each, wide rows and columns a vector each.  Any may be made of any others that
 * fit; no square is a result, and all there is goes into one. */
#include "tests/random_attention.h"

#include <stdio.h>

#include "ir/build.h"

enum { MOST_VALUES = 64, MOST_INPUTS = 14, MOST_BATCH = 3 };

typedef enum Kind { SQUARE, ROW, COL, WIDE_ROW, WIDE_COL, KINDS } Kind;

typedef struct Value {
    Ref r;
    bool used;
} Value;

typedef struct Body {
    Builder b;
    Rng *rng;
    int nbatch, ninput;
    Shape shape[KINDS];
    int64_t channels; /* that queries and keys share */
    Value value[KINDS][MOST_VALUES];
    int n[KINDS];
} Body;

/* ---- numbers ------------------------------------------------------------------------------- */

static int below(Body *w, int n)
{
    return (int)rng_below(w->rng, (uint64_t)n);
}

static bool chance(Body *w, int one_in)
{
    return below(w, one_in) == 0;
}

static int64_t random_extent(Body *w)
{
    static const int64_t extent[] = { 1, 2, 3, 7, 8, 16, 17, 24, 31, 33, 40, 64, 65, 67 };
    return extent[chance(w, 4) ? below(w, 14) : 4 + below(w, 10)];
}

static unsigned last_axis(const Body *w)
{
    return 1u << (w->nbatch + 1);
}

static unsigned row_axis(const Body *w)
{
    return 1u << w->nbatch;
}

/* ---- values -------------------------------------------------------------------------------- */

static Ref keep(Body *w, Kind k, Ref r)
{
    if (w->b.status == ST_OK && w->n[k] < MOST_VALUES)
        w->value[k][w->n[k]++] = (Value){ r, false };
    return r;
}

/* A value of this kind, rather one of the last; there is one. */
static Ref pick(Body *w, Kind k)
{
    const int n = w->n[k], late = n < 3 ? n : 3;
    Value *v = &w->value[k][chance(w, 3) ? below(w, n) : n - 1 - below(w, late)];
    v->used = true;
    return v->r;
}

static Ref input(Body *w, DType dt, Shape s)
{
    char name[16];
    if (w->ninput == MOST_INPUTS)
        return build_const(&w->b, dt == DT_BOOL ? 1 : .5, (Type){ dt, s });
    snprintf(name, sizeof name, "x%d", w->ninput++);
    return build_input(&w->b, INPUT_batch, name, dt, s);
}

/* An input, at times read through views. */
static Ref seen(Body *w, Shape s)
{
    const int axis = below(w, s.rank);
    Shape t = s;
    if (chance(w, 3) && s.dim[axis] > 3) {
        t.dim[axis] += 3;
        return build_slice(&w->b, input(w, DT_F32, t), axis, below(w, 4), s.dim[axis]);
    }
    if (chance(w, 4) && s.dim[axis] > 3) {
        t.dim[axis] -= 2;
        return build_pad(&w->b, input(w, DT_F32, t), axis, 1, 1, .25);
    }
    if (chance(w, 6))
        return build_reverse(&w->b, input(w, DT_F32, s), axis);
    if (chance(w, 6)) {
        const Ref x = input(w, chance(w, 2) ? DT_F16 : DT_BF16, s);
        return build_cast(&w->b, x, DT_F32);
    }
    return input(w, DT_F32, s);
}

/* Spreads a row or column over squares, wide rows or wide columns. */
static Ref spread(Body *w, Ref r, Kind from, Kind to)
{
    const bool last = from == ROW || to != SQUARE;
    return build_broadcast(&w->b, r, w->shape[to], last ? last_axis(w) : row_axis(w));
}

static Ref product(Body *w, Ref x, Ref y, int over_x, int over_y)
{
    int batch[MOST_BATCH] = { 0, 1, 2 };
    const int ox = w->nbatch + over_x, oy = w->nbatch + over_y;
    return build_contract_batch(&w->b, x, y, 1, &ox, &oy, w->nbatch, batch, batch);
}

static Ref turned(Body *w, Ref x)
{
    int perm[MAX_RANK];
    for (int i = 0; i < w->nbatch; i++)
        perm[i] = i;
    perm[w->nbatch] = w->nbatch + 1;
    perm[w->nbatch + 1] = w->nbatch;
    return build_transpose(&w->b, x, perm);
}

/* The sum over x's axis over_x and y's over_y, with either in front, and either turned; at times of
 * 16-bit numbers. */
static Ref any_product(Body *w, Ref x, Ref y, int over_x, int over_y)
{
    if (chance(w, 12)) {
        const DType dt = chance(w, 2) ? DT_F16 : DT_BF16;
        x = build_cast(&w->b, x, dt);
        y = build_cast(&w->b, y, dt);
        return build_cast(&w->b, any_product(w, x, y, over_x, over_y), DT_F32);
    }
    if (chance(w, 3)) {
        x = turned(w, x);
        over_x = !over_x;
    }
    if (chance(w, 3)) {
        y = turned(w, y);
        over_y = !over_y;
    }
    return chance(w, 3) ? turned(w, product(w, y, x, over_y, over_x))
                        : product(w, x, y, over_x, over_y);
}

static Shape with_last(const Body *w, Kind k, int64_t last)
{
    Shape s = w->shape[k];
    s.dim[w->nbatch + 1] = last;
    return s;
}

static Ref scale(Body *w, Ref r)
{
    static const double by[] = { .125, .25, .5, 1, -.5, 2 };
    return build_scale(&w->b, r, by[below(w, 6)]);
}

/* Scores of inputs, or of wide rows and columns that are there. */
static Ref grow_scores(Body *w)
{
    Ref q = seen(w, with_last(w, WIDE_ROW, w->channels));
    Ref k = seen(w, with_last(w, WIDE_COL, w->channels));
    if (w->n[WIDE_ROW] && w->n[WIDE_COL] && chance(w, 4)) {
        q = build_op1(&w->b, OP_tanh, pick(w, WIDE_ROW));
        k = build_op1(&w->b, OP_tanh, pick(w, WIDE_COL));
    }
    return keep(w, SQUARE, scale(w, any_product(w, q, k, 1, 1)));
}

/* What may stand beside squares: other inputs, broadcast. */
static Ref beside(Body *w, DType dt)
{
    const Shape all = w->shape[SQUARE];
    Shape s = { .rank = 0 };
    unsigned fresh = below(w, 1 << all.rank) & ((1 << all.rank) - 1);
    if (chance(w, 3))
        fresh = (1u << w->nbatch) - 1;
    for (int i = 0; i < all.rank; i++)
        if (!(fresh >> i & 1))
            s.dim[s.rank++] = all.dim[i];
    const Ref x = dt == DT_F32 && s.rank && chance(w, 2) ? seen(w, s) : input(w, dt, s);
    return build_broadcast(&w->b, x, all, fresh);
}

static Ref mask(Body *w)
{
    const Type t = { DT_I32, w->shape[SQUARE] };
    if (chance(w, 2))
        return beside(w, DT_BOOL);
    if (chance(w, 5)) {
        const Ref z = build_scalar(&w->b, DT_I32, 3);
        return build_op2(&w->b, OP_lt, build_rand(&w->b, t.shape, z, z, z, z, z),
                         build_scalar(&w->b, DT_F32, .7));
    }
    return build_op2(&w->b, chance(w, 2) ? OP_le : OP_lt, build_iota(&w->b, t, w->nbatch + 1),
                     build_iota(&w->b, t, w->nbatch));
}

/* No greater than it is, and positive. */
static Ref positive(Body *w, Ref r)
{
    return build_shift(&w->b, build_op1(&w->b, OP_abs, r), .75);
}

/* Elementwise, of one value. */
static Ref chain(Body *w, Ref r)
{
    static const Op op[] = { OP_tanh, OP_tanh, OP_neg, OP_sigmoid, OP_abs };
    switch (below(w, 8)) {
    case 0:
        return scale(w, r);
    case 1:
        return build_shift(&w->b, r, (below(w, 9) - 4) / 4.);
    case 2:
        return build_op1(&w->b, OP_exp, build_op1(&w->b, OP_tanh, r));
    case 3:
        return build_cast(&w->b, build_cast(&w->b, r, chance(w, 2) ? DT_F16 : DT_BF16), DT_F32);
    default:
        return build_op1(&w->b, op[below(w, 5)], r);
    }
}

/* Of two values, of which the second may be smaller. */
static Ref combine(Body *w, Ref x, Ref y)
{
    static const Op op[] = { OP_add, OP_sub, OP_mul, OP_max, OP_min, OP_sub, OP_mul };
    if (chance(w, 5))
        return build_op2(&w->b, OP_div, x, positive(w, y));
    return build_op2(&w->b, op[below(w, 7)], x, y);
}

/* ---- growing ------------------------------------------------------------------------------- */

/* Squares. */
static Ref step_square(Body *w, Ref x)
{
    switch (below(w, 8)) {
    case 7:
        return build_select(
            &w->b, build_op2(&w->b, OP_lt, pick(w, SQUARE), build_scalar(&w->b, DT_F32, .3137)), x,
            build_scalar(&w->b, DT_F32, chance(w, 2) ? 0 : -3));
    case 0:
        return chain(w, x);
    case 1:
        return combine(w, x, pick(w, SQUARE));
    case 2:
        return combine(w, x, beside(w, DT_F32));
    case 3:
        return build_select(&w->b, mask(w), x,
                            build_scalar(&w->b, DT_F32, chance(w, 2) ? 0 : -1e9));
    case 4:
        return build_select(&w->b, mask(w), build_scalar(&w->b, DT_F32, 0), x);
    case 5:
        return w->n[ROW] ? combine(w, x, spread(w, pick(w, ROW), ROW, SQUARE)) : x;
    default:
        return w->n[COL] ? combine(w, x, spread(w, pick(w, COL), COL, SQUARE)) : x;
    }
}

/* A softmax, or what is like one. */
static void grow_softmax(Body *w)
{
    const bool by_col = chance(w, 5);
    const Kind line = by_col ? COL : ROW;
    const unsigned axis = by_col ? row_axis(w) : last_axis(w);
    const Ref x = pick(w, SQUARE);
    Ref y = chance(w, 6) ? pick(w, SQUARE) : x;
    const bool lower = x == y && chance(w, 8);
    if (lower)
        y = build_select(&w->b, mask(w), x, build_scalar(&w->b, DT_F32, -150));
    Ref m = build_reduce(&w->b, OP_amax, y, axis);
    if (chance(w, 4))
        m = build_op1(&w->b, OP_floor, m);
    if (chance(w, 5))
        m = chain(w, m);
    keep(w, line, m);
    Ref p = build_op2(&w->b, OP_sub, x, spread(w, m, line, SQUARE));
    if (x != y && !lower)
        p = build_op2(&w->b, OP_min, p, build_scalar(&w->b, DT_F32, chance(w, 2) ? 3 : 60));
    p = build_op1(&w->b, OP_exp, p);
    if (chance(w, 4))
        p = build_select(&w->b, mask(w), p, build_scalar(&w->b, DT_F32, 0));
    else if (lower || chance(w, 8))
        p = build_op2(&w->b, OP_mul, p, build_cast(&w->b, mask(w), DT_F32));
    keep(w, SQUARE, p);
    if (chance(w, 5))
        p = chance(w, 2) ? build_op2(&w->b, OP_mul, p, p) : chain(w, p);
    if (chance(w, 6))
        return;
    const Ref l = build_reduce(&w->b, OP_sum, p, axis);
    keep(w, line, l);
    keep(w, SQUARE, build_op2(&w->b, OP_div, p, spread(w, positive(w, l), line, SQUARE)));
    if (chance(w, 2))
        keep(w, SQUARE, build_op2(&w->b, OP_div, p, spread(w, l, line, SQUARE)));
}

/* One number a row or column, or a vector. */
static void grow_line(Body *w)
{
    static const Op op[] = { OP_sum, OP_sum, OP_amax, OP_amin };
    const bool by_col = chance(w, 3);
    const unsigned axis = by_col ? row_axis(w) : last_axis(w);
    keep(w, by_col ? COL : ROW, build_reduce(&w->b, op[below(w, 4)], pick(w, SQUARE), axis));
}

static void grow_product(Body *w)
{
    const bool by_col = chance(w, 3);
    const Kind other = by_col ? WIDE_ROW : WIDE_COL;
    Ref x = w->n[other] && chance(w, 3) ? pick(w, other) : seen(w, w->shape[other]);
    keep(w, by_col ? WIDE_COL : WIDE_ROW, any_product(w, pick(w, SQUARE), x, !by_col, 0));
}

static void grow_small(Body *w)
{
    const Kind k = (Kind)(ROW + below(w, 4)), line = k == WIDE_ROW ? ROW : k == WIDE_COL ? COL : k;
    if (!w->n[k]) {
        keep(w, k, seen(w, w->shape[k]));
        return;
    }
    const Ref x = pick(w, k);
    if (chance(w, 3))
        keep(w, k, chain(w, x));
    else if (k == line || chance(w, 3))
        keep(w, k, combine(w, x, chance(w, 2) ? seen(w, w->shape[k]) : pick(w, k)));
    else if (chance(w, 2))
        keep(w, line, build_reduce(&w->b, chance(w, 2) ? OP_amax : OP_sum, x, last_axis(w)));
    else if (w->n[line])
        keep(w, k, combine(w, x, spread(w, pick(w, line), line, k)));
}

/* Sums over a square and another axis, of which no buffer holds all. */
static void grow_cube(Body *w)
{
    enum { DEEP = 3 };
    const int at = w->nbatch + 2;
    const unsigned deep = 1u << at;
    Shape s = w->shape[SQUARE],
          small = { .rank = 1, .dim = { chance(w, 3) ? s.dim[at - 1] : DEEP } };
    s.dim[s.rank++] = small.dim[0];
    if (s.dim[at - 1] * s.dim[at] > 800)
        small.dim[0] = s.dim[at] = DEEP;
    const Ref x = build_broadcast(&w->b, pick(w, SQUARE), s, deep);
    Ref y = build_broadcast(&w->b, input(w, DT_F32, small), s, deep - 1);
    if (s.dim[at] == s.dim[at - 1])
        y = build_broadcast(&w->b, pick(w, SQUARE), s, last_axis(w));
    Ref z = build_op2(&w->b, chance(w, 2) ? OP_mul : OP_add, x, y);
    if (chance(w, 3)) {
        keep(w, SQUARE, build_reduce(&w->b, OP_sum, build_op1(&w->b, OP_tanh, z), deep));
        return;
    }
    const bool by_row = chance(w, 3);
    const unsigned over = by_row ? row_axis(w) : last_axis(w);
    const Kind line = by_row ? COL : ROW;
    if (chance(w, 4)) {
        keep(w, line, build_reduce(&w->b, OP_sum, z, over | deep));
        return;
    }
    Ref m = build_reduce(&w->b, OP_amax, z, over);
    if (chance(w, 2)) {
        z = build_op2(&w->b, OP_sub, z, build_broadcast(&w->b, m, s, over));
        z = build_op1(&w->b, OP_exp, z);
        m = build_reduce(&w->b, OP_sum, z, over);
    }
    if (chance(w, 2)) {
        z = build_op2(&w->b, OP_div, z, positive(w, build_broadcast(&w->b, m, s, over)));
        keep(w, line, build_reduce(&w->b, OP_sum, z, over | deep));
        return;
    }
    keep(w, line, build_reduce(&w->b, OP_sum, m, last_axis(w)));
}

/* Something like attention, in which the sums may grow together. */
static void grow_attention(Body *w)
{
    grow_scores(w);
    Ref x = pick(w, SQUARE);
    for (int i = below(w, 3); i > 0; i--)
        x = step_square(w, x);
    const Ref m = build_reduce(&w->b, OP_amax, x, last_axis(w));
    keep(w, ROW, m);
    Ref p = build_op1(&w->b, OP_exp, build_op2(&w->b, OP_sub, x, spread(w, m, ROW, SQUARE)));
    const Ref l = build_reduce(&w->b, OP_sum, p, last_axis(w));
    keep(w, ROW, l);
    p = keep(w, SQUARE, build_op2(&w->b, OP_div, p, spread(w, l, ROW, SQUARE)));
    if (chance(w, 3))
        p = build_select(&w->b, mask(w), p, build_scalar(&w->b, DT_F32, 0));
    else if (chance(w, 3))
        p = build_op2(&w->b, OP_mul, p, beside(w, DT_F32));
    keep(w, SQUARE, p);
    keep(w, WIDE_ROW, any_product(w, p, seen(w, w->shape[WIDE_COL]), 1, 0));
    if (chance(w, 3))
        keep(w, WIDE_ROW, any_product(w, pick(w, SQUARE), seen(w, w->shape[WIDE_COL]), 1, 0));
}

static void grow(Body *w)
{
    const bool plain = chance(w, 2);
    if (plain)
        grow_attention(w);
    else
        grow_scores(w);
    if (!plain && chance(w, 2))
        grow_softmax(w);
    for (int i = plain ? (chance(w, 3) ? below(w, 4) : 0) : 1 + below(w, 8); i > 0; i--)
        switch (below(w, 16)) {
        case 0:
            grow_scores(w);
            break;
        case 1:
        case 2:
            grow_softmax(w);
            break;
        case 3:
        case 4:
            grow_line(w);
            break;
        case 5:
        case 6:
        case 7:
            grow_product(w);
            break;
        case 8:
        case 9:
            grow_small(w);
            break;
        case 10:
            if (chance(w, 2))
                grow_cube(w);
            break;
        default:
            keep(w, SQUARE, step_square(w, pick(w, SQUARE)));
        }
    for (int i = 0; i < w->n[SQUARE]; i++)
        if (!w->value[SQUARE][i].used)
            chance(w, 2) ? grow_line(w) : grow_product(w);
}

static void choose_shapes(Body *w)
{
    w->nbatch = 1 + below(w, MOST_BATCH);
    Shape s = { .rank = (int8_t)(w->nbatch + 2) };
    int64_t room = 12;
    for (int i = 0; i < w->nbatch; i++) {
        s.dim[i] = 1 + below(w, (int)room);
        if (s.dim[i] == 1 && !chance(w, 4))
            s.dim[i] = room > 1 ? 2 : 1;
        room = room / s.dim[i] ? room / s.dim[i] : 1;
    }
    const int64_t rows = random_extent(w), cols = chance(w, 3) ? rows : random_extent(w);
    const int64_t channels = chance(w, 8) ? cols : chance(w, 8) ? rows : 1 + below(w, 12);
    w->channels = chance(w, 3) ? channels : 1 + below(w, 12);
    s.dim[w->nbatch] = rows;
    s.dim[w->nbatch + 1] = cols;
    w->shape[SQUARE] = s;
    w->shape[WIDE_ROW] = with_last(w, SQUARE, channels);
    s.dim[w->nbatch + 1] = channels;
    s.dim[w->nbatch] = cols;
    w->shape[WIDE_COL] = s;
    s.rank--;
    w->shape[COL] = s;
    s.dim[w->nbatch] = rows;
    w->shape[ROW] = s;
}

static bool is_output(const Body *w, Ref r)
{
    bool is = false;
    for (uint32_t o = 0; o < w->b.g->nout; o++)
        is |= w->b.g->out[o].value == r;
    return is;
}

/* What nothing reads is an output, or added up in one; and so are some others. */
static void give_outputs(Body *w)
{
    enum { MOST = 2 };
    for (Kind k = ROW; k < KINDS; k++) {
        int n = 0;
        Ref rest = REF_NONE;
        for (int i = 0; i < w->n[k]; i++) {
            char name[16];
            const Ref r = w->value[k][i].r;
            snprintf(name, sizeof name, "y%u", w->b.g->nout);
            if (w->b.g->node[r].op == OP_input || is_output(w, r))
                continue;
            if (n < MOST - 1 && (!w->value[k][i].used || chance(w, 5))) {
                build_output(&w->b, r, name);
                n++;
            } else if (!w->value[k][i].used) {
                rest = rest ? build_op2(&w->b, OP_add, rest, r) : r;
            }
        }
        char name[16];
        snprintf(name, sizeof name, "y%u", w->b.g->nout);
        if (rest)
            build_output(&w->b, rest, name);
    }
}

Status random_attention(Ctx *cx, Rng *rng, Graph *g)
{
    Body w = { .b = build_start(cx, g), .rng = rng };
    choose_shapes(&w);
    grow(&w);
    give_outputs(&w);
    return w.b.status;
}
