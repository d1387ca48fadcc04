/* SPDX-License-Identifier: Apache-2.0 */
/* cudnn_dl: cuDNN, found and loaded. */
#include "runtime/cudnn_dl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"
#include "runtime/cuda_place.h"

Status cudnn_dl_open(Ctx *cx, Cudnn *dnn)
{
    memset(dnn, 0, sizeof *dnn);
    void *lib = cuda_place_load(cx, "libcudnn.so.9", dnn->path, sizeof dnn->path);
    if (!lib)
        return FAIL(
            cx, ENV,
            "cudnn: not found (libcudnn.so.9): install cuDNN 9, or set GTC_CUDA_PATH to the "
            "folder that holds it");
#define CUDNN_CALL(result, name, args)                                                             \
    void *sym_##name = cx->os->dlsym(lib, #name);                                                  \
    if (!sym_##name)                                                                               \
        return FAIL(cx, ENV, "cudnn: %s has no %s: it is no cuDNN 9", dnn->path, #name);           \
    memcpy(&dnn->name, &sym_##name, sizeof sym_##name); /* C has no cast for this */
    CUDNN_CALLS(CUDNN_CALL)
#undef CUDNN_CALL
    dnn->version = dnn->cudnnGetVersion();
    return ST_OK;
}

Status cudnn_dl_check(Ctx *cx, const CudnnLib *l, const char *call, cudnnStatus_t r)
{
    if (r == CUDNN_STATUS_SUCCESS)
        return ST_OK;
    return FAIL(cx, ENV, "%s: %s (%d)", call, l->dnn.cudnnGetErrorString(r), r);
}

void cudnn_dl_destroy(void *lib)
{
    CudnnLib *l = lib;
    if (l->handle)
        l->dnn.cudnnDestroy(l->handle);
    free(l);
}

Status cudnn_dl_create(Ctx *cx, void **lib)
{
    CudnnLib *l = calloc(1, sizeof *l);
    if (!l)
        return FAIL(cx, MEMORY, "no memory for cudnn");
    Status status = cudnn_dl_open(cx, &l->dnn);
    if (status == ST_OK)
        status = cudnn_dl_check(cx, l, "cudnnCreate", l->dnn.cudnnCreate(&l->handle));
    if (status != ST_OK) {
        cudnn_dl_destroy(l);
        return status;
    }
    *lib = l;
    return ST_OK;
}

void cudnn_dl_name(const void *lib, char *buf, size_t n)
{
    const size_t version = ((const CudnnLib *)lib)->dnn.version;
    snprintf(buf, n, "cudnn %zu.%zu", version / 10000, version % 10000 / 100);
}
