/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_MEMPLAN_H
#define GTC_RUNTIME_MEMPLAN_H

#include <stdint.h>

#include "ir/base/arena.h"

/* A buffer that lives from epoch `first` to epoch `last`, both included.  Epochs are what barriers
 * separate: two buffers may share memory only when no epoch belongs to both. */
typedef struct MemBuf {
    int64_t bytes, align; /* align: a power of two, at least 64 */
    int32_t first, last;
    int64_t offset; /* the answer */
} MemBuf;

/* Gives each buffer its offset and returns the bytes that all of them need. */
int64_t memplan_solve(Arena *scratch, MemBuf *buf, int n);

#endif
