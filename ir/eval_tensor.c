/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors of the evaluator: rounding to a dtype, and to and from packed memory. */
#include <math.h>
#include <string.h>

#include "ir/base/bug.h"
#include "ir/eval.h"

Tensor tensor_new(Arena *arena, Type type)
{
    return (Tensor){ .type = type, .at = arena_array(arena, double, shape_count(&type.shape)) };
}

/* To the nearest number with `digits` bits, ties to even; below 2^emin the spacing stays
 * 2^(emin - digits + 1), and what rounds to 2^(emax + 1) or more is infinite. */
static double round_bits(double x, int digits, int emin, int emax)
{
    if (!isfinite(x) || x == 0)
        return x;
    int exponent;
    frexp(x, &exponent); /* |x| in [2^(exponent-1), 2^exponent) */
    const int lowest = exponent - 1 < emin ? emin : exponent - 1;
    const double unit = ldexp(1.0, lowest - digits + 1);
    const double y = rint(x / unit) * unit;
    return fabs(y) >= ldexp(1.0, emax + 1) ? copysign(INFINITY, x) : y;
}

static double wrap(double x, double modulus, double lowest)
{
    if (!isfinite(x))
        return 0;
    x = BUG(52) ? rint(x) : trunc(x);
    if (x >= lowest && x < lowest + modulus)
        return x;
    x = fmod(x - lowest, modulus);
    return (x < 0 ? x + modulus : x) + lowest;
}

double round_to(DType dt, double x)
{
    switch (dt) {
    case DT_F32:
        return (double)(float)x;
    case DT_F16:
        return round_bits(x, 11, -14, 15);
    case DT_BF16:
        return round_bits(x, 8, -126, 127);
    case DT_I32:
        return wrap(x, 0x1p32, -0x1p31);
    case DT_I64:
        return wrap(x, 0x1p64, -0x1p63);
    case DT_U8:
        return wrap(x, 256, 0);
    case DT_BOOL:
        return x != 0;
    default:
        return x;
    }
}

/* A float of `digits` significant bits and `bits` in all, from and to its pattern. */
static double from_pattern(uint32_t p, int digits, int bits)
{
    const int mantissa = digits - 1, bias = (1 << (bits - digits - 1)) - 1;
    const uint32_t exponent = p >> mantissa & (2u * (uint32_t)bias + 1);
    const uint32_t fraction = p & ((1u << mantissa) - 1);
    double x;
    if (exponent == 2u * (uint32_t)bias + 1)
        x = fraction ? NAN : INFINITY;
    else if (exponent == 0)
        x = ldexp(fraction, 1 - bias - mantissa);
    else
        x = ldexp(fraction + (1u << mantissa), (int)exponent - bias - mantissa);
    return p >> (bits - 1) ? -x : x;
}

static uint16_t to_pattern(double x, int digits)
{
    const int mantissa = digits - 1, bias = (1 << (16 - digits - 1)) - 1;
    const uint32_t sign = signbit(x) ? 0x8000u : 0, all = (2u * (uint32_t)bias + 1) << mantissa;
    x = fabs(round_bits(x, digits, 1 - bias, bias));
    if (isnan(x))
        return (uint16_t)(sign | all | 1u << (mantissa - 1));
    if (isinf(x))
        return (uint16_t)(sign | all);
    if (x < ldexp(1.0, 1 - bias))
        return (uint16_t)(sign | (uint32_t)ldexp(x, bias - 1 + mantissa));
    int exponent;
    const double f = frexp(x, &exponent); /* in [0.5, 1) */
    const uint32_t fraction = (uint32_t)ldexp(f, digits) - (1u << mantissa);
    return (uint16_t)(sign | (uint32_t)(exponent - 1 + bias) << mantissa | fraction);
}

#define READ(T, expr)                                                                              \
    for (int64_t i = 0; i < n; i++) {                                                              \
        T x;                                                                                       \
        memcpy(&x, (const char *)src + (size_t)i * sizeof x, sizeof x);                            \
        t->at[i] = (double)(expr);                                                                 \
    }                                                                                              \
    break

void tensor_read(Tensor *t, const void *src)
{
    const int64_t n = shape_count(&t->type.shape);
    switch (t->type.dt) {
    case DT_F64:
        READ(double, x);
    case DT_F32:
        READ(float, x);
    case DT_F16:
        READ(uint16_t, from_pattern(x, 11, 16));
    case DT_BF16:
        READ(uint16_t, from_pattern(x, 8, 16));
    case DT_I32:
        READ(int32_t, x);
    case DT_I64:
        READ(int64_t, x);
    case DT_U8:
        READ(uint8_t, x);
    case DT_BOOL:
        READ(uint8_t, x != 0);
    case DT_NONE:
    case DT_COUNT:
        gtc_assert(false, "tensor_read: no dtype");
    }
}

#define WRITE(T, expr)                                                                             \
    for (int64_t i = 0; i < n; i++) {                                                              \
        const double x = t->at[i];                                                                 \
        const T y = (T)(expr);                                                                     \
        memcpy((char *)dst + (size_t)i * sizeof y, &y, sizeof y);                                  \
    }                                                                                              \
    break

void tensor_write(const Tensor *t, void *dst)
{
    const int64_t n = shape_count(&t->type.shape);
    switch (t->type.dt) {
    case DT_F64:
        WRITE(double, x);
    case DT_F32:
        WRITE(float, x);
    case DT_F16:
        WRITE(uint16_t, to_pattern(x, 11));
    case DT_BF16:
        WRITE(uint16_t, to_pattern(x, 8));
    case DT_I32:
        WRITE(int32_t, round_to(DT_I32, x));
    case DT_I64:
        WRITE(int64_t, round_to(DT_I64, x));
    case DT_U8:
        WRITE(uint8_t, round_to(DT_U8, x));
    case DT_BOOL:
        WRITE(uint8_t, x != 0);
    case DT_NONE:
    case DT_COUNT:
        gtc_assert(false, "tensor_write: no dtype");
    }
}
