/* SPDX-License-Identifier: Apache-2.0 */
/* Writing checkpoints.
 *
 *     u64 n | JSON header, n bytes, padded with spaces | tensors, packed, widest dtype first
 *
 * The file is built in one buffer and handed to os_write_file, which is the one place that knows
 * how to replace a file safely.  The checksum is of the whole file with the 32 digits of the
 * checksum itself read as zeros, so that a flipped bit is found wherever it is. */
#include "train/checkpoint.h"

#include <math.h>
#include <string.h>

#include "ir/base/hash.h"
#include "ir/base/os.h"
#include "ir/base/size.h"

enum { DIGITS = 32 };

Checkpoint *checkpoint_new(void)
{
    Arena *a = arena_new();
    Checkpoint *c = arena_alloc(a, sizeof *c);
    c->arena = a;
    return c;
}

void checkpoint_free(Checkpoint *c)
{
    if (c)
        arena_free(c->arena);
}

void checkpoint_add(Checkpoint *c, const GtcTensor *t)
{
    if ((c->ntensor & (c->ntensor - 1)) == 0) {
        GtcTensor *more = arena_array(c->arena, GtcTensor, c->ntensor ? 2 * c->ntensor : 1);
        if (c->ntensor)
            memcpy(more, c->tensor, (size_t)c->ntensor * sizeof *more);
        c->tensor = more;
    }
    c->tensor[c->ntensor] = *t;
    c->tensor[c->ntensor++].name = arena_strdup(c->arena, t->name);
}

void checkpoint_put(Checkpoint *c, const char *key, const char *value)
{
    if ((c->nmeta & (c->nmeta - 1)) == 0) {
        CheckpointMeta *more = arena_array(c->arena, CheckpointMeta, c->nmeta ? 2 * c->nmeta : 1);
        if (c->nmeta)
            memcpy(more, c->meta, (size_t)c->nmeta * sizeof *more);
        c->meta = more;
    }
    c->meta[c->nmeta++] =
        (CheckpointMeta){ arena_strdup(c->arena, key), arena_strdup(c->arena, value) };
}

const GtcTensor *checkpoint_find(const Checkpoint *c, const char *name)
{
    for (int i = 0; i < c->ntensor; i++)
        if (strcmp(c->tensor[i].name, name) == 0)
            return &c->tensor[i];
    return NULL;
}

const char *checkpoint_get(const Checkpoint *c, const char *key)
{
    for (int i = 0; i < c->nmeta; i++)
        if (strcmp(c->meta[i].key, key) == 0)
            return c->meta[i].value;
    return NULL;
}

/* Exponent bits all set means NaN or infinity, in each of the three formats. */
static bool all_finite(const GtcTensor *t)
{
    const int64_t n = shape_count(&t->type.shape);
    const unsigned char *p = t->data;
    if (t->type.dt == DT_F32) {
        for (int64_t i = 0; i < n; i++) {
            float v;
            memcpy(&v, p + i * 4, 4);
            if (!isfinite(v))
                return false;
        }
    } else if (t->type.dt == DT_F64) {
        for (int64_t i = 0; i < n; i++) {
            double v;
            memcpy(&v, p + i * 8, 8);
            if (!isfinite(v))
                return false;
        }
    } else if (t->type.dt == DT_F16 || t->type.dt == DT_BF16) {
        const unsigned ones = t->type.dt == DT_F16 ? 0x7C00u : 0x7F80u;
        for (int64_t i = 0; i < n; i++) {
            uint16_t v;
            memcpy(&v, p + i * 2, 2);
            if ((v & ones) == ones)
                return false;
        }
    }
    return true;
}

static const char *const dtype_tag[DT_COUNT] = {
    [DT_F64] = "F64", [DT_F32] = "F32", [DT_F16] = "F16", [DT_BF16] = "BF16",
    [DT_I32] = "I32", [DT_I64] = "I64", [DT_U8] = "U8",   [DT_BOOL] = "BOOL",
};

static void put_string(Strbuf *b, const char *s)
{
    strbuf_putc(b, '"');
    for (; *s; s++) {
        const unsigned char ch = (unsigned char)*s;
        if (ch == '"' || ch == '\\')
            strbuf_printf(b, "\\%c", ch);
        else if (ch < 0x20)
            strbuf_printf(b, "\\u%04x", ch);
        else
            strbuf_putc(b, (char)ch);
    }
    strbuf_putc(b, '"');
}

static void put_tensor(Strbuf *b, const GtcTensor *t, int64_t at, int64_t bytes)
{
    strbuf_putc(b, ',');
    put_string(b, t->name);
    strbuf_printf(b, ":{\"dtype\":\"%s\",\"shape\":[", dtype_tag[t->type.dt]);
    for (int i = 0; i < t->type.shape.rank; i++)
        strbuf_printf(b, "%s%lld", i ? "," : "", (long long)t->type.shape.dim[i]);
    strbuf_printf(b, "],\"data_offsets\":[%lld,%lld]}", (long long)at, (long long)(at + bytes));
}

/* The tensors' order in the file: by falling width, so that each is aligned to its own. */
static int *file_order(const Checkpoint *c, Arena *a)
{
    int *order = arena_array(a, int, c->ntensor + 1), n = 0;
    for (int width = 8; width >= 1; width /= 2)
        for (int i = 0; i < c->ntensor; i++)
            if (dtype_bytes(c->tensor[i].type.dt) == width)
                order[n++] = i;
    return order;
}

/* The header's text; *digest is where in it the checksum's digits stand; *bytes of data follow. */
static void put_header(const Checkpoint *c, const int *order, Strbuf *b, size_t *digest,
                       int64_t *bytes)
{
    strbuf_add(b, "{\"__metadata__\":{\"xxh3\":\"");
    *digest = b->n;
    for (int i = 0; i < DIGITS; i++)
        strbuf_putc(b, '0');
    strbuf_putc(b, '"');
    for (int i = 0; i < c->nmeta; i++) {
        strbuf_putc(b, ',');
        put_string(b, c->meta[i].key);
        strbuf_putc(b, ':');
        put_string(b, c->meta[i].value);
    }
    strbuf_putc(b, '}');
    *bytes = 0;
    for (int i = 0; i < c->ntensor; i++) {
        const GtcTensor *t = &c->tensor[order[i]];
        const int64_t size = type_bytes(&t->type);
        put_tensor(b, t, *bytes, size);
        *bytes = size_add(*bytes, size);
    }
    strbuf_putc(b, '}');
    while (b->n % 8)
        strbuf_putc(b, ' ');
}

Status checkpoint_write(Ctx *cx, const char *path, const Checkpoint *c)
{
    for (int i = 0; i < c->ntensor; i++)
        if (!all_finite(&c->tensor[i]))
            return FAIL(cx, NUMERIC, "%s: not written: %s has a NaN or an infinity", path,
                        c->tensor[i].name);
    Strbuf header = { 0 };
    const int *order = file_order(c, c->arena);
    size_t digest;
    int64_t bytes;
    put_header(c, order, &header, &digest, &bytes);

    const size_t n = (size_t)size_add(bytes, (int64_t)header.n + 8);
    unsigned char *file = cx->os->alloc(n);
    if (!file) {
        strbuf_free(&header);
        return FAIL(cx, MEMORY, "%s: not written: no memory for %zu bytes", path, n);
    }
    for (int i = 0; i < 8; i++)
        file[i] = (unsigned char)((uint64_t)header.n >> (8 * i));
    memcpy(file + 8, header.s, header.n);
    unsigned char *at = file + 8 + header.n;
    for (int i = 0; i < c->ntensor; i++) {
        const GtcTensor *t = &c->tensor[order[i]];
        const size_t size = (size_t)type_bytes(&t->type);
        if (size)
            memcpy(at, t->data, size);
        at += size;
    }
    char hex[DIGITS + 1];
    hash_hex(file, n, hex);
    memcpy(file + 8 + digest, hex, DIGITS);
    strbuf_free(&header);

    const Status st = os_write_file(cx, path, file, n);
    cx->os->release(file);
    return st;
}

Status checkpoint_load(Ctx *cx, const char *path, const Checkpoint *c, GtcStore *s)
{
    for (int i = 0; i < gtc_store_count(s); i++) {
        GtcTensor *to = gtc_store_at(s, i);
        const GtcTensor *from = checkpoint_find(c, to->name);
        if (!from)
            return FAIL(cx, DATA, "%s: has no tensor %s, which the model needs", path, to->name);
        if (!type_eq(&from->type, &to->type))
            return FAIL(cx, DATA, "%s: %s is %s, and the model wants %s", path, to->name,
                        type_str(&from->type), type_str(&to->type));
    }
    for (int i = 0; i < gtc_store_count(s); i++) {
        GtcTensor *to = gtc_store_at(s, i);
        const size_t n = (size_t)type_bytes(&to->type);
        if (n)
            memcpy(to->data, checkpoint_find(c, to->name)->data, n);
    }
    return gtc_store_upload(cx, s);
}
