/* SPDX-License-Identifier: Apache-2.0 */
/* The ops with a body, in the evaluator: scan runs it once a step, fusion once. */
#include <string.h>

#include "ir/eval_op.h"

/* What a running scan holds: the carries twice (in turn read and written), and its body. */
typedef struct Loop {
    EvalBody *body;
    Value *in;      /* of the body */
    double **dst;   /* of the body's outputs */
    double **carry; /* [2 * ncarry] */
} Loop;

static Status loop_open(const Eval *e, const Node *n, Arena *arena, Loop *w)
{
    const Graph *g = n->attr.scan.body;
    const uint32_t ncarry = n->attr.scan.ncarry;
    w->in = arena_array(arena, Value, n->nargs);
    w->dst = arena_array(arena, double *, g->nout);
    w->carry = arena_array(arena, double *, 2 * ncarry);
    for (uint32_t i = 0; i < 2 * ncarry; i++) {
        const Type *t = &g->node[g->input[i % ncarry]].type;
        w->carry[i] = arena_array(arena, double, shape_count(&t->shape));
    }
    return eval_body_open(e->cx, g, &w->body);
}

static Status loop_run(const Eval *e, const Node *n, const Value *arg, Value *out, Loop *w)
{
    const Graph *g = n->attr.scan.body;
    const uint32_t ncarry = n->attr.scan.ncarry, nstep = n->attr.scan.nstep;
    const int64_t trip = n->attr.scan.trip;
    for (uint32_t i = 0; i < n->nargs; i++)
        w->in[i] = arg[i];
    for (uint32_t i = 0; i < ncarry; i++) {
        const Value start = value_packed(&arg[i].type, w->carry[i]);
        value_copy(&start, &arg[i]);
    }
    for (int64_t k = 0; k < trip; k++) {
        const int64_t t = n->attr.scan.reverse ? trip - 1 - k : k;
        const uint32_t from = k % 2 ? ncarry : 0, to = ncarry - from;
        for (uint32_t i = 0; i < ncarry; i++) {
            w->in[i] = value_packed(&arg[i].type, w->carry[from + i]);
            w->dst[i] = w->carry[to + i];
        }
        for (uint32_t i = ncarry; i < ncarry + nstep; i++) { /* axis 0 goes */
            const Value *x = &arg[i];
            Value *step = &w->in[i];
            *step = (Value){ .type = g->node[g->input[i]].type, .at = x->at + t * x->stride[0] };
            memcpy(step->stride, x->stride + 1, (MAX_RANK - 1) * sizeof *step->stride);
        }
        for (uint32_t i = ncarry; i < g->nout; i++)
            w->dst[i] = out[i].at + t * out[i].stride[0];
        TRY(eval_body_run(w->body, e->mode, w->in, w->dst));
    }
    for (uint32_t i = 0; i < ncarry; i++) {
        const Value last = value_packed(&arg[i].type, w->carry[(trip % 2 ? ncarry : 0) + i]);
        value_copy(&out[i], &last);
    }
    return ST_OK;
}

static Status results_new(const Eval *e, const Node *n, uint32_t count, Value *out)
{
    const Ref self = (Ref)(n - e->g->node);
    for (uint32_t i = 0; i < count; i++) {
        const Type t = graph_result_type(e->g, self, i);
        TRY(value_new(e, &t, &out[i]));
    }
    return ST_OK;
}

Status eval_scan(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    TRY(results_new(e, n, n->attr.scan.body->nout, out));
    Arena *arena = arena_new();
    Loop w = { 0 };
    Status status = loop_open(e, n, arena, &w);
    if (status == ST_OK)
        status = loop_run(e, n, arg, out, &w);
    eval_body_close(w.body);
    arena_free(arena);
    return status;
}

Status eval_fusion(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    const Graph *g = n->attr.fusion.body;
    TRY(results_new(e, n, g->nout, out));
    Arena *arena = arena_new();
    double **dst = arena_array(arena, double *, g->nout);
    for (uint32_t i = 0; i < g->nout; i++)
        dst[i] = out[i].at;
    EvalBody *body = NULL;
    Status status = eval_body_open(e->cx, g, &body);
    if (status == ST_OK)
        status = eval_body_run(body, e->mode, arg, dst);
    eval_body_close(body);
    arena_free(arena);
    return status;
}
