/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_ORACLE_OP_H
#define GTC_IR_ORACLE_OP_H

#include "ir/eval_op.h"
#include "ir/oracle.h"

/* What the oracle and the ops' bounds share; nobody else includes this.
 *
 * A Bounded is a value of the evaluator and two spans around it: SPAN_ALL holds what any correct
 * program may give, SPAN_DECIDED what it may give if every decision goes as in ref; and samples of
 * both, each in two copies (oracle_sample.c).  The planes are views of each other where they are
 * equal, as `sure` says; what is stored (inputs, results of bodies and graphs) is one for both. */
typedef struct Span {
    Value lo, hi;
} Span;

enum { SPAN_ALL, SPAN_DECIDED, SPAN_COUNT };
enum { COPIES = 2 };

typedef enum Sure {
    SURE_EXACT,   /* spans and samples are ref itself */
    SURE_DECIDED, /* both spans are one */
    SURE_OPEN,    /* the second span and its samples have memory of their own */
} Sure;

typedef struct Bounded {
    Value ref;
    Span span[SPAN_COUNT];
    Value sample[COPIES][SPAN_COUNT][ORACLE_SAMPLES];
    Sure sure;
} Bounded;

enum {
    STORED_PLANES = 1 + 2 * SPAN_COUNT + SPAN_COUNT * ORACLE_SAMPLES, /* without the second copy */
    BOUND_PLANES = STORED_PLANES + SPAN_COUNT * ORACLE_SAMPLES,
};
Value *bound_plane(Bounded *v, int i); /* ref, the spans' ends, the samples */

/* The span of one op's result around ref (evaluated, rounded when it is an integer): of shape
 * n->type.  Under SPAN_DECIDED a decision is taken from ref; under SPAN_ALL a function says in
 * `undecided` that one is open.
 *
 * noise (packed, zeroed, one for each element; NULL for views and sources): about what the op errs
 * by itself, which a sample is moved by at random; ANYWHERE where that says nothing, as the result
 * bends inside the interval, so that a sample may stand anywhere in it. */
typedef struct BoundCall {
    const Eval *e;
    const Node *n; /* of a block of an elementwise op: a copy with the block's shape */
    Ref self;
    const Bounded *arg;
    const Value *ref;
    int which;
    bool undecided;
    double *noise;
    double *other; /* likewise: of an open decision the answer that is not ref's, else NaN */
    double *after; /* likewise, of one that is open only as one before it may have gone wrong */
    bool flat;     /* the result does not move at all but by decisions: samples are ref */
} BoundCall;

enum { ANYWHERE = -1 };

/* An elementwise op writes to the span and the samples that are there, else to new ones. */
typedef Status BoundFn(BoundCall *c, Span *out);

/* One function an op: bound_elementwise with a row in oracle_elementwise.c, or its own.  The ops
 * with a body are the walk's (oracle.c). */
#define OP(id, args, cls, flags, prec, shape, attr, grad) BOUND_DECLARE_##cls(id)
#define EW(id, args, flags, prec, shape, grad, value)
#define BOUND_DECLARE_SOURCE(id)   BoundFn bound_##id;
#define BOUND_DECLARE_VIEW(id)     BoundFn bound_##id;
#define BOUND_DECLARE_REDUCE(id)   BoundFn bound_##id;
#define BOUND_DECLARE_CONTRACT(id) BoundFn bound_##id;
#define BOUND_DECLARE_REGION(id)
#define BOUND_DECLARE_TUPLE(id)
#define BOUND_DECLARE_GRADIENT(id)
#include "ir/ops.def"
#undef BOUND_DECLARE_SOURCE
#undef BOUND_DECLARE_VIEW
#undef BOUND_DECLARE_REDUCE
#undef BOUND_DECLARE_CONTRACT
#undef BOUND_DECLARE_REGION
#undef BOUND_DECLARE_TUPLE
#undef BOUND_DECLARE_GRADIENT
BoundFn bound_elementwise;

/* Elementwise ops of one shape that read one another, as the update of a parameter: computed block
 * by block, so that what only they read is never whole (oracle_chain.c). */
typedef struct BoundLink {
    const Node *n;
    Ref self;
    const Bounded *arg[3]; /* NULL: what link from[i] gives */
    int from[3];
    Bounded *out; /* NULL: nothing but links read it */
} BoundLink;
bool bound_can_link(const Graph *g, const Node *n, Sure args);
Status bound_chain(const Eval *e, const BoundLink *link, int nlink);

/* Ends by the op's own evaluator, which sums at most so many elements of its first argument. */
Status bound_adding(BoundCall *c, double terms, Span *out);

/* How numbers are rounded on the way to a tensor of dtype dt: kernels compute in f32, and what is
 * stored in 16 bits is rounded once more. */
typedef struct Rounding {
    double unit, store; /* relative to what is rounded: of a computation, of a store */
    double tiny, most;  /* what may become zero when it is stored; the largest number */
    double flush;       /* what may become zero on the way */
} Rounding;
Rounding bound_rounding(DType dt);
/* Widens [lo, hi] by `error` units of `scale` (NAN: of the element itself), and by a store.  With a
 * scale it is a sum of `error` terms, each of which, and each sum on the way, may be flushed. */
void bound_widen(const Rounding *r, double error, double scale, double *lo, double *hi);
/* fmax and fmin, which no compiler inlines. */
static inline double bound_max(double x, double y) { return x >= y || y != y ? x : y; }
static inline double bound_min(double x, double y) { return x <= y || y != y ? x : y; }
/* Anything at all, NaN too. */
void bound_anything(double *lo, double *hi);
bool bound_is_anything(double lo, double hi);
/* The samples of a result whose spans are there, and the spans cut to them.  scratch: room for the
 * arguments. */
Status bound_samples(BoundCall *c, Value *scratch, Bounded *out);
/* After lo and hi were computed as they came: makes them an interval around ref, or anything where
 * they are none.  certain: no argument was anything. */
void bound_settle(double ref, bool certain, double *lo, double *hi);

#endif
