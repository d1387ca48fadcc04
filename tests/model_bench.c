/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/model_bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/autodiff.h"
#include "ir/base/rng.h"
#include "ir/text.h"

static Shape row_shape(int n, const int64_t *dim)
{
    Shape s = { .rank = (int8_t)n };
    for (int i = 0; i < n; i++)
        s.dim[i] = dim[i];
    return s;
}

/* Shapes as the data would give them, but for the sizes. */
static void shape_data(ModelBench *b)
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

void bench_start_parsed(ModelBench *b, Model *m, int batch)
{
    b->m = m;
    b->batch = batch;
    b->arena = arena_new();
    shape_data(b);
}

void bench_start(ModelBench *b, const char *path, const char *const *set, int nset, int batch)
{
    Model *m;
    ctx_init(&b->cx);
    BENCH_OK(b, model_load(&b->cx, path, set, nset, &m));
    bench_start_parsed(b, m, batch);
}

void bench_start_text(ModelBench *b, const char *text, int batch)
{
    Model *m;
    ctx_init(&b->cx);
    BENCH_OK(b, model_parse(&b->cx, "test.json", text, NULL, 0, &m));
    bench_start_parsed(b, m, batch);
}

void bench_stop(ModelBench *b)
{
    model_free(b->m);
    arena_free(b->arena);
}

static void round_trip(ModelBench *b, const Graph *g)
{
    Strbuf s = { 0 };
    Graph *again;
    graph_print(g, &s);
    BENCH_OK(b, graph_parse(&b->cx, b->arena, "printed", s.s, &again));
    assert_true(graph_eq(g, again));
    strbuf_free(&s);
}

void bench_build(ModelBench *b, BuildKind kind)
{
    Graph *g;
    BENCH_OK(b, model_build(&b->cx, b->m, &b->d, kind, b->batch, b->arena, &g));
    BENCH_OK(b, graph_verify(&b->cx, g));
    b->g = graph_new(b->arena);
    BENCH_OK(b, autodiff_expand(&b->cx, g, b->g));
    BENCH_OK(b, graph_verify(&b->cx, b->g));
    round_trip(b, g);
    round_trip(b, b->g);
    b->in = arena_array(b->arena, Tensor, b->g->ninput);
    b->out = arena_array(b->arena, Tensor, b->g->nout);
    for (uint32_t i = 0; i < b->g->ninput; i++)
        b->in[i] = tensor_new(b->arena, b->g->node[b->g->input[i]].type);
}

Tensor *bench_input(ModelBench *b, const char *name)
{
    for (uint32_t i = 0; i < b->g->ninput; i++) {
        if (strcmp(b->g->node[b->g->input[i]].name, name) == 0)
            return &b->in[i];
    }
    fail_msg("no input %s", name);
    return NULL;
}

void bench_set(ModelBench *b, const char *name, const double *v)
{
    Tensor *t = bench_input(b, name);
    memcpy(t->at, v, (size_t)shape_count(&t->type.shape) * sizeof *v);
}

void bench_set1(ModelBench *b, const char *name, double v)
{
    bench_set(b, name, &v);
}

Tensor *bench_output(ModelBench *b, const char *name)
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

void bench_run(ModelBench *b)
{
    BENCH_OK(b, eval_graph(&b->cx, b->g, EVAL_F64, b->arena, b->in, b->out));
}

double bench_noise(const char *name, int64_t i)
{
    Rng r;
    uint64_t h = 1469598103934665603u;
    for (const char *p = name; *p; p++)
        h = (h ^ (unsigned char)*p) * 1099511628211u;
    rng_init(&r, h, (uint64_t)i);
    return 2 * rng_unit(&r) - 1;
}

void bench_fill(ModelBench *b, int rows)
{
    for (uint32_t i = 0; i < b->g->ninput; i++) {
        const Node *n = &b->g->node[b->g->input[i]];
        Tensor *t = &b->in[i];
        if (n->attr.input.kind != INPUT_batch) {
            void *raw = calloc(1, (size_t)type_bytes(&t->type) + 1);
            BENCH_OK(b, model_init_tensor(&b->cx, b->m, &b->d, n->name, &t->type, raw));
            tensor_read(t, raw);
            free(raw);
            continue;
        }
        for (int64_t k = 0; k < shape_count(&t->type.shape); k++)
            t->at[k] = t->type.dt == DT_F32 ? bench_noise(n->name, k)
                                            : (double)(k * 7 % (b->d.nclass ? b->d.nclass : 1));
    }
    if (graph_find_input(b->g, "rows"))
        bench_set1(b, "rows", rows);
    if (graph_find_input(b->g, "lr"))
        bench_set1(b, "lr", 0.01);
}

void bench_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-12 + 1e-9 * fabs(want)))
        fail_msg("got %.17g, want %.17g", got, want);
}
