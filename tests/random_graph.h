/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_RANDOM_GRAPH_H
#define GTC_TESTS_RANDOM_GRAPH_H

#include "ir/graph.h"

/* Random graphs of well-typed nodes from every op, over extents where code breaks: 0 1 2 3 5 7 8 15
 * 16 17 31 33.  One seed, one graph. */
typedef struct RandomOptions {
    int nodes;         /* about how many to grow; bodies have fewer */
    int64_t max_count; /* elements of any value; 0: 4096 */
    bool zeros;        /* extents of 0 too */
    bool dtypes;       /* all of them; else f32, i32 and bool */
    bool grads;        /* grad nodes */
    bool bodies;       /* scans and fusions, nested */
    bool fused;        /* what a fusion may hold: at most one scan, nothing in it, no f64, inputs
                          of kind batch, little that is unused; larger extents too */
    bool random;       /* the op rand */
    bool views;        /* mostly views and reductions, of what came just before */
    bool smooth;       /* nothing of floats that has no gradient: amin, fusions */
    bool tame;         /* keeps values finite and moderate: no log of negatives, no exp of large */
} RandomOptions;

/* Fails the program when it cannot: gtc_assert. */
Graph *random_graph(Ctx *cx, Arena *arena, uint64_t seed, const RandomOptions *opt);

#endif
