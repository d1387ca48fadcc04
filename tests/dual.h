/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_DUAL_H
#define GTC_TESTS_DUAL_H

#include "ir/graph.h"

/* Forward mode, stated without any vjp: every value becomes a dual number, itself and how it moves
 * when the inputs move in one direction.
 *
 * out (new, empty) gets in's inputs, then for each float input its tangent "d.NAME"; and in's
 * outputs, then for each of them its tangent, or zeros where it has none.  Replacements are
 * dropped. Fails with ST_VALUE at an op that would have to pass on a tangent and has no rule. */
Status dual_expand(Ctx *cx, const Graph *in, Graph *out);

#endif
