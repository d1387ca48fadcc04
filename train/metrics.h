/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_METRICS_H
#define GTC_TRAIN_METRICS_H

#include "ir/base/arena.h"
#include "ir/base/strbuf.h"
#include "train/data.h"

/* Scores of a split, summed in f64, in physical units.  A regression has ntarget columns, a
 * classification nclass classes; the other count is 0. */
typedef struct Metrics {
    int64_t rows;
    bool classification;
    double loss;               /* mean over rows, in the units the model is trained in */
    double rmse, mae, r2;      /* over all columns; r2 = 1 - squared error / squared deviation */
    double accuracy, macro_f1; /* macro: over the classes that occur, among truths or predictions */
    double baseline_rmse;      /* persistence; NaN where there is none */
    int ntarget;
    double *target_rmse, *target_mae; /* a column each; the arena's */
} Metrics;

typedef struct MetricsSum MetricsSum;

MetricsSum *metrics_start(Arena *a, int ntarget, int nclass);
void metrics_add_loss(MetricsSum *s, double mean_loss, int rows);
/* One value of one row; baseline may be NaN. */
void metrics_add_value(MetricsSum *s, int target, double truth, double predicted, double baseline);
void metrics_add_class(MetricsSum *s, int truth, int predicted);
Metrics metrics_finish(const MetricsSum *s);

/* The named score ("val_loss", "val_accuracy", "rmse" ...), false if there is no such name; larger
 * tells whether more is better. */
bool metrics_named(const Metrics *m, const char *name, double *value, bool *larger);

/* "key":number; null for NaN and infinities, which JSON does not have. */
void metrics_json_number(Strbuf *out, const char *key, double value);
/* The members of the contract's `test` object, without braces. */
void metrics_json(const Metrics *m, Strbuf *out);
/* "rmse 63.2  mae 41.0  r2 0.61" */
void metrics_text(const Metrics *m, Strbuf *out);

#endif
