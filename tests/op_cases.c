/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of ops, in families of ops that take their arguments alike; the ops of a family that fit
 * one another share a kernel, as its outputs.
 *
 * Every dtype meets every extent, and every extent every position, mostly in turn (Family).  Inputs
 * are small multiples of 1/8, so that every sum and product is exact in f32 and a result has one
 * right value in every dtype: only functions that are approximated (precision F32 in ops.def) may
 * be off, by the few units that their own test allows.  Elementwise ops get infinities, NaN and the
 * ends of the ranges too. */
#include "tests/op_cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ir/base/rng.h"
#include "ir/build.h"

enum { BUNDLE = 6, MOST_CASES = 4000 };

static const int64_t EXTENT[] = {
    0, 1, 2, 3, 7, 13, 31, 32, 33, 63, 64, 65, 67, 127, 128, 129, 131
};
static const DType DTYPE[] = { DT_F32, DT_F16, DT_BF16, DT_I32, DT_I64, DT_U8, DT_BOOL };
enum { NEXTENT = sizeof EXTENT / sizeof *EXTENT, NDTYPE = sizeof DTYPE / sizeof *DTYPE };
enum { POSITIONS = 4, RANK_ONE = 3 };

/* What a maker is asked for: one kernel, its extent at one of three axes or alone. */
typedef struct Make {
    Builder b;
    DType dt;
    int64_t extent;
    int position, variant;
    double ulps[BUNDLE];
} Make;

/* ---- makers */

static Shape shape(const Make *m)
{
    if (m->position == RANK_ONE)
        return shape_of(1, m->extent);
    Shape s = shape_of(3, (int64_t)3, (int64_t)5, (int64_t)2);
    s.dim[m->position] = m->extent;
    return s;
}

static int axis(const Make *m)
{
    return m->position == RANK_ONE ? 0 : m->position;
}

static Ref input(Make *m, const char *name, DType dt, Shape s)
{
    return build_input(&m->b, INPUT_batch, name, dt, s);
}

/* REF_NONE when the op does not take that dtype; any other refusal is a fault of this test. */
static Ref add(Make *m, Node n, const Ref *arg, uint32_t nargs)
{
    Ref r = REF_NONE;
    n.arg = arg;
    n.nargs = nargs;
    if (m->b.status != ST_OK)
        return REF_NONE;
    const Status st = graph_add(m->b.cx, m->b.g, &n, &r);
    if (st != ST_OK && st != ST_TYPE)
        fail_msg("%s", m->b.cx->msg);
    if (st != ST_OK)
        ctx_init(m->b.cx);
    return st == ST_OK ? r : REF_NONE;
}

static void give(Make *m, Ref r, double ulps)
{
    if (r == REF_NONE)
        return;
    m->ulps[m->b.g->nout] = ulps;
    build_output(&m->b, r, NULL);
}

static double ulps_of(Op op, DType dt)
{
    return op_info[op].prec != PREC_F32 || op == OP_sqrt ? 0 : dt == DT_F32 ? 3.1 : 1;
}

/* Bundle number `variant` of the elementwise ops that take this dtype. */
static void make_elementwise(Make *m)
{
    const Shape s = shape(m);
    Ref x[3] = { REF_NONE };
    int skip = m->variant * BUNDLE;
    x[0] = input(m, "x", m->dt, s);
    x[1] = input(m, "y", m->dt, s);
    x[2] = input(m, "cond", DT_BOOL, s);
    for (Op op = 1; op < OP_COUNT && m->b.g->nout < BUNDLE; op++) {
        if (op_info[op].cls != CLASS_ELEMENTWISE || op == OP_cast)
            continue;
        const Ref choose[] = { x[2], x[0], x[1] };
        const Ref r =
            add(m, (Node){ .op = op }, op == OP_select ? choose : x, (uint32_t)op_info[op].nargs);
        if (r != REF_NONE && skip-- <= 0)
            give(m, r, ulps_of(op, m->dt));
    }
}

/* A float that the integer cannot hold has no promised value; NaN has. */
static void make_cast(Make *m)
{
    const Ref x = input(m, dtype_is_float(m->dt) ? "to.cast" : "x", m->dt, shape(m));
    for (int i = 4 * m->variant; i < NDTYPE && i < 4 * m->variant + 4; i++)
        give(m, build_cast(&m->b, x, DTYPE[i]), 0);
}

static void make_views(Make *m)
{
    if (m->variant > 0)
        return;
    Builder *b = &m->b;
    const Shape s = shape(m);
    const int a = axis(m);
    const Ref x = input(m, "x", m->dt, s);
    const int turn[] = { s.rank - 1, 0, 1 };
    Shape wide = { .rank = (int8_t)(s.rank + 1) };
    for (int i = 0; i < wide.rank; i++)
        wide.dim[i] = i < a ? s.dim[i] : i == a ? 4 : s.dim[i - 1];
    Node back = { .op = OP_slice, .type = { m->dt, s } };
    for (int i = 0; i < s.rank; i++)
        back.attr.slice.step[i] = 1;
    back.attr.slice.lo[a] = s.dim[a] ? s.dim[a] - 1 : 0;
    back.attr.slice.step[a] = s.dim[a] ? -2 : 1;
    back.type.shape.dim[a] = (s.dim[a] + 1) / 2;
    Node pad = { .op = OP_pad, .attr.pad = { .value = 1 } };
    for (int i = 0; i < s.rank; i++)
        pad.attr.pad.step[i] = 1;
    pad.attr.pad.lo[a] = 2, pad.attr.pad.hi[a] = 1, pad.attr.pad.step[a] = 2;
    give(m, build_reshape(b, x, shape_of(2, (int64_t)1, shape_count(&s))), 0);
    give(m, build_transpose(b, x, turn), 0);
    give(m, build_broadcast(b, x, wide, 1u << a), 0);
    give(m, add(m, back, &x, 1), 0);
    give(m, add(m, pad, &x, 1), 0);
    give(m, build_concat(b, (Ref[]){ x, build_reverse(b, x, a), x }, 3, a), 0);
}

/* Windows of 2, 3 apart, every 2. */
static Node window_node(Op op, int a, int64_t extent)
{
    Node n = { .op = op };
    n.attr.window.n = 1;
    n.attr.window.axis[0] = (uint8_t)a;
    n.attr.window.kernel[0] = 2;
    n.attr.window.stride[0] = 2;
    n.attr.window.dilation[0] = 3;
    n.attr.window.extent[0] = extent;
    return n;
}

/* The axes of s as far as `a`, which has n elements. */
static Shape index_shape(Shape s, int a, int64_t n)
{
    Shape at = { .rank = (int8_t)(a + 1) };
    for (int i = 0; i <= a; i++)
        at.dim[i] = i < a ? s.dim[i] : n;
    return at;
}

/* Windows of x, and rows of it by indices of which some are outside. */
static void make_windows(Make *m)
{
    if (m->variant > 0)
        return;
    const Shape s = shape(m);
    const int a = axis(m);
    const Node gather = { .op = OP_gather, .attr.axis.axis = (int8_t)a };
    const Ref x = input(m, "x", m->dt, s);
    const Ref index = input(m, "index", DT_I32, index_shape(s, a, 9));
    if (s.dim[a] >= 4)
        give(m, add(m, window_node(OP_window, a, s.dim[a]), &x, 1), 0);
    if (s.dim[a] > 0)
        give(m, add(m, gather, (Ref[]){ x, index }, 2), 0);
}

/* As many rows as the extent says, into 7; as many windows, into an axis. */
static void make_adjoints(Make *m)
{
    if (m->variant > 0)
        return;
    const Shape s = shape(m);
    const int a = axis(m);
    const Node scatter = { .op = OP_scatter_add, .attr.scatter = { (int8_t)a, 7 } };
    const Ref x = input(m, "x", m->dt, s);
    const Ref index = input(m, "index", DT_I32, index_shape(s, a, s.dim[a]));
    Shape windows = { .rank = (int8_t)(s.rank + 1) };
    for (int i = 0; i < windows.rank; i++)
        windows.dim[i] = i <= a ? s.dim[i] : i == a + 1 ? 2 : s.dim[i - 1];
    const Ref w = input(m, "windows", m->dt, windows);
    give(m, add(m, scatter, (Ref[]){ x, index }, 2), 0);
    if (s.dim[a] > 0) /* windows that none fits are refused */
        give(m, add(m, window_node(OP_fold, a, 2 * s.dim[a] + 3), &w, 1), 0);
}

static void make_reduce(Make *m)
{
    if (m->variant > 1)
        return;
    const Ref x = input(m, m->variant == 0 ? "low" : "high", m->dt, shape(m));
    const int rank = shape(m).rank;
    /* the axis at hand, or all the others */
    const unsigned mask = m->variant == 0 ? 1u << axis(m) : ((1u << rank) - 1) & ~(1u << axis(m));
    const Attr axes = { .axes = { (uint8_t)mask } };
    for (Op op = 1; op < OP_COUNT; op++)
        if (op_info[op].cls == CLASS_REDUCE && op_info[op].attr == ATTR_axes)
            give(m, add(m, (Node){ .op = op, .attr = axes }, &x, 1), 0);
    if (m->variant == 0)
        give(m, add(m, (Node){ .op = OP_cumsum, .attr.axis.axis = (int8_t)axis(m) }, &x, 1), 0);
}

/* (rows, inner) by (inner, columns), the extent in each place; then with a batch axis before. */
static void make_matmul(Make *m)
{
    if (m->variant > 1 || m->position == RANK_ONE)
        return;
    int64_t d[3] = { 5, 7, 17 };
    d[m->position] = m->extent;
    Node n = { .op = OP_matmul };
    const bool batch = m->variant == 1;
    n.attr.contract.nover = 1;
    n.attr.contract.over_a[0] = 1 + batch;
    n.attr.contract.over_b[0] = batch;
    n.attr.contract.nbatch = batch;
    const Shape a = batch ? shape_of(3, (int64_t)3, d[0], d[1]) : shape_of(2, d[0], d[1]);
    const Shape b = batch ? shape_of(3, (int64_t)3, d[1], d[2]) : shape_of(2, d[1], d[2]);
    give(m, add(m, n, (Ref[]){ input(m, "x", m->dt, a), input(m, "y", m->dt, b) }, 2), 0);
}

static void make_source(Make *m)
{
    if (m->variant > 0)
        return;
    const Type t = { m->dt, shape(m) };
    give(m, add(m, (Node){ .op = OP_const, .type = t, .attr.fill.value = 1 }, NULL, 0), 0);
    give(m, add(m, (Node){ .op = OP_iota, .type = t, .attr.axis.axis = (int8_t)axis(m) }, NULL, 0),
         0);
    if (m->dt != DT_I32 && m->dt != DT_I64)
        return;
    Ref arg[5];
    static const char *const name[] = { "key.seed", "key.stream", "key.step", "key.iter",
                                        "key.row0" };
    for (int i = 0; i < 5; i++)
        arg[i] = input(m, name[i], m->dt, (Shape){ 0 });
    give(m, add(m, (Node){ .op = OP_rand, .type = { DT_F32, t.shape } }, arg, 5), 0);
}

/* h' = h + x over time, and h of every step: of as many steps as the extent, or as wide. */
static void make_scan(Make *m)
{
    if (m->variant > 1 || m->position > 1 || m->dt == DT_BOOL)
        return;
    const int64_t trip = m->position == 0 ? m->extent : 3;
    const Shape row = shape_of(1, m->position == 0 ? (int64_t)5 : m->extent);
    Builder in = build_start(m->b.cx, graph_new(m->b.g->arena));
    const Ref h = build_input(&in, INPUT_batch, "h", m->dt, row);
    const Ref x = build_input(&in, INPUT_batch, "xt", m->dt, row);
    const Ref next = build_op2(&in, OP_add, h, x);
    build_output(&in, next, NULL);
    build_output(&in, build_op2(&in, OP_max, next, x), NULL);
    const Ref arg[] = { input(m, "small.h", m->dt, row),
                        input(m, "small.x", m->dt, shape_of(2, trip, row.dim[0])) };
    const Ref scan = build_scan(&m->b, in.g, arg, 2, 1, 1, trip, m->variant);
    if (in.status != ST_OK)
        m->b.status = in.status;
    give(m, build_get(&m->b, scan, 0), 0);
    give(m, build_get(&m->b, scan, 1), 0);
}

typedef struct Family {
    const char *name;
    void (*make)(Make *m); /* gives nothing when there is no such variant */
    enum {
        ALONE, /* axes run together: the extent by itself, and now and then beside others */
        TURNS, /* each dtype has each extent in one position, which goes on with the dtype */
        EACH   /* and f32 in each */
    } positions;
} Family;

static const Family FAMILY[] = {
    { "elementwise", make_elementwise, ALONE },
    { "cast", make_cast, ALONE },
    { "views", make_views, EACH },
    { "windows", make_windows, EACH },
    { "adjoints", make_adjoints, TURNS },
    { "reduce", make_reduce, TURNS },
    { "matmul", make_matmul, EACH },
    { "source", make_source, EACH },
    { "scan", make_scan, EACH },
};

/* ---- values */

static double special(DType dt, uint64_t pick)
{
    const double large = dt == DT_F16 ? 6e4 : 1e30, small = dt == DT_F16 ? 7e-5 : 1e-30;
    const double real[] = { INFINITY, -INFINITY, NAN, 0, -0.0, large, -large, small, -small, 1 };
    /* an integer times 9 is still exact in a double */
    const double whole = dt == DT_I32 ? 0x7fffffff : dt == DT_I64 ? 0x1p49 + 1 : 255;
    const double integer[] = { whole, dt == DT_U8 ? 128 : -whole - (dt == DT_I32), 0, 1 };
    return dtype_is_float(dt) ? round_to(dt, real[pick % 10]) : integer[pick % 4];
}

static void fill(Tensor *t, const char *name, bool ends, Rng *rng)
{
    const DType dt = t->type.dt;
    for (int64_t i = 0, n = shape_count(&t->type.shape); i < n; i++) {
        const int64_t k = (int64_t)rng_below(rng, 65) - 32;
        if (dt == DT_BOOL)
            t->at[i] = k > 0;
        else if (strcmp(name, "to.cast") == 0)
            t->at[i] = k == 5 ? NAN : fabs((double)k / 8);
        else if (strncmp(name, "key.", 4) == 0) /* of rand: whole and positive */
            t->at[i] = (double)(k & 31);
        else if (strncmp(name, "small.", 6) == 0) /* a scan's: exact after many steps */
            t->at[i] = (double)(dt == DT_U8 ? k & 1 : k % 2);
        else if (dt == DT_I64 &&
                 (name[0] == 'l' || name[0] == 'h')) /* beyond any i32, for extremes */
            t->at[i] = (double)k + (name[0] == 'l' ? -0x1p40 : 0x1p40);
        else if (strcmp(name, "index") == 0)
            t->at[i] = (double)k;
        else if (ends && rng_below(rng, 4) == 0)
            t->at[i] = name[0] == 'x' ? special(dt, rng_below(rng, 40)) : (double)(k & 7);
        else
            t->at[i] = dtype_is_float(dt) ? (double)k / 8 : (double)(dt == DT_U8 ? k & 7 : k % 10);
    }
}

/* ---- the suite */

static void note(OpCases *s, const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        const DType dt = n->nargs ? g->node[n->arg[n->op == OP_select]].type.dt : n->type.dt;
        s->seen[n->op][dt != DT_NONE ? dt : n->type.dt] = true; /* of a get, its own */
        if (n->op == OP_scan)
            note(s, n->attr.scan.body);
    }
}

static bool add_case(OpCases *s, const Family *f, Make *m)
{
    m->b = build_start(&s->cx, graph_new(s->arena));
    f->make(m);
    if (m->b.status != ST_OK)
        fail_msg("%s: %s", f->name, s->cx.msg);
    Graph *g = m->b.g;
    if (g->nout == 0)
        return false;
    Tensor *in = arena_array(s->arena, Tensor, g->ninput + 1);
    double *ulps = arena_array(s->arena, double, BUNDLE);
    Rng rng;
    rng_init(&rng, (uint64_t)s->n, 5);
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Node *n = &g->node[g->input[i]];
        in[i] = tensor_new(s->arena, n->type);
        fill(&in[i], n->name, f->positions == ALONE, &rng);
    }
    memcpy(ulps, m->ulps, sizeof m->ulps);
    gtc_assert(s->n < MOST_CASES, "more than %d cases", MOST_CASES);
    s->c[s->n++] = (KernelCase){
        .name = arena_printf(s->arena, "%s %d of %s, extent %d at %d", f->name, m->variant,
                             dtype_name(m->dt), (int)m->extent, m->position),
        .body = g,
        .in = in,
        .ulps = ulps,
        .threads = 1 + s->n % 2,
    };
    note(s, g);
    return true;
}

static void add_family(OpCases *s, const Family *f)
{
    for (int d = 0; d < NDTYPE; d++)
        for (int e = 0; e < NEXTENT; e++)
            for (int p = 0; p < POSITIONS; p++) {
                Make m = { .dt = DTYPE[d], .extent = EXTENT[e], .position = p };
                const bool every = f->positions == EACH && DTYPE[d] == DT_F32;
                if (f->positions == ALONE ? p != RANK_ONE && p != (d + e) % 9
                                          : !every && p != (d + e) % POSITIONS)
                    continue;
                while (add_case(s, f, &m))
                    m.variant++;
            }
}

OpCases *op_cases_new(void)
{
    Arena *arena = arena_new();
    OpCases *s = arena_array(arena, OpCases, 1);
    s->arena = arena;
    s->c = arena_array(arena, KernelCase, MOST_CASES);
    ctx_init(&s->cx);
    for (size_t i = 0; i < sizeof FAMILY / sizeof *FAMILY; i++)
        add_family(s, &FAMILY[i]);
    return s;
}

void op_cases_free(OpCases *s)
{
    arena_free(s->arena);
}
