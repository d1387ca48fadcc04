/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle can fail: what is right passes and what is a little wrong does not.
 *
 * Right is the evaluator that rounds after every op, over random graphs of every dtype and op.
 * Wrong are its results with one element moved, a tail zeroed, two rows swapped, a last term
 * missing; each is caught wherever it moves an element out of what the graph can be. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ir/autodiff.h"
#include "ir/base/rng.h"
#include "ir/oracle.h"
#include "ir/text.h"
#include "tests/random_graph.h"

enum { MOST = 64 };

typedef struct Run {
    Ctx cx;
    Arena *arena;
    const Graph *g;
    OracleTensor in[MOST], out[MOST];
} Run;

#define OK(r, call)                                                                                \
    do {                                                                                           \
        if ((call) != ST_OK)                                                                       \
            fail_msg("%s: %s", #call, (r)->cx.msg);                                                \
    } while (0)

static void run_open(Run *r)
{
    ctx_init(&r->cx);
    r->arena = arena_new();
}

static void run_close(Run *r)
{
    arena_free(r->arena);
}

static void fill(Run *r, uint64_t seed)
{
    for (uint32_t i = 0; i < r->g->ninput; i++) {
        Tensor t = tensor_new(r->arena, r->g->node[r->g->input[i]].type);
        Rng rng;
        rng_init(&rng, seed, i);
        for (int64_t k = 0; k < shape_count(&t.type.shape); k++)
            t.at[k] = dtype_is_float(t.type.dt)
                          ? round_to(t.type.dt, rng_normal(&rng))
                          : (double)rng_below(&rng, t.type.dt == DT_BOOL ? 2 : 4);
        r->in[i] = oracle_exact(r->arena, &t);
    }
}

static void ask(Run *r)
{
    OK(r, oracle_graph(&r->cx, r->g, r->arena, r->in, r->out));
}

static void parse(Run *r, const char *text)
{
    Graph *g;
    run_open(r);
    OK(r, graph_parse(&r->cx, r->arena, "test", text, &g));
    r->g = g;
    fill(r, 1);
}

static Tensor copy_of(Run *r, const Tensor *t)
{
    Tensor c = tensor_new(r->arena, t->type);
    memcpy(c.at, t->at, (size_t)shape_count(&t->type.shape) * sizeof *c.at);
    return c;
}

static bool passes(const OracleTensor *want, const Tensor *got, OracleLimits limits)
{
    OracleReport report = { .worst = 0 };
    return oracle_compare(want, got, &limits, &report);
}

static const OracleLimits all_tests;

/* ------------------------------------------------------------ random graphs */

typedef struct Count {
    OracleReport report;
    int graphs, moved, missed, tails, tails_missed, rows, rows_missed;
} Count;

static bool leaves(const OracleTensor *want, int64_t i, double x)
{
    return isfinite(want->lo[i]) && isfinite(want->hi[i]) && (x < want->lo[i] || x > want->hi[i]);
}

/* One element to just beyond an end, at random. */
static void move_one(Run *r, const OracleTensor *want, Rng *rng, Count *count)
{
    const int64_t n = shape_count(&want->ref.type.shape), i = (int64_t)rng_below(rng, (uint64_t)n);
    Tensor got = copy_of(r, &want->rounded);
    const double end = rng_below(rng, 2) ? want->lo[i] : want->hi[i];
    got.at[i] = end + 1.01 * (end - want->ref.at[i]) + (end == want->ref.at[i] ? 1e-30 : 0);
    if (!leaves(want, i, got.at[i]))
        return;
    count->moved++;
    count->missed += passes(want, &got, all_tests);
}

static void zero_tail(Run *r, const OracleTensor *want, Rng *rng, Count *count)
{
    const int64_t n = shape_count(&want->ref.type.shape);
    const int64_t from = n - 1 - (int64_t)rng_below(rng, (uint64_t)(n < 16 ? n : 16));
    Tensor got = copy_of(r, &want->rounded);
    bool visible = false;
    for (int64_t i = from < 0 ? 0 : from; i < n; i++) {
        got.at[i] = 0;
        visible |= leaves(want, i, 0);
    }
    count->tails += visible;
    count->tails_missed += visible && passes(want, &got, all_tests);
}

static void swap_rows(Run *r, const OracleTensor *want, Rng *rng, Count *count)
{
    const Shape *s = &want->ref.type.shape;
    if (s->rank == 0 || s->dim[0] < 2)
        return;
    const int64_t row = shape_count(s) / s->dim[0];
    const int64_t a = (int64_t)rng_below(rng, (uint64_t)s->dim[0] - 1), b = a + 1;
    Tensor got = copy_of(r, &want->rounded);
    bool visible = false;
    for (int64_t i = 0; i < row; i++) {
        got.at[a * row + i] = want->rounded.at[b * row + i];
        got.at[b * row + i] = want->rounded.at[a * row + i];
        visible |= leaves(want, a * row + i, got.at[a * row + i]);
    }
    count->rows += visible;
    count->rows_missed += visible && passes(want, &got, all_tests);
}

static void check_outputs(Run *r, uint64_t seed, Count *count)
{
    Rng rng;
    rng_init(&rng, seed, 99);
    for (uint32_t o = 0; o < r->g->nout; o++) {
        const OracleTensor *want = &r->out[o];
        if (!oracle_compare(want, &want->rounded, &all_tests, &count->report))
            fail_msg("seed %llu, output %u %s: %s", (unsigned long long)seed, o,
                     type_str(&want->ref.type), count->report.text);
        if (shape_count(&want->ref.type.shape) == 0)
            continue;
        move_one(r, want, &rng, count);
        zero_tail(r, want, &rng, count);
        swap_rows(r, want, &rng, count);
    }
}

/* Two steps: what the first leaves in params and states goes into the second. */
static void check_graph(uint64_t seed, const RandomOptions *opt, Count *count)
{
    Run r;
    run_open(&r);
    Graph *g = random_graph(&r.cx, r.arena, seed, opt), *expanded = graph_new(r.arena);
    OK(&r, autodiff_expand(&r.cx, g, expanded));
    r.g = expanded;
    if (expanded->ninput <= MOST && expanded->nout <= MOST) {
        fill(&r, seed);
        for (int step = 0; step < 2; step++) {
            ask(&r);
            check_outputs(&r, seed, count);
            for (uint32_t o = 0; o < expanded->nout; o++)
                for (uint32_t i = 0; i < expanded->ninput; i++)
                    if (expanded->out[o].replaces == expanded->input[i])
                        r.in[i] = r.out[o];
        }
        count->graphs++;
    }
    run_close(&r);
}

static void tell(const Count *c)
{
    const OracleReport *r = &c->report;
    print_message("%d graphs, %lld elements, %lld undecided, %lld loose; worst %.3f of a bound, "
                  "%.3f of an RMSE\n",
                  c->graphs, (long long)r->elements, (long long)r->undecided, (long long)r->loose,
                  r->worst, r->worst_rmse);
    print_message("missed: %d of %d moved elements, %d of %d zeroed tails, %d of %d swapped rows\n",
                  c->missed, c->moved, c->tails_missed, c->tails, c->rows_missed, c->rows);
}

static void rounded_passes_and_faults_do_not(void **state)
{
    (void)state;
    Count count = { .graphs = 0 };
    for (uint64_t seed = 1; seed <= 150; seed++) {
        const RandomOptions opt = { .nodes = 8 + (int)(seed % 5) * 5,
                                    .max_count = 512,
                                    .grads = seed % 2,
                                    .bodies = seed % 3 == 0,
                                    .random = true,
                                    .tame = true };
        check_graph(seed, &opt, &count);
    }
    tell(&count);
    assert_int_equal(count.missed + count.tails_missed + count.rows_missed, 0);
    assert_true(count.moved > 300 && count.tails > 200 && count.rows > 100);
    assert_true((count.report.undecided + count.report.loose) * 50 <= count.report.elements);
}

/* 16-bit floats, all integers, empty tensors, values that overflow and are no numbers. */
static void rounded_passes_in_every_dtype(void **state)
{
    (void)state;
    Count count = { .graphs = 0 };
    for (uint64_t seed = 1; seed <= 150; seed++) {
        const RandomOptions opt = { .nodes = 20,
                                    .max_count = 256,
                                    .dtypes = true,
                                    .zeros = true,
                                    .bodies = seed % 2,
                                    .random = true };
        check_graph(seed, &opt, &count);
    }
    tell(&count);
    assert_int_equal(count.missed + count.tails_missed + count.rows_missed, 0);
    assert_true(count.moved > 100);
}

/* ------------------------------------------------------------ single faults */

static void a_missing_term_is_seen(void **state)
{
    (void)state;
    static const int64_t sizes[] = { 2, 33, 129, 1000 };
    for (int k = 0; k < 4; k++) {
        Run r;
        char text[256];
        snprintf(text, sizeof text,
                 "graph (%%x: f32[7,%lld]) {\n  %%s = sum %%x axes=[1] : f32[7]\n  return %%s\n}\n",
                 (long long)sizes[k]);
        parse(&r, text);
        ask(&r);
        Tensor got = copy_of(&r, &r.out[0].rounded);
        assert_true(passes(&r.out[0], &got, all_tests));
        for (int i = 0; i < 7; i++) {
            const double last = r.in[0].ref.at[(i + 1) * sizes[k] - 1], whole = got.at[i];
            if (fabs(last) < 1e-2)
                continue;
            got.at[i] = whole - last;
            assert_false(passes(&r.out[0], &got, all_tests));
            got.at[i] = whole;
        }
        run_close(&r);
    }
}

static void masks_and_integers_are_compared(void **state)
{
    (void)state;
    Run r;
    parse(&r, "graph (%x: f32[9], %i: i32[9]) {\n"
              "  %a = exp %x : f32[9]\n"
              "  %z = const 0 : f32[9]\n"
              "  %d = div %z, %z : f32[9]\n"
              "  %e = div %x, %z : f32[9]\n"
              "  %j = add %i, %i : i32[9]\n"
              "  return %a, %d, %e, %j\n}\n");
    ask(&r);
    for (int o = 0; o < 4; o++) {
        const OracleTensor *want = &r.out[o];
        Tensor got = copy_of(&r, &want->rounded);
        assert_true(passes(want, &got, all_tests));
        const double fault[4] = { NAN, 0, NAN, want->ref.at[4] + 1 };
        got.at[4] = fault[o];
        assert_false(passes(want, &got, all_tests));
        assert_false(passes(want, &got, (OracleLimits){ true, true }));
        got.at[4] = o == 2 ? -want->ref.at[4] : want->rounded.at[4]; /* -inf for inf */
        assert_true(passes(want, &got, all_tests));
        got.at[4] = o == 0 ? INFINITY : fault[o];
        assert_false(passes(want, &got, all_tests));
    }
    run_close(&r);
}

/* Each test by itself: a moved element that RMSE is blind to, and a drift that no element shows. */
static void each_test_can_be_off(void **state)
{
    (void)state;
    Run r;
    const OracleLimits no_bound = { .skip_bound = true }, no_rmse = { .skip_rmse = true };
    parse(&r, "graph (%x: f32[64,512], %y: f32[512,64]) {\n"
              "  %a = matmul %x, %y : f32[64,64]\n  return %a\n}\n");
    ask(&r);
    const OracleTensor *want = &r.out[0];
    Tensor got = copy_of(&r, &want->rounded);
    got.at[77] = 2 * want->hi[77] - want->ref.at[77] + 1e-6;
    assert_false(passes(want, &got, no_rmse));
    got = copy_of(&r, &want->rounded);
    for (int64_t i = 0; i < 64 * 64; i++)
        got.at[i] += .5 * (want->hi[i] - want->ref.at[i]);
    assert_true(passes(want, &got, no_rmse));
    assert_false(passes(want, &got, no_bound));
    assert_false(passes(want, &got, all_tests));
    assert_true(passes(want, &got, (OracleLimits){ true, true }));
    run_close(&r);
}

/* ------------------------------------------------------------ decisions */

/* x * y against a number a rounding away: either answer is right, and what hangs on it; and the
 * same where the difference is clear. */
static void open_decisions_span_their_answers(void **state)
{
    (void)state;
    for (int clear = 0; clear < 2; clear++) {
        Run r;
        parse(&r, "graph (%x: f32[1], %y: f32[1], %t: f32[1]) {\n"
                  "  %p = mul %x, %y : f32[1]\n"
                  "  %c = lt %p, %t : bool[1]\n"
                  "  %s = select %c, %x, %y : f32[1]\n"
                  "  return %c, %s\n}\n");
        const double value[3] = { 1.1f, 3.3f, round_to(DT_F32, 1.1 * 3.3) * (clear ? 1.001 : 1) };
        for (int i = 0; i < 3; i++) {
            Tensor t = tensor_new(r.arena, (Type){ DT_F32, shape_of(1, (int64_t)1) });
            t.at[0] = round_to(DT_F32, value[i]);
            r.in[i] = oracle_exact(r.arena, &t);
        }
        ask(&r);
        for (int answer = 0; answer < 2; answer++) {
            Tensor c = copy_of(&r, &r.out[0].ref), s = copy_of(&r, &r.out[1].ref);
            OracleReport report = { .worst = 0 };
            c.at[0] = answer;
            s.at[0] = r.in[answer ? 0 : 1].ref.at[0];
            const bool right = !clear || answer == (int)r.out[0].ref.at[0];
            assert_int_equal(oracle_compare(&r.out[0], &c, &all_tests, &report), right);
            assert_int_equal(oracle_compare(&r.out[1], &s, &all_tests, &report), right);
            assert_int_equal(report.undecided, clear ? 0 : 2);
            s.at[0] = 10;
            assert_false(passes(&r.out[1], &s, all_tests));
        }
        run_close(&r);
    }
}

/* An element and the maximum it is: no decision, though neither is known exactly. */
static void a_maximum_equals_itself(void **state)
{
    (void)state;
    Run r;
    parse(&r, "graph (%x: f32[6,40]) {\n"
              "  %a = exp %x : f32[6,40]\n"
              "  %m = amax %a axes=[1] : f32[6]\n"
              "  %b = broadcast %m axes=[1] : f32[6,40]\n"
              "  %e = eq %a, %b : bool[6,40]\n"
              "  return %e\n}\n");
    ask(&r);
    OracleReport report = { .worst = 0 };
    assert_true(oracle_compare(&r.out[0], &r.out[0].rounded, &all_tests, &report));
    assert_int_equal(report.undecided, 0);
    run_close(&r);
}

/* ------------------------------------------------------------ chains */

enum { WIDE = 512, TALL = 8, LOW = 2 }; /* TALL * WIDE elements go in blocks, LOW * WIDE do not */

/* An update with all that a chain may meet: rows, columns and scalars repeated, a transpose, a
 * constant behind the first link, an open decision, values that are read outside too. */
static void parse_chain(Run *r, int rows)
{
    char text[2048];
    snprintf(text, sizeof text,
             "graph (%%x: f32[%d,512], %%y: f32[512,%d], %%w: f32[512], %%s: f32[]) {\n"
             "  %%e = exp %%w : f32[512]\n"
             "  %%l = log %%e : f32[512]\n"
             "  %%c = lt %%w, %%l : bool[512]\n"
             "  %%cb = broadcast %%c axes=[0] : bool[%d,512]\n"
             "  %%t = transpose %%y perm=[1,0] : f32[%d,512]\n"
             "  %%a = mul %%x, %%t : f32[%d,512]\n"
             "  %%k = const 0.1 : f32[%d,512]\n"
             "  %%b = mul %%a, %%k : f32[%d,512]\n"
             "  %%d = select %%cb, %%b, %%a : f32[%d,512]\n"
             "  %%sb = broadcast %%s axes=[0,1] : f32[%d,512]\n"
             "  %%f = max %%d, %%sb : f32[%d,512]\n"
             "  %%wb = broadcast %%e axes=[0] : f32[%d,512]\n"
             "  %%g = div %%f, %%wb : f32[%d,512]\n"
             "  %%h = sub %%g, %%b : f32[%d,512]\n"
             "  %%z = sum %%h axes=[1] : f32[%d]\n"
             "  return %%b, %%d, %%h, %%z\n}\n",
             rows, rows, rows, rows, rows, rows, rows, rows, rows, rows, rows, rows, rows, rows);
    parse(r, text);
}

static void plane_is(const double *whole, const double *part, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&whole[i], &part[i], sizeof *whole) != 0)
            fail_msg("[%d]: %a in blocks, %a as a whole", (int)i, whole[i], part[i]);
}

/* Rows `first` and on of the tall graph's results are those of a low graph of these rows. */
static void rows_are(const Run *tall, int first)
{
    Run low;
    parse_chain(&low, LOW);
    Tensor x = tensor_new(low.arena, low.in[0].ref.type), y = copy_of(&low, &low.in[1].ref);
    for (int i = 0; i < LOW * WIDE; i++) {
        const int row = first + i / WIDE, column = i % WIDE;
        x.at[i] = tall->in[0].ref.at[row * WIDE + column];
        y.at[column * LOW + i / WIDE] = tall->in[1].ref.at[column * TALL + row];
    }
    low.in[0] = oracle_exact(low.arena, &x);
    low.in[1] = oracle_exact(low.arena, &y);
    low.in[2] = tall->in[2];
    low.in[3] = tall->in[3];
    ask(&low);
    for (int o = 0; o < 4; o++) {
        const OracleTensor *a = &tall->out[o], *b = &low.out[o];
        const int64_t n = shape_count(&b->ref.type.shape), at = n / LOW * first;
        plane_is(a->ref.at + at, b->ref.at, n);
        plane_is(a->lo + at, b->lo, n);
        plane_is(a->hi + at, b->hi, n);
        plane_is(a->lo_decided + at, b->lo_decided, n);
        plane_is(a->hi_decided + at, b->hi_decided, n);
        for (int k = 0; k < ORACLE_SAMPLES; k++) {
            plane_is(a->sample[k] + at, b->sample[k], n);
            plane_is(a->open_sample[k] + at, b->open_sample[k], n);
        }
    }
    run_close(&low);
}

static void blocks_change_nothing(void **state)
{
    (void)state;
    Run tall;
    parse_chain(&tall, TALL);
    ask(&tall);
    assert_true(memcmp(tall.out[1].lo, tall.out[1].lo_decided, WIDE * sizeof(double)) != 0);
    for (int row = 0; row < TALL; row += LOW)
        rows_are(&tall, row);
    run_close(&tall);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounded_passes_and_faults_do_not),
        cmocka_unit_test(rounded_passes_in_every_dtype),
        cmocka_unit_test(a_missing_term_is_seen),
        cmocka_unit_test(masks_and_integers_are_compared),
        cmocka_unit_test(each_test_can_be_off),
        cmocka_unit_test(open_decisions_span_their_answers),
        cmocka_unit_test(a_maximum_equals_itself),
        cmocka_unit_test(blocks_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
