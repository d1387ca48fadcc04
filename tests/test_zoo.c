/* SPDX-License-Identifier: Apache-2.0 */
/* Every model of models/ and bench/nets, made small but of the same structure: a training step as
 * compiled agrees with the evaluator in every output, gradient, parameter and state, three steps
 * long: with plain descent in both modes, with its own optimizer in the default one, on one thread
 * and on two; with sanitizers in fewer ways (program_check.h), plain descent for every fourth. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/program_check.h"
#include "tests/zoo_case.h"

#if defined(GTC_SANITIZE)
enum { DESCENT_EVERY = 4 }; /* forwards and backwards its kernels are those of the other step */
#else
enum { DESCENT_EVERY = 1 };
#endif

/* Gives each gradient of the graph as an output too. */
static void output_gradients(Ctx *cx, Graph *g)
{
    const uint32_t n = g->nnode;
    for (Ref r = 1; r < n; r++) {
        if (g->node[r].op != OP_grad)
            continue;
        for (uint32_t i = 0; i + 1 < g->node[r].nargs; i++) {
            Ref get;
            const Node node = { .op = OP_get, .nargs = 1, .arg = &r, .attr.get.index = i };
            assert_int_equal(graph_add(cx, g, &node, &get), ST_OK);
            assert_int_equal(graph_output(cx, g, get, REF_NONE, NULL), ST_OK);
        }
    }
}

static void zoo_compare(Zoo *z, const char *what, const Graph *g, GtcMode least)
{
    const ReferenceOptions ro = { .steps = 3, .seed = 12, .init = zoo_init, .init_arg = z };
    Reference *ref = reference_new(&z->cx, g, &ro);
    int failed = 0;
    for (int mode = (int)least; mode <= GTC_DEFAULT; mode++)
        for (int threads = CHECK_THREADS_FIRST; threads <= 2; threads++) {
            const ProgramCheck pc = { .mode = (GtcMode)mode, .threads = threads };
            const ProgramVerdict v = program_check(&z->cx, ref, &pc);
            const bool many = (v.undecided + v.loose) * 20 > v.compared;
            if (v.wrong || many || v.plain)
                print_error(
                    "%s, %s, %d threads: %s (%lld of %lld undecided or loose, %d of %d plain)\n",
                    what, mode == GTC_EAGER ? "eager" : "default", threads, v.wrong ? v.text : "-",
                    (long long)(v.undecided + v.loose), (long long)v.compared, v.plain, v.kernels);
            failed += v.wrong || many;
            if (mode == GTC_DEFAULT && threads == 2)
                print_message("%s: %lld elements, %lld undecided, %lld loose; worst %.3f of a "
                              "bound, %.3f of an RMSE\n",
                              what, (long long)v.compared, (long long)v.undecided,
                              (long long)v.loose, v.worst, v.worst_rmse);
        }
    reference_free(ref);
    if (failed)
        fail_msg("%s: %d programs are wrong", what, failed);
}

static void check_case(const ZooCase *c, const char *optimizer, bool gradients)
{
    Zoo z;
    char what[128];
    zoo_open(&z, c, optimizer);
    Graph *g = zoo_graph(&z, c, BUILD_TRAIN);
    if (gradients)
        output_gradients(&z.cx, g);
    snprintf(what, sizeof what, "%s, %s%s", c->path, optimizer ? "sgd" : "its optimizer",
             gradients ? ", gradients" : "");
    zoo_compare(&z, what, g, gradients ? CHECK_MODE_FIRST : GTC_DEFAULT);
    zoo_close(&z);
}

static void model_agrees(void **state)
{
    const ZooCase *c = *state;
    if ((c - zoo_case) % DESCENT_EVERY == 0)
        check_case(c, "optimizer={\"type\":\"sgd\",\"learning_rate\":0.05}", true);
    check_case(c, c->own ? c->own : "optimizer.eps=1e-3", false);
}

int main(void)
{
    enum { MOST = 64 };
    struct CMUnitTest tests[MOST];
    gtc_assert(zoo_cases <= MOST, "%d models", zoo_cases);
    for (int i = 0; i < zoo_cases; i++)
        tests[i] = (struct CMUnitTest){ .name = zoo_case[i].path,
                                        .test_func = model_agrees,
                                        .initial_state = (void *)(uintptr_t)&zoo_case[i] };
    return _cmocka_run_group_tests("zoo", tests, (size_t)zoo_cases, NULL, NULL);
}
