/* SPDX-License-Identifier: Apache-2.0 */
/* KIR, executed node by node: what an emitter's output is compared with.  Threads run one after
 * the other between two barriers, so a program that passes kir_verify gives the same result in any
 * order. */
#ifndef GTC_TESTS_KIR_INTERP_H
#define GTC_TESTS_KIR_INTERP_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/kir.h"
#include "ir/base/rng.h"

enum { INTERP_LANES = 16, INTERP_THREADS = 8 };

typedef union InterpVal { /* masks are 0 or 1 here */
    float f[INTERP_LANES];
    int32_t i[INTERP_LANES];
    int64_t l[INTERP_LANES];
} InterpVal;

typedef struct Interp {
    const Kir *k;
    void *const *arg;
    int tid, nt;
    InterpVal *val;
    Ix *at; /* by Var: the constant it is now, or IX_KEEP */
    unsigned nvar;
} Interp;

static int64_t interp_ix(Interp *e, Ix ix)
{
    int64_t c = 0;
    const bool known = ix_is_const(e->k->pool, ix_subst(e->k->pool, ix, e->at, e->nvar), &c);
    gtc_assert(known, "an index that is not known");
    return c;
}

static bool interp_guards(Interp *e, const KNode *n)
{
    for (int g = 0; g < n->nguard; g++) {
        const int64_t x = interp_ix(e, n->guard[g].ix);
        if (x < n->guard[g].lo || x >= n->guard[g].hi)
            return false;
    }
    return true;
}

/* 16 bits of a float with `m` mantissa bits; least exponent of a normal number: 1 - bias. */
static uint16_t interp_narrow(float x, int m, int bias)
{
    const uint16_t sign = signbit(x) ? 0x8000 : 0, inf = (uint16_t)((2 * bias + 1) << m);
    if (isnan(x))
        return (uint16_t)(inf | 1 << (m - 1) | sign);
    double a = fabs((double)x);
    int e = a < ldexp(1, 1 - bias) ? 1 - bias : ilogb(a);
    a = nearbyint(ldexp(a, m - e)); /* ties to even */
    if (a >= ldexp(1, m + 1)) {
        a /= 2;
        e++;
    }
    if (e > bias)
        return inf | sign;
    const uint32_t u = (uint32_t)a;
    return (uint16_t)(u < 1u << m ? u : (uint32_t)(e + bias) << m | (u - (1u << m))) | sign;
}

static float interp_widen(uint16_t h, int m, int bias)
{
    const int e = h >> m & (2 * bias + 1), u = h & ((1 << m) - 1);
    double x = e == 2 * bias + 1 ? (u ? (double)NAN : (double)INFINITY)
               : e == 0          ? ldexp(u, 1 - bias - m)
                                 : ldexp(u + (1 << m), e - bias - m);
    return (float)(h & 0x8000 ? -x : x);
}

static char *interp_element(Interp *e, const KNode *n)
{
    const KBuf *b = &e->k->buf[n->buf];
    int64_t off = 0;
    for (int d = 0; d < b->rank; d++)
        off += interp_ix(e, n->ix[d]) * b->stride[d];
    const uint32_t base = e->k->nin + e->k->nout;
    char *p = b->cls == BUF_IN    ? e->arg[b->arg]
              : b->cls == BUF_OUT ? e->arg[e->k->nin + b->arg]
              : b->cls == BUF_SHARED
                  ? (char *)e->arg[base] + b->offset
                  : (char *)e->arg[base + 1] + e->k->private_bytes * e->tid + b->offset;
    return p + off * dtype_bytes(b->dt);
}

static void interp_pad(RegType reg, InterpVal *v, int lane, double x)
{
    if (reg == REG_F32)
        v->f[lane] = (float)x;
    else if (reg == REG_I64)
        v->l[lane] = (int64_t)x;
    else
        v->i[lane] = reg == REG_BOOL ? x != 0 : (int32_t)x;
}

static void interp_load(Interp *e, const KNode *n)
{
    const ValInfo t = e->k->val[n->dst];
    InterpVal *v = &e->val[n->dst];
    const DType dt = e->k->buf[n->buf].dt;
    const int lanes = t.vec ? e->k->lanes : 1;
    const bool live = interp_guards(e, n);
    const char *p = live ? interp_element(e, n) : NULL;
    for (int l = 0; l < lanes; l++) {
        const char *q = live ? p + l * dtype_bytes(dt) : NULL;
        if (!live || l >= n->lanes)
            interp_pad(t.reg, v, l, n->value);
        else if (dt == DT_F32)
            memcpy(&v->f[l], q, 4);
        else if (dt == DT_I32)
            memcpy(&v->i[l], q, 4);
        else if (dt == DT_I64)
            memcpy(&v->l[l], q, 8);
        else if (dt == DT_F16)
            v->f[l] = interp_widen(*(const uint16_t *)q, 10, 15);
        else if (dt == DT_BF16)
            v->f[l] = interp_widen(*(const uint16_t *)q, 7, 127);
        else
            v->i[l] = dt == DT_BOOL ? *(const uint8_t *)q != 0 : *(const uint8_t *)q;
    }
}

static void interp_store(Interp *e, const KNode *n)
{
    const InterpVal *v = &e->val[n->arg[0]];
    const DType dt = e->k->buf[n->buf].dt;
    char *p = interp_element(e, n);
    for (int l = 0; l < n->lanes; l++) {
        char *q = p + l * dtype_bytes(dt);
        if (dt == DT_F16 || dt == DT_BF16) {
            const uint16_t h =
                dt == DT_F16 ? interp_narrow(v->f[l], 10, 15) : interp_narrow(v->f[l], 7, 127);
            memcpy(q, &h, 2);
        } else if (dt == DT_U8 || dt == DT_BOOL) {
            *(uint8_t *)q = (uint8_t)v->i[l];
        } else if (dt == DT_I64) {
            memcpy(q, &v->l[l], 8);
        } else {
            memcpy(q, &v->i[l], 4); /* f32 too */
        }
    }
}

/* One lane of a number as a double, and back. */
static double interp_get(RegType reg, const InterpVal *v, int l)
{
    return reg == REG_F32 ? (double)v->f[l] : reg == REG_I64 ? (double)v->l[l] : v->i[l];
}

static double interp_op(Op op, RegType reg, double a, double b, double c)
{
    switch (op) {
    case OP_add:
        return a + b;
    case OP_sub:
        return a - b;
    case OP_mul:
        return a * b;
    case OP_div:
        if (reg == REG_F32)
            return a / b;
        return b == 0 ? (a == 0 ? 0 : a > 0 ? INT32_MAX : INT32_MIN) : trunc(a / b);
    case OP_max:
        return isnan(a) || a > b ? a : b;
    case OP_min:
        return isnan(a) || a < b ? a : b;
    case OP_neg:
        return -a;
    case OP_abs:
        return fabs(a);
    case OP_floor:
        return floor(a);
    case OP_sqrt:
        return sqrt(a);
    case OP_exp:
        return exp(a);
    case OP_tanh:
        return tanh(a);
    case OP_lt:
        return a < b;
    case OP_le:
        return a <= b;
    case OP_eq:
        return a == b;
    case OP_and:
        return a != 0 && b != 0;
    case OP_or:
        return a != 0 || b != 0;
    case OP_not:
        return a == 0;
    case OP_select:
        return a != 0 ? b : c;
    case OP_cast:
        return a;
    default:
        gtc_assert(0, "interp: op %s", op_info[op].name);
        return 0;
    }
}

static void interp_ew(Interp *e, const KNode *n)
{
    const ValInfo t = e->k->val[n->dst];
    for (int l = 0; l < (t.vec ? e->k->lanes : 1); l++) {
        double x[3] = { 0 };
        for (int i = 0; i < n->nargs; i++)
            x[i] = interp_get(e->k->val[n->arg[i]].reg, &e->val[n->arg[i]], l);
        if (n->ew == OP_cast && t.reg == REG_I32 && e->k->val[n->arg[0]].reg == REG_I32)
            x[0] = (uint8_t)(int64_t)x[0];
        interp_pad(t.reg, &e->val[n->dst], l, interp_op(n->ew, t.reg, x[0], x[1], x[2]));
    }
}

static void interp_reduce(Interp *e, const KNode *n)
{
    const ValInfo t = e->k->val[n->dst];
    InterpVal v = e->val[n->arg[0]];
    for (int half = e->k->lanes / 2; half; half /= 2)
        for (int l = 0; l < half; l++)
            interp_pad(t.reg, &v, l,
                       interp_op(n->ew, t.reg, interp_get(t.reg, &v, l),
                                 interp_get(t.reg, &v, l + half), 0));
    e->val[n->dst] = v;
}

static void interp_lanes(Interp *e, const KNode *n)
{
    const ValInfo t = e->k->val[n->dst];
    InterpVal *v = &e->val[n->dst];
    for (int l = 0; l < (t.vec ? e->k->lanes : 1); l++) {
        double x = n->value;
        if (n->op == K_SPLAT)
            x = interp_get(t.reg, &e->val[n->arg[0]], 0);
        else if (n->op == K_LANE)
            x = interp_get(t.reg, &e->val[n->arg[0]], n->lanes);
        else if (n->op == K_TAIL && l < n->lanes)
            x = interp_get(t.reg, &e->val[n->arg[0]], l);
        else if (n->op == K_LANES && l < n->lanes)
            x = interp_get(t.reg, &e->val[n->args[l]], 0);
        else if (n->op == K_INDEX)
            x = (double)(interp_ix(e, n->ix[0]) + l);
        else if (n->op == K_RAND) {
            uint32_t key[4];
            for (int i = 0; i < 4; i++)
                key[i] =
                    (uint32_t)(int64_t)interp_get(e->k->val[n->arg[i]].reg, &e->val[n->arg[i]], 0);
            x = rng_rand_op(key[0], key[1], key[2], key[3], (uint64_t)(e->val[n->arg[4]].l[0] + l));
        }
        interp_pad(t.reg, v, l, x);
    }
}

static void interp_nodes(Interp *e, const KNode *n, const KNode *end)
{
    for (; n != end; n = n->next) {
        const int64_t count = n->op == K_LOOP ? ix_var_count(e->k->pool, n->var) : 0;
        switch (n->op) {
        case K_LOOP: {
            const bool team = n->bind == BIND_TEAM;
            const int64_t to = team ? count * (e->tid + 1) / e->nt : count;
            for (int64_t i = team ? count * e->tid / e->nt : 0; i < to; i++) {
                e->at[n->var] = ix_const(e->k->pool, i);
                interp_nodes(e, n->body, NULL);
            }
            break;
        }
        case K_WHEN:
            if (interp_guards(e, n))
                interp_nodes(e, n->body, NULL);
            break;
        case K_NOTE:
            break;
        case K_PICK: {
            const int64_t most = ix_var_count(e->k->pool, n->var) - 1;
            const double at = interp_get(e->k->val[n->arg[0]].reg, &e->val[n->arg[0]], 0);
            const int64_t row = at < 0 ? 0 : at > (double)most ? most : (int64_t)at;
            e->at[n->var] = ix_const(e->k->pool, row);
            break;
        }
        case K_LOAD:
            interp_load(e, n);
            break;
        case K_STORE:
            interp_store(e, n);
            break;
        case K_EW:
            interp_ew(e, n);
            break;
        case K_REDUCE:
            interp_reduce(e, n);
            break;
        case K_ACC:
        case K_SET:
            e->val[n->dst] = e->val[n->arg[0]];
            break;
        default:
            interp_lanes(e, n);
        }
    }
}

/* Runs k with nt threads.  arg as a kernel's; nvar: more than any Var of k. */
static inline void kir_interpret(const Kir *k, void *const *arg, int nt, unsigned nvar)
{
    Interp thread[INTERP_THREADS];
    for (int t = 0; t < nt; t++) {
        thread[t] = (Interp){ k,
                              arg,
                              t,
                              nt,
                              arena_array(k->arena, InterpVal, k->nval),
                              arena_array(k->arena, Ix, nvar),
                              nvar };
        memset(thread[t].at, 0xff, nvar * sizeof(Ix));
    }
    for (const KNode *from = k->body; from;) {
        const KNode *to = from;
        while (to && to->op != K_BARRIER)
            to = to->next;
        for (int t = 0; t < nt; t++)
            interp_nodes(&thread[t], from, to);
        from = to ? to->next : NULL;
    }
}

#endif
