/* SPDX-License-Identifier: Apache-2.0 */
/* dev_cuda: a GPU by the driver API alone, or the host that runs CUDA kernels in its place.
 *
 * There are two kinds of device here and one code: `cuda` has the driver table of libcuda and
 * images from NVRTC, `simt` the table of the host runner and images from the C compiler.  What
 * either can do (multiprocessors, shared memory) is asked of the table.
 *
 * The primary context is shared with whatever else the process uses the GPU for: cuBLASLt and cuDNN
 * keep code and state in it that outlives their handles, and a process that has called one of them
 * holds the context to its end, lest a device that is opened again finds them without it.  After a kernel
 * has failed every call answers with the same error; so nothing that gives something back looks at
 * the answer. */
#include "runtime/dev_cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/base/os.h"
#include "ir/base/size.h"
#include "runtime/cuda_call.h"
#include "runtime/jit_nvrtc.h"
#include "runtime/jit_simt.h"
#include "runtime/nvml.h"
#include "runtime/simt_driver.h"

enum { STATIC_SMEM = 48 << 10 }; /* more must be asked for */

typedef struct Block { /* memory that is handed out */
    CUdeviceptr at;
    int64_t bytes;
} Block;

typedef struct CudaDevice {
    GtcDevice base;
    CudaDriver cu;
    CUdevice number;
    CudaQueue q;
    CudaCalls calls;
    bool retained;
    Cache *cache;
    Nvml *nvml; /* NULL: not there */
    JitNvrtc *nvrtc;
    JitSimt *simt;
    bool shadow; /* the host runner watches accesses */
    bool driver; /* the host's driver is this device's own */
    const ImageMaker *maker;
    int compiler; /* NVRTC's version, as cuDriverGetVersion counts; 0: the host's compiler */
    Block *block;
    int nblock, block_cap;
    int64_t used, limit; /* bytes */
} CudaDevice;

static CudaDevice *cuda_of(GtcDevice *d)
{
    return (CudaDevice *)d;
}

static int ask(const CudaDevice *d, CUdevice_attribute what)
{
    int v = 0;
    return d->cu.cuDeviceGetAttribute(&v, what, d->number) == CUDA_SUCCESS ? v : 0;
}

/* ------------------------------------------------------------ which GPU */

static Status free_bytes(Ctx *cx, const CudaDriver *cu, CUdevice number, size_t *free,
                         size_t *total)
{
    CUcontext context;
    TRY(cuda_check(cx, cu, "cuDevicePrimaryCtxRetain",
                   cu->cuDevicePrimaryCtxRetain(&context, number)));
    Status status = cuda_check(cx, cu, "cuCtxSetCurrent", cu->cuCtxSetCurrent(context));
    if (status == ST_OK)
        status = cuda_check(cx, cu, "cuMemGetInfo", cu->cuMemGetInfo_v2(free, total));
    cu->cuCtxSetCurrent(NULL);
    cu->cuDevicePrimaryCtxRelease_v2(number);
    return status;
}

/* The one with most free memory; one that cannot be asked is passed by. */
static Status most_free(Ctx *cx, const CudaDriver *cu, int count, int *best)
{
    size_t most = 0;
    *best = -1;
    for (int i = 0; i < count; i++) {
        size_t free = 0, total = 0;
        CUdevice number;
        if (cu->cuDeviceGet(&number, i) != CUDA_SUCCESS ||
            free_bytes(cx, cu, number, &free, &total) != ST_OK)
            continue;
        if (*best < 0 || free > most) {
            *best = i;
            most = free;
        }
    }
    return *best < 0 ? ST_ENV : ST_OK; /* the last one's reason is in cx */
}

static Status choose(Ctx *cx, const CudaDriver *cu, int wanted, int *count, int *number)
{
    TRY(cuda_check(cx, cu, "cuDeviceGetCount", cu->cuDeviceGetCount(count)));
    if (*count == 0)
        return cuda_fail(cx, cu, "cuDeviceGetCount", CUDA_ERROR_NO_DEVICE);
    if (wanted >= *count)
        return FAIL(cx, ENV, "no GPU number %d: there %s %d visible, counted from 0", wanted,
                    *count == 1 ? "is" : "are", *count);
    *number = wanted;
    if (wanted >= 0)
        return ST_OK;
    *number = 0;
    return *count == 1 ? ST_OK : most_free(cx, cu, *count, number);
}

/* why: it is this one, "" or in brackets. */
static void describe(CudaDevice *d, int index, const char *why, const GtcDeviceInfo *is,
                     const char *compiler)
{
    char name[96] = "", number[16] = "";
    int version = 0;
    d->cu.cuDeviceGetName(name, sizeof name, d->number);
    d->cu.cuDriverGetVersion(&version);
    if (d->base.ops == &device_cuda) /* there is one simt only */
        snprintf(number, sizeof number, ":%d", index);
    snprintf(d->base.describe, sizeof d->base.describe,
             "%s%s%s: %s, capability %d.%d, %d multiprocessors, %.1f of %.1f GiB free, driver for "
             "CUDA %d.%d, %s",
             d->base.ops->name, number, why, name, is->capability / 10, is->capability % 10,
             is->units, (double)is->free_bytes / (1 << 30), (double)is->memory_bytes / (1 << 30),
             version / 1000, version % 1000 / 10, compiler);
}

/* With 0 bytes where the memory cannot be asked. */
static GtcDeviceInfo info_of(const CudaDevice *d, size_t free, size_t total)
{
    if (total == 0)
        d->cu.cuDeviceTotalMem_v2(&total, d->number);
    return (GtcDeviceInfo){ .units = ask(d, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
                            .capability =
                                10 * ask(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
                                ask(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
                            .memory_bytes = (int64_t)total,
                            .free_bytes = (int64_t)free };
}

/* Of one that is open. */
static GtcDeviceInfo info_now(const CudaDevice *d)
{
    size_t free = 0, total = 0;
    d->cu.cuCtxSetCurrent(d->q.context);
    if (d->cu.cuMemGetInfo_v2(&free, &total) != CUDA_SUCCESS)
        free = total = 0;
    return info_of(d, free, total);
}

void cuda_tell(const GtcDevice *d, GtcDeviceInfo *out)
{
    *out = info_now((const CudaDevice *)d);
    snprintf(out->name, sizeof out->name, "%s", d->ops->name);
    snprintf(out->description, sizeof out->description, "%s", d->describe);
}

/* Described as in the first line of a run. */
static void list_one(Ctx *cx, const CudaDriver *cu, const DeviceOps *ops, int i, GtcDeviceInfo *out)
{
    CudaDevice d = { .base.ops = ops, .cu = *cu };
    size_t free = 0, total = 0;
    char compiler[32] = "no NVRTC";
    int driver = 0;
    Nvrtc n;
    if (cu->cuDeviceGet(&d.number, i) != CUDA_SUCCESS)
        return;
    Ctx quiet = *cx; /* a GPU that is taken by another process has memory that cannot be asked */
    quiet.log = NULL;
    if (free_bytes(&quiet, cu, d.number, &free, &total) != ST_OK)
        free = total = 0;
    cu->cuDriverGetVersion(&driver);
    if (nvrtc_dl_open(&quiet, driver, &n) == ST_OK)
        snprintf(compiler, sizeof compiler, "NVRTC %d.%d", n.major, n.minor);
    *out = info_of(&d, free, total);
    describe(&d, i, "", out, compiler);
    snprintf(out->name, sizeof out->name, "%s:%d", ops->name, i);
    snprintf(out->description, sizeof out->description, "%s", d.base.describe);
}

int cuda_list(Ctx *cx, const CudaDriver *cu, const DeviceOps *ops, GtcDeviceInfo *out, int max)
{
    int n = 0;
    if (cu->cuInit(0) != CUDA_SUCCESS || cu->cuDeviceGetCount(&n) != CUDA_SUCCESS)
        return 0;
    n = n < max ? n : max;
    for (int i = 0; i < n; i++)
        list_one(cx, cu, ops, i, &out[i]);
    return n;
}

/* ------------------------------------------------------------ open and close */

/* What is not given back is a mistake of gtc's own, unless a call had failed. */
static void driver_close(bool sick)
{
    Ctx cx;
    ctx_init(&cx);
    sick |= simt_driver_failed() > 0;
    const Status s = simt_driver_close(&cx);
    gtc_assert(s == ST_OK || sick, "%s", cx.msg);
}

static void cuda_close(GtcDevice *base)
{
    CudaDevice *d = cuda_of(base);
    const bool driver = d->driver;
    bool sick = false, keep = false;
    if (d->q.context)
        d->cu.cuCtxSetCurrent(d->q.context);
    for (int i = 0; i < CALL_LIBRARIES && base->ops == &device_cuda; i++)
        keep |= d->calls.lib[i] != NULL;
    cuda_call_close(&d->calls);
    if (d->q.stream) {
        sick = d->cu.cuStreamSynchronize(d->q.stream) != CUDA_SUCCESS;
        d->cu.cuStreamDestroy_v2(d->q.stream);
    }
    if (d->retained && !keep)
        d->cu.cuDevicePrimaryCtxRelease_v2(d->number);
    nvml_close(d->nvml);
    jit_nvrtc_close(d->nvrtc);
    jit_simt_close(d->simt);
    cache_close(d->cache);
    free(d->block);
    free(d);
    if (driver)
        driver_close(sick);
}

static Status open_context(Ctx *cx, CudaDevice *d, const DeviceCall *call)
{
    const CudaDriver *cu = &d->cu;
    size_t free = 0, total = 0;
    TRY(cuda_check(cx, cu, "cuDevicePrimaryCtxRetain",
                   cu->cuDevicePrimaryCtxRetain(&d->q.context, d->number)));
    d->retained = true;
    TRY(cuda_enter(cx, &d->q));
    TRY(cuda_check(cx, cu, "cuStreamCreate",
                   cu->cuStreamCreate(&d->q.stream, CU_STREAM_NON_BLOCKING)));
    TRY(cuda_check(cx, cu, "cuMemGetInfo", cu->cuMemGetInfo_v2(&free, &total)));
    d->limit = INT64_MAX;
    if (call->memory_fraction > 0)
        d->limit = (int64_t)(call->memory_fraction * (double)total);
    d->base.room = (int64_t)free < d->limit ? (int64_t)free : d->limit;
    return ST_OK;
}

Target cuda_target(int units, int64_t smem_bytes, int64_t l2_bytes)
{
    return (Target){
        .lanes = 1,
        .threads = units > 1 ? units : 1,
        .smem_bytes = smem_bytes > STATIC_SMEM ? smem_bytes : STATIC_SMEM,
        .l2_bytes = l2_bytes,
        .most_args = 4096 / sizeof(CUdeviceptr) - 2,
        .launch_ops = 3e8,
        .refuse = kernel_refuse_cuda,
    };
}

/* Pointers of a launch: parameters may take 4 KiB, or nearly 32 since CUDA 12.1 on GPUs of 7.0 and
 * above.  That many are those of an optimizer, which is one launch then. */
static int most_args(const CudaDevice *d)
{
    enum { MANY = 12010 };
    int driver = 0;
    d->cu.cuDriverGetVersion(&driver);
    const bool many = driver >= MANY && (d->compiler == 0 || d->compiler >= MANY) &&
                      ask(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) >= 7;
    return (many ? 32764 : 4096) / (int)sizeof(CUdeviceptr) - 2;
}

static Status open_nvrtc(Ctx *cx, CudaDevice *d)
{
    Nvrtc n;
    char arch[32];
    int driver = 0;
    const int capability = 10 * ask(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) +
                           ask(d, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    d->cu.cuDriverGetVersion(&driver);
    TRY(nvrtc_dl_open(cx, driver, &n));
    TRY(jit_nvrtc_arch(cx, &n, capability, arch));
    TRY(jit_nvrtc_open(cx, &n, arch, &d->nvrtc));
    d->maker = jit_nvrtc_maker(d->nvrtc);
    d->compiler = n.major * 1000 + n.minor * 10;
    Ctx quiet = *cx; /* without NVML the log says less; doctor says what is missing */
    nvml_open(&quiet, (unsigned)ask(d, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID),
              (unsigned)ask(d, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID),
              (unsigned)ask(d, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID), &d->nvml);
    return ST_OK;
}

static Status open_simt(Ctx *cx, CudaDevice *d)
{
    TRY(jit_simt_open(cx, d->cache, d->shadow, &d->simt));
    d->maker = jit_simt_maker(d->simt);
    return ST_OK;
}

static Status open_simt_shadow(Ctx *cx, CudaDevice *d)
{
    d->shadow = true;
    return open_simt(cx, d);
}

static Status open_rest(Ctx *cx, CudaDevice *d, const DeviceCall *call,
                        Status (*open_maker)(Ctx *cx, CudaDevice *d))
{
    const CudaDriver *cu = &d->cu;
    int index = 0, count = 0;
    char why[48] = "";
    TRY(cuda_check(cx, cu, "cuInit", cu->cuInit(0)));
    TRY(choose(cx, cu, call->gpu, &count, &index));
    TRY(cuda_check(cx, cu, "cuDeviceGet", cu->cuDeviceGet(&d->number, index)));
    TRY(cache_open(cx, &d->cache));
    TRY(open_maker(cx, d));
    TRY(open_context(cx, d, call));
    d->base.target = cuda_target(ask(d, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
                                 ask(d, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
                                 ask(d, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE));
    d->base.target.most_args = most_args(d);
    if (call->gpu < 0 && count > 1)
        snprintf(why, sizeof why, " (most free memory of %d)", count);
    const GtcDeviceInfo is = info_now(d);
    describe(d, index, why, &is, d->maker->name);
    return ST_OK;
}

static Status open_on(Ctx *cx, const DeviceOps *ops, const CudaDriver *cu, const DeviceCall *call,
                      Status (*open_maker)(Ctx *cx, CudaDevice *d), GtcDevice **out)
{
    CudaDevice *d = calloc(1, sizeof *d);
    if (!d)
        return FAIL(cx, MEMORY, "no memory for the device");
    d->base = (GtcDevice){ .ops = ops, .os = cx->os, .calls = true };
    d->cu = *cu;
    d->q = (CudaQueue){ .cu = &d->cu, .os = cx->os };
    d->calls.ops = ops == &device_simt ? call_simt : call_cuda;
    const Status s = open_rest(cx, d, call, open_maker);
    if (s != ST_OK) {
        cuda_close(&d->base);
        return s;
    }
    *out = &d->base;
    return ST_OK;
}

Status cuda_open_simt(Ctx *cx, const CudaDriver *cu, bool shadow, const DeviceCall *call,
                      GtcDevice **out)
{
    return open_on(cx, &device_simt, cu, call, shadow ? open_simt_shadow : open_simt, out);
}

Status cuda_open_gpu(Ctx *cx, const CudaDriver *cu, const DeviceCall *call, GtcDevice **out)
{
    return open_on(cx, &device_cuda, cu, call, open_nvrtc, out);
}

static Status cuda_open(Ctx *cx, const DeviceCall *call, GtcDevice **out)
{
    CudaDriver cu;
    TRY(cuda_dl_open(cx, &cu));
    return cuda_open_gpu(cx, &cu, call, out);
}

/* ------------------------------------------------------------ memory */

static bool block_add(CudaDevice *d, CUdeviceptr at, int64_t bytes)
{
    if (d->nblock == d->block_cap) {
        const int cap = d->block_cap ? 2 * d->block_cap : 64;
        Block *more = realloc(d->block, (size_t)cap * sizeof *more);
        if (!more)
            return false;
        d->block = more;
        d->block_cap = cap;
    }
    d->block[d->nblock++] = (Block){ at, bytes };
    d->used += bytes;
    d->base.room -= bytes;
    return true;
}

static CUresult fill_zero(const CudaDevice *d, CUdeviceptr at, int64_t bytes)
{
    const CUresult r = d->cu.cuMemsetD8Async(at, 0, (size_t)bytes, d->q.stream);
    return r == CUDA_SUCCESS ? d->cu.cuStreamSynchronize(d->q.stream) : r;
}

/* Says why there is no memory; returns it. */
static void *no_memory(CudaDevice *d, const char *call, CUresult r)
{
    Ctx cx;
    size_t free = 0, total = 0;
    ctx_init(&cx);
    cuda_fail(&cx, &d->cu, call, r);
    if (r == CUDA_ERROR_OUT_OF_MEMORY && d->cu.cuMemGetInfo_v2(&free, &total) == CUDA_SUCCESS)
        snprintf(d->base.trouble, sizeof d->base.trouble,
                 "; of the device's %.2f GiB %.2f are ours and %.2f free: lower the batch size",
                 (double)total / (1 << 30), (double)d->used / (1 << 30), (double)free / (1 << 30));
    else
        snprintf(d->base.trouble, sizeof d->base.trouble, "; %.190s", cx.msg);
    return NULL;
}

static void *device_alloc(CudaDevice *d, int64_t bytes)
{
    CUdeviceptr at = 0;
    int64_t all;
    if (bytes < 0 || !size_add_ok(d->used, bytes, &all) || all > d->limit) {
        snprintf(d->base.trouble, sizeof d->base.trouble,
                 "; %.3f GiB of the device's memory are ours (--gpu-memory-fraction), %.3f used",
                 (double)d->limit / (1 << 30), (double)d->used / (1 << 30));
        return NULL;
    }
    CUresult r = d->cu.cuCtxSetCurrent(d->q.context);
    if (r == CUDA_SUCCESS)
        r = d->cu.cuMemAlloc_v2(&at, bytes > 0 ? (size_t)bytes : 1);
    if (r != CUDA_SUCCESS)
        return no_memory(d, "cuMemAlloc", r);
    r = fill_zero(d, at, bytes);
    if (r == CUDA_SUCCESS && block_add(d, at, bytes))
        return (void *)(uintptr_t)at;
    d->cu.cuMemFree_v2(at);
    return r == CUDA_SUCCESS ? NULL : no_memory(d, "cuMemsetD8Async", r);
}

static void device_release(CudaDevice *d, void *p)
{
    const CUdeviceptr at = (CUdeviceptr)(uintptr_t)p;
    d->cu.cuMemFree_v2(at);
    for (int i = 0; i < d->nblock; i++)
        if (d->block[i].at == at) {
            d->used -= d->block[i].bytes;
            d->base.room += d->block[i].bytes;
            d->block[i] = d->block[--d->nblock];
            return;
        }
}

static void *host_alloc(CudaDevice *d, int64_t bytes)
{
    void *p = NULL;
    CUresult r = d->cu.cuCtxSetCurrent(d->q.context);
    if (r == CUDA_SUCCESS)
        r = d->cu.cuMemHostAlloc(&p, bytes > 0 ? (size_t)bytes : 1, 0);
    if (r != CUDA_SUCCESS)
        return no_memory(d, "cuMemHostAlloc", r);
    memset(p, 0, (size_t)bytes);
    return p;
}

static void *cuda_alloc(GtcDevice *base, MemoryKind kind, int64_t bytes)
{
    CudaDevice *d = cuda_of(base);
    base->trouble[0] = '\0';
    return kind == MEMORY_PINNED ? host_alloc(d, bytes) : device_alloc(d, bytes);
}

static void cuda_release(GtcDevice *base, MemoryKind kind, void *p)
{
    CudaDevice *d = cuda_of(base);
    if (!p)
        return;
    d->cu.cuCtxSetCurrent(d->q.context);
    if (kind == MEMORY_PINNED)
        d->cu.cuMemFreeHost(p);
    else
        device_release(d, p);
}

static Status cuda_copy(Ctx *cx, GtcDevice *base, CopyWay way, void *host, void *device,
                        int64_t bytes)
{
    CudaDevice *d = cuda_of(base);
    const CudaDriver *cu = &d->cu;
    const CUdeviceptr at = (CUdeviceptr)(uintptr_t)device;
    if (bytes == 0)
        return ST_OK;
    TRY(cuda_enter(cx, &d->q));
    const Status status =
        way == COPY_TO_DEVICE
            ? cuda_check(cx, cu, "cuMemcpyHtoDAsync",
                         cu->cuMemcpyHtoDAsync_v2(at, host, (size_t)bytes, d->q.stream))
            : cuda_check(cx, cu, "cuMemcpyDtoHAsync",
                         cu->cuMemcpyDtoHAsync_v2(host, at, (size_t)bytes, d->q.stream));
    const Status done =
        cuda_check(cx, cu, "cuStreamSynchronize", cu->cuStreamSynchronize(d->q.stream));
    return status != ST_OK ? status : done;
}

/* ------------------------------------------------------------ code */

static Status cuda_build(Ctx *cx, GtcDevice *d, Arena *arena, const Graph *g, Ref r, Kernel *out)
{
    return kernel_build_cuda(cx, arena, &d->target, g, r, out);
}

static Status launch_ready(Ctx *cx, const CudaDevice *d, CUfunction fn, const Launch *l)
{
    const CudaDriver *cu = &d->cu;
    int blocks = 0;
    if (l->smem > d->base.target.smem_bytes)
        return FAIL(cx, ENV, "%s wants %d bytes of shared memory a block, the device has %lld",
                    l->entry, l->smem, (long long)d->base.target.smem_bytes);
    if (l->smem > STATIC_SMEM)
        TRY(cuda_check(
            cx, cu, "cuFuncSetAttribute",
            cu->cuFuncSetAttribute(fn, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, l->smem)));
    if (!l->cooperative)
        return ST_OK;
    TRY(cuda_check(
        cx, cu, "cuOccupancyMaxActiveBlocksPerMultiprocessor",
        cu->cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, fn, l->threads, (size_t)l->smem)));
    if (l->blocks > (int64_t)blocks * d->base.target.threads)
        return FAIL(cx, ENV, "%s wants %lld blocks at the same time, the device has room for %lld",
                    l->entry, (long long)l->blocks, (long long)blocks * d->base.target.threads);
    return ST_OK;
}

/* The driver's own words about an image, where it has any. */
static Status module_load(Ctx *cx, const CudaDevice *d, const Kernel *k, const Image *image,
                          CUmodule *out)
{
    char words[512] = "";
    CUjit_option option[] = { CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES };
    void *value[] = { words, (void *)(uintptr_t)(sizeof words - 1) };
    const CUresult r = d->cu.cuModuleLoadDataEx(out, image->bytes, 2, option, value);
    if (r == CUDA_SUCCESS)
        return ST_OK;
    char call[700];
    snprintf(call, sizeof call, "cuModuleLoadData of %s%s%s", k->name, words[0] ? ": " : "", words);
    return cuda_fail(cx, &d->cu, call, r);
}

static Status code_load(Ctx *cx, const CudaDevice *d, Arena *arena, const Kernel *k,
                        const Image *image, CudaCode *out)
{
    TRY(module_load(cx, d, k, image, &out->module));
    out->fn = arena_array(arena, CUfunction, k->nlaunch);
    Launch *l = arena_array(arena, Launch, k->nlaunch);
    for (int i = 0; i < k->nlaunch; i++) {
        l[i] = k->launch[i];
        l[i].entry = arena_strdup(arena, k->launch[i].entry);
        TRY(cuda_check(cx, &d->cu, l[i].entry,
                       d->cu.cuModuleGetFunction(&out->fn[i], out->module, l[i].entry)));
        TRY(launch_ready(cx, d, out->fn[i], &l[i]));
    }
    out->launch = l;
    out->n = k->nlaunch;
    return ST_OK;
}

static Status load_all(Ctx *cx, CudaDevice *d, const LoadCall *call, const Image *image,
                       CudaModule *m, Code *code)
{
    for (int i = 0; i < call->n; i++) {
        int same = 0;
        if (!image[i].bytes)
            continue;
        code[i] = (Code){ .from = image[i].from };
        while (strcmp(call->k[same].name, call->k[i].name) != 0)
            same++;
        if (same < i) { /* equal kernels have equal names */
            m->code[i] = m->code[same];
            m->code[i].module = NULL;
        } else {
            TRY(code_load(cx, d, m->arena, &call->k[i], &image[i], &m->code[i]));
        }
    }
    return ST_OK;
}

/* What did not compile is made again by the last-resort planner, whose text is another one. */
static Status load_again(Ctx *cx, const CudaDevice *d, const LoadCall *call, Arena *arena,
                         const Code *code, Image *image)
{
    Kernel *k = arena_array(arena, Kernel, call->n);
    const char **layers = arena_array(arena, const char *, call->n);
    Image *made = arena_array(arena, Image, call->n);
    int *at = arena_array(arena, int, call->n), n = 0;
    for (int i = 0; i < call->n; i++) {
        if (image[i].bytes || code[i].from == CODE_CALL || !call->k[i].source[0] || !call->g)
            continue;
        const char *name = call->k[i].name;
        TRY(kernel_build_plain_cuda(cx, call->arena, &d->base.target, call->g, call->node[i],
                                    &call->k[i]));
        log_say(cx, LOG_WARN, "%s is made again by the last-resort planner, as %s", name,
                call->k[i].name);
        k[n] = call->k[i];
        layers[n] = call->layers ? call->layers[i] : NULL;
        at[n++] = i;
    }
    if (n == 0)
        return ST_OK;
    TRY(jit_image_load(cx, d->cache, d->maker, k, layers, n, call->no_cache, made));
    for (int i = 0; i < n; i++)
        image[at[i]] = made[i];
    for (int i = 0; i < n; i++)
        if (!made[i].bytes && k[i].source[0])
            return FAIL(cx, ENV,
                        "%s: %s compiles it neither as it was planned nor as the last-resort "
                        "planner makes it",
                        k[i].name, d->maker->name);
    return ST_OK;
}

/* The kernels that need code of their own: those that are calls have no text to compile. */
static const Kernel *without_calls(Arena *arena, const LoadCall *call, const Code *code)
{
    Kernel *k = arena_array(arena, Kernel, call->n);
    for (int i = 0; i < call->n; i++) {
        k[i] = call->k[i];
        if (code[i].from == CODE_CALL)
            k[i].source = "";
    }
    return k;
}

static Status cuda_load(Ctx *cx, GtcDevice *base, const LoadCall *call, Code *code, void **module)
{
    CudaDevice *d = cuda_of(base);
    CudaModule *m = calloc(1, sizeof *m);
    *module = m;
    if (!m)
        return FAIL(cx, MEMORY, "no memory to load %d kernels", call->n);
    m->arena = arena_new();
    m->code = arena_array(m->arena, CudaCode, call->n);
    m->ncode = call->n;
    Image *image = arena_array(m->arena, Image, call->n);
    TRY(cuda_enter(cx, &d->q));
    TRY(cuda_call_load(cx, &d->calls, base, &d->q, call, m, code));
    TRY(jit_image_load(cx, d->cache, d->maker, without_calls(m->arena, call, code), call->layers,
                       call->n, call->no_cache, image));
    Status status = load_again(cx, d, call, m->arena, code, image);
    if (status == ST_OK)
        status = load_all(cx, d, call, image, m, code);
    jit_image_free(image, call->n);
    return status;
}

static void cuda_unload(GtcDevice *base, void *module)
{
    CudaDevice *d = cuda_of(base);
    CudaModule *m = module;
    if (!m)
        return;
    d->cu.cuCtxSetCurrent(d->q.context);
    cuda_run_end(&d->q, m);
    for (int i = 0; i < m->ncode; i++)
        if (m->code[i].module)
            d->cu.cuModuleUnload(m->code[i].module);
    cuda_call_unload(m);
    arena_free(m->arena);
    free(m);
}

static Status cuda_start(Ctx *cx, GtcDevice *base, const Schedule *s, int slot, double *ms)
{
    return cuda_run(cx, &cuda_of(base)->q, s->module, s, slot, ms);
}

static Status cuda_wait(Ctx *cx, GtcDevice *base, const Schedule *s, int slot)
{
    return cuda_run_wait(cx, &cuda_of(base)->q, s->module, slot);
}

static bool cuda_look(GtcDevice *base, GtcGpuLoad *out)
{
    const CudaDevice *d = cuda_of(base);
    if (d->nvml)
        nvml_read(d->nvml, out);
    return d->nvml != NULL;
}

#define CUDA_OPS                                                                                   \
    .close = cuda_close, .alloc = cuda_alloc, .release = cuda_release, .copy = cuda_copy,          \
    .build = cuda_build, .load = cuda_load, .unload = cuda_unload, .run = cuda_start,              \
    .wait = cuda_wait, .look = cuda_look

const DeviceOps device_cuda = { .name = "cuda", .open = cuda_open, CUDA_OPS };

/* The host's driver is opened and closed with the device. */
static Status simt_open(Ctx *cx, const DeviceCall *call, GtcDevice **out)
{
    SimtDriverOptions opt;
    CudaDriver cu;
    TRY(simt_driver_options(cx, &opt));
    TRY(simt_driver_open(cx, &opt, &cu));
    const Status s = cuda_open_simt(cx, &cu, opt.machine.shadow, call, out);
    if (s == ST_OK) {
        cuda_of(*out)->driver = true;
        return ST_OK;
    }
    Ctx quiet = *cx;
    simt_driver_close(&quiet);
    return s;
}

const DeviceOps device_simt = { .name = "simt", .open = simt_open, CUDA_OPS };
