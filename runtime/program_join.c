/* SPDX-License-Identifier: Apache-2.0 */
/* program_join: two fused graphs become one, of which the first makes batch inputs of the second.
 *
 * Both have been through the passes by themselves, and their fusions are taken over as they are: a
 * kernel of the second graph has the same text, and gives the same bits, whether its batch was
 * made on the device or brought there.  What the first one makes is a value like others, whose
 * memory is planned and free again once it is read. */
#include "runtime/program.h"

#include <string.h>

typedef struct Join {
    Ctx *cx;
    const Graph *feed;
    Graph *out;
    Ref *map; /* of the graph that is being taken over: its Ref -> ours */
} Join;

/* Of an input of the second graph that the first one makes: there, else REF_NONE. */
static Ref fed_by(const Join *j, const Node *n)
{
    if (n->op != OP_input || n->attr.input.kind != INPUT_batch)
        return REF_NONE;
    for (uint32_t i = 0; i < j->feed->nout; i++)
        if (j->feed->out[i].name && strcmp(j->feed->out[i].name, n->name) == 0)
            return j->feed->out[i].value;
    return REF_NONE;
}

static Status add_node(Join *j, const Graph *g, Ref r)
{
    Node n = g->node[r];
    Ref *arg = arena_array(j->out->arena, Ref, n.nargs);
    for (uint32_t i = 0; i < n.nargs; i++)
        arg[i] = j->map[n.arg[i]];
    n.arg = arg;
    if (n.region) {
        const Region *region = &g->region[n.region];
        n.region = graph_region(j->out, region->kind, region->layer, region->bwd);
    }
    return graph_add(j->cx, j->out, &n, &j->map[r]);
}

static Status add_nodes(Join *j, const Graph *g, bool inputs)
{
    for (Ref r = 1; r < g->nnode; r++)
        if ((g->node[r].op == OP_input) == inputs && j->map[r] == REF_NONE)
            TRY(add_node(j, g, r));
    return ST_OK;
}

static Status check_fed(const Join *j, const Graph *g)
{
    for (uint32_t i = 0; i < j->feed->nout; i++) {
        const char *name = j->feed->out[i].name;
        const Ref to = name ? graph_find_input(g, name) : REF_NONE;
        const Type t = graph_result_type(j->feed, j->feed->out[i].value, 0);
        if (to == REF_NONE || g->node[to].attr.input.kind != INPUT_batch)
            return FAIL(j->cx, VALUE, "no batch input %s is there to be fed", name ? name : "\"\"");
        if (!type_eq(&t, &g->node[to].type))
            return FAIL(j->cx, TYPE, "the input %s is %s and is fed with %s", name,
                        type_str(&g->node[to].type), type_str(&t));
    }
    return ST_OK;
}

Status program_join(Ctx *cx, Arena *arena, const Graph *feed, const Graph *g, const Graph **out)
{
    Graph *both = graph_new(arena);
    Join j = { .cx = cx, .feed = feed, .out = both };
    Ref *of_feed = arena_array(arena, Ref, feed->nnode), *of_g = arena_array(arena, Ref, g->nnode);
    TRY(check_fed(&j, g));
    j.map = of_feed;
    TRY(add_nodes(&j, feed, true));
    j.map = of_g;
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == OP_input && fed_by(&j, &g->node[r]) == REF_NONE)
            TRY(add_node(&j, g, r));
    j.map = of_feed;
    TRY(add_nodes(&j, feed, false));
    j.map = of_g;
    for (Ref r = 1; r < g->nnode; r++) {
        const Ref fed = fed_by(&j, &g->node[r]);
        if (fed != REF_NONE)
            of_g[r] = of_feed[fed];
    }
    TRY(add_nodes(&j, g, false));
    for (uint32_t i = 0; i < g->nout; i++) {
        const Output *o = &g->out[i];
        TRY(graph_output(cx, both, of_g[o->value], o->replaces ? of_g[o->replaces] : REF_NONE,
                         o->name));
    }
    *out = both;
    return ST_OK;
}
