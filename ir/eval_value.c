/* SPDX-License-Identifier: Apache-2.0 */
/* Strided values of the evaluator, and the loops over them. */
#include <math.h>
#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/os.h"
#include "ir/base/size.h"
#include "ir/eval_op.h"

Status eval_alloc(Ctx *cx, size_t bytes, void *out)
{
    void *p = cx->os->alloc(bytes > 0 ? bytes : 1);
    if (p == NULL)
        return FAIL(cx, MEMORY, "evaluator: no memory for %zu bytes", bytes);
    memcpy(out, &p, sizeof p);
    return ST_OK;
}

Value value_packed(const Type *type, double *at)
{
    Value v = { .type = *type, .at = at };
    int64_t stride = 1;
    for (int i = type->shape.rank - 1; i >= 0; i--) {
        v.stride[i] = stride;
        stride *= type->shape.dim[i];
    }
    return v;
}

Status value_new(const Eval *e, const Type *type, Value *out)
{
    double *at = NULL;
    const int64_t bytes = size_mul(shape_count(&type->shape), (int64_t)sizeof *at);
    TRY(eval_alloc(e->cx, (size_t)bytes, &at));
    *out = value_packed(type, at);
    out->own = at;
    return ST_OK;
}

void nest_start(Nest *w, const Shape *shape, int noperand, const int64_t *const *stride)
{
    *w = (Nest){ .more = true, .noperand = noperand, .n = 1 };
    int rank = 0;
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dim[i] == 0)
            w->more = false;
        if (shape->dim[i] == 1)
            continue;
        bool merge = rank > 0;
        for (int k = 0; k < noperand - BUG(15) && merge; k++)
            merge = w->stride[k][rank - 1] == stride[k][i] * shape->dim[i];
        if (!merge)
            w->dim[rank++] = 1;
        w->dim[rank - 1] *= shape->dim[i];
        for (int k = 0; k < noperand; k++)
            w->stride[k][rank - 1] = stride[k][i];
    }
    if (rank == 0)
        return;
    w->rank = rank - 1;
    w->n = w->dim[rank - 1];
    for (int k = 0; k < noperand; k++)
        w->step[k] = w->stride[k][rank - 1];
}

void nest_next(Nest *w)
{
    for (int i = w->rank - 1; i >= 0; i--) {
        for (int k = 0; k < w->noperand; k++)
            w->off[k] += w->stride[k][i];
        if (++w->at[i] < w->dim[i])
            return;
        for (int k = 0; k < w->noperand; k++)
            w->off[k] -= w->stride[k][i] * w->dim[i];
        w->at[i] = 0;
    }
    w->more = false;
}

/* A matrix that src holds by columns and dst by rows, in tiles that stay in the cache. */
static void copy_turned(double *dst, int64_t dst_row, const double *src, int64_t src_column,
                        int64_t rows, int64_t columns)
{
    enum { TILE = 8 };
    for (int64_t i0 = 0; i0 < rows; i0 += TILE)
        for (int64_t j0 = 0; j0 < columns; j0 += TILE)
            for (int64_t i = i0; i < rows && i < i0 + TILE; i++)
                for (int64_t j = j0; j < columns && j < j0 + TILE; j++)
                    dst[i * dst_row + j] = src[i + j * src_column];
}

/* The axis of w's outer loops along which src is packed, when that is none of the inner loop: the
 * loops then go over the others.  -1: none is worth it. */
static int turned_axis(Nest *w, int64_t *rows)
{
    for (int i = 0; i < w->rank && w->step[0] == 1 && w->step[1] > 1; i++)
        if (w->stride[1][i] == 1 && w->dim[i] > 1) {
            *rows = w->dim[i];
            w->dim[i] = 1;
            return i;
        }
    return -1;
}

void value_copy(const Value *dst, const Value *src)
{
    Nest w;
    const int64_t *const stride[] = { dst->stride, src->stride };
    int64_t rows = 0;
    nest_start(&w, &dst->type.shape, 2, stride);
    const int turned = turned_axis(&w, &rows);
    for (; w.more && turned >= 0; nest_next(&w))
        copy_turned(dst->at + w.off[0], w.stride[0][turned], src->at + w.off[1], w.step[1], rows,
                    w.n);
    if (turned >= 0)
        return;
    for (nest_start(&w, &dst->type.shape, 2, stride); w.more; nest_next(&w)) {
        double *d = dst->at + w.off[0];
        const double *s = src->at + w.off[1];
        if (w.step[0] == 1 && w.step[1] == 1) {
            memcpy(d, s, (size_t)w.n * sizeof *d);
            continue;
        }
        for (int64_t i = 0; i < w.n; i++)
            d[i * w.step[0]] = s[i * w.step[1]];
    }
}

void value_fill(const Value *dst, double x)
{
    Nest w;
    const int64_t *const stride[] = { dst->stride };
    for (nest_start(&w, &dst->type.shape, 1, stride); w.more; nest_next(&w))
        for (int64_t i = 0; i < w.n; i++)
            dst->at[w.off[0] + i * w.step[0]] = x;
}

static bool rounds(const Eval *e, DType dt)
{
    return dt != DT_F64 && (e->mode == EVAL_ROUND || !dtype_is_float(dt));
}

double value_round(const Eval *e, DType dt, double x)
{
    return rounds(e, dt) ? round_to(dt, x) : x;
}

void value_round_all(const Eval *e, Value *v)
{
    const DType dt = v->type.dt;
    if (!rounds(e, dt))
        return;
    const int64_t n = shape_count(&v->type.shape);
    if (dt == DT_F32)
        for (int64_t i = 0; i < n; i++)
            v->at[i] = (double)(float)v->at[i];
    else
        for (int64_t i = 0; i < n; i++)
            v->at[i] = round_to(dt, v->at[i]);
}
