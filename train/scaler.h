/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_SCALER_H
#define GTC_TRAIN_SCALER_H

#include "train/data.h"

/* n columns that change nothing, in the arena. */
Scaler scaler_identity(Arena *a, int n);
Scaler scaler_copy(Arena *a, const Scaler *s);

/* Fits one column on v[i] where use[i] is set (use NULL: everywhere); NaN is left out.  standard:
 * mean and standard deviation (of the population); minmax: onto [0, 1].  A constant column, or one
 * without values, gets scale 1. */
void scaler_fit(Scaler *s, int column, const double *v, const uint8_t *use, int64_t n);
/* The same for f32 values that are `step` apart. */
void scaler_fit_f32(Scaler *s, int column, const float *v, int64_t step, const uint8_t *use,
                    int64_t n);
/* The same for bytes that count[b] times occur, each worth b * unit. */
void scaler_fit_bytes(Scaler *s, const int64_t count[256], double unit);

#endif
