/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_TARGET_H
#define GTC_IR_TARGET_H

#include "ir/graph.h"

/* What passes and planners may know of a machine.  A plain struct; compile.c fills it. */
typedef struct Target {
    int     lanes;         /* f32 lanes of a vector: 4, 8 or 16; GPU: 1 */
    int     vector_regs;   /* 16 or 32 */
    int     threads;       /* of the team that will run the kernels, >= 1; GPU: multiprocessors */
    int64_t smem_bytes;    /* GPU: shared memory that a block may have; 0 on a CPU */
    int64_t l1_bytes, l2_bytes;
    int     most_args;     /* tensors that one launch may take and give; 0: any number */
    double  launch_ops;    /* elementary operations that cost as much as a launch does; 0: none */
    /* NULL when a planner other than the last resort takes this fusion body, else why not. */
    const char *(*refuse)(const struct Target *t, const Graph *body);
} Target;

#endif
