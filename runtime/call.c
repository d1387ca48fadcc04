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

/* "7x5" */
static const char *space_text(Arena *arena, const CallConv *c, const int64_t *extent)
{
    return c->n == 2 ? arena_printf(arena, "%lldx%lld", (long long)extent[0], (long long)extent[1])
                     : arena_printf(arena, "%lldx%lldx%lld", (long long)extent[0],
                                    (long long)extent[1], (long long)extent[2]);
}

static const char *conv_text(Arena *arena, const CallConv *c)
{
    static const char *const kind[] = { "convolution", "convolution's weight,",
                                        "convolution's image," };
    return arena_printf(arena, "%s of %lld x %s x %lld by %s to %s x %lld%s", kind[c->kind],
                        (long long)c->rows, space_text(arena, c, c->from), (long long)c->in,
                        space_text(arena, c, c->kernel), space_text(arena, c, c->to),
                        (long long)c->out, c->flipped ? ", flipped" : "");
}

static const char *rnn_text(Arena *arena, const CallRnn *c)
{
    static const char *const cell[] = { "tanh rnn", "lstm", "gru" };
    return arena_printf(arena, "%s of %lld x %lld x %lld to %lld, %s", cell[c->cell],
                        (long long)c->steps, (long long)c->rows, (long long)c->in,
                        (long long)c->hidden,
                        !c->sequence    ? "the last state"
                        : c->rows_first ? "all states, rows first"
                                        : "all states");
}

static bool has(const Graph *g, Op op)
{
    for (Ref r = 1; r < g->nnode; r++)
        if (g->node[r].op == op)
            return true;
    return false;
}

const LibraryCall *call_find(Arena *arena, const Graph *body, const char **why)
{
    LibraryCall c = { .library = CALL_CUBLASLT, .body = body };
    const char *no = call_matmul(body, &c.as.matmul);
    if (!no)
        c.text = matmul_text(arena, &c.as.matmul);
    if (no && has(body, OP_scan)) {
        no = call_rnn(body, &c.as.rnn);
        c.library = CALL_CUDNN_RNN;
        if (!no)
            c.text = rnn_text(arena, &c.as.rnn);
    } else if (no && no[0] && has(body, OP_window)) {
        no = call_conv(body, &c.as.conv);
        c.library = CALL_CUDNN;
        if (!no)
            c.text = conv_text(arena, &c.as.conv);
    }
    if (why)
        *why = no;
    if (no)
        return NULL;
    LibraryCall *out = arena_array(arena, LibraryCall, 1);
    *out = c;
    return out;
}
