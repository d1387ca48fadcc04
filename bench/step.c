/* SPDX-License-Identifier: Apache-2.0 */
/* Times one whole training step of a model on its random data (forward, loss, backward, clip,
 * optimizer), as the scripts in bench/peers time theirs: five steps to warm up, then steps for
 * some seconds; prints one JSON line.
 *
 *     bench-step MODEL.json [--seconds S] [--threads N] [--device NAME] [--mode eager|default]
 *                [--skip PASSES] [--libraries auto|all|none] [--predict] [--profile] [--set k=v]
 *
 * --skip leaves passes out, --predict times the program that predicts; --profile prints what each kernel takes, the slowest first, to stderr. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "train/loader.h"
#include "train/session.h"

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct Args {
    const char *model, *mode, *device, *skip, *libraries, *set[32];
    int threads, nset;
    double seconds;
    bool profile, predict;
} Args;

static bool args_read(int argc, char **argv, Args *a)
{
    *a = (Args){ .mode = "default", .device = "cpu", .libraries = "auto", .seconds = 3 };
    for (int i = 1; i < argc; i++) {
        const bool more = i + 1 < argc;
        if (!strcmp(argv[i], "--profile"))
            a->profile = true;
        else if (!strcmp(argv[i], "--predict"))
            a->predict = true;
        else if (!strcmp(argv[i], "--skip") && more)
            a->skip = argv[++i];
        else if (!strcmp(argv[i], "--seconds") && more)
            a->seconds = atof(argv[++i]);
        else if (!strcmp(argv[i], "--threads") && more)
            a->threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--device") && more)
            a->device = argv[++i];
        else if (!strcmp(argv[i], "--mode") && more)
            a->mode = argv[++i];
        else if (!strcmp(argv[i], "--libraries") && more)
            a->libraries = argv[++i];
        else if (!strcmp(argv[i], "--set") && more && a->nset < 32)
            a->set[a->nset++] = argv[++i];
        else if (argv[i][0] != '-' && !a->model)
            a->model = argv[i];
        else
            return false;
    }
    return a->model != NULL;
}

static void profile_print(Ctx *cx, GtcProgram *p)
{
    const int n = gtc_program_info(p).kernels;
    double *ms = calloc((size_t)n, sizeof *ms), total = 0;
    enum { RUNS = 10 };
    if (!ms || gtc_program_profile(cx, p, RUNS, ms) != ST_OK) {
        fprintf(stderr, "no profile: %s\n", cx->msg);
        free(ms);
        return;
    }
    for (int i = 0; i < n; i++)
        total += ms[i];
    for (int shown = 0; shown < n && shown < 40; shown++) {
        int top = 0;
        for (int i = 1; i < n; i++)
            if (ms[i] > ms[top])
                top = i;
        const GtcKernelInfo k = gtc_program_kernel(p, top);
        fprintf(stderr, "%8.3f ms %5.1f%%  %7.1f GF/s %6.1f GB/s  %3d %s  layers %s\n",
                ms[top] / RUNS, 100 * ms[top] / total, k.flops * RUNS / ms[top] * 1e-6,
                k.bytes * RUNS / ms[top] * 1e-6, top, k.name, k.layers);
        ms[top] = 0;
    }
    free(ms);
}

static Status bench(Ctx *cx, const Args *a)
{
    Model *m;
    Data *data;
    GtcDevice *device;
    Session *s;
    Loader *loader;
    TRY(model_load(cx, a->model, a->set, a->nset, &m));
    TRY(data_open(cx, &m->data, NULL, 0, 1, NULL, &data));
    TRY(gtc_device_open(cx, a->device, a->threads, &device));
    const GtcOptions opt = { .mode = !strcmp(a->mode, "eager") ? GTC_EAGER : GTC_DEFAULT,
                             .libraries = !strcmp(a->libraries, "all")    ? GTC_LIBRARIES_ALL
                                          : !strcmp(a->libraries, "none") ? GTC_LIBRARIES_NONE
                                                                          : GTC_LIBRARIES_AUTO,
                             .skip_passes = a->skip };
    const unsigned kinds = SESSION_TRAIN | (a->predict ? SESSION_PREDICT : 0);
    TRY(session_open_fed(cx, m, data_shape(data), device, &opt, kinds, DATA_AUTO, &s));
    TRY(session_init(cx, s));
    TRY(session_feed(cx, s, data));
    TRY(loader_open(cx, data, SPLIT_TRAIN, m->train.batch_size, true, 1, &loader));
    void *const *x;
    int rows;
    TRY(session_inputs(cx, s, BUILD_TRAIN, &x));
    TRY(loader_next(cx, loader, x, session_input(s, BUILD_TRAIN, "y"), &rows));
    for (int k = BUILD_TRAIN; k <= BUILD_PREDICT && s->fed; k++) /* all a GPU is given */
        if (s->program[k])
            TRY(data_locate(cx, data, SPLIT_TRAIN, loader_index(loader), m->train.batch_size,
                            session_at(s, (BuildKind)k)));
    *(int32_t *)session_input(s, BUILD_TRAIN, "rows") = rows;
    *(float *)session_input(s, BUILD_TRAIN, "lr") = 1e-3f;
    GtcProgram *p = s->program[a->predict ? BUILD_PREDICT : BUILD_TRAIN];
    for (int i = 0; i < 5; i++)
        TRY(gtc_program_run(cx, p));
    enum { MOST = 4000 };
    static double ms[MOST];
    int n = 0;
    for (const double t0 = now_ms(); now_ms() - t0 < 1e3 * a->seconds && n < MOST; n++) {
        const double t = now_ms();
        TRY(gtc_program_run(cx, p));
        ms[n] = now_ms() - t;
    }
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    const GtcProgramInfo info = gtc_program_info(p);
    printf("{\"fw\": \"gtc\", \"wl\": \"%s\", \"mode\": \"%s\", \"nt\": %d, \"min_ms\": %.4g, "
           "\"med_ms\": %.4g, "
           "\"p10_ms\": %.4g, \"p90_ms\": %.4g, \"n\": %d, \"kernels\": %d, \"calls\": %d, \"compile_ms\": %.4g, "
           "\"peak_bytes\": %lld}\n",
           m->name, a->mode, gtc_device_threads(device), ms[0], ms[n / 2], ms[n / 10],
           ms[n - 1 - n / 10], n, info.kernels, info.calls, info.compile_ms, (long long)info.peak_bytes);
    if (a->profile)
        profile_print(cx, p);
    loader_close(loader);
    session_close(s);
    gtc_device_close(device);
    data_close(data);
    model_free(m);
    return ST_OK;
}

int main(int argc, char **argv)
{
    Args a;
    if (!args_read(argc, argv, &a)) {
        fprintf(stderr, "usage: bench-step MODEL.json [--seconds S] [--threads N] [--device NAME] "
                        "[--mode eager|default] [--skip PASSES] [--libraries auto|all|none] [--predict] "
                        "[--profile] "
                        "[--set k=v]\n");
        return 2;
    }
    Ctx cx;
    ctx_init(&cx);
    const Status st = bench(&cx, &a);
    if (st != ST_OK)
        fprintf(stderr, "bench-step: %s\n", cx.msg);
    return status_exit_code(st);
}
