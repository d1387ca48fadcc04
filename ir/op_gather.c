/* SPDX-License-Identifier: Apache-2.0 */
/* gather and scatter_add: rows by index, and the adjoint.
 *
 *     gather       x[B.., N, R..], index[B.., I..] -> [B.., I.., R..]   out[b, i] = x[b, index[b,
 * i]] scatter_add  x[B.., I.., R..], index[B.., I..] -> [B.., N, R..]   out[b, index[b, i]] += x[b,
 * i]
 *
 * The axis is that of N: what stands before it, B, both arguments share.  So axis 0 looks rows up
 * in a table (an embedding), and the last axis takes one element of each row (a label's score).
 * An index outside of 0 .. N-1 counts as the nearest one inside, here and in kernels: no index can
 * read or write beside a tensor.  Whoever reads indices from data refuses bad ones. */
#include "ir/eval_op.h"
#include "ir/vjp.h"

/* One index after the other: the rows that belong to it in the tensor of rows (lead, N, rest) and
 * in the one by index (lead, I, rest). */
typedef struct Pairs {
    Nest w;
    const Value *index;
    Value table, item; /* at: where the present rows are */
    double *table_at, *item_at;
    int64_t rows, row_stride;
    int64_t lead[MAX_RANK];
} Pairs;

static Value row_of(const Value *v, int skip)
{
    Value row = { .type = { .dt = v->type.dt }, .at = v->at };
    for (int i = skip; i < v->type.shape.rank; i++) {
        row.type.shape.dim[i - skip] = v->type.shape.dim[i];
        row.stride[i - skip] = v->stride[i];
    }
    row.type.shape.rank = (int8_t)(v->type.shape.rank - skip);
    return row;
}

static void pairs_start(Pairs *p, int axis, const Value *table, const Value *index,
                        const Value *item)
{
    const int nindex = index->type.shape.rank;
    *p = (Pairs){ .index = index,
                  .table = row_of(table, axis + 1),
                  .item = row_of(item, nindex),
                  .table_at = table->at,
                  .item_at = item->at,
                  .rows = table->type.shape.dim[axis],
                  .row_stride = table->stride[axis] };
    for (int i = 0; i < axis; i++)
        p->lead[i] = table->stride[i];
    const int64_t *const stride[] = { index->stride, p->lead, item->stride };
    nest_start(&p->w, &index->type.shape, 3, stride);
}

/* The i-th pair of the present stretch. */
static void pairs_at(Pairs *p, int64_t i)
{
    const double at = p->index->at[p->w.off[0] + i * p->w.step[0]];
    const int64_t last = p->rows - 1;
    const int64_t row = at < 0 ? 0 : at > (double)last ? last : (int64_t)at;
    p->table.at = p->table_at + p->w.off[1] + i * p->w.step[1] + row * p->row_stride;
    p->item.at = p->item_at + p->w.off[2] + i * p->w.step[2];
}

Status eval_gather(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    TRY(value_new(e, &n->type, out));
    Pairs p;
    for (pairs_start(&p, n->attr.axis.axis, &arg[0], &arg[1], out); p.w.more; nest_next(&p.w))
        for (int64_t i = 0; i < p.w.n; i++) {
            pairs_at(&p, i);
            value_copy(&p.item, &p.table);
        }
    return ST_OK;
}

static void add_to(const Value *sum, const Value *x)
{
    Nest w;
    const int64_t *const stride[] = { sum->stride, x->stride };
    for (nest_start(&w, &x->type.shape, 2, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            sum->at[w.off[0] + i * w.step[0]] += x->at[w.off[1] + i * w.step[1]];
}

Status eval_scatter_add(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    TRY(value_new(e, &n->type, out));
    value_fill(out, 0);
    Pairs p;
    for (pairs_start(&p, n->attr.scatter.axis, out, &arg[1], &arg[0]); p.w.more; nest_next(&p.w))
        for (int64_t i = 0; i < p.w.n; i++) {
            pairs_at(&p, i);
            add_to(&p.table, &p.item);
        }
    return ST_OK;
}

/* Gradients: each is the other's; an index has none. */

void vjp_gather(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    const int axis = n.attr.axis.axis;
    const Attr a = { .scatter = { (int8_t)axis, build_type(&v->b, n.arg[0]).shape.dim[axis] } };
    const Ref arg[2] = { ct, n.arg[1] };
    vjp_give(v, n.arg[0], vjp_add_node(v, OP_scatter_add, 2, arg, NULL, &a));
}

void vjp_scatter_add(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    const Attr a = { .axis = { n.attr.scatter.axis } };
    const Ref arg[2] = { ct, n.arg[1] };
    vjp_give(v, n.arg[0], vjp_add_node(v, OP_gather, 2, arg, NULL, &a));
}
