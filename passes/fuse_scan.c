/* SPDX-License-Identifier: Apache-2.0 */
/* fuse-scan: each scan becomes a group.
 *
 * A scan is one kernel with its time loop inside.  The group takes the views in front of it
 * (a layer's transpose to time-major, the slices and broadcasts of its parameters), which cost
 * nothing there as index maps and a copy outside.  A pad does not go in: it would be asked at
 * every step.  Sums of vectors that only the scan reads (the two biases of a recurrent layer) go in
 * too: computed once before its loop, without a launch of their own.  What follows a scan is left
 * alone: it is another loop over the same values.
 *
 * requires: verified, expanded      keeps: definition order, names, regions      cost: O(nodes)
 */
#include "passes/group.h"

/* Takes in the cheap vector arithmetic that feeds member r and nobody else. */
static void take_vectors(Groups *gs, const Graph *in, GroupId id, Ref r)
{
    const Node *n = &in->node[r];
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Ref src = group_source(gs, n->arg[i]);
        const OpInfo *op = &op_info[in->node[src].op];
        if (op->cls != CLASS_ELEMENTWISE || !(op->flags & OPF_CHEAP) ||
            in->node[src].type.shape.rank != 1 || !group_is_open(gs, src))
            continue;
        uint32_t users;
        const Ref *user = group_users(gs, src, &users);
        bool ours = true;
        for (uint32_t u = 0; u < users; u++)
            ours &= group_of(gs, user[u]) == id;
        if (ours && group_grow(gs, id, src))
            take_vectors(gs, in, id, src);
    }
}

Status pass_fuse_scan(PassCx *pcx, const Graph *in, Graph *out)
{
    Groups *gs = group_start(pcx, in, (GroupLimits){ UINT32_MAX, UINT32_MAX });
    for (Ref r = 1; r < in->nnode; r++)
        if (in->node[r].op == OP_scan && group_is_open(gs, r))
            take_vectors(gs, in, group_new(gs, r), r);
    return group_extract(gs, out);
}
