/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_GRADIENT_CHECK_H
#define GTC_TESTS_GRADIENT_CHECK_H

#include "ir/graph.h"

/* Reverse mode against two other ways, in f64: forward mode (dual.h) and central differences.
 *
 * The loss is the sum of the float values with random weights; it is differentiated by every float
 * input of the graph.  Along each direction v in input space,
 *     |grad.v - forward|     <= 1e-10 * sum |grad_i v_i| + floor * (1 + |loss|)
 *     |grad.v - differences| <= 1e-5  * sum |grad_i v_i| + what rounding does to differences. */
typedef struct GradientOptions {
    uint64_t seed;
    bool positive;  /* float inputs are drawn from 0.2 .. 0.8; else of either sign */
    double floor;   /* what cancels, and what is lost where a function is as good as flat (tanh) */
    int directions; /* 0: along every element of every input; else so many random ones, over all
                       inputs, over each input, and along so many elements of each */
} GradientOptions;

typedef struct GradientCount {
    int64_t directions; /* compared with forward mode, each of them */
    int64_t flat;       /* of them, where the gradient is zero */
    int64_t kinks;      /* of them, where the loss bends within the step: no differences there */
    int64_t infinite;   /* losses that are no finite number: nothing compared */
} GradientCount;

/* Fails the running test on a disagreement.  g's outputs are replaced by the loss and gradients.
 * Returns the expanded graph, in g's arena. */
Graph *gradient_check(Ctx *cx, Graph *g, const Ref *value, int nvalue, const GradientOptions *opt,
                      GradientCount *count);

/* Along every element, of which none may be at a kink, with a loss that is finite. */
Graph *gradient_check_all(Ctx *cx, Graph *g, const Ref *value, int nvalue, bool positive,
                          uint64_t seed);

#endif
