/* SPDX-License-Identifier: Apache-2.0 */
/* What graph_add checks when a node comes in, verify checks of whole graphs, however they came to
 * be: a pass may have written into a node, shared a body or mixed up Refs of two graphs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/attr.h"
#include "ir/infer.h"
#include "ir/text.h"

enum { MAX_BODIES = 64 };

typedef struct Place { /* of a graph: what it is the body of */
    int depth;
    bool in_fusion;
} Place;

static Status verify_graph(Ctx *cx, const Graph *g, Place where);

static Status fail_node(Ctx *cx, Ref r, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static Status fail_node(Ctx *cx, Ref r, const char *fmt, ...)
{
    char msg[sizeof cx->msg];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    status_fail(cx, ST_INTERNAL, "verify: %%%u: %s", r, msg);
    cx->node = r;
    return ST_INTERNAL;
}

static Status verify_body(Ctx *cx, const Graph *g, Ref r, Place where)
{
    const Node *n = &g->node[r];
    const bool fusion = n->op == OP_fusion;
    const Place inside = { where.depth + 1, where.in_fusion || fusion };

    if (fusion && where.in_fusion)
        return fail_node(cx, r, "a fusion stands in a fusion");
    const Status status =
        verify_graph(cx, fusion ? n->attr.fusion.body : n->attr.scan.body, inside);
    return status == ST_OK ? ST_OK
                           : fail_node(cx, r, "body of %s: %s", op_info[n->op].name, cx->msg);
}

/* Before anything reads through the node. */
static Status verify_refs(Ctx *cx, const Graph *g, Ref r)
{
    const Node *n = &g->node[r];

    if (n->op <= OP_none || n->op >= OP_COUNT)
        return fail_node(cx, r, "no such op: %d", (int)n->op);
    for (uint32_t i = 0; i < n->nargs; i++)
        if (n->arg[i] == REF_NONE || n->arg[i] >= r)
            return fail_node(cx, r, "%s: argument %u is %%%u, which is not before it",
                             op_info[n->op].name, i, n->arg[i]);
    if (n->region >= g->nregion)
        return fail_node(cx, r, "%s: region %u of %u", op_info[n->op].name, n->region, g->nregion);
    if (n->name && !graph_is_name(n->name))
        return fail_node(cx, r, "%s: \"%s\" is no name", op_info[n->op].name, n->name);
    if ((n->op == OP_scan && !n->attr.scan.body) || (n->op == OP_fusion && !n->attr.fusion.body))
        return fail_node(cx, r, "%s: has no body", op_info[n->op].name);
    return ST_OK;
}

static Status verify_node(Ctx *cx, const Graph *g, Ref r, Place where)
{
    const Node *n = &g->node[r];
    const char *op;
    Node again = *n;

    TRY(verify_refs(cx, g, r));
    op = op_info[n->op].name;
    if (op_info[n->op].cls == CLASS_REGION) /* first: inference reads the body's types */
        TRY(verify_body(cx, g, r, where));
    if (infer_node(cx, g, &again) != ST_OK)
        return fail_node(cx, r, "%s", cx->msg);
    if (!type_eq(&again.type, &n->type))
        return fail_node(cx, r, "%s: has type %s, its arguments give %s", op, type_str(&n->type),
                         type_str(&again.type));
    attr_normalise(&again, n->nargs ? &g->node[n->arg[0]].type : NULL);
    if (!attr_eq((AttrKind)op_info[n->op].attr, &again.attr, &n->attr))
        return fail_node(cx, r, "%s: attributes are not in normal form", op);
    if (n->op == OP_grad && where.depth)
        return fail_node(cx, r, "a grad stands in a body");
    if (n->op == OP_input && !n->name)
        return fail_node(cx, r, "input: has no name");
    if (n->op == OP_input && where.depth && n->attr.input.kind != INPUT_batch)
        return fail_node(cx, r, "input: a body's is of kind batch, %%%s is of kind %s", n->name,
                         attr_input_kind(n->attr.input.kind));
    return ST_OK;
}

static Status verify_inputs(Ctx *cx, const Graph *g)
{
    uint32_t k = 0;
    for (Ref r = 1; r < g->nnode; r++) {
        if (g->node[r].op != OP_input)
            continue;
        if (k >= g->ninput || g->input[k] != r)
            return fail_node(cx, r, "input: is not number %u of the graph's list of inputs", k);
        k++;
    }
    if (k != g->ninput)
        return FAIL(cx, INTERNAL, "verify: %u inputs, %u in the list", k, g->ninput);
    return ST_OK;
}

static Status verify_regions(Ctx *cx, const Graph *g)
{
    for (uint32_t i = 1; i < g->nregion; i++)
        if (!g->region[i].kind || !graph_is_name(g->region[i].kind))
            return FAIL(cx, INTERNAL, "verify: region %u has no kind", i);
    return ST_OK;
}

typedef struct Named {
    const char *name;
    Ref ref;
} Named;

static int compare_named(const void *a, const void *b)
{
    const Named *x = a, *y = b;
    const int order = strcmp(x->name, y->name);
    return order ? order : x->ref < y->ref ? -1 : x->ref > y->ref;
}

static Status verify_names(Ctx *cx, const Graph *g)
{
    Arena *scratch = arena_new();
    Named *named = arena_array(scratch, Named, g->nnode);
    uint32_t n = 0;
    Status status = ST_OK;

    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].name)
            named[n++] = (Named){ g->node[r].name, r };
    qsort(named, n, sizeof *named, compare_named);
    for (uint32_t i = 1; i < n && status == ST_OK; i++)
        if (!strcmp(named[i - 1].name, named[i].name))
            status = fail_node(cx, named[i].ref, "%%%u is called %s too", named[i - 1].ref,
                               named[i].name);
    arena_free(scratch);
    return status;
}

static bool is_replaced(const Graph *g, Ref input, uint32_t but)
{
    for (uint32_t i = 0; i < g->nout; i++)
        if (i != but && g->out[i].replaces == input)
            return true;
    return false;
}

static Status verify_output(Ctx *cx, const Graph *g, uint32_t i, Place where)
{
    const Output *o = &g->out[i];

    if (o->value == REF_NONE || o->value >= g->nnode || g->node[o->value].type.dt == DT_NONE)
        return fail_node(cx, o->value, "output %u is no value", i);
    if (g->node[o->value].op == OP_input && is_replaced(g, o->value, i))
        return fail_node(cx, o->value, "output %u reads %%%s, which another output replaces", i,
                         g->node[o->value].name);
    if (o->name && !graph_is_name(o->name))
        return fail_node(cx, o->value, "output %u: \"%s\" is no name", i, o->name);
    for (uint32_t k = 0; o->name && k < i; k++)
        if (g->out[k].name && !strcmp(g->out[k].name, o->name))
            return fail_node(cx, o->value, "outputs %u and %u are both called %s", k, i, o->name);
    if (o->replaces == REF_NONE)
        return ST_OK;
    if (where.depth)
        return fail_node(cx, o->value, "output %u of a body replaces an input", i);
    if (o->replaces >= g->nnode || g->node[o->replaces].op != OP_input)
        return fail_node(cx, o->value, "output %u replaces %%%u, which is no input", i,
                         o->replaces);
    const Node *in = &g->node[o->replaces];
    if (in->attr.input.kind != INPUT_param && in->attr.input.kind != INPUT_state)
        return fail_node(cx, o->value, "output %u replaces %%%s, neither a param nor a state", i,
                         in->name);
    if (!type_eq(&in->type, &g->node[o->value].type))
        return fail_node(cx, o->value, "output %u replaces %%%s: %s by %s", i, in->name,
                         type_str(&in->type), type_str(&g->node[o->value].type));
    if (is_replaced(g, o->replaces, i))
        return fail_node(cx, o->value, "%%%s is replaced twice", in->name);
    return ST_OK;
}

static Status verify_graph(Ctx *cx, const Graph *g, Place where)
{
    if (where.depth > MAX_BODIES)
        return FAIL(cx, INTERNAL, "verify: bodies are nested deeper than %d", MAX_BODIES);
    TRY(verify_regions(cx, g));
    for (Ref r = 1; r < g->nnode; r++)
        TRY(verify_node(cx, g, r, where));
    TRY(verify_inputs(cx, g));
    TRY(verify_names(cx, g));
    for (uint32_t i = 0; i < g->nout; i++)
        TRY(verify_output(cx, g, i, where));
    return ST_OK;
}

Status graph_verify(Ctx *cx, const Graph *g)
{
    return verify_graph(cx, g, (Place){ 0 });
}
