/* SPDX-License-Identifier: Apache-2.0 */
/* loss: from the prediction and the target to one number.  Each row gives its terms; rows that do
 * not count give 0; the sum is divided by the valid rows (and by the outputs of a row), so that
 * a tail batch has the loss and the gradients of a batch of its own size. */
#include "models/layer.h"

#include <math.h>
#include <string.h>

typedef Ref LossFn(LayerCx *lx, Ref prediction, Ref target);

static Ref loss_mse(LayerCx *lx, Ref p, Ref y)
{
    const Ref e = build_op2(lx->b, OP_sub, p, y);
    return build_op2(lx->b, OP_mul, e, e);
}

static Ref loss_mae(LayerCx *lx, Ref p, Ref y)
{
    return build_op1(lx->b, OP_abs, build_op2(lx->b, OP_sub, p, y));
}

static Ref loss_huber(LayerCx *lx, Ref p, Ref y)
{
    return build_huber(lx->b, p, y, lx->m->loss->delta);
}

static Ref loss_cross_entropy(LayerCx *lx, Ref p, Ref y)
{
    return build_cross_entropy(lx->b, p, y, lx->m->loss->smoothing);
}

static Ref loss_focal(LayerCx *lx, Ref p, Ref y)
{
    return build_focal(lx->b, p, y, lx->m->loss->gamma);
}

static Ref loss_quantile(LayerCx *lx, Ref p, Ref y)
{
    return build_quantile(lx->b, p, y, lx->m->loss->quantile);
}

static Ref loss_kl(LayerCx *lx, Ref p, Ref y)
{
    return build_kl(lx->b, p, y);
}

static Ref loss_bce(LayerCx *lx, Ref p, Ref y)
{
    return build_bce(lx->b, p, y);
}

const TypeInfo loss_types[] = {
#define CLASS                        true
#define REAL                         false
#define LOSS(type, fn, target, help) { #type, help, target },
#include "models/losses.def"
};
const int loss_ntypes = sizeof loss_types / sizeof loss_types[0];

static LossFn *const loss_fn[] = {
#define LOSS(type, fn, target, help) fn,
#include "models/losses.def"
};

static Status check_shapes(LayerCx *lx, Shape p)
{
    const LossConfig *l = lx->m->loss;
    const DataShape *d = lx->d;
    Shape row = { .rank = (int8_t)(p.rank - 1) };
    memcpy(row.dim, p.dim + 1, sizeof p.dim - sizeof p.dim[0]);
    if (d->classification) {
        bool fits = p.rank == d->target.rank + 2 && p.dim[p.rank - 1] == d->nclass;
        for (int i = 0; fits && i < d->target.rank; i++)
            fits = row.dim[i] == d->target.dim[i];
        if (fits)
            return ST_OK;
        if (d->target.rank > 0)
            return json_fail(lx->cx, ST_SHAPE, l->at, NULL,
                             "%s wants %d outputs, one a class, for each of %s; the prediction has "
                             "%s",
                             l->type_name, d->nclass, shape_str(&d->target), shape_str(&row));
        return json_fail(lx->cx, ST_SHAPE, l->at, NULL,
                         "%s wants %d outputs, one a class; the prediction has %s", l->type_name,
                         d->nclass, shape_str(&row));
    }
    if (loss_types[l->type].classes)
        return json_fail(lx->cx, ST_SHAPE, l->at, NULL, "%s wants classes; the target is %s",
                         l->type_name, shape_str(&d->target));
    if (shape_count(&row) == shape_count(&d->target))
        return ST_OK;
    return json_fail(lx->cx, ST_SHAPE, l->at, NULL, "the prediction has shape %s, the target %s",
                     shape_str(&row), shape_str(&d->target));
}

/* What a user reads: probabilities instead of logits. */
static Ref readable(LayerCx *lx, Ref p)
{
    if (lx->d->classification)
        return build_softmax(lx->b, p, build_type(lx->b, p).shape.rank - 1);
    if (strcmp(lx->m->loss->type_name, "bce") == 0)
        return build_op1(lx->b, OP_sigmoid, p);
    if (strcmp(lx->m->loss->type_name, "kl") == 0)
        return build_softmax(lx->b, p, build_type(lx->b, p).shape.rank - 1);
    return p;
}

/* Sum of x over its valid rows. */
static Ref sum_valid(LayerCx *lx, Ref x)
{
    const int rank = build_type(lx->b, x).shape.rank;
    return build_reduce(lx->b, OP_sum, build_mask_rows(lx->b, x, layer_valid(lx)),
                        (1u << rank) - 1);
}

Status loss_build(LayerCx *lx, Ref prediction, Ref target, LossOut *out)
{
    Builder *b = lx->b;
    *out = (LossOut){ .prediction = prediction };
    if (b->status != ST_OK)
        return b->status;
    TRY(check_shapes(lx, build_type(b, prediction).shape));
    const uint32_t before = build_region(b, "loss", lx->m->nlayer);
    if (lx->kind != BUILD_TRAIN)
        out->prediction = readable(lx, prediction);
    if (target != REF_NONE) {
        const Type t = build_type(b, target);
        const bool class = lx->d->classification;
        const Ref p = class ? prediction : build_reshape(b, prediction, t.shape);
        const Ref terms = loss_fn[lx->m->loss->type](lx, p, target);
        const Shape of_terms = build_type(b, terms).shape;
        double outputs = 1;
        for (int i = 1; i < of_terms.rank; i++)
            outputs *= (double)of_terms.dim[i];
        Ref sum = sum_valid(lx, terms);
        if (outputs != 1)
            sum = build_scale(b, sum, 1 / outputs);
        out->loss = build_op2(b, OP_div, sum, layer_valid_count(lx));
        if (class)
            out->correct =
                sum_valid(lx, build_cast(b, build_is_correct(b, prediction, target), DT_F32));
    }
    b->region = before;
    return b->status;
}
