/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/layer_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/autodiff.h"
#include "ir/base/rng.h"
#include "tests/program_check.h"

typedef struct Net {
    Ctx cx;
    Arena *arena;
    Model *m;
    DataShape d;
} Net;

static void hear(void *arg, LogLevel level, const char *text)
{
    print_message("%s: %s\n", ((const LayerCase *)arg)->name, text);
    (void)level;
}

/* The layers, reading from "before" what they read from "x". */
static void add_layers(Strbuf *out, const char *layers, bool before)
{
    const char *at;
    while (before && (at = strstr(layers, "\"x\""))) {
        strbuf_printf(out, "%.*s\"before\"", (int)(at - layers), layers);
        layers = at + 3;
    }
    strbuf_add(out, layers);
}

/* before: a dense layer stands between x and the layer, so that its input has a gradient. */
static void net_open(Net *n, const LayerCase *c, bool before, const char *setting)
{
    Strbuf text = { 0 };
    *n = (Net){ .arena = arena_new() };
    ctx_init(&n->cx);
    n->cx.log = hear;
    n->cx.log_arg = (void *)(uintptr_t)c;
    strbuf_printf(&text, "{\"data\": {\"random\": {\"x\": %s", c->x);
    if (c->classes)
        strbuf_printf(&text, ", \"classes\": %d", c->classes);
    else
        strbuf_printf(&text, ", \"y\": %s", c->y);
    if (c->z)
        strbuf_printf(&text, ", \"z\": %s", c->z);
    if (c->mask)
        strbuf_printf(&text, ", \"mask\": %s", c->mask);
    if (c->words)
        strbuf_printf(&text, ", \"words\": %s", c->words);
    strbuf_add(&text, ", \"rows\": 8}}, \"layers\": [");
    const char *last = strrchr(c->x, ',');
    if (before)
        strbuf_printf(&text, "{\"name\": \"before\", \"type\": \"dense\", \"units\": %d}, ",
                      atoi(last ? last + 1 : c->x + 1));
    add_layers(&text, c->layers, before);
    static const char mse[] = "\"loss\": {\"type\": \"mse\"}, \"optimizer\": {\"type\": \"sgd\"}";
    strbuf_printf(&text, "], %s}", c->rest ? c->rest : mse);
    if (model_parse(&n->cx, c->name, text.s, &setting, setting ? 1 : 0, &n->m) != ST_OK)
        fail_msg("%s: %s", text.s, n->cx.msg);
    strbuf_free(&text);
    n->d = (DataShape){ .input = n->m->data.random_inputs,
                        .ninput = n->m->data.nrandom,
                        .target = n->m->data.random_target,
                        .classification = c->classes > 0,
                        .nclass = c->classes };
}

static void net_close(Net *n)
{
    model_free(n->m);
    arena_free(n->arena);
}

static Graph *net_graph(Net *n, BuildKind kind)
{
    Graph *g;
    if (model_build(&n->cx, n->m, &n->d, kind, LAYER_BATCH, n->arena, &g) != ST_OK)
        fail_msg("build: %s", n->cx.msg);
    return g;
}

static void fill_mask(Tensor *t)
{
    const int64_t n = shape_count(&t->type.shape), row = n / LAYER_BATCH;
    for (int64_t i = 0; i < n; i++)
        t->at[i] = row == 1 ? (double[]){ 2, 0, 5 }[i] : i / row != 1 && (i + i / row) % 3 != 0;
}

/* Noise of |x| < 1.5, and what a training step wants besides. */
static bool net_fill(void *arg, const char *name, InputKind kind, Tensor *t)
{
    (void)arg, (void)kind;
    uint64_t h = 14695981039346656037u;
    for (const char *p = name; *p; p++)
        h = (h ^ (unsigned char)*p) * 1099511628211u;
    Rng rng;
    rng_init(&rng, h, 0);
    for (int64_t i = 0; i < shape_count(&t->type.shape); i++)
        t->at[i] = round_to(DT_F32, 3 * rng_unit(&rng) - 1.5);
    if (strcmp(name, "rows") == 0)
        t->at[0] = LAYER_BATCH - 1;
    else if (strcmp(name, "lr") == 0)
        t->at[0] = round_to(DT_F32, 0.05);
    else if (strcmp(name, "mask") == 0)
        fill_mask(t);
    else if (strcmp(name, "words") == 0)
        for (int64_t i = 0; i < shape_count(&t->type.shape); i++)
            t->at[i] = (double)(i * 5 % 9 - 1);
    else if (t->type.dt != DT_F32)
        for (int64_t i = 0; i < shape_count(&t->type.shape); i++)
            t->at[i] = (double)(i % 2);
    else if (strncmp(name, "opt.", 4) == 0) /* a sum of squares is none below 0 */
        for (int64_t i = 0; i < shape_count(&t->type.shape); i++)
            t->at[i] = fabs(t->at[i]);
    return true;
}

static Tensor *net_values(Net *n, const Graph *g)
{
    Tensor *in = arena_array(n->arena, Tensor, g->ninput + 1);
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Node *node = &g->node[g->input[i]];
        in[i] = tensor_new(n->arena, node->type);
        net_fill(NULL, node->name, node->attr.input.kind, &in[i]);
    }
    return in;
}

const double *layer_run_in(const LayerRun *r, const char *name)
{
    for (uint32_t i = 0; i < r->g->ninput; i++)
        if (strcmp(r->g->node[r->g->input[i]].name, name) == 0)
            return r->in[i].at;
    fail_msg("%s: no input %s", r->c->name, name);
    return NULL;
}

void layer_case_is_its_loop(const LayerCase *c)
{
    Net n;
    net_open(&n, c, false, NULL);
    const Graph *g = net_graph(&n, BUILD_PREDICT);
    const Tensor *in = net_values(&n, g);
    Tensor out;
    if (eval_graph(&n.cx, g, EVAL_F64, n.arena, in, &out) != ST_OK)
        fail_msg("%s: %s", c->name, n.cx.msg);
    const int64_t count = shape_count(&out.type.shape);
    double *want = arena_array(n.arena, double, count);
    c->loop(&(LayerRun){ c, g, in, LAYER_BATCH }, want);
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(out.at[i] - want[i]) <= 1e-12 + 1e-9 * fabs(want[i])))
            fail_msg("%s[%d]: got %.17g, want %.17g", c->name, (int)i, out.at[i], want[i]);
    net_close(&n);
}

static double loss_at(Net *n, const Graph *g, const Tensor *in, Tensor *out)
{
    Arena *arena = arena_new();
    if (eval_graph(&n->cx, g, EVAL_F64, arena, in, out) != ST_OK)
        fail_msg("eval: %s", n->cx.msg);
    const double loss = out[0].at[0];
    arena_free(arena);
    return loss;
}

/* The gradient is read off one step of plain descent; p stands in input `at`. */
static void check_slope(Net *n, const LayerCase *c, const Graph *g, Tensor *in, uint32_t at,
                        int64_t k, double next)
{
    Tensor *scrap = arena_array(n->arena, Tensor, g->nout);
    const double p = in[at].at[k], h = 1e-5, slope = (p - next) / round_to(DT_F32, 0.05);
    in[at].at[k] = p + h;
    const double up = loss_at(n, g, in, scrap);
    in[at].at[k] = p - h;
    const double by_difference = (up - loss_at(n, g, in, scrap)) / (2 * h);
    in[at].at[k] = p;
    if (!(fabs(slope - by_difference) <= 1e-8 + 1e-5 * fabs(slope)))
        fail_msg("%s: %s[%d]: gradient %.12g, slope %.12g", c->name, g->node[g->input[at]].name,
                 (int)k, slope, by_difference);
}

void layer_case_has_its_slopes(const LayerCase *c)
{
    Net n;
    net_open(&n, c, true, "optimizer={\"type\": \"sgd\"}");
    Graph *g = graph_new(n.arena);
    if (autodiff_expand(&n.cx, net_graph(&n, BUILD_TRAIN), g) != ST_OK)
        fail_msg("%s: %s", c->name, n.cx.msg);
    Tensor *in = net_values(&n, g), *out = arena_array(n.arena, Tensor, g->nout);
    if (eval_graph(&n.cx, g, EVAL_F64, n.arena, in, out) != ST_OK)
        fail_msg("%s: %s", c->name, n.cx.msg);
    int checked = 0;
    for (uint32_t o = 0; o < g->nout; o++) {
        uint32_t at = 0;
        while (at < g->ninput && g->input[at] != g->out[o].replaces)
            at++;
        if (at == g->ninput || g->node[g->input[at]].attr.input.kind != INPUT_param)
            continue;
        const int64_t count = shape_count(&in[at].type.shape);
        for (int64_t k = 0; k < count; k += 1 + count / 3, checked++)
            check_slope(&n, c, g, in, at, k, out[o].at[k]);
    }
    assert_true(checked > 1);
    net_close(&n);
}

void layer_case_compiles(const LayerCase *c)
{
    Net n;
    net_open(&n, c, true, NULL);
    const Graph *g = net_graph(&n, BUILD_TRAIN);
    const ReferenceOptions ro = { .steps = 2, .seed = 3, .init = net_fill };
    Reference *ref = reference_new(&n.cx, g, &ro);
    int failed = 0;
    for (int mode = CHECK_MODE_FIRST; mode <= GTC_DEFAULT; mode++)
        for (int threads = CHECK_THREADS_FIRST; threads <= 2; threads++) {
            const ProgramCheck pc = { .mode = (GtcMode)mode, .threads = threads };
            const ProgramVerdict v = program_check(&n.cx, ref, &pc);
            if (v.wrong || v.plain || (v.undecided + v.loose) * 20 > v.compared)
                print_error(
                    "%s, %s, %d threads: %s (%lld of %lld undecided or loose, %d of %d plain)\n",
                    c->name, mode == GTC_EAGER ? "eager" : "default", threads,
                    v.wrong ? v.text : "-", (long long)(v.undecided + v.loose),
                    (long long)v.compared, v.plain, v.kernels);
            failed += v.wrong || (v.undecided + v.loose) * 20 > v.compared;
        }
    reference_free(ref);
    net_close(&n);
    if (failed)
        fail_msg("%s: %d programs are wrong", c->name, failed);
}

/* The name of what output o of a step is: of the input that it replaces, or its own. */
static const char *output_name(const Graph *g, uint32_t o)
{
    return g->out[o].replaces ? g->node[g->out[o].replaces].name : g->out[o].name;
}

static Tensor *one_step(Net *n, const LayerCase *c, Graph **g)
{
    net_open(n, c, true, NULL);
    *g = graph_new(n->arena);
    if (autodiff_expand(&n->cx, net_graph(n, BUILD_TRAIN), *g) != ST_OK)
        fail_msg("%s: %s", c->name, n->cx.msg);
    Tensor *in = net_values(n, *g), *out = arena_array(n->arena, Tensor, (*g)->nout);
    if (eval_graph(&n->cx, *g, EVAL_F64, n->arena, in, out) != ST_OK)
        fail_msg("%s: %s", c->name, n->cx.msg);
    return out;
}

void layer_cases_are_equal(const LayerCase *c, const LayerCase *d)
{
    Net n, other;
    Graph *g, *h;
    const Tensor *x = one_step(&n, c, &g), *y = one_step(&other, d, &h);
    assert_int_equal(g->nout, h->nout);
    for (uint32_t o = 0; o < g->nout; o++) {
        uint32_t k = 0;
        while (k < h->nout && strcmp(output_name(h, k), output_name(g, o)) != 0)
            k++;
        if (k == h->nout)
            fail_msg("%s has no %s", d->name, output_name(g, o));
        assert_true(type_eq(&x[o].type, &y[k].type));
        for (int64_t i = 0; i < shape_count(&x[o].type.shape); i++)
            if (x[o].at[i] != y[k].at[i])
                fail_msg("%s[%d]: %s has %.17g, %s has %.17g", output_name(g, o), (int)i, c->name,
                         x[o].at[i], d->name, y[k].at[i]);
    }
    net_close(&n);
    net_close(&other);
}

int layer_case_launches(const LayerCase *c)
{
    Net n;
    net_open(&n, c, true, NULL);
    const ReferenceOptions ro = { .steps = 1, .seed = 3, .init = net_fill };
    Reference *ref = reference_new(&n.cx, net_graph(&n, BUILD_TRAIN), &ro);
    const ProgramVerdict v =
        program_check(&n.cx, ref, &(ProgramCheck){ .mode = GTC_DEFAULT, .threads = 1 });
    if (v.wrong)
        fail_msg("%s: %s", c->name, v.text);
    reference_free(ref);
    net_close(&n);
    return v.kernels;
}

static void is_right(void **state)
{
    const LayerCase *c = *state;
    if (c->loop)
        layer_case_is_its_loop(c);
    layer_case_has_its_slopes(c);
}

static void compiles(void **state)
{
    layer_case_compiles(*state);
}

void layer_cases_tests(const LayerCase *c, int n, struct CMUnitTest *tests)
{
    for (int i = 0; i < 2 * n; i++)
        tests[i] = (struct CMUnitTest){ .name = c[i % n].name,
                                        .test_func = i < n ? is_right : compiles,
                                        .initial_state = (void *)(uintptr_t)&c[i % n] };
}
