/* SPDX-License-Identifier: Apache-2.0 */
/* From a fusion body to stages: what is stored gets a root, in the order of the graph; what stands
 * below it is its expression (stages_demand.c).
 *
 * A scan is its body's stages under one sequential axis.  A carry lives in a buffer of two slots:
 * iteration v reads slot v mod 2 and writes slot (v+1) mod 2. */
#include "codegen/stages_demand.h"

#include <string.h>

#include "ir/base/bug.h"

/* Sums are made where they go, if that is one place and as wide as a register; else they go there
 * afterwards. */
static void scatter_root(Demand *d, int scope, Ref r, const Place *place, int nplace)
{
    Type type = d->g[scope]->node[r].type;
    if (nplace == 1 && !place->has_lead &&
        (type.dt == DT_F32 || type.dt == DT_I32 || type.dt == DT_I64)) {
        demand_scatter(d, scope, r, place);
        return;
    }
    type.dt = dtype_is_float(type.dt) ? DT_F32 : type.dt == DT_U8 ? DT_I32 : type.dt;
    const char *name = arena_printf(d->s->arena, "%c%u_sum", "pq"[scope], r);
    const Place own = { .buf = demand_buffer(d, name, &type, 0, false) };
    demand_scatter(d, scope, r, &own);
    Ix at[MAX_RANK];
    Var axis[MAX_RANK];
    const int naxis = demand_axes(d, &type.shape, false, at, axis);
    const ExprId e =
        demand_read(d, &(Binding){ .bound = true, .buf = own.buf }, at, &type.shape, false);
    demand_root(d, scope, r, axis, naxis, e, at, &type.shape, place, nplace);
}

/* A root that stores node r; a concat is written part by part, each to its place. */
static void root(Demand *d, int scope, Ref r, const Place *place, int nplace)
{
    const Node *n = &d->g[scope]->node[r];
    Ix at[MAX_RANK];
    Var axis[MAX_RANK];
    if (demand_is_flat(d, scope, r)) {
        axis[0] = demand_axis(d, shape_count(&n->type.shape), 0, false);
        at[0] = ix_var(d->s->pool, axis[0]);
        demand_root(d, scope, r, axis, 1, demand_compute(d, scope, r, at), at, &n->type.shape,
                    place, nplace);
        return;
    }
    if (n->op == OP_scatter_add && !d->bind[scope][r].bound) {
        scatter_root(d, scope, r, place, nplace);
        return;
    }
    if (n->op != OP_concat) {
        const int naxis = demand_axes(d, &n->type.shape, false, at, axis);
        const ExprId e = demand_value(d, scope, r, at);
        demand_root(d, scope, r, axis, naxis, e, at, &n->type.shape, place, nplace);
        return;
    }
    const int along = n->attr.axis.axis;
    int64_t lo = 0;
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Type *t = &d->g[scope]->node[n->arg[i]].type;
        const int naxis = demand_axes(d, &t->shape, false, at, axis);
        const ExprId e = demand_value(d, scope, n->arg[i], at);
        Ix to[MAX_RANK];
        memcpy(to, at, sizeof at);
        to[along] = ix_shift(d->s->pool, at[along], lo);
        lo += t->shape.dim[along];
        if (t->shape.dim[along])
            demand_root(d, scope, r, axis, naxis, e, to, &n->type.shape, place, nplace);
    }
}

static Place temp_place(Demand *d, const char *prefix, Ref r, const Type *t, int64_t lead,
                        bool flat)
{
    const char *name = arena_printf(d->s->arena, "%s%u", prefix, r);
    return (Place){ .buf = demand_buffer(d, name, t, lead, flat) };
}

/* A long sum of a flat value is made of the sums of equal parts, which threads can share out. */
static void part_sums(Demand *d, Ref r)
{
    enum { LONG = 8192, MOST = 64, LEAST = 1024 };
    const Node *n = &d->g[0]->node[r];
    const Op op = n->op;
    if ((op != OP_sum && op != OP_amax && op != OP_amin) || !d->flat[n->arg[0]] ||
        d->bind[0][r].bound)
        return;
    const int64_t count = shape_count(&d->g[0]->node[n->arg[0]].type.shape);
    int64_t parts = MOST;
    while (parts > 1 && (count % parts || count / parts < LEAST))
        parts--;
    if (count < LONG || parts == 1)
        return;
    Type type = n->type;
    type.shape = (Shape){ .rank = 1, .dim = { parts } };
    const Place place = temp_place(d, "part", r, &type, 0, false);
    IxPool *p = d->s->pool;
    Ix at[MAX_RANK];
    Var axis[MAX_RANK];
    const int naxis = demand_axes(d, &type.shape, false, at, axis);
    const Var red = demand_axis(d, count / parts, 0, true);
    const Ix all = ix_add(p, ix_scale(p, at[0], count / parts), ix_var(p, red));
    const ExprId e = demand_partial(d, r, at, red, demand_value(d, 0, n->arg[0], &all));
    demand_root(d, 0, r, axis, naxis, e, at, &type.shape, &place, 1);
    d->part[r] = (Binding){ .bound = true, .buf = place.buf };
}

/* A value goes to at most so many places; with more, no kernel is made of the body. */
static bool has_room(Demand *d, int n, int max)
{
    if (n >= max)
        d->status = FAIL(d->cx, TYPE, "a value with more than %d uses as a result", max);
    return n < max;
}

/* Roots of the fusion body from node `from` on, in order; the scan's own come in between. */
static void body_roots(Demand *d, Ref from, Ref to)
{
    const Graph *g = d->g[0];
    for (Ref r = from; r < to; r++) {
        Place place[16];
        int n = 0;
        if (g->node[r].op == OP_get) /* of the scan: stored by it */
            continue;
        for (uint32_t i = 0; i < g->nout; i++)
            if (g->out[i].value == r && has_room(d, n, 16))
                place[n++] = (Place){ .buf = (uint16_t)(g->ninput + i) };
        if (d->in_parts)
            part_sums(d, r);
        if (d->stored[0][r]) {
            if (n == 0)
                place[n++] = temp_place(d, "t", r, &g->node[r].type, 0, d->flat[r]);
            root(d, 0, r, place, n);
            d->bind[0][r] = (Binding){ .bound = true, .buf = place[0].buf };
            d->nmemo = 0; /* what was inlined is read from now on */
        } else if (n) {
            root(d, 0, r, place, n);
        }
    }
}

/* Buffers that take result `index` of the scan: outputs, and the one that later nodes read. */
static int scan_result_places(Demand *d, uint32_t index, Place *place, int max)
{
    const Graph *g = d->g[0];
    int n = 0;
    for (Ref r = d->scan + 1; r < g->nnode; r++) {
        const Node *get = &g->node[r];
        if (get->op != OP_get || get->arg[0] != d->scan || get->attr.get.index != index)
            continue;
        const int first = n;
        for (uint32_t i = 0; i < g->nout; i++)
            if (g->out[i].value == r && has_room(d, n, max))
                place[n++] = (Place){ .buf = (uint16_t)(g->ninput + i) };
        bool used = false;
        for (Ref u = r + 1; u < g->nnode; u++)
            for (uint32_t i = 0; i < g->node[u].nargs; i++)
                used |= g->node[u].arg[i] == r;
        if (used && n == first && has_room(d, n, max))
            place[n++] = temp_place(d, "g", r, &get->type, 0, false);
        if (n > first)
            d->bind[0][r] = (Binding){ .bound = true, .buf = place[first].buf };
    }
    return n;
}

static void scan_roots(Demand *d)
{
    Stages *s = d->s;
    IxPool *p = s->pool;
    const Node *scan = &d->g[0]->node[d->scan];
    const Graph *b = d->g[1];
    const uint32_t ncarry = scan->attr.scan.ncarry;
    const int64_t trip = scan->attr.scan.trip;
    s->seq = 0;
    s->trip = trip;
    s->has_scan = true;
    d->carry = arena_array(s->arena, uint16_t, ncarry);
    Place place[16];
    d->when = WHEN_INIT;
    for (uint32_t i = 0; i < ncarry; i++) {
        const Place slot = temp_place(d, "c", i, &b->node[b->input[i]].type, 2, false);
        d->carry[i] = slot.buf;
        s->buf[slot.buf].slots = true;
        place[0] = (Place){ slot.buf, true, ix_const(p, 0) };
        root(d, 0, scan->arg[i], place, 1);
    }
    d->when = WHEN_STEP;
    d->nmemo = 0;
    if (trip > 1)
        s->seq = ix_var_new(p, "t", trip);
    const Ix v = s->seq ? ix_var(p, s->seq) : ix_const(p, 0);
    d->step = scan->attr.scan.reverse ? ix_sub(p, ix_const(p, trip - 1), v) : v;
    const Ix next = ix_mod(p, ix_shift(p, v, 1), 2);
    for (Ref r = 1; r < b->nnode && trip > 0; r++) {
        int n = 0;
        Binding bind = { .bound = false };
        for (uint32_t i = ncarry; i < b->nout; i++)
            if (b->out[i].value == r) {
                n += scan_result_places(d, i, place + n, 12 - n);
                for (int k = 0; k < n && trip > 1; k++)
                    if (!place[k].has_lead) {
                        place[k].has_lead = true;
                        place[k].lead = BUG(48) ? v : d->step;
                    }
            }
        for (uint32_t i = 0; i < ncarry; i++)
            if (b->out[i].value == r && has_room(d, n, 16))
                place[n++] = (Place){ d->carry[i], true, next };
        if (d->stored[1][r]) {
            if (n == 0)
                place[n++] = temp_place(d, "u", r, &b->node[r].type, 0, false);
            bind = (Binding){ true, place[0].has_lead, place[0].buf, place[0].lead };
        }
        if (n)
            root(d, 1, r, place, n);
        if (bind.bound) {
            d->bind[1][r] = bind;
            d->nmemo = 0;
        }
    }
    for (uint32_t i = ncarry; i < b->nout && trip == 0; i++)
        scan_result_places(d, i, place, 16); /* nothing to store, but readers find their buffers */
    d->when = WHEN_LAST;
    d->nmemo = 0;
    for (uint32_t i = 0; i < ncarry; i++) {
        const int n = scan_result_places(d, i, place, 16);
        Ix at[MAX_RANK];
        Var axis[MAX_RANK];
        const Shape *shape = &b->node[b->input[i]].type.shape;
        const int naxis = demand_axes(d, shape, false, at, axis);
        const Binding last = { true, true, d->carry[i], ix_const(p, (trip + BUG(47)) % 2) };
        if (n)
            demand_root(d, 0, d->scan, axis, naxis, demand_read(d, &last, at, shape, false), at,
                        shape, place, n);
    }
}

static Status check_types(Ctx *cx, const Graph *g)
{
    uint32_t nscan = 0;
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if (n->type.dt == DT_F64)
            return FAIL(cx, TYPE, "%s: f64 is for the reference only", op_info[n->op].name);
        if (n->op == OP_scan && nscan++)
            return FAIL(cx, TYPE, "scan: a kernel holds one");
        if (n->op == OP_scan)
            TRY(check_types(cx, n->attr.scan.body));
    }
    return ST_OK;
}

Status stages_build(Ctx *cx, Arena *arena, const Graph *body, const Stored *stored, Stages **out)
{
    TRY(check_types(cx, body));
    Stages *s = arena_array(arena, Stages, 1);
    s->arena = arena;
    s->pool = ix_pool_new(arena);
    Demand d = { .cx = cx, .s = s, .g = { body }, .stored = { stored->body, stored->scan } };
    for (Ref r = 1; r < body->nnode; r++)
        if (body->node[r].op == OP_scan) {
            d.scan = r;
            d.g[1] = body->node[r].attr.scan.body;
        }
    d.flat = stages_flat(arena, body);
    d.in_parts = !stored->all;
    d.part = arena_array(arena, Binding, body->nnode);
    d.bind[0] = arena_array(arena, Binding, body->nnode);
    d.bind[1] = arena_array(arena, Binding, d.g[1] ? d.g[1]->nnode : 1);
    for (uint32_t i = 0; i < body->ninput + body->nout; i++) {
        const bool in = i < body->ninput;
        const uint32_t arg = in ? i : i - body->ninput;
        const Ref r = in ? body->input[arg] : body->out[arg].value;
        const char *name = arena_printf(arena, in ? "x%u" : "y%u", arg);
        const uint16_t b = demand_buffer(&d, name, &body->node[r].type, 0, d.flat[r]);
        s->buf[b].is_in = in;
        s->buf[b].is_out = !in;
        s->buf[b].arg = arg;
        s->buf[b].home = HOME_ARG;
    }
    body_roots(&d, 1, d.scan ? d.scan : body->nnode);
    if (d.scan) {
        scan_roots(&d);
        d.when = WHEN_PLAIN;
        d.nmemo = 0;
        body_roots(&d, d.scan + 1, body->nnode);
    }
    *out = s;
    return d.status;
}
