/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA text to images: by the host's C compiler everywhere, by NVRTC where it is installed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ir/base/os.h"
#include "runtime/gtc.h"
#include "runtime/jit_nvrtc.h"
#include "runtime/jit_simt.h"

#define ADD                                                                                        \
    "GTC_KERNEL(256) add(const float *__restrict__ x, float *__restrict__ y)\n"                    \
    "{\n"                                                                                          \
    "    int i = gtc_bid() * 256 + gtc_tid();\n"                                                   \
    "    y[i] = x[i] + 1.0f;\n"                                                                    \
    "}\n"                                                                                          \
    "GTC_ENTRY(add, (*(const float **)a[0], *(float **)a[1]))\n"
/* 128 values a thread of 1,024 threads: 64 registers each do not hold them. */
#define SPILL                                                                                      \
    "GTC_KERNEL(1024) spill(const float *__restrict__ x, float *__restrict__ y)\n"                 \
    "{\n"                                                                                          \
    "    float v[128];\n"                                                                          \
    "    GTC_UNROLL_ALL\n"                                                                         \
    "    for (int i = 0; i < 128; i++)\n"                                                          \
    "        v[i] = x[i * 1024 + gtc_tid()];\n"                                                    \
    "    GTC_UNROLL_ALL\n"                                                                         \
    "    for (int i = 0; i < 1024; i++)\n"                                                         \
    "        v[i % 128] += v[(i * 37 + 5) % 128] * v[(i + 64) % 128];\n"                           \
    "    GTC_UNROLL_ALL\n"                                                                         \
    "    for (int i = 0; i < 128; i++)\n"                                                          \
    "        y[i * 1024 + gtc_tid()] = v[i];\n"                                                    \
    "}\n"                                                                                          \
    "GTC_ENTRY(spill, (*(const float **)a[0], *(float **)a[1]))\n"

static const Launch add_launch = { "add", 4, 256, 0, false };
static const Kernel kernels[] = {
    { .name = "add_0", .label = "add", .source = ADD, .launch = &add_launch, .nlaunch = 1 },
    { .name = "none_0", .label = "none", .source = "" },
    { .name = "spill_0", .label = "spill", .source = SPILL },
    { .name = "add_0", .label = "add", .source = ADD, .launch = &add_launch, .nlaunch = 1 },
};
static const Kernel bad = { .name = "bad_0", .label = "bad", .source = "this is no kernel\n" };
enum { N = 4 };

typedef struct Fixture {
    Ctx cx;
    Cache *cache;
    char said[4096];
} Fixture;

static void note(void *arg, LogLevel level, const char *text)
{
    Fixture *f = arg;
    (void)level;
    snprintf(f->said + strlen(f->said), sizeof f->said - strlen(f->said), "%s\n", text);
}

static int setup(void **state)
{
    static Fixture f;
    GtcCacheInfo info;
    memset(&f, 0, sizeof f);
    ctx_init(&f.cx);
    f.cx.log = note;
    f.cx.log_arg = &f;
    assert_int_equal(gtc_cache_clear(&f.cx, &info), ST_OK);
    assert_int_equal(cache_open(&f.cx, &f.cache), ST_OK);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    Fixture *f = *state;
    cache_close(f->cache);
    return 0;
}

static void load(Fixture *f, const ImageMaker *m, bool no_cache, CodeFrom from, Image *image)
{
    static const char *const layers[N] = { "0,1", NULL, "2", "3" };
    assert_int_equal(jit_image_load(&f->cx, f->cache, m, kernels, layers, N, no_cache, image),
                     ST_OK);
    for (int i = 0; i < N; i++) {
        assert_int_equal(image[i].from, i == 1 ? CODE_NONE : from);
        assert_int_equal(image[i].bytes != NULL, i != 1);
    }
    assert_int_equal(image[0].n, image[3].n);
    assert_memory_equal(image[0].bytes, image[3].bytes, image[0].n);
    assert_ptr_not_equal(image[0].bytes, image[3].bytes);
}

/* Made, then found with all that is known of it; not found under another key; made again without
 * the cache. */
static void check_maker(Fixture *f, const ImageMaker *m)
{
    Image first[N], second[N], other[N];
    ImageMaker changed = *m;
    load(f, m, false, CODE_COMPILED, first);
    load(f, m, false, CODE_CACHED, second);
    for (int i = 0; i < N; i++) {
        assert_int_equal(first[i].n, second[i].n);
        if (first[i].bytes)
            assert_memory_equal(first[i].bytes, second[i].bytes, first[i].n);
        assert_int_equal(first[i].regs, second[i].regs);
        assert_int_equal(first[i].stack, second[i].stack);
        assert_int_equal(first[i].spill, second[i].spill);
    }
    changed.how = "compiler: another\n";
    load(f, &changed, false, CODE_COMPILED, other);
    jit_image_free(other, N);
    changed = *m;
    changed.what = "arch: another\n";
    load(f, &changed, false, CODE_COMPILED, other);
    jit_image_free(other, N);
    load(f, m, true, CODE_COMPILED, other);
    jit_image_free(other, N);
    jit_image_free(first, N);
    jit_image_free(second, N);
    assert_string_equal(f->said, "");
}

/* Said aloud, with a file that has the layers, the words and the text; the next is not disturbed.
 */
static void check_bad(Fixture *f, const ImageMaker *m, const char *words)
{
    const Kernel two[] = { bad, kernels[0] };
    static const char *const layers[] = { "7,9", NULL };
    Image image[2];
    char *text, *path;
    size_t n;
    assert_int_equal(jit_image_load(&f->cx, f->cache, m, two, layers, 2, false, image), ST_OK);
    assert_null(image[0].bytes);
    assert_int_equal(image[0].from, CODE_NONE);
    assert_non_null(image[1].bytes);
    assert_non_null(strstr(f->said, "bad_0, of layers 7,9: "));
    path = strstr(f->said, "words: ");
    assert_non_null(path);
    path += 7;
    path[strcspn(path, "\n")] = '\0';
    assert_int_equal(os_read_file(&f->cx, path, &text, &n), ST_OK);
    assert_non_null(strstr(text, "kernel: bad_0\nlayers: 7,9\n"));
    assert_non_null(strstr(text, words));
    assert_non_null(strstr(text, "this is no kernel\n"));
    free(text);
    jit_image_free(image, 2);
}

static void the_host_compiler_makes_images(void **state)
{
    Fixture *f = *state;
    JitSimt *j;
    const Status s = jit_simt_open(&f->cx, f->cache, false, &j);
    if (s != ST_OK) {
        jit_simt_close(j);
        print_message("SKIP: %s\n", f->cx.msg);
        skip();
    }
    check_maker(f, jit_simt_maker(j));
    check_bad(f, jit_simt_maker(j), "exit 1");
    jit_simt_close(j);
}

/* ------------------------------------------------------------ NVRTC */

static bool nvrtc(Fixture *f, Nvrtc *n)
{
    if (nvrtc_dl_open(&f->cx, 0, n) == ST_OK)
        return true;
    print_message("SKIP: %s\n", f->cx.msg);
    return false;
}

static void nvrtc_makes_images(void **state)
{
    Fixture *f = *state;
    Nvrtc n;
    JitNvrtc *j;
    Image image[N];
    if (!nvrtc(f, &n))
        skip();
    assert_int_equal(jit_nvrtc_open(&f->cx, &n, "sm_80", &j), ST_OK);
    check_maker(f, jit_nvrtc_maker(j));
    load(f, jit_nvrtc_maker(j), false, CODE_CACHED, image);
    assert_memory_equal(image[0].bytes, "\177ELF", 4);
    assert_in_range(image[0].regs, 4, 40);
    assert_int_equal(image[0].spill, 0);
    assert_int_equal(image[0].stack, 0);
    assert_int_equal(image[0].warnings, 0);
    assert_in_range(image[2].regs, 60, 64);
    assert_in_range(image[2].spill, 64, 4096);
    assert_in_range(image[2].stack, 64, 4096);
    jit_image_free(image, N);
    check_bad(f, jit_nvrtc_maker(j), "bad_0(1): error");
    jit_nvrtc_close(j);
}

static void nvrtc_makes_ptx_for_newer_gpus(void **state)
{
    Fixture *f = *state;
    Nvrtc n;
    JitNvrtc *j;
    Image image[N];
    char arch[32];
    if (!nvrtc(f, &n))
        skip();
    assert_int_equal(jit_nvrtc_arch(&f->cx, &n, 80, arch), ST_OK);
    assert_string_equal(arch, "sm_80");
    assert_int_equal(jit_nvrtc_arch(&f->cx, &n, 90, arch), ST_OK);
    assert_string_equal(arch, "sm_90a");
    assert_int_equal(jit_nvrtc_arch(&f->cx, &n, 20, arch), ST_ENV);
    assert_non_null(strstr(f->cx.msg, "capability 2.0"));
    n.arch[0] = 80, n.narch = 1;
    assert_int_equal(jit_nvrtc_arch(&f->cx, &n, 89, arch), ST_OK);
    assert_string_equal(arch, "compute_80");
    assert_int_equal(jit_nvrtc_open(&f->cx, &n, arch, &j), ST_OK);
    load(f, jit_nvrtc_maker(j), false, CODE_COMPILED, image);
    assert_non_null(strstr(image[0].bytes, ".target sm_80"));
    assert_non_null(strstr(image[0].bytes, ".entry add"));
    jit_image_free(image, N);
    jit_nvrtc_close(j);
}

static char dir[] = "/tmp/gtc-image-XXXXXX";

static int finish(void **state)
{
    static const char *const sub[] = { "simt", "cubin", "ptx", "cc", "log", "" };
    Ctx cx;
    GtcCacheInfo info;
    char path[64];
    (void)state;
    ctx_init(&cx);
    gtc_cache_clear(&cx, &info);
    for (size_t i = 0; i < sizeof sub / sizeof *sub; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, sub[i]);
        rmdir(path);
    }
    return 0;
}

int main(void)
{
    if (!mkdtemp(dir) || setenv("GTC_CACHE_DIR", dir, 1))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_host_compiler_makes_images, setup, teardown),
        cmocka_unit_test_setup_teardown(nvrtc_makes_images, setup, teardown),
        cmocka_unit_test_setup_teardown(nvrtc_makes_ptx_for_newer_gpus, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
