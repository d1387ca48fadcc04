/* SPDX-License-Identifier: Apache-2.0 */
/* Chains: elementwise ops of one shape that read one another, in blocks.
 *
 * An element of the oracle is 37 numbers.  Of a large parameter they are gigabytes, and what takes
 * time is memory: each op of an optimizer would write all of them and read those of its arguments.
 * In a chain a block of elements goes through all the ops while it is in the cache, and what only
 * ops of the chain read exists for a block at a time.  No element of an elementwise op depends on
 * another one, so blocks change nothing.
 *
 * A block is a box of the shape: whole along its last axes, a few steps of one axis, one of each
 * axis before, so that it lies packed in every packed value and is a view of any other. */
#include <string.h>

#include "ir/base/os.h"
#include "ir/oracle_op.h"

enum { BLOCK = 256, MOST_ARGS = 3 };

typedef struct Box {
    Shape shape; /* of the block at hand */
    int axis;    /* of which it is `step` wide; wholly that of the axes behind */
    int64_t step, at[MAX_RANK], first, count;
    bool more;
} Box;

static void box_fit(Box *b, const Shape *whole)
{
    const int64_t left = whole->rank ? whole->dim[b->axis] - b->at[b->axis] : 1;
    if (whole->rank)
        b->shape.dim[b->axis] = left < b->step ? left : b->step;
    b->count = shape_count(&b->shape);
}

static Box box_start(const Shape *whole)
{
    Box b = { .shape = *whole, .step = 1, .more = shape_count(whole) > 0 };
    int64_t inner = 1;
    for (b.axis = whole->rank ? whole->rank - 1 : 0; b.axis > 0; b.axis--) {
        if (inner * whole->dim[b.axis] > BLOCK)
            break;
        inner *= whole->dim[b.axis];
    }
    b.step = inner < BLOCK ? BLOCK / inner : 1;
    for (int i = 0; i < b.axis; i++)
        b.shape.dim[i] = 1;
    box_fit(&b, whole);
    return b;
}

static void box_next(Box *b, const Shape *whole)
{
    b->first += b->count;
    for (int i = b->axis; i >= 0 && whole->rank; i--) {
        b->at[i] += b->shape.dim[i];
        if (b->at[i] < whole->dim[i]) {
            box_fit(b, whole);
            return;
        }
        b->at[i] = 0;
    }
    b->more = false;
}

/* ------------------------------------------------------------ the planes of a block */

/* Makes block the part of whole that lies in the box. */
static void look_at(const Box *b, Bounded *whole, Bounded *block)
{
    for (int i = 0; i < BOUND_PLANES; i++) {
        const Value *from = bound_plane(whole, i);
        Value *to = bound_plane(block, i);
        to->type.shape = b->shape;
        to->at = from->at;
        for (int k = 0; k <= b->axis; k++)
            to->at += b->at[k] * from->stride[k];
    }
}

/* Whether a link does not write plane i, as it is one with another. */
static bool is_shared(const Bounded *v, int i)
{
    enum { FIRST_SAMPLE = 1 + 2 * SPAN_COUNT, FIRST_DECIDED = 3 };
    const bool sample = i >= FIRST_SAMPLE;
    return v->sure != SURE_OPEN &&
           (sample ? (i - FIRST_SAMPLE) / ORACLE_SAMPLES % SPAN_COUNT == SPAN_ALL
                   : i >= FIRST_DECIDED);
}

/* Makes the shared planes views. */
static void share_planes(Bounded *v)
{
    if (v->sure == SURE_OPEN)
        return;
    v->span[SPAN_DECIDED] = v->span[SPAN_ALL];
    v->span[SPAN_DECIDED].lo.own = v->span[SPAN_DECIDED].hi.own = NULL;
    for (int copy = 0; copy < COPIES; copy++)
        for (int k = 0; k < ORACLE_SAMPLES; k++) {
            v->sample[copy][SPAN_ALL][k] = v->sample[copy][SPAN_DECIDED][k];
            v->sample[copy][SPAN_ALL][k].own = NULL;
        }
}

static Status out_new(const Eval *e, const Type *type, Bounded *v)
{
    for (int i = 0; i < BOUND_PLANES; i++)
        if (!is_shared(v, i))
            TRY(value_new(e, type, bound_plane(v, i)));
    share_planes(v);
    return ST_OK;
}

/* ------------------------------------------------------------ links */

typedef struct Link {
    const BoundLink *of;
    Node n;                          /* with the block's shape */
    const Bounded *whole[MOST_ARGS]; /* what stands outside */
    Bounded arg[MOST_ARGS];          /* blocks of it, or of another link's result */
    Bounded out;                     /* a block */
    double *room;                    /* its planes, when nobody outside of the chain reads it */
    int last;                        /* link that reads it */
} Link;

typedef struct Packed { /* an argument whose elements lie far apart, as a transpose's do */
    const Bounded *of;
    Bounded v;
} Packed;

typedef struct Chain {
    const Eval *e;
    Arena *arena;
    Link *link;
    int n;
    double **free; /* rooms of BOUND_PLANES * BLOCK numbers */
    int nfree;
    double *noise;
    Packed *packed;
    int npacked;
} Chain;

static bool lies_apart(const Value *v)
{
    for (int i = v->type.shape.rank - 1; i >= 0; i--)
        if (v->type.shape.dim[i] > 1)
            return v->stride[i] > 1;
    return false;
}

/* The argument, or a packed copy of it, in which planes that are one stay one. */
static Status find_packed(Chain *c, const Bounded *of, const Bounded **out)
{
    *out = of;
    if (!lies_apart(&of->ref))
        return ST_OK;
    for (int i = 0; i < c->npacked; i++)
        if (c->packed[i].of == of) {
            *out = &c->packed[i].v;
            return ST_OK;
        }
    Packed *p = &c->packed[c->npacked++];
    p->of = of;
    p->v.sure = of->sure;
    *out = &p->v;
    for (int i = 0; i < BOUND_PLANES; i++) {
        const Value *from = bound_plane((Bounded *)of, i);
        Value *to = bound_plane(&p->v, i);
        for (int k = 0; k < i && !to->at; k++)
            if (bound_plane((Bounded *)of, k)->at == from->at)
                *to = *bound_plane(&p->v, k);
        if (to->at) {
            to->own = NULL;
            continue;
        }
        TRY(value_new(c->e, &of->ref.type, to));
        value_copy(to, from);
    }
    return ST_OK;
}

static Status link_open(Chain *c, const BoundLink *of, Link *l, int self)
{
    Sure sure = SURE_EXACT;
    *l = (Link){ .of = of, .n = *of->n, .last = self };
    for (uint32_t k = 0; k < of->n->nargs; k++) {
        const Bounded *from = of->arg[k];
        if (from)
            TRY(find_packed(c, from, &from));
        l->whole[k] = from;
        if (!from) {
            from = &c->link[of->from[k]].out;
            c->link[of->from[k]].last = self;
        }
        l->arg[k] = *from;
        sure = from->sure > sure ? from->sure : sure;
    }
    l->out.sure = sure == SURE_OPEN ? SURE_OPEN : SURE_DECIDED;
    l->out.ref.type = of->n->type;
    return ST_OK;
}

/* Where the link writes its block. */
static void link_aim(Chain *c, Link *l, const Box *b)
{
    Type type = l->of->n->type;
    type.shape = b->shape;
    l->n.type = type;
    if (l->of->out) {
        look_at(b, l->of->out, &l->out);
        return;
    }
    l->room = c->nfree ? c->free[--c->nfree] : arena_array(c->arena, double, BOUND_PLANES *BLOCK);
    for (int i = 0; i < BOUND_PLANES; i++)
        *bound_plane(&l->out, i) = value_packed(&type, l->room + i * BLOCK);
    share_planes(&l->out);
}

static Status link_run(Chain *c, Link *l, const Box *b)
{
    Value arg[MOST_ARGS];
    BoundCall call = { .e = c->e,
                       .n = &l->n,
                       .self = l->of->self,
                       .arg = l->arg,
                       .ref = &l->out.ref,
                       .noise = c->noise };
    for (uint32_t k = 0; k < l->n.nargs; k++) {
        if (l->whole[k])
            look_at(b, (Bounded *)l->whole[k], &l->arg[k]);
        else
            l->arg[k] = c->link[l->of->from[k]].out;
        arg[k] = l->arg[k].ref;
    }
    eval_elementwise_to(&l->n, arg, &l->out.ref);
    for (int which = SPAN_ALL; which <= SPAN_DECIDED; which++) {
        if (which == SPAN_DECIDED && l->out.sure != SURE_OPEN)
            break;
        call.which = which;
        memset(c->noise, 0, (size_t)b->count * sizeof *c->noise);
        TRY(bound_elementwise(&call, &l->out.span[which]));
    }
    return bound_samples(&call, arg, &l->out);
}

static Status chain_block(Chain *c, const Box *b)
{
    for (int i = 0; i < c->n; i++) {
        Link *l = &c->link[i];
        link_aim(c, l, b);
        TRY(link_run(c, l, b));
        for (int k = 0; k <= i; k++)
            if (c->link[k].room && c->link[k].last <= i) {
                c->free[c->nfree++] = c->link[k].room;
                c->link[k].room = NULL;
            }
    }
    return ST_OK;
}

Status bound_chain(const Eval *e, const BoundLink *link, int nlink)
{
    const Shape *whole = &link[0].n->type.shape;
    Chain c = { .e = e, .arena = arena_new(), .n = nlink };
    Status status = ST_OK;
    c.link = arena_array(c.arena, Link, nlink);
    c.free = arena_array(c.arena, double *, nlink + 1);
    c.noise = arena_array(c.arena, double, BLOCK);
    c.packed = arena_array(c.arena, Packed, nlink * MOST_ARGS);
    for (int i = 0; i < nlink && status == ST_OK; i++) {
        status = link_open(&c, &link[i], &c.link[i], i);
        if (!link[i].out || status != ST_OK)
            continue;
        link[i].out->sure = c.link[i].out.sure;
        status = out_new(e, &link[i].n->type, link[i].out);
        c.link[i].out = *link[i].out;
    }
    for (Box b = box_start(whole); b.more && status == ST_OK; box_next(&b, whole))
        status = chain_block(&c, &b);
    for (int i = 0; i < c.npacked; i++)
        for (int k = 0; k < BOUND_PLANES; k++)
            e->cx->os->release(bound_plane(&c.packed[i].v, k)->own);
    arena_free(c.arena);
    return status;
}
