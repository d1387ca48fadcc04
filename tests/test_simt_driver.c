/* SPDX-License-Identifier: Apache-2.0 */
/* The host's CUDA driver: memory, streams, events, graphs, errors; missing events and edges are
 * found; any call can be made to fail, and nothing leaks or crashes then. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/simt_driver.h"
#include "tests/simt_case.h"

enum { N = 512, BYTES = N * 4 };

/* A driver, a context, and the kernel `add` in it. */
typedef struct Bench {
    CudaDriver cu;
    CUcontext context;
    CUmodule module;
    CUfunction add;
} Bench;

static char *image[2]; /* plain, shadow; made once */
static size_t image_bytes[2];

static int make_images(void **state)
{
    char *source = simt_case_source("add");
    (void)state;
    for (int shadow = 0; shadow < 2; shadow++)
        image[shadow] = simt_case_compile("add", source, shadow, &image_bytes[shadow]);
    free(source);
    return image[0] && image[1] ? 0 : -1;
}

static int free_images(void **state)
{
    (void)state;
    free(image[0]);
    free(image[1]);
    return 0;
}

#define OK(call) assert_int_equal((call), CUDA_SUCCESS)

static SimtDriverOptions options(bool shadow, SimtOrder order, uint32_t seed)
{
    return (SimtDriverOptions){
        .capability = 90,
        .machine = { .shadow = shadow, .order = order, .seed = seed, .memory = 16 << 20 }
    };
}

static void bench_open(Bench *b, const SimtDriverOptions *opt)
{
    Ctx cx;
    ctx_init(&cx);
    *b = (Bench){ .context = NULL };
    assert_int_equal(simt_driver_open(&cx, opt, &b->cu), ST_OK);
    OK(b->cu.cuInit(0));
    OK(b->cu.cuDevicePrimaryCtxRetain(&b->context, 0));
    OK(b->cu.cuCtxSetCurrent(b->context));
    OK(b->cu.cuModuleLoadDataEx(&b->module, image[opt->machine.shadow], 0, NULL, NULL));
    OK(b->cu.cuModuleGetFunction(&b->add, b->module, "add"));
}

static void bench_close(Bench *b)
{
    Ctx cx;
    ctx_init(&cx);
    b->cu.cuModuleUnload(b->module);
    b->cu.cuDevicePrimaryCtxRelease_v2(0);
    if (simt_driver_close(&cx) != ST_OK)
        fail_msg("%s", cx.msg);
}

static CUresult launch(Bench *b, CUstream s, CUdeviceptr y, CUdeviceptr x, CUdeviceptr z, float by)
{
    void *arg[] = { &y, &x, &z, &by };
    const CUlaunchConfig c = { N / 64, 1, 1, 64, 1, 1, 0, s, NULL, 0 };
    return b->cu.cuLaunchKernelEx(&c, b->add, arg, NULL);
}

static CUresult node(Bench *b, CUgraph g, const CUgraphNode *dep, size_t n, CUdeviceptr y,
                     CUdeviceptr x, CUdeviceptr z, CUgraphNode *out)
{
    float by = 1;
    void *arg[] = { &y, &x, &z, &by };
    const CUDA_KERNEL_NODE_PARAMS p = { b->add, N / 64, 1, 1, 64, 1, 1, 0, arg, NULL, NULL, NULL };
    return b->cu.cuGraphAddKernelNode_v2(out, g, dep, n, &p);
}

/* What the driver says of the failure r. */
static const char *words(Bench *b, CUresult r)
{
    const char *text = NULL;
    b->cu.cuGetErrorString(r, &text);
    return text ? text : "";
}

/* ------------------------------------------------------------ the device and its memory */

static void test_device(void **state)
{
    Bench b;
    int v = 0, n = 0;
    char name[16];
    size_t free_bytes = 0, total = 0, other = 0;
    CUdeviceptr p = 0;
    void *host = NULL;
    SimtDriverOptions opt = options(false, SIMT_FORWARD, 0);
    (void)state;
    bench_open(&b, &opt);
    OK(b.cu.cuDriverGetVersion(&v));
    assert_true(v >= CUDA_OLDEST_DRIVER);
    OK(b.cu.cuDeviceGetCount(&n));
    assert_int_equal(n, 1);
    OK(b.cu.cuDeviceGetName(name, sizeof name, 0));
    assert_string_equal(name, "simt");
    OK(b.cu.cuDeviceGetAttribute(&v, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
    assert_int_equal(v, 9);
    assert_int_equal(b.cu.cuDeviceGet(&v, 1), CUDA_ERROR_INVALID_DEVICE);
    OK(b.cu.cuMemGetInfo_v2(&free_bytes, &total));
    assert_int_equal(total, 16 << 20);
    OK(b.cu.cuMemAlloc_v2(&p, 1 << 20));
    OK(b.cu.cuMemGetInfo_v2(&other, &total));
    assert_int_equal(free_bytes - other, 1 << 20);
    CUdeviceptr huge = 0;
    assert_int_equal(b.cu.cuMemAlloc_v2(&huge, 64 << 20), CUDA_ERROR_OUT_OF_MEMORY);
    assert_int_equal(b.cu.cuMemFree_v2(p + 8), CUDA_ERROR_INVALID_VALUE);
    OK(b.cu.cuMemFree_v2(p));
    for (int i = 0; i < 100; i++) { /* what is freed can be had again */
        OK(b.cu.cuMemAlloc_v2(&p, (size_t)(1 + i % 7) << 20));
        OK(b.cu.cuMemFree_v2(p));
    }
    OK(b.cu.cuMemHostAlloc(&host, 100, 0));
    OK(b.cu.cuMemFreeHost(host));
    bench_close(&b);
}

static void test_close_says_what_is_left(void **state)
{
    Bench b;
    Ctx cx;
    CUdeviceptr p = 0;
    CUstream s = NULL;
    SimtDriverOptions opt = options(false, SIMT_FORWARD, 0);
    (void)state;
    ctx_init(&cx);
    bench_open(&b, &opt);
    OK(b.cu.cuMemAlloc_v2(&p, 100));
    OK(b.cu.cuStreamCreate(&s, 0));
    assert_int_equal(simt_driver_close(&cx), ST_INTERNAL);
    assert_string_equal(cx.msg, "simt: not given back: 1 device allocations, 1 streams, 1 modules, "
                                "1 uses of the context");
}

/* ------------------------------------------------------------ streams and events */

/* y = x + 2 x on one stream, z = y + x on another one, which waits for an event or does not. */
static CUresult two_streams(const SimtDriverOptions *opt, bool wait, float *got, char *said,
                            size_t cap)
{
    Bench b;
    CUstream s[2];
    CUevent e;
    CUdeviceptr x, y, z;
    float *host = NULL;
    bench_open(&b, opt);
    OK(b.cu.cuStreamCreate(&s[0], CU_STREAM_NON_BLOCKING));
    OK(b.cu.cuStreamCreate(&s[1], CU_STREAM_NON_BLOCKING));
    OK(b.cu.cuEventCreate(&e, CU_EVENT_DISABLE_TIMING));
    OK(b.cu.cuMemAlloc_v2(&x, BYTES));
    OK(b.cu.cuMemAlloc_v2(&y, BYTES));
    OK(b.cu.cuMemAlloc_v2(&z, BYTES));
    OK(b.cu.cuMemHostAlloc((void **)&host, BYTES, 0));
    for (int i = 0; i < N; i++)
        host[i] = (float)i;
    OK(b.cu.cuMemcpyHtoDAsync_v2(x, host, BYTES, s[0]));
    OK(b.cu.cuMemsetD8Async(y, 0, BYTES, s[0]));
    OK(b.cu.cuStreamSynchronize(s[0]));
    OK(b.cu.cuMemsetD8Async(z, 0, BYTES, s[1]));
    OK(launch(&b, s[0], y, x, x, 2));
    OK(b.cu.cuEventRecord(e, s[0]));
    if (wait)
        OK(b.cu.cuStreamWaitEvent(s[1], e, 0));
    OK(launch(&b, s[1], z, y, x, 1));
    OK(b.cu.cuMemcpyDtoHAsync_v2(host, z, BYTES, s[1]));
    assert_true(host[3] != host[3]); /* not there before somebody waits */
    CUresult r = b.cu.cuStreamSynchronize(s[1]);
    if (r == CUDA_SUCCESS)
        r = b.cu.cuStreamSynchronize(s[0]);
    *got = r == CUDA_SUCCESS ? host[3] : 0;
    strncpy(said, words(&b, r), cap - 1);
    b.cu.cuMemFreeHost(host);
    b.cu.cuMemFree_v2(x);
    b.cu.cuMemFree_v2(y);
    b.cu.cuMemFree_v2(z);
    b.cu.cuEventDestroy_v2(e);
    b.cu.cuStreamDestroy_v2(s[0]);
    b.cu.cuStreamDestroy_v2(s[1]);
    bench_close(&b);
    return r;
}

static void test_streams(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 8; k++)
        for (int shadow = 0; shadow < 2; shadow++) {
            const SimtDriverOptions opt = options(shadow, k < 2 ? (SimtOrder)k : SIMT_SEEDED, k);
            float got = 0;
            char said[300] = "";
            assert_int_equal(two_streams(&opt, true, &got, said, sizeof said), CUDA_SUCCESS);
            assert_true(got == 12);
        }
}

/* The event is not waited for: the shadow says so under every schedule. */
static void test_missing_wait(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 8; k++) {
        const SimtDriverOptions opt = options(true, k < 2 ? (SimtOrder)k : SIMT_SEEDED, k);
        float got = 0;
        char said[300] = "";
        assert_int_equal(two_streams(&opt, false, &got, said, sizeof said),
                         CUDA_ERROR_LAUNCH_FAILED);
        assert_non_null(strstr(said, "simt: add:8: block "));
        assert_non_null(strstr(said, "add"));
        assert_non_null(strstr(said, "nothing orders the two"));
    }
}

/* Without the shadow it shows in the result, under some schedule. */
static void test_missing_wait_in_the_result(void **state)
{
    int wrong = 0;
    (void)state;
    for (uint32_t k = 0; k < 8; k++) {
        const SimtDriverOptions opt = options(false, k < 2 ? (SimtOrder)k : SIMT_SEEDED, k);
        float got = 0;
        char said[300] = "";
        assert_int_equal(two_streams(&opt, false, &got, said, sizeof said), CUDA_SUCCESS);
        wrong += got != 12;
    }
    assert_true(wrong > 0 && wrong < 8);
}

static void test_events_measure(void **state)
{
    Bench b;
    CUevent e[2];
    float ms = -1;
    SimtDriverOptions opt = options(false, SIMT_FORWARD, 0);
    (void)state;
    bench_open(&b, &opt);
    OK(b.cu.cuEventCreate(&e[0], CU_EVENT_DEFAULT));
    OK(b.cu.cuEventCreate(&e[1], CU_EVENT_DEFAULT));
    assert_int_equal(b.cu.cuEventElapsedTime(&ms, e[0], e[1]), CUDA_ERROR_INVALID_HANDLE);
    OK(b.cu.cuEventRecord(e[0], NULL));
    OK(b.cu.cuEventRecord(e[1], NULL));
    assert_int_equal(b.cu.cuEventElapsedTime(&ms, e[0], e[1]), CUDA_ERROR_NOT_READY);
    OK(b.cu.cuEventSynchronize(e[1]));
    OK(b.cu.cuEventElapsedTime(&ms, e[0], e[1]));
    assert_true(ms >= 0);
    OK(b.cu.cuEventDestroy_v2(e[0]));
    OK(b.cu.cuEventDestroy_v2(e[1]));
    assert_int_equal(b.cu.cuEventDestroy_v2(e[1]), CUDA_ERROR_INVALID_HANDLE);
    bench_close(&b);
}

/* ------------------------------------------------------------ graphs */

typedef enum Missing { MISSING_NONE, MISSING_READ, MISSING_WRITE, MISSING_CHILD } Missing;

/* x <- 1s; a = x + x; b = x + a; child graph: x2 = a + b; then a <- 0.  The edge that makes b wait
 * for a's kernel, the fill wait for the child, or the child wait for b's kernel may be missing. */
static CUresult graph(const SimtDriverOptions *opt, Missing missing, int launches, float *got,
                      char *said, size_t cap)
{
    Bench t;
    CUstream s;
    CUgraph g, child;
    CUgraphExec exec = NULL;
    CUgraphNode fill, na, nb, in, nchild, last;
    CUdeviceptr x, a, b, x2;
    float host[N];
    bench_open(&t, opt);
    OK(t.cu.cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
    OK(t.cu.cuMemAlloc_v2(&x, BYTES));
    OK(t.cu.cuMemAlloc_v2(&a, BYTES));
    OK(t.cu.cuMemAlloc_v2(&b, BYTES));
    OK(t.cu.cuMemAlloc_v2(&x2, BYTES));
    if (simt_driver_machine())
        simt_name(simt_driver_machine(), (void *)(uintptr_t)a, BYTES, "buffer_a");
    OK(t.cu.cuGraphCreate(&g, 0));
    OK(t.cu.cuGraphCreate(&child, 0));
    OK(t.cu.cuMemsetD8Async(a, 0, BYTES, s));
    OK(t.cu.cuMemsetD8Async(b, 0, BYTES, s));
    const CUDA_MEMSET_NODE_PARAMS ones = { x, 0, 0x3f800000, 4, N, 1 },
                                  zeros = { a, 0, 0, 4, N, 1 };
    OK(t.cu.cuGraphAddMemsetNode(&fill, g, NULL, 0, &ones, t.context));
    OK(node(&t, g, &fill, 1, a, x, x, &na));
    OK(node(&t, g, missing == MISSING_READ ? &fill : &na, 1, b, x, a, &nb));
    OK(node(&t, child, NULL, 0, x2, a, b, &in));
    const CUgraphNode both[] = { na, nb };
    OK(t.cu.cuGraphAddChildGraphNode(&nchild, g, both, missing == MISSING_CHILD ? 1 : 2, child));
    OK(t.cu.cuGraphAddMemsetNode(&last, g, missing == MISSING_WRITE ? both : &nchild,
                                 missing == MISSING_WRITE ? 2 : 1, &zeros, t.context));
    CUresult r = t.cu.cuGraphInstantiateWithFlags(&exec, g, 0);
    assert_int_equal(r, CUDA_SUCCESS);
    OK(t.cu.cuGraphUpload(exec, s));
    for (int i = 0; i < launches; i++)
        OK(t.cu.cuGraphLaunch(exec, s));
    r = t.cu.cuMemcpyDtoHAsync_v2(host, x2, BYTES, s); /* pageable: waits */
    *got = host[N - 1];
    strncpy(said, words(&t, r), cap - 1);
    t.cu.cuGraphExecDestroy(exec);
    t.cu.cuGraphDestroy(g);
    t.cu.cuGraphDestroy(child);
    t.cu.cuStreamDestroy_v2(s);
    t.cu.cuMemFree_v2(x);
    t.cu.cuMemFree_v2(a);
    t.cu.cuMemFree_v2(b);
    t.cu.cuMemFree_v2(x2);
    bench_close(&t);
    return r;
}

static void test_graphs(void **state)
{
    (void)state;
    for (uint32_t k = 0; k < 8; k++)
        for (int shadow = 0; shadow < 2; shadow++) {
            const SimtDriverOptions opt = options(shadow, k < 2 ? (SimtOrder)k : SIMT_SEEDED, k);
            float got = 0;
            char said[300] = "";
            /* 400 launches of 7 nodes: numbers of ops run out once */
            const int launches = k == 0 ? 400 : 3;
            const CUresult r = graph(&opt, MISSING_NONE, launches, &got, said, sizeof said);
            if (r != CUDA_SUCCESS || got != 5)
                fail_msg("schedule %u, shadow %d: %d %s, %g", k, shadow, r, said, (double)got);
        }
}

static void test_missing_edges(void **state)
{
    (void)state;
    for (int missing = MISSING_READ; missing <= MISSING_CHILD; missing++)
        for (uint32_t k = 0; k < 8; k++) {
            const SimtDriverOptions opt = options(true, k < 2 ? (SimtOrder)k : SIMT_SEEDED, k);
            float got = 0;
            char said[300] = "";
            const CUresult r = graph(&opt, (Missing)missing, 1, &got, said, sizeof said);
            if (r != CUDA_ERROR_LAUNCH_FAILED || !strstr(said, "nothing orders the two") ||
                (missing != MISSING_CHILD && !strstr(said, "buffer_a")))
                fail_msg("edge %d, schedule %u: %d %s", missing, k, r, said);
        }
}

static void test_capture(void **state)
{
    Bench b;
    CUstream s;
    CUgraph g;
    CUgraphExec e;
    CUdeviceptr x;
    float host[N];
    SimtDriverOptions opt = options(true, SIMT_SEEDED, 3);
    (void)state;
    bench_open(&b, &opt);
    OK(b.cu.cuStreamCreate(&s, 0));
    OK(b.cu.cuMemAlloc_v2(&x, BYTES));
    OK(b.cu.cuStreamBeginCapture_v2(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    OK(b.cu.cuMemsetD8Async(x, 0, BYTES, s));
    assert_int_equal(b.cu.cuStreamSynchronize(s), CUDA_ERROR_NOT_PERMITTED);
    OK(launch(&b, s, x, x, x, 1));
    OK(b.cu.cuStreamEndCapture(s, &g));
    OK(b.cu.cuGraphInstantiateWithFlags(&e, g, 0));
    OK(b.cu.cuGraphLaunch(e, s));
    OK(b.cu.cuMemcpyDtoHAsync_v2(host, x, BYTES, s));
    assert_true(host[7] == 0);
    OK(b.cu.cuGraphExecDestroy(e));
    OK(b.cu.cuGraphDestroy(g));
    OK(b.cu.cuStreamDestroy_v2(s));
    OK(b.cu.cuMemFree_v2(x));
    bench_close(&b);
}

/* ------------------------------------------------------------ errors */

/* A kernel that goes wrong: its message, and no call works after it, until the driver is closed. */
static void test_sticky(void **state)
{
    Bench b;
    CUdeviceptr x, y;
    SimtDriverOptions opt = options(true, SIMT_FORWARD, 0);
    (void)state;
    bench_open(&b, &opt);
    OK(b.cu.cuMemAlloc_v2(&x, BYTES - 4));
    OK(b.cu.cuMemsetD8Async(x, 0, BYTES - 4, NULL));
    OK(launch(&b, NULL, x, x, x, 1));
    const CUresult r = b.cu.cuStreamSynchronize(NULL);
    assert_int_equal(r, CUDA_ERROR_ILLEGAL_ADDRESS);
    assert_string_equal(words(&b, r),
                        "simt: add:8: block 7 thread 63: reads 4 bytes at byte 2044 of "
                        "an allocation of 2044");
    assert_int_equal(b.cu.cuMemAlloc_v2(&y, 4), r);
    assert_int_equal(b.cu.cuMemFree_v2(x), r); /* and frees it */
    assert_int_equal(b.cu.cuStreamSynchronize(NULL), r);
    bench_close(&b);
}

/* Fresh memory is nobody's, and stays so when the history is forgotten. */
static void test_never_written(void **state)
{
    Bench b;
    CUdeviceptr x, y;
    SimtDriverOptions opt = options(true, SIMT_FORWARD, 0);
    (void)state;
    bench_open(&b, &opt);
    OK(b.cu.cuMemAlloc_v2(&x, BYTES));
    OK(b.cu.cuMemAlloc_v2(&y, BYTES));
    OK(b.cu.cuMemsetD8Async(x, 0, BYTES, NULL));
    for (int i = 0; i < SIMT_MAX_OPS; i++) /* more than there are numbers */
        OK(b.cu.cuMemsetD8Async(x, 0, 0, NULL));
    OK(launch(&b, NULL, x, x, x, 1));
    OK(b.cu.cuStreamSynchronize(NULL));
    OK(launch(&b, NULL, x, x, y, 1));
    const CUresult r = b.cu.cuStreamSynchronize(NULL);
    assert_int_equal(r, CUDA_ERROR_LAUNCH_FAILED);
    assert_string_equal(words(&b, r),
                        "simt: add:8: block 0 thread 0: reads byte 0 of an allocation "
                        "of 2048, which nothing has written");
    b.cu.cuMemFree_v2(x);
    b.cu.cuMemFree_v2(y);
    bench_close(&b);
}

static void test_refused(void **state)
{
    Bench b;
    CUdeviceptr x;
    float by = 1;
    int v = 0;
    CUfunction none;
    CUmodule bad;
    SimtDriverOptions opt = options(false, SIMT_FORWARD, 0);
    static const char text[256] = "no object";
    (void)state;
    bench_open(&b, &opt);
    OK(b.cu.cuMemAlloc_v2(&x, BYTES));
    void *arg[] = { &x, &x, &x, &by };
    CUlaunchAttribute cooperative = { .id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE };
    cooperative.value.cooperative = 1;
    const CUlaunchConfig too_many = { 17, 1, 1, 64, 1, 1, 0, NULL, &cooperative, 1 },
                         wide = { 1, 1, 1, 1025, 1, 1, 0, NULL, NULL, 0 },
                         planes = { 1, 2, 1, 64, 1, 1, 0, NULL, NULL, 0 },
                         none_at_all = { 0, 1, 1, 64, 1, 1, 0, NULL, NULL, 0 },
                         large = { 1, 1, 1, 64, 1, 1, 50 << 10, NULL, NULL, 0 };
    assert_int_equal(b.cu.cuLaunchKernelEx(&too_many, b.add, arg, NULL),
                     CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
    assert_int_equal(b.cu.cuLaunchKernelEx(&wide, b.add, arg, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(b.cu.cuLaunchKernelEx(&planes, b.add, arg, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(b.cu.cuLaunchKernelEx(&none_at_all, b.add, arg, NULL),
                     CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(b.cu.cuLaunchKernelEx(&large, b.add, arg, NULL), CUDA_ERROR_INVALID_VALUE);
    OK(b.cu.cuFuncSetAttribute(b.add, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 64 << 10));
    OK(b.cu.cuLaunchKernelEx(&large, b.add, arg, NULL));
    OK(b.cu.cuOccupancyMaxActiveBlocksPerMultiprocessor(&v, b.add, 64, 200 << 10));
    assert_int_equal(v, 1);
    assert_int_equal(
        b.cu.cuFuncSetAttribute(b.add, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 256 << 10),
        CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(b.cu.cuModuleGetFunction(&none, b.module, "sub"), CUDA_ERROR_NOT_FOUND);
    assert_int_equal(b.cu.cuModuleLoadDataEx(&bad, text, 0, NULL, NULL), CUDA_ERROR_INVALID_IMAGE);
    assert_int_equal(b.cu.cuMemsetD8Async(x, 0, BYTES + 1, NULL), CUDA_ERROR_INVALID_VALUE);
    OK(b.cu.cuCtxSetCurrent(NULL));
    assert_int_equal(b.cu.cuStreamSynchronize(NULL), CUDA_ERROR_INVALID_CONTEXT);
    OK(b.cu.cuCtxSetCurrent(b.context));
    OK(b.cu.cuMemFree_v2(x));
    bench_close(&b);
}

/* ------------------------------------------------------------ calls that fail */

/* Some work that goes on as far as it can and gives everything back; whether all of it went well.
 */
static bool some_work(const CudaDriver *cu)
{
    CUcontext c = NULL;
    CUmodule mod = NULL;
    CUfunction f = NULL;
    CUstream s = NULL;
    CUdeviceptr x = 0;
    CUgraph g = NULL;
    CUgraphExec e = NULL;
    CUgraphNode n = NULL;
    CUevent ev = NULL;
    void *host = NULL;
    float by = 1;
    void *arg[] = { &x, &x, &x, &by };
    bool ok = cu->cuInit(0) == CUDA_SUCCESS;
    const bool retained = ok && cu->cuDevicePrimaryCtxRetain(&c, 0) == CUDA_SUCCESS;
    ok = retained && cu->cuCtxSetCurrent(c) == CUDA_SUCCESS;
    ok = ok && cu->cuModuleLoadDataEx(&mod, image[0], 0, NULL, NULL) == CUDA_SUCCESS;
    ok = ok && cu->cuModuleGetFunction(&f, mod, "add") == CUDA_SUCCESS;
    ok = ok && cu->cuStreamCreate(&s, 0) == CUDA_SUCCESS;
    ok = ok && cu->cuEventCreate(&ev, 0) == CUDA_SUCCESS;
    ok = ok && cu->cuMemAlloc_v2(&x, BYTES) == CUDA_SUCCESS;
    ok = ok && cu->cuMemHostAlloc(&host, BYTES, 0) == CUDA_SUCCESS;
    ok = ok && cu->cuMemcpyHtoDAsync_v2(x, host, BYTES, s) == CUDA_SUCCESS;
    ok = ok && cu->cuMemsetD8Async(x, 0, BYTES, s) == CUDA_SUCCESS;
    ok = ok && cu->cuGraphCreate(&g, 0) == CUDA_SUCCESS;
    const CUDA_KERNEL_NODE_PARAMS p = { f, 8, 1, 1, 64, 1, 1, 0, arg, NULL, NULL, NULL };
    ok = ok && cu->cuGraphAddKernelNode_v2(&n, g, NULL, 0, &p) == CUDA_SUCCESS;
    ok = ok && cu->cuGraphInstantiateWithFlags(&e, g, 0) == CUDA_SUCCESS;
    ok = ok && cu->cuGraphLaunch(e, s) == CUDA_SUCCESS;
    ok = ok && cu->cuEventRecord(ev, s) == CUDA_SUCCESS;
    ok = ok && cu->cuEventSynchronize(ev) == CUDA_SUCCESS;
    ok = ok && cu->cuMemcpyDtoHAsync_v2(host, x, BYTES, s) == CUDA_SUCCESS;
    ok = ok && cu->cuStreamSynchronize(s) == CUDA_SUCCESS;
    if (host)
        ok = cu->cuMemFreeHost(host) == CUDA_SUCCESS && ok;
    if (x)
        ok = cu->cuMemFree_v2(x) == CUDA_SUCCESS && ok;
    if (e)
        ok = cu->cuGraphExecDestroy(e) == CUDA_SUCCESS && ok;
    if (g)
        ok = cu->cuGraphDestroy(g) == CUDA_SUCCESS && ok;
    if (ev)
        ok = cu->cuEventDestroy_v2(ev) == CUDA_SUCCESS && ok;
    if (s)
        ok = cu->cuStreamDestroy_v2(s) == CUDA_SUCCESS && ok;
    if (mod)
        ok = cu->cuModuleUnload(mod) == CUDA_SUCCESS && ok;
    if (retained)
        ok = cu->cuDevicePrimaryCtxRelease_v2(0) == CUDA_SUCCESS && ok;
    return ok;
}

static void test_every_call_fails(void **state)
{
    CudaDriver cu;
    Ctx cx;
    SimtDriverOptions opt = options(false, SIMT_SEEDED, 1);
    (void)state;
    ctx_init(&cx);
    assert_int_equal(simt_driver_open(&cx, &opt, &cu), ST_OK);
    assert_true(some_work(&cu));
    const uint64_t calls = simt_driver_calls();
    assert_int_equal(simt_driver_close(&cx), ST_OK);
    assert_true(calls > 20);
    for (opt.fail = 1; opt.fail <= calls; opt.fail++)
        for (int ever = 0; ever < 2; ever++) {
            opt.fail_ever = ever;
            assert_int_equal(simt_driver_open(&cx, &opt, &cu), ST_OK);
            assert_false(some_work(&cu));
            assert_true(simt_driver_failed() >= 1);
            if (simt_driver_close(&cx) != ST_OK)
                fail_msg("call %u fails: %s", (unsigned)opt.fail, cx.msg);
        }
}

static void test_environment(void **state)
{
    Ctx cx;
    SimtDriverOptions opt;
    (void)state;
    ctx_init(&cx);
    setenv("GTC_SIMT_FAIL", "12+", 1);
    setenv("GTC_SIMT_SEED", "7", 1);
    setenv("GTC_SIMT_SHADOW", "1", 1);
    assert_int_equal(simt_driver_options(&cx, &opt), ST_OK);
    assert_int_equal(opt.fail, 12);
    assert_true(opt.fail_ever && opt.machine.shadow && opt.machine.order == SIMT_SEEDED);
    assert_int_equal(opt.machine.seed, 7);
    setenv("GTC_SIMT_SCHEDULE", "reverse", 1);
    assert_int_equal(simt_driver_options(&cx, &opt), ST_OK);
    assert_int_equal(opt.machine.order, SIMT_REVERSE);
    setenv("GTC_SIMT_SCHEDULE", "sideways", 1);
    assert_int_equal(simt_driver_options(&cx, &opt), ST_USAGE);
    unsetenv("GTC_SIMT_SCHEDULE");
    setenv("GTC_SIMT_FAIL", "12x", 1);
    assert_int_equal(simt_driver_options(&cx, &opt), ST_USAGE);
    unsetenv("GTC_SIMT_FAIL");
    unsetenv("GTC_SIMT_SEED");
    unsetenv("GTC_SIMT_SHADOW");
    assert_int_equal(simt_driver_options(&cx, &opt), ST_OK);
    assert_true(opt.machine.order == SIMT_FORWARD && !opt.machine.shadow && !opt.fail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_close_says_what_is_left),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_missing_wait),
        cmocka_unit_test(test_missing_wait_in_the_result),
        cmocka_unit_test(test_events_measure),
        cmocka_unit_test(test_graphs),
        cmocka_unit_test(test_missing_edges),
        cmocka_unit_test(test_capture),
        cmocka_unit_test(test_sticky),
        cmocka_unit_test(test_never_written),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_every_call_fails),
        cmocka_unit_test(test_environment),
    };
    return cmocka_run_group_tests(tests, make_images, free_images);
}
