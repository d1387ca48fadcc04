/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/zoo_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define SHAPE2(a, b)                                                                               \
    {                                                                                              \
        .rank = 2, .dim = { a, b }                                                                 \
    }
#define SHAPE3(a, b, c)                                                                            \
    {                                                                                              \
        .rank = 3, .dim = { a, b, c }                                                              \
    }

static const char two_inputs[] =
    "{ \"data\": { \"random\": { \"x\": [8, 3], \"z\": [5], \"y\": [2], \"rows\": 64 } },\n"
    "  \"layers\": [\n"
    "  { \"name\": \"g\", \"type\": \"gru\", \"input\": \"x\", \"units\": 6, \"return\": \"last\","
    " \"bidirectional\": true },\n"
    "  { \"name\": \"h\", \"type\": \"dense\", \"input\": \"z\", \"units\": 12, \"activation\":"
    " \"gelu\" },\n"
    "  { \"name\": \"m\", \"type\": \"multiply\", \"input\": [\"g\", \"h\"] },\n"
    "  { \"name\": \"c\", \"type\": \"concat\", \"input\": [\"m\", \"z\"] },\n"
    "  { \"name\": \"y\", \"type\": \"dense\", \"units\": 2 } ],\n"
    "  \"loss\": { \"type\": \"huber\", \"prediction\": \"y\" },\n"
    "  \"optimizer\": { \"type\": \"rmsprop\", \"learning_rate\": 1e-3 },\n"
    "  \"train\": { \"clip_value\": 0.5, \"seed\": 1 } }\n";

const ZooCase zoo_case[] = {
    { .path = "two inputs",
      .text = two_inputs,
      .x = SHAPE2(8, 3),
      .z = { .rank = 1, .dim = { 5 } },
      .targets = 2 },
    { "models/mlp.json",
      { "data.window=5", "layers.hidden1.units=19", "layers.hidden2.units=9" },
      SHAPE2(5, 5),
      1,
      0,
      .full = SHAPE2(24, 5) },
    { "models/demo.json",
      { "data.window=12", "layers.conv.filters=7", "layers.gru.units=9" },
      SHAPE2(12, 5),
      1,
      0,
      .full = SHAPE2(24, 5) },
    { "models/pm25_cnn_lstm.json",
      { "data.window=12", "layers.conv.filters=8", "layers.lstm.units=17" },
      SHAPE2(12, 5),
      1,
      0,
      .full = SHAPE2(48, 5) },
    { "models/pm25_cnn2d.json",
      { "data.window=12", "layers.image.shape=[12,-1,1]", "layers.conv1.filters=5",
        "layers.conv2.filters=8", "layers.conv3.filters=9" },
      SHAPE2(12, 9),
      1,
      0,
      .full = SHAPE2(48, 9) },
    { "models/lstm_attention.json",
      { "data.window=11", "layers.lstm.units=16" },
      SHAPE2(11, 2),
      2,
      0,
      .full = SHAPE2(30, 2) },
    { "models/anc_lstm.json",
      { "data.window=12", "layers.lstm.units=9", "layers.hidden.units=11" },
      SHAPE2(12, 1),
      1,
      0,
      .full = SHAPE2(32, 1) },
    { "models/etth1_dlinear.json",
      { "data.window=13", "data.steps=5", "layers.edges.before=4", "layers.edges.after=4",
        "layers.trend.kernel=9", "layers.linear_trend.units=5", "layers.linear_season.units=5" },
      SHAPE2(13, 7),
      35,
      0,
      .full = SHAPE2(336, 7),
      .full_targets = 672 },
    { "models/tcn.json",
      { "data.window=14", "layers.in.units=6", "layers.conv1.filters=6", "layers.conv2.filters=6",
        "layers.conv3.filters=6" },
      SHAPE2(14, 1),
      1,
      0,
      .full = SHAPE2(96, 1) },
    { .path = "models/gpt_char.json",
      .set = { "data.window=9", "layers.token.vocab=13", "layers.token.dim=12",
               "layers.block1.heads=3", "layers.block2.heads=2", "layers.block3.heads=1",
               "layers.block1.hidden=17", "layers.block2.hidden=8", "layers.block3.hidden=15",
               "layers.y.units=11" },
      .x = { .rank = 1, .dim = { 9 } },
      .classes = 11,
      .words = 13,
      .each = true,
      .full = { .rank = 1, .dim = { 64 } },
      .full_classes = 65 },
    { "models/behaviour_cnn.json",
      { "data.window=12", "layers.conv1.filters=6", "layers.conv2.filters=7",
        "layers.conv3.filters=5" },
      SHAPE2(12, 6),
      0,
      5,
      .full = SHAPE2(64, 6) },
    { "models/behaviour_transformer.json",
      { "data.window=12", "layers.patch.filters=8", "layers.block1.hidden=9",
        "layers.block2.hidden=7", "layers.block1.heads=2", "layers.block2.heads=4" },
      SHAPE2(12, 6),
      0,
      5,
      .full = SHAPE2(64, 6) },
    { "models/unet1d.json",
      { "data.window=32", "layers.in.filters=3", "layers.down1.filters=5", "layers.down2.filters=4",
        "layers.down3.filters=6", "layers.down4.filters=7", "layers.up3.filters=5",
        "layers.up2.filters=4", "layers.up1.filters=3", "layers.up0.filters=2" },
      SHAPE2(32, 1),
      32,
      0,
      .full = SHAPE2(1024, 1),
      .full_targets = 1024 },
    { "models/fashion_cnn.json",
      { "layers.conv1.filters=4", "layers.conv2.filters=7", "layers.hidden.units=18" },
      SHAPE3(12, 12, 1),
      0,
      10,
      .full = SHAPE3(28, 28, 1) },
    { "models/resnet18.json",
      { "layers.stem.filters=5",      "layers.s1a_conv1.filters=5", "layers.s1a_conv2.filters=5",
        "layers.s1b_conv1.filters=5", "layers.s1b_conv2.filters=5", "layers.s2a_conv1.filters=6",
        "layers.s2a_conv2.filters=6", "layers.s2a_conv3.filters=6", "layers.s2b_conv1.filters=6",
        "layers.s2b_conv2.filters=6", "layers.s3a_conv1.filters=7", "layers.s3a_conv2.filters=7",
        "layers.s3a_conv3.filters=7", "layers.s3b_conv1.filters=7", "layers.s3b_conv2.filters=7",
        "layers.s4a_conv1.filters=8", "layers.s4a_conv2.filters=8", "layers.s4a_conv3.filters=8",
        "layers.s4b_conv1.filters=8", "layers.s4b_conv2.filters=8" },
      SHAPE3(9, 7, 1), /* of odd sizes, one without a relu near 0 */
      0,
      10,
      .own = "optimizer.learning_rate=0.01",
      .full = SHAPE3(28, 28, 1) },
    { "models/vit_tiny.json",
      { "layers.patch.filters=12", "layers.tokens.shape=[-1,12]" },
      SHAPE3(12, 8, 1),
      0,
      10,
      .full = SHAPE3(28, 28, 1) },
    { "bench/nets/anc.json",
      { "layers.l.units=17", "layers.f1.units=9" },
      SHAPE2(12, 4),
      1,
      0,
      .full = SHAPE2(32, 4) },
    { "bench/nets/behcnn.json",
      { "layers.conv1.filters=6", "layers.conv2.filters=8", "layers.conv3.filters=9" },
      SHAPE2(12, 6),
      0,
      14,
      .full = SHAPE2(128, 6) },
    { "bench/nets/cnn2d.json",
      { "layers.conv1.filters=5", "layers.conv2.filters=8", "layers.conv3.filters=9",
        "layers.f1.units=7" },
      SHAPE3(12, 9, 1),
      1,
      0,
      .full = SHAPE3(30, 16, 1) },
    { "bench/nets/cnnlstm.json",
      { "layers.c1.filters=9", "layers.c2.filters=8", "layers.l.units=16", "layers.f1.units=5" },
      SHAPE2(12, 8),
      1,
      0,
      .full = SHAPE2(60, 8) },
    { "bench/nets/gru.json", { "layers.l.units=17" }, SHAPE2(12, 8), 1, 0, .full = SHAPE2(60, 64) },
    { "bench/nets/lstmattn.json",
      { "layers.l.units=16", "layers.f1.units=5" },
      SHAPE2(12, 7),
      1,
      0,
      .full = SHAPE2(60, 16) },
    { "bench/nets/mlp.json",
      { "layers.l0.units=32", "layers.l2.units=31" },
      { .rank = 1, .dim = { 16 } },
      1,
      0,
      .full = { .rank = 1, .dim = { 64 } } },
    { "bench/nets/xfmr.json",
      { "layers.i.units=12", "layers.e0.heads=4", "layers.e1.heads=3", "layers.e2.heads=2" },
      SHAPE2(11, 5),
      0,
      10,
      .full = SHAPE2(60, 16) },
};

const int zoo_cases = sizeof zoo_case / sizeof *zoo_case;

/* ------------------------------------------------------------ one model */

static void hear(void *arg, LogLevel level, const char *text)
{
    (void)arg, (void)level;
    print_message("%s\n", text);
}

bool zoo_init(void *arg, const char *name, InputKind kind, Tensor *t)
{
    Zoo *z = arg;
    const int64_t n = shape_count(&t->type.shape);
    if (kind != INPUT_batch) {
        void *data = arena_alloc(z->arena, (size_t)type_bytes(&t->type));
        if (model_init_tensor(&z->cx, z->m, &z->d, name, &t->type, data) != ST_OK)
            fail_msg("init %s: %s", name, z->cx.msg);
        tensor_read(t, data);
        return true;
    }
    if (strcmp(name, "rows") == 0)
        t->at[0] = ZOO_BATCH;
    else if (strcmp(name, "lr") == 0)
        t->at[0] = round_to(t->type.dt, z->lr);
    else if (strcmp(name, "row0") == 0)
        t->at[0] = 0;
    else if (z->d.words > 0 && strcmp(name, "x") == 0)
        for (int64_t i = 0; i < n; i++)
            t->at[i] = (double)(i * i % z->d.words);
    else if (z->d.classification && strcmp(name, "y") == 0)
        for (int64_t i = 0; i < n; i++)
            t->at[i] = (double)(i * 5 % z->d.nclass);
    else
        return false;
    return true;
}

static void read_model(Zoo *z, const ZooCase *c, const char *const *set, int nset)
{
    *z = (Zoo){ .arena = arena_new(), .input = { { "x", c->x }, { "z", c->z } } };
    ctx_init(&z->cx);
    z->cx.log = hear;
    const Status read = c->text ? model_parse(&z->cx, c->path, c->text, set, nset, &z->m)
                                : model_load(&z->cx, c->path, set, nset, &z->m);
    if (read != ST_OK)
        fail_msg("%s: %s", c->path, z->cx.msg);
    z->d = (DataShape){ .input = z->input,
                        .ninput = c->z.rank ? 2 : 1,
                        .target = { .rank = (int8_t)(c->classes ? 0 : 1), .dim = { c->targets } },
                        .classification = c->classes > 0,
                        .nclass = c->classes,
                        .words = c->words };
    if (c->each)
        z->d.target = (Shape){ .rank = 1, .dim = { c->x.dim[0] } };
}

void zoo_open(Zoo *z, const ZooCase *c, const char *optimizer)
{
    const char *set[24];
    int nset = 0;
    while (c->set[nset])
        set[nset] = c->set[nset], nset++;
    if (optimizer)
        set[nset++] = optimizer;
    read_model(z, c, set, nset);
    z->lr = optimizer ? 0.05 : 1e-3;
    z->batch = ZOO_BATCH;
}

void zoo_open_full(Zoo *z, const ZooCase *c)
{
    ZooCase full = *c;
    if (c->full.rank)
        full.x = c->full;
    if (c->full_targets)
        full.targets = c->full_targets;
    if (c->full_classes)
        full.classes = full.words = c->full_classes;
    read_model(z, &full, NULL, 0);
    z->batch = z->m->train.batch_size;
}

void zoo_close(Zoo *z)
{
    model_free(z->m);
    arena_free(z->arena);
}

Graph *zoo_graph(Zoo *z, const ZooCase *c, BuildKind kind)
{
    Graph *g = NULL;
    if (model_build(&z->cx, z->m, &z->d, kind, z->batch, z->arena, &g) != ST_OK)
        fail_msg("%s: %s", c->path, z->cx.msg);
    return g;
}
