/* SPDX-License-Identifier: Apache-2.0 */
/* A plan for GPUs as KIR.  Scalar expressions are instantiated at the points of a tile as on a CPU
 * (lower.c, lower_value.c), one lane wide; what differs is who runs the tiles.
 *
 * The tiles of a nest are one loop an axis, right in each other, shared out over the threads of a
 * block (THREAD) or of all blocks (GRID).  Where threads share the reductions of a point they are
 * the innermost of these loops; each sums every 32nd (or 256th) of the reduced points, counted as
 * one axis, the sums meet across the threads, and the first of them stores.
 *
 * Between nests of one block a sync stands where one touches a buffer that another wrote, or writes
 * one that another touched, since the last; a loop over the steps of a scan or the tiles of a strip
 * is looked at twice round.  No sync where each thread touches its own points alone, or the step
 * before another time slot. */
#include "codegen/lower.h"

#include <string.h>

#include "ir/base/size.h"

/* ---- one nest ---------------------------------------------------------------------------- */

/* Different iterations of axis v store to different elements: a dimension is v alone. */
static bool stores_apart(const Low *l, const Nest *n, Var v)
{
    for (int i = 0; i < n->nroot; i++) {
        const Stage *st = &l->s->stage[n->root[i]];
        for (int k = 0; k < st->nstore; k++) {
            bool own = false;
            Var w;
            for (int d = 0; d < l->s->buf[st->store[k].buf].rank; d++)
                own |= ix_is_var(l->p, st->store[k].ix[d], &w) && w == v;
            if (!own)
                return false;
        }
    }
    return true;
}

static void open_axis(Low *l, int axis, Bind bind, Open *open, int *nopen)
{
    const Nest *n = l->n;
    const Var v = n->axis[axis];
    const Span sp = l->span[v];
    const int64_t step = n->tile[axis], count = sp.count / step;
    gtc_assert(sp.count % step == 0, "a tile of %d that does not divide %lld", n->tile[axis],
               (long long)sp.count);
    l->base[axis] = sp.base;
    if (count != 1) {
        const Var i = ix_var_new(l->p, ix_var_name(l->p, v), count);
        open[(*nopen)++] = low_open(l, i, bind, 0);
        l->base[axis] = ix_add(l->p, sp.base, ix_scale(l->p, ix_var(l->p, i), step));
    }
    l->env[v] = l->base[axis];
}

static void tile_points(Low *l)
{
    const Nest *n = l->n;
    int count = 1;
    for (int i = 0; i < n->naxis; i++)
        count *= n->tile[i];
    gtc_assert(count <= MAX_POINTS, "a tile of %d points", count);
    l->point = arena_array(l->arena, Point, count);
    l->npoint = count;
    for (int q = 0; q < count; q++) {
        int rest = q;
        l->point[q].lanes = 1;
        for (int i = n->naxis - 1; i >= 0; i--) {
            l->point[q].off[i] = rest % n->tile[i];
            rest /= n->tile[i];
        }
    }
}

/* ---- threads that share a point's reductions ---------------------------------------------- */

/* What follows is done where 0 <= ix < count. */
Open low_when(Low *l, Ix ix, int64_t count)
{
    const Guard g = { ix, 0, count };
    KNode *n = low_put(l, K_WHEN);
    n->guard = arena_copy(l->arena, &g, sizeof g);
    n->nguard = 1;
    const Open o = { l->tail, l->nknown };
    l->tail = &n->body;
    return o;
}

Ix low_reduced_at(Low *l, const Stage *st, Ix number)
{
    for (int i = st->nred - 1; i > 0; i--) {
        const int64_t count = ix_var_count(l->p, st->red[i]);
        l->env[st->red[i]] = ix_mod(l->p, number, count);
        number = ix_div(l->p, number, count);
    }
    return number;
}

/* The reduced points counted as one axis: all of them, or those of this part; a thread takes every
 * one, or every 32nd (256th) and then the sums meet. */
static void by_number(Low *l, Batch *b)
{
    const Stage *st = b->st[0];
    const Nest *n = l->n;
    const int lanes = n->lanes ? n->lanes : 1;
    int64_t total = 1;
    for (int i = 0; i < st->nred; i++)
        total = size_mul(total, ix_var_count(l->p, st->red[i]));
    const int64_t rounds = size_ceil_div(n->part ? n->chunk : total, lanes);
    const int64_t parts = n->part ? ix_var_count(l->p, n->part) : 1;
    const bool rest = parts * rounds * lanes != total;
    low_start(l, b);
    const Var q = ix_var_new(l->p, "round", rounds);
    const Open loop = low_open(l, q, BIND_SERIAL, 0);
    Ix number = ix_scale(l->p, ix_var(l->p, q), lanes);
    if (n->lanes)
        number = ix_add(l->p, number, ix_var(l->p, l->lane_var[0]));
    if (n->part)
        number = ix_add(l->p, number, ix_scale(l->p, l->env[n->part], n->chunk));
    const Ix outermost = l->env[st->red[0]] = low_reduced_at(l, st, number);
    Open when = { 0 };
    if (rest) /* the outermost index is where a number too great shows */
        when = low_when(l, outermost, ix_var_count(l->p, st->red[0]));
    low_accumulate(l, b);
    if (rest)
        low_close(l, when);
    low_close(l, loop);
    for (int j = 0; j < b->n && n->lanes; j++) {
        KNode *k = low_put(l, K_ACROSS);
        k->ew = b->st[j]->rop;
        k->nargs = 1;
        k->arg[0] = low_reduced(l, b->st[j]);
        k->dst = kir_val(l->k, low_reg(l, k->arg[0]), false);
        low_known_as(l, b->st[j], k->dst);
    }
}

static void nest_body(Low *l)
{
    const uint32_t known = l->nknown;
    const Nest *n = l->n;
    low_at(l, 0);
    low_batches(l, n->lanes || n->part ? by_number : low_contract);
    Open first = { 0 };
    if (n->lanes)
        first = low_when(l, ix_var(l->p, l->lane_var[0]), 1);
    low_roots(l, false);
    if (n->lanes)
        low_close(l, first);
    low_forget(l, known);
}

/* The loops of a nest: first those that every thread runs, then those that are shared out. */
static void lower_nest(Low *l, const Nest *n, Bind bind)
{
    Open open[2 * MAX_AXES];
    int nopen = 0;
    l->n = n;
    KNode *note = low_put(l, K_NOTE);
    note->text = n->lanes ? "row" : n->nred ? "contract" : "map";
    const bool adds = l->s->stage[n->root[0]].adds;
    const bool by_block = n->lanes > 32 && bind == BIND_THREAD;
    for (int i = 0; i < n->naxis && by_block; i++)
        open_axis(l, i, BIND_SERIAL, open, &nopen);
    const int outer = nopen;
    if (n->part) {
        const Var i = ix_var_new(l->p, "part", ix_var_count(l->p, n->part));
        open[nopen++] = low_open(l, i, bind, 0);
        l->env[n->part] = ix_var(l->p, i);
    }
    for (int i = 0; i < n->naxis && !by_block; i++)
        if (!adds || stores_apart(l, n, n->axis[i]))
            open_axis(l, i, bind, open, &nopen);
    if (n->lanes) {
        l->lane_var[0] = ix_var_new(l->p, "lane", n->lanes);
        open[nopen++] = low_open(l, l->lane_var[0], bind, 0);
    } else if (nopen == outer) {
        open[nopen++] = low_open(l, ix_var_new(l->p, "one", 1), bind, 0);
    }
    for (int i = 0; i < n->naxis && adds; i++)
        if (!stores_apart(l, n, n->axis[i]))
            open_axis(l, i, BIND_SERIAL, open, &nopen);
    tile_points(l);
    nest_body(l);
    while (nopen)
        low_close(l, open[--nopen]);
}

/* ---- syncs ------------------------------------------------------------------------------- */

enum { MIXED = -1 };

typedef struct Touched {
    bool *read, *written; /* by buffer */
    int *split; /* by buffer: each thread touches only its own points, shared out so (Held.split);
                   or MIXED; 0: not touched */
    Ix *slot;   /* by buffer: the time slot that all touch, another at each step; or IX_KEEP; 0: not
                  touched */
    int *round; /* by buffer: in which round over the steps it was touched last */
    uint32_t n;
    Low *l;
    const Nest *nest; /* at whose own points it is touched; NULL: anywhere */
} Touched;

/* Is that element of the thread to which the point belongs, and of no other? */
static bool at_own_point(const Low *l, const Nest *n, const Ix *ix, int rank)
{
    const Var units = n->naxis ? n->axis[n->naxis - 1] : 0;
    Var found[MAX_RANK], w;
    int nfound = 0, want = 0;
    for (int d = 0; d < rank; d++) {
        int64_t c;
        if (ix_is_var(l->p, ix[d], &w) && w != l->s->seq)
            found[nfound++] = w;
        else if (!ix_is_const(l->p, ix[d], &c) &&
                 (!l->s->seq || !ix_uses(l->p, ix[d], l->s->seq) || ix_uses(l->p, ix[d], units)))
            return false;
    }
    for (int a = 0; a < n->naxis; a++)
        for (int i = 0; i < nfound; i++)
            if (n->axis[a] == found[i] && (n->axis[a] == units || l->span[n->axis[a]].count > 1))
                want++;
    int most = 1;
    for (int a = 0; a + 1 < n->naxis; a++)
        most += l->span[n->axis[a]].count > 1;
    return want == most && n->held;
}

static void note_place(Touched *t, uint16_t buf, const Ix *ix, int rank)
{
    const bool own = t->nest && at_own_point(t->l, t->nest, ix, rank);
    const int split = own ? t->nest->held->split : MIXED;
    t->split[buf] = t->split[buf] == 0 || t->split[buf] == split ? split : MIXED;
    const Var seq = t->l->s->seq;
    const Ix slot =
        t->l->s->buf[buf].slots && seq && ix_uses(t->l->p, ix[0], seq) ? ix[0] : IX_KEEP;
    t->slot[buf] = t->slot[buf] == 0 || t->slot[buf] == slot ? slot : IX_KEEP;
}

static void note_read(void *arg, const Expr *e)
{
    Touched *t = arg;
    t->read[e->buf] = true;
    note_place(t, e->buf, e->ix, e->nix);
}

static Touched touched_new(Low *l)
{
    return (Touched){ .read = arena_array(l->arena, bool, l->s->nbuf),
                      .written = arena_array(l->arena, bool, l->s->nbuf),
                      .split = arena_array(l->arena, int, l->s->nbuf),
                      .slot = arena_array(l->arena, Ix, l->s->nbuf),
                      .round = arena_array(l->arena, int, l->s->nbuf),
                      .n = l->s->nbuf,
                      .l = l };
}

static Touched touched_by(Low *l, const Nest *n)
{
    Touched t = touched_new(l);
    t.nest = n;
    for (int i = 0; i < n->nroot; i++) {
        const Stage *st = &l->s->stage[n->root[i]];
        expr_reads(l->s, st->e, note_read, &t);
        for (int k = 0; k < st->nstore; k++) {
            t.written[st->store[k].buf] = true;
            note_place(&t, st->store[k].buf, st->store[k].ix, l->s->buf[st->store[k].buf].rank);
        }
    }
    t.nest = NULL;
    for (int i = 0; i < n->nred; i++)
        expr_reads(l->s, l->s->stage[n->red[i]].e, note_read, &t);
    return t;
}

/* Does what b touches in this round wait for what a has touched?  Not where each thread touches its
 * own, nor where the step before used another slot: it read what it had written, as this one will.
 */
static bool touched_clash(const Touched *a, const Touched *b, int round)
{
    bool clash = false;
    for (uint32_t i = 0; i < a->n; i++) {
        const bool own = a->split[i] > 0 && a->split[i] == b->split[i];
        const bool other_slot =
            a->slot[i] && a->slot[i] != IX_KEEP && a->slot[i] == b->slot[i] && a->round[i] != round;
        clash |=
            !own && !other_slot &&
            ((a->written[i] && (b->read[i] || b->written[i])) || (a->read[i] && b->written[i]));
    }
    return clash;
}

static void touched_add(Touched *now, const Touched *by, int round)
{
    for (uint32_t b = 0; b < now->n; b++) {
        if (!by->read[b] && !by->written[b])
            continue;
        now->read[b] |= by->read[b];
        now->written[b] |= by->written[b];
        now->split[b] = now->split[b] == 0 || now->split[b] == by->split[b] ? by->split[b] : MIXED;
        now->slot[b] = now->slot[b] == 0 || now->slot[b] == by->slot[b] ? by->slot[b] : IX_KEEP;
        now->round[b] = round;
    }
}

/* Goes over nests [from, to): marks those that want a sync first, and leaves in *now what was
 * touched since the last. */
static void mark_syncs(int from, int to, const Touched *by, bool *sync, Touched *now, int round)
{
    for (int i = from; i < to; i++) {
        sync[i] |= touched_clash(now, &by[i], round);
        if (sync[i])
            *now = touched_new(now->l);
        touched_add(now, &by[i], round);
    }
}

/* Nests that follow each other, all in one loop or in none. */
typedef struct Section {
    int from, to;
    bool step; /* of a scan */
    Var var;   /* that the loop counts: Stages.seq, Phase.walk; 0: no loop */
} Section;

static bool *choose_syncs(Low *l, const Phase *ph, const Section *section, int nsection)
{
    Touched now = touched_new(l), *by = arena_array(l->arena, Touched, ph->nnest);
    bool *sync = arena_array(l->arena, bool, ph->nnest);
    for (int i = 0; i < ph->nnest; i++)
        by[i] = touched_by(l, &ph->nest[i]);
    for (int i = 0; i < nsection; i++)
        for (int round = 0; round < (section[i].var ? 3 : 1); round++)
            mark_syncs(section[i].from, section[i].to, by, sync, &now, round);
    return sync;
}

/* ---- phases ------------------------------------------------------------------------------ */

/* The nests of a block, in the order they run: plain ones, a scan's first, each step's, its last.
 */
static Phase in_order(Low *l, const Phase *ph)
{
    Phase sorted = { 0 };
    for (int when = WHEN_PLAIN; when <= WHEN_LAST; when++)
        for (int i = 0; i < ph->nnest; i++)
            if (ph->nest[i].when == when)
                phase_take(l->arena, &sorted, &ph->nest[i]);
    return sorted;
}

static Section *sections_of(Low *l, const Phase *ph, Var walk, int *nsection)
{
    Section *out = arena_array(l->arena, Section, ph->nnest);
    *nsection = 0;
    for (int i = 0; i < ph->nnest; i++) {
        const Nest *n = &ph->nest[i], *before = i ? n - 1 : NULL;
        if (!before || before->when != n->when || before->walk != n->walk)
            out[(*nsection)++] =
                (Section){ .from = i,
                           .step = n->when == WHEN_STEP,
                           .var = n->when == WHEN_STEP ? l->s->seq : n->walk ? walk : 0 };
        out[*nsection - 1].to = i + 1;
    }
    return out;
}

static Open open_steps(Low *l, const Section *s)
{
    const Var v = ix_var_new(l->p, s->step ? "step" : "tile",
                             s->step ? l->s->trip : ix_var_count(l->p, s->var));
    KNode **const at = l->tail;
    const Open o = low_open(l, v, BIND_SERIAL, 0);
    (*at)->step = s->step;
    l->env[s->var] = ix_var(l->p, v);
    return o;
}

static void block_body(Low *l, const Phase *ph)
{
    const Phase order = in_order(l, ph);
    int nsection;
    const Section *section = sections_of(l, &order, ph->walk, &nsection);
    const bool *sync = choose_syncs(l, &order, section, nsection);
    for (int k = 0; k < nsection; k++) {
        const Section *s = &section[k];
        Open o = { 0 };
        for (int i = s->from; i < s->to; i++)
            if (order.nest[i].held)
                low_held_fill(l, &order.nest[i]);
        if (s->var)
            o = open_steps(l, s);
        for (int i = s->from; i < s->to; i++) {
            if (sync[i])
                low_put(l, K_SYNC);
            if (order.nest[i].held)
                low_held(l, &order.nest[i]);
            else
                lower_nest(l, &order.nest[i], BIND_THREAD);
        }
        if (s->var)
            low_close(l, o);
    }
}

/* A block for each value of the numbers that blocks have. */
static void lower_grid(Low *l, const Phase *ph)
{
    Open open[MAX_GRID];
    for (int i = 0; i < ph->ngrid; i++) {
        const Var g = ph->grid[i];
        const Var v = ix_var_new(l->p, ix_var_name(l->p, g), ix_var_count(l->p, g));
        open[i] = low_open(l, v, BIND_TEAM, 0);
        l->env[g] = ix_var(l->p, v);
    }
    block_body(l, ph);
    for (int i = ph->ngrid; i > 0; i--)
        low_close(l, open[i - 1]);
}

static void lower_phase(Low *l, const Phase *ph)
{
    if (ph->barrier)
        low_put(l, K_BARRIER)->last = ph->last;
    if (ph->flat) {
        if (ph->nest[0].blocked)
            low_blocked(l, &ph->nest[0], ph->nnest > 1 ? &ph->nest[1] : NULL);
        else
            lower_nest(l, &ph->nest[0], BIND_GRID);
        return;
    }
    if (ph->ngrid) {
        lower_grid(l, ph);
        return;
    }
    const Span all = ph->team ? l->span[ph->team] : (Span){ 0 };
    gtc_assert(!ph->team || all.count % ph->block == 0, "blocks of %lld do not divide %lld",
               (long long)ph->block, (long long)all.count);
    const Var v = ix_var_new(l->p, "share", ph->team ? all.count / ph->block : 1);
    const Open o = low_open(l, v, BIND_TEAM, 0);
    if (ph->team) {
        l->team_base = ix_scale(l->p, ix_var(l->p, v), ph->block);
        l->span[ph->team] = (Span){ l->team_base, ph->block };
        if (ph->block == 1)
            l->env[ph->team] = l->team_base;
    }
    block_body(l, ph);
    low_close(l, o);
    if (ph->team)
        l->span[ph->team] = all;
}

Status plan_lower_cuda(Ctx *cx, Arena *arena, const Plan *plan, Kir **out)
{
    Low l;
    low_begin(&l, cx, arena, plan, 1);
    l.k->threads = plan->threads;
    for (int i = 0; i < plan->nphase; i++)
        lower_phase(&l, &plan->phase[i]);
    *out = l.k;
    return ST_OK;
}
