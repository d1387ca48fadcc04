/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_SIMT_FIBER_H
#define GTC_RUNTIME_SIMT_FIBER_H

#include <stddef.h>

#include "ir/base/status.h"

/* A flow of control with a stack of its own, that runs until it switches to another.  All fibers of
 * a pool belong to one host thread. */
typedef struct SimtFiber SimtFiber;

/* Stacks with a page of no access below each.  They go out last in, first out, and so stay warm. */
typedef struct SimtPool SimtPool;

enum { SIMT_STACK = 128 << 10 };

/* Fails with ST_MEMORY. */
Status simt_pool_create(Ctx *cx, int fibers, SimtPool **out);
void simt_pool_destroy(SimtPool *p); /* NULL is fine; no fiber of it runs */
/* All fibers are free again, wherever they stand. */
void simt_pool_reset(SimtPool *p);
/* Where the stacks are. */
const char *simt_pool_stacks(const SimtPool *p, size_t *bytes);

/* The calling thread's own flow, to come back to. */
SimtFiber *simt_fiber_host(SimtPool *p);
/* A free fiber, which begins with entry(arg) when it is first switched to; entry never returns.
 * NULL: no memory for its stack. */
SimtFiber *simt_fiber_take(SimtPool *p, void (*entry)(void *arg), void *arg);
/* Gives the running fiber's stack back; it must then switch away, and is not switched to again. */
void simt_fiber_leave(SimtPool *p, SimtFiber *f);
/* Returns when someone switches to `from` again. */
void simt_fiber_switch(SimtFiber *from, SimtFiber *to);

#endif
