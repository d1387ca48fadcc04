/* SPDX-License-Identifier: Apache-2.0 */
/* simt_call: the host in a library's place.
 *
 * Its calls are work on the host driver's streams like any other, late, captured into graphs, seen
 * by the shadow.  What they compute is the body, by the evaluator.  Each of its functions counts as
 * a call of the driver and may be made to fail by its number. */
#include "runtime/call_ops.h"
#include "runtime/simt_driver_state.h"

#include <stdio.h>

enum { WORKSPACE = 1024 }; /* so that there is some: it is filled with NaN */

static Status answer(Ctx *cx, const char *what, CUresult r)
{
    return r == CUDA_SUCCESS ? ST_OK
                             : FAIL(cx, ENV, "the host in a library's place: %s: %d", what, r);
}

static Status count_call(Ctx *cx, const char *what)
{
    SimtDriver *d;
    const CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    return answer(cx, what, simt_driver_leave(d, r));
}

static Status open_named(Ctx *cx, const char *name, void **lib)
{
    TRY(count_call(cx, "open"));
    *lib = (void *)(uintptr_t)name;
    return ST_OK;
}

static Status open_cublaslt(Ctx *cx, void **lib)
{
    return open_named(cx, "cublasLt (played by the host)", lib);
}

static Status open_cudnn(Ctx *cx, void **lib)
{
    return open_named(cx, "cudnn (played by the host)", lib);
}

static void close_lib(void *lib)
{
    (void)lib;
}

static void name_lib(const void *lib, char *buf, size_t n)
{
    snprintf(buf, n, "%s", (const char *)lib);
}

static Status prepare(Ctx *cx, void *lib, const LibraryCall *call, CallPlan *out)
{
    (void)lib;
    TRY(count_call(cx, "prepare"));
    Graph *body = graph_new(arena_new());
    const Status status = graph_copy(cx, call->body, body);
    if (status != ST_OK) {
        arena_free(body->arena);
        return status;
    }
    out->own = body;
    out->workspace = WORKSPACE;
    return ST_OK;
}

static void release(void *lib, CallPlan *plan)
{
    Graph *body = plan->own;
    (void)lib;
    arena_free(body->arena);
}

static Status enqueue(Ctx *cx, void *lib, const CallPlan *plan, CUstream handle, void *const *arg)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    CUstream s = r == CUDA_SUCCESS ? simt_stream_known(d, handle) : NULL;
    Task t = { .kind = TASK_NONE };
    (void)lib;
    if (r == CUDA_SUCCESS)
        r = s ? simt_task_call(d, &t, plan->own, arg, WORKSPACE) : CUDA_ERROR_INVALID_HANDLE;
    if (r == CUDA_SUCCESS)
        r = simt_stream_task(d, s, &t);
    return answer(cx, "enqueue", simt_driver_leave(d, r));
}

static const CallOps cublaslt = { open_cublaslt, close_lib, name_lib, prepare, release, enqueue },
                     cudnn = { open_cudnn, close_lib, name_lib, prepare, release, enqueue };

const CallOps *const call_simt[CALL_LIBRARIES] = {
    [CALL_CUBLASLT] = &cublaslt, [CALL_CUDNN] = &cudnn, [CALL_CUDNN_RNN] = &cudnn
};
