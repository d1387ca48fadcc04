/* SPDX-License-Identifier: Apache-2.0 */
/* Which sums of a strip need not wait for the greatest score (Milakov and Gimelshein 2018, online
 * softmax).
 *
 * A sum of terms that each have the factor exp(x - m), with m made of the greatest score, can grow
 * while m does: when a tile brings a greater one, what has been summed is multiplied by exp(old m -
 * new m).  And a divisor that is one number a row, as the sum of those exponentials is, may divide
 * the sum in place of its terms.  Where all sums that wait for m are such, one loop does. */
#include "codegen/strips.h"

#include <string.h>

typedef enum Kind {
    UNKNOWN,
    FREE,
    SCALED,
    OTHER
} Kind; /* of m, by a factor exp(x - m), otherwise */

typedef struct Look {
    const Strips *w;
    const Online *o;
    int unit;      /* in whose axes the expression stands */
    uint8_t *kind; /* by unit and ExprId */
} Look;

static const Expr *root_of(const Look *l, int unit)
{
    return stages_expr(l->w->s, l->w->s->stage[l->w->unit[unit].n.root[0]].e);
}

static ExprId root_id(const Look *l, int unit)
{
    return l->w->s->stage[l->w->unit[unit].n.root[0]].e;
}

/* One number a row, or several? */
static bool is_one(const Strips *w, int unit)
{
    const Unit *u = &w->unit[unit];
    for (int i = 0; i < u->n.naxis; i++)
        if (u->role[u->n.axis[i]] == ROLE_NONE)
            return false;
    return true;
}

/* Is it one number a row that a sum of this side gives, other than m? */
static bool is_late(const Look *l, const Expr *e)
{
    const int maker = strips_maker(l->w, e);
    return maker >= 0 && l->o->sums >> maker & 1 && is_one(l->w, maker);
}

static bool is_zero(const Look *l, ExprId id)
{
    const Expr *e = stages_expr(l->w->s, id);
    return e->kind == EX_CONST && e->value == 0;
}

/* ---- of what m is -------------------------------------------------------------------------- */

typedef struct Same {
    const Look *l;
    Ix *map;      /* by Var of the other unit: that of the same role */
    ExprId *like; /* by ExprId: what it was found to equal */
} Same;

static bool is_same(Same *m, ExprId a, ExprId b)
{
    Stages *s = m->l->w->s;
    const Var nvar = m->l->w->nvar;
    const Expr x = *stages_expr(s, a), y = *stages_expr(s, b);
    if (m->like[a] == b)
        return true;
    if (x.kind != y.kind || x.reg != y.reg || x.op != y.op || x.buf != y.buf ||
        x.stage != y.stage || x.nargs != y.nargs || x.nix != y.nix || x.nguard != y.nguard ||
        memcmp(&x.value, &y.value, sizeof x.value) != 0)
        return false;
    for (int i = 0; i < y.ndep && x.kind == EX_VALUE; i++)
        if (m->map[y.dep[i]] != IX_KEEP)
            return false;
    for (int i = 0; i < x.nix; i++)
        if (x.ix[i] != ix_subst(s->pool, y.ix[i], m->map, nvar))
            return false;
    for (int i = 0; i < x.nguard; i++)
        if (x.guard[i].lo != y.guard[i].lo || x.guard[i].hi != y.guard[i].hi ||
            x.guard[i].ix != ix_subst(s->pool, y.guard[i].ix, m->map, nvar))
            return false;
    for (int i = 0; i < x.nargs; i++)
        if (!is_same(m, x.arg[i], y.arg[i]))
            return false;
    m->like[a] = b;
    return true;
}

static Var var_of(const Strips *w, int unit, Role role)
{
    for (Var v = 0; v < w->nvar; v++)
        if (w->unit[unit].role[v] == role)
            return v;
    return 0;
}

/* Is m the greatest of this?  Of another, x - m may be large while m is not what it will be. */
static bool is_its_greatest(const Look *l, ExprId x)
{
    const Strips *w = l->w;
    const Unit *u = &w->unit[l->o->greatest];
    Same m = { l, arena_array(w->pl->arena, Ix, w->nvar),
               arena_array(w->pl->arena, ExprId, w->s->nexpr) };
    for (Var v = 0; v < w->nvar; v++) {
        const Var to = u->role[v] == ROLE_NONE ? 0 : var_of(w, l->unit, (Role)u->role[v]);
        m.map[v] = to && to != v ? ix_var(w->s->pool, to) : IX_KEEP;
    }
    return is_same(&m, x, w->s->stage[u->n.red[0]].e);
}

/* ---- factors ------------------------------------------------------------------------------- */

static Kind kind_of(Look *l, ExprId id);

/* The same of what unit makes. */
static Kind kind_of_root(Look *l, int unit)
{
    const int reader = l->unit;
    l->unit = unit;
    const Kind k = kind_of(l, root_id(l, unit));
    l->unit = reader;
    return k;
}

static Kind kind_of_read(Look *l, const Expr *e)
{
    const int maker = strips_maker(l->w, e);
    if (maker < 0 || !(l->o->units >> maker & 1))
        return FREE;
    const Kind k = l->w->unit[maker].placed ? OTHER : kind_of_root(l, maker);
    const bool wide = l->w->s->buf[e->buf].dt == DT_F32; /* else too narrow without its divisor */
    return k == FREE || wide ? k : OTHER;
}

/* exp(x - m) */
static bool is_factor(Look *l, const Expr *e)
{
    if (e->op != OP_exp)
        return false;
    const Expr *sub = stages_expr(l->w->s, e->arg[0]);
    return sub->kind == EX_EW && sub->op == OP_sub && kind_of(l, sub->arg[0]) == FREE &&
           strips_maker(l->w, stages_expr(l->w->s, sub->arg[1])) == l->o->greatest &&
           is_its_greatest(l, sub->arg[0]);
}

static Kind kind_of_op(Look *l, const Expr *e)
{
    Kind k[3] = { FREE, FREE, FREE };
    if (is_factor(l, e))
        return SCALED;
    for (int i = 0; i < e->nargs; i++)
        k[i] = kind_of(l, e->arg[i]);
    if (k[0] == FREE && k[1] == FREE && k[2] == FREE)
        return FREE;
    const Op op = (Op)e->op;
    if (op == OP_neg)
        return k[0];
    if (op == OP_mul)
        return k[0] + k[1] == FREE + SCALED ? SCALED : OTHER;
    if (op == OP_div && k[0] == SCALED)
        return k[1] == FREE || is_late(l, stages_expr(l->w->s, e->arg[1])) ? SCALED : OTHER;
    if (op == OP_select && k[0] == FREE)
        return (k[1] == SCALED && is_zero(l, e->arg[2])) ||
                       (k[2] == SCALED && is_zero(l, e->arg[1]))
                   ? SCALED
                   : OTHER;
    return OTHER;
}

static Kind kind_of(Look *l, ExprId id)
{
    const Stages *s = l->w->s;
    uint8_t *known = &l->kind[(size_t)l->unit * s->nexpr + id];
    if (*known)
        return (Kind)*known;
    const Expr *e = stages_expr(s, id);
    Kind k = FREE;
    if (e->kind == EX_READ)
        k = kind_of_read(l, e);
    else if (e->kind == EX_VALUE)
        k = kind_of(l, s->stage[e->stage].e) == FREE ? FREE : OTHER;
    else if (e->kind == EX_EW)
        k = kind_of_op(l, e);
    for (int i = 0; i < e->nargs && e->kind != EX_EW; i++)
        if (kind_of(l, e->arg[i]) != FREE)
            k = OTHER;
    *known = (uint8_t)k;
    return k;
}

/* The divisor on the way to the factor, of a term of `unit`. */
static bool note_divisors(Look *l, ExprId id, Online *o, int unit)
{
    const Expr *e = stages_expr(l->w->s, id);
    if (e->kind == EX_READ) {
        l->unit = strips_maker(l->w, e);
        return note_divisors(l, root_id(l, l->unit), o, unit);
    }
    if (is_factor(l, e))
        return true;
    if (e->op == OP_div && is_late(l, stages_expr(l->w->s, e->arg[1]))) {
        if (o->divisor[unit])
            return false;
        o->divisor[unit] = e->arg[1];
        o->divides[unit] = l->unit;
    }
    for (int i = 0; i < e->nargs; i++)
        if (kind_of(l, e->arg[i]) == SCALED)
            return note_divisors(l, e->arg[i], o, unit);
    return false;
}

/* m: made of one greatest value, which is its only sum, by what keeps order. */
static bool is_greatest(const Look *l, int unit)
{
    const Unit *u = &l->w->unit[unit];
    const Expr *e = root_of(l, unit);
    if (e->kind == EX_EW && e->op == OP_floor)
        e = stages_expr(l->w->s, e->arg[0]);
    for (int k = 0; k < l->w->s->stage[u->n.root[0]].nstore; k++)
        if (l->w->s->buf[l->w->s->stage[u->n.root[0]].store[k].buf].dt != DT_F32)
            return false;
    return u->n.nred == 1 && is_one(l->w, unit) && e->kind == EX_VALUE &&
           l->w->s->stage[u->n.red[0]].rop == OP_max;
}

bool strips_online(const Strips *w, uint64_t units, Role walk, const int *level, Online *o)
{
    *o = (Online){ .greatest = -1, .units = units };
    for (int i = 0; i < w->nunit; i++) {
        if (!(units >> i & 1) || w->unit[i].sums != walk)
            continue;
        if (level[i] == 1 && o->greatest >= 0)
            return false;
        if (level[i] == 1)
            o->greatest = i;
        else
            o->sums |= UINT64_C(1) << i;
    }
    Look l = { .w = w, .o = o };
    l.kind = arena_array(w->pl->arena, uint8_t, (size_t)w->nunit * w->s->nexpr);
    if (o->greatest < 0 || !o->sums || !is_greatest(&l, o->greatest))
        return false;
    for (int i = 0; i < w->nunit; i++) {
        if (!(o->sums >> i & 1))
            continue;
        const Nest *n = &w->unit[i].n;
        const Stage *red = &w->s->stage[n->red[0]];
        l.unit = i;
        if (n->nred != 1 || red->rop != OP_add || kind_of(&l, red->e) != SCALED ||
            !note_divisors(&l, red->e, o, i))
            return false;
    }
    return true;
}
