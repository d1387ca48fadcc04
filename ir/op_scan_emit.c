/* SPDX-License-Identifier: Apache-2.0 */
/* The gradient of scan, built as op_scan_grad.c has planned it: the forward scan with what is saved
 * as further results, the backward scan, and what left the loop. */
#include <string.h>

#include "ir/base/bug.h"
#include "ir/op_scan_grad.h"

static Status copy_joint_node(ScanGrad *s, Ref r, Graph *to, const Ref *map, uint32_t region,
                              Ref *out)
{
    Node n = s->joint->node[r];
    Ref *arg = arena_array(s->scratch, Ref, n.nargs);
    for (uint32_t k = 0; k < n.nargs; k++)
        arg[k] = map[n.arg[k]];
    n.arg = arg;
    n.region = region;
    return graph_add(s->outer->b.cx, to, &n, out);
}

static Status add_input(ScanGrad *s, Graph *g, const char *name, Type t, Ref *out)
{
    const Node n = { .op = OP_input, .type = t, .name = name };
    return graph_add(s->outer->b.cx, g, &n, out);
}

static bool is_forward_result(const ScanGrad *s, Ref r)
{
    return (s->role[r] & (ROLE_SAVED | ROLE_TAINTED)) == ROLE_SAVED;
}

/* The forward scan again, with the saved values behind its per-step results. */
static Status forward_body(ScanGrad *s, Graph *g)
{
    const Graph *joint = s->joint;
    Ctx *cx = s->outer->b.cx;
    bool *live = arena_array(s->scratch, bool, joint->nnode);
    Ref *map = arena_array(s->scratch, Ref, joint->nnode);
    for (uint32_t i = 0; i < joint->nout; i++)
        live[joint->out[i].value] = true;
    for (Ref r = joint->nnode; r-- > 1;) {
        live[r] = live[r] || is_forward_result(s, r);
        for (uint32_t k = 0; k < joint->node[r].nargs && live[r]; k++)
            live[joint->node[r].arg[k]] = true;
    }
    for (uint32_t i = 0; i < s->nin; i++) {
        const Node *in = &s->body->node[s->body->input[i]];
        TRY(add_input(s, g, in->name, in->type, &map[s->in[i]]));
    }
    for (Ref r = 1; r < joint->nnode; r++) {
        const uint32_t region = vjp_copy_region(joint, joint->node[r].region, g);
        if (live[r] && joint->node[r].op != OP_input)
            TRY(copy_joint_node(s, r, g, map, region, &map[r]));
    }
    for (uint32_t i = 0; i < joint->nout; i++) {
        const Ref r = joint->out[i].value;
        TRY(graph_output(cx, g, map[r], REF_NONE, s->body->out[i].name));
        if (i >= s->ncarry && s->result[r] == 0)
            s->result[r] = i + 1;
    }
    for (Ref r = 1; r < joint->nnode; r++) {
        if (!is_forward_result(s, r) || s->result[r] != 0)
            continue;
        TRY(graph_output(cx, g, map[r], REF_NONE, NULL));
        s->result[r] = g->nout;
    }
    return ST_OK;
}

static Ref add_scan(ScanGrad *s, Graph *body, const Ref *arg, int narg, uint32_t ncarry,
                    uint32_t nstep, bool reverse)
{
    Attr a = { 0 };
    a.scan.body = body;
    a.scan.ncarry = ncarry;
    a.scan.nstep = nstep;
    a.scan.trip = s->n.attr.scan.trip;
    a.scan.reverse = reverse;
    return vjp_add_node(s->outer, OP_scan, narg, arg, NULL, &a);
}

static void emit_forward(ScanGrad *s)
{
    Vjp *v = s->outer;
    Graph *g = graph_new(s->scratch);
    v->b.status = forward_body(s, g);
    v->b.region = s->n.region;
    const Ref again =
        add_scan(s, g, s->n.arg, (int)s->nin, s->ncarry, s->nstep, s->n.attr.scan.reverse);
    for (Ref r = 1; r < s->joint->nnode && v->b.status == ST_OK; r++)
        if (is_forward_result(s, r))
            s->stack[r] = build_get(&v->b, again, (int)s->result[r] - 1);
    for (uint32_t i = 0; i < s->nstep; i++)
        s->stack[s->in[s->ncarry + i]] = s->n.arg[s->ncarry + i];
    for (uint32_t i = 0; i < s->ny; i++)
        if (s->y_seed[i] != REF_NONE)
            s->stack[s->y_seed[i]] = s->y_ct[i];
    vjp_reserve(v);
    v->again[s->self] = again;
}

/* A value that no step changes, computed outside. */
static Ref once_of(ScanGrad *s, Ref r)
{
    if (s->once[r] != REF_NONE || s->outer->b.status != ST_OK)
        return s->once[r];
    const Node *n = &s->joint->node[r];
    for (uint32_t i = s->ncarry + s->nstep; i < s->nin; i++)
        if (s->in[i] == r)
            return s->once[r] = s->n.arg[i];
    bool varied = false;
    for (uint32_t k = 0; k < n->nargs; k++)
        varied = vjp_wants(s->outer, once_of(s, n->arg[k])) || varied;
    if (s->outer->b.status != ST_OK)
        return REF_NONE;
    Vjp *v = s->outer;
    v->b.status = copy_joint_node(s, r, v->b.g, s->once, v->b.region, &s->once[r]);
    vjp_reserve(v);
    v->varied[s->once[r]] = varied && (n->type.dt == DT_NONE || dtype_is_float(n->type.dt));
    return s->once[r];
}

/* The backward body in the making: its inputs by class, the arguments outside, its outputs. */
typedef struct Back {
    Graph *g;
    Ref *map; /* joint -> g */
    Ref *arg; /* outside */
    uint32_t narg, ncarry, nstep, nout;
    Ref *acc;       /* by Ref of joint: the accumulator of what gathers terms */
    uint32_t *slot; /* by Ref of joint: result of the backward scan, + 1 */
    bool *read;     /* by Ref of joint: something in the body reads it and does not make it */
} Back;

static bool is_made(const ScanGrad *s, Ref r)
{
    const bool back = (s->role[r] & (ROLE_TAINTED | ROLE_NEEDED)) == (ROLE_TAINTED | ROLE_NEEDED);
    return s->joint->node[r].op != OP_input && (back || s->role[r] & ROLE_REDONE);
}

static bool is_accumulated(const ScanGrad *s, const Term *t)
{
    return !t->outside && !(s->role[t->to] & ROLE_VARIANT);
}

/* What the backward scan returns for each step. */
static bool is_step_result(const ScanGrad *s, Ref r)
{
    return (s->role[r] & (ROLE_STACKED | ROLE_TAINTED)) == (ROLE_STACKED | ROLE_TAINTED) &&
           s->stack[r] == REF_NONE;
}

static void find_read(const ScanGrad *s, Back *k)
{
    const Graph *g = s->joint;
    for (Ref r = 1; r < g->nnode; r++) {
        for (uint32_t i = 0; i < g->node[r].nargs && is_made(s, r); i++)
            k->read[g->node[r].arg[i]] = true;
        if (is_step_result(s, r))
            k->read[r] = true;
    }
    for (uint32_t i = 0; i < s->ncarry; i++)
        k->read[s->carry_out[i]] = true;
    for (uint32_t i = 0; i < s->nterm; i++)
        if (is_accumulated(s, &s->term[i]))
            k->read[s->term[i].ct] = true;
    for (Ref r = 0; r < g->nnode; r++)
        k->read[r] = k->read[r] && r != REF_NONE && !is_made(s, r);
}

static Status back_input(ScanGrad *s, Back *k, const char *what, Ref outside, Type t, Ref *out)
{
    const char *name = arena_printf(s->scratch, "%s%u", what, k->narg);
    k->arg[k->narg++] = outside;
    return add_input(s, k->g, name, t, out);
}

static Status back_inputs(ScanGrad *s, Back *k)
{
    const Graph *joint = s->joint;
    Vjp *v = s->outer;
    for (uint32_t i = 0; i < s->ncarry; i++) {
        if (!s->active[i])
            continue;
        const Type t = joint->node[s->carry_seed[i]].type;
        const Ref start =
            s->carry_ct[i] != REF_NONE && !BUG(14) ? s->carry_ct[i] : vjp_zeros(v, &t);
        TRY(back_input(s, k, "d", start, t, &k->map[s->carry_seed[i]]));
    }
    for (uint32_t i = 0; i < s->nterm; i++) {
        const Ref to = s->term[i].to;
        if (!is_accumulated(s, &s->term[i]) || k->acc[to] != REF_NONE)
            continue;
        const Type t = joint->node[to].type;
        TRY(back_input(s, k, "acc", vjp_zeros(v, &t), t, &k->acc[to]));
    }
    k->ncarry = k->narg;
    for (Ref r = 1; r < joint->nnode; r++)
        if (k->read[r] && s->stack[r] != REF_NONE)
            TRY(back_input(s, k, "x", s->stack[r], joint->node[r].type, &k->map[r]));
    k->nstep = k->narg - k->ncarry;
    for (Ref r = 1; r < joint->nnode; r++)
        if (k->read[r] && s->stack[r] == REF_NONE && !(s->role[r] & ROLE_VARIANT))
            TRY(back_input(s, k, "w", once_of(s, r), joint->node[r].type, &k->map[r]));
    return v->b.status;
}

static Status back_output(ScanGrad *s, Back *k, Ref value)
{
    k->nout++;
    return graph_output(s->outer->b.cx, k->g, value, REF_NONE, NULL);
}

static Status back_outputs(ScanGrad *s, Back *k, Builder *b)
{
    const Graph *joint = s->joint;
    for (uint32_t i = 0; i < s->ncarry; i++) {
        if (!s->active[i])
            continue;
        const Type t = joint->node[s->carry_seed[i]].type;
        const Ref out = s->carry_out[i];
        TRY(back_output(s, k, out != REF_NONE ? k->map[out] : build_const(b, 0, t)));
    }
    for (uint32_t i = 0; i < s->nterm; i++) { /* the first term of a target adds all of them */
        const Ref to = s->term[i].to;
        if (!is_accumulated(s, &s->term[i]) || k->slot[to] != 0)
            continue;
        Ref sum = k->acc[to];
        for (uint32_t m = i; m < s->nterm; m++)
            if (s->term[m].to == to && is_accumulated(s, &s->term[m]))
                sum = build_op2(b, OP_add, sum, k->map[s->term[m].ct]);
        TRY(b->status);
        TRY(back_output(s, k, sum));
        k->slot[to] = k->nout;
    }
    for (Ref r = 1; r < joint->nnode; r++) {
        if (!is_step_result(s, r))
            continue;
        TRY(back_output(s, k, k->map[r]));
        k->slot[r] = k->nout;
    }
    return b->status;
}

static Status back_body(ScanGrad *s, Back *k)
{
    const Graph *joint = s->joint;
    find_read(s, k);
    TRY(back_inputs(s, k));
    for (Ref r = 1; r < joint->nnode; r++) {
        if (!is_made(s, r))
            continue;
        const uint32_t region =
            vjp_region(k->g, vjp_copy_region(joint, joint->node[r].region, k->g));
        TRY(copy_joint_node(s, r, k->g, k->map, region, &k->map[r]));
    }
    Builder b = build_start(s->outer->b.cx, k->g);
    b.region = vjp_copy_region(s->outer->b.g, s->outer->b.region, k->g);
    return back_outputs(s, k, &b);
}

/* Where what was found for `to`, which no step changes, belongs outside. */
static void give_once(ScanGrad *s, Ref to, Ref ct)
{
    const Ref outside = once_of(s, to);
    vjp_give(s->outer, outside, ct);
}

static void emit_backward(ScanGrad *s)
{
    Vjp *v = s->outer;
    const uint32_t n = s->joint->nnode;
    Back k = { .g = graph_new(s->scratch) };
    k.map = arena_array(s->scratch, Ref, n);
    k.acc = arena_array(s->scratch, Ref, n);
    k.slot = arena_array(s->scratch, uint32_t, n);
    k.read = arena_array(s->scratch, bool, n);
    k.arg = arena_array(s->scratch, Ref, s->ncarry + s->nterm + n);
    v->b.status = back_body(s, &k);
    if (k.nout == 0 || v->b.status != ST_OK)
        return;
    const Ref back =
        add_scan(s, k.g, k.arg, (int)k.narg, k.ncarry, k.nstep, !s->n.attr.scan.reverse || BUG(12));
    for (uint32_t i = 0, at = 0; i < s->ncarry; i++) {
        if (!s->active[i])
            continue;
        if (vjp_wants(v, s->n.arg[i]))
            vjp_give(v, s->n.arg[i], build_get(&v->b, back, (int)at));
        at++;
    }
    for (Ref r = 1; r < n; r++) {
        if (k.slot[r] == 0)
            continue;
        const Ref result = build_get(&v->b, back, (int)k.slot[r] - 1);
        if (is_step_result(s, r))
            s->stack[r] = result;
        else
            give_once(s, r, result);
    }
}

/* A product over all steps: of two changing factors (summed over time), or of one (for each step,
 * time first). */
static Ref emit_product(ScanGrad *s, Ref ct, bool one_side)
{
    Vjp *v = s->outer;
    const Node *n = &s->joint->node[ct];
    const int shift = one_side ? 1 : 0, rank = n->type.shape.rank;
    if (n->op != OP_matmul) {
        const Ref x = emit_product(s, n->arg[0], one_side);
        int perm[MAX_RANK] = { 0 };
        Shape shape = { .rank = (int8_t)(rank + shift), .dim = { s->n.attr.scan.trip } };
        for (int i = 0; i < rank; i++) {
            perm[i + shift] = n->attr.perm.dim[i] + shift;
            shape.dim[i + shift] = n->type.shape.dim[i];
        }
        if (n->op == OP_neg)
            return build_op1(&v->b, OP_neg, x);
        return n->op == OP_transpose ? build_transpose(&v->b, x, perm)
                                     : build_reshape(&v->b, x, shape);
    }

    const bool a_moves = s->role[n->arg[0]] & ROLE_VARIANT;
    const bool b_moves = s->role[n->arg[1]] & ROLE_VARIANT;
    const Ref a = a_moves ? s->stack[n->arg[0]] : once_of(s, n->arg[0]);
    const Ref b = b_moves ? s->stack[n->arg[1]] : once_of(s, n->arg[1]);
    Attr at = { .contract = { .nbatch = n->attr.contract.nbatch } };
    const int first = one_side ? 0 : 1; /* time is summed over */
    at.contract.nover = (uint8_t)(n->attr.contract.nover + first);
    for (int i = 0; i < n->attr.contract.nover; i++) {
        at.contract.over_a[i + first] = (uint8_t)(n->attr.contract.over_a[i] + a_moves);
        at.contract.over_b[i + first] = (uint8_t)(n->attr.contract.over_b[i] + b_moves);
    }
    for (int i = 0; i < n->attr.contract.nbatch; i++) {
        at.contract.batch_a[i] = (uint8_t)(n->attr.contract.batch_a[i] + a_moves);
        at.contract.batch_b[i] = (uint8_t)(n->attr.contract.batch_b[i] + b_moves);
    }
    if (!one_side || a_moves)
        return vjp_add_node(v, OP_matmul, 2, (const Ref[]){ a, b }, NULL, &at);

    Attr turned = at; /* the changing factor first: (time, rest of b, rest of a), then turned */
    memcpy(turned.contract.over_a, at.contract.over_b, sizeof at.contract.over_b);
    memcpy(turned.contract.over_b, at.contract.over_a, sizeof at.contract.over_a);
    const Ref product = vjp_add_node(v, OP_matmul, 2, (const Ref[]){ b, a }, NULL, &turned);
    const int rest_a = s->joint->node[n->arg[0]].type.shape.rank - n->attr.contract.nover;
    int perm[MAX_RANK] = { 0 };
    for (int i = 0; i < rank; i++)
        perm[i + 1] = 1 + (i < rest_a ? rank - rest_a + i : i - rest_a);
    return build_transpose(&v->b, product, perm);
}

static void emit_terms(ScanGrad *s)
{
    Vjp *v = s->outer;
    for (uint32_t i = 0; i < s->nterm; i++) {
        const Term *t = &s->term[i];
        if (!t->outside)
            continue;
        if (s->role[t->to] & ROLE_VARIANT) /* a step's input: all steps in one product */
            vjp_give(v, s->stack[t->to], emit_product(s, t->ct, true));
        else if (s->stack[t->ct] != REF_NONE)
            give_once(s, t->to, vjp_sum_axes(v, s->stack[t->ct], 1));
        else
            give_once(s, t->to, emit_product(s, t->ct, false));
    }
    for (uint32_t i = 0; i + BUG(13) < s->nstep; i++)
        if (s->step_out[i] != REF_NONE)
            vjp_give(v, s->n.arg[s->ncarry + i], s->stack[s->step_out[i]]);
}

void scan_grad_emit(ScanGrad *s)
{
    Vjp *v = s->outer;
    const uint32_t n = s->joint->nnode;
    s->stack = arena_array(s->scratch, Ref, n);
    s->once = arena_array(s->scratch, Ref, n);
    s->result = arena_array(s->scratch, uint32_t, n);
    emit_forward(s);
    if (v->b.status != ST_OK)
        return;
    const Ref first = v->b.g->nnode;
    v->b.region = vjp_region(v->b.g, s->n.region);
    emit_backward(s);
    emit_terms(s);
    if (v->b.status == ST_OK) /* through what was computed outside, to the arguments */
        vjp_sweep(v, v->b.g->nnode - 1, first);
}
