/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_CALL_H
#define GTC_RUNTIME_CALL_H

#include "ir/graph.h"

/* What a library could do in a kernel's place, read off the fusion's body: which of its inputs are
 * the operands, and how they lie in memory.  No library is needed to say so. */
typedef enum CallLibrary {
    CALL_CUBLASLT,
    CALL_CUDNN,
    CALL_CUDNN_RNN, /* its layers, which are no graphs */
    CALL_LIBRARIES
} CallLibrary;

/* An input of the body as views show it: element (i0, i1, ..) is number offset + i0 * stride[0] +
 * i1 * stride[1] + .. of input `arg`. */
typedef struct CallView {
    int32_t arg;
    int rank;
    int64_t offset, extent[MAX_RANK], stride[MAX_RANK];
} CallView;

/* The view that node r of body is; NULL, or why it is none. */
const char *call_view(const Graph *body, Ref r, CallView *out);

/* One matrix of a batch as the BLAS sees it: by columns, `ld` elements apart; transposed: what lies
 * there is the transpose of what is wanted. */
typedef struct CallMatrix {
    int32_t arg; /* input of the body; of the result: the first output */
    bool transposed;
    int64_t offset, ld, step; /* step: from one of the batch to the next */
} CallMatrix;

typedef enum CallFinish { FINISH_NONE, FINISH_RELU, FINISH_GELU } CallFinish;

/* d = finish(a b + c + bias) with a: m x k, b: k x n, `batch` times; bias is added to each column.
 */
typedef struct CallMatmul {
    int64_t m, n, k, batch;
    CallMatrix a, b, c, d; /* c.arg, bias: -1: none */
    int32_t bias;
    int64_t bias_offset;
    CallFinish finish;
} CallMatmul;

/* A tensor of a convolution: the stride of rows (of a weight: of results), channels and space. */
enum { CALL_SPACE = 3 };
typedef struct CallTensor {
    int32_t arg;
    int64_t offset, row, channel, space[CALL_SPACE];
} CallTensor;

/* CONV_FORWARD y[b, i.., o] = sum of x[b, i.. * stride + k.. * dilation - before.., c] w[o, k..,
 * c]; CONV_WEIGHT, CONV_IMAGE: w, x as the gradient of that sum, the other two given.  flipped: k
 * runs the other way in w.  The result has arg -1.  There are at least two axes of space; where the
 * body has one, the first is 1 long. */
typedef enum ConvKind { CONV_FORWARD, CONV_WEIGHT, CONV_IMAGE } ConvKind;
typedef struct CallConv {
    ConvKind kind;
    bool flipped;
    int n; /* axes of space */
    int64_t rows, in, out, from[CALL_SPACE], to[CALL_SPACE], kernel[CALL_SPACE];
    int64_t stride[CALL_SPACE], dilation[CALL_SPACE], before[CALL_SPACE], after[CALL_SPACE];
    CallTensor x, w, y;
} CallConv;

/* A recurrent layer from states of zeros: x: steps, rows, in; w_ih, w_hh: each gate's rows, in or
 * hidden.  bias: a sum of one or two vectors (arg -1: none); of a GRU the second is bias_hn.  The
 * result: steps (or with rows_first rows, then steps), hidden; without sequence the last state. */
typedef enum RnnCell { RNN_TANH, RNN_LSTM, RNN_GRU } RnnCell;
typedef struct CallRnn {
    RnnCell cell;
    bool sequence, rows_first;
    int64_t steps, rows, in, hidden;
    CallView x, w_ih, w_hh, bias[2];
} CallRnn;

typedef struct LibraryCall {
    CallLibrary library;
    const Graph *body; /* what the call computes */
    const char *text;  /* for people */
    union {
        CallMatmul matmul; /* CALL_CUBLASLT */
        CallConv conv;     /* CALL_CUDNN */
        CallRnn rnn;       /* CALL_CUDNN_RNN */
    } as;
} LibraryCall;

/* The call that does what body does, or NULL and in *why (may be NULL) the reason, which is "" when
 * there is nothing in it for a library.  Memory from arena; the body is not copied. */
const LibraryCall *call_find(Arena *arena, const Graph *body, const char **why);

/* call_matmul.c, call_conv.c, call_rnn.c. */
const char *call_matmul(const Graph *body, CallMatmul *out);
const char *call_conv(const Graph *body, CallConv *out);
const char *call_rnn(const Graph *body, CallRnn *out);

#endif
