/* SPDX-License-Identifier: Apache-2.0 */
/* data_source: what every reader needs: the table of formats, files (found, read, unpacked), and
 * columns turned into numbers or words.
 *
 * A CSV column is converted only when someone asks for it, so that a text column nobody uses is
 * no error, and a bad cell in a column that is used is one with its place. */
#include "train/data_format.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "ir/base/hash.h"
#include "ir/base/size.h"
#include "ir/base/strbuf.h"
#include "train/data_csv.h"

typedef struct Format {
    const char *name;
    Status (*read)(Ctx *cx, const Request *rq, Source *src);
} Format;

static const Format format[] = {
    [DATA_CSV] = { "csv", csv_read },    [DATA_NPY] = { "npy", npy_read },
    [DATA_IDX] = { "idx", idx_read },    [DATA_WAV] = { "wav", wav_read },
    [DATA_TEXT] = { "text", text_read }, [DATA_RANDOM] = { "random", random_read },
};

Status source_read(Ctx *cx, const Request *rq, Source *src)
{
    const Format *f = &format[rq->cfg->format];
    *src = (Source){ .os = cx->os, .arena = arena_new() };
    if (rq->cfg->format != DATA_RANDOM && rq->files->n == 0)
        return FAIL(cx, VALUE, "data: \"%s\" wants a file", f->name);
    TRY(f->read(cx, rq, src));
    if (src->rows < 1)
        return FAIL(cx, DATA, "data: \"%s\" has no rows", f->name);
    return rq->cfg->index ? segment_read(cx, rq, src) : ST_OK;
}

void source_free(Source *src)
{
    for (unsigned i = 0; i < src->nbig; i++)
        if (src->big[i])
            src->os->release(src->big[i]);
    for (unsigned i = 0; i < src->nheap; i++)
        free(src->heap[i]);
    arena_free(src->arena);
    *src = (Source){ 0 };
}

Status source_alloc(Ctx *cx, Source *src, int64_t n, int64_t size, void **out)
{
    int64_t bytes;
    *out = NULL;
    if (!size_mul_ok(n, size, &bytes))
        return FAIL(cx, MEMORY, "data: %lld values of %lld bytes are too many", (long long)n,
                    (long long)size);
    void *p = src->os->alloc((size_t)(bytes ? bytes : 1));
    if (!p)
        return FAIL(cx, MEMORY, "data: no memory for %lld bytes", (long long)bytes);
    arena_grow(src->arena, src->big, src->nbig, src->bigcap);
    src->big[src->nbig++] = p;
    *out = p;
    return ST_OK;
}

void source_release(Source *src, void *p)
{
    for (unsigned i = src->nbig; i-- > 0;)
        if (src->big[i] == p) {
            src->os->release(p);
            src->big[i] = src->big[--src->nbig];
            return;
        }
}

void source_forget(Source *src)
{
    if (src->nblock)
        return; /* an IDX file is its own block */
    for (int i = 0; i < src->ncol; i++) {
        Column *c = &src->col[i];
        source_release(src, c->value);
        c->value = NULL;
        if (!c->csv)
            continue;
        source_release(src, c->csv->mark);
        source_release(src, (void *)(uintptr_t)c->csv->text); /* when it was unpacked */
        c->csv = NULL;
    }
    while (src->nheap)
        free(src->heap[--src->nheap]);
}

/* ---- files ---- */

static Status file_find(Ctx *cx, Source *src, const Request *rq, const char *name,
                        const char **path)
{
    struct stat st;
    for (int i = 0; name[0] != '/' && i < rq->ndirs; i++) {
        *path = arena_printf(src->arena, "%s/%s", rq->dirs[i], name);
        if (src->os->stat(*path, &st) == 0)
            return ST_OK;
    }
    *path = arena_strdup(src->arena, name);
    if (src->os->stat(name, &st) == 0)
        return ST_OK;
    const int err = errno;
    Strbuf where = { 0 };
    for (int i = 0; name[0] != '/' && i < rq->ndirs; i++)
        strbuf_printf(&where, "%s%s", i ? ", " : "; looked in ", rq->dirs[i]);
    const Status s =
        FAIL(cx, IO, "data: cannot find %s: %s%s", name, strerror(err), strbuf_str(&where));
    strbuf_free(&where);
    return s;
}

/* A gzip file of a few bytes can stand for gigabytes: beyond the first few MiB, a file that grows
 * more than any data do is refused. */
enum { GZIP_FREE = 4 << 20, GZIP_RATIO = 200 };

static Status gzip_unpack(Ctx *cx, Source *src, const char *path, const unsigned char *in, size_t n,
                          unsigned char **out, size_t *nout)
{
    z_stream z = { .next_in = (unsigned char *)(uintptr_t)in };
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK)
        return FAIL(cx, MEMORY, "%s: no memory to unpack it", path);
    Status s = ST_OK;
    const size_t most = n > GZIP_FREE / GZIP_RATIO ? n * GZIP_RATIO : GZIP_FREE;
    size_t cap = 0, len = 0, done = 0;
    unsigned char *buf = NULL;
    int rc = Z_OK;
    while (s == ST_OK && rc != Z_STREAM_END) {
        if (len == cap) {
            void *bigger;
            if (cap == most) {
                s = FAIL(cx, DATA,
                         "%s: byte %zu: it unpacks to more than %d times its size; unpack it first",
                         path, done, GZIP_RATIO);
                break;
            }
            cap = cap ? cap * 2 : n * 4 + 4096;
            cap = cap < most ? cap : most;
            s = source_alloc(cx, src, (int64_t)cap + 1, 1, &bigger);
            if (s != ST_OK)
                break;
            if (buf) {
                memcpy(bigger, buf, len);
                source_release(src, buf);
            }
            buf = bigger;
        }
        const size_t give = n - done < (1u << 30) ? n - done : 1u << 30;
        const size_t room = cap - len < (1u << 30) ? cap - len : 1u << 30;
        z.avail_in = (unsigned)give;
        z.avail_out = (unsigned)room;
        z.next_out = buf + len;
        rc = inflate(&z, Z_NO_FLUSH);
        done += give - z.avail_in;
        len += room - z.avail_out;
        if (rc == Z_STREAM_END && done < n && in[done] == 0x1f) /* members may follow each other */
            rc = inflateReset(&z);
        else if (rc == Z_BUF_ERROR && done < n && len == cap)
            rc = Z_OK;
        else if (rc == Z_BUF_ERROR || (rc == Z_OK && done == n && len < cap))
            s = FAIL(cx, DATA, "%s: byte %zu: the gzip file ends too early", path, n);
        else if (rc != Z_OK && rc != Z_STREAM_END)
            s = FAIL(cx, DATA, "%s: byte %zu: a damaged gzip file: %s", path, done,
                     z.msg ? z.msg : "no more is known");
    }
    inflateEnd(&z);
    if (s == ST_OK)
        buf[len] = 0;
    *out = buf;
    *nout = len;
    return s;
}

Status source_file(Ctx *cx, Source *src, const Request *rq, const char *name, const char **path,
                   unsigned char **data, size_t *n)
{
    char *text;
    TRY(file_find(cx, src, rq, name, path));
    TRY(os_read_file(cx, *path, &text, n));
    arena_grow(src->arena, src->heap, src->nheap, src->heapcap);
    src->heap[src->nheap++] = text;
    *data = (unsigned char *)text;
    if (*n < 2 || (*data)[0] != 0x1f || (*data)[1] != 0x8b)
        return ST_OK;
    TRY(gzip_unpack(cx, src, *path, (unsigned char *)text, *n, data, n));
    free(text);
    src->nheap--;
    return ST_OK;
}

const char *source_stem(Source *src, const char *path)
{
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    const size_t n = strcspn(base[0] == '.' ? base + 1 : base, ".") + (base[0] == '.');
    return arena_printf(src->arena, "%.*s", (int)n, base);
}

/* ---- columns ---- */

static int64_t csv_row_of(const Column *c, int64_t row)
{
    return c->csv_row ? c->csv_row[row] : row;
}

Status column_fail(Ctx *cx, const Column *c, int64_t row, const char *fmt, ...)
{
    va_list ap;
    Status s;
    va_start(ap, fmt);
    if (c->csv) {
        s = csv_vfail(cx, c->csv, csv_row_of(c, row), c->csv_col, fmt, ap);
    } else {
        Strbuf b = { 0 };
        strbuf_vprintf(&b, fmt, ap);
        s = FAIL(cx, DATA, "%s: row %lld: %s", c->file, (long long)row + 1, strbuf_str(&b));
        strbuf_free(&b);
    }
    va_end(ap);
    return s;
}

const char *column_text(const Column *c, int64_t row, char *buf, int nbuf)
{
    if (c->csv)
        csv_text(c->csv, csv_row_of(c, row), c->csv_col, buf, (size_t)nbuf);
    else if (c->value)
        snprintf(buf, (size_t)nbuf, "%.17g", c->value[row]);
    else
        snprintf(buf, (size_t)nbuf, "%s", c->word[row] < 0 ? "" : c->words[c->word[row]]);
    return buf;
}

ColumnKind column_kind(const Source *src, const Column *c)
{
    if (!c->csv)
        return c->value ? COLUMN_NUMBERS : COLUMN_TEXT;
    for (int64_t r = 0; r < src->rows; r++) {
        double v;
        const CellKind k = csv_number(c->csv, csv_row_of(c, r), c->csv_col, &v);
        if (k != CELL_MISSING)
            return k == CELL_NUMBER ? COLUMN_NUMBERS : COLUMN_TEXT;
    }
    return COLUMN_EMPTY;
}

Status column_numbers(Ctx *cx, Source *src, Column *c)
{
    if (c->value)
        return ST_OK;
    if (!c->csv)
        return FAIL(cx, DATA, "%s: column \"%s\" is text, numbers are wanted", c->file, c->name);
    void *p;
    TRY(source_alloc(cx, src, src->rows, sizeof(double), &p));
    double *v = p;
    for (int64_t r = 0; r < src->rows; r++) {
        const CellKind k = csv_number(c->csv, csv_row_of(c, r), c->csv_col, &v[r]);
        if (k == CELL_MISSING)
            v[r] = NAN;
        char buf[48];
        if (k == CELL_TEXT)
            return column_fail(cx, c, r, "column \"%s\" wants numbers, got \"%s\"", c->name,
                               column_text(c, r, buf, sizeof buf));
        if (k == CELL_NUMBER && fabs(v[r]) > 3.4028234663852886e38)
            return column_fail(cx, c, r, "column \"%s\": %s is too large for an f32", c->name,
                               column_text(c, r, buf, sizeof buf));
    }
    c->value = v;
    return ST_OK;
}

/* Distinct texts by hash, first come first numbered. */
typedef struct WordSet {
    Arena *arena;
    const char **word;
    unsigned n, cap;
    int32_t *slot; /* number + 1; 0: free */
    uint64_t mask;
} WordSet;

static uint64_t wordset_slot(const WordSet *w, const char *s, size_t n)
{
    uint64_t i = hash_bytes(s, n, 0) & w->mask;
    while (w->slot[i] &&
           (strncmp(w->word[w->slot[i] - 1], s, n) || w->word[w->slot[i] - 1][n] != 0))
        i = (i + 1) & w->mask;
    return i;
}

static void wordset_grow(WordSet *w)
{
    w->mask = w->mask ? w->mask * 2 + 1 : 63;
    w->slot = arena_array(w->arena, int32_t, w->mask + 1);
    for (unsigned i = 0; i < w->n; i++)
        w->slot[wordset_slot(w, w->word[i], strlen(w->word[i]))] = (int32_t)i + 1;
}

static int32_t wordset_add(WordSet *w, const char *s, size_t n)
{
    if (!w->slot || (uint64_t)w->n * 2 > w->mask)
        wordset_grow(w);
    const uint64_t i = wordset_slot(w, s, n);
    if (w->slot[i] == 0) {
        char *copy = arena_alloc(w->arena, n + 1);
        memcpy(copy, s, n);
        arena_grow(w->arena, w->word, w->n, w->cap);
        w->word[w->n++] = copy;
        w->slot[i] = (int32_t)w->n;
    }
    return w->slot[i] - 1;
}

typedef struct Word {
    const char *s;
    int32_t id;
    bool number;
    double value;
} Word;

/* Numbers before texts, numbers by value, texts by bytes. */
static int word_compare(const void *pa, const void *pb)
{
    const Word *a = pa, *b = pb;
    if (a->number != b->number)
        return a->number ? -1 : 1;
    if (a->number && a->value != b->value)
        return a->value < b->value ? -1 : 1;
    return strcmp(a->s, b->s);
}

static void words_sort(Source *src, Column *c, const WordSet *w)
{
    Word *word = arena_array(src->arena, Word, w->n ? w->n : 1);
    int32_t *to = arena_array(src->arena, int32_t, w->n ? w->n : 1);
    for (unsigned i = 0; i < w->n; i++) {
        word[i] = (Word){ .s = w->word[i], .id = (int32_t)i };
        word[i].number = number_parse(word[i].s, strlen(word[i].s), &word[i].value);
    }
    qsort(word, w->n, sizeof *word, word_compare);
    c->words = arena_array(src->arena, const char *, w->n ? w->n : 1);
    c->nwords = (int)w->n;
    for (unsigned i = 0; i < w->n; i++) {
        c->words[i] = word[i].s;
        to[word[i].id] = (int32_t)i;
    }
    for (int64_t r = 0; r < src->rows; r++)
        if (c->word[r] >= 0)
            c->word[r] = to[c->word[r]];
}

Status column_words(Ctx *cx, Source *src, Column *c)
{
    if (c->word)
        return ST_OK;
    void *p;
    TRY(source_alloc(cx, src, src->rows, sizeof(int32_t), &p));
    int32_t *id = p;
    WordSet w = { .arena = src->arena };
    char small[256], *buf = small;
    size_t cap = sizeof small;
    for (int64_t r = 0; r < src->rows; r++) {
        double v;
        size_t n;
        if (c->csv) {
            const int64_t row = csv_row_of(c, r);
            id[r] = -1;
            if (row < 0 || csv_number(c->csv, row, c->csv_col, &v) == CELL_MISSING)
                continue;
            while ((n = csv_text(c->csv, row, c->csv_col, buf, cap)) >= cap) {
                cap = n + 1;
                buf = arena_alloc(src->arena, cap);
            }
        } else {
            id[r] = -1;
            if (isnan(c->value[r]))
                continue;
            n = (size_t)snprintf(buf, cap, "%.17g", c->value[r]);
        }
        id[r] = wordset_add(&w, buf, n);
    }
    c->word = id;
    words_sort(src, c, &w);
    return ST_OK;
}
