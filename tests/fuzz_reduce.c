/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_reduce: a smaller case that fails in the same manner.
 *
 * An edit is one thing that may be done to a graph: keep one output, make far nodes inputs, make
 * one node an input or a constant or one of its arguments, turn one extent into another, make
 * dtypes common.  Applying it builds a new graph of what is still needed; an edit that does not fit
 * (its shapes no longer agree) is none.  What still fails is kept.  Coarse edits come first,
 * because a try costs about a second; then all are tried again until none helps.
 *
 * Inputs have values by name, so that those that stay have the values they had. */
#include "tests/fuzz_reduce.h"

#include <stdio.h>
#include <string.h>

#include "passes/pass.h"
#include "tests/fuzz_child.h"

typedef enum Cut { CUT_NONE, CUT_INPUT, CUT_CONST, CUT_ARG } Cut;

typedef struct Edit {
    int output; /* the only one that is kept; -1: all */
    int depth;  /* nodes farther from an output become inputs; 0: none */
    Cut cut;    /* what becomes of node `at`, in the body of `scan` unless that is none */
    Ref at, scan;
    uint32_t arg;       /* of CUT_ARG */
    int64_t from, to;   /* extents; from -1: none */
    bool common_dtypes; /* f32 and i32 */
} Edit;

static const Edit no_edit = { .output = -1, .from = -1 };

typedef struct Reduce {
    Arena *arena;
    FuzzCase *c;
    int kind; /* of failure */
    int seconds, tries;
    double deadline;
} Reduce;

enum { MAX_TRIES = 700, MAX_SECONDS = 900 };

/* ------------------------------------------------------------ applying an edit */

typedef struct Apply {
    Ctx *cx;
    const Edit *e;
    const Graph *in;
    Graph *out;
    Ref scan; /* in is the body of this node; REF_NONE: it is the graph itself */
    Ref *map;
    int *depth; /* from an output, 0: not needed */
} Apply;

static Type edit_type(const Edit *e, Type t)
{
    for (int i = 0; i < t.shape.rank; i++)
        if (t.shape.dim[i] == e->from)
            t.shape.dim[i] = e->to;
    if (e->common_dtypes && t.dt != DT_NONE && t.dt != DT_BOOL)
        t.dt = dtype_is_float(t.dt) ? DT_F32 : DT_I32;
    return t;
}

static bool is_cut_here(const Apply *a, Ref r)
{
    return a->e->cut != CUT_NONE && a->e->at == r && a->e->scan == a->scan;
}

/* A value, not the source of several, that is too far to be kept. */
static bool is_far(const Apply *a, Ref r)
{
    const Node *n = &a->in->node[r];
    return a->scan == REF_NONE && a->e->depth && a->depth[r] > a->e->depth &&
           n->type.dt != DT_NONE && n->op != OP_input;
}

static void need(Apply *a, Ref r, int depth)
{
    if (a->depth[r] == 0 || a->depth[r] > depth)
        a->depth[r] = depth;
}

/* Which nodes are needed, and how far from an output. */
static void find_needed(Apply *a)
{
    const Graph *g = a->in;
    for (uint32_t i = 0; i < g->nout; i++)
        if (a->scan != REF_NONE || a->e->output < 0 || (int)i == a->e->output) {
            need(a, g->out[i].value, 1);
            if (g->out[i].replaces != REF_NONE)
                need(a, g->out[i].replaces, 1);
        }
    for (Ref r = g->nnode - 1; r > 0; r--) {
        const Node *n = &g->node[r];
        if (!a->depth[r] || is_far(a, r))
            continue;
        if (is_cut_here(a, r)) {
            if (a->e->cut == CUT_ARG)
                need(a, n->arg[a->e->arg], a->depth[r]);
            continue;
        }
        for (uint32_t i = 0; i < n->nargs; i++)
            need(a, n->arg[i], a->depth[r] + 1);
    }
}

static Status edit_graph(Ctx *cx, const Edit *e, const Graph *in, Ref scan, Graph *out);

static Status edit_attr(Apply *a, Ref r, Node *n)
{
    const Edit *e = a->e;
    if (n->op == OP_scan) {
        Graph *body = graph_new(a->out->arena);
        TRY(edit_graph(a->cx, e, n->attr.scan.body, r, body));
        n->attr.scan.body = body;
        if (n->attr.scan.trip == e->from)
            n->attr.scan.trip = e->to;
    } else if (n->op == OP_fold || n->op == OP_window) {
        for (int i = 0; i < n->attr.window.n; i++)
            if (n->attr.window.extent[i] == e->from)
                n->attr.window.extent[i] = e->to;
    } else if (n->op == OP_scatter_add && n->attr.scatter.extent == e->from) {
        n->attr.scatter.extent = e->to;
    }
    return ST_OK;
}

static Status replace_node(Apply *a, Ref r, bool far)
{
    const Node *old = &a->in->node[r];
    Node n = { .type = edit_type(a->e, old->type) };
    char name[32];
    if (!far && a->e->cut == CUT_ARG) {
        a->map[r] = a->map[old->arg[a->e->arg]];
        return ST_OK;
    }
    if (far || a->e->cut == CUT_INPUT) {
        snprintf(name, sizeof name, "cut.%u", r);
        n.op = OP_input;
        n.name = name;
        if (graph_find_input(a->in, name) != REF_NONE)
            snprintf(name, sizeof name, "cut.%u.%u", r, a->in->nnode);
    } else {
        n.op = OP_const;
        n.attr.fill.value = 1;
    }
    return graph_add(a->cx, a->out, &n, &a->map[r]);
}

static Status copy_node(Apply *a, Ref r)
{
    Node n = a->in->node[r];
    Ref *arg = arena_array(a->out->arena, Ref, n.nargs + 1);
    const bool given = n.op == OP_input || n.op == OP_const || n.op == OP_iota || n.op == OP_rand ||
                       n.op == OP_cast || n.op == OP_reshape || n.op == OP_broadcast ||
                       n.op == OP_slice;
    for (uint32_t i = 0; i < n.nargs; i++)
        arg[i] = a->map[n.arg[i]];
    n.arg = arg;
    n.type = given ? edit_type(a->e, n.type) : (Type){ 0 };
    n.region = 0; /* regions are hints: a reduced case does without where it can */
    if (a->in->node[r].region) {
        const Region *old = &a->in->region[a->in->node[r].region];
        n.region = graph_region(a->out, old->kind, old->layer, old->bwd);
    }
    TRY(edit_attr(a, r, &n));
    return graph_add(a->cx, a->out, &n, &a->map[r]);
}

static Status edit_graph(Ctx *cx, const Edit *e, const Graph *in, Ref scan, Graph *out)
{
    Apply a = { .cx = cx, .e = e, .in = in, .out = out, .scan = scan };
    a.map = arena_array(out->arena, Ref, in->nnode);
    a.depth = arena_array(out->arena, int, in->nnode);
    find_needed(&a);
    for (Ref r = 1; r < in->nnode; r++) {
        const bool is_input = in->node[r].op == OP_input;
        if (!a.depth[r] && !(is_input && scan != REF_NONE)) /* a body keeps its inputs */
            continue;
        const bool far = is_far(&a, r);
        TRY(far || is_cut_here(&a, r) ? replace_node(&a, r, far) : copy_node(&a, r));
    }
    for (uint32_t i = 0; i < in->nout; i++) {
        const Output *o = &in->out[i];
        if (scan == REF_NONE && e->output >= 0 && (int)i != e->output)
            continue;
        TRY(graph_output(cx, out, a.map[o->value], a.map[o->replaces], o->name));
    }
    return ST_OK;
}

/* ------------------------------------------------------------ trying */

static void work(void *arg, FuzzVerdict *v)
{
    fuzz_case_run(arg, v);
}

/* Failures of one kind: a wrong value, no compilation, a death, no end, the last resort, a
 * gradient. */
static int kind_of(const FuzzVerdict *v)
{
    static const char *const begin[] = { "step ",  "does not compile", "died", "ended",
                                         "no end", "left to",          "grad" };
    int k = 0;
    while (k < 7 && strncmp(v->text, begin[k], strlen(begin[k])) != 0)
        k++;
    return k;
}

static bool fails(Reduce *r, const FuzzCase *c)
{
    static FuzzVerdict v;
    if (r->tries >= MAX_TRIES || fuzz_now() > r->deadline)
        return false;
    r->tries++;
    fuzz_child_run(work, (void *)(uintptr_t)c, r->seconds, &v);
    return v.outcome == FUZZ_MISMATCH && kind_of(&v) == r->kind;
}

static bool try_edit(Reduce *r, const Edit *e)
{
    Ctx cx;
    FuzzCase next = *r->c;
    Graph *g = graph_new(r->arena);
    ctx_init(&cx);
    if (edit_graph(&cx, e, r->c->g, REF_NONE, g) != ST_OK || graph_eq(g, r->c->g))
        return false;
    next.g = g;
    next.model = NULL; /* the book is about the whole step */
    if (!fails(r, &next))
        return false;
    *r->c = next;
    return true;
}

/* ------------------------------------------------------------ what is tried */

static bool reduce_way(Reduce *r)
{
    bool better = false;
    FuzzCase next = *r->c;
    next.way[0].threads = 1;
    if (r->c->way[0].threads > 1 && fails(r, &next))
        *r->c = next, better = true;
    next = *r->c;
    next.plain = true;
    if (!r->c->plain && fails(r, &next))
        *r->c = next, better = true;
    for (int i = 0; i < pass_count; i++) {
        FuzzWay *way = &next.way[0];
        next = *r->c;
        const size_t n = strlen(way->skip);
        if (strstr(way->skip, pass_info[i].name) || pass_info[i].level == LEVEL_NEVER ||
            n + strlen(pass_info[i].name) + 2 > sizeof way->skip)
            continue;
        snprintf(way->skip + n, sizeof way->skip - n, "%s%s", n ? "," : "", pass_info[i].name);
        if (fails(r, &next))
            *r->c = next, better = true;
    }
    return better;
}

static bool reduce_outputs(Reduce *r)
{
    for (uint32_t i = 0; i < r->c->g->nout && r->c->g->nout > 1; i++) {
        Edit e = no_edit;
        e.output = (int)i;
        if (try_edit(r, &e))
            return true;
    }
    return false;
}

static bool reduce_depth(Reduce *r)
{
    for (int depth = 1; depth < 40; depth = depth < 4 ? depth + 1 : depth * 3 / 2) {
        Edit e = no_edit;
        e.depth = depth;
        if (try_edit(r, &e))
            return true;
    }
    return false;
}

static bool reduce_node(Reduce *r, Ref scan, Ref at)
{
    const Graph *g = scan ? r->c->g->node[scan].attr.scan.body : r->c->g;
    const Node *n = &g->node[at];
    if (n->type.dt == DT_NONE || n->op == OP_input || n->op == OP_const)
        return false;
    Edit e = { .output = -1, .from = -1, .scan = scan, .at = at };
    e.cut = scan ? CUT_CONST : CUT_INPUT;
    if (try_edit(r, &e))
        return true;
    e.cut = CUT_ARG;
    for (e.arg = 0; e.arg < n->nargs; e.arg++)
        if (type_eq(&n->type, &g->node[n->arg[e.arg]].type) && try_edit(r, &e))
            return true;
    return false;
}

/* From the last node on, again at the same place after a success: the graph has become shorter. */
static bool reduce_nodes(Reduce *r)
{
    bool better = false;
    for (Ref at = r->c->g->nnode - 1; at > 0; at--) {
        if (at >= r->c->g->nnode)
            continue;
        while (at < r->c->g->nnode && r->c->g->node[at].op == OP_scan) {
            bool inside = false;
            for (Ref k = r->c->g->node[at].attr.scan.body->nnode - 1; k > 0 && !inside; k--)
                inside = reduce_node(r, at, k);
            better |= inside;
            if (!inside)
                break;
        }
        if (at < r->c->g->nnode)
            better |= reduce_node(r, REF_NONE, at);
    }
    return better;
}

static bool reduce_extent(Reduce *r, int64_t from)
{
    const int64_t to[] = { 1, 2, 3, 4, 5, 8, from / 2, from - 1 };
    for (size_t i = 0; i < sizeof to / sizeof *to; i++) {
        Edit e = no_edit;
        e.from = from;
        e.to = to[i];
        if (to[i] > 0 && to[i] < from && try_edit(r, &e))
            return true;
    }
    return false;
}

static bool reduce_extents(Reduce *r)
{
    bool better = false;
    for (uint32_t i = 0; i < r->c->g->ninput; i++)
        for (int d = 0; d < MAX_RANK && i < r->c->g->ninput; d++) {
            const Shape s = r->c->g->node[r->c->g->input[i]].type.shape;
            if (d < s.rank && s.dim[d] > 1)
                better |= reduce_extent(r, s.dim[d]);
        }
    return better;
}

void fuzz_reduce(Arena *arena, FuzzCase *c, const FuzzVerdict *first, int seconds)
{
    Reduce r = { .arena = arena, .c = c, .kind = kind_of(first), .seconds = seconds };
    r.deadline = fuzz_now() + MAX_SECONDS;
    if (first->way.threads) {
        c->way[0] = first->way;
        c->nway = 1;
    }
    Edit dtypes = no_edit;
    dtypes.common_dtypes = true;
    for (bool better = true; better;) {
        better = reduce_outputs(&r);
        better |= reduce_depth(&r);
        better |= reduce_nodes(&r);
        better |= reduce_extents(&r);
        better |= try_edit(&r, &dtypes);
    }
    reduce_way(&r);
}
