/* SPDX-License-Identifier: Apache-2.0 */
/* nvrtc_dl: finding NVRTC.
 *
 * What a compiler of a newer major version makes, a driver may not take; so the driver's own
 * version comes first, but for what GTC_CUDA_PATH holds: who says that means it.  The library stays
 * loaded. */
#include "runtime/nvrtc_dl.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ir/base/os.h"
#include "runtime/cuda_place.h"

/* Versions that are known to do; newest first.  11.2 has kept its name up to 11.8. */
static const struct Known {
    int major;
    const char *soname;
} known[] = { { 13, "libnvrtc.so.13" }, { 12, "libnvrtc.so.12" }, { 11, "libnvrtc.so.11.2" } };
enum { NKNOWN = sizeof known / sizeof *known };

static Status bind(Ctx *cx, void *lib, const char *path, Nvrtc *n)
{
    memset(n, 0, sizeof *n);
    snprintf(n->path, sizeof n->path, "%s", path);
#define NVRTC_CALL(name, args)                                                                     \
    void *sym_##name = cx->os->dlsym(lib, #name);                                                  \
    if (!sym_##name)                                                                               \
        return FAIL(cx, ENV, "nvrtc: %s has no %s: it is older than 11.2", path, #name);           \
    memcpy(&n->name, &sym_##name, sizeof sym_##name); /* C has no cast for this */
    NVRTC_CALLS(NVRTC_CALL)
#undef NVRTC_CALL
    int narch = 0;
    if (n->nvrtcVersion(&n->major, &n->minor) != NVRTC_SUCCESS ||
        n->nvrtcGetNumSupportedArchs(&narch) != NVRTC_SUCCESS || narch < 1 ||
        narch > NVRTC_MAX_ARCHS || n->nvrtcGetSupportedArchs(n->arch) != NVRTC_SUCCESS)
        return FAIL(cx, ENV, "nvrtc: %s does not say what it compiles for", path);
    n->narch = narch;
    return ST_OK;
}

typedef void *LoadFn(Ctx *cx, const char *soname, char *path, size_t n);

/* Says in *there whether there is that version at all. */
static Status try_version(Ctx *cx, const struct Known *k, LoadFn *load, Nvrtc *out, bool *there)
{
    char path[sizeof out->path];
    void *lib = load(cx, k->soname, path, sizeof path);
    *there = lib != NULL;
    return lib ? bind(cx, lib, path, out) : ST_OK;
}

/* For a driver of that major version. */
static Status find(Ctx *cx, int major, LoadFn *load, Nvrtc *out, bool *there)
{
    *there = false;
    for (int i = 0; i < NKNOWN && !*there; i++)
        if (known[i].major <= major)
            TRY(try_version(cx, &known[i], load, out, there));
    for (int i = NKNOWN - 1; i >= 0 && !*there; i--)
        if (known[i].major > major)
            TRY(try_version(cx, &known[i], load, out, there));
    return ST_OK;
}

Status nvrtc_dl_open(Ctx *cx, int driver, Nvrtc *out)
{
    const int major = driver ? driver / 1000 : known[0].major;
    bool there;
    TRY(find(cx, major, cuda_place_load_asked, out, &there));
    if (!there)
        TRY(find(cx, major, cuda_place_load, out, &there));
    if (there && out->major > major)
        log_say(cx, LOG_WARN,
                "NVRTC %d.%d is newer than the driver (CUDA %d.%d), which may not take its code: "
                "update the driver, or install NVRTC %d",
                out->major, out->minor, major, driver % 1000 / 10, major);
    if (there)
        return ST_OK;
    return FAIL(cx, ENV,
                "nvrtc: not found (libnvrtc.so.13, .12, .11.2): install the CUDA toolkit or its "
                "NVRTC package, or set GTC_CUDA_PATH to the folder that holds it");
}
