/* SPDX-License-Identifier: Apache-2.0 */
/* data_idx: IDX, the format of MNIST and its relatives: a big-endian header (0, 0, type, rank,
 * one u32 an axis), then bytes.  Images stay bytes in memory and are scaled on fetch. */
#include "train/data_format.h"

#include "ir/base/size.h"

typedef struct Idx {
    const char *path;
    unsigned char *data;
    Shape shape;
} Idx;

static Status file_read(Ctx *cx, const Request *rq, Source *src, const StrList *files,
                        const char *what, Idx *out)
{
    unsigned char *d;
    size_t n;
    if (files->n != 1)
        return FAIL(cx, VALUE, "data: \"idx\" wants one file of %s, got %d", what, files->n);
    TRY(source_file(cx, src, rq, files->at[0], &out->path, &d, &n));
    if (n < 4 || d[0] || d[1] || d[3] < 1 || d[3] > MAX_RANK)
        return FAIL(cx, DATA, "%s: byte 0: this is no IDX file", out->path);
    if (d[2] != 8)
        return FAIL(cx, DATA, "%s: byte 2: wants unsigned bytes (type 8), got type %d", out->path,
                    d[2]);
    const size_t head = 4 + 4 * (size_t)d[3];
    if (n < head)
        return FAIL(cx, DATA, "%s: byte %zu: the file ends within the header", out->path, n);
    out->shape = (Shape){ .rank = (int8_t)d[3] };
    int64_t want = 1;
    for (int i = 0; i < d[3]; i++) {
        const unsigned char *p = d + 4 + 4 * i;
        out->shape.dim[i] = (int64_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
        if (out->shape.dim[i] == 0)
            return FAIL(cx, DATA, "%s: byte %d: an axis without values", out->path, 4 + 4 * i);
        if (!size_mul_ok(want, out->shape.dim[i], &want))
            return FAIL(cx, DATA, "%s: byte %d: more values than 64 bits can count", out->path,
                        4 + 4 * i);
    }
    if ((uint64_t)want != n - head)
        return FAIL(cx, DATA, "%s: byte %zu: wants %lld bytes for shape %s, got %zu", out->path,
                    head, (long long)want, shape_str(&out->shape), n - head);
    out->data = d + head;
    return ST_OK;
}

Status idx_read(Ctx *cx, const Request *rq, Source *src)
{
    Idx x = { 0 }, y = { 0 };
    TRY(file_read(cx, rq, src, rq->files, "images", &x));
    src->rows = x.shape.dim[0];
    Block *b = src->block = arena_array(src->arena, Block, 1);
    src->nblock = 1;
    *b = (Block){ .name = "x", .kind = BLOCK_U8, .width = 1, .data = x.data };
    for (int i = 1; i < x.shape.rank; i++) {
        b->shape.dim[b->shape.rank++] = x.shape.dim[i];
        b->width = size_mul(b->width, x.shape.dim[i]);
    }
    if (b->shape.rank == 2 || b->shape.rank == 0) /* grey images have one channel */
        b->shape.dim[b->shape.rank++] = 1;
    if (rq->target_files->n == 0)
        return ST_OK;
    TRY(file_read(cx, rq, src, rq->target_files, "labels", &y));
    if (y.shape.rank != 1 || y.shape.dim[0] != src->rows)
        return FAIL(cx, DATA, "%s: wants one label for each of the %lld images, got %s", y.path,
                    (long long)src->rows, shape_str(&y.shape));
    void *p;
    TRY(source_alloc(cx, src, src->rows, sizeof(double), &p));
    src->target = arena_array(src->arena, Column, 1);
    src->ntarget = 1;
    src->target[0] = (Column){ .name = "label", .file = y.path, .value = p };
    for (int64_t i = 0; i < src->rows; i++)
        src->target[0].value[i] = y.data[i];
    return ST_OK;
}
