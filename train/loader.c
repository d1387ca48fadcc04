/* SPDX-License-Identifier: Apache-2.0 */
/* loader: batches of one split.
 *
 * The order of epoch e is a Fisher-Yates shuffle of 0..n-1 drawn from Rng(seed, e): it depends on
 * nothing that happened before, so a position is two numbers and a resume is exact.
 *
 * The last batch may have fewer samples than rows.  The rest repeats its first sample: such rows
 * are finite, and the graph masks them out by its input `rows`. */
#include "train/loader.h"

#include <stdlib.h>

#include "ir/base/bug.h"
#include "ir/base/os.h"
#include "ir/base/rng.h"
#include "ir/base/size.h"

struct Loader {
    const Data *data;
    const Os *os;
    Split split;
    int batch;
    bool shuffle;
    uint64_t seed;
    int64_t n;
    LoaderPos pos;
    int64_t *order; /* n sample numbers, of epoch pos.epoch */
    int64_t *index; /* batch */
};

/* Told apart from the other uses of the run's seed. */
static const uint64_t loader_stream = (uint64_t)0x6c6f6164 << 32; /* "load" */

static void order_fill(Loader *l)
{
    for (int64_t i = 0; i < l->n; i++)
        l->order[i] = i;
    if (!l->shuffle)
        return;
    Rng rng;
    rng_init(&rng, l->seed, loader_stream + (uint64_t)l->pos.epoch);
    for (int64_t i = l->n - 1; i > 0; i--) {
        const int64_t j = (int64_t)rng_below(&rng, (uint64_t)i + 1);
        const int64_t t = l->order[i];
        l->order[i] = l->order[j];
        l->order[j] = t;
    }
}

Status loader_open(Ctx *cx, const Data *d, Split split, int batch, bool shuffle, uint64_t seed,
                   Loader **out)
{
    *out = NULL;
    if (batch < 1)
        return FAIL(cx, VALUE, "loader: wants a batch of at least 1 row, got %d", batch);
    Loader *l = calloc(1, sizeof *l);
    if (!l)
        return FAIL(cx, MEMORY, "loader: no memory");
    *l = (Loader){ .data = d,
                   .os = cx->os,
                   .split = split,
                   .batch = batch,
                   .shuffle = shuffle,
                   .seed = seed,
                   .n = data_rows(d, split) };
    const int64_t bytes = size_mul(size_add(l->n, batch), (int64_t)sizeof *l->order);
    l->order = cx->os->alloc((size_t)bytes);
    if (!l->order) {
        loader_close(l);
        return FAIL(cx, MEMORY, "loader: no memory for the order of %lld samples",
                    (long long)data_rows(d, split));
    }
    l->index = l->order + l->n;
    order_fill(l);
    *out = l;
    return ST_OK;
}

void loader_close(Loader *l)
{
    if (!l)
        return;
    if (l->order)
        l->os->release(l->order);
    free(l);
}

int64_t loader_batches(const Loader *l)
{
    return size_ceil_div(l->n, l->batch);
}

void loader_start(Loader *l, int64_t epoch)
{
    const bool same = epoch == l->pos.epoch;
    l->pos = (LoaderPos){ .epoch = epoch, .row = 0 };
    if (!same)
        order_fill(l);
}

LoaderPos loader_pos(const Loader *l)
{
    return l->pos;
}

Status loader_seek(Ctx *cx, Loader *l, LoaderPos pos)
{
    if (pos.epoch < 0 || pos.row < 0 || pos.row > l->n)
        return FAIL(cx, VALUE,
                    "loader: no place at epoch %lld, row %lld: an epoch of this data has %lld rows",
                    (long long)pos.epoch, (long long)pos.row, (long long)l->n);
    loader_start(l, pos.epoch);
    l->pos.row = pos.row;
    return ST_OK;
}

Status loader_next(Ctx *cx, Loader *l, void *const *x, void *y, int *rows)
{
    const int64_t left = l->n - l->pos.row;
    const int valid = left < l->batch ? (int)left : l->batch;
    *rows = 0;
    if (valid == 0)
        return ST_OK;
    for (int i = 0; i < l->batch; i++)
        l->index[i] = l->order[l->pos.row + (i < valid ? i : 0)];
    TRY(data_fetch(cx, l->data, l->split, l->index, l->batch, x, y));
    l->pos.row += valid;
    *rows = BUG(65) ? l->batch : valid;
    return ST_OK;
}

const int64_t *loader_index(const Loader *l)
{
    return l->index;
}
