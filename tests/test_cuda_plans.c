/* SPDX-License-Identifier: Apache-2.0 */
/* The planner for GPUs takes every kernel of every zoo model: nothing is left to the last resort or
 * the interpreter, and no launch wants what no GPU has. */
#include <ctype.h>
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
#include "tests/feed_case.h"
#include "tests/zoo_case.h"

static void hear(void *arg, LogLevel level, const char *text)
{
    (void)arg, (void)level;
    print_message("%s\n", text);
}

/* Is `name` [..] at that place of the text stored to? */
static bool is_store(const char *text, const char *at)
{
    static const char four[] = "gtc_st_x4_at(&";
    const size_t n = sizeof four - 1;
    if ((size_t)(at - text) >= n && strncmp(at - n, "gtc_st_", 7) == 0)
        return true;
    const char *end = strchr(at, ']');
    return end && strncmp(end, "] = ", 4) == 0;
}

/* Does the launch both store and load what that name points to? */
static bool is_traded(const char *text, const char *name, size_t n)
{
    bool store = false, load = false;
    for (const char *at = text; (at = strstr(at, name)) != NULL; at += n) {
        if (at[n] != '[' || at[-1] == '_' || isalnum((unsigned char)at[-1]))
            continue;
        *(is_store(text, at) ? &store : &load) = true;
    }
    return store && load;
}

/* Counts the launches of a text, and in *traded pointers with `restrict` to what one both stores
 * and loads. */
static int find_traded(Arena *arena, const char *source, const char *kernel, int *traded)
{
    static const char head[] = "GTC_KERNEL(", promise[] = "__restrict__ ";
    int n = 0;
    for (const char *at = source; (at = strstr(at, head)) != NULL; n++) {
        const char *end = strstr(at, "\n}\n");
        assert_non_null(end);
        char *text = arena_printf(arena, "%.*s", (int)(end - at), at);
        for (const char *p = text; (p = strstr(p, promise)) != NULL;) {
            p += sizeof promise - 1;
            const size_t len = strspn(p, "abcdefghijklmnopqrstuvwxyz_0123456789");
            const char *name = arena_printf(arena, "%.*s", (int)len, p);
            if (is_traded(text, name, len)) {
                print_error("%s: %s is stored and loaded, and has `restrict`\n", kernel, name);
                ++*traded;
            }
        }
        at = end;
    }
    return n;
}

/* And what threads hand to each other is not hidden from a barrier: to a compiler that believes
 * `restrict`, which the host's does not see, a load behind the barrier is one before it. */
static void every_kernel_is_planned(void **state)
{
    (void)state;
    int left = 0, texts = 0, traded = 0;
    for (int i = 0; i < zoo_cases; i++) {
        Zoo z;
        Kernel *k;
        zoo_open(&z, &zoo_case[i], NULL);
        z.cx.log = hear;
        const int n = cuda_kernels(&z.cx, z.arena, zoo_graph(&z, &zoo_case[i], BUILD_TRAIN), &k);
        int launches = 0;
        for (int j = 0; j < n; j++) {
            launches += k[j].nlaunch;
            texts += find_traded(z.arena, k[j].source, k[j].name, &traded);
            if (strcmp(k[j].planner, "cuda") != 0) {
                print_error("%s: %s is left to %s\n", zoo_case[i].path, k[j].name, k[j].planner);
                left++;
            }
            for (int q = 0; q < k[j].nlaunch; q++) {
                const Launch *l = &k[j].launch[q];
                assert_true(l->blocks >= 1 && l->blocks <= INT32_MAX);
                assert_true(l->threads >= 32 && l->threads <= 1024 && l->threads % 32 == 0);
                assert_true(l->smem >= 0 && l->smem <= middling_gpu().smem_bytes + 256);
            }
        }
        print_message("%s: %d kernels, %d launches\n", zoo_case[i].path, n, launches);
        zoo_close(&z);
    }
    assert_int_equal(left, 0);
    assert_true(texts > 100);
    assert_int_equal(traded, 0);
}

/* All parameters' updates are one launch where a launch takes as many pointers; of vit_tiny there
 * are some 1,050, of this net fewer. */
static void an_optimizer_is_one_launch(void **state)
{
    (void)state;
    for (int i = 0; i < zoo_cases; i++)
        for (int many = 0; many < 2 && strstr(zoo_case[i].path, "gpt_char"); many++) {
            Target gpu = middling_gpu();
            Zoo z;
            Kernel *k;
            int launches = 0;
            gpu.most_args = many ? 4093 : 100;
            zoo_open(&z, &zoo_case[i], NULL);
            const int n = cuda_kernels_for(&z.cx, z.arena, &gpu,
                                           zoo_graph(&z, &zoo_case[i], BUILD_TRAIN), &k);
            for (int j = 0; j < n; j++)
                launches += strcmp(k[j].label, "optimizer") == 0 ? k[j].nlaunch : 0;
            assert_int_equal(launches, many ? 1 : 4);
            zoo_close(&z);
        }
}

/* So it takes what makes batches on a device, in one launch that many blocks share. */
static void every_feed_is_planned(void **state)
{
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    cx.log = hear;
    for (int i = 0; i < FEED_CASES; i++) {
        Arena *arena = arena_new();
        Kernel *k;
        const int n = cuda_kernels(&cx, arena, feed_case_graph(&cx, arena, i), &k);
        assert_int_equal(n, 1);
        assert_string_equal(k[0].planner, "cuda");
        assert_int_equal(k[0].nlaunch, 1);
        assert_true(k[0].launch[0].blocks >= 12);
        arena_free(arena);
    }
}

/* The text of a map without a tail does not say how many blocks run it, and a kernel's name is what
 * its code is found by. */
static void as_many_blocks_make_a_name(void **state)
{
    static const int size[] = { 16384, 8192, 16384 };
    Arena *arena = arena_new();
    Kernel *k[3];
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    for (int i = 0; i < 3; i++) {
        Graph *g;
        const char *text = arena_printf(arena,
                                        "graph (%%x: f32[%d]) {\n  %%a = mul %%x, %%x\n"
                                        "  return %%a\n}\n",
                                        size[i]);
        assert_int_equal(graph_parse(&cx, arena, "map", text, &g), ST_OK);
        assert_int_equal(cuda_kernels(&cx, arena, g, &k[i]), 1);
    }
    assert_int_not_equal(k[0]->launch[0].blocks, k[1]->launch[0].blocks);
    assert_string_not_equal(k[0]->name, k[1]->name);
    assert_string_equal(k[0]->name, k[2]->name);
    arena_free(arena);
}

/* Indices are 32 bits wide as long as no element, and no loop that steps beyond the last of them,
 * can lie further away. */
static void indices_are_as_wide_as_they_must(void **state)
{
    static const struct Size {
        long long rows, columns;
        bool wide;
    } size[] = { { 1000, 1000, false },
                 { 20000, 20000, false },
                 { 50000, 50000, true },
                 { 3, 3000000000, true } };
    static const char *const text[] = {
        "graph (%%x: f32[%lld,%lld]) {\n  %%a = mul %%x, %%x\n  return %%a\n}\n",
        "graph (%%x: f32[%lld,%lld]) {\n  %%a = mul %%x, %%x\n  %%s = sum %%a axes=[1]\n"
        "  return %%s\n}\n",
    };
    Arena *arena = arena_new();
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        for (int sum = 0; sum < 2; sum++) {
            Graph *g;
            Kernel *k;
            char full[200];
            snprintf(full, sizeof full, text[sum], size[i].rows, size[i].columns);
            if (graph_parse(&cx, arena, "wide", full, &g) != ST_OK)
                fail_msg("%s", cx.msg);
            assert_int_equal(cuda_kernels(&cx, arena, g, &k), 1);
            if ((strstr(k[0].source, "const gtc_i64 ") != NULL) != size[i].wide)
                fail_msg("%lld x %lld:\n%s", size[i].rows, size[i].columns, k[0].source);
        }
    arena_free(arena);
}

/* Neighbouring threads load neighbouring columns, and enough of them are at work. */
static void long_columns_are_summed_in_parts(void **state)
{
    static const char text[] = "graph (%x: f32[65536,32], %y: f32[65536,32]) {\n"
                               "  %a = mul %x, %y\n  %s = sum %a axes=[0]\n  return %s\n}\n";
    Arena *arena = arena_new();
    Graph *g;
    Kernel *k;
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    assert_int_equal(graph_parse(&cx, arena, "columns", text, &g), ST_OK);
    assert_int_equal(cuda_kernels(&cx, arena, g, &k), 1);
    assert_non_null(strstr(k[0].source, " parts "));
    assert_null(strstr(k[0].source, "by 256 threads"));
    assert_true(k[0].launch[0].blocks >= middling_gpu().threads);
    arena_free(arena);
}

/* The gradients of a convolution whose weights are few: a block a channel would leave most of the
 * GPU idle. */
static void few_channels_use_many_blocks(void **state)
{
    static const ZooCase large = { .path = "bench/nets/cnn2d.json",
                                   .set = { "layers.conv1.filters=16" },
                                   .x = { .rank = 3, .dim = { 640, 256, 1 } },
                                   .targets = 1 };
    int gradients = 0;
    Zoo z;
    Kernel *k;
    (void)state;
    zoo_open(&z, &large, NULL);
    const int n = cuda_kernels(&z.cx, z.arena, zoo_graph(&z, &large, BUILD_TRAIN), &k);
    for (int i = 0; i < n; i++)
        if (strncmp(k[i].name, "conv2d_bwd_", 11) == 0) {
            print_message("%s: %lld blocks\n", k[i].name, (long long)k[i].launch[0].blocks);
            assert_true(k[i].launch[0].blocks >= middling_gpu().threads);
            gradients++;
        }
    zoo_close(&z);
    assert_true(gradients >= 3);
}

/* A launch asks for the shared memory that it uses, not for what another of its kernel does. */
static void launches_ask_for_what_they_use(void **state)
{
    static const ZooCase whole = { .path = "bench/nets/xfmr.json",
                                   .x = { .rank = 2, .dim = { 60, 16 } },
                                   .classes = 10 };
    int lean = 0;
    Zoo z;
    Kernel *k;
    (void)state;
    zoo_open(&z, &whole, NULL);
    const int n = cuda_kernels(&z.cx, z.arena, zoo_graph(&z, &whole, BUILD_TRAIN), &k);
    for (int i = 0; i < n; i++)
        for (int j = 1; j < k[i].nlaunch; j++)
            lean += abs(k[i].launch[j].smem - k[i].launch[0].smem) > 512;
    zoo_close(&z);
    assert_true(lean > 0);
}

/* Attention is one launch each way where what it makes of one head fits a block's shared memory; of
 * a long sequence it is one forward and two backward, and all that goes through the workspace is a
 * number for each query. */
static void attention_takes_few_launches(void **state)
{
    enum { LONG = 1024 };
    static const ZooCase layer[] = {
        { .path = "models/gpt_char.json",
          .x = { .rank = 1, .dim = { 64 } },
          .classes = 65,
          .words = 65,
          .each = true },
        { .path = "bench/nets/xfmr.json", .x = { .rank = 2, .dim = { 60, 16 } }, .classes = 10 },
        { .path = "models/gpt_char.json",
          .set = { "data.window=1024" },
          .x = { .rank = 1, .dim = { LONG } },
          .classes = 65,
          .words = 65,
          .each = true }
    };
    static const int heads[] = { 4, 8, 4 }, backward[] = { 1, 1, 2 };
    const Target gpu = gpu_of("sm_90");
    (void)state;
    for (int i = 0; i < 3; i++) {
        int found[2] = { 0 };
        Zoo z;
        Kernel *k;
        zoo_open_full(&z, &layer[i]);
        const Graph *g = zoo_graph(&z, &layer[i], BUILD_TRAIN);
        const int n = cuda_kernels_for(&z.cx, z.arena, &gpu, g, &k);
        for (int j = 0; j < n; j++) {
            if (strncmp(k[j].name, "attention_", 10) != 0)
                continue;
            const bool bwd = strncmp(k[j].name, "attention_bwd", 13) == 0;
            const int64_t rows = (int64_t)z.batch * heads[i];
            found[bwd]++;
            print_message("%s: %d launches, %lld bytes of workspace, %d of shared memory\n",
                          k[j].name, k[j].nlaunch, (long long)k[j].shared_bytes,
                          k[j].launch[0].smem);
            assert_int_equal(k[j].nlaunch, bwd ? backward[i] : 1);
            assert_int_equal(k[j].shared_bytes, bwd && i == 2 ? 4 * rows * LONG : 0);
            assert_true(k[j].launch[0].blocks >= rows);
        }
        assert_true(found[0] > 0 && found[1] > 0);
        zoo_close(&z);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_kernel_is_planned),
                                        cmocka_unit_test(every_feed_is_planned),
                                        cmocka_unit_test(an_optimizer_is_one_launch),
                                        cmocka_unit_test(as_many_blocks_make_a_name),
                                        cmocka_unit_test(indices_are_as_wide_as_they_must),
                                        cmocka_unit_test(long_columns_are_summed_in_parts),
                                        cmocka_unit_test(few_channels_use_many_blocks),
                                        cmocka_unit_test(attention_takes_few_launches),
                                        cmocka_unit_test(launches_ask_for_what_they_use) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
