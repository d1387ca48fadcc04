/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_BUILD_NN_H
#define GTC_IR_BUILD_NN_H

#include "ir/build.h"

/* Composites: what a framework calls a layer, built from primitives.  They stand in the region
 * that is open (build_region); without one, in a region of their own name.  Activations are
 * channels-last; weights have PyTorch's shapes. */
typedef enum Activation {
    ACT_NONE,
    ACT_RELU,
    ACT_LEAKY_RELU,
    ACT_GELU, /* with erf */
    ACT_GELU_TANH,
    ACT_SILU,
    ACT_TANH,
    ACT_SIGMOID,
    ACT_ELU, /* slope is alpha */
    ACT_SOFTPLUS,
    ACT_MISH,
    ACT_HARD_SIGMOID,
    ACT_HARD_SWISH,
    ACT_HARD_TANH,
    ACT_RELU6,
    ACT_SOFTMAX /* over the last axis */
} Activation;

/* Opens a region of this kind when none is open, and restores what was. */
uint32_t build_open(Builder *b, const char *kind);
Ref build_close(Builder *b, uint32_t before, Ref result);

Ref build_activation(Builder *b, Activation a, Ref x,
                     double slope);             /* of leaky_relu; alpha of elu */
Ref build_prelu(Builder *b, Ref x, Ref weight); /* weight (1) or (C) */
Ref build_softmax(Builder *b, Ref x, int axis);
Ref build_log_softmax(Builder *b, Ref x, int axis);

/* x sorted along an axis; *position (may be NULL), i32, is where each element stood.  Stable; NaN
 * is above every number. */
Ref build_sort(Builder *b, Ref x, int axis, bool descending, Ref *position);
Ref build_top_k(Builder *b, Ref x, int axis, int64_t k, Ref *position); /* the k greatest, in order */

/* i32: where the first OP_amax or OP_amin along an axis stands, which is gone; of NaN, the last. */
Ref build_argmax(Builder *b, Op op, Ref x, int axis);

/* "bij,bjk->bik": sums of products over the axes that the result does not name.  Letters name the
 * axes of each operand; one that stands twice in an operand is refused.  Without "->" the result
 * has, in order, the letters that stand in one operand only. */
Ref build_einsum(Builder *b, const char *equation, const Ref *x, int n);

/* (.., I) with w (O, I), and bias (O) or REF_NONE, to (.., O). */
Ref build_linear(Builder *b, Ref x, Ref w, Ref bias);
/* x + bias, bias along the last axis. */
Ref build_add_bias(Builder *b, Ref x, Ref bias);

typedef struct ConvShape { /* of n spatial axes; padding before and after */
    int n;
    int64_t stride[3], dilation[3], lo[3], hi[3];
    int64_t groups; /* 0 is 1 */
} ConvShape;
/* (B, X.., C) with w (O, C / groups, K..) to (B, X'.., O): the product of w with a window of the
 * padded x.  A channel sees only those of its group. */
Ref build_conv(Builder *b, Ref x, Ref w, Ref bias, const ConvShape *s);
/* With w (C, O / groups, K..): what build_conv of that stride would take back; lo and hi are the
 * zeros around x with stride - 1 zeros between its steps. */
Ref build_conv_transpose(Builder *b, Ref x, Ref w, Ref bias, const ConvShape *s);
/* OP_amax, or OP_sum for the mean. */
Ref build_pool(Builder *b, Op op, Ref x, int n, const int64_t *kernel, const int64_t *stride);
Ref build_global_pool(Builder *b, Op op, Ref x); /* (B, X.., C) to (B, C) */

/* (valid ? x : 0); valid is (B) bool, or REF_NONE for x itself. */
Ref build_mask_rows(Builder *b, Ref x, Ref valid);

/* The sum over axes of (x - mean)^2 where valid, which may be REF_NONE, says that a row counts; mean
 * is the mean of these elements.  No gradient goes by way of it: that would be a multiple of the sum
 * of x - mean, which is 0, and would make the gradient one sum over x after another. */
Ref build_squared_deviations(Builder *b, Ref x, Ref mean, Ref valid, unsigned axes);

typedef struct BatchNorm {
    Ref weight, bias;              /* (C) */
    Ref running_mean, running_var; /* (C) */
    Ref valid;                     /* (B) bool: rows that count */
    Ref count;                     /* f32 scalar: number of valid rows, >= 1 */
    double eps, momentum;          /* momentum: the share of the new value */
} BatchNorm;
/* Normalises by the statistics of the valid rows; *mean and *var are the next running ones (var
 * unbiased). */
Ref build_batch_norm_train(Builder *b, Ref x, const BatchNorm *n, Ref *mean, Ref *var);
Ref build_batch_norm_eval(Builder *b, Ref x, const BatchNorm *n);

/* Each row by itself, over its last naxis axes; weight and bias have their shape, or REF_NONE. */
Ref build_layer_norm(Builder *b, Ref x, int naxis, Ref weight, Ref bias, double eps);
Ref build_rms_norm(Builder *b, Ref x, int naxis, Ref weight, double eps);
/* (B, X.., C): over X.. and the channels of a group; weight and bias (C) or REF_NONE. */
Ref build_group_norm(Builder *b, Ref x, int64_t groups, Ref weight, Ref bias, double eps);

/* Zeroes a share `rate` of x and scales up the rest; the other arguments are rand's. */
Ref build_dropout(Builder *b, Ref x, double rate, Ref seed, Ref stream, Ref step, Ref iter,
                  Ref row0);

typedef struct Recurrent { /* one direction of one layer */
    Ref w_ih, w_hh;        /* (G*H, I), (G*H, H): gates i f g o, or r z n */
    Ref bias;              /* (G*H) */
    Ref bias_hn;           /* gru: (H), inside the product with the reset gate */
    bool reverse;
} Recurrent;
/* x (T, B, I).  Returns the states of all steps (T, B, H), or the last (B, H); from zeros. */
Ref build_rnn(Builder *b, Ref x, const Recurrent *r, bool last); /* tanh; G is 1 */
Ref build_lstm(Builder *b, Ref x, const Recurrent *r, bool last);
Ref build_gru(Builder *b, Ref x, const Recurrent *r, bool last);

/* (B, T, C) weighted over time by softmax(linear(x or tanh(x))) with w (1, C), bias (1): (B, C).
 * *weights, where not NULL, is (B, T). */
Ref build_attention_pool(Builder *b, Ref x, Ref w, Ref bias, bool tanh_score, Ref *weights);

typedef struct Attention {
    int64_t heads;                 /* divides D */
    bool causal;                   /* a query sees keys up to its own time */
    Ref mask;                      /* (B, S) bool: keys that may be seen, or REF_NONE for all; a
                                      query that sees none gets 0 */
    double rotary;                 /* base of the rotary positions of q and k; 0: none.  The
                                      channels of a head are then even in number */
    Ref (*drop)(void *arg, Ref p); /* what happens to the weights (B, H, T, S), or NULL */
    void *drop_arg;
} Attention;
/* q (B, T, D), k and v (B, S, D): (B, T, D). */
Ref build_attention(Builder *b, Ref q, Ref k, Ref v, const Attention *a);

/* (T, C): sin and cos of t / 10000^(2i / C) in channels 2i and 2i + 1 (Vaswani et al. 2017). */
Ref build_sine_positions(Builder *b, int64_t steps, int64_t channels);

/* Row losses: prediction and target (B, ..); the result has their shape (cross_entropy: (B, ..), of
 * logits (B, .., K) and i32 labels (B, ..)). */
Ref build_huber(Builder *b, Ref prediction, Ref target, double delta);
Ref build_bce(Builder *b, Ref logits, Ref target);
Ref build_cross_entropy(Builder *b, Ref logits, Ref labels, double smoothing);
Ref build_focal(Builder *b, Ref logits, Ref labels, double gamma); /* as cross_entropy */
Ref build_quantile(Builder *b, Ref prediction, Ref target, double q);
/* Of the target's probabilities from softmax(logits), over the last axis: (B). */
Ref build_kl(Builder *b, Ref logits, Ref target);
/* (B, ..) bool: the first largest logit is the label's. */
Ref build_is_correct(Builder *b, Ref logits, Ref labels);

#endif
