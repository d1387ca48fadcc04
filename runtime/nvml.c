/* SPDX-License-Identifier: Apache-2.0 */
/* nvml: what a GPU is busy with, by libnvidia-ml, which comes with the driver.
 *
 * Declared by hand as far as it is called, under its own names; these are versions of calls and
 * structs that have not changed since drivers that gtc supports.  A GPU is found by its place on
 * the PCI bus, because NVML counts all GPUs of the machine and CUDA those that are visible. */
#include "runtime/nvml.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"

typedef int nvmlReturn_t; /* 0: success */
typedef struct nvmlDevice_st *nvmlDevice_t;
typedef struct nvmlUtilization_t {
    unsigned gpu, memory; /* percent of the last moments in which it was busy */
} nvmlUtilization_t;
typedef struct nvmlMemory_t {
    unsigned long long total, free, used;
} nvmlMemory_t;
enum { NVML_TEMPERATURE_GPU = 0, NVML_INSUFFICIENT_SIZE = 7 };

#define NVML_CALLS(X)                                                                              \
    X(nvmlInit_v2, (void))                                                                         \
    X(nvmlShutdown, (void))                                                                        \
    X(nvmlSystemGetNVMLVersion, (char *, unsigned))                                                \
    X(nvmlDeviceGetHandleByPciBusId_v2, (const char *, nvmlDevice_t *))                            \
    X(nvmlDeviceGetUtilizationRates, (nvmlDevice_t, nvmlUtilization_t *))                          \
    X(nvmlDeviceGetMemoryInfo, (nvmlDevice_t, nvmlMemory_t *))                                     \
    X(nvmlDeviceGetTemperature, (nvmlDevice_t, int, unsigned *))                                   \
    X(nvmlDeviceGetPowerUsage, (nvmlDevice_t, unsigned *))                                         \
    X(nvmlDeviceGetComputeRunningProcesses_v3, (nvmlDevice_t, unsigned *, void *))

struct Nvml {
#define NVML_CALL(name, args) nvmlReturn_t(*name) args;
    NVML_CALLS(NVML_CALL)
#undef NVML_CALL
    nvmlDevice_t device;
};

static const char *const places[] = { "libnvidia-ml.so.1", "/usr/lib/wsl/lib/libnvidia-ml.so.1",
                                      "/run/opengl-driver/lib/libnvidia-ml.so.1" };

/* Binds all calls and begins; the library stays loaded. */
static Status start(Ctx *cx, Nvml *n)
{
    void *lib = NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places && !lib; i++)
        lib = cx->os->dlopen(places[i]);
    if (!lib)
        return FAIL(cx, ENV,
                    "nvml: libnvidia-ml.so.1 is nowhere, so that a GPU's use, temperature and "
                    "power are not known; it comes with the NVIDIA driver");
#define NVML_CALL(name, args)                                                                      \
    void *sym_##name = cx->os->dlsym(lib, #name);                                                  \
    if (!sym_##name)                                                                               \
        return FAIL(cx, ENV, "nvml: the driver is too old for it: it has no %s", #name);           \
    memcpy(&n->name, &sym_##name, sizeof sym_##name); /* C has no cast for this */
    NVML_CALLS(NVML_CALL)
#undef NVML_CALL
    const nvmlReturn_t r = n->nvmlInit_v2();
    return r == 0 ? ST_OK : FAIL(cx, ENV, "nvml: it does not begin (%d); see nvidia-smi", r);
}

Status nvml_find(Ctx *cx, char *text, size_t cap)
{
    Nvml n = { .device = NULL };
    TRY(start(cx, &n));
    if (n.nvmlSystemGetNVMLVersion(text, (unsigned)cap) != 0)
        snprintf(text, cap, "of no known version");
    n.nvmlShutdown();
    return ST_OK;
}

Status nvml_open(Ctx *cx, unsigned domain, unsigned bus, unsigned device, Nvml **out)
{
    Nvml *n = *out = calloc(1, sizeof *n);
    char place[32];
    if (!n)
        return FAIL(cx, MEMORY, "no memory for NVML");
    Status s = start(cx, n);
    snprintf(place, sizeof place, "%08X:%02X:%02X.0", domain, bus, device);
    if (s == ST_OK) {
        const nvmlReturn_t r = n->nvmlDeviceGetHandleByPciBusId_v2(place, &n->device);
        if (r != 0) {
            n->nvmlShutdown();
            s = FAIL(cx, ENV, "nvml: it does not know the GPU at %s (%d)", place, r);
        }
    }
    if (s != ST_OK) {
        free(n);
        *out = NULL;
    }
    return s;
}

void nvml_close(Nvml *n)
{
    if (!n)
        return;
    n->nvmlShutdown();
    free(n);
}

void nvml_read(const Nvml *n, GtcGpuLoad *out)
{
    nvmlUtilization_t use;
    nvmlMemory_t memory;
    unsigned celsius, milliwatts, others = 0;
    *out = (GtcGpuLoad){ .percent = -1, .bytes = -1, .others = -1, .celsius = NAN, .watts = NAN };
    if (n->nvmlDeviceGetUtilizationRates(n->device, &use) == 0)
        out->percent = (int)use.gpu;
    if (n->nvmlDeviceGetMemoryInfo(n->device, &memory) == 0)
        out->bytes = (int64_t)memory.used;
    if (n->nvmlDeviceGetTemperature(n->device, NVML_TEMPERATURE_GPU, &celsius) == 0)
        out->celsius = (double)celsius;
    if (n->nvmlDeviceGetPowerUsage(n->device, &milliwatts) == 0)
        out->watts = 1e-3 * (double)milliwatts;
    /* Asked with no room for them, it says how many there are; this process is one. */
    const nvmlReturn_t r = n->nvmlDeviceGetComputeRunningProcesses_v3(n->device, &others, NULL);
    if (r == 0 || r == NVML_INSUFFICIENT_SIZE)
        out->others = others > 0 ? (int)others - 1 : 0;
}
