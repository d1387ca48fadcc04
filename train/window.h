/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_WINDOW_H
#define GTC_TRAIN_WINDOW_H

#include "train/data.h"

/* Which windows there are.  A window ends at row e, its inputs are the rows e-window+1 .. e, its
 * targets the rows e + horizon[k].  Arrays have one entry a row and may be NULL: nothing special.
 */
typedef struct Windows {
    int64_t rows;
    int window, stride, eval_stride; /* >= 1; the last of val and test */
    const int *horizon;
    int nhorizon;
    const int32_t *run;   /* rows of different runs never meet in a window */
    const uint8_t *xbad;  /* not to be used as an input */
    const uint8_t *ybad;  /* has no target */
    bool future;          /* targets are not known: windows may end at the last row */
    bool each;            /* every row of the window has its target, horizon[0] rows on */
    const uint8_t *split; /* Split of the row, SPLIT_COUNT: unused; NULL: all are SPLIT_TRAIN */
} Windows;

/* The windows that there are, by split, ascending.  Call with end NULL to count.  bad: 2 (rows + 1)
 * entries of scratch. */
void window_list(const Windows *w, int64_t *bad, int64_t *const end[SPLIT_COUNT],
                 int64_t n[SPLIT_COUNT]);

/* Marks the rows that the windows read as inputs, and as targets (k: which horizon). */
void window_mark_inputs(const Windows *w, const int64_t *end, int64_t n, uint8_t *mark);
void window_mark_targets(const Windows *w, const int64_t *end, int64_t n, uint8_t *mark);

/* Bounds of train, val, test in 0..n from fractions or counts; ST_VALUE when counts exceed n. */
Status window_bounds(Ctx *cx, const double split[3], int64_t n, int64_t bound[SPLIT_COUNT]);

/* Moves end[0 .. n[SPLIT_TRAIN]) into three ascending lists, drawn by seed.  end[VAL] and end[TEST]
 * have room for as many. */
void window_shuffle(uint64_t seed, const int64_t bound[SPLIT_COUNT],
                    int64_t *const end[SPLIT_COUNT], int64_t n[SPLIT_COUNT]);

#endif
