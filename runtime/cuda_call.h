/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_CUDA_CALL_H
#define GTC_RUNTIME_CUDA_CALL_H

#include "runtime/call_ops.h"
#include "runtime/cuda_run.h"

/* The libraries of a device, opened when a program first wants one. */
typedef struct CudaCalls {
    const CallOps *const *ops; /* by CallLibrary */
    void *lib[CALL_LIBRARIES];
    bool tried[CALL_LIBRARIES];
} CudaCalls;

/* A call that is ready. */
typedef struct CudaCall {
    const CallOps *ops;
    void *lib;
    CallPlan plan;
} CudaCall;

/* Prepares the library calls among the kernels and tries each out: once as it is, once captured.
 * code[i] of one that is ready becomes CODE_CALL and m->code[i] has it; what is refused is said
 * aloud, and its own kernel is taken.  Fails with ST_MEMORY only. */
Status cuda_call_load(Ctx *cx, CudaCalls *c, GtcDevice *d, const CudaQueue *q, const LoadCall *call,
                      CudaModule *m, Code *code);
/* Gives back what load has made. */
void cuda_call_unload(CudaModule *m);
void cuda_call_close(CudaCalls *c);

/* What the call puts into the stream, as a graph of its own. */
Status cuda_call_capture(Ctx *cx, const CudaQueue *q, const CudaCall *call, void *const *arg,
                         CUgraph *out);

#endif
