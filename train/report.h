/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_REPORT_H
#define GTC_TRAIN_REPORT_H

#include "runtime/gtc.h"
#include "train/metrics.h"

/* What a run leaves behind for people: its folder, training.log and metrics.csv. */

/* Makes a folder for a run and appends its path to dir.  out NULL: runs/TIME-NAME[-SUFFIX], with
 * a number where that exists; else out itself, which must not hold a run yet (ST_USAGE). */
Status report_make_run(Ctx *cx, const char *out, const char *name, const char *suffix, Strbuf *dir);
/* The newest run: the one that ./.gtc/run names, else the newest under runs/.  ST_USAGE when
 * there is none. */
Status report_newest_run(Ctx *cx, Strbuf *dir);

/* training.log: while it is open, what is reported to cx->log also goes there, with the time. */
typedef struct ReportLog ReportLog;
Status report_log_open(Ctx *cx, const char *dir, ReportLog **out);
void report_log_note(ReportLog *l, const char *text); /* to the file only */
void report_log_close(Ctx *cx, ReportLog *l);

typedef struct EpochRow { /* one line of metrics.csv */
    int64_t epoch, step;  /* from 1 */
    double train_loss, val_loss;
    double lr, grad_norm, ms_per_batch, samples_per_s, epoch_s, total_s;
    int64_t peak_bytes;
    GtcGpuLoad gpu; /* at the end of the epoch; all of it unknown on a CPU */
    const char *score_name; /* accuracy of a classification, else rmse in physical units */
    double val_score;
    bool best;
} EpochRow;

/* Starts metrics.csv, or cuts it back to epochs <= kept when there is one. */
Status report_metrics_start(Ctx *cx, const char *dir, int64_t kept, const char *score_name);
Status report_metrics_add(Ctx *cx, const char *dir, const EpochRow *r);
/* "epoch 3/100  loss 0.123  val_loss 0.140  ..." */
void report_epoch_text(const EpochRow *r, int64_t epochs, Strbuf *out);

#endif
