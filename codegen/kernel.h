/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_KERNEL_H
#define GTC_CODEGEN_KERNEL_H

#include "ir/graph.h"
#include "ir/target.h"

/* A CUDA launch: `entry` of the kernel's source over a grid of one dimension. */
typedef struct Launch {
    const char *entry;
    int64_t blocks;   /* 1 .. 2^31 - 1 */
    int32_t threads;  /* of a block: a multiple of 32 */
    int32_t smem;     /* bytes of dynamic shared memory */
    bool cooperative; /* blocks wait for each other: all of them must be resident */
} Launch;

/* What codegen makes of a fusion node.  Plain data; equal groups give equal text.
 *
 * C calling convention:  void NAME(void *const *arg, const gtc_team *team)
 * arg[0 .. nin) the fusion's inputs, arg[nin .. nin+nout) its outputs, then the shared workspace,
 * then this call's private workspace (base of all threads; thread t owns t * private_bytes on).
 * The function may call team->barrier; every thread of the team calls the function.
 *
 * CUDA: the launches run one after the other.  Each takes nin + nout + 2 pointers to device memory:
 * inputs, outputs, the shared workspace, and `counters` u32, which are 0 before the first launch
 * of a program's life and which each launch leaves as the next one wants them. */
typedef struct Kernel {
    const char *name;  /* unique symbol: label and 8 hex digits of the text's hash */
    const char *label; /* "conv_bias_relu": region kind and ops */
    const char
        *source;      /* C or CUDA C text, without the prelude; "": no planner takes it, the evaluator does */
    const char *plan; /* the plan as text, for people */
    const char *planner; /* "cpu", "plain" (the last resort), "none" */
    uint32_t nin, nout;
    const int32_t *inplace; /* for each output: an input it may share memory with, or -1 */
    int64_t shared_bytes;   /* workspace of the launch; multiple of 64 */
    int64_t private_bytes;  /* workspace of each thread; multiple of 4096 */
    double flops, bytes;    /* estimates of one call */
    bool serial;            /* too small to share out: only thread 0 need call it */
    const Launch *launch;   /* CUDA: launch[0 .. nlaunch) */
    int32_t nlaunch, counters;
    const struct LibraryCall *call; /* what may be called in its place, or NULL; runtime/call.h */
} Kernel;

/* The text every C kernel needs in front of it, for one lane count. */
const char *kernel_prelude_c(int lanes);

/* The same for every CUDA kernel; NVRTC and a host C compiler take different bodies of it. */
const char *kernel_prelude_cuda(void);

/* Plans and spells the fusion node r of g as C for target.  Never refuses a verified graph; says
 * with log_say when the last-resort planner had to take it.  Memory from arena. */
Status kernel_build_c(Ctx *cx, Arena *arena, const Target *target, const Graph *g, Ref r,
                      Kernel *out);

/* The same as CUDA C, for a target with shared memory (Target.smem_bytes). */
Status kernel_build_cuda(Ctx *cx, Arena *arena, const Target *t, const Graph *g, Ref r,
                         Kernel *out);

/* The same by the last-resort planner alone: slow code, made another way, to compare with. */
Status kernel_build_plain_c(Ctx *cx, Arena *arena, const Target *target, const Graph *g, Ref r,
                            Kernel *out);
Status kernel_build_plain_cuda(Ctx *cx, Arena *arena, const Target *t, const Graph *g, Ref r,
                               Kernel *out);

/* For Target.refuse on a CPU, on a GPU. */
const char *kernel_refuse_c(const Target *t, const Graph *body);
const char *kernel_refuse_cuda(const Target *t, const Graph *body);

#endif
