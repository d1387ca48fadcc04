/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_KERNEL_BATCH_H
#define GTC_TESTS_KERNEL_BATCH_H

#include "ir/eval.h"

/* Many small fusions as compiled kernels, a C file for all of a batch, against the evaluator that
 * rounds after every op.  Buffers start as 0xff bytes and have a red zone behind them.  Batches may
 * run in several threads. */
typedef struct KernelCase {
    const char *name;  /* for messages */
    const Graph *body; /* what the fusion holds */
    const Tensor *in;
    const double *ulps; /* by output: how far it may be off, in units of its last place; 0: equal */
    int threads;        /* 1 or 2 */
} KernelCase;

typedef struct KernelTally {
    int kernels, plain, wrong; /* plain: of the last-resort planner */
    int64_t elements;
    char first[800]; /* what was wrong first */
} KernelTally;

void kernel_batch_run(const KernelCase *c, int n, int lanes, KernelTally *t);

#endif
