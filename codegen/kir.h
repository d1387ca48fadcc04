/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_KIR_H
#define GTC_CODEGEN_KIR_H

#include "codegen/index.h"
#include "ir/base/status.h"
#include "ir/graph.h"

/* KIR, the kernel IR: a small structured program that an emitter only has to spell.
 *
 * Loops count from 0 by 1 to a constant, so divisibility is visible in the indices.  Values are in
 * SSA, scalar or vector; accumulators are the only mutable names.  Loads and stores carry one index
 * a dimension; the emitter flattens.  kir_verify proves what a wrong plan would break. */

typedef uint32_t Val; /* 0: none */
typedef uint16_t BufId;

/* What a register holds.  f16, bf16 and u8 in memory become F32, F32 and I32 in registers; bool in
 * memory (one byte) becomes a mask.  I64 is scalar only. */
typedef enum RegType { REG_F32, REG_I32, REG_I64, REG_BOOL } RegType;
typedef struct ValInfo {
    RegType reg;
    bool vec;
} ValInfo; /* vec: kernel.lanes lanes */

typedef enum BufClass {
    BUF_IN,     /* argument, read only */
    BUF_OUT,    /* argument */
    BUF_SHARED, /* workspace of the launch, at byte `offset` */
    BUF_PRIVATE, /* workspace of the team's member, at byte `offset`: of a thread on a CPU; on a GPU
                    shared memory of a block */
    BUF_REGISTERS /* GPU: registers.  The first `threads` indices are the loops around that are shared
                     out over a block's threads, so each thread has elements of its own; the others
                     are constant once loops are unrolled */
} BufClass;
typedef struct KBuf {
    const char *name; /* C identifier, unique in the kernel */
    DType dt;
    BufClass cls;
    uint32_t arg; /* IN, OUT: which of the inputs, of the outputs */
    int64_t offset;
    int8_t rank;
    int8_t threads; /* REGISTERS: leading dimensions that say whose; their strides are 0 */
    int64_t shape[MAX_RANK], stride[MAX_RANK]; /* elements; the last stride is 1 */
    bool slots;   /* the first dimension is the time slot of what one step hands to the next */
    bool aliased; /* shares memory with another buffer of the kernel: no `restrict` */
} KBuf;

/* Who runs the iterations of a loop.  On a CPU the team is of threads.  On a GPU it is of blocks:
 * one block an iteration, THREAD loops inside shared out over its threads, and what stands between
 * those is done by each of them; or, GRID, of all threads of all blocks.  Loops of one kind that
 * stand right in each other are shared out together. */
typedef enum Bind { BIND_SERIAL, BIND_UNROLL, BIND_TEAM, BIND_GRID, BIND_THREAD } Bind;

typedef enum KOp {
    K_LOOP,    /* var = 0 .. count-1 over body; TEAM on a CPU: contiguous shares */
    K_WHEN,    /* body if all guards hold */
    K_BARRIER, /* all of the team; only at top level of the kernel.  GPU: another launch; or, `last`,
                  none: the last block of this one goes on alone, with loops of one iteration */
    K_SYNC,    /* GPU: all threads of the block; in a TEAM loop, outside of THREAD loops */
    K_LAST,    /* GPU: right in TEAM loops, of which var is one: of the blocks that differ in var alone
                  the one that comes here last does body, and sees what all of them have written.
                  Which of them that is nobody knows: body says nothing of var, nor uses values from
                  outside.  Nothing stands behind it */
    K_NOTE,    /* a comment */
    K_CONST,   /* dst = value (scalar) */
    K_PICK,    /* var = arg[0], an integer scalar, clamped to [0, the variable's count) */
    K_INDEX,   /* dst (I32, or I64 when wide) = ix, a vector: ix + lane */
    K_LOAD,    /* dst = buf[ix..]; vector: `lanes` consecutive elements of the last dimension, other
                  lanes = pad.  Under guards that fail: pad in every lane. */
    K_STORE,   /* buf[ix..] = arg[0]; vector: its first `lanes` lanes */
    K_EW,      /* dst = elementwise op `ew` of arg[0..nargs); cast: to dst's type, of
                  I32 to I32 to u8: the lowest 8 bits */
    K_RAND,    /* dst = rand(seed, stream, step, iter, index): arg[0..4] scalars, arg[4] the I64
                  element index; vector: lane l uses index + l */
    K_SPLAT,   /* dst (vector) = arg[0] (scalar) in every lane */
    K_LANES,   /* dst (vector) = args[0..lanes) scalars, other lanes = pad */
    K_LANE,    /* dst (scalar) = lane `lanes` of arg[0] */
    K_TAIL,    /* dst = arg[0] in the first `lanes` lanes, pad in the others */
    K_ACC,     /* declares accumulator dst with first value arg[0] */
    K_SET,     /* accumulator dst = arg[0] */
    K_REDUCE,  /* dst (scalar) = all lanes of arg[0] by ew (OP_add OP_max OP_min), pairwise tree */
    K_ACROSS,  /* GPU: dst = arg[0] of all threads along the innermost THREAD or GRID loop by ew; the
                  loop has 32 iterations (a warp), or as many as the block has threads */
    K_MEET,    /* GPU: the threads of a warp in pairs whose numbers differ in bit `bit` alone: where it
                  is 0, dst = own arg[0] + the other's, else own arg[1] + the other's */
    K_LOAD4,   /* GPU, from kir_widen: args[0..4) = buf[ix..] and the three elements behind it */
    K_STORE4   /* GPU, from kir_widen: buf[ix..] and the three elements behind it = args[0..4) */
} KOp;

typedef struct KNode {
    uint8_t op;
    uint8_t bind, unroll; /* LOOP */
    bool step;            /* LOOP: over the steps of a scan */
    bool last;            /* BARRIER */
    uint8_t lanes;        /* LOAD STORE LANES LANE TAIL: active lanes (scalar access: 1) */
    uint8_t bit;          /* MEET */
    uint8_t nargs, nguard;
    uint16_t ew; /* EW, REDUCE: an Op */
    Var var;     /* LOOP PICK LAST; its count is the pool's */
    BufId buf;
    Val dst, arg[5];
    Val *args;        /* LANES */
    Ix *ix;           /* LOAD STORE: buf's rank; INDEX: one */
    Guard *guard;     /* WHEN LOAD */
    double value;     /* CONST; the pad of LOAD, LANES, TAIL */
    const char *text; /* NOTE */
    struct KNode *body, *next;
} KNode;

typedef struct Kir {
    Arena *arena;
    IxPool *pool;
    int lanes;   /* of vectors */
    int threads; /* GPU: of a block; 0 on a CPU */
    KBuf *buf; /* buf[0 .. nbuf) */
    uint32_t nbuf, buf_cap;
    ValInfo *val; /* val[1 .. nval) */
    uint32_t nval, val_cap;
    KNode *body;
    int64_t shared_bytes, private_bytes;
    uint32_t nin, nout; /* arguments of the kernel; kir_buf raises them to those it sees */
} Kir;

Kir *kir_new(Arena *arena, IxPool *pool, int lanes);
BufId kir_buf(Kir *k, const KBuf *b);
Val kir_val(Kir *k, RegType reg, bool vec);

/* acc[v]: value v is an accumulator, declared by K_ACC.  From k->arena. */
bool *kir_accumulators(const Kir *k);

void kir_print(const Kir *k, Strbuf *out);

/* Proves: every access in bounds, dimension by dimension, from the ranges of loops and enclosing
 * guards; stores inside a TEAM loop to IN/OUT/SHARED buffers of different iterations disjoint;
 * stores outside any TEAM loop only to PRIVATE ones; no thread reads, without a barrier between,
 * what another iteration of a TEAM loop wrote; every value defined before use, types right;
 * accumulators set only in scope.  On a GPU the same again for the threads of a block, between
 * K_SYNCs.  Fails with ST_INTERNAL, naming the buffer and the index. */
Status kir_verify(Ctx *cx, const Kir *k);
/* Part of it (kir_slots.c): the time slots of carries suffice. */
Status kir_verify_slots(Ctx *cx, const Kir *k);

/* GPU: makes loads and stores of four neighbours one of 16 bytes.  After kir_verify, which sees each
 * element alone. */
void kir_widen(Kir *k);

/* Spells k as the C function `name` (emit_c.c); header_comment stands above it. */
void emit_c(const Kir *k, const char *name, const char *header_comment, Strbuf *out);

/* Spells k as CUDA C (emit_cuda.c), a kernel NAME_0, NAME_1 .. for each part between barriers;
 * *launch (from k->arena) says how they are launched; *counters: how many the blocks count their
 * arrivals with. */
struct Launch;
void emit_cuda(const Kir *k, const char *name, const char *header_comment, Strbuf *out,
               struct Launch **launch, int32_t *nlaunch, int32_t *counters);

#endif
