/* SPDX-License-Identifier: Apache-2.0 */
/* layer_recurrent: rnn, lstm, gru and attention_pool.
 *
 * A layer sees (B, T, C); a scan wants time in front.  The transposes at either end are views, so
 * they cost nothing where the scan's neighbours take them into their index maps.
 */
#include "models/layer_build.h"

static const char *suffixed(LayerCx *lx, const char *what, int layer, bool reverse)
{
    return arena_printf(lx->arena, "%s_l%d%s", what, layer, reverse ? "_reverse" : "");
}

typedef struct Cell { /* what rnn, lstm and gru differ in */
    int gates;
    Ref (*build)(Builder *b, Ref x, const Recurrent *r, bool last);
} Cell;

/* Parameters of one direction of one layer; PyTorch's names. */
static Recurrent recurrent_params(LayerCx *lx, const Layer *l, const Cell *cell, int layer,
                                  bool reverse, int64_t in)
{
    Builder *b = lx->b;
    const int64_t h = l->units, g = cell->gates * h;
    Recurrent r = { .reverse = reverse };
    r.w_ih =
        layer_param_uniform(lx, suffixed(lx, "weight_ih", layer, reverse), shape_of(2, g, in), h);
    r.w_hh =
        layer_param_uniform(lx, suffixed(lx, "weight_hh", layer, reverse), shape_of(2, g, h), h);
    r.bias = layer_param_uniform(lx, suffixed(lx, "bias_ih", layer, reverse), shape_of(1, g), h);
    if (l->bias_kind == BIAS_SINGLE) {
        if (cell->gates == 3)
            r.bias_hn =
                layer_param_uniform(lx, suffixed(lx, "bias_hn", layer, reverse), shape_of(1, h), h);
        return r;
    }
    const Ref hh =
        layer_param_uniform(lx, suffixed(lx, "bias_hh", layer, reverse), shape_of(1, g), h);
    if (cell->gates != 3) {
        r.bias = build_op2(b, OP_add, r.bias, hh);
    } else { /* the part of r and z may be added before the loop, that of n may not */
        r.bias =
            build_op2(b, OP_add, r.bias, build_pad(b, build_slice(b, hh, 0, 0, 2 * h), 0, 0, h, 0));
        r.bias_hn = build_slice(b, hh, 0, 2 * h, h);
    }
    return r;
}

static Status build_recurrent(LayerCx *lx, const Layer *l, const Cell *cell, Ref in, Ref *out)
{
    static const int time_first[] = { 1, 0, 2 };
    TRY(layer_wants_rank(lx, l, in, 3, "(T, C)"));
    if (layer_shape(lx, in).dim[1] < 1)
        return layer_fail(lx, l, "wants at least one step");
    Ref x = build_transpose(lx->b, in, time_first);
    for (int i = 0; i < l->layers; i++) {
        const bool last = l->ret == RETURN_LAST && i == l->layers - 1;
        const int64_t width = layer_shape(lx, x).dim[2];
        Recurrent r = recurrent_params(lx, l, cell, i, false, width);
        Ref y[2] = { cell->build(lx->b, x, &r, last), REF_NONE };
        if (l->bidirectional) {
            r = recurrent_params(lx, l, cell, i, true, width);
            y[1] = cell->build(lx->b, x, &r, last);
            y[0] = build_concat(lx->b, y, 2, last ? 1 : 2);
        }
        x = y[0];
        if (lx->b->status != ST_OK)
            return lx->b->status;
    }
    *out = l->ret == RETURN_LAST ? x : build_transpose(lx->b, x, time_first);
    return ST_OK;
}

Status layer_rnn(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    return build_recurrent(lx, l, &(Cell){ 1, build_rnn }, in[0], out);
}

Status layer_lstm(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    return build_recurrent(lx, l, &(Cell){ 4, build_lstm }, in[0], out);
}

Status layer_gru(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    return build_recurrent(lx, l, &(Cell){ 3, build_gru }, in[0], out);
}

Status layer_attention_pool(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    TRY(layer_wants_rank(lx, l, in[0], 3, "(T, C)"));
    const int64_t c = layer_shape(lx, in[0]).dim[2];
    const Ref w = layer_param_uniform(lx, "weight", shape_of(2, (int64_t)1, c), c);
    const Ref bias = layer_param_uniform(lx, "bias", shape_of(1, (int64_t)1), c);
    Ref weights = REF_NONE;
    *out = build_attention_pool(lx->b, in[0], w, bias, l->score == SCORE_TANH, &weights);
    if (l->probe)
        lx->probe[l->index] = weights;
    return ST_OK;
}
