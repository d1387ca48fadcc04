/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies like attention, planned for a GPU of little shared memory: what comes to be in strips
 * agrees with the evaluator on the host's CUDA machine, without a hazard.  First those that once
 * did not, then random ones.  The seeds are fixed; GTC_STRIPS_RANDOM=first:bodies tries others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/text.h"
#include "tests/cuda_kernels.h"
#include "tests/random_attention.h"
#include "tests/simt_body.h"
#include "tests/simt_case.h"

#if defined(GTC_SANITIZE)
enum { SCHEDULES = 1, BODIES = 20 };
#else
enum { SCHEDULES = 2, BODIES = 64 };
#endif
enum { FIRST = 1, KIB = 1024 };

typedef struct Tally {
    int bodies, whole, strips, online, phases, loose;
} Tally;

static Tally tally;

static Target random_target(Rng *rng)
{
    static const int64_t kib[] = { 4, 4, 6, 6, 8, 12, 16, 48 };
    Target t = middling_gpu();
    t.threads = 4 << rng_below(rng, 4);
    t.smem_bytes = kib[rng_below(rng, 8)] * KIB;
    return t;
}

/* Numbers that any dtype holds, near 0; one in 64 is larger. */
static void give_numbers(SimtBody *b, Rng *rng)
{
    for (uint32_t i = 0; i < b->graph->ninput; i++) {
        Tensor *t = &b->in[i];
        const int64_t n = shape_count(&t->type.shape);
        for (int64_t e = 0; e < n; e++)
            if (t->type.dt == DT_BOOL)
                t->at[e] = rng_below(rng, 4) != 0;
            else
                t->at[e] =
                    (double)((int)rng_below(rng, 257) - 128) / 64 * (rng_below(rng, 64) ? 1 : 4);
    }
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

/* ---- what was wrong once ------------------------------------------------------------------- */

typedef struct KnownCase {
    const char *name, *text;
    int strips; /* launches that are in strips */
    int loops;  /* over tiles, in all */
} KnownCase;

#define SCORES                                                                                     \
    "graph (%q: f32[9,64,8], %k: f32[9,64,8], %w: f32[9,64,5], %u: f32[5]) {\n"                    \
    "  %2 = matmul %q, %k over=[[2],[2]] batch=[[0],[0]] : f32[9,64,64]\n"

static const KnownCase known[] = {
    { "the greatest of others",
      SCORES "  %3 = iota axis=1 : i32[9,64,64]\n"
             "  %4 = iota axis=2 : i32[9,64,64]\n"
             "  %m = le %3, %4 : bool[9,64,64]\n"
             "  %c = const -0x1.2cp+7 : f32[9,64,64]\n"
             "  %s = select %m, %2, %c : f32[9,64,64]\n"
             "  %5 = amax %s axes=[2] : f32[9,64]\n"
             "  %6 = broadcast %5 axes=[2] : f32[9,64,64]\n"
             "  %7 = sub %2, %6 : f32[9,64,64]\n"
             "  %8 = exp %7 : f32[9,64,64]\n"
             "  %d = cast %m : f32[9,64,64]\n"
             "  %e = mul %8, %d : f32[9,64,64]\n"
             "  %9 = sum %e axes=[2] : f32[9,64]\n"
             "  %10 = matmul %e, %w over=[[2],[1]] batch=[[0],[0]] : f32[9,64,5]\n"
             "  return %9, %10\n"
             "}\n",
      1, 2 },
    { "the greatest of rows and channels",
      SCORES "  %3 = broadcast %2 axes=[3] : f32[9,64,64,5]\n"
             "  %4 = broadcast %u axes=[0,1,2] : f32[9,64,64,5]\n"
             "  %s = mul %3, %4 : f32[9,64,64,5]\n"
             "  %5 = amax %s axes=[2] : f32[9,64,5]\n"
             "  %6 = broadcast %5 axes=[2] : f32[9,64,64,5]\n"
             "  %7 = sub %s, %6 : f32[9,64,64,5]\n"
             "  %8 = exp %7 : f32[9,64,64,5]\n"
             "  %9 = sum %8 axes=[2] : f32[9,64,5]\n"
             "  return %5, %9\n"
             "}\n",
      1, 2 },
    { "a divisor of rows and channels",
      SCORES "  %5 = amax %2 axes=[2] : f32[9,64]\n"
             "  %6 = broadcast %5 axes=[2] : f32[9,64,64]\n"
             "  %7 = sub %2, %6 : f32[9,64,64]\n"
             "  %8 = exp %7 : f32[9,64,64]\n"
             "  %3 = broadcast %8 axes=[3] : f32[9,64,64,5]\n"
             "  %9 = matmul %8, %w over=[[2],[1]] batch=[[0],[0]] : f32[9,64,5]\n"
             "  %10 = broadcast %9 axes=[2] : f32[9,64,64,5]\n"
             "  %11 = div %3, %10 : f32[9,64,64,5]\n"
             "  %12 = sum %11 axes=[2,3] : f32[9,64]\n"
             "  return %5, %9, %12\n"
             "}\n",
      1, 3 },
    { "columns twice",
      SCORES "  %3 = tanh %2 : f32[9,64,64]\n"
             "  %4 = broadcast %2 axes=[3] : f32[9,64,64,64]\n"
             "  %5 = broadcast %3 axes=[2] : f32[9,64,64,64]\n"
             "  %6 = mul %4, %5 : f32[9,64,64,64]\n"
             "  %9 = sum %6 axes=[2,3] : f32[9,64]\n"
             "  return %9\n"
             "}\n",
      0, 0 },
    { "a sum in a sum",
      SCORES "  %3 = broadcast %2 axes=[3] : f32[9,64,64,5]\n"
             "  %4 = broadcast %u axes=[0,1,2] : f32[9,64,64,5]\n"
             "  %5 = mul %3, %4 : f32[9,64,64,5]\n"
             "  %6 = tanh %5 : f32[9,64,64,5]\n"
             "  %7 = sum %6 axes=[3] : f32[9,64,64]\n"
             "  %8 = amax %7 axes=[2] : f32[9,64]\n"
             "  %9 = matmul %7, %w over=[[2],[1]] batch=[[0],[0]] : f32[9,64,5]\n"
             "  return %8, %9\n"
             "}\n",
      1, 1 },
    { "two launches that do not wait",
      SCORES "  %3 = tanh %2 : f32[9,64,64]\n"
             "  %4 = matmul %3, %w over=[[2],[1]] batch=[[0],[0]] : f32[9,64,5]\n"
             "  %5 = matmul %3, %w over=[[1],[1]] batch=[[0],[0]] : f32[9,64,5]\n"
             "  return %4, %5\n"
             "}\n",
      2, 2 },
};
enum { KNOWN = sizeof known / sizeof *known };
enum { EQUAL_IN_SOME_LOOPS = 11270 }; /* a random one in which two values are equal, in two loops */

static void known_agrees(void **state)
{
    const KnownCase *c = *state;
    Target t = middling_gpu();
    SimtBody b = { .text = NULL };
    Rng rng;
    rng_init(&rng, FIRST, 0);
    t.threads = 8;
    t.smem_bytes = 4 * KIB;
    simt_body_parse(&b, &t, c->name, c->text);
    const int strips = count(b.k->plan, "loops over"), loops = simt_body_loops(&b);
    if (strips != c->strips || loops != c->loops)
        fail_msg("%d launches in strips, %d loops\n%s", strips, loops, b.k->plan);
    give_numbers(&b, &rng);
    tally.loose += simt_body_check(&b, SCHEDULES, c->name);
    simt_body_close(&b);
}

/* ---- random ones --------------------------------------------------------------------------- */

/* The body as the only fusion of a graph. */
static Graph *fusion_of(Ctx *cx, Arena *arena, Graph *body, Ref *fusion)
{
    Graph *g = graph_new(arena);
    Ref arg[SIMT_BODY_ARGS];
    for (uint32_t i = 0; i < body->ninput; i++)
        assert_int_equal(graph_add(cx, g, &body->node[body->input[i]], &arg[i]), ST_OK);
    const Node n = { .op = OP_fusion,
                     .nargs = body->ninput,
                     .arg = arg,
                     .attr.fusion = { .body = body, .kind = "body" } };
    assert_int_equal(graph_add(cx, g, &n, fusion), ST_OK);
    return g;
}

/* A plan in blocks may want more shared memory than there is; then there is another. */
static bool is_fine(const Ctx *cx)
{
    return !cx->msg[0] || strstr(cx->msg, "bytes of shared memory");
}

static void body_agrees(void **state)
{
    const uint64_t seed = (uint64_t)(uintptr_t)*state;
    char what[64];
    Ctx cx;
    Rng rng;
    Kernel k;
    Ref fusion;
    Arena *arena = arena_new();
    SimtBody b = { .text = arena };
    Graph *body = graph_new(arena);
    ctx_init(&cx);
    rng_init(&rng, seed, 0);
    snprintf(what, sizeof what, "body %llu", (unsigned long long)seed);
    if (random_attention(&cx, &rng, body) != ST_OK)
        fail_msg("%s: %s", what, cx.msg);
    const Graph *g = fusion_of(&cx, arena, body, &fusion);
    const Target t = random_target(&rng);
    if (kernel_build_cuda(&cx, arena, &t, g, fusion, &k) != ST_OK || !is_fine(&cx)) {
        Strbuf text = { 0 };
        graph_print(body, &text);
        fail_msg("%s: %s\n%s", what, cx.msg, strbuf_str(&text));
    }
    tally.bodies++;
    if (!strstr(k.plan, "team b")) {
        arena_free(arena);
        return;
    }
    simt_body_open(&b, &t, g, fusion);
    const bool strips = strstr(b.k->plan, "loops over") != NULL;
    tally.strips += strips;
    tally.whole += !strips;
    tally.online += strstr(b.k->plan, "scale") != NULL;
    tally.phases += count(b.k->plan, "team b") > 1;
    give_numbers(&b, &rng);
    tally.loose += simt_body_check(&b, SCHEDULES, what);
    simt_body_close(&b);
}

/* What was tried is what is meant. */
static void enough_of_each(void **state)
{
    (void)state;
    printf("%d bodies: %d whole, %d in strips, %d of them online, %d of two launches; %d loose\n",
           tally.bodies, tally.whole, tally.strips, tally.online, tally.phases, tally.loose);
    if (tally.bodies < BODIES)
        return;
    assert_true(tally.whole * 12 >= tally.bodies);
    assert_true(tally.strips * 4 >= tally.bodies);
    assert_true(tally.online * 16 >= tally.bodies);
    assert_true(tally.phases * 8 >= tally.bodies);
    assert_true(tally.loose * 3 <= tally.bodies);
}

int main(void)
{
    unsigned long long first = FIRST, bodies = BODIES;
    const char *more = getenv("GTC_STRIPS_RANDOM");
    if (more && sscanf(more, "%llu:%llu", &first, &bodies) != 2)
        return 2;
    struct CMUnitTest *tests = calloc(KNOWN + bodies + 2, sizeof *tests);
    char(*name)[32] = calloc(bodies + 1, sizeof *name);
    for (int i = 0; i < KNOWN; i++)
        tests[i] = (struct CMUnitTest){ .name = known[i].name,
                                        .test_func = known_agrees,
                                        .initial_state = (void *)(uintptr_t)&known[i] };
    for (unsigned long long i = 0; i < bodies; i++) {
        snprintf(name[i], sizeof *name, "body %llu", first + i);
        tests[KNOWN + i] = (struct CMUnitTest){ .name = name[i],
                                                .test_func = body_agrees,
                                                .initial_state = (void *)(uintptr_t)(first + i) };
    }
    tests[KNOWN + bodies] =
        (struct CMUnitTest){ .name = "equal values in some of the loops",
                             .test_func = body_agrees,
                             .initial_state = (void *)(uintptr_t)EQUAL_IN_SOME_LOOPS };
    tests[KNOWN + bodies + 1] = (struct CMUnitTest)cmocka_unit_test(enough_of_each);
    const int failed =
        _cmocka_run_group_tests("strips random", tests, KNOWN + bodies + 2, NULL, NULL);
    free(tests);
    free(name);
    return failed;
}
