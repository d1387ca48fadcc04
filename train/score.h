/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_SCORE_H
#define GTC_TRAIN_SCORE_H

#include "train/metrics.h"
#include "train/session.h"

/* One pass over a split with the weights of the session's store.  Nothing is trained. */

/* Asked between batches; true ends the pass with ST_STOPPED. */
typedef struct ScoreStop {
    bool (*asked)(void *arg);
    void *arg;
} ScoreStop;

/* With the eval program: losses and scores in physical units.  csv, when not NULL, gets the
 * predictions: a line a row, "LABEL,TARGET,TARGET_pred,..." under a header.  *out's columns are
 * arena's. */
Status score_split(Ctx *cx, Session *s, const Data *d, Split split, ScoreStop stop, Arena *arena,
                   Metrics *out, Strbuf *csv);

/* With the predict program: predictions only. */
Status score_predict(Ctx *cx, Session *s, const Data *d, Split split, ScoreStop stop, Strbuf *csv,
                     int64_t *rows);

#endif
