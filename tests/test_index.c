/* SPDX-License-Identifier: Apache-2.0 */
/* Index algebra against brute force: random expressions, and shapes of reshapes, are built and
 * evaluated at every value of their variables by the C that ix_print writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/index.h"
#include "ir/base/rng.h"

enum { NVAR = 4, NEXPR = 24 };

typedef struct Point {
    int64_t value[NVAR + 1]; /* by Var */
} Point;

/* ---- a reader of what ix_print writes: + - * / % ( ), names, numbers */

typedef struct Reader {
    const char *s;
    const IxPool *pool;
    const Point *at;
    bool negative; /* a negative operand stood under / or % */
} Reader;

static int64_t read_sum(Reader *r);

static int64_t read_atom(Reader *r)
{
    if (*r->s == '-') {
        r->s++;
        return -read_atom(r);
    }
    if (*r->s == '(') {
        r->s++;
        int64_t v = read_sum(r);
        assert_int_equal(*r->s, ')');
        r->s++;
        return v;
    }
    if (*r->s >= '0' && *r->s <= '9') {
        char *end;
        int64_t v = strtoll(r->s, &end, 10);
        r->s = end;
        return v;
    }
    size_t n = strcspn(r->s, "+-*/%()");
    for (Var v = 1; v <= NVAR; v++)
        if (strlen(ix_var_name(r->pool, v)) == n && !strncmp(ix_var_name(r->pool, v), r->s, n)) {
            r->s += n;
            return r->at->value[v];
        }
    fail_msg("no variable at `%s`", r->s);
    return 0;
}

static int64_t read_product(Reader *r)
{
    int64_t v = read_atom(r);
    while (*r->s && strchr("*/%", *r->s)) {
        char op = *r->s++;
        int64_t b = read_atom(r);
        r->negative |= op != '*' && v < 0;
        v = op == '*' ? v * b : op == '/' ? v / b : v % b;
    }
    return v;
}

static int64_t read_sum(Reader *r)
{
    int64_t v = 0;
    do {
        if (*r->s == '+')
            r->s++;
        v += read_product(r);
    } while (*r->s == '+' || *r->s == '-');
    return v;
}

static int64_t eval_text(const IxPool *p, const char *text, const Point *at)
{
    Reader r = { text, p, at, false };
    int64_t v = read_sum(&r);
    assert_int_equal(*r.s, 0);
    assert_false(r.negative);
    return v;
}

/* ---- random expressions */

static int64_t floor_div(int64_t a, int64_t n)
{
    return a / n - (a % n < 0);
}

typedef struct Program { /* how each expression was made, to evaluate it without index.c */
    struct {
        int op, a, b;
        int64_t k;
    } step[NEXPR];
    Ix ix[NEXPR];
} Program;

static const int64_t FACTOR[] = { 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24 };

static Ix step_build(IxPool *p, Program *g, int i)
{
    Ix a = g->ix[g->step[i].a], b = g->ix[g->step[i].b];
    int64_t k = g->step[i].k;
    switch (g->step[i].op) {
    case 0:
        return ix_var(p, (Var)(1 + i % NVAR));
    case 1:
        return ix_add(p, a, b);
    case 2:
        return ix_sub(p, a, b);
    case 3:
        return ix_scale(p, a, k);
    case 4:
        return ix_shift(p, a, k - 6);
    case 5:
        return ix_div(p, a, k);
    default:
        return ix_mod(p, a, k);
    }
}

static void program_eval(const Program *g, const Point *at, int64_t *value)
{
    for (int i = 0; i < NEXPR; i++) {
        int64_t a = value[g->step[i].a], b = value[g->step[i].b], k = g->step[i].k;
        int64_t all[] = { at->value[1 + i % NVAR], a + b, a - b, a * k, a + k - 6, floor_div(a, k),
                          a - k * floor_div(a, k) };
        value[i] = all[g->step[i].op];
    }
}

static bool point_next(const IxPool *p, Point *at)
{
    for (Var v = 1; v <= NVAR; v++) {
        if (++at->value[v] < ix_var_count(p, v))
            return true;
        at->value[v] = 0;
    }
    return false;
}

static void program_check(IxPool *p, const Program *g)
{
    char *text[NEXPR];
    for (int i = 0; i < NEXPR; i++) {
        Strbuf b = { 0 };
        ix_print(p, g->ix[i], &b);
        text[i] = b.s;
    }
    Point at = { { 0 } };
    do {
        int64_t value[NEXPR] = { 0 };
        program_eval(g, &at, value);
        IxRange here[NVAR + 1];
        for (int v = 0; v <= NVAR; v++)
            here[v] = (IxRange){ at.value[v], at.value[v] };
        for (int i = 0; i < NEXPR; i++) {
            IxRange all = ix_range(p, g->ix[i]), one = ix_range_in(p, g->ix[i], here, NVAR + 1);
            assert_true(value[i] >= all.lo && value[i] <= all.hi);
            assert_true(one.lo == value[i] && one.hi == value[i]);
            if (eval_text(p, text[i], &at) != value[i])
                fail_msg("%s is %lld, not %lld", text[i], (long long)eval_text(p, text[i], &at),
                         (long long)value[i]);
        }
    } while (point_next(p, &at));
    for (int i = 0; i < NEXPR; i++)
        free(text[i]);
}

static void test_random(void **state)
{
    (void)state;
    static const int64_t COUNT[] = { 1, 2, 3, 4, 5, 6, 8, 12, 16 };
    Rng rng;
    rng_init(&rng, 20240611, 1);
    for (int round = 0; round < 400; round++) {
        Arena *arena = arena_new();
        IxPool *p = ix_pool_new(arena);
        Program g = { 0 };
        for (int v = 0; v < NVAR; v++)
            ix_var_new(p, "i", COUNT[rng_below(&rng, v == 3 ? 5 : 9)]);
        for (int i = 0; i < NEXPR; i++) {
            g.step[i].op = i < NVAR ? 0 : 1 + (int)rng_below(&rng, 6);
            g.step[i].a = i ? (int)rng_below(&rng, (uint64_t)i) : 0;
            g.step[i].b = i ? (int)rng_below(&rng, (uint64_t)i) : 0;
            g.step[i].k = FACTOR[rng_below(&rng, sizeof FACTOR / sizeof *FACTOR)];
            IxRange ra = ix_range(p, g.ix[g.step[i].a]);
            if (g.step[i].op == 3 && (ra.hi > 5000 || ra.lo < -5000))
                g.step[i].op = 6;
            g.ix[i] = step_build(p, &g, i);
        }
        program_check(p, &g);
        arena_free(arena);
    }
}

/* ---- what must be gone */

static void expect_text(const IxPool *p, Ix a, const char *want)
{
    Strbuf b = { 0 };
    ix_print(p, a, &b);
    assert_string_equal(strbuf_str(&b), want);
    strbuf_free(&b);
}

static void test_simplifies(void **state)
{
    (void)state;
    Arena *arena = arena_new();
    IxPool *p = ix_pool_new(arena);
    Ix i = ix_var(p, ix_var_new(p, "i", 10)), l = ix_var(p, ix_var_new(p, "l", 16));
    Ix j = ix_var(p, ix_var_new(p, "j", 4)), t = ix_var(p, ix_var_new(p, "t", 1));
    Ix n = ix_var(p, ix_var_new(p, "n", 1000));

    Ix a = ix_add(p, ix_scale(p, i, 16), l);
    assert_int_equal(ix_div(p, a, 16), i);
    assert_int_equal(ix_mod(p, a, 16), l);
    assert_int_equal(ix_div(p, ix_shift(p, a, 160), 16), ix_shift(p, i, 10));
    assert_int_equal(ix_div(p, ix_shift(p, ix_scale(p, i, 16), -5), 16), ix_shift(p, i, -1));
    assert_int_equal(ix_mod(p, ix_shift(p, ix_scale(p, i, 16), -5), 16), ix_const(p, 11));
    assert_int_equal(t, 0);
    /* 4 i + j over 8 */
    Ix b = ix_add(p, ix_scale(p, i, 4), j);
    assert_int_equal(ix_div(p, b, 8), ix_div(p, i, 2));
    assert_int_equal(ix_mod(p, b, 8), ix_add(p, j, ix_scale(p, ix_mod(p, i, 2), 4)));
    /* nested */
    assert_int_equal(ix_div(p, ix_div(p, n, 6), 4), ix_div(p, n, 24));
    assert_int_equal(ix_mod(p, ix_mod(p, n, 24), 6), ix_mod(p, n, 6));
    assert_int_equal(ix_div(p, ix_mod(p, n, 24), 6), ix_mod(p, ix_div(p, n, 6), 4));
    expect_text(p, ix_div(p, ix_shift(p, n, -3), 7), "(n+4)/7-1");
    expect_text(p, ix_sub(p, ix_mod(p, n, 7), ix_scale(p, i, 3)), "-3*i+(n%7)");
    arena_free(arena);
}

/* [N] -> [a,b,c] -> [N], in both ways to write the middle index. */
static void test_reshape_undone(void **state)
{
    (void)state;
    Arena *arena = arena_new();
    IxPool *p = ix_pool_new(arena);
    for (int64_t a = 1; a < 6; a++)
        for (int64_t b = 1; b < 6; b++)
            for (int64_t c = 1; c < 6; c++) {
                Ix n = ix_var(p, ix_var_new(p, "n", a * b * c));
                Ix x = ix_div(p, n, b * c), z = ix_mod(p, n, c);
                Ix y[] = { ix_mod(p, ix_div(p, n, c), b), ix_div(p, ix_mod(p, n, b * c), c) };
                assert_int_equal(y[0], y[1]);
                Ix back = ix_add(p, ix_scale(p, ix_add(p, ix_scale(p, x, b), y[0]), c), z);
                assert_int_equal(back, n);
            }
    arena_free(arena);
}

/* [A,B] -> [B,A] -> through a split axis, with loops over tiles in place of axes. */
static void test_reshape_tiles(void **state)
{
    (void)state;
    Arena *arena = arena_new();
    IxPool *p = ix_pool_new(arena);
    Ix o = ix_var(p, ix_var_new(p, "o", 8)), l = ix_var(p, ix_var_new(p, "l", 16));
    Ix r = ix_var(p, ix_var_new(p, "r", 5));
    Ix flat = ix_add(p, ix_scale(p, r, 128), ix_add(p, ix_scale(p, o, 16), l));
    assert_int_equal(ix_div(p, flat, 128), r);
    assert_int_equal(ix_mod(p, flat, 128), ix_add(p, ix_scale(p, o, 16), l));
    assert_int_equal(ix_mod(p, ix_div(p, flat, 16), 8), o);
    assert_int_equal(ix_div(p, flat, 32), ix_add(p, ix_scale(p, r, 4), ix_div(p, o, 2)));
    arena_free(arena);
}

static void see(void *arg, Var v)
{
    Strbuf *b = arg;
    strbuf_printf(b, "%d ", v);
}

static void test_questions(void **state)
{
    (void)state;
    Arena *arena = arena_new();
    IxPool *p = ix_pool_new(arena);
    Var i = ix_var_new(p, "i", 100), j = ix_var_new(p, "i", 7), e = ix_var_new(p, "v3", 0);
    assert_string_equal(ix_var_name(p, i), "i");
    assert_string_not_equal(ix_var_name(p, j), "i");
    assert_string_not_equal(ix_var_name(p, e), "v3");
    Ix a = ix_add(p, ix_scale(p, ix_var(p, j), 3), ix_mod(p, ix_var(p, i), 9));
    int64_t c;
    Var v;
    bool linear;
    assert_true(ix_is_const(p, ix_const(p, -4), &c) && c == -4);
    assert_false(ix_is_const(p, a, &c));
    assert_true(ix_is_var(p, ix_var(p, j), &v) && v == j);
    assert_false(ix_is_var(p, ix_shift(p, ix_var(p, j), 1), &v));
    assert_false(ix_is_var(p, ix_mod(p, ix_var(p, i), 9), &v));
    assert_true(ix_uses(p, a, i) && ix_uses(p, a, j) && !ix_uses(p, a, e));
    assert_true(ix_coef(p, a, j, &linear) == 3 && linear);
    assert_true(ix_coef(p, a, i, &linear) == 0 && !linear);
    Strbuf b = { 0 };
    ix_vars(p, a, see, &b);
    assert_string_equal(strbuf_str(&b), "1 2 ");
    strbuf_free(&b);
    IxRange r = ix_range(p, ix_shift(p, ix_var(p, e), 3));
    assert_true(r.lo > r.hi);
    assert_int_equal(ix_const(p, 0), 0);

    Ix map[] = { IX_KEEP, ix_shift(p, ix_scale(p, ix_var(p, j), 9), 2), IX_KEEP };
    assert_int_equal(ix_subst(p, a, map, 3), ix_shift(p, ix_scale(p, ix_var(p, j), 3), 2));
    IxRange rng[] = { { INT64_MIN, 0 }, { 11, 13 }, { INT64_MIN, 0 } };
    r = ix_range_in(p, a, rng, 3);
    assert_true(r.lo == 2 && r.hi == 18 + 4);
    arena_free(arena);
}

/* Divisions of what is guarded: the range holds every point where the guard does. */
static void test_guarded(void **state)
{
    (void)state;
    Rng rng;
    rng_init(&rng, 11, 0);
    for (int round = 0; round < 2000; round++) {
        Arena *arena = arena_new();
        IxPool *p = ix_pool_new(arena);
        const int64_t ns = 2 + (int64_t)rng_below(&rng, 4), nl = 2 + (int64_t)rng_below(&rng, 9);
        const Var s = ix_var_new(p, "s", ns), l = ix_var_new(p, "l", nl);
        const Ix at = ix_add(p, ix_scale(p, ix_var(p, s), 1 + (int64_t)rng_below(&rng, 200)),
                             ix_scale(p, ix_var(p, l), 1 + (int64_t)rng_below(&rng, 20)));
        const int64_t n = 2 + (int64_t)rng_below(&rng, 60), off = (int64_t)rng_below(&rng, 50);
        const int64_t k = 1 + (int64_t)rng_below(&rng, 3), more = (int64_t)rng_below(&rng, 2);
        const Ix ix = ix_shift(p,
                               ix_add(p, ix_scale(p, ix_div(p, ix_shift(p, at, off), n), k),
                                      ix_scale(p, ix_mod(p, ix_var(p, l), 3), more)),
                               -(int64_t)rng_below(&rng, 3));
        const int64_t lo = (int64_t)rng_below(&rng, 40);
        const Guard g = { at, lo, lo + 1 + (int64_t)rng_below(&rng, 400) };
        const IxRange r = ix_range_guarded(p, ix, NULL, 0, &g, 1);
        for (int64_t i = 0; i < ns * nl; i++) {
            const Ix map[] = { IX_KEEP, ix_const(p, i / nl), ix_const(p, i % nl) };
            int64_t x, v;
            assert_true(ix_is_const(p, ix_subst(p, at, map, 3), &x));
            assert_true(ix_is_const(p, ix_subst(p, ix, map, 3), &v));
            if (x < g.lo || x >= g.hi)
                continue;
            assert_true(v >= r.lo && v <= r.hi);
        }
        arena_free(arena);
    }
    Arena *arena = arena_new();
    IxPool *p = ix_pool_new(arena);
    const Ix at = ix_add(p, ix_scale(p, ix_var(p, ix_var_new(p, "s", 3)), 144),
                         ix_scale(p, ix_var(p, ix_var_new(p, "l", 9)), 16));
    const Guard g = { at, 3, 411 };
    const IxRange r =
        ix_range_guarded(p, ix_shift(p, ix_div(p, ix_shift(p, at, 48), 51), -1), NULL, 0, &g, 1);
    assert_true(r.lo == 0 && r.hi == 7);
    arena_free(arena);
}

/* A guard on a quotient and the one on what is divided hold in the same places. */
static void test_undivided(void **state)
{
    (void)state;
    Rng rng;
    rng_init(&rng, 12, 0);
    int found = 0;
    for (int round = 0; round < 2000; round++) {
        Arena *arena = arena_new();
        IxPool *p = ix_pool_new(arena);
        const int64_t count = 2 + (int64_t)rng_below(&rng, 90);
        const Ix i1 = ix_var(p, ix_var_new(p, "i", count)); /* split into 4*i + (4*i) / 7, say */
        const Ix x = ix_shift(p, ix_scale(p, i1, 1 + (int64_t)rng_below(&rng, 40)),
                              (int64_t)rng_below(&rng, 9));
        const Ix q = ix_div(p, x, 2 + (int64_t)rng_below(&rng, 8));
        const int64_t lo = (int64_t)rng_below(&rng, 60) - 20;
        const Guard g = { ix_shift(p, ix_scale(p, q, 1 + (int64_t)rng_below(&rng, 3)),
                                   (int64_t)rng_below(&rng, 9) - 4),
                          rng_below(&rng, 9) ? lo : INT64_MIN,
                          rng_below(&rng, 9) ? lo + (int64_t)rng_below(&rng, 40) : INT64_MAX };
        Guard whole;
        const bool is = ix_guard_undivided(p, &g, &whole);
        found += is;
        for (int64_t i = 0; i < count && is; i++) {
            const Ix map[] = { IX_KEEP, ix_const(p, i) };
            int64_t a, b;
            assert_true(ix_is_const(p, ix_subst(p, g.ix, map, 2), &a));
            assert_true(ix_is_const(p, ix_subst(p, whole.ix, map, 2), &b));
            assert_int_equal(a >= g.lo && a < g.hi, b >= whole.lo && b < whole.hi);
        }
        arena_free(arena);
    }
    assert_true(found > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),         cmocka_unit_test(test_simplifies),
        cmocka_unit_test(test_reshape_undone), cmocka_unit_test(test_reshape_tiles),
        cmocka_unit_test(test_questions),      cmocka_unit_test(test_guarded),
        cmocka_unit_test(test_undivided),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
