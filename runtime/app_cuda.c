/* SPDX-License-Identifier: Apache-2.0 */
/* app_cuda: the CUDA app.  Steps are launches and copies in one stream, recorded once as a CUDA
 * graph.  The app reaches the driver through one table, which is spelled from gtc's own list of
 * calls: whoever has another table of that kind links it in driver.o's place (make DRIVER=...).
 *
 * Each kernel is a file, as each is compiled alone: their #define lines are their own. */
#include <string.h>

#include "ir/base/os.h"
#include "runtime/app.h"
#include "runtime/cuda_dl.h"

static const char main_text[] =
#include "runtime/app_cuda_main.inc"
    ;
static const char driver_text[] =
#include "runtime/app_cuda_driver.inc"
    ;

#define VALUE(name, value) "    " #name " = " #value ",\n"
#define CALL(name, args)   "    X(" #name ", " #args ") \\\n"
static const char table_text[] =
#include "runtime/app_cuda_types.inc"
    "enum {\n" CUDA_VALUES(VALUE) "};\n\n"
                                  "/* Every call by the name that libcuda exports. */\n"
                                  "#define CUDA_CALLS(X) \\\n" CUDA_CALLS(
                                      CALL) "\n"
                                            "typedef struct Driver {\n"
                                            "#define CALL(name, args) CUresult (*name) args;\n"
                                            "    CUDA_CALLS(CALL)\n"
                                            "#undef CALL\n"
                                            "} Driver;\n\n"
                                            "/* Fills the table; 0 when there is no driver, which "
                                            "is said on stderr. */\n"
                                            "int driver_open(Driver *out);\n"
                                            "/* What the driver loads, made of a kernel's text, to "
                                            "be freed; NULL, and why on stderr. */\n"
                                            "char *driver_image(const char *arch, const char "
                                            "*name, const char *text, size_t *bytes);\n\n"
                                            "#endif\n";
#undef VALUE
#undef CALL

static const char types_text[] =
    "\ntypedef struct AppLaunch {\n"
    "    const char *entry;\n"
    "    int kernel; /* which of app_kernel */\n"
    "    unsigned blocks, threads, shared; /* shared: bytes of a block */\n"
    "    int cooperative;\n"
    "} AppLaunch;\n"
    "extern const char *const app_kernel[APP_KERNELS];\n"
    "extern const AppLaunch app_launch[APP_LAUNCHES];\n\n"
    "typedef struct App {\n"
    "    Driver cu;\n"
    "    CUdevice device;\n"
    "    CUcontext context;\n"
    "    CUstream stream;\n"
    "    CUdeviceptr memory;\n"
    "    CUmodule module[APP_KERNELS];\n"
    "    CUfunction fn[APP_LAUNCHES];\n"
    "    CUgraphExec step;\n"
    "    int bad; /* a call has failed, which was said */\n"
    "} App;\n\n"
    "/* steps.c: the launches of one training step. */\n"
    "void app_step(App *a);\n"
    "/* main.c: one of them, of n addresses; a copy. */\n"
    "void app_run(App *a, int launch, const CUdeviceptr *arg, int n);\n"
    "void app_copy(App *a, CUdeviceptr to, CUdeviceptr from, size_t bytes);\n\n"
    "#endif\n";

/* The number of a kernel's first launch among all. */
static int first_launch(const AppWriter *w, const char *name)
{
    int n = 0;
    for (int i = 0; strcmp(w->kernel[i]->name, name) != 0; i++)
        n += w->kernel[i]->nlaunch;
    return n;
}

static Status write_header(const AppWriter *w)
{
    const Schedule *s = w->view.schedule;
    Strbuf out = { 0 };
    uint32_t most = 1;
    int launches = 0;
    for (int i = 0; i < w->nkernel; i++)
        launches += w->kernel[i]->nlaunch;
    for (int i = 0; i < s->nstep; i++)
        most = s->step[i].nin + s->step[i].nout + 2 > most ? s->step[i].nin + s->step[i].nout + 2
                                                           : most;
    strbuf_printf(&out,
                  "/* Sizes of this app: %s. */\n#ifndef APP_H\n#define APP_H\n\n"
                  "#include \"driver.h\"\n\n#define APP_KERNELS %d\n#define APP_LAUNCHES %d\n"
                  "#define APP_MAX_ARGS %u\n",
                  w->view.d->describe, w->nkernel, launches, most);
    app_put_sizes(w, &out);
    strbuf_add(&out, types_text);
    const Status st = app_file(w, "app.h", strbuf_str(&out));
    strbuf_free(&out);
    return st;
}

static void put_tables(const AppWriter *w, Strbuf *out)
{
    strbuf_add(out, "const char *const app_kernel[APP_KERNELS] = {\n");
    for (int i = 0; i < w->nkernel; i++)
        strbuf_printf(out, "    \"%s\",\n", w->kernel[i]->name);
    strbuf_add(out, "};\n\nconst AppLaunch app_launch[APP_LAUNCHES] = {\n");
    for (int i = 0; i < w->nkernel; i++)
        for (int j = 0; j < w->kernel[i]->nlaunch; j++) {
            const Launch *l = &w->kernel[i]->launch[j];
            strbuf_printf(out, "    { \"%s\", %d, %lld, %d, %d, %d },\n", l->entry, i,
                          (long long)l->blocks, l->threads, l->smem, l->cooperative);
        }
    strbuf_add(out, "};\n");
}

static void put_step(const AppWriter *w, const Step *s, Strbuf *out)
{
    if (s->kernel < 0) {
        strbuf_printf(out, "    app_copy(a, m + %lld, m + %lld, %lldLL);\n",
                      (long long)app_offset(w, s->arg[1]), (long long)app_offset(w, s->arg[0]),
                      (long long)s->copy_bytes);
        return;
    }
    const Kernel *k = &w->view.kernel[s->kernel];
    const int first = first_launch(w, k->name);
    for (int i = 0; i < k->nlaunch; i++) {
        strbuf_printf(out, "    app_run(a, %d, (CUdeviceptr[]){ ", first + i);
        app_put_args(w, s, out);
        strbuf_printf(out, " }, %u);\n", s->nin + s->nout + 2);
    }
}

static Status write_steps(const AppWriter *w)
{
    const Schedule *s = w->view.schedule;
    Strbuf out = { 0 };
    strbuf_add(&out, "/* One training step: launches by their number in app_launch, one after the "
                     "other; m is all of\n * memory. */\n#include \"app.h\"\n\n");
    put_tables(w, &out);
    strbuf_add(&out, "\nvoid app_step(App *a)\n{\n    const CUdeviceptr m = a->memory;\n");
    for (int i = 0; i < s->nstep; i++) {
        app_put_step(w, i, &out);
        put_step(w, &s->step[i], &out);
    }
    strbuf_add(&out, "}\n");
    const Status st = app_file(w, "steps.c", strbuf_str(&out));
    strbuf_free(&out);
    return st;
}

static Status write_kernels(const AppWriter *w)
{
    TRY(os_make_dirs(w->cx, arena_printf(w->arena, "%s/kernels", w->app->dir)));
    TRY(app_file(w, "kernels/prelude.cuh", kernel_prelude_cuda()));
    for (int i = 0; i < w->nkernel; i++)
        TRY(app_file(w, arena_printf(w->arena, "kernels/%s.cu", w->kernel[i]->name),
                     w->kernel[i]->source));
    return ST_OK;
}

static const char makefile_text[] =
    "# make, then ./app [STEPS [FOLDER]].  make cubin ARCH=sm_90a compiles the kernels "
    "beforehand.\n"
    "# Building needs neither CUDA nor a GPU.\n"
    "CC = cc\nCFLAGS = -O2 -std=gnu11\nDRIVER = driver.o\nARCH = sm_90a\n\n"
    "app: main.o steps.o $(DRIVER)\n\t$(CC) $(CFLAGS) -o $@ main.o steps.o $(DRIVER) -ldl\n\n"
    "main.o: main.c app.h driver.h\n\t$(CC) $(CFLAGS) -c main.c\n"
    "steps.o: steps.c app.h driver.h\n\t$(CC) $(CFLAGS) -c steps.c\n"
    "driver.o: driver.c driver.h\n\t$(CC) $(CFLAGS) -c driver.c\n\n"
    "cubin: app\n\t./app --compile $(ARCH)\n\n"
    "clean:\n\trm -f app main.o steps.o driver.o kernels/*.cubin\n\n.PHONY: clean cubin\n";

Status app_write_cuda(AppWriter *w)
{
    TRY(app_file(w, "Makefile", makefile_text));
    TRY(write_header(w));
    TRY(write_steps(w));
    TRY(write_kernels(w));
    TRY(app_file(w, "driver.h", table_text));
    TRY(app_file(w, "driver.c", driver_text));
    return app_file(w, "main.c", main_text);
}
