/* SPDX-License-Identifier: Apache-2.0 */
/* init: first values of parameters and states.  Each tensor has its own random stream, picked by a
 * hash of its name, so that a layer more or less changes no other layer's values.  A running mean
 * begins where its parameter does. */
#include "models/layer.h"

#include "ir/base/hash.h"
#include "ir/base/rng.h"

#include <math.h>
#include <string.h>

/* Gram-Schmidt, twice for the digits that once loses: n vectors of m >= n elements, element k of
 * vector i at v[i * across + k * along]. */
static void orthonormalise(double *v, int64_t n, int64_t m, int64_t across, int64_t along)
{
    for (int64_t i = 0; i < n; i++) {
        double *x = v + i * across, square = 0;
        for (int64_t j = 0; j < 2 * i; j++) {
            const double *y = v + j % i * across;
            double dot = 0;
            for (int64_t k = 0; k < m; k++)
                dot += x[k * along] * y[k * along];
            for (int64_t k = 0; k < m; k++)
                x[k * along] -= dot * y[k * along];
        }
        for (int64_t k = 0; k < m; k++)
            square += x[k * along] * x[k * along];
        for (int64_t k = 0; k < m; k++)
            x[k * along] /= sqrt(square);
    }
}

static void fill_orthogonal(const ModelInput *in, Rng *rng, float *data)
{
    const int64_t n = shape_count(&in->type.shape), rows = in->type.shape.dim[0];
    const int64_t columns = rows > 0 ? n / rows : 0;
    Arena *arena = arena_new();
    double *v = arena_array(arena, double, n + 1);
    for (int64_t i = 0; i < n; i++)
        v[i] = rng_normal(rng);
    if (rows <= columns)
        orthonormalise(v, rows, columns, columns, 1);
    else
        orthonormalise(v, columns, rows, 1, columns);
    for (int64_t i = 0; i < n; i++)
        data[i] = (float)(in->value * v[i]);
    arena_free(arena);
}

static void fill(const ModelInput *in, uint64_t seed, void *data)
{
    const int64_t n = shape_count(&in->type.shape);
    const size_t ema = strlen(LAYER_EMA);
    const char *name = in->name;
    Rng rng;
    if (in->kind == INPUT_state && strncmp(name, LAYER_EMA, ema) == 0)
        name += ema;
    rng_init(&rng, seed, hash_bytes(name, strlen(name), 0));
    if (in->init == INIT_ORTHOGONAL) {
        fill_orthogonal(in, &rng, data);
        return;
    }
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
