/* SPDX-License-Identifier: Apache-2.0 */
/* Files of samples.  What is taken has rows, no more of them than bytes, and every value that is
 * promised is there: all are touched.  Then the same file once more as its own neighbour or
 * target, for what readers do with several files. */
#include <math.h>
#include <string.h>

#include "tests/fuzz/target.h"
#include "train/data_csv.h"
#include "train/data_format.h"

static void check_csv(const Source *src, const Column *c)
{
    const Csv *csv = c->csv;
    uint32_t before = 0;
    fuzz_check(csv->ncol >= 1 && csv->rows >= 1 && c->csv_col < csv->ncol, "%d columns", csv->ncol);
    for (int64_t r = 0; r < csv->rows; r++) {
        const Cell cell = csv_cell(csv, r, c->csv_col);
        fuzz_check(cell.off <= csv->n && cell.len <= csv->n - cell.off, "cell at %u, %u bytes",
                   cell.off, cell.len);
        fuzz_check(cell.off >= before, "cells out of order");
        before = cell.off;
    }
    fuzz_check(!c->csv_row || src->rows >= 1, "joined without rows");
}

static void check_column(Ctx *cx, Source *src, Column *c)
{
    char buf[64];
    fuzz_check(c->name && c->name[0], "a column without a name");
    if (c->csv)
        check_csv(src, c);
    if (c->word && !c->csv) {
        for (int64_t r = 0; r < src->rows; r++)
            fuzz_check(c->word[r] >= -1 && c->word[r] < c->nwords, "word %d", c->word[r]);
        return;
    }
    const ColumnKind kind = column_kind(src, c);
    for (int64_t r = 0; r < src->rows && r < 100; r++) {
        double s;
        column_text(c, r, buf, sizeof buf);
        date_parse(buf, strlen(buf), r % 2, &s);
    }
    if (kind == COLUMN_TEXT || column_numbers(cx, src, c) != ST_OK) {
        fuzz_check(c->csv, "only text may be no number");
        fuzz_check(column_words(cx, src, c) == ST_OK, "%s", cx->msg);
        for (int64_t r = 0; r < src->rows; r++)
            fuzz_check(c->word[r] >= -1 && c->word[r] < c->nwords, "word %d", c->word[r]);
        return;
    }
    for (int64_t r = 0; r < src->rows; r++)
        fuzz_check(!isinf(c->value[r]), "row %lld is infinite", (long long)r);
}

static void check_block(const Source *src, const Block *b)
{
    unsigned char sum = 0;
    fuzz_check(b->width >= 1 && b->width == shape_count(&b->shape), "%lld values a row",
               (long long)b->width);
    const int64_t bytes = src->rows * b->width * (b->kind == BLOCK_U8 ? 1 : 4);
    for (int64_t i = 0; i < bytes; i++)
        sum ^= ((const unsigned char *)b->data)[i];
    fuzz_check(b->kind != BLOCK_F32 || bytes == 0 || !isinf(*(const float *)b->data), "%d", sum);
}

static void check_source(Ctx *cx, Source *src)
{
    size_t n;
    const char *bytes = fuzz_bytes(&n);
    const bool packed = n > 2 && !memcmp(bytes, "\x1f\x8b", 2);
    fuzz_check(src->rows >= 1 && (packed || (size_t)src->rows <= n), "%lld rows of %zu bytes",
               (long long)src->rows, n);
    fuzz_check(src->ncol + src->nblock >= 1, "neither columns nor blocks");
    for (int i = 0; i < src->ncol; i++)
        check_column(cx, src, &src->col[i]);
    for (int i = 0; i < src->ntarget; i++)
        check_column(cx, src, &src->target[i]);
    for (int i = 0; i < src->nblock; i++)
        check_block(src, &src->block[i]);
}

/* files times the input, targets times the input again. */
static Status read_source(Ctx *cx, DataFormat format, const char *file, int files, int targets,
                          const char *time)
{
    const char *name[] = { file, file };
    const StrList list = { name, files }, target = { name, targets };
    const DataConfig cfg = { .format = format, .time = time };
    const Request rq = { .cfg = &cfg, .files = &list, .target_files = &target };
    Source src;
    const Status st = source_read(cx, &rq, &src);
    if (st == ST_OK) {
        if (files == 1 && targets == 0)
            fuzz_accepted();
        check_source(cx, &src);
    }
    source_free(&src);
    return st;
}

/* The first column's name, for a join by it. */
static Status read_csv(Ctx *cx)
{
    char first[64] = "";
    size_t n;
    const char *bytes = fuzz_bytes(&n);
    TRY(read_source(cx, DATA_CSV, "input.csv", 1, 0, NULL));
    const size_t len = n ? strcspn(bytes, ",;\t|\r\n\" ") : 0;
    if (len && len < sizeof first) {
        memcpy(first, bytes, len);
        read_source(cx, DATA_CSV, "input.csv", 2, 0, first);
    }
    return ST_OK;
}

static Status read_npy(Ctx *cx)
{
    TRY(read_source(cx, DATA_NPY, "input.npy", 1, 0, NULL));
    read_source(cx, DATA_NPY, "input.npy", 2, 1, NULL);
    return ST_OK;
}

static Status read_idx(Ctx *cx)
{
    TRY(read_source(cx, DATA_IDX, "input.idx", 1, 0, NULL));
    read_source(cx, DATA_IDX, "input.idx", 1, 1, NULL);
    return ST_OK;
}

static Status read_wav(Ctx *cx)
{
    TRY(read_source(cx, DATA_WAV, "input.wav", 1, 0, NULL));
    read_source(cx, DATA_WAV, "input.wav", 2, 0, NULL);
    return ST_OK;
}

static Status read_text(Ctx *cx)
{
    return read_source(cx, DATA_TEXT, "input.txt", 1, 0, NULL);
}

const FuzzTarget fuzz_csv = { "csv", "input.csv", read_csv };
const FuzzTarget fuzz_npy = { "npy", "input.npy", read_npy };
const FuzzTarget fuzz_idx = { "idx", "input.idx", read_idx };
const FuzzTarget fuzz_wav = { "wav", "input.wav", read_wav };
const FuzzTarget fuzz_text = { "text", "input.txt", read_text };
