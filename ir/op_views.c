/* SPDX-License-Identifier: Apache-2.0 */
/* Views that keep or repeat elements: reshape transpose broadcast slice pad concat.
 * In the evaluator all but pad and concat (and reshape of what is not packed) move nothing. */
#include "ir/eval_op.h"

static bool is_packed(const Value *v)
{
    const Value p = value_packed(&v->type, v->at);
    for (int i = 0; i < v->type.shape.rank; i++)
        if (v->type.shape.dim[i] != 1 && v->stride[i] != p.stride[i])
            return false;
    return true;
}

static bool is_fill(const Value *v)
{
    for (int i = 0; i < v->type.shape.rank; i++)
        if (v->stride[i] != 0)
            return false;
    return true;
}

Status eval_reshape(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    if (is_packed(arg)) {
        *out = value_packed(&n->type, arg->at);
        return ST_OK;
    }
    if (is_fill(arg)) {
        *out = (Value){ .type = n->type, .at = arg->at };
        return ST_OK;
    }
    TRY(value_new(e, &arg->type, out));
    value_copy(out, arg);
    double *own = out->own;
    *out = value_packed(&n->type, own);
    out->own = own;
    return ST_OK;
}

Status eval_transpose(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    (void)e;
    *out = (Value){ .type = n->type, .at = arg->at };
    for (int i = 0; i < n->type.shape.rank; i++)
        out->stride[i] = arg->stride[n->attr.perm.dim[i]];
    return ST_OK;
}

Status eval_broadcast(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    (void)e;
    *out = (Value){ .type = n->type, .at = arg->at };
    for (int i = 0, from = 0; i < n->type.shape.rank; i++)
        if (!(n->attr.axes.mask >> i & 1))
            out->stride[i] = arg->stride[from++];
    return ST_OK;
}

Status eval_slice(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    (void)e;
    *out = (Value){ .type = n->type, .at = arg->at };
    const bool empty = shape_count(&n->type.shape) == 0;
    for (int i = 0; i < n->type.shape.rank; i++) {
        out->stride[i] = arg->stride[i] * n->attr.slice.step[i];
        if (!empty)
            out->at += arg->stride[i] * n->attr.slice.lo[i];
    }
    return ST_OK;
}

Status eval_pad(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    TRY(value_new(e, &n->type, out));
    value_fill(out, value_round(e, n->type.dt, n->attr.pad.value));
    if (shape_count(&arg->type.shape) == 0)
        return ST_OK;
    Value inner = { .type = arg->type, .at = out->at };
    for (int i = 0; i < n->type.shape.rank; i++) {
        inner.at += out->stride[i] * n->attr.pad.lo[i];
        inner.stride[i] = out->stride[i] * n->attr.pad.step[i];
    }
    value_copy(&inner, arg);
    return ST_OK;
}

Status eval_concat(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    TRY(value_new(e, &n->type, out));
    const int axis = n->attr.axis.axis;
    Value part = *out;
    for (uint32_t k = 0; k < n->nargs; k++) {
        part.type = arg[k].type;
        if (shape_count(&part.type.shape) > 0)
            value_copy(&part, &arg[k]);
        part.at += out->stride[axis] * arg[k].type.shape.dim[axis];
    }
    return ST_OK;
}
