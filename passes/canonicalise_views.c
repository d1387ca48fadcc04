/* SPDX-License-Identifier: Apache-2.0 */
/* canonicalise: rules of views.
 *
 * A view of a constant is a constant, two views alike are one, and one that shows everything in
 * place is gone.  A slice moves towards the inputs: through what it can be taken from before, so
 * that the rest is never computed.
 */
#include <string.h>

#include "ir/base/bug.h"
#include "passes/canonicalise.h"

static Ref same_type(Canon *c, const Node *n) /* a cast or reshape to what it is */
{
    return type_eq(&n->type, &canon_arg(c, n, 0)->type) ? n->arg[0] : REF_NONE;
}

static Ref stop_nothing(Canon *c, const Node *n) /* all gradients are there */
{
    return c->expanded ? n->arg[0] : REF_NONE;
}

static Ref view_of_const(Canon *c, const Node *n)
{
    const Node *x = canon_arg(c, n, 0);
    return x->op == OP_const ? canon_const(c, x->attr.fill.value, &n->type) : REF_NONE;
}

static Ref reshape_reshape(Canon *c, const Node *n)
{
    const Node *x = canon_arg(c, n, 0);
    return x->op == OP_reshape ? canon_reshape(c, x->arg[0], &n->type.shape) : REF_NONE;
}

static Ref transpose_transpose(Canon *c, const Node *n)
{
    const Node *x = canon_arg(c, n, 0);
    if (x->op != OP_transpose)
        return REF_NONE;
    int perm[MAX_RANK];
    for (int i = 0; i < n->type.shape.rank; i++)
        perm[i] =
            BUG(25) ? n->attr.perm.dim[x->attr.perm.dim[i]] : x->attr.perm.dim[n->attr.perm.dim[i]];
    return canon_transpose(c, x->arg[0], perm);
}

static Ref transpose_nothing(Canon *c, const Node *n) /* only axes of extent 1 move */
{
    const Shape *from = &canon_arg(c, n, 0)->type.shape;
    int last = -1;
    for (int i = 0; i < from->rank; i++) {
        const int axis = n->attr.perm.dim[i];
        if (from->dim[axis] == 1)
            continue;
        if (axis < last)
            return REF_NONE;
        last = axis;
    }
    return canon_reshape(c, n->arg[0], &n->type.shape);
}

static Ref broadcast_nothing(Canon *c, const Node *n) /* only axes of extent 1 are new */
{
    for (int i = 0; i < n->type.shape.rank; i++)
        if ((n->attr.axes.mask >> i & 1) && n->type.shape.dim[i] != 1)
            return REF_NONE;
    return canon_reshape(c, n->arg[0], &n->type.shape);
}

static Ref broadcast_broadcast(Canon *c, const Node *n)
{
    const Node *x = canon_arg(c, n, 0);
    if (x->op != OP_broadcast)
        return REF_NONE;
    unsigned mask = n->attr.axes.mask;
    int mid = 0;
    for (int i = 0; i < n->type.shape.rank; i++)
        if (!(n->attr.axes.mask >> i & 1) && (x->attr.axes.mask >> (BUG(33) ? i : mid++) & 1))
            mask |= 1u << i;
    return canon_broadcast(c, x->arg[0], &n->type.shape, mask);
}

static Ref slice_nothing(Canon *c, const Node *n)
{
    const Type *from = &canon_arg(c, n, 0)->type;
    if (!type_eq(&n->type, from))
        return REF_NONE;
    for (int i = 0; i < from->shape.rank; i++)
        if (from->shape.dim[i] > 1 && n->attr.slice.step[i] != 1)
            return REF_NONE;
    return n->arg[0];
}

static Ref slice_slice(Canon *c, const Node *n)
{
    const Node *x = canon_arg(c, n, 0);
    if (x->op != OP_slice || shape_count(&n->type.shape) == 0)
        return REF_NONE;
    Attr attr = { 0 };
    for (int i = 0; i < n->type.shape.rank; i++) {
        attr.slice.lo[i] =
            x->attr.slice.lo[i] + n->attr.slice.lo[i] * (BUG(26) ? 1 : x->attr.slice.step[i]);
        attr.slice.step[i] = n->attr.slice.step[i] * x->attr.slice.step[i];
    }
    return canon_make(c, OP_slice, 1, x->arg, attr, n->type);
}

static Ref slice_concat(Canon *c, const Node *n) /* a slice that lies in one part */
{
    const Node *x = canon_arg(c, n, 0);
    if (x->op != OP_concat || !canon_is_part(n))
        return REF_NONE;
    const int axis = x->attr.axis.axis;
    int64_t lo[MAX_RANK], from = 0;
    memcpy(lo, n->attr.slice.lo, sizeof lo);
    for (uint32_t i = 0; i < x->nargs; i++) {
        const int64_t extent = canon_arg(c, x, (int)i)->type.shape.dim[axis];
        if (lo[axis] >= from && lo[axis] + n->type.shape.dim[axis] <= from + extent) {
            lo[axis] -= from;
            return canon_part(c, x->arg[i], lo, &n->type.shape);
        }
        from += extent;
    }
    return REF_NONE;
}

/* A slice that trims padding pads less; where it reaches the padded value itself, and that is not
 * spread out, it trims that.  A slice of padding alone stays. */
static Ref slice_pad(Canon *c, const Node *n)
{
    const Node *x = canon_arg(c, n, 0);
    if (x->op != OP_pad || !canon_is_part(n))
        return REF_NONE;
    const Shape *inner = &canon_arg(c, x, 0)->type.shape;
    Attr attr = x->attr;
    Shape part = *inner;
    int64_t part_lo[MAX_RANK] = { 0 };
    for (int i = 0; i < part.rank; i++) {
        int64_t lo = x->attr.pad.lo[i] - n->attr.slice.lo[i];
        int64_t hi =
            x->attr.pad.hi[i] - (x->type.shape.dim[i] - n->attr.slice.lo[i] - n->type.shape.dim[i]);
        const int64_t cut_lo = lo < 0 ? -lo : 0, cut_hi = hi < 0 ? -hi : 0;
        if ((cut_lo || cut_hi) && (x->attr.pad.step[i] != 1 || cut_lo + cut_hi >= part.dim[i]))
            return REF_NONE;
        if (part.dim[i] == 0)
            return REF_NONE;
        part_lo[i] = BUG(27) ? 0 : cut_lo;
        part.dim[i] -= cut_lo + cut_hi;
        attr.pad.lo[i] = lo + cut_lo;
        attr.pad.hi[i] = hi + cut_hi;
    }
    const Ref inside = canon_part(c, x->arg[0], part_lo, &part);
    return canon_make(c, OP_pad, 1, &inside, attr, (Type){ 0 });
}

static Ref slice_transpose(Canon *c, const Node *n)
{
    const Node *x = canon_arg(c, n, 0);
    if (x->op != OP_transpose || !canon_is_part(n))
        return REF_NONE;
    Shape part = n->type.shape;
    int64_t lo[MAX_RANK];
    int perm[MAX_RANK];
    for (int i = 0; i < part.rank; i++) {
        perm[i] = x->attr.perm.dim[i];
        part.dim[perm[i]] = n->type.shape.dim[i];
        lo[perm[i]] = n->attr.slice.lo[i];
    }
    return canon_transpose(c, canon_part(c, x->arg[0], lo, &part), perm);
}

static Ref slice_window(Canon *c, const Node *n) /* fewer windows of less input */
{
    const Node *x = canon_arg(c, n, 0);
    if (x->op != OP_window || !canon_is_part(n))
        return REF_NONE;
    const int nw = x->attr.window.n, first = x->attr.window.axis[0];
    Shape part = canon_arg(c, x, 0)->type.shape;
    int64_t lo[MAX_RANK];
    for (int i = 0; i < n->type.shape.rank; i++) {
        const int64_t from = n->attr.slice.lo[i], extent = n->type.shape.dim[i];
        if (i >= first + nw && i < first + 2 * nw) {
            if (extent != x->type.shape.dim[i])
                return REF_NONE;
            continue;
        }
        const int to = i < first + nw ? i : i - nw;
        const int w = i - first;
        if (w >= 0 && w < nw) {
            lo[to] = from * x->attr.window.stride[w];
            part.dim[to] = (extent - 1) * x->attr.window.stride[w] +
                           (x->attr.window.kernel[w] - 1) * x->attr.window.dilation[w] + 1;
        } else {
            lo[to] = from;
            part.dim[to] = extent;
        }
    }
    Attr attr = x->attr;
    for (int w = 0; w < nw; w++)
        attr.window.extent[w] = part.dim[first + w];
    const Ref inside = canon_part(c, x->arg[0], lo, &part);
    return canon_make(c, OP_window, 1, &inside, attr, (Type){ 0 });
}

static Ref pad_nothing(Canon *c, const Node *n)
{
    const Type *from = &canon_arg(c, n, 0)->type;
    return type_eq(&n->type, from) ? n->arg[0] : REF_NONE;
}

static Ref pad_const(Canon *c, const Node *n)
{
    return canon_is_const(c, n->arg[0], n->attr.pad.value) ? view_of_const(c, n) : REF_NONE;
}

static Ref pad_pad(Canon *c, const Node *n)
{
    const Node *x = canon_arg(c, n, 0);
    if (x->op != OP_pad || (x->attr.pad.value != n->attr.pad.value && !BUG(28)))
        return REF_NONE;
    Attr attr = n->attr;
    for (int i = 0; i < n->type.shape.rank; i++) {
        if (canon_arg(c, x, 0)->type.shape.dim[i] == 0)
            return REF_NONE;
        attr.pad.lo[i] += x->attr.pad.lo[i] * n->attr.pad.step[i];
        attr.pad.hi[i] += x->attr.pad.hi[i] * n->attr.pad.step[i];
        attr.pad.step[i] *= x->attr.pad.step[i];
    }
    return canon_make(c, OP_pad, 1, x->arg, attr, (Type){ 0 });
}

static Ref concat_one(Canon *c, const Node *n) /* of parts, all but one empty */
{
    Ref only = REF_NONE;
    for (uint32_t i = 0; i < n->nargs; i++) {
        if (canon_arg(c, n, (int)i)->type.shape.dim[n->attr.axis.axis] == 0)
            continue;
        if (only)
            return REF_NONE;
        only = n->arg[i];
    }
    return only ? only : n->arg[0];
}

static Ref concat_const(Canon *c, const Node *n)
{
    const Node *first = canon_arg(c, n, 0);
    for (uint32_t i = 0; i < n->nargs; i++)
        if (first->op != OP_const || !canon_is_const(c, n->arg[i], first->attr.fill.value))
            return REF_NONE;
    return canon_const(c, first->attr.fill.value, &n->type);
}

static Ref window_nothing(Canon *c, const Node *n) /* taps of one element, side by side */
{
    for (int i = 0; i < n->attr.window.n; i++)
        if (n->attr.window.kernel[i] != 1 || n->attr.window.stride[i] != 1)
            return REF_NONE;
    return canon_reshape(c, n->arg[0], &n->type.shape);
}

const CanonRule canon_views[] = {
    { OP_cast, same_type },
    { OP_stop_gradient, stop_nothing },
    { OP_reshape, same_type },
    { OP_reshape, view_of_const },
    { OP_reshape, reshape_reshape },
    { OP_transpose, view_of_const },
    { OP_transpose, transpose_transpose },
    { OP_transpose, transpose_nothing },
    { OP_broadcast, view_of_const },
    { OP_broadcast, broadcast_nothing },
    { OP_broadcast, broadcast_broadcast },
    { OP_slice, view_of_const },
    { OP_slice, slice_nothing },
    { OP_slice, slice_slice },
    { OP_slice, slice_concat },
    { OP_slice, slice_pad },
    { OP_slice, slice_transpose },
    { OP_slice, slice_window },
    { OP_pad, pad_nothing },
    { OP_pad, pad_const },
    { OP_pad, pad_pad },
    { OP_concat, concat_one },
    { OP_concat, concat_const },
    { OP_window, view_of_const },
    { OP_window, window_nothing },
    { OP_fold, window_nothing },
    { 0 },
};
