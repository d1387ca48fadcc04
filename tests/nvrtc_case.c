/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/nvrtc_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static void add(const Image *image, const Kernel *k, const char *arch, const char *model,
                NvrtcTotals *t)
{
    const bool bad = !image->bytes || image->warnings;
    t->kernels++;
    t->compiled += image->from == CODE_COMPILED;
    t->bad += bad;
    t->spilled += image->spill > 0;
    t->regs = image->regs > t->regs ? image->regs : t->regs;
    t->stack = image->stack > t->stack ? image->stack : t->stack;
    t->spill = image->spill > t->spill ? image->spill : t->spill;
    if (model && (bad || image->spill))
        fprintf(stderr, "%s, %s: %s %s, %d warnings, %d bytes spilled\n", model, arch, k->name,
                image->bytes ? "compiles" : "does not compile", image->warnings, image->spill);
}

bool nvrtc_totals(Ctx *cx, Cache *cache, const Nvrtc *nvrtc, const char *arch, const char *model,
                  const Kernel *k, int n, NvrtcTotals *t)
{
    JitNvrtc *jit;
    Image *image = calloc((size_t)n + 1, sizeof *image);
    if (!image || jit_nvrtc_open(cx, nvrtc, arch, &jit) != ST_OK) {
        free(image);
        return false;
    }
    const double start = now_ms();
    const bool ok =
        jit_image_load(cx, cache, jit_nvrtc_maker(jit), k, NULL, n, false, image) == ST_OK;
    t->ms += now_ms() - start;
    for (int i = 0; i < n && ok; i++)
        add(&image[i], &k[i], arch, model, t);
    jit_image_free(image, n);
    free(image);
    jit_nvrtc_close(jit);
    return ok;
}
