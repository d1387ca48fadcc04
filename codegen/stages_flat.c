/* SPDX-License-Identifier: Apache-2.0 */
/* Which values of a fusion body are one long row.
 *
 * Where only elementwise ops stand between tensors, their shape does not matter: one loop over all
 * elements has no short inner loops and one tail.  That holds for a component of the body, tensors
 * joined by the ops that keep the linear index: elementwise, random, reshape, a single number
 * repeated; and for a reduction of all of it to one number.  One reader or maker that needs real
 * indices, and the component keeps its axes.  A body may hold many components of different shapes:
 * the update of each parameter is one. */
#include "codegen/stages_demand.h"

typedef struct Flat {
    const Graph *g;
    Ref *joined;     /* union-find: a smaller node of the component, or itself */
    uint8_t *no;     /* by root: needs its axes */
    uint8_t *higher; /* by root: has more than one axis */
} Flat;

static Ref root_of(const Flat *f, Ref r)
{
    while (f->joined[r] != r)
        r = f->joined[r] = f->joined[f->joined[r]];
    return r;
}

static void join(Flat *f, Ref a, Ref b)
{
    a = root_of(f, a);
    b = root_of(f, b);
    const Ref first = a < b ? a : b, other = a < b ? b : a;
    f->joined[other] = first;
    f->no[first] |= f->no[other];
    f->higher[first] |= f->higher[other];
}

static int rank_of(const Flat *f, Ref r)
{
    return f->g->node[r].type.shape.rank;
}

/* Node r and its arguments meet element by element, in linear order. */
static bool keeps_order(const Flat *f, const Node *n)
{
    if (n->op == OP_broadcast)
        return rank_of(f, n->arg[0]) == 0;
    if (n->op == OP_reshape)
        return rank_of(f, n->arg[0]) > 0;
    return op_info[n->op].cls == CLASS_ELEMENTWISE || n->op == OP_rand || n->op == OP_const ||
           n->op == OP_input;
}

static bool takes_all(const Node *n, int rank)
{
    return (n->op == OP_sum || n->op == OP_amax || n->op == OP_amin) &&
           n->attr.axes.mask == (1u << rank) - 1;
}

uint8_t *stages_flat(Arena *arena, const Graph *g)
{
    Flat f = { .g = g,
               .joined = arena_array(arena, Ref, g->nnode),
               .no = arena_array(arena, uint8_t, g->nnode),
               .higher = arena_array(arena, uint8_t, g->nnode) };
    for (Ref r = 1; r < g->nnode; r++) {
        const Node *n = &g->node[r];
        const int rank = rank_of(&f, r);
        f.joined[r] = r;
        f.higher[r] = rank > 1;
        f.no[r] = n->type.dt == DT_NONE || shape_count(&n->type.shape) <= 1 ||
                  (rank > 0 && !keeps_order(&f, n));
        for (uint32_t i = 0; i < n->nargs; i++) {
            if (rank_of(&f, n->arg[i]) == 0)
                continue;
            if (rank > 0 && keeps_order(&f, n))
                join(&f, r, n->arg[i]);
            else if (rank > 0 || !takes_all(n, rank_of(&f, n->arg[i])))
                f.no[root_of(&f, n->arg[i])] = 1;
        }
    }
    uint8_t *flat = arena_array(arena, uint8_t, g->nnode);
    for (Ref r = 1; r < g->nnode; r++)
        flat[r] = rank_of(&f, r) > 0 && f.higher[root_of(&f, r)] && !f.no[root_of(&f, r)];
    return flat;
}
