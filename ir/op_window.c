/* SPDX-License-Identifier: Apache-2.0 */
/* window and fold: sliding windows, and their adjoint.
 *
 *     window  x[.., X.., rest] -> [.., X'.., K.., rest]   out[x', k] = in[x' * stride + k *
 * dilation] fold    the other way                              out[x' * stride + k * dilation] +=
 * in[x', k]
 *
 * Both are one strided view of the unwindowed tensor. */
#include "ir/eval_op.h"
#include "ir/vjp.h"

/* `whole` (unwindowed) seen as the windows of type t. */
static Value windows_of(const Node *n, const Value *whole, const Type *t)
{
    const int first = n->attr.window.axis[0], count = n->attr.window.n;
    Value v = { .type = *t, .at = whole->at };
    for (int i = 0; i < first; i++)
        v.stride[i] = whole->stride[i];
    for (int i = 0; i < count; i++) {
        v.stride[first + i] = whole->stride[first + i] * n->attr.window.stride[i];
        v.stride[first + count + i] = whole->stride[first + i] * n->attr.window.dilation[i];
    }
    for (int i = first + count; i < whole->type.shape.rank; i++)
        v.stride[i + count] = whole->stride[i];
    return v;
}

Status eval_window(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    (void)e;
    *out = windows_of(n, arg, &n->type);
    return ST_OK;
}

Status eval_fold(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    TRY(value_new(e, &n->type, out));
    value_fill(out, 0);
    const Value windows = windows_of(n, out, &arg->type);
    Nest w;
    const int64_t *const stride[] = { windows.stride, arg->stride };
    for (nest_start(&w, &arg->type.shape, 2, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            windows.at[w.off[0] + i * w.step[0]] += arg->at[w.off[1] + i * w.step[1]];
    return ST_OK;
}

/* Gradients: each is the other's. */

void vjp_window(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    const Shape whole = build_type(&v->b, n.arg[0]).shape;
    Attr a = n.attr;
    for (int i = 0; i < a.window.n; i++)
        a.window.extent[i] = whole.dim[a.window.axis[i]];
    vjp_give(v, n.arg[0], vjp_add_node(v, OP_fold, 1, &ct, NULL, &a));
}

void vjp_fold(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    Attr a = n.attr;
    for (int i = 0; i < a.window.n; i++)
        a.window.extent[i] = 0;
    vjp_give(v, n.arg[0], vjp_add_node(v, OP_window, 1, &ct, NULL, &a));
}
