/* SPDX-License-Identifier: Apache-2.0 */
/* data_random: seeded normal inputs of any shapes, with a normal target or a class, for benches
 * and tests.  One stream an input, so that adding an input changes no other. */
#include "train/data_format.h"

#include "ir/base/rng.h"
#include "ir/base/size.h"

/* Told apart from the other uses of the run's seed: "data". */
static const uint64_t random_stream = (uint64_t)0x64617461 << 32;

static Status block_fill(Ctx *cx, const Request *rq, Source *src, int k)
{
    const NamedShape *in = &rq->cfg->random_inputs[k];
    Block *b = &src->block[k];
    Rng rng;
    *b = (Block){ .name = in->name, .shape = in->shape, .width = 1 };
    for (int i = 0; i < in->shape.rank; i++)
        if (!size_mul_ok(b->width, in->shape.dim[i], &b->width))
            return FAIL(cx, VALUE, "data: shape %s is too large", shape_str(&in->shape));
    int64_t n;
    if (!size_mul_ok(src->rows, b->width, &n))
        return FAIL(cx, VALUE, "data: %lld rows of %s are too many", (long long)src->rows,
                    shape_str(&in->shape));
    TRY(source_alloc(cx, src, n, sizeof(float), &b->data));
    rng_init(&rng, rq->seed, random_stream + 1 + (uint64_t)k);
    for (int64_t i = 0; i < n; i++)
        ((float *)b->data)[i] = (float)rng_normal(&rng);
    return ST_OK;
}

Status random_read(Ctx *cx, const Request *rq, Source *src)
{
    const DataConfig *cfg = rq->cfg;
    Rng rng;
    src->rows = cfg->random_rows;
    if (src->rows < 1 || cfg->nrandom < 1)
        return FAIL(cx, VALUE, "data: \"random\" wants at least one row and one input");
    src->nblock = cfg->nrandom;
    src->block = arena_array(src->arena, Block, src->nblock);
    for (int k = 0; k < src->nblock; k++)
        TRY(block_fill(cx, rq, src, k));

    const int64_t n = cfg->random_classes ? 1 : shape_count(&cfg->random_target);
    if (n < 1 || n > 1 << 20)
        return FAIL(cx, VALUE, "data: a target of shape %s", shape_str(&cfg->random_target));
    src->ntarget = (int)n;
    src->target = arena_array(src->arena, Column, n);
    rng_init(&rng, rq->seed, random_stream);
    for (int64_t k = 0; k < n; k++) {
        void *p;
        TRY(source_alloc(cx, src, src->rows, sizeof(double), &p));
        src->target[k] = (Column){ .file = "random", .value = p };
        src->target[k].name = n == 1 ? "y" : arena_printf(src->arena, "y%lld", (long long)k);
    }
    for (int64_t r = 0; r < src->rows; r++)
        for (int64_t k = 0; k < n; k++)
            src->target[k].value[r] = cfg->random_classes
                                          ? (double)rng_below(&rng, (uint64_t)cfg->random_classes)
                                          : rng_normal(&rng);
    return ST_OK;
}
