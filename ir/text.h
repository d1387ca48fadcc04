/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_TEXT_H
#define GTC_IR_TEXT_H

#include "ir/base/strbuf.h"
#include "ir/graph.h"

/* The text form, one node a line; docs/il.md specifies it.  Round trip is exact. */
void graph_print(const Graph *g, Strbuf *out);

/* Parses one graph and verifies it.  file is for messages only.  Fails with ST_PARSE, ST_SHAPE,
 * ST_TYPE or ST_VALUE and file:line:col. */
Status graph_parse(Ctx *cx, Arena *arena, const char *file, const char *text, Graph **out);

/* Checks everything a pass may rely on: argument order, arity, types re-inferred, bodies closed,
 * names, regions, outputs.  Replaced inputs get their new values together, when all nodes have run:
 * nodes read the old ones, and an output that is itself a replaced input is refused.  Fails with ST_INTERNAL and cx->node. */
Status graph_verify(Ctx *cx, const Graph *g);

#endif
