/* SPDX-License-Identifier: Apache-2.0 */
/* Grows a graph from its results back to its inputs.
 *
 * grow_value is the whole idea: it is asked for a type and may spend so many nodes.  Three times in
 * ten it takes a value that is there (so trees become graphs); without nodes left it makes a leaf;
 * else it draws ops, weighted by class, until one has a rule that can give the type.  As shapes are
 * made up against the direction of the data, every op sees the extents at which code breaks.
 *
 * Values stay moderate in nine graphs of ten: what is compared with rounding errors in mind says
 * little about a program whose numbers are all infinite. */
#include "tests/grow.h"

#include <stdio.h>
#include <string.h>

#include "ir/autodiff.h"
#include "ir/base/size.h"

int grow_below(Grow *w, int n)
{
    return (int)rng_below(w->rng, (uint64_t)n);
}

bool grow_chance(Grow *w, int percent)
{
    return grow_below(w, 100) < percent;
}

/* ------------------------------------------------------------ types */

int64_t grow_extent(Grow *w, int64_t most)
{
    static const int64_t edge[] = { 1,  2,  3,  5,  7,  11, 13,  17,  31,  32, 33,
                                    37, 61, 63, 64, 65, 97, 127, 128, 129, 800 };
    if (w->zeros && grow_chance(w, 12))
        return 0;
    if (most < 2)
        return 1;
    if (grow_chance(w, 40))
        return 2 + grow_below(w, most < 12 ? (int)most - 1 : 11);
    int n = 0;
    while (n < (int)(sizeof edge / sizeof *edge) && edge[n] <= most)
        n++;
    return edge[grow_below(w, n)];
}

Shape grow_shape(Grow *w, int min_rank, int max_rank)
{
    Shape s = { .rank = (int8_t)(min_rank + grow_below(w, max_rank - min_rank + 1)) };
    int64_t room = w->max_count;
    const int turn = s.rank ? grow_below(w, s.rank) : 0; /* who chooses first */
    for (int k = 0; k < s.rank; k++) {
        const int i = (k + turn) % s.rank;
        s.dim[i] = grow_extent(w, k == s.rank - 1 ? room : room / 3 + 1);
        room /= s.dim[i] ? s.dim[i] : 1;
    }
    return s;
}

DType grow_dtype(Grow *w)
{
    return grow_chance(w, 20) ? DT_BOOL : grow_number(w);
}

DType grow_number(Grow *w)
{
    static const DType all[] = { DT_I32, DT_I32, DT_I64, DT_U8 };
    return grow_chance(w, 70) ? grow_float(w) : w->dtypes ? all[grow_below(w, 4)] : DT_I32;
}

DType grow_float(Grow *w)
{
    return w->dtypes && grow_chance(w, 40) ? (grow_chance(w, 50) ? DT_F16 : DT_BF16) : DT_F32;
}

bool grow_fits(const Grow *w, const Shape *s)
{
    int64_t n = 1;
    if (s->rank > MAX_RANK)
        return false;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] && (!size_mul_ok(n, s->dim[i], &n) || n > w->max_count))
            return false;
    return true;
}

int grow_share(Grow *w, int *n, int left)
{
    const int mine = left < 2 ? *n : grow_below(w, *n + 1);
    *n -= mine;
    return mine;
}

/* ------------------------------------------------------------ values */

Ref grow_node(Grow *w, Node n, const Ref *arg, uint32_t nargs)
{
    Ref r = REF_NONE;
    n.arg = arg;
    n.nargs = nargs;
    n.region = w->b.region;
    if (w->b.status == ST_OK)
        w->b.status = graph_add(w->b.cx, w->b.g, &n, &r);
    return r;
}

Ref grow_input(Grow *w, InputKind kind, Type t)
{
    char name[32];
    snprintf(name, sizeof name, "in.%u", w->b.g->ninput);
    return build_input(&w->b, kind, name, t.dt, t.shape);
}

Ref grow_tame(Grow *w, Ref x)
{
    if (w->wild || !dtype_is_float(build_type(&w->b, x).dt) || grow_chance(w, 20))
        return x;
    const int how = grow_below(w, 4);
    if (how == 0)
        return build_scale(&w->b, x, 0x1p-4);
    return build_op1(&w->b, how == 1 ? OP_sigmoid : OP_tanh, x);
}

static Ref find_value(Grow *w, const Type *t)
{
    const uint32_t n = w->b.g->nnode, start = n > 1 ? (uint32_t)grow_below(w, (int)n) : 0;
    for (uint32_t i = 0; i < n; i++) {
        const Ref r = (start + i) % n;
        if (r != REF_NONE && type_eq(&w->b.g->node[r].type, t))
            return r;
    }
    return REF_NONE;
}

static Ref constant_leaf(Grow *w, Type t)
{
    static const Op source[] = { OP_const, OP_iota, OP_rand };
    const Op op = source[grow_chance(w, 60) ? 0 : 1 + grow_below(w, 2)];
    const Ref r = op == OP_rand && t.dt != DT_F32 ? REF_NONE : grow_rule(op)(w, op, t, 0);
    return r != REF_NONE ? r : grow_rule(OP_const)(w, OP_const, t, 0);
}

/* The body of a scan: what it has, a new invariant, or a constant. */
static Ref body_leaf(Grow *w, Type t)
{
    const Ref r = find_value(w, &t);
    if (r != REF_NONE && grow_chance(w, 85))
        return r;
    if (w->b.g->ninput < w->max_invariant && grow_chance(w, 75))
        return grow_input(w, INPUT_batch, t);
    return constant_leaf(w, t);
}

Ref grow_leaf(Grow *w, Type t)
{
    if (w->outer)
        return body_leaf(w, t);
    const Ref r = grow_chance(w, 30) ? find_value(w, &t) : REF_NONE;
    if (r != REF_NONE)
        return r;
    if (grow_chance(w, 15))
        return constant_leaf(w, t);
    if (w->train && t.dt == DT_F32 && grow_chance(w, 30))
        return grow_input(w, INPUT_param, t);
    static const InputKind kind[] = { INPUT_batch, INPUT_batch, INPUT_batch,
                                      INPUT_param, INPUT_state, INPUT_const };
    return grow_input(w, kind[grow_below(w, 6)], t);
}

/* Ops by weight: the table is mostly elementwise, programs are not. */
static Op draw_op(Grow *w)
{
    static const uint8_t weight[] = {
        [CLASS_SOURCE] = 0,   [CLASS_ELEMENTWISE] = 2, [CLASS_VIEW] = 3,  [CLASS_REDUCE] = 4,
        [CLASS_CONTRACT] = 16, [CLASS_REGION] = 6,      [CLASS_TUPLE] = 0, [CLASS_GRADIENT] = 0
    };
    int total = 0;
    for (Op op = 1; op < OP_COUNT; op++)
        total += weight[op_info[op].cls];
    int at = grow_below(w, total);
    Op op = OP_none;
    while (at >= 0)
        at -= weight[op_info[++op].cls];
    return op;
}

void grow_region(Grow *w)
{
    static const char *const kind[] = { "dense", "conv1d", "my-cell.2" };
    if (grow_chance(w, 30))
        w->b.region = 0;
    else if (grow_chance(w, 40))
        w->b.region = graph_region(w->b.g, kind[grow_below(w, 3)], grow_below(w, 4) - 1, false);
}

static Ref grow_op_value(Grow *w, Type t, int n)
{
    for (int tries = 0; tries < 24; tries++) {
        Op op = draw_op(w);
        while (t.dt == DT_BOOL && tries < 2 && !(op_info[op].flags & OPF_BOOLEAN))
            op = draw_op(w); /* else nearly all are views of inputs */
        GrowRule *rule = grow_rule(op);
        const Ref r = rule ? rule(w, op, t, n - 1) : REF_NONE;
        if (r != REF_NONE || w->b.status != ST_OK)
            return r;
    }
    return grow_leaf(w, t);
}

Ref grow_value(Grow *w, Type t, int n)
{
    const uint32_t before = w->b.region;
    Ref r = REF_NONE;
    if (w->b.status != ST_OK)
        return REF_NONE;
    if (n <= 0)
        return grow_leaf(w, t);
    if (grow_chance(w, 30))
        r = find_value(w, &t);
    if (r != REF_NONE)
        return r;
    grow_region(w);
    if (t.dt == DT_F32 && grow_chance(w, 22))
        r = grow_composite(w, t, n - 1);
    if (r == REF_NONE && grow_chance(w, 15))
        r = grow_pattern(w, t, n - 1);
    if (r == REF_NONE)
        r = grow_op_value(w, t, n);
    w->b.region = before;
    if (r != REF_NONE && grow_chance(w, 10) && r == w->b.g->nnode - 1 && !w->b.g->node[r].name) {
        char name[32];
        snprintf(name, sizeof name, "v-%u.y_", r);
        build_name(&w->b, r, name);
    }
    return r;
}

/* ------------------------------------------------------------ graphs */

static bool may_leave(const Grow *w, Ref r)
{
    const Node *n = &w->b.g->node[r];
    return n->op != OP_input || n->attr.input.kind == INPUT_batch;
}

static void grow_results(Grow *w, int n)
{
    for (int left = 1 + grow_below(w, 3); left > 0; left--) {
        char name[32];
        const Type t = { grow_dtype(w), grow_shape(w, 0, 4) };
        const Ref r = grow_value(w, t, grow_share(w, &n, left));
        snprintf(name, sizeof name, "out.%d", left);
        if (may_leave(w, r))
            build_output(&w->b, r, grow_chance(w, 50) ? name : NULL);
    }
}

/* Some states, and params that no optimizer steps, get a next value. */
static void grow_next_values(Grow *w, uint32_t ninput)
{
    for (uint32_t i = 0; i < ninput && w->b.status == ST_OK; i++) {
        const Ref in = w->b.g->input[i];
        const Node *n = &w->b.g->node[in];
        const InputKind kind = n->attr.input.kind;
        bool taken = kind == INPUT_batch || kind == INPUT_const || strncmp(n->name, "in.", 3) != 0;
        for (uint32_t o = 0; o < w->b.g->nout; o++)
            taken |= w->b.g->out[o].replaces == in;
        if (taken || grow_chance(w, 50))
            continue;
        const Type t = n->type;
        Ref r = t.shape.rank && grow_chance(w, 25) /* its own elements, from the other end */
                    ? build_reverse(&w->b, in, grow_below(w, t.shape.rank))
                    : grow_tame(w, grow_value(w, t, 2));
        if (r != REF_NONE && grow_chance(w, 25) && dtype_is_float(t.dt) && t.shape.rank)
            r = build_op2(&w->b, OP_max, in, build_reverse(&w->b, in, 0)); /* read twice */
        if (r != REF_NONE && w->b.g->node[r].op == OP_input)
            r = build_op1(&w->b, t.dt == DT_BOOL ? OP_not : OP_neg, r);
        build_replace(&w->b, in, r);
    }
}

Graph *graph_grow(Ctx *cx, Arena *arena, uint64_t seed, const GrowOptions *opt)
{
    Rng rng;
    rng_init(&rng, seed, 7);
    Grow w = { .b = build_start(cx, graph_new(arena)), .rng = &rng };
    static const int64_t sizes[] = { 300, 700, 2000, 2000, 4500, 18000, 18000 };
    const int64_t size = sizes[grow_below(&w, 7)];
    const int nodes = 2 + grow_below(&w, 6) + grow_below(&w, 6);
    w.max_count = opt->max_count ? opt->max_count : size;
    w.max_work = 12 * w.max_count;
    w.zeros = grow_chance(&w, 12);
    w.dtypes = grow_chance(&w, 20);
    w.wild = grow_chance(&w, 10);
    w.train = grow_chance(&w, 50);
    if (w.train)
        grow_training(&w, opt->nodes ? opt->nodes : nodes);
    else
        grow_results(&w, opt->nodes ? opt->nodes : nodes);
    grow_next_values(&w, w.b.g->ninput);
    if (w.b.g->nout == 0)
        build_output(&w.b, build_scalar(&w.b, DT_F32, 1), NULL);
    gtc_assert(w.b.status == ST_OK, "grown graph %llu: %s", (unsigned long long)seed, cx->msg);
    if (opt->model)
        *opt->model = w.model;
    return w.b.g;
}

static void count_nodes(const Graph *g, int count[OP_COUNT])
{
    for (Ref r = 1; r < g->nnode; r++) {
        count[g->node[r].op]++;
        if (g->node[r].op == OP_scan)
            count_nodes(g->node[r].attr.scan.body, count);
        if (g->node[r].op == OP_fusion)
            count_nodes(g->node[r].attr.fusion.body, count);
    }
}

void graph_grow_count(const Graph *g, int count[OP_COUNT])
{
    Ctx cx;
    Arena *arena = arena_new();
    Graph *expanded = graph_new(arena);
    ctx_init(&cx);
    memset(count, 0, OP_COUNT * sizeof *count);
    count_nodes(g, count);
    const int grads = count[OP_grad];
    if (autodiff_expand(&cx, g, expanded) == ST_OK) {
        memset(count, 0, OP_COUNT * sizeof *count);
        count_nodes(expanded, count);
        count[OP_grad] += grads;
    }
    arena_free(arena);
}
