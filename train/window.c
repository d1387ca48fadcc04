/* SPDX-License-Identifier: Apache-2.0 */
/* window: which windows there are, and which split they belong to.
 *
 * A window belongs to the split of its targets; where horizons reach into two splits it belongs
 * to none.  Its inputs may reach back into an earlier split (that is past, and known), never
 * forward.  Where every row has its target, the first and the last of them tell: a split is one
 * stretch of a run.  A prefix count of unusable rows makes the test of a window constant in its
 * length. */
#include "train/window.h"

#include <math.h>
#include <stdlib.h>

#include "ir/base/rng.h"

/* SPLIT_COUNT: no sample.  The window lies within a run; so do the targets, which are known. */
static int each_split(const Windows *w, const int64_t *ybad, int64_t e)
{
    const int64_t end = w->rows - 1;
    int64_t last = e + w->horizon[0], first = last - w->window + 1;
    if (!w->future && (last > end || ybad[last + 1] != ybad[first]))
        return SPLIT_COUNT;
    last = last < end ? last : end;
    first = first < end ? first : end;
    if (w->run && w->run[last] != w->run[e] && (w->ybad || !w->future))
        return SPLIT_COUNT;
    if (!w->split)
        return SPLIT_TRAIN;
    return w->split[first] == w->split[last] ? w->split[last] : SPLIT_COUNT;
}

/* The same with targets at the horizons alone. */
static int window_split(const Windows *w, int64_t e)
{
    int split = -1;
    for (int k = 0; k < w->nhorizon; k++) {
        int64_t t = e + w->horizon[k];
        if (t >= w->rows && !w->future)
            return SPLIT_COUNT;
        t = t < w->rows ? t : w->rows - 1;
        const bool known = w->ybad || !w->future;
        if (w->run && w->run[t] != w->run[e] && known)
            return SPLIT_COUNT;
        if (w->ybad && w->ybad[t] && !w->future)
            return SPLIT_COUNT;
        const int s = w->split ? w->split[t] : SPLIT_TRAIN;
        if (split >= 0 && s != split)
            return SPLIT_COUNT;
        split = s;
    }
    return split < 0 ? SPLIT_COUNT : split;
}

void window_list(const Windows *w, int64_t *bad, int64_t *const end[SPLIT_COUNT],
                 int64_t n[SPLIT_COUNT])
{
    int64_t *ybad = bad + w->rows + 1;
    bad[0] = ybad[0] = 0;
    for (int64_t r = 0; r < w->rows; r++) {
        bad[r + 1] = bad[r] + (w->xbad && w->xbad[r]);
        ybad[r + 1] = ybad[r] + (w->ybad && w->ybad[r]);
    }
    for (int s = 0; s < SPLIT_COUNT; s++)
        n[s] = 0;
    int64_t first = 0; /* of the run */
    for (int64_t e = 0; e < w->rows; e++) {
        if (w->run && e > 0 && w->run[e] != w->run[e - 1])
            first = e;
        const int64_t past = e - first - (w->window - 1);
        if (past < 0 || (past % w->stride && past % w->eval_stride))
            continue;
        if (bad[e + 1] != bad[e - w->window + 1])
            continue;
        const int s = w->each ? each_split(w, ybad, e) : window_split(w, e);
        if (s == SPLIT_COUNT || past % (s == SPLIT_TRAIN ? w->stride : w->eval_stride))
            continue;
        if (end)
            end[s][n[s]] = e;
        n[s]++;
    }
}

void window_mark_inputs(const Windows *w, const int64_t *end, int64_t n, uint8_t *mark)
{
    int64_t from = 0; /* ends ascend, so no row is marked twice */
    for (int64_t i = 0; i < n; i++) {
        const int64_t start = end[i] - w->window + 1;
        for (int64_t r = start > from ? start : from; r <= end[i]; r++)
            mark[r] = 1;
        from = end[i] + 1;
    }
}

void window_mark_targets(const Windows *w, const int64_t *end, int64_t n, uint8_t *mark)
{
    int64_t from = 0; /* as above */
    for (int64_t i = 0; w->each && i < n; i++) {
        const int64_t last = end[i] + w->horizon[0], start = last - w->window + 1;
        for (int64_t r = start > from ? start : from; r <= last && r < w->rows; r++)
            mark[r] = 1;
        from = last + 1;
    }
    for (int64_t i = 0; !w->each && i < n; i++)
        for (int k = 0; k < w->nhorizon; k++)
            if (end[i] + w->horizon[k] < w->rows)
                mark[end[i] + w->horizon[k]] = 1;
}

Status window_bounds(Ctx *cx, const double split[3], int64_t n, int64_t bound[SPLIT_COUNT])
{
    double sum = 0;
    bool counts = false;
    for (int s = 0; s < 3; s++) {
        if (!(split[s] >= 0))
            return FAIL(cx, VALUE, "data: split wants three fractions or row counts");
        counts = counts || split[s] > 1;
    }
    for (int s = 0; s < 3; s++) {
        sum += split[s];
        bound[s] = counts ? (int64_t)sum : llround(sum * (double)n);
    }
    if (counts && sum > (double)n)
        return FAIL(cx, VALUE, "data: split wants %.0f rows, the data have %lld", sum,
                    (long long)n);
    if (!counts && sum > 1 + 1e-9)
        return FAIL(cx, VALUE, "data: the fractions of split sum to %g, more than 1", sum);
    return ST_OK;
}

static int row_compare(const void *pa, const void *pb)
{
    const int64_t a = *(const int64_t *)pa, b = *(const int64_t *)pb;
    return (a > b) - (a < b);
}

/* Told apart from the other uses of the run's seed: "spli". */
static const uint64_t split_stream = (uint64_t)0x73706c69 << 32;

void window_shuffle(uint64_t seed, const int64_t bound[SPLIT_COUNT],
                    int64_t *const end[SPLIT_COUNT], int64_t n[SPLIT_COUNT])
{
    int64_t *all = end[SPLIT_TRAIN];
    Rng rng;
    rng_init(&rng, seed, split_stream);
    for (int64_t i = n[SPLIT_TRAIN] - 1; i > 0; i--) {
        const int64_t j = (int64_t)rng_below(&rng, (uint64_t)i + 1);
        const int64_t t = all[i];
        all[i] = all[j];
        all[j] = t;
    }
    for (int s = SPLIT_VAL; s < SPLIT_COUNT; s++) {
        n[s] = bound[s] - bound[s - 1];
        for (int64_t i = 0; i < n[s]; i++)
            end[s][i] = all[bound[s - 1] + i];
    }
    n[SPLIT_TRAIN] = bound[SPLIT_TRAIN];
    for (int s = 0; s < SPLIT_COUNT; s++)
        qsort(end[s], (size_t)n[s], sizeof *end[s], row_compare);
}
