/* SPDX-License-Identifier: Apache-2.0 */
/* grow_nn: the composites of build_nn, each with arguments from which it gives the wanted type. */
#include "ir/build_nn.h"
#include "tests/grow.h"

static Ref f32(Grow *w, Shape s, int n)
{
    return grow_value(w, (Type){ DT_F32, s }, n);
}

static bool has_zero(const Shape *s)
{
    return shape_count(s) == 0;
}

static int64_t last_dim(Type t) /* of a scalar 0 */
{
    return t.shape.rank ? t.shape.dim[t.shape.rank - 1] : 0;
}

/* A divisor of d, or 1. */
static int64_t divisor(Grow *w, int64_t d)
{
    static const int64_t by[] = { 2, 3, 4, 5, 7, 8 };
    for (int tries = 0; tries < 4 && d > 0; tries++) {
        const int64_t k = grow_chance(w, 20) ? d : by[grow_below(w, 6)];
        if (d % k == 0)
            return k;
    }
    return 1;
}

/* ------------------------------------------------------------ activations, linear layers */

static Ref nn_activation(Grow *w, Type t, int n)
{
    const Activation a = (Activation)(1 + grow_below(w, ACT_SOFTMAX));
    if (a == ACT_SOFTMAX && t.shape.rank == 0)
        return REF_NONE;
    return build_activation(&w->b, a, f32(w, t.shape, n), 0.25);
}

static Ref nn_prelu(Grow *w, Type t, int n)
{
    if (t.shape.rank == 0)
        return REF_NONE;
    const Ref x = f32(w, t.shape, n);
    return build_prelu(&w->b, x, f32(w, shape_of(1, grow_chance(w, 50) ? 1 : last_dim(t)), 0));
}

static Ref nn_softmax(Grow *w, Type t, int n)
{
    if (t.shape.rank == 0)
        return REF_NONE;
    const int axis = grow_below(w, t.shape.rank);
    const Ref x = f32(w, t.shape, n);
    return (grow_chance(w, 50) ? build_softmax : build_log_softmax)(&w->b, x, axis);
}

static Ref nn_linear(Grow *w, Type t, int n)
{
    if (t.shape.rank == 0)
        return REF_NONE;
    const int64_t count = shape_count(&t.shape), out = last_dim(t);
    Shape s = t.shape;
    s.dim[s.rank - 1] = grow_extent(w, w->max_work / (count + 1));
    const Shape weight = shape_of(2, out, s.dim[s.rank - 1]);
    if (!grow_fits(w, &s) || !grow_fits(w, &weight))
        return REF_NONE;
    const Ref x = f32(w, s, n), to = f32(w, weight, 0);
    const Ref bias = grow_chance(w, 70) ? f32(w, shape_of(1, out), 0) : REF_NONE;
    return grow_tame(w, build_linear(&w->b, x, to, bias));
}

static Ref nn_bias(Grow *w, Type t, int n)
{
    if (t.shape.rank == 0)
        return REF_NONE;
    const Ref x = f32(w, t.shape, n);
    return build_add_bias(&w->b, x, f32(w, shape_of(1, last_dim(t)), 0));
}

/* ------------------------------------------------------------ convolution, pooling */

typedef struct ConvCase {
    ConvShape s;
    Shape x, weight; /* weight: (O, C / groups, K..), or (C, O / groups, K..) */
} ConvCase;

static bool conv_case(Grow *w, Type t, bool transposed, ConvCase *c)
{
    const int n = t.shape.rank - 2;
    const int64_t out = last_dim(t);
    if (n < 1 || n > 3 || has_zero(&t.shape))
        return false;
    *c = (ConvCase){ .s = { .n = n, .groups = n < 3 && grow_chance(w, 30) ? divisor(w, out) : 1 } };
    const int64_t in = c->s.groups * (1 + grow_below(w, c->s.groups > 3 ? 1 : 4));
    c->x = t.shape;
    c->x.dim[n + 1] = in;
    c->weight =
        transposed ? shape_of(2, in, out / c->s.groups) : shape_of(2, out, in / c->s.groups);
    for (int i = 0; i < n; i++) {
        const int64_t k = 1 + grow_below(w, n == 3 ? 2 : 4), d = t.shape.dim[i + 1];
        const int64_t stride = grow_chance(w, 60) ? 1 : 1 + grow_below(w, 3);
        const int64_t dilation = grow_chance(w, 75) ? 1 : 2, span = (k - 1) * dilation + 1;
        int64_t lo = grow_below(w, 3), hi = grow_below(w, 3), x;
        if (transposed) {
            const int64_t room = d + span - 2 - lo; /* (x - 1) * stride + hi */
            if (room < 0)
                return false;
            x = room / stride + 1;
            hi = room - (x - 1) * stride;
        } else {
            x = (d - 1) * stride + span - lo - hi + grow_below(w, (int)stride);
            if (x < 1)
                return false;
        }
        c->s.stride[i] = stride;
        c->s.dilation[i] = dilation;
        c->s.lo[i] = lo;
        c->s.hi[i] = hi;
        c->x.dim[i + 1] = x;
        c->weight.dim[c->weight.rank++] = k;
    }
    const int64_t work = shape_count(&t.shape) * shape_count(&c->weight) / out;
    return grow_fits(w, &c->x) && work <= 2 * w->max_work;
}

static Ref nn_conv(Grow *w, Type t, int n)
{
    ConvCase c;
    const bool transposed = grow_chance(w, 25);
    if (!conv_case(w, t, transposed, &c))
        return REF_NONE;
    const Ref x = f32(w, c.x, n), weight = f32(w, c.weight, 0);
    const Ref bias = grow_chance(w, 60) ? f32(w, shape_of(1, last_dim(t)), 0) : REF_NONE;
    Ref y = (transposed ? build_conv_transpose : build_conv)(&w->b, x, weight, bias, &c.s);
    if (grow_chance(w, 40))
        y = build_activation(&w->b, ACT_RELU, y, 0);
    return grow_tame(w, y);
}

static Ref nn_pool(Grow *w, Type t, int n)
{
    int64_t kernel[3], stride[3];
    const int axes = t.shape.rank - 2;
    Shape s = t.shape;
    if (axes < 1 || axes > 3 || has_zero(&t.shape))
        return REF_NONE;
    for (int i = 0; i < axes; i++) {
        kernel[i] = 1 + grow_below(w, 3);
        stride[i] = grow_chance(w, 60) ? kernel[i] : 1 + grow_below(w, 3);
        s.dim[i + 1] = (s.dim[i + 1] - 1) * stride[i] + kernel[i] + grow_below(w, (int)stride[i]);
    }
    if (!grow_fits(w, &s))
        return REF_NONE;
    const Op op = grow_chance(w, 50) ? OP_amax : OP_sum;
    return build_pool(&w->b, op, f32(w, s, n), axes, kernel, stride);
}

static Ref nn_global_pool(Grow *w, Type t, int n)
{
    if (t.shape.rank != 2 || has_zero(&t.shape))
        return REF_NONE;
    Shape s = shape_of(3, t.shape.dim[0], grow_extent(w, w->max_count / shape_count(&t.shape)),
                       t.shape.dim[1]);
    if (grow_chance(w, 40))
        s = shape_of(4, s.dim[0], s.dim[1], (int64_t)1 + grow_below(w, 3), s.dim[2]);
    if (!grow_fits(w, &s) || has_zero(&s))
        return REF_NONE;
    return build_global_pool(&w->b, grow_chance(w, 50) ? OP_amax : OP_sum, f32(w, s, n));
}

/* ------------------------------------------------------------ normalisation */

/* iota(B) < rows */
static Ref valid_rows(Grow *w, int64_t batch, Ref *count)
{
    Builder *b = &w->b;
    Ref rows = graph_find_input(b->g, "rows");
    if (rows == REF_NONE)
        rows = build_input(b, INPUT_batch, "rows", DT_I32, shape_of(0));
    if (count) {
        const Ref least = build_op2(b, OP_max, rows, build_scalar(b, DT_I32, 1));
        const Ref most = build_scalar(b, DT_I32, batch > 0 ? (double)batch : 1);
        *count = build_cast(b, build_op2(b, OP_min, least, most), DT_F32);
    }
    return build_op2(b, OP_lt, build_iota(b, (Type){ DT_I32, shape_of(1, batch) }, 0), rows);
}

static Ref nn_mask_rows(Grow *w, Type t, int n)
{
    if (t.shape.rank == 0 || w->outer)
        return REF_NONE;
    const Ref x = f32(w, t.shape, n);
    return build_mask_rows(&w->b, x, valid_rows(w, t.shape.dim[0], NULL));
}

static Ref nn_batch_norm(Grow *w, Type t, int n)
{
    Builder *b = &w->b;
    if (t.shape.rank < 2 || w->outer || has_zero(&t.shape))
        return REF_NONE;
    const Type c = { DT_F32, shape_of(1, last_dim(t)) };
    BatchNorm bn = { .eps = 1e-5, .momentum = 0.1 };
    const Ref x = f32(w, t.shape, n);
    bn.weight = grow_value(w, c, 0);
    bn.bias = grow_value(w, c, 0);
    if (grow_chance(w, 30)) {
        bn.running_mean = grow_value(w, c, 0);
        bn.running_var = build_op1(b, OP_abs, grow_value(w, c, 0));
        return build_batch_norm_eval(b, x, &bn);
    }
    Ref mean, var;
    bn.running_mean = grow_input(w, INPUT_state, c);
    bn.running_var = grow_input(w, INPUT_state, c);
    bn.valid = valid_rows(w, t.shape.dim[0], &bn.count);
    const Ref y = build_batch_norm_train(b, x, &bn, &mean, &var);
    build_replace(b, bn.running_mean, mean);
    build_replace(b, bn.running_var, var);
    return y;
}

static Ref nn_row_norm(Grow *w, Type t, int n)
{
    if (t.shape.rank == 0 || has_zero(&t.shape))
        return REF_NONE;
    const int naxis = 1 + grow_below(w, t.shape.rank);
    Shape s = { .rank = (int8_t)naxis };
    for (int i = 0; i < naxis; i++)
        s.dim[i] = t.shape.dim[t.shape.rank - naxis + i];
    const Ref x = f32(w, t.shape, n);
    const Ref weight = grow_chance(w, 60) ? f32(w, s, 0) : REF_NONE;
    if (grow_chance(w, 40))
        return build_rms_norm(&w->b, x, naxis, weight, 1e-5);
    return build_layer_norm(&w->b, x, naxis, weight, weight ? f32(w, s, 0) : REF_NONE, 1e-5);
}

static Ref nn_group_norm(Grow *w, Type t, int n)
{
    if (t.shape.rank < 2 || t.shape.rank > 5 || has_zero(&t.shape))
        return REF_NONE;
    const Shape c = shape_of(1, last_dim(t));
    const int64_t groups = divisor(w, last_dim(t));
    const Ref x = f32(w, t.shape, n);
    const Ref weight = grow_chance(w, 60) ? f32(w, c, 0) : REF_NONE;
    return build_group_norm(&w->b, x, groups, weight, weight ? f32(w, c, 0) : REF_NONE, 1e-5);
}

static Ref dropped(Grow *w, Ref x, double rate)
{
    Ref word[5]; /* seed, stream, step, iter, row0 */
    for (int i = 0; i < 5; i++)
        word[i] =
            i == 1 ? build_scalar(&w->b, DT_I32, 3) : grow_value(w, (Type){ .dt = DT_I32 }, 0);
    word[4] = build_op1(&w->b, OP_abs, word[4]); /* rows count from 0 */
    return build_dropout(&w->b, x, rate, word[0], word[1], word[2], word[3], word[4]);
}

static Ref nn_dropout(Grow *w, Type t, int n)
{
    return dropped(w, f32(w, t.shape, n), 0.25);
}

/* ------------------------------------------------------------ recurrence, attention */

static Ref nn_recurrent(Grow *w, Type t, int n)
{
    typedef Ref Build(Builder *, Ref, const Recurrent *, bool);
    static const struct {
        Build *build;
        int gates;
    } kind[] = { { build_rnn, 1 }, { build_lstm, 4 }, { build_gru, 3 } };
    const int k = grow_below(w, 3);
    const bool last = t.shape.rank == 2;
    if (t.shape.rank < 2 || t.shape.rank > 3 || w->outer || has_zero(&t.shape))
        return REF_NONE;
    const int64_t units = last_dim(t), batch = t.shape.dim[t.shape.rank - 2], g = kind[k].gates;
    const int64_t time = last ? 1 + grow_below(w, 5) : t.shape.dim[0];
    const int64_t in = 1 + grow_below(w, 9);
    const Shape s = shape_of(3, time, batch, in), ih = shape_of(2, g * units, in),
                hh = shape_of(2, g * units, units);
    if (!grow_fits(w, &s) || g * units * units > w->max_work ||
        time * batch * g * units * (units + in) > 8 * w->max_work)
        return REF_NONE;
    const Ref x = f32(w, s, n);
    /* Large recurrent weights make a loop chaotic: no rounding is right or wrong any more. */
    const Recurrent r = { .w_ih = f32(w, ih, 0),
                          .w_hh = build_scale(&w->b, f32(w, hh, 0), 1 / (double)units),
                          .bias = f32(w, shape_of(1, g * units), 0),
                          .bias_hn = k == 2 ? f32(w, shape_of(1, units), 0) : REF_NONE,
                          .reverse = grow_chance(w, 40) };
    return kind[k].build(&w->b, x, &r, last);
}

static Ref nn_attention_pool(Grow *w, Type t, int n)
{
    if (t.shape.rank != 2 || has_zero(&t.shape))
        return REF_NONE;
    const int64_t time = 1 + grow_below(w, 33);
    const Shape s = shape_of(3, t.shape.dim[0], time, t.shape.dim[1]);
    if (!grow_fits(w, &s))
        return REF_NONE;
    const Ref x = f32(w, s, n), to = f32(w, shape_of(2, (int64_t)1, t.shape.dim[1]), 0);
    return build_attention_pool(&w->b, x, to, f32(w, shape_of(1, (int64_t)1), 0),
                                grow_chance(w, 50), NULL);
}

static Ref drop_weights(void *arg, Ref p)
{
    return dropped(arg, p, 0.5);
}

static Ref nn_attention(Grow *w, Type t, int n)
{
    if (t.shape.rank != 3 || has_zero(&t.shape))
        return REF_NONE;
    const int64_t batch = t.shape.dim[0], time = t.shape.dim[1], width = t.shape.dim[2];
    Attention a = { .heads = divisor(w, width), .causal = grow_chance(w, 40) };
    const int64_t keys = a.causal || grow_chance(w, 50) ? time : grow_extent(w, 65);
    const Shape s = shape_of(3, batch, keys, width);
    if (!grow_fits(w, &s) || batch * time * keys * (width + a.heads) > 2 * w->max_work || !keys)
        return REF_NONE;
    if (grow_chance(w, 30))
        a.mask = grow_value(w, (Type){ DT_BOOL, shape_of(2, batch, keys) }, grow_share(w, &n, 2));
    if (width / a.heads % 2 == 0 && grow_chance(w, 30))
        a.rotary = 100;
    if (grow_chance(w, 20)) {
        a.drop = drop_weights;
        a.drop_arg = w;
    }
    const Ref q = f32(w, t.shape, grow_share(w, &n, 3)), k = f32(w, s, grow_share(w, &n, 2));
    return build_attention(&w->b, q, k, f32(w, s, n), &a);
}

/* ------------------------------------------------------------ by place */

static Ref nn_sort(Grow *w, Type t, int n)
{
    if (t.shape.rank == 0 || t.shape.rank == MAX_RANK || has_zero(&t.shape))
        return REF_NONE;
    const int axis = grow_below(w, t.shape.rank), how = grow_below(w, 3);
    const int64_t d = t.shape.dim[axis];
    Shape s = t.shape;
    Ref position;
    if (how == 2)
        s.dim[axis] += grow_below(w, 4);
    if (shape_count(&s) * s.dim[axis] > 4 * w->max_count || d > 70)
        return REF_NONE;
    const Ref x = f32(w, s, n);
    const Ref y = how == 2 ? build_top_k(&w->b, x, axis, d, &position)
                           : build_sort(&w->b, x, axis, how, &position);
    if (grow_chance(w, 70))
        return y;
    return build_scale(&w->b, build_cast(&w->b, position, DT_F32), 0x1p-5);
}

static Ref nn_argmax(Grow *w, Type t, int n)
{
    if (t.shape.rank > 4 || has_zero(&t.shape))
        return REF_NONE;
    const int axis = grow_below(w, t.shape.rank + 1);
    Shape s = { .rank = (int8_t)(t.shape.rank + 1) };
    for (int i = 0; i < s.rank; i++)
        s.dim[i] = i == axis ? 0 : t.shape.dim[i < axis ? i : i - 1];
    s.dim[axis] = grow_extent(w, w->max_count / shape_count(&t.shape));
    if (s.dim[axis] < 1)
        return REF_NONE;
    const bool most = grow_chance(w, 50) || w->train; /* amin has no gradient */
    const Op op = most ? OP_amax : OP_amin;
    const Ref y = build_argmax(&w->b, op, f32(w, s, n), axis);
    return build_scale(&w->b, build_cast(&w->b, y, DT_F32), 0x1p-5);
}

/* ------------------------------------------------------------ losses */

static Ref nn_row_loss(Grow *w, Type t, int n)
{
    const Ref p = f32(w, t.shape, n), y = f32(w, t.shape, 0);
    switch (grow_below(w, 3)) {
    case 0:
        return build_huber(&w->b, p, y, 0.75);
    case 1:
        return build_bce(&w->b, p, build_op1(&w->b, OP_sigmoid, y));
    default:
        return build_quantile(&w->b, p, y, 0.3);
    }
}

static Ref class_numbers(Grow *w, int64_t rows, int64_t classes)
{
    Builder *b = &w->b;
    const Type t = { DT_I32, shape_of(1, rows) };
    const Ref any = build_op1(b, OP_abs, grow_value(w, t, 0));
    return build_op2(b, OP_min, any, build_scalar(b, DT_I32, (double)classes - 1));
}

static Ref nn_class_loss(Grow *w, Type t, int n)
{
    if (t.shape.rank != 1 || has_zero(&t.shape))
        return REF_NONE;
    const int64_t rows = t.shape.dim[0], room = w->max_count / rows;
    const int64_t classes = room < 2 ? 1 : 1 + grow_below(w, room < 40 ? (int)room : 40);
    const Shape s = shape_of(2, rows, classes);
    const Ref logits = f32(w, s, n);
    switch (grow_below(w, 4)) {
    case 0:
        return build_focal(&w->b, logits, class_numbers(w, rows, classes), 2);
    case 1:
        return build_kl(&w->b, logits, build_softmax(&w->b, f32(w, s, 0), 1));
    case 2:
        return build_cast(&w->b, build_is_correct(&w->b, logits, class_numbers(w, rows, classes)),
                          DT_F32);
    default:
        return build_cross_entropy(&w->b, logits, class_numbers(w, rows, classes),
                                   grow_chance(w, 50) ? 0.1 : 0);
    }
}

/* ------------------------------------------------------------ the table */

typedef Ref Composite(Grow *w, Type t, int n);
static Composite *const composite[] = {
    nn_activation, nn_prelu,     nn_softmax,   nn_linear,    nn_linear,         nn_bias,
    nn_conv,       nn_conv,      nn_pool,      nn_pool,      nn_global_pool,    nn_mask_rows,
    nn_batch_norm, nn_row_norm,  nn_row_norm,  nn_dropout,   nn_attention_pool, nn_group_norm,
    nn_recurrent,  nn_recurrent, nn_recurrent, nn_attention, nn_attention,      nn_row_loss,
    nn_class_loss, nn_sort,      nn_sort,      nn_argmax,
};

Ref grow_composite(Grow *w, Type t, int n)
{
    for (int tries = 0; tries < 6 && w->b.status == ST_OK; tries++) {
        const int at = grow_below(w, sizeof composite / sizeof *composite);
        const Ref r = composite[at](w, t, n);
        if (r != REF_NONE)
            return r;
    }
    return REF_NONE;
}
