/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_PROGRAM_STATE_H
#define GTC_RUNTIME_PROGRAM_STATE_H

#include "runtime/program.h"

/* Between the files program*.c: what a program is, and what binding one works with. */

typedef struct Slot {
    Type type;
    int64_t bytes;
    int32_t root; /* the slot whose memory it is; itself unless bound in place */
    void *fixed;  /* memory that is not planned, or NULL */
    int32_t plan; /* index of its MemBuf, -1: none */
    /* The last epoch in which it was touched, -1: never; [serial]. */
    int32_t read[2], written[2], first, last;
} Slot;

typedef struct Port { /* a batch input or an output, as the caller sees it */
    GtcTensor tensor;
    int32_t slot; /* -1: its value lives in the store */
} Port;

typedef struct Copy {
    int32_t from, to;
} Copy;

struct GtcProgram {
    GtcDevice *d;
    Arena *arena;
    const char *fused_text;
    Graph *bodies; /* the fused graph again, read back, when a kernel is interpreted; else NULL */
    GtcKernelInfo *kernel;
    Schedule schedule;
    Port *in, *out;
    int nin, nout;
    const Kernel *code;  /* [info.kernels]: of each name, source and launches */
    ProgramBlock *owned; /* memory to give back, the device's */
    void **pinned;       /* and the host's */
    unsigned nowned, owned_cap, npinned, pinned_cap;
    int64_t submitted, collected; /* runs */
    char *in_host, *out_host;     /* what the caller sees of schedule.in and out */
    GtcProgramInfo info;
};

typedef struct PortBlock { /* all batch inputs, or all outputs */
    char *device, *host;
    int64_t used;
} PortBlock;

/* What binding works with; in its own arena. */
typedef struct Bind {
    Ctx *cx;
    GtcProgram *p;
    GtcStore *store;
    const Graph *g;
    Kernel *k; /* [nk] */
    const Code *code; /* [nk] */
    int nk;
    Arena *arena;
    Ref *fusion;        /* [nk] */
    int32_t *slot_base; /* by Ref: an input's slot, a fusion's first */
    Slot *slot;
    unsigned nslot, slot_cap;
    PortBlock in, out;
    Copy *copy;
    unsigned ncopy, copy_cap;
    MemBuf *buf, *work;
    int32_t nbuf, nwork;
    int32_t epoch;
} Bind;

/* Memory of the device's that goes with the program, or NULL. */
void *program_own(Bind *b, int64_t bytes);

/* Once the steps are in order: gives each value and workspace its place.  slots[i]: those that step
 * i touches. */
Status program_place(Bind *b, int32_t **slots);

/* What the kernels are, for people: kept for as long as the program lives.  Of each the layers it
 * does work for, "" if none. */
const char **program_layers(Bind *b);
void program_describe(Bind *b, const Code *code, const char *const *layers);

#endif
