/* SPDX-License-Identifier: Apache-2.0 */
/* isolate: what no other pass grouped becomes a group of its own.
 *
 * Afterwards the graph holds inputs, fusions and gets alone, each fusion one kernel.  In mode
 * eager this is the only pass that groups: one kernel an op, which is what people compare with.
 * Views are no kernels even there: the op that reads one copies it into its body.  A view (or a
 * const) gets a kernel only where it is wanted as a value: as an output, as an argument of a
 * fusion that was formed before, as the padding in front of a scan.
 *
 * Walks against definition order, so that a value is known to be wanted before it is met.
 *
 * requires: verified, expanded      keeps: definition order, names, regions      cost: O(nodes)
 */
#include "passes/group.h"

static void want_reads(Groups *gs, GroupId id, bool *wanted)
{
    uint32_t n;
    const Ref *reads = group_reads(gs, id, &n);
    for (uint32_t i = 0; i < n; i++)
        wanted[reads[i]] = true;
}

Status pass_isolate(PassCx *pcx, const Graph *in, Graph *out)
{
    Groups *gs = group_start(pcx, in, (GroupLimits){ 1, UINT32_MAX });
    bool *wanted = arena_array(pcx->scratch, bool, in->nnode);
    for (uint32_t i = 0; i < in->nout; i++)
        wanted[in->out[i].value] = true;

    for (Ref r = in->nnode - 1; r > 0; r--) {
        const Node *n = &in->node[r];
        if (n->op == OP_scan && !group_is_open(gs, r))
            return FAIL(pcx->cx, TYPE, "isolate: scan: its body holds a fusion already");
        if (group_is_open(gs, r) || (wanted[r] && group_is_free(gs, 0, r)))
            want_reads(gs, group_new(gs, r), wanted);
        for (uint32_t i = 0; i < n->nargs && n->op == OP_fusion; i++)
            wanted[n->arg[i]] = true;
    }
    return group_extract(gs, out);
}
