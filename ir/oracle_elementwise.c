/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds of the elementwise ops: one row an op, found by its name in ops.def.
 *
 *     way       how the ends of the result follow from the ends of the arguments
 *     sign      of RISES: for each argument, '+' where the op rises with it, '-' where it falls
 *     ulp       largest error of a kernel in units in the last place of the result: what
 *               tests/test_prelude.c holds the functions to, 0.5 for what IEEE rounds, 0 for what
 *               is exact
 *
 *     RISES     monotone in each argument: each end is the op of an end of each argument
 *     CORNERS   the extremes are at corners of the box of arguments (mul)
 *     QUOTIENT  the same, and anything where the divisor may be zero
 *     STEP      monotone and constant between jumps: a decision where the ends differ
 *     COMPARE   a step of the difference of its arguments: an element and itself are clear
 *     WAVE      moves at most as far as its argument does, within [-1, 1] (sin, cos)
 *     the rest are functions of their own, named after their op
 *
 * To add an op: a row.  Without it ROW_name is not declared and this file does not compile. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "ir/base/os.h"
#include "ir/oracle_op.h"

typedef enum Way { RISES, CORNERS, QUOTIENT, STEP, COMPARE, WAVE, ABS, EQUAL, SELECT, CAST } Way;

typedef struct Rule {
    Way way;
    char sign[4];
    double ulp;
} Rule;

/* clang-format off */
/*                  way        sign   ulp  */
#define ROW_add     { RISES,     "++",  .5   }
#define ROW_sub     { RISES,     "+-",  .5   }
#define ROW_mul     { CORNERS,   "",    .5   }
#define ROW_div     { QUOTIENT,  "",    1    }
#define ROW_max     { RISES,     "++",  0    }
#define ROW_min     { RISES,     "++",  0    }
#define ROW_neg     { RISES,     "-",   0    }
#define ROW_abs     { ABS,       "",    0    }
#define ROW_floor   { STEP,      "+",   0    }
#define ROW_sqrt    { RISES,     "+",   .5   }
#define ROW_rsqrt   { RISES,     "-",   2    }
#define ROW_exp     { RISES,     "+",   2    }
#define ROW_expm1   { RISES,     "+",   2    }
#define ROW_log     { RISES,     "+",   2    }
#define ROW_log1p   { RISES,     "+",   2    }
#define ROW_tanh    { RISES,     "+",   3    }
#define ROW_sigmoid { RISES,     "+",   3    }
#define ROW_erf     { RISES,     "+",   2    }
#define ROW_sin     { WAVE,      "",    1.5  }
#define ROW_cos     { WAVE,      "",    1.5  }
#define ROW_lt      { COMPARE,   "-+",  0    }
#define ROW_le      { COMPARE,   "-+",  0    }
#define ROW_eq      { EQUAL,     "",    0    }
#define ROW_and     { RISES,     "++",  0    }
#define ROW_or      { RISES,     "++",  0    }
#define ROW_not     { RISES,     "-",   0    }
#define ROW_select  { SELECT,    "",    0    }
#define ROW_cast    { CAST,      "",    .5   }
#define ROW_stop_gradient { RISES, "+", 0    }
/* clang-format on */

static const Rule rules[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad)
#define EW(id, args, flags, prec, shape, grad, value) [OP_##id] = ROW_##id,
#include "ir/ops.def"
};

/* ------------------------------------------------------------ rounding */

Rounding bound_rounding(DType dt)
{
    switch (dt) {
    case DT_F32:
        return (Rounding){ 0x1p-24, 0, 0x1p-126, FLT_MAX, 0x1p-126 };
    case DT_F16:
        return (Rounding){ 0x1p-24, 0x1p-11, 0x1p-24, 65504, 0x1p-126 };
    case DT_BF16:
        return (Rounding){ 0x1p-24, 0x1p-8, 0x1p-126, 0x1.fep127, 0x1p-126 };
    default:
        return (Rounding){ 0x1p-53, 0, 0, DBL_MAX, 0 };
    }
}

void bound_anything(double *lo, double *hi)
{
    *lo = -INFINITY;
    *hi = INFINITY;
}

bool bound_is_anything(double lo, double hi)
{
    return isinf(lo) && lo < 0 && isinf(hi) && hi > 0;
}

void bound_widen(const Rounding *r, double error, double scale, double *lo, double *hi)
{
    const bool own = isnan(scale), above = *lo >= 0, below = *hi <= 0;
    if (isnan(*lo) || (*lo == *hi && isinf(*lo)))
        return; /* surely NaN, or infinite */
    if (isinf(*lo) || isinf(*hi) || isinf(scale)) {
        bound_anything(lo, hi);
        return;
    }
    if (own ? *lo == 0 && *hi == 0 : scale == 0)
        return; /* nothing but zeros */
    const double unit = error * r->unit, tiny = r->tiny + (own ? 0 : 2 * error * r->flush);
    *lo -= unit * (own ? fabs(*lo) : scale) + r->store * fabs(*lo) + tiny;
    *hi += unit * (own ? fabs(*hi) : scale) + r->store * fabs(*hi) + tiny;
    if (own && above && *lo < 0) /* rounding changes no sign */
        *lo = 0;
    if (own && below && *hi > 0)
        *hi = 0;
    if (*lo < -r->most || *hi > r->most)
        bound_anything(lo, hi);
}

void bound_settle(double ref, bool certain, double *lo, double *hi)
{
    if (isnan(ref) && isnan(*lo) && isnan(*hi) && certain)
        return;
    if (isnan(ref) || isnan(*lo) || isnan(*hi)) {
        bound_anything(lo, hi);
        return;
    }
    *lo = bound_min(*lo, ref);
    *hi = bound_max(*hi, ref);
}

/* ------------------------------------------------------------ one run of elements */

enum { RUN = 256, MOST_ARGS = 3 };

typedef struct Run { /* n elements, of which the results lie packed */
    BoundCall *c;
    int64_t n, step[2 * MOST_ARGS];
    const double *end[2 * MOST_ARGS]; /* lo and hi of each argument */
    const double *ref;
    double *lo, *hi, *noise, *other;
} Run;

static double end_at(const Run *w, int k, int64_t i)
{
    return w->end[k][i * w->step[k]];
}

/* The op of one end of each argument: bit k of ends set: the upper one of argument k. */
static void row_of_ends(const Run *w, unsigned ends, double *out)
{
    const double *a[MOST_ARGS];
    int64_t step[MOST_ARGS];
    for (uint32_t k = 0; k < w->c->n->nargs; k++) {
        const unsigned upper = ends >> k & 1;
        a[k] = w->end[2 * k + upper];
        step[k] = w->step[2 * k + upper];
    }
    eval_row(w->c->n->op, w->n, out, a, step);
}

static void run_rises(const Run *w, const char *sign)
{
    unsigned upper = 0;
    for (uint32_t k = 0; k < w->c->n->nargs; k++)
        upper |= sign[k] == '+' ? 1u << k : 0;
    row_of_ends(w, ~upper, w->lo);
    row_of_ends(w, upper, w->hi);
}

/* Both NaN where x is. */
EVAL_WIDE
static void stretch(double *restrict lo, double *restrict hi, const double *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const double less = x[i] < lo[i] ? x[i] : lo[i], more = x[i] > hi[i] ? x[i] : hi[i];
        lo[i] = x[i] != x[i] ? x[i] : less;
        hi[i] = x[i] != x[i] ? x[i] : more;
    }
}

static void run_corners(const Run *w)
{
    double corner[RUN];
    row_of_ends(w, 0, w->lo);
    memcpy(w->hi, w->lo, (size_t)w->n * sizeof *w->hi);
    for (unsigned k = 1; k < 4; k++) {
        row_of_ends(w, k, corner);
        stretch(w->lo, w->hi, corner, w->n);
    }
    if (w->c->n->op != OP_mul || w->c->n->arg[0] != w->c->n->arg[1])
        return;
    for (int64_t i = 0; i < w->n; i++) { /* a square */
        const double lo = end_at(w, 0, i), hi = end_at(w, 1, i);
        if (!(w->lo[i] < 0))
            continue;
        w->lo[i] = 0;
        w->hi[i] = bound_max(lo * lo, hi * hi);
    }
}

static void run_quotient(const Run *w)
{
    run_corners(w);
    for (int64_t i = 0; i < w->n; i++) {
        const double lo = end_at(w, 2, i), hi = end_at(w, 3, i);
        if (lo <= 0 && hi >= 0 && lo != hi)
            bound_anything(&w->lo[i], &w->hi[i]);
    }
}

static void run_wave(const Run *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        const double width = end_at(w, 1, i) - end_at(w, 0, i);
        const bool any = isnan(w->ref[i]) || isnan(width);
        w->lo[i] = any ? w->ref[i] : bound_max(-1, w->ref[i] - width);
        w->hi[i] = any ? w->ref[i] : bound_min(1, w->ref[i] + width);
        if (isinf(width)) /* of something without an end there is no sine: NaN */
            bound_anything(&w->lo[i], &w->hi[i]);
    }
}

static void run_abs(const Run *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        const double lo = end_at(w, 0, i), hi = end_at(w, 1, i);
        w->lo[i] = isnan(lo) || isnan(hi) ? NAN : lo > 0 ? lo : hi < 0 ? -hi : 0;
        w->hi[i] = isnan(lo) || isnan(hi) ? NAN : bound_max(-lo, hi);
    }
}

static bool certain_at(const Run *w, int64_t i)
{
    for (uint32_t k = 0; k < w->c->n->nargs; k++)
        if (bound_is_anything(end_at(w, 2 * (int)k, i), end_at(w, 2 * (int)k + 1, i)))
            return false;
    return true;
}

/* One element compared with itself: two views of it meet. */
static bool is_itself(const Run *w, int64_t i)
{
    return w->end[0] + i * w->step[0] == w->end[2] + i * w->step[2];
}

/* Surely equal, and possibly equal. */
static void run_equal(const Run *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        if (is_itself(w, i) && certain_at(w, i)) {
            w->lo[i] = w->hi[i] = w->ref[i];
            continue;
        }
        const double lo0 = end_at(w, 0, i), hi0 = end_at(w, 1, i);
        const double lo1 = end_at(w, 2, i), hi1 = end_at(w, 3, i);
        w->lo[i] = lo0 == hi0 && lo1 == hi1 && lo0 == lo1;
        w->hi[i] = lo0 <= hi1 && lo1 <= hi0;
    }
}

static void run_compare(const Run *w, const char *sign)
{
    run_rises(w, sign);
    for (int64_t i = 0; i < w->n; i++) {
        if (!certain_at(w, i)) { /* NaN, for all we know, which no comparison holds of */
            w->lo[i] = 0;
            w->hi[i] = 1;
        } else if (is_itself(w, i)) {
            w->lo[i] = w->hi[i] = w->ref[i];
        }
    }
}

static void run_select(const Run *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        const bool surely = end_at(w, 0, i) != 0, possibly = end_at(w, 1, i) != 0;
        const double lo1 = end_at(w, 2, i), hi1 = end_at(w, 3, i);
        const double lo2 = end_at(w, 4, i), hi2 = end_at(w, 5, i);
        if (surely == possibly) {
            w->lo[i] = surely ? lo1 : lo2;
            w->hi[i] = surely ? hi1 : hi2;
        } else if (isnan(lo1) || isnan(hi1) || isnan(lo2) || isnan(hi2)) {
            bound_anything(&w->lo[i], &w->hi[i]);
        } else {
            w->lo[i] = bound_min(lo1, lo2);
            w->hi[i] = bound_max(hi1, hi2);
        }
        w->c->undecided |= surely != possibly && (lo1 != lo2 || hi1 != hi2);
    }
}

static double highest_of(DType dt)
{
    return dt == DT_U8 ? 255 : dt == DT_I32 ? 0x1p31 - 1 : dt == DT_I64 ? 0x1p63 : INFINITY;
}

static double lowest_of(DType dt)
{
    return dt == DT_U8 || dt == DT_BOOL ? 0
           : dt == DT_I32               ? -0x1p31
           : dt == DT_I64               ? -0x1p63
                                        : -INFINITY;
}

/* A float that no integer holds is nobody's promise. */
static void run_cast(const Run *w, DType from, DType to)
{
    for (int64_t i = 0; i < w->n; i++) {
        double lo = end_at(w, 0, i), hi = end_at(w, 1, i);
        if (to == DT_BOOL) {
            const bool zero = lo == 0 && hi == 0, maybe = lo <= 0 && hi >= 0;
            lo = !maybe;
            hi = !zero;
        } else if (!dtype_is_float(to)) {
            lo = trunc(lo);
            hi = trunc(hi);
            if (dtype_is_float(from) && (lo < lowest_of(to) || hi > highest_of(to)))
                bound_anything(&lo, &hi);
            if (isnan(lo) && isnan(hi))
                lo = hi = 0;
        }
        w->lo[i] = lo;
        w->hi[i] = hi;
    }
}

/* ------------------------------------------------------------ and what every op has in common */

static void take_decisions(const Run *w)
{
    for (int64_t i = 0; i < w->n; i++) {
        if (w->lo[i] == w->hi[i])
            continue;
        w->c->undecided = true;
        w->other[i] = w->ref[i] == w->lo[i] ? w->hi[i] : w->lo[i];
        if (isinf(w->other[i]))
            w->other[i] = NAN;
        if (w->c->which == SPAN_DECIDED)
            w->lo[i] = w->hi[i] = w->ref[i];
    }
}

/* Integers wrap where the evaluator's do; an interval that reaches beyond them is no interval. */
static void finish_integers(const Run *w, DType dt)
{
    for (int64_t i = 0; i < w->n; i++) {
        const bool beyond = w->lo[i] < lowest_of(dt) || w->hi[i] > highest_of(dt);
        if (w->lo[i] == w->hi[i])
            w->lo[i] = w->hi[i] = w->ref[i];
        else if (beyond)
            bound_anything(&w->lo[i], &w->hi[i]);
        bound_settle(w->ref[i], false, &w->lo[i], &w->hi[i]);
        if (dt == DT_BOOL) {
            w->lo[i] = bound_max(w->lo[i], 0);
            w->hi[i] = bound_min(w->hi[i], 1);
        }
    }
}

/* Whether all ends are numbers that no rounding makes infinite. */
EVAL_WIDE
static bool all_ordinary(const double *restrict lo, const double *restrict hi,
                         const double *restrict ref, int64_t n, double most)
{
    int64_t odd = 0;
    for (int64_t i = 0; i < n; i++)
        odd += !(fabs(lo[i]) <= most) | !(fabs(hi[i]) <= most) | !(fabs(ref[i]) <= most);
    return odd == 0;
}

/* Whether no argument may be anything. */
static bool all_certain(const Run *w)
{
    int64_t odd = 0;
    for (uint32_t k = 0; k < w->c->n->nargs; k++) {
        const double *lo = w->end[2 * k], *hi = w->end[2 * k + 1];
        const int64_t lo_step = w->step[2 * k], hi_step = w->step[2 * k + 1];
        for (int64_t i = 0; i < w->n; i++)
            odd += (lo[i * lo_step] == -INFINITY) & (hi[i * hi_step] == INFINITY);
    }
    return odd == 0;
}

/* What finish_floats does, of ordinary numbers in f32. */
EVAL_WIDE
static void finish_ordinary(double *restrict lo, double *restrict hi, double *restrict noise,
                            const double *restrict ref, int64_t n, double ulp)
{
    const Rounding r = bound_rounding(DT_F32);
    const double unit = 2 * ulp * r.unit, tiny = r.tiny;
    const bool still = ulp == 0, exact = ulp <= .5; /* when its result needs no rounding */
    for (int64_t i = 0; i < n; i++) {
        const double x = ref[i], low = lo[i] < x ? lo[i] : x, high = hi[i] > x ? hi[i] : x;
        const bool point = (lo[i] == hi[i]) & (lo[i] == x);
        const bool keep = still | (point & exact & ((double)(float)x == x));
        const bool zero = (low == 0) & (high == 0);
        const double down = low - (unit * fabs(low) + tiny), up = high + (unit * fabs(high) + tiny);
        const double below = ((low >= 0) & (down < 0)) ? 0 : down;
        const double above = ((high <= 0) & (up > 0)) ? 0 : up;
        lo[i] = (keep | zero) ? low : below;
        hi[i] = (keep | zero) ? high : above;
        noise[i] = keep ? 0 : unit * fabs(x) + tiny;
    }
}

static void finish_floats(const Run *w, DType dt, double ulp)
{
    const Rounding r = bound_rounding(dt);
    const bool picks = rules[w->c->n->op].way == SELECT;
    if (dt == DT_F32 && all_ordinary(w->lo, w->hi, w->ref, w->n, r.most / 2) &&
        (picks || all_certain(w))) {
        finish_ordinary(w->lo, w->hi, w->noise, w->ref, w->n, ulp);
        return;
    }
    for (int64_t i = 0; i < w->n; i++) {
        const double ref = w->ref[i];
        double *lo = &w->lo[i], *hi = &w->hi[i];
        const bool point = *lo == *hi && *lo == ref;
        if (!picks && !certain_at(w, i)) { /* of what may be NaN it may be NaN */
            bound_anything(lo, hi);
            continue;
        }
        bound_settle(ref, !isnan(ref) || certain_at(w, i), lo, hi);
        if (ulp == 0 || (point && ulp <= .5 && round_to(dt, ref) == ref))
            continue; /* nothing to round */
        w->noise[i] = (2 * ulp * r.unit + r.store) * fabs(ref) + r.tiny;
        bound_widen(&r, 2 * ulp, NAN, lo, hi);
    }
}

/* Where max, min or abs may take either side. */
static void find_bends(const Run *w)
{
    const bool two = w->c->n->nargs == 2;
    for (int64_t i = 0; i < w->n; i++) {
        const double lo0 = end_at(w, 0, i), hi0 = end_at(w, 1, i);
        const double lo1 = two ? end_at(w, 2, i) : 0, hi1 = two ? end_at(w, 3, i) : 0;
        if (lo0 < hi1 && lo1 < hi0)
            w->noise[i] = ANYWHERE;
    }
}

static void run_op(const Run *w)
{
    const Node *n = w->c->n;
    const Rule *rule = &rules[n->op];
    const DType from = w->c->arg[0].ref.type.dt, to = n->type.dt;
    const bool decides = rule->way == STEP || rule->way == COMPARE || rule->way == EQUAL ||
                         (rule->way == CAST && dtype_is_float(from) && !dtype_is_float(to));
    switch (rule->way) {
    case RISES:
    case STEP:
        run_rises(w, rule->sign);
        break;
    case COMPARE:
        run_compare(w, rule->sign);
        break;
    case CORNERS:
        run_corners(w);
        break;
    case QUOTIENT:
        run_quotient(w);
        break;
    case WAVE:
        run_wave(w);
        break;
    case ABS:
        run_abs(w);
        break;
    case EQUAL:
        run_equal(w);
        break;
    case SELECT:
        run_select(w);
        break;
    case CAST:
        run_cast(w, from, to);
        break;
    }
    if (!dtype_is_float(to))
        finish_integers(w, to);
    else
        finish_floats(w, to, rule->way == CAST && from == to ? 0 : rule->ulp);
    if (n->op == OP_max || n->op == OP_min || rule->way == ABS)
        find_bends(w);
    w->c->flat = decides;
    if (decides)
        take_decisions(w);
}

/* ------------------------------------------------------------ equal to the maximum
 *
 * eq(x, amax x) asks for x's largest elements, and x is the very value that the maximum was taken
 * of: it is open only between elements whose intervals reach the maximum's lower end. */

static const Node *extremum_of(const Graph *g, Ref r, Ref of)
{
    while (g->node[r].op == OP_broadcast || g->node[r].op == OP_reshape)
        r = g->node[r].arg[0];
    const Node *m = &g->node[r];
    return (m->op == OP_amax || m->op == OP_amin) && m->arg[0] == of ? m : NULL;
}

/* The reduced value of m seen in the shape of node r, along broadcasts and reshapes. */
static Status spread(const Eval *e, Ref r, const Node *m, const Value *reduced, Value *out)
{
    const Node *n = &e->g->node[r];
    if (n == m) {
        *out = *reduced;
        out->own = NULL;
        return ST_OK;
    }
    Value inner;
    TRY(spread(e, n->arg[0], m, reduced, &inner));
    const Status status = eval_fn[n->op](e, n, &inner, out);
    if (out->own == NULL)
        out->own = inner.own; /* at most one of the chain was copied */
    return status;
}

/* hi: 1 at every candidate.  lo: 1 at those that surely equal the extremum, or stand alone. */
static Status mark_candidates(BoundCall *c, const Node *m, int at, Span *out)
{
    const Span *x = &c->arg[at].span[c->which], *y = &c->arg[1 - at].span[c->which];
    const bool most = m->op == OP_amax;
    Value count = { 0 }, all = { 0 };
    Nest w;
    const int64_t *const stride[] = { out->lo.stride, out->hi.stride, x->lo.stride,
                                      x->hi.stride,   y->lo.stride,   y->hi.stride };
    for (nest_start(&w, &c->n->type.shape, 6, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            const double xlo = x->lo.at[w.off[2] + i * w.step[2]];
            const double xhi = x->hi.at[w.off[3] + i * w.step[3]];
            const double ylo = y->lo.at[w.off[4] + i * w.step[4]];
            const double yhi = y->hi.at[w.off[5] + i * w.step[5]];
            out->lo.at[w.off[0] + i * w.step[0]] = xlo == xhi && ylo == yhi && xlo == ylo;
            out->hi.at[w.off[1] + i * w.step[1]] = most ? xhi >= ylo : xlo <= yhi;
        }
    Node sum = *m;
    sum.op = OP_sum;
    Status status = eval_sum(c->e, &sum, &out->hi, &count);
    if (status == ST_OK)
        status = spread(c->e, c->n->arg[1 - at], m, &count, &all);
    if (status == ST_OK) {
        const int64_t *const by[] = { out->lo.stride, out->hi.stride, all.stride, y->lo.stride,
                                      y->hi.stride };
        for (nest_start(&w, &c->n->type.shape, 5, by); w.more; nest_next(&w))
            for (int64_t i = 0; i < w.n; i++) {
                const bool is = out->hi.at[w.off[1] + i * w.step[1]] != 0;
                double *lo = &out->lo.at[w.off[0] + i * w.step[0]];
                *lo = is && (*lo != 0 || (all.at[w.off[2] + i * w.step[2]] == 1 &&
                                          !bound_is_anything(y->lo.at[w.off[3] + i * w.step[3]],
                                                             y->hi.at[w.off[4] + i * w.step[4]])));
            }
    }
    c->e->cx->os->release(all.own);
    c->e->cx->os->release(count.own);
    return status;
}

static Status equal_to_extremum(BoundCall *c, Span *out)
{
    for (int at = 0; at < 2; at++) {
        const Node *m = extremum_of(c->e->g, c->n->arg[1 - at], c->n->arg[at]);
        if (m == NULL)
            continue;
        TRY(mark_candidates(c, m, at, out));
        const int64_t n = shape_count(&c->n->type.shape);
        c->undecided = false;
        Run whole = {
            .c = c, .n = n, .ref = c->ref->at, .lo = out->lo.at, .hi = out->hi.at, .other = c->other
        };
        for (int64_t i = 0; i < n; i++) { /* NaN equals nothing */
            whole.lo[i] = bound_min(whole.lo[i], whole.ref[i]);
            whole.hi[i] = bound_max(whole.hi[i], whole.ref[i]);
            whole.other[i] = NAN;
        }
        take_decisions(&whole);
        return ST_OK;
    }
    return ST_OK;
}

bool bound_can_link(const Graph *g, const Node *n, Sure args)
{
    if (op_info[n->op].cls != CLASS_ELEMENTWISE || !dtype_is_float(n->type.dt))
        return false;
    const Way way = rules[n->op].way;
    if (way == CAST)
        return dtype_is_float(g->node[n->arg[0]].type.dt);
    return way == SELECT ? args == SURE_OPEN : way != STEP && way != COMPARE && way != EQUAL;
}

Status bound_elementwise(BoundCall *c, Span *out)
{
    const Node *n = c->n;
    if (!out->lo.at) {
        TRY(value_new(c->e, &n->type, &out->lo));
        TRY(value_new(c->e, &n->type, &out->hi));
    }
    const int64_t *stride[NEST_OPERANDS] = { out->lo.stride };
    const Value *end[2 * MOST_ARGS];
    const int nends = 2 * (int)n->nargs;
    for (int k = 0; k < nends; k++) {
        const Span *s = &c->arg[k / 2].span[c->which];
        end[k] = k % 2 ? &s->hi : &s->lo;
        stride[k + 1] = end[k]->stride;
    }
    Nest w;
    for (nest_start(&w, &n->type.shape, nends + 1, stride); w.more; nest_next(&w))
        for (int64_t at = 0; at < w.n; at += RUN) {
            const int64_t to = w.off[0] + at;
            Run run = { .c = c,
                        .n = w.n - at < RUN ? w.n - at : RUN,
                        .ref = c->ref->at + to,
                        .lo = out->lo.at + to,
                        .hi = out->hi.at + to,
                        .noise = c->noise + to,
                        .other = c->other ? c->other + to : NULL };
            for (int k = 0; k < nends; k++) {
                run.step[k] = w.step[k + 1];
                run.end[k] = end[k]->at + w.off[k + 1] + at * w.step[k + 1];
            }
            run_op(&run);
        }
    return n->op == OP_eq ? equal_to_extremum(c, out) : ST_OK;
}
