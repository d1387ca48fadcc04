/* SPDX-License-Identifier: Apache-2.0 */
/* The recurrent layers of the cuDNN for tests, by the formulas that cuDNN documents, from what lies
 * in the weight space at the time of the call.  That space is cuDNN's own affair, and so it differs
 * by cell here: of an LSTM the gates lie one behind the other, of others from the last to the
 * first with gaps between them.  No layer has 13 states. */
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cudnn_dl.h"

enum { FAILED = 2000, TEMP = 768, GAP = 5, REFUSED = 13, GATES = 4 };

struct cudnnRNNStruct {
    int mode, bias, in, hidden;
};

struct cudnnRNNDataStruct {
    int layout, steps, rows, width;
};

#define PROTOTYPE(result, name, args) result name args;
CUDNN_CALLS(PROTOTYPE)

cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t *out)
{
    *out = calloc(1, sizeof **out);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t d)
{
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t d, cudnnRNNAlgo_t algo,
                                       cudnnRNNMode_t mode, cudnnRNNBiasMode_t bias,
                                       cudnnDirectionMode_t direction, cudnnRNNInputMode_t input,
                                       cudnnDataType_t data, cudnnDataType_t math,
                                       cudnnMathType_t type, int32_t in, int32_t hidden,
                                       int32_t projected, int32_t layers,
                                       cudnnDropoutDescriptor_t dropout, uint32_t flags)
{
    if (algo != CUDNN_RNN_ALGO_STANDARD || direction != CUDNN_UNIDIRECTIONAL ||
        input != CUDNN_LINEAR_INPUT || data != CUDNN_DATA_FLOAT || math != CUDNN_DATA_FLOAT ||
        type != CUDNN_FMA_MATH || in < 1 || hidden < 1 || projected != hidden || layers != 1 ||
        dropout || flags != CUDNN_RNN_PADDED_IO_ENABLED ||
        (mode != CUDNN_RNN_TANH && mode != CUDNN_LSTM && mode != CUDNN_GRU) ||
        (bias != CUDNN_RNN_SINGLE_INP_BIAS && bias != CUDNN_RNN_DOUBLE_BIAS))
        return FAILED;
    *d = (struct cudnnRNNStruct){ mode, bias, in, hidden };
    return hidden == REFUSED ? CUDNN_STATUS_NOT_SUPPORTED : CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateRNNDataDescriptor(cudnnRNNDataDescriptor_t *out)
{
    *out = calloc(1, sizeof **out);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyRNNDataDescriptor(cudnnRNNDataDescriptor_t d)
{
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t d, cudnnDataType_t type,
                                        cudnnRNNDataLayout_t layout, int steps, int rows, int width,
                                        const int *length, void *fill)
{
    if (type != CUDNN_DATA_FLOAT || steps < 1 || rows < 1 || width < 1 || fill ||
        (layout != CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED &&
         layout != CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED))
        return FAILED;
    for (int i = 0; i < rows; i++)
        if (length[i] != steps)
            return FAILED;
    *d = (struct cudnnRNNDataStruct){ layout, steps, rows, width };
    return CUDNN_STATUS_SUCCESS;
}

/* ------------------------------------------------------------ the weight space */

static int gates_of(cudnnRNNDescriptor_t d)
{
    return d->mode == CUDNN_LSTM ? 4 : d->mode == CUDNN_GRU ? 3 : 1;
}

/* The floats before matrix id, of id 2 * gates the whole; bias: of its bias, behind all matrices.
 */
static size_t weights_before(cudnnRNNDescriptor_t d, int id, bool bias)
{
    const int gates = gates_of(d), all = 2 * gates;
    size_t at = 0;
    for (int part = 0; part < 2; part++)
        for (int i = 0; i < all; i++) {
            const int here = d->mode == CUDNN_LSTM ? i : all - 1 - i;
            if (here == id && part == bias)
                return at;
            if (!part)
                at += (size_t)d->hidden * (size_t)(here < gates ? d->in : d->hidden);
            else if (here < gates || d->bias == CUDNN_RNN_DOUBLE_BIAS)
                at += (size_t)d->hidden;
            at += d->mode == CUDNN_LSTM ? 0 : GAP;
        }
    return at;
}

cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t h, cudnnRNNDescriptor_t d, size_t *out)
{
    *out = 4 * weights_before(d, 2 * gates_of(d), false);
    return h ? CUDNN_STATUS_SUCCESS : FAILED;
}

cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t h, cudnnRNNDescriptor_t d, int32_t layer,
                                      size_t bytes, const void *space, int32_t id,
                                      cudnnTensorDescriptor_t m, void **at_m,
                                      cudnnTensorDescriptor_t b, void **at_b)
{
    const int gates = gates_of(d), cols = id < gates ? d->in : d->hidden;
    if (!h || layer || bytes != 4 * weights_before(d, 2 * gates, false) || !space || id < 0 ||
        id >= 2 * gates)
        return FAILED;
    *at_m = (float *)space + weights_before(d, id, false);
    *at_b = (float *)space + weights_before(d, id, true);
    if (id >= gates && d->bias == CUDNN_RNN_SINGLE_INP_BIAS)
        *at_b = NULL;
    const int dim_m[] = { 1, d->hidden, cols }, stride_m[] = { d->hidden * cols, cols, 1 };
    const int dim_b[] = { 1, d->hidden, 1 }, stride_b[] = { d->hidden, 1, 1 };
    cudnnSetTensorNdDescriptor(m, CUDNN_DATA_FLOAT, 3, dim_m, stride_m);
    return cudnnSetTensorNdDescriptor(b, CUDNN_DATA_FLOAT, 3, dim_b, stride_b);
}

cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t h, cudnnRNNDescriptor_t d,
                                        cudnnForwardMode_t mode, cudnnRNNDataDescriptor_t x,
                                        size_t *work, size_t *reserve)
{
    *work = TEMP;
    *reserve = 0;
    return h && d && x && mode == CUDNN_FWD_MODE_INFERENCE ? CUDNN_STATUS_SUCCESS : FAILED;
}

/* ------------------------------------------------------------ a layer */

/* Gate k of one row and state: the half of x, that of h. */
static void gate(cudnnRNNDescriptor_t d, const float *w, int k, int unit, const float *x,
                 const double *h, double *of_x, double *of_h)
{
    const int gates = gates_of(d);
    const float *wx = w + weights_before(d, k, false) + (size_t)unit * (size_t)d->in,
                *wh = w + weights_before(d, k + gates, false) + (size_t)unit * (size_t)d->hidden;
    *of_x = (double)w[weights_before(d, k, true) + (size_t)unit];
    *of_h = 0;
    if (d->bias == CUDNN_RNN_DOUBLE_BIAS)
        *of_h = (double)w[weights_before(d, k + gates, true) + (size_t)unit];
    for (int i = 0; i < d->in; i++)
        *of_x += (double)wx[i] * (double)x[i];
    for (int i = 0; i < d->hidden; i++)
        *of_h += (double)wh[i] * h[i];
}

static double sigmoid(double v)
{
    return 1 / (1 + exp(-v));
}

/* The next state of a unit; *c is an LSTM's. */
static double next(cudnnRNNDescriptor_t d, const float *w, int unit, const float *x,
                   const double *h, double *c)
{
    double of_x[GATES], of_h[GATES], z[GATES];
    for (int k = 0; k < gates_of(d); k++) {
        gate(d, w, k, unit, x, h, &of_x[k], &of_h[k]);
        z[k] = of_x[k] + of_h[k];
    }
    if (d->mode == CUDNN_RNN_TANH)
        return tanh(z[0]);
    if (d->mode == CUDNN_GRU) {
        const double r = sigmoid(z[0]), i = sigmoid(z[1]), n = tanh(of_x[2] + r * of_h[2]);
        return (1 - i) * n + i * h[unit];
    }
    *c = sigmoid(z[1]) * *c + sigmoid(z[0]) * tanh(z[2]);
    return sigmoid(z[3]) * tanh(*c);
}

cudnnStatus_t cudnnRNNForward(cudnnHandle_t h, cudnnRNNDescriptor_t d, cudnnForwardMode_t mode,
                              const int32_t *lengths, cudnnRNNDataDescriptor_t x, const void *in,
                              cudnnRNNDataDescriptor_t y, void *out, cudnnTensorDescriptor_t state,
                              const void *hx, void *hy, cudnnTensorDescriptor_t cell,
                              const void *cx, void *cy, size_t weight_bytes, const void *weights,
                              size_t temp_bytes, void *temp, size_t reserve_bytes, void *reserve)
{
    const size_t units = (size_t)d->hidden;
    if (!h || mode != CUDNN_FWD_MODE_INFERENCE || lengths || hx || cx || cy || !in || !out ||
        !state || !cell || reserve_bytes || reserve || temp_bytes != TEMP ||
        weight_bytes != 4 * weights_before(d, 2 * gates_of(d), false) || x->layout != y->layout ||
        x->steps != y->steps || x->rows != y->rows || x->width != d->in || y->width != d->hidden ||
        (uintptr_t)in % 16 || (uintptr_t)out % 16)
        return FAILED;
    memset(temp, 0xff, TEMP);
    double *was = calloc(units, sizeof *was), *is = calloc(units, sizeof *is),
           *c = calloc(units, sizeof *c);
    for (int row = 0; row < x->rows; row++) {
        memset(was, 0, units * sizeof *was);
        memset(c, 0, units * sizeof *c);
        for (int t = 0; t < x->steps; t++) {
            const bool steps_first = x->layout == CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED;
            const size_t at = steps_first ? (size_t)t * (size_t)x->rows + (size_t)row
                                          : (size_t)row * (size_t)x->steps + (size_t)t;
            for (int u = 0; u < d->hidden; u++) {
                is[u] = next(d, weights, u, (const float *)in + at * (size_t)d->in, was, &c[u]);
                ((float *)out)[at * units + (size_t)u] = (float)is[u];
            }
            memcpy(was, is, units * sizeof *was);
        }
        for (size_t u = 0; u < units && hy; u++)
            ((float *)hy)[(size_t)row * units + u] = (float)was[u];
    }
    free(was);
    free(is);
    free(c);
    return CUDNN_STATUS_SUCCESS;
}
