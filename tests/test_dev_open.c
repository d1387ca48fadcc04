/* SPDX-License-Identifier: Apache-2.0 */
/* Devices as they are opened: which GPU is taken of several, what is said where there is none of
 * that number, and whether a device's intrinsics are right. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "runtime/dev_cuda.h"
#include "runtime/nvrtc_dl.h"
#include "runtime/simt_driver.h"

/* Three GPUs, which are all the one there is but for their memory. */
static int gpu;
static CUresult (*real_get)(CUdevice *, int);

static CUresult three(int *n)
{
    *n = 3;
    return CUDA_SUCCESS;
}

static CUresult get_one_of_three(CUdevice *d, int i)
{
    gpu = i;
    return real_get(d, 0);
}

static CUresult memory_of_three(size_t *free, size_t *total)
{
    static const size_t gib[] = { 3, 7, 5 };
    *free = gib[gpu] << 30;
    *total = (size_t)8 << 30;
    return gpu == 2 ? CUDA_ERROR_DEVICE_UNAVAILABLE : CUDA_SUCCESS;
}

static CUresult older_driver(int *version)
{
    *version = 12000;
    return CUDA_SUCCESS;
}

static void the_gpu_with_most_free_memory_is_taken(void **state)
{
    static const struct Case {
        DeviceCall call;
        const char *want;
    } cases[] = { { { .gpu = -1 }, "cuda:1 (most free memory of 3): simt, capability 9.0" },
                  { { .gpu = 0 }, "cuda:0: simt, capability 9.0" },
                  { { .gpu = 2 }, NULL },
                  { { .gpu = 3 }, NULL } };
    static const char *const why[] = { "cuMemGetInfo", "no GPU number 3: there are 3" };
    GtcDeviceInfo info[4];
    SimtDriverOptions opt;
    CudaDriver cu;
    Nvrtc nvrtc;
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    if (nvrtc_dl_open(&cx, 0, &nvrtc) != ST_OK) {
        print_message("SKIP: %s\n", cx.msg);
        skip();
    }
    assert_int_equal(simt_driver_options(&cx, &opt), ST_OK);
    assert_int_equal(simt_driver_open(&cx, &opt, &cu), ST_OK);
    real_get = cu.cuDeviceGet;
    cu.cuDeviceGetCount = three;
    cu.cuDeviceGet = get_one_of_three;
    cu.cuMemGetInfo_v2 = memory_of_three;
    for (int i = 0; i < 4; i++) {
        GtcDevice *d = NULL;
        const Status s = cuda_open_gpu(&cx, &cu, &cases[i].call, &d);
        assert_int_equal(s, cases[i].want ? ST_OK : ST_ENV);
        const char *words = d ? gtc_device_describe(d) : cx.msg;
        if (!strstr(words, cases[i].want ? cases[i].want : why[i - 2]))
            fail_msg("%s", words);
        if (d) {
            assert_in_range(d->target.most_args, 510, 4093);
            gtc_device_close(d);
        }
    }
    assert_int_equal(cuda_list(&cx, &cu, &device_cuda, info, 4), 3);
    assert_string_equal(info[1].name, "cuda:1");
    assert_int_equal(info[1].capability, 90);
    assert_true(info[1].free_bytes == (int64_t)7 << 30);
    assert_non_null(strstr(info[1].description, "cuda:1: simt, capability 9.0, 8 multi"));
    assert_non_null(strstr(info[1].description, "7.0 of 8.0 GiB free, driver for CUDA 13.0, "));
    assert_non_null(strstr(info[1].description, "NVRTC"));
    assert_int_equal(info[2].free_bytes, 0); /* it cannot be asked, and is listed */
    cu.cuDriverGetVersion = older_driver; /* whose launches take fewer parameters */
    GtcDevice *older = NULL;
    assert_int_equal(cuda_open_gpu(&cx, &cu, &cases[1].call, &older), ST_OK);
    assert_int_equal(older->target.most_args, 510);
    gtc_device_close(older);
    assert_int_equal(simt_driver_close(&cx), ST_OK);
}

static void there_is_one_gpu_only(void **state)
{
    const DeviceCall call = { .gpu = 3 };
    GtcDevice *d = NULL;
    SimtDriverOptions opt;
    CudaDriver cu;
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    assert_int_equal(simt_driver_options(&cx, &opt), ST_OK);
    assert_int_equal(simt_driver_open(&cx, &opt, &cu), ST_OK);
    assert_int_equal(cuda_open_simt(&cx, &cu, false, &call, &d), ST_ENV);
    assert_non_null(strstr(cx.msg, "no GPU number 3: there is 1"));
    assert_int_equal(simt_driver_close(&cx), ST_OK);
}

static void intrinsics_are_right(void **state)
{
    enum { MOST = 40 };
    static GtcCheck check[MOST];
    GtcDevice *d;
    Ctx cx;
    int n = 0;
    (void)state;
    ctx_init(&cx);
    assert_int_equal(gtc_device_open(&cx, "simt", 0, &d), ST_OK);
    assert_int_equal(gtc_device_check(&cx, d, check, MOST, &n), ST_OK);
    assert_in_range(n, 20, MOST - 1);
    for (int i = 0; i < n; i++)
        if (!check[i].ok)
            fail_msg("%s: %s", check[i].name, check[i].text);
    gtc_device_close(d);
    assert_int_equal(gtc_device_open(&cx, "cpu", 1, &d), ST_OK);
    assert_int_equal(gtc_device_check(&cx, d, check, MOST, &n), ST_USAGE);
    gtc_device_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gpu_with_most_free_memory_is_taken),
        cmocka_unit_test(there_is_one_gpu_only),
        cmocka_unit_test(intrinsics_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
