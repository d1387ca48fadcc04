/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a program on a GPU, on the host's CUDA driver: hand-written kernels as one graph, one
 * by one, with a step that only the interpreter takes, timed, with too little memory, and with
 * every call of the driver failing once and for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ir/base/os.h"
#include "ir/text.h"
#include "runtime/dev_cuda.h"
#include "runtime/program.h"
#include "runtime/simt_driver.h"

enum { N = 1000, BLOCKS = 4 };
#if defined(GTC_SANITIZE)
enum { STRIDE = 3 }; /* of the calls that are made to fail */
#else
enum { STRIDE = 1 };
#endif
#define TYPE "f32[1000]"

static const char text[] =
    "graph (%x: " TYPE ", param %w: " TYPE ", state %a: " TYPE ", state %b: " TYPE ") {\n"
    "  %1 = fusion %x, %w kind=loop (%x: " TYPE ", %w: " TYPE ") {\n"
    "    %1 = mul %x, %w : " TYPE "  @dense.3\n"
    "    return %1\n"
    "  }\n"
    "  %y = get %1 index=0 : " TYPE "\n"
    "  %2 = fusion %y, %w kind=loop (%y: " TYPE ", %w: " TYPE ") {\n"
    "    %1 = sub %w, %y : " TYPE "  @dense.1\n"
    "    %2 = add %1, %y : " TYPE "  @dense.3.bwd\n"
    "    return %1, %2\n"
    "  }\n"
    "  %w2 = get %2 index=0 : " TYPE "\n"
    "  %t = get %2 index=1 : " TYPE "\n"
    "  %3 = fusion %t kind=reduce (%t: " TYPE ") {\n"
    "    %1 = sum %t axes=[0] : f32[]\n"
    "    return %1\n"
    "  }\n"
    "  %s = get %3 index=0 : f32[]\n"
    "  return y: %y, %w := %w2, t: %t, %a := %b, again: %t, echo: %x, new: %w2, sum: %s\n"
    "}\n";

#define EACH                                                                                       \
    "    int i = gtc_bid() * 256 + gtc_tid();\n"                                                   \
    "    if (i < 1000)\n"
#define F(i)       "*(const float **)a[" #i "]"
#define OUT(i)     "*(float **)a[" #i "]"
#define IN         "const float *__restrict__ "
#define REST(w, c) ", " OUT(w) ", *(gtc_u32 **)a[" #c "]))\n"

static const char mul_source[] =
    "GTC_KERNEL(256) mul(" IN "x, " IN "w, float *__restrict__ y, float *__restrict__ work,\n"
    "                    gtc_u32 *__restrict__ counter)\n"
    "{\n" EACH "        y[i] = x[i] * w[i];\n"
    "}\n"
    "GTC_ENTRY(mul, (" F(0) ", " F(1) ", " OUT(2) REST(3, 4);
/* Two launches: the second reads what the first wrote; w may be where the result is. */
static const char sub_source[] =
    "GTC_KERNEL(256) sub(" IN "y, const float *w, float *out, float *__restrict__ t,\n"
    "                    float *__restrict__ work, gtc_u32 *__restrict__ counter)\n"
    "{\n" EACH "        out[i] = w[i] - y[i];\n"
    "}\n"
    "GTC_ENTRY(sub, (" F(0) ", " F(1) ", " OUT(2) ", " OUT(3)
        REST(4, 5) "GTC_KERNEL(256) add(" IN
                   "y, const float *w, const float *out, float *__restrict__ t,\n"
                   "                    float *__restrict__ work, gtc_u32 *__restrict__ counter)\n"
                   "{\n" EACH "        t[i] = out[i] + y[i];\n"
                   "}\n"
                   "GTC_ENTRY(add, (" F(0) ", " F(1) ", " F(2) ", " OUT(3) REST(4, 5);
/* Each block leaves its sum in the workspace, the last one adds them up; the flag lies at the end
 * of more shared memory than a launch has without asking. */
static const char sum_source[] =
    "GTC_KERNEL(256) sum(" IN "t, float *__restrict__ s, float *__restrict__ work,\n"
    "                    gtc_u32 *__restrict__ counter)\n"
    "{\n"
    "    float *sm = (float *)gtc_smem();\n"
    "    int *flag = (int *)(gtc_smem() + 65536);\n"
    "    int i = gtc_bid() * 256 + gtc_tid();\n"
    "    float v = 0.0f;\n"
    "    sm[gtc_tid()] = i < 1000 ? t[i] : 0.0f;\n"
    "    gtc_bar();\n"
    "    if (gtc_tid() == 0) {\n"
    "        for (int k = 0; k < 256; k++)\n"
    "            v += sm[k];\n"
    "        work[gtc_bid()] = v;\n"
    "    }\n"
    "    gtc_bar();\n"
    "    if (gtc_tid() == 0)\n"
    "        *flag = gtc_last_of(counter, gtc_nblocks());\n"
    "    gtc_bar();\n"
    "    if (*flag && gtc_tid() == 0) {\n"
    "        v = 0.0f;\n"
    "        for (int k = 0; k < gtc_nblocks(); k++)\n"
    "            v += work[k];\n"
    "        s[0] = v;\n"
    "    }\n"
    "}\n"
    "GTC_ENTRY(sum, (" F(0) ", " OUT(1) REST(2, 3);

static const Launch mul_launch[] = { { "mul", BLOCKS, 256, 0, false } };
static const Launch sub_launch[] = { { "sub", BLOCKS, 256, 0, false },
                                     { "add", BLOCKS, 256, 0, false } };
static const Launch sum_launch[] = { { "sum", BLOCKS, 256, 65536 + 16, false } };
static const int32_t no_place[2] = { -1, -1 }, sub_place[2] = { 1, -1 };

static const Kernel kernels[3] = {
    { .name = "mul_1",
      .label = "mul",
      .source = mul_source,
      .plan = "",
      .planner = "hand",
      .nin = 2,
      .nout = 1,
      .inplace = no_place,
      .launch = mul_launch,
      .nlaunch = 1 },
    { .name = "sub_1",
      .label = "sub",
      .source = sub_source,
      .plan = "",
      .planner = "hand",
      .nin = 2,
      .nout = 2,
      .inplace = sub_place,
      .launch = sub_launch,
      .nlaunch = 2 },
    { .name = "sum_1",
      .label = "sum",
      .source = sum_source,
      .plan = "",
      .planner = "hand",
      .nin = 1,
      .nout = 1,
      .inplace = no_place,
      .shared_bytes = 64,
      .launch = sum_launch,
      .nlaunch = 1,
      .counters = 1 },
};

/* ------------------------------------------------------------ a device */

typedef struct Fixture {
    Ctx cx;
    Arena *arena;
    CudaDriver cu;
    GtcDevice *d;
    GtcStore *s;
    GtcProgram *p;
    char said[2048];
    bool failed; /* a call was made to */
} Fixture;

static char cache[64];

static void note(void *arg, LogLevel level, const char *line)
{
    Fixture *f = arg;
    (void)level;
    snprintf(f->said + strlen(f->said), sizeof f->said - strlen(f->said), "%s\n", line);
}

typedef struct Setup {
    Kernel k[3];
    double memory_fraction;
    uint64_t fail;
    bool fail_ever, no_cache;
    int depth;
    int64_t stage; /* 0: inputs this small have none */
    void (*change)(CudaDriver *cu);
} Setup;

static Setup plain(void)
{
    Setup u = { .no_cache = false };
    memcpy(u.k, kernels, sizeof kernels);
    return u;
}

static Status begin(Fixture *f, const Setup *u)
{
    SimtDriverOptions driver;
    Graph *g = NULL;
    const GtcOptions opt = { .no_cache = u->no_cache, .depth = u->depth, .stage_bytes = u->stage };
    const DeviceCall call = { .gpu = -1, .memory_fraction = u->memory_fraction };
    memset(f, 0, sizeof *f);
    ctx_init(&f->cx);
    f->cx.log = note;
    f->cx.log_arg = f;
    f->arena = arena_new();
    assert_int_equal(simt_driver_options(&f->cx, &driver), ST_OK);
    driver.fail = u->fail;
    driver.fail_ever = u->fail_ever;
    assert_int_equal(simt_driver_open(&f->cx, &driver, &f->cu), ST_OK);
    if (u->change)
        u->change(&f->cu);
    if (graph_parse(&f->cx, f->arena, "test", text, &g) != ST_OK)
        fail_msg("%d: %s", f->cx.line, f->cx.msg);
    TRY(cuda_open_simt(&f->cx, &f->cu, driver.machine.shadow, &call, &f->d));
    TRY(gtc_store_create(&f->cx, f->d, &f->s));
    return program_create(&f->cx, f->d, f->s, g, u->k, 3, &opt, &f->p);
}

static Status end(Fixture *f)
{
    if (f->p)
        gtc_program_destroy(f->p);
    if (f->s)
        gtc_store_destroy(f->s);
    if (f->d)
        gtc_device_close(f->d);
    arena_free(f->arena);
    f->failed = simt_driver_failed() > 0;
    return simt_driver_close(&f->cx);
}

static float *stored(Fixture *f, const char *name)
{
    return gtc_store_find(f->s, name)->data;
}

static float *output(Fixture *f, const char *name)
{
    return gtc_program_output(f->p, gtc_program_find_output(f->p, name)).data;
}

static void give(Fixture *f, float want_w[N])
{
    float *x = gtc_program_input(f->p, gtc_program_find_input(f->p, "x")).data;
    for (int i = 0; i < N; i++) {
        x[i] = (float)(i % 7) * 0.125f;
        want_w[i] = stored(f, "w")[i] = (float)i;
        stored(f, "a")[i] = 1;
        stored(f, "b")[i] = 2;
    }
}

/* One run from want_w on, on the device and by hand. */
static Status run(Fixture *f, float want_w[N], double *ms)
{
    float *x = gtc_program_input(f->p, gtc_program_find_input(f->p, "x")).data, sum = 0;
    TRY(ms ? gtc_program_profile(&f->cx, f->p, 1, ms) : gtc_program_run(&f->cx, f->p));
    for (int block = 0; block < BLOCKS; block++) {
        float part = 0;
        for (int i = 256 * block; i < 256 * (block + 1) && i < N; i++) {
            const float y = x[i] * want_w[i];
            want_w[i] -= y;
            part += want_w[i] + y;
            assert_true(output(f, "y")[i] == y);
            assert_true(output(f, "new")[i] == want_w[i]);
            assert_true(output(f, "t")[i] == want_w[i] + y);
            assert_true(output(f, "again")[i] == want_w[i] + y);
            assert_true(output(f, "echo")[i] == x[i]);
        }
        sum += part;
    }
    assert_float_equal(*output(f, "sum"), sum, 1e-2);
    return ST_OK;
}

static Status train(Fixture *f, int runs)
{
    float w[N];
    give(f, w);
    TRY(gtc_store_upload(&f->cx, f->s));
    for (int k = 0; k < runs; k++)
        TRY(run(f, w, NULL));
    memset(stored(f, "w"), 0, sizeof w);
    TRY(gtc_store_download(&f->cx, f->s));
    for (int i = 0; i < N; i++) {
        assert_true(stored(f, "w")[i] == w[i]);
        assert_true(stored(f, "a")[i] == 2 && stored(f, "b")[i] == 2);
    }
    return ST_OK;
}

#define OK(f, call)                                                                                \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s", (f)->cx.msg);                                                           \
    } while (0)

/* ------------------------------------------------------------ right results */

static void a_program_is_one_graph(void **state)
{
    Fixture f;
    const Setup u = plain();
    (void)state;
    for (int again = 0; again < 2; again++) {
        OK(&f, begin(&f, &u));
        const GtcProgramInfo info = gtc_program_info(f.p);
        assert_int_equal(info.kernels, 3);
        assert_int_equal(info.launches, 4);
        assert_int_equal(info.compiled, again ? 0 : 3);
        assert_int_equal(info.cached, again ? 3 : 0);
        OK(&f, train(&f, 3));
        assert_string_equal(f.said, "");
        OK(&f, end(&f));
    }
}

static int graph_launches, kernel_launches;
static CUresult (*real_graph_launch)(CUgraphExec, CUstream);
static CUresult (*real_launch)(const CUlaunchConfig *, CUfunction, void **, void **);

static CUresult count_graph(CUgraphExec e, CUstream s)
{
    graph_launches++;
    return real_graph_launch(e, s);
}

static CUresult count_launch(const CUlaunchConfig *c, CUfunction f, void **params, void **extra)
{
    kernel_launches++;
    return real_launch(c, f, params, extra);
}

static void count(CudaDriver *cu)
{
    graph_launches = kernel_launches = 0;
    real_graph_launch = cu->cuGraphLaunch;
    real_launch = cu->cuLaunchKernelEx;
    cu->cuGraphLaunch = count_graph;
    cu->cuLaunchKernelEx = count_launch;
}

static CUresult no_graph(CUgraph *g, unsigned flags)
{
    (void)g, (void)flags;
    return CUDA_ERROR_NOT_SUPPORTED;
}

static void count_without_graphs(CudaDriver *cu)
{
    count(cu);
    cu->cuGraphCreate = no_graph;
}

static void one_call_launches_it(void **state)
{
    Fixture f;
    Setup u = plain();
    (void)state;
    u.change = count;
    OK(&f, begin(&f, &u));
    OK(&f, train(&f, 3));
    assert_int_equal(graph_launches, 3);
    assert_int_equal(kernel_launches, 0);
    OK(&f, end(&f));
}

static void without_graphs_launches_go_one_by_one(void **state)
{
    Fixture f;
    Setup u = plain();
    (void)state;
    u.change = count_without_graphs;
    OK(&f, begin(&f, &u));
    OK(&f, train(&f, 3));
    assert_int_equal(graph_launches, 0);
    assert_int_equal(kernel_launches, 3 * 4);
    assert_non_null(strstr(f.said, "no CUDA graph: cuda: cuGraphCreate: "));
    assert_null(strstr(strstr(f.said, "no CUDA graph") + 1, "no CUDA graph"));
    OK(&f, end(&f));
}

static void what_no_planner_takes_is_interpreted(void **state)
{
    (void)state;
    for (int which = 0; which < 8; which++) {
        Fixture f;
        Setup u = plain();
        int gone = 0;
        for (int k = 0; k < 3; k++)
            if (which >> k & 1) {
                u.k[k].source = k == 1 ? "not C at all\n" : "";
                u.k[k].name = k == 1 ? "sub_bad" : u.k[k].name;
                gone += k != 1;
            }
        OK(&f, begin(&f, &u));
        assert_int_equal(gtc_program_info(f.p).interpreted, gone);
        if (which & 2) { /* and what no compiler takes is planned anew */
            assert_non_null(strstr(f.said, "sub_bad, of layers 1,3: "));
            assert_non_null(strstr(f.said, "sub_bad is made again by the last-resort planner, as "));
            assert_string_equal(gtc_program_kernel(f.p, 1).planner, "plain");
        }
        OK(&f, train(&f, 3));
        OK(&f, end(&f));
    }
}

/* A compiler that is there and takes nothing. */
static void what_no_compiler_takes_is_no_program(void **state)
{
    static const char script[] = "#!/bin/sh\ncase \"$1\" in --version) echo clang 1;; *) exit 1;; esac\n";
    const char *cc = getenv("CC");
    char path[128], *old = cc ? strdup(cc) : NULL;
    Fixture f;
    const Setup u = plain();
    (void)state;
    snprintf(path, sizeof path, "/tmp/gtc-dev-cuda-cc-%ld", (long)getpid());
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(script, file) >= 0 && fclose(file) == 0 && chmod(path, 0700) == 0);
    setenv("CC", path, 1);
    assert_int_equal(begin(&f, &u), ST_ENV);
    assert_non_null(strstr(f.cx.msg, "neither as it was planned nor as the last-resort planner"));
    assert_non_null(strstr(f.said, "mul_1, of layers 3: clang 1"));
    assert_null(f.p);
    OK(&f, end(&f));
    unlink(path);
    if (old)
        setenv("CC", old, 1);
    else
        unsetenv("CC");
    free(old);
}

static void kernels_are_timed(void **state)
{
    Fixture f;
    Setup u = plain();
    double ms[3];
    float w[N];
    (void)state;
    OK(&f, begin(&f, &u));
    give(&f, w);
    OK(&f, gtc_store_upload(&f.cx, f.s));
    OK(&f, run(&f, w, ms));
    for (int i = 0; i < 3; i++)
        assert_true(ms[i] > 0 && ms[i] < 1e4);
    OK(&f, run(&f, w, NULL));
    OK(&f, end(&f));
}

/* Runs that are under way together see the inputs that they were begun with, also where more of them
 * are under way than inputs have places. */
static void under_way(int wanted, int depth, int64_t stage)
{
    enum { RUNS = 11 };
    Fixture f;
    Setup u = plain();
    float w[N], want[RUNS];
    int begun = 0;
    u.depth = wanted;
    u.stage = stage;
    OK(&f, begin(&f, &u));
    give(&f, w);
    OK(&f, gtc_store_upload(&f.cx, f.s));
    float *x = gtc_program_input(f.p, gtc_program_find_input(f.p, "x")).data;
    assert_int_equal(gtc_program_depth(f.p), depth);
    const Schedule *s = program_view(f.p).schedule;
    assert_int_equal(s->in_depth, depth > 1000 ? 4 : depth);
    assert_true((s->stage[0] != NULL) == (stage > 0));
    for (int done = 0; done < RUNS; done++) {
        for (; begun < RUNS && begun - done < depth; begun++) {
            x[5] = 0.25f * (float)begun;
            want[begun] = x[5] * w[5];
            w[5] -= want[begun];
            OK(&f, gtc_program_submit(&f.cx, f.p));
            x[5] = 1e9f;
        }
        OK(&f, gtc_program_collect(&f.cx, f.p));
        assert_true(output(&f, "y")[5] == want[done]);
        assert_true(output(&f, "echo")[5] == 0.25f * (float)done);
    }
    OK(&f, gtc_program_submit(&f.cx, f.p)); /* nobody collects it */
    OK(&f, end(&f));
}

static void runs_may_be_under_way(void **state)
{
    (void)state;
    for (int64_t stage = 0; stage < 2; stage++) {
        under_way(0, 4, stage);
        under_way(1, 1, stage);
        under_way(7, 7, stage);
        under_way(1103, 1100, stage);
    }
}

/* The steps in orders that the edges allow, every access watched. */
static void edges_are_enough(void **state)
{
    (void)state;
    setenv("GTC_SIMT_SHADOW", "1", 1);
    for (int seed = 1; seed <= 6; seed++) {
        Fixture f;
        const Setup u = plain();
        char text_of[16];
        snprintf(text_of, sizeof text_of, "%d", seed);
        setenv("GTC_SIMT_SEED", text_of, 1);
        setenv("GTC_SIMT_SCHEDULE",
               seed % 3 == 0   ? "seeded"
               : seed % 3 == 1 ? "reverse"
                               : "forward",
               1);
        OK(&f, begin(&f, &u));
        OK(&f, train(&f, 3));
        OK(&f, end(&f));
    }
    unsetenv("GTC_SIMT_SHADOW");
    unsetenv("GTC_SIMT_SEED");
    unsetenv("GTC_SIMT_SCHEDULE");
}

/* ------------------------------------------------------------ errors */

static void memory_has_a_limit(void **state)
{
    Fixture f;
    Setup u = plain();
    (void)state;
    u.memory_fraction = 1e-9;
    assert_int_equal(begin(&f, &u), ST_MEMORY);
    assert_non_null(strstr(f.cx.msg, "no memory for"));
    assert_non_null(strstr(f.cx.msg, "(--gpu-memory-fraction)"));
    OK(&f, end(&f));
}

/* ------------------------------------------------------------ NVRTC, as on a GPU */

static int cubins;

static CUresult take_cubin(CUmodule *m, const void *image, unsigned n, CUjit_option *o, void **v)
{
    Elf64_Ehdr head;
    (void)n, (void)o, (void)v;
    memcpy(&head, image, sizeof head);
    assert_memory_equal(head.e_ident, ELFMAG, SELFMAG);
    assert_int_equal(head.e_machine, 190); /* CUDA */
    cubins++;
    *m = (CUmodule)&cubins;
    return CUDA_SUCCESS;
}

static CUresult drop_cubin(CUmodule m)
{
    assert_ptr_equal(m, &cubins);
    cubins--;
    return CUDA_SUCCESS;
}

static CUresult any_function(CUfunction *f, CUmodule m, const char *name)
{
    (void)m, (void)name;
    *f = (CUfunction)&cubins;
    return CUDA_SUCCESS;
}

static CUresult any_attribute(CUfunction f, CUfunction_attribute a, int v)
{
    (void)f;
    assert_int_equal(a, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
    assert_true(v > 48 << 10);
    return CUDA_SUCCESS;
}

static CUresult any_occupancy(int *blocks, CUfunction f, int threads, size_t smem)
{
    (void)f, (void)threads, (void)smem;
    *blocks = 2;
    return CUDA_SUCCESS;
}

static CUresult no_node(CUgraphNode *node, CUgraph g, const CUgraphNode *after, size_t n,
                        const CUDA_KERNEL_NODE_PARAMS *k)
{
    (void)node, (void)g, (void)after, (void)n, (void)k;
    return CUDA_ERROR_NOT_SUPPORTED;
}

static CUresult no_launch(const CUlaunchConfig *c, CUfunction f, void **params, void **extra)
{
    (void)c, (void)f, (void)params, (void)extra;
    return CUDA_SUCCESS;
}

/* The way of a GPU up to its driver, which takes code and runs nothing: NVRTC compiles the check of
 * each intrinsic, and the hand-written kernels, without a word. */
static void nvrtc_compiles_for_the_device(void **state)
{
    enum { MOST = 40 };
    static GtcCheck check[MOST];
    const DeviceCall call = { .gpu = -1 };
    SimtDriverOptions opt;
    Fixture f;
    Graph *g = NULL;
    int n = 0;
    (void)state;
    memset(&f, 0, sizeof f);
    ctx_init(&f.cx);
    f.arena = arena_new();
    OK(&f, simt_driver_options(&f.cx, &opt));
    OK(&f, simt_driver_open(&f.cx, &opt, &f.cu));
    f.cu.cuModuleLoadDataEx = take_cubin;
    f.cu.cuModuleUnload = drop_cubin;
    f.cu.cuModuleGetFunction = any_function;
    f.cu.cuFuncSetAttribute = any_attribute;
    f.cu.cuOccupancyMaxActiveBlocksPerMultiprocessor = any_occupancy;
    f.cu.cuGraphAddKernelNode_v2 = no_node;
    f.cu.cuLaunchKernelEx = no_launch;
    const Status s = cuda_open_gpu(&f.cx, &f.cu, &call, &f.d);
    if (s != ST_OK) {
        print_message("SKIP: %s\n", f.cx.msg);
        end(&f);
        skip();
    }
    assert_non_null(strstr(gtc_device_describe(f.d), "NVRTC"));
    OK(&f, gtc_device_check(&f.cx, f.d, check, MOST, &n));
    for (int i = 0; i < n; i++)
        if (strstr(check[i].text, "compile"))
            fail_msg("%s: %s", check[i].name, check[i].text);
    OK(&f, gtc_store_create(&f.cx, f.d, &f.s));
    OK(&f, graph_parse(&f.cx, f.arena, "test", text, &g));
    OK(&f, program_create(&f.cx, f.d, f.s, g, kernels, 3, &(GtcOptions){ 0 }, &f.p));
    assert_int_equal(gtc_program_info(f.p).interpreted, 0);
    assert_int_equal(gtc_program_info(f.p).compiled, 3);
    assert_int_equal(cubins, 3);
    OK(&f, end(&f));
    assert_int_equal(cubins, 0);
}

/* A wrong kernel: the message says which, later calls fail too, everything is given back. */
static void a_bad_kernel_ends_the_run(void **state)
{
    static const char wild[] =
        "GTC_KERNEL(256) mul(" IN "x, " IN "w, float *__restrict__ y, float *__restrict__ work,\n"
        "                    gtc_u32 *__restrict__ counter)\n"
        "{\n" EACH "        y[i] = x[i] * w[i];\n"
        "    if (i < 32)\n"
        "        gtc_bar();\n"
        "}\n"
        "GTC_ENTRY(mul, (" F(0) ", " F(1) ", " OUT(2) REST(3, 4);
    Fixture f;
    Setup u = plain();
    (void)state;
    u.k[0].source = wild;
    u.k[0].name = "mul_wild";
    OK(&f, begin(&f, &u));
    assert_int_equal(train(&f, 1), ST_ENV);
    if (!strstr(f.cx.msg, "mul"))
        fail_msg("%s", f.cx.msg);
    assert_int_equal(gtc_program_run(&f.cx, f.p), ST_ENV);
    assert_int_equal(gtc_store_download(&f.cx, f.s), ST_ENV);
    end(&f);
}

/* Whatever call fails: a right result, or ST_ENV or ST_MEMORY with words; nothing is left behind
 * but what a failing call should have given back. */
static void every_call_may_fail(void **state)
{
    int right = 0, refused = 0;
    (void)state;
    for (int ever = 0; ever < 4; ever++)
        for (uint64_t k = 1;; k += STRIDE + ever) {
            Fixture f;
            Setup u = plain();
            u.fail = k;
            u.fail_ever = ever % 2;
            u.stage = ever / 2;
            Status s = begin(&f, &u);
            if (s == ST_OK)
                s = train(&f, 2);
            if (s == ST_OK) {
                right++;
            } else {
                refused++;
                assert_true(s == ST_ENV || s == ST_MEMORY);
                assert_true(strlen(f.cx.msg) > 10);
            }
            const bool early = simt_driver_failed() > 0;
            const Status left = end(&f);
            if (left != ST_OK && early && !u.fail_ever)
                fail_msg("call %d fails: %s", (int)k, f.cx.msg);
            if (!f.failed)
                break;
        }
    print_message("%d right, %d refused\n", right, refused);
    assert_true(right > 10 && refused > 20);
}

static int finish(void **state)
{
    static const char *const sub[] = { "simt", "cubin", "cc", "log", "" };
    Ctx cx;
    GtcCacheInfo info;
    char path[128];
    (void)state;
    ctx_init(&cx);
    gtc_cache_clear(&cx, &info);
    for (size_t i = 0; i < sizeof sub / sizeof *sub; i++) {
        snprintf(path, sizeof path, "%s/%s", cache, sub[i]);
        rmdir(path);
    }
    return 0;
}

int main(void)
{
    snprintf(cache, sizeof cache, "/tmp/gtc-dev-cuda-%ld", (long)getpid());
    setenv("GTC_CACHE_DIR", cache, 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_program_is_one_graph),
        cmocka_unit_test(one_call_launches_it),
        cmocka_unit_test(without_graphs_launches_go_one_by_one),
        cmocka_unit_test(what_no_planner_takes_is_interpreted),
        cmocka_unit_test(what_no_compiler_takes_is_no_program),
        cmocka_unit_test(kernels_are_timed),
        cmocka_unit_test(runs_may_be_under_way),
        cmocka_unit_test(edges_are_enough),
        cmocka_unit_test(nvrtc_compiles_for_the_device),
        cmocka_unit_test(memory_has_a_limit),
        cmocka_unit_test(a_bad_kernel_ends_the_run),
        cmocka_unit_test(every_call_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, finish);
}
