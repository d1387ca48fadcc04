/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_GROW_H
#define GTC_TESTS_GROW_H

#include "ir/base/rng.h"
#include "ir/build.h"
#include "tests/graph_grow.h"

/* What the parts of graph_grow share.  A rule is asked for a value of type t and has n nodes to
 * spend on it; it gives REF_NONE, before it has added anything, when it cannot give that type. */
typedef struct Grow {
    Builder b;
    Rng *rng;
    struct Grow *outer;     /* of a scan's body: the graph around it */
    int64_t max_count;      /* elements of a value */
    int64_t max_work;       /* multiplications of a contraction */
    bool zeros, dtypes;     /* extents of 0; all dtypes rather than f32, i32, bool */
    bool wild;              /* values may leave the range in which floats are tame */
    bool train;             /* leaves are parameters where they can be */
    uint32_t max_invariant; /* of a body: inputs it may have */
    Model *model;           /* of the optimizer, once there is one */
} Grow;

typedef Ref GrowRule(Grow *w, Op op, Type t, int n);

int grow_below(Grow *w, int n);
bool grow_chance(Grow *w, int percent);
int64_t grow_extent(Grow *w, int64_t most); /* at boundaries, most of the time; <= most */
Shape grow_shape(Grow *w, int min_rank, int max_rank);
DType grow_dtype(Grow *w);
DType grow_float(Grow *w);
DType grow_number(Grow *w);
bool grow_fits(const Grow *w, const Shape *s); /* within max_count, zeros as ones */
/* Some of n, for one of several arguments; takes them off *n. */
int grow_share(Grow *w, int *n, int left);

/* A value of type t: one that is there, a leaf, or an op over others. */
Ref grow_value(Grow *w, Type t, int n);
Ref grow_leaf(Grow *w, Type t);
Ref grow_input(Grow *w, InputKind kind, Type t); /* with a name of its own */
Ref grow_node(Grow *w, Node n, const Ref *arg, uint32_t nargs);
Ref grow_tame(Grow *w, Ref x); /* x with moderate values, unless wild */
void grow_region(Grow *w);     /* opens a random one, or none */

/* grow_op.c: the rule for each shape rule of ops.def; NULL where ops come another way or there is
 * none yet (test_grow fails then). */
GrowRule *grow_rule(Op op);
/* grow_scan.c */
Ref grow_scan(Grow *w, Op op, Type t, int n);
/* grow_nn.c: a random composite that gives t, f32. */
Ref grow_composite(Grow *w, Type t, int n);
/* grow_pattern.c: what passes and planners look for, giving t. */
Ref grow_pattern(Grow *w, Type t, int n);
/* grow_train.c: a loss over n nodes, gradients and an optimizer, and their outputs. */
void grow_training(Grow *w, int n);

#endif
