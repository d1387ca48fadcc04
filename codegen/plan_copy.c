/* SPDX-License-Identifier: Apache-2.0 */
/* Operand copies: what a contraction would read across the lanes is first copied into panels.
 *
 * The operands of one loop over the reduced axes lie side by side, in the order the loop wants
 * them: panel[tile][reduced axes][operand][lanes of the tile].  Filling a copy is a map like any
 * other and gets a phase of its own in front.  Inside a scan even straight operands are copied
 * when no step changes them: they are read once a step, and panels are kind to the caches. */
#include "codegen/plan.h"

#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"

typedef struct Wanted {
    Stages *s;
    const Target *t;
    const Nest *n;
    const Stage *st;
    bool invariant_too;
    ExprId read[MAX_NEST_REDS * 2];
    int nread;
} Wanted;

static bool in_list(const Var *v, int n, Var x)
{
    for (int i = 0; i < n; i++)
        if (v[i] == x)
            return true;
    return false;
}

static void want(void *arg, const Expr *e)
{
    Wanted *w = arg;
    Stages *s = w->s;
    const ExprId id = (ExprId)(e - s->expr);
    bool moves = false;
    for (int i = 0; i < e->ndep; i++) {
        moves |= e->dep[i] == w->n->vec;
        if (e->dep[i] != w->n->vec && !in_list(w->st->red, w->st->nred, e->dep[i]))
            return; /* another tile, another operand: not the same for all */
    }
    if (!moves || e->nguard || !s->buf[e->buf].is_in || s->buf[e->buf].dt != DT_F32)
        return;
    if (map_stride(s, e->ix, e->nix, w->n->vec, w->t->lanes) == 1 && !w->invariant_too)
        return;
    for (int i = 0; i < w->nread; i++)
        if (w->read[i] == id)
            return;
    w->read[w->nread++] = id;
}

typedef struct Swap {
    const Wanted *w;
    const ExprId *by;
} Swap;

static ExprId swap_read(void *arg, ExprId id)
{
    const Swap *s = arg;
    for (int i = 0; i < s->w->nread; i++)
        if (s->w->read[i] == id)
            return s->by[i];
    return id;
}

static void fill_nest(Wanted *w, uint16_t buf, const Ix *ix, int nix, ExprId read, Phase *fill)
{
    Stages *s = w->s;
    Stage root = { .axis = arena_array(s->arena, Var, w->st->nred + 1),
                   .e = read,
                   .store = arena_array(s->arena, Store, 1),
                   .nstore = 1,
                   .when = WHEN_PLAIN };
    for (int i = 0; i < w->st->nred; i++)
        root.axis[root.naxis++] = w->st->red[i];
    root.axis[root.naxis++] = w->n->vec;
    root.store[0].buf = buf;
    memcpy(root.store[0].ix, ix, sizeof *ix * (size_t)nix);
    Nest n = { .nroot = 1, .naxis = root.naxis, .when = WHEN_PLAIN };
    memcpy(n.axis, root.axis, sizeof(Var) * root.naxis);
    n.root[0] = stages_add(s, &root);
    int64_t *span = arena_array(s->arena, int64_t, UINT16_MAX);
    for (int i = 0; i < n.naxis; i++)
        span[n.axis[i]] = ix_var_count(s->pool, n.axis[i]);
    plan_nest(s, w->t, &n, span, false);
    phase_take(s->arena, fill, &n);
}

static void copy_batch(Wanted *w, const Nest *n, Phase *fill)
{
    Stages *s = w->s;
    IxPool *p = s->pool;
    const int64_t width = (int64_t)n->nv * w->t->lanes;
    int64_t shape[MAX_RANK];
    Ix ix[MAX_RANK];
    int rank = 0;
    const Ix v = ix_var(p, n->vec);
    shape[rank] = size_ceil_div(ix_var_count(p, n->vec), width);
    ix[rank++] = ix_div(p, v, width);
    for (int i = 0; i < w->st->nred; i++) {
        shape[rank] = ix_var_count(p, w->st->red[i]);
        ix[rank++] = ix_var(p, w->st->red[i]);
    }
    const int which = rank;
    shape[rank] = w->nread;
    rank++;
    shape[rank] = width;
    ix[rank++] = ix_mod(p, v, width);
    const uint16_t buf =
        stages_temp(s, arena_printf(s->arena, "panel%u", s->nbuf), DT_F32, rank, shape);
    s->buf[buf].padded = true;
    ExprId by[MAX_NEST_REDS * 2];
    for (int i = 0; i < w->nread; i++) {
        ix[which] = ix_const(p, i);
        by[i] = expr_read(s, buf, ix);
        fill_nest(w, buf, ix, rank, w->read[BUG(56) ? w->nread - 1 - i : i], fill);
    }
    Swap swap = { w, by };
    for (int i = 0; i < n->nred; i++) {
        Stage *st = &s->stage[n->red[i]];
        if (st->nred == w->st->nred && memcmp(st->red, w->st->red, sizeof(Var) * st->nred) == 0) {
            const ExprId e = expr_map(s, st->e, swap_read, &swap);
            s->stage[n->red[i]].e = e;
        }
    }
}

void plan_copies(Stages *s, const Target *t, Nest *n, bool invariant_too, Phase *fill)
{
    if (n->row || !n->vec)
        return;
    for (int i = 0; i < n->nred; i++) {
        const Stage first = s->stage[n->red[i]];
        bool done = false;
        for (int j = 0; j < i; j++)
            done |= s->stage[n->red[j]].nred == first.nred &&
                    memcmp(s->stage[n->red[j]].red, first.red, sizeof(Var) * first.nred) == 0;
        if (done || first.nred > MAX_RANK - 3)
            continue;
        Wanted w = { .s = s, .t = t, .n = n, .st = &first, .invariant_too = invariant_too };
        for (int j = i; j < n->nred; j++) {
            const Stage *st = &s->stage[n->red[j]];
            if (st->nred == first.nred && memcmp(st->red, first.red, sizeof(Var) * st->nred) == 0)
                expr_reads(s, st->e, want, &w);
        }
        if (w.nread)
            copy_batch(&w, n, fill);
    }
}
