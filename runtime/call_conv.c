/* SPDX-License-Identifier: Apache-2.0 */
/* call_conv: a product with windows of a padded tensor as one convolution.
 *
 *     forward   matmul(window(pad(x)), w)   over the window's axes and the channels
 *     weight    matmul(window(pad(x)), y)   over rows and places, or the other way round
 *
 * The gradient of x is the first form too: windows of a padded y by the weight turned around, whose
 * axes run backwards in memory; a library calls that the true convolution, as against correlation.
 * Where the convolution has a stride, the padding also puts zeros between the places of y; this is
 * what libraries have as the gradient of the image, with the numbers turned around.
 * Channels lie next to each other (stride 1) in x and y; how the weight lies is free. */
#include <string.h>

#include "runtime/call.h"

typedef struct Windows { /* what window(pad(view)) says besides */
    int n; /* axes of space: result axes are rows 0, places 1 .., window n + 1 .., channel 2n + 1 */
    bool spread; /* zeros between places */
    int64_t step[CALL_SPACE];
} Windows;

static const char *read_windows(const Graph *g, Ref r, CallConv *c, Windows *w)
{
    const Node *node = &g->node[r];
    const Node *pad = &g->node[node->arg[0]];
    const int n = w->n = node->attr.window.n;
    CallView v;
    if (node->attr.window.axis[0] != 1 || node->type.shape.rank != 2 * n + 2)
        return "the windows are not over all axes between rows and channels";
    const bool padded = pad->op == OP_pad;
    const char *why = call_view(g, padded ? pad->arg[0] : node->arg[0], &v);
    if (why)
        return why;
    for (int i = 0; i < v.rank && padded; i++)
        if (pad->attr.pad.value != 0 ||
            ((i == 0 || i == v.rank - 1) &&
             (pad->attr.pad.step[i] != 1 || pad->attr.pad.lo[i] || pad->attr.pad.hi[i])))
            return "the padding is not of zeros around the space alone";
    c->n = n < 2 ? 2 : n;
    c->rows = v.extent[0];
    c->in = v.extent[n + 1];
    c->x = (CallTensor){ v.arg, v.offset, v.stride[0], v.stride[n + 1], { 0 } };
    for (int i = 0; i < c->n; i++)
        c->from[i] = c->to[i] = c->kernel[i] = c->stride[i] = c->dilation[i] = w->step[i] = 1;
    for (int i = 0; i < n; i++) {
        const int k = c->n - n + i;
        c->from[k] = v.extent[i + 1];
        c->to[k] = node->type.shape.dim[i + 1];
        c->kernel[k] = node->attr.window.kernel[i];
        c->stride[k] = node->attr.window.stride[i];
        c->dilation[k] = node->attr.window.dilation[i];
        c->before[k] = padded ? pad->attr.pad.lo[i + 1] : 0;
        c->after[k] = padded ? pad->attr.pad.hi[i + 1] : 0;
        c->x.space[k] = v.stride[i + 1];
        w->step[k] = padded ? pad->attr.pad.step[i + 1] : 1;
        w->spread |= w->step[k] > 1;
    }
    if (n < 2)
        c->x.space[0] = c->x.space[1] * c->from[1];
    return NULL;
}

/* The axis of the other argument that is summed with axis `mine`, -1: none. */
static int paired(const Node *product, bool swapped, int mine)
{
    const uint8_t *a = product->attr.contract.over_a, *b = product->attr.contract.over_b;
    for (int i = 0; i < product->attr.contract.nover; i++)
        if ((swapped ? b : a)[i] == mine)
            return (swapped ? a : b)[i];
    return -1;
}

/* The one axis of a tensor of that rank that is not summed over. */
static int left_over(const Node *product, bool swapped, int rank)
{
    const uint8_t *theirs = swapped ? product->attr.contract.over_a : product->attr.contract.over_b;
    for (int i = 0; i < rank; i++)
        if (!memchr(theirs, i, product->attr.contract.nover))
            return i;
    return -1;
}

/* The weight's strides; a window that runs backwards in all axes is turned around. */
static const char *turn(CallConv *c)
{
    int back = 0, forth = 0;
    for (int i = 0; i < c->n; i++)
        if (c->kernel[i] > 1) {
            back += c->w.space[i] < 0;
            forth += c->w.space[i] > 0;
        }
    if (back && forth)
        return "the weight runs backwards along some axes only";
    c->flipped = back > 0;
    for (int i = 0; i < c->n; i++)
        if (c->w.space[i] < 0) {
            c->w.offset += (c->kernel[i] - 1) * c->w.space[i];
            c->w.space[i] = -c->w.space[i];
        }
    return NULL;
}

static const char *forward(const Graph *g, const Node *product, const Windows *w, CallConv *c)
{
    CallView v;
    const int out = left_over(product, false, w->n + 2);
    const char *why = call_view(g, product->arg[1], &v);
    if (why)
        return why;
    if (v.rank != w->n + 2 || out < 0)
        return "the weight has more axes than results, channels and windows";
    c->out = v.extent[out];
    c->w = (CallTensor){ v.arg, v.offset, v.stride[out], 0, { 0 } };
    c->w.channel = v.stride[paired(product, false, 2 * w->n + 1)];
    for (int i = 0; i < w->n; i++)
        c->w.space[c->n - w->n + i] = v.stride[paired(product, false, w->n + 1 + i)];
    c->y = (CallTensor){ -1, 0, 0, 1, { 0 } };
    int64_t step = c->out;
    for (int i = c->n - 1; i >= 0; i--) {
        c->y.space[i] = step;
        step *= c->to[i];
    }
    c->y.row = step;
    why = turn(c);
    if (w->n < 2)
        c->w.space[0] = c->w.space[1] * c->kernel[1];
    return why;
}

static const char *backward(const Graph *g, const Node *product, bool swapped, const Windows *w,
                            CallConv *c)
{
    CallView v;
    const int n = w->n, out = left_over(product, swapped, n + 2);
    const char *why = call_view(g, product->arg[swapped ? 0 : 1], &v);
    if (why)
        return why;
    if (v.rank != n + 2 || out < 0)
        return "the gradient has more axes than rows, places and results";
    c->kind = CONV_WEIGHT;
    c->out = v.extent[out];
    c->y = (CallTensor){
        v.arg, v.offset, v.stride[paired(product, swapped, 0)], v.stride[out], { 0 }
    };
    for (int i = 0; i < n; i++)
        c->y.space[c->n - n + i] = v.stride[paired(product, swapped, i + 1)];
    if (n < 2)
        c->y.space[0] = c->y.space[1] * c->to[1];
    /* the result: window, channels, and results first or last */
    int64_t step = swapped ? 1 : c->out;
    c->w = (CallTensor){ -1, 0, 1, step, { 0 } };
    step *= c->in;
    for (int i = c->n - 1; i >= 0; i--) {
        c->w.space[i] = step;
        step *= c->kernel[i];
    }
    if (swapped)
        c->w.row = step;
    return NULL;
}

/* A forward convolution of what zeros spread out is the gradient of an image. */
static const char *transpose(CallConv *c, const Windows *w)
{
    const CallConv f = *c;
    c->kind = CONV_IMAGE;
    c->flipped = !f.flipped;
    c->in = f.out;
    c->out = f.in;
    c->x = f.y;
    c->y = f.x;
    c->w.row = f.w.channel;
    c->w.channel = f.w.row;
    for (int i = 0; i < c->n; i++) {
        const int64_t reach = (f.kernel[i] - 1) * f.dilation[i];
        c->from[i] = f.to[i];
        c->to[i] = f.from[i];
        c->stride[i] = w->step[i];
        c->before[i] = reach - f.before[i];
        const int64_t spare = f.to[i] + c->before[i] - reach - 1 - (f.from[i] - 1) * w->step[i];
        /* as much behind as in front where that gives as many places: more engines take it */
        c->after[i] = c->before[i] >= -spare && c->before[i] < w->step[i] - spare ? c->before[i]
                      : spare < 0                                                 ? -spare
                                                                                  : 0;
        if (f.stride[i] != 1 || c->before[i] < 0 || spare >= w->step[i])
            return "zeros between places, and no image whose gradient that is";
    }
    return NULL;
}

/* Which axes of the windows are summed over, as bits. */
static unsigned summed(const Node *product, bool swapped)
{
    unsigned bits = 0;
    for (int i = 0; i < product->attr.contract.nover; i++)
        bits |= 1u << (swapped ? product->attr.contract.over_b : product->attr.contract.over_a)[i];
    return bits;
}

static const char *too_large(const CallConv *c)
{
    const int64_t n[] = { c->rows, c->in, c->out, c->x.row, c->w.row, c->y.row };
    for (size_t i = 0; i < sizeof n / sizeof *n; i++)
        if (n[i] > INT32_MAX)
            return "more than 2^31 elements in a row";
    return NULL;
}

const char *call_conv(const Graph *body, CallConv *out)
{
    const Node *product = body->nout ? &body->node[body->out[0].value] : NULL;
    Windows w = { .spread = false };
    if (body->nout != 1)
        return "it has several results";
    if (product->op != OP_matmul)
        return "more is computed than a convolution";
    const bool swapped = body->node[product->arg[0]].op != OP_window;
    const Ref windows = product->arg[swapped ? 1 : 0];
    if (body->node[windows].op != OP_window)
        return "";
    for (uint32_t i = 0; i < body->ninput; i++)
        if (body->node[body->input[i]].type.dt != DT_F32)
            return "an operand is not f32";
    for (Ref r = 1; r < body->nnode; r++)
        if (shape_count(&body->node[r].type.shape) == 0)
            return "it is empty";
    memset(out, 0, sizeof *out);
    const char *why = read_windows(body, windows, out, &w);
    if (why)
        return why;
    const unsigned places = (1u << (w.n + 1)) - 1, all = (1u << (2 * w.n + 2)) - 1;
    if (product->attr.contract.nbatch)
        return "its channels are in groups";
    if (summed(product, swapped) == (all & ~places) && !swapped)
        why = forward(body, product, &w, out);
    else if (summed(product, swapped) == places && !w.spread)
        why = backward(body, product, swapped, &w, out);
    else
        return "it sums over other axes than a convolution";
    if (!why && w.spread)
        why = transpose(out, &w);
    if (!why && ((out->in > 1 && out->x.channel != 1) || (out->out > 1 && out->y.channel != 1)))
        why = "the channels are not next to each other";
    return why ? why : too_large(out);
}
