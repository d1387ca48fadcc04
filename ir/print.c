/* SPDX-License-Identifier: Apache-2.0 */
/* The text form, written.  Inputs in front of all other nodes stand in the head, later ones on a
 * line of their own, so that the order of nodes survives; a node without a name is called by its
 * Ref, which the parser forgets. */
#include <string.h>

#include "ir/attr.h"
#include "ir/text.h"

enum { HEAD_COLUMNS = 100 };

static void print_body(const Graph *g, int depth, Strbuf *out);

static void indent(Strbuf *out, int depth)
{
    for (int i = 0; i < depth; i++)
        strbuf_add(out, "  ");
}

static void print_ref(const Graph *g, Ref r, Strbuf *out)
{
    if (g->node[r].name)
        strbuf_printf(out, "%%%s", g->node[r].name);
    else
        strbuf_printf(out, "%%%u", r);
}

static void print_region(const Graph *g, uint32_t region, Strbuf *out)
{
    const Region *r = &g->region[region];
    if (region)
        strbuf_printf(out, "  @%s.%d%s", r->kind, r->layer, r->bwd ? ".bwd" : "");
}

/* How many inputs stand in front of all other nodes. */
static uint32_t count_head(const Graph *g)
{
    uint32_t n = 0;
    while (n < g->ninput && g->input[n] == n + 1)
        n++;
    return n;
}

static void print_head(const Graph *g, int depth, Strbuf *out)
{
    Strbuf item = { 0 };
    const char *line = strrchr(strbuf_str(out), '\n');
    size_t start = line ? (size_t)(line + 1 - out->s) : 0;
    const size_t n = count_head(g);

    strbuf_putc(out, '(');
    for (size_t i = 0; i < n; i++) {
        const Node *in = &g->node[g->input[i]];
        strbuf_clear(&item);
        if (in->attr.input.kind != INPUT_batch)
            strbuf_printf(&item, "%s ", attr_input_kind(in->attr.input.kind));
        strbuf_printf(&item, "%%%s: %s", in->name, type_str(&in->type));
        print_region(g, in->region, &item);
        if (i)
            strbuf_putc(out, ',');
        if (out->n - start + item.n + 4 > HEAD_COLUMNS) {
            strbuf_putc(out, '\n');
            start = out->n;
            indent(out, depth + 2);
        } else if (i) {
            strbuf_putc(out, ' ');
        }
        strbuf_add(out, strbuf_str(&item));
    }
    strbuf_putc(out, ')');
    strbuf_free(&item);
}

static void print_node(const Graph *g, Ref r, int depth, Strbuf *out)
{
    const Node *n = &g->node[r];

    indent(out, depth);
    print_ref(g, r, out);
    strbuf_printf(out, " = %s", op_info[n->op].name);
    for (uint32_t i = 0; i < n->nargs; i++) {
        strbuf_add(out, i ? ", " : " ");
        print_ref(g, n->arg[i], out);
    }
    attr_print(n, out);
    if (n->type.dt != DT_NONE)
        strbuf_printf(out, " : %s", type_str(&n->type));
    print_region(g, n->region, out);
    if (op_info[n->op].cls == CLASS_REGION) {
        strbuf_putc(out, ' ');
        print_body(n->op == OP_scan ? n->attr.scan.body : n->attr.fusion.body, depth, out);
    }
    strbuf_putc(out, '\n');
}

static void print_return(const Graph *g, int depth, Strbuf *out)
{
    indent(out, depth);
    strbuf_add(out, "return");
    for (uint32_t i = 0; i < g->nout; i++) {
        strbuf_add(out, i ? ", " : " ");
        if (g->out[i].name)
            strbuf_printf(out, "%s: ", g->out[i].name);
        if (g->out[i].replaces != REF_NONE) {
            print_ref(g, g->out[i].replaces, out);
            strbuf_add(out, " := ");
        }
        print_ref(g, g->out[i].value, out);
    }
    strbuf_putc(out, '\n');
}

static void print_body(const Graph *g, int depth, Strbuf *out)
{
    print_head(g, depth, out);
    strbuf_add(out, " {\n");
    for (Ref r = 1 + count_head(g); r < g->nnode; r++)
        print_node(g, r, depth + 1, out);
    print_return(g, depth + 1, out);
    indent(out, depth);
    strbuf_putc(out, '}');
}

void graph_print(const Graph *g, Strbuf *out)
{
    strbuf_add(out, "graph ");
    print_body(g, 0, out);
    strbuf_putc(out, '\n');
}
