/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_BUNDLE_H
#define GTC_TRAIN_BUNDLE_H

#include "train/checkpoint.h"
#include "train/data.h"

/* A run's folder is all that prediction needs, on any machine: model.json (resolved), fit.json
 * (scalers, columns, classes) and the weights, best.safetensors and last.safetensors. */
typedef struct Bundle {
    Model *model;      /* owned */
    DataFit fit;       /* the model's arena's */
    StrList data_dirs; /* where its data were found when it was trained */
    const char *mode;  /* "default" or "eager": how it was compiled */
} Bundle;

Status bundle_write(Ctx *cx, const char *dir, const Model *m, const DataFit *fit,
                    const StrList *data_dirs, const char *mode);
/* overrides as model_load's. */
Status bundle_read(Ctx *cx, const char *dir, const char *const *overrides, int noverrides,
                   Bundle **out);
void bundle_free(Bundle *b); /* NULL is fine */

/* Weights to predict with: best.safetensors, or the last ones when `last` is set. */
Status bundle_weights(Ctx *cx, const char *dir, bool last, GtcStore *s);

/* The newest whole checkpoint to go on from.  A damaged one is passed over, and that is said. */
Status bundle_resume(Ctx *cx, const char *dir, Checkpoint **out);
/* Makes c the last checkpoint, and the one before it the previous.  Whenever this is killed, a
 * whole checkpoint that bundle_resume finds is there, and it is never older than the one before. */
Status bundle_save_last(Ctx *cx, const char *dir, const Checkpoint *c);
Status bundle_save_best(Ctx *cx, const char *dir, const Checkpoint *c);

#endif
