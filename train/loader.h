/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_LOADER_H
#define GTC_TRAIN_LOADER_H

#include "train/data.h"

/* Batches of one split, epoch by epoch.  The order of an epoch follows from (seed, epoch) alone,
 * so that a run goes on after a resume exactly where it stopped.  Owned by the caller; the Data
 * must outlive it. */
typedef struct Loader Loader;

/* A place between two batches; plain numbers, for checkpoints. */
typedef struct LoaderPos {
    int64_t epoch; /* from 0 */
    int64_t row;   /* samples of the epoch that are done */
} LoaderPos;

/* shuffle false: chronological order, as evaluation wants it.  Starts at epoch 0, row 0. */
Status loader_open(Ctx *cx, const Data *d, Split split, int batch, bool shuffle, uint64_t seed,
                   Loader **out);
void   loader_close(Loader *l); /* NULL is fine */

int64_t loader_batches(const Loader *l); /* a epoch, the partial last one included */

void      loader_start(Loader *l, int64_t epoch); /* at row 0 of that epoch */
LoaderPos loader_pos(const Loader *l);
/* Fails with ST_VALUE when there is no such place (a checkpoint of other data). */
Status loader_seek(Ctx *cx, Loader *l, LoaderPos pos);

/* Fetches the next batch as data_fetch does: always `batch` rows, of which the first *rows are
 * valid and the others copies of the batch's first.  At the end of the epoch *rows is 0, nothing
 * is written, and the loader stays there until loader_start or loader_seek. */
Status loader_next(Ctx *cx, Loader *l, void *const *x, void *y, int *rows);

/* The sample numbers (of data_fetch) of the last batch that loader_next gave. */
const int64_t *loader_index(const Loader *l);

#endif
