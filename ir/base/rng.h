/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_BASE_RNG_H
#define GTC_IR_BASE_RNG_H

#include <stdint.h>

/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). */
void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* A sequential stream over it, for initialisers, shuffles and tests. */
typedef struct Rng {
    uint32_t key[2], counter[4], buf[4];
    int      left;
} Rng;
void     rng_init(Rng *r, uint64_t seed, uint64_t stream);
uint32_t rng_u32(Rng *r);
uint64_t rng_below(Rng *r, uint64_t n);  /* uniform in [0, n), n >= 1, without bias */
double   rng_unit(Rng *r);               /* [0, 1), 53 bits */
double   rng_normal(Rng *r);

/* The value of the IR op `rand` at one element: f32 in [0, 1), a multiple of 2^-24.
 * key = (seed, stream), counter = (low word of index / 4, step, iter, its high word), word
 * index % 4 of the result, without its lowest 8 bits. */
float rng_rand_op(uint32_t seed, uint32_t stream, uint32_t step, uint32_t iter, uint64_t index);

#endif
