/* SPDX-License-Identifier: Apache-2.0 */
/* Scans whose weights stay in registers of a GPU's threads: cells of every kind, of widths about
 * those of a warp and batches that blocks share out evenly or not.  A training step on the host in
 * a GPU's place, its accesses watched, agrees with the evaluator; and the plans say that nothing
 * that no step changes is read at every step, up to 64 units. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/cuda_kernels.h"
#include "tests/kir_make.h"
#include "tests/program_check.h"
#include "tests/zoo_case.h"

#if defined(GTC_SANITIZE)
enum { EVERY = 3 }; /* kernels are compiled without sanitizers; what plans them is the same */
#else
enum { EVERY = 1 };
#endif

typedef struct HeldCase {
    const char *cell, *more; /* of the layer's object */
    int units, features, steps, batch;
    bool held; /* all of it */
    bool runs; /* or is only planned */
} HeldCase;

static const HeldCase held_case[] = {
    { "lstm", "", 1, 1, 3, 7, false, false },
    { "lstm", "", 3, 5, 1, 1, true, true },
    { "lstm", "", 31, 2, 3, 32, true, true },
    { "lstm", ", \"bidirectional\": true", 33, 7, 3, 7, true, true },
    { "lstm", ", \"bias\": \"single\"", 64, 8, 2, 18, true, true },
    { "lstm", "", 64, 64, 2, 129, true, false },
    { "lstm", "", 64, 130, 2, 1, false, true },
    { "lstm", "", 65, 4, 2, 7, false, false },
    { "gru", "", 33, 5, 3, 129, true, true },
    { "gru", "", 64, 16, 2, 7, true, true },
    { "rnn", "", 33, 1, 3, 32, true, false },
    { "rnn", "", 32, 4, 1, 6, true, true },
    { "rnn", "", 64, 12, 3, 7, true, false },
    { "rnn", "", 129, 3, 2, 4, true, false },
    { "rnn", "", 160, 140, 2, 3, false, true },
};

typedef struct Case {
    Zoo z;
    const HeldCase *c;
    Graph *g;
} Case;

static bool case_init(void *arg, const char *name, InputKind kind, Tensor *t)
{
    Case *c = arg;
    if (strcmp(name, "rows") == 0) {
        t->at[0] = c->c->batch;
        return true;
    }
    return zoo_init(&c->z, name, kind, t);
}

static void hear(void *arg, LogLevel level, const char *text)
{
    (void)arg, (void)level;
    if (strstr(text, "not in blocks") || strstr(text, "last-resort"))
        fail_msg("%s", text);
}

static void case_open(Case *k, const HeldCase *c)
{
    char text[900];
    snprintf(text, sizeof text,
             "{ \"data\": { \"random\": { \"x\": [%d, %d], \"y\": [1], \"rows\": 256 } },\n"
             "  \"layers\": [ { \"name\": \"l\", \"type\": \"%s\", \"input\": \"x\", \"units\": %d"
             ", \"return\": \"last\"%s },\n"
             "  { \"name\": \"y\", \"type\": \"dense\", \"units\": 1 } ],\n"
             "  \"loss\": { \"type\": \"mse\", \"prediction\": \"y\" },\n"
             "  \"optimizer\": { \"type\": \"sgd\", \"learning_rate\": 1e-2 },\n"
             "  \"train\": { \"seed\": 1 } }\n",
             c->steps, c->features, c->cell, c->units, c->more);
    const ZooCase zoo = { .path = c->cell,
                          .text = text,
                          .x = { .rank = 2, .dim = { c->steps, c->features } },
                          .targets = 1 };
    k->c = c;
    zoo_open(&k->z, &zoo, NULL);
    k->z.cx.log = hear;
    if (model_build(&k->z.cx, k->z.m, &k->z.d, BUILD_TRAIN, c->batch, k->z.arena, &k->g) != ST_OK)
        fail_msg("%s: %s", c->cell, k->z.cx.msg);
}

/* Lines of a plan that sum at each step, and how many of them wholly from registers. */
static void count_sums(const char *plan, int *sums, int *held)
{
    for (const char *at = plan; (at = strstr(at, "each step contract")); at++) {
        const char *end = strchr(at, '\n'), *found = strstr(at, "in registers"),
                   *some = strstr(at, "factors");
        (*sums)++;
        *held += found && found < end && !(some && some < end);
    }
}

static void weights_are_held(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof held_case / sizeof *held_case; i++) {
        Case k;
        Kernel *kernel;
        int sums = 0, held = 0;
        case_open(&k, &held_case[i]);
        const int n = cuda_kernels(&k.z.cx, k.z.arena, k.g, &kernel);
        for (int j = 0; j < n; j++) {
            assert_string_equal(kernel[j].planner, "cuda");
            count_sums(kernel[j].plan, &sums, &held);
        }
        print_message("%s of %d, batch of %d: %d sums a step, %d from registers\n",
                      held_case[i].cell, held_case[i].units, held_case[i].batch, sums, held);
        assert_true(sums >= 1);
        assert_int_equal(held == sums, held_case[i].held);
        zoo_close(&k.z);
    }
}

static void step_agrees(void **state)
{
    (void)state;
    setenv("GTC_SIMT_SHADOW", "1", 1);
    setenv("GTC_SIMT_SCHEDULE", "seeded", 1);
    for (size_t i = 0; i < sizeof held_case / sizeof *held_case; i += EVERY) {
        Case k;
        if (!held_case[i].runs)
            continue;
        case_open(&k, &held_case[i]);
        const ReferenceOptions ro = { .steps = 1, .seed = 3, .init = case_init, .init_arg = &k };
        Reference *ref = reference_new(&k.z.cx, k.g, &ro);
        const ProgramCheck pc = { .mode = GTC_DEFAULT, .threads = 1, .device = "simt" };
        const ProgramVerdict v = program_check(&k.z.cx, ref, &pc);
        reference_free(ref);
        zoo_close(&k.z);
        if (v.wrong)
            fail_msg("%s of %d, batch of %d: %s", held_case[i].cell, held_case[i].units,
                     held_case[i].batch, v.text);
        assert_int_equal(v.plain, 0);
        assert_true(v.compared > 0);
    }
}

/* ------------------------------------------------------------ what kir_verify says */

typedef enum Wrong {
    RIGHT,
    OTHER_LOOP, /* another thread's register */
    NOT_UNROLLED,
    SHARED_OUT, /* more iterations than threads */
    NOT_WRITTEN,
    UNDER_GUARD, /* some threads of a warp do not meet */
    NO_WARP,
    TWO_BITS
} Wrong;

/* A block's threads keep 3 elements each and sum them over pairs. */
static Status verify_registers(Ctx *cx, Wrong wrong)
{
    const int64_t threads = wrong == SHARED_OUT ? 64 : wrong == NO_WARP ? 24 : 32;
    Make m = make_new(1);
    m.k->threads = 32;
    const BufId x = make_buf(&m, "x", DT_F32, BUF_IN, 0, 64, 3, -1);
    const BufId y = make_buf(&m, "y", DT_F32, BUF_OUT, 0, 64, -1, -1);
    KBuf own = { .name = "own", .dt = DT_F32, .cls = BUF_REGISTERS, .rank = 2, .threads = 1 };
    own.shape[0] = threads;
    own.shape[1] = 3;
    own.stride[1] = 1;
    const BufId r = kir_buf(m.k, &own);
    make_loop(&m, "share", 1, BIND_TEAM);
    const Ix t = make_loop(&m, "t", threads, BIND_THREAD);
    const Ix q = make_loop(&m, "q", 3, wrong == NOT_UNROLLED ? BIND_SERIAL : BIND_UNROLL);
    const Val first = make_load(&m, x, 0, t, q);
    if (wrong != NOT_WRITTEN)
        make_store(&m, r, 0, first, t, q);
    make_out(&m);
    make_out(&m);
    make_put(&m, K_SYNC);
    const Ix u = make_loop(&m, "u", threads, BIND_THREAD);
    const Ix at = wrong == OTHER_LOOP ? ix_sub(m.p, ix_const(m.p, threads - 1), u) : u;
    const Val v = make_load(&m, r, 0, at, ix_const(m.p, 1));
    if (wrong == UNDER_GUARD)
        make_when(&m, u, 0, 16);
    KNode *n = make_node(&m, K_MEET, REG_F32, false, v, v, 0);
    n->bit = wrong == TWO_BITS ? 3 : 2;
    if (wrong == UNDER_GUARD)
        make_out(&m);
    make_store(&m, y, 0, wrong == UNDER_GUARD ? v : n->dst, u, 0);
    const Status st = kir_verify(cx, m.k);
    arena_free(m.arena);
    return st;
}

static void wrong_registers_are_refused(void **state)
{
    static const char *const why[] = {
        [OTHER_LOOP] = "does not say whose register",
        [NOT_UNROLLED] = "shows only when it runs",
        [SHARED_OUT] = "several iterations",
        [NOT_WRITTEN] = "read before it is written",
        [UNDER_GUARD] = "no whole warps",
        [NO_WARP] = "no whole warps",
        [TWO_BITS] = "one bit of their number",
    };
    (void)state;
    for (int w = RIGHT; w <= TWO_BITS; w++) {
        Ctx cx;
        ctx_init(&cx);
        const Status st = verify_registers(&cx, (Wrong)w);
        if (w == RIGHT && st != ST_OK)
            fail_msg("refused: %s", cx.msg);
        if (w != RIGHT && (st != ST_INTERNAL || !strstr(cx.msg, why[w])))
            fail_msg("wanted \"%s\", got %s", why[w], st == ST_OK ? "nothing" : cx.msg);
    }
}

/* Steps store to a slot, sync, and read it at other threads' places: with no second sync, the next
 * step has to store to another slot. */
static Status verify_turns(Ctx *cx, int slot)
{
    Make m = make_new(1);
    m.k->threads = 32;
    const BufId y = make_buf(&m, "y", DT_F32, BUF_OUT, 0, 9, 32, -1);
    const BufId near = make_buf(&m, "near", DT_F32, BUF_PRIVATE, 0, 2, 32, -1);
    m.k->buf[near].slots = true;
    make_loop(&m, "share", 1, BIND_TEAM);
    KNode **const loop = m.tail;
    const Ix step = make_loop(&m, "step", 9, BIND_SERIAL);
    (*loop)->step = true;
    const Ix at[] = { ix_mod(m.p, step, 2), ix_mod(m.p, ix_shift(m.p, step, 1), 2),
                      ix_const(m.p, 0), ix_mod(m.p, ix_div(m.p, step, 2), 2) };
    const Ix t = make_loop(&m, "t", 32, BIND_THREAD);
    make_store(&m, near, 0, make_const(&m, REG_F32, 1), at[slot], t);
    make_out(&m);
    make_put(&m, K_SYNC);
    const Ix u = make_loop(&m, "u", 32, BIND_THREAD);
    const Val v = make_load(&m, near, 0, at[slot], ix_sub(m.p, ix_const(m.p, 31), u));
    make_store(&m, y, 0, v, step, u);
    const Status st = kir_verify(cx, m.k);
    arena_free(m.arena);
    return st;
}

static void a_slot_alone_is_no_sync(void **state)
{
    (void)state;
    for (int slot = 0; slot < 4; slot++) {
        Ctx cx;
        ctx_init(&cx);
        const Status st = verify_turns(&cx, slot);
        if (slot < 2 && st != ST_OK)
            fail_msg("refused: %s", cx.msg);
        if (slot >= 2 && (st != ST_INTERNAL || !strstr(cx.msg, "no sync between")))
            fail_msg("wanted a sync, got %s", st == ST_OK ? "nothing" : cx.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(wrong_registers_are_refused),
                                        cmocka_unit_test(a_slot_alone_is_no_sync),
                                        cmocka_unit_test(weights_are_held),
                                        cmocka_unit_test(step_agrees) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
