/* SPDX-License-Identifier: Apache-2.0 */
/* The reference evaluator.
 *
 * One walk over the nodes in definition order, each by the function that its row of ops.def names;
 * nodes that no output needs are skipped.  Views cost nothing (eval_op.h), and a value's memory is
 * released right after the last node that reads it, so that a training step of a real model fits.
 * The body of a scan is walked once a step and leaves nothing behind but its outputs. */
#include <string.h>

#include "ir/base/os.h"
#include "ir/eval_op.h"

#define EVAL_SOURCE(id)      eval_##id
#define EVAL_ELEMENTWISE(id) eval_elementwise
#define EVAL_VIEW(id)        eval_##id
#define EVAL_REDUCE(id)      eval_##id
#define EVAL_CONTRACT(id)    eval_##id
#define EVAL_REGION(id)      eval_##id
#define EVAL_TUPLE(id)       eval_##id
#define EVAL_GRADIENT(id)    eval_##id
EvalFn *const eval_fn[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad) [OP_##id] = EVAL_##cls(id),
#include "ir/ops.def"
};

struct EvalBody {
    Ctx *cx;
    const Graph *g;
    Arena *arena;
    EvalLives lives;
    uint32_t *slot; /* by Ref: where its results stand in value[] */
    uint32_t nslot;
    Value *value;
    Value *arg;            /* of the node at hand */
    uint32_t *input_index; /* by Ref */
};

static bool is_alias(Op op)
{
    return op == OP_get || (op_info[op].cls == CLASS_VIEW && op != OP_pad && op != OP_concat &&
                            op != OP_gather);
}

/* last[r]: the last node that reads r's memory; nnode for what an output that is kept reads. */
EvalLives eval_lives(const Graph *g, bool keep, Arena *arena)
{
    const EvalLives lives = { .live = arena_array(arena, bool, g->nnode),
                              .dead_head = arena_array(arena, Ref, g->nnode),
                              .dead_next = arena_array(arena, Ref, g->nnode) };
    Ref *last = arena_array(arena, Ref, g->nnode);
    for (uint32_t i = 0; i < g->nout; i++)
        last[g->out[i].value] = keep ? g->nnode : g->out[i].value;
    for (Ref r = g->nnode; r-- > 1;) {
        const Node *n = &g->node[r];
        lives.live[r] = last[r] != 0;
        if (!lives.live[r])
            continue;
        const Ref until = is_alias(n->op) ? last[r] : r;
        for (uint32_t k = 0; k < n->nargs; k++)
            if (last[n->arg[k]] < until)
                last[n->arg[k]] = until;
    }
    for (Ref r = 1; r < g->nnode; r++) {
        if (!lives.live[r] || last[r] == g->nnode)
            continue;
        lives.dead_next[r] = lives.dead_head[last[r]];
        lives.dead_head[last[r]] = r;
    }
    return lives;
}

Status eval_body_open(Ctx *cx, const Graph *g, EvalBody **out)
{
    Arena *arena = arena_new();
    EvalBody *b = arena_array(arena, EvalBody, 1);
    *b = (EvalBody){ .cx = cx, .g = g, .arena = arena };
    b->lives = eval_lives(g, true, arena);
    b->slot = arena_array(arena, uint32_t, g->nnode);
    b->input_index = arena_array(arena, uint32_t, g->nnode);
    uint32_t most = 0;
    for (Ref r = 1; r < g->nnode; r++) {
        b->slot[r] = b->nslot;
        b->nslot += graph_result_count(g, r);
        if (g->node[r].nargs > most)
            most = g->node[r].nargs;
    }
    for (uint32_t i = 0; i < g->ninput; i++)
        b->input_index[g->input[i]] = i;
    b->value = arena_array(arena, Value, b->nslot);
    b->arg = arena_array(arena, Value, most);
    *out = b;
    return ST_OK;
}

void eval_body_close(EvalBody *b)
{
    if (b != NULL)
        arena_free(b->arena);
}

static void release(EvalBody *b, Ref r)
{
    const uint32_t n = graph_result_count(b->g, r);
    for (Value *v = &b->value[b->slot[r]]; v < &b->value[b->slot[r] + n]; v++) {
        b->cx->os->release(v->own);
        *v = (Value){ 0 };
    }
}

static Status eval_node(EvalBody *b, const Eval *e, Ref r, const Value *in)
{
    const Node *n = &b->g->node[r];
    Value *out = &b->value[b->slot[r]];
    if (n->op == OP_input) {
        *out = in[b->input_index[r]];
        out->own = NULL;
        return ST_OK;
    }
    if (op_info[n->op].cls == CLASS_TUPLE) { /* its argument is all results of another node */
        *out = b->value[b->slot[n->arg[0]] + n->attr.get.index];
        out->own = NULL;
        return ST_OK;
    }
    for (uint32_t k = 0; k < n->nargs; k++)
        b->arg[k] = b->value[b->slot[n->arg[k]]];
    TRY(eval_fn[n->op](e, n, b->arg, out));

    const uint8_t cls = op_info[n->op].cls;
    if (cls == CLASS_ELEMENTWISE || cls == CLASS_REDUCE || cls == CLASS_CONTRACT)
        value_round_all(e, out);
    return ST_OK;
}

Status eval_body_run(EvalBody *b, EvalMode mode, const Value *in, double *const *dst)
{
    const Eval e = { .cx = b->cx, .mode = mode, .g = b->g };
    Status status = ST_OK;
    memset(b->value, 0, b->nslot * sizeof *b->value);
    for (Ref r = 1; r < b->g->nnode && status == ST_OK; r++) {
        if (!b->lives.live[r])
            continue;
        status = eval_node(b, &e, r, in);
        if (status != ST_OK && b->cx->node == 0)
            b->cx->node = r;
        for (Ref dead = b->lives.dead_head[r]; dead != 0; dead = b->lives.dead_next[dead])
            release(b, dead);
    }
    for (uint32_t i = 0; i < b->g->nout && status == ST_OK; i++) {
        const Value *v = &b->value[b->slot[b->g->out[i].value]];
        const Value packed = value_packed(&v->type, dst[i]);
        value_copy(&packed, v);
    }
    for (Ref r = 1; r < b->g->nnode; r++)
        release(b, r);
    return status;
}

Status eval_input(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    (void)arg, (void)out;
    return FAIL(e->cx, INTERNAL, "input %s: has no value", n->name);
}

Status eval_get(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    (void)arg, (void)out;
    return FAIL(e->cx, INTERNAL, "get %u: has no tuple", n->attr.get.index);
}

Status eval_grad(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    (void)n, (void)arg, (void)out;
    return FAIL(e->cx, VALUE, "grad: cannot be evaluated; expand it first (pass differentiate)");
}

Status eval_graph(Ctx *cx, const Graph *g, EvalMode mode, Arena *arena, const Tensor *in,
                  Tensor *out)
{
    for (uint32_t i = 0; i < g->ninput; i++) {
        const Node *n = &g->node[g->input[i]];
        if (!type_eq(&n->type, &in[i].type))
            return FAIL(cx, TYPE, "input %s: wants %s, got %s", n->name, type_str(&n->type),
                        type_str(&in[i].type));
    }
    EvalBody *b;
    TRY(eval_body_open(cx, g, &b));
    Value *value = arena_array(b->arena, Value, g->ninput);
    double **dst = arena_array(b->arena, double *, g->nout);
    for (uint32_t i = 0; i < g->ninput; i++)
        value[i] = value_packed(&in[i].type, in[i].at);
    for (uint32_t i = 0; i < g->nout; i++) {
        out[i] = tensor_new(arena, g->node[g->out[i].value].type);
        dst[i] = out[i].at;
    }
    const Status status = eval_body_run(b, mode, value, dst);
    eval_body_close(b);
    return status;
}
