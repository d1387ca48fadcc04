/* SPDX-License-Identifier: Apache-2.0 */
/* data_time: dates, and files joined by them.
 *
 * 3/4/2014 is read only when the column as a whole says which number is the day: some first or
 * some second number above 12.  Joining sorts (time, row) of each file and merges, so the cost is
 * n log n whatever the order of the rows; the joined rows stand in the order of the first file. */
#include <stdlib.h>
#include <string.h>

#include "train/data_csv.h"

static bool digits_take(const char **p, const char *end, int most, int *out)
{
    int n = 0;
    for (*out = 0; *p < end && n < most && **p >= '0' && **p <= '9'; n++)
        *out = *out * 10 + (*(*p)++ - '0');
    return n > 0;
}

/* Days since 1970-01-01 in the Gregorian calendar, counted in 400-year eras from 1 March. */
static int64_t days_of(int y, int m, int d)
{
    const int64_t yy = (int64_t)y - (m <= 2), era = (yy >= 0 ? yy : yy - 399) / 400;
    const int64_t yoe = yy - era * 400, doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static bool day_ok(int y, int m, int d)
{
    static const int last[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    const bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return m >= 1 && m <= 12 && d >= 1 && d <= last[m - 1] + (m == 2 && leap);
}

/* "T12:34:56.789Z", "12:34", ""; a zone other than Z is refused. */
static bool clock_parse(const char *p, const char *end, double *seconds)
{
    int h, m = 0, s = 0;
    *seconds = 0;
    if (p == end)
        return true;
    if (*p != 'T' && *p != ' ')
        return false;
    p++;
    if (!digits_take(&p, end, 2, &h))
        return false;
    if (p < end && *p == ':' && (p++, !digits_take(&p, end, 2, &m)))
        return false;
    if (p < end && *p == ':' && (p++, !digits_take(&p, end, 2, &s)))
        return false;
    double fraction = 0, unit = 0.1;
    if (p < end && *p == '.')
        for (p++; p < end && *p >= '0' && *p <= '9'; p++, unit /= 10)
            fraction += (*p - '0') * unit;
    if (p < end && *p == 'Z')
        p++;
    *seconds = h * 3600.0 + m * 60.0 + s + fraction;
    return p == end && h <= 24 && m < 60 && s <= 60;
}

/* Whether the first of two numbers may be a month, or the second one. */
static bool is_short_date(const char *s, size_t n, int *first, int *second)
{
    const char *p = s, *end = s + n;
    if (!digits_take(&p, end, 2, first) || p == end || !strchr("-/.", *p) || *p == 0)
        return false;
    const char sep = *p++;
    return digits_take(&p, end, 2, second) && p < end && *p == sep;
}

bool date_parse(const char *s, size_t n, bool day_first, double *seconds)
{
    const char *p = s, *end = s + n;
    int a, b, c, y, m, d;
    double clock;
    if (!digits_take(&p, end, 4, &a))
        return false;
    const bool year_first = p - s == 4;
    if (p == end || !strchr("-/.", *p) || *p == 0)
        return false;
    const char sep = *p++;
    if (!digits_take(&p, end, 2, &b) || p == end || *p++ != sep)
        return false;
    const char *third = p;
    if (!digits_take(&p, end, 4, &c) || (!year_first && p - third != 4))
        return false;
    y = year_first ? a : c;
    m = year_first || !day_first ? (year_first ? b : a) : b;
    d = year_first ? c : day_first ? a : b;
    if (!day_ok(y, m, d) || !clock_parse(p, end, &clock))
        return false;
    *seconds = (double)days_of(y, m, d) * 86400.0 + clock;
    return true;
}

typedef struct TimeRow {
    double time;
    int64_t row;
} TimeRow;

static int timerow_compare(const void *pa, const void *pb)
{
    const TimeRow *a = pa, *b = pb;
    if (a->time != b->time)
        return a->time < b->time ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

static int row_compare(const void *pa, const void *pb)
{
    const int64_t a = *(const int64_t *)pa, b = *(const int64_t *)pb;
    return (a > b) - (a < b);
}

static Status day_first_find(Ctx *cx, const Csv *csv, int col, bool *day_first)
{
    bool day = false, month = false, any = false;
    for (int64_t r = 0; r < csv->rows; r++) {
        char buf[64];
        int a, b;
        const size_t n = csv_text(csv, r, col, buf, sizeof buf);
        if (n >= sizeof buf || !is_short_date(buf, n, &a, &b))
            continue;
        any = true;
        day = day || a > 12;
        month = month || b > 12;
    }
    *day_first = day;
    if (any && day == month)
        return csv_fail(cx, csv, 0, col,
                        "cannot tell day from month in column \"%s\"; write dates as YYYY-MM-DD",
                        csv->name[col]);
    return ST_OK;
}

static Status times_read(Ctx *cx, Source *src, const Csv *csv, int col, TimeRow **out)
{
    bool day_first;
    void *p;
    TRY(day_first_find(cx, csv, col, &day_first));
    TRY(source_alloc(cx, src, csv->rows, sizeof(TimeRow), &p));
    TimeRow *t = p;
    for (int64_t r = 0; r < csv->rows; r++) {
        char buf[64];
        const size_t n = csv_text(csv, r, col, buf, sizeof buf);
        t[r].row = r;
        if (n >= sizeof buf || (!date_parse(buf, n, day_first, &t[r].time) &&
                                csv_number(csv, r, col, &t[r].time) != CELL_NUMBER))
            return csv_fail(cx, csv, r, col, "column \"%s\" wants a date or a number, got \"%s\"",
                            csv->name[col], buf);
    }
    qsort(t, (size_t)csv->rows, sizeof *t, timerow_compare);
    for (int64_t r = 1; r < csv->rows; r++)
        if (t[r].time == t[r - 1].time)
            return csv_fail(cx, csv, t[r].row, col, "a time appears twice: files cannot be joined");
    *out = t;
    return ST_OK;
}

Status csv_join(Ctx *cx, Source *src, const Csv *csv, int ncsv, const int *time_col, int64_t **row,
                int64_t *rows)
{
    TimeRow **t = arena_array(src->arena, TimeRow *, ncsv);
    int64_t *at = arena_array(src->arena, int64_t, ncsv);
    for (int f = 0; f < ncsv; f++)
        TRY(times_read(cx, src, &csv[f], time_col[f], &t[f]));
    /* One record a joined row, its row of file 0 in front, so that sorting restores that order. */
    void *p;
    TRY(source_alloc(cx, src, csv[0].rows, (int64_t)sizeof(int64_t) * ncsv, &p));
    int64_t *rec = p, n = 0;
    for (int64_t i = 0; i < csv[0].rows; i++) {
        bool all = true;
        for (int f = 1; f < ncsv; f++) {
            while (at[f] < csv[f].rows && t[f][at[f]].time < t[0][i].time)
                at[f]++;
            all = all && at[f] < csv[f].rows && t[f][at[f]].time == t[0][i].time;
        }
        rec[n * ncsv] = t[0][i].row;
        for (int f = 1; all && f < ncsv; f++)
            rec[n * ncsv + f] = t[f][at[f]].row;
        n += all;
    }
    qsort(rec, (size_t)n, sizeof *rec * (size_t)ncsv, row_compare);
    for (int f = 0; f < ncsv; f++) {
        TRY(source_alloc(cx, src, n, sizeof(int64_t), &p));
        row[f] = p;
        for (int64_t i = 0; i < n; i++)
            row[f][i] = rec[i * ncsv + f];
        source_release(src, t[f]);
    }
    source_release(src, rec);
    if (n == 0)
        return FAIL(cx, DATA, "data: %s and %s have no time in common", csv[0].path, csv[1].path);
    log_say(cx, LOG_INFO, "data: %d files joined by time: %lld rows of %lld", ncsv, (long long)n,
            (long long)csv[0].rows);
    *rows = n;
    return ST_OK;
}
