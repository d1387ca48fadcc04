/* SPDX-License-Identifier: Apache-2.0 */
/* Grows a graph by one random op at a time.  Arguments are nodes that are there already, or are
 * made to fit (an input, a constant); an op that the picked arguments do not suit fails in
 * inference and is skipped, so the table of ops is all that is known of elementwise ops here. */
#include "tests/random_graph.h"

#include <stdio.h>
#include <string.h>

#include "ir/base/rng.h"
#include "ir/base/size.h"
#include "ir/build.h"

typedef struct Grow {
    Builder b;
    const RandomOptions *opt;
    Rng *rng;
    int64_t max_count;
    int depth; /* of bodies */
    bool in_fusion, has_scan;
} Grow;

typedef enum Want { WANT_ANY, WANT_NUMBER, WANT_FLOAT } Want;

static int below(Grow *w, int n)
{
    return (int)rng_below(w->rng, (uint64_t)n);
}
static bool chance(Grow *w, int one_in)
{
    return below(w, one_in) == 0;
}

static int64_t random_extent(Grow *w, int64_t room)
{
    static const int64_t extent[] = { 1, 2, 3, 5, 7, 8, 15, 16, 17, 31, 33, 64, 100, 129, 800 };
    const int most = w->opt->fused ? 15 : 11;
    int n = 0;
    if (w->opt->zeros && chance(w, 24))
        return 0;
    while (n < most && extent[n] <= room)
        n++;
    return n ? extent[below(w, n)] : 1;
}

static Shape random_shape(Grow *w, int max_rank)
{
    Shape s = { .rank = (int8_t)below(w, max_rank + 1) };
    int64_t room = w->max_count;
    for (int i = 0; i < s.rank; i++) {
        s.dim[i] = random_extent(w, room);
        room = s.dim[i] ? room / s.dim[i] : room;
    }
    return s;
}

static DType random_dtype(Grow *w, Want want)
{
    static const DType all[] = { DT_F64, DT_F16, DT_BF16, DT_I64, DT_U8, DT_I32, DT_BOOL };
    for (;;) {
        DType dt = DT_F32;
        if (chance(w, 3))
            dt = w->opt->dtypes ? all[below(w, 7)] : chance(w, 2) ? DT_I32 : DT_BOOL;
        if (w->opt->fused && dt == DT_F64)
            continue;
        if (want == WANT_ANY || dtype_is_float(dt) || (want == WANT_NUMBER && dt != DT_BOOL))
            return dt;
    }
}

static Type random_type(Grow *w, Want want, int max_rank)
{
    Type t = { .dt = random_dtype(w, want) };
    t.shape = random_shape(w, max_rank);
    return t;
}

static bool fits(const Type *t, Want want)
{
    return t->dt != DT_NONE &&
           (want == WANT_ANY || dtype_is_float(t->dt) || (want == WANT_NUMBER && t->dt != DT_BOOL));
}

static Ref fresh(Grow *w, Type t)
{
    if (w->depth == 0 && chance(w, 2)) {
        char name[32];
        snprintf(name, sizeof name, "in.%u", w->b.g->nnode);
        const InputKind kind = w->opt->fused ? INPUT_batch : (InputKind)below(w, INPUT_const + 1);
        return build_input(&w->b, kind, name, t.dt, t.shape);
    }
    if (dtype_is_float(t.dt))
        return build_const(&w->b, (below(w, 33) - 16) / 8.0, t);
    return build_const(&w->b, below(w, t.dt == DT_BOOL ? 2 : 4), t);
}

static Ref pick(Grow *w, Want want)
{
    const uint32_t n = w->b.g->nnode;
    for (int tries = 0; n > 1 && tries < 16; tries++) {
        const bool late = w->opt->views && n > 4 && !chance(w, 3); /* chains */
        const Ref r = late ? n - 1 - (Ref)below(w, 3) : 1 + (Ref)below(w, (int)n - 1);
        const Type t = build_type(&w->b, r);
        if (fits(&t, want))
            return r;
    }
    return fresh(w, random_type(w, want, 4));
}

static Ref pick_like(Grow *w, Type t)
{
    const uint32_t n = w->b.g->nnode, start = n > 1 ? (uint32_t)below(w, (int)n) : 0;
    for (uint32_t i = 0; i < n && !chance(w, 64); i++) {
        const Ref r = (start + i) % n;
        if (r != REF_NONE && type_eq(&w->b.g->node[r].type, &t))
            return r;
    }
    return fresh(w, t);
}

static bool small(Grow *w, const Shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] && (!size_mul_ok(n, s->dim[i], &n) || n > w->max_count))
            return false;
    return true;
}

static Ref add(Grow *w, Node n, const Ref *arg, uint32_t nargs)
{
    Ref r = REF_NONE;
    n.arg = arg;
    n.nargs = nargs;
    n.region = w->b.region;
    if (w->b.status != ST_OK || graph_add(w->b.cx, w->b.g, &n, &r) != ST_OK)
        return REF_NONE;
    return r;
}

/* Elementwise. */

static Ref soften(Grow *w, Op op, Ref x)
{
    if (!w->opt->tame || !dtype_is_float(build_type(&w->b, x).dt))
        return x;
    if (op == OP_exp || op == OP_expm1 || op == OP_sin || op == OP_cos)
        return build_op1(&w->b, OP_tanh, x);
    return build_shift(&w->b, build_op1(&w->b, OP_abs, x), 1);
}

static bool touchy(Op op)
{
    return op == OP_sqrt || op == OP_rsqrt || op == OP_log || op == OP_log1p || op == OP_exp ||
           op == OP_expm1 || op == OP_sin || op == OP_cos;
}

static void grow_elementwise(Grow *w, Op op)
{
    if (op == OP_stop_gradient && w->depth) /* where slope_check could not hold it still */
        return;
    const int first = op == OP_select;
    const bool logic = op == OP_and || op == OP_or || op == OP_not;
    Ref arg[3];

    arg[first] = logic ? pick_like(w, (Type){ DT_BOOL, random_shape(w, 3) })
                       : pick(w, op_info[op].prec == PREC_F32 ? WANT_FLOAT : WANT_ANY);
    const Type t = build_type(&w->b, arg[first]);
    if (touchy(op))
        arg[first] = soften(w, op, arg[first]);
    for (int i = first + 1; i < op_info[op].nargs; i++)
        arg[i] = pick_like(w, t);
    if (op == OP_div)
        arg[1] = soften(w, op, arg[1]);
    if (op == OP_select)
        arg[0] = pick_like(w, (Type){ DT_BOOL, t.shape });
    Node n = { .op = op };
    if (op == OP_cast)
        n.type = (Type){ random_dtype(w, WANT_ANY), t.shape };
    add(w, n, arg, (uint32_t)op_info[op].nargs);
}

/* Sources. */

static void grow_source(Grow *w, Op op)
{
    Type type = random_type(w, WANT_ANY, 4);
    if (op == OP_const) {
        fresh(w, type);
    } else if (op == OP_iota && type.shape.rank) {
        type.dt = random_dtype(w, WANT_NUMBER);
        build_iota(&w->b, type, below(w, type.shape.rank));
    } else if (op == OP_rand && w->opt->random) {
        Ref arg[5];
        for (int i = 0; i < 5; i++)
            arg[i] = pick_like(w, (Type){ .dt = w->opt->dtypes && chance(w, 4) ? DT_I64 : DT_I32 });
        build_rand(&w->b, type.shape, arg[0], arg[1], arg[2], arg[3], arg[4]);
    }
}

/* Views. */

static void grow_reshape(Grow *w)
{
    const Ref x = pick(w, WANT_ANY);
    const Shape s = build_type(&w->b, x).shape;
    Shape to = { 0 };
    for (int i = 0; i < s.rank; i++) { /* merge with the axis before, or split off a factor */
        const int64_t d = s.dim[i];
        if (to.rank && chance(w, 3))
            to.dim[to.rank - 1] *= d;
        else if (d % 3 == 0 && d && to.rank + s.rank - i < MAX_RANK && chance(w, 2))
            to.dim[to.rank++] = 3, to.dim[to.rank++] = d / 3;
        else
            to.dim[to.rank++] = d;
    }
    if (to.rank < MAX_RANK && chance(w, 4))
        to.dim[to.rank++] = 1;
    add(w, (Node){ .op = OP_reshape, .type.shape = to }, &x, 1);
}

static void grow_transpose(Grow *w)
{
    const Ref x = pick(w, WANT_ANY);
    Node n = { .op = OP_transpose };
    const int rank = build_type(&w->b, x).shape.rank;
    for (int i = 0; i < rank; i++) {
        const int k = below(w, i + 1);
        n.attr.perm.dim[i] = n.attr.perm.dim[k];
        n.attr.perm.dim[k] = (int8_t)i;
    }
    add(w, n, &x, 1);
}

static void grow_broadcast(Grow *w)
{
    const Ref x = pick(w, WANT_ANY);
    const Shape s = build_type(&w->b, x).shape;
    Node n = { .op = OP_broadcast };
    int kept = 0;
    const int rank = s.rank + 1 + below(w, 2);
    for (int i = 0; i < rank && rank <= 6; i++) {
        const int left = rank - i, keep = s.rank - kept;
        if (keep && (keep == left || chance(w, 2))) {
            n.type.shape.dim[i] = s.dim[kept++];
        } else {
            n.type.shape.dim[i] = random_extent(w, 8);
            n.attr.axes.mask |= (uint8_t)(1u << i);
        }
        n.type.shape.rank++;
    }
    if (small(w, &n.type.shape))
        add(w, n, &x, 1);
}

static void grow_slice(Grow *w)
{
    const Ref x = pick(w, WANT_ANY);
    const Type t = build_type(&w->b, x);
    Node n = { .op = OP_slice, .type = t };
    for (int i = 0; i < t.shape.rank; i++) {
        const int64_t d = t.shape.dim[i];
        n.attr.slice.step[i] = 1;
        if (d == 0 || chance(w, 2))
            continue;
        const int64_t step = 1 + below(w, 3), lo = below(w, (int)d);
        const int64_t most = chance(w, 2) ? (d - 1 - lo) / step + 1 : -(lo / step + 1);
        n.attr.slice.lo[i] = lo;
        n.attr.slice.step[i] = most > 0 ? step : -step;
        n.type.shape.dim[i] = 1 + below(w, (int)(most > 0 ? most : -most));
        if (w->opt->zeros && chance(w, 16))
            n.type.shape.dim[i] = 0;
    }
    add(w, n, &x, 1);
}

static void grow_pad(Grow *w)
{
    const Ref x = pick(w, WANT_ANY);
    const Type t = build_type(&w->b, x);
    Node n = { .op = OP_pad };
    Shape to = t.shape;
    for (int i = 0; i < t.shape.rank; i++) {
        n.attr.pad.lo[i] = chance(w, 2) ? below(w, 4) : 0;
        n.attr.pad.hi[i] = chance(w, 2) ? below(w, 4) : 0;
        n.attr.pad.step[i] = chance(w, 4) ? 2 : 1;
        to.dim[i] = n.attr.pad.lo[i] + n.attr.pad.hi[i] + n.attr.pad.step[i] * to.dim[i];
    }
    if (chance(w, 4))
        n.attr.pad.value = dtype_is_float(t.dt) && !w->opt->tame ? -__builtin_inf() : 1;
    if (small(w, &to))
        add(w, n, &x, 1);
}

static void grow_concat(Grow *w)
{
    Ref arg[4] = { pick(w, WANT_ANY) };
    const Type t = build_type(&w->b, arg[0]);
    const int n = 1 + below(w, 4), axis = t.shape.rank ? below(w, t.shape.rank) : 0;
    Shape to = t.shape;
    for (int i = 1; i < n && t.shape.rank; i++) {
        Type like = t;
        if (chance(w, 2))
            like.shape.dim[axis] = random_extent(w, 8);
        arg[i] = pick_like(w, like);
        to.dim[axis] += like.shape.dim[axis];
    }
    if (t.shape.rank && small(w, &to))
        add(w, (Node){ .op = OP_concat, .attr.axis.axis = (int8_t)axis }, arg, (uint32_t)n);
}

/* A window of x, and its fold half the time. */
static void grow_window(Grow *w)
{
    const Ref x = pick(w, WANT_FLOAT);
    const Type t = build_type(&w->b, x);
    Node n = { .op = OP_window, .attr.window.n = (uint8_t)(1 + below(w, 3)) };
    Shape to = t.shape;
    const int room = t.shape.rank - n.attr.window.n;
    if (room < 0 || t.shape.rank + n.attr.window.n > MAX_RANK)
        return;
    const int first = below(w, room + 1);
    for (int i = 0; i < n.attr.window.n; i++) {
        n.attr.window.axis[i] = (uint8_t)(first + i);
        n.attr.window.kernel[i] = 1 + below(w, 4);
        n.attr.window.stride[i] = 1 + below(w, 3);
        n.attr.window.dilation[i] = chance(w, 3) ? 2 : 1;
        n.attr.window.extent[i] = t.shape.dim[first + i];
        to.dim[first + i] *= n.attr.window.kernel[i];
    }
    if (!small(w, &to))
        return;
    const Ref y = add(w, n, &x, 1);
    n.op = OP_fold;
    if (y != REF_NONE && chance(w, 2))
        add(w, n, &y, 1);
}

/* Rows by an index, and half the time its adjoint. */
static void grow_gather(Grow *w)
{
    const Ref x = pick(w, WANT_ANY);
    const Type t = build_type(&w->b, x);
    if (t.shape.rank == 0)
        return;
    const int axis = below(w, t.shape.rank), more = below(w, 3);
    Type index = { .dt = DT_I32, .shape = t.shape };
    index.shape.rank = (int8_t)axis;
    for (int i = axis; i < MAX_RANK; i++)
        index.shape.dim[i] = 0;
    for (int i = 0; i < more && index.shape.rank < MAX_RANK; i++)
        index.shape.dim[index.shape.rank++] = random_extent(w, 8);
    Shape to = index.shape;
    for (int i = axis + 1; i < t.shape.rank && to.rank < MAX_RANK; i++)
        to.dim[to.rank++] = t.shape.dim[i];
    if (index.shape.rank + t.shape.rank - axis - 1 > MAX_RANK || t.shape.dim[axis] == 0 ||
        !small(w, &to))
        return;
    const Ref arg[2] = { x, pick_like(w, index) };
    const Ref y = add(w, (Node){ .op = OP_gather, .attr.axis.axis = (int8_t)axis }, arg, 2);
    if (y == REF_NONE || t.dt == DT_BOOL || chance(w, 2))
        return;
    const Node back = { .op = OP_scatter_add,
                        .attr.scatter = { (int8_t)axis, 1 + random_extent(w, 8) } };
    to = t.shape;
    to.dim[axis] = back.attr.scatter.extent;
    if (small(w, &to))
        add(w, back, (Ref[]){ y, arg[1] }, 2);
}

static void grow_view(Grow *w, Op op)
{
    static void (*const grow[OP_COUNT])(Grow * w) = {
        [OP_reshape] = grow_reshape,
        [OP_transpose] = grow_transpose,
        [OP_broadcast] = grow_broadcast,
        [OP_slice] = grow_slice,
        [OP_pad] = grow_pad,
        [OP_concat] = grow_concat,
        [OP_window] = grow_window,
        [OP_gather] = grow_gather,
    };
    gtc_assert(grow[op], "random graphs do not know the view %s", op_info[op].name);
    grow[op](w);
}

static void grow_reduce(Grow *w, Op op)
{
    const Ref x = pick(w, WANT_NUMBER);
    const Type t = build_type(&w->b, x);
    if (op == OP_fold)
        grow_window(w);
    else if (op == OP_scatter_add)
        grow_gather(w);
    else if (op == OP_cumsum && t.shape.rank)
        add(w, (Node){ .op = op, .attr.axis.axis = (int8_t)below(w, t.shape.rank) }, &x, 1);
    else if (op == OP_cumsum)
        return;
    else
        add(w, (Node){ .op = op, .attr.axes.mask = (uint8_t)below(w, 1 << t.shape.rank) }, &x, 1);
}

static void grow_matmul(Grow *w)
{
    Ref arg[2] = { pick(w, chance(w, 8) ? WANT_NUMBER : WANT_FLOAT) };
    const Type a = build_type(&w->b, arg[0]);
    Type b = { .dt = a.dt };
    Node n = { .op = OP_matmul };
    int64_t work = shape_count(&a.shape);

    for (int i = 0; i < a.shape.rank; i++) { /* each axis of a is summed, batch or its own */
        const int kind = below(w, 3), at = b.shape.rank;
        if (kind == 0 && n.attr.contract.nover < 4) {
            n.attr.contract.over_a[n.attr.contract.nover] = (uint8_t)i;
            n.attr.contract.over_b[n.attr.contract.nover++] = (uint8_t)at;
        } else if (kind == 1 && n.attr.contract.nbatch < 2) {
            n.attr.contract.batch_a[n.attr.contract.nbatch] = (uint8_t)i;
            n.attr.contract.batch_b[n.attr.contract.nbatch++] = (uint8_t)at;
        } else {
            continue;
        }
        b.shape.dim[b.shape.rank++] = a.shape.dim[i];
    }
    if (b.shape.rank < 4 && chance(w, 2))
        b.shape.dim[b.shape.rank++] = random_extent(w, 17);
    else if (b.shape.rank == 0)
        b.shape.dim[b.shape.rank++] = 3;
    const int64_t own = b.shape.dim[b.shape.rank - 1];
    if (!size_mul_ok(work, own ? own : 1, &work) || work > w->max_count * 4)
        return;
    arg[1] = pick_like(w, b);
    const Ref r = add(w, n, arg, 2);
    if (r != REF_NONE && w->opt->tame && dtype_is_float(a.dt))
        build_op1(&w->b, OP_tanh, r);
}

/* Bodies. */

static void grow_nodes(Grow *w, int nodes);

static Grow start_body(Grow *w, bool fusion)
{
    Grow inner = *w;
    inner.b = build_start(w->b.cx, graph_new(w->b.g->arena));
    inner.depth++;
    inner.in_fusion |= fusion;
    inner.max_count = w->max_count / 4 + 1;
    return inner;
}

static void add_body_input(Grow *inner, Type t)
{
    char name[32];
    snprintf(name, sizeof name, "x%u", inner->b.g->ninput);
    build_input(&inner->b, INPUT_batch, name, t.dt, t.shape);
}

static Ref pick_output(Grow *w)
{
    for (;;) {
        const Ref r = pick(w, WANT_ANY);
        if (build_type(&w->b, r).shape.rank < MAX_RANK)
            return r;
    }
}

static void take_results(Grow *w, Ref tuple)
{
    if (tuple == REF_NONE)
        return;
    for (uint32_t i = 0; i < graph_result_count(w->b.g, tuple); i++)
        if (!chance(w, 5))
            build_get(&w->b, tuple, (int)i);
}

static void grow_scan(Grow *w)
{
    Grow inner = start_body(w, false);
    const int ncarry = below(w, 3), nstep = below(w, 3), ngiven = below(w, 2);
    int64_t trip = random_extent(w, 7);
    Ref arg[8];
    int n = 0;

    for (int i = 0; i < ncarry + nstep + ngiven; i++) {
        Grow *from = &inner;
        Type t = { random_dtype(from, WANT_ANY), random_shape(from, 3) };
        add_body_input(&inner, t);
        if (i >= ncarry && i < ncarry + nstep) {
            for (int k = t.shape.rank++; k > 0; k--)
                t.shape.dim[k] = t.shape.dim[k - 1];
            t.shape.dim[0] = trip;
        }
        arg[n++] = pick_like(w, t);
    }
    grow_nodes(&inner, w->opt->nodes / 3 + 1);
    for (int i = 0; i < ncarry; i++)
        build_output(&inner.b, pick_like(&inner, build_type(&inner.b, inner.b.g->input[i])), NULL);
    for (int i = below(w, 3); i >= 0; i--)
        build_output(&inner.b, pick_output(&inner), NULL);
    gtc_assert(inner.b.status == ST_OK, "random scan body: %s", inner.b.cx->msg);
    take_results(w, build_scan(&w->b, inner.b.g, arg, n, ncarry, nstep, trip, chance(w, 2)));
}

static void grow_fusion(Grow *w)
{
    Grow inner = start_body(w, true);
    const int n = below(w, 4);
    Ref arg[4];

    for (int i = 0; i < n; i++) {
        const Ref x = pick(w, WANT_ANY);
        const Type t = build_type(&w->b, x);
        add_body_input(&inner, t);
        arg[i] = x;
    }
    grow_nodes(&inner, w->opt->nodes / 3 + 1);
    for (int i = below(w, 3); i >= 0; i--)
        build_output(&inner.b, pick_output(&inner), chance(w, 2) && i == 0 ? "y" : NULL);
    gtc_assert(inner.b.status == ST_OK, "random fusion body: %s", inner.b.cx->msg);
    take_results(
        w, add(w, (Node){ .op = OP_fusion, .attr.fusion = { .body = inner.b.g, .kind = "loop" } },
               arg, (uint32_t)n));
}

static void grow_grad(Grow *w)
{
    const Ref x = pick(w, WANT_FLOAT);
    const Type t = build_type(&w->b, x);
    Ref wrt[2];
    const int n = 1 + below(w, 2);
    const Ref loss = build_reduce(&w->b, OP_sum, x, (1u << t.shape.rank) - 1);
    for (int i = 0; i < n; i++)
        wrt[i] = pick(w, WANT_FLOAT);
    take_results(w, build_grad(&w->b, loss, wrt, n));
}

static void grow_region(Grow *w, Op op)
{
    if (!w->opt->bodies || w->depth >= (w->opt->fused ? 1 : 2))
        return;
    if (op == OP_scan && !(w->opt->fused && w->has_scan)) {
        w->has_scan = true;
        grow_scan(w);
    } else if (op == OP_fusion && !w->in_fusion && !w->opt->fused) {
        grow_fusion(w);
    }
}

/* Whose result may be a float, and which has no gradient, or one that is not its slope. */
static bool is_rough(Op op)
{
    static const char *const gradient[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad) [OP_##id] = #grad,
#include "ir/ops.def"
    };
    const uint8_t cls = op_info[op].cls;
    return op == OP_stop_gradient ||
           ((cls == CLASS_REDUCE || cls == CLASS_REGION) && strcmp(gradient[op], "none") == 0);
}

static void grow_one(Grow *w, Op op)
{
    if (w->opt->smooth && is_rough(op))
        return;
    switch ((OpClass)op_info[op].cls) {
    case CLASS_SOURCE:
        grow_source(w, op);
        break;
    case CLASS_ELEMENTWISE:
        grow_elementwise(w, op);
        break;
    case CLASS_VIEW:
        grow_view(w, op);
        break;
    case CLASS_REDUCE:
        grow_reduce(w, op);
        break;
    case CLASS_CONTRACT:
        grow_matmul(w);
        break;
    case CLASS_REGION:
        grow_region(w, op);
        break;
    case CLASS_TUPLE:
        break; /* come with their tuples */
    case CLASS_GRADIENT:
        if (w->opt->grads && w->depth == 0)
            grow_grad(w);
        break;
    }
    gtc_assert(w->b.status == ST_OK, "random graph: %s", w->b.cx->msg);
}

static Op random_op(Grow *w)
{
    for (;;) {
        const Op op = (Op)(1 + below(w, OP_COUNT - 1));
        const int cls = op_info[op].cls;
        if (!w->opt->views || cls == CLASS_VIEW || cls == CLASS_REDUCE || chance(w, 4))
            return op;
    }
}

static void grow_nodes(Grow *w, int nodes)
{
    static const char *const kind[] = { "conv1d", "lstm", "dense", "my-cell.2" };
    for (int i = 0; i < nodes; i++) {
        if (chance(w, 3))
            w->b.region = chance(w, 3) ? 0
                                       : graph_region(w->b.g, kind[below(w, 4)], below(w, 4) - 1,
                                                      chance(w, 3));
        grow_one(w, random_op(w));
        if (chance(w, 6) && w->b.g->nnode > 1) {
            char name[32];
            snprintf(name, sizeof name, "v-%u.y_", w->b.g->nnode - 1);
            build_name(&w->b, w->b.g->nnode - 1, name);
        }
    }
}

/* A node of that type that is no input. */
static Ref pick_next(Grow *w, Type t)
{
    for (int i = 0; i < 8; i++) {
        const Ref r = pick_like(w, t);
        if (w->b.g->node[r].op != OP_input)
            return r;
    }
    return build_const(&w->b, 1, t);
}

/* What nobody uses: a fusion holds nothing else. */
static void output_unused(Grow *w)
{
    const Graph *g = w->b.g;
    uint8_t *used = arena_array(g->arena, uint8_t, g->nnode);
    for (Ref r = 1; r < g->nnode; r++)
        for (uint32_t i = 0; i < g->node[r].nargs; i++)
            used[g->node[r].arg[i]] = 1;
    for (Ref r = 1; r < g->nnode; r++)
        if (!used[r] && g->node[r].type.dt != DT_NONE && g->node[r].op != OP_input && !chance(w, 8))
            build_output(&w->b, r, NULL);
}

static void grow_outputs(Grow *w)
{
    const Graph *g = w->b.g;
    if (w->opt->fused)
        output_unused(w);
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Node in = g->node[g->input[i]];
        const bool can = in.attr.input.kind == INPUT_param || in.attr.input.kind == INPUT_state;
        if (can && chance(w, 2))
            build_replace(&w->b, g->input[i], pick_next(w, in.type));
    }
    for (int i = below(w, 4); i >= 0; i--) {
        const Ref r = pick(w, WANT_ANY);
        char name[32];
        snprintf(name, sizeof name, "out.%d", i);
        if (g->node[r].op == OP_input && g->node[r].attr.input.kind != INPUT_batch)
            continue;
        build_output(&w->b, r, chance(w, 2) ? name : NULL);
    }
    if (g->nout == 0)
        build_output(&w->b, build_op1(&w->b, OP_abs, pick(w, WANT_NUMBER)), NULL);
}

Graph *random_graph(Ctx *cx, Arena *arena, uint64_t seed, const RandomOptions *opt)
{
    Rng rng;
    Grow w = { .b = build_start(cx, graph_new(arena)),
               .opt = opt,
               .rng = &rng,
               .max_count = opt->max_count ? opt->max_count : 4096 };

    rng_init(&rng, seed, 0);
    for (int i = 0; i < 2; i++)
        fresh(&w, random_type(&w, WANT_FLOAT, 3));
    grow_nodes(&w, opt->nodes);
    grow_outputs(&w);
    gtc_assert(w.b.status == ST_OK, "random graph %llu: %s", (unsigned long long)seed, cx->msg);
    return w.b.g;
}
