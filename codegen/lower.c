/* SPDX-License-Identifier: Apache-2.0 */
/* The plan as KIR: phases, blocks, nests, tiles.  One instantiator serves every nest: loops over
 * tiles, and inside a tile the scalar expressions are instantiated once for each point, memoised
 * by the expression and the places of the axes it depends on (lower_value.c).  Operands that stay
 * in registers, broadcast loads and windows that overlap are all this one memo. */
#include "codegen/lower.h"

#include <math.h>
#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"

/* ---- tiles ------------------------------------------------------------------------------- */

void low_at(Low *l, int i)
{
    for (int a = 0; a < l->n->naxis; a++)
        l->env[l->n->axis[a]] = ix_shift(l->p, l->base[a], l->point[i].off[a]);
    l->w = l->point[i].lanes;
}

static double identity_of(Op rop, RegType reg)
{
    if (rop == OP_add)
        return 0;
    if (reg == REG_F32)
        return rop == OP_max ? (BUG(36) ? 0 : -INFINITY) : INFINITY;
    if (reg == REG_I64)
        return rop == OP_max ? -0x1p63 : 0x1p63; /* the greatest, as the emitter spells it */
    return rop == OP_max ? (double)INT32_MIN : (double)INT32_MAX;
}

static Val combine(Low *l, Op rop, Val a, Val b)
{
    return low_ew(l, rop, low_reg(l, a), l->k->val[a].vec, 2, (Val[]){ a, b });
}

static Val stage_key(Low *l, StageId acc, Key *key)
{
    const Stage *st = &l->s->stage[acc];
    low_key(l, EXPR_VALUE_OF | acc, st->axis, st->naxis, key);
    return low_known(l, EXPR_VALUE_OF | acc, key);
}

void low_known_as(Low *l, const Stage *st, Val v)
{
    Key key;
    stage_key(l, st->acc, &key);
    low_remember(l, EXPR_VALUE_OF | st->acc, &key, v);
}

Val low_reduced(Low *l, const Stage *st)
{
    Key key;
    const Val v = stage_key(l, st->acc, &key);
    gtc_assert(v, "a stage is used before it is reduced");
    return v;
}

static const Stage *root_of(const Low *l, const Batch *b, int j)
{
    for (int i = 0; i < l->n->nroot; i++) {
        const Stage *root = &l->s->stage[l->n->root[i]];
        const Expr *e = stages_expr(l->s, root->e);
        if (e->kind == EX_VALUE && &l->s->stage[e->stage] == b->st[j])
            return root;
    }
    gtc_assert(0, "a blocked reduction without its root");
    return NULL;
}

/* Accumulators for all points; blocked ones go on from what is stored. */
void low_start(Low *l, const Batch *b)
{
    for (int j = 0; j < b->n; j++)
        for (int i = 0; i < l->npoint; i++) {
            low_at(l, i);
            Key key;
            const StageId acc = b->st[j]->acc;
            if (stage_key(l, acc, &key))
                continue; /* another stage adds to it too */
            const RegType reg = stages_expr(l->s, b->st[j]->e)->reg;
            Val first;
            if (l->n->kaxis) {
                const Store *st = &root_of(l, b, j)->store[0];
                first = low_value(l, expr_read(l->s, st->buf, st->ix));
                if (l->vec)
                    first = low_splat(l, first);
            } else {
                first = low_const(l, identity_of(b->st[j]->rop, reg), reg);
                if (l->vec)
                    first = low_splat(l, first);
            }
            low_remember(l, EXPR_VALUE_OF | acc, &key, low_accumulator(l, first));
        }
}

/* Vectors of a tile's first point: points stand vector by vector (order_contract). */
static int tile_vectors(const Low *l)
{
    int n = 0;
    for (int i = 0; i < l->npoint; i++) {
        bool first = true;
        for (int a = 0; a < l->n->naxis; a++)
            first &= l->n->axis[a] == l->n->vec || l->point[i].off[a] == l->point[0].off[a];
        n += first;
    }
    return n;
}

/* Row by row, all vectors of a row together: then only the vectors of one operand and a single
 * broadcast are live beside the accumulators, and nothing is spilled. */
void low_accumulate(Low *l, const Batch *b)
{
    const int nv = tile_vectors(l), rows = l->npoint / nv;
    for (int i = 0; i < l->npoint; i++)
        for (int j = 0; j < b->n; j++) {
            low_at(l, i % nv * rows + i / nv);
            Val v = low_value(l, b->st[j]->e);
            if (l->vec)
                v = low_splat(l, v);
            Key key;
            const Val acc = stage_key(l, b->st[j]->acc, &key);
            low_set(l, acc, combine(l, b->st[j]->rop, acc, v));
        }
}

struct Along {
    Stages *s;
    Var v;
    bool next;
};

static void goes_along(void *arg, const Expr *e)
{
    struct Along *a = arg;
    a->next |= map_stride(a->s, e->ix, e->nix, a->v, 1) == 1;
}

/* GPU: rounds of a loop over r that are written out, so that four neighbours can be loaded at once
 * (kir_widen.c). */
static int written_out(Low *l, const Batch *b, Var r)
{
    enum { WIDE = 4 };
    struct Along a = { l->s, r, false };
    for (int j = 0; j < b->n && l->n->strip; j++)
        expr_reads(l->s, b->st[j]->e, goes_along, &a);
    return a.next && l->span[r].count % WIDE == 0 ? WIDE : 1;
}

static void red_loops(Low *l, const Batch *b, int depth)
{
    const Stage *st = b->st[0];
    if (depth == st->nred) {
        low_accumulate(l, b);
        return;
    }
    const Var r = st->red[depth];
    const Span sp = l->span[r];
    if (sp.count == 1) {
        l->env[r] = sp.base;
        red_loops(l, b, depth + 1);
        return;
    }
    const bool last = depth == st->nred - 1;
    const int out = last ? written_out(l, b, r) : 1;
    const Var v = ix_var_new(l->p, ix_var_name(l->p, r), sp.count / out);
    const int unroll = !last ? 0 : sp.count <= 4 ? (int)sp.count : l->npoint * b->n >= 8 ? 2 : 4;
    const Open o = low_open(l, v, unroll > 1 && l->n->vec ? BIND_UNROLL : BIND_SERIAL, unroll);
    for (int i = 0; i < out; i++) {
        l->env[r] = ix_add(l->p, sp.base, ix_shift(l->p, ix_scale(l->p, ix_var(l->p, v), out), i));
        red_loops(l, b, depth + 1);
    }
    low_close(l, o);
}

/* ---- rows: vectors along the last reduced axis -------------------------------------------- */

static void row_vectors(Low *l, const Batch *b, Ix at, int64_t from, int64_t to)
{
    const Var r = b->st[0]->red[b->st[0]->nred - 1];
    for (int64_t q = from; q < to; q += l->lanes) {
        const int w = to - q < l->lanes ? (int)(to - q) : l->lanes;
        for (int i = 0; i < l->npoint; i++)
            for (int j = 0; j < b->n; j++) {
                low_at(l, i);
                l->env[r] = ix_shift(l->p, at, q);
                l->vec = r;
                l->w = w;
                Val v = low_splat(l, low_value(l, b->st[j]->e));
                l->vec = 0;
                if (w < l->lanes && !BUG(37)) {
                    KNode *t = low_put(l, K_TAIL);
                    t->nargs = 1;
                    t->arg[0] = v;
                    t->lanes = (uint8_t)w;
                    t->value = identity_of(b->st[j]->rop, low_reg(l, v));
                    v = t->dst = kir_val(l->k, low_reg(l, v), true);
                }
                const int64_t which = (q - from) / l->lanes % b->nv;
                const Val acc = b->part[(i * b->n + j) * b->nv + which];
                low_set(l, acc, combine(l, b->st[j]->rop, acc, v));
            }
    }
}

static void row_loops(Low *l, const Batch *b, int depth)
{
    const Stage *st = b->st[0];
    const Var r = st->red[depth];
    const Span sp = l->span[r];
    const bool last = depth == st->nred - 1;
    const int64_t step = last ? (int64_t)b->nv * l->lanes : 1, full = sp.count / step;
    if (full > 0) {
        const Var v = ix_var_new(l->p, ix_var_name(l->p, r), full);
        const Open o = low_open(l, v, BIND_SERIAL, 0);
        const Ix at = ix_add(l->p, sp.base, ix_scale(l->p, ix_var(l->p, v), step));
        if (last) {
            row_vectors(l, b, at, 0, step);
        } else {
            l->env[r] = at;
            row_loops(l, b, depth + 1);
        }
        low_close(l, o);
    }
    if (last && sp.count % step) {
        const uint32_t known = l->nknown;
        row_vectors(l, b, ix_shift(l->p, sp.base, full * step), 0, sp.count % step);
        low_forget(l, known);
    }
}

static void row_reduce(Low *l, Batch *b)
{
    const Stage *st = b->st[0];
    const int64_t vectors = size_ceil_div(ix_var_count(l->p, st->red[st->nred - 1]), l->lanes);
    b->nv = vectors >= 4 && l->npoint * b->n <= 4   ? 4
            : vectors >= 2 && l->npoint * b->n <= 8 ? 2
                                                    : 1;
    b->part = arena_array(l->arena, Val, l->npoint * b->n * b->nv);
    for (int i = 0; i < l->npoint * b->n * b->nv; i++) {
        const Stage *s = b->st[i / b->nv % b->n];
        const RegType reg = stages_expr(l->s, s->e)->reg;
        b->part[i] = low_accumulator(l, low_splat(l, low_const(l, identity_of(s->rop, reg), reg)));
    }
    row_loops(l, b, 0);
    for (int i = 0; i < l->npoint; i++)
        for (int j = 0; j < b->n; j++) {
            const Val *part = &b->part[(i * b->n + j) * b->nv];
            Val v = part[0];
            if (b->nv >= 2)
                v = combine(l, b->st[j]->rop, part[0], part[1]);
            if (b->nv == 4)
                v = combine(l, b->st[j]->rop, v,
                            combine(l, b->st[j]->rop, part[2], part[3 - BUG(69)]));
            KNode *n = low_put(l, K_REDUCE);
            n->ew = b->st[j]->rop;
            n->nargs = 1;
            n->arg[0] = v;
            n->dst = kir_val(l->k, low_reg(l, v), false);
            low_at(l, i);
            low_known_as(l, b->st[j], n->dst);
        }
}

/* ---- a tile's work ----------------------------------------------------------------------- */

void low_batches(Low *l, void (*f)(Low *l, Batch *b))
{
    const Nest *n = l->n;
    bool done[MAX_NEST_REDS] = { false };
    for (int i = 0; i < n->nred; i++) {
        if (done[i])
            continue;
        Batch b = { .n = 0 };
        const Stage *first = &l->s->stage[n->red[i]];
        for (int j = i; j < n->nred; j++) {
            const Stage *st = &l->s->stage[n->red[j]];
            if (done[j] || st->nred != first->nred ||
                memcmp(st->red, first->red, sizeof(Var) * st->nred) != 0)
                continue;
            done[j] = true;
            b.st[b.n++] = st;
        }
        f(l, &b);
    }
}

void low_contract(Low *l, Batch *b)
{
    low_start(l, b);
    red_loops(l, b, 0);
}

void low_roots(Low *l, bool zero)
{
    for (int i = 0; i < l->n->nroot; i++)
        for (int j = 0; j < l->npoint; j++) {
            const Stage *st = &l->s->stage[l->n->root[i]];
            low_at(l, j);
            const Val v = zero ? low_const(l, 0, REG_F32) : low_value(l, st->e);
            if (st->pick)
                l->env[st->pick] = low_pick(l, stages_expr(l->s, st->e));
            Open when = { 0 };
            if (st->only)
                when = low_when(l, ix_subst(l->p, st->only->ix, l->env, l->nenv), st->only->hi);
            for (int k = 0; k < st->nstore; k++)
                low_store(l, &st->store[k], v);
            if (st->only)
                low_close(l, when);
        }
}

static void tile_body(Low *l, bool zero)
{
    const uint32_t known = l->nknown;
    if (!zero)
        low_batches(l, l->n->row ? row_reduce : low_contract);
    low_roots(l, zero);
    low_forget(l, known);
}

static void tiles(Low *l, int axis, bool zero);

/* One tile of this axis at `base`: extent elements, times the points of the axes before it. */
static void tile_at(Low *l, int axis, Ix base, int64_t extent, bool zero)
{
    const bool vec = l->n->axis[axis] == l->n->vec;
    const int unit = vec ? l->lanes : 1, n = (int)size_ceil_div(extent, unit), before = l->npoint;
    Point *keep = l->point, *more = arena_array(l->arena, Point, before * n);
    gtc_assert(before * n <= MAX_POINTS, "a tile of %d points", before * n);
    for (int i = 0; i < before; i++)
        for (int j = 0; j < n; j++) {
            Point *p = &more[i * n + j];
            *p = keep[i];
            p->off[axis] = (int64_t)j * unit;
            if (vec)
                p->lanes =
                    extent - (int64_t)j * unit < unit ? (int)(extent - (int64_t)j * unit) : unit;
        }
    l->base[axis] = base;
    l->env[l->n->axis[axis]] = base;
    l->point = more;
    l->npoint = before * n;
    tiles(l, axis + 1, zero);
    l->point = keep;
    l->npoint = before;
}

static void tiles(Low *l, int axis, bool zero)
{
    if (axis == l->n->naxis) {
        tile_body(l, zero);
        return;
    }
    const Var v = l->n->axis[axis];
    const Span sp = l->span[v];
    const int64_t step = (int64_t)l->n->tile[axis] * (v == l->n->vec ? l->lanes : 1);
    const int64_t full = sp.count / step;
    if (full == 1) {
        tile_at(l, axis, sp.base, step, zero);
    } else if (full > 1) {
        const Var i = ix_var_new(l->p, ix_var_name(l->p, v), full);
        const Open o = low_open(l, i, BIND_SERIAL, 0);
        tile_at(l, axis, ix_add(l->p, sp.base, ix_scale(l->p, ix_var(l->p, i), step)), step, zero);
        low_close(l, o);
    }
    if (sp.count % step)
        tile_at(l, axis, ix_shift(l->p, sp.base, full * step), sp.count % step, zero);
}

static void nest_tiles(Low *l, bool zero)
{
    Point one = { .lanes = 1 };
    l->point = &one;
    l->npoint = 1;
    l->vec = l->n->vec;
    tiles(l, 0, zero);
    l->vec = 0;
}

static void lower_nest(Low *l, const Nest *n)
{
    l->n = n;
    KNode *note = low_put(l, K_NOTE);
    note->text = n->row ? "row" : n->nred ? "contract" : "map";
    if (!n->kaxis) {
        nest_tiles(l, false);
        return;
    }
    if (!BUG(38))
        nest_tiles(l, true);
    const Span all = l->span[n->kaxis];
    const int64_t full = all.count / n->kstep, rest = all.count % n->kstep;
    if (full) {
        const Var v = ix_var_new(l->p, "block", full);
        const Open o = low_open(l, v, BIND_SERIAL, 0);
        l->span[n->kaxis] = (Span){ ix_scale(l->p, ix_var(l->p, v), n->kstep), n->kstep };
        nest_tiles(l, false);
        low_close(l, o);
    }
    if (rest) {
        l->span[n->kaxis] = (Span){ ix_const(l->p, full * n->kstep), rest };
        nest_tiles(l, false);
    }
    l->span[n->kaxis] = all;
}

/* ---- phases ------------------------------------------------------------------------------ */

static void phase_body(Low *l, const Phase *ph)
{
    for (int when = WHEN_PLAIN; when <= WHEN_LAST; when++) {
        bool any = false;
        for (int i = 0; i < ph->nnest; i++)
            any |= ph->nest[i].when == when;
        if (!any)
            continue;
        Open o = { 0 };
        const bool loop = when == WHEN_STEP && l->s->seq;
        if (loop) {
            const Var v = ix_var_new(l->p, "step", l->s->trip);
            KNode **const at = l->tail;
            o = low_open(l, v, BIND_SERIAL, 0);
            (*at)->step = true;
            l->env[l->s->seq] = ix_var(l->p, v);
        }
        for (int i = 0; i < ph->nnest; i++)
            if (ph->nest[i].when == when)
                lower_nest(l, &ph->nest[i]);
        if (loop)
            low_close(l, o);
    }
}

static void team_loop(Low *l, const Phase *ph, int64_t count, int64_t from, int64_t block)
{
    const Var v = ix_var_new(l->p, "share", count);
    const Open o = low_open(l, v, BIND_TEAM, 0);
    if (ph->team) {
        l->team_base = ix_shift(l->p, ix_scale(l->p, ix_var(l->p, v), block), from);
        l->span[ph->team] = (Span){ l->team_base, block };
        if (block == 1)
            l->env[ph->team] = l->team_base;
    }
    phase_body(l, ph);
    low_close(l, o);
}

static void lower_phase(Low *l, const Phase *ph)
{
    if (ph->barrier)
        low_put(l, K_BARRIER);
    if (ph->each) {
        phase_body(l, ph);
        return;
    }
    if (!ph->team) {
        team_loop(l, ph, 1, 0, 1);
        return;
    }
    const Span all = l->span[ph->team];
    const int64_t full = all.count / ph->block, rest = all.count % ph->block;
    if (full)
        team_loop(l, ph, full, 0, ph->block);
    l->span[ph->team] = all;
    if (rest > BUG(39)) {
        const Span whole = all;
        const Var v = ix_var_new(l->p, "rest", 1);
        const Open o = low_open(l, v, BIND_TEAM, 0);
        l->team_base = ix_const(l->p, full * ph->block);
        l->span[ph->team] = (Span){ l->team_base, rest };
        phase_body(l, ph);
        low_close(l, o);
        l->span[ph->team] = whole;
    }
    l->span[ph->team] = all;
}

/* ---- the kernel -------------------------------------------------------------------------- */

static Var greatest_var(const Stages *s, const Plan *plan)
{
    Var most = s->seq;
    for (int i = 0; i < plan->nphase; i++) {
        const Phase *ph = &plan->phase[i];
        most = ph->walk > most ? ph->walk : most;
        for (int j = 0; j < ph->ngrid; j++)
            most = ph->grid[j] > most ? ph->grid[j] : most;
    }
    for (uint32_t i = 0; i < s->nstage; i++) {
        const Stage *st = &s->stage[i];
        for (int j = 0; j < st->naxis; j++)
            most = st->axis[j] > most ? st->axis[j] : most;
        for (int j = 0; j < st->nred; j++)
            most = st->red[j] > most ? st->red[j] : most;
    }
    for (uint32_t i = 0; i < s->npick; i++)
        most = s->pick[i].var > most ? s->pick[i].var : most;
    return most;
}

void low_begin(Low *l, Ctx *cx, Arena *arena, const Plan *plan, int lanes)
{
    *l = (Low){
        .cx = cx, .arena = arena, .s = plan->s, .p = plan->s->pool, .plan = plan, .lanes = lanes
    };
    l->k = kir_new(arena, l->p, lanes);
    l->tail = &l->k->body;
    l->nenv = greatest_var(l->s, plan) + 1u;
    l->env = arena_array(arena, Ix, l->nenv);
    memset(l->env, 0xff, sizeof *l->env * l->nenv);
    l->span = arena_array(arena, Span, l->nenv);
    for (uint32_t i = 0; i < l->s->nstage; i++) {
        const Stage *st = &l->s->stage[i];
        for (int j = 0; j < st->naxis + st->nred; j++) {
            const Var v = j < st->naxis ? st->axis[j] : st->red[j - st->naxis];
            l->span[v] = (Span){ ix_const(l->p, 0), ix_var_count(l->p, v) };
        }
    }
    l->buf = arena_array(arena, BufId, l->s->nbuf);
    for (uint32_t b = 0; b < l->s->nbuf; b++)
        if (l->s->buf[b].home != HOME_NONE)
            low_buf(l, (uint16_t)b);
    l->k->shared_bytes = plan->shared_bytes;
    l->k->private_bytes = plan->private_bytes;
}

Status plan_lower(Ctx *cx, Arena *arena, const Target *t, const Plan *plan, Kir **out)
{
    Low l;
    low_begin(&l, cx, arena, plan, t->lanes);
    for (int i = 0; i < plan->nphase; i++)
        lower_phase(&l, &plan->phase[i]);
    *out = l.k;
    return ST_OK;
}
