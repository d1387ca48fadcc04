/* SPDX-License-Identifier: Apache-2.0 */
/* data_npy: NumPy's .npy, versions 1 to 3, numbers of either byte order, C order.
 *
 * A matrix (rows, columns) becomes named columns "0", "1" .. (several files: "stem.0"), so that
 * windows, scalers and targets work as for CSV; a vector is one column named after its file.  From
 * rank 3 on one row is one sample. */
#include "train/data_format.h"

#include <stdlib.h>
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

/* The value of a key of the header's dictionary, behind the colon. */
static const char *header_value(const char *h, const char *key)
{
    const char *p = strstr(h, key);
    if (!p)
        return NULL;
    p += strlen(key);
    while (*p == ' ')
        p++;
    if (*p != ':')
        return NULL;
    for (p++; *p == ' ';)
        p++;
    return p;
}

static Status shape_read(Ctx *cx, const char *path, const char *p, Shape *out)
{
    *out = (Shape){ 0 };
    if (!p || *p != '(')
        return FAIL(cx, DATA, "%s: the .npy header has no shape", path);
    for (p++; *p && *p != ')';) {
        if (*p == ' ' || *p == ',') {
            p++;
            continue;
        }
        if (*p < '0' || *p > '9' || out->rank == MAX_RANK)
            return FAIL(cx, DATA, "%s: the .npy header has a bad shape", path);
        int64_t v = 0;
        for (; *p >= '0' && *p <= '9'; p++)
            if (!size_mul_ok(v, 10, &v) || !size_add_ok(v, *p - '0', &v))
                return FAIL(cx, DATA, "%s: the .npy header has a bad shape", path);
        out->dim[out->rank++] = v;
    }
    if (out->rank < 1)
        return FAIL(cx, DATA, "%s: wants an array with rows, got a single value", path);
    return ST_OK;
}

static Status header_read(Ctx *cx, Source *src, const unsigned char *d, size_t n, Npy *out)
{
    if (n < 12 || memcmp(d, "\x93NUMPY", 6))
        return FAIL(cx, DATA, "%s: this is no .npy file", out->path);
    if (d[6] < 1 || d[6] > 3)
        return FAIL(cx, DATA, "%s: .npy version %d is not known", out->path, d[6]);
    const size_t skip = d[6] == 1 ? 10 : 12;
    size_t len = d[8] | (size_t)d[9] << 8;
    if (d[6] > 1)
        len |= (size_t)d[10] << 16 | (size_t)d[11] << 24;
    if (len > n - skip)
        return FAIL(cx, DATA, "%s: the file ends within the header", out->path);
    char *h = arena_alloc(src->arena, len + 1);
    memcpy(h, d + skip, len);
    const char *descr = header_value(h, "'descr'"), *order = header_value(h, "'fortran_order'");
    static const char *const types[] = { "f4", "f8", "i1", "i2", "i4", "i8",
                                         "u1", "u2", "u4", "u8", "b1" };
    bool known = false;
    for (size_t i = 0; descr && strlen(descr) > 4 && i < sizeof types / sizeof *types; i++)
        known = known || (descr[0] == '\'' && strchr("<>|=", descr[1]) && descr[4] == '\'' &&
                          !memcmp(descr + 2, types[i], 2));
    if (!known)
        return FAIL(cx, DATA,
                    "%s: wants numbers (f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 b1), got type %.12s",
                    out->path, descr ? descr : "none");
    if (!order || strncmp(order, "False", 5))
        return FAIL(cx, DATA,
                    "%s: the array is in Fortran order; save it with numpy.ascontiguousarray",
                    out->path);
    TRY(shape_read(cx, out->path, header_value(h, "'shape'"), &out->shape));
    out->big_endian = descr[1] == '>';
    out->type = descr[2];
    out->bytes = descr[3] - '0';
    out->data = d + skip + len;
    int64_t want = out->bytes;
    for (int i = 0; i < out->shape.rank; i++)
        if (!size_mul_ok(want, out->shape.dim[i], &want))
            return FAIL(cx, DATA, "%s: shape %s is too large", out->path, shape_str(&out->shape));
    if ((uint64_t)want > n - skip - len)
        return FAIL(cx, DATA, "%s: wants %lld bytes for shape %s, got %zu", out->path,
                    (long long)want, shape_str(&out->shape), n - skip - len);
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
        TRY(header_read(cx, src, d, n, &a[i]));
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
