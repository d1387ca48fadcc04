/* SPDX-License-Identifier: Apache-2.0 */
/* NVRTC takes every kernel of every zoo model, without a word of warning, and no thread spills, for
 * an older and a newer GPU.  Skipped, aloud, where there is no NVRTC. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "runtime/jit_nvrtc.h"
#include "tests/cuda_kernels.h"
#include "tests/zoo_case.h"

/* What NVRTC says does not depend on sanitizers: there only some models, for our own part in it. */
#if defined(GTC_SANITIZE)
enum { EVERY = 8 };
#else
enum { EVERY = 1 };
#endif

static Nvrtc nvrtc;

typedef struct Totals {
    int kernels, compiled, most_regs, bad;
} Totals;

static void compile_all(Ctx *cx, Cache *cache, const char *arch, const char *model, const Kernel *k,
                        int n, Totals *t)
{
    JitNvrtc *jit;
    if (jit_nvrtc_open(cx, &nvrtc, arch, &jit) != ST_OK)
        fail_msg("%s", cx->msg);
    Image *image = calloc((size_t)n + 1, sizeof *image);
    assert_non_null(image);
    if (jit_image_load(cx, cache, jit_nvrtc_maker(jit), k, NULL, n, false, image) != ST_OK)
        fail_msg("%s", cx->msg);
    for (int i = 0; i < n; i++) {
        t->kernels++;
        t->compiled += image[i].from == CODE_COMPILED;
        t->most_regs = image[i].regs > t->most_regs ? image[i].regs : t->most_regs;
        if (image[i].bytes && !image[i].warnings && !image[i].spill)
            continue;
        t->bad++;
        print_error("%s, %s: %s %s, %d warnings, %d bytes spilled\n", model, arch, k[i].name,
                    image[i].bytes ? "compiles" : "does not compile", image[i].warnings,
                    image[i].spill);
    }
    jit_image_free(image, n);
    free(image);
    jit_nvrtc_close(jit);
}

static void every_kernel_compiles(void **state)
{
    (void)state;
    static const char *const arch[] = { "sm_80", "sm_90a" };
    Ctx cx;
    Cache *cache;
    Totals t = { 0 };
    ctx_init(&cx);
    if (cache_open(&cx, &cache) != ST_OK)
        fail_msg("%s", cx.msg);
    for (int i = 0; i < zoo_cases; i += EVERY) {
        Zoo z;
        Kernel *k;
        zoo_open(&z, &zoo_case[i], NULL);
        const int n = cuda_kernels(&z.cx, z.arena, zoo_graph(&z, &zoo_case[i], BUILD_TRAIN), &k);
        for (size_t a = 0; a < sizeof arch / sizeof *arch; a++)
            compile_all(&z.cx, cache, arch[a], zoo_case[i].path, k, n, &t);
        zoo_close(&z);
    }
    cache_close(cache);
    print_message("NVRTC %d.%d: %d kernels, %d of them compiled, at most %d registers\n",
                  nvrtc.major, nvrtc.minor, t.kernels, t.compiled, t.most_regs);
    assert_int_equal(t.bad, 0);
}

int main(void)
{
    Ctx cx;
    ctx_init(&cx);
    if (nvrtc_dl_open(&cx, 0, &nvrtc) != ST_OK) {
        printf("skipped: %s\n", cx.msg);
        return 77;
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_kernel_compiles) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
