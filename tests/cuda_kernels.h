/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_CUDA_KERNELS_H
#define GTC_TESTS_CUDA_KERNELS_H

#include "codegen/kernel.h"

/* A middling GPU, which is not there. */
Target middling_gpu(void);

/* One of that architecture, "sm_90a"; a middling one where `gtc emit --arch` does not know it. */
Target gpu_of(const char *arch);

/* The kernels of g after all passes of the default mode, for the middling GPU or that target.  A
 * failure ends the test. */
int cuda_kernels(Ctx *cx, Arena *arena, const Graph *g, Kernel **out);
int cuda_kernels_for(Ctx *cx, Arena *arena, const Target *t, const Graph *g, Kernel **out);

#endif
