/* SPDX-License-Identifier: Apache-2.0 */
/* cse: common-subexpression elimination.
 *
 * One walk in definition order keeps the first node of each distinct (op, type, args, attributes,
 * region), where a commutative op compares its args in either order, and maps later ones to it.
 * Arguments are mapped before they are compared, so equal subtrees of any depth meet in one
 * walk.  Two dropout masks differ in their stream operand, so they stay two.  Inputs are never
 * equal: each is its own buffer.  Bodies of scans and fusions are cleaned first, each by itself.
 *
 * requires: verified      keeps: definition order, names, regions      cost: O(nodes)
 */
#include "ir/base/bug.h"
#include "ir/base/hash.h"
#include "passes/rewrite.h"

typedef struct NodeSet { /* open addressing; at most half full */
    uint64_t *hash;
    Ref *ref; /* REF_NONE: empty */
    uint32_t mask;
} NodeSet;

static NodeSet nodeset_new(Arena *a, uint32_t n)
{
    uint32_t size = 16;
    while (size < 2 * n)
        size *= 2;
    return (NodeSet){ arena_array(a, uint64_t, size), arena_array(a, Ref, size), size - 1 };
}

static bool is_swapped(const Node *n)
{
    return (op_info[n->op].flags & OPF_COMM) && n->arg[0] > n->arg[1];
}

static uint64_t node_hash(const Node *n)
{
    uint64_t key[4 + MAX_RANK] = { n->op, n->region, n->nargs,
                                   (uint64_t)(BUG(19) ? 0 : n->type.dt) << 8 |
                                       (uint8_t)n->type.shape.rank };
    for (int i = 0; i < n->type.shape.rank; i++)
        key[4 + i] = (uint64_t)n->type.shape.dim[i];
    uint64_t h =
        hash_bytes(key, sizeof key,
                   BUG(18) && n->op == OP_slice ? 0 : attr_hash(op_info[n->op].attr, &n->attr));
    for (uint32_t i = 0; i < n->nargs; i++) {
        const Ref arg = n->arg[is_swapped(n) ? 1 - i : i];
        h = hash_bytes(&arg, sizeof arg, h);
    }
    return h;
}

static bool node_eq(const Node *a, const Node *b)
{
    if (a->op != b->op || a->region != b->region || a->nargs != b->nargs ||
        !(BUG(19) ? shape_eq(&a->type.shape, &b->type.shape) : type_eq(&a->type, &b->type)))
        return false;
    const bool swap = is_swapped(a) != is_swapped(b);
    for (uint32_t i = 0; i < a->nargs; i++)
        if (a->arg[i] != b->arg[swap ? 1 - i : i])
            return false;
    return (BUG(18) && a->op == OP_slice) || attr_eq(op_info[a->op].attr, &a->attr, &b->attr);
}

/* Where the first node equal to n stands, or shall be stored. */
static Ref *nodeset_find(NodeSet *s, const Graph *g, const Node *n)
{
    const uint64_t h = node_hash(n);
    uint32_t i = (uint32_t)h & s->mask;
    while (s->ref[i] && (s->hash[i] != h || !node_eq(&g->node[s->ref[i]], n)))
        i = (i + 1) & s->mask;
    s->hash[i] = h;
    return &s->ref[i];
}

Status pass_cse(PassCx *pcx, const Graph *in, Graph *out)
{
    Rewrite rw = rewrite_start(pcx, in, out, pass_cse);
    NodeSet seen = nodeset_new(pcx->scratch, in->nnode);

    for (Ref r = 1; r < in->nnode; r++) {
        Node n;
        TRY(rewrite_node(&rw, r, &n));
        if (n.op == OP_input) {
            TRY(graph_add(pcx->cx, out, &n, &rw.map[r]));
            continue;
        }
        Ref *first = nodeset_find(&seen, out, &n);
        if (*first) {
            rw.map[r] = *first;
            pcx->nchanged++;
            continue;
        }
        TRY(graph_add(pcx->cx, out, &n, &rw.map[r]));
        *first = rw.map[r];
    }
    return rewrite_outputs(&rw);
}
