/* SPDX-License-Identifier: Apache-2.0 */
/* fuse-attention: scores, softmax and the product with the values are one group, and so is their
 * backward part.
 *
 * Told by shape, not by name: a product of matrices for each batch (and head) makes scores; what is
 * as large as they are, or one number a row of them, is elementwise or a reduction of rows: scale,
 * mask, softmax, dropout; and products batch by batch read the result.  With no reduction of rows
 * or no product at the end it is none, and the other passes take it.  All of it shares the first
 * batch axis, so a planner gives each batch index to one thread (or block) and the scores never
 * leave its cache.
 *
 * The backward part would want the forward's softmax: as large as the scores, several times over,
 * written in one half of a step and read in the other.  It is computed again instead, from queries,
 * keys and the two numbers a row that the forward part keeps (Dao et al. 2022 for flash attention):
 * a product over a head's channels costs less than the traffic.
 *
 * Scores sum over the last axis of both operands.  The keys are turned first, by a transpose in
 * front of the product, which planners take as a copy: lanes then run along the keys.
 *
 * Where the scores of one batch index do not fit the second cache there is nothing to keep, and the
 * graph stays as it is; on a GPU their tiles go through shared memory, however long the sequence
 * (codegen/plan_strips.c).  On a CPU a training step of an attention layer (64 steps, 4 heads of 16
 * channels) takes 22 to 35 % less time than in groups of one product each.
 *
 * requires: verified, expanded      keeps: definition order, names, regions
 * cost: O(nodes * group size)
 */
#include <string.h>

#include "passes/group.h"
#include "passes/rewrite.h"

typedef struct Attention {
    Groups *gs;
    const Graph *g;
    GroupId id;
    Shape square; /* of the scores: batch axes, queries, keys */
    uint8_t nbatch;
    bool bwd; /* of what stands in a backward region */
    bool more, has_row, has_product;
} Attention;

static bool is_bwd(const Graph *g, Ref r)
{
    const uint32_t region = g->node[r].region;
    return region && g->region[region].bwd;
}

static bool is_square(const Attention *a, Ref r)
{
    return shape_eq(&a->g->node[r].type.shape, &a->square);
}

/* One number a row of scores. */
static bool is_row(const Attention *a, Ref r)
{
    const Shape *s = &a->g->node[r].type.shape;
    return s->rank == a->square.rank - 1 &&
           memcmp(s->dim, a->square.dim, sizeof *s->dim * (size_t)s->rank) == 0;
}

static bool sums_row(const Attention *a, Ref r)
{
    const Node *n = &a->g->node[r];
    return (n->op == OP_sum || n->op == OP_amax || n->op == OP_amin) && is_square(a, n->arg[0]) &&
           n->attr.axes.mask == 1u << (a->square.rank - 1);
}

/* A product for each batch, of matrices. */
static bool is_batched(const Node *n)
{
    return n->op == OP_matmul && n->attr.contract.nbatch > 0 && n->attr.contract.nover == 1 &&
           n->type.shape.rank == n->attr.contract.nbatch + 2;
}

static bool makes_scores(const Attention *a, Ref r)
{
    const Node *n = &a->g->node[r];
    return is_batched(n) && n->attr.contract.nbatch == a->nbatch && is_square(a, r);
}

/* Multiplies member (or read) r, batch by batch. */
static bool is_product_of(const Attention *a, Ref u, Ref r)
{
    const Node *n = &a->g->node[u];
    if (!is_batched(n) || n->attr.contract.nbatch != a->nbatch)
        return false;
    for (int k = 0; k < 2; k++) {
        const uint8_t *batch = k ? n->attr.contract.batch_b : n->attr.contract.batch_a;
        bool leading = n->arg[k] == r;
        for (int i = 0; i < a->nbatch; i++)
            leading &= batch[i] == i;
        if (leading)
            return true;
    }
    return false;
}

static bool is_ours(const Attention *a, Ref r)
{
    return group_is_open(a->gs, r) && is_bwd(a->g, r) == a->bwd;
}

static bool take(Attention *a, Ref r)
{
    const bool taken = group_grow(a->gs, a->id, r);
    a->more |= taken;
    return taken;
}

/* Elementwise values of scores and rows, and reductions to rows. */
static void take_inner(Attention *a, Ref r)
{
    const Node *n = &a->g->node[r];
    if (!is_ours(a, r) || !(is_square(a, r) || is_row(a, r)))
        return;
    if (sums_row(a, r))
        a->has_row |= take(a, r);
    else if (op_info[n->op].cls == CLASS_ELEMENTWISE || n->op == OP_rand)
        take(a, r);
}

static void take_users(Attention *a, Ref r, Ref value)
{
    uint32_t n;
    const Ref *user = group_users(a->gs, value, &n);
    for (uint32_t i = 0; i < n; i++) {
        if (a->g->node[user[i]].op == OP_broadcast && is_square(a, user[i]))
            take_users(a, r, user[i]);
        else if (is_square(a, r) && value == r && is_ours(a, user[i]) &&
                 is_product_of(a, user[i], r))
            a->has_product |= take(a, user[i]);
        else
            take_inner(a, user[i]);
    }
}

static void take_sources(Attention *a, Ref r)
{
    const Node *n = &a->g->node[r];
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Ref from = group_source(a->gs, n->arg[i]);
        if (is_ours(a, from) && makes_scores(a, from))
            take(a, from);
        else
            take_inner(a, from);
    }
}

static void grow(Attention *a)
{
    do {
        a->more = false;
        uint32_t n;
        group_members(a->gs, a->id, &n);
        for (uint32_t i = 0; i < n; i++) {
            const Ref r = group_members(a->gs, a->id, &n)[i];
            if (is_square(a, r) || is_row(a, r))
                take_users(a, r, r);
            if (a->g->node[r].op != OP_matmul)
                take_sources(a, r);
        }
    } while (a->more);
}

/* ---- groups -------------------------------------------------------------------------------- */

/* The scores of one batch index stay in a cache: else they had better be streamed once. */
static bool is_worth_it(const PassCx *pcx, const Node *scores)
{
    const Target *t = pcx->target;
    const Shape *s = &scores->type.shape;
    if (!t || !t->l2_bytes || t->smem_bytes)
        return true;
    return s->dim[0] > 0 && 2 * type_bytes(&scores->type) / s->dim[0] <= t->l2_bytes;
}

static Groups *form_groups(PassCx *pcx, const Graph *in)
{
    Groups *gs = group_start(pcx, in, (GroupLimits){ .nodes = 64, .buffers = 24 });
    for (Ref r = 1; r < in->nnode; r++) {
        const Node *n = &in->node[r];
        if (!group_is_open(gs, r) || !is_batched(n) || !is_worth_it(pcx, n))
            continue;
        Attention a = { .gs = gs,
                        .g = in,
                        .square = n->type.shape,
                        .nbatch = n->attr.contract.nbatch,
                        .bwd = is_bwd(in, r) };
        a.id = group_new(gs, r);
        grow(&a);
        if (!a.has_row || !a.has_product)
            group_drop(gs, a.id);
    }
    return gs;
}

/* ---- the graph made ready ------------------------------------------------------------------ */

typedef struct Ready {
    Rewrite rw;
    const Groups *gs; /* of rw.in */
    Ref *again;       /* by Ref of in: its copy for the backward part */
} Ready;

static bool is_scores(const Graph *g, const Groups *gs, Ref r)
{
    return is_batched(&g->node[r]) && group_of(gs, r);
}

/* Both operands of scores have the summed axis last, so that lanes along the keys would read across
 * memory: the keys are turned, and a transpose in front of a product is a copy. */
static Status add_scores(Ready *y, Node *n, Ref *out)
{
    Graph *g = y->rw.out;
    const Type *t = &g->node[n->arg[1]].type;
    const int last = t->shape.rank - 1, over = n->attr.contract.over_b[0];
    int free_axis = -1;
    for (int i = 0; i <= last; i++) {
        bool batch = i == over;
        for (int k = 0; k < n->attr.contract.nbatch; k++)
            batch |= n->attr.contract.batch_b[k] == i;
        free_axis = batch ? free_axis : i;
    }
    if (over != last || free_axis < 0)
        return graph_add(y->rw.pcx->cx, g, n, out);
    Node turn = { .op = OP_transpose, .nargs = 1, .arg = &n->arg[1], .region = n->region };
    int k = 0;
    for (; k < n->attr.contract.nbatch; k++)
        turn.attr.perm.dim[k] = (int8_t)n->attr.contract.batch_b[k];
    turn.attr.perm.dim[k++] = (int8_t)over;
    turn.attr.perm.dim[k] = (int8_t)free_axis;
    Ref arg[2] = { n->arg[0], REF_NONE };
    TRY(graph_add(y->rw.pcx->cx, g, &turn, &arg[1]));
    Node product = *n;
    product.arg = arg;
    for (int i = 0; i < n->attr.contract.nbatch; i++)
        product.attr.contract.batch_b[i] = (uint8_t)i;
    product.attr.contract.over_b[0] = (uint8_t)(last - 1);
    return graph_add(y->rw.pcx->cx, g, &product, out);
}

/* Neighbouring threads take neighbouring points of the last axis.  If that is one of the scores, as
 * in a product of keys and the scores' gradient, what they read of these lies a row apart, in the
 * same bank of a block's shared memory; if it is the channel, they read one number all. */
static Status add_turned(Ready *y, Node *n, Ref *out)
{
    Graph *g = y->rw.out;
    const Attr *old = &n->attr;
    Ref arg[2] = { n->arg[1], n->arg[0] }, product;
    Node p = { .op = OP_matmul, .nargs = 2, .arg = arg, .region = n->region, .attr = n->attr };
    memcpy(p.attr.contract.batch_a, old->contract.batch_b, sizeof old->contract.batch_b);
    memcpy(p.attr.contract.batch_b, old->contract.batch_a, sizeof old->contract.batch_a);
    memcpy(p.attr.contract.over_a, old->contract.over_b, sizeof old->contract.over_b);
    memcpy(p.attr.contract.over_b, old->contract.over_a, sizeof old->contract.over_a);
    TRY(graph_add(y->rw.pcx->cx, g, &p, &product));
    Node turn = { .op = OP_transpose, .nargs = 1, .arg = &product, .region = n->region };
    const int last = n->type.shape.rank - 1;
    for (int i = 0; i < last - 1; i++)
        turn.attr.perm.dim[i] = (int8_t)i;
    turn.attr.perm.dim[last - 1] = (int8_t)last;
    turn.attr.perm.dim[last] = (int8_t)(last - 1);
    turn.name = n->name;
    return graph_add(y->rw.pcx->cx, g, &turn, out);
}

/* Is r of the size of the scores of its group? */
static bool is_large(const Graph *g, const Groups *gs, Ref r)
{
    uint32_t n;
    const Ref *member = group_members(gs, group_of(gs, r), &n);
    for (uint32_t i = 0; i < n; i++)
        if (is_batched(&g->node[member[i]]))
            return shape_eq(&g->node[r].type.shape, &g->node[member[i]].type.shape);
    return false;
}

/* The value of r for the backward part: what is as large as the scores is computed again from what
 * is smaller. */
static Status copy_again(Ready *y, Ref r, Ref *out)
{
    const Graph *in = y->rw.in;
    const Op op = in->node[r].op;
    const bool spread = op == OP_broadcast || op == OP_const || op == OP_iota;
    *out = y->rw.map[r];
    if (!spread && !(group_of(y->gs, r) && is_large(in, y->gs, r)))
        return ST_OK;
    if (y->again[r]) {
        *out = y->again[r];
        return ST_OK;
    }
    Node n = in->node[r];
    Ref *arg = arena_array(y->rw.pcx->scratch, Ref, n.nargs);
    for (uint32_t i = 0; i < n.nargs; i++) {
        if (op == OP_matmul || spread)
            arg[i] = y->rw.map[n.arg[i]];
        else
            TRY(copy_again(y, n.arg[i], &arg[i]));
    }
    n.arg = arg;
    n.name = NULL;
    if (n.region) {
        const Region *from = &in->region[n.region];
        n.region = graph_region(y->rw.out, from->kind, from->layer, true);
    }
    TRY(op == OP_matmul ? add_scores(y, &n, &y->again[r])
                        : graph_add(y->rw.pcx->cx, y->rw.out, &n, &y->again[r]));
    *out = y->again[r];
    return ST_OK;
}

/* Is there a group in the backward part with scores like r? */
static bool has_backward(const Graph *g, const Groups *gs, Ref r)
{
    for (Ref k = r + 1; k < g->nnode; k++)
        if (is_scores(g, gs, k) && is_bwd(g, k) &&
            shape_eq(&g->node[k].type.shape, &g->node[r].type.shape))
            return true;
    return false;
}

/* On a GPU: does member r multiply something by what is as large as the scores, in this order? */
static bool is_backwards(const PassCx *pcx, const Graph *g, const Groups *gs, Ref r)
{
    const Ref left = g->node[r].arg[0], right = g->node[r].arg[1];
    return pcx->target && pcx->target->smem_bytes && group_of(gs, right) &&
           is_large(g, gs, right) && !(group_of(gs, left) && is_large(g, gs, left));
}

static Status make_ready(PassCx *pcx, const Graph *in, const Groups *gs, Graph *out)
{
    Ready y = { .rw = rewrite_start(pcx, in, out, NULL), .gs = gs };
    y.again = arena_array(pcx->scratch, Ref, in->nnode);
    for (Ref r = 1; r < in->nnode; r++) {
        Node n;
        TRY(rewrite_node(&y.rw, r, &n));
        Ref *arg = arena_copy(pcx->scratch, n.arg, n.nargs * sizeof *n.arg);
        for (uint32_t i = 0; i < n.nargs && is_bwd(in, r); i++) {
            const Ref from = in->node[r].arg[i];
            if (group_of(gs, from) && !is_bwd(in, from) && is_large(in, gs, from) &&
                has_backward(in, gs, from))
                TRY(copy_again(&y, from, &arg[i]));
        }
        n.arg = arg;
        const bool member = is_scores(in, gs, r), scores = member && is_large(in, gs, r);
        TRY(scores ? add_scores(&y, &n, &y.rw.map[r])
            : member && is_backwards(pcx, in, gs, r)
                ? add_turned(&y, &n, &y.rw.map[r])
                : graph_add(pcx->cx, out, &n, &y.rw.map[r]));
    }
    return rewrite_outputs(&y.rw);
}

Status pass_fuse_attention(PassCx *pcx, const Graph *in, Graph *out)
{
    Graph *ready = graph_new(pcx->scratch);
    TRY(make_ready(pcx, in, form_groups(pcx, in), ready));
    return group_extract(form_groups(pcx, ready), out);
}
