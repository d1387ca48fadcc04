/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_OP_SCAN_GRAD_H
#define GTC_IR_OP_SCAN_GRAD_H

#include "ir/vjp.h"

/* The gradient of one scan, in the making: op_scan_grad.c plans, op_scan_emit.c builds.
 *
 * `joint` is the body with its own gradient appended: nodes that depend on a cotangent that comes
 * in (a seed) belong to the backward body, all others are values of the forward step. */
typedef enum Role {
    ROLE_TAINTED = 1,  /* depends on a seed */
    ROLE_VARIANT = 2,  /* changes from step to step */
    ROLE_NEEDED = 4,   /* the backward body reads it */
    ROLE_SAVED = 8,    /* the forward scan returns it for each step */
    ROLE_STACKED = 16, /* for each step, wanted after the scan (products that left the loop) */
    ROLE_OUTSIDE = 32, /* the same in every step and not cheap: computed once, outside */
    ROLE_REDONE = 64,  /* a forward value that the backward body computes again */
} Role;

typedef struct Term { /* what one use gives to a value that all steps share, or to a step's input */
    Ref to, ct;       /* in joint */
    bool outside;     /* summed after the scan, else in an accumulator */
} Term;

typedef struct ScanGrad {
    Vjp *outer;
    Ref self; /* the scan, in outer's graph */
    Node n;   /* its node, of the latest version */
    const Graph *body;
    Arena *scratch;
    Graph *joint;
    uint8_t *role; /* by Ref of joint */
    uint32_t ncarry, nstep, nin, ny;
    bool *active;             /* [ncarry] has a cotangent */
    Ref *in;                  /* [nin] the body's inputs in joint */
    Ref *carry_seed, *y_seed; /* [ncarry] [ny] inputs of joint, or REF_NONE */
    Ref *carry_ct, *y_ct;     /* the same outside: [ncarry] may be REF_NONE */
    Ref *carry_out;           /* [ncarry] what goes on to the step before, or none */
    Ref *step_out;            /* [nstep] of a step's input, when not by terms */
    Term *term;               /* what leaves the loop, and what is accumulated */
    uint32_t nterm, term_cap;
    /* filled while it is built */
    Ref *stack;       /* by Ref of joint: the tensor of all steps, outside */
    Ref *once;        /* by Ref of joint: the value outside, of what no step changes */
    uint32_t *result; /* by Ref of joint: which result of the forward scan, + 1 */
} ScanGrad;

void scan_grad_emit(ScanGrad *s);

#endif
