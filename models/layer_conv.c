/* SPDX-License-Identifier: Apache-2.0 */
/* layer_conv: convolution and pooling over one to three spatial axes, channels last. */
#include "models/layer_build.h"

#include <string.h>

/* "conv2d" has 2. */
static int spatial_axes(const Layer *l)
{
    return strchr(l->type->name, '3') ? 3 : strchr(l->type->name, '2') ? 2 : 1;
}

static const char *spatial_names(int n)
{
    return n == 1 ? "(T, C)" : n == 2 ? "(H, W, C)" : "(D, H, W, C)";
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

static Status check_groups(LayerCx *lx, const Layer *l, int64_t channels)
{
    if (channels % l->groups == 0 && l->filters % l->groups == 0)
        return ST_OK;
    return layer_fail(lx, l, "%d groups divide neither or one of %d channels and %d filters",
                      l->groups, (int)channels, l->filters);
}

Status layer_conv(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const int n = spatial_axes(l);
    ConvShape c = { .n = n, .groups = l->groups };
    int64_t kernel[3], pad[3];
    TRY(layer_wants_rank(lx, l, in[0], n + 2, spatial_names(n)));
    TRY(spread(lx, l, "kernel", &l->kernel, n, kernel));
    TRY(spread(lx, l, "stride", &l->stride, n, c.stride));
    TRY(spread(lx, l, "dilation", &l->dilation, n, c.dilation));
    TRY(spread(lx, l, "padding", &l->padding, n, pad));

    const Shape s = layer_shape(lx, in[0]);
    const int64_t channels = s.dim[n + 1], filters = l->filters, most = INT32_MAX;
    TRY(check_groups(lx, l, channels));
    Shape ws = { .rank = (int8_t)(n + 2), .dim = { filters, channels / l->groups } };
    int64_t fan = channels / l->groups;
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
    const Ref w = layer_param_weight(lx, l, ws, fan);
    const Ref bias =
        l->bias ? layer_param_uniform(lx, "bias", shape_of(1, filters), fan) : REF_NONE;
    *out = layer_activate(lx, l, build_conv(lx->b, in[0], w, bias, &c));
    return ST_OK;
}

/* The extent is (n - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1. */
Status layer_conv_transpose(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const int n = spatial_axes(l);
    ConvShape c = { .n = n, .groups = l->groups };
    int64_t kernel[3], pad[3], more[3];
    TRY(layer_wants_rank(lx, l, in[0], n + 2, spatial_names(n)));
    TRY(spread(lx, l, "kernel", &l->kernel, n, kernel));
    TRY(spread(lx, l, "stride", &l->stride, n, c.stride));
    TRY(spread(lx, l, "dilation", &l->dilation, n, c.dilation));
    TRY(spread(lx, l, "padding", &l->padding, n, pad));
    TRY(spread(lx, l, "output_padding", &l->output_padding, n, more));

    const Shape s = layer_shape(lx, in[0]);
    const int64_t channels = s.dim[n + 1], most = INT16_MAX;
    TRY(check_groups(lx, l, channels));
    Shape ws = { .rank = (int8_t)(n + 2), .dim = { channels, l->filters / l->groups } };
    int64_t fan = ws.dim[1];
    for (int i = 0; i < n; i++) {
        if (kernel[i] > most || c.dilation[i] > most || c.stride[i] > most)
            return layer_fail(lx, l, "an extent above %d", INT16_MAX);
        const int64_t reach = (kernel[i] - 1) * c.dilation[i];
        if (s.dim[1 + i] < 1 || pad[i] > reach || more[i] > most)
            return layer_fail(lx, l, "wants a padding of at most %d at axis %d of its input %s",
                              (int)reach, i, layer_shape_str(s));
        c.lo[i] = reach - pad[i];
        c.hi[i] = reach - pad[i] + more[i];
        TRY(check_fits(lx, l, s, i, (s.dim[1 + i] - 1) * c.stride[i] + 1 + c.lo[i] + c.hi[i],
                       kernel[i], c.dilation[i]));
        ws.dim[2 + i] = kernel[i];
        fan *= kernel[i];
    }
    const Ref w = layer_param_weight(lx, l, ws, fan);
    const Ref bias =
        l->bias ? layer_param_uniform(lx, "bias", shape_of(1, (int64_t)l->filters), fan) : REF_NONE;
    *out = layer_activate(lx, l, build_conv_transpose(lx->b, in[0], w, bias, &c));
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
    TRY(layer_wants_rank(lx, l, in[0], n + 2, spatial_names(n)));
    TRY(spread(lx, l, "kernel", &l->kernel, n, kernel));
    TRY(spread(lx, l, "stride", l->stride.n ? &l->stride : &l->kernel, n, stride));
    const Shape s = layer_shape(lx, in[0]);
    for (int i = 0; i < n; i++)
        TRY(check_fits(lx, l, s, i, s.dim[1 + i], kernel[i], 1));
    *out = build_pool(lx->b, pool_op(l), in[0], n, kernel, stride);
    return ST_OK;
}

/* Axis `axis` of x in n parts that may differ by one in length or share a step, or be more than
 * there are steps, as PyTorch cuts them, each to one step. */
static Ref pool_parts(Builder *b, Op op, Ref x, int axis, int64_t n)
{
    enum { MOST = 64 };
    Ref part[MOST];
    Shape one = build_type(b, x).shape;
    const int64_t have = one.dim[axis];
    one.dim[axis] = 1;
    if (have % n == 0) {
        int64_t kernel[3] = { 1, 1, 1 };
        kernel[axis - 1] = have / n;
        return build_pool(b, op, x, one.rank - 2, kernel, kernel);
    }
    gtc_assert(n <= MOST, "%d parts were not checked", (int)n);
    for (int64_t i = 0; i < n; i++) {
        const int64_t lo = i * have / n, len = ((i + 1) * have + n - 1) / n - lo;
        const Ref y = build_reduce(b, op, build_slice(b, x, axis, lo, len), 1u << axis);
        part[i] = build_reshape(b, op == OP_sum ? build_scale(b, y, 1.0 / (double)len) : y, one);
    }
    return build_concat(b, part, (int)n, axis);
}

/* To `output` steps.  A mean of means of parts that are equally long is a mean, so one axis goes
 * after the other. */
Status layer_adaptive_pool(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const int n = spatial_axes(l);
    int64_t wanted[3];
    TRY(layer_wants_rank(lx, l, in[0], n + 2, spatial_names(n)));
    TRY(spread(lx, l, "output", &l->output, n, wanted));
    const Shape s = layer_shape(lx, in[0]);
    *out = in[0];
    for (int i = 0; i < n; i++) {
        const int64_t have = s.dim[1 + i];
        if (have == 0 || (have % wanted[i] && wanted[i] > 64))
            return layer_fail(lx, l, "cannot make %lld parts of axis %d of %s%s",
                              (long long)wanted[i], i, layer_shape_str(s),
                              have == 0 ? "" : ": more than 64, and they are not equal");
        if (wanted[i] != have)
            *out = pool_parts(lx->b, pool_op(l), *out, 1 + i, wanted[i]);
    }
    return ST_OK;
}

Status layer_k_max_pool(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    TRY(layer_wants_rank(lx, l, in[0], 3, "(T, C)"));
    const Shape s = layer_shape(lx, in[0]);
    if (l->k > s.dim[1])
        return layer_fail(lx, l, "there are no %d greatest in %s", l->k, layer_shape_str(s));
    *out = build_top_k(lx->b, in[0], 1, l->k, NULL);
    return ST_OK;
}

/* Nearest neighbour: each step as often as `scale` says. */
Status layer_upsample(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const int n = spatial_axes(l);
    int64_t scale[3];
    TRY(layer_wants_rank(lx, l, in[0], n + 2, spatial_names(n)));
    TRY(spread(lx, l, "scale", &l->scale, n, scale));
    const Shape s = layer_shape(lx, in[0]);
    Shape wide = { .rank = (int8_t)(2 * n + 2), .dim = { s.dim[0] } }, to = s;
    unsigned repeated = 0;
    for (int i = 0; i < n; i++) {
        if (scale[i] > INT16_MAX)
            return layer_fail(lx, l, "a scale above %d", INT16_MAX);
        wide.dim[1 + 2 * i] = s.dim[1 + i];
        wide.dim[2 + 2 * i] = scale[i];
        repeated |= 1u << (2 + 2 * i);
        to.dim[1 + i] *= scale[i];
    }
    wide.dim[1 + 2 * n] = s.dim[n + 1];
    *out = build_reshape(lx->b, build_broadcast(lx->b, in[0], wide, repeated), to);
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

/* n steps of x along axis from lo on, in reverse or not. */
static Ref piece(Builder *b, Ref x, int axis, int64_t lo, int64_t n, bool reverse)
{
    const Ref part = build_slice(b, x, axis, lo, n);
    return reverse ? build_reverse(b, part, axis) : part;
}

/* The step at `at`, n times. */
static Ref repeated(Builder *b, Ref x, int axis, int64_t at, int64_t n)
{
    Shape s = build_type(b, x).shape, without = s;
    without.rank--;
    for (int i = axis; i < without.rank; i++)
        without.dim[i] = s.dim[i + 1];
    s.dim[axis] = n;
    const Ref one = build_reshape(b, build_slice(b, x, axis, at, 1), without);
    return build_broadcast(b, one, s, 1u << axis);
}

/* lo steps before and hi after x; n steps are there. */
static Ref extend(Builder *b, const Layer *l, Ref x, int axis, int64_t lo, int64_t hi)
{
    const int64_t n = build_type(b, x).shape.dim[axis];
    Ref part[3];
    int k = 0;
    if (l->edge == EDGE_CONSTANT)
        return build_pad(b, x, axis, lo, hi, l->fill);
    if (lo > 0)
        part[k++] = l->edge == EDGE_REFLECT    ? piece(b, x, axis, 1, lo, true)
                    : l->edge == EDGE_CIRCULAR ? piece(b, x, axis, n - lo, lo, false)
                                               : repeated(b, x, axis, 0, lo);
    part[k++] = x;
    if (hi > 0)
        part[k++] = l->edge == EDGE_REFLECT    ? piece(b, x, axis, n - 1 - hi, hi, true)
                    : l->edge == EDGE_CIRCULAR ? piece(b, x, axis, 0, hi, false)
                                               : repeated(b, x, axis, n - 1, hi);
    return build_concat(b, part, k, axis);
}

Status layer_pad(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const int n = spatial_axes(l);
    int64_t lo[3], hi[3];
    TRY(layer_wants_rank(lx, l, in[0], n + 2, spatial_names(n)));
    TRY(spread(lx, l, "before", &l->ahead, n, lo));
    TRY(spread(lx, l, "after", &l->behind, n, hi));
    const Shape s = layer_shape(lx, in[0]);
    *out = in[0];
    for (int i = 0; i < n; i++) {
        const int64_t have = s.dim[1 + i], largest = lo[i] > hi[i] ? lo[i] : hi[i];
        const bool mirrors = l->edge == EDGE_REFLECT, repeats = l->edge == EDGE_CIRCULAR;
        if (largest > INT32_MAX || have < 1 || (mirrors && largest >= have) ||
            (repeats && largest > have))
            return layer_fail(lx, l, "cannot add %lld steps to axis %d of %s", (long long)largest,
                              i, layer_shape_str(s));
        *out = extend(lx->b, l, *out, 1 + i, lo[i], hi[i]);
    }
    return ST_OK;
}
