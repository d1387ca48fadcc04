/* SPDX-License-Identifier: Apache-2.0 */
/* What a compiled training step promises beyond single values: a batch that is not full is a
 * smaller batch; modes and thread counts train alike; launches and kernels are as few as they
 * should be, and as many for a long sequence as for a short one; a recurrence that gtc has not seen
 * goes the way of those it has. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ir/base/rng.h"
#include "ir/text.h"
#include "models/model.h"
#include "tests/program_check.h"

/* ------------------------------------------------------------ one model, compiled */

typedef struct Step {
    Ctx cx;
    Arena *arena;
    Model *m;
    GtcDevice *device;
    GtcStore *store;
    GtcProgram *p;
    DataShape d;
} Step;

#define OK(s, call)                                                                                \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, (s)->cx.msg);                     \
    } while (0)

typedef struct Setup {
    const char *path, *text; /* one of them */
    const char *set[4];
    Shape x, y; /* of one row; y: [1] when left out */
    int classes, batch, threads;
    GtcMode mode;
    BuildKind kind;
} Setup;

static void step_open(Step *s, const Setup *u)
{
    int nset = 0;
    Graph *g;
    *s = (Step){ .arena = arena_new() };
    ctx_init(&s->cx);
    while (nset < 4 && u->set[nset])
        nset++;
    if (u->path)
        OK(s, model_load(&s->cx, u->path, u->set, nset, &s->m));
    else
        OK(s, model_parse(&s->cx, "test.json", u->text, u->set, nset, &s->m));
    s->d = (DataShape){ .input = arena_array(s->arena, NamedShape, 1),
                        .ninput = 1,
                        .target = u->classes || u->y.rank ? u->y : (Shape){ 1, { 1 } },
                        .classification = u->classes > 0,
                        .nclass = u->classes };
    s->d.input[0] = (NamedShape){ "x", u->x };
    const GtcOptions opt = { .mode = u->mode, .verify = true };
    OK(s, model_build(&s->cx, s->m, &s->d, u->kind, u->batch, s->arena, &g));
    OK(s, gtc_device_open(&s->cx, "cpu", u->threads, &s->device));
    OK(s, gtc_store_create(&s->cx, s->device, &s->store));
    OK(s, gtc_compile(&s->cx, s->device, s->store, g, &opt, &s->p));
    assert_int_equal(gtc_program_info(s->p).interpreted, 0);
    for (int i = 0; i < gtc_store_count(s->store); i++) {
        const GtcTensor *t = gtc_store_at(s->store, i);
        OK(s, model_init_tensor(&s->cx, s->m, &s->d, t->name, &t->type, t->data));
    }
}

static void step_close(Step *s)
{
    gtc_program_destroy(s->p);
    gtc_store_destroy(s->store);
    gtc_device_close(s->device);
    model_free(s->m);
    arena_free(s->arena);
}

/* Row r of a step's batch depends on the step and on r alone; so do the rows that are not valid. */
static void step_fill(Step *s, int step, int rows, double lr)
{
    for (int i = 0; i < gtc_program_input_count(s->p); i++) {
        const GtcTensor t = gtc_program_input(s->p, i);
        Rng rng;
        rng_init(&rng, (uint64_t)step, t.name[0] == 'x');
        const int64_t n = shape_count(&t.type.shape);
        if (strcmp(t.name, "rows") == 0)
            *(int32_t *)t.data = rows;
        else if (strcmp(t.name, "row0") == 0)
            *(int64_t *)t.data = 0;
        else if (strcmp(t.name, "lr") == 0)
            *(float *)t.data = (float)lr;
        else
            for (int64_t k = 0; k < n; k++)
                if (t.type.dt == DT_I32)
                    ((int32_t *)t.data)[k] = (int32_t)rng_below(&rng, (uint64_t)s->d.nclass);
                else
                    ((float *)t.data)[k] = (float)rng_normal(&rng);
    }
}

static float step_output(Step *s, const char *name)
{
    const int i = gtc_program_find_output(s->p, name);
    assert_true(i >= 0);
    return *(float *)gtc_program_output(s->p, i).data;
}

/* ------------------------------------------------------------ a batch that is not full */

static const char regression[] =
    "{ \"data\": { \"random\": { \"x\": [9, 3], \"y\": [1], \"rows\": 64 } }, \"layers\": [\n"
    "  { \"name\": \"c\", \"type\": \"conv1d\", \"filters\": 5, \"kernel\": 3 },\n"
    "  { \"name\": \"n\", \"type\": \"batch_norm\", \"activation\": \"relu\" },\n"
    "  { \"name\": \"d\", \"type\": \"dropout\", \"rate\": 0.3 },\n"
    "  { \"name\": \"l\", \"type\": \"lstm\", \"units\": 6 },\n"
    "  { \"name\": \"a\", \"type\": \"attention_pool\" },\n"
    "  { \"name\": \"y\", \"type\": \"dense\", \"units\": 1 } ],\n"
    "  \"loss\": { \"type\": \"mse\", \"prediction\": \"y\" },\n"
    "  \"optimizer\": { \"type\": \"sgd\", \"learning_rate\": 0.1, \"momentum\": 0.9 },\n"
    "  \"train\": { \"clip_norm\": 1.0, \"seed\": 3 } }\n";
static const char classifier[] =
    "{ \"data\": { \"random\": { \"x\": [8, 6, 2], \"classes\": 5, \"rows\": 64 } }, \"layers\": "
    "[\n"
    "  { \"name\": \"c\", \"type\": \"conv2d\", \"filters\": 4, \"kernel\": 3 },\n"
    "  { \"name\": \"n\", \"type\": \"batch_norm\", \"activation\": \"relu\" },\n"
    "  { \"name\": \"p\", \"type\": \"max_pool2d\", \"kernel\": 2 },\n"
    "  { \"name\": \"f\", \"type\": \"flatten\" },\n"
    "  { \"name\": \"d\", \"type\": \"dropout\", \"rate\": 0.3 },\n"
    "  { \"name\": \"y\", \"type\": \"dense\", \"units\": 5 } ],\n"
    "  \"loss\": { \"type\": \"cross_entropy\", \"prediction\": \"y\" },\n"
    "  \"optimizer\": { \"type\": \"sgd\", \"learning_rate\": 0.1 },\n"
    "  \"train\": { \"seed\": 3 } }\n";

static void same_floats(const char *what, const float *want, const float *got, int64_t n)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)want[i]));
    for (int64_t i = 0; i < n; i++) {
        const double w = (double)want[i], g = (double)got[i];
        if (isnan(w) != isnan(g) || fabs(w - g) > 1e-5 * largest + 1e-4 * fabs(w) + 1e-7)
            fail_msg("%s[%lld]: %.9g alone, %.9g in a larger batch", what, (long long)i, w, g);
    }
}

static void same_states(const char *what, Step *alone, Step *tail)
{
    for (int i = 0; i < gtc_store_count(alone->store); i++) {
        const GtcTensor *a = gtc_store_at(alone->store, i);
        const GtcTensor *b = gtc_store_find(tail->store, a->name);
        char name[160];
        assert_non_null(b);
        snprintf(name, sizeof name, "%s: %s", what, a->name);
        if (a->type.dt == DT_F32)
            same_floats(name, a->data, b->data, shape_count(&a->type.shape));
        else
            assert_memory_equal(a->data, b->data, (size_t)type_bytes(&a->type));
    }
}

static void compare_tail(const Setup *base, int rows)
{
    Setup small = *base;
    Step alone, tail;
    char what[64];
    small.batch = rows;
    step_open(&alone, &small);
    step_open(&tail, base);
    snprintf(what, sizeof what, "%d of %d rows, mode %d", rows, base->batch, base->mode);
    for (int k = 0; k < 3; k++) {
        step_fill(&alone, k, rows, 0.1);
        step_fill(&tail, k, rows, 0.1);
        OK(&alone, gtc_program_run(&alone.cx, alone.p));
        OK(&tail, gtc_program_run(&tail.cx, tail.p));
        static const char *const output[] = { "loss", "grad_norm", "correct" };
        for (int o = 0; o < (base->classes ? 3 : 2); o++) {
            const float want = step_output(&alone, output[o]), got = step_output(&tail, output[o]);
            same_floats(output[o], &want, &got, 1);
        }
        same_states(what, &alone, &tail);
    }
    step_close(&alone);
    step_close(&tail);
}

static void tail_is_a_smaller_batch(void **state)
{
    (void)state;
    enum { BATCH = 40 };
    static const int rows[] = { 1, 31, BATCH - 1 };
    for (int mode = GTC_EAGER; mode <= GTC_DEFAULT; mode++) {
        const Setup nets[] = {
            { .text = regression, .x = { 2, { 9, 3 } } },
            { .text = classifier, .x = { 3, { 8, 6, 2 } }, .classes = 5 },
        };
        for (int n = 0; n < 2; n++)
            for (int i = 0; i < 3; i++) {
                Setup u = nets[n];
                u.batch = BATCH;
                u.mode = (GtcMode)mode;
                u.threads = 1 + i % 2;
                compare_tail(&u, rows[i]);
            }
    }
}

/* ------------------------------------------------------------ modes and threads */

enum { LOSSES = 50 };

static void record_losses(GtcMode mode, int threads, float *loss)
{
    const Setup u = {
        .text = regression, .x = { 2, { 9, 3 } }, .batch = 16, .mode = mode, .threads = threads
    };
    Step s;
    step_open(&s, &u);
    for (int k = 0; k < LOSSES; k++) {
        step_fill(&s, k, 16, 0.01);
        OK(&s, gtc_program_run(&s.cx, s.p));
        loss[k] = step_output(&s, "loss");
    }
    step_close(&s);
}

static void losses_do_not_depend_on_mode_or_threads(void **state)
{
    (void)state;
    float want[LOSSES], got[LOSSES];
    record_losses(GTC_EAGER, 1, want);
    assert_true(want[0] != want[LOSSES - 1]);
    for (int mode = GTC_EAGER; mode <= GTC_DEFAULT; mode++)
        for (int threads = 1; threads <= 2; threads++) {
            record_losses((GtcMode)mode, threads, got);
            for (int k = 0; k < LOSSES; k++)
                if (!(fabs((double)got[k] - (double)want[k]) <= 1e-4 * fabs((double)want[k])))
                    fail_msg("step %d, mode %d, %d threads: loss %.9g, wants %.9g", k, mode,
                             threads, (double)got[k], (double)want[k]);
        }
}

/* ------------------------------------------------------------ launches */

static int launches(const Setup *u)
{
    Step s;
    step_open(&s, u);
    const int n = gtc_program_info(s.p).kernels;
    step_close(&s);
    return n;
}

static void fusion_saves_two_launches_of_three(void **state)
{
    (void)state;
    Setup u = { .path = "models/pm25_cnn_lstm.json",
                .x = { 2, { 48, 5 } },
                .batch = 256,
                .threads = 2,
                .mode = GTC_DEFAULT };
    const int fused = launches(&u);
    u.mode = GTC_EAGER;
    const int eager = launches(&u);
    print_message("launches: %d in eager, %d in default\n", eager, fused);
    assert_true(fused * 3 <= eager);
}

#define ONE_LAYER(layer)                                                                           \
    "{ \"data\": { \"random\": { \"x\": [12, 3], \"y\": [12, 8], \"rows\": 64 } }, \"layers\": "   \
    "[ " layer                                                                                     \
    " ], \"loss\": { \"type\": \"mse\", \"prediction\": \"y\" }, \"optimizer\": { \"type\":"       \
    " \"sgd\", \"learning_rate\": 0.1 } }"

static void conv_bias_relu_is_one_kernel(void **state)
{
    (void)state;
    const Setup u = { .text = ONE_LAYER("{ \"name\": \"y\", \"type\": \"conv1d\", \"filters\": 8,"
                                        " \"kernel\": 3, \"activation\": \"relu\" }"),
                      .x = { 2, { 12, 3 } },
                      .y = { 2, { 12, 8 } },
                      .batch = 4,
                      .threads = 1,
                      .mode = GTC_DEFAULT,
                      .kind = BUILD_PREDICT };
    assert_int_equal(launches(&u), 1);
}

/* An LSTM whose weights need no preparation: all of its forward part is the scan. */
#define LSTM                                                                                       \
    ONE_LAYER("{ \"name\": \"y\", \"type\": \"lstm\", \"units\": 64, \"bias\": \"single\","        \
              " \"return\": \"last\" }")

typedef struct Code {
    int kernels, scans; /* scans: forward */
    int64_t bytes;      /* of source */
} Code;

static Code lstm_code(int64_t t, BuildKind kind)
{
    const Setup u = { .text = LSTM,
                      .x = { 2, { t, 3 } },
                      .y = { 1, { 64 } },
                      .batch = 128,
                      .threads = 2,
                      .mode = GTC_DEFAULT,
                      .kind = kind };
    Step s;
    step_open(&s, &u);
    Code c = { .kernels = gtc_program_info(s.p).kernels };
    for (int i = 0; i < c.kernels; i++) {
        const GtcKernelInfo k = gtc_program_kernel(s.p, i);
        assert_string_equal(k.planner, "cpu");
        c.scans += strncmp(k.label, "lstm_fwd", 8) == 0;
        c.bytes += (int64_t)strlen(k.source);
    }
    step_close(&s);
    return c;
}

static void long_sequences_need_no_more_code(void **state)
{
    (void)state;
    assert_int_equal(lstm_code(12, BUILD_PREDICT).kernels, 1);
    assert_int_equal(lstm_code(60, BUILD_PREDICT).kernels, 1);
    const Code at12 = lstm_code(12, BUILD_TRAIN), at60 = lstm_code(60, BUILD_TRAIN);
    assert_int_equal(at12.scans, 1);
    assert_int_equal(at60.scans, 1);
    assert_int_equal(at12.kernels, at60.kernels);

    const Code at30 = lstm_code(30, BUILD_TRAIN), at512 = lstm_code(512, BUILD_TRAIN);
    print_message("lstm: %lld bytes of code at T=30, %lld at T=512\n", (long long)at30.bytes,
                  (long long)at512.bytes);
    assert_int_equal(at30.kernels, at512.kernels);
    assert_true((at512.bytes - at30.bytes) * 10 <= at30.bytes);
}

/* ------------------------------------------------------------ graphs by hand */

static void check_text(const char *what, const char *text)
{
    Ctx cx;
    Arena *arena = arena_new();
    Graph *g;
    ctx_init(&cx);
    if (graph_parse(&cx, arena, what, text, &g) != ST_OK)
        fail_msg("%s:%d:%d: %s", what, cx.line, cx.col, cx.msg);
    const ReferenceOptions ro = { .steps = 2, .seed = 5 };
    Reference *ref = reference_new(&cx, g, &ro);
    for (int mode = GTC_EAGER; mode <= GTC_DEFAULT; mode++)
        for (int threads = 1; threads <= 2; threads++) {
            const ProgramCheck pc = { .mode = (GtcMode)mode, .threads = threads };
            const ProgramVerdict v = program_check(&cx, ref, &pc);
            if (v.wrong)
                fail_msg("%s, mode %d, %d threads: %s", what, mode, threads, v.text);
            assert_int_equal(v.plain, 0);
            assert_int_equal(v.undecided + v.loose, 0);
        }
    reference_free(ref);
    arena_free(arena);
}

/* A minimal gated unit: f = sigmoid(x Wf + h Uf + bf), n = tanh(x Wn + (f h) Un + bn),
 * h' = (1 - f) h + f n.  With its gradient by all weights, the input and the first state. */
static const char gated_unit[] =
    "graph (%x: f32[11,5,3], %h0: f32[5,7], param %wf: f32[3,7], param %uf: f32[7,7],\n"
    "    param %bf: f32[7], param %wn: f32[3,7], param %un: f32[7,7], param %bn: f32[7]) {\n"
    "  %s = scan %h0, %x, %wf, %uf, %bf, %wn, %un, %bn carry=1 step=1 trip=11 (%h: f32[5,7],\n"
    "      %x: f32[5,3], %wf: f32[3,7], %uf: f32[7,7], %bf: f32[7], %wn: f32[3,7],\n"
    "      %un: f32[7,7], %bn: f32[7]) {\n"
    "    %1 = matmul %x, %wf : f32[5,7]\n"
    "    %2 = matmul %h, %uf : f32[5,7]\n"
    "    %3 = add %1, %2 : f32[5,7]\n"
    "    %4 = broadcast %bf axes=[0] : f32[5,7]\n"
    "    %5 = add %3, %4 : f32[5,7]\n"
    "    %f = sigmoid %5 : f32[5,7]\n"
    "    %7 = mul %f, %h : f32[5,7]\n"
    "    %8 = matmul %7, %un : f32[5,7]\n"
    "    %9 = matmul %x, %wn : f32[5,7]\n"
    "    %10 = add %8, %9 : f32[5,7]\n"
    "    %11 = broadcast %bn axes=[0] : f32[5,7]\n"
    "    %12 = add %10, %11 : f32[5,7]\n"
    "    %n = tanh %12 : f32[5,7]\n"
    "    %14 = sub %n, %h : f32[5,7]\n"
    "    %15 = mul %f, %14 : f32[5,7]\n"
    "    %16 = add %h, %15 : f32[5,7]\n"
    "    return %16, %16\n"
    "  }\n"
    "  %last = get %s index=0 : f32[5,7]\n"
    "  %all = get %s index=1 : f32[11,5,7]\n"
    "  %sq = mul %all, %all : f32[11,5,7]\n"
    "  %loss = sum %sq axes=[0,1,2] : f32[]\n"
    "  %g = grad %loss, %x, %h0, %wf, %uf, %bf, %wn, %un, %bn\n"
    "  %gx = get %g index=0 : f32[11,5,3]\n"
    "  %gh = get %g index=1 : f32[5,7]\n"
    "  %gwf = get %g index=2 : f32[3,7]\n"
    "  %guf = get %g index=3 : f32[7,7]\n"
    "  %gbf = get %g index=4 : f32[7]\n"
    "  %gwn = get %g index=5 : f32[3,7]\n"
    "  %gun = get %g index=6 : f32[7,7]\n"
    "  %gbn = get %g index=7 : f32[7]\n"
    "  return %last, loss: %loss, %gx, %gh, %gwf, %guf, %gbf, %gwn, %gun, %gbn\n"
    "}\n";

static void unknown_recurrence_takes_the_same_way(void **state)
{
    (void)state;
    check_text("minimal gated unit", gated_unit);
}

/* A gradient by a value that cleaning would fold away. */
static void gradient_by_a_constant(void **state)
{
    (void)state;
    check_text("gradient by a constant", "graph () {\n"
                                         "  %1 = const 0x1.8p+0 : f32[3]\n"
                                         "  %2 = sum %1 axes=[0] : f32[]\n"
                                         "  %3 = grad %2, %1\n"
                                         "  %4 = get %3 index=0 : f32[3]\n"
                                         "  return %4\n"
                                         "}\n");
}

/* One step, whose time axis has the extent 1. */
static void scan_of_one_step(void **state)
{
    (void)state;
    check_text("one step", "graph (%y: f32[7,3,2], %c: f32[8,17]) {\n"
                           "  %s = scan %c, %y carry=1 step=0 trip=1 (%c: f32[8,17],\n"
                           "      %y: f32[7,3,2]) {\n"
                           "    %1 = neg %y : f32[7,3,2]\n"
                           "    %2 = tanh %c : f32[8,17]\n"
                           "    return %2, %1, %2\n"
                           "  }\n"
                           "  %a = get %s index=0 : f32[8,17]\n"
                           "  %b = get %s index=1 : f32[1,7,3,2]\n"
                           "  %c2 = get %s index=2 : f32[1,8,17]\n"
                           "  return %a, %b, %c2\n"
                           "}\n");
}

/* Sums of what overlaps, where every address hangs on a remainder. */
static void folds_with_strides(void **state)
{
    (void)state;
    check_text("stride 3", "graph (%x: f32[33]) {\n"
                           "  %1 = window %x axes=[0] kernel=[3] stride=[3] : f32[11,3]\n"
                           "  %2 = fold %1 axes=[0] kernel=[3] stride=[3] extent=[33] : f32[33]\n"
                           "  return %2\n"
                           "}\n");
    check_text("an odd edge",
               "graph (%m: bool[6,1,2,9], %x: f32[6,9], %c: f32[9]) {\n"
               "  %4 = reshape %x : f32[6,1,9]\n"
               "  %5 = broadcast %4 axes=[2] : f32[6,1,2,9]\n"
               "  %6 = const 0x0p+0 : f32[6,1,2,9]\n"
               "  %7 = select %m, %5, %6 : f32[6,1,2,9]\n"
               "  %8 = fold %7 axes=[1] kernel=[2] stride=[2] extent=[3] : f32[6,3,9]\n"
               "  %11 = broadcast %c axes=[0,1] : f32[6,3,9]\n"
               "  %12 = mul %8, %11 : f32[6,3,9]\n"
               "  return %12\n"
               "}\n");
}

/* An inner extent that two threads cannot halve. */
static void panel_at_an_odd_edge(void **state)
{
    (void)state;
    check_text("odd edge", "graph (%x: f32[6,11,2], %w: f32[2,22]) {\n"
                           "  %1 = reshape %x : f32[6,22]\n"
                           "  %2 = matmul %1, %w over=[[1],[1]] : f32[6,2]\n"
                           "  return %2\n"
                           "}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tail_is_a_smaller_batch),
        cmocka_unit_test(losses_do_not_depend_on_mode_or_threads),
        cmocka_unit_test(fusion_saves_two_launches_of_three),
        cmocka_unit_test(conv_bias_relu_is_one_kernel),
        cmocka_unit_test(long_sequences_need_no_more_code),
        cmocka_unit_test(unknown_recurrence_takes_the_same_way),
        cmocka_unit_test(gradient_by_a_constant),
        cmocka_unit_test(scan_of_one_step),
        cmocka_unit_test(folds_with_strides),
        cmocka_unit_test(panel_at_an_odd_edge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
