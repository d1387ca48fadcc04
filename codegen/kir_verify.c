/* SPDX-License-Identifier: Apache-2.0 */
/* kir_verify: what a wrong plan would break.
 *
 * One walk checks types, scopes and bounds and writes down every access to memory; then accesses
 * are compared in pairs (kir_race.c).
 *
 * Bounds are intervals: of loop variables, narrowed by the guards around an access, and of each
 * index through the guards it is near to.  Whatever they do not prove is refused: an access that
 * happens to be right is still the planner's error. */
#include <string.h>

#include "codegen/kir_verify.h"
#include "ir/base/size.h"

typedef struct Undo {
    Var var;
    IxRange range;
} Undo;

/* An accumulator of a block is a register of each thread: whoever uses it in loops over threads
 * must share those out alike, one iteration a thread. */
typedef struct Register {
    bool block, used;
    int n;
    int64_t count[MAX_SHARED];
} Register;

typedef struct Verify {
    Ctx *cx;
    const Kir *k;
    IxPool *pool;
    IxRange *rng;          /* by Var; lo INT64_MIN: as it was made */
    bool *open, *unrolled; /* by Var: of a loop around; that is wholly unrolled */
    uint32_t nvar;
    Undo *undo;
    uint32_t nundo, undo_cap;
    Guard *guard;
    uint32_t nguard, guard_cap;
    bool *known, *made, *acc; /* by Val: in scope; defined anywhere; an accumulator */
    Register *reg;            /* by Val */
    Val *scope;
    uint32_t nscope, scope_cap;
    Var *picks; /* open ones */
    uint32_t npick, pick_cap;
    Accesses seen;
    uint32_t seq, segment, sync;
    int depth, dead; /* dead: inside what never runs */
    int again, turn; /* walking a loop's body a second time; that of the outermost in a team loop */
    int when;        /* conditions around */
    const KNode *par[MAX_SHARED];
    int npar, nteam;
    const KNode *team, *outer, *inner;
    const KNode *last; /* the K_LAST around */
    bool alone;        /* after a barrier of the launch's last block */
} Verify;

static const IxRange ASIS = { INT64_MIN, 0 };

static IxRange range_of(const Verify *v, Ix a)
{
    return ix_range_guarded(v->pool, a, v->rng, v->nvar, v->guard, v->nguard);
}

static Ix without(const Verify *v, Ix a, Var var, int64_t coef)
{
    return ix_sub(v->pool, a, ix_scale(v->pool, ix_var(v->pool, var), coef));
}

static int64_t floor_div(int64_t a, int64_t n)
{
    return a / n - ((a % n != 0) && ((a < 0) != (n < 0)));
}

/* ---- guards */

static void set_range(Verify *v, Var var, IxRange r)
{
    arena_grow(v->k->arena, v->undo, v->nundo, v->undo_cap);
    v->undo[v->nundo++] = (Undo){ var, v->rng[var] };
    v->rng[var] = r;
}

/* A guard may be open at one end. */
static int64_t bound(int64_t x)
{
    const int64_t far = INT64_MAX / 4;
    return x > far ? far : x < -far ? -far : x;
}

/* Narrows the variables that stand in g outside of divisions.  False: g can never hold. */
static bool narrow(Verify *v, const Guard *g)
{
    Vars s = kir_vars_of(v->pool, g->ix);
    for (int i = 0; i < s.n; i++) {
        bool linear;
        int64_t c = ix_coef(v->pool, g->ix, s.v[i], &linear);
        if (!linear || c == 0)
            continue;
        IxRange rest = ix_range_in(v->pool, without(v, g->ix, s.v[i], c), v->rng, v->nvar);
        IxRange now = ix_range_in(v->pool, ix_var(v->pool, s.v[i]), v->rng, v->nvar);
        if (rest.lo > rest.hi || now.lo > now.hi)
            return false;
        int64_t lo = bound(g->lo) - rest.hi, hi = bound(g->hi) - 1 - rest.lo;
        /* lo <= c * var <= hi */
        int64_t from = c > 0 ? -floor_div(-lo, c) : -floor_div(hi, -c);
        int64_t to = c > 0 ? floor_div(hi, c) : floor_div(-lo, -c);
        if (from <= now.lo && to >= now.hi)
            continue;
        IxRange r = { from > now.lo ? from : now.lo, to < now.hi ? to : now.hi };
        if (r.lo > r.hi)
            return false;
        set_range(v, s.v[i], r);
    }
    IxRange all = ix_range_in(v->pool, g->ix, v->rng, v->nvar);
    return all.hi >= g->lo && all.lo < g->hi;
}

typedef struct Mark {
    uint32_t nundo, nguard, nscope, npick;
} Mark;

static Mark mark(const Verify *v)
{
    return (Mark){ v->nundo, v->nguard, v->nscope, v->npick };
}

static void release(Verify *v, Mark m)
{
    while (v->nundo > m.nundo) {
        v->nundo--;
        v->rng[v->undo[v->nundo].var] = v->undo[v->nundo].range;
    }
    while (v->nscope > m.nscope)
        v->known[v->scope[--v->nscope]] = false;
    while (v->npick > m.npick)
        v->open[v->picks[--v->npick]] = false;
    v->nguard = m.nguard;
}

static Status check_vars(const Verify *v, Ix a, const char *what)
{
    Vars s = kir_vars_of(v->pool, a);
    for (int i = 0; i < s.n; i++)
        if (s.v[i] >= v->nvar || !v->open[s.v[i]])
            return REFUSE(v, "%s: index %s uses %s outside of its loop", what, kir_ix_text(v->k, a),
                          ix_var_name(v->pool, s.v[i]));
    return ST_OK;
}

/* A guard on a quotient is one on what is divided too, which other quotients of it are near to. */
static void push_guard(Verify *v, Guard g)
{
    do {
        arena_grow(v->k->arena, v->guard, v->nguard, v->guard_cap);
        v->guard[v->nguard++] = g;
    } while (ix_guard_undivided(v->pool, &g, &g));
}

/* *never: they cannot all hold. */
static Status push_guards(Verify *v, const KNode *n, bool *never)
{
    const uint32_t first = v->nguard;
    *never = false;
    for (int i = 0; i < n->nguard; i++) {
        TRY(check_vars(v, n->guard[i].ix, "guard"));
        push_guard(v, n->guard[i]);
    }
    for (int round = 0; round < 2; round++)
        for (uint32_t i = first; i < v->nguard; i++)
            *never |= !narrow(v, &v->guard[i]);
    return ST_OK;
}

/* ---- values */

static Status check_register(const Verify *v, Val a)
{
    Register *r = &v->reg[a];
    int64_t all = 1, count[MAX_SHARED] = { 0 };
    const int n = v->npar - v->nteam;
    if (!r->block || n == 0)
        return ST_OK;
    for (int i = 0; i < n; i++) {
        count[i] = ix_var_count(v->pool, v->par[v->nteam + i]->var);
        all = size_mul(all, count[i]);
    }
    if (all > v->k->threads)
        return REFUSE(v, "a%u: %lld iterations of a block's threads share a register", a,
                      (long long)all);
    if (r->used && (r->n != n || memcmp(r->count, count, sizeof count) != 0))
        return REFUSE(v, "a%u is another thread's in another loop", a);
    r->used = true;
    r->n = n;
    memcpy(r->count, count, sizeof count);
    return ST_OK;
}

static Status check_use(const Verify *v, Val a)
{
    if (a == 0 || a >= v->k->nval)
        return REFUSE(v, "no value %u", a);
    if (!v->known[a])
        return REFUSE(v, "v%u is used %s", a,
                      v->made[a] ? "out of its scope" : "before it is defined");
    return check_register(v, a);
}

static Status define(Verify *v, Val d)
{
    if (d == 0 || d >= v->k->nval)
        return REFUSE(v, "no value %u", d);
    if (v->made[d] && !v->again)
        return REFUSE(v, "v%u is defined twice", d);
    v->made[d] = v->known[d] = true;
    arena_grow(v->k->arena, v->scope, v->nscope, v->scope_cap);
    v->scope[v->nscope++] = d;
    return ST_OK;
}

static Status want(const Verify *v, Val a, RegType reg, bool vec, const char *what)
{
    static const char *const REG[] = { "f32", "i32", "i64", "bool" };
    TRY(check_use(v, a));
    ValInfo t = v->k->val[a];
    if (t.reg != reg || t.vec != vec)
        return REFUSE(v, "%s: v%u is %s%s, wanted %s%s", what, a, t.vec ? "vector of " : "",
                      REG[t.reg], vec ? "vector of " : "", REG[reg]);
    return ST_OK;
}

static bool is_float_op(Op op)
{
    return op_info[op].prec == PREC_F32;
}

static Status check_ew(const Verify *v, const KNode *n, ValInfo t)
{
    const OpInfo *o = &op_info[n->ew];
    if (n->ew >= OP_COUNT || o->cls != CLASS_ELEMENTWISE || n->nargs != o->nargs)
        return REFUSE(v, "v%u: %s of %d arguments is no elementwise op", n->dst,
                      n->ew < OP_COUNT ? o->name : "?", n->nargs);
    for (int i = 0; i < n->nargs; i++)
        TRY(check_use(v, n->arg[i]));
    const RegType first = v->k->val[n->arg[0]].reg;
    const bool logic = n->ew == OP_and || n->ew == OP_or || n->ew == OP_not;
    RegType arg = (o->flags & OPF_BOOLEAN) && !logic ? first : t.reg;
    if (n->ew == OP_cast)
        return want(v, n->arg[0], first, t.vec, o->name);
    if ((o->flags & OPF_BOOLEAN) && t.reg != REG_BOOL)
        return REFUSE(v, "v%u: %s gives a bool", n->dst, o->name);
    if (is_float_op(n->ew) && t.reg != REG_F32)
        return REFUSE(v, "v%u: %s is for floats", n->dst, o->name);
    const bool bools =
        logic || n->ew == OP_select || n->ew == OP_eq || n->ew == OP_max || n->ew == OP_min;
    if (arg == REG_BOOL && !bools)
        return REFUSE(v, "v%u: %s of bools", n->dst, o->name);
    for (int i = 0; i < n->nargs; i++)
        TRY(want(v, n->arg[i], n->ew == OP_select && i == 0 ? REG_BOOL : arg, t.vec, o->name));
    return ST_OK;
}

static Status check_lanes(const Verify *v, const KNode *n, bool vec, int least, int most)
{
    if (vec ? n->lanes < least || n->lanes > most : n->lanes != 1)
        return REFUSE(v, "%d lanes of %s of %d", n->lanes, vec ? "a vector" : "a scalar",
                      v->k->lanes);
    return ST_OK;
}

static Status check_index(const Verify *v, const KNode *n, ValInfo t)
{
    TRY(check_vars(v, n->ix[0], "index"));
    if ((t.reg != REG_I32 && t.reg != REG_I64) || (t.reg == REG_I64 && t.vec))
        return REFUSE(v, "v%u: an index is i32 or a scalar of i64", n->dst);
    IxRange r = range_of(v, n->ix[0]);
    if (!v->dead && t.reg == REG_I32 && r.lo <= r.hi &&
        (r.lo < INT32_MIN || r.hi > INT32_MAX - v->k->lanes))
        return REFUSE(v, "v%u: index %s in [%lld,%lld] is no i32", n->dst,
                      kir_ix_text(v->k, n->ix[0]), (long long)r.lo, (long long)r.hi);
    return ST_OK;
}

/* All threads along the loop must come here, and a warp's must be whole. */
static Status check_across(const Verify *v, const KNode *n, ValInfo t)
{
    if (t.vec || t.reg == REG_BOOL || (n->ew != OP_add && n->ew != OP_max && n->ew != OP_min))
        return REFUSE(v, "v%u: a reduction is add, max or min to a scalar number", n->dst);
    const KNode *along = v->npar ? v->par[v->npar - 1] : NULL;
    if (!along || along->bind == BIND_TEAM || v->when)
        return REFUSE(v, "v%u: not all threads come here together", n->dst);
    const int64_t lanes = ix_var_count(v->pool, along->var);
    const bool block =
        lanes == v->k->threads && (along->bind == BIND_GRID || v->npar == v->nteam + 1);
    if (lanes != 32 && !block)
        return REFUSE(v, "v%u: %lld threads are neither a warp nor the block", n->dst,
                      (long long)lanes);
    return want(v, n->arg[0], t.reg, false, "across");
}

/* Iterations of the loops around that are shared out over a block's threads. */
static int64_t iterations_of_block(const Verify *v)
{
    int64_t all = 1;
    for (int i = v->nteam; i < v->npar; i++)
        all = size_mul(all, ix_var_count(v->pool, v->par[i]->var));
    return all;
}

/* Whole warps come here, each thread once. */
static Status check_meet(const Verify *v, const KNode *n, ValInfo t)
{
    if (t.vec || t.reg != REG_F32 || n->bit == 0 || n->bit >= 32 || (n->bit & (n->bit - 1)))
        return REFUSE(v, "v%u: threads meet by one bit of their number in a warp, with an f32",
                      n->dst);
    const int64_t all = iterations_of_block(v);
    if (v->npar == v->nteam || v->par[v->npar - 1]->bind != BIND_THREAD || v->when || all % 32 ||
        all > v->k->threads)
        return REFUSE(v, "v%u: no whole warps come here together", n->dst);
    TRY(want(v, n->arg[0], REG_F32, false, "meet"));
    return want(v, n->arg[1], REG_F32, false, "meet");
}

/* Values other than loads: arguments, types, lanes. */
static Status check_value(const Verify *v, const KNode *n)
{
    if (n->dst == 0 || n->dst >= v->k->nval)
        return REFUSE(v, "no value %u", n->dst);
    const ValInfo t = v->k->val[n->dst];
    const int L = v->k->lanes;
    if (t.vec && t.reg == REG_I64)
        return REFUSE(v, "v%u: a vector of i64", n->dst);
    switch (n->op) {
    case K_CONST:
        return t.vec ? REFUSE(v, "v%u: a constant is a scalar", n->dst) : ST_OK;
    case K_INDEX:
        return check_index(v, n, t);
    case K_EW:
        return check_ew(v, n, t);
    case K_RAND:
        if (t.reg != REG_F32)
            return REFUSE(v, "v%u: rand is f32", n->dst);
        for (int i = 0; i < 4; i++) {
            TRY(check_use(v, n->arg[i]));
            RegType reg = v->k->val[n->arg[i]].reg;
            TRY(want(v, n->arg[i], reg == REG_I64 ? REG_I64 : REG_I32, false, "rand"));
        }
        return want(v, n->arg[4], REG_I64, false, "rand");
    case K_SPLAT:
        return t.vec ? want(v, n->arg[0], t.reg, false, "splat")
                     : REFUSE(v, "v%u: a splat is a vector", n->dst);
    case K_LANES:
        if (!t.vec)
            return REFUSE(v, "v%u: lanes make a vector", n->dst);
        TRY(check_lanes(v, n, true, 1, L));
        for (int i = 0; i < n->lanes; i++)
            TRY(want(v, n->args[i], t.reg, false, "lanes"));
        return ST_OK;
    case K_LANE:
        TRY(check_lanes(v, n, true, 0, L - 1));
        return t.vec ? REFUSE(v, "v%u: a lane is a scalar", n->dst)
                     : want(v, n->arg[0], t.reg, true, "lane");
    case K_TAIL:
        TRY(check_lanes(v, n, true, 1, L));
        return want(v, n->arg[0], t.reg, true, "tail");
    case K_REDUCE:
        if (t.vec || t.reg == REG_BOOL || (n->ew != OP_add && n->ew != OP_max && n->ew != OP_min))
            return REFUSE(v, "v%u: a reduction is add, max or min to a scalar number", n->dst);
        return want(v, n->arg[0], t.reg, true, "reduce");
    case K_ACROSS:
        return check_across(v, n, t);
    case K_MEET:
        return check_meet(v, n, t);
    case K_ACC:
    case K_SET:
        return want(v, n->arg[0], t.reg, t.vec, "accumulator");
    default:
        return REFUSE(v, "node of kind %d", n->op);
    }
}

/* ---- accesses */

static bool memory_reg(DType dt, RegType *reg)
{
    *reg = dt == DT_BOOL ? REG_BOOL : dt == DT_I64 ? REG_I64 : REG_I32;
    if (dt == DT_F32 || dt == DT_F16 || dt == DT_BF16)
        *reg = REG_F32;
    return *reg != REG_I32 || dt == DT_I32 || dt == DT_U8;
}

static Status record_access(Verify *v, const KNode *n, bool write)
{
    const KBuf *b = &v->k->buf[n->buf];
    Accesses *seen = &v->seen;
    arena_grow(v->k->arena, seen->access, seen->naccess, seen->access_cap);
    Access *a = &seen->access[seen->naccess];
    *a = (Access){ .node = n,
                   .npar = v->npar,
                   .nteam = v->nteam,
                   .team = v->team,
                   .outer = v->outer,
                   .inner = v->team ? v->inner : v->outer,
                   .last = v->last,
                   .seq = v->seq,
                   .segment = v->segment,
                   .sync = v->sync,
                   .again = v->again,
                   .turn = v->turn,
                   .write = write };
    a->par = arena_copy(v->k->arena, v->par, sizeof *v->par * (size_t)(v->npar ? v->npar : 1));
    IxRange *at = arena_array(v->k->arena, IxRange, v->npar);
    for (int i = 0; i < v->npar; i++)
        at[i] = range_of(v, ix_var(v->pool, v->par[i]->var));
    a->at = at;
    for (int d = 0; d < b->rank; d++) {
        Place *p = &a->dim[d];
        int64_t lanes = d == b->rank - 1 ? n->lanes : 1;
        p->range = range_of(v, n->ix[d]);
        if (p->range.lo > p->range.hi)
            return ST_OK; /* the guards never hold */
        p->range.hi += lanes - 1;
        if (p->range.lo < 0 || p->range.hi >= b->shape[d])
            return REFUSE(v, "%s of %s, dimension %d: %s%s in [%lld,%lld], not in [0,%lld)",
                          write ? "store" : "load", b->name, d, kir_ix_text(v->k, n->ix[d]),
                          lanes > 1 ? " (all lanes)" : "", (long long)p->range.lo,
                          (long long)p->range.hi, (long long)b->shape[d]);
        p->along = arena_array(v->k->arena, Along, v->npar);
        for (int i = 0; i < v->npar; i++) {
            Along *l = &p->along[i];
            const Var var = v->par[i]->var;
            l->coef = ix_coef(v->pool, n->ix[d], var, &l->linear);
            l->rest = range_of(v, without(v, n->ix[d], var, l->coef));
        }
    }
    if (b->rank == 0 && n->lanes != 1)
        return REFUSE(v, "%s: a vector of a scalar buffer", b->name);
    seen->naccess++;
    return ST_OK;
}

/* Each thread's own, at places that the compiler knows. */
static Status check_registers(const Verify *v, const KNode *n, const KBuf *b)
{
    int at = v->nteam;
    if (iterations_of_block(v) > v->k->threads)
        return REFUSE(v, "%s: several iterations of a block's threads share registers", b->name);
    for (int d = 0; d < b->threads; d++) {
        Var w;
        if (b->shape[d] == 1)
            continue;
        while (at < v->npar && ix_var_count(v->pool, v->par[at]->var) == 1)
            at++;
        if (at == v->npar || !ix_is_var(v->pool, n->ix[d], &w) || w != v->par[at]->var ||
            ix_var_count(v->pool, w) != b->shape[d])
            return REFUSE(v, "%s: index %s does not say whose register it is", b->name,
                          kir_ix_text(v->k, n->ix[d]));
        at++;
    }
    while (at < v->npar && ix_var_count(v->pool, v->par[at]->var) == 1)
        at++;
    if (at < v->npar)
        return REFUSE(v, "%s: registers of the loops around %s", b->name,
                      ix_var_name(v->pool, v->par[at]->var));
    for (int d = b->threads; d < b->rank; d++) {
        const Vars s = kir_vars_of(v->pool, n->ix[d]);
        for (int i = 0; i < s.n; i++)
            if (!v->unrolled[s.v[i]])
                return REFUSE(v, "%s: which register %s is shows only when it runs", b->name,
                              kir_ix_text(v->k, n->ix[d]));
    }
    return ST_OK;
}

static Status check_access(Verify *v, const KNode *n, Val value, bool write)
{
    if (n->buf >= v->k->nbuf)
        return REFUSE(v, "no buffer %u", n->buf);
    const KBuf *b = &v->k->buf[n->buf];
    if (value == 0 || value >= v->k->nval)
        return REFUSE(v, "%s: no value %u", b->name, value);
    const ValInfo t = v->k->val[value];
    RegType reg;
    if (!memory_reg(b->dt, &reg) || t.reg != reg || (t.vec && reg == REG_I64))
        return REFUSE(v, "%s of %s: v%u does not hold what %s is", write ? "store" : "load",
                      b->name, value, dtype_name(b->dt));
    TRY(check_lanes(v, n, t.vec, 1, v->k->lanes));
    for (int d = 0; d < b->rank; d++)
        TRY(check_vars(v, n->ix[d], b->name));
    if (b->cls == BUF_REGISTERS)
        TRY(check_registers(v, n, b));
    if (write && b->cls == BUF_IN)
        return REFUSE(v, "a store to the input %s", b->name);
    if (write && !v->team && (b->cls != BUF_PRIVATE || v->k->threads))
        return REFUSE(v, "every thread stores to %s: outside of a team loop", b->name);
    if (write && v->k->threads && v->team->bind == BIND_TEAM && v->npar == v->nteam)
        return REFUSE(v, "every thread of the block stores to %s", b->name);
    Mark m = mark(v);
    bool never = false;
    if (!write)
        TRY(push_guards(v, n, &never));
    Status s = v->dead || never ? ST_OK : record_access(v, n, write);
    release(v, m);
    return s;
}

/* ---- the walk */

static Status walk(Verify *v, const KNode *n);

static bool has_sync(const KNode *n)
{
    bool found = false;
    for (; n && !found; n = n->next)
        found = n->op == K_SYNC || has_sync(n->body);
    return found;
}

/* A loop that is shared out: over the team, or over the threads of a block. */
static Status enter_shared(Verify *v, const KNode *n)
{
    const char *name = ix_var_name(v->pool, n->var);
    const KNode *in = v->npar ? v->par[v->npar - 1] : NULL;
    if (n->bind == BIND_TEAM && in && (!v->k->threads || in->bind != BIND_TEAM))
        return REFUSE(v, "a team loop over %s inside a team loop", name);
    if (n->bind != BIND_TEAM && !v->k->threads)
        return REFUSE(v, "a loop over %s for threads of blocks on a CPU", name);
    if (n->bind == BIND_GRID && in && in->bind != BIND_GRID)
        return REFUSE(v, "a loop over %s for all threads inside one for some", name);
    if (n->bind == BIND_THREAD && (!in || in->bind == BIND_GRID))
        return REFUSE(v, "a loop over %s for a block's threads outside of its block", name);
    if (in && in->bind == n->bind && (in->body != n || n->next))
        return REFUSE(v, "loop %s is not alone in the one it is shared out with", name);
    if (v->alone &&
        (n->bind == BIND_GRID || (n->bind == BIND_TEAM && ix_var_count(v->pool, n->var) != 1)))
        return REFUSE(v, "a loop over %s for several blocks, of which one is left", name);
    if (v->npar == MAX_SHARED)
        return REFUSE(v, "more than %d loops are shared out", MAX_SHARED);
    v->par[v->npar++] = n;
    v->nteam += n->bind != BIND_THREAD;
    return ST_OK;
}

static Status walk_loop(Verify *v, const KNode *n)
{
    if (n->var == 0 || n->var >= v->nvar)
        return REFUSE(v, "a loop without a variable");
    const char *name = ix_var_name(v->pool, n->var);
    if (v->open[n->var])
        return REFUSE(v, "two loops over %s, one in the other", name);
    const KNode *outer = v->outer, *inner = v->inner, *team = v->team;
    const int npar = v->npar, nteam = v->nteam;
    if (n->bind >= BIND_TEAM) {
        TRY(enter_shared(v, n));
        v->team = v->par[0];
        if (!team) {
            v->inner = NULL;
            v->sync++;
        }
    } else {
        v->outer = outer ? outer : n;
        v->inner = inner ? inner : n;
    }
    Mark m = mark(v);
    bool empty = ix_var_count(v->pool, n->var) == 0;
    v->open[n->var] = true;
    v->unrolled[n->var] = n->bind == BIND_UNROLL && n->unroll >= ix_var_count(v->pool, n->var);
    v->dead += empty;
    v->depth++;
    TRY(walk(v, n->body));
    if (n->bind < BIND_TEAM && has_sync(n->body)) { /* what an iteration does to the next */
        const bool outermost = v->team && v->inner == n;
        v->again++;
        v->turn += outermost;
        TRY(walk(v, n->body));
        v->turn -= outermost;
        v->again--;
    }
    v->depth--;
    v->dead -= empty;
    v->open[n->var] = false;
    release(v, m);
    v->sync += team != v->team;
    v->outer = outer;
    v->inner = inner;
    v->team = team;
    v->npar = npar;
    v->nteam = nteam;
    return ST_OK;
}

static Status walk_when(Verify *v, const KNode *n)
{
    Mark m = mark(v);
    bool never;
    TRY(push_guards(v, n, &never));
    v->dead += never;
    v->depth++;
    v->when++;
    TRY(walk(v, n->body));
    v->when--;
    v->depth--;
    v->dead -= never;
    release(v, m);
    return ST_OK;
}

/* Open from here to the end of the loop or condition around it. */
static Status walk_pick(Verify *v, const KNode *n)
{
    if (n->var == 0 || n->var >= v->nvar || v->open[n->var])
        return REFUSE(v, "a pick without a variable of its own");
    TRY(check_use(v, n->arg[0]));
    const ValInfo t = v->k->val[n->arg[0]];
    if (t.vec || (t.reg != REG_I32 && t.reg != REG_I64))
        return REFUSE(v, "v%u: a pick is an integer scalar", n->arg[0]);
    if (ix_var_count(v->pool, n->var) < 1)
        return REFUSE(v, "pick %s of nothing", ix_var_name(v->pool, n->var));
    v->open[n->var] = true;
    arena_grow(v->k->arena, v->picks, v->npick, v->pick_cap);
    v->picks[v->npick++] = n->var;
    return ST_OK;
}

/* All threads of all blocks must come, once, and end here; what one of them does then must not show
 * which it is. */
static Status walk_last(Verify *v, const KNode *n)
{
    bool *known = arena_copy(v->k->arena, v->known, sizeof *v->known * v->k->nval);
    bool open = false;
    for (int i = 0; i < v->nteam; i++)
        open |= v->par[i]->var == n->var;
    if (!v->team || v->team->bind != BIND_TEAM || v->npar > v->nteam || v->when || v->inner ||
        v->last || n->next)
        return REFUSE(v, "not all blocks come to where the last of them goes on");
    if (!open || ix_var_count(v->pool, n->var) < 2)
        return REFUSE(v, "the last block of no loop of several");
    Mark m = mark(v);
    v->last = n;
    v->sync++;
    v->depth++;
    v->open[n->var] = false;
    memset(v->known, 0, sizeof *v->known * v->k->nval);
    TRY(walk(v, n->body));
    release(v, m);
    memcpy(v->known, known, sizeof *known * v->k->nval);
    v->open[n->var] = true;
    v->depth--;
    v->last = NULL;
    return ST_OK;
}

static Status walk_barrier(Verify *v, const KNode *n)
{
    if (v->depth)
        return REFUSE(v, "a barrier inside a loop or condition");
    if (n->last && !v->k->threads)
        return REFUSE(v, "the last block of a launch, on a CPU");
    v->alone = n->last;
    v->segment++;
    return ST_OK;
}

static Status walk_node(Verify *v, const KNode *n)
{
    v->seq++;
    switch (n->op) {
    case K_LOOP:
        return walk_loop(v, n);
    case K_WHEN:
        return walk_when(v, n);
    case K_NOTE:
        return ST_OK;
    case K_BARRIER:
        return walk_barrier(v, n);
    case K_LAST:
        return walk_last(v, n);
    case K_SYNC:
        if (!v->team || v->team->bind != BIND_TEAM || v->npar > v->nteam || v->when)
            return REFUSE(v, "not all threads of a block come to a sync");
        v->sync++;
        return ST_OK;
    case K_PICK:
        return walk_pick(v, n);
    case K_STORE:
        TRY(check_use(v, n->arg[0]));
        return check_access(v, n, n->arg[0], true);
    case K_LOAD:
        TRY(check_access(v, n, n->dst, false));
        return define(v, n->dst);
    case K_SET:
        TRY(check_use(v, n->dst));
        if (!v->acc[n->dst])
            return REFUSE(v, "v%u is set and no accumulator", n->dst);
        return check_value(v, n);
    default:
        TRY(check_value(v, n));
        if (n->op == K_ACC)
            v->reg[n->dst].block =
                v->k->threads && v->npar && v->npar == v->nteam && v->team->bind == BIND_TEAM;
        return define(v, n->dst);
    }
}

static Status walk(Verify *v, const KNode *n)
{
    for (; n; n = n->next)
        TRY(walk_node(v, n));
    return ST_OK;
}

static uint32_t greatest_var(const KNode *n)
{
    uint32_t most = 0;
    for (; n; n = n->next) {
        uint32_t inside = greatest_var(n->body);
        most = inside > most ? inside : most;
        if ((n->op == K_LOOP || n->op == K_PICK) && n->var > most)
            most = n->var;
    }
    return most;
}

Status kir_verify(Ctx *cx, const Kir *k)
{
    Verify v = { .cx = cx, .k = k, .pool = k->pool, .acc = kir_accumulators(k) };
    v.nvar = greatest_var(k->body) + 1;
    v.rng = arena_array(k->arena, IxRange, v.nvar);
    for (uint32_t i = 0; i < v.nvar; i++)
        v.rng[i] = ASIS;
    v.open = arena_array(k->arena, bool, v.nvar);
    v.unrolled = arena_array(k->arena, bool, v.nvar);
    v.known = arena_array(k->arena, bool, k->nval);
    v.made = arena_array(k->arena, bool, k->nval);
    v.reg = arena_array(k->arena, Register, k->nval);
    v.seen = (Accesses){ .cx = cx, .k = k, .pool = k->pool };
    TRY(kir_verify_buffers(&v.seen));
    TRY(walk(&v, k->body));
    TRY(kir_verify_accesses(&v.seen));
    return kir_verify_slots(cx, k);
}
