/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_BOOK_NN_H
#define GTC_TESTS_BOOK_NN_H

#include "tests/book_check.h"

/* A random composite of ir/build_nn.h at random odd sizes, in f64 in the evaluator, against its
 * definition in plain loops: what holds build_nn to account where a graph and its reference are
 * both built by it.  One seed, one case. */
BookVerdict book_nn(Ctx *cx, uint64_t seed);

#endif
