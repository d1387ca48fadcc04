/* SPDX-License-Identifier: Apache-2.0 */
/* Which sums of a strip need not wait for the greatest score (Milakov and Gimelshein 2018, online
 * softmax).
 *
 * A sum of terms that each have the factor exp(x - m), with m made of the greatest score, can grow
 * while m does: when a tile brings a greater one, what has been summed is multiplied by exp(old m -
 * new m).  And a divisor that is one number a row, as the sum of those exponentials is, may divide
 * the sum in place of its terms.  Where all sums that wait for m are such, one loop does. */
#include "codegen/strips.h"

typedef enum Kind {
    UNKNOWN,
    FREE,
    SCALED,
    OTHER
} Kind; /* of m, by a factor exp(x - m), otherwise */

typedef struct Look {
    const Strips *w;
    const Online *o;
    uint8_t *kind; /* by ExprId */
} Look;

static const Expr *root_of(const Look *l, int unit)
{
    return stages_expr(l->w->s, l->w->s->stage[l->w->unit[unit].n.root[0]].e);
}

static ExprId root_id(const Look *l, int unit)
{
    return l->w->s->stage[l->w->unit[unit].n.root[0]].e;
}

/* Is it one number a row that a sum of this side gives, other than m? */
static bool is_late(const Look *l, const Expr *e)
{
    const int maker = strips_maker(l->w, e);
    return maker >= 0 && l->o->sums >> maker & 1;
}

static bool is_zero(const Look *l, ExprId id)
{
    const Expr *e = stages_expr(l->w->s, id);
    return e->kind == EX_CONST && e->value == 0;
}

static Kind kind_of(Look *l, ExprId id);

static Kind kind_of_read(Look *l, const Expr *e)
{
    const int maker = strips_maker(l->w, e);
    if (maker < 0 || !(l->o->units >> maker & 1))
        return FREE;
    return l->w->unit[maker].placed ? OTHER : kind_of(l, root_id(l, maker));
}

/* exp(x - m) */
static bool is_factor(Look *l, const Expr *e)
{
    if (e->op != OP_exp)
        return false;
    const Expr *sub = stages_expr(l->w->s, e->arg[0]);
    return sub->kind == EX_EW && sub->op == OP_sub && kind_of(l, sub->arg[0]) == FREE &&
           strips_maker(l->w, stages_expr(l->w->s, sub->arg[1])) == l->o->greatest;
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
    if (l->kind[id])
        return (Kind)l->kind[id];
    const Stages *s = l->w->s;
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
    l->kind[id] = (uint8_t)k;
    return k;
}

/* The divisor on the way to the factor, of a term of `unit`; id stands in the axes of `in`. */
static bool note_divisors(Look *l, ExprId id, Online *o, int unit, int in)
{
    const Expr *e = stages_expr(l->w->s, id);
    if (e->kind == EX_READ)
        return note_divisors(l, root_id(l, strips_maker(l->w, e)), o, unit, strips_maker(l->w, e));
    if (is_factor(l, e))
        return true;
    if (e->op == OP_div && is_late(l, stages_expr(l->w->s, e->arg[1]))) {
        if (o->divisor[unit])
            return false;
        o->divisor[unit] = e->arg[1];
        o->divides[unit] = in;
    }
    for (int i = 0; i < e->nargs; i++)
        if (kind_of(l, e->arg[i]) == SCALED)
            return note_divisors(l, e->arg[i], o, unit, in);
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
    return u->n.nred == 1 && e->kind == EX_VALUE && l->w->s->stage[u->n.red[0]].rop == OP_max;
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
    Look l = { w, o, arena_array(w->pl->arena, uint8_t, w->s->nexpr) };
    if (o->greatest < 0 || !o->sums || !is_greatest(&l, o->greatest))
        return false;
    for (int i = 0; i < w->nunit; i++) {
        if (!(o->sums >> i & 1))
            continue;
        const Nest *n = &w->unit[i].n;
        const Stage *red = &w->s->stage[n->red[0]];
        if (n->nred != 1 || red->rop != OP_add || kind_of(&l, red->e) != SCALED ||
            !note_divisors(&l, red->e, o, i, i))
            return false;
    }
    return true;
}
