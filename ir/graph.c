/* SPDX-License-Identifier: Apache-2.0 */
#include "ir/graph.h"

#include <string.h>

#include "ir/attr.h"
#include "ir/base/hash.h"
#include "ir/infer.h"

Graph *graph_new(Arena *arena)
{
    Graph *g = arena_array(arena, Graph, 1);
    g->arena = arena;
    arena_grow(arena, g->node, 0, g->node_cap); /* slot 0 of both is no node, no region */
    arena_grow(arena, g->region, 0, g->region_cap);
    g->nnode = g->nregion = 1;
    return g;
}

/* Names: open addressing, at most half full. */

bool graph_is_name(const char *s)
{
    if (!(*s >= 'a' && *s <= 'z') && !(*s >= 'A' && *s <= 'Z') && *s != '_')
        return false;
    return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] ==
           '\0';
}

/* The slot that holds the node of that name, or the empty one where it belongs. */
static Ref *name_slot(const Graph *g, const char *name)
{
    uint32_t i = (uint32_t)hash_bytes(name, strlen(name), 0) & (g->named_cap - 1);
    while (g->named[i] != REF_NONE && strcmp(g->node[g->named[i]].name, name))
        i = (i + 1) & (g->named_cap - 1);
    return &g->named[i];
}

static Ref find_name(const Graph *g, const char *name)
{
    return g->named_cap ? *name_slot(g, name) : REF_NONE;
}

static void grow_names(Graph *g)
{
    const Ref *old = g->named;
    const uint32_t cap = g->named_cap;

    if (cap && g->nnamed < cap / 2)
        return;
    g->named_cap = cap ? cap * 2 : 16;
    g->named = arena_array(g->arena, Ref, g->named_cap);
    for (uint32_t i = 0; i < cap; i++)
        if (old[i] != REF_NONE)
            *name_slot(g, g->node[old[i]].name) = old[i];
}

void graph_set_name(Graph *g, Ref r, const char *name)
{
    gtc_assert(r > REF_NONE && r < g->nnode && graph_is_name(name), "name \"%s\" for %%%u", name,
               r);
    if (g->node[r].name || find_name(g, name) != REF_NONE)
        return;
    grow_names(g);
    g->node[r].name = arena_strdup(g->arena, name);
    *name_slot(g, name) = r;
    g->nnamed++;
}

Ref graph_find_input(const Graph *g, const char *name)
{
    const Ref r = find_name(g, name);
    return r != REF_NONE && g->node[r].op == OP_input ? r : REF_NONE;
}

/* Nodes. */

static Status check_name(Ctx *cx, const Graph *g, const Node *n)
{
    const char *op = op_info[n->op].name;
    if (n->op == OP_input && !n->name)
        return FAIL(cx, VALUE, "input: wants a name");
    if (n->name && !graph_is_name(n->name))
        return FAIL(cx, VALUE, "%s: \"%s\" is no name: wants [A-Za-z_][A-Za-z0-9_.-]*", op,
                    n->name);
    if (n->op == OP_input && find_name(g, n->name) != REF_NONE)
        return FAIL(cx, VALUE, "input: there is a %%%s already", n->name);
    return ST_OK;
}

static Status own_body(Ctx *cx, const Graph *g, Graph **body)
{
    if ((*body)->arena == g->arena)
        return ST_OK;
    Graph *copy = graph_new(g->arena);
    TRY(graph_copy(cx, *body, copy));
    *body = copy;
    return ST_OK;
}

Status graph_add(Ctx *cx, Graph *g, const Node *n, Ref *out)
{
    Node c = *n;

    *out = REF_NONE;
    TRY(infer_node(cx, g, &c));
    TRY(check_name(cx, g, &c));
    gtc_assert(c.region < g->nregion, "%s: region %u of %u", op_info[c.op].name, c.region,
               g->nregion);
    attr_normalise(&c, c.nargs ? &g->node[c.arg[0]].type : NULL);
    if (c.op == OP_scan)
        TRY(own_body(cx, g, &c.attr.scan.body));
    if (c.op == OP_fusion) {
        TRY(own_body(cx, g, &c.attr.fusion.body));
        c.attr.fusion.kind = arena_strdup(g->arena, c.attr.fusion.kind);
    }
    c.arg = c.nargs ? arena_copy(g->arena, c.arg, sizeof *c.arg * c.nargs) : NULL;
    c.name = NULL;

    arena_grow(g->arena, g->node, g->nnode, g->node_cap);
    g->node[g->nnode] = c;
    *out = g->nnode++;
    if (n->name)
        graph_set_name(g, *out, n->name);
    if (c.op == OP_input) {
        arena_grow(g->arena, g->input, g->ninput, g->input_cap);
        g->input[g->ninput++] = *out;
    }
    return ST_OK;
}

static Status check_replaced(Ctx *cx, const Graph *g, Ref value, Ref replaces)
{
    if (replaces >= g->nnode || g->node[replaces].op != OP_input)
        return FAIL(cx, VALUE, "output: %%%u is no input that could be replaced", replaces);
    const Node *in = &g->node[replaces];
    if (in->attr.input.kind != INPUT_param && in->attr.input.kind != INPUT_state)
        return FAIL(cx, VALUE, "output: replaces the %s input %%%s; wants a param or a state",
                    attr_input_kind(in->attr.input.kind), in->name);
    if (!type_eq(&in->type, &g->node[value].type))
        return FAIL(cx, TYPE, "output: replaces %%%s: %s by %s", in->name, type_str(&in->type),
                    type_str(&g->node[value].type));
    for (uint32_t i = 0; i < g->nout; i++)
        if (g->out[i].replaces == replaces)
            return FAIL(cx, VALUE, "output: %%%s is replaced twice", in->name);
    return ST_OK;
}

Status graph_output(Ctx *cx, Graph *g, Ref value, Ref replaces, const char *name)
{
    if (value == REF_NONE || value >= g->nnode)
        return FAIL(cx, VALUE, "output: %%%u is not defined", value);
    if (g->node[value].type.dt == DT_NONE)
        return FAIL(cx, TYPE, "output: %%%u is a %s; take its parts with get", value,
                    op_info[g->node[value].op].name);
    if (replaces != REF_NONE)
        TRY(check_replaced(cx, g, value, replaces));
    if (name && !graph_is_name(name))
        return FAIL(cx, VALUE, "output: \"%s\" is no name: wants [A-Za-z_][A-Za-z0-9_.-]*", name);
    for (uint32_t i = 0; name && i < g->nout; i++)
        if (g->out[i].name && !strcmp(g->out[i].name, name))
            return FAIL(cx, VALUE, "output: there is a %s already", name);

    arena_grow(g->arena, g->out, g->nout, g->out_cap);
    g->out[g->nout++] = (Output){ value, replaces, name ? arena_strdup(g->arena, name) : NULL };
    return ST_OK;
}

uint32_t graph_region(Graph *g, const char *kind, int layer, bool bwd)
{
    gtc_assert(kind && graph_is_name(kind), "region kind \"%s\" is no name", kind ? kind : "");
    for (uint32_t i = 1; i < g->nregion; i++)
        if (g->region[i].layer == layer && g->region[i].bwd == bwd &&
            !strcmp(g->region[i].kind, kind))
            return i;
    arena_grow(g->arena, g->region, g->nregion, g->region_cap);
    g->region[g->nregion] = (Region){ arena_strdup(g->arena, kind), layer, bwd };
    return g->nregion++;
}

/* Results of tuples. */

uint32_t graph_result_count(const Graph *g, Ref r)
{
    const Node *n = &g->node[r];
    switch (n->op) {
    case OP_scan:
        return n->attr.scan.body->nout;
    case OP_fusion:
        return n->attr.fusion.body->nout;
    case OP_grad:
        return n->nargs - 1;
    default:
        return 1;
    }
}

static Type body_result(const Graph *body, uint32_t index)
{
    return body->node[body->out[index].value].type;
}

Type graph_result_type(const Graph *g, Ref r, uint32_t index)
{
    const Node *n = &g->node[r];
    gtc_assert(index < graph_result_count(g, r), "result %u of %%%u", index, r);
    if (n->op == OP_grad)
        return g->node[n->arg[index + 1]].type;
    if (n->op == OP_fusion)
        return body_result(n->attr.fusion.body, index);
    if (n->op != OP_scan)
        return n->type;

    Type t = body_result(n->attr.scan.body, index);
    if (index < n->attr.scan.ncarry)
        return t;
    gtc_assert(t.shape.rank < MAX_RANK, "scan result %u above rank %d", index, MAX_RANK);
    for (int i = t.shape.rank++; i > 0; i--)
        t.shape.dim[i] = t.shape.dim[i - 1];
    t.shape.dim[0] = n->attr.scan.trip;
    return t;
}

/* Whole graphs. */

static bool same_name(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static bool same_region(const Graph *a, uint32_t i, const Graph *b, uint32_t j)
{
    if (!i || !j)
        return i == j;
    const Region *x = &a->region[i], *y = &b->region[j];
    return x->layer == y->layer && x->bwd == y->bwd && !strcmp(x->kind, y->kind);
}

static bool same_node(const Graph *a, const Graph *b, Ref r)
{
    const Node *x = &a->node[r], *y = &b->node[r];
    if (x->op != y->op || x->nargs != y->nargs || !type_eq(&x->type, &y->type) ||
        !same_name(x->name, y->name) || !same_region(a, x->region, b, y->region))
        return false;
    for (uint32_t i = 0; i < x->nargs; i++)
        if (x->arg[i] != y->arg[i])
            return false;
    return attr_eq((AttrKind)op_info[x->op].attr, &x->attr, &y->attr);
}

bool graph_eq(const Graph *a, const Graph *b)
{
    if (a->nnode != b->nnode || a->nout != b->nout)
        return false;
    for (Ref r = 1; r < a->nnode; r++)
        if (!same_node(a, b, r))
            return false;
    for (uint32_t i = 0; i < a->nout; i++)
        if (a->out[i].value != b->out[i].value || a->out[i].replaces != b->out[i].replaces ||
            !same_name(a->out[i].name, b->out[i].name))
            return false;
    return true;
}

Status graph_copy(Ctx *cx, const Graph *in, Graph *out)
{
    gtc_assert(out->nnode == 1 && out->nregion == 1, "graph_copy wants an empty graph");
    for (uint32_t i = 1; i < in->nregion; i++)
        graph_region(out, in->region[i].kind, in->region[i].layer, in->region[i].bwd);
    for (Ref r = 1; r < in->nnode; r++) {
        Ref to;
        TRY(graph_add(cx, out, &in->node[r], &to));
    }
    for (uint32_t i = 0; i < in->nout; i++)
        TRY(graph_output(cx, out, in->out[i].value, in->out[i].replaces, in->out[i].name));
    return ST_OK;
}
