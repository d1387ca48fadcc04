/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_place: where the libraries of CUDA may be.
 *
 * One may be installed as part of a toolkit, by the system's packages, by conda, or as a Python
 * wheel, which has the versioned name only (libnvrtc.so.13) and a folder of its own.  So it is
 * looked for by that name in each of these places: what GTC_CUDA_PATH says, where the loader looks,
 * the environments that are active, wheels of a user and of the machine, the toolkit. */
#include "runtime/cuda_place.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"

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
    { "HOME", "/.local/lib/python3*/site-packages/nvidia/*/lib" },
    { NULL, "/usr/local/lib/python3*/*-packages/nvidia/*/lib" },
    { "CUDA_HOME", "/lib64" },
    { "CUDA_HOME", "/lib" },
    { "CUDA_PATH", "/lib64" },
    { "CUDA_PATH", "/lib" },
    { NULL, "/usr/local/cuda/lib64" },
    { NULL, "/usr/local/cuda-*/lib64" },
    { NULL, "/usr/lib/x86_64-linux-gnu" },
    { NULL, "/usr/lib/aarch64-linux-gnu" },
    { NULL, "/usr/lib64" },
    { NULL, "/opt/cuda/lib64" },
};
enum { NASKED = 2, NPLACE = sizeof places / sizeof *places }; /* the first are GTC_CUDA_PATH's */

static void *load_pattern(Ctx *cx, const char *pattern, char *path, size_t n)
{
    glob_t found = { 0 };
    void *lib = NULL;
    if (glob(pattern, 0, NULL, &found) != 0)
        return NULL;
    for (size_t i = found.gl_pathc; i > 0 && !lib; i--) { /* newest last */
        snprintf(path, n, "%s", found.gl_pathv[i - 1]);
        lib = cx->os->dlopen(path);
    }
    globfree(&found);
    return lib;
}

static void *load_place(Ctx *cx, const Place *p, const char *soname, char *path, size_t n)
{
    const char *front = p->variable ? getenv(p->variable) : "";
    if (!front || (p->variable && !*front))
        return NULL;
    char pattern[512];
    const char *slash = p->variable || p->folder[0] ? "/" : "";
    const int len = snprintf(pattern, sizeof pattern, "%s%s%s%s", front, p->folder, slash, soname);
    if (len < 0 || (size_t)len >= sizeof pattern || (size_t)len >= n)
        return NULL;
    if (strchr(p->folder, '*'))
        return load_pattern(cx, pattern, path, n);
    snprintf(path, n, "%s", pattern);
    return cx->os->dlopen(path);
}

static void *load(Ctx *cx, int nplace, const char *soname, char *path, size_t n)
{
    void *lib = NULL;
    for (int i = 0; i < nplace && !lib; i++)
        lib = load_place(cx, &places[i], soname, path, n);
    return lib;
}

void *cuda_place_load(Ctx *cx, const char *soname, char *path, size_t n)
{
    return load(cx, NPLACE, soname, path, n);
}

void *cuda_place_load_asked(Ctx *cx, const char *soname, char *path, size_t n)
{
    return load(cx, NASKED, soname, path, n);
}
