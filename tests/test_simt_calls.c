/* SPDX-License-Identifier: Apache-2.0 */
/* Library calls in a program, on the host in a GPU's place: they stand in the step's graph as
 * graphs of their own, their edges are enough, models train and predict as they should (also on the
 * device that GTC_GPU_DEVICE names), and a call that fails is refused aloud or ends in an error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/text.h"
#include "runtime/dev_cuda.h"
#include "runtime/simt_driver.h"
#include "tests/program_check.h"
#include "tests/zoo_case.h"

/* ------------------------------------------------------------ models */

typedef struct Trained {
    const char *path;
    GtcMode mode;
    int calls; /* at least */
    BuildKind kind;
} Trained;

static const Trained trained[] = {
    { "bench/nets/behcnn.json", GTC_EAGER, 11 },
    { "models/behaviour_transformer.json", GTC_DEFAULT, 3 },
    { "bench/nets/cnnlstm.json", GTC_DEFAULT, 2, BUILD_PREDICT },
    { "bench/nets/gru.json", GTC_EAGER, 1, BUILD_PREDICT },
};

static void model_agrees(void **state)
{
    const char *device = getenv("GTC_GPU_DEVICE");
    const Trained *m = *state;
    const ZooCase *c = zoo_case;
    while (strcmp(c->path, m->path) != 0)
        c++;
    Zoo z;
    zoo_open(&z, c, c->own ? c->own : "optimizer.eps=1e-3");
    const ReferenceOptions ro = { .steps = 3, .seed = 12, .init = zoo_init, .init_arg = &z };
    Reference *ref = reference_new(&z.cx, zoo_graph(&z, c, m->kind), &ro);
    const ProgramCheck pc = { .mode = m->mode,
                              .threads = 1,
                              .device = device ? device : "simt",
                              .libraries =
                                  m->mode == GTC_EAGER ? GTC_LIBRARIES_AUTO : GTC_LIBRARIES_ALL };
    const ProgramVerdict v = program_check(&z.cx, ref, &pc);
    print_message("%s: %d kernels, %d of them calls, %lld elements; worst %.3f of a bound\n",
                  c->path, v.kernels, v.calls, (long long)v.compared, v.worst);
    reference_free(ref);
    zoo_close(&z);
    if (v.wrong)
        fail_msg("%s: %s", c->path, v.text);
    assert_true(v.calls >= m->calls);
}

/* ------------------------------------------------------------ a small program */

/* Two products, the second of what the first gives, and a kernel that reads both; %w is replaced by
 * what a call makes. */
static const char text[] = "graph (%x: f32[6,16], param %w: f32[16,16], %b: f32[16]) {\n"
                           "  %y = matmul %x, %w over=[[1],[1]]\n"
                           "  %c = broadcast %b axes=[0] : f32[6,16]\n"
                           "  %z = add %y, %c\n"
                           "  %o = const 0 : f32[6,16]\n"
                           "  %t = max %z, %o\n"
                           "  %d = matmul %t, %x over=[[0],[0]]\n"
                           "  %e = tanh %t\n"
                           "  %s = sum %e axes=[0,1]\n"
                           "  return loss: %s, %w := %d\n"
                           "}\n";

typedef struct Fixture {
    Ctx cx;
    Arena *arena;
    CudaDriver cu;
    GtcDevice *d;
    GtcStore *s;
    GtcProgram *p;
    char said[4096];
    uint64_t calls, failed;
} Fixture;

typedef struct Setup {
    uint64_t fail;
    bool ever, shadow;
    GtcMode mode;
    GtcLibraryUse libraries;
    void (*change)(CudaDriver *cu);
} Setup;

static void note(void *arg, LogLevel level, const char *line)
{
    Fixture *f = arg;
    (void)level;
    snprintf(f->said + strlen(f->said), sizeof f->said - strlen(f->said), "%s\n", line);
}

static Status begin(Fixture *f, const Setup *u)
{
    const DeviceCall call = { .gpu = -1 };
    const GtcOptions opt = { .mode = u->mode, .libraries = u->libraries };
    SimtDriverOptions driver;
    Graph *g = NULL;
    memset(f, 0, sizeof *f);
    ctx_init(&f->cx);
    f->cx.log = note;
    f->cx.log_arg = f;
    f->arena = arena_new();
    assert_int_equal(simt_driver_options(&f->cx, &driver), ST_OK);
    driver.fail = u->fail;
    driver.fail_ever = u->ever;
    driver.machine.shadow = u->shadow;
    assert_int_equal(simt_driver_open(&f->cx, &driver, &f->cu), ST_OK);
    if (u->change)
        u->change(&f->cu);
    assert_int_equal(graph_parse(&f->cx, f->arena, "test", text, &g), ST_OK);
    TRY(cuda_open_simt(&f->cx, &f->cu, driver.machine.shadow, &call, &f->d));
    TRY(gtc_store_create(&f->cx, f->d, &f->s));
    return gtc_compile(&f->cx, f->d, f->s, g, &opt, &f->p);
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
    f->calls = simt_driver_calls();
    f->failed = simt_driver_failed();
    return simt_driver_close(&f->cx);
}

/* Two steps; *loss is the second's. */
static Status train(Fixture *f, float *loss)
{
    float *x = gtc_program_input(f->p, gtc_program_find_input(f->p, "x")).data,
          *b = gtc_program_input(f->p, gtc_program_find_input(f->p, "b")).data;
    float *w = gtc_store_find(f->s, "w")->data;
    for (int i = 0; i < 6 * 16; i++)
        x[i] = (float)(i % 7) * .0625f;
    for (int i = 0; i < 16; i++)
        b[i] = (float)i * .03125f;
    for (int i = 0; i < 16 * 16; i++)
        w[i] = (float)(i % 5) * .125f;
    TRY(gtc_store_upload(&f->cx, f->s));
    for (int i = 0; i < 2; i++)
        TRY(gtc_program_run(&f->cx, f->p));
    *loss = *(float *)gtc_program_output(f->p, gtc_program_find_output(f->p, "loss")).data;
    return gtc_store_download(&f->cx, f->s);
}

#define OK(f, call)                                                                                \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s", (f)->cx.msg);                                                           \
    } while (0)

static float right_loss(void)
{
    Fixture f;
    float loss = 0;
    OK(&f, begin(&f, &(Setup){ .libraries = GTC_LIBRARIES_NONE }));
    assert_int_equal(gtc_program_info(f.p).calls, 0);
    OK(&f, train(&f, &loss));
    OK(&f, end(&f));
    return loss;
}

static int children;
static CUresult (*real_child)(CUgraphNode *, CUgraph, const CUgraphNode *, size_t, CUgraph);

static CUresult count_child(CUgraphNode *n, CUgraph g, const CUgraphNode *dep, size_t ndep,
                            CUgraph c)
{
    children++;
    return real_child(n, g, dep, ndep, c);
}

static void count(CudaDriver *cu)
{
    children = 0;
    real_child = cu->cuGraphAddChildGraphNode;
    cu->cuGraphAddChildGraphNode = count_child;
}

/* In mode eager and on request, and nowhere else; each is a child graph, and the plan says so. */
static void calls_are_child_graphs(void **state)
{
    static const Setup setups[] = { { .mode = GTC_EAGER },
                                    { .mode = GTC_DEFAULT, .libraries = GTC_LIBRARIES_ALL },
                                    { .mode = GTC_DEFAULT },
                                    { .mode = GTC_EAGER, .libraries = GTC_LIBRARIES_NONE } };
    const float want = right_loss();
    (void)state;
    for (int i = 0; i < 4; i++) {
        static const int want_calls[] = { 2, 1, 0, 0 }; /* one shares a launch with the sum */
        const int calls = want_calls[i];
        int said = 0;
        float loss = 0;
        Fixture f;
        Setup u = setups[i];
        u.change = count;
        OK(&f, begin(&f, &u));
        const GtcProgramInfo info = gtc_program_info(f.p);
        assert_int_equal(info.calls, calls);
        assert_true(info.launches >= info.calls);
        for (int k = 0; k < info.kernels; k++)
            said += strstr(gtc_program_kernel(f.p, k).plan, "a child graph: matmul") != NULL;
        assert_int_equal(said, calls);
        children = 0; /* without those of the trial */
        OK(&f, train(&f, &loss));
        assert_int_equal(children, calls);
        assert_true(loss > want - 1e-4f && loss < want + 1e-4f);
        assert_string_equal(f.said, "");
        OK(&f, end(&f));
    }
}

/* Every access is watched: what a call reads and writes, its workspace too, is ordered by edges. */
static void edges_are_enough(void **state)
{
    const float want = right_loss();
    (void)state;
    for (int mode = GTC_EAGER; mode <= GTC_DEFAULT; mode++) {
        Fixture f;
        float loss = 0;
        const Setup u = { .mode = (GtcMode)mode, .libraries = GTC_LIBRARIES_ALL, .shadow = true };
        OK(&f, begin(&f, &u));
        OK(&f, train(&f, &loss));
        assert_true(loss > want - 1e-4f && loss < want + 1e-4f);
        OK(&f, end(&f));
    }
}

static CUresult no_capture(CUstream s, CUstreamCaptureMode mode)
{
    (void)s, (void)mode;
    return CUDA_ERROR_NOT_SUPPORTED;
}

static void forbid_capture(CudaDriver *cu)
{
    cu->cuStreamBeginCapture_v2 = no_capture;
}

static CUresult no_child(CUgraphNode *n, CUgraph g, const CUgraphNode *dep, size_t ndep, CUgraph c)
{
    (void)n, (void)g, (void)dep, (void)ndep, (void)c;
    return CUDA_ERROR_NOT_SUPPORTED;
}

static void forbid_children(CudaDriver *cu)
{
    cu->cuGraphAddChildGraphNode = no_child;
}

/* What no graph can hold is refused when it is loaded, and its own kernel is taken. */
static void what_no_graph_can_hold_is_refused(void **state)
{
    static const struct {
        void (*change)(CudaDriver *cu);
        const char *say;
    } way[] = { { forbid_capture, "not by cublasLt (played by the host): cuda: cuStreamBegin" },
                { forbid_children,
                  "not by cublasLt (played by the host): cuda: cuGraphAddChild" } };
    const float want = right_loss();
    (void)state;
    for (int i = 0; i < 2; i++) {
        Fixture f;
        float loss = 0;
        OK(&f, begin(&f, &(Setup){ .mode = GTC_EAGER, .change = way[i].change }));
        assert_int_equal(gtc_program_info(f.p).calls, 0);
        assert_int_equal(gtc_program_info(f.p).interpreted, 0);
        assert_non_null(strstr(f.said, way[i].say));
        assert_non_null(strstr(f.said, "its own kernel is taken"));
        OK(&f, train(&f, &loss));
        assert_true(loss > want - 1e-4f && loss < want + 1e-4f);
        OK(&f, end(&f));
    }
}

/* Each call of driver and library fails once, then for ever from each on: the result is right, with
 * a word about what was done in its place, or there is an error. */
static void every_call_may_fail(void **state)
{
#if defined(GTC_SANITIZE)
    enum { STRIDE = 9 };
#else
    enum { STRIDE = 1 };
#endif
    const float want = right_loss();
    int right = 0, refused = 0, own = 0, none = 0;
    (void)state;
    for (int ever = 0; ever < 2; ever++)
        for (uint64_t k = 1;; k += STRIDE) {
            Fixture f;
            float loss = 0;
            const Setup u = { .mode = GTC_EAGER, .fail = k, .ever = ever };
            Status s = begin(&f, &u);
            if (s == ST_OK)
                s = train(&f, &loss);
            if (s == ST_OK) {
                right++;
                assert_true(loss > want - 1e-4f && loss < want + 1e-4f);
                own += strstr(f.said, "its own kernel is taken") != NULL;
                none += strstr(f.said, "own kernels are taken") != NULL;
            } else {
                refused++;
                assert_true(s == ST_ENV || s == ST_MEMORY);
                assert_true(strlen(f.cx.msg) > 10);
            }
            const Status left = end(&f);
            if (left != ST_OK && !ever)
                fail_msg("call %d fails: %s", (int)k, f.cx.msg);
            if (!f.failed)
                break;
        }
    print_message("%d right (%d with an own kernel, %d without the library), %d refused\n", right,
                  own, none, refused);
    assert_true(right > 5 && own >= (STRIDE > 1 ? 1 : 4) && refused > 5);
    assert_true(none >= (STRIDE > 1 ? 0 : 1));
}

int main(void)
{
    enum { MODELS = sizeof trained / sizeof *trained };
    struct CMUnitTest tests[MODELS + 4] = {
        cmocka_unit_test(calls_are_child_graphs),
        cmocka_unit_test(edges_are_enough),
        cmocka_unit_test(what_no_graph_can_hold_is_refused),
        cmocka_unit_test(every_call_may_fail),
    };
    const char *device = getenv("GTC_GPU_DEVICE");
    const bool host = !device || strcmp(device, "simt") == 0;
    size_t n = host ? 4 : 0; /* of a GPU: the models alone */
    for (int i = 0; i < MODELS; i++)
        tests[n++] = (struct CMUnitTest){ .name = trained[i].path,
                                          .test_func = model_agrees,
                                          .initial_state = (void *)(uintptr_t)&trained[i] };
    return _cmocka_run_group_tests("simt calls", tests, n, NULL, NULL);
}
