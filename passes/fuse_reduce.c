/* SPDX-License-Identifier: Apache-2.0 */
/* fuse-reduce: groups around reductions, of two shapes.
 *
 * Rows.  Reductions over inner axes leave the first axis, the batch, to every value around them:
 * softmax, cross entropy, attention pooling, normalisation over features, pooling windows.  Such a
 * group may hold several reductions one after the other, what they reduce, what is made of their
 * results and repeated back: one thread walks its rows and nothing in a row leaves the cache.  The
 * one rule is that each value inside keeps the batch as its own first axis.
 *
 * Columns.  Reductions over leading axes: bias gradients, batch statistics, losses, squared norms.
 * Those that read the same large value over the same axes are done in one sweep, with the
 * elementwise values that only they read; elementwise users of the small result follow (mean,
 * deviation, running statistics), but not the update of a parameter, which fuse-loop makes one
 * loop of.  `fold` is such a seed too: its argument is larger than its result and had better not
 * be stored.
 *
 * requires: verified, expanded      keeps: definition order, names, regions
 * cost: O(nodes * group size)
 */
#include "passes/group.h"

typedef struct Reduce {
    Groups *gs;
    const Graph *g;
    GroupId id;
    int64_t rows; /* of the row group that grows */
    bool more;
} Reduce;

static bool is_reduction(const Graph *g, Ref r)
{
    const Op op = g->node[r].op;
    return op == OP_sum || op == OP_amax || op == OP_amin;
}

static bool is_elementwise(const Graph *g, Ref r)
{
    return op_info[g->node[r].op].cls == CLASS_ELEMENTWISE || g->node[r].op == OP_rand;
}

/* ---- rows ---------------------------------------------------------------------------------- */

/* A view whose first axis is the first axis of its argument, element by element. */
static bool keeps_rows(const Graph *g, Ref r)
{
    const Node *n = &g->node[r];
    if (op_info[n->op].cls != CLASS_VIEW || n->nargs != 1 || n->type.shape.rank < 1)
        return false;
    const Shape *from = &g->node[n->arg[0]].type.shape;
    if (from->rank < 1 || from->dim[0] != n->type.shape.dim[0])
        return false;
    switch ((AttrKind)op_info[n->op].attr) {
    case ATTR_perm:
        return n->attr.perm.dim[0] == 0;
    case ATTR_axes:
        return !(n->attr.axes.mask & 1);
    case ATTR_slice:
        return n->attr.slice.lo[0] == 0 && n->attr.slice.step[0] == 1;
    case ATTR_pad:
        return n->attr.pad.lo[0] == 0;
    case ATTR_window:
        return n->attr.window.axis[0] != 0;
    default:
        return true; /* reshape */
    }
}

static bool is_row_reduction(const Graph *g, Ref r)
{
    const Node *n = &g->node[r];
    return is_reduction(g, r) && n->type.shape.rank > 0 && n->attr.axes.mask &&
           !(n->attr.axes.mask & 1);
}

static bool is_row_node(const Reduce *d, Ref r)
{
    const Shape *shape = &d->g->node[r].type.shape;
    return group_is_open(d->gs, r) && (is_elementwise(d->g, r) || is_row_reduction(d->g, r)) &&
           shape->rank > 0 && shape->dim[0] == d->rows;
}

/* No member is reached from r's arguments (through free nodes) but row by row. */
static bool sources_keep_rows(const Reduce *d, Ref r, bool kept)
{
    const Node *n = &d->g->node[r];
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Ref a = n->arg[i];
        if (group_of(d->gs, a) == d->id && !kept)
            return false;
        if (group_is_free(d->gs, 0, a) && !sources_keep_rows(d, a, kept && keeps_rows(d->g, a)))
            return false;
    }
    return true;
}

/* Nor from r's users. */
static bool users_keep_rows(const Reduce *d, Ref r, bool kept)
{
    uint32_t n;
    const Ref *user = group_users(d->gs, r, &n);
    for (uint32_t i = 0; i < n; i++) {
        const Ref u = user[i];
        if (group_of(d->gs, u) == d->id && !kept)
            return false;
        if (group_is_free(d->gs, 0, u) && !users_keep_rows(d, u, kept && keeps_rows(d->g, u)))
            return false;
    }
    return true;
}

static void take(Reduce *d, Ref r)
{
    if (sources_keep_rows(d, r, true) && users_keep_rows(d, r, true) && group_grow(d->gs, d->id, r))
        d->more = true;
}

static void take_row_sources(Reduce *d, Ref r)
{
    const Node *n = &d->g->node[r];
    for (uint32_t i = 0; i < n->nargs; i++) {
        if (is_row_node(d, n->arg[i]))
            take(d, n->arg[i]);
        else if (keeps_rows(d->g, n->arg[i]))
            take_row_sources(d, n->arg[i]);
    }
}

static void take_row_users(Reduce *d, Ref r)
{
    uint32_t n;
    const Ref *user = group_users(d->gs, r, &n);
    for (uint32_t i = 0; i < n; i++) {
        if (is_row_node(d, user[i]))
            take(d, user[i]);
        else if (group_is_free(d->gs, 0, user[i]) && keeps_rows(d->g, user[i]))
            take_row_users(d, user[i]);
    }
}

static void grow_rows(Reduce *d)
{
    do {
        d->more = false;
        uint32_t n;
        group_members(d->gs, d->id, &n);
        for (uint32_t i = 0; i < n; i++) {
            const Ref r = group_members(d->gs, d->id, &n)[i];
            take_row_sources(d, r);
            take_row_users(d, r);
        }
    } while (d->more);
}

/* ---- columns ------------------------------------------------------------------------------- */

/* Elementwise values that only this group reads, from the members inwards. */
static void take_own_sources(Reduce *d, Ref r)
{
    const Node *n = &d->g->node[r];
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Ref source = group_source(d->gs, n->arg[i]);
        if (!group_is_open(d->gs, source) || !is_elementwise(d->g, source) ||
            group_leaves(d->gs, d->id, source))
            continue;
        if (group_grow(d->gs, d->id, source))
            take_own_sources(d, source);
    }
}

static bool same_sweep(const Graph *g, Ref a, Ref b)
{
    const Node *x = &g->node[a], *y = &g->node[b];
    return is_reduction(g, a) && is_reduction(g, b) && x->attr.axes.mask == y->attr.axes.mask &&
           shape_eq(&g->node[x->arg[0]].type.shape, &g->node[y->arg[0]].type.shape);
}

/* Both read a value of the size they reduce. */
static bool share_large_read(Reduce *d, GroupId a, GroupId b, int64_t size)
{
    uint32_t na, nb;
    const Ref *x = group_reads(d->gs, a, &na), *y = group_reads(d->gs, b, &nb);
    for (uint32_t i = 0; i < na; i++)
        for (uint32_t k = 0; k < nb; k++)
            if (x[i] == y[k] && shape_count(&d->g->node[x[i]].type.shape) >= size)
                return true;
    return false;
}

static void take_small_users(Reduce *d, Ref r, bool bwd)
{
    const Shape *shape = &d->g->node[r].type.shape;
    uint32_t n;
    const Ref *user = group_users(d->gs, r, &n);
    for (uint32_t i = 0; i < n; i++) {
        const Node *u = &d->g->node[user[i]];
        if (op_info[u->op].cls != CLASS_ELEMENTWISE || !shape_eq(&u->type.shape, shape))
            continue;
        if (bwd && u->region && !d->g->region[u->region].bwd)
            continue;
        if (group_grow(d->gs, d->id, user[i])) {
            take_own_sources(d, user[i]);
            take_small_users(d, user[i], bwd);
        }
    }
}

static void merge_columns(Reduce *d, const Ref *seed, const GroupId *group, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const int64_t size = shape_count(&d->g->node[d->g->node[seed[i]].arg[0]].type.shape);
        for (uint32_t k = i + 1; k < n; k++) {
            const GroupId a = group_of(d->gs, seed[i]), b = group_of(d->gs, seed[k]);
            if (a != b && b == group[k] && same_sweep(d->g, seed[i], seed[k]) &&
                share_large_read(d, a, b, size))
                group_merge(d->gs, a, b);
        }
    }
}

static void form_columns(Reduce *d, Arena *scratch)
{
    const Graph *g = d->g;
    Ref *seed = arena_array(scratch, Ref, g->nnode);
    GroupId *group = arena_array(scratch, GroupId, g->nnode);
    uint32_t n = 0;
    for (Ref r = 1; r < g->nnode; r++) {
        if (!group_is_open(d->gs, r) || !(is_reduction(g, r) || g->node[r].op == OP_fold))
            continue;
        d->id = group[n] = group_new(d->gs, r);
        seed[n++] = r;
        take_own_sources(d, r);
    }
    merge_columns(d, seed, group, n);
    for (uint32_t i = 0; i < n; i++) {
        const Node *s = &g->node[seed[i]];
        d->id = group_of(d->gs, seed[i]);
        uint32_t members;
        group_members(d->gs, d->id, &members);
        for (uint32_t k = 0; k < members; k++) {
            uint32_t now;
            take_own_sources(d, group_members(d->gs, d->id, &now)[k]);
        }
        take_small_users(d, seed[i], s->region && g->region[s->region].bwd);
    }
}

Status pass_fuse_reduce(PassCx *pcx, const Graph *in, Graph *out)
{
    Groups *gs = group_start(pcx, in, (GroupLimits){ .nodes = 24, .buffers = 12 });
    Reduce d = { .gs = gs, .g = in };
    for (Ref r = 1; r < in->nnode; r++) {
        if (!group_is_open(gs, r) || !is_row_reduction(in, r))
            continue;
        d.id = group_new(gs, r);
        d.rows = in->node[r].type.shape.dim[0];
        grow_rows(&d);
    }
    form_columns(&d, pcx->scratch);
    return group_extract(gs, out);
}
