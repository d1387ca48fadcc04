/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_CUDA_KERNELS_H
#define GTC_TESTS_CUDA_KERNELS_H

#include "codegen/kernel.h"

/* A middling GPU, which is not there. */
Target middling_gpu(void);

/* The kernels of g after all passes of the default mode.  A
 * failure ends the test. */
int cuda_kernels(Ctx *cx, Arena *arena, const Graph *g, Kernel **out);

#endif
