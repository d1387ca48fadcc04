/* SPDX-License-Identifier: Apache-2.0 */
/* data_npy: NumPy's .npy, versions 1 to 3, numbers of either byte order, C order.
 *
 * A matrix (rows, columns) becomes named columns "0", "1" .. (several files: "stem.0"), so that
 * windows, scalers and targets work as for CSV; a vector is one column named after its file.  From
 * rank 3 on one row is one sample. */
#include "train/data_format.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ir/base/size.h"

typedef struct Npy {
    const char *path;
    const unsigned char *data;
    char type; /* f i u b */
    int bytes;
    bool big_endian;
    Shape shape;
} Npy;

/* The header is a Python dictionary of three keys.  It is read by the letter: what numpy.load
 * refuses, or what could be understood in two ways, is refused. */
typedef struct Header {
    Ctx *cx;
    const char *path;
    const unsigned char *start, *at, *end; /* of the file; of the dictionary */
} Header;

static Status bad(const Header *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static Status bad(const Header *h, const char *fmt, ...)
{
    char what[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return FAIL(h->cx, DATA, "%s: byte %zu: %s", h->path, (size_t)(h->at - h->start), what);
}

static bool take(Header *h, char c)
{
    while (h->at < h->end && *h->at == ' ')
        h->at++;
    if (h->at == h->end || *h->at != c)
        return false;
    h->at++;
    return true;
}

/* 'text' or "text", shorter than cap, without escapes. */
static Status read_quoted(Header *h, char *out, size_t cap)
{
    const char quote = take(h, '\'') ? '\'' : take(h, '"') ? '"' : 0;
    size_t n = 0;
    if (!quote)
        return bad(h, "the .npy header wants a quoted word");
    for (; h->at < h->end && *h->at != quote; h->at++) {
        if (n + 1 == cap || *h->at < ' ' || *h->at > '~' || *h->at == '\\')
            return bad(h, "a word of the .npy header that is not known");
        out[n++] = (char)*h->at;
    }
    out[n] = 0;
    return take(h, quote) ? ST_OK : bad(h, "the .npy header ends within a word");
}

static Status read_shape(Header *h, Shape *out)
{
    *out = (Shape){ 0 };
    if (!take(h, '('))
        return bad(h, "the .npy header wants a shape in ( )");
    bool comma = true;
    while (!take(h, ')')) {
        int64_t v = 0;
        if (!comma || h->at == h->end || *h->at < '0' || *h->at > '9' || out->rank == MAX_RANK)
            return bad(h, "the .npy header has a bad shape");
        for (; h->at < h->end && *h->at >= '0' && *h->at <= '9'; h->at++)
            if (!size_mul_ok(v, 10, &v) || !size_add_ok(v, *h->at - '0', &v))
                return bad(h, "the .npy header has an extent beyond 64 bits");
        out->dim[out->rank++] = v;
        comma = take(h, ',');
    }
    if (out->rank < 1)
        return bad(h, "wants an array with rows, got a single value");
    return out->rank > 1 || comma ? ST_OK : bad(h, "a number in ( ) is no shape");
}

static Status read_type(Header *h, Npy *out)
{
    static const char *const types[] = { "f4", "f8", "i1", "i2", "i4", "i8",
                                         "u1", "u2", "u4", "u8", "b1" };
    char word[16] = "a record";
    if (!take(h, '[')) {
        TRY(read_quoted(h, word, sizeof word));
        for (size_t i = 0; i < sizeof types / sizeof *types; i++)
            if (word[0] && strchr("<>|=", word[0]) && strcmp(word + 1, types[i]) == 0) {
                out->big_endian = word[0] == '>';
                out->type = word[1];
                out->bytes = word[2] - '0';
                return ST_OK;
            }
    }
    return bad(h, "wants numbers (f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1), got type %s", word);
}

static Status read_order(Header *h)
{
    while (take(h, ' '))
        continue;
    const size_t left = (size_t)(h->end - h->at);
    if (left >= 4 && !memcmp(h->at, "True", 4))
        return bad(h, "the array is in Fortran order; save it with numpy.ascontiguousarray");
    if (left < 5 || memcmp(h->at, "False", 5))
        return bad(h, "fortran_order wants True or False");
    h->at += 5;
    return ST_OK;
}

static Status read_dictionary(Header *h, Npy *out)
{
    static const char *const key[] = { "descr", "fortran_order", "shape" };
    bool has[3] = { false };
    if (!take(h, '{'))
        return bad(h, "the .npy header wants a dictionary in { }");
    while (!take(h, '}')) {
        char word[16];
        TRY(read_quoted(h, word, sizeof word));
        int k = 0;
        while (k < 3 && strcmp(word, key[k]))
            k++;
        if (k == 3 || has[k])
            return bad(h, "the .npy header has a key %s", k == 3 ? "that is not known" : "twice");
        has[k] = true;
        if (!take(h, ':'))
            return bad(h, "the .npy header wants ':' after a key");
        TRY(k == 0 ? read_type(h, out) : k == 1 ? read_order(h) : read_shape(h, &out->shape));
        if (!take(h, ',') && (h->at == h->end || *h->at != '}'))
            return bad(h, "the .npy header wants ',' or '}'");
    }
    for (int k = 0; k < 3; k++)
        if (!has[k])
            return bad(h, "the .npy header has no %s", key[k]);
    for (; h->at < h->end; h->at++)
        if (*h->at != ' ' && *h->at != '\n')
            return bad(h, "text behind the .npy header's dictionary");
    return ST_OK;
}

static Status header_read(Ctx *cx, const unsigned char *d, size_t n, Npy *out)
{
    Header h = { .cx = cx, .path = out->path, .start = d, .at = d, .end = d + n };
    if (n < 12 || memcmp(d, "\x93NUMPY", 6))
        return bad(&h, "this is no .npy file");
    if (d[6] < 1 || d[6] > 3)
        return bad(&h, ".npy version %d is not known", d[6]);
    const size_t skip = d[6] == 1 ? 10 : 12;
    size_t len = d[8] | (size_t)d[9] << 8;
    if (d[6] > 1)
        len |= (size_t)d[10] << 16 | (size_t)d[11] << 24;
    h.at = d + skip;
    if (len > n - skip)
        return bad(&h, "the file ends within the header");
    h.end = h.at + len;
    TRY(read_dictionary(&h, out));
    out->data = h.at;
    int64_t want = out->bytes;
    bool fits = true, empty = false;
    for (int i = 0; i < out->shape.rank; i++) {
        empty = empty || out->shape.dim[i] == 0;
        fits = fits && size_mul_ok(want, out->shape.dim[i], &want);
    }
    if (empty)
        return bad(&h, "shape %s has no values", shape_str(&out->shape));
    if (!fits)
        return bad(&h, "shape %s is too large", shape_str(&out->shape));
    if ((uint64_t)want != n - skip - len)
        return bad(&h, "wants %lld bytes for shape %s, got %zu", (long long)want,
                   shape_str(&out->shape), n - skip - len);
    return ST_OK;
}

static double value_at(const Npy *a, int64_t i)
{
    const unsigned char *p = a->data + i * a->bytes;
    uint64_t u = 0;
    for (int k = 0; k < a->bytes; k++)
        u |= (uint64_t)p[k] << 8 * (a->big_endian ? a->bytes - 1 - k : k);
    if (a->type == 'f' && a->bytes == 4) {
        const uint32_t u4 = (uint32_t)u;
        float f;
        memcpy(&f, &u4, sizeof f);
        return (double)f;
    }
    if (a->type == 'f') {
        double f;
        memcpy(&f, &u, sizeof f);
        return f;
    }
    if (a->type == 'i' && a->bytes < 8 && u >> (8 * a->bytes - 1))
        return (double)((int64_t)u - ((int64_t)1 << 8 * a->bytes));
    return a->type == 'i' ? (double)(int64_t)u : (double)u;
}

/* Infinities have no place in a data set; NaN is a missing value. */
static bool value_ok(double v)
{
    return !(v > 3.4028234663852886e38 || v < -3.4028234663852886e38);
}

static Status columns_add(Ctx *cx, Source *src, const Npy *a, const char *prefix, Column *col)
{
    const int64_t rows = a->shape.dim[0], n = a->shape.rank == 2 ? a->shape.dim[1] : 1;
    for (int64_t k = 0; k < n; k++) {
        void *p;
        TRY(source_alloc(cx, src, rows, sizeof(double), &p));
        double *v = p;
        for (int64_t r = 0; r < rows; r++) {
            v[r] = value_at(a, r * n + k);
            if (!value_ok(v[r]))
                return FAIL(cx, DATA, "%s: row %lld, column %lld: %g is no f32", a->path,
                            (long long)r + 1, (long long)k, v[r]);
        }
        const char *name = a->shape.rank == 1 ? source_stem(src, a->path)
                                              : arena_printf(src->arena, "%s%s%lld", prefix,
                                                             prefix[0] ? "." : "", (long long)k);
        col[k] = (Column){ .name = name, .file = a->path, .value = v };
    }
    return ST_OK;
}

static Status files_read(Ctx *cx, const Request *rq, Source *src, const StrList *files, Npy **out)
{
    Npy *a = arena_array(src->arena, Npy, files->n ? files->n : 1);
    for (int i = 0; i < files->n; i++) {
        unsigned char *d;
        size_t n;
        TRY(source_file(cx, src, rq, files->at[i], &a[i].path, &d, &n));
        TRY(header_read(cx, d, n, &a[i]));
    }
    *out = a;
    return ST_OK;
}

static Status columns_read(Ctx *cx, Source *src, const Npy *a, int n, Column **col, int *ncol)
{
    int64_t total = 0;
    for (int i = 0; i < n; i++) {
        if (a[i].shape.rank > 2)
            return FAIL(cx, DATA, "%s: wants a vector or a matrix (rows, columns), got %s",
                        a[i].path, shape_str(&a[i].shape));
        if (a[i].shape.dim[0] != src->rows)
            return FAIL(cx, DATA, "%s: wants %lld rows as the first file has, got %lld", a[i].path,
                        (long long)src->rows, (long long)a[i].shape.dim[0]);
        total += a[i].shape.rank == 2 ? a[i].shape.dim[1] : 1;
    }
    if (total > 1 << 20)
        return FAIL(cx, DATA, "%s: %lld columns are too many", a[0].path, (long long)total);
    *col = arena_array(src->arena, Column, total + 1);
    *ncol = (int)total;
    Column *c = *col;
    for (int i = 0; i < n; i++) {
        TRY(columns_add(cx, src, &a[i], n > 1 ? source_stem(src, a[i].path) : "", c));
        c += a[i].shape.rank == 2 ? a[i].shape.dim[1] : 1;
    }
    return ST_OK;
}

static Status block_read(Ctx *cx, Source *src, const Npy *a)
{
    Block *b = src->block = arena_array(src->arena, Block, 1);
    src->nblock = 1;
    b->name = "x";
    b->shape.rank = (int8_t)(a->shape.rank - 1);
    b->width = 1;
    for (int i = 1; i < a->shape.rank; i++) {
        b->shape.dim[i - 1] = a->shape.dim[i];
        b->width = size_mul(b->width, a->shape.dim[i]);
    }
    const int64_t n = size_mul(src->rows, b->width);
    TRY(source_alloc(cx, src, n, sizeof(float), &b->data));
    float *v = b->data;
    for (int64_t i = 0; i < n; i++) {
        const double d = value_at(a, i);
        if (!value_ok(d))
            return FAIL(cx, DATA, "%s: row %lld: %g is no f32", a->path,
                        (long long)(i / b->width) + 1, d);
        v[i] = (float)d;
    }
    return ST_OK;
}

Status npy_read(Ctx *cx, const Request *rq, Source *src)
{
    Npy *x, *y;
    TRY(files_read(cx, rq, src, rq->files, &x));
    TRY(files_read(cx, rq, src, rq->target_files, &y));
    src->rows = x[0].shape.dim[0];
    if (x[0].shape.rank > 2 && rq->files->n == 1)
        TRY(block_read(cx, src, &x[0]));
    else
        TRY(columns_read(cx, src, x, rq->files->n, &src->col, &src->ncol));
    return columns_read(cx, src, y, rq->target_files->n, &src->target, &src->ntarget);
}
