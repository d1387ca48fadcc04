/* SPDX-License-Identifier: Apache-2.0 */
/* The schedule of one nest: which axis runs over vector lanes, how many points a tile has, and in
 * which order the loops stand.
 *
 * The vector axis is the one whose estimated cost a lane is least: a read along the lanes is one
 * load, a read that does not move is one scalar, anything else is a load for each lane.  Tiles of
 * a contraction are searched (a few hundred): cycles are the larger of multiply-adds and loads,
 * plus a share of the loads, since the plain maximum picks shapes that fight over cache sets. */
#include "codegen/plan.h"

#include <string.h>

#include "ir/base/size.h"

static int read_stride(Stages *s, const Expr *e, Var v, int lanes)
{
    for (int i = 0; i < e->nguard; i++)
        if (ix_uses(s->pool, e->guard[i].ix, v))
            return 2;
    return map_stride(s, e->ix, e->nix, v, lanes);
}

/* ---- the vector axis --------------------------------------------------------------------- */

struct Cost {
    Stages *s;
    Var v;
    int lanes;
    const Stage *st; /* whose reads are counted */
    bool can_copy;   /* a contraction's operand may be copied into panels */
    bool narrow;     /* all values fit 32-bit lanes */
    double cycles;
};

/* Can what stage st reads be copied into panels along v, the same for all tiles? */
static bool may_copy(const Stages *s, const Stage *st, Var v, const Expr *e)
{
    bool copy = !e->nguard && s->buf[e->buf].is_in;
    for (int i = 0; i < e->ndep && copy; i++) {
        bool red = e->dep[i] == v;
        for (int j = 0; j < st->nred; j++)
            red |= e->dep[i] == st->red[j];
        copy = red;
    }
    return copy;
}

static void cost_read(void *arg, const Expr *e)
{
    struct Cost *c = arg;
    const int stride = read_stride(c->s, e, c->v, c->lanes);
    const DType dt = c->s->buf[e->buf].dt;
    if (dt == DT_I64 && stride)
        c->narrow = false;
    const bool copy = c->can_copy && may_copy(c->s, c->st, c->v, e);
    c->cycles += stride < 2 ? 1 : copy ? 1.3 : c->lanes;
}

static bool is_product(const Stages *s, const Stage *st)
{
    const Expr *e = stages_expr(s, st->e);
    return st->rop == OP_add && e->kind == EX_EW && e->op == OP_mul &&
           stages_expr(s, e->arg[0])->kind == EX_READ && stages_expr(s, e->arg[1])->kind == EX_READ;
}

static double red_count(const Stages *s, const Stage *st)
{
    double k = 1;
    for (int i = 0; i < st->nred; i++)
        k *= (double)ix_var_count(s->pool, st->red[i]);
    return k;
}

/* Cycles of one point when v runs over the lanes; v reduced or not. */
static double vector_cost(Stages *s, const Nest *n, Var v, bool row, int lanes, bool *narrow)
{
    double cycles = 0;
    struct Cost c = { .s = s, .v = v, .lanes = lanes, .narrow = true };
    for (int i = 0; i < n->nred; i++) {
        const Stage *st = &s->stage[n->red[i]];
        c.v = row ? st->red[st->nred - 1] : v;
        c.can_copy = !row && is_product(s, st);
        c.st = st;
        c.cycles = 1;
        expr_reads(s, st->e, cost_read, &c);
        const double len =
            row ? (double)ix_var_count(s->pool, c.v) : (double)ix_var_count(s->pool, v);
        const double eff = len / (double)size_ceil_div((int64_t)len, lanes);
        cycles += red_count(s, st) * c.cycles / eff + (row ? 8 : 0);
    }
    c.v = v;
    c.can_copy = false;
    c.cycles = 1;
    for (int i = 0; i < n->nroot && !row; i++) {
        const Stage *st = &s->stage[n->root[i]];
        expr_reads(s, st->e, cost_read, &c);
        for (int k = 0; k < st->nstore; k++)
            c.cycles += map_stride(s, st->store[k].ix, s->buf[st->store[k].buf].rank, v, lanes) == 1
                            ? 1
                            : lanes;
    }
    const double len = row ? 1 : (double)ix_var_count(s->pool, v);
    const double eff = row ? 1 : len / (double)size_ceil_div((int64_t)len, lanes);
    *narrow = c.narrow;
    return cycles + c.cycles / eff;
}

/* There are no vectors of i64. */
static bool is_wide(const Stages *s, const Nest *n)
{
    bool wide = false;
    for (int i = 0; i < n->nroot; i++)
        wide |= stages_expr(s, s->stage[n->root[i]].e)->reg == REG_I64;
    for (int i = 0; i < n->nred; i++)
        wide |= stages_expr(s, s->stage[n->red[i]].e)->reg == REG_I64;
    return wide;
}

/* Lanes along v add to elements of their own. */
static bool adds_apart(Stages *s, const Nest *n, Var v)
{
    const Stage *st = &s->stage[n->root[0]];
    return !st->adds || map_stride(s, st->store[0].ix, s->buf[st->store[0].buf].rank, v, 1) == 1;
}

static void choose_vector(Stages *s, const Target *t, Nest *n)
{
    double best = 1e300;
    bool narrow;
    if (is_wide(s, n))
        return;
    for (int i = n->naxis - 1; i >= 0; i--) {
        if (ix_var_count(s->pool, n->axis[i]) < 2 || !adds_apart(s, n, n->axis[i]))
            continue;
        const double c = vector_cost(s, n, n->axis[i], false, t->lanes, &narrow);
        if (narrow && c < best) {
            best = c;
            n->vec = n->axis[i];
        }
    }
    bool row = n->nred > 0;
    for (int i = 0; i < n->nred; i++) {
        const Stage *st = &s->stage[n->red[i]];
        row &= ix_var_count(s->pool, st->red[st->nred - 1]) > 1;
    }
    if (row) {
        const double c = vector_cost(s, n, 0, true, t->lanes, &narrow);
        if (narrow && c < best) {
            n->vec = 0;
            n->row = true;
        }
    }
}

/* ---- tiles ------------------------------------------------------------------------------- */

typedef struct TileCost {
    Stages *s;
    const Nest *n;
    const Target *t;
    const int64_t *span;
    Var a, b; /* tiled axes beside the vector's, or 0 */
    int ta, tb, nv;
    double vloads, sloads, singles; /* loads of vectors, of scalars; lane by lane */
    uint8_t *odd;    /* by ExprId: 1 moves oddly over the lanes, 2 does not; 0: ask */
    const Stage *st; /* whose reads are counted */
    uint32_t *seen;
    int nseen;
} TileCost;

static void count_loads(void *arg, const Expr *e)
{
    TileCost *c = arg;
    const ExprId id = (ExprId)(e - c->s->expr);
    for (int i = 0; i < c->nseen; i++)
        if (c->seen[i] == id)
            return;
    if (c->nseen < 256)
        c->seen[c->nseen++] = id;
    double n = 1;
    bool vec = false;
    for (int i = 0; i < e->ndep; i++) {
        n *= e->dep[i] == c->a ? c->ta : e->dep[i] == c->b ? c->tb : 1;
        vec |= e->dep[i] == c->n->vec;
    }
    if (!vec) {
        c->sloads += n;
        return;
    }
    if (!c->odd[id])
        c->odd[id] = read_stride(c->s, e, c->n->vec, c->t->lanes) == 2 ? 1 : 2;
    if (c->odd[id] == 1 && !may_copy(c->s, c->st, c->n->vec, e))
        c->singles += n * c->nv * c->t->lanes;
    c->vloads += n * c->nv;
}

/* Each is a line of text, mostly with a guard: more of them buy nothing and cost seconds of
 * compiling. */
enum { MOST_SINGLES = 96 };

static double tile_cost(TileCost *c)
{
    Stages *s = c->s;
    const int lanes = c->t->lanes;
    int naccs = 0;
    for (int i = 0; i < c->n->nred; i++)
        naccs += s->stage[c->n->red[i]].acc == c->n->red[i];
    const double rows = (double)c->ta * c->tb, pts = rows * c->nv * naccs;
    const int regs = c->t->vector_regs;
    if (pts > regs * 26 / 32 || pts + (c->nv * naccs <= 6 ? c->nv * naccs : c->nv) + 1 > regs - 1)
        return 1e300;
    double cycles = 0;
    uint32_t seen[256];
    for (int i = 0; i < c->n->nred; i++) {
        const Stage *st = &s->stage[c->n->red[i]];
        bool first = true;
        for (int j = 0; j < i; j++)
            first &= s->stage[c->n->red[j]].nred != st->nred ||
                     memcmp(s->stage[c->n->red[j]].red, st->red, sizeof(Var) * st->nred) != 0;
        if (!first)
            continue;
        double fma = 0;
        c->vloads = c->sloads = c->singles = 0;
        c->seen = seen;
        c->nseen = 0;
        for (int j = i; j < c->n->nred; j++) {
            const Stage *q = &s->stage[c->n->red[j]];
            if (q->nred != st->nred || memcmp(q->red, st->red, sizeof(Var) * st->nred) != 0)
                continue;
            fma += c->nv * rows;
            c->st = q;
            expr_reads(s, q->e, count_loads, c);
        }
        if (c->singles > MOST_SINGLES && pts > 1)
            return 1e300;
        const double loads = c->vloads + .55 * c->sloads, latency = pts < 5 ? 4.5 : 0;
        double most = fma > loads ? fma : loads;
        most = most > latency ? most : latency;
        cycles += red_count(s, st) * (most + .15 * (c->vloads + c->sloads));
    }
    const int64_t vectors = size_ceil_div(c->span[c->n->vec], lanes);
    double tiles = (double)size_ceil_div(vectors, c->nv);
    int edges = 0;
    for (int i = 0; i < c->n->naxis; i++) {
        const Var v = c->n->axis[i];
        if (v == c->n->vec)
            continue;
        const int f = v == c->a ? c->ta : v == c->b ? c->tb : 1;
        tiles *= (double)c->span[v] / f;
        edges += c->span[v] % f != 0;
    }
    return cycles * tiles * (1 + .04 * edges) * (1 + .1 / pts);
}

static void set_tile(Nest *n, Var v, int tile)
{
    for (int i = 0; i < n->naxis; i++)
        if (n->axis[i] == v)
            n->tile[i] = tile;
}

/* Tiles n for its vector axis; gives the cycles of the whole nest. */
static double tile_contract(Stages *s, const Target *t, Nest *n, const int64_t *span)
{
    static const int rows[] = { 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 13, 14, 15, 16, 20 };
    TileCost c = {
        .s = s, .n = n, .t = t, .span = span, .odd = arena_array(s->arena, uint8_t, s->nexpr)
    };
    double best = 1e300;
    Var axis[MAX_AXES + 1] = { 0 };
    int naxis = 0, bv = 1, ba = 1, bb = 1;
    Var va = 0, vb = 0;
    axis[naxis++] = 0;
    for (int i = 0; i < n->naxis; i++)
        if (n->axis[i] != n->vec && span[n->axis[i]] > 1)
            axis[naxis++] = n->axis[i];
    for (c.nv = 1; c.nv <= 4 && c.nv <= size_ceil_div(span[n->vec], t->lanes); c.nv++)
        for (int i = 0; i < naxis; i++)
            for (int j = 0; j < naxis; j++) {
                if (j && (j == i || !i))
                    continue;
                c.a = axis[i];
                c.b = axis[j];
                for (size_t k = 0; k < (i ? sizeof rows / sizeof *rows : 1); k++)
                    for (c.tb = j ? 2 : 1; c.tb <= (j ? 4 : 1); c.tb++) {
                        c.ta = rows[k];
                        if ((i && c.ta > span[c.a]) || (j && c.tb > span[c.b]))
                            continue;
                        const double cost = tile_cost(&c);
                        if (cost < best) {
                            best = cost;
                            bv = c.nv, ba = c.ta, bb = c.tb, va = c.a, vb = c.b;
                        }
                    }
            }
    n->nv = bv;
    set_tile(n, n->vec, bv);
    if (va)
        set_tile(n, va, ba);
    if (vb)
        set_tile(n, vb, bb);
    return best;
}

/* Cycles of the stores: a vector at once, or lane by lane. */
static double store_cost(Stages *s, const Target *t, const Nest *n, const int64_t *span)
{
    double points = 1, cycles = 0;
    for (int i = 0; i < n->naxis; i++)
        points *= (double)span[n->axis[i]];
    for (int i = 0; i < n->nroot; i++) {
        const Stage *st = &s->stage[n->root[i]];
        for (int k = 0; k < st->nstore; k++)
            cycles +=
                map_stride(s, st->store[k].ix, s->buf[st->store[k].buf].rank, n->vec, t->lanes) == 1
                    ? points / t->lanes
                    : 2 * points;
    }
    return cycles;
}

/* The vector axis that choose_vector found is the best to read along.  Another that is about as
 * good to read along may give the better tile. */
static void vector_and_tile(Stages *s, const Target *t, Nest *n, const int64_t *span)
{
    bool narrow;
    const double bound = 1.3 * vector_cost(s, n, n->vec, false, t->lanes, &narrow);
    Nest best = *n;
    double least = tile_contract(s, t, &best, span) + store_cost(s, t, &best, span);
    for (int i = 0; i < n->naxis; i++) {
        Nest other = *n;
        other.vec = n->axis[i];
        if (other.vec == n->vec || ix_var_count(s->pool, other.vec) < t->lanes ||
            vector_cost(s, &other, other.vec, false, t->lanes, &narrow) > bound || !narrow)
            continue;
        const double cost = tile_contract(s, t, &other, span) + store_cost(s, t, &other, span);
        if (cost < .97 * least) {
            least = cost;
            best = other;
        }
    }
    *n = best;
}

/* Untiled axes outermost, then the vector panel (its operand stays in L1), then the tiled rows. */
static void order_contract(Nest *n)
{
    Nest o = *n;
    int k = 0;
    for (int pass = 0; pass < 3; pass++)
        for (int i = 0; i < n->naxis; i++) {
            const int kind = n->axis[i] == n->vec ? 1 : n->tile[i] > 1 ? 2 : 0;
            if (kind != pass)
                continue;
            o.axis[k] = n->axis[i];
            o.tile[k++] = n->tile[i];
        }
    *n = o;
}

/* Long reductions go in blocks, so that the operand rows of a block stay in cache for all tiles. */
static void block_reduction(const Stages *s, Nest *n)
{
    enum { LONG = 768, BLOCK = 256 };
    const Stage *first = &s->stage[n->red[0]];
    if (n->nred != n->nroot || red_count(s, first) < LONG || n->when != WHEN_PLAIN)
        return;
    for (int i = 0; i < n->nroot; i++) {
        const Stage *root = &s->stage[n->root[i]], *red = &s->stage[n->red[i]];
        const Expr *e = stages_expr(s, root->e);
        if (e->kind != EX_VALUE || e->reg != REG_F32 || red->rop != OP_add ||
            red->nred != first->nred ||
            memcmp(red->red, first->red, sizeof(Var) * first->nred) != 0 || root->nstore != 1 ||
            red->acc != n->red[i] || s->buf[root->store[0].buf].dt != DT_F32)
            return;
    }
    const int64_t outer = ix_var_count(s->pool, first->red[0]);
    const int64_t inner = (int64_t)(red_count(s, first) / (double)outer);
    const int64_t step = inner >= BLOCK ? 1 : BLOCK / inner;
    if (outer <= step)
        return;
    n->kaxis = first->red[0];
    n->kstep = step;
}

/* Sums that are only added share one accumulator: fewer registers, no adds at the end. */
struct Uses {
    Stages *s;
    int *count;
};

static void count_use(void *arg, const Expr *e)
{
    struct Uses *u = arg;
    for (int i = 0; i < e->nargs; i++) {
        const Expr *a = stages_expr(u->s, e->arg[i]);
        if (a->kind == EX_VALUE)
            u->count[a->stage]++;
    }
}

static ExprId merge_rec(Stages *s, ExprId id, const int *count, ExprId *done)
{
    if (done[id])
        return done[id];
    Expr e = *stages_expr(s, id);
    bool changed = false;
    for (int i = 0; i < e.nargs; i++) {
        const ExprId a = merge_rec(s, e.arg[i], count, done);
        changed |= a != e.arg[i];
        e.arg[i] = a;
    }
    ExprId r = changed ? expr_add(s, &e) : id;
    if (e.kind == EX_EW && e.op == OP_add) {
        const Expr *a = stages_expr(s, e.arg[0]), *b = stages_expr(s, e.arg[1]);
        if (a->kind == EX_VALUE && b->kind == EX_VALUE && a->stage != b->stage) {
            const Stage *p = &s->stage[a->stage], *q = &s->stage[b->stage];
            if (p->rop == OP_add && q->rop == OP_add && p->naxis == q->naxis && e.reg == REG_F32 &&
                memcmp(p->axis, q->axis, sizeof(Var) * p->naxis) == 0 && count[a->stage] == 1 &&
                count[b->stage] == 1) {
                for (uint32_t k = 0; k < s->nstage; k++)
                    if (s->stage[k].acc == q->acc && k != b->stage)
                        s->stage[k].acc = p->acc;
                s->stage[b->stage].acc = p->acc;
                r = e.arg[0];
            }
        }
    }
    return done[id] = r;
}

static void walk_ew(Stages *s, ExprId id, uint8_t *seen, void (*f)(void *, const Expr *), void *arg)
{
    if (seen[id])
        return;
    seen[id] = 1;
    const Expr e = *stages_expr(s, id);
    for (int i = 0; i < e.nargs; i++)
        walk_ew(s, e.arg[i], seen, f, arg);
    f(arg, &e);
}

void nest_share_sums(Stages *s, Nest *n)
{
    struct Uses u = { s, arena_array(s->arena, int, s->nstage) };
    uint8_t *seen = arena_array(s->arena, uint8_t, s->nexpr);
    for (int i = 0; i < n->nroot; i++) {
        const Expr *e = stages_expr(s, s->stage[n->root[i]].e);
        if (e->kind == EX_VALUE)
            u.count[e->stage]++;
        walk_ew(s, s->stage[n->root[i]].e, seen, count_use, &u);
    }
    const uint32_t most = s->nexpr;
    ExprId *done = arena_array(s->arena, ExprId, most);
    for (int i = 0; i < n->nroot; i++)
        s->stage[n->root[i]].e = merge_rec(s, s->stage[n->root[i]].e, u.count, done);
}

struct Odd {
    Stages *s;
    Var v;
    int lanes;
    bool odd;
};

static void is_odd(void *arg, const Expr *e)
{
    struct Odd *o = arg;
    o->odd |= read_stride(o->s, e, o->v, o->lanes) == 2;
}

static bool moves_oddly(Stages *s, const Nest *n, int lanes)
{
    struct Odd o = { s, n->vec, lanes, false };
    for (int i = 0; i < n->nroot; i++) {
        const Stage *st = &s->stage[n->root[i]];
        expr_reads(s, st->e, is_odd, &o);
        for (int k = 0; k < st->nstore; k++)
            o.odd |=
                map_stride(s, st->store[k].ix, s->buf[st->store[k].buf].rank, n->vec, lanes) == 2;
    }
    return o.odd;
}

/* ---- the whole nest ---------------------------------------------------------------------- */

void plan_nest(Stages *s, const Target *t, Nest *n, const int64_t *span, bool plain)
{
    for (int i = 0; i < n->naxis; i++)
        n->tile[i] = 1;
    n->nv = 1;
    if (plain || (n->nred && s->stage[n->root[0]].adds))
        return;
    choose_vector(s, t, n);
    if (n->row) {
        for (int i = 0; i < n->naxis; i++) /* rows at a time: independent chains */
            if (i == n->naxis - 1 && span[n->axis[i]] > 0)
                n->tile[i] = span[n->axis[i]] >= 4 ? 4 : (int)span[n->axis[i]];
        return;
    }
    if (n->nred && n->vec) {
        nest_share_sums(s, n);
        vector_and_tile(s, t, n, span);
        order_contract(n);
        block_reduction(s, n);
        return;
    }
    if (n->vec) {
        const int64_t vectors = size_ceil_div(span[n->vec], t->lanes);
        n->nv = vectors >= 4 && vectors % 4 == 0 ? 4 : vectors >= 2 && vectors % 2 == 0 ? 2 : 1;
        if (vectors == 3)
            n->nv = 3;
        if (moves_oddly(s, n, t->lanes))
            n->nv = 1; /* lane by lane: long code as it is */
        set_tile(n, n->vec, n->nv);
        Nest o = *n; /* the vector axis innermost */
        int k = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int i = 0; i < n->naxis; i++)
                if ((n->axis[i] == n->vec) == pass) {
                    o.axis[k] = n->axis[i];
                    o.tile[k++] = n->tile[i];
                }
        *n = o;
    }
}
