/* SPDX-License-Identifier: Apache-2.0 */
/* Forward-mode differentiation, to hold reverse mode against.
 *
 * A rule says what the tangent of one op's result is, given those of its arguments.  It is written
 * from the op's definition and never from its vjp: linear ops are done again with the tangents,
 * the slope of an elementwise function is written in its argument where the vjp uses its result,
 * a maximum looks up the tangent of what it chose.  A scan becomes a scan of dual numbers: its
 * carries, per-step tensors, invariants and results each followed by their tangents.
 *
 * REF_NONE stands for a tangent that is zero, of an integer too. */
#include "tests/dual.h"

#include "ir/build.h"

typedef struct Dual {
    Builder b;
    const Graph *in;
    bool *live;        /* by Ref of in */
    Ref *value, *move; /* by Ref of in: in out; the tangent */
    Ref **part;        /* of a scan, by result: the tangent */
} Dual;

/* y: the result in d's graph; n: its node there; dx: a tangent for each float argument. */
typedef Ref DualFn(Dual *d, const Node *n, Ref y, const Ref *dx);

static Ref mul(Dual *d, Ref x, Ref y)
{
    return build_op2(&d->b, OP_mul, x, y);
}

static Ref square(Dual *d, Ref x)
{
    return mul(d, x, x);
}

static Ref ew(Dual *d, Op op, Ref x)
{
    return build_op1(&d->b, op, x);
}

static Ref over(Dual *d, double c, Ref x)
{
    return build_op2(&d->b, OP_div, build_const(&d->b, c, build_type(&d->b, x)), x);
}

/* n once more, with other arguments, without a name unless it is an input. */
static Ref again(Dual *d, Node n, const Ref *arg)
{
    Ref r = REF_NONE;
    n.arg = arg;
    n.region = 0;
    if (n.op != OP_input)
        n.name = NULL;
    if (d->b.status == ST_OK)
        d->b.status = graph_add(d->b.cx, d->b.g, &n, &r);
    return r;
}

/* ---- elementwise */

/* The tangent is the slope at x times dx. */
#define SLOPE(id, ...)                                                                             \
    static Ref dual_##id(Dual *d, const Node *n, Ref y, const Ref *dx)                             \
    {                                                                                              \
        const Ref x = n->arg[0];                                                                   \
        (void)x, (void)y;                                                                          \
        return mul(d, __VA_ARGS__, dx[0]);                                                         \
    }
SLOPE(neg, build_const(&d->b, -1, build_type(&d->b, x)))
SLOPE(sqrt, over(d, 0.5, ew(d, OP_sqrt, x)))
SLOPE(rsqrt, over(d, -0.5, mul(d, x, ew(d, OP_sqrt, x))))
SLOPE(exp, ew(d, OP_exp, x))
SLOPE(expm1, ew(d, OP_exp, x))
SLOPE(log, over(d, 1, x))
SLOPE(log1p, over(d, 1, build_shift(&d->b, x, 1)))
SLOPE(erf, build_scale(&d->b, ew(d, OP_exp, ew(d, OP_neg, square(d, x))), 0x1.20dd750429b6dp0))
SLOPE(sin, ew(d, OP_cos, x))
SLOPE(cos, ew(d, OP_neg, ew(d, OP_sin, x)))

/* 1 / cosh x squared, from e^-2|x|, which cannot overflow: 4 q / (1 + q)^2. */
static Ref bell(Dual *d, Ref x, double width)
{
    const Ref q = ew(d, OP_exp, build_scale(&d->b, ew(d, OP_abs, x), -width));
    return build_op2(&d->b, OP_div, q, square(d, build_shift(&d->b, q, 1)));
}
SLOPE(tanh, build_scale(&d->b, bell(d, x, 2), 4))
SLOPE(sigmoid, bell(d, x, 1))

static Ref dual_add(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)n, (void)y;
    return build_op2(&d->b, OP_add, dx[0], dx[1]);
}

static Ref dual_sub(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)n, (void)y;
    return build_op2(&d->b, OP_sub, dx[0], dx[1]);
}

static Ref dual_mul(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)y;
    return build_op2(&d->b, OP_add, mul(d, n->arg[0], dx[1]), mul(d, dx[0], n->arg[1]));
}

/* (dx0 x1 - x0 dx1) / x1^2 */
static Ref dual_div(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)y;
    const Ref up = build_op2(&d->b, OP_sub, mul(d, dx[0], n->arg[1]), mul(d, n->arg[0], dx[1]));
    return build_op2(&d->b, OP_div, up, square(d, n->arg[1]));
}

/* The tangent of the greater, or of the second of two equal ones. */
static Ref dual_max(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)y;
    const Ref second = build_op2(&d->b, OP_le, n->arg[0], n->arg[1]);
    return build_select(&d->b, second, dx[1], dx[0]);
}

static Ref dual_min(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)y;
    const Ref second = build_op2(&d->b, OP_le, n->arg[1], n->arg[0]);
    return build_select(&d->b, second, dx[1], dx[0]);
}

/* dx times -1, 0 or 1. */
static Ref dual_abs(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)y;
    const Type t = build_type(&d->b, n->arg[0]);
    const Ref zero = build_const(&d->b, 0, t);
    const Ref up = build_cast(&d->b, build_op2(&d->b, OP_lt, zero, n->arg[0]), t.dt);
    const Ref down = build_cast(&d->b, build_op2(&d->b, OP_lt, n->arg[0], zero), t.dt);
    return mul(d, build_op2(&d->b, OP_sub, up, down), dx[0]);
}

static Ref dual_flat(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)d, (void)n, (void)y, (void)dx;
    return REF_NONE;
}

static Ref dual_select(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)y;
    return build_select(&d->b, n->arg[0], dx[1], dx[2]);
}

static Ref dual_cast(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)n;
    return build_cast(&d->b, dx[0], build_type(&d->b, y).dt);
}

/* ---- the others */

/* Linear in every float argument together: the same op on their tangents. */
static Ref dual_linear(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)y;
    Ref *arg = arena_array(d->b.g->arena, Ref, n->nargs);
    for (uint32_t i = 0; i < n->nargs; i++)
        arg[i] = dx[i] ? dx[i] : n->arg[i]; /* an index */
    return again(d, *n, arg);
}

static Ref dual_pad(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)y;
    Node zeros = *n;
    zeros.attr.pad.value = 0;
    return again(d, zeros, dx);
}

static Ref dual_matmul(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    (void)y;
    return build_op2(&d->b, OP_add, again(d, *n, (Ref[]){ n->arg[0], dx[1] }),
                     again(d, *n, (Ref[]){ dx[0], n->arg[1] }));
}

/* Reduced axes last and as one: the result's element k looks up its first maximum in row k. */
static Ref dual_amax(Dual *d, const Node *n, Ref y, const Ref *dx)
{
    Builder *b = &d->b;
    const Type t = build_type(b, n->arg[0]);
    int perm[MAX_RANK], rank = 0;
    Shape rows = { 0 };
    int64_t size = 1;
    for (int i = 0; i < t.shape.rank; i++)
        if (!(n->attr.axes.mask >> i & 1))
            rows.dim[rank] = t.shape.dim[i], perm[rank++] = i;
    rows.rank = (int8_t)rank;
    for (int i = 0; i < t.shape.rank; i++)
        if (n->attr.axes.mask >> i & 1)
            size *= t.shape.dim[i], perm[rank++] = i;
    if (size == 0 || shape_count(&rows) == 0)
        return REF_NONE;
    const Shape flat = shape_of(2, shape_count(&rows), size);
    const Type index = { DT_I32, flat };
    const Ref x = build_reshape(b, build_transpose(b, n->arg[0], perm), flat);
    const Ref dflat = build_reshape(b, build_transpose(b, dx[0], perm), flat);
    const Ref most = build_broadcast(b, build_reshape(b, y, shape_of(1, flat.dim[0])), flat, 2);
    const Ref place = build_select(b, build_op2(b, OP_lt, x, most),
                                   build_const(b, (double)size, index), build_iota(b, index, 1));
    const Ref chosen = build_gather(b, dflat, build_reduce(b, OP_amin, place, 2), 1);
    return build_reshape(b, chosen, rows);
}

static DualFn *const dual_rule[OP_COUNT] = {
    [OP_add] = dual_add,          [OP_sub] = dual_sub,
    [OP_mul] = dual_mul,          [OP_div] = dual_div,
    [OP_max] = dual_max,          [OP_min] = dual_min,
    [OP_neg] = dual_neg,          [OP_abs] = dual_abs,
    [OP_floor] = dual_flat,       [OP_stop_gradient] = dual_flat,
    [OP_sqrt] = dual_sqrt,
    [OP_rsqrt] = dual_rsqrt,      [OP_exp] = dual_exp,
    [OP_expm1] = dual_expm1,      [OP_log] = dual_log,
    [OP_log1p] = dual_log1p,      [OP_tanh] = dual_tanh,
    [OP_sigmoid] = dual_sigmoid,  [OP_erf] = dual_erf,
    [OP_sin] = dual_sin,          [OP_cos] = dual_cos,
    [OP_select] = dual_select,    [OP_cast] = dual_cast,
    [OP_reshape] = dual_linear,   [OP_transpose] = dual_linear,
    [OP_broadcast] = dual_linear, [OP_slice] = dual_linear,
    [OP_pad] = dual_pad,          [OP_concat] = dual_linear,
    [OP_window] = dual_linear,    [OP_gather] = dual_linear,
    [OP_fold] = dual_linear,      [OP_scatter_add] = dual_linear,
    [OP_sum] = dual_linear,       [OP_cumsum] = dual_linear,
    [OP_amax] = dual_amax,        [OP_matmul] = dual_matmul,
};

/* ---- graphs */

static bool is_float(const Builder *b, Ref r)
{
    return dtype_is_float(build_type(b, r).dt);
}

static Ref or_zeros(Dual *d, Ref tangent, Ref value)
{
    return tangent ? tangent : build_const(&d->b, 0, build_type(&d->b, value));
}

static Dual start(Ctx *cx, const Graph *in, Graph *out)
{
    Arena *arena = out->arena;
    Dual d = { .b = build_start(cx, out), .in = in };
    d.live = arena_array(arena, bool, in->nnode);
    d.value = arena_array(arena, Ref, in->nnode);
    d.move = arena_array(arena, Ref, in->nnode);
    d.part = arena_array(arena, Ref *, in->nnode);
    for (uint32_t i = 0; i < in->nout; i++)
        d.live[in->out[i].value] = true;
    for (Ref r = in->nnode; r-- > 1;)
        for (uint32_t i = 0; d.live[r] && i < in->node[r].nargs; i++)
            d.live[in->node[r].arg[i]] = true;
    return d;
}

/* Inputs from..to, then the tangents of those that are floats. */
static uint32_t add_inputs(Dual *d, uint32_t from, uint32_t to)
{
    uint32_t floats = 0;
    for (uint32_t i = from; i < to; i++)
        d->value[d->in->input[i]] = again(d, d->in->node[d->in->input[i]], NULL);
    for (uint32_t i = from; i < to; i++) {
        const Node *n = &d->in->node[d->in->input[i]];
        if (!dtype_is_float(n->type.dt))
            continue;
        const char *name = arena_printf(d->b.g->arena, "d.%s", n->name);
        d->move[d->in->input[i]] = build_input(&d->b, INPUT_batch, name, n->type.dt, n->type.shape);
        floats++;
    }
    return floats;
}

/* Outputs from..to, then the tangents of those that are floats. */
static void add_outputs(Dual *d, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        build_output(&d->b, d->value[d->in->out[i].value], NULL);
    for (uint32_t i = from; i < to; i++) {
        const Ref r = d->in->out[i].value;
        if (is_float(&d->b, d->value[r]))
            build_output(&d->b, or_zeros(d, d->move[r], d->value[r]), NULL);
    }
}

static void walk(Dual *d);

/* One group of a scan's arguments, and their tangents. */
static uint32_t add_args(Dual *d, const Node *n, uint32_t from, uint32_t to, Ref *arg)
{
    uint32_t k = 0;
    for (uint32_t i = from; i < to; i++)
        arg[k++] = d->value[n->arg[i]];
    for (uint32_t i = from; i < to; i++)
        if (is_float(&d->b, d->value[n->arg[i]]))
            arg[k++] = or_zeros(d, d->move[n->arg[i]], d->value[n->arg[i]]);
    return k;
}

/* Where result i of a scan over body went, and where its tangent: results from..to stand before
 * their tangents, from `at` on. */
static uint32_t map_results(const Graph *body, uint32_t from, uint32_t to, uint32_t at,
                            uint32_t *value, uint32_t *move)
{
    for (uint32_t i = from; i < to; i++)
        value[i] = at++;
    for (uint32_t i = from; i < to; i++)
        move[i] = dtype_is_float(body->node[body->out[i].value].type.dt) ? at++ : UINT32_MAX;
    return at;
}

static void add_scan(Dual *d, Ref r)
{
    const Node *n = &d->in->node[r];
    const Graph *body = n->attr.scan.body;
    const uint32_t ncarry = n->attr.scan.ncarry, nstep = n->attr.scan.nstep;
    Arena *arena = d->b.g->arena;
    Dual in = start(d->b.cx, body, graph_new(arena));
    Node dual = *n;
    dual.attr.scan.body = in.b.g;
    dual.attr.scan.ncarry += add_inputs(&in, 0, ncarry);
    dual.attr.scan.nstep += add_inputs(&in, ncarry, ncarry + nstep);
    add_inputs(&in, ncarry + nstep, n->nargs);
    walk(&in);
    add_outputs(&in, 0, ncarry);
    add_outputs(&in, ncarry, body->nout);
    if (in.b.status != ST_OK)
        d->b.status = in.b.status;

    Ref *arg = arena_array(arena, Ref, 2 * n->nargs + 1);
    dual.nargs = add_args(d, n, 0, ncarry, arg);
    dual.nargs += add_args(d, n, ncarry, ncarry + nstep, arg + dual.nargs);
    dual.nargs += add_args(d, n, ncarry + nstep, n->nargs, arg + dual.nargs);
    const Ref scan = again(d, dual, arg);

    uint32_t *value = arena_array(arena, uint32_t, 2 * body->nout + 1);
    uint32_t *move = value + body->nout;
    const uint32_t at = map_results(body, 0, ncarry, 0, value, move);
    map_results(body, ncarry, body->nout, at, value, move);
    d->part[r] = arena_array(arena, Ref, 2 * body->nout + 1);
    for (uint32_t i = 0; i < body->nout; i++) {
        d->part[r][2 * i] = build_get(&d->b, scan, (int)value[i]);
        if (move[i] != UINT32_MAX)
            d->part[r][2 * i + 1] = build_get(&d->b, scan, (int)move[i]);
    }
}

static void add_node(Dual *d, Ref r)
{
    Arena *arena = d->b.g->arena;
    Node n = d->in->node[r];
    Ref *arg = arena_array(arena, Ref, n.nargs + 1), *dx = arena_array(arena, Ref, n.nargs + 1);
    bool moves = false;
    for (uint32_t i = 0; i < n.nargs; i++) {
        arg[i] = d->value[n.arg[i]];
        dx[i] = d->move[n.arg[i]];
        moves |= dx[i] != REF_NONE;
    }
    d->value[r] = again(d, n, arg);
    const DType dt = d->b.status == ST_OK ? build_type(&d->b, d->value[r]).dt : DT_BOOL;
    if (!moves || (dt != DT_NONE && !dtype_is_float(dt)))
        return;
    if (dual_rule[n.op] == NULL) {
        d->b.status =
            FAIL(d->b.cx, VALUE, "dual: %s has no rule for its tangent", op_info[n.op].name);
        return;
    }
    for (uint32_t i = 0; i < n.nargs; i++)
        if (is_float(&d->b, arg[i]))
            dx[i] = or_zeros(d, dx[i], arg[i]);
    n.arg = arg;
    d->move[r] = dual_rule[n.op](d, &n, d->value[r], dx);
}

static void walk(Dual *d)
{
    for (Ref r = 1; r < d->in->nnode && d->b.status == ST_OK; r++) {
        const Node *n = &d->in->node[r];
        if (!d->live[r] || n->op == OP_input)
            continue;
        if (n->op == OP_scan) {
            add_scan(d, r);
        } else if (n->op == OP_get && d->part[n->arg[0]]) {
            d->value[r] = d->part[n->arg[0]][2 * n->attr.get.index];
            d->move[r] = d->part[n->arg[0]][2 * n->attr.get.index + 1];
        } else {
            add_node(d, r);
        }
    }
}

Status dual_expand(Ctx *cx, const Graph *in, Graph *out)
{
    Dual d = start(cx, in, out);
    add_inputs(&d, 0, in->ninput);
    walk(&d);
    for (uint32_t i = 0; i < in->nout; i++)
        build_output(&d.b, d.value[in->out[i].value], NULL);
    for (uint32_t i = 0; i < in->nout; i++) {
        const Ref r = in->out[i].value;
        build_output(&d.b, or_zeros(&d, d.move[r], d.value[r]), NULL);
    }
    return d.b.status;
}
