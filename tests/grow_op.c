/* SPDX-License-Identifier: Apache-2.0 */
/* grow_op: the shape rules of ops.def, solved backwards.
 *
 * infer_RULE gives the type of a result from its arguments; grow_RULE is asked for a result and
 * makes up arguments.  An elementwise op is known by its row alone; a new shape rule needs a
 * function here and its name in the table at the end. */
#include <math.h>
#include <string.h>

#include "tests/grow.h"

/* ------------------------------------------------------------ sources */

static Ref grow_const(Grow *w, Op op, Type t, int n)
{
    (void)op, (void)n;
    if (!dtype_is_float(t.dt))
        return build_const(&w->b, grow_below(w, t.dt == DT_BOOL ? 2 : 4), t);
    static const double value[] = { 0, 1, -1, 0.5, -0.25, 2, 0.1, -3, 1.5, -0.0, 1e-6, 100 };
    return build_const(&w->b, value[grow_below(w, sizeof value / sizeof *value)], t);
}

static Ref grow_iota(Grow *w, Op op, Type t, int n)
{
    (void)op, (void)n;
    if (t.dt == DT_BOOL || t.shape.rank == 0)
        return REF_NONE;
    const Ref r = build_iota(&w->b, t, grow_below(w, t.shape.rank));
    if (!dtype_is_float(t.dt) || w->wild)
        return r;
    return build_scale(&w->b, r, 0x1p-6);
}

static Ref grow_rand(Grow *w, Op op, Type t, int n)
{
    (void)op, (void)n;
    Ref arg[5];
    if (t.dt != DT_F32)
        return REF_NONE;
    for (int i = 0; i < 5; i++) {
        const Type word = { .dt = grow_chance(w, 20) ? DT_I64 : DT_I32 };
        arg[i] = grow_value(w, word, 0);
    }
    arg[4] = build_op1(&w->b, OP_abs, arg[4]); /* rows count from 0 */
    if (grow_chance(w, 25))                    /* far into an epoch */
        arg[4] = build_op2(&w->b, OP_add, build_cast(&w->b, arg[4], DT_I64),
                           build_scalar(&w->b, DT_I64, 0x1p33));
    return build_rand(&w->b, t.shape, arg[0], arg[1], arg[2], arg[3], arg[4]);
}

/* ------------------------------------------------------------ elementwise */

/* Arguments from which the op gives moderate values: floats that stay inside its domain. */
static Ref inside(Grow *w, Op op, Ref x)
{
    if (w->wild || !dtype_is_float(build_type(&w->b, x).dt))
        return x;
    switch ((int)op) { /* nothing but what grows or has an edge */
    case OP_exp:
    case OP_expm1:
        return build_op1(&w->b, OP_tanh, x);
    case OP_sqrt:
    case OP_rsqrt:
    case OP_log:
    case OP_log1p:
        return build_shift(&w->b, build_op1(&w->b, OP_abs, x), 0.5);
    default:
        return x;
    }
}

static Ref elementwise(Grow *w, Op op, Type of, int n)
{
    if (op == OP_stop_gradient && w->outer) /* where slope_check could not hold it still */
        return REF_NONE;
    Ref arg[3];
    const int nargs = op_info[op].nargs;
    for (int i = 0; i < nargs; i++)
        arg[i] = inside(w, op, grow_value(w, of, grow_share(w, &n, nargs - i)));
    if (op == OP_div && !w->wild)
        arg[1] = build_shift(&w->b, build_op1(&w->b, OP_abs, arg[1]), 0.5);
    return grow_node(w, (Node){ .op = op }, arg, (uint32_t)nargs);
}

static Ref grow_same(Grow *w, Op op, Type t, int n)
{
    if (t.dt == DT_BOOL)
        return REF_NONE;
    const Ref r = elementwise(w, op, t, n);
    return op == OP_mul ? grow_tame(w, r) : r;
}

static Ref grow_floats(Grow *w, Op op, Type t, int n)
{
    return dtype_is_float(t.dt) ? elementwise(w, op, t, n) : REF_NONE;
}

static Ref grow_compare(Grow *w, Op op, Type t, int n)
{
    if (t.dt != DT_BOOL)
        return REF_NONE;
    t.dt = grow_number(w);
    return elementwise(w, op, t, n);
}

static Ref grow_logic(Grow *w, Op op, Type t, int n)
{
    return t.dt == DT_BOOL ? elementwise(w, op, t, n) : REF_NONE;
}

static Ref grow_select(Grow *w, Op op, Type t, int n)
{
    Ref arg[3];
    for (int i = 0; i < 3; i++) {
        const Type of = { i ? t.dt : DT_BOOL, t.shape };
        const int mine = grow_share(w, &n, 3 - i);
        arg[i] = grow_value(w, of, i ? mine : mine + 2); /* a condition that is no input */
    }
    return grow_node(w, (Node){ .op = op }, arg, 3);
}

static Ref grow_cast(Grow *w, Op op, Type t, int n)
{
    const Type from = { grow_dtype(w), t.shape };
    Ref x = grow_value(w, from, n);
    if (dtype_is_float(from.dt) && t.dt == DT_U8) /* what a negative one becomes is nobody's */
        x = build_op1(&w->b, OP_abs, x);
    return grow_node(w, (Node){ .op = op, .type = t }, &x, 1);
}

/* ------------------------------------------------------------ views */

static Ref grow_reshape(Grow *w, Op op, Type t, int n)
{
    Type from = { .dt = t.dt };
    Shape *s = &from.shape;
    for (int i = 0; i < t.shape.rank; i++) {
        const int64_t d = t.shape.dim[i], left = t.shape.rank - i;
        const int64_t by = d % 2 == 0 ? 2 : d % 3 == 0 ? 3 : 11;
        if (s->rank && grow_chance(w, 40))
            s->dim[s->rank - 1] *= d;
        else if (d > 1 && d % by == 0 && s->rank + left < MAX_RANK && grow_chance(w, 50))
            s->dim[s->rank++] = d / by, s->dim[s->rank++] = by;
        else if (d != 1 || grow_chance(w, 50))
            s->dim[s->rank++] = d;
    }
    if (s->rank < MAX_RANK && grow_chance(w, 20))
        s->dim[s->rank++] = 1;
    const Ref x = grow_value(w, from, n);
    return grow_node(w, (Node){ .op = op, .type.shape = t.shape }, &x, 1);
}

static Ref grow_transpose(Grow *w, Op op, Type t, int n)
{
    Node node = { .op = op };
    Type from = t;
    if (t.shape.rank < 2)
        return REF_NONE;
    for (int i = 0; i < t.shape.rank; i++) {
        const int k = grow_below(w, i + 1);
        node.attr.perm.dim[i] = node.attr.perm.dim[k];
        node.attr.perm.dim[k] = (int8_t)i;
    }
    for (int i = 0; i < t.shape.rank; i++)
        from.shape.dim[node.attr.perm.dim[i]] = t.shape.dim[i];
    const Ref x = grow_value(w, from, n);
    return grow_node(w, node, &x, 1);
}

static Ref grow_broadcast(Grow *w, Op op, Type t, int n)
{
    Node node = { .op = op, .type.shape = t.shape };
    Type from = { .dt = t.dt };
    for (int i = 0; i < t.shape.rank; i++) {
        if (grow_chance(w, 50))
            node.attr.axes.mask |= (uint8_t)(1u << i);
        else
            from.shape.dim[from.shape.rank++] = t.shape.dim[i];
    }
    if (!node.attr.axes.mask)
        return REF_NONE;
    const Ref x = grow_value(w, from, n);
    return grow_node(w, node, &x, 1);
}

static Ref grow_slice(Grow *w, Op op, Type t, int n)
{
    Node node = { .op = op, .type = t };
    Type from = t;
    for (int i = 0; i < t.shape.rank; i++) {
        const int64_t d = t.shape.dim[i];
        int64_t *lo = &node.attr.slice.lo[i], *step = &node.attr.slice.step[i];
        *step = 1;
        if (grow_chance(w, 50))
            continue;
        const int64_t before = grow_below(w, 4), after = grow_below(w, 4),
                      by = 1 + grow_below(w, 3);
        const int64_t span = d ? (d - 1) * by + 1 : 0;
        const bool back = d && grow_chance(w, 30);
        from.shape.dim[i] = before + span + after;
        *lo = back ? before + span - 1 : before;
        *step = back ? -by : by;
    }
    if (!grow_fits(w, &from.shape))
        return REF_NONE;
    const Ref x = grow_value(w, from, n);
    return grow_node(w, node, &x, 1);
}

static Ref grow_pad(Grow *w, Op op, Type t, int n)
{
    Node node = { .op = op };
    Type from = t;
    for (int i = 0; i < t.shape.rank; i++) {
        const int64_t d = t.shape.dim[i];
        int64_t *lo = &node.attr.pad.lo[i], *hi = &node.attr.pad.hi[i],
                *step = &node.attr.pad.step[i];
        *step = 1;
        if (d == 0 || grow_chance(w, 40))
            continue;
        *lo = grow_below(w, 4) < d ? grow_below(w, 2) : 0;
        *hi = grow_below(w, 3);
        *step = grow_chance(w, 25) ? 2 : 1;
        if (*lo + *hi >= d)
            *lo = *hi = 0;
        const int64_t room = d - *lo - *hi; /* (have - 1) * step + 1 */
        *hi += (room - 1) % *step;
        from.shape.dim[i] = (room - 1) / *step + 1;
    }
    if (grow_chance(w, 25))
        node.attr.pad.value = dtype_is_float(t.dt) ? (w->wild ? -INFINITY : -0.5) : 1;
    const Ref x = grow_value(w, from, n);
    return grow_node(w, node, &x, 1);
}

static Ref grow_concat(Grow *w, Op op, Type t, int n)
{
    Ref arg[4];
    if (t.shape.rank == 0)
        return REF_NONE;
    const int axis = grow_below(w, t.shape.rank), most = 1 + grow_below(w, 4);
    int64_t left = t.shape.dim[axis];
    int nargs = 0;
    while (nargs < most && (nargs == 0 || left > 0 || grow_chance(w, 5))) {
        Type part = t;
        const bool last = nargs == most - 1;
        part.shape.dim[axis] = last || left == 0 ? left : 1 + grow_below(w, (int)left);
        left -= part.shape.dim[axis];
        arg[nargs] = grow_value(w, part, grow_share(w, &n, most - nargs));
        nargs++;
    }
    return grow_node(w, (Node){ .op = op, .attr.axis.axis = (int8_t)axis }, arg, (uint32_t)nargs);
}

/* ------------------------------------------------------------ windows */

static void random_window(Grow *w, Node *n, int i, int axis)
{
    n->attr.window.axis[i] = (uint8_t)axis;
    n->attr.window.stride[i] = grow_chance(w, 60) ? 1 : 1 + grow_below(w, 3);
    n->attr.window.dilation[i] = grow_chance(w, 70) ? 1 : 2;
}

/* Extents of windows and, behind them, kernels: as they stand in t. */
static Ref grow_window(Grow *w, Op op, Type t, int n)
{
    if (t.dt == DT_BOOL || t.shape.rank < 2)
        return REF_NONE;
    const int count = 1 + grow_below(w, t.shape.rank / 2 < 3 ? t.shape.rank / 2 : 3);
    const int first = grow_below(w, t.shape.rank - 2 * count + 1);
    Node node = { .op = op, .attr.window.n = (uint8_t)count };
    Type from = { .dt = t.dt };
    for (int i = 0; i < t.shape.rank; i++)
        if (i < first + count || i >= first + 2 * count)
            from.shape.dim[from.shape.rank++] = t.shape.dim[i];
    for (int i = 0; i < count; i++) {
        const int64_t have = t.shape.dim[first + i], kernel = t.shape.dim[first + count + i];
        if (have < 1 || kernel < 1)
            return REF_NONE;
        random_window(w, &node, i, first + i);
        node.attr.window.kernel[i] = kernel;
        from.shape.dim[first + i] = (have - 1) * node.attr.window.stride[i] +
                                    (kernel - 1) * node.attr.window.dilation[i] + 1 +
                                    grow_below(w, (int)node.attr.window.stride[i]);
        node.attr.window.extent[i] = from.shape.dim[first + i];
    }
    if (!grow_fits(w, &from.shape))
        return REF_NONE;
    const Ref x = grow_value(w, from, n);
    return grow_node(w, node, &x, 1);
}

static Ref grow_fold(Grow *w, Op op, Type t, int n)
{
    if (t.dt == DT_BOOL || t.shape.rank < 1)
        return REF_NONE;
    const int count = 1 + grow_below(w, t.shape.rank < 2 ? 1 : 2);
    const int first = grow_below(w, t.shape.rank - count + 1);
    Node node = { .op = op, .attr.window.n = (uint8_t)count };
    Type from = t;
    if (t.shape.rank + count > MAX_RANK)
        return REF_NONE;
    from.shape.rank = (int8_t)(t.shape.rank + count);
    for (int i = t.shape.rank - 1; i >= first + count; i--)
        from.shape.dim[i + count] = t.shape.dim[i];
    for (int i = 0; i < count; i++) {
        const int64_t d = t.shape.dim[first + i];
        random_window(w, &node, i, first + i);
        const int64_t most = d < 1 ? 0 : (d - 1) / node.attr.window.dilation[i] + 1;
        if (most < 1)
            return REF_NONE;
        const int64_t kernel = 1 + grow_below(w, most < 4 ? (int)most : 4);
        const int64_t span = (kernel - 1) * node.attr.window.dilation[i] + 1;
        node.attr.window.kernel[i] = kernel;
        node.attr.window.extent[i] = d;
        from.shape.dim[first + i] = (d - span) / node.attr.window.stride[i] + 1;
        from.shape.dim[first + count + i] = kernel;
    }
    if (!grow_fits(w, &from.shape))
        return REF_NONE;
    const Ref x = grow_value(w, from, n);
    return grow_node(w, node, &x, 1);
}

/* ------------------------------------------------------------ by index */

/* [B.., I.., R..] from x [B.., N, R..] by index [B.., I..] */
static Ref grow_gather(Grow *w, Op op, Type t, int n)
{
    const int axis = grow_below(w, t.shape.rank < 3 ? t.shape.rank + 1 : 3);
    const int end = axis + grow_below(w, t.shape.rank - axis + 1);
    Type x = { .dt = t.dt }, index = { .dt = DT_I32 };
    for (int i = 0; i < end; i++)
        index.shape.dim[index.shape.rank++] = t.shape.dim[i];
    for (int i = 0; i < axis; i++)
        x.shape.dim[x.shape.rank++] = t.shape.dim[i];
    x.shape.dim[x.shape.rank++] = 1 + grow_below(w, 9);
    for (int i = end; i < t.shape.rank; i++)
        x.shape.dim[x.shape.rank++] = t.shape.dim[i];
    if (!grow_fits(w, &x.shape))
        return REF_NONE;
    Ref arg[2];
    arg[0] = grow_value(w, x, grow_share(w, &n, 2));
    arg[1] = grow_value(w, index, n);
    return grow_node(w, (Node){ .op = op, .attr.axis.axis = (int8_t)axis }, arg, 2);
}

/* [B.., extent, R..] from x [B.., I.., R..] by index [B.., I..] */
static Ref grow_scatter_add(Grow *w, Op op, Type t, int n)
{
    if (t.dt == DT_BOOL || t.shape.rank == 0 || t.shape.rank > 5)
        return REF_NONE;
    const int axis = grow_below(w, t.shape.rank), more = grow_below(w, 3);
    const int64_t extent = t.shape.dim[axis];
    Type x = { .dt = t.dt }, index = { .dt = DT_I32 };
    for (int i = 0; i < axis; i++)
        x.shape.dim[x.shape.rank++] = t.shape.dim[i];
    for (int i = 0; i < more; i++)
        x.shape.dim[x.shape.rank++] = grow_extent(w, i ? 5 : 65);
    index.shape = x.shape;
    for (int i = axis + 1; i < t.shape.rank; i++)
        x.shape.dim[x.shape.rank++] = t.shape.dim[i];
    if (extent == 0 || !grow_fits(w, &x.shape))
        return REF_NONE;
    const Node node = { .op = op, .attr.scatter = { .axis = (int8_t)axis, .extent = extent } };
    Ref arg[2];
    arg[0] = grow_value(w, x, grow_share(w, &n, 2));
    arg[1] = grow_value(w, index, n);
    return grow_tame(w, grow_node(w, node, arg, 2));
}

/* ------------------------------------------------------------ reductions, contractions */

static Ref grow_reduce(Grow *w, Op op, Type t, int n)
{
    Node node = { .op = op };
    Type from = { .dt = t.dt };
    if (t.dt == DT_BOOL || t.shape.rank == MAX_RANK || (op == OP_amin && w->train))
        return REF_NONE; /* amin has no gradient */
    int more = 1 + grow_below(w, t.shape.rank < 4 ? 3 : 1), i = 0;
    const int64_t count = shape_count(&t.shape);
    int64_t room = w->max_count / (count ? count : 1);
    while (i < t.shape.rank || more) {
        const bool fresh = more && (i == t.shape.rank || grow_chance(w, 40));
        int64_t *d = &from.shape.dim[from.shape.rank];
        if (fresh) {
            *d = grow_extent(w, room);
            room /= *d ? *d : 1;
            node.attr.axes.mask |= (uint8_t)(1u << from.shape.rank);
            more--;
        } else {
            *d = t.shape.dim[i++];
        }
        from.shape.rank++;
    }
    const Ref x = grow_value(w, from, n);
    const Ref r = grow_node(w, node, &x, 1);
    return op == OP_sum ? grow_tame(w, r) : r;
}

static Ref grow_cumsum(Grow *w, Op op, Type t, int n)
{
    if (t.dt == DT_BOOL || t.shape.rank == 0)
        return REF_NONE;
    const Node node = { .op = op, .attr.axis.axis = (int8_t)grow_below(w, t.shape.rank) };
    const Ref x = grow_value(w, t, n);
    return grow_tame(w, grow_node(w, node, &x, 1));
}

typedef struct Side { /* one argument of a matmul, as its axes are put in order */
    Shape shape;
    int own, batch, over; /* how many have their place */
} Side;

/* Places the axes of one side: own ones in the order of the result, the others anywhere. */
static void place_axes(Grow *w, Side *s, const int64_t *own, int nown, const int64_t *batch,
                       uint8_t *batch_at, int nbatch, const int64_t *over, uint8_t *over_at,
                       int nover)
{
    while (s->own < nown || s->batch < nbatch || s->over < nover) {
        const int kind = grow_below(w, 3);
        if (kind == 0 && s->own < nown) {
            s->shape.dim[s->shape.rank++] = own[s->own++];
        } else if (kind == 1 && s->batch < nbatch) {
            batch_at[s->batch] = (uint8_t)s->shape.rank;
            s->shape.dim[s->shape.rank++] = batch[s->batch++];
        } else if (kind == 2 && s->over < nover) {
            over_at[s->over] = (uint8_t)s->shape.rank;
            s->shape.dim[s->shape.rank++] = over[s->over++];
        }
    }
}

static Ref grow_matmul(Grow *w, Op op, Type t, int n)
{
    const int rank = t.shape.rank;
    int64_t over[2], work = shape_count(&t.shape);
    Node node = { .op = op };
    if (t.dt == DT_BOOL || rank > 5)
        return REF_NONE;
    const int nbatch =
        rank > 2 && grow_chance(w, 50) ? 1 + grow_below(w, 2) : grow_below(w, 8) == 0;
    const int nb = nbatch < rank ? nbatch : rank, na = nb + grow_below(w, rank - nb + 1);
    const int nover = grow_chance(w, 80) ? 1 : grow_below(w, 3);
    for (int i = 0; i < nover; i++) {
        over[i] = grow_extent(w, w->max_work / (work ? work : 1));
        work *= over[i] ? over[i] : 1;
    }
    node.attr.contract.nover = (uint8_t)nover;
    node.attr.contract.nbatch = (uint8_t)nb;
    Side a = { 0 }, b = { 0 };
    place_axes(w, &a, t.shape.dim + nb, na - nb, t.shape.dim, node.attr.contract.batch_a, nb, over,
               node.attr.contract.over_a, nover);
    place_axes(w, &b, t.shape.dim + na, rank - na, t.shape.dim, node.attr.contract.batch_b, nb,
               over, node.attr.contract.over_b, nover);
    if (!grow_fits(w, &a.shape) || !grow_fits(w, &b.shape))
        return REF_NONE;
    Ref arg[2];
    arg[0] = grow_value(w, (Type){ t.dt, a.shape }, grow_share(w, &n, 2));
    arg[1] = grow_value(w, (Type){ t.dt, b.shape }, n);
    const Ref r = grow_node(w, node, arg, 2);
    return grow_tame(w, r);
}

/* ------------------------------------------------------------ the table */

static const struct {
    const char *shape_rule;
    GrowRule *grow;
} by_rule[] = {
    { "const", grow_const },
    { "iota", grow_iota },
    { "rand", grow_rand },
    { "same", grow_same },
    { "floats", grow_floats },
    { "compare", grow_compare },
    { "logic", grow_logic },
    { "select", grow_select },
    { "cast", grow_cast },
    { "reshape", grow_reshape },
    { "concat", grow_concat },
    { "transpose", grow_transpose },
    { "broadcast", grow_broadcast },
    { "slice", grow_slice },
    { "pad", grow_pad },
    { "window", grow_window },
    { "fold", grow_fold },
    { "reduce", grow_reduce },
    { "matmul", grow_matmul },
    { "scan", grow_scan },
    { "gather", grow_gather },
    { "scatter_add", grow_scatter_add },
    { "cumsum", grow_cumsum },
};

static const char *const shape_rule[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad) [OP_##id] = #shape,
#include "ir/ops.def"
};

GrowRule *grow_rule(Op op)
{
    for (size_t i = 0; i < sizeof by_rule / sizeof *by_rule; i++)
        if (strcmp(by_rule[i].shape_rule, shape_rule[op]) == 0)
            return by_rule[i].grow;
    return NULL;
}
