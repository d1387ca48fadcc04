/* SPDX-License-Identifier: Apache-2.0 */
#include "ir/types.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ir/base/size.h"
#include "ir/base/status.h"

typedef struct DTypeInfo {
    const char *name;
    int bytes;
    bool is_float;
} DTypeInfo;

static const DTypeInfo dtype_info[DT_COUNT] = {
    [DT_NONE] = { "tuple", 0, false }, [DT_F64] = { "f64", 8, true },
    [DT_F32] = { "f32", 4, true },     [DT_F16] = { "f16", 2, true },
    [DT_BF16] = { "bf16", 2, true },   [DT_I32] = { "i32", 4, false },
    [DT_I64] = { "i64", 8, false },    [DT_U8] = { "u8", 1, false },
    [DT_BOOL] = { "bool", 1, false },
};

const char *dtype_name(DType dt)
{
    return (unsigned)dt < DT_COUNT ? dtype_info[dt].name : "?";
}

bool dtype_parse(const char *s, int n, DType *out)
{
    for (DType dt = DT_F64; dt < DT_COUNT; dt++)
        if (strlen(dtype_info[dt].name) == (size_t)n &&
            !memcmp(dtype_info[dt].name, s, (size_t)n)) {
            *out = dt;
            return true;
        }
    return false;
}

int dtype_bytes(DType dt)
{
    gtc_assert((unsigned)dt < DT_COUNT, "dtype %d", (int)dt);
    return dtype_info[dt].bytes;
}

bool dtype_is_float(DType dt)
{
    return (unsigned)dt < DT_COUNT && dtype_info[dt].is_float;
}

Shape shape_of(int rank, ...)
{
    Shape s = { .rank = (int8_t)rank };
    va_list ap;

    gtc_assert(rank >= 0 && rank <= MAX_RANK, "rank %d", rank);
    va_start(ap, rank);
    for (int i = 0; i < rank; i++)
        s.dim[i] = va_arg(ap, int64_t);
    va_end(ap);
    return s;
}

bool shape_eq(const Shape *a, const Shape *b)
{
    if (a->rank != b->rank)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

int64_t shape_count(const Shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        if (s->dim[i] == 0)
            return 0;
    for (int i = 0; i < s->rank; i++)
        n = size_mul(n, s->dim[i]);
    return n;
}

bool type_eq(const Type *a, const Type *b)
{
    return a->dt == b->dt && shape_eq(&a->shape, &b->shape);
}

int64_t type_bytes(const Type *t)
{
    return size_mul(shape_count(&t->shape), dtype_bytes(t->dt));
}

enum { TEXT_BUFS = 8, TEXT_BYTES = 8 + MAX_RANK * 21 + 2 };

/* Messages print several shapes at once, so buffers take turns. */
static char *next_text(void)
{
    static _Thread_local char buf[TEXT_BUFS][TEXT_BYTES];
    static _Thread_local int turn;
    turn = (turn + 1) % TEXT_BUFS;
    return buf[turn];
}

static void print_shape(char *out, size_t cap, const Shape *s)
{
    size_t n = 0;
    n += (size_t)snprintf(out, cap, "[");
    for (int i = 0; i < s->rank && i < MAX_RANK; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%" PRId64, i ? "," : "", s->dim[i]);
    snprintf(out + n, cap - n, "]");
}

const char *shape_str(const Shape *s)
{
    char *out = next_text();
    print_shape(out, TEXT_BYTES, s);
    return out;
}

const char *type_str(const Type *t)
{
    char *out = next_text();
    if (t->dt == DT_NONE)
        return dtype_name(DT_NONE);
    const size_t n = (size_t)snprintf(out, TEXT_BYTES, "%s", dtype_name(t->dt));
    print_shape(out + n, TEXT_BYTES - n, &t->shape);
    return out;
}
