/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_MODELS_LAYER_H
#define GTC_MODELS_LAYER_H

#include "ir/build.h"
#include "ir/build_nn.h"
#include "models/json.h"
#include "models/keys.h"
#include "models/model.h"

/* What a layer says about itself, and what it is given to build itself in a graph. */
enum { RETURN_SEQUENCE, RETURN_LAST };
enum { BIAS_DOUBLE, BIAS_SINGLE };
enum { NORM_PRE, NORM_POST };
enum {
    WEIGHT_DEFAULT,
    WEIGHT_XAVIER_UNIFORM,
    WEIGHT_XAVIER_NORMAL,
    WEIGHT_KAIMING_UNIFORM,
    WEIGHT_KAIMING_NORMAL,
    WEIGHT_ORTHOGONAL,
    WEIGHT_UNIFORM,
    WEIGHT_NORMAL,
    WEIGHT_CONSTANT,
    WEIGHT_ZEROS
};
enum { EDGE_CONSTANT, EDGE_REFLECT, EDGE_REPLICATE, EDGE_CIRCULAR };
enum { DECAY_ALL, DECAY_WEIGHTS };
enum { REDUCE_SUM, REDUCE_MEAN, REDUCE_MAX, REDUCE_MIN, REDUCE_ARGMAX, REDUCE_ARGMIN };
enum { SCORE_LINEAR, SCORE_TANH };
enum { PRECISION_AUTO, PRECISION_F32 };

typedef struct LayerCx LayerCx;
/* in[nin] is the input that the key "mask" names, where a layer has it. */
typedef Status LayerFn(LayerCx *lx, const Layer *l, const Ref *in, int nin, Ref *out);

enum {
    LAYER_SEVERAL = 2, /* two inputs or more */
    LAYER_PAIR = 12,   /* one or two */
    LAYER_ANY = 21     /* one or more */
};

typedef struct LayerType { /* one row of layers.def */
    const char *name;
    LayerFn *build;
    int ninput; /* 1, LAYER_SEVERAL, LAYER_PAIR or LAYER_ANY */
    const char *help;
} LayerType;
extern const LayerType layer_types[];
extern const int layer_ntypes;

struct Layer { /* fields are the keys of layers.def; a type uses those of its rows */
    const LayerType *type;
    const Json *at; /* for messages */
    int index;
    const char *name, *type_name, *probe, *result, *mask, *tied, *equation;
    StrList input;
    int units, filters, layers, activation, ret, bias_kind, score, axis, axes, groups, heads,
        hidden;
    int norm, init, edge, vocab, dim, blank, reduction, k;
    bool bias, bidirectional, same, affine, causal, per_channel, reverse, rotary, keep;
    Dims kernel, stride, dilation, padding, output_padding, output, scale, ahead, behind, over;
    double momentum, eps, rate, slope, alpha, start, init_value, fill, rotary_base;
    double lr_scale, decay; /* decay < 0: the optimizer's */
    Shape shape;
    struct CellSpec *cell;
};

struct LossConfig {
    const Json *at;
    int type; /* row of losses.def */
    const char *type_name, *prediction;
    double delta, smoothing, gamma, quantile;
};

struct OptimizerConfig {
    const Json *at;
    int type; /* row of optimizers.def */
    const char *type_name;
    double learning_rate, weight_decay, momentum, beta1, beta2, eps, alpha, lr_decay, start;
    bool nesterov;
    int decayed; /* DECAY_ALL, DECAY_WEIGHTS */
};

typedef enum InitKind {
    INIT_FILL,
    INIT_UNIFORM,   /* in [-value, value) */
    INIT_NORMAL,    /* of deviation value */
    INIT_ORTHOGONAL /* rows, or columns where there are more rows, of length 1 and orthogonal */
} InitKind;

/* An input of the graph that a layer or an optimizer asked for. */
typedef struct ModelInput {
    const char *name;
    InputKind kind;
    Type type;
    InitKind init;
    double value;
    Ref ref;
    int layer; /* ordinal, -1 for none */
} ModelInput;

typedef struct ModelReplace {
    Ref input, value;
} ModelReplace;

struct LayerCx {
    Ctx *cx;
    Arena *arena;
    Builder *b;
    const Model *m;
    const DataShape *d;
    BuildKind kind;
    int batch, layer;  /* layer: ordinal of the one being built */
    ModelInput *input; /* all inputs asked for so far, by build.c */
    unsigned ninput, input_cap;
    bool declared;         /* second time through: inputs are all there */
    ModelReplace *replace; /* states that layers carry on */
    unsigned nreplace, replace_cap;
    Ref rows, step, row0; /* REF_NONE where the kind has none */
    Ref *value;           /* value[i]: output of layer i */
    Ref *probe;           /* probe[i]: side output of layer i, or REF_NONE */
};

/* What the name of a parameter's running mean begins with, and that of an optimizer's state. */
#define LAYER_EMA "ema."
#define LAYER_OPT "opt."

/* The input of that name, made when it is asked for the first time. */
Ref layer_input(LayerCx *lx, InputKind kind, const char *name, DType dt, Shape shape, InitKind init,
                double value);
/* "LAYER.suffix", a parameter of the layer being built. */
Ref layer_param(LayerCx *lx, const char *suffix, Shape shape, InitKind init, double value);
/* That parameter of an earlier layer, and its type; REF_NONE when it has none. */
Ref layer_param_of(LayerCx *lx, const Layer *owner, const char *suffix, Type *type);
/* The same, carried from step to step and not trained. */
Ref layer_state(LayerCx *lx, const char *suffix, Shape shape, double value);
void layer_replace(LayerCx *lx, Ref input, Ref value); /* in train graphs */

/* (B) bool: row is valid.  REF_NONE when the graph has no rows. */
Ref layer_valid(LayerCx *lx);
/* max(rows, 1) as an f32 scalar. */
Ref layer_valid_count(LayerCx *lx);

/* loss.c, optimizer.c.  *loss is a scalar; *correct REF_NONE unless classes are predicted. */
typedef struct LossOut {
    Ref loss, prediction, correct;
} LossOut;
Status loss_build(LayerCx *lx, Ref prediction, Ref target, LossOut *out);
/* Gives each parameter its next value. */
Status optimizer_build(LayerCx *lx, Ref loss);

/* The names of losses.def and optimizers.def, in the order of their rows. */
typedef struct TypeInfo {
    const char *name, *help;
    bool classes; /* a loss of class numbers */
} TypeInfo;
extern const TypeInfo loss_types[], optimizer_types[];
extern const int loss_ntypes, optimizer_ntypes;

/* build.c: builds twice, first to learn which inputs there are; *lx keeps what was learnt. */
Status model_build_with(LayerCx *lx, const Model *m, const DataShape *d, BuildKind kind, int batch,
                        Arena *arena, Graph **out);

#endif
