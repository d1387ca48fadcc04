/* SPDX-License-Identifier: Apache-2.0 */
/* simt_driver: the calls of CudaDriver on the host: device, context, memory, errors.
 *
 * The calls carry no handle of the driver, so the one that is open is a variable of the process,
 * which libcuda keeps just so.  Each call counts itself, may be told to fail by its number, and
 * fails by itself once a kernel has failed.  A call that gives something back does so even if it
 * then fails, as the real ones do when the context is lost. */
#include "runtime/simt_driver_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static SimtDriver *open_driver; /* see above */

/* ------------------------------------------------------------ options */

static Status bad_setting(Ctx *cx, const char *name, const char *value, const char *wants)
{
    return FAIL(cx, USAGE, "%s=%.40s: wants %s", name, value, wants);
}

static bool number(const char *text, uint64_t *out, char **end)
{
    *out = strtoull(text, end, 10);
    return *text >= '0' && *text <= '9';
}

Status simt_driver_options(Ctx *cx, SimtDriverOptions *out)
{
    static const char *const orders[] = { "forward", "reverse", "seeded" };
    const char *fail = getenv("GTC_SIMT_FAIL"), *seed = getenv("GTC_SIMT_SEED"),
               *order = getenv("GTC_SIMT_SCHEDULE"), *shadow = getenv("GTC_SIMT_SHADOW");
    uint64_t n = 0;
    char *end = NULL;

    *out = (SimtDriverOptions){ .capability = 90, .machine = { .seed = 1 } };
    if (fail && *fail) {
        if (!number(fail, &out->fail, &end) || (*end && strcmp(end, "+") != 0))
            return bad_setting(cx, "GTC_SIMT_FAIL", fail,
                               "the number of a call, and + for all after");
        out->fail_ever = *end == '+';
    }
    if (seed && *seed) {
        if (!number(seed, &n, &end) || *end)
            return bad_setting(cx, "GTC_SIMT_SEED", seed, "a number");
        out->machine.seed = (uint32_t)n;
        out->machine.order = SIMT_SEEDED;
    }
    if (order && *order) {
        int i = 0;
        while (i < 3 && strcmp(order, orders[i]) != 0)
            i++;
        if (i == 3)
            return bad_setting(cx, "GTC_SIMT_SCHEDULE", order, "forward, reverse or seeded");
        out->machine.order = (SimtOrder)i;
    }
    if (shadow && *shadow) {
        if (strcmp(shadow, "0") != 0 && strcmp(shadow, "1") != 0)
            return bad_setting(cx, "GTC_SIMT_SHADOW", shadow, "0 or 1");
        out->machine.shadow = *shadow == '1';
    }
    return ST_OK;
}

/* ------------------------------------------------------------ every call */

static bool is_current(const SimtDriver *d)
{
    for (int i = 0; i < d->nthread; i++)
        if (pthread_equal(d->thread[i], pthread_self()))
            return d->retained > 0;
    return false;
}

CUresult simt_driver_enter(SimtDriver **out, Needs needs, CUresult injected)
{
    SimtDriver *d = *out = open_driver;
    if (!d)
        return CUDA_ERROR_NOT_INITIALIZED;
    pthread_mutex_lock(&d->lock);
    d->calls++;
    if (d->opt.fail && (d->calls == d->opt.fail || (d->opt.fail_ever && d->calls > d->opt.fail))) {
        d->failed++;
        return injected;
    }
    if (needs >= NEEDS_INIT && !d->initialised)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (needs == NEEDS_CONTEXT && d->sticky)
        return d->sticky;
    if (needs == NEEDS_CONTEXT && !is_current(d))
        return CUDA_ERROR_INVALID_CONTEXT;
    return CUDA_SUCCESS;
}

CUresult simt_driver_leave(SimtDriver *d, CUresult r)
{
    if (d)
        pthread_mutex_unlock(&d->lock);
    return r;
}

uint32_t simt_driver_random(SimtDriver *d, uint32_t below)
{
    d->rng ^= d->rng << 13;
    d->rng ^= d->rng >> 17;
    d->rng ^= d->rng << 5;
    return (uint32_t)((uint64_t)d->rng * below >> 32);
}

void simt_handle_add(Handle **list, Handle *h)
{
    h->next = *list;
    *list = h;
}

bool simt_handle_drop(Handle **list, Handle *h)
{
    for (; *list; list = &(*list)->next)
        if (*list == h) {
            *list = h->next;
            return true;
        }
    return false;
}

bool simt_handle_known(const Handle *list, const Handle *h)
{
    while (list && list != h)
        list = list->next;
    return h && list;
}

static int handle_count(const Handle *list)
{
    int n = 0;
    for (; list; list = list->next)
        n++;
    return n;
}

/* ------------------------------------------------------------ driver and errors */

static CUresult init(unsigned flags)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_NOTHING, CUDA_ERROR_NO_DEVICE);
    if (r == CUDA_SUCCESS) {
        r = flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
        d->initialised |= !flags;
    }
    return simt_driver_leave(d, r);
}

static CUresult driver_version(int *out)
{
    SimtDriver *d;
    const CUresult r = simt_driver_enter(&d, NEEDS_NOTHING, CUDA_ERROR_UNKNOWN);
    if (r == CUDA_SUCCESS)
        *out = 13000;
    return simt_driver_leave(d, r);
}

typedef struct ErrorName {
    CUresult value;
    const char *name, *text;
} ErrorName;

#define ERROR(id, words)                                                                           \
    {                                                                                              \
        id, #id, words                                                                             \
    }
static const ErrorName errors[] = {
    ERROR(CUDA_SUCCESS, "no error"),
    ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    ERROR(CUDA_ERROR_NOT_INITIALIZED, "not initialized"),
    ERROR(CUDA_ERROR_NO_DEVICE, "no device"),
    ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device"),
    ERROR(CUDA_ERROR_INVALID_IMAGE, "the image of a kernel is invalid"),
    ERROR(CUDA_ERROR_INVALID_CONTEXT, "no context is current"),
    ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid handle"),
    ERROR(CUDA_ERROR_NOT_FOUND, "not found"),
    ERROR(CUDA_ERROR_NOT_READY, "not ready"),
    ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access"),
    ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources for a launch"),
    ERROR(CUDA_ERROR_MISALIGNED_ADDRESS, "a misaligned address"),
    ERROR(CUDA_ERROR_LAUNCH_FAILED, "a launch failed"),
    ERROR(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks in a cooperative launch"),
    ERROR(CUDA_ERROR_NOT_SUPPORTED, "not supported"),
    ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
};
#undef ERROR

static const ErrorName *error_find(CUresult code)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].value == code)
            return &errors[i];
    return NULL;
}

static CUresult error_name(CUresult code, const char **out)
{
    SimtDriver *d;
    const CUresult r = simt_driver_enter(&d, NEEDS_NOTHING, CUDA_ERROR_INVALID_VALUE);
    const ErrorName *e = error_find(code);
    *out = r == CUDA_SUCCESS && e ? e->name : NULL;
    return simt_driver_leave(d, *out ? r : CUDA_ERROR_INVALID_VALUE);
}

static CUresult error_string(CUresult code, const char **out)
{
    SimtDriver *d;
    const CUresult r = simt_driver_enter(&d, NEEDS_NOTHING, CUDA_ERROR_INVALID_VALUE);
    const ErrorName *e = error_find(code);
    *out = NULL;
    if (r == CUDA_SUCCESS && code == d->sticky && d->msg[0])
        *out = d->msg;
    else if (r == CUDA_SUCCESS && e)
        *out = e->text;
    return simt_driver_leave(d, *out ? r : CUDA_ERROR_INVALID_VALUE);
}

/* ------------------------------------------------------------ the device */

static CUresult device_count(int *out)
{
    SimtDriver *d;
    const CUresult r = simt_driver_enter(&d, NEEDS_INIT, CUDA_ERROR_UNKNOWN);
    if (r == CUDA_SUCCESS)
        *out = 1;
    return simt_driver_leave(d, r);
}

static CUresult device_get(CUdevice *out, int ordinal)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_INIT, CUDA_ERROR_UNKNOWN);
    if (r == CUDA_SUCCESS && ordinal)
        r = CUDA_ERROR_INVALID_DEVICE;
    if (r == CUDA_SUCCESS)
        *out = 0;
    return simt_driver_leave(d, r);
}

static CUresult device_name(char *out, int cap, CUdevice dev)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_INIT, CUDA_ERROR_UNKNOWN);
    if (r == CUDA_SUCCESS && dev)
        r = CUDA_ERROR_INVALID_DEVICE;
    if (r == CUDA_SUCCESS && cap > 0)
        snprintf(out, (size_t)cap, "simt");
    return simt_driver_leave(d, r);
}

static CUresult device_attribute(int *out, CUdevice_attribute a, CUdevice dev)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_INIT, CUDA_ERROR_UNKNOWN);
    if (r != CUDA_SUCCESS)
        return simt_driver_leave(d, r);
    const int capability = d->opt.capability;
    const struct {
        CUdevice_attribute id;
        int value;
    } value[] = {
        { CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024 },
        { CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, SIMT_SMEM_DEFAULT },
        { CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32 },
        { CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536 },
        { CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1000 },
        { CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, SIMT_SMS },
        { CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 32 << 20 },
        { CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, SIMT_MAX_THREADS_SM },
        { CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, capability / 10 },
        { CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, capability % 10 },
        { CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, SIMT_MAX_SMEM + 1024 },
        { CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536 },
        { CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1 },
        { CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, SIMT_MAX_SMEM },
        { CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH, 0 },
    };
    r = dev ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_INVALID_VALUE;
    for (size_t i = 0; i < sizeof value / sizeof *value && !dev; i++)
        if (value[i].id == a) {
            *out = value[i].value;
            r = CUDA_SUCCESS;
        }
    return simt_driver_leave(d, r);
}

static CUresult device_memory(size_t *out, CUdevice dev)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_INIT, CUDA_ERROR_UNKNOWN);
    if (r == CUDA_SUCCESS && dev)
        r = CUDA_ERROR_INVALID_DEVICE;
    if (r == CUDA_SUCCESS)
        *out = d->opt.machine.memory;
    return simt_driver_leave(d, r);
}

/* ------------------------------------------------------------ the context */

static CUcontext context_of(SimtDriver *d)
{
    return (CUcontext)(void *)d; /* a handle, and no more */
}

static CUresult context_retain(CUcontext *out, CUdevice dev)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_INIT, CUDA_ERROR_OUT_OF_MEMORY);
    if (r == CUDA_SUCCESS && dev)
        r = CUDA_ERROR_INVALID_DEVICE;
    if (r == CUDA_SUCCESS) {
        d->retained++;
        *out = context_of(d);
    }
    return simt_driver_leave(d, r);
}

static CUresult context_release(CUdevice dev)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_INIT, CUDA_ERROR_UNKNOWN);
    if (d && (dev || !d->retained))
        r = r ? r : CUDA_ERROR_INVALID_DEVICE;
    else if (d && !--d->retained)
        d->nthread = 0;
    return simt_driver_leave(d, r);
}

static CUresult context_current(CUcontext c)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_INIT, CUDA_ERROR_UNKNOWN);
    if (r != CUDA_SUCCESS)
        return simt_driver_leave(d, r);
    int at = 0;
    while (at < d->nthread && !pthread_equal(d->thread[at], pthread_self()))
        at++;
    if (!c) {
        if (at < d->nthread)
            d->thread[at] = d->thread[--d->nthread];
    } else if (c != context_of(d) || !d->retained) {
        r = CUDA_ERROR_INVALID_CONTEXT;
    } else if (at == SIMT_CONTEXT_THREADS) {
        r = CUDA_ERROR_NOT_SUPPORTED;
    } else if (at == d->nthread) {
        d->thread[d->nthread++] = pthread_self();
    }
    return simt_driver_leave(d, r);
}

/* ------------------------------------------------------------ memory */

static CUresult memory_info(size_t *free_bytes, size_t *total)
{
    SimtDriver *d;
    const CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    size_t used = 0;
    if (r == CUDA_SUCCESS) {
        simt_allocations(d->m, &used);
        *total = d->opt.machine.memory;
        *free_bytes = *total - used;
    }
    return simt_driver_leave(d, r);
}

static CUresult memory_alloc(CUdeviceptr *out, size_t bytes)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    if (r == CUDA_SUCCESS && !bytes)
        r = CUDA_ERROR_INVALID_VALUE;
    void *p = r == CUDA_SUCCESS ? simt_alloc(d->m, bytes) : NULL;
    if (p)
        *out = (CUdeviceptr)(uintptr_t)p;
    else if (r == CUDA_SUCCESS)
        r = CUDA_ERROR_OUT_OF_MEMORY;
    return simt_driver_leave(d, r);
}

/* Frees only when all work is done, as the real one does. */
static CUresult memory_free(CUdeviceptr p)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (d && p) {
        const CUresult drained = simt_stream_drain(d);
        r = r ? r : drained;
        if (!simt_free(d->m, (void *)(uintptr_t)p) && r == CUDA_SUCCESS)
            r = CUDA_ERROR_INVALID_VALUE;
    }
    return simt_driver_leave(d, r);
}

int simt_pinned_find(const SimtDriver *d, const void *p, size_t bytes)
{
    for (int i = 0; i < d->npinned; i++) {
        const size_t off = (size_t)((const char *)p - d->pinned[i].p);
        if ((const char *)p >= d->pinned[i].p && off <= d->pinned[i].bytes &&
            bytes <= d->pinned[i].bytes - off)
            return i;
    }
    return -1;
}

static CUresult host_alloc(void **out, size_t bytes, unsigned flags)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_OUT_OF_MEMORY);
    (void)flags;
    if (r == CUDA_SUCCESS && !bytes)
        r = CUDA_ERROR_INVALID_VALUE;
    if (r != CUDA_SUCCESS)
        return simt_driver_leave(d, r);
    if (d->npinned == d->pinned_cap) {
        const int cap = d->pinned_cap ? 2 * d->pinned_cap : 16;
        struct PinnedMemory *more = realloc(d->pinned, (size_t)cap * sizeof *more);
        if (!more)
            return simt_driver_leave(d, CUDA_ERROR_OUT_OF_MEMORY);
        d->pinned = more;
        d->pinned_cap = cap;
    }
    char *p = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!p)
        return simt_driver_leave(d, CUDA_ERROR_OUT_OF_MEMORY);
    memset(p, 0xff, bytes);
    d->pinned[d->npinned].p = *out = p;
    d->pinned[d->npinned++].bytes = bytes;
    return simt_driver_leave(d, CUDA_SUCCESS);
}

static CUresult host_free(void *p)
{
    SimtDriver *d;
    CUresult r = simt_driver_enter(&d, NEEDS_CONTEXT, CUDA_ERROR_UNKNOWN);
    if (d && p) {
        const CUresult drained = simt_stream_drain(d);
        const int i = simt_pinned_find(d, p, 0);
        r = r ? r : drained;
        if (i >= 0 && d->pinned[i].p == p) {
            free(p);
            d->pinned[i] = d->pinned[--d->npinned];
        } else if (r == CUDA_SUCCESS) {
            r = CUDA_ERROR_INVALID_VALUE;
        }
    }
    return simt_driver_leave(d, r);
}

/* ------------------------------------------------------------ open and close */

Status simt_driver_open(Ctx *cx, const SimtDriverOptions *opt, CudaDriver *out)
{
    if (open_driver)
        return FAIL(cx, INTERNAL, "simt: the driver is open already");
    SimtDriver *d = calloc(1, sizeof *d);
    if (!d)
        return FAIL(cx, MEMORY, "simt: no memory for the driver");
    d->opt = *opt;
    d->opt.machine.resident = SIMT_SMS * SIMT_BLOCKS_SM;
    if (!d->opt.machine.memory)
        d->opt.machine.memory = (size_t)4 << 30;
    d->cx = *cx;
    const Status s = simt_create(cx, &d->opt.machine, &d->m);
    if (s != ST_OK) {
        free(d);
        return s;
    }
    pthread_mutex_init(&d->lock, NULL);
    d->rng = opt->machine.seed * 2654435761u + 12345;
    d->rng += !d->rng;
    d->next_id = 1;
    *out = (CudaDriver){ .cuInit = init,
                         .cuDriverGetVersion = driver_version,
                         .cuGetErrorName = error_name,
                         .cuGetErrorString = error_string,
                         .cuDeviceGetCount = device_count,
                         .cuDeviceGet = device_get,
                         .cuDeviceGetName = device_name,
                         .cuDeviceGetAttribute = device_attribute,
                         .cuDeviceTotalMem_v2 = device_memory,
                         .cuDevicePrimaryCtxRetain = context_retain,
                         .cuDevicePrimaryCtxRelease_v2 = context_release,
                         .cuCtxSetCurrent = context_current,
                         .cuMemGetInfo_v2 = memory_info,
                         .cuMemAlloc_v2 = memory_alloc,
                         .cuMemFree_v2 = memory_free,
                         .cuMemHostAlloc = host_alloc,
                         .cuMemFreeHost = host_free };
    simt_module_fill(out);
    simt_stream_fill(out);
    simt_graph_fill(out);
    open_driver = d;
    return ST_OK;
}

/* What the caller has not given back, as words; "" when there is nothing. */
static void leaks(const SimtDriver *d, char *out, size_t cap)
{
    size_t bytes = 0;
    const struct {
        int n;
        const char *what;
    } left[] = {
        { simt_allocations(d->m, &bytes), "device allocations" },
        { d->npinned, "pinned allocations" },
        { handle_count(d->stream), "streams" },
        { handle_count(d->event), "events" },
        { handle_count(d->graph), "graphs" },
        { handle_count(d->exec), "instantiated graphs" },
        { handle_count(d->module), "modules" },
        { d->retained, "uses of the context" },
    };
    size_t at = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof left / sizeof *left && at < cap; i++)
        if (left[i].n)
            at += (size_t)snprintf(out + at, cap - at, "%s%d %s", at ? ", " : "", left[i].n,
                                   left[i].what);
}

Status simt_driver_close(Ctx *cx)
{
    SimtDriver *d = open_driver;
    char left[320];
    if (!d)
        return ST_OK;
    leaks(d, left, sizeof left);
    while (d->stream)
        simt_stream_destroy(d, (CUstream)(void *)d->stream);
    simt_stream_destroy(d, &d->null);
    while (d->event) {
        CUevent e = (CUevent)(void *)d->event;
        simt_handle_drop(&d->event, &e->h);
        simt_event_destroy(e);
    }
    while (d->exec) {
        CUgraphExec e = (CUgraphExec)(void *)d->exec;
        simt_handle_drop(&d->exec, &e->h);
        simt_exec_destroy(e);
    }
    while (d->graph) {
        CUgraph g = (CUgraph)(void *)d->graph;
        simt_handle_drop(&d->graph, &g->h);
        simt_graph_destroy(g);
    }
    while (d->module) {
        CUmodule mod = (CUmodule)(void *)d->module;
        simt_handle_drop(&d->module, &mod->h);
        simt_module_destroy(d, mod);
    }
    for (int i = 0; i < d->npinned; i++)
        free(d->pinned[i].p);
    free(d->pinned);
    simt_destroy(d->m);
    pthread_mutex_destroy(&d->lock);
    free(d);
    open_driver = NULL;
    return left[0] ? FAIL(cx, INTERNAL, "simt: not given back: %s", left) : ST_OK;
}

uint64_t simt_driver_calls(void)
{
    return open_driver ? open_driver->calls : 0;
}

uint64_t simt_driver_failed(void)
{
    return open_driver ? open_driver->failed : 0;
}

SimtMachine *simt_driver_machine(void)
{
    return open_driver ? open_driver->m : NULL;
}
