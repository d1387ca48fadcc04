/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GTC_RUNTIME_PROGRAM_H
#define GTC_RUNTIME_PROGRAM_H

#include "runtime/device.h"

/* Binds a fused graph and its kernels (kernel i belongs to the i-th fusion node) to memory: loads
 * the code, orders the steps, puts barriers, plans memory, adds missing tensors to the store.
 * Copies what it keeps.  Fails with ST_TYPE when the store's tensors do not fit, with ST_MEMORY,
 * and with ST_INTERNAL when the graph is not fused. */
Status program_create(Ctx *cx, GtcDevice *d, GtcStore *s, const Graph *fused, const Kernel *k,
                      int n, const GtcOptions *opt, GtcProgram **out);

/* One fused graph of two; see GtcOptions.feed. */
Status program_join(Ctx *cx, Arena *arena, const Graph *feed, const Graph *g, const Graph **out);

/* What only the pipeline knows; shows in gtc_program_info. */
void program_set_info(GtcProgram *p, int ops, double compile_ms);

/* For tests: the barriers of one run. */
int program_barriers(const GtcProgram *p);

/* What it takes to write a program down.  It lives as long as the program. */
typedef struct ProgramBlock { /* memory of the program's own: inputs, outputs, values, workspace */
    void *at;
    int64_t bytes;
} ProgramBlock;
typedef struct ProgramView {
    const GtcDevice *d;
    const Schedule *schedule;
    const Kernel *kernel; /* of each name, label, source and launches; no more */
    int nkernel;
    const ProgramBlock *block;
    int nblock;
} ProgramView;
ProgramView program_view(const GtcProgram *p);

/* Where the device has the tensor of that name, which is added zeroed when the store has none;
 * ST_TYPE when its type differs. */
Status store_tensor(Ctx *cx, GtcStore *s, const char *name, InputKind kind, const Type *type,
                    void **device);

#endif
