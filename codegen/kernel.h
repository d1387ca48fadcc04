/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_KERNEL_H
#define GTC_CODEGEN_KERNEL_H

#include "ir/graph.h"
#include "ir/target.h"

/* One launch: what codegen makes of a fusion node.  Plain data; equal groups give equal text.
 *
 * C calling convention:  void NAME(void *const *arg, const gtc_team *team)
 * arg[0 .. nin) the fusion's inputs, arg[nin .. nin+nout) its outputs, then the shared workspace,
 * then this call's private workspace (base of all threads; thread t owns t * private_bytes on).
 * The function may call team->barrier; every thread of the team calls the function. */
typedef struct Kernel {
    const char *name;  /* unique symbol: label and 8 hex digits of the text's hash */
    const char *label; /* "conv_bias_relu": region kind and ops */
    const char
        *source;      /* C text, without the prelude; "": no planner takes it, the evaluator does */
    const char *plan; /* the plan as text, for people */
    const char *planner; /* "cpu", "plain" (the last resort), "none" */
    uint32_t nin, nout;
    const int32_t *inplace; /* for each output: an input it may share memory with, or -1 */
    int64_t shared_bytes;   /* workspace of the launch; multiple of 64 */
    int64_t private_bytes;  /* workspace of each thread; multiple of 4096 */
    double flops, bytes;    /* estimates of one call */
    bool serial;            /* too small to share out: only thread 0 need call it */
} Kernel;

/* The text every C kernel needs in front of it, for one lane count. */
const char *kernel_prelude_c(int lanes);

/* Plans and spells the fusion node r of g as C for target.  Never refuses a verified graph; says
 * with log_say when the last-resort planner had to take it.  Memory from arena. */
Status kernel_build_c(Ctx *cx, Arena *arena, const Target *target, const Graph *g, Ref r,
                      Kernel *out);

/* The same by the last-resort planner alone: slow code, made another way, to compare with. */
Status kernel_build_plain_c(Ctx *cx, Arena *arena, const Target *target, const Graph *g, Ref r,
                            Kernel *out);

/* For Target.refuse on a CPU. */
const char *kernel_refuse_c(const Target *t, const Graph *body);

#endif
