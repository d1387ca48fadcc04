/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_VERIFY_OP_H
#define GTC_TRAIN_VERIFY_OP_H

#include "ir/oracle.h"
#include "train/verify.h"

/* What verify.c and verify_kernels.c share; nobody else includes this. */
typedef struct NameSet {
    Arena *arena;
    const char **name;
    unsigned n, cap;
} NameSet;

typedef struct Verify {
    Ctx *cx;
    const VerifyWork *work;
    VerifyReport *report;
    Arena *arena;   /* of one program */
    NameSet *alone; /* the kernels of the programs before, which were checked alone */
} Verify;

/* Compares and counts; kernel (its info, may be NULL) and what are said of the first wrong one. */
void verify_compare(Verify *v, const OracleTensor *want, const void *data,
                    const GtcKernelInfo *kernel, const char *what);

/* Each kernel of p by itself, fed with what the evaluator has in its place.  in: what the graph's
 * inputs hold, by name. */
typedef struct VerifyInput {
    const char *name;
    const Tensor *value;
} VerifyInput;
Status verify_kernels(Verify *v, const GtcProgram *p, const char *what, const VerifyInput *in,
                      int nin);

#endif
