/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_GRAPH_GROW_H
#define GTC_TESTS_GRAPH_GROW_H

#include "models/model.h"

/* Random valid graphs that compile, grown backwards: a result's type is chosen first, then an op of
 * the table (or a composite of build_nn) that can give it, then its arguments in the same way.  One
 * seed, one graph, on every machine.
 *
 * Half of the graphs are training steps: a loss, its gradient by every parameter, and an optimizer.
 * Inputs that need care say so in their name: `lr` is a learning rate, `opt.*` are the optimizer's
 * states, `rows` counts valid rows, `step` and `seed` are what they say. */
typedef struct GrowOptions {
    int nodes;         /* about how many; 0: chosen by the seed */
    int64_t max_count; /* elements of a value; 0: chosen by the seed */
    Model **model;     /* may be NULL; else gets what the optimizer was built for, or NULL */
} GrowOptions;

/* Fails the program when it cannot: gtc_assert. */
Graph *graph_grow(Ctx *cx, Arena *arena, uint64_t seed, const GrowOptions *opt);

/* How often each op stands in g, its bodies and, where they can be expanded, its gradients. */
void graph_grow_count(const Graph *g, int count[OP_COUNT]);

#endif
