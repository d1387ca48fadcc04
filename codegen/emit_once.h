/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_CODEGEN_EMIT_ONCE_H
#define GTC_CODEGEN_EMIT_ONCE_H

#include "codegen/kir.h"

/* A team loop of a kernel, as text that does not say which tensors it is about. */
typedef struct Piece {
    const char *text; /* canonical */
    BufId *buf;       /* what it calls b0, b1 .. */
    Val *val;         /* what it takes from outside, in the order in which it is met .. */
    uint32_t *number; /* .. and what it calls that: v1 .. */
    uint32_t nbuf, buf_cap, nval, val_cap, number_cap;
    int first, uses; /* the first piece like it; of the first: how many there are */
} Piece;

/* Of a team loop that was spelled as text; buffer: names of buffers there. */
Piece emit_piece(const Kir *k, const char *const *buffer, const KNode *loop, const char *text);
/* Fills in first and uses. */
void emit_match(const Kir *k, Piece *piece, int n);

#endif
