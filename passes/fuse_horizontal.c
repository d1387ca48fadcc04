/* SPDX-License-Identifier: Apache-2.0 */
/* fuse-horizontal: fusions that do not feed each other become one launch.
 *
 * The other passes group what hangs together along the arrows.  What is left are many small
 * fusions side by side: the update of each parameter, the squared norm of each gradient, sums for
 * metrics, a step counter.  Each costs a launch, or a place in the team's order, for a few thousand
 * elements.  Here whole fusions are put next to each other in one body, whose parts have their own
 * shapes; a planner runs them without a barrier between.  Three rules:
 *
 *   numbers  A fusion that only makes single numbers takes in those that make single numbers for
 *            it alone: the norm of all gradients is one fusion, from their squares to the factor.
 *   ends     Fusions that nobody reads, since they replace a parameter or state or go to the
 *            caller, become one: the optimizer is one launch, with clipping after the norm's.
 *   level    Fusions equally far from the inputs, so that no path can join them: the weight,
 *            bias and input gradients of a layer.  Only for a target whose launches cost so much
 *            (Target.launch_ops); scans stay alone.
 *
 * Each rule is legal by itself: numbers for one reader, ends and nodes of one level never close a
 * cycle.  Scans and contractions are not taken by the first two; they are long enough alone.
 *
 * Single numbers computed in several bodies, such as Adam's bias corrections, are merged although
 * their regions differ.  A target that takes so many arguments and no more (Target.most_args)
 * gets a launch more.
 *
 * requires: verified, expanded, isolated      keeps: names, regions
 * cost: O(nodes + fusions * groups)
 */
#include <string.h>

#include "passes/group.h"
#include "passes/rewrite.h"

typedef struct Part { /* one fusion of the graph */
    Ref fusion;
    uint32_t set; /* index of the part that stands for its set; itself at first */
    uint32_t level;
    bool is_taken;   /* the target takes it: it may be joined */
    bool is_light;   /* neither scan nor contraction */
    bool is_numbers; /* all results are single numbers, and it is light */
    double work;     /* elementary operations, roughly */
} Part;

typedef struct Sides {
    PassCx *pcx;
    const Graph *in;
    Part *part; /* in definition order */
    uint32_t npart;
    uint32_t *of; /* by Ref: 1 + the part that makes this value, or that this fusion is */
    Rewrite rw;
    uint8_t *emitted; /* by part that stands for a set: 1 under way, 2 done */
} Sides;

/* ---- what the fusions are ------------------------------------------------------------------ */

static double work_of(const Graph *g)
{
    double work = 0;
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if (op_info[n->op].cls == CLASS_REDUCE || op_info[n->op].cls == CLASS_ELEMENTWISE) {
            const Type *t = &g->node[n->arg[0]].type;
            work += (double)shape_count(op_info[n->op].cls == CLASS_REDUCE ? &t->shape
                                                                           : &n->type.shape);
        } else if (n->op == OP_matmul) {
            double k = 1;
            for (int i = 0; i < n->attr.contract.nover; i++)
                k *= (double)g->node[n->arg[0]].type.shape.dim[n->attr.contract.over_a[i]];
            work += 2 * k * (double)shape_count(&n->type.shape);
        }
    }
    return work;
}

static Part part_of(const Target *t, const Graph *g, Ref r)
{
    const Graph *body = g->node[r].attr.fusion.body;
    Part p = { .fusion = r, .work = work_of(body) };
    p.is_taken = p.is_light = !t || !t->refuse || !t->refuse(t, body);
    for (Ref k = 1; k < body->nnode; k++) {
        const Op op = body->node[k].op;
        p.is_light &= op != OP_scan && op_info[op].cls != CLASS_CONTRACT && op != OP_scatter_add;
    }
    p.is_numbers = p.is_light;
    for (uint32_t i = 0; i < body->nout; i++)
        p.is_numbers &= shape_count(&body->node[body->out[i].value].type.shape) == 1;
    return p;
}

static void find_parts(Sides *s)
{
    const Graph *g = s->in;
    s->part = arena_array(s->pcx->scratch, Part, g->nnode);
    s->of = arena_array(s->pcx->scratch, uint32_t, g->nnode);
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if (n->op == OP_get)
            s->of[r] = s->of[n->arg[0]];
        if (n->op != OP_fusion)
            continue;
        Part p = part_of(s->pcx->target, g, r);
        p.set = s->npart;
        s->part[s->npart++] = p;
        s->of[r] = s->npart;
    }
}

static uint32_t set_of(const Sides *s, uint32_t part)
{
    while (s->part[part].set != part)
        part = s->part[part].set;
    return part;
}

/* ---- sets ---------------------------------------------------------------------------------- */

/* Distinct arguments and results of a set joined with another. */
static uint32_t count_args(const Sides *s, uint32_t a, uint32_t b)
{
    bool *seen = arena_array(s->pcx->scratch, bool, s->in->nnode);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->npart; i++) {
        const uint32_t set = set_of(s, i);
        if (set != a && set != b)
            continue;
        const Node *f = &s->in->node[s->part[i].fusion];
        n += graph_result_count(s->in, s->part[i].fusion);
        for (uint32_t k = 0; k < f->nargs; k++) {
            n += !seen[f->arg[k]];
            seen[f->arg[k]] = true;
        }
    }
    return n;
}

static bool set_join(Sides *s, uint32_t a, uint32_t b)
{
    const Target *t = s->pcx->target;
    a = set_of(s, a);
    b = set_of(s, b);
    if (a == b || (t && t->most_args && count_args(s, a, b) > (uint32_t)t->most_args))
        return false;
    const uint32_t first = a < b ? a : b, other = a < b ? b : a;
    s->part[other].set = first;
    s->part[first].is_light &= s->part[other].is_light;
    s->part[first].work += s->part[other].work;
    s->pcx->nchanged++;
    return true;
}

/* The one set that reads part p, besides itself; npart when there is none or several. */
static uint32_t only_reader(const Sides *s, uint32_t p)
{
    uint32_t reader = s->npart;
    for (uint32_t i = 0; i < s->in->nout; i++)
        if (s->of[s->in->out[i].value] == p + 1)
            return s->npart;
    for (uint32_t i = p + 1; i < s->npart; i++) {
        const Node *f = &s->in->node[s->part[i].fusion];
        for (uint32_t k = 0; k < f->nargs; k++) {
            if (s->of[f->arg[k]] != p + 1 || set_of(s, i) == set_of(s, p))
                continue;
            if (reader != s->npart && reader != set_of(s, i))
                return s->npart;
            reader = set_of(s, i);
        }
    }
    return reader;
}

static void join_numbers(Sides *s)
{
    for (uint32_t i = s->npart; i-- > 0;) {
        if (!s->part[i].is_numbers)
            continue;
        const uint32_t reader = only_reader(s, i);
        if (reader < s->npart && s->part[reader].is_numbers)
            set_join(s, i, reader);
    }
}

static void join_ends(Sides *s)
{
    bool *no = arena_array(s->pcx->scratch, bool, s->npart);
    for (uint32_t i = 0; i < s->npart; i++) {
        const Node *f = &s->in->node[s->part[i].fusion];
        no[set_of(s, i)] |= !s->part[i].is_light;
        for (uint32_t k = 0; k < f->nargs; k++)
            if (s->of[f->arg[k]] && set_of(s, s->of[f->arg[k]] - 1) != set_of(s, i))
                no[set_of(s, s->of[f->arg[k]] - 1)] = true;
    }
    uint32_t last = s->npart;
    for (uint32_t i = 0; i < s->npart; i++)
        if (s->part[i].set == i && !no[i] && (last == s->npart || !set_join(s, last, i)))
            last = i;
}

/* Steps from the inputs, counted in sets. */
static void find_levels(Sides *s)
{
    for (bool again = true; again;) {
        again = false;
        for (uint32_t i = 0; i < s->npart; i++) {
            const Node *f = &s->in->node[s->part[i].fusion];
            const uint32_t set = set_of(s, i);
            for (uint32_t k = 0; k < f->nargs; k++) {
                const uint32_t from = s->of[f->arg[k]] ? set_of(s, s->of[f->arg[k]] - 1) : set;
                if (from != set && s->part[set].level <= s->part[from].level) {
                    s->part[set].level = s->part[from].level + 1;
                    again = true;
                }
            }
        }
    }
}

static bool has_scan(const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == OP_scan)
            return true;
    return false;
}

static void join_levels(Sides *s)
{
    const double most = s->pcx->target ? s->pcx->target->launch_ops : 0;
    if (most <= 0)
        return;
    find_levels(s);
    bool *alone = arena_array(s->pcx->scratch, bool, s->npart);
    for (uint32_t i = 0; i < s->npart; i++)
        alone[set_of(s, i)] |=
            !s->part[i].is_taken || has_scan(s->in->node[s->part[i].fusion].attr.fusion.body);
    for (uint32_t i = 0; i < s->npart; i++)
        for (uint32_t k = 0; k < i; k++) {
            const Part *a = &s->part[k], *b = &s->part[i];
            if (a->set == k && b->set == i && a->level == b->level && !alone[k] && !alone[i] &&
                (a->work < most || b->work < most) && set_join(s, k, i))
                break;
        }
}

/* ---- one body of many ---------------------------------------------------------------------- */

typedef struct Merged {
    Graph *body;
    Ref *arg; /* values of in that it reads */
    uint32_t narg;
    Ref *value;  /* by Ref of in: where the body has it, or REF_NONE */
    Ref *number; /* nodes of the body that are single numbers */
    uint32_t nnumber, number_cap;
} Merged;

/* An equal node of the body that is a single number; its region does not matter. */
static Ref same_number(const Merged *m, const Node *n)
{
    for (uint32_t i = 0; i < m->nnumber; i++) {
        const Node *o = &m->body->node[m->number[i]];
        if (o->op == n->op && o->type.dt == n->type.dt &&
            shape_eq(&o->type.shape, &n->type.shape) && o->nargs == n->nargs &&
            (!n->nargs || memcmp(o->arg, n->arg, n->nargs * sizeof *n->arg) == 0) &&
            attr_eq(op_info[n->op].attr, &o->attr, &n->attr))
            return m->number[i];
    }
    return REF_NONE;
}

static Status merge_node(Sides *s, Merged *m, const Graph *from, Ref r, Ref *map)
{
    Node n = from->node[r];
    Ref *arg = arena_array(s->pcx->scratch, Ref, n.nargs);
    for (uint32_t i = 0; i < n.nargs; i++)
        arg[i] = map[n.arg[i]];
    n.arg = arg;
    const int cls = op_info[n.op].cls;
    const bool number = n.type.dt != DT_NONE && shape_count(&n.type.shape) == 1 &&
                        (cls == CLASS_ELEMENTWISE || cls == CLASS_VIEW || n.op == OP_const);
    if (number) {
        map[r] = same_number(m, &n);
        if (map[r])
            return ST_OK;
    }
    if (n.region) {
        const Region *region = &from->region[n.region];
        n.region = graph_region(m->body, region->kind, region->layer, region->bwd);
    }
    TRY(graph_add(s->pcx->cx, m->body, &n, &map[r]));
    if (number) {
        arena_grow(s->pcx->scratch, m->number, m->nnumber, m->number_cap);
        m->number[m->nnumber++] = map[r];
    }
    return ST_OK;
}

/* Values of in that member `part` makes: its gets. */
static Status merge_part(Sides *s, Merged *m, uint32_t part)
{
    const Graph *g = s->in;
    const Ref fusion = s->part[part].fusion;
    const Node *f = &g->node[fusion];
    const Graph *from = f->attr.fusion.body;
    Ref *map = arena_array(s->pcx->scratch, Ref, from->nnode);
    for (uint32_t i = 0; i < from->ninput; i++)
        map[from->input[i]] = m->value[f->arg[i]];
    for (Ref r = 1; r < from->nnode; r++)
        if (from->node[r].op != OP_input)
            TRY(merge_node(s, m, from, r, map));
    for (Ref r = fusion + 1; r < g->nnode; r++)
        if (g->node[r].op == OP_get && g->node[r].arg[0] == fusion)
            m->value[r] = map[from->out[g->node[r].attr.get.index].value];
    return ST_OK;
}

static Status merge_args(Sides *s, Merged *m, uint32_t set)
{
    const Graph *g = s->in;
    for (uint32_t i = set; i < s->npart; i++) {
        const Node *f = &g->node[s->part[i].fusion];
        for (uint32_t k = 0; k < f->nargs && set_of(s, i) == set; k++) {
            const Ref a = f->arg[k];
            if (m->value[a] || (s->of[a] && set_of(s, s->of[a] - 1) == set))
                continue;
            const Node input = { .op = OP_input,
                                 .type = g->node[a].type,
                                 .name = arena_printf(m->body->arena, "x%u", m->narg) };
            TRY(graph_add(s->pcx->cx, m->body, &input, &m->value[a]));
            m->arg[m->narg++] = a;
        }
    }
    return ST_OK;
}

static bool is_read_outside(const Sides *s, Ref get, uint32_t set)
{
    const Graph *g = s->in;
    for (uint32_t i = 0; i < g->nout; i++)
        if (g->out[i].value == get)
            return true;
    for (uint32_t i = 0; i < s->npart; i++) {
        const Node *f = &g->node[s->part[i].fusion];
        for (uint32_t k = 0; k < f->nargs; k++)
            if (f->arg[k] == get && set_of(s, i) != set)
                return true;
    }
    return false;
}

/* The kind of region that most members of the set stand in, else what the body does. */
static const char *label_of(Sides *s, uint32_t set, const Graph *body)
{
    uint32_t members = 0, most = 0;
    const Region *common = NULL;
    for (uint32_t i = set; i < s->npart; i++) {
        const Region *a = &s->in->region[s->in->node[s->part[i].fusion].region];
        uint32_t alike = 0;
        members += set_of(s, i) == set;
        for (uint32_t k = set; k < s->npart && a->kind; k++) {
            const Region *b = &s->in->region[s->in->node[s->part[k].fusion].region];
            alike += set_of(s, i) == set && set_of(s, k) == set && b->kind && a->bwd == b->bwd &&
                     strcmp(a->kind, b->kind) == 0;
        }
        if (alike > most) {
            most = alike;
            common = a;
        }
    }
    Arena *arena = s->rw.out->arena;
    return 2 * most > members ? group_label_region(arena, common) : group_label(arena, body);
}

static Status emit_value(Sides *s, Ref r);

static Status emit_results(Sides *s, Ref whole, const Ref *result, uint32_t nresult)
{
    const Graph *g = s->in;
    for (uint32_t i = 0; i < nresult; i++) {
        const Node *old = &g->node[result[i]];
        const Node get = { .op = OP_get,
                           .nargs = 1,
                           .arg = &whole,
                           .attr.get.index = i,
                           .region = old->region,
                           .name = old->name };
        TRY(graph_add(s->pcx->cx, s->rw.out, &get, &s->rw.map[result[i]]));
    }
    return ST_OK;
}

static Status emit_set(Sides *s, uint32_t set)
{
    const Graph *g = s->in;
    Arena *scratch = s->pcx->scratch;
    gtc_assert(s->emitted[set] != 1, "fusion %u needs its own result", s->part[set].fusion);
    if (s->emitted[set])
        return ST_OK;
    s->emitted[set] = 1;
    Merged m = { .body = graph_new(s->rw.out->arena),
                 .arg = arena_array(scratch, Ref, g->nnode),
                 .value = arena_array(scratch, Ref, g->nnode) };
    TRY(merge_args(s, &m, set));
    Ref *result = arena_array(scratch, Ref, g->nnode);
    uint32_t nresult = 0;
    for (uint32_t i = set; i < s->npart; i++)
        if (set_of(s, i) == set)
            TRY(merge_part(s, &m, i));
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == OP_get && s->of[r] && set_of(s, s->of[r] - 1) == set &&
            is_read_outside(s, r, set)) {
            result[nresult++] = r;
            TRY(graph_output(s->pcx->cx, m.body, m.value[r], REF_NONE, NULL));
        }
    Ref *arg = arena_array(scratch, Ref, m.narg);
    for (uint32_t i = 0; i < m.narg; i++) {
        TRY(emit_value(s, m.arg[i]));
        arg[i] = s->rw.map[m.arg[i]];
    }
    const Node fusion = { .op = OP_fusion,
                          .nargs = m.narg,
                          .arg = arg,
                          .attr.fusion = { m.body, label_of(s, set, m.body) },
                          .region = g->node[s->part[set].fusion].region };
    Ref whole;
    TRY(graph_add(s->pcx->cx, s->rw.out, &fusion, &whole));
    s->emitted[set] = 2;
    return emit_results(s, whole, result, nresult);
}

static bool is_alone(const Sides *s, uint32_t part)
{
    for (uint32_t i = 0; i < s->npart; i++)
        if (i != part && set_of(s, i) == set_of(s, part))
            return false;
    return true;
}

static Status emit_value(Sides *s, Ref r)
{
    if (s->rw.map[r])
        return ST_OK;
    if (s->of[r] && !is_alone(s, s->of[r] - 1))
        return emit_set(s, set_of(s, s->of[r] - 1));
    for (uint32_t i = 0; i < s->in->node[r].nargs; i++)
        TRY(emit_value(s, s->in->node[r].arg[i]));
    return rewrite_copy(&s->rw, r);
}

Status pass_fuse_horizontal(PassCx *pcx, const Graph *in, Graph *out)
{
    Sides s = { .pcx = pcx, .in = in };
    find_parts(&s);
    join_numbers(&s);
    join_ends(&s);
    join_levels(&s);

    s.rw = rewrite_start(pcx, in, out, NULL);
    s.emitted = arena_array(pcx->scratch, uint8_t, s.npart + 1);
    for (uint32_t i = 0; i < in->ninput; i++)
        TRY(rewrite_copy(&s.rw, in->input[i]));
    for (Ref r = 1; r < in->nnode; r++) {
        bool last = true; /* of its set: a set stands where its last member stood, or is wanted */
        for (uint32_t i = s.of[r]; last && s.of[r] && i < s.npart; i++)
            last = set_of(&s, i) != set_of(&s, s.of[r] - 1);
        if (last && !s.rw.map[r] && !(s.of[r] && s.emitted[set_of(&s, s.of[r] - 1)]))
            TRY(emit_value(&s, r));
    }
    for (uint32_t i = 0; i < in->nout; i++)
        TRY(emit_value(&s, in->out[i].value));
    return rewrite_outputs(&s.rw);
}
