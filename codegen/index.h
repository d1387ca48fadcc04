/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_INDEX_H
#define GTC_CODEGEN_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "ir/base/arena.h"
#include "ir/base/strbuf.h"

/* Index expressions: affine sums  c + sum coef * atom,  where an atom is a variable, floor(ix / n)
 * or ix mod n (n > 0).  Hash-consed: equal expressions have equal ids.  A variable counts from 0
 * by 1 to its count - 1, fixed when it is made, so every expression knows its range, and
 * divisions that the ranges decide are gone as soon as they are written:
 *     (16*i + l) / 16  is  i       for 0 <= l < 16. */
typedef uint32_t Ix;  /* 0 is the constant 0 */
typedef uint16_t Var; /* 0 is none */
typedef struct IxPool IxPool;
typedef struct IxRange {
    int64_t lo, hi;
} IxRange; /* inclusive; lo > hi: a variable of count 0 */

IxPool *ix_pool_new(Arena *arena);

/* name: an identifier (copied); made unique by a number if it is taken. */
Var ix_var_new(IxPool *p, const char *name, int64_t count);
int64_t ix_var_count(const IxPool *p, Var v);
const char *ix_var_name(const IxPool *p, Var v);
bool ix_name_taken(const IxPool *p, const char *name); /* by a variable, or by the emitter */

Ix ix_const(IxPool *p, int64_t c);
Ix ix_var(IxPool *p, Var v);
Ix ix_add(IxPool *p, Ix a, Ix b);
Ix ix_sub(IxPool *p, Ix a, Ix b);
Ix ix_scale(IxPool *p, Ix a, int64_t k);
Ix ix_shift(IxPool *p, Ix a, int64_t c); /* a + c */
Ix ix_div(IxPool *p, Ix a, int64_t n);   /* floor */
Ix ix_mod(IxPool *p, Ix a, int64_t n);   /* in [0, n) */

IxRange ix_range(const IxPool *p, Ix a);
bool ix_is_const(const IxPool *p, Ix a, int64_t *c);
bool ix_is_var(const IxPool *p, Ix a,
               Var *v);                     /* exactly one variable, coefficient 1, no constant */
bool ix_uses(const IxPool *p, Ix a, Var v); /* also inside divisions */
/* Coefficient of v; *linear false when v also stands inside a division. */
int64_t ix_coef(const IxPool *p, Ix a, Var v, bool *linear);
/* Calls f for each distinct variable, in order of Var. */
void ix_vars(const IxPool *p, Ix a, void (*f)(void *arg, Var v), void *arg);

/* Replaces variables: map[v] is the new expression, or IX_KEEP; v >= nmap is kept. */
#define IX_KEEP UINT32_MAX
Ix ix_subst(IxPool *p, Ix a, const Ix *map, unsigned nmap);

/* Range of a when the range of some variables is narrower (inside a guard): rng[v], v < nrng,
 * where lo > INT64_MIN overrides. */
IxRange ix_range_in(const IxPool *p, Ix a, const IxRange *rng, unsigned nrng);

/* A condition lo <= ix < hi. */
typedef struct Guard {
    Ix ix;
    int64_t lo, hi;
} Guard;

/* The same where also all guards hold: an expression is as near to a guard's as their difference
 * is narrow.  Also inside divisions. */
IxRange ix_range_guarded(IxPool *p, Ix a, const IxRange *rng, unsigned nrng, const Guard *g,
                         unsigned nguard);

/* The same condition on what is divided, when g is about a multiple of one quotient:
 * 0 <= m + x / n - 1 < k holds where n <= n*m + x < n*(k + 1) does.  False: it is about something
 * else. */
bool ix_guard_undivided(IxPool *p, const Guard *g, Guard *out);

void ix_print(const IxPool *p, Ix a,
              Strbuf *out); /* as C: "16*i+l", "(i+3)/4", "(i%4)": all >= 0 under / and % */

#endif
