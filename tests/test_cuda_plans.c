/* SPDX-License-Identifier: Apache-2.0 */
/* The planner for GPUs takes every kernel of every zoo model: nothing is left to the last resort or
 * the interpreter, and no launch wants what no GPU has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/cuda_kernels.h"
#include "tests/zoo_case.h"

static void hear(void *arg, LogLevel level, const char *text)
{
    (void)arg, (void)level;
    print_message("%s\n", text);
}

static void every_kernel_is_planned(void **state)
{
    (void)state;
    int left = 0;
    for (int i = 0; i < zoo_cases; i++) {
        Zoo z;
        Kernel *k;
        zoo_open(&z, &zoo_case[i], NULL);
        z.cx.log = hear;
        const int n = cuda_kernels(&z.cx, z.arena, zoo_graph(&z, &zoo_case[i], BUILD_TRAIN), &k);
        int launches = 0;
        for (int j = 0; j < n; j++) {
            launches += k[j].nlaunch;
            if (strcmp(k[j].planner, "cuda") != 0) {
                print_error("%s: %s is left to %s\n", zoo_case[i].path, k[j].name, k[j].planner);
                left++;
            }
            for (int q = 0; q < k[j].nlaunch; q++) {
                const Launch *l = &k[j].launch[q];
                assert_true(l->blocks >= 1 && l->blocks <= INT32_MAX);
                assert_true(l->threads >= 32 && l->threads <= 1024 && l->threads % 32 == 0);
                assert_true(l->smem >= 0 && l->smem <= cuda_target().smem_bytes + 256);
            }
        }
        print_message("%s: %d kernels, %d launches\n", zoo_case[i].path, n, launches);
        zoo_close(&z);
    }
    assert_int_equal(left, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_kernel_is_planned) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
