/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_EVAL_OP_H
#define GTC_IR_EVAL_OP_H

#include "ir/eval.h"

/* What the evaluator and the ops' own files share; nobody else includes this.
 *
 * A Value is a strided view of doubles, so that reshape, transpose, broadcast, slice and window
 * move nothing.  Memory belongs to the value of the node that allocated it (own) and is released
 * after the last node that reads it, directly or through views. */
typedef struct Value {
    Type type;
    double *at;
    int64_t stride[MAX_RANK]; /* in elements; 0 repeats */
    double *own;              /* NULL: a view of another value's memory */
} Value;

typedef struct Eval {
    Ctx *cx;
    EvalMode mode;
    const Graph *g;
} Eval;

/* One op: fills out[0 .. result count).  eval.c rounds what elementwise ops, reductions and
 * contractions return (all packed); the others round what they add. */
typedef Status EvalFn(const Eval *e, const Node *n, const Value *arg, Value *out);
#define OP(id, args, cls, flags, prec, shape, attr, grad) EvalFn eval_##id;
#define EW(id, args, flags, prec, shape, grad, value)
#include "ir/ops.def"
EvalFn eval_elementwise;
extern EvalFn *const eval_fn[OP_COUNT];

/* An elementwise op into memory that is there, packed. */
void eval_elementwise_to(const Node *n, const Value *arg, const Value *out);
/* out[i] = the elementwise op of a[k][i * step[k]]; integers are not wrapped. */
void eval_row(Op op, int64_t n, double *out, const double *const *a, const int64_t *step);

/* A hot loop: compiled for wider vectors as well, the machine's being taken at start-up.  The same
 * sums in the same order, so the same bits. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(GTC_SANITIZE) && defined(__clang__)
#define EVAL_WIDE __attribute__((target_clones("avx512dq", "avx2", "default")))
#elif defined(__x86_64__) && defined(__GLIBC__) && !defined(GTC_SANITIZE) && __GNUC__ >= 12
#define EVAL_WIDE __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define EVAL_WIDE
#endif

/* c[batch, m, n] += a b, c packed; the tables say where along each axis the elements of a and b
 * stand. */
typedef struct EvalProduct {
    int64_t batch, m, k, n;
    const int64_t *a_batch, *a_m, *a_k, *b_batch, *b_k, *b_n;
} EvalProduct;
void eval_product(const EvalProduct *p, double *c, const double *a, const double *b);

/* What dies after which node. */
typedef struct EvalLives {
    bool *live;     /* by Ref: some output needs it */
    Ref *dead_head; /* by Ref r: the first value to release after r; 0: none */
    Ref *dead_next; /* by Ref: the next of that list */
} EvalLives;
/* keep: outputs live to the end, and not only to their last reader or, without one, themselves. */
EvalLives eval_lives(const Graph *g, bool keep, Arena *arena);

/* A graph made ready to be evaluated many times: what dies after which node. */
typedef struct EvalBody EvalBody;
Status eval_body_open(Ctx *cx, const Graph *g, EvalBody **out);
void eval_body_close(EvalBody *b); /* NULL is fine */
/* in[i] for input i; output i is written, packed, to dst[i]. */
Status eval_body_run(EvalBody *b, EvalMode mode, const Value *in, double *const *dst);

/* Packed memory for one value; not initialised. */
Status value_new(const Eval *e, const Type *type, Value *out);
Value value_packed(const Type *type, double *at);    /* a view */
void value_copy(const Value *dst, const Value *src); /* equal shapes */
void value_fill(const Value *dst, double x);
double value_round(const Eval *e, DType dt, double x);
void value_round_all(const Eval *e, Value *v);
Status eval_alloc(Ctx *cx, size_t bytes, void *out); /* *(void **)out; os->release frees */
/* How many numbers an iota's value holds: its axis', one where the tensor is empty. */
int64_t eval_iota_count(const Node *n);

/* Loops over a shape with up to 8 strided operands.  Unit axes are dropped and axes that are
 * contiguous in every operand merged, so inner loops are as long as they can be:
 *     for (nest_start(&w, &shape, 2, stride); w.more; nest_next(&w))
 *         for (i = 0; i < w.n; i++) a[w.off[0] + i * w.step[0]] ... */
enum { NEST_OPERANDS = 8 };
typedef struct Nest {
    bool more;
    int rank, noperand; /* rank of the outer loops */
    int64_t n, step[NEST_OPERANDS], off[NEST_OPERANDS];
    int64_t dim[MAX_RANK], at[MAX_RANK], stride[NEST_OPERANDS][MAX_RANK];
} Nest;
void nest_start(Nest *w, const Shape *shape, int noperand, const int64_t *const *stride);
void nest_next(Nest *w);

#endif
