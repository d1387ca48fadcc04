/* SPDX-License-Identifier: Apache-2.0 */
/* The gradient of scan: what is saved, what is done again, what leaves the loop.
 *
 * The body is copied and differentiated where it stands ("joint").  Then, read off that graph:
 *
 *   saved    of the forward values that the gradient reads: results of contractions and of
 *            transcendental functions, and carries.  Cheap arithmetic is done again in the backward
 *            body, unless what it needs is larger than its result (a slice of a product, a mask).
 *            For an LSTM that leaves i f g o tanh(c), h and c.
 *   passed   what the backward body gets as it is: the step's inputs, and what no step changes.
 *   outside  the gradient of a weight is a sum over time of products p_t * q_t, so p and q are kept
 *            for each step and multiplied once, over time and batch; a bias is one sum.  What only
 *            depends on weights (a transpose, a broadcast) has its gradient once, outside, from the
 *            sum: gradients are linear in the cotangent.  Other uses are accumulated in a carry.
 *            The gradient of a step's input that only meets weights is one product as well.
 *
 * The forward scan with more results takes the place of the first one (vjp_merge). */
#include "ir/op_scan_grad.h"

static Ref body_out(const ScanGrad *s, uint32_t i)
{
    return s->body->out[i].value;
}

static bool is_float_or_tuple(const Node *n)
{
    return n->type.dt == DT_NONE || dtype_is_float(n->type.dt);
}

/* varied[r]: depends on an input that is differentiated by, in any step. */
static void find_varied(const ScanGrad *s, bool *varied)
{
    const Graph *g = s->body;
    for (uint32_t i = 0; i < s->nin; i++)
        varied[g->input[i]] = vjp_wants(s->outer, s->n.arg[i]);
    for (bool more = true; more;) {
        more = false;
        for (Ref r = 1; r < g->nnode; r++)
            for (uint32_t k = 0; k < g->node[r].nargs && is_float_or_tuple(&g->node[r]); k++)
                varied[r] = varied[r] || varied[g->node[r].arg[k]];
        for (uint32_t i = 0; i < s->ncarry; i++)
            if (varied[body_out(s, i)] && !varied[g->input[i]])
                varied[g->input[i]] = more = true;
    }
}

/* Which carries a cotangent reaches, in any step. */
static void find_active(ScanGrad *s, const bool *varied)
{
    const Graph *g = s->body;
    bool *reached = arena_array(s->scratch, bool, g->nnode);
    for (uint32_t i = 0; i < s->ncarry; i++)
        s->active[i] = s->carry_ct[i] != REF_NONE && varied[g->input[i]];
    for (bool more = true; more;) {
        more = false;
        for (uint32_t i = 0; i < s->ncarry + s->ny; i++)
            if (i < s->ncarry ? s->active[i] : s->y_ct[i - s->ncarry] != REF_NONE)
                reached[body_out(s, i)] = true;
        for (Ref r = g->nnode; r-- > 1;)
            for (uint32_t k = 0; k < g->node[r].nargs && reached[r] && varied[r]; k++)
                reached[g->node[r].arg[k]] = true;
        for (uint32_t i = 0; i < s->ncarry; i++)
            if (reached[g->input[i]] && varied[g->input[i]] && !s->active[i])
                s->active[i] = more = true;
    }
}

/* Does any step change it?  (of the body, or of joint, whose seeds come behind the body's inputs)
 */
static void find_variant(const Graph *g, uint32_t ncarry, uint32_t nstep, uint32_t nin,
                         bool *variant)
{
    for (uint32_t i = 0; i < g->ninput; i++)
        variant[g->input[i]] = i < ncarry + nstep || i >= nin;
    for (Ref r = 1; r < g->nnode; r++)
        for (uint32_t k = 0; k < g->node[r].nargs; k++)
            variant[r] = variant[r] || variant[g->node[r].arg[k]];
}

static Ref joint_input(ScanGrad *s, Graph *g, const char *what, uint32_t i, Type t)
{
    Node n = { .op = OP_input, .type = t, .name = arena_printf(s->scratch, "%s%u", what, i) };
    Ref r = REF_NONE;
    const Status st = graph_add(s->outer->b.cx, g, &n, &r);
    gtc_assert(st == ST_OK, "scan: a copied input is refused: %s", s->outer->b.cx->msg);
    return r;
}

/* The body's nodes, then inputs for the cotangents.  map: by Ref of the body. */
static Status copy_body(ScanGrad *s, Graph *g, Ref *map)
{
    const Graph *body = s->body;
    for (uint32_t i = 0; i < s->nin; i++) {
        const Ref r = body->input[i];
        map[r] = s->in[i] = joint_input(s, g, "in", i, body->node[r].type);
    }
    for (uint32_t i = 0; i < s->ncarry; i++)
        if (s->active[i])
            s->carry_seed[i] = joint_input(s, g, "dc", i, body->node[body_out(s, i)].type);
    for (uint32_t i = 0; i < s->ny; i++)
        if (s->y_ct[i] != REF_NONE)
            s->y_seed[i] = joint_input(s, g, "dy", i, body->node[body_out(s, s->ncarry + i)].type);
    for (Ref r = 1; r < body->nnode; r++) {
        Node n = body->node[r];
        if (n.op == OP_input)
            continue;
        Ref *arg = arena_array(s->scratch, Ref, n.nargs);
        for (uint32_t k = 0; k < n.nargs; k++)
            arg[k] = map[n.arg[k]];
        n.arg = arg;
        n.region = vjp_copy_region(body, n.region, g);
        TRY(graph_add(s->outer->b.cx, g, &n, &map[r]));
    }
    for (uint32_t i = 0; i < body->nout; i++)
        TRY(graph_output(s->outer->b.cx, g, map[body->out[i].value], REF_NONE, NULL));
    return ST_OK;
}

static void add_term(ScanGrad *s, Ref to, Ref ct)
{
    arena_grow(s->scratch, s->term, s->nterm, s->term_cap);
    s->term[s->nterm++] = (Term){ .to = to, .ct = ct };
}

/* Terms of r, one a part; parts that belong to slices are joined first. */
static void take_terms(ScanGrad *s, Vjp *v, Ref r)
{
    vjp_reserve(v);
    bool boxes = false;
    for (const VjpPart *p = v->part[r]; p != NULL; p = p->next)
        boxes = boxes || p->box;
    if (boxes)
        vjp_take_value(v, r);
    for (const VjpPart *p = v->part[r]; p != NULL; p = p->next)
        add_term(s, r, p->ct);
}

/* Differentiates the body where it stands in g. */
static Status sweep_body(ScanGrad *s, Graph *g, const Ref *map, const bool *varied)
{
    const Graph *body = s->body;
    Vjp v = vjp_start(s->outer->b.cx, g, s->scratch);
    bool *variant = arena_array(s->scratch, bool, body->nnode);
    find_variant(body, s->ncarry, s->nstep, s->nin, variant);
    for (Ref r = 1; r < body->nnode; r++) {
        v.varied[map[r]] = varied[r];
        v.pinned[map[r]] = !variant[r];
    }
    const Ref last = g->nnode - 1;
    for (uint32_t i = 0; i < s->ncarry; i++)
        if (s->carry_seed[i] != REF_NONE)
            vjp_give(&v, map[body_out(s, i)], s->carry_seed[i]);
    for (uint32_t i = 0; i < s->ny; i++)
        if (s->y_seed[i] != REF_NONE)
            vjp_give(&v, map[body_out(s, s->ncarry + i)], s->y_seed[i]);
    vjp_sweep(&v, last, 1);

    v.b.region = vjp_copy_region(s->outer->b.g, vjp_region(s->outer->b.g, s->n.region), g);
    for (uint32_t i = 0; i < s->ncarry; i++)
        if (s->active[i])
            s->carry_out[i] = vjp_take_value(&v, s->in[i]);
    for (Ref r = 1; r <= last; r++) /* what no step changes keeps its parts */
        if (v.pinned[r] && v.part[r] != NULL)
            take_terms(s, &v, r);
    for (uint32_t i = 0; i < s->nstep; i++) {
        if (vjp_wants(s->outer, s->n.arg[s->ncarry + i])) {
            take_terms(s, &v, s->in[s->ncarry + i]);
            s->step_out[i] = vjp_take_value(&v, s->in[s->ncarry + i]);
        }
    }
    TRY(v.b.status);

    s->joint = graph_new(s->scratch); /* scans inside that were made again move to their place */
    Ref *moved = arena_array(s->scratch, Ref, g->nnode);
    TRY(vjp_merge(&v, g, s->joint, moved));
    for (uint32_t i = 0; i < s->nin; i++)
        s->in[i] = moved[s->in[i]];
    for (uint32_t i = 0; i < s->ncarry; i++) {
        s->carry_seed[i] = moved[s->carry_seed[i]];
        s->carry_out[i] = moved[s->carry_out[i]];
    }
    for (uint32_t i = 0; i < s->ny; i++)
        s->y_seed[i] = moved[s->y_seed[i]];
    for (uint32_t i = 0; i < s->nstep; i++)
        s->step_out[i] = moved[s->step_out[i]];
    for (uint32_t i = 0; i < s->nterm; i++) {
        s->term[i].to = moved[s->term[i].to];
        s->term[i].ct = moved[s->term[i].ct];
    }
    return ST_OK;
}

static void find_roles(ScanGrad *s)
{
    const Graph *g = s->joint;
    s->role = arena_array(s->scratch, uint8_t, g->nnode);
    bool *variant = arena_array(s->scratch, bool, g->nnode);
    find_variant(g, s->ncarry, s->nstep, s->nin, variant);
    for (uint32_t i = s->nin; i < g->ninput; i++)
        s->role[g->input[i]] = ROLE_TAINTED;
    for (Ref r = 1; r < g->nnode; r++) {
        if (variant[r])
            s->role[r] |= ROLE_VARIANT;
        for (uint32_t k = 0; k < g->node[r].nargs; k++)
            s->role[r] |= s->role[g->node[r].arg[k]] & ROLE_TAINTED;
    }
}

/* What leaves the loop. */

static bool can_stack(const ScanGrad *s, Ref r)
{
    return s->role[r] & ROLE_VARIANT && s->joint->node[r].type.shape.rank < MAX_RANK;
}

/* Is ct a product of two values that change (one_side: of a changing one and a fixed one, with no
 * batch), perhaps turned, reshaped or negated? */
static bool is_product(const ScanGrad *s, Ref ct, bool one_side)
{
    const Node *n = &s->joint->node[ct];
    if (n->op == OP_transpose || n->op == OP_neg || n->op == OP_reshape)
        return n->type.shape.rank < MAX_RANK && is_product(s, n->arg[0], one_side);
    if (n->op != OP_matmul)
        return false;
    const bool a = can_stack(s, n->arg[0]), b = can_stack(s, n->arg[1]);
    const bool a_fixed = !(s->role[n->arg[0]] & ROLE_VARIANT);
    const bool b_fixed = !(s->role[n->arg[1]] & ROLE_VARIANT);
    if (one_side)
        return n->type.shape.rank < MAX_RANK && n->attr.contract.nbatch == 0 &&
               ((a && b_fixed) || (b && a_fixed));
    return a && b && n->attr.contract.nover < 4;
}

static void stack_factors(ScanGrad *s, Ref ct)
{
    const Node *n = &s->joint->node[ct];
    for (uint32_t k = 0; k < n->nargs; k++) {
        if (n->op != OP_matmul)
            stack_factors(s, n->arg[k]);
        else if (s->role[n->arg[k]] & ROLE_VARIANT)
            s->role[n->arg[k]] |= ROLE_STACKED;
        else
            s->role[n->arg[k]] |= ROLE_OUTSIDE;
    }
}

static bool is_input(const ScanGrad *s, Ref r)
{
    return s->joint->node[r].op == OP_input;
}

static bool is_shared(const ScanGrad *s, Ref to)
{
    return !(s->role[to] & ROLE_VARIANT);
}

/* A cotangent that comes from outside for each step. */
static bool is_given(const ScanGrad *s, Ref r)
{
    for (uint32_t i = 0; i < s->ny; i++)
        if (s->y_seed[i] == r)
            return true;
    return false;
}

static void choose_terms(ScanGrad *s)
{
    for (uint32_t i = 0; i < s->nstep; i++) { /* all terms of a step's input, or none */
        const Ref x = s->in[s->ncarry + i];
        bool all = s->step_out[i] != REF_NONE;
        for (uint32_t k = 0; k < s->nterm; k++)
            if (s->term[k].to == x)
                all = all && is_product(s, s->term[k].ct, true);
        for (uint32_t k = 0; k < s->nterm && all; k++)
            if (s->term[k].to == x) {
                s->term[k].outside = true;
                stack_factors(s, s->term[k].ct);
            }
        if (all)
            s->step_out[i] = REF_NONE;
        else if (s->step_out[i] != REF_NONE)
            s->role[s->step_out[i]] |= ROLE_STACKED;
    }
    for (uint32_t k = 0; k < s->nterm; k++)
        if (is_shared(s, s->term[k].to) && is_product(s, s->term[k].ct, false)) {
            s->term[k].outside = true;
            stack_factors(s, s->term[k].ct);
        }
    for (uint32_t k = 0; k < s->nterm; k++) { /* sums of what is there for each step anyhow */
        const Ref ct = s->term[k].ct;
        if (is_shared(s, s->term[k].to) && (is_given(s, ct) || s->role[ct] & ROLE_STACKED)) {
            s->term[k].outside = true;
            s->role[ct] |= ROLE_STACKED;
        }
    }
}

/* What the backward body reads. */

static bool is_cheap(const Node *n)
{
    return op_info[n->op].flags & OPF_CHEAP && n->op != OP_get;
}

/* All of its making is cheap, so that the backward body may do it again. */
static bool cheap_to_the_ground(const ScanGrad *s, Ref r)
{
    const Node *n = &s->joint->node[r];
    if (n->op == OP_input)
        return true;
    bool cheap = is_cheap(n);
    for (uint32_t k = 0; k < n->nargs && cheap; k++)
        cheap = cheap_to_the_ground(s, n->arg[k]);
    return cheap;
}

static bool is_step_input(const ScanGrad *s, Ref r)
{
    for (uint32_t i = s->ncarry; i < s->ncarry + s->nstep; i++)
        if (s->in[i] == r)
            return true;
    return false;
}

/* A forward value that is there without computing: nothing below it is needed. */
static bool is_there(const ScanGrad *s, Ref r)
{
    return s->role[r] & (ROLE_SAVED | ROLE_OUTSIDE) || is_step_input(s, r) ||
           (is_input(s, r) && !(s->role[r] & ROLE_VARIANT));
}

/* A value the scan already returns for each step costs nothing to save. */
static bool is_returned(const ScanGrad *s, Ref r)
{
    for (uint32_t i = s->ncarry; i < s->ncarry + s->ny; i++)
        if (s->joint->out[i].value == r)
            return true;
    return false;
}

/* Bytes that would have to be saved to compute r again; stamps what it has seen. */
static int64_t cost_of(const ScanGrad *s, Ref r, uint32_t *seen, uint32_t stamp)
{
    if (seen[r] == stamp || is_there(s, r) || is_returned(s, r))
        return 0;
    seen[r] = stamp;
    const Node *n = &s->joint->node[r];
    if (!(s->role[r] & ROLE_VARIANT))
        return 0;
    if (!is_cheap(n))
        return type_bytes(&n->type);
    int64_t sum = 0;
    for (uint32_t k = 0; k < n->nargs; k++)
        sum += cost_of(s, n->arg[k], seen, stamp);
    return sum;
}

/* Decides how the backward body comes by the forward value r. */
static void provide(ScanGrad *s, Ref r)
{
    if (is_there(s, r) || s->role[r] & ROLE_REDONE)
        return;
    const Node *n = &s->joint->node[r];
    if (!(s->role[r] & ROLE_VARIANT)) {
        s->role[r] |= cheap_to_the_ground(s, r) ? ROLE_REDONE : ROLE_OUTSIDE;
        for (uint32_t k = 0; k < n->nargs && s->role[r] & ROLE_REDONE; k++)
            provide(s, n->arg[k]);
        return;
    }
    if (!is_cheap(n) || is_returned(s, r)) {
        s->role[r] |= ROLE_SAVED;
        return;
    }
    s->role[r] |= ROLE_REDONE;
    for (uint32_t k = 0; k < n->nargs; k++)
        provide(s, n->arg[k]);
}

static void need(ScanGrad *s, Ref r)
{
    if (r != REF_NONE)
        s->role[r] |= ROLE_NEEDED;
}

static void choose_saved(ScanGrad *s)
{
    const Graph *g = s->joint;
    for (uint32_t i = 0; i < s->ncarry; i++)
        need(s, s->carry_out[i]);
    for (uint32_t k = 0; k < s->nterm; k++)
        if (is_shared(s, s->term[k].to) && !s->term[k].outside)
            need(s, s->term[k].ct);
    for (Ref r = 1; r < g->nnode; r++) {
        if (!(s->role[r] & ROLE_STACKED) || is_given(s, r))
            continue;
        if (s->role[r] & ROLE_TAINTED)
            need(s, r);
        else if (!is_step_input(s, r))
            s->role[r] |= ROLE_SAVED;
    }
    for (Ref r = g->nnode; r-- > 1;) /* down to the forward values it reads */
        for (uint32_t k = 0; k < g->node[r].nargs; k++)
            if ((s->role[r] & (ROLE_NEEDED | ROLE_TAINTED)) == (ROLE_NEEDED | ROLE_TAINTED))
                need(s, g->node[r].arg[k]);

    for (Ref r = 1; r < g->nnode; r++) { /* first what must be saved, then what is cheap */
        const uint8_t role = s->role[r] & (ROLE_NEEDED | ROLE_TAINTED | ROLE_VARIANT);
        if (role == (ROLE_NEEDED | ROLE_VARIANT) && !is_there(s, r) && !is_cheap(&g->node[r]))
            s->role[r] |= ROLE_SAVED;
    }
    uint32_t *seen = arena_array(s->scratch, uint32_t, g->nnode);
    for (Ref r = 1; r < g->nnode; r++) {
        if ((s->role[r] & (ROLE_NEEDED | ROLE_TAINTED)) != ROLE_NEEDED || is_there(s, r))
            continue;
        const int64_t cost = cost_of(s, r, seen, r);
        if (s->role[r] & ROLE_VARIANT && cost > type_bytes(&g->node[r].type))
            s->role[r] |= ROLE_SAVED;
        else
            provide(s, r);
    }
}

static Status plan(ScanGrad *s)
{
    bool *varied = arena_array(s->scratch, bool, s->body->nnode);
    find_varied(s, varied);
    find_active(s, varied);
    Graph *g = graph_new(s->scratch);
    Ref *map = arena_array(s->scratch, Ref, s->body->nnode);
    TRY(copy_body(s, g, map));
    TRY(sweep_body(s, g, map, varied));
    find_roles(s);
    choose_terms(s);
    choose_saved(s);
    return ST_OK;
}

void vjp_scan(Vjp *v, Ref y, Ref ct)
{
    (void)ct;
    Ref latest = y;
    while (v->again[latest] != REF_NONE)
        latest = v->again[latest];
    Arena *arena = v->scratch;
    const Node n = vjp_node(v, latest);
    const Graph *body = n.attr.scan.body;
    ScanGrad s = { .outer = v, .self = latest, .n = n, .body = body, .scratch = arena };
    s.ncarry = n.attr.scan.ncarry;
    s.nstep = n.attr.scan.nstep;
    s.nin = n.nargs;
    s.ny = body->nout - s.ncarry;
    s.active = arena_array(arena, bool, s.ncarry);
    s.in = arena_array(arena, Ref, s.nin);
    s.carry_seed = arena_array(arena, Ref, s.ncarry);
    s.carry_ct = arena_array(arena, Ref, s.ncarry);
    s.carry_out = arena_array(arena, Ref, s.ncarry);
    s.y_seed = arena_array(arena, Ref, s.ny);
    s.y_ct = arena_array(arena, Ref, s.ny);
    s.step_out = arena_array(arena, Ref, s.nstep);
    const uint32_t nresult = graph_result_count(v->b.g, y); /* later results have no cotangent */
    for (uint32_t i = 0; i < nresult; i++)
        *(i < s.ncarry ? &s.carry_ct[i] : &s.y_ct[i - s.ncarry]) = vjp_take(v, y, i);
    if (v->b.status == ST_OK)
        v->b.status = plan(&s);
    if (v->b.status == ST_OK)
        scan_grad_emit(&s);
}
