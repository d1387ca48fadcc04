/* SPDX-License-Identifier: Apache-2.0 */
/* fuse-scan: each scan becomes a group.
 *
 * A scan is one kernel with its time loop inside.  The group takes the views in front of it
 * (a layer's transpose to time-major, the slices and broadcasts of its parameters), which cost
 * nothing there as index maps and a copy outside.  A pad does not go in: it would be asked at
 * every step.  What follows a scan is left alone: it is another loop over the same values.
 *
 * requires: verified, expanded      keeps: definition order, names, regions      cost: O(nodes)
 */
#include "passes/group.h"

Status pass_fuse_scan(PassCx *pcx, const Graph *in, Graph *out)
{
    Groups *gs = group_start(pcx, in, (GroupLimits){ UINT32_MAX, UINT32_MAX });
    for (Ref r = 1; r < in->nnode; r++)
        if (in->node[r].op == OP_scan && group_is_open(gs, r))
            group_new(gs, r);
    return group_extract(gs, out);
}
