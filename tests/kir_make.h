/* SPDX-License-Identifier: Apache-2.0 */
/* Short names to write KIR by hand in tests. */
#ifndef GTC_TESTS_KIR_MAKE_H
#define GTC_TESTS_KIR_MAKE_H

#include <string.h>

#include "codegen/kir.h"

typedef struct Make {
    Arena *arena;
    IxPool *p;
    Kir *k;
    KNode **tail;
    KNode **stack[16];
    int depth;
    uint32_t nvar;
} Make;

static inline Make make_new(int lanes)
{
    Make m = { .arena = arena_new() };
    m.p = ix_pool_new(m.arena);
    m.k = kir_new(m.arena, m.p, lanes);
    m.k->shared_bytes = 1 << 16;
    m.k->private_bytes = 1 << 16;
    m.tail = &m.k->body;
    m.nvar = 1;
    return m;
}

static inline KNode *make_put(Make *m, KOp op)
{
    KNode *n = arena_alloc(m->arena, sizeof *n);
    n->op = (uint8_t)op;
    n->lanes = 1;
    *m->tail = n;
    m->tail = &n->next;
    return n;
}

static inline void make_in(Make *m, KNode *n)
{
    m->stack[m->depth++] = m->tail;
    m->tail = &n->body;
}

static inline void make_out(Make *m)
{
    m->tail = m->stack[--m->depth];
}

static inline Ix make_loop(Make *m, const char *name, int64_t count, Bind bind)
{
    KNode *n = make_put(m, K_LOOP);
    n->var = ix_var_new(m->p, name, count);
    n->bind = (uint8_t)bind;
    n->unroll = 4;
    m->nvar = n->var + 1u;
    make_in(m, n);
    return ix_var(m->p, n->var);
}

static inline void make_guard(Make *m, KNode *n, Ix ix, int64_t lo, int64_t hi)
{
    Guard *g = arena_array(m->arena, Guard, n->nguard + 1);
    if (n->nguard)
        memcpy(g, n->guard, n->nguard * sizeof *g);
    g[n->nguard++] = (Guard){ ix, lo, hi };
    n->guard = g;
}

static inline KNode *make_when(Make *m, Ix ix, int64_t lo, int64_t hi)
{
    KNode *n = make_put(m, K_WHEN);
    make_guard(m, n, ix, lo, hi);
    make_in(m, n);
    return n;
}

/* Packed; rank from the first shape that is < 0. */
static inline BufId make_buf(Make *m, const char *name, DType dt, BufClass cls, uint32_t where,
                             int64_t d0, int64_t d1, int64_t d2)
{
    const int64_t shape[] = { d0, d1, d2 };
    KBuf b = { .name = name, .dt = dt, .cls = cls };
    while (b.rank < 3 && shape[b.rank] >= 0)
        b.rank++;
    int64_t stride = 1;
    for (int d = b.rank - 1; d >= 0; d--) {
        b.shape[d] = shape[d];
        b.stride[d] = stride;
        stride *= shape[d];
    }
    if (cls == BUF_IN || cls == BUF_OUT)
        b.arg = where;
    else
        b.offset = where;
    return kir_buf(m->k, &b);
}

static inline Ix *make_ix(Make *m, Ix a, Ix b, Ix c)
{
    const Ix ix[] = { a, b, c };
    return arena_copy(m->arena, ix, sizeof ix);
}

/* lanes 0: a scalar. */
static inline KNode *make_load_node(Make *m, RegType reg, BufId buf, int lanes, Ix a, Ix b, Ix c)
{
    KNode *n = make_put(m, K_LOAD);
    n->buf = buf;
    n->lanes = (uint8_t)(lanes ? lanes : 1);
    n->ix = make_ix(m, a, b, c);
    n->dst = kir_val(m->k, reg, lanes > 0);
    return n;
}

static inline Val make_load(Make *m, BufId buf, int lanes, Ix a, Ix b)
{
    return make_load_node(m, REG_F32, buf, lanes, a, b, 0)->dst;
}

static inline void make_store(Make *m, BufId buf, int lanes, Val v, Ix a, Ix b)
{
    KNode *n = make_put(m, K_STORE);
    n->buf = buf;
    n->lanes = (uint8_t)(lanes ? lanes : 1);
    n->ix = make_ix(m, a, b, 0);
    n->arg[0] = v;
}

static inline Val make_const(Make *m, RegType reg, double x)
{
    KNode *n = make_put(m, K_CONST);
    n->value = x;
    return n->dst = kir_val(m->k, reg, false);
}

/* Any node of up to 3 arguments. */
static inline KNode *make_node(Make *m, KOp op, RegType reg, bool vec, Val a, Val b, Val c)
{
    KNode *n = make_put(m, op);
    const Val arg[] = { a, b, c };
    while (n->nargs < 3 && arg[n->nargs])
        n->nargs++;
    memcpy(n->arg, arg, sizeof arg);
    n->dst = kir_val(m->k, reg, vec);
    return n;
}

static inline Val make_ew(Make *m, Op op, RegType reg, bool vec, Val a, Val b, Val c)
{
    KNode *n = make_node(m, K_EW, reg, vec, a, b, c);
    n->ew = (uint16_t)op;
    return n->dst;
}

static inline Val make_splat(Make *m, Val v)
{
    return make_node(m, K_SPLAT, m->k->val[v].reg, true, v, 0, 0)->dst;
}

static inline void make_set(Make *m, Val acc, Val v)
{
    KNode *n = make_put(m, K_SET);
    n->dst = acc;
    n->arg[0] = v;
}

#endif
