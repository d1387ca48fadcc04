/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_LAYER_CASE_H
#define GTC_TESTS_LAYER_CASE_H

#include "ir/eval.h"
#include "models/model.h"

/* One layer (or a few), as the text of its objects in "layers", on inputs of odd sizes. */
typedef struct LayerCase LayerCase;

/* What a hand-written loop reads, and where it puts the output. */
typedef struct LayerRun {
    const LayerCase *c;
    const Graph *g;
    const Tensor *in;
    int batch;
} LayerRun;
typedef void LayerLoop(const LayerRun *r, double *y);

struct LayerCase {
    const char *name, *layers;
    const char *x, *y; /* shapes of input and output, as JSON */
    const char *z;     /* shape of a second input, or NULL */
    LayerLoop *loop;   /* NULL: only slopes and programs are compared */
    const char *rest;  /* loss and optimizer; mse and sgd where NULL */
    int classes;       /* of y, which then has no shape */
    const char *mask;  /* shape of an input "mask", or NULL: zeros and ones, none of them in row 1;
                          or of one number a row: 2, 0, 5 */
    const char *words; /* shape of an input "words", or NULL: whole numbers of -1 .. 7 */
};

enum { LAYER_BATCH = 3 };

/* An input by its name: "x", "l.weight". */
const double *layer_run_in(const LayerRun *r, const char *name);

/* The evaluator in f64 against the loop. */
void layer_case_is_its_loop(const LayerCase *c);
/* Gradients of all parameters, those of a dense layer before it among them, against differences. */
void layer_case_has_its_slopes(const LayerCase *c);
/* A training step as compiled, both modes, one thread and two, against the evaluator. */
void layer_case_compiles(const LayerCase *c);
/* Tests of n cases, 2 n of them: against the loop, if there is one, and the slopes; and compiled. */
struct CMUnitTest;
void layer_cases_tests(const LayerCase *c, int n, struct CMUnitTest *tests);
/* One training step of either, evaluated in f64: all outputs are equal to the last bit. */
void layer_cases_are_equal(const LayerCase *c, const LayerCase *d);
/* Launches of a training step. */
int layer_case_launches(const LayerCase *c);

#endif
