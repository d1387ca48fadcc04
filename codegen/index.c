/* SPDX-License-Identifier: Apache-2.0 */
/* Index expressions.
 *
 * An expression is a sorted list of (coefficient, atom) and a constant; an atom is a variable,
 * floor(e / n) or e mod n.  Both are hash-consed and carry the range they were born with.  All
 * simplification happens when something is built, so nothing ever has to be simplified later:
 *
 *   - e / n and e mod n split e into n*m + r, where r keeps the terms whose coefficients n does not
 *     divide and a constant such that the least r lies in [0, n).  What is divided is therefore
 *     never negative, and C's / and % are floor division and remainder.  If r < n by its range, the
 *     answer is m and r.
 *   - otherwise, for a g that divides n: r = g*t + s with 0 <= s < g gives r / n = t / (n/g) and
 *     r mod n = g*(t mod (n/g)) + s.  So (4*i + l) / 8 is i / 2 for l < 4.
 *   - (x / a) / b is x / (a*b), (x mod a*b) / a is (x / a) mod b, (x mod a*b) mod a is x mod a.
 *   - a sum that holds k*n*(x / n) and k*(x mod n) holds k*x: a reshape that is undone is gone.
 *
 * A variable of count 1 is the constant 0.  Where a variable of count 0 stands nothing is ever
 * evaluated, so a division there is just 0. */
#include "codegen/index.h"

#include <stdlib.h>
#include <string.h>

#include "ir/base/hash.h"
#include "ir/base/size.h"
#include "ir/base/status.h"

enum { SUM_TERMS = 64 }; /* more terms than any access has: 8 dimensions of a few axes each */

typedef enum AtomKind { ATOM_VAR, ATOM_DIV, ATOM_MOD } AtomKind;

typedef struct Term {
    int64_t coef;
    uint64_t atom;
} Term;

typedef struct Expr {
    int64_t c;
    uint32_t nterm;
    const Term *term; /* ascending atom, no coefficient 0 */
    IxRange range;
} Expr;

typedef struct Atom { /* key first, so that it hashes as bytes */
    struct {
        uint32_t kind, x; /* x: Var or Ix */
        int64_t n;
    } key;
    IxRange range;
    Ix self;
    Ix quotient; /* MOD: x / n */
} Atom;

typedef struct VarInfo {
    const char *name;
    int64_t count;
    uint32_t alike; /* later variables that asked for this name */
} VarInfo;

typedef struct Table { /* open addressing, ids + 1 */
    uint32_t *slot;
    uint32_t n, cap;
} Table;

struct IxPool {
    Arena *arena;
    Expr *expr;
    Atom *atom;
    VarInfo *var; /* var[0] is none */
    uint32_t nexpr, expr_cap, natom, atom_cap, nvar, var_cap;
    Table exprs, atoms, names;
};

typedef struct Sum { /* an expression under construction */
    int64_t c;
    uint32_t n;
    Term t[SUM_TERMS];
} Sum;

static const IxRange EMPTY = { 0, -1 };
static const int64_t FAR = INT64_MAX / 4; /* a guard's bound beyond this is none */

static bool range_empty(IxRange r)
{
    return r.lo > r.hi;
}

static int64_t floor_div(int64_t a, int64_t n)
{
    int64_t q = a / n;
    return q - (a % n < 0);
}

static int64_t gcd(int64_t a, int64_t b)
{
    a = a < 0 ? -a : a;
    b = b < 0 ? -b : b;
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* ---- hash-consing */

static uint64_t expr_hash(int64_t c, const Term *t, uint32_t n)
{
    return hash_bytes(t, n * sizeof *t, (uint64_t)c);
}

static uint64_t entry_hash(const IxPool *p, const Table *t, uint32_t id)
{
    if (t == &p->exprs)
        return expr_hash(p->expr[id].c, p->expr[id].term, p->expr[id].nterm);
    if (t == &p->atoms)
        return hash_bytes(&p->atom[id].key, sizeof p->atom[id].key, 0);
    return hash_bytes(p->var[id].name, strlen(p->var[id].name), 0);
}

static void table_put(Table *t, uint64_t hash, uint32_t id)
{
    uint32_t i = (uint32_t)hash & (t->cap - 1);
    while (t->slot[i])
        i = (i + 1) & (t->cap - 1);
    t->slot[i] = id + 1;
}

static void table_add(IxPool *p, Table *t, uint64_t hash, uint32_t id)
{
    if (2 * (t->n + 1) > t->cap) {
        Table old = *t;
        t->cap = old.cap ? 2 * old.cap : 64;
        t->slot = arena_array(p->arena, uint32_t, t->cap);
        for (uint32_t i = 0; i < old.cap; i++)
            if (old.slot[i])
                table_put(t, entry_hash(p, t, old.slot[i] - 1), old.slot[i] - 1);
    }
    table_put(t, hash, id);
    t->n++;
}

/* Next entry of the chain that starts at hash; *i is the state, from 0. */
static bool table_next(const Table *t, uint64_t hash, uint32_t *i, uint32_t *id)
{
    if (!t->cap)
        return false;
    uint32_t s = t->slot[((uint32_t)hash + (*i)++) & (t->cap - 1)];
    *id = s - 1;
    return s != 0;
}

/* ---- sums */

static Sum sum_of(const IxPool *p, Ix a)
{
    Sum s;
    const Expr *e = &p->expr[a];
    s.c = e->c;
    s.n = e->nterm;
    if (s.n)
        memcpy(s.t, e->term, s.n * sizeof *s.t);
    return s;
}

/* s += k * (atom), keeping the order. */
static void sum_add_atom(Sum *s, uint64_t atom, int64_t k)
{
    uint32_t i = s->n;
    while (i > 0 && s->t[i - 1].atom > atom)
        i--;
    if (i > 0 && s->t[i - 1].atom == atom) {
        s->t[i - 1].coef = size_add(s->t[i - 1].coef, k);
        if (s->t[i - 1].coef == 0) {
            memmove(&s->t[i - 1], &s->t[i], (s->n - i) * sizeof *s->t);
            s->n--;
        }
        return;
    }
    if (k == 0)
        return;
    gtc_assert(s->n < SUM_TERMS, "an index expression of more than %d terms", SUM_TERMS);
    memmove(&s->t[i + 1], &s->t[i], (s->n - i) * sizeof *s->t);
    s->t[i] = (Term){ k, atom };
    s->n++;
}

/* s += k * a */
static void sum_add(const IxPool *p, Sum *s, Ix a, int64_t k)
{
    const Expr *e = &p->expr[a];
    s->c = size_add(s->c, size_mul(e->c, k));
    for (uint32_t i = 0; i < e->nterm; i++)
        sum_add_atom(s, e->term[i].atom, size_mul(e->term[i].coef, k));
}

static int64_t sum_coef(const Sum *s, uint64_t atom)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->t[i].atom == atom)
            return s->t[i].coef;
    return 0;
}

static IxRange range_add_scaled(IxRange r, IxRange a, int64_t k)
{
    if (range_empty(r) || range_empty(a))
        return EMPTY;
    int64_t x = size_mul(a.lo, k), y = size_mul(a.hi, k);
    return (IxRange){ size_add(r.lo, x < y ? x : y), size_add(r.hi, x < y ? y : x) };
}

static IxRange sum_range(const IxPool *p, const Sum *s)
{
    IxRange r = { s->c, s->c };
    for (uint32_t i = 0; i < s->n; i++)
        r = range_add_scaled(r, p->atom[s->t[i].atom].range, s->t[i].coef);
    return r;
}

/* k*(x mod n) + k*n*(x / n)  is  k*x. */
static void sum_recombine(const IxPool *p, Sum *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        const Atom *m = &p->atom[s->t[i].atom];
        if (m->key.kind != ATOM_MOD)
            continue;
        const Expr *q = &p->expr[m->quotient];
        if (q->nterm != 1 || q->term[0].coef != 1)
            continue;
        int64_t k = s->t[i].coef;
        if (sum_coef(s, q->term[0].atom) != k * m->key.n)
            continue;
        sum_add_atom(s, s->t[i].atom, -k);
        sum_add_atom(s, q->term[0].atom, -k * m->key.n);
        sum_add(p, s, m->key.x, k);
        s->c = size_add(s->c, -k * m->key.n * q->c);
        i = UINT32_MAX; /* from the start: what came in may meet another part */
    }
}

static Ix sum_make(IxPool *p, Sum *s)
{
    sum_recombine(p, s);
    uint64_t h = expr_hash(s->c, s->t, s->n);
    for (uint32_t i = 0, id; table_next(&p->exprs, h, &i, &id);) {
        const Expr *e = &p->expr[id];
        if (e->c == s->c && e->nterm == s->n && !memcmp(e->term, s->t, s->n * sizeof *s->t))
            return id;
    }
    arena_grow(p->arena, p->expr, p->nexpr, p->expr_cap);
    p->expr[p->nexpr] = (Expr){ .c = s->c,
                                .nterm = s->n,
                                .term = arena_copy(p->arena, s->t, s->n * sizeof *s->t),
                                .range = sum_range(p, s) };
    table_add(p, &p->exprs, h, p->nexpr);
    return p->nexpr++;
}

/* The expression that is one atom. */
static Ix atom_make(IxPool *p, AtomKind kind, uint32_t x, int64_t n, IxRange range, Ix quotient)
{
    Atom a = { .key = { kind, x, n }, .range = range, .quotient = quotient };
    uint64_t h = hash_bytes(&a.key, sizeof a.key, 0);
    for (uint32_t i = 0, id; table_next(&p->atoms, h, &i, &id);)
        if (!memcmp(&p->atom[id].key, &a.key, sizeof a.key))
            return p->atom[id].self;
    arena_grow(p->arena, p->atom, p->natom, p->atom_cap);
    uint32_t id = p->natom++;
    p->atom[id] = a;
    table_add(p, &p->atoms, h, id);
    Sum s = { .n = 1, .t = { { 1, id } } };
    Ix self = sum_make(p, &s);
    p->atom[id].self = self;
    return self;
}

/* ---- the pool and its variables */

IxPool *ix_pool_new(Arena *arena)
{
    IxPool *p = arena_alloc(arena, sizeof *p);
    p->arena = arena;
    arena_grow(arena, p->var, p->nvar, p->var_cap);
    p->var[p->nvar++] = (VarInfo){ .name = "", .count = 1 };
    Sum zero = { 0 };
    Ix id = sum_make(p, &zero);
    gtc_assert(id == 0, "the first expression is the constant 0");
    return p;
}

/* The emitter's own names: values v12, accumulators a3, ends of loops, the function's arguments. */
static bool name_reserved(const char *s)
{
    size_t n = strlen(s);
    if (!strcmp(s, "arg") || !strcmp(s, "team") || (n > 4 && !strcmp(s + n - 4, "_end")))
        return true;
    return (*s == 'v' || *s == 'a') && s[1] && strspn(s + 1, "0123456789") == strlen(s + 1);
}

static Var name_find(const IxPool *p, const char *name)
{
    uint64_t h = hash_bytes(name, strlen(name), 0);
    for (uint32_t i = 0, id; table_next(&p->names, h, &i, &id);)
        if (!strcmp(p->var[id].name, name))
            return (Var)id;
    return 0;
}

bool ix_name_taken(const IxPool *p, const char *name)
{
    return name_reserved(name) || name_find(p, name);
}

Var ix_var_new(IxPool *p, const char *name, int64_t count)
{
    gtc_assert(count >= 0, "variable %s of count %lld", name, (long long)count);
    gtc_assert(p->nvar < UINT16_MAX, "more than %d variables", UINT16_MAX);
    Var first = name_find(p, name);
    const char *s = arena_strdup(p->arena, name);
    while (ix_name_taken(p, s)) {
        p->var[first].alike++; /* of var[0] for reserved names */
        s = arena_printf(p->arena, "%s_%u", name, p->var[first].alike + 1);
    }
    arena_grow(p->arena, p->var, p->nvar, p->var_cap);
    Var v = (Var)p->nvar++;
    p->var[v] = (VarInfo){ .name = s, .count = count };
    table_add(p, &p->names, hash_bytes(s, strlen(s), 0), v);
    return v;
}

int64_t ix_var_count(const IxPool *p, Var v)
{
    gtc_assert(v > 0 && v < p->nvar, "no variable %u", v);
    return p->var[v].count;
}

const char *ix_var_name(const IxPool *p, Var v)
{
    gtc_assert(v > 0 && v < p->nvar, "no variable %u", v);
    return p->var[v].name;
}

/* ---- construction */

Ix ix_const(IxPool *p, int64_t c)
{
    Sum s = { .c = c };
    return sum_make(p, &s);
}

Ix ix_var(IxPool *p, Var v)
{
    int64_t n = ix_var_count(p, v);
    if (n == 1)
        return 0;
    return atom_make(p, ATOM_VAR, v, 0, n ? (IxRange){ 0, n - 1 } : EMPTY, 0);
}

Ix ix_add(IxPool *p, Ix a, Ix b)
{
    Sum s = sum_of(p, a);
    sum_add(p, &s, b, 1);
    return sum_make(p, &s);
}

Ix ix_sub(IxPool *p, Ix a, Ix b)
{
    Sum s = sum_of(p, a);
    sum_add(p, &s, b, -1);
    return sum_make(p, &s);
}

Ix ix_scale(IxPool *p, Ix a, int64_t k)
{
    Sum s = { 0 };
    sum_add(p, &s, a, k);
    return sum_make(p, &s);
}

Ix ix_shift(IxPool *p, Ix a, int64_t c)
{
    Sum s = sum_of(p, a);
    s.c = size_add(s.c, c);
    return sum_make(p, &s);
}

/* Moves multiples of n from r to m; afterwards the least r is in [0, n) unless r is empty. */
static void sum_split(const IxPool *p, Sum *r, Sum *m, int64_t n, bool all)
{
    for (uint32_t i = 0; i < r->n;) {
        int64_t q = r->t[i].coef / n;
        uint64_t atom = r->t[i].atom;
        if (q == 0 || (!all && r->t[i].coef % n != 0)) {
            i++;
            continue;
        }
        uint32_t before = r->n;
        sum_add_atom(m, atom, q);
        sum_add_atom(r, atom, -q * n);
        i += r->n == before;
    }
    IxRange range = sum_range(p, r);
    int64_t d = floor_div(range.lo, n);
    m->c = size_add(m->c, d);
    r->c -= d * n;
}

/* r = g*t + s with 0 <= s < g, for a g that divides n.  False when the ranges do not say so. */
static bool sum_split_by(const IxPool *p, const Sum *r, int64_t g, Sum *t, Sum *s)
{
    *t = (Sum){ 0 };
    *s = *r;
    sum_split(p, s, t, g, false);
    return sum_range(p, s).hi < g;
}

/* r / n or r mod n, for 0 <= least r < n <= greatest r, by a common factor of part of r and n. */
static bool divide_by_factor(IxPool *p, const Sum *r, int64_t n, bool mod, Ix *out)
{
    int64_t best = 1;
    for (uint32_t i = 0; i < r->n; i++) {
        int64_t g = gcd(r->t[i].coef, n);
        Sum t, s;
        if (g > best && g < n && sum_split_by(p, r, g, &t, &s))
            best = g;
    }
    if (best == 1)
        return false;
    Sum t, s;
    sum_split_by(p, r, best, &t, &s);
    Ix ti = sum_make(p, &t);
    if (!mod) {
        *out = ix_div(p, ti, n / best);
        return true;
    }
    sum_add(p, &s, ix_mod(p, ti, n / best), best);
    *out = sum_make(p, &s);
    return true;
}

static Ix divide(IxPool *p, const Sum *r, int64_t n);

/* r mod n, for 0 <= least r < n <= greatest r. */
static Ix remainder_of(IxPool *p, Sum *r, int64_t n)
{
    for (uint32_t i = 0; i < r->n; i++) { /* k*(x mod m) is k*x here, if n divides k*m */
        const Atom *a = &p->atom[r->t[i].atom];
        int64_t k = r->t[i].coef;
        if (a->key.kind == ATOM_MOD && k * a->key.n % n == 0) {
            sum_add_atom(r, r->t[i].atom, -k);
            sum_add(p, r, a->key.x, k);
            return ix_mod(p, sum_make(p, r), n);
        }
    }
    Ix out;
    if (divide_by_factor(p, r, n, true, &out))
        return out;
    Ix q = divide(p, r, n);
    return atom_make(p, ATOM_MOD, sum_make(p, r), n, (IxRange){ 0, n - 1 }, q);
}

/* r / n, for 0 <= least r < n <= greatest r. */
static Ix divide(IxPool *p, const Sum *r, int64_t n)
{
    const Atom *a = r->n == 1 && r->t[0].coef == 1 ? &p->atom[r->t[0].atom] : NULL;
    if (a && a->key.kind == ATOM_DIV) {
        int64_t m = a->key.n;
        return ix_div(p, ix_shift(p, a->key.x, size_mul(r->c, m)), size_mul(m, n));
    }
    if (a && a->key.kind == ATOM_MOD && r->c == 0 && a->key.n % n == 0) {
        int64_t m = a->key.n / n;
        return ix_mod(p, ix_div(p, a->key.x, n), m);
    }
    Ix out;
    if (divide_by_factor(p, r, n, false, &out))
        return out;
    Sum s = *r;
    Ix x = sum_make(p, &s);
    IxRange range = p->expr[x].range;
    return atom_make(p, ATOM_DIV, x, n, (IxRange){ range.lo / n, range.hi / n }, 0);
}

/* The split of a by n that both divisions start from; false where nothing is ever evaluated. */
static bool split(IxPool *p, Ix a, int64_t n, Sum *m, Sum *r)
{
    gtc_assert(n > 0, "an index divided by %lld", (long long)n);
    if (range_empty(p->expr[a].range))
        return false;
    *m = (Sum){ 0 };
    *r = sum_of(p, a);
    sum_split(p, r, m, n, false);
    if (sum_range(p, r).hi >= n)
        sum_split(p, r, m, n, true);
    return true;
}

Ix ix_div(IxPool *p, Ix a, int64_t n)
{
    Sum m, r;
    if (!split(p, a, n, &m, &r))
        return 0;
    if (sum_range(p, &r).hi >= n)
        sum_add(p, &m, divide(p, &r, n), 1);
    return sum_make(p, &m);
}

Ix ix_mod(IxPool *p, Ix a, int64_t n)
{
    Sum m, r;
    if (!split(p, a, n, &m, &r))
        return 0;
    if (sum_range(p, &r).hi >= n)
        return remainder_of(p, &r, n);
    return sum_make(p, &r);
}

/* ---- questions */

IxRange ix_range(const IxPool *p, Ix a)
{
    return p->expr[a].range;
}

bool ix_is_const(const IxPool *p, Ix a, int64_t *c)
{
    if (p->expr[a].nterm != 0)
        return false;
    *c = p->expr[a].c;
    return true;
}

bool ix_is_var(const IxPool *p, Ix a, Var *v)
{
    const Expr *e = &p->expr[a];
    if (e->nterm != 1 || e->c != 0 || e->term[0].coef != 1)
        return false;
    const Atom *t = &p->atom[e->term[0].atom];
    *v = (Var)t->key.x;
    return t->key.kind == ATOM_VAR;
}

bool ix_uses(const IxPool *p, Ix a, Var v)
{
    const Expr *e = &p->expr[a];
    for (uint32_t i = 0; i < e->nterm; i++) {
        const Atom *t = &p->atom[e->term[i].atom];
        if (t->key.kind == ATOM_VAR ? t->key.x == v : ix_uses(p, t->key.x, v))
            return true;
    }
    return false;
}

int64_t ix_coef(const IxPool *p, Ix a, Var v, bool *linear)
{
    const Expr *e = &p->expr[a];
    int64_t coef = 0;
    *linear = true;
    for (uint32_t i = 0; i < e->nterm; i++) {
        const Atom *t = &p->atom[e->term[i].atom];
        if (t->key.kind != ATOM_VAR)
            *linear &= !ix_uses(p, t->key.x, v);
        else if (t->key.x == v)
            coef = e->term[i].coef;
    }
    return coef;
}

/* The least variable of a that is > after, or 0. */
static Var next_var(const IxPool *p, Ix a, Var after)
{
    const Expr *e = &p->expr[a];
    Var best = 0;
    for (uint32_t i = 0; i < e->nterm; i++) {
        const Atom *t = &p->atom[e->term[i].atom];
        Var v = t->key.kind == ATOM_VAR ? (Var)t->key.x : next_var(p, t->key.x, after);
        if (v > after && (!best || v < best))
            best = v;
    }
    return best;
}

void ix_vars(const IxPool *p, Ix a, void (*f)(void *arg, Var v), void *arg)
{
    for (Var v = next_var(p, a, 0); v; v = next_var(p, a, v))
        f(arg, v);
}

Ix ix_subst(IxPool *p, Ix a, const Ix *map, unsigned nmap)
{
    Expr e = p->expr[a]; /* the arrays may move below; what e points to does not */
    Sum s = { .c = e.c };
    for (uint32_t i = 0; i < e.nterm; i++) {
        Atom t = p->atom[e.term[i].atom];
        Ix x = t.self;
        if (t.key.kind != ATOM_VAR) {
            x = ix_subst(p, t.key.x, map, nmap);
            x = t.key.kind == ATOM_DIV ? ix_div(p, x, t.key.n) : ix_mod(p, x, t.key.n);
        } else if (t.key.x < nmap && map[t.key.x] != IX_KEEP) {
            x = map[t.key.x];
        }
        sum_add(p, &s, x, e.term[i].coef);
    }
    return sum_make(p, &s);
}

/* Of a division whose operand is in r. */
static IxRange divided_range(const Atom *a, IxRange r)
{
    int64_t n = a->key.n;
    if (range_empty(r))
        return EMPTY;
    if (a->key.kind == ATOM_DIV)
        return (IxRange){ floor_div(r.lo, n), floor_div(r.hi, n) };
    int64_t d = floor_div(r.lo, n);
    if (d != floor_div(r.hi, n))
        return (IxRange){ 0, n - 1 };
    return (IxRange){ r.lo - d * n, r.hi - d * n };
}

static IxRange atom_range_in(const IxPool *p, const Atom *a, const IxRange *rng, unsigned nrng)
{
    if (a->key.kind == ATOM_VAR)
        return a->key.x < nrng && rng[a->key.x].lo > INT64_MIN ? rng[a->key.x] : a->range;
    return divided_range(a, ix_range_in(p, a->key.x, rng, nrng));
}

IxRange ix_range_in(const IxPool *p, Ix a, const IxRange *rng, unsigned nrng)
{
    const Expr *e = &p->expr[a];
    IxRange r = { e->c, e->c };
    for (uint32_t i = 0; i < e->nterm; i++)
        r = range_add_scaled(r, atom_range_in(p, &p->atom[e->term[i].atom], rng, nrng),
                             e->term[i].coef);
    return r;
}

static IxRange atom_range_guarded(IxPool *p, Atom a, const IxRange *rng, unsigned nrng,
                                  const Guard *g, unsigned nguard)
{
    IxRange r = a.key.kind == ATOM_VAR
                    ? atom_range_in(p, &a, rng, nrng)
                    : divided_range(&a, ix_range_guarded(p, a.key.x, rng, nrng, g, nguard));
    for (unsigned i = 0; i < nguard; i++) { /* a guard on this very atom, plus a constant */
        const Expr *e = &p->expr[g[i].ix];
        if (e->nterm != 1 || e->term[0].coef != 1 ||
            memcmp(&p->atom[e->term[0].atom].key, &a.key, sizeof a.key) != 0)
            continue;
        r.lo = g[i].lo - e->c > r.lo ? g[i].lo - e->c : r.lo;
        r.hi = g[i].hi - 1 - e->c < r.hi ? g[i].hi - 1 - e->c : r.hi;
    }
    return r;
}

/* a = k * (x / n + m) + c as k * ((x + n*m) / n) + c: the operand as it was before it was split,
 * which a guard may know.  *y is that operand; false when the term is no such division. */
static bool unsplit(IxPool *p, const Expr *e, uint32_t term, Ix *y, int64_t *c)
{
    const Atom a = p->atom[e->term[term].atom];
    const int64_t k = e->term[term].coef;
    if (a.key.kind != ATOM_DIV || k <= 0)
        return false;
    *c = e->c - floor_div(e->c, k) * k;
    Sum s = { .c = size_mul(a.key.n, floor_div(e->c, k)) };
    for (uint32_t i = 0; i < e->nterm; i++) {
        if (e->term[i].coef % k != 0)
            return false;
        if (i != term)
            sum_add(p, &s, p->atom[e->term[i].atom].self, size_mul(a.key.n, e->term[i].coef / k));
    }
    sum_add(p, &s, a.key.x, 1);
    *y = sum_make(p, &s);
    return true;
}

/* a = k * (x / n) + rest, k a multiple of n, where a guard is about x mod n: *y is the same number
 * as k / n * (x - x mod n) + rest.  False when the term is no such division. */
static bool undivide(IxPool *p, Ix a, const Term *term, const Guard *g, unsigned nguard, Ix *y)
{
    const Atom div = p->atom[term->atom];
    bool found = false;
    for (unsigned i = 0; i < nguard && div.key.kind == ATOM_DIV; i++) {
        const Expr *e = &p->expr[g[i].ix];
        const Atom *m = e->nterm == 1 ? &p->atom[e->term[0].atom] : NULL;
        found |= m && m->key.kind == ATOM_MOD && m->key.x == div.key.x && m->key.n == div.key.n;
    }
    if (!found || term->coef % div.key.n != 0)
        return false;
    const Ix whole = ix_sub(p, div.key.x, ix_mod(p, div.key.x, div.key.n));
    const Ix rest = ix_sub(p, a, ix_scale(p, div.self, term->coef));
    *y = ix_add(p, rest, ix_scale(p, whole, term->coef / div.key.n));
    return *y != a;
}

IxRange ix_range_guarded(IxPool *p, Ix a, const IxRange *rng, unsigned nrng, const Guard *g,
                         unsigned nguard)
{
    const Expr e = p->expr[a]; /* the array may move; what e points to does not */
    IxRange r = { e.c, e.c };
    for (uint32_t i = 0; i < e.nterm; i++)
        r = range_add_scaled(r,
                             atom_range_guarded(p, p->atom[e.term[i].atom], rng, nrng, g, nguard),
                             e.term[i].coef);
    Ix y;
    int64_t c;
    for (uint32_t i = 0; i < e.nterm && nguard && !range_empty(r); i++) {
        if (undivide(p, a, &e.term[i], g, nguard, &y)) {
            const IxRange q = ix_range_guarded(p, y, rng, nrng, g, nguard);
            r.lo = q.lo > r.lo ? q.lo : r.lo;
            r.hi = q.hi < r.hi ? q.hi : r.hi;
        }
        if (e.nterm < 2 || !unsplit(p, &e, i, &y, &c))
            continue;
        const Atom div = p->atom[e.term[i].atom];
        const IxRange q = divided_range(&div, ix_range_guarded(p, y, rng, nrng, g, nguard));
        const IxRange whole = range_add_scaled((IxRange){ c, c }, q, e.term[i].coef);
        r.lo = whole.lo > r.lo ? whole.lo : r.lo;
        r.hi = whole.hi < r.hi ? whole.hi : r.hi;
    }
    for (unsigned i = 0; i < nguard && !range_empty(r) && e.nterm; i++) {
        const Expr gx = p->expr[g[i].ix]; /* a = k * guarded + what is left */
        int64_t k = 0;
        for (uint32_t j = 0; j < e.nterm && gx.nterm; j++)
            if (e.term[j].atom == gx.term[0].atom && e.term[j].coef % gx.term[0].coef == 0)
                k = e.term[j].coef / gx.term[0].coef;
        if (k == 0)
            continue;
        const IxRange d = ix_range_guarded(p, ix_sub(p, a, ix_scale(p, g[i].ix, k)), rng, nrng,
                                           g + i + 1, nguard - i - 1);
        if (range_empty(d))
            return EMPTY;
        const bool up = k > 0;
        if (up ? g[i].lo > -FAR : g[i].hi < FAR) {
            const int64_t lo = size_add(size_mul(k, up ? g[i].lo : g[i].hi - 1), d.lo);
            r.lo = lo > r.lo ? lo : r.lo;
        }
        if (up ? g[i].hi < FAR : g[i].lo > -FAR) {
            const int64_t hi = size_add(size_mul(k, up ? g[i].hi - 1 : g[i].lo), d.hi);
            r.hi = hi < r.hi ? hi : r.hi;
        }
    }
    return range_empty(r) ? EMPTY : r;
}

bool ix_guard_undivided(IxPool *p, const Guard *g, Guard *out)
{
    const Expr e = p->expr[g->ix]; /* the array may move; what e points to does not */
    uint32_t i = 0;
    int64_t c;
    Ix y;
    while (i < e.nterm && !unsplit(p, &e, i, &y, &c))
        i++;
    if (i == e.nterm)
        return false;
    const int64_t k = e.term[i].coef, n = p->atom[e.term[i].atom].key.n, far = FAR / n;
    const int64_t lo = -floor_div(-(g->lo < -far ? -far : g->lo) + c, k); /* of the quotient */
    const int64_t hi = floor_div((g->hi > far ? far : g->hi) - 1 - c, k) + 1;
    *out =
        (Guard){ y, g->lo < -far ? g->lo : size_mul(lo, n), g->hi > far ? g->hi : size_mul(hi, n) };
    return true;
}

/* ---- as C */

static void print_atom(const IxPool *p, const Atom *a, bool factor, Strbuf *out)
{
    if (a->key.kind == ATOM_VAR) {
        strbuf_add(out, p->var[a->key.x].name);
        return;
    }
    gtc_assert(p->expr[a->key.x].range.lo >= 0, "a division of a negative index");
    const Expr *x = &p->expr[a->key.x];
    bool simple = x->nterm == 1 && x->c == 0 && x->term[0].coef == 1 &&
                  p->atom[x->term[0].atom].key.kind == ATOM_VAR;
    bool parens = factor || a->key.kind == ATOM_MOD;
    strbuf_add(out, parens ? "(" : "");
    strbuf_add(out, simple ? "" : "(");
    ix_print(p, a->key.x, out);
    strbuf_add(out, simple ? "" : ")");
    strbuf_printf(out, "%c%lld", a->key.kind == ATOM_DIV ? '/' : '%', (long long)a->key.n);
    strbuf_add(out, parens ? ")" : "");
}

void ix_print(const IxPool *p, Ix a, Strbuf *out)
{
    const Expr *e = &p->expr[a];
    for (uint32_t i = 0; i < e->nterm; i++) {
        int64_t k = e->term[i].coef;
        if (k < 0)
            strbuf_putc(out, '-');
        else if (i)
            strbuf_putc(out, '+');
        if (k != 1 && k != -1)
            strbuf_printf(out, "%lld*", (long long)(k < 0 ? -k : k));
        print_atom(p, &p->atom[e->term[i].atom], k != 1, out);
    }
    if (e->c || !e->nterm)
        strbuf_printf(out, e->nterm ? "%+lld" : "%lld", (long long)e->c);
}
