/* SPDX-License-Identifier: Apache-2.0 */
/* IR text: what is taken verifies, prints, reads back as the same graph, and, when it is small,
 * evaluates. */
#include <stdlib.h>

#include "ir/eval.h"
#include "ir/text.h"
#include "tests/fuzz/target.h"

enum { SMALL = 512, WORK = 1 << 14 };

/* About how many elements an evaluation touches; more than WORK when it is not small. */
static double work(const Graph *g)
{
    double sum = 0;
    for (Ref r = 1; r < g->nnode && sum <= WORK; r++) {
        const Node *n = &g->node[r];
        double count = 1;
        for (int i = 0; i < n->type.shape.rank; i++)
            count *= (double)n->type.shape.dim[i];
        sum += count > SMALL || n->op == OP_grad ? (double)WORK + 1 : count + 1;
        if (n->op == OP_scan)
            sum += (double)n->attr.scan.trip * (1 + work(n->attr.scan.body));
        if (n->op == OP_fusion)
            sum += work(n->attr.fusion.body);
    }
    return sum;
}

/* Each result's size too: a tuple has no type of its own. */
static bool outputs_small(const Graph *g)
{
    for (uint32_t i = 0; i < g->nout; i++)
        if (g->node[g->out[i].value].type.dt == DT_NONE)
            return false;
    return true;
}

static void evaluate(Ctx *cx, const Graph *g)
{
    Arena *arena = arena_new();
    Tensor *in = arena_array(arena, Tensor, g->ninput + 1);
    Tensor *out = arena_array(arena, Tensor, g->nout + 1);
    for (uint32_t i = 0; i < g->ninput; i++) {
        in[i] = tensor_new(arena, g->node[g->input[i]].type);
        for (int64_t k = 0; k < shape_count(&in[i].type.shape); k++)
            in[i].at[k] = in[i].type.dt == DT_BOOL ? (double)(k % 2) : (double)(k % 7);
    }
    for (EvalMode mode = EVAL_F64; mode <= EVAL_ROUND; mode++) {
        const Status st = eval_graph(cx, g, mode, arena, in, out);
        fuzz_check(st == ST_OK, "%s", cx->msg);
    }
    arena_free(arena);
}

static Status read_gir(Ctx *cx)
{
    char *text;
    size_t n;
    Graph *g, *again;
    TRY(os_read_file(cx, "input.gir", &text, &n));
    Arena *arena = arena_new();
    const Status st = graph_parse(cx, arena, "input.gir", text, &g);
    if (st == ST_OK) {
        Strbuf s = { 0 };
        fuzz_accepted();
        fuzz_check(graph_verify(cx, g) == ST_OK, "%s", cx->msg);
        graph_print(g, &s);
        fuzz_check(graph_parse(cx, arena, "printed", s.s, &again) == ST_OK, "%d:%d: %s\n%s",
                   cx->line, cx->col, cx->msg, s.s);
        fuzz_check(graph_eq(g, again), "%s", s.s);
        strbuf_free(&s);
        if (outputs_small(g) && work(g) <= WORK)
            evaluate(cx, g);
    }
    free(text);
    arena_free(arena);
    return st;
}

const FuzzTarget fuzz_gir = { "gir", "input.gir", read_gir };
