/* SPDX-License-Identifier: Apache-2.0 */
/* model.json: what is taken resolves to itself, and its graphs are built or refused, whatever the
 * sizes in it; what is built is a verified graph. */
#include <string.h>

#include "ir/text.h"
#include "models/model.h"
#include "tests/fuzz/target.h"

enum { COLUMNS = 3, PIXELS = 28, CLASSES = 10, BATCH = 2 };

/* Shapes as the data would give them. */
static DataShape shape_data(const Model *m, NamedShape *x)
{
    const DataConfig *c = &m->data;
    DataShape d = { .input = x, .ninput = 1, .classification = c->classification };
    *x = (NamedShape){ "x", shape_of(1, (int64_t)COLUMNS) };
    if (c->format == DATA_RANDOM) {
        d.input = c->random_inputs;
        d.ninput = c->nrandom;
        d.target = c->random_target;
        d.nclass = c->random_classes;
        return d;
    }
    if (c->format == DATA_IDX)
        x->shape = shape_of(3, (int64_t)PIXELS, (int64_t)PIXELS, (int64_t)1);
    else if (c->window)
        x->shape = shape_of(2, (int64_t)c->window, (int64_t)COLUMNS);
    const int64_t steps = c->nhorizons ? c->nhorizons : 1;
    d.target = shape_of(1, (c->targets.n ? c->targets.n : 1) * steps);
    d.nclass = CLASSES;
    return d;
}

static void build_all(Ctx *cx, const Model *m)
{
    static const BuildKind kind[] = { BUILD_TRAIN, BUILD_EVAL, BUILD_PREDICT, BUILD_PROBE };
    NamedShape x;
    const DataShape d = shape_data(m, &x);
    for (size_t i = 0; i < sizeof kind / sizeof *kind; i++) {
        Arena *arena = arena_new();
        Graph *g;
        const Status st = model_build(cx, m, &d, kind[i], BATCH, arena, &g);
        fuzz_check(st != ST_INTERNAL, "%s", cx->msg);
        if (st == ST_OK)
            fuzz_check(graph_verify(cx, g) == ST_OK, "%s", cx->msg);
        arena_free(arena);
    }
    Arena *arena = arena_new();
    LayerInfo *info;
    int n;
    fuzz_check(model_layers(cx, m, &d, arena, &info, &n) != ST_INTERNAL, "%s", cx->msg);
    arena_free(arena);
}

static Status read_model(Ctx *cx)
{
    Model *m, *again;
    TRY(model_load(cx, "input.json", NULL, 0, &m));
    build_all(cx, m);
    fuzz_accepted();
    fuzz_check(model_parse(cx, "resolved", model_json(m), NULL, 0, &again) == ST_OK, "%s\n%s",
               cx->msg, model_json(m));
    fuzz_check(strcmp(model_json(m), model_json(again)) == 0, "%s\n%s", model_json(m),
               model_json(again));
    model_free(again);
    model_free(m);
    return ST_OK;
}

const FuzzTarget fuzz_model = { "model", "input.json", read_model };
