/* SPDX-License-Identifier: Apache-2.0 */
/* The part of planning that is the same on every machine: stages to nests to phases.
 *
 * plan_units.c makes nests of the stages; what is computed in two nests is stored and the stages
 * are built again.  Nests that can share one parallel axis, each iteration reading only what it
 * wrote itself, become one phase: no barrier, and their temporaries shrink to a block of that axis,
 * private to a thread of the team (on a GPU: to a block of threads).  Everything else waits for a
 * barrier.  A scan is always one phase. */
#include "codegen/planner.h"

#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"

/* ---- what is computed twice is stored ---------------------------------------------------- */

typedef struct Twice {
    int *nest[2]; /* of each node of body and scan: 1 + the nest that computes it, or 0 */
    uint8_t *costly[2], *heavy[2];
    Stages *s;
    int now;
} Twice;

static void note_node(void *arg, const Expr *e)
{
    Twice *w = arg;
    Ref r = e->node;
    bool scan = e->in_scan, heavy = false;
    if (e->kind == EX_VALUE) {
        r = w->s->stage[e->stage].node;
        scan = w->s->stage[e->stage].in_scan;
        heavy = true;
    } else if (e->kind != EX_RAND && (e->kind != EX_EW || op_info[e->op].flags & OPF_CHEAP)) {
        return;
    }
    if (!r)
        return;
    int *at = &w->nest[scan][r];
    if (*at && *at != w->now)
        (heavy ? w->heavy : w->costly)[scan][r] = 1;
    *at = w->now;
}

/* Each thread computes it for itself, or the team once: that takes a phase that all may run. */
static bool is_number(const Graph *g, Ref r)
{
    return g->node[r].type.dt != DT_NONE && shape_count(&g->node[r].type.shape) == 1;
}

/* True when something had to be marked: build again. */
static bool store_repeated(Planner *pl, const Graph *body, const Nest *nest, int nnest,
                           Stored *stored)
{
    Stages *s = pl->s;
    const Graph *scan = NULL;
    for (Ref r = 1; r < body->nnode; r++)
        if (body->node[r].op == OP_scan)
            scan = body->node[r].attr.scan.body;
    const uint32_t n[2] = { body->nnode, scan ? scan->nnode : 1 };
    Twice w = { .s = s };
    for (int k = 0; k < 2; k++) {
        w.nest[k] = arena_array(pl->arena, int, n[k]);
        w.costly[k] = arena_array(pl->arena, uint8_t, n[k]);
        w.heavy[k] = arena_array(pl->arena, uint8_t, n[k]);
    }
    for (int i = 0; i < nnest; i++) {
        w.now = i + 1;
        for (int j = 0; j < nest[i].nroot; j++)
            expr_walk(s, s->stage[nest[i].root[j]].e, note_node, &w);
        for (int j = 0; j < nest[i].nred; j++)
            expr_walk(s, s->stage[nest[i].red[j]].e, note_node, &w);
    }
    uint8_t *flag[2] = { stored->body, stored->scan };
    bool any = false;
    for (int pass = 0; pass < 2 && !any; pass++) /* the costly first: they stand above the heavy */
        for (int k = 0; k < 2; k++)
            for (Ref r = 1; r < n[k]; r++)
                if ((pass ? w.heavy : w.costly)[k][r] && !flag[k][r] &&
                    (pass || pl->each || pl->plain || !is_number(k ? scan : body, r))) {
                    flag[k][r] = 1;
                    any = true;
                }
    return any;
}

/* ---- phases ------------------------------------------------------------------------------ */

struct TeamCheck {
    Stages *s;
    const Phase *ph;
    const Nest *extra;
    Var v;
    bool ok;
};

static bool store_dim_is(Stages *s, const Store *st, int d, Var v)
{
    Var w;
    return d < s->buf[st->buf].rank && ix_is_var(s->pool, st->ix[d], &w) && w == v;
}

/* A read of what the phase writes must be of this iteration's own share: some dimension is the
 * team axis alone, in the store and in the read. */
static void check_read(void *arg, const Expr *e)
{
    struct TeamCheck *c = arg;
    for (int i = 0; i <= c->ph->nnest; i++) {
        const Nest *n = i < c->ph->nnest ? &c->ph->nest[i] : c->extra;
        for (int j = 0; n && j < n->nroot; j++) {
            const Stage *st = &c->s->stage[n->root[j]];
            for (int k = 0; k < st->nstore; k++) {
                if (st->store[k].buf != e->buf)
                    continue;
                bool same = false;
                Var w;
                for (int d = 0; d < e->nix; d++)
                    same |= store_dim_is(c->s, &st->store[k], d, c->v) &&
                            ix_is_var(c->s->pool, e->ix[d], &w) && w == c->v;
                c->ok &= same || BUG(55);
            }
        }
    }
}

static bool nest_allows(struct TeamCheck *c, const Nest *n)
{
    Stages *s = c->s;
    bool has = false;
    for (int i = 0; i < n->naxis; i++)
        has |= n->axis[i] == c->v;
    c->ok &= has;
    for (int i = 0; i < n->nroot && c->ok; i++) {
        const Stage *st = &s->stage[n->root[i]];
        expr_reads(s, st->e, check_read, c);
        for (int k = 0; k < st->nstore; k++) { /* iterations store to places of their own */
            bool own = false;
            for (int d = 0; d < s->buf[st->store[k].buf].rank; d++) {
                bool lin;
                own |= ix_coef(s->pool, st->store[k].ix[d], c->v, &lin) != 0 && lin;
            }
            c->ok &= own;
        }
    }
    for (int i = 0; i < n->nred && c->ok; i++)
        expr_reads(s, s->stage[n->red[i]].e, check_read, c);
    return c->ok;
}

/* Can axis v be the team axis of the phase, with one more nest in it? */
static bool team_ok(Planner *pl, const Phase *ph, const Nest *extra, Var v)
{
    struct TeamCheck c = { pl->s, ph, extra, v, true };
    for (int i = 0; i < ph->nnest; i++)
        if (!nest_allows(&c, &ph->nest[i]))
            return false;
    return !extra || nest_allows(&c, extra);
}

/* The best team axis: long enough for the team, not one along which the last dimension is
 * stored (that one is for vectors), outermost. */
Var phase_team_axis(Planner *pl, const Phase *ph, const Nest *extra)
{
    const Nest *first = ph->nnest ? &ph->nest[0] : extra;
    Var best = 0;
    int best_score = -1;
    for (int i = 0; i < first->naxis; i++) {
        const Var v = first->axis[i];
        if (!team_ok(pl, ph, extra, v))
            continue;
        const int64_t count = ix_var_count(pl->s->pool, v);
        const Stage *st = &pl->s->stage[first->root[0]];
        const bool inner =
            map_stride(pl->s, st->store[0].ix, pl->s->buf[st->store[0].buf].rank, v, 1) == 1;
        const int64_t want = inner ? pl->team * pl->t->lanes : pl->team;
        const int score = (count >= want ? 100 : 0) + (inner ? 0 : 50) + MAX_AXES - i;
        if (score > best_score) {
            best_score = score;
            best = v;
        }
    }
    return best;
}

int64_t nest_work(const Stages *s, const Nest *n)
{
    int64_t out = 1, work = 0;
    for (int i = 0; i < n->naxis; i++)
        out *= ix_var_count(s->pool, n->axis[i]);
    for (int i = 0; i < n->nred; i++) {
        int64_t k = out;
        for (int j = 0; j < s->stage[n->red[i]].nred; j++)
            k *= ix_var_count(s->pool, s->stage[n->red[i]].red[j]);
        work += k;
    }
    return work + out * n->nroot;
}

/* Small, and only for readers inside the kernel: each thread may compute it for itself. */
static bool each_may(Planner *pl, const Nest *n)
{
    if (n->when != WHEN_PLAIN || nest_work(pl->s, n) > 2048)
        return false;
    for (int i = 0; i < n->nroot; i++)
        for (int k = 0; k < pl->s->stage[n->root[i]].nstore; k++)
            if (pl->s->buf[pl->s->stage[n->root[i]].store[k].buf].is_out)
                return false;
    return true;
}

Phase *phase_add(Planner *pl)
{
    Plan *p = pl->p;
    if (p->nphase == p->phase_cap) {
        const int cap = p->phase_cap ? 2 * p->phase_cap : 8;
        Phase *more = arena_array(pl->arena, Phase, cap);
        if (p->nphase)
            memcpy(more, p->phase, sizeof *more * (size_t)p->nphase);
        p->phase = more;
        p->phase_cap = cap;
    }
    p->phase[p->nphase] = (Phase){ 0 };
    return &p->phase[p->nphase++];
}

static bool long_enough(const Planner *pl, Var v)
{
    return v && ix_var_count(pl->s->pool, v) >= pl->team;
}

static bool stores_outputs(const Planner *pl, const Nest *n)
{
    for (int i = 0; i < n->nroot; i++) {
        const Stage *st = &pl->s->stage[n->root[i]];
        for (int k = 0; k < st->nstore; k++)
            if (!pl->s->buf[st->store[k].buf].is_out)
                return false;
    }
    return true;
}

struct Meets {
    Planner *pl;
    const Phase *ph;
    bool found;
};

static void meets_read(void *arg, const Expr *e)
{
    struct Meets *m = arg;
    m->found = m->found || (e->ndep && (phase_stores(m->pl, m->ph, e->buf) ||
                                        phase_reads(m->pl, m->ph, e->buf)));
}

/* Nest n has nothing to do with the phase, and neither hands anything on: to run them block by
 * block would help nobody. */
static bool is_apart(Planner *pl, const Phase *ph, const Nest *n)
{
    bool apart = stores_outputs(pl, n);
    for (int i = 0; i < ph->nnest; i++)
        apart &= stores_outputs(pl, &ph->nest[i]);
    struct Meets m = { pl, ph, !apart };
    for (int i = 0; i < n->nroot + n->nred && !m.found; i++)
        expr_reads(pl->s, pl->s->stage[i < n->nroot ? n->root[i] : n->red[i - n->nroot]].e,
                   meets_read, &m);
    return !m.found;
}

static void nests_to_phases(Planner *pl, const Nest *nest, int nnest)
{
    for (int i = 0; i < nnest; i++) {
        const Nest *n = &nest[i];
        Phase *last = pl->p->nphase ? &pl->p->phase[pl->p->nphase - 1] : NULL;
        const bool in_scan = n->when != WHEN_PLAIN;
        const bool joins_scan = in_scan && last && last->nest[0].when != WHEN_PLAIN;
        bool joins = joins_scan;
        const bool alone = pl->alone && !in_scan &&
                           (pl->alone(pl->s, n) || (last && pl->alone(pl->s, &last->nest[0])));
        if (!in_scan && last && last->nest[0].when == WHEN_PLAIN && !last->each && !pl->plain &&
            !alone) {
            const Var both = phase_team_axis(pl, last, n);
            joins = both && (long_enough(pl, both) || !long_enough(pl, last->team)) &&
                    !is_apart(pl, last, n);
            const Phase none = { 0 };
            joins |= !last->team && !phase_team_axis(pl, &none, n); /* one thread does both */
        }
        if (!joins) {
            last = phase_add(pl);
            last->each = pl->each && each_may(pl, n);
        }
        phase_take(pl->arena, last, n);
        last->team = last->each ? 0 : phase_team_axis(pl, last, NULL);
    }
}

/* ---- blocks, homes, barriers ------------------------------------------------------------- */

bool phase_stores(const Planner *pl, const Phase *ph, uint16_t buf)
{
    for (int i = 0; i < ph->nnest; i++)
        for (int j = 0; j < ph->nest[i].nroot; j++) {
            const Stage *st = &pl->s->stage[ph->nest[i].root[j]];
            for (int k = 0; k < st->nstore; k++)
                if (st->store[k].buf == buf)
                    return true;
        }
    return false;
}

/* What every thread computes for itself it holds whole: a buffer that another phase shares out (the
 * parts of a concat may differ so) is shared by all its writers. */
static void agree_on_each(Planner *pl)
{
    for (bool again = true; again;) {
        again = false;
        for (uint32_t b = 0; b < pl->s->nbuf; b++) {
            Phase *each = NULL;
            bool other = false;
            for (int i = 0; i < pl->p->nphase; i++) {
                Phase *ph = &pl->p->phase[i];
                if (!phase_stores(pl, ph, (uint16_t)b))
                    continue;
                each = ph->each ? ph : each;
                other |= !ph->each;
            }
            if (!each || !other)
                continue;
            each->each = false;
            each->team = phase_team_axis(pl, each, NULL);
            again = true;
        }
    }
}

struct ReadIn {
    uint16_t buf;
    bool found;
};

static void is_read(void *arg, const Expr *e)
{
    struct ReadIn *r = arg;
    r->found |= e->buf == r->buf;
}

bool phase_reads(Planner *pl, const Phase *ph, uint16_t buf)
{
    struct ReadIn r = { buf, false };
    for (int i = 0; i < ph->nnest; i++) {
        for (int j = 0; j < ph->nest[i].nroot; j++)
            expr_reads(pl->s, pl->s->stage[ph->nest[i].root[j]].e, is_read, &r);
        for (int j = 0; j < ph->nest[i].nred; j++)
            expr_reads(pl->s, pl->s->stage[ph->nest[i].red[j]].e, is_read, &r);
    }
    return r.found;
}

/* The dimension of a temporary that is the team axis alone wherever the phase stores it. */
static int team_dim(const Planner *pl, const Phase *ph, uint16_t buf)
{
    for (int d = 0; d < pl->s->buf[buf].rank; d++) {
        bool all = true;
        for (int i = 0; i < ph->nnest; i++)
            for (int j = 0; j < ph->nest[i].nroot; j++) {
                const Stage *st = &pl->s->stage[ph->nest[i].root[j]];
                for (int k = 0; k < st->nstore; k++)
                    if (st->store[k].buf == buf)
                        all &= store_dim_is(pl->s, &st->store[k], d, ph->team);
            }
        if (all)
            return d;
    }
    return -1;
}

static void choose_homes(Planner *pl)
{
    Stages *s = pl->s;
    for (uint32_t b = 0; b < s->nbuf; b++) {
        GBuf *buf = &s->buf[b];
        if (buf->home == HOME_ARG)
            continue;
        const Phase *writer = NULL;
        bool elsewhere = false;
        for (int i = 0; i < pl->p->nphase; i++) {
            const Phase *ph = &pl->p->phase[i];
            if (phase_stores(pl, ph, (uint16_t)b)) {
                elsewhere |= writer != NULL;
                writer = ph;
            } else {
                elsewhere |= phase_reads(pl, ph, (uint16_t)b) && !BUG(54);
            }
        }
        buf->home = HOME_SHARED;
        buf->team_dim = -1;
        if (writer && writer->each)
            buf->home = HOME_PRIVATE;
        else if (writer && writer->team && !elsewhere && !pl->plain) {
            buf->team_dim = (int8_t)team_dim(pl, writer, (uint16_t)b);
            if (buf->team_dim >= 0)
                buf->home = HOME_PRIVATE;
        }
    }
}

void plan_barriers(Planner *pl)
{
    for (int i = 1; i < pl->p->nphase; i++) {
        Phase *ph = &pl->p->phase[i];
        for (uint32_t b = 0; b < pl->s->nbuf && !ph->barrier; b++) {
            if (pl->s->buf[b].home == HOME_PRIVATE ||
                (BUG(53) && pl->s->buf[b].home == HOME_SHARED) || !phase_reads(pl, ph, (uint16_t)b))
                continue;
            for (int j = i - 1; j >= 0 && !ph->barrier; j--) {
                ph->barrier = phase_stores(pl, &pl->p->phase[j], (uint16_t)b);
                if (pl->p->phase[j].barrier)
                    break;
            }
        }
    }
}

/* ---- all of it --------------------------------------------------------------------------- */

Status plan_phases(Planner *pl, const Graph *body)
{
    Stored stored = stages_stored(pl->arena, body, pl->plain, pl->alone != NULL);
    Nest *nest = NULL;
    int nnest = 0;
    for (int round = 0;; round++) {
        TRY(stages_build(pl->cx, pl->arena, body, &stored, &pl->s));
        nest = plan_units(pl->arena, pl->s, pl->plain, &nnest);
        if (round == 16 || !store_repeated(pl, body, nest, nnest, &stored))
            break;
    }
    pl->p = arena_array(pl->arena, Plan, 1);
    pl->p->s = pl->s;
    if (plan_strips(pl, nest, nnest))
        return ST_OK;
    nests_to_phases(pl, nest, nnest);
    agree_on_each(pl);
    choose_homes(pl);
    return ST_OK;
}
