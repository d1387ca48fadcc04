/* SPDX-License-Identifier: Apache-2.0 */
/* layer_norm: layers that differ between training and use: batch_norm and dropout. */
#include "models/layer_build.h"

Status layer_batch_norm(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const Shape s = layer_shape(lx, in[0]);
    if (s.rank < 2)
        return layer_fail(lx, l, "wants an input with channels, got %s", layer_shape_str(s));
    const Shape c = shape_of(1, s.dim[s.rank - 1]);
    BatchNorm n = {
        .weight = layer_param(lx, "weight", c, INIT_FILL, 1),
        .bias = layer_param(lx, "bias", c, INIT_FILL, 0),
        .running_mean = layer_state(lx, "running_mean", c, 0),
        .running_var = layer_state(lx, "running_var", c, 1),
        .eps = l->eps,
        .momentum = l->momentum,
    };
    Ref y, mean, var;
    if (lx->kind == BUILD_TRAIN) {
        n.valid = layer_valid(lx);
        n.count = layer_valid_count(lx);
        y = build_batch_norm_train(lx->b, in[0], &n, &mean, &var);
        layer_replace(lx, n.running_mean, mean);
        layer_replace(lx, n.running_var, var);
    } else {
        y = build_batch_norm_eval(lx->b, in[0], &n);
    }
    *out = build_activation(lx->b, (Activation)l->activation, y, l->slope);
    return ST_OK;
}

/* The stream tells one random tensor of a model from another: a layer may use up to 16. */
Status layer_dropout(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    *out = in[0];
    if (lx->kind != BUILD_TRAIN || l->rate == 0)
        return ST_OK;
    Builder *b = lx->b;
    const Ref seed = build_scalar(b, DT_I32, (double)(int32_t)(uint32_t)lx->m->train.seed);
    const Ref stream = build_scalar(b, DT_I32, l->index * 16);
    const Ref iter = build_scalar(b, DT_I32, 0);
    *out = build_dropout(b, in[0], l->rate, seed, stream, lx->step, iter, lx->row0);
    return ST_OK;
}
