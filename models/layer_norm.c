/* SPDX-License-Identifier: Apache-2.0 */
/* layer_norm: the normalisations, and dropout. */
#include "models/layer_build.h"

#include <string.h>

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
    *out = layer_activate(lx, l, y);
    return ST_OK;
}

/* layer_norm and rms_norm: over the last axes. */
Status layer_norm_axes(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const bool centred = strcmp(l->type->name, "layer_norm") == 0;
    const Shape s = layer_shape(lx, in[0]);
    Shape p = { .rank = (int8_t)l->axes };
    if (l->axes >= s.rank)
        return layer_fail(lx, l, "wants an input of %d axes or more, got %s", l->axes,
                          layer_shape_str(s));
    for (int i = 0; i < l->axes; i++)
        p.dim[i] = s.dim[s.rank - l->axes + i];
    const Ref w = l->affine ? layer_param(lx, "weight", p, INIT_FILL, 1) : REF_NONE;
    const Ref bias =
        l->affine && centred && l->bias ? layer_param(lx, "bias", p, INIT_FILL, 0) : REF_NONE;
    const Ref y = centred ? build_layer_norm(lx->b, in[0], l->axes, w, bias, l->eps)
                          : build_rms_norm(lx->b, in[0], l->axes, w, l->eps);
    *out = layer_activate(lx, l, y);
    return ST_OK;
}

/* group_norm, and instance_norm: a group a channel. */
Status layer_group_norm(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const Shape s = layer_shape(lx, in[0]);
    const bool instance = strcmp(l->type->name, "instance_norm") == 0;
    if (s.rank < 3 - !instance || s.rank == MAX_RANK)
        return layer_fail(lx, l, "wants an input with channels%s, got %s",
                          instance ? " and an axis before them" : "", layer_shape_str(s));
    const int64_t channels = s.dim[s.rank - 1], groups = instance ? channels : l->groups;
    if (groups < 1 || channels % groups)
        return layer_fail(lx, l, "%d groups do not divide the channels of %s", (int)groups,
                          layer_shape_str(s));
    const Shape c = shape_of(1, channels);
    const Ref w = l->affine ? layer_param(lx, "weight", c, INIT_FILL, 1) : REF_NONE;
    const Ref bias = l->affine ? layer_param(lx, "bias", c, INIT_FILL, 0) : REF_NONE;
    *out = layer_activate(lx, l, build_group_norm(lx->b, in[0], groups, w, bias, l->eps));
    return ST_OK;
}

/* The stream tells one random tensor of a model from another: a layer may use up to 16. */
Ref layer_drop(LayerCx *lx, const Layer *l, Ref x, double rate, int use)
{
    if (lx->kind != BUILD_TRAIN || rate == 0)
        return x;
    Builder *b = lx->b;
    const Ref seed = build_scalar(b, DT_I32, (double)(int32_t)(uint32_t)lx->m->train.seed);
    const Ref stream = build_scalar(b, DT_I32, l->index * 16 + use);
    const Ref iter = build_scalar(b, DT_I32, 0);
    return build_dropout(b, x, rate, seed, stream, lx->step, iter, lx->row0);
}

Status layer_dropout(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    *out = layer_drop(lx, l, in[0], l->rate, 0);
    return ST_OK;
}
