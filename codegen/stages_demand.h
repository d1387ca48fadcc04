/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_STAGES_DEMAND_H
#define GTC_CODEGEN_STAGES_DEMAND_H

#include "codegen/stages.h"

/* What stages.c (what is stored, in which order) and stages_demand.c (what one element is) share.
 */

typedef struct Binding { /* where a stored value is read from */
    bool bound, has_lead;
    uint16_t buf;
    Ix lead; /* index of the first dimension, before the value's own */
} Binding;

typedef struct Memo {
    uint32_t key[MAX_RANK + 2]; /* scope, node, point */
    ExprId e;
} Memo;

typedef struct Demand {
    Ctx *cx;
    Stages *s;
    const Graph *g[2]; /* the fusion's body, its scan's body */
    const uint8_t *stored[2];
    Binding *bind[2];
    Ref scan;        /* node of the scan in g[0] */
    uint16_t *carry; /* its carry buffers */
    Ix step;         /* index of this iteration's step in time */
    const uint8_t *flat; /* by node of g[0]: a value that is one long row (stages_flat.c) */
    bool in_parts; /* long sums of one number are made of partial ones */
    Binding *part; /* by node of g[0]: partial sums of a long flat reduction, if bound */
    uint8_t when;    /* section of the stages being made */
    Memo *memo;
    uint32_t nmemo, memo_cap;
    struct AxisKey {
        int64_t extent;
        int nth;
        bool red;
        Var v;
    } * axis;
    uint32_t naxis, axis_cap;
    Status status;
} Demand;

typedef struct Place {
    uint16_t buf;
    bool has_lead;
    Ix lead;
} Place;

/* The expression of one element of node r of g[scope]: read where r is stored, else computed. */
ExprId demand_value(Demand *d, int scope, Ref r, const Ix *at);
ExprId demand_compute(Demand *d, int scope, Ref r, const Ix *at); /* even where it is stored */
ExprId demand_read(Demand *d, const Binding *b, const Ix *at, const Shape *shape, bool flat);
/* Is node r of g[scope] one long row, so that its points have one index? */
bool demand_is_flat(const Demand *d, int scope, Ref r);

/* Axes for a shape: at[i] is the index of dimension i, axis[] the axes of extent other than 1. */
int demand_axes(Demand *d, const Shape *s, bool red, Ix *at, Var *axis);
/* The nth axis of this extent: values of equal shape share their axes, so their stages meet. */
Var demand_axis(Demand *d, int64_t extent, int nth, bool red);

/* Adds the stage that stores e, the element at[] of a value of this shape, in each place. */
void demand_root(Demand *d, int scope, Ref r, const Var *axis, int naxis, ExprId e, const Ix *at,
                 const Shape *shape, const Place *place, int nplace);
/* The stages of scatter_add r, whose sums are made in place->buf: zeros, then each item added to its
 * row, in order. */
void demand_scatter(Demand *d, int scope, Ref r, const Place *place);
/* A temporary. */
uint16_t demand_buffer(Demand *d, const char *name, const Type *t, int64_t lead, bool flat);
/* The value of reduction r over parts: a stage over axis[], reducing `red` of e. */
ExprId demand_partial(Demand *d, Ref r, const Ix *at, Var red, ExprId e);

/* stages_flat.c: by node, 1 where a value is read and written as one long row. */
uint8_t *stages_flat(Arena *arena, const Graph *g);

#endif
