/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_PASS_CHECK_H
#define GTC_TESTS_PASS_CHECK_H

#include "ir/eval.h"
#include "passes/pass.h"

/* What must hold of every graph and every pass.  Each fails the running test with a message that
 * shows the graph. */

/* parse(print(g)) == g, names, regions, bodies and all. */
void check_round_trip(Ctx *cx, const Graph *g);

/* True when g can be evaluated: no grad node. */
bool check_can_eval(const Graph *g);

/* Values for g's inputs: floats around 0, small integers and bools; from the seed alone. */
Tensor *check_inputs(Arena *arena, const Graph *g, uint64_t seed);

/* a and b give the same outputs in f64 on three random inputs: |x - y| <= rel * (|x| + largest
 * |x| of that output), NaN and infinities alike. */
void check_same_values(Ctx *cx, const Graph *a, const Graph *b, double rel, const char *what);

/* Runs the passes with every check: verify and round trip after each, values kept by each. */
Status check_passes(Ctx *cx, Arena *arena, const PassOptions *opt, const Graph *in,
                    const Graph **out);

#endif
