/* SPDX-License-Identifier: Apache-2.0 */
/* grow_scan: a loop that has the wanted type among its results, as a last carry or stacked over the
 * steps.  Its body is grown like any graph, from what it returns back to carries, steps and
 * invariants; of the latter it may ask for more as it grows.  Then the outside grows what they
 * begin with. */
#include "tests/grow.h"

enum { MAX_CARRY = 2, MAX_STEP = 2, MAX_INVARIANT = 4, MAX_ARGS = 8 };

static Type with_time(Type t, int64_t trip)
{
    for (int i = t.shape.rank++; i > 0; i--)
        t.shape.dim[i] = t.shape.dim[i - 1];
    t.shape.dim[0] = trip;
    return t;
}

static Type without_time(Type t)
{
    t.shape.rank--;
    for (int i = 0; i < t.shape.rank; i++)
        t.shape.dim[i] = t.shape.dim[i + 1];
    t.shape.dim[t.shape.rank] = 0;
    return t;
}

/* A type that goes with t: equal, mostly. */
static Type related(Grow *w, Type t)
{
    if (grow_chance(w, 70))
        return t;
    if (grow_chance(w, 50))
        return (Type){ grow_dtype(w), t.shape };
    return (Type){ DT_F32, grow_shape(w, 0, 2) };
}

/* The next value of a carry: one that does not run away over many steps. */
static Ref grow_next(Grow *body, Type t, int n)
{
    const Ref r = grow_value(body, t, n);
    if (!dtype_is_float(t.dt) || body->wild)
        return r;
    return build_op1(&body->b, grow_chance(body, 80) ? OP_tanh : OP_sigmoid, r);
}

typedef struct Loop {
    int ncarry, nstep;
    int64_t trip;
    bool stacked; /* the wanted result */
    Type carry[MAX_CARRY], step[MAX_STEP];
} Loop;

static Loop random_loop(Grow *w, Type t)
{
    Loop l = { .stacked = t.shape.rank > 0 && grow_chance(w, 65) };
    const Type each = l.stacked ? without_time(t) : t;
    const int64_t room = w->max_count / (shape_count(&each.shape) + 1) + 1;
    l.trip = l.stacked ? t.shape.dim[0] : grow_extent(w, room < 33 ? room : 33);
    l.ncarry = l.stacked ? grow_below(w, MAX_CARRY + 1) : 1 + grow_below(w, MAX_CARRY);
    l.nstep = grow_below(w, MAX_STEP + 1);
    for (int i = 0; i < l.ncarry; i++)
        l.carry[i] = i == 0 && !l.stacked ? t : related(w, each);
    for (int i = 0; i < l.nstep; i++) {
        l.step[i] = related(w, each);
        const Type all = with_time(l.step[i], l.trip);
        if (all.shape.rank > MAX_RANK || !grow_fits(w, &all.shape))
            l.step[i] = (Type){ .dt = DT_F32 };
    }
    return l;
}

static Graph *grow_body(Grow *w, const Loop *l, Type t, int n)
{
    Grow body = *w;
    body.b = build_start(w->b.cx, graph_new(w->b.g->arena));
    body.outer = w;
    body.max_invariant = (uint32_t)(l->ncarry + l->nstep + grow_below(w, MAX_INVARIANT + 1));
    for (int i = 0; i < l->ncarry; i++)
        grow_input(&body, INPUT_batch, l->carry[i]);
    for (int i = 0; i < l->nstep; i++)
        grow_input(&body, INPUT_batch, l->step[i]);
    for (int i = 0; i < l->ncarry; i++) {
        const Ref next = grow_next(&body, l->carry[i], grow_share(w, &n, 2));
        build_output(&body.b, next, NULL);
    }
    if (l->stacked)
        build_output(&body.b, grow_value(&body, without_time(t), n), NULL);
    if (grow_chance(w, 30) && l->ncarry)
        build_output(&body.b, grow_value(&body, l->carry[0], 1), NULL);
    if (body.b.status != ST_OK)
        w->b.status = body.b.status;
    return body.b.g;
}

Ref grow_scan(Grow *w, Op op, Type t, int n)
{
    Ref arg[MAX_ARGS];
    (void)op;
    if (w->outer || n < 2 || t.shape.rank > 4)
        return REF_NONE;
    const Loop l = random_loop(w, t);
    const int inside = 2 + grow_below(w, n < 10 ? n : 10);
    const Graph *body = grow_body(w, &l, t, inside);
    n -= inside;
    for (uint32_t i = 0; i < body->ninput && w->b.status == ST_OK; i++) {
        const int at = (int)i, nargs = (int)body->ninput;
        Type of = body->node[body->input[i]].type;
        if (at >= l.ncarry && at < l.ncarry + l.nstep)
            of = with_time(of, l.trip);
        arg[i] = grow_value(w, of, n > 0 ? grow_share(w, &n, nargs - at) : 0);
    }
    const Ref scan = build_scan(&w->b, (Graph *)body, arg, (int)body->ninput, l.ncarry, l.nstep,
                                l.trip, grow_chance(w, 40));
    for (uint32_t i = 0; i < body->nout && w->b.status == ST_OK; i++)
        if ((int)i != (l.stacked ? l.ncarry : 0) && grow_chance(w, 60))
            build_get(&w->b, scan, (int)i); /* for others to find */
    return build_get(&w->b, scan, l.stacked ? l.ncarry : 0);
}
