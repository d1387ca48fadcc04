/* SPDX-License-Identifier: Apache-2.0 */
/* Every model of the zoo and of the bench, at small sizes, as graphs; batches that end early; and
 * what cannot be built is said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "ir/text.h"
#include "tests/model_bench.h"

static void all_finite(ModelBench *b)
{
    for (uint32_t i = 0; i < b->g->nout; i++) {
        for (int64_t k = 0; k < shape_count(&b->out[i].type.shape); k++)
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
        ModelBench bench, *b = &bench;
        bench_start(b, s->path, s->set, nset, 4);
        for (int kind = BUILD_TRAIN; kind <= BUILD_PREDICT; kind++) {
            bench_build(b, (BuildKind)kind);
            bench_fill(b, 3);
            bench_run(b);
            all_finite(b);
            if (kind == BUILD_TRAIN)
                assert_true(bench_output(b, "grad_norm")->at[0] > 0 &&
                            bench_output(b, "step")->at[0] == 1);
        }
        LayerInfo *info;
        int n;
        BENCH_OK(b, model_layers(&b->cx, b->m, &b->d, b->arena, &info, &n));
        assert_int_equal(n, b->m->nlayer);
        bench_stop(b);
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
    ModelBench big, small, *b = &big;
    bench_start_text(&big, text, batch);
    bench_start_text(&small, text, rows);
    bench_build(&big, BUILD_TRAIN);
    bench_build(&small, BUILD_TRAIN);
    bench_fill(&big, rows);
    bench_fill(&small, rows);
    bench_run(&big);
    bench_run(&small);
    assert_int_equal(big.g->nout, small.g->nout);
    for (uint32_t i = 0; i < big.g->nout; i++) {
        const int64_t n = shape_count(&big.out[i].type.shape);
        assert_int_equal(n, shape_count(&small.out[i].type.shape));
        for (int64_t k = 0; k < n; k++) {
            const double x = big.out[i].at[k], y = small.out[i].at[k];
            if (!(fabs(x - y) <= 1e-12 + 1e-10 * fabs(y)))
                fail_msg("batch %d rows %d: output %u [%d]: %.17g, alone %.17g", batch, rows, i,
                         (int)k, x, y);
        }
    }
    BENCH_OK(b, graph_verify(&b->cx, b->g));
    bench_stop(&big);
    bench_stop(&small);
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
    ModelBench bench, *b = &bench;
    bench_start_text(b, text, batch);
    b->m->train.clip_norm = 0;
    bench_build(b, BUILD_TRAIN);
    bench_fill(b, batch - 1);
    bench_run(b);
    Tensor *first = arena_copy(b->arena, b->out, b->g->nout * sizeof *first);
    for (uint32_t i = 0; i < b->g->nout; i++) {
        const Node *n = &b->g->node[b->g->out[i].replaces];
        if (!b->g->out[i].replaces || n->attr.input.kind != INPUT_param)
            continue;
        Tensor *p = bench_input(b, n->name);
        const int64_t k = shape_count(&p->type.shape) / 2;
        const double at = p->at[k], h = 1e-6, slope = (at - first[i].at[k]) / 0.01;
        p->at[k] = at + h;
        bench_run(b);
        const double up = bench_output(b, "loss")->at[0];
        p->at[k] = at - h;
        bench_run(b);
        const double by_difference = (up - bench_output(b, "loss")->at[0]) / (2 * h);
        p->at[k] = at;
        if (!(fabs(slope - by_difference) <= 1e-7 + 1e-5 * fabs(slope)))
            fail_msg("%s[%d]: gradient %.12g, slope %.12g", n->name, (int)k, slope, by_difference);
    }
    bench_stop(b);
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
    ModelBench bench, *b = &bench;
    Tensor *one;
    bench_start_text(b, DAG, 4);
    bench_build(b, BUILD_TRAIN);
    bench_fill(b, 2);
    bench_run(b);
    one = arena_copy(b->arena, b->out, b->g->nout * sizeof *one);
    Tensor *x = bench_input(b, "x");
    for (int64_t k = 2 * 18; k < shape_count(&x->type.shape); k++)
        x->at[k] = 1e3;
    bench_run(b);
    for (uint32_t i = 0; i < b->g->nout; i++)
        assert_memory_equal(one[i].at, b->out[i].at,
                            (size_t)shape_count(&one[i].type.shape) * sizeof(double));
    bench_stop(b);
}

static void probes_are_outputs_of_their_own_graph(void **state)
{
    (void)state;
    ModelBench bench, *b = &bench;
    const char *small[] = { "data.window=5", "layers.conv.filters=3", "layers.lstm.units=4" };
    bench_start(b, "models/pm25_cnn_lstm.json", small, 3, 2);
    bench_build(b, BUILD_PROBE);
    bench_fill(b, 2);
    bench_run(b);
    assert_int_equal(b->g->nout, 1);
    const double *w = bench_output(b, "attention")->at;
    bench_near(w[0] + w[1] + w[2] + w[3] + w[4], 1);
    bench_stop(b);
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
        { ONE_LAYER("[5, 6]", "[4]", "{\"type\": \"adaptive_max_pool1d\", \"output\": 66}"),
          "cannot make 66 parts of axis 0 of [5,6]: more than 64, and they are not equal" },
        { ONE_LAYER("[4]", "[4]", "{\"type\": \"relu\"}"), "no layer has parameters to train" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ModelBench bench, *b = &bench;
        Graph *g;
        bench_start_text(b, bad[i].text, 2);
        assert_true(model_build(&b->cx, b->m, &b->d, BUILD_TRAIN, 2, b->arena, &g) != ST_OK);
        if (!strstr(b->cx.msg, bad[i].msg))
            fail_msg("got %s\nwant %s", b->cx.msg, bad[i].msg);
        bench_stop(b);
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
                        ModelBench bench, *b = &bench;
                        Graph *g;
                        ctx_init(&b->cx);
                        bench_start_parsed(b, m, 2);
                        const Status bs =
                            model_build(&b->cx, m, &b->d, BUILD_TRAIN, 2, b->arena, &g);
                        built += bs == ST_OK;
                        if (bs == ST_OK)
                            BENCH_OK(b, graph_verify(&b->cx, g));
                        else
                            assert_true(status_exit_code(bs) == 3 && b->cx.msg[0]);
                        bench_stop(b);
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
        cmocka_unit_test(probes_are_outputs_of_their_own_graph),
        cmocka_unit_test(shapes_that_do_not_fit_are_said),
        cmocka_unit_test(odd_values_give_a_graph_or_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
