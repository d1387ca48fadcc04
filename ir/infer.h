/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_INFER_H
#define GTC_IR_INFER_H

#include "ir/graph.h"

/* Fills n->type from the op, its arguments and attributes, or fails saying op, wanted and got. */
Status infer_node(Ctx *cx, const Graph *g, Node *n);

#endif
