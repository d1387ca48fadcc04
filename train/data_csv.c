/* SPDX-License-Identifier: Apache-2.0 */
/* data_csv: comma separated values.
 *
 * A file is read whole and cut once, which finds whatever is wrong with its form.  What stays is
 * where every second cell of a row begins (4 bytes), and a cell is cut again when it is asked for:
 * a file can be nothing but separators, and offset and length of each would be eight times its
 * size.  The marks are one allocation, for as many rows as line ends, separators and bytes allow;
 * with the text they are at most 11/3 of the file.  Cells stay as they are until a column is asked
 * for.  Lines and columns are counted only when an error needs them.
 *
 * Format: RFC 4180 and what is found beside it: LF, CRLF and CR line ends, no newline after the
 * last row, a byte order mark, blanks around values, blank lines, and ; tab or | as separators
 * (whichever is most frequent in the header).  A missing value is an empty cell or one of
 * NA N/A NaN null none ? in any case, quoted or not. */
#include "train/data_csv.h"

#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ir/base/strbuf.h"

enum { MAX_COLUMNS = 1 << 17, CELLS_A_MARK = 2 };

/* ---- places ---- */

static void place_of(const Csv *csv, size_t off, int *line, int *col)
{
    size_t start = 0;
    *line = 1;
    for (size_t i = 0; i < off && i < csv->n; i++) {
        const char c = csv->text[i];
        if (c == '\n' || (c == '\r' && (i + 1 == csv->n || csv->text[i + 1] != '\n'))) {
            ++*line;
            start = i + 1;
        }
    }
    if (start == 0 && csv->n >= 3 && !memcmp(csv->text, "\xEF\xBB\xBF", 3) && off >= 3)
        start = 3;
    *col = (int)(off - start) + 1;
}

static Status fail_off(Ctx *cx, const Csv *csv, size_t off, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static Status fail_off(Ctx *cx, const Csv *csv, size_t off, const char *fmt, ...)
{
    Strbuf b = { 0 };
    int line, col;
    va_list ap;
    va_start(ap, fmt);
    strbuf_vprintf(&b, fmt, ap);
    va_end(ap);
    place_of(csv, off, &line, &col);
    const Status s = status_fail_at(cx, ST_DATA, csv->path, line, col, "%s", strbuf_str(&b));
    strbuf_free(&b);
    return s;
}

Status csv_vfail(Ctx *cx, const Csv *csv, int64_t row, int col, const char *fmt, va_list ap)
{
    const Cell c = csv_cell(csv, row, col);
    Strbuf b = { 0 };
    strbuf_vprintf(&b, fmt, ap);
    const Status s = fail_off(cx, csv, c.off - c.quoted, "%s", strbuf_str(&b));
    strbuf_free(&b);
    return s;
}

Status csv_fail(Ctx *cx, const Csv *csv, int64_t row, int col, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const Status s = csv_vfail(cx, csv, row, col, fmt, ap);
    va_end(ap);
    return s;
}

/* ---- cells ---- */

static bool is_blank(char c, char separator)
{
    return (c == ' ' || c == '\t') && c != separator;
}

static bool is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

/* Cuts one cell at *pos and steps behind it, onto the separator or line end.  NULL, or what is
 * wrong, with *pos where. */
static const char *cell_cut(const Csv *csv, size_t *pos, Cell *out)
{
    const char *t = csv->text;
    size_t i = *pos, end;
    while (i < csv->n && is_blank(t[i], csv->separator))
        i++;
    if (i < csv->n && t[i] == '"') {
        const size_t start = ++i;
        for (;; i += 2) {
            const char *q = i < csv->n ? memchr(t + i, '"', csv->n - i) : NULL;
            *pos = start - 1;
            if (!q)
                return "a quote is opened here and never closed";
            i = (size_t)(q - t);
            if (i + 1 >= csv->n || t[i + 1] != '"')
                break;
        }
        *out = (Cell){ .off = (uint32_t)start,
                       .len = (uint32_t)(i - start) & 0x7fffffffu,
                       .quoted = 1 };
        i++;
        while (i < csv->n && is_blank(t[i], csv->separator))
            i++;
        *pos = i;
        return i == csv->n || t[i] == csv->separator || is_line_end(t[i])
                   ? NULL
                   : "text after the closing quote (a quote inside is doubled)";
    }
    const size_t start = i;
    while (i < csv->n && t[i] != csv->separator && !is_line_end(t[i]))
        i++;
    for (end = i; end > start && is_blank(t[end - 1], csv->separator);)
        end--;
    *out = (Cell){ .off = (uint32_t)start, .len = (uint32_t)(end - start) & 0x7fffffffu };
    *pos = i;
    return NULL;
}

static Status cell_read(Ctx *cx, const Csv *csv, size_t *pos, Cell *out)
{
    const char *wrong = cell_cut(csv, pos, out);
    return wrong ? fail_off(cx, csv, *pos, "%s", wrong) : ST_OK;
}

static int marks_a_row(const Csv *csv)
{
    return (csv->ncol + CELLS_A_MARK - 1) / CELLS_A_MARK;
}

Cell csv_cell(const Csv *csv, int64_t row, int col)
{
    Cell c;
    size_t pos = csv->mark[row * marks_a_row(csv) + col / CELLS_A_MARK];
    const char *wrong = cell_cut(csv, &pos, &c);
    for (int k = col % CELLS_A_MARK; k > 0 && !wrong; k--) {
        pos++; /* the separator */
        wrong = cell_cut(csv, &pos, &c);
    }
    gtc_assert(!wrong, "%s: row %lld: %s", csv->path, (long long)row, wrong);
    return c;
}

static size_t line_end_skip(const Csv *csv, size_t i)
{
    if (i + 1 < csv->n && csv->text[i] == '\r' && csv->text[i + 1] == '\n')
        return i + 2;
    return i < csv->n ? i + 1 : i;
}

/* Onto the next line that has anything on it. */
static size_t blank_lines_skip(const Csv *csv, size_t i)
{
    for (;;) {
        size_t k = i;
        while (k < csv->n && is_blank(csv->text[k], csv->separator))
            k++;
        if (k >= csv->n)
            return csv->n;
        if (!is_line_end(csv->text[k]))
            return i;
        i = line_end_skip(csv, k);
    }
}

static char separator_guess(const Csv *csv, size_t pos)
{
    static const char candidate[] = ",;\t|";
    int64_t count[4] = { 0 };
    bool quoted = false;
    for (size_t i = pos; i < csv->n && (quoted || !is_line_end(csv->text[i])); i++) {
        const char c = csv->text[i];
        const char *p = c ? strchr(candidate, c) : NULL;
        if (c == '"')
            quoted = !quoted;
        else if (p && !quoted)
            count[p - candidate]++;
    }
    int best = 0;
    for (int i = 1; i < 4; i++)
        if (count[i] > count[best])
            best = i;
    return candidate[best];
}

/* ---- the header ---- */

static bool utf8_ok(const unsigned char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        const int more = s[i] < 0x80                   ? 0
                         : s[i] >= 0xC2 && s[i] < 0xE0 ? 1
                         : (s[i] & 0xF0) == 0xE0       ? 2
                         : s[i] >= 0xF0 && s[i] < 0xF5 ? 3
                                                       : -1;
        if (more < 0 || i + (size_t)more >= n + (more == 0))
            return false;
        for (int k = 1; k <= more; k++)
            if ((s[i + (size_t)k] & 0xC0) != 0x80)
                return false;
        i += 1 + (size_t)more;
    }
    return true;
}

static size_t unquote(const Csv *csv, const Cell *c, char *buf, size_t nbuf)
{
    size_t n = 0;
    for (size_t i = 0; i < c->len; i++) {
        const char ch = csv->text[c->off + i];
        if (n + 1 < nbuf)
            buf[n] = ch;
        n++;
        if (c->quoted && ch == '"')
            i++; /* its double */
    }
    if (nbuf)
        buf[n < nbuf ? n : nbuf - 1] = 0;
    return n;
}

static Status header_name(Ctx *cx, Source *src, Csv *csv, const Cell *c, int i)
{
    char *name = arena_alloc(src->arena, (size_t)c->len + 1);
    unquote(csv, c, name, (size_t)c->len + 1);
    if (!utf8_ok((const unsigned char *)name, strlen(name)))
        return fail_off(cx, csv, c->off, "the column name is not UTF-8; save the file as UTF-8");
    if (!name[0])
        name = arena_printf(src->arena, "column%d", i + 1);
    csv->name[i] = name;
    return ST_OK;
}

typedef struct NameAt {
    const char *name;
    int i;
} NameAt;

static int name_compare(const void *pa, const void *pb)
{
    const NameAt *a = pa, *b = pb;
    const int d = strcmp(a->name, b->name);
    return d ? d : (a->i > b->i) - (a->i < b->i);
}

static Status header_check(Ctx *cx, Source *src, const Csv *csv, const Cell *cell)
{
    NameAt *at = arena_array(src->arena, NameAt, csv->ncol);
    bool numbers = true, whole = true;
    for (int i = 0; i < csv->ncol; i++) {
        double v;
        at[i] = (NameAt){ csv->name[i], i };
        numbers = numbers && number_parse(csv->name[i], strlen(csv->name[i]), &v);
        whole = whole && strspn(csv->name[i], "0123456789") == strlen(csv->name[i]);
    }
    if (numbers && !whole)
        return fail_off(cx, csv, cell[0].off,
                        "wants a header line with the names of the columns, got only numbers");
    qsort(at, (size_t)csv->ncol, sizeof *at, name_compare);
    for (int i = 1; i < csv->ncol; i++)
        if (!strcmp(at[i - 1].name, at[i].name))
            return fail_off(cx, csv, cell[at[i].i].off, "column \"%s\" appears twice", at[i].name);
    return ST_OK;
}

static Status header_read(Ctx *cx, Source *src, Csv *csv, size_t *pos)
{
    size_t i = *pos;
    unsigned n = 0, cap = 0;
    Cell *cell = NULL;
    for (;; i++) {
        if (n == MAX_COLUMNS)
            return fail_off(cx, csv, i, "more than %d columns", MAX_COLUMNS);
        arena_grow(src->arena, cell, n, cap);
        TRY(cell_read(cx, csv, &i, &cell[n++]));
        if (i >= csv->n || is_line_end(csv->text[i]))
            break;
    }
    csv->ncol = (int)n;
    csv->name = arena_array(src->arena, const char *, n);
    for (unsigned k = 0; k < n; k++)
        TRY(header_name(cx, src, csv, &cell[k], (int)k));
    TRY(header_check(cx, src, csv, cell));
    *pos = line_end_skip(csv, i);
    return ST_OK;
}

/* ---- the rows ---- */

/* At least as many as there are.  A row of n columns has n - 1 separators, and n bytes with its
 * end; one without separators has a byte and an end, else it were blank.  Only the last has no end.
 */
static int64_t rows_at_most(const Csv *csv, size_t pos)
{
    int64_t separators = 0, ends = 0;
    for (size_t i = pos; i < csv->n; i++) {
        separators += csv->text[i] == csv->separator;
        ends += csv->text[i] == '\n' || (csv->text[i] == '\r' && csv->text[i + 1] != '\n');
    }
    const int64_t by_bytes = (int64_t)(csv->n - pos) / (csv->ncol < 2 ? 2 : csv->ncol);
    int64_t most = ends < by_bytes ? ends : by_bytes;
    if (csv->ncol > 1 && separators / (csv->ncol - 1) < most)
        most = separators / (csv->ncol - 1);
    return most + 1;
}

/* One row, from *pos on to its end. */
static Status row_read(Ctx *cx, const Csv *csv, size_t *pos, uint32_t *mark)
{
    Cell cell;
    for (int k = 0;; ++*pos) {
        const size_t start = *pos;
        TRY(cell_read(cx, csv, pos, &cell));
        if (k == csv->ncol) {
            for (k++; *pos < csv->n && !is_line_end(csv->text[*pos]); k++) {
                ++*pos;
                TRY(cell_read(cx, csv, pos, &cell));
            }
            return fail_off(cx, csv, start, "wants %d columns as in the header, got %d", csv->ncol,
                            k);
        }
        if (k % CELLS_A_MARK == 0)
            mark[k / CELLS_A_MARK] = (uint32_t)start;
        k++;
        if (*pos < csv->n && !is_line_end(csv->text[*pos]))
            continue;
        if (k < csv->ncol)
            return fail_off(cx, csv, *pos, "wants %d columns as in the header, got %d", csv->ncol,
                            k);
        return ST_OK;
    }
}

static Status rows_read(Ctx *cx, Source *src, Csv *csv, size_t pos)
{
    const int each = marks_a_row(csv);
    void *p;
    TRY(source_alloc(cx, src, rows_at_most(csv, pos), (int64_t)sizeof *csv->mark * each, &p));
    csv->mark = p;
    while ((pos = blank_lines_skip(csv, pos)) < csv->n) {
        TRY(row_read(cx, csv, &pos, csv->mark + csv->rows * each));
        csv->rows++;
        pos = line_end_skip(csv, pos);
    }
    if (csv->rows == 0)
        return fail_off(cx, csv, csv->n, "has a header and no rows");
    return ST_OK;
}

Status csv_open(Ctx *cx, Source *src, const char *path, const unsigned char *text, size_t n,
                const char *separator, Csv *out)
{
    *out = (Csv){ .path = path, .text = (const char *)text, .n = n };
    if (n >= INT32_MAX)
        return FAIL(cx, DATA, "%s: a CSV file of more than 2 GiB: split it", path);
    if (n >= 2 && (!memcmp(text, "\xFF\xFE", 2) || !memcmp(text, "\xFE\xFF", 2)))
        return fail_off(cx, out, 0, "the file is UTF-16; save it as UTF-8");
    const char *nul = n ? memchr(text, 0, n) : NULL;
    if (nul)
        return fail_off(cx, out, (size_t)(nul - out->text), "a NUL byte: this is no text file");
    if (separator && (strlen(separator) != 1 || strchr("\"\r\n.+-", separator[0]) ||
                      (separator[0] >= '0' && separator[0] <= '9') || (separator[0] | 32) == 'e'))
        return FAIL(cx, VALUE, "data: separator wants one character such as \",\", got \"%s\"",
                    separator);
    size_t pos = n >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3) ? 3 : 0;
    while (pos < n && is_line_end(out->text[pos]))
        pos++;
    if (pos == n)
        return fail_off(cx, out, pos, "the file is empty; it wants a header line");
    out->separator = separator ? separator[0] : separator_guess(out, pos);
    TRY(header_read(cx, src, out, &pos));
    return rows_read(cx, src, out, pos);
}

size_t csv_text(const Csv *csv, int64_t row, int col, char *buf, size_t nbuf)
{
    const Cell c = csv_cell(csv, row, col);
    return unquote(csv, &c, buf, nbuf);
}

/* ---- numbers ---- */

static bool is_missing(const char *s, size_t n)
{
    static const char *const word[] = { "na", "n/a", "nan", "null", "none", "?", "#n/a", "nat" };
    if (n == 0)
        return true;
    for (size_t i = 0; n <= 4 && i < sizeof word / sizeof *word; i++)
        if (strlen(word[i]) == n && !strncasecmp(s, word[i], n))
            return true;
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Exact when both parts are (Clinger's fast path); else libc decides, in the C locale. */
bool number_parse(const char *s, size_t n, double *out)
{
    static const double ten[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
    const char *p = s, *end = s + n;
    uint64_t m = 0;
    int digits = 0, taken = 0, exp10 = 0, e = 0;
    const bool minus = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    for (bool point = false; p < end && (is_digit(*p) || (*p == '.' && !point)); p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        digits = 1;
        if (taken < 18 && (m || *p != '0'))
            taken++, m = m * 10 + (uint64_t)(*p - '0'), exp10 -= point;
        else if (m)
            taken = 19; /* more than fit: the slow way */
        else
            exp10 -= point && exp10 > -1000;
    }
    if (!digits)
        return false;
    if (p < end && (*p | 32) == 'e') {
        const bool neg = p + 1 < end && p[1] == '-';
        p += p + 1 < end && (p[1] == '-' || p[1] == '+') ? 2 : 1;
        if (p == end || !is_digit(*p))
            return false;
        for (; p < end && is_digit(*p); p++)
            e = e < 10000 ? e * 10 + (*p - '0') : e;
        exp10 += neg ? -e : e;
    }
    if (p != end)
        return false;
    if (taken < 19 && m <= (1ull << 53) && exp10 >= -22 && exp10 <= 22) {
        const double v = exp10 < 0 ? (double)m / ten[-exp10] : (double)m * ten[exp10];
        *out = minus ? -v : v;
        return true;
    }
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c)
        return false;
    *out = strtod_l(s, NULL, c);
    freelocale(c);
    return true;
}

CellKind csv_number(const Csv *csv, int64_t row, int col, double *out)
{
    const Cell c = csv_cell(csv, row, col);
    const char *s = csv->text + c.off;
    size_t n = c.len;
    while (n && *s == ' ') /* only inside quotes: " 12" */
        s++, n--;
    while (n && s[n - 1] == ' ')
        n--;
    if (number_parse(s, n, out))
        return CELL_NUMBER;
    return is_missing(s, n) ? CELL_MISSING : CELL_TEXT;
}

/* ---- several files ---- */

static bool rows_agree(const Csv *csv, int ncsv, const int *time_col)
{
    for (int f = 1; f < ncsv; f++) {
        if (csv[f].rows != csv[0].rows)
            return false;
        for (int64_t r = 0; time_col && r < csv[0].rows; r++) {
            char a[64], b[64];
            csv_text(&csv[0], r, time_col[0], a, sizeof a);
            csv_text(&csv[f], r, time_col[f], b, sizeof b);
            if (strcmp(a, b))
                return false;
        }
    }
    return true;
}

static bool name_taken(const Csv *csv, int ncsv, int f, const char *name)
{
    for (int g = 0; g < ncsv; g++)
        for (int k = 0; g != f && k < csv[g].ncol; k++)
            if (!strcmp(csv[g].name[k], name))
                return true;
    return false;
}

static void columns_make(Source *src, const Csv *csv, int ncsv, const int *time_col,
                         int64_t *const *row)
{
    int n = 0;
    for (int f = 0; f < ncsv; f++)
        n += csv[f].ncol;
    src->col = arena_array(src->arena, Column, n);
    for (int f = 0; f < ncsv; f++)
        for (int k = 0; k < csv[f].ncol; k++) {
            const char *name = csv[f].name[k];
            const bool time = time_col && time_col[f] == k;
            if (time && f > 0)
                continue;
            if (!time && name_taken(csv, ncsv, f, name))
                name = arena_printf(src->arena, "%s.%s", source_stem(src, csv[f].path), name);
            src->col[src->ncol++] = (Column){ .name = name,
                                              .file = csv[f].path,
                                              .csv = &csv[f],
                                              .csv_col = k,
                                              .csv_row = row ? row[f] : NULL };
        }
}

static Status time_columns(Ctx *cx, Source *src, const Csv *csv, int ncsv, const char *time,
                           int **out)
{
    *out = NULL;
    if (!time)
        return ST_OK;
    int *col = arena_array(src->arena, int, ncsv);
    for (int f = 0; f < ncsv; f++) {
        for (col[f] = 0; col[f] < csv[f].ncol && strcmp(csv[f].name[col[f]], time);)
            col[f]++;
        if (col[f] == csv[f].ncol)
            return status_fail_at(cx, ST_DATA, csv[f].path, 1, 1, "no time column \"%s\"", time);
    }
    *out = col;
    return ST_OK;
}

Status csv_read(Ctx *cx, const Request *rq, Source *src)
{
    const int n = rq->files->n;
    Csv *csv = arena_array(src->arena, Csv, n);
    int *time_col;
    for (int f = 0; f < n; f++) {
        const char *path;
        unsigned char *text;
        size_t len;
        TRY(source_file(cx, src, rq, rq->files->at[f], &path, &text, &len));
        TRY(csv_open(cx, src, path, text, len, rq->cfg->separator, &csv[f]));
    }
    TRY(time_columns(cx, src, csv, n, rq->cfg->time, &time_col));
    src->rows = csv[0].rows;
    if (rows_agree(csv, n, time_col)) {
        columns_make(src, csv, n, time_col, NULL);
        return ST_OK;
    }
    for (int f = 1; !time_col && f < n; f++)
        if (csv[f].rows != csv[0].rows)
            return FAIL(
                cx, DATA,
                "data: %s has %lld rows and %s %lld; name their \"time\" column to join them",
                csv[0].path, (long long)csv[0].rows, csv[f].path, (long long)csv[f].rows);
    int64_t **row = arena_array(src->arena, int64_t *, n);
    TRY(csv_join(cx, src, csv, n, time_col, row, &src->rows));
    columns_make(src, csv, n, time_col, row);
    return ST_OK;
}
