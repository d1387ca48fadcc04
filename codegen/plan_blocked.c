/* SPDX-License-Identifier: Apache-2.0 */
/* Contractions in blocks, for GPUs.
 *
 * Each sum of a nest must be of a product, whose factors divide the nest's axes: those that only
 * the left one has are rows, those that only the right one has are columns, and what both have, or
 * neither, is the rest (a batch).  All sums of the nest must divide them alike, over the same
 * reduced axes.  A factor is any expression: a window of an image, an activation, a masked read; it
 * is computed once for each element of a block's operand when that goes to shared memory.
 *
 * The fast axis of the result is a column, so that neighbouring threads store neighbours.  The tile
 * is the one with the least estimated time: waves of blocks times the work of a block over how well
 * a thread of that tile uses its loads. */
#include "codegen/plan.h"

#include <string.h>

#include "ir/base/size.h"

enum { LEAST = 16, DEPTH = 16, PAD = 4 };

static bool depends(const Expr *e, Var v)
{
    for (int i = 0; i < e->ndep; i++)
        if (e->dep[i] == v)
            return true;
    return false;
}

static int64_t extent(const Stages *s, const Var *v, int n)
{
    int64_t count = 1;
    for (int i = 0; i < n; i++)
        count = size_mul(count, ix_var_count(s->pool, v[i]));
    return count;
}

static int64_t reduced(const Stages *s, const Nest *n)
{
    const Stage *st = &s->stage[n->red[0]];
    return extent(s, st->red, st->nred);
}

/* Divides the axes of n by the factors of its sum number i; false: not alike for all. */
static bool divide_axes(const Stages *s, const Nest *n, int i, Var fast, Blocked *b)
{
    const Stage *st = &s->stage[n->red[i]], *first = &s->stage[n->red[0]];
    const Expr *e = stages_expr(s, st->e);
    if (st->rop != OP_add || e->kind != EX_EW || e->op != OP_mul || e->reg != REG_F32 ||
        st->nred != first->nred || memcmp(st->red, first->red, sizeof(Var) * st->nred) != 0 ||
        st->acc != n->red[i])
        return false;
    const bool swap = depends(stages_expr(s, e->arg[0]), fast);
    b->left[i] = e->arg[swap];
    b->right[i] = e->arg[!swap];
    const Expr *l = stages_expr(s, b->left[i]), *r = stages_expr(s, b->right[i]);
    Blocked mine = { .nrow = 0 };
    for (int a = 0; a < n->naxis; a++) {
        const Var v = n->axis[a];
        const bool in_l = depends(l, v), in_r = depends(r, v);
        if (in_l && !in_r)
            mine.row[mine.nrow++] = v;
        else if (in_r && !in_l)
            mine.col[mine.ncol++] = v;
        else
            mine.rest[mine.nrest++] = v;
    }
    if (i == 0) {
        memcpy(b->row, mine.row, sizeof mine.row);
        memcpy(b->col, mine.col, sizeof mine.col);
        memcpy(b->rest, mine.rest, sizeof mine.rest);
        b->nrow = mine.nrow, b->ncol = mine.ncol, b->nrest = mine.nrest;
    }
    bool fast_is_col = false;
    for (int a = 0; a < mine.ncol; a++)
        fast_is_col |= mine.col[a] == fast;
    return fast_is_col && mine.nrow == b->nrow && mine.ncol == b->ncol &&
           memcmp(mine.row, b->row, sizeof mine.row) == 0 &&
           memcmp(mine.col, b->col, sizeof mine.col) == 0;
}

static int64_t blocks_of(const Stages *s, const Blocked *b)
{
    return size_mul(extent(s, b->rest, b->nrest),
                    size_mul(size_ceil_div(extent(s, b->row, b->nrow), b->bm),
                             size_ceil_div(extent(s, b->col, b->ncol), b->bn)));
}

static void choose_tile(const Stages *s, const Target *t, const Nest *n, Blocked *b)
{
    static const struct {
        int bm, bn, tm, tn;
        double use; /* multiply-adds a cycle against the best */
    } tile[] = {
        { 128, 128, 8, 8, 1 }, { 64, 64, 4, 4, .75 }, { 32, 64, 2, 4, .6 }, { 64, 32, 4, 2, .6 },
        { 32, 32, 2, 2, .45 }, { 16, 64, 1, 4, .4 },  { 64, 16, 4, 1, .4 }, { 16, 16, 1, 1, .25 },
    };
    double best = 0;
    for (size_t i = 0; i < sizeof tile / sizeof *tile; i++) {
        Blocked c = *b;
        c.bm = tile[i].bm, c.bn = tile[i].bn, c.tm = tile[i].tm, c.tn = tile[i].tn;
        const int64_t parts = plan_blocked_parts(s, t, n, &c);
        const double waves = (double)size_ceil_div(size_mul(blocks_of(s, &c), parts), t->threads);
        const double time = waves * c.bm * c.bn / tile[i].use / (double)parts;
        if (n->nred * c.tm * c.tn > 64 || (best > 0 && time >= best))
            continue;
        best = time;
        b->bm = c.bm, b->bn = c.bn, b->tm = c.tm, b->tn = c.tn;
    }
}

int64_t plan_blocked_parts(const Stages *s, const Target *t, const Nest *n, const Blocked *b)
{
    enum { LEAST_PART = 256 };
    const int64_t blocks = blocks_of(s, b), k = reduced(s, n);
    if (blocks == 0 || blocks >= t->threads || n->naxis + 1 > MAX_RANK)
        return 1;
    const int64_t want = t->threads * 2 / blocks, most = k / LEAST_PART;
    return most < 2 ? 1 : want < most ? want : most;
}

/* Where factor number i is kept: where an equal one is, or in a buffer of its own. */
static uint16_t operand(Stages *s, const ExprId *factor, uint16_t *buf, int i, int64_t width,
                        int64_t depth)
{
    for (int j = 0; j < i; j++)
        if (factor[j] == factor[i])
            return buf[j];
    const int64_t shape[] = { depth, width + PAD };
    const uint16_t id =
        stages_temp(s, arena_printf(s->arena, "panel%u", s->nbuf), DT_F32, 2, shape);
    s->buf[id].home = HOME_PRIVATE;
    s->buf[id].team_dim = -1;
    return id;
}

static bool divide(Stages *s, const Nest *n, Blocked *b)
{
    const Var fast = nest_fast_axis(s, n);
    *b = (Blocked){ .bk = DEPTH };
    if (n->nred == 0 || !fast || n->when != WHEN_PLAIN || s->stage[n->root[0]].adds)
        return false;
    for (int i = 0; i < n->nred; i++)
        if (!divide_axes(s, n, i, fast, b))
            return false;
    return extent(s, b->row, b->nrow) >= LEAST && extent(s, b->col, b->ncol) >= LEAST &&
           reduced(s, n) >= LEAST;
}

bool plan_blocked_may(Stages *s, const Nest *n)
{
    Blocked b;
    return divide(s, n, &b);
}

Blocked *plan_blocked(Stages *s, const Target *t, const Nest *n)
{
    Blocked b;
    if (!divide(s, n, &b))
        return NULL;
    choose_tile(s, t, n, &b);
    if (!b.bm)
        return NULL;
    int64_t bytes = 0;
    for (int i = 0; i < n->nred; i++)
        bytes += (int64_t)sizeof(float) * DEPTH * (b.bm + b.bn + 2 * PAD);
    if (bytes > t->smem_bytes)
        return NULL;
    for (int i = 0; i < n->nred; i++) {
        b.lbuf[i] = operand(s, b.left, b.lbuf, i, b.bm, b.bk);
        b.rbuf[i] = operand(s, b.right, b.rbuf, i, b.bn, b.bk);
    }
    return arena_copy(s->arena, &b, sizeof b);
}
