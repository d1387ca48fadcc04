/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_DATA_SET_H
#define GTC_TRAIN_DATA_SET_H

#include "train/data_part.h"

/* Between data.c, which prepares, and data_fetch.c, which hands out: what a Data is. */
struct Data {
    Arena *arena;
    DataConfig cfg; /* its pointers are not used after data_open */
    DataShape shape;
    DataFit fit;
    Part part[2];
    int nparts;
    Windows win[2];
    int64_t *end[SPLIT_COUNT], n[SPLIT_COUNT];
    int of[SPLIT_COUNT]; /* which part */
    int *horizon, nhorizon;
    int ntarget;
    bool forecast;
    float pixel[256]; /* BLOCK_U8, scaled */
    const char **target_name;
};

/* What the shape says of rows. */
void data_rows_describe(Data *d);

#endif
