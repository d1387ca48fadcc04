/* SPDX-License-Identifier: Apache-2.0 */
/* data_text: a text as rows of one column "char".  A character is a UTF-8 code point; its number
 * is its place among the sorted distinct ones. */
#include "train/data_format.h"

#include <string.h>

enum { CODE_POINTS = 0x110000 };

/* The code point at d[*i], or -1; steps behind it. */
static int32_t code_take(const unsigned char *d, size_t n, size_t *i)
{
    static const int32_t least[] = { 0, 0x80, 0x800, 0x10000 };
    const unsigned char c = d[(*i)++];
    const int more = c < 0x80 ? 0 : c < 0xC0 ? -1 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    if (more < 0 || c >= 0xF5 || n - *i < (size_t)more)
        return -1;
    int32_t v = more ? c & (0x3F >> more) : c;
    for (int k = 0; k < more; k++, (*i)++) {
        if ((d[*i] & 0xC0) != 0x80)
            return -1;
        v = v << 6 | (d[*i] & 0x3F);
    }
    return v < least[more] || v >= CODE_POINTS || (v >= 0xD800 && v < 0xE000) ? -1 : v;
}

static const char *code_name(Arena *a, int32_t v)
{
    char *s = arena_alloc(a, 5);
    if (v < 0x80) {
        s[0] = (char)v;
    } else if (v < 0x800) {
        s[0] = (char)(0xC0 | v >> 6);
        s[1] = (char)(0x80 | (v & 0x3F));
    } else if (v < 0x10000) {
        s[0] = (char)(0xE0 | v >> 12);
        s[1] = (char)(0x80 | (v >> 6 & 0x3F));
        s[2] = (char)(0x80 | (v & 0x3F));
    } else {
        s[0] = (char)(0xF0 | v >> 18);
        s[1] = (char)(0x80 | (v >> 12 & 0x3F));
        s[2] = (char)(0x80 | (v >> 6 & 0x3F));
        s[3] = (char)(0x80 | (v & 0x3F));
    }
    return s;
}

static Status codes_read(Ctx *cx, Source *src, const char *path, const unsigned char *d, size_t n,
                         int32_t *code)
{
    int line = 1;
    size_t start = 0;
    for (size_t i = n >= 3 && !memcmp(d, "\xEF\xBB\xBF", 3) ? 3 : 0; i < n;) {
        const size_t at = i;
        const int32_t v = code_take(d, n, &i);
        if (v <= 0)
            return status_fail_at(cx, ST_DATA, path, line, (int)(at - start) + 1,
                                  v ? "this is not UTF-8" : "a NUL byte: this is no text file");
        code[src->rows++] = v;
        if (v == '\n') {
            line++;
            start = i;
        }
    }
    return src->rows ? ST_OK : status_fail_at(cx, ST_DATA, path, 1, 1, "the text is empty");
}

Status text_read(Ctx *cx, const Request *rq, Source *src)
{
    const char *path;
    unsigned char *d;
    size_t n;
    void *p;
    if (rq->files->n != 1)
        return FAIL(cx, VALUE, "data: \"text\" wants one file, got %d", rq->files->n);
    TRY(source_file(cx, src, rq, rq->files->at[0], &path, &d, &n));
    TRY(source_alloc(cx, src, (int64_t)n, sizeof(int32_t), &p));
    int32_t *code = p;
    TRY(codes_read(cx, src, path, d, n, code));
    int32_t top = 0; /* most texts need few of the 0x110000 */
    for (int64_t r = 0; r < src->rows; r++)
        top = code[r] >= top ? code[r] + 1 : top;
    TRY(source_alloc(cx, src, top, sizeof(int32_t), &p));
    int32_t *id = p;
    memset(id, 0, (size_t)top * sizeof *id);
    for (int64_t r = 0; r < src->rows; r++)
        id[code[r]] = 1;
    Column *c = src->col = arena_array(src->arena, Column, 1);
    src->ncol = 1;
    *c = (Column){ .name = "char", .file = path, .word = code };
    for (int32_t v = 0; v < top; v++)
        c->nwords += id[v];
    c->words = arena_array(src->arena, const char *, c->nwords + 1);
    for (int32_t v = 0, k = 0; v < top; v++)
        if (id[v]) {
            c->words[k] = code_name(src->arena, v);
            id[v] = k++;
        }
    for (int64_t r = 0; r < src->rows; r++)
        code[r] = id[code[r]];
    source_release(src, id);
    return ST_OK;
}
