/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_FUZZ_REDUCE_H
#define GTC_TESTS_FUZZ_REDUCE_H

#include "tests/fuzz_case.h"

/* Makes a failing case small while it fails: c gets a smaller graph (in arena), one way, plainer
 * values.  first is the verdict that it failed with.  Each attempt gets so many seconds. */
void fuzz_reduce(Arena *arena, FuzzCase *c, const FuzzVerdict *first, int seconds);

#endif
