/* SPDX-License-Identifier: Apache-2.0 */
/* Which values of a fusion body need a buffer of their own.
 *
 * Everything else is computed where it is used.  A value must be stored when it is costly and
 * somebody reads it at other points than it is produced at: a contraction or reduction below a
 * broadcast, another reduction, a window, padding or gather; a transcendental below a broadcast or
 * gather; and what
 * a contraction reads, unless it is an argument seen through views (so a padded operand becomes a
 * copy with its halo, and an activation is not recomputed once a column).  A machine that brings
 * operands to faster memory block by block sees through padding too.
 *
 * This looks at the graph alone.  What turns out to be computed in two nests is added by the
 * planner, which then builds the stages again. */
#include "codegen/stages.h"

static bool is_costly(Op op)
{
    const OpInfo *o = &op_info[op];
    return (o->cls == CLASS_ELEMENTWISE && !(o->flags & OPF_CHEAP)) || op == OP_rand;
}

static bool is_heavy(Op op)
{
    return op_info[op].cls == CLASS_REDUCE || op_info[op].cls == CLASS_CONTRACT;
}

/* Reads the same elements at other places, each once: the points correspond. */
static bool is_rename(Op op)
{
    return op == OP_transpose || op == OP_reshape || op == OP_slice;
}

/* The value below views that hold nothing of their own: those that move it, also those that repeat
 * it, also those that put zeros round it. */
typedef enum Through { RENAMES, WINDOWS, PADS } Through;

static Ref below_views(const Graph *g, Ref r, Through through)
{
    for (;;) {
        const Op op = g->node[r].op;
        const bool window =
            op == OP_broadcast || op == OP_window || (op == OP_pad && through == PADS);
        if (!is_rename(op) && !(window && through >= WINDOWS))
            return r;
        r = g->node[r].arg[0];
    }
}

static bool is_given(Op op)
{
    return op == OP_input || op == OP_const || op == OP_iota || op == OP_get;
}

static void mark(const Graph *g, uint8_t *stored, Ref r)
{
    if (!is_given(g->node[r].op))
        stored[r] = 1;
}

/* Stores the reductions that r computes in place. */
static void mark_inside(const Graph *g, uint8_t *stored, Ref r)
{
    const Node *n = &g->node[r];
    if (stored[r] || is_given(n->op))
        return;
    if (is_heavy(n->op)) {
        stored[r] = 1;
        return;
    }
    for (uint32_t i = 0; i < n->nargs; i++)
        mark_inside(g, stored, n->arg[i]);
}

/* A value of more reductions than one nest had better hold reads them, each from a nest of its own.
 */
static void mark_many(const Graph *g, uint8_t *stored, uint32_t *inside, Ref r)
{
    enum { MANY = 40 };
    const Node *n = &g->node[r];
    inside[r] = is_heavy(n->op);
    for (uint32_t i = 0; i < n->nargs && !is_given(n->op); i++)
        inside[r] += stored[n->arg[i]] ? 0 : inside[n->arg[i]];
    if (inside[r] <= MANY || op_info[n->op].cls != CLASS_ELEMENTWISE)
        return;
    inside[r] = 0;
    mark_inside(g, stored, r);
}

/* A number or short vector that every thread had better compute for itself where a launch is what
 * computing it in front would cost. */
static bool is_short(const Graph *g, Ref r)
{
    enum { SHORT = 4096 };
    const Type *t = &g->node[r].type;
    return t->dt != DT_NONE && t->shape.rank <= 1 && shape_count(&t->shape) <= SHORT;
}

static void mark_graph(Arena *arena, const Graph *g, bool gpu, uint8_t *stored)
{
    /* has[r]: r, computed in place, would compute something heavy (1) or costly (2) */
    uint8_t *has = arena_array(arena, uint8_t, g->nnode);
    uint8_t *whole = arena_array(arena, uint8_t, g->nnode); /* wanted as a whole, not by slices */
    for (uint32_t i = 0; i < g->nout; i++)
        whole[g->out[i].value] = 1;
    uint32_t *inside = arena_array(arena, uint32_t, g->nnode); /* reductions computed in place */
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if (n->op == OP_slice && whole[n->arg[0]] && has[n->arg[0]])
            mark(g, stored, below_views(g, n->arg[0], RENAMES));
        const bool spreads = (n->op == OP_broadcast && n->attr.axes.mask) || n->op == OP_gather ||
                             n->op == OP_cumsum;
        const bool moves = spreads || is_heavy(n->op) || n->op == OP_window || n->op == OP_pad ||
                           n->op == OP_concat || n->op == OP_rand;
        for (uint32_t i = 0; i < n->nargs; i++) {
            const Ref a = n->arg[i];
            const unsigned bad = (moves ? 1u : 0u) | (spreads || n->op == OP_rand ? 2u : 0u);
            const Ref below = below_views(g, a, RENAMES);
            if ((has[a] & bad) && !(gpu && !(has[a] & 1) && is_short(g, below)))
                mark(g, stored, below);
            const Ref source = below_views(g, a, gpu ? PADS : WINDOWS);
            if (op_info[n->op].cls == CLASS_CONTRACT ||
                (n->op == OP_scan && !(gpu && !has[a] && is_short(g, source))))
                mark(g, stored, source);
            if (n->op == OP_matmul && n->attr.contract.nbatch && g->node[a].op == OP_transpose)
                stored[a] = 1; /* canonicalise leaves none: it is meant as a copy */
            if (n->op == OP_cumsum || n->op == OP_scatter_add)
                mark(g, stored, r);
            if (n->op == OP_scan && g->node[a].op == OP_concat)
                stored[a] = 0; /* steps choose the part by a test of the step number */
        }
        mark_many(g, stored, inside, r);
        if (is_heavy(n->op))
            has[r] = 1;
        if (is_costly(n->op))
            has[r] |= 2;
        if (!is_heavy(n->op) && !is_given(n->op))
            for (uint32_t i = 0; i < n->nargs; i++)
                if (!stored[below_views(g, n->arg[i], RENAMES)])
                    has[r] |= has[n->arg[i]];
    }
}

uint32_t stages_most_inside(Arena *arena, const Graph *body)
{
    const uint8_t *stored = stages_stored(arena, body, false, false).body;
    uint32_t *inside = arena_array(arena, uint32_t, body->nnode), most = 0;
    for (Ref r = 1; r < body->nnode; r++) {
        const Node *n = &body->node[r];
        inside[r] = is_heavy(n->op);
        for (uint32_t i = 0; i < n->nargs && !is_given(n->op); i++)
            inside[r] += stored[n->arg[i]] ? 0 : inside[n->arg[i]];
        most = inside[r] > most ? inside[r] : most;
    }
    return most;
}

Stored stages_stored(Arena *arena, const Graph *body, bool all, bool gpu)
{
    Stored st = { .body = arena_array(arena, uint8_t, body->nnode), .all = all };
    const Graph *scan = NULL;
    for (Ref r = 1; r < body->nnode; r++)
        if (body->node[r].op == OP_scan)
            scan = body->node[r].attr.scan.body;
    st.scan = arena_array(arena, uint8_t, scan ? scan->nnode : 1);
    const Graph *g[2] = { body, scan };
    uint8_t *flag[2] = { st.body, st.scan };
    for (int k = 0; k < 2 && g[k]; k++) {
        mark_graph(arena, g[k], gpu && !all, flag[k]);
        for (Ref r = 1; all && r < g[k]->nnode; r++) {
            const Op op = g[k]->node[r].op;
            if (op_info[op].cls == CLASS_ELEMENTWISE || is_heavy(op) || op == OP_rand ||
                op == OP_pad || op == OP_concat)
                flag[k][r] = 1;
        }
    }
    return st;
}
