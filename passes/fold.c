/* SPDX-License-Identifier: Apache-2.0 */
/* fold: constant folding.
 *
 * A `const` is one number that fills a shape, so the result of an elementwise op on consts is a
 * const again, and one scalar evaluation finds it: by the evaluator, so that an op's value is
 * written down once, in ops.def.  The number is kept as the f64 it came out as; it is rounded
 * once, where it is stored or spelled, so folding never adds an error.  What is not finite stays
 * in the graph, where it can be seen.
 *
 * Beyond that: a reduction of a const, and logic or select with one const arm.
 *
 * requires: verified      keeps: definition order, names, regions      cost: O(nodes)
 */
#include <math.h>

#include "ir/base/bug.h"
#include "ir/eval.h"
#include "passes/rewrite.h"

static bool is_const(const Graph *g, Ref r)
{
    return g->node[r].op == OP_const;
}

static double fill(const Graph *g, Ref r)
{
    return g->node[r].attr.fill.value;
}

static bool all_const(const Graph *g, const Node *n)
{
    for (uint32_t i = 0; i < n->nargs; i++)
        if (!is_const(g, n->arg[i]))
            return false;
    return n->nargs > 0;
}

static Status add_const(PassCx *pcx, Graph *g, const Node *like, double value, Ref *out)
{
    const Node n = {
        .op = OP_const, .type = like->type, .attr.fill.value = value, .region = like->region
    };
    return graph_add(pcx->cx, g, &n, out);
}

/* The op on scalars of the arguments' values. */
static Status eval_scalar(PassCx *pcx, const Graph *g, const Node *n, double *value)
{
    Graph *one = graph_new(pcx->scratch);
    Ref *arg = arena_array(pcx->scratch, Ref, n->nargs);
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Node scalar = { .type.dt = g->node[n->arg[i]].type.dt };
        TRY(add_const(pcx, one, &scalar, fill(g, n->arg[i]), &arg[i]));
    }
    const Node op = { .op = n->op, .nargs = n->nargs, .arg = arg, .type.dt = n->type.dt };
    Ref r;
    Tensor result;
    TRY(graph_add(pcx->cx, one, &op, &r));
    TRY(graph_output(pcx->cx, one, r, REF_NONE, NULL));
    TRY(eval_graph(pcx->cx, one, EVAL_F64, pcx->scratch, NULL, &result));
    *value = result.at[0];
    return ST_OK;
}

/* Whether doubles, in which the evaluator counts, hold the result: from 2^53 on i64 stays as it is. */
static bool is_exact(const Graph *g, const Node *n, double value)
{
    if (n->type.dt != DT_I64)
        return true;
    const double most = n->op == OP_mul ? fill(g, n->arg[0]) * fill(g, n->arg[1]) : value;
    return fabs(most) < 0x1p53;
}

static bool reduced_const(const Graph *g, const Node *n, double *value)
{
    if (!is_const(g, n->arg[0]))
        return false;
    const int64_t from = shape_count(&g->node[n->arg[0]].type.shape);
    const int64_t to = shape_count(&n->type.shape);
    if (from == 0 || to == 0 || (n->op == OP_sum && !dtype_is_float(n->type.dt)))
        return false;
    *value = fill(g, n->arg[0]) * (n->op == OP_sum && !BUG(22) ? (double)(from / to) : 1);
    return true;
}

/* The argument that n is equal to whatever the others hold, or REF_NONE. */
static Ref decided_arg(const Graph *g, const Node *n)
{
    if (n->op == OP_select && is_const(g, n->arg[0]))
        return n->arg[fill(g, n->arg[0]) != 0 ? 1 : 2];
    for (int i = 0; i < 2 && n->type.dt == DT_BOOL && (n->op == OP_and || n->op == OP_or); i++)
        if (is_const(g, n->arg[i])) {
            const bool decides = (fill(g, n->arg[i]) != 0) == (n->op == OP_or || BUG(23));
            return decides ? n->arg[i] : n->arg[1 - i];
        }
    return REF_NONE;
}

static Status fold_node(Rewrite *rw, const Node *n, Ref *out)
{
    const int cls = op_info[n->op].cls;
    double value = 0;
    bool known = false;
    if (cls == CLASS_ELEMENTWISE) {
        const Ref same = decided_arg(rw->out, n);
        if (same) {
            *out = same;
            rw->pcx->nchanged++;
            return ST_OK;
        }
        if (all_const(rw->out, n)) {
            TRY(eval_scalar(rw->pcx, rw->out, n, &value));
            known = is_exact(rw->out, n, value);
        }
    } else if (n->op == OP_sum || n->op == OP_amax || n->op == OP_amin) {
        known = reduced_const(rw->out, n, &value);
    }
    if (!known || !isfinite(value))
        return graph_add(rw->pcx->cx, rw->out, n, out);
    rw->pcx->nchanged++;
    return add_const(rw->pcx, rw->out, n, value, out);
}

Status pass_fold(PassCx *pcx, const Graph *in, Graph *out)
{
    Rewrite rw = rewrite_start(pcx, in, out, pass_fold);
    for (Ref r = 1; r < in->nnode; r++) {
        Node n;
        TRY(rewrite_node(&rw, r, &n));
        TRY(fold_node(&rw, &n, &rw.map[r]));
    }
    return rewrite_outputs(&rw);
}
