/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_SLOPE_CHECK_H
#define GTC_TESTS_SLOPE_CHECK_H

#include "ir/eval.h"

/* The gradients of a graph against differences of its losses, in f64 in the evaluator: what holds
 * autodiff to account where the reference of a program is expanded by autodiff too.
 *
 * There is one grad node more than g's own: of a sum of its outputs, by some of its inputs.  For
 * each result of each grad node a random direction u is drawn, and d loss / d u by central
 * differences of two widths is compared with the sum of gradient * u.  A direction in which the
 * loss has a kink or a jump (the differences of the two widths, or of the two sides, disagree) says
 * nothing; single elements are tried instead, and what is left of it is counted.  What stop_gradient
 * gives stays as it was, which is asked of g itself and not of the bodies of scans. */
typedef struct SlopeVerdict {
    bool wrong, refused;     /* refused: autodiff does not take g */
    int compared, undecided; /* directions */
    char text[400];          /* the first that is wrong; why it is refused */
} SlopeVerdict;

/* in[i] is the value of input i of g, which has its grad nodes still.  Fails the running test when
 * the graph cannot be evaluated. */
SlopeVerdict slope_check(Ctx *cx, const Graph *g, const Tensor *in, uint64_t seed);

#endif
