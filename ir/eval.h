/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_EVAL_H
#define GTC_IR_EVAL_H

#include "ir/graph.h"

/* The judge: an interpreter of graphs, every element held as a double (i64 and f64 included), so
 * that i64, and sums of products of i32, are exact up to 2^53. */
typedef struct Tensor {
    Type    type;
    double *at; /* row-major, shape_count(type.shape) elements */
} Tensor;

typedef enum EvalMode {
    EVAL_F64,   /* floats are f64 whatever the graph says; integers and bools as they are */
    EVAL_ROUND, /* every result is rounded to the node's dtype: what a plain program would give */
} EvalMode;

/* in[i] belongs to g->input[i]; out[i] (allocated in arena) to g->out[i].  Refuses a `grad` node
 * (expand it first).  Fails with ST_TYPE when an input does not fit. */
Status eval_graph(Ctx *cx, const Graph *g, EvalMode mode, Arena *arena, const Tensor *in, Tensor *out);

Tensor tensor_new(Arena *arena, Type type);
/* To and from packed memory of type t->type (float, int32_t, uint8_t ...). */
void tensor_read(Tensor *t, const void *src);
void tensor_write(const Tensor *t, void *dst);
double round_to(DType dt, double x);

#endif
