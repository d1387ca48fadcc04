/* SPDX-License-Identifier: Apache-2.0 */
/* differentiate: gradients as graph.
 *
 * A model builds its whole training step in one graph, where `grad` stands for the gradients of
 * the loss; here ir/autodiff replaces it by the nodes that compute them, once.  The gradient of
 * region r stands in r.bwd, so later passes still see what was built as one.  No other pass looks
 * into a grad node, and none of those that group runs while there is one.
 *
 * requires: verified      keeps: names      cost: O(nodes)
 */
#include "ir/autodiff.h"
#include "passes/pass.h"

Status pass_differentiate(PassCx *pcx, const Graph *in, Graph *out)
{
    for (Ref r = 1; r < in->nnode; r++)
        pcx->nchanged += in->node[r].op == OP_grad;
    return autodiff_expand(pcx->cx, in, out);
}
