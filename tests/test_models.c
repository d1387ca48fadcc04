/* SPDX-License-Identifier: Apache-2.0 */
/* Every model of the zoo and of the bench, at small sizes, as graphs; and the arithmetic of layers,
 * losses and optimizers against loops written out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "ir/autodiff.h"
#include "ir/base/rng.h"
#include "ir/eval.h"
#include "ir/text.h"
#include "models/layer.h"

/* One model, its data's shape, and values for all inputs of its graphs by name. */
typedef struct Bench {
    Ctx cx;
    Arena *arena;
    Model *m;
    DataShape d;
    int batch;
    Graph *g; /* with grad expanded */
    Tensor *in, *out;
} Bench;

#define OK(call)                                                                                   \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s:%d: %s: %s", __FILE__, __LINE__, #call, b->cx.msg);                       \
    } while (0)

static Shape row_shape(int n, const int64_t *dim)
{
    Shape s = { .rank = (int8_t)n };
    for (int i = 0; i < n; i++)
        s.dim[i] = dim[i];
    return s;
}

/* Shapes as the data would give them, but for the sizes. */
static void shape_data(Bench *b)
{
    const DataConfig *c = &b->m->data;
    DataShape *d = &b->d;
    *d = (DataShape){ .ninput = 1, .classification = c->classification };
    if (c->format == DATA_RANDOM) {
        d->ninput = c->nrandom;
        d->input = c->random_inputs;
        d->target = c->random_target;
        d->nclass = c->random_classes;
        return;
    }
    d->input = arena_array(b->arena, NamedShape, 1);
    d->input[0].name = "x";
    if (c->format == DATA_IDX) {
        d->input[0].shape = row_shape(3, (int64_t[]){ 28, 28, 1 });
        d->nclass = 10;
        return;
    }
    if (c->format == DATA_TEXT) {
        d->input[0].shape = d->target = row_shape(1, (int64_t[]){ c->window });
        d->words = d->nclass = 5;
        return;
    }
    if (c->format == DATA_NPY && c->classification) {
        d->input[0].shape = row_shape(2, (int64_t[]){ c->window, 6 });
        d->nclass = 5;
        return;
    }
    const int64_t columns = c->features.n ? c->features.n + 4 * c->categories.n : 1;
    d->input[0].shape = row_shape(2, (int64_t[]){ c->window, columns });
    const int64_t steps = c->nhorizons ? c->nhorizons : 1;
    d->target = row_shape(1, (int64_t[]){ (c->targets.n ? c->targets.n : 1) * steps });
    if (c->target_rows == TARGET_EACH)
        d->target = row_shape(2, (int64_t[]){ c->window, 1 });
}

static void start_parsed(Bench *b, Model *m, int batch)
{
    b->m = m;
    b->batch = batch;
    b->arena = arena_new();
    shape_data(b);
}

static void start(Bench *b, const char *path, const char *const *set, int nset, int batch)
{
    Model *m;
    ctx_init(&b->cx);
    OK(model_load(&b->cx, path, set, nset, &m));
    start_parsed(b, m, batch);
}

static void start_text(Bench *b, const char *text, int batch)
{
    Model *m;
    ctx_init(&b->cx);
    OK(model_parse(&b->cx, "test.json", text, NULL, 0, &m));
    start_parsed(b, m, batch);
}

static void stop(Bench *b)
{
    model_free(b->m);
    arena_free(b->arena);
}

static void round_trip(Bench *b, const Graph *g)
{
    Strbuf s = { 0 };
    Graph *again;
    graph_print(g, &s);
    OK(graph_parse(&b->cx, b->arena, "printed", s.s, &again));
    assert_true(graph_eq(g, again));
    strbuf_free(&s);
}

/* Builds, verifies, expands grad and verifies again; inputs are made but zero. */
static void build(Bench *b, BuildKind kind)
{
    Graph *g;
    OK(model_build(&b->cx, b->m, &b->d, kind, b->batch, b->arena, &g));
    OK(graph_verify(&b->cx, g));
    b->g = graph_new(b->arena);
    OK(autodiff_expand(&b->cx, g, b->g));
    OK(graph_verify(&b->cx, b->g));
    round_trip(b, g);
    round_trip(b, b->g);
    b->in = arena_array(b->arena, Tensor, b->g->ninput);
    b->out = arena_array(b->arena, Tensor, b->g->nout);
    for (uint32_t i = 0; i < b->g->ninput; i++)
        b->in[i] = tensor_new(b->arena, b->g->node[b->g->input[i]].type);
}

static Tensor *input(Bench *b, const char *name)
{
    for (uint32_t i = 0; i < b->g->ninput; i++) {
        if (strcmp(b->g->node[b->g->input[i]].name, name) == 0)
            return &b->in[i];
    }
    fail_msg("no input %s", name);
    return NULL;
}

static int64_t count(const Tensor *t)
{
    return shape_count(&t->type.shape);
}

static void set(Bench *b, const char *name, const double *v)
{
    Tensor *t = input(b, name);
    memcpy(t->at, v, (size_t)count(t) * sizeof *v);
}

static void set1(Bench *b, const char *name, double v)
{
    set(b, name, &v);
}

/* Output by name, or the next value of the param or state of that name. */
static Tensor *output(Bench *b, const char *name)
{
    for (uint32_t i = 0; i < b->g->nout; i++) {
        const Output *o = &b->g->out[i];
        const char *is = o->replaces ? b->g->node[o->replaces].name : o->name;
        if (is && strcmp(is, name) == 0)
            return &b->out[i];
    }
    fail_msg("no output %s", name);
    return NULL;
}

static void run(Bench *b)
{
    OK(eval_graph(&b->cx, b->g, EVAL_F64, b->arena, b->in, b->out));
}

/* A value for (name, element) that does not depend on the batch or the graph. */
static double noise(const char *name, int64_t i)
{
    Rng r;
    uint64_t h = 1469598103934665603u;
    for (const char *p = name; *p; p++)
        h = (h ^ (unsigned char)*p) * 1099511628211u;
    rng_init(&r, h, (uint64_t)i);
    return 2 * rng_unit(&r) - 1;
}

/* Parameters and states from the model's initialisers, batch inputs from noise. */
static void fill(Bench *b, int rows)
{
    for (uint32_t i = 0; i < b->g->ninput; i++) {
        const Node *n = &b->g->node[b->g->input[i]];
        Tensor *t = &b->in[i];
        if (n->attr.input.kind != INPUT_batch) {
            void *raw = calloc(1, (size_t)type_bytes(&t->type) + 1);
            OK(model_init_tensor(&b->cx, b->m, &b->d, n->name, &t->type, raw));
            tensor_read(t, raw);
            free(raw);
            continue;
        }
        for (int64_t k = 0; k < count(t); k++)
            t->at[k] = t->type.dt == DT_F32 ? noise(n->name, k)
                                            : (double)(k * 7 % (b->d.nclass ? b->d.nclass : 1));
    }
    if (graph_find_input(b->g, "rows"))
        set1(b, "rows", rows);
    if (graph_find_input(b->g, "lr"))
        set1(b, "lr", 0.01);
}

static void all_finite(Bench *b)
{
    for (uint32_t i = 0; i < b->g->nout; i++) {
        for (int64_t k = 0; k < count(&b->out[i]); k++)
            assert_true(isfinite(b->out[i].at[k]));
    }
}

/* ---- every model ---- */

typedef struct Small {
    const char *path;
    const char *set[8];
} Small;
static const Small models[] = {
    { "models/demo.json", { "data.window=5", "layers.conv.filters=3", "layers.gru.units=4" } },
    { "models/mlp.json", { "data.window=3", "layers.hidden1.units=5", "layers.hidden2.units=4" } },
    { "models/vit_tiny.json", { "layers.patch.filters=6", "layers.tokens.shape=[-1,6]" } },
    { "models/fashion_cnn.json",
      { "layers.conv1.filters=2", "layers.conv2.filters=2", "layers.hidden.units=3" } },
    { "models/pm25_cnn_lstm.json",
      { "data.window=5", "layers.conv.filters=3", "layers.lstm.units=4" } },
    { "models/pm25_cnn2d.json",
      { "data.window=12", "layers.image.shape=[12,-1,1]", "layers.conv1.filters=2",
        "layers.conv2.filters=3", "layers.conv3.filters=2" } },
    { "models/lstm_attention.json", { "data.window=6", "layers.lstm.units=3" } },
    { "models/anc_lstm.json", { "data.window=6", "layers.lstm.units=3", "layers.hidden.units=4" } },
    { "models/etth1_dlinear.json",
      { "data.window=7", "data.steps=3", "layers.edges.before=2", "layers.edges.after=2",
        "layers.trend.kernel=5", "layers.linear_trend.units=3", "layers.linear_season.units=3" } },
    { "models/behaviour_cnn.json",
      { "data.window=8", "layers.conv1.filters=3", "layers.conv2.filters=4" } },
    { "models/behaviour_transformer.json",
      { "data.window=8", "layers.patch.filters=4", "layers.block1.heads=2" } },
    { "models/tcn.json",
      { "data.window=11", "layers.in.units=3", "layers.conv1.filters=3", "layers.conv2.filters=3",
        "layers.conv3.filters=3" } },
    { "models/gpt_char.json",
      { "data.window=5", "layers.token.vocab=5", "layers.token.dim=8", "layers.block1.hidden=3",
        "layers.block2.hidden=4", "layers.block3.hidden=5", "layers.y.units=5" } },
    { "models/unet1d.json",
      { "data.window=32", "layers.in.filters=3", "layers.down1.filters=2", "layers.down2.filters=3",
        "layers.down3.filters=2", "layers.down4.filters=3" } },
    { "bench/nets/mlp.json", { "data.random.x=[6]", "layers.l0.units=5", "layers.l2.units=4" } },
    { "bench/nets/cnnlstm.json",
      { "data.random.x=[6,2]", "layers.c1.filters=3", "layers.c2.filters=3", "layers.l.units=3",
        "layers.f1.units=4" } },
    { "bench/nets/lstmattn.json",
      { "data.random.x=[6,3]", "layers.l.units=4", "layers.f1.units=3" } },
    { "bench/nets/anc.json", { "data.random.x=[6,3]", "layers.l.units=4", "layers.f1.units=3" } },
    { "bench/nets/gru.json", { "data.random.x=[6,3]", "layers.l.units=4" } },
    { "bench/nets/cnn2d.json",
      { "data.random.x=[9,8,1]", "layers.conv1.filters=2", "layers.conv2.filters=3",
        "layers.conv3.filters=2", "layers.f1.units=3" } },
    { "bench/nets/xfmr.json",
      { "data.random.x=[6,3]", "layers.i.units=6", "layers.e0.heads=2", "layers.e1.heads=3",
        "layers.e2.heads=1" } },
    { "bench/nets/behcnn.json",
      { "data.random.x=[17,2]", "layers.conv1.filters=2", "layers.conv2.filters=3",
        "layers.conv3.filters=2" } },
};

static void every_model_builds_and_runs(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof models / sizeof *models; k++) {
        const Small *s = &models[k];
        int nset = 0;
        while (nset < 8 && s->set[nset])
            nset++;
        Bench bench, *b = &bench;
        start(b, s->path, s->set, nset, 4);
        for (int kind = BUILD_TRAIN; kind <= BUILD_PREDICT; kind++) {
            build(b, (BuildKind)kind);
            fill(b, 3);
            run(b);
            all_finite(b);
            if (kind == BUILD_TRAIN)
                assert_true(output(b, "grad_norm")->at[0] > 0 && output(b, "step")->at[0] == 1);
        }
        LayerInfo *info;
        int n;
        OK(model_layers(&b->cx, b->m, &b->d, b->arena, &info, &n));
        assert_int_equal(n, b->m->nlayer);
        stop(b);
    }
}

/* ---- the tail batch ---- */

#define DAG                                                                                        \
    "{\"name\": \"dag\", \"data\": {\"random\": {\"x\": [6, 3], \"z\": [4], \"y\": [2], "          \
    "\"rows\": 32}},"                                                                              \
    "\"layers\": ["                                                                                \
    "{\"name\": \"conv\", \"type\": \"conv1d\", \"input\": \"x\", \"filters\": 4, \"kernel\": 3, " \
    "\"stride\": 2, \"dilation\": 1},"                                                             \
    "{\"name\": \"norm\", \"type\": \"batch_norm\", \"activation\": \"gelu\"},"                    \
    "{\"name\": \"drop\", \"type\": \"dropout\", \"rate\": 0.3},"                                  \
    "{\"name\": \"gru\", \"type\": \"gru\", \"units\": 3, \"bidirectional\": true},"               \
    "{\"name\": \"pool\", \"type\": \"attention_pool\", \"score\": \"tanh\"},"                     \
    "{\"name\": \"side\", \"type\": \"dense\", \"input\": \"z\", \"units\": 6, \"activation\": "   \
    "\"silu\"},"                                                                                   \
    "{\"name\": \"both\", \"type\": \"multiply\", \"input\": [\"pool\", \"side\"]},"               \
    "{\"name\": \"all\", \"type\": \"concat\", \"input\": [\"both\", \"z\"]},"                     \
    "{\"name\": \"norm2\", \"type\": \"batch_norm\"},"                                             \
    "{\"name\": \"y\", \"type\": \"dense\", \"units\": 2}],"                                       \
    "\"loss\": {\"type\": \"huber\", \"delta\": 0.5},"                                             \
    "\"optimizer\": {\"type\": \"sgd\", \"momentum\": 0.9}, \"train\": {\"clip_norm\": 0.1}}"

#define IMAGES                                                                                     \
    "{\"name\": \"images\", \"data\": {\"random\": {\"x\": [6, 5, 2], \"classes\": 3, \"rows\": "  \
    "32}},"                                                                                        \
    "\"layers\": ["                                                                                \
    "{\"type\": \"conv2d\", \"filters\": 3, \"kernel\": [3, 2], \"dilation\": [1, 2], "            \
    "\"activation\": \"leaky_relu\"},"                                                             \
    "{\"type\": \"batch_norm\", \"activation\": \"relu\"},"                                        \
    "{\"type\": \"avg_pool2d\", \"kernel\": 2, \"stride\": 1},"                                    \
    "{\"type\": \"max_pool2d\", \"kernel\": [2, 2]},"                                              \
    "{\"type\": \"global_max_pool\"},"                                                             \
    "{\"type\": \"dense\", \"units\": 3}],"                                                        \
    "\"loss\": {\"type\": \"cross_entropy\"}, \"optimizer\": {\"type\": \"sgd\"}}"

/* rows = r on batch B against a graph of batch r: loss, gradients (by sgd), statistics. */
static void same_as_small(const char *text, int batch, int rows)
{
    Bench big, small, *b = &big;
    start_text(&big, text, batch);
    start_text(&small, text, rows);
    build(&big, BUILD_TRAIN);
    build(&small, BUILD_TRAIN);
    fill(&big, rows);
    fill(&small, rows);
    run(&big);
    run(&small);
    assert_int_equal(big.g->nout, small.g->nout);
    for (uint32_t i = 0; i < big.g->nout; i++) {
        const int64_t n = count(&big.out[i]);
        assert_int_equal(n, count(&small.out[i]));
        for (int64_t k = 0; k < n; k++) {
            const double x = big.out[i].at[k], y = small.out[i].at[k];
            if (!(fabs(x - y) <= 1e-12 + 1e-10 * fabs(y)))
                fail_msg("batch %d rows %d: output %u [%d]: %.17g, alone %.17g", batch, rows, i,
                         (int)k, x, y);
        }
    }
    OK(graph_verify(&b->cx, b->g));
    stop(&big);
    stop(&small);
}

static void tail_batch_is_a_batch_of_its_own_size(void **state)
{
    (void)state;
    static const int rows[] = { 1, 2, 4, 5 };
    for (int i = 0; i < 4; i++) {
        same_as_small(DAG, 5, rows[i]);
        same_as_small(IMAGES, 5, rows[i]);
    }
}

/* Gradients of the whole net, read off one step of plain descent, against differences of the loss.
 */
static void gradients_are_slopes(const char *text, int batch)
{
    Bench bench, *b = &bench;
    start_text(b, text, batch);
    b->m->train.clip_norm = 0;
    build(b, BUILD_TRAIN);
    fill(b, batch - 1);
    run(b);
    Tensor *first = arena_copy(b->arena, b->out, b->g->nout * sizeof *first);
    for (uint32_t i = 0; i < b->g->nout; i++) {
        const Node *n = &b->g->node[b->g->out[i].replaces];
        if (!b->g->out[i].replaces || n->attr.input.kind != INPUT_param)
            continue;
        Tensor *p = input(b, n->name);
        const int64_t k = count(p) / 2;
        const double at = p->at[k], h = 1e-6, slope = (at - first[i].at[k]) / 0.01;
        p->at[k] = at + h;
        run(b);
        const double up = output(b, "loss")->at[0];
        p->at[k] = at - h;
        run(b);
        const double by_difference = (up - output(b, "loss")->at[0]) / (2 * h);
        p->at[k] = at;
        if (!(fabs(slope - by_difference) <= 1e-7 + 1e-5 * fabs(slope)))
            fail_msg("%s[%d]: gradient %.12g, slope %.12g", n->name, (int)k, slope, by_difference);
    }
    stop(b);
}

static void gradients_are_slopes_of_the_loss(void **state)
{
    (void)state;
    gradients_are_slopes(DAG, 4);
    gradients_are_slopes(IMAGES, 4);
}

/* Rows that do not count may hold anything finite or not. */
static void rows_that_do_not_count_do_not_matter(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    Tensor *one;
    start_text(b, DAG, 4);
    build(b, BUILD_TRAIN);
    fill(b, 2);
    run(b);
    one = arena_copy(b->arena, b->out, b->g->nout * sizeof *one);
    Tensor *x = input(b, "x");
    for (int64_t k = 2 * 18; k < count(x); k++)
        x->at[k] = 1e3;
    run(b);
    for (uint32_t i = 0; i < b->g->nout; i++)
        assert_memory_equal(one[i].at, b->out[i].at, (size_t)count(&one[i]) * sizeof(double));
    stop(b);
}

/* ---- layers against loops ---- */

#define ONE_LAYER(shape, y, layer)                                                                 \
    "{\"data\": {\"random\": {\"x\": " shape ", \"y\": " y ", \"rows\": 8}}, \"layers\": [" layer  \
    "],"                                                                                           \
    "\"loss\": {\"type\": \"mse\"}}"

static void near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12 + 1e-9 * fabs(want)))
        fail_msg("got %.17g, want %.17g", got, want);
}

static void start_layer(Bench *b, const char *text, int batch)
{
    start_text(b, text, batch);
    build(b, BUILD_PREDICT);
    fill(b, batch);
    for (uint32_t i = 0; i < b->g->ninput; i++) { /* values that f32 does not round */
        for (int64_t k = 0; k < count(&b->in[i]); k++)
            b->in[i].at[k] = noise(b->g->node[b->g->input[i]].name, k);
    }
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

enum { B = 2, T = 5, I = 3, H = 4 };

/* One direction of an LSTM, as in PyTorch's documentation: x (B, T, I) to h (B, T, H). */
static void lstm_loop(Bench *b, const char *suffix, bool reverse, int in, const double *x,
                      double *out)
{
    char name[64];
    const double *p[4];
    static const char *const what[] = { "weight_ih", "weight_hh", "bias_ih", "bias_hh" };
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "r.%s_%s", what[i], suffix);
        p[i] = input(b, name)->at;
    }
    for (int r = 0; r < B; r++) {
        double h[H] = { 0 }, c[H] = { 0 };
        for (int s = 0; s < T; s++) {
            const int t = reverse ? T - 1 - s : s;
            double z[4 * H];
            for (int g = 0; g < 4 * H; g++) {
                z[g] = p[2][g] + p[3][g];
                for (int i = 0; i < in; i++)
                    z[g] += p[0][g * in + i] * x[(r * T + t) * in + i];
                for (int i = 0; i < H; i++)
                    z[g] += p[1][g * H + i] * h[i];
            }
            for (int k = 0; k < H; k++) {
                c[k] = sigmoid(z[H + k]) * c[k] + sigmoid(z[k]) * tanh(z[2 * H + k]);
                h[k] = sigmoid(z[3 * H + k]) * tanh(c[k]);
                out[(r * T + t) * H + k] = h[k];
            }
        }
    }
}

static void lstm_is_the_loop(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    double lo[B * T * H], up[B * T * H];
    start_layer(b,
                ONE_LAYER("[5, 3]", "[5, 4]",
                          "{\"name\": \"r\", \"type\": \"lstm\", \"units\": 4, \"layers\": 2}"),
                B);
    run(b);
    lstm_loop(b, "l0", false, I, input(b, "x")->at, lo);
    lstm_loop(b, "l1", false, H, lo, up);
    for (int i = 0; i < B * T * H; i++)
        near(b->out[0].at[i], up[i]);
    stop(b);

    /* last of both directions: the forward one ends at T-1, the other at 0 */
    start_layer(b,
                ONE_LAYER("[5, 3]", "[8]",
                          "{\"name\": \"r\", \"type\": \"lstm\", \"units\": 4, \"bidirectional\": "
                          "true, \"return\": \"last\"}"),
                B);
    run(b);
    lstm_loop(b, "l0", false, I, input(b, "x")->at, lo);
    lstm_loop(b, "l0_reverse", true, I, input(b, "x")->at, up);
    for (int r = 0; r < B; r++) {
        for (int k = 0; k < H; k++) {
            near(b->out[0].at[r * 2 * H + k], lo[(r * T + T - 1) * H + k]);
            near(b->out[0].at[r * 2 * H + H + k], up[r * T * H + k]);
        }
    }
    stop(b);
}

static void gru_loop(Bench *b, double *out)
{
    const double *x = input(b, "x")->at, *wi = input(b, "r.weight_ih_l0")->at,
                 *wh = input(b, "r.weight_hh_l0")->at;
    const double *bi = input(b, "r.bias_ih_l0")->at, *bh = input(b, "r.bias_hh_l0")->at;
    for (int r = 0; r < B; r++) {
        double h[H] = { 0 };
        for (int t = 0; t < T; t++) {
            double gi[3 * H], gh[3 * H];
            for (int g = 0; g < 3 * H; g++) {
                gi[g] = bi[g];
                gh[g] = bh[g];
                for (int i = 0; i < I; i++)
                    gi[g] += wi[g * I + i] * x[(r * T + t) * I + i];
                for (int i = 0; i < H; i++)
                    gh[g] += wh[g * H + i] * h[i];
            }
            for (int k = 0; k < H; k++) {
                const double reset = sigmoid(gi[k] + gh[k]), u = sigmoid(gi[H + k] + gh[H + k]);
                const double n = tanh(gi[2 * H + k] + reset * gh[2 * H + k]);
                h[k] = (1 - u) * n + u * h[k];
                out[(r * T + t) * H + k] = h[k];
            }
        }
    }
}

static void gru_is_the_loop(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    double h[B * T * H];
    start_layer(
        b, ONE_LAYER("[5, 3]", "[5, 4]", "{\"name\": \"r\", \"type\": \"gru\", \"units\": 4}"), B);
    run(b);
    gru_loop(b, h);
    for (int i = 0; i < B * T * H; i++)
        near(b->out[0].at[i], h[i]);
    stop(b);
}

static void conv_is_the_loop(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    /* kernel (3, 2), stride (2, 1), dilation (1, 2), "same": 1 + 1 rows, 1 + 1 columns of zeros */
    start_layer(b,
                ONE_LAYER("[5, 4, 3]", "[24]",
                          "{\"name\": \"c\", \"type\": \"conv2d\", \"filters\": 2, \"kernel\": [3, "
                          "2], \"stride\": [2, 1], \"dilation\": [1, 2]},"
                          "{\"type\": \"flatten\"}"),
                B);
    run(b);
    const double *x = input(b, "x")->at, *w = input(b, "c.weight")->at,
                 *bias = input(b, "c.bias")->at;
    int at = 0;
    for (int r = 0; r < B; r++)
        for (int i = 0; i < 3; i++)
            for (int j = 0; j < 4; j++)
                for (int o = 0; o < 2; o++, at++) {
                    double sum = bias[o];
                    for (int c = 0; c < 3; c++)
                        for (int p = 0; p < 3; p++)
                            for (int q = 0; q < 2; q++) {
                                const int ii = 2 * i + p - 1, jj = j + 2 * q - 1;
                                if (ii >= 0 && ii < 5 && jj >= 0 && jj < 4)
                                    sum += w[((o * 3 + c) * 3 + p) * 2 + q] *
                                           x[((r * 5 + ii) * 4 + jj) * 3 + c];
                            }
                    near(b->out[0].at[at], sum);
                }
    stop(b);
}

static void attention_pool_is_the_loop(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    start_layer(b,
                ONE_LAYER("[5, 3]", "[3]",
                          "{\"name\": \"a\", \"type\": \"attention_pool\", \"score\": \"tanh\"}"),
                B);
    run(b);
    const double *x = input(b, "x")->at, *w = input(b, "a.weight")->at,
                 bias = input(b, "a.bias")->at[0];
    for (int r = 0; r < B; r++) {
        double e[T], sum = 0;
        for (int t = 0; t < T; t++) {
            double s = bias;
            for (int c = 0; c < I; c++)
                s += w[c] * tanh(x[(r * T + t) * I + c]);
            sum += e[t] = exp(s);
        }
        for (int c = 0; c < I; c++) {
            double y = 0;
            for (int t = 0; t < T; t++)
                y += e[t] / sum * x[(r * T + t) * I + c];
            near(b->out[0].at[r * I + c], y);
        }
    }
    stop(b);
}

static void batch_norm_keeps_statistics(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    start_text(b,
               ONE_LAYER("[3, 2]", "[3, 2]",
                         "{\"name\": \"n\", \"type\": \"batch_norm\", \"momentum\": 0.3}"),
               4);
    build(b, BUILD_TRAIN);
    fill(b, 3);
    set(b, "n.running_mean", (double[]){ 0.5, -2 });
    set(b, "n.running_var", (double[]){ 2, 3 });
    run(b);
    const double *x = input(b, "x")->at, *y = input(b, "y")->at;
    double loss = 0;
    for (int c = 0; c < 2; c++) {
        double mean = 0, var = 0;
        for (int i = 0; i < 9; i++)
            mean += x[i * 2 + c] / 9;
        for (int i = 0; i < 9; i++)
            var += (x[i * 2 + c] - mean) * (x[i * 2 + c] - mean);
        near(output(b, "n.running_mean")->at[c], 0.7 * (c ? -2 : 0.5) + 0.3 * mean);
        near(output(b, "n.running_var")->at[c], 0.7 * (c ? 3 : 2) + 0.3 * var / 8);
        for (int i = 0; i < 9; i++) {
            const double e = (x[i * 2 + c] - mean) / sqrt(var / 9 + 1e-5) - y[i * 2 + c];
            loss += e * e / 18;
        }
    }
    near(output(b, "loss")->at[0], loss);
    build(b, BUILD_EVAL);
    fill(b, 4);
    set(b, "n.running_mean", (double[]){ 0.5, -2 });
    set(b, "n.running_var", (double[]){ 2, 3 });
    run(b);
    near(output(b, "prediction")->at[1], (input(b, "x")->at[1] + 2) / sqrt(3 + 1e-5));
    stop(b);
}

static void dropout_keeps_its_share(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    start_text(b,
               ONE_LAYER("[2000]", "[1]",
                         "{\"type\": \"dropout\", \"rate\": 0.25}, {\"name\": \"y\", \"type\": "
                         "\"dense\", \"units\": 1}"),
               2);
    build(b, BUILD_TRAIN);
    fill(b, 2);
    Tensor *x = input(b, "x"), *w = input(b, "y.weight");
    for (int64_t k = 0; k < count(x); k++)
        x->at[k] = 1;
    for (int64_t k = 0; k < count(w); k++)
        w->at[k] = 1.0 / 2000;
    set1(b, "y.bias", 0);
    set(b, "y", (double[]){ 0, 0 });
    double loss[2];
    for (int step = 0; step < 2; step++) {
        set1(b, "step", step);
        run(b);
        loss[step] = output(b, "loss")->at[0];
        assert_true(fabs(loss[step] - 1) < 0.1 && loss[step] != 1);
    }
    assert_true(loss[0] != loss[1]);
    stop(b);
}

/* ---- losses and optimizers ---- */

static double loss_of(const char *type, int classes, const double *p, const double *y, int rows)
{
    char text[512];
    Bench bench, *b = &bench;
    snprintf(text, sizeof text,
             "{\"data\": {\"random\": {\"x\": [2], \"y\": [2], \"classes\": %d, \"rows\": 8}}, "
             "\"layers\": [{\"name\": \"y\", \"type\": \"dense\", \"units\": 2}],"
             "\"loss\": {\"type\": %s}}",
             classes, type);
    start_text(b, text, 3);
    build(b, BUILD_EVAL);
    set(b, "y.weight", (double[]){ 1, 0, 0, 1 });
    set(b, "x", p);
    set(b, "y", y);
    set1(b, "rows", rows);
    run(b);
    const double loss = output(b, "loss")->at[0];
    if (classes) { /* the first two rows: right, wrong */
        near(output(b, "correct")->at[0], 1);
        near(output(b, "prediction")->at[0] + output(b, "prediction")->at[1], 1);
    }
    stop(b);
    return loss;
}

static void losses_are_their_formulas(void **state)
{
    (void)state;
    const double p[] = { 2, -1, 0.5, 3, 1e9, 1e9 }, y[] = { 1, 1, 1, 0.5, 0, 0 };
    near(loss_of("\"mse\"", 0, p, y, 2), (1 + 4 + 0.25 + 6.25) / 4);
    near(loss_of("\"mae\"", 0, p, y, 2), (1 + 2 + 0.5 + 2.5) / 4);
    near(loss_of("\"huber\"", 0, p, y, 2), (0.5 + 1.5 + 0.125 + 2) / 4);
    near(loss_of("\"bce\"", 0, p, y, 2), (-log(sigmoid(2)) - log(sigmoid(-1)) - log(sigmoid(0.5)) -
                                          0.5 * log(sigmoid(3)) - 0.5 * log(1 - sigmoid(3))) /
                                             4);
    const double label[] = { 0, 0, 1 };
    near(loss_of("\"cross_entropy\"", 2, p, label, 2),
         (-log(exp(2) / (exp(2) + exp(-1))) - log(exp(0.5) / (exp(0.5) + exp(3)))) / 2);
    const double p1 = 1 / (1 + exp(-3)), p2 = 1 / (1 + exp(2.5)); /* of the labels */
    near(loss_of("\"cross_entropy\", \"label_smoothing\": 0.2", 2, p, label, 2),
         -(0.9 * log(p1) + 0.1 * log(1 - p1) + 0.9 * log(p2) + 0.1 * log(1 - p2)) / 2);
    near(loss_of("\"focal\", \"gamma\": 1.5", 2, p, label, 2),
         -(pow(1 - p1, 1.5) * log(p1) + pow(1 - p2, 1.5) * log(p2)) / 2);
    near(loss_of("\"quantile\", \"quantile\": 0.8", 0, p, y, 2),
         (0.2 * 1 + 0.8 * 2 + 0.8 * 0.5 + 0.2 * 2.5) / 4);
    const double share[] = { 0.3, 0.7, 0, 1, 0, 0 };
    near(loss_of("\"kl\"", 0, p, share, 2),
         (0.3 * log(0.3 / p1) + 0.7 * log(0.7 / (1 - p1)) - log(1 - p2)) / 2);
}

/* Two rows of a label are one row of two labels; the tail's rows count for both. */
static void labels_of_each_row(void **state)
{
    (void)state;
    static const char *const loss[] = {
        "\"cross_entropy\"", "\"cross_entropy\", \"label_smoothing\": 0.2", "\"focal\""
    };
    for (int k = 0; k < 3; k++) {
        double got[2][2];
        for (int each = 0; each < 2; each++) {
            char text[512];
            Bench bench, *b = &bench;
            snprintf(text, sizeof text,
                     "{\"data\": {\"random\": {\"x\": [%s3], \"classes\": 5, \"rows\": 8}}, "
                     "\"layers\": [{\"name\": \"y\", \"type\": \"dense\", \"units\": 5}],"
                     "\"loss\": {\"type\": %s}}",
                     each ? "2," : "", loss[k]);
            start_text(b, text, each ? 3 : 6);
            b->d.target.rank = (int8_t)each;
            b->d.target.dim[0] = 2;
            build(b, BUILD_EVAL);
            fill(b, each ? 2 : 4);
            run(b);
            assert_int_equal(output(b, "prediction")->type.shape.rank, 2 + each);
            got[each][0] = output(b, "loss")->at[0];
            got[each][1] = output(b, "correct")->at[0];
            stop(b);
        }
        near(got[1][0], got[0][0]);
        near(got[1][1], got[0][1]);
    }
}

/* y = w x + 0 with one weight: gradients of mse are 2 (w x - y) x and 2 (w x - y). */
static void follow(const char *optimizer, int steps,
                   void (*formula)(double *p, double g, double *m, double *v, int t))
{
    char text[512];
    Bench bench, *b = &bench;
    snprintf(text, sizeof text,
             "{\"data\": {\"random\": {\"x\": [1], \"y\": [1], \"rows\": 8}}, \"layers\": "
             "[{\"name\": \"y\", \"type\": \"dense\", \"units\": 1}],"
             "\"loss\": {\"type\": \"mse\"}, \"optimizer\": %s, \"train\": {\"ema\": 0.75}}",
             optimizer);
    start_text(b, text, 1);
    build(b, BUILD_PREDICT);
    input(b, "ema.y.weight"); /* what is predicted with; there is no other */
    assert_int_equal(b->g->ninput, 3);
    build(b, BUILD_TRAIN);
    set1(b, "rows", 1);
    set1(b, "lr", 0.1);
    set1(b, "x", 0.7);
    set1(b, "y", -0.4);
    set1(b, "y.weight", 0.9);
    set1(b, "y.bias", 0.2);
    for (uint32_t i = 0; i < b->g->ninput; i++) { /* of adagrad */
        const char *name = b->g->node[b->g->input[i]].name;
        if (strncmp(name, "opt.", 4) == 0 && strstr(name, ".sum"))
            b->in[i].at[0] = 0.3;
    }
    double p[2] = { 0.9, 0.2 }, m[2] = { 0 }, v[2] = { 0 }, ema[2] = { 0 };
    for (int t = 1; t <= steps; t++) {
        const double e = p[0] * 0.7 + p[1] + 0.4, g[2] = { 2 * e * 0.7, 2 * e };
        run(b);
        near(output(b, "grad_norm")->at[0], sqrt(g[0] * g[0] + g[1] * g[1]));
        for (int i = 0; i < 2; i++) {
            formula(&p[i], g[i], &m[i], &v[i], t);
            ema[i] = t == 1 ? p[i] : 0.75 * ema[i] + 0.25 * p[i];
        }
        near(output(b, "ema.y.weight")->at[0], ema[0]);
        near(output(b, "ema.y.bias")->at[0], ema[1]);
        near(output(b, "y.weight")->at[0], p[0]);
        near(output(b, "y.bias")->at[0], p[1]);
        for (uint32_t i = 0; i < b->g->nout;
             i++) { /* the next step starts from what this one left */
            if (b->g->out[i].replaces)
                set(b, b->g->node[b->g->out[i].replaces].name, b->out[i].at);
        }
    }
    stop(b);
}

static const double *after_one_step(Bench *b, const char *rest)
{
    char text[512];
    snprintf(text, sizeof text,
             "{\"data\": {\"random\": {\"x\": [1], \"y\": [1], \"rows\": 8}}, \"layers\": "
             "[{\"name\": \"a\", \"type\": \"dense\", \"units\": 1%s}, {\"name\": \"y\", "
             "\"type\": \"dense\", \"units\": 1%s}], \"loss\": {\"type\": \"mse\"}, "
             "\"optimizer\": {\"type\": \"sgd\"%s}}",
             rest ? ", \"lr_scale\": 0" : "", rest ? ", \"lr_scale\": 2, \"weight_decay\": 0.5" : "",
             rest ? rest : "");
    start_text(b, text, 1);
    build(b, BUILD_TRAIN);
    set1(b, "rows", 1);
    set1(b, "lr", 0.1);
    set1(b, "x", 0.7);
    set1(b, "y", -0.4);
    set1(b, "a.weight", 0.9);
    set1(b, "a.bias", 0.2);
    set1(b, "y.weight", 1.1);
    set1(b, "y.bias", 0.3);
    run(b);
    return output(b, "y.weight")->at;
}

/* The first layer stands still, the second goes twice as far with a decay of its own, which its
 * bias has no part in. */
static void layers_have_their_own_rates(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    const double weight = (1.1 - *after_one_step(b, NULL)) / 0.1;
    const double bias = (0.3 - *output(b, "y.bias")->at) / 0.1;
    stop(b);
    near(*after_one_step(b, ", \"weight_decay\": 0.1, \"decayed\": \"weights\""),
         1.1 - 0.2 * (weight + 0.5 * 1.1));
    near(*output(b, "y.bias")->at, 0.3 - 0.2 * bias);
    near(*output(b, "a.weight")->at, 0.9);
    near(*output(b, "a.bias")->at, 0.2);
    stop(b);
}

static void sgd_formula(double *p, double g, double *m, double *v, int t)
{
    (void)v, (void)t;
    g += 0.02 * *p;
    *m = 0.9 * *m + g;
    *p -= 0.1 * (g + 0.9 * *m);
}

static void adam_formula(double *p, double g, double *m, double *v, int t)
{
    g += 0.02 * *p;
    *m = 0.8 * *m + 0.2 * g;
    *v = 0.99 * *v + 0.01 * g * g;
    *p -= 0.1 * (*m / (1 - pow(0.8, t))) / (sqrt(*v / (1 - pow(0.99, t))) + 1e-8);
}

static void adamw_formula(double *p, double g, double *m, double *v, int t)
{
    *p -= 0.1 * 0.02 * *p;
    *m = 0.9 * *m + 0.1 * g;
    *v = 0.999 * *v + 0.001 * g * g;
    *p -= 0.1 * (*m / (1 - pow(0.9, t))) / (sqrt(*v / (1 - pow(0.999, t))) + 1e-8);
}

static void rmsprop_formula(double *p, double g, double *m, double *v, int t)
{
    (void)t;
    *v = 0.9 * *v + 0.1 * g * g;
    *m = 0.5 * *m + g / (sqrt(*v) + 1e-8);
    *p -= 0.1 * *m;
}

static void adagrad_formula(double *p, double g, double *m, double *v, int t)
{
    (void)m;
    g += 0.02 * *p;
    *v = (t == 1 ? 0.3 : *v) + g * g;
    *p -= 0.1 / (1 + 0.5 * (t - 1)) * g / (sqrt(*v) + 1e-10);
}

static void lion_formula(double *p, double g, double *m, double *v, int t)
{
    (void)v, (void)t;
    const double d = 0.9 * *m + 0.1 * g;
    *p -= 0.1 * 0.02 * *p + 0.1 * (d > 0 ? 1 : d < 0 ? -1 : 0);
    *m = 0.99 * *m + 0.01 * g;
}

/* The weight has two axes, the bias one. */
static void weights_only_formula(double *p, double g, double *m, double *v, int t)
{
    (void)m, (void)v, (void)t;
    static int calls;
    *p -= 0.1 * (g + (calls++ % 2 == 0 ? 0.02 * *p : 0));
}

static void optimizers_are_their_formulas(void **state)
{
    (void)state;
    follow("{\"type\": \"sgd\", \"momentum\": 0.9, \"nesterov\": true, \"weight_decay\": 0.02}", 4,
           sgd_formula);
    follow("{\"type\": \"adam\", \"beta1\": 0.8, \"beta2\": 0.99, \"weight_decay\": 0.02}", 4,
           adam_formula);
    follow("{\"type\": \"adamw\", \"weight_decay\": 0.02}", 4, adamw_formula);
    follow("{\"type\": \"rmsprop\", \"alpha\": 0.9, \"momentum\": 0.5}", 4, rmsprop_formula);
    follow("{\"type\": \"adagrad\", \"lr_decay\": 0.5, \"start\": 0.3, \"weight_decay\": 0.02}", 4,
           adagrad_formula);
    follow("{\"type\": \"lion\", \"weight_decay\": 0.02}", 4, lion_formula);
    follow("{\"type\": \"sgd\", \"weight_decay\": 0.02, \"decayed\": \"weights\"}", 4,
           weights_only_formula);
}

static void initialisers_depend_on_name_and_seed(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    start_text(b, DAG, 2);
    const Type t = { DT_F32, row_shape(2, (int64_t[]){ 2, 10 }) };
    float x[20], again[20];
    double sum = 0;
    OK(model_init_tensor(&b->cx, b->m, &b->d, "y.weight", &t, x));
    OK(model_init_tensor(&b->cx, b->m, &b->d, "y.weight", &t, again));
    assert_memory_equal(x, again, sizeof x);
    for (int i = 0; i < 20; i++) {
        assert_true(fabs(x[i]) <= 1 / sqrt(10));
        sum += fabs(x[i]);
    }
    assert_true(sum > 20 * 0.2 / sqrt(10));
    b->m->train.seed = 2;
    OK(model_init_tensor(&b->cx, b->m, &b->d, "y.weight", &t, again));
    assert_memory_not_equal(x, again, sizeof x);
    assert_int_equal(model_init_tensor(&b->cx, b->m, &b->d, "y.wait", &t, x), ST_VALUE);
    stop(b);
}

/* Mean square of the weight of a dense layer of 12 by 8, or 8 by 12, and its bound. */
static void look_at_init(const char *init, int units, int in, double *square, double *largest)
{
    char text[512];
    float w[96];
    Bench bench, *b = &bench;
    const Type t = { DT_F32, row_shape(2, (int64_t[]){ units, in }) };
    snprintf(text, sizeof text,
             "{\"data\": {\"random\": {\"x\": [%d], \"y\": [%d], \"rows\": 8}}, \"layers\": "
             "[{\"name\": \"l\", \"type\": \"dense\", \"units\": %d, \"init\": %s}],"
             "\"loss\": {\"type\": \"mse\"}}",
             in, units, units, init);
    start_text(b, text, 1);
    OK(model_init_tensor(&b->cx, b->m, &b->d, "l.weight", &t, w));
    *square = *largest = 0;
    for (int i = 0; i < 96; i++) {
        *square += (double)w[i] * (double)w[i] / 96;
        *largest = fmax(*largest, fabs((double)w[i]));
    }
    stop(b);
}

static void initialisers_have_their_spread(void **state)
{
    (void)state;
    static const struct {
        const char *init;
        double square, bound; /* the mean of the distribution; 0: not bounded */
    } want[] = {
        { "\"xavier_uniform\"", 2.0 / 20, 0.5477225575051661 },
        { "\"xavier_normal\"", 2.0 / 20, 0 },
        { "\"kaiming_uniform\"", 2.0 / 12, 0.7071067811865476 },
        { "\"kaiming_normal\"", 2.0 / 12, 0 },
        { "\"uniform\", \"init_value\": 0.3", 0.03, 0.3 },
        { "\"normal\", \"init_value\": 0.3", 0.09, 0 },
    };
    double square, largest;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        look_at_init(want[i].init, 8, 12, &square, &largest);
        if (!(fabs(square / want[i].square - 1) < 0.4))
            fail_msg("%s: mean square %g, wants about %g", want[i].init, square, want[i].square);
        if (want[i].bound > 0)
            assert_true(largest <= want[i].bound * (1 + 1e-6) && largest > 0.8 * want[i].bound);
    }
    look_at_init("\"constant\", \"init_value\": 0.25", 8, 12, &square, &largest);
    assert_true(fabs(square - 0.0625) < 1e-12 && largest == 0.25);
    look_at_init("\"zeros\"", 8, 12, &square, &largest);
    assert_true(largest == 0);
}

static void orthogonal_weights_are_orthogonal(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    float w[96];
    start_text(b,
               "{\"data\": {\"random\": {\"x\": [8], \"y\": [8], \"rows\": 8}}, \"layers\": ["
               "{\"name\": \"tall\", \"type\": \"dense\", \"units\": 12, \"init\": \"orthogonal\"},"
               "{\"name\": \"wide\", \"type\": \"dense\", \"units\": 8, \"init\": \"orthogonal\"}],"
               "\"loss\": {\"type\": \"mse\"}}",
               1);
    for (int wide = 0; wide < 2; wide++) {
        const Type t = { DT_F32, row_shape(2, (int64_t[]){ wide ? 8 : 12, wide ? 12 : 8 }) };
        OK(model_init_tensor(&b->cx, b->m, &b->d, wide ? "wide.weight" : "tall.weight", &t, w));
        for (int i = 0; i < 8; i++)
            for (int j = 0; j < 8; j++) {
                double dot = 0;
                for (int k = 0; k < 12; k++)
                    dot += wide ? (double)w[i * 12 + k] * (double)w[j * 12 + k]
                                : (double)w[k * 8 + i] * (double)w[k * 8 + j];
                assert_true(fabs(dot - (i == j)) < 1e-6);
            }
    }
    stop(b);
}

static void probes_are_outputs_of_their_own_graph(void **state)
{
    (void)state;
    Bench bench, *b = &bench;
    const char *small[] = { "data.window=5", "layers.conv.filters=3", "layers.lstm.units=4" };
    start(b, "models/pm25_cnn_lstm.json", small, 3, 2);
    build(b, BUILD_PROBE);
    fill(b, 2);
    run(b);
    assert_int_equal(b->g->nout, 1);
    const double *w = output(b, "attention")->at;
    near(w[0] + w[1] + w[2] + w[3] + w[4], 1);
    stop(b);
}

static void shapes_that_do_not_fit_are_said(void **state)
{
    (void)state;
    static const struct {
        const char *text, *msg;
    } bad[] = {
        { ONE_LAYER("[4]", "[1]", "{\"type\": \"lstm\", \"units\": 2}"),
          "lstm \"lstm0\": wants an input of shape (T, C), got [4]" },
        { ONE_LAYER("[4]", "[2]", "{\"type\": \"dense\", \"units\": 3}"),
          "the prediction has shape [3], the target [2]" },
        { ONE_LAYER(
              "[4, 2]", "[1]",
              "{\"type\": \"conv1d\", \"filters\": 1, \"kernel\": 5, \"padding\": \"valid\"}"),
          "conv1d \"conv1d0\": the window is longer than axis 0 of its input [4,2]" },
        { ONE_LAYER("[4]", "[1]", "{\"type\": \"reshape\", \"shape\": [3, -1]}"),
          "cannot make [3,-1] from [4]" },
        { ONE_LAYER("[5, 6]", "[5, 6]",
                    "{\"type\": \"multi_head_attention\", \"heads\": 2, \"mask\": \"x\"}"),
          "\"mask\" wants an input of shape [5] or [1], got [5,6]" },
        { ONE_LAYER("[5, 6]", "[5, 6]",
                    "{\"type\": \"transformer_block\", \"heads\": 2, \"rotary\": true}"),
          "rotary wants an even number of channels a head, got 3" },
        { ONE_LAYER("[4]", "[4]", "{\"type\": \"dense\", \"units\": 4, \"tied\": \"e\"}"),
          "\"tied\" wants an earlier embedding or dense layer with a weight, got \"e\"" },
        { ONE_LAYER("[4]", "[5]",
                    "{\"name\": \"d\", \"type\": \"dense\", \"units\": 3}, {\"type\": "
                    "\"dense\", \"units\": 5, \"tied\": \"d\"}"),
          "the weight of \"d\" leads from 3 to 4 here, not from 3 to 5" },
        { ONE_LAYER("[4]", "[4]", "{\"type\": \"embedding\", \"dim\": 3}"), "wants \"vocab\"" },
        { ONE_LAYER("[5, 6]", "[4]", "{\"type\": \"adaptive_max_pool1d\", \"output\": 6}"),
          "cannot make 6 parts of axis 0 of [5,6]" },
        { ONE_LAYER("[4]", "[4]", "{\"type\": \"relu\"}"), "no layer has parameters to train" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        Bench bench, *b = &bench;
        Graph *g;
        start_text(b, bad[i].text, 2);
        assert_true(model_build(&b->cx, b->m, &b->d, BUILD_TRAIN, 2, b->arena, &g) != ST_OK);
        if (!strstr(b->cx.msg, bad[i].msg))
            fail_msg("got %s\nwant %s", b->cx.msg, bad[i].msg);
        stop(b);
    }
}

/* Every layer type with every key at odd values, on inputs of every rank: a graph or a message. */
static void odd_values_give_a_graph_or_a_message(void **state)
{
    (void)state;
    static const char *const odd[] = {
        "0",   "-1",    "1",     "3",       "2147483647", "9007199254740992",
        "0.5", "1e300", "null",  "\"\"",    "\"same\"",   "\"last\"",
        "[]",  "[2]",   "[1,2]", "[1,2,3]", "[-1]",       "{}",
        "true"
    };
    static const char *const shapes[] = { "[]", "[4]", "[6, 3]", "[6, 5, 2]", "[1, 1]" };
    int built = 0;
    for (int t = 0; t < layer_ntypes; t++) {
        const LayerType *type = &layer_types[t];
        for (int k = 0; k < key_layers.n; k++) {
            const KeyInfo *key = &key_layers.row[k];
            if (strcmp(key->section, type->name) != 0)
                continue;
            for (size_t v = 0; v < sizeof odd / sizeof *odd; v++) {
                for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
                    Strbuf text = { 0 };
                    strbuf_printf(&text,
                                  "{\"data\": {\"random\": {\"x\": %s, \"y\": [1], \"rows\": 8}}, "
                                  "\"layers\": [{\"name\": \"o\", \"type\": \"%s\", "
                                  "\"input\": %s",
                                  shapes[s], type->name,
                                  type->ninput == LAYER_SEVERAL ? "[\"x\", \"x\"]" : "\"x\"");
                    for (int q = 0; q < key_layers.n; q++) {
                        const KeyInfo *other = &key_layers.row[q];
                        if (q != k && strcmp(other->section, type->name) == 0 && other->deflt &&
                            strcmp(other->deflt, REQUIRED) == 0)
                            strbuf_printf(&text, ", \"%s\": %s", other->key,
                                          strcmp(other->key, "rate") == 0 ? "0.5" : "2");
                    }
                    strbuf_printf(&text,
                                  ", \"%s\": %s}, {\"type\": \"flatten\"}, {\"type\": \"dense\", "
                                  "\"units\": 1}], \"loss\": {\"type\": \"mse\"}}",
                                  key->key, odd[v]);
                    Ctx cx;
                    Model *m;
                    ctx_init(&cx);
                    const Status st = model_parse(&cx, "odd.json", text.s, NULL, 0, &m);
                    if (st == ST_OK) {
                        Bench bench, *b = &bench;
                        Graph *g;
                        ctx_init(&b->cx);
                        start_parsed(b, m, 2);
                        const Status bs =
                            model_build(&b->cx, m, &b->d, BUILD_TRAIN, 2, b->arena, &g);
                        built += bs == ST_OK;
                        if (bs == ST_OK)
                            OK(graph_verify(&b->cx, g));
                        else
                            assert_true(status_exit_code(bs) == 3 && b->cx.msg[0]);
                        stop(b);
                    } else if (status_exit_code(st) != 3 || cx.line != 1 || !cx.msg[0]) {
                        fail_msg("%s: %s", text.s, cx.msg);
                    }
                    strbuf_free(&text);
                }
            }
        }
    }
    assert_true(built > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_model_builds_and_runs),
        cmocka_unit_test(tail_batch_is_a_batch_of_its_own_size),
        cmocka_unit_test(gradients_are_slopes_of_the_loss),
        cmocka_unit_test(rows_that_do_not_count_do_not_matter),
        cmocka_unit_test(lstm_is_the_loop),
        cmocka_unit_test(gru_is_the_loop),
        cmocka_unit_test(conv_is_the_loop),
        cmocka_unit_test(attention_pool_is_the_loop),
        cmocka_unit_test(batch_norm_keeps_statistics),
        cmocka_unit_test(dropout_keeps_its_share),
        cmocka_unit_test(losses_are_their_formulas),
        cmocka_unit_test(labels_of_each_row),
        cmocka_unit_test(optimizers_are_their_formulas),
        cmocka_unit_test(layers_have_their_own_rates),
        cmocka_unit_test(initialisers_depend_on_name_and_seed),
        cmocka_unit_test(initialisers_have_their_spread),
        cmocka_unit_test(orthogonal_weights_are_orthogonal),
        cmocka_unit_test(probes_are_outputs_of_their_own_graph),
        cmocka_unit_test(shapes_that_do_not_fit_are_said),
        cmocka_unit_test(odd_values_give_a_graph_or_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
