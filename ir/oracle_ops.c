/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds of the ops that are not elementwise: sources, views, reductions, contractions.
 *
 * A view moves both ends.  A maximum is monotone, so its ends are the maxima of the ends.  A sum is
 * too, and then loses at most one rounding of its largest partial sum for every term, in whatever
 * order they are added: n units of the sum of magnitudes.  A contraction is the product of midpoint
 * and radius: |a b - a' b'| <= |a| rb + ra |b| + ra rb, by two products of magnitudes. */
#include <math.h>

#include "ir/base/os.h"
#include "ir/oracle_op.h"

static const Value *end_of(const BoundCall *c, uint32_t arg, bool upper)
{
    const Span *s = &c->arg[arg].span[c->which];
    return upper ? &s->hi : &s->lo;
}

static Value *out_end(Span *out, bool upper)
{
    return upper ? &out->hi : &out->lo;
}

/* ------------------------------------------------------------ moving elements */

/* Both ends by the op's own evaluator: right for what only moves elements, or is monotone. */
static Status both_ends(BoundCall *c, Span *out)
{
    Arena *arena = arena_new();
    Value *arg = arena_array(arena, Value, c->n->nargs);
    Status status = ST_OK;
    for (int upper = 0; upper < 2 && status == ST_OK; upper++) {
        for (uint32_t k = 0; k < c->n->nargs; k++)
            arg[k] = *end_of(c, k, upper);
        status = eval_fn[c->n->op](c->e, c->n, arg, out_end(out, upper));
    }
    arena_free(arena);
    return status;
}

Status bound_reshape(BoundCall *c, Span *out)
{
    return both_ends(c, out);
}

Status bound_transpose(BoundCall *c, Span *out)
{
    return both_ends(c, out);
}

Status bound_broadcast(BoundCall *c, Span *out)
{
    return both_ends(c, out);
}

Status bound_slice(BoundCall *c, Span *out)
{
    return both_ends(c, out);
}

Status bound_concat(BoundCall *c, Span *out)
{
    return both_ends(c, out);
}

Status bound_window(BoundCall *c, Span *out)
{
    return both_ends(c, out);
}

/* The value that pads may be rounded to the dtype, or not. */
Status bound_pad(BoundCall *c, Span *out)
{
    const double value = c->n->attr.pad.value, rounded = round_to(c->n->type.dt, value);
    for (int upper = 0; upper < 2; upper++) {
        Node n = *c->n;
        n.attr.pad.value = upper ? fmax(value, rounded) : fmin(value, rounded);
        TRY(eval_pad(c->e, &n, end_of(c, 0, upper), out_end(out, upper)));
    }
    return ST_OK;
}

/* ------------------------------------------------------------ sources */

Status bound_input(BoundCall *c, Span *out)
{
    (void)out;
    return FAIL(c->e->cx, INTERNAL, "input %s: has no value", c->n->name);
}

/* Known numbers: between what they are and what their dtype makes of them. */
static Status rounded_or_not(BoundCall *c, int64_t count, Span *out)
{
    const Eval rounding = { c->e->cx, EVAL_ROUND, c->e->g };
    TRY(eval_fn[c->n->op](&rounding, c->n, NULL, &out->lo));
    TRY(eval_fn[c->n->op](&rounding, c->n, NULL, &out->hi));
    for (int64_t i = 0; i < count; i++) {
        out->lo.at[i] = fmin(out->lo.at[i], c->ref->at[i]);
        out->hi.at[i] = fmax(out->hi.at[i], c->ref->at[i]);
    }
    return ST_OK;
}

Status bound_const(BoundCall *c, Span *out)
{
    TRY(rounded_or_not(c, 1, out));
    if (isnan(c->ref->at[0]))
        out->lo.at[0] = out->hi.at[0] = NAN;
    return ST_OK;
}

Status bound_iota(BoundCall *c, Span *out)
{
    return rounded_or_not(c, eval_iota_count(c->n), out);
}

/* Bits: the same everywhere, unless what they are made from is open. */
Status bound_rand(BoundCall *c, Span *out)
{
    bool exact = true;
    for (int k = 0; k < 5; k++)
        exact &= *end_of(c, (uint32_t)k, false)->at == *end_of(c, (uint32_t)k, true)->at;
    for (int upper = 0; upper < 2; upper++) {
        Value *end = out_end(out, upper);
        TRY(value_new(c->e, &c->n->type, end));
        if (exact)
            value_copy(end, c->ref);
        else
            value_fill(end, upper);
    }
    c->undecided |= !exact;
    return ST_OK;
}

/* ------------------------------------------------------------ sums */

/* max(|lo|, |hi|), packed; *whole: every element is an integer and known exactly. */
static Status magnitude(const BoundCall *c, uint32_t arg, Value *out, bool *whole)
{
    const Value *lo = end_of(c, arg, false), *hi = end_of(c, arg, true);
    TRY(value_new(c->e, &lo->type, out));
    Nest w;
    const int64_t *const stride[] = { out->stride, lo->stride, hi->stride };
    *whole = true;
    for (nest_start(&w, &lo->type.shape, 3, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            const double x = lo->at[w.off[1] + i * w.step[1]], y = hi->at[w.off[2] + i * w.step[2]];
            out->at[w.off[0] + i * w.step[0]] = isnan(x) ? x : fmax(fabs(x), fabs(y));
            *whole &= x == y && x == rint(x);
        }
    return ST_OK;
}

/* Errors of a sum of so many terms go either way: what is left of them grows with the root.  What
 * is flushed goes to zero.  More than the bound is no noise: a sample that is cut to it stands at
 * one of two ends, and two of them often at the same. */
static double usual_noise(const Rounding *r, double terms, double size, double ref)
{
    return fmin(2 + sqrt(terms), terms) * r->unit * size + r->store * fabs(ref) + r->tiny +
           2 * terms * r->flush;
}

/* Ends as they came from the op, which adds `terms` numbers whose magnitudes sum to size; drift: of
 * each sum, or NULL. */
static void widen_sums(const BoundCall *c, double terms, bool whole, const Value *size,
                       const Value *drift, Span *out)
{
    const int64_t n = shape_count(&c->n->type.shape);
    const DType dt = c->n->type.dt;
    const Rounding r = bound_rounding(dt);
    for (int64_t i = 0; i < n; i++) {
        const double ref = c->ref->at[i], scale = size->at[i];
        double *lo = &out->lo.at[i], *hi = &out->hi.at[i];
        const bool positive = *lo >= 0 && *hi == scale; /* every term is */
        if (!dtype_is_float(dt)) {
            if (*lo == *hi)
                *lo = *hi = ref;
            bound_settle(ref, false, lo, hi);
            continue;
        }
        bound_settle(ref, true, lo, hi);
        if (whole && scale <= 0x1p24 && round_to(dt, ref) == ref)
            continue;
        c->noise[i] = usual_noise(&r, terms, scale, ref);
        if (drift && isfinite(drift->at[i]))
            c->noise[i] += drift->at[i];
        bound_widen(&r, terms, scale, lo, hi);
        if (scale > r.most && isfinite(ref))
            bound_anything(lo, hi);
        if (positive && *lo < 0 && isfinite(*lo))
            *lo = 0;
    }
}

static Status adding(BoundCall *c, double terms, const Value *drift, Span *out)
{
    Value each = { 0 }, size = { 0 };
    bool whole;
    Status status = both_ends(c, out);
    if (status == ST_OK)
        status = magnitude(c, 0, &each, &whole);
    if (status == ST_OK) /* a second argument is an index, and known */
        status = eval_fn[c->n->op](
            c->e, c->n, (const Value[]){ each, c->n->nargs > 1 ? c->arg[1].ref : each }, &size);
    if (status == ST_OK)
        widen_sums(c, terms, whole, &size, drift, out);
    c->e->cx->os->release(each.own);
    c->e->cx->os->release(size.own);
    return status;
}

Status bound_adding(BoundCall *c, double terms, Span *out)
{
    return adding(c, terms, NULL, out);
}

/* Roundings of a sum do not always go either way: terms that are alike leave the same rest at each
 * sum of one exponent, and these rests add up.  So one such sum is made, in f32 and in a row, and
 * of what it loses under one exponent the magnitudes are added: of terms of all kinds little more
 * than chance would make, of 2500 terms of 1.1 ten times that. */
typedef struct Row {
    float sum;
    double rest, drift; /* lost under the sum's exponent, and under those before */
} Row;

static void row_add(Row *r, double x)
{
    const double exact = (double)r->sum + x;
    const float sum = (float)exact;
    int before, after;
    (void)frexpf(r->sum, &before);
    (void)frexpf(sum, &after);
    if (before != after) {
        r->drift += fabs(r->rest);
        r->rest = 0;
    }
    r->rest += (double)sum - exact;
    r->sum = sum;
}

static Status drift_of(const BoundCall *c, Value *out)
{
    const Value *x = &c->arg[0].ref;
    const int64_t n = shape_count(&c->n->type.shape);
    int64_t to[MAX_RANK] = { 0 }; /* out's strides along x's axes */
    Row *row;
    TRY(value_new(c->e, &c->n->type, out));
    TRY(eval_alloc(c->e->cx, (size_t)n * sizeof *row, &row));
    for (int64_t i = 0; i < n; i++)
        row[i] = (Row){ .sum = 0 };
    for (int i = 0, o = 0; i < x->type.shape.rank; i++)
        if (!(c->n->attr.axes.mask >> i & 1))
            to[i] = out->stride[o++];
    Nest w;
    const int64_t *const stride[] = { to, x->stride };
    for (nest_start(&w, &x->type.shape, 2, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            row_add(&row[w.off[0] + i * w.step[0]], x->at[w.off[1] + i * w.step[1]]);
    for (int64_t i = 0; i < n; i++)
        out->at[i] = row[i].drift + fabs(row[i].rest);
    c->e->cx->os->release(row);
    return ST_OK;
}

enum { FEW_TERMS = 16 }; /* so few lose no more by drift than 8 units */

Status bound_sum(BoundCall *c, Span *out)
{
    double terms = 1;
    Value drift = { 0 };
    for (int i = 0; i < c->arg[0].ref.type.shape.rank; i++)
        if (c->n->attr.axes.mask >> i & 1)
            terms *= (double)c->arg[0].ref.type.shape.dim[i];
    const DType dt = c->n->type.dt;
    const bool drifts = terms > FEW_TERMS && dtype_is_float(dt) && dt != DT_F64;
    if (drifts)
        TRY(drift_of(c, &drift));
    const Status status = adding(c, terms, drifts ? &drift : NULL, out);
    c->e->cx->os->release(drift.own);
    return status;
}

Status bound_fold(BoundCall *c, Span *out)
{
    double terms = 1;
    for (int i = 0; i < c->n->attr.window.n; i++)
        terms *= (double)c->n->attr.window.kernel[i];
    return bound_adding(c, terms, out);
}

Status bound_cumsum(BoundCall *c, Span *out)
{
    return bound_adding(c, (double)c->n->type.shape.dim[c->n->attr.axis.axis], out);
}

/* 1 where anything is among the elements that node n reduces, NaN too. */
static Status find_anything(const BoundCall *c, Value *out)
{
    const Value *lo = end_of(c, 0, false), *hi = end_of(c, 0, true);
    Value mark = { 0 };
    Node any = *c->n;
    any.op = OP_amax;
    TRY(value_new(c->e, &lo->type, &mark));
    Nest w;
    const int64_t *const stride[] = { mark.stride, lo->stride, hi->stride };
    for (nest_start(&w, &lo->type.shape, 3, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            mark.at[w.off[0] + i * w.step[0]] = bound_is_anything(lo->at[w.off[1] + i * w.step[1]],
                                                                  hi->at[w.off[2] + i * w.step[2]]);
    const Status status = eval_amax(c->e, &any, &mark, out);
    c->e->cx->os->release(mark.own);
    return status;
}

/* Ends of an extremum.  NaN among the arguments is their end; anything shows as an infinite end,
 * also where an infinity stands beside it. */
static Status bound_extremum(BoundCall *c, Span *out)
{
    TRY(both_ends(c, out));
    const int64_t n = shape_count(&c->n->type.shape);
    bool ask = false;
    for (int64_t i = 0; i < n; i++) {
        double *lo = &out->lo.at[i], *hi = &out->hi.at[i];
        bound_settle(c->ref->at[i], true, lo, hi);
        if (*lo != *hi && (isinf(*lo) || isinf(*hi)))
            bound_anything(lo, hi);
        ask |= *lo == *hi && isinf(*lo);
    }
    if (!ask)
        return ST_OK;
    Value any = { 0 };
    const Status status = find_anything(c, &any);
    for (int64_t i = 0; i < n && status == ST_OK; i++)
        if (any.at[i] > 0)
            bound_anything(&out->lo.at[i], &out->hi.at[i]);
    c->e->cx->os->release(any.own);
    return status;
}

Status bound_amax(BoundCall *c, Span *out)
{
    return bound_extremum(c, out);
}

Status bound_amin(BoundCall *c, Span *out)
{
    return bound_extremum(c, out);
}

/* ------------------------------------------------------------ contractions */

/* |x| and |x| + radius of an argument, packed.  *doubt: a NaN in the result need not be one. */
static Status sizes(const BoundCall *c, uint32_t arg, Value *near, Value *far, bool *doubt)
{
    const Value *ref = &c->arg[arg].ref, *lo = end_of(c, arg, false), *hi = end_of(c, arg, true);
    TRY(value_new(c->e, &ref->type, near));
    TRY(value_new(c->e, &ref->type, far));
    Nest w;
    const int64_t *const stride[] = { near->stride, ref->stride, lo->stride, hi->stride };
    for (nest_start(&w, &ref->type.shape, 4, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            const double x = ref->at[w.off[1] + i * w.step[1]];
            const double a = lo->at[w.off[2] + i * w.step[2]];
            const double b = hi->at[w.off[3] + i * w.step[3]];
            const int64_t to = w.off[0] + i * w.step[0];
            near->at[to] = fabs(x);
            far->at[to] = fabs(x) + (a == b ? 0 : fmax(x - a, b - x));
            *doubt |= isinf(x) || bound_is_anything(a, b);
        }
    return ST_OK;
}

/* near, far: the products of magnitudes, and of magnitudes and radii. */
static void widen_products(const BoundCall *c, double terms, const Value *near, const Value *far,
                           bool doubt, Span *out)
{
    const int64_t n = shape_count(&c->n->type.shape);
    const DType dt = c->n->type.dt;
    const Rounding r = bound_rounding(dt);
    const bool exact = c->arg[0].sure == SURE_EXACT && c->arg[1].sure == SURE_EXACT;
    for (int64_t i = 0; i < n; i++) {
        const double ref = c->ref->at[i], radius = far->at[i] - near->at[i];
        double *lo = &out->lo.at[i], *hi = &out->hi.at[i];
        if (!isfinite(ref)) {
            *lo = *hi = ref;
            if (!exact && (doubt || !isnan(ref)))
                bound_anything(lo, hi);
            continue;
        }
        *lo = ref - radius;
        *hi = ref + radius;
        bound_settle(ref, false, lo, hi);
        if (!dtype_is_float(dt))
            continue;
        c->noise[i] = usual_noise(&r, terms, near->at[i], ref);
        bound_widen(&r, terms, far->at[i], lo, hi);
        if (far->at[i] > r.most)
            bound_anything(lo, hi);
    }
}

static double terms_of(const BoundCall *c)
{
    double terms = 1;
    for (int i = 0; i < c->n->attr.contract.nover; i++)
        terms *= (double)c->arg[0].ref.type.shape.dim[c->n->attr.contract.over_a[i]];
    return terms;
}

Status bound_matmul(BoundCall *c, Span *out)
{
    Value near[2] = { 0 }, far[2] = { 0 }, product[2] = { 0 };
    bool doubt = false;
    Status status = value_new(c->e, &c->n->type, &out->lo);
    if (status == ST_OK)
        status = value_new(c->e, &c->n->type, &out->hi);
    for (uint32_t k = 0; k < 2 && status == ST_OK; k++)
        status = sizes(c, k, &near[k], &far[k], &doubt);
    if (status == ST_OK)
        status = eval_matmul(c->e, c->n, near, &product[0]);
    if (status == ST_OK)
        status = eval_matmul(c->e, c->n, far, &product[1]);
    if (status == ST_OK)
        widen_products(c, terms_of(c), &product[0], &product[1], doubt, out);
    for (int k = 0; k < 2; k++) {
        c->e->cx->os->release(near[k].own);
        c->e->cx->os->release(far[k].own);
        c->e->cx->os->release(product[k].own);
    }
    return status;
}
