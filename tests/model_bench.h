/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_MODEL_BENCH_H
#define GTC_TESTS_MODEL_BENCH_H

#include "ir/eval.h"
#include "models/layer.h"

/* One model, its data's shape, and values for all inputs of one of its graphs by name.  What fails
 * ends the test. */
typedef struct ModelBench {
    Ctx cx;
    Arena *arena;
    Model *m;
    DataShape d;
    int batch;
    Graph *g; /* with grad expanded */
    Tensor *in, *out;
} ModelBench;

#define BENCH_OK(b, call)                                                                          \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, (b)->cx.msg);                     \
    } while (0)

/* The text of a model of this layer (or a few) on random data. */
#define ONE_LAYER(shape, y, layer)                                                                 \
    "{\"data\": {\"random\": {\"x\": " shape ", \"y\": " y ", \"rows\": 8}}, \"layers\": [" layer  \
    "],"                                                                                           \
    "\"loss\": {\"type\": \"mse\"}}"

/* Shapes are as the data would give them, but for the sizes. */
void bench_start(ModelBench *b, const char *path, const char *const *set, int nset, int batch);
void bench_start_text(ModelBench *b, const char *text, int batch);
void bench_start_parsed(ModelBench *b, Model *m, int batch); /* takes m; b->cx is there */
void bench_stop(ModelBench *b);

/* Builds, verifies, expands grad and verifies again; inputs are made but zero. */
void bench_build(ModelBench *b, BuildKind kind);
Tensor *bench_input(ModelBench *b, const char *name);
void bench_set(ModelBench *b, const char *name, const double *v);
void bench_set1(ModelBench *b, const char *name, double v);
/* Parameters and states from the model's initialisers, batch inputs from noise. */
void bench_fill(ModelBench *b, int rows);
/* A value for (name, element) that does not depend on the batch or the graph. */
double bench_noise(const char *name, int64_t i);

void bench_run(ModelBench *b); /* in f64 */
/* Output by name, or the next value of the param or state of that name. */
Tensor *bench_output(ModelBench *b, const char *name);
void bench_near(double got, double want);

#endif
