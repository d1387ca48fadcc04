/* SPDX-License-Identifier: Apache-2.0 */
/* Sums that blocks of a GPU share end in the last block: one launch where that pays and two where
 * it does not; the same bits under every schedule and in every run, of which the first leaves the
 * counters as the second wants them; and what could go wrong with it is found. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/eval.h"
#include "ir/text.h"
#include "tests/cuda_kernels.h"
#include "tests/kir_make.h"
#include "tests/nvrtc_gate.h"
#include "tests/simt_body.h"
#include "tests/simt_case.h"

enum { SCHEDULES = 8, RUNS = 2, ARGS = 8 };

typedef struct LastCase {
    const char *name, *text;
    int launches;
    bool counts; /* blocks wait for the last one */
} LastCase;

static const LastCase cases[] = {
    { "the parts of a product's tiles",
      "graph (%x: f32[24,520], %w: f32[520,20], %b: f32[20]) {\n"
      "  %1 = matmul %x, %w : f32[24,20]\n"
      "  %2 = broadcast %b axes=[0] : f32[24,20]\n"
      "  %3 = add %1, %2 : f32[24,20]\n"
      "  %4 = tanh %3 : f32[24,20]\n"
      "  return %4\n}\n",
      1, true },
    { "two products of one operand",
      "graph (%x: f32[17,600], %w: f32[600,16], %v: f32[600,16]) {\n"
      "  %1 = matmul %x, %w : f32[17,16]\n"
      "  %2 = matmul %x, %v : f32[17,16]\n"
      "  %3 = sigmoid %2 : f32[17,16]\n"
      "  %4 = mul %1, %3 : f32[17,16]\n"
      "  return %4\n}\n",
      1, true },
    { "a norm and what it scales",
      "graph (%x: f32[40000]) {\n"
      "  %1 = mul %x, %x : f32[40000]\n"
      "  %2 = sum %1 axes=[0] : f32[]\n"
      "  %3 = sqrt %2 : f32[]\n"
      "  return %2, %3\n}\n",
      1, true },
    { "a norm over three gradients",
      "graph (%a: f32[300,70], %b: f32[70], %c: f32[70,9]) {\n"
      "  %1 = mul %a, %a : f32[300,70]\n"
      "  %2 = sum %1 axes=[0,1] : f32[]\n"
      "  %3 = mul %b, %b : f32[70]\n"
      "  %4 = sum %3 axes=[0] : f32[]\n"
      "  %5 = mul %c, %c : f32[70,9]\n"
      "  %6 = sum %5 axes=[0,1] : f32[]\n"
      "  %7 = add %2, %4 : f32[]\n"
      "  %8 = add %7, %6 : f32[]\n"
      "  %9 = sqrt %8 : f32[]\n"
      "  %10 = rsqrt %8 : f32[]\n"
      "  return %9, %10\n}\n",
      1, true },
    { "columns",
      "graph (%x: f32[33000,2], %m: f32[2]) {\n"
      "  %1 = sum %x axes=[0] : f32[2]\n"
      "  %2 = amax %x axes=[0] : f32[2]\n"
      "  %3 = mul %1, %m : f32[2]\n"
      "  return %3, %2\n}\n",
      1, true },
    { "many parts of a large tile",
      "graph (%x: f32[128,9000], %w: f32[9000,512]) {\n"
      "  %1 = matmul %x, %w : f32[128,512]\n"
      "  return %1\n}\n",
      2, false },
    { "a product of no parts",
      "graph (%x: f32[64,64], %w: f32[64,64]) {\n"
      "  %1 = matmul %x, %w : f32[64,64]\n"
      "  return %1\n}\n",
      1, false },
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct Built {
    SimtBody body;
    Tensor want[ARGS];
} Built;

static void build(Built *b, const LastCase *c)
{
    const Target target = middling_gpu();
    SimtBody *body = &b->body;
    simt_body_parse(body, &target, c->name, c->text);
    if (c->counts &&
        eval_graph(&body->cx, body->graph, EVAL_F64, body->arena, body->in, b->want) != ST_OK)
        fail_msg("%s: %s", c->name, body->cx.msg);
}

static SimtOptions schedule(uint32_t k)
{
    return (SimtOptions){ .order = k < 2 ? (SimtOrder)k : SIMT_SEEDED, .seed = k, .shadow = true };
}

static void check_values(const Built *b, const LastCase *c, const char *out)
{
    for (uint32_t i = 0; i < b->body.k->nout; i++) {
        const Tensor *want = &b->want[i];
        const int64_t n = shape_count(&want->type.shape);
        for (int64_t e = 0; e < n; e++) {
            float got;
            memcpy(&got, out, sizeof got);
            out += sizeof got;
            if (!(fabs(got - want->at[e]) <= 1e-5 * (1 + fabs(want->at[e]))))
                fail_msg("%s: output %u, element %lld: %g for %g", c->name, i, (long long)e,
                         (double)got, want->at[e]);
        }
    }
}

static void case_holds(void **state)
{
    const LastCase *c = *state;
    Built b;
    size_t n;
    build(&b, c);
    if (b.body.k->nlaunch != c->launches || (b.body.k->counters > 0) != c->counts)
        fail_msg("%s: %d launches, %d counters\n%s", c->name, b.body.k->nlaunch, b.body.k->counters,
                 b.body.k->plan);
    if (!c->counts) {
        simt_body_close(&b.body);
        return;
    }
    char *code = simt_case_compile(b.body.k->name, b.body.k->source, true, &n);
    assert_non_null(code);
    const size_t bytes = simt_body_bytes(&b.body);
    char *first = arena_alloc(b.body.arena, RUNS * bytes), *out = arena_alloc(b.body.arena, RUNS * bytes);
    for (uint32_t k = 0; k < SCHEDULES; k++) {
        const SimtOptions opt = schedule(k);
        char *mine = k ? out : first;
        if (simt_body_run(&b.body, code, n, &opt, RUNS, mine) != ST_OK)
            fail_msg("%s, schedule %u: %s\n%s", c->name, k, b.body.cx.msg, b.body.k->source);
        for (int r = 0; r < RUNS; r++)
            assert_memory_equal(mine + (size_t)r * bytes, first, bytes);
    }
    check_values(&b, c, first);
    free(code);
    simt_body_close(&b.body);
}

static void nvrtc_takes_them(void **state)
{
    NvrtcGate gate;
    (void)state;
    nvrtc_gate_open(&gate);
    for (int i = 0; i < CASES; i++) {
        Built b;
        build(&b, &cases[i]);
        nvrtc_gate_take(&gate, cases[i].name, b.body.k);
        simt_body_close(&b.body);
    }
    assert_int_equal(gate.kernels, CASES);
    nvrtc_gate_close(&gate);
}

/* ---- mistakes ---------------------------------------------------------------------------- */

/* In the kernel of case `of`, `with` stands for `old`; what is said of the first launch has `says`
 * in it. */
typedef struct LastBug {
    int of;
    const char *old, *with, *says;
} LastBug;

static const LastBug bugs[] = {
    { 0, "if (*flag) {", "if (bid % 2) {", "the blocks have not met" },
    { 0, "    gtc_bar();\n        if (tid == 0)", "    if (tid == 0)", "the blocks have not met" },
    { 0, "        gtc_bar();\n        if (*flag)", "        if (*flag)", "" },
    { 0, "if (tid == 0)\n", "if (tid < 2)\n", "by a second thread of the block" },
    { 0, "gtc_last_of(&counters[", "gtc_last_of(&counters[1 + ", "" },
    { 0, "], 2);", "], 3);", "the counter is left at 2 after the launch" },
    { 0, "], 2);", "], 1);", "" },
    { 2, "if (*flag) {", "if (bid == 0) {", "which nothing has written" },
    { 2, "    gtc_bar();\n    if (*flag)", "    if (*flag)", "" },
    { 2, "if (tid == 0)\n", "if (tid == 0 && bid)\n", "which nothing has written" },
};

static void mistakes_are_found(void **state)
{
    (void)state;
    int missed = 0;
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        const LastBug *bug = &bugs[i];
        Built b;
        size_t n;
        build(&b, &cases[bug->of]);
        char *edited = simt_case_edit(b.body.k->source, bug->old, bug->with);
        if (!edited)
            fail_msg("%s", b.body.k->source);
        char *code = simt_case_compile(b.body.k->name, edited, true, &n);
        assert_non_null(code);
        char *out = arena_alloc(b.body.arena, simt_body_bytes(&b.body));
        Status s = ST_OK;
        for (uint32_t k = 0; k < SCHEDULES && s == ST_OK; k++) {
            const SimtOptions opt = schedule(k);
            s = simt_body_run(&b.body, code, n, &opt, 1, out);
        }
        if (s != ST_INTERNAL || !strstr(b.body.cx.msg, bug->says)) {
            print_error("\"%s\" for \"%s\": wants \"%s\", got %s\n", bug->with, bug->old, bug->says,
                        s == ST_OK ? "nothing" : b.body.cx.msg);
            missed++;
        }
        free(code);
        free(edited);
        simt_body_close(&b.body);
    }
    assert_int_equal(missed, 0);
}

/* ---- what the verifier refuses ----------------------------------------------------------- */

typedef enum Wrong {
    RIGHT,
    NO_LAST,       /* parts are added up by a block that has waited for nobody */
    OTHER_TILE,    /* parts of a tile whose blocks have not met */
    ALL_STORE,     /* tiles store to one place */
    WHICH_PART,    /* the last block says which it is */
    VALUE_OUTSIDE, /* or uses what it had computed, */
    OWN_MEMORY,    /* or kept */
    NOT_ALL_COME,
    GOES_ON, /* after the last block */
    NO_PARTS,
    END_RIGHT,  /* the last block of the launch, */
    END_OF_MANY /* which is one */
} Wrong;

typedef struct Made {
    Make m;
    BufId x, y, parts, own;
} Made;

static Ix number(Made *d, int64_t n)
{
    return ix_const(d->m.p, n);
}

/* tile < 4 x part < 3: what blocks of one tile store is added up by the last of them. */
static void make_tiles(Made *d, Wrong wrong)
{
    Make *m = &d->m;
    const Ix tile = make_loop(m, "tile", 4, BIND_TEAM);
    const Ix part = make_loop(m, "part", 3, BIND_TEAM);
    Var along;
    assert_true(ix_is_var(m->p, part, &along));
    Ix t = make_loop(m, "t", 32, BIND_THREAD);
    const Val first = make_load(m, d->x, 0, tile, t);
    make_store(m, d->own, 0, first, t, 0);
    KNode *s = make_put(m, K_STORE);
    s->buf = d->parts;
    s->ix = make_ix(m, part, tile, t);
    s->arg[0] = first;
    make_out(m);
    if (wrong == NOT_ALL_COME)
        make_when(m, tile, 0, 2);
    KNode *last = make_put(m, wrong == NO_LAST ? K_SYNC : K_LAST);
    last->var = wrong == NO_PARTS ? ix_var_new(m->p, "else", 3) : along;
    if (wrong != NO_LAST)
        make_in(m, last);
    t = make_loop(m, "t", 32, BIND_THREAD);
    Val v = make_load_node(m, REG_F32, d->parts, 0, wrong == WHICH_PART ? part : number(d, 2),
                           wrong == OTHER_TILE ? number(d, 1) : tile, t)
                ->dst;
    if (wrong == VALUE_OUTSIDE)
        v = first;
    if (wrong == OWN_MEMORY)
        v = make_load(m, d->own, 0, t, 0);
    const Ix own = ix_add(m->p, ix_scale(m->p, tile, 3), part); /* the block's */
    make_store(m, d->y, 0, v, wrong == ALL_STORE ? number(d, 0) : wrong == NO_LAST ? own : tile, t);
    make_out(m);
    if (wrong != NO_LAST)
        make_out(m);
    if (wrong == GOES_ON)
        make_put(m, K_SYNC);
}

static void make_end(Made *d, Wrong wrong)
{
    Make *m = &d->m;
    const Ix i = make_loop(m, "i", 4, BIND_GRID), t = make_loop(m, "t", 32, BIND_GRID);
    make_store(m, d->y, 0, make_load(m, d->x, 0, i, t), i, t);
    make_out(m);
    make_out(m);
    make_put(m, K_BARRIER)->last = true;
    make_loop(m, "share", wrong == END_RIGHT ? 1 : 2, BIND_TEAM);
    const Ix u = make_loop(m, "u", 32, BIND_THREAD);
    make_store(m, d->y, 0, make_load(m, d->y, 0, number(d, 3), u), number(d, 0), u);
}

static Status verify_last(Ctx *cx, Wrong wrong)
{
    Made d = { .m = make_new(1) };
    d.m.k->threads = 32;
    d.x = make_buf(&d.m, "x", DT_F32, BUF_IN, 0, 4, 32, -1);
    d.y = make_buf(&d.m, "y", DT_F32, BUF_OUT, 0, 12, 32, -1);
    d.parts = make_buf(&d.m, "parts", DT_F32, BUF_SHARED, 0, 3, 4, 32);
    d.own = make_buf(&d.m, "own", DT_F32, BUF_PRIVATE, 0, 32, -1, -1);
    if (wrong < END_RIGHT)
        make_tiles(&d, wrong);
    else
        make_end(&d, wrong);
    const Status st = kir_verify(cx, d.m.k);
    arena_free(d.m.arena);
    return st;
}

static void wrong_meetings_are_refused(void **state)
{
    static const char *const why[] = {
        [NO_LAST] = "no barrier between a store to parts",
        [OTHER_TILE] = "no barrier between a store to parts",
        [ALL_STORE] = "store to the same element of y",
        [WHICH_PART] = "index part uses part outside of its loop",
        [VALUE_OUTSIDE] = "used out of its scope",
        [OWN_MEMORY] = "own is the last block's own",
        [NOT_ALL_COME] = "not all blocks come",
        [GOES_ON] = "not all blocks come",
        [NO_PARTS] = "the last block of no loop",
        [END_OF_MANY] = "for several blocks, of which one is left",
    };
    (void)state;
    for (int w = RIGHT; w <= END_OF_MANY; w++) {
        Ctx cx;
        ctx_init(&cx);
        const Status st = verify_last(&cx, (Wrong)w);
        if (!why[w] && st != ST_OK)
            fail_msg("%d: refused: %s", w, cx.msg);
        if (why[w] && (st != ST_INTERNAL || !strstr(cx.msg, why[w])))
            fail_msg("wanted \"%s\", got %s", why[w], st == ST_OK ? "nothing" : cx.msg);
    }
}

int main(void)
{
    struct CMUnitTest tests[CASES + 3];
    for (size_t i = 0; i < CASES; i++)
        tests[i] = (struct CMUnitTest){ .name = cases[i].name,
                                        .test_func = case_holds,
                                        .initial_state = (void *)(uintptr_t)&cases[i] };
    tests[CASES] = (struct CMUnitTest)cmocka_unit_test(mistakes_are_found);
    tests[CASES + 1] = (struct CMUnitTest)cmocka_unit_test(wrong_meetings_are_refused);
    tests[CASES + 2] = (struct CMUnitTest)cmocka_unit_test(nvrtc_takes_them);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
