/* SPDX-License-Identifier: Apache-2.0 */
/* The host's CUDA machine: correct kernels give right results and no alarm under every schedule,
 * seeded bugs are found, and the message names the kernel and the line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/simt_case.h"

enum { SCHEDULES = 8 };

static SimtOptions schedule(uint32_t k, bool shadow)
{
    return (
        SimtOptions){ .order = k < 2 ? (SimtOrder)k : SIMT_SEEDED, .seed = k, .shadow = shadow };
}

static void test_correct_kernels(void **state)
{
    Ctx cx;
    (void)state;
    ctx_init(&cx);
    for (int i = 0; i < simt_case_count; i++)
        for (int shadow = 0; shadow < 2; shadow++) {
            const SimtCase *c = &simt_cases[i];
            char *source = simt_case_source(c->name);
            size_t n = 0;
            char *code = simt_case_compile(c->name, source, shadow, &n);
            assert_non_null(code);
            for (uint32_t k = 0; k < SCHEDULES; k++) {
                const SimtOptions opt = schedule(k, shadow);
                if (simt_case_run(&cx, c, code, n, &opt) != ST_OK)
                    fail_msg("schedule %u, shadow %d: %s", k, shadow, cx.msg);
            }
            free(code);
            free(source);
        }
}

/* A bug: in this kernel `with` stands for `old`; the message is of the line of `at` and has `says`
 * in it.  at "": the result is wrong, and only it shows that. */
typedef struct SeededBug {
    const char *kernel, *old, *with, *at, *says;
} SeededBug;

static const SeededBug bugs[] = {
    /* reduce: shuffles, one barrier */
    { "reduce", "    gtc_bar();\n", "", "sum += part[w]", "which nothing has written" },
    { "reduce", "    s += gtc_shfl_xor_f(s, 2);", "    if (t % 32 < 16) s += gtc_shfl_xor_f(s, 2);",
      "gtc_shfl_xor_f(s, 2)", "waits in another one, at line 14" },
    { "reduce", "    s += gtc_shfl_xor_f(s, 1);", "    if (t % 32 < 16) s += gtc_shfl_xor_f(s, 1);",
      "gtc_shfl_xor_f(s, 1)", "waits at the barrier at line 17" },
    { "reduce", "gtc_shfl_xor_f(s, 16)", "gtc_shfl_xor_f(s, 32)", "gtc_shfl_xor_f(s, 32)",
      "a shuffle with mask 32" },
    { "reduce", "gtc_shfl_xor_f(s, 16)", "gtc_shfl_xor_f(s, 8)", "", "" },
    { "reduce", "    s += gtc_shfl_xor_f(s, 8);",
      "    if (t == 40) return;\n    s += gtc_shfl_xor_f(s, 8);", "gtc_bar()",
      "left the kernel while 32 wait" },
    { "reduce", "    float s = 0.0f;", "    float s = 0.0f;\n    if (t == 20) return;",
      "gtc_shfl_xor_f(s, 16)", "left the kernel while its warp waits" },
    { "reduce", "part[t / 32] = s", "part[t / 16] = s", "part[t / 16] = s",
      "of shared memory at byte 32, of 32" },
    { "reduce", "if (t % 32 == 0)", "if (t % 64 == 0)", "sum += part[w]",
      "which nothing has written" },
    { "reduce", "if (t % 32 == 0)", "if (t % 16 == 0)", "part[t / 32] = s", "wrote" },
    { "reduce", "i < N;", "i < N + 120;", "s += x[i]", "of an allocation of 20000" },
    { "reduce", "i < N;", "i < N - 1;", "", "" },
    { "reduce", "    gtc_bar();", "    if (t >= 224) return;\n    gtc_bar();", "gtc_bar()",
      "left the kernel" },
    { "reduce", "    gtc_bar();", "    if (t < 128)\n        gtc_bar();", "gtc_bar()",
      "left the kernel" },
    { "reduce", "y[gtc_bid()] = sum", "y[0] = sum", "y[0] = sum", "the blocks have not met" },
    /* norm: two barriers a turn */
    { "norm", "        gtc_bar(); /* parts are read */\n", "", "part[t / 32] = s", "read, and" },
    { "norm", "        gtc_bar(); /* parts are there */\n", "", "mean += part[w]",
      "which nothing has written" },
    { "norm", "        gtc_bar(); /* parts are there */",
      "        if (t < 64)\n            gtc_bar();\n        else\n            gtc_bar(); // two",
      "// two", "wait at another one" },
    { "norm", "r < ROWS; r += gtc_nblocks()", "r < ROWS; r += gtc_nblocks() + (t == 127)",
      "gtc_bar()", "left the kernel" },
    { "norm", "y[r * COLS + c] = x", "y[r * COLS + c + (c > 190)] = x",
      "y[r * COLS + c + (c > 190)] = x", "" },
    { "norm", "1.0f / COLS", "1.0f / 128", "", "" },
    /* gemm: tiles */
    { "gemm", "        gtc_bar(); /* tiles are there */\n", "", "acc += sx",
      "which nothing has written" },
    { "gemm", "        gtc_bar(); /* tiles are read */\n", "", "acc += sx",
      "wrote, and no barrier" },
    { "gemm", "row < M && k + j < K ?", "k + j < K ?",
      "sx[i * 17 + j] =", "reads 4 bytes at byte" },
    { "gemm", "row < M && k + j < K ?", "row < M ?",
      "sx[i * 17 + j] =", "of an allocation of 4884" },
    { "gemm", "if (row < M && col < N)", "if (row < M)", "y[row * N + col] = acc", "" },
    { "gemm", "        sw[i * 16 + j] = k", "        if (i < 15) sw[i * 16 + j] = k", "acc += sx",
      "which nothing has written" },
    { "gemm", "sx + 16 * 17;", "sx + 16 * 16;", "sx[i * 17 + j] =", "wrote, and no barrier" },
    { "gemm", "q < 16; q++", "q < 17; q++", "acc += sx", "shared memory" },
    /* ring: two slots, one barrier a step */
    { "ring", "        gtc_bar(); /* a step */\n", "", "out[i] = (in[i]",
      "which nothing has written" },
    { "ring", "h + (1 - (t & 1)) * 64", "h + (t & 1) * 64", "out[i] = (in[i]", "no barrier" },
    { "ring", "    h[i] = 0.0f;\n", "", "out[i] = (in[i]", "which nothing has written" },
    { "ring", "h + (1 - (t & 1)) * 64", "h + (1 - (t & 1)) * 65", "out[i] = (in[i]",
      "shared memory" },
    { "ring", "h[(STEPS & 1) * 64 + i]", "h[(1 - (STEPS & 1)) * 64 + i]", "", "" },
    { "ring", "        gtc_bar(); /* a step */",
      "        if (t + 1 < STEPS || i < 32)\n            gtc_bar();", "gtc_bar();\n    }",
      "left the kernel" },
    /* last: the last block adds up */
    { "last", "gtc_last_of(counter, gtc_nblocks())", "gtc_last_of(counter, gtc_nblocks() - 1)",
      "s += part[", "the blocks have not met" },
    { "last", "gtc_last_of(counter, gtc_nblocks())", "gtc_last_of(counter, gtc_nblocks() + 1)",
      "gtc_last_of(", "the counter is left at 7" },
    { "last", "    gtc_bar(); /* partial sums are there */\n", "", "s += part[",
      "the blocks have not met" },
    { "last", "    gtc_bar(); /* the flag is there */\n", "", "if (*flag",
      "shared memory at byte 256, which" },
    { "last", "        *flag = gtc_last_of(counter, gtc_nblocks());",
      "        *flag = gtc_bid() == gtc_nblocks() - 1;", "s += part[", "the blocks have not met" },
    { "last", "    if (t == 0)\n        *flag", "    if (t < 2)\n        *flag", "gtc_last_of(",
      "by a second thread" },
    { "last", "part[gtc_bid() * 4 + t] = s", "part[gtc_bid() * 3 + t] = s",
      "part[gtc_bid() * 3 + t] = s", "the blocks have not met" },
    { "last", "b < gtc_nblocks(); b++", "b <= gtc_nblocks(); b++", "s += part[",
      "reads 4 bytes at" },
    { "last", "        part[gtc_bid() * 4 + t] = s;",
      "        if (t < 3)\n            part[gtc_bid() * 4 + t] = s;", "        s += part[",
      "which nothing has written" },
    /* tree: counters of groups */
    { "tree", "gtc_last_of(counter + group, 4)", "gtc_last_of(counter, 4)", "= part[4 * group] +",
      "the blocks have not met" },
    { "tree", "if (gtc_last_of(counter + groups, groups))", "if (group == groups - 1)",
      "s += all[g]", "" },
    { "tree", "counter + groups, groups", "counter + groups + 1, groups",
      "counter + groups + 1, groups", "no device memory" },
    /* grid: all blocks wait for each other */
    { "grid", "        gtc_grid_bar(counter); /* a step */\n", "", "out[i] = 0.5f",
      "wrote, and no barrier" },
    { "grid", "        gtc_grid_bar(counter); /* a step */", "        gtc_bar();", "out[i] = 0.5f",
      "the blocks have not met" },
    { "grid", "    gtc_grid_bar(counter); /* x is there */\n", "", "z[i] = x[i]", "read, and" },
    { "grid", "float *out = step & 1 ? z : y;", "float *out = step & 1 ? y : z;", "out[i] = 0.5f",
      "" },
    { "grid", "        gtc_grid_bar(counter); /* a step */",
      "        if (gtc_bid())\n            gtc_grid_bar(counter);", "out[i] = 0.5f", "no barrier" },
    { "grid", "gtc_grid_bar(counter); /* x", "gtc_grid_bar(counter + (gtc_bid() == 0)); /* x",
      "gtc_grid_bar(counter +", "" },
    { "grid", "        gtc_grid_bar(counter); /* a step */",
      "        if (step < STEPS - 1 || gtc_bid())\n            gtc_grid_bar(counter); /* all? */",
      "/* all? */", "when 1 blocks have ended" },
    { "grid", "        gtc_grid_bar(counter); /* a step */",
      "        if (step < STEPS - 1 || gtc_bid() < 5)\n            gtc_grid_bar(counter); /* all? "
      "*/",
      "/* all? */", "no thread can go on; block 0 thread 0 waits in a barrier at line 16" },
    /* softmax: the prelude's reductions */
    { "softmax", "    s = gtc_block_add", "    if (t < 64)\n        s = gtc_block_add",
      "gtc_block_max_i", "a barrier, while 64 threads wait at another one, at line 18" },
    { "softmax", "    s = gtc_block_add", "    if (t % 32)\n        s = gtc_block_add",
      "gtc_block_max_i", "waits in another one" },
    { "softmax", "gtc_smem() + 12", "gtc_smem() + 16", "gtc_block_max_i",
      "of shared memory at byte 24, of 24" },
    { "softmax", "s = gtc_block_add_f(s, part, 3,", "s = gtc_block_add_f(s, part, 2,", "", "" },
    { "softmax", "s = gtc_block_add_f(s, part, 3,", "s = gtc_block_add_f(s, part, 4,", "a sum",
      "which nothing has written" },
    { "softmax", "-GTC_INF", "0.0f - GTC_NAN", "", "" },
    /* vector: 16 bytes at a time */
    { "vector", "gtc_ld_f4(x + i)", "gtc_ld_f4(x + i + 1)", "gtc_ld_f4(x + i + 1)",
      "an access of 16 bytes" },
    { "vector", "gtc_st_f4(y + i, v)", "gtc_st_f4(y + i + 2, v)", "gtc_st_f4(y",
      "an access of 16" },
    { "vector", "if (i + 3 < N)", "if (i < N)", "gtc_ld_f4(x + i)", "of an allocation of 4012" },
    { "vector", "for (; i < N; i++)", "for (; i <= N; i++)", "y[i] = 2.0f", "bytes at byte 4012" },
    { "vector", "for (; i < N; i++)", "for (; i < N - 1; i++)", "", "" },
    /* narrow */
    { "narrow", "    gtc_bar();\n", "", "y[t] = sm", "which nothing has written" },
    { "narrow", "sm[N - 1 - t] = x", "sm[N - 1 - (t & 254)] = x", "sm[N - 1 - (t & 254)] = x",
      "wrote" },
    { "narrow", "(gtc_u16 *)(y + N)", "(gtc_u16 *)(y + N - 1)",
      "half[t] =", "an access of 2 bytes" },
};

/* Each of the schedules in turn, until one finds it. */
static Status find(Ctx *cx, const SimtCase *c, const char *code, size_t n)
{
    Status s = ST_OK;
    for (uint32_t k = 0; k < SCHEDULES && s == ST_OK; k++) {
        const SimtOptions opt = schedule(k, true);
        s = simt_case_run(cx, c, code, n, &opt);
    }
    return s;
}

static void test_seeded_bugs(void **state)
{
    const int n = sizeof bugs / sizeof *bugs;
    int missed = 0;
    (void)state;
    for (int i = 0; i < n; i++) {
        const SeededBug *bug = &bugs[i];
        char *source = simt_case_source(bug->kernel), want[64];
        char *edited = simt_case_edit(source, bug->old, bug->with);
        size_t bytes = 0;
        Ctx cx;

        ctx_init(&cx);
        assert_non_null(edited);
        char *code = simt_case_compile(bug->kernel, edited, true, &bytes);
        assert_non_null(code);
        const Status s = find(&cx, simt_case_find(bug->kernel), code, bytes);
        snprintf(want, sizeof want, "simt: %s:%d: ", bug->kernel, simt_case_line(edited, bug->at));
        if (*bug->at ? s != ST_INTERNAL || strncmp(cx.msg, want, strlen(want)) != 0 ||
                           !strstr(cx.msg, bug->says)
                     : s != ST_NUMERIC) {
            print_error("%s, \"%s\" for \"%s\": wants %s.. %s, got %s\n", bug->kernel, bug->with,
                        bug->old, *bug->at ? want : "a wrong result", bug->says,
                        s == ST_OK ? "nothing" : cx.msg);
            missed++;
        }
        free(code);
        free(edited);
        free(source);
    }
    if (missed)
        fail_msg("%d of %d seeded bugs are missed", missed, n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_correct_kernels),
        cmocka_unit_test(test_seeded_bugs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
