/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_NVRTC_CASE_H
#define GTC_TESTS_NVRTC_CASE_H

#include "runtime/jit_nvrtc.h"

/* What NVRTC says of a program's kernels, for one architecture. */
typedef struct NvrtcTotals {
    int kernels, compiled;  /* compiled: not from the cache */
    int bad;                /* kernels that do not compile, or with a warning */
    int spilled;            /* kernels of which a thread keeps registers in memory */
    int regs, stack, spill; /* the most of any kernel; bytes */
    double ms;
} NvrtcTotals;

/* Adds n kernels to *t; with a `model`, each bad or spilling one is said on stderr.  False, and the
 * message in cx, when nothing can be compiled for arch. */
bool nvrtc_totals(Ctx *cx, Cache *cache, const Nvrtc *nvrtc, const char *arch, const char *model,
                  const Kernel *k, int n, NvrtcTotals *t);

#endif
