/* SPDX-License-Identifier: Apache-2.0 */
/* The prelude of generated C: prelude_c.inc after a line that says how many lanes a vector has; and
 * that of generated CUDA C, prelude_cuda.inc, in which whatever is not plain C has two bodies, one
 * for NVRTC and one for the host that runs CUDA threads as fibers.
 *
 * It includes nothing (a header of intrinsics costs more than a kernel), and everything in it is
 * inlined or, off the beaten track, static, so that only what a kernel uses is compiled.  No
 * function of libm is called: gcc and clang would call the scalar ones in a loop.  A scalar
 * function is lane 0 of the vector one, so results do not depend on where a row's tail begins.
 * All of it survives contraction of products and sums into fma in any places, or none. */
#include "codegen/kernel.h"

#define PRELUDE(lanes) "#define GTC_LANES " #lanes "\n"

const char *kernel_prelude_c(int lanes)
{
    static const char *const TEXT[3] = { PRELUDE(4)
#include "codegen/prelude_c.inc"
                                             ,
                                         PRELUDE(8)
#include "codegen/prelude_c.inc"
                                             ,
                                         PRELUDE(16)
#include "codegen/prelude_c.inc"
    };
    gtc_assert(lanes == 4 || lanes == 8 || lanes == 16, "vectors of %d lanes", lanes);
    return TEXT[lanes / 8];
}

const char *kernel_prelude_cuda(void)
{
    static const char TEXT[] =
#include "codegen/prelude_cuda.inc"
        ;
    return TEXT;
}
