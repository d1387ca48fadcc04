/* SPDX-License-Identifier: Apache-2.0 */
#include "ir/base/size.h"

#include <inttypes.h>

#include "ir/base/status.h"

bool size_mul_ok(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool size_add_ok(int64_t a, int64_t b, int64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

int64_t size_mul(int64_t a, int64_t b)
{
    int64_t p = 0;
    gtc_assert(size_mul_ok(a, b, &p), "size: %" PRId64 " * %" PRId64 " is too large", a, b);
    return p;
}

int64_t size_add(int64_t a, int64_t b)
{
    int64_t s = 0;
    gtc_assert(size_add_ok(a, b, &s), "size: %" PRId64 " + %" PRId64 " is too large", a, b);
    return s;
}

int64_t size_round_up(int64_t n, int64_t multiple)
{
    return size_mul(size_ceil_div(n, multiple), multiple);
}

int64_t size_ceil_div(int64_t n, int64_t d)
{
    gtc_assert(n >= 0 && d >= 1, "size: %" PRId64 " / %" PRId64, n, d);
    return n / d + (n % d != 0);
}
