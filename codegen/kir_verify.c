/* SPDX-License-Identifier: Apache-2.0 */
/* kir_verify: what a wrong plan would break.
 *
 * One walk checks types, scopes and bounds and writes down every access to memory; then accesses
 * are compared in pairs.
 *
 * Bounds are intervals: of loop variables, narrowed by the guards around an access, and of each
 * index through the guards it is near to.  Whatever they do not prove is refused: an access that
 * happens to be right is still the planner's error.
 *
 * Threads.  A team loop of n iterations gives each thread the same share whenever n is the same, so
 * what iteration i wrote, iteration i of another such loop may read; anything else that meets
 * between two barriers has to be disjoint.  Two accesses are disjoint over different iterations i
 * when some run of dimensions, taken as one number (each index is in bounds, so that is one to
 * one), is c*i + r and the rests r of both span less than |c|; terms that move in steps longer than
 * all of c*i + r do no harm.
 *
 * Private memory is a thread's own.  What a team loop wrote there may be read outside of that loop
 * at the same iteration only, unless it was written again on the way.
 *
 * On a GPU the team is of blocks, each with an iteration of one loop: those of two loops are never
 * the same.  Between two syncs the threads of a block are held to what holds for a team between
 * barriers, over all the loops that are shared out together; a loop with a sync is walked twice,
 * for what one iteration does to the next.
 *
 * Above 800 lines, because the walk and the comparison share one record of an access and nothing
 * else would read it. */
#include <stdlib.h>
#include <string.h>

#include "codegen/kir.h"
#include "ir/base/size.h"

enum { MAX_SHARED = 24 }; /* loops around an access that are shared out */

typedef struct Along { /* one index of an access, as a function of one loop's variable */
    IxRange rest;      /* index - coef * variable; the lanes not included */
    int64_t coef;
    bool linear;
} Along;

typedef struct Place { /* one index of an access */
    IxRange range;     /* under the guards; the lanes included */
    Along *along;      /* by the loops that are shared out */
} Place;

typedef struct Access {
    const KNode *node;
    const KNode *const *par; /* the loops around it that are shared out: nteam over the team, then
                                those over the threads of a block */
    const IxRange *at;       /* of their variables, under the guards */
    int npar, nteam;
    const KNode *team;  /* par[0], or NULL: every thread */
    const KNode *outer; /* the outermost loop around it that is none */
    const KNode *inner; /* the outermost loop inside team, or outer */
    uint32_t seq, segment, sync;
    int again;
    bool write;
    Place dim[MAX_RANK];
} Access;

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
    IxRange *rng; /* by Var; lo INT64_MIN: as it was made */
    bool *open;
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
    Access *access;
    uint32_t naccess, access_cap;
    uint32_t seq, segment, sync;
    int depth, dead; /* dead: inside what never runs */
    int again;       /* walking a loop's body a second time */
    int when;        /* conditions around */
    const KNode *par[MAX_SHARED];
    int npar, nteam;
    const KNode *team, *outer, *inner;
} Verify;

#define REFUSE(v, ...) FAIL((v)->cx, INTERNAL, "kernel: " __VA_ARGS__)

static const IxRange ASIS = { INT64_MIN, 0 };

static const char *ix_text(const Verify *v, Ix a)
{
    Strbuf b = { 0 };
    ix_print(v->pool, a, &b);
    const char *s = arena_strdup(v->k->arena, strbuf_str(&b));
    strbuf_free(&b);
    return s;
}

static IxRange range_of(const Verify *v, Ix a)
{
    return ix_range_guarded(v->pool, a, v->rng, v->nvar, v->guard, v->nguard);
}

/* ---- variables of an expression */

enum { MAX_VARS = 64 };
typedef struct Vars {
    Var v[MAX_VARS];
    int n;
} Vars;

static void vars_add(void *arg, Var v)
{
    Vars *s = arg;
    gtc_assert(s->n < MAX_VARS, "an index of more than %d variables", MAX_VARS);
    s->v[s->n++] = v;
}

static Vars vars_of(const Verify *v, Ix a)
{
    Vars s = { .n = 0 };
    ix_vars(v->pool, a, vars_add, &s);
    return s;
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
    Vars s = vars_of(v, g->ix);
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
    Vars s = vars_of(v, a);
    for (int i = 0; i < s.n; i++)
        if (s.v[i] >= v->nvar || !v->open[s.v[i]])
            return REFUSE(v, "%s: index %s uses %s outside of its loop", what, ix_text(v, a),
                          ix_var_name(v->pool, s.v[i]));
    return ST_OK;
}

/* *never: they cannot all hold. */
static Status push_guards(Verify *v, const KNode *n, bool *never)
{
    *never = false;
    for (int i = 0; i < n->nguard; i++)
        TRY(check_vars(v, n->guard[i].ix, "guard"));
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < n->nguard; i++)
            *never |= !narrow(v, &n->guard[i]);
    for (int i = 0; i < n->nguard; i++) {
        arena_grow(v->k->arena, v->guard, v->nguard, v->guard_cap);
        v->guard[v->nguard++] = n->guard[i];
    }
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
        return REFUSE(v, "v%u: index %s in [%lld,%lld] is no i32", n->dst, ix_text(v, n->ix[0]),
                      (long long)r.lo, (long long)r.hi);
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
    arena_grow(v->k->arena, v->access, v->naccess, v->access_cap);
    Access *a = &v->access[v->naccess];
    *a = (Access){ .node = n,
                   .npar = v->npar,
                   .nteam = v->nteam,
                   .team = v->team,
                   .outer = v->outer,
                   .inner = v->team ? v->inner : v->outer,
                   .seq = v->seq,
                   .segment = v->segment,
                   .sync = v->sync,
                   .again = v->again,
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
                          write ? "store" : "load", b->name, d, ix_text(v, n->ix[d]),
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
    v->naccess++;
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
    v->dead += empty;
    v->depth++;
    TRY(walk(v, n->body));
    if (n->bind < BIND_TEAM && has_sync(n->body)) { /* what an iteration does to the next */
        v->again++;
        TRY(walk(v, n->body));
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
        if (v->depth)
            return REFUSE(v, "a barrier inside a loop or condition");
        v->segment++;
        return ST_OK;
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

/* ---- disjointness */

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The longest way from an element of one access to one of the other, team variables apart. */
static int64_t reach(IxRange a, IxRange b, int64_t wa, int64_t wb)
{
    return max64(a.hi - b.lo + wa - 1, b.hi - a.lo + wb - 1);
}

static int64_t gcd(int64_t a, int64_t b)
{
    return b ? gcd(b, a % b) : a;
}

/* Takes the linear terms longer than c out of *a, and their greatest common divisor with *g. */
static void take_long_terms(const Verify *v, Ix *a, int64_t c, int64_t *g)
{
    Vars s = vars_of(v, *a);
    for (int i = 0; i < s.n; i++) {
        bool linear;
        int64_t k = llabs(ix_coef(v->pool, *a, s.v[i], &linear));
        if (!linear || k <= c)
            continue;
        *a = without(v, *a, s.v[i], ix_coef(v->pool, *a, s.v[i], &linear));
        *g = gcd(k, *g);
    }
}

/* fa and fb are the same number for equal elements; never for different iterations? */
static bool number_separates(const Verify *v, Var va, Var vb, Ix fa, Ix fb, int64_t wa, int64_t wb)
{
    bool la, lb;
    int64_t c = ix_coef(v->pool, fa, va, &la);
    if (c == 0 || ix_coef(v->pool, fb, vb, &lb) != c || !la || !lb)
        return false;
    fa = without(v, fa, va, c);
    fb = without(v, fb, vb, c);
    c = llabs(c);
    if (c > reach(ix_range(v->pool, fa), ix_range(v->pool, fb), wa, wb))
        return true;
    int64_t g = 0;
    take_long_terms(v, &fa, c, &g);
    take_long_terms(v, &fb, c, &g);
    int64_t r = reach(ix_range(v->pool, fa), ix_range(v->pool, fb), wa, wb);
    return g && c > r && size_mul(c, ix_var_count(v->pool, va) - 1) + r < g;
}

/* Different iterations of the loops par[k] never meet. */
static bool iterations_disjoint(const Verify *v, const Access *a, const Access *b, int k)
{
    const KBuf *x = &v->k->buf[a->node->buf], *y = &v->k->buf[b->node->buf];
    for (int d = 0; d < x->rank; d++) {
        const Along *p = &a->dim[d].along[k], *q = &b->dim[d].along[k];
        bool last = d == x->rank - 1;
        if (p->linear && q->linear && p->coef == q->coef && p->coef != 0 &&
            llabs(p->coef) >
                reach(p->rest, q->rest, last ? a->node->lanes : 1, last ? b->node->lanes : 1))
            return true;
    }
    for (int from = 0; from < x->rank; from++) {
        Ix fa = a->node->ix[from], fb = b->node->ix[from];
        for (int d = from;; d++) {
            bool last = d == x->rank - 1;
            if (number_separates(v, a->par[k]->var, b->par[k]->var, fa, fb,
                                 last ? a->node->lanes : 1, last ? b->node->lanes : 1))
                return true;
            if (last)
                break;
            int64_t n = max64(x->shape[d + 1], y->shape[d + 1]);
            fa = ix_add(v->pool, ix_scale(v->pool, fa, n), a->node->ix[d + 1]);
            fb = ix_add(v->pool, ix_scale(v->pool, fb, n), b->node->ix[d + 1]);
        }
    }
    return false;
}

static bool wholly_disjoint(const Verify *v, const Access *a, const Access *b)
{
    for (int d = 0; d < v->k->buf[a->node->buf].rank; d++)
        if (a->dim[d].range.hi < b->dim[d].range.lo || b->dim[d].range.hi < a->dim[d].range.lo)
            return true;
    return false;
}

/* Whatever both touch, the same iteration of the loops par[from .. to) touches. */
static bool same_iteration(const Verify *v, const Access *a, const Access *b, int from, int to)
{
    for (int k = from; k < to; k++) {
        const int64_t count = ix_var_count(v->pool, a->par[k]->var);
        const IxRange p = a->at[k], q = b->at[k];
        if (ix_var_count(v->pool, b->par[k]->var) != count)
            return false;
        if (count > 1 && (p.lo != p.hi || q.lo != q.hi || p.lo != q.lo) &&
            !iterations_disjoint(v, a, b, k))
            return false;
    }
    return true;
}

/* Whatever both touch, the same member of the team touches: on a GPU those of another loop are
 * others. */
static bool same_thread(const Verify *v, const Access *a, const Access *b)
{
    return (a->team && b->team && a->nteam == b->nteam && (a->team == b->team || !v->k->threads) &&
            same_iteration(v, a, b, 0, a->nteam)) ||
           wholly_disjoint(v, a, b);
}

/* Between two syncs of one block. */
static bool same_thread_of_block(const Verify *v, const Access *a, const Access *b)
{
    return (a->npar == b->npar && a->npar > a->nteam &&
            same_iteration(v, a, b, a->nteam, a->npar)) ||
           wholly_disjoint(v, a, b);
}

static bool is_argument(const KBuf *b)
{
    return b->cls == BUF_IN || b->cls == BUF_OUT;
}

/* How two buffers may meet in memory. */
typedef enum Meet { MEET_NEVER, MEET_EQUAL, MEET_ANYHOW } Meet;

static int64_t buf_bytes(const KBuf *b)
{
    int64_t last = 0;
    for (int d = 0; d < b->rank; d++) {
        if (b->shape[d] == 0)
            return 0;
        last = size_add(last, size_mul(b->shape[d] - 1, b->stride[d]));
    }
    return size_mul(last + 1, dtype_bytes(b->dt));
}

static Meet buffers_meet(const Verify *v, BufId x, BufId y)
{
    const KBuf *a = &v->k->buf[x], *b = &v->k->buf[y];
    if (x == y)
        return MEET_EQUAL;
    if (!a->aliased || !b->aliased)
        return MEET_NEVER;
    bool equal = a->rank == b->rank && a->offset == b->offset && a->dt == b->dt &&
                 !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) &&
                 !memcmp(a->stride, b->stride, (size_t)a->rank * sizeof *a->stride);
    if (a->cls != b->cls) /* in place: an input and an output of one shape */
        return equal && is_argument(a) && is_argument(b) ? MEET_EQUAL : MEET_NEVER;
    bool apart = is_argument(a) ? a->arg != b->arg
                                : a->offset + buf_bytes(a) <= b->offset ||
                                      b->offset + buf_bytes(b) <= a->offset;
    return apart ? MEET_NEVER : equal ? MEET_EQUAL : MEET_ANYHOW;
}

/* ---- pairs */

static Status check_shared_pair(const Verify *v, const Access *a, const Access *b)
{
    const KBuf *x = &v->k->buf[a->node->buf], *y = &v->k->buf[b->node->buf];
    if (a->segment != b->segment || (!a->write && !b->write))
        return ST_OK;
    Meet meet = buffers_meet(v, a->node->buf, b->node->buf);
    if (meet == MEET_NEVER || (meet == MEET_EQUAL && same_thread(v, a, b)))
        return ST_OK;
    int d = x->rank ? x->rank - 1 : 0;
    if (a == b)
        return REFUSE(v, "different iterations of %s store to the same element of %s[..%s]",
                      ix_var_name(v->pool, a->team->var), x->name,
                      x->rank ? ix_text(v, a->node->ix[0]) : "");
    const Access *w = a->write ? a : b, *o = a->write ? b : a;
    return REFUSE(v,
                  "no barrier between a store to %s[..%s] by one thread and a %s of %s[..%s] by "
                  "another",
                  v->k->buf[w->node->buf].name, x->rank ? ix_text(v, w->node->ix[d]) : "",
                  o->write ? "store" : "load", (o == a ? x : y)->name,
                  v->k->buf[o->node->buf].rank ? ix_text(v, o->node->ix[d < y->rank ? d : 0]) : "");
}

/* The threads of a block, between two of its syncs. */
static Status check_block_pair(const Verify *v, const Access *a, const Access *b)
{
    if (!a->team || a->team->bind != BIND_TEAM || a->team != b->team || a->sync != b->sync ||
        (!a->write && !b->write))
        return ST_OK;
    const Meet meet = buffers_meet(v, a->node->buf, b->node->buf);
    if (meet == MEET_NEVER || (meet == MEET_EQUAL && same_thread_of_block(v, a, b)))
        return ST_OK;
    const Access *w = a->write ? a : b, *o = a->write ? b : a;
    const KBuf *x = &v->k->buf[w->node->buf];
    if (x->slots && a->again == b->again && a->node->buf == b->node->buf &&
        a->node->ix[0] != b->node->ix[0])
        return ST_OK; /* other slots at every step: kir_verify_slots */
    return REFUSE(
        v, "no sync between a store to %s[..%s] by one thread of a block and a %s by another",
        x->name, x->rank ? ix_text(v, w->node->ix[x->rank - 1]) : "", o->write ? "store" : "load");
}

static bool before(const Access *w, const Access *r)
{
    return w->seq < r->seq || (w->outer && w->outer == r->outer);
}

/* A write of r's buffer after the team loop that w is in, on the way to r. */
static bool written_again(const Verify *v, const Access *w, const Access *r)
{
    for (uint32_t i = 0; i < v->naccess; i++) {
        const Access *x = &v->access[i];
        if (!x->write || x->node->buf != r->node->buf || x->team == w->team ||
            wholly_disjoint(v, x, r))
            continue;
        if (x->seq > w->seq && x->seq < r->seq)
            return true;
        if (x->team == r->team && x->inner && x->inner == r->inner)
            return true;
    }
    return false;
}

static Status check_private_read(const Verify *v, const Access *r)
{
    const KBuf *b = &v->k->buf[r->node->buf];
    for (uint32_t i = 0; i < v->naccess; i++) {
        const Access *w = &v->access[i];
        if (!w->write || w->node->buf != r->node->buf || !w->team || w->team == r->team ||
            w->seq > r->seq || same_thread(v, w, r) || written_again(v, w, r))
            continue;
        return REFUSE(v,
                      "private %s: %s is read outside of the team loop over %s, where each thread "
                      "wrote its own share",
                      b->name, b->rank ? ix_text(v, r->node->ix[b->rank - 1]) : "it",
                      ix_var_name(v->pool, w->team->var));
    }
    return ST_OK;
}

/* Something must have been written before workspaces and outputs are read. */
static Status check_written(const Verify *v, const Access *r)
{
    for (uint32_t i = 0; i < v->naccess; i++) {
        const Access *w = &v->access[i];
        if (w->write && before(w, r) && buffers_meet(v, w->node->buf, r->node->buf) != MEET_NEVER)
            return ST_OK;
    }
    return REFUSE(v, "%s is read before it is written", v->k->buf[r->node->buf].name);
}

static bool places_equal(const Access *a, const Access *b, int rank)
{
    bool same = true;
    for (int d = 0; d < rank && same; d++) {
        const Place *p = &a->dim[d], *q = &b->dim[d];
        same = p->range.lo == q->range.lo && p->range.hi == q->range.hi &&
               a->node->ix[d] == b->node->ix[d];
        for (int k = 0; k < a->npar && same; k++)
            same = p->along[k].rest.lo == q->along[k].rest.lo &&
                   p->along[k].rest.hi == q->along[k].rest.hi;
    }
    return same;
}

/* Equal accesses of one iteration need to be compared once. */
static bool access_repeats(const Verify *v, const Access *a, const Access *b)
{
    const KBuf *x = &v->k->buf[a->node->buf];
    return a->team && a->node->buf == b->node->buf && a->team == b->team && a->npar == b->npar &&
           !memcmp(a->par, b->par, sizeof *a->par * (size_t)a->npar) &&
           !memcmp(a->at, b->at, sizeof *a->at * (size_t)a->npar) && a->sync == b->sync &&
           a->again == b->again && a->segment == b->segment && a->write == b->write &&
           a->node->lanes == b->node->lanes && a->outer == b->outer && a->inner == b->inner &&
           places_equal(a, b, x->rank);
}

static int order_access(const void *pa, const void *pb)
{
    const Access *a = *(const Access *const *)pa, *b = *(const Access *const *)pb;
    if (a->node->buf != b->node->buf)
        return a->node->buf < b->node->buf ? -1 : 1;
    return a->seq < b->seq ? -1 : a->seq > b->seq;
}

/* Two buffers of one block's shared memory may take each other's place from launch to launch. */
static Status check_apart(const Verify *v, const Access *a, const Access *b)
{
    const KBuf *x = &v->k->buf[a->node->buf], *y = &v->k->buf[b->node->buf];
    if (x == y || x->cls != BUF_PRIVATE || y->cls != BUF_PRIVATE || a->segment != b->segment ||
        x->offset + buf_bytes(x) <= y->offset || y->offset + buf_bytes(y) <= x->offset)
        return ST_OK;
    return REFUSE(v, "%s and %s share memory in one launch", x->name, y->name);
}

static Status check_accesses(const Verify *v)
{
    const Access **a = arena_array(v->k->arena, const Access *, v->naccess);
    uint32_t n = 0;
    for (uint32_t i = 0; i < v->naccess; i++)
        a[i] = &v->access[i];
    qsort(a, v->naccess, sizeof *a, order_access);
    for (uint32_t i = 0; i < v->naccess; i++)
        if (n == 0 || !access_repeats(v, a[n - 1], a[i]))
            a[n++] = a[i];
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = i + 1; j < n && v->k->buf[a[i]->node->buf].cls == BUF_PRIVATE; j++)
            if (v->k->threads)
                TRY(check_apart(v, a[i], a[j]));
    for (uint32_t i = 0; i < n; i++) {
        const KBuf *b = &v->k->buf[a[i]->node->buf];
        if (!a[i]->write && b->cls != BUF_IN)
            TRY(check_written(v, a[i]));
        if (b->cls == BUF_PRIVATE && !a[i]->write)
            TRY(check_private_read(v, a[i]));
        if (b->cls == BUF_PRIVATE && !v->k->threads)
            continue;
        for (uint32_t j = i; j < n; j++) {
            if (a[j]->node->buf != a[i]->node->buf && !b->aliased)
                break; /* sorted by buffer */
            if (b->cls != BUF_PRIVATE)
                TRY(check_shared_pair(v, a[i], a[j]));
            if (v->k->threads)
                TRY(check_block_pair(v, a[i], a[j]));
        }
    }
    return ST_OK;
}

/* ---- buffers */

static Status check_buffer(const Verify *v, BufId id)
{
    const KBuf *b = &v->k->buf[id];
    if (b->rank < 0 || b->rank > MAX_RANK)
        return REFUSE(v, "%s: rank %d", b->name, b->rank);
    for (int d = 0; d < b->rank; d++) {
        bool last = d == b->rank - 1;
        int64_t inner = last ? 1 : size_mul(b->shape[d + 1], b->stride[d + 1]);
        if (b->shape[d] < 0 || (last && b->stride[d] != 1) ||
            (!last && b->shape[d] > 1 && b->stride[d] < inner))
            return REFUSE(v, "%s, dimension %d: extent %lld, stride %lld", b->name, d,
                          (long long)b->shape[d], (long long)b->stride[d]);
    }
    if (is_argument(b))
        return ST_OK;
    int64_t room = b->cls == BUF_SHARED ? v->k->shared_bytes : v->k->private_bytes;
    if (b->offset < 0 || b->offset % dtype_bytes(b->dt) || b->offset + buf_bytes(b) > room)
        return REFUSE(v, "%s: bytes [%lld,%lld) of a workspace of %lld", b->name,
                      (long long)b->offset, (long long)(b->offset + buf_bytes(b)), (long long)room);
    return ST_OK;
}

/* Buffers in the same memory say so. */
static Status check_overlap(const Verify *v, const KBuf *a, const KBuf *b)
{
    if (a->cls != b->cls || (a->aliased && b->aliased) || (v->k->threads && a->cls == BUF_PRIVATE))
        return ST_OK;
    if (!is_argument(a)
            ? a->offset < b->offset + buf_bytes(b) && b->offset < a->offset + buf_bytes(a)
            : a->arg == b->arg)
        return REFUSE(v, "%s and %s share memory and do not say so", a->name, b->name);
    return ST_OK;
}

static Status check_buffers(const Verify *v)
{
    for (uint32_t i = 0; i < v->k->nbuf; i++)
        TRY(check_buffer(v, (BufId)i));
    for (uint32_t i = 0; i < v->k->nbuf; i++)
        for (uint32_t j = i + 1; j < v->k->nbuf; j++)
            TRY(check_overlap(v, &v->k->buf[i], &v->k->buf[j]));
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
    v.known = arena_array(k->arena, bool, k->nval);
    v.made = arena_array(k->arena, bool, k->nval);
    v.reg = arena_array(k->arena, Register, k->nval);
    TRY(check_buffers(&v));
    TRY(walk(&v, k->body));
    TRY(check_accesses(&v));
    return kir_verify_slots(cx, k);
}
