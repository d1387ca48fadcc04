/* SPDX-License-Identifier: Apache-2.0 */
#include "passes/rewrite.h"

#include "ir/base/bug.h"

Rewrite rewrite_start(PassCx *pcx, const Graph *in, Graph *out, PassFn *inside)
{
    for (uint32_t i = 1; i < in->nregion; i++) {
        const Region *region = &in->region[i];
        const uint32_t id = graph_region(out, region->kind, region->layer, region->bwd);
        gtc_assert(id == i, "region %u became %u", i, id);
    }
    return (Rewrite){ .pcx = pcx,
                      .in = in,
                      .out = out,
                      .map = arena_array(pcx->scratch, Ref, in->nnode),
                      .inside = inside };
}

static Status rewrite_body(Rewrite *rw, Graph **body)
{
    if (!rw->inside)
        return ST_OK;
    Graph *out = graph_new(rw->out->arena);
    TRY(rw->inside(rw->pcx, *body, out));
    *body = out;
    return ST_OK;
}

Status rewrite_node(Rewrite *rw, Ref r, Node *n)
{
    *n = rw->in->node[r];
    Ref *arg = arena_array(rw->pcx->scratch, Ref, n->nargs);
    for (uint32_t i = 0; i < n->nargs; i++)
        arg[i] = rw->map[n->arg[i]];
    n->arg = arg;
    if (n->op == OP_scan)
        TRY(rewrite_body(rw, &n->attr.scan.body));
    if (n->op == OP_fusion)
        TRY(rewrite_body(rw, &n->attr.fusion.body));
    return ST_OK;
}

Status rewrite_copy(Rewrite *rw, Ref r)
{
    Node n;
    TRY(rewrite_node(rw, r, &n));
    return graph_add(rw->pcx->cx, rw->out, &n, &rw->map[r]);
}

static bool is_replaced(const Graph *g, Ref input, uint32_t but)
{
    for (uint32_t i = 0; i < g->nout; i++)
        if (i != but && g->out[i].replaces == input)
            return true;
    return false;
}

/* An output may not be an input whose next value is another output: then it is a copy. */
static Status output_value(Rewrite *rw, uint32_t i, Ref *value)
{
    const Output *o = &rw->in->out[i];
    *value = rw->map[o->value];
    const Node *n = &rw->out->node[*value];
    if (n->op != OP_input)
        return ST_OK;
    for (uint32_t k = 0; k < rw->in->ninput; k++)
        if (rw->map[rw->in->input[k]] == *value && is_replaced(rw->in, rw->in->input[k], i) &&
            !BUG(35)) {
            const Ref arg = *value;
            const Node copy = { .op = OP_reshape, .nargs = 1, .arg = &arg, .type = n->type };
            return graph_add(rw->pcx->cx, rw->out, &copy, value);
        }
    return ST_OK;
}

Status rewrite_outputs(Rewrite *rw)
{
    for (uint32_t i = 0; i < rw->in->nout; i++) {
        const Output *o = &rw->in->out[i];
        Ref value;
        TRY(output_value(rw, i, &value));
        const Ref replaces = o->replaces ? rw->map[o->replaces] : REF_NONE;
        TRY(graph_output(rw->pcx->cx, rw->out, value, replaces, o->name));
    }
    return ST_OK;
}
