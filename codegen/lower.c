/* SPDX-License-Identifier: Apache-2.0 */
/* The plan as KIR.  One instantiator serves every nest: loops over tiles, and inside a tile the
 * scalar expressions are instantiated once for each point, memoised by the expression and the
 * places of the axes it depends on.  Operands that stay in registers, broadcast loads and
 * windows that overlap are all this one memo. */
#include "codegen/plan.h"

#include <math.h>
#include <string.h>

#include "ir/base/hash.h"
#include "ir/base/size.h"

enum { MAX_POINTS = 128, EXPR_VALUE_OF = 1u << 30 };

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
} Low;

static Val ev(Low *l, ExprId id);

/* ---- emitting ---------------------------------------------------------------------------- */

static KNode *put(Low *l, KOp op)
{
    KNode *n = arena_array(l->arena, KNode, 1);
    n->op = (uint8_t)op;
    *l->tail = n;
    l->tail = &n->next;
    return n;
}

static Val put_const(Low *l, double value, RegType reg)
{
    KNode *n = put(l, K_CONST);
    n->value = value;
    return n->dst = kir_val(l->k, reg, false);
}

static bool is_vec(const Low *l, Val v)
{
    return l->k->val[v].vec;
}
static RegType reg_at(const Low *l, Val v)
{
    return l->k->val[v].reg;
}

static Val put_ew(Low *l, Op op, RegType reg, bool vec, int nargs, const Val *arg)
{
    KNode *n = put(l, K_EW);
    n->ew = (uint16_t)op;
    n->nargs = (uint8_t)nargs;
    memcpy(n->arg, arg, sizeof *arg * (size_t)nargs);
    return n->dst = kir_val(l->k, reg, vec);
}

static Val splat(Low *l, Val v)
{
    if (is_vec(l, v))
        return v;
    KNode *n = put(l, K_SPLAT);
    n->nargs = 1;
    n->arg[0] = v;
    return n->dst = kir_val(l->k, reg_at(l, v), true);
}

static Val lane_of(Low *l, Val v, int lane)
{
    KNode *n = put(l, K_LANE);
    n->nargs = 1;
    n->arg[0] = v;
    n->lanes = (uint8_t)lane;
    return n->dst = kir_val(l->k, reg_at(l, v), false);
}

static Val accumulator(Low *l, Val first)
{
    KNode *n = put(l, K_ACC);
    n->nargs = 1;
    n->arg[0] = first;
    return n->dst = kir_val(l->k, reg_at(l, first), is_vec(l, first));
}

static void set(Low *l, Val acc, Val v)
{
    KNode *n = put(l, K_SET);
    n->dst = acc;
    n->nargs = 1;
    n->arg[0] = v;
}

/* ---- memo -------------------------------------------------------------------------------- */

typedef struct Key {
    uint64_t hash;
    uint32_t n;
    Ix at[68];
} Key;

static void key_of(const Low *l, uint32_t id, const Var *dep, int ndep, Key *key)
{
    bool along = false;
    key->n = 0;
    for (int i = 0; i < ndep; i++) {
        key->at[key->n++] = l->env[dep[i]];
        along |= dep[i] == l->vec;
    }
    key->at[key->n++] = along && l->vec ? (Ix)l->w : 0;
    key->hash = hash_bytes(key->at, sizeof(Ix) * key->n, id);
}

static Val memo_find(const Low *l, uint32_t id, const Key *key)
{
    for (uint32_t i = l->bucket[key->hash % 1024]; i; i = l->known[i - 1].next) {
        const Known *m = &l->known[i - 1];
        if (m->hash == key->hash && m->id == id && m->nkey == key->n &&
            memcmp(m->key, key->at, sizeof(Ix) * key->n) == 0)
            return m->val;
    }
    return 0;
}

static void memo_put(Low *l, uint32_t id, const Key *key, Val v)
{
    if (l->nknown >= l->known_cap)
        arena_grow(l->arena, l->known, l->nknown, l->known_cap);
    uint32_t *b = &l->bucket[key->hash % 1024];
    l->known[l->nknown] = (Known){ .hash = key->hash,
                                   .id = id,
                                   .nkey = key->n,
                                   .next = *b,
                                   .key = arena_copy(l->arena, key->at, sizeof(Ix) * key->n),
                                   .val = v };
    *b = ++l->nknown;
}

/* What is known inside a loop is forgotten after it: last in, first out. */
static void memo_forget(Low *l, uint32_t keep)
{
    while (l->nknown > keep) {
        const Known *m = &l->known[--l->nknown];
        l->bucket[m->hash % 1024] = m->next;
    }
}

typedef struct Open {
    KNode **tail;
    uint32_t known;
} Open;

static Open loop_open(Low *l, Var v, Bind bind, int unroll)
{
    KNode *n = put(l, K_LOOP);
    n->var = v;
    n->bind = (uint8_t)bind;
    n->unroll = (uint8_t)unroll;
    const Open o = { l->tail, l->nknown };
    l->tail = &n->body;
    return o;
}

static void loop_close(Low *l, Open o)
{
    l->tail = o.tail;
    memo_forget(l, o.known);
}

/* ---- reads ------------------------------------------------------------------------------- */

static BufId kir_buf_of(Low *l, uint16_t b)
{
    if (l->buf[b])
        return (BufId)(l->buf[b] - 1);
    const GBuf *g = &l->s->buf[b];
    KBuf kb = {
        .name = g->name, .dt = g->dt, .arg = g->arg, .rank = g->rank, .offset = l->plan->offset[b]
    };
    kb.cls = g->is_in                  ? BUF_IN
             : g->is_out               ? BUF_OUT
             : g->home == HOME_PRIVATE ? BUF_PRIVATE
                                       : BUF_SHARED;
    int64_t stride = 1;
    for (int d = g->rank - 1; d >= 0; d--) {
        kb.shape[d] = g->shape[d];
        kb.stride[d] = stride;
        stride = size_mul(stride, g->shape[d] ? g->shape[d] : 1);
    }
    const BufId id = kir_buf(l->k, &kb);
    l->buf[b] = (BufId)(id + 1);
    return id;
}

static Ix lane_ix(Low *l)
{
    if (!l->lane_var[l->w])
        l->lane_var[l->w] = ix_var_new(l->p, "lane", l->w);
    return ix_var(l->p, l->lane_var[l->w]);
}

/* Where ix is now; lanes: with the lane number added to the vector axis. */
static Ix place(Low *l, Ix ix, bool lanes)
{
    if (!lanes)
        return ix_subst(l->p, ix, l->env, l->nenv);
    const Ix keep = l->env[l->vec];
    l->env[l->vec] = ix_add(l->p, keep, lane_ix(l));
    const Ix r = ix_subst(l->p, ix, l->env, l->nenv);
    l->env[l->vec] = keep;
    return r;
}

/* How ix moves over the lanes: *coef elements a lane; false: irregularly. */
static bool lane_coef(Low *l, Ix ix, int64_t *coef)
{
    *coef = 0;
    if (!l->vec || l->w == 1)
        return true;
    bool lin;
    *coef = ix_coef(l->p, ix, l->lane_var[l->w], &lin);
    return lin;
}

static Ix drop_lane(Low *l, Ix ix)
{
    if (!l->vec || l->w == 1 || !l->lane_var[l->w])
        return ix;
    const Var v = l->lane_var[l->w];
    Ix *map = arena_array(l->arena, Ix, v + 1u);
    memset(map, 0xff, sizeof *map * (v + 1u));
    map[v] = ix_const(l->p, 0);
    return ix_subst(l->p, ix, map, v + 1u);
}

typedef enum Move { MOVE_NONE, MOVE_NEXT, MOVE_ODD } Move;

/* Indices of a map at the present point, in ix; how they move over the lanes. */
static Move map_place(Low *l, uint16_t buf, const Ix *map, bool lanes, Ix *ix)
{
    const GBuf *g = &l->s->buf[buf];
    Move m = MOVE_NONE;
    for (int d = 0; d < g->rank; d++) {
        ix[d] = place(l, map[d], lanes);
        if (g->home == HOME_PRIVATE && d == g->team_dim)
            ix[d] = ix_sub(l->p, ix[d], l->team_base);
        int64_t coef;
        const bool lin = lane_coef(l, ix[d], &coef);
        if (!lin || (coef != 0 && (d != g->rank - 1 || coef != 1)))
            m = MOVE_ODD;
        else if (coef == 1 && m != MOVE_ODD)
            m = MOVE_NEXT;
    }
    return m;
}

/* Guards at the present point.  0: all hold; 1: must be tested, in out; 2: one never holds;
 * 3: they differ from lane to lane. */
static int guard_place(Low *l, const Guard *g, int n, bool lanes, Guard *out, int *nout)
{
    *nout = 0;
    for (int i = 0; i < n; i++) {
        const Ix ix = place(l, g[i].ix, lanes);
        const IxRange r = ix_range(l->p, ix);
        if (r.lo >= g[i].lo && r.hi < g[i].hi)
            continue;
        if (r.hi < g[i].lo || r.lo >= g[i].hi)
            return 2;
        int64_t coef;
        if (!lane_coef(l, ix, &coef) || coef)
            return 3;
        out[(*nout)++] = (Guard){ drop_lane(l, ix), g[i].lo, g[i].hi };
    }
    return *nout ? 1 : 0;
}

/* Lane by lane: slow, always right. */
static Val by_lanes(Low *l, ExprId id)
{
    const Var v = l->vec;
    const Ix at = l->env[v];
    const int w = l->w;
    Val *lane = arena_array(l->arena, Val, w);
    l->vec = 0;
    for (int q = 0; q < w; q++) {
        l->env[v] = ix_shift(l->p, at, q);
        lane[q] = ev(l, id);
    }
    l->env[v] = at;
    l->vec = v;
    KNode *n = put(l, K_LANES);
    n->args = lane;
    n->lanes = (uint8_t)w;
    return n->dst = kir_val(l->k, reg_at(l, lane[0]), true);
}

static bool along_lanes(const Low *l, const Expr *e)
{
    for (int i = 0; i < e->ndep; i++)
        if (l->vec && e->dep[i] == l->vec)
            return true;
    return false;
}

static Val ev_read(Low *l, ExprId id, const Expr *e)
{
    const bool lanes = along_lanes(l, e);
    Ix ix[MAX_RANK];
    Guard guard[8];
    int nguard;
    const int g = guard_place(l, e->guard, e->nguard, lanes, guard, &nguard);
    if (g == 2)
        return put_const(l, e->value, e->reg);
    const Move m = map_place(l, e->buf, e->ix, lanes, ix);
    const GBuf *b = &l->s->buf[e->buf];
    if (g == 3 || m == MOVE_ODD || (m == MOVE_NEXT && e->reg == REG_I64))
        return by_lanes(l, id);
    const BufId kb = kir_buf_of(l, e->buf);
    KNode *n = put(l, K_LOAD);
    n->buf = kb;
    n->ix = arena_array(l->arena, Ix, b->rank);
    for (int d = 0; d < b->rank; d++)
        n->ix[d] = drop_lane(l, ix[d]);
    n->guard = arena_copy(l->arena, guard, sizeof *guard * (size_t)(nguard ? nguard : 1));
    n->nguard = (uint8_t)nguard;
    n->value = e->value;
    const bool vec = m == MOVE_NEXT || (lanes && l->w == 1 && l->lanes > 1);
    const bool whole =
        b->padded && ix_range(l->p, n->ix[b->rank - 1]).hi + l->lanes <= b->shape[b->rank - 1];
    n->lanes = (uint8_t)(!vec ? 1 : whole ? l->lanes : l->w);
    return n->dst = kir_val(l->k, e->reg, vec);
}

/* ---- other leaves ------------------------------------------------------------------------ */

static Val put_index(Low *l, Ix ix, RegType reg, bool vec)
{
    KNode *n = put(l, K_INDEX);
    n->ix = arena_copy(l->arena, &ix, sizeof ix);
    return n->dst = kir_val(l->k, reg, vec);
}

static Val as_reg(Low *l, Val v, RegType reg)
{
    return reg_at(l, v) == reg ? v : put_ew(l, OP_cast, reg, is_vec(l, v), 1, &v);
}

static Val ev_index(Low *l, ExprId id, const Expr *e)
{
    const bool lanes = along_lanes(l, e);
    const Ix ix = place(l, e->ix[0], lanes);
    int64_t coef;
    if (!lane_coef(l, ix, &coef) || (coef != 0 && (coef != 1 || e->reg == REG_I64)))
        return by_lanes(l, id);
    const bool vec = coef == 1 || (lanes && l->w == 1 && e->reg != REG_I64);
    const RegType raw = e->reg == REG_I64 ? REG_I64 : REG_I32;
    return as_reg(l, put_index(l, drop_lane(l, ix), raw, vec), e->reg);
}

static Val ev_rand(Low *l, ExprId id, const Expr *e)
{
    const bool lanes = along_lanes(l, e);
    const Ix ix = place(l, e->ix[0], lanes);
    int64_t coef, row = 1;
    if (!lane_coef(l, ix, &coef) || (coef != 0 && coef != 1))
        return by_lanes(l, id);
    Val arg[5];
    for (int i = 0; i < 5; i++)
        arg[i] = as_reg(l, ev(l, e->arg[i]), i < 4 ? REG_I32 : REG_I64);
    ix_is_const(l->p, e->ix[1], &row);
    const Val first =
        put_ew(l, OP_mul, REG_I64, false, 2, (Val[]){ arg[4], put_const(l, (double)row, REG_I64) });
    const Val at = put_index(l, drop_lane(l, ix), REG_I64, false);
    arg[4] = put_ew(l, OP_add, REG_I64, false, 2, (Val[]){ first, at });
    KNode *n = put(l, K_RAND);
    n->nargs = 5;
    memcpy(n->arg, arg, sizeof arg);
    return n->dst = kir_val(l->k, REG_F32, coef == 1 || (lanes && l->w == 1));
}

static Val ev_when(Low *l, ExprId id, const Expr *e)
{
    const bool lanes = along_lanes(l, e);
    Guard guard[8];
    int nguard;
    const int g = guard_place(l, e->guard, e->nguard, lanes, guard, &nguard);
    if (g == 3)
        return by_lanes(l, id);
    if (g == 2)
        return put_const(l, e->value, e->reg);
    const Val v = ev(l, e->arg[0]);
    Val ok = 0;
    for (int i = 0; i < nguard; i++) {
        const Val ix = put_index(l, guard[i].ix, REG_I64, false);
        const Val lo = put_ew(l, OP_le, REG_BOOL, false, 2,
                              (Val[]){ put_const(l, (double)guard[i].lo, REG_I64), ix });
        const Val hi = put_ew(l, OP_lt, REG_BOOL, false, 2,
                              (Val[]){ ix, put_const(l, (double)guard[i].hi, REG_I64) });
        const Val both = put_ew(l, OP_and, REG_BOOL, false, 2, (Val[]){ lo, hi });
        ok = ok ? put_ew(l, OP_and, REG_BOOL, false, 2, (Val[]){ ok, both }) : both;
    }
    if (!ok)
        return v;
    Val arg[3] = { ok, v, put_const(l, e->value, e->reg) };
    const bool vec = is_vec(l, v);
    for (int i = 0; i < 3 && vec; i++)
        arg[i] = splat(l, arg[i]);
    return put_ew(l, OP_select, e->reg, vec, 3, arg);
}

static Val ev_ew(Low *l, ExprId id, const Expr *e)
{
    Val arg[3];
    bool vec = false, wide = e->reg == REG_I64;
    for (int i = 0; i < e->nargs; i++) {
        const Expr *a = stages_expr(l->s, e->arg[i]);
        wide |= a->reg == REG_I64;
    }
    if (wide && along_lanes(l, e) && l->vec)
        return by_lanes(l, id); /* no vectors of i64 */
    for (int i = 0; i < e->nargs; i++) {
        arg[i] = ev(l, e->arg[i]);
        vec |= is_vec(l, arg[i]);
    }
    for (int i = 0; i < e->nargs && vec; i++)
        arg[i] = splat(l, arg[i]);
    return put_ew(l, (Op)e->op, e->reg, vec, e->nargs, arg);
}

static Val ev(Low *l, ExprId id)
{
    const Expr e = *stages_expr(l->s, id);
    Key key;
    if (e.kind == EX_VALUE) {
        const StageId acc = l->s->stage[e.stage].acc;
        const Stage *st = &l->s->stage[acc];
        key_of(l, EXPR_VALUE_OF | acc, st->axis, st->naxis, &key);
        const Val v = memo_find(l, EXPR_VALUE_OF | acc, &key);
        if (!v && l->vec == 0 && l->n->vec) { /* one lane of a vector that is there */
            const Ix at = l->env[l->n->vec];
            gtc_assert(l->w > 0, "no vector to take a lane of");
            for (int q = 0; q < l->w; q++) {
                l->vec = l->n->vec;
                l->env[l->vec] = ix_shift(l->p, at, -q);
                key_of(l, EXPR_VALUE_OF | acc, st->axis, st->naxis, &key);
                const Val whole = memo_find(l, EXPR_VALUE_OF | acc, &key);
                l->env[l->vec] = at;
                l->vec = 0;
                if (whole)
                    return lane_of(l, whole, q);
            }
        }
        gtc_assert(v, "stage %u is used before it is reduced", acc);
        return v;
    }
    key_of(l, id, e.dep, e.ndep, &key);
    Val v = memo_find(l, id, &key);
    if (v)
        return v;
    switch (e.kind) {
    case EX_CONST:
        v = put_const(l, e.value, e.reg);
        break;
    case EX_READ:
        v = ev_read(l, id, &e);
        break;
    case EX_INDEX:
        v = ev_index(l, id, &e);
        break;
    case EX_RAND:
        v = ev_rand(l, id, &e);
        break;
    case EX_WHEN:
        v = ev_when(l, id, &e);
        break;
    default:
        v = ev_ew(l, id, &e);
        break;
    }
    memo_put(l, id, &key, v);
    return v;
}

static void store(Low *l, const Store *st, Val v)
{
    const GBuf *b = &l->s->buf[st->buf];
    Ix ix[MAX_RANK];
    const bool lanes = l->vec && l->w > 1;
    const Move m = map_place(l, st->buf, st->ix, lanes, ix);
    const BufId kb = kir_buf_of(l, st->buf);
    const bool spread = lanes && m == MOVE_ODD;
    if (m == MOVE_NEXT)
        v = splat(l, v);
    for (int q = 0; q < (spread ? l->w : 1); q++) {
        Ix at[MAX_RANK];
        for (int d = 0; d < b->rank; d++) {
            at[d] = drop_lane(l, ix[d]);
            if (spread) {
                const Var lane = l->lane_var[l->w];
                Ix *map = arena_array(l->arena, Ix, lane + 1u);
                memset(map, 0xff, sizeof *map * (lane + 1u));
                map[lane] = ix_const(l->p, q);
                at[d] = ix_subst(l->p, ix[d], map, lane + 1u);
            }
        }
        const Val one = m != MOVE_NEXT && is_vec(l, v) ? lane_of(l, v, q) : v;
        KNode *n = put(l, K_STORE);
        n->buf = kb;
        n->ix = arena_copy(l->arena, at, sizeof at);
        n->nargs = 1;
        n->arg[0] = one;
        n->lanes = (uint8_t)(m == MOVE_NEXT ? l->w : 1);
    }
}

/* ---- tiles ------------------------------------------------------------------------------- */

static void at_point(Low *l, int i)
{
    for (int a = 0; a < l->n->naxis; a++)
        l->env[l->n->axis[a]] = ix_shift(l->p, l->base[a], l->point[i].off[a]);
    l->w = l->point[i].lanes;
}

static double identity(Op rop, RegType reg)
{
    if (rop == OP_add)
        return 0;
    if (reg == REG_F32)
        return rop == OP_max ? -INFINITY : INFINITY;
    return rop == OP_max ? (double)INT32_MIN : (double)INT32_MAX;
}

static Val combine(Low *l, Op rop, Val a, Val b)
{
    return put_ew(l, rop, reg_at(l, a), is_vec(l, a), 2, (Val[]){ a, b });
}

static Val stage_key(Low *l, StageId acc, Key *key)
{
    const Stage *st = &l->s->stage[acc];
    key_of(l, EXPR_VALUE_OF | acc, st->axis, st->naxis, key);
    return memo_find(l, EXPR_VALUE_OF | acc, key);
}

typedef struct Batch { /* reductions over the same axes: one loop */
    const Stage *st[MAX_NEST_REDS];
    int n;
    Val *part; /* row: accumulators by point, stage, vector */
    int nv;
} Batch;

static const Stage *root_of(const Low *l, const Batch *b, int j)
{
    for (int i = 0; i < l->n->nroot; i++) {
        const Stage *root = &l->s->stage[l->n->root[i]];
        const Expr *e = stages_expr(l->s, root->e);
        if (e->kind == EX_VALUE && &l->s->stage[e->stage] == b->st[j])
            return root;
    }
    gtc_assert(0, "a blocked reduction without its root");
    return NULL;
}

/* Accumulators for all points; blocked ones go on from what is stored. */
static void start_accumulators(Low *l, const Batch *b)
{
    for (int j = 0; j < b->n; j++)
        for (int i = 0; i < l->npoint; i++) {
            at_point(l, i);
            Key key;
            const StageId acc = b->st[j]->acc;
            if (stage_key(l, acc, &key))
                continue; /* another stage adds to it too */
            const RegType reg = stages_expr(l->s, b->st[j]->e)->reg;
            Val first;
            if (l->n->kaxis) {
                const Store *st = &root_of(l, b, j)->store[0];
                first = ev(l, expr_read(l->s, st->buf, st->ix));
                if (l->vec)
                    first = splat(l, first);
            } else {
                first = put_const(l, identity(b->st[j]->rop, reg), reg);
                if (l->vec)
                    first = splat(l, first);
            }
            memo_put(l, EXPR_VALUE_OF | acc, &key, accumulator(l, first));
        }
}

static void accumulate(Low *l, const Batch *b)
{
    for (int i = 0; i < l->npoint; i++)
        for (int j = 0; j < b->n; j++) {
            at_point(l, i);
            Val v = ev(l, b->st[j]->e);
            if (l->vec)
                v = splat(l, v);
            Key key;
            const Val acc = stage_key(l, b->st[j]->acc, &key);
            set(l, acc, combine(l, b->st[j]->rop, acc, v));
        }
}

static void red_loops(Low *l, const Batch *b, int depth)
{
    const Stage *st = b->st[0];
    if (depth == st->nred) {
        accumulate(l, b);
        return;
    }
    const Var r = st->red[depth];
    const Span sp = l->span[r];
    if (sp.count == 1) {
        l->env[r] = sp.base;
        red_loops(l, b, depth + 1);
        return;
    }
    const Var v = ix_var_new(l->p, ix_var_name(l->p, r), sp.count);
    const bool last = depth == st->nred - 1;
    const int unroll = !last ? 0 : sp.count <= 4 ? (int)sp.count : l->npoint * b->n >= 8 ? 2 : 4;
    const Open o = loop_open(l, v, unroll > 1 && l->n->vec ? BIND_UNROLL : BIND_SERIAL, unroll);
    l->env[r] = ix_add(l->p, sp.base, ix_var(l->p, v));
    red_loops(l, b, depth + 1);
    loop_close(l, o);
}

/* ---- rows: vectors along the last reduced axis -------------------------------------------- */

static void row_vectors(Low *l, const Batch *b, Ix at, int64_t from, int64_t to)
{
    const Var r = b->st[0]->red[b->st[0]->nred - 1];
    for (int64_t q = from; q < to; q += l->lanes) {
        const int w = to - q < l->lanes ? (int)(to - q) : l->lanes;
        for (int i = 0; i < l->npoint; i++)
            for (int j = 0; j < b->n; j++) {
                at_point(l, i);
                l->env[r] = ix_shift(l->p, at, q);
                l->vec = r;
                l->w = w;
                Val v = splat(l, ev(l, b->st[j]->e));
                l->vec = 0;
                if (w < l->lanes) {
                    KNode *t = put(l, K_TAIL);
                    t->nargs = 1;
                    t->arg[0] = v;
                    t->lanes = (uint8_t)w;
                    t->value = identity(b->st[j]->rop, reg_at(l, v));
                    v = t->dst = kir_val(l->k, reg_at(l, v), true);
                }
                const int64_t which = (q - from) / l->lanes % b->nv;
                const Val acc = b->part[(i * b->n + j) * b->nv + which];
                set(l, acc, combine(l, b->st[j]->rop, acc, v));
            }
    }
}

static void row_loops(Low *l, const Batch *b, int depth)
{
    const Stage *st = b->st[0];
    const Var r = st->red[depth];
    const Span sp = l->span[r];
    const bool last = depth == st->nred - 1;
    const int64_t step = last ? (int64_t)b->nv * l->lanes : 1, full = sp.count / step;
    if (full > 0) {
        const Var v = ix_var_new(l->p, ix_var_name(l->p, r), full);
        const Open o = loop_open(l, v, BIND_SERIAL, 0);
        const Ix at = ix_add(l->p, sp.base, ix_scale(l->p, ix_var(l->p, v), step));
        if (last) {
            row_vectors(l, b, at, 0, step);
        } else {
            l->env[r] = at;
            row_loops(l, b, depth + 1);
        }
        loop_close(l, o);
    }
    if (last && sp.count % step) {
        const uint32_t known = l->nknown;
        row_vectors(l, b, ix_shift(l->p, sp.base, full * step), 0, sp.count % step);
        memo_forget(l, known);
    }
}

static void row_reduce(Low *l, Batch *b)
{
    const Stage *st = b->st[0];
    const int64_t vectors = size_ceil_div(ix_var_count(l->p, st->red[st->nred - 1]), l->lanes);
    b->nv = vectors >= 4 && l->npoint * b->n <= 4   ? 4
            : vectors >= 2 && l->npoint * b->n <= 8 ? 2
                                                    : 1;
    b->part = arena_array(l->arena, Val, l->npoint * b->n * b->nv);
    for (int i = 0; i < l->npoint * b->n * b->nv; i++) {
        const Stage *s = b->st[i / b->nv % b->n];
        const RegType reg = stages_expr(l->s, s->e)->reg;
        b->part[i] = accumulator(l, splat(l, put_const(l, identity(s->rop, reg), reg)));
    }
    row_loops(l, b, 0);
    for (int i = 0; i < l->npoint; i++)
        for (int j = 0; j < b->n; j++) {
            const Val *part = &b->part[(i * b->n + j) * b->nv];
            Val v = part[0];
            if (b->nv >= 2)
                v = combine(l, b->st[j]->rop, part[0], part[1]);
            if (b->nv == 4)
                v = combine(l, b->st[j]->rop, v, combine(l, b->st[j]->rop, part[2], part[3]));
            KNode *n = put(l, K_REDUCE);
            n->ew = b->st[j]->rop;
            n->nargs = 1;
            n->arg[0] = v;
            n->dst = kir_val(l->k, reg_at(l, v), false);
            at_point(l, i);
            Key key;
            stage_key(l, b->st[j]->acc, &key);
            memo_put(l, EXPR_VALUE_OF | b->st[j]->acc, &key, n->dst);
        }
}

/* ---- a tile's work ----------------------------------------------------------------------- */

static void reductions(Low *l)
{
    const Nest *n = l->n;
    bool done[MAX_NEST_REDS] = { false };
    for (int i = 0; i < n->nred; i++) {
        if (done[i])
            continue;
        Batch b = { .n = 0 };
        const Stage *first = &l->s->stage[n->red[i]];
        for (int j = i; j < n->nred; j++) {
            const Stage *st = &l->s->stage[n->red[j]];
            if (done[j] || st->nred != first->nred ||
                memcmp(st->red, first->red, sizeof(Var) * st->nred) != 0)
                continue;
            done[j] = true;
            b.st[b.n++] = st;
        }
        if (n->row) {
            row_reduce(l, &b);
        } else {
            start_accumulators(l, &b);
            red_loops(l, &b, 0);
        }
    }
}

static void tile_body(Low *l, bool zero)
{
    const uint32_t known = l->nknown;
    if (!zero)
        reductions(l);
    for (int i = 0; i < l->n->nroot; i++)
        for (int j = 0; j < l->npoint; j++) {
            const Stage *st = &l->s->stage[l->n->root[i]];
            at_point(l, j);
            const Val v = zero ? put_const(l, 0, REG_F32) : ev(l, st->e);
            for (int k = 0; k < st->nstore; k++)
                store(l, &st->store[k], v);
        }
    memo_forget(l, known);
}

static void tiles(Low *l, int axis, bool zero);

/* One tile of this axis at `base`: extent elements, times the points of the axes before it. */
static void tile_at(Low *l, int axis, Ix base, int64_t extent, bool zero)
{
    const bool vec = l->n->axis[axis] == l->n->vec;
    const int unit = vec ? l->lanes : 1, n = (int)size_ceil_div(extent, unit), before = l->npoint;
    Point *keep = l->point, *more = arena_array(l->arena, Point, before * n);
    gtc_assert(before * n <= MAX_POINTS, "a tile of %d points", before * n);
    for (int i = 0; i < before; i++)
        for (int j = 0; j < n; j++) {
            Point *p = &more[i * n + j];
            *p = keep[i];
            p->off[axis] = (int64_t)j * unit;
            if (vec)
                p->lanes =
                    extent - (int64_t)j * unit < unit ? (int)(extent - (int64_t)j * unit) : unit;
        }
    l->base[axis] = base;
    l->env[l->n->axis[axis]] = base;
    l->point = more;
    l->npoint = before * n;
    tiles(l, axis + 1, zero);
    l->point = keep;
    l->npoint = before;
}

static void tiles(Low *l, int axis, bool zero)
{
    if (axis == l->n->naxis) {
        tile_body(l, zero);
        return;
    }
    const Var v = l->n->axis[axis];
    const Span sp = l->span[v];
    const int64_t step = (int64_t)l->n->tile[axis] * (v == l->n->vec ? l->lanes : 1);
    const int64_t full = sp.count / step;
    if (full == 1) {
        tile_at(l, axis, sp.base, step, zero);
    } else if (full > 1) {
        const Var i = ix_var_new(l->p, ix_var_name(l->p, v), full);
        const Open o = loop_open(l, i, BIND_SERIAL, 0);
        tile_at(l, axis, ix_add(l->p, sp.base, ix_scale(l->p, ix_var(l->p, i), step)), step, zero);
        loop_close(l, o);
    }
    if (sp.count % step)
        tile_at(l, axis, ix_shift(l->p, sp.base, full * step), sp.count % step, zero);
}

static void nest_tiles(Low *l, bool zero)
{
    Point one = { .lanes = 1 };
    l->point = &one;
    l->npoint = 1;
    l->vec = l->n->vec;
    tiles(l, 0, zero);
    l->vec = 0;
}

static void lower_nest(Low *l, const Nest *n)
{
    l->n = n;
    KNode *note = put(l, K_NOTE);
    note->text = n->row ? "row" : n->nred ? "contract" : "map";
    if (!n->kaxis) {
        nest_tiles(l, false);
        return;
    }
    nest_tiles(l, true);
    const Span all = l->span[n->kaxis];
    const int64_t full = all.count / n->kstep, rest = all.count % n->kstep;
    if (full) {
        const Var v = ix_var_new(l->p, "block", full);
        const Open o = loop_open(l, v, BIND_SERIAL, 0);
        l->span[n->kaxis] = (Span){ ix_scale(l->p, ix_var(l->p, v), n->kstep), n->kstep };
        nest_tiles(l, false);
        loop_close(l, o);
    }
    if (rest) {
        l->span[n->kaxis] = (Span){ ix_const(l->p, full * n->kstep), rest };
        nest_tiles(l, false);
    }
    l->span[n->kaxis] = all;
}

/* ---- phases ------------------------------------------------------------------------------ */

static void phase_body(Low *l, const Phase *ph)
{
    for (int when = WHEN_PLAIN; when <= WHEN_LAST; when++) {
        bool any = false;
        for (int i = 0; i < ph->nnest; i++)
            any |= ph->nest[i].when == when;
        if (!any)
            continue;
        Open o = { 0 };
        const bool loop = when == WHEN_STEP && l->s->seq;
        if (loop) {
            const Var v = ix_var_new(l->p, "step", l->s->trip);
            o = loop_open(l, v, BIND_SERIAL, 0);
            l->env[l->s->seq] = ix_var(l->p, v);
        }
        for (int i = 0; i < ph->nnest; i++)
            if (ph->nest[i].when == when)
                lower_nest(l, &ph->nest[i]);
        if (loop)
            loop_close(l, o);
    }
}

static void team_loop(Low *l, const Phase *ph, int64_t count, int64_t from, int64_t block)
{
    const Var v = ix_var_new(l->p, "share", count);
    const Open o = loop_open(l, v, BIND_TEAM, 0);
    if (ph->team) {
        l->team_base = ix_shift(l->p, ix_scale(l->p, ix_var(l->p, v), block), from);
        l->span[ph->team] = (Span){ l->team_base, block };
        if (block == 1)
            l->env[ph->team] = l->team_base;
    }
    phase_body(l, ph);
    loop_close(l, o);
}

static void lower_phase(Low *l, const Phase *ph)
{
    if (ph->barrier)
        put(l, K_BARRIER);
    if (ph->each) {
        phase_body(l, ph);
        return;
    }
    if (!ph->team) {
        team_loop(l, ph, 1, 0, 1);
        return;
    }
    const Span all = l->span[ph->team];
    const int64_t full = all.count / ph->block, rest = all.count % ph->block;
    if (full)
        team_loop(l, ph, full, 0, ph->block);
    l->span[ph->team] = all;
    if (rest) {
        const Span whole = all;
        const Var v = ix_var_new(l->p, "rest", 1);
        const Open o = loop_open(l, v, BIND_TEAM, 0);
        l->team_base = ix_const(l->p, full * ph->block);
        l->span[ph->team] = (Span){ l->team_base, rest };
        phase_body(l, ph);
        loop_close(l, o);
        l->span[ph->team] = whole;
    }
    l->span[ph->team] = all;
}

Status plan_lower(Ctx *cx, Arena *arena, const Target *t, const Plan *plan, Kir **out)
{
    Low l = {
        .cx = cx, .arena = arena, .s = plan->s, .p = plan->s->pool, .plan = plan, .lanes = t->lanes
    };
    l.k = kir_new(arena, l.p, t->lanes);
    l.tail = &l.k->body;
    Var most = l.s->seq;
    for (uint32_t i = 0; i < l.s->nstage; i++) {
        const Stage *st = &l.s->stage[i];
        for (int j = 0; j < st->naxis; j++)
            most = st->axis[j] > most ? st->axis[j] : most;
        for (int j = 0; j < st->nred; j++)
            most = st->red[j] > most ? st->red[j] : most;
    }
    l.nenv = most + 1u;
    l.env = arena_array(arena, Ix, l.nenv);
    memset(l.env, 0xff, sizeof *l.env * l.nenv);
    l.span = arena_array(arena, Span, l.nenv);
    for (uint32_t i = 0; i < l.s->nstage; i++) {
        const Stage *st = &l.s->stage[i];
        for (int j = 0; j < st->naxis + st->nred; j++) {
            const Var v = j < st->naxis ? st->axis[j] : st->red[j - st->naxis];
            l.span[v] = (Span){ ix_const(l.p, 0), ix_var_count(l.p, v) };
        }
    }
    l.buf = arena_array(arena, BufId, l.s->nbuf);
    for (uint32_t b = 0; b < l.s->nbuf; b++)
        kir_buf_of(&l, (uint16_t)b);
    for (int i = 0; i < plan->nphase; i++)
        lower_phase(&l, &plan->phase[i]);
    l.k->shared_bytes = plan->shared_bytes;
    l.k->private_bytes = plan->private_bytes;
    *out = l.k;
    return ST_OK;
}
