/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_DATA_PART_H
#define GTC_TRAIN_DATA_PART_H

#include "train/data.h"
#include "train/data_format.h"
#include "train/window.h"

/* One source, cleaned: the main files, or those of "test".  Everything belongs to src. */
typedef struct Part {
    Source src;
    int64_t rows;
    Column **number; /* numeric features, cleaned, not scaled */
    int nnumber;
    Column **category;
    int ncategory;
    Column **target;
    int ntarget;
    double *y;    /* (ntarget, rows), NaN: missing; class numbers; NULL: not known */
    double *last; /* (ntarget, rows): last known value of the target, or the mixture that it is in;
                   * NULL without forecast or mixture */
    uint8_t *xbad, *ybad; /* rows; NULL: all good */
    int64_t *gaps;        /* (rows + 1): how many rows before have a NaN to be interpolated */
    int32_t *run;         /* NULL: one run */
    Column *time, *group;
    Block *input; /* what data_fetch copies from */
    int ninput;
} Part;

/* Chooses columns and applies the missing policy.  fit NULL: to be fitted on this part, and
 * classes and categories are those of this part; else its names are followed.  A text wants one:
 * part_words. */
Status part_clean(Ctx *cx, const DataConfig *cfg, Part *p, const DataFit *fit, bool forecast);

/* The distinct words of column c in the first `rows` rows, in order. */
StrList part_words(const Part *p, const Column *c, int64_t rows);

/* Which split each row belongs to, SPLIT_COUNT: none; NULL: samples are drawn, later. */
Status part_split(Ctx *cx, const DataConfig *cfg, Part *p, uint64_t seed, uint8_t **out);

/* Column numbers of the text columns in terms of `names` (all the values there are): -1 for a
 * value that is not among them, and their number in *unseen. */
Status part_category(Ctx *cx, Part *p, const Column *c, const StrList *names, int32_t **id,
                     int64_t *unseen);

#endif
