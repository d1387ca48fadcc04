/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_TEXT_H
#define GTC_IR_TEXT_H

#include "ir/base/strbuf.h"
#include "ir/graph.h"

/* The text form, one node a line; docs/il.md specifies it.  Round trip is exact. */
void graph_print(const Graph *g, Strbuf *out);

/* Parses one graph.  file is for messages only.  Fails with ST_PARSE, ST_SHAPE or ST_TYPE and
 * file:line:col. */
Status graph_parse(Ctx *cx, Arena *arena, const char *file, const char *text, Graph **out);

/* Checks everything a pass may rely on: argument order, arity, types re-inferred, bodies closed,
 * regions, outputs, and that no reader of a replaced input comes after its new value is needed.
 * Fails with ST_INTERNAL and cx->node. */
Status graph_verify(Ctx *cx, const Graph *g);

#endif
