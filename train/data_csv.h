/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_DATA_CSV_H
#define GTC_TRAIN_DATA_CSV_H

#include "train/data_format.h"

/* One CSV file, cut into cells but not converted. */
typedef struct Cell {
    uint32_t off;
    uint32_t len : 31, quoted : 1; /* without the quotes; doubled quotes still doubled */
} Cell;
typedef struct Csv {
    const char *path;
    const char *text;
    size_t n;
    char separator;
    int ncol;
    int64_t rows;      /* without the header */
    const char **name; /* ncol */
    uint32_t *mark;    /* where cells begin; csv_cell finds them */
} Csv;

Status csv_open(Ctx *cx, Source *src, const char *path, const unsigned char *text, size_t n,
                const char *separator, Csv *out);
Cell csv_cell(const Csv *csv, int64_t row, int col);
Status csv_fail(Ctx *cx, const Csv *csv, int64_t row, int col, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
Status csv_vfail(Ctx *cx, const Csv *csv, int64_t row, int col, const char *fmt, va_list ap);
/* Unquoted copy, cut to fit; returns the whole length. */
size_t csv_text(const Csv *csv, int64_t row, int col, char *buf, size_t nbuf);

typedef enum CellKind { CELL_MISSING, CELL_NUMBER, CELL_TEXT } CellKind;
CellKind csv_number(const Csv *csv, int64_t row, int col, double *out);

/* A decimal number, all of s[0..n), rounded to nearest whatever the locale; s[n] must be readable
 * and no part of a number. */
bool number_parse(const char *s, size_t n, double *out);

/* Rows of several files that share a time: the inner join, in the order of the first file.
 * row[f][i]: row of file f for joined row i.  time_col[f]: which column. */
Status csv_join(Ctx *cx, Source *src, const Csv *csv, int ncsv, const int *time_col, int64_t **row,
                int64_t *rows);

/* Seconds since 1970 of "2014-12-31 23:00", "2014/12/31", "31/12/2014" ...  day_first: what the
 * first number of the last form is. */
bool date_parse(const char *s, size_t n, bool day_first, double *seconds);

#endif
