/* SPDX-License-Identifier: Apache-2.0 */
/* cuda_dl: finding the driver.
 *
 * libcuda belongs to the driver and is where its package or the container puts it; the loader
 * knows that place on most machines, WSL and some distributions keep it in a folder of their own.
 * A toolkit has a library of the same name to link against, whose calls all fail: it is asked last,
 * and only to say why a machine that seems to have CUDA has none.
 *
 * Nothing is ever unloaded: a driver that has begun has threads and handlers in the process. */
#include "runtime/cuda_dl.h"

#include <stdbool.h>
#include <string.h>

#include "ir/base/os.h"

/* Where the driver's library may be, in the order in which it is tried. */
static const char *const places[] = {
    "libcuda.so.1",
    "/usr/lib/wsl/lib/libcuda.so.1",
    "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
    "/usr/lib/aarch64-linux-gnu/libcuda.so.1",
    "/usr/lib64/libcuda.so.1",
    "/usr/local/nvidia/lib64/libcuda.so.1",
    "/run/opengl-driver/lib/libcuda.so.1",
    "libcuda.so",
};

/* What to do about an error, "" where its text says it all. */
static const char *advice(CUresult r)
{
    switch (r) {
    case CUDA_ERROR_NO_DEVICE:
        return ": no GPU is visible; look at nvidia-smi and CUDA_VISIBLE_DEVICES, and give a "
               "container its GPUs";
    case CUDA_ERROR_DEVICE_UNAVAILABLE:
        return ": another process holds the GPU for itself alone; see nvidia-smi";
    case CUDA_ERROR_SYSTEM_DRIVER_MISMATCH:
        return ": the driver's library and its kernel module differ in version; reboot after an "
               "update of the driver";
    case CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE:
        return ": this GPU does not take the compatibility library; take its folder off "
               "LD_LIBRARY_PATH";
    case CUDA_ERROR_OUT_OF_MEMORY:
        return ": lower the batch size, or close what else uses the GPU (nvidia-smi)";
    case CUDA_ERROR_UNSUPPORTED_PTX_VERSION:
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
        return ": the compiler is newer than the driver; update the driver";
    case CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE:
        return ": the kernel's blocks do not fit the GPU at the same time";
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_LAUNCH_FAILED:
        return ": a kernel failed, and the device takes no more work from this process; try "
               "--device cpu, and gtc verify";
    case CUDA_ERROR_ECC_UNCORRECTABLE:
        return ": the GPU's memory is faulty";
    default:
        return "";
    }
}

Status cuda_fail(Ctx *cx, const CudaDriver *cu, const char *call, CUresult r)
{
    const char *name = NULL, *text = NULL;
    if (cu->cuGetErrorName && cu->cuGetErrorName(r, &name) != CUDA_SUCCESS)
        name = NULL;
    if (cu->cuGetErrorString && cu->cuGetErrorString(r, &text) != CUDA_SUCCESS)
        text = NULL;
    const Status s = r == CUDA_ERROR_OUT_OF_MEMORY ? ST_MEMORY : ST_ENV;
    return status_fail(cx, s, "cuda: %s: %s (%s, %d)%s", call, text ? text : "failed",
                       name ? name : "no name", r, advice(r));
}

Status cuda_check(Ctx *cx, const CudaDriver *cu, const char *call, CUresult r)
{
    return r == CUDA_SUCCESS ? ST_OK : cuda_fail(cx, cu, call, r);
}

/* The driver as far as it takes to know whether it will do.  Says with *stub, and no failure, that
 * it is the toolkit's. */
static Status try_library(Ctx *cx, void *lib, const char *path, CudaDriver *cu, bool *stub)
{
    int version = 0;
    void *sym[2] = { cx->os->dlsym(lib, "cuInit"), cx->os->dlsym(lib, "cuDriverGetVersion") };
    *stub = false;
    if (!sym[0] || !sym[1])
        return FAIL(cx, ENV, "cuda: %s is no CUDA driver: it has no %s", path,
                    sym[0] ? "cuDriverGetVersion" : "cuInit");
    memcpy(&cu->cuInit, &sym[0], sizeof sym[0]); /* C has no cast for this */
    memcpy(&cu->cuDriverGetVersion, &sym[1], sizeof sym[1]);
    const CUresult r = cu->cuInit(0);
    *stub = r == CUDA_ERROR_STUB_LIBRARY;
    if (*stub)
        return ST_OK;
    if (cu->cuDriverGetVersion(&version) == CUDA_SUCCESS && version < CUDA_OLDEST_DRIVER)
        return FAIL(cx, ENV,
                    "cuda: the driver in %s is too old: it does CUDA %d.%d, gtc wants 12.0; update "
                    "the NVIDIA driver to 525 or newer",
                    path, version / 1000, version % 1000 / 10);
#define CUDA_CALL(name, args)                                                                      \
    sym[0] = cx->os->dlsym(lib, #name);                                                            \
    if (!sym[0])                                                                                   \
        return FAIL(cx, ENV,                                                                       \
                    "cuda: the driver in %s has no %s though it says to do CUDA %d.%d; install "   \
                    "the driver anew",                                                             \
                    path, #name, version / 1000, version % 1000 / 10);                             \
    memcpy(&cu->name, &sym[0], sizeof sym[0]);
    CUDA_CALLS(CUDA_CALL)
#undef CUDA_CALL
    return cuda_check(cx, cu, "cuInit", r);
}

Status cuda_dl_open(Ctx *cx, CudaDriver *out)
{
    const char *found = NULL;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        bool stub = false;
        void *lib = cx->os->dlopen(places[i]);
        if (!lib)
            continue;
        const Status s = try_library(cx, lib, places[i], out, &stub);
        if (s == ST_OK && !stub)
            return ST_OK;
        if (s != ST_OK)
            return s;
        memset(out, 0, sizeof *out);
        found = places[i];
    }
    if (found)
        return FAIL(cx, ENV,
                    "cuda: no driver, only the toolkit's stub (%s), which is there to link with; "
                    "install the NVIDIA driver, and keep \"stubs\" off LD_LIBRARY_PATH",
                    found);
    return FAIL(cx, ENV,
                "cuda: no driver: libcuda.so.1 is nowhere; install the NVIDIA driver (in a "
                "container: start it with --gpus all; in WSL: the Windows driver brings it)");
}
