/* SPDX-License-Identifier: Apache-2.0 */
/* Reading checkpoints.  Nothing in the file is believed: the header must be exactly one JSON
 * object of the two forms that safetensors has, without duplicates, and the tensors must tile the
 * data from its first byte to its last, in any order, each as long as its dtype and shape say. */
#include "train/checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "ir/base/hash.h"
#include "ir/base/os.h"
#include "ir/base/size.h"

enum { DIGITS = 32, MAX_HEADER = 8 << 20, MAX_META = 1 << 14 };

typedef struct Reader {
    Ctx *cx;
    const char *path;
    const char *start, *at, *end; /* of the whole file; the header's end */
    Checkpoint *c;
    const char *digest; /* where the checksum's digits stand, or NULL */
    int64_t (*span)[2]; /* data offsets of each tensor */
    unsigned span_cap;
} Reader;

static Status bad(Reader *r, const char *what)
{
    return FAIL(r->cx, DATA, "%s: byte %zu: not a whole checkpoint: %s", r->path,
                (size_t)(r->at - r->start), what);
}

static void skip_space(Reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at++;
}

static bool take(Reader *r, char ch)
{
    skip_space(r);
    if (r->at == r->end || *r->at != ch)
        return false;
    r->at++;
    return true;
}

static Status want(Reader *r, char ch)
{
    char what[] = "wants '?'";
    what[7] = ch;
    return take(r, ch) ? ST_OK : bad(r, what);
}

static int hex_digits(const char *s, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++) {
        const char *all = "0123456789abcdef", ch = (char)(s[i] | 0x20);
        const char *hit = s[i] ? strchr(all, s[i] >= '0' && s[i] <= '9' ? s[i] : ch) : NULL;
        if (!hit)
            return -1;
        *out = *out * 16 + (unsigned)(hit - all);
    }
    return 0;
}

/* Only what a writer must escape: \u below 0x80 covers the control characters. */
static Status read_escape(Reader *r, char *out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    unsigned code;
    if (r->at == r->end)
        return bad(r, "a string that does not end");
    const char ch = *r->at++;
    if (ch == 'u') {
        if (r->end - r->at < 4 || hex_digits(r->at, &code) || code == 0 || code >= 0x80)
            return bad(r, "a \\u escape that is no plain character");
        r->at += 4;
        *out = (char)code;
        return ST_OK;
    }
    const char *hit = ch ? strchr(from, ch) : NULL;
    if (!hit)
        return bad(r, "an unknown escape");
    *out = to[hit - from];
    return ST_OK;
}

static Status read_string(Reader *r, const char **out)
{
    TRY(want(r, '"'));
    const char *begin = r->at;
    const char *close = memchr(begin, '"', (size_t)(r->end - begin));
    while (close && close[-1] == '\\') /* an escaped quote, or one after an escaped backslash */
        close = memchr(close + 1, '"', (size_t)(r->end - close - 1));
    char *s = arena_alloc(r->c->arena, (size_t)((close ? close : r->end) - begin) + 1);
    size_t n = 0;
    while (r->at < r->end && *r->at != '"') {
        const unsigned char ch = (unsigned char)*r->at;
        if (ch < 0x20)
            return bad(r, "a control character in a string");
        r->at++;
        s[n] = (char)ch;
        if (ch == '\\')
            TRY(read_escape(r, &s[n]));
        n++;
    }
    s[n] = '\0';
    *out = s;
    return want(r, '"');
}

static Status read_count(Reader *r, int64_t *out)
{
    skip_space(r);
    const char *begin = r->at;
    int64_t v = 0;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') {
        if (!size_mul_ok(v, 10, &v) || !size_add_ok(v, *r->at - '0', &v))
            return bad(r, "a number that is too large");
        r->at++;
    }
    if (r->at == begin || (*begin == '0' && r->at - begin > 1))
        return bad(r, "wants a count");
    *out = v;
    return ST_OK;
}

/* [a, b, ...], at most `most`. */
static Status read_counts(Reader *r, int64_t *out, int most, int *n)
{
    TRY(want(r, '['));
    *n = 0;
    if (take(r, ']'))
        return ST_OK;
    do {
        if (*n == most)
            return bad(r, "a list that is too long");
        TRY(read_count(r, &out[(*n)++]));
    } while (take(r, ','));
    return want(r, ']');
}

static Status read_dtype(Reader *r, DType *out)
{
    static const struct {
        const char *tag;
        DType dt;
    } tags[] = { { "F64", DT_F64 }, { "F32", DT_F32 }, { "F16", DT_F16 }, { "BF16", DT_BF16 },
                 { "I32", DT_I32 }, { "I64", DT_I64 }, { "U8", DT_U8 },   { "BOOL", DT_BOOL } };
    const char *tag;
    TRY(read_string(r, &tag));
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (strcmp(tag, tags[i].tag) == 0) {
            *out = tags[i].dt;
            return ST_OK;
        }
    return bad(r, "an unknown dtype");
}

/* The digits' place is remembered as they stand in the file, to be read as zeros later. */
static Status read_metadata(Reader *r)
{
    TRY(want(r, '{'));
    if (take(r, '}'))
        return ST_OK;
    do {
        const char *key, *value;
        TRY(read_string(r, &key));
        TRY(want(r, ':'));
        skip_space(r);
        const char *here = r->at + 1;
        TRY(read_string(r, &value));
        if (strcmp(key, "xxh3") == 0 && r->at - here == DIGITS + 1)
            r->digest = here;
        if (r->c->nmeta == MAX_META)
            return bad(r, "more keys of __metadata__ than 16384");
        checkpoint_put(r->c, key, value);
    } while (take(r, ','));
    return want(r, '}');
}

static Status read_tensor(Reader *r, const char *name)
{
    GtcTensor t = { .name = name };
    int64_t dim[MAX_RANK], span[2];
    int rank = -1, nspan = 0;
    TRY(want(r, '{'));
    do {
        const char *key;
        TRY(read_string(r, &key));
        TRY(want(r, ':'));
        if (strcmp(key, "dtype") == 0 && t.type.dt == DT_NONE)
            TRY(read_dtype(r, &t.type.dt));
        else if (strcmp(key, "shape") == 0 && rank < 0)
            TRY(read_counts(r, dim, MAX_RANK, &rank));
        else if (strcmp(key, "data_offsets") == 0 && nspan == 0)
            TRY(read_counts(r, span, 2, &nspan));
        else
            return bad(r, "an unknown or repeated key of a tensor");
    } while (take(r, ','));
    TRY(want(r, '}'));
    if (t.type.dt == DT_NONE || rank < 0 || nspan != 2 || span[1] < span[0])
        return bad(r, "a tensor without dtype, shape or data_offsets");
    int64_t bytes = dtype_bytes(t.type.dt);
    t.type.shape.rank = (int8_t)rank;
    for (int i = 0; i < rank; i++) {
        t.type.shape.dim[i] = dim[i];
        if (!size_mul_ok(bytes, dim[i], &bytes))
            return bad(r, "a shape that is too large");
    }
    if (bytes != span[1] - span[0])
        return bad(r, "a tensor whose bytes do not fit its shape");
    arena_grow(r->c->arena, r->span, (unsigned)r->c->ntensor, r->span_cap);
    memcpy(r->span[r->c->ntensor], span, sizeof span);
    checkpoint_add(r->c, &t);
    return ST_OK;
}

static int by_word(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names of tensors and keys of metadata are there once. */
static Status check_names(Reader *r)
{
    const Checkpoint *c = r->c;
    const int n = c->ntensor > c->nmeta ? c->ntensor : c->nmeta;
    const char **word = arena_array(c->arena, const char *, n + 1);
    for (int what = 0; what < 2; what++) {
        const int count = what ? c->nmeta : c->ntensor;
        for (int i = 0; i < count; i++)
            word[i] = what ? c->meta[i].key : c->tensor[i].name;
        qsort(word, (size_t)count, sizeof *word, by_word);
        for (int i = 1; i < count; i++)
            if (strcmp(word[i - 1], word[i]) == 0)
                return bad(r, what ? "a key of __metadata__ that is there twice"
                                   : "a tensor that is there twice");
    }
    return ST_OK;
}

static Status read_header(Reader *r)
{
    bool metadata = false;
    TRY(want(r, '{'));
    if (!take(r, '}')) {
        do {
            const char *name;
            TRY(read_string(r, &name));
            TRY(want(r, ':'));
            if (strcmp(name, "__metadata__") != 0) {
                TRY(read_tensor(r, name));
            } else if (metadata) {
                return bad(r, "two __metadata__");
            } else {
                metadata = true;
                TRY(read_metadata(r));
            }
        } while (take(r, ','));
        TRY(want(r, '}'));
    }
    skip_space(r);
    return r->at == r->end ? check_names(r) : bad(r, "text after the header");
}

static int by_offset(const void *a, const void *b)
{
    const int64_t *x = *(const int64_t *const *)a, *y = *(const int64_t *const *)b;
    return x[0] != y[0] ? (x[0] < y[0] ? -1 : 1) : (x[1] > y[1]) - (x[1] < y[1]);
}

/* The spans, in order of their begin, must follow each other without hole or overlap. */
static Status check_spans(Reader *r, int64_t data_bytes)
{
    const int n = r->c->ntensor;
    int64_t **sorted = arena_array(r->c->arena, int64_t *, n + 1), at = 0;
    for (int i = 0; i < n; i++)
        sorted[i] = r->span[i];
    qsort(sorted, (size_t)n, sizeof *sorted, by_offset);
    for (int i = 0; i < n; i++) {
        if (sorted[i][0] != at)
            return bad(r, "tensors that overlap or leave a hole");
        at = sorted[i][1];
    }
    return at == data_bytes ? ST_OK : bad(r, "data that is cut short or too long");
}

static Status check_digest(Reader *r, const char *bytes, size_t n)
{
    if (!r->digest)
        return ST_OK;
    char *copy = r->cx->os->alloc(n), hex[DIGITS + 1];
    if (!copy)
        return FAIL(r->cx, MEMORY, "%s: no memory for %zu bytes", r->path, n);
    memcpy(copy, bytes, n);
    memset(copy + (r->digest - bytes), '0', DIGITS);
    hash_hex(copy, n, hex);
    r->cx->os->release(copy);
    if (memcmp(hex, r->digest, DIGITS) != 0)
        return FAIL(r->cx, DATA, "%s: byte %zu: damaged: its checksum does not fit its contents",
                    r->path, (size_t)(r->digest - r->start));
    return ST_OK;
}

Status checkpoint_parse(Ctx *cx, const char *path, const char *bytes, size_t n, Checkpoint **out)
{
    Checkpoint *c = checkpoint_new();
    Reader r = { .cx = cx, .path = path, .start = bytes, .at = bytes, .end = bytes, .c = c };
    Status st = n < 8 ? bad(&r, "shorter than its own length field") : ST_OK;
    uint64_t header = 0;
    for (int i = 0; i < 8 && st == ST_OK; i++)
        header |= (uint64_t)(unsigned char)bytes[i] << (8 * i);
    if (st == ST_OK && header > n - 8)
        st = bad(&r, "a header longer than the file");
    if (st == ST_OK && header > MAX_HEADER)
        st = bad(&r, "a header of more than 8 MiB");
    if (st == ST_OK) {
        r.at = bytes + 8;
        r.end = r.at + header;
        st = read_header(&r);
    }
    if (st == ST_OK)
        st = check_spans(&r, (int64_t)(n - 8 - header));
    if (st == ST_OK)
        st = check_digest(&r, bytes, n);
    if (st != ST_OK) {
        checkpoint_free(c);
        return st;
    }
    const size_t data = n - 8 - header;
    char *copy = arena_copy(c->arena, bytes + 8 + header, data);
    for (int i = 0; i < c->ntensor; i++)
        c->tensor[i].data = copy + r.span[i][0];
    *out = c;
    return ST_OK;
}

Status checkpoint_read(Ctx *cx, const char *path, Checkpoint **out)
{
    char *bytes;
    size_t n;
    TRY(os_read_file(cx, path, &bytes, &n));
    const Status st = checkpoint_parse(cx, path, bytes, n, out);
    free(bytes);
    return st;
}
