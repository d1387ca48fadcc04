/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_BUILD_H
#define GTC_IR_BUILD_H

#include "ir/graph.h"

/* Building graphs from C.  The first failure sticks: later calls do nothing and return REF_NONE,
 * so a caller checks b.status once at the end. */
typedef struct Builder {
    Ctx     *cx;
    Graph   *g;
    uint32_t region; /* given to every node; set by build_region */
    Status   status;
} Builder;

Builder  build_start(Ctx *cx, Graph *g);
uint32_t build_region(Builder *b, const char *kind, int layer); /* returns the one before */
Type     build_type(const Builder *b, Ref r);
void     build_name(Builder *b, Ref r, const char *name); /* an identifier for dumps; only on the last node added */

/* Primitives. */
Ref build_input(Builder *b, InputKind kind, const char *name, DType dt, Shape shape);
Ref build_const(Builder *b, double value, Type type);
Ref build_scalar(Builder *b, DType dt, double value);
Ref build_iota(Builder *b, Type type, int axis);
Ref build_op1(Builder *b, Op op, Ref x);
Ref build_op2(Builder *b, Op op, Ref x, Ref y);           /* scalars (rank 0) are broadcast to the other's shape */
Ref build_select(Builder *b, Ref cond, Ref x, Ref y);
Ref build_scale(Builder *b, Ref x, double factor);        /* x * const */
Ref build_shift(Builder *b, Ref x, double term);          /* x + const */
Ref build_cast(Builder *b, Ref x, DType dt);
Ref build_reshape(Builder *b, Ref x, Shape shape);
Ref build_transpose(Builder *b, Ref x, const int *perm);
Ref build_broadcast(Builder *b, Ref x, Shape shape, unsigned new_axes); /* mask of the result's new dims */
Ref build_like(Builder *b, Ref x, Ref like, unsigned new_axes);         /* broadcast to like's shape */
Ref build_slice(Builder *b, Ref x, int axis, int64_t lo, int64_t n);
Ref build_reverse(Builder *b, Ref x, int axis);
Ref build_pad(Builder *b, Ref x, int axis, int64_t lo, int64_t hi, double value);
Ref build_spread(Builder *b, Ref x, int axis, int64_t lo, int64_t hi, int64_t step); /* zeros around and step - 1 between */
Ref build_concat(Builder *b, const Ref *x, int n, int axis);
Ref build_cumsum(Builder *b, Ref x, int axis); /* running sums */
/* Rows of x along axis by an i32 index, which shares the axes before it: [B.., N, R..] by [B.., I..]
 * is [B.., I.., R..].  Indices are clamped. */
Ref build_gather(Builder *b, Ref x, Ref index, int axis);
/* The adjoint: [B.., I.., R..] by [B.., I..] is [B.., extent, R..], sums of what has one index. */
Ref build_scatter_add(Builder *b, Ref x, Ref index, int axis, int64_t extent);
Ref build_window(Builder *b, Ref x, int n, const int *axis, const int64_t *kernel, const int64_t *stride, const int64_t *dilation);
Ref build_reduce(Builder *b, Op op, Ref x, unsigned axes);              /* sum amax amin */
Ref build_matmul(Builder *b, Ref x, Ref y);                             /* last axis of x with first of y, y a matrix */
Ref build_contract(Builder *b, Ref x, Ref y, int n, const int *over_x, const int *over_y);
/* The same for each of nbatch pairs of axes, which come first in the result. */
Ref build_contract_batch(Builder *b, Ref x, Ref y, int n, const int *over_x, const int *over_y, int nbatch, const int *batch_x, const int *batch_y);
Ref build_rand(Builder *b, Shape shape, Ref seed, Ref stream, Ref step, Ref iter, Ref row0);
Ref build_scan(Builder *b, Graph *body, const Ref *args, int nargs, int ncarry, int nstep, int64_t trip, bool reverse);
Ref build_get(Builder *b, Ref tuple, int index);
Ref build_grad(Builder *b, Ref loss, const Ref *wrt, int n);            /* get i is d loss / d wrt[i] */
void build_output(Builder *b, Ref value, const char *name);
void build_replace(Builder *b, Ref input, Ref value);

#endif
