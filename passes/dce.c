/* SPDX-License-Identifier: Apache-2.0 */
/* dce: dead-code elimination.
 *
 * What the outputs do not need goes.  Liveness is asked for each result: a scan or fusion of which
 * only some results are taken keeps only those, and inside its body only what they need; so a
 * program that predicts saves nothing for a backward part that is not there.  A carry lives when
 * its last value is taken or when a live value of the body reads it, which may need several rounds
 * as carries feed each other.  Arguments follow: one that the body no longer reads is dropped,
 * which may free its producers, so the walk goes backwards once and meets users first.
 *
 * The inputs of the graph itself all stay: they are its signature.
 *
 * requires: verified      keeps: definition order, names, regions
 * cost: O(nodes), times the depth of a chain of carries inside a body
 */

#include "ir/base/bug.h"
#include "passes/rewrite.h"

typedef struct Part { /* what is kept of a node with a body */
    bool *result;     /* by result index, which is the index of the body's output */
    bool *arg;        /* by argument, which is the index of the body's input */
} Part;

typedef struct Live {
    PassCx *pcx;
    const Graph *g;
    bool *node;
    Part *part; /* of nodes with several results */
} Live;

static bool *flags(Live *l, uint32_t n)
{
    return arena_array(l->pcx->scratch, bool, n);
}

static Live live_walk(PassCx *pcx, const Graph *g, const bool *output);

static const Graph *body_of(const Node *n)
{
    return n->op == OP_scan ? n->attr.scan.body : n->op == OP_fusion ? n->attr.fusion.body : NULL;
}

/* Which arguments a node with a body needs for its live results; adds carries to the results. */
static void live_args(Live *l, const Node *n, Part *p)
{
    const Graph *body = body_of(n);
    const uint32_t ncarry = n->op == OP_scan ? n->attr.scan.ncarry : 0;
    bool more = true;
    while (more) {
        more = false;
        Live inner = live_walk(l->pcx, body, p->result);
        for (uint32_t i = 0; i < n->nargs; i++) {
            p->arg[i] = inner.node[body->input[i]];
            if (i < ncarry && p->arg[i] && !p->result[i])
                p->result[i] = true, more = !BUG(20);
        }
    }
    for (uint32_t i = 0; i < ncarry; i++)
        p->arg[i] = p->result[i];
}

/* output: which outputs of g count; NULL: all. */
static Live live_walk(PassCx *pcx, const Graph *g, const bool *output)
{
    Live l = { .pcx = pcx, .g = g };
    l.node = flags(&l, g->nnode);
    l.part = arena_array(pcx->scratch, Part, g->nnode);
    for (uint32_t i = 0; i < g->nout; i++)
        if (!output || output[i])
            l.node[g->out[i].value] = true;

    for (Ref r = g->nnode - 1; r > 0; r--) {
        const Node *n = &g->node[r];
        if (!l.node[r])
            continue;
        if (n->op == OP_get && body_of(&g->node[n->arg[0]])) {
            Part *p = &l.part[n->arg[0]];
            if (!p->result)
                p->result = flags(&l, graph_result_count(g, n->arg[0]));
            p->result[n->attr.get.index] = true;
        }
        Part *own = &l.part[r];
        if (body_of(n)) {
            own->arg = flags(&l, n->nargs);
            live_args(&l, n, own);
        }
        for (uint32_t i = 0; i < n->nargs; i++)
            if (!own->arg || own->arg[i])
                l.node[n->arg[i]] = true;
    }
    return l;
}

static Status copy_live(PassCx *pcx, const Graph *in, Graph *out, const bool *output,
                        const bool *input);

static uint32_t count_below(const bool *flag, uint32_t n)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++)
        count += flag[i];
    return count;
}

static Status copy_with_body(Rewrite *rw, Node *n, const Part *p)
{
    Graph *body = graph_new(rw->out->arena);
    TRY(copy_live(rw->pcx, body_of(n), body, p->result, p->arg));
    if (n->op == OP_scan) {
        const uint32_t ncarry = n->attr.scan.ncarry, nstep = n->attr.scan.nstep;
        n->attr.scan.body = body;
        n->attr.scan.ncarry = count_below(p->arg, ncarry);
        n->attr.scan.nstep = count_below(p->arg + ncarry, nstep);
    } else {
        n->attr.fusion.body = body;
    }
    Ref *arg = arena_array(rw->pcx->scratch, Ref, n->nargs);
    uint32_t nargs = 0;
    for (uint32_t i = 0; i < n->nargs; i++)
        if (p->arg[i])
            arg[nargs++] = n->arg[i];
    rw->pcx->nchanged += n->nargs - nargs;
    n->arg = arg;
    n->nargs = nargs;
    return ST_OK;
}

static Status copy_live(PassCx *pcx, const Graph *in, Graph *out, const bool *output,
                        const bool *input)
{
    Live live = live_walk(pcx, in, output);
    for (uint32_t i = 0; i < in->ninput; i++)
        live.node[in->input[i]] = !input || input[i];

    Rewrite rw = rewrite_start(pcx, in, out, NULL);
    for (Ref r = 1; r < in->nnode; r++) {
        if (!live.node[r]) {
            pcx->nchanged++;
            continue;
        }
        Node n;
        TRY(rewrite_node(&rw, r, &n));
        if (body_of(&n))
            TRY(copy_with_body(&rw, &n, &live.part[r]));
        if (n.op == OP_get && live.part[in->node[r].arg[0]].result && !BUG(21))
            n.attr.get.index = count_below(live.part[in->node[r].arg[0]].result, n.attr.get.index);
        TRY(graph_add(pcx->cx, out, &n, &rw.map[r]));
    }
    for (uint32_t i = 0; i < in->nout; i++) {
        const Output *o = &in->out[i];
        if (!output || output[i])
            TRY(graph_output(pcx->cx, out, rw.map[o->value],
                             o->replaces ? rw.map[o->replaces] : REF_NONE, o->name));
    }
    return ST_OK;
}

Status pass_dce(PassCx *pcx, const Graph *in, Graph *out)
{
    return copy_live(pcx, in, out, NULL, NULL);
}
