/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds of gather and scatter_add.
 *
 * An index is an integer, so mostly it is known, and rows move with both their ends.  Where it is
 * the result of an open decision it is a range of rows: gather may take any of them, and to each of
 * them scatter_add adds something between nothing and all. */
#include <math.h>

#include "ir/base/os.h"
#include "ir/oracle_op.h"

/* An index argument as ranges of rows, packed; *width: of the widest. */
typedef struct Ranges {
    Value lo, hi, at; /* at: one row of each */
    double width;
} Ranges;

static Status ranges_open(const BoundCall *c, int64_t rows, Ranges *r)
{
    const Span *s = &c->arg[1].span[c->which];
    *r = (Ranges){ 0 };
    TRY(value_new(c->e, &s->lo.type, &r->lo));
    TRY(value_new(c->e, &s->lo.type, &r->hi));
    TRY(value_new(c->e, &s->lo.type, &r->at));
    value_copy(&r->lo, &s->lo);
    value_copy(&r->hi, &s->hi);
    for (int64_t i = 0; i < shape_count(&s->lo.type.shape); i++) {
        r->lo.at[i] = fmin(fmax(r->lo.at[i], 0), (double)rows - 1);
        r->hi.at[i] = fmin(fmax(r->hi.at[i], 0), (double)rows - 1);
        r->width = fmax(r->width, r->hi.at[i] - r->lo.at[i]);
    }
    return ST_OK;
}

static void ranges_close(const BoundCall *c, Ranges *r)
{
    c->e->cx->os->release(r->lo.own);
    c->e->cx->os->release(r->hi.own);
    c->e->cx->os->release(r->at.own);
}

/* ------------------------------------------------------------ gather */

static void widen_to(Value *lo, Value *hi, const Value *other_lo, const Value *other_hi)
{
    for (int64_t i = 0; i < shape_count(&lo->type.shape); i++) {
        if (isnan(lo->at[i]) || isnan(other_lo->at[i]))
            bound_anything(&lo->at[i], &hi->at[i]);
        lo->at[i] = fmin(lo->at[i], other_lo->at[i]);
        hi->at[i] = fmax(hi->at[i], other_hi->at[i]);
    }
}

/* The row `by` further than the first of each range, or its last. */
static Status gather_rows(const BoundCall *c, Ranges *r, double by, Span *out)
{
    const Span *x = &c->arg[0].span[c->which];
    for (int64_t i = 0; i < shape_count(&r->at.type.shape); i++)
        r->at.at[i] = fmin(r->lo.at[i] + by, r->hi.at[i]);
    TRY(eval_gather(c->e, c->n, (const Value[]){ x->lo, r->at }, &out->lo));
    return eval_gather(c->e, c->n, (const Value[]){ x->hi, r->at }, &out->hi);
}

static Status gather_ranges(BoundCall *c, Ranges *r, Span *out)
{
    TRY(gather_rows(c, r, 0, out));
    for (double by = 1; by <= r->width; by++) {
        Span more = { .lo = { .own = NULL } };
        const Status status = gather_rows(c, r, by, &more);
        if (status == ST_OK)
            widen_to(&out->lo, &out->hi, &more.lo, &more.hi);
        c->e->cx->os->release(more.lo.own);
        c->e->cx->os->release(more.hi.own);
        TRY(status);
    }
    return ST_OK;
}

Status bound_gather(BoundCall *c, Span *out)
{
    Ranges r;
    Status status = ranges_open(c, c->arg[0].ref.type.shape.dim[c->n->attr.axis.axis], &r);
    if (status == ST_OK)
        status = gather_ranges(c, &r, out);
    c->undecided |= r.width > 0;
    ranges_close(c, &r);
    return status;
}

/* ------------------------------------------------------------ scatter_add */

/* Of each item its ends, and nothing of items whose range has no row `by` further on; where the
 * range has more than one row, what it adds there lies between that and nothing. */
static Status items_at(const BoundCall *c, Ranges *r, double by, Span *item)
{
    const Span *x = &c->arg[0].span[c->which];
    const Type *type = &x->lo.type;
    Value lo = r->lo, hi = r->hi; /* seen in the items' shape: repeated along a row */
    for (int64_t i = 0; i < shape_count(&r->at.type.shape); i++)
        r->at.at[i] = fmin(r->lo.at[i] + by, r->hi.at[i]);
    for (int i = r->lo.type.shape.rank; i < type->shape.rank; i++)
        lo.stride[i] = hi.stride[i] = 0;
    TRY(value_new(c->e, type, &item->lo));
    TRY(value_new(c->e, type, &item->hi));
    value_copy(&item->lo, &x->lo);
    value_copy(&item->hi, &x->hi);
    Nest w;
    const int64_t *const stride[] = { item->lo.stride, lo.stride, hi.stride };
    for (nest_start(&w, &type->shape, 3, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            const int64_t at = w.off[0] + i * w.step[0];
            const double width = hi.at[w.off[2] + i * w.step[2]] - lo.at[w.off[1] + i * w.step[1]];
            if (width < by)
                item->lo.at[at] = item->hi.at[at] = 0;
            else if (width > 0) {
                item->lo.at[at] = fmin(item->lo.at[at], 0);
                item->hi.at[at] = fmax(item->hi.at[at], 0);
            }
        }
    return ST_OK;
}

static Status scatter_rows(const BoundCall *c, Ranges *r, double by, const Span *total)
{
    Span item = { .lo = { .own = NULL } }, sum = { .lo = { .own = NULL } };
    Status status = items_at(c, r, by, &item);
    if (status == ST_OK)
        status = eval_scatter_add(c->e, c->n, (const Value[]){ item.lo, r->at }, &sum.lo);
    if (status == ST_OK)
        status = eval_scatter_add(c->e, c->n, (const Value[]){ item.hi, r->at }, &sum.hi);
    for (int64_t i = 0; status == ST_OK && i < shape_count(&c->n->type.shape); i++) {
        total->lo.at[i] += sum.lo.at[i];
        total->hi.at[i] += sum.hi.at[i];
    }
    c->e->cx->os->release(item.lo.own);
    c->e->cx->os->release(item.hi.own);
    c->e->cx->os->release(sum.lo.own);
    c->e->cx->os->release(sum.hi.own);
    return status;
}

/* How many elements one sum may have. */
static double items_of(const BoundCall *c)
{
    const Shape *index = &c->arg[1].ref.type.shape;
    double items = 1;
    for (int i = c->n->attr.scatter.axis; i < index->rank; i++)
        items *= (double)index->dim[i];
    return items;
}

static Status scatter_ranges(BoundCall *c, Ranges *r, Span *out)
{
    const Rounding round = bound_rounding(c->n->type.dt);
    TRY(value_new(c->e, &c->n->type, &out->lo));
    TRY(value_new(c->e, &c->n->type, &out->hi));
    value_fill(&out->lo, 0);
    value_fill(&out->hi, 0);
    for (double by = 0; by <= r->width; by++)
        TRY(scatter_rows(c, r, by, out));
    for (int64_t i = 0; i < shape_count(&c->n->type.shape); i++) {
        double *lo = &out->lo.at[i], *hi = &out->hi.at[i];
        bound_settle(c->ref->at[i], false, lo, hi);
        if (dtype_is_float(c->n->type.dt))
            bound_widen(&round, items_of(c), fmax(fabs(*lo), fabs(*hi)), lo, hi);
    }
    return ST_OK;
}

Status bound_scatter_add(BoundCall *c, Span *out)
{
    Ranges r;
    Status status = ranges_open(c, c->n->type.shape.dim[c->n->attr.scatter.axis], &r);
    if (status == ST_OK)
        status = r.width > 0 ? scatter_ranges(c, &r, out) : bound_adding(c, items_of(c), out);
    c->undecided |= r.width > 0;
    ranges_close(c, &r);
    return status;
}
