/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle: the f64 evaluator with an interval around every element.
 *
 * Two correct programs for one graph differ: in the order of sums, in which products and sums
 * became an fma, in where a 16-bit value was rounded, in the last bits of exp.  How far they may
 * differ is no constant; it grows and shrinks with the numbers that flow.  So the oracle carries
 * [lo, hi] along with every element, rounded outwards by what each op can lose in its dtype.
 *
 * Interval arithmetic and not a first-order error, because it needs no derivative (a monotone op is
 * its own bound, row by row), because it is right at the kinks (max, abs, a square's zero), and
 * because it answers the one question that a tolerance cannot: could this comparison have gone the
 * other way?  Where it could, the interval spans both answers.  A second interval, in which every
 * decision goes as it went in the reference, exists only downstream of such a place and tells how
 * much of the first one is decision and how much is rounding.
 *
 * What it costs is correlation: x - x is no zero, and through a normalisation, a softmax or a
 * recurrence intervals widen much more than errors do.  So samples go along (oracle_sample.c): the
 * same graph with random errors, which know every correlation, and each interval is cut to what
 * they say.
 *
 * The walk is that of eval.c: definition order, each value released after its last reader. */
#include "ir/oracle.h"

#include <math.h>
#include <string.h>

#include "ir/base/os.h"
#include "ir/oracle_op.h"

#define BOUND_SOURCE(id)      bound_##id
#define BOUND_ELEMENTWISE(id) bound_elementwise
#define BOUND_VIEW(id)        bound_##id
#define BOUND_REDUCE(id)      bound_##id
#define BOUND_CONTRACT(id)    bound_##id
#define BOUND_REGION(id)      NULL
#define BOUND_TUPLE(id)       NULL
#define BOUND_GRADIENT(id)    NULL
static BoundFn *const bound_fn[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad) [OP_##id] = BOUND_##cls(id),
#include "ir/ops.def"
};

typedef struct Body {
    Ctx *cx;
    const Graph *g;
    Arena *arena;
    EvalLives lives;
    uint32_t *slot, nslot; /* by Ref: where its results stand in value[] */
    Bounded *value;
    Bounded *arg; /* of the node at hand */
    Value *ref;   /* likewise */
    uint32_t *input_index;
    uint32_t *output, *next_output; /* by Ref, by output: an output of that value, plus 1; or 0 */
} Body;

/* Given each output when it is known; may take memory that v owns. */
typedef Status TakeFn(void *to, uint32_t output, Bounded *v);

static Body *body_open(Ctx *cx, const Graph *g)
{
    Arena *arena = arena_new();
    Body *b = arena_array(arena, Body, 1);
    uint32_t most = 0;
    *b = (Body){ .cx = cx, .g = g, .arena = arena, .lives = eval_lives(g, false, arena) };
    b->slot = arena_array(arena, uint32_t, g->nnode);
    b->input_index = arena_array(arena, uint32_t, g->nnode);
    for (Ref r = 1; r < g->nnode; r++) {
        b->slot[r] = b->nslot;
        b->nslot += graph_result_count(g, r);
        most = g->node[r].nargs > most ? g->node[r].nargs : most;
    }
    for (uint32_t i = 0; i < g->ninput; i++)
        b->input_index[g->input[i]] = i;
    b->output = arena_array(arena, uint32_t, g->nnode);
    b->next_output = arena_array(arena, uint32_t, g->nout);
    for (uint32_t i = g->nout; i-- > 0;) {
        b->next_output[i] = b->output[g->out[i].value];
        b->output[g->out[i].value] = i + 1;
    }
    b->value = arena_array(arena, Bounded, b->nslot);
    b->arg = arena_array(arena, Bounded, most);
    b->ref = arena_array(arena, Value, most);
    return b;
}

static void body_close(Body *b)
{
    arena_free(b->arena);
}

/* ------------------------------------------------------------ planes */

Value *bound_plane(Bounded *v, int i)
{
    enum { FIRST_SAMPLE = 1 + 2 * SPAN_COUNT };
    if (i == 0)
        return &v->ref;
    if (i >= FIRST_SAMPLE)
        return &v->sample[0][0][0] + (i - FIRST_SAMPLE);
    return i % 2 ? &v->span[i / 2].lo : &v->span[i / 2 - 1].hi;
}

static Bounded borrowed(const Bounded *from)
{
    Bounded v = *from;
    for (int i = 0; i < BOUND_PLANES; i++)
        bound_plane(&v, i)->own = NULL;
    return v;
}

static void release(Ctx *cx, Bounded *v)
{
    for (int i = 0; i < BOUND_PLANES; i++)
        cx->os->release(bound_plane(v, i)->own);
    *v = (Bounded){ 0 };
}

static Value view(const Value *v)
{
    Value copy = *v;
    copy.own = NULL;
    return copy;
}

static void share_span(Ctx *cx, Bounded *v, int which, const Span *with)
{
    Span *s = &v->span[which];
    cx->os->release(s->lo.own);
    cx->os->release(s->hi.own);
    s->lo = view(&with->lo);
    s->hi = view(&with->hi);
}

/* The samples of a span become those of the other, or ref. */
static void share_samples(Ctx *cx, Bounded *v, int which, bool with_ref)
{
    for (int copy = 0; copy < COPIES; copy++)
        for (int k = 0; k < ORACLE_SAMPLES; k++) {
            Value *s = &v->sample[copy][which][k];
            cx->os->release(s->own);
            *s = view(with_ref ? &v->ref : &v->sample[copy][SPAN_COUNT - 1 - which][k]);
        }
}

/* Of a value that stands in memory everybody reads the same. */
static void store(Bounded *v)
{
    for (int i = STORED_PLANES; i < BOUND_PLANES; i++)
        *bound_plane(v, i) = view(bound_plane(v, i - SPAN_COUNT * ORACLE_SAMPLES));
}

static void make_exact(Ctx *cx, Bounded *v)
{
    const Span self = { view(&v->ref), view(&v->ref) };
    share_span(cx, v, SPAN_ALL, &self);
    share_span(cx, v, SPAN_DECIDED, &self);
    share_samples(cx, v, SPAN_ALL, true);
    share_samples(cx, v, SPAN_DECIDED, true);
    v->sure = SURE_EXACT;
}

static bool same(const Value *a, const Value *b)
{
    Nest w;
    const int64_t *const stride[] = { a->stride, b->stride };
    Shape shape = a->type.shape;
    for (int i = 0; i < shape.rank; i++)
        if (shape.dim[i] > 1 && a->stride[i] == 0 && b->stride[i] == 0)
            shape.dim[i] = 1;
    for (nest_start(&w, &shape, 2, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++) {
            const double x = a->at[w.off[0] + i * w.step[0]], y = b->at[w.off[1] + i * w.step[1]];
            if (x != y && !(isnan(x) && isnan(y)))
                return false;
        }
    return true;
}

/* Gives back what is there twice. */
static void tighten(Ctx *cx, Bounded *v)
{
    Span *all = &v->span[SPAN_ALL], *decided = &v->span[SPAN_DECIDED];
    if (v->sure == SURE_OPEN && same(&all->lo, &decided->lo) && same(&all->hi, &decided->hi)) {
        share_span(cx, v, SPAN_DECIDED, all);
        share_samples(cx, v, SPAN_ALL, false);
        v->sure = SURE_DECIDED;
    }
    if (v->sure == SURE_DECIDED && same(&v->ref, &all->lo) && same(&v->ref, &all->hi))
        make_exact(cx, v);
}

/* ------------------------------------------------------------ one node */

static Sure least_sure(const Bounded *v, uint32_t n)
{
    Sure sure = SURE_EXACT;
    for (uint32_t i = 0; i < n; i++)
        sure = v[i].sure > sure ? v[i].sure : sure;
    return sure;
}

static bool computes(const Node *n)
{
    const uint8_t cls = op_info[n->op].cls;
    return cls == CLASS_ELEMENTWISE || cls == CLASS_REDUCE || cls == CLASS_CONTRACT;
}

/* What a bound function leaves beside the span. */
static void forget_call(BoundCall *c, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        c->noise[i] = 0;
        c->other[i] = NAN;
    }
}

static Status add_spans(BoundCall *c, int64_t count, Bounded *out)
{
    const Node *n = c->n;
    TRY(bound_fn[n->op](c, &out->span[SPAN_ALL]));
    out->sure = SURE_DECIDED;
    if (least_sure(c->arg, n->nargs) != SURE_OPEN && !c->undecided) {
        share_span(c->e->cx, out, SPAN_DECIDED, &out->span[SPAN_ALL]);
        return ST_OK;
    }
    out->sure = SURE_OPEN;
    c->which = SPAN_DECIDED;
    double *const after = c->after;
    c->after = c->other;
    c->other = after;
    forget_call(c, count);
    return bound_fn[n->op](c, &out->span[SPAN_DECIDED]);
}

/* ref holds the arguments' and is free to be written over. */
static Status bound_result(const Eval *e, const Node *n, const Bounded *arg, Value *ref,
                           Bounded *out)
{
    BoundCall c = { .e = e, .n = n, .self = (Ref)(n - e->g->node), .arg = arg, .ref = &out->ref };
    Arena *scratch = arena_new();
    gtc_assert(bound_fn[n->op], "the oracle has no bound for %s", op_info[n->op].name);
    const int64_t count = computes(n) ? shape_count(&n->type.shape) : 0;
    if (computes(n)) {
        c.noise = arena_array(scratch, double, count);
        c.other = arena_array(scratch, double, count);
        c.after = arena_array(scratch, double, count);
    }
    forget_call(&c, count);
    Status status = add_spans(&c, count, out);
    if (status == ST_OK)
        status = bound_samples(&c, ref, out);
    arena_free(scratch);
    if (status == ST_OK)
        tighten(e->cx, out);
    return status;
}

static Status bound_scan(const Eval *e, const Node *n, const Bounded *arg, Bounded *out);
static Status bound_fusion(const Eval *e, const Node *n, const Bounded *arg, Bounded *out);

static Status bound_node(Body *b, const Eval *e, Ref r, const Bounded *in)
{
    const Node *n = &b->g->node[r];
    const uint8_t cls = op_info[n->op].cls;
    Bounded *out = &b->value[b->slot[r]];
    if (n->op == OP_input) {
        *out = borrowed(&in[b->input_index[r]]);
        return ST_OK;
    }
    if (cls == CLASS_TUPLE) { /* its argument is all results of another node */
        *out = borrowed(&b->value[b->slot[n->arg[0]] + n->attr.get.index]);
        return ST_OK;
    }
    for (uint32_t k = 0; k < n->nargs; k++) {
        b->arg[k] = b->value[b->slot[n->arg[k]]];
        b->ref[k] = b->arg[k].ref;
    }
    if (n->op == OP_scan)
        return bound_scan(e, n, b->arg, out);
    if (n->op == OP_fusion)
        return bound_fusion(e, n, b->arg, out);
    TRY(eval_fn[n->op](e, n, b->ref, &out->ref));
    if (computes(n))
        value_round_all(e, &out->ref);
    return bound_result(e, n, b->arg, b->ref, out);
}

/* ------------------------------------------------------------ chains */

enum { MOST_LINKS = 64, CHAIN_LEAST = 2048 }; /* elements: of less, blocks are not worth it */

typedef struct Chain {
    BoundLink link[MOST_LINKS];
    Sure sure[MOST_LINKS]; /* of its arguments */
    int n;
} Chain;

static int find_link(const Chain *c, Ref r)
{
    for (int i = 0; i < c->n; i++)
        if (c->link[i].self == r)
            return i;
    return -1;
}

static bool reads_links(const Chain *c, const Node *n)
{
    for (uint32_t k = 0; k < n->nargs; k++)
        if (find_link(c, n->arg[k]) >= 0)
            return true;
    return false;
}

/* Makes r the next link, when it can be one. */
static bool add_link(Body *b, Chain *c, Ref r)
{
    const Node *n = &b->g->node[r];
    if (c->n == MOST_LINKS || op_info[n->op].cls != CLASS_ELEMENTWISE ||
        (c->n > 0 && !shape_eq(&n->type.shape, &c->link[0].n->type.shape)))
        return false;
    BoundLink *l = &c->link[c->n];
    Sure *sure = &c->sure[c->n];
    *l = (BoundLink){ .n = n, .self = r };
    *sure = SURE_DECIDED; /* it rounds */
    for (uint32_t k = 0; k < n->nargs; k++) {
        const int from = find_link(c, n->arg[k]);
        const Bounded *arg = &b->value[b->slot[n->arg[k]]];
        l->arg[k] = from < 0 ? arg : NULL;
        l->from[k] = from;
        const Sure of = from < 0 ? arg->sure : c->sure[from];
        *sure = of > *sure ? of : *sure;
    }
    c->n += bound_can_link(b->g, n, *sure);
    return c->n > 0 && c->link[c->n - 1].self == r;
}

/* What may be computed before the links that it stands behind, as it costs and holds little. */
static bool comes_first(const Body *b, const Chain *c, Ref r)
{
    const Node *n = &b->g->node[r];
    const uint8_t cls = op_info[n->op].cls;
    const bool one = cls != CLASS_REGION && shape_count(&n->type.shape) == 1;
    return (one || cls == CLASS_VIEW || cls == CLASS_TUPLE || n->op == OP_const ||
            n->op == OP_input) &&
           !reads_links(c, n);
}

/* A value that dies before node `end` is read by links alone. */
static void drop_inner(const Body *b, Chain *c, Ref end)
{
    for (Ref r = c->link[0].self; r < end; r++)
        for (Ref dead = b->lives.dead_head[r]; dead != 0; dead = b->lives.dead_next[dead]) {
            const int i = find_link(c, dead);
            if (i >= 0 && !b->output[dead])
                c->link[i].out = NULL;
        }
}

/* The chain that begins at *r, with the nodes between its links; *r: the last of these nodes.
 * Does nothing when none begins there. */
static Status run_chain(Body *b, const Eval *e, Ref *r, const Bounded *in, bool *ran)
{
    Chain c = { .n = 0 };
    Ref end = *r + 1;
    *ran = shape_count(&b->g->node[*r].type.shape) >= CHAIN_LEAST && add_link(b, &c, *r);
    if (!*ran)
        return ST_OK;
    for (; end < b->g->nnode; end++) {
        if (!b->lives.live[end] || add_link(b, &c, end))
            continue;
        if (!comes_first(b, &c, end))
            break;
        TRY(bound_node(b, e, end, in));
    }
    for (int i = 0; i < c.n; i++)
        c.link[i].out = &b->value[b->slot[c.link[i].self]];
    drop_inner(b, &c, end);
    TRY(bound_chain(e, c.link, c.n));
    for (int i = 0; i < c.n; i++)
        if (c.link[i].out)
            tighten(b->cx, c.link[i].out);
    *r = end - 1;
    return ST_OK;
}

/* What nobody reads behind node `last`, and somebody read from `first` on. */
static void release_dead(Body *b, Ref first, Ref last)
{
    for (Ref r = first; r <= last; r++)
        for (Ref dead = b->lives.dead_head[r]; dead != 0; dead = b->lives.dead_next[dead])
            for (uint32_t i = 0; i < graph_result_count(b->g, dead); i++)
                release(b->cx, &b->value[b->slot[dead] + i]);
}

static Status take_outputs(Body *b, Ref first, Ref last, TakeFn *take, void *to)
{
    for (Ref r = first; r <= last; r++)
        for (uint32_t o = b->output[r]; o != 0; o = b->next_output[o - 1])
            TRY(take(to, o - 1, &b->value[b->slot[r]]));
    return ST_OK;
}

static Status body_run(Body *b, const Bounded *in, TakeFn *take, void *to)
{
    const Eval e = { .cx = b->cx, .mode = EVAL_F64, .g = b->g };
    Status status = ST_OK;
    memset(b->value, 0, b->nslot * sizeof *b->value);
    for (Ref r = 1, last = 1; r < b->g->nnode && status == ST_OK; r = last + 1) {
        bool ran = false;
        last = r;
        if (!b->lives.live[r])
            continue;
        status = run_chain(b, &e, &last, in, &ran);
        if (status == ST_OK && !ran)
            status = bound_node(b, &e, r, in);
        if (status != ST_OK && b->cx->node == 0)
            b->cx->node = r;
        if (status == ST_OK)
            status = take_outputs(b, r, last, take, to);
        release_dead(b, r, last);
    }
    for (uint32_t i = 0; i < b->nslot; i++)
        release(b->cx, &b->value[i]);
    return status;
}

/* ------------------------------------------------------------ ops with a body */

static Status planes_new(const Eval *e, const Type *type, Bounded *v)
{
    v->sure = SURE_OPEN;
    for (int i = 0; i < STORED_PLANES; i++)
        TRY(value_new(e, type, bound_plane(v, i)));
    store(v);
    return ST_OK;
}

static Status results_new(const Eval *e, const Node *n, uint32_t count, Bounded *out)
{
    const Ref self = (Ref)(n - e->g->node);
    for (uint32_t i = 0; i < count; i++) {
        const Type t = graph_result_type(e->g, self, i);
        TRY(planes_new(e, &t, &out[i]));
    }
    return ST_OK;
}

/* Step t of v, whose axis 0 is time. */
static Bounded step_of(Bounded *v, int64_t t, const Type *type)
{
    Bounded step = { .sure = v->sure };
    for (int i = 0; i < BOUND_PLANES; i++) {
        const Value *x = bound_plane(v, i);
        Value *s = bound_plane(&step, i);
        *s = (Value){ .type = *type, .at = x->at + t * x->stride[0] };
        memcpy(s->stride, x->stride + 1, (MAX_RANK - 1) * sizeof *s->stride);
    }
    return step;
}

typedef struct Loop {
    Body *body;
    Bounded *in, *dst; /* of the body */
    Bounded *carry;    /* [2 * ncarry]: in turn read and written */
} Loop;

static void copy_planes(Bounded *to, Bounded *from)
{
    for (int i = 0; i < STORED_PLANES; i++)
        value_copy(bound_plane(to, i), bound_plane(from, i));
    to->sure = from->sure;
}

static Status take_step(void *to, uint32_t output, Bounded *v)
{
    Bounded *dst = (Bounded *)to + output;
    for (int i = 0; i < STORED_PLANES; i++)
        value_copy(bound_plane(dst, i), bound_plane(v, i));
    return ST_OK;
}

static Status loop_run(const Eval *e, const Node *n, const Bounded *arg, Bounded *out, Loop *w)
{
    const Graph *g = n->attr.scan.body;
    const uint32_t ncarry = n->attr.scan.ncarry, nstep = n->attr.scan.nstep;
    const int64_t trip = n->attr.scan.trip;
    for (uint32_t i = 0; i < 2 * ncarry; i++)
        TRY(planes_new(e, &arg[i % ncarry].ref.type, &w->carry[i]));
    for (uint32_t i = 0; i < n->nargs; i++)
        w->in[i] = borrowed(&arg[i]);
    for (uint32_t i = 0; i < ncarry; i++)
        copy_planes(&w->carry[i], &w->in[i]);
    for (int64_t k = 0; k < trip; k++) {
        const int64_t t = n->attr.scan.reverse ? trip - 1 - k : k;
        Bounded *from = w->carry + (k % 2 ? ncarry : 0), *to = w->carry + (k % 2 ? 0 : ncarry);
        for (uint32_t i = 0; i < ncarry; i++) {
            w->in[i] = borrowed(&from[i]);
            w->dst[i] = to[i];
        }
        for (uint32_t i = ncarry; i < ncarry + nstep; i++) {
            Bounded whole = arg[i];
            w->in[i] = step_of(&whole, t, &g->node[g->input[i]].type);
        }
        for (uint32_t i = ncarry; i < g->nout; i++)
            w->dst[i] = step_of(&out[i], t, &g->node[g->out[i].value].type);
        TRY(body_run(w->body, w->in, take_step, w->dst));
        for (uint32_t i = 0; i < ncarry; i++)
            to[i].sure = SURE_OPEN;
    }
    for (uint32_t i = 0; i < ncarry; i++)
        copy_planes(&out[i], &w->carry[(trip % 2 ? ncarry : 0) + i]);
    return ST_OK;
}

static Status bound_scan(const Eval *e, const Node *n, const Bounded *arg, Bounded *out)
{
    const uint32_t ncarry = n->attr.scan.ncarry, nout = n->attr.scan.body->nout;
    Loop w = { .body = body_open(e->cx, n->attr.scan.body) };
    w.in = arena_array(w.body->arena, Bounded, n->nargs);
    w.dst = arena_array(w.body->arena, Bounded, nout);
    w.carry = arena_array(w.body->arena, Bounded, 2 * ncarry);
    Status status = results_new(e, n, nout, out);
    if (status == ST_OK)
        status = loop_run(e, n, arg, out, &w);
    for (uint32_t i = 0; i < 2 * ncarry; i++)
        release(e->cx, &w.carry[i]);
    body_close(w.body);
    for (uint32_t i = 0; i < nout && status == ST_OK; i++) {
        out[i].sure = SURE_OPEN;
        tighten(e->cx, &out[i]);
    }
    return status;
}

typedef struct Results { /* of a fusion */
    const Eval *e;
    Bounded *out;
} Results;

static bool is_view_of(const Value *a, const Value *b)
{
    return a->at == b->at && memcmp(a->stride, b->stride, sizeof a->stride) == 0;
}

/* What v owns becomes the result's, but for the second copy; what it borrows is copied, unless it
 * is another plane of v which nothing gives back before it. */
static Status take_result(void *to, uint32_t output, Bounded *v)
{
    const Results *w = to;
    Bounded *out = &w->out[output];
    out->sure = v->sure;
    for (int i = 0; i < STORED_PLANES; i++)
        if (bound_plane(v, i)->own) {
            *bound_plane(out, i) = *bound_plane(v, i);
            bound_plane(v, i)->own = NULL;
        }
    for (int i = 0; i < STORED_PLANES; i++) {
        const Value *from = bound_plane(v, i);
        Value *plane = bound_plane(out, i);
        for (int j = 0; j < (v->sure == SURE_OPEN ? 1 : STORED_PLANES) && !plane->at; j++)
            if (bound_plane(out, j)->own && is_view_of(from, bound_plane(v, j)))
                *plane = view(bound_plane(out, j));
        if (plane->at)
            continue;
        TRY(value_new(w->e, &v->ref.type, plane));
        value_copy(plane, from);
    }
    store(out);
    return ST_OK;
}

static Status bound_fusion(const Eval *e, const Node *n, const Bounded *arg, Bounded *out)
{
    Body *body = body_open(e->cx, n->attr.fusion.body);
    Results w = { e, out };
    const Status status = body_run(body, arg, take_result, &w);
    body_close(body);
    return status;
}

/* ------------------------------------------------------------ whole graphs */

/* A subnormal may be read as zero. */
OracleTensor oracle_exact(Arena *arena, const Tensor *from)
{
    const int64_t n = shape_count(&from->type.shape);
    const double tiny = dtype_is_float(from->type.dt) ? bound_rounding(from->type.dt).tiny : 0;
    OracleTensor t = { .ref = tensor_new(arena, from->type) };
    bool subnormal = false;
    for (int64_t i = 0; i < n; i++) {
        t.ref.at[i] = from->at[i];
        subnormal |= fabs(from->at[i]) < tiny && tiny <= 0x1p-126 && from->at[i] != 0;
    }
    t.rounded = t.ref;
    t.lo = t.hi = t.lo_decided = t.hi_decided = t.ref.at;
    for (int k = 0; k < ORACLE_SAMPLES; k++)
        t.sample[k] = t.open_sample[k] = t.ref.at;
    if (!subnormal)
        return t;
    t.lo = t.lo_decided = tensor_new(arena, from->type).at;
    t.hi = t.hi_decided = tensor_new(arena, from->type).at;
    double *const flushed = tensor_new(arena, from->type).at;
    for (int k = 0; k < ORACLE_SAMPLES; k += 2) /* half of the samples flush as kernels do */
        t.sample[k] = t.open_sample[k] = flushed;
    for (int64_t i = 0; i < n; i++) {
        const double x = from->at[i];
        flushed[i] = fabs(x) < tiny ? 0 : x;
        t.lo[i] = fabs(x) < tiny ? fmin(x, 0) : x;
        t.hi[i] = fabs(x) < tiny ? fmax(x, 0) : x;
    }
    return t;
}

static Bounded planes_of(const OracleTensor *t)
{
    const Type *type = &t->ref.type;
    Bounded v = {
        .ref = value_packed(type, t->ref.at),
        .span = { { value_packed(type, t->lo), value_packed(type, t->hi) },
                  { value_packed(type, t->lo_decided), value_packed(type, t->hi_decided) } },
        .sure = SURE_OPEN,
    };
    for (int k = 0; k < ORACLE_SAMPLES; k++) {
        v.sample[0][SPAN_ALL][k] = value_packed(type, t->open_sample[k]);
        v.sample[0][SPAN_DECIDED][k] = value_packed(type, t->sample[k]);
    }
    store(&v);
    return v;
}

static OracleTensor tensor_of(const Bounded *v, Tensor rounded)
{
    const Span *all = &v->span[SPAN_ALL], *decided = &v->span[SPAN_DECIDED];
    OracleTensor t = { .ref = { v->ref.type, v->ref.at },
                       .rounded = rounded,
                       .lo = all->lo.at,
                       .hi = all->hi.at,
                       .lo_decided = decided->lo.at,
                       .hi_decided = decided->hi.at };
    for (int k = 0; k < ORACLE_SAMPLES; k++) {
        t.open_sample[k] = v->sample[0][SPAN_ALL][k].at;
        t.sample[k] = v->sample[0][SPAN_DECIDED][k].at;
    }
    return t;
}

/* Packed planes of v: those that are packed already, unless all are to be copied; the others in
 * an arena, where equal ones are one. */
static Bounded packed_planes(Arena *arena, Bounded *v, bool copy)
{
    Bounded p = { .sure = v->sure };
    const int64_t count = shape_count(&v->ref.type.shape);
    for (int i = 0; i < STORED_PLANES; i++) {
        const Value *from = bound_plane(v, i), packed = value_packed(&v->ref.type, from->at);
        Value *to = bound_plane(&p, i);
        if (!copy && memcmp(packed.stride, from->stride, sizeof packed.stride) == 0)
            *to = packed;
        for (int j = 0; j < i && !to->at; j++)
            if (is_view_of(bound_plane(v, j), from))
                *to = *bound_plane(&p, j);
        if (to->at)
            continue;
        *to = value_packed(&v->ref.type, arena_array(arena, double, count));
        value_copy(to, from);
    }
    return p;
}

typedef struct Taking {
    const Tensor *rounded; /* by output */
    OracleTake *take;
    void *to;
} Taking;

static Status take_output(void *to, uint32_t output, Bounded *v)
{
    const Taking *w = to;
    Arena *arena = arena_new();
    const Bounded packed = packed_planes(arena, v, false);
    const OracleTensor t = tensor_of(&packed, w->rounded[output]);
    const Status status = w->take(w->to, output, &t);
    arena_free(arena);
    return status;
}

Status oracle_outputs(Ctx *cx, const Graph *g, const OracleTensor *in, OracleTake *take, void *to)
{
    Body *b = body_open(cx, g);
    Tensor *rounded_in = arena_array(b->arena, Tensor, g->ninput);
    Tensor *rounded = arena_array(b->arena, Tensor, g->nout);
    Bounded *from = arena_array(b->arena, Bounded, g->ninput);
    for (uint32_t i = 0; i < g->ninput; i++) {
        rounded_in[i] = in[i].rounded;
        from[i] = planes_of(&in[i]);
        tighten(cx, &from[i]);
    }
    Taking taking = { rounded, take, to };
    Status status = eval_graph(cx, g, EVAL_ROUND, b->arena, rounded_in, rounded);
    if (status == ST_OK)
        status = body_run(b, from, take_output, &taking);
    body_close(b);
    return status;
}

typedef struct Keeping {
    Arena *arena;
    OracleTensor *out;
} Keeping;

/* Planes that are one stay one. */
static Status keep_output(void *to, uint32_t output, const OracleTensor *t)
{
    const Keeping *w = to;
    Bounded planes = planes_of(t);
    const Bounded copy = packed_planes(w->arena, &planes, true);
    Tensor rounded = tensor_new(w->arena, t->rounded.type);
    memcpy(rounded.at, t->rounded.at,
           (size_t)shape_count(&rounded.type.shape) * sizeof *rounded.at);
    w->out[output] = tensor_of(&copy, rounded);
    return ST_OK;
}

Status oracle_graph(Ctx *cx, const Graph *g, Arena *arena, const OracleTensor *in,
                    OracleTensor *out)
{
    Keeping keeping = { arena, out };
    return oracle_outputs(cx, g, in, keep_output, &keeping);
}
