/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_SIDE_CHECK_H
#define GTC_TESTS_SIDE_CHECK_H

#include "ir/graph.h"

/* Small side graphs, dense in views, constants, gradients and scans, through the passes alone:
 * every pass keeps what the evaluator says of them in f64.  No compiler runs, so dozens of them
 * cost less than one program, and rules that seldom meet the right graph meet one.  Fails the
 * running program with the pass and both graphs. */
void side_check(Ctx *cx, uint64_t seed);

#endif
