/* SPDX-License-Identifier: Apache-2.0 */
/* nvrtc_dl: finding NVRTC.
 *
 * It may be installed as part of a toolkit, by the system's packages, by conda, or as a Python
 * wheel, which has the versioned name only (libnvrtc.so.13) and a folder of its own.  So each major
 * version is looked for by its name in each of these places: what GTC_CUDA_PATH says, where the
 * loader looks, the environments that are active, the toolkit.
 *
 * What a compiler of a newer major version makes, a driver may not take; so the driver's own
 * version comes first.  The library stays loaded. */
#include "runtime/nvrtc_dl.h"

#include <glob.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"

/* Versions that are known to do; newest first.  11.2 has kept its name up to 11.8. */
static const struct Known {
    int major;
    const char *soname;
} known[] = { { 13, "libnvrtc.so.13" }, { 12, "libnvrtc.so.12" }, { 11, "libnvrtc.so.11.2" } };
enum { NKNOWN = sizeof known / sizeof *known };

typedef struct Place {
    const char *variable; /* its value stands in front, NULL: none */
    const char *folder;   /* may hold *, "" for the loader's own search */
} Place;

static const Place places[] = {
    { "GTC_CUDA_PATH", "" },
    { "GTC_CUDA_PATH", "/lib64" },
    { NULL, "" },
    { "VIRTUAL_ENV", "/lib/python3*/site-packages/nvidia/*/lib" },
    { "CONDA_PREFIX", "/lib" },
    { "CONDA_PREFIX", "/lib/python3*/site-packages/nvidia/*/lib" },
    { "CUDA_HOME", "/lib64" },
    { "CUDA_PATH", "/lib64" },
    { NULL, "/usr/local/cuda/lib64" },
    { NULL, "/usr/local/cuda-*/lib64" },
    { NULL, "/usr/lib/x86_64-linux-gnu" },
    { NULL, "/usr/lib/aarch64-linux-gnu" },
    { NULL, "/opt/cuda/lib64" },
};

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

/* Says in *there whether the library could be loaded at all. */
static Status try_path(Ctx *cx, const char *path, Nvrtc *out, bool *there)
{
    void *lib = cx->os->dlopen(path);
    *there = lib != NULL;
    return lib ? bind(cx, lib, path, out) : ST_OK;
}

static Status try_place(Ctx *cx, const Place *p, const char *soname, Nvrtc *out, bool *there)
{
    const char *front = p->variable ? getenv(p->variable) : "";
    char pattern[512];
    glob_t found = { 0 };
    Status s = ST_OK;
    *there = false;
    if (!front || (p->variable && !*front))
        return ST_OK;
    const char *slash = p->variable || p->folder[0] ? "/" : "";
    const int n = snprintf(pattern, sizeof pattern, "%s%s%s%s", front, p->folder, slash, soname);
    if (n < 0 || (size_t)n >= sizeof pattern)
        return ST_OK;
    if (!strchr(p->folder, '*'))
        return try_path(cx, pattern, out, there);
    if (glob(pattern, 0, NULL, &found) == 0) {
        for (size_t i = found.gl_pathc; i > 0 && !*there && s == ST_OK; i--) /* newest last */
            s = try_path(cx, found.gl_pathv[i - 1], out, there);
        globfree(&found);
    }
    return s;
}

static Status try_version(Ctx *cx, const struct Known *k, Nvrtc *out, bool *there)
{
    *there = false;
    for (size_t i = 0; i < sizeof places / sizeof *places && !*there; i++)
        TRY(try_place(cx, &places[i], k->soname, out, there));
    return ST_OK;
}

Status nvrtc_dl_open(Ctx *cx, int driver, Nvrtc *out)
{
    const int major = driver ? driver / 1000 : known[0].major;
    bool there = false;
    for (int i = 0; i < NKNOWN && !there; i++)
        if (known[i].major <= major)
            TRY(try_version(cx, &known[i], out, &there));
    for (int i = NKNOWN - 1; i >= 0 && !there; i--)
        if (known[i].major > major) {
            TRY(try_version(cx, &known[i], out, &there));
            if (there)
                log_say(cx, LOG_WARN,
                        "NVRTC %d.%d is newer than the driver (CUDA %d.%d), which may not take its "
                        "code: update the driver, or install NVRTC %d",
                        out->major, out->minor, major, driver % 1000 / 10, major);
        }
    if (there)
        return ST_OK;
    return FAIL(cx, ENV,
                "nvrtc: not found (libnvrtc.so.13, .12, .11.2): install the CUDA toolkit or its "
                "NVRTC package, or set GTC_CUDA_PATH to the folder that holds it");
}
