/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_DEVICE_H
#define GTC_RUNTIME_DEVICE_H

#include "codegen/kernel.h"
#include "runtime/gtc.h"
#include "runtime/jit_cc.h"
#include "runtime/memplan.h"

/* One step of a program: a kernel, or a copy of bytes at the end of the run.  Steps of one epoch
 * may run at the same time on different threads; the first step of an epoch has the barrier. */
typedef struct Step {
    KernelFn *fn;      /* NULL: interpret body, or copy where that is NULL too */
    const Graph *body; /* of the fusion, for the interpreter */
    void **arg;        /* as codegen/kernel.h says; of a copy: from, to */
    uint32_t nin, nout;
    int64_t copy_bytes;
    int32_t epoch;
    bool barrier;   /* before this step */
    bool serial;    /* thread 0 only */
    int32_t kernel; /* which of the program's, -1: a copy */
} Step;

/* What a device runs.  In sanitized builds each planned buffer stands alone in memory (`guard`),
 * and is poisoned in the epochs in which it is dead. */
typedef struct Guard {
    void *at;
    MemBuf *buf;
} Guard;
typedef struct Schedule {
    Step *step;
    int nstep;
    Guard *guard;
    int nguard;
} Schedule;

/* A kind of device.  At most 12 entries; the word in front of each says when it is called. */
typedef struct DeviceOps {
    const char *name; /* what --device calls it */
    /* Opens one with that many compute threads (0: one a core); ST_ENV when there is none. */
    Status (*open)(Ctx *cx, int threads, GtcDevice **out);
    /* Gives everything back; the device's programs and stores are gone already. */
    void (*close)(GtcDevice *d);
    /* Zeroed memory that kernels can use, aligned to 4096, or NULL when there is none. */
    void *(*alloc)(GtcDevice *d, int64_t bytes);
    /* Takes back what alloc gave; NULL is fine. */
    void (*release)(GtcDevice *d, void *p);
    /* Plans and spells the fusion node r of g for this device. */
    Status (*build)(Ctx *cx, GtcDevice *d, Arena *arena, const Graph *g, Ref r, Kernel *out);
    /* Makes code of kernels; see jit_load. */
    Status (*load)(Ctx *cx, GtcDevice *d, const Kernel *k, int n, bool no_cache, Code *code,
                   JitModule **out);
    /* Unloads it. */
    void (*unload)(GtcDevice *d, JitModule *m);
    /* Runs all steps once.  ms, if not NULL, gets the time of kernel i added to ms[i]. */
    Status (*run)(Ctx *cx, GtcDevice *d, const Schedule *s, double *ms);
} DeviceOps;

struct GtcDevice {
    const DeviceOps *ops;
    Target target;
    char describe[256];
    const struct Os *os; /* of the Ctx that opened it: what it took is given back there */
};

extern const DeviceOps device_cpu;

/* What this machine's CPU is like, for that many threads (0: one a core). */
Target device_cpu_target(int threads);

#endif
