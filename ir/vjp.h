/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_VJP_H
#define GTC_IR_VJP_H

#include "ir/build.h"

/* What reverse mode and the ops' gradients share; nobody else includes this.
 *
 * A Vjp differentiates part of the graph that its builder appends to: the cotangent of a value is
 * the sum of what its users gave, built only when the sweep reaches the value.  No parts: zero. */
typedef struct VjpPart {
    struct VjpPart *next; /* in the order given */
    Ref ct;
    uint32_t index; /* of the result of a tuple */
    bool box;       /* ct belongs to value[lo + i*step], else to all of the value */
    int64_t lo[MAX_RANK], step[MAX_RANK];
} VjpPart;

typedef struct Vjp {
    Builder b;
    Arena *scratch;
    uint32_t cap; /* of the arrays by Ref below; grown by vjp_reserve */
    VjpPart **part;
    bool *varied; /* depends on what is differentiated by */
    bool *pinned; /* keeps its parts: the sweep does not pass */
    Ref *again;   /* of a scan: a later node that computes the same and more, or REF_NONE */
} Vjp;

Vjp vjp_start(Ctx *cx, Graph *g, Arena *scratch);
void vjp_reserve(Vjp *v);                    /* makes room for every node of the graph */
void vjp_sweep(Vjp *v, Ref last, Ref first); /* from last down to first */

bool vjp_wants(const Vjp *v, Ref r);
void vjp_give(Vjp *v, Ref to, Ref ct);
void vjp_give_box(Vjp *v, Ref to, Ref ct, const int64_t *lo, const int64_t *step);
Ref vjp_take(Vjp *v, Ref r, uint32_t index); /* the sum of the parts; REF_NONE: zero */
Ref vjp_take_value(Vjp *v, Ref r);

uint32_t vjp_region(Graph *g, uint32_t region); /* the .bwd of a region */
Ref vjp_add_node(Vjp *v, Op op, int nargs, const Ref *arg, const Type *type, const Attr *attr);
Node vjp_node(const Vjp *v, Ref r);             /* a copy: the array moves when nodes are added */
Ref vjp_sum_axes(Vjp *v, Ref x, unsigned axes); /* sum; of a sum: one over both */
Ref vjp_zeros(Vjp *v, const Type *type);

/* Copies in to out (new, empty), where a scan that was made again stands once, in its first
 * place.  map: by Ref of in. */
Status vjp_merge(Vjp *v, const Graph *in, Graph *out, Ref *map);
uint32_t vjp_copy_region(const Graph *from, uint32_t region, Graph *to);

/* One function a gradient of ops.def.  y: the node; ct: its cotangent (of a tuple: REF_NONE). */
typedef void VjpFn(Vjp *v, Ref y, Ref ct);
#define OP(id, args, cls, flags, prec, shape, attr, grad) VjpFn vjp_##grad;
#include "ir/ops.def"

#endif
