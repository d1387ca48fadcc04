/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cuda_kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "passes/pass.h"
#include "runtime/device.h"

Target middling_gpu(void)
{
    return (Target){ .lanes = 1,
                     .threads = 64,
                     .smem_bytes = 48 << 10,
                     .most_args = 510,
                     .launch_ops = 3e8,
                     .refuse = kernel_refuse_cuda };
}

Target gpu_of(const char *arch)
{
    Ctx cx;
    GtcDevice *d;
    ctx_init(&cx);
    if (gtc_device_open_arch(&cx, arch, &d) != ST_OK)
        return middling_gpu();
    const Target t = d->target;
    gtc_device_close(d);
    return t;
}

int cuda_kernels_for(Ctx *cx, Arena *arena, const Target *t, const Graph *g, Kernel **out)
{
    const PassOptions opt = { .level = LEVEL_default };
    const Graph *fused = NULL;
    int n = 0;
    if (pass_run(cx, arena, t, &opt, g, &fused) != ST_OK)
        fail_msg("passes: %s", cx->msg);
    Kernel *k = *out = arena_array(arena, Kernel, fused->nnode);
    for (Ref r = 1; r < fused->nnode; r++)
        if (fused->node[r].op == OP_fusion &&
            kernel_build_cuda(cx, arena, t, fused, r, &k[n++]) != ST_OK)
            fail_msg("kernel: %s", cx->msg);
    return n;
}

int cuda_kernels(Ctx *cx, Arena *arena, const Graph *g, Kernel **out)
{
    const Target t = middling_gpu();
    return cuda_kernels_for(cx, arena, &t, g, out);
}
