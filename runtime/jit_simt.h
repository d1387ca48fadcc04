/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_JIT_SIMT_H
#define GTC_RUNTIME_JIT_SIMT_H

#include "runtime/cc.h"
#include "runtime/jit_image.h"

/* Kernels' CUDA text becomes shared objects for the host runner, by the system's C compiler. */
typedef struct JitSimt JitSimt;

/* shadow: code whose accesses the runner watches.  ST_ENV when there is no C compiler. */
Status jit_simt_open(Ctx *cx, Cache *cache, bool shadow, JitSimt **out);
void jit_simt_close(JitSimt *j);                    /* NULL is fine */
const ImageMaker *jit_simt_maker(const JitSimt *j); /* lives as long as j */

#endif
