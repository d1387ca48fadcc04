/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_BOOK_CHECK_H
#define GTC_TESTS_BOOK_CHECK_H

#include "ir/eval.h"
#include "models/layer.h"

/* Training steps against the optimizers' definitions, in plain loops over f64: what holds
 * models/optimizer.c to account where the graph and the reference of a program are both built by
 * it. */
typedef struct BookVerdict {
    bool wrong;
    int64_t compared; /* elements of parameters */
    char text[400];   /* the first that is wrong */
} BookVerdict;

/* g, its grad node still in it, is a training step that optimizer_build made for m; in[i] is the
 * value of input i before the first of `steps` steps.  Fails the running test when g cannot be
 * expanded or evaluated. */
BookVerdict book_check(Ctx *cx, const Graph *g, const Model *m, const Tensor *in, int steps);

#endif
