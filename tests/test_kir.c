/* SPDX-License-Identifier: Apache-2.0 */
/* kir_verify against a table of programs, most of them wrong in one place; emit_c against an
 * interpreter of KIR, on random programs that the verifier accepts. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "codegen/kernel.h"
#include "codegen/kir.h"
#include "ir/base/rng.h"
#include "tests/cc.h"
#include "tests/kir_interp.h"
#include "tests/kir_make.h"

enum { L = 16 };

/* ---- the verifier: x is f32[8,20] in, y f32[8,20] out, t f32[8,20] shared, p f32[8,20] private */

typedef struct Case {
    Make m;
    BufId x, y, t, p;
} Case;

#define IX(a)      ix_const(c->m.p, (a))
#define ADD(a, b)  ix_add(c->m.p, (a), (b))
#define MUL(a, k)  ix_scale(c->m.p, (a), (k))
#define PLUS(a, k) ix_shift(c->m.p, (a), (k))

static Ix team(Case *c, int64_t n)
{
    return make_loop(&c->m, "r", n, BIND_TEAM);
}
static Ix serial(Case *c, const char *name, int64_t n)
{
    return make_loop(&c->m, name, n, BIND_SERIAL);
}
static void out(Case *c)
{
    make_out(&c->m);
}
static void copy(Case *c, BufId to, BufId from, Ix a, Ix b, int lanes)
{
    make_store(&c->m, to, lanes, make_load(&c->m, from, lanes, a, b), a, b);
}
static Val one(Case *c)
{
    return make_const(&c->m, REG_F32, 1);
}

static void right_map(Case *c)
{
    Ix r = team(c, 8);
    copy(c, c->y, c->x, r, 0, 16);
    copy(c, c->y, c->x, r, IX(16), 4);
    out(c);
}
static void extent_off_by_one(Case *c)
{
    Ix r = team(c, 9);
    make_load(&c->m, c->x, 16, r, 0);
    out(c);
}
static void vector_over_the_row(Case *c)
{
    Ix r = team(c, 8);
    make_load(&c->m, c->x, 16, r, IX(5));
    out(c);
}
static void tail_past_the_end(Case *c)
{
    Ix r = team(c, 8);
    Val v = make_splat(&c->m, one(c));
    make_store(&c->m, c->y, 5, v, r, IX(16));
    out(c);
}
static void below_zero(Case *c)
{
    Ix r = team(c, 8);
    make_load(&c->m, c->x, 0, PLUS(r, -1), 0);
    out(c);
}
static void right_guarded_load(Case *c)
{
    Ix r = team(c, 8);
    KNode *n = make_load_node(&c->m, REG_F32, c->x, 16, PLUS(r, -1), 0, 0);
    make_guard(&c->m, n, PLUS(r, -1), 0, 8);
    make_store(&c->m, c->y, 16, n->dst, r, 0);
    out(c);
}
static void guard_off_by_one(Case *c)
{
    Ix r = team(c, 8);
    KNode *n = make_load_node(&c->m, REG_F32, c->x, 16, PLUS(r, -1), 0, 0);
    make_guard(&c->m, n, PLUS(r, -1), -1, 8);
    out(c);
}
static void right_when(Case *c) /* 16 j + l < 20 */
{
    Ix r = team(c, 8), j = serial(c, "j", 2), l = serial(c, "l", 16);
    Ix at = ADD(MUL(j, 16), l);
    make_when(&c->m, at, 0, 20);
    copy(c, c->y, c->x, r, at, 0);
    out(c);
    out(c);
    out(c);
    out(c);
}
static void when_too_wide(Case *c)
{
    Ix r = team(c, 8), j = serial(c, "j", 2), l = serial(c, "l", 16);
    Ix at = ADD(MUL(j, 16), l);
    make_when(&c->m, at, 0, 21);
    copy(c, c->y, c->x, r, at, 0);
    out(c);
    out(c);
    out(c);
    out(c);
}
static void right_guard_in_division(Case *c) /* (j - 3) / 2 under 0 <= j - 3 < 8 */
{
    Ix r = team(c, 4), j = serial(c, "j", 40);
    KNode *n = make_load_node(&c->m, REG_F32, c->x, 0, ix_div(c->m.p, PLUS(j, -3), 2), r, 0);
    make_guard(&c->m, n, ADD(PLUS(j, -3), r), 3, 11);
    out(c);
    out(c);
}
static void right_never(Case *c)
{
    Ix r = team(c, 8);
    KNode *n = make_load_node(&c->m, REG_F32, c->x, 0, PLUS(r, 100), 0, 0);
    make_guard(&c->m, n, r, 8, 9);
    out(c);
}
static void right_empty_loop(Case *c)
{
    Ix r = team(c, 8), j = serial(c, "j", 0);
    copy(c, c->y, c->x, PLUS(r, 50), j, 0);
    out(c);
    out(c);
}
static void store_not_by_iteration(Case *c)
{
    team(c, 8);
    make_store(&c->m, c->y, 0, one(c), 0, 0);
    out(c);
}
static void tiles_overlap(Case *c) /* 4 b + j, j < 5 */
{
    Ix b = team(c, 4), j = serial(c, "j", 5);
    make_store(&c->m, c->y, 0, one(c), IX(2), ADD(MUL(b, 4), j));
    out(c);
    out(c);
}
static void right_tiles(Case *c)
{
    Ix b = team(c, 5), j = serial(c, "j", 8);
    make_store(&c->m, c->y, 4, make_splat(&c->m, one(c)), j, MUL(b, 4));
    out(c);
    out(c);
}
static void lanes_overlap(Case *c)
{
    Ix b = team(c, 5), j = serial(c, "j", 8);
    make_store(&c->m, c->y, 5, make_splat(&c->m, one(c)), j, MUL(b, 3));
    out(c);
    out(c);
}
static void right_split_dimensions(Case *c) /* element 5 b + j of [8,20] */
{
    Ix b = team(c, 32), j = serial(c, "j", 5);
    Ix at = ADD(MUL(b, 5), j);
    make_store(&c->m, c->y, 0, one(c), ix_div(c->m.p, at, 20), ix_mod(c->m.p, at, 20));
    out(c);
    out(c);
}
static void split_dimensions_collide(Case *c) /* rows of 40, columns of 20 */
{
    Ix b = team(c, 32), j = serial(c, "j", 5);
    Ix at = ADD(MUL(b, 5), j);
    make_store(&c->m, c->y, 0, one(c), ix_div(c->m.p, PLUS(at, 20), 40), ix_mod(c->m.p, at, 20));
    out(c);
    out(c);
}
static void split_dimensions_overlap(Case *c)
{
    Ix b = team(c, 31), j = serial(c, "j", 6);
    Ix at = ADD(MUL(b, 5), j);
    make_store(&c->m, c->y, 0, one(c), ix_div(c->m.p, at, 20), ix_mod(c->m.p, at, 20));
    out(c);
    out(c);
}
static BufId flat(Case *c)
{
    return make_buf(&c->m, "z", DT_F32, BUF_OUT, 1, 64, -1, -1);
}
static void right_inner_team_axis(Case *c) /* 16 s + 2 r + j */
{
    BufId z = flat(c);
    Ix r = team(c, 8), s = serial(c, "s", 4), j = serial(c, "j", 2);
    make_store(&c->m, z, 0, one(c), ADD(ADD(MUL(s, 16), MUL(r, 2)), j), 0);
    out(c);
    out(c);
    out(c);
}
static void inner_team_axis_overlaps(Case *c) /* 15 s + 2 r + j */
{
    BufId z = flat(c);
    Ix r = team(c, 8), s = serial(c, "s", 4), j = serial(c, "j", 2);
    make_store(&c->m, z, 0, one(c), ADD(ADD(MUL(s, 15), MUL(r, 2)), j), 0);
    out(c);
    out(c);
    out(c);
}
static void two_stores_meet(Case *c) /* row r and row r + 1 */
{
    Ix r = team(c, 7);
    make_store(&c->m, c->y, 0, one(c), r, 0);
    make_store(&c->m, c->y, 0, one(c), PLUS(r, 1), 0);
    out(c);
}
static void phases(Case *c, bool barrier, int64_t n, bool mirrored)
{
    Ix r = team(c, 8);
    make_store(&c->m, c->t, 0, one(c), r, 0);
    out(c);
    if (barrier)
        make_put(&c->m, K_BARRIER);
    Ix q = team(c, n), at = mirrored ? PLUS(MUL(q, -1), 7) : q;
    make_store(&c->m, c->y, 0, make_load(&c->m, c->t, 0, at, 0), q, 0);
    out(c);
}
static void right_same_iteration(Case *c)
{
    phases(c, false, 8, false);
}
static void right_with_barrier(Case *c)
{
    phases(c, true, 8, true);
}
static void barrier_missing(Case *c)
{
    phases(c, false, 8, true);
}
static void counts_differ(Case *c)
{
    phases(c, false, 4, false);
}
static void right_counts_differ(Case *c)
{
    phases(c, true, 4, false);
}
static void all_read_what_team_wrote(Case *c)
{
    Ix r = team(c, 8);
    make_store(&c->m, c->t, 0, one(c), r, 0);
    out(c);
    make_store(&c->m, c->p, 0, make_load(&c->m, c->t, 0, IX(3), 0), 0, 0);
}
static void write_after_read(Case *c) /* the next phase overwrites what others still read */
{
    Ix r = team(c, 8);
    make_store(&c->m, c->t, 0, one(c), r, 0);
    out(c);
    make_put(&c->m, K_BARRIER);
    Ix q = team(c, 8);
    make_store(&c->m, c->y, 0, make_load(&c->m, c->t, 0, PLUS(MUL(q, -1), 7), 0), q, 0);
    out(c);
    Ix s = team(c, 8);
    make_store(&c->m, c->t, 0, one(c), s, 0);
    out(c);
}
static void store_by_every_thread(Case *c)
{
    make_store(&c->m, c->y, 0, one(c), 0, 0);
}
static void right_private(Case *c)
{
    Ix j = serial(c, "j", 8);
    make_store(&c->m, c->p, 0, one(c), j, 0);
    out(c);
    Ix r = team(c, 8);
    make_store(&c->m, c->y, 0, make_load(&c->m, c->p, 0, PLUS(MUL(r, -1), 7), 0), r, 0);
    out(c);
}
static void private_phases(Case *c, bool mirrored, bool again)
{
    Ix r = team(c, 8);
    make_store(&c->m, c->p, 0, one(c), r, 0);
    out(c);
    make_put(&c->m, K_BARRIER);
    Ix q = team(c, 8), at = mirrored ? PLUS(MUL(q, -1), 7) : q;
    if (again)
        make_store(&c->m, c->p, 0, one(c), at, 0);
    make_store(&c->m, c->y, 0, make_load(&c->m, c->p, 0, at, 0), q, 0);
    out(c);
}
static void right_private_same_iteration(Case *c)
{
    private_phases(c, false, false);
}
static void right_private_again(Case *c)
{
    private_phases(c, true, true);
}
static void private_of_another_thread(Case *c)
{
    private_phases(c, true, false);
}
static void private_share_read_by_all(Case *c)
{
    Ix r = team(c, 8);
    make_store(&c->m, c->p, 0, one(c), r, 0);
    out(c);
    Ix j = serial(c, "j", 8);
    make_store(&c->m, c->p, 0, make_load(&c->m, c->p, 0, j, 0), j, IX(1));
    out(c);
}
static void read_before_written(Case *c)
{
    Ix r = team(c, 8);
    copy(c, c->y, c->t, r, 0, 0);
    out(c);
}
static void used_before_defined(Case *c)
{
    Ix r = team(c, 8);
    make_store(&c->m, c->y, 0, kir_val(c->m.k, REG_F32, false), r, 0);
    out(c);
}
static void used_out_of_scope(Case *c)
{
    Ix r = team(c, 8);
    serial(c, "j", 3);
    Val v = one(c);
    out(c);
    make_store(&c->m, c->y, 0, v, r, 0);
    out(c);
}
static void defined_twice(Case *c)
{
    Val v = one(c);
    make_put(&c->m, K_CONST)->dst = v;
}
static void right_accumulator(Case *c)
{
    Ix r = team(c, 8);
    Val a = make_node(&c->m, K_ACC, REG_F32, false, one(c), 0, 0)->dst;
    Ix j = serial(c, "j", 20);
    make_set(&c->m, a,
             make_ew(&c->m, OP_add, REG_F32, false, a, make_load(&c->m, c->x, 0, r, j), 0));
    out(c);
    make_store(&c->m, c->y, 0, a, r, 0);
    out(c);
}
static void set_out_of_scope(Case *c)
{
    serial(c, "j", 3);
    Val a = make_node(&c->m, K_ACC, REG_F32, false, one(c), 0, 0)->dst;
    out(c);
    make_set(&c->m, a, one(c));
}
static void set_no_accumulator(Case *c)
{
    Val a = one(c);
    make_set(&c->m, a, one(c));
}
static void types_mixed(Case *c)
{
    make_ew(&c->m, OP_add, REG_F32, false, one(c), make_const(&c->m, REG_I32, 1), 0);
}
static void vector_and_scalar(Case *c)
{
    make_ew(&c->m, OP_add, REG_F32, true, make_splat(&c->m, one(c)), one(c), 0);
}
static void exp_of_an_integer(Case *c)
{
    make_ew(&c->m, OP_exp, REG_I32, false, make_const(&c->m, REG_I32, 1), 0, 0);
}
static void comparison_gives_a_float(Case *c)
{
    make_ew(&c->m, OP_lt, REG_F32, false, one(c), one(c), 0);
}
static void wrong_argument_count(Case *c)
{
    make_ew(&c->m, OP_add, REG_F32, false, one(c), 0, 0);
}
static void bool_stored_as_float(Case *c)
{
    Ix r = team(c, 8);
    make_store(&c->m, c->y, 0, make_const(&c->m, REG_BOOL, 1), r, 0);
    out(c);
}
static void vector_of_i64(Case *c)
{
    make_splat(&c->m, make_const(&c->m, REG_I64, 1));
}
static void too_many_lanes(Case *c)
{
    Ix r = team(c, 8);
    make_load(&c->m, c->x, 17, r, 0);
    out(c);
}
static void variable_out_of_loop(Case *c)
{
    Ix j = serial(c, "j", 3);
    out(c);
    team(c, 8);
    make_load(&c->m, c->x, 0, j, 0);
    out(c);
}
static void barrier_in_a_loop(Case *c)
{
    serial(c, "j", 3);
    make_put(&c->m, K_BARRIER);
    out(c);
}
static void team_in_team(Case *c)
{
    team(c, 8);
    team(c, 8);
    out(c);
    out(c);
}
static void store_to_an_input(Case *c)
{
    Ix r = team(c, 8);
    make_store(&c->m, c->x, 0, one(c), r, 0);
    out(c);
}
static void workspace_too_small(Case *c)
{
    c->m.k->shared_bytes = 8 * 20 * 4 - 1;
}
static void workspaces_overlap(Case *c)
{
    make_buf(&c->m, "u", DT_F32, BUF_SHARED, 8 * 20 * 4 - 4, 4, -1, -1);
}
static void in_place(Case *c, bool mirrored)
{
    c->m.k->buf[c->x].aliased = c->m.k->buf[c->y].aliased = true;
    Ix r = team(c, 8);
    Val v = make_load(&c->m, c->x, 0, mirrored ? PLUS(MUL(r, -1), 7) : r, 0);
    make_store(&c->m, c->y, 0, v, r, 0);
    out(c);
}
static void right_in_place(Case *c)
{
    in_place(c, false);
}
static void in_place_elsewhere(Case *c)
{
    in_place(c, true);
}

#define RIGHT(f)                                                                                   \
    {                                                                                              \
#f, f, NULL                                                                                \
    }
#define WRONG(f, text)                                                                             \
    {                                                                                              \
#f, f, text                                                                                \
    }
static const struct {
    const char *name;
    void (*make)(Case *c);
    const char *message; /* a part of it; NULL: accepted */
} CASE[] = {
    RIGHT(right_map),
    RIGHT(right_guarded_load),
    RIGHT(right_when),
    RIGHT(right_guard_in_division),
    RIGHT(right_never),
    RIGHT(right_empty_loop),
    RIGHT(right_tiles),
    RIGHT(right_split_dimensions),
    RIGHT(right_inner_team_axis),
    RIGHT(right_same_iteration),
    RIGHT(right_with_barrier),
    RIGHT(right_counts_differ),
    RIGHT(right_private),
    RIGHT(right_private_same_iteration),
    RIGHT(right_private_again),
    RIGHT(right_accumulator),
    RIGHT(right_in_place),
    WRONG(extent_off_by_one, "load of x, dimension 0: r in [0,8], not in [0,8)"),
    WRONG(vector_over_the_row, "load of x, dimension 1: 5 (all lanes) in [5,20], not in [0,20)"),
    WRONG(tail_past_the_end, "store of y, dimension 1: 16 (all lanes) in [16,20]"),
    WRONG(below_zero, "load of x, dimension 0: r-1 in [-1,6]"),
    WRONG(guard_off_by_one, "load of x, dimension 0: r-1 in [-1,6]"),
    WRONG(when_too_wide, "of x, dimension 1: 16*j+l in [0,20], not in [0,20)"),
    WRONG(store_not_by_iteration, "different iterations of r store to the same element of y"),
    WRONG(tiles_overlap, "different iterations of r store to the same element of y"),
    WRONG(lanes_overlap, "different iterations of r store to the same element of y"),
    WRONG(split_dimensions_collide, "different iterations of r store to the same element of y"),
    WRONG(split_dimensions_overlap, "different iterations of r store to the same element of y"),
    WRONG(inner_team_axis_overlaps, "different iterations of r store to the same element of z"),
    WRONG(two_stores_meet, "no barrier between a store to y"),
    WRONG(barrier_missing, "no barrier between a store to t"),
    WRONG(counts_differ, "no barrier between a store to t"),
    WRONG(all_read_what_team_wrote, "no barrier between a store to t"),
    WRONG(write_after_read, "no barrier between a store to t"),
    WRONG(store_by_every_thread, "every thread stores to y"),
    WRONG(private_of_another_thread, "private p"),
    WRONG(private_share_read_by_all, "private p"),
    WRONG(read_before_written, "t is read before it is written"),
    WRONG(used_before_defined, "before it is defined"),
    WRONG(used_out_of_scope, "out of its scope"),
    WRONG(defined_twice, "defined twice"),
    WRONG(set_out_of_scope, "out of its scope"),
    WRONG(set_no_accumulator, "no accumulator"),
    WRONG(types_mixed, "wanted f32"),
    WRONG(vector_and_scalar, "wanted vector of f32"),
    WRONG(exp_of_an_integer, "exp is for floats"),
    WRONG(comparison_gives_a_float, "lt gives a bool"),
    WRONG(wrong_argument_count, "add of 1 arguments"),
    WRONG(bool_stored_as_float, "does not hold what f32 is"),
    WRONG(vector_of_i64, "a vector of i64"),
    WRONG(too_many_lanes, "17 lanes"),
    WRONG(variable_out_of_loop, "index j uses j outside of its loop"),
    WRONG(barrier_in_a_loop, "a barrier inside"),
    WRONG(team_in_team, "inside a team loop"),
    WRONG(store_to_an_input, "a store to the input x"),
    WRONG(workspace_too_small, "t: bytes [0,640) of a workspace of 639"),
    WRONG(workspaces_overlap, "t and u share memory"),
    WRONG(in_place_elsewhere, "no barrier between a store to y"),
};

static void test_verify(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof CASE / sizeof *CASE; i++) {
        Case c = { .m = make_new(L) };
        c.x = make_buf(&c.m, "x", DT_F32, BUF_IN, 0, 8, 20, -1);
        c.y = make_buf(&c.m, "y", DT_F32, BUF_OUT, 0, 8, 20, -1);
        c.t = make_buf(&c.m, "t", DT_F32, BUF_SHARED, 0, 8, 20, -1);
        c.p = make_buf(&c.m, "p", DT_F32, BUF_PRIVATE, 0, 8, 20, -1);
        CASE[i].make(&c);
        Ctx cx;
        ctx_init(&cx);
        const Status s = kir_verify(&cx, c.m.k);
        if (!CASE[i].message && s != ST_OK)
            fail_msg("%s: refused: %s", CASE[i].name, cx.msg);
        if (CASE[i].message && s == ST_OK)
            fail_msg("%s: accepted", CASE[i].name);
        if (CASE[i].message && !strstr(cx.msg, CASE[i].message))
            fail_msg("%s: refused because %s", CASE[i].name, cx.msg);
        Strbuf text = { 0 };
        kir_print(c.m.k, &text);
        assert_non_null(strstr(strbuf_str(&text), "in x: f32[8,20]   arg 0"));
        strbuf_free(&text);
        arena_free(c.m.arena);
    }
}

/* ---- emit_c against the interpreter: random programs over small integers, exact in any order */

enum { NKERNEL = 12, MAX_POOL = 64, NTHREADS = 3 };

typedef struct Pool { /* values at hand, by type; [1]: vectors */
    Val val[MAX_POOL];
    int n;
} Pool;

typedef struct Program {
    Make m;
    Rng *rng;
    Pool pool[4][2];
    int64_t rows, cols;
    BufId x[6], y[6], sum, t, scratch;
} Program;

static const DType DTYPE[6] = { DT_F32, DT_F16, DT_BF16, DT_I32, DT_U8, DT_BOOL };
static const RegType REG_OF[6] = { REG_F32, REG_F32, REG_F32, REG_I32, REG_I32, REG_BOOL };

static uint64_t below(Program *g, uint64_t n)
{
    return rng_below(g->rng, n);
}

static void keep(Program *g, Val v)
{
    const ValInfo t = g->m.k->val[v];
    Pool *p = &g->pool[t.reg][t.vec];
    if (p->n < MAX_POOL)
        p->val[p->n++] = v;
}

static Val pick(Program *g, RegType reg, bool vec)
{
    Pool *p = &g->pool[reg][vec];
    return p->val[below(g, (uint64_t)p->n)];
}

/* Brings a number back to where products stay exact. */
static Val tame(Program *g, Val v, RegType reg, bool vec)
{
    Val lo = make_const(&g->m, reg, -9), hi = make_const(&g->m, reg, 100);
    if (vec) {
        lo = make_splat(&g->m, lo);
        hi = make_splat(&g->m, hi);
    }
    return make_ew(&g->m, OP_max, reg, vec, make_ew(&g->m, OP_min, reg, vec, v, hi, 0), lo, 0);
}

static void random_ew(Program *g, bool vec)
{
    static const Op NUMBER[] = { OP_add, OP_sub, OP_mul, OP_max, OP_min, OP_neg, OP_abs, OP_floor };
    static const Op COMPARE[] = { OP_lt, OP_le, OP_eq };
    static const Op LOGIC[] = { OP_and, OP_or, OP_not, OP_eq, OP_max, OP_min };
    static const RegType CAST[] = { REG_F32, REG_I32, REG_BOOL, REG_I64 };
    Make *m = &g->m;
    const RegType reg = (RegType[]){ REG_F32, REG_I32, REG_I64 }[below(g, vec ? 2 : 3)];
    Val v;
    switch (below(g, 6)) {
    case 0: {
        const Op op = COMPARE[below(g, 3)];
        v = make_ew(m, op, REG_BOOL, vec, pick(g, reg, vec), pick(g, reg, vec), 0);
        break;
    }
    case 1: {
        const Op op = LOGIC[below(g, 6)];
        v = make_ew(m, op, REG_BOOL, vec, pick(g, REG_BOOL, vec),
                    op == OP_not ? 0 : pick(g, REG_BOOL, vec), 0);
        break;
    }
    case 2:
        v = make_ew(m, OP_select, reg, vec, pick(g, REG_BOOL, vec), pick(g, reg, vec),
                    pick(g, reg, vec));
        break;
    case 3:
        v = make_ew(m, OP_cast, reg, vec, pick(g, CAST[below(g, vec ? 3 : 4)], vec), 0, 0);
        break;
    default: {
        const Op op = NUMBER[below(g, 8)];
        v = make_ew(m, op, reg, vec, pick(g, reg, vec),
                    op_info[op].nargs == 2 ? pick(g, reg, vec) : 0, 0);
        if (reg == REG_I32 && below(g, 4) == 0)
            v = make_ew(m, OP_div, reg, vec, v, pick(g, reg, vec), 0);
        v = tame(g, v, reg, vec);
    }
    }
    keep(g, v);
}

static void scalar_leaves(Program *g, Ix r)
{
    Make *m = &g->m;
    keep(g, make_const(m, REG_F32, (double)below(g, 9) - 4));
    keep(g, make_const(m, REG_I32, (double)below(g, 9) - 4));
    keep(g, make_const(m, REG_I64, (double)below(g, 9) - 4));
    keep(g, make_const(m, REG_BOOL, (double)below(g, 2)));
    for (int i = 0; i < 6; i++)
        keep(g, make_load_node(m, REG_OF[i], g->x[i], 0, r,
                               ix_const(m->p, (int64_t)below(g, (uint64_t)g->cols)), 0)
                    ->dst);
    for (int wide = 0; wide < 2; wide++) {
        KNode *n = make_put(m, K_INDEX);
        n->ix = make_ix(m, ix_div(m->p, ix_shift(m->p, ix_scale(m->p, r, 3), 1), 2), 0, 0);
        n->dst = kir_val(m->k, wide ? REG_I64 : REG_I32, false);
        keep(g, n->dst);
    }
}

/* rand is a fraction: times 16, floored, it is one of the small integers. */
static Val random_rand(Program *g, Ix r, bool vec)
{
    Make *m = &g->m;
    KNode *at = make_put(m, K_INDEX);
    at->ix = make_ix(m, ix_scale(m->p, r, (int64_t)below(g, 9)), 0, 0);
    at->dst = kir_val(m->k, REG_I64, false);
    Val key = make_const(m, REG_I32, (double)below(g, 1000) - 500);
    Val wide = make_const(m, REG_I64, 12);
    KNode *n = make_put(m, K_RAND);
    for (int i = 0; i < 4; i++)
        n->arg[i] = i == 2 ? wide : key;
    n->arg[4] = at->dst;
    n->nargs = 5;
    n->dst = kir_val(m->k, REG_F32, vec);
    Val k = make_const(m, REG_F32, 16);
    Val v = make_ew(m, OP_mul, REG_F32, vec, n->dst, vec ? make_splat(m, k) : k, 0);
    return make_ew(m, OP_floor, REG_F32, vec, v, 0, 0);
}

static void vector_leaves(Program *g, Ix r, Ix col, int lanes)
{
    Make *m = &g->m;
    for (int i = 0; i < 6; i++) {
        KNode *n = make_load_node(m, REG_OF[i], g->x[i], lanes, r, col, 0);
        n->value = 2;
        keep(g, n->dst);
        const Ix next = ix_shift(m->p, r, below(g, 2) ? -1 : 1);
        n = make_load_node(m, REG_OF[i], g->x[i], lanes, next, col, 0);
        n->value = 3;
        make_guard(m, n, next, 0, g->rows);
        if (below(g, 2))
            make_guard(m, n, col, 1, 1000);
        keep(g, n->dst);
    }
    const RegType reg = (RegType)below(g, 2);
    keep(g, make_splat(m, pick(g, reg, false)));
    keep(g, make_splat(m, pick(g, REG_BOOL, false)));
    keep(g, random_rand(g, r, true));
    KNode *n = make_put(m, K_INDEX);
    n->ix = make_ix(m, ix_add(m->p, col, r), 0, 0);
    n->dst = kir_val(m->k, REG_I32, true);
    keep(g, n->dst);
    for (int kind = 0; kind < 3; kind++) {
        const RegType k = (RegType[]){ REG_F32, REG_I32, REG_BOOL }[kind];
        n = make_put(m, K_LANES);
        n->lanes = (uint8_t)(1 + below(g, (uint64_t)m->k->lanes));
        n->args = arena_array(m->arena, Val, n->lanes);
        for (int i = 0; i < n->lanes; i++)
            n->args[i] = pick(g, k, false);
        n->value = 1;
        n->dst = kir_val(m->k, k, true);
        keep(g, n->dst);
        n = make_node(m, K_LANE, k, false, pick(g, k, true), 0, 0);
        n->lanes = (uint8_t)below(g, (uint64_t)m->k->lanes);
        keep(g, n->dst);
        if (k == REG_BOOL)
            make_store(m, g->y[5], 0, n->dst, r, col); /* a true lane is 1, not -1 */
    }
}

/* Forgets what was made in a scope that is being closed. */
static void forget(Program *g, Pool (*saved)[2])
{
    memcpy(g->pool, saved, sizeof g->pool);
}

static void chunk(Program *g, Ix r, Ix col, int lanes, Val acc)
{
    Make *m = &g->m;
    Pool saved[4][2];
    memcpy(saved, g->pool, sizeof saved);
    vector_leaves(g, r, col, lanes);
    for (int i = 0; i < 14; i++)
        random_ew(g, i % 3 != 0);
    KNode *t = make_node(m, K_TAIL, REG_F32, true, pick(g, REG_F32, true), 0, 0);
    t->lanes = (uint8_t)lanes;
    t->value = -1;
    make_set(m, acc, make_ew(m, OP_add, REG_F32, true, acc, t->dst, 0));
    for (int i = 0; i < 5; i++)
        make_store(m, g->y[i], lanes, pick(g, REG_OF[i], true), r, col);
    if (below(g, 2))
        make_store(m, g->y[5], lanes, pick(g, REG_BOOL, true), r, col);
    forget(g, saved);
}

static void store_scalars(Program *g, Ix r, Ix col)
{
    for (int i = 0; i < 6; i++)
        make_store(&g->m, g->y[i], 0, pick(g, REG_OF[i], false), r, col);
}

static void program_make(Program *g, Rng *rng, int lanes)
{
    *g = (Program){ .m = make_new(lanes), .rng = rng };
    Make *m = &g->m;
    g->rows = 1 + (int64_t)below(g, 9);
    g->cols = 1 + (int64_t)below(g, 3 * (uint64_t)lanes);
    for (uint32_t i = 0; i < 6; i++) {
        g->x[i] = make_buf(m, arena_printf(m->arena, "x%u", i), DTYPE[i], BUF_IN, i, g->rows,
                           g->cols, -1);
        g->y[i] = make_buf(m, arena_printf(m->arena, "y%u", i), DTYPE[i], BUF_OUT, i, g->rows,
                           g->cols, -1);
    }
    g->sum = make_buf(m, "sum", DT_F32, BUF_OUT, 6, g->rows, -1, -1);
    g->t = make_buf(m, "t", DT_F32, BUF_SHARED, 64, g->rows, -1, -1);
    g->scratch = make_buf(m, "v1", DT_I64, BUF_PRIVATE, 128, 3, -1, -1); /* a name to be changed */
    m->k->private_bytes = 4096;
}

static void program_fill(Program *g)
{
    Make *m = &g->m;
    const int lanes = m->k->lanes;
    Pool none[4][2];
    memcpy(none, g->pool, sizeof none);
    make_put(m, K_NOTE)->text = "rows, then their sums from the other end */";
    Ix r = make_loop(m, "r", g->rows, BIND_TEAM);
    scalar_leaves(g, r);
    for (int i = 0; i < 6; i++)
        random_ew(g, false);
    Val acc = make_node(m, K_ACC, REG_F32, true, make_splat(m, pick(g, REG_F32, false)), 0, 0)->dst;
    if (g->cols >= lanes) {
        Ix j = make_loop(m, "j", g->cols / lanes, below(g, 2) ? BIND_SERIAL : BIND_UNROLL);
        chunk(g, r, ix_scale(m->p, j, lanes), lanes, acc);
        make_out(m);
    }
    if (g->cols % lanes)
        chunk(g, r, ix_const(m->p, g->cols / lanes * lanes), (int)(g->cols % lanes), acc);
    KNode *red = make_node(m, K_REDUCE, REG_F32, false, acc, 0, 0);
    red->ew = (uint16_t)(Op[]){ OP_add, OP_max, OP_min }[below(g, 3)];
    make_store(m, g->t, 0, red->dst, r, 0);
    make_store(m, g->scratch, 0, pick(g, REG_I64, false), ix_const(m->p, 2), 0);
    KNode *back = make_load_node(m, REG_I64, g->scratch, 0, ix_const(m->p, 2), 0, 0);
    keep(g, back->dst);
    for (int i = 0; i < 4; i++)
        random_ew(g, false);
    Ix j = make_loop(m, "j", g->cols, BIND_SERIAL);
    make_when(m, ix_mod(m->p, ix_add(m->p, j, r), 3), 1, 3);
    store_scalars(g, r, j);
    make_out(m);
    make_out(m);
    make_out(m);
    forget(g, none);
    make_put(m, K_BARRIER);
    Ix q = make_loop(m, "r", g->rows, BIND_TEAM);
    Ix other = ix_shift(m->p, ix_scale(m->p, q, -1), g->rows - 1);
    make_store(m, g->sum, 0, make_load_node(m, REG_F32, g->t, 0, other, 0, 0)->dst, q, 0);
    make_out(m);
}

/* ---- running both */

typedef struct gtc_team {
    int tid, nt;
    void *bar;
    void (*barrier)(void *);
} gtc_team;
typedef void KernelFn(void *const *arg, const gtc_team *team);

typedef struct Thread {
    pthread_t id;
    KernelFn *fn;
    void *const *arg;
    gtc_team team;
} Thread;

static void wait_barrier(void *bar)
{
    pthread_barrier_wait(bar);
}

static void *run_thread(void *arg)
{
    Thread *t = arg;
    t->fn(t->arg, &t->team);
    return NULL;
}

static void run_compiled(KernelFn *fn, void *const *arg, int nt)
{
    Thread thread[NTHREADS];
    pthread_barrier_t bar;
    pthread_barrier_init(&bar, NULL, (unsigned)nt);
    for (int t = 0; t < nt; t++) {
        thread[t] = (Thread){ .fn = fn, .arg = arg, .team = { t, nt, &bar, wait_barrier } };
        assert_int_equal(pthread_create(&thread[t].id, NULL, run_thread, &thread[t]), 0);
    }
    for (int t = 0; t < nt; t++)
        pthread_join(thread[t].id, NULL);
    pthread_barrier_destroy(&bar);
}

enum { NARG = 15, ROOM = 8192 };

static void fill_inputs(Program *g, unsigned char (*mem)[ROOM])
{
    for (int i = 0; i < 6; i++)
        for (int64_t e = 0; e < g->rows * g->cols; e++) {
            const int x = (int)below(g, 17) - (i == 4 ? 0 : 8);
            const float f = (float)x;
            const uint16_t h = i == 1 ? interp_narrow(f, 10, 15) : interp_narrow(f, 7, 127);
            if (i == 0)
                memcpy(mem[i] + 4 * e, &f, 4);
            else if (i == 3)
                memcpy(mem[i] + 4 * e, &x, 4);
            else if (i < 3)
                memcpy(mem[i] + 2 * e, &h, 2);
            else
                mem[i][e] = (unsigned char)(i == 5 ? x & 1 : x);
        }
}

/* Kernels are compiled without signed zeros: all zeros become +0. */
static void one_zero(unsigned char *p, size_t bytes)
{
    for (size_t i = 0; bytes && i + bytes <= ROOM; i += bytes) {
        unsigned char zero[4] = { 0 };
        zero[bytes - 1] = 0x80;
        if (!memcmp(p + i, zero, bytes))
            p[i + bytes - 1] = 0;
    }
}

/* Each argument is its own block with a red zone, which must not change. */
static void program_run(Program *g, KernelFn *fn, const char *who)
{
    static unsigned char start[NARG][ROOM], want[NARG][ROOM], got[NARG][ROOM];
    static unsigned char private_want[NTHREADS * 4096], private_got[NTHREADS * 4096];
    void *arg_want[NARG], *arg_got[NARG];
    memset(start, 0xa5, sizeof start);
    fill_inputs(g, start);
    for (int nt = 1; nt <= NTHREADS; nt += NTHREADS - 1) {
        memcpy(want, start, sizeof want);
        memcpy(got, start, sizeof got);
        for (int i = 0; i < NARG; i++) {
            arg_want[i] = want[i];
            arg_got[i] = got[i];
        }
        arg_want[14] = private_want;
        arg_got[14] = private_got;
        kir_interpret(g->m.k, arg_want, nt, g->m.nvar);
        run_compiled(fn, arg_got, nt);
        for (int a = 6; a < 13; a++) {
            one_zero(want[a], a == 6 || a == 12 ? 4 : a < 9 ? 2 : 0);
            one_zero(got[a], a == 6 || a == 12 ? 4 : a < 9 ? 2 : 0);
        }
        for (int a = 0; a < 14; a++)
            if (memcmp(want[a], got[a], ROOM)) {
                size_t at = 0;
                while (want[a][at] == got[a][at])
                    at++;
                Strbuf text = { 0 };
                kir_print(g->m.k, &text);
                emit_c(g->m.k, "k", NULL, &text);
                fail_msg("%s, %d threads: argument %d differs at byte %zu\n%s", who, nt, a, at,
                         strbuf_str(&text));
            }
    }
}

static void test_emit(void **state)
{
    (void)state;
    int done = 0;
    for (int cc = 0; cc < CC_COUNT; cc++)
        for (int lanes = 4; lanes <= 16; lanes *= 2) {
            if (!cc_present(cc) || !cc_march(lanes))
                continue;
            Program *g = calloc(NKERNEL, sizeof *g);
            Rng rng;
            rng_init(&rng, 7, (uint64_t)lanes);
            Strbuf text = { 0 };
            strbuf_add(&text, kernel_prelude_c(lanes));
            for (int i = 0; i < NKERNEL; i++) {
                char name[16];
                snprintf(name, sizeof name, "k%d", i);
                program_make(&g[i], &rng, lanes);
                program_fill(&g[i]);
                Ctx cx;
                ctx_init(&cx);
                if (kir_verify(&cx, g[i].m.k) != ST_OK)
                    fail_msg("program %d is refused: %s", i, cx.msg);
                emit_c(g[i].m.k, name, "a random program\nof /* two */ lines", &text);
            }
            void *lib = cc_load(cc, lanes, cc == 0, strbuf_str(&text));
            if (!lib)
                fail_msg("%s does not compile:\n%s", CC_NAME[cc],
                         strstr(strbuf_str(&text), "a random program"));
            for (int i = 0; i < NKERNEL; i++) {
                char name[16], who[64];
                snprintf(name, sizeof name, "k%d", i);
                snprintf(who, sizeof who, "%s, %d lanes, program %d", CC_NAME[cc], lanes, i);
                KernelFn *fn;
                CC_SYMBOL(lib, name, fn);
                program_run(&g[i], fn, who);
                arena_free(g[i].m.arena);
            }
            dlclose(lib);
            strbuf_free(&text);
            free(g);
            done++;
        }
    if (!done) {
        print_message("no C compiler here\n");
        exit(77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_verify),
                                        cmocka_unit_test(test_emit) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
