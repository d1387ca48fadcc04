/* SPDX-License-Identifier: Apache-2.0 */
/* lib_cudnn_rnn: recurrent layers by cuDNN.
 *
 * These are no graphs of cuDNN's but calls of their own, here of one layer in one direction, from
 * states of zeros, for inference: in f32 by FMA, without tensor cores (TF32), by the standard
 * algorithm, which takes any size.
 *
 * The weights of all gates lie in one weight space, whose inside is the library's: it is asked
 * where the matrix and the bias of a gate are, for the gates of x and then those of h in gtc's own
 * order (LSTM i f g o, GRU r z n), and they are copied there at each call, for a step may have
 * changed them.  Neighbours go in one copy.  Where two biases are added, cuDNN's second one is the
 * other; a GRU's second bias is that within the reset gate's reach, and zeros for the other gates.
 *
 * x and the states lie alike, steps first or rows first, and x is copied when it does not.
 *
 *     workspace   [ x | all states, where the last is wanted | weights | the library's ]
 *
 * Sequences are all of one length, which the descriptors of the data say; since 8.9.1 the library
 * wants no copy of the lengths on the device, and NULL in its place. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/call_ops.h"
#include "runtime/cudnn_dl.h"

enum { ALIGN = 256, MOST_GATES = 4, MOST_COPIES = 4 * MOST_GATES, COPY_DIMS = 4 };

typedef CudnnLib Lib;

typedef struct Plan {
    CallRnn rnn;
    int32_t nin, gates;
    bool rows_first, copies; /* how x and the states lie; x is copied */
    cudnnRNNDescriptor_t layer;
    cudnnRNNDataDescriptor_t x, y;
    cudnnTensorDescriptor_t state, from, to; /* from, to: of whatever is copied */
    size_t at_states, at_weights, at_temp;   /* in the workspace */
    size_t weights, temp;                    /* bytes */
} Plan;

static Status check(Ctx *cx, const Lib *l, const char *call, cudnnStatus_t r)
{
    return cudnn_dl_check(cx, l, call, r);
}

/* ------------------------------------------------------------ descriptors */

static Status layer_make(Ctx *cx, const Lib *l, Plan *p)
{
    static const int cell[] = { CUDNN_RNN_TANH, CUDNN_LSTM, CUDNN_GRU };
    const CallRnn *r = &p->rnn;
    TRY(check(cx, l, "cudnnCreateRNNDescriptor", l->dnn.cudnnCreateRNNDescriptor(&p->layer)));
    return check(cx, l, "cudnnSetRNNDescriptor_v8",
                 l->dnn.cudnnSetRNNDescriptor_v8(
                     p->layer, CUDNN_RNN_ALGO_STANDARD, cell[r->cell],
                     r->bias[1].arg >= 0 ? CUDNN_RNN_DOUBLE_BIAS : CUDNN_RNN_SINGLE_INP_BIAS,
                     CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, CUDNN_DATA_FLOAT, CUDNN_DATA_FLOAT,
                     CUDNN_FMA_MATH, (int32_t)r->in, (int32_t)r->hidden, (int32_t)r->hidden, 1,
                     NULL, CUDNN_RNN_PADDED_IO_ENABLED));
}

static Status data_make(Ctx *cx, const Lib *l, const Plan *p, int64_t width,
                        cudnnRNNDataDescriptor_t *out)
{
    const CallRnn *r = &p->rnn;
    int *length = malloc((size_t)r->rows * sizeof *length);
    if (!length)
        return FAIL(cx, MEMORY, "no memory for a plan");
    for (int64_t i = 0; i < r->rows; i++)
        length[i] = (int)r->steps;
    Status status =
        check(cx, l, "cudnnCreateRNNDataDescriptor", l->dnn.cudnnCreateRNNDataDescriptor(out));
    if (status == ST_OK)
        status = check(cx, l, "cudnnSetRNNDataDescriptor",
                       l->dnn.cudnnSetRNNDataDescriptor(
                           *out, CUDNN_DATA_FLOAT,
                           p->rows_first ? CUDNN_RNN_DATA_LAYOUT_BATCH_MAJOR_UNPACKED
                                         : CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED,
                           (int)r->steps, (int)r->rows, (int)width, length, NULL));
    free(length);
    return status;
}

static Status tensor_make(Ctx *cx, const Lib *l, cudnnTensorDescriptor_t *out)
{
    return check(cx, l, "cudnnCreateTensorDescriptor", l->dnn.cudnnCreateTensorDescriptor(out));
}

static Status descriptors_make(Ctx *cx, const Lib *l, Plan *p)
{
    const int rows = (int)p->rnn.rows, hidden = (int)p->rnn.hidden;
    const int dim[] = { 1, rows, hidden }, stride[] = { rows * hidden, hidden, 1 };
    TRY(layer_make(cx, l, p));
    TRY(data_make(cx, l, p, p->rnn.in, &p->x));
    TRY(data_make(cx, l, p, p->rnn.hidden, &p->y));
    TRY(tensor_make(cx, l, &p->from));
    TRY(tensor_make(cx, l, &p->to));
    TRY(tensor_make(cx, l, &p->state));
    return check(cx, l, "cudnnSetTensorNdDescriptor",
                 l->dnn.cudnnSetTensorNdDescriptor(p->state, CUDNN_DATA_FLOAT, 3, dim, stride));
}

/* ------------------------------------------------------------ a plan */

/* The strides of steps, rows and columns of what lies densely. */
static void dense(const Plan *p, int64_t width, int64_t *stride)
{
    stride[0] = p->rows_first ? width : p->rnn.rows * width;
    stride[1] = p->rows_first ? p->rnn.steps * width : width;
    stride[2] = 1;
}

static bool x_lies_well(const Plan *p)
{
    int64_t stride[3];
    dense(p, p->rnn.in, stride);
    for (int i = 0; i < 3; i++)
        if (p->rnn.x.extent[i] > 1 && p->rnn.x.stride[i] != stride[i])
            return false;
    return p->rnn.x.offset % 4 == 0; /* 16 bytes */
}

static void plan_lay(Plan *p, const CallRnn *r, int32_t nin)
{
    static const int32_t gates[] = { 1, 4, 3 };
    p->rnn = *r;
    p->nin = nin;
    p->gates = gates[r->cell];
    p->rows_first = r->sequence ? r->rows_first : true;
    if (!r->sequence && !x_lies_well(p))
        p->rows_first = false;
    p->copies = !x_lies_well(p);
}

static void plan_free(const Lib *l, Plan *p)
{
    const cudnnTensorDescriptor_t tensor[] = { p->state, p->from, p->to };
    for (size_t i = 0; i < sizeof tensor / sizeof *tensor; i++)
        if (tensor[i])
            l->dnn.cudnnDestroyTensorDescriptor(tensor[i]);
    if (p->x)
        l->dnn.cudnnDestroyRNNDataDescriptor(p->x);
    if (p->y)
        l->dnn.cudnnDestroyRNNDataDescriptor(p->y);
    if (p->layer)
        l->dnn.cudnnDestroyRNNDescriptor(p->layer);
    free(p);
}

static size_t room(int64_t bytes)
{
    return (size_t)(bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static Status workspace_lay(Ctx *cx, const Lib *l, Plan *p, CallPlan *out)
{
    const CallRnn *r = &p->rnn;
    const int64_t cells = r->steps * r->rows * 4;
    size_t reserve = 0; /* nothing is, for inference */
    TRY(check(cx, l, "cudnnGetRNNWeightSpaceSize",
              l->dnn.cudnnGetRNNWeightSpaceSize(l->handle, p->layer, &p->weights)));
    TRY(check(cx, l, "cudnnGetRNNTempSpaceSizes",
              l->dnn.cudnnGetRNNTempSpaceSizes(l->handle, p->layer, CUDNN_FWD_MODE_INFERENCE, p->x,
                                               &p->temp, &reserve)));
    p->at_states = p->copies ? room(cells * r->in) : 0;
    p->at_weights = p->at_states + (r->sequence ? 0 : room(cells * r->hidden));
    p->at_temp = p->at_weights + room((int64_t)p->weights);
    out->workspace = (int64_t)(p->at_temp + room((int64_t)p->temp));
    return ST_OK;
}

static Status lib_prepare(Ctx *cx, void *lib, const LibraryCall *call, CallPlan *out)
{
    Plan *p = calloc(1, sizeof *p);
    if (!p)
        return FAIL(cx, MEMORY, "no memory for a plan");
    plan_lay(p, &call->as.rnn, (int32_t)call->body->ninput);
    Status status = descriptors_make(cx, lib, p);
    if (status == ST_OK)
        status = workspace_lay(cx, lib, p, out);
    if (status != ST_OK) {
        plan_free(lib, p);
        return status;
    }
    snprintf(out->text, sizeof out->text, "%s%s", p->rows_first ? "rows first" : "steps first",
             p->copies ? ", of a copy of x" : "");
    out->own = p;
    return ST_OK;
}

static void lib_release(void *lib, CallPlan *plan)
{
    plan_free(lib, plan->own);
}

/* ------------------------------------------------------------ copies */

/* Rows and columns, `row` and `col` apart, to where they lie densely; from NULL: zeros. */
typedef struct Copy {
    const float *from;
    float *to;
    int64_t rows, cols, row, col;
} Copy;

typedef struct Copies {
    Copy at[MOST_COPIES];
    int n;
} Copies;

static void copy_add(Copies *c, Copy new)
{
    Copy *last = c->n ? &c->at[c->n - 1] : NULL;
    if (last &&
        new.cols == last->cols &&new.row == last->row &&new.col == last->col &&new.to ==
            last->to + last->rows * last->cols &&
        (new.from ? last->from &&new.from == last->from + last->rows * last->row : !last->from))
        last->rows += new.rows;
    else
        c->at[c->n++] = new;
}

static Status tensor_set(Ctx *cx, const Lib *l, cudnnTensorDescriptor_t d, const int64_t *dim,
                         const int64_t *stride)
{
    int dims[COPY_DIMS], strides[COPY_DIMS];
    for (int i = 0; i < COPY_DIMS; i++) {
        dims[i] = (int)dim[i];
        strides[i] = dim[i] == 1 ? 1 : (int)stride[i];
    }
    return check(cx, l, "cudnnSetTensorNdDescriptor",
                 l->dnn.cudnnSetTensorNdDescriptor(d, CUDNN_DATA_FLOAT, COPY_DIMS, dims, strides));
}

static Status copy_run(Ctx *cx, const Lib *l, const Plan *p, const Copy *c)
{
    const float one = 1, zero = 0;
    const int64_t dim[COPY_DIMS] = { 1, 1, c->rows, c->cols },
                  from[COPY_DIMS] = { 1, 1, c->row, c->col }, to[COPY_DIMS] = { 1, 1, c->cols, 1 };
    TRY(tensor_set(cx, l, p->to, dim, to));
    if (!c->from)
        return check(cx, l, "cudnnSetTensor",
                     l->dnn.cudnnSetTensor(l->handle, p->to, c->to, &zero));
    TRY(tensor_set(cx, l, p->from, dim, from));
    return check(
        cx, l, "cudnnTransformTensor",
        l->dnn.cudnnTransformTensor(l->handle, &one, p->from, c->from, &zero, p->to, c->to));
}

static Status x_copy(Ctx *cx, const Lib *l, const Plan *p, const float *from, void *to)
{
    const float one = 1, zero = 0;
    const CallView *x = &p->rnn.x;
    const int64_t dim[COPY_DIMS] = { 1, x->extent[0], x->extent[1], x->extent[2] };
    const int64_t stride[COPY_DIMS] = { 1, x->stride[0], x->stride[1], x->stride[2] };
    int64_t want[COPY_DIMS] = { 1 };
    dense(p, p->rnn.in, want + 1);
    TRY(tensor_set(cx, l, p->from, dim, stride));
    TRY(tensor_set(cx, l, p->to, dim, want));
    return check(cx, l, "cudnnTransformTensor",
                 l->dnn.cudnnTransformTensor(l->handle, &one, p->from, from, &zero, p->to, to));
}

static const float *place(const CallView *v, void *const *arg)
{
    return (const float *)arg[v->arg] + v->offset;
}

/* Is d what is documented: 1, rows, cols, densely? */
static Status as_documented(Ctx *cx, const Lib *l, cudnnTensorDescriptor_t d, int64_t rows,
                            int64_t cols)
{
    int type = -1, n = 0, dim[COPY_DIMS] = { 0 }, stride[COPY_DIMS] = { 0 };
    TRY(check(cx, l, "cudnnGetTensorNdDescriptor",
              l->dnn.cudnnGetTensorNdDescriptor(d, COPY_DIMS, &type, &n, dim, stride)));
    if (type == CUDNN_DATA_FLOAT && n == 3 && dim[0] == 1 && dim[1] == rows && dim[2] == cols &&
        (rows == 1 || stride[1] == cols) && (cols == 1 || stride[2] == 1))
        return ST_OK;
    return FAIL(cx, ENV, "its weights lie otherwise than is documented");
}

/* The bias of a gate, of x's half or h's; NULL: zeros. */
static Copy bias_copy(const Plan *p, int half, int gate, void *const *arg, float *to)
{
    const CallView *v = &p->rnn.bias[half];
    Copy c = { .to = to, .rows = p->rnn.hidden, .cols = 1, .row = v->stride[0], .col = 1 };
    const bool reset = p->rnn.cell == RNN_GRU && half == 1;
    if (!reset)
        c.from = place(v, arg) + gate * p->rnn.hidden * v->stride[0];
    else if (gate == 2)
        c.from = place(v, arg);
    return c;
}

static Status weights_copy(Ctx *cx, const Lib *l, const Plan *p, void *const *arg, void *space)
{
    const CallRnn *r = &p->rnn;
    Copies matrix = { .n = 0 }, bias = { .n = 0 };
    for (int id = 0; id < 2 * p->gates; id++) {
        const int half = id / p->gates, gate = id % p->gates;
        const CallView *w = half ? &r->w_hh : &r->w_ih;
        void *m = NULL, *b = NULL;
        TRY(check(cx, l, "cudnnGetRNNWeightParams",
                  l->dnn.cudnnGetRNNWeightParams(l->handle, p->layer, 0, p->weights, space, id,
                                                 p->from, &m, p->to, &b)));
        TRY(as_documented(cx, l, p->from, r->hidden, w->extent[1]));
        copy_add(&matrix, (Copy){ place(w, arg) + gate * r->hidden * w->stride[0], m, r->hidden,
                                  w->extent[1], w->stride[0], w->stride[1] });
        if (r->bias[half].arg < 0)
            continue;
        TRY(as_documented(cx, l, p->to, r->hidden, 1));
        copy_add(&bias, bias_copy(p, half, gate, arg, b));
    }
    for (int i = 0; i < matrix.n; i++)
        TRY(copy_run(cx, l, p, &matrix.at[i]));
    for (int i = 0; i < bias.n; i++)
        TRY(copy_run(cx, l, p, &bias.at[i]));
    return ST_OK;
}

/* ------------------------------------------------------------ a call */

static Status lib_enqueue(Ctx *cx, void *lib, const CallPlan *plan, CUstream stream,
                          void *const *arg)
{
    const Lib *l = lib;
    const Plan *p = plan->own;
    const CallRnn *r = &p->rnn;
    char *workspace = arg[p->nin + 1];
    void *result = arg[p->nin], *weights = workspace + p->at_weights;
    const void *x = place(&r->x, arg);
    TRY(check(cx, l, "cudnnSetStream", l->dnn.cudnnSetStream(l->handle, stream)));
    TRY(weights_copy(cx, l, p, arg, weights));
    if (p->copies) {
        TRY(x_copy(cx, l, p, x, workspace));
        x = workspace;
    }
    return check(cx, l, "cudnnRNNForward",
                 l->dnn.cudnnRNNForward(l->handle, p->layer, CUDNN_FWD_MODE_INFERENCE, NULL, p->x,
                                        x, p->y, r->sequence ? result : workspace + p->at_states,
                                        p->state, NULL, r->sequence ? NULL : result, p->state, NULL,
                                        NULL, p->weights, weights, p->temp, workspace + p->at_temp,
                                        0, NULL));
}

const CallOps call_cudnn_rnn = { cudnn_dl_create, cudnn_dl_destroy, cudnn_dl_name,
                                 lib_prepare,     lib_release,      lib_enqueue };
