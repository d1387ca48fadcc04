/* SPDX-License-Identifier: Apache-2.0 */
/* layers: the table of layer types, and the layers that only move or combine elements. */
#include "models/layer_build.h"

#include <math.h>
#include <string.h>

/* To add a layer: a row of layers.def with its keys, a function, tests. */
const LayerType layer_types[] = {
#define N                             LAYER_SEVERAL
#define PAIR                          LAYER_PAIR
#define ANY                           LAYER_ANY
#define LAYER(type, fn, inputs, help) { #type, fn, inputs, help },
#include "models/layers.def"
#undef N
#undef PAIR
#undef ANY
};
const int layer_ntypes = sizeof layer_types / sizeof layer_types[0];

Status layer_fail(LayerCx *lx, const Layer *l, const char *fmt, ...)
{
    Strbuf s = { 0 };
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(&s, fmt, ap);
    va_end(ap);
    json_fail(lx->cx, ST_SHAPE, l->at, NULL, "%s \"%s\": %s", l->type->name, l->name,
              strbuf_str(&s));
    strbuf_free(&s);
    return ST_SHAPE;
}

Shape layer_shape(LayerCx *lx, Ref r)
{
    return build_type(lx->b, r).shape;
}

const char *layer_shape_str(Shape s)
{
    Shape row = { .rank = (int8_t)(s.rank - 1) };
    memcpy(row.dim, s.dim + 1, sizeof s.dim - sizeof s.dim[0]);
    return shape_str(&row);
}

Status layer_wants_rank(LayerCx *lx, const Layer *l, Ref x, int rank, const char *axes)
{
    const Shape s = layer_shape(lx, x);
    if (s.rank == rank)
        return ST_OK;
    return layer_fail(lx, l, "wants an input of shape %s, got %s", axes, layer_shape_str(s));
}

Ref layer_param_uniform(LayerCx *lx, const char *suffix, Shape shape, int64_t fan)
{
    return layer_param(lx, suffix, shape, INIT_UNIFORM, 1 / sqrt(fan > 0 ? (double)fan : 1));
}

/* torch.nn.init, of a layer followed by relu: gain sqrt(2) for kaiming, 1 for the others. */
Ref layer_param_init(LayerCx *lx, const Layer *l, const char *name, Shape shape, int64_t fan)
{
    double taps = 1;
    for (int i = 2; i < shape.rank; i++)
        taps *= (double)shape.dim[i];
    const double in = fmax(taps * (double)(shape.rank > 1 ? shape.dim[1] : shape.dim[0]), 1);
    const double both = in + (shape.rank > 1 ? taps * (double)shape.dim[0] : 0);
    switch (l->init) {
    case WEIGHT_XAVIER_UNIFORM:
        return layer_param(lx, name, shape, INIT_UNIFORM, sqrt(6 / both));
    case WEIGHT_XAVIER_NORMAL:
        return layer_param(lx, name, shape, INIT_NORMAL, sqrt(2 / both));
    case WEIGHT_KAIMING_UNIFORM:
        return layer_param(lx, name, shape, INIT_UNIFORM, sqrt(6 / in));
    case WEIGHT_KAIMING_NORMAL:
        return layer_param(lx, name, shape, INIT_NORMAL, sqrt(2 / in));
    case WEIGHT_ORTHOGONAL:
        return layer_param(lx, name, shape, INIT_ORTHOGONAL, 1);
    case WEIGHT_UNIFORM:
        return layer_param(lx, name, shape, INIT_UNIFORM, l->init_value);
    case WEIGHT_NORMAL:
        return layer_param(lx, name, shape, INIT_NORMAL, l->init_value);
    case WEIGHT_CONSTANT:
        return layer_param(lx, name, shape, INIT_FILL, l->init_value);
    case WEIGHT_ZEROS:
        return layer_param(lx, name, shape, INIT_FILL, 0);
    default:
        return layer_param_uniform(lx, name, shape, fan);
    }
}

Ref layer_param_weight(LayerCx *lx, const Layer *l, Shape shape, int64_t fan)
{
    return layer_param_init(lx, l, "weight", shape, fan);
}

/* Of leaky_relu the slope, of elu alpha. */
static double slope_of(const Layer *l, Activation a)
{
    return a == ACT_ELU ? l->alpha : l->slope;
}

Ref layer_activate(LayerCx *lx, const Layer *l, Ref x)
{
    const Activation a = (Activation)l->activation;
    return build_activation(lx->b, a, x, slope_of(l, a));
}

Status layer_activation(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    for (int i = 0; i < key_nchoice; i++) {
        if (strcmp(key_choice[i].set, "activation") == 0 &&
            strcmp(key_choice[i].name, l->type->name) == 0)
            *out = build_activation(lx->b, (Activation)key_choice[i].value, in[0],
                                    slope_of(l, (Activation)key_choice[i].value));
    }
    return ST_OK;
}

Status layer_prelu(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const Shape s = layer_shape(lx, in[0]);
    if (s.rank < 2)
        return layer_fail(lx, l, "wants an input with channels, got %s", layer_shape_str(s));
    const Shape c = shape_of(1, l->per_channel ? s.dim[s.rank - 1] : (int64_t)1);
    *out = build_prelu(lx->b, in[0], layer_param(lx, "weight", c, INIT_FILL, l->start));
    return ST_OK;
}

/* The weight of the layer that "tied" names, as (units, n). */
static Status tied_weight(LayerCx *lx, const Layer *l, int64_t n, Ref *out)
{
    const Layer *of = NULL;
    Type t;
    for (int i = 0; i < l->index; i++)
        if (strcmp(lx->m->layer[i]->name, l->tied) == 0)
            of = lx->m->layer[i];
    const bool table = of && of->type->build == layer_embedding;
    Ref w = table || (of && of->type->build == layer_dense) ? layer_param_of(lx, of, "weight", &t)
                                                            : REF_NONE;
    if (w == REF_NONE) /* a tied layer has no weight of its own */
        return layer_fail(lx, l,
                          "\"tied\" wants an earlier embedding or dense layer with a weight, "
                          "got \"%s\"",
                          l->tied);
    if (!table) {
        w = build_transpose(lx->b, w, (int[]){ 1, 0 });
        t.shape = shape_of(2, t.shape.dim[1], t.shape.dim[0]);
    }
    const Shape want = shape_of(2, (int64_t)l->units, n);
    if (!shape_eq(&t.shape, &want))
        return layer_fail(lx, l, "the weight of \"%s\" leads from %d to %d here, not from %d to %d",
                          l->tied, (int)t.shape.dim[1], (int)t.shape.dim[0], (int)n, l->units);
    *out = w;
    return ST_OK;
}

Status layer_dense(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const Shape s = layer_shape(lx, in[0]);
    if (s.rank < 2)
        return layer_fail(lx, l, "wants an input with an axis to multiply, got %s",
                          layer_shape_str(s));
    const int64_t n = s.dim[s.rank - 1];
    Ref w = REF_NONE;
    if (l->tied)
        TRY(tied_weight(lx, l, n, &w));
    else
        w = layer_param_weight(lx, l, shape_of(2, (int64_t)l->units, n), n);
    const Ref bias =
        l->bias ? layer_param_uniform(lx, "bias", shape_of(1, (int64_t)l->units), n) : REF_NONE;
    *out = layer_activate(lx, l, build_linear(lx->b, in[0], w, bias));
    return ST_OK;
}

/* The table is normal of deviation 1 at first, as torch.nn.Embedding's. */
Status layer_embedding(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    Builder *b = lx->b;
    const Shape s = layer_shape(lx, in[0]);
    if (s.rank == MAX_RANK)
        return layer_fail(lx, l, "wants an input of fewer axes, got %s", layer_shape_str(s));
    const bool words = build_type(b, in[0]).dt == DT_I32;
    const int vocab = l->vocab ? l->vocab : words ? lx->d->words : 0;
    if (vocab == 0)
        return layer_fail(lx, l, "wants \"vocab\": how many numbers there are");
    if (words && vocab < lx->d->words)
        return layer_fail(lx, l, "the data have %d words, \"vocab\" is %d", lx->d->words, vocab);
    const Shape table = shape_of(2, (int64_t)vocab, (int64_t)l->dim);
    const Ref w = l->init == WEIGHT_DEFAULT ? layer_param(lx, "weight", table, INIT_NORMAL, 1)
                                            : layer_param_weight(lx, l, table, l->dim);
    const Ref word = build_cast(b, in[0], DT_I32);
    Ref y = build_gather(b, w, word, 0);
    if (l->blank >= 0) {
        const Ref blank = build_const(b, l->blank, (Type){ DT_I32, s });
        const Ref is = build_like(b, build_op2(b, OP_eq, word, blank), y, 1u << s.rank);
        y = build_select(b, is, build_const(b, 0, build_type(b, y)), y);
    }
    *out = y;
    return ST_OK;
}

Status layer_last(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    TRY(layer_wants_rank(lx, l, in[0], 3, "(T, C)"));
    const Shape s = layer_shape(lx, in[0]);
    if (s.dim[1] < 1)
        return layer_fail(lx, l, "there is no last of 0 steps");
    const Ref step = build_slice(lx->b, in[0], 1, s.dim[1] - 1, 1);
    *out = build_reshape(lx->b, step, shape_of(2, s.dim[0], s.dim[2]));
    return ST_OK;
}

Status layer_cumsum(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    TRY(layer_wants_rank(lx, l, in[0], 3, "(T, C)"));
    *out = build_cumsum(lx->b, in[0], 1);
    return ST_OK;
}

Status layer_transpose(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    TRY(layer_wants_rank(lx, l, in[0], 3, "(T, C)"));
    *out = build_transpose(lx->b, in[0], (int[]){ 0, 2, 1 });
    return ST_OK;
}

static int64_t row_count(Shape s)
{
    int64_t n = 1;
    for (int i = 1; i < s.rank; i++)
        n *= s.dim[i];
    return n;
}

Status layer_flatten(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)l, (void)nin;
    const Shape s = layer_shape(lx, in[0]);
    *out = build_reshape(lx->b, in[0], shape_of(2, s.dim[0], row_count(s)));
    return ST_OK;
}

Status layer_reshape(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    (void)nin;
    const Shape s = layer_shape(lx, in[0]);
    const int64_t have = row_count(s);
    Shape to = { .rank = (int8_t)(l->shape.rank + 1), .dim = { s.dim[0] } };
    int64_t known = 1;
    int open = -1;
    for (int i = 0; i < l->shape.rank; i++) {
        const int64_t n = l->shape.dim[i];
        to.dim[i + 1] = n;
        if (n < 0 && open >= 0)
            return layer_fail(lx, l, "only one extent may be -1");
        if (n < 0)
            open = i + 1;
        else if (n > 0 && known > have / n + 1)
            return layer_fail(lx, l, "cannot make %s from %s", shape_str(&l->shape),
                              layer_shape_str(s));
        else
            known *= n;
    }
    if (open >= 0 && known > 0)
        to.dim[open] = have / known;
    if (row_count(to) != have)
        return layer_fail(lx, l, "cannot make %s from %s", shape_str(&l->shape),
                          layer_shape_str(s));
    *out = build_reshape(lx->b, in[0], to);
    return ST_OK;
}

Status layer_concat(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    const Shape first = layer_shape(lx, in[0]);
    const int64_t axis = l->axis < 0 ? (int64_t)first.rank + l->axis : (int64_t)l->axis + 1;
    if (axis < 1 || axis >= first.rank)
        return layer_fail(lx, l, "there is no axis %d in %s", l->axis, layer_shape_str(first));
    for (int i = 1; i < nin; i++) {
        Shape s = layer_shape(lx, in[i]);
        s.dim[axis] = first.dim[axis];
        if (!shape_eq(&s, &first))
            return layer_fail(lx, l, "inputs differ in more than axis %d: %s and %s", (int)axis - 1,
                              layer_shape_str(first), layer_shape_str(layer_shape(lx, in[i])));
    }
    *out = build_concat(lx->b, in, nin, (int)axis);
    return ST_OK;
}

Status layer_combine(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out)
{
    static const struct {
        const char *name;
        Op op;
    } pair[] = { { "add", OP_add },
                 { "subtract", OP_sub },
                 { "multiply", OP_mul },
                 { "minimum", OP_min },
                 { "maximum", OP_max } };
    Op op = OP_none;
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
        if (strcmp(l->type->name, pair[i].name) == 0)
            op = pair[i].op;
    gtc_assert(op != OP_none, "%s combines nothing", l->type->name);
    const Shape first = layer_shape(lx, in[0]);
    *out = in[0];
    for (int i = 1; i < nin; i++) {
        const Shape s = layer_shape(lx, in[i]);
        if (!shape_eq(&s, &first))
            return layer_fail(lx, l, "wants inputs of equal shapes, got %s and %s",
                              layer_shape_str(first), layer_shape_str(s));
        *out = build_op2(lx->b, op, *out, in[i]);
    }
    return ST_OK;
}
