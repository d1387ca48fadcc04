/* SPDX-License-Identifier: Apache-2.0 */
#include "ir/base/rng.h"

#include <math.h>

#include "ir/base/status.h"

static uint32_t mul_hi_lo(uint32_t a, uint32_t b, uint32_t *lo)
{
    const uint64_t p = (uint64_t)a * b;
    *lo = (uint32_t)p;
    return (uint32_t)(p >> 32);
}

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];

    for (int round = 0; round < 10; round++) {
        uint32_t lo0, lo1;
        const uint32_t hi0 = mul_hi_lo(0xD2511F53u, c0, &lo0);
        const uint32_t hi1 = mul_hi_lo(0xCD9E8D57u, c2, &lo1);
        c0 = hi1 ^ c1 ^ k0;
        c1 = lo1;
        c2 = hi0 ^ c3 ^ k1;
        c3 = lo0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void rng_init(Rng *r, uint64_t seed, uint64_t stream)
{
    *r = (Rng){ .key = { (uint32_t)seed, (uint32_t)(seed >> 32) },
                .counter = { 0, 0, (uint32_t)stream, (uint32_t)(stream >> 32) } };
}

uint32_t rng_u32(Rng *r)
{
    if (r->left == 0) {
        philox4x32(r->counter, r->key, r->buf);
        if (++r->counter[0] == 0)
            r->counter[1]++;
        r->left = 4;
    }
    return r->buf[4 - r->left--];
}

static uint64_t rng_u64(Rng *r)
{
    const uint64_t lo = rng_u32(r);
    return lo | (uint64_t)rng_u32(r) << 32;
}

uint64_t rng_below(Rng *r, uint64_t n)
{
    gtc_assert(n >= 1, "rng_below: empty range");
    const uint64_t reject = -n % n; /* 2^64 mod n: so many of the lowest values are one too many */
    uint64_t x;
    do
        x = rng_u64(r);
    while (x < reject);
    return x % n;
}

double rng_unit(Rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

/* Box and Muller; the second value of the pair is not kept, so that a stream has no parity. */
double rng_normal(Rng *r)
{
    const double u = 1.0 - rng_unit(r); /* (0, 1] */
    const double angle = 6.283185307179586476925 * rng_unit(r);
    return sqrt(-2.0 * log(u)) * cos(angle);
}

float rng_rand_op(uint32_t seed, uint32_t stream, uint32_t step, uint32_t iter, uint64_t index)
{
    const uint64_t block = index / 4;
    const uint32_t key[2] = { seed, stream };
    const uint32_t counter[4] = { (uint32_t)block, step, iter, (uint32_t)(block >> 32) };
    uint32_t word[4];
    philox4x32(counter, key, word);
    return (float)(word[index % 4] >> 8) * 0x1p-24f;
}
