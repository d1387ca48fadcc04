/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_SIMT_MEMORY_H
#define GTC_RUNTIME_SIMT_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "ir/base/status.h"

/* The device's memory: a region of addresses that is given out in steps of SIMT_ALIGN, with a red
 * zone on both sides of each allocation.  A table has the allocation of each step, so that an
 * address is looked up by one load. */
typedef struct SimtAlloc {
    char *p;
    size_t bytes;
    size_t span; /* with red zones, from p - SIMT_ALIGN on */
    bool live;
} SimtAlloc;

typedef struct SimtName {
    const char *p;
    size_t bytes;
    char text[64];
} SimtName;

typedef struct SimtMemory {
    char *base;
    size_t bytes, top;
    uint32_t *page;   /* of each step: index into alloc, 0: none */
    SimtAlloc *alloc; /* alloc[0] is none */
    uint32_t n, cap;
    SimtName *name;
    int nname, name_cap;
} SimtMemory;

Status simt_memory_init(Ctx *cx, SimtMemory *m, size_t bytes);
void simt_memory_free(SimtMemory *m);
/* "name+12", or "0x7f.. (in no allocation)": where an address is, for messages. */
const char *simt_memory_where(const SimtMemory *m, const void *p, char *out, size_t cap);

#endif
