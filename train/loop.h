/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_LOOP_H
#define GTC_TRAIN_LOOP_H

#include "train/bundle.h"
#include "train/report.h"
#include "train/score.h"

/* Training: epochs of shuffled batches with validation, early stopping, checkpoints and an exact
 * resume, then one look at the test split with the best weights. */

typedef struct TrainProgress {
    int64_t epoch, epochs, batch, batches; /* from 1; batches of this epoch */
    double loss;                           /* mean of the epoch so far */
} TrainProgress;

typedef struct TrainCall {
    const char *dir;     /* the run folder */
    bool resume;         /* go on from dir's newest checkpoint */
    double save_every_s; /* also inside an epoch; 0: only at its end */
    ScoreStop stop;      /* asked at each step; true: save and return ST_STOPPED */
    /* Once, before the first step: the checkpoint, if any, fits this model and these data, so that
     * model.json and fit.json may be written.  May be NULL. */
    Status (*ready)(void *arg);
    void *ready_arg;
    void (*progress)(void *arg, const TrainProgress *p); /* after each step; may be NULL */
    void *progress_arg;
} TrainCall;

typedef struct TrainResult {
    int64_t epochs_run, best_epoch, steps, skipped_steps;
    double train_loss, val_loss; /* of the best epoch; train_loss of the last one */
    bool has_test;
    Metrics test; /* its columns are the arena's that train_run was given */
    double step_ms, samples_per_s, compile_ms, seconds;
} TrainResult;

/* Needs the session's train and eval programs.  Fails with ST_NUMERIC when the loss is no number
 * (the last good checkpoint stays) and ST_STOPPED after saving when asked to stop. */
Status train_run(Ctx *cx, Session *s, const Data *d, const TrainCall *call, Arena *arena,
                 TrainResult *out);

/* The contract's object, one line without newline. */
void train_json(const Session *s, const TrainCall *call, const TrainResult *r, Strbuf *out);

#endif
