/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_SIDE_CHECK_H
#define GTC_TESTS_SIDE_CHECK_H

#include "ir/graph.h"

/* Small side graphs, dense in views, constants, gradients and scans: their gradients have their
 * slopes, and every pass keeps what the evaluator says of them in f64.  No compiler runs, so dozens
 * of them cost less than one program, and rules that seldom meet the right graph meet one.  Fails
 * the running program with the pass and both graphs, or the slope. */
void side_check(Ctx *cx, uint64_t seed);

#endif
