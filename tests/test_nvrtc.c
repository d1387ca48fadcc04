/* SPDX-License-Identifier: Apache-2.0 */
/* NVRTC takes every kernel of every zoo model, of feeds and of random graphs, without a word of
 * warning, and no thread of the zoo's spills, for an older and a newer GPU: each model at its full
 * size and batch for one of them, small for the other.  Skipped, aloud, where there is no NVRTC. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/cuda_kernels.h"
#include "tests/feed_case.h"
#include "tests/graph_grow.h"
#include "tests/nvrtc_case.h"
#include "tests/zoo_case.h"

/* What NVRTC says does not depend on sanitizers: there only some, for our own part in it. */
#if defined(GTC_SANITIZE)
enum { EVERY = 8, GRAPHS = 4 };
#else
enum { EVERY = 1, GRAPHS = 50 };
#endif

static const char *const arch[] = { "sm_80", "sm_90a" };
static Nvrtc nvrtc;

static void compile(Ctx *cx, Cache *cache, const char *what, const Kernel *k, int n, NvrtcTotals *t)
{
    for (size_t a = 0; a < sizeof arch / sizeof *arch; a++)
        if (!nvrtc_totals(cx, cache, &nvrtc, arch[a], what, k, n, t))
            fail_msg("%s", cx->msg);
}

static Cache *open_cache(void)
{
    Ctx cx;
    Cache *cache;
    ctx_init(&cx);
    if (cache_open(&cx, &cache) != ST_OK)
        fail_msg("%s", cx.msg);
    return cache;
}

static void say(const NvrtcTotals *t)
{
    print_message("NVRTC %d.%d: %d kernels, %d of them compiled, at most %d registers, %d spill\n",
                  nvrtc.major, nvrtc.minor, t->kernels, t->compiled, t->regs, t->spilled);
    assert_int_equal(t->bad, 0);
}

/* As they are these take half a minute each; bench/nvrtc has them. */
static bool is_long(const char *path)
{
    return strstr(path, "resnet18") || strstr(path, "vit_tiny");
}

static void model_compiles(Cache *cache, const ZooCase *c, bool full, const char *name,
                           NvrtcTotals *t)
{
    const Target gpu = gpu_of(name);
    Zoo z;
    Kernel *k;
    if (full && !is_long(c->path))
        zoo_open_full(&z, c);
    else
        zoo_open(&z, c, NULL);
    const int n =
        cuda_kernels_for(&z.cx, z.arena, &gpu, zoo_graph(&z, c, BUILD_TRAIN), &k);
    if (!nvrtc_totals(&z.cx, cache, &nvrtc, name, c->path, k, n, t))
        fail_msg("%s", z.cx.msg);
    zoo_close(&z);
}

static void the_zoo_compiles(void **state)
{
    Cache *cache = open_cache();
    NvrtcTotals t = { 0 };
    (void)state;
    for (int i = 0; i < zoo_cases; i += EVERY)
        for (size_t a = 0; a < sizeof arch / sizeof *arch; a++)
            model_compiles(cache, &zoo_case[i], (size_t)i % 2 == a, arch[a], &t);
    cache_close(cache);
    say(&t);
    assert_int_equal(t.spilled, 0);
}

static void feeds_compile(void **state)
{
    Cache *cache = open_cache();
    NvrtcTotals t = { 0 };
    (void)state;
    for (int i = 0; i < FEED_CASES; i += EVERY) {
        Ctx cx;
        Kernel *k;
        ctx_init(&cx);
        Arena *arena = arena_new();
        const int n = cuda_kernels(&cx, arena, feed_case_graph(&cx, arena, i), &k);
        compile(&cx, cache, feed_case_name[i], k, n, &t);
        arena_free(arena);
    }
    cache_close(cache);
    say(&t);
    assert_int_equal(t.spilled, 0);
}

static void random_graphs_compile(void **state)
{
    Cache *cache = open_cache();
    NvrtcTotals t = { 0 };
    (void)state;
    for (uint64_t seed = 1; seed <= GRAPHS; seed++) {
        const GrowOptions opt = { 0 };
        char what[32];
        Ctx cx;
        Kernel *k;
        ctx_init(&cx);
        Arena *arena = arena_new();
        const int n = cuda_kernels(&cx, arena, graph_grow(&cx, arena, seed, &opt), &k);
        snprintf(what, sizeof what, "graph %d", (int)seed);
        compile(&cx, cache, what, k, n, &t);
        arena_free(arena);
    }
    cache_close(cache);
    say(&t);
}

int main(void)
{
    Ctx cx;
    ctx_init(&cx);
    if (nvrtc_dl_open(&cx, 0, &nvrtc) != ST_OK) {
        printf("skipped: %s\n", cx.msg);
        return 77;
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(the_zoo_compiles),
                                        cmocka_unit_test(feeds_compile),
                                        cmocka_unit_test(random_graphs_compile) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
