/* SPDX-License-Identifier: Apache-2.0 */
/* Ops without a tensor argument: const, iota, rand. */
#include "ir/base/rng.h"
#include "ir/eval_op.h"

/* One double, repeated by strides of 0. */
Status eval_const(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    (void)arg;
    const Type scalar = { n->type.dt, { 0 } };
    TRY(value_new(e, &scalar, out));
    out->at[0] = value_round(e, n->type.dt, n->attr.fill.value);
    out->type = n->type;
    return ST_OK;
}

int64_t eval_iota_count(const Node *n)
{
    return shape_count(&n->type.shape) ? n->type.shape.dim[n->attr.axis.axis] : 1;
}

Status eval_iota(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    (void)arg;
    const int axis = n->attr.axis.axis;
    const Type line = { n->type.dt, shape_of(1, eval_iota_count(n)) };
    TRY(value_new(e, &line, out));
    for (int64_t i = 0; i < line.shape.dim[0]; i++)
        out->at[i] = value_round(e, n->type.dt, (double)i);
    out->type = n->type;
    out->stride[0] = 0;
    out->stride[axis] = shape_count(&n->type.shape) > 0;
    return ST_OK;
}

/* arguments: seed, stream, step, iter, row0 (all rank 0).  Axis 0 counts rows, from row0. */
Status eval_rand(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    TRY(value_new(e, &n->type, out));
    uint32_t key[4];
    for (int k = 0; k < 4; k++)
        key[k] = (uint32_t)(int64_t)*arg[k].at;
    const Shape *s = &n->type.shape;
    const int64_t count = shape_count(s);
    int64_t row = 1;
    for (int i = 1; i < s->rank; i++)
        row *= s->dim[i];
    const uint64_t first = (uint64_t)(int64_t)*arg[4].at * (uint64_t)row;
    for (int64_t i = 0; i < count; i++)
        out->at[i] = (double)rng_rand_op(key[0], key[1], key[2], key[3], first + (uint64_t)i);
    value_round_all(e, out);
    return ST_OK;
}
