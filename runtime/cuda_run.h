/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_CUDA_RUN_H
#define GTC_RUNTIME_CUDA_RUN_H

#include "runtime/cuda_dl.h"
#include "runtime/device.h"

/* The stream on which everything happens; of the device. */
typedef struct CudaQueue {
    const CudaDriver *cu;
    CUcontext context;
    CUstream stream;
    const struct Os *os; /* for memory of the host */
} CudaQueue;

/* What a kernel became: its launches, in order; n is 0 where it must be interpreted. */
typedef struct CudaCode {
    CUmodule module; /* NULL: another kernel's, which has the same text */
    CUfunction *fn;
    const Launch *launch;
    int n;
    struct CudaCall *call; /* a library does it; NULL: the launches do */
} CudaCode;

/* The code of one program, and what its first run made of its steps. */
typedef struct CudaModule {
    Arena *arena;
    CudaCode *code;
    int ncode;
    struct CudaCall **call; /* each once */
    unsigned ncall, call_cap;
    struct CudaParts *parts;
} CudaModule;

/* See DeviceOps.run, wait. */
Status cuda_run(Ctx *cx, const CudaQueue *q, CudaModule *m, const Schedule *s, int slot,
                double *ms);
Status cuda_run_wait(Ctx *cx, const CudaQueue *q, const CudaModule *m, int slot);
/* Waits for all runs and gives back what they have made; not the code. */
void cuda_run_end(const CudaQueue *q, CudaModule *m);

/* Makes the queue's context that of the calling thread. */
Status cuda_enter(Ctx *cx, const CudaQueue *q);

#endif
