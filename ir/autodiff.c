/* SPDX-License-Identifier: Apache-2.0 */
/* Reverse mode, graph to graph.
 *
 * The graph is copied node by node; a `grad` node becomes a sweep over what was copied so far: from
 * the loss down, each node that has a cotangent and depends on what is differentiated by hands
 * cotangents on to its arguments (vjp_NAME, named by the op's row).  Cotangents that belong to
 * slices of a value wait until the value is reached and then come as one concat where they do not
 * overlap: four gates cut out of one product give one tensor, which is what the products of the
 * gradient read.  What nobody gave is zero and makes no nodes.
 *
 * The gradient of a scan needs values that the scan did not return, so vjp_scan makes the scan
 * again, with more results, and notes that in v->again; a last copy (vjp_merge) puts the richer one
 * in the place of the first. */
#include "ir/autodiff.h"

#include <string.h>

#include "ir/base/bug.h"
#include "ir/vjp.h"

static VjpFn *const vjp_fn[OP_COUNT] = {
#define OP(id, args, cls, flags, prec, shape, attr, grad) [OP_##id] = vjp_##grad,
#include "ir/ops.def"
};

Vjp vjp_start(Ctx *cx, Graph *g, Arena *scratch)
{
    Vjp v = { .b = build_start(cx, g), .scratch = scratch };
    vjp_reserve(&v);
    return v;
}

void vjp_reserve(Vjp *v)
{
    const uint32_t have = v->cap, want = v->b.g->nnode;
    if (want <= have)
        return;
    v->cap = want * 2;
    VjpPart **part = arena_array(v->scratch, VjpPart *, v->cap);
    bool *varied = arena_array(v->scratch, bool, v->cap);
    bool *pinned = arena_array(v->scratch, bool, v->cap);
    Ref *again = arena_array(v->scratch, Ref, v->cap);
    for (uint32_t i = 0; i < have; i++) {
        part[i] = v->part[i];
        varied[i] = v->varied[i];
        pinned[i] = v->pinned[i];
        again[i] = v->again[i];
    }
    v->part = part, v->varied = varied, v->pinned = pinned, v->again = again;
}

/* Clears parts, varied and pinned. */
static void forget(Vjp *v)
{
    memset(v->part, 0, v->cap * sizeof *v->part);
    memset(v->varied, 0, v->cap * sizeof *v->varied);
    memset(v->pinned, 0, v->cap * sizeof *v->pinned);
}

uint32_t vjp_region(Graph *g, uint32_t region)
{
    if (region == 0)
        return 0;
    const Region r = g->region[region];
    return graph_region(g, r.kind, r.layer, true);
}

Node vjp_node(const Vjp *v, Ref r)
{
    return v->b.g->node[r];
}

Ref vjp_add_node(Vjp *v, Op op, int nargs, const Ref *arg, const Type *type, const Attr *attr)
{
    if (v->b.status != ST_OK)
        return REF_NONE;
    Node n = { .op = op, .nargs = (uint32_t)nargs, .arg = arg, .region = v->b.region };
    if (type != NULL)
        n.type = *type;
    if (attr != NULL)
        n.attr = *attr;
    Ref r = REF_NONE;
    v->b.status = graph_add(v->b.cx, v->b.g, &n, &r);
    return v->b.status == ST_OK ? r : REF_NONE;
}

Ref vjp_zeros(Vjp *v, const Type *type)
{
    return build_const(&v->b, 0, *type);
}

Ref vjp_sum_axes(Vjp *v, Ref x, unsigned axes)
{
    if (axes == 0 || v->b.status != ST_OK)
        return x;
    const Node n = vjp_node(v, x);
    if (n.op != OP_sum)
        return build_reduce(&v->b, OP_sum, x, axes);
    unsigned all = n.attr.axes.mask;
    for (int i = 0, kept = 0; i < MAX_RANK; i++)
        if (!(n.attr.axes.mask >> i & 1) && (axes >> (BUG(9) ? i : kept++) & 1))
            all |= 1u << i;
    return build_reduce(&v->b, OP_sum, n.arg[0], all);
}

/* Parts of a cotangent. */

bool vjp_wants(const Vjp *v, Ref r)
{
    return r < v->cap && v->varied[r];
}

static void add_part(Vjp *v, Ref to, const VjpPart *part)
{
    if (part->ct == REF_NONE || v->b.status != ST_OK)
        return;
    vjp_reserve(v);
    if (!v->varied[to])
        return;
    VjpPart **end = &v->part[to];
    while (*end != NULL)
        end = &(*end)->next;
    *end = arena_copy(v->scratch, part, sizeof *part);
}

void vjp_give(Vjp *v, Ref to, Ref ct)
{
    add_part(v, to, &(VjpPart){ .ct = ct });
}

static void give_result(Vjp *v, Ref tuple, uint32_t index, Ref ct)
{
    add_part(v, tuple, &(VjpPart){ .ct = ct, .index = index });
}

void vjp_give_box(Vjp *v, Ref to, Ref ct, const int64_t *lo, const int64_t *step)
{
    VjpPart p = { .ct = ct, .box = true };
    memcpy(p.lo, lo, sizeof p.lo);
    memcpy(p.step, step, sizeof p.step);
    add_part(v, to, &p);
}

static Ref plus(Vjp *v, Ref sum, Ref term)
{
    return sum == REF_NONE ? term : build_op2(&v->b, OP_add, sum, term);
}

/* The one axis on which the box is less than the whole, -1 if on none, -2 if it is no run of one.
 */
static int box_axis(const VjpPart *p, const Shape *box, const Shape *whole)
{
    int axis = -1;
    for (int i = 0; i < whole->rank; i++) {
        if (p->lo[i] == 0 && p->step[i] == 1 && box->dim[i] == whole->dim[i])
            continue;
        if (axis != -1 || p->step[i] != 1)
            return -2;
        axis = i;
    }
    return axis;
}

static Ref pad_box(Vjp *v, const VjpPart *p, const Shape *whole)
{
    const Shape box = build_type(&v->b, p->ct).shape;
    Attr a = { 0 };
    for (int i = 0; i < whole->rank; i++) {
        const int64_t last = box.dim[i] > 0 ? (box.dim[i] - 1) * p->step[i] + 1 : 0;
        a.pad.lo[i] = p->lo[i];
        a.pad.step[i] = p->step[i];
        a.pad.hi[i] = whole->dim[i] - p->lo[i] - last;
        if (BUG(8))
            a.pad.lo[i] = a.pad.hi[i], a.pad.hi[i] = p->lo[i];
    }
    return vjp_add_node(v, OP_pad, 1, &p->ct, NULL, &a);
}

/* Takes from box[0 .. *n) (all runs of one axis, ascending) those that do not overlap, and joins
 * them, zeros between. */
static Ref join_boxes(Vjp *v, VjpPart **box, int *n, int axis, const Type *whole)
{
    Ref *part = arena_array(v->scratch, Ref, 2 * *n + 1);
    VjpPart *const first = box[0];
    int nparts = 0, taken = 0, left = 0;
    int64_t at = 0;
    Type gap = *whole;
    for (int i = 0; i < *n; i++) {
        if (box[i]->lo[axis] < at) {
            box[left++] = box[i];
            continue;
        }
        gap.shape.dim[axis] = box[i]->lo[axis] - at;
        if (gap.shape.dim[axis] > 0)
            part[nparts++] = vjp_zeros(v, &gap);
        part[nparts++] = box[i]->ct;
        at = box[i]->lo[axis] + build_type(&v->b, box[i]->ct).shape.dim[axis];
        taken++;
    }
    *n = left;
    if (taken == 1)
        return pad_box(v, first, &whole->shape);
    gap.shape.dim[axis] = whole->shape.dim[axis] - at;
    if (gap.shape.dim[axis] > 0)
        part[nparts++] = vjp_zeros(v, &gap);
    return build_concat(&v->b, part, nparts, axis);
}

static Ref sum_boxes(Vjp *v, Ref sum, const VjpPart *list, const Type *whole)
{
    int count = 0;
    for (const VjpPart *p = list; p != NULL; p = p->next)
        count += p->box;
    if (count == 0)
        return sum;
    VjpPart **box = arena_array(v->scratch, VjpPart *, count);
    for (int axis = -2; axis < whole->shape.rank; axis++) {
        int n = 0;
        for (const VjpPart *p = list; p != NULL; p = p->next) {
            const Shape shape = build_type(&v->b, p->ct).shape;
            if (!p->box || box_axis(p, &shape, &whole->shape) != axis)
                continue;
            if (axis == -2)
                sum = plus(v, sum, pad_box(v, p, &whole->shape));
            else if (axis == -1)
                sum = plus(v, sum, p->ct);
            else {
                int at = n++;
                for (; at > 0 && box[at - 1]->lo[axis] > p->lo[axis]; at--)
                    box[at] = box[at - 1];
                box[at] = (VjpPart *)p;
            }
        }
        while (n > 0 && v->b.status == ST_OK)
            sum = plus(v, sum, join_boxes(v, box, &n, axis, whole));
    }
    return sum;
}

Ref vjp_take(Vjp *v, Ref r, uint32_t index)
{
    vjp_reserve(v);
    Ref sum = REF_NONE;
    VjpPart *mine = NULL, **end = &mine, **link = &v->part[r];
    while (*link != NULL) { /* moves the parts of this result to a list of their own */
        VjpPart *p = *link;
        if (p->index != index) {
            link = &p->next;
            continue;
        }
        *link = p->next;
        p->next = NULL;
        *end = p;
        end = &p->next;
    }
    if (mine == NULL || v->b.status != ST_OK)
        return REF_NONE;
    for (const VjpPart *p = mine; p != NULL; p = p->next)
        if (!p->box)
            sum = plus(v, sum, p->ct);
    const Type whole = graph_result_type(v->b.g, r, index);
    sum = sum_boxes(v, sum, mine, &whole);
    give_result(v, r, index, sum); /* for who asks again */
    return sum;
}

Ref vjp_take_value(Vjp *v, Ref r)
{
    return vjp_take(v, r, 0);
}

static bool passes_on(const Vjp *v, const Node *n)
{
    bool any = false;
    for (uint32_t k = 0; k < (BUG(11) ? 1 : n->nargs) && !any; k++)
        any = vjp_wants(v, n->arg[k]);
    return any;
}

void vjp_sweep(Vjp *v, Ref last, Ref first)
{
    for (Ref r = last; r >= first && v->b.status == ST_OK; r--) {
        vjp_reserve(v);
        const Node n = vjp_node(v, r);
        if (v->part[r] == NULL || v->pinned[r] || !passes_on(v, &n))
            continue;
        v->b.region = vjp_region(v->b.g, n.region);
        vjp_fn[n.op](v, r, n.type.dt == DT_NONE ? REF_NONE : vjp_take_value(v, r));
        if (v->b.status != ST_OK && v->b.cx->node == 0)
            v->b.cx->node = r;
    }
}

void vjp_none(Vjp *v, Ref y, Ref ct)
{
    (void)ct;
    v->b.status = FAIL(v->b.cx, VALUE, "grad: %s has no gradient", op_info[vjp_node(v, y).op].name);
}

void vjp_get(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    give_result(v, n.arg[0], n.attr.get.index, ct);
}

/* Copies. */

uint32_t vjp_copy_region(const Graph *from, uint32_t region, Graph *to)
{
    if (region == 0)
        return 0;
    const Region r = from->region[region];
    return graph_region(to, r.kind, r.layer, r.bwd);
}

static Status copy_node(Ctx *cx, const Graph *in, Ref r, const char *name, Graph *out,
                        const Ref *map, Arena *scratch, Ref *to)
{
    Node n = in->node[r];
    Ref *arg = arena_array(scratch, Ref, n.nargs);
    for (uint32_t k = 0; k < n.nargs; k++)
        arg[k] = map[n.arg[k]];
    n.arg = arg;
    n.name = name;
    n.region = vjp_copy_region(in, n.region, out);
    return graph_add(cx, out, &n, to);
}

static Status copy_outputs(Ctx *cx, const Graph *in, Graph *out, const Ref *map)
{
    for (uint32_t i = 0; i < in->nout; i++) {
        const Output o = in->out[i];
        TRY(graph_output(cx, out, map[o.value], o.replaces ? map[o.replaces] : REF_NONE, o.name));
    }
    return ST_OK;
}

Status vjp_merge(Vjp *v, const Graph *in, Graph *out, Ref *map)
{
    vjp_reserve(v);
    for (Ref r = 1; r < in->nnode; r++) {
        Ref latest = r;
        while (v->again[latest] != REF_NONE)
            latest = v->again[latest];
        if (map[latest] == REF_NONE)
            TRY(copy_node(v->b.cx, in, latest, in->node[r].name, out, map, v->scratch,
                          &map[latest]));
        map[r] = map[latest];
    }
    return copy_outputs(v->b.cx, in, out, map);
}

/* One grad node. */

static void mark_varied(Vjp *v, const Ref *wrt, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        v->varied[wrt[i]] = true;
    const Graph *g = v->b.g;
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *node = &g->node[r];
        if (node->type.dt != DT_NONE && !dtype_is_float(node->type.dt))
            continue;
        for (uint32_t k = 0; k < node->nargs && !v->varied[r]; k++)
            v->varied[r] = v->varied[node->arg[k]];
    }
}

/* arg: the loss, then what to differentiate by; result[i] belongs to arg[i + 1]. */
static void differentiate(Vjp *v, const Ref *arg, uint32_t nargs, Ref *result)
{
    vjp_reserve(v);
    forget(v);
    mark_varied(v, arg + 1, nargs - 1);
    const uint32_t region = v->b.region;
    if (vjp_wants(v, arg[0])) {
        vjp_give(v, arg[0], build_const(&v->b, 1, build_type(&v->b, arg[0])));
        vjp_sweep(v, arg[0], 1);
    }
    for (uint32_t i = 0; i + 1 < nargs && v->b.status == ST_OK; i++) {
        v->b.region = vjp_region(v->b.g, vjp_node(v, arg[i + 1]).region);
        result[i] = vjp_take_value(v, arg[i + 1]);
        const Type t = build_type(&v->b, arg[i + 1]);
        if (result[i] == REF_NONE)
            result[i] = vjp_zeros(v, &t);
    }
    v->b.region = region;
}

static bool has_grad(const Graph *g)
{
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        if (n->op == OP_grad || (n->op == OP_scan && has_grad(n->attr.scan.body)) ||
            (n->op == OP_fusion && has_grad(n->attr.fusion.body)))
            return true;
    }
    return false;
}

static Status expand_body(Ctx *cx, Arena *arena, Graph **body)
{
    if (!has_grad(*body))
        return ST_OK;
    Graph *out = graph_new(arena);
    TRY(autodiff_expand(cx, *body, out));
    *body = out;
    return ST_OK;
}

/* What later grad nodes differentiate by. */
static bool *asked_by(Arena *arena, const Graph *g)
{
    bool *asked = arena_array(arena, bool, g->nnode);
    for (Ref r = 1; r < g->nnode; r++)
        for (uint32_t k = 1; k < g->node[r].nargs && g->node[r].op == OP_grad; k++)
            asked[g->node[r].arg[k]] = true;
    return asked;
}

/* A gradient by one value may have gone into the gradient by another.  As results of a grad node
 * they are apart, so who differentiates by one differentiates by a copy. */
static Status take_result(Vjp *v, Ref value, bool asked, Ref *out)
{
    const Node copy = { .op = OP_reshape,
                        .nargs = 1,
                        .arg = &value,
                        .type = v->b.g->node[value].type,
                        .region = v->b.g->node[value].region };
    *out = value;
    return asked ? graph_add(v->b.cx, v->b.g, &copy, out) : ST_OK;
}

/* Copies in to v's graph, grad nodes expanded. */
static Status expand(Vjp *v, const Graph *in, Arena *bodies)
{
    Ctx *cx = v->b.cx;
    Ref *map = arena_array(v->scratch, Ref, in->nnode);
    Ref **result = arena_array(v->scratch, Ref *, in->nnode); /* of grad nodes */
    const bool *asked = asked_by(v->scratch, in);
    for (Ref r = 1; r < in->nnode; r++) {
        Node n = in->node[r];
        Ref *arg = arena_array(v->scratch, Ref, n.nargs);
        for (uint32_t k = 0; k < n.nargs; k++)
            arg[k] = map[n.arg[k]];
        if (n.op == OP_grad) {
            result[r] = arena_array(v->scratch, Ref, n.nargs);
            differentiate(v, arg, n.nargs, result[r]);
            TRY(v->b.status);
            continue;
        }
        if (n.op == OP_get && result[n.arg[0]] != NULL) {
            TRY(take_result(v, result[n.arg[0]][n.attr.get.index], asked[r], &map[r]));
            continue;
        }
        if (n.op == OP_scan)
            TRY(expand_body(cx, bodies, &n.attr.scan.body));
        if (n.op == OP_fusion)
            TRY(expand_body(cx, bodies, &n.attr.fusion.body));
        n.arg = arg;
        n.region = vjp_copy_region(in, n.region, v->b.g);
        TRY(graph_add(cx, v->b.g, &n, &map[r]));
    }
    return copy_outputs(cx, in, v->b.g, map);
}

Status autodiff_expand(Ctx *cx, const Graph *in, Graph *out)
{
    Arena *scratch = arena_new();
    Graph *work = graph_new(scratch);
    Vjp v = vjp_start(cx, work, scratch);
    Status status = expand(&v, in, scratch);
    if (status == ST_OK)
        status = vjp_merge(&v, work, out, arena_array(scratch, Ref, work->nnode));
    arena_free(scratch);
    return status;
}
