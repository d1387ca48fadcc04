/* SPDX-License-Identifier: Apache-2.0 */
/* Elementwise ops: the value column of ops.def, compiled over doubles (over ints for logic). */
#include <math.h>

#include "ir/eval_op.h"

#define gtc_max(a, b)       ((a) > (b) || (a) != (a) ? (a) : (b))
#define gtc_min(a, b)       ((a) < (b) || (a) != (a) ? (a) : (b))
#define gtc_abs(x)          fabs(x)
#define gtc_floor(x)        floor(x)
#define gtc_sqrt(x)         sqrt(x)
#define gtc_rsqrt(x)        (1 / sqrt(x))
#define gtc_exp(x)          exp(x)
#define gtc_expm1(x)        expm1(x)
#define gtc_log(x)          log(x)
#define gtc_log1p(x)        log1p(x)
#define gtc_tanh(x)         tanh(x)
#define gtc_sigmoid(x)      (1 / (1 + exp(-(x))))
#define gtc_erf(x)          erf(x)
#define gtc_sin(x)          sin(x)
#define gtc_cos(x)          cos(x)
#define gtc_not(x)          (!(x))
#define gtc_select(c, a, b) ((c) != 0 ? (a) : (b))
#define gtc_cast(x)         (x) /* rounding to the node's dtype does it */

#define ELEMENT_same    double
#define ELEMENT_compare double
#define ELEMENT_select  double
#define ELEMENT_floats  double
#define ELEMENT_cast    double
#define ELEMENT_logic   int

#define READ(T, k) const T x##k = (T)a[k][i * step[k]]
#define READ_1(T)  READ(T, 0)
#define READ_2(T)                                                                                  \
    READ(T, 0);                                                                                    \
    READ(T, 1)
#define READ_3(T)                                                                                  \
    READ(T, 0);                                                                                    \
    READ(T, 1);                                                                                    \
    READ(T, 2)

typedef void RowFn(int64_t n, double *out, const double *const *a, const int64_t *step);

#define OP(id, args, cls, flags, prec, shape, attr, grad)
#define EW(id, args, flags, prec, shape, grad, value)                                              \
    static void row_##id(int64_t n, double *out, const double *const *a, const int64_t *step)      \
    {                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                          \
            READ_##args(ELEMENT_##shape);                                                          \
            out[i] = (double)(value);                                                              \
        }                                                                                          \
    }
#include "ir/ops.def"

static RowFn *const row_fn[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad)
#define EW(id, args, flags, prec, shape, grad, value) [OP_##id] = row_##id,
#include "ir/ops.def"
};

void eval_row(Op op, int64_t n, double *out, const double *const *a, const int64_t *step)
{
    row_fn[op](n, out, a, step);
}

/* Products of i32 wrap, also those that doubles cannot hold. */
static void row_mul_i32(int64_t n, double *out, const double *const *a, const int64_t *step)
{
    for (int64_t i = 0; i < n; i++) {
        READ_2(double);
        out[i] = x0 * x1;
        if (fabs(out[i]) > 0x1p53 && fabs(x0) <= 0x1p31 && fabs(x1) <= 0x1p31)
            out[i] = (double)(int32_t)((uint32_t)(int64_t)x0 * (uint32_t)(int64_t)x1);
    }
}

void eval_elementwise_to(const Node *n, const Value *arg, const Value *out)
{
    RowFn *const row = n->op == OP_mul && n->type.dt == DT_I32 ? row_mul_i32 : row_fn[n->op];
    const int64_t *stride[NEST_OPERANDS] = { out->stride };
    for (uint32_t k = 0; k < n->nargs; k++)
        stride[k + 1] = arg[k].stride;

    Nest w;
    for (nest_start(&w, &n->type.shape, (int)n->nargs + 1, stride); w.more; nest_next(&w)) {
        const double *a[3] = { 0 };
        for (uint32_t k = 0; k < n->nargs; k++)
            a[k] = arg[k].at + w.off[k + 1];
        row(w.n, out->at + w.off[0], a, w.step + 1);
    }
}

Status eval_elementwise(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    TRY(value_new(e, &n->type, out));
    eval_elementwise_to(n, arg, out);
    return ST_OK;
}
