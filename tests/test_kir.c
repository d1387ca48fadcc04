/* SPDX-License-Identifier: Apache-2.0 */
/* kir_verify against a table of programs, most of them wrong in one place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_verify) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
