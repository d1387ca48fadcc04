/* SPDX-License-Identifier: Apache-2.0 */
/* Views that keep or repeat elements: reshape transpose broadcast slice pad concat.
 * In the evaluator all but pad and concat (and reshape of what is not packed) move nothing. */
#include "ir/base/bug.h"
#include "ir/eval_op.h"
#include "ir/vjp.h"

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

/* Gradients. */

void vjp_reshape(Vjp *v, Ref y, Ref ct)
{
    const Ref x = vjp_node(v, y).arg[0];
    vjp_give(v, x, build_reshape(&v->b, ct, build_type(&v->b, x).shape));
}

void vjp_transpose(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    int back[MAX_RANK] = { 0 };
    for (int i = 0; i < n.type.shape.rank; i++)
        back[n.attr.perm.dim[i]] = i;
    vjp_give(v, n.arg[0], build_transpose(&v->b, ct, back));
}

void vjp_broadcast(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    vjp_give(v, n.arg[0], vjp_sum_axes(v, ct, n.attr.axes.mask));
}

/* x[at], of the type's shape. */
static Ref slice_of(Vjp *v, Ref x, const Attr *at, DType dt, const Shape *shape)
{
    const Type t = { dt, *shape };
    return vjp_add_node(v, OP_slice, 1, &x, &t, at);
}

void vjp_slice(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    const Shape *s = &n.type.shape;
    if (shape_count(s) == 0)
        return;
    Attr at = n.attr, turn = { 0 };
    bool turned = false;
    for (int i = 0; i < s->rank; i++) {
        turn.slice.step[i] = 1;
        if (s->dim[i] == 1)
            at.slice.step[i] = 1;
        if (at.slice.step[i] > 0)
            continue;
        turned = true;
        turn.slice.lo[i] = s->dim[i] - 1;
        turn.slice.step[i] = -1;
        at.slice.lo[i] += (s->dim[i] - 1) * at.slice.step[i];
        at.slice.step[i] = -at.slice.step[i];
    }
    if (turned && !BUG(6))
        ct = slice_of(v, ct, &turn, n.type.dt, s);
    vjp_give_box(v, n.arg[0], ct, at.slice.lo, at.slice.step);
}

void vjp_pad(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    const Shape inner = build_type(&v->b, n.arg[0]).shape;
    if (shape_count(&inner) == 0)
        return;
    Attr at = { 0 };
    for (int i = 0; i < inner.rank; i++) {
        at.slice.lo[i] = n.attr.pad.lo[i];
        at.slice.step[i] = BUG(7) ? 1 : n.attr.pad.step[i];
    }
    vjp_give(v, n.arg[0], slice_of(v, ct, &at, n.type.dt, &inner));
}

void vjp_concat(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    const int axis = n.attr.axis.axis;
    int64_t at = 0;
    for (uint32_t k = 0; k < n.nargs; k++) {
        const int64_t extent = build_type(&v->b, n.arg[k]).shape.dim[axis];
        if (vjp_wants(v, n.arg[k]))
            vjp_give(v, n.arg[k], build_slice(&v->b, ct, axis, at, extent));
        at += BUG(5) && !vjp_wants(v, n.arg[k]) ? 0 : extent;
    }
}
