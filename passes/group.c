/* SPDX-License-Identifier: Apache-2.0 */
/* group: forming groups, and fusion nodes of them.
 *
 * Legality.  Contract every group to one node: the graph must stay without cycles.  For a group S
 * that is to grow this means: from no value that S reads does a walk against the arrows come back
 * to S, where a walk that enters another group T goes on from all that T reads.  Arguments stand
 * before users, so the walk may stop below the first member of S; unless a group spans that place,
 * which lowers the floor to its own first member.  This keeps a step near the size of the group.
 *
 * Free nodes (views, consts, iotas) are copied by each group that reads through them, so they are
 * neither members nor boundaries: a group's reads are the values behind them.  A free node that is
 * wanted as a value (an output, the pad in front of a scan) stays outside and isolate takes it.
 *
 * Also copied is a cheap elementwise value whose sources cost the group no more to read than the
 * value itself: computing it again costs less than storing it.  When all its readers do so, dce
 * drops it.
 *
 * Order.  A fusion stands where its last member stood, or earlier when a result is wanted earlier;
 * everything else keeps its place. */
#include "passes/group.h"

#include <stdlib.h>
#include <string.h>

#include "ir/base/bug.h"
#include "passes/rewrite.h"

typedef struct Group {
    Ref *member; /* in the order they were added; n == 0: merged away */
    uint32_t n, cap;
    Ref min, max;
    bool has_scan;
    Ref *again; /* cheap nodes computed again in this group */
    uint32_t nagain;
} Group;

struct Groups {
    PassCx *pcx;
    const Graph *in;
    GroupLimits limits;
    GroupId *of; /* by node */
    Group *group;
    uint32_t ngroup, group_cap;
    uint32_t *user_at; /* users of r: user[user_at[r] .. user_at[r + 1]) */
    Ref *user;
    bool *is_wanted; /* an output, or read by a group that computes its user again */
    uint32_t *seen, *seen_group, stamp, seen_group_cap; /* marks of the walk under way */
    Ref *stack, *reads;                                 /* nnode each */
    Rewrite rw;                                         /* extraction */
    uint8_t *emitted;                                   /* by group: 1 under way, 2 done */
};

/* ---- the graph as it is -------------------------------------------------------------------- */

static void find_users(Groups *gs)
{
    const Graph *g = gs->in;
    Arena *a = gs->pcx->scratch;
    gs->user_at = arena_array(a, uint32_t, g->nnode + 2);
    uint32_t total = 0;
    for (Ref r = 1; r < g->nnode; r++)
        for (uint32_t i = 0; i < g->node[r].nargs; i++, total++)
            gs->user_at[g->node[r].arg[i] + 2]++;
    for (Ref r = 2; r < g->nnode + 2; r++)
        gs->user_at[r] += gs->user_at[r - 1];
    gs->user = arena_array(a, Ref, total);
    for (Ref r = 1; r < g->nnode; r++)
        for (uint32_t i = 0; i < g->node[r].nargs; i++)
            gs->user[gs->user_at[g->node[r].arg[i] + 1]++] = r;
}

Groups *group_start(PassCx *pcx, const Graph *in, GroupLimits limits)
{
    Arena *a = pcx->scratch;
    Groups *gs = arena_array(a, Groups, 1);
    *gs = (Groups){ .pcx = pcx, .in = in, .limits = limits };
    gs->of = arena_array(a, GroupId, in->nnode);
    gs->seen = arena_array(a, uint32_t, in->nnode);
    gs->stack = arena_array(a, Ref, in->nnode);
    gs->reads = arena_array(a, Ref, in->nnode);
    gs->is_wanted = arena_array(a, bool, in->nnode);
    for (uint32_t i = 0; i < in->nout; i++)
        gs->is_wanted[in->out[i].value] = true;
    find_users(gs);
    gs->ngroup = 1;
    arena_grow(a, gs->group, 0, gs->group_cap);
    return gs;
}

bool group_is_free(const Groups *gs, GroupId id, Ref r)
{
    const Op op = gs->in->node[r].op;
    if (op == OP_const || op == OP_iota)
        return true;
    const Group *s = &gs->group[id];
    if (op_info[op].cls == CLASS_VIEW)
        return op != OP_concat && !(op == OP_pad && s->has_scan);
    for (uint32_t i = 0; i < s->nagain; i++)
        if (s->again[i] == r)
            return true;
    return false;
}

static bool holds_fusion(const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == OP_fusion ||
            (g->node[r].op == OP_scan && holds_fusion(g->node[r].attr.scan.body)))
            return true;
    return false;
}

bool group_is_open(const Groups *gs, Ref r)
{
    const Op op = gs->in->node[r].op;
    if (gs->of[r])
        return false;
    switch ((OpClass)op_info[op].cls) {
    case CLASS_ELEMENTWISE:
    case CLASS_REDUCE:
    case CLASS_CONTRACT:
        return true;
    default:
        return op == OP_rand || op == OP_concat ||
               (op == OP_scan && !holds_fusion(gs->in->node[r].attr.scan.body));
    }
}

GroupId group_of(const Groups *gs, Ref r)
{
    return gs->of[r];
}

const Ref *group_users(const Groups *gs, Ref r, uint32_t *n)
{
    *n = gs->user_at[r + 1] - gs->user_at[r];
    return gs->user + gs->user_at[r];
}

Ref group_source(const Groups *gs, Ref r)
{
    while (group_is_free(gs, 0, r) && gs->in->node[r].nargs == 1)
        r = gs->in->node[r].arg[0];
    return r;
}

const Ref *group_members(const Groups *gs, GroupId id, uint32_t *n)
{
    *n = gs->group[id].n;
    return gs->group[id].member;
}

bool group_is_output(const Groups *gs, Ref r)
{
    return gs->is_wanted[r];
}

bool group_leaves(const Groups *gs, GroupId id, Ref r)
{
    if (gs->is_wanted[r])
        return true;
    uint32_t n;
    const Ref *user = group_users(gs, r, &n);
    for (uint32_t i = 0; i < n; i++) {
        if (gs->of[user[i]] == id)
            continue;
        if (gs->of[user[i]] || !group_is_free(gs, 0, user[i]) || group_leaves(gs, id, user[i]))
            return true;
    }
    return false;
}

/* ---- what a group reads -------------------------------------------------------------------- */

static bool see(Groups *gs, Ref r)
{
    if (gs->seen[r] == gs->stamp)
        return false;
    gs->seen[r] = gs->stamp;
    return true;
}

/* Adds to reads what r's arguments show, in order. */
static void read_args(Groups *gs, GroupId id, Ref r, uint32_t *nreads)
{
    const Node *n = &gs->in->node[r];
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Ref a = n->arg[i];
        if (gs->of[a] == id || !see(gs, a))
            continue;
        if (group_is_free(gs, id, a))
            read_args(gs, id, a, nreads);
        else
            gs->reads[(*nreads)++] = a;
    }
}

static int ref_order(const void *a, const void *b)
{
    const Ref x = *(const Ref *)a, y = *(const Ref *)b;
    return (x > y) - (x < y);
}

/* The members in definition order, in scratch. */
static Ref *members_sorted(Groups *gs, GroupId id)
{
    const Group *s = &gs->group[id];
    Ref *sorted = arena_copy(gs->pcx->scratch, s->member, s->n * sizeof *s->member);
    qsort(sorted, s->n, sizeof *sorted, ref_order);
    return sorted;
}

static uint32_t find_reads(Groups *gs, GroupId id, const Ref *member)
{
    uint32_t nreads = 0;
    gs->stamp++;
    for (uint32_t i = 0; i < gs->group[id].n; i++)
        read_args(gs, id, member[i], &nreads);
    return nreads;
}

const Ref *group_reads(Groups *gs, GroupId id, uint32_t *n)
{
    *n = find_reads(gs, id, members_sorted(gs, id));
    return arena_copy(gs->pcx->scratch, gs->reads, *n * sizeof *gs->reads);
}

/* ---- legality ------------------------------------------------------------------------------ */

/* Below this no walk can come back to the group. */
static Ref floor_of(const Groups *gs, GroupId id)
{
    Ref floor = gs->group[id].min;
    for (bool lower = true; lower;) {
        lower = false;
        for (GroupId t = 1; t < gs->ngroup; t++) {
            const Group *other = &gs->group[t];
            if (other->n && other->max >= floor && other->min < floor) {
                floor = other->min;
                lower = true;
            }
        }
    }
    return floor;
}

static void push(Groups *gs, uint32_t *depth, Ref r)
{
    if (see(gs, r))
        gs->stack[(*depth)++] = r;
}

static bool see_group(Groups *gs, GroupId id)
{
    if (gs->ngroup > gs->seen_group_cap) {
        gs->seen_group_cap = 2 * gs->ngroup;
        gs->seen_group = arena_array(gs->pcx->scratch, uint32_t, gs->seen_group_cap);
    }
    if (gs->seen_group[id] == gs->stamp)
        return false;
    gs->seen_group[id] = gs->stamp;
    return true;
}

static void push_args(Groups *gs, uint32_t *depth, Ref r)
{
    for (uint32_t i = 0; i < gs->in->node[r].nargs; i++)
        push(gs, depth, gs->in->node[r].arg[i]);
}

/* No walk from what the group reads comes back to it. */
static bool is_convex(Groups *gs, GroupId id)
{
    const uint32_t nreads = find_reads(gs, id, gs->group[id].member);
    const Ref floor = floor_of(gs, id);
    uint32_t depth = 0;
    gs->stamp++;
    for (uint32_t i = 0; i < nreads; i++)
        push(gs, &depth, gs->reads[i]);
    while (depth > 0) {
        const Ref r = gs->stack[--depth];
        const GroupId t = gs->of[r];
        if (t == id)
            return false;
        if (r < floor)
            continue;
        if (!t || group_is_free(gs, 0, r)) {
            push_args(gs, &depth, r);
        } else if (see_group(gs, t) && !BUG(34)) {
            for (uint32_t i = 0; i < gs->group[t].n; i++)
                push_args(gs, &depth, gs->group[t].member[i]);
        }
    }
    return true;
}

static bool is_within_limits(Groups *gs, GroupId id)
{
    const Group *s = &gs->group[id];
    if (s->n > gs->limits.nodes)
        return false;
    uint32_t buffers = find_reads(gs, id, s->member);
    for (uint32_t i = 0; i < s->n; i++)
        buffers += group_leaves(gs, id, s->member[i]);
    return buffers <= gs->limits.buffers;
}

/* ---- forming and growing ------------------------------------------------------------------- */

static void add_member(Groups *gs, GroupId id, Ref r)
{
    Group *s = &gs->group[id];
    arena_grow(gs->pcx->scratch, s->member, s->n, s->cap);
    s->min = s->n && s->min < r ? s->min : r;
    s->max = s->n && s->max > r ? s->max : r;
    s->member[s->n++] = r;
    gs->of[r] = id;
}

static void drop_last_member(Groups *gs, GroupId id)
{
    Group *s = &gs->group[id];
    gs->of[s->member[--s->n]] = 0;
    s->min = UINT32_MAX;
    s->max = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        s->min = s->member[i] < s->min ? s->member[i] : s->min;
        s->max = s->member[i] > s->max ? s->member[i] : s->max;
    }
}

GroupId group_new(Groups *gs, Ref seed)
{
    gtc_assert(!gs->of[seed], "node %u is in a group already", seed);
    arena_grow(gs->pcx->scratch, gs->group, gs->ngroup, gs->group_cap);
    const GroupId id = gs->ngroup++;
    gs->group[id] = (Group){ .has_scan = gs->in->node[seed].op == OP_scan };
    add_member(gs, id, seed);
    uint32_t n;
    const Ref *user = group_users(gs, seed, &n);
    for (uint32_t i = 0; i < n && gs->group[id].has_scan; i++)
        add_member(gs, id, user[i]);
    return id;
}

bool group_grow(Groups *gs, GroupId id, Ref r)
{
    if (!group_is_open(gs, r) || gs->in->node[r].op == OP_scan)
        return false;
    add_member(gs, id, r);
    if (is_within_limits(gs, id) && is_convex(gs, id))
        return true;
    drop_last_member(gs, id);
    return false;
}

void group_drop(Groups *gs, GroupId id)
{
    while (gs->group[id].n)
        drop_last_member(gs, id);
}

bool group_merge(Groups *gs, GroupId into, GroupId from)
{
    Group *f = &gs->group[from];
    const uint32_t n = f->n, before = gs->group[into].n;
    if (into == from || n + before > gs->limits.nodes)
        return false;
    f->n = 0;
    for (uint32_t i = 0; i < n; i++)
        add_member(gs, into, f->member[i]);
    if (is_within_limits(gs, into) && is_convex(gs, into))
        return true;
    for (uint32_t i = 0; i < n; i++)
        drop_last_member(gs, into);
    f->n = n;
    for (uint32_t i = 0; i < n; i++)
        gs->of[f->member[i]] = from;
    return false;
}

/* ---- building bodies ----------------------------------------------------------------------- */

typedef struct Body {
    Graph *graph;
    const Ref *arg; /* values of in */
    uint32_t narg;
    Ref *result; /* members, in definition order */
    uint32_t nresult;
    Ref *map; /* in -> body */
} Body;

static Status body_copy(Groups *gs, GroupId id, Body *b, Ref r)
{
    if (b->map[r])
        return ST_OK;
    Node n = gs->in->node[r];
    gtc_assert(gs->of[r] == id || group_is_free(gs, id, r), "node %u is not of the group", r);
    Ref *arg = arena_array(gs->pcx->scratch, Ref, n.nargs);
    for (uint32_t i = 0; i < n.nargs; i++) {
        TRY(body_copy(gs, id, b, n.arg[i]));
        arg[i] = b->map[n.arg[i]];
    }
    n.arg = arg;
    if (n.region) {
        const Region *region = &gs->in->region[n.region];
        n.region = graph_region(b->graph, region->kind, region->layer, region->bwd);
    }
    return graph_add(gs->pcx->cx, b->graph, &n, &b->map[r]);
}

static Status body_build(Groups *gs, GroupId id, Arena *arena, Body *b)
{
    Arena *scratch = gs->pcx->scratch;
    const uint32_t n = gs->group[id].n;
    const Ref *member = members_sorted(gs, id);
    *b = (Body){ .graph = graph_new(arena),
                 .map = arena_array(scratch, Ref, gs->in->nnode),
                 .result = arena_array(scratch, Ref, n) };
    b->narg = find_reads(gs, id, member);
    b->arg = arena_copy(scratch, gs->reads, b->narg * sizeof *gs->reads);
    for (uint32_t i = 0; i < b->narg; i++) {
        const Node input = { .op = OP_input,
                             .type = gs->in->node[b->arg[i]].type,
                             .name = arena_printf(arena, "x%u", i) };
        TRY(graph_add(gs->pcx->cx, b->graph, &input, &b->map[b->arg[i]]));
    }
    for (uint32_t i = 0; i < n; i++)
        TRY(body_copy(gs, id, b, member[i]));
    for (uint32_t i = 0; i < n; i++) {
        if (gs->in->node[member[i]].op == OP_scan || !group_leaves(gs, id, member[i]))
            continue;
        b->result[b->nresult++] = member[i];
        TRY(graph_output(gs->pcx->cx, b->graph, b->map[member[i]], REF_NONE, NULL));
    }
    return ST_OK;
}

static bool has_contraction(const Groups *gs, GroupId id)
{
    const Group *s = &gs->group[id];
    bool found = s->has_scan;
    for (uint32_t i = 0; i < s->n; i++)
        found |= op_info[gs->in->node[s->member[i]].op].cls == CLASS_CONTRACT;
    return found;
}

/* Read once for each element of a result, by elementwise members and not through views. */
static bool is_read_once(const Groups *gs, GroupId id, Ref r)
{
    uint32_t n;
    const Ref *user = group_users(gs, r, &n);
    for (uint32_t i = 0; i < n; i++) {
        const bool elementwise = op_info[gs->in->node[user[i]].op].cls == CLASS_ELEMENTWISE;
        if (group_is_free(gs, 0, user[i]) || (gs->of[user[i]] == id && !elementwise))
            return false;
    }
    return true;
}

/* True when reading what r is made of costs the group no more than reading r: at most one of its
 * sources is large and not read already.  A single number is cheap whatever it takes, if that is
 * at most two others: better than a launch for it. */
static bool is_worth_again(const Groups *gs, GroupId id, Ref r, const Ref *reads, uint32_t nreads)
{
    const Node *n = &gs->in->node[r];
    const int64_t count = shape_count(&n->type.shape);
    if (op_info[n->op].cls != CLASS_ELEMENTWISE ||
        (count > 1 && !(op_info[n->op].flags & OPF_CHEAP)))
        return false;
    int more = 0;
    Ref last = REF_NONE;
    for (uint32_t k = 0; k < n->nargs; k++) {
        const Ref source = group_source(gs, n->arg[k]);
        const int64_t size = shape_count(&gs->in->node[source].type.shape);
        const GroupId home = gs->of[source];
        if (home && home == gs->of[r] && count > 1 && !group_leaves(gs, home, source))
            return false; /* r's own group keeps it to itself */
        bool here = gs->of[source] == id || group_is_free(gs, 0, source);
        for (uint32_t i = 0; i < nreads; i++)
            here |= reads[i] == source;
        if (here || source == last)
            continue;
        last = source;
        if (count <= 1)
            more += size <= 1 ? 1 : 3;
        else if (size > count / 8)
            more += size > count ? 2 : 1;
    }
    return more <= (count <= 1 ? 2 : 1);
}

/* Cheap values that the group had better compute than read; a contraction, which reads its
 * operands many times, only those of its epilogue. */
static void find_again(Groups *gs, GroupId id)
{
    enum { MOST = 32 };
    Group *s = &gs->group[id];
    const bool contracts = has_contraction(gs, id);
    s->again = arena_array(gs->pcx->scratch, Ref, MOST);
    uint32_t n;
    const Ref *reads;
    bool more;
    do {
        more = false;
        reads = group_reads(gs, id, &n);
        for (uint32_t i = 0; i < n && !more && s->nagain < MOST; i++)
            if (is_worth_again(gs, id, reads[i], reads, n) &&
                (!contracts || is_read_once(gs, id, reads[i]))) {
                s->again[s->nagain++] = reads[i];
                more = true;
            }
    } while (more);
    for (uint32_t i = 0; i < n; i++)
        gs->is_wanted[reads[i]] = true;
}

/* Gives up members until the target takes the body. */
static Status settle(Groups *gs, GroupId id)
{
    const Target *target = gs->pcx->target;
    Group *s = &gs->group[id];
    if (!target || !target->refuse || s->has_scan)
        return ST_OK;
    while (s->n > 1) {
        if (is_convex(gs, id)) {
            Body b;
            TRY(body_build(gs, id, gs->pcx->scratch, &b));
            if (!target->refuse(target, b.graph))
                break;
        }
        drop_last_member(gs, id);
    }
    return ST_OK;
}

/* ---- the fused graph ----------------------------------------------------------------------- */

static Status emit_value(Groups *gs, Ref r);

static Status emit_group(Groups *gs, GroupId id)
{
    Ctx *cx = gs->pcx->cx;
    gtc_assert(gs->emitted[id] != 1, "group %u needs its own result", id);
    if (gs->emitted[id])
        return ST_OK;
    gs->emitted[id] = 1;
    Body b;
    TRY(body_build(gs, id, gs->rw.out->arena, &b));
    Ref *arg = arena_array(gs->pcx->scratch, Ref, b.narg);
    for (uint32_t i = 0; i < b.narg; i++) {
        TRY(emit_value(gs, b.arg[i]));
        arg[i] = gs->rw.map[b.arg[i]];
    }
    const Node fusion = { .op = OP_fusion,
                          .nargs = b.narg,
                          .arg = arg,
                          .attr.fusion = { b.graph, group_label(gs->rw.out->arena, b.graph) },
                          .region = gs->in->node[gs->group[id].member[0]].region };
    Ref whole;
    TRY(graph_add(cx, gs->rw.out, &fusion, &whole));
    for (uint32_t i = 0; i < b.nresult; i++) {
        const Node *member = &gs->in->node[b.result[i]];
        const Node get = { .op = OP_get,
                           .nargs = 1,
                           .arg = &whole,
                           .attr.get.index = i,
                           .region = member->region,
                           .name = member->name };
        TRY(graph_add(cx, gs->rw.out, &get, &gs->rw.map[b.result[i]]));
    }
    gs->emitted[id] = 2;
    gs->pcx->nchanged++;
    return ST_OK;
}

static Status emit_value(Groups *gs, Ref r)
{
    if (gs->rw.map[r])
        return ST_OK;
    if (gs->of[r])
        return emit_group(gs, gs->of[r]);
    for (uint32_t i = 0; i < gs->in->node[r].nargs; i++)
        TRY(emit_value(gs, gs->in->node[r].arg[i]));
    return rewrite_copy(&gs->rw, r);
}

Status group_extract(Groups *gs, Graph *out)
{
    const Graph *in = gs->in;
    for (GroupId id = 1; id < gs->ngroup; id++)
        if (gs->group[id].n)
            TRY(settle(gs, id));
    for (GroupId id = 1; id < gs->ngroup; id++)
        if (gs->limits.nodes > 1 && gs->group[id].n && !gs->group[id].has_scan)
            find_again(gs, id);

    gs->rw = rewrite_start(gs->pcx, in, out, NULL);
    gs->emitted = arena_array(gs->pcx->scratch, uint8_t, gs->ngroup);
    for (uint32_t i = 0; i < in->ninput; i++)
        TRY(rewrite_copy(&gs->rw, in->input[i]));
    for (Ref r = 1; r < in->nnode; r++) {
        const GroupId id = gs->of[r];
        if (id && r == gs->group[id].max)
            TRY(emit_group(gs, id));
        if (!id && !group_is_free(gs, 0, r))
            TRY(emit_value(gs, r));
    }
    for (uint32_t i = 0; i < in->nout; i++)
        TRY(emit_value(gs, in->out[i].value));
    return rewrite_outputs(&gs->rw);
}
