/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/side_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/pass_check.h"
#include "tests/random_graph.h"
#include "tests/slope_check.h"

enum { SIDES = 16 };

/* A fusion inside a scan, which random graphs have and gtc never makes: isolate refuses it. */
static bool holds_fusion(const Graph *g, bool inside)
{
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if ((n->op == OP_fusion && inside) ||
            (n->op == OP_scan && holds_fusion(n->attr.scan.body, true)))
            return true;
    }
    return false;
}

/* Every value that nobody uses becomes an output, so that nothing of the graph is dead. */
static void use_all(Ctx *cx, Arena *arena, Graph *g)
{
    bool *used = arena_array(arena, bool, g->nnode);
    for (Ref r = 1; r < g->nnode; r++)
        for (uint32_t i = 0; i < g->node[r].nargs; i++)
            used[g->node[r].arg[i]] = true;
    for (uint32_t i = 0; i < g->nout; i++)
        used[g->out[i].value] = true;
    for (Ref r = 1; r < g->nnode; r++)
        if (!used[r] && g->node[r].op != OP_input && g->node[r].type.dt != DT_NONE &&
            graph_output(cx, g, r, REF_NONE, NULL) != ST_OK)
            fail_msg("side graph: %s", cx->msg);
}

void side_check(Ctx *cx, uint64_t seed)
{
    for (uint64_t i = 0; i < SIDES; i++) {
        const RandomOptions how = { .nodes = 20 + (int)(i % 3) * 20,
                                    .max_count = i % 2 ? 40 : 300,
                                    .zeros = i % 4 == 0,
                                    .grads = i % 4 == 1,
                                    .bodies = i % 4 == 2,
                                    .random = true,
                                    .views = i % 4 != 2 && i >= SIDES / 4,
                                    .tame = true };
        const PassOptions opt = { .level = i % 8 == 7 ? LEVEL_eager : LEVEL_default };
        Arena *arena = arena_new();
        const Graph *out;
        Graph *g = random_graph(cx, arena, seed * SIDES + i, &how);
        if (i % 5)
            use_all(cx, arena, g);
        const SlopeVerdict slopes = slope_check(cx, g, check_inputs(arena, g, i), seed);
        if (slopes.wrong)
            fail_msg("side graph %d of %llu: %s", (int)i, (unsigned long long)seed, slopes.text);
        const Status status = check_passes(cx, arena, &opt, g, &out);
        const bool fused = holds_fusion(g, false) && strstr(cx->msg, "isolate: scan: its body");
        if (status != ST_OK && !fused && !strstr(cx->msg, "gradient")) /* none; of too many axes */
            fail_msg("side graph %d of %llu: does not compile: %s", (int)i,
                     (unsigned long long)seed, cx->msg);
        arena_free(arena);
    }
}
