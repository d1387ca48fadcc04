/* SPDX-License-Identifier: Apache-2.0 */
/* layer_conv: convolution and pooling over one or two spatial axes, channels last. */
#include "models/layer_build.h"

#include <string.h>

/* "conv2d" has 2. */
static int spatial_axes(const Layer *l)
{
    return strchr(l->type->name, '2') ? 2 : 1;
}

/* A key's integers, one an axis; a single one stands for all. */
static Status spread(LayerCx *lx, const Layer *l, const char *key, const Dims *d, int n,
                     int64_t *out)
{
    if (d->n != 1 && d->n != n)
        return layer_fail(lx, l, "%s wants 1 or %d integers, got %d", key, n, d->n);
    for (int i = 0; i < n; i++)
        out[i] = d->at[d->n == 1 ? 0 : i];
    return ST_OK;
}

/* Refuses a window longer than what it slides over, counted without overflow. */
static Status check_fits(LayerCx *lx, const Layer *l, Shape s, int axis, int64_t padded,
                         int64_t kernel, int64_t dilation)
{
    const int64_t most = INT32_MAX;
    if (kernel <= most && dilation <= most && (kernel - 1) * dilation + 1 <= padded)
        return ST_OK;
    return layer_fail(lx, l, "the window is longer than axis %d of its input %s", axis,
                      layer_shape_str(s));
}

Status layer_conv(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const int n = spatial_axes(l);
    ConvShape c = { .n = n };
    int64_t kernel[3], pad[3];
    TRY(layer_wants_rank(lx, l, in[0], n + 2, n == 1 ? "(T, C)" : "(H, W, C)"));
    TRY(spread(lx, l, "kernel", &l->kernel, n, kernel));
    TRY(spread(lx, l, "stride", &l->stride, n, c.stride));
    TRY(spread(lx, l, "dilation", &l->dilation, n, c.dilation));
    TRY(spread(lx, l, "padding", &l->padding, n, pad));

    const Shape s = layer_shape(lx, in[0]);
    const int64_t channels = s.dim[n + 1], filters = l->filters, most = INT32_MAX;
    Shape ws = { .rank = (int8_t)(n + 2), .dim = { filters, channels } };
    int64_t fan = channels;
    for (int i = 0; i < n; i++) {
        if (kernel[i] > most || c.dilation[i] > most || pad[i] > most || c.stride[i] > most)
            return layer_fail(lx, l, "an extent above %d", INT32_MAX);
        const int64_t both = l->same ? (kernel[i] - 1) * c.dilation[i] : 2 * pad[i];
        c.lo[i] = both / 2;
        c.hi[i] = both - both / 2;
        TRY(check_fits(lx, l, s, i, s.dim[1 + i] + both, kernel[i], c.dilation[i]));
        ws.dim[2 + i] = kernel[i];
        fan *= kernel[i];
    }
    const Ref w = layer_param_uniform(lx, "weight", ws, fan);
    const Ref bias =
        l->bias ? layer_param_uniform(lx, "bias", shape_of(1, filters), fan) : REF_NONE;
    *out = layer_activate(lx, l, build_conv(lx->b, in[0], w, bias, &c));
    return ST_OK;
}

static Op pool_op(const Layer *l)
{
    return strstr(l->type->name, "max") ? OP_amax : OP_sum;
}

Status layer_pool(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const int n = spatial_axes(l);
    int64_t kernel[3], stride[3];
    TRY(layer_wants_rank(lx, l, in[0], n + 2, n == 1 ? "(T, C)" : "(H, W, C)"));
    TRY(spread(lx, l, "kernel", &l->kernel, n, kernel));
    TRY(spread(lx, l, "stride", l->stride.n ? &l->stride : &l->kernel, n, stride));
    const Shape s = layer_shape(lx, in[0]);
    for (int i = 0; i < n; i++)
        TRY(check_fits(lx, l, s, i, s.dim[1 + i], kernel[i], 1));
    *out = build_pool(lx->b, pool_op(l), in[0], n, kernel, stride);
    return ST_OK;
}

Status layer_global_pool(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const Shape s = layer_shape(lx, in[0]);
    if (s.rank < 3)
        return layer_fail(lx, l, "wants an input of shape (T, C) or (H, W, C), got %s",
                          layer_shape_str(s));
    *out = build_global_pool(lx->b, pool_op(l), in[0]);
    return ST_OK;
}
