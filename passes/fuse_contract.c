/* SPDX-License-Identifier: Apache-2.0 */
/* fuse-contract: each matmul with what follows it.
 *
 * The operands' views (transpose, window, pad ..) fold into the group's index maps; elementwise
 * users of the result's own shape become its epilogue, computed while the result is in registers:
 * bias, activation, dropout with its mask, residual, and backward the activation's derivative.
 * A value of the epilogue that others want is one more result, so that nothing is computed twice.
 *
 * What an epilogue reads beside the result is drawn in when it is elementwise, of the same shape
 * and for this epilogue alone; a random mask also when backward reads it again, since it is
 * cheaper to store than to draw.  Elementwise producers of the operands are not: a matmul reads
 * each element many times, so they end the group before.
 *
 * Three things are left to later passes though they would fit: what only feeds a reduction, which
 * fuse-reduce computes on the way; parameter updates, told by what they read or by leaving the
 * backward regions, which want to be one loop over all of a parameter's slots; and results behind
 * a reshape, whose loops are other ones.  Behind a transpose the epilogue goes on, if nothing is
 * wanted in the old order; and behind pooling, if nothing wants what is pooled and one row of it
 * fits the second cache: then each thread keeps its rows there and writes what is left of them (a
 * net of convolutions, batch norm and max pooling predicts in half the launches and 0 to 5 % less
 * time on a CPU).  A small vector that only the epilogue reads, such as batch norm's factor, is
 * made in front.
 *
 * requires: verified, expanded      keeps: definition order, names, regions
 * cost: O(nodes * group size)
 */
#include "passes/group.h"

typedef struct Epilogue {
    Groups *gs;
    const Graph *g;
    GroupId id;
    Shape shape;
    bool bwd; /* the matmul stands in a backward region */
    const Target *target;
} Epilogue;

static bool is_elementwise(const Epilogue *e, Ref r)
{
    const Node *n = &e->g->node[r];
    return group_is_open(e->gs, r) && op_info[n->op].cls == CLASS_ELEMENTWISE &&
           shape_eq(&n->type.shape, &e->shape);
}

static bool reads_slot(const Epilogue *e, const Node *n) /* a whole param or state */
{
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Node *x = &e->g->node[n->arg[i]];
        if (x->op == OP_input && e->shape.rank > 0 &&
            (x->attr.input.kind == INPUT_param || x->attr.input.kind == INPUT_state))
            return true;
    }
    return false;
}

static bool feeds_only_reductions(const Epilogue *e, Ref r)
{
    uint32_t n;
    const Ref *user = group_users(e->gs, r, &n);
    for (uint32_t i = 0; i < n; i++)
        if (op_info[e->g->node[user[i]].op].cls != CLASS_REDUCE)
            return false;
    return n > 0;
}

static bool is_epilogue(const Epilogue *e, Ref r)
{
    const Node *n = &e->g->node[r];
    if (!is_elementwise(e, r) || reads_slot(e, n) || feeds_only_reductions(e, r))
        return false;
    return !(e->bwd && n->region && !e->g->region[n->region].bwd);
}

/* A value drawn at random, or compared or computed from one alone. */
static bool is_mask(const Epilogue *e, Ref r, int depth)
{
    const Node *n = &e->g->node[r];
    if (n->op == OP_rand)
        return true;
    if (op_info[n->op].cls != CLASS_ELEMENTWISE || depth > 4)
        return false;
    bool drawn = false;
    for (uint32_t i = 0; i < n->nargs; i++) {
        if (e->g->node[group_source(e->gs, n->arg[i])].op == OP_const)
            continue;
        if (!is_mask(e, n->arg[i], depth + 1))
            return false;
        drawn = true;
    }
    return drawn;
}

/* Draws in what member r reads beside the result. */
static void take_producers(Epilogue *e, Ref r)
{
    const Node *n = &e->g->node[r];
    for (uint32_t i = 0; i < n->nargs && n->op != OP_matmul; i++) {
        const Ref p = n->arg[i];
        const bool drawn = e->g->node[p].op == OP_rand && group_is_open(e->gs, p) &&
                           shape_eq(&e->g->node[p].type.shape, &e->shape);
        if (!drawn && !is_elementwise(e, p))
            continue;
        if ((is_mask(e, p, 0) || !group_leaves(e->gs, e->id, p)) && group_grow(e->gs, e->id, p))
            take_producers(e, p);
    }
}

static void take_epilogue(Epilogue *e, Ref r);

/* What follows r behind a transpose, when nothing of the group is wanted in the old order: then the
 * loops take the new one. */
static void take_transposed(Epilogue *e, Ref r, Ref transpose)
{
    const Shape old = e->shape;
    uint32_t n, nmember;
    const Ref *member = group_members(e->gs, e->id, &nmember);
    for (uint32_t i = 0; i < nmember; i++)
        if (member[i] != r && group_leaves(e->gs, e->id, member[i]))
            return;
    const Ref *user = group_users(e->gs, transpose, &n);
    e->shape = e->g->node[transpose].type.shape;
    bool all = n > 0 && !group_is_output(e->gs, transpose);
    for (uint32_t i = 0; i < n; i++)
        all &= is_epilogue(e, user[i]);
    bool any = false;
    for (uint32_t i = 0; i < n && all; i++)
        if (group_grow(e->gs, e->id, user[i])) {
            any = true;
            take_producers(e, user[i]);
            take_epilogue(e, user[i]);
        }
    if (!any)
        e->shape = old;
}

/* What an epilogue reads repeated: a small vector that only it wants, computed in front. */
static void take_vectors(Epilogue *e, Ref r)
{
    enum { SMALL = 4096 };
    const Node *n = &e->g->node[r];
    for (uint32_t i = 0; i < n->nargs && n->op != OP_matmul; i++) {
        const Ref p = group_source(e->gs, n->arg[i]);
        if (group_is_open(e->gs, p) && op_info[e->g->node[p].op].cls == CLASS_ELEMENTWISE &&
            shape_count(&e->g->node[p].type.shape) <= SMALL && !group_leaves(e->gs, e->id, p) &&
            group_grow(e->gs, e->id, p))
            take_vectors(e, p);
    }
}

/* Bytes of the result for one index of its first axis, which the threads share out. */
static bool rows_fit(const Epilogue *e)
{
    const Target *t = e->target;
    const Shape *s = &e->shape;
    if (!t || s->rank < 2 || s->dim[0] < 4 * t->threads)
        return false;
    return 2 * shape_count(s) / s->dim[0] * dtype_bytes(DT_F32) <= t->l2_bytes;
}

/* A reduction of the result, or of its windows, that keeps the first axis: pooling.  Nothing else
 * may want the result, which then never leaves the cache. */
static bool take_pooling(Epilogue *e, Ref r)
{
    uint32_t n, nmember;
    const Ref *member = group_members(e->gs, e->id, &nmember);
    if (!rows_fit(e) || group_is_output(e->gs, r))
        return false;
    for (uint32_t i = 0; i < nmember; i++)
        if (member[i] != r && group_leaves(e->gs, e->id, member[i]))
            return false;
    const Ref *user = group_users(e->gs, r, &n);
    if (n == 1 && e->g->node[user[0]].op == OP_window && !group_is_output(e->gs, user[0]) &&
        e->g->node[user[0]].attr.window.axis[0] != 0)
        user = group_users(e->gs, user[0], &n);
    const Node *u = n == 1 ? &e->g->node[user[0]] : NULL;
    if (!u || (u->op != OP_sum && u->op != OP_amax && u->op != OP_amin) || !u->attr.axes.mask ||
        (u->attr.axes.mask & 1) || !group_grow(e->gs, e->id, user[0]))
        return false;
    e->shape = u->type.shape;
    take_epilogue(e, user[0]);
    return true;
}

static void take_epilogue(Epilogue *e, Ref r)
{
    uint32_t n;
    const Ref *user = group_users(e->gs, r, &n);
    if (n == 1 && take_pooling(e, r))
        return;
    if (n == 1 && e->g->node[user[0]].op == OP_transpose && !group_is_output(e->gs, r)) {
        take_transposed(e, r, user[0]);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        if (is_epilogue(e, user[i]) && group_grow(e->gs, e->id, user[i])) {
            take_producers(e, user[i]);
            take_epilogue(e, user[i]);
        }
}

Status pass_fuse_contract(PassCx *pcx, const Graph *in, Graph *out)
{
    Groups *gs = group_start(pcx, in, (GroupLimits){ .nodes = 24, .buffers = 12 });
    for (Ref r = 1; r < in->nnode; r++) {
        const Node *n = &in->node[r];
        if (n->op != OP_matmul)
            continue;
        Epilogue e = { .gs = gs,
                       .g = in,
                       .id = group_new(gs, r),
                       .shape = n->type.shape,
                       .bwd = n->region && in->region[n->region].bwd,
                       .target = pcx->target };
        take_epilogue(&e, r);
        uint32_t members;
        group_members(gs, e.id, &members);
        for (uint32_t i = 0; i < members; i++) {
            uint32_t now;
            take_vectors(&e, group_members(gs, e.id, &now)[i]);
        }
    }
    return group_extract(gs, out);
}
