/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_TRAIN_DATA_FORMAT_H
#define GTC_TRAIN_DATA_FORMAT_H

#include "ir/base/os.h"
#include "models/model.h"

/* Between the readers (data_*.c) and data.c: what a file holds, before anything is chosen,
 * cleaned or scaled.  Everything belongs to the Source and dies with it. */

/* One named column of rows.  A reader gives `value`, or (CSV) where the cells are. */
typedef struct Column {
    const char *name;
    const char *file;   /* for messages */
    double *value;      /* NaN: missing.  CSV: NULL until column_numbers */
    int32_t *word;      /* NULL until column_words; number of the text in words, -1: missing */
    const char **words; /* the distinct texts, sorted */
    int nwords;
    const struct Csv *csv; /* NULL: no text behind it */
    int csv_col;
    const int64_t *csv_row; /* row -> row of the file, -1: none; NULL: the same */
} Column;

/* An input that comes whole: one row is one sample. */
typedef enum BlockKind {
    BLOCK_F32,
    BLOCK_U8, /* pixels, scaled on fetch */
    BLOCK_ID, /* i32 words, one-hot on fetch; -1: all zeros */
    BLOCK_NUMBER, /* i32 words as they are; no sample has a -1 */
} BlockKind;
typedef struct Block {
    const char *name;
    BlockKind kind;
    Shape shape;   /* of one row */
    int64_t width; /* elements of one row as stored */
    void *data;
} Block;

typedef struct Source {
    const Os *os;
    Arena *arena;
    int64_t rows;
    Column *col; /* named columns, or */
    int ncol;
    Block *block; /* whole inputs */
    int nblock;
    Column *target; /* from target files; else targets are columns */
    int ntarget;
    int64_t *segment; /* rows: which line of the index file, -1: none; NULL: no index */
    Column *aside;    /* the index file's columns, never inputs */
    int naside;
    void **big, **heap; /* to be given back */
    unsigned nbig, bigcap, nheap, heapcap;
} Source;

/* Which files, and how they are to be read. */
typedef struct Request {
    const DataConfig *cfg;
    const StrList *files, *target_files;
    const char *const *dirs;
    int ndirs;
    uint64_t seed;
} Request;

/* The readers: one file and one row of the table in data_source.c each. */
Status source_read(Ctx *cx, const Request *rq, Source *src);
void source_free(Source *src);

Status csv_read(Ctx *cx, const Request *rq, Source *src);
Status npy_read(Ctx *cx, const Request *rq, Source *src);
Status idx_read(Ctx *cx, const Request *rq, Source *src);
Status wav_read(Ctx *cx, const Request *rq, Source *src);
Status text_read(Ctx *cx, const Request *rq, Source *src);
Status random_read(Ctx *cx, const Request *rq, Source *src);
/* After those: the index file of "segment". */
Status segment_read(Ctx *cx, const Request *rq, Source *src);

/* Gives files and converted columns back, once rows are packed; words stay. */
void source_forget(Source *src);

/* For readers. */
Status source_alloc(Ctx *cx, Source *src, int64_t n, int64_t size, void **out); /* not zeroed */
void source_release(Source *src, void *p); /* before its time */
/* A whole file, unpacked when it is gzip.  *path: where it was found. */
Status source_file(Ctx *cx, Source *src, const Request *rq, const char *name, const char **path,
                   unsigned char **data, size_t *n);
const char *source_stem(Source *src, const char *path); /* "a/b.csv.gz" -> "b" */

/* Fills c->value; fails with the position of the first cell that is no number. */
Status column_numbers(Ctx *cx, Source *src, Column *c);
/* Fills c->word and c->words, sorted (numbers as numbers). */
Status column_words(Ctx *cx, Source *src, Column *c);
/* What is known without converting: "" none, else the first cell that is no number. */
typedef enum ColumnKind { COLUMN_EMPTY, COLUMN_NUMBERS, COLUMN_TEXT } ColumnKind;
ColumnKind column_kind(const Source *src, const Column *c); /* by its first value */
Status column_fail(Ctx *cx, const Column *c, int64_t row, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The cell's text, unquoted, cut to fit buf. */
const char *column_text(const Column *c, int64_t row, char *buf, int nbuf);

#endif
