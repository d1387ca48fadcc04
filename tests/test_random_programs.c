/* SPDX-License-Identifier: Apache-2.0 */
/* Random graphs, with the gradient of one of their values where there is one, as compiled programs:
 * both modes, on one thread and on two, against the evaluator, and the gradient against
 * differences.  GTC_FUZZ_COUNT graphs, from seed GTC_FUZZ_SEED on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ir/build.h"
#include "ir/text.h"
#include "tests/program_check.h"
#include "tests/random_graph.h"
#include "tests/slope_check.h"

/* Fusions by hand, and scans in scans, are nothing that compiles. */
static bool is_nested(const Graph *g, bool in_body)
{
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if (n->op == OP_fusion || (n->op == OP_scan && in_body))
            return true;
        if (n->op == OP_scan && is_nested(n->attr.scan.body, true))
            return true;
    }
    return false;
}

static Graph *grow(Ctx *cx, Arena *arena, uint64_t seed)
{
    RandomOptions opt = {
        .nodes = 8 + (int)(seed % 5) * 5,
        .max_count = 1024,
        .grads = seed % 2,
        .bodies = seed % 3 == 0,
        .random = true,
        .tame = true,
    };
    Graph *g = random_graph(cx, arena, seed, &opt);
    if (!is_nested(g, false))
        return g;
    opt.bodies = false;
    return random_graph(cx, arena, seed, &opt);
}

static long from_env(const char *name, long otherwise)
{
    const char *s = getenv(name);
    return s && *s ? strtol(s, NULL, 10) : otherwise;
}

static void show(const Graph *g)
{
    Strbuf text = { 0 };
    graph_print(g, &text);
    print_error("%s", strbuf_str(&text));
    strbuf_free(&text);
}

typedef struct Count {
    int64_t compared, undecided, loose;
    double worst, worst_rmse;
    int graphs, wrong, kernels, plain, slopes, slopes_undecided;
} Count;

static void check_seed(uint64_t seed, Count *count)
{
    Ctx cx;
    Arena *arena = arena_new();
    ctx_init(&cx);
    const Graph *g = grow(&cx, arena, seed);
    const ReferenceOptions ro = { .steps = 2, .seed = seed };
    Reference *ref = reference_new(&cx, g, &ro);
    const SlopeVerdict slopes = slope_check(&cx, g, reference_start(ref), seed);
    bool shown = slopes.wrong;
    count->slopes += slopes.compared;
    count->slopes_undecided += slopes.undecided;
    if (slopes.wrong) {
        show(g);
        print_error("seed %llu: %s\n", (unsigned long long)seed, slopes.text);
    }
    for (int mode = GTC_EAGER; mode <= GTC_DEFAULT; mode++)
        for (int threads = 1; threads <= 2; threads++) {
            const ProgramCheck pc = { .mode = (GtcMode)mode, .threads = threads };
            const ProgramVerdict v = program_check(&cx, ref, &pc);
            count->compared += v.compared;
            count->undecided += v.undecided;
            count->loose += v.loose;
            count->worst = v.worst > count->worst ? v.worst : count->worst;
            count->worst_rmse = v.worst_rmse > count->worst_rmse ? v.worst_rmse : count->worst_rmse;
            count->kernels += v.kernels;
            count->plain += v.plain;
            if (!v.wrong)
                continue;
            if (!shown)
                show(g);
            shown = true;
            print_error("seed %llu, %s, %d threads: %s\n", (unsigned long long)seed,
                        mode == GTC_EAGER ? "eager" : "default", threads, v.text);
        }
    count->graphs++;
    count->wrong += shown;
    reference_free(ref);
    arena_free(arena);
}

static void random_programs_agree(void **state)
{
    (void)state;
    const long n = from_env("GTC_FUZZ_COUNT", 100), first = from_env("GTC_FUZZ_SEED", 1);
    Count count = { 0 };
    for (long seed = first; seed < first + n; seed++)
        check_seed((uint64_t)seed, &count);
    print_message("%d graphs, %lld elements compared, %lld undecided, %lld loose; worst %.3f of a "
                  "bound, %.3f of an RMSE; %d kernels, %d plain; %d slopes compared, %d undecided\n",
                  count.graphs, (long long)count.compared, (long long)count.undecided,
                  (long long)count.loose, count.worst, count.worst_rmse, count.kernels, count.plain,
                  count.slopes, count.slopes_undecided);
    assert_int_equal(count.wrong, 0);
    assert_true((count.undecided + count.loose) * 50 <= count.compared);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(random_programs_agree) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
