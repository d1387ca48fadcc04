/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_STAGES_H
#define GTC_CODEGEN_STAGES_H

#include "codegen/index.h"
#include "codegen/kir.h"

/* What a kernel computes, without how: named axes, buffers, and stages over them.
 *
 * A stage has output axes, reduced axes and a scalar expression whose leaves read buffers through
 * index maps.  Views are gone: they became index expressions.  A stage that stores is a *root*; a
 * stage that reduces is used by value, at its own point, from roots over the same axes.
 * Nothing here knows layers, loops, vectors or threads. */

typedef uint32_t ExprId; /* hash-consed: equal expressions have equal ids; 0: none */
typedef uint16_t StageId;

enum { MAX_GUARDS = 32 }; /* of a value or a read: pads and slices of windows in each other */

typedef enum ExprKind {
    EX_CONST, /* value */
    EX_INDEX, /* the number ix[0], as reg */
    EX_READ,  /* buf[ix..] where the guards hold, else value */
    EX_VALUE, /* of reducing stage `stage` at this point */
    EX_EW,    /* op over arg[0..nargs) */
    EX_RAND,  /* arg[0..4): seed stream step iter; arg[4]: row0; ix[0]: element, ix[1]: elements a
                 row */
    EX_WHEN,  /* arg[0] where the guards hold, else value */
    EX_AT     /* arg[1] where the pick `var` is arg[0], an integer, clamped to the pick's range */
} ExprKind;

typedef struct Expr {
    uint8_t kind, reg; /* ExprKind, RegType */
    uint8_t nargs, nix, nguard;
    uint16_t op;   /* EW */
    uint16_t buf;  /* READ */
    StageId stage; /* VALUE */
    Var var;       /* AT */
    ExprId arg[5];
    const Ix *ix;
    const Guard *guard;
    double value;
    const Var *dep; /* axes it depends on, ascending */
    uint16_t ndep;
    Ref node; /* whose value this was first (not part of its identity), or REF_NONE */
    bool in_scan;
} Expr;

/* A pick: a variable that no loop counts, whose value an expression computes (gather).  Index maps
 * use it like an axis, and its count bounds it. */
typedef struct Pick {
    Var var;
    ExprId at;
} Pick;

typedef enum Home {
    HOME_ARG,
    HOME_PRIVATE,
    HOME_SHARED,
    HOME_REGISTERS,
    HOME_NONE /* the plan made others of it */
} Home;       /* decided by the plan */

typedef struct GBuf {
    const char *name;
    DType dt;
    int8_t rank;
    int64_t shape[MAX_RANK];
    bool is_out, is_in;
    uint32_t arg;    /* of in or out */
    bool slots;      /* first dimension is the time slot of a carry: another index, another step */
    bool padded;     /* last extent rounded up to whole vectors: reads may take all lanes */
    Home home;       /* of a temporary */
    int8_t team_dim; /* PRIVATE: dimension folded to the team's block, or -1 */
    int8_t threads;  /* REGISTERS: leading dimensions that are loops over a block's threads */
} GBuf;

typedef struct Store {
    uint16_t buf;
    Ix ix[MAX_RANK];
} Store;

typedef enum When {
    WHEN_PLAIN,
    WHEN_INIT,
    WHEN_STEP,
    WHEN_LAST
} When; /* the last three: a scan's */

typedef struct Stage {
    Var *axis; /* output axes, outermost first */
    Var *red;  /* reduced axes */
    uint8_t naxis, nred;
    uint8_t rop; /* OP_add, OP_max, OP_min when nred > 0 (a reduction over no axis has none) */
    ExprId e;
    Store *store; /* root: where the value goes; NULL otherwise */
    uint8_t nstore;
    uint8_t when; /* When */
    StageId acc;  /* the stage whose accumulator it adds to (itself) */
    bool adds;    /* root: reads what it stores, at the same index, so its points come one by one */
    Var pick;     /* that the index uses whose points are not in order, or 0 */
    const Guard *only; /* GPU: root: stores only where that holds, or NULL */
    bool dropped; /* the plan made others of it */
    Ref node;     /* of the body graph (for dumps and for storing on demand) */
    bool in_scan; /* node is of the scan's body */
} Stage;

typedef struct Stages {
    Arena *arena;
    IxPool *pool;
    Expr *expr;
    uint32_t nexpr, expr_cap, *hash, hash_cap;
    GBuf *buf;
    uint32_t nbuf, buf_cap;
    Stage *stage;
    uint32_t nstage, stage_cap;
    Pick *pick;
    uint32_t npick, pick_cap;
    Var seq; /* the scan's iteration number, 0 .. trip-1, or 0 */
    int64_t trip;
    bool has_scan;
} Stages;

/* Which values of the body are kept in a buffer of their own, beside the outputs: what somebody
 * reads at other points than it is produced at.  One flag a node, of the body and of its scan's. */
typedef struct Stored {
    uint8_t *body, *scan;
    bool all;
} Stored;

/* The first guess, from the graph alone; `all`: everything that is no view (the last resort); gpu:
 * contractions may read what is padded without a copy, and a short vector is computed again rather
 * than kept, since keeping it takes a launch. */
Stored stages_stored(Arena *arena, const Graph *body, bool all, bool gpu);
/* The most reductions that one value of the body computes in place, counted once a path. */
uint32_t stages_most_inside(Arena *arena, const Graph *body);

/* Stages of a fusion body.  Fails with ST_TYPE for what no kernel can hold (f64). */
Status stages_build(Ctx *cx, Arena *arena, const Graph *body, const Stored *stored, Stages **out);

const Expr *stages_expr(const Stages *s, ExprId e);
ExprId expr_value(Stages *s, StageId stage); /* of a reducing stage, at its own point */
/* Building and rewriting expressions (the planner puts operand copies in). */
ExprId expr_add(Stages *s, const Expr *e);
ExprId expr_read(Stages *s, uint16_t buf, const Ix *ix);
ExprId expr_map(Stages *s, ExprId e, ExprId (*leaf)(void *arg, ExprId e),
                void *arg); /* leaf: READ and VALUE */
/* Calls f for each distinct expression below e, arguments first; or for each READ. */
void expr_walk(Stages *s, ExprId e, void (*f)(void *arg, const Expr *e), void *arg);
void expr_reads(Stages *s, ExprId e, void (*f)(void *arg, const Expr *read), void *arg);
/* How a map moves along axis v: 0 not at all, 1 to the next element of the last dimension, else 2.
 */
int map_stride(Stages *s, const Ix *ix, int nix, Var v, int lanes);
uint16_t stages_temp(Stages *s, const char *name, DType dt, int rank, const int64_t *shape);
StageId stages_add(Stages *s, const Stage *st);
Var stages_pick(Stages *s, ExprId at, int64_t count); /* the pick of this value and count */
bool stages_is_pick(const Stages *s, Var v);
void stages_print(const Stages *s, Strbuf *out);
RegType reg_of(DType dt);

#endif
