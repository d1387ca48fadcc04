/* SPDX-License-Identifier: Apache-2.0 */
/* Every zoo model's training step as CUDA kernels, one graph a step, run by the host in a GPU's
 * place, or by the device that GTC_GPU_DEVICE names: five steps with its own optimizer agree with
 * the evaluator in every output, parameter and state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/program_check.h"
#include "tests/zoo_case.h"

#if defined(GTC_SANITIZE)
enum { EVERY = 4 }; /* kernels are compiled without sanitizers; what runs them is the same */
#else
enum { EVERY = 1 };
#endif

static void model_agrees(void **state)
{
    const ZooCase *c = *state;
    Zoo z;
    zoo_open(&z, c, c->own ? c->own : "optimizer.eps=1e-3");
    const Graph *g = zoo_graph(&z, c, BUILD_TRAIN);
    const ReferenceOptions ro = { .steps = 5, .seed = 12, .init = zoo_init, .init_arg = &z };
    Reference *ref = reference_new(&z.cx, g, &ro);
    const char *device = getenv("GTC_GPU_DEVICE");
    const ProgramCheck pc = {
        .mode = GTC_DEFAULT, .threads = 1, .device = device ? device : "simt"
    };
    const ProgramVerdict v = program_check(&z.cx, ref, &pc);
    print_message("%s: %d kernels, %lld elements, %lld undecided, %lld loose; worst %.3f of a "
                  "bound, %.3f of an RMSE\n",
                  c->path, v.kernels, (long long)v.compared, (long long)v.undecided,
                  (long long)v.loose, v.worst, v.worst_rmse);
    reference_free(ref);
    zoo_close(&z);
    if (v.wrong)
        fail_msg("%s: %s", c->path, v.text);
    assert_int_equal(v.plain, 0);
}

int main(void)
{
    enum { MOST = 64 };
    struct CMUnitTest tests[MOST];
    gtc_assert(zoo_cases <= MOST, "%d models", zoo_cases);
    size_t n = 0;
    for (int i = 0; i < zoo_cases; i += EVERY)
        tests[n++] = (struct CMUnitTest){ .name = zoo_case[i].path,
                                          .test_func = model_agrees,
                                          .initial_state = (void *)(uintptr_t)&zoo_case[i] };
    return _cmocka_run_group_tests("simt zoo", tests, n, NULL, NULL);
}
