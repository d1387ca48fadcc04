/* SPDX-License-Identifier: Apache-2.0 */
#include "ir/build.h"

#include <string.h>

Builder build_start(Ctx *cx, Graph *g)
{
    return (Builder){ .cx = cx, .g = g };
}

uint32_t build_region(Builder *b, const char *kind, int layer)
{
    const uint32_t before = b->region;
    b->region = kind ? graph_region(b->g, kind, layer, false) : 0;
    return before;
}

Type build_type(const Builder *b, Ref r)
{
    return r > REF_NONE && r < b->g->nnode ? b->g->node[r].type : (Type){ 0 };
}

void build_name(Builder *b, Ref r, const char *name)
{
    if (b->status == ST_OK && r != REF_NONE && r == b->g->nnode - 1)
        graph_set_name(b->g, r, name);
}

static Ref add(Builder *b, Node n, const Ref *arg, uint32_t nargs)
{
    Ref r = REF_NONE;
    if (b->status != ST_OK)
        return REF_NONE;
    n.arg = arg;
    n.nargs = nargs;
    n.region = b->region;
    b->status = graph_add(b->cx, b->g, &n, &r);
    return r;
}

/* Whether what the caller says about the type of r can be relied on. */
static bool ready(Builder *b, Ref r)
{
    if (b->status == ST_OK && (r == REF_NONE || r >= b->g->nnode))
        b->status = FAIL(b->cx, VALUE, "build: %%%u is not defined", r);
    return b->status == ST_OK;
}

static bool axis_in(Builder *b, const char *op, Ref x, int axis)
{
    if (!ready(b, x))
        return false;
    const Type t = build_type(b, x);
    if (axis < 0 || axis >= t.shape.rank)
        b->status = FAIL(b->cx, SHAPE, "%s: axis %d is none of %s", op, axis, type_str(&t));
    return b->status == ST_OK;
}

Ref build_input(Builder *b, InputKind kind, const char *name, DType dt, Shape shape)
{
    return add(
        b, (Node){ .op = OP_input, .type = { dt, shape }, .attr.input.kind = kind, .name = name },
        NULL, 0);
}

Ref build_const(Builder *b, double value, Type type)
{
    return add(b, (Node){ .op = OP_const, .type = type, .attr.fill.value = value }, NULL, 0);
}

Ref build_scalar(Builder *b, DType dt, double value)
{
    return build_const(b, value, (Type){ .dt = dt });
}

Ref build_iota(Builder *b, Type type, int axis)
{
    return add(b, (Node){ .op = OP_iota, .type = type, .attr.axis.axis = (int8_t)axis }, NULL, 0);
}

Ref build_op1(Builder *b, Op op, Ref x)
{
    return add(b, (Node){ .op = op }, &x, 1);
}

static Ref spread(Builder *b, Ref x, const Shape *shape)
{
    if (b->status != ST_OK || build_type(b, x).shape.rank || !shape->rank)
        return x;
    return build_broadcast(b, x, *shape, (1u << shape->rank) - 1);
}

Ref build_op2(Builder *b, Op op, Ref x, Ref y)
{
    if (!ready(b, x) || !ready(b, y))
        return REF_NONE;
    const Shape of_x = build_type(b, x).shape, of_y = build_type(b, y).shape;
    const Ref arg[2] = { spread(b, x, &of_y), spread(b, y, &of_x) };
    return add(b, (Node){ .op = op }, arg, 2);
}

Ref build_select(Builder *b, Ref cond, Ref x, Ref y)
{
    const Ref in[3] = { cond, x, y };
    Ref arg[3];
    Shape widest = { 0 };
    for (int i = 0; i < 3; i++) {
        if (!ready(b, in[i]))
            return REF_NONE;
        const Shape s = build_type(b, in[i]).shape;
        if (s.rank > widest.rank)
            widest = s;
    }
    for (int i = 0; i < 3; i++)
        arg[i] = spread(b, in[i], &widest);
    return add(b, (Node){ .op = OP_select }, arg, 3);
}

Ref build_scale(Builder *b, Ref x, double factor)
{
    if (!ready(b, x))
        return REF_NONE;
    return build_op2(b, OP_mul, x, build_const(b, factor, build_type(b, x)));
}

Ref build_shift(Builder *b, Ref x, double term)
{
    if (!ready(b, x))
        return REF_NONE;
    return build_op2(b, OP_add, x, build_const(b, term, build_type(b, x)));
}

Ref build_cast(Builder *b, Ref x, DType dt)
{
    if (!ready(b, x) || build_type(b, x).dt == dt)
        return b->status == ST_OK ? x : REF_NONE;
    return add(b, (Node){ .op = OP_cast, .type = { dt, build_type(b, x).shape } }, &x, 1);
}

/* Views that change nothing are not built. */

Ref build_reshape(Builder *b, Ref x, Shape shape)
{
    if (!ready(b, x))
        return REF_NONE;
    const Type t = build_type(b, x);
    if (shape_eq(&t.shape, &shape))
        return x;
    return add(b, (Node){ .op = OP_reshape, .type = { t.dt, shape } }, &x, 1);
}

Ref build_transpose(Builder *b, Ref x, const int *perm)
{
    Node n = { .op = OP_transpose };
    bool moves = false;
    if (!ready(b, x))
        return REF_NONE;
    for (int i = 0; i < build_type(b, x).shape.rank; i++) {
        n.attr.perm.dim[i] = (int8_t)perm[i];
        moves |= perm[i] != i;
    }
    return moves ? add(b, n, &x, 1) : x;
}

Ref build_broadcast(Builder *b, Ref x, Shape shape, unsigned new_axes)
{
    if (!ready(b, x))
        return REF_NONE;
    const Type t = build_type(b, x);
    if (new_axes == 0 && shape_eq(&t.shape, &shape))
        return x;
    return add(
        b,
        (Node){ .op = OP_broadcast, .type = { t.dt, shape }, .attr.axes.mask = (uint8_t)new_axes },
        &x, 1);
}

Ref build_like(Builder *b, Ref x, Ref like, unsigned new_axes)
{
    if (!ready(b, x) || !ready(b, like))
        return REF_NONE;
    return build_broadcast(b, x, build_type(b, like).shape, new_axes);
}

Ref build_slice(Builder *b, Ref x, int axis, int64_t lo, int64_t n)
{
    if (!axis_in(b, "slice", x, axis))
        return REF_NONE;
    Node s = { .op = OP_slice, .type = build_type(b, x) };
    if (lo == 0 && n == s.type.shape.dim[axis])
        return x;
    for (int i = 0; i < s.type.shape.rank; i++)
        s.attr.slice.step[i] = 1;
    s.attr.slice.lo[axis] = lo;
    s.type.shape.dim[axis] = n;
    return add(b, s, &x, 1);
}

Ref build_reverse(Builder *b, Ref x, int axis)
{
    if (!axis_in(b, "slice", x, axis))
        return REF_NONE;
    Node s = { .op = OP_slice, .type = build_type(b, x) };
    const int64_t n = s.type.shape.dim[axis];
    if (n <= 1)
        return x;
    for (int i = 0; i < s.type.shape.rank; i++)
        s.attr.slice.step[i] = 1;
    s.attr.slice.lo[axis] = n - 1;
    s.attr.slice.step[axis] = -1;
    return add(b, s, &x, 1);
}

static Ref pad(Builder *b, Ref x, int axis, int64_t lo, int64_t hi, int64_t step, double value)
{
    Node p = { .op = OP_pad, .attr.pad.value = value };
    if (!axis_in(b, "pad", x, axis))
        return REF_NONE;
    if (lo == 0 && hi == 0 && step == 1)
        return x;
    for (int i = 0; i < build_type(b, x).shape.rank; i++)
        p.attr.pad.step[i] = 1;
    p.attr.pad.lo[axis] = lo;
    p.attr.pad.hi[axis] = hi;
    p.attr.pad.step[axis] = step;
    return add(b, p, &x, 1);
}

Ref build_pad(Builder *b, Ref x, int axis, int64_t lo, int64_t hi, double value)
{
    return pad(b, x, axis, lo, hi, 1, value);
}

Ref build_spread(Builder *b, Ref x, int axis, int64_t lo, int64_t hi, int64_t step)
{
    return pad(b, x, axis, lo, hi, step, 0);
}

Ref build_concat(Builder *b, const Ref *x, int n, int axis)
{
    if (n == 1)
        return axis_in(b, "concat", x[0], axis) ? x[0] : REF_NONE;
    return add(b, (Node){ .op = OP_concat, .attr.axis.axis = (int8_t)axis }, x, (uint32_t)n);
}

Ref build_cumsum(Builder *b, Ref x, int axis)
{
    if (!axis_in(b, "cumsum", x, axis))
        return REF_NONE;
    return add(b, (Node){ .op = OP_cumsum, .attr.axis.axis = (int8_t)axis }, &x, 1);
}

Ref build_gather(Builder *b, Ref x, Ref index, int axis)
{
    if (!axis_in(b, "gather", x, axis))
        return REF_NONE;
    return add(b, (Node){ .op = OP_gather, .attr.axis.axis = (int8_t)axis }, (Ref[]){ x, index },
               2);
}

Ref build_scatter_add(Builder *b, Ref x, Ref index, int axis, int64_t extent)
{
    return add(b, (Node){ .op = OP_scatter_add, .attr.scatter = { (int8_t)axis, extent } },
               (Ref[]){ x, index }, 2);
}

Ref build_window(Builder *b, Ref x, int n, const int *axis, const int64_t *kernel,
                 const int64_t *stride, const int64_t *dilation)
{
    Node w = { .op = OP_window, .attr.window.n = (uint8_t)n };
    if (b->status == ST_OK && (n < 1 || n > 3))
        b->status = FAIL(b->cx, SHAPE, "window: wants 1 to 3 axes, got %d", n);
    for (int i = 0; b->status == ST_OK && i < n; i++) {
        if (!axis_in(b, "window", x, axis[i]))
            return REF_NONE;
        w.attr.window.axis[i] = (uint8_t)axis[i];
        w.attr.window.kernel[i] = kernel[i];
        w.attr.window.stride[i] = stride ? stride[i] : 1;
        w.attr.window.dilation[i] = dilation ? dilation[i] : 1;
    }
    return add(b, w, &x, 1);
}

Ref build_reduce(Builder *b, Op op, Ref x, unsigned axes)
{
    if (!ready(b, x))
        return REF_NONE;
    const Type t = build_type(b, x);
    if (axes >> t.shape.rank) {
        b->status = FAIL(b->cx, SHAPE, "%s: an axis is none of %s", op_info[op].name, type_str(&t));
        return REF_NONE;
    }
    return add(b, (Node){ .op = op, .attr.axes.mask = (uint8_t)axes }, &x, 1);
}

Ref build_matmul(Builder *b, Ref x, Ref y)
{
    const int last = build_type(b, x).shape.rank - 1, first = 0;
    return build_contract(b, x, y, 1, &last, &first);
}

Ref build_contract(Builder *b, Ref x, Ref y, int n, const int *over_x, const int *over_y)
{
    return build_contract_batch(b, x, y, n, over_x, over_y, 0, NULL, NULL);
}

Ref build_contract_batch(Builder *b, Ref x, Ref y, int n, const int *over_x, const int *over_y,
                         int nbatch, const int *batch_x, const int *batch_y)
{
    Node m = { .op = OP_matmul,
               .attr.contract = { .nover = (uint8_t)n, .nbatch = (uint8_t)nbatch } };
    const Ref arg[2] = { x, y };
    if (b->status == ST_OK && (n < 0 || n > 4 || nbatch < 0 || nbatch > 4))
        b->status =
            FAIL(b->cx, SHAPE, "matmul: wants at most 4 pairs of axes, got %d and %d", n, nbatch);
    for (int i = 0; b->status == ST_OK && i < n + nbatch; i++) {
        const int of_x = i < n ? over_x[i] : batch_x[i - n];
        const int of_y = i < n ? over_y[i] : batch_y[i - n];
        if (!axis_in(b, "matmul", x, of_x) || !axis_in(b, "matmul", y, of_y))
            return REF_NONE;
        if (i < n) {
            m.attr.contract.over_a[i] = (uint8_t)of_x;
            m.attr.contract.over_b[i] = (uint8_t)of_y;
        } else {
            m.attr.contract.batch_a[i - n] = (uint8_t)of_x;
            m.attr.contract.batch_b[i - n] = (uint8_t)of_y;
        }
    }
    return add(b, m, arg, 2);
}

Ref build_rand(Builder *b, Shape shape, Ref seed, Ref stream, Ref step, Ref iter, Ref row0)
{
    const Ref arg[5] = { seed, stream, step, iter, row0 };
    return add(b, (Node){ .op = OP_rand, .type = { DT_F32, shape } }, arg, 5);
}

Ref build_scan(Builder *b, Graph *body, const Ref *args, int nargs, int ncarry, int nstep,
               int64_t trip, bool reverse)
{
    return add(b,
               (Node){ .op = OP_scan,
                       .attr.scan = { .body = body,
                                      .ncarry = (uint32_t)ncarry,
                                      .nstep = (uint32_t)nstep,
                                      .trip = trip,
                                      .reverse = reverse } },
               args, (uint32_t)nargs);
}

Ref build_get(Builder *b, Ref tuple, int index)
{
    return add(b, (Node){ .op = OP_get, .attr.get.index = (uint32_t)index }, &tuple, 1);
}

Ref build_grad(Builder *b, Ref loss, const Ref *wrt, int n)
{
    if (b->status != ST_OK)
        return REF_NONE;
    Ref *arg = arena_array(b->g->arena, Ref, n + 1);
    arg[0] = loss;
    memcpy(arg + 1, wrt, sizeof *wrt * (size_t)n);
    return add(b, (Node){ .op = OP_grad }, arg, (uint32_t)n + 1);
}

void build_output(Builder *b, Ref value, const char *name)
{
    if (b->status == ST_OK)
        b->status = graph_output(b->cx, b->g, value, REF_NONE, name);
}

void build_replace(Builder *b, Ref input, Ref value)
{
    if (b->status == ST_OK && ready(b, input))
        b->status = graph_output(b->cx, b->g, value, input, NULL);
}
