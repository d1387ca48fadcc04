/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_BASE_HASH_H
#define GTC_IR_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3, 64 and 128 bits: names of cache entries and hash-consing, not security. */
uint64_t hash_bytes(const void *p, size_t n, uint64_t seed);
/* 32 hex digits and a NUL. */
void hash_hex(const void *p, size_t n, char out[33]);

#endif
