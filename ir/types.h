/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_TYPES_H
#define GTC_IR_TYPES_H

#include <stdbool.h>
#include <stdint.h>

typedef enum DType { /* one list: names in dtype_name, bytes in dtype_bytes */
    DT_NONE,         /* not given, or a tuple */
    DT_F64,          /* the reference only */
    DT_F32,
    DT_F16,
    DT_BF16,
    DT_I32,
    DT_I64,
    DT_U8,
    DT_BOOL, /* stored as one byte, 0 or 1 */
    DT_COUNT
} DType;

enum { MAX_RANK = 8 };

typedef struct Shape {
    int8_t  rank;
    int64_t dim[MAX_RANK]; /* 0 beyond rank, so that memcmp compares; an extent may be 0 */
} Shape;

typedef struct Type {
    DType dt; /* DT_NONE: a tuple, whose parts `get` takes */
    Shape shape;
} Type;

const char *dtype_name(DType dt); /* "f32" */
bool        dtype_parse(const char *s, int n, DType *out);
int         dtype_bytes(DType dt);
bool        dtype_is_float(DType dt);

Shape   shape_of(int rank, ...); /* int64_t extents */
bool    shape_eq(const Shape *a, const Shape *b);
int64_t shape_count(const Shape *s); /* elements; 1 for rank 0 */
bool    type_eq(const Type *a, const Type *b);
int64_t type_bytes(const Type *t);
/* "[2,3]", "f32[2,3]": into one of 8 rotating thread-local buffers, for messages. */
const char *shape_str(const Shape *s);
const char *type_str(const Type *t);

#endif
