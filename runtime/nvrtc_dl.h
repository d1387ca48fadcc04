/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_NVRTC_DL_H
#define GTC_RUNTIME_NVRTC_DL_H

#include <stddef.h>

#include "ir/base/status.h"

/* NVRTC, the CUDA compiler as a library, as far as gtc calls it; declared as in cuda_dl.h.  It
 * needs neither a GPU nor a driver, and its calls may come from several threads at a time. */
typedef int nvrtcResult;
typedef struct _nvrtcProgram *nvrtcProgram;

/* X(name, value) for every constant. */
#define NVRTC_VALUES(X)                                                                            \
    X(NVRTC_SUCCESS, 0)                                                                            \
    X(NVRTC_ERROR_OUT_OF_MEMORY, 1)                                                                \
    X(NVRTC_ERROR_INVALID_OPTION, 5)                                                               \
    X(NVRTC_ERROR_COMPILATION, 6)                                                                  \
    X(NVRTC_ERROR_INTERNAL_ERROR, 11)

enum {
#define NVRTC_VALUE(name, value) name = value,
    NVRTC_VALUES(NVRTC_VALUE)
#undef NVRTC_VALUE
};

/* X(name, parameters) for every call: all are there since 11.2. */
#define NVRTC_CALLS(X)                                                                             \
    X(nvrtcVersion, (int *, int *))                                                                \
    X(nvrtcGetNumSupportedArchs, (int *))                                                          \
    X(nvrtcGetSupportedArchs, (int *))                                                             \
    X(nvrtcCreateProgram,                                                                          \
      (nvrtcProgram *, const char *, const char *, int, const char *const *, const char *const *)) \
    X(nvrtcDestroyProgram, (nvrtcProgram *))                                                       \
    X(nvrtcCompileProgram, (nvrtcProgram, int, const char *const *))                               \
    X(nvrtcGetProgramLogSize, (nvrtcProgram, size_t *))                                            \
    X(nvrtcGetProgramLog, (nvrtcProgram, char *))                                                  \
    X(nvrtcGetCUBINSize, (nvrtcProgram, size_t *))                                                 \
    X(nvrtcGetCUBIN, (nvrtcProgram, char *))                                                       \
    X(nvrtcGetPTXSize, (nvrtcProgram, size_t *))                                                   \
    X(nvrtcGetPTX, (nvrtcProgram, char *))

enum { NVRTC_MAX_ARCHS = 48 };
typedef struct Nvrtc {
#define NVRTC_CALL(name, args) nvrtcResult(*name) args;
    NVRTC_CALLS(NVRTC_CALL)
#undef NVRTC_CALL
    int major, minor;
    int arch[NVRTC_MAX_ARCHS], narch; /* 75 80 86 .., what it can compile for */
    char path[512];                   /* as it was found */
} Nvrtc;

/* Fills *out from the best NVRTC of this machine for a driver of that version, as
 * cuDriverGetVersion counts it (12040); 0: the newest.  Best is the driver's own major version,
 * then older ones, newest first, then newer ones; what GTC_CUDA_PATH holds before everything else.
 * ST_ENV, and what to do, when there is none. */
Status nvrtc_dl_open(Ctx *cx, int driver, Nvrtc *out);

#endif
