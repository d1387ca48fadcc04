/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/nvrtc_gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char *const arch[] = { "sm_80", "sm_90a" };
enum { ARCHS = sizeof arch / sizeof *arch };

void nvrtc_gate_open(NvrtcGate *g)
{
    Ctx cx;
    *g = (NvrtcGate){ .cache = NULL };
    ctx_init(&cx);
    if (nvrtc_dl_open(&cx, 0, &g->nvrtc) != ST_OK) {
        print_message("skipped: %s\n", cx.msg);
        skip();
    }
    assert_int_equal(cache_open(&cx, &g->cache), ST_OK);
}

void nvrtc_gate_take(NvrtcGate *g, const char *what, const Kernel *k)
{
    Ctx cx;
    ctx_init(&cx);
    g->kernels++;
    for (int a = 0; a < ARCHS; a++)
        if (!nvrtc_totals(&cx, g->cache, &g->nvrtc, arch[a], what, k, 1, &g->t))
            fail_msg("%s", cx.msg);
}

void nvrtc_gate_close(NvrtcGate *g)
{
    cache_close(g->cache);
    assert_true(g->kernels > 0);
    assert_int_equal(g->t.kernels, ARCHS * g->kernels);
    assert_int_equal(g->t.bad, 0);
    assert_int_equal(g->t.spilled, 0);
}
