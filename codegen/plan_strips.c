/* SPDX-License-Identifier: Apache-2.0 */
/* Attention on a GPU: scores, softmax and the products with them, where nothing as large as the
 * scores leaves the shared memory of a block (after Dao et al. 2022, FlashAttention).
 *
 * A product of matrices for each batch entry and head is worth a launch of its own, in blocks that
 * hold its operands in shared memory; but then the scores go through the workspace between the
 * launches, several times.  Here a block makes all of one batch entry and head (*whole*), where
 * that fits.  Else it has a strip of the scores: some of their rows, and a loop over tiles of their
 * columns.
 *
 * A sum along the strip grows from tile to tile.  What is made of it waits for its end, so
 * where that is needed for another sum, as the greatest score is for the sum of exponentials, there
 * is another loop, in which what is as large as the scores is made again.  Sums along columns want
 * strips the other way, of all rows of some columns: a phase of their own, for which too the scores
 * are made again.  What is one number a row (or column) goes from one phase to the next through the
 * workspace.
 *
 * Told by axes, not by name (strips_roles.c).  All is done on stages: axis q becomes 64*Q + q,
 * where Q is no axis of any nest but a number that a block has, or a loop around nests. */
#include "codegen/strips.h"

#include <string.h>

#include "ir/base/size.h"

/* ---- a phase of strips --------------------------------------------------------------------- */

/* In which loop a unit of this side makes its sums (1 ..); else the last whose sums it waits for.
 */
static void find_levels(const Side *d, int *level)
{
    const Strips *w = d->w;
    for (int i = 0; i < w->nunit; i++) {
        const Unit *u = &w->unit[i];
        level[i] = 0;
        for (int j = 0; j < i; j++)
            if (strips_in(u->needs & d->computed, j) && level[j] > level[i])
                level[i] = level[j];
        level[i] += u->sums == d->walk;
    }
}

static bool walks(const Side *d, const Unit *u)
{
    return u->axes >> d->walk & 1;
}

/* Units of `need` that stand outside of loops and are not there yet. */
static void add_fixed(Side *d, uint64_t need)
{
    for (int i = 0; i < d->w->nunit; i++) {
        const Unit *u = &d->w->unit[i];
        if (!strips_in(need & d->units & ~d->done, i) || u->placed || walks(d, u))
            continue;
        strips_add_unit(d, u, 0);
        d->done |= UINT64_C(1) << i;
    }
}

/* What these sums are made of, tile by tile. */
static void add_terms(Side *d, uint64_t sums, int walk)
{
    const uint64_t need = strips_needed(d->w, sums, NULL) & ~sums & ~d->made_before;
    for (int i = 0; i < d->w->nunit; i++)
        if (strips_in(need, i) && walks(d, &d->w->unit[i]))
            strips_add_unit(d, &d->w->unit[i], walk);
    d->made_before |= need;
}

static void start_loop(Side *d, uint64_t sums)
{
    add_fixed(d, strips_needed(d->w, sums, NULL));
    for (int i = 0; i < d->w->nunit; i++)
        if (strips_in(sums, i))
            strips_start_sums(d, &d->w->unit[i]);
}

static void end_loop(Side *d, uint64_t sums, int walk)
{
    for (int i = 0; i < d->w->nunit; i++)
        if (strips_in(sums, i))
            strips_grow_sums(d, &d->w->unit[i], walk);
    d->made_before = 0;
}

static uint64_t sums_of(const Side *d, const int *level, int number)
{
    uint64_t sums = 0;
    for (int i = 0; i < d->w->nunit; i++)
        if (strips_in(d->units, i) && d->w->unit[i].sums == d->walk && level[i] == number)
            sums |= UINT64_C(1) << i;
    return sums;
}

/* Units computed once whose sums have grown by the end of this loop; 0: before the first. */
static void add_results(Side *d, const int *level, int loop)
{
    for (int i = 0; i < d->w->nunit; i++) {
        const Unit *u = &d->w->unit[i];
        if (!strips_in(d->units, i) || !u->placed || level[i] != loop)
            continue;
        add_fixed(d, strips_needed(d->w, UINT64_C(1) << i, NULL));
        strips_add_unit(d, u, 0);
    }
}

/* All sums in one loop. */
static void add_online(Side *d, int *level)
{
    const uint64_t first = UINT64_C(1) << d->online.greatest;
    d->scale = stages_temp(d->w->s, "scale", DT_F32, 1, &d->tile[d->grid]);
    d->w->s->buf[d->scale].home = HOME_PRIVATE;
    add_results(d, level, 0);
    start_loop(d, first | d->online.sums);
    add_terms(d, first, 1);
    strips_grow_greatest(d, 1);
    d->growing = true;
    add_terms(d, d->online.sums, 1);
    end_loop(d, d->online.sums, 1);
    d->growing = false;
    for (int i = 0; i < d->w->nunit; i++)
        level[i] = level[i] > 0;
    add_results(d, level, 1);
}

static void add_strips(Side *d)
{
    int level[MAX_UNITS];
    find_levels(d, level);
    if (d->is_online) {
        add_online(d, level);
        return;
    }
    add_results(d, level, 0);
    uint64_t sums;
    for (int loop = 1; (sums = sums_of(d, level, loop)) != 0; loop++) {
        start_loop(d, sums);
        add_terms(d, sums, loop);
        end_loop(d, sums, loop);
        add_results(d, level, loop);
    }
}

/* ---- sizes --------------------------------------------------------------------------------- */

/* Is what unit i makes read in the other phase? */
static bool leaves(const Side *d, int i)
{
    for (int j = 0; j < d->w->nunit; j++)
        if (d->w->unit[i].placed && strips_in(d->elsewhere, j) && strips_in(d->w->unit[j].needs, i))
            return true;
    return false;
}

/* An operand's copy, turned: threads along its rows write a column each, in banks of their own. */
static bool is_copy(const Unit *u)
{
    return !u->placed && !u->square && u->n.nred == 0;
}

static int64_t kept_shape(const Side *d, const Unit *u, uint16_t buf, int64_t *shape)
{
    enum { PAD = 4 };
    const GBuf *b = &d->w->s->buf[buf];
    int64_t bytes = dtype_bytes(b->dt);
    for (int k = 0; k < b->rank; k++) {
        const Role r = d->w->dim[buf][k];
        shape[k] = r >= ROLE_BATCH ? 1 : r && d->tile[r] ? d->tile[r] : b->shape[k];
        shape[k] += k == b->rank - 1 && is_copy(u) ? PAD : 0;
        bytes = size_mul(bytes, shape[k]);
    }
    return size_round_up(bytes, 64);
}

static int64_t sum_bytes(const Side *d, const Unit *u)
{
    int64_t bytes = 0;
    for (int j = 0; j < u->n.nred; j++) {
        int64_t n = (int64_t)sizeof(float);
        for (int i = 0; i < u->n.naxis && strips_grows(d, u, j); i++) {
            const Role r = u->role[u->n.axis[i]];
            if (r < ROLE_BATCH)
                n = size_mul(n, r ? d->tile[r] : ix_var_count(d->w->s->pool, u->n.axis[i]));
        }
        bytes = size_add(bytes, strips_grows(d, u, j) ? size_round_up(n, 64) : 0);
    }
    return bytes;
}

/* Calls f for each temporary that stays in the block's shared memory; gives the bytes of them all,
 * and of the sums. */
static int64_t kept(Side *d, void (*f)(Side *d, const Unit *u, uint16_t buf))
{
    const Stages *s = d->w->s;
    int64_t shape[MAX_RANK];
    int64_t bytes = d->is_online ? size_round_up(d->tile[d->grid] * (int64_t)sizeof(float), 64) : 0;
    for (int i = 0; i < d->w->nunit; i++) {
        const Unit *u = &d->w->unit[i];
        if (!strips_in(d->units, i))
            continue;
        bytes = size_add(bytes, sum_bytes(d, u));
        const Stage st = s->stage[u->n.root[0]];
        for (int k = 0; k < st.nstore; k++) {
            const uint16_t buf = st.store[k].buf;
            if (s->buf[buf].is_out || leaves(d, i))
                continue;
            bytes = size_add(bytes, kept_shape(d, u, buf, shape));
            if (f)
                f(d, u, buf);
        }
    }
    return bytes;
}

static void keep(Side *d, const Unit *u, uint16_t buf)
{
    Stages *s = d->w->s;
    const GBuf old = s->buf[buf];
    int64_t shape[MAX_RANK];
    kept_shape(d, u, buf, shape);
    const char *name = arena_printf(s->arena, "%s_%u", old.name, s->nbuf);
    d->to[buf] = stages_temp(s, name, old.dt, old.rank, shape);
    s->buf[d->to[buf]].home = HOME_PRIVATE;
}

/* Points of a tile: of no more than `most`, so that tiles are equal, or nearly. */
static int64_t tile_of(int64_t count, int64_t most)
{
    enum { WIDTH = 4 };
    if (count <= most)
        return count;
    for (int64_t k = most; 2 * k >= most; k--)
        if (count % k == 0)
            return k;
    const int64_t tiles = size_ceil_div(count, most);
    return size_round_up(size_ceil_div(count, tiles), WIDTH);
}

static int64_t blocks_of(const Side *d)
{
    int64_t n = d->grid ? size_ceil_div(d->w->count[d->grid], d->tile[d->grid]) : 1;
    for (int i = 0; i < d->w->nbatch; i++)
        n = size_mul(n, d->w->count[ROLE_BATCH + i]);
    return n;
}

/* The largest tiles that fit, but more blocks rather than large ones. */
static bool choose_tiles(Side *d)
{
    enum { MOST = 64, LEAST = 8, NARROW = 16 };
    const int64_t room = d->w->pl->t->smem_bytes, *count = d->w->count;
    if (count[d->grid] == 0 || count[d->walk] == 0)
        return false;
    for (int64_t most = MOST; most >= LEAST; most /= 2)
        for (int64_t strip = most; strip >= (most < NARROW ? most : NARROW); strip /= 2) {
            d->tile[d->grid] = tile_of(count[d->grid], strip);
            d->tile[d->walk] = tile_of(count[d->walk], most);
            if (kept(d, NULL) <= room && (blocks_of(d) >= d->w->pl->team || strip / 2 < NARROW))
                return true;
        }
    return false;
}

/* ---- phases -------------------------------------------------------------------------------- */

static void start_phase(Side *d)
{
    static const char *const big[] = { "", "R", "C" }, *const small[] = { "", "r", "c" };
    Strips *w = d->w;
    IxPool *p = w->s->pool;
    d->ph = phase_add(w->pl);
    d->first = w->s->nstage;
    for (int i = 0; i < w->nbatch; i++) {
        const Role r = (Role)(ROLE_BATCH + i);
        d->ph->grid[d->ph->ngrid++] = d->big[r] = ix_var_new(p, "b", w->count[r]);
    }
    for (Role r = ROLE_ROW; r <= ROLE_COL && d->grid; r++) {
        d->big[r] = ix_var_new(p, big[r], size_ceil_div(w->count[r], d->tile[r]));
        d->small[r] = ix_var_new(p, small[r], d->tile[r]);
    }
    if (d->grid)
        d->ph->grid[d->ph->ngrid++] = d->big[d->grid];
    d->ph->walk = d->big[d->walk];
    kept(d, keep);
}

static Side side_new(Strips *w, Role grid, Role walk)
{
    Side d = { .w = w, .grid = grid, .walk = walk };
    d.units = grid ? strips_needed(w, strips_placed(w, grid), &d.computed) : ~UINT64_C(0);
    if (grid)
        strips_needed(w, strips_placed(w, walk), &d.elsewhere);
    int level[MAX_UNITS];
    find_levels(&d, level);
    d.is_online = grid && strips_online(w, d.computed, walk, level, &d.online);
    if (!d.is_online)
        d.online = (Online){ .greatest = -1 };
    d.to = arena_array(w->pl->arena, uint16_t, w->nbuf);
    d.map = arena_array(w->pl->arena, Ix, w->nvar);
    return d;
}

/* What is made over is gone: stages, and temporaries that no phase hands to the other. */
static void drop_old(const Side *side, int nside, uint32_t nstage)
{
    const Strips *w = side[0].w;
    for (uint32_t i = 0; i < nstage; i++)
        w->s->stage[i].dropped = true;
    for (int i = 0; i < w->nunit; i++) {
        bool stays = false;
        for (int k = 0; k < nside; k++)
            stays |= strips_in(side[k].units, i) && leaves(&side[k], i);
        const Stage *root = &w->s->stage[w->unit[i].n.root[0]];
        for (int k = 0; k < root->nstore && !stays && !w->unit[i].gives; k++)
            w->s->buf[root->store[k].buf].home = HOME_NONE;
    }
}

/* One block makes all of a batch entry and head. */
static bool plan_whole(Strips *w)
{
    const uint32_t nstage = w->s->nstage;
    Side d = side_new(w, ROLE_NONE, ROLE_NONE);
    if (4 * blocks_of(&d) <= w->pl->team || kept(&d, NULL) > w->pl->t->smem_bytes)
        return false;
    start_phase(&d);
    for (int i = 0; i < w->nunit; i++)
        strips_add_unit(&d, &w->unit[i], 0);
    drop_old(&d, 1, nstage);
    return true;
}

/* Does what is placed on side `of` wait for what is placed on side `on`? */
static bool waits(const Strips *w, Role of, Role on)
{
    const uint64_t there = strips_placed(w, on);
    for (int i = 0; i < w->nunit; i++)
        if (strips_in(strips_placed(w, of), i) && (w->unit[i].after & there))
            return true;
    return false;
}

static bool plan_sides(Strips *w)
{
    const uint32_t nstage = w->s->nstage;
    Role first = ROLE_ROW, then = ROLE_COL;
    if (waits(w, ROLE_ROW, ROLE_COL)) {
        if (waits(w, ROLE_COL, ROLE_ROW))
            return false;
        first = ROLE_COL;
        then = ROLE_ROW;
    }
    Side d[2];
    int n = 0;
    for (int k = 0; k < 2; k++) {
        const Role grid = k ? then : first;
        if (strips_placed(w, grid))
            d[n++] = side_new(w, grid, k ? first : then);
    }
    for (int k = 0; k < n; k++)
        if (!choose_tiles(&d[k]) || 4 * blocks_of(&d[k]) <= w->pl->team)
            return false;
    for (int k = 0; k < n; k++) {
        start_phase(&d[k]);
        d[k].ph->barrier = k > 0; /* its tiles want all of the shared memory, too */
        add_strips(&d[k]);
    }
    drop_old(d, n, nstage);
    return n > 0;
}

bool plan_strips(Planner *pl, const Nest *nest, int nnest)
{
    if (!pl->alone || pl->plain)
        return false;
    Strips *w = arena_array(pl->arena, Strips, 1);
    return strips_roles(w, pl, nest, nnest) && w->nbatch > 0 && (plan_whole(w) || plan_sides(w));
}
