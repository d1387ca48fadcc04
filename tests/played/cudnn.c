/* SPDX-License-Identifier: Apache-2.0 */
/* A cuDNN for tests: the calls of runtime/cudnn_dl.h on the host, at once; recurrent layers are in
 * cudnn_rnn.c.  Descriptors keep what
 * they are given and refuse what is missing or of the wrong type.  The heuristic names three
 * engines: the first has tensor cores, the second takes nothing, the third computes; for 13 results
 * there is the first only. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/cudnn_dl.h"

#define PROTOTYPE(result, name, args) result name args;
CUDNN_CALLS(PROTOTYPE)

enum { WORKSPACE = 512, FAILED = 2000, ATTRS = 16, MOST = 8, ENGINES = 3, REFUSED = 13, DIMS = 5 };

typedef struct Attr {
    int name, type;
    int64_t n;
    union {
        int64_t i[MOST];
        int e[MOST];
        float f;
        void *p[MOST];
    } v;
} Attr;

typedef struct Descriptor {
    int type, nattr, engine;
    bool done;
    Attr attr[ATTRS];
    struct Descriptor *from; /* of a configuration: the graph, of a plan: the configuration */
} Descriptor;

struct cudnnTensorStruct {
    int n, dim[DIMS], stride[DIMS];
};

size_t cudnnGetVersion(void)
{
    return 98700;
}

const char *cudnnGetErrorString(cudnnStatus_t s)
{
    return s == CUDNN_STATUS_NOT_SUPPORTED ? "CUDNN_STATUS_NOT_SUPPORTED" : "CUDNN_STATUS_OTHER";
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *out)
{
    *out = malloc(1);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t h)
{
    free(h);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t s)
{
    (void)s;
    return h ? CUDNN_STATUS_SUCCESS : FAILED;
}

/* ------------------------------------------------------------ copies */

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *out)
{
    *out = calloc(1, sizeof **out);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d)
{
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t d, cudnnDataType_t type, int n,
                                         const int *dim, const int *stride)
{
    if (type != CUDNN_DATA_FLOAT || n < 3 || n > DIMS)
        return FAILED;
    d->n = n;
    for (int i = 0; i < n; i++) {
        d->dim[i] = dim[i];
        d->stride[i] = stride[i];
        if (dim[i] < 1 || stride[i] < 1)
            return FAILED;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t d, int most,
                                         cudnnDataType_t *type, int *n, int *dim, int *stride)
{
    *type = CUDNN_DATA_FLOAT;
    *n = d->n;
    for (int i = 0; i < d->n && i < most; i++) {
        dim[i] = d->dim[i];
        stride[i] = d->stride[i];
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnTransformTensor(cudnnHandle_t h, const void *alpha,
                                   const cudnnTensorDescriptor_t from, const void *x,
                                   const void *beta, const cudnnTensorDescriptor_t to, void *y)
{
    int64_t count = 1;
    if (!h || from->n != to->n || *(const float *)alpha != 1 || *(const float *)beta != 0)
        return FAILED;
    for (int i = 0; i < from->n; i++) {
        if (from->dim[i] != to->dim[i])
            return FAILED;
        count *= from->dim[i];
    }
    for (int64_t k = 0; k < count; k++) {
        int64_t left = k, a = 0, b = 0;
        for (int i = from->n - 1; i >= 0; i--) {
            a += left % from->dim[i] * from->stride[i];
            b += left % from->dim[i] * to->stride[i];
            left /= from->dim[i];
        }
        ((float *)y)[b] = ((const float *)x)[a];
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor(cudnnHandle_t h, const cudnnTensorDescriptor_t d, void *y,
                             const void *value)
{
    int64_t reach = 1;
    for (int i = d->n - 1; i >= 0; i--) {
        if (d->dim[i] > 1 && d->stride[i] != reach)
            return FAILED; /* it can more, and nobody asks for it */
        reach *= d->dim[i];
    }
    for (int64_t i = 0; i < reach; i++)
        ((float *)y)[i] = *(const float *)value;
    return h ? CUDNN_STATUS_SUCCESS : FAILED;
}

/* ------------------------------------------------------------ descriptors */

static const Attr *find(const Descriptor *d, int name)
{
    for (int i = 0; i < d->nattr; i++)
        if (d->attr[i].name == name)
            return &d->attr[i];
    return NULL;
}

static Descriptor *part(const Descriptor *d, int name)
{
    const Attr *a = find(d, name);
    return a ? a->v.p[0] : NULL;
}

static int type_of(int name)
{
    switch (name) {
    case CUDNN_ATTR_CONVOLUTION_COMP_TYPE:
    case CUDNN_ATTR_TENSOR_DATA_TYPE:
        return CUDNN_TYPE_DATA_TYPE;
    case CUDNN_ATTR_CONVOLUTION_CONV_MODE:
        return CUDNN_TYPE_CONVOLUTION_MODE;
    case CUDNN_ATTR_ENGINEHEUR_MODE:
        return CUDNN_TYPE_HEUR_MODE;
    case CUDNN_ATTR_EXECUTION_PLAN_HANDLE:
    case CUDNN_ATTR_OPERATIONGRAPH_HANDLE:
        return CUDNN_TYPE_HANDLE;
    case CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS:
    case CUDNN_ATTR_VARIANT_PACK_WORKSPACE:
        return CUDNN_TYPE_VOID_PTR;
    case CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA:
    case CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA:
    case CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA:
    case CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA:
    case CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA:
    case CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA:
        return CUDNN_TYPE_FLOAT;
    default:
        return (name >= 100 && name < 200) || (name >= 900 && name < 1200)
                   ? CUDNN_TYPE_INT64
                   : CUDNN_TYPE_BACKEND_DESCRIPTOR;
    }
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t *out)
{
    Descriptor *d = *out = calloc(1, sizeof *d);
    d->type = type;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t desc,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t n,
                                       const void *value)
{
    Descriptor *d = desc;
    if (d->done || d->nattr == ATTRS || n < 1 || n > MOST || type != type_of(name) || find(d, name))
        return FAILED;
    Attr *a = &d->attr[d->nattr++];
    a->name = name;
    a->type = type;
    a->n = n;
    const bool wide = type == CUDNN_TYPE_INT64 || type == CUDNN_TYPE_VOID_PTR ||
                      type == CUDNN_TYPE_HANDLE || type == CUDNN_TYPE_BACKEND_DESCRIPTOR;
    memcpy(&a->v, value, (size_t)n * (wide ? 8 : 4));
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR && !((Descriptor *)a->v.p[0])->done)
        return FAILED;
    return CUDNN_STATUS_SUCCESS;
}

static bool has(const Descriptor *d, const int *names, int n)
{
    for (int i = 0; i < n; i++)
        if (!find(d, names[i]))
            return false;
    return d->nattr == n;
}

#define HAS(...)                                                                                   \
    has(d, (const int[]){ __VA_ARGS__ }, sizeof((const int[]){ __VA_ARGS__ }) / sizeof(int))

static bool whole(const Descriptor *d)
{
    switch (d->type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR:
        return HAS(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_ATTR_TENSOR_DIMENSIONS,
                   CUDNN_ATTR_TENSOR_STRIDES, CUDNN_ATTR_TENSOR_UNIQUE_ID,
                   CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR:
        return HAS(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_ATTR_CONVOLUTION_CONV_MODE,
                   CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES,
                   CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS,
                   CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
        return HAS(700, 701, 702, 703, 704, 705);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
        return HAS(712, 713, 714, 715, 716, 717);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
        return HAS(706, 707, 708, 709, 710, 711);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return HAS(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        return HAS(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_ATTR_ENGINEHEUR_MODE);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        return HAS(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        return HAS(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS,
                   CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    default:
        return false;
    }
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t desc)
{
    Descriptor *d = desc;
    if (d->done || !whole(d))
        return FAILED;
    if (d->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR &&
        part(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->engine != ENGINES - 1)
        return CUDNN_STATUS_NOT_SUPPORTED;
    d->done = true;
    return CUDNN_STATUS_SUCCESS;
}

/* ------------------------------------------------------------ a convolution */

typedef struct Conv {
    bool weight, image, flipped;
    int n;
    const int64_t *xd, *xs, *wd, *ws, *yd, *ys; /* dimensions and strides */
    const int64_t *before, *after, *dilation, *stride;
    int64_t align[3], uid[3];
} Conv;

static const int64_t *numbers(const Descriptor *d, int name)
{
    return find(d, name)->v.i;
}

static Conv conv_of(const Descriptor *op)
{
    enum { CONVOLUTION, X, W, Y };
    static const int names[3][4] = {
        { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y },
        { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY },
        { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY }
    };
    const bool weight = op->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
    const bool image = op->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
    const int *name = names[weight ? 1 : image ? 2 : 0];
    const Descriptor *c = part(op, name[CONVOLUTION]), *x = part(op, name[X]),
                     *w = part(op, name[W]), *y = part(op, name[Y]);
    const Descriptor *t[] = { x, w, y };
    Conv v = { .weight = weight,
               .image = image,
               .flipped = find(c, CUDNN_ATTR_CONVOLUTION_CONV_MODE)->v.e[0] == CUDNN_CONVOLUTION,
               .n = (int)numbers(c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS)[0],
               .xd = numbers(x, CUDNN_ATTR_TENSOR_DIMENSIONS),
               .xs = numbers(x, CUDNN_ATTR_TENSOR_STRIDES),
               .wd = numbers(w, CUDNN_ATTR_TENSOR_DIMENSIONS),
               .ws = numbers(w, CUDNN_ATTR_TENSOR_STRIDES),
               .yd = numbers(y, CUDNN_ATTR_TENSOR_DIMENSIONS),
               .ys = numbers(y, CUDNN_ATTR_TENSOR_STRIDES),
               .before = numbers(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
               .after = numbers(c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS),
               .dilation = numbers(c, CUDNN_ATTR_CONVOLUTION_DILATIONS),
               .stride = numbers(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES) };
    for (int i = 0; i < 3; i++) {
        v.align[i] = numbers(t[i], CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)[0];
        v.uid[i] = numbers(t[i], CUDNN_ATTR_TENSOR_UNIQUE_ID)[0];
    }
    return v;
}

/* What cuDNN documents, and that channels are last in all three. */
static bool fits(const Conv *c)
{
    bool ok = c->xd[0] == c->yd[0] && c->xd[1] == c->wd[1] && c->wd[0] == c->yd[1] &&
              (c->xd[1] == 1 || (c->xs[1] == 1 && c->ws[1] == 1)) &&
              (c->yd[1] == 1 || c->ys[1] == 1);
    for (int i = 0; i < c->n; i++)
        ok = ok && c->yd[2 + i] == 1 + (c->xd[2 + i] + c->before[i] + c->after[i] -
                                        ((c->wd[2 + i] - 1) * c->dilation[i] + 1)) /
                                           c->stride[i];
    return ok;
}

/* The index of place k of n axes of these extents. */
static void unfold(int64_t k, int n, const int64_t *extent, int64_t *at)
{
    for (int i = n - 1; i >= 0; i--) {
        at[i] = k % extent[i];
        k /= extent[i];
    }
}

static int64_t product(int n, const int64_t *extent)
{
    int64_t all = 1;
    for (int i = 0; i < n; i++)
        all *= extent[i];
    return all;
}

/* x and w of place i of y and place k of the window; false: in the padding. */
static bool places(const Conv *c, const int64_t *i, const int64_t *k, int64_t *x, int64_t *w)
{
    *x = *w = 0;
    for (int d = 0; d < c->n; d++) {
        const int64_t at = i[d] * c->stride[d] + k[d] * c->dilation[d] - c->before[d];
        if (at < 0 || at >= c->xd[2 + d])
            return false;
        *x += at * c->xs[2 + d];
        *w += (c->flipped ? c->wd[2 + d] - 1 - k[d] : k[d]) * c->ws[2 + d];
    }
    return true;
}

static void compute(const Conv *c, const float *x, float *w, float *y)
{
    const int64_t ni = product(c->n, c->yd + 2), nk = product(c->n, c->wd + 2);
    int64_t i[DIMS], k[DIMS], px, pw;
    const int64_t nout = c->weight ? c->wd[0] * nk * c->wd[1] : c->yd[0] * ni * c->yd[1];
    for (int64_t o = 0; o < nout; o++) {
        const int64_t third = o % (c->weight ? c->wd[1] : c->yd[1]),
                      rest = o / (c->weight ? c->wd[1] : c->yd[1]);
        const int64_t second = rest % (c->weight ? nk : ni), first = rest / (c->weight ? nk : ni);
        const int64_t results = c->weight ? first : third, rows = c->yd[0];
        double sum = 0;
        int64_t where = 0;
        unfold(second, c->n, (c->weight ? c->wd : c->yd) + 2, c->weight ? k : i);
        for (int64_t b = c->weight ? 0 : first; b < (c->weight ? rows : first + 1); b++)
            for (int64_t q = 0; q < (c->weight ? ni : nk); q++) {
                unfold(q, c->n, (c->weight ? c->yd : c->wd) + 2, c->weight ? i : k);
                if (!places(c, i, k, &px, &pw))
                    continue;
                int64_t py = b * c->ys[0] + results * c->ys[1];
                for (int d = 0; d < c->n; d++)
                    py += i[d] * c->ys[2 + d];
                px += b * c->xs[0];
                pw += results * c->ws[0];
                if (c->weight)
                    sum += (double)x[px + third * c->xs[1]] * (double)y[py];
                for (int64_t ch = 0; ch < c->xd[1] && !c->weight; ch++)
                    sum += (double)x[px + ch * c->xs[1]] * (double)w[pw + ch * c->ws[1]];
            }
        where = c->weight ? results * c->ws[0] + third * c->ws[1]
                          : first * c->ys[0] + results * c->ys[1];
        for (int d = 0; d < c->n; d++)
            where += c->weight ? (c->flipped ? c->wd[2 + d] - 1 - k[d] : k[d]) * c->ws[2 + d]
                               : i[d] * c->ys[2 + d];
        (c->weight ? w : y)[where] = (float)sum;
    }
}

/* The gradient of x, place by place. */
static void compute_image(const Conv *c, float *x, const float *w, const float *y)
{
    const int64_t ni = product(c->n, c->yd + 2), nk = product(c->n, c->wd + 2),
                  nx = product(c->n, c->xd + 2);
    int64_t i[DIMS], k[DIMS], at[DIMS], px, pw;
    for (int64_t o = 0; o < c->xd[0] * nx * c->xd[1]; o++) {
        const int64_t ch = o % c->xd[1], b = o / c->xd[1] / nx;
        int64_t where = 0;
        double sum = 0;
        unfold(o / c->xd[1] % nx, c->n, c->xd + 2, at);
        for (int d = 0; d < c->n; d++)
            where += at[d] * c->xs[2 + d];
        for (int64_t q = 0; q < ni * nk; q++) {
            unfold(q / nk, c->n, c->yd + 2, i);
            unfold(q % nk, c->n, c->wd + 2, k);
            if (!places(c, i, k, &px, &pw) || px != where)
                continue;
            int64_t py = b * c->ys[0];
            for (int d = 0; d < c->n; d++)
                py += i[d] * c->ys[2 + d];
            for (int64_t r = 0; r < c->wd[0]; r++)
                sum += (double)y[py + r * c->ys[1]] * (double)w[r * c->ws[0] + pw + ch * c->ws[1]];
        }
        x[b * c->xs[0] + where + ch * c->xs[1]] = (float)sum;
    }
}

/* ------------------------------------------------------------ engines */

static cudnnStatus_t engines_of(const Descriptor *heur, int64_t most, int64_t *n, Descriptor **out)
{
    Descriptor *graph = part(heur, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
    const Conv c = conv_of(part(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS));
    if (!fits(&c))
        return FAILED;
    *n = c.yd[1] == REFUSED ? 1 : ENGINES;
    if (find(heur, CUDNN_ATTR_ENGINEHEUR_MODE)->v.e[0] == CUDNN_HEUR_MODE_A && *n == 1)
        *n = 0;
    *n = *n < most ? *n : most;
    for (int i = 0; i < *n; i++) {
        out[i]->engine = i;
        out[i]->from = graph;
        out[i]->done = true;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t desc,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t most, int64_t *n,
                                       void *out)
{
    const Descriptor *d = desc;
    if (!d->done)
        return FAILED;
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS && type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return engines_of(d, most, n, out);
    if (name == CUDNN_ATTR_ENGINECFG_ENGINE && type == CUDNN_TYPE_BACKEND_DESCRIPTOR && most == 1) {
        (*(Descriptor **)out)->engine = d->engine;
        (*(Descriptor **)out)->done = true;
        *n = 1;
    } else if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE && type == CUDNN_TYPE_NUMERICAL_NOTE) {
        *n = 1;
        *(int *)out = d->engine == 0 ? CUDNN_NUMERICAL_NOTE_TENSOR_CORE
                                     : CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP;
    } else if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && type == CUDNN_TYPE_INT64) {
        *n = 1;
        *(int64_t *)out = WORKSPACE;
    } else {
        return FAILED;
    }
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack)
{
    const Descriptor *p = plan, *config = part(p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const Conv c = conv_of(part(config->from, CUDNN_ATTR_OPERATIONGRAPH_OPS));
    const Attr *at = find(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    void *work = find(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE)->v.p[0];
    float *tensor[3] = { NULL };
    if (!h || !p->done || !((Descriptor *)pack)->done || !work || at->n != 3)
        return FAILED;
    memset(work, 0xff, WORKSPACE);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++)
            if (numbers(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS)[k] == c.uid[i])
                tensor[i] = at->v.p[k];
    for (int i = 0; i < 3; i++)
        if (!tensor[i] || (uintptr_t)tensor[i] % (uint64_t)c.align[i])
            return FAILED;
    if (c.image)
        compute_image(&c, tensor[0], tensor[1], tensor[2]);
    else
        compute(&c, tensor[0], tensor[1], tensor[2]);
    return CUDNN_STATUS_SUCCESS;
}
