/* SPDX-License-Identifier: Apache-2.0 */
/* init: first values of parameters and states.  Each tensor has its own random stream, picked by a
 * hash of its name, so that a layer more or less changes no other layer's values. */
#include "models/layer.h"

#include "ir/base/hash.h"
#include "ir/base/rng.h"

#include <string.h>

static void fill(const ModelInput *in, uint64_t seed, void *data)
{
    const int64_t n = shape_count(&in->type.shape);
    Rng rng;
    rng_init(&rng, seed, hash_bytes(in->name, strlen(in->name), 0));
    for (int64_t i = 0; i < n; i++) {
        double x = in->value;
        if (in->init == INIT_UNIFORM)
            x = in->value * (2 * rng_unit(&rng) - 1);
        else if (in->init == INIT_NORMAL)
            x = in->value * rng_normal(&rng);
        if (in->type.dt == DT_I32)
            ((int32_t *)data)[i] = (int32_t)x;
        else
            ((float *)data)[i] = (float)x;
    }
}

Status model_init_tensor(Ctx *cx, const Model *m, const DataShape *d, const char *name,
                         const Type *t, void *data)
{
    Arena *arena = arena_new();
    LayerCx lx = { .cx = cx };
    Graph *g;
    Status st = model_build_with(&lx, m, d, BUILD_TRAIN, 1, arena, &g);
    const ModelInput *in = NULL;
    for (unsigned i = 0; st == ST_OK && i < lx.ninput; i++) {
        if (lx.input[i].kind != INPUT_batch && strcmp(lx.input[i].name, name) == 0)
            in = &lx.input[i];
    }
    if (st == ST_OK && !in)
        st = FAIL(cx, VALUE, "model \"%s\" has no parameter or state \"%s\"", m->name, name);
    else if (st == ST_OK && !type_eq(&in->type, t))
        st = FAIL(cx, TYPE, "\"%s\" is %s, not %s", name, type_str(&in->type), type_str(t));
    else if (st == ST_OK)
        fill(in, m->train.seed, data);
    arena_free(arena);
    return st;
}
