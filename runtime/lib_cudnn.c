/* SPDX-License-Identifier: Apache-2.0 */
/* lib_cudnn: convolutions by cuDNN's graphs.
 *
 * An operation graph of one convolution is shown to the heuristics, and the first engine that takes
 * it is the plan.  Left out are engines that do not compute what was asked for, in f32 and the same
 * each time: those with tensor cores (TF32), in fewer bits, by transforms, or without a fixed
 * order.
 *
 * cuDNN wants a weight to lie as its images do, channels last; gtc's weights lie as PyTorch's,
 * window last.  So the weight is copied into the workspace before the convolution, or out of it
 * after a weight's gradient, by the library's own copy, when it does not lie so already:
 *
 *     workspace   [ weight, channels last | the engine's ]  */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/call_ops.h"
#include "runtime/cudnn_dl.h"

enum {
    MOST_WORKSPACE = 256 << 20,
    MOST_ENGINES = 24, /* of a heuristic */
    MOST_DIMS = CALL_SPACE + 2,
    ALIGN = 256,
};
enum { UID_X = 'x', UID_W = 'w', UID_Y = 'y' };

typedef CudnnLib Lib;
typedef cudnnBackendDescriptor_t Desc;

typedef struct Plan {
    CallConv conv;
    int32_t nin;
    Desc x, w, y, convolution, op, graph, config, plan;
    cudnnTensorDescriptor_t theirs, ours; /* the weight as cuDNN wants it, as it lies */
    bool copies;
    int64_t weight; /* bytes of the copy */
} Plan;

/* ------------------------------------------------------------ descriptors */

static Status make(Ctx *cx, const Lib *l, cudnnBackendDescriptorType_t type, Desc *out)
{
    return cudnn_dl_check(cx, l, "cudnnBackendCreateDescriptor",
                          l->dnn.cudnnBackendCreateDescriptor(type, out));
}

static Status set(Ctx *cx, const Lib *l, Desc d, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, int64_t n, const void *value)
{
    return cudnn_dl_check(cx, l, "cudnnBackendSetAttribute",
                          l->dnn.cudnnBackendSetAttribute(d, name, type, n, value));
}

static Status set_desc(Ctx *cx, const Lib *l, Desc d, cudnnBackendAttributeName_t name, Desc value)
{
    return set(cx, l, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

static Status finalize(Ctx *cx, const Lib *l, Desc d)
{
    return cudnn_dl_check(cx, l, "cudnnBackendFinalize", l->dnn.cudnnBackendFinalize(d));
}

static void drop(const Lib *l, Desc d)
{
    if (d)
        l->dnn.cudnnBackendDestroyDescriptor(d);
}

typedef struct Layout { /* rows, channels, space */
    int64_t dim[MOST_DIMS], stride[MOST_DIMS];
} Layout;

static Layout layout_of(const CallConv *c, const CallTensor *t, int64_t rows, int64_t channels,
                        const int64_t *space)
{
    Layout a = { { rows, channels }, { t->row, t->channel } };
    for (int i = 0; i < c->n; i++) {
        a.dim[2 + i] = space[i];
        a.stride[2 + i] = t->space[i];
    }
    return a;
}

/* The same tensor, channels last. */
static Layout packed(const CallConv *c, Layout a)
{
    int64_t step = a.dim[1];
    a.stride[1] = 1;
    for (int i = c->n + 1; i >= 2; i--) {
        a.stride[i] = step;
        step *= a.dim[i];
    }
    a.stride[0] = step;
    return a;
}

/* Do the two lie alike?  The stride of an axis that is 1 long says nothing. */
static bool alike(const CallConv *c, const Layout *a, const Layout *b)
{
    for (int i = 0; i < c->n + 2; i++)
        if (a->dim[i] > 1 && a->stride[i] != b->stride[i])
            return false;
    return true;
}

static Status tensor_make(Ctx *cx, const Lib *l, const CallConv *c, const Layout *a, int64_t uid,
                          int64_t offset, Desc *out)
{
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const int64_t align = offset % 4 ? 4 : 16;
    TRY(make(cx, l, CUDNN_BACKEND_TENSOR_DESCRIPTOR, out));
    TRY(set(cx, l, *out, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type));
    TRY(set(cx, l, *out, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, c->n + 2, a->dim));
    TRY(set(cx, l, *out, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, c->n + 2, a->stride));
    TRY(set(cx, l, *out, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid));
    TRY(set(cx, l, *out, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align));
    return finalize(cx, l, *out);
}

static Status copy_desc(Ctx *cx, const Lib *l, const CallConv *c, const Layout *a,
                        cudnnTensorDescriptor_t *out)
{
    int dim[MOST_DIMS], stride[MOST_DIMS];
    for (int i = 0; i < c->n + 2; i++) {
        dim[i] = (int)a->dim[i];
        stride[i] = (int)a->stride[i];
    }
    TRY(cudnn_dl_check(cx, l, "cudnnCreateTensorDescriptor",
                       l->dnn.cudnnCreateTensorDescriptor(out)));
    return cudnn_dl_check(
        cx, l, "cudnnSetTensorNdDescriptor",
        l->dnn.cudnnSetTensorNdDescriptor(*out, CUDNN_DATA_FLOAT, c->n + 2, dim, stride));
}

static Status tensors_make(Ctx *cx, const Lib *l, Plan *p)
{
    const CallConv *c = &p->conv;
    const Layout x = layout_of(c, &c->x, c->rows, c->in, c->from),
                 y = layout_of(c, &c->y, c->rows, c->out, c->to),
                 w = layout_of(c, &c->w, c->out, c->in, c->kernel), last = packed(c, w);
    p->copies = !alike(c, &w, &last);
    if (p->copies) {
        p->weight = (last.dim[0] * last.stride[0] * 4 + ALIGN - 1) / ALIGN * ALIGN;
        TRY(copy_desc(cx, l, c, &w, &p->ours));
        TRY(copy_desc(cx, l, c, &last, &p->theirs));
    }
    TRY(tensor_make(cx, l, c, &x, UID_X, c->x.offset, &p->x));
    TRY(tensor_make(cx, l, c, &y, UID_Y, c->y.offset, &p->y));
    return tensor_make(cx, l, c, &last, UID_W, p->copies ? 0 : c->w.offset, &p->w);
}

static Status convolution_make(Ctx *cx, const Lib *l, Plan *p)
{
    const CallConv *c = &p->conv;
    const cudnnDataType_t type = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = c->flipped ? CUDNN_CONVOLUTION : CUDNN_CROSS_CORRELATION;
    const int64_t n = c->n;
    const struct {
        cudnnBackendAttributeName_t name;
        const int64_t *value;
    } space[] = { { CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, c->before },
                  { CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, c->after },
                  { CUDNN_ATTR_CONVOLUTION_DILATIONS, c->dilation },
                  { CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, c->stride } };
    TRY(make(cx, l, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, &p->convolution));
    TRY(set(cx, l, p->convolution, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &n));
    TRY(set(cx, l, p->convolution, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1,
            &type));
    TRY(set(cx, l, p->convolution, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1,
            &mode));
    for (size_t i = 0; i < sizeof space / sizeof *space; i++)
        TRY(set(cx, l, p->convolution, space[i].name, CUDNN_TYPE_INT64, n, space[i].value));
    return finalize(cx, l, p->convolution);
}

static Status operation_make(Ctx *cx, const Lib *l, Plan *p)
{
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t conv, x, w, y, alpha, beta;
    } kind[] = {
        { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
        { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA },
        { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA }
    }; /* by ConvKind */
    const int k = (int)p->conv.kind;
    const float one = 1, zero = 0;
    TRY(make(cx, l, kind[k].type, &p->op));
    TRY(set_desc(cx, l, p->op, kind[k].conv, p->convolution));
    TRY(set_desc(cx, l, p->op, kind[k].x, p->x));
    TRY(set_desc(cx, l, p->op, kind[k].w, p->w));
    TRY(set_desc(cx, l, p->op, kind[k].y, p->y));
    TRY(set(cx, l, p->op, kind[k].alpha, CUDNN_TYPE_FLOAT, 1, &one));
    TRY(set(cx, l, p->op, kind[k].beta, CUDNN_TYPE_FLOAT, 1, &zero));
    return finalize(cx, l, p->op);
}

static Status graph_make(Ctx *cx, const Lib *l, Plan *p)
{
    TRY(make(cx, l, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, &p->graph));
    TRY(set(cx, l, p->graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &l->handle));
    TRY(set_desc(cx, l, p->graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, p->op));
    return finalize(cx, l, p->graph);
}

/* ------------------------------------------------------------ choosing */

/* Does it compute the sums that were asked for, in f32 and in a fixed order? */
static Status is_exact(Ctx *cx, const Lib *l, Desc config, bool *exact)
{
    cudnnBackendNumericalNote_t note[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    Desc engine = NULL;
    int64_t n = 0;
    TRY(make(cx, l, CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine));
    Status status = cudnn_dl_check(
        cx, l, "cudnnBackendGetAttribute",
        l->dnn.cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &engine));
    if (status == ST_OK)
        status =
            cudnn_dl_check(cx, l, "cudnnBackendGetAttribute",
                           l->dnn.cudnnBackendGetAttribute(
                               engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                               CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &n, note));
    drop(l, engine);
    *exact = true;
    for (int64_t i = 0; i < n && status == ST_OK; i++)
        *exact &= note[i] == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP;
    return status;
}

static Status plan_make(Ctx *cx, const Lib *l, Desc config, Desc *plan, int64_t *workspace)
{
    int64_t n = 0;
    TRY(make(cx, l, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, plan));
    TRY(set(cx, l, *plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &l->handle));
    TRY(set_desc(cx, l, *plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config));
    TRY(finalize(cx, l, *plan));
    return cudnn_dl_check(cx, l, "cudnnBackendGetAttribute",
                          l->dnn.cudnnBackendGetAttribute(*plan,
                                                          CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                                          CUDNN_TYPE_INT64, 1, &n, workspace));
}

/* Takes the first of the configurations that does; p->plan stays NULL when none does, and *cx says
 * what the last one lacked. */
static void take_first(Ctx *cx, const Lib *l, Desc *config, int64_t n, Plan *p, CallPlan *out)
{
    int64_t workspace = 0;
    for (int64_t i = 0; i < n && !p->plan; i++) {
        bool exact;
        if (is_exact(cx, l, config[i], &exact) != ST_OK)
            continue;
        Desc plan = NULL;
        if (!exact) {
            status_fail(cx, ST_ENV, "no engine computes in f32 and in a fixed order");
        } else if (plan_make(cx, l, config[i], &plan, &workspace) == ST_OK) {
            if (workspace > MOST_WORKSPACE)
                status_fail(cx, ST_ENV, "its engine wants %lld bytes of workspace",
                            (long long)workspace);
            else
                p->plan = plan;
        }
        if (p->plan) {
            p->config = config[i];
            config[i] = NULL;
            out->workspace = p->weight + workspace;
            snprintf(out->text, sizeof out->text, "engine %lld of %lld", (long long)i + 1,
                     (long long)n);
        } else {
            drop(l, plan);
        }
    }
}

/* What one of the heuristics names. */
static Status ask(Ctx *cx, const Lib *l, cudnnBackendHeurMode_t mode, Plan *p, CallPlan *out)
{
    Desc heur = NULL, config[MOST_ENGINES] = { NULL };
    int64_t n = 0;
    Status status = make(cx, l, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, &heur);
    if (status == ST_OK)
        status = set_desc(cx, l, heur, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, p->graph);
    if (status == ST_OK)
        status = set(cx, l, heur, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (status == ST_OK)
        status = finalize(cx, l, heur);
    for (int i = 0; i < MOST_ENGINES && status == ST_OK; i++)
        status = make(cx, l, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[i]);
    if (status == ST_OK)
        status = cudnn_dl_check(cx, l, "cudnnBackendGetAttribute",
                                l->dnn.cudnnBackendGetAttribute(heur, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                                CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                                                MOST_ENGINES, &n, config));
    if (status == ST_OK)
        take_first(cx, l, config, n, p, out);
    for (int i = 0; i < MOST_ENGINES; i++)
        drop(l, config[i]);
    drop(l, heur);
    return status;
}

static Status choose(Ctx *cx, const Lib *l, Plan *p, CallPlan *out)
{
    static const cudnnBackendHeurMode_t mode[] = { CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK };
    status_fail(cx, ST_ENV, "the heuristics name no engine");
    Status status = ST_OK;
    for (int i = 0; i < 2 && !p->plan; i++)
        status = ask(cx, l, mode[i], p, out);
    return p->plan ? ST_OK : status != ST_OK ? status : ST_ENV;
}

/* ------------------------------------------------------------ a plan */

static void plan_free(const Lib *l, Plan *p)
{
    const Desc made[] = { p->plan, p->config, p->graph, p->op, p->convolution, p->x, p->w, p->y };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        drop(l, made[i]);
    if (p->ours)
        l->dnn.cudnnDestroyTensorDescriptor(p->ours);
    if (p->theirs)
        l->dnn.cudnnDestroyTensorDescriptor(p->theirs);
    free(p);
}

static Status lib_prepare(Ctx *cx, void *lib, const LibraryCall *call, CallPlan *out)
{
    Plan *p = calloc(1, sizeof *p);
    if (!p)
        return FAIL(cx, MEMORY, "no memory for a plan");
    p->conv = call->as.conv;
    p->nin = (int32_t)call->body->ninput;
    Status status = tensors_make(cx, lib, p);
    if (status == ST_OK)
        status = convolution_make(cx, lib, p);
    if (status == ST_OK)
        status = operation_make(cx, lib, p);
    if (status == ST_OK)
        status = graph_make(cx, lib, p);
    if (status == ST_OK)
        status = choose(cx, lib, p, out);
    if (status != ST_OK) {
        plan_free(lib, p);
        return status;
    }
    out->own = p;
    return ST_OK;
}

static void lib_release(void *lib, CallPlan *plan)
{
    plan_free(lib, plan->own);
}

/* ------------------------------------------------------------ a call */

static float *place(const Plan *p, const CallTensor *t, void *const *arg)
{
    return (float *)arg[t->arg < 0 ? p->nin : t->arg] + t->offset;
}

static Status copy(Ctx *cx, const Lib *l, cudnnTensorDescriptor_t from_desc, const void *from,
                   cudnnTensorDescriptor_t to_desc, void *to)
{
    const float one = 1, zero = 0;
    return cudnn_dl_check(
        cx, l, "cudnnTransformTensor",
        l->dnn.cudnnTransformTensor(l->handle, &one, from_desc, from, &zero, to_desc, to));
}

static Status execute(Ctx *cx, const Lib *l, const Plan *p, void *x, void *w, void *y,
                      void *workspace)
{
    static const int64_t uid[] = { UID_X, UID_W, UID_Y };
    void *at[] = { x, w, y };
    Desc pack = NULL;
    TRY(make(cx, l, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack));
    Status status =
        set(cx, l, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, at);
    if (status == ST_OK)
        status = set(cx, l, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, uid);
    if (status == ST_OK)
        status =
            set(cx, l, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (status == ST_OK)
        status = finalize(cx, l, pack);
    if (status == ST_OK)
        status = cudnn_dl_check(cx, l, "cudnnBackendExecute",
                                l->dnn.cudnnBackendExecute(l->handle, p->plan, pack));
    drop(l, pack);
    return status;
}

static Status lib_enqueue(Ctx *cx, void *lib, const CallPlan *plan, CUstream stream,
                          void *const *arg)
{
    const Lib *l = lib;
    const Plan *p = plan->own;
    const CallConv *c = &p->conv;
    char *workspace = arg[p->nin + 1];
    float *lies = place(p, &c->w, arg);
    void *w = p->copies ? (void *)workspace : (void *)lies;
    TRY(cudnn_dl_check(cx, l, "cudnnSetStream", l->dnn.cudnnSetStream(l->handle, stream)));
    if (p->copies && c->kind != CONV_WEIGHT)
        TRY(copy(cx, l, p->ours, lies, p->theirs, w));
    TRY(execute(cx, l, p, place(p, &c->x, arg), w, place(p, &c->y, arg), workspace + p->weight));
    if (p->copies && c->kind == CONV_WEIGHT)
        TRY(copy(cx, l, p->theirs, w, p->ours, lies));
    return ST_OK;
}

const CallOps call_cudnn = { cudnn_dl_create, cudnn_dl_destroy, cudnn_dl_name,
                             lib_prepare,     lib_release,      lib_enqueue };
