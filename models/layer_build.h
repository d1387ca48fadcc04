/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_MODELS_LAYER_BUILD_H
#define GTC_MODELS_LAYER_BUILD_H

#include "models/layer.h"

/* What the functions of layers.def share. */
#define LAYER(type, fn, inputs, help) LayerFn fn;
#include "models/layers.def"

/* Fails at the layer's place in model.json. */
Status layer_fail(LayerCx *lx, const Layer *l, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
Shape layer_shape(LayerCx *lx, Ref r);
/* Without the batch, for messages. */
const char *layer_shape_str(Shape s);
/* rank counts the batch; axes is how a message names the wanted shape. */
Status layer_wants_rank(LayerCx *lx, const Layer *l, Ref x, int rank, const char *axes);
/* "LAYER.weight" (out, in, K..) by the key "init"; as layer_param_uniform of fan by default. */
Ref layer_param_weight(LayerCx *lx, const Layer *l, Shape shape, int64_t fan);
/* The same of another name; of a vector the extent is both fans. */
Ref layer_param_init(LayerCx *lx, const Layer *l, const char *name, Shape shape, int64_t fan);
/* The key "activation". */
Ref layer_activate(LayerCx *lx, const Layer *l, Ref x);
/* x with a share of its elements dropped, in train graphs.  use: which of the layer's random
 * tensors, below 16. */
Ref layer_drop(LayerCx *lx, const Layer *l, Ref x, double rate, int use);
/* A parameter that starts in U(-1/sqrt(fan), 1/sqrt(fan)). */
Ref layer_param_uniform(LayerCx *lx, const char *suffix, Shape shape, int64_t fan);

#endif
