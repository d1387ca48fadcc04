/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TESTS_NVRTC_GATE_H
#define GTC_TESTS_NVRTC_GATE_H

#include "tests/nvrtc_case.h"

/* That NVRTC takes a test's kernels, for sm_80 and sm_90a, without a warning, and no thread spills.
 * A failure ends the test. */
typedef struct NvrtcGate {
    Nvrtc nvrtc;
    Cache *cache;
    NvrtcTotals t;
    int kernels;
} NvrtcGate;

void nvrtc_gate_open(NvrtcGate *g); /* skips the test, and says why, where there is no NVRTC */
void nvrtc_gate_take(NvrtcGate *g, const char *what, const Kernel *k);
void nvrtc_gate_close(NvrtcGate *g);

#endif
