/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_DATA_H
#define GTC_TRAIN_DATA_H

#include "models/model.h"

/* A data set, read, cleaned, scaled and split: rows (samples) to be fetched by number. */
typedef struct Data Data;

typedef enum Split { SPLIT_TRAIN, SPLIT_VAL, SPLIT_TEST, SPLIT_COUNT } Split;

/* What was fitted on train rows; saved in the bundle, so that predict scales alike. */
typedef struct Scaler {
    ScalerKind kind;
    int        n;      /* columns */
    double    *shift, *scale; /* scaled = (x - shift) / scale */
} Scaler;
typedef struct DataFit {
    Scaler  x, y;
    StrList features;     /* as resolved, one-hot columns by "column=value" */
    StrList classes;      /* names of the target's classes; empty: not a classification */
    StrList *category;    /* values of each category column, in order */
    int     ncategory;
} DataFit;

/* Opens and prepares.  Paths are tried against dirs[0..ndirs), then as they are (the caller puts
 * --data-dir, GTC_DATA_DIR and the model's folder there).  fit NULL: fitted on train rows; else
 * taken as given.  Fails with ST_DATA and file:line:col, or ST_IO. */
Status data_open(Ctx *cx, const DataConfig *cfg, const char *const *dirs, int ndirs, uint64_t seed,
                 const DataFit *fit, Data **out);
void   data_close(Data *d);

const DataShape *data_shape(const Data *d);
const DataFit   *data_fit(const Data *d);
int64_t          data_rows(const Data *d, Split s); /* samples */

/* Copies the samples index[0..n) of a split: x[i] points at room for n samples of input i (f32, or
 * i32 where the shape has words; packed), y at room for n targets (f32, or i32 class numbers).  Either may be NULL. */
Status data_fetch(Ctx *cx, const Data *d, Split s, const int64_t *index, int n, void *const *x, void *y);

/* For a device that has all rows, if the shape's `rows` say that samples can be found there: puts
 * them where the caller wants them, piece by piece: bytes `at` and on of the table of an input, of
 * "y", or (NULL) of the 256 values that a u8 may have. */
typedef struct DataTables {
    Status (*put)(Ctx *cx, void *arg, const char *name, int64_t at, const void *from,
                  int64_t bytes);
    void *arg;
    bool targets; /* "y" is wanted */
} DataTables;
Status data_tables(Ctx *cx, const Data *d, const DataTables *to);
/* The row that each of the samples index[0..n) of a split ends with. */
Status data_locate(Ctx *cx, const Data *d, Split s, const int64_t *index, int n, int32_t *at);

/* How many rows of a sample have targets, one after the other in y: 1, or the window. */
int         data_steps(const Data *d);

/* For reports, of one of these steps: the row's label (time stamp, or row number of the target), the
 * target in physical units, and the persistence forecast of target column k (NaN where there is
 * none); of a mixture, the mixture itself. */
const char *data_row_label(const Data *d, Split s, int64_t index, int step, char *buf, int nbuf);
double      data_unscale(const Data *d, int target, double scaled);
double      data_persistence(const Data *d, Split s, int64_t index, int step, int target);
bool        data_has_persistence(const Data *d);
/* False where a fit was given and the files lack the target: predictions alone, y is NaN (or 0). */
bool        data_has_targets(const Data *d);
const char *data_target_name(const Data *d, int target);

#endif
