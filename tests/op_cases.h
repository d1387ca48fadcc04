/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_OP_CASES_H
#define GTC_TESTS_OP_CASES_H

#include "tests/kernel_batch.h"

/* Small graphs that between them have every op of the table on every dtype that it accepts, at the
 * extents where vectors, tiles and halves end, in every position of a shape.  f64 is left out: it
 * is the evaluator's own and has no kernels. */
typedef struct OpCases {
    Arena *arena;
    Ctx cx;
    KernelCase *c;
    int n;
    bool seen[OP_COUNT][DT_COUNT]; /* by the dtype of the first argument, or of the result */
} OpCases;

OpCases *op_cases_new(void); /* fails the running test when a case cannot be made */
void op_cases_free(OpCases *s);

#endif
