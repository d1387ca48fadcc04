/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_EDGE_H
#define GTC_RUNTIME_EDGE_H

#include <stdbool.h>
#include <stdint.h>

#include "ir/base/arena.h"

/* Which steps must wait for which, when the order of a list is to become a graph. */
typedef struct Touch { /* bytes [at, at + bytes) that a step reads or writes */
    uint64_t at;
    int64_t bytes;
    bool writes;
} Touch;

/* Step i touches touch[first[i] .. first[i + 1]); all steps stand in an order that is right. */
typedef struct TouchList {
    const Touch *touch;
    const int32_t *first;
    int n;
} TouchList;

/* Step i waits for from[first[i] .. first[i + 1]), and through those for all that it has to. */
typedef struct EdgeList {
    int32_t *from, *first;
} EdgeList;

/* A step waits for each earlier one that writes what it touches or touches what it writes; of such
 * edges those are left out that follow from others. */
EdgeList edge_find(Arena *arena, const TouchList *steps);

#endif
