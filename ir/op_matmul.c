/* SPDX-License-Identifier: Apache-2.0 */
/* matmul: a contraction over any pairs of axes, with batch pairs.
 *
 * The evaluator flattens the axes to (batch, m, k) x (batch, k, n) by one table of offsets for each
 * flattened axis of each operand. */
#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/os.h"
#include "ir/eval_op.h"
#include "ir/vjp.h"

typedef struct Offsets { /* of a flattened group of axes */
    int64_t *at, n;
} Offsets;

static Offsets offsets_of(Arena *arena, const Value *v, int naxis, const uint8_t *axis)
{
    Offsets o = { .n = 1 };
    for (int i = 0; i < naxis; i++)
        o.n *= v->type.shape.dim[axis[i]];
    o.at = arena_array(arena, int64_t, o.n);
    if (o.n == 0)
        return o;
    int64_t done = 1;
    for (int i = naxis - 1; i >= 0; i--) { /* repeat what stands there, moved by one stride */
        const int64_t dim = v->type.shape.dim[axis[i]], stride = v->stride[axis[i]];
        for (int64_t d = 1; d < dim; d++)
            for (int64_t k = 0; k < done; k++)
                o.at[d * done + k] = o.at[k] + d * stride;
        done *= dim;
    }
    return o;
}

static int rest_axes(int rank, int nover, const uint8_t *over, int nbatch, const uint8_t *batch,
                     uint8_t *rest)
{
    unsigned used = 0;
    for (int i = 0; i < nover; i++)
        used |= 1u << over[i];
    for (int i = 0; i < nbatch; i++)
        used |= 1u << batch[i];
    int n = 0;
    for (int i = 0; i < rank; i++)
        if (!(used >> i & 1))
            rest[n++] = (uint8_t)i;
    return n;
}

Status eval_matmul(const Eval *e, const Node *n, const Value *arg, Value *out)
{
    const int nover = n->attr.contract.nover, nbatch = n->attr.contract.nbatch;
    const uint8_t *over_a = n->attr.contract.over_a, *over_b = n->attr.contract.over_b;
    const uint8_t *batch_a = n->attr.contract.batch_a, *batch_b = n->attr.contract.batch_b;
    const Value *a = &arg[0], *b = &arg[1];
    TRY(value_new(e, &n->type, out));
    value_fill(out, 0);
    if (shape_count(&n->type.shape) == 0)
        return ST_OK;

    uint8_t rest_a[MAX_RANK], rest_b[MAX_RANK];
    const int na = rest_axes(a->type.shape.rank, nover, over_a, nbatch, batch_a, rest_a);
    const int nb = rest_axes(b->type.shape.rank, nover, over_b, nbatch, batch_b, rest_b);
    Arena *arena = arena_new();
    const Offsets a_batch = offsets_of(arena, a, nbatch, batch_a);
    const Offsets b_batch = offsets_of(arena, b, nbatch, batch_b);
    const Offsets a_m = offsets_of(arena, a, na, rest_a), a_k = offsets_of(arena, a, nover, over_a);
    const Offsets b_k = offsets_of(arena, b, nover, over_b), b_n = offsets_of(arena, b, nb, rest_b);
    const EvalProduct p = { .batch = a_batch.n, .m = a_m.n, .k = a_k.n, .n = b_n.n,
                            .a_batch = a_batch.at, .a_m = a_m.at, .a_k = a_k.at,
                            .b_batch = b_batch.at, .b_k = b_k.at, .b_n = b_n.at };
    eval_product(&p, out->at, a->at, b->at);
    arena_free(arena);
    return ST_OK;
}

/* Gradient.
 *
 * y has the axes (batch, rest of a, rest of b).  da sums ct * b over the rest of b, and its axes
 * come out as (batch, rest of a, over) with ct as the first operand or (batch, over, rest of a)
 * with b first; whichever stands in a's own order needs no transpose.  db likewise. */

typedef struct Side { /* the axes of one operand */
    uint8_t batch[4], over[4], rest[MAX_RANK];
    int nrest;
} Side;

static Side side_of(const Node *n, int of, int rank)
{
    Side s = { 0 };
    const uint8_t *over = of == 0 ? n->attr.contract.over_a : n->attr.contract.over_b;
    const uint8_t *batch = of == 0 ? n->attr.contract.batch_a : n->attr.contract.batch_b;
    memcpy(s.over, over, sizeof s.over);
    memcpy(s.batch, batch, sizeof s.batch);
    s.nrest = rest_axes(rank, n->attr.contract.nover, over, n->attr.contract.nbatch, batch, s.rest);
    return s;
}

/* to[k]: the axis of the operand at which axis k of the product stands.  The over axes come in the
 * other operand's order of axes. */
static void result_axes(const Node *n, const Side *own, const Side *z, bool ct_first, int *to)
{
    const int nover = n->attr.contract.nover, nbatch = n->attr.contract.nbatch;
    int k = 0, over[4];
    for (int i = 0; i < nover; i++) { /* sort the pairs by z's axis */
        int at = i;
        for (; at > 0 && z->over[over[at - 1]] > z->over[i]; at--)
            over[at] = over[at - 1];
        over[at] = i;
    }
    for (int i = 0; i < nbatch; i++)
        to[k++] = own->batch[i];
    for (int i = 0; i < own->nrest && ct_first; i++)
        to[k++] = own->rest[i];
    for (int i = 0; i < nover; i++)
        to[k++] = own->over[over[i]];
    for (int i = 0; i < own->nrest && !ct_first; i++)
        to[k++] = own->rest[i];
}

static bool is_identity(const int *to, int rank)
{
    for (int i = 0; i < rank; i++)
        if (to[i] != i)
            return false;
    return true;
}

/* A product sums over four axes at most: z's own ones become one, behind its others, and in ct. */
static void merge_rest(Vjp *v, const Node *n, Side *z, Ref *z_ref, int z_at, Ref *ct)
{
    const Shape from = build_type(&v->b, *z_ref).shape, of = build_type(&v->b, *ct).shape;
    const int nbatch = n->attr.contract.nbatch, nothers = nbatch + n->attr.contract.nover;
    Shape merged = { 0 }, flat = { 0 };
    int perm[MAX_RANK] = { 0 };
    int64_t count = 1;
    for (int i = 0; i < nothers; i++) {
        uint8_t *axis = i < nbatch ? &z->batch[i] : &z->over[i - nbatch];
        merged.dim[merged.rank++] = from.dim[*axis];
        perm[i] = *axis;
        *axis = (uint8_t)i;
    }
    for (int i = 0; i < z->nrest; i++) {
        perm[nothers + i] = z->rest[i];
        count *= from.dim[z->rest[i]];
    }
    merged.dim[merged.rank++] = count;
    for (int i = 0; i < of.rank; i++)
        if (i <= z_at || i >= z_at + z->nrest)
            flat.dim[flat.rank++] = i == z_at ? count : of.dim[i];
    *z_ref = build_reshape(&v->b, build_transpose(&v->b, *z_ref, perm), merged);
    *ct = build_reshape(&v->b, *ct, flat);
    z->rest[0] = (uint8_t)nothers;
    z->nrest = 1;
}

/* To operand `of` (0: a, 1: b); z is the other one. */
static void give_operand(Vjp *v, const Node *n, int of, Ref ct)
{
    const Ref own_ref = n->arg[of];
    Ref z_ref = n->arg[1 - of];
    if (!vjp_wants(v, own_ref))
        return;
    const int rank = build_type(&v->b, own_ref).shape.rank, nbatch = n->attr.contract.nbatch;
    const Side own = side_of(n, of, rank);
    Side z = side_of(n, 1 - of, build_type(&v->b, z_ref).shape.rank);
    const int z_at = nbatch + (of == 0 ? own.nrest : 0); /* z's rest in ct */
    if (z.nrest > 4)
        merge_rest(v, n, &z, &z_ref, z_at, &ct);
    int to[MAX_RANK];
    result_axes(n, &own, &z, true, to);
    const bool ct_first = is_identity(to, rank);
    if (!ct_first)
        result_axes(n, &own, &z, false, to);

    uint8_t ct_over[4] = { 0 }, ct_batch[4] = { 0 };
    for (int i = 0; i < z.nrest; i++)
        ct_over[i] = (uint8_t)(z_at + i);
    for (int i = 0; i < nbatch; i++)
        ct_batch[i] = (uint8_t)i;
    Attr a = { .contract = { .nover = (uint8_t)z.nrest, .nbatch = (uint8_t)nbatch } };
    memcpy(ct_first ? a.contract.over_a : a.contract.over_b, ct_over, 4);
    memcpy(ct_first ? a.contract.over_b : a.contract.over_a, z.rest, 4);
    memcpy(ct_first ? a.contract.batch_a : a.contract.batch_b, ct_batch, 4);
    memcpy(ct_first ? a.contract.batch_b : a.contract.batch_a, z.batch, 4);
    const Ref first = ct_first ? ct : z_ref, second = ct_first ? z_ref : ct;
    Ref d = vjp_add_node(v, OP_matmul, 2, (const Ref[]){ first, second }, NULL, &a);
    if (!is_identity(to, rank)) {
        int perm[MAX_RANK] = { 0 };
        for (int k = 0; k < rank; k++)
            perm[BUG(10) ? k : to[k]] = BUG(10) ? to[k] : k;
        d = build_transpose(&v->b, d, perm);
    }
    vjp_give(v, own_ref, d);
}

void vjp_matmul(Vjp *v, Ref y, Ref ct)
{
    const Node n = vjp_node(v, y);
    give_operand(v, &n, 0, ct);
    give_operand(v, &n, 1, ct);
}
