/* SPDX-License-Identifier: Apache-2.0 */
/* Scalar expressions at a point, as KIR values.
 *
 * A point may stand for several lanes: then a read that moves by one element a lane is a vector
 * load, one that does not move is a scalar, and everything else is made lane by lane. */
#include "codegen/lower.h"

#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/hash.h"
#include "ir/base/size.h"

/* ---- emitting ---------------------------------------------------------------------------- */

KNode *low_put(Low *l, KOp op)
{
    KNode *n = arena_array(l->arena, KNode, 1);
    n->op = (uint8_t)op;
    *l->tail = n;
    l->tail = &n->next;
    return n;
}

Val low_const(Low *l, double value, RegType reg)
{
    KNode *n = low_put(l, K_CONST);
    n->value = value;
    return n->dst = kir_val(l->k, reg, false);
}

static bool is_vec(const Low *l, Val v)
{
    return l->k->val[v].vec;
}
RegType low_reg(const Low *l, Val v)
{
    return l->k->val[v].reg;
}

Val low_ew(Low *l, Op op, RegType reg, bool vec, int nargs, const Val *arg)
{
    KNode *n = low_put(l, K_EW);
    n->ew = (uint16_t)op;
    n->nargs = (uint8_t)nargs;
    memcpy(n->arg, arg, sizeof *arg * (size_t)nargs);
    return n->dst = kir_val(l->k, reg, vec);
}

Val low_splat(Low *l, Val v)
{
    if (is_vec(l, v))
        return v;
    KNode *n = low_put(l, K_SPLAT);
    n->nargs = 1;
    n->arg[0] = v;
    return n->dst = kir_val(l->k, low_reg(l, v), true);
}

static Val lane_of(Low *l, Val v, int lane)
{
    KNode *n = low_put(l, K_LANE);
    n->nargs = 1;
    n->arg[0] = v;
    n->lanes = (uint8_t)lane;
    return n->dst = kir_val(l->k, low_reg(l, v), false);
}

Val low_accumulator(Low *l, Val first)
{
    KNode *n = low_put(l, K_ACC);
    n->nargs = 1;
    n->arg[0] = first;
    return n->dst = kir_val(l->k, low_reg(l, first), is_vec(l, first));
}

void low_set(Low *l, Val acc, Val v)
{
    KNode *n = low_put(l, K_SET);
    n->dst = acc;
    n->nargs = 1;
    n->arg[0] = v;
}

/* ---- memo -------------------------------------------------------------------------------- */

void low_key(const Low *l, uint32_t id, const Var *dep, int ndep, Key *key)
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

Val low_known(const Low *l, uint32_t id, const Key *key)
{
    for (uint32_t i = l->bucket[key->hash % 1024]; i; i = l->known[i - 1].next) {
        const Known *m = &l->known[i - 1];
        if (m->hash == key->hash && m->id == id && m->nkey == key->n &&
            memcmp(m->key, key->at, sizeof(Ix) * key->n) == 0)
            return m->val;
    }
    return 0;
}

void low_remember(Low *l, uint32_t id, const Key *key, Val v)
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
void low_forget(Low *l, uint32_t keep)
{
    while (l->nknown > keep) {
        const Known *m = &l->known[--l->nknown];
        l->bucket[m->hash % 1024] = m->next;
    }
}

Open low_open(Low *l, Var v, Bind bind, int unroll)
{
    KNode *n = low_put(l, K_LOOP);
    n->var = v;
    n->bind = (uint8_t)bind;
    n->unroll = (uint8_t)unroll;
    const Open o = { l->tail, l->nknown };
    l->tail = &n->body;
    return o;
}

void low_close(Low *l, Open o)
{
    l->tail = o.tail;
    low_forget(l, o.known);
}

/* ---- reads ------------------------------------------------------------------------------- */

BufId low_buf(Low *l, uint16_t b)
{
    if (l->buf[b])
        return (BufId)(l->buf[b] - 1);
    const GBuf *g = &l->s->buf[b];
    KBuf kb = { .name = g->name,
                .dt = g->dt,
                .arg = g->arg,
                .rank = g->rank,
                .slots = g->slots,
                .threads = g->home == HOME_REGISTERS ? g->threads : 0,
                .offset = l->plan->offset[b] };
    kb.cls = g->is_in                  ? BUF_IN
             : g->is_out               ? BUF_OUT
             : g->home == HOME_PRIVATE   ? BUF_PRIVATE
             : g->home == HOME_REGISTERS ? BUF_REGISTERS
                                         : BUF_SHARED;
    int64_t stride = 1;
    for (int d = g->rank - 1; d >= 0; d--) {
        kb.shape[d] = g->shape[d];
        kb.stride[d] = d < kb.threads ? 0 : stride;
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
        lane[q] = low_value(l, id);
    }
    l->env[v] = at;
    l->vec = v;
    KNode *n = low_put(l, K_LANES);
    n->args = lane;
    n->lanes = (uint8_t)w;
    return n->dst = kir_val(l->k, low_reg(l, lane[0]), true);
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
    Guard guard[MAX_GUARDS];
    int nguard;
    const int g = guard_place(l, e->guard, e->nguard, lanes, guard, &nguard);
    if (g == 2)
        return low_const(l, e->value, e->reg);
    const Move m = map_place(l, e->buf, e->ix, lanes, ix);
    const GBuf *b = &l->s->buf[e->buf];
    if (g == 3 || m == MOVE_ODD || (m == MOVE_NEXT && e->reg == REG_I64))
        return by_lanes(l, id);
    const BufId kb = low_buf(l, e->buf);
    KNode *n = low_put(l, K_LOAD);
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
    KNode *n = low_put(l, K_INDEX);
    n->ix = arena_copy(l->arena, &ix, sizeof ix);
    return n->dst = kir_val(l->k, reg, vec);
}

static Val as_reg(Low *l, Val v, RegType reg)
{
    return low_reg(l, v) == reg ? v : low_ew(l, OP_cast, reg, is_vec(l, v), 1, &v);
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
        if (along_lanes(l, stages_expr(l->s, e->arg[i])))
            return by_lanes(l, id); /* a key under a guard */
    for (int i = 0; i < 5; i++)
        arg[i] = as_reg(l, low_value(l, e->arg[i]), i < 4 + BUG(50) ? REG_I32 : REG_I64);
    ix_is_const(l->p, e->ix[1], &row);
    const Val first =
        low_ew(l, OP_mul, REG_I64, false, 2, (Val[]){ arg[4], low_const(l, (double)row, REG_I64) });
    const Val at = put_index(l, drop_lane(l, ix), REG_I64, false);
    arg[4] = low_ew(l, OP_add, REG_I64, false, 2, (Val[]){ first, at });
    KNode *n = low_put(l, K_RAND);
    n->nargs = 5;
    memcpy(n->arg, arg, sizeof arg);
    return n->dst = kir_val(l->k, REG_F32, coef == 1 || (lanes && l->w == 1));
}

static Val ev_when(Low *l, ExprId id, const Expr *e)
{
    const bool lanes = along_lanes(l, e);
    Guard guard[MAX_GUARDS];
    int nguard;
    const int g = guard_place(l, e->guard, e->nguard, lanes, guard, &nguard);
    if (g == 3)
        return by_lanes(l, id);
    if (g == 2)
        return low_const(l, e->value, e->reg);
    const Val v = low_value(l, e->arg[0]);
    Val ok = 0;
    for (int i = 0; i < nguard; i++) {
        const Val ix = put_index(l, guard[i].ix, REG_I64, false);
        const Val lo = low_ew(l, OP_le, REG_BOOL, false, 2,
                              (Val[]){ low_const(l, (double)guard[i].lo, REG_I64), ix });
        const Val hi = low_ew(l, OP_lt, REG_BOOL, false, 2,
                              (Val[]){ ix, low_const(l, (double)guard[i].hi, REG_I64) });
        const Val both = low_ew(l, OP_and, REG_BOOL, false, 2, (Val[]){ lo, hi });
        ok = ok ? low_ew(l, OP_and, REG_BOOL, false, 2, (Val[]){ ok, both }) : both;
    }
    if (!ok)
        return v;
    Val arg[3] = { ok, v, low_const(l, e->value, e->reg) };
    const bool vec = is_vec(l, v);
    for (int i = 0; i < 3 && vec; i++)
        arg[i] = low_splat(l, arg[i]);
    return low_ew(l, OP_select, e->reg, vec, 3, arg);
}

/* The pick gets a variable of its own at each point; equal points share it. */
static Var known_pick(Low *l, const Expr *at, Key *key)
{
    const Expr *row = stages_expr(l->s, at->arg[0]);
    low_key(l, EXPR_PICK_OF | at->var, row->dep, row->ndep, key);
    return (Var)low_known(l, EXPR_PICK_OF | at->var, key);
}

Ix low_pick(Low *l, const Expr *at)
{
    Key key;
    const Var v = known_pick(l, at, &key);
    gtc_assert(v, "a pick is used before it is made");
    return ix_var(l->p, v);
}

static Val ev_at(Low *l, ExprId id, const Expr *e)
{
    if (along_lanes(l, stages_expr(l->s, e->arg[0])))
        return by_lanes(l, id);
    Key key;
    Var v = known_pick(l, e, &key);
    if (!v) {
        v = ix_var_new(l->p, ix_var_name(l->p, e->var), ix_var_count(l->p, e->var));
        const Val at = low_value(l, e->arg[0]);
        gtc_assert(!is_vec(l, at), "a pick by lanes");
        KNode *n = low_put(l, K_PICK);
        n->var = v;
        n->nargs = 1;
        n->arg[0] = at;
        low_remember(l, EXPR_PICK_OF | e->var, &key, v);
    }
    const Ix keep = l->env[e->var];
    l->env[e->var] = ix_var(l->p, v);
    const Val r = low_value(l, e->arg[1]);
    l->env[e->var] = keep;
    return r;
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
        arg[i] = low_value(l, e->arg[i]);
        vec |= is_vec(l, arg[i]);
    }
    for (int i = 0; i < e->nargs && vec; i++)
        arg[i] = low_splat(l, arg[i]);
    return low_ew(l, (Op)e->op, e->reg, vec, e->nargs, arg);
}

Val low_value(Low *l, ExprId id)
{
    const Expr e = *stages_expr(l->s, id);
    Key key;
    if (e.kind == EX_VALUE) {
        const StageId acc = l->s->stage[e.stage].acc;
        const Stage *st = &l->s->stage[acc];
        low_key(l, EXPR_VALUE_OF | acc, st->axis, st->naxis, &key);
        const Val v = low_known(l, EXPR_VALUE_OF | acc, &key);
        if (!v && l->vec == 0 && l->n->vec) { /* one lane of a vector that is there */
            const Ix at = l->env[l->n->vec];
            gtc_assert(l->w > 0, "no vector to take a lane of");
            for (int q = 0; q < l->w; q++) {
                l->vec = l->n->vec;
                l->env[l->vec] = ix_shift(l->p, at, -q);
                low_key(l, EXPR_VALUE_OF | acc, st->axis, st->naxis, &key);
                const Val whole = low_known(l, EXPR_VALUE_OF | acc, &key);
                l->env[l->vec] = at;
                l->vec = 0;
                if (whole)
                    return lane_of(l, whole, q);
            }
        }
        gtc_assert(v, "stage %u is used before it is reduced", acc);
        return v;
    }
    low_key(l, id, e.dep, e.ndep, &key);
    Val v = low_known(l, id, &key);
    if (v)
        return v;
    switch (e.kind) {
    case EX_CONST:
        v = low_const(l, e.value, e.reg);
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
    case EX_AT:
        v = ev_at(l, id, &e);
        break;
    default:
        v = ev_ew(l, id, &e);
        break;
    }
    low_remember(l, id, &key, v);
    return v;
}

void low_store(Low *l, const Store *st, Val v)
{
    const GBuf *b = &l->s->buf[st->buf];
    Ix ix[MAX_RANK];
    const bool lanes = l->vec && l->w > 1;
    const Move m = map_place(l, st->buf, st->ix, lanes, ix);
    const BufId kb = low_buf(l, st->buf);
    const bool spread = lanes && m == MOVE_ODD;
    if (m == MOVE_NEXT)
        v = low_splat(l, v);
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
        const Val one = m != MOVE_NEXT && is_vec(l, v)
                            ? lane_of(l, v, BUG(49) && spread ? l->w - 1 - q : q)
                            : v;
        KNode *n = low_put(l, K_STORE);
        n->buf = kb;
        n->ix = arena_copy(l->arena, at, sizeof at);
        n->nargs = 1;
        n->arg[0] = one;
        n->lanes = (uint8_t)(m == MOVE_NEXT ? l->w : 1);
    }
}
