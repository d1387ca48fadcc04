/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_SIMT_H
#define GTC_RUNTIME_SIMT_H

#include "codegen/kernel.h"
#include "ir/base/strbuf.h"

/* Runs CUDA kernels on the host, one fiber a CUDA thread.  The kernel's text is compiled by the
 * system's C compiler with the host body of the prelude; what it then asks of the device (who am I,
 * barrier, shuffle, ...) comes to a SimtMachine.  A mistake of the kernel ends its launch with a
 * message "simt: KERNEL:LINE: block B thread T: ...", LINE being one of the kernel's own text.
 * simt.c says how it works, simt_shadow.c how races are found.
 *
 * One host thread at a time. */
typedef struct SimtMachine SimtMachine;
typedef struct SimtCode SimtCode; /* a loaded shared object */

/* Which lane, warp and block goes on when one has to wait.  All keep to one warp as long as it can
 * run (lane after lane would hide a missing barrier). */
typedef enum SimtOrder { SIMT_FORWARD, SIMT_REVERSE, SIMT_SEEDED } SimtOrder;

typedef struct SimtOptions {
    SimtOrder order;
    uint32_t seed; /* of SIMT_SEEDED */
    bool shadow;   /* watch accesses; wants code compiled for it */
    int resident;  /* blocks that can be under way together; 0: 16 */
    size_t memory; /* bytes of device memory; 0: 4 GiB (only what is used costs) */
} SimtOptions;

/* Fails with ST_MEMORY. */
Status simt_create(Ctx *cx, const SimtOptions *opt, SimtMachine **out);
void simt_destroy(SimtMachine *m); /* NULL is fine; all code is unloaded before */

/* ------------------------------------------------------------ code */

/* The C text of a kernel: prelude and source, whose lines count from 1. */
void simt_code_text(const Kernel *k, Strbuf *out);
/* What gcc and clang want for it, at most SIMT_MAX_FLAGS, between the compiler's name and "-o". */
enum { SIMT_MAX_FLAGS = 24 };
int simt_code_flags(bool clang, bool shadow, const char **arg);
/* Loads a shared object; *out keeps a copy of its bytes.  Fails with ST_ENV. */
Status simt_code_load(Ctx *cx, SimtMachine *m, const void *bytes, size_t n, SimtCode **out);
void simt_code_unload(Ctx *cx, SimtCode *code); /* NULL is fine */

typedef void SimtEntry(void *const *arg);
/* NULL: the code has no such kernel. */
SimtEntry *simt_code_entry(Ctx *cx, const SimtCode *code, const char *name);

/* How its parameters are spelt, "(*(float **)a[0], ...)"; NULL: there is no such kernel. */
const char *simt_code_arguments(Ctx *cx, const SimtCode *code, const char *name);

/* ------------------------------------------------------------ device memory */

enum { SIMT_ALIGN = 512 };

/* NULL when it is full.  Fresh memory holds NaN, as floats.  Every allocation has red zones. */
void *simt_alloc(SimtMachine *m, size_t bytes);
/* False when p is no allocation.  The memory is used again as late as possible. */
bool simt_free(SimtMachine *m, void *p);
/* The name that messages give to this part of an allocation; the name is copied. */
void simt_name(SimtMachine *m, const void *p, size_t bytes, const char *name);
/* Whether these bytes lie within one allocation. */
bool simt_inside(const SimtMachine *m, const void *p, size_t bytes);
/* Allocations that live, and what they hold. */
int simt_allocations(const SimtMachine *m, size_t *bytes);
/* Fails with ST_INTERNAL when a red zone was written into. */
Status simt_red_zones(Ctx *cx, SimtMachine *m);

/* ------------------------------------------------------------ launches */

/* A kernel in code; the runner learns on the first launch whether its blocks meet in gtc_last_of.
 */
typedef struct SimtKernel {
    const char *name;
    SimtEntry *entry;
    const SimtCode *code;
    bool meets;
} SimtKernel;

/* Bytes of shared memory that a block can have. */
enum { SIMT_MAX_SMEM = 227 << 10 };

typedef struct SimtLaunch {
    SimtKernel *kernel;
    int64_t blocks;
    int threads;
    int smem;
    bool cooperative;
    void *const *arg; /* pointers to the parameters */
} SimtLaunch;

/* What the shadow orders: a launch, copy or fill, by a number; see simt_op_begin. */
enum { SIMT_MAX_OPS = 1 << 14 };

/* Begins an op of that number (1 .. SIMT_MAX_OPS - 1) and name.  before: a bit set of the ops that
 * are ordered before it; NULL: all.  An access to what another op wrote, or a write to what it
 * read, is then a hazard unless that op is in the set.  What the host did before the first op is
 * before all of them. */
void simt_op_begin(SimtMachine *m, int op, const char *name, const uint64_t *before);
/* Forgets all ops, whose numbers are free again. */
void simt_op_reset(SimtMachine *m);
/* A copy's or a fill's access to device memory on the part of the op that has begun.  Whoever
 * writes there without a copy says so by this call: the shadow takes other memory for never
 * written. */
Status simt_op_access(Ctx *cx, SimtMachine *m, const void *p, size_t bytes, bool write);

/* Runs all of it before it returns.  Fails with ST_INTERNAL and the message of the first mistake;
 * memory is then what it was at that moment. */
Status simt_launch(Ctx *cx, SimtMachine *m, const SimtLaunch *l);

/* What the last failure of simt_launch or simt_op_access was, as the driver tells them apart. */
typedef enum SimtFault { SIMT_FAULT_OTHER, SIMT_FAULT_BOUNDS, SIMT_FAULT_ALIGNMENT } SimtFault;
SimtFault simt_fault(const SimtMachine *m);

#endif
