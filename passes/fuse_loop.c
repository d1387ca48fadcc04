/* SPDX-License-Identifier: Apache-2.0 */
/* fuse-loop: elementwise values of one shape in one loop.
 *
 * First along the arrows: from each elementwise node that no other pass took, to users and sources
 * of the same shape as far as the group stays legal.  Then across: loops of one shape that read
 * the same value of that shape become one, which reads it once.  So the update of a parameter, its
 * moments and all, is one group with several results.  Views stand at the leaves, where they are
 * index maps.  A concat is elementwise here: it writes parts next to each other.
 *
 * requires: verified, expanded      keeps: definition order, names, regions
 * cost: O(nodes * group size)
 */
#include "passes/group.h"

typedef struct Loop {
    Groups *gs;
    const Graph *g;
    GroupId id;
    Shape shape;
    bool more;
} Loop;

static bool is_loop_node(const Groups *gs, const Graph *g, Ref r)
{
    const Op op = g->node[r].op;
    return group_is_open(gs, r) &&
           (op_info[op].cls == CLASS_ELEMENTWISE || op == OP_rand || op == OP_concat);
}

static void take(Loop *l, Ref r)
{
    if (is_loop_node(l->gs, l->g, r) && shape_eq(&l->g->node[r].type.shape, &l->shape) &&
        group_grow(l->gs, l->id, r))
        l->more = true;
}

static void grow(Loop *l)
{
    do {
        l->more = false;
        uint32_t n;
        group_members(l->gs, l->id, &n);
        for (uint32_t i = 0; i < n; i++) {
            const Ref r = group_members(l->gs, l->id, &n)[i];
            uint32_t nuser;
            const Ref *user = group_users(l->gs, r, &nuser);
            for (uint32_t k = 0; k < nuser; k++)
                take(l, user[k]);
            for (uint32_t k = 0; k < l->g->node[r].nargs; k++)
                take(l, l->g->node[r].arg[k]);
            group_members(l->gs, l->id, &n);
        }
    } while (l->more);
}

/* The shape of loop group id: that of its members. */
static const Shape *shape_of_group(const Loop *l, GroupId id)
{
    uint32_t n;
    return &l->g->node[group_members(l->gs, id, &n)[0]].type.shape;
}

/* Merges the loops that read r itself. */
static void merge_readers(Loop *l, Ref r)
{
    uint32_t n;
    const Ref *user = group_users(l->gs, r, &n);
    GroupId first = 0;
    for (uint32_t i = 0; i < n; i++) {
        const GroupId id = group_of(l->gs, user[i]);
        if (!id || id == first || !shape_eq(&l->g->node[r].type.shape, shape_of_group(l, id)))
            continue;
        if (!first)
            first = id;
        else
            group_merge(l->gs, first, id);
    }
}

Status pass_fuse_loop(PassCx *pcx, const Graph *in, Graph *out)
{
    Loop l = { .gs = group_start(pcx, in, (GroupLimits){ .nodes = 40, .buffers = 16 }), .g = in };
    for (Ref r = 1; r < in->nnode; r++) {
        if (!is_loop_node(l.gs, in, r))
            continue;
        l.id = group_new(l.gs, r);
        l.shape = in->node[r].type.shape;
        grow(&l);
    }
    for (Ref r = 1; r < in->nnode; r++)
        if (in->node[r].type.shape.rank > 0)
            merge_readers(&l, r);
    return group_extract(l.gs, out);
}
