/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_DEVICE_H
#define GTC_RUNTIME_DEVICE_H

#include "codegen/kernel.h"
#include "runtime/gtc.h"
#include "runtime/jit_cc.h"
#include "runtime/memplan.h"

/* One step of a program: a kernel (code of the device's, or a body for the interpreter), or a copy
 * of bytes at the end of the run.  Steps of one epoch
 * may run at the same time on different threads; the first step of an epoch has the barrier. */
typedef struct Step {
    KernelFn *fn;      /* the code, where it is a C function */
    const Graph *body; /* of the fusion, for the interpreter; else NULL */
    void **arg;        /* in the device's memory, as codegen/kernel.h says; of a copy: from, to */
    int64_t *bytes;    /* of what each arg points to */
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
/* A batch input or an output: where the caller has it, and where the kernels do. */
typedef struct Transfer {
    void *host, *device;
    int64_t bytes;
} Transfer;
typedef struct Schedule {
    Step *step;
    int nstep;
    Guard *guard;
    int nguard;
    /* None where the two places are one; else out[k * nout ..] of slot k < depth and in[k * nin ..]
     * of k < in_depth, which divides depth: slot k % in_depth has the inputs.  As many runs as there
     * are slots may be under way. */
    Transfer *in, *out;
    int nin, nout, depth, in_depth;
    void *stage[2]; /* where inputs wait, by turns, for the run before to end; NULL: they do not */
    Transfer *planned; /* memory that holds nothing between two runs; host is NULL */
    int nplanned;
    void *module; /* as load gave it */
} Schedule;

/* What load is asked for: code of k[0 .. n), which do work for these layers.  k[i] is made of the
 * fusion node[i] of g, and another may be put in its place, in memory of that arena; g is NULL where
 * there is nothing to make it of again. */
typedef struct LoadCall {
    Kernel *k;
    const char *const *layers;
    int n;
    bool no_cache;
    const Graph *g;
    const Ref *node;
    Arena *arena;
} LoadCall;

/* What kernels can use, and where the two memories are apart, memory of the host from which copies
 * are fast. */
typedef enum MemoryKind { MEMORY_DEVICE, MEMORY_PINNED } MemoryKind;
typedef enum CopyWay { COPY_TO_DEVICE, COPY_TO_HOST } CopyWay;

/* What open is asked for. */
typedef struct DeviceCall {
    int threads;            /* of a CPU: 0: one a core */
    int gpu;                /* its number, -1: the one with most free memory */
    double memory_fraction; /* of a GPU's memory that may be used, 0: all */
} DeviceCall;

/* A kind of device.  At most 12 entries; the word in front of each says when it is called. */
typedef struct DeviceOps {
    const char *name; /* what --device calls it */
    /* Opens one; ST_ENV when there is none. */
    Status (*open)(Ctx *cx, const DeviceCall *call, GtcDevice **out);
    /* Gives everything back; the device's programs and stores are gone already. */
    void (*close)(GtcDevice *d);
    /* Zeroed memory, aligned to 256, or NULL when there is none. */
    void *(*alloc)(GtcDevice *d, MemoryKind kind, int64_t bytes);
    /* Takes back what alloc gave; NULL is fine. */
    void (*release)(GtcDevice *d, MemoryKind kind, void *p);
    /* (optional: where it is missing the device's memory is the host's)  Copies bytes between the two
     * memories; they are there when it returns. */
    Status (*copy)(Ctx *cx, GtcDevice *d, CopyWay way, void *host, void *device, int64_t bytes);
    /* Plans and spells the fusion node r of g for this device. */
    Status (*build)(Ctx *cx, GtcDevice *d, Arena *arena, const Graph *g, Ref r, Kernel *out);
    /* Makes code of kernels: code[i].from is CODE_NONE, said aloud, for one that must be
     * interpreted.  *module is the device's own, also when it fails. */
    Status (*load)(Ctx *cx, GtcDevice *d, const LoadCall *call, Code *code, void **module);
    /* Unloads it; NULL is fine. */
    void (*unload)(GtcDevice *d, void *module);
    /* Runs all steps once, on the inputs and outputs of that slot.  ms, if not NULL, gets the time of
     * kernel i added to ms[i]. */
    Status (*run)(Ctx *cx, GtcDevice *d, const Schedule *s, int slot, double *ms);
    /* (optional: where it is missing run has done it all)  Waits for the run of that slot. */
    Status (*wait)(Ctx *cx, GtcDevice *d, const Schedule *s, int slot);
    /* (optional)  See gtc_device_load. */
    bool (*look)(GtcDevice *d, GtcGpuLoad *out);
} DeviceOps;

struct GtcDevice {
    const DeviceOps *ops;
    Target target;
    char describe[256];
    int64_t room;      /* bytes that may yet be taken, -1: not counted */
    bool calls;        /* it takes library calls (Kernel.call) */
    char trouble[200]; /* why alloc gave nothing the last time, after "; ", or "" */
    bool chosen; /* by "auto", which would have taken the CPU as well */
    const struct Os *os; /* of the Ctx that opened it: what it took is given back there */
};

extern const DeviceOps device_cpu, device_cuda, device_simt;

/* Evaluates the step's body; arg as in Step, in the host's memory. */
Status device_interpret(Ctx *cx, const Step *s, void *const *arg);

/* What this machine's CPU is like, for that many threads (0: one a core). */
Target device_cpu_target(int threads);

#endif
