/* SPDX-License-Identifier: Apache-2.0 */
/* scaler: shift and scale of columns.  Two passes over the values, so that a large mean with a
 * small spread (air pressure) loses nothing. */
#include "train/scaler.h"

#include <math.h>

Scaler scaler_identity(Arena *a, int n)
{
    Scaler s = { .kind = SCALER_NONE, .n = n };
    s.shift = arena_array(a, double, n ? n : 1);
    s.scale = arena_array(a, double, n ? n : 1);
    for (int i = 0; i < n; i++)
        s.scale[i] = 1;
    return s;
}

Scaler scaler_copy(Arena *a, const Scaler *s)
{
    Scaler c = *s;
    c.shift = arena_copy(a, s->shift, sizeof(double) * (size_t)s->n);
    c.scale = arena_copy(a, s->scale, sizeof(double) * (size_t)s->n);
    return c;
}

/* Values come weighted, from any of the three storages. */
typedef struct Sums {
    double n, min, max, sum, square;
} Sums;

static void sums_range(Sums *s, double v, double weight)
{
    if (isnan(v) || weight == 0)
        return;
    s->min = s->n == 0 || v < s->min ? v : s->min;
    s->max = s->n == 0 || v > s->max ? v : s->max;
    s->n += weight;
    s->sum += weight * v;
}

static void sums_square(Sums *s, double v, double weight)
{
    const double d = v - s->sum / s->n;
    if (!isnan(v))
        s->square += weight * d * d;
}

static void sums_finish(const Sums *s, Scaler *out, int column)
{
    const bool constant = s->n == 0 || s->min == s->max;
    if (out->kind == SCALER_STANDARD) {
        out->shift[column] = s->n == 0 ? 0 : constant ? s->min : s->sum / s->n;
        out->scale[column] = constant ? 1 : sqrt(s->square / s->n);
    } else if (out->kind == SCALER_MINMAX) {
        out->shift[column] = s->n == 0 ? 0 : s->min;
        out->scale[column] = constant ? 1 : s->max - s->min;
    }
}

void scaler_fit(Scaler *s, int column, const double *v, const uint8_t *use, int64_t n)
{
    Sums sums = { 0 };
    for (int64_t i = 0; i < n; i++)
        sums_range(&sums, v[i], !use || use[i]);
    for (int64_t i = 0; i < n; i++)
        sums_square(&sums, v[i], !use || use[i]);
    sums_finish(&sums, s, column);
}

void scaler_fit_f32(Scaler *s, int column, const float *v, int64_t step, const uint8_t *use,
                    int64_t n)
{
    Sums sums = { 0 };
    for (int64_t i = 0; i < n; i++)
        sums_range(&sums, (double)v[i * step], !use || use[i]);
    for (int64_t i = 0; i < n; i++)
        sums_square(&sums, (double)v[i * step], !use || use[i]);
    sums_finish(&sums, s, column);
}

void scaler_fit_bytes(Scaler *s, const int64_t count[256], double unit)
{
    Sums sums = { 0 };
    for (int b = 0; b < 256; b++)
        sums_range(&sums, b * unit, (double)count[b]);
    for (int b = 0; b < 256; b++)
        sums_square(&sums, b * unit, (double)count[b]);
    sums_finish(&sums, s, 0);
}
