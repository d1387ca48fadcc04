/* SPDX-License-Identifier: Apache-2.0 */
/* In the place of a CUDA app's driver.o: the driver is the host's, and kernels are compiled for it.
 * What the app has not given back when it ends is an error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/jit_simt.h"
#include "runtime/simt_driver.h"

#define SEEN __attribute__((visibility("default")))

SEEN int driver_open(CudaDriver *out);
SEEN char *driver_image(const char *arch, const char *name, const char *text, size_t *bytes);

static void all_given_back(void)
{
    Ctx cx;
    ctx_init(&cx);
    if (simt_driver_close(&cx) == ST_OK)
        return;
    fprintf(stderr, "app: %s\n", cx.msg);
    fflush(stdout);
    _exit(1);
}

int driver_open(CudaDriver *out)
{
    Ctx cx;
    SimtDriverOptions opt;
    ctx_init(&cx);
    if (simt_driver_options(&cx, &opt) != ST_OK || simt_driver_open(&cx, &opt, out) != ST_OK) {
        fprintf(stderr, "app: %s\n", cx.msg);
        return 0;
    }
    atexit(all_given_back);
    return 1;
}

static void make_image(Ctx *cx, Cache *cache, const char *name, const char *text, Image *image)
{
    JitSimt *j;
    Strbuf log = { 0 };
    if (jit_simt_open(cx, cache, false, &j) == ST_OK) {
        const ImageMaker *m = jit_simt_maker(j);
        m->make(m->arg, &(Kernel){ .name = name }, text, image, &log);
        if (!image->bytes)
            fprintf(stderr, "app: %s: %s\n", name, strbuf_str(&log));
    }
    strbuf_free(&log);
    jit_simt_close(j);
}

char *driver_image(const char *arch, const char *name, const char *text, size_t *bytes)
{
    Ctx cx;
    Cache *cache;
    Image image = { 0 };
    ctx_init(&cx);
    if (strcmp(arch, "sm_90a") != 0 || cache_open(&cx, &cache) != ST_OK) {
        fprintf(stderr, "app: %s: no image for %s\n", name, arch);
        return NULL;
    }
    make_image(&cx, cache, name, text, &image);
    cache_close(cache);
    *bytes = image.n;
    return image.bytes;
}
