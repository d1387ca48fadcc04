/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_CALL_OPS_H
#define GTC_RUNTIME_CALL_OPS_H

#include "runtime/call.h"
#include "runtime/cuda_dl.h"

/* What a library made of a call: all that it takes to enqueue it again and again. */
typedef struct CallPlan {
    const LibraryCall *call;
    int64_t workspace; /* bytes of device memory that each call may write to */
    char text[96];     /* what was chosen, for people; may be "" */
    void *own;         /* the library's */
} CallPlan;

/* A library, or the host in its place.  Each call reports what the library answers; ST_ENV is a
 * reason to do without it. */
typedef struct CallOps {
    /* Finds and loads it; *lib is its handle on the current context. */
    Status (*open)(Ctx *cx, void **lib);
    void (*close)(void *lib);
    /* "cublasLt 13.1" */
    void (*name)(const void *lib, char *buf, size_t n);
    /* Chooses how, and copies what enqueue needs of the call, which goes soon after. */
    Status (*prepare)(Ctx *cx, void *lib, const LibraryCall *call, CallPlan *out);
    void (*release)(void *lib, CallPlan *plan);
    /* Puts it into the stream, which may be capturing.  arg: inputs, outputs, workspace. */
    Status (*enqueue)(Ctx *cx, void *lib, const CallPlan *plan, CUstream stream, void *const *arg);
} CallOps;

extern const CallOps call_cublaslt, call_cudnn, call_cudnn_rnn;

/* By CallLibrary; NULL: not there. */
extern const CallOps *const call_cuda[CALL_LIBRARIES], *const call_simt[CALL_LIBRARIES];

#endif
