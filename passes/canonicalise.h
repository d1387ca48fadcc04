/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_PASSES_CANONICALISE_H
#define GTC_PASSES_CANONICALISE_H

#include "passes/rewrite.h"

/* What the rules of canonicalise read and build with.  A rule looks at one node whose arguments are
 * canonical, and gives a value of the same type, or REF_NONE: it does not apply. */
typedef struct Canon {
    Rewrite rw;
    bool in_scan;
    bool expanded;   /* nothing is left to differentiate */
    uint32_t region; /* of the node being rewritten */
    uint32_t *uses;  /* of values of out: how often nodes of in use what was mapped to them */
    uint32_t uses_cap;
    Status status; /* the first failure sticks, as in Builder */
} Canon;

typedef struct CanonRule {
    Op op;
    Ref (*rewrite)(Canon *c, const Node *n);
} CanonRule;

/* The families; each ends with a row of zeros, and a node meets them in this order. */
extern const CanonRule canon_arithmetic[], canon_views[], canon_matmul[];

const Node *canon_node(const Canon *c, Ref r); /* of out */
const Node *canon_arg(const Canon *c, const Node *n, int i);
bool canon_is_const(const Canon *c, Ref r, double value);
/* No other node of in reads r: work may move below it. */
bool canon_is_once(const Canon *c, Ref r);
/* True when slice n takes a contiguous part along every axis: its lo and extent say all. */
bool canon_is_part(const Node *n);

/* A node that has gone through the rules itself.  Each takes REF_NONE for an argument whose making
 * failed, and gives it back: the status says how.  A type of zeros is inferred. */
Ref canon_make(Canon *c, Op op, uint32_t nargs, const Ref *arg, Attr attr, Type type);
Ref canon_make1(Canon *c, Op op, Ref x);
Ref canon_make2(Canon *c, Op op, Ref x, Ref y);
Ref canon_const(Canon *c, double value, const Type *type);
Ref canon_reshape(Canon *c, Ref x, const Shape *shape);
Ref canon_transpose(Canon *c, Ref x, const int *perm);
Ref canon_broadcast(Canon *c, Ref x, const Shape *shape, unsigned new_axes);
/* The part of x that starts at lo with unit steps and has the given shape. */
Ref canon_part(Canon *c, Ref x, const int64_t *lo, const Shape *shape);

#endif
