/* SPDX-License-Identifier: Apache-2.0 */
/* data_fetch: samples, one by one, or all that they are made of.
 *
 * Rows are kept once, packed and scaled; a window is a run of rows, so that a fetch is one copy a
 * sample.  Bytes (images) and characters are expanded on fetch.
 *
 * A device that has the rows can do the same by itself, told the last row of each sample: that is
 * what tables are for.  The rows of all parts stand one part behind the other.  The target of a
 * window stands at its last row, where each row has one, at the row that it belongs to. */
#include "train/data.h"

#include <math.h>
#include <string.h>

#include "ir/base/bug.h"
#include "ir/base/size.h"
#include "train/data_set.h"

/* Fills the NaN of one window: linear between known rows of the window, else the last known. */
static void gaps_fill(const Block *b, int64_t start, int64_t end, float *x)
{
    const float *all = b->data;
    const int64_t w = b->width;
    for (int64_t k = 0; k < w; k++)
        for (int64_t r = start; r <= end; r++) {
            if (!isnan(all[r * w + k]))
                continue;
            int64_t before = r, after = r;
            while (before > 0 && isnan(all[before * w + k]))
                before--;
            while (after <= end && isnan(all[after * w + k]))
                after++;
            const float from = all[before * w + k];
            for (; r < after; r++) {
                const float part = (float)(r - before) / (float)(after - before);
                x[(r - start) * w + k] =
                    after > end ? from : from + (all[after * w + k] - from) * part;
            }
        }
}

static void input_copy(const Data *d, const Part *p, const Block *b, int64_t end, int window,
                       float *x)
{
    const int64_t start = end - window + 1, n = window * b->width;
    if (b->kind == BLOCK_F32) {
        memcpy(x, (const float *)b->data + start * b->width, sizeof *x * (size_t)n);
        if (p->gaps[end + 1] != p->gaps[start])
            gaps_fill(b, start, end, x);
    } else if (b->kind == BLOCK_U8) {
        const unsigned char *v = (const unsigned char *)b->data + start * b->width;
        for (int64_t i = 0; i < n; i++)
            x[i] = d->pixel[v[i]];
    } else if (b->kind == BLOCK_NUMBER) {
        memcpy(x, (const int32_t *)b->data + start, sizeof(int32_t) * (size_t)n);
    } else {
        const int32_t *id = (const int32_t *)b->data + start;
        const int64_t width = b->shape.dim[0];
        memset(x, 0, sizeof *x * (size_t)(window * width));
        for (int t = 0; t < window; t++)
            if (id[t] >= 0)
                x[t * width + id[t]] = 1;
    }
}

/* The class that most rows of the window have, the first of equals; the rows are known, or none
 * of them. */
static int32_t class_majority(const Data *d, const Part *p, int64_t end)
{
    int32_t best = -1;
    int most = 0;
    for (int64_t r = end - d->cfg.window + 1; p->y && r <= end; r++) {
        int n = 0;
        if (r > end - d->cfg.window + 1 && p->y[r] == p->y[r - 1])
            continue; /* counted with the row before */
        for (int64_t q = end - d->cfg.window + 1; q <= end; q++)
            n += p->y[q] == p->y[r];
        if (n > most || (n == most && p->y[r] < best)) {
            most = n;
            best = (int32_t)p->y[r];
        }
    }
    return best;
}

/* The targets of one row, to y[at ..]. */
static void target_row(const Data *d, const Part *p, int64_t row, void *y, int64_t at)
{
    for (int k = 0; k < d->ntarget; k++) {
        const double v = p->y && row < p->rows ? p->y[k * p->rows + row] : (double)NAN;
        if (d->shape.classification)
            ((int32_t *)y)[at + k] = isnan(v) ? -1 : (int32_t)v;
        else
            ((float *)y)[at + k] = (float)((v - d->fit.y.shift[k]) / d->fit.y.scale[k]);
    }
}

/* The targets of one window row by row. */
static void target_each(const Data *d, const Part *p, int64_t end, void *y, int64_t i)
{
    const int64_t from = end - d->cfg.window + 1 + d->horizon[0];
    for (int64_t t = 0; t < d->cfg.window; t++)
        target_row(d, p, from + t, y, (i * d->cfg.window + t) * d->ntarget);
}

static void target_copy(const Data *d, const Part *p, int64_t end, void *y, int64_t i)
{
    const int n = d->ntarget * d->nhorizon;
    if (d->cfg.target_rows == TARGET_EACH) {
        target_each(d, p, end, y, i);
        return;
    }
    if (d->cfg.target_rows == TARGET_MAJORITY) {
        ((int32_t *)y)[i] = class_majority(d, p, end);
        return;
    }
    if (d->shape.classification) {
        const int64_t row = end + d->horizon[0];
        const double v = p->y && row < p->rows ? p->y[row] : (double)NAN;
        ((int32_t *)y)[i] = isnan(v) ? -1 : (int32_t)v; /* unknown, where only predictions count */
        return;
    }
    for (int k = 0; k < n; k++) {
        const double *column = p->y ? p->y + (k % d->ntarget) * p->rows : NULL;
        const int64_t row = end + d->horizon[k / d->ntarget];
        const double v = column && row < p->rows ? column[row] : (double)NAN;
        ((float *)y)[i * n + k] = (float)((v - d->fit.y.shift[k]) / d->fit.y.scale[k]);
    }
}

static Status index_check(Ctx *cx, const Data *d, Split s, int64_t index)
{
    static const char *const name[] = { "train", "val", "test" };
    if (index >= 0 && index < d->n[s])
        return ST_OK;
    return FAIL(cx, VALUE, "data: no sample %lld: the %s split has %lld", (long long)index, name[s],
                (long long)d->n[s]);
}

Status data_fetch(Ctx *cx, const Data *d, Split s, const int64_t *index, int n, void *const *x,
                  void *y)
{
    const Part *p = &d->part[d->of[s]];
    const int window = d->win[0].window;
    for (int i = 0; i < n; i++) {
        TRY(index_check(cx, d, s, index[i]));
        const int64_t end = d->end[s][index[i]];
        for (int k = 0; x && k < p->ninput; k++)
            input_copy(d, p, &p->input[k], end, window,
                       (float *)x[k] + i * shape_count(&d->shape.input[k].shape));
        if (y)
            target_copy(d, p, end, y, i);
    }
    return ST_OK;
}

/* ---- tables ---- */

static RowKind row_kind(BlockKind kind)
{
    return kind == BLOCK_U8       ? ROW_U8
           : kind == BLOCK_ID     ? ROW_ONE_HOT
           : kind == BLOCK_NUMBER ? ROW_I32
                                  : ROW_F32;
}

void data_rows_describe(Data *d)
{
    DataRows *r = &d->shape.rows;
    RowKind *kind = arena_array(d->arena, RowKind, d->shape.ninput);
    int64_t n = 0;
    for (int i = 0; i < d->shape.ninput; i++)
        kind[i] = row_kind(d->part[0].input[i].kind);
    *r = (DataRows){ .window = d->cfg.window > 0,
                     .target_each = d->cfg.target_rows == TARGET_EACH,
                     .kind = kind };
    for (int k = 0; k < d->nparts; k++) {
        const Part *p = &d->part[k];
        n = size_add(n, p->rows);
        for (int i = 0; i < p->ninput && !r->why; i++) {
            if (p->input[i].kind != d->part[0].input[i].kind)
                r->why = "the test files are of another kind";
            else if (p->input[i].kind == BLOCK_F32 && p->gaps[p->rows] != p->gaps[0])
                r->why = "what is missing is put into each window";
        }
    }
    if (n > INT32_MAX)
        r->why = "there are more rows than an i32 can number";
    r->n = r->why ? 0 : n;
}

static int64_t part_start(const Data *d, int part)
{
    return part && !BUG(74) ? d->part[0].rows : 0;
}

Status data_locate(Ctx *cx, const Data *d, Split s, const int64_t *index, int n, int32_t *at)
{
    gtc_assert(d->shape.rows.n > 0, "samples of this data are not found by row");
    for (int i = 0; i < n; i++) {
        TRY(index_check(cx, d, s, index[i]));
        at[i] = (int32_t)(part_start(d, d->of[s]) + d->end[s][index[i]]);
    }
    return ST_OK;
}

static int64_t block_row_bytes(const Block *b)
{
    return b->width * (b->kind == BLOCK_U8 ? 1 : 4);
}

/* The targets of all rows of a part, by the row that they are looked up by. */
static void targets_fill(const Data *d, int part, int64_t width, void *y)
{
    const Part *p = &d->part[part];
    if (d->cfg.target_rows == TARGET_EACH) {
        for (int64_t r = 0; r < p->rows; r++)
            target_row(d, p, r + d->horizon[0], y, r * d->ntarget);
        return;
    }
    memset(y, 0, (size_t)(4 * width * p->rows));
    for (int s = 0; s < SPLIT_COUNT; s++)
        for (int64_t i = 0; d->of[s] == part && i < d->n[s]; i++)
            target_copy(d, p, d->end[s][i], y, d->end[s][i]);
}

static Status targets_put(Ctx *cx, const Data *d, int part, const DataTables *to)
{
    const Part *p = &d->part[part];
    int64_t width = shape_count(&d->shape.target);
    if (d->cfg.target_rows == TARGET_EACH)
        width = d->ntarget;
    const int64_t bytes = size_mul(size_mul(p->rows, width), 4);
    void *y = cx->os->alloc((size_t)(bytes > 0 ? bytes : 1));
    if (!y)
        return FAIL(cx, MEMORY, "no memory for the targets of %lld rows", (long long)p->rows);
    targets_fill(d, part, width, y);
    const Status st = to->put(cx, to->arg, "y", 4 * width * part_start(d, part), y, bytes);
    cx->os->release(y);
    return st;
}

Status data_tables(Ctx *cx, const Data *d, const DataTables *to)
{
    bool pixels = false;
    gtc_assert(d->shape.rows.n > 0, "there are no tables of this data");
    for (int k = 0; k < d->nparts; k++) {
        const Part *p = &d->part[k];
        for (int i = 0; i < p->ninput; i++) {
            const Block *b = &p->input[i];
            const int64_t row = block_row_bytes(b);
            pixels |= b->kind == BLOCK_U8;
            TRY(to->put(cx, to->arg, d->shape.input[i].name, row * part_start(d, k), b->data,
                        row * p->rows));
        }
        if (to->targets)
            TRY(targets_put(cx, d, k, to));
    }
    return pixels ? to->put(cx, to->arg, NULL, 0, d->pixel, sizeof d->pixel) : ST_OK;
}
