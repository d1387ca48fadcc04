/* SPDX-License-Identifier: Apache-2.0 */
/* What gtc emit writes for another than the open device: kernels of a GPU that is not here, and
 * apps, which without gtc train to the very losses that gtc trains to on the same kind of device.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ir/base/os.h"
#include "runtime/nvrtc_dl.h"
#include "train/loader.h"
#include "train/session.h"

enum { STEPS = 5, MAX_WORDS = 24 };

static const char dropout[] =
    "{ \"data\": { \"random\": { \"x\": [8, 6, 2], \"classes\": 5, \"rows\": 40 } }, \"layers\": "
    "[\n"
    "  { \"name\": \"c\", \"type\": \"conv2d\", \"filters\": 4, \"kernel\": 3 },\n"
    "  { \"name\": \"n\", \"type\": \"batch_norm\", \"activation\": \"relu\" },\n"
    "  { \"name\": \"p\", \"type\": \"max_pool2d\", \"kernel\": 2 },\n"
    "  { \"name\": \"f\", \"type\": \"flatten\" },\n"
    "  { \"name\": \"d\", \"type\": \"dropout\", \"rate\": 0.3 },\n"
    "  { \"name\": \"y\", \"type\": \"dense\", \"units\": 5 } ],\n"
    "  \"loss\": { \"type\": \"cross_entropy\", \"prediction\": \"y\" },\n"
    "  \"optimizer\": { \"type\": \"adam\", \"learning_rate\": 0.01 },\n"
    "  \"train\": { \"batch_size\": 16, \"clip_norm\": 1.0, \"seed\": 3 } }\n";
/* Its weight's gradient is summed by several blocks, of which the last one ends it. */
static const char tall[] =
    "{ \"data\": { \"random\": { \"x\": [24], \"y\": [1], \"rows\": 1200 } }, \"layers\": [\n"
    "  { \"name\": \"h\", \"type\": \"dense\", \"units\": 20, \"activation\": \"tanh\" },\n"
    "  { \"name\": \"y\", \"type\": \"dense\", \"units\": 1 } ],\n"
    "  \"loss\": { \"type\": \"mse\", \"prediction\": \"y\" },\n"
    "  \"optimizer\": { \"type\": \"sgd\", \"learning_rate\": 0.1 },\n"
    "  \"train\": { \"batch_size\": 528, \"seed\": 3 } }\n";
static const char one_layer[] =
    "{ \"data\": { \"random\": { \"x\": [6], \"y\": [3], \"rows\": 64 } }, \"layers\": [\n"
    "  { \"name\": \"y\", \"type\": \"dense\", \"units\": 3, \"activation\": \"relu\" } ],\n"
    "  \"loss\": { \"type\": \"mse\", \"prediction\": \"y\" },\n"
    "  \"optimizer\": { \"type\": \"sgd\", \"learning_rate\": 0.1 },\n"
    "  \"train\": { \"batch_size\": 8 } }\n";

typedef struct Folder {
    Ctx cx;
    char dir[64], model[96], app[96];
} Folder;

#define OK(f, call)                                                                                \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s: %s", #call, (f)->cx.msg);                                                \
    } while (0)

/* Runs a program, which ends with that exit code; *out, if wanted, is what it printed. */
static void run(Folder *f, const char *const *argv, int want, char **out)
{
    char path[96], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/out", f->dir);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int rc = os_default()->spawn(argv, fd);
    close(fd);
    OK(f, os_read_file(&f->cx, path, &text, &n));
    if (rc != want)
        fail_msg("%s %s: exit %d\n%s", argv[0], argv[1], rc, text);
    if (out)
        *out = text;
    else
        free(text);
}

static void folder_open(Folder *f, const char *model)
{
    ctx_init(&f->cx);
    snprintf(f->dir, sizeof f->dir, "/tmp/gtc-emit-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->model, sizeof f->model, "%s/model.json", f->dir);
    snprintf(f->app, sizeof f->app, "%s/app", f->dir);
    OK(f, os_write_file(&f->cx, f->model, model, strlen(model)));
}

static void folder_close(Folder *f)
{
    const char *const argv[] = { "rm", "-rf", f->dir, NULL };
    const int fd = open("/dev/null", O_WRONLY);
    assert_int_equal(os_default()->spawn(argv, fd), 0);
    close(fd);
}

/* ------------------------------------------------------------ gtc's own losses */

typedef struct Case {
    const char *device, *target, *threads;
    const char *path, *text; /* one of them */
    const char *set[4];
} Case;

/* The lines that an app prints, from steps as gtc train takes them. */
static void own_losses(Folder *f, const Case *c, const char *path, char *out, size_t room)
{
    Model *m;
    Data *d;
    GtcDevice *device;
    Session *s;
    Loader *loader;
    void *const *x;
    GtcTensor loss;
    int rows, nset = 0, at = 0;
    const GtcOptions opt = { .mode = GTC_DEFAULT };
    const char *const dirs[] = { "models" };
    while (nset < 4 && c->set[nset])
        nset++;
    OK(f, model_load(&f->cx, path, c->set, nset, &m));
    OK(f, data_open(&f->cx, &m->data, dirs, 1, m->train.seed, NULL, &d));
    OK(f, gtc_device_open(&f->cx, c->device, atoi(c->threads), &device));
    OK(f, session_open(&f->cx, m, data_shape(d), device, &opt, SESSION_TRAIN, &s));
    OK(f, session_init(&f->cx, s));
    OK(f, session_inputs(&f->cx, s, BUILD_TRAIN, &x));
    OK(f, loader_open(&f->cx, d, SPLIT_TRAIN, s->batch, m->train.shuffle, m->train.seed, &loader));
    const int64_t total = loader_batches(loader) * m->train.epochs;
    for (int i = 0; i < STEPS; i++) {
        void *y = session_input(s, BUILD_TRAIN, "y");
        OK(f, loader_next(&f->cx, loader, x, y, &rows));
        if (rows == 0) {
            loader_start(loader, loader_pos(loader).epoch + 1);
            OK(f, loader_next(&f->cx, loader, x, y, &rows));
        }
        *(int32_t *)session_input(s, BUILD_TRAIN, "rows") = rows;
        *(float *)session_input(s, BUILD_TRAIN, "lr") = (float)model_learning_rate(m, i, total);
        OK(f, gtc_program_run(&f->cx, s->program[BUILD_TRAIN]));
        assert_non_null(session_output(s, BUILD_TRAIN, "loss", &loss));
        const double value = (double)*(float *)loss.data;
        at += snprintf(out + at, room - (size_t)at, "%d %a %.9g\n", i + 1, value, value);
    }
    loader_close(loader);
    session_close(s);
    gtc_device_close(device);
    data_close(d);
    model_free(m);
}

/* ------------------------------------------------------------ an app's */

static void write_app(Folder *f, const Case *c, const char *path)
{
    const char *argv[MAX_WORDS] = { getenv("GTC"), "emit",     path,      "--quiet",   "--target",
                                    c->target,     "--device", c->device, "--threads", c->threads,
                                    "--batches",   "5",        "--out",   f->app };
    int n = 14;
    for (int i = 0; i < 4 && c->set[i]; i++) {
        argv[n++] = "--set";
        argv[n++] = c->set[i];
    }
    assert_non_null(argv[0]);
    run(f, argv, 0, NULL);
}

/* A C app's flags are what makes the bits.  A CUDA app gets the host's driver in the place of a
 * GPU's; what it is linked with is compiled as that is. */
static void build_app(Folder *f, const Case *c)
{
    const char *build = getenv("GTC_BUILD_DIR");
    char driver[512] = "DRIVER=driver.o";
    if (strcmp(c->target, "c-app") == 0) {
        const char *const argv[] = { "make", "-C", f->app, NULL };
        run(f, argv, 0, NULL);
        return;
    }
    if (strcmp(c->device, "simt") == 0)
        snprintf(driver, sizeof driver, "DRIVER=%s/tests/libgtc_app_driver.so",
                 build ? build : "build");
#if defined(GTC_SANITIZE)
    const char *flags =
        "CFLAGS=-O1 -g -std=gnu11 -Wall -Wextra -Werror -fsanitize=address,undefined";
#else
    const char *flags = "CFLAGS=-O1 -std=gnu11 -Wall -Wextra -Werror";
#endif
    const char *const argv[] = { "make", "-C", f->app, driver, flags, NULL };
    run(f, argv, 0, NULL);
}

/* Tells apps where NVRTC is; false, and says so, where there is none. */
static bool find_nvrtc(Ctx *cx)
{
    Nvrtc n;
    if (nvrtc_dl_open(cx, 0, &n) == ST_OK)
        return setenv("LIBNVRTC", n.path, 1) == 0;
    print_message("SKIP: %s\n", cx->msg);
    return false;
}

static bool find_gpu(void)
{
    Ctx cx;
    GtcDevice *d;
    ctx_init(&cx);
    if (gtc_device_open(&cx, "cuda", 0, &d) != ST_OK) {
        print_message("SKIP: %s\n", cx.msg);
        return false;
    }
    gtc_device_close(d);
    return find_nvrtc(&cx);
}

static void app_trains_as_gtc_does(void **state)
{
    const Case *c = *state;
    char want[1024], *got, binary[128];
    Folder f;
    if (strcmp(c->device, "cuda") == 0 && !find_gpu())
        skip();
    folder_open(&f, c->text ? c->text : "{}");
    const char *path = c->text ? f.model : c->path;
    own_losses(&f, c, path, want, sizeof want);
    write_app(&f, c, path);
    build_app(&f, c);
    snprintf(binary, sizeof binary, "%s/app", f.app);
    const char *const argv[] = { binary, "5", f.app, NULL };
    run(&f, argv, 0, &got);
    assert_string_equal(got, want);
    free(got);
    folder_close(&f);
}

/* The kernels of a CUDA app before it runs, on a machine without a GPU. */
static void app_compiles_its_kernels(void **state)
{
    const Case c = { "cpu", "cuda-app", "1", NULL, one_layer, { NULL } };
    char binary[128], *said;
    Folder f;
    (void)state;
    folder_open(&f, one_layer);
    if (!find_nvrtc(&f.cx)) {
        folder_close(&f);
        skip();
    }
    write_app(&f, &c, f.model);
    const Case plain = { "cuda", "cuda-app", "1", NULL, one_layer, { NULL } };
    build_app(&f, &plain);
    snprintf(binary, sizeof binary, "%s/app", f.app);
    const char *const good[] = { binary, "--compile", "sm_80", f.app, NULL }, *const bad[] = {
        binary, "--compile", "sm_3", f.app, NULL
    };
    run(&f, good, 0, NULL);
    run(&f, bad, 4, &said);
    assert_non_null(strstr(said, "does not compile"));
    free(said);
    folder_close(&f);
}

static Status no_batch(Ctx *cx, void *arg, int i)
{
    (void)cx, (void)arg, (void)i;
    return ST_OK;
}

/* The reader of models takes no such names, but whoever builds graphs may. */
static void names_stay_in_comments(void **state)
{
    (void)state;
    static const char *const hostile[] = { "c*/int c;/*\\", "n\nint n;", "p?\?/", "f", "d", "y" };
    char path[128], *text;
    size_t n;
    Model *m;
    Data *d;
    GtcDevice *cpu, *device;
    Session *s;
    Folder f;
    folder_open(&f, dropout);
    OK(&f, model_load(&f.cx, f.model, NULL, 0, &m));
    OK(&f, data_open(&f.cx, &m->data, NULL, 0, 1, NULL, &d));
    OK(&f, gtc_device_open(&f.cx, "cpu", 1, &cpu));
    OK(&f, gtc_device_open_text(&f.cx, cpu, &device));
    OK(&f, session_open(&f.cx, m, data_shape(d), device, &(GtcOptions){ .mode = GTC_DEFAULT },
                        SESSION_TRAIN, &s));
    const GtcApp app = {
        .dir = f.app, .layer = hostile, .nlayer = 6, .batches = 1, .fill = no_batch
    };
    OK(&f, gtc_program_write(&f.cx, s->program[BUILD_TRAIN], s->store, &app));
    assert_int_equal(gtc_program_run(&f.cx, s->program[BUILD_TRAIN]), ST_USAGE);
    snprintf(path, sizeof path, "%s/steps.c", f.app);
    OK(&f, os_read_file(&f.cx, path, &text, &n));
    assert_non_null(strstr(text, "\"c./int c;.*.\""));
    assert_non_null(strstr(text, "\"n.int n;\""));
    assert_null(strstr(text, "?/"));
    free(text);
    session_close(s);
    gtc_device_close(device);
    gtc_device_close(cpu);
    data_close(d);
    model_free(m);
    folder_close(&f);
}

/* ------------------------------------------------------------ text alone */

static void cuda_kernels_are_printed(void **state)
{
    (void)state;
    static const char golden[] = "tests/app/emit_cuda.txt";
    char *got, *want;
    size_t n;
    Folder f;
    folder_open(&f, one_layer);
    const char *const argv[] = { getenv("GTC"), "emit",  f.model,     "--quiet", "--target", "cuda",
                                 "--arch",      "sm_80", "--program", "predict", NULL };
    run(&f, argv, 0, &got);
    if (getenv("GTC_UPDATE"))
        OK(&f, os_write_file(&f.cx, golden, got, strlen(got)));
    OK(&f, os_read_file(&f.cx, golden, &want, &n));
    assert_string_equal(got, want);
    free(got);
    free(want);
    folder_close(&f);
}

static void wrong_targets_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[][4] = {
        { "--target", "cude" },
        { "--target", "cuda", "--arch", "sm_12" },
        { "--target", "c", "--arch", "sm_80" },
        { "--target", "c", "--device", "simt" },
        { "--target", "c-app" },
    };
    Folder f;
    folder_open(&f, one_layer);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const char *argv[MAX_WORDS] = { getenv("GTC"), "emit", f.model };
        for (int k = 0; k < 4; k++)
            argv[3 + k] = wrong[i][k];
        run(&f, argv, 2, NULL);
    }
    folder_close(&f);
}

int main(void)
{
    static const Case
        c1 = { "cpu",
               "c-app",
               "1",
               "models/demo.json",
               NULL,
               { "data.window=12", "layers.conv.filters=7", "layers.gru.units=9", "train.batch_size=16" } },
        c2 = { "cpu", "c-app", "2", NULL, dropout, { NULL } },
        c3 = { "simt",
               "cuda-app",
               "1",
               "models/demo.json",
               NULL,
               { "data.window=12", "layers.conv.filters=7", "layers.gru.units=9", "train.batch_size=16" } },
        c4 = { "simt", "cuda-app", "1", NULL, dropout, { NULL } };
    static const Case c6 = { "simt", "cuda-app", "1", NULL, tall, { NULL } };
    static const Case c5 = { "cuda", "cuda-app", "1", NULL, dropout, { NULL } };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(app_trains_as_gtc_does, (void *)(uintptr_t)&c1),
        cmocka_unit_test_prestate(app_trains_as_gtc_does, (void *)(uintptr_t)&c2),
        cmocka_unit_test_prestate(app_trains_as_gtc_does, (void *)(uintptr_t)&c3),
        cmocka_unit_test_prestate(app_trains_as_gtc_does, (void *)(uintptr_t)&c4),
        cmocka_unit_test_prestate(app_trains_as_gtc_does, (void *)(uintptr_t)&c5),
        cmocka_unit_test_prestate(app_trains_as_gtc_does, (void *)(uintptr_t)&c6),
        cmocka_unit_test(app_compiles_its_kernels),
        cmocka_unit_test(names_stay_in_comments),
        cmocka_unit_test(cuda_kernels_are_printed),
        cmocka_unit_test(wrong_targets_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
