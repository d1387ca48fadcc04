/* SPDX-License-Identifier: Apache-2.0 */
/* The planner for CPUs: blocks of the team axis that stay in a thread's cache, the schedule of each
 * nest and the copies that its contractions want, on top of the phases of plan_phase.c. */
#include "codegen/planner.h"

#include "ir/base/size.h"

static bool scan_phase(const Phase *ph)
{
    return ph->nest[0].when != WHEN_PLAIN;
}

/* Bytes of private temporaries for each point of the team axis. */
static int64_t private_per_point(const Planner *pl, const Phase *ph)
{
    int64_t bytes = 0;
    for (uint32_t b = 0; b < pl->s->nbuf; b++) {
        const GBuf *buf = &pl->s->buf[b];
        if (buf->home != HOME_PRIVATE || buf->team_dim < 0 || !phase_stores(pl, ph, (uint16_t)b))
            continue;
        int64_t n = dtype_bytes(buf->dt);
        for (int d = 0; d < buf->rank; d++)
            if (d != buf->team_dim)
                n = size_mul(n, buf->shape[d]);
        bytes += n;
    }
    return bytes;
}

/* Do contractions of this phase need the team axis for the rows of their tiles? */
static bool rows_are_team(const Planner *pl, const Phase *ph)
{
    for (int i = 0; i < ph->nnest; i++) {
        const Nest *n = &ph->nest[i];
        int64_t others = 0;
        for (int j = 0; j + 1 < n->naxis; j++)
            if (n->axis[j] != ph->team)
                others = ix_var_count(pl->s->pool, n->axis[j]) > others
                             ? ix_var_count(pl->s->pool, n->axis[j])
                             : others;
        if (n->nred && others < 4)
            return true;
    }
    return false;
}

static int64_t choose_block(const Planner *pl, const Phase *ph)
{
    const int64_t n = ix_var_count(pl->s->pool, ph->team);
    const int64_t share = size_ceil_div(n, pl->t->threads);
    bool vec = false;
    for (int i = 0; i < ph->nnest; i++) {
        const Stage *st = &pl->s->stage[ph->nest[i].root[0]];
        vec |=
            map_stride(pl->s, st->store[0].ix, pl->s->buf[st->store[0].buf].rank, ph->team, 1) == 1;
    }
    const int64_t bytes = private_per_point(pl, ph);
    int64_t want = share;
    if (scan_phase(ph)) {
        static const int64_t sizes[] = { 32, 64, 48, 24, 16, 8, 4, 2, 1 };
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            if (n % sizes[i] == 0 && n / sizes[i] >= pl->t->threads)
                return sizes[i];
        want = share < 32 ? share : 32;
    } else if (bytes) {
        want = pl->t->l1_bytes / 2 / bytes;
        if (rows_are_team(pl, ph) && want < 16)
            want = 16;
    }
    if (want > share)
        want = share;
    if (want < 1)
        want = 1;
    enum { TRIES = 256 };
    for (int64_t b = want; b > want / 2 && b > want - TRIES; b--) /* no code for a rest */
        if (n % b == 0 && !vec)
            return b;
    return vec ? size_round_up(want, pl->t->lanes) : want;
}

static void assign_offsets(Planner *pl)
{
    Stages *s = pl->s;
    Plan *p = pl->p;
    p->offset = arena_array(pl->arena, int64_t, s->nbuf);
    for (uint32_t b = 0; b < s->nbuf; b++) {
        GBuf *buf = &s->buf[b];
        if (buf->home == HOME_ARG)
            continue;
        int64_t n = dtype_bytes(buf->dt);
        for (int d = 0; d < buf->rank; d++)
            n = size_mul(n, buf->shape[d]);
        int64_t *at = buf->home == HOME_PRIVATE ? &p->private_bytes : &p->shared_bytes;
        p->offset[b] = *at;
        /* private ones a cache line off each other's page offset, so that they do not alias */
        *at = size_round_up(*at + n, 64) + (buf->home == HOME_PRIVATE ? 64 : 0);
    }
    p->shared_bytes = size_round_up(p->shared_bytes, 64);
    p->private_bytes = size_round_up(p->private_bytes + (p->private_bytes ? 4096 : 0), 4096);
}

static void fold_to_block(Planner *pl)
{
    for (int i = 0; i < pl->p->nphase; i++) {
        Phase *ph = &pl->p->phase[i];
        if (ph->team && pl->plain) {
            const int64_t n = ix_var_count(pl->s->pool, ph->team);
            ph->block = n ? size_ceil_div(n, pl->t->threads) : 1;
        } else if (ph->team) {
            ph->block = choose_block(pl, ph);
        }
        for (uint32_t b = 0; b < pl->s->nbuf; b++) {
            GBuf *buf = &pl->s->buf[b];
            if (buf->home == HOME_PRIVATE && buf->team_dim >= 0 &&
                phase_stores(pl, ph, (uint16_t)b))
                buf->shape[buf->team_dim] = ph->block;
        }
    }
}

static void plan_nests(Planner *pl)
{
    Stages *s = pl->s;
    const int nphase = pl->p->nphase;
    Phase *old = pl->p->phase;
    pl->p->phase = NULL;
    pl->p->nphase = pl->p->phase_cap = 0;
    int64_t *span = arena_array(pl->arena, int64_t, UINT16_MAX);
    for (int i = 0; i < nphase; i++) {
        Phase ph = old[i], fill = { 0 };
        for (int j = 0; j < ph.nnest; j++) {
            Nest *n = &ph.nest[j];
            for (int k = 0; k < n->naxis; k++)
                span[n->axis[k]] =
                    n->axis[k] == ph.team ? ph.block : ix_var_count(s->pool, n->axis[k]);
            plan_nest(s, pl->t, n, span, pl->plain);
            pl->p->points +=
                (double)nest_work(s, n) * (n->when == WHEN_STEP && s->trip ? (double)s->trip : 1);
            if (!pl->plain)
                plan_copies(s, pl->t, n, n->when == WHEN_STEP, &fill);
        }
        for (int j = 0; j < fill.nnest; j++) {
            Phase *copy = phase_add(pl);
            phase_take(pl->arena, copy, &fill.nest[j]);
            copy->team = phase_team_axis(pl, copy, NULL);
            if (copy->team)
                copy->block = choose_block(pl, copy);
        }
        *phase_add(pl) = ph;
    }
}

Status plan_cpu(Ctx *cx, Arena *arena, const Target *t, const Graph *body, bool plain, Plan **out)
{
    Planner pl = {
        .cx = cx, .arena = arena, .t = t, .plain = plain, .each = !plain, .team = t->threads
    };
    TRY(plan_phases(&pl, body));
    pl.p->planner = plain ? "plain" : "cpu";
    fold_to_block(&pl);
    plan_nests(&pl);
    plan_barriers(&pl);
    assign_offsets(&pl);
    *out = pl.p;
    return ST_OK;
}
