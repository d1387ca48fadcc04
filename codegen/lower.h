/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_LOWER_H
#define GTC_CODEGEN_LOWER_H

#include "codegen/plan.h"

/* What lower.c (loops) and lower_value.c (what stands in them) share: where the instantiator is. */

enum { MAX_POINTS = 128, EXPR_VALUE_OF = 1u << 30, EXPR_PICK_OF = 1u << 29 };

typedef struct Span {
    Ix base;
    int64_t count;
} Span;

typedef struct Known { /* a value and what it is of */
    uint64_t hash;
    uint32_t id, nkey, next; /* next: in its bucket, 1 + index */
    const Ix *key;
    Val val;
} Known;

typedef struct Point {
    int64_t off[MAX_AXES];
    int lanes;
} Point;

typedef struct Low {
    Ctx *cx;
    Arena *arena;
    Kir *k;
    Stages *s;
    IxPool *p;
    const Plan *plan;
    int lanes;
    Ix *env; /* by axis: its place now, or IX_KEEP */
    Span *span;
    uint32_t nenv;
    KNode **tail;
    Known *known;
    uint32_t nknown, known_cap, bucket[1024];
    BufId *buf; /* KIR buffer of each stage buffer, +1 */
    Ix team_base;
    const Nest *n;
    Var vec; /* axis along the lanes, 0 while single lanes are made */
    int w;   /* active lanes */
    Var lane_var[65];
    Ix base[MAX_AXES]; /* of the tile, by nest axis */
    Point *point;
    int npoint;
    const struct Threads *threads; /* lower_held.c: where we are in the block */
} Low;

typedef struct Key {
    uint64_t hash;
    uint32_t n;
    Ix at[68];
} Key;


typedef struct Open {
    KNode **tail;
    uint32_t known;
} Open;

/* Reductions of one nest over the same axes: one loop. */
typedef struct Batch {
    const Stage *st[MAX_NEST_REDS];
    int n;
    Val *part; /* row: accumulators by point, stage, vector */
    int nv;
} Batch;

/* Everything but the kernel's nodes: environment, spans and buffers of the plan. */
void low_begin(Low *l, Ctx *cx, Arena *arena, const Plan *plan, int lanes);
void low_at(Low *l, int point); /* stands at that point of the tile */
/* Calls f for each batch of the nest l->n. */
void low_batches(Low *l, void (*f)(Low *l, Batch *b));
void low_contract(Low *l, Batch *b);   /* in registers, an accumulator a point */
void low_accumulate(Low *l, const Batch *b); /* one step of it, at the present reduced axes */
void low_start(Low *l, const Batch *b); /* accumulators at all points */
Val low_reduced(Low *l, const Stage *st); /* what st reduces to at this point */
void low_known_as(Low *l, const Stage *st, Val v); /* v is what st reduces to at this point */
void low_roots(Low *l, bool zero);     /* computes and stores the roots of l->n at every point */

/* GPU (lower_cuda.c, lower_blocked.c). */
Open low_when(Low *l, Ix ix, int64_t count); /* what follows is done where 0 <= ix < count */
/* Puts the reduced axes of st where the point of that number is, the last running fastest; gives the
 * place of the outermost, which is too great when the number is. */
Ix low_reduced_at(Low *l, const Stage *st, Ix number);
/* A nest with n->blocked; finish: NULL, or what the last block of a tile does with its parts. */
void low_blocked(Low *l, const Nest *n, const Nest *finish);
void low_held_fill(Low *l, const Nest *n); /* a nest with n->held: what comes before the steps, */
void low_held(Low *l, const Nest *n);      /* and at each */

KNode *low_put(Low *l, KOp op); /* appends a node */
Val low_const(Low *l, double value, RegType reg);
Val low_ew(Low *l, Op op, RegType reg, bool vec, int nargs, const Val *arg);
Val low_splat(Low *l, Val v); /* v itself when it is a vector */
RegType low_reg(const Low *l, Val v);
Val low_accumulator(Low *l, Val first);
void low_set(Low *l, Val acc, Val v);

/* The memo.  A key is what is asked for (an expression, EXPR_VALUE_OF | stage, or EXPR_PICK_OF |
 * pick, which gives a variable) and the places
 * of the axes it depends on; 0: not known. */
void low_key(const Low *l, uint32_t id, const Var *dep, int ndep, Key *key);
Val low_known(const Low *l, uint32_t id, const Key *key);
void low_remember(Low *l, uint32_t id, const Key *key, Val v);
void low_forget(Low *l, uint32_t keep); /* all but the first `keep` */

Open low_open(Low *l, Var v, Bind bind, int unroll); /* a loop; what follows is its body */
void low_close(Low *l, Open o);

BufId low_buf(Low *l, uint16_t b);
/* The expression at the present point: l->env, l->vec and l->w say which. */
Val low_value(Low *l, ExprId id);
/* The place of the pick of an AT expression whose value is known here. */
Ix low_pick(Low *l, const Expr *at);
void low_store(Low *l, const Store *st, Val v);

#endif
