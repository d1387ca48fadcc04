/* SPDX-License-Identifier: Apache-2.0 */
/* canonicalise: small rewrite rules.
 *
 * Each rule is one function over one node whose arguments are already canonical.  It gives a value
 * that is there already, or builds a smaller one from nodes that go through the rules themselves,
 * so one walk in definition order reaches every rule that a rewrite opens.  A rule keeps the type,
 * keeps the f64 value (up to the order of a sum), and ends because it removes work or moves a view
 * towards the inputs.  What it builds stands in the region of the node it replaces.
 *
 * The rules stand by family in canonicalise_*.c, each with its table; here are the walk, and what
 * rules read and make nodes with.
 *
 * requires: verified      keeps: definition order, names, regions      cost: O(nodes)
 */
#include <string.h>

#include "ir/infer.h"
#include "passes/canonicalise.h"

static const CanonRule *const family[] = { canon_arithmetic, canon_views, canon_matmul };

/* ---- reading nodes ------------------------------------------------------------------------ */

const Node *canon_node(const Canon *c, Ref r)
{
    return &c->rw.out->node[r];
}

const Node *canon_arg(const Canon *c, const Node *n, int i)
{
    return canon_node(c, n->arg[i]);
}

bool canon_is_const(const Canon *c, Ref r, double value)
{
    const Node *n = canon_node(c, r);
    return n->op == OP_const && n->attr.fill.value == value;
}

bool canon_is_once(const Canon *c, Ref r)
{
    return r >= c->uses_cap || c->uses[r] <= 1;
}

bool canon_is_part(const Node *n)
{
    for (int i = 0; i < n->type.shape.rank; i++)
        if (n->attr.slice.step[i] != 1 || n->type.shape.dim[i] < 1)
            return false;
    return true;
}

/* ---- making nodes ------------------------------------------------------------------------- */

/* The value of n, by rules or as a new node; REF_NONE only with c->status set. */
static Ref simplify(Canon *c, const Node *n)
{
    Node typed = *n;
    if (c->status == ST_OK && n->type.dt == DT_NONE)
        c->status = infer_node(c->rw.pcx->cx, c->rw.out, &typed);
    for (size_t f = 0; f < sizeof family / sizeof *family; f++)
        for (const CanonRule *rule = family[f]; rule->rewrite && c->status == ST_OK; rule++) {
            const Ref r = rule->op == n->op ? rule->rewrite(c, &typed) : REF_NONE;
            if (r != REF_NONE) {
                c->rw.pcx->nchanged++;
                return r;
            }
        }
    Ref r = REF_NONE;
    if (c->status == ST_OK)
        c->status = graph_add(c->rw.pcx->cx, c->rw.out, &typed, &r);
    return r;
}

Ref canon_make(Canon *c, Op op, uint32_t nargs, const Ref *arg, Attr attr, Type type)
{
    for (uint32_t i = 0; i < nargs; i++)
        if (arg[i] == REF_NONE)
            return REF_NONE; /* an earlier step failed, and the status says how */
    const Node n = {
        .op = op, .nargs = nargs, .arg = arg, .attr = attr, .type = type, .region = c->region
    };
    return simplify(c, &n);
}

Ref canon_make1(Canon *c, Op op, Ref x)
{
    return canon_make(c, op, 1, (Ref[]){ x }, (Attr){ 0 }, (Type){ 0 });
}

Ref canon_make2(Canon *c, Op op, Ref x, Ref y)
{
    return canon_make(c, op, 2, (Ref[]){ x, y }, (Attr){ 0 }, (Type){ 0 });
}

Ref canon_const(Canon *c, double value, const Type *type)
{
    return canon_make(c, OP_const, 0, NULL, (Attr){ .fill.value = value }, *type);
}

Ref canon_reshape(Canon *c, Ref x, const Shape *shape)
{
    if (x == REF_NONE)
        return x;
    const Type type = { canon_node(c, x)->type.dt, *shape };
    return canon_make(c, OP_reshape, 1, (Ref[]){ x }, (Attr){ 0 }, type);
}

Ref canon_transpose(Canon *c, Ref x, const int *perm)
{
    if (x == REF_NONE)
        return x;
    Attr attr = { 0 };
    for (int i = 0; i < canon_node(c, x)->type.shape.rank; i++)
        attr.perm.dim[i] = (int8_t)perm[i];
    return canon_make(c, OP_transpose, 1, (Ref[]){ x }, attr, (Type){ 0 });
}

Ref canon_broadcast(Canon *c, Ref x, const Shape *shape, unsigned new_axes)
{
    if (x == REF_NONE)
        return x;
    const Type type = { canon_node(c, x)->type.dt, *shape };
    return canon_make(c, OP_broadcast, 1, (Ref[]){ x }, (Attr){ .axes.mask = (uint8_t)new_axes },
                      type);
}

Ref canon_part(Canon *c, Ref x, const int64_t *lo, const Shape *shape)
{
    if (x == REF_NONE)
        return x;
    Attr attr = { 0 };
    for (int i = 0; i < shape->rank; i++) {
        attr.slice.lo[i] = lo[i];
        attr.slice.step[i] = 1;
    }
    const Type type = { canon_node(c, x)->type.dt, *shape };
    return canon_make(c, OP_slice, 1, (Ref[]){ x }, attr, type);
}

/* ---- the walk ----------------------------------------------------------------------------- */

static void count_uses(Canon *c, Ref r, uint32_t n)
{
    if (r >= c->uses_cap) {
        const uint32_t cap = 2 * r + 64;
        uint32_t *uses = arena_array(c->rw.pcx->scratch, uint32_t, cap);
        if (c->uses_cap)
            memcpy(uses, c->uses, c->uses_cap * sizeof *uses);
        c->uses = uses;
        c->uses_cap = cap;
    }
    c->uses[r] += n;
}

static Status walk(PassCx *pcx, const Graph *in, Graph *out, bool in_scan, bool expanded,
                   PassFn *inside)
{
    Canon c = { rewrite_start(pcx, in, out, inside), .in_scan = in_scan, .expanded = expanded };
    uint32_t *uses = arena_array(pcx->scratch, uint32_t, in->nnode);
    for (Ref r = 1; r < in->nnode; r++)
        for (uint32_t i = 0; i < in->node[r].nargs; i++)
            uses[in->node[r].arg[i]]++;
    for (uint32_t i = 0; i < in->nout; i++)
        uses[in->out[i].value]++;

    for (Ref r = 1; r < in->nnode; r++) {
        Node n;
        TRY(rewrite_node(&c.rw, r, &n));
        c.region = n.region;
        const Ref value = simplify(&c, &n);
        TRY(c.status);
        c.rw.map[r] = value;
        count_uses(&c, value, uses[r]);
    }
    return rewrite_outputs(&c.rw);
}

static Status walk_body(PassCx *pcx, const Graph *in, Graph *out)
{
    return walk(pcx, in, out, true, true, walk_body);
}

static Status walk_body_early(PassCx *pcx, const Graph *in, Graph *out)
{
    return walk(pcx, in, out, true, false, walk_body_early);
}

Status pass_canonicalise(PassCx *pcx, const Graph *in, Graph *out)
{
    const bool expanded = pass_is_expanded(in);
    return walk(pcx, in, out, false, expanded, expanded ? walk_body : walk_body_early);
}
