/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_KIR_VERIFY_H
#define GTC_CODEGEN_KIR_VERIFY_H

#include "codegen/kir.h"

/* What the walk over a kernel (kir_verify.c) writes down for the comparison of its accesses
 * (kir_race.c); nobody else includes this. */
enum { MAX_SHARED = 24 }; /* loops around an access that are shared out */

typedef struct Along { /* one index of an access, as a function of one loop's variable */
    IxRange rest;      /* index - coef * variable; the lanes not included */
    int64_t coef;
    bool linear;
} Along;

typedef struct Place { /* one index of an access */
    IxRange range;     /* under the guards; the lanes included */
    Along *along;      /* by the loops that are shared out */
} Place;

typedef struct Access {
    const KNode *node;
    const KNode *const *par; /* the loops around it that are shared out: nteam over the team, then
                                those over the threads of a block */
    const IxRange *at;       /* of their variables, under the guards */
    int npar, nteam;
    const KNode *team;  /* par[0], or NULL: every thread */
    const KNode *outer; /* the outermost loop around it that is none */
    const KNode *inner; /* the outermost loop inside team, or outer */
    const KNode *last;  /* the K_LAST that it is in, or NULL */
    uint32_t seq, segment, sync;
    int again, turn; /* in a second walk: of loops around it, of the outermost inside team */
    bool write;
    Place dim[MAX_RANK];
} Access;

typedef struct Accesses {
    Ctx *cx;
    const Kir *k;
    IxPool *pool;
    Access *access;
    uint32_t naccess, access_cap;
} Accesses;

#define REFUSE(v, ...) FAIL((v)->cx, INTERNAL, "kernel: " __VA_ARGS__)

/* No two threads meet at an element without a barrier or sync between, one of them writing; what is
 * read was written; buffers lie in their workspaces, and apart. */
Status kir_verify_accesses(const Accesses *v);
Status kir_verify_buffers(const Accesses *v);

enum { MAX_VARS = 64 };
typedef struct Vars {
    Var v[MAX_VARS];
    int n;
} Vars;
Vars kir_vars_of(const IxPool *p, Ix a);
const char *kir_ix_text(const Kir *k, Ix a); /* for messages */

#endif
