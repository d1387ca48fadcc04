/* SPDX-License-Identifier: Apache-2.0 */
/* call: which library, if any, does what a fusion does. */
#include "runtime/call.h"

#include <stdio.h>

static const char *matrix_text(const CallMatrix *m, char *buf, size_t n)
{
    snprintf(buf, n, "%%%d%s", m->arg, m->transposed ? "'" : "");
    return buf;
}

static const char *matmul_text(Arena *arena, const CallMatmul *c)
{
    static const char *const finish[] = { "", ", relu", ", gelu" };
    char a[16], b[16], batch[32] = "";
    if (c->batch > 1)
        snprintf(batch, sizeof batch, "%lld x ", (long long)c->batch);
    return arena_printf(arena, "matmul %s%lld x %lld x %lld, of %s and %s%s%s%s", batch,
                        (long long)c->m, (long long)c->n, (long long)c->k,
                        matrix_text(&c->a, a, sizeof a), matrix_text(&c->b, b, sizeof b),
                        c->bias >= 0 ? ", bias" : "", c->c.arg >= 0 ? ", residual" : "",
                        finish[c->finish]);
}

const LibraryCall *call_find(Arena *arena, const Graph *body, const char **why)
{
    CallMatmul matmul;
    const char *no = call_matmul(body, &matmul);
    if (why)
        *why = no;
    if (no)
        return NULL;
    LibraryCall *c = arena_array(arena, LibraryCall, 1);
    *c = (LibraryCall){ .library = CALL_CUBLASLT,
                        .body = body,
                        .text = matmul_text(arena, &matmul),
                        .matmul = matmul };
    return c;
}
