/* SPDX-License-Identifier: Apache-2.0 */
/* data_segment: an index file says where the segments of other files begin and how long they are:
 * a CSV with a line a segment.  Its columns hold for all rows of their segment, so that one of them
 * may be the group of a split.  Segments do not overlap; rows of none are not used. */
#include <string.h>

#include "train/data_csv.h"

static Status column_at(Ctx *cx, const Csv *csv, const char *name, const char *key, int *out)
{
    for (*out = 0; *out < csv->ncol; ++*out)
        if (!strcmp(csv->name[*out], name))
            return ST_OK;
    return status_fail_at(cx, ST_DATA, csv->path, 1, 1, "segment: no column \"%s\" for \"%s\"",
                          name, key);
}

/* A whole number from 0 to most. */
static Status count_at(Ctx *cx, const Csv *csv, int64_t line, int col, int64_t most, int64_t *out)
{
    double v;
    if (csv_number(csv, line, col, &v) != CELL_NUMBER || !(v >= 0) || v > (double)most ||
        v != (double)(int64_t)v)
        return csv_fail(cx, csv, line, col, "segment: \"%s\" wants a whole number from 0 to %lld",
                        csv->name[col], (long long)most);
    *out = (int64_t)v;
    return ST_OK;
}

static Status lines_mark(Ctx *cx, const Csv *csv, int start, int count, Source *src)
{
    for (int64_t line = 0; line < csv->rows; line++) {
        int64_t from, n;
        TRY(count_at(cx, csv, line, start, src->rows, &from));
        TRY(count_at(cx, csv, line, count, src->rows - from, &n));
        for (int64_t r = from; r < from + n; r++) {
            if (src->segment[r] >= 0)
                return csv_fail(cx, csv, line, start,
                                "segment: row %lld is in an earlier segment too", (long long)r);
            src->segment[r] = line;
        }
    }
    return ST_OK;
}

Status segment_read(Ctx *cx, const Request *rq, Source *src)
{
    const DataConfig *cfg = rq->cfg;
    const char *path;
    unsigned char *text;
    size_t n;
    void *room;
    int start, count;
    Csv *csv = arena_array(src->arena, Csv, 1);
    TRY(source_file(cx, src, rq, cfg->index, &path, &text, &n));
    TRY(csv_open(cx, src, path, text, n, NULL, csv));
    TRY(column_at(cx, csv, cfg->index_start, "start", &start));
    TRY(column_at(cx, csv, cfg->index_count, "count", &count));
    TRY(source_alloc(cx, src, src->rows, sizeof(int64_t), &room));
    src->segment = room;
    for (int64_t r = 0; r < src->rows; r++)
        src->segment[r] = -1;
    TRY(lines_mark(cx, csv, start, count, src));
    src->aside = arena_array(src->arena, Column, csv->ncol);
    src->naside = csv->ncol;
    for (int k = 0; k < csv->ncol; k++)
        src->aside[k] = (Column){ .name = csv->name[k],
                                  .file = csv->path,
                                  .csv = csv,
                                  .csv_col = k,
                                  .csv_row = src->segment };
    return ST_OK;
}
