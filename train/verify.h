/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_VERIFY_H
#define GTC_TRAIN_VERIFY_H

#include "models/model.h"
#include "runtime/gtc.h"

/* A model's programs against the oracle: what a user runs when in doubt (verify.c). */
typedef struct VerifyWork {
    const Model *model;
    const DataShape *shape;
    GtcDevice *device;
    const GtcOptions *options;
    int batch; /* rows of a step; the last step has a row less, when it can */
    int steps; /* of training */
} VerifyWork;

typedef struct VerifyReport {
    int64_t checked;          /* tensors compared */
    int64_t elements;         /* in them */
    int64_t undecided, loose; /* of these, as in OracleReport */
    int64_t kernels;          /* checked alone */
    int64_t wrong;            /* tensors */
    double worst, worst_rmse; /* largest error / bound */
    /* The first tensor that is wrong, in the order of the step: kernels alone come first.  "" while
     * nothing is wrong; layers are the names of those that the kernel does work for. */
    char kernel[128], layers[256], what[512];
} VerifyReport;

/* Fails when something cannot be built, compiled or run; a wrong result is no failure but counted.
 */
Status verify_model(Ctx *cx, const VerifyWork *w, VerifyReport *out);

#endif
