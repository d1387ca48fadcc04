/* SPDX-License-Identifier: Apache-2.0 */
/* dev_text: a device that plans and spells kernels and runs none.
 *
 * It takes the place of one that is not here, or whose compiler is not wanted: programs are built
 * for it as for any other, with their steps and their memory, and then looked at or written down
 * (app.h).  Its memory is the host's; nobody touches what no tensor lives in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/dev_cuda.h"

/* What plans ask of an architecture, with the numbers of a GPU that many have. */
static const struct Arch {
    int capability;
    const char *gpu;
    int units, smem_kib, l2_mib;
} archs[] = {
    { 60, "P100", 56, 48, 4 },      { 61, "GTX 1080 Ti", 28, 48, 2 },
    { 70, "V100", 80, 96, 6 },      { 75, "T4", 40, 64, 4 },
    { 80, "A100", 108, 163, 40 },   { 86, "A10", 72, 99, 6 },
    { 89, "L4", 58, 99, 48 },       { 90, "H100", 132, 227, 50 },
    { 100, "B200", 148, 227, 126 }, { 120, "RTX 5090", 170, 99, 96 },
};
enum { NARCH = sizeof archs / sizeof archs[0] };

static void text_close(GtcDevice *d)
{
    free(d);
}

static void *text_alloc(GtcDevice *d, MemoryKind kind, int64_t bytes)
{
    return device_cpu.alloc(d, kind, bytes);
}

static void text_release(GtcDevice *d, MemoryKind kind, void *p)
{
    device_cpu.release(d, kind, p);
}

static Status text_build(Ctx *cx, GtcDevice *d, Arena *arena, const Graph *g, Ref r, Kernel *out)
{
    return d->target.smem_bytes > 0 ? kernel_build_cuda(cx, arena, &d->target, g, r, out)
                                    : kernel_build_c(cx, arena, &d->target, g, r, out);
}

static Status text_load(Ctx *cx, GtcDevice *d, const LoadCall *call, Code *code, void **module)
{
    (void)cx, (void)d;
    *module = NULL;
    for (int i = 0; i < call->n; i++)
        code[i] = (Code){ .from = call->k[i].source[0] ? CODE_TEXT : CODE_NONE };
    return ST_OK;
}

static void text_unload(GtcDevice *d, void *module)
{
    (void)d, (void)module;
}

static Status text_run(Ctx *cx, GtcDevice *d, const Schedule *s, int slot, double *ms)
{
    (void)s, (void)slot, (void)ms;
    return FAIL(cx, USAGE, "%s runs nothing", d->describe);
}

static const DeviceOps device_text = {
    .name = "text",
    .close = text_close,
    .alloc = text_alloc,
    .release = text_release,
    .build = text_build,
    .load = text_load,
    .unload = text_unload,
    .run = text_run,
};

static Status text_new(Ctx *cx, const Target *target, GtcDevice **out)
{
    GtcDevice *d = *out = calloc(1, sizeof *d);
    if (!d)
        return FAIL(cx, MEMORY, "no memory for the device");
    *d = (GtcDevice){ .ops = &device_text, .target = *target, .room = -1, .os = cx->os };
    return ST_OK;
}

Status gtc_device_open_text(Ctx *cx, const GtcDevice *like, GtcDevice **out)
{
    TRY(text_new(cx, &like->target, out));
    snprintf((*out)->describe, sizeof(*out)->describe, "text for %.240s", like->describe);
    return ST_OK;
}

/* "sm_90a" is 90. */
static const struct Arch *find_arch(const char *name)
{
    char *end;
    const bool sm = strncmp(name, "sm_", 3) == 0;
    const long n = strtol(sm ? name + 3 : name, &end, 10);
    if (end == name || (*end && strcmp(end, "a") != 0))
        return NULL;
    for (int i = 0; i < NARCH; i++)
        if (archs[i].capability == n)
            return &archs[i];
    return NULL;
}

Status gtc_device_open_arch(Ctx *cx, const char *arch, GtcDevice **out)
{
    char known[96] = "";
    const struct Arch *a = find_arch(arch ? arch : "sm_90");
    for (int i = 0, at = 0; i < NARCH; i++)
        at += snprintf(known + at, sizeof known - (size_t)at, " sm_%d", archs[i].capability);
    *out = NULL;
    if (!a)
        return FAIL(cx, USAGE, "no architecture \"%.40s\": wants one of%s", arch, known);
    const Target target =
        cuda_target(a->units, (int64_t)a->smem_kib << 10, (int64_t)a->l2_mib << 20);
    TRY(text_new(cx, &target, out));
    snprintf((*out)->describe, sizeof(*out)->describe,
             "text for sm_%d with %d multiprocessors (%s), %d KiB of shared memory a block",
             a->capability, a->units, a->gpu, a->smem_kib);
    return ST_OK;
}
