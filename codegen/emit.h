/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_EMIT_H
#define GTC_CODEGEN_EMIT_H

#include "codegen/kir.h"

/* One function being spelled; emit.c has what C and CUDA C share. */
typedef struct Emit {
    const Kir *k;
    const bool *acc;
    const double **constant; /* of values that are K_CONST */
    const char **name;       /* of buffers */
    Strbuf *out;
    const char *long_suffix; /* of an i64 constant */
    int indent;
} Emit;

extern const char *const emit_value[OP_COUNT]; /* the value column of ops.def */

const char *emit_memory_suffix(DType dt);
void emit_line(Emit *e); /* the indent of a line */
/* A literal; operands are primary expressions, so a negative one has parentheses. */
void emit_constant(Emit *e, RegType reg, double x);
void emit_val(Emit *e, Val v);
void emit_vals(Emit *e, const Val *v, int n); /* with commas */
void emit_element(Emit *e, const KNode *n);   /* name[flattened index] */
void emit_guards(Emit *e, const KNode *n);    /* what the ranges of loops already say is left out */
void emit_comment_text(Strbuf *out, const char *s, size_t n);
void emit_header(Strbuf *out, const char *s); /* a comment of several lines */

/* emit_cuda_value.c: the type of a register, of an element in memory. */
const char *emit_cuda_register(RegType reg);
const char *emit_cuda_memory(DType dt);
/* What stands on the right of a node's `=`; along: threads of the innermost loop that is shared out. */
void emit_cuda_value(Emit *e, const KNode *n, int64_t along);
void emit_cuda_access(Emit *e, const KNode *n); /* K_STORE, K_LOAD4, K_STORE4: a statement */

#endif
