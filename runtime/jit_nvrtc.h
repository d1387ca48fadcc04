/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_JIT_NVRTC_H
#define GTC_RUNTIME_JIT_NVRTC_H

#include "runtime/jit_image.h"
#include "runtime/nvrtc_dl.h"

/* Kernels' CUDA text becomes CUBIN, or PTX, by NVRTC. */
typedef struct JitNvrtc JitNvrtc;

/* The -arch for a GPU of that compute capability (86: 8.6): "sm_86", "sm_90a"; "compute_89" where
 * the compiler is older than the GPU, so that it makes PTX, which the driver compiles.  ST_ENV when
 * it has dropped the GPU. */
Status jit_nvrtc_arch(Ctx *cx, const Nvrtc *n, int capability, char arch[32]);

/* What is found (nvrtc_dl_open) is copied. */
Status jit_nvrtc_open(Ctx *cx, const Nvrtc *found, const char *arch, JitNvrtc **out);
void jit_nvrtc_close(JitNvrtc *j);                    /* NULL is fine */
const ImageMaker *jit_nvrtc_maker(const JitNvrtc *j); /* lives as long as j */

#endif
