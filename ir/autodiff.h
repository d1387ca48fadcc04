/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_AUTODIFF_H
#define GTC_IR_AUTODIFF_H

#include "ir/graph.h"

/* Copies in to out, replacing every `grad` node by the nodes that compute it (reverse mode).
 * The gradient of region r stands in r.bwd; saved values of a scan are found from its backward
 * body.  dead results are left for dce.  Integers and bools have no gradient. */
Status autodiff_expand(Ctx *cx, const Graph *in, Graph *out);

#endif
