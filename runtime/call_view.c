/* SPDX-License-Identifier: Apache-2.0 */
/* call_view: views of an input as strides.
 *
 * A library takes a tensor as an address and strides.  So a chain of views is followed down to the
 * input, and each view changes the strides: a transpose swaps them, a slice moves the address and
 * stretches them, a broadcast puts 0, a window repeats them.  A reshape is strides again when each
 * run of axes that it cuts anew lies evenly in memory.  Padding and anything that computes are
 * none. */

#include "runtime/call.h"

static void axis_add(CallView *v, int64_t extent, int64_t stride)
{
    v->extent[v->rank] = extent;
    v->stride[v->rank++] = stride;
}

static void view_input(const Graph *body, Ref r, CallView *v)
{
    const Shape *s = &body->node[r].type.shape;
    int64_t stride = 1;
    v->arg = 0;
    while (body->input[v->arg] != r)
        v->arg++;
    v->offset = 0;
    v->rank = s->rank;
    for (int i = s->rank - 1; i >= 0; i--) {
        v->extent[i] = s->dim[i];
        v->stride[i] = stride;
        stride *= s->dim[i];
    }
}

static bool view_transpose(const Node *n, const CallView *from, CallView *v)
{
    for (int i = 0; i < from->rank; i++)
        axis_add(v, from->extent[n->attr.perm.dim[i]], from->stride[n->attr.perm.dim[i]]);
    return true;
}

static bool view_broadcast(const Node *n, const CallView *from, CallView *v)
{
    int at = 0;
    for (int i = 0; i < n->type.shape.rank; i++) {
        const bool added = n->attr.axes.mask >> i & 1;
        axis_add(v, n->type.shape.dim[i], added ? 0 : from->stride[at]);
        at += !added;
    }
    return true;
}

static bool view_slice(const Node *n, const CallView *from, CallView *v)
{
    for (int i = 0; i < from->rank; i++) {
        v->offset += n->attr.slice.lo[i] * from->stride[i];
        axis_add(v, n->type.shape.dim[i], n->attr.slice.step[i] * from->stride[i]);
    }
    return true;
}

/* [.., X.., rest] -> [.., X'.., K.., rest] */
static bool view_window(const Node *n, const CallView *from, CallView *v)
{
    const int first = n->attr.window.axis[0], count = n->attr.window.n;
    for (int i = 0; i < first; i++)
        axis_add(v, from->extent[i], from->stride[i]);
    for (int i = 0; i < count; i++)
        axis_add(v, n->type.shape.dim[first + i],
                 n->attr.window.stride[i] * from->stride[first + i]);
    for (int i = 0; i < count; i++)
        axis_add(v, n->attr.window.kernel[i], n->attr.window.dilation[i] * from->stride[first + i]);
    for (int i = first + count; i < from->rank; i++)
        axis_add(v, from->extent[i], from->stride[i]);
    return true;
}

/* Runs of axes of equal product are matched from the left; an old run must be even to be cut anew.
 * False: it is not. */
static bool view_reshape(const Shape *want, const CallView *from, CallView *v)
{
    int old = 0, new = 0;
    for (int i = 0; i < want->rank; i++)
        axis_add(v, want->dim[i], 0);
    while (old < from->rank && new < want->rank) {
        int old_end = old + 1, new_end = new + 1;
        int64_t a = from->extent[old], b = want->dim[new];
        while (a != b && (a < b ? old_end < from->rank : new_end < want->rank)) {
            if (a < b)
                a *= from->extent[old_end++];
            else
                b *= want->dim[new_end++];
        }
        int64_t stride = 0,
                reach = 0; /* of the run: its finest step, and what a next axis must have */
        for (int i = old_end - 1; i >= old; i--) {
            if (from->extent[i] == 1)
                continue;
            if (reach && from->stride[i] != reach)
                return false;
            stride = reach ? stride : from->stride[i];
            reach = from->stride[i] * from->extent[i];
            if (from->stride[i] == 0 && old_end - old > 1)
                return false;
        }
        for (int i = new_end - 1; i >= new; i--) {
            v->stride[i] = stride;
            stride *= want->dim[i];
        }
        old = old_end;
        new = new_end;
    }
    return true;
}

static bool view_reshaped(const Node *n, const CallView *from, CallView *v)
{
    return view_reshape(&n->type.shape, from, v);
}

static const struct Kind { /* what may stand between an input and who reads it */
    Op op;
    bool (*view)(const Node *n, const CallView *from, CallView *v);
} kinds[] = { { OP_transpose, view_transpose },
              { OP_broadcast, view_broadcast },
              { OP_slice, view_slice },
              { OP_window, view_window },
              { OP_reshape, view_reshaped } };

const char *call_view(const Graph *body, Ref r, CallView *out)
{
    const Node *n = &body->node[r];
    CallView from;
    if (n->op == OP_input) {
        view_input(body, r, out);
        return NULL;
    }
    if (op_info[n->op].cls != CLASS_VIEW)
        return n->op == OP_const ? "an operand is a constant" : "an operand is computed";
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].op == n->op) {
            const char *why = call_view(body, n->arg[0], &from);
            if (why)
                return why;
            *out = (CallView){ .arg = from.arg, .offset = from.offset };
            return kinds[i].view(n, &from, out) ? NULL : "an operand's reshape is a copy";
        }
    return n->op == OP_pad ? "an operand is padded" : "an operand is no view of one input";
}
