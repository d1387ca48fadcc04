/* SPDX-License-Identifier: Apache-2.0 */
/* What each axis of an attention kernel is.
 *
 * Axes are named by their extents, so that the keys of one stage may bear the name of the queries
 * of another.  A product that makes scores says which of its own axes are rows (in the left factor
 * alone), columns (in the right one alone) and batches (in both).  From there roles spread over the
 * kernel's buffers: a dimension that is stored or read by an axis alone has the role of that axis,
 * and gives it to every other axis that walks it. */
#include "codegen/strips.h"

#include "ir/base/size.h"

static bool depends(const Expr *e, Var v)
{
    for (int i = 0; i < e->ndep; i++)
        if (e->dep[i] == v)
            return true;
    return false;
}

/* ---- units --------------------------------------------------------------------------------- */

static Var axis_count(const Stages *s)
{
    Var most = 0;
    for (uint32_t i = 0; i < s->nstage; i++) {
        const Stage *st = &s->stage[i];
        for (int j = 0; j < st->naxis + st->nred; j++) {
            const Var v = j < st->naxis ? st->axis[j] : st->red[j - st->naxis];
            most = v > most ? v : most;
        }
    }
    return (Var)(most + 1);
}

static bool add_unit(Strips *w, StageId root)
{
    const Stage *st = &w->s->stage[root];
    if (w->nunit == MAX_UNITS || st->adds || st->when != WHEN_PLAIN)
        return false;
    Unit *u = &w->unit[w->nunit++];
    *u = (Unit){ .n = plan_unit(w->s, root) };
    u->role = arena_array(w->pl->arena, uint8_t, w->nvar);
    for (int k = 0; k < st->nstore; k++)
        u->gives |= w->s->buf[st->store[k].buf].is_out;
    return true;
}

/* The axes of the product that makes scores: a temporary, by rows of one factor and columns of the
 * other. */
static bool is_seed(Strips *w, Unit *u)
{
    Stages *s = w->s;
    const Nest *n = &u->n;
    if (u->gives || n->nred == 0)
        return false;
    const Expr *e = stages_expr(s, s->stage[n->red[0]].e);
    if (s->stage[n->red[0]].rop != OP_add || e->kind != EX_EW || e->op != OP_mul)
        return false;
    const Expr *left = stages_expr(s, e->arg[0]), *right = stages_expr(s, e->arg[1]);
    int of[ROLE_BATCH] = { 0 }, nbatch = 0;
    for (int i = 0; i < n->naxis; i++) {
        const bool l = depends(left, n->axis[i]), r = depends(right, n->axis[i]);
        of[l && !r ? ROLE_ROW : r && !l ? ROLE_COL : ROLE_NONE]++;
        nbatch += l && r;
    }
    if (of[ROLE_ROW] != 1 || of[ROLE_COL] != 1 || of[ROLE_NONE] != nbatch || nbatch > MAX_BATCH)
        return false;
    for (int i = 0; i < n->naxis; i++) {
        const Var v = n->axis[i];
        const bool l = depends(left, v), r = depends(right, v);
        const Role role = l && !r ? ROLE_ROW : r && !l ? ROLE_COL : ROLE_BATCH + w->nbatch++;
        u->role[v] = (uint8_t)role;
        w->count[role] = ix_var_count(s->pool, v);
    }
    return true;
}

/* ---- how roles spread ---------------------------------------------------------------------- */

typedef struct Visit {
    Strips *w;
    Unit *u;
    bool spread; /* else: check */
    bool more, ok;
} Visit;

struct Mixed {
    const Unit *u;
    bool found;
};

static void has_role(void *arg, Var v)
{
    struct Mixed *m = arg;
    m->found |= m->u->role[v] != ROLE_NONE;
}

static void visit_place(Visit *v, uint16_t buf, const Ix *ix)
{
    Strips *w = v->w;
    const GBuf *b = &w->s->buf[buf];
    for (int d = 0; d < b->rank && !b->is_in; d++) {
        uint8_t *dim = &w->dim[buf][d];
        Var x;
        const bool alone = ix_is_var(w->s->pool, ix[d], &x);
        uint8_t *role = alone ? &v->u->role[x] : NULL;
        if (v->spread && alone && *dim != *role) {
            v->ok &= !*dim || !*role;
            v->more = true;
            *dim = *role = *dim ? *dim : *role;
        } else if (!v->spread && alone) {
            v->ok &= !*dim || (ix_var_count(w->s->pool, x) == w->count[*dim] &&
                               b->shape[d] == w->count[*dim]);
        } else if (!v->spread) {
            struct Mixed m = { v->u, *dim != ROLE_NONE };
            ix_vars(w->s->pool, ix[d], has_role, &m);
            v->ok &= !m.found;
        }
    }
}

static void visit_read(void *arg, const Expr *e)
{
    Visit *v = arg;
    v->ok &= e->nguard + 2 * MAX_RANK <= MAX_GUARDS; /* the ends of strips need some */
    visit_place(v, e->buf, e->ix);
}

static void visit_unit(Visit *v)
{
    Stages *s = v->w->s;
    const Nest *n = &v->u->n;
    const Stage *root = &s->stage[n->root[0]];
    for (int k = 0; k < root->nstore; k++)
        visit_place(v, root->store[k].buf, root->store[k].ix);
    expr_reads(s, root->e, visit_read, v);
    for (int i = 0; i < n->nred; i++)
        expr_reads(s, s->stage[n->red[i]].e, visit_read, v);
}

static bool spread_roles(Strips *w)
{
    Visit v = { .w = w, .spread = true, .more = true, .ok = true };
    while (v.more && v.ok) {
        v.more = false;
        for (int i = 0; i < w->nunit; i++) {
            v.u = &w->unit[i];
            visit_unit(&v);
        }
    }
    v.spread = false;
    for (int i = 0; i < w->nunit && v.ok; i++) {
        v.u = &w->unit[i];
        visit_unit(&v);
    }
    return v.ok;
}

/* ---- what each unit does ------------------------------------------------------------------- */

/* Points of a sum that is none along the scores, as of the channels of a head. */
static int64_t channels(const Strips *w, const Unit *u, const Stage *st)
{
    int64_t n = 1;
    for (int i = 0; i < st->nred; i++)
        n = size_mul(n, u->role[st->red[i]] ? 1 : ix_var_count(w->s->pool, st->red[i]));
    return n;
}

/* Each role once at most, all batches, no sum over a batch, none over rows and columns both or over
 * columns twice, and none so long that blocks should hold its operands. */
static bool describe(Strips *w, Unit *u)
{
    enum { MOST_CHANNELS = 256 };
    const Nest *n = &u->n;
    for (int i = 0; i < n->naxis; i++) {
        const unsigned bit = 1u << u->role[n->axis[i]];
        if (bit != 1u << ROLE_NONE && u->axes & bit)
            return false;
        u->axes |= bit;
    }
    for (int i = 0; i < n->nred; i++) {
        const Stage *st = &w->s->stage[n->red[i]];
        if (channels(w, u, st) > MOST_CHANNELS)
            return false;
        bool have = false;
        for (int j = 0; j < st->nred; j++) {
            const Role role = u->role[st->red[j]];
            if (role == ROLE_NONE)
                continue;
            if (role >= ROLE_BATCH || u->axes >> role & 1 || (u->sums && u->sums != role) || have ||
                stages_expr(w->s, st->e)->reg != REG_F32)
                return false;
            u->sums = role;
            have = true;
        }
    }
    const unsigned batches = ((1u << w->nbatch) - 1) << ROLE_BATCH;
    const bool row = u->axes >> ROLE_ROW & 1, col = u->axes >> ROLE_COL & 1;
    u->side = row ? ROLE_ROW : ROLE_COL;
    u->square = row && col;
    return (u->axes & batches) == batches && (row || col) && !(u->square && u->gives);
}

struct Needs {
    Strips *w;
    Unit *u;
    bool root; /* not in a reduction, where no other may stand */
    uint64_t elsewhere;
};

static void note_need(void *arg, const Expr *e)
{
    struct Needs *m = arg;
    Strips *w = m->w;
    const uint64_t maker = w->maker[e->buf];
    m->u->needs |= maker;
    for (int d = 0; d < e->nix; d++) {
        Var v;
        const bool own =
            m->root && m->u->square && w->dim[e->buf][d] && ix_is_var(w->s->pool, e->ix[d], &v);
        if (!own)
            m->elsewhere |= maker;
    }
}

static void find_needs(Strips *w, int i)
{
    Unit *u = &w->unit[i];
    struct Needs m = { w, u, true, 0 };
    expr_reads(w->s, w->s->stage[u->n.root[0]].e, note_need, &m);
    m.root = false;
    for (int j = 0; j < u->n.nred; j++)
        expr_reads(w->s, w->s->stage[u->n.red[j]].e, note_need, &m);
    u->after = u->needs;
    for (int j = 0; j < i; j++) {
        if (u->needs >> j & 1)
            u->after |= w->unit[j].after;
        if (w->unit[j].square)
            u->here |= u->needs & ~m.elsewhere & UINT64_C(1) << j;
    }
}

/* Who reads whose results.  False where a buffer has two makers. */
static bool link_units(Strips *w)
{
    w->maker = arena_array(w->pl->arena, uint64_t, w->nbuf);
    for (int i = 0; i < w->nunit; i++) {
        Unit *u = &w->unit[i];
        find_needs(w, i);
        bool sums = u->sums != ROLE_NONE;
        for (int j = 0; j < i; j++)
            sums |= (u->after >> j & 1) && w->unit[j].sums != ROLE_NONE;
        u->placed = !u->square && (sums || u->gives);
        const Stage *root = &w->s->stage[u->n.root[0]];
        for (int k = 0; k < root->nstore; k++) {
            if (w->maker[root->store[k].buf])
                return false;
            w->maker[root->store[k].buf] = UINT64_C(1) << i;
        }
    }
    return true;
}

bool strips_roles(Strips *w, Planner *pl, const Nest *nest, int nnest)
{
    *w = (Strips){ .pl = pl, .s = pl->s, .nbuf = pl->s->nbuf, .nvar = axis_count(pl->s) };
    w->dim = arena_alloc_array(pl->arena, sizeof *w->dim, w->nbuf);
    if (pl->s->npick || pl->s->has_scan)
        return false;
    for (int i = 0; i < nnest; i++)
        for (int j = 0; j < nest[i].nroot; j++)
            if (!add_unit(w, nest[i].root[j]))
                return false;
    int seed = 0;
    while (seed < w->nunit && !is_seed(w, &w->unit[seed]))
        seed++;
    if (seed == w->nunit || !spread_roles(w))
        return false;
    for (int i = 0; i < w->nunit; i++)
        if (!describe(w, &w->unit[i]))
            return false;
    return link_units(w);
}

uint64_t strips_placed(const Strips *w, Role side)
{
    uint64_t units = 0;
    for (int i = 0; i < w->nunit; i++)
        if (w->unit[i].placed && w->unit[i].side == side)
            units |= UINT64_C(1) << i;
    return units;
}

uint64_t strips_needed(const Strips *w, uint64_t targets, uint64_t *computed)
{
    uint64_t wanted = targets;
    for (int i = w->nunit - 1; i >= 0; i--) {
        const Unit *u = &w->unit[i];
        for (int j = 0; j < i && wanted >> i & 1; j++)
            if (u->needs >> j & 1 && !w->unit[j].placed) {
                wanted |= UINT64_C(1) << j;
                targets |= ~u->here & UINT64_C(1) << j;
            }
    }
    if (computed)
        *computed = wanted;
    return targets;
}

int strips_maker(const Strips *w, const Expr *e)
{
    for (int i = 0; i < w->nunit && e->kind == EX_READ; i++)
        if (w->maker[e->buf] == UINT64_C(1) << i)
            return i;
    return -1;
}

int strips_here(const Strips *w, int i, const Expr *e)
{
    const int maker = strips_maker(w, e);
    return maker >= 0 && w->unit[i].here >> maker & 1 ? maker : -1;
}
