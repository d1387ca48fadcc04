/* SPDX-License-Identifier: Apache-2.0 */
/* Stages to nests.
 *
 * A unit is a root with the reductions it uses.  Units over the same axes that follow each other
 * become one nest, run tile by tile; so do units that stand apart, when they have something to read
 * in common and nothing between them is in the way.  A small unit, one number or a vector that only
 * the kernel reads, goes to the front as far as what it reads allows: so the factors that many loops
 * share do not cut those loops in two.
 *
 * Maps that share no read stay loops of their own, since one loop over many streams is slower than
 * many loops over few. */
#include "codegen/plan.h"

#include <string.h>

#include "ir/base/size.h"

typedef struct Units {
    Arena *arena;
    Stages *s;
    Nest *nest;
    int n;
    size_t words;       /* of a set of buffers */
    uint64_t *reads[2]; /* by stage: buffers it reads; at more than one point */
    bool *have;         /* by stage: reads is filled in */
} Units;

static void add_reds(void *arg, const Expr *e)
{
    Nest *n = arg;
    if (e->kind != EX_VALUE)
        return;
    for (int i = 0; i < n->nred; i++)
        if (n->red[i] == e->stage)
            return;
    gtc_assert(n->nred < MAX_NEST_REDS, "more than %d reductions in one nest", MAX_NEST_REDS);
    n->red[n->nred++] = e->stage;
}

Nest plan_unit(Stages *s, StageId root)
{
    const Stage *st = &s->stage[root];
    Nest n = { .root = { root }, .nroot = 1, .naxis = st->naxis, .when = st->when };
    memcpy(n.axis, st->axis, sizeof(Var) * st->naxis);
    expr_walk(s, st->e, add_reds, &n);
    return n;
}

struct Conflict {
    Stages *s;
    const Nest *n;
    bool any; /* even this very point: reductions come before what the roots store */
    bool found;
};

static void reads_own(void *arg, const Expr *e)
{
    struct Conflict *c = arg;
    for (int i = 0; i < c->n->nroot; i++) {
        const Stage *st = &c->s->stage[c->n->root[i]];
        for (int j = 0; j < st->nstore; j++) {
            if (st->store[j].buf != e->buf ||
                (c->s->buf[e->buf].slots && st->store[j].ix[0] != e->ix[0]))
                continue; /* another step's slot */
            c->found |= c->any || memcmp(st->store[j].ix, e->ix, sizeof(Ix) * e->nix) != 0;
        }
    }
}

/* May unit u run in nest n, tile by tile? */
static bool nest_takes(Stages *s, const Nest *n, const Nest *u)
{
    if (s->stage[n->root[0]].adds || s->stage[u->root[0]].adds || n->when != u->when ||
        n->naxis != u->naxis || memcmp(n->axis, u->axis, sizeof(Var) * (size_t)n->naxis) != 0 ||
        n->nroot == MAX_NEST_ROOTS || n->nred + u->nred > MAX_NEST_REDS)
        return false;
    struct Conflict c = { s, n, true, false };
    for (int i = 0; i < u->nred; i++)
        expr_reads(s, s->stage[u->red[i]].e, reads_own, &c);
    c.any = false;
    expr_reads(s, s->stage[u->root[0]].e, reads_own, &c);
    return !c.found;
}

static void nest_merge(Nest *n, const Nest *u)
{
    n->root[n->nroot++] = u->root[0];
    for (int i = 0; i < u->nred; i++) {
        bool have = false;
        for (int j = 0; j < n->nred; j++)
            have |= n->red[j] == u->red[i];
        if (!have)
            n->red[n->nred++] = u->red[i];
    }
}

bool plan_merge(Stages *s, Nest *n, const Nest *u)
{
    const bool takes = nest_takes(s, n, u);
    if (takes)
        nest_merge(n, u);
    return takes;
}

/* ---- sets of buffers ----------------------------------------------------------------------- */

static bool set_has(const uint64_t *set, uint32_t b)
{
    return set[b / 64] >> b % 64 & 1;
}

struct NoteReads {
    Units *u;
    StageId stage;
};

static void note_read(void *arg, const Expr *e)
{
    struct NoteReads *r = arg;
    for (int k = 0; k < 1 + (e->ndep > 0); k++)
        r->u->reads[k][r->stage * r->u->words + e->buf / 64] |= UINT64_C(1) << e->buf % 64;
}

/* The buffers that the stage reads (moving: at more than one point), through its own expression. */
static const uint64_t *stage_reads(Units *u, StageId id, bool moving)
{
    if (!u->have[id]) {
        u->have[id] = true;
        expr_reads(u->s, u->s->stage[id].e, note_read, &(struct NoteReads){ u, id });
    }
    return u->reads[moving] + id * u->words;
}

static void nest_reads(Units *u, const Nest *n, bool moving, uint64_t *set)
{
    memset(set, 0, u->words * sizeof *set);
    for (int i = 0; i < n->nroot + n->nred; i++) {
        const uint64_t *r =
            stage_reads(u, i < n->nroot ? n->root[i] : n->red[i - n->nroot], moving);
        for (size_t w = 0; w < u->words; w++)
            set[w] |= r[w];
    }
}

static bool nest_stores(const Units *u, const Nest *n, const uint64_t *set)
{
    for (int i = 0; i < n->nroot; i++) {
        const Stage *st = &u->s->stage[n->root[i]];
        for (int k = 0; k < st->nstore; k++)
            if (set_has(set, st->store[k].buf))
                return true;
    }
    return false;
}

/* ---- where a unit goes --------------------------------------------------------------------- */

/* Do they read a buffer both (not one point alone), or u what n stores? */
static bool have_common_read(Units *us, const Nest *n, const uint64_t *reads, uint64_t *scratch)
{
    if (nest_stores(us, n, reads))
        return true;
    nest_reads(us, n, true, scratch);
    for (size_t w = 0; w < us->words; w++)
        if (scratch[w] & reads[w])
            return true;
    return false;
}

static void nest_insert(Units *us, int at, const Nest *n)
{
    memmove(us->nest + at + 1, us->nest + at, sizeof *us->nest * (size_t)(us->n - at));
    us->nest[at] = *n;
    us->n++;
}

static bool is_internal(const Units *us, const Nest *n)
{
    for (int i = 0; i < n->nroot; i++)
        for (int k = 0; k < us->s->stage[n->root[i]].nstore; k++)
            if (us->s->buf[us->s->stage[n->root[i]].store[k].buf].is_out)
                return false;
    return true;
}

/* Reductions to one number: what does not read them goes in front, so that one barrier does for all
 * of them. */
static bool is_sum(const Nest *n)
{
    return n->naxis == 0 && n->nred > 0 && n->when == WHEN_PLAIN;
}

/* So little, and for readers in the kernel alone, that each thread may compute it for itself. */
static bool is_small(const Units *us, const Nest *u)
{
    enum { SMALL = 2048 };
    int64_t points = 1;
    for (int i = 0; i < u->naxis && points <= SMALL; i++)
        points = size_mul(points, ix_var_count(us->s->pool, u->axis[i]));
    return !u->nred && u->when == WHEN_PLAIN && points <= SMALL && is_internal(us, u);
}

static void place(Units *us, const Nest *u)
{
    Stages *s = us->s;
    uint64_t *all = arena_array(us->arena, uint64_t, us->words);
    uint64_t *moving = arena_array(us->arena, uint64_t, us->words);
    uint64_t *scratch = arena_array(us->arena, uint64_t, us->words);
    const bool adds = s->stage[u->root[0]].adds;
    nest_reads(us, u, false, all);
    nest_reads(us, u, true, moving);
    const bool number = u->naxis == 0 && is_small(us, u);
    bool any = false;
    for (size_t w = 0; w < us->words; w++)
        any |= moving[w] != 0;
    int after = us->n; /* it may stand in front of nest[after], or in nest[after - 1] */
    for (int at = us->n - 1; at >= 0; at--) {
        Nest *n = &us->nest[at];
        if (n->when != WHEN_PLAIN || u->when != WHEN_PLAIN) {
            if (at == us->n - 1 && plan_merge(s, n, u))
                return;
            break;
        }
        bool alike = !any || have_common_read(us, n, moving, scratch);
        if (number) /* so that each thread may compute it for itself */
            alike = n->naxis == 0 && !n->nred && is_internal(us, n);
        else if (!u->nred && n->naxis == 0 && !n->nred && is_internal(us, n))
            alike = false;
        if ((at == us->n - 1 || !adds) && alike && plan_merge(s, n, u))
            return;
        if (adds || nest_stores(us, n, all))
            break;
        after = at;
    }
    const bool front = is_small(us, u);
    int at = us->n;
    while (at > after && (front || is_sum(&us->nest[at - 1])))
        at--;
    nest_insert(us, at, u);
}

Nest *plan_units(Arena *arena, Stages *s, bool plain, int *nnest)
{
    Units us = { .arena = arena, .s = s, .words = s->nbuf / 64 + 1 };
    us.nest = arena_array(arena, Nest, s->nstage + 1);
    us.have = arena_array(arena, bool, s->nstage);
    for (int k = 0; k < 2; k++)
        us.reads[k] = arena_array(arena, uint64_t, s->nstage * us.words);
    for (uint32_t i = 0; i < s->nstage; i++) {
        if (s->stage[i].nstore == 0)
            continue;
        const Nest u = plan_unit(s, (StageId)i);
        if (plain)
            us.nest[us.n++] = u;
        else
            place(&us, &u);
    }
    *nnest = us.n;
    return us.nest;
}
