/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_IR_BASE_SIZE_H
#define GTC_IR_BASE_SIZE_H

#include <stdbool.h>
#include <stdint.h>

/* All arithmetic on sizes and counts.  The _ok forms return false on overflow of int64; the
 * others assert (gtc_assert) that there is none. */
bool    size_mul_ok(int64_t a, int64_t b, int64_t *out);
bool    size_add_ok(int64_t a, int64_t b, int64_t *out);
int64_t size_mul(int64_t a, int64_t b);
int64_t size_add(int64_t a, int64_t b);
int64_t size_round_up(int64_t n, int64_t multiple);
int64_t size_ceil_div(int64_t n, int64_t d);

#endif
