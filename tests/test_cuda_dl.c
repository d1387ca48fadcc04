/* SPDX-License-Identifier: Apache-2.0 */
/* Each way in which a machine can lack a driver, NVRTC or NVML has its own message, by a system
 * table whose loader knows made-up libraries only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/base/os.h"
#include "runtime/cuda_dl.h"
#include "runtime/nvml.h"
#include "runtime/nvrtc_dl.h"

static struct Machine {
    const char *library[4]; /* paths that load */
    CUresult init;
    int driver;        /* version */
    const char *lacks; /* a symbol, NULL: none */
    int nvml;          /* begun and not ended */
    char loaded[256];  /* the last one */
} m;

static CUresult fake_init(unsigned flags)
{
    (void)flags;
    return m.init;
}

static CUresult fake_version(int *v)
{
    *v = m.driver;
    return CUDA_SUCCESS;
}

static CUresult fake_error(CUresult r, const char **text)
{
    (void)r;
    *text = "made up";
    return CUDA_SUCCESS;
}

static nvrtcResult fake_nvrtc_version(int *major, int *minor)
{
    *major = strstr(m.loaded, ".so.12") ? 12 : strstr(m.loaded, ".so.11") ? 11 : 13;
    *minor = 1;
    return NVRTC_SUCCESS;
}

static nvrtcResult fake_narch(int *n)
{
    *n = 2;
    return NVRTC_SUCCESS;
}

static nvrtcResult fake_archs(int *arch)
{
    arch[0] = 80;
    arch[1] = 90;
    return NVRTC_SUCCESS;
}

static int fake_nvml(void)
{
    m.nvml++;
    return 0;
}

static int fake_nvml_end(void)
{
    m.nvml--;
    return 0;
}

static int fake_nvml_version(char *text, unsigned n)
{
    strncpy(text, "13.580", n);
    return 0;
}

static int fake_nvml_place(const char *place, void **device)
{
    *device = &m;
    return strcmp(place, "00000000:C1:00.0") == 0 ? 0 : 6;
}

static int fake_nvml_use(void *device, unsigned use[2])
{
    assert_ptr_equal(device, &m);
    use[0] = 87;
    use[1] = 5;
    return 0;
}

static int fake_nvml_memory(void *device, unsigned long long bytes[3])
{
    (void)device;
    bytes[0] = 80ull << 30;
    bytes[1] = 50ull << 30;
    bytes[2] = 30ull << 30;
    return 0;
}

static int fake_nvml_celsius(void *device, int sensor, unsigned *v)
{
    (void)device;
    *v = 61;
    return sensor;
}

static int fake_nvml_watts(void *device, unsigned *v)
{
    (void)device, (void)v;
    return 3; /* not supported */
}

static int fake_nvml_others(void *device, unsigned *n, void *room)
{
    (void)device;
    assert_true(*n == 0 && !room);
    *n = 3;
    return 7; /* no room for them */
}

static void *fake_open(const char *path)
{
    for (size_t i = 0; i < sizeof m.library / sizeof *m.library; i++)
        if (m.library[i] && strcmp(m.library[i], path) == 0) {
            strncpy(m.loaded, path, sizeof m.loaded - 1);
            return &m;
        }
    return NULL;
}

static void *fake_sym(void *lib, const char *name)
{
    static const struct {
        const char *name;
        void (*fn)(void);
    } known[] = {
        { "cuInit", (void (*)(void))fake_init },
        { "cuDriverGetVersion", (void (*)(void))fake_version },
        { "nvrtcVersion", (void (*)(void))fake_nvrtc_version },
        { "nvrtcGetNumSupportedArchs", (void (*)(void))fake_narch },
        { "nvrtcGetSupportedArchs", (void (*)(void))fake_archs },
        { "nvmlInit_v2", (void (*)(void))fake_nvml },
        { "nvmlShutdown", (void (*)(void))fake_nvml_end },
        { "nvmlSystemGetNVMLVersion", (void (*)(void))fake_nvml_version },
        { "nvmlDeviceGetHandleByPciBusId_v2", (void (*)(void))fake_nvml_place },
        { "nvmlDeviceGetUtilizationRates", (void (*)(void))fake_nvml_use },
        { "nvmlDeviceGetMemoryInfo", (void (*)(void))fake_nvml_memory },
        { "nvmlDeviceGetTemperature", (void (*)(void))fake_nvml_celsius },
        { "nvmlDeviceGetPowerUsage", (void (*)(void))fake_nvml_watts },
        { "nvmlDeviceGetComputeRunningProcesses_v3", (void (*)(void))fake_nvml_others },
    };
    void (*fn)(void) = (void (*)(void))fake_error;
    void *sym;
    (void)lib;
    if (m.lacks && strcmp(m.lacks, name) == 0)
        return NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, name) == 0)
            fn = known[i].fn;
    memcpy(&sym, &fn, sizeof sym);
    return sym;
}

static Os os;
static char said[512];

static void note(void *arg, LogLevel level, const char *text)
{
    (void)arg, (void)level;
    strncpy(said, text, sizeof said - 1);
}

static void begin(Ctx *cx)
{
    os = *os_default();
    os.dlopen = fake_open;
    os.dlsym = fake_sym;
    ctx_init(cx);
    cx->os = &os;
    cx->log = note;
    said[0] = '\0';
    memset(m.loaded, 0, sizeof m.loaded);
}

/* Fails with a message that has all of these words. */
static void fails(const char *const words[])
{
    Ctx cx;
    CudaDriver cu;
    begin(&cx);
    assert_int_equal(cuda_dl_open(&cx, &cu), ST_ENV);
    for (int i = 0; words[i]; i++)
        if (!strstr(cx.msg, words[i]))
            fail_msg("no \"%s\" in: %s", words[i], cx.msg);
}
#define FAILS(...) fails((const char *const[]){ __VA_ARGS__, NULL })

static void each_lack_has_its_line(void **state)
{
    (void)state;
    m = (struct Machine){ .driver = 13000 };
    FAILS("libcuda.so.1 is nowhere", "install the NVIDIA driver", "--gpus all");
    m.library[0] = "libcuda.so";
    m.init = CUDA_ERROR_STUB_LIBRARY;
    FAILS("toolkit's stub (libcuda.so)", "LD_LIBRARY_PATH");
    m.library[0] = "libcuda.so.1";
    m.init = CUDA_SUCCESS;
    m.driver = 11040;
    FAILS("too old", "CUDA 11.4", "525 or newer");
    m.driver = 12020;
    m.lacks = "cuGraphAddKernelNode_v2";
    FAILS("has no cuGraphAddKernelNode_v2", "CUDA 12.2", "anew");
    m.lacks = "cuInit";
    FAILS("libcuda.so.1 is no CUDA driver");
    m.lacks = NULL;
    m.init = CUDA_ERROR_NO_DEVICE;
    FAILS("cuInit", "made up", "no GPU is visible", "CUDA_VISIBLE_DEVICES");
    m.init = CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
    FAILS("reboot");
}

static void a_driver_may_be_elsewhere(void **state)
{
    Ctx cx;
    CudaDriver cu;
    (void)state;
    m = (struct Machine){ .driver = 13000, .library = { "/usr/lib/wsl/lib/libcuda.so.1" } };
    begin(&cx);
    assert_int_equal(cuda_dl_open(&cx, &cu), ST_OK);
    assert_ptr_equal(cu.cuInit, fake_init);
#define BOUND(name, args) assert_non_null(cu.name);
    CUDA_CALLS(BOUND)
}

static void memory_is_told_from_the_rest(void **state)
{
    Ctx cx;
    const CudaDriver cu = { .cuGetErrorName = fake_error, .cuGetErrorString = fake_error };
    (void)state;
    begin(&cx);
    assert_int_equal(cuda_fail(&cx, &cu, "cuMemAlloc", CUDA_ERROR_OUT_OF_MEMORY), ST_MEMORY);
    assert_non_null(strstr(cx.msg, "cuMemAlloc: made up (made up, 2)"));
    assert_int_equal(cuda_fail(&cx, &cu, "cuGraphLaunch", CUDA_ERROR_ILLEGAL_ADDRESS), ST_ENV);
    assert_non_null(strstr(cx.msg, "--device cpu"));
}

static void nvrtc_fits_the_driver(void **state)
{
    Ctx cx;
    Nvrtc n;
    (void)state;
    unsetenv("GTC_CUDA_PATH");
    m = (struct Machine){ .library = { "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2" } };
    begin(&cx);
    assert_int_equal(nvrtc_dl_open(&cx, 0, &n), ST_OK);
    assert_int_equal(n.major, 13);
    assert_int_equal(n.narch, 2);
    assert_int_equal(nvrtc_dl_open(&cx, 12040, &n), ST_OK);
    assert_int_equal(n.major, 12);
    m.library[1] = NULL;
    assert_int_equal(nvrtc_dl_open(&cx, 12040, &n), ST_OK);
    assert_int_equal(n.major, 11);
    assert_string_equal(said, "");
    m.library[2] = NULL;
    assert_int_equal(nvrtc_dl_open(&cx, 12040, &n), ST_OK);
    assert_int_equal(n.major, 13);
    assert_non_null(strstr(said, "newer than the driver (CUDA 12.4)"));
    m.lacks = "nvrtcGetCUBIN";
    assert_int_equal(nvrtc_dl_open(&cx, 0, &n), ST_ENV);
    assert_non_null(strstr(cx.msg, "older than 11.2"));
    m = (struct Machine){ .library = { "/my/cuda/lib64/libnvrtc.so.12" } };
    assert_int_equal(nvrtc_dl_open(&cx, 0, &n), ST_ENV);
    assert_non_null(strstr(cx.msg, "GTC_CUDA_PATH"));
    setenv("GTC_CUDA_PATH", "/my/cuda", 1);
    assert_int_equal(nvrtc_dl_open(&cx, 0, &n), ST_OK);
    assert_string_equal(n.path, "/my/cuda/lib64/libnvrtc.so.12");
    m.library[1] = "libnvrtc.so.13"; /* what is asked for goes before what is newer */
    assert_int_equal(nvrtc_dl_open(&cx, 13000, &n), ST_OK);
    assert_string_equal(n.path, "/my/cuda/lib64/libnvrtc.so.12");
    unsetenv("GTC_CUDA_PATH");
}

/* Makes one more folder in at, and stands there. */
static void step_into(char *at, const char *name)
{
    strcat(strcat(at, "/"), name);
    assert_int_equal(mkdir(at, 0700), 0);
}

/* A library that a Python wheel brought, for an environment or a user. */
static void nvrtc_may_be_a_wheel(void **state)
{
    static const char *const from[] = { "VIRTUAL_ENV", "CONDA_PREFIX", "HOME" };
    static const char *const down[] = { "lib",    "python3.12", "site-packages",
                                        "nvidia", "cu13",       "lib" };
    (void)state;
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        char root[64] = "/tmp/gtc-wheel-XXXXXX", at[256];
        const char *before = getenv(from[i]);
        char *kept = before ? strdup(before) : NULL;
        Ctx cx;
        Nvrtc n;
        assert_non_null(mkdtemp(root));
        strcpy(at, root);
        if (i == 2)
            step_into(at, ".local");
        for (size_t k = 0; k < sizeof down / sizeof *down; k++)
            step_into(at, down[k]);
        strcat(at, "/libnvrtc.so.13");
        FILE *f = fopen(at, "w");
        assert_non_null(f);
        fclose(f);
        setenv(from[i], root, 1);
        m = (struct Machine){ .library = { at } };
        begin(&cx);
        assert_int_equal(nvrtc_dl_open(&cx, 13000, &n), ST_OK);
        assert_string_equal(n.path, at);
        kept ? setenv(from[i], kept, 1) : unsetenv(from[i]);
        free(kept);
        assert_int_equal(unlink(at), 0);
        while (strlen(at) > strlen(root)) {
            *strrchr(at, '/') = '\0';
            assert_int_equal(rmdir(at), 0);
        }
    }
}

static void nvml_tells_what_it_knows(void **state)
{
    Ctx cx;
    Nvml *n;
    GtcGpuLoad load;
    char version[32];
    (void)state;
    m = (struct Machine){ .driver = 13000 };
    begin(&cx);
    assert_int_equal(nvml_open(&cx, 0, 0xc1, 0, &n), ST_ENV);
    assert_null(n);
    assert_non_null(strstr(cx.msg, "comes with the NVIDIA driver"));
    m.library[0] = "libnvidia-ml.so.1";
    assert_int_equal(nvml_find(&cx, version, sizeof version), ST_OK);
    assert_string_equal(version, "13.580");
    assert_int_equal(nvml_open(&cx, 0, 0xc2, 0, &n), ST_ENV);
    assert_non_null(strstr(cx.msg, "00000000:C2:00.0"));
    assert_int_equal(m.nvml, 0);
    assert_int_equal(nvml_open(&cx, 0, 0xc1, 0, &n), ST_OK);
    nvml_read(n, &load);
    assert_int_equal(load.percent, 87);
    assert_true(load.bytes == (int64_t)30 << 30);
    assert_int_equal(load.others, 2);
    assert_true(load.celsius == 61);
    assert_true(isnan(load.watts));
    nvml_close(n);
    assert_int_equal(m.nvml, 0);
    m.lacks = "nvmlDeviceGetPowerUsage";
    assert_int_equal(nvml_open(&cx, 0, 0xc1, 0, &n), ST_ENV);
    assert_non_null(strstr(cx.msg, "has no nvmlDeviceGetPowerUsage"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_lack_has_its_line),       cmocka_unit_test(a_driver_may_be_elsewhere),
        cmocka_unit_test(memory_is_told_from_the_rest), cmocka_unit_test(nvrtc_fits_the_driver),
        cmocka_unit_test(nvrtc_may_be_a_wheel),         cmocka_unit_test(nvml_tells_what_it_knows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
