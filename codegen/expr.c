/* SPDX-License-Identifier: Apache-2.0 */
/* Hash-consed scalar expressions over index maps, and the arrays of a Stages. */
#include "codegen/stages.h"

#include <string.h>

#include "ir/base/hash.h"
#include "ir/base/size.h"

RegType reg_of(DType dt)
{
    switch (dt) {
    case DT_I32:
    case DT_U8:
        return REG_I32;
    case DT_I64:
        return REG_I64;
    case DT_BOOL:
        return REG_BOOL;
    default:
        return REG_F32;
    }
}

const Expr *stages_expr(const Stages *s, ExprId e)
{
    gtc_assert(e > 0 && e < s->nexpr, "expression %u of %u", e, s->nexpr);
    return &s->expr[e];
}

static uint64_t expr_hash(const Expr *e)
{
    const struct {
        uint8_t kind, reg, nargs, nix;
        uint16_t op, buf, stage, var, pad[2]; /* no hole: every byte is hashed */
        double value;
    } head = {
        e->kind, e->reg, e->nargs, e->nix, e->op, e->buf, e->stage, e->var, { 0 }, e->value
    };
    uint64_t h = hash_bytes(&head, sizeof head, e->nguard);
    h = hash_bytes(e->arg, sizeof *e->arg * e->nargs, h);
    if (e->nix)
        h = hash_bytes(e->ix, sizeof *e->ix * e->nix, h);
    for (int i = 0; i < e->nguard; i++)
        h = h * 31 + e->guard[i].ix * 7u + (uint64_t)e->guard[i].lo * 131 +
            (uint64_t)e->guard[i].hi;
    return h;
}

static bool expr_same(const Expr *a, const Expr *b)
{
    if (a->kind != b->kind || a->reg != b->reg || a->nargs != b->nargs || a->nix != b->nix ||
        a->nguard != b->nguard || a->op != b->op || a->buf != b->buf || a->stage != b->stage ||
        a->var != b->var || memcmp(&a->value, &b->value, sizeof a->value) != 0 ||
        memcmp(a->arg, b->arg, sizeof *a->arg * a->nargs) != 0 ||
        (a->nix && memcmp(a->ix, b->ix, sizeof *a->ix * a->nix) != 0))
        return false;
    for (int i = 0; i < a->nguard; i++)
        if (a->guard[i].ix != b->guard[i].ix || a->guard[i].lo != b->guard[i].lo ||
            a->guard[i].hi != b->guard[i].hi)
            return false;
    return true;
}

enum { MAX_DEPS = 64 };
typedef struct DepSet {
    Var at[MAX_DEPS];
    int n;
} DepSet;

static void dep_add(void *arg, Var v)
{
    DepSet *d = arg;
    int i = d->n;
    while (i > 0 && d->at[i - 1] >= v) {
        if (d->at[i - 1] == v)
            return;
        i--;
    }
    gtc_assert(d->n < MAX_DEPS, "an expression over more than %d axes", MAX_DEPS);
    memmove(d->at + i + 1, d->at + i, sizeof(Var) * (size_t)(d->n - i));
    d->at[i] = v;
    d->n++;
}

static void dep_remove(DepSet *d, Var v)
{
    int n = 0;
    for (int i = 0; i < d->n; i++)
        if (d->at[i] != v)
            d->at[n++] = d->at[i];
    d->n = n;
}

static void expr_deps(Stages *s, Expr *e)
{
    DepSet d = { .n = 0 };
    for (int i = 0; i < e->nargs; i++)
        for (int j = 0; j < s->expr[e->arg[i]].ndep; j++)
            dep_add(&d, s->expr[e->arg[i]].dep[j]);
    for (int i = 0; i < e->nix; i++)
        ix_vars(s->pool, e->ix[i], dep_add, &d);
    for (int i = 0; i < e->nguard; i++)
        ix_vars(s->pool, e->guard[i].ix, dep_add, &d);
    if (e->kind == EX_VALUE)
        for (int i = 0; i < s->stage[e->stage].naxis; i++)
            dep_add(&d, s->stage[e->stage].axis[i]);
    if (e->kind == EX_AT)
        dep_remove(&d, e->var);
    e->dep = arena_copy(s->arena, d.at, sizeof(Var) * (size_t)(d.n ? d.n : 1));
    e->ndep = (uint16_t)d.n;
}

static void expr_rehash(Stages *s)
{
    s->hash_cap = s->hash_cap ? s->hash_cap * 2 : 256;
    s->hash = arena_array(s->arena, uint32_t, s->hash_cap);
    for (ExprId i = 1; i < s->nexpr; i++) {
        uint64_t h = expr_hash(&s->expr[i]);
        while (s->hash[h & (s->hash_cap - 1)])
            h++;
        s->hash[h & (s->hash_cap - 1)] = i;
    }
}

ExprId expr_add(Stages *s, const Expr *e)
{
    if (s->nexpr == 0) {
        s->expr_cap = 64;
        s->expr = arena_array(s->arena, Expr, s->expr_cap);
        s->nexpr = 1;
    }
    if (s->nexpr * 2 >= s->hash_cap)
        expr_rehash(s);
    uint64_t h = expr_hash(e);
    for (uint32_t at; (at = s->hash[h & (s->hash_cap - 1)]) != 0; h++)
        if (expr_same(&s->expr[at], e))
            return at;
    if (s->nexpr >= s->expr_cap)
        arena_grow(s->arena, s->expr, s->nexpr, s->expr_cap);
    Expr *n = &s->expr[s->nexpr];
    *n = *e;
    if (e->nix)
        n->ix = arena_copy(s->arena, e->ix, sizeof *e->ix * e->nix);
    if (e->nguard)
        n->guard = arena_copy(s->arena, e->guard, sizeof *e->guard * e->nguard);
    expr_deps(s, n);
    s->hash[h & (s->hash_cap - 1)] = s->nexpr;
    return s->nexpr++;
}

ExprId expr_read(Stages *s, uint16_t buf, const Ix *ix)
{
    const GBuf *b = &s->buf[buf];
    return expr_add(s, &(Expr){ .kind = EX_READ,
                                .reg = (uint8_t)reg_of(b->dt),
                                .buf = buf,
                                .nix = (uint8_t)b->rank,
                                .ix = ix });
}

ExprId expr_value(Stages *s, StageId stage)
{
    return expr_add(
        s,
        &(Expr){ .kind = EX_VALUE, .reg = stages_expr(s, s->stage[stage].e)->reg, .stage = stage });
}

static ExprId map_rec(Stages *s, ExprId id, ExprId (*leaf)(void *, ExprId), void *arg, ExprId *done)
{
    if (done[id])
        return done[id];
    Expr e = s->expr[id];
    ExprId r = id;
    if (e.kind == EX_READ || e.kind == EX_VALUE) {
        r = leaf(arg, id);
    } else if (e.nargs) {
        bool changed = false;
        for (int i = 0; i < e.nargs; i++) {
            const ExprId a = map_rec(s, e.arg[i], leaf, arg, done);
            changed |= a != e.arg[i];
            e.arg[i] = a;
        }
        if (changed)
            r = expr_add(s, &e);
    }
    return done[id] = r;
}

ExprId expr_map(Stages *s, ExprId e, ExprId (*leaf)(void *arg, ExprId e), void *arg)
{
    ExprId *done = arena_array(s->arena, ExprId, e + 1); /* arguments have smaller ids */
    return map_rec(s, e, leaf, arg, done);
}

/* ---- walking expressions ----------------------------------------------------------------- */

typedef struct Walk {
    const Stages *s;
    uint8_t *seen;
    void (*f)(void *arg, const Expr *e);
    void *arg;
} Walk;

static void walk(Walk *w, ExprId id)
{
    if (w->seen[id])
        return;
    w->seen[id] = 1;
    const Expr *e = stages_expr(w->s, id);
    for (int i = 0; i < e->nargs; i++)
        walk(w, e->arg[i]);
    w->f(w->arg, e);
}

void expr_walk(Stages *s, ExprId id, void (*f)(void *, const Expr *), void *arg)
{
    Walk w = { s, arena_array(s->arena, uint8_t, id + 1), f, arg };
    walk(&w, id);
}

struct ReadsOnly {
    void (*f)(void *arg, const Expr *read);
    void *arg;
};

static void if_read(void *arg, const Expr *e)
{
    struct ReadsOnly *r = arg;
    if (e->kind == EX_READ)
        r->f(r->arg, e);
}

void expr_reads(Stages *s, ExprId e, void (*f)(void *arg, const Expr *read), void *arg)
{
    expr_walk(s, e, if_read, &(struct ReadsOnly){ f, arg });
}

/* ---- how maps move ----------------------------------------------------------------------- */

/* Does a pick in ix follow v? */
static bool pick_moves(const Stages *s, Ix ix, Var v)
{
    for (uint32_t i = 0; i < s->npick; i++) {
        const Expr *at = stages_expr(s, s->pick[i].at);
        for (int j = 0; j < at->ndep && ix_uses(s->pool, ix, s->pick[i].var); j++)
            if (at->dep[j] == v)
                return true;
    }
    return false;
}

int map_stride(Stages *s, const Ix *ix, int nix, Var v, int lanes)
{
    IxPool *p = s->pool;
    int result = 0;
    const int64_t count = ix_var_count(p, v);
    for (int d = 0; d < nix && s->npick; d++)
        if (pick_moves(s, ix[d], v))
            return 2;
    Ix lane = 0, sub = 0;
    for (int d = 0; d < nix; d++) {
        if (!ix_uses(p, ix[d], v))
            continue;
        bool lin;
        int64_t coef = ix_coef(p, ix[d], v, &lin);
        if (!lin && lanes > 1 && count > lanes) { /* within one vector the divisions may vanish */
            if (!sub) {
                lane = ix_var(p, ix_var_new(p, "l", lanes));
                const Var q = ix_var_new(p, "q", size_ceil_div(count, lanes));
                sub = ix_add(p, ix_scale(p, ix_var(p, q), lanes), lane);
            }
            Ix *map = arena_array(s->arena, Ix, v + 1);
            memset(map, 0xff, sizeof *map * (v + 1u));
            map[v] = sub;
            const Ix moved = ix_subst(p, ix[d], map, v + 1u);
            Var lane_var;
            if (!ix_is_var(p, lane, &lane_var))
                return 2;
            coef = ix_coef(p, moved, lane_var, &lin);
            if (lin && coef == 0)
                continue;
        }
        if (!lin || coef != 1 || d != nix - 1)
            return 2;
        result = 1;
    }
    return result;
}

/* ---- the arrays of a Stages --------------------------------------------------------------- */

uint16_t stages_temp(Stages *s, const char *name, DType dt, int rank, const int64_t *shape)
{
    if (s->nbuf >= s->buf_cap)
        arena_grow(s->arena, s->buf, s->nbuf, s->buf_cap);
    GBuf *b = &s->buf[s->nbuf];
    *b =
        (GBuf){ .name = name, .dt = dt, .rank = (int8_t)rank, .home = HOME_SHARED, .team_dim = -1 };
    memcpy(b->shape, shape, sizeof *shape * (size_t)rank);
    return (uint16_t)s->nbuf++;
}

Var stages_pick(Stages *s, ExprId at, int64_t count)
{
    for (uint32_t i = 0; i < s->npick; i++)
        if (s->pick[i].at == at && ix_var_count(s->pool, s->pick[i].var) == count)
            return s->pick[i].var;
    if (s->npick >= s->pick_cap)
        arena_grow(s->arena, s->pick, s->npick, s->pick_cap);
    s->pick[s->npick] = (Pick){ ix_var_new(s->pool, "g", count), at };
    return s->pick[s->npick++].var;
}

bool stages_is_pick(const Stages *s, Var v)
{
    for (uint32_t i = 0; i < s->npick; i++)
        if (s->pick[i].var == v)
            return true;
    return false;
}

StageId stages_add(Stages *s, const Stage *st)
{
    if (s->nstage >= s->stage_cap)
        arena_grow(s->arena, s->stage, s->nstage, s->stage_cap);
    s->stage[s->nstage] = *st;
    s->stage[s->nstage].acc = (StageId)s->nstage;
    return (StageId)s->nstage++;
}

static void print_axes(const Stages *s, const Var *v, int n, Strbuf *out)
{
    for (int i = 0; i < n; i++)
        strbuf_printf(out, "%s%s", i ? "," : "", ix_var_name(s->pool, v[i]));
}

static void print_ix(const Stages *s, const Ix *ix, int n, Strbuf *out)
{
    strbuf_putc(out, '[');
    for (int i = 0; i < n; i++) {
        if (i)
            strbuf_add(out, ", ");
        ix_print(s->pool, ix[i], out);
    }
    strbuf_putc(out, ']');
}

static void print_expr(const Stages *s, ExprId id, int depth, Strbuf *out)
{
    const Expr *e = stages_expr(s, id);
    if (depth > 6) {
        strbuf_add(out, "..");
        return;
    }
    switch (e->kind) {
    case EX_CONST:
        strbuf_printf(out, "%g", e->value);
        return;
    case EX_READ:
        strbuf_add(out, s->buf[e->buf].name);
        print_ix(s, e->ix, e->nix, out);
        if (e->nguard)
            strbuf_add(out, "?");
        return;
    case EX_VALUE:
        strbuf_printf(out, "s%u", e->stage);
        return;
    case EX_INDEX:
        print_ix(s, e->ix, 1, out);
        return;
    default:
        strbuf_add(out, e->kind == EX_EW     ? op_info[e->op].name
                        : e->kind == EX_RAND ? "rand"
                        : e->kind == EX_AT   ? ix_var_name(s->pool, e->var)
                                             : "when");
        strbuf_putc(out, '(');
        for (int i = 0; i < e->nargs; i++) {
            if (i)
                strbuf_add(out, ", ");
            print_expr(s, e->arg[i], depth + 1, out);
        }
        strbuf_putc(out, ')');
    }
}

void stages_print(const Stages *s, Strbuf *out)
{
    for (uint32_t i = 0; i < s->nstage; i++) {
        const Stage *st = &s->stage[i];
        if (st->dropped)
            continue;
        strbuf_printf(out, "s%u[", i);
        print_axes(s, st->axis, st->naxis, out);
        strbuf_add(out, "]");
        if (st->nred) {
            strbuf_printf(out, " %s over ", op_info[st->rop].name);
            print_axes(s, st->red, st->nred, out);
        }
        strbuf_add(out, " = ");
        print_expr(s, st->e, 0, out);
        for (int j = 0; j < st->nstore; j++) {
            strbuf_printf(out, " -> %s", s->buf[st->store[j].buf].name);
            print_ix(s, st->store[j].ix, s->buf[st->store[j].buf].rank, out);
        }
        strbuf_putc(out, '\n');
    }
}
